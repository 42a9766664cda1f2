//! Which test holds which rule: `docs/rules.md` is generated from the names of the tests, and a
//! rule that no test names fails here unless its reason stands in [`UNTESTED`].
//!
//! A test cites a rule by its name (`v36_e21_a_page_moves`, every part up to the first that is no
//! id) or by a line `/// Rules: a11, d3, v2.6.1` above it. The recorded cases of mappings are
//! rules, too: each has a test by its name. With `FAULTBED_WRITE=1` the file is written, otherwise
//! it is compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Where tests are looked for, and what a reader calls the place.
const PLACES: &[(&str, &str)] = &[
    ("tests/suite", "suite"),
    ("tests/conformance", "conformance"),
    ("tests/selftests", "selftests"),
    ("sim/src/vma/tests", "vma"),
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
    ("vma.md", "Rules v: mappings"),
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
    ("vmi_prealloc_fail", "an allocation never fails here (Divergence from Linux)"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `a11`, `h3`, `V36`, `Z5`: in one shape, however it was written. `F3` and `E4` are steps, and
/// `v2.6.1` is a rule of mappings.
fn id(word: &str) -> Option<String> {
    if let Some(numbers) = word.strip_prefix("v2.") {
        let plain = |part: &str| part.parse::<u32>().is_ok_and(|number| number.to_string() == part);
        return numbers.split('.').all(plain).then(|| word.to_owned());
    }
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
fn key(id: &str) -> (String, Vec<u32>) {
    let (head, numbers) = id.split_at(1);
    let number = |part: &str| part.parse().expect("an id ends in numbers");
    (head.to_owned(), numbers.split('.').map(number).collect())
}

/// The rules that a test's name begins with.
fn cited_by_name(name: &str) -> Vec<String> {
    name.split('_').map_while(id).collect()
}

/// The rules that a `Rules:` line lists.
fn cited_by_line(line: &str) -> Vec<String> {
    let Some(list) = line.trim().strip_prefix("/// Rules:") else { return Vec::new() };
    list.split([',', ' ']).filter_map(|word| id(word.trim_end_matches('.'))).collect()
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
        if id.contains('.') && !line.starts_with('|') {
            // A paragraph or an item of a list: its first clause.
            let text = line.rsplit_once(&format!("**{id}** ")).map_or(line, |(_, text)| text);
            let clause = text.split([':', ';', '(']).next().unwrap_or_default();
            let clause = clause.split(". ").next().unwrap_or_default().trim_end_matches('.');
            rules.push((id, clause.trim().to_owned()));
            continue;
        }
        let title = match line.split_once(" | ") {
            // A row of a table.
            Some((_, rest)) => {
                let (first, second) = rest.split_once(" | ").unwrap_or((rest, ""));
                let more =
                    second.split(" | ").next().filter(|_| id.contains('.') && first.len() < 8);
                more.map_or(first.to_owned(), |more| format!("{first}, {more}"))
            }
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

/// The recorded cases of mappings: name and what it is.
fn cases() -> Vec<(String, String)> {
    let text = read(&root().join("docs/kernel/vma.md"));
    let row = |line: &str| {
        let (name, rest) = line.strip_prefix("| <a id=\"case-")?.split_once('"')?;
        let what = rest.split(" | ").nth(1).unwrap_or_default();
        Some((name.to_owned(), what.trim_end_matches(['|', ' ']).to_owned()))
    };
    text.lines().filter_map(row).collect()
}

/// The tests of the files in which the recorded cases are.
fn tests_of_cases() -> Vec<String> {
    let mut found = Vec::new();
    for module in ["kernel_cases", "merge_cases"] {
        let source = read(&root().join(format!("sim/src/vma/tests/{module}.rs")));
        found.extend(tests_of(&source).into_iter().map(|(name, _)| format!("{module}::{name}")));
    }
    found
}

/// Does that test hold that case?
fn holds_case(test: &str, case: &str) -> bool {
    let rest = test.split_once("::").and_then(|(_, name)| name.strip_prefix(case));
    let recorded = case.as_bytes()[1].is_ascii_digit();
    rest.is_some_and(|rest| rest.is_empty() || (recorded && rest.starts_with('_')))
}

/// The table of the cases, and those without a test or a reason.
fn case_table(missing: &mut Vec<String>) -> String {
    let tests = tests_of_cases();
    let mut text = String::from("\n## Cases of mappings\n\n| case | | test |\n|---|---|---|\n");
    for (case, what) in cases() {
        let test = tests.iter().find(|test| holds_case(test, &case));
        let holds = match (test, UNTESTED.iter().find(|(known, _)| *known == case)) {
            (Some(test), _) => format!("`vma::{test}`"),
            (None, Some((_, why))) => format!("none: {why}"),
            (None, None) => {
                missing.push(case.clone());
                "none".to_owned()
            }
        };
        let _ = writeln!(text, "| [{case}](kernel/vma.md#case-{case}) | {what} | {holds} |");
    }
    text
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
         kernel, `vma` on the layer of mappings alone.\n",
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
    text.push_str(&case_table(&mut missing));
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
    let rules = FILES.iter().flat_map(|(file, _)| rules_of(file));
    let known: BTreeSet<_> = rules.chain(cases()).map(|(id, _)| id).collect();
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
fn every_recorded_case_is_in_the_table() {
    let cases = cases();
    assert!(cases.len() > 40, "only {} cases were found", cases.len());
    for test in tests_of_cases() {
        let name = test.split("::").nth(1).unwrap_or_default().as_bytes();
        let recorded = matches!(name, [b'p' | b'q', digit, ..] if digit.is_ascii_digit());
        let listed = cases.iter().any(|(case, _)| holds_case(&test, case));
        assert!(listed || !(recorded || test.starts_with("merge_cases")), "{test} is not listed");
    }
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
        assert_eq!(id("v2.10.3").as_deref(), Some("v2.10.3"));
        for word in ["v2.", "v2.x", "v2.01", "v2.1.", "v3.1", "v2.+1"] {
            assert_eq!(id(word), None, "{word}");
        }
    }

    #[test]
    fn of_mappings_have_more_numbers() {
        assert_eq!(cited_by_line("/// Rules: v2.6.1, v2.10.3."), ["v2.6.1", "v2.10.3"]);
        assert!(key("v2.9.1") < key("v2.10.1") && key("v2.2.9") < key("v2.2.10"));
        assert!(holds_case("kernel_cases::p10_a_move", "p10"));
        assert!(!holds_case("kernel_cases::p10b_a_move", "p10"));
        assert!(!holds_case("merge_cases::vma_merge_with_close", "vma_merge"));
    }
}
