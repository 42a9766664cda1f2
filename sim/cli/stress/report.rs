//! What a run came to. Owns the report, as text and as JSON, and the exit code.

use core::fmt;
use std::time::Duration;

use handler::Counters;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::traffic::{Tally, Trouble};

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every word was explained and every access answered.
    Clean,
    /// A word that nothing explains was read.
    WrongContent,
    /// An access was not answered in time.
    Hang,
    /// A call, the handler or the image failed.
    Failed,
}

/// An access that was not answered in time.
#[derive(Clone, Debug, Serialize)]
pub struct Stuck {
    /// The thread's name.
    pub thread: String,
    /// The thread, as the kernel numbers it.
    pub tid: i32,
    /// What it does.
    pub act: String,
    /// The page it does it to, counted from 0.
    pub page: u64,
    /// How many pages.
    pub count: u64,
    /// That page's first byte in the image.
    pub offset: u64,
    /// How long it has waited.
    pub waited_ms: u64,
    /// The tracker's state of the page.
    pub tracker: String,
    /// Whether the kernel maps a page there; `None` if it does not tell.
    pub present: Option<bool>,
    /// Removes of the page that have begun.
    pub removes_begun: u64,
    /// Removes of the page that have ended.
    pub removes_ended: u64,
}

/// Percentiles of a duration, in nanoseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    count: u64,
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

/// What a run came to.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// How it ended.
    pub verdict: Verdict,
    /// What went wrong, in a line.
    pub trouble: Option<String>,
    /// The name of the handler's policy.
    pub handler: String,
    /// Where the random choices came from.
    pub seed: u64,
    /// Bytes in the image.
    pub image_bytes: u64,
    /// Bytes in a page.
    pub page_bytes: u64,
    /// Threads that read and wrote.
    pub threads: usize,
    /// How long it ran.
    pub seconds: f64,
    /// Reads that were checked.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Calls that removed pages.
    pub removes: u64,
    /// Pages removed.
    pub pages_removed: u64,
    /// Faults the handler read.
    pub faults: u64,
    /// Faults a second.
    pub faults_per_second: f64,
    /// Faults that an install answered.
    pub installed: u64,
    /// Faults on pages that were there.
    pub already_present: u64,
    /// Faults that the tracker answered.
    pub short_circuited: u64,
    /// `REMOVE` messages the handler read.
    pub remove_messages: u64,
    /// Installs put off because the address space was changing.
    pub deferrals: u64,
    /// Wakes.
    pub wakes: u64,
    /// Source pages fetched and dropped, because they had been removed meanwhile.
    pub stale_fetches: u64,
    /// How long accesses took, including those that caused no fault.
    pub access_ns: Latency,
    /// How long removes took.
    pub remove_ns: Latency,
    /// How long the handler took from reading a fault to answering it.
    pub serve_ns: Latency,
    /// Accesses that were not answered in time.
    pub stuck: Vec<Stuck>,
    /// Faults that nobody has read, and all that sleep, when a hang was found.
    pub sleeping: Option<(u64, u64)>,
}

impl Latency {
    /// The percentiles of `histogram`.
    pub fn of(histogram: &Histogram<u64>) -> Latency {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Latency {
            count: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max(),
        }
    }
}

impl Verdict {
    /// The exit code of the command.
    pub const fn code(self) -> u8 {
        match self {
            Verdict::Clean => 0,
            Verdict::WrongContent => 1,
            Verdict::Hang => 3,
            Verdict::Failed => 4,
        }
    }
}

impl Report {
    /// Enter what went wrong, if something did.
    pub fn enter_trouble(&mut self, trouble: Option<Trouble>) {
        let Some(trouble) = trouble else { return };
        self.verdict = match trouble {
            Trouble::WrongByte(_) => Verdict::WrongContent,
            Trouble::Call(_) | Trouble::Image(_) => Verdict::Failed,
        };
        self.trouble = Some(trouble.to_string());
    }

