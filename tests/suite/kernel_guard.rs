//! Guards. Each test names the rule it holds the kernel to; all of it was measured on 6.18 but
//! for what a comment calls later.

use shims::{
    Errno, Features, MoveMode, Outcome, PoisonMode, RegisterModes, Request, WriteProtectMode,
    ZeropageMode,
};
use sim::kernel::{Call, Did, Madvise, Marker, PagemapBits, Payload, Pte, Ret, Signal};
use sim::profile::GuardRules;
use sim::vma::{Advice, MapFlags, Mmap, Mremap, Prot, RemapFlags, VmaFlags};
use sim::{Content, Profile};

use crate::support::{Bed, page, source, span};

const BOTH: RegisterModes = RegisterModes::MISSING.union(RegisterModes::WP);
const GUARD: Pte = Pte::Marker(Marker::Guard);
const REFUSED: Option<Ret> = Some(Ret::Signal(Signal::SegvMapErr));

fn bed(pages: u64) -> Bed {
    Bed::registered(pages, Profile::default(), Features::EVENT_REMOVE, BOTH)
}

/// A kernel from after guards withstood `COPY`.
fn later() -> Profile {
    let guard = GuardRules { exist: true, in_pagemap: true, withstand_copy: true };
    let mut profile = Profile::default();
    profile.guard = guard;
    profile
}

fn install(start: u64, end: u64) -> Call {
    Call::Madvise { range: span(start, end), advice: Madvise::GuardInstall }
}

fn remove(start: u64, end: u64) -> Call {
    Call::Madvise { range: span(start, end), advice: Madvise::GuardRemove }
}

#[test]
fn c4_no_access_to_a_guard_and_no_message() {
    let mut bed = bed(3);
    let thread = bed.thread();
    bed.copy(0, 1);
    assert_eq!(bed.go(thread, install(0, 2)), Some(Ret::Ok(0)), "V35: no event either");
    assert_eq!([bed.pte(0), bed.pte(1)], [GUARD; 2]);
    for n in [0, 1] {
        assert_eq!(bed.load(thread, n), REFUSED);
        assert_eq!(bed.store(thread, n), REFUSED);
    }
    for write in [false, true] {
        let populate = Call::Populate { range: span(0, 1), write };
        assert_eq!(bed.go(thread, populate), Some(Ret::Err(Errno::EFAULT)));
    }
    assert_eq!(bed.read(8), []);
    let seen = PagemapBits::SWAP | PagemapBits::GUARD;
    assert_eq!(bed.kernel.pagemap(bed.mm, page(0)), seen);
    // c4: the protection of the mapping is looked at before the entry.
    bed.go(thread, Call::Mprotect { range: span(0, 1), prot: Prot::NONE });
    assert_eq!(bed.load(thread, 0), Some(Ret::Signal(Signal::SegvAccErr)));
}

#[test]
fn d13_removing_guards_leaves_pages_and_other_markers() {
    let mut bed = Bed::registered(4, Profile::default(), Features::WP_UNPOPULATED, BOTH);
    let thread = bed.thread();
    bed.copy(0, 1);
    bed.protect(1, 2, WriteProtectMode::WP);
    bed.go(thread, install(2, 4));
    bed.kernel.begin(thread, remove(0, 4));
    assert_eq!(bed.step(thread), Did::ZapMarker { page: page(2) });
    let other = bed.thread();
    assert_eq!(bed.load(other, 3), REFUSED, "page by page");
    assert_eq!(bed.on(thread), Some(Ret::Ok(0)));
    assert!(bed.pte(0).is_present());
    assert_eq!(bed.pte(1), Pte::Marker(Marker::WriteProtect));
    assert_eq!((bed.pte(2), bed.pte(3)), (Pte::None, Pte::None));
    assert_eq!(bed.load(thread, 2), None, "missing again");
}

#[test]
fn d13_a_guard_replaces_any_marker_and_drops_what_protection_was_there() {
    let mut bed = Bed::registered(3, Profile::default(), Features::WP_UNPOPULATED, BOTH);
    let thread = bed.thread();
    bed.copy_mode(0, 1, shims::CopyMode::WP);
    bed.protect(1, 2, WriteProtectMode::WP);
    let poison = Request::Poison { range: span(2, 3), mode: PoisonMode::empty() };
    bed.resolve(poison, Payload::None);
    bed.go(thread, install(0, 3));
    assert_eq!([bed.pte(0), bed.pte(1), bed.pte(2)], [GUARD; 3]);
    // f1: and takes none on.
    assert_eq!(bed.protect(0, 3, WriteProtectMode::WP), Outcome::OK);
    assert_eq!([bed.pte(0), bed.pte(1), bed.pte(2)], [GUARD; 3]);
    bed.go(thread, remove(0, 3));
    assert_eq!([bed.pte(0), bed.pte(1), bed.pte(2)], [Pte::None; 3]);
}

