//! The drivers over a scripted userfaultfd: what reading, waiting and panicking come to,
//! without a kernel. Threads are real, time is a number that moves when it is looked at.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use faultbed_handler::drive::SetupError;
use faultbed_handler::{
    Driver, HandlerError, Policy, RegionMap, Report, SliceSource, Status, StopReason, ZeroSource,
};
use shims::{
    Addr, ApiReply, ContinueMode, CopyMode, Errno, Event, Fault, FaultFlags, Features, Len,
    MoveMode, Outcome, PageRange, PageSize, PoisonMode, RangeIoctls, RegisterModes, Span, Time,
    Uffd, Waiter, Wakeup, WriteProtectMode, ZeropageMode,
};

const BASE: u64 = 0x10000;
const PATIENCE: Duration = Duration::from_secs(10);

/// What the next read answers.
type Read = Result<Vec<Event>, Errno>;

/// Reads as scripted; every ioctl succeeds, and copies are remembered.
#[derive(Default, Debug)]
struct Script {
    reads: Mutex<VecDeque<Read>>,
    copies: Mutex<Vec<(u64, u8)>>,
    /// The largest `max` a read was given, and how many reads there were.
    calls: Mutex<(usize, usize)>,
    panics: bool,
}

impl Script {
    fn new(reads: impl IntoIterator<Item = Read>) -> Script {
        Script { reads: Mutex::new(reads.into_iter().collect()), ..Script::default() }
    }

    fn copies(&self) -> Vec<(u64, u8)> {
        let mut copies = self.copies.lock().unwrap().clone();
        copies.sort_unstable();
        copies
    }
}

impl Uffd for Script {
    fn read_events(&self, out: &mut Vec<Event>, max: usize) -> Result<usize, Errno> {
        let mut calls = self.calls.lock().unwrap();
        *calls = (calls.0.max(max), calls.1 + 1);
        let mut reads = self.reads.lock().unwrap();
        let Some(read) = reads.pop_front() else { return Err(Errno::EAGAIN) };
        let mut events = read?;
        let rest = events.split_off(events.len().min(max));
        if !rest.is_empty() {
            reads.push_front(Ok(rest));
        }
        out.extend_from_slice(&events);
        Ok(events.len())
    }

    fn copy(&self, dst: Span, src: &[u8], _: CopyMode) -> Outcome {
        assert!(!self.panics, "an ioctl that panics");
        self.copies.lock().unwrap().push(((dst.start.raw() - BASE) / 4096, src[0]));
        Outcome::done(dst.len.bytes())
    }

    fn zeropage(&self, range: Span, _: ZeropageMode) -> Outcome {
        self.copies.lock().unwrap().push(((range.start.raw() - BASE) / 4096, 0));
        Outcome::done(range.len.bytes())
    }

    fn wake(&self, _: Span) -> Result<(), Errno> {
        Ok(())
    }

    fn api(&self, _: Features) -> Result<ApiReply, Errno> {
        Err(Errno::EINVAL)
    }
    fn register(&self, _: Span, _: RegisterModes) -> Result<RangeIoctls, Errno> {
        Err(Errno::EINVAL)
    }
    fn unregister(&self, _: Span) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }
    fn continue_(&self, _: Span, _: ContinueMode) -> Outcome {
        Outcome::bare(Errno::EINVAL)
    }
    fn write_protect(&self, _: Span, _: WriteProtectMode) -> Outcome {
        Outcome::bare(Errno::EINVAL)
    }
    fn move_(&self, _: Span, _: Addr, _: MoveMode) -> Outcome {
        Outcome::bare(Errno::EINVAL)
    }
    fn poison(&self, _: Span, _: PoisonMode) -> Outcome {
        Outcome::bare(Errno::EINVAL)
    }
}

/// Says "readable" until the script is at its end, then what it was told to say.
struct Clock<'a> {
    script: &'a Script,
    at_end: Result<Wakeup, Errno>,
    now: AtomicU64,
    rung: AtomicBool,
}

impl<'a> Clock<'a> {
    fn new(script: &'a Script, at_end: Result<Wakeup, Errno>) -> Clock<'a> {
        Clock { script, at_end, now: AtomicU64::new(0), rung: AtomicBool::new(false) }
    }
}

impl Waiter for Clock<'_> {
    fn now(&self) -> Time {
        Time::from_nanos(self.now.fetch_add(10_000, Ordering::Relaxed))
    }

    fn wait(&self, until: Option<Time>) -> Result<Wakeup, Errno> {
        if !self.script.reads.lock().unwrap().is_empty() {
            return Ok(Wakeup::READABLE);
        }
        if self.rung.swap(false, Ordering::Relaxed) {
            return Ok(Wakeup::NOTIFIED);
        }
        if let Some(until) = until {
            self.now.fetch_max(until.nanos(), Ordering::Relaxed);
            return Ok(Wakeup::TIMEOUT);
        }
        self.at_end
    }

    fn notify(&self) {
        self.rung.store(true, Ordering::Relaxed);
    }
}

fn regions() -> RegionMap {
    let page = PageSize::KIB4;
    RegionMap::single(PageRange::new(Addr::new(BASE), Len::new(8 * 4096), page).unwrap())
}

fn source() -> SliceSource<Vec<u8>> {
    SliceSource::new(PageSize::KIB4, (0..8 * 4096).map(|i| (i / 4096) as u8 + 1).collect())
}

