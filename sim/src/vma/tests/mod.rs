//! The tables of cases. A case is a text: `given` a layout, then one line a step,
//! `operation = ERRNO => layout`, where `= ERRNO` is left out if it succeeds. Every step
//! validates the whole tree, prints it and reads it back.

mod call_cases;
mod kernel_cases;
mod language;
mod merge_cases;
mod placement;
mod properties;
mod rule_cases;
mod self_cases;

use language::case;

/// Linux 6.18, on which these cases were seen.
fn on_6_18(text: &str) {
    case(super::Rules::LINUX_6_18, text);
}
