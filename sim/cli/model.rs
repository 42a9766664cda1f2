//! Our handler as a [`Subject`]: the machine of `faultbed-handler` with the threads of its
//! `threads` driver, each driver step between two locks being one step of the world.
//!
//! Owns the glue alone. What to install, when to retry and what to refuse is the machine's;
//! what the kernel answers is the kernel's.

mod arrange;
mod step;

use core::hash::{Hash, Hasher};

use handler::{
    Backing, DrainEnd, Machine, PageState, PageStates, Policy, RegionMap, ReqId, SourceError,
    Status, Writes, states,
};
use shims::{Addr, Event, Features, Len, Outcome, PageNo, PageRange, Time};
use sim::Content;
use sim::kernel::ThreadId;
use sim::vma::CtxId;
use sim::world::{
    Claim, Control, Env, Exposed, Manner, Memory, Move, Reading, Restored, Scope, Setup, Standing,
    Subject, Threads, View,
};

use crate::tamper::{Hand, Tamper};

/// What a handler has to know of the memory of a world.
pub(crate) fn backing(memory: Memory) -> Backing {
    match memory {
        Memory::Anon | Memory::HugetlbPrivate => Backing::Anonymous,
        Memory::Shmem | Memory::Hugetlb => Backing::Shared,
        Memory::ShmemPrivate => Backing::PrivateFile,
    }
}

/// The handler under test.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Model {
    machine: Machine,
    reader: Reader,
    workers: Vec<Worker>,
    /// The bytes fetched and not given back, as their content.
    bytes: Vec<(ReqId, Content)>,
    snapshot: Option<PageStates>,
    /// A snapshot was asked for and not taken yet: another has to wait.
    snapshotting: bool,
    /// The userfaultfd it serves, unless it is that of the first process.
    ctx: Option<CtxId>,
    /// The handlers of the processes that forks have made, each with threads of its own.
    kin: Vec<Model>,
    /// How many of those there can be.
    children: usize,
    /// For handlers that are wrong on purpose.
    hand: Option<Box<Hand>>,
    /// Workers whose source takes its time.
    late: u8,
}

/// What the reading thread is about to do.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Reader {
    /// Sleep in poll until something is there, then ask the machine for permission.
    Poll,
    /// The machine said to wait.
    AwaitPermit,
    /// The machine reads no more.
    Ended,
    /// In `read`; for one message, if it is to come back with fewer than there are.
    Reading { short: bool },
    /// Hand the batch to the machine.
    Apply { batch: Vec<Event>, end: DrainEnd },
}

/// What a worker is about to do.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Worker {
    /// Ask the machine for work.
    Idle,
    /// Read a page of the source.
    Fetch { req: ReqId, page: PageNo },
    /// Tell the machine that the bytes are here.
    Fetched { req: ReqId, page: PageNo },
    /// The source takes its time, until then.
    Late { req: ReqId, page: PageNo, until: Time },
    /// Tell the machine what was wrong with the source.
    Failed { req: ReqId, page: PageNo, error: SourceError },
    /// In an ioctl.
    Ioctl { req: ReqId },
    /// Tell the machine what it answered.
    Answered { req: ReqId, outcome: Outcome },
}

impl Model {
    /// The handler with `policy`, for the world of `setup`. It tracks writes where the world's
    /// memory is registered for that.
    pub fn new(policy: Policy, setup: &Setup) -> Model {
        Model::made(policy, setup, None)
    }

    /// The same with a hand in between.
    #[must_use]
    pub fn tampered(policy: Policy, setup: &Setup, tamper: Tamper) -> Model {
        Model::made(policy, setup, Some(tamper))
    }

    fn made(mut policy: Policy, setup: &Setup, tamper: Option<Tamper>) -> Model {
        if setup.tracks_writes() {
            policy.writes = Writes::Tracked;
        }
        policy.remaps |= setup.features.contains(Features::EVENT_REMAP);
        let size = setup.memory.page_size();
        let len = Len::pages(setup.pages, size).expect("a world has few pages");
        let host = PageRange::new(setup.memory.base(), len, size);
        let host = host.expect("a world's memory is aligned");
        let backing = backing(setup.memory);
        let backing = tamper.map_or(backing, |tamper| tamper.backing(backing));
        let machine = Machine::new(policy, RegionMap::single(host).backed_by(backing));
        let children = setup.children();
        let hand = tamper.map(Hand::new);
        Model { children, hand, ..Model::serving(machine, setup.workers, None) }
    }

    fn serving(machine: Machine, workers: usize, ctx: Option<CtxId>) -> Model {
        Model {
            machine,
            reader: Reader::Poll,
            workers: vec![Worker::Idle; workers],
            bytes: Vec::new(),
            snapshot: None,
            snapshotting: false,
            hand: None,
            late: 0,
            ctx,
            kin: Vec::new(),
            children: 0,
        }
    }

