//! Which test holds which rule: `docs/rules.md` is generated from the names of the tests, and a
//! rule that no test names fails here unless its reason stands in [`UNTESTED`].
//!
//! A test cites a rule by its name (`v36_e21_a_page_moves`, every part up to the first that is no
//! id) or by a line `/// Rules: a11, d3` above it. With `FAULTBED_WRITE=1` the file is written,
//! otherwise it is compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Where tests are looked for, and what a reader calls the place.
const PLACES: &[(&str, &str)] = &[
    ("tests/suite", "suite"),
    ("tests/conformance", "conformance"),
    ("tests/selftests", "selftests"),
];

/// Its examples look like tests and are none.
const SELF: &str = "rule_index";

/// The files that hold rules, with the letter of each.
const FILES: &[(&str, &str)] = &[
    ("README.md", "The steps of a fault (F) and of an event (E)"),
    ("lifecycle.md", "Rules a: the life of a descriptor"),
    ("registration.md", "Rules b: registration"),
    ("faults.md", "Rules c: faults"),
    ("events.md", "Rules d: events"),
    ("resolving.md", "Rules e: resolving"),
    ("memory-types.md", "Rules f: memory types"),
    ("versions.md", "Rules h: versions"),
    ("bugs.md", "Bugs Z"),
    ("measured.md", "Measurements V"),
];

