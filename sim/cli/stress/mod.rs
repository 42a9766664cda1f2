//! `faultbed stress`: the handler against the running kernel. Owns the command: what it
//! needs, how often it starts over, what it prints.
//!
//! One process plays all parts ([`round`]): it maps a region as large as the image,
//! registers it, serves its faults through the `threads` driver, and meanwhile reads,
//! writes and removes pages from other threads. Every word read has to be explained
//! ([`ledger`]), every access has to be answered in time ([`watchdog`]), and at the end of
//! a round tracker, page table and content have to agree ([`audit`]).

pub mod audit;
pub mod ledger;
pub mod report;
pub mod round;
pub mod traffic;
pub mod watchdog;

use std::fs::File;
use std::io::IsTerminal;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use handler::{ImageFile, Policy};
use indicatif::{ProgressBar, ProgressStyle};
use shims::PageSize;
use shims::linux::hugepages::Reservation;

use crate::clock::Stopwatch;
use crate::exit::Failed;
use crate::out;
use report::{Report, Verdict};
use round::{Round, Totals};

/// Serve an image to threads of this process that read, write and remove pages at random,
/// through the running kernel, and check every byte.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Half of the traffic goes to a few hot pages, so that writers and removers meet. A page
shows the image only until it is first removed, so the run starts over with fresh memory
every few seconds; at the end of each such round the handler's page states, the kernel's
page table and every page's content are compared.

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
    /// Start over with fresh memory after so many seconds.
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    round: u64,
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

impl Stress {
    /// Do it.
    pub fn run(self) -> Result<ExitCode, Failed> {
        let report = self.measure()?;
        if self.json {
            let json = serde_json::to_string(&report).map_err(Failed::io)?;
            out::say!("{json}")?;
        } else {
            out::say!("{report}")?;
        }
        Ok(ExitCode::from(report.verdict.code()))
    }

    /// Round after round until the time is over or something is wrong.
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
        let pages = source.page_count();
        let _pool = match page {
            PageSize::MIB2 => Some(Reservation::new(pages).map_err(|e| {
                Failed::usage(format!("{pages} huge pages cannot be borrowed: {e}"))
            })?),
            _ => None,
        };

        let mut report = Report::new(&self.handler, self.seed, source.len(), page.bytes());
        report.threads = self.threads;
        let mut totals = Totals::new();
        let (watch, total) = (Stopwatch::start(), Duration::from_secs(self.seconds));
        let bar = self.progress();
        while report.verdict == Verdict::Clean && (watch.elapsed() < total || report.rounds == 0) {
            let left = total.saturating_sub(watch.elapsed());
            let round = Round {
                source: &source,
                image: &image,
                policy: &policy,
                threads: self.threads,
                workers: self.workers,
                remove_rate: self.remove_rate,
                hot: self.hot,
                time: left.min(Duration::from_secs(self.round)),
                patience: Duration::from_secs(self.patience),
                // No two threads of any two rounds have the same seed.
                seed: self.seed.wrapping_mul(1 << 40) + (report.rounds << 20),
                bar: &bar,
            };
            round.play(&mut totals, &mut report)?;
            report.rounds += 1;
        }
        bar.finish_and_clear();
        totals.enter(&mut report, watch.elapsed());
        Ok(report)
    }

    fn progress(&self) -> ProgressBar {
        if self.json || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(self.seconds);
        let style = "{bar:30} {elapsed} of {len} s{msg}";
        bar.set_style(ProgressStyle::with_template(style).expect("a valid template"));
        bar
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
        for bad in ["--threads 0", "--hot 0", "--page-size 1g", "--seconds -1", "--round 0"] {
            let line = format!("stress a.img {bad}");
            assert!(Line::try_parse_from(line.split_whitespace()).is_err(), "{bad}");
        }
    }
}
