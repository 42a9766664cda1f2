//! `faultbed serve` across the process boundary: a server, clients with memory of their
//! own, and what the two agree on. Each test that finds no userfaultfd reports itself as
//! skipped; with `FAULTBED_REQUIRE_KERNEL=1` it fails instead.
#![cfg(target_os = "linux")]

#[path = "serve/rig.rs"]
mod rig;

#[path = "serve/hostile.rs"]
mod hostile;

#[path = "serve/failure.rs"]
mod failure;

#[path = "serve/pages.rs"]
mod pages;