/// Rules that no test names, and why.
const UNTESTED: &[(&str, &str)] = &[
    (
        "b4",
        "a failed call has no reply here, by its type; for one that cannot be written a program with \
         a structure of its own was run",
    ),
    ("b11", "page tables are not shared here"),
    ("h10", "MOVE goes page by page here, and the results are the same"),
    ("h12", "what a kernel does about its own inconsistencies no program can bring about"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `a11`, `h3`, `V36`, `Z5`: in one shape, however it was written. `F3` and `E4` are steps.
fn id(word: &str) -> Option<String> {
    if let [b'E' | b'F', b'1'..=b'5'] = word.as_bytes() {
        return Some(word.to_owned());
    }
    let head = word.chars().next()?;
    let digits = &word[head.len_utf8()..];
    let number: u32 = digits.parse().ok()?;
    let plain = !digits.starts_with(['0', '+']) && number < 100;
    let head = match head {
        'a'..='f' | 'h' => head,
        'v' | 'V' => 'V',
        'z' | 'Z' => 'Z',
        _ => return None,
    };
    plain.then(|| format!("{head}{number}"))
}

/// How rules are ordered: by letter, then by number.
fn key(id: &str) -> (String, u32) {
    let (head, digits) = id.split_at(1);
    (head.to_owned(), digits.parse().expect("an id ends in a number"))
}

/// The rules that a test's name begins with.
fn cited_by_name(name: &str) -> Vec<String> {
    name.split('_').map_while(id).collect()
}

/// The rules that a `Rules:` line lists.
fn cited_by_line(line: &str) -> Vec<String> {
    let Some(list) = line.trim().strip_prefix("/// Rules:") else { return Vec::new() };
    list.split([',', '.', ' ']).filter(|word| !word.is_empty()).filter_map(id).collect()
}

/// The tests of a source, each with the rules it cites.
fn tests_of(source: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    let (mut listed, mut marked) = (Vec::new(), false);
    for line in source.lines() {
        let code = line.trim();
        if code.starts_with("///") {
            listed.extend(cited_by_line(code));
        } else if code.starts_with("#[") {
            marked |= code == "#[test]";
        } else {
            if marked && let Some(rest) = code.strip_prefix("fn ") {
                let name = rest.split('(').next().unwrap_or_default().to_owned();
                let mut rules = cited_by_name(&name);
                rules.append(&mut listed);
                found.push((name, rules));
            }
            listed.clear();
            marked = false;
        }
    }
    found
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let mut entries: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// Every test that cites a rule, by rule.
fn tests() -> BTreeMap<String, Vec<String>> {
    let mut by_rule: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (folder, place) in PLACES {
        let mut files = Vec::new();
        rust_files(&root().join(folder), &mut files);
        for file in files {
            let module = file.file_stem().and_then(|stem| stem.to_str()).expect("a plain name");
            if module == SELF {
                continue;
            }
            for (name, rules) in tests_of(&read(&file)) {
                let rules: BTreeSet<_> = rules.into_iter().collect();
                for rule in rules {
                    by_rule.entry(rule).or_default().push(format!("{place}::{module}::{name}"));
                }
            }
        }
    }
    by_rule
}

/// The rules of a document in its order: id and title.
fn rules_of(file: &str) -> Vec<(String, String)> {
    let text = read(&root().join("docs/kernel").join(file));
    let mut rules = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(anchor) = line.split("<a id=\"").nth(1).and_then(|rest| rest.split('"').next())
        else {
            continue;
        };
        let Some(id) = id(anchor.strip_prefix("step-").unwrap_or(anchor)) else { continue };
        if let Some((_, step)) = line.split_once("** ").filter(|_| anchor.starts_with("step-")) {
            // A step of the model: its first clause.
            let clause = step.split([':', '.', ';']).next().unwrap_or_default();
            rules.push((id, clause.to_owned()));
            continue;
        }
        let title = match line.split_once(" | ") {
            // A row of a table.
            Some((_, rest)) => rest.split(" | ").next().unwrap_or_default().to_owned(),
            None => {
                let heading = lines.next().unwrap_or_default();
                let prefix = format!("### {anchor}. ");
                heading.strip_prefix(&prefix).unwrap_or(heading).to_owned()
            }
        };
        rules.push((id, title));
    }
    rules
}

/// The whole of `docs/rules.md`, and the rules without a test or a reason.
fn index() -> (String, Vec<String>) {
    let tests = tests();
    let mut missing = Vec::new();
    let mut text = String::from(
        "# Which test holds which rule\n\n\
         Generated from the names of the tests by `tests/suite/rule_index.rs` \
         (`FAULTBED_WRITE=1 cargo test --test suite rule_index`); do not edit. `suite` runs on the \
         simulator alone, `conformance` the same body on the simulator and on the running \
         kernel.\n",
    );
    for (file, heading) in FILES {
        let _ = writeln!(text, "\n## {heading}\n\n| rule | | tests |\n|---|---|---|");
        let mut rules = rules_of(file);
        rules.sort_by_key(|(id, _)| key(id));
        for (id, title) in rules {
            let holds = match (tests.get(&id), UNTESTED.iter().find(|(known, _)| *known == id)) {
                (Some(names), _) => {
                    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
                    names.join("<br>")
                }
                (None, Some((_, why))) => format!("none: {why}"),
                (None, None) => {
                    missing.push(id.clone());
                    "none".to_owned()
                }
            };
            let step = if id.starts_with(['E', 'F']) { "step-" } else { "" };
            let _ = writeln!(text, "| [{id}](kernel/{file}#{step}{id}) | {title} | {holds} |");
        }
    }
    (text, missing)
}

#[test]
fn every_rule_is_held_by_a_test_or_says_why_not() {
    let (_, missing) = index();
    assert!(
        missing.is_empty(),
        "no test names {missing:?}: name one after the rule, cite the rule in a `/// Rules:` line, \
         or put the reason into UNTESTED"
    );
}

#[test]
fn no_reason_is_kept_for_a_rule_that_has_a_test() {
    let tests = tests();
    let known: BTreeSet<_> =
        FILES.iter().flat_map(|(file, _)| rules_of(file)).map(|(id, _)| id).collect();
    for (id, why) in UNTESTED {
        assert!(!why.is_empty() && known.contains(*id), "{id} is no rule");
        assert!(!tests.contains_key(*id), "{id} has a test now: {:?}", tests[*id]);
    }
}

#[test]
fn no_test_names_a_rule_that_is_not_there() {
    let known: BTreeSet<_> =
        FILES.iter().flat_map(|(file, _)| rules_of(file)).map(|(id, _)| id).collect();
    assert!(known.len() > 200, "only {} rules were found", known.len());
    let unknown: Vec<_> = tests().into_iter().filter(|(id, _)| !known.contains(id)).collect();
    assert!(unknown.is_empty(), "no such rule in docs/kernel/: {unknown:?}");
}

#[test]
fn the_index_of_tests_is_up_to_date() {
    let path = root().join("docs/rules.md");
    let (text, _) = index();
    if std::env::var_os("FAULTBED_WRITE").is_some() {
        fs::write(&path, &text).expect("docs/rules.md can be written");
        return;
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    let first = there.lines().zip(text.lines()).find(|(old, new)| old != new);
    assert!(
        there == text,
        "docs/rules.md is out of date (FAULTBED_WRITE=1 writes it); first difference: {first:?}"
    );
}

mod citations {
    use super::*;

    #[test]
    fn are_the_first_parts_of_a_name_and_the_lines_that_list_rules() {
        let source = "\
/// A story.
/// Rules: b2, b14.
#[test]
fn v36_e21_a_page_moves() {}
fn a1_a_helper() {}
/// Rules: c1
fn helper() {}
#[test]
#[ignore]
fn z5_h12_a_gate_a3() {
";
        let owned = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        let expected = vec![
            ("v36_e21_a_page_moves".to_owned(), owned(&["V36", "e21", "b2", "b14"])),
            ("z5_h12_a_gate_a3".to_owned(), owned(&["Z5", "h12"])),
        ];
        assert_eq!(tests_of(source), expected);
    }

    #[test]
    fn are_nothing_else() {
        for word in
            ["E6", "F0", "F12", "a", "a0", "a01", "a100", "g3", "no", "f16x", "1a", "é1", ""]
        {
            assert_eq!(id(word), None, "{word}");
        }
        assert_eq!(id("v7").as_deref(), Some("V7"));
        assert_eq!(id("F3").as_deref(), Some("F3"));
    }
}
