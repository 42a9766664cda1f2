//! What the next step of an actor touches, told before it is taken: the kernel's
//! [`Footprint`], and what a world adds to it. Owns the judgement for tasks, oracles and the
//! clock.

use core::fmt::Write as _;

use super::World;
use super::memory::Memory;
use super::program::Op;
use super::subject::{Scope, Subject};
use crate::kernel::{Footprint, Pte};

impl<S: Subject> World<S> {
    /// What the next step of `actor`, which can move, will look at and change. It may tell
    /// too much, never too little.
    pub fn footprint(&self, actor: usize) -> Footprint {
        let first = self.tasks.len();
        if self.hazards.is_some() {
            // Whatever anybody does decides what can go wrong next.
            Footprint::ALL
        } else if actor < first {
            self.task_footprint(actor)
        } else if actor - first < self.subject_threads.len() {
            self.subject_footprint(actor - first)
        } else {
            // Whether time may pass can depend on who else can move.
            Footprint::ALL
        }
    }

    /// Would the world be the same if these two actors changed places?
    pub fn are_twins(&self, one: usize, other: usize) -> bool {
        let first = self.tasks.len();
        let threads = first..first + self.subject_threads.len();
        threads.contains(&one)
            && threads.contains(&other)
            && self.subject.are_twins(one - first, other - first)
            && [one, other]
                .iter()
                .all(|actor| self.kernel.idle(self.subject_threads[actor - first]))
    }

    /// What the memory holds and what the handler says of it, in words: what is left to tell
    /// runs that ended well apart.
    pub fn summary(&self) -> String {
        let mut words = String::new();
        for page in 0..self.setup.pages {
            let pte = self.kernel.table(self.mm).get(self.setup.addr(page).raw() >> 12);
            let holds = match pte {
                Pte::Present { content, .. } => content.to_string(),
                Pte::None => "absent".to_owned(),
                Pte::Marker(marker) => format!("{marker:?}"),
            };
            let comma = if page > 0 { ", " } else { "" };
            let state = self.subject.state_name(page);
            let _ = write!(words, "{comma}page {page}: {holds} ({state})");
        }
        words
    }

    fn task_footprint(&self, i: usize) -> Footprint {
        let task = &self.tasks[i];
        let Some(op) = self.setup.programs[i].ops.get(task.at) else { return Footprint::ALL };
        // Pages of several processes, and pages that move, have no numbers to tell them by.
        if !self.kin.is_empty() || self.place.memory != Memory::Anon || op.is_watched() {
            return Footprint::ALL;
        }
        let touched = if self.kernel.idle(task.thread) {
            match op {
                Op::Post(_) => return Footprint::writes(Footprint::LABELS),
                Op::Await(_) => return Footprint::reads(Footprint::LABELS),
                Op::Inject(_) | Op::Control(_) => return Footprint::ALL,
                op => {
                    let call = op.call(i, &mut task.stores.clone(), self.place);
                    self.kernel.footprint_of(task.thread, &call)
                }
            }
        } else {
            self.kernel.footprint(task.thread)
        };
        match op {
            // The oracle notes for its whole range when a removal begins, and when it returns;
            // it can do either only with the mapping in its hand.
            Op::DontNeed { range, .. }
                if touched.reads & Footprint::LAYOUT != 0 && !self.kernel.zaps_on(task.thread) =>
            {
                let start = range.start.raw() >> 12;
                let end = range.end().map_or(u64::MAX, |end| end.raw() >> 12);
                touched.and(Footprint::writes(Footprint::pages(start, end)))
            }
            _ => touched,
        }
    }

    fn subject_footprint(&self, i: usize) -> Footprint {
        if !self.kin.is_empty() || self.place.memory != Memory::Anon {
            return Footprint::ALL;
        }
        let thread = self.subject_threads[i];
        let own = match self.subject.scope(i) {
            Scope::Private => Footprint::NONE,
            Scope::Handler => Footprint { reads: Footprint::TIME, writes: Footprint::HANDLER },
            Scope::Poll => Footprint {
                reads: Footprint::TIME
                    | Footprint::FAULTS
                    | Footprint::EVENTS
                    | Footprint::INJECTION,
                writes: Footprint::HANDLER,
            },
            Scope::Anything => return Footprint::ALL,
        };
        let in_call = !self.kernel.idle(thread);
        // A disturbance waits for whoever is in a call, which may be a read.
        let injection = match self.injection {
            _ if !in_call => Footprint::NONE,
            Some(_) => Footprint::writes(Footprint::INJECTION),
            None => Footprint::reads(Footprint::INJECTION),
        };
        let kernel = self.kernel.footprint(thread);
        let kernel = match self.looks_twice(thread) {
            true => kernel.and(self.kernel.footprint_behind_the_gate(thread)),
            false => kernel,
        };
        own.and(injection).and(kernel)
    }
}
