//! Resolving ioctls: their validation order, errnos and result field, and what `COPY`,
//! `ZEROPAGE`, `POISON` and `WAKE` do (rules e1 to e17, e20, e23). `WRITEPROTECT` goes its own
//! way through its range, in `protect.rs`; what `MOVE` does to a page is in `move_page.rs`.

use shims::{
    ContinueMode, CopyMode, Errno, Features, MoveMode, Outcome, PoisonMode, Request, Span,
    WriteProtectMode, ZeropageMode,
};

use super::call::{MmId, Ret};
use super::did::Did;
use super::page_table::{Marker, Pte, PteBits, Vpn};
use super::run::{Next, ResolvePc};
use super::thp::UNIT;
use super::{Kernel, PAGE, page_addr, page_of};
use crate::Content;
use crate::profile::{AgainField, Bugs};
use crate::vma::CtxId;

/// How long an address of the simulated machine can be: 47 bits, less one page.
pub(super) const TASK_SIZE: u64 = (1 << 47) - 4096;

impl Kernel {
    pub(super) fn step_resolve(
        &mut self,
        caller: MmId,
        ctx: CtxId,
        request: Request,
        content: Content,
        at: ResolvePc,
    ) -> (Next<ResolvePc>, Did) {
        match at {
            // The number means nothing any more.
            ResolvePc::Enter if self.ctx(ctx).released => answer(0, Outcome::bare(Errno::EBADF)),
            // e23: any well-formed range, mapped or not, changing or not.
            ResolvePc::Enter if matches!(request, Request::Wake { .. }) => {
                match check_range(request.range()) {
                    Ok(()) => answer(self.wake_range(ctx, request.range()), Outcome::OK),
                    Err(errno) => answer(0, Outcome::bare(errno)),
                }
            }
            ResolvePc::Enter => match self.enter(caller, ctx, &request) {
                Ok(()) => (Next::At(ResolvePc::Locked), Did::PassGate),
                Err(outcome) => answer(0, outcome),
            },
            ResolvePc::Locked => match self.look_up_to_fill(ctx, &request) {
                Ok(()) if matches!(request, Request::WriteProtect { .. }) => {
                    self.step_protect(ctx, &request, None)
                }
                Ok(()) if matches!(request, Request::Move { .. }) => {
                    self.look_where_to(ctx, &request, 0, false)
                }
                Ok(()) => self.do_page(ctx, &request, content, 0, false),
                Err(outcome) => answer(0, outcome),
            },
            ResolvePc::Page(done) if matches!(request, Request::Move { .. }) => {
                self.look_where_to(ctx, &request, done, true)
            }
            ResolvePc::Page(done) => self.do_page(ctx, &request, content, done, true),
            // No content: what moves brings its own.
            ResolvePc::Source(done) => self.do_page(ctx, &request, content, done, true),
            ResolvePc::Protect(next) => self.step_protect(ctx, &request, Some(next)),
            ResolvePc::Wake { bytes, stopped } => {
                let range = Span::new(request.range().start, shims::Len::new(bytes));
                let woken = if dont_wake(&request) { 0 } else { self.wake_range(ctx, range) };
                let outcome = match stopped {
                    // e17: it has no result field.
                    None if matches!(request, Request::WriteProtect { .. }) => Outcome::OK,
                    None => Outcome::done(bytes),
                    // e3: the reason shows when the rest is tried.
                    Some(_) => Outcome::partial(bytes),
                };
                answer(woken, outcome)
            }
        }
    }

    /// e1: is the address space changing?
    pub(super) fn gate(&self, ctx: CtxId, request: &Request) -> Result<(), Outcome> {
        if self.ctx(ctx).changing > 0 {
            let blind = match request {
                Request::Move { .. } => Bugs::Z1 | Bugs::Z6,
                _ => Bugs::Z1,
            };
            if self.profile.bugs().intersects(blind) {
                return Ok(());
            }
            return Err(self.again(request));
        }
        Ok(())
    }

    /// How this kernel says `EAGAIN` to `request` (e1, e2).
    pub(crate) fn again(&self, request: &Request) -> Outcome {
        let mirrored = self.profile.again_field == AgainField::Mirrored
            && !matches!(request, Request::WriteProtect { .. });
        if mirrored { Outcome::mirrored(Errno::EAGAIN) } else { Outcome::bare(Errno::EAGAIN) }
    }

