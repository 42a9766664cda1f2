//! `sigbus`, `sigbus-wp` and `poison`.

use shims::{Features, Outcome, RegisterModes};

use super::{Monitor, kinds, release, units};
use faultbed::judge::{Back, Kind, Op, PAGE, Settled};
use faultbed::judge::{Case, source};

fn sigbus_common(name: &str, kind: Kind, wp: bool) {
    let unit = kind.granule();
    let pages = units(kind) * unit;
    let mut modes = RegisterModes::MISSING;
    modes.set(RegisterModes::WP, wp);
    let features = Features::SIGBUS | Features::EVENT_FORK;
    Case::new(name, pages).kind(kind).modes(modes).features(features).run(|run| {
        let monitor = Monitor::new(kind, wp);
        let thread = run.thread();
        let mut signals = 0;
        for page in (0..pages).step_by(unit as usize) {
            assert_eq!(run.get(thread, Op::touch(page, false)), Back::Bus);
            signals += 1;
            monitor.fill(run, page);
            assert_eq!(run.get(thread, Op::Load(page)), Back::Loaded(source(page)));
            if wp {
                assert_eq!(run.get(thread, Op::touch(page, true)), Back::Bus);
                signals += 1;
                assert_eq!(run.protect(page, page + unit, false), Outcome::OK);
            }
            assert_eq!(run.get(thread, Op::Store(page, 1)), Back::Done);
        }
        assert_eq!(signals, units(kind) * (1 + u64::from(wp)));
        run.get(thread, release(kind, 0, pages));
        let parent = run.sleeper(Op::Fork);
        assert_eq!(run.read(0, 1), ["FORK"]);
        let settled = run.state(parent);
        let child = run.forked(settled);
        let thread = run.thread_in(child);
        for page in (0..pages).step_by(unit as usize) {
            assert_eq!(run.get(thread, Op::touch(page, true)), Back::Bus, "page {page}");
        }
        // The monitor has seen none of it.
        assert_eq!((run.read(0, 8), run.read(1, 8)), (vec![], vec![]));
    });
}

fn sigbus(name: &str, kind: Kind) {
    sigbus_common(name, kind, false);
}
kinds!(sigbus: all);

fn sigbus_wp(name: &str, kind: Kind) {
    sigbus_common(name, kind, true);
}
kinds!(sigbus_wp: all);

fn poison(name: &str, kind: Kind) {
    let unit = kind.granule();
    let pages = units(kind) * unit;
    Case::new(name, pages).kind(kind).modes(RegisterModes::empty()).run(|run| {
        let whole = run.span(0, pages);
        let granted = run.register(0, whole, RegisterModes::MISSING).unwrap();
        // COPY and POISON.
        assert_eq!(granted.bits() & (1 << 3 | 1 << 8), 1 << 3 | 1 << 8);
        let mut signals = 0;
        for (n, page) in (0..pages).step_by(unit as usize).enumerate() {
            let (thread, settled) = run.spawn(Op::touch(page, false));
            assert_eq!(settled, Settled::Asleep);
            assert_eq!(run.read(0, 8).len(), 1);
            let poisoned = n % 2 == 0;
            let outcome =
                if poisoned { run.poison(page, page + unit) } else { run.copy(page, page + unit) };
            assert_eq!(outcome, Outcome::done(unit * PAGE));
            let back = if poisoned { Back::Bus } else { Back::Loaded(source(page)) };
            run.returned(thread, back);
            signals += u64::from(poisoned);
        }
        assert_eq!(signals, units(kind) / 2);
    });
}
kinds!(poison: all);
