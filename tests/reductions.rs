//! What a reduced search leaves out makes no difference, at any state of small worlds: from each
//! the steps that it takes lead to every end that all steps lead to, and states that are one for it
//! do the same from there on. Owns the tests; `tests/ahead_mutants.sh` breaks the conditions of the
//! reduction one by one, and these have to notice.

#[path = "reductions/commute.rs"]
mod commute;
#[path = "reductions/graph.rs"]
mod graph;
#[path = "reductions/random.rs"]
mod random;
#[path = "reductions/whim.rs"]
mod whim;
#[path = "reductions/worlds.rs"]
mod worlds;

use std::sync::Arc;

use commute::Clash;
use faultbed::model::Model;
use faultbed::tamper::Tamper;
use graph::{Graph, Sums};
use handler::{Policy, Slip};
use random::Theme;
use sim::explore::Exhaust;
use sim::scenario;
use sim::world::{Setup, Subject, World};
use whim::Whim;

/// How often time may pass while somebody can move.
const HURRIES: u32 = 1;

/// States that are looked at in a world; one that has more is left out.
const LIMIT: usize = 20_000;

fn setup(text: &str) -> Arc<Setup> {
    parsed(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn parsed(text: &str) -> Result<Arc<Setup>, scenario::ScenarioError> {
    let text = format!("faultbed scenario 1\nname reductions\n{text}");
    scenario::parse("reductions", &text).map(Arc::new)
}

const SLIPS: [Slip; 5] = [
    Slip::RemovedIsWritten,
    Slip::BaselineLate,
    Slip::CancelledCounts,
    Slip::ReadOverwrites,
    Slip::ProbesKept,
];

/// The handlers, by name: the right one first.
fn names() -> Vec<String> {
    let policies = Policy::NAMES.iter().map(|name| (*name).to_owned());
    let slips = SLIPS.iter().map(|slip| format!("{slip:?}"));
    let tampers = Tamper::ALL.iter().map(|(_, _, name, _)| (*name).to_owned());
    policies.chain(slips).chain(tampers).collect()
}

fn named(setup: &Arc<Setup>, name: &str) -> Model {
    if let Some(policy) = Policy::by_name(name) {
        return Model::new(policy, setup);
    }
    if let Some(slip) = SLIPS.into_iter().find(|slip| format!("{slip:?}") == name) {
        return Model::new(Policy::slipping(slip), setup);
    }
    let known = Tamper::ALL.iter().find(|(_, _, known, _)| *known == name);
    let (tamper, ..) = known.unwrap_or_else(|| panic!("there is no handler `{name}`"));
    Model::tampered(Policy::default(), setup, *tamper)
}

fn right(setup: &Arc<Setup>) -> Vec<Model> {
    vec![named(setup, "default")]
}

/// The right handler, and some that are wrong.
fn any(setup: &Arc<Setup>) -> Vec<Model> {
    let wrong = [
        "short-circuit",
        "decided-early",
        "overlapping",
        "RemovedIsWritten",
        "unprotect-quiet",
        "wake-misplaced",
        "removal-dropped",
    ];
    right(setup).into_iter().chain(wrong.map(|name| named(setup, name))).collect()
}

fn check<S: Subject>(text: &str, start: &World<S>, limit: usize, sums: &mut Sums) {
    let Some(graph) = Graph::of(start, HURRIES, limit) else {
        sums.skipped += 1;
        return;
    };
    let missed = graph.missed(start, HURRIES);
    assert!(missed.is_empty(), "{text}a reduced search and another differ in {missed:?}");
    *sums += graph.sums();
    if let Some((at, missing)) = graph.loss() {
        panic!(
            "{text}behind\n{}{} move, and {missing:?} is lost",
            graph.path(start, at, &[]),
            graph.movers(start, at)
        );
    }
    for (what, clash) in [("a step that waits", graph.tear()), ("a footprint", graph.touch())] {
        if let Some(clash) = clash {
            let Clash { at, behind, moved, other } = clash;
            panic!(
                "{text}{what}: behind\n{}{} move, and in another order it is not the same:\n{}or\n{}",
                graph.path(start, at, &[]),
                graph.movers(start, at),
                graph.path(start, behind, &[moved, other]),
                graph.path(start, behind, &[other, moved]),
            );
        }
    }
    if let Some((one, other, what)) = graph.confusion() {
        let path = |at| graph.path(start, at, &[]);
        panic!("{text}{what} behind\n{}and\n{}", path(one), path(other));
    }
}

fn look<S: Subject>(worlds: &[&str], handlers: impl Fn(&Arc<Setup>) -> Vec<S>) -> Sums {
    let mut sums = Sums::default();
    for text in worlds {
        let setup = setup(text);
        for model in handlers(&setup) {
            check(text, &World::new(Arc::clone(&setup), model), LIMIT, &mut sums);
        }
    }
    assert!(sums.worlds > 5 * sums.skipped / 2, "{sums:?}");
    sums
}

#[test]
fn plain_memory() {
    let Sums { states, failing, merged, .. } = look(&worlds::PLAIN, any);
    assert!(states > 200_000 && failing > 40 && merged > 50_000, "{states} states, {failing} ends");
}

#[test]
fn pages_that_are_asked_for_more_than_once() {
    look(&worlds::ASKED_AGAIN, any);
}

#[test]
fn memory_that_is_watched_for_writes() {
    look(&worlds::WATCHED, any);
}

#[test]
fn snapshots_and_baselines() {
    look(&worlds::ASKED, any);
}

#[test]
fn mappings_that_change() {
    look(&worlds::CHANGING, right);
}

#[test]
fn files_and_processes() {
    look(&worlds::SHARED, right);
}

#[test]
fn mishaps_and_messages() {
    look(&worlds::MISHAPS, right);
}

#[test]
fn kernels_of_all_kinds() {
    look(&worlds::KERNELS, right);
}

#[test]
fn handlers_that_look_at_everything() {
    let sums = look(&worlds::PLAIN, |setup| (0..4).map(|salt| Whim::new(setup, salt)).collect());
    assert_eq!(sums.merged, 0, "nobody knows what makes no difference to it");
}

#[test]
fn larger_worlds() {
    look(&worlds::LARGER, right);
}

/// The handler of a world that was drawn: as often the right one as not.
fn drawn(setup: &Arc<Setup>, number: u64) -> Model {
    let names = names();
    let (right, wrong) = names.split_first().expect("there is the right one");
    let pick = (number / 2) as usize % wrong.len();
    named(setup, if number.is_multiple_of(2) { right } else { &wrong[pick] })
}

#[test]
fn worlds_that_were_drawn_and_made_a_difference() {
    let mut sums = Sums::default();
    for (text, name) in worlds::FOUND {
        let setup = setup(text);
        let model = named(&setup, name);
        check(text, &World::new(setup, model), LIMIT, &mut sums);
    }
    assert_eq!(sums.skipped, 0);
}

#[test]
fn worlds_that_nobody_has_thought_of() {
    let mut sums = Sums::default();
    for number in 0..160 {
        let theme = Theme::ALL[number as usize % Theme::ALL.len()];
        let text = random::world(number, theme);
        let Ok(setup) = parsed(&text) else { continue };
        let model = drawn(&setup, number / 8);
        check(&text, &World::new(setup, model), 2_000, &mut sums);
    }
    let Sums { worlds, states, reduced, merged, .. } = sums;
    assert!(worlds > 50 && states > 20_000 && reduced > 10_000 && merged > 500, "{sums:?}");
}

/// So many states has a reduced search, in worlds where tasks or workers can change places: one that
/// takes fewer states for one has more, and is as right.
#[test]
fn states_that_are_one_are_one() {
    let worlds = [
        ("memory 1 pages\ntask a\n read 0\ntask b\n read 0\n", 214),
        ("memory 2 pages\nworkers 2\ntask a\n read 0\ntask b\n read 1\n", 454),
        (
            "memory 1 pages\ntask a\n read 0\n read 0\ntask b\n read 0\n read 0\ntask c\n dontneed 0\n",
            98729,
        ),
    ];
    let all = Exhaust { reduce: true, hurries: HURRIES, states: usize::MAX, keep_going: true };
    for (text, states) in worlds {
        let setup = setup(text);
        let world = World::new(Arc::clone(&setup), right(&setup).remove(0));
        assert_eq!(all.run(&world, |_| true).states, states, "{text}");
    }
}
