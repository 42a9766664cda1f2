//! Scenarios as text: a world that a person can write by hand and read in a diff.
//!
//! ```text
//! faultbed scenario 1
//!
//! name      stale source
//! about     A worker must not install source bytes after the page was removed.
//! memory    4 pages            # page n is backed by page n of the source
//! features  remove
//! workers   2
//!
//! task guest
//!   read 1
//! task balloon
//!   dontneed 1..2 -> ok
//!   post removed
//! task late
//!   await removed
//!   read 1 -> zero
//!
//! finally
//!   page 1 zero
//! ```
//!
//! `docs/scenarios.md` is the reference. Owns the grammar in both directions: a parsed
//! scenario prints as a file that parses to the same scenario.

mod mishaps;
mod parse;
mod print;
mod words;

pub use parse::parse;
pub use words::{ScenarioError, Words};

/// The first line of a scenario file.
pub const HEADER: &str = "faultbed scenario 1";
