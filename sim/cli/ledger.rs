//! What a campaign has put on disk so far: each failure as soon as it is found, and its results
//! as JSON lines. Killed at any moment it has lost no failure and left no half-written file.

use std::hash::Hasher as _;
use std::path::{Path, PathBuf};

use sim::Digest;
use sim::world::Failure;

use crate::campaign::{Campaign, Report};
use crate::exit::Failed;
use crate::kept::Kept;
use crate::results::{Head, Line, file, goal_names};
use crate::save;

/// The files of a campaign that runs.
pub(crate) struct Ledger<'c> {
    campaign: &'c Campaign,
    names: &'c [String],
    out: &'c Path,
    /// A digest of the worlds.
    worlds: String,
    /// Where the results go, if anywhere.
    results: Option<PathBuf>,
    kept: Vec<Kept>,
    /// Something could not be written: the campaign ends.
    failed: Option<Failed>,
}

impl<'c> Ledger<'c> {
    pub(crate) fn new(
        campaign: &'c Campaign,
        names: &'c [String],
        out: &'c Path,
        results: bool,
    ) -> Ledger<'c> {
        let mut worlds = Digest::new();
        campaign.setups.iter().for_each(|setup| worlds.write(setup.to_string().as_bytes()));
        let worlds = format!("{:016x}", worlds.value());
        let results = results.then(|| {
            // Named after everything that makes a campaign, so that two in one folder differ.
            out.join(format!(
                "results-{}-{}-{}-{}-{worlds}-{}-of-{}.jsonl",
                campaign.handler,
                campaign.strategy.to_string().replace(':', "-"),
                campaign.seed,
                campaign.schedules,
                campaign.shard.index,
                campaign.shard.count
            ))
        });
        Ledger { campaign, names, out, worlds, results, kept: Vec::new(), failed: None }
    }

    /// Keep what was found since the last look. False if that is not possible.
    pub(crate) fn look(&mut self, report: &Report) -> bool {
        while self.failed.is_none() && self.kept.len() < report.found.len() {
            let found = &report.found[self.kept.len()];
            match Kept::keep(&found.schedule, &self.campaign.policy, self.out) {
                Ok(kept) => {
                    self.kept.push(kept);
                    self.write(report, false);
                }
                Err(error) => self.failed = Some(error),
            }
        }
        self.failed.is_none()
    }

    /// Write the results so far.
    pub(crate) fn write(&mut self, report: &Report, complete: bool) {
        let Some(path) = self.results.clone() else { return };
        let written = std::fs::create_dir_all(self.out)
            .map_err(|error| Failed::io(format!("cannot make {}: {error}", self.out.display())))
            .and_then(|()| save::replace(&path, &file(&self.lines(report, complete))));
        if let Err(error) = written {
            self.failed = Some(error);
        }
    }

    /// The campaign is over: what was kept, in the order in which it was found.
    pub(crate) fn close(mut self, report: &Report) -> Result<Vec<Kept>, Failed> {
        self.look(report);
        self.write(report, true);
        match self.failed {
            Some(error) => Err(error),
            None => Ok(self.kept),
        }
    }

    fn lines(&self, report: &Report, complete: bool) -> Vec<Line> {
        let campaign = self.campaign;
        let head = Head {
            faultbed: 1,
            handler: campaign.handler.clone(),
            strategy: campaign.strategy.to_string(),
            seed: campaign.seed,
            schedules: campaign.schedules,
            shards: campaign.shard.count,
            worlds: self.worlds.clone(),
        };
        let mut lines = vec![Line::Campaign { head, shard: campaign.shard.index, complete }];
        for (name, tally) in self.names.iter().zip(&report.tallies) {
            lines.push(Line::Scenario {
                name: name.clone(),
                schedules: tally.schedules,
                steps: tally.steps,
                longest: tally.longest,
                failures: tally.failures,
                sum: format!("{:016x}", tally.sum),
            });
        }
        lines.push(Line::Goals(goal_names(report.goals)));
        for (found, kept) in report.found.iter().zip(&self.kept) {
            lines.push(Line::Failure {
                scenario: found.schedule.setup.name.clone(),
                class: Failure::class(&found.failure).to_owned(),
                walk: found.schedule.walk,
                schedule: kept.path.display().to_string(),
            });
        }
        lines
    }
}
