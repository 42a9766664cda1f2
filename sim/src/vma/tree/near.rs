//! Editing where one has just looked: one descent instead of two. Owns the conditions under
//! which a leaf may change by itself or with what its parent keeps of it; everything else is
//! [`Tree::splice`]'s.

use super::super::Vma;
use super::Tree;
use super::edit::NARROW;
use super::leaf::{Own, View};
use super::node::{INNER, Node, PAD, own};
use super::starts::Starts;

/// A place in a leaf.
///
/// An edit that answers false has changed nothing: it takes another leaf, or somebody above
/// the parent would have to know of it.
pub(in super::super) struct Near<'a> {
    leaf: Own<'a>,
    len: &'a mut usize,
    index: usize,
    /// None in a leaf that is the whole tree: nobody counts on anything.
    up: Option<Up<'a>>,
}

/// What the parent of a leaf keeps, to be kept true.
struct Up<'a> {
    starts: &'a mut Starts,
    ends: &'a mut [u64; INNER],
    gaps: &'a mut [u64; INNER],
    /// Which of the children the leaf is.
    child: usize,
    /// How many there are.
    width: usize,
    /// No gap in the parent may become larger than this.
    bound: u64,
}

impl Up<'_> {
    #[inline(always)]
    fn is_last(&self) -> bool {
        self.child + 1 == self.width
    }
}

impl Tree {
    /// The place of [`Tree::seek`], to be edited, in a tree of one leaf.
    ///
    /// Inlined beside [`near`](Tree::near), so that the compiler leaves out for it whatever
    /// is there for parents.
    #[inline(always)]
    pub(in super::super) fn near_alone(&mut self, addr: u64) -> Option<Near<'_>> {
        let Some(Node::Leaf(leaf)) = &mut self.root else { return None };
        let leaf = leaf.own();
        let index = leaf.settle(leaf.above_of_few(addr), addr);
        Some(Near { leaf, len: &mut self.len, index, up: None })
    }

    /// The place of [`Tree::seek`], to be edited, in a tree of more leaves.
    #[inline(always)]
    pub(in super::super) fn near(&mut self, addr: u64) -> Option<Near<'_>> {
        let Some(Node::Inner(inner)) = &mut self.root else { return None };
        let mut inner = own(inner);
        let mut bound = u64::MAX;
        loop {
            let child = inner.child_of(addr);
            let width = inner.children.len();
            match &mut inner.children[child] {
                Node::Inner(below) => {
                    bound = inner.gaps[child];
                    inner = own(below);
                }
                Node::Leaf(leaf) => {
                    let leaf = leaf.own();
                    let index = leaf.settle(leaf.above(addr), addr);
                    let (starts, ends) = (&mut inner.starts, &mut inner.ends);
                    let up = Up { starts, ends, gaps: &mut inner.gaps, child, width, bound };
                    return Some(Near { leaf, len: &mut self.len, index, up: Some(up) });
                }
            }
        }
    }
}

