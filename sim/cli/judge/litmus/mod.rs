//! Litmus tests: a small program of tasks that go their own ways, all endings of which the
//! simulator enumerates, and which the running kernel runs thousands of times. Owns what an
//! ending is and the judgement; the enumeration is in `allowed.rs`, the rounds in `free.rs`.

mod allowed;
mod catalogue;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod free;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod lines;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::program::{Clause, Condition, Program, Seen, Wanted};
pub use allowed::{Allowed, allowed};
pub use catalogue::{FILES, all, find};
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub use free::{Observed, observe};

/// How a round ends: what can be seen when nothing moves any more.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ending {
    /// What came of each thing that each task did; the last one may be asleep.
    pub results: Vec<Vec<Seen>>,
    /// What the first page of each unit is like.
    pub pages: Vec<(u64, String)>,
    /// The same in the process that a fork has made.
    pub child: Option<Vec<(u64, String)>>,
}

impl Ending {
    /// As a line, with the names of the tasks.
    pub fn text(&self, names: &[&str]) -> String {
        let mut parts: Vec<String> = Vec::new();
        for (name, results) in names.iter().zip(&self.results) {
            let results: Vec<_> = results.iter().map(ToString::to_string).collect();
            parts.push(format!("{name}: {}", results.join(", ")));
        }
        let pages = |pages: &[(u64, String)]| {
            let each: Vec<_> = pages.iter().map(|(n, state)| format!("{n} {state}")).collect();
            each.join(", ")
        };
        parts.push(format!("pages: {}", pages(&self.pages)));
        if let Some(child) = &self.child {
            parts.push(format!("child: {}", pages(child)));
        }
        parts.join(" | ")
    }

    /// Is it one of those that the condition speaks of?
    pub fn meets(&self, condition: &Condition) -> bool {
        condition.clauses.iter().all(|clause| match clause {
            Clause::Page(page, state) => self.pages.iter().any(|(n, is)| n == page && is == state),
            Clause::Result(task, nth, expect) => {
                self.results[*task].get(*nth).is_some_and(|seen| expect.holds(seen))
            }
            Clause::Asleep(task) => self.results[*task].last() == Some(&Seen::Asleep),
        })
    }
}

/// The endings of a program, and how often each was seen.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Every ending that is allowed or was seen: is it allowed, and how often was it seen?
    pub rows: BTreeMap<Ending, (bool, u64)>,
    /// How many rounds there were.
    pub runs: u64,
    /// Endings at which the kernels are known to differ.
    known: Vec<Condition>,
}

impl Table {
    /// Nothing has been seen yet.
    pub fn new(program: &Program, allowed: &BTreeSet<Ending>) -> Table {
        let rows = allowed.iter().map(|ending| (ending.clone(), (true, 0))).collect();
        let diverges = |condition: &&Condition| condition.wanted == Wanted::Diverges;
        let known = program.conditions.iter().filter(diverges).cloned().collect();
        Table { rows, runs: 0, known }
    }

    /// Is it a divergence that the program itself speaks of?
    fn is_known(&self, ending: &Ending) -> bool {
        self.known.iter().any(|condition| ending.meets(condition))
    }

    /// It has been seen once more.
    pub fn see(&mut self, ending: Ending) {
        self.rows.entry(ending).or_insert((false, 0)).1 += 1;
        self.runs += 1;
    }

    /// How many endings are allowed.
    pub fn allowed(&self) -> usize {
        self.rows.values().filter(|(allowed, _)| *allowed).count()
    }

    /// How many of those were seen.
    pub fn seen(&self) -> usize {
        self.rows.values().filter(|(allowed, count)| *allowed && *count > 0).count()
    }

    /// The endings that were seen, are not allowed, and are no divergence that is known.
    pub fn forbidden(&self) -> impl Iterator<Item = (&Ending, u64)> {
        let wrong =
            self.rows.iter().filter(|(ending, (allowed, _))| !allowed && !self.is_known(ending));
        wrong.map(|(ending, (_, count))| (ending, *count))
    }

    /// The table as text.
    pub fn text(&self, program: &Program) -> String {
        let mut text = String::new();
        for (ending, (allowed, count)) in &self.rows {
            let mark = match (allowed, count) {
                (true, 0) => "not seen",
                (true, _) => "",
                (false, _) if self.is_known(ending) => "diverges, as is known",
                (false, _) => "NOT ALLOWED",
            };
            let line = format!("{count:>9}  {}  {mark}", ending.text(&program.names()));
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// What is wrong with what the simulator allows, by the conditions of the program itself.
pub fn broken_conditions(program: &Program, allowed: &BTreeSet<Ending>) -> Vec<String> {
    let mut broken = Vec::new();
    for (number, condition) in (1..).zip(&program.conditions) {
        let meets = allowed.iter().filter(|ending| ending.meets(condition)).count();
        if condition.wanted == Wanted::Exists && meets == 0 {
            broken.push(format!("condition {number}: no ending is like that"));
        }
        if condition.wanted != Wanted::Exists && meets > 0 {
            broken.push(format!("condition {number}: {meets} endings are like that"));
        }
    }
    broken
}

/// A program that cannot be run as a litmus test, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotLitmus(pub String);

impl fmt::Display for NotLitmus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
