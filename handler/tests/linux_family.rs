//! Both drivers and the processes of another program that take their memory apart: `munmap`,
//! `mremap` and `fork` on the running kernel. Each test that finds no userfaultfd reports
//! itself as skipped; with `FAULTBED_REQUIRE_KERNEL=1` it fails instead.
#![cfg(all(target_os = "linux", target_arch = "x86_64", feature = "linux"))]
#![expect(
    clippy::disallowed_methods,
    reason = "a family runs beside the test, and a dead process is noticed after a while"
)]

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use faultbed_handler::drive::{Driver, Family, Relatives, Report};
use faultbed_handler::states::{self, PageStates};
use faultbed_handler::{
    Outside, PageSource, Policy, RegionMap, SourceError, Status, StopReason, Writes,
};
use shims::linux::puppet::{Act, Answer, Stage};
use shims::linux::{Capability, OpenFlags, PollWaiter, UserFault};
use shims::{
    Addr, Errno, Features, Len, PageNo, PageRange, PageSize, RegisterModes, Span, Uffd,
    ZeropageMode,
};

type Waiter = PollWaiter<Arc<UserFault>>;

/// Where the memory is, and where it moves to.
const BASE: u64 = 0x2000_0000_0000;
const THERE: u64 = 0x2100_0000_0000;
const PAGE: u64 = 4096;

const MMAP: u32 = 9;
const MUNMAP: u32 = 11;
const MREMAP: u32 = 25;
const MADVISE: u32 = 28;
const EXIT_GROUP: u32 = 231;

/// Every byte of page `n` is `n + 1`.
#[derive(Clone, Debug)]
struct Pattern;

impl PageSource for Pattern {
    fn page_size(&self) -> PageSize {
        PageSize::KIB4
    }

    fn read_page(&self, page: PageNo, buf: &mut [u8]) -> Result<(), SourceError> {
        buf.fill(page.index() as u8 + 1);
        Ok(())
    }
}

/// What the source has at the start of page `n`.
fn source(n: u64) -> u64 {
    u64::from_ne_bytes([n as u8 + 1; 8])
}

/// A process with watched memory, and a family of drivers that serves it.
struct Play {
    stage: Stage,
    relatives: Relatives<Waiter>,
    run: Option<JoinHandle<Vec<Report>>>,
}

impl Drop for Play {
    fn drop(&mut self) {
        // Whoever still waits for a page is let go before the processes are ended.
        self.relatives.stop();
    }
}

fn policy() -> Policy {
    let mut policy = Policy::default();
    policy.remaps = true;
    policy
}

impl Play {
    fn new(test: &str, pages: u64, workers: Option<usize>, policy: Policy) -> Option<Play> {
        let mut features = Features::EVENT_FORK
            | Features::EVENT_REMAP
            | Features::EVENT_REMOVE
            | Features::EVENT_UNMAP;
        let mut modes = RegisterModes::MISSING;
        if policy.writes == Writes::Tracked {
            features |= Features::PAGEFAULT_FLAG_WP;
            modes |= RegisterModes::WP;
        }
        Capability::gate(test, OpenFlags::empty(), features)?;
        let stage = Stage::new().unwrap();
        let play = |act| stage.act(0, act).unwrap().value;
        // PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED_NOREPLACE.
        let map = [BASE, pages * PAGE, 3, 0x10_0022, u64::MAX, 0];
        assert_eq!(play(Act::Syscall(MMAP, map)), Ok(BASE));
        let uffd = UserFault::try_from(stage.userfaultfd(0, OpenFlags::empty()).unwrap()).unwrap();
        uffd.api(features).unwrap();
        let range = Span::new(Addr::new(BASE), Len::new(pages * PAGE));
        uffd.register(range, modes).unwrap();
        let uffd = Arc::new(uffd);
        let host = PageRange::new(range.start, range.len, PageSize::KIB4).unwrap();
        let waiter = PollWaiter::new(Arc::clone(&uffd)).unwrap();
        let regions = RegionMap::single(host);
        let root = Driver::new(policy, regions, uffd, waiter, Pattern).unwrap();
        let adopt = |of: &Arc<UserFault>, fd| {
            let child = Arc::new(of.claim_fork(fd)?);
            let waiter = PollWaiter::new(Arc::clone(&child)).ok()?;
            Some((child, waiter))
        };
        let family = Family::new(root, workers.and_then(NonZeroUsize::new), adopt);
        let relatives = family.relatives();
        let run = Some(std::thread::spawn(move || family.run()));
        Some(Play { stage, relatives, run })
    }

