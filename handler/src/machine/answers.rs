//! The workers' side, inward: what fetches and ioctls came to.

use shims::{Errno, Outcome, Request, Span, Time, Verdict};

use super::slots::{Ending, Stage, Why};
use super::{Completion, HandlerError, Machine, ReqId, Status};
use crate::policy::{Freshness, OnSourceError, Slip};
use crate::tracker::Probed;
use crate::{Content, SourceError};

impl Machine {
    /// The answer to a `Fetch`. `Done` says that the bytes are not wanted any more: the
    /// page has been removed meanwhile, or the machine has ended.
    ///
    /// # Panics
    ///
    /// If `req` is not being fetched.
    pub fn fetched(
        &mut self,
        req: ReqId,
        result: Result<(), SourceError>,
        now: Time,
    ) -> Completion {
        let slot = self.requests.check(req);
        let content = self.content(self.requests[slot].page);
        let request = &mut self.requests[slot];
        assert_eq!(request.stage, Stage::Fetching, "{req:?} is not being fetched");
        if self.status.is_over() {
            return self.finish(slot, Ending::Dropped);
        }
        if request.stale {
            self.wake_then(slot, Ending::Dropped);
            return Completion::Done;
        }
        let page = request.page;
        match result {
            Ok(()) => {
                request.source = 0;
                request.loaded = content == Content::Source
                    || self.setup.policy.freshness == Freshness::DecidedEarly;
                self.counters.stale_fetches += u64::from(!request.loaded);
                let kept = if request.loaded { Completion::Kept } else { Completion::Done };
                self.queue(slot, false);
                kept
            }
            Err(error) => {
                request.source += 1;
                let attempts = request.source;
                self.counters.source_errors += 1;
                let policy = &self.setup.policy;
                if content != Content::Source {
                    // The page has been removed meanwhile: its source does not matter.
                    self.queue(slot, false);
                } else if attempts < policy.source_attempts {
                    let until = now.after(policy.source_backoff.delay(attempts));
                    self.defer(slot, Why::Source, until);
                } else if policy.on_source_error == OnSourceError::Poison {
                    request.poison = true;
                    self.queue(slot, false);
                } else {
                    self.fail(slot, HandlerError::Source { page, error, attempts });
                }
                Completion::Done
            }
        }
    }

    /// The answer to an `Ioctl`.
    ///
    /// # Panics
    ///
    /// If no ioctl of `req` is out.
    pub fn completed(&mut self, req: ReqId, outcome: Outcome, now: Time) -> Completion {
        let slot = self.requests.check(req);
        self.gate.installs -= u32::from(core::mem::take(&mut self.requests[slot].gated));
        match self.requests[slot].stage {
            Stage::Installing(content) => self.install_answered(slot, content, outcome, now),
            Stage::Waking(ending) => self.wake_answered(slot, ending, outcome),
            Stage::Unprotecting => self.unprotect_answered(slot, outcome, now),
            Stage::Continuing => self.continue_answered(slot, outcome, now),
            Stage::Protecting => self.protect_answered(slot, outcome, now),
            Stage::Asking => self.asked(slot, outcome, now),
            stage => panic!("{req:?} has no ioctl out, it is {stage:?}"),
        }
    }

