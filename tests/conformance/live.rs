//! The scenarios of the catalogue, with our handler, on both kernels: what the explorer searches
//! on the one must hold on the other. And handlers that are wrong on purpose, which the running
//! kernel shows to be wrong.

use core::time::Duration;
use std::sync::Arc;

use faultbed::campaign::Campaign;
use faultbed::catalogue;
use faultbed::judge::live::{Live, Objection, only_simulated};
use faultbed::shard::Shard;
use handler::Policy;
use sim::explore::Strategy;
use sim::world::Setup;

/// Rounds of every scenario on the running kernel, and orders of its steps on the simulated one.
const ROUNDS: u64 = 12;
const ORDERS: u64 = 96;

/// Those that only the simulator can run, and what it is about them.
const NOT_HERE: [(&str, &str); 8] = [
    ("eof", "`inject eof`: a healthy userfaultfd shows no such thing"),
    ("unexpected_event", "`inject message 66`: a healthy userfaultfd shows no such thing"),
    ("read_error", "`inject error EBADF`: a healthy userfaultfd shows no such thing"),
    ("mishaps_reading", "`mishaps`"),
    ("mishaps_install", "`mishaps`"),
    ("mishaps_source", "`mishaps`"),
    ("mishaps_shutdown", "`mishaps`"),
    ("mishaps_death", "`mishaps`"),
];

/// The scenario on the running kernel; nothing where it may be skipped.
fn live<'s>(name: &str, setup: &'s Setup, policy: Policy) -> Option<Live<'s>> {
    match Live::new(setup, policy) {
        Ok(live) => Some(live),
        Err(why) => {
            let required = std::env::var_os("FAULTBED_REQUIRE_KERNEL").is_some_and(|v| v == "1");
            assert!(!required, "{name} may not be skipped: {why}");
            eprintln!("SKIPPED {name}: {why}");
            None
        }
    }
}

fn text(objections: &[Objection]) -> String {
    objections.iter().map(|objection| format!("\n  {objection}")).collect()
}

#[test]
fn every_scenario_of_the_catalogue_comes_out_on_both_kernels() {
    let mut left_out = Vec::new();
    for entry in catalogue::all() {
        let (key, setup) = (entry.key, entry.setup);
        if let Some(why) = only_simulated(&setup) {
            let known = NOT_HERE.iter().find(|(name, _)| *name == key);
            assert!(known.is_some_and(|(_, reason)| why.contains(reason)), "{key}: {why}");
            left_out.push(key);
            continue;
        }
        let campaign = Campaign {
            setups: vec![Arc::new(setup.clone())],
            handler: "default".to_owned(),
            policy: Policy::default(),
            seed: 5,
            strategy: Strategy::Random,
            schedules: ORDERS,
            jobs: 1,
            shard: Shard::WHOLE,
            keep_going: false,
        };
        let report = campaign.run(|_| true);
        assert!(report.found.is_empty(), "{key}: {}", report.found[0].failure);
        let Some(live) = live(key, &setup, Policy::default()) else { continue };
        for seed in 0..ROUNDS {
            let objections = live.round(seed).unwrap_or_else(|why| panic!("{key}: {why}"));
            assert!(objections.is_empty(), "{key}, round {seed}:{}", text(&objections));
        }
    }
    assert_eq!(left_out.len(), NOT_HERE.len(), "only {left_out:?} were left out");
}

/// The first round of the scenario in which this handler meets that objection.
fn goes_wrong(scenario: &str, handler: &str, class: &str) -> Option<Vec<Objection>> {
    let setup = catalogue::find(scenario).expect("a built-in scenario").setup;
    let policy = Policy::by_name(handler).expect("a handler");
    let live = live(scenario, &setup, policy)?.patience(Duration::from_secs(2));
    let mut rounds = (0..20_000).map(|seed| live.round(seed).expect("it runs here"));
    let found = rounds.find(|objections| objections.iter().any(|one| one.class == class));
    Some(found.unwrap_or_else(|| panic!("{handler} gets away with {scenario}")))
}

#[test]
fn a_hang_is_reported_with_the_place_and_what_the_handler_thinks() {
    let Some(hang) = goes_wrong("lost_install", "short-circuit", "hang") else { return };
    let hang = text(&hang);
    for word in ["guest, line ", "`write 0`", "S in handle_userfault", "does not serve it"] {
        assert!(hang.contains(word), "{word}: {hang}");
    }
}

#[test]
fn bytes_that_come_too_late_are_seen_in_what_is_read() {
    for handler in ["decided-early", "overlapping"] {
        let Some(objections) = goes_wrong("stale_source", handler, "stale") else {
            return;
        };
        let met = objections.iter().any(|objection| objection.class == "expectation");
        assert!(met, "{handler}:{}", text(&objections));
    }
}

#[test]
fn what_is_about_another_kernel_is_refused_by_name() {
    let refused = |lines: &str| {
        let text = format!("faultbed scenario 1\nname x\nmemory 2 pages\n{lines}");
        let setup = sim::scenario::parse("x", &text).expect("a scenario");
        only_simulated(&setup).unwrap_or_else(|| panic!("{lines:?} is not refused"))
    };
    assert!(refused("profile 5.7\ntask t\n  read 0\n").contains("`profile` and `bugs`"));
    assert!(refused("bugs Z5\ntask t\n  read 0\n").contains("`profile` and `bugs`"));
    assert!(refused("task t\n  read 0\n  close\n").contains("line 6, `close`"));
    assert!(refused("room 100000\ntask t\n  read 0\n").contains("more than"));
}
