//! `docs/conformance.md`: each measured row of `docs/kernel/measured.md`, the cases that
//! hold the kernels to it, and on which kernels they run. Made from the names and the text of
//! the cases; compared here, and written with `FAULTBED_WRITE=1`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// Rows that no case is about, with the reason.
const WITHOUT: &[(u32, &str)] = &[];

/// What the kernel's own self-tests are called, and the module that restates each.
const SELFTESTS: &[(&str, &str)] = &[
    ("UFFDIO_API", "uffdio_api"),
    ("register-ioctls", "register_ioctls"),
    ("zeropage", "zeropage"),
    ("move", "move_"),
    ("move-pmd", "move_pmd"),
    ("move-pmd-split", "move_pmd_split"),
    ("wp-fork", "wp_fork"),
    ("wp-fork-with-event", "wp_fork_with_event"),
    ("wp-unpopulated", "wp_unpopulated"),
    ("minor", "minor"),
    ("minor-wp", "minor_wp"),
    ("minor-collapse", "minor_collapse"),
    ("sigbus", "sigbus"),
    ("sigbus-wp", "sigbus_wp"),
    ("events", "events"),
    ("events-wp", "events_wp"),
    ("poison", "poison"),
    ("uffd-stress", "uffd_stress"),
    ("uffd-wp-mremap", "uffd_wp_mremap"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["tests/conformance", "tests/selftests"] {
        for entry in fs::read_dir(root().join(folder)).expect(folder) {
            found.push(entry.expect("an entry").path());
        }
    }
    found.sort();
    found
}

/// A function at the left margin: its name, whether it is a test, its text.
struct Function {
    name: String,
    test: bool,
    text: String,
}

fn functions(text: &str) -> Vec<Function> {
    let mut found: Vec<Function> = Vec::new();
    let mut test = false;
    let mut inside = false;
    for line in text.lines() {
        let line_of_fn = line.strip_prefix("pub(crate) ").unwrap_or(line);
        if let Some(rest) = line_of_fn.strip_prefix("fn ") {
            let name = rest.split(['(', '<']).next().unwrap_or(rest).to_owned();
            found.push(Function { name, test, text: String::new() });
            (test, inside) = (false, true);
        }
        if line == "#[test]" {
            test = true;
        }
        if let Some(function) = found.last_mut().filter(|_| inside) {
            function.text.push_str(line);
            function.text.push('\n');
        }
        inside &= line != "}";
    }
    found
}

/// A case, and why it does not run on the one kernel or the other.
#[derive(Default)]
struct Found {
    not_on_sim: BTreeSet<String>,
    not_on_kernel: BTreeSet<String>,
    /// Some of its parts run on the simulator.
    on_sim: bool,
}

/// The arguments of each call of `name` in `text`: literals, or constants of the file.
fn reasons(file: &str, text: &str, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    for rest in text.split(&format!("{name}(")).skip(1) {
        let argument = rest.split(')').next().unwrap_or_default().trim();
        let literal = argument.strip_prefix('"').and_then(|rest| rest.split('"').next());
        let constant = || {
            let rest = file.split(&format!("const {argument}: &str =")).nth(1)?;
            rest.split('"').nth(1)
        };
        found.extend(literal.or_else(constant).map(str::to_owned));
    }
    found
}

fn cases() -> BTreeMap<String, Found> {
    let mut cases = BTreeMap::new();
    for path in sources() {
        let file = fs::read_to_string(&path).expect("a source");
        let module = path.file_stem().expect("a name").to_string_lossy().into_owned();
        if !module.starts_with("cases_") && module != "litmus" && !path.ends_with("stress.rs") {
            continue;
        }
        let functions = functions(&file);
        for case in functions.iter().filter(|function| function.test) {
            // What a case starts with may be a function that several share.
            let calls = |helper: &&Function| {
                !helper.test && case.text.contains(&format!("{}(", helper.name))
            };
            let mut text = case.text.clone();
            functions.iter().filter(calls).for_each(|helper| text.push_str(&helper.text));
            let sim = reasons(&file, &text, ".kernel_only");
            let begun = text.matches("Case::new(").count() + text.matches("both(").count();
            let found = Found {
                on_sim: begun > sim.len() || begun == 0,
                not_on_sim: sim.into_iter().collect(),
                not_on_kernel: reasons(&file, &text, ".sim_only").into_iter().collect(),
            };
            cases.insert(format!("{module}::{}", case.name), found);
        }
    }
    cases
}

/// The rows a case's name is about: `v31_v32_b6_…` is about 31 and 32.
fn rows_of(case: &str) -> BTreeSet<u32> {
    let name = case.rsplit("::").next().unwrap_or(case);
    name.split('_').filter_map(|word| word.strip_prefix('v')?.parse().ok()).collect()
}

/// `(row, claim)` of everything measured.
fn measured() -> Vec<(u32, String)> {
    let text = fs::read_to_string(root().join("docs/kernel/measured.md")).expect("measured.md");
    let row = |line: &str| {
        let rest = line.strip_prefix("| <a id=\"V")?;
        let number = rest.split('"').next()?.parse().ok()?;
        let claim = rest.split(" | ").nth(1)?.to_owned();
        Some((number, claim))
    };
    text.lines().filter_map(row).collect()
}

fn selftest_kinds() -> BTreeMap<String, Vec<String>> {
    let mut kinds = BTreeMap::new();
    for path in sources() {
        let file = fs::read_to_string(&path).expect("a source");
        for rest in file.split("\nkinds!(").skip(1) {
            let inside = rest.split(')').next().unwrap_or_default();
            let (name, list) = inside.split_once(": ").unwrap_or((inside, ""));
            let list = match list {
                "all" => "anon, shmem, shmem_private, hugetlb, hugetlb_private".to_owned(),
                list => list
                    .split(", ")
                    .filter_map(|pair| pair.split(" = ").next())
                    .collect::<Vec<_>>()
                    .join(", "),
            };
            kinds.insert(name.to_owned(), vec![list]);
        }
    }
    kinds
}

fn table() -> String {
    let cases = cases();
    let mut text = String::from(
        "# What is held to which kernel\n\n\
         Each row of [what was measured](kernel/measured.md), the cases of `tests/conformance.rs` \
         that are about it, and the kernels they run on with equal transcripts. A case that a \
         kernel cannot run says so by name when the suite runs. Written by \
         `FAULTBED_WRITE=1 cargo test --test conformance table`.\n\n\
         | row | what | case | simulated | running | note |\n|---|---|---|---|---|---|\n",
    );
    let without: BTreeMap<_, _> = WITHOUT.iter().copied().collect();
    for (row, claim) in measured() {
        let about: Vec<_> = cases.iter().filter(|(name, _)| rows_of(name).contains(&row)).collect();
        if about.is_empty() {
            let reason =
                without.get(&row).unwrap_or_else(|| panic!("no case is about V{row}: {claim}"));
            writeln!(text, "| V{row} | {claim} | | no | no | {reason} |").expect("a string");
        }
        assert!(about.is_empty() || !without.contains_key(&row), "V{row} has a case after all");
        for (name, found) in about {
            let sim = match (found.on_sim, found.not_on_sim.is_empty()) {
                (true, true) => "yes",
                (true, false) => "in part",
                (false, _) => "no",
            };
            let kernel = if found.not_on_kernel.is_empty() { "yes" } else { "no" };
            let notes: Vec<_> =
                found.not_on_sim.iter().chain(&found.not_on_kernel).cloned().collect();
            let notes = notes.join("; ");
            writeln!(text, "| V{row} | {claim} | `{name}` | {sim} | {kernel} | {notes} |")
                .expect("a string");
        }
    }
    text.push_str(
        "\n## The kernel's own self-tests\n\n\
         Restated in `tests/selftests`, on both kernels. `wp-fork-pin` and \
         `wp-fork-pin-with-event`, 10 that skip here, pin pages through a driver of \
         `CONFIG_GUP_TEST`: the simulator has no pins.\n\n\
         | self-test | tests | memory |\n|---|---|---|\n",
    );
    let kinds = selftest_kinds();
    for (name, module) in SELFTESTS {
        for (found, list) in kinds.iter().filter(|(found, _)| {
            found == module
                || found.strip_prefix(module) == Some("_swapped")
                || found.strip_prefix(module) == Some("_thp")
        }) {
            let list = list.join(", ");
            writeln!(text, "| {name} | `{found}` | {list} |").expect("a string");
        }
        if *module == "uffdio_api" {
            for way in ["syscall", "dev"] {
                writeln!(text, "| {name} | `uffdio_api_{way}` | |").expect("a string");
            }
        } else {
            assert!(kinds.contains_key(*module), "no self-test is called {module}");
        }
    }
    text
}

#[test]
fn the_table_of_rows_is_up_to_date() {
    let path = root().join("docs/conformance.md");
    let table = table();
    if std::env::var_os("FAULTBED_WRITE").is_some_and(|value| value == "1") {
        fs::write(&path, table).expect("docs/conformance.md");
        return;
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    let differs = there.lines().zip(table.lines()).find(|(old, new)| old != new);
    assert!(
        there == table,
        "docs/conformance.md is out of date at {differs:?}; FAULTBED_WRITE=1 rewrites it"
    );
}

#[test]
fn a_case_names_its_rows() {
    assert_eq!(rows_of("cases_wp::v28_b13_x"), BTreeSet::from([28]));
    assert_eq!(rows_of("v36_v73_e21_the_destination"), BTreeSet::from([36, 73]));
    assert_eq!(rows_of("a20_close_via_v"), BTreeSet::new());
    let functions = functions("const A: u8 = 1;\n#[test]\nfn one() {\n    x\n}\nfn two() {}\n");
    let names: Vec<_> = functions.iter().map(|f| (f.name.as_str(), f.test)).collect();
    assert_eq!(names, [("one", true), ("two", false)]);
    let text = "a.kernel_only(\"why\").b.kernel_only(NOT)";
    let file = "const NOT: &str = \"not yet\";";
    assert_eq!(reasons(file, text, ".kernel_only"), ["why", "not yet"]);
}
