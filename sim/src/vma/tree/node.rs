//! The nodes of the tree: contiguous chunks. Owns what one node can tell and do alone.

use triomphe::Arc;

use super::super::Vma;

/// The most VMAs in a leaf.
pub(super) const LEAF: usize = 32;
/// The most children of an inner node.
pub(super) const INNER: usize = 64;

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
    Leaf(Arc<Leaf>),
    Inner(Arc<Inner>),
}

/// Up to [`LEAF`] VMAs. The starts stand apart, so that a search reads few cache lines.
pub(super) struct Leaf {
    /// The start of each VMA; [`PAD`] beyond the last.
    pub(super) starts: [u64; LEAF],
    pub(super) vmas: Vec<Vma>,
}

/// Up to [`INNER`] children and their summaries, field by field.
#[derive(Clone)]
pub(super) struct Inner {
    /// [`PAD`] beyond the last.
    pub(super) starts: [u64; INNER],
    pub(super) ends: [u64; INNER],
    pub(super) gaps: [u64; INNER],
    pub(super) children: Vec<Node>,
}

/// What stands for a start beyond the last one: above every address a VMA can have.
const PAD: u64 = u64::MAX >> 1;

/// How many of the ascending `starts` are at or below `addr`; padding never is.
///
/// Two rounds of comparisons that do not wait for each other: a binary search would wait
/// for memory at each of its five steps. A comparison is the sign of a difference, which
/// the compiler does not turn into something slower.
#[inline(always)]
fn rank<const N: usize>(starts: &[u64; N], addr: u64) -> usize {
    const BLOCK: usize = 4;
    let above = addr.min(PAD - 1) + 1;
    let below = |start: u64| (start.wrapping_sub(above) >> 63) as usize;
    let mut full = 0;
    for block in 0..N / BLOCK {
        full += below(starts[block * BLOCK + BLOCK - 1]);
    }
    match starts.get(full * BLOCK..full * BLOCK + BLOCK) {
        Some(b) => full * BLOCK + below(b[0]) + below(b[1]) + below(b[2]),
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
            (Node::Leaf(a), Node::Leaf(b)) => Arc::ptr_eq(a, b),
            (Node::Inner(a), Node::Inner(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// How many VMAs or children it has.
    pub(super) fn width(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.vmas.len(),
            Node::Inner(inner) => inner.children.len(),
        }
    }

    /// Where its first VMA starts and its last one ends.
    pub(super) fn ends(&self) -> (u64, u64) {
        match self {
            Node::Leaf(leaf) => (leaf.starts[0], leaf.vmas[leaf.vmas.len() - 1].end),
            Node::Inner(inner) => (inner.starts[0], inner.ends[inner.children.len() - 1]),
        }
    }

    /// The exact summary, the depth and the number of VMAs, if all below is sound.
    pub(super) fn check(&self) -> Option<(Summary, usize, usize)> {
        match self {
            Node::Leaf(leaf) => {
                let starts = leaf.vmas.iter().map(|vma| vma.start);
                let padded = starts.chain(std::iter::repeat(PAD)).take(LEAF);
                let sound = !leaf.vmas.is_empty()
                    && leaf.vmas.len() <= LEAF
                    && padded.eq(leaf.starts)
                    && leaf.vmas.windows(2).all(|pair| pair[0].end <= pair[1].start);
                sound.then(|| (leaf.summary(), 0, leaf.vmas.len()))
            }
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
                let padded = inner.starts[inner.children.len()..].iter().all(|s| *s == PAD);
                padded.then_some((inner.with_gap(gap), deep? + 1, len))
            }
        }
    }

    /// Take over all that `right`, the next node of the same level, has.
    pub(super) fn append(&mut self, right: &Node) {
        match (self, right) {
            (Node::Leaf(left), Node::Leaf(right)) => {
                let left = own(left);
                let at = left.vmas.len();
                left.splice(at, 0, &right.vmas);
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

impl Clone for Leaf {
    fn clone(&self) -> Leaf {
        // A leaf is copied to be changed, and a change adds two VMAs at most.
        let mut vmas = Vec::with_capacity(self.vmas.len() + 2);
        vmas.extend_from_slice(&self.vmas);
        Leaf { starts: self.starts, vmas }
    }
}

impl Leaf {
    pub(super) fn of(vmas: Vec<Vma>) -> Leaf {
        let mut starts = [PAD; LEAF];
        for (slot, vma) in starts.iter_mut().zip(&vmas) {
            *slot = vma.start;
        }
        Leaf { starts, vmas }
    }

    /// How many of its VMAs start at or below `addr`.
    #[inline]
    pub(super) fn above(&self, addr: u64) -> usize {
        rank(&self.starts, addr)
    }

    /// The same of a leaf that is at most half full.
    #[inline(always)]
    pub(super) fn above_in_half(&self, addr: u64) -> usize {
        rank(self.starts.first_chunk::<{ LEAF / 2 }>().expect("half of it"), addr)
    }

    /// The index of the first VMA that ends above `addr`, when `above` start at or below it.
    #[inline(always)]
    pub(super) fn settle(&self, above: usize, addr: u64) -> usize {
        match above.checked_sub(1) {
            Some(last) if self.vmas[last].end > addr => last,
            _ => above,
        }
    }

    /// How many of its VMAs start below `addr`.
    #[inline]
    pub(super) fn index_of(&self, addr: u64) -> usize {
        addr.checked_sub(1).map_or(0, |below| rank(&self.starts, below))
    }

    /// Replace `remove` VMAs from index `at` on with `insert`; there is room.
    pub(super) fn splice(&mut self, at: usize, remove: usize, insert: &[Vma]) {
        let (old, tail) = (self.vmas.len(), at + remove);
        let new = old - remove + insert.len();
        if new > old {
            let filler = insert[0];
            self.make_room(new - old);
            self.vmas.resize(new, filler);
            self.vmas.copy_within(tail..old, at + insert.len());
            self.starts.copy_within(tail..old, at + insert.len());
        } else if new < old {
            self.vmas.copy_within(tail..old, at + insert.len());
            self.starts.copy_within(tail..old, at + insert.len());
            self.vmas.truncate(new);
            self.starts[new..old].fill(PAD);
        }
        for (i, vma) in insert.iter().enumerate() {
            self.vmas[at + i] = *vma;
            self.starts[at + i] = vma.start;
        }
    }

    /// Memory for `more` VMAs. A vector left to itself would double, and come to have twice
    /// what a leaf can hold.
    #[inline(always)]
    fn make_room(&mut self, more: usize) {
        #[cold]
        #[inline(never)]
        fn grow(vmas: &mut Vec<Vma>, more: usize) {
            let step = (vmas.len() + more).next_multiple_of(LEAF / 4);
            vmas.reserve_exact(step - vmas.len());
        }
        if self.vmas.capacity() - self.vmas.len() < more {
            grow(&mut self.vmas, more);
        }
    }

    /// Put `vma` at index `at`; there is room.
    #[inline]
    pub(super) fn insert(&mut self, at: usize, vma: &Vma) {
        self.make_room(1);
        let old = self.vmas.len();
        self.starts.copy_within(at..old, at + 1);
        self.starts[at] = vma.start;
        self.vmas.insert(at, *vma);
    }

    /// Take out the VMA at index `at`.
    #[inline]
    pub(super) fn remove(&mut self, at: usize) {
        let old = self.vmas.len();
        self.starts.copy_within(at + 1..old, at);
        self.starts[old - 1] = PAD;
        self.vmas.remove(at);
    }

    /// The largest gap between neighbours among the VMAs `from..to`.
    pub(super) fn gap(&self, from: usize, to: usize) -> u64 {
        let pairs = self.vmas[from..to].windows(2);
        pairs.map(|pair| pair[1].start - pair[0].end).max().unwrap_or(0)
    }

    pub(super) fn summary(&self) -> Summary {
        self.with_gap(self.gap(0, self.vmas.len()))
    }

    pub(super) fn with_gap(&self, gap: u64) -> Summary {
        let last = self.vmas.last().expect("a leaf in the tree is not empty");
        Summary { start: self.starts[0], end: last.end, gap }
    }
}

impl Inner {
    pub(super) fn of(children: &[(Summary, Node)]) -> Inner {
        let mut inner = Inner {
            starts: [PAD; INNER],
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
        rank(&self.starts, addr).saturating_sub(1)
    }

    pub(super) fn entry(&self, i: usize) -> Summary {
        Summary { start: self.starts[i], end: self.ends[i], gap: self.gaps[i] }
    }

    pub(super) fn set(&mut self, i: usize, summary: Summary) {
        self.starts[i] = summary.start;
        self.ends[i] = summary.end;
        self.gaps[i] = summary.gap;
    }

    /// Put a child at index `i`; there is room.
    pub(super) fn insert(&mut self, i: usize, summary: Summary, child: Node) {
        let old = self.children.len();
        self.starts.copy_within(i..old, i + 1);
        self.ends.copy_within(i..old, i + 1);
        self.gaps.copy_within(i..old, i + 1);
        self.children.insert(i, child);
        self.set(i, summary);
    }

    /// Take out child `i`.
    pub(super) fn remove(&mut self, i: usize) -> Node {
        let old = self.children.len();
        self.starts.copy_within(i + 1..old, i);
        self.ends.copy_within(i + 1..old, i);
        self.gaps.copy_within(i + 1..old, i);
        self.starts[old - 1] = PAD;
        self.children.remove(i)
    }

    /// Move the children from index `at` on to a new node.
    pub(super) fn split_off(&mut self, at: usize) -> Inner {
        let children: Vec<_> =
            (at..self.children.len()).map(|i| (self.entry(i), self.children[i].clone())).collect();
        self.children.truncate(at);
        self.starts[at..].fill(PAD);
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
