//! `UFFDIO_MOVE`: rules e20 to e22.

use shims::{Errno, Features, MoveMode, Outcome, RegisterModes};
use sim::vma::Prot;

use faultbed::judge::{Back, Op, PAGE};
use faultbed::judge::{Case, both, source};

const NONE: MoveMode = MoveMode::empty();
const HOLES: MoveMode = MoveMode::ALLOW_SRC_HOLES;
const BOTH: RegisterModes = RegisterModes::MISSING.union(RegisterModes::WP);

fn failed(errno: Errno) -> Outcome {
    Outcome::mirrored(errno)
}

fn case(name: &str, pages: u64) -> Case<'_> {
    Case::new(name, pages).modes(BOTH).features(Features::WP_UNPOPULATED)
}

#[test]
fn v36_e21_a_page_moves_and_leaves_nothing_and_its_faulter_is_woken() {
    case("v36_e21", 6).run(|run| {
        run.copy(3, 5);
        let sleeper = run.sleeper(Op::Load(0));
        assert_eq!(run.move_(0, 3, 2, NONE), Outcome::done(2 * PAGE));
        run.returned(sleeper, Back::Loaded(source(3)));
        assert_eq!((run.content(1), run.content(3)), (Some(source(4)), None));
        run.sleeper(Op::Load(3));
        // DONTWAKE, a zero page, and a write to what it has become.
        let other = run.sleeper(Op::Store(5, 1));
        run.zero(2, 3);
        assert_eq!(run.move_(5, 2, 1, MoveMode::DONTWAKE), Outcome::done(PAGE));
        run.asleep(other);
        let five = run.span(5, 6);
        run.wake(0, five).unwrap();
        run.returned(other, Back::Done);
    });
}

#[test]
fn v36_e20_arguments_are_judged_in_order() {
    case("v36_e20", 4).run(|run| {
        run.copy(2, 4);
        let unknown = MoveMode::from_bits_retain(4);
        for (dst, src, len, mode, outcome) in [
            (1, 0, PAGE, NONE, Outcome::bare(Errno::EINVAL)),
            (0, 1, PAGE, NONE, Outcome::bare(Errno::EINVAL)),
            (0, 0, 0, NONE, Outcome::bare(Errno::EINVAL)),
            (0, 0, PAGE, unknown, Outcome::bare(Errno::EINVAL)),
            (64 * PAGE, 0, PAGE, NONE, failed(Errno::ENOENT)),
            (0, 64 * PAGE, PAGE, NONE, failed(Errno::ENOENT)),
            (3 * PAGE, 0, 2 * PAGE, NONE, failed(Errno::EINVAL)),
            (0, 3 * PAGE, 2 * PAGE, NONE, failed(Errno::EINVAL)),
        ] {
            let (dst, src) = (run.bytes(dst, len), run.bytes(src, len));
            assert_eq!(run.move_by(0, dst, src, mode), outcome, "{dst:?} {src:?}");
        }
    });
}

#[test]
fn v36_v23_e20_the_same_protection_and_this_context() {
    case("v36_v23_e20", 6).run(|run| {
        run.copy(1, 3);
        let (thread, _) = run.spawn(Op::protect(2, 3, Prot::READ));
        assert_eq!(run.move_(0, 2, 1, NONE), failed(Errno::EINVAL));
        assert_eq!(run.move_(2, 1, 1, NONE), failed(Errno::EINVAL));
        let high = run.span(4, 6);
        run.unregister(0, high).unwrap();
        assert_eq!(run.move_(4, 1, 1, NONE), failed(Errno::EINVAL));
        assert_eq!(run.get(thread, Op::Store(4, 1)), Back::Done);
        assert_eq!(run.move_(0, 4, 1, NONE), Outcome::done(PAGE));
        // Another context's destination; COPY works there.
        let other = run.open(Features::empty());
        run.register(other, high, RegisterModes::MISSING).unwrap();
        assert_eq!(run.move_(5, 1, 1, NONE), failed(Errno::EINVAL));
        assert_eq!(run.copy(5, 6), Outcome::done(PAGE));
    });
}

