//! What the next step of a thread looks at and what it changes, told before it is taken: two
//! steps whose footprints do not touch can be taken in either order. Owns the judgement for
//! everything a kernel holds; whoever adds a step here says what it touches, or leaves it to
//! [`Footprint::ALL`].
//!
//! A footprint may be too large, never too small. `tests/suite/exhaustive.rs` takes pairs of
//! steps in both orders and compares the states.

use shims::{RegisterModes, Request};

use super::call::{Call, ThreadId};
use super::madvise::Madvise;
use super::page_table::{Pte, Vpn};
use super::run::{Access, EventPc, FaultPc, Reason, RemoveCall, RemovePc, ResolvePc, Run};
use super::{Kernel, page_of};
use crate::vma::CtxId;

/// What a step looks at and what it changes, a bit for each thing a world has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Footprint {
    /// What it looks at.
    pub reads: u64,
    /// What it changes.
    pub writes: u64,
}

impl Footprint {
    /// A step that nobody else can see and that sees nobody.
    pub const NONE: Footprint = Footprint { reads: 0, writes: 0 };
    /// A step that may touch anything.
    pub const ALL: Footprint = Footprint { reads: 0, writes: u64::MAX };

    /// The mappings, and who holds them. Several steps may hold them at once: what they do
    /// to each other's hold is to add to a sum.
    pub const LAYOUT: u64 = 1 << 0;
    /// The queues of faults.
    pub const FAULTS: u64 = 1 << 1;
    /// The queue of events.
    pub const EVENTS: u64 = 1 << 2;
    /// `mmap_changing`.
    pub const CHANGING: u64 = 1 << 3;
    /// What the threads of a handler share.
    pub const HANDLER: u64 = 1 << 4;
    /// The labels of a world.
    pub const LABELS: u64 = 1 << 5;
    /// The disturbance that waits for the next read.
    pub const INJECTION: u64 = 1 << 6;
    /// The time.
    pub const TIME: u64 = 1 << 7;
    /// The fills that keep `mmap_changing` from rising.
    pub const FILLING: u64 = 1 << 8;
    /// The first of the bits for pages. Pages share bits if there are many.
    const FIRST_PAGE: u32 = 16;

    /// A step that looks at these.
    pub const fn reads(reads: u64) -> Footprint {
        Footprint { reads, writes: 0 }
    }

    /// A step that changes these.
    pub const fn writes(writes: u64) -> Footprint {
        Footprint { reads: 0, writes }
    }

    /// Both.
    #[must_use]
    pub const fn and(self, other: Footprint) -> Footprint {
        Footprint { reads: self.reads | other.reads, writes: self.writes | other.writes }
    }

    /// Can the two be taken in either order, with the same result?
    pub const fn is_independent_of(self, other: Footprint) -> bool {
        self.writes & (other.reads | other.writes) == 0 && other.writes & self.reads == 0
    }

    /// The bit of a page.
    pub(crate) fn page(vpn: Vpn) -> u64 {
        1 << (Footprint::FIRST_PAGE + (vpn % u64::from(u64::BITS - Footprint::FIRST_PAGE)) as u32)
    }

    /// The bits of pages `start..end`.
    pub(crate) fn pages(start: Vpn, end: Vpn) -> u64 {
        if end.saturating_sub(start) >= u64::from(u64::BITS) {
            return u64::MAX << Footprint::FIRST_PAGE;
        }
        (start..end).fold(0, |bits, vpn| bits | Footprint::page(vpn))
    }
}

