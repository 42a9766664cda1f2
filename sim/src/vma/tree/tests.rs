//! The tree against a sorted vector: every query after every edit.

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use super::super::{Vma, VmaFlags};
use super::node::Node;
use super::{Near, Tree};

fn vma(start: u64, end: u64) -> Vma {
    Vma::anonymous(start << 12, end << 12, VmaFlags::READ)
}

fn gaps(model: &[Vma], low: u64, high: u64, len: u64) -> Vec<(u64, u64)> {
    let ends = std::iter::once(0).chain(model.iter().map(|v| v.end));
    let starts = model.iter().map(|v| v.start).chain(std::iter::once(u64::MAX));
    ends.zip(starts)
        .map(|(from, to)| (from.max(low), to.min(high)))
        .filter(|(from, to)| from <= to && to - from >= len)
        .collect()
}

/// The pages a test's VMAs are in: from 0 up to here.
#[derive(Clone, Copy)]
struct Pages(u64);

/// Splice like the address space does: a few VMAs become a few others in their place.
fn random_splice(
    rng: &mut ChaCha8Rng,
    Pages(end): Pages,
    model: &mut Vec<Vma>,
    tree: &mut Tree,
    fill: bool,
) {
    let at = rng.random_range(0..=model.len());
    let most = if rng.random_ratio(1, 20) { 200 } else { 3 };
    let remove = if fill { 0 } else { rng.random_range(0..=most.min(model.len() - at)) };
    let floor = at.checked_sub(1).map_or(0, |i| model[i].end) >> 12;
    let ceiling = model.get(at + remove).map_or(end, |v| v.start >> 12);
    let mut insert = Vec::new();
    let mut from = floor;
    for _ in 0..rng.random_range(0..=3u32) {
        from += rng.random_range(0..=(ceiling - from) / 3);
        if from == ceiling {
            break;
        }
        let to = from + rng.random_range(1..=(ceiling - from).min(3));
        insert.push(vma(from, to));
        from = to;
    }
    let first = if remove > 0 { Some(&model[at]) } else { insert.first() };
    let Some(key) = first.map(|v| v.start) else { return };
    tree.splice(key, remove, &insert);
    model.splice(at..at + remove, insert);
}

/// Edit in place where the tree allows it, and expect nothing to happen where it does not.
fn random_edit_in_place(
    rng: &mut ChaCha8Rng,
    Pages(end): Pages,
    model: &mut Vec<Vma>,
    tree: &mut Tree,
) -> bool {
    let addr = rng.random_range(0..end) << 12;
    let at = model.iter().position(|v| v.end > addr).unwrap_or(model.len());
    let floor = at.checked_sub(1).map_or(0, |i| model[i].end);
    let near =
        if tree.near_alone(addr).is_some() { tree.near_alone(addr) } else { tree.near(addr) };
    let Some(near) = near else { return false };
    if near.sees() {
        assert_eq!(near.get(), model.get(at));
    }
    let start = |at: usize| model.get(at).map_or(super::node::PAD, |vma| vma.start);
    if near.knows(0) {
        assert_eq!(near.start(), start(at));
    }
    if near.sees() && at < model.len() && near.knows(1) {
        assert_eq!(near.next_start(), start(at + 1));
    }
    if near.sees_prev() {
        assert_eq!(near.prev(), at.checked_sub(1).map(|i| &model[i]));
    }
    if !near.sees() && near.knows(0) {
        // Above the last VMA of a leaf.
        let to = floor + 4096;
        if !near.sees_prev() || start(at) < to {
            return false;
        }
        let mut after = model.clone();
        let done = if rng.random() {
            let new = vma(floor >> 12, to >> 12);
            after.insert(at, new);
            near.insert(&new)
        } else {
            after[at - 1].end = to;
            near.grow_prev(to, |prev| prev.end = to)
        };
        if done {
            *model = after;
        }
        return done;
    }
    let Some(&here) = model.get(at).filter(|_| near.sees()) else { return false };
    let pages = here.pages();
    let cut = here.start + (rng.random_range(0..pages) << 12);
    let mut after = model.clone();
    let done = match rng.random_range(0..6) {
        0 => {
            after.remove(at);
            near.remove()
        }
        1 if cut > here.start => {
            after[at].end = cut;
            near.trim_end(cut)
        }
        2 if cut > here.start => {
            after[at] = here.part(cut, here.end);
            near.trim_start(cut)
        }
        3 if cut > here.start && cut + 4096 < here.end => {
            after.splice(at..=at, [here.part(here.start, cut), here.part(cut + 4096, here.end)]);
            near.punch(cut, cut + 4096, usize::MAX)
        }
        4 if near.sees_prev() && floor < here.start => {
            let new = vma(floor >> 12, here.start >> 12);
            after.insert(at, new);
            near.insert(&new)
        }
        5 if near.sees_prev() && at > 0 && model[at - 1].end < here.start => {
            after[at - 1].end = here.start;
            near.grow_prev(here.start, |prev| prev.end = here.start)
        }
        _ if near.sees_prev() && at > 0 => {
            after[at - 1].end = here.end;
            after.remove(at);
            near.join(|prev, next| prev.end = next.end)
        }
        _ => return false,
    };
    if done {
        *model = after;
    }
    done
}

