//! The nodes of the tree, and those above the leaves. Owns what one node can tell and do
//! alone; what a leaf can, `leaf.rs` does.

use triomphe::Arc;

use super::super::Vma;
use super::leaf::{Leaf, View as _};
use super::starts::Starts;

/// The most children of an inner node.
pub(super) const INNER: usize = 128;

/// What a parent knows of a child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Summary {
    /// Where its first VMA starts.
    pub(super) start: u64,
    /// Where its last VMA ends.
    pub(super) end: u64,
    /// No gap between two of its VMAs is larger than this. Filling a gap leaves the bound as
    /// it is; the next search that is misled by it makes it exact again (see `gap.rs`).
    pub(super) gap: u64,
}

#[derive(Clone)]
pub(super) enum Node {
    Leaf(Leaf),
    Inner(Arc<Inner>),
}

/// Up to [`INNER`] children and their summaries, field by field.
#[derive(Clone)]
pub(super) struct Inner {
    pub(super) starts: Starts,
    pub(super) ends: [u64; INNER],
    pub(super) gaps: [u64; INNER],
    pub(super) children: Vec<Node>,
}

/// What stands for a start beyond the last one: above every address a VMA can have.
pub(super) const PAD: u64 = u64::MAX >> 1;

/// How many of the ascending `starts` are at or below `addr`; padding never is.
///
/// Two rounds of comparisons that do not wait for each other: a binary search would wait
/// for memory at each of its five steps. A comparison is the sign of a difference, which
/// the compiler does not turn into something slower.
#[inline(always)]
pub(super) fn rank<const N: usize, const BLOCK: usize>(starts: &[u64; N], addr: u64) -> usize {
    let above = addr.min(PAD - 1) + 1;
    let below = |start: u64| (start.wrapping_sub(above) >> 63) as usize;
    let mut full = 0;
    for block in 0..N / BLOCK {
        full += below(starts[block * BLOCK + BLOCK - 1]);
    }
    match starts.get(full * BLOCK..full * BLOCK + BLOCK) {
        Some(b) => full * BLOCK + b[..BLOCK - 1].iter().map(|s| below(*s)).sum::<usize>(),
        None => N,
    }
}

/// The node itself, copied first if somebody shares it.
#[inline(always)]
pub(super) fn own<T: Clone>(node: &mut Arc<T>) -> &mut T {
    #[cold]
    #[inline(never)]
    fn copy<T: Clone>(node: &mut Arc<T>) {
        *node = Arc::new(T::clone(node));
    }
    if !Arc::is_unique(node) {
        copy(node);
    }
    Arc::get_mut(node).expect("nobody shares it")
}

impl Node {
    pub(super) fn as_leaf(&self) -> Option<&Leaf> {
        match self {
            Node::Leaf(leaf) => Some(leaf),
            Node::Inner(_) => None,
        }
    }

