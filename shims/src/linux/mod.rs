//! The real backend.

#[cfg(target_arch = "x86_64")]
pub mod vma_probe;
