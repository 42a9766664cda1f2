//! What of the handler decides about everything from now on, with its workers in an order of their
//! own: which of them does what makes no difference. Owns that hash, and what a fault has left
//! behind in the handler; the machine hashes itself.

use core::hash::{Hash, Hasher};

use shims::{Addr, Event, Time};
use sim::explore::Fingerprint;
use sim::world::Threads;

use super::{Model, Reader, Worker};

/// Workers that are put in order; with more, all stay where they are.
const ORDERED: usize = 16;

impl Model {
    /// All but the last snapshot, which is looked at when it is taken and never again, and the
    /// bytes of pages, which are those of the source.
    pub(super) fn hash_in_order<H: Hasher>(
        &self,
        now: Time,
        threads: Threads<'_>,
        mut place: impl FnMut(usize, usize),
        state: &mut H,
    ) {
        let read = match &self.reader {
            Reader::Apply { batch, .. } => Some(&batch[..]),
            _ => None,
        };
        if self.children == 0 {
            self.machine.hash_asked(now, read, state);
        } else {
            // Handlers of children begin as copies, and are not asked for that.
            self.machine.hash_reading(now, read, state);
        }
        match &self.reader {
            Reader::Apply { batch, end } => {
                (0_u8, end).hash(state);
                self.hash_messages(batch, threads, state);
            }
            reader => (1_u8, reader).hash(state),
        }
        threads.hash_read(0, state);
        self.hash_messages(threads.messages(0), threads, state);
        (self.snapshotting, self.ctx, self.children, self.late).hash(state);
        let count = self.workers.len();
        let mut prints = [(Fingerprint::begin(), 0); ORDERED];
        for (i, worker) in self.workers.iter().enumerate() {
            let mut print = Fingerprint::begin();
            self.hash_worker(worker, now, &mut print);
            threads.hash_call(1 + i, &mut print);
            threads.messages(1 + i).hash(&mut print);
            if count > ORDERED {
                print.hash(state);
            } else {
                prints[i] = (print.end(), i);
            }
        }
        if count > ORDERED {
            return;
        }
        prints[..count].sort_unstable();
        for (at, (print, i)) in prints[..count].iter().enumerate() {
            print.hash(state);
            place(1 + i, 1 + at);
        }
    }

    /// The hash of messages that were read: of faults as far as the machine can tell them apart,
    /// if nobody changes what is mapped, or forks.
    fn hash_messages<H: Hasher>(&self, batch: &[Event], threads: Threads<'_>, state: &mut H) {
        if self.children > 0 || !threads.are_steady() || !self.machine.hash_faults(batch, state) {
            hash_batch(batch, state);
        }
    }

    pub(super) fn hash_worker<H: Hasher>(&self, worker: &Worker, now: Time, state: &mut H) {
        core::mem::discriminant(worker).hash(state);
        match worker {
            Worker::Idle => {}
            Worker::Fetch { req, .. } | Worker::Fetched { req, .. } | Worker::Ioctl { req } => {
                self.machine.rank(*req).hash(state);
            }
            Worker::Late { req, until, .. } => {
                (self.machine.rank(*req), until.since(now)).hash(state);
            }
            Worker::Failed { req, error, .. } => (self.machine.rank(*req), error).hash(state),
            Worker::Answered { req, outcome } => (self.machine.rank(*req), outcome).hash(state),
        }
    }

    /// Is there a request for the page at `addr`, or a message about it that may become one? What
    /// snapshots and changes of the layout may lead to is not looked into.
    pub(super) fn is_about(&self, addr: Addr, threads: Threads<'_>) -> bool {
        let size = self.machine.regions().page_size();
        let about = |event: &Event| match event {
            Event::Fault(fault) => fault.addr.align_down(size) == addr,
            Event::Remove(_) => false,
            _ => true,
        };
        let read: &[Event] = match &self.reader {
            Reader::Apply { batch, .. } => batch,
            _ => &[],
        };
        self.machine.may_touch(addr)
            || read.iter().any(about)
            || threads.messages(0).iter().any(about)
    }
}

/// The machine looks at the removals of a batch before it looks at faults, wherever they stand.
fn hash_batch<H: Hasher>(batch: &[Event], state: &mut H) {
    let usual = |event: &Event| matches!(event, Event::Fault(_) | Event::Remove(_));
    batch.len().hash(state);
    if !batch.iter().all(usual) {
        return batch.hash(state);
    }
    let removal = |event: &&Event| matches!(event, Event::Remove(_));
    batch.iter().filter(removal).for_each(|event| event.hash(state));
    batch.iter().filter(|event| !removal(event)).for_each(|event| event.hash(state));
}
