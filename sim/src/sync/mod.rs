//! Locks, conditions, channels, threads, timers and atomics for a handler under test: the
//! names and shapes of `std::sync` and `std::thread`, with every operation a scheduling point
//! of the search. Owns the types; when an operation is possible is [`crate::coop`]'s.
//!
//! Code that names `std` in one place can have these instead in a test:
//!
//! ```
//! #[cfg(not(test))]
//! use std::sync::{Condvar, Mutex, mpsc};
//! #[cfg(test)]
//! use faultbed_sim::sync::{Condvar, Mutex, mpsc};
//! ```
//!
//! Code that is generic over [`shims::Runtime`] runs on [`Simulated`].
//!
//! All of it is used inside a search only: what is made outside panics.

pub mod atomic;
mod condvar;
pub mod mpsc;
mod mutex;
mod name;
mod runtime;
mod rwlock;
pub mod thread;

pub use std::sync::{Arc, LockResult, OnceLock, TryLockError, TryLockResult, Weak};

pub use condvar::{Condvar, WaitTimeoutResult};
pub use mutex::{Mutex, MutexGuard};
pub use name::Name;
pub use runtime::Simulated;
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The time of the search, moved on by `by`.
fn after(by: core::time::Duration) -> shims::Time {
    crate::coop::with(|run| run.now()).unwrap_or_default().after(by)
}
