//! Waiting: the second, smaller seam. Owns how a driver sleeps and what time it is.

use core::fmt;
use core::time::Duration;

use bitflags::bitflags;

use crate::Errno;

/// A moment on a driver's clock: nanoseconds since the driver started. The simulator's
/// clock is a number that it moves itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Time(u64);

bitflags! {
    /// Why a wait ended. Several reasons may hold at once; none means a spurious return.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct Wakeup: u8 {
        /// The userfaultfd has a fault or an event.
        const READABLE = 1 << 0;
        /// Somebody called [`Waiter::notify`].
        const NOTIFIED = 1 << 1;
        /// The deadline has passed.
        const TIMEOUT = 1 << 2;
        /// The peer that owns the memory is gone.
        const PEER_GONE = 1 << 3;
        /// The descriptor reports an error (`POLLERR`, `POLLHUP`, `POLLNVAL`) and never
        /// recovers: it is blocking, closed, or no userfaultfd (rule a18).
        const ERROR = 1 << 4;
    }
}

/// Where a driver sleeps between batches.
pub trait Waiter {
    /// The time now.
    fn now(&self) -> Time;

    /// Sleep until the userfaultfd is readable, somebody notifies, the peer is gone or
    /// `until` has passed. A signal is not a reason to return. A notification sent while
    /// nobody waited ends the next wait at once.
    fn wait(&self, until: Option<Time>) -> Result<Wakeup, Errno>;

    /// End the current wait, or the next one, from any thread.
    fn notify(&self);
}

impl Time {
    /// The start of the clock.
    pub const ZERO: Time = Time(0);

    /// So many nanoseconds after the start.
    pub const fn from_nanos(nanos: u64) -> Time {
        Time(nanos)
    }

    /// Nanoseconds since the start.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// This moment moved on by `by`, at most to the end of the clock.
    pub const fn after(self, by: Duration) -> Time {
        let nanos = by.as_nanos();
        let nanos = if nanos > u64::MAX as u128 { u64::MAX } else { nanos as u64 };
        Time(self.0.saturating_add(nanos))
    }

    /// How long from `earlier` to this moment; zero if `earlier` is later.
    pub const fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", Duration::from_nanos(self.0))
    }
}
