//! Worlds: a simulated kernel, the tasks of a monitored process, the handler under test,
//! and the oracles that watch them. Owns who can move and what a move does; a schedule or
//! a strategy decides who does.
//!
//! A world has *actors*: its tasks, the threads of the handler, and the clock. At each
//! point every actor has at most one possible step, so a choice is an actor.

mod ahead;
mod arrange;
mod busy;
mod failure;
mod footprint;
mod kin;
mod memory;
mod mishap;
mod moves;
mod oracle;
mod plan;
mod program;
mod settled;
mod subject;
mod turn;

use std::sync::Arc;

use shims::Time;

pub use arrange::Order;
pub use busy::BUSY;
pub use failure::{Failure, Stuck};
pub use memory::{BASE, HUGE_BASE, Memory, page_addr, page_index};
pub use mishap::{Exposed, Mishap, Mishaps};
pub use moves::{Move, Note};
pub use program::{
    Check, ContentClass, Control, Expect, Finally, Injection, Op, Patience, Program, Setup,
};
pub use subject::{Claim, Env, Manner, Reading, Restored, Scope, Standing, Subject, Threads, View};
pub use turn::STARVED;

use crate::Digest;
use crate::copy::copy_by_field;
use crate::kernel::{Call, Did, Kernel, MmId, Ret, ThreadId};
use crate::vma::CtxId;
use busy::{Asked, Asks, Vain};
use kin::BESIDE;
use oracle::Truth;
use plan::Plan;
use program::Place;
use settled::Settled;
use turn::Turns;

/// The most actors a world can have: one bit each in a choice.
pub const MAX_ACTORS: usize = 64;

/// Steps after which a run that has not come to an end is called a livelock, unless the handler
/// says otherwise. Worlds of the catalogue end within a few hundred.
pub const STEP_LIMIT: u32 = 20_000;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Task {
    thread: ThreadId,
    at: usize,
    stores: u32,
    /// Which process it runs in.
    process: usize,
    /// Not before somebody forked it.
    born: bool,
}

/// A world in the middle of a run.
#[derive(PartialEq, Eq, Debug)]
pub struct World<S> {
    setup: Arc<Setup>,
    plan: Arc<Plan>,
    kernel: Kernel,
    mm: MmId,
    place: Place,
    tasks: Vec<Task>,
    subject_threads: Vec<ThreadId>,
    subject: S,
    posted: u64,
    injection: Option<Injection>,
    truth: Truth,
    /// Processes that forks have made.
    kin: Vec<kin::Kin>,
    /// A process that maps the same file and is not watched.
    beside: Option<MmId>,
    /// Calls that have taken effect and not returned.
    underway: Vec<kin::Underway>,
    /// What may go wrong, if anything may.
    hazards: Option<Box<mishap::Hazards>>,
    /// What the handler has done in vain, and whom it has passed over. History, and no part of
    /// the state.
    vain: Vain,
    turns: Turns,
    /// Who of the tasks can move, as far as that is known.
    settled: Settled,
    now: Time,
    /// Moves of the clock since something was achieved.
    idle: u32,
    steps: u32,
    digest: Digest,
    failure: Option<Failure>,
}

copy_by_field! {
    World<S: Subject> shares { setup, plan }
    copies {
        kernel, mm, place, tasks, subject_threads, subject, posted, injection, truth, kin, beside,
        underway, hazards, vain, turns, settled, now, idle, steps, digest, failure
    }
}

