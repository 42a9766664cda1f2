//! Writes: un-protecting the pages that faults want to write, and baselines, which protect
//! them again (invariants 11 and 12). Owns no install: that what is installed for a read
//! comes protected is decided in `work.rs`.

use shims::{Outcome, PageNo, Request, Span, Time, Verdict, WriteProtectMode};

use super::slots::{Ending, Req, Stage};
use super::snapshot::PROBES;
use super::{Action, Completion, HandlerError, Machine, Payload, Status, StopReason};
use crate::PageStates;
use crate::policy::{Slip, Writes};

impl Machine {
    pub(super) fn tracks_writes(&self) -> bool {
        self.setup.policy.writes == Writes::Tracked
    }

    /// Prepare a baseline: a snapshot after which the pages that were dirty are clean until
    /// they are written again. Their protection comes back before the snapshot is ready, so
    /// from then on until [`take_baseline`](Machine::take_baseline) nobody can write to any
    /// page: whoever tries waits for the reading to go on. The client need not be paused,
    /// but must not give pages up meanwhile.
    ///
    /// # Panics
    ///
    /// If the policy does not track [writes](crate::Policy::writes).
    pub fn begin_baseline(&mut self) {
        assert!(self.tracks_writes(), "without tracked writes there is nothing to begin anew");
        self.begin_snapshot();
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.protect_from.get_or_insert(PageNo::new(0));
        }
    }

    /// The states that a baseline begins with, once it is
    /// [ready](Machine::snapshot_ready). Now is the time to save the bytes of the dirty
    /// pages: until the baseline is taken or abandoned nothing is read and nothing installed.
    ///
    /// # Panics
    ///
    /// If it is not ready, or is a snapshot and no baseline.
    pub fn export_baseline(&mut self) -> PageStates {
        assert!(self.snapshot_ready(), "the baseline is not ready");
        let snapshot = self.snapshot.as_mut().expect("what is ready was begun");
        assert!(snapshot.protect_from.is_some(), "a snapshot is no baseline");
        snapshot.frozen = true;
        if self.baseline_is_late() {
            self.snapshot = None;
        }
        self.states()
    }

    /// The bytes are saved: what was protected again is clean from here on, and reading may
    /// go on. Pages that may be absent although they are recorded stay dirty, because what
    /// becomes of them is seen by nobody.
    ///
    /// # Panics
    ///
    /// If there was no [export](Machine::export_baseline).
    pub fn take_baseline(&mut self) {
        if self.baseline_is_late() {
            self.tracker.rebase_all();
            return;
        }
        let snapshot = self.snapshot.take();
        assert!(snapshot.is_some_and(|s| s.frozen), "nothing was exported");
        self.tracker.rebase();
        self.tracker.forget_probes();
    }

    fn baseline_is_late(&self) -> bool {
        self.setup.policy.slip == Some(Slip::BaselineLate)
    }

    /// Is a baseline being exported?
    pub(super) fn is_frozen(&self) -> bool {
        self.snapshot.as_ref().is_some_and(|s| s.frozen)
    }

    /// The bytes could not be saved, or nobody waits for them any more: what was dirty stays
    /// so, and reading may go on. Ends a snapshot in the same way.
    pub fn abandon_snapshot(&mut self) {
        if self.is_frozen() && self.setup.policy.slip == Some(Slip::CancelledCounts) {
            self.tracker.rebase();
        }
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.abandoned = true;
        }
        self.end_abandoned();
    }

    /// Probes that are out are waited for.
    pub(super) fn end_abandoned(&mut self) {
        if self.snapshot.as_ref().is_some_and(|s| s.abandoned && s.probes == 0) {
            self.snapshot = None;
            self.tracker.forget_probes();
        }
    }

    pub(super) fn has_protect(&self) -> bool {
        self.snapshot.as_ref().is_some_and(|s| s.probes < PROBES && !s.abandoned)
            && self.page_to_protect().is_some()
            && self.is_quiet()
    }

    pub(super) fn page_to_protect(&self) -> Option<PageNo> {
        let mut from = self.snapshot.as_ref()?.protect_from?;
        loop {
            let page = self.tracker.next_to_protect(from)?;
            let addr = self.regions().addr(page);
            if addr.is_some_and(|addr| self.requests.find(addr).is_none()) {
                return Some(page);
            }
            from = PageNo::new(page.index() + 1);
        }
    }

    /// A request that protects the next page.
    pub(super) fn next_protect(&mut self) -> Option<u32> {
        if !self.has_protect() {
            return None;
        }
        let page = self.page_to_protect()?;
        let snapshot = self.snapshot.as_mut()?;
        snapshot.protect_from = Some(PageNo::new(page.index() + 1));
        snapshot.probes += 1;
        self.counters.protects += 1;
        let addr = self.regions().addr(page).expect("a page to protect is mapped");
        let mut req = Req::new(page, addr);
        (req.probe, req.protects) = (true, true);
        Some(self.requests.insert(req))
    }

    /// A fault on `page` was answered while a baseline is being prepared: it may be dirty
    /// again.
    pub(super) fn protect_again(&mut self, page: PageNo) {
        if let Some(from) = self.snapshot.as_mut().and_then(|s| s.protect_from.as_mut()) {
            *from = page.min(*from);
        }
    }

    pub(super) fn unprotect(&mut self, slot: u32) -> Action {
        if self.may_move() {
            self.pass_gate(slot);
        }
        self.requests[slot].stage = Stage::Unprotecting;
        self.protection(slot, WriteProtectMode::empty())
    }

    pub(super) fn protect(&mut self, slot: u32) -> Action {
        self.requests[slot].stage = Stage::Protecting;
        self.protection(slot, WriteProtectMode::WP)
    }

    fn protection(&self, slot: u32, mode: WriteProtectMode) -> Action {
        let request = self.protection_request(slot, mode);
        Action::Ioctl { req: self.requests.id(slot), request, payload: Payload::None }
    }

    fn protection_request(&self, slot: u32, mode: WriteProtectMode) -> Request {
        let size = self.setup.regions.page_size();
        let range = Span::new(self.requests[slot].addr, size.len());
        Request::WriteProtect { range, mode }
    }

    /// Un-protecting wakes whoever waits for the page, whatever for (rule e19); who still
    /// misses something comes back.
    pub(super) fn unprotect_answered(
        &mut self,
        slot: u32,
        outcome: Outcome,
        now: Time,
    ) -> Completion {
        let page = self.requests[slot].page;
        match outcome.verdict() {
            Verdict::Done => {
                match self.setup.policy.slip {
                    Some(Slip::RemovedIsWritten) => self.tracker.promoted(page),
                    _ => self.tracker.written(page),
                }
                self.finish(slot, Ending::Unprotected)
            }
            Verdict::Dead => {
                self.halt(Status::Stopped(StopReason::PeerGone));
                self.finish(slot, Ending::Dropped)
            }
            _ if self.status.is_over() => self.finish(slot, Ending::Dropped),
            _ if self.requests[slot].stale => self.wake_then(slot, Ending::Dropped),
            Verdict::Changing => self.met_a_change(slot, now),
            Verdict::NoMapping => self.wake_then(slot, Ending::Dropped),
            Verdict::Partial(_) | Verdict::Present | Verdict::Failed(_) => {
                let request = self.protection_request(slot, WriteProtectMode::empty());
                self.fail(slot, HandlerError::Ioctl { page, request, outcome, attempts: 1 });
                Completion::Done
            }
        }
    }

    /// A page that could not be protected stays dirty. Nobody waits for it.
    pub(super) fn protect_answered(
        &mut self,
        slot: u32,
        outcome: Outcome,
        now: Time,
    ) -> Completion {
        let page = self.requests[slot].page;
        match outcome.verdict() {
            Verdict::Done if !self.requests[slot].stale => self.tracker.protected(page),
            Verdict::Dead => self.halt(Status::Stopped(StopReason::PeerGone)),
            Verdict::Changing if !self.status.is_over() && !self.requests[slot].stale => {
                return self.probe_deferred(slot, now);
            }
            _ => {}
        }
        self.finish(slot, Ending::Probed)
    }
}
