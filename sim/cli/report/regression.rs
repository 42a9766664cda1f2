//! A failing schedule as a test in Rust, ready to paste into a crate that depends on `faultbed`
//! and on nothing else of ours. Owns the text.

use sim::schedule::Schedule;

/// The test that the default handler survives `schedule`.
pub(super) fn test(schedule: &Schedule, stem: &str) -> String {
    let name: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    // A raw string ends at a quote with enough hashes behind it.
    let text = schedule.to_string();
    let mut hashes = "#".to_owned();
    while text.contains(&format!("\"{hashes}")) {
        hashes.push('#');
    }
    let class = schedule.fails.as_deref().unwrap_or("failure");
    format!(
        "/// The handler `{handler}` fails on this schedule ({class}). Found by `faultbed explore`.\n\
         #[test]\n\
         fn the_default_handler_survives_{name}() {{\n    \
             faultbed::replay::assert_survives(\"default\", SCHEDULE);\n\n    \
             const SCHEDULE: &str = r{hashes}\"{text}\"{hashes};\n\
         }}\n",
        handler = schedule.handler,
    )
}
