//! Steps of whole worlds: tasks, kernel, our handler, oracles, digest, and the random walk
//! that picks who moves.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use faultbed::{catalogue, model::Model};
use handler::Policy;
use sim::explore::{RandomWalk, run};
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

criterion_group!(benches, world_steps);
criterion_main!(benches);
