//! `mremap` of watched memory. Each test names the rule it holds the kernel to.

use shims::{
    CopyMode, Errno, Event, Features, Outcome, PoisonMode, RegisterModes, Request, Verdict,
    WriteProtectMode,
};
use sim::kernel::{Call, Did, Marker, Payload, Pte, PteBits, Ret, Signal};
use sim::vma::{Mmap, Mremap, Prot, RemapFlags};
use sim::{Content, Profile};

use crate::support::{Bed, page, source, span};

const BOTH: RegisterModes = RegisterModes::MISSING.union(RegisterModes::WP);
const EVENTS: Features = Features::EVENT_REMAP.union(Features::EVENT_UNMAP);
const MOVE: RemapFlags = RemapFlags::MAYMOVE.union(RemapFlags::FIXED);
/// Where the tests move things to, in pages.
const AWAY: u64 = 64;

fn bed(pages: u64, features: Features) -> Bed {
    Bed::registered(pages, Profile::default(), features | Features::WP_UNPOPULATED, BOTH)
}

fn mremap(old: u64, old_pages: u64, new_pages: u64, flags: RemapFlags, new: u64) -> Call {
    Call::Mremap(Mremap {
        old: page(old).raw(),
        old_len: old_pages * 4096,
        new_len: new_pages * 4096,
        flags,
        new: page(new).raw(),
    })
}

fn remap(from: u64, to: u64, pages: u64) -> Event {
    Event::Remap { from: page(from), to: page(to), len: pages * 4096 }
}

fn uffd_bit(pte: Pte) -> bool {
    matches!(pte, Pte::Present { bits, .. } if bits.contains(PteBits::UFFD_WP))
}

#[test]
fn d18_d22_the_pages_have_moved_before_the_event_is_queued() {
    let mut bed = bed(2, Features::EVENT_REMAP);
    let (mover, guest) = (bed.thread(), bed.thread());
    bed.copy(0, 1);
    bed.kernel.begin(mover, mremap(0, 2, 2, MOVE, AWAY));
    assert_eq!(bed.step(mover), Did::RaiseChanging { ctx: bed.ctx, changing: 1 });
    assert!(!bed.kernel.ctx(bed.ctx).readable());
    assert_eq!(bed.load(guest, AWAY), Some(Ret::Loaded(source(0))));
    assert_eq!(bed.load(guest, 0), Some(Ret::Signal(Signal::SegvMapErr)));
    assert_eq!(bed.on(mover), None);
    assert_eq!(bed.copy(AWAY + 1, AWAY + 2).verdict(), Verdict::Changing);
    assert_eq!(bed.read(8), [remap(0, AWAY, 2)]);
    assert_eq!(bed.on(mover), Some(Ret::Ok(page(AWAY).raw())));
    assert_eq!(bed.copy(AWAY + 1, AWAY + 2), Outcome::done(4096));
}

#[test]
fn d18_growing_in_place_tells_nobody_and_what_was_added_is_watched() {
    let mut bed = bed(2, EVENTS);
    let (mover, guest) = (bed.thread(), bed.thread());
    let grow = mremap(0, 2, 4, RemapFlags::empty(), 0);
    assert_eq!(bed.go(mover, grow), Some(Ret::Ok(page(0).raw())));
    assert_eq!(bed.load(guest, 3), None);
    let same = mremap(0, 4, 4, RemapFlags::MAYMOVE, 0);
    assert_eq!(bed.go(mover, same), Some(Ret::Ok(page(0).raw())));
    assert_eq!(bed.read(8).len(), 1, "the fault, and no event");
}

#[test]
fn d18_shrinking_in_place_unmaps_the_tail() {
    let mut bed = bed(4, EVENTS);
    let mover = bed.thread();
    bed.copy(0, 4);
    assert_eq!(bed.go(mover, mremap(0, 4, 1, RemapFlags::empty(), 0)), None);
    assert_eq!(bed.kernel.table(bed.mm).present(), 1);
    assert_eq!(bed.read(8), [Event::Unmap(span(1, 4))]);
    assert_eq!(bed.on(mover), Some(Ret::Ok(page(0).raw())));
}