impl Kernel {
    /// What the next step of `thread` touches; nothing if it is in no call.
    pub fn footprint(&self, thread: ThreadId) -> Footprint {
        let run = &self.threads[usize::from(thread.0)].run;
        if self.any_huge() || self.processes.is_some() {
            // A step may change a huge page whole; or be its thread's last, and close files.
            return Footprint::ALL;
        }
        match run {
            Run::Idle | Run::Done(_) => Footprint::NONE,
            // A page of a file has no one address, and a read can map more than it names.
            _ if self.objects.is_some() => Footprint::ALL,
            Run::Access { access, at } => self.fault_footprint(thread, *access, false, *at),
            Run::Populate { next, write, at, .. } => {
                let store = write.then_some(crate::Content::Zero);
                let access = Access { addr: super::page_addr(*next), store };
                self.fault_footprint(thread, access, true, *at)
            }
            Run::Remove(call) => match (call.at, self.next_zap(thread, call)) {
                // It has looked for the first page that is there.
                (RemovePc::Zap { .. }, Some(vpn)) => Footprint {
                    reads: Footprint::LAYOUT | Footprint::pages(call.next, vpn),
                    writes: Footprint::page(vpn),
                },
                _ => remove_footprint(call),
            },
            Run::Events { at: EventPc::Announce, .. } => Footprint::writes(Footprint::EVENTS),
            Run::Events { .. } => Footprint::writes(Footprint::CHANGING),
            Run::Resolve { ctx, request, at, .. } => self.resolve_footprint(*ctx, request, at),
            Run::Read { ctx, .. } => self.read_footprint(*ctx),
            _ => Footprint::ALL,
        }
    }

    /// What the first step of `call` by `thread`, which is idle, will touch.
    pub fn footprint_of(&self, thread: ThreadId, call: &Call) -> Footprint {
        if self.any_huge() || self.processes.is_some() {
            return Footprint::ALL;
        }
        match *call {
            _ if self.objects.is_some() => Footprint::ALL,
            Call::Load { addr } => {
                let access = Access { addr, store: None };
                self.fault_footprint(thread, access, false, FaultPc::Classify)
            }
            Call::Store { addr, content } => {
                let access = Access { addr, store: Some(content) };
                self.fault_footprint(thread, access, false, FaultPc::Classify)
            }
            Call::Populate { range, write } => {
                let store = write.then_some(crate::Content::Zero);
                let access = Access { addr: range.start, store };
                self.fault_footprint(thread, access, true, FaultPc::Classify)
            }
            Call::DontNeed { range } => {
                let end = range.end().map_or(Vpn::MAX, page_of);
                remove_footprint(&RemoveCall {
                    next: page_of(range.start),
                    end,
                    advice: Madvise::DontNeed,
                    hole: false,
                    at: RemovePc::Part,
                })
            }
            _ => Footprint::ALL,
        }
    }

    /// What a resolving ioctl that has passed its first look at the gate will touch next.
    pub(crate) fn footprint_behind_the_gate(&self, thread: ThreadId) -> Footprint {
        match &self.threads[usize::from(thread.0)].run {
            Run::Resolve { ctx, request, .. } if !matches!(request, Request::Wake { .. }) => {
                self.resolve_footprint(*ctx, request, &ResolvePc::Locked)
            }
            _ => Footprint::NONE,
        }
    }

    /// Does the removal that `thread` is in go on behind its next step, whatever that finds?
    pub(crate) fn zaps_on(&self, thread: ThreadId) -> bool {
        match &self.threads[usize::from(thread.0)].run {
            Run::Remove(call) => {
                matches!(call.at, RemovePc::Zap { .. }) && self.next_zap(thread, call).is_some()
            }
            _ => false,
        }
    }

    /// The page that a removal in the middle of its zap takes next.
    fn next_zap(&self, thread: ThreadId, call: &RemoveCall) -> Option<Vpn> {
        let RemovePc::Zap { part_end } = call.at else { return None };
        let plain = call.advice == Madvise::DontNeed && self.objects.is_none();
        let mm = &self.mms[usize::from(self.threads[usize::from(thread.0)].mm.0)];
        let mut there = mm.table.entries_in(call.next, part_end).filter(|_| plain);
        there.find(|(_, pte)| !pte.is_guard()).map(|(vpn, _)| vpn)
    }