#[test]
fn v36_v73_e21_the_destination_before_the_source() {
    case("v36_v73_e21", 5).run(|run| {
        run.copy(0, 1);
        assert_eq!(run.move_(0, 3, 1, NONE), failed(Errno::EEXIST));
        assert_eq!(run.move_(1, 3, 1, NONE), failed(Errno::ENOENT));
        run.protect(1, 2, true);
        assert_eq!(run.move_(1, 0, 1, NONE), failed(Errno::EEXIST));
        // A marker at the source.
        run.poison(3, 4);
        for (src, mode) in [(1, NONE), (1, HOLES), (3, NONE), (3, HOLES)] {
            assert_eq!(run.move_(2, src, 1, mode), failed(Errno::EFAULT));
        }
    });
}

#[test]
fn v36_e3_e21_holes_and_a_short_move() {
    case("v36_holes", 8).run(|run| {
        run.copy(4, 5);
        run.copy(6, 7);
        assert_eq!(run.move_(0, 4, 4, NONE), Outcome::partial(PAGE));
        let sleeper = run.sleeper(Op::Load(1));
        assert_eq!(run.move_(1, 5, 3, HOLES), Outcome::done(3 * PAGE));
        // Woken for a page that is not there, it asks again.
        run.asleep(sleeper);
        assert_eq!(run.read(0, 8), ["F1r"]);
        assert_eq!((run.content(2), run.content(6)), (Some(source(6)), None));
    });
}

#[test]
fn v36_e22_the_bit_stays_behind_and_ranges_may_overlap() {
    case("v36_e22", 6).run(|run| {
        run.copy_wp(2, 3);
        assert_eq!(run.move_(0, 2, 1, NONE), Outcome::done(PAGE));
        assert!(!run.is_wp(0));
        assert_eq!(run.move_(0, 0, 1, NONE), failed(Errno::EEXIST));
        run.copy(4, 6);
        assert_eq!(run.move_(3, 4, 2, NONE), Outcome::done(2 * PAGE));
        assert_eq!((run.content(3), run.content(4)), (Some(source(4)), Some(source(5))));
        assert_eq!(run.move_(4, 3, 2, NONE), failed(Errno::EEXIST));
    });
}

#[test]
fn v37_e21_a_page_shared_by_a_fork_is_busy_until_it_is_written() {
    both("v37_e21", 6, Features::empty(), |run| {
        run.copy(2, 4);
        run.zero(1, 2);
        run.fork();
        assert_eq!(run.move_(0, 2, 1, NONE), failed(Errno::EBUSY));
        let (thread, _) = run.spawn(Op::Store(2, 1));
        assert_eq!(run.move_(0, 2, 1, NONE), Outcome::done(PAGE));
        assert_eq!(run.move_(4, 3, 1, NONE), failed(Errno::EBUSY));
        // The zero page belongs to everybody anyway.
        assert_eq!(run.move_(5, 1, 1, NONE), Outcome::done(PAGE));
        assert_eq!(run.get(thread, Op::Store(3, 2)), Back::Done);
        assert_eq!(run.move_(4, 3, 1, NONE), Outcome::done(PAGE));
    });
}

#[test]
fn v37_e21_busy_after_the_childs_end_as_well() {
    let case = Case::new("v37_exit", 4);
    case.run(|run| {
        run.copy(1, 2);
        let child = run.fork();
        run.kill(child);
        assert_eq!(run.move_(0, 1, 1, NONE), failed(Errno::EBUSY));
        let (_, settled) = run.spawn(Op::Store(1, 1));
        assert_eq!(settled, faultbed::judge::Settled::Returned(Back::Done));
        assert_eq!(run.move_(0, 1, 1, NONE), Outcome::done(PAGE));
    });
}
