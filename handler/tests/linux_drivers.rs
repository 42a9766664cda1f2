//! Both drivers against the running kernel, at 4 KiB and at 2 MiB: what is served, in
//! which order, what a snapshot says, and how a driver ends. Each test that finds no
//! userfaultfd, or no huge pages, reports itself as skipped; with
//! `FAULTBED_REQUIRE_KERNEL=1` it fails instead.
#![cfg(all(target_os = "linux", feature = "linux"))]

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::Scope;
use std::time::Duration;

use faultbed_handler::states::{self, PageStates};
use faultbed_handler::{
    Backing, Backoff, Control, Driver, HandlerError, ImageFile, OnSourceError, PageSource, Policy,
    RegionMap, Report, SourceError, Status, StopReason, Writes,
};
use shims::linux::hugepages::Reservation;
use shims::linux::{Advice, Capability, Mapping, OpenFlags, PollWaiter, UserFault};
use shims::{Errno, Features, Len, PageNo, PageSize, RegisterModes, Uffd, Waiter, Wakeup};

/// How long a thread that must go on may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a thread that must not go on is watched.
const NAP: Duration = Duration::from_millis(30);

#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    Single,
    Threads,
}

/// Registered memory and its descriptor.
struct Rig {
    // In this order: the mapping goes before the reservation of its huge pages.
    map: Arc<Mapping>,
    uffd: UserFault,
    backing: Backing,
    _pool: Option<Reservation>,
}

/// A driver that serves a rig, and threads that touch its memory.
struct World<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    map: Arc<Mapping>,
    control: Control<PollWaiter<&'env UserFault>>,
    report: Task<Report>,
    page: u64,
}

/// Every byte of page `n` is `n + 1`. Fetches of one page can be made to wait.
#[derive(Clone)]
struct Pattern {
    page: PageSize,
    gate: Option<Arc<Gate>>,
}

/// A fetch of this page says that it has begun, then waits to be let go on.
struct Gate {
    page: u64,
    begun: Mutex<Sender<()>>,
    go: Mutex<Receiver<()>>,
}

impl PageSource for Pattern {
    fn page_size(&self) -> PageSize {
        self.page
    }

    fn read_page(&self, page: PageNo, buf: &mut [u8]) -> Result<(), SourceError> {
        buf.fill(page.index() as u8 + 1);
        if let Some(gate) = self.gate.as_ref().filter(|g| g.page == page.index()) {
            gate.begun.lock().unwrap().send(()).unwrap();
            let _ = gate.go.lock().unwrap().recv_timeout(PATIENCE);
        }
        Ok(())
    }
}

impl Pattern {
    fn new(page: PageSize) -> Pattern {
        Pattern { page, gate: None }
    }

    /// With fetches of page `gated` held: hear of them, let them go on.
    fn gated(page: PageSize, gated: u64) -> (Pattern, Receiver<()>, Sender<()>) {
        let (begun, hear) = channel();
        let (let_go, go) = channel();
        let gate = Gate { page: gated, begun: Mutex::new(begun), go: Mutex::new(go) };
        (Pattern { page, gate: Some(Arc::new(gate)) }, hear, let_go)
    }
}

impl Rig {
    /// `pages` registered pages of that size, or a test skipped by name.
    fn new(test: &str, page: PageSize, pages: u64) -> Option<Rig> {
        Rig::registered(test, page, pages, RegisterModes::MISSING)
    }

    fn registered(test: &str, page: PageSize, pages: u64, modes: RegisterModes) -> Option<Rig> {
        let mut features = Features::EVENT_REMOVE;
        if page != PageSize::KIB4 {
            features |= Features::MISSING_HUGETLBFS;
        }
        if modes.contains(RegisterModes::WP) {
            features |= Features::PAGEFAULT_FLAG_WP;
            features.set(Features::WP_HUGETLBFS_SHMEM, page != PageSize::KIB4);
        }
        Capability::gate(test, OpenFlags::empty(), features)?;
        let len = Len::pages(pages, page).unwrap();
        let (map, pool) = if page == PageSize::KIB4 {
            (Mapping::anonymous(len).unwrap(), None)
        } else {
            let pool = Reservation::gate(test, pages)?;
            (Mapping::hugetlb(len).unwrap(), Some(pool))
        };
        let (uffd, _) = UserFault::connect(OpenFlags::empty(), features).unwrap();
        uffd.register(map.span(), modes).unwrap();
        Some(Rig { map: Arc::new(map), uffd, backing: Backing::Anonymous, _pool: pool })
    }

