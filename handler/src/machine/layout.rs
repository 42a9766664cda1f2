//! A client that takes its memory apart: what `UNMAP`, `REMAP` and `FORK` make of the regions
//! and of the requests under way (invariants 13 to 15). Owns the regions once they have
//! changed; a page keeps its number wherever it is mapped, so the tracker is left alone.

use shims::{
    Addr, Errno, Len, Outcome, PageNo, PageRange, Request, Span, Time, Verdict, ZeropageMode,
};

use super::slots::{Ending, Needs, Req, Stage};
use super::{Action, Completion, HandlerError, Machine, Newborn, Payload, Status, StopReason};
use crate::policy::Outside;
use crate::region::cut;
use crate::{Content, Region, RegionMap};

/// The regions after the client has changed them.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Layout {
    pub(super) regions: RegionMap,
    /// Regions of which an `UNMAP` has told. A call that fails can send one all the same
    /// (rule d16), and a fault that is read after it shows that the memory is there.
    gone: Vec<Region>,
}

/// Where the numbers of pages begin that no image has, in bytes: memory that a `REMAP` has
/// vacated, or that a mapping has grown by. The rest of the number is its address.
const NO_IMAGE: u64 = 1 << 63;

/// A page-aligned range as a region that no image has.
fn imageless(host: PageRange) -> Region {
    Region { host, offset: NO_IMAGE | host.start().raw() }
}

impl Layout {
    fn new(regions: &RegionMap) -> Layout {
        Layout { regions: regions.clone(), gone: Vec::new() }
    }

    /// Nothing of `start..end` is a region any more.
    fn unmap(&mut self, start: Addr, end: Addr) {
        for piece in self.regions.cut(start, end) {
            if piece.offset < NO_IMAGE {
                cut(&mut self.gone, piece.host.start(), piece.host.end());
                self.gone.push(piece);
            }
        }
    }

    fn remap(&mut self, from: Addr, to: Addr, len: u64) {
        let end = |start: Addr| start.checked_add(Len::new(len)).unwrap_or(Addr::new(u64::MAX));
        let moved = self.regions.cut(from, end(from));
        // Whatever was at the target has made room, whether an UNMAP told of it or not.
        self.unmap(to, end(to));
        cut(&mut self.gone, to, end(to));
        for piece in moved {
            // With MREMAP_DONTUNMAP the old place is still watched, and empty.
            self.regions.put(imageless(piece.host));
            let into = piece.host.start().raw() - from.raw();
            let start = to.checked_add(Len::new(into)).expect("the kernel moved it there");
            let host = PageRange::new(start, piece.host.len(), piece.host.page_size())
                .expect("memory moves by whole pages");
            let offset =
                if piece.offset < NO_IMAGE { piece.offset } else { imageless(host).offset };
            self.regions.put(Region { host, offset });
        }
    }

    /// A fault was read at `addr` after the `UNMAP`, and nothing is changing: that call has
    /// failed, so its whole piece is there.
    fn restore(&mut self, addr: Addr) -> bool {
        let Some(at) = self
            .gone
            .iter()
            .position(|piece| piece.host.start() <= addr && addr < piece.host.end())
        else {
            return false;
        };
        let piece = self.gone.swap_remove(at);
        self.regions.put(piece);
        true
    }
}

impl Machine {
    /// A range was unmapped, or a call that wanted to unmap it has failed.
    pub(super) fn unmapped(&mut self, span: Span) {
        self.counters.unmaps += 1;
        let end = span.end().unwrap_or(Addr::new(u64::MAX));
        self.change_layout(|layout| layout.unmap(span.start, end));
        self.abandon_requests(span.start, end);
    }

    /// A range has moved.
    pub(super) fn remapped(&mut self, from: Addr, to: Addr, len: u64) {
        self.counters.remaps += 1;
        self.change_layout(|layout| layout.remap(from, to, len));
        let end = from.checked_add(Len::new(len)).unwrap_or(Addr::new(u64::MAX));
        self.abandon_requests(from, end);
    }

