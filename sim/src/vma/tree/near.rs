//! Editing where one has just looked: one descent instead of two. Owns the conditions under
//! which a leaf may change by itself; everything else is [`Tree::splice`]'s.

use std::sync::Arc;

use super::super::Vma;
use super::Tree;
use super::edit::NARROW;
use super::node::{LEAF, Leaf, Node, Summary};

/// A place in a leaf that holds both neighbours of the place, too.
pub(in super::super) struct Near<'a> {
    leaf: &'a mut Leaf,
    /// What the parent knows of the leaf; it cannot be told otherwise from here.
    known: Summary,
    /// The summary of the whole tree, if the leaf is all of it.
    root: Option<&'a mut Summary>,
    len: &'a mut usize,
    index: usize,
}

impl Tree {
    /// The place of [`Tree::seek`], to be edited; `None` if a neighbour is in another leaf.
    #[inline]
    pub(in super::super) fn near(&mut self, addr: u64) -> Option<Near<'_>> {
        let root = self.root.as_mut()?;
        let (mut known, mut node) = (root.summary, &mut root.node);
        let mut alone = true;
        let leaf = loop {
            match node {
                Node::Leaf(leaf) => break Arc::make_mut(leaf),
                Node::Inner(inner) => {
                    let inner = Arc::make_mut(inner);
                    let i = inner.child_of(addr);
                    known = inner.entry(i);
                    node = &mut inner.children[i];
                    alone = false;
                }
            }
        };
        let above = leaf.above(addr);
        let index = match above.checked_sub(1) {
            Some(last) if leaf.vmas[last].end > addr => last,
            _ => above,
        };
        if !alone && (index == 0 || index + 2 >= leaf.vmas.len()) {
            return None;
        }
        let root = if alone { Some(&mut root.summary) } else { None };
        Some(Near { leaf, known, root, len: &mut self.len, index })
    }
}

impl Near<'_> {
    /// The first VMA that ends above the address.
    #[inline]
    pub(in super::super) fn get(&self) -> Option<&Vma> {
        self.leaf.vmas.get(self.index)
    }

    /// Where it starts; above every address if there is none. Does not touch the VMA.
    #[inline]
    pub(in super::super) fn start(&self) -> u64 {
        self.leaf.starts.get(self.index).copied().unwrap_or(u64::MAX)
    }

    /// Where the one after it starts; above every address if there is none.
    #[inline]
    pub(in super::super) fn next_start(&self) -> u64 {
        self.leaf.starts.get(self.index + 1).copied().unwrap_or(u64::MAX)
    }

    /// The one below it.
    #[inline]
    pub(in super::super) fn prev(&self) -> Option<&Vma> {
        self.leaf.vmas.get(self.index.checked_sub(1)?)
    }

    /// Replace `remove` VMAs, from the one here or with `back` from the one below, with
    /// `insert`. False, and nothing has changed, if that takes more than this leaf.
    #[inline]
    pub(in super::super) fn replace(self, back: bool, remove: usize, insert: &[Vma]) -> bool {
        let Near { leaf, known, root, len, index } = self;
        let at = index - usize::from(back);
        let old = leaf.vmas.len();
        let new = old - remove + insert.len();
        if new > LEAF || new == 0 {
            return false;
        }
        match root {
            Some(root) => {
                leaf.splice(at, remove, insert);
                let changed = leaf.gap(at.saturating_sub(1), (at + insert.len() + 1).min(new));
                *root = leaf.with_gap(known.gap.max(changed));
            }
            None => {
                // Both ends of the leaf are other VMAs, so only the gap can matter above.
                if at == 0 || at + remove >= old || new < NARROW {
                    return false;
                }
                let mut floor = leaf.vmas[at - 1].end;
                let mut gap = 0;
                for vma in insert.iter().chain(&leaf.vmas[at + remove..=at + remove]) {
                    gap = gap.max(vma.start - floor);
                    floor = vma.end;
                }
                if gap > known.gap {
                    return false;
                }
                leaf.splice(at, remove, insert);
            }
        }
        *len = *len - remove + insert.len();
        true
    }
}