impl<S: Subject> World<S> {
    /// The world of `setup` at its start, `subject` being the handler under test.
    ///
    /// # Panics
    ///
    /// If there are more than [`MAX_ACTORS`] actors; a parsed scenario has fewer.
    pub fn new(setup: Arc<Setup>, subject: S) -> World<S> {
        let mut kernel = Kernel::new(setup.profile.clone());
        let mm = kernel.new_mm();
        let main = kernel.new_thread(mm);
        let file = setup.make_memory(&mut kernel, main);
        let beside = setup.programs.iter().any(|program| program.beside).then(|| {
            let mm = kernel.new_mm();
            let thread = kernel.new_thread(mm);
            setup.map_memory(&mut kernel, thread, file);
            mm
        });
        let all = setup.memory.span(0, setup.pages);
        let ctx = kernel
            .userfaultfd(mm, setup.features)
            .expect("a parsed scenario asks for features that are modelled");
        let ret = kernel.run(main, Call::Register { ctx, range: all, modes: setup.modes });
        assert!(matches!(ret, Ret::Ok(_)), "the memory of a world can be registered: {ret:?}");
        let tasks: Vec<_> = setup
            .programs
            .iter()
            .map(|program| {
                let other = beside.filter(|_| program.beside);
                Task {
                    thread: kernel.new_thread(other.unwrap_or(mm)),
                    at: 0,
                    stores: 0,
                    process: if program.beside { BESIDE } else { 0 },
                    born: !program.forked,
                }
            })
            .collect();
        // A handler outlives its process only in one of its own.
        let mortal = setup.mishaps.times(Mishap::Death) > 0;
        let own = if mortal { kernel.new_mm() } else { mm };
        let subject_threads: Vec<_> =
            (0..subject.actors()).map(|_| kernel.new_thread(own)).collect();
        let hazards = mishap::Hazards::new(setup.mishaps, main);
        let more = hazards.as_ref().map_or(0, |hazards| hazards.kinds().len());
        assert!(tasks.len() + subject_threads.len() + more < MAX_ACTORS, "too many actors");
        let truth = Truth::new(&setup);
        let place = Place { ctx, memory: setup.memory, file: file.map(|file| file.id) };
        let mut world = World {
            plan: Arc::new(Plan::new(&setup)),
            setup,
            kernel,
            mm,
            place,
            tasks,
            subject_threads,
            subject,
            posted: 0,
            injection: None,
            truth,
            kin: Vec::new(),
            beside,
            underway: Vec::new(),
            hazards,
            vain: Vain::default(),
            turns: Turns::default(),
            settled: Settled::default(),
            now: Time::ZERO,
            idle: 0,
            steps: 0,
            digest: Digest::new(),
            failure: None,
        };
        world.settle_all();
        world
    }

    /// What the world was made from.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// The kernel.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// The handler under test.
    pub fn subject(&self) -> &S {
        &self.subject
    }

    /// The address space of the tasks.
    pub fn mm(&self) -> MmId {
        self.mm
    }

    /// The userfaultfd the handler serves.
    pub fn ctx(&self) -> CtxId {
        self.place.ctx
    }

    /// Steps taken.
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// The digest of everything that happened: equal for equal runs.
    pub fn digest(&self) -> u64 {
        self.digest.value()
    }

    /// What went wrong, if something has.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// A step in words, labels by their names.
    pub fn describe(&self, did: &Move) -> String {
        let name = |label: &u8| self.setup.labels[usize::from(*label)].as_str();
        match did {
            Move::Post(label) => format!("post {}", name(label)),
            Move::Await(label) => format!("saw {}", name(label)),
            did => did.to_string(),
        }
    }

    /// How many actors there are.
    pub fn actors(&self) -> usize {
        self.clock_actor() + 1 + self.hazards.as_ref().map_or(0, |hazards| hazards.kinds().len())
    }

    /// The actor that stands for the passing of time.
    #[inline]
    pub fn clock_actor(&self) -> usize {
        self.tasks.len() + self.subject_threads.len()
    }

    /// The name of an actor, as schedules and timelines write it.
    pub fn actor_name(&self, actor: usize) -> String {
        if let Some(program) = self.setup.programs.get(actor) {
            program.name.clone()
        } else if actor == self.clock_actor() {
            "clock".to_owned()
        } else if let Some(hazards) = &self.hazards
            && let Some(kind) = actor.checked_sub(self.clock_actor() + 1)
        {
            hazards.kinds()[kind].actor().to_owned()
        } else {
            self.subject.actor_name(actor - self.tasks.len())
        }
    }

    /// The actors that can move now, one bit each. Zero means the run is over.
    #[inline]
    pub fn enabled(&self) -> u64 {
        if self.failure.is_some() {
            return 0;
        }
        let mut mask = self.tasks_that_can();
        let first = self.tasks.len();
        let handler = self.subject.movable(&self.subject_threads, self.view(0)) << first;
        if handler != 0 && self.is_lull() {
            return handler;
        }
        mask |= handler;
        let clock = self.subject.deadline(self.now).is_some_and(|deadline| deadline > self.now)
            && self.idle < self.subject.idle_limit();
        mask |= u64::from(clock) << self.clock_actor();
        match &self.hazards {
            None => mask,
            Some(hazards) => mask | self.looming(hazards, mask) << (self.clock_actor() + 1),
        }
    }

