//! Memory that a call has to be there at once. Each test names the rule it holds the kernel to;
//! `tests/found` has the same on both kernels.

use shims::{Errno, Event, Features, RegisterModes, Request, Verdict, WriteProtectMode};
use sim::kernel::{Call, Ret, ThreadId};
use sim::vma::{MapFlags, Mmap, Mremap, Prot, RemapFlags};
use sim::{Content, Profile};

use crate::support::{Bed, page, span};

const MISSING: RegisterModes = RegisterModes::MISSING;
const WP: RegisterModes = RegisterModes::WP;

/// `pages` pages that nobody watches yet, and a thread.
fn bed(pages: u64, features: Features) -> (Bed, ThreadId) {
    let mut bed = Bed::registered(pages, Profile::default(), features, WP);
    unregister(&mut bed, 0, pages);
    let thread = bed.thread();
    (bed, thread)
}

fn unregister(bed: &mut Bed, start: u64, end: u64) {
    let call = Call::Unregister { ctx: bed.ctx, range: span(start, end) };
    assert_eq!(bed.kernel.run(bed.handler, call), Ret::Ok(0));
}

fn lock(bed: &mut Bed, thread: ThreadId, (start, end): (u64, u64), on_fault: bool) -> Option<Ret> {
    bed.go(thread, Call::Mlock { range: span(start, end), on_fault })
}

fn protect(bed: &mut Bed, thread: ThreadId, pages: u64, prot: Prot) {
    let range = span(0, pages);
    assert_eq!(bed.go(thread, Call::Mprotect { range, prot }), Some(Ret::Ok(0)));
}

fn present(bed: &Bed, pages: std::ops::Range<u64>) -> Vec<bool> {
    pages.map(|n| bed.pte(n).is_present()).collect()
}

fn grow(old: u64, old_len: u64, new_len: u64, to: Option<u64>) -> Call {
    let flags = match to {
        Some(_) => RemapFlags::MAYMOVE | RemapFlags::FIXED,
        None => RemapFlags::empty(),
    };
    let at = |n| page(n).raw();
    let (old_len, new_len) = (old_len * 4096, new_len * 4096);
    Call::Mremap(Mremap { old: at(old), old_len, new_len, flags, new: to.map_or(0, at) })
}

#[test]
fn c15_private_locked_memory_that_becomes_writable_is_there_at_once() {
    for (on_fault, there) in [(false, true), (true, false)] {
        let (mut bed, thread) = bed(3, Features::empty());
        protect(&mut bed, thread, 3, Prot::NONE);
        let want = if on_fault { Ret::Ok(0) } else { Ret::Err(Errno::ENOMEM) };
        assert_eq!(lock(&mut bed, thread, (0, 3), on_fault), Some(want));
        protect(&mut bed, thread, 3, Prot::READ);
        assert_eq!(present(&bed, 0..3), [false; 3], "it is not writable yet");
        protect(&mut bed, thread, 3, Prot::RW);
        assert_eq!(present(&bed, 0..3), [there; 3]);
    }
}

#[test]
fn c15_mprotect_asks_nobody_and_stops_where_somebody_would_have_to_be_asked() {
    let (mut bed, thread) = bed(5, Features::empty());
    assert_eq!(bed.load(thread, 3), Some(Ret::Loaded(Content::Zero)));
    protect(&mut bed, thread, 5, Prot::NONE);
    lock(&mut bed, thread, (0, 5), false);
    protect(&mut bed, thread, 5, Prot::READ);
    // One mapping that is watched for missing pages, and one for writes.
    bed.register(0, 2, MISSING);
    bed.register(2, 5, WP);
    assert_eq!(bed.protect(3, 4, WriteProtectMode::WP).verdict(), Verdict::Done);
    protect(&mut bed, thread, 5, Prot::RW);
    assert_eq!(present(&bed, 0..5), [false, false, true, true, false]);
    assert_eq!(bed.kernel.ctx(bed.ctx).faults_waiting(), 0);
}

