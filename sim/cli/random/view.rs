//! All that a program can see of a kernel when nothing moves. Owns the comparison.

use std::fmt;

use shims::Errno;

use crate::judge::{Area, Arm, Back, Entry, Settled};

/// What one kernel shows after a step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct View {
    /// What the handler's call answered, or who was stuck where.
    pub(super) answer: String,
    /// What each thread does; `None` if it has nothing to do.
    pub(super) threads: Vec<Option<Settled>>,
    /// `pending` and `total` of each userfaultfd, and what `poll` says of it.
    pub(super) uffds: Vec<Option<(u64, u64, u16)>>,
    /// Page table entries of each process, without those that are empty.
    pub(super) pages: Vec<Vec<(u64, Entry)>>,
    /// The mappings of each process.
    pub(super) areas: Vec<Vec<Area>>,
}

impl View {
    /// Is this no kernel's business: something that is not modelled, or a handler that waits?
    pub(super) fn is_beyond(&self) -> bool {
        let unknown = Some(Settled::Returned(Back::Err(Errno::ENOTMODELLED)));
        self.answer == "asleep"
            || self.answer.contains("ENOTMODELLED")
            || self.threads.contains(&unknown)
    }

    /// Is `seen` this, but for accesses that were left asleep, with a message each, where a
    /// write of another thread has replaced the page that they were to find, that of zeros or one
    /// that a fork has shared (c10)?
    pub(super) fn is_overtaken_by_a_write(&self, seen: &View) -> bool {
        let same = self.answer == seen.answer
            && self.areas == seen.areas
            && self.threads.len() == seen.threads.len()
            && self.uffds.len() == seen.uffds.len();
        let asleep = |pair: &(&Option<Settled>, &Option<Settled>)| {
            let back = matches!(pair.0, Some(Settled::Returned(Back::Loaded(_) | Back::Done)));
            back && *pair.1 == Some(Settled::Asleep)
        };
        let threads = || self.threads.iter().zip(&seen.threads);
        let left = threads().filter(asleep).count();
        // A store that is left asleep is missing from its page, and nothing else is.
        let stores = threads()
            .filter(asleep)
            .any(|pair| !matches!(pair.0, Some(Settled::Returned(Back::Loaded(_)))));
        let places = |view: &View| -> Vec<Vec<u64>> {
            view.pages.iter().map(|pages| pages.iter().map(|(n, _)| *n).collect()).collect()
        };
        let pages = self.pages == seen.pages || (stores && places(self) == places(seen));
        let waiting = |uffds: &[Option<(u64, u64, u16)>]| {
            let sum = |a: (u64, u64), b: &(u64, u64, u16)| (a.0 + b.0, a.1 + b.1);
            uffds.iter().flatten().fold((0, 0), sum)
        };
        let (before, now) = (waiting(&self.uffds), waiting(&seen.uffds));
        let wrote = |pair: (&Option<Settled>, &Option<Settled>)| {
            pair.0 == pair.1 && *pair.0 == Some(Settled::Returned(Back::Done))
        };
        same && pages
            && left > 0
            && threads().all(|pair| pair.0 == pair.1 || asleep(&pair))
            && threads().any(wrote)
            && now == (before.0 + left as u64, before.1 + left as u64)
    }

    /// What `arm` shows of its userfaultfds and processes. `areas` are taken over where
    /// nothing can have changed them.
    pub(super) fn take(
        arm: &mut dyn Arm,
        answer: String,
        threads: Vec<Option<Settled>>,
        counts: (usize, usize),
        areas: Option<&[Vec<Area>]>,
    ) -> View {
        let (uffds, processes) = counts;
        let uffd = |arm: &mut dyn Arm, uffd| {
            arm.is_open(uffd).then(|| {
                let (pending, total) = arm.counts(uffd);
                (pending, total, arm.poll_bits(uffd))
            })
        };
        let uffds = (0..uffds).map(|n| uffd(arm, n)).collect();
        let there = |(_, entry): &(u64, Entry)| *entry != Entry::default();
        let pages = (0..processes)
            .map(|process| arm.entries(process).into_iter().filter(there).collect())
            .collect();
        let areas = match areas {
            Some(areas) if areas.len() == processes => areas.to_vec(),
            _ => (0..processes).map(|process| arm.areas_of(process)).collect(),
        };
        View { answer, threads, uffds, pages, areas }
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.answer.is_empty() {
            writeln!(f, "    answer {}", self.answer)?;
        }
        for (thread, state) in (0..).zip(&self.threads) {
            if let Some(state) = state {
                writeln!(f, "    thread {thread} {state:?}")?;
            }
        }
        for (uffd, counts) in (0..).zip(&self.uffds) {
            if let Some((pending, total, poll)) = counts {
                writeln!(f, "    uffd {uffd} pending {pending} total {total} poll {poll:#x}")?;
            }
        }
        for (process, (pages, areas)) in self.pages.iter().zip(&self.areas).enumerate() {
            let pages: Vec<_> = pages.iter().map(|(n, entry)| format!("{n}: {entry}")).collect();
            writeln!(f, "    process {process} pages [{}]", pages.join(", "))?;
            let areas: Vec<_> = areas.iter().map(ToString::to_string).collect();
            writeln!(f, "    process {process} areas [{}]", areas.join(", "))?;
        }
        Ok(())
    }
}

/// Two views, only the lines that differ.
pub(super) fn differing(a: &View, b: &View) -> (String, String) {
    let (a, b) = (a.to_string(), b.to_string());
    let only = |these: &str, those: &str| {
        let those: Vec<_> = those.lines().collect();
        let lines: Vec<_> = these.lines().filter(|line| !those.contains(line)).collect();
        if lines.is_empty() { "    (nothing more)".to_owned() } else { lines.join("\n") }
    };
    (only(&a, &b), only(&b, &a))
}
