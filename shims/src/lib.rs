//! The userfaultfd seam.
//!
//! A page-fault handler talks to the kernel through one descriptor. This crate is
//! that conversation as types: addresses and ranges that carry their invariants
//! ([`Addr`], [`Span`], [`PageRange`]), decoded messages ([`Event`]), the result of a
//! resolving ioctl with *both* numbers the kernel reports ([`Outcome`]), and the
//! trait [`Uffd`] whose methods are the ioctls.
//!
//! Two things implement [`Uffd`]: the simulated kernel of `faultbed-sim`, and
//! `linux`, the thin real backend behind the feature of that name. A handler that is
//! generic over the trait runs on both without a change.
//!
//! Decorators ([`wrap`]) record, count and disturb any [`Uffd`].
//!
//! # Invariants
//!
//! - Nothing here waits. [`Uffd`]'s methods return at once; waiting is [`Waiter`]'s.
//! - Nothing here decides. Policy (what to install, when to retry) is the handler's.
//! - `unsafe` code exists in `linux` alone.

mod addr;
mod errno;
mod event;
mod flags;
mod outcome;
mod range;
mod request;
mod runtime;
mod uffd;
mod waiter;
pub mod wrap;

#[cfg(all(target_os = "linux", feature = "linux"))]
pub mod linux;

pub use addr::{Addr, Len, PageNo, PageSize};
pub use errno::Errno;
pub use event::{Event, Fault, FaultKind, Tid};
pub use flags::{
    ApiIoctls, ContinueMode, CopyMode, FaultFlags, Features, MoveMode, PoisonMode, RangeIoctls,
    RegisterModes, WriteProtectMode, ZeropageMode,
};
pub use outcome::{Field, Outcome, Verdict};
pub use range::{PageRange, RangeError, Span};
pub use request::Request;
pub use runtime::Runtime;
pub use uffd::{ApiReply, Uffd};
pub use waiter::{Time, Waiter, Wakeup};
