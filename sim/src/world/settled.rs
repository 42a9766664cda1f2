//! Which tasks can move, as far as a step of the task itself decides it. Owns what is remembered of
//! that from step to step; the whole answer is [`enabled`](World::enabled)'s.
//!
//! A task that has come to an operation of its own, or is in an access and awake, can move until it
//! does, whatever others do; one that has come to its end cannot. So it is with nearly all tasks
//! at nearly all times, and it is asked about all of them at every step.
//!
//! **Invariant:** whoever lets a task be changed by others, as a fork and a death do, leaves its
//! world unsettled.

use super::program::Op;
use super::{Subject, World};

/// What is settled: a bit for each task. It follows from the state, and is no part of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Settled {
    /// They can move.
    can: u64,
    /// They can, or cannot and never will.
    known: u64,
}

impl<S: Subject> World<S> {
    /// The tasks that can move, one bit each.
    #[inline]
    pub(super) fn tasks_that_can(&self) -> u64 {
        let Settled { can, known } = self.settled;
        let mut mask = can;
        let mut open = !known & ((1 << self.tasks.len()) - 1);
        while open != 0 {
            let i = open.trailing_zeros() as usize;
            mask |= u64::from(self.task_can_step(i, &self.tasks[i])) << i;
            open &= open - 1;
        }
        debug_assert_eq!(mask, self.tasks_one_by_one(), "who can move is settled wrongly");
        mask
    }

    /// The same, asked of each.
    fn tasks_one_by_one(&self) -> u64 {
        let tasks = self.tasks.iter().enumerate();
        tasks.fold(0, |mask, (i, task)| mask | u64::from(self.task_can_step(i, task)) << i)
    }

    /// All tasks are where they begin.
    pub(super) fn settle_all(&mut self) {
        (0..self.tasks.len()).for_each(|i| self.settle(i));
    }

    /// Task `i` has moved.
    #[inline]
    pub(super) fn settle(&mut self, i: usize) {
        let bit = 1 << i;
        self.settled.can &= !bit;
        self.settled.known &= !bit;
        if self.plan.forks || self.hazards.is_some() {
            return;
        }
        let task = &self.tasks[i];
        if !self.kernel.idle(task.thread) {
            let can = u64::from(self.kernel.is_accessing(task.thread)) << i;
            self.settled.can |= can;
            self.settled.known |= can;
            return;
        }
        match self.setup.programs[i].ops.get(task.at) {
            Some(Op::Await(_) | Op::Control(_)) => {}
            None => self.settled.known |= bit,
            Some(_) => {
                self.settled.can |= bit;
                self.settled.known |= bit;
            }
        }
    }
}
