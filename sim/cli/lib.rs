//! Where the simulator, the handler and the real kernel meet: the `faultbed` command, and
//! the glue that tests and benchmarks share with it.
//!
//! This is the only place that knows both `sim` and `handler`.

// They panic when nobody reads: `out` has what commands print with.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod campaign;
pub mod catalogue;
pub mod check;
mod clock;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod conform;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod conform_vma;
pub mod coop;
mod draft;
mod exhaustive;
pub mod exit;
pub mod explore;
pub mod jobs;
pub mod judge;
mod kept;
pub mod kernel;
mod ledger;
pub mod litmus;
pub mod merge;
pub mod model;
pub mod out;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod random;
pub mod replay;
pub mod report;
pub mod results;
pub mod run;
pub mod save;
#[cfg(target_os = "linux")]
pub mod serve;
pub mod shard;
pub mod shrink;
#[cfg(target_os = "linux")]
pub mod stress;
pub mod tamper;
pub mod zoo;
