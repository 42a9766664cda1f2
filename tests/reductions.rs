//! What a reduced search leaves out makes no difference, at any state of small worlds: from each
//! the steps that it takes lead to every end that all steps lead to, and states that are one for it
//! do the same from there on. Owns the tests; `tests/ahead_mutants.sh` breaks the conditions of the
//! reduction one by one, and these have to notice.

#[path = "reductions/graph.rs"]
mod graph;
#[path = "reductions/worlds.rs"]
mod worlds;

use std::sync::Arc;

use faultbed::model::Model;
use faultbed::tamper::Tamper;
use graph::{Graph, Sums};
use handler::Policy;
use sim::scenario;
use sim::world::{Setup, Subject, World};

/// States that are looked at in a world; one that has more is left out.
const LIMIT: usize = 20_000;

fn setup(text: &str) -> Arc<Setup> {
    let text = format!("faultbed scenario 1\nname reductions\n{text}");
    Arc::new(scenario::parse("reductions", &text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

fn right(setup: &Arc<Setup>) -> Vec<Model> {
    vec![Model::new(Policy::default(), setup)]
}

/// The right handler, and some that are wrong.
fn any(setup: &Arc<Setup>) -> Vec<Model> {
    let names = ["short-circuit", "decided-early", "overlapping"];
    let policies = names.iter().map(|name| Policy::by_name(name).expect("there is one"));
    let slip = Policy::slipping(handler::Slip::RemovedIsWritten);
    let mut all = right(setup);
    all.extend(policies.chain([slip]).map(|policy| Model::new(policy, setup)));
    let tampers = [Tamper::UnprotectQuiet, Tamper::WakeMisplaced, Tamper::RemovalDropped];
    all.extend(tampers.map(|tamper| Model::tampered(Policy::default(), setup, tamper)));
    all
}

fn check<S: Subject>(text: &str, start: &World<S>, sums: &mut Sums) {
    let Some(graph) = Graph::of(start, 1, LIMIT) else {
        sums.skipped += 1;
        return;
    };
    *sums += graph.sums();
    if let Some((at, missing)) = graph.loss() {
        panic!(
            "{text}behind\n{}{} move, and {missing:?} is lost",
            graph.path(start, at),
            graph.movers(start, at)
        );
    }
    if let Some((one, other, what)) = graph.confusion() {
        let path = |at| graph.path(start, at);
        panic!("{text}{what} behind\n{}and\n{}", path(one), path(other));
    }
}

fn look(worlds: &[&str], handlers: impl Fn(&Arc<Setup>) -> Vec<Model>) -> Sums {
    let mut sums = Sums::default();
    for text in worlds {
        let setup = setup(text);
        for model in handlers(&setup) {
            check(text, &World::new(Arc::clone(&setup), model), &mut sums);
        }
    }
    assert!(sums.reduced > 0 && sums.worlds > 5 * sums.skipped / 2, "{sums:?}");
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
