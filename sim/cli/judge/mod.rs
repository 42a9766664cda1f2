//! The simulated kernel and the running one, side by side: one vocabulary of what threads
//! and a handler do, two kernels that do it, and the comparison of all that a program can see.
//! Owns no rule of userfaultfd.
//!
//! What needs a running kernel is there on Linux on x86-64 alone.

mod arm;
mod backend;
pub mod litmus;
pub mod live;
mod op;
pub mod program;
mod run;
mod sim_arm;
mod sim_fd_uffd;
mod sim_ops;
mod steps;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod case;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod look;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod puppet_arm;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod puppet_ops;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod puppet_uffd;

pub use arm::{Area, Arm, Entry, Scan, bytes, event_text, event_text_at, span};
pub use backend::{
    Backend, Parting, Unable, for_this_user, huge_pages, on_linux, on_sim, part, profile_of,
};
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub use case::{Case, both};
pub use op::{Advise, Back, Fill, Kind, Op, PAGE, Piece, Settled, granule};
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub use puppet_arm::PuppetArm;
pub use run::{Run, at, running_profile, source};
pub use sim_arm::SimArm;
pub use steps::{Broken, Shown, walk};
