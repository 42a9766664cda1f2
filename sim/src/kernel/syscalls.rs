//! Calls that are one step: they hold the mmap lock for writing from beginning to end, or
//! need none. What they announce goes out afterwards (see `events.rs`).

use shims::{Errno, Event, Features, RangeIoctls, RegisterModes, Span};

use super::call::{Call, MmId, Ret, ThreadId};
use super::did::Did;
use super::madvise::Madvise;
use super::page_table::{Pte, Vpn};
use super::resolve::check_range;
use super::run::{EventPc, Run};
use super::{Kernel, PAGE, page_of};
use crate::vma::{CtxId, Mmap, Part, Refused, Removed};

impl Kernel {
    pub(super) fn step_once(&mut self, mm: MmId, call: Call) -> (Run, Did) {
        match call {
            Call::Munmap { range } => {
                match self.mm(mm).space.munmap(range.start.raw(), range.len.bytes()) {
                    Ok(removed) => {
                        self.drop_pages(mm, &removed);
                        self.announce_unmap(range, &removed, Ret::Ok(0))
                    }
                    Err(refused) => self.announce_refused(range, &refused),
                }
            }
            Call::Mseal { range } => {
                done(self.mm(mm).space.mseal(range.start.raw(), range.len.bytes()).map(|()| 0))
            }
            Call::Mlock { range, on_fault } => self.mlock(mm, range, on_fault),
            Call::Munlock { range } => {
                done(self.mm(mm).space.munlock(range.start.raw(), range.len.bytes()).map(|()| 0))
            }
            Call::Madvise { range, advice: Madvise::Flags(advice) } => done(
                self.mm(mm).space.madvise(range.start.raw(), range.len.bytes(), advice).map(|()| 0),
            ),
            Call::Register { ctx, .. } | Call::Unregister { ctx, .. } | Call::Close { ctx }
                if self.ctx(ctx).released =>
            {
                done(Err(Errno::EBADF))
            }
            Call::Mremap(request) => self.mremap(mm, &request),
            Call::Fork if !self.may_fork(mm) => done(Err(Errno::ENOTMODELLED)),
            Call::Fork => self.fork(mm),
            Call::Ftruncate { .. } | Call::Punch { .. } => self.cut_file(&call),
            Call::Register { ctx, range, modes } => {
                done(self.register(ctx, range, modes).map(|ioctls| ioctls.bits()))
            }
            Call::Unregister { ctx, range } => self.unregister(ctx, range),
            Call::Close { ctx } => {
                self.ctx_mut(ctx).released = true;
                (Run::Closing { ctx }, Did::Release { ctx })
            }
            call => unreachable!("{call:?} takes more than one step"),
        }
    }

