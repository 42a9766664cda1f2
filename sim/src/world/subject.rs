//! The handler under test, as a state machine the world can move. Owns the trait; the
//! glue that implements it for a handler lives with that handler's user.

use core::hash::{Hash, Hasher};

use shims::{Addr, Event, Time};

use super::STEP_LIMIT;
use super::failure::Failure;
use super::mishap::Exposed;
use super::moves::Move;
use super::program::{Control, Injection};
use crate::Content;
use crate::kernel::{Call, Did, Kernel, Ret, ThreadId};
use crate::vma::CtxId;

/// What a handler's thread may look at when the world asks whether it can move.
/// That of a handler's first thread is the one for all others too, until it is given theirs.
#[derive(Clone, Copy, Debug)]
pub struct View<'w> {
    pub(super) kernel: &'w Kernel,
    pub(super) thread: ThreadId,
    pub(super) ctx: CtxId,
    pub(super) now: Time,
    pub(super) injection: Option<Injection>,
}

impl View<'_> {
    /// What another thread may look at, which serves `ctx` if not the first process.
    #[inline]
    #[must_use]
    pub fn of(self, thread: ThreadId, ctx: Option<CtxId>) -> Self {
        View { thread, ctx: ctx.unwrap_or(self.ctx), ..self }
    }

    /// Would a poll of the userfaultfd return?
    #[inline]
    pub fn readable(&self) -> bool {
        self.injection.is_some_and(Injection::is_read) || self.kernel.ctx(self.ctx).readable()
    }

    /// Can the call this thread is in move?
    #[inline]
    pub fn can_step(&self) -> bool {
        self.kernel.can_step(self.thread)
    }

    /// The kernel, for a stand-in that knows what a handler cannot.
    pub fn kernel(&self) -> &Kernel {
        self.kernel
    }

    /// The userfaultfd.
    pub fn ctx(&self) -> CtxId {
        self.ctx
    }

    /// Is this thread in no call?
    #[inline]
    pub fn idle(&self) -> bool {
        self.kernel.idle(self.thread)
    }

    /// The time.
    pub fn now(&self) -> Time {
        self.now
    }
}

/// What a handler's thread can do in one step.
#[derive(Debug)]
pub struct Env<'w> {
    pub(super) kernel: &'w mut Kernel,
    pub(super) thread: ThreadId,
    pub(super) ctx: CtxId,
    pub(super) now: Time,
    pub(super) injection: &'w mut Option<Injection>,
    /// A call was begun on a userfaultfd that is closed.
    pub(super) after_close: bool,
    /// The call this thread is in, and the address it is about.
    pub(super) asks: Option<(&'static str, Option<Addr>)>,
}

impl Env<'_> {
    /// The time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// The userfaultfd.
    pub fn ctx(&self) -> CtxId {
        self.ctx
    }

    /// Enter a call. Nothing has happened yet when this returns.
    pub fn begin(&mut self, call: Call) {
        self.after_close |= self.kernel.ctx(self.ctx).is_closed();
        self.kernel.begin(self.thread, call);
        self.asks = self.kernel.call_of(self.thread);
    }

    /// Move the call this thread is in by one step.
    pub fn step(&mut self) -> Did {
        self.kernel.step(self.thread)
    }

    /// The value of the call, once it is over.
    pub fn take_ret(&mut self) -> Option<Ret> {
        self.kernel.take_ret(self.thread)
    }

    /// Messages that this thread's reads have taken.
    pub fn inbox(&mut self) -> &mut Vec<Event> {
        self.kernel.inbox(self.thread)
    }

    /// Would a poll of the userfaultfd return?
    pub fn readable(&self) -> bool {
        self.injection.is_some_and(Injection::is_read) || self.kernel.ctx(self.ctx).readable()
    }

    /// Can the call this thread is in move?
    pub fn can_step(&self) -> bool {
        self.kernel.can_step(self.thread)
    }

    /// The userfaultfd whose number stood in a `FORK` message.
    pub fn child(&self, fd: i32) -> Option<CtxId> {
        self.kernel.child_userfaultfd(fd)
    }

    /// What page `page` of the source holds.
    pub fn fetch(&self, page: u64) -> Content {
        Content::Source { page: page as u32, version: 0 }
    }

    /// The disturbance that waits for the next read, if there is one; it is then gone.
    pub fn take_injection(&mut self) -> Option<Injection> {
        self.injection.take()
    }

    /// The disturbance that waits for the next read.
    pub fn injection(&self) -> Option<Injection> {
        *self.injection
    }
}

