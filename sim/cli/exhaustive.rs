//! `faultbed explore --exhaustive`: every state of every scenario, and the claim that follows.
//! Owns the order of the scenarios and the wording of the claim.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use handler::Policy;
use sim::explore::{self, Census, End, Exhaust};
use sim::schedule::Schedule;
use sim::world::{Setup, World};

use crate::clock::Stopwatch;
use crate::exit::{FOUND, Failed, OK};
use crate::jobs;
use crate::kept::Kept;
use crate::model::Model;
use crate::out;
use crate::save;

/// Outcomes that are written out for a scenario.
const SHOWN: usize = 8;

/// An exhaustive search of some scenarios with one handler.
pub(crate) struct All<'a> {
    pub(crate) search: Exhaust,
    pub(crate) handler: &'a str,
    pub(crate) policy: Policy,
    pub(crate) jobs: usize,
}

/// What came out for one scenario.
struct Searched {
    census: Census,
    elapsed: Duration,
    /// The first failure of each class.
    found: Vec<Schedule>,
}

impl All<'_> {
    /// Search, say what was found, keep the failures.
    pub(crate) fn run(&self, setups: &[Setup], dir: &Path, json: bool) -> Result<ExitCode, Failed> {
        let watch = Stopwatch::start();
        let mut results: Vec<Searched> = Vec::new();
        let width = setups.iter().map(|setup| setup.name.chars().count()).max().unwrap_or(8);
        let width = width.max(8);
        if !json {
            out::say!(
                "{:<width$}  {:>10}  {:>12}  {:>7}  {:>8}  {:>8}  ",
                "scenario",
                "states",
                "transitions",
                "longest",
                "outcomes",
                "failures"
            )?;
        }
        let mut said = Ok(());
        jobs::in_order(
            setups.iter(),
            self.jobs,
            |setup| self.search(setup, dir),
            |setup, one| {
                if !json {
                    let census = &one.census;
                    said = out::say!(
                        "{:<width$}  {:>10}  {:>12}  {:>7}  {:>8}  {:>8}  {}",
                        setup.name,
                        census.states,
                        census.transitions,
                        census.deepest,
                        census.outcomes.len(),
                        census.failures().count(),
                        if census.complete { "" } else { "not finished" },
                    );
                }
                let go_on = self.search.keep_going || one.found.is_empty();
                results.push(one);
                go_on && said.is_ok()
            },
        );
        let mut kept = Vec::new();
        for schedule in results.iter().flat_map(|one| &one.found) {
            kept.push((schedule, Kept::keep(schedule, &self.policy, dir)?));
        }
        said?;
        if json {
            let kept: Vec<_> = kept
                .iter()
                .map(|(schedule, kept)| {
                    serde_json::json!({
                        "scenario": schedule.setup.name,
                        "class": schedule.fails,
                        "steps": schedule.steps.len(),
                        "shrunk": kept.as_json(),
                        "schedule": kept.path,
                    })
                })
                .collect();
            out::say!("{}", self.as_json(setups, &results, &kept))?;
        } else {
            let mut print = Vec::new();
            self.claim(&mut print, setups, &results, watch.elapsed());
            for (schedule, kept) in &kept {
                let class = schedule.fails.as_deref().unwrap_or("run");
                let _ = writeln!(print, "\nFAILURE in {}: {class}\n", schedule.setup.name);
                kept.print(&mut print, &self.policy);
            }
            out::text(print)?;
        }
        Ok(if kept.is_empty() { OK } else { FOUND })
    }

    /// Whoever ends the command in the middle has lost no failure: each class is on disk, as it
    /// was found, before the search goes on.
    fn search(&self, setup: &Setup, out: &Path) -> Searched {
        let watch = Stopwatch::start();
        let setup = Arc::new(setup.clone());
        let start = World::new(Arc::clone(&setup), Model::new(self.policy.clone(), &setup));
        let mut found: Vec<Schedule> = Vec::new();
        let mut unkept = None;
        let census = self.search.run(&start, |census| {
            for (end, path) in census.failures() {
                if found.iter().any(|schedule| schedule.fails.as_deref() == end.class) {
                    continue;
                }
                let schedule = self.schedule(&setup, &start, end, path);
                unkept = save::found(out, &schedule).err();
                found.push(schedule);
            }
            unkept.is_none()
        });
        let elapsed = watch.elapsed();
        Searched { census, elapsed, found }
    }

    fn schedule(&self, setup: &Setup, start: &World<Model>, end: &End, path: &[usize]) -> Schedule {
        let (outcome, steps) = explore::record(&mut start.clone(), &mut explore::Path(path));
        Schedule {
            handler: self.handler.to_owned(),
            seed: 0,
            walk: 0,
            fails: end.class.map(str::to_owned),
            digest: outcome.digest,
            setup: setup.clone(),
            steps,
        }
    }

    /// What follows from it, and nothing more.
    fn claim(
        &self,
        out: &mut impl Write,
        setups: &[Setup],
        results: &[Searched],
        elapsed: Duration,
    ) {
        let states: usize = results.iter().map(|one| one.census.states).sum();
        let whole = results.iter().filter(|one| one.census.complete).count();
        let clean = results.iter().filter(|one| one.found.is_empty() && one.census.complete);
        let _ = writeln!(
            out,
            "\n{} of {} scenarios searched to the end, {} without a failure in any order of their \
             steps,\nif timers expire early at most {} in a run; {} states in {:.2} s\n\
             handler {}, {}",
            whole,
            setups.len(),
            clean.count(),
            times(self.search.hurries),
            states,
            elapsed.as_secs_f64(),
            self.handler,
            if self.search.reduce {
                "orders that make no difference left out"
            } else {
                "unreduced"
            },
        );
        if let [one] = results {
            let _ = writeln!(out, "\nwhat the runs come to:");
            for end in one.census.outcomes.keys().take(SHOWN) {
                let _ = writeln!(out, "  {}{}", class(end.class), end.what);
            }
            if one.census.outcomes.len() > SHOWN {
                let _ = writeln!(out, "  ... {} more", one.census.outcomes.len() - SHOWN);
            }
        }
    }

    fn as_json(
        &self,
        setups: &[Setup],
        results: &[Searched],
        kept: &[serde_json::Value],
    ) -> serde_json::Value {
        serde_json::json!({
            "handler": self.handler,
            "hurries": self.search.hurries,
            "reduced": self.search.reduce,
            "scenarios": setups.iter().zip(results).map(|(setup, one)| serde_json::json!({
                "name": setup.name,
                "complete": one.census.complete,
                "states": one.census.states,
                "transitions": one.census.transitions,
                "ends": one.census.ends,
                "longest": one.census.deepest,
                "seconds": one.elapsed.as_secs_f64(),
                "outcomes": one.census.outcomes.keys().map(|end| {
                    format!("{}{}", class(end.class), end.what)
                }).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
            "failures": kept,
        })
    }
}

fn class(class: Option<&str>) -> String {
    class.map_or_else(String::new, |class| format!("{}: ", class.to_uppercase()))
}

fn times(n: u32) -> String {
    if n == 1 { "once".to_owned() } else { format!("{n} times") }
}
