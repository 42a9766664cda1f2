//! The machine: messages and completions in, actions out. Owns every decision; performs
//! none of them. The reasons are in the crate's documentation, under Invariants; the
//! numbers in the comments here refer to that list.

mod action;
mod answers;
mod layout;
mod minor;
mod reading;
mod slots;
mod snapshot;
mod status;
mod work;
mod writes;

use core::hash::{Hash, Hasher};
use std::collections::VecDeque;
use std::sync::Arc;

use shims::{Addr, Errno, Event, PageNo, Time};

pub use action::{Action, Completion, DrainEnd, Payload, ReadPermit, ReqId};
pub use status::{Counters, HandlerError, Status, StopReason};

use crate::{Content, Policy, Presence, RegionMap, Tracker};
use slots::{Ending, Slots, Stage, Why};

/// A page-fault handler without its input and output.
///
/// Two machines are equal if they do the same from here on: counters are not compared,
/// nor are the generations of [`ReqId`]s. The hash agrees with that.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Shared, because no machine ever changes them.
    setup: Arc<Setup>,
    /// The regions, once the client has changed them.
    layout: Option<Box<layout::Layout>>,
    tracker: Tracker,
    requests: Slots,
    /// Requests that need a decision: fetch, or install something that needs no gate.
    ready: VecDeque<u32>,
    /// Requests whose install has to wait for the gate.
    gated: VecDeque<u32>,
    /// Requests whose waiters are to be woken.
    wakes: VecDeque<u32>,
    /// Requests that wait for a moment, ascending by it, in order of arrival within it.
    deferred: Vec<(Time, u32)>,
    gate: Gate,
    paused: bool,
    snapshot: Option<snapshot::Snapshot>,
    /// What the machine ends with once every request has ended.
    ending: Option<Status>,
    status: Status,
    counters: Counters,
    /// Machines for children whose messages were read, until somebody takes them.
    births: Vec<Newborn>,
}

/// A process that came about by a fork, of which a message has told: the number of its
/// userfaultfd, and a machine that serves it. Its pages are those of its parent.
#[derive(Clone, Debug)]
pub struct Newborn {
    /// The descriptor, in the table of the process that read the message.
    pub fd: i32,
    /// Who serves it.
    pub machine: Machine,
}

#[derive(PartialEq, Eq, Hash, Debug)]
struct Setup {
    policy: Policy,
    regions: RegionMap,
}

/// Keeps reads and installs that a `REMOVE` makes stale apart (invariant 3).
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
struct Gate {
    reading: bool,
    /// A reader was told to wait for the installs that are out.
    reader_waits: bool,
    /// Ioctls that are out and passed it: source and poison installs, questions about strays,
    /// and all installs and un-protections if memory can move.
    installs: u32,
    /// Pages whose zero installs came to an end since the read in progress began.
    landed: Vec<PageNo>,
}

impl Machine {
    /// A machine that serves `regions` by `policy`.
    pub fn new(policy: Policy, regions: RegionMap) -> Machine {
        Machine::shared(Arc::new(Setup { policy, regions }))
    }

    fn shared(setup: Arc<Setup>) -> Machine {
        Machine {
            setup,
            layout: None,
            tracker: Tracker::new(),
            requests: Slots::default(),
            ready: VecDeque::new(),
            gated: VecDeque::new(),
            wakes: VecDeque::new(),
            deferred: Vec::new(),
            gate: Gate::default(),
            paused: false,
            snapshot: None,
            ending: None,
            status: Status::Running,
            counters: Counters::default(),
            births: Vec::new(),
        }
    }

    /// Its policy.
    pub fn policy(&self) -> &Policy {
        &self.setup.policy
    }

    /// Its regions, as the client has left them.
    pub fn regions(&self) -> &RegionMap {
        match &self.layout {
            None => &self.setup.regions,
            Some(layout) => &layout.regions,
        }
    }

    /// Its tracker.
    pub fn tracker(&self) -> &Tracker {
        &self.tracker
    }

    /// How it is doing.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Has it read its last message, though it may still serve some?
    pub fn is_ending(&self) -> bool {
        self.ending.is_some() || self.status.is_over()
    }

