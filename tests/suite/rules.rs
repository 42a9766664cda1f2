//! The sources cite the kernel's rules by id, and `docs/kernel/` is where a reader finds them.
//! Owns the check that every id cited in a comment leads somewhere, that every rule stands in
//! one place, and that the index knows it.
//!
//! `docs/kernel/vma.md` has ids of another shape (v2.3) and is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The folders whose comments are searched.
const SOURCES: &[&str] = &["sim", "shims", "handler"];
/// The files that hold rules; the index and the mapping rules are not among them.
const RULES: &[&str] = &[
    "lifecycle.md",
    "registration.md",
    "faults.md",
    "events.md",
    "resolving.md",
    "memory-types.md",
    "versions.md",
    "bugs.md",
];
const INDEX: &str = "userfaultfd.md";
/// Written in another scheme, and by its own rules.
const EXEMPT: &str = "vma.md";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn doc(name: &str) -> String {
    read(&root().join("docs/kernel").join(name))
}

/// Every `.rs` file below `dir`, in order of path; build output is no source.
fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                rust_files(&path, found);
            }
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// The comments of a Rust source, line by line, each with its line number from 1. A comment
/// mark inside a literal begins no comment, and a literal inside a comment is comment.
fn comments(source: &str) -> Vec<(usize, String)> {
    let chars: Vec<char> = source.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut found = Vec::new();
    let mut line = 1;
    let mut i = 0;
    while i < chars.len() {
        match at(i) {
            '\n' => {
                line += 1;
                i += 1;
            }
            '/' if at(i + 1) == '/' => {
                let end = (i..chars.len()).find(|&j| at(j) == '\n').unwrap_or(chars.len());
                found.push((line, chars[i..end].iter().collect()));
                i = end;
            }
            '/' if at(i + 1) == '*' => {
                let (mut depth, mut text) = (1, String::new());
                i += 2;
                while i < chars.len() && depth > 0 {
                    match (at(i), at(i + 1)) {
                        ('/', '*') => (depth, i) = (depth + 1, i + 2),
                        ('*', '/') => (depth, i) = (depth - 1, i + 2),
                        ('\n', _) => {
                            found.push((line, std::mem::take(&mut text)));
                            (line, i) = (line + 1, i + 1);
                        }
                        (c, _) => {
                            text.push(c);
                            i += 1;
                        }
                    }
                }
                found.push((line, text));
            }
            '"' => {
                // A raw string's hashes, and the `r`, stand before the quote.
                let hashes = chars[..i].iter().rev().take_while(|c| **c == '#').count();
                let raw = i > hashes && at(i - hashes - 1) == 'r';
                i += 1;
                while i < chars.len() {
                    line += usize::from(at(i) == '\n');
                    if raw {
                        let closes = at(i) == '"' && (1..=hashes).all(|n| at(i + n) == '#');
                        if closes {
                            break;
                        }
                    } else if at(i) == '\\' {
                        i += 1;
                        line += usize::from(at(i) == '\n');
                    } else if at(i) == '"' {
                        break;
                    }
                    i += 1;
                }
                i += 1;
            }
            // A character literal may hold a quote; a lifetime has no closing mark.
            '\'' if at(i + 1) == '\\' => {
                let end = (i + 3..chars.len()).find(|&j| at(j) == '\'');
                i = end.map_or(chars.len(), |j| j + 1);
            }
            '\'' if at(i + 2) == '\'' => i += 3,
            _ => i += 1,
        }
    }
    found
}

/// Is `word` shaped like a rule of the letters a to f, or a bug?
fn is_id(word: &str) -> bool {
    let (head, digits) = word.split_at(word.chars().next().map_or(0, char::len_utf8));
    matches!(head, "a" | "b" | "c" | "d" | "e" | "f" | "Z")
        && (1..=2).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && !digits.starts_with('0')
        && !matches!(word, "f16" | "f32" | "f64")
}

/// Two hexadecimal digits, one of them a figure: a byte of a dump, if it stands next to another.
fn is_byte(word: &str) -> bool {
    word.len() == 2
        && word.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        && word.bytes().any(|byte| byte.is_ascii_digit())
}