#[test]
fn d19_with_the_event_the_registration_and_its_bits_come_along() {
    let mut bed = bed(3, Features::EVENT_REMAP);
    let mover = bed.thread();
    bed.copy_mode(0, 1, CopyMode::WP);
    bed.protect(1, 2, WriteProtectMode::WP);
    bed.go(mover, mremap(0, 3, 3, MOVE, AWAY));
    assert_eq!(bed.read(8), [remap(0, AWAY, 3)]);
    bed.on(mover);
    // Measured: the bit and the marker are there.
    assert!(uffd_bit(bed.pte(AWAY)));
    assert_eq!(bed.pte(AWAY + 1), Pte::Marker(Marker::WriteProtect));
    for n in 0..3 {
        let guest = bed.thread();
        assert_eq!(bed.store(guest, AWAY + n), None, "page {n}");
    }
}

#[test]
fn d19_without_the_event_the_new_place_is_plain_memory() {
    let mut bed = bed(4, Features::empty());
    let mover = bed.thread();
    bed.copy_mode(0, 1, CopyMode::WP);
    bed.protect(1, 2, WriteProtectMode::WP);
    let poison = Request::Poison { range: span(2, 3), mode: PoisonMode::empty() };
    bed.resolve(poison, Payload::None);
    let done = Some(Ret::Ok(page(AWAY).raw()));
    assert_eq!(bed.go(mover, mremap(0, 4, 4, MOVE, AWAY)), done);
    assert!(bed.read(8).is_empty());
    assert_eq!(bed.store(mover, AWAY), Some(Ret::Stored));
    assert_eq!(bed.load(mover, AWAY + 1), Some(Ret::Loaded(Content::Zero)));
    // Measured: poison is no protection, and stays.
    assert_eq!(bed.load(mover, AWAY + 2), Some(Ret::Signal(Signal::BusPoison)));
    assert_eq!(bed.load(mover, AWAY + 3), Some(Ret::Loaded(Content::Zero)));
}

#[test]
fn d19_dontunmap_leaves_the_old_range_watched_and_empty() {
    for features in [Features::empty(), EVENTS] {
        let mut bed = bed(2, features);
        let (mover, guest) = (bed.thread(), bed.thread());
        bed.copy(0, 2);
        let keep = mremap(0, 2, 2, MOVE | RemapFlags::DONTUNMAP, AWAY);
        let ret = bed.go(mover, keep);
        if features.contains(Features::EVENT_REMAP) {
            assert_eq!(ret, None);
            // d20: no UNMAP, for nothing was unmapped.
            assert_eq!(bed.read(8), [remap(0, AWAY, 2)]);
            assert_eq!(bed.on(mover), Some(Ret::Ok(page(AWAY).raw())));
        }
        assert_eq!(bed.load(guest, AWAY + 1), Some(Ret::Loaded(source(1))));
        assert_eq!(bed.load(guest, 0), None);
        assert!(bed.read(8).len() == 1);
    }
}

#[test]
fn d20_target_then_move_then_source_each_waiting_for_its_reader() {
    let mut bed = bed(8, EVENTS);
    let mover = bed.thread();
    bed.copy(0, 8);
    assert_eq!(bed.go(mover, mremap(0, 2, 2, MOVE, 4)), None);
    assert_eq!(bed.kernel.ctx(bed.ctx).changing(), 3);
    let expected = [Event::Unmap(span(4, 6)), remap(0, 4, 2), Event::Unmap(span(0, 2))];
    for event in expected {
        assert_eq!(bed.read(8), [event]);
        assert_eq!(bed.on(mover).is_some(), event == Event::Unmap(span(0, 2)));
    }
    assert_eq!(bed.kernel.ctx(bed.ctx).changing(), 0);
    assert_eq!(bed.pte(4), Pte::Present { content: source(0), bits: PteBits::empty() });
    assert_eq!(bed.pte(6), Pte::Present { content: source(6), bits: PteBits::empty() });
}

#[test]
fn d20_the_source_is_announced_without_the_remap_feature_too() {
    let mut bed = bed(2, Features::EVENT_UNMAP);
    let mover = bed.thread();
    assert_eq!(bed.go(mover, mremap(0, 2, 2, MOVE, AWAY)), None);
    assert_eq!(bed.read(8), [Event::Unmap(span(0, 2))]);
    assert_eq!(bed.on(mover), Some(Ret::Ok(page(AWAY).raw())));
}

