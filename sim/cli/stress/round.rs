//! One round: memory, handler and threads, from their beginning to their end. Owns the
//! order in which they start and stop, so that whatever goes wrong no thread is left
//! asleep in the kernel.

use std::fs::File;
use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use handler::drive::{Control, Driver};
use handler::{Counters, ImageFile, Policy, RegionMap};
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use shims::linux::{Mapping, OpenFlags, PollWaiter, UserFault};
use shims::{Features, Len, PageNo, PageSize, RegisterModes, Uffd};

use super::report::{Report, Stuck, Verdict};
use super::traffic::{self, Arena, Seat, Tally};
use super::{audit, watchdog};
use crate::exit::Failed;
use crate::out;

/// Threads that remove pages.
const REMOVERS: u64 = 2;
/// How often the watchdog looks.
const TICK: Duration = Duration::from_millis(50);
/// How long threads may take to end once nothing holds them back any more.
const GRACE: Duration = Duration::from_secs(30);

/// What a round is played with.
#[derive(Clone, Copy, Debug)]
pub struct Round<'a> {
    /// Where the handler's pages come from.
    pub source: &'a ImageFile,
    /// The same file, for the threads that check.
    pub image: &'a File,
    /// The handler's policy.
    pub policy: &'a Policy,
    /// Threads that read and write.
    pub threads: u64,
    /// The handler's threads.
    pub workers: NonZeroUsize,
    /// Removes a second.
    pub remove_rate: u64,
    /// How many pages are hot.
    pub hot: u64,
    /// How long.
    pub time: Duration,
    /// How long an access may take.
    pub patience: Duration,
    /// The first thread's seed; the others have the numbers that follow.
    pub seed: u64,
    /// Shows how far the run is.
    pub bar: &'a ProgressBar,
}

/// What all rounds came to so far.
#[derive(Debug)]
pub struct Totals {
    tally: Tally,
    counters: Counters,
    serving: Arc<Mutex<Histogram<u64>>>,
}

type Waiter<'a> = PollWaiter<&'a UserFault>;

impl Totals {
    /// Nothing.
    pub fn new() -> Totals {
        let tally = Tally::new();
        let serving = Arc::new(Mutex::new(tally.accesses.clone()));
        Totals { tally, counters: Counters::default(), serving }
    }

    /// Enter them into the report.
    pub fn enter(&self, report: &mut Report, elapsed: Duration) {
        let serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
        report.enter(&self.tally, &self.counters, &serving, elapsed);
    }

    fn add(&mut self, round: &Counters) {
        let sum = &mut self.counters;
        sum.faults += round.faults;
        sum.installed += round.installed;
        sum.already_present += round.already_present;
        sum.short_circuited += round.short_circuited;
        sum.removes += round.removes;
        sum.deferrals += round.deferrals;
        sum.wakes += round.wakes;
        sum.stale_fetches += round.stale_fetches;
    }
}

impl Default for Totals {
    fn default() -> Totals {
        Totals::new()
    }
}

