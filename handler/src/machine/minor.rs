//! Pages that are in the page cache of a shared object and not mapped (`MINOR` faults): they
//! are mapped as they are (invariant 16). Owns the `CONTINUE`; where the bytes of such pages
//! came from is nobody's business here.

use shims::{ContinueMode, Errno, Outcome, Request, Span, Time, Verdict};

use super::slots::{Ending, Stage};
use super::{Action, Completion, HandlerError, Machine, Payload, Status, StopReason};

impl Machine {
    /// Map the page of a request from the page cache.
    pub(super) fn continue_(&mut self, slot: u32) -> Action {
        if self.may_move() {
            self.pass_gate(slot);
        }
        self.counters.continues += 1;
        self.requests[slot].stage = Stage::Continuing;
        let request = self.continuation(slot);
        Action::Ioctl { req: self.requests.id(slot), request, payload: Payload::None }
    }

    fn continuation(&self, slot: u32) -> Request {
        let req = &self.requests[slot];
        let range = Span::new(req.addr, self.setup.regions.page_size().len());
        let watched = self.tracks_writes() && !req.needs.write;
        let mode = if watched { ContinueMode::WP } else { ContinueMode::empty() };
        Request::Continue { range, mode }
    }

    pub(super) fn continue_answered(
        &mut self,
        slot: u32,
        outcome: Outcome,
        now: Time,
    ) -> Completion {
        let req = &self.requests[slot];
        let (page, write, stale) = (req.page, req.needs.write, req.stale);
        match outcome.verdict() {
            Verdict::Done => {
                self.tracker.present(page, write);
                self.finish(slot, Ending::Installed)
            }
            Verdict::Dead => {
                self.halt(Status::Stopped(StopReason::PeerGone));
                self.finish(slot, Ending::Dropped)
            }
            _ if self.status.is_over() => self.finish(slot, Ending::Dropped),
            Verdict::NoMapping => self.wake_then(slot, Ending::Dropped),
            _ if stale => self.wake_then(slot, Ending::Dropped),
            Verdict::Changing => self.met_a_change(slot, now),
            Verdict::Present => {
                self.tracker.present(page, write);
                self.wake_then(slot, Ending::Present)
            }
            // It left the page cache since, or its object has become shorter (EINVAL): then it is
            // missing, and has to be filled if it can be.
            Verdict::Failed(Errno::EFAULT | Errno::EINVAL) => {
                self.tracker.missed(page);
                let needs = &mut self.requests[slot].needs;
                (needs.page, needs.minor) = (true, false);
                self.queue(slot, true);
                Completion::Kept
            }
            Verdict::Partial(_) | Verdict::Failed(_) => {
                let request = self.continuation(slot);
                self.fail(slot, HandlerError::Ioctl { page, request, outcome, attempts: 1 });
                Completion::Done
            }
        }
    }
}