    fn install_answered(
        &mut self,
        slot: u32,
        content: Content,
        outcome: Outcome,
        now: Time,
    ) -> Completion {
        let size = self.setup.regions.page_size().bytes();
        let halted = self.status.is_over();
        let has_cache = self.backing().has_cache();
        let req = &mut self.requests[slot];
        let (page, probe, write) = (req.page, req.probe, req.needs.write);
        let stale = req.stale;
        if self.gate.reading {
            self.gate.landed.push(page);
        }
        let mut verdict = outcome.verdict();
        if let Verdict::Partial(bytes) = verdict
            && req.done + bytes >= size
        {
            verdict = Verdict::Done;
        }
        match verdict {
            // Its memory has left this address: before that it was installed, or it is not.
            verdict if stale && verdict != Verdict::Done && verdict != Verdict::Dead => {
                let ending = if probe { Ending::Probed } else { Ending::Dropped };
                self.wake_then(slot, ending)
            }
            Verdict::Done if stale && probe => self.wake_then(slot, Ending::Probed),
            Verdict::Done if probe => {
                self.tracker.probed(page, Probed::Absent);
                self.wake_then(slot, Ending::Probed)
            }
            Verdict::Done => {
                self.tracker.installed(page, content, write);
                let ending = match content {
                    Content::Poison => Ending::Poisoned,
                    Content::Source | Content::Zero => Ending::Installed,
                };
                self.finish(slot, ending)
            }
            Verdict::Present if probe => {
                self.tracker.probed(page, Probed::Present);
                self.wake_then(slot, Ending::Probed)
            }
            Verdict::Present => {
                match self.setup.policy.slip {
                    Some(Slip::ReadOverwrites) if !write => self.tracker.read_over(page),
                    _ => self.tracker.present(page, write),
                }
                if req.needs.unprotected || req.needs.minor {
                    // It is there, but protected or not mapped for all we know: a wake would
                    // only bring the fault back.
                    req.needs.page = false;
                    self.queue(slot, true);
                    return Completion::Kept;
                }
                self.wake_then(slot, Ending::Present)
            }
            Verdict::Dead => {
                self.halt(Status::Stopped(super::StopReason::PeerGone));
                self.finish(slot, if probe { Ending::Probed } else { Ending::Dropped })
            }
            _ if halted => self.finish(slot, if probe { Ending::Probed } else { Ending::Dropped }),
            Verdict::Partial(bytes) => {
                req.done += bytes;
                (req.changing, req.memory) = (0, 0);
                self.queue(slot, true);
                Completion::Kept
            }
            Verdict::Changing if probe => self.probe_deferred(slot, now),
            Verdict::Changing => self.met_a_change(slot, now),
            Verdict::NoMapping if probe => self.finish(slot, Ending::Probed),
            Verdict::NoMapping => self.wake_then(slot, Ending::Dropped),
            // Its object has become shorter: who waits for the page gets its SIGBUS (c4, e11).
            Verdict::Failed(Errno::EFAULT) if has_cache => {
                self.wake_then(slot, if probe { Ending::Probed } else { Ending::Dropped })
            }
            Verdict::Failed(errno) => {
                req.memory += u32::from(errno == Errno::ENOMEM);
                let policy = &self.setup.policy;
                if errno == Errno::ENOMEM && req.memory < policy.memory_attempts {
                    let until = now.after(policy.memory_backoff.delay(req.memory));
                    self.defer(slot, Why::Memory, until);
                    return Completion::Kept;
                }
                let (request, _) = self.install_request(slot, content);
                let attempts = self.requests[slot].memory.max(1);
                self.fail(slot, HandlerError::Ioctl { page, request, outcome, attempts });
                Completion::Done
            }
        }
    }

    /// The address space is changing: try again later (invariant 6).
    pub(super) fn met_a_change(&mut self, slot: u32, now: Time) -> Completion {
        self.counters.deferrals += 1;
        let defer = self.setup.policy.defer;
        let req = &mut self.requests[slot];
        // Not counted any further than the delays can tell apart: machines that will do the
        // same are the same.
        if defer.delay(req.changing) < defer.max {
            req.changing += 1;
        }
        if self.ending.is_some() {
            req.last += 1;
            if req.last >= self.setup.policy.last_attempts {
                return self.wake_then(slot, Ending::Dropped);
            }
        }
        let until = now.after(defer.delay(req.changing));
        self.defer(slot, Why::Changing, until);
        Completion::Kept
    }

    fn wake_answered(&mut self, slot: u32, ending: Ending, outcome: Outcome) -> Completion {
        if outcome.errno.is_none() || self.status.is_over() {
            return self.finish(slot, ending);
        }
        let req = &self.requests[slot];
        let range = Span::new(req.addr, self.setup.regions.page_size().len());
        let (page, request) = (req.page, Request::Wake { range });
        self.fail(slot, HandlerError::Ioctl { page, request, outcome, attempts: 1 });
        Completion::Done
    }

    /// Wake whoever waits for the page, then end the request.
    pub(super) fn wake_then(&mut self, slot: u32, ending: Ending) -> Completion {
        if self.status.is_over() {
            return self.finish(slot, ending);
        }
        self.requests[slot].stage = Stage::ToWake(ending);
        self.wakes.push_back(slot);
        Completion::Kept
    }

    /// Give up a request, and end the machine for it. Faults that came late are given up
    /// too: they would fail in the same way.
    pub(super) fn fail(&mut self, slot: u32, error: HandlerError) {
        let req = &mut self.requests[slot];
        req.faults += core::mem::take(&mut req.late);
        let ending = if req.faults == 0 { Ending::Probed } else { Ending::Failed };
        if !self.is_ending() {
            self.ending = Some(Status::Failed(error));
            self.gate.reader_waits = false;
        }
        self.finish(slot, ending);
    }
}
