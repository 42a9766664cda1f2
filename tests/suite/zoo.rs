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

/// A handler that spins can be found for something else as well, and one that is unfair for being late.
#[test]
fn what_is_slow_is_found_for_being_slow() {
    let slow = [
        ("retried-at-once", "busy"),
        ("no-pause", "busy"),
        ("every-fault-queued", "busy"),
        ("retry-under-lock", "busy"),
        ("serves-inline", "busy"),
        ("panic-retried", "busy"),
        ("cancel-ignored", "busy"),
        ("eof-ignored", "busy"),
        ("new-first", "starved"),
        ("client-first", "starved"),
        ("pool-shared", "hang"),
    ];
    let mistakes = zoo::all();
    for (key, class) in slow {
        let mistake = mistakes.iter().find(|one| one.key == key).expect("it is listed");
        let hit = plan(1).hunt(mistake).unwrap_or_else(|| panic!("{key} is found"));
        assert_eq!(hit.schedule.fails.as_deref(), Some(class), "{key}: {}", hit.why);
    }
}

#[test]
fn right_handlers_survive_the_worlds_of_the_zoo() {
    for place in zoo::places() {
        assert_eq!(zoo::wrong_in(&place, 200), None, "{}", place.name);
    }
}

/// The table in `docs/zoo.md` names every entry of the list, and for each what is made of it or why
/// nothing is.
#[test]
fn every_entry_of_the_list_has_its_mistakes_or_a_reason() {
    let text = include_str!("../../docs/zoo.md");
    let (_, table) = text.split_once("## Entry by entry").expect("it is there");
    let rows: Vec<[&str; 3]> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix('|'))
        .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>())
        .map(|cells| cells.try_into().expect("entry, mistakes, reason"))
        .skip(1)
        .collect();
    let ids: Vec<&str> = rows.iter().flat_map(|row| row[0].split(", ")).collect();
    // The numbers that the list does not have were given up in it.
    let fixed = (1..=52).filter(|n| ![14, 18, 21, 37, 39, 41, 43].contains(n));
    let open = (1..=18).filter(|n| *n != 2);
    let expected = fixed.map(|n| format!("A{n}")).chain(open.map(|n| format!("B{n}")));
    for id in expected.chain((1..=13).map(|n| format!("3.{n}"))) {
        assert_eq!(ids.iter().filter(|there| **there == id).count(), 1, "{id}");
    }
    let named = |row: &[&str; 3]| {
        let keys = row[1].split(", ").filter_map(|key| key.strip_prefix('`')?.strip_suffix('`'));
        keys.map(str::to_owned).collect::<Vec<_>>()
    };
    let all = zoo::all();
    let mut unnamed: Vec<&str> = all.iter().map(|mistake| mistake.key).collect();
    for row in &rows {
        let keys = named(row);
        assert!(!keys.is_empty() || !row[2].is_empty(), "{row:?} has neither");
        for key in keys {
            let mistake = all.iter().find(|mistake| mistake.key == key);
            let mistake = mistake.unwrap_or_else(|| panic!("there is no mistake `{key}`"));
            unnamed.retain(|other| *other != key);
            // What a mistake says of itself is in the table as well.
            for id in mistake.entry.split(", ").filter(|id| ids.contains(id)) {
                let row = rows.iter().find(|row| row[0].split(", ").any(|there| there == id));
                assert!(row.is_some_and(|row| named(row).contains(&key)), "{id}: {key}");
            }
        }
    }
    assert_eq!(unnamed, [""; 0], "they stand for something");
}

/// Mistakes that are shrunk here, of every class and of both kinds; `faultbed zoo` shrinks all.
const SHRUNK: [&str; 12] = [
    "decide-outside",
    "late-join",
    "serves-inline",
    "retried-at-once",
    "every-fault-queued",
    "new-first",
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
