//! What a driver's threads share: the machine, the fetched bytes, and three places to
//! wait at. Owns the lock, which is one of the runtime the driver runs on.

use core::time::Duration;

use shims::{Event, PageNo, Runtime, Time, Waiter};

use super::exec::{Answer, Bytes, Job, answer};
use super::{Report, Served};
use crate::{Action, DrainEnd, HandlerError, Machine};

/// How long a reader that may not read sleeps before it asks its waiter whether the peer
/// is still there.
pub(super) const PEER_CHECK: Duration = Duration::from_millis(20);

pub(super) struct Desk<R: Runtime> {
    inner: R::Mutex<Inner>,
    /// Workers wait here for an action.
    work: R::Condvar,
    /// The reader waits here for a permit.
    permit: R::Condvar,
    /// Controls wait here for a snapshot, or for a read to end.
    calm: R::Condvar,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) machine: Machine,
    pub(super) bytes: Bytes,
    /// Is a driver running on it?
    pub(super) running: bool,
    /// When the faults that are being served were read, in that order.
    read_at: Vec<(PageNo, bool, Time)>,
    /// Does anybody want to know?
    pub(super) timed: bool,
}

impl<R: Runtime> Desk<R> {
    pub(super) fn new(machine: Machine) -> Desk<R> {
        let bytes = Bytes::new(machine.regions().page_size());
        let inner = Inner { machine, bytes, running: false, read_at: Vec::new(), timed: false };
        let inner = R::mutex("desk", inner);
        let [work, permit, calm] = ["work", "permit", "calm"].map(R::condvar);
        Desk { inner, work, permit, calm }
    }

    pub(super) fn lock(&self) -> R::Guard<'_, Inner> {
        R::lock(&self.inner)
    }

    /// Wait for something to do, until `deadline` at the latest.
    pub(super) fn wait_for_work(
        &self,
        inner: &mut R::Guard<'_, Inner>,
        now: Time,
        deadline: Option<Time>,
    ) {
        match deadline {
            Some(until) => {
                // Never zero: a deadline that has passed is work, so this is not reached.
                let _ = R::wait_for(&self.work, inner, until.since(now));
            }
            None => R::wait(&self.work, inner),
        }
    }

    /// Wait until the machine has changed, at most for `limit`. Tells whether it has.
    pub(super) fn wait_for_permit(&self, inner: &mut R::Guard<'_, Inner>, limit: Duration) -> bool {
        R::wait_for(&self.permit, inner, limit)
    }

    pub(super) fn wait_for_calm(&self, inner: &mut R::Guard<'_, Inner>) {
        R::wait(&self.calm, inner);
    }

    /// Tell whoever waits that the machine has changed. Cheap if nobody waits.
    pub(super) fn changed(&self, inner: &Inner) {
        if inner.machine.status().is_over() || !inner.running {
            R::notify_all(&self.work);
        } else {
            // One worker is enough: it calls the next one if there is more to do.
            R::notify_one(&self.work);
        }
        R::notify_all(&self.permit);
        R::notify_all(&self.calm);
    }

    /// A worker leaves with a job: another one takes over what is left to do, or to wait
    /// for.
    pub(super) fn hand_over(&self, inner: &Inner, now: Time) {
        if inner.machine.has_work(now) || inner.machine.next_deadline().is_some() {
            R::notify_one(&self.work);
        }
    }
}

impl Inner {
    pub(super) fn next_job(&mut self, now: Time) -> Option<Job> {
        let action = self.machine.next(now)?;
        Some(self.bytes.equip(action))
    }

    /// A batch was read.
    pub(super) fn batch_read(&mut self, now: Time, batch: &[Event], end: DrainEnd) {
        self.machine.end_read(now, batch, end);
        if !self.timed {
            return;
        }
        for event in batch {
            if let Event::Fault(fault) = event
                && let Some(page) = self.machine.regions().page(fault.addr)
                && self.machine.is_serving(page)
            {
                self.read_at.push((page, fault.is_write(), now));
            }
        }
    }

    /// A job was done. Faults that it answered are appended to `served`.
    pub(super) fn job_done(
        &mut self,
        job: Job,
        page: PageNo,
        came: Answer,
        now: Time,
        served: &mut Vec<Served>,
    ) {
        let before = self.machine.counters().answered();
        answer(&mut self.machine, &mut self.bytes, job, came, now);
        if !self.timed {
            return;
        }
        let mut answered = self.machine.counters().answered() - before;
        let serving = self.machine.is_serving(page);
        self.read_at.retain(|&(of, write, since)| {
            if of != page {
                return true;
            }
            if answered > 0 {
                answered -= 1;
                served.push(Served { page, write, took: now.since(since) });
                return false;
            }
            serving
        });
    }

    pub(super) fn report(&self) -> Report {
        let machine = &self.machine;
        Report { status: machine.status().clone(), counters: *machine.counters() }
    }

    /// The page that `job` is about.
    pub(super) fn page_of(&self, job: &Job) -> PageNo {
        match job.action {
            Action::Fetch { page, .. } => page,
            Action::Ioctl { req, .. } => self.machine.page_of(req),
        }
    }
}

/// A driver is running on the desk for as long as this lives.
pub(super) struct Running<'a, R: Runtime>(&'a Desk<R>);

impl<'a, R: Runtime> Running<'a, R> {
    pub(super) fn start(desk: &'a Desk<R>, timed: bool) -> Running<'a, R> {
        let mut inner = desk.lock();
        assert!(!inner.running, "a driver runs on one thread group at a time");
        (inner.running, inner.timed) = (true, timed);
        Running(desk)
    }
}

impl<R: Runtime> Drop for Running<'_, R> {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.running = false;
        if std::thread::panicking() {
            inner.machine.driver_failed(HandlerError::Panicked);
        }
        self.0.changed(&inner);
    }
}

/// Ends the machine if its thread panics, so that no other thread waits for it for ever.
pub(super) struct Bail<'a, W: Waiter, R: Runtime>(pub(super) &'a Desk<R>, pub(super) &'a W);

impl<W: Waiter, R: Runtime> Drop for Bail<'_, W, R> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut inner = self.0.lock();
            inner.machine.driver_failed(HandlerError::Panicked);
            self.0.changed(&inner);
            drop(inner);
            self.1.notify();
        }
    }
}