    /// The handler of a thread, and the thread's place in it; none before its process is there.
    fn member(&self, actor: usize) -> Option<(&Model, usize)> {
        let threads = 1 + self.workers.len();
        match (actor / threads).checked_sub(1) {
            None => Some((self, actor)),
            Some(kin) => Some((self.kin.get(kin)?, actor % threads)),
        }
    }

    fn of(&self, ctx: CtxId) -> Option<&Model> {
        self.kin.iter().find(|kin| kin.ctx == Some(ctx))
    }

    fn step_thread(&mut self, actor: usize, env: &mut Env<'_>) -> Move {
        match actor {
            0 => self.step_reader(env),
            n => self.step_worker(n - 1, env),
        }
    }

    fn thread_can_step(&self, actor: usize, view: View<'_>) -> bool {
        match actor.checked_sub(1) {
            None => self.reader_can_step(view),
            Some(worker) => match self.workers[worker] {
                Worker::Idle => self.machine.has_work(view.now()),
                Worker::Ioctl { .. } => view.can_step(),
                Worker::Late { until, .. } => until <= view.now(),
                Worker::Fetch { .. }
                | Worker::Fetched { .. }
                | Worker::Failed { .. }
                | Worker::Answered { .. } => true,
            },
        }
    }

    #[inline]
    fn reader_can_step(&self, view: View<'_>) -> bool {
        match self.reader {
            Reader::Poll => view.readable(),
            Reader::AwaitPermit => self.machine.may_read() || self.machine.is_ending(),
            Reader::Reading { .. } => view.can_step(),
            Reader::Apply { .. } => true,
            Reader::Ended => false,
        }
    }

    /// The threads of this process's handler that can move.
    // Asked before every step of a search; the call alone is a tenth of it.
    #[inline(always)]
    fn own_movable(&self, threads: &[ThreadId], view: View<'_>) -> u64 {
        let [reader, workers @ ..] = threads else { return 0 };
        let mut mask = u64::from(self.reader_can_step(view.of(*reader, self.ctx)));
        // All that are idle wait for the same.
        let work = self.machine.has_work(view.now());
        for (i, (worker, thread)) in self.workers.iter().zip(workers).enumerate() {
            let can = match worker {
                Worker::Idle => work,
                Worker::Ioctl { .. } => view.of(*thread, None).can_step(),
                Worker::Late { until, .. } => *until <= view.now(),
                Worker::Fetch { .. }
                | Worker::Fetched { .. }
                | Worker::Failed { .. }
                | Worker::Answered { .. } => true,
            };
            mask |= u64::from(can) << (1 + i);
        }
        mask
    }

    /// The same for the handlers of the processes that forks have made.
    #[inline(never)]
    fn kin_movable(&self, threads: &[ThreadId], view: View<'_>) -> u64 {
        let own = 1 + self.workers.len();
        let kin = self.kin.iter().zip(threads.chunks(own).skip(1)).enumerate();
        kin.fold(0, |mask, (i, (kin, threads))| {
            mask | kin.own_movable(threads, view) << (own * (1 + i))
        })
    }

    /// The first of `own`, the ends of late fetches and the deadlines of those handlers.
    #[inline(never)]
    fn rarer_deadline(&self, own: Option<Time>, now: Time) -> Option<Time> {
        let kin = self.kin.iter().filter_map(|kin| kin.deadline(now)).min();
        let late = self.workers.iter().filter_map(|worker| match worker {
            Worker::Late { until, .. } => Some(*until).filter(|until| *until > now),
            _ => None,
        });
        own.into_iter().chain(kin).chain(late).min()
    }

    fn claims(&self, page: PageNo) -> Claim {
        let tracker = self.machine.tracker();
        if tracker.is_unconfirmed(page) {
            return Claim::Maybe;
        }
        match tracker.state(page) {
            PageState::Missing => Claim::Absent,
            PageState::Removed => Claim::Removed,
            PageState::Clean | PageState::Dirty | PageState::Zero | PageState::Poisoned => {
                Claim::Present
            }
        }
    }

    fn has(&self, tamper: Tamper) -> bool {
        self.hand.as_ref().is_some_and(|hand| hand.tamper == tamper)
    }

    /// The machine, to look at.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }
}

impl Subject for Model {
    fn actors(&self) -> usize {
        (1 + self.workers.len()) * (1 + self.children)
    }

    fn actor_name(&self, actor: usize) -> String {
        let threads = 1 + self.workers.len();
        match (actor / threads, actor % threads) {
            (0, 0) => "reader".to_owned(),
            (0, n) => format!("worker{n}"),
            (kin, 0) => format!("reader.{kin}"),
            (kin, n) => format!("worker{n}.{kin}"),
        }
    }