    /// Run `body` while a driver of that kind serves. However it ends, everybody is
    /// released. Returns the driver's report.
    fn serve<'env>(
        &'env self,
        kind: Kind,
        policy: Policy,
        source: impl PageSource + Send + Sync + 'env,
        body: impl for<'scope> FnOnce(World<'scope, 'env>) -> Report,
    ) -> Report {
        std::thread::scope(|scope| {
            let release = Release(self);
            let regions = RegionMap::single(self.map.page_range()).backed_by(self.backing);
            let waiter = PollWaiter::new(&self.uffd).unwrap();
            let driver = Driver::new(policy, regions, &self.uffd, waiter, source).unwrap();
            let control = driver.control();
            let stop = Stop(driver.control());
            let report = Task::spawn(scope, move || match kind {
                Kind::Single => driver.run_single(),
                Kind::Threads => driver.run_threads(NonZeroUsize::new(4).unwrap()),
            });
            let page = self.map.page_size().bytes();
            let world = World { scope, map: Arc::clone(&self.map), control, report, page };
            let report = body(world);
            drop((stop, release));
            report
        })
    }
}

/// Wakes whoever sleeps, because of a fault or of an event.
struct Release<'a>(&'a Rig);

impl Drop for Release<'_> {
    fn drop(&mut self) {
        let Rig { uffd, map, .. } = self.0;
        let _ = uffd.unregister(map.span());
        let _ = uffd.wake(map.span());
        let Ok(waiter) = PollWaiter::new(uffd) else { return };
        let until = waiter.now().after(NAP);
        while waiter.wait(Some(until)).is_ok_and(|w| !w.contains(Wakeup::TIMEOUT)) {
            let _ = uffd.read_events(&mut Vec::new(), 128);
        }
    }
}

/// Stops the driver.
struct Stop<'a>(Control<PollWaiter<&'a UserFault>>);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// A thread that makes one access or call.
struct Task<T>(Receiver<T>);

impl<T: Send> Task<T> {
    fn spawn<'scope>(
        scope: &'scope Scope<'scope, '_>,
        body: impl FnOnce() -> T + Send + 'scope,
    ) -> Task<T>
    where
        T: 'scope,
    {
        let (tell, told) = channel();
        scope.spawn(move || {
            let _ = tell.send(body());
        });
        Task(told)
    }

    /// Its result, which must come.
    #[track_caller]
    fn done(self) -> T {
        self.0.recv_timeout(PATIENCE).expect("the thread sleeps for ever")
    }

    #[track_caller]
    fn assert_asleep(&self) {
        assert!(
            matches!(self.0.recv_timeout(NAP), Err(RecvTimeoutError::Timeout)),
            "the thread does not sleep"
        );
    }
}

impl World<'_, '_> {
    fn task<T: Send + 'static>(
        &self,
        body: impl FnOnce(&Mapping) -> T + Send + 'static,
    ) -> Task<T> {
        let map = Arc::clone(&self.map);
        Task::spawn(self.scope, move || body(&map))
    }

    /// Read a page on another thread.
    fn reading(&self, page: u64) -> Task<u8> {
        let at = page * self.page;
        self.task(move |map| map.read_byte(at))
    }

    fn writing(&self, page: u64, value: u8) -> Task<()> {
        let at = page * self.page;
        self.task(move |map| map.write_byte(at, value))
    }

    fn removing(&self, first: u64, count: u64) -> Task<Result<(), Errno>> {
        let (at, len) = (first * self.page, count * self.page);
        self.task(move |map| map.dontneed(at, len))
    }

    #[track_caller]
    fn read(&self, page: u64) -> u8 {
        self.reading(page).done()
    }

    #[track_caller]
    fn write(&self, page: u64, value: u8) {
        self.writing(page, value).done();
    }

    #[track_caller]
    fn remove(&self, first: u64, count: u64) {
        self.removing(first, count).done().unwrap();
    }

    /// Begin anew; the pages that were dirty until then.
    fn baseline(&self) -> Vec<u64> {
        let dirty = |states: &PageStates| {
            let dirty = states.records().iter().filter(|r| r.state() == states::DIRTY);
            Ok::<_, ()>(dirty.map(|r| r.offset() / self.page).collect())
        };
        self.control.baseline(dirty).unwrap().unwrap()
    }

    fn snapshot(&self) -> PageStates {
        self.control.snapshot().unwrap()
    }

    /// `(page, state)` of every page that is not missing.
    fn states(&self) -> Vec<(u64, u8)> {
        let states = self.snapshot();
        states.records().iter().map(|r| (r.offset() / self.page, r.state())).collect()
    }

    #[track_caller]
    fn stop(self) -> Report {
        self.control.stop();
        self.report.done()
    }
}

