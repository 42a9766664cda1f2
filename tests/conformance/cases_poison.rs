//! Pages that fail on purpose, and accesses that get a signal instead of a message: rules
//! c5, c6, c12, e14, e16, b15.

use shims::{Errno, Features, Outcome, PoisonMode, RegisterModes};
use sim::Content;

use faultbed::judge::{Back, Op, PAGE};
use faultbed::judge::{Case, both, source};

const BOTH: RegisterModes = RegisterModes::MISSING.union(RegisterModes::WP);

#[test]
fn v33_c12_an_access_to_a_poisoned_page_is_a_signal_and_a_populate_an_error() {
    both("v33_c12", 2, Features::empty(), |run| {
        let sleeper = run.sleeper(Op::touch(0, false));
        assert_eq!(run.read(0, 8), ["F0r"]);
        assert_eq!(run.poison(0, 1), Outcome::done(PAGE));
        run.returned(sleeper, Back::Bus);
        let thread = run.thread();
        assert_eq!(run.get(thread, Op::touch(0, true)), Back::Bus);
        for write in [false, true] {
            let back = run.get(thread, Op::populate(0, 1, write));
            assert_eq!(back, Back::Err(Errno::EHWPOISON));
        }
        assert_eq!(run.read(0, 8), [""; 0]);
    });
}

#[test]
fn v33_c12_what_the_kernel_says_on_a_threads_behalf() {
    Case::new("v33_c12_kernel", 2).run(|run| {
        assert_eq!(run.poison(0, 1), Outcome::done(PAGE));
        let thread = run.thread();
        for write in [false, true] {
            let back = run.get(thread, Op::UserCopy { at: 0, write });
            assert_eq!(back, Back::Err(Errno::EFAULT));
            let back = run.get(thread, Op::Remote { at: 0, write });
            assert_eq!(back, Back::Err(Errno::EFAULT));
        }
        assert_eq!(
            run.get(thread, Op::Lock { at: 0, len: PAGE, on_fault: false }),
            Back::Err(Errno::ENOMEM)
        );
        assert_eq!(run.read(0, 8), [""; 0]);
    });
}

#[test]
fn v34_e10_e14_a_copy_covers_poison_and_a_zero_page_does_not() {
    both("v34_anon", 2, Features::empty(), |run| {
        run.poison(0, 2);
        assert_eq!(run.zero(0, 1), Outcome::mirrored(Errno::EEXIST));
        assert_eq!(run.copy(0, 1), Outcome::done(PAGE));
        let (thread, _) = run.spawn(Op::Load(0));
        run.returned(thread, Back::Loaded(source(0)));
    });
}

#[test]
fn e16_poison_needs_an_empty_entry() {
    Case::new("e16", 4).modes(BOTH).features(Features::WP_UNPOPULATED).run(|run| {
        run.copy(2, 3);
        run.protect(3, 4, true);
        assert_eq!(run.poison(0, 3), Outcome::partial(2 * PAGE));
        for page in 0..4 {
            let outcome = run.poison(page, page + 1);
            assert_eq!(outcome, Outcome::mirrored(Errno::EEXIST), "{page}");
        }
        let range = run.span(0, 1);
        let unknown = PoisonMode::from_bits_retain(2);
        let outcome = run.other(0, "unknown mode", |uffd| uffd.poison(range, unknown));
        assert_eq!(outcome, Outcome::bare(Errno::EINVAL));
        // Write protection passes it by.
        for on in [true, false] {
            assert_eq!(run.protect(0, 1, on), Outcome::OK);
            let (thread, _) = run.spawn(Op::touch(0, false));
            run.returned(thread, Back::Bus);
        }
    });
}

#[test]
fn b15_poison_outlives_the_registration_and_ends_with_a_removal() {
    both("b15", 1, Features::empty(), |run| {
        run.poison(0, 1);
        let whole = run.span(0, 1);
        run.unregister(0, whole).unwrap();
        let (thread, _) = run.spawn(Op::touch(0, true));
        run.returned(thread, Back::Bus);
        run.go(thread, Op::dontneed(0, 1));
        assert_eq!(run.get(thread, Op::Load(0)), Back::Loaded(Content::Zero));
    });
}

#[test]
fn e16_dontwake_poisons_and_lets_sleep() {
    both("e16_dontwake", 1, Features::empty(), |run| {
        let sleeper = run.sleeper(Op::touch(0, true));
        let whole = run.span(0, 1);
        let mode = PoisonMode::DONTWAKE;
        let outcome = run.other(0, "poison dontwake", |uffd| uffd.poison(whole, mode));
        assert_eq!(outcome, Outcome::done(PAGE));
        run.asleep(sleeper);
        run.wake(0, whole).unwrap();
        run.returned(sleeper, Back::Bus);
    });
}

#[test]
fn v55_c5_c6_the_feature_sigbus_is_a_signal_and_no_message() {
    Case::new("v55_c6", 2).modes(BOTH).features(Features::SIGBUS).run(|run| {
        let thread = run.thread();
        assert_eq!(run.get(thread, Op::touch(0, false)), Back::Bus);
        for write in [false, true] {
            let back = run.get(thread, Op::populate(0, 1, write));
            assert_eq!(back, Back::Err(Errno::EFAULT));
        }
        run.copy_wp(0, 1);
        assert_eq!(run.get(thread, Op::Load(0)), Back::Loaded(source(0)));
        assert_eq!(run.get(thread, Op::touch(0, true)), Back::Bus);
        assert_eq!(run.get(thread, Op::populate(0, 1, true)), Back::Err(Errno::EFAULT));
        run.protect(0, 1, false);
        assert_eq!(run.get(thread, Op::touch(0, true)), Back::Done);
        assert_eq!(run.read(0, 8), [""; 0]);
    });
}
