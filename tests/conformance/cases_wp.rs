//! Write protection of anonymous memory: rules e13, e17 to e19, f1 to f4, and what a
//! registration leaves behind.

use shims::{CopyMode, Errno, Features, Outcome, RegisterModes, WriteProtectMode};
use sim::Content;
use sim::vma::Prot;

use faultbed::judge::{Back, Op, PAGE};
use faultbed::judge::{Case, both, source};

const BOTH: RegisterModes = RegisterModes::MISSING.union(RegisterModes::WP);
const WP: RegisterModes = RegisterModes::WP;

#[test]
fn v59_f1_protecting_an_absent_page_is_nothing_or_a_marker() {
    Case::new("v59_f1_plain", 3).modes(BOTH).run(|run| {
        run.copy(0, 1);
        assert_eq!(run.protect(0, 3, true), Outcome::OK);
        assert_eq!((run.is_wp(0), run.is_wp(1)), (true, false));
        // What is missing comes as it would have come.
        run.sleeper(Op::Store(1, 1));
        assert_eq!(run.read(0, 8), ["F1w"]);
        run.copy(1, 2);
    });
    Case::new("v59_f1_marker", 3).modes(BOTH).features(Features::WP_UNPOPULATED).run(|run| {
        run.copy(0, 1);
        assert_eq!(run.protect(0, 3, true), Outcome::OK);
        assert!(run.is_wp(0) && run.is_wp(1));
        assert_eq!(run.content(1), None);
        // c3: missing is asked for first, and the marker stays meanwhile.
        let writer = run.sleeper(Op::Store(1, 1));
        assert_eq!(run.read(0, 8), ["F1w"]);
        assert_eq!(run.zero(1, 2), Outcome::mirrored(Errno::EEXIST));
        assert_eq!(run.copy_wp(1, 2), Outcome::done(PAGE));
        run.asleep(writer);
        assert_eq!(run.read(0, 8), ["F1w WP"]);
        assert_eq!(run.protect(1, 2, false), Outcome::OK);
        run.returned(writer, Back::Done);
        // Taking it off leaves nothing.
        assert_eq!(run.protect(2, 3, false), Outcome::OK);
        assert!(!run.is_wp(2));
    });
}

#[test]
fn v59_f3_a_removal_drops_the_bit_and_the_marker() {
    Case::new("v59_f3", 2).modes(BOTH).features(Features::WP_UNPOPULATED).run(|run| {
        run.copy_wp(0, 1);
        run.protect(1, 2, true);
        let (thread, _) = run.spawn(Op::dontneed(0, 2));
        assert!(!run.is_wp(0) && !run.is_wp(1));
        run.copy(0, 2);
        assert_eq!(run.get(thread, Op::Store(0, 1)), Back::Done);
        assert_eq!(run.get(thread, Op::Store(1, 2)), Back::Done);
    });
}

#[test]
fn f2_a_marker_without_missing_becomes_a_protected_page_of_zeros() {
    Case::new("f2", 2).modes(WP).features(Features::WP_UNPOPULATED).run(|run| {
        run.protect(0, 2, true);
        let (reader, settled) = run.spawn(Op::Load(0));
        assert_eq!(settled, faultbed::judge::Settled::Returned(Back::Loaded(Content::Zero)));
        assert!(run.is_wp(0));
        let writer = run.sleeper(Op::Store(1, 1));
        assert_eq!(run.read(0, 8), ["F1w WP"]);
        assert_eq!(run.copy(1, 2), Outcome::mirrored(Errno::EEXIST));
        run.protect(0, 2, false);
        run.returned(writer, Back::Done);
        assert_eq!(run.get(reader, Op::Store(0, 2)), Back::Done);
    });
}

