//! Removals and unmappings and what they announce: rules d.

use shims::{Errno, Features, Outcome, RegisterModes, Span, ZeropageMode};
use sim::vma::Prot;

use faultbed::judge::{Back, Op, PAGE, Settled};
use faultbed::judge::{Run, both, source};

const NONE: Features = Features::empty();
const REMOVE: Features = Features::EVENT_REMOVE;
const UNMAP: Features = Features::EVENT_UNMAP;

/// Rules: E2, E3, E5
#[test]
fn v11_v12_d2_d7_a_removal_sleeps_until_it_is_read_and_zaps_only_then() {
    both("v11_d2", 3, REMOVE, |run| {
        run.copy(0, 2);
        let remover = run.sleeper(Op::dontneed(0, 2));
        // Unread, the pages are there and can be written.
        let (guest, settled) = run.spawn(Op::Load(0));
        assert_eq!(settled, Settled::Returned(Back::Loaded(source(0))));
        assert_eq!(run.go(guest, Op::Store(1, 1)), Settled::Returned(Back::Done));
        assert_eq!(run.read(0, 1), ["REMOVE 0..2"]);
        run.returned(remover, Back::Done);
        assert_eq!((run.content(0), run.content(1)), (None, None));
        assert_eq!(run.go(guest, Op::Load(0)), Settled::Asleep);
        assert_eq!(run.read(0, 8), ["F0r"]);
    });
}

/// Rules: E1
#[test]
fn v15_e1_d3_resolving_fails_while_an_event_is_unread_whatever_the_arguments() {
    both("v15_e1", 4, REMOVE, |run| {
        let faulter = run.sleeper(Op::Load(3));
        let remover = run.sleeper(Op::dontneed(0, 1));
        let changing = run.changing();
        assert_eq!(run.copy(3, 4), changing);
        assert_eq!(run.zero(2, 3), changing);
        let odd = run.bytes(1, 1);
        assert_eq!(run.zero_span(0, odd, ZeropageMode::from_bits_retain(0x80)), changing);
        let far = run.bytes(1 << 30, PAGE);
        assert_eq!(run.zero_span(0, far, ZeropageMode::empty()), changing);
        // e23: waking is never refused, and brings the fault to the tail.
        let three = run.span(3, 4);
        assert_eq!(run.wake(0, three), Ok(()));
        // Registering is not resolving.
        assert!(run.register(0, three, RegisterModes::MISSING).is_ok());
        assert_eq!(run.read(0, 1), ["F3r"]);
        assert_eq!(run.copy(3, 4), changing);
        assert_eq!(run.read(0, 1), ["REMOVE 0..1"]);
        run.returned(remover, Back::Done);
        assert_eq!(run.copy(3, 4), Outcome::done(PAGE));
        run.returned(faulter, Back::Loaded(source(3)));
    });
}

#[test]
fn e1_the_other_ioctls_at_the_gate() {
    both("e1_others", 4, REMOVE, |run| {
        run.sleeper(Op::dontneed(0, 1));
        let range = run.span(1, 2);
        run.other(0, "continue", |uffd| uffd.continue_(range, shims::ContinueMode::empty()));
        run.other(0, "protect", |uffd| uffd.write_protect(range, shims::WriteProtectMode::WP));
    });
}

#[test]
fn v16_d3_the_gate_counts_events() {
    both("v16_d3", 4, REMOVE, |run| {
        let first = run.sleeper(Op::dontneed(0, 1));
        let second = run.sleeper(Op::dontneed(1, 2));
        assert_eq!(run.read(0, 1), ["REMOVE 0..1"]);
        run.returned(first, Back::Done);
        run.asleep(second);
        let changing = run.changing();
        assert_eq!(run.copy(3, 4), changing);
        assert_eq!(run.read(0, 1), ["REMOVE 1..2"]);
        assert_eq!(run.copy(3, 4), Outcome::done(PAGE));
    });
}

#[test]
fn d1_without_the_feature_a_removal_tells_nobody() {
    both("d1", 2, NONE, |run| {
        run.copy(0, 2);
        let (remover, settled) = run.spawn(Op::dontneed(0, 1));
        assert_eq!(settled, Settled::Returned(Back::Done));
        assert_eq!(run.read(0, 8), [""; 0]);
        assert_eq!(run.go(remover, Op::Load(0)), Settled::Asleep);
        assert_eq!(run.content(1), Some(source(1)));
    });
}

