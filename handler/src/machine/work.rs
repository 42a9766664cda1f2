//! The workers' side, outward: which action comes next.

use shims::{CopyMode, Len, PageSize, PoisonMode, Request, Span, Time, ZeropageMode};

use super::slots::{Stage, Why};
use super::{Action, Machine, Payload};
use crate::Content;
use crate::policy::Freshness;

impl Machine {
    /// The next action, if there is one now. In this order: wakes, gated installs if the
    /// gate is open, everything else that faults need, probes of a snapshot.
    pub fn next(&mut self, now: Time) -> Option<Action> {
        if self.status.is_over() || self.is_frozen() {
            return None;
        }
        if let Some(slot) = self.wakes.pop_front() {
            return Some(self.wake(slot));
        }
        self.queue_due(now);
        if (self.gate_is_open() || self.overlaps())
            && let Some(slot) = self.gated.pop_front()
        {
            return Some(self.advance(slot));
        }
        if let Some(slot) = self.ready.pop_front() {
            return Some(self.advance(slot));
        }
        if (self.gate_is_open() || !self.may_move())
            && let Some(slot) = self.next_probe()
        {
            return Some(self.install(slot, Content::Zero));
        }
        let slot = self.next_protect()?;
        Some(self.protect(slot))
    }

    /// Would [`next`](Machine::next) return an action?
    #[inline]
    pub fn has_work(&self, now: Time) -> bool {
        // A search asks this of every idle worker at every step, and mostly there is nothing.
        if self.wakes.is_empty()
            && self.ready.is_empty()
            && self.gated.is_empty()
            && self.deferred.is_empty()
            && self.snapshot.is_none()
        {
            return false;
        }
        self.has_work_queued(now)
    }

    fn has_work_queued(&self, now: Time) -> bool {
        if self.status.is_over() || self.is_frozen() {
            return false;
        }
        let open = self.gate_is_open() || self.overlaps();
        let due = self.deferred.partition_point(|(until, _)| *until <= now);
        !self.wakes.is_empty()
            || !self.ready.is_empty()
            || (open && !self.gated.is_empty())
            || self.deferred[..due].iter().any(|(_, slot)| open || !self.is_gated(*slot))
            || (due == 0
                && (((open || !self.may_move()) && self.has_probe()) || self.has_protect()))
    }

    /// May what must not overlap a read be handed out? A reader that was told to wait for the
    /// installs that are out holds further ones back; not if a snapshot keeps it from reading
    /// meanwhile, or both would wait for each other.
    fn gate_is_open(&self) -> bool {
        !self.gate.reading && (!self.gate.reader_waits || !self.snapshot_lets_read())
    }

    /// Is invariant 3 broken on purpose?
    pub(super) fn overlaps(&self) -> bool {
        self.setup.policy.freshness == Freshness::Overlapping
    }

    /// Queue the deferred requests whose moment has come, before the others.
    fn queue_due(&mut self, now: Time) {
        let due = self.deferred.partition_point(|(until, _)| *until <= now);
        for at in (0..due).rev() {
            let slot = self.deferred[at].1;
            self.queue(slot, true);
        }
        self.deferred.drain(..due);
    }

    /// The action that a queued request needs. What goes into the page is looked up here
    /// and not before, so that whatever was removed since is known (invariant 3).
    fn advance(&mut self, slot: u32) -> Action {
        let req = &self.requests[slot];
        let (page, addr) = (req.page, req.addr);
        if req.stray {
            return self.ask(slot);
        }
        if req.protects {
            return self.protect(slot);
        }
        if req.needs.only_mapped() {
            return self.continue_(slot);
        }
        if req.needs.only_unprotected() {
            return self.unprotect(slot);
        }
        let content = match self.content(page) {
            Content::Source if req.poison => Content::Poison,
            Content::Source if !req.loaded => {
                self.requests[slot].stage = Stage::Fetching;
                self.counters.fetches += 1;
                return Action::Fetch { req: self.requests.id(slot), page, addr };
            }
            Content::Zero
                if req.loaded && self.setup.policy.freshness == Freshness::DecidedEarly =>
            {
                Content::Source
            }
            Content::Zero if req.loaded => {
                self.counters.stale_fetches += 1;
                self.requests[slot].loaded = false;
                Content::Zero
            }
            content => content,
        };
        self.install(slot, content)
    }

    fn install(&mut self, slot: u32, content: Content) -> Action {
        if content != Content::Zero || self.may_move() {
            self.pass_gate(slot);
        }
        self.requests[slot].stage = Stage::Installing(content);
        let (request, payload) = self.install_request(slot, content);
        Action::Ioctl { req: self.requests.id(slot), request, payload }
    }

    /// The ioctl that puts `content` into the rest of a request's page.
    pub(super) fn install_request(&self, slot: u32, content: Content) -> (Request, Payload) {
        let size = self.setup.regions.page_size();
        let req = &self.requests[slot];
        let done = Len::new(req.done);
        let start = req.addr.checked_add(done).expect("a page ends inside its region");
        let range = Span::new(start, Len::new(size.bytes() - req.done));
        // What nobody is about to write is mapped protected, in the same step: between an
        // install and a protection that follows it a write would go unseen.
        let watched = self.tracks_writes() && !req.needs.write;
        let watch = if watched { CopyMode::WP } else { CopyMode::empty() };
        match content {
            Content::Source => (Request::Copy { dst: range, mode: watch }, Payload::Fetched),
            Content::Poison => {
                (Request::Poison { range, mode: PoisonMode::empty() }, Payload::None)
            }
            // The zero page is 4 KiB; a larger page is filled by a copy (rule e14), and so is
            // one that is to be protected, which `ZEROPAGE` cannot do.
            Content::Zero if size == PageSize::KIB4 && !watched => {
                let mode = if req.probe { ZeropageMode::DONTWAKE } else { ZeropageMode::empty() };
                (Request::Zeropage { range, mode }, Payload::None)
            }
            Content::Zero => {
                let wakes = if req.probe { CopyMode::DONTWAKE } else { CopyMode::empty() };
                (Request::Copy { dst: range, mode: watch | wakes }, Payload::Zeros)
            }
        }
    }

    fn wake(&mut self, slot: u32) -> Action {
        self.counters.wakes += 1;
        let size = self.setup.regions.page_size();
        let req = &mut self.requests[slot];
        let Stage::ToWake(ending) = req.stage else {
            unreachable!("the queue of wakes holds nothing else")
        };
        req.stage = Stage::Waking(ending);
        let request = Request::Wake { range: Span::new(req.addr, size.len()) };
        Action::Ioctl { req: self.requests.id(slot), request, payload: Payload::None }
    }

    /// How many deferred requests wait for the address space to be quiet.
    pub(super) fn changing(&self) -> usize {
        let changing = Stage::Deferred(Why::Changing);
        self.deferred.iter().filter(|(_, slot)| self.requests[*slot].stage == changing).count()
    }
}