#[test]
fn v60_e18_holes_are_skipped_and_what_came_before_a_foreign_mapping_stays_changed() {
    Case::new("v60_e18", 6).modes(BOTH).run(|run| {
        run.copy(0, 6);
        let (other, _) = run.spawn(Op::unmap(1, 2));
        assert_eq!(run.protect(0, 3, true), Outcome::OK);
        assert!(run.is_wp(0) && run.is_wp(2));
        let foreign = run.span(4, 5);
        run.unregister(0, foreign).unwrap();
        assert_eq!(run.protect(3, 6, true), Outcome::bare(Errno::ENOENT));
        assert!(run.is_wp(3) && !run.is_wp(5));
        // What fails wakes nobody, although it has changed page 3.
        let writer = run.sleeper(Op::Store(3, 1));
        assert_eq!(run.read(0, 8), ["F3w WP"]);
        assert_eq!(run.protect(3, 6, false), Outcome::bare(Errno::ENOENT));
        assert!(!run.is_wp(3));
        run.asleep(writer);
        assert_eq!(run.get(other, Op::Load(3)), Back::Loaded(source(3)));
        // Nothing but hole.
        assert_eq!(run.protect(1, 2, true), Outcome::bare(Errno::ENOENT));
    });
}

#[test]
fn v61_e19_taking_protection_off_wakes_whoever_waits_in_the_range() {
    Case::new("v61_e19", 4).modes(BOTH).run(|run| {
        let missing = run.sleeper(Op::Load(0));
        run.copy_wp(1, 2);
        let trapped = run.sleeper(Op::Store(1, 1));
        assert_eq!(run.read(0, 8), ["F0r", "F1w WP"]);
        run.protect(0, 4, true);
        run.asleep(trapped);
        let range = run.span(0, 4);
        run.protect_span(range, WriteProtectMode::DONTWAKE);
        run.asleep(trapped);
        // Nothing is left to change: the wake is for the range.
        assert_eq!(run.protect(0, 4, false), Outcome::OK);
        run.returned(trapped, Back::Done);
        run.asleep(missing);
        assert_eq!(run.read(0, 8), ["F0r"]);
    });
}

#[test]
fn v28_b13_unregistering_wp_alone_takes_the_bits_and_wakes_nobody() {
    Case::new("v28_b13", 2).modes(WP).features(Features::WP_UNPOPULATED).run(|run| {
        run.copy_wp(0, 1);
        run.protect(1, 2, true);
        let writer = run.sleeper(Op::Store(0, 1));
        let whole = run.span(0, 2);
        assert_eq!(run.unregister(0, whole), Ok(()));
        assert!(!run.is_wp(0) && !run.is_wp(1));
        run.asleep(writer);
        assert_eq!(run.wake(0, whole), Ok(()));
        run.returned(writer, Back::Done);
    });
}

#[test]
fn b9_bits_left_by_an_earlier_registration_trap_nothing() {
    Case::new("b9", 3).modes(WP).features(Features::WP_UNPOPULATED).run(|run| {
        run.copy(0, 1);
        let (thread, _) = run.spawn(Op::Load(1));
        run.protect(0, 3, true);
        let whole = run.span(0, 3);
        run.register(0, whole, RegisterModes::MISSING).unwrap();
        assert!(run.is_wp(0));
        assert_eq!(run.get(thread, Op::Store(0, 1)), Back::Done);
        assert_eq!(run.get(thread, Op::Store(1, 2)), Back::Done);
        assert!(run.is_wp(0) && !run.is_wp(1));
        // Registered again, what was made writable is not trapped until it is protected.
        run.register(0, whole, WP).unwrap();
        assert_eq!(run.get(thread, Op::Store(0, 3)), Back::Done);
        run.protect(0, 3, true);
        run.sleeper(Op::Store(0, 4));
        assert_eq!(run.read(0, 8), ["F0w WP"]);
    });
}

#[test]
fn v29_b7_a_registration_replaces_unless_it_asks_for_less() {
    Case::new("v29_b7", 4).modes(BOTH).run(|run| {
        let (first, second) = (run.span(0, 2), run.span(2, 4));
        run.register(0, first, RegisterModes::MISSING).unwrap();
        assert_eq!(run.areas(), ["0..4 rw- MISSING|WP"]);
        run.unregister(0, second).unwrap();
        run.register(0, second, RegisterModes::MISSING).unwrap();
        run.register(0, second, WP).unwrap();
        assert_eq!(run.areas(), ["0..2 rw- MISSING|WP", "2..4 rw- WP"]);
    });
}