    fn can_step(&self, actor: usize, view: View<'_>) -> bool {
        self.member(actor).is_some_and(|(member, actor)| member.thread_can_step(actor, view))
    }

    #[inline(always)]
    fn movable(&self, threads: &[ThreadId], view: View<'_>) -> u64 {
        let own = self.own_movable(threads, view);
        if self.kin.is_empty() { own } else { own | self.kin_movable(threads, view) }
    }

    fn step(&mut self, actor: usize, env: &mut Env<'_>) -> Move {
        let threads = 1 + self.workers.len();
        let (member, actor) = if actor < threads {
            (&mut *self, actor)
        } else {
            (&mut self.kin[actor / threads - 1], actor % threads)
        };
        let did = member.step_thread(actor, env);
        if member.machine.has_births() {
            for newborn in member.machine.take_births() {
                let ctx = env.child(newborn.fd).expect("a message names a userfaultfd");
                self.kin.push(Model::serving(newborn.machine, threads - 1, Some(ctx)));
            }
        }
        did
    }

    #[inline]
    fn serves(&self, actor: usize) -> Option<CtxId> {
        if actor <= self.workers.len() {
            return None;
        }
        self.member(actor)?.0.ctx
    }

    fn scope(&self, actor: usize) -> Scope {
        if actor > self.workers.len() {
            return Scope::Anything;
        }
        if actor == 0 {
            return match self.reader {
                Reader::Poll => Scope::Poll,
                Reader::Reading { .. } => Scope::Private,
                Reader::AwaitPermit | Reader::Apply { .. } | Reader::Ended => Scope::Handler,
            };
        }
        match self.workers[actor - 1] {
            Worker::Idle | Worker::Fetched { .. } | Worker::Answered { .. } => Scope::Handler,
            Worker::Fetch { .. } | Worker::Ioctl { .. } => Scope::Private,
            Worker::Late { .. } | Worker::Failed { .. } => Scope::Handler,
        }
    }

    fn are_twins(&self, one: usize, other: usize) -> bool {
        let idle = |actor: usize| {
            (1..=self.workers.len()).contains(&actor) && self.workers[actor - 1] == Worker::Idle
        };
        idle(one) && idle(other)
    }

    fn hash_at<H: Hasher>(&self, now: Time, state: &mut H) {
        let Model { machine, reader, workers, bytes, snapshot, snapshotting, .. } = self;
        let Model { ctx, kin, children, hand, late, .. } = self;
        machine.hash_at(now, state);
        // Requests by their places, not by the names that they have by chance.
        for worker in workers {
            self.hash_worker(worker, now, state);
        }
        let mut bytes: Vec<_> =
            bytes.iter().map(|(req, content)| (machine.rank(*req), content)).collect();
        bytes.sort_unstable();
        bytes.hash(state);
        (reader, snapshot, snapshotting, ctx, children, hand, late).hash(state);
        kin.iter().for_each(|kin| kin.hash_at(now, state));
    }

    fn hash_arranged<H: Hasher>(
        &self,
        now: Time,
        threads: Threads<'_>,
        place: impl FnMut(usize, usize),
        state: &mut H,
    ) {
        if self.hand.is_some() || !self.kin.is_empty() {
            self.hash_at(now, state);
            return threads.hash_all(state);
        }
        self.hash_in_order(now, threads, place, state);
    }

    fn manner(&self) -> Manner {
        if self.hand.is_some() { Manner::Blind } else { Manner::Told }
    }

    fn minds(&self, addr: Addr, threads: Threads<'_>) -> bool {
        self.is_about(addr, threads)
    }

    fn at_rest(&self) -> bool {
        self.machine.is_resting()
    }

    fn reading(&self, actor: usize) -> Option<Reading> {
        match self.reader {
            Reader::Poll | Reader::AwaitPermit if actor == 0 => Some(Reading::Begin),
            Reader::Reading { .. } if actor == 0 => Some(Reading::Take),
            Reader::Apply { .. } if actor == 0 => Some(Reading::End),
            _ => None,
        }
    }

    fn polls(&self) -> bool {
        self.reader == Reader::Poll
    }

    // Asked before every step of a search, and mostly there is none.
    #[inline(always)]
    fn deadline(&self, now: Time) -> Option<Time> {
        let own = self.machine.next_deadline().filter(|deadline| *deadline > now);
        if self.kin.is_empty() && self.late == 0 { own } else { self.rarer_deadline(own, now) }
    }

