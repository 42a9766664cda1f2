//! `munmap`, and the overlay half of `mmap(MAP_FIXED)` (v2.7, v2.8). Owns the gathering of
//! what goes; the pages themselves are the caller's.

use shims::Errno;

use super::area::PAGE_SHIFT;
use super::space::{is_aligned, is_data, page_align};
use super::tree::{Near, Tree};
use super::{AddressSpace, Part, Refused, Removed, VmaFlags};

impl AddressSpace {
    /// `munmap`. Splits made before an error stay; otherwise all or nothing.
    ///
    /// Errors: `EINVAL` for an unaligned start, an empty or too long range, or a cut through
    /// a huge page; `ENOMEM` when it takes a split beyond the limit; `EPERM` for a sealed
    /// VMA. Contexts may have to be told all the same: [`Refused`].
    pub fn munmap(&mut self, start: u64, len: u64) -> Result<Removed, Refused> {
        let task_size = self.limits.task_size;
        let end = start.wrapping_add(len);
        // One look at a call that is in order; a wrong one is told apart afterwards.
        let in_order = is_aligned(start | len) && start < end && end <= task_size;
        if !in_order {
            if !is_aligned(start) || start > task_size || len > task_size - start {
                return Err(Errno::EINVAL.into());
            }
            let len = page_align(len).filter(|len| *len > 0).ok_or(Errno::EINVAL)?;
            return self.unmap_any(start, start + len);
        }
        self.unmap(start, end)
    }

    /// Unmap `[start, end)`, aligned and not empty, on behalf of a call that tells nobody if
    /// that fails.
    pub(super) fn unmap_range(&mut self, start: u64, end: u64) -> Result<Removed, Errno> {
        self.unmap(start, end).map_err(|refused| refused.errno)
    }

    // Each way is a function of its own, so that it has the registers for itself, and each
    // answers with the result of the call, which is then written once.
    #[inline(always)]
    fn unmap(&mut self, start: u64, end: u64) -> Result<Removed, Refused> {
        if self.tree.is_one_leaf() {
            self.unmap_alone(start, end)
        } else {
            self.unmap_among(start, end)
        }
    }

    /// In a tree of one leaf.
    #[inline(never)]
    fn unmap_alone(&mut self, start: u64, end: u64) -> Result<Removed, Refused> {
        self.unmap_at(Tree::near_alone, start, end)
    }

    /// In a tree of more leaves.
    #[inline(never)]
    fn unmap_among(&mut self, start: u64, end: u64) -> Result<Removed, Refused> {
        self.unmap_at(Tree::near, start, end)
    }

    #[inline(always)]
    fn unmap_at(
        &mut self,
        near: impl FnOnce(&mut Tree, u64) -> Option<Near<'_>>,
        start: u64,
        end: u64,
    ) -> Result<Removed, Refused> {
        let max = self.limits.max_map_count;
        if let Some(near) = near(&mut self.tree, start)
            && let Some((gone, flags)) = unmap_near(near, start, end, max)
        {
            self.uncount(flags, (gone.end.raw() - gone.start.raw()) >> PAGE_SHIFT);
            return Ok(Removed::one(gone));
        }
        self.unmap_any(start, end)
    }

    #[inline(never)]
    fn unmap_any(&mut self, start: u64, end: u64) -> Result<Removed, Refused> {
        let cursor = self.tree.seek(start);
        let Some(&vma) = cursor.get().filter(|vma| vma.start < end) else {
            return Ok(Removed::default());
        };
        let (lower, upper) = (vma.start < start, end < vma.end);
        let alone = vma.end >= end || cursor.nth(1).is_none_or(|next| next.start >= end);
        let may_fail =
            vma.flags.intersects(VmaFlags::SEALED | VmaFlags::HUGETLB) || (lower && upper);
        if alone && !may_fail {
            // Cutting first and removing then would edit the tree twice.
            let gone = vma.part(start.max(vma.start), end.min(vma.end));
            match (lower, upper) {
                (true, _) => self.tree.splice(vma.start, 1, &[vma.part(vma.start, start)]),
                (false, true) => self.tree.splice(vma.start, 1, &[vma.part(end, vma.end)]),
                (false, false) => self.tree.splice(vma.start, 1, &[]),
            }
            self.uncount_pages(&gone);
            return Ok(Removed::one(Part::of(&gone)));
        }
        self.cut_out(start, end)?;
        Ok(self.drop_range(start, end))
    }

    /// Make `start` and `end` VMA borders and check that all between them may go.
    pub(super) fn cut_out(&mut self, start: u64, end: u64) -> Result<(), Refused> {
        let Some(&first) = self.tree.at_or_above(start).filter(|vma| vma.start < end) else {
            return Ok(());
        };
        if first.start < start {
            if end < first.end && self.map_count() >= self.limits.max_map_count {
                return Err(Errno::ENOMEM.into());
            }
            if first.flags.contains(VmaFlags::SEALED) {
                return Err(Errno::EPERM.into());
            }
            self.split(&first, start)?;
        }
        let mut cut = None;
        for vma in self.tree.iter_from(start).take_while(|vma| vma.start < end) {
            if vma.flags.contains(VmaFlags::SEALED) {
                return Err(self.refuse_after(start, vma.start, Errno::EPERM));
            }
            cut = Some(*vma).filter(|vma| vma.end > end);
        }
        match cut {
            Some(last) => {
                self.split(&last, end).map_err(|errno| self.refuse_after(start, last.start, errno))
            }
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

/// Unmap `[start, end)` if that concerns one VMA, cannot be refused and stays within its
/// leaf. None, and nothing has changed, otherwise.
#[inline(always)]
fn unmap_near(near: Near<'_>, start: u64, end: u64, max: usize) -> Option<(Part, VmaFlags)> {
    let vma = near.get()?;
    let one = vma.end >= end || (near.knows(1) && near.next_start() >= end);
    let barred = vma.flags.intersects(VmaFlags::SEALED | VmaFlags::HUGETLB);
    if !one || barred || vma.start >= end {
        return None;
    }
    let flags = vma.flags;
    let (gone, done) = match (vma.start < start, end < vma.end) {
        (true, false) => (Part::between(vma, start, vma.end), near.trim_end(start)),
        (false, false) => (Part::between(vma, vma.start, vma.end), near.remove()),
        (false, true) => (Part::between(vma, vma.start, end), near.trim_start(end)),
        (true, true) => (Part::between(vma, start, end), near.punch(start, end, max)),
    };
    done.then_some((gone, flags))
}
