//! Exhaustive search of worlds: the claim "no failure in any order", and what it stands on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use faultbed::catalogue;
use faultbed::model::Model;
use handler::Policy;
use sim::explore::{Census, Chooser, Exhaust, Fingerprint, RandomWalk};
use sim::scenario;
use sim::world::{Setup, World};

const UNREDUCED: Exhaust = Exhaust { reduce: false, hurries: 1, states: 60_000, keep_going: true };
const REDUCED: Exhaust = Exhaust { reduce: true, ..UNREDUCED };

fn start(setup: &Arc<Setup>, policy: Policy) -> World<Model> {
    World::new(Arc::clone(setup), Model::new(policy, setup))
}

fn world(text: &str) -> Arc<Setup> {
    let text = format!("faultbed scenario 1\nname exhaustive\n{text}");
    Arc::new(scenario::parse("exhaustive", &text).expect("a scenario"))
}

/// Three threads on three pages, in every mixture of what threads do.
const WORLDS: [&str; 8] = [
    "memory 1 pages\nworkers 2\ntask a\n write 0\n write 0\ntask b\n dontneed 0\n",
    "memory 1 pages\nworkers 2\ntask a\n read 0\ntask b\n dontneed 0\n read 0\n",
    "memory 2 pages\nworkers 2\ntask a\n read 0\n write 1\ntask b\n dontneed 0..2\n",
    "memory 3 pages\nworkers 2\ntask a\n read 0\ntask b\n write 1\ntask c\n read 2\n",
    "memory 3 pages\nworkers 2\ntask a\n populate-read 0..2\ntask b\n dontneed 1..3\n",
    "memory 2 pages\nworkers 1\ntask a\n dontneed 0\ntask b\n dontneed 1\ntask c\n write 0\n",
    "memory 2 pages\nworkers 2\ntask a\n write 0\n post x\ntask b\n await x\n dontneed 0\n read 0 -> zero\n",
    "memory 2 pages\nworkers 2\ntask a\n write 0\ntask b\n dontneed 0\n snapshot\n",
];

fn outcomes(census: &Census) -> Vec<String> {
    census.outcomes.keys().map(|end| format!("{:?} {}", end.class, end.what)).collect()
}

#[test]
fn reduced_and_unreduced_search_agree_on_the_outcomes_of_worlds() {
    let (mut finished, mut failing, mut saved) = (0, 0, (0, 0));
    for policy in [Policy::default(), Policy::short_circuit()] {
        for text in WORLDS {
            let start = start(&world(text), policy.clone());
            let all = UNREDUCED.run(&start, |_| true);
            let reduced = REDUCED.run(&start, |_| true);
            if all.complete {
                finished += 1;
                failing += usize::from(all.failures().next().is_some());
                assert!(reduced.complete, "{text}");
                assert_eq!(outcomes(&reduced), outcomes(&all), "{text}");
                assert!(reduced.states <= all.states, "{text}");
                saved = (saved.0 + reduced.transitions, saved.1 + all.transitions);
            }
        }
    }
    assert!(finished >= 8 && failing >= 1, "{finished} finished, {failing} failed");
    assert!(saved.0 * 2 < saved.1, "the reduction reduces: {saved:?}");
}

#[test]
fn no_order_of_the_steps_of_a_small_world_defeats_the_default_handler() {
    for text in WORLDS {
        let census = REDUCED.run(&start(&world(text), Policy::default()), |_| true);
        assert_eq!(census.failures().count(), 0, "{text}");
    }
}

#[test]
fn the_lost_install_is_found_and_its_path_leads_to_it() {
    let start = start(&world(WORLDS[0]), Policy::short_circuit());
    let census = Exhaust { keep_going: false, ..REDUCED }.run(&start, |_| true);
    let (end, path) = census.failures().next().expect("it hangs");
    assert_eq!(end.class, Some("hang"));
    let mut again = start.clone();
    for actor in path {
        again.apply(*actor);
    }
    assert_eq!(again.enabled(), 0);
    again.finish();
    assert_eq!(again.failure().expect("it fails").class(), "hang");
}

/// Two steps that are said not to touch each other can be taken in either order: both stay
/// possible, both do the same, and the worlds that come out are equal. Checked at every state
/// of walks through the catalogue and through worlds in which everything happens.
#[test]
fn steps_that_do_not_touch_each_other_commute() {
    let mut setups: Vec<Arc<Setup>> =
        catalogue::all().into_iter().map(|entry| Arc::new(entry.setup)).collect();
    setups.extend(WORLDS.iter().map(|text| world(text)));
    let (mut independent, mut pairs) = (0u64, 0u64);
    for setup in &setups {
        let start = start(setup, Policy::default());
        for walk in 0..25 {
            let mut world = start.clone();
            let mut chooser = RandomWalk::new(17, walk);
            loop {
                let enabled = world.enabled();
                if enabled == 0 {
                    break;
                }
                let actors: Vec<_> = (0..64).filter(|actor| enabled >> actor & 1 == 1).collect();
                for (i, &one) in actors.iter().enumerate() {
                    for &other in &actors[i + 1..] {
                        pairs += 1;
                        if world.footprint(one).is_independent_of(world.footprint(other)) {
                            independent += 1;
                            commute(&world, one, other);
                        }
                    }
                }
                world.apply(chooser.choose(enabled));
            }
        }
    }
    assert!(pairs > 30_000, "{pairs} pairs");
    assert!(independent * 4 > pairs, "{independent} of {pairs} pairs are independent");
}

