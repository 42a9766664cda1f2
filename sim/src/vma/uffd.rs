//! Registration with a userfaultfd, as far as the tree goes (rules a20, b1 to b14). Owns the
//! checks and the loops; waking faulters is the caller's.

use shims::{Errno, RegisterModes, Span};

use super::space::is_aligned;
use super::{AddressSpace, Backing, CtxId, Part, Rules, Vma, VmaFlags};

impl AddressSpace {
    /// `UFFDIO_REGISTER`: watch the mapped parts of `range`; holes are skipped (b3). All
    /// VMAs are checked before one is changed (b2); a split beyond the limit can still leave
    /// it half done (b8).
    ///
    /// Errors: `EINVAL` for no or unknown modes, a malformed range, one without a VMA, a
    /// type that cannot be registered that way, or a cut through a huge page; `EPERM` for
    /// memory that may never be written; `EBUSY` for another context's; `ENOMEM` at the
    /// limit.
    pub fn uffd_register(
        &mut self,
        range: Span,
        ctx: CtxId,
        modes: RegisterModes,
        wp_async: bool,
    ) -> Result<(), Errno> {
        let known = RegisterModes::MISSING | RegisterModes::WP | RegisterModes::MINOR;
        if modes.is_empty() || !known.contains(modes) {
            return Err(Errno::EINVAL);
        }
        let (start, end) = self.uffd_range(range)?;
        for vma in self.tree.iter_from(start).take_while(|vma| vma.start < end) {
            if !can_register(&self.rules, vma, modes, wp_async) {
                return Err(Errno::EINVAL);
            }
            if !vma.flags.contains(VmaFlags::MAYWRITE) {
                return Err(Errno::EPERM);
            }
            if end < vma.end && !end.is_multiple_of(vma.page_size().bytes()) {
                return Err(Errno::EINVAL);
            }
            if vma.ctx.is_some_and(|owner| owner != ctx) {
                return Err(Errno::EBUSY);
            }
        }
        let wanted = VmaFlags::of_uffd_modes(modes);
        let mut at = start;
        loop {
            let cursor = self.tree.seek(at);
            let Some(vma) = cursor.get().filter(|vma| vma.start < end) else { return Ok(()) };
            if vma.ctx == Some(ctx) && vma.flags.contains(wanted) {
                at = vma.end;
                continue;
            }
            let plan = self.plan(&cursor, at.max(vma.start), end.min(vma.end), |range| {
                range.flags = range.flags.difference(VmaFlags::UFFD) | wanted;
                range.ctx = Some(ctx);
            });
            at = self.perform(&plan)?;
        }
    }

    /// `UFFDIO_UNREGISTER` by `ctx`: stop watching `range`, and tell which parts were
    /// watched and how, in address order (b12, b13). VMAs without a registration are
    /// skipped.
    ///
    /// Errors: `EINVAL` for a malformed range, one without a VMA, a VMA of another context
    /// (not on every kernel) or of a type that cannot be registered, or a cut through a huge
    /// page; `ENOMEM` at the limit, with the parts before it cleared.
    pub fn uffd_unregister(&mut self, range: Span, ctx: CtxId) -> Result<Vec<Part>, Errno> {
        let (start, end) = self.uffd_unregister_check(range, ctx)?;
        self.clear_registrations(start, end, |_| true)
    }

    /// The parts of `range` that are registered, as [`uffd_unregister`] would clear them;
    /// nothing is cleared yet. Errors as there, but for `ENOMEM`.
    ///
    /// [`uffd_unregister`]: AddressSpace::uffd_unregister
    pub fn uffd_parts(&self, range: Span, ctx: CtxId) -> Result<Vec<Part>, Errno> {
        let (start, end) = self.uffd_unregister_check(range, ctx)?;
        let inside = self.tree.iter_from(start).take_while(|vma| vma.start < end);
        Ok(inside
            .filter(|vma| vma.ctx.is_some())
            .map(|vma| Part::of(&vma.part(start.max(vma.start), end.min(vma.end))))
            .collect())
    }

    fn uffd_unregister_check(&self, range: Span, ctx: CtxId) -> Result<(u64, u64), Errno> {
        let (start, end) = self.uffd_range(range)?;
        for vma in self.tree.iter_from(start).take_while(|vma| vma.start < end) {
            let foreign = vma.ctx.is_some_and(|owner| owner != ctx);
            if foreign && self.rules.unregister_checks_owner {
                return Err(Errno::EINVAL);
            }
            if !can_register(&self.rules, vma, vma.uffd_modes(), true) {
                return Err(Errno::EINVAL);
            }
        }
        Ok((start, end))
    }

    /// The last reference to a context goes: clear its registrations everywhere, in address
    /// order, merging on the way (a20).
    pub fn uffd_release(&mut self, ctx: CtxId) -> Vec<Part> {
        self.clear_registrations(0, u64::MAX, |owner| owner == ctx)
            .expect("whole VMAs are never split")
    }

    /// Clear what is registered in `[start, end)` with a context that `whose` accepts, VMA
    /// by VMA, and tell the parts.
    fn clear_registrations(
        &mut self,
        start: u64,
        end: u64,
        whose: impl Fn(CtxId) -> bool,
    ) -> Result<Vec<Part>, Errno> {
        let mut cleared = Vec::new();
        let mut at = start;
        loop {
            let cursor = self.tree.seek(at);
            let Some(vma) = cursor.get().filter(|vma| vma.start < end) else { return Ok(cleared) };
            if !vma.ctx.is_some_and(&whose) {
                at = vma.end;
                continue;
            }
            let (from, to) = (at.max(vma.start), end.min(vma.end));
            let part = Part::of(&vma.part(from, to));
            let plan = self.plan(&cursor, from, to, clear);
            at = self.perform(&plan)?;
            cleared.push(part);
        }
    }

    /// The common start of both ioctls (b1, b2, b12): a well-formed range with a VMA in it.
    fn uffd_range(&self, range: Span) -> Result<(u64, u64), Errno> {
        let (start, len) = (range.start.raw(), range.len.bytes());
        let task_size = self.limits.task_size;
        let malformed = !is_aligned(start)
            || !is_aligned(len)
            || len == 0
            || start >= task_size
            || len > task_size - start;
        if malformed {
            return Err(Errno::EINVAL);
        }
        let end = start + len;
        match self.tree.at_or_above(start) {
            Some(first) if first.start < end && start.is_multiple_of(first.page_size().bytes()) => {
                Ok((start, end))
            }
            _ => Err(Errno::EINVAL),
        }
    }
}

fn clear(range: &mut Vma) {
    range.flags.remove(VmaFlags::UFFD);
    range.ctx = None;
}

/// Rule b5: which VMAs can be watched in which modes.
fn can_register(rules: &Rules, vma: &Vma, modes: RegisterModes, wp_async: bool) -> bool {
    let hugetlb = matches!(vma.backing, Backing::Hugetlb(..));
    let shmem = matches!(vma.backing, Backing::Shmem(_));
    if vma.flags.contains(VmaFlags::SHADOW_STACK)
        || (!hugetlb && vma.flags.intersects(VmaFlags::SPECIAL))
        || (rules.register_refuses_droppable && vma.flags.contains(VmaFlags::DROPPABLE))
        || (modes.contains(RegisterModes::MINOR) && !hugetlb && !shmem)
    {
        return false;
    }
    (wp_async && modes == RegisterModes::WP) || hugetlb || shmem || vma.backing == Backing::Anon
}
