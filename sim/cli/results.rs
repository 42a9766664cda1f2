//! The results of a campaign, or of one shard of it, as JSON lines: a head, a line for each
//! scenario, a line for each failure. Owns the format in both directions and the sums.
//!
//! Whatever a shard counts adds up by construction: a walk belongs to one shard, counts are
//! sums, and so is the digest of a scenario, in which the order of the walks plays no part.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sim::explore::{GOALS, Goals};

/// What a campaign is, without its shard: shards of the same campaign have the same.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Head {
    /// The format: 1.
    pub faultbed: u32,
    /// The handler's name.
    pub handler: String,
    /// The strategy's name.
    pub strategy: String,
    /// The seed.
    pub seed: u64,
    /// Walks of all shards together.
    pub schedules: u64,
    /// How many shards there are.
    pub shards: u64,
    /// A digest of the worlds: the scenarios, and the kernel they run on.
    pub worlds: String,
}

/// One line of a file of results.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// The first line.
    Campaign {
        /// Which campaign.
        #[serde(flatten)]
        head: Head,
        /// Which of its shards, from 1.
        shard: u64,
        /// Is it done? A campaign that was killed has said how far it had come.
        complete: bool,
    },
    /// What is known of a scenario.
    Scenario {
        /// Its name.
        name: String,
        /// Walks done.
        schedules: u64,
        /// Steps taken.
        steps: u64,
        /// The most steps of a walk.
        longest: u32,
        /// Walks that failed.
        failures: u64,
        /// The sum of the digests of its walks.
        sum: String,
    },
    /// Goals that were met.
    Goals(Vec<String>),
    /// The first failure of a scenario.
    Failure {
        /// The scenario.
        scenario: String,
        /// The class.
        class: String,
        /// The walk.
        walk: u64,
        /// The schedule file.
        schedule: String,
    },
}

/// What is known of a scenario, in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sums {
    /// Walks done.
    pub schedules: u64,
    /// Steps taken.
    pub steps: u64,
    /// The most steps of a walk.
    pub longest: u32,
    /// Walks that failed.
    pub failures: u64,
    /// The sum of the digests of its walks.
    pub sum: u64,
}

/// Several files of results, added up.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Merged {
    /// Which campaign.
    pub head: Option<Head>,
    /// The shards that are in it, and whether each is complete.
    pub shards: BTreeMap<u64, bool>,
    /// By scenario.
    pub scenarios: BTreeMap<String, Sums>,
    /// What was met.
    pub goals: Goals,
    /// Failures: scenario, class, walk, file.
    pub failures: Vec<(String, String, u64, String)>,
}

impl Merged {
    /// Add the results in `text`; `file` is named in errors.
    pub fn add(&mut self, file: &str, text: &str) -> Result<(), String> {
        let mut first = true;
        for (i, line) in text.lines().enumerate() {
            let line: Line =
                serde_json::from_str(line).map_err(|error| format!("{file}:{}: {error}", i + 1))?;
            match line {
                Line::Campaign { head, shard, complete } => {
                    if head.faultbed != 1 {
                        return Err(format!("{file}: results of format {}", head.faultbed));
                    }
                    if self.head.get_or_insert_with(|| head.clone()) != &head {
                        return Err(format!("{file}: results of another campaign"));
                    }
                    if self.shards.insert(shard, complete).is_some() {
                        return Err(format!("{file}: shard {shard} is there already"));
                    }
                }
                _ if first => return Err(format!("{file}:1: expected the head of a campaign")),
                Line::Scenario { name, schedules, steps, longest, failures, sum } => {
                    let sum = u64::from_str_radix(&sum, 16)
                        .map_err(|error| format!("{file}:{}: {error}", i + 1))?;
                    let sums = self.scenarios.entry(name).or_default();
                    sums.schedules += schedules;
                    sums.steps += steps;
                    sums.longest = sums.longest.max(longest);
                    sums.failures += failures;
                    sums.sum = sums.sum.wrapping_add(sum);
                }
                Line::Goals(names) => {
                    for name in names {
                        if !self.goals.meet(&name) {
                            return Err(format!("{file}:{}: no goal `{name}`", i + 1));
                        }
                    }
                }
                Line::Failure { scenario, class, walk, schedule } => {
                    self.failures.push((scenario, class, walk, schedule));
                }
            }
            first = false;
        }
        if first {
            return Err(format!("{file}: empty"));
        }
        self.failures.sort();
        Ok(())
    }

    /// The shards that are missing or did not come to their end.
    pub fn missing(&self) -> Vec<u64> {
        let shards = self.head.as_ref().map_or(0, |head| head.shards);
        (1..=shards).filter(|shard| self.shards.get(shard) != Some(&true)).collect()
    }
}

/// The names of the goals in `goals`.
pub fn goal_names(goals: Goals) -> Vec<String> {
    goals.met().map(|goal| GOALS[goal].to_owned()).collect()
}

/// `lines` as a file.
pub fn file(lines: &[Line]) -> String {
    lines
        .iter()
        .map(|line| serde_json::to_string(line).expect("a line is plain data") + "\n")
        .collect()
}
