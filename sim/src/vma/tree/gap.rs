//! Searching gaps. Owns the two directions and the repair of bounds that have become loose.

use super::super::Vma;
use super::Tree;
use super::leaf::{Leaf, View as _};
use super::node::{Node, own};

/// What is looked for: `len` free bytes inside `[low, high)`.
#[derive(Clone, Copy)]
struct Want {
    low: u64,
    high: u64,
    len: u64,
}

impl Want {
    /// The part of the gap `[from, to)` that may be used, if it is large enough.
    #[inline]
    fn fits(self, from: u64, to: u64) -> Option<(u64, u64)> {
        let (from, to) = (from.max(self.low), to.min(self.high));
        (from <= to && to - from >= self.len).then_some((from, to))
    }

    /// May a node with this summary hold such a gap, as far as its bound tells?
    fn may_be_in(self, start: u64, end: u64, bound: u64) -> bool {
        bound >= self.len && end > self.low && start < self.high
    }

    /// Does the window take in the whole node, so that a failed search proves its bound
    /// loose?
    fn covers(self, start: u64, end: u64) -> bool {
        self.low <= start && end <= self.high
    }
}

/// A gap that was found from the top down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) struct Gap<T> {
    /// Where it ends, or the window does.
    pub(in super::super) end: u64,
    /// What was asked about the VMA above it, which may be above the window too.
    pub(in super::super) above: Option<T>,
}

impl Tree {
    /// The highest gap in `[low, high)` with at least `len` bytes, and what `ask` says of the
    /// VMA above it.
    #[inline]
    pub(in super::super) fn highest_gap<T>(
        &mut self,
        low: u64,
        high: u64,
        len: u64,
        ask: impl Fn(&Vma) -> T,
    ) -> Option<Gap<T>> {
        let want = Want { low, high, len };
        let gap = |found: Option<(u64, Option<&Vma>)>| {
            found.map(|(end, above)| Gap { end, above: above.map(&ask) })
        };
        let Some(root) = &mut self.root else {
            return gap(want.fits(low, high).map(|gap| (gap.1, None)));
        };
        let (start, end) = root.ends();
        if let Some((_, end)) = want.fits(end, u64::MAX) {
            return gap(Some((end, None)));
        }
        let mut loose = false;
        let found = match root {
            Node::Leaf(leaf) => gap(highest_in_leaf(leaf, want)),
            Node::Inner(_) => gap(highest(root, want, &mut loose)),
        };
        if loose {
            tighten(root, want);
        }
        found.or_else(|| gap(want.fits(0, start).map(|gap| (gap.1, Some(root.first())))))
    }

    /// The start of the lowest gap in `[low, high)` with at least `len` bytes.
    pub(in super::super) fn lowest_gap(&self, low: u64, high: u64, len: u64) -> Option<u64> {
        let want = Want { low, high, len };
        let Some(root) = &self.root else { return want.fits(low, high).map(|gap| gap.0) };
        let (start, end) = root.ends();
        want.fits(0, start)
            .map(|gap| gap.0)
            .or_else(|| lowest(root, want))
            .or_else(|| want.fits(end, u64::MAX).map(|gap| gap.0))
    }
}

/// The end of the highest wanted gap between two VMAs of the leaf, and the one above it.
#[inline]
fn highest_in_leaf(leaf: &Leaf, want: Want) -> Option<(u64, Option<&Vma>)> {
    (1..leaf.len()).rev().find_map(|i| {
        let (end, next) = (leaf.at(i - 1).end, leaf.start(i));
        if next - end < want.len {
            return None;
        }
        want.fits(end, next).map(|gap| (gap.1, leaf.get(i)))
    })
}

/// The end of the highest wanted gap between two VMAs of `node`, and the one above it. `loose`
/// is set when a child had a bound that promised one and did not have it.
fn highest<'a>(node: &'a Node, want: Want, loose: &mut bool) -> Option<(u64, Option<&'a Vma>)> {
    match node {
        Node::Leaf(leaf) => highest_in_leaf(leaf, want),
        Node::Inner(inner) => {
            for i in (0..inner.children.len()).rev() {
                if i + 1 < inner.children.len()
                    && let Some(gap) = want.fits(inner.ends[i], inner.starts[i + 1])
                {
                    return Some((gap.1, Some(inner.children[i + 1].first())));
                }
                if want.may_be_in(inner.starts[i], inner.ends[i], inner.gaps[i]) {
                    let found = highest(&inner.children[i], want, loose);
                    if found.is_some() {
                        return found;
                    }
                    *loose |= want.covers(inner.starts[i], inner.ends[i]);
                }
            }
            None
        }
    }
}

/// The start of the lowest wanted gap between two VMAs of `node`.
fn lowest(node: &Node, want: Want) -> Option<u64> {
    match node {
        Node::Leaf(leaf) => (1..leaf.len())
            .find_map(|i| want.fits(leaf.at(i - 1).end, leaf.start(i)))
            .map(|gap| gap.0),
        Node::Inner(inner) => (0..inner.children.len()).find_map(|i| {
            let inside = want
                .may_be_in(inner.starts[i], inner.ends[i], inner.gaps[i])
                .then(|| lowest(&inner.children[i], want))
                .flatten();
            let after = || {
                let next = *inner.starts.get(i + 1).filter(|_| i + 1 < inner.children.len())?;
                want.fits(inner.ends[i], next).map(|gap| gap.0)
            };
            inside.or_else(after)
        }),
    }
}

/// Make the bounds below `node` exact from the top down to the first wanted gap, and tell
/// the largest gap of `node` as far as is known then. Each loose bound costs one visit per
/// gap that was filled, so the searches stay logarithmic on the whole.
fn tighten(node: &mut Node, want: Want) -> u64 {
    let inner = match node {
        Node::Leaf(leaf) => return leaf.gap(0, leaf.len()),
        Node::Inner(inner) => own(inner),
    };
    for i in (0..inner.children.len()).rev() {
        if want.may_be_in(inner.starts[i], inner.ends[i], inner.gaps[i]) {
            inner.gaps[i] = tighten(&mut inner.children[i], want);
            if inner.gaps[i] >= want.len {
                break;
            }
        }
    }
    inner.gap(0, inner.children.len())
}
