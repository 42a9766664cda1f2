//! The driver with one thread: work until there is none, then wait for messages or for
//! the next deadline.

use shims::{Runtime, Time, Uffd, Waiter, Wakeup};

use super::desk::{PEER_CHECK, Running};
use super::exec::{drain, perform};
use super::{Driver, Report};
use crate::{PageSource, ReadPermit};

impl<U: Uffd, W: Waiter, S: PageSource, R: Runtime> Driver<U, W, S, R> {
    /// Serve on this thread until the machine ends. A slow source delays everything
    /// else, the reading of `REMOVE`s included.
    ///
    /// # Panics
    ///
    /// If the driver is running already.
    pub fn run_single(&self) -> Report {
        let desk = &self.control.desk;
        let _running = Running::start(desk, self.on_served.is_some());
        let mut batch = Vec::new();
        loop {
            self.work_off();
            let mut inner = desk.lock();
            if inner.machine.status().is_over() {
                return inner.report();
            }
            let deadline = inner.machine.next_deadline();
            if inner.machine.is_ending() {
                // Polling would return at once, for messages that are not read any more.
                let limit = deadline.map_or(PEER_CHECK, |until| until.since(self.now()));
                desk.wait_for_permit(&mut inner, limit);
                continue;
            }
            drop(inner);
            let wakeup = self.wait(deadline);
            if !wakeup.contains(Wakeup::READABLE) {
                continue;
            }
            let mut inner = desk.lock();
            match inner.machine.begin_read() {
                ReadPermit::Granted => {
                    let max = inner.machine.policy().max_batch;
                    drop(inner);
                    let end = drain(&self.uffd, &mut batch, max);
                    let mut inner = desk.lock();
                    inner.batch_read(self.now(), &batch, end);
                    desk.changed(&inner);
                    self.bring_up(inner);
                }
                ReadPermit::Wait => {
                    let limit = deadline.map_or(PEER_CHECK, |until| until.since(self.now()));
                    desk.wait_for_permit(&mut inner, limit.min(PEER_CHECK));
                }
                ReadPermit::Stopped => {}
            }
        }
    }

    /// Do whatever can be done now.
    fn work_off(&self) {
        let desk = &self.control.desk;
        let mut served = Vec::new();
        let mut inner = desk.lock();
        while let Some(mut job) = inner.next_job(self.now()) {
            let page = inner.page_of(&job);
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

    /// Wait for messages, and tell the machine of whatever else ended the wait.
    pub(super) fn wait(&self, deadline: Option<Time>) -> Wakeup {
        let look = self.check_life.map(|every| self.now().after(every));
        let until = [deadline, look].into_iter().flatten().min();
        let mut outcome = self.waiter().wait(until);
        if let Ok(wakeup) = &mut outcome
            && !wakeup.contains(Wakeup::READABLE)
            && look.is_some_and(|look| look <= self.now())
            && self.is_gone()
        {
            *wakeup |= Wakeup::PEER_GONE;
        }
        let trouble = Wakeup::PEER_GONE | Wakeup::ERROR;
        if let Ok(wakeup) = outcome
            && !wakeup.intersects(trouble)
        {
            return wakeup;
        }
        let mut inner = self.control.desk.lock();
        match outcome {
            Ok(wakeup) if wakeup.contains(Wakeup::PEER_GONE) => inner.machine.peer_gone(),
            Ok(_) => inner.machine.poll_failed(),
            Err(errno) => inner.machine.wait_failed(errno),
        }
        self.control.desk.changed(&inner);
        Wakeup::empty()
    }
}
