//! `faultbed explore`.

use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use handler::Policy;
use indicatif::{ProgressBar, ProgressStyle};
use sim::explore::{Exhaust, GOALS, Strategy};
use sim::scenario;
use sim::shrink::runs;
use sim::world::Setup;

use crate::campaign::{Campaign, Found, Report};
use crate::catalogue;
use crate::clock::Stopwatch;
use crate::exhaustive;
use crate::exit::{FOUND, Failed, OK};
use crate::jobs;
use crate::kept::Kept;
use crate::kernel::KernelArgs;
use crate::ledger::Ledger;
use crate::out;
use crate::results::goal_names;
use crate::shard::Shard;

/// Search the interleavings of the built-in scenarios, or of one scenario.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  faultbed explore                                the whole catalogue, the default handler
  faultbed explore --handler short-circuit        a handler that is wrong on purpose
  faultbed explore stale_source --schedules 1000000
  faultbed explore my.fbs --seed 7 --json
  faultbed explore --strategy pct:3 --jobs 1
  faultbed explore lost_install --exhaustive      every state, and what the runs come to
  faultbed explore --list                         the built-in scenarios

Exit code: 0 nothing found, 1 a failure was found, 2 bad usage or a malformed file.")]
pub struct Explore {
    /// A built-in scenario by name, or a scenario file.
    scenario: Option<String>,
    /// Which handler is searched.
    #[arg(long, value_name = "NAME", default_value = "default")]
    handler: String,
    #[command(flatten)]
    kernel: KernelArgs,
    /// Where the random choices come from: the same seed gives the same runs.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// How the choices are made: random, pct, pct:DEPTH, uniform, swarm, or portfolio, which
    /// is all of them in turn.
    #[arg(long, value_name = "NAME", default_value = "portfolio")]
    strategy: Strategy,
    /// Visit every state instead, as far as --states allows, and claim what was found.
    #[arg(long, conflicts_with_all = ["strategy", "seed", "schedules"])]
    exhaustive: bool,
    /// With --exhaustive: how often in a run a timer may expire while something else could
    /// happen.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "exhaustive")]
    hurries: u32,
    /// With --exhaustive: how many states of a scenario to visit before giving up.
    #[arg(long, value_name = "N", default_value_t = 2_000_000, requires = "exhaustive")]
    states: usize,
    /// With --exhaustive: visit orders that make no difference, too. For checking the reduction.
    #[arg(long, requires = "exhaustive")]
    unreduced: bool,
    /// How many processors search. The result is the same for any number.
    #[arg(long, value_name = "N", default_value_t = jobs::processors(), value_parser = at_least_one)]
    jobs: usize,
    /// Which part of the schedules to run, such as 2/8. An array job of Slurm or an indexed job of
    /// Kubernetes (with FAULTBED_SHARDS) knows its part without this.
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Write the results as JSON lines into the folder of the failures, for `faultbed merge`. A
    /// shard always does.
    #[arg(long)]
    results: bool,
    /// Fail if the campaign has not met every goal at least once.
    #[arg(long)]
    require_goals: bool,
    /// How many schedules to run, over all scenarios together.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    schedules: u64,
    /// Go on after the first failure.
    #[arg(long)]
    keep_going: bool,
    /// The folder in which failing schedules are kept.
    #[arg(long, value_name = "DIR", default_value = "faultbed-failures")]
    out: PathBuf,
    /// One JSON object on standard output instead of text.
    #[arg(long)]
    json: bool,
    /// Name the built-in scenarios and end.
    #[arg(long)]
    list: bool,
}

