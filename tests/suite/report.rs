//! What a failure leaves behind: a page, a trace, a test. And the gallery, which is made of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use faultbed::campaign::{Campaign, show};
use faultbed::catalogue;
use faultbed::report::{files, story};
use faultbed::shard::Shard;
use faultbed::shrink::shrink;
use handler::Policy;
use sim::explore::Strategy;
use sim::schedule::Schedule;
use sim::shrink::Effort;

/// The failure of `handler` in `scenario`, shrunk.
fn failure(handler: &str, scenario: &str) -> Schedule {
    let policy = Policy::by_name(handler).expect("a handler");
    let campaign = Campaign {
        setups: vec![Arc::new(catalogue::find(scenario).expect("a scenario").setup)],
        handler: handler.to_owned(),
        policy: policy.clone(),
        seed: 1,
        strategy: Strategy::Portfolio,
        schedules: 200_000,
        jobs: 1,
        shard: Shard::WHOLE,
        keep_going: false,
    };
    let report = campaign.run(|_| true);
    let found = report.found.first().unwrap_or_else(|| panic!("{handler} survives {scenario}"));
    shrink(&found.schedule, &policy, Effort::default()).expect("it fails").schedule
}

fn file(schedule: &Schedule, policy: &Policy, ending: &str) -> String {
    let files = files(schedule, policy, "lost-install-hang-1");
    files.into_iter().find(|(name, _)| *name == ending).expect("there is one").1
}

#[test]
fn the_page_fetches_nothing_and_tells_everything() {
    let policy = Policy::short_circuit();
    let schedule = failure("short-circuit", "lost_install");
    let page = file(&schedule, &policy, "html");
    for outside in ["http:", "https:", "src=", "href=", "<script", "url(", "@import"] {
        assert!(!page.contains(outside), "the page refers to something outside: {outside}");
    }
    let story = story(&schedule, &policy);
    for scene in &story.scenes {
        let what = scene.what.replace('&', "&amp;").replace('<', "&lt;");
        assert!(page.contains(&what), "{what}");
        if let Some(rule) = scene.rule {
            assert!(page.contains(rule.says), "{}", rule.id);
        }
    }
    assert!(page.contains("HANG: guest sleeps on a write of page 0"));
    assert!(page.contains("here it fails"));
    // What a person is to look at: where the records part from the page table, and the sleeper.
    let turns = story.turns();
    let says = |words: &str| turns.iter().find(|turn| turn.says.contains(words));
    let parted = says("the kernel has no page 0, and the handler says dirty").expect("it does");
    assert!(parted.what.starts_with("zap page 0") && parted.actor == "balloon", "{parted:?}");
    let last = says("which is never woken").expect("somebody sleeps");
    assert!(last.actor == "guest" && last.step > parted.step, "{last:?}");
    assert!(says("and does nothing").is_some_and(|took| took.step > last.step), "{turns:?}");
    for turn in &turns {
        assert!(page.contains(&format!("<li value=\"{}\">", turn.step)), "{turn:?}");
    }
    // A sheet of paper is narrow, and has lanes with names all the same.
    for query in page.split("@media").skip(1) {
        let (medium, _) = query.split_once('{').expect("a query has a block");
        assert!(
            [" screen and (max-width:760px)", " print"].contains(&medium.trim_end()),
            "{query}"
        );
    }
    // The rule of the window is one of those it meets.
    assert!(story.rules().iter().any(|rule| rule.id == "E5"));
}

#[test]
fn the_trace_is_json_with_a_track_for_every_actor() {
    let schedule = failure("short-circuit", "lost_install");
    let trace = file(&schedule, &Policy::short_circuit(), "trace.json");
    let trace: serde_json::Value = serde_json::from_str(&trace).expect("JSON");
    let events = trace["traceEvents"].as_array().expect("a list of events");
    let count = |ph: &str| events.iter().filter(|event| event["ph"] == ph).count();
    let story = story(&schedule, &Policy::short_circuit());
    let asleep = events.iter().filter(|e| e["name"].as_str().unwrap().starts_with("asleep"));
    assert_eq!(count("X"), story.scenes.len() + asleep.count());
    assert_eq!(count("C"), 3 * story.scenes.len());
    assert!(events.iter().any(|event| event["name"] == "asleep for ever"));
    let threads = events.iter().filter(|event| event["name"] == "thread_name").count();
    assert_eq!(threads, story.actors.len());
    // On a track, what begins later has ended before, or lies within.
    let named: Vec<_> = events.iter().filter(|event| event["name"] == "thread_name").collect();
    let mut ends: std::collections::BTreeMap<String, Vec<u64>> = std::collections::BTreeMap::new();
    for event in events.iter().filter(|event| event["ph"] == "X") {
        let (start, long) = (event["ts"].as_u64().unwrap(), event["dur"].as_u64().unwrap());
        let track = |other: &&serde_json::Value| {
            other["tid"] == event["tid"] && other["pid"] == event["pid"]
        };
        assert!(named.iter().copied().any(|name| track(&name)), "{event}");
        let open = ends.entry(format!("{} {}", event["pid"], event["tid"])).or_default();
        open.retain(|end| *end > start);
        assert!(open.iter().all(|end| start + long <= *end), "{event}");
        open.push(start + long);
        // Whoever sleeps for ever does so beyond the last step, and is to be seen if it was his.
        if event["name"] == "asleep for ever" {
            assert_eq!(start + long, story.scenes.len() as u64 + 1);
        }
    }
}

