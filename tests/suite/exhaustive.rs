//! Exhaustive search of worlds: the claim "no failure in any order", and what it stands on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use faultbed::catalogue;
use faultbed::model::Model;
use faultbed::tamper::Tamper;
use handler::Policy;
use sim::explore::{Census, Chooser, Exhaust, Fingerprint, RandomWalk};
use sim::scenario;
use sim::world::{Order, Setup, World};

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
const WORLDS: [&str; 15] = [
    "memory 1 pages\nworkers 2\ntask a\n write 0\n write 0\ntask b\n dontneed 0\n",
    "memory 1 pages\nworkers 2\ntask a\n read 0\ntask b\n dontneed 0\n read 0\n",
    "memory 2 pages\nworkers 2\ntask a\n read 0\n write 1\ntask b\n dontneed 0..2\n",
    "memory 3 pages\nworkers 2\ntask a\n read 0\ntask b\n write 1\ntask c\n read 2\n",
    "memory 3 pages\nworkers 2\ntask a\n populate-read 0..2\ntask b\n dontneed 1..3\n",
    "memory 2 pages\nworkers 1\ntask a\n dontneed 0\ntask b\n dontneed 1\ntask c\n write 0\n",
    "memory 2 pages\nworkers 2\ntask a\n write 0\n post x\ntask b\n await x\n dontneed 0\n read 0 -> zero\n",
    "memory 2 pages\nworkers 2\ntask a\n write 0\ntask b\n dontneed 0\n snapshot\n",
    "memory 2 pages\nworkers 1\ntask a\n dontneed 0..2\ntask b\n dontneed 0..2\ntask c\n read 0\n",
    "memory 1 pages\nworkers 2\ntask a\n read 0\ntask b\n read 0\ntask c\n write 0\n",
    "memory 1 pages missing wp\nworkers 2\ntask a\n read 0\n write 0\ntask b\n write 0\n",
    "memory 2 pages missing wp\nworkers 1\ntask a\n read 0\n write 0\ntask b\n read 1\n dontneed 0\n",
    "memory 1 pages missing wp\nworkers 2\ntask a\n read 0\n write 0\ntask b\n baseline\n",
    "memory 2 pages shmem\nworkers 2\ntask a\n read 0\n write 1\ntask b\n read 0\n",
    "memory 2 pages\nworkers 1\ntask a\n read 0\ntask b\n munmap 0..1\n read 1\n",
];

fn outcomes(census: &Census) -> Vec<String> {
    census.outcomes.keys().map(|end| format!("{:?} {}", end.class, end.what)).collect()
}

/// Worlds of few steps, drawn: two or three tasks on one or two pages.
fn drawn(seed: u64) -> String {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bd1_e995_9e37_79b9;
    let mut few = |n: u64| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 20) % n
    };
    let (pages, workers, tasks) = (1 + few(2), 1 + few(2), 2 + few(2));
    let wp = if few(3) == 0 { " missing wp" } else { "" };
    let mut text = format!("memory {pages} pages{wp}\nworkers {workers}\n");
    let mut left = 4;
    for task in 0..tasks {
        text += &format!("task t{task}\n");
        for _ in 0..(1 + few(2)).min(left) {
            left -= 1;
            let page = few(pages);
            text += &match few(7) {
                0..=2 => format!(" read {page}\n"),
                3..=4 => format!(" write {page}\n"),
                5 => format!(" dontneed {page}\n"),
                _ => format!(" dontneed 0..{pages}\n"),
            };
        }
        if left == 0 {
            break;
        }
    }
    text
}

fn policies() -> Vec<Policy> {
    let names = ["default", "short-circuit", "decided-early", "overlapping"];
    let mut all: Vec<Policy> =
        names.iter().map(|name| Policy::by_name(name).expect("there is one")).collect();
    all.push(Policy::slipping(handler::Slip::RemovedIsWritten));
    all
}

/// The same outcomes and the same failures, in words but for who of several tasks that do the
/// same is named.
fn agree(start: &World<Model>, text: &str, sums: &mut Sums) {
    let all = UNREDUCED.run(start, |_| true);
    if !all.complete {
        return;
    }
    let reduced = REDUCED.run(start, |_| true);
    sums.finished += 1;
    sums.failing += usize::from(all.failures().next().is_some());
    sums.transitions =
        (sums.transitions.0 + reduced.transitions, sums.transitions.1 + all.transitions);
    sums.states = (sums.states.0 + reduced.states, sums.states.1 + all.states);
    assert!(reduced.complete, "{text}");
    assert_eq!(outcomes(&reduced), outcomes(&all), "{text}");
}

#[derive(Default)]
struct Sums {
    finished: usize,
    failing: usize,
    transitions: (u64, u64),
    states: (usize, usize),
}

#[test]
fn reduced_and_unreduced_search_agree_on_the_outcomes_of_worlds() {
    let mut sums = Sums::default();
    for policy in policies() {
        for text in WORLDS {
            agree(&start(&world(text), policy.clone()), text, &mut sums);
        }
    }
    let Sums { finished, failing, transitions, states } = sums;
    assert!(finished >= 40 && failing >= 3, "{finished} finished, {failing} failed");
    assert!(transitions.0 * 3 < transitions.1, "the reduction reduces: {transitions:?}");
    assert!(states.0 * 2 < states.1, "it leaves out states: {states:?}");
}

#[test]
fn reduced_and_unreduced_search_agree_on_the_outcomes_of_drawn_worlds() {
    let mut sums = Sums::default();
    for seed in 0..60 {
        let text = drawn(seed);
        let all = policies();
        let policy = all[seed as usize % all.len()].clone();
        agree(&start(&world(&text), policy), &text, &mut sums);
    }
    let Sums { finished, failing, .. } = sums;
    assert!(finished >= 30 && failing >= 2, "{finished} finished, {failing} failed");
}