    /// Move `actor` by one step. The oracles look at what it did.
    ///
    /// # Panics
    ///
    /// If it cannot move; see [`enabled`](World::enabled).
    pub fn apply(&mut self, actor: usize) -> Move {
        self.steps += 1;
        let first = self.tasks.len();
        let subject = (first..self.clock_actor()).contains(&actor);
        if !subject {
            self.vain.forget();
            self.end_lull();
        }
        let did = if actor < first {
            self.idle = 0;
            let did = self.step_task(actor);
            self.settle(actor);
            did
        } else if subject {
            self.step_subject(actor - first)
        } else if actor > self.clock_actor() {
            self.idle = 0;
            self.strike(actor - self.clock_actor() - 1)
        } else {
            let deadline = self.subject.deadline(self.now).expect("the clock has somewhere to go");
            self.now = deadline;
            self.idle += 1;
            Move::Clock(deadline)
        };
        let (a, b) = did.words();
        self.digest.word(a ^ (actor as u64) << 48);
        self.digest.word(b);
        if self.steps >= self.subject.step_limit() && self.failure.is_none() {
            self.failure = Some(Failure::Livelock { steps: self.steps });
        }
        did
    }

    /// The run is over: nobody can move. Pass the final judgement.
    pub fn finish(&mut self) {
        debug_assert_eq!(self.enabled(), 0, "a run is judged when it is over");
        if self.failure.is_none() {
            self.failure = self.judge();
        }
    }

