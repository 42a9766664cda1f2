//! Changing the tree: one primitive, [`Tree::splice`]. Owns splitting, joining and emptying
//! nodes.

use triomphe::Arc;

use super::super::Vma;
use super::Tree;
use super::leaf::{LEAF, Leaf, View as _};
use super::node::{INNER, Inner, Node, Summary, own};

/// Nodes narrower than this look for a neighbour to join.
pub(super) const NARROW: usize = LEAF / 4;

/// What became of a node.
enum Edited {
    /// It has no VMA left.
    Emptied,
    /// It stands, and may have given its upper part to a new node.
    Kept(Summary, Option<(Summary, Node)>),
    /// Nothing was changed: only so many of the VMAs to remove are in this leaf.
    Spills(usize),
}

/// How an edit within one leaf went.
#[derive(PartialEq, Eq)]
enum InPlace {
    /// It takes more than one leaf; nothing was changed.
    No,
    /// It is done, and the summary is as it was.
    Same,
    /// It is done, and the summary has changed.
    Changed,
}

#[derive(Clone, Copy)]
struct Splice<'a> {
    at: u64,
    remove: usize,
    insert: &'a [Vma],
}

impl Tree {
    /// Replace `remove` VMAs, the first of which starts at `at`, with `insert`: at most
    /// [`LEAF`] VMAs, in order, that fit where the removed ones were. With `remove` 0, `at`
    /// is where the first of `insert` starts.
    pub(in super::super) fn splice(&mut self, at: u64, remove: usize, insert: &[Vma]) {
        self.len = self.len - remove + insert.len();
        let what = Splice { at, remove, insert };
        let done = match &mut self.root {
            None => false,
            Some(Node::Leaf(leaf)) => edit_alone(leaf, &what),
            Some(root) => {
                // Nobody above the root wants to know.
                let mut unasked = Summary { start: 0, end: 0, gap: 0 };
                edit_in_place(root, &mut unasked, &what) != InPlace::No
            }
        };
        if !done {
            self.restructure(&what);
        }
    }

    /// The same, when nodes must be split, joined or emptied.
    #[cold]
    fn restructure(&mut self, what: &Splice<'_>) {
        let Splice { at, remove, insert } = *what;
        let Some(mut root) = self.root.take() else {
            debug_assert_eq!(remove, 0, "nothing to remove from an empty tree");
            self.root = Node::of_leaf(insert);
            return;
        };
        let edited = match edit(&mut root, 0, what) {
            Edited::Spills(here) => {
                self.root = Some(root);
                self.remove_tail(at, remove - here);
                root = self.root.take().expect("the first leaf is still there");
                edit(&mut root, 0, &Splice { remove: here, ..*what })
            }
            edited => edited,
        };
        self.settle(root, edited);
    }

    /// Remove `count` VMAs from the leaf after that of `at` on.
    fn remove_tail(&mut self, at: u64, mut count: usize) {
        while count > 0 {
            let leaf = self.leaf_after(at).expect("there are VMAs to remove");
            let (start, here) = (leaf.start(0), count.min(leaf.len()));
            let mut root = self.root.take().expect("there are VMAs to remove");
            let what = Splice { at: start, remove: here, insert: &[] };
            let edited = edit(&mut root, 0, &what);
            self.settle(root, edited);
            count -= here;
        }
    }

    /// Put the root back: it may have become empty, wider than one node, or a chain.
    fn settle(&mut self, mut root: Node, edited: Edited) {
        match edited {
            Edited::Emptied => return,
            Edited::Spills(_) => unreachable!("a removal within one leaf does not spill"),
            Edited::Kept(_, None) => {}
            Edited::Kept(summary, Some((upper, node))) => {
                root = Node::Inner(Arc::new(Inner::of(&[(summary, root), (upper, node)])));
            }
        }
        while let Node::Inner(inner) = &root
            && inner.children.len() == 1
        {
            root = inner.children[0].clone();
        }
        self.root = Some(root);
    }
}

impl Node {
    fn of_leaf(vmas: &[Vma]) -> Option<Node> {
        if vmas.is_empty() {
            return None;
        }
        Some(Node::Leaf(Leaf::of(vmas)))
    }
}

/// Perform `what` in the leaf that is the whole tree, unless that empties or overfills it.
fn edit_alone(leaf: &mut Leaf, what: &Splice<'_>) -> bool {
    let new = leaf.len() + what.insert.len() - what.remove;
    if new == 0 || new > LEAF {
        return false;
    }
    let at = leaf.index_of(what.at);
    leaf.splice(at, what.remove, what.insert);
    true
}

