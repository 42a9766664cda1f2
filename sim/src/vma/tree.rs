//! The VMAs of an address space in address order. Owns the order and the search; knows no
//! rule of merging.

use std::sync::Arc;

use super::Vma;

/// Sorted, disjoint VMAs. Cloning shares them until one side changes.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Tree {
    vmas: Arc<Vec<Vma>>,
}

impl Tree {
    pub(super) fn len(&self) -> usize {
        self.vmas.len()
    }

    /// The index of the first VMA that ends above `addr`.
    fn index(&self, addr: u64) -> usize {
        self.vmas.partition_point(|vma| vma.end <= addr)
    }

    /// The first VMA that ends above `addr`: it holds `addr` or is the next one up.
    pub(super) fn at_or_above(&self, addr: u64) -> Option<&Vma> {
        self.vmas.get(self.index(addr))
    }

    /// The last VMA that starts below `addr`.
    pub(super) fn below(&self, addr: u64) -> Option<&Vma> {
        let index = self.vmas.partition_point(|vma| vma.start < addr);
        self.vmas[..index].last()
    }

    pub(super) fn iter_from(&self, addr: u64) -> impl Iterator<Item = &Vma> {
        self.vmas[self.index(addr)..].iter()
    }

    /// Replace the `remove` VMAs from the one that starts at or above `at` with `insert`.
    pub(super) fn splice(&mut self, at: u64, remove: usize, insert: &[Vma]) {
        let index = self.vmas.partition_point(|vma| vma.start < at);
        let vmas = Arc::make_mut(&mut self.vmas);
        vmas.splice(index..index + remove, insert.iter().copied());
    }

    /// Change VMAs in place, in address order. Starts and ends must stay.
    pub(super) fn for_each_mut(&mut self, mut change: impl FnMut(&mut Vma)) {
        for vma in Arc::make_mut(&mut self.vmas) {
            change(vma);
        }
    }

    /// The end of the highest gap in `[low, high)` with at least `len` bytes.
    pub(super) fn highest_gap(&self, low: u64, high: u64, len: u64) -> Option<u64> {
        let mut top = high;
        let below = self.vmas.partition_point(|vma| vma.start < high);
        for vma in self.vmas[..below].iter().rev() {
            let floor = vma.end.max(low);
            if floor <= top && top - floor >= len {
                return Some(top);
            }
            if vma.start <= low {
                return None;
            }
            top = top.min(vma.start);
        }
        (top >= low && top - low >= len).then_some(top)
    }

    /// The start of the lowest gap in `[low, high)` with at least `len` bytes.
    pub(super) fn lowest_gap(&self, low: u64, high: u64, len: u64) -> Option<u64> {
        let mut floor = low;
        for vma in self.iter_from(low) {
            let top = vma.start.min(high);
            if top >= floor && top - floor >= len {
                return Some(floor);
            }
            floor = vma.end;
            if floor >= high {
                return None;
            }
        }
        (high >= floor && high - floor >= len).then_some(floor)
    }
}