#[test]
fn d6_one_event_for_each_mapping_in_address_order() {
    both("d6_parts", 6, REMOVE, |run| {
        let other = run.thread();
        run.go(other, Op::protect(2, 4, Prot::READ));
        let remover = run.sleeper(Op::dontneed(1, 6));
        for part in ["REMOVE 1..2", "REMOVE 2..4", "REMOVE 4..6"] {
            run.asleep(remover);
            assert_eq!(run.read(0, 1), [part]);
        }
        run.returned(remover, Back::Done);
    });
}

#[test]
fn d6_arguments_of_a_removal() {
    both("d6_arguments", 6, NONE, |run| {
        run.copy(0, 6);
        let thread = run.thread();
        run.go(thread, Op::unmap(2, 4));
        for (at, len, back) in [
            (1, PAGE, Back::Err(Errno::EINVAL)),
            (0, 0, Back::Done),
            // Lengths are rounded up.
            (0, 1, Back::Done),
            // A hole is ENOMEM after the rest is done.
            (PAGE, 4 * PAGE, Back::Err(Errno::ENOMEM)),
            (2 * PAGE, 2 * PAGE, Back::Err(Errno::ENOMEM)),
            (3 * PAGE, 2 * PAGE, Back::Err(Errno::ENOMEM)),
        ] {
            let settled = run.go(thread, Op::DontNeed { at, len });
            assert_eq!(settled, Settled::Returned(back), "{at:#x}+{len:#x}");
        }
        assert_eq!(run.content(5), Some(source(5)));
    });
}

#[test]
fn d6_a_hole_in_front_of_a_watched_mapping() {
    both("d6_hole", 6, REMOVE, |run| {
        run.copy(0, 6);
        let other = run.thread();
        run.go(other, Op::unmap(0, 2));
        run.go(other, Op::unmap(3, 4));
        let remover = run.sleeper(Op::dontneed(0, 6));
        assert_eq!(run.read(0, 1), ["REMOVE 2..3"]);
        assert_eq!(run.read(0, 1), ["REMOVE 4..6"]);
        run.returned(remover, Back::Err(Errno::ENOMEM));
    });
}

#[test]
fn v50_v82_d9_what_is_there_after_the_wait_is_what_gets_zapped() {
    both("v50_d9_gone", 4, REMOVE, |run| {
        run.copy(0, 4);
        let remover = run.sleeper(Op::dontneed(0, 2));
        run.spawn(Op::unmap(0, 1));
        assert_eq!(run.read(0, 1), ["REMOVE 0..2"]);
        run.returned(remover, Back::Err(Errno::ENOMEM));
        // V82: the rest of what was announced is as it was.
        assert_eq!(run.content(1), Some(source(1)));
    });
    both("v50_d9_new_mapping", 4, REMOVE, |run| {
        run.copy(0, 4);
        let remover = run.sleeper(Op::dontneed(0, 2));
        let (other, _) = run.spawn(Op::map(0, 1));
        run.go(other, Op::Store(0, 1));
        assert_eq!(run.read(0, 1), ["REMOVE 0..2"]);
        // The new mapping was not announced and is zapped; the rest is announced again.
        run.asleep(remover);
        assert_eq!(run.content(0), None);
        assert_eq!(run.read(0, 1), ["REMOVE 1..2"]);
        run.returned(remover, Back::Done);
    });
    both("v50_d9_split", 4, REMOVE, |run| {
        run.copy(0, 4);
        let remover = run.sleeper(Op::dontneed(0, 4));
        run.spawn(Op::protect(2, 3, Prot::READ));
        assert_eq!(run.read(0, 1), ["REMOVE 0..4"]);
        run.asleep(remover);
        assert_eq!(run.read(0, 1), ["REMOVE 2..3"]);
        assert_eq!(run.read(0, 1), ["REMOVE 3..4"]);
        run.returned(remover, Back::Done);
    });
}

#[test]
fn d9_unregistered_while_the_event_waits() {
    both("d9_unregistered", 4, REMOVE, |run| {
        run.copy(0, 4);
        let remover = run.sleeper(Op::dontneed(0, 2));
        let whole = run.span(0, 4);
        assert_eq!(run.unregister(0, whole), Ok(()));
        run.asleep(remover);
        assert_eq!(run.read(0, 1), ["REMOVE 0..2"]);
        run.returned(remover, Back::Done);
    });
}

fn unmaps(run: &mut Run, ops: &[(Op, &str)]) {
    for &(op, event) in ops {
        let thread = run.sleeper(op);
        let changing = run.changing();
        assert_eq!(run.copy(15, 16), changing, "{op:?}");
        assert_eq!(run.read(0, 1), [event]);
        run.returned(thread, Back::Done);
    }
}