    /// Is this the very same node, shared?
    pub(super) fn is_same(&self, other: &Node) -> bool {
        match (self, other) {
            (Node::Leaf(a), Node::Leaf(b)) => a.is_same(b),
            (Node::Inner(a), Node::Inner(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// How many VMAs or children it has.
    pub(super) fn width(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.len(),
            Node::Inner(inner) => inner.children.len(),
        }
    }

    /// Where its first VMA starts and its last one ends.
    pub(super) fn ends(&self) -> (u64, u64) {
        match self {
            Node::Leaf(leaf) => (leaf.start(0), leaf.last().end),
            Node::Inner(inner) => (inner.starts[0], inner.ends[inner.children.len() - 1]),
        }
    }

    /// Its first VMA.
    pub(super) fn first(&self) -> &Vma {
        let mut node = self;
        while let Node::Inner(inner) = node {
            node = &inner.children[0];
        }
        node.as_leaf().expect("leaves are at the bottom").at(0)
    }

    /// The exact summary, the depth and the number of VMAs, if all below is sound.
    pub(super) fn check(&self) -> Option<(Summary, usize, usize)> {
        match self {
            Node::Leaf(leaf) => leaf.is_sound().then(|| (leaf.summary(), 0, leaf.len())),
            Node::Inner(inner) => {
                let (mut gap, mut len, mut deep) = (0, 0, None);
                for (i, child) in inner.children.iter().enumerate() {
                    let (seen, depth, count) = child.check()?;
                    let entry = inner.entry(i);
                    let told = entry.start == seen.start && entry.end == seen.end;
                    if !told || entry.gap < seen.gap || *deep.get_or_insert(depth) != depth {
                        return None;
                    }
                    gap = gap.max(seen.gap);
                    if i > 0 {
                        gap = gap.max(entry.start.checked_sub(inner.ends[i - 1])?);
                    }
                    len += count;
                }
                let starts = inner.starts.is_sound(inner.children.len());
                starts.then_some((inner.with_gap(gap), deep? + 1, len))
            }
        }
    }

    /// Take over all that `right`, the next node of the same level, has.
    pub(super) fn append(&mut self, right: &Node) {
        match (self, right) {
            (Node::Leaf(left), Node::Leaf(right)) => {
                left.splice(left.len(), 0, &right.to_vec());
            }
            (Node::Inner(left), Node::Inner(right)) => {
                let left = own(left);
                for (i, child) in right.children.iter().enumerate() {
                    left.insert(left.children.len(), right.entry(i), child.clone());
                }
            }
            _ => unreachable!("siblings are of one kind"),
        }
    }
}

impl Inner {
    pub(super) fn of(children: &[(Summary, Node)]) -> Inner {
        let mut inner = Inner {
            starts: Starts::NONE,
            ends: [0; INNER],
            gaps: [0; INNER],
            children: Vec::with_capacity(children.len() + 1),
        };
        for (i, (summary, node)) in children.iter().enumerate() {
            inner.children.push(node.clone());
            inner.set(i, *summary);
        }
        inner
    }

    /// The child in which `addr` belongs.
    #[inline]
    pub(super) fn child_of(&self, addr: u64) -> usize {
        self.starts.rank(addr, self.children.len()).saturating_sub(1)
    }

    pub(super) fn entry(&self, i: usize) -> Summary {
        Summary { start: self.starts[i], end: self.ends[i], gap: self.gaps[i] }
    }

    pub(super) fn set(&mut self, i: usize, summary: Summary) {
        self.starts.set(i, summary.start);
        self.ends[i] = summary.end;
        self.gaps[i] = summary.gap;
    }

    /// Put a child at index `i`; there is room.
    pub(super) fn insert(&mut self, i: usize, summary: Summary, child: Node) {
        let old = self.children.len();
        self.ends.copy_within(i..old, i + 1);
        self.gaps.copy_within(i..old, i + 1);
        self.children.insert(i, child);
        self.starts.insert(i, summary.start);
        self.ends[i] = summary.end;
        self.gaps[i] = summary.gap;
    }

    /// Take out child `i`.
    pub(super) fn remove(&mut self, i: usize) -> Node {
        let old = self.children.len();
        self.starts.remove(i);
        self.ends.copy_within(i + 1..old, i);
        self.gaps.copy_within(i + 1..old, i);
        self.children.remove(i)
    }

    /// Move the children from index `at` on to a new node.
    pub(super) fn split_off(&mut self, at: usize) -> Inner {
        let children: Vec<_> =
            (at..self.children.len()).map(|i| (self.entry(i), self.children[i].clone())).collect();
        self.children.truncate(at);
        self.starts.truncate(at);
        Inner::of(&children)
    }

    /// The largest gap in and between the children `from..to`, as far as their bounds tell.
    pub(super) fn gap(&self, from: usize, to: usize) -> u64 {
        let inside = self.gaps[from..to].iter().copied().max().unwrap_or(0);
        let between = (from + 1..to).map(|i| self.starts[i] - self.ends[i - 1]).max();
        inside.max(between.unwrap_or(0))
    }

    pub(super) fn summary(&self) -> Summary {
        self.with_gap(self.gap(0, self.children.len()))
    }

    pub(super) fn with_gap(&self, gap: u64) -> Summary {
        Summary { start: self.starts[0], end: self.ends[self.children.len() - 1], gap }
    }
}