#[test]
fn d11_guards_outlive_removal_and_reclaim() {
    let mut bed = Bed::with(2, Profile::default(), Features::empty());
    let thread = bed.thread();
    bed.copy(1, 2);
    bed.go(thread, install(0, 1));
    for advice in [Madvise::DontNeed, Madvise::Free, Madvise::PageOut] {
        let call = Call::Madvise { range: span(0, 2), advice };
        assert_eq!(bed.go(thread, call), Some(Ret::Ok(0)));
        assert_eq!(bed.pte(0), GUARD, "{advice:?}");
    }
    assert_eq!(bed.pte(1), Pte::None);
}

#[test]
fn d13_a_page_that_comes_back_while_guards_are_installed_is_zapped_again() {
    let mut bed = bed(3);
    let (thread, guest) = (bed.thread(), bed.thread());
    bed.copy(1, 2);
    bed.kernel.begin(thread, install(0, 3));
    assert_eq!(bed.step(thread), Did::Guard { page: page(0) });
    assert_eq!(bed.step(thread), Did::Zap { page: page(1), content: source(1) });
    // Nobody is told of that zap, but whoever faults now asks, and the page is installed again.
    assert_eq!(bed.load(guest, 1), None);
    assert_eq!(bed.read(8).len(), 1);
    assert_eq!(bed.copy(1, 2), Outcome::done(4096));
    assert_eq!(bed.on(guest), Some(Ret::Loaded(source(1))));
    assert_eq!(bed.on(thread), Some(Ret::Ok(0)));
    assert_eq!([bed.pte(0), bed.pte(1), bed.pte(2)], [GUARD; 3]);
}

#[test]
fn c13_a_sleeping_faulter_is_not_woken_and_then_refused() {
    let mut bed = bed(1);
    let (thread, guest) = (bed.thread(), bed.thread());
    assert_eq!(bed.load(guest, 0), None);
    bed.go(thread, install(0, 1));
    assert!(!bed.kernel.can_step(guest));
    bed.resolve(Request::Wake { range: span(0, 1) }, Payload::None);
    assert_eq!(bed.on(guest), REFUSED);
}

/// Rules: e10, h6, V35
#[test]
fn e10_a_copy_replaces_a_guard_until_a_later_kernel() {
    let mut bed = bed(2);
    let thread = bed.thread();
    bed.go(thread, install(0, 2));
    let zero = Request::Zeropage { range: span(0, 1), mode: ZeropageMode::empty() };
    assert_eq!(bed.resolve(zero, Payload::None), Outcome::mirrored(Errno::EEXIST), "e14");
    let poison = Request::Poison { range: span(0, 1), mode: PoisonMode::empty() };
    assert_eq!(bed.resolve(poison, Payload::None), Outcome::mirrored(Errno::EEXIST), "e16");
    assert_eq!(bed.copy(0, 1), Outcome::done(4096));
    assert_eq!(bed.load(thread, 0), Some(Ret::Loaded(source(0))));
    let mut bed = Bed::registered(2, later(), Features::empty(), BOTH);
    let thread = bed.thread();
    bed.go(thread, install(0, 1));
    assert_eq!(bed.copy(0, 1), Outcome::mirrored(Errno::EEXIST));
    let poison = Request::Poison { range: span(1, 2), mode: PoisonMode::empty() };
    bed.resolve(poison, Payload::None);
    assert_eq!(bed.copy(1, 2), Outcome::done(4096), "poison is still replaced");
}

#[test]
fn c10_a_fault_that_finds_a_guard_sleeps_until_a_later_kernel() {
    for (profile, sleeps) in [(Profile::default(), true), (later(), false)] {
        let mut bed = Bed::registered(1, profile, Features::empty(), BOTH);
        let (thread, guest) = (bed.thread(), bed.thread());
        bed.kernel.begin(guest, Call::Load { addr: page(0) });
        assert!(matches!(bed.step(guest), Did::Miss { .. }));
        assert!(matches!(bed.step(guest), Did::QueueFault { .. }));
        bed.go(thread, install(0, 1));
        let did = bed.step(guest);
        assert_eq!(matches!(did, Did::Sleep { .. }), sleeps, "{did:?}");
        assert_eq!(bed.on(guest), if sleeps { None } else { REFUSED });
    }
}

#[test]
fn e21_move_meets_a_guard_on_either_side() {
    let mut bed = bed(3);
    let thread = bed.thread();
    bed.copy(0, 1);
    bed.go(thread, install(1, 2));
    let ask = |bed: &mut Bed, dst: u64, src: u64, mode| {
        let request = Request::Move { dst: span(dst, dst + 1), src: page(src), mode };
        bed.resolve(request, Payload::None)
    };
    let holes = MoveMode::ALLOW_SRC_HOLES;
    assert_eq!(ask(&mut bed, 1, 0, MoveMode::empty()), Outcome::mirrored(Errno::EEXIST));
    assert_eq!(ask(&mut bed, 2, 1, MoveMode::empty()), Outcome::mirrored(Errno::EFAULT));
    assert_eq!(ask(&mut bed, 2, 1, holes), Outcome::mirrored(Errno::EFAULT));
}