#[test]
fn v43_d14_d15_unmap_names_the_calls_range_with_the_memory_gone() {
    both("v43_d15", 16, UNMAP, |run| {
        run.copy(0, 8);
        let thread = run.sleeper(Op::unmap(1, 3));
        assert_eq!((run.content(1), run.content(2)), (None, None));
        assert_eq!(run.areas(), ["0..1 rw- MISSING", "3..16 rw- MISSING"]);
        assert_eq!(run.read(0, 1), ["UNMAP 1..3"]);
        run.returned(thread, Back::Done);
        unmaps(
            run,
            &[
                // Over a hole, with a length that is rounded up.
                (Op::Unmap { at: 0, len: 3 * PAGE + 1 }, "UNMAP 0..4"),
                (Op::map(4, 6), "UNMAP 4..6"),
                // Half of it is not registered any more.
                (Op::unmap(5, 7), "UNMAP 5..7"),
            ],
        );
        // Nothing registered is in it: no event.
        let (_, settled) = run.spawn(Op::unmap(0, 5));
        assert_eq!(settled, Settled::Returned(Back::Done));
        assert_eq!(run.copy(15, 16), Outcome::done(PAGE));
    });
}

#[test]
fn v42_d14_several_contexts_hear_of_one_unmapping_one_after_another() {
    both("v42_d14", 6, UNMAP, |run| {
        let other = run.open(UNMAP);
        let (low, high) = (run.span(0, 2), run.span(2, 4));
        run.unregister(0, high).unwrap();
        run.register(other, high, RegisterModes::MISSING).unwrap();
        let thread = run.sleeper(Op::unmap(1, 3));
        // Both gates are closed from the start.
        let changing = run.changing();
        assert_eq!(run.zero_span(0, low, ZeropageMode::empty()), changing);
        assert_eq!(run.zero_span(other, high, ZeropageMode::empty()), changing);
        let first = run.read(0, 8);
        let second = run.read(other, 8);
        assert_eq!((first.len(), second.len()), (1, 1));
        run.returned(thread, Back::Done);
    });
}

#[test]
fn d17_what_sends_nothing() {
    both("d17_nothing", 4, REMOVE | UNMAP, |run| {
        let (thread, _) = run.spawn(Op::protect(0, 2, Prot::READ));
        run.go(thread, Op::protect(0, 2, Prot::RW));
        let part = run.span(2, 4);
        run.unregister(0, part).unwrap();
        assert_eq!(run.go(thread, Op::dontneed(2, 4)), Settled::Returned(Back::Done));
        assert_eq!(run.go(thread, Op::unmap(3, 4)), Settled::Returned(Back::Done));
        let (empty, odd) = (Op::Unmap { at: 0, len: 0 }, Op::Unmap { at: 1, len: PAGE });
        for op in [empty, odd] {
            assert_eq!(run.go(thread, op), Settled::Returned(Back::Err(Errno::EINVAL)));
        }
        assert_eq!(run.read(0, 8), [""; 0]);
    });
}

#[test]
fn a21_closing_one_of_two_leaves_the_other_alone() {
    both("a21_two", 4, REMOVE, |run| {
        let other = run.open(REMOVE);
        let high: Span = run.span(2, 4);
        run.unregister(0, high).unwrap();
        run.register(other, high, RegisterModes::MISSING).unwrap();
        let low = run.sleeper(Op::Load(0));
        let remover = run.sleeper(Op::dontneed(2, 3));
        run.close(0);
        run.returned(low, Back::Loaded(sim::Content::Zero));
        run.asleep(remover);
        assert_eq!(run.read(other, 1), ["REMOVE 2..3"]);
        run.returned(remover, Back::Done);
    });
}

#[test]
fn v83_h11_d2_a_mapping_does_not_wait_for_a_removal_that_waits_for_its_reader() {
    both("v83", 6, Features::EVENT_REMOVE, |run| {
        run.copy(0, 4);
        let remover = run.sleeper(Op::dontneed(0, 4));
        let thread = run.thread();
        assert_eq!(run.get(thread, Op::map(5, 6)), Back::Done);
        assert_eq!(run.get(thread, Op::protect(4, 5, Prot::READ)), Back::Done);
        run.asleep(remover);
        assert_eq!(run.read(0, 1), ["REMOVE 0..4"]);
        run.returned(remover, Back::Done);
        assert_eq!(run.content(0), None);
    });
    // Without the feature there is nothing it could wait for.
    both("v83_silent", 6, Features::empty(), |run| {
        run.copy(0, 4);
        let thread = run.thread();
        assert_eq!(run.get(thread, Op::dontneed(0, 4)), Back::Done);
        assert_eq!(run.get(thread, Op::map(5, 6)), Back::Done);
        assert_eq!(run.content(0), None);
    });
}
