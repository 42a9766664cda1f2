//! Calls that are one step: they hold the mmap lock for writing from beginning to end, or
//! need none. What they announce goes out afterwards (see `events.rs`).

use shims::{Errno, Event, Features, RangeIoctls, RegisterModes, Span};

use super::call::{Call, MmId, Ret};
use super::did::Did;
use super::page_table::{Pte, Vpn};
use super::resolve::check_range;
use super::run::{EventPc, Run};
use super::{Kernel, PAGE, page_of};
use crate::vma::{CtxId, Removed};

impl Kernel {
    pub(super) fn step_once(&mut self, mm: MmId, call: Call) -> (Run, Did) {
        match call {
            Call::Munmap { range } => {
                match self.mm(mm).space.munmap(range.start.raw(), range.len.bytes()) {
                    Ok(removed) => {
                        self.drop_pages(mm, &removed);
                        self.announce_unmap(range, &removed, Ret::Ok(0))
                    }
                    Err(errno) => done(Err(errno)),
                }
            }
            Call::Mmap(request) => match self.mm(mm).space.mmap(&request) {
                Ok(mapped) => {
                    self.drop_pages(mm, &mapped.removed);
                    let ret = Ret::Ok(mapped.addr.raw());
                    let range = Span::new(mapped.addr, shims::Len::new(request.len));
                    self.announce_unmap(range, &mapped.removed, ret)
                }
                Err(errno) => done(Err(errno)),
            },
            Call::Mprotect { range, prot } => done(
                self.mm(mm).space.mprotect(range.start.raw(), range.len.bytes(), prot).map(|()| 0),
            ),
            Call::Register { ctx, .. } | Call::Unregister { ctx, .. } | Call::Close { ctx }
                if self.ctx(ctx).released =>
            {
                done(Err(Errno::EBADF))
            }
            Call::Register { ctx, range, modes } => {
                done(self.register(ctx, range, modes).map(|ioctls| ioctls.bits()))
            }
            Call::Unregister { ctx, range } => done(self.unregister(ctx, range).map(|()| 0)),
            Call::Close { ctx } => {
                self.ctx_mut(ctx).released = true;
                (Run::Closing { ctx }, Did::Release { ctx })
            }
            call => unreachable!("{call:?} takes more than one step"),
        }
    }

    /// `UFFDIO_REGISTER` (rules b2 to b7).
    fn register(
        &mut self,
        ctx: CtxId,
        range: Span,
        modes: RegisterModes,
    ) -> Result<RangeIoctls, Errno> {
        if modes.is_empty() || modes.bits() & !7 != 0 {
            return Err(Errno::EINVAL);
        }
        check_range(range)?;
        if modes.contains(RegisterModes::WP) {
            return Err(Errno::ENOTMODELLED);
        }
        let mm = self.ctx(ctx).mm;
        self.mm(mm).space.uffd_register(range, ctx, modes, false)?;
        // b6: no hugetlb VMA here, and neither WP nor MINOR was granted.
        Ok(RangeIoctls::WAKE
            | RangeIoctls::COPY
            | RangeIoctls::ZEROPAGE
            | RangeIoctls::MOVE
            | RangeIoctls::POISON)
    }

    /// `UFFDIO_UNREGISTER` (rules b12, b13): wakes faulters only where `MISSING` was
    /// registered.
    fn unregister(&mut self, ctx: CtxId, range: Span) -> Result<(), Errno> {
        check_range(range)?;
        let mm = self.ctx(ctx).mm;
        let parts = self.mm(mm).space.uffd_unregister(range, ctx)?;
        for part in parts {
            if part.modes.contains(RegisterModes::MISSING) {
                // Before 6.17 any context may do this; it is the owner's faulters that wake.
                self.wake_range(part.ctx.unwrap_or(ctx), part.span());
            }
        }
        Ok(())
    }

    /// Zap what a call has unmapped. Nothing refers to the pages any more, so no other
    /// thread can look at them in between.
    fn drop_pages(&mut self, mm: MmId, removed: &Removed) {
        let table = &mut self.mm(mm).table;
        for span in removed.spans() {
            let (start, end) = (page_of(span.start), page_of(span.end().expect("mapped")));
            while let Some(vpn) = table.first_present(start, end) {
                table.set(vpn, Pte::None);
            }
        }
    }

    /// The memory is gone already; tell each context that had some of it (rules d14, d15).
    /// The range is the call's, and `changing` of all contexts is raised before the first
    /// event is queued.
    fn announce_unmap(&mut self, range: Span, removed: &Removed, ret: Ret) -> (Run, Did) {
        let len = range.len.bytes().next_multiple_of(PAGE.bytes());
        let event = Event::Unmap(Span::new(range.start, shims::Len::new(len)));
        let list: Vec<_> = removed
            .ctxs()
            .filter(|&ctx| self.ctx(ctx).features.contains(Features::EVENT_UNMAP))
            .map(|ctx| (ctx, event))
            .collect();
        if list.is_empty() {
            return (Run::Done(ret), Did::Return(ret));
        }
        let mut changing = 0;
        for (ctx, _) in &list {
            changing = self.raise_changing(*ctx);
        }
        let did = Did::RaiseChanging { ctx: list[0].0, changing };
        (Run::Events { list, next: 0, at: EventPc::Announce, ret }, did)
    }
}

/// The argument check of `madvise`: `None` means nothing to do. A range that reaches beyond
/// the user's addresses is done as far as it is mapped, and then `ENOMEM`.
pub(super) fn madvise_range(range: Span) -> Result<Option<(Vpn, Vpn)>, Errno> {
    if !range.start.is_aligned(PAGE) {
        return Err(Errno::EINVAL);
    }
    let len = range.len.bytes().checked_next_multiple_of(PAGE.bytes()).ok_or(Errno::EINVAL)?;
    let start = range.start.raw();
    let end = start.checked_add(len).ok_or(Errno::EINVAL)?;
    if len == 0 {
        return Ok(None);
    }

    Ok(Some((start >> 12, end >> 12)))
}

fn done(result: Result<u64, Errno>) -> (Run, Did) {
    let ret = match result {
        Ok(value) => Ret::Ok(value),
        Err(errno) => Ret::Err(errno),
    };
    (Run::Done(ret), Did::Return(ret))
}