    /// Both drivers, one after the other.
    fn each(test: &str, pages: u64, policy: Policy, body: impl Fn(&mut Play)) {
        for workers in [None, Some(3)] {
            let Some(mut play) = Play::new(test, pages, workers, policy.clone()) else { return };
            body(&mut play);
            for report in play.end() {
                assert!(matches!(report.status, Status::Stopped(_)), "{}", report.status);
                let counters = report.counters;
                assert_eq!((counters.pending(), counters.failed), (0, 0), "{counters:?}");
            }
        }
    }

    fn end(&mut self) -> Vec<Report> {
        self.relatives.stop();
        self.run.take().unwrap().join().unwrap()
    }

    #[track_caller]
    fn act(&self, slot: usize, act: Act) -> Answer {
        self.stage.act(slot, act).unwrap_or_else(|stuck| panic!("{stuck:?}"))
    }

    #[track_caller]
    fn call(&self, slot: usize, number: u32, args: [u64; 6]) -> u64 {
        self.act(slot, Act::Syscall(number, args)).value.unwrap()
    }

    #[track_caller]
    fn load(&self, slot: usize, addr: u64) -> u64 {
        let answer = self.act(slot, Act::Load { addr, both: false });
        assert_eq!(answer.signal, None, "at {addr:#x}");
        answer.words[0]
    }

    #[track_caller]
    fn store(&self, slot: usize, addr: u64, word: u64) {
        let answer = self.act(slot, Act::Store { addr, words: [word, word] });
        assert_eq!(answer.signal, None, "at {addr:#x}");
    }

    #[track_caller]
    fn segv(&self, slot: usize, addr: u64) {
        let answer = self.act(slot, Act::Load { addr, both: false });
        assert_eq!(answer.signal.map(|raised| raised.number), Some(11), "at {addr:#x}");
    }

    /// A child, its thread's slot.
    #[track_caller]
    fn fork(&mut self, by: usize) -> usize {
        let slot = self.stage.vacant();
        self.act(by, Act::Fork(slot, 17)).value.unwrap();
        self.stage.wait_long(slot).expect("the child runs");
        slot
    }

    fn states(&self, member: usize) -> Vec<(u64, u8)> {
        let states: PageStates = self.relatives.controls()[member].snapshot().unwrap();
        states.records().iter().map(|r| (r.offset() / PAGE, r.state())).collect()
    }

