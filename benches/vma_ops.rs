//! What the VMA operations cost, beside a bare `BTreeMap` and the `rangemap` crate.
//!
//! All hold N VMAs of 3 pages at a stride of 8 pages. An operation runs over a batch of
//! distinct slots in random order, another one each time round: of the same few slots again and
//! again the processor would learn by heart where each search branches. Its inverse, which
//! restores the layout, is not timed with it. Small sizes have a herd of trees, so that a batch
//! is long beside the two looks at the clock. At the end the medians are printed as a table, with their ratio to the bare map.
//! `cargo bench --bench vma_ops -- --test` runs each once on small trees.

#[path = "vma_peers/mod.rs"]
mod vma_peers;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, criterion_group, measurement::WallTime};
use rand::seq::SliceRandom;
use rand::{SeedableRng, rngs::ChaCha8Rng};
use vma_peers::{Bare, Full, Peer, Ranges, page_of_slot, table};

/// An operation on one slot.
type Op<P> = fn(&mut P, u64);

/// What is measured: a name, how the layout is prepared for it, it, and how it is undone.
struct Row<P> {
    name: &'static str,
    before: Op<P>,
    timed: Op<P>,
    after: Op<P>,
}

fn nothing<P: Peer>(_: &mut P, _: u64) {}

fn rows<P: Peer>() -> Vec<Row<P>> {
    fn lookup<P: Peer>(p: &mut P, slot: u64) {
        assert!(p.lookup(page_of_slot(slot) + 1));
    }
    fn unmap<P: Peer>(p: &mut P, page: u64) {
        assert!(P::is_done(black_box(&p.unmap(page, 1))));
    }
    fn map_alone<P: Peer>(p: &mut P, slot: u64) {
        p.map(page_of_slot(slot) + 5, 1);
    }
    fn unmap_alone<P: Peer>(p: &mut P, slot: u64) {
        unmap(p, page_of_slot(slot) + 5);
    }
    fn map_touching<P: Peer>(p: &mut P, slot: u64) {
        p.map(page_of_slot(slot) + 3, 1);
    }
    fn unmap_tail<P: Peer>(p: &mut P, slot: u64) {
        unmap(p, page_of_slot(slot) + 3);
    }
    fn split<P: Peer>(p: &mut P, slot: u64) {
        p.protect(page_of_slot(slot) + 1, 1, false);
    }
    fn merge<P: Peer>(p: &mut P, slot: u64) {
        p.protect(page_of_slot(slot) + 1, 1, true);
    }
    fn mixed<P: Peer>(p: &mut P, slot: u64) {
        lookup(p, slot);
        map_touching(p, slot);
        split(p, slot);
        lookup(p, slot);
        map_alone(p, slot);
        merge(p, slot);
        unmap_tail(p, slot);
        lookup(p, slot);
        unmap_alone(p, slot);
        lookup(p, slot);
    }
    let row = |name, before, timed, after| Row { name, before, timed, after };
    vec![
        row("lookup", nothing as Op<P>, lookup as Op<P>, nothing as Op<P>),
        row("insert_no_merge", nothing, map_alone, unmap_alone),
        row("insert_merge", nothing, map_touching, unmap_tail),
        row("split_in_three", nothing, split, merge),
        row("merge_of_three", split, merge, nothing),
        row("munmap_whole", map_alone, unmap_alone, nothing),
        row("munmap_tail", map_touching, unmap_tail, nothing),
        row("mixed_10_ops", nothing, mixed, nothing),
    ]
}

/// The real clock, for the one place that measures.
fn timed(work: impl FnOnce()) -> Duration {
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
    let start = std::time::Instant::now();
    work();
    start.elapsed()
}

/// One implementation at one size.
struct Lane<P> {
    slots: u64,
    /// Each slot of each tree of the herd, in the order of this time round.
    order: Vec<(usize, u64)>,
    rng: ChaCha8Rng,
    /// Built when the first of its rows is asked for.
    herd: Vec<P>,
}

/// So many VMAs at least are in a herd.
const HERD: u64 = 160;

impl<P: Peer> Lane<P> {
    fn new(slots: u64) -> Lane<P> {
        let trees = HERD.div_ceil(slots) as usize;
        let order = (0..trees).flat_map(|tree| (1..=slots).map(move |slot| (tree, slot))).collect();
        let mut lane = Lane { slots, order, rng: ChaCha8Rng::seed_from_u64(1), herd: Vec::new() };
        lane.order.shuffle(&mut lane.rng);
        lane
    }