    /// What is looked at before any lock is taken: the gate first, before the arguments are
    /// even read. `Err` is the answer.
    fn enter(&self, caller: MmId, ctx: CtxId, request: &Request) -> Result<(), Outcome> {
        let range = request.range();
        // An ioctl from later is no ioctl at all.
        let needs = match request {
            Request::Move { .. } => Features::MOVE,
            Request::Poison { .. } => Features::POISON,
            Request::Continue { .. } => Features::MINOR_HUGETLBFS,
            _ => Features::empty(),
        };
        if !self.profile.features.contains(needs) {
            return Err(Outcome::bare(Errno::EINVAL));
        }
        self.gate(ctx, request)?;
        // e20: `MOVE` alone works on the caller's own memory only.
        if matches!(request, Request::Move { .. }) && self.ctx(ctx).mm != caller {
            return Err(Outcome::bare(Errno::EINVAL));
        }
        check_range(range).map_err(Outcome::bare)?;
        if let Request::Move { src, .. } = *request {
            check_range(Span::new(src, range.len)).map_err(Outcome::bare)?;
        }
        let known = match *request {
            Request::Copy { mode, .. } => CopyMode::DONTWAKE.union(CopyMode::WP).contains(mode),
            Request::Zeropage { mode, .. } => ZeropageMode::DONTWAKE.contains(mode),
            Request::Continue { mode, .. } => mode.bits() & !3 == 0,
            Request::WriteProtect { mode, .. } => {
                // e17: the two together are refused as well.
                mode.is_empty()
                    || mode == WriteProtectMode::WP
                    || mode == WriteProtectMode::DONTWAKE
            }
            Request::Move { mode, .. } => {
                MoveMode::DONTWAKE.union(MoveMode::ALLOW_SRC_HOLES).contains(mode)
            }
            Request::Poison { mode, .. } => PoisonMode::DONTWAKE.contains(mode),
            Request::Wake { .. } => unreachable!("a wake is answered before"),
        };
        if !known {
            return Err(Outcome::bare(Errno::EINVAL));
        }
        self.living(ctx, request)
    }

    /// a23: the address space may be gone.
    fn living(&self, ctx: CtxId, request: &Request) -> Result<(), Outcome> {
        if !self.mms[usize::from(self.ctx(ctx).mm.0)].dead {
            return Ok(());
        }
        let fills = matches!(request, Request::Copy { .. } | Request::Zeropage { .. });
        let old = fills && self.profile.has_bug(Bugs::Z16);
        Err(Outcome::bare(if old { Errno::ENOSPC } else { Errno::ESRCH }))
    }

    /// The same as `look_up`, by an ioctl that may put pages there: private memory gets its
    /// anon_vma before anything else is looked at, and keeps it if the ioctl is refused (e6).
    pub(super) fn look_up_to_fill(&mut self, ctx: CtxId, request: &Request) -> Result<(), Outcome> {
        self.living(ctx, request)?;
        if !matches!(request, Request::WriteProtect { .. }) {
            let mm = self.ctx(ctx).mm;
            self.mm(mm).space.note_anon_fault(request.range().start);
        }
        self.look_up(ctx, request)
    }

    /// What is looked at with the locks held: the mapping, and the gate once more. A range
    /// that was unmapped since the first look is `ENOENT` although its `UNMAP` is unread.
    fn look_up(&self, ctx: CtxId, request: &Request) -> Result<(), Outcome> {
        let range = request.range();
        self.living(ctx, request)?;
        match *request {
            Request::WriteProtect { .. } => return self.gate(ctx, request),
            Request::Move { dst, src, .. } => {
                self.check_move(ctx, dst, src).map_err(Outcome::mirrored)?;
                return self.gate(ctx, request);
            }
            _ => {}
        }
        let mm = self.ctx(ctx).mm;
        // e6: one VMA that holds the whole range and has some context, not necessarily ours.
        let vma = self
            .space(mm)
            .find(range.start)
            .filter(|vma| vma.uffd().is_some() && range.end().is_some_and(|end| end <= vma.end()));
        let Some(vma) = vma else {
            return Err(Outcome::mirrored(Errno::ENOENT));
        };
        let again = vma.page_size() == PAGE || !self.profile.has_bug(Bugs::Z3);
        if again {
            self.gate(ctx, request)?;
        }
        self.check_kind(vma, request).map_err(Outcome::mirrored)
    }

    /// Do page number `done` of the range, then go on with the next or with the wake. The
    /// locks are held from the first page to the last: the mapping cannot change and no
    /// event can start, but other threads can look at the pages between two steps.
    pub(super) fn do_page(
        &mut self,
        ctx: CtxId,
        request: &Request,
        content: Content,
        done: u64,
        held: bool,
    ) -> (Next<ResolvePc>, Did) {
        let mm = self.ctx(ctx).mm;
        let range = request.range();
        let granule = self.granule_pages(mm, page_of(range.start));
        let pages = range.len.whole_pages(PAGE) / granule;
        let vpn = page_of(range.start) + done * granule;
        let (count, moved) = self.move_huge(mm, vpn, pages - done, request);
        let did = moved.unwrap_or_else(|| self.one_page(mm, vpn, request, content));
        let did = match did {
            Ok(did) => did,
            Err(errno) => {
                self.hold(ctx, mm, held, false);
                return stop(done * granule, errno);
            }
        };
        let at = if done + count == pages {
            self.hold(ctx, mm, held, false);
            ResolvePc::Wake { bytes: range.len.bytes(), stopped: None }
        } else {
            self.hold(ctx, mm, held, true);
            ResolvePc::Page(done + count)
        };
        (Next::At(at), did)
    }