fn clean(report: &Report) {
    assert_eq!(report.status, Status::Stopped(StopReason::Requested));
    assert_eq!(report.counters.pending(), 0, "{:?}", report.counters);
    assert_eq!(report.counters.failed, 0, "{:?}", report.counters);
}

/// Defines a test for each driver at each page size.
macro_rules! each {
    ($($name:ident($rig:ident: $pages:literal, $kind:ident) $body:block)*) => {$(
        mod $name {
            use super::*;

            fn run(test: &str, $kind: Kind, page: PageSize) {
                let Some($rig) = Rig::new(test, page, $pages) else { return };
                $body
            }

            #[test]
            fn single_4k() {
                run(concat!(stringify!($name), "::single_4k"), Kind::Single, PageSize::KIB4);
            }
            #[test]
            fn single_2m() {
                run(concat!(stringify!($name), "::single_2m"), Kind::Single, PageSize::MIB2);
            }
            #[test]
            fn threads_4k() {
                run(concat!(stringify!($name), "::threads_4k"), Kind::Threads, PageSize::KIB4);
            }
            #[test]
            fn threads_2m() {
                run(concat!(stringify!($name), "::threads_2m"), Kind::Threads, PageSize::MIB2);
            }
        }
    )*};
}

each! {
    missing(rig: 6, kind) {
        let source = Pattern::new(rig.map.page_size());
        let report = rig.serve(kind, Policy::default(), source, |world| {
            assert_eq!(world.read(0), 1);
            assert_eq!(world.read(3), 4);
            world.write(5, 77);
            assert_eq!(world.read(0), 1);
            assert_eq!(world.read(5), 77);
            let last = 6 * world.page - 1;
            assert_eq!(world.task(move |map| map.read_byte(last)).done(), 6, "the rest is the source's");
            let expected = [(0, states::CLEAN), (3, states::CLEAN), (5, states::DIRTY)];
            assert_eq!(world.states(), expected);
            let snapshot = world.snapshot();
            assert_eq!(snapshot.all_accessed(), [0, 3 * world.page, 5 * world.page]);
            world.stop()
        });
        clean(&report);
        assert_eq!((report.counters.faults, report.counters.installed), (3, 3));
    }

    remove_multi_page(rig: 6, kind) {
        let source = Pattern::new(rig.map.page_size());
        let report = rig.serve(kind, Policy::default(), source, |world| {
            assert_eq!((world.read(0), world.read(2)), (1, 3));
            world.remove(1, 4);
            let gone = [1, 2, 3, 4].map(|page| (page, states::REMOVED));
            assert_eq!(world.states(), [&[(0, states::CLEAN)][..], &gone].concat());
            // A removed page reads as zeros, whether it had been there or not.
            assert_eq!((world.read(2), world.read(3), world.read(5)), (0, 0, 6));
            world.write(4, 9);
            let expected = [
                (0, states::CLEAN),
                (1, states::REMOVED),
                (2, states::ZERO),
                (3, states::ZERO),
                (4, states::DIRTY),
                (5, states::CLEAN),
            ];
            assert_eq!(world.states(), expected);
            assert_eq!(world.read(4), 9, "asking about a page leaves its bytes alone");
            world.stop()
        });
        clean(&report);
    }

    remove_then_write_gated(rig: 2, kind) {
        let source = Pattern::new(rig.map.page_size());
        let report = rig.serve(kind, Policy::default(), source, |world| {
            assert_eq!(world.read(0), 1);
            world.control.pause();
            let remove = world.removing(0, 1);
            remove.assert_asleep();
            // Until the REMOVE is read the page stays mapped: the write is lost with it.
            world.write(0, 9);
            world.control.resume();
            remove.done().unwrap();
            assert_eq!(world.states(), [(0, states::REMOVED)]);
            assert_eq!(world.read(0), 0);
            world.stop()
        });
        clean(&report);
    }

    write_then_remove_gated(rig: 2, kind) {
        let source = Pattern::new(rig.map.page_size());
        let report = rig.serve(kind, Policy::default(), source, |world| {
            assert_eq!(world.read(0), 1);
            world.control.pause();
            let write = world.writing(1, 9);
            write.assert_asleep();
            let remove = world.removing(0, 1);
            remove.assert_asleep();
            world.control.resume();
            write.done();
            remove.done().unwrap();
            assert_eq!(world.states(), [(0, states::REMOVED), (1, states::DIRTY)]);
            assert_eq!(world.read(1), 9);
            world.stop()
        });
        clean(&report);
    }

    faulted_short_circuit_ordering(rig: 2, kind) {
        let source = Pattern::new(rig.map.page_size());
        let report = rig.serve(kind, Policy::default(), source, |world| {
            assert_eq!(world.read(0), 1);
            world.control.pause();
            let remove = world.removing(0, 1);
            remove.assert_asleep();
            let write = world.writing(1, 9);
            write.assert_asleep();
            world.control.resume();
            write.done();
            remove.done().unwrap();
            assert_eq!(world.states(), [(0, states::REMOVED), (1, states::DIRTY)]);
            world.stop()
        });
        clean(&report);
    }

    parallel_missing(rig: 2, kind) {
        let source = Pattern::new(rig.map.page_size());
        let report = rig.serve(kind, Policy::default(), source, |world| {
            let size = world.page;
            let reads: Vec<_> = (0..64)
                .map(|_| world.task(move |map| (map.populate_read(0, size), map.read_byte(7))))
                .collect();
            for read in reads {
                assert_eq!(read.done(), (Ok(()), 1));
            }
            assert_eq!(world.states(), [(0, states::CLEAN)]);
            world.stop()
        });
        clean(&report);
        assert_eq!(report.counters.fetches, 1, "one fetch serves all who wait");
    }

    a_paused_driver_takes_a_snapshot_and_stops(rig: 2, kind) {
        let source = Pattern::new(rig.map.page_size());
        let report = rig.serve(kind, Policy::default(), source, |world| {
            assert_eq!(world.read(1), 2);
            world.control.pause();
            let read = world.reading(0);
            read.assert_asleep();
            assert_eq!(world.states(), [(1, states::CLEAN)], "what was not read is not there");
            let report = world.report;
            world.control.stop();
            let report = report.done();
            read.assert_asleep();
            report
        });
        clean(&report);
        assert_eq!(report.counters.faults, 1);
    }

    a_poisoned_page_leaves_the_others_served(rig: 3, kind) {
        struct Broken(Pattern);
        impl PageSource for Broken {
            fn page_size(&self) -> PageSize {
                self.0.page
            }
            fn read_page(&self, page: PageNo, buf: &mut [u8]) -> Result<(), SourceError> {
                assert_ne!(page.index(), 2, "a source that panics is a source that fails");
                if page.index() == 1 {
                    return Err(SourceError::Io { offset: 0, errno: Errno::EIO });
                }
                self.0.read_page(page, buf)
            }
        }
        let mut policy = Policy::default();
        policy.on_source_error = OnSourceError::Poison;
        policy.source_backoff = Backoff { initial: Duration::ZERO, max: Duration::ZERO };
        let source = Broken(Pattern::new(rig.map.page_size()));
        let report = rig.serve(kind, policy, source, |world| {
            for page in [1, 2] {
                let (at, len) = (page * world.page, world.page);
                let poisoned = world.task(move |map| map.populate_read(at, len)).done();
                assert_eq!(poisoned, Err(Errno::EHWPOISON), "page {page}");
            }
            assert_eq!(world.read(0), 1);
            let poisoned = states::POISONED;
            assert_eq!(world.states(), [(0, states::CLEAN), (1, poisoned), (2, poisoned)]);
            // Giving the page up heals it: its bytes are zeros from now on.
            world.remove(1, 1);
            assert_eq!(world.read(1), 0);
            world.stop()
        });
        clean(&report);
        assert_eq!(report.counters.source_errors, 8);
    }

    every_fault_is_served_and_timed_under_a_storm(rig: 8, kind) {
        storm(&rig, kind);
    }
}