impl Explore {
    /// Do it.
    pub fn run(self) -> Result<ExitCode, Failed> {
        if self.list {
            for entry in catalogue::all() {
                out::say!("{:<32} {}", entry.key, entry.setup.about)?;
            }
            return Ok(OK);
        }
        let policy = policy(&self.handler)?;
        let mut setups = self.setups()?;
        for setup in &mut setups {
            self.kernel.apply(setup)?;
        }
        if self.exhaustive {
            return self.run_exhaustive(&setups, policy);
        }
        let names: Vec<String> = setups.iter().map(|setup| setup.name.clone()).collect();
        let shard = self.shard()?;
        let campaign = Campaign {
            setups: setups.into_iter().map(Arc::new).collect(),
            handler: self.handler.clone(),
            policy,
            seed: self.seed,
            strategy: self.strategy,
            schedules: self.schedules,
            jobs: self.jobs,
            shard: shard.unwrap_or(Shard::WHOLE),
            keep_going: self.keep_going,
        };
        let watch = Stopwatch::start();
        let mut ledger = Ledger::new(&campaign, &names, &self.out, self.results || shard.is_some());
        let report = self.with_progress(&campaign, &watch, &mut ledger);
        let elapsed = watch.elapsed();
        let kept = ledger.close(&report)?;
        let kept: Vec<(&Found, Kept)> = report.found.iter().zip(kept).collect();
        if self.json {
            out::say!("{}", self.as_json(&names, &report, &kept, elapsed))?;
        } else {
            out::text(self.text(&names, &report, &kept, elapsed, campaign.policy))?;
        }
        let unmet = self.require_goals && report.goals.unmet().next().is_some();
        Ok(if report.found.is_empty() && !unmet { OK } else { FOUND })
    }

    fn shard(&self) -> Result<Option<Shard>, Failed> {
        if self.shard.is_some() {
            return Ok(self.shard);
        }
        Shard::from_environment(|name| std::env::var(name).ok()).map_err(Failed::usage)
    }

    fn run_exhaustive(&self, setups: &[Setup], policy: Policy) -> Result<ExitCode, Failed> {
        let search = Exhaust {
            reduce: !self.unreduced,
            hurries: self.hurries,
            states: self.states,
            keep_going: self.keep_going,
        };
        let all = exhaustive::All { search, handler: &self.handler, policy, jobs: self.jobs };
        all.run(setups, &self.out, self.json)
    }

    fn setups(&self) -> Result<Vec<Setup>, Failed> {
        let Some(name) = &self.scenario else {
            return Ok(catalogue::all().into_iter().map(|entry| entry.setup).collect());
        };
        if let Some(entry) = catalogue::find(name) {
            return Ok(vec![entry.setup]);
        }
        let text = fs::read_to_string(name).map_err(|error| {
            Failed::usage(format!(
                "{name}: neither a built-in scenario (see `faultbed explore --list`) nor a file \
                 that can be read: {error}"
            ))
        })?;
        Ok(vec![scenario::parse(name, &text).map_err(Failed::usage)?])
    }

