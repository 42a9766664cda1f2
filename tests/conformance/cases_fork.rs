//! `fork` of a watched process: rules d25 to d30, d33, a4.

use shims::{CopyMode, Errno, Features, Outcome, RegisterModes, WriteProtectMode};
use sim::Content;

use faultbed::judge::{Back, Op, PAGE, Settled};
use faultbed::judge::{Case, Run, both, source};

const FORK: Features = Features::EVENT_FORK;
const BOTH: RegisterModes = RegisterModes::MISSING.union(RegisterModes::WP);

/// A fork that is announced to userfaultfd 0: the child, and its userfaultfd.
fn fork(run: &mut Run) -> (usize, usize) {
    let parent = run.sleeper(Op::Fork);
    assert_eq!(run.read(0, 1), ["FORK"]);
    let settled = run.state(parent);
    (run.forked(settled), 1)
}

#[test]
fn v38_d27_d33_the_parent_waits_for_the_reader_and_the_gate_is_shut_meanwhile() {
    both("v38_d27", 3, FORK, |run| {
        run.copy(0, 1);
        let parent = run.sleeper(Op::Fork);
        let changing = run.changing();
        assert_eq!(run.copy(1, 2), changing);
        assert_eq!(run.read(0, 1), ["FORK"]);
        assert!(matches!(run.state(parent), Settled::Returned(Back::Forked(1))));
        assert_eq!(run.copy(1, 2), Outcome::done(PAGE));
        assert_eq!(run.entry(1, 1).content, None);
    });
}

#[test]
fn v38_d26_d28_the_child_asks_its_own_userfaultfd_and_nobody_else_hears() {
    both("v38_d26", 3, FORK, |run| {
        run.copy(0, 1);
        let (child, theirs) = fork(run);
        let (thread, settled) = run.spawn_in(child, Op::Load(0));
        assert_eq!(settled, Settled::Returned(Back::Loaded(source(0))));
        assert_eq!(run.go(thread, Op::Load(1)), Settled::Asleep);
        assert_eq!(run.read(0, 8), [""; 0]);
        assert_eq!(run.read(theirs, 8), ["F1r"]);
        // Its handshake is over.
        let again = run.other(theirs, "api", |uffd| uffd.api(Features::empty()).map(|_| ()));
        assert_eq!(again, Err(Errno::EINVAL));
        let one = run.span(1, 2);
        let outcome = run.copy_span(theirs, one, CopyMode::empty());
        assert_eq!(outcome, Outcome::done(PAGE));
        run.returned(thread, Back::Loaded(source(1)));
        assert_eq!(run.content(1), None);
    });
}

#[test]
fn d26_without_the_event_the_child_is_not_watched() {
    Case::new("d26_plain", 4).modes(BOTH).features(Features::WP_UNPOPULATED).run(|run| {
        run.copy_wp(0, 1);
        run.protect(1, 2, true);
        run.poison(2, 3);
        let child = run.fork();
        let thread = run.thread_in(child);
        assert!(!run.entry(child, 0).wp && !run.entry(child, 1).wp);
        assert_eq!(run.get(thread, Op::Store(0, 1)), Back::Done);
        assert_eq!(run.get(thread, Op::Load(1)), Back::Loaded(Content::Zero));
        assert_eq!(run.get(thread, Op::touch(2, false)), Back::Bus);
        assert_eq!(run.get(thread, Op::Load(3)), Back::Loaded(Content::Zero));
        // The parent keeps its protection.
        assert!(run.is_wp(0) && run.is_wp(1));
        run.sleeper(Op::Store(0, 2));
        assert_eq!(run.read(0, 8), ["F0w WP"]);
    });
}

