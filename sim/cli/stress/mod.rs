//! `faultbed stress`: the handler against the running kernel. Owns the command and the
//! threads' beginning and end.
//!
//! One process plays all parts: it maps a region as large as the image, registers it,
//! serves its faults through the `threads` driver, and meanwhile reads, writes and
//! removes pages from other threads. Every word read has to be explained
//! ([`ledger`]), every access has to be answered in time ([`watchdog`]).

pub mod audit;
pub mod ledger;
pub mod report;
pub mod traffic;
pub mod watchdog;

use std::fs::File;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::{Args, ValueEnum};
use handler::drive::{Control, Driver};
use handler::{ImageFile, Policy, RegionMap};
use hdrhistogram::Histogram;
use shims::linux::hugepages::Reservation;
use shims::linux::{Mapping, OpenFlags, PollWaiter, UserFault};
use shims::{Features, Len, PageNo, PageSize, RegisterModes, Uffd};

use crate::clock::Stopwatch;
use crate::exit::Failed;
use ledger::Ledger;
use report::{Latency, Report, Stuck, Verdict};
use traffic::{Arena, Halt, Seat, Tally};

/// Threads that remove pages.
const REMOVERS: u64 = 2;
/// How often the watchdog looks.
const TICK: Duration = Duration::from_millis(50);
/// How long threads may take to end once nothing holds them back any more.
const GRACE: Duration = Duration::from_secs(30);

/// Serve an image to threads of this process that read, write and remove pages at random,
/// through the running kernel, and check every byte.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Half of the traffic goes to a few hot pages, so that writers and removers meet.

Examples:
  faultbed stress memory.img                        a minute with the default handler
  faultbed stress memory.img --handler short-circuit
                                                    hangs; the report names thread and page
  faultbed stress memory.img --threads 8 --remove-rate 5000 --seconds 600
  faultbed stress memory.img --page-size 2m --json  in huge pages, for machines

It needs a userfaultfd that handles faults of the kernel: run it as root, or set
vm.unprivileged_userfaultfd=1, or give yourself access to /dev/userfaultfd. With
--page-size 2m it borrows huge pages from the machine and gives them back.

Exit code: 0 every read explained and every access answered, 1 wrong content was read,
2 bad usage or an image that cannot be served, 3 an access was not answered in time,
4 the handler or a call failed.")]
pub struct Stress {
    /// The file whose bytes the memory shows; a whole number of pages.
    image: PathBuf,
    /// Threads that read and write.
    #[arg(long, value_name = "T", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=1024))]
    threads: u64,
    /// Removes a second, over all of their threads; 0 for none.
    #[arg(long, value_name = "R", default_value_t = 2000)]
    remove_rate: u64,
    /// How many pages are hot.
    #[arg(long, value_name = "PAGES", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..))]
    hot: u64,
    /// How long.
    #[arg(long, value_name = "S", default_value_t = 60)]
    seconds: u64,
    /// Which handler.
    #[arg(long, value_name = "NAME", default_value = "default")]
    handler: String,
    /// The handler's threads, besides the one that reads messages.
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::MIN.saturating_add(1))]
    workers: NonZeroUsize,
    /// The size of pages.
    #[arg(long, value_enum, default_value_t = Pages::Small)]
    page_size: Pages,
    /// Seconds after which an access that is not answered is a hang.
    #[arg(long, value_name = "S", default_value_t = 5)]
    patience: u64,
    /// Where the random choices come from. The interleaving is the kernel's all the same.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// One JSON object on standard output instead of text.
    #[arg(long)]
    json: bool,
}

/// The sizes of pages there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Pages {
    /// 4 KiB.
    #[value(name = "4k")]
    Small,
    /// 2 MiB, of the pool of huge pages.
    #[value(name = "2m")]
    Huge,
}

type Waiter<'a> = PollWaiter<&'a UserFault>;

impl Stress {
    /// Do it.
    pub fn run(self) -> Result<ExitCode, Failed> {
        let report = self.measure()?;
        if self.json {
            let json = serde_json::to_string(&report).map_err(Failed::io)?;
            println!("{json}");
        } else {
            println!("{report}");
        }
        Ok(ExitCode::from(report.verdict.code()))
    }

    fn measure(&self) -> Result<Report, Failed> {
        let policy = Policy::by_name(&self.handler).ok_or_else(|| {
            let names = Policy::NAMES.join(", ");
            Failed::usage(format!("no handler is called {:?}; there are {names}", self.handler))
        })?;
        let page = match self.page_size {
            Pages::Small => PageSize::KIB4,
            Pages::Huge => PageSize::MIB2,
        };
        let source = ImageFile::open(&self.image, page).map_err(Failed::usage)?;
        let image = File::open(&self.image)
            .map_err(|e| Failed::usage(format!("{}: {e}", self.image.display())))?;
        let len = Len::new(source.len());
        let pages = len.whole_pages(page);

        let _pool = match page {
            PageSize::MIB2 => Some(Reservation::new(pages).map_err(|e| {
                Failed::usage(format!("{pages} huge pages cannot be borrowed: {e}"))
            })?),
            _ => None,
        };
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

        let hot = self.hot.min(pages);
        let middle = (pages - hot) / 2;
        let arena = Arena {
            map: &map,
            image: &image,
            ledger: Ledger::new(pages),
            hot: middle..middle + hot,
            halt: Halt::default(),
            watch: Stopwatch::start(),
            abandoned: AtomicBool::new(false),
            trouble: Mutex::new(None),
        };
        let waiter = PollWaiter::new(&uffd).map_err(|e| Failed::io(format!("an eventfd: {e}")))?;
        let serving = Arc::new(Mutex::new(Tally::new().accesses));
        let times = Arc::clone(&serving);
        let driver =
            Driver::new(policy, RegionMap::single(map.page_range()), &uffd, waiter, source)
                .map_err(Failed::io)?
                .on_served(move |served| {
                    let nanos = served.took.as_nanos() as u64;
                    times
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .saturating_record(nanos.max(1));
                });
        let mut report = self.empty_report(&arena);
        let control = driver.control();
        let tally = self.play(&arena, &driver, &uffd, &mut report)?;
        report.enter_traffic(&tally, arena.watch.elapsed());
        let serving = serving.lock().unwrap_or_else(PoisonError::into_inner);
        report.enter_handler(&control.counters(), &serving);
        Ok(report)
    }