/// Threads read, write and give up pages of a small set, so that they meet. A page holds
/// its own number, a zero, or what was written to it: anything else is a stale page.
fn storm(rig: &Rig, kind: Kind) {
    const ROUNDS: u64 = 400;
    let page = rig.map.page_size();
    let report = rig.serve(kind, Policy::default(), Pattern::new(page), |world| {
        let size = world.page;
        let tasks: Vec<_> = (0..6u64)
            .map(|me| {
                world.task(move |map| {
                    // A fixed multiplicative sequence: the kernel brings the disorder.
                    let mut x = me * 2 + 1;
                    for _ in 0..ROUNDS {
                        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        let target = (x >> 40) % 8;
                        let at = target * size;
                        match me {
                            0 | 1 => map.dontneed(at, size).unwrap(),
                            2 | 3 => map.write_byte(at + me, 200),
                            _ => {
                                let seen = map.read_byte(at + 4);
                                assert!(seen == 0 || seen == target as u8 + 1, "{seen}");
                            }
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.done();
        }
        // A page that was given up and is written no more never shows its source again.
        world.remove(0, 8);
        for page in 0..8 {
            assert_eq!(world.read(page), 0, "page {page}");
        }
        world.stop()
    });
    clean(&report);
    let counters = report.counters;
    assert!(counters.removes >= 2 * ROUNDS / 4, "{counters:?}");
    assert_eq!(counters.faults, counters.ended());
}

/// Runs `body` with either driver at each page size, with writes tracked.
fn tracked(test: &str, pages: u64, body: impl Fn(&World<'_, '_>)) {
    let modes = RegisterModes::MISSING | RegisterModes::WP;
    let mut policy = Policy::default();
    policy.writes = Writes::Tracked;
    for page in [PageSize::KIB4, PageSize::MIB2] {
        for kind in [Kind::Single, Kind::Threads] {
            let Some(rig) = Rig::registered(test, page, pages, modes) else { continue };
            let report = rig.serve(kind, policy.clone(), Pattern::new(page), |world| {
                body(&world);
                world.stop()
            });
            clean(&report);
        }
    }
}

#[test]
fn tracked_writes_are_seen_and_reads_are_not() {
    tracked("tracked_writes_are_seen_and_reads_are_not", 5, |world| {
        assert_eq!((world.read(0), world.read(1)), (1, 2));
        world.write(1, 77);
        world.write(2, 88);
        world.remove(3, 2);
        assert_eq!((world.read(3), world.read(4)), (0, 0));
        world.write(4, 99);
        let expected = [
            (0, states::CLEAN),
            (1, states::DIRTY),
            (2, states::DIRTY),
            (3, states::ZERO),
            (4, states::DIRTY),
        ];
        assert_eq!(world.states(), expected);
        assert_eq!([1, 2, 4].map(|page| world.read(page)), [77, 88, 99]);
    });
}

#[test]
fn a_baseline_begins_anew_and_loses_no_write() {
    tracked("a_baseline_begins_anew_and_loses_no_write", 4, |world| {
        world.write(0, 10);
        assert_eq!(world.read(1), 2);
        world.write(2, 12);
        assert_eq!(world.baseline(), [0, 2]);
        assert!(world.baseline().is_empty());
        world.write(2, 13);
        world.write(1, 11);
        assert_eq!(world.read(0), 10);
        assert_eq!(world.baseline(), [1, 2]);
        // Somebody writes while the bytes are saved: it waits, and belongs to the next.
        world.write(3, 14);
        let write = world
            .control
            .baseline(|_| {
                let write = world.writing(3, 15);
                write.assert_asleep();
                assert_eq!(world.read(3), 14);
                Ok::<_, ()>(write)
            })
            .unwrap()
            .unwrap();
        write.done();
        assert_eq!(world.baseline(), [3]);
        // Bytes that could not be saved are dirty still.
        world.write(0, 16);
        assert_eq!(world.control.baseline(|_| Err::<(), _>("full")).unwrap(), Err("full"));
        assert_eq!(world.baseline(), [0]);
        assert_eq!([0, 1, 2, 3].map(|page| world.read(page)), [16, 11, 13, 15]);
    });
}

#[test]
fn every_write_of_a_storm_is_in_some_interval() {
    tracked("every_write_of_a_storm_is_in_some_interval", 8, |world| {
        let size = world.page;
        let writers: Vec<_> = (0..4u64)
            .map(|me| {
                world.task(move |map| {
                    let mut x = me * 2 + 1;
                    for round in 1..=200u64 {
                        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        let at = ((x >> 40) % 8) * size + me * 8;
                        map.write_word(at, round);
                    }
                })
            })
            .collect();
        // A copy that is kept up by the intervals alone.
        let mut copy = vec![[0; 4]; 8];
        let mut save = || {
            let saved = world.control.baseline(|states| {
                for record in states.records().iter().filter(|r| r.state() == states::DIRTY) {
                    let page = record.offset() / size;
                    let words = [0u64, 1, 2, 3].map(|me| world.map.read_word(page * size + me * 8));
                    copy[page as usize] = words;
                }
                Ok::<_, ()>(())
            });
            saved.unwrap().unwrap();
        };
        for _ in 0..20 {
            save();
        }
        writers.into_iter().for_each(|writer| writer.done());
        save();
        // What the source has in the first words of a page that nobody wrote to.
        for (page, words) in copy.iter().enumerate() {
            for me in 0..4u64 {
                let there =
                    world.task(move |map| map.read_word(page as u64 * size + me * 8)).done();
                let source = u64::from_ne_bytes([page as u8 + 1; 8]);
                assert!(there == words[me as usize] || there == source, "page {page} of {me}");
            }
        }
    });
}

/// A memfd, registered for missing pages and for those that the page cache has.
#[test]
fn pages_of_a_shared_object_are_mapped_as_they_are_or_filled() {
    let test = "pages_of_a_shared_object_are_mapped_as_they_are_or_filled";
    let features = Features::EVENT_REMOVE | Features::MISSING_SHMEM | Features::MINOR_SHMEM;
    for tracked in [false, true] {
        let mut policy = Policy::default();
        let (mut features, mut modes) = (features, RegisterModes::MISSING | RegisterModes::MINOR);
        if tracked {
            policy.writes = Writes::Tracked;
            features |= Features::PAGEFAULT_FLAG_WP | Features::WP_HUGETLBFS_SHMEM;
            modes |= RegisterModes::WP;
        }
        let Some(_) = Capability::gate(test, OpenFlags::empty(), features) else { return };
        for kind in [Kind::Single, Kind::Threads] {
            let map = Mapping::memfd(Len::pages(6, PageSize::KIB4).unwrap()).unwrap();
            // What another process would fill the object through.
            let alias = Arc::new(map.alias().unwrap());
            let (uffd, _) = UserFault::connect(OpenFlags::empty(), features).unwrap();
            uffd.register(map.span(), modes).unwrap();
            let rig = Rig { map: Arc::new(map), uffd, backing: Backing::Shared, _pool: None };
            let source = Pattern::new(PageSize::KIB4);
            let report = rig.serve(kind, policy.clone(), source, |world| {
                alias.write_byte(0, 70);
                alias.write_byte(2 * 4096, 72);
                assert_eq!((world.read(0), world.read(1), world.read(2)), (70, 2, 72));
                world.write(3, 99);
                assert_eq!(alias.read_byte(3 * 4096), 99);
                // Dropped from this mapping, not from the object.
                world.remove(0, 2);
                assert_eq!((world.read(0), world.read(1)), (70, 2));
                assert_eq!(alias.read_byte(4096), 2);
                // A hole in the object.
                let hole = world.task(|map| map.madvise(2 * 4096, 4096, Advice::Remove)).done();
                assert_eq!(hole, Ok(()));
                assert_eq!((world.read(2), alias.read_byte(2 * 4096)), (0, 0));
                // Never filled, and given up.
                let hole = world.task(|map| map.madvise(4 * 4096, 4096, Advice::Remove)).done();
                assert_eq!((hole, world.read(4), world.read(5)), (Ok(()), 0, 6));
                if tracked {
                    world.write(0, 71);
                    let dirty = |(page, state)| (state == states::DIRTY).then_some(page);
                    let dirty: Vec<u64> = world.states().into_iter().filter_map(dirty).collect();
                    assert_eq!(dirty, [0, 3]);
                }
                world.stop()
            });
            clean(&report);
            assert!(report.counters.continues >= 4, "{:?}", report.counters);
        }
    }
}

#[test]
fn stale_source_race_missing_and_remove() {
    let test = "stale_source_race_missing_and_remove";
    for page in [PageSize::KIB4, PageSize::MIB2] {
        let Some(rig) = Rig::new(test, page, 2) else { continue };
        let (source, begun, go) = Pattern::gated(page, 1);
        let report = rig.serve(Kind::Threads, Policy::default(), source, |world| {
            let read = world.reading(1);
            begun.recv_timeout(PATIENCE).unwrap();
            // The bytes are on their way; the page is given up before they arrive.
            world.remove(1, 1);
            go.send(()).unwrap();
            assert_eq!(read.done(), 0);
            world.stop()
        });
        clean(&report);
        assert_eq!(report.counters.stale_fetches, 1);
    }
}

#[test]
fn no_madvise_deadlock_with_inflight_copy() {
    let test = "no_madvise_deadlock_with_inflight_copy";
    for page in [PageSize::KIB4, PageSize::MIB2] {
        let Some(rig) = Rig::new(test, page, 3) else { continue };
        let (source, begun, go) = Pattern::gated(page, 0);
        let report = rig.serve(Kind::Threads, Policy::default(), source, |world| {
            let write = world.writing(0, 9);
            begun.recv_timeout(PATIENCE).unwrap();
            world.remove(1, 1);
            assert_eq!(world.read(2), 3, "one slow fetch delays no other fault");
            write.assert_asleep();
            go.send(()).unwrap();
            write.done();
            assert_eq!(world.read(0), 9);
            world.stop()
        });
        clean(&report);
    }
}

#[test]
fn a_slow_fetch_is_waited_for_by_a_snapshot_and_by_a_stop() {
    let test = "a_slow_fetch_is_waited_for_by_a_snapshot_and_by_a_stop";
    let Some(rig) = Rig::new(test, PageSize::KIB4, 2) else { return };
    let (source, begun, go) = Pattern::gated(PageSize::KIB4, 0);
    let report = rig.serve(Kind::Threads, Policy::default(), source, |world| {
        let read = world.reading(0);
        begun.recv_timeout(PATIENCE).unwrap();
        let control = world.control.clone();
        let snapshot = Task::spawn(world.scope, move || control.snapshot());
        snapshot.assert_asleep();
        go.send(()).unwrap();
        assert_eq!(snapshot.done().unwrap().faulted(), [0]);
        assert_eq!(read.done(), 1);
        world.stop()
    });
    clean(&report);
}

#[test]
fn an_image_that_shrinks_fails_the_handler_and_wakes_nobody() {
    let test = "an_image_that_shrinks_fails_the_handler_and_wakes_nobody";
    let Some(rig) = Rig::new(test, PageSize::KIB4, 2) else { return };
    let path = std::env::temp_dir().join(format!("faultbed-shrink-{}", std::process::id()));
    std::fs::write(&path, [5; 2 * 4096]).unwrap();
    let image = ImageFile::open(&path, PageSize::KIB4).unwrap();
    let mut policy = Policy::default();
    policy.source_backoff = Backoff { initial: Duration::ZERO, max: Duration::ZERO };
    let report = rig.serve(Kind::Threads, policy, image, |world| {
        assert_eq!(world.read(0), 5);
        std::fs::File::options().write(true).open(&path).unwrap().set_len(4096).unwrap();
        let read = world.reading(1);
        let report = world.report.done();
        read.assert_asleep();
        report
    });
    let _ = std::fs::remove_file(&path);
    let shrunk = SourceError::Shrunk { offset: 4096, expected: 8192, found: 4096 };
    let error = HandlerError::Source { page: PageNo::new(1), error: shrunk, attempts: 4 };
    assert_eq!(report.status, Status::Failed(error));
    assert_eq!((report.counters.failed, report.counters.pending()), (1, 0));
}

#[test]
fn the_end_of_the_peer_ends_the_driver_even_while_paused() {
    let test = "the_end_of_the_peer_ends_the_driver_even_while_paused";
    for (kind, pause) in [(0, false), (1, false), (0, true), (1, true)] {
        let Some(rig) = Rig::new(test, PageSize::KIB4, 2) else { return };
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let waiter = PollWaiter::new(&rig.uffd).unwrap().with_peer(ours.into());
        let regions = RegionMap::single(rig.map.page_range());
        let source = Pattern::new(PageSize::KIB4);
        let driver = Driver::new(Policy::default(), regions, &rig.uffd, waiter, source).unwrap();
        std::thread::scope(|scope| {
            let _release = Release(&rig);
            let control = driver.control();
            let run = Task::spawn(scope, || match kind {
                0 => driver.run_single(),
                _ => driver.run_threads(NonZeroUsize::MIN),
            });
            let map = Arc::clone(&rig.map);
            let read = Task::spawn(scope, move || map.read_byte(0));
            assert_eq!(read.done(), 1);
            if pause {
                control.pause();
                let map = Arc::clone(&rig.map);
                // Something to read keeps the descriptor ready all the time.
                Task::spawn(scope, move || map.read_byte(4096)).assert_asleep();
            }
            drop(theirs);
            let report = run.done();
            assert_eq!(report.status, Status::Stopped(StopReason::PeerGone));
        });
    }
}

#[test]
fn every_served_fault_is_timed() {
    let test = "every_served_fault_is_timed";
    let Some(rig) = Rig::new(test, PageSize::KIB4, 8) else { return };
    let waiter = PollWaiter::new(&rig.uffd).unwrap();
    let regions = RegionMap::single(rig.map.page_range());
    let (count, writes) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (counted, written) = (Arc::clone(&count), Arc::clone(&writes));
    let source = Pattern::new(PageSize::KIB4);
    let driver = Driver::new(Policy::default(), regions, &rig.uffd, waiter, source)
        .unwrap()
        .on_served(move |served| {
            assert!(served.took > Duration::ZERO && served.took < PATIENCE);
            counted.fetch_add(1, Ordering::Relaxed);
            written.fetch_add(u64::from(served.write), Ordering::Relaxed);
        });
    std::thread::scope(|scope| {
        let _release = Release(&rig);
        let control = driver.control();
        let run = Task::spawn(scope, || driver.run_threads(NonZeroUsize::new(2).unwrap()));
        for page in 0..8 {
            let map = Arc::clone(&rig.map);
            Task::spawn(scope, move || match page % 2 {
                0 => assert_eq!(map.read_byte(page * 4096), page as u8 + 1),
                _ => map.write_byte(page * 4096, 1),
            })
            .done();
        }
        control.stop();
        let report = run.done();
        clean(&report);
        assert_eq!(count.load(Ordering::Relaxed), report.counters.faults);
        assert_eq!(writes.load(Ordering::Relaxed), 4);
    });
}

#[test]
fn a_descriptor_that_is_no_userfaultfd_any_more_fails_the_driver() {
    let test = "a_descriptor_that_is_no_userfaultfd_any_more_fails_the_driver";
    let Some(rig) = Rig::new(test, PageSize::KIB4, 1) else { return };
    for threads in [false, true] {
        // Before UFFDIO_API a userfaultfd says POLLERR for ever (rule a5).
        let mute = UserFault::open(OpenFlags::empty()).unwrap();
        let waiter = PollWaiter::new(&mute).unwrap();
        let regions = RegionMap::single(rig.map.page_range());
        let source = Pattern::new(PageSize::KIB4);
        let driver = Driver::new(Policy::default(), regions, &mute, waiter, source).unwrap();
        let report =
            if threads { driver.run_threads(NonZeroUsize::MIN) } else { driver.run_single() };
        assert_eq!(report.status, Status::Failed(HandlerError::Poll));
    }
}
