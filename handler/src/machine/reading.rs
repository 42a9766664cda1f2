//! The reader's side: permits, and what a batch of messages does.

use core::hash::{Hash, Hasher};

use shims::{Addr, Event, Fault, FaultKind, Span, Time};

use super::slots::{Ending, Needs, Req, Stage, Why};
use super::{DrainEnd, HandlerError, Machine, ReadPermit, Status};
use crate::{Backing, Presence};

impl Machine {
    /// May messages be read now? After `Granted` no source install is handed out until
    /// [`end_read`](Machine::end_read). After `Wait` no new one is handed out either, if
    /// installs are what the reader has to wait for: it need only outlast those that are
    /// out. So a reader that was told to wait must ask again, even if it finds that its
    /// message was withdrawn meanwhile (rule a17).
    ///
    /// # Panics
    ///
    /// If a read is in progress already.
    pub fn begin_read(&mut self) -> ReadPermit {
        assert!(!self.gate.reading, "there is one reader, and it is reading");
        if self.is_ending() {
            return ReadPermit::Stopped;
        }
        if self.paused || !self.snapshot_lets_read() {
            self.gate.reader_waits = false;
            return ReadPermit::Wait;
        }
        if self.gate.installs > 0 && !self.overlaps() {
            self.gate.reader_waits = true;
            return ReadPermit::Wait;
        }
        self.gate.reader_waits = false;
        self.gate.reading = true;
        ReadPermit::Granted
    }

    /// Would [`begin_read`](Machine::begin_read) grant a read?
    pub fn may_read(&self) -> bool {
        !self.gate.reading
            && (self.gate.installs == 0 || self.overlaps())
            && !self.is_ending()
            && !self.paused
            && self.snapshot_lets_read()
    }

    /// The messages that were read, and why reading ended. Events are applied first, in their
    /// order, wherever they are in `batch` (invariant 2).
    ///
    /// # Panics
    ///
    /// If no read is in progress.
    pub fn end_read(&mut self, now: Time, batch: &[Event], end: DrainEnd) {
        assert!(self.gate.reading, "end_read without begin_read");
        self.gate.reading = false;
        self.counters.reads += 1;
        self.counters.empty_reads += u64::from(batch.is_empty());
        // Faults that stand before a change of the regions may be at addresses of before it.
        let mut changed_at = 0;
        let mut events = false;
        for (at, event) in batch.iter().enumerate() {
            match *event {
                Event::Fault(_) | Event::Unknown(_) => continue,
                Event::Remove(span) => self.remove(span),
                Event::Unmap(span) => self.unmapped(span),
                Event::Remap { from, to, len } => self.remapped(from, to, len),
                Event::Fork { fd } => self.forked(fd),
            }
            events = true;
            if matches!(event, Event::Unmap(_) | Event::Remap { .. }) {
                changed_at = at;
            }
        }
        // Invariant 5: an install that straddles the reading of a REMOVE is ambiguous.
        for page in self.gate.landed.drain(..) {
            self.tracker.straddled(page);
        }
        if events {
            self.retry_deferred(now);
        }
        if changed_at > 0 || matches!(batch.first(), Some(Event::Unmap(_) | Event::Remap { .. })) {
            self.place_strays();
        }
        if self.status.is_over() {
            let faults = batch.iter().filter(|event| matches!(event, Event::Fault(_))).count();
            self.counters.faults += faults as u64;
            self.counters.count(Ending::Dropped, faults as u64);
            return;
        }
        let mut wrong = None;
        for (at, event) in batch.iter().enumerate() {
            let error = match *event {
                Event::Fault(fault) => self.fault(fault, at < changed_at).err(),
                Event::Unknown(_) => Some(HandlerError::UnexpectedEvent(*event)),
                Event::Remove(_) | Event::Unmap(_) | Event::Remap { .. } | Event::Fork { .. } => {
                    None
                }
            };
            wrong = wrong.or(error);
        }
        let ended = match end {
            DrainEnd::Drained | DrainEnd::BatchFull => None,
            DrainEnd::Eof => Some(HandlerError::EndOfFile),
            DrainEnd::Error(errno) => Some(HandlerError::Read(errno)),
        };
        if let Some(error) = wrong.or(ended) {
            self.end_with(Status::Failed(error));
        }
        self.check_ended();
    }

