//! Scenarios and schedules as text: round trips and errors.

use faultbed::catalogue;
use proptest::prelude::*;
use sim::scenario;
use sim::schedule::{Schedule, Step};

#[test]
fn a_built_in_scenario_prints_as_a_file_that_parses_to_the_same_scenario() {
    for entry in catalogue::all() {
        let printed = entry.setup.to_string();
        let again = scenario::parse(entry.key, &printed)
            .unwrap_or_else(|error| panic!("{error}\n{printed}"));
        assert_eq!(again.to_string(), printed, "{}", entry.key);
        assert_eq!(again.programs.len(), entry.setup.programs.len());
        for (one, other) in again.programs.iter().zip(&entry.setup.programs) {
            assert_eq!((&one.name, &one.ops), (&other.name, &other.ops), "{}", entry.key);
        }
    }
}

#[test]
fn every_scenario_file_is_in_the_catalogue() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("sim/catalogue");
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name"))
        .collect();
    files.sort();
    let mut listed: Vec<_> = catalogue::FILES.iter().map(|(key, _)| format!("{key}.fbs")).collect();
    listed.sort();
    assert_eq!(files, listed);
}

fn schedule(handler: String, seed: u64, walk: u64, steps: Vec<(String, String)>) -> Schedule {
    let setup = catalogue::find("lost_install").expect("a built-in scenario").setup;
    let steps = steps.into_iter().map(|(actor, what)| Step { actor, what }).collect();
    let fails = seed.is_multiple_of(2).then(|| "hang".to_owned());
    Schedule { handler, seed, walk, fails, digest: seed ^ walk, setup, steps }
}

proptest! {
    #[test]
    fn a_schedule_round_trips(
        handler in "[a-z][a-z-]{0,12}",
        seed: u64,
        walk: u64,
        steps in prop::collection::vec(("[a-z][a-z0-9-]{0,8}", "[a-z][a-z0-9 ,()=.:]{0,20}[a-z]"), 0..20),
    ) {
        let one = schedule(handler, seed, walk, steps);
        let text = one.to_string();
        let parsed = Schedule::parse("x", &text).unwrap();
        prop_assert_eq!(parsed.to_string(), text);
        prop_assert_eq!(parsed.steps, one.steps);
    }

    #[test]
    fn no_text_makes_the_parsers_panic(text in "[ -~\n]{0,200}") {
        let _ = Schedule::parse("x", &text);
        let _ = scenario::parse("x", &text);
        let _ = scenario::parse("x", &format!("faultbed scenario 1\nname x\nmemory 4 pages\n{text}"));
        let _ = scenario::parse("x", &format!("faultbed scenario 1\nname x\nmemory 4 pages\ntask t\n  {text}"));
    }
}

#[test]
fn a_malformed_schedule_is_refused_with_the_place() {
    let good = schedule("default".into(), 1, 2, vec![("guest".into(), "begin".into())]).to_string();
    let error = |text: &str| Schedule::parse("s.schedule", text).unwrap_err().to_string();
    assert_eq!(error(""), "s.schedule:1:1: expected `faultbed schedule 1`");
    assert_eq!(
        error(&good.replace("seed      1", "seed      one")),
        "s.schedule:3:11: expected a seed, found `one`"
    );
    assert_eq!(
        error(&good.replace("guest: begin", "guest begin")),
        format!(
            "s.schedule:{}:1: expected `ACTOR: WHAT`, found `guest begin`",
            good.lines().position(|line| line == "guest: begin").unwrap() + 1
        )
    );
    // An error inside the scenario is reported at its line of the schedule file.
    let line = good.lines().position(|line| line.contains("dontneed")).unwrap() + 1;
    let broken = good.replacen("dontneed 0..1", "dontneed 0..9", 1);
    assert!(
        error(&broken).starts_with(&format!("s.schedule:{line}:12: `0..9` reaches beyond")),
        "{}",
        error(&broken)
    );
    let cut = good.split("== schedule ==").next().unwrap();
    assert!(error(cut).ends_with("expected a line `== schedule ==` before the end of the file"));
}
