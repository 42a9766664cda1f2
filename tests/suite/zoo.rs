//! The zoo: every mistake is found, and nothing in the right handlers.

use faultbed::zoo::{self, Plan};
use sim::explore::Strategy;

/// The mistakes that a short search finds; those that take longer are for `faultbed zoo`.
const SOON: [&str; 13] = [
    "empty-read-fatal",
    "empty-read-retried",
    "exist-ends-worker",
    "buffer-reused",
    "buffer-aliased",
    "requested-for-ever",
    "panic-swallowed",
    "no-entry-fatal",
    "commit-outside",
    "decide-outside",
    "defer-silently",
    "signal-before-push",
    "changing-fatal",
];

#[test]
fn mistakes_are_found() {
    let mistakes = zoo::all();
    for key in SOON {
        let mistake = mistakes.iter().find(|one| one.key == key).expect("it is listed");
        let plan = Plan { strategy: Strategy::Portfolio, seed: 1, schedules: 2_000 };
        assert!(plan.hunt(mistake).is_some(), "{key}");
    }
}

/// Worlds that every right handler survives. In those with trouble (a source that panics, an
/// unregistration after a removal) only our own handler has to; `faultbed zoo` says which do.
const CALM: [&str; 6] = [
    "one_page_two_readers",
    "one_worker",
    "two_pages",
    "remove_twice",
    "lost_install",
    "read_and_remove",
];

#[test]
fn right_handlers_survive_the_calm_worlds() {
    let places = zoo::places();
    for name in CALM {
        let place = places.iter().find(|place| place.name == name).expect("it is listed");
        assert_eq!(zoo::wrong_in(place, 100), None, "{name}");
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