    /// The process forked: a machine for the child, whose pages are those of the parent.
    ///
    /// Which removals had taken effect in the parent by the time its pages were copied
    /// nothing tells, nor whether an un-protection had; source installs are certain, because
    /// none is out while messages are read (invariant 3).
    pub(super) fn forked(&mut self, fd: i32) {
        self.counters.forks += 1;
        let mut child = Machine::shared(self.setup.clone());
        child.layout.clone_from(&self.layout);
        child.tracker = self.tracker.forked();
        for (_, req) in self.requests.iter().filter(|(_, req)| req.stage == Stage::Unprotecting) {
            child.tracker.written(req.page);
        }
        self.births.push(Newborn { fd, machine: child });
    }

    fn restore(&mut self, addr: Addr) -> bool {
        self.layout.as_deref_mut().is_some_and(|layout| layout.restore(addr))
    }

    fn change_layout(&mut self, change: impl FnOnce(&mut Layout)) {
        let setup = &self.setup;
        let layout = self.layout.get_or_insert_with(|| Box::new(Layout::new(&setup.regions)));
        change(layout);
    }

    /// Whoever waits in `start..end` waits where nothing will come any more: it is woken, to
    /// meet what is there now (rules c13, d22). What is out comes to its end first.
    fn abandon_requests(&mut self, start: Addr, end: Addr) {
        let hit: Vec<u32> = self
            .requests
            .iter()
            .filter(|(_, req)| start <= req.addr && req.addr < end)
            .map(|(slot, _)| slot)
            .collect();
        for slot in hit {
            let req = &mut self.requests[slot];
            req.stale = true;
            if !req.is_out() && !matches!(req.stage, Stage::ToWake(_)) {
                self.unqueue(slot);
                self.end_probe(slot);
                self.wake_then(slot, Ending::Dropped);
            }
        }
    }

    /// Take a request out of whatever queue it is in.
    fn unqueue(&mut self, slot: u32) {
        self.ready.retain(|queued| *queued != slot);
        self.gated.retain(|queued| *queued != slot);
        self.deferred.retain(|(_, queued)| *queued != slot);
    }

    /// Faults outside every region: the new regions explain them, or their threads are woken
    /// to look again. Whoever asks about them now would be told of a time after the change.
    pub(super) fn place_strays(&mut self) {
        let strays: Vec<u32> =
            self.requests.iter().filter(|(_, req)| req.stray).map(|(slot, _)| slot).collect();
        for slot in strays {
            if self.requests[slot].is_issued() {
                self.requests[slot].stale = true;
                continue;
            }
            self.unqueue(slot);
            if self.find_place(slot) {
                self.queue(slot, true);
            } else {
                self.wake_then(slot, Ending::Dropped);
            }
        }
    }

    /// Faults came late at an address that its memory has left. Is it in a region again? If
    /// not, a wake tells those that were read before that from those that come again.
    pub(super) fn place_anew(&mut self, slot: u32) -> bool {
        let (addr, size) = (self.requests[slot].addr, self.regions().page_size());
        let req = &mut self.requests[slot];
        req.page = PageNo::new((NO_IMAGE | addr.raw()) / size.bytes());
        (req.stray, req.stale, req.loaded, req.poison) = (true, false, false, false);
        self.find_place(slot)
    }

    /// Is the address of a stray in a region by now?
    fn find_place(&mut self, slot: u32) -> bool {
        let addr = self.requests[slot].addr;
        let Some(page) = self.regions().page(addr) else { return false };
        let req = &mut self.requests[slot];
        (req.page, req.stray) = (page, false);
        true
    }

