//! `brk` (v2.10). Owns the two ends of the heap.

use shims::Addr;

use super::area::{PAGE, PAGE_SHIFT};
use super::map::charge_flags;
use super::place::guarded;
use super::space::page_align;
use super::{AddressSpace, Prot, Removed, Vma, VmaFlags, merge};

/// The program break: where the heap starts and where it ends, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Heap {
    /// Where it starts.
    pub start: u64,
    /// Where it ends now; not necessarily at a page.
    pub end: u64,
}

impl AddressSpace {
    /// The program break.
    pub fn heap(&self) -> Heap {
        self.heap
    }

    /// Set both ends of an empty heap, as the loader does.
    pub fn set_heap(&mut self, start: Addr) {
        self.heap = Heap { start: start.raw(), end: start.raw() };
    }

    /// `brk`: move the end of the heap, and tell where it is afterwards. Like the system
    /// call it reports no error: a refused request leaves the break where it was.
    pub fn brk(&mut self, to: u64) -> (Addr, Removed) {
        let removed = self.try_brk(to);
        (Addr::new(self.heap.end), removed.unwrap_or_default())
    }

    fn try_brk(&mut self, to: u64) -> Option<Removed> {
        let Heap { start, end } = self.heap;
        if to < start || to - start > self.limits.rlimit_data {
            return None;
        }
        let (new, old) = (page_align(to)?, page_align(end)?);
        let mut removed = Removed::default();
        if new < old {
            // Nothing there at all is no reason to refuse, a hole at the start is (v2.10).
            self.tree.at_or_above(new).filter(|vma| vma.start < old)?;
            removed = self.unmap_range(new, old).ok()?;
        } else if new > old {
            self.grow_heap(old, new)?;
        }
        self.heap.end = to;
        Some(removed)
    }

    fn grow_heap(&mut self, old: u64, new: u64) -> Option<()> {
        let gap = self.limits.stack_guard_gap;
        let next = self.tree.at_or_above(old);
        if next.is_some_and(|next| new + PAGE > guarded(next, gap)) || new > self.limits.task_size {
            return None;
        }
        let flags = Prot::RW.flags() | VmaFlags::MAY | self.future_flags;
        let range = Vma::anonymous(old, new, charge_flags(flags));
        if flags.contains(VmaFlags::LOCKED) && self.lock_limit_exceeded(range.pages()) {
            return None;
        }
        self.check_limits(&range, 0).ok()?;
        if self.map_count() > self.limits.max_map_count {
            return None;
        }
        // The heap looks left only, and not below its own start: it never joins what lies
        // above, nor what was there before it (v2.4).
        let start = self.heap.start;
        let prev = self.tree.below(old).filter(|prev| prev.end > start);
        let merge = merge::new_range(&self.rules, prev, &range, None);
        self.place_new(&range, merge);
        if flags.contains(VmaFlags::LOCKED) {
            self.populate(old, new);
        }
        Some(())
    }

    /// Would `pages` more locked pages be too many?
    pub(super) fn lock_limit_exceeded(&self, pages: u64) -> bool {
        !self.limits.may_lock_any
            && self.locked_pages + pages > self.limits.rlimit_memlock >> PAGE_SHIFT
    }
}
