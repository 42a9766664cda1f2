//! The catalogue: the default handler survives it, and a handler that is wrong on purpose
//! does not.

use std::sync::Arc;

use faultbed::campaign::{Campaign, show};
use faultbed::catalogue;
use faultbed::model::Model;
use faultbed::shard::Shard;
use handler::Policy;
use sim::explore::{self, RandomWalk, Strategy};
use sim::world::World;

fn campaign(handler: &str, seed: u64, schedules: u64) -> Campaign {
    Campaign {
        setups: catalogue::all().into_iter().map(|entry| Arc::new(entry.setup)).collect(),
        handler: handler.to_owned(),
        policy: Policy::by_name(handler).expect("a handler"),
        seed,
        strategy: Strategy::Random,
        schedules,
        jobs: 1,
        shard: Shard::WHOLE,
        keep_going: false,
    }
}

#[test]
fn the_default_handler_survives_the_catalogue() {
    let report = campaign("default", 3, 80_000).run(|_| true);
    if let Some(found) = report.found.first() {
        let showing = show(&found.schedule, Policy::default());
        panic!("{}\n{}", found.schedule.setup.name, showing.timeline);
    }
    for (tally, entry) in report.tallies.iter().zip(catalogue::all()) {
        assert!(tally.schedules > 1000, "{} had its turn", entry.key);
    }
}

#[test]
fn the_short_circuit_is_found_from_each_of_20_seeds_and_replays_byte_for_byte() {
    for seed in 0..20 {
        let report = campaign("short-circuit", seed, 200_000).run(|_| true);
        let found = report.found.first().unwrap_or_else(|| panic!("seed {seed} found nothing"));
        assert_eq!(found.failure.class(), "hang", "seed {seed}: {}", found.failure);
        let first = show(&found.schedule, Policy::short_circuit());
        assert!(first.report.exact(), "the schedule fits the run it was recorded from");
        assert_eq!(first.outcome.digest, found.schedule.digest);
        let second = show(&found.schedule, Policy::short_circuit());
        assert_eq!(first.timeline, second.timeline);
        // The same schedule does no harm to the handler that asks the kernel.
        let cured = show(&found.schedule, Policy::default());
        assert_eq!(cured.outcome.failure, None, "seed {seed}");
    }
}

#[test]
fn every_scenario_ends_well_at_least_once_with_every_handler() {
    // A scenario in which nothing ever completes would test nothing.
    for entry in catalogue::all() {
        let setup = Arc::new(entry.setup);
        let one =
            Campaign { setups: vec![setup], keep_going: true, ..campaign("short-circuit", 5, 400) };
        let report = one.run(|_| true);
        assert!(report.tallies[0].failures < report.tallies[0].schedules, "{}", entry.key);
    }
}

#[test]
fn a_world_that_takes_the_place_of_another_is_a_copy_like_any_other() {
    // One for all scenarios, each left where a walk of the one before has ended.
    let mut used: Option<World<Model>> = None;
    for entry in catalogue::all() {
        let name = entry.setup.name.clone();
        let setup = Arc::new(entry.setup);
        let start = World::new(Arc::clone(&setup), Model::new(Policy::default(), &setup));
        let world = used.get_or_insert_with(|| start.clone());
        for walk in 0..3 {
            world.clone_from(&start);
            assert_eq!(*world, start, "{name}");
            let mut fresh = start.clone();
            let one = explore::run(world, &mut RandomWalk::new(7, walk));
            let other = explore::run(&mut fresh, &mut RandomWalk::new(7, walk));
            assert_eq!(one, other, "{name}, walk {walk}");
            assert_eq!(*world, fresh, "{name}, walk {walk}");
        }
    }
}