    /// Enter what the threads did.
    pub fn enter_traffic(&mut self, tally: &Tally, elapsed: Duration) {
        self.seconds = elapsed.as_secs_f64();
        self.reads = tally.reads;
        self.writes = tally.writes;
        self.removes = tally.removes.len();
        self.pages_removed = tally.pages_removed;
        self.access_ns = Latency::of(&tally.accesses);
        self.remove_ns = Latency::of(&tally.removes);
    }

    /// Enter what the handler did.
    pub fn enter_handler(&mut self, counters: &Counters, serving: &Histogram<u64>) {
        self.faults = counters.faults;
        self.faults_per_second = counters.faults as f64 / self.seconds.max(1e-9);
        self.installed = counters.installed;
        self.already_present = counters.already_present;
        self.short_circuited = counters.short_circuited;
        self.remove_messages = counters.removes;
        self.deferrals = counters.deferrals;
        self.wakes = counters.wakes;
        self.stale_fetches = counters.stale_fetches;
        self.serve_ns = Latency::of(serving);
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = Duration::from_nanos;
        write!(
            f,
            "p50 {:.1?}  p90 {:.1?}  p99 {:.1?}  p99.9 {:.1?}  max {:.1?}  ({} samples)",
            at(self.p50),
            at(self.p90),
            at(self.p99),
            at(self.p999),
            at(self.max),
            self.count
        )
    }
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let present = match self.present {
            Some(true) => "maps a page there",
            Some(false) => "maps no page there",
            None => "does not tell whether it maps a page there",
        };
        write!(
            f,
            "thread {} ({}) has waited {:.1} s for {} of {} from page {} (byte {:#x} of the \
             image)\n  tracker: {}\n  kernel: {}; {} removes of the page have begun, {} have \
             ended",
            self.thread,
            self.tid,
            self.waited_ms as f64 / 1e3,
            self.act,
            if self.count == 1 { "1 page".to_owned() } else { format!("{} pages", self.count) },
            self.page,
            self.offset,
            self.tracker,
            present,
            self.removes_begun,
            self.removes_ended
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} threads over {} MiB in {} KiB pages, handler {}, seed {}, {:.1} s",
            self.threads,
            self.image_bytes >> 20,
            self.page_bytes >> 10,
            self.handler,
            self.seed,
            self.seconds
        )?;
        writeln!(
            f,
            "faults     {} ({:.0}/s): {} installed, {} already present, {} answered by the \
             tracker",
            self.faults,
            self.faults_per_second,
            self.installed,
            self.already_present,
            self.short_circuited
        )?;
        writeln!(
            f,
            "removes    {} calls, {} pages, {} messages read",
            self.removes, self.pages_removed, self.remove_messages
        )?;
        writeln!(
            f,
            "handler    {} deferrals, {} wakes, {} stale fetches dropped",
            self.deferrals, self.wakes, self.stale_fetches
        )?;
        writeln!(f, "traffic    {} reads checked, {} writes", self.reads, self.writes)?;
        writeln!(f, "access     {}", self.access_ns)?;
        writeln!(f, "remove     {}", self.remove_ns)?;
        writeln!(f, "serving    {}", self.serve_ns)?;
        if let Some(trouble) = &self.trouble {
            writeln!(f, "{trouble}")?;
        }
        for stuck in &self.stuck {
            writeln!(f, "{stuck}")?;
        }
        if let Some((pending, total)) = self.sleeping {
            writeln!(
                f,
                "  userfaultfd: {total} faults asleep, {pending} of them not read by anybody"
            )?;
        }
        f.write_str(match self.verdict {
            Verdict::Clean => "clean: every read was explained, every access answered",
            Verdict::WrongContent => "WRONG CONTENT",
            Verdict::Hang => "HANG",
            Verdict::Failed => "FAILED",
        })
    }
}
