//! An address space: the tree, the rules, the limits and the counters. Owns the queries and
//! the one place where the tree is edited; each operation has a file of its own.

use core::fmt;

use shims::Addr;

use super::area::PAGE_SHIFT;
use super::heap::Heap;
use super::merge::{self, Merge};
use super::tree::Tree;
use super::{Anon, Limits, Rules, Vma, VmaFlags};

/// The mappings of one process. A value: cloning is cheap and forks it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct AddressSpace {
    pub(super) tree: Tree,
    pub(super) rules: Rules,
    pub(super) limits: Limits,
    pub(super) total_pages: u64,
    pub(super) data_pages: u64,
    pub(super) locked_pages: u64,
    pub(super) next_anon: u32,
    pub(super) next_file: u32,
    /// What every new mapping gets besides what was asked: `mlockall(MCL_FUTURE)`.
    pub(super) future_flags: VmaFlags,
    pub(super) heap: Heap,
    /// Whoever owns this faults pages in itself, and tells of each
    /// ([`note_anon_fault`](AddressSpace::note_anon_fault)).
    pub(super) pages_apart: bool,
}

impl AddressSpace {
    /// An empty address space with the default limits.
    pub fn new(rules: Rules) -> AddressSpace {
        AddressSpace::with_limits(rules, Limits::default())
    }

    /// An empty address space.
    pub fn with_limits(rules: Rules, limits: Limits) -> AddressSpace {
        AddressSpace {
            tree: Tree::default(),
            rules,
            limits,
            total_pages: 0,
            data_pages: 0,
            locked_pages: 0,
            next_anon: 1,
            next_file: 1 << 31,
            future_flags: VmaFlags::empty(),
            heap: Heap::default(),
            pages_apart: false,
        }
    }

    /// The same address space for an owner who keeps its pages: what a call has to be there at once
    /// counts as faulted when the owner says so, page by page, and not with the call.
    #[must_use]
    pub fn with_pages_apart(self) -> AddressSpace {
        AddressSpace { pages_apart: true, ..self }
    }

    /// The VMA that contains `addr`.
    pub fn find(&self, addr: Addr) -> Option<&Vma> {
        self.tree.containing(addr.raw())
    }

    /// The VMA that contains `addr`, or else the next above it.
    pub fn find_next(&self, addr: Addr) -> Option<&Vma> {
        self.tree.at_or_above(addr.raw())
    }

    /// All VMAs in address order.
    pub fn iter(&self) -> impl Iterator<Item = &Vma> {
        self.tree.iter_from(0)
    }

    /// The VMAs from the one that contains `addr`, or else the next above it, upward.
    pub fn iter_from(&self, addr: Addr) -> impl Iterator<Item = &Vma> {
        self.tree.iter_from(addr.raw())
    }

    /// How many VMAs there are.
    pub fn map_count(&self) -> usize {
        self.tree.len()
    }

    /// Which kernel this is.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The limits, to change them as `setrlimit` and `sysctl` do. Nothing is unmapped.
    pub fn limits_mut(&mut self) -> &mut Limits {
        &mut self.limits
    }

    /// Base pages mapped: `VmSize`.
    pub fn total_pages(&self) -> u64 {
        self.total_pages
    }

    /// Base pages of private writable memory that is no stack: `VmData`.
    pub fn data_pages(&self) -> u64 {
        self.data_pages
    }

    /// Base pages in locked VMAs: `VmLck`.
    pub fn locked_pages(&self) -> u64 {
        self.locked_pages
    }

    /// `addr` gets its first private page: the VMA that holds it takes over the anon_vma of
    /// a neighbour or gets a fresh one (v2.3). Nothing happens if it has one, if the memory
    /// is shared, or if nothing is mapped there.
    pub fn note_anon_fault(&mut self, addr: Addr) {
        let cursor = self.tree.seek(addr.raw());
        let Some(vma) = cursor.get().filter(|vma| vma.start <= addr.raw()) else { return };
        if vma.anon.is_some() || !vma.is_private() {
            return;
        }
        let rules = &self.rules;
        let reused =
            cursor.nth(1).and_then(|next| merge::reusable_anon(rules, vma, next, next)).or_else(
                || cursor.prev().and_then(|prev| merge::reusable_anon(rules, prev, vma, prev)),
            );
        let vma = *vma;
        let anon = reused.unwrap_or_else(|| self.fresh_anon());
        self.tree.splice(vma.start, 1, &[Vma { anon: Some(anon), ..vma }]);
    }

    pub(super) fn fresh_anon(&mut self) -> Anon {
        self.next_anon += 1;
        Anon::own(self.next_anon - 1)
    }

    /// Perform a decided merge. Counters of pages do not change here: who maps, unmaps or
    /// changes flags counts.
    pub(super) fn commit(&mut self, merge: &Merge) {
        match merge.second {
            None => self.tree.splice(merge.at, merge.remove, &[merge.first]),
            Some(second) => self.tree.splice(merge.at, merge.remove, &[merge.first, second]),
        }
    }

    pub(super) fn count_pages(&mut self, vma: &Vma) {
        self.count(vma.flags, vma.pages());
    }

    pub(super) fn uncount_pages(&mut self, vma: &Vma) {
        self.uncount(vma.flags, vma.pages());
    }

    /// `pages` pages of a VMA with these flags are mapped now.
    #[inline]
    pub(super) fn count(&mut self, flags: VmaFlags, pages: u64) {
        self.total_pages += pages;
        self.data_pages += if is_data(flags) { pages } else { 0 };
        self.locked_pages += if flags.contains(VmaFlags::LOCKED) { pages } else { 0 };
    }

    /// They are no more.
    #[inline]
    pub(super) fn uncount(&mut self, flags: VmaFlags, pages: u64) {
        self.total_pages -= pages;
        self.data_pages -= if is_data(flags) { pages } else { 0 };
        self.locked_pages -= if flags.contains(VmaFlags::LOCKED) { pages } else { 0 };
    }
}

/// Private, writable and no stack: what `RLIMIT_DATA` limits.
pub(super) fn is_data(flags: VmaFlags) -> bool {
    let mask = VmaFlags::WRITE | VmaFlags::SHARED | VmaFlags::GROWSDOWN;
    flags & mask == VmaFlags::WRITE
}

/// A length in bytes rounded up to pages, in bytes; `None` if that wraps.
pub(super) fn page_align(len: u64) -> Option<u64> {
    len.checked_next_multiple_of(1 << PAGE_SHIFT)
}

pub(super) fn is_aligned(addr: u64) -> bool {
    addr.is_multiple_of(1 << PAGE_SHIFT)
}

impl fmt::Debug for AddressSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
