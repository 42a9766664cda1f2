//! The zoo: every mistake is found, and nothing in the right handlers.

use faultbed::zoo::{self, Plan};
use sim::explore::Strategy;
use sim::schedule::Schedule;

/// Four times what the slowest of them needs from any of twenty seeds.
const SCHEDULES: u64 = 20_000;

fn plan(seed: u64) -> Plan {
    Plan { strategy: Strategy::Portfolio, seed, schedules: SCHEDULES }
}

fn runs(schedule: &Schedule) -> usize {
    sim::shrink::runs(&schedule.steps).count()
}

#[test]
fn every_mistake_is_found() {
    let missed: Vec<_> = zoo::all()
        .iter()
        .flat_map(|mistake| (1..=2).map(move |seed| (mistake.key, plan(seed).hunt(mistake))))
        .filter_map(|(key, hit)| hit.is_none().then_some(key))
        .collect();
    assert_eq!(missed, [""; 0]);
}

#[test]
fn right_handlers_survive_the_worlds_of_the_zoo() {
    for place in zoo::places() {
        assert_eq!(zoo::wrong_in(&place, 200), None, "{}", place.name);
    }
}

/// Mistakes that are shrunk here, of every class and of both kinds; `faultbed zoo` shrinks all.
const SHRUNK: [&str; 9] = [
    "decide-outside",
    "late-join",
    "serves-inline",
    "locks-crossed",
    "short-read",
    "no-entry-error",
    "zeros-unprotected",
    "removal-dropped",
    "trusts-records",
];

#[test]
fn what_found_them_shrinks_to_what_a_person_reads() {
    let mistakes = zoo::all();
    let mut sizes = Vec::new();
    for key in SHRUNK {
        let mistake = mistakes.iter().find(|one| one.key == key).expect("it is listed");
        let hit = plan(1).hunt(mistake).unwrap_or_else(|| panic!("{key} is found"));
        let small = zoo::shrink(mistake, &hit).unwrap_or_else(|| panic!("{key} fails again"));
        assert_eq!(small.fails, hit.schedule.fails, "{key}");
        assert!(runs(&small) < runs(&hit.schedule), "{key}");
        sizes.push((runs(&small), key));
    }
    sizes.sort_unstable();
    assert!(sizes[sizes.len() - 1].0 <= 15 && sizes[sizes.len() / 2].0 <= 10, "{sizes:?}");
}
