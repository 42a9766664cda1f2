//! `minor`, `minor-wp` and `minor-collapse`: pages that one mapping has brought and another
//! asks for.

use shims::{ContinueMode, Errno, Outcome, RegisterModes};
use sim::Content;

use super::{kinds, units};
use faultbed::judge::Case;
use faultbed::judge::{Advise, Back, Kind, Op, PAGE, Piece, Scan, Settled};

/// `PAGE_IS_HUGE`.
const IS_HUGE: u64 = 1 << 6;

fn minor_common(name: &str, kind: Kind, wp: bool, collapse: bool) {
    let unit = kind.granule();
    let pages = if collapse { 512 } else { units(kind) * unit };
    let region = Piece::new(0, pages, kind);
    let alias = Piece { at: pages, ..region };
    let case = Case::new(name, 2 * pages).pieces(&[region, alias]);
    case.modes(RegisterModes::empty()).run(|run| {
        let watched = run.span(pages, 2 * pages);
        let mut modes = RegisterModes::MINOR;
        modes.set(RegisterModes::WP, wp);
        run.register(0, watched, modes).unwrap();
        let writer = run.thread();
        let step = if collapse { 64 } else { unit };
        if collapse {
            run.get(writer, Op::populate(0, pages, true));
        }
        for page in (0..pages).step_by(step as usize) {
            assert_eq!(run.get(writer, Op::Store(page, 1)), Back::Done);
        }
        let mut faults = 0;
        for page in (0..pages).step_by(step as usize) {
            let there = pages + page;
            let reader = run.sleeper(Op::Load(there));
            assert_eq!(run.read(0, 8), [format!("F{there}r MINOR")]);
            faults += 1;
            // The handler changes the page through the other mapping, then maps it.
            assert_eq!(run.get(writer, Op::Store(page, 2)), Back::Done);
            let mode = if wp { ContinueMode::WP } else { ContinueMode::empty() };
            let outcome = run.cont(there, there + unit, mode);
            assert_eq!(outcome, Outcome::done(unit * PAGE));
            let again = run.cont(there, there + unit, mode);
            assert_eq!(again, Outcome::mirrored(Errno::EEXIST));
            let bytes = Content::Written { task: writer as u16, seq: 2 };
            run.returned(reader, Back::Loaded(bytes));
            assert_eq!(run.is_wp(there), wp);
        }
        assert_eq!(faults, pages / step);
        if collapse {
            let (_, settled) = run.spawn(Op::advise(pages, 2 * pages, Advise::Collapse));
            assert_eq!(settled, Settled::Returned(Back::Done));
            let scan = Scan { start: pages, end: 2 * pages, flags: 0, mask: IS_HUGE };
            assert_eq!(run.scan(scan), Ok(vec![(pages, 2 * pages, IS_HUGE)]));
            for page in (0..pages).step_by(step as usize) {
                let bytes = Content::Written { task: writer as u16, seq: 2 };
                assert_eq!(run.get(writer, Op::Load(pages + page)), Back::Loaded(bytes));
            }
        }
    });
}

fn minor(name: &str, kind: Kind) {
    minor_common(name, kind, false, false);
}
kinds!(minor: shmem = Shmem, hugetlb = Huge);

fn minor_wp(name: &str, kind: Kind) {
    minor_common(name, kind, true, false);
}
kinds!(minor_wp: shmem = Shmem, hugetlb = Huge);

fn minor_collapse(name: &str, kind: Kind) {
    minor_common(name, kind, false, true);
}
kinds!(minor_collapse: shmem = Shmem);