/// The same at every state of a small world, for pairs that walks hardly ever meet: a wake of a
/// page that was installed and zapped again, beside another thread's last look at it.
#[test]
fn steps_commute_at_every_state_of_a_small_world() {
    let text = "memory 1 pages\nworkers 1\ntask a\n read 0\ntask b\n read 0\ntask c\n dontneed 0\n";
    let start = start(&world(text), Policy::default());
    let clock = (0..64).find(|actor| start.actor_name(*actor) == "clock").expect("there is one");
    let (mut known, mut open, mut independent) = (BTreeSet::new(), vec![start], 0u64);
    while let Some(world) = open.pop() {
        let enabled = world.enabled();
        // Time passes only where nothing else can happen: it would go on for ever.
        let without = enabled & !(1 << clock);
        let enabled = if without == 0 { enabled } else { without };
        let actors: Vec<_> = (0..64).filter(|actor| enabled >> actor & 1 == 1).collect();
        for (i, &one) in actors.iter().enumerate() {
            for &other in &actors[i + 1..] {
                if world.footprint(one).is_independent_of(world.footprint(other)) {
                    independent += 1;
                    commute(&world, one, other);
                }
            }
            let mut next = world.clone();
            next.apply(one);
            if known.insert(Fingerprint::of(&next)) {
                open.push(next);
            }
        }
    }
    assert!(known.len() > 1_000 && independent > 1_000, "{} states", known.len());
}

/// The clock is no part of what tells states apart, nor is how often a handler has tried again
/// beyond what its delays can tell. So wherever two ways meet in one fingerprint, and only then,
/// the same actors can move, and each leads both to one fingerprint again.
#[test]
fn states_that_are_taken_for_one_do_the_same_from_there_on() {
    let worlds = [
        "memory 1 pages\nworkers 1\ntask a\n dontneed 0\n read 0\ntask b\n write 0\n",
        "memory 1 pages\nworkers 2\nmishaps eagain 2 source-late\ntask a\n read 0\ntask b\n dontneed 0\n",
        "memory 2 pages\nworkers 1\ntask a\n write 0\ntask b\n dontneed 1\n snapshot\n",
    ];
    let (mut differ, mut later) = (0u64, 0u64);
    for text in worlds {
        let start = start(&world(text), Policy::default());
        let mut known: BTreeMap<Fingerprint, World<Model>> = BTreeMap::new();
        let mut open = vec![start];
        while let Some(world) = open.pop() {
            let print = Fingerprint::of(&world);
            let Some(first) = known.get(&print) else {
                if known.len() < 6_000 {
                    open.extend(successors(&world));
                    known.insert(print, world);
                }
                continue;
            };
            differ += u64::from(first.subject() != world.subject());
            assert_eq!(first.enabled(), world.enabled(), "{text}");
            for (one, other) in successors(first).iter().zip(successors(&world)) {
                later += 1;
                assert!(Fingerprint::of(one) == Fingerprint::of(&other), "{text}");
            }
        }
    }
    assert!(differ > 200 && later > 400, "{differ} pairs, {later} steps");
}

fn successors(world: &World<Model>) -> Vec<World<Model>> {
    let enabled = world.enabled();
    let next = |actor| {
        let mut next = world.clone();
        next.apply(actor);
        next
    };
    (0..64).filter(|actor| enabled >> actor & 1 == 1).map(next).collect()
}

fn commute(world: &World<Model>, one: usize, other: usize) {
    let take = |first: usize, second: usize| {
        let mut world = world.clone();
        let did = world.apply(first);
        let first_did = world.describe(&did);
        if world.failure().is_some() {
            return None;
        }
        let possible = world.enabled() >> second & 1 == 1;
        assert!(possible, "{}, then {} cannot move", first_did, world.actor_name(second));
        let did = world.apply(second);
        let second_did = world.describe(&did);
        Some((Fingerprint::of(&world), first_did, second_did))
    };
    let (Some((a, one_did, other_did)), Some((b, other_again, one_again))) =
        (take(one, other), take(other, one))
    else {
        return;
    };
    let what = || {
        format!(
            "{}: {}: {one_did} / {}: {other_did}",
            world.setup().name,
            world.actor_name(one),
            world.actor_name(other)
        )
    };
    assert_eq!((&one_did, &other_did), (&one_again, &other_again), "{}", what());
    assert!(a == b, "{}: the states differ", what());
}
