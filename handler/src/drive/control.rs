//! Steering a driver from other threads.

use core::fmt;
use std::sync::Arc;

use shims::{PageNo, Runtime, Waiter};

use super::System;
use super::desk::Desk;
use crate::{Counters, Machine, PageState, PageStates, Status};

/// Steers a [`Driver`](super::Driver) from any thread. Clones steer the same driver.
pub struct Control<W, R: Runtime = System> {
    pub(super) desk: Arc<Desk<R>>,
    waiter: Arc<W>,
}

/// Why there is no snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SnapshotError {
    /// Requests are under way, or pages have to be asked about, and no driver runs.
    NotRunning,
    /// The driver ended before the snapshot was ready.
    Ended(Status),
}

/// What is known of a page, for a watchdog's report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageReport {
    /// Its state.
    pub state: PageState,
    /// Is the state unconfirmed?
    pub unconfirmed: bool,
    /// Is a fault on it being served?
    pub serving: bool,
}

impl<W: Waiter, R: Runtime> Control<W, R> {
    pub(super) fn new(desk: Arc<Desk<R>>, waiter: Arc<W>) -> Control<W, R> {
        Control { desk, waiter }
    }

    pub(super) fn waiter(&self) -> &W {
        &self.waiter
    }

    /// Read no more messages until [`resume`](Control::resume): they pile up in the
    /// kernel. A read that is under way has ended when this returns.
    pub fn pause(&self) {
        let mut inner = self.desk.lock();
        inner.machine.pause();
        while inner.machine.reading() && inner.running {
            self.desk.wait_for_calm(&mut inner);
        }
        self.desk.changed(&inner);
    }

    /// Read again.
    pub fn resume(&self) {
        let mut inner = self.desk.lock();
        inner.machine.resume();
        self.desk.changed(&inner);
    }

    /// Read no more messages, serve those that were read, and end. Does not wait for it.
    pub fn stop(&self) {
        self.tell(|machine| machine.stop());
    }

    /// The peer is known to be gone: end at once. Does not wait for it.
    pub fn peer_gone(&self) {
        self.tell(|machine| machine.peer_gone());
    }

    fn tell(&self, what: impl FnOnce(&mut Machine)) {
        let mut inner = self.desk.lock();
        what(&mut inner.machine);
        self.desk.changed(&inner);
        drop(inner);
        self.waiter.notify();
    }

    /// The page-state snapshot, with the requests under way settled and every doubtful
    /// page asked about. The client should be paused: what it does meanwhile may or may
    /// not show.
    pub fn snapshot(&self) -> Result<PageStates, SnapshotError> {
        let mut inner = self.desk.lock();
        loop {
            let begun = inner.machine.snapshot_begun();
            inner.machine.begin_snapshot();
            if inner.machine.snapshot_ready() {
                let states = inner.machine.take_snapshot();
                // The reader waits for the snapshot, and other controls for their turn.
                self.desk.changed(&inner);
                return Ok(states);
            }
            if inner.machine.status().is_over() {
                return Err(SnapshotError::Ended(inner.machine.status().clone()));
            }
            if !inner.running {
                return Err(SnapshotError::NotRunning);
            }
            if !begun {
                self.desk.changed(&inner);
                self.waiter.notify();
            }
            self.desk.wait_for_calm(&mut inner);
        }
    }

    /// What the driver did so far.
    pub fn counters(&self) -> Counters {
        *self.desk.lock().machine.counters()
    }

    /// How it is doing.
    pub fn status(&self) -> Status {
        self.desk.lock().machine.status().clone()
    }

    /// What is known of `page`.
    pub fn page(&self, page: PageNo) -> PageReport {
        let inner = self.desk.lock();
        let tracker = inner.machine.tracker();
        PageReport {
            state: tracker.state(page),
            unconfirmed: tracker.is_unconfirmed(page),
            serving: inner.machine.is_serving(page),
        }
    }
}

impl<W, R: Runtime> Clone for Control<W, R> {
    fn clone(&self) -> Control<W, R> {
        Control { desk: Arc::clone(&self.desk), waiter: Arc::clone(&self.waiter) }
    }
}

impl<W, R: Runtime> fmt::Debug for Control<W, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Control").field(self.desk.lock().machine.status()).finish()
    }
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotError::NotRunning => {
                write!(f, "no snapshot: requests are under way and no driver runs")
            }
            SnapshotError::Ended(status) => write!(f, "no snapshot: the handler {status}"),
        }
    }
}

impl core::error::Error for SnapshotError {}
