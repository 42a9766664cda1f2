//! `faultbed zoo`: handlers that are wrong in ways that handlers have been wrong in, each with the
//! world that finds it out. Owns the command, the search for one mistake and the report.

mod flaw;
mod hunt;
mod mistake;
mod plain;
mod worlds;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use sim::explore::Strategy;
use sim::schedule::Schedule;
use sim::shrink::runs;

pub use hunt::{Hit, Plan, shrink, wrong_in};
pub use mistake::{Mistake, all, places};
pub use worlds::Place;

use crate::exit::{FOUND, Failed, OK};
use crate::kernel::KernelArgs;
use crate::out;

/// Find the mistakes of wrong handlers, and none in the right ones.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  faultbed zoo                             all mistakes, all strategies, 20 seeds each
  faultbed zoo short-circuit late-join     some of them
  faultbed zoo --seeds 3 --strategy pct:3
  faultbed zoo short-circuit --profile 5.15
  faultbed zoo --list

Exit code: 0 every mistake was found and nothing in the right handlers, 1 otherwise, 2 bad usage.")]
pub struct Zoo {
    /// Which mistakes; all, if none is named.
    mistakes: Vec<String>,
    #[command(flatten)]
    kernel: KernelArgs,
    /// Seeds for each mistake and strategy.
    #[arg(long, value_name = "N", default_value_t = 20)]
    seeds: u64,
    /// Only this strategy.
    #[arg(long, value_name = "NAME")]
    strategy: Option<Strategy>,
    /// Schedules after which a search gives up.
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    schedules: u64,
    /// Schedules of each world that the right handlers have to survive, each.
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    right: u64,
    /// JSON lines on standard output instead of text.
    #[arg(long)]
    json: bool,
    /// Name the mistakes and end.
    #[arg(long)]
    list: bool,
}

/// The strategies a mistake is searched with.
const STRATEGIES: [Strategy; 5] =
    [Strategy::Random, Strategy::Pct(3), Strategy::Uniform, Strategy::Swarm, Strategy::Portfolio];

impl Zoo {
    /// Do it.
    pub fn run(self) -> Result<ExitCode, Failed> {
        let mut mistakes = self.chosen()?;
        let mut places = places();
        let theirs = mistakes.iter_mut().map(|mistake| &mut mistake.place);
        for place in theirs.chain(&mut places) {
            self.kernel.apply(Arc::make_mut(&mut place.setup))?;
        }
        if self.list {
            for one in mistakes {
                out::say!("{:<20} {:<9} {}", one.key, one.entry, one.about)?;
            }
            return Ok(OK);
        }
        let mut bad = 0;
        if !self.json {
            out::say!(
                "{:<20} {:<10} {:<24} {:<12} {:>6} {:>9} {:>9} {:>9}  runs, steps",
                "mistake",
                "entry",
                "world",
                "strategy",
                "found",
                "schedules",
                "median",
                "worst"
            )?;
        }
        for mistake in mistakes {
            bad += u32::from(!self.show(&mistake)?);
        }
        for place in places {
            let wrong = wrong_in(&place, self.right);
            if self.json {
                let name = place.name;
                out::say!("{}", serde_json::json!({ "world": name, "right_handlers": wrong }))?;
            } else {
                let verdict = wrong.as_deref().unwrap_or("the right handlers pass");
                out::say!("{:<31} {verdict}", place.name)?;
            }
            bad += u32::from(wrong.is_some());
        }
        Ok(if bad == 0 { OK } else { FOUND })
    }

    fn chosen(&self) -> Result<Vec<Mistake>, Failed> {
        let all = all();
        if self.mistakes.is_empty() {
            return Ok(all);
        }
        let named = |key: &String| {
            let unknown = || Failed::usage(format!("there is no mistake `{key}`; see --list"));
            all.iter().find(|mistake| mistake.key == key).cloned().ok_or_else(unknown)
        };
        self.mistakes.iter().map(named).collect()
    }

    /// Search for a mistake in every way. Tells whether the portfolio, or the one strategy that
    /// was asked for, always found it.
    fn show(&self, mistake: &Mistake) -> Result<bool, Failed> {
        let strategies = self.strategy.map_or(STRATEGIES.to_vec(), |only| vec![only]);
        let mut all = true;
        for (number, strategy) in strategies.iter().copied().enumerate() {
            let plan = |seed| Plan { strategy, seed, schedules: self.schedules };
            let mut hits: Vec<Hit> =
                (1..=self.seeds).filter_map(|seed| plan(seed).hunt(mistake)).collect();
            let found = hits.len() as u64;
            // No strategy is the best for every mistake; the default one has to find all.
            let last = number + 1 == strategies.len();
            all &= !last || found == self.seeds;
            let small = if last { hits.first().and_then(|hit| shrink(mistake, hit)) } else { None };
            let before = hits.first().map(|hit| size(&hit.schedule));
            hits.sort_by_key(|hit| hit.took);
            let took = |at: usize| hits.get(at).map(|hit| hit.took);
            let (median, worst) = (took(hits.len() / 2), took(hits.len().saturating_sub(1)));
            let mut schedules: Vec<u64> = hits.iter().map(|hit| hit.schedules).collect();
            schedules.sort_unstable();
            let tries = schedules.get(schedules.len() / 2).copied();
            let class = hits.first().and_then(|hit| hit.schedule.fails.clone());
            let after = small.as_ref().map(size);
            if self.json {
                let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
                out::say!(
                    "{}",
                    serde_json::json!({
                        "mistake": mistake.key, "entry": mistake.entry, "world": mistake.place.name,
                        "strategy": strategy.to_string(), "seeds": self.seeds, "found": found,
                        "class": class, "schedules": tries, "seconds": seconds(median),
                        "worst_seconds": seconds(worst), "size": before, "shrunk": after,
                    })
                )?;
                continue;
            }
            let time = |time: Option<Duration>| time.map_or("-".to_owned(), |t| format!("{t:.1?}"));
            let shrunk = match (before, after) {
                (Some(before), Some(after)) => format!(
                    "{}, {} to {}, {} ({})",
                    before.0,
                    before.1,
                    after.0,
                    after.1,
                    class.unwrap_or_default()
                ),
                _ => String::new(),
            };
            let (key, entry, world) = match number {
                0 => (mistake.key, mistake.entry, mistake.place.name),
                _ => ("", "", ""),
            };
            out::say!(
                "{key:<20} {entry:<10} {world:<24} {:<12} {found:>3}/{:<2} {:>9} {:>9} {:>9}  {shrunk}",
                strategy.to_string(),
                self.seeds,
                tries.map_or("-".to_owned(), |tries| tries.to_string()),
                time(median),
                time(worst),
            )?;
        }
        Ok(all)
    }
}

/// Runs of steps of one actor, and steps.
fn size(schedule: &Schedule) -> (usize, usize) {
    (runs(&schedule.steps).count(), schedule.steps.len())
}
