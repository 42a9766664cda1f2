//! Mishaps as choices of the search: each strikes, a swarm mixes them, schedules name them, and
//! shrinking leaves out those that are not to blame.

use std::collections::BTreeSet;
use std::sync::Arc;

use faultbed::catalogue;
use faultbed::coop;
use faultbed::model::Model;
use handler::Policy;
use sim::explore::{self, Gauge, RandomWalk, Strategy};
use sim::scenario;
use sim::schedule::Schedule;
use sim::shrink::{self, Effort};
use sim::world::{Mishap, Setup, Subject, World};

fn world(text: &str) -> Arc<Setup> {
    let text = format!("faultbed scenario 1\nname mishaps\n{text}");
    Arc::new(scenario::parse("mishaps", &text).unwrap_or_else(|error| panic!("{error}")))
}

fn ours(setup: &Arc<Setup>, policy: Policy) -> World<Model> {
    World::new(Arc::clone(setup), Model::new(policy, setup))
}

/// The mishaps that strike in one walk, by their words.
fn strikes<S: Subject>(start: &World<S>, mut walk: impl explore::Chooser) -> BTreeSet<String> {
    let (outcome, steps) = explore::record(&mut start.clone(), &mut walk);
    assert_eq!(outcome.failure, None, "{}", start.setup().name);
    let mishap = |step: &sim::schedule::Step| step.actor.strip_prefix("mishap-").map(str::to_owned);
    steps.iter().filter_map(mishap).collect()
}

#[test]
fn every_mishap_strikes_our_machine_or_our_driver_and_both_survive() {
    let mut struck = BTreeSet::new();
    for entry in catalogue::all().into_iter().filter(|entry| !entry.setup.mishaps.is_empty()) {
        let setup = Arc::new(entry.setup);
        let machine = ours(&setup, Policy::default());
        for index in 0..400 {
            struck.extend(strikes(&machine, RandomWalk::new(5, index)));
        }
    }
    // Interruptions are the drivers' business.
    let eintr = world("memory 2 pages\nworkers 1\nmishaps eintr 3\ntask a\n read 0..2 -> source\n");
    let driver = World::new(Arc::clone(&eintr), coop::threads(Policy::default(), &eintr));
    for index in 0..50 {
        struck.extend(strikes(&driver, RandomWalk::new(5, index)));
    }
    let lull = world("memory 2 pages\nworkers 1\nmishaps lull\ntask a\n read 0..2 -> source\n");
    for index in 0..50 {
        struck.extend(strikes(&ours(&lull, Policy::default()), RandomWalk::new(5, index)));
    }
    let all: BTreeSet<String> = Mishap::ALL.iter().map(|mishap| mishap.word().to_owned()).collect();
    assert_eq!(struck, all);
}

#[test]
fn a_swarm_draws_another_mixture_for_each_walk() {
    let setup = world(
        "memory 3 pages\nworkers 2\nmishaps eagain enomem source-error source-late\n\
         task a\n read 0..3 -> source\n",
    );
    let start = ours(&setup, Policy::default());
    let gauge = Gauge::measure(&start, 1);
    let walk = |index| strikes(&start, Strategy::Swarm.walk(1, index, &gauge));
    let mixtures: BTreeSet<BTreeSet<String>> = (0..400).map(walk).collect();
    // Of the 16 mixtures of four kinds nearly all: none, all of them, each of them alone.
    assert!(mixtures.len() >= 14, "{mixtures:?}");
    assert!(mixtures.contains(&BTreeSet::new()));
}

fn failing(setup: &Arc<Setup>, policy: &Policy, class: &str) -> Schedule {
    let start = ours(setup, policy.clone());
    let gauge = Gauge::measure(&start, 1);
    let walk = |index| Strategy::Portfolio.walk(1, index, &gauge);
    let fails = |index: &u64| {
        let outcome = explore::run(&mut start.clone(), &mut walk(*index));
        outcome.failure.is_some_and(|failure| failure.class() == class)
    };
    let found = (0..50_000).find(fails).expect("it is found");
    let (outcome, steps) = explore::record(&mut start.clone(), &mut walk(found));
    Schedule {
        handler: "mishaps".to_owned(),
        seed: 1,
        walk: found,
        fails: Some(class.to_owned()),
        digest: outcome.digest,
        setup: Setup::clone(setup),
        steps,
    }
}

