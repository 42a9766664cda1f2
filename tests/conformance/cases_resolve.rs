//! Resolving ioctls: their answers, what they install and whom they wake: rules e.

use shims::{
    ContinueMode, CopyMode, Errno, Features, Outcome, RegisterModes, WriteProtectMode, ZeropageMode,
};
use sim::Content;
use sim::vma::Prot;

use faultbed::judge::{Back, Op, PAGE};
use faultbed::judge::{at, both, source};

const NONE: Features = Features::empty();

fn mirrored(errno: Errno) -> Outcome {
    Outcome::mirrored(errno)
}

#[test]
fn v18_e5_e10_a_present_page_is_eexist_and_wakes_nobody() {
    both("v18_e10", 2, NONE, |run| {
        let range = run.span(0, 1);
        let sleeper = run.sleeper(Op::Load(0));
        assert_eq!(run.copy_span(0, range, CopyMode::DONTWAKE), Outcome::done(PAGE));
        assert_eq!(run.copy(0, 1), mirrored(Errno::EEXIST));
        assert_eq!(run.zero(0, 1), mirrored(Errno::EEXIST));
        run.asleep(sleeper);
        assert_eq!(run.wake(0, range), Ok(()));
        run.returned(sleeper, Back::Loaded(source(0)));
    });
}

#[test]
fn v19_e3_e5_a_short_copy_reports_and_wakes_what_it_did() {
    both("v19_e3", 6, NONE, |run| {
        run.copy(3, 4);
        let sleepers: Vec<_> = [0, 2, 4].into_iter().map(|n| run.sleeper(Op::Load(n))).collect();
        assert_eq!(run.copy(0, 6), Outcome::partial(3 * PAGE));
        run.returned(sleepers[0], Back::Loaded(source(0)));
        run.returned(sleepers[1], Back::Loaded(source(2)));
        run.asleep(sleepers[2]);
        assert_eq!(run.copy(3, 6), mirrored(Errno::EEXIST));
        run.asleep(sleepers[2]);
        assert_eq!(run.zero(4, 6), Outcome::done(2 * PAGE));
        run.returned(sleepers[2], Back::Loaded(Content::Zero));
        assert_eq!(run.zero(0, 6), mirrored(Errno::EEXIST));
    });
}

#[test]
fn e3_a_short_zeropage() {
    both("e3_zeropage", 4, NONE, |run| {
        run.copy(2, 3);
        assert_eq!(run.zero(0, 4), Outcome::partial(2 * PAGE));
        assert_eq!(run.zero(2, 4), mirrored(Errno::EEXIST));
    });
}

#[test]
fn v20_e2_bad_arguments_leave_the_field_alone() {
    both("v20_e2", 4, NONE, |run| {
        for (start, len) in [(1, PAGE), (0, PAGE + 1), (0, 0), (PAGE / 2, PAGE)] {
            let range = run.bytes(start, len);
            let bare = Outcome::bare(Errno::EINVAL);
            assert_eq!(run.copy_span(0, range, CopyMode::empty()), bare, "{start:#x}+{len:#x}");
            assert_eq!(run.zero_span(0, range, ZeropageMode::empty()), bare);
        }
        let range = run.span(0, 1);
        let unknown = CopyMode::from_bits_retain(4);
        assert_eq!(run.copy_span(0, range, unknown), Outcome::bare(Errno::EINVAL));
        let unknown = ZeropageMode::from_bits_retain(2);
        assert_eq!(run.zero_span(0, range, unknown), Outcome::bare(Errno::EINVAL));
        // Beyond the address space.
        let wraps = run.bytes(0, 0u64.wrapping_sub(PAGE));
        assert_eq!(run.zero_span(0, wraps, ZeropageMode::empty()), Outcome::bare(Errno::EINVAL));
    });
}

#[test]
fn v21_e6_a_hole_unregistered_memory_and_two_mappings_are_enoent() {
    both("v21_e6", 10, NONE, |run| {
        let thread = run.thread();
        run.go(thread, Op::unmap(0, 1));
        let plain = run.span(1, 3);
        run.unregister(0, plain).unwrap();
        run.go(thread, Op::protect(6, 8, Prot::READ));
        for (start, end) in [(0, 1), (0, 2), (1, 2), (2, 4), (5, 7), (7, 9), (3, 10)] {
            assert_eq!(run.copy(start, end), mirrored(Errno::ENOENT), "{start}..{end}");
            assert_eq!(run.zero(start, end), mirrored(Errno::ENOENT), "{start}..{end}");
        }
        assert_eq!(run.copy(6, 8), Outcome::done(2 * PAGE));
        let far = run.bytes(1 << 24, PAGE);
        assert_eq!(run.zero_span(0, far, ZeropageMode::empty()), mirrored(Errno::ENOENT));
    });
}

#[test]
fn v22_e6_copying_through_another_context_works_and_wakes_none_of_the_owners() {
    both("v22_e6", 4, NONE, |run| {
        let other = run.open(NONE);
        let sleeper = run.sleeper(Op::Load(0));
        let range = run.span(0, 1);
        assert_eq!(run.copy_span(other, range, CopyMode::empty()), Outcome::done(PAGE));
        run.asleep(sleeper);
        assert_eq!(run.wake(other, range), Ok(()));
        run.asleep(sleeper);
        assert_eq!(run.wake(0, range), Ok(()));
        run.returned(sleeper, Back::Loaded(source(0)));
    });
}

