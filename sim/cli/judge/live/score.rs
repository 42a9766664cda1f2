//! What happens in a run, as the threads that pull the strings note it down: who began and who
//! ended what, in an order that all of them agree on, and the labels they wait for. Owns the
//! lock they share; knows nothing of a kernel.

use core::time::Duration;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use sim::kernel::Ret;
use sim::world::Setup;

/// An operation that was begun. Of two numbers the lower one was given earlier.
#[derive(Clone, Debug)]
pub(super) struct Deed {
    pub(super) task: usize,
    /// Its place among the operations of its task.
    pub(super) op: usize,
    /// A number from before it began.
    pub(super) begin: u64,
    /// What came of it, and a number from after it ended.
    pub(super) end: Option<(u64, Ret)>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) deeds: Vec<Deed>,
    ticks: u64,
    posted: u64,
    /// By task: is its process there?
    pub(super) born: Vec<bool>,
    /// By task: has it come to its end?
    pub(super) done: Vec<bool>,
    /// Nobody is to begin anything.
    abandoned: bool,
}

/// Shared by the threads of a run.
#[derive(Debug)]
pub(super) struct Score {
    state: Mutex<State>,
    changed: Condvar,
}

impl Score {
    pub(super) fn new(setup: &Setup) -> Score {
        let tasks = setup.programs.len();
        let state = State {
            deeds: Vec::new(),
            ticks: 0,
            posted: 0,
            born: setup.programs.iter().map(|program| !program.forked).collect(),
            done: vec![false; tasks],
            abandoned: false,
        };
        Score { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// A panic of one thread is no reason for another one.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wait for a change, for a while at most.
    pub(super) fn wait<'s>(
        &self,
        state: MutexGuard<'s, State>,
        limit: Duration,
    ) -> MutexGuard<'s, State> {
        self.changed.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner).0
    }

    /// `task` begins its operation number `op`. The number of the deed.
    pub(super) fn begin(&self, task: usize, op: usize) -> usize {
        let mut state = self.lock();
        let begin = state.tick();
        state.deeds.push(Deed { task, op, begin, end: None });
        state.deeds.len() - 1
    }

    /// It has come to this.
    pub(super) fn end(&self, deed: usize, ret: Ret) {
        let mut state = self.lock();
        let end = state.tick();
        state.deeds[deed].end = Some((end, ret));
        self.changed.notify_all();
    }

    /// The task has nothing left to do, or was never to begin.
    pub(super) fn finished(&self, task: usize) {
        self.lock().done[task] = true;
        self.changed.notify_all();
    }

    pub(super) fn post(&self, label: u8) {
        self.lock().posted |= 1 << label;
        self.changed.notify_all();
    }

    /// Wait for a label. Tells whether it came.
    pub(super) fn wait_for(&self, label: u8) -> bool {
        self.wait_until(|state| state.posted >> label & 1 == 1)
    }

    /// The process of these tasks is there.
    pub(super) fn born(&self, tasks: &[usize]) {
        let mut state = self.lock();
        for task in tasks {
            state.born[*task] = true;
        }
        self.changed.notify_all();
    }

    /// Wait until the task's process is there. Tells whether it is.
    pub(super) fn wait_to_be_born(&self, task: usize) -> bool {
        self.wait_until(|state| state.born[task])
    }

    fn wait_until(&self, ready: impl Fn(&State) -> bool) -> bool {
        let mut state = self.lock();
        while !ready(&state) && !state.abandoned {
            state = self.wait(state, Duration::from_secs(1));
        }
        ready(&state)
    }

    /// Nobody is to begin anything, and whoever waits is to go home.
    pub(super) fn abandon(&self) {
        self.lock().abandoned = true;
        self.changed.notify_all();
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.lock().abandoned
    }
}

impl State {
    fn tick(&mut self) -> u64 {
        self.ticks += 1;
        self.ticks
    }

    /// Has everybody come to an end who can?
    pub(super) fn is_over(&self) -> bool {
        self.born.iter().zip(&self.done).all(|(born, done)| !born || *done)
    }

    /// Something that changes whenever anything is begun or ended.
    pub(super) fn progress(&self) -> u64 {
        self.ticks
    }
}
