//! Giving part of a VMA new attributes: merge with a neighbour, or split (v2.4, v2.5). Owns
//! what every range-modifying call does to one VMA; the loops are the calls' own.

use shims::Errno;

use super::{AddressSpace, Vma, merge};

impl AddressSpace {
    /// Give the part `[start, end)` of `middle` the attributes that `change` sets, and tell
    /// where the VMA that now covers it ends. `ENOMEM` when it takes a split beyond
    /// `max_map_count`; a first split stays even if the second is refused (v2.5).
    pub(super) fn modify(
        &mut self,
        middle: &Vma,
        start: u64,
        end: u64,
        change: impl FnOnce(&mut Vma),
    ) -> Result<u64, Errno> {
        let mut range = middle.part(start, end);
        change(&mut range);
        let prev = if start == middle.start { self.tree.below(start) } else { None };
        let next = if end == middle.end { self.tree.at_or_above(end) } else { None };
        if let Some(merge) = merge::existing_range(&self.rules, prev, middle, &range, next) {
            self.commit(&merge);
            self.recount(middle, &range);
            return Ok(merge.result.end);
        }
        let mut left = middle.start;
        if left < start {
            self.split_checked(middle, left, start)?;
            left = start;
        }
        let middle = middle.part(left, middle.end);
        if end < middle.end {
            self.split_checked(&middle, left, end)?;
        }
        self.tree.splice(start, 1, &[range]);
        self.recount(&middle, &range);
        Ok(end)
    }

    /// Cut `vma`, which starts at `start`, in two at `at`, unless the limit forbids one more.
    fn split_checked(&mut self, vma: &Vma, start: u64, at: u64) -> Result<(), Errno> {
        if self.map_count() >= self.limits.max_map_count {
            return Err(Errno::ENOMEM);
        }
        self.split(vma, start, at)
    }

    /// Cut `vma`, which starts at `start`, in two at `at`. A hugetlb VMA can only be cut
    /// between its pages: `EINVAL`.
    pub(super) fn split(&mut self, vma: &Vma, start: u64, at: u64) -> Result<(), Errno> {
        if !at.is_multiple_of(vma.page_size().bytes()) {
            return Err(Errno::EINVAL);
        }
        self.tree.splice(start, 1, &[vma.part(start, at), vma.part(at, vma.end)]);
        Ok(())
    }

    fn recount(&mut self, middle: &Vma, range: &Vma) {
        if middle.flags != range.flags {
            self.uncount_pages(&middle.part(range.start, range.end));
            self.count_pages(range);
        }
    }
}
