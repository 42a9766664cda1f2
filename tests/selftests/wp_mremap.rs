//! `uffd-wp-mremap`: protection does not move along where nobody asked for `EVENT_REMAP`.

use shims::{Outcome, RegisterModes};

use super::kinds;
use faultbed::judge::Case;
use faultbed::judge::{Advise, Back, Kind, Op, Piece};

/// One folio of `pages`, protected, moved to an aligned place.
fn moved(name: &str, kind: Kind, pages: u64, advice: Option<Advise>) {
    let piece = Piece::new(0, pages, kind);
    let case = Case::new(name, 2 * pages).pieces(&[piece]).modes(RegisterModes::WP);
    case.run(|run| {
        let thread = run.thread();
        if let Some(advice) = advice.filter(|advice| *advice == Advise::HugePage) {
            run.get(thread, Op::advise(0, pages, advice));
        }
        for page in (0..pages).step_by(kind.granule() as usize) {
            assert_eq!(run.get(thread, Op::Store(page, 1)), Back::Done);
        }
        assert_eq!(run.protect(0, pages, true), Outcome::OK);
        if advice == Some(Advise::PageOut) {
            run.get(thread, Op::advise(0, pages, Advise::PageOut));
        }
        let all = |run: &mut faultbed::judge::Run, from: u64| {
            let step = kind.granule() as usize;
            (from..from + pages).step_by(step).filter(|page| run.is_wp(*page)).count()
        };
        assert_eq!(all(run, 0) as u64, pages / kind.granule());
        assert_eq!(run.get(thread, Op::remap(0, pages, pages)), Back::Done);
        assert_eq!(all(run, pages), 0);
        assert_eq!(run.get(thread, Op::Store(pages, 2)), Back::Done);
    });
}

fn uffd_wp_mremap(name: &str, kind: Kind) {
    moved(name, kind, 2 * kind.granule(), None);
}
kinds!(uffd_wp_mremap: all);

/// On a machine without swap anonymous pages are written to no place, and stay; those of a file
/// stay in the file and leave the page table.
fn uffd_wp_mremap_swapped(name: &str, kind: Kind) {
    moved(name, kind, 2, Some(Advise::PageOut));
}
kinds!(uffd_wp_mremap_swapped: anon = Anon, shmem = Shmem);

fn uffd_wp_mremap_thp(name: &str, kind: Kind) {
    moved(name, kind, 512, Some(Advise::HugePage));
}
kinds!(uffd_wp_mremap_thp: anon = Anon);
