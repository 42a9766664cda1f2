//! What every driver does in the same way: drain the descriptor, perform an action, keep
//! the fetched bytes. Owns no loop and no thread.

use std::panic::{AssertUnwindSafe, catch_unwind};

use shims::{Errno, Event, Outcome, PageSize, Time, Uffd};

use crate::{Action, Completion, DrainEnd, Machine, PageSource, Payload, ReqId, SourceError};

/// Read until nothing is queued, or `batch` holds `max` messages.
///
/// The bound matters: a thread that faults inside the kernel with a signal pending queues
/// its message again and again (rule a26), and the descriptor is never found empty.
pub(super) fn drain<U: Uffd>(uffd: &U, batch: &mut Vec<Event>, max: usize) -> DrainEnd {
    batch.clear();
    while batch.len() < max {
        match uffd.read_events(batch, max - batch.len()) {
            Ok(0) => return DrainEnd::Eof,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return DrainEnd::Drained,
            Err(errno) => return DrainEnd::Error(errno),
        }
    }
    DrainEnd::BatchFull
}

/// An action on its way, with the buffer it needs.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) action: Action,
    bytes: Option<Box<[u8]>>,
}

/// What came of a job.
#[derive(Debug)]
pub(super) enum Answer {
    Fetched(Result<(), SourceError>),
    Completed(Outcome),
}

/// The fetched bytes, by request, and the buffers that are free.
#[derive(Debug)]
pub(super) struct Bytes {
    page: PageSize,
    held: Vec<Option<Box<[u8]>>>,
    free: Vec<Box<[u8]>>,
}

/// Bytes in buffers that are kept although no request uses them.
const FREE_BYTES: u64 = 16 << 20;

impl Bytes {
    pub(super) fn new(page: PageSize) -> Bytes {
        Bytes { page, held: Vec::new(), free: Vec::new() }
    }

    /// `action` with its buffer.
    pub(super) fn equip(&mut self, action: Action) -> Job {
        let bytes = match action {
            Action::Fetch { .. } => Some(
                self.free
                    .pop()
                    .unwrap_or_else(|| vec![0; self.page.bytes() as usize].into_boxed_slice()),
            ),
            Action::Ioctl { req, payload: Payload::Fetched, .. } => {
                let bytes = self.held[req.slot()].take();
                assert!(bytes.is_some(), "the machine remembers what has been fetched");
                bytes
            }
            Action::Ioctl { .. } => None,
        };
        Job { action, bytes }
    }

    /// The job is done: keep its bytes, or free whatever its request held.
    fn settle(&mut self, req: ReqId, bytes: Option<Box<[u8]>>, completion: Completion) {
        if self.held.len() <= req.slot() {
            self.held.resize_with(req.slot() + 1, || None);
        }
        let held = &mut self.held[req.slot()];
        match (completion, bytes) {
            (Completion::Kept, Some(bytes)) => *held = Some(bytes),
            (Completion::Kept, None) => {}
            (Completion::Done, bytes) => {
                let room = FREE_BYTES / self.page.bytes();
                for bytes in bytes.into_iter().chain(held.take()) {
                    if (self.free.len() as u64) < room {
                        self.free.push(bytes);
                    }
                }
            }
        }
    }
}

/// Do what `job` says. A source that panics is a source that failed.
pub(super) fn perform<U: Uffd, S: PageSource>(
    job: &mut Job,
    uffd: &U,
    source: &S,
    zeros: &[u8],
) -> Answer {
    match job.action {
        Action::Fetch { page, .. } => {
            let buf = job.bytes.as_deref_mut().expect("a fetch is given a buffer");
            let read = AssertUnwindSafe(|| source.read_page(page, buf));
            // The buffer is whole again with the next fetch into it, and the source says
            // by its own types whether it outlives a panic.
            Answer::Fetched(catch_unwind(read).unwrap_or(Err(SourceError::Panicked)))
        }
        Action::Ioctl { request, payload, .. } => {
            let bytes = match payload {
                Payload::None => &[][..],
                Payload::Zeros => zeros,
                Payload::Fetched => {
                    let bytes = job.bytes.as_deref().expect("a fetched page is held");
                    let into = request.range().start.raw() % bytes.len() as u64;
                    &bytes[into as usize..]
                }
            };
            Answer::Completed(uffd.submit(&request, bytes))
        }
    }
}

/// Tell the machine what came of `job`.
pub(super) fn answer(
    machine: &mut Machine,
    bytes: &mut Bytes,
    job: Job,
    answer: Answer,
    now: Time,
) {
    let req = job.action.req();
    let completion = match answer {
        Answer::Fetched(result) => machine.fetched(req, result, now),
        Answer::Completed(outcome) => machine.completed(req, outcome, now),
    };
    bytes.settle(req, job.bytes, completion);
}