    /// What it did so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Is no request queued, deferred, fetching or in flight?
    pub fn settled(&self) -> bool {
        self.requests.is_empty()
    }

    /// How many requests there are.
    pub fn outstanding(&self) -> usize {
        self.requests.len()
    }

    /// Is a fault on `page` being served?
    pub fn is_serving(&self, page: PageNo) -> bool {
        let addr = self.regions().addr(page);
        addr.and_then(|addr| self.requests.find(addr))
            .is_some_and(|slot| self.requests[slot].faults > 0)
    }

    /// The page that a request is about.
    ///
    /// # Panics
    ///
    /// If the request has ended.
    pub fn page_of(&self, req: ReqId) -> PageNo {
        self.requests[self.requests.check(req)].page
    }

    /// The machines for children of which the last messages have told.
    pub fn take_births(&mut self) -> Vec<Newborn> {
        core::mem::take(&mut self.births)
    }

    /// Are there any?
    #[inline]
    pub fn has_births(&self) -> bool {
        !self.births.is_empty()
    }

    /// Is a read in progress?
    pub fn reading(&self) -> bool {
        self.gate.reading
    }

    /// The earliest moment at which a deferred request may go on.
    #[inline]
    pub fn next_deadline(&self) -> Option<Time> {
        let (until, _) = self.deferred.first()?;
        (!self.status.is_over() && !self.is_frozen()).then_some(*until)
    }

    /// Is reading suspended by [`pause`](Machine::pause)?
    pub fn paused(&self) -> bool {
        self.paused
    }

    /// Read nothing until [`resume`](Machine::resume). What was read is still served.
    pub fn pause(&mut self) {
        self.paused = true;
        self.gate.reader_waits = false;
    }

    /// Read again.
    pub fn resume(&mut self) {
        self.paused = false;
    }

    /// Read nothing more, serve what was read, then stop.
    pub fn stop(&mut self) {
        self.end_with(Status::Stopped(StopReason::Requested));
    }

    /// The driver knows that the process whose memory is served is gone: stop at once.
    pub fn peer_gone(&mut self) {
        self.halt(Status::Stopped(StopReason::PeerGone));
    }

    /// `poll` reports an error on the descriptor: serve what was read, then fail.
    pub fn poll_failed(&mut self) {
        self.end_with(Status::Failed(HandlerError::Poll));
    }

    /// Nobody will serve the child whose descriptor has that number: serve what was read, then
    /// fail.
    pub fn child_refused(&mut self, fd: i32) {
        let error = HandlerError::UnexpectedEvent(Event::Fork { fd });
        self.end_with(Status::Failed(error));
    }

    /// Waiting for messages failed: serve what was read, then fail.
    pub fn wait_failed(&mut self, errno: Errno) {
        self.end_with(Status::Failed(HandlerError::Wait(errno)));
    }

    /// The driver cannot go on: fail at once.
    pub fn driver_failed(&mut self, error: HandlerError) {
        self.halt(Status::Failed(error));
    }

    /// Read nothing more and end with `status` once every request has ended (invariants
    /// 2 and 9). The first reason stays.
    fn end_with(&mut self, status: Status) {
        if !self.is_ending() {
            self.ending = Some(status);
            self.gate.reader_waits = false;
        }
        self.check_ended();
    }

    /// End now: nothing that was read can be served any more (invariant 10).
    fn halt(&mut self, status: Status) {
        if self.status.is_over() {
            return;
        }
        self.ending = None;
        self.status = status;
        self.gate.reader_waits = false;
        self.ready.clear();
        self.gated.clear();
        self.wakes.clear();
        self.deferred.clear();
        let idle: Vec<u32> =
            self.requests.iter().filter(|(_, req)| !req.is_out()).map(|(slot, _)| slot).collect();
        for slot in idle {
            let ending = match self.requests[slot].stage {
                Stage::ToWake(ending) => ending,
                _ => Ending::Dropped,
            };
            self.finish(slot, ending);
        }
    }