#[test]
fn d26_with_the_event_bits_and_markers_are_copied() {
    let features = FORK | Features::WP_UNPOPULATED;
    Case::new("d26_event", 3).modes(BOTH).features(features).run(|run| {
        run.copy_wp(0, 1);
        run.protect(1, 2, true);
        run.poison(2, 3);
        let (child, theirs) = fork(run);
        assert!(run.entry(child, 0).wp && run.entry(child, 1).wp);
        let (thread, settled) = run.spawn_in(child, Op::touch(2, false));
        assert_eq!(settled, Settled::Returned(Back::Bus));
        assert_eq!(run.go(thread, Op::Store(0, 1)), Settled::Asleep);
        assert_eq!(run.read(theirs, 8), ["F0w WP"]);
        let one = run.span(0, 1);
        let mode = WriteProtectMode::empty();
        let outcome = run.other(theirs, "unprotect", |uffd| uffd.write_protect(one, mode));
        assert_eq!(outcome, Outcome::OK);
        run.returned(thread, Back::Done);
        // The write went to a copy.
        assert!(run.is_wp(0));
        assert_eq!(run.content(0), Some(source(0)));
    });
}

#[test]
fn v42_d25_contexts_are_told_one_after_another_in_address_order() {
    both("v42_d25", 4, FORK, |run| {
        let other = run.open(FORK);
        let quiet = run.open(Features::empty());
        for (uffd, start) in [(other, 0), (quiet, 1)] {
            let range = run.span(start, start + 1);
            run.unregister(0, range).unwrap();
            run.register(uffd, range, RegisterModes::MISSING).unwrap();
        }
        let parent = run.sleeper(Op::Fork);
        let changing = run.changing();
        assert_eq!(run.copy(2, 3), changing);
        assert_eq!(run.read(0, 8), [""; 0]);
        assert_eq!(run.read(quiet, 8), [""; 0]);
        assert_eq!(run.read(other, 1), ["FORK"]);
        run.asleep(parent);
        assert_eq!(run.copy(2, 3), changing);
        assert_eq!(run.read(0, 1), ["FORK"]);
        let settled = run.state(parent);
        run.forked(settled);
    });
}

#[test]
fn v38_d28_a_child_forks_in_turn() {
    both("v38_d28", 2, FORK | Features::THREAD_ID, |run| {
        let (child, theirs) = fork(run);
        let (parent, settled) = run.spawn_in(child, Op::Fork);
        assert_eq!(settled, Settled::Asleep);
        assert_eq!(run.read(0, 8), [""; 0]);
        assert_eq!(run.read(theirs, 1), ["FORK"]);
        let settled = run.state(parent);
        let grandchild = run.forked(settled);
        let (thread, settled) = run.spawn_in(grandchild, Op::Load(0));
        assert_eq!(settled, Settled::Asleep);
        assert_eq!(run.read(2, 8).len(), 1);
        let one = run.span(0, 1);
        run.copy_span(2, one, CopyMode::empty());
        run.returned(thread, Back::Loaded(source(0)));
    });
}

#[test]
fn v38_a_page_is_shared_until_it_is_written_on_either_side() {
    both("v38_cow", 2, Features::empty(), |run| {
        run.copy(0, 2);
        let child = run.fork();
        let (parent, _) = run.spawn(Op::Store(0, 1));
        let (thread, settled) = run.spawn_in(child, Op::Load(0));
        assert_eq!(settled, Settled::Returned(Back::Loaded(source(0))));
        assert_eq!(run.get(thread, Op::Store(1, 2)), Back::Done);
        assert_eq!(run.get(parent, Op::Load(1)), Back::Loaded(source(1)));
    });
}

#[test]
fn d26_zero_pages_of_memory_without_private_pages_are_not_copied() {
    for (modes, installed, asks) in [
        (RegisterModes::MISSING, false, true),
        (BOTH, false, false),
        (RegisterModes::MISSING, true, false),
    ] {
        let case = Case::new("d26_zero", 2).modes(RegisterModes::empty()).features(FORK);
        case.run(|run| {
            let (thread, _) = run.spawn(Op::Load(0));
            run.returned(thread, Back::Loaded(Content::Zero));
            let whole = run.span(0, 2);
            run.register(0, whole, modes).unwrap();
            if installed {
                run.copy(1, 2);
            }
            let (child, _) = fork(run);
            let (_, settled) = run.spawn_in(child, Op::Load(0));
            assert_eq!(settled == Settled::Asleep, asks, "{modes:?}, {installed}");
        });
    }
}