    fn control_ready(&self, control: Control) -> bool {
        match control {
            // A pause takes hold when the read in progress is over.
            Control::Pause => !matches!(self.reader, Reader::Reading { .. } | Reader::Apply { .. }),
            Control::Resume => true,
            Control::BeginSnapshot | Control::BeginBaseline => !self.snapshotting,
            Control::Snapshot if self.has(Tamper::SnapshotEarly) => true,
            Control::Snapshot | Control::Export => self.machine.snapshot_ready(),
            Control::Baseline | Control::Cancel => true,
        }
    }

    fn control(&mut self, control: Control) {
        match control {
            Control::Pause => self.machine.pause(),
            Control::Resume => self.machine.resume(),
            Control::BeginSnapshot => {
                self.snapshotting = true;
                self.machine.begin_snapshot();
            }
            Control::BeginBaseline => {
                self.snapshotting = true;
                self.machine.begin_baseline();
            }
            Control::Export => self.snapshot = Some(self.machine.export_baseline()),
            Control::Baseline => {
                self.snapshotting = false;
                self.machine.take_baseline();
            }
            Control::Cancel => {
                self.snapshotting = false;
                self.machine.abandon_snapshot();
            }
            Control::Snapshot => {
                self.snapshotting = false;
                if self.has(Tamper::SnapshotEarly) {
                    self.snapshot = Some(self.machine.states());
                    self.machine.abandon_snapshot();
                    return;
                }
                self.snapshot = Some(self.machine.take_snapshot());
            }
        }
    }

    fn exposed(&self, actor: usize, _: View<'_>) -> Exposed {
        match self.member(actor) {
            Some((member, actor)) => member.thread_exposed(actor),
            None => Exposed::NONE,
        }
    }

    fn can_stop(&self) -> bool {
        !self.machine.is_ending()
    }

    fn stop(&mut self) {
        self.machine.stop();
    }

    fn standing(&self) -> Standing {
        match self.machine.status() {
            Status::Running => {
                let mut kin = self.kin.iter().map(Model::standing);
                kin.find(|kin| matches!(kin, Standing::Failed(_))).unwrap_or(Standing::Serving)
            }
            Status::Stopped(_) => Standing::Stopped,
            Status::Failed(error) => Standing::Failed(error.to_string()),
        }
    }

    fn outstanding(&self) -> usize {
        self.machine.outstanding() + self.kin.iter().map(Model::outstanding).sum::<usize>()
    }

    fn claim(&self, page: u64) -> Claim {
        self.claims(PageNo::new(page))
    }

    fn claim_of(&self, ctx: CtxId, page: u64) -> (Claim, bool) {
        let Some(member) = self.of(ctx) else { return (Claim::Absent, false) };
        (member.claim(page), member.dirty(page))
    }

    fn page_at(&self, ctx: CtxId, addr: Addr) -> Option<Option<u64>> {
        let member = self.of(ctx).unwrap_or(self);
        Some(member.machine.regions().page(addr).map(PageNo::index))
    }

    fn state_name(&self, page: u64) -> &'static str {
        self.machine.tracker().state(PageNo::new(page)).name()
    }

    fn snapshot(&self, page: u64) -> Option<Claim> {
        let claim = match self.record(page)? {
            None => Claim::Absent,
            Some(states::REMOVED) => Claim::Removed,
            Some(states::AMBIGUOUS) => Claim::Maybe,
            Some(_) => Claim::Present,
        };
        Some(claim)
    }

    fn restores(&self, page: u64) -> Option<Restored> {
        match self.record(page)? {
            None => Some(Restored::Source),
            Some(states::REMOVED) => Some(Restored::Zeros),
            // Where nobody looks, a page of zeros may have been written since.
            Some(states::ZERO) if self.machine.policy().writes == Writes::Tracked => {
                Some(Restored::Zeros)
            }
            Some(states::AMBIGUOUS | states::POISONED) => None,
            Some(_) => Some(Restored::Saved),
        }
    }

    fn snapshot_dirty(&self, page: u64) -> Option<bool> {
        Some(self.record(page)? == Some(states::DIRTY))
    }

    fn dirty(&self, page: u64) -> bool {
        self.machine.tracker().state(PageNo::new(page)) == PageState::Dirty
    }
}

impl Model {
    /// The record of a page in the last snapshot, if there are both.
    fn record(&self, page: u64) -> Option<Option<u8>> {
        let offset = page * self.machine.regions().page_size().bytes();
        let records = self.snapshot.as_ref()?.records();
        let at = records.binary_search_by_key(&offset, |record| record.offset()).ok();
        let state = at.map(|at| records[at].state());
        Some(match &self.hand {
            None => state,
            Some(hand) => {
                let removed = self.machine.tracker().was_removed(PageNo::new(page));
                hand.tamper.recorded(state, removed)
            }
        })
    }
}
