//! Rules that belong to no other file: what registering leaves alone, what a release and a
//! removal look like half-way. Each test names the rule it holds the kernel to.

use shims::{Errno, Features, Outcome, RegisterModes};
use sim::Profile;
use sim::kernel::{Call, Did, Ret, Sleep};
use sim::vma::{Mmap, Prot};

use crate::support::{Bed, page, source, span};

const NONE: Features = Features::empty();
const MISSING: RegisterModes = RegisterModes::MISSING;

#[test]
fn a22_a_fault_during_a_release_queues_nothing_and_starts_over() {
    let mut bed = Bed::with(2, Profile::default(), NONE);
    let (closer, guest) = (bed.thread(), bed.thread());
    bed.kernel.begin(closer, Call::Close { ctx: bed.ctx });
    assert_eq!(bed.step(closer), Did::Release { ctx: bed.ctx });
    bed.kernel.begin(guest, Call::Load { addr: page(0) });
    for _ in 0..10 {
        assert_eq!(bed.step(guest), Did::SkipSleep { page: page(0) });
    }
    assert_eq!(bed.kernel.ctx(bed.ctx).faults_waiting(), 0);
    assert_eq!(bed.on(closer), Some(Ret::Ok(0)));
    assert_eq!(bed.on(guest), Some(Ret::Loaded(sim::Content::Zero)));
}

/// The same between F1 and F2: who was about to queue its fault queues it no more.
/// Rules: F2
#[test]
fn a22_a_release_between_the_look_and_the_queue_queues_nothing() {
    let mut bed = Bed::with(1, Profile::default(), NONE);
    let (closer, guest) = (bed.thread(), bed.thread());
    bed.kernel.begin(guest, Call::Load { addr: page(0) });
    assert!(matches!(bed.step(guest), Did::Miss { .. }));
    bed.kernel.begin(closer, Call::Close { ctx: bed.ctx });
    assert_eq!(bed.step(closer), Did::Release { ctx: bed.ctx });
    assert_eq!(bed.step(guest), Did::SkipSleep { page: page(0) });
    assert_eq!(bed.kernel.ctx(bed.ctx).faults_waiting(), 0);
    assert_eq!(bed.on(closer), Some(Ret::Ok(0)));
    assert_eq!(bed.on(guest), Some(Ret::Loaded(sim::Content::Zero)));
}

#[test]
fn b8_registering_a_part_splits_and_giving_it_back_merges() {
    let mut bed = Bed::with(6, Profile::default(), NONE);
    let (ctx, handler) = (bed.ctx, bed.handler);
    let count = |bed: &Bed| bed.kernel.space(bed.mm).iter().count();
    assert_eq!(count(&bed), 1);
    bed.kernel.run(handler, Call::Unregister { ctx, range: span(2, 4) });
    assert_eq!(count(&bed), 3);
    // Another context's does not merge with it.
    let other = bed.kernel.userfaultfd(bed.mm, NONE).unwrap();
    let call = Call::Register { ctx: other, range: span(2, 4), modes: MISSING };
    assert!(matches!(bed.kernel.run(handler, call), Ret::Ok(_)));
    assert_eq!(count(&bed), 3);
    bed.kernel.run(handler, Call::Unregister { ctx: other, range: span(2, 4) });
    assert!(matches!(bed.register(2, 4, MISSING), Ret::Ok(_)));
    assert_eq!(count(&bed), 1);
}

#[test]
fn b10_registering_wakes_nobody_is_never_refused_by_the_gate_and_leaves_pages_alone() {
    let mut bed = Bed::with(4, Profile::default(), Features::EVENT_REMOVE);
    let (sleeper, remover, guest) = (bed.thread(), bed.thread(), bed.thread());
    assert_eq!(bed.load(sleeper, 0), None);
    assert_eq!(bed.go(remover, Call::DontNeed { range: span(3, 4) }), None);
    assert!(matches!(bed.register(0, 4, MISSING), Ret::Ok(_)));
    assert!(!bed.kernel.can_step(sleeper));
    bed.read(8);
    bed.on(remover);
    // A page that was there before anybody registered it is never missing.
    let (ctx, handler) = (bed.ctx, bed.handler);
    bed.kernel.run(handler, Call::Unregister { ctx, range: span(1, 3) });
    assert_eq!(bed.load(guest, 1), Some(Ret::Loaded(sim::Content::Zero)));
    assert!(matches!(bed.register(1, 3, MISSING), Ret::Ok(_)));
    assert_eq!(bed.store(guest, 1), Some(Ret::Stored), "the zero page is a page");
    assert_eq!(bed.load(guest, 2), None);
}

#[test]
fn d5_v13_no_number_of_attempts_gets_past_the_gate() {
    let mut bed = Bed::with(4, Profile::default(), Features::EVENT_REMOVE);
    let (faulter, remover) = (bed.thread(), bed.thread());
    assert_eq!(bed.load(faulter, 1), None);
    assert_eq!(bed.go(remover, Call::DontNeed { range: span(0, 1) }), None);
    let again = Outcome::mirrored(Errno::EAGAIN);
    assert!((0..100).all(|_| bed.copy(1, 2) == again), "unread");
    // The fault comes first: the queue has to be emptied to get to the event.
    assert_eq!(bed.read(1).len(), 1);
    assert!((0..100).all(|_| bed.copy(1, 2) == again), "unread still");
    assert_eq!(bed.read(1).len(), 1);
    // Read, and the remover does not run.
    assert!((0..3000).all(|_| bed.copy(1, 2) == again), "d4");
    bed.step(remover);
    assert_eq!(bed.copy(1, 2), Outcome::done(4096));
    assert_eq!(bed.on(faulter), Some(Ret::Loaded(source(1))));
}

#[test]
fn d9_v82_a_hole_at_the_second_look_leaves_the_rest_as_it_was() {
    let mut bed = Bed::with(4, Profile::default(), Features::EVENT_REMOVE);
    bed.copy(0, 4);
    let (remover, owner) = (bed.thread(), bed.thread());
    assert_eq!(bed.go(remover, Call::DontNeed { range: span(0, 4) }), None);
    assert_eq!(bed.go(owner, Call::Munmap { range: span(0, 1) }), Some(Ret::Ok(0)));
    assert_eq!(bed.read(8).len(), 1);
    assert_eq!(bed.on(remover), Some(Ret::Err(Errno::ENOMEM)));
    assert!((1..4).all(|n| bed.pte(n).is_present()));
}

#[test]
fn h11_v83_a_mapping_waits_for_a_removal_with_and_without_the_feature() {
    for features in [NONE, Features::EVENT_REMOVE] {
        let mut bed = Bed::with(4, Profile::default(), features);
        bed.copy(0, 4);
        let (remover, owner) = (bed.thread(), bed.thread());
        bed.kernel.begin(remover, Call::DontNeed { range: span(0, 4) });
        while !matches!(bed.step(remover), Did::Zap { .. }) {
            if !bed.kernel.can_step(remover) {
                bed.read(8);
            }
        }
        let map = Mmap::fixed(page(64).raw(), 4096, Prot::RW);
        assert_eq!(bed.go(owner, Call::Mmap(map)), None);
        assert_eq!(bed.kernel.sleep(owner), Some(Sleep::Lock));
        assert_eq!(bed.on(remover), Some(Ret::Ok(0)));
        assert_eq!(bed.on(owner), Some(Ret::Ok(page(64).raw())));
    }
}