/// What a handler that is wrong on purpose does wrong in a small world the reduced search finds
/// as well.
#[test]
fn mistakes_that_the_unreduced_search_finds_the_reduced_one_finds() {
    let mut failing = 0;
    for &(tamper, ..) in Tamper::ALL {
        for text in [WORLDS[0], WORLDS[7], WORLDS[10], WORLDS[12]] {
            let setup = world(text);
            let model = Model::tampered(Policy::default(), &setup, tamper);
            let start = World::new(Arc::clone(&setup), model);
            let all = UNREDUCED.run(&start, |_| true);
            let classes = |census: &Census| {
                census.failures().map(|(end, _)| end.class).collect::<BTreeSet<_>>()
            };
            if all.complete {
                let reduced = REDUCED.run(&start, |_| true);
                assert_eq!(classes(&reduced), classes(&all), "{tamper:?}: {text}");
                failing += usize::from(!classes(&all).is_empty());
            }
        }
    }
    assert!(failing >= 8, "{failing}");
}

/// A step that is said to go first is possible and comes out the same wherever the others get to
/// without it, and whatever they do they do behind it as well.
#[test]
fn steps_that_go_first_come_out_the_same_later() {
    let (mut tried, mut pairs) = (0u64, 0u64);
    for text in WORLDS.iter().map(|text| (*text).to_owned()).chain((0..40).map(drawn)) {
        let start = start(&world(&text), Policy::default());
        for walk in 0..4 {
            let mut world = start.clone();
            let mut chooser = RandomWalk::new(23, walk);
            while world.enabled() != 0 {
                let enabled = world.enabled();
                for actor in actors(enabled).filter(|actor| world.goes_first(*actor)) {
                    tried += 1;
                    pairs += comes_out_the_same(&world, actor, &text);
                }
                world.apply(chooser.choose(enabled));
            }
        }
    }
    assert!(tried > 500 && pairs > 20_000, "{tried} steps, {pairs} pairs");
}

/// Go on from `world` without `actor`, as far as 150 states, and compare.
fn comes_out_the_same(world: &World<Model>, first: usize, text: &str) -> u64 {
    let (mut known, mut open, mut pairs) = (BTreeSet::new(), vec![world.clone()], 0);
    let after = |world: &World<Model>, actor: usize| {
        let mut next = world.clone();
        next.apply(actor);
        next
    };
    while let Some(state) = open.pop() {
        let enabled = state.enabled();
        let what = || format!("{text}{}", state.actor_name(first));
        assert!(enabled >> first & 1 == 1, "{} cannot move any more", what());
        let ahead = after(&state, first);
        for other in actors(enabled & !(1 << first)) {
            if other == state.clock_actor() {
                continue;
            }
            let next = after(&state, other);
            if next.failure().is_some() {
                assert!(after(&ahead, other).failure().is_some(), "{}", what());
                continue;
            }
            assert!(ahead.enabled() >> other & 1 == 1, "{}: {}", what(), state.actor_name(other));
            let print = |world: &World<Model>| world.arranged().0;
            assert!(next.enabled() >> first & 1 == 1, "{} cannot move any more", what());
            let same = print(&after(&ahead, other)) == print(&after(&next, first));
            let did = |actor| state.describe(&state.clone().apply(actor));
            assert!(same, "{}: {} / {}", what(), did(first), did(other));
            pairs += 1;
            if known.len() < 150 && known.insert(print(&next)) {
                open.push(next);
            }
        }
    }
    pairs
}

fn actors(mask: u64) -> impl Iterator<Item = usize> {
    (0..64).filter(move |actor| mask >> actor & 1 == 1)
}

/// States with one fingerprint do the same from there on, by actors in the same places.
#[test]
fn states_that_cannot_be_told_apart_do_the_same_from_there_on() {
    let (mut differ, mut swapped) = (0u64, 0u64);
    for text in WORLDS {
        let start = start(&world(text), Policy::default());
        let mut known: BTreeMap<Fingerprint, (Fingerprint, World<Model>)> = BTreeMap::new();
        let mut compared = BTreeSet::new();
        let mut open = vec![start];
        while let Some(world) = open.pop() {
            let (print, order) = world.arranged();
            let raw = Fingerprint::of(&world);
            let Some((first_raw, first)) = known.get(&print) else {
                if known.len() < 3_000 {
                    open.extend(successors(&world));
                    known.insert(print, (raw, world));
                }
                continue;
            };
            if *first_raw == raw || !compared.insert(raw) {
                continue;
            }
            differ += 1;
            let (_, first_order) = first.arranged();
            let places = |world: &World<Model>, order: &Order| order.to_places(world.enabled());
            assert_eq!(places(first, &first_order), places(&world, &order), "{text}");
            for place in actors(places(&world, &order)) {
                let one = first_order.to_actors(1 << place).trailing_zeros() as usize;
                let other = order.to_actors(1 << place).trailing_zeros() as usize;
                swapped += u64::from(one != other);
                let (mut a, mut b) = (first.clone(), world.clone());
                a.apply(one);
                b.apply(other);
                assert_eq!(a.failure().is_some(), b.failure().is_some(), "{text}");
                assert!(a.arranged().0 == b.arranged().0, "{text}: {}", world.actor_name(other));
            }
        }
    }
    assert!(differ > 3_000 && swapped > 1_000, "{differ} states, {swapped} steps");
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
