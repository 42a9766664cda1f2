//! `faultbed replay`.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use sim::schedule::Schedule;

use crate::campaign::show;
use crate::exit::{FOUND, Failed, OK};
use crate::explore::policy;
use crate::kernel::KernelArgs;
use crate::out;
use crate::{report, save};

/// Run one recorded schedule again and draw its timeline.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  faultbed replay faultbed-failures/lost-install-hang-1-3.schedule
  faultbed replay failing.schedule --handler default     does the fix hold on this schedule?
  faultbed replay failing.schedule --profile 6.18        does a newer kernel fail as well?
  faultbed replay failing.schedule --report              failing.html, .trace.json and .rs

Exit code: 0 the run ended well, 1 it failed, 2 bad usage or a malformed file.")]
pub struct Replay {
    /// The schedule file.
    file: PathBuf,
    /// Replay with another handler than the recorded one.
    #[arg(long, value_name = "NAME")]
    handler: Option<String>,
    #[command(flatten)]
    kernel: KernelArgs,
    /// Write the page, the trace and the test of this run beside the schedule.
    #[arg(long)]
    report: bool,
    /// One JSON object on standard output instead of text.
    #[arg(long)]
    json: bool,
}

impl Replay {
    /// Do it.
    pub fn run(self) -> Result<ExitCode, Failed> {
        let file = self.file.display().to_string();
        let text = fs::read_to_string(&self.file)
            .map_err(|error| Failed::usage(format!("{file}: cannot be read: {error}")))?;
        let mut schedule = Schedule::parse(&file, &text).map_err(Failed::usage)?;
        self.kernel.apply(&mut schedule.setup)?;
        let name = self.handler.as_ref().unwrap_or(&schedule.handler);
        let showing = show(&schedule, policy(name)?);
        if self.report {
            let stem = self.file.file_stem().and_then(|stem| stem.to_str()).unwrap_or("run");
            for (ending, text) in report::files(&schedule, &policy(name)?, stem) {
                save::replace(&self.file.with_extension(ending), &text)?;
            }
        }
        let failed = showing.outcome.failure.is_some();
        let same = showing.outcome.digest == schedule.digest;
        if self.json {
            let json = serde_json::json!({
                "scenario": schedule.setup.name,
                "handler": name,
                "steps": showing.outcome.steps,
                "digest": format!("{:016x}", showing.outcome.digest),
                "exact": same && showing.report.exact(),
                "skipped": showing.report.skipped,
                "different": showing.report.different,
                "beyond": showing.report.beyond,
                "class": showing.outcome.failure.as_ref().map(|failure| failure.class()),
                "what": showing.outcome.failure.as_ref().map(ToString::to_string),
            });
            out::say!("{json}")?;
        } else {
            out::text(&showing.timeline)?;
            if !showing.report.exact() {
                out::say!(
                    "\nnot the recorded run: {} steps skipped{}, {} did something else{}, \
                     {} taken after the schedule's end",
                    showing.report.skipped.len(),
                    list(&showing.report.skipped),
                    showing.report.different.len(),
                    list(&showing.report.different),
                    showing.report.beyond,
                )?;
            } else if !same {
                out::say!("\nnot the recorded run: its digest differs")?;
            }
        }
        Ok(if failed { FOUND } else { OK })
    }
}

/// For tests: replay the text of a schedule with the handler of that name, which has to end well.
///
/// # Panics
///
/// If it does not, with the timeline; or if the text is no schedule, or the name no handler's.
#[track_caller]
pub fn assert_survives(handler: &str, schedule: &str) {
    let policy = policy(handler).unwrap_or_else(|error| panic!("{error}"));
    let schedule = Schedule::parse("schedule", schedule).unwrap_or_else(|error| panic!("{error}"));
    let showing = show(&schedule, policy);
    assert!(showing.outcome.failure.is_none(), "{}", showing.timeline);
}

fn list(places: &[usize]) -> String {
    if places.is_empty() {
        return String::new();
    }
    let shown: Vec<_> = places.iter().take(5).map(ToString::to_string).collect();
    let more = if places.len() > shown.len() { ", ..." } else { "" };
    format!(" (step {}{more})", shown.join(", "))
}
