//! Where a mapping goes when the program does not insist (v2.11): from the top down. Owns the
//! search with its alignment and guard gaps.

use shims::{Addr, Errno, PageSize};

use super::area::PAGE;
use super::space::page_align;
use super::{AddressSpace, Limits, Vma, VmaFlags};

impl AddressSpace {
    /// Where `mmap` would put `len` bytes of anonymous memory with that hint (0 for none);
    /// nothing is mapped.
    ///
    /// Errors: `ENOMEM` when no gap is large enough.
    pub fn unmapped_area(&mut self, hint: u64, len: u64) -> Result<Addr, Errno> {
        let len = page_align(len).ok_or(Errno::ENOMEM)?;
        self.place(hint, len, PageSize::KIB4).map(Addr::new)
    }

    pub(super) fn fixed_place(&self, addr: u64, len: u64, page: PageSize) -> Result<u64, Errno> {
        if len > self.limits.task_size {
            return Err(Errno::ENOMEM);
        }
        if addr > self.limits.task_size - len {
            return Err(Errno::ENOMEM);
        }
        if !Addr::new(addr).is_aligned(page) {
            return Err(Errno::EINVAL);
        }
        if addr < self.limits.mmap_min_addr {
            return Err(Errno::EPERM);
        }
        Ok(addr)
    }

    /// Placement from the top down (v2.11).
    pub(super) fn place(&mut self, hint: u64, len: u64, page: PageSize) -> Result<u64, Errno> {
        let Limits { task_size, mmap_base, legacy_base, mmap_min_addr, stack_guard_gap, .. } =
            self.limits;
        if len > task_size {
            return Err(Errno::ENOMEM);
        }
        let align = page.bytes();
        if hint >= PAGE {
            // A hint is rounded down to a page, but up to a huge page.
            let at = if page == PageSize::KIB4 {
                hint & !(align - 1)
            } else {
                hint.saturating_add(align - 1) & !(align - 1)
            };
            let at = at.max(mmap_min_addr.next_multiple_of(align));
            let free = task_size - len >= at
                && self
                    .tree
                    .at_or_above(at)
                    .is_none_or(|next| at + len <= guarded(next, stack_guard_gap));
            if free {
                return Ok(at);
            }
        }
        // Without a hint a length of whole huge pages is aligned to them, and for that Linux
        // looks for a whole huge page more than it needs.
        let huge = PageSize::MIB2.bytes();
        let thp = page == PageSize::KIB4 && hint < PAGE && len.is_multiple_of(huge);
        let (align, spare) = if thp { (huge, huge) } else { (align, align - PAGE) };
        let low = mmap_min_addr.max(PAGE);
        let mut high = mmap_base;
        let guard = |next: &Vma| guarded(next, stack_guard_gap);
        while let Some(gap) = self.tree.highest_gap(low, high, len + spare, guard) {
            let at = (gap.end - len) & !(align - 1);
            match gap.above {
                Some(guard) if at + len > guard => high = guard,
                _ => return Ok(at),
            }
        }
        let padded = len + spare;
        let found = self.tree.lowest_gap(legacy_base, task_size, padded);
        found.map(|at| at.next_multiple_of(align)).ok_or(Errno::ENOMEM)
    }
}

/// Where the guard gap of a VMA starts: below a stack other mappings keep away.
pub(super) fn guarded(vma: &Vma, stack_guard_gap: u64) -> u64 {
    if vma.flags.intersects(VmaFlags::GROWSDOWN | VmaFlags::SHADOW_STACK) {
        vma.start.saturating_sub(stack_guard_gap)
    } else {
        vma.start
    }
}
