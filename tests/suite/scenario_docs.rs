//! `docs/scenarios.md` against the parsers it describes: its examples are accepted, and it
//! names every word that the parsers know.

use sim::scenario;
use sim::schedule::Schedule;

fn document() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/scenarios.md");
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The fenced blocks whose first line is `header`, and which are no outlines.
fn examples(text: &str, header: &str) -> Vec<String> {
    let blocks = text.split("\n```").skip(1).step_by(2);
    blocks
        .filter_map(|block| block.strip_prefix('\n'))
        .filter(|block| block.lines().next() == Some(header) && !block.contains("\n..."))
        .map(str::to_owned)
        .collect()
}

/// Every word that stands in back-quotes or in a fenced block. A fence is three back-quotes,
/// an odd number, so it switches between prose and code as one does.
fn words_in_code(text: &str) -> std::collections::BTreeSet<&str> {
    let word_char = |c: char| c.is_alphanumeric() || c == '-' || c == '.';
    text.split('`')
        .skip(1)
        .step_by(2)
        .flat_map(|code| code.split(move |c| !word_char(c)))
        .filter(|word| !word.is_empty())
        .collect()
}

/// The error for `line` in the place of an operation, or of a word of the head.
fn refusal(line: &str) -> String {
    let text = format!("faultbed scenario 1\nname x\nmemory 4 pages\n{line}\n");
    scenario::parse("x", &text).expect_err("the line is nonsense").message
}

#[test]
fn the_examples_of_the_reference_are_accepted_and_round_trip() {
    let text = document();
    let scenarios = examples(&text, scenario::HEADER);
    assert!(!scenarios.is_empty(), "the reference shows no scenario");
    for example in scenarios {
        let setup =
            scenario::parse("docs/scenarios.md", &example).unwrap_or_else(|e| panic!("{e}"));
        let again =
            scenario::parse("printed", &setup.to_string()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(again.to_string(), setup.to_string());
    }
    let schedules = examples(&text, sim::schedule::HEADER);
    assert!(!schedules.is_empty(), "the reference shows no schedule");
    for example in schedules {
        let schedule =
            Schedule::parse("docs/scenarios.md", &example).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(schedule.to_string(), example.trim_end().to_owned() + "\n");
    }
}

#[test]
fn the_reference_names_every_word_that_a_scenario_may_use() {
    let text = document();
    let named = words_in_code(&text);
    let operations = refusal("task a\n  nonsense");
    let operations = operations.split(['(', ')']).nth(1).expect("the error lists the operations");
    assert!(operations.contains("dontneed"), "{operations}");
    for word in operations.split(", ") {
        let row = text.lines().any(|line| {
            let name = line.strip_prefix("| `").and_then(|rest| rest.split(['`', ' ']).next());
            name == Some(word)
        });
        assert!(row, "docs/scenarios.md has no row for the operation `{word}`");
    }
    for line in [
        "nonsense",
        "features nonsense",
        "profile nonsense",
        "task a\n  inject nonsense",
        "task a\n  mprotect 0 nonsense",
        "task a\n  read 0 -> nonsense",
        "finally\n  nonsense",
        "finally\n  page 0 nonsense",
        "finally\n  state 0 nonsense",
    ] {
        let message = refusal(line);
        let list = message.split(", found").next().expect("a split has a first part");
        let words =
            list.split(|c: char| !(c.is_alphanumeric() || c == '-' || c == '.')).filter(|word| {
                !matches!(
                    *word,
                    "" | "expected" | "or" | "one" | "of" | "an" | "such" | "as" | "errno"
                )
            });
        for word in words {
            assert!(named.contains(word), "docs/scenarios.md does not name `{word}`: {message}");
        }
    }
}

#[test]
fn the_reference_names_every_class_of_failure() {
    let text = document();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/sim/src/world/failure.rs");
    let source = std::fs::read_to_string(source).expect("the classes are there");
    let classes: Vec<&str> = source
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Failure::")?.split_once("=> \""))
        .filter_map(|(_, rest)| rest.strip_suffix("\","))
        .collect();
    assert!(classes.contains(&"hang") && classes.len() >= 11, "{classes:?}");
    for class in classes {
        assert!(text.contains(&format!("`{class}`")), "docs/scenarios.md does not name {class}");
    }
}
