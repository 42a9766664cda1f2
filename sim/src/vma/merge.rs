//! What joins with what: pure predicates and the decision they lead to (v2.2 to v2.4). Owns
//! the decision; changes nothing.

use super::area::PAGE_SHIFT;
use super::{Anon, Rules, Vma, VmaFlags};

/// A decided merge: the VMAs that start at or above `at`, `remove` of them, become `made`
/// (one VMA, or two where one grows at the expense of the other).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Merge {
    pub(super) at: u64,
    pub(super) remove: usize,
    pub(super) first: Vma,
    pub(super) second: Option<Vma>,
    /// Where the one of the two that covers the range ends.
    pub(super) end: u64,
}

/// Flags that two VMAs may differ in and still merge; the result has them if one had.
#[inline(always)]
fn sticky(rules: &Rules) -> VmaFlags {
    if rules.sticky_guard {
        VmaFlags::SOFTDIRTY | VmaFlags::MAYBE_GUARD
    } else {
        VmaFlags::SOFTDIRTY
    }
}

/// Conditions 1 to 5: everything but place and anon_vma.
#[inline(always)]
fn same_attributes(rules: &Rules, a: &Vma, b: &Vma) -> bool {
    a.policy == b.policy
        && (a.flags ^ b.flags).difference(sticky(rules)).is_empty()
        && a.backing == b.backing
        && a.ctx == b.ctx
        && a.name == b.name
}

/// Conditions 7 and 8: `lower` ends where `upper` starts, in memory and in the file.
#[inline(always)]
fn linear(lower: &Vma, upper: &Vma) -> bool {
    lower.end == upper.start && lower.pgoff + lower.pages() == upper.pgoff
}

/// The table of v2.3: may a range whose anon_vma is `source` join a neighbour that has
/// `target`?
#[inline(always)]
fn anon_compatible(rules: &Rules, target: Option<Anon>, source: Option<Anon>) -> bool {
    match (target, source) {
        (None, None) => true,
        (Some(target), None) => !target.is_forked(),
        (None, Some(source)) => rules.faulted_into_unfaulted && !source.is_forked(),
        (Some(target), Some(source)) => target == source,
    }
}

/// May both neighbours of a range be one VMA, as far as their anon_vmas go?
#[inline]
fn neighbours_compatible(prev: Option<Anon>, next: Option<Anon>) -> bool {
    match (prev, next) {
        (Some(prev), Some(next)) => prev == next,
        _ => true,
    }
}

/// May `range` join `prev`, which ends where it starts?
#[inline(always)]
fn joins_left(rules: &Rules, prev: Option<&Vma>, range: &Vma) -> bool {
    match prev {
        Some(prev) => {
            linear(prev, range)
                && same_attributes(rules, prev, range)
                && anon_compatible(rules, prev.anon, range.anon)
        }
        None => false,
    }
}

/// May `range` join `next`, which starts where it ends?
#[inline(always)]
fn joins_right(rules: &Rules, range: &Vma, next: Option<&Vma>) -> bool {
    match next {
        Some(next) => {
            linear(range, next)
                && same_attributes(rules, next, range)
                && anon_compatible(rules, next.anon, range.anon)
        }
        None => false,
    }
}

/// `survivor` is stretched over `[start, end)`. Its page offset moves with its start; an
/// unfaulted survivor takes over `anon`; the sticky flags of all it swallows stay.
#[inline(always)]
fn stretch(survivor: &mut Vma, start: u64, end: u64, anon: Option<Anon>, sticky: VmaFlags) {
    if start <= survivor.start {
        survivor.pgoff -= (survivor.start - start) >> PAGE_SHIFT;
    } else {
        survivor.pgoff += (start - survivor.start) >> PAGE_SHIFT;
    }
    survivor.start = start;
    survivor.end = end;
    survivor.flags |= sticky;
    survivor.anon = survivor.anon.or(anon);
}

#[inline]
fn grown(survivor: &Vma, start: u64, end: u64, anon: Option<Anon>, sticky: VmaFlags) -> Vma {
    let mut one = *survivor;
    stretch(&mut one, start, end, anon, sticky);
    one
}

/// Which neighbours a range that no VMA covers yet becomes one VMA with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Joins {
    /// None.
    Nobody,
    /// The one below grows.
    Prev,
    /// The one above grows.
    Next,
    /// The one below grows and swallows the one above.
    Both,
}

/// Decide for a range that no VMA covers yet: a new mapping, the growth of an old one, or
/// the copy of a moved one (v2.4, cases 1 to 3).
#[inline(always)]
pub(super) fn joins(rules: &Rules, prev: Option<&Vma>, range: &Vma, next: Option<&Vma>) -> Joins {
    if range.flags.intersects(VmaFlags::SPECIAL) {
        return Joins::Nobody;
    }
    let left = joins_left(rules, prev, range);
    let right = joins_right(rules, range, next);
    match (left, right) {
        (true, true) if bridgeable(prev, next) => Joins::Both,
        (true, _) => Joins::Prev,
        (false, true) => Joins::Next,
        (false, false) => Joins::Nobody,
    }
}

/// May the two become one if what is between them joins both?
#[inline(always)]
fn bridgeable(prev: Option<&Vma>, next: Option<&Vma>) -> bool {
    match (prev, next) {
        (Some(prev), Some(next)) => !next.close && neighbours_compatible(prev.anon, next.anon),
        _ => false,
    }
}

