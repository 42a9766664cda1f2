//! The real backend: Linux's userfaultfd behind the seam.
//!
//! Owns every system call of the workspace that needs `unsafe`: the ioctls of a
//! userfaultfd, its messages, memory to point it at, and descriptors that travel over a
//! socket. Owns no policy; an error is the kernel's own, with two exceptions: `EINTR`
//! is retried, and a short message (which no userfaultfd produces) is `EIO`.
//!
//! # What is safe about it
//!
//! The ioctls take addresses as numbers and act on whatever is mapped there, as a write
//! to `/proc/self/mem` does. Like that file, they lie outside what Rust's types describe:
//! a caller that registers or moves memory it does not own breaks the owner. Memory to
//! experiment on is a [`Mapping`], which is only ever touched by atomic accesses and
//! system calls, so no such ioctl can break a reference.
#![allow(unsafe_code)]

mod abi;
mod arena;
mod fd;
pub mod hugepages;
mod ioctl;
mod keeper;
mod map;
mod pagemap;
mod poll;
mod probe;
#[cfg(target_arch = "x86_64")]
pub mod puppet;
mod read;
pub mod scm;
#[cfg(target_arch = "x86_64")]
pub mod vma_probe;
#[cfg(target_arch = "x86_64")]
mod vma_world;

pub use arena::{Arena, Protection};
pub use fd::{AdoptError, FdInfo, OpenError, OpenFlags, UserFault};
pub use map::{Advice, Mapping};
pub use pagemap::PageEntry;
pub use poll::PollWaiter;
pub use probe::{Capability, Unavailable, unprivileged_sysctl};

use crate::Errno;

/// The seam's errno for rustix's.
fn errno(e: rustix::io::Errno) -> Errno {
    Errno::from_raw(e.raw_os_error()).unwrap_or(Errno::EIO)
}

/// The seam's errno for a standard library error; `EIO` for one that is no system error.
fn io_errno(e: &std::io::Error) -> Errno {
    e.raw_os_error().and_then(Errno::from_raw).unwrap_or(Errno::EIO)
}
