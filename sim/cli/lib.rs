//! Where the simulator and the handler meet.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod conform_vma;