#[test]
fn d21_h4_the_length_of_a_move_that_shrinks_depends_on_the_kernel() {
    for (profile, len) in [(Profile::linux_6_18(), 2), (Profile::linux_6_12(), 8)] {
        let mut bed = Bed::with(8, profile, EVENTS);
        let mover = bed.thread();
        bed.go(mover, mremap(0, 8, 2, MOVE, AWAY));
        let mut events = Vec::new();
        while bed.kernel.ctx(bed.ctx).readable() {
            events.extend(bed.read(1));
            bed.on(mover);
        }
        let (tail, rest) = (Event::Unmap(span(2, 8)), Event::Unmap(span(0, 2)));
        assert_eq!(events, [remap(0, AWAY, len), tail, rest]);
    }
}

#[test]
fn d22_who_sleeps_at_the_old_address_sleeps_on() {
    let mut bed = bed(2, Features::EVENT_REMAP);
    let (sleeper, mover) = (bed.thread(), bed.thread());
    bed.load(sleeper, 0);
    bed.go(mover, mremap(0, 2, 2, MOVE, AWAY));
    assert_eq!(bed.read(8).len(), 2);
    bed.on(mover);
    assert_eq!(bed.copy(AWAY, AWAY + 1), Outcome::done(4096));
    assert!(!bed.kernel.can_step(sleeper));
    bed.resolve(Request::Wake { range: span(0, 1) }, Payload::None);
    assert_eq!(bed.on(sleeper), Some(Ret::Signal(Signal::SegvMapErr)));
}

#[test]
fn d23_the_second_of_several_watched_mappings_stops_the_move_half_way() {
    let mut bed = bed(4, Features::empty());
    let mover = bed.thread();
    bed.copy(0, 4);
    let (ctx, handler) = (bed.ctx, bed.handler);
    bed.kernel.run(handler, Call::Unregister { ctx, range: span(0, 2) });
    let ret = bed.go(mover, mremap(0, 4, 4, MOVE, AWAY));
    assert_eq!(ret, Some(Ret::Err(Errno::EFAULT)));
    assert_eq!(bed.load(mover, AWAY), Some(Ret::Loaded(source(0))));
    assert_eq!(bed.load(mover, 2), Some(Ret::Loaded(source(2))));
    assert_eq!(bed.load(mover, 0), Some(Ret::Signal(Signal::SegvMapErr)));
}

#[test]
fn d24_a_failed_call_leaves_the_gate_open() {
    let mut bed = bed(2, EVENTS);
    let mover = bed.thread();
    let overlap = mremap(0, 2, 2, MOVE, 1);
    assert_eq!(bed.go(mover, overlap), Some(Ret::Err(Errno::EINVAL)));
    let hole = mremap(AWAY, 2, 2, MOVE, 2 * AWAY);
    assert_eq!(bed.go(mover, hole), Some(Ret::Err(Errno::EFAULT)));
    assert_eq!(bed.copy(0, 1), Outcome::done(4096));
}

#[test]
fn d24_a_call_that_fails_after_it_has_unmapped_announces_that() {
    // Measured: RLIMIT_AS refuses DONTUNMAP only when the target is gone; its UNMAP comes,
    // then ENOMEM, and the gate is open.
    let mut bed = bed(2, EVENTS);
    let mover = bed.thread();
    bed.copy(0, 1);
    let map = Mmap::fixed(page(AWAY).raw(), 2 * 4096, Prot::RW);
    bed.go(mover, Call::Mmap(map));
    bed.kernel.limits_mut(bed.mm).rlimit_as = 4096;
    let keep = mremap(AWAY, 2, 2, MOVE | RemapFlags::DONTUNMAP, 0);
    assert_eq!(bed.go(mover, keep), None);
    assert_eq!(bed.read(8), [Event::Unmap(span(0, 2))]);
    assert_eq!(bed.on(mover), Some(Ret::Err(Errno::ENOMEM)));
    assert_eq!(bed.kernel.ctx(bed.ctx).changing(), 0);
    assert_eq!(bed.pte(0), Pte::None);
}