/// The rule ids that a comment cites, with their lines. Code, in back-quotes or in a fenced
/// block, cites nothing; neither do the bytes of a dump.
fn citations(comments: &[(usize, String)]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let (mut fenced, mut last) = (false, 0);
    for (line, text) in comments {
        // A fence ends with the comment it stands in.
        fenced &= *line == last + 1;
        last = *line;
        let text = text.trim_start_matches(['/', '!', '*', ' ']);
        if text.starts_with("```") {
            fenced = !fenced;
            continue;
        }
        if fenced {
            continue;
        }
        for (i, prose) in text.split('`').enumerate() {
            if i % 2 == 1 {
                continue;
            }
            let word_char = |c: char| c.is_alphanumeric() || c == '_';
            let spans: Vec<(usize, &str)> = prose
                .split(|c: char| !word_char(c))
                .map(|word| (word.as_ptr() as usize - prose.as_ptr() as usize, word))
                .filter(|(_, word)| !word.is_empty())
                .collect();
            for (n, &(at, word)) in spans.iter().enumerate() {
                if !is_id(word) {
                    continue;
                }
                let spaced = |(a, left): (usize, &str), b: usize| &prose[a + left.len()..b] == " ";
                let in_dump = n > 0 && is_byte(spans[n - 1].1) && spaced(spans[n - 1], at)
                    || spans
                        .get(n + 1)
                        .is_some_and(|&(next, right)| is_byte(right) && spaced((at, word), next));
                // `x.a1` is a field, `a1.5` a number of something else.
                let before = prose[..at].chars().next_back();
                let mut after = prose[at + word.len()..].chars();
                let part = before == Some('.')
                    && prose[..at - 1].chars().next_back().is_some_and(word_char)
                    || after.next() == Some('.') && after.next().is_some_and(word_char);
                if !in_dump && !part {
                    found.push((*line, word.to_owned()));
                }
            }
        }
    }
    found
}

/// The anchors of a document, in order.
fn anchors(text: &str) -> Vec<String> {
    text.split("<a id=\"")
        .skip(1)
        .map(|rest| rest.split('"').next().expect("a split has a first part").to_owned())
        .collect()
}

/// Where each rule stands: file by id. Panics if one stands in two places.
fn rules() -> BTreeMap<String, &'static str> {
    let mut found = BTreeMap::new();
    for &name in RULES {
        for id in anchors(&doc(name)) {
            if let Some(other) = found.insert(id.clone(), name) {
                panic!("docs/kernel: {id} stands in {other} and in {name}");
            }
        }
    }
    found
}

#[test]
fn every_rule_that_a_comment_cites_can_be_read() {
    let rules = rules();
    let mut files = Vec::new();
    for folder in SOURCES {
        rust_files(&root().join(folder), &mut files);
    }
    let mut cited = BTreeSet::new();
    let mut unknown = Vec::new();
    for path in &files {
        for (line, id) in citations(&comments(&read(path))) {
            if !rules.contains_key(&id) {
                let path = path.strip_prefix(root()).unwrap_or(path);
                unknown.push(format!("{}:{line}: {id}", path.display()));
            }
            cited.insert(id);
        }
    }
    assert!(unknown.is_empty(), "no such rule in docs/kernel/:\n{}", unknown.join("\n"));
    for id in ["a11", "d3", "e14", "Z2"] {
        assert!(cited.contains(id), "the search no longer finds {id}, which the simulator cites");
    }
}

#[test]
fn the_index_lists_every_rule_once_and_leads_to_it() {
    let rules = rules();
    let index = doc(INDEX);
    let listed = anchors(&index);
    let unique: BTreeSet<_> = listed.iter().collect();
    assert_eq!(unique.len(), listed.len(), "{INDEX} lists a rule twice");
    let missing: Vec<_> = rules.keys().filter(|id| !unique.contains(*id)).collect();
    assert!(missing.is_empty(), "{INDEX} does not list {missing:?}");
    for (id, file) in &rules {
        let text = doc(file);
        let heading = format!("### {id}. ");
        let title = text.lines().find_map(|line| line.strip_prefix(&heading));
        let row = match title {
            Some(title) => format!("[{id}]({file}#{id}) | {title} |"),
            None => format!("[{id}]({file}#{id})"),
        };
        assert!(index.contains(&row), "{INDEX}: expected `{row}`");
    }
    for id in &listed {
        assert!(rules.contains_key(id), "{INDEX} lists {id}, which stands nowhere");
    }
}

