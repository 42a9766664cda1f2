//! The simulated kernel.

pub mod vma;