    /// The member comes to its end by itself.
    #[track_caller]
    fn gone(&self, member: usize) {
        let control = &self.relatives.controls()[member];
        let start = Instant::now();
        while !control.status().is_over() {
            assert!(start.elapsed() < Duration::from_secs(10), "a dead process is served on");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(control.status(), Status::Stopped(StopReason::PeerGone));
    }
}

fn page(n: u64) -> u64 {
    BASE + n * PAGE
}

#[test]
fn unmapped_memory_is_forgotten_and_the_rest_served_on() {
    Play::each("unmapped_memory_is_forgotten", 8, policy(), |play| {
        assert_eq!(play.load(0, page(1)), source(1));
        assert_eq!(play.load(0, page(5)), source(5));
        play.call(0, MUNMAP, [page(1), 3 * PAGE, 0, 0, 0, 0]);
        play.segv(0, page(1));
        play.segv(0, page(3));
        assert_eq!(play.load(0, page(4)), source(4));
        assert_eq!(play.states(0), [(4, states::CLEAN), (5, states::CLEAN)]);
    });
}

#[test]
fn faults_that_race_with_an_unmap_meet_their_fate() {
    Play::each("faults_that_race_with_an_unmap", 64, policy(), |play| {
        let readers = [play.stage.spawn(0).unwrap(), play.stage.spawn(0).unwrap()];
        for n in 0..32 {
            for (i, reader) in readers.into_iter().enumerate() {
                let addr = page(2 * n + i as u64 % 2);
                play.stage.tell(reader, Act::Load { addr, both: false });
            }
            play.call(0, MUNMAP, [page(2 * n), 2 * PAGE, 0, 0, 0, 0]);
            for (i, reader) in readers.into_iter().enumerate() {
                let answer = play.stage.wait_long(reader).expect("a reader goes on");
                let loaded = answer.words[0] == source(2 * n + i as u64 % 2);
                let died = answer.signal.is_some_and(|raised| raised.number == 11);
                assert!(loaded != died, "{answer:?}");
            }
        }
        assert!(play.states(0).is_empty());
    });
}

#[test]
fn moved_memory_keeps_its_content_and_is_served_where_it_is() {
    Play::each("moved_memory_keeps_its_content", 8, policy(), |play| {
        play.store(0, page(1), 77);
        assert_eq!(play.load(0, page(2)), source(2));
        play.call(0, MADVISE, [page(3), PAGE, 4, 0, 0, 0]);
        // MREMAP_MAYMOVE | MREMAP_FIXED, pages 1 to 4.
        play.call(0, MREMAP, [page(1), 4 * PAGE, 4 * PAGE, 3, THERE, 0]);
        assert_eq!(play.load(0, THERE), 77);
        assert_eq!(play.load(0, THERE + PAGE), source(2));
        assert_eq!(play.load(0, THERE + 2 * PAGE), 0);
        assert_eq!(play.load(0, THERE + 3 * PAGE), source(4));
        play.segv(0, page(2));
        assert_eq!(play.load(0, page(5)), source(5));
        play.call(0, MADVISE, [THERE, PAGE, 4, 0, 0, 0]);
        assert_eq!(play.load(0, THERE), 0);
        let expected = [
            (1, states::ZERO),
            (2, states::CLEAN),
            (3, states::ZERO),
            (4, states::CLEAN),
            (5, states::CLEAN),
        ];
        assert_eq!(play.states(0), expected);
        // A part of it moves back.
        play.call(0, MREMAP, [THERE + PAGE, PAGE, PAGE, 3, page(2), 0]);
        assert_eq!(play.load(0, page(2)), source(2));
        play.segv(0, THERE + PAGE);
    });
}

#[test]
fn memory_that_is_moved_and_stays_watched_reads_as_zeros() {
    Play::each("memory_that_is_moved_and_stays_watched", 4, policy(), |play| {
        play.store(0, page(1), 77);
        // MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP.
        play.call(0, MREMAP, [page(1), PAGE, PAGE, 7, THERE, 0]);
        assert_eq!(play.load(0, THERE), 77);
        assert_eq!(play.load(0, page(1)), 0);
        assert_eq!(play.states(0), [(1, states::DIRTY)]);
    });
}

#[test]
fn threads_touch_memory_while_it_moves() {
    Play::each("threads_touch_memory_while_it_moves", 16, policy(), |play| {
        let reader = play.stage.spawn(0).unwrap();
        let mut at = (BASE, THERE);
        for round in 0..32 {
            let n = round % 16;
            // The reader aims at where the memory is going to be, or at where it was.
            let target = if round % 2 == 0 { at.1 } else { at.0 } + n * PAGE;
            play.stage.tell(reader, Act::Load { addr: target, both: false });
            play.call(0, MREMAP, [at.0, 16 * PAGE, 16 * PAGE, 3, at.1, 0]);
            let answer = play.stage.wait_long(reader).expect("the reader goes on");
            let died = answer.signal.is_some_and(|raised| raised.number == 11);
            assert!(died || answer.words[0] == source(n), "round {round}: {answer:?}");
            at = (at.1, at.0);
        }
        for n in 0..16 {
            assert_eq!(play.load(0, at.0 + n * PAGE), source(n));
        }
        assert_eq!(play.states(0).len(), 16);
    });
}

#[test]
fn memory_that_grows_in_place_is_zeros() {
    let mut policy = policy();
    policy.outside = Outside::Zeros;
    Play::each("memory_that_grows_in_place", 4, policy, |play| {
        assert_eq!(play.load(0, page(3)), source(3));
        play.call(0, MREMAP, [BASE, 4 * PAGE, 6 * PAGE, 0, 0, 0]);
        assert_eq!((play.load(0, page(4)), play.load(0, page(5))), (0, 0));
        assert_eq!(play.states(0), [(3, states::CLEAN)]);
    });
}

#[test]
fn a_forked_child_is_served_like_its_parent_and_apart_from_it() {
    Play::each("a_forked_child_is_served", 8, policy(), |play| {
        play.store(0, page(0), 77);
        assert_eq!(play.load(0, page(1)), source(1));
        play.call(0, MADVISE, [page(2), PAGE, 4, 0, 0, 0]);
        let child = play.fork(0);
        assert_eq!((play.load(child, page(0)), play.load(child, page(1))), (77, source(1)));
        assert_eq!((play.load(child, page(2)), play.load(child, page(3))), (0, source(3)));
        play.store(child, page(0), 88);
        play.store(child, page(4), 99);
        assert_eq!((play.load(0, page(0)), play.load(0, page(4))), (77, source(4)));
        play.call(child, MADVISE, [page(1), PAGE, 4, 0, 0, 0]);
        assert_eq!((play.load(child, page(1)), play.load(0, page(1))), (0, source(1)));
        play.call(child, MUNMAP, [page(3), PAGE, 0, 0, 0, 0]);
        play.segv(child, page(3));
        assert_eq!(play.load(0, page(3)), source(3));
        // A grandchild.
        let grand = play.fork(child);
        assert_eq!((play.load(grand, page(4)), play.load(grand, page(5))), (99, source(5)));
        assert_eq!(play.relatives.controls().len(), 3);
        assert_eq!(
            play.states(1),
            [(0, states::DIRTY), (1, states::ZERO), (2, states::ZERO), (4, states::DIRTY)]
        );
        // The end of one is not the end of the others.
        play.stage.tell(child, Act::Syscall(EXIT_GROUP, [0; 6]));
        play.gone(1);
        assert_eq!((play.load(grand, page(6)), play.load(0, page(6))), (source(6), source(6)));
    });
}

#[test]
fn forks_race_with_faults_and_removals() {
    Play::each("forks_race_with_faults_and_removals", 32, policy(), |play| {
        let reader = play.stage.spawn(0).unwrap();
        let balloon = play.stage.spawn(0).unwrap();
        for n in 0..8 {
            let (kept, given) = (page(2 * n), page(2 * n + 1));
            play.stage.tell(reader, Act::Load { addr: kept, both: false });
            play.stage.tell(balloon, Act::Syscall(MADVISE, [given, PAGE, 4, 0, 0, 0]));
            let child = play.fork(0);
            assert_eq!(play.stage.wait_long(reader).expect("it goes on").words[0], source(2 * n));
            play.stage.wait_long(balloon).expect("it goes on").value.unwrap();
            assert_eq!(play.load(child, kept), source(2 * n));
            assert_eq!(play.load(0, given), 0);
            let seen = play.load(child, given);
            assert!(seen == 0 || seen == source(2 * n + 1), "{seen:#x}");
            play.stage.tell(child, Act::Syscall(EXIT_GROUP, [0; 6]));
        }
        for member in 1..=8 {
            play.gone(member);
        }
    });
}

#[test]
fn a_child_tracks_its_own_writes() {
    let mut policy = policy();
    policy.writes = Writes::Tracked;
    Play::each("a_child_tracks_its_own_writes", 4, policy, |play| {
        assert_eq!(play.load(0, page(0)), source(0));
        play.store(0, page(1), 11);
        let child = play.fork(0);
        play.store(child, page(0), 77);
        assert_eq!(play.load(child, page(2)), source(2));
        let dirty = |member: usize| -> Vec<u64> {
            let states = play.states(member);
            states.iter().filter(|(_, s)| *s == states::DIRTY).map(|(page, _)| *page).collect()
        };
        assert_eq!((dirty(0), dirty(1)), (vec![1], vec![0, 1]));
        let member = &play.relatives.controls()[1];
        member.baseline(|_| Ok::<_, ()>(())).unwrap().unwrap();
        play.store(child, page(2), 78);
        assert_eq!((dirty(0), dirty(1)), (vec![1], vec![2]));
        play.call(child, MREMAP, [page(2), PAGE, PAGE, 3, THERE, 0]);
        member.baseline(|_| Ok::<_, ()>(())).unwrap().unwrap();
        play.store(child, THERE, 79);
        assert_eq!(dirty(1), [2]);
    });
}

#[test]
fn a_child_that_nobody_adopts_fails_its_parents_handler() {
    let test = "a_child_that_nobody_adopts";
    let features = Features::EVENT_FORK;
    let Some(_) = Capability::gate(test, OpenFlags::empty(), features) else { return };
    for workers in [None, NonZeroUsize::new(2)] {
        let mut stage = Stage::new().unwrap();
        let map = [BASE, PAGE, 3, 0x10_0022, u64::MAX, 0];
        stage.act(0, Act::Syscall(MMAP, map)).unwrap().value.unwrap();
        let uffd = UserFault::try_from(stage.userfaultfd(0, OpenFlags::empty()).unwrap()).unwrap();
        uffd.api(features).unwrap();
        let range = Span::new(Addr::new(BASE), Len::new(PAGE));
        uffd.register(range, RegisterModes::MISSING).unwrap();
        let host = PageRange::new(range.start, range.len, PageSize::KIB4).unwrap();
        let waiter = PollWaiter::new(&uffd).unwrap();
        let driver =
            Driver::new(policy(), RegionMap::single(host), &uffd, waiter, Pattern).unwrap();
        let slot = stage.vacant();
        let report = std::thread::scope(|scope| {
            let run = scope.spawn(|| match workers {
                None => driver.run_single(),
                Some(workers) => driver.run_threads(workers),
            });
            stage.act(0, Act::Fork(slot, 17)).unwrap().value.unwrap();
            run.join().unwrap()
        });
        assert!(report.status.to_string().contains("FORK"), "{}", report.status);
    }
}

/// What the machine asks the kernel about a fault that no region explains (rule e1).
#[test]
fn an_empty_range_tells_whether_the_address_space_is_changing() {
    let test = "an_empty_range_tells";
    let features = Features::EVENT_REMOVE;
    let Some(_) = Capability::gate(test, OpenFlags::empty(), features) else { return };
    let stage = Stage::new().unwrap();
    let map = [BASE, PAGE, 3, 0x10_0022, u64::MAX, 0];
    stage.act(0, Act::Syscall(MMAP, map)).unwrap().value.unwrap();
    let uffd = UserFault::try_from(stage.userfaultfd(0, OpenFlags::empty()).unwrap()).unwrap();
    uffd.api(features).unwrap();
    let range = Span::new(Addr::new(BASE), Len::new(PAGE));
    uffd.register(range, RegisterModes::MISSING).unwrap();
    let empty = Span::new(Addr::new(BASE), Len::ZERO);
    let ask = || uffd.zeropage(empty, ZeropageMode::DONTWAKE).errno;
    assert_eq!(ask(), Some(Errno::EINVAL));
    stage.tell(0, Act::Syscall(MADVISE, [BASE, PAGE, 4, 0, 0, 0]));
    assert_eq!(stage.wait(0, Duration::from_millis(30)), None, "the remover waits");
    assert_eq!(ask(), Some(Errno::EAGAIN));
    uffd.read_events(&mut Vec::new(), 8).unwrap();
    stage.wait_long(0).expect("the remover goes on").value.unwrap();
    assert_eq!(ask(), Some(Errno::EINVAL));
}
