//! Decorators: each wraps any [`Uffd`](crate::Uffd) and is one itself, so they stack.
//!
//! - [`Tap`] tells an [`Observer`] of each call and its answer: [`Record`] keeps them,
//!   [`Audit`] hashes them, [`Meter`] counts them.
//! - [`Inject`] disturbs: it fails a call, shortens it, ends the stream, slips in a
//!   message.
//! - [`Replay`] answers from a record and tells where a run first differs from it.
//!
//! What passes between a handler and its userfaultfd is a list of [`Entry`] values, a
//! [`Call`] and its [`Answer`]; `entry.rs` owns that and its text.
//!
//! All of them may be shared by threads. Their state is behind a lock that is held for
//! the bookkeeping only, never across the call; with several threads the order of
//! entries is the order in which calls returned.

mod audit;
mod entry;
mod inject;
mod meter;
mod record;
mod replay;
mod tap;
#[cfg(test)]
mod tests;

pub use audit::{Audit, Fnv};
pub use entry::{Answer, Call, Entry};
pub use inject::{Disturbance, Inject, Policy, Script};
pub use meter::{Counts, Meter};
pub use record::Record;
pub use replay::{Mismatch, Replay};
pub use tap::{Observer, Tap};

use std::sync::{Mutex, MutexGuard};

/// Lock, whatever became of a thread that held the lock: the state is a log or a
/// counter, whole between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