/// Perform `what` if it concerns one leaf, which has room for it and is not left narrow.
/// `known` is what the parent knows of `node`.
fn edit_in_place(node: &mut Node, known: &mut Summary, what: &Splice<'_>) -> InPlace {
    match node {
        Node::Leaf(leaf) => {
            let at = leaf.index_of(what.at);
            let (old, remove, insert) = (leaf.len(), what.remove, what.insert.len());
            let new = (old + insert).wrapping_sub(remove);
            if at + remove > old || new > LEAF || new == 0 || (new < NARROW && remove > insert) {
                return InPlace::No;
            }
            leaf.splice(at, remove, what.insert);
            let changed = leaf.gap(at.saturating_sub(1), (at + insert + 1).min(new));
            update(known, leaf.with_gap(known.gap.max(changed)))
        }
        Node::Inner(inner) => {
            let inner = own(inner);
            let i = inner.child_of(what.at);
            let mut entry = inner.entry(i);
            match edit_in_place(&mut inner.children[i], &mut entry, what) {
                InPlace::Changed => inner.set(i, entry),
                other => return other,
            }
            let to = (i + 2).min(inner.children.len());
            let changed = inner.gap(i.saturating_sub(1), to);
            update(known, inner.with_gap(known.gap.max(changed)))
        }
    }
}

fn update(known: &mut Summary, now: Summary) -> InPlace {
    if *known == now {
        return InPlace::Same;
    }
    *known = now;
    InPlace::Changed
}

/// Perform `what` below `node`, whose gaps are at most `bound`.
fn edit(node: &mut Node, bound: u64, what: &Splice<'_>) -> Edited {
    match node {
        Node::Leaf(leaf) => edit_leaf(leaf, bound, what),
        Node::Inner(inner) => edit_inner(own(inner), bound, what),
    }
}

fn edit_leaf(leaf: &mut Leaf, bound: u64, what: &Splice<'_>) -> Edited {
    let at = leaf.index_of(what.at);
    let old = leaf.len();
    if at + what.remove > old {
        return Edited::Spills(old - at);
    }
    let new = old - what.remove + what.insert.len();
    if new == 0 {
        return Edited::Emptied;
    }
    if new > LEAF {
        let mut all = leaf.to_vec();
        all.splice(at..at + what.remove, what.insert.iter().copied());
        // Appending leaves full leaves behind; anything else cuts in the middle.
        let cut = if at == old { old } else { new / 2 };
        let (lower, upper) = all.split_at(cut);
        *leaf = Leaf::of(lower);
        let upper = Leaf::of(upper);
        let upper = (upper.summary(), Node::Leaf(upper));
        return Edited::Kept(leaf.summary(), Some(upper));
    }
    leaf.splice(at, what.remove, what.insert);
    let changed = leaf.gap(at.saturating_sub(1), (at + what.insert.len() + 1).min(new));
    Edited::Kept(leaf.with_gap(bound.max(changed)), None)
}

fn edit_inner(inner: &mut Inner, bound: u64, what: &Splice<'_>) -> Edited {
    let i = inner.child_of(what.at);
    let gap = inner.gaps[i];
    match edit(&mut inner.children[i], gap, what) {
        Edited::Spills(here) => return Edited::Spills(here),
        Edited::Emptied => {
            inner.remove(i);
            if inner.children.is_empty() {
                return Edited::Emptied;
            }
        }
        Edited::Kept(summary, None) => {
            inner.set(i, summary);
            if what.remove > what.insert.len() && inner.children[i].width() < NARROW {
                join_with_neighbour(inner, i);
            }
        }
        Edited::Kept(summary, Some((upper, node))) => {
            inner.set(i, summary);
            if inner.children.len() == INNER {
                let cut = if i + 1 == INNER { INNER - 1 } else { INNER / 2 };
                let mut right = inner.split_off(cut);
                if i < cut {
                    inner.insert(i + 1, upper, node);
                } else {
                    right.insert(i + 1 - cut, upper, node);
                }
                let upper = (right.summary(), Node::Inner(Arc::new(right)));
                return Edited::Kept(inner.summary(), Some(upper));
            }
            inner.insert(i + 1, upper, node);
        }
    }
    let width = inner.children.len();
    let changed = inner.gap(i.saturating_sub(2).min(width - 1), (i + 3).min(width));
    Edited::Kept(inner.with_gap(bound.max(changed)), None)
}

/// Join the narrow child `i` with the one beside it, if both fit with room to spare.
fn join_with_neighbour(inner: &mut Inner, i: usize) {
    let width = |i: usize| inner.children.get(i).map_or(usize::MAX, |node| node.width());
    let fits = |a: usize, b: usize| width(a).saturating_add(width(b)) <= LEAF.min(INNER) * 3 / 4;
    let left = if fits(i, i + 1) {
        i
    } else if i > 0 && fits(i - 1, i) {
        i - 1
    } else {
        return;
    };
    let upper = inner.entry(left + 1);
    let right = inner.remove(left + 1);
    let lower = inner.entry(left);
    inner.children[left].append(&right);
    let gap = lower.gap.max(upper.gap).max(upper.start - lower.end);
    inner.set(left, Summary { start: lower.start, end: upper.end, gap });
}
