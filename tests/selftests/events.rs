//! `events` and `events-wp`: a child that is watched from its fork on, moves its memory and
//! gives it up.

use shims::{Features, RegisterModes};
use sim::Content;

use super::{Monitor, copied, kinds, release, units};
use faultbed::judge::Case;
use faultbed::judge::{Back, Kind, Op, Piece};

fn events_common(name: &str, kind: Kind, wp: bool) {
    let unit = kind.granule();
    let pages = units(kind) * unit;
    let mut modes = RegisterModes::MISSING;
    modes.set(RegisterModes::WP, wp);
    let features = Features::EVENT_FORK | Features::EVENT_REMAP | Features::EVENT_REMOVE;
    let region = Piece::new(0, pages, kind);
    let other = Piece { at: pages, file: 1, ..region };
    let case = Case::new(name, 2 * pages).pieces(&[region, other]).features(features);
    case.modes(RegisterModes::empty()).run(|run| {
        let whole = run.span(0, pages);
        run.register(0, whole, modes).unwrap();
        let mut monitor = Monitor::new(kind, wp);
        let parent = run.sleeper(Op::Fork);
        monitor.serve(run);
        let settled = run.state(parent);
        let child = run.forked(settled);
        let thread = run.thread_in(child);
        let half = pages / unit / 2 * unit;
        let mut counter = 0;
        let mut pass =
            |run: &mut faultbed::judge::Run, monitor: &mut Monitor, from, to, by: u64| {
                for page in (from..to).step_by(unit as usize) {
                    let back = monitor.through(run, thread, Op::Load(page + by));
                    assert_eq!(back, Back::Loaded(copied(page + by)));
                    counter += 1;
                    let back = monitor.through(run, thread, Op::Store(page + by, counter));
                    assert_eq!(back, Back::Done);
                    let back = run.get(thread, Op::Load(page + by));
                    let own = Content::Written { task: thread as u16, seq: counter };
                    assert_eq!(back, Back::Loaded(own));
                }
            };
        pass(run, &mut monitor, 0, half, 0);
        // Over the other region, which nobody watches.
        let back = monitor.through(run, thread, Op::remap(0, pages, pages));
        assert_eq!(back, Back::Done);
        assert_eq!(monitor.at, pages);
        pass(run, &mut monitor, half, pages, pages);
        // What was there before the move is there.
        assert!(matches!(run.get(thread, Op::Load(pages)), Back::Loaded(Content::Written { .. })));
        let back = monitor.through(run, thread, release(kind, pages, 2 * pages));
        assert_eq!(back, Back::Done);
        // The monitor has unregistered what is being removed: zeros come by themselves.
        for page in (pages..2 * pages).step_by(unit as usize) {
            let back = run.get(thread, Op::Load(page));
            assert_eq!(back, Back::Loaded(Content::Zero), "page {page}");
        }
        assert_eq!(monitor.missing, units(kind));
        assert_eq!(monitor.protected, if wp { units(kind) } else { 0 });
    });
}

fn events(name: &str, kind: Kind) {
    events_common(name, kind, false);
}
kinds!(events: all);

fn events_wp(name: &str, kind: Kind) {
    events_common(name, kind, true);
}
kinds!(events_wp: all);
