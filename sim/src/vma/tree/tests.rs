//! The tree against a sorted vector: every query after every edit.

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use super::super::{Vma, VmaFlags};
use super::Tree;

const END: u64 = 4000;

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

/// Splice like the address space does: a few VMAs become a few others in their place.
fn random_splice(rng: &mut ChaCha8Rng, model: &mut Vec<Vma>, tree: &mut Tree, fill: bool) {
    let at = rng.random_range(0..=model.len());
    let most = if rng.random_ratio(1, 20) { 200 } else { 3 };
    let remove = if fill { 0 } else { rng.random_range(0..=most.min(model.len() - at)) };
    let floor = at.checked_sub(1).map_or(0, |i| model[i].end) >> 12;
    let ceiling = model.get(at + remove).map_or(END, |v| v.start >> 12);
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

fn agree(rng: &mut ChaCha8Rng, model: &[Vma], tree: &mut Tree) {
    assert!(tree.is_sound());
    assert!(tree.iter_from(0).eq(model.iter()));
    for _ in 0..4 {
        let addr = rng.random_range(0..END) << 12;
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
        let high = rng.random_range(addr >> 12..END) << 12;
        let len = rng.random_range(1..12) << 12;
        let wanted = gaps(model, addr, high, len);
        assert_eq!(tree.highest_gap(addr, high, len), wanted.last().map(|gap| gap.1));
        assert_eq!(tree.lowest_gap(addr, high, len), wanted.first().map(|gap| gap.0));
        assert!(tree.is_sound());
    }
}

#[test]
fn every_query_agrees_with_a_sorted_vector_after_every_splice() {
    for seed in 0..12 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (mut model, mut tree) = (Vec::new(), Tree::default());
        let mut forks: Vec<(Vec<Vma>, Tree)> = Vec::new();
        for step in 0..800 {
            random_splice(&mut rng, &mut model, &mut tree, step % 400 < 200);
            agree(&mut rng, &model, &mut tree);
            if step % 100 == 0 {
                forks.push((model.clone(), tree.clone()));
                assert!(Tree::from_sorted(model.iter().copied()) == tree);
            }
        }
        // What was cloned has not changed under its clone's edits.
        for (model, mut tree) in forks {
            agree(&mut rng, &model, &mut tree);
        }
    }
}
