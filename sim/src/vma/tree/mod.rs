//! The VMAs of an address space in address order. Owns the order, the search and the gaps;
//! knows no rule of merging.
//!
//! A B+-tree whose leaves are contiguous chunks of VMAs. Nodes are shared by `Arc` and
//! copied when they change, so a clone costs one reference count, and the first change
//! after it copies one path. Every inner node keeps, for each child, where it starts and
//! ends and an upper bound of its largest gap.

mod edit;
mod gap;
mod leaf;
mod near;
mod node;
mod starts;
#[cfg(test)]
mod tests;

use std::hash::{Hash, Hasher};

use triomphe::Arc;

use self::leaf::{Leaf, View as _};
pub(super) use self::near::Near;
use self::node::{Inner, Node, Summary};
use super::Vma;

/// Sorted, disjoint VMAs. Cloning shares them until one side changes.
#[derive(Clone, Default)]
pub(super) struct Tree {
    root: Option<Node>,
    len: usize,
}

impl Tree {
    /// The tree of VMAs that come in address order.
    pub(super) fn from_sorted(vmas: impl Iterator<Item = Vma>) -> Tree {
        let mut len = 0;
        let mut level: Vec<(Summary, Node)> = Vec::new();
        let mut vmas = vmas.inspect(|_| len += 1).peekable();
        while vmas.peek().is_some() {
            let chunk: Vec<Vma> = vmas.by_ref().take(leaf::LEAF * 3 / 4).collect();
            let leaf = Leaf::of(&chunk);
            level.push((leaf.summary(), Node::Leaf(leaf)));
        }
        drop(vmas);
        while level.len() > 1 {
            level = level
                .chunks(node::INNER * 3 / 4)
                .map(|children| {
                    let inner = Inner::of(children);
                    (inner.summary(), Node::Inner(Arc::new(inner)))
                })
                .collect();
        }
        let root = level.pop().map(|(_, node)| node);
        Tree { root, len }
    }

    /// Do the summaries tell the truth, and is every leaf at the same depth?
    pub(super) fn is_sound(&self) -> bool {
        let Some(root) = &self.root else { return self.len == 0 };
        root.check().is_some_and(|(_, _, len)| len == self.len)
    }

    /// How many VMAs.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Is one leaf the whole tree?
    #[inline]
    pub(super) fn is_one_leaf(&self) -> bool {
        matches!(self.root, Some(Node::Leaf(_)))
    }

    /// The leaf in which `addr` belongs.
    fn leaf(&self, addr: u64) -> Option<&Leaf> {
        let mut node = self.root.as_ref()?;
        loop {
            match node {
                Node::Leaf(leaf) => return Some(leaf),
                Node::Inner(inner) => node = &inner.children[inner.child_of(addr)],
            }
        }
    }

    /// The leaf after the one in which `addr` belongs.
    fn leaf_after(&self, addr: u64) -> Option<&Leaf> {
        let mut node = self.root.as_ref()?;
        let mut right = None;
        while let Node::Inner(inner) = node {
            let i = inner.child_of(addr);
            right = inner.children.get(i + 1).or(right);
            node = &inner.children[i];
        }
        let mut node = right?;
        while let Node::Inner(inner) = node {
            node = &inner.children[0];
        }
        node.as_leaf()
    }

    /// The leaf before the one in which `addr` belongs.
    fn leaf_before(&self, addr: u64) -> Option<&Leaf> {
        let mut node = self.root.as_ref()?;
        let mut left = None;
        while let Node::Inner(inner) = node {
            let i = inner.child_of(addr);
            left = i.checked_sub(1).map(|i| &inner.children[i]).or(left);
            node = &inner.children[i];
        }
        let mut node = left?;
        while let Node::Inner(inner) = node {
            node = inner.children.last().expect("an inner node has children");
        }
        node.as_leaf()
    }

    /// A place in the tree: the first VMA that ends above `addr`, and its neighbours.
    pub(super) fn seek(&self, addr: u64) -> Cursor<'_> {
        let Some(leaf) = self.leaf(addr) else {
            return Cursor { tree: self, leaf: None, index: 0 };
        };
        Cursor { tree: self, leaf: Some(leaf), index: leaf.settle(leaf.above(addr), addr) }
    }

    /// The VMA that contains `addr`.
    #[inline]
    pub(super) fn containing(&self, addr: u64) -> Option<&Vma> {
        let leaf = self.leaf(addr)?;
        let vma = leaf.at(leaf.above(addr).checked_sub(1)?);
        (addr < vma.end).then_some(vma)
    }

    /// The first VMA that ends above `addr`: it holds `addr` or is the next one up.
    pub(super) fn at_or_above(&self, addr: u64) -> Option<&Vma> {
        self.seek(addr).get()
    }

    /// The last VMA that starts below `addr`.
    pub(super) fn below(&self, addr: u64) -> Option<&Vma> {
        let key = addr.checked_sub(1)?;
        let leaf = self.leaf(key)?;
        match leaf.above(key).checked_sub(1) {
            Some(last) => Some(leaf.at(last)),
            None => Some(self.leaf_before(key)?.last()),
        }
    }

    /// The VMAs from [`at_or_above`](Tree::at_or_above) on, upward.
    pub(super) fn iter_from(&self, addr: u64) -> Iter<'_> {
        let cursor = self.seek(addr);
        Iter { tree: self, leaf: cursor.leaf, index: cursor.index }
    }
}

/// A place between VMAs; see [`Tree::seek`].
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    tree: &'a Tree,
    leaf: Option<&'a Leaf>,
    index: usize,
}

impl<'a> Cursor<'a> {
    /// The VMA here.
    #[inline]
    pub(super) fn get(&self) -> Option<&'a Vma> {
        self.nth(0)
    }

    /// The VMA `n` further up; `n` is small.
    pub(super) fn nth(&self, n: usize) -> Option<&'a Vma> {
        let (mut leaf, mut index) = (self.leaf?, self.index + n);
        while index >= leaf.len() {
            index -= leaf.len();
            leaf = self.tree.leaf_after(leaf.last().start)?;
        }
        Some(leaf.at(index))
    }

    /// The VMA below this place.
    #[inline]
    pub(super) fn prev(&self) -> Option<&'a Vma> {
        let leaf = self.leaf?;
        match self.index.checked_sub(1) {
            Some(i) => Some(leaf.at(i)),
            None => Some(self.tree.leaf_before(leaf.start(0))?.last()),
        }
    }
}

/// VMAs in address order.
pub(super) struct Iter<'a> {
    tree: &'a Tree,
    leaf: Option<&'a Leaf>,
    index: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Vma;

    #[inline]
    fn next(&mut self) -> Option<&'a Vma> {
        let mut leaf = self.leaf?;
        if self.index == leaf.len() {
            self.leaf = self.tree.leaf_after(leaf.last().start);
            self.index = 0;
            leaf = self.leaf?;
        }
        self.index += 1;
        Some(leaf.at(self.index - 1))
    }
}

impl PartialEq for Tree {
    fn eq(&self, other: &Tree) -> bool {
        let same = match (&self.root, &other.root) {
            (Some(a), Some(b)) => a.is_same(b),
            (None, None) => true,
            _ => false,
        };
        same || (self.len == other.len && self.iter_from(0).eq(other.iter_from(0)))
    }
}

impl Eq for Tree {}

impl Hash for Tree {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.len.hash(state);
        for vma in self.iter_from(0) {
            vma.hash(state);
        }
    }
}