    pub(super) fn step_mmap(&mut self, thread: ThreadId, mm: MmId, asked: &Mmap) -> (Run, Did) {
        match self.mmap(mm, asked) {
            Ok(mapped) => {
                self.drop_pages(mm, &mapped.removed);
                let ret = Ret::Ok(mapped.addr.raw());
                let range = Span::new(mapped.addr, shims::Len::new(asked.len));
                let run = self.announce_unmap(range, &mapped.removed, ret);
                self.mapped(thread, mm, asked, mapped.addr, run)
            }
            Err(refused) => {
                let (start, len) = (shims::Addr::new(asked.addr), asked.len);
                self.announce_refused(Span::new(start, shims::Len::new(len)), &refused)
            }
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
        let mm = self.ctx(ctx).mm;
        if self.mm(mm).dead {
            return Err(Errno::ENOMEM);
        }
        let huge = self.check_kinds(mm, range, modes)?;
        let wp_async = self.ctx(ctx).features.contains(Features::WP_ASYNC);
        self.mm(mm).space.uffd_register(range, ctx, modes, wp_async)?;
        // b6: what the range has decides about huge pages only; the rest is what this call
        // asked for.
        let has = |feature| self.profile.features.contains(feature);
        let mut ioctls = RangeIoctls::WAKE | RangeIoctls::COPY;
        ioctls.set(RangeIoctls::ZEROPAGE, !huge);
        ioctls.set(RangeIoctls::MOVE, !huge && has(Features::MOVE));
        ioctls.set(RangeIoctls::POISON, has(Features::POISON));
        ioctls.set(RangeIoctls::WRITEPROTECT, modes.contains(RegisterModes::WP));
        ioctls.set(RangeIoctls::CONTINUE, modes.contains(RegisterModes::MINOR));
        Ok(ioctls)
    }

    /// `UFFDIO_UNREGISTER` (rules b12, b13): wakes faulters only where `MISSING` was
    /// registered, and clears the protection where `WP` was.
    ///
    /// Both come first, and only then does it wait for the faulters that hold their mapping:
    /// one that was about to queue is passed by. It looks again before it sleeps (F3): where
    /// the protection has gone it goes on (measured: 4 of 100,000 raced rounds), and on
    /// unregistered memory without a page it sleeps until somebody wakes it (28 to 69 of
    /// 1,000 raced rounds on a busy machine).
    fn unregister(&mut self, ctx: CtxId, range: Span) -> (Run, Did) {
        let mm = self.ctx(ctx).mm;
        let dead = self.mm(mm).dead;
        let alive = |()| if dead { Err(Errno::ENOMEM) } else { Ok(()) };
        let parts = check_range(range).and_then(alive);
        let parts = match parts.and_then(|()| self.space(mm).uffd_parts(range, ctx)) {
            Ok(parts) => parts,
            Err(errno) => return done(Err(errno)),
        };
        let mut woken = 0;
        for part in parts.iter().filter(|part| part.modes.contains(RegisterModes::MISSING)) {
            // Before 6.17 any context may do this; it is the owner's faulters that wake.
            woken += self.wake_range(part.ctx.unwrap_or(ctx), part.span());
        }
        // b14: nor is it given back if the end is then found to cut a huge page.
        self.clear_wp(mm, &parts);
        self.mm(mm).writer = true;
        (Run::Unregister { ctx, range }, Did::WakeAll { woken })
    }

    /// The second half of `UNREGISTER`: clear the registration.
    pub(super) fn step_unregister(&mut self, ctx: CtxId, range: Span) -> (Ret, Did) {
        let mm = self.ctx(ctx).mm;
        self.mm(mm).writer = false;
        let ret = match self.mm(mm).space.uffd_unregister(range, ctx) {
            Ok(_) => Ret::Ok(0),
            Err(errno) => Ret::Err(errno),
        };
        (ret, Did::Return(ret))
    }

    /// Parts that are no longer registered lose the protection they had for `WP`; what a
    /// registration for other modes alone has left in them stays (rules a20, b9, b13).
    pub(super) fn clear_wp(&mut self, mm: MmId, parts: &[Part]) {
        for part in parts.iter().filter(|part| part.modes.contains(RegisterModes::WP)) {
            self.mm(mm).table.clear_wp(page_of(part.start), page_of(part.end));
        }
    }

    /// Zap what a call has unmapped. Nothing refers to the pages any more, so no other
    /// thread can look at them in between.
    pub(super) fn drop_pages(&mut self, mm: MmId, removed: &Removed) {
        let table = &mut self.mm(mm).table;
        for span in removed.spans() {
            let (start, end) = (page_of(span.start), page_of(span.end().expect("mapped")));
            while let Some((vpn, _)) = table.first_entry(start, end) {
                table.set(vpn, Pte::None);
            }
        }
        if self.objects.is_some() {
            let files: Vec<_> = removed.parts().filter_map(|part| part.backing.file()).collect();
            files.into_iter().for_each(|file| self.unmapped(file));
        }
    }

    /// The memory is gone already; tell each context that had some of it (rules d14, d15).
    /// The range is the call's.
    fn announce_unmap(&mut self, range: Span, removed: &Removed, ret: Ret) -> (Run, Did) {
        let len = range.len.bytes().next_multiple_of(PAGE.bytes());
        let event = Span::new(range.start, shims::Len::new(len));
        let mut list = Vec::new();
        self.push_unmaps(&mut list, event, removed);
        self.announce(list, ret)
    }

    /// Nothing is gone, and yet who was noted before the refusal is told (rule d16).
    fn announce_refused(&mut self, range: Span, refused: &Refused) -> (Run, Did) {
        let len = range.len.bytes().saturating_add(PAGE.bytes() - 1) & !(PAGE.bytes() - 1);
        let event = Event::Unmap(Span::new(range.start, shims::Len::new(len)));
        let told = refused.told.iter().filter(|&&ctx| self.hears_unmap(ctx));
        let list = told.map(|&ctx| (ctx, event)).collect();
        self.announce(list, Ret::Err(refused.errno))
    }

    fn hears_unmap(&self, ctx: CtxId) -> bool {
        self.ctx(ctx).features.contains(Features::EVENT_UNMAP)
    }

    /// One `UNMAP` of `range` for each context that had some of what was removed.
    pub(super) fn push_unmaps(
        &self,
        list: &mut Vec<(CtxId, Event)>,
        range: Span,
        removed: &Removed,
    ) {
        let told = removed.ctxs().filter(|&ctx| self.hears_unmap(ctx));
        list.extend(told.map(|ctx| (ctx, Event::Unmap(range))));
    }

    /// A call that is done but for these events. The count is raised for all of them before
    /// the first is queued (rules d14, d27).
    pub(super) fn announce(&mut self, list: Vec<(CtxId, Event)>, ret: Ret) -> (Run, Did) {
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