impl Near<'_> {
    /// The first VMA that ends above the address.
    #[inline(always)]
    pub(in super::super) fn get(&self) -> Option<&Vma> {
        self.leaf.get(self.index)
    }

    /// Is the VMA below the place in this leaf, or is there none?
    #[inline(always)]
    pub(in super::super) fn sees_prev(&self) -> bool {
        self.index > 0 || self.up.is_none()
    }

    /// Is the VMA here in this leaf, or is there none?
    #[inline(always)]
    pub(in super::super) fn sees(&self) -> bool {
        self.index < self.leaf.len() || self.up.is_none()
    }

    /// Is it known where the VMA below the place ends?
    #[inline(always)]
    fn knows_prev(&self) -> bool {
        self.index > 0 || self.up.as_ref().is_none_or(|up| up.child > 0)
    }

    /// Is it known where the VMA `n` above the place starts? `n` is 0 or 1, and so many of
    /// those below that one are in this leaf.
    #[inline(always)]
    pub(in super::super) fn knows(&self, n: usize) -> bool {
        self.index + n < self.leaf.len() || self.up.as_ref().is_none_or(|up| !up.is_last())
    }

    /// Where VMA `index` of the leaf starts, or for the one after the last the next leaf;
    /// above every address if there is none. Does not touch the VMA.
    #[inline(always)]
    fn start_of(&self, index: usize) -> u64 {
        match &self.up {
            Some(up) if index >= self.leaf.len() => {
                up.starts.get(up.child + 1).copied().unwrap_or(PAD)
            }
            _ => self.leaf.start(index),
        }
    }

    /// Where the VMA here starts.
    #[inline(always)]
    pub(in super::super) fn start(&self) -> u64 {
        self.start_of(self.index)
    }

    /// Where the one after it starts.
    #[inline(always)]
    pub(in super::super) fn next_start(&self) -> u64 {
        self.start_of(self.index + 1)
    }

    /// The one below it.
    #[inline(always)]
    pub(in super::super) fn prev(&self) -> Option<&Vma> {
        self.leaf.get(self.index.wrapping_sub(1))
    }

    #[inline(always)]
    fn prev_end(&self) -> u64 {
        match (self.prev(), &self.up) {
            (Some(prev), _) => prev.end,
            (None, Some(up)) if up.child > 0 => up.ends[up.child - 1],
            // Without one below there is no gap, however far up the place is.
            _ => u64::MAX,
        }
    }

    /// Does the VMA here start the leaf?
    #[inline(always)]
    fn is_first(&self) -> bool {
        self.index == 0
    }

    /// Does the VMA here end the leaf?
    #[inline(always)]
    fn is_last(&self) -> bool {
        self.index + 1 == self.leaf.len()
    }

    /// May the gap `[from, to)` appear? One inside the leaf is made known to the parent.
    #[inline(always)]
    fn allows(&mut self, from: u64, to: u64, inside: bool) -> bool {
        let Some(up) = &mut self.up else { return true };
        let gap = to.saturating_sub(from);
        if inside && gap <= up.gaps[up.child] {
            return true;
        }
        let fits = gap <= up.bound;
        if inside && fits {
            up.gaps[up.child] = gap;
        }
        fits
    }

    /// May one VMA go, so that the leaf is not left narrow?
    #[inline(always)]
    fn can_lose_one(&self) -> bool {
        self.leaf.len() > if self.up.is_none() { 1 } else { NARROW }
    }

    /// The leaf ends at `end` now.
    #[inline(always)]
    fn tell_end(&mut self, end: u64) {
        if let Some(up) = &mut self.up {
            up.ends[up.child] = end;
        }
    }

    /// The leaf starts at `start` now.
    #[inline(always)]
    fn tell_start(&mut self, start: u64) {
        if let Some(up) = &mut self.up {
            up.starts.set(up.child, start);
        }
    }

    /// Put `vma` here, below the VMA that is here now; the one below is in this leaf.
    #[inline(always)]
    pub(in super::super) fn insert(mut self, vma: &Vma) -> bool {
        let fits = self.leaf.has_room();
        if fits {
            if self.index == self.leaf.len() {
                self.tell_end(vma.end);
            }
            self.leaf.insert(self.index, vma);
            *self.len += 1;
        }
        fits
    }

    /// The VMA here starts lower, where the one below, in this leaf, ends at the lowest.
    #[inline(always)]
    pub(in super::super) fn grow_down(mut self, change: impl FnOnce(&mut Vma)) -> bool {
        self.leaf.change(self.index, change);
        true
    }

    /// The VMA below, in this leaf, ends higher, at `end`, where the one here starts at the
    /// highest.
    #[inline(always)]
    pub(in super::super) fn grow_prev(mut self, end: u64, change: impl FnOnce(&mut Vma)) -> bool {
        if self.index == self.leaf.len() {
            self.tell_end(end);
        }
        self.leaf.change_end(self.index - 1, change);
        true
    }

    /// The VMA below takes in the one here; both are in this leaf.
    #[inline(always)]
    pub(in super::super) fn join(mut self, change: impl FnOnce(&mut Vma, &Vma)) -> bool {
        let fits = self.can_lose_one();
        if fits {
            let next = *self.leaf.at(self.index);
            self.leaf.change_end(self.index - 1, |vma| change(vma, &next));
            self.leaf.remove(self.index);
            *self.len -= 1;
        }
        fits
    }

    /// The VMA here goes.
    #[inline(always)]
    pub(in super::super) fn remove(mut self) -> bool {
        let (prev_end, next_start) = (self.prev_end(), self.next_start());
        let (first, last) = (self.is_first(), self.is_last());
        let fits = self.can_lose_one()
            && self.knows_prev()
            && self.knows(1)
            && self.allows(prev_end, next_start, !first && !last);
        if fits {
            if first {
                self.tell_start(next_start);
            }
            if last {
                self.tell_end(prev_end);
            }
            self.leaf.remove(self.index);
            *self.len -= 1;
        }
        fits
    }

    /// The VMA here ends at `end`, inside it.
    #[inline(always)]
    pub(in super::super) fn trim_end(mut self, end: u64) -> bool {
        let last = self.is_last();
        let fits = self.knows(1) && self.allows(end, self.next_start(), !last);
        if fits {
            if last {
                self.tell_end(end);
            }
            self.leaf.change_end(self.index, |vma| vma.end = end);
        }
        fits
    }

    /// The VMA here starts at `start`, inside it.
    #[inline(always)]
    pub(in super::super) fn trim_start(mut self, start: u64) -> bool {
        let first = self.is_first();
        let fits = self.knows_prev() && self.allows(self.prev_end(), start, !first);
        if fits {
            if first {
                self.tell_start(start);
            }
            self.leaf.change(self.index, |vma| *vma = vma.part(start, vma.end));
        }
        fits
    }

    /// `[start, end)`, inside the VMA here, goes out of it. False if `max` VMAs exist, too.
    #[inline(always)]
    pub(in super::super) fn punch(mut self, start: u64, end: u64, max: usize) -> bool {
        let fits = self.leaf.has_room() && *self.len < max && self.allows(start, end, true);
        if fits {
            let vma = self.leaf.at(self.index);
            let upper = vma.part(end, vma.end);
            self.leaf.change_end(self.index, |vma| vma.end = start);
            self.leaf.insert(self.index + 1, &upper);
            *self.len += 1;
        }
        fits
    }
}