    fn build(&mut self) {
        if self.herd.is_empty() {
            let trees = HERD.div_ceil(self.slots);
            self.herd = (0..trees).map(|_| P::build(self.slots)).collect();
        }
    }

    fn row(&mut self, group: &mut BenchmarkGroup<'_, WallTime>, row: &Row<P>, round: usize) {
        let batch = (self.order.len() / 16).max(64);
        group.bench_function(format!("{}/{}/{}/{round}", row.name, P::NAME, self.slots), |b| {
            self.build();
            let Lane { order, rng, herd, .. } = self;
            let mut at = 0;
            b.iter_custom(|iters| {
                let (mut spent, mut left) = (Duration::ZERO, iters);
                while left > 0 {
                    let n = batch.min(left as usize);
                    if at + n > order.len() {
                        at = 0;
                        order.shuffle(rng);
                    }
                    let slots = &order[at..at + n];
                    let mut each = |op: Op<P>| {
                        for (tree, slot) in slots {
                            op(&mut herd[*tree], *slot);
                        }
                    };
                    each(row.before);
                    spent += timed(|| each(row.timed));
                    each(row.after);
                    at += n;
                    left -= n as u64;
                }
                spent
            });
        });
    }

    fn clone_after_change(&mut self, group: &mut BenchmarkGroup<'_, WallTime>, round: usize) {
        group.bench_function(
            format!("clone_after_change/{}/{}/{round}", P::NAME, self.slots),
            |b| {
                self.build();
                let mut next = self.order.iter().cycle();
                b.iter(|| {
                    let (tree, slot) = next.next().expect("endless");
                    // It is dropped where it was made: moving it is no part of this.
                    let mut fork = self.herd[*tree].clone();
                    fork.map(page_of_slot(*slot) + 5, 1);
                    std::hint::black_box(&mut fork);
                });
            },
        );
    }

    fn gap_search_worst(&mut self, group: &mut BenchmarkGroup<'_, WallTime>, round: usize) {
        if !P::FINDS_GAPS {
            return;
        }
        let slots = self.slots;
        group.bench_function(format!("gap_search_worst/{}/{slots}/{round}", P::NAME), |b| {
            // Slots are 8 pages apart, so only the hole of the lowest ones has 16 pages.
            let mut peer = P::build(slots);
            peer.unmap(page_of_slot(2), 3);
            peer.unmap(page_of_slot(3), 3);
            let expected = page_of_slot(4) - 16;
            b.iter(|| assert_eq!(peer.highest_gap(16, slots), expected));
        });
    }
}

/// All rows at one size. The implementations take turns row by row and round by round, so that
/// what else the machine does meets them alike: a processor that is slower for some seconds
/// would otherwise be taken for a slow implementation.
fn bench_size(group: &mut BenchmarkGroup<'_, WallTime>, slots: u64) {
    let (mut full, mut bare) = (Lane::<Full>::new(slots), Lane::<Bare>::new(slots));
    let mut ranges = Lane::<Ranges>::new(slots);
    let rounds = if is_smoke() { 1 } else { table::rounds(slots) };
    for ((f, b), r) in rows::<Full>().iter().zip(&rows::<Bare>()).zip(&rows::<Ranges>()) {
        for round in 0..rounds {
            full.row(group, f, round);
            bare.row(group, b, round);
            ranges.row(group, r, round);
        }
    }
    // From 1,000 on these two differ by orders of magnitude, and the peers take seconds.
    let rounds = if slots > 10 { 1 } else { rounds };
    for round in 0..rounds {
        full.clone_after_change(group, round);
        bare.clone_after_change(group, round);
        ranges.clone_after_change(group, round);
        full.gap_search_worst(group, round);
        bare.gap_search_worst(group, round);
        ranges.gap_search_worst(group, round);
    }
}

const SIZES: [u64; 4] = [10, 1_000, 100_000, 1_000_000];

fn is_smoke() -> bool {
    std::env::args().any(|arg| arg == "--test")
}

fn vma_ops(c: &mut Criterion) {
    let sizes: &[u64] = if is_smoke() { &SIZES[..2] } else { &SIZES };
    for &slots in sizes {
        let mut group = c.benchmark_group("vma");
        group.sample_size(10);
        group.warm_up_time(Duration::from_millis(50));
        group.measurement_time(Duration::from_millis(250));
        bench_size(&mut group, slots);
        group.finish();
    }
}

criterion_group!(benches, vma_ops);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    if !is_smoke() {
        let rows = rows::<Full>();
        let mut names: Vec<&str> = rows.iter().map(|row| row.name).collect();
        names.extend(["gap_search_worst", "clone_after_change"]);
        table::print(&names, &SIZES);
    }
}