fn agree(rng: &mut ChaCha8Rng, Pages(end): Pages, model: &[Vma], tree: &mut Tree) {
    assert!(tree.is_sound());
    assert!(tree.iter_from(0).eq(model.iter()));
    for _ in 0..4 {
        let addr = rng.random_range(0..end) << 12;
        let above = model.iter().position(|v| v.end > addr);
        let cursor = tree.seek(addr);
        assert_eq!(cursor.get(), above.map(|i| &model[i]));
        assert_eq!(cursor.nth(1), above.and_then(|i| model.get(i + 1)));
        let below = above.unwrap_or(model.len()).checked_sub(1).map(|i| &model[i]);
        assert_eq!(cursor.prev(), below);
        assert_eq!(tree.below(addr), model.iter().rfind(|v| v.start < addr));
        let here = model.iter().find(|v| v.start <= addr && addr < v.end);
        assert_eq!(tree.containing(addr), here);
        assert!(tree.iter_from(addr).eq(model.iter().skip_while(|v| v.end <= addr)));
        let high = rng.random_range(addr >> 12..end) << 12;
        let len = rng.random_range(1..12) << 12;
        let wanted = gaps(model, addr, high, len);
        let highest = tree.highest_gap(addr, high, len, |above| above.start);
        assert_eq!(highest.map(|gap| gap.end), wanted.last().map(|gap| gap.1));
        let next = |end| model.iter().map(|v| v.start).find(|start| *start >= end);
        assert!(highest.is_none_or(|gap| gap.above == next(gap.end)));
        assert_eq!(tree.lowest_gap(addr, high, len), wanted.first().map(|gap| gap.0));
        assert!(tree.is_sound());
    }
}

#[test]
fn every_query_agrees_with_a_sorted_vector_after_every_edit() {
    let pages = Pages(4_000);
    let mut edited = 0;
    for seed in 0..12 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (mut model, mut tree) = (Vec::new(), Tree::default());
        let mut forks: Vec<(Vec<Vma>, Tree)> = Vec::new();
        for step in 0..800 {
            random_splice(&mut rng, pages, &mut model, &mut tree, step % 400 < 200);
            for _ in 0..3 {
                let done = random_edit_in_place(&mut rng, pages, &mut model, &mut tree);
                edited += usize::from(done);
            }
            agree(&mut rng, pages, &model, &mut tree);
            if step % 100 == 0 {
                forks.push((model.clone(), tree.clone()));
                assert!(Tree::from_sorted(model.iter().copied()) == tree);
            }
        }
        // What was cloned has not changed under its clone's edits.
        for (model, mut tree) in forks {
            agree(&mut rng, pages, &model, &mut tree);
        }
    }
    assert!(edited > 2_000, "edits in place are common: {edited}");
}

#[test]
fn the_same_where_leaves_have_several_parents() {
    let pages = Pages(36_000);
    let mut edited = 0;
    for seed in 0..2 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut model: Vec<Vma> =
            (0..4_000).map(|i| vma(i * 9, i * 9 + rng.random_range(1..=8))).collect();
        let mut tree = Tree::from_sorted(model.iter().copied());
        let kept = (model.clone(), tree.clone());
        for _ in 0..400 {
            random_splice(&mut rng, pages, &mut model, &mut tree, false);
            for _ in 0..20 {
                let done = random_edit_in_place(&mut rng, pages, &mut model, &mut tree);
                edited += usize::from(done);
            }
            agree(&mut rng, pages, &model, &mut tree);
        }
        let (model, mut tree) = kept;
        agree(&mut rng, pages, &model, &mut tree);
    }
    assert!(edited > 5_000, "edits in place are common: {edited}");
}

/// How many children anywhere below have a gap bound that is larger than their largest gap.
fn loose_bounds(node: &Node) -> usize {
    let Node::Inner(inner) = node else { return 0 };
    let of = |i: usize| {
        let (exact, ..) = inner.children[i].check().expect("a sound tree");
        usize::from(inner.entry(i).gap > exact.gap) + loose_bounds(&inner.children[i])
    };
    (0..inner.children.len()).map(of).sum()
}

/// A gap between two leaves is nobody's: were it taken for one of the leaf's own, every search for
/// such a gap would look into the leaf in vain once, and copy the way to it where it is shared.
#[test]
fn a_gap_between_leaves_loosens_no_bound() {
    let mut tree = Tree::from_sorted((0..200).map(|i| vma(i * 9, i * 9 + 8)));
    let ends: Vec<u64> = {
        let Some(Node::Inner(root)) = &tree.root else { panic!("several leaves") };
        root.ends[..root.children.len()].to_vec()
    };
    let place = |tree: &mut Tree, end: u64, edit: fn(Near<'_>, u64) -> bool| {
        let near = tree.near(end - 4096).expect("several leaves");
        assert!(edit(near, end), "the leaf changes where it stands");
        assert!(tree.is_sound());
    };
    for end in &ends[..ends.len() - 1] {
        place(&mut tree, *end, |near, end| near.trim_end(end - (4 << 12)));
    }
    assert_eq!(loose_bounds(tree.root.as_ref().expect("it is there")), 0);
    // Inside a leaf the bound follows.
    place(&mut tree, ends[0] - (9 << 12), |near, end| near.trim_end(end - (4 << 12)));
    assert_eq!(loose_bounds(tree.root.as_ref().expect("it is there")), 0);
    // The first of a leaf, whose gap is between two leaves as well.
    place(&mut tree, ends[0] + (9 << 12), |near, end| near.trim_start(end - (2 << 12)));
    assert_eq!(loose_bounds(tree.root.as_ref().expect("it is there")), 0);
}
