//! The kernel's own self-tests of userfaultfd, restated by their names and memory types, on
//! both kernels: `uffd-unit-tests`, `uffd-stress` and `uffd-wp-mremap` of
//! `tools/testing/selftests/mm`. Owns what they share; each file is a group of them.
//!
//! `wp-fork-pin` and `wp-fork-pin-with-event` are not here: they pin pages through a driver
//! of `CONFIG_GUP_TEST`, and the simulator has no pins.

mod api;
mod events;
mod fork;
mod minor;
mod missing;
mod move_page;
mod stress;
mod wp_mremap;

use shims::{CopyMode, Event, FaultKind, Outcome, Span};

use faultbed::judge::{Advise, Kind, Op, PAGE};
use faultbed::judge::{Run, source};

/// One test for each memory type, in a module of the name of the self-test.
macro_rules! kinds {
    ($name:ident: all) => {
        crate::selftests::kinds!($name: anon = Anon, shmem = Shmem, shmem_private = ShmemPrivate,
            hugetlb = Huge, hugetlb_private = HugePrivate);
    };
    ($name:ident: $($kind:ident = $value:ident),*) => {
        mod $name {
            $(#[test]
            fn $kind() {
                super::$name(concat!(stringify!($name), "::", stringify!($kind)), faultbed::judge::Kind::$value);
            })*
        }
    };
}
use kinds;

/// How many units a region has: the originals have 32 MiB.
const fn units(kind: Kind) -> u64 {
    if kind.is_huge() { 4 } else { 8 }
}

/// How the originals get rid of pages.
fn release(kind: Kind, start: u64, end: u64) -> Op {
    match kind {
        Kind::Anon | Kind::HugePrivate | Kind::ShmemPrivate => Op::dontneed(start, end),
        Kind::Shmem | Kind::Huge => Op::advise(start, end, Advise::Remove),
    }
}

/// Who answers the messages: the originals' `uffd_handle_page_fault` and poll thread.
struct Monitor {
    uffd: usize,
    kind: Kind,
    /// Install protected, and take the protection off when somebody writes.
    wp: bool,
    missing: u64,
    protected: u64,
    /// Where the region that was at page 0 is now.
    at: u64,
}

impl Monitor {
    fn new(kind: Kind, wp: bool) -> Monitor {
        Monitor { uffd: 0, kind, wp, missing: 0, protected: 0, at: 0 }
    }

    fn unit_at(&self, run: &Run, page: u64) -> Span {
        run.span(page, page + self.kind.granule())
    }

    /// Answer everything that can be read.
    fn serve(&mut self, run: &mut Run) {
        loop {
            let events = run.events(self.uffd, 1);
            let Some(event) = events.first() else { return };
            match *event {
                Event::Fault(fault) => {
                    let page = run.page_at(fault.addr);
                    let range = self.unit_at(run, page);
                    match fault.kind() {
                        FaultKind::Wp => {
                            self.protected += 1;
                            let outcome = run.protect_by(self.uffd, range, false);
                            assert_eq!(outcome, Outcome::OK);
                        }
                        FaultKind::Missing => {
                            self.missing += 1;
                            self.fill(run, page);
                        }
                        FaultKind::Minor => panic!("nobody asked for minor faults"),
                    }
                }
                Event::Fork { .. } => self.uffd = run.uffds() - 1,
                Event::Remove(range) => {
                    run.unregister(self.uffd, range).expect("the original asserts that");
                }
                Event::Remap { to, .. } => self.at = run.page_at(to),
                other => panic!("the original has no answer to {other:?}"),
            }
        }
    }

    /// `copy_page_retry`: install, then try again.
    fn fill(&self, run: &mut Run, page: u64) {
        let range = self.unit_at(run, page);
        let mode = if self.wp { CopyMode::WP } else { CopyMode::empty() };
        let outcome = run.copy_span(self.uffd, range, mode);
        assert_eq!(outcome, Outcome::done(self.kind.granule() * PAGE));
        let again = run.copy_span(self.uffd, range, mode);
        assert_eq!(again, Outcome::mirrored(shims::Errno::EEXIST));
    }

    /// `thread` does `op`, however many faults it takes.
    #[track_caller]
    fn through(&mut self, run: &mut Run, thread: usize, op: Op) -> faultbed::judge::Back {
        let mut settled = run.go(thread, op);
        for _ in 0..8 {
            if let faultbed::judge::Settled::Returned(back) = settled {
                return back;
            }
            self.serve(run);
            settled = run.state(thread);
        }
        panic!("{op:?} never returns");
    }
}

/// What the monitor's copy of the unit at `page` looks like.
fn copied(page: u64) -> sim::Content {
    source(page)
}