    fn with_progress(
        &self,
        campaign: &Campaign,
        watch: &Stopwatch,
        ledger: &mut Ledger<'_>,
    ) -> Report {
        let bar = if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new(self.schedules);
            let style = "{bar:30} {pos}/{len} schedules, {per_sec}, {eta} left{msg}";
            bar.set_style(ProgressStyle::with_template(style).expect("a valid template"));
            bar
        } else {
            ProgressBar::hidden()
        };
        let (mut said, mut written) = (Duration::ZERO, Duration::ZERO);
        let mut counter = 0u32;
        let report = campaign.run(|report| {
            if !ledger.look(report) {
                return false;
            }
            // Asking the clock after every turn would cost more than the turn.
            counter = counter.wrapping_add(1);
            if counter.is_multiple_of(64) {
                let total = report.total();
                bar.set_position(total.schedules);
                let elapsed = watch.elapsed();
                if elapsed - written >= Duration::from_secs(5) {
                    written = elapsed;
                    ledger.write(report, false);
                }
                if bar.is_hidden() && elapsed - said >= Duration::from_secs(10) {
                    said = elapsed;
                    out::note(format_args!(
                        "{} of {} schedules, {} failures, {:.0} s",
                        total.schedules,
                        self.schedules,
                        total.failures,
                        elapsed.as_secs_f64()
                    ));
                }
            }
            true
        });
        bar.finish_and_clear();
        report
    }

    fn text(
        &self,
        names: &[String],
        report: &Report,
        kept: &[(&Found, Kept)],
        elapsed: Duration,
        policy: Policy,
    ) -> Vec<u8> {
        let mut out = Vec::new();
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(8).max(8);
        let _ = writeln!(
            out,
            "{:<width$}  {:>10}  {:>10}  {:>7}  {:>8}",
            "scenario", "schedules", "steps", "longest", "failures"
        );
        // A search that stops at the first failure has not come to every scenario.
        let tried = names.iter().zip(&report.tallies).filter(|(_, tally)| tally.schedules > 0);
        for (name, tally) in tried {
            let _ = writeln!(
                out,
                "{name:<width$}  {:>10}  {:>10}  {:>7}  {:>8}",
                tally.schedules, tally.steps, tally.longest, tally.failures
            );
        }
        let total = report.total();
        let rate = total.steps as f64 / elapsed.as_secs_f64().max(1e-9);
        let _ = writeln!(
            out,
            "\n{} scenarios, {} schedules, {} steps in {:.2} s ({:.2} M steps/s), {} failures\n\
             handler {}, strategy {}, seed {}, digest {:016x}",
            names.len(),
            total.schedules,
            total.steps,
            elapsed.as_secs_f64(),
            rate / 1e6,
            total.failures,
            self.handler,
            self.strategy,
            self.seed,
            report.digest,
        );
        // One scenario cannot meet them all.
        if self.scenario.is_none() || self.require_goals {
            let met = report.goals.met().count();
            let _ = writeln!(out, "{met} of {} goals met", GOALS.len());
            for goal in report.goals.unmet() {
                let _ = writeln!(out, "never met: {}", GOALS[goal]);
            }
        }
        for (found, kept) in kept {
            let _ = writeln!(
                out,
                "\nFAILURE in {} after {} schedules: {}\n  {}\n",
                found.schedule.setup.name,
                found.after,
                found.failure.class(),
                found.schedule.setup.about,
            );
            kept.print(&mut out, &policy);
        }
        out
    }

    fn as_json(
        &self,
        names: &[String],
        report: &Report,
        kept: &[(&Found, Kept)],
        elapsed: Duration,
    ) -> serde_json::Value {
        let total = report.total();
        serde_json::json!({
            "handler": self.handler,
            "strategy": self.strategy.to_string(),
            "seed": self.seed,
            "digest": format!("{:016x}", report.digest),
            "shard": self.shard.map(|shard| shard.to_string()),
            "goals": goal_names(report.goals),
            "never_met": report.goals.unmet().map(|goal| GOALS[goal]).collect::<Vec<_>>(),
            "schedules": total.schedules,
            "steps": total.steps,
            "seconds": elapsed.as_secs_f64(),
            "scenarios": names.iter().zip(&report.tallies).map(|(name, tally)| serde_json::json!({
                "name": name,
                "schedules": tally.schedules,
                "steps": tally.steps,
                "longest": tally.longest,
                "failures": tally.failures,
            })).collect::<Vec<_>>(),
            "failures": kept.iter().map(|(found, kept)| serde_json::json!({
                "scenario": found.schedule.setup.name,
                "class": found.failure.class(),
                "what": found.failure.to_string(),
                "after": found.after,
                "walk": found.schedule.walk,
                "steps": found.schedule.steps.len(),
                "runs": runs(&found.schedule.steps).count(),
                "shrunk": kept.as_json(),
                "schedule": kept.path,
            })).collect::<Vec<_>>(),
        })
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}

/// The handler of that name.
pub fn policy(name: &str) -> Result<Policy, Failed> {
    Policy::by_name(name).ok_or_else(|| {
        let known = Policy::NAMES.join(", ");
        Failed::usage(format!("there is no handler `{name}`; the handlers are: {known}"))
    })
}

/// `path` as one word of a shell.
pub fn shell(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./+=:,".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