impl Round<'_> {
    /// Play it; what happened is added to `totals`, what is wrong entered into `report`.
    pub fn play(&self, totals: &mut Totals, report: &mut Report) -> Result<(), Failed> {
        let (len, page) =
            (Len::new(self.source.len()), handler::PageSource::page_size(&self.source));
        let map = match page {
            PageSize::MIB2 => Mapping::hugetlb(len),
            _ => Mapping::anonymous(len),
        }
        .map_err(|e| Failed::io(format!("{} bytes of memory: {e}", len.bytes())))?;
        let mut features = Features::EVENT_REMOVE;
        features.set(Features::MISSING_HUGETLBFS, page == PageSize::MIB2);
        let (uffd, _) = UserFault::connect(OpenFlags::empty(), features).map_err(Failed::usage)?;
        uffd.register(map.span(), RegisterModes::MISSING)
            .map_err(|e| Failed::io(format!("registering the memory: {e}")))?;

        let arena = Arena::new(&map, self.image, self.hot);
        let waiter = PollWaiter::new(&uffd).map_err(|e| Failed::io(format!("an eventfd: {e}")))?;
        let times = Arc::clone(&totals.serving);
        let regions = RegionMap::single(map.page_range());
        let driver = Driver::new(self.policy.clone(), regions, &uffd, waiter, self.source)
            .map_err(Failed::io)?
            .on_served(move |served| {
                let nanos = u64::try_from(served.took.as_nanos()).unwrap_or(u64::MAX);
                let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
                times.saturating_record(nanos.max(1));
            });
        let tally = self.run(&arena, &driver, &uffd, report)?;
        totals.tally.add(&tally);
        totals.add(&driver.control().counters());
        Ok(())
    }

    /// Start every thread, watch them, and end them.
    fn run(
        &self,
        arena: &Arena<'_>,
        driver: &Driver<&UserFault, Waiter<'_>, &ImageFile>,
        uffd: &UserFault,
        report: &mut Report,
    ) -> Result<Tally, Failed> {
        let control = driver.control();
        let name = |kind: &str, index: u64| Seat::new(format!("{kind}-{index}"));
        let mut seats: Vec<_> = (0..self.threads).map(|i| name("access", i)).collect();
        if self.remove_rate > 0 {
            seats.extend((0..REMOVERS).map(|i| name("remove", i)));
        }
        let rate = u32::try_from(self.remove_rate.max(1)).unwrap_or(u32::MAX);
        let period = Duration::from_secs(REMOVERS) / rate;
        std::thread::scope(|scope| {
            let failed = |e| Failed::io(format!("starting a thread: {e}"));
            // However this ends, threads that sleep in the kernel are let go before the
            // scope waits for them.
            let end = End { arena, uffd, control: &control };
            let serve = || driver.run_threads(self.workers);
            let server = std::thread::Builder::new()
                .name("handler".into())
                .spawn_scoped(scope, serve)
                .map_err(failed)?;
            let (tell, told) = channel();
            for (index, seat) in (0..).zip(&seats) {
                let tell = tell.clone();
                let (seed, threads) = (self.seed.wrapping_add(index), self.threads);
                let work = move || {
                    let tally = if index < threads {
                        traffic::access(arena, seat, seed)
                    } else {
                        traffic::remove(arena, seat, seed, period)
                    };
                    let _ = tell.send(tally);
                };
                std::thread::Builder::new()
                    .name(seat.name.clone())
                    .spawn_scoped(scope, work)
                    .map_err(failed)?;
            }
            // What is left of it belongs to the threads: once they have all ended, even by
            // a panic, there is nobody to wait for.
            drop(tell);
            let tally = self.watch(&end, &seats, &told, report);
            if report.verdict == Verdict::Clean {
                let states = control.snapshot().map_err(Failed::io)?;
                report.enter_trouble(audit::audit(arena, &states).err());
            }
            control.stop();
            drop(end);
            server.join().map_err(|_| Failed::io("the handler panicked"))?;
            Ok(tally)
        })
    }

    /// Wait until every thread has ended. Ends them when the time is over, when something
    /// is wrong, or when one of them waits for too long.
    fn watch(
        &self,
        end: &End<'_>,
        seats: &[Seat],
        told: &Receiver<Tally>,
        report: &mut Report,
    ) -> Tally {
        let End { arena, uffd, control } = *end;
        let (mut tally, mut left) = (Tally::new(), seats.len());
        let mut let_go = None;
        while left > 0 {
            match told.recv_timeout(TICK) {
                Ok(one) => {
                    tally.add(&one);
                    left -= 1;
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => {}
                // A thread panicked: the scope will say so.
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let now = arena.watch.elapsed();
            self.bar.set_position(self.bar.elapsed().as_secs());
            if now >= self.time {
                arena.halt.ask();
            }
            if let Some(since) = let_go {
                end.let_go();
                if now.saturating_sub(since) > GRACE {
                    // Nothing that holds them is known: a report is better than a wait.
                    let _ = out::say!("{report}");
                    out::note(format_args!("faultbed: {left} threads cannot be ended"));
                    std::process::exit(report.verdict.code().into());
                }
                continue;
            }
            let stuck = watchdog::stuck(seats, now, self.patience);
            let over = control.status().is_over();
            if stuck.is_empty() && !over {
                continue;
            }
            if over {
                report.verdict = Verdict::Failed;
                report.trouble = Some(format!("the handler {}", control.status()));
            } else {
                report.verdict = Verdict::Hang;
                report.stuck = stuck.iter().map(|waiting| describe(waiting, end)).collect();
                report.sleeping = uffd.info().ok().map(|info| (info.pending, info.total));
            }
            end.let_go();
            let_go = Some(now);
        }
        if report.verdict == Verdict::Clean {
            report.enter_trouble(arena.take_trouble());
        }
        tally
    }
}

fn describe(stuck: &watchdog::Waiting<'_>, end: &End<'_>) -> Stuck {
    let End { arena, control, .. } = *end;
    let watchdog::Waiting { seat, doing, waited } = *stuck;
    let page = doing.page;
    let offset = page * arena.map.page_size().bytes();
    let known = control.page(PageNo::new(page));
    let unconfirmed = if known.unconfirmed { ", unconfirmed" } else { "" };
    let serving = if known.serving { ", being served" } else { ", not being served" };
    let (removes_begun, removes_ended) = arena.ledger.removes(page);
    Stuck {
        thread: seat.name.clone(),
        tid: doing.tid,
        act: doing.act.to_string(),
        page,
        count: doing.count,
        offset,
        waited_ms: waited.as_millis() as u64,
        tracker: format!("{}{unconfirmed}{serving}", known.state),
        present: arena.map.page_entry(offset).ok().map(|entry| entry.is_present()),
        removes_begun,
        removes_ended,
        removes_before: doing.removes,
    }
}

/// Ends what sleeps in the kernel.
struct End<'a> {
    arena: &'a Arena<'a>,
    uffd: &'a UserFault,
    control: &'a Control<Waiter<'a>>,
}

impl End<'_> {
    /// Give the memory up: whoever waits for a page gets a zero page, whoever waits for an
    /// event to be read is let go. Nothing read from now on means anything.
    fn let_go(&self) {
        self.arena.abandoned.store(true, Ordering::SeqCst);
        self.arena.halt.ask();
        let _ = self.uffd.unregister(self.arena.map.span());
        let _ = self.uffd.wake(self.arena.map.span());
        let _ = self.uffd.read_events(&mut Vec::new(), 128);
    }
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.control.stop();
        self.let_go();
    }
}