    /// A read in progress may have consumed faults that the machine has yet to see.
    fn check_ended(&mut self) {
        if self.requests.is_empty()
            && !self.gate.reading
            && let Some(status) = self.ending.take()
        {
            self.status = status;
        }
    }

    /// Put a request where `next` finds it: before the others of its kind if it has been
    /// tried before.
    fn queue(&mut self, slot: u32, tried: bool) {
        let gated = self.is_gated(slot);
        self.requests[slot].stage = Stage::Queued;
        let queue = if gated { &mut self.gated } else { &mut self.ready };
        if tried {
            queue.push_front(slot);
        } else {
            queue.push_back(slot);
        }
    }

    /// Would the next action for this request have to wait for the gate? It may turn out
    /// later that it need not, never that it must.
    fn is_gated(&self, slot: u32) -> bool {
        let req = &self.requests[slot];
        match self.content(req.page) {
            _ if req.stray => true,
            _ if req.protects => false,
            _ if req.needs.only_unprotected() || req.needs.only_mapped() => self.may_move(),
            Content::Source => req.loaded || req.poison,
            Content::Poison => true,
            Content::Zero => self.may_move(),
        }
    }

    /// Could what is decided for an address be about another page by the time it lands?
    fn may_move(&self) -> bool {
        self.setup.policy.remaps || self.layout.is_some()
    }

    /// An ioctl of a request is handed out that must not be out while messages are read.
    fn pass_gate(&mut self, slot: u32) {
        self.gate.installs += 1;
        self.requests[slot].gated = true;
    }

    /// Account the outcome of a request's faults. The request itself ends too, unless
    /// faults came too late to be answered by it (invariant 4).
    fn finish(&mut self, slot: u32, ending: Ending) -> Completion {
        let halted = self.status.is_over();
        let short_circuit = self.setup.policy.presence == Presence::Tracker;
        self.end_probe(slot);
        if ending != Ending::Probed {
            self.protect_again(self.requests[slot].page);
        }
        let req = &mut self.requests[slot];
        self.counters.count(ending, req.faults);
        (req.faults, req.needs) =
            (core::mem::take(&mut req.late), core::mem::take(&mut req.late_needs));
        if req.faults > 0 && halted {
            self.counters.count(Ending::Dropped, req.faults);
        } else if req.faults > 0
            && short_circuit
            && !req.needs.unprotected
            && self.tracker.state(req.page).is_installed()
        {
            self.counters.short_circuited += req.faults;
            self.counters.count(Ending::Present, req.faults);
        } else if req.faults > 0 {
            req.done = 0;
            (req.changing, req.source, req.memory) = (0, 0, 0);
            if (req.stale || req.stray) && !self.place_anew(slot) {
                return self.wake_then(slot, Ending::Dropped);
            }
            self.queue(slot, false);
            return Completion::Kept;
        }
        self.requests.remove(slot);
        self.check_ended();
        Completion::Done
    }

    fn defer(&mut self, slot: u32, why: Why, until: Time) {
        self.requests[slot].stage = Stage::Deferred(why);
        let at = self.deferred.partition_point(|(t, _)| *t <= until);
        self.deferred.insert(at, (until, slot));
    }
}

impl Counters {
    fn count(&mut self, ending: Ending, faults: u64) {
        match ending {
            Ending::Installed => self.installed += faults,
            Ending::Present => self.already_present += faults,
            Ending::Dropped => self.dropped += faults,
            Ending::Poisoned => self.poisoned += faults,
            Ending::Unprotected => self.unprotected += faults,
            Ending::Failed => self.failed += faults,
            Ending::Probed => debug_assert_eq!(faults, 0),
        }
    }
}

impl Machine {
    /// The hash of what decides about everything from `now` on: deadlines count by how far off
    /// they are, and those that have passed are alike. Requests count by the order of their
    /// addresses, not by the slots they happen to have, and installs that have landed by their
    /// pages.
    pub fn hash_at<H: Hasher>(&self, now: Time, state: &mut H) {
        self.hash_reading(now, None, state);
    }