#[test]
fn v24_e5_e23_dontwake_installs_and_lets_sleep() {
    both("v24_e5", 3, NONE, |run| {
        let zero = run.sleeper(Op::Load(0));
        let copy = run.sleeper(Op::Load(1));
        let (first, second) = (run.span(0, 1), run.span(1, 2));
        assert_eq!(run.zero_span(0, first, ZeropageMode::DONTWAKE), Outcome::done(PAGE));
        assert_eq!(run.copy_span(0, second, CopyMode::DONTWAKE), Outcome::done(PAGE));
        run.asleep(zero);
        run.asleep(copy);
        let whole = run.span(0, 3);
        assert_eq!(run.wake(0, whole), Ok(()));
        run.returned(zero, Back::Loaded(Content::Zero));
        run.returned(copy, Back::Loaded(source(1)));
    });
}

#[test]
fn e7_copying_protected_needs_the_registration() {
    both("e7_wp", 2, NONE, |run| {
        let range = run.span(0, 1);
        assert_eq!(run.copy_span(0, range, CopyMode::WP), mirrored(Errno::EINVAL));
        let sleeper = run.sleeper(Op::Load(0));
        assert_eq!(run.copy_span(0, range, CopyMode::WP), mirrored(Errno::EINVAL));
        run.asleep(sleeper);
    });
}

#[test]
fn e15_e18_what_anonymous_memory_does_not_have() {
    both("e15_e18", 3, NONE, |run| {
        let range = run.span(0, 1);
        let hole = run.bytes(1 << 24, PAGE);
        let odd = run.bytes(1, PAGE);
        let none = ContinueMode::empty();
        let answer = run.other(0, "continue", |uffd| uffd.continue_(range, none));
        assert_eq!(answer, mirrored(Errno::EINVAL));
        let answer = run.other(0, "continue in a hole", |uffd| uffd.continue_(hole, none));
        assert_eq!(answer, mirrored(Errno::ENOENT));
        let answer = run.other(0, "continue at odd", |uffd| uffd.continue_(odd, none));
        assert_eq!(answer, Outcome::bare(Errno::EINVAL));
        run.copy(1, 2);
        let present = run.span(1, 2);
        run.other(0, "continue over a page", |uffd| uffd.continue_(present, none));
        for mode in [0, 1, 2, 3, 4] {
            let mode = WriteProtectMode::from_bits_retain(mode);
            run.other(0, &format!("protect {mode:?}"), |uffd| uffd.write_protect(range, mode));
            run.other(0, "protect a hole", |uffd| uffd.write_protect(hole, mode));
            run.other(0, "protect at odd", |uffd| uffd.write_protect(odd, mode));
        }
    });
}

#[test]
fn e17_un_protecting_without_the_registration_wakes_nobody() {
    both("e17_wake", 2, NONE, |run| {
        let sleeper = run.sleeper(Op::Load(0));
        let range = run.span(0, 1);
        let mode = WriteProtectMode::empty();
        run.other(0, "un-protect", |uffd| uffd.write_protect(range, mode));
        run.asleep(sleeper);
    });
}

#[test]
fn e23_a_wake_of_nothing_and_of_everything() {
    both("e23", 4, NONE, |run| {
        let sleeper = run.sleeper(Op::Load(2));
        // Read, so that a fault that is asked anew would show.
        run.read(0, 1);
        let beside = run.span(0, 2);
        assert_eq!(run.wake(0, beside), Ok(()));
        let behind = run.span(3, 4);
        assert_eq!(run.wake(0, behind), Ok(()));
        assert_eq!(run.arm.counts(0), (0, 1));
        let everything =
            shims::Span::new(shims::Addr::new(PAGE), shims::Len::new(at(run, 3 * PAGE).raw()));
        let answer = run.other(0, "wake everything", |uffd| uffd.wake(everything));
        assert_eq!(answer, Ok(()));
        run.asleep(sleeper);
        assert_eq!(run.read(0, 1), ["F2r"]);
    });
}

#[test]
fn a_page_that_was_removed_is_missing_again_and_can_be_anything() {
    both("life_of_a_page", 2, NONE, |run| {
        run.copy(0, 1);
        let (thread, _) = run.spawn(Op::Store(0, 1));
        run.go(thread, Op::dontneed(0, 1));
        let sleeper = run.sleeper(Op::Store(0, 2));
        assert_eq!(run.read(0, 4), ["F0w"]);
        run.zero(0, 1);
        run.returned(sleeper, Back::Done);
        run.go(thread, Op::dontneed(0, 1));
        run.sleeper(Op::Load(0));
        let whole = run.span(0, 2);
        run.unregister(0, whole).unwrap();
        assert_eq!(run.content(0), Some(Content::Zero));
        run.go(thread, Op::Store(1, 3));
        assert!(run.register(0, whole, RegisterModes::MISSING).is_ok());
        assert_eq!(run.copy(0, 2), mirrored(Errno::EEXIST));
    });
}
