//! A run as a trace in the JSON format of Chrome, which Perfetto opens: a track for every actor,
//! counters for the userfaultfd. Owns the encoding; a step lasts a microsecond.

use serde_json::{Value, json};
use sim::report::{Kind, Story};
use sim::schedule::Schedule;

/// The trace of `story`.
pub(super) fn trace(schedule: &Schedule, story: &Story) -> String {
    let mut events: Vec<Value> = Vec::new();
    let process = |kind: Kind| match kind {
        Kind::Task => 1,
        Kind::Handler => 2,
        Kind::Clock => 3,
    };
    for (pid, name) in [(1, "monitored process"), (2, "handler"), (3, "time"), (4, "userfaultfd")] {
        events.push(
            json!({ "ph": "M", "name": "process_name", "pid": pid, "args": { "name": name } }),
        );
    }
    for (tid, actor) in story.actors.iter().enumerate() {
        events.push(json!({
            "ph": "M", "name": "thread_name", "pid": process(actor.kind), "tid": tid,
            "args": { "name": actor.name },
        }));
        events.push(json!({
            "ph": "M", "name": "thread_sort_index", "pid": process(actor.kind), "tid": tid,
            "args": { "sort_index": tid },
        }));
    }
    let end = story.scenes.len();
    for (i, scene) in story.scenes.iter().enumerate() {
        let pid = process(story.actors[scene.actor].kind);
        events.push(json!({
            "ph": "X", "name": scene.what, "ts": i, "dur": 1, "pid": pid, "tid": scene.actor,
            "args": {
                "step": i + 1,
                "rule": scene.rule.map(|rule| format!("{}: {}", rule.id, rule.says)),
                "pages": scene.pages.iter()
                    .map(|page| format!("{} / {}", page.words, page.state))
                    .collect::<Vec<_>>(),
            },
        }));
        // Asleep until its next step, or for ever.
        if scene.what.starts_with("sleep on ") || scene.what.ends_with(", sleep") {
            let wakes = story.scenes[i + 1..].iter().position(|later| later.actor == scene.actor);
            // One that begins with the last step is to be seen as well.
            let until = wakes.map_or(end + 1, |after| i + 1 + after);
            events.push(json!({
                "ph": "X", "name": if wakes.is_some() { "asleep" } else { "asleep for ever" },
                "ts": i + 1, "dur": until - (i + 1), "pid": pid, "tid": scene.actor,
            }));
        }
        let queues = scene.queues;
        events.push(json!({
            "ph": "C", "name": "faults", "ts": i, "pid": 4,
            "args": { "unread": queues.unread, "taken": queues.taken },
        }));
        events.push(json!({
            "ph": "C", "name": "events", "ts": i, "pid": 4,
            "args": { "unread": queues.events },
        }));
        events.push(json!({
            "ph": "C", "name": "mmap_changing", "ts": i, "pid": 4,
            "args": { "changing": queues.changing },
        }));
    }
    if let Some(failure) = &story.outcome.failure {
        events.push(json!({
            "ph": "i", "s": "g", "name": failure.class(), "ts": end, "pid": 1, "tid": 0,
            "args": { "what": failure.to_string() },
        }));
    }
    let trace = json!({
        "traceEvents": events,
        "displayTimeUnit": "ns",
        "otherData": {
            "scenario": schedule.setup.name,
            "handler": schedule.handler,
            "digest": format!("{:016x}", schedule.digest),
        },
    });
    format!("{trace}\n")
}