    /// Start every thread, watch them, and end them.
    fn play(
        &self,
        arena: &Arena<'_>,
        driver: &Driver<&UserFault, Waiter<'_>, ImageFile>,
        uffd: &UserFault,
        report: &mut Report,
    ) -> Result<Tally, Failed> {
        let control = driver.control();
        let name = |kind: &str, index: u64| Seat::new(format!("{kind}-{index}"));
        let mut seats: Vec<_> = (0..self.threads).map(|i| name("access", i)).collect();
        if self.remove_rate > 0 {
            seats.extend((0..REMOVERS).map(|i| name("remove", i)));
        }
        let rate = self.remove_rate.clamp(1, u32::MAX.into()) as u32;
        let period = Duration::from_secs(REMOVERS) / rate;
        std::thread::scope(|scope| {
            let failed = |e| Failed::io(format!("starting a thread: {e}"));
            // However this ends, threads that sleep in the kernel are let go before the
            // scope waits for them.
            let end = End { arena, uffd, control: &control };
            let threads = self.workers;
            let serve = move || driver.run_threads(threads);
            let server = std::thread::Builder::new()
                .name("handler".into())
                .spawn_scoped(scope, serve)
                .map_err(failed)?;
            let (tell, told) = channel();
            for (index, seat) in seats.iter().enumerate() {
                let tell = tell.clone();
                // Seeds of different threads differ, and so do those of different runs.
                let seed = self.seed.wrapping_mul(1 << 20).wrapping_add(index as u64);
                let work = move || {
                    let tally = if (index as u64) < self.threads {
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
        let (time, patience) =
            (Duration::from_secs(self.seconds), Duration::from_secs(self.patience));
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
            if now >= time {
                arena.halt.ask();
            }
            if let Some(since) = let_go {
                end.let_go();
                if now.saturating_sub(since) > GRACE {
                    // Nothing that holds them is known: a report is better than a wait.
                    println!("{report}");
                    eprintln!("faultbed: {left} threads cannot be ended");
                    std::process::exit(report.verdict.code().into());
                }
                continue;
            }
            let stuck = watchdog::stuck(seats, now, patience);
            let over = control.status().is_over();
            if stuck.is_empty() && !over {
                continue;
            }
            if over {
                report.verdict = Verdict::Failed;
                report.trouble = Some(format!("the handler {}", control.status()));
            } else {
                report.verdict = Verdict::Hang;
                report.stuck = stuck.iter().map(|s| self.describe(s, end)).collect();
                report.sleeping = uffd.info().ok().map(|info| (info.pending, info.total));
            }
            end.let_go();
            let_go = Some(now);
        }
        if report.verdict == Verdict::Clean {
            let mut trouble = arena.trouble.lock().unwrap_or_else(PoisonError::into_inner);
            report.enter_trouble(trouble.take());
        }
        tally
    }

    fn describe(&self, stuck: &watchdog::Waiting<'_>, end: &End<'_>) -> Stuck {
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
            tracker: format!("{:?}{unconfirmed}{serving}", known.state),
            present: arena.map.page_entry(offset).ok().map(|entry| entry.is_present()),
            removes_begun,
            removes_ended,
        }
    }

    fn empty_report(&self, arena: &Arena<'_>) -> Report {
        let nothing = Latency::of(&Histogram::new(1).expect("one digit is valid"));
        Report {
            verdict: Verdict::Clean,
            trouble: None,
            handler: self.handler.clone(),
            seed: self.seed,
            image_bytes: arena.map.len().bytes(),
            page_bytes: arena.map.page_size().bytes(),
            threads: self.threads as usize,
            seconds: 0.0,
            reads: 0,
            writes: 0,
            removes: 0,
            pages_removed: 0,
            faults: 0,
            faults_per_second: 0.0,
            installed: 0,
            already_present: 0,
            short_circuited: 0,
            remove_messages: 0,
            deferrals: 0,
            wakes: 0,
            stale_fetches: 0,
            access_ns: nothing,
            remove_ns: nothing,
            serve_ns: nothing,
            stuck: Vec::new(),
            sleeping: None,
        }
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        stress: Stress,
    }

    #[test]
    fn the_line_of_the_documentation_is_understood() {
        let line = "stress a.img --threads 3 --remove-rate 9 --hot 8 --seconds 2 --handler x \
                    --page-size 2m --json";
        let stress = Line::try_parse_from(line.split_whitespace()).unwrap().stress;
        assert_eq!((stress.threads, stress.remove_rate, stress.hot), (3, 9, 8));
        assert_eq!((stress.page_size, stress.json), (Pages::Huge, true));
        for bad in ["--threads 0", "--hot 0", "--page-size 1g", "--seconds -1"] {
            let line = format!("stress a.img {bad}");
            assert!(Line::try_parse_from(line.split_whitespace()).is_err(), "{bad}");
        }
    }
}
