//! Shrinking: small, minimal, and still the same failure.

use std::sync::Arc;

use faultbed::campaign::{Campaign, show};
use faultbed::catalogue;
use faultbed::shard::Shard;
use faultbed::shrink::shrink;
use handler::Policy;
use sim::explore::Strategy;
use sim::schedule::Schedule;
use sim::shrink::{Effort, runs};

/// One failing schedule of each scenario in which the wrong handler fails.
fn failures(seed: u64) -> Vec<Schedule> {
    let campaign = Campaign {
        setups: catalogue::all().into_iter().map(|entry| Arc::new(entry.setup)).collect(),
        handler: "short-circuit".to_owned(),
        policy: Policy::short_circuit(),
        seed,
        strategy: Strategy::Portfolio,
        schedules: 20_000,
        jobs: 1,
        shard: Shard::WHOLE,
        keep_going: true,
    };
    campaign.run(|_| true).found.into_iter().map(|found| found.schedule).collect()
}

#[test]
fn shrunk_schedules_are_short_and_fail_in_the_same_way() {
    let mut sizes = Vec::new();
    for schedule in failures(1).iter().chain(&failures(2)) {
        let name = &schedule.setup.name;
        let shrunk = shrink(schedule, &Policy::short_circuit(), Effort::default())
            .unwrap_or_else(|| panic!("{name}: the schedule fails"));
        assert!(shrunk.minimal, "{name}");
        let again = show(&shrunk.schedule, Policy::short_circuit());
        assert!(again.report.exact(), "{name}: the schedule is that of a run");
        assert_eq!(again.outcome.digest, shrunk.schedule.digest, "{name}");
        let class = again.outcome.failure.map(|failure| failure.class().to_owned());
        assert_eq!(class, schedule.fails, "{name}");
        // The file says all of it.
        let text = shrunk.schedule.to_string();
        let parsed = Schedule::parse("shrunk", &text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(show(&parsed, Policy::short_circuit()).timeline, again.timeline);
        sizes.push((runs(&shrunk.schedule.steps).count(), name.clone()));
    }
    sizes.sort();
    assert!(sizes.len() >= 8, "{sizes:?}");
    let (longest, median) = (sizes[sizes.len() - 1].0, sizes[sizes.len() / 2].0);
    assert!(longest <= 15 && median <= 10, "{sizes:?}");
}

/// Conditions of a scenario are easily broken by leaving out what they are about.
#[test]
fn a_condition_of_the_scenario_is_not_broken_by_shrinking() {
    for (handler, scenario) in
        [("overlapping", "remove_after_read"), ("decided-early", "remove_many_parts")]
    {
        let policy = Policy::by_name(handler).expect("a handler");
        let campaign = Campaign {
            setups: vec![Arc::new(catalogue::find(scenario).expect("a scenario").setup)],
            handler: handler.to_owned(),
            policy: policy.clone(),
            seed: 1,
            strategy: Strategy::Portfolio,
            schedules: 20_000,
            jobs: 1,
            shard: Shard::WHOLE,
            keep_going: false,
        };
        let found = campaign.run(|_| true).found;
        let schedule = &found.first().unwrap_or_else(|| panic!("{handler} survives")).schedule;
        let shrunk = shrink(schedule, &policy, Effort::default()).expect("it fails");
        let setup = Arc::new(shrunk.schedule.setup.clone());
        let campaign =
            Campaign { setups: vec![setup], policy: Policy::default(), schedules: 500, ..campaign };
        assert!(campaign.run(|_| true).found.is_empty(), "{}", shrunk.schedule);
    }
}

#[test]
fn what_is_minimal_does_not_shrink_any_more() {
    for schedule in failures(3).iter().take(3) {
        let once = shrink(schedule, &Policy::short_circuit(), Effort::default()).unwrap();
        let twice = shrink(&once.schedule, &Policy::short_circuit(), Effort::default()).unwrap();
        assert_eq!(once.schedule.to_string(), twice.schedule.to_string());
    }
}

#[test]
fn what_does_not_fail_is_not_shrunk() {
    let mut schedule = failures(1).swap_remove(0);
    assert_eq!(shrink(&schedule, &Policy::default(), Effort::default()), None);
    schedule.fails = Some("stale".to_owned());
    assert_eq!(shrink(&schedule, &Policy::short_circuit(), Effort::default()), None);
    schedule.fails = None;
    assert_eq!(shrink(&schedule, &Policy::short_circuit(), Effort::default()), None);
}
