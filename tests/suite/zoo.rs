//! The zoo: every mistake is found, and nothing in the right handlers.

use faultbed::zoo::{self, Plan};
use sim::explore::Strategy;

#[test]
fn every_mistake_is_found() {
    let mistakes = zoo::all();
    assert!(mistakes.len() >= 40, "{}", mistakes.len());
    let missed: Vec<_> = mistakes
        .iter()
        .filter(|mistake| {
            let plan = Plan { strategy: Strategy::Portfolio, seed: 1, schedules: 20_000 };
            plan.hunt(mistake).is_none()
        })
        .map(|mistake| mistake.key)
        .collect();
    assert!(missed.is_empty(), "not found: {missed:?}");
}

#[test]
fn the_right_handlers_pass_where_the_wrong_ones_fail() {
    for place in zoo::places() {
        let wrong = zoo::wrong_in(&place, 300);
        assert_eq!(wrong, None, "{}", place.name);
    }
}

#[test]
fn a_mistake_of_ordinary_code_shrinks() {
    let mistakes = zoo::all();
    let late = mistakes.iter().find(|one| one.key == "decide-outside").expect("it is listed");
    let plan = Plan { strategy: Strategy::Portfolio, seed: 2, schedules: 20_000 };
    let hit = plan.hunt(late).expect("it is found");
    let small = zoo::shrink(late, &hit).expect("it fails again");
    let runs = |schedule: &sim::schedule::Schedule| sim::shrink::runs(&schedule.steps).count();
    assert!(runs(&small) < runs(&hit.schedule), "{} {}", runs(&small), runs(&hit.schedule));
    assert!(runs(&small) <= 15, "{small}");
}