#[test]
fn v31_b6_the_mask_of_a_registration() {
    Case::new("v31_b6", 2).modes(RegisterModes::empty()).run(|run| {
        let whole = run.span(0, 2);
        for (modes, mask) in [(RegisterModes::MISSING, 0x13c), (WP, 0x17c), (BOTH, 0x17c)] {
            let granted = run.register(0, whole, modes);
            assert_eq!(granted.map(|ioctls| ioctls.bits()), Ok(mask), "{modes:?}");
        }
        // b5: anonymous memory has no page cache.
        let minor = RegisterModes::MINOR;
        assert_eq!(run.register(0, whole, minor), Err(Errno::EINVAL));
        assert_eq!(run.register(0, whole, minor | BOTH), Err(Errno::EINVAL));
    });
}

#[test]
fn e17_arguments_are_judged_in_order_and_nothing_is_mirrored() {
    let features = Features::EVENT_REMOVE;
    Case::new("e17", 4).modes(BOTH).features(features).run(|run| {
        let (odd, one, far) = (run.bytes(1, PAGE), run.span(0, 1), run.bytes(1 << 30, PAGE));
        let both = WriteProtectMode::WP | WriteProtectMode::DONTWAKE;
        let unknown = WriteProtectMode::from_bits_retain(4);
        for (range, mode, errno) in [
            (odd, WriteProtectMode::WP, Errno::EINVAL),
            (one, both, Errno::EINVAL),
            (one, unknown, Errno::EINVAL),
            (far, WriteProtectMode::WP, Errno::ENOENT),
        ] {
            assert_eq!(run.protect_span(range, mode), Outcome::bare(errno), "{mode:?}");
        }
        run.sleeper(Op::dontneed(0, 1));
        assert_eq!(run.protect_span(odd, unknown), Outcome::bare(Errno::EAGAIN));
    });
}

#[test]
fn e13_a_plain_copy_does_not_inherit_the_marker() {
    Case::new("e13", 2).modes(BOTH).features(Features::WP_UNPOPULATED).run(|run| {
        run.protect(0, 2, true);
        assert_eq!(run.copy(0, 1), Outcome::done(PAGE));
        assert!(!run.is_wp(0));
        let (thread, _) = run.spawn(Op::Store(0, 1));
        run.returned(thread, Back::Done);
    });
}

#[test]
fn f4_mprotect_keeps_the_bit() {
    Case::new("f4", 1).modes(BOTH).run(|run| {
        run.copy_wp(0, 1);
        let (thread, _) = run.spawn(Op::protect(0, 1, Prot::READ));
        assert!(run.is_wp(0));
        assert_eq!(run.get(thread, Op::touch(0, true)), Back::AccErr);
        run.go(thread, Op::protect(0, 1, Prot::RW));
        run.sleeper(Op::Store(0, 1));
        assert_eq!(run.read(0, 8), ["F0w WP"]);
    });
}

#[test]
fn a20_close_takes_the_protection_along() {
    Case::new("a20_wp", 2).modes(BOTH).features(Features::WP_UNPOPULATED).run(|run| {
        run.copy_wp(0, 1);
        run.protect(1, 2, true);
        let writer = run.sleeper(Op::Store(0, 1));
        run.close(0);
        assert!(!run.is_wp(0) && !run.is_wp(1));
        run.returned(writer, Back::Done);
    });
}

#[test]
fn e7_what_is_copied_protected_traps_its_writer() {
    both("e7_not_wp", 1, Features::empty(), |run| {
        let range = run.span(0, 1);
        let outcome = run.copy_span(0, range, CopyMode::WP);
        assert_eq!(outcome, Outcome::mirrored(Errno::EINVAL));
    });
    Case::new("e7_wp", 3).modes(WP).run(|run| {
        // A plain copy needs no registration for MISSING.
        assert_eq!(run.copy(0, 1), Outcome::done(PAGE));
        assert_eq!(run.copy_wp(1, 2), Outcome::done(PAGE));
        assert!(run.is_wp(1) && !run.is_wp(0));
        let (thread, _) = run.spawn(Op::Store(0, 1));
        assert_eq!(run.get(thread, Op::populate(0, 1, true)), Back::Done);
        assert_eq!(run.get(thread, Op::populate(1, 2, false)), Back::Done);
        run.sleeper(Op::populate(1, 2, true));
        assert_eq!(run.read(0, 8), ["F1w WP"]);
    });
}
