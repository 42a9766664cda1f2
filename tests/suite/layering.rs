//! The arrows between the crates: `shims` knows nobody, `sim` and `handler` know `shims`
//! and never each other. And the rules of the deterministic core that no lint expresses.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The names in the dependency sections of a manifest.
fn dependencies(manifest: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(manifest)).expect("the manifest is there");
    let mut names = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with('[') {
            inside = line.contains("dependencies]");
        } else if inside && let Some((name, _)) = line.split_once(['.', ' ', '=']) {
            names.push(name.to_owned());
        }
    }
    names
}

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("the folder is there") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            out.push(path);
        }
    }
}

#[test]
fn the_arrows_between_the_crates_are_those_of_the_architecture() {
    let own = |manifest| -> Vec<String> {
        dependencies(manifest)
            .into_iter()
            .filter(|name| ["shims", "sim", "handler", "faultbed"].contains(&name.as_str()))
            .collect()
    };
    assert_eq!(own("shims/Cargo.toml"), Vec::<String>::new());
    assert_eq!(own("sim/Cargo.toml"), ["shims"]);
    assert_eq!(own("handler/Cargo.toml"), ["shims"]);
    assert_eq!(own("Cargo.toml")[..3], ["shims", "sim", "handler"]);
    for (manifest, name) in [("sim/Cargo.toml", "parking_lot"), ("sim/Cargo.toml", "rustix")] {
        assert!(!dependencies(manifest).contains(&name.to_owned()), "{manifest} needs no {name}");
    }
}

#[test]
fn unsafe_code_is_in_the_real_backend_alone() {
    for manifest in ["sim/Cargo.toml", "handler/Cargo.toml"] {
        let text = fs::read_to_string(root().join(manifest)).expect("the manifest is there");
        assert!(text.contains("unsafe_code = \"forbid\""), "{manifest} forbids unsafe code");
    }
    let mut files = Vec::new();
    for dir in ["shims/src", "sim", "handler", "tests", "benches"] {
        sources(&root().join(dir), &mut files);
    }
    assert!(files.len() > 30, "the sources were found");
    let block = concat!("uns", "afe {");
    for file in files {
        if file.starts_with(root().join("shims/src/linux")) {
            continue;
        }
        let text = fs::read_to_string(&file).expect("a source is text");
        assert!(!text.contains(block), "{} has an unsafe block", file.display());
    }
}

#[test]
fn rooms_are_small() {
    let mut files = Vec::new();
    for dir in ["shims/src", "sim/src", "sim/cli", "handler/src"] {
        sources(&root().join(dir), &mut files);
    }
    let mut lengths: Vec<(usize, PathBuf)> = files
        .into_iter()
        .filter(|file| !file.components().any(|part| part.as_os_str() == "tests"))
        .map(|file| {
            let text = fs::read_to_string(&file).expect("a source is text");
            // Tests at the end of a file are not part of its idea.
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or("");
            (code.lines().count(), file)
        })
        .filter(|(_, file)| !file.ends_with("tests.rs"))
        .collect();
    lengths.sort();
    let (longest, file) = lengths.last().expect("there are sources");
    assert!(*longest <= 600, "{} has {longest} lines of code", file.display());
    let median = lengths[lengths.len() / 2].0;
    assert!(median <= 250, "the median file has {median} lines");
    for (_, file) in &lengths {
        let text = fs::read_to_string(file).expect("a source is text");
        assert!(text.starts_with("//!"), "{} says what it owns", file.display());
    }
}
