//! `munmap`, and the overlay half of `mmap(MAP_FIXED)` (v2.7, v2.8). Owns the gathering of
//! what goes; the pages themselves are the caller's.

use shims::Errno;

use super::modify::may_split;
use super::space::{is_aligned, is_data, page_align};
use super::{AddressSpace, CtxId, Part, Removed, Vma, VmaFlags};

impl AddressSpace {
    /// `munmap`. Splits made before an error stay; otherwise all or nothing.
    ///
    /// Errors: `EINVAL` for an unaligned start, an empty or too long range, or a cut through
    /// a huge page; `ENOMEM` when it takes a split beyond the limit; `EPERM` for a sealed
    /// VMA. Contexts may have to be told all the same:
    /// [`contexts_before_failure`](AddressSpace::contexts_before_failure).
    pub fn munmap(&mut self, start: u64, len: u64) -> Result<Removed, Errno> {
        let task_size = self.limits.task_size;
        if !is_aligned(start) || start > task_size || len > task_size - start {
            return Err(Errno::EINVAL);
        }
        let len = page_align(len).filter(|len| *len > 0).ok_or(Errno::EINVAL)?;
        self.unmap_range(start, start + len)
    }

    /// The contexts that hear of an unmapping of `[start, start + len)` that fails on a
    /// sealed VMA: those with a VMA below it (d16), in the order of their first VMA. Ask
    /// before the call.
    pub fn contexts_before_failure(&self, start: u64, len: u64) -> Vec<CtxId> {
        let end = start.saturating_add(len);
        let mut ctxs = Vec::new();
        for vma in self.tree.iter_from(start).take_while(|vma| vma.start < end) {
            if vma.flags.contains(VmaFlags::SEALED) {
                break;
            }
            if let Some(ctx) = vma.ctx.filter(|ctx| !ctxs.contains(ctx)) {
                ctxs.push(ctx);
            }
        }
        ctxs
    }

    /// Unmap `[start, end)`, aligned and not empty.
    pub(super) fn unmap_range(&mut self, start: u64, end: u64) -> Result<Removed, Errno> {
        let cursor = self.tree.seek(start);
        let Some(first) = cursor.get().filter(|vma| vma.start < end) else {
            return Ok(Removed::default());
        };
        let sealed = first.flags.contains(VmaFlags::SEALED);
        if sealed || cursor.nth(1).is_some_and(|next| next.start < end) {
            self.cut_out(start, end)?;
            return Ok(self.drop_range(start, end));
        }
        // One VMA is concerned: what remains of it replaces it in one edit.
        let first = *first;
        self.unmap_within(&first, start.max(first.start), end.min(first.end))
    }

    fn unmap_within(&mut self, vma: &Vma, start: u64, end: u64) -> Result<Removed, Errno> {
        let lower = (vma.start < start).then(|| vma.part(vma.start, start));
        let upper = (end < vma.end).then(|| vma.part(end, vma.end));
        if lower.is_some() {
            if upper.is_some() && self.map_count() >= self.limits.max_map_count {
                return Err(Errno::ENOMEM);
            }
            may_split(vma, start)?;
        }
        if upper.is_some()
            && let Err(errno) = may_split(vma, end)
        {
            if let Some(lower) = lower {
                self.tree.splice(vma.start, 1, &[lower, vma.part(start, vma.end)]);
            }
            return Err(errno);
        }
        match (&lower, &upper) {
            (None, None) => self.tree.splice(vma.start, 1, &[]),
            (Some(rest), None) | (None, Some(rest)) => self.tree.splice(vma.start, 1, &[*rest]),
            (Some(lower), Some(upper)) => self.tree.splice(vma.start, 1, &[*lower, *upper]),
        }
        let gone = vma.part(start, end);
        self.uncount_pages(&gone);
        let mut removed = Removed::default();
        removed.push(Part::of(&gone));
        Ok(removed)
    }

    /// Make `start` and `end` VMA borders and check that all between them may go.
    pub(super) fn cut_out(&mut self, start: u64, end: u64) -> Result<(), Errno> {
        let Some(&first) = self.tree.at_or_above(start).filter(|vma| vma.start < end) else {
            return Ok(());
        };
        if first.start < start {
            if end < first.end && self.map_count() >= self.limits.max_map_count {
                return Err(Errno::ENOMEM);
            }
            if first.flags.contains(VmaFlags::SEALED) {
                return Err(Errno::EPERM);
            }
            self.split(&first, start)?;
        }
        let mut cut = None;
        for vma in self.tree.iter_from(start).take_while(|vma| vma.start < end) {
            if vma.flags.contains(VmaFlags::SEALED) {
                return Err(Errno::EPERM);
            }
            cut = Some(*vma).filter(|vma| vma.end > end);
        }
        match cut {
            Some(last) => self.split(&last, end),
            None => Ok(()),
        }
    }

    /// Take out everything between the two borders.
    pub(super) fn drop_range(&mut self, start: u64, end: u64) -> Removed {
        let mut removed = Removed::default();
        let mut count = 0;
        let mut from = start;
        let (mut total, mut data, mut locked) = (0, 0, 0);
        for vma in self.tree.iter_from(start).take_while(|vma| vma.start < end) {
            debug_assert!(start <= vma.start && vma.end <= end);
            if count == 0 {
                from = vma.start;
            }
            removed.push(Part::of(vma));
            count += 1;
            total += vma.pages();
            data += if is_data(vma.flags) { vma.pages() } else { 0 };
            locked += if vma.flags.contains(VmaFlags::LOCKED) { vma.pages() } else { 0 };
        }
        if count > 0 {
            self.tree.splice(from, count, &[]);
            self.total_pages -= total;
            self.data_pages -= data;
            self.locked_pages -= locked;
        }
        removed
    }
}
