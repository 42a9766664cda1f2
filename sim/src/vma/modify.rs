//! Giving part of a VMA new attributes: merge with a neighbour, or split (v2.4, v2.5). Owns
//! what every range-modifying call does to one VMA; the loops are the calls' own.

use shims::{Addr, Errno};

use super::merge::Merge;
use super::tree::Cursor;
use super::{AddressSpace, Vma, merge};

/// What is to happen to one VMA, decided and not yet done.
#[derive(Clone, Copy)]
pub(super) enum Plan {
    /// The range joins a neighbour.
    Merge { merge: Merge, old: Vma, range: Vma },
    /// The range becomes a VMA of its own, cut out of `middle`.
    Cut { middle: Vma, range: Vma },
}

impl AddressSpace {
    /// Decide how the part `[start, end)` of the VMA at `cursor` gets the attributes that
    /// `change` sets.
    #[inline]
    pub(super) fn plan(
        &self,
        cursor: &Cursor<'_>,
        start: u64,
        end: u64,
        change: impl FnOnce(&mut Vma),
    ) -> Plan {
        let middle = cursor.get().expect("a plan is about a VMA");
        let old = middle.part(start, end);
        let mut range = old;
        change(&mut range);
        let prev = if start == middle.start { cursor.prev() } else { None };
        let next = if end == middle.end { cursor.nth(1) } else { None };
        match merge::existing_range(&self.rules, prev, middle, &range, next) {
            Some(merge) => Plan::Merge { merge, old, range },
            None => Plan::Cut { middle: *middle, range },
        }
    }

    /// Do what was planned, and tell where the VMA that now covers the range ends. `ENOMEM`
    /// when it takes a split beyond `max_map_count`; a first split stays even if the second
    /// is refused (v2.5).
    #[inline]
    pub(super) fn perform(&mut self, plan: &Plan) -> Result<u64, Errno> {
        match plan {
            Plan::Merge { merge, old, range } => {
                self.commit(merge);
                self.recount(old, range);
                Ok(merge.end)
            }
            Plan::Cut { middle, range } => self.cut(middle, range),
        }
    }

    fn cut(&mut self, middle: &Vma, range: &Vma) -> Result<u64, Errno> {
        let old = middle.part(range.start, range.end);
        let lower = (middle.start < range.start).then(|| middle.part(middle.start, range.start));
        let upper = (range.end < middle.end).then(|| middle.part(range.end, middle.end));
        if let Some(lower) = &lower {
            self.may_split_checked(middle, range.start, 0)?;
            if let Err(errno) = self.may_upper(middle, range, 1, upper.is_some()) {
                let rest = middle.part(range.start, middle.end);
                self.tree.splice(middle.start, 1, &[*lower, rest]);
                return Err(errno);
            }
        } else {
            self.may_upper(middle, range, 0, upper.is_some())?;
        }
        match (lower, upper) {
            (None, None) => self.tree.splice(middle.start, 1, &[*range]),
            (Some(lower), None) => self.tree.splice(middle.start, 1, &[lower, *range]),
            (None, Some(upper)) => self.tree.splice(middle.start, 1, &[*range, upper]),
            (Some(lower), Some(upper)) => {
                self.tree.splice(middle.start, 1, &[lower, *range, upper]);
            }
        }
        self.recount(&old, range);
        Ok(range.end)
    }

    fn may_upper(&self, middle: &Vma, range: &Vma, done: usize, wanted: bool) -> Result<(), Errno> {
        if wanted { self.may_split_checked(middle, range.end, done) } else { Ok(()) }
    }

    /// May `vma` be cut at `at`, after `done` cuts that are not in the tree yet? The limit is
    /// asked before the driver.
    fn may_split_checked(&self, vma: &Vma, at: u64, done: usize) -> Result<(), Errno> {
        if self.map_count() + done >= self.limits.max_map_count {
            return Err(Errno::ENOMEM);
        }
        may_split(vma, at)
    }

    /// Cut `vma`, a whole VMA of the tree, in two at `at`, whatever the limit.
    pub(super) fn split(&mut self, vma: &Vma, at: u64) -> Result<(), Errno> {
        may_split(vma, at)?;
        self.tree.splice(vma.start, 1, &[vma.part(vma.start, at), vma.part(at, vma.end)]);
        Ok(())
    }

    fn recount(&mut self, old: &Vma, new: &Vma) {
        if old.flags != new.flags {
            self.uncount_pages(old);
            self.count_pages(new);
        }
    }
}

/// A hugetlb VMA can only be cut between its pages: `EINVAL`.
pub(super) fn may_split(vma: &Vma, at: u64) -> Result<(), Errno> {
    if Addr::new(at).is_aligned(vma.page_size()) { Ok(()) } else { Err(Errno::EINVAL) }
}
