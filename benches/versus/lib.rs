//! One small concurrent problem: two threads that read pages, one that gives a page back, a
//! handler. Written twice over the same simulated kernel, for shuttle and for the explorer of
//! this repository. Owns the two versions; the benchmark beside it runs them.

pub mod ours;
pub mod problem;
pub mod theirs;