    fn fault_footprint(
        &self,
        thread: ThreadId,
        access: Access,
        populate: bool,
        at: FaultPc,
    ) -> Footprint {
        let mm = &self.mms[usize::from(self.threads[usize::from(thread.0)].mm.0)];
        let vpn = page_of(access.addr);
        let page = Footprint::page(vpn);
        let pte = mm.table.get(vpn);
        let layout = Footprint::reads(Footprint::LAYOUT);
        match at {
            // A huge page may come.
            FaultPc::Classify
                if pte.is_none()
                    && mm.space.find(access.addr).is_some_and(|vma| self.wants_huge(vma)) =>
            {
                Footprint::ALL
            }
            FaultPc::Classify => {
                let registered = || {
                    mm.space
                        .find(access.addr)
                        .is_some_and(|vma| vma.uffd_modes().contains(RegisterModes::MISSING))
                };
                let looks = match pte {
                    Pte::Present { .. } => access.store.is_none() && !populate,
                    Pte::None => registered(),
                    Pte::Marker(_) => false,
                };
                let page = if looks { Footprint::reads(page) } else { Footprint::writes(page) };
                layout.and(page)
            }
            FaultPc::Enqueue(..) => layout.and(Footprint::writes(Footprint::FAULTS)),
            FaultPc::Recheck(_, reason) => {
                // It leaves the queue if it need not sleep.
                let stays = reason == Reason::Missing && pte.is_none();
                let queue = if stays {
                    Footprint::reads(Footprint::FAULTS)
                } else {
                    Footprint::writes(Footprint::FAULTS)
                };
                layout.and(Footprint::reads(page)).and(queue)
            }
            FaultPc::Asleep(_) => Footprint::NONE,
            FaultPc::Replaced => layout.and(Footprint::writes(page)),
        }
    }

    fn resolve_footprint(&self, ctx: CtxId, request: &Request, at: &ResolvePc) -> Footprint {
        if matches!(request, Request::Move { .. }) || self.ctx(ctx).released {
            return Footprint::ALL;
        }
        let looks = Footprint::reads(Footprint::LAYOUT | Footprint::CHANGING);
        let range = request.range();
        let start = page_of(range.start);
        let pages = range.len.whole_pages(super::PAGE);
        match at {
            ResolvePc::Enter if matches!(request, Request::Wake { .. }) => {
                Footprint::writes(Footprint::FAULTS)
            }
            ResolvePc::Enter => looks,
            ResolvePc::Wake { .. } => Footprint::writes(Footprint::FAULTS),
            // It looks for the next page that it changes, and holds its locks until it finds none.
            ResolvePc::Locked | ResolvePc::Protect(_)
                if matches!(request, Request::WriteProtect { .. }) =>
            {
                let from = match at {
                    ResolvePc::Protect(next) => *next,
                    _ => start,
                };
                let pages = Footprint::pages(from, start + pages);
                looks.and(Footprint::writes(pages | Footprint::FILLING))
            }
            ResolvePc::Locked
            | ResolvePc::Page(_)
            | ResolvePc::Source(_)
            | ResolvePc::Protect(_) => {
                // More than one page: the fill keeps an event from starting.
                let fill = if pages > 1 { Footprint::FILLING } else { 0 };
                let page = match at {
                    ResolvePc::Page(done) => start + done,
                    _ => start,
                };
                looks.and(Footprint::writes(Footprint::page(page) | fill))
            }
        }
    }

    /// A read takes from one queue, and has looked at the other.
    fn read_footprint(&self, ctx: CtxId) -> Footprint {
        let ctx = self.ctx(ctx);
        if !ctx.pending.is_empty() {
            Footprint::writes(Footprint::FAULTS)
        } else if !ctx.events.is_empty() {
            Footprint { reads: Footprint::FAULTS, writes: Footprint::EVENTS }
        } else {
            Footprint::reads(Footprint::FAULTS | Footprint::EVENTS)
        }
    }
}

/// The bits of the pages that begin in `start..end`, addresses.
pub(crate) fn page_bits(start: u64, end: u64) -> u64 {
    Footprint::pages(start >> 12, end.saturating_add(4095) >> 12)
}

fn remove_footprint(call: &RemoveCall) -> Footprint {
    let layout = Footprint::reads(Footprint::LAYOUT);
    match call.at {
        RemovePc::Part => layout
            .and(Footprint::reads(Footprint::FILLING))
            .and(Footprint::writes(Footprint::CHANGING | Footprint::pages(call.next, call.end))),
        RemovePc::Announce { .. } => Footprint::writes(Footprint::EVENTS),
        RemovePc::Asleep { .. } => Footprint::NONE,
        RemovePc::Lower { .. } => Footprint::writes(Footprint::CHANGING),
        RemovePc::Relook { part_end } | RemovePc::Zap { part_end } => {
            layout.and(Footprint::writes(Footprint::pages(call.next, part_end)))
        }
    }
}