    /// A fault at `addr`, which is in no region. `stale`: a change of the regions was read
    /// behind it.
    pub(super) fn outside(&mut self, addr: Addr, needs: Needs, stale: bool) {
        let size = self.regions().page_size();
        let addr = addr.align_down(size);
        if let Some(slot) = self.requests.find(addr) {
            return self.join(slot, needs);
        }
        let page = PageNo::new((NO_IMAGE | addr.raw()) / size.bytes());
        let mut req = Req::new(page, addr);
        (req.faults, req.needs) = (1, needs);
        req.stray = true;
        let slot = self.requests.insert(req);
        if stale {
            self.wake_then(slot, Ending::Dropped);
        } else {
            self.queue(slot, false);
        }
    }

    /// What goes into a page: zeros, if no image has it.
    pub(super) fn content(&self, page: PageNo) -> Content {
        if self.layout.is_some() && self.is_imageless(page) {
            return Content::Zero;
        }
        self.tracker.content(page)
    }

    pub(super) fn backing(&self) -> crate::Backing {
        self.setup.regions.backing()
    }

    fn is_imageless(&self, page: PageNo) -> bool {
        page.index() >= NO_IMAGE / self.setup.regions.page_size().bytes()
    }

    /// Does a snapshot tell of `page`?
    pub(super) fn is_in_image(&self, page: PageNo) -> bool {
        self.layout.is_none() || (!self.is_imageless(page) && self.regions().addr(page).is_some())
    }

    /// A fault in no region may be one of memory that has just moved, of which the message is
    /// still to come; then the address space is changing. Ask: with an empty range nothing
    /// happens, and the change is reported before the range is looked at (rule e1). A message
    /// that ends the change must not be on its way to the machine meanwhile, so the question
    /// goes through the gate.
    pub(super) fn ask(&mut self, slot: u32) -> Action {
        self.pass_gate(slot);
        self.requests[slot].stage = Stage::Asking;
        let request = self.question(slot);
        Action::Ioctl { req: self.requests.id(slot), request, payload: Payload::None }
    }

    fn question(&self, slot: u32) -> Request {
        let range = Span::new(self.requests[slot].addr, Len::ZERO);
        Request::Zeropage { range, mode: ZeropageMode::DONTWAKE }
    }

    pub(super) fn asked(&mut self, slot: u32, outcome: Outcome, now: Time) -> Completion {
        if self.status.is_over() {
            return self.finish(slot, Ending::Dropped);
        }
        if self.find_place(slot) {
            self.requests[slot].stale = false;
            self.queue(slot, true);
            return Completion::Kept;
        }
        // The regions have changed meanwhile, and the answer is about some other time.
        if self.requests[slot].stale {
            return self.wake_then(slot, Ending::Dropped);
        }
        let addr = self.requests[slot].addr;
        match outcome.verdict() {
            Verdict::Changing => self.met_a_change(slot, now),
            Verdict::Dead => {
                self.halt(Status::Stopped(StopReason::PeerGone));
                self.finish(slot, Ending::Dropped)
            }
            Verdict::Failed(Errno::EINVAL) if self.restore(addr) => {
                self.find_place(slot);
                self.queue(slot, true);
                Completion::Kept
            }
            // Quiet, and no message has explained it: nobody told of this memory.
            Verdict::Failed(Errno::EINVAL) if self.setup.policy.outside == Outside::Zeros => {
                let size = self.regions().page_size();
                let host = PageRange::page_at(addr, size).expect("a page that was touched ends");
                self.change_layout(|layout| layout.regions.put(imageless(host)));
                self.find_place(slot);
                self.queue(slot, true);
                Completion::Kept
            }
            Verdict::Failed(Errno::EINVAL) => {
                self.fail(slot, HandlerError::FaultOutside { addr });
                Completion::Done
            }
            _ => {
                let (page, request) = (self.requests[slot].page, self.question(slot));
                self.fail(slot, HandlerError::Ioctl { page, request, outcome, attempts: 1 });
                Completion::Done
            }
        }
    }
}