/// Is a handler still at work?
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Standing {
    /// It serves.
    Serving,
    /// It has ended as it should.
    Stopped,
    /// It has given up, and says why.
    Failed(String),
}

/// What a handler says about the presence of a page, at quiescence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Claim {
    /// It never installed the page.
    Absent,
    /// The page was removed and not installed since.
    Removed,
    /// It installed the page, and the page is there.
    Present,
    /// It installed the page, which may have been removed again since.
    Maybe,
}

/// What whoever restores a snapshot puts into a page.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Restored {
    /// The bytes of the source.
    Source,
    /// Zeros.
    Zeros,
    /// What was saved from the memory.
    Saved,
}

/// What a step of a handler's thread has to do with others, besides the call it is in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Scope {
    /// Nothing: it changes nothing that another thread can see, and looks at nothing that
    /// another can change.
    Private,
    /// It looks at or changes what the threads of the handler share, or asks for the time.
    Handler,
    /// The same, and it may move only while there is something to read.
    Poll,
    /// Nobody has said.
    Anything,
}

/// How a handler comes to do what it does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Manner {
    /// Nobody has said.
    Unknown,
    /// It knows of the kernel what its calls and polls tell it, and nothing else.
    Blind,
    /// Besides, it does nothing to a page but for faults there that it has read, or because a
    /// scenario tells it to; and with no fault to serve it does nothing at all.
    Told,
}

/// What the thread that reads is about to do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Reading {
    /// Find out whether it may read.
    Begin,
    /// Take a message.
    Take,
    /// Act on what was read.
    End,
}

/// The threads of a handler, as the kernel knows them.
#[derive(Clone, Copy, Debug)]
pub struct Threads<'w> {
    pub(super) kernel: &'w Kernel,
    pub(super) ids: &'w [ThreadId],
    /// Nobody changes what is mapped any more.
    pub(super) steady: bool,
    /// No read takes more messages than that.
    pub(super) messages: usize,
}

/// A handler as a value with threads, each of which has at most one possible step.
pub trait Subject: Clone + Eq + Hash {
    /// How many threads it has.
    fn actors(&self) -> usize;

    /// The name of a thread, as schedules and timelines write it.
    fn actor_name(&self, actor: usize) -> String;

