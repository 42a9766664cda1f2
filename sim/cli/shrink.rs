//! `faultbed shrink`.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use handler::Policy;
use sim::schedule::Schedule;
use sim::shrink::{self, Effort, MakeWorld, Shrunk, runs};
use sim::world::Setup;

use crate::campaign::{show, world};
use crate::exit::{Failed, OK};
use crate::explore::{policy, shell};
use crate::kernel::KernelArgs;
use crate::model::Model;
use crate::out;
use crate::save;

/// Make a failing schedule small: a smaller world, fewer steps, the same class of failure.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  faultbed shrink faultbed-failures/lost-install-hang-1-3.schedule
  faultbed shrink found.schedule --out small --json
  faultbed shrink found.schedule --profile 5.15          if it fails there as well

Exit code: 0 it was shrunk, or was minimal already, 2 bad usage, a malformed file, or a schedule
that does not fail as it says.")]
pub struct Shrink {
    /// The schedule file.
    file: PathBuf,
    #[command(flatten)]
    kernel: KernelArgs,
    /// The folder in which the result is kept.
    #[arg(long, value_name = "DIR", default_value = "faultbed-failures")]
    out: PathBuf,
    /// How many runs to try at most.
    #[arg(long, value_name = "N", default_value_t = Effort::default().attempts)]
    attempts: u64,
    /// How many states to visit at most in search of the fewest runs.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    states: usize,
    /// One JSON object on standard output instead of text.
    #[arg(long)]
    json: bool,
}

impl Shrink {
    /// Do it.
    pub fn run(self) -> Result<ExitCode, Failed> {
        let file = self.file.display().to_string();
        let text = fs::read_to_string(&self.file)
            .map_err(|error| Failed::usage(format!("{file}: cannot be read: {error}")))?;
        let mut schedule = Schedule::parse(&file, &text).map_err(Failed::usage)?;
        self.kernel.apply(&mut schedule.setup)?;
        let policy = policy(&schedule.handler)?;
        let effort = Effort { attempts: self.attempts, states: self.states, ..Effort::default() };
        let Some(shrunk) = shrink(&schedule, &policy, effort) else {
            return Err(Failed::usage(format!(
                "{file}: this schedule does not fail as it says ({}); see `faultbed replay`",
                schedule.fails.as_deref().unwrap_or("it says that it ends well")
            )));
        };
        let path = save::failure(&self.out, &shrunk.schedule, &policy)?;
        let (before, after) = (size(&schedule), size(&shrunk.schedule));
        if self.json {
            let json = serde_json::json!({
                "scenario": schedule.setup.name,
                "class": schedule.fails,
                "attempts": shrunk.attempts,
                "runs": [before.0, after.0],
                "steps": [before.1, after.1],
                "minimal": shrunk.minimal,
                "fewest": shrunk.fewest,
                "schedule": path,
            });
            out::say!("{json}")?;
        } else {
            out::say!("{}", show(&shrunk.schedule, policy).timeline)?;
            out::say!("{}", words(&schedule, &shrunk))?;
            out::say!("replay: faultbed replay {}", shell(&path))?;
        }
        Ok(OK)
    }
}

/// Shrink `schedule`, found with `policy`.
pub fn shrink(schedule: &Schedule, policy: &Policy, effort: Effort) -> Option<Shrunk> {
    let default = Policy::default();
    let right = |setup: &Arc<Setup>| world(&default, setup);
    let right: Option<&MakeWorld<'_, Model>> = if *policy == default { None } else { Some(&right) };
    shrink::shrink(schedule, |setup| world(policy, setup), right, effort)
}

/// What shrinking has done, in a line.
pub(crate) fn words(before: &Schedule, shrunk: &Shrunk) -> String {
    let (before, after) = (size(before), size(&shrunk.schedule));
    let claim = match (shrunk.minimal, shrunk.fewest) {
        (true, true) => "minimal, and no order of its steps fails in fewer runs",
        (true, false) => "minimal: no single edit keeps the failure",
        (false, _) => "more --attempts might shrink it further",
    };
    format!(
        "shrunk from {} runs ({} steps) to {} runs ({} steps) in {} attempts; {claim}",
        before.0, before.1, after.0, after.1, shrunk.attempts
    )
}

fn size(schedule: &Schedule) -> (usize, usize) {
    (runs(&schedule.steps).count(), schedule.steps.len())
}