fn fault(page: u64) -> Event {
    let addr = Addr::new(BASE + page * 4096);
    Event::Fault(Fault { addr, flags: FaultFlags::empty(), tid: None })
}

fn remove(page: u64) -> Event {
    Event::Remove(Span::new(Addr::new(BASE + page * 4096), Len::new(4096)))
}

/// Run a driver over the script, on a thread of its own so that one that hangs is seen.
fn run(threads: bool, policy: Policy, script: &Script, at_end: Result<Wakeup, Errno>) -> Report {
    let driver =
        Driver::new(policy, regions(), script, Clock::new(script, at_end), source()).unwrap();
    std::thread::scope(|scope| {
        let (tell, told) = channel();
        let driver = &driver;
        scope.spawn(move || {
            let report = if threads {
                driver.run_threads(NonZeroUsize::new(3).unwrap())
            } else {
                driver.run_single()
            };
            let _ = tell.send(report);
        });
        told.recv_timeout(PATIENCE).unwrap_or_else(|error| {
            // Nothing joins a thread that hangs: the test would never end.
            eprintln!("the driver is stuck: {error}");
            if error == RecvTimeoutError::Timeout {
                std::process::abort();
            }
            panic!("the driver panicked")
        })
    })
}

/// Both drivers, one after the other.
fn both(reads: &[Read], at_end: Result<Wakeup, Errno>, check: impl Fn(Report, &Script)) {
    for threads in [false, true] {
        let script = Script::new(reads.iter().cloned());
        let report = run(threads, Policy::default(), &script, at_end);
        assert_eq!(report.counters.pending(), 0, "{report:?}");
        check(report, &script);
    }
}

#[test]
fn faults_before_the_end_of_file_are_served() {
    let reads = [Ok(vec![fault(1), remove(2)]), Err(Errno::EINTR), Ok(vec![fault(2)]), Ok(vec![])];
    both(&reads, Ok(Wakeup::empty()), |report, script| {
        assert_eq!(report.status, Status::Failed(HandlerError::EndOfFile));
        assert_eq!(script.copies(), [(1, 2), (2, 0)]);
    });
}

#[test]
fn faults_before_a_failed_read_are_served() {
    let reads = [Ok(vec![fault(5)]), Err(Errno::EIO)];
    both(&reads, Ok(Wakeup::empty()), |report, script| {
        assert_eq!(report.status, Status::Failed(HandlerError::Read(Errno::EIO)));
        assert_eq!(script.copies(), [(5, 6)]);
    });
}

#[test]
fn faults_around_an_unexpected_message_are_served() {
    let odd = Event::Fork { fd: 9 };
    both(&[Ok(vec![fault(0), odd, fault(3)])], Ok(Wakeup::empty()), |report, script| {
        assert_eq!(report.status, Status::Failed(HandlerError::UnexpectedEvent(odd)));
        assert_eq!(script.copies(), [(0, 1), (3, 4)]);
    });
}

#[test]
fn a_waiter_ends_the_driver_in_three_ways() {
    let ends = [
        (Ok(Wakeup::ERROR), Status::Failed(HandlerError::Poll)),
        (Err(Errno::EBADF), Status::Failed(HandlerError::Wait(Errno::EBADF))),
        (Ok(Wakeup::PEER_GONE), Status::Stopped(StopReason::PeerGone)),
    ];
    for (at_end, status) in ends {
        both(&[Ok(vec![fault(1)])], at_end, |report, _| {
            assert_eq!(report.status, status);
        });
    }
}

#[test]
fn a_batch_is_no_larger_than_the_policy_says() {
    let mut policy = Policy::default();
    policy.max_batch = 3;
    for threads in [false, true] {
        let events = (0..8).map(fault).collect();
        let script = Script::new([Ok(events), Ok(vec![])]);
        let report = run(threads, policy.clone(), &script, Ok(Wakeup::empty()));
        assert_eq!(report.counters.installed, 8);
        assert_eq!(script.calls.lock().unwrap().0, 3);
        assert!(report.counters.reads >= 3);
    }
}

#[test]
fn a_driver_whose_ioctl_panics_panics_and_hangs_nobody() {
    for threads in [false, true] {
        let script = Script { panics: true, ..Script::new([Ok(vec![fault(1), fault(2)])]) };
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            run(threads, Policy::default(), &script, Ok(Wakeup::empty()))
        }));
        assert!(caught.is_err());
    }
}

#[test]
fn a_driver_that_was_stopped_reads_nothing() {
    let script = Script::new([Ok(vec![fault(1)])]);
    let clock = Clock::new(&script, Ok(Wakeup::empty()));
    let driver = Driver::new(Policy::default(), regions(), &script, clock, source()).unwrap();
    driver.control().stop();
    for _ in 0..2 {
        let report = driver.run_threads(NonZeroUsize::MIN);
        assert_eq!(report.status, Status::Stopped(StopReason::Requested));
        assert_eq!(driver.run_single(), report);
    }
    assert_eq!(script.calls.lock().unwrap().1, 0);
    assert!(driver.control().snapshot().unwrap().records().is_empty());
}

#[test]
fn pages_of_the_source_and_of_the_regions_must_be_of_one_size() {
    let script = Script::default();
    let clock = Clock::new(&script, Ok(Wakeup::empty()));
    let source = ZeroSource::new(PageSize::MIB2);
    let error = Driver::new(Policy::default(), regions(), &script, clock, source).unwrap_err();
    assert_eq!(error, SetupError::PageSize { regions: PageSize::KIB4, source: PageSize::MIB2 });
}
