//! Snapshots of orderings: what happens, in which order, in a few worlds that show one rule
//! each. A change here is a change of behaviour.

use std::sync::Arc;

use faultbed::model::Model;
use handler::Policy;
use sim::explore::{Chooser, record};
use sim::scenario;
use sim::timeline::Timeline;
use sim::world::World;

/// Always lets the first of some actors move that can, in an order of preference.
struct Prefer<'a>(&'a [usize]);

impl Chooser for Prefer<'_> {
    fn choose(&mut self, enabled: u64) -> usize {
        self.0
            .iter()
            .copied()
            .find(|actor| enabled >> actor & 1 == 1)
            .unwrap_or(enabled.trailing_zeros() as usize)
    }
}

fn timeline(text: &str, prefer: &[usize]) -> String {
    let text = format!("faultbed scenario 1\nname ordering\n{text}");
    let setup = Arc::new(scenario::parse("ordering", &text).expect("a scenario"));
    let mut world = World::new(Arc::clone(&setup), Model::new(Policy::default(), &setup));
    let (outcome, steps) = record(&mut world.clone(), &mut Prefer(prefer));
    assert_eq!(outcome.failure, None);
    let mut timeline = Timeline::new(&world);
    sim::explore::Replay::new(&steps).run(&mut world, |world, actor, what| {
        timeline.step(world, actor, what);
    });
    timeline.render("")
}

#[test]
fn one_fault_from_beginning_to_end() {
    insta::assert_snapshot!(timeline("memory 1 pages\ntask guest\n  read 0\n", &[0, 1, 2]));
}

#[test]
fn a_removal_is_acknowledged_before_it_zaps() {
    let text = "memory 1 pages\ntask guest\n  read 0\n  dontneed 0\n  read 0 -> zero\n";
    insta::assert_snapshot!(timeline(text, &[0, 1, 2]));
}

#[test]
fn faults_come_before_the_removal_that_was_queued_first() {
    let text = "memory 2 pages\nworkers 1\ntask balloon\n  dontneed 0\ntask guest\n  read 1\n";
    insta::assert_snapshot!(timeline(text, &[0, 1, 2, 3]));
}

#[test]
fn an_install_that_meets_a_removal_is_deferred_until_the_remover_has_run() {
    let text = "memory 2 pages\nworkers 1\ntask guest\n  read 1\ntask balloon\n  dontneed 0\n";
    // The guest faults and the handler takes the fault; then the balloon announces.
    insta::assert_snapshot!(timeline(text, &[0, 2, 1, 3]));
}