    #[inline]
    fn view(&self, i: usize) -> View<'_> {
        View {
            kernel: &self.kernel,
            thread: self.subject_threads[i],
            ctx: self.subject.serves(i).unwrap_or(self.place.ctx),
            now: self.now,
            injection: self.injection,
        }
    }

    #[inline]
    fn task_can_step(&self, i: usize, task: &Task) -> bool {
        if !self.kernel.idle(task.thread) {
            return self.kernel.can_step(task.thread);
        }
        if !task.born {
            return false;
        }
        match self.setup.programs[i].ops.get(task.at) {
            None => false,
            Some(Op::Await(label)) => self.posted >> label & 1 == 1,
            Some(Op::Control(control)) => self.subject.control_ready(*control),
            Some(_) => true,
        }
    }

    fn step_task(&mut self, i: usize) -> Move {
        let thread = self.tasks[i].thread;
        if self.is_dead() {
            return self.step_dying(thread);
        }
        if self.kernel.idle(thread)
            && let Some(did) = self.begin_op(i, thread)
        {
            return did;
        }
        let Task { at, process, .. } = self.tasks[i];
        if self.setup.programs[i].ops[at].is_watched() {
            return Move::Kernel(self.step_watched(i));
        }
        let did = self.kernel.step(thread);
        self.observe(process, &did);
        if let Some(ret) = self.kernel.take_ret(thread) {
            self.finish_op(i, ret);
        }
        Move::Kernel(did)
    }

    /// A task comes to its next operation: what it did, unless it is in a call now that can move.
    fn begin_op(&mut self, i: usize, thread: ThreadId) -> Option<Move> {
        let task = &mut self.tasks[i];
        let op = &self.setup.programs[i].ops[task.at];
        match *op {
            Op::Post(label) => {
                self.posted |= 1 << label;
                task.at += 1;
                Some(Move::Post(label))
            }
            Op::Await(label) => {
                task.at += 1;
                Some(Move::Await(label))
            }
            Op::Inject(injection) => {
                self.injection = Some(injection);
                task.at += 1;
                Some(Move::Inject(injection))
            }
            Op::Control(control) => {
                self.subject.control(control);
                match control {
                    Control::BeginSnapshot | Control::BeginBaseline => self.truth.begin_snapshot(),
                    Control::Snapshot => self.check_snapshot(),
                    Control::Export => self.check_export(),
                    Control::Baseline => self.truth.saved(),
                    Control::Cancel => self.truth.cancelled(),
                    Control::Pause | Control::Resume => {}
                }
                self.tasks[i].at += 1;
                Some(Move::Control(control))
            }
            ref op => {
                let process = task.process;
                let call = op.call(i, &mut task.stores, self.place);
                if let Some(range) = op.gives_up() {
                    let (setup, at) = (Arc::clone(&self.setup), task.at);
                    self.removal_begins(process, &setup.programs[i].ops[at], range);
                }
                self.kernel.begin(thread, call);
                if let Some(ret) = self.kernel.take_ret(thread) {
                    // An empty or malformed range: over before it began.
                    self.finish_op(i, ret);
                    return Some(Move::Begin);
                }
                // If it waits for a lock, it has begun, and that is all.
                (!self.kernel.can_step(thread)).then_some(Move::Begin)
            }
        }
    }

    /// A step of a call of which more is to be known than its end.
    #[inline(never)]
    fn step_watched(&mut self, i: usize) -> Did {
        let setup = Arc::clone(&self.setup);
        let Task { thread, process, at, .. } = self.tasks[i];
        let op = &setup.programs[i].ops[at];
        let movable = self.can_move(i, op);
        let did = self.kernel.step(thread);
        if !self.lost_untold(process, op, &did) {
            self.observe(process, &did);
        }
        let ret = self.kernel.take_ret(thread);
        if op.is_lasting() {
            self.took_effect(i, op, movable && !matches!(ret, Some(Ret::Err(_))));
        }
        if let Some(ret) = ret {
            self.finish_op(i, ret);
        }
        did
    }

    fn finish_op(&mut self, i: usize, ret: Ret) {
        let at = self.tasks[i].at;
        let op = &self.setup.programs[i].ops[at];
        if op.gives_up().is_some() || op.is_lasting() {
            self.end_op(i, at, ret);
        }
        self.tasks[i].at = at + 1;
        let expect = self.setup.programs[i].ops[at].expect();
        if let Some(expect) = expect.filter(|expect| !expect.holds(ret)) {
            let program = &self.setup.programs[i];
            self.fail(Failure::Expectation {
                task: program.name.clone(),
                line: program.lines[at],
                expected: expect.to_string(),
                got: ret.to_string(),
            });
        }
    }

    /// What the oracles have to know of the end of an operation.
    fn end_op(&mut self, i: usize, at: usize, ret: Ret) {
        // Only here: to share what a world was made from costs, and most operations need not.
        let setup = Arc::clone(&self.setup);
        let op = &setup.programs[i].ops[at];
        if let Some(range) = op.gives_up() {
            let process = self.tasks[i].process;
            self.removal_ends(process, op, range, matches!(ret, Ret::Ok(_)));
        }
        if op.is_lasting() {
            self.returned(i, &setup, op, ret);
        }
    }

    fn step_subject(&mut self, i: usize) -> Move {
        let asks = self.kernel.call_of(self.subject_threads[i]);
        let mut env = Env {
            kernel: &mut self.kernel,
            thread: self.subject_threads[i],
            ctx: self.subject.serves(i).unwrap_or(self.place.ctx),
            now: self.now,
            injection: &mut self.injection,
            after_close: false,
            asks,
        };
        let did = self.subject.step(i, &mut env);
        let asked = env.asks;
        if env.after_close {
            self.fail(Failure::UseAfterClose { actor: self.subject.actor_name(i) });
        }
        if self.idle > 0
            && let Move::Kernel(Did::Install { .. } | Did::Take(_)) = did
        {
            self.idle = 0;
        }
        if let Some(failure) = self.subject.complaint() {
            self.fail(failure);
        }
        self.weigh(i, &did, asked);
        did
    }

    /// Is what thread `i` of the handler did one call in vain too many, or did it pass over a
    /// fault once too often?
    #[inline]
    fn weigh(&mut self, i: usize, did: &Move, asked: Asks) {
        self.vain.note(did, asked);
        // Pages of several processes have no numbers to tell them by.
        if self.turns.cares(did) && self.kin.is_empty() && !self.is_dead() {
            self.turns.note(did, Asked::of(asked), self.now);
        }
        if self.vain.repeats() || self.turns.counts() {
            self.judge_work(i);
        }
    }

    #[cold]
    #[inline(never)]
    fn judge_work(&mut self, i: usize) {
        let movable = self.subject.movable(&self.subject_threads, self.view(0));
        let patience = self.setup.patience;
        let failure = self.vain.judge(i, patience.busy, movable);
        let failure = failure.or_else(|| self.turns.judge(i, patience.starved, movable));
        if let Some(failure) = failure {
            self.fail(failure);
        }
    }

    fn fail(&mut self, failure: Failure) {
        if self.failure.is_none() {
            self.failure = Some(failure);
        }
    }
}

impl<S: Subject> core::hash::Hash for World<S> {
    /// The state, without the history and without what the clock says: two runs that meet in
    /// one state hash alike, however long it took them. Whether a run has failed is part of it:
    /// what an oracle objected to, a snapshot say, may have left no other trace.
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        self.kernel.hash(state);
        self.tasks.hash(state);
        self.subject.hash_at(self.now, state);
        self.posted.hash(state);
        self.injection.hash(state);
        self.truth.hash(state);
        (&self.kin, &self.underway, &self.hazards).hash(state);
        self.failure.as_ref().map(Failure::essence).hash(state);
        if self.subject.idle_limit() != u32::MAX {
            self.idle.hash(state);
        }
    }
}