    /// The hash of messages as far as [`end_read`](Machine::end_read) can tell them apart; false,
    /// and nothing, if it may tell more of them, or after a change of the regions could.
    ///
    /// Everything but faults counts in its order. Of the faults of a page the first makes a request
    /// and the others join it, or all join one that there is: what they need together counts,
    /// and not how many they are. Which of them is first decides where the request is queued only
    /// if it needs no page. Requests are queued in the order of the first fault of each page.
    pub fn hash_faults<H: Hasher>(&self, batch: &[Event], state: &mut H) -> bool {
        if self.setup.policy.presence == Presence::Tracker
            || self.backing().has_cache()
            || self.may_move()
        {
            return false;
        }
        let mut pages: Vec<(Addr, Needs, bool)> = Vec::new();
        for event in batch {
            let Event::Fault(fault) = event else { continue };
            let needs = match fault.kind() {
                FaultKind::Missing => Needs { page: true, ..Needs::default() },
                FaultKind::Wp if self.tracks_writes() => {
                    Needs { unprotected: true, ..Needs::default() }
                }
                FaultKind::Wp | FaultKind::Minor => return false,
            };
            if self.regions().page(fault.addr).is_none() {
                return false;
            }
            let write = fault.is_write() || needs.unprotected;
            let needs = Needs { write, ..needs };
            let addr = fault.addr.align_down(self.setup.regions.page_size());
            match pages.iter_mut().find(|(other, ..)| *other == addr) {
                Some((_, all, _)) => all.add(needs),
                None => pages.push((addr, needs, needs.page)),
            }
        }
        let others = || batch.iter().filter(|event| !matches!(event, Event::Fault(_)));
        others().count().hash(state);
        others().for_each(|event| event.hash(state));
        pages.hash(state);
        true
    }

    fn remove(&mut self, span: Span) {
        self.counters.removes += 1;
        let mut inside = 0;
        let regions = match &self.layout {
            None => &self.setup.regions,
            Some(layout) => &layout.regions,
        };
        for piece in regions.split(span) {
            inside += piece.bytes;
            if let Some((first, end)) = piece.full {
                match regions.backing() {
                    Backing::Anonymous => self.tracker.removed(first, end),
                    Backing::Shared => self.tracker.given_up_shared(first, end),
                    Backing::PrivateFile => self.tracker.reverted(first, end),
                }
            }
            for page in piece.head.into_iter().chain(piece.tail) {
                self.tracker.cut(page);
            }
        }
        self.counters.removes_outside += u64::from(inside < span.len.bytes());
    }

    /// Reading a `REMOVE` is what makes the address space quiet again, so the requests
    /// that wait for that go on early, in the order of their deadlines and before
    /// anything that is queued (invariants 2 and 6).
    fn retry_deferred(&mut self, now: Time) {
        let mut at = self.deferred.len();
        while at > 0 {
            at -= 1;
            let (until, slot) = self.deferred[at];
            if until <= now || self.requests[slot].stage == Stage::Deferred(Why::Changing) {
                self.deferred.remove(at);
                self.queue(slot, true);
            }
        }
    }

    fn fault(&mut self, fault: Fault, stale: bool) -> Result<(), HandlerError> {
        self.counters.faults += 1;
        let kind = fault.kind();
        let (addr, write) = (fault.addr, fault.is_write());
        let needs = match kind {
            FaultKind::Missing => Needs { page: true, write, ..Needs::default() },
            FaultKind::Wp if self.tracks_writes() => {
                Needs { unprotected: true, write: true, ..Needs::default() }
            }
            FaultKind::Minor if self.backing().has_cache() => {
                Needs { minor: true, write, ..Needs::default() }
            }
            FaultKind::Wp | FaultKind::Minor => {
                self.counters.count(Ending::Failed, 1);
                return Err(HandlerError::UnexpectedFault { addr, kind });
            }
        };
        let Some(page) = self.regions().page(addr) else {
            self.outside(addr, needs, stale);
            return Ok(());
        };
        if needs.page && self.backing().has_cache() {
            self.tracker.missed(page);
        }
        let addr = addr.align_down(self.setup.regions.page_size());
        if let Some(slot) = self.requests.find(addr) {
            self.join(slot, needs);
            return Ok(());
        }
        if self.setup.policy.presence == Presence::Tracker
            && needs.page
            && self.tracker.state(page).is_installed()
        {
            self.counters.short_circuited += 1;
            self.counters.count(Ending::Present, 1);
            return Ok(());
        }
        let mut req = Req::new(page, addr);
        req.faults = 1;
        req.needs = needs;
        let slot = self.requests.insert(req);
        self.queue(slot, false);
        Ok(())
    }

    /// A fault that a request which is under way already may answer.
    pub(super) fn join(&mut self, slot: u32, needs: Needs) {
        self.counters.joined += 1;
        if self.requests[slot].is_issued() {
            let req = &mut self.requests[slot];
            req.late += 1;
            req.late_needs.add(needs);
        } else {
            self.end_probe(slot);
            let req = &mut self.requests[slot];
            req.faults += 1;
            req.needs.add(needs);
        }
    }
}