#[test]
fn d19_d26_guards_move_with_their_mapping_and_are_inherited() {
    let mut bed = Bed::with(2, Profile::default(), Features::empty());
    let thread = bed.thread();
    bed.go(thread, install(0, 1));
    let to = page(32).raw();
    let (old, len) = (page(0).raw(), 2 * 4096);
    let flags = RemapFlags::MAYMOVE | RemapFlags::FIXED;
    let call = Mremap { old, old_len: len, new_len: len, flags, new: to };
    assert_eq!(bed.go(thread, Call::Mremap(call)), Some(Ret::Ok(to)));
    assert_eq!(bed.load(thread, 32), REFUSED);
    let fork = |bed: &mut Bed| match bed.go(thread, Call::Fork) {
        Some(Ret::Forked(child)) => bed.kernel.new_thread(child),
        ret => panic!("fork ended as {ret:?}"),
    };
    let child = fork(&mut bed);
    assert_eq!(bed.load(child, 32), REFUSED);
    let wipe = Madvise::Flags(Advice::WipeOnFork);
    bed.go(thread, Call::Madvise { range: span(32, 34), advice: wipe });
    let child = fork(&mut bed);
    assert_eq!(bed.load(child, 32), Some(Ret::Loaded(Content::Zero)));
}

#[test]
fn d6_holes_and_locked_memory() {
    let mut bed = Bed::with(8, Profile::default(), Features::empty());
    let thread = bed.thread();
    bed.go(thread, Call::Munmap { range: span(3, 4) });
    assert_eq!(bed.go(thread, install(2, 5)), Some(Ret::Err(Errno::ENOMEM)));
    assert_eq!((bed.pte(2), bed.pte(4)), (GUARD, GUARD));
    let flags = bed.kernel.space(bed.mm).find(page(4)).unwrap().flags();
    assert!(flags.contains(VmaFlags::MAYBE_GUARD));
    assert_eq!(bed.go(thread, remove(2, 5)), Some(Ret::Err(Errno::ENOMEM)));
    assert_eq!((bed.pte(2), bed.pte(4)), (Pte::None, Pte::None));
    let locked = Mmap::fixed(page(6).raw(), 2 * 4096, Prot::RW).with(MapFlags::LOCKED);
    bed.go(thread, Call::Mmap(locked));
    assert_eq!(bed.go(thread, install(5, 8)), Some(Ret::Err(Errno::EINVAL)));
    assert_eq!(bed.pte(5), GUARD, "what comes before the refusal is done");
    assert_eq!(bed.go(thread, remove(5, 8)), Some(Ret::Ok(0)));
}

#[test]
fn b12_an_unregister_that_waits_does_not_block_the_walk_it_waits_for() {
    let mut bed = bed(3);
    let thread = bed.thread();
    bed.kernel.begin(thread, install(0, 3));
    bed.step(thread);
    let (ctx, handler) = (bed.ctx, bed.handler);
    bed.kernel.begin(handler, Call::Unregister { ctx, range: span(0, 3) });
    bed.step(handler);
    assert!(!bed.kernel.can_step(handler), "it waits for the lock");
    assert_eq!(bed.on(thread), Some(Ret::Ok(0)));
    assert_eq!(bed.on(handler), Some(Ret::Ok(0)));
}

#[test]
fn f5_a_scan_tells_a_guard_and_marks_it() {
    let mut bed = Bed::registered(1, Profile::default(), Features::WP_ASYNC, RegisterModes::WP);
    let thread = bed.thread();
    bed.go(thread, install(0, 1));
    let all = sim::kernel::PageIs::all();
    let scan = sim::kernel::PagemapScan {
        flags: sim::kernel::ScanFlags::WP_MATCHING,
        range: span(0, 1),
        room: 1,
        max_pages: 0,
        inverted: sim::kernel::PageIs::empty(),
        all: sim::kernel::PageIs::empty(),
        any: sim::kernel::PageIs::empty(),
        tell: all,
    };
    for is in [0x113, 0x111] {
        bed.go(thread, Call::PagemapScan(Box::new(scan.clone())));
        let found = bed.kernel.take_scan(thread).unwrap();
        assert_eq!(found.regions[0].is.bits(), is);
    }
    assert_eq!(bed.load(thread, 0), REFUSED);
    // Measured: the mark outlives a removal as the guard does.
    bed.go(thread, Call::DontNeed { range: span(0, 1) });
    let seen = PagemapBits::SWAP | PagemapBits::GUARD | PagemapBits::UFFD_WP;
    assert_eq!(bed.kernel.pagemap(bed.mm, page(0)), seen);
    assert_eq!(bed.copy(0, 1), Outcome::done(4096));
}
