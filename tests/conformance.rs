//! One test body, two kernels: the simulated one and the running one. Each case is named
//! after the rules it is about, says what it expects, and leaves a transcript of all that
//! a program can see; the transcripts of the two kernels must be equal.
//!
//! Where there is no userfaultfd a case runs on the simulator alone and reports that it
//! skipped the rest; with `FAULTBED_REQUIRE_KERNEL=1` it fails instead.
#![cfg(target_os = "linux")]

#[path = "conformance/cases_access.rs"]
mod cases_access;
#[path = "conformance/cases_collapse.rs"]
mod cases_collapse;
#[path = "conformance/cases_descriptors.rs"]
mod cases_descriptors;
#[path = "conformance/cases_events.rs"]
mod cases_events;
#[path = "conformance/cases_faults.rs"]
mod cases_faults;
#[path = "conformance/cases_fork.rs"]
mod cases_fork;
#[path = "conformance/cases_locks.rs"]
mod cases_locks;
#[path = "conformance/cases_move.rs"]
mod cases_move;
#[path = "conformance/cases_poison.rs"]
mod cases_poison;
#[path = "conformance/cases_remap.rs"]
mod cases_remap;
#[path = "conformance/cases_resolve.rs"]
mod cases_resolve;
#[path = "conformance/cases_shared.rs"]
mod cases_shared;
#[path = "conformance/cases_wp.rs"]
mod cases_wp;
#[path = "conformance/litmus.rs"]
mod litmus;
#[path = "conformance/live.rs"]
mod live;
#[path = "conformance/programs.rs"]
mod programs;
#[path = "conformance/table.rs"]
mod table;

#[path = "selftests/mod.rs"]
mod selftests;
