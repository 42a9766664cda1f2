//! The machine in random worlds of a model kernel: nobody sleeps for ever, no page shows
//! what it must not, nothing is counted twice, a snapshot tells the truth. Handlers that
//! are wrong on purpose must be caught, or these tests would prove nothing.

mod model;

use faultbed_handler::{Machine, OnSourceError, Policy, Writes};
use model::{Drawn, Sequence, World, regions};
use proptest::prelude::*;

fn machine(policy: Policy) -> Machine {
    Machine::new(policy, regions())
}

fn poisoning() -> Policy {
    let mut policy = Policy::default();
    policy.on_source_error = OnSourceError::Poison;
    policy
}

fn tracking() -> Policy {
    let mut policy = Policy::default();
    policy.writes = Writes::Tracked;
    policy
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_world_of_the_default_handler_goes_wrong(draws in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut world = World::new(machine(Policy::default()), 0);
        let steps = draws.len() / 2;
        let mut draws = Drawn(&draws, Sequence(1));
        let verdict = world.run(&mut draws, steps).and_then(|()| world.check_snapshot(&mut draws));
        prop_assert!(verdict.is_ok(), "{}", verdict.unwrap_err());
    }

    #[test]
    fn nor_does_one_that_is_paused_and_takes_snapshots(draws in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut world = World::new(machine(Policy::default()), 0).with_snapshots();
        let steps = draws.len() / 2;
        let mut draws = Drawn(&draws, Sequence(2));
        let verdict = world.run(&mut draws, steps).and_then(|()| world.check_snapshot(&mut draws));
        prop_assert!(verdict.is_ok(), "{}", verdict.unwrap_err());
    }

    #[test]
    fn nor_does_one_that_is_asked_to_stop(draws in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut world = World::new(machine(Policy::default()), 0).that_stops();
        let steps = draws.len() / 2;
        let mut draws = Drawn(&draws, Sequence(3));
        let verdict = world.run(&mut draws, steps);
        prop_assert!(verdict.is_ok(), "{}", verdict.unwrap_err());
    }

    #[test]
    fn nor_does_one_whose_source_is_flaky(draws in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut world = World::new(machine(poisoning()), 3);
        let steps = draws.len() / 2;
        let mut draws = Drawn(&draws, Sequence(1));
        let verdict = world.run(&mut draws, steps).and_then(|()| world.check_snapshot(&mut draws));
        prop_assert!(verdict.is_ok(), "{}", verdict.unwrap_err());
    }

    #[test]
    fn nor_does_one_that_tracks_writes(draws in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut world = World::new(machine(tracking()), 0).with_snapshots();
        let steps = draws.len() / 2;
        let mut draws = Drawn(&draws, Sequence(4));
        let verdict = world.run(&mut draws, steps).and_then(|()| world.check_snapshot(&mut draws));
        prop_assert!(verdict.is_ok(), "{}", verdict.unwrap_err());
    }

    #[test]
    fn a_handler_that_fails_closed_settles_and_counts(draws in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut world = World::new(machine(Policy::default()), 6);
        let steps = draws.len() / 2;
        let mut draws = Drawn(&draws, Sequence(1));
        let verdict = world.run(&mut draws, steps);
        prop_assert!(verdict.is_ok(), "{}", verdict.unwrap_err());
    }
}

/// Long runs from fixed seeds: they reach what short ones rarely do.
#[test]
fn long_runs_of_the_default_handler_stay_right() {
    let mut accesses = 0;
    for seed in 0..300 {
        let mut world = World::new(machine(Policy::default()), 0);
        if seed % 3 == 0 {
            world = world.with_snapshots();
        }
        let mut draw = Sequence(seed);
        let verdict = world.run(&mut draw, 3_000).and_then(|()| world.check_snapshot(&mut draw));
        assert!(verdict.is_ok(), "seed {seed}: {}", verdict.unwrap_err());
        accesses += world.accesses;
    }
    assert!(accesses > 20_000, "{accesses} accesses were completed");
}

#[test]
fn long_runs_of_a_handler_that_tracks_writes_stay_right() {
    let (mut accesses, mut baselines) = (0, 0);
    for seed in 0..300 {
        let mut world = World::new(machine(tracking()), 0).with_snapshots();
        let mut draw = Sequence(seed);
        let verdict = world.run(&mut draw, 3_000).and_then(|()| world.check_snapshot(&mut draw));
        assert!(verdict.is_ok(), "seed {seed}: {}", verdict.unwrap_err());
        accesses += world.accesses;
        baselines += world.baselines();
    }
    assert!(accesses > 10_000 && baselines > 1_000, "{accesses} accesses, {baselines} baselines");
}

#[test]
fn a_failing_source_is_reached_in_the_failing_worlds() {
    let failed = (0..200).filter(|seed| {
        let mut world = World::new(machine(Policy::default()), 8);
        let verdict = world.run(&mut Sequence(*seed), 1_000);
        assert!(verdict.is_ok(), "seed {seed}: {}", verdict.unwrap_err());
        world.failed()
    });
    assert!(failed.count() > 10, "the source is too good");
}

#[test]
fn the_short_circuit_is_found_to_hang() {
    let hangs = (0..300).filter(|seed| {
        let mut world = World::new(machine(Policy::short_circuit()), 0);
        world.run(&mut Sequence(*seed), 1_000).is_err_and(|e| e.starts_with("asleep for ever"))
    });
    assert!(hangs.count() > 0, "the model never shows what the tracker gets wrong");
}
