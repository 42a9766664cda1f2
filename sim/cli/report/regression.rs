//! A failing schedule as a test in Rust, ready to paste. Owns the text.

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
             let schedule = sim::schedule::Schedule::parse({stem:?}, SCHEDULE).unwrap();\n    \
             let showing = faultbed::campaign::show(&schedule, handler::Policy::default());\n    \
             assert_eq!(showing.outcome.failure, None, \"{{}}\", showing.timeline);\n\n    \
             const SCHEDULE: &str = r{hashes}\"{text}\"{hashes};\n\
         }}\n",
        handler = schedule.handler,
    )
}
