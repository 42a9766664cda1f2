//! `munmap`, and the overlay half of `mmap(MAP_FIXED)` (v2.7, v2.8). Owns the gathering of
//! what goes; the pages themselves are the caller's.

use shims::Errno;

use super::space::{is_aligned, page_align};
use super::{AddressSpace, Part, Removed, VmaFlags};

impl AddressSpace {
    /// `munmap`. Splits made before an error stay; otherwise all or nothing.
    ///
    /// Errors: `EINVAL` for an unaligned start, an empty or too long range, or a cut through
    /// a huge page; `ENOMEM` when it takes a split beyond the limit; `EPERM` for a sealed
    /// VMA.
    pub fn munmap(&mut self, start: u64, len: u64) -> Result<Removed, Errno> {
        let task_size = self.limits.task_size;
        if !is_aligned(start) || start > task_size || len > task_size - start {
            return Err(Errno::EINVAL);
        }
        let len = page_align(len).filter(|len| *len > 0).ok_or(Errno::EINVAL)?;
        self.unmap_range(start, start + len)
    }

    /// Unmap `[start, end)`, aligned and not empty.
    pub(super) fn unmap_range(&mut self, start: u64, end: u64) -> Result<Removed, Errno> {
        self.cut_out(start, end)?;
        Ok(self.drop_range(start, end))
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
            self.split(&first, first.start, start)?;
        }
        let mut cut = None;
        for vma in self.tree.iter_from(start).take_while(|vma| vma.start < end) {
            if vma.flags.contains(VmaFlags::SEALED) {
                return Err(Errno::EPERM);
            }
            cut = Some(*vma).filter(|vma| vma.end > end);
        }
        match cut {
            Some(last) => self.split(&last, last.start, end),
            None => Ok(()),
        }
    }

    /// Take out everything between the two borders.
    pub(super) fn drop_range(&mut self, start: u64, end: u64) -> Removed {
        let mut removed = Removed::default();
        let mut count = 0;
        let (mut total, mut data, mut locked) = (0, 0, 0);
        for vma in self.tree.iter_from(start).take_while(|vma| vma.start < end) {
            debug_assert!(start <= vma.start && vma.end <= end);
            removed.push(Part::of(vma));
            count += 1;
            total += vma.pages();
            data += if super::space::is_data(vma.flags) { vma.pages() } else { 0 };
            locked += if vma.flags.contains(VmaFlags::LOCKED) { vma.pages() } else { 0 };
        }
        if count > 0 {
            self.tree.splice(start, count, &[]);
            self.total_pages -= total;
            self.data_pages -= data;
            self.locked_pages -= locked;
        }
        removed
    }
}