#[test]
fn c15_what_mremap_adds_to_locked_memory_is_faulted_in() {
    for (on_fault, there) in [(false, true), (true, false)] {
        let (mut bed, thread) = bed(2, Features::empty());
        assert_eq!(lock(&mut bed, thread, (0, 2), on_fault), Some(Ret::Ok(0)));
        assert_eq!(bed.go(thread, grow(0, 2, 4, None)), Some(Ret::Ok(page(0).raw())));
        assert_eq!(present(&bed, 0..4), [there; 4]);
    }
    // Watched memory asks for it, page by page; a page that is not to be had is no error.
    let (mut bed, thread) = bed(2, Features::empty());
    lock(&mut bed, thread, (0, 2), false);
    bed.register(0, 2, MISSING);
    assert_eq!(bed.go(thread, grow(0, 2, 5, None)), None);
    assert_eq!(bed.copy(2, 3).verdict(), Verdict::Done);
    assert_eq!(bed.on(thread), None);
    let poison = Request::Poison { range: span(3, 4), mode: shims::PoisonMode::empty() };
    assert_eq!(bed.resolve(poison, sim::kernel::Payload::None).verdict(), Verdict::Done);
    assert_eq!(bed.on(thread), Some(Ret::Ok(page(0).raw())));
    assert_eq!(present(&bed, 0..5), [true, true, true, false, false]);
}

#[test]
fn z20_c15_nobody_can_answer_an_mremap_that_grows_locked_memory() {
    let (mut bed, thread) = bed(2, Features::EVENT_REMAP);
    lock(&mut bed, thread, (0, 2), false);
    bed.register(0, 2, MISSING);
    assert_eq!(bed.go(thread, grow(0, 2, 3, Some(6))), None);
    for _ in 0..2 {
        assert!(matches!(bed.read(4)[..], [Event::Fault(fault)] if fault.addr == page(8)));
        assert_eq!(bed.copy(8, 9).verdict(), Verdict::Changing);
        bed.resolve(Request::Wake { range: span(8, 9) }, sim::kernel::Payload::None);
        assert_eq!(bed.on(thread), None);
    }
    unregister(&mut bed, 8, 9);
    assert_eq!(bed.on(thread), None, "it waits for its event now");
    assert!(matches!(bed.read(4)[..], [Event::Remap { .. }]));
    assert_eq!(bed.on(thread), Some(Ret::Ok(page(6).raw())));
    assert_eq!(present(&bed, 6..9), [true; 3]);
}

#[test]
fn c15_what_mmap_populates_comes_when_the_event_has_been_read() {
    for how in [MapFlags::LOCKED, MapFlags::POPULATE] {
        let (mut bed, thread) = bed(2, Features::EVENT_UNMAP);
        bed.register(0, 2, MISSING);
        let map = |n| Call::Mmap(Mmap::fixed(page(n).raw(), 2 * 4096, Prot::RW).with(how));
        assert_eq!(bed.go(thread, map(0)), None);
        assert_eq!(present(&bed, 0..2), [false; 2]);
        assert!(matches!(bed.read(4)[..], [Event::Unmap(_)]));
        assert_eq!(bed.on(thread), Some(Ret::Ok(page(0).raw())));
        assert_eq!(present(&bed, 0..2), [true; 2]);
        // Without anybody to tell it comes at once.
        assert_eq!(bed.go(thread, map(4)), Some(Ret::Ok(page(4).raw())));
        assert_eq!(present(&bed, 4..6), [true; 2]);
    }
}

#[test]
fn c15_what_is_refused_in_one_mapping_is_no_end_for_the_next() {
    let (mut bed, thread) = bed(1, Features::EVENT_UNMAP);
    let other = bed.thread();
    bed.register(0, 1, MISSING);
    let at = |n| page(n).raw();
    let locked = Mmap::fixed(at(0), 2 * 4096, Prot::NONE).with(MapFlags::LOCKED);
    assert_eq!(bed.go(thread, Call::Mmap(locked)), None);
    let plain = Mmap::fixed(at(1), 4096, Prot::RW);
    assert_eq!(bed.go(other, Call::Mmap(plain)), Some(Ret::Ok(at(1))));
    assert!(matches!(bed.read(4)[..], [Event::Unmap(_)]));
    assert_eq!(bed.on(thread), Some(Ret::Ok(at(0))));
    assert_eq!(present(&bed, 0..2), [false, true]);
}

#[test]
fn c15_mprotect_goes_by_whole_pages() {
    let (mut bed, thread) = bed(1, Features::empty());
    let locked = Mmap::fixed(page(2).raw(), 2 * 4096, Prot::NONE).with(MapFlags::LOCKED);
    assert_eq!(bed.go(thread, Call::Mmap(locked)), Some(Ret::Ok(page(2).raw())));
    let range = shims::Span::new(page(2), shims::Len::new(4096 + 8));
    assert_eq!(bed.go(thread, Call::Mprotect { range, prot: Prot::RW }), Some(Ret::Ok(0)));
    assert_eq!(present(&bed, 2..4), [true; 2]);
}
