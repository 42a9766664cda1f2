//! Schedules as text that means something: who did what, in order, with the scenario it
//! happened in. Owns the format in both directions.
//!
//! ```text
//! faultbed schedule 1
//! handler   short-circuit
//! seed      7
//! fails     hang
//! digest    0123456789abcdef
//!
//! == scenario ==
//! faultbed scenario 1
//! ...
//! == schedule ==
//! guest: miss on write of page 0 · queue fault, write of page 0 · sleep on page 0
//! reader: polled, may read
//! ...
//! ```
//!
//! A line is a run: the steps that an actor takes in one go.

use core::fmt;

use crate::scenario::{self, ScenarioError};
use crate::shrink::runs;
use crate::world::Setup;

/// The first line of a schedule file.
pub const HEADER: &str = "faultbed schedule 1";
const SCENARIO: &str = "== scenario ==";
const SCHEDULE: &str = "== schedule ==";
/// Between two steps of a run.
const BETWEEN: &str = " · ";

/// One step of a schedule.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Step {
    /// Who.
    pub actor: String,
    /// What. Says what happened; replay goes by the actor.
    pub what: String,
}

/// A recorded run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Schedule {
    /// The handler that was under test, by name.
    pub handler: String,
    /// The seed it came from, and which of its walks: for the reader.
    pub seed: u64,
    /// The number of the walk.
    pub walk: u64,
    /// The class of failure it leads to; `None` if it ends well.
    pub fails: Option<String>,
    /// The digest of the run.
    pub digest: u64,
    /// The world.
    pub setup: Setup,
    /// The steps.
    pub steps: Vec<Step>,
}

impl Schedule {
    /// The schedule that `text` describes; `file` is named in errors, with the line of
    /// `text` even inside the scenario.
    pub fn parse(file: &str, text: &str) -> Result<Schedule, ScenarioError> {
        let lines: Vec<&str> = text.lines().collect();
        let error = |line: usize, column: u32, message: String| ScenarioError {
            file: file.to_owned(),
            line: line as u32 + 1,
            column,
            message,
        };
        let first = lines.iter().position(|line| !line.trim().is_empty()).unwrap_or(0);
        if lines.get(first).map(|line| line.trim_end()) != Some(HEADER) {
            return Err(error(first, 1, format!("expected `{HEADER}`")));
        }
        let at = |marker: &str, after: usize| {
            lines[after..]
                .iter()
                .position(|line| line.trim_end() == marker)
                .map(|i| i + after)
                .ok_or_else(|| {
                    let end = lines.len().saturating_sub(1);
                    error(end, 1, format!("expected a line `{marker}` before the end of the file"))
                })
        };
        let scenario_at = at(SCENARIO, first)?;
        let schedule_at = at(SCHEDULE, scenario_at)?;

        let (mut handler, mut seed, mut walk, mut fails, mut digest) = (None, 0, 0, None, 0);
        for (i, line) in lines.iter().enumerate().take(scenario_at).skip(first + 1) {
            let Some((key, value)) = line.trim().split_once(char::is_whitespace) else {
                if line.trim().is_empty() {
                    continue;
                }
                return Err(error(i, 1, format!("expected a word and a value, found `{line}`")));
            };
            let value = value.trim();
            let column = line.find(value).unwrap_or(0) as u32 + 1;
            let number = |what: &str| {
                value
                    .parse::<u64>()
                    .map_err(|_| error(i, column, format!("expected {what}, found `{value}`")))
            };
            match key {
                "handler" => handler = Some(value.to_owned()),
                "seed" => seed = number("a seed")?,
                "walk" => walk = number("the number of a walk")?,
                "fails" => fails = Some(value.to_owned()),
                "digest" => {
                    digest = u64::from_str_radix(value, 16).map_err(|_| {
                        error(i, column, format!("expected a digest in hex, found `{value}`"))
                    })?;
                }
                _ => {
                    let message = format!(
                        "expected `handler`, `seed`, `walk`, `fails` or `digest`, found `{key}`"
                    );
                    return Err(error(i, 1, message));
                }
            }
        }
        let Some(handler) = handler else {
            return Err(error(scenario_at, 1, "expected `handler NAME` above this line".into()));
        };
        let setup = scenario::parse(file, &lines[scenario_at + 1..schedule_at].join("\n"))
            .map_err(|mut error| {
                error.line += scenario_at as u32 + 1;
                error
            })?;
        let mut steps = Vec::new();
        for (i, line) in lines.iter().enumerate().skip(schedule_at + 1) {
            if line.trim().is_empty() {
                continue;
            }
            let Some((actor, what)) = line.split_once(": ") else {
                return Err(error(i, 1, format!("expected `ACTOR: WHAT`, found `{line}`")));
            };
            let actor = actor.trim();
            steps.extend(
                what.split(BETWEEN)
                    .map(|what| Step { actor: actor.to_owned(), what: what.trim().to_owned() }),
            );
        }
        Ok(Schedule { handler, seed, walk, fails, digest, setup, steps })
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        writeln!(f, "handler   {}", self.handler)?;
        writeln!(f, "seed      {}", self.seed)?;
        writeln!(f, "walk      {}", self.walk)?;
        if let Some(fails) = &self.fails {
            writeln!(f, "fails     {fails}")?;
        }
        writeln!(f, "digest    {:016x}", self.digest)?;
        write!(f, "\n{SCENARIO}\n{}", self.setup)?;
        writeln!(f, "{SCHEDULE}")?;
        for run in runs(&self.steps) {
            write!(f, "{}: {}", run[0].actor, run[0].what)?;
            for step in &run[1..] {
                write!(f, "{BETWEEN}{}", step.what)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