    /// Can the thread move?
    fn can_step(&self, actor: usize, view: View<'_>) -> bool;

    /// The threads that can move, one bit each: what [`can_step`](Subject::can_step) says of
    /// them all. A search asks at every step, and a handler may know better how to answer at
    /// once.
    #[inline]
    fn movable(&self, threads: &[ThreadId], view: View<'_>) -> u64 {
        threads.iter().enumerate().fold(0, |mask, (actor, thread)| {
            let view = view.of(*thread, self.serves(actor));
            mask | u64::from(self.can_step(actor, view)) << actor
        })
    }

    /// Move it.
    fn step(&mut self, actor: usize, env: &mut Env<'_>) -> Move;

    /// What the next step of a thread that can move has to do with others. A search that
    /// leaves out orders that make no difference asks; [`Scope::Anything`] is always right.
    fn scope(&self, _actor: usize) -> Scope {
        Scope::Anything
    }

    /// Would the world be the same if these two threads changed places? A search may then
    /// move only one of them. False is always right.
    fn are_twins(&self, _one: usize, _other: usize) -> bool {
        false
    }

    /// What decides about all that it does from `now` on, for a search that takes states with
    /// one hash for one: all of it and the time, or with moments told by how far off they are.
    fn hash_at<H: Hasher>(&self, now: Time, state: &mut H) {
        self.hash(state);
        now.hash(state);
    }

    /// The same, and what the kernel has of its threads, for a search that also takes those
    /// states for one in which some of them have changed places: `place` is told who takes whose.
    fn hash_arranged<H: Hasher>(
        &self,
        now: Time,
        threads: Threads<'_>,
        _place: impl FnMut(usize, usize),
        state: &mut H,
    ) {
        self.hash_at(now, state);
        threads.hash_all(state);
    }

    /// How it comes to do what it does, for a search that leaves out orders.
    fn manner(&self) -> Manner {
        Manner::Unknown
    }

    /// Can it do anything about the page at `addr` before it is told of another fault there?
    /// Asked if its manner is [`Manner::Told`].
    fn minds(&self, _addr: Addr, _threads: Threads<'_>) -> bool {
        true
    }

    /// Has it nothing to do, and nobody at work but the thread that reads? Asked in the same
    /// case.
    fn at_rest(&self) -> bool {
        false
    }

    /// What its thread is about to do, if it is the one that reads. Asked in the same case.
    fn reading(&self, _actor: usize) -> Option<Reading> {
        None
    }

    /// Does the thread that reads, if it is to find out whether it may, wait until there is
    /// something to read? Asked in the same case.
    fn polls(&self) -> bool {
        true
    }

    /// The next moment after `now` at which something happens by itself.
    fn deadline(&self, now: Time) -> Option<Time>;

    /// Moves of the clock, with nothing else achieved in between, after which the handler is
    /// taken to be at rest: one that sleeps, looks and sleeps again would never come to an end.
    fn idle_limit(&self) -> u32 {
        u32::MAX
    }

    /// Steps after which a run that has not come to an end is called a livelock.
    fn step_limit(&self) -> u32 {
        STEP_LIMIT
    }

    /// What it has found wrong with itself: a deadlock among its own threads, say.
    fn complaint(&self) -> Option<Failure> {
        None
    }

    /// Where its threads are, a sentence for each, for the report of a hang.
    fn whereabouts(&self) -> Vec<String> {
        Vec::new()
    }

    /// Can a scenario's control be carried out now? Until it can, its task waits; a handler that
    /// has no controls is never ready.
    fn control_ready(&self, _control: Control) -> bool {
        false
    }

    /// Carry it out.
    fn control(&mut self, control: Control) {
        unreachable!("no control is ever ready, and {control:?} was carried out")
    }

    /// Which mishaps would make a difference to what a thread, which can move, does next?
    fn exposed(&self, _actor: usize, _view: View<'_>) -> Exposed {
        Exposed::NONE
    }

    /// Can it be asked to stop: to read nothing more, serve what it has read, and end?
    fn can_stop(&self) -> bool {
        false
    }

    /// Ask it.
    fn stop(&mut self) {}

    /// Does it serve?
    fn standing(&self) -> Standing;

    /// Faults it has taken and neither resolved, dropped nor failed.
    fn outstanding(&self) -> usize;

    /// What it says about a page; [`Claim::Maybe`] claims nothing.
    fn claim(&self, _page: u64) -> Claim {
        Claim::Maybe
    }

    /// The name of the state it keeps for a page.
    fn state_name(&self, _page: u64) -> &'static str {
        "unknown"
    }

    /// What its last snapshot says about a page; `None` without a snapshot.
    fn snapshot(&self, _page: u64) -> Option<Claim> {
        None
    }

    /// What whoever restores its last snapshot puts into a page; `None` if that is not known.
    fn restores(&self, _page: u64) -> Option<Restored> {
        None
    }

    /// Does its last snapshot say that a page was written? `None` without one.
    fn snapshot_dirty(&self, _page: u64) -> Option<bool> {
        None
    }

    /// Does it say so now? Of a handler that keeps no record any page may be.
    fn dirty(&self, _page: u64) -> bool {
        true
    }

    /// The userfaultfd that a thread serves; `None` for that of the first process.
    fn serves(&self, _actor: usize) -> Option<CtxId> {
        None
    }

    /// What it says about a page of the process behind `ctx`, which a fork has made; and
    /// whether it calls the page written. [`Claim::Maybe`] claims nothing.
    fn claim_of(&self, _ctx: CtxId, _page: u64) -> (Claim, bool) {
        (Claim::Maybe, true)
    }

    /// Which page it thinks is at `addr` of the process behind `ctx`: `None` if it does not
    /// say, `Some(None)` if it serves nothing there. Pages that no source has are numbered
    /// beyond those of the world.
    fn page_at(&self, _ctx: CtxId, _addr: Addr) -> Option<Option<u64>> {
        None
    }
}