fn small(schedule: &Schedule, policy: &Policy) -> Schedule {
    let right = |setup: &Arc<Setup>| ours(setup, Policy::default());
    let make = |setup: &Arc<Setup>| ours(setup, policy.clone());
    let shrunk = shrink::shrink(schedule, make, Some(&right), Effort::default());
    shrunk.expect("it fails again").schedule
}

#[test]
fn shrinking_leaves_out_the_mishaps_that_are_not_to_blame() {
    let setup = world(
        "memory 1 pages\nworkers 2\nmishaps eagain 2 enomem source-late spurious\n\
         task guest\n write 0\n write 0\n write 0\ntask balloon\n dontneed 0\n dontneed 0\n",
    );
    let policy = Policy::short_circuit();
    let schedule = failing(&setup, &policy, "hang");
    let small = small(&schedule, &policy);
    assert!(small.setup.mishaps.is_empty(), "{small}");
    assert!(small.steps.iter().all(|step| !step.actor.starts_with("mishap-")), "{small}");
}

#[test]
fn a_mishap_that_is_to_blame_stays_and_the_file_says_where_it_struck() {
    // A handler that gives its source one try only.
    let setup = world(
        "memory 2 pages\nworkers 2\nmishaps eagain 2 source-error source-late 2\n\
         task a\n read 0 -> source\ntask b\n write 1\n",
    );
    let mut policy = Policy::default();
    policy.source_attempts = 1;
    let schedule = failing(&setup, &policy, "handler-failed");
    let small = small(&schedule, &policy);
    let text = small.to_string();
    assert!(text.contains("mishaps   source-error\n"), "{text}");
    assert!(text.contains("mishap-source-error: the source fails once\n"), "{text}");
    // And the file leads to the same end.
    let parsed = Schedule::parse("small", &text).expect("it is a schedule");
    let mut again = ours(&Arc::new(parsed.setup.clone()), policy);
    let (outcome, report) = explore::Replay::new(&parsed.steps).run(&mut again, |_, _, _| {});
    assert!(report.exact(), "{report:?}");
    assert_eq!(outcome.failure.map(|failure| failure.class()), Some("handler-failed"));
}

#[test]
fn a_process_that_is_killed_dies_whatever_it_waits_for() {
    // Without a worker's help nobody would ever wake: the threads end all the same, and the
    // handler that has taken their faults is not to blame.
    let setup = world(
        "memory 1 pages\nworkers 1\nmishaps death\ntask a\n read 0\ntask b\n dontneed 0\n\
         task c\n await never\n read 0\ntask d\n read 0\n post never\n",
    );
    let start = ours(&setup, Policy::default());
    let mut died = 0;
    for index in 0..2_000 {
        let mut world = start.clone();
        let outcome = explore::run(&mut world, &mut RandomWalk::new(1, index));
        assert_eq!(outcome.failure, None, "walk {index}");
        let dead = !world.kernel().space(world.mm()).iter().any(|vma| vma.uffd().is_some());
        died += u32::from(dead);
    }
    assert!(died > 1_000, "{died} of 2000");
}

#[test]
fn a_source_of_huge_pages_fails_at_the_place_of_its_page() {
    let at = |memory: &str, mishap: &str| {
        let setup = world(&format!(
            "memory 2 pages {memory}\nworkers 1\nmishaps {mishap}\ntask a\n read 1 -> source\n"
        ));
        let mut policy = Policy::default();
        policy.source_attempts = 1;
        let start = ours(&setup, policy);
        let failure = (0..100).find_map(|index| {
            explore::run(&mut start.clone(), &mut RandomWalk::new(5, index)).failure
        });
        failure.expect("the source has failed").to_string()
    };
    let text = at("hugetlb", "source-error");
    assert!(text.contains("at 0x200000"), "{text}");
    let text = at("hugetlb", "source-short");
    assert!(text.contains("at 0x200000"), "{text}");
    let text = at("anon", "source-error");
    assert!(text.contains("at 0x1000"), "{text}");
}
