//! Steps of whole worlds: tasks, kernel, our handler, oracles, digest, and the random walk
//! that picks who moves.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use faultbed::{catalogue, model::Model};
use handler::Policy;
use sim::explore::{Chooser as _, RandomWalk, run};
use sim::world::World;

fn world_steps(c: &mut Criterion) {
    let mut group = c.benchmark_group("world_steps");
    for key in ["missing_read_first", "lost_install", "parallel_missing", "two_removers"] {
        let entry = catalogue::find(key).expect("a built-in scenario");
        let setup = Arc::new(entry.setup);
        let start = World::new(Arc::clone(&setup), Model::new(Policy::default(), &setup));
        // The mean length of a walk, to turn walks into steps.
        let walks = 2000;
        let steps: u64 = (0..walks)
            .map(|walk| u64::from(run(&mut start.clone(), &mut RandomWalk::new(1, walk)).steps))
            .sum();
        group.throughput(Throughput::Elements(steps / walks));
        let mut walk = 0;
        group.bench_function(key, |b| {
            b.iter(|| {
                walk = (walk + 1) % walks;
                black_box(run(&mut start.clone(), &mut RandomWalk::new(1, walk)).digest)
            });
        });
    }
    group.finish();
}

/// A world in the middle of a walk.
fn midway(key: &str) -> World<Model> {
    let entry = catalogue::find(key).expect("a built-in scenario");
    let setup = Arc::new(entry.setup);
    let start = World::new(Arc::clone(&setup), Model::new(Policy::default(), &setup));
    let steps = run(&mut start.clone(), &mut RandomWalk::new(1, 0)).steps;
    let (mut world, mut chooser) = (start, RandomWalk::new(1, 0));
    for _ in 0..steps / 2 {
        let enabled = world.enabled();
        world.apply(chooser.choose(enabled));
    }
    world
}

/// What a search that branches does: copy a state, move one actor. And what a kept state takes.
fn world_clones(c: &mut Criterion) {
    let mut group = c.benchmark_group("world_clones");
    group.throughput(Throughput::Elements(1));
    for key in ["missing_read_first", "lost_install", "parallel_missing", "two_removers"] {
        let world = midway(key);
        group.bench_function(format!("{key}, clone"), |b| b.iter(|| black_box(&world).clone()));
        let actor = world.enabled().trailing_zeros() as usize;
        group.bench_function(format!("{key}, clone and step"), |b| {
            b.iter(|| {
                let mut next = black_box(&world).clone();
                next.apply(actor);
                next
            });
        });
        let count = 20_000u64;
        let before = resident();
        let kept: Vec<World<Model>> = (0..count)
            .map(|_| {
                let mut next = world.clone();
                next.apply(actor);
                next
            })
            .collect();
        if let (Some(before), Some(after)) = (before, resident()) {
            let each = after.saturating_sub(before) / count;
            println!("world_clones/{key}: {each} bytes for each world that is kept");
        }
        drop(black_box(kept));
    }
    group.finish();
}

/// Bytes of this process in memory, where the system tells.
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(statm.split(' ').nth(1)?.parse::<u64>().ok()? * 4096)
}

criterion_group!(benches, world_steps, world_clones);
criterion_main!(benches);
