//! Snapshots: settling, and asking the kernel about the pages of which the tracker is
//! not sure (invariant 5).

use shims::{PageNo, Time};

use super::slots::{Ending, Req, Stage, Why};
use super::{Completion, Machine};
use crate::PageStates;
use crate::policy::Slip;

/// A snapshot that was asked for and not yet taken.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Snapshot {
    /// Pages below this one have been asked about.
    from: PageNo,
    /// Requests on its behalf that have not ended.
    pub(super) probes: u32,
    /// For a baseline: dirty pages below this one have been protected.
    pub(super) protect_from: Option<PageNo>,
    /// The bytes of a baseline are being saved: nothing may happen to any page.
    pub(super) frozen: bool,
    /// It is not wanted any more.
    pub(super) abandoned: bool,
}

/// Probes out at a time, so that a snapshot of a large image does not take a request for
/// every page at once.
pub(super) const PROBES: u32 = 64;

impl Machine {
    /// Prepare a snapshot: stop reading, let the requests end, then ask the kernel about
    /// unconfirmed pages. Reading goes on for as long as a request waits for the address
    /// space to be quiet, because reading is what makes it so; not while
    /// [paused](Machine::pause). Does nothing if a snapshot is being prepared already.
    pub fn begin_snapshot(&mut self) {
        let probes = match &self.snapshot {
            None => 0,
            Some(snapshot) if snapshot.abandoned => snapshot.probes,
            Some(_) => return,
        };
        let from = PageNo::new(0);
        let (frozen, abandoned) = (false, false);
        self.snapshot = Some(Snapshot { from, probes, protect_from: None, frozen, abandoned });
        self.gate.reader_waits = false;
    }

    /// Is a snapshot being prepared?
    pub fn snapshot_begun(&self) -> bool {
        self.snapshot.is_some()
    }

    /// Can the snapshot be taken?
    ///
    /// A machine that is [paused](Machine::pause) does not wait for requests that are
    /// deferred because the address space is changing: only reading would end that.
    pub fn snapshot_ready(&self) -> bool {
        let Some(snapshot) = &self.snapshot else { return false };
        !self.gate.reading
            && snapshot.probes == 0
            && !snapshot.abandoned
            && !snapshot.frozen
            && self.is_quiet()
            && (self.status.is_over()
                || (self.page_to_probe().is_none() && self.page_to_protect().is_none()))
    }

    /// The snapshot. Reading may go on.
    ///
    /// It says what the client's memory holds if the client did nothing meanwhile:
    /// pause it first.
    ///
    /// # Panics
    ///
    /// If it is not [ready](Machine::snapshot_ready).
    pub fn take_snapshot(&mut self) -> PageStates {
        assert!(self.snapshot_ready(), "the snapshot is not ready");
        self.snapshot = None;
        let states = self.states();
        if !self.keeps_probes() {
            self.tracker.forget_probes();
        }
        states
    }

    fn keeps_probes(&self) -> bool {
        self.setup.policy.slip == Some(Slip::ProbesKept)
    }

    /// What is recorded of the pages now. It is no snapshot: requests may be under way, and
    /// nobody has asked the kernel.
    pub fn states(&self) -> PageStates {
        let size = self.setup.regions.page_size();
        PageStates::of(&self.tracker, size, |page| self.is_in_image(page))
    }

    pub(super) fn snapshot_lets_read(&self) -> bool {
        self.snapshot.as_ref().is_none_or(|s| !s.frozen && self.changing() > 0)
    }

    /// Does no fault wait for anything but what a pause holds back?
    pub(super) fn is_quiet(&self) -> bool {
        let parked = |stage| self.paused && stage == Stage::Deferred(Why::Changing);
        self.requests.iter().all(|(_, req)| req.probe || parked(req.stage))
    }

    /// The request is no probe any more, whatever else it may become.
    pub(super) fn end_probe(&mut self, slot: u32) {
        let req = &mut self.requests[slot];
        req.protects = false;
        if core::mem::take(&mut req.probe) {
            let snapshot = self.snapshot.as_mut();
            snapshot.expect("probes end before their snapshot is taken").probes -= 1;
            self.end_abandoned();
        }
    }

    fn page_to_probe(&self) -> Option<PageNo> {
        let mut from = self.snapshot.as_ref()?.from;
        loop {
            let page = self.tracker.next_to_probe(from)?;
            let known = self.keeps_probes() && !self.tracker.is_ambiguous(page);
            let addr = self.regions().addr(page).filter(|_| !known);
            if addr.is_some_and(|addr| self.requests.find(addr).is_none()) {
                return Some(page);
            }
            from = PageNo::new(page.index() + 1);
        }
    }

    pub(super) fn has_probe(&self) -> bool {
        self.snapshot.as_ref().is_some_and(|s| s.probes < PROBES && !s.abandoned)
            && self.is_quiet()
            && self.page_to_probe().is_some()
    }

    /// A request that asks about the next page.
    pub(super) fn next_probe(&mut self) -> Option<u32> {
        if !self.has_probe() {
            return None;
        }
        let page = self.page_to_probe()?;
        let snapshot = self.snapshot.as_mut()?;
        snapshot.from = PageNo::new(page.index() + 1);
        snapshot.probes += 1;
        self.counters.probes += 1;
        let addr = self.regions().addr(page).expect("a page to ask about is mapped");
        let mut req = Req::new(page, addr);
        req.probe = true;
        Some(self.requests.insert(req))
    }

    /// The address space is changing: ask again later, or leave the page ambiguous.
    pub(super) fn probe_deferred(&mut self, slot: u32, now: Time) -> Completion {
        let policy = &self.setup.policy;
        let req = &mut self.requests[slot];
        req.changing += 1;
        if self.paused || req.changing >= policy.probe_attempts {
            return self.finish(slot, Ending::Probed);
        }
        let until = now.after(policy.defer.delay(req.changing));
        self.defer(slot, Why::Changing, until);
        Completion::Kept
    }
}