#[test]
fn the_test_is_a_test() {
    let schedule = failure("short-circuit", "lost_install");
    let test = file(&schedule, &Policy::short_circuit(), "rs");
    // What is pasted below compiles and passes; this is what is generated, but for the schedule.
    let here = include_str!("report.rs");
    let (head, rest) = test.split_once("const SCHEDULE").expect("it carries its schedule");
    let pasted = here.split(concat!("// Past", "ed:\n")).nth(1).expect("it is pasted below");
    assert!(pasted.starts_with(head), "{head}");
    let text = rest.split("\"#;\n").next().unwrap().split_once("r#\"").unwrap().1;
    assert_eq!(text, schedule.to_string());
    // One dependency is enough for it.
    for other in ["sim::", "handler::", "shims::"] {
        assert!(!head.contains(other), "{head}");
    }
}

/// What is pasted objects to a handler that does not survive.
#[test]
#[should_panic(expected = "HANG: guest sleeps on a write of page 0")]
fn the_test_would_fail() {
    const SCHEDULE: &str = include_str!("../../docs/gallery/b1-lost-install.schedule");
    faultbed::replay::assert_survives("short-circuit", SCHEDULE);
}

/// The gallery: the schedules of `docs/gallery` fail as they say, with the handler they name, and
/// not with the default one.
#[test]
fn the_gallery_shows_failures_that_are_real() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/gallery");
    let mut schedules: Vec<PathBuf> = std::fs::read_dir(&dir)
        .expect("there is a gallery")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "schedule"))
        .collect();
    schedules.sort();
    assert!(schedules.len() >= 3, "{schedules:?}");
    for path in schedules {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(&path).expect("a schedule is text");
        let schedule = Schedule::parse(&name, &text).unwrap_or_else(|error| panic!("{error}"));
        let policy = Policy::by_name(&schedule.handler).expect("a handler");
        let outcome = show(&schedule, policy).outcome;
        let class = outcome.failure.as_ref().map(|failure| failure.class().to_owned());
        assert_eq!(class, schedule.fails, "{name}");
        let cured = show(&schedule, Policy::default()).outcome;
        assert_eq!(cured.failure, None, "{name}");
        let page = std::fs::read_to_string(path.with_extension("html"))
            .unwrap_or_else(|error| panic!("{name} has no page: {error}"));
        assert!(page.contains(&schedule.steps.last().expect("it has steps").what), "{name}");
        // What a person is to look at tells the whole of it, in the order in which it happened.
        let turns = story(&schedule, &Policy::by_name(&schedule.handler).unwrap()).turns();
        let told: &[&str] = match schedule.fails.as_deref() {
            Some("hang") => &[
                "its zap is still to come",
                "the kernel has no page 0, and the handler says dirty",
                "which is never woken",
                "and does nothing: it takes the page for dirty",
            ],
            _ => &[
                "it brings the bytes of the source",
                "the handler is told that the page goes",
                "from here on nobody may see the bytes",
                "this is how source page 0 came into page 0",
                "the process finds them",
            ],
        };
        let says: Vec<&str> = turns.iter().map(|turn| turn.says.as_str()).collect();
        assert!(says.iter().any(|says| says.contains("the process gives page 0 up")), "{says:?}");
        let place = |words: &&str| says.iter().position(|says| says.contains(*words));
        let at: Vec<usize> = told.iter().filter_map(place).collect();
        assert!(at.is_sorted() && at.len() == told.len(), "{name}: {says:?}");
        assert!(turns.iter().all(|turn| page.contains(&turn.says)), "{name} is not of today");
    }
}

// Pasted:
/// The handler `short-circuit` fails on this schedule (hang). Found by `faultbed explore`.
#[test]
fn the_default_handler_survives_lost_install_hang_1() {
    faultbed::replay::assert_survives("default", SCHEDULE);

    const SCHEDULE: &str = include_str!("../../docs/gallery/b1-lost-install.schedule");
}
