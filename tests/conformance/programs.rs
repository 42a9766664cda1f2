//! Scenario files on both kernels: the examples of the documents, and what they say of it.

use std::fs;
use std::path::Path;

use faultbed::judge::program::{Body, parse};
use faultbed::judge::{on_linux, on_sim, part};

#[test]
fn the_examples_are_the_same_on_both_kernels() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples");
    for entry in fs::read_dir(dir).expect("the folder is there") {
        let path = entry.expect("an entry").path();
        let file = path.display().to_string();
        let program = parse(&file, &fs::read_to_string(&path).expect("text")).expect("well-formed");
        if !matches!(program.body, Body::Sequence { .. }) {
            continue;
        }
        let (sim, linux) = (on_sim(&program), on_linux(&program));
        let linux = match linux {
            Ok(linux) => linux,
            Err(why) => {
                let required =
                    std::env::var_os("FAULTBED_REQUIRE_KERNEL").is_some_and(|v| v == "1");
                assert!(!required, "{file}: {why}");
                eprintln!("SKIPPED {file}: {why}");
                continue;
            }
        };
        assert_eq!(part(&sim.log, &linux.log), None, "{file}");
        assert_eq!(linux.broken, None, "{file}");
    }
}