    /// The same, if no message comes to those that were `read` and are about to be applied; and
    /// without what nothing but the counters asks for, how many faults a request answers.
    pub fn hash_asked<H: Hasher>(&self, now: Time, read: Option<&[Event]>, state: &mut H) {
        self.requests.iter().for_each(|(_, req)| req.hash_asked(state));
        self.hash_but_requests(now, read, state);
    }

    /// The same, with how many faults a request answers.
    pub fn hash_reading<H: Hasher>(&self, now: Time, read: Option<&[Event]>, state: &mut H) {
        self.requests.iter().for_each(|(_, req)| req.hash(state));
        self.hash_but_requests(now, read, state);
    }

    fn hash_but_requests<H: Hasher>(&self, now: Time, read: Option<&[Event]>, state: &mut H) {
        let Machine { layout, tracker, requests, ready, gated, wakes, deferred, .. } = self;
        let Machine { gate, paused, snapshot, ending, status, .. } = self;
        (layout, tracker, requests.len()).hash(state);
        for queue in [ready, gated, wakes] {
            queue.len().hash(state);
            queue.iter().for_each(|slot| requests.rank(*slot).hash(state));
        }
        deferred.len().hash(state);
        for (until, slot) in deferred {
            (until.since(now), requests.rank(*slot)).hash(state);
        }
        let Gate { reading, reader_waits, installs, landed } = gate;
        (reading, reader_waits, installs).hash(state);
        // An install that has landed matters for a page that is given up meanwhile.
        let given_up = |page: PageNo| {
            let Some(read) = read else { return true };
            self.tracker.state(page) == crate::PageState::Removed
                || self.backing().has_cache()
                || self.layout.is_some()
                || read.iter().any(|event| match event {
                    Event::Remove(span) => {
                        self.regions().addr(page).is_none_or(|addr| span.contains(addr))
                    }
                    _ => false,
                })
        };
        let mut landed: Vec<PageNo> =
            landed.iter().copied().filter(|page| given_up(*page)).collect();
        landed.sort_unstable();
        landed.dedup();
        (landed, paused, snapshot, ending, status).hash(state);
    }

    /// Is there a request for the page at `addr`, or anything else that may lead to one without
    /// another fault there?
    pub fn may_touch(&self, addr: Addr) -> bool {
        self.snapshot.is_some() || self.layout.is_some() || self.requests.find(addr).is_some()
    }

    /// Is there nothing to do before something is read?
    pub fn is_resting(&self) -> bool {
        self.requests.is_empty() && self.snapshot.is_none() && !self.paused && !self.is_ending()
    }

    /// The requests under way, ascending by their addresses.
    pub fn requests(&self) -> impl Iterator<Item = ReqId> {
        self.requests.iter().map(|(slot, _)| self.requests.id(slot))
    }

    /// The place of a request in that order.
    pub fn rank(&self, req: ReqId) -> usize {
        self.requests.rank(req.slot)
    }
}

impl PartialEq for Machine {
    fn eq(&self, other: &Machine) -> bool {
        let Machine { setup, layout, tracker, requests, ready, gated, wakes, deferred, .. } = self;
        let Machine { gate, paused, snapshot, ending, status, .. } = self;
        (Arc::ptr_eq(setup, &other.setup) || *setup == other.setup)
            && *layout == other.layout
            && *tracker == other.tracker
            && *requests == other.requests
            && *ready == other.ready
            && *gated == other.gated
            && *wakes == other.wakes
            && *deferred == other.deferred
            && *gate == other.gate
            && *paused == other.paused
            && *snapshot == other.snapshot
            && *ending == other.ending
            && *status == other.status
    }
}

impl Eq for Machine {}

impl Hash for Machine {
    /// The policy and the first regions are left out: they never change, so machines that are
    /// compared by their hashes have the same.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Machine { layout, tracker, requests, ready, gated, wakes, deferred, .. } = self;
        let Machine { gate, paused, snapshot, ending, status, .. } = self;
        (layout, tracker, requests, ready, gated, wakes, deferred).hash(state);
        (gate, paused, snapshot, ending, status).hash(state);
    }
}