#[test]
fn every_rule_says_whether_it_is_simulated_and_how_it_is_known() {
    for &name in RULES {
        let text = doc(name);
        let lines: Vec<_> = text.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            let Some(id) = anchors(line).pop().filter(|id| is_rule(id)) else { continue };
            let heading = lines.get(i + 1).copied().unwrap_or("");
            assert!(heading.starts_with(&format!("### {id}. ")), "{name}: {id} has no heading");
            let tags = lines.get(i + 3).copied().unwrap_or("");
            let known = ["`simulated`", "`rejected`", "`not yet`"];
            assert!(known.iter().any(|tag| tags.starts_with(tag)), "{name}: {id}: {tags}");
            let known = ["measured on 6.18", "measured in part", "from reading"];
            let source = tags.rsplit(" · ").next().unwrap_or("");
            assert!(known.contains(&source), "{name}: {id}: {tags}");
        }
    }
}

/// Like [`is_id`], with the version rules.
fn is_rule(id: &str) -> bool {
    is_id(id) || id.strip_prefix('h').is_some_and(|no| no.parse::<u8>().is_ok())
}

/// The anchor that a heading gets by itself: `## Head, and tail` is `#head-and-tail`.
fn slug(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() })
        .collect()
}

#[test]
fn every_link_between_the_documents_leads_somewhere() {
    let docs = root().join("docs");
    let mut files = vec![docs.join("scenarios.md")];
    for entry in fs::read_dir(docs.join("kernel")).expect("docs/kernel is there") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|ending| ending == "md") && !path.ends_with(EXEMPT) {
            files.push(path);
        }
    }
    let mut broken = Vec::new();
    let mut checked = 0;
    for path in files {
        let folder = path.parent().expect("a file is in a folder");
        for rest in read(&path).split("](").skip(1) {
            let target = rest.split(')').next().unwrap_or("");
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            if target.contains("://") || file.ends_with(EXEMPT) {
                continue;
            }
            checked += 1;
            let file = if file.is_empty() { path.clone() } else { folder.join(file) };
            let ok = fs::read_to_string(file).is_ok_and(|there| {
                anchor.is_empty()
                    || anchors(&there).iter().any(|id| id == anchor)
                    || there.lines().any(|line| line.starts_with('#') && slug(line) == anchor)
            });
            if !ok {
                broken.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
    assert!(checked > 100, "only {checked} links were found");
}

/// What [`citations`] takes for an id, and what it does not.
#[cfg(test)]
mod tokens {
    use super::*;

    fn cited(source: &str) -> Vec<String> {
        citations(&comments(source)).into_iter().map(|(_, id)| id).collect()
    }

    #[test]
    fn citations_in_every_shape_are_found() {
        assert_eq!(cited("/// See rule a11."), ["a11"]);
        assert_eq!(
            cited("//! Rules a20, b1 to b14 (c5; d3, d34)."),
            ["a20", "b1", "b14", "c5", "d3", "d34"]
        );
        assert_eq!(
            cited("let x = 1; // e6: one VMA\n/* bug Z2 /* and\n Z14 */ */"),
            ["e6", "Z2", "Z14"]
        );
        assert_eq!(cited("// docs/kernel/events.md#d9, or (F1, d7)"), ["d9", "d7"]);
        assert_eq!(cited("// `Pte` (rule f7) is `None`, c10"), ["f7", "c10"]);
        assert_eq!(cited("//! ```\n//! a1\n//! ```\n//! a2"), ["a2"]);
    }

    #[test]
    fn numbers_types_fields_and_mapping_rules_are_not_ids() {
        for source in [
            "// 0xa1, 0xdead_b12, commit d3a1, a1b2",
            "// bytes e5 00 and a1 b2 c3",
            "// an f64, an f32, `a11`, x.a1, a100, b0",
            "// v2.3 and v2.10, E1, F5, V14, VmaFlags",
            "let a11 = \"// d3\"; let c = '\"'; let s = r#\"\" // e5 \"#; let d = '\\''; let e = '/';",
        ] {
            assert_eq!(cited(source), [""; 0], "{source}");
        }
    }

    #[test]
    fn lines_are_counted_through_literals_and_comments() {
        let source = "let a = \"\n\\\n\";\n/* b1\n\n */ let l: &'static str = \"\"; // b2\n// b3";
        let found = citations(&comments(source));
        let lines: Vec<_> = found.iter().map(|(line, id)| (*line, id.as_str())).collect();
        assert_eq!(lines, [(4, "b1"), (6, "b2"), (7, "b3")]);
    }
}