/// `prev` takes in `range`, right above it.
#[inline(always)]
pub(super) fn grow_up(rules: &Rules, prev: &mut Vma, range: &Vma) {
    stretch(prev, prev.start, range.end, range.anon, range.flags & sticky(rules));
}

/// `next` takes in `range`, right below it.
#[inline(always)]
pub(super) fn grow_down(rules: &Rules, next: &mut Vma, range: &Vma) {
    stretch(next, range.start, next.end, range.anon, range.flags & sticky(rules));
}

/// `prev` takes in `range` and `next`, right above it.
#[inline(always)]
pub(super) fn bridge(rules: &Rules, prev: &mut Vma, range: &Vma, next: &Vma) {
    let kept = (range.flags | next.flags) & sticky(rules);
    stretch(prev, prev.start, next.end, next.anon.or(range.anon), kept);
}

/// The merge that [`joins`] decides, as a value. A caller that does not want its range to
/// join a neighbour leaves that one out.
pub(super) fn new_range(
    rules: &Rules,
    prev: Option<&Vma>,
    range: &Vma,
    next: Option<&Vma>,
) -> Option<Merge> {
    let merge = |at: u64, remove, one: Vma| {
        Some(Merge { at, remove, first: one, second: None, end: one.end })
    };
    match (joins(rules, prev, range, next), prev, next) {
        (Joins::Both, Some(prev), Some(next)) => {
            let mut one = *prev;
            bridge(rules, &mut one, range, next);
            merge(prev.start, 2, one)
        }
        (Joins::Prev, Some(prev), _) => {
            let mut one = *prev;
            grow_up(rules, &mut one, range);
            merge(prev.start, 1, one)
        }
        (Joins::Next, _, Some(next)) => {
            let mut one = *next;
            grow_down(rules, &mut one, range);
            merge(next.start, 1, one)
        }
        _ => None,
    }
}

/// `vma` grows by `range`, right above it. Against a next VMA that is unfaulted the chain of
/// what grows is not asked, unlike that of a range that is changed or moved (v2.3).
pub(super) fn extension(
    rules: &Rules,
    vma: &Vma,
    range: &Vma,
    next: Option<&Vma>,
) -> Option<Merge> {
    if !rules.faulted_into_unfaulted || next.is_none_or(|next| next.anon.is_some()) {
        return new_range(rules, Some(vma), range, next);
    }
    let unfaulted = |of: &Vma| Vma { anon: None, ..*of };
    let merge = new_range(rules, Some(&unfaulted(vma)), &unfaulted(range), next)?;
    Some(Merge { first: Vma { anon: vma.anon, ..merge.first }, ..merge })
}

/// A part of `middle` that is to get the attributes of `range` (v2.4, cases 4 to 8).
pub(super) fn existing_range(
    rules: &Rules,
    prev: Option<&Vma>,
    middle: &Vma,
    range: &Vma,
    next: Option<&Vma>,
) -> Option<Merge> {
    if range.flags.intersects(VmaFlags::SPECIAL) {
        return None;
    }
    let at_start = range.start == middle.start;
    let at_end = range.end == middle.end;
    let left = joins_left(rules, prev, range);
    let right = joins_right(rules, range, next);
    if at_start && at_end && middle.close {
        // Whichever side it joined, the middle would vanish without its hook.
        return None;
    }
    let kept = middle.flags & sticky(rules);
    match (prev.filter(|_| left), next.filter(|_| right)) {
        (Some(prev), Some(next)) if !next.close && neighbours_compatible(prev.anon, next.anon) => {
            let kept = kept | (next.flags & sticky(rules));
            let one = grown(prev, prev.start, next.end, next.anon.or(range.anon), kept);
            Some(Merge { at: prev.start, remove: 3, first: one, second: None, end: one.end })
        }
        (Some(prev), _) => {
            let one = grown(prev, prev.start, range.end, range.anon, kept);
            let rest = (!at_end).then(|| middle.part(range.end, middle.end));
            Some(Merge { at: prev.start, remove: 2, first: one, second: rest, end: one.end })
        }
        (None, Some(next)) => {
            let one = grown(next, range.start, next.end, range.anon, kept);
            let merge = if at_start {
                Merge { at: middle.start, remove: 2, first: one, second: None, end: one.end }
            } else {
                let rest = middle.part(middle.start, range.start);
                Merge { at: middle.start, remove: 2, first: rest, second: Some(one), end: one.end }
            };
            Some(merge)
        }
        (None, None) => None,
    }
}

/// May a VMA that gets its first private page take over `neighbour`'s anon_vma instead of
/// making one (v2.3)? `lower` and `upper` are the two in address order.
pub(super) fn reusable_anon(
    rules: &Rules,
    lower: &Vma,
    upper: &Vma,
    neighbour: &Vma,
) -> Option<Anon> {
    let ignored = VmaFlags::ACCESS | sticky(rules);
    let compatible = linear(lower, upper)
        && lower.policy == upper.policy
        && lower.backing.file() == upper.backing.file()
        && (lower.flags ^ upper.flags).difference(ignored).is_empty();
    neighbour.anon.filter(|anon| compatible && !anon.is_forked())
}
