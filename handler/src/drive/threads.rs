//! The driver with one reader and any number of workers.
//!
//! The reader waits for nothing but the kernel: for messages, and for the source installs
//! that are out when messages came. Fetching is the workers' and never delays it.

use core::num::NonZeroUsize;

use shims::{Runtime, Uffd, Waiter, Wakeup};

use super::desk::{Bail, PEER_CHECK, Running};
use super::exec::{drain, perform};
use super::{Driver, Report};
use crate::{HandlerError, PageSource, ReadPermit};

impl<U, W, S, R> Driver<U, W, S, R>
where
    U: Uffd + Sync,
    W: Waiter + Send + Sync,
    S: PageSource + Sync,
    R: Runtime,
{
    /// Serve until the machine ends: read on this thread, work on `workers` others.
    ///
    /// A worker that fetches does nothing else, so `workers` bounds how many slow fetches
    /// can be under way before faults that need none have to wait for them too.
    ///
    /// # Panics
    ///
    /// If the driver is running already, or a worker panicked other than in the source.
    pub fn run_threads(&self, workers: NonZeroUsize) -> Report {
        let desk = &self.control.desk;
        let _running = Running::start(desk, self.on_served.is_some());
        let names = (0..workers.get()).map(|number| format!("faultbed-work-{number}"));
        R::team(
            names,
            || self.work(),
            |started| match started {
                Ok(()) => self.read(),
                Err(errno) => {
                    let mut inner = desk.lock();
                    inner.machine.driver_failed(HandlerError::Spawn(errno));
                    desk.changed(&inner);
                }
            },
        );
        desk.lock().report()
    }

    /// The reader: until nothing is to be read any more.
    fn read(&self) {
        let desk = &self.control.desk;
        let _bail = Bail(desk, self.waiter());
        let mut batch = Vec::new();
        let max = desk.lock().machine.policy().max_batch;
        while !desk.lock().machine.is_ending() {
            // The machine is asked only once there is something to read: a reader that
            // waits for its permit holds up source installs.
            if !self.wait(None).contains(Wakeup::READABLE) {
                continue;
            }
            if !self.get_permit() {
                return;
            }
            let end = drain(&self.uffd, &mut batch, max);
            let now = self.now();
            let mut inner = desk.lock();
            inner.batch_read(now, &batch, end);
            desk.changed(&inner);
            self.bring_up(inner);
        }
    }

    /// Wait until reading is permitted. Tells whether it is.
    fn get_permit(&self) -> bool {
        let desk = &self.control.desk;
        let mut inner = desk.lock();
        loop {
            match inner.machine.begin_read() {
                ReadPermit::Granted => return true,
                ReadPermit::Stopped => return false,
                ReadPermit::Wait => {}
            }
            if desk.wait_for_permit(&mut inner, PEER_CHECK) {
                continue;
            }
            // A pause may last: see whether the peer outlives it.
            drop(inner);
            self.wait(Some(self.now()));
            inner = desk.lock();
        }
    }

    /// A worker: until the machine has ended.
    fn work(&self) {
        let desk = &self.control.desk;
        let _bail = Bail(desk, self.waiter());
        let mut served = Vec::new();
        let mut inner = desk.lock();
        loop {
            if inner.machine.status().is_over() {
                // The reader may sleep where the desk cannot reach it.
                desk.changed(&inner);
                drop(inner);
                self.waiter().notify();
                return;
            }
            let now = self.now();
            let Some(mut job) = inner.next_job(now) else {
                let deadline = inner.machine.next_deadline();
                desk.wait_for_work(&mut inner, now, deadline);
                continue;
            };
            let page = inner.page_of(&job);
            desk.hand_over(&inner, now);
            drop(inner);
            let came = perform(&mut job, &self.uffd, &self.source, &self.zeros);
            let now = self.now();
            inner = desk.lock();
            inner.job_done(job, page, came, now, &mut served);
            desk.changed(&inner);
            if !served.is_empty() {
                drop(inner);
                self.tell(&mut served);
                inner = desk.lock();
            }
        }
    }
}