    /// If this moves a huge page whole, how many pages that is, and what came of it.
    #[inline]
    fn move_huge(
        &mut self,
        mm: MmId,
        vpn: Vpn,
        left: u64,
        request: &Request,
    ) -> (u64, Option<Result<Did, Errno>>) {
        let Request::Move { dst, src, .. } = *request else { return (1, None) };
        let from = page_of(src) + (vpn - page_of(dst.start));
        match self.mm(mm).move_unit(vpn, from, left) {
            None => (1, None),
            moved => (UNIT, moved),
        }
    }

    /// Keep or give back the locks across a step. They are taken when the first page is
    /// done and more may follow.
    pub(super) fn hold(&mut self, ctx: CtxId, mm: MmId, held: bool, keep: bool) {
        let (before, after) = (u32::from(held), u32::from(keep));
        let mm = self.mm(mm);
        mm.readers = mm.readers + after - before;
        let ctx = self.ctx_mut(ctx);
        ctx.filling = ctx.filling + after - before;
    }

    /// What the ioctl does to one page of its range.
    #[inline]
    fn one_page(
        &mut self,
        mm: MmId,
        vpn: Vpn,
        request: &Request,
        content: Content,
    ) -> Result<Did, Errno> {
        if self.objects.is_some()
            && let Some(done) = self.fill_one(mm, vpn, request, content)
        {
            return done;
        }
        let guards_stay = self.profile.guard.withstand_copy;
        let mm = self.mm(mm);
        let page = page_addr(vpn);
        if let Request::Move { dst, src, mode } = *request {
            let from = page_of(src) + (vpn - page_of(dst.start));
            return mm.move_page(vpn, from, mode.contains(MoveMode::ALLOW_SRC_HOLES));
        }
        let (pte, did) = match *request {
            // e13: protection comes from the mode, never from the marker that was there.
            Request::Copy { mode, .. } if mode.contains(CopyMode::WP) => {
                let bits = PteBits::PROTECTED;
                (Pte::Present { content, bits }, Did::Install { page, content })
            }
            Request::Copy { .. } => (Pte::page(content), Did::Install { page, content }),
            Request::Poison { .. } => (Pte::Marker(Marker::Poison), Did::Poison { page }),
            _ => (Pte::ZERO_PAGE, Did::Install { page, content: Content::Zero }),
        };
        match mm.table.get(vpn) {
            Pte::None => {}
            // e10: a copy replaces any marker, on a later kernel any but a guard; e14, e16:
            // nothing else does.
            Pte::Marker(marker)
                if matches!(request, Request::Copy { .. })
                    && !(guards_stay && marker.is_guard()) => {}
            Pte::Marker(_) | Pte::Present { .. } => return Err(Errno::EEXIST),
        }
        mm.table.set(vpn, pte);
        Ok(did)
    }
}

/// It goes no further than that. Only the pages done are woken (e5).
pub(super) fn stop(pages: u64, errno: Errno) -> (Next<ResolvePc>, Did) {
    if pages == 0 {
        return answer(0, Outcome::mirrored(errno));
    }
    let at = ResolvePc::Wake { bytes: pages * PAGE.bytes(), stopped: Some(errno) };
    (Next::At(at), Did::Return(Ret::Err(errno)))
}

/// b1: the check every ranged ioctl begins with.
pub(super) fn check_range(range: Span) -> Result<(), Errno> {
    let ok = range.start.is_aligned(PAGE)
        && range.len.is_aligned(PAGE)
        && range.len.bytes() > 0
        && range.start.raw() < TASK_SIZE
        && range.len.bytes() <= TASK_SIZE - range.start.raw();
    if ok { Ok(()) } else { Err(Errno::EINVAL) }
}

fn dont_wake(request: &Request) -> bool {
    match *request {
        Request::Copy { mode, .. } => mode.contains(CopyMode::DONTWAKE),
        Request::Zeropage { mode, .. } => mode.contains(ZeropageMode::DONTWAKE),
        Request::Continue { mode, .. } => mode.contains(ContinueMode::DONTWAKE),
        Request::Poison { mode, .. } => mode.contains(PoisonMode::DONTWAKE),
        Request::Move { mode, .. } => mode.contains(MoveMode::DONTWAKE),
        _ => false,
    }
}

pub(super) fn answer(woken: u32, outcome: Outcome) -> (Next<ResolvePc>, Did) {
    (Next::Done(Ret::Outcome(outcome)), Did::Answer { woken, outcome })
}
