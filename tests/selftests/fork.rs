//! `wp-fork`, `wp-fork-with-event` and `wp-unpopulated`: what `pagemap` says of protected
//! pages, in a parent and in its child.

use shims::{Features, Outcome, RegisterModes};
use sim::Content;

use super::kinds;
use faultbed::judge::{Advise, Back, Kind, Op};
use faultbed::judge::{Case, Run};

const WP: RegisterModes = RegisterModes::WP;

/// Fork; is unit 0 protected in the child?
fn child_is_protected(run: &mut Run, event: bool) -> bool {
    let child = if event {
        let parent = run.sleeper(Op::Fork);
        assert_eq!(run.read(0, 1), ["FORK"]);
        let settled = run.state(parent);
        run.forked(settled)
    } else {
        run.fork()
    };
    run.entry(child, 0).wp
}

fn wp_fork_common(name: &str, kind: Kind, event: bool) {
    let unit = kind.granule();
    let features = if event { Features::EVENT_FORK } else { Features::empty() };
    let case = Case::new(name, 2 * unit).kind(kind).modes(WP).features(features);
    case.run(|run| {
        let (thread, _) = run.spawn(Op::Store(0, 1));
        run.returned(thread, Back::Done);
        assert_eq!(run.protect(0, unit, true), Outcome::OK);
        assert!(run.is_wp(0));
        assert_eq!(child_is_protected(run, event), event);
        // Zapped, shared memory keeps a marker; without swap, anonymous memory stays.
        if !matches!(kind, Kind::Anon) {
            run.get(thread, Op::dontneed(0, unit));
            assert!(run.is_wp(0));
            assert_eq!(child_is_protected(run, event), event);
        }
        assert_eq!(run.protect(0, unit, false), Outcome::OK);
        assert!(!run.is_wp(0));
        assert_eq!(run.get(thread, Op::Store(0, 2)), Back::Done);
    });
}

fn wp_fork(name: &str, kind: Kind) {
    wp_fork_common(name, kind, false);
}
kinds!(wp_fork: all);

fn wp_fork_with_event(name: &str, kind: Kind) {
    wp_fork_common(name, kind, true);
}
kinds!(wp_fork_with_event: all);

/// The original's `MADV_PAGEOUT`, which on a machine without swap leaves the page.
#[test]
fn wp_fork_anon_paged_out() {
    Case::new("wp_fork, paged out", 2).modes(WP).run(|run| {
        let (thread, _) = run.spawn(Op::Store(0, 1));
        run.protect(0, 1, true);
        run.get(thread, Op::advise(0, 1, Advise::PageOut));
        assert!(run.is_wp(0));
        assert!(!child_is_protected(run, false));
    });
}

fn wp_unpopulated(name: &str, kind: Kind) {
    let case = Case::new(name, 1).kind(kind).modes(WP).features(Features::WP_UNPOPULATED);
    case.run(|run| {
        assert!(!run.is_wp(0));
        run.protect(0, 1, true);
        assert!(run.is_wp(0));
        run.protect(0, 1, false);
        assert!(!run.is_wp(0));
        run.protect(0, 1, true);
        let (thread, _) = run.spawn(Op::dontneed(0, 1));
        assert!(!run.is_wp(0));
        // Nothing is left, so a write is free.
        assert_eq!(run.get(thread, Op::Store(0, 1)), Back::Done);
        run.get(thread, Op::dontneed(0, 1));
        // A marker that is read becomes a protected page of zeros.
        run.protect(0, 1, true);
        assert_eq!(run.get(thread, Op::Load(0)), Back::Loaded(Content::Zero));
        assert!(run.is_wp(0));
        run.protect(0, 1, false);
        assert!(!run.is_wp(0));
    });
}
kinds!(wp_unpopulated: anon = Anon);
