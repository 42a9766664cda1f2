//! `faultbed merge`.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use sim::explore::GOALS;

use crate::exit::{FOUND, Failed, OK};
use crate::explore::shell;
use crate::out;
use crate::results::{Merged, goal_names};

/// Add up the results of the shards of a campaign.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  faultbed merge faultbed-failures/results-*.jsonl
  faultbed merge --json results/*.jsonl

A failure that a killed campaign did not come to shrink lies beside the results and is named, too.

Exit code: 0 all shards are there and nothing was found, 1 a failure was found or a shard is
missing, 2 bad usage, a malformed file, or results of different campaigns.")]
pub struct Merge {
    /// Files that `faultbed explore --shard` has written.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// One JSON object on standard output instead of text.
    #[arg(long)]
    json: bool,
}

impl Merge {
    /// Do it.
    pub fn run(self) -> Result<ExitCode, Failed> {
        let mut merged = Merged::default();
        for path in &self.files {
            let file = path.display().to_string();
            let text = fs::read_to_string(path)
                .map_err(|error| Failed::usage(format!("{file}: cannot be read: {error}")))?;
            merged.add(&file, &text).map_err(Failed::usage)?;
        }
        let missing = merged.missing();
        let unshrunk = self.unshrunk();
        let mut out = Vec::new();
        if self.json {
            let _ = writeln!(out, "{}", as_json(&merged, &missing, &unshrunk));
        } else {
            print(&mut out, &merged, &missing);
            for path in &unshrunk {
                let path = shell(path);
                let _ = writeln!(out, "FOUND, not shrunk yet: faultbed shrink {path}");
            }
        }
        out::text(out)?;
        let well = merged.failures.is_empty() && missing.is_empty() && unshrunk.is_empty();
        Ok(if well { OK } else { FOUND })
    }

    /// Failures beside the results that nobody has come to shrink: their campaign was killed.
    fn unshrunk(&self) -> Vec<PathBuf> {
        let folder = |file: &PathBuf| match file.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir.to_owned(),
            _ => PathBuf::from("."),
        };
        let folders: BTreeSet<PathBuf> = self.files.iter().map(folder).collect();
        let files = folders.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten();
        let paths = files.filter_map(|entry| Some(entry.ok()?.path()));
        let found: BTreeSet<PathBuf> =
            paths.filter(|path| path.extension().is_some_and(|end| end == "found")).collect();
        found.into_iter().collect()
    }
}

fn print(out: &mut impl Write, merged: &Merged, missing: &[u64]) {
    let width = merged.scenarios.keys().map(|name| name.chars().count()).max().unwrap_or(8);
    let width = width.max(8);
    let _ = writeln!(
        out,
        "{:<width$}  {:>10}  {:>12}  {:>7}  {:>8}  digest sum",
        "scenario", "schedules", "steps", "longest", "failures"
    );
    for (name, sums) in &merged.scenarios {
        let _ = writeln!(
            out,
            "{name:<width$}  {:>10}  {:>12}  {:>7}  {:>8}  {:016x}",
            sums.schedules, sums.steps, sums.longest, sums.failures, sums.sum
        );
    }
    let schedules: u64 = merged.scenarios.values().map(|sums| sums.schedules).sum();
    if let Some(head) = &merged.head {
        let _ = writeln!(
            out,
            "\n{} of {} shards, {schedules} of {} schedules; handler {}, strategy {}, seed {}",
            merged.shards.len(),
            head.shards,
            head.schedules,
            head.handler,
            head.strategy,
            head.seed
        );
    }
    for shard in missing {
        let state = if merged.shards.contains_key(shard) { "not finished" } else { "missing" };
        let _ = writeln!(out, "shard {shard}: {state}");
    }
    for goal in merged.goals.unmet() {
        let _ = writeln!(out, "never met: {}", GOALS[goal]);
    }
    for (scenario, class, walk, file) in &merged.failures {
        let _ = writeln!(out, "FAILURE in {scenario}: {class} (walk {walk}), {file}");
    }
}

fn as_json(merged: &Merged, missing: &[u64], unshrunk: &[PathBuf]) -> serde_json::Value {
    serde_json::json!({
        "campaign": merged.head,
        "missing": missing,
        "unshrunk": unshrunk,
        "goals": goal_names(merged.goals),
        "never_met": merged.goals.unmet().map(|goal| GOALS[goal]).collect::<Vec<_>>(),
        "scenarios": merged.scenarios.iter().map(|(name, sums)| serde_json::json!({
            "name": name,
            "schedules": sums.schedules,
            "steps": sums.steps,
            "longest": sums.longest,
            "failures": sums.failures,
            "sum": format!("{:016x}", sums.sum),
        })).collect::<Vec<_>>(),
        "failures": merged.failures.iter().map(|(scenario, class, walk, file)| serde_json::json!({
            "scenario": scenario, "class": class, "walk": walk, "schedule": file,
        })).collect::<Vec<_>>(),
    })
}
