//! Steering a driver from other threads.

use core::fmt;
use std::sync::Arc;

use shims::{PageNo, Runtime, Waiter};

use super::System;
use super::desk::{Desk, Inner};
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

/// Abandons a baseline when it goes.
struct Abandon<'a, W: Waiter, R: Runtime>(&'a Control<W, R>);

impl<W: Waiter, R: Runtime> Drop for Abandon<'_, W, R> {
    fn drop(&mut self) {
        let mut inner = self.0.desk.lock();
        inner.machine.abandon_snapshot();
        self.0.desk.changed(&inner);
    }
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
        let mut inner = self.when_ready(Machine::begin_snapshot)?;
        let states = inner.machine.take_snapshot();
        // The reader waits for the snapshot, and other controls for their turn.
        self.desk.changed(&inner);
        Ok(states)
    }

    /// Wait until a snapshot that `begin` asks for can be taken.
    fn when_ready(
        &self,
        begin: impl Fn(&mut Machine),
    ) -> Result<R::Guard<'_, Inner>, SnapshotError> {
        let mut inner = self.desk.lock();
        let mut begun = false;
        loop {
            // Another control may have one in preparation: this one is next.
            if !begun && !inner.machine.snapshot_begun() {
                begin(&mut inner.machine);
                begun = true;
                self.desk.changed(&inner);
                self.waiter.notify();
            }
            if begun && inner.machine.snapshot_ready() {
                return Ok(inner);
            }
            if inner.machine.status().is_over() {
                return Err(SnapshotError::Ended(inner.machine.status().clone()));
            }
            if !inner.running {
                return Err(SnapshotError::NotRunning);
            }
            self.desk.wait_for_calm(&mut inner);
        }
    }

    /// Begin an interval of write tracking: call `export` with the states of all pages, for
    /// it to save the bytes of the dirty ones, then call these clean. If it fails, or panics,
    /// they stay dirty.
    ///
    /// From before `export` is called until it has returned every write waits; the client
    /// need not be paused. It must not give pages up meanwhile.
    ///
    /// # Panics
    ///
    /// If the policy does not track [writes](crate::Policy::writes).
    pub fn baseline<T, E>(
        &self,
        export: impl FnOnce(&PageStates) -> Result<T, E>,
    ) -> Result<Result<T, E>, SnapshotError> {
        let mut inner = self.when_ready(Machine::begin_baseline)?;
        let states = inner.machine.export_baseline();
        drop(inner);
        let abandoned = Abandon(self);
        let came = export(&states);
        if came.is_ok() {
            core::mem::forget(abandoned);
            let mut inner = self.desk.lock();
            inner.machine.take_baseline();
            self.desk.changed(&inner);
        }
        Ok(came)
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
