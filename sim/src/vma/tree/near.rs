//! Editing where one has just looked: one descent instead of two. Owns the conditions under
//! which a leaf may change by itself; everything else is [`Tree::splice`]'s.

use super::super::Vma;
use super::Tree;
use super::edit::NARROW;
use super::leaf::{Own, View};
use super::node::{Node, own};

/// A place in a leaf.
///
/// An edit that answers false has changed nothing: it takes more than this leaf, or a parent
/// would have to know of it, because an end of the leaf moves or a gap becomes too large.
pub(in super::super) struct Near<'a> {
    leaf: Own<'a>,
    len: &'a mut usize,
    index: usize,
    /// No gap of the leaf may become larger than this. A leaf that is the whole tree has
    /// nobody above it who counts on anything.
    bound: u64,
    /// Fewer VMAs than this must not be left: 1 in a leaf that is the whole tree.
    narrow: usize,
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
        Some(Near {
            index: leaf.settle(leaf.above_of_few(addr), addr),
            leaf,
            len: &mut self.len,
            bound: u64::MAX,
            narrow: 1,
        })
    }

    /// The place of [`Tree::seek`], to be edited, in a tree of more leaves.
    #[inline(always)]
    pub(in super::super) fn near(&mut self, addr: u64) -> Option<Near<'_>> {
        let Some(Node::Inner(inner)) = &mut self.root else { return None };
        let mut inner = own(inner);
        loop {
            let i = inner.child_of(addr);
            let bound = inner.gaps[i];
            match &mut inner.children[i] {
                Node::Inner(below) => inner = own(below),
                Node::Leaf(leaf) => {
                    let leaf = leaf.own();
                    let index = leaf.settle(leaf.above(addr), addr);
                    return Some(Near { leaf, len: &mut self.len, index, bound, narrow: NARROW });
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

    /// Is the VMA below the place in this leaf, or known not to be?
    #[inline(always)]
    pub(in super::super) fn sees_prev(&self) -> bool {
        self.index > 0 || self.narrow == 1
    }

    /// Is the VMA `n` above the place in this leaf, or known not to be?
    #[inline(always)]
    pub(in super::super) fn sees(&self, n: usize) -> bool {
        self.index + n < self.leaf.len() || self.narrow == 1
    }

    /// Where it starts; above every address if there is none. Does not touch the VMA.
    #[inline(always)]
    pub(in super::super) fn start(&self) -> u64 {
        self.leaf.start(self.index)
    }

    /// Where the one after it starts; above every address if there is none.
    #[inline(always)]
    pub(in super::super) fn next_start(&self) -> u64 {
        self.leaf.start(self.index + 1)
    }

    /// The one below it.
    #[inline(always)]
    pub(in super::super) fn prev(&self) -> Option<&Vma> {
        self.leaf.get(self.index.wrapping_sub(1))
    }

    #[inline(always)]
    fn prev_end(&self) -> u64 {
        // Without one below there is no gap, however far up the place is.
        self.prev().map_or(u64::MAX, |prev| prev.end)
    }

    /// May the gap `[from, to)` appear?
    #[inline(always)]
    fn allows(&self, from: u64, to: u64) -> bool {
        to.saturating_sub(from) <= self.bound
    }

    /// Put `vma` here, below the VMA that is here now.
    #[inline(always)]
    pub(in super::super) fn insert(mut self, vma: &Vma) -> bool {
        let fits = self.leaf.has_room();
        if fits {
            self.leaf.insert(self.index, vma);
            *self.len += 1;
        }
        fits
    }

    /// The VMA here starts lower, where the one below ends at the lowest.
    #[inline(always)]
    pub(in super::super) fn grow_down(mut self, change: impl FnOnce(&mut Vma)) -> bool {
        self.leaf.change(self.index, change);
        true
    }

    /// The VMA below ends higher, where the one here starts at the highest.
    #[inline(always)]
    pub(in super::super) fn grow_prev(mut self, change: impl FnOnce(&mut Vma)) -> bool {
        self.leaf.change_end(self.index - 1, change);
        true
    }

    /// The VMA below takes in the one here.
    #[inline(always)]
    pub(in super::super) fn join(mut self, change: impl FnOnce(&mut Vma, &Vma)) -> bool {
        let fits = self.leaf.len() > self.narrow;
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
        let fits = self.sees_prev()
            && self.sees(1)
            && self.leaf.len() > self.narrow
            && self.allows(self.prev_end(), self.next_start());
        if fits {
            self.leaf.remove(self.index);
            *self.len -= 1;
        }
        fits
    }

    /// The VMA here ends at `end`, inside it.
    #[inline(always)]
    pub(in super::super) fn trim_end(mut self, end: u64) -> bool {
        let fits = self.sees(1) && self.allows(end, self.next_start());
        if fits {
            self.leaf.change_end(self.index, |vma| vma.end = end);
        }
        fits
    }

    /// The VMA here starts at `start`, inside it.
    #[inline(always)]
    pub(in super::super) fn trim_start(mut self, start: u64) -> bool {
        let fits = self.sees_prev() && self.allows(self.prev_end(), start);
        if fits {
            self.leaf.change(self.index, |vma| *vma = vma.part(start, vma.end));
        }
        fits
    }

    /// `[start, end)`, inside the VMA here, goes out of it. False if `max` VMAs exist, too.
    #[inline(always)]
    pub(in super::super) fn punch(mut self, start: u64, end: u64, max: usize) -> bool {
        let fits = self.leaf.has_room() && *self.len < max && self.allows(start, end);
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
