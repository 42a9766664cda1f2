//! Threads: `std::thread`, as far as a handler needs it.

use core::time::Duration;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::after;
use crate::coop::{self, Op};

/// A thread that can be waited for.
#[derive(Debug)]
pub struct JoinHandle<T> {
    id: usize,
    result: Arc<Mutex<Option<T>>>,
}

/// A thread about to be started.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    name: Option<String>,
}

/// Start a thread.
pub fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    start(String::new(), body)
}

fn start<T: Send + 'static>(
    name: String,
    body: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let result = Arc::new(Mutex::new(None));
    let put = Arc::clone(&result);
    let id = coop::spawn(name, move || {
        let value = body();
        *put.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
    });
    JoinHandle { id, result }
}

/// Sleep for `time` of the search.
pub fn sleep(time: Duration) {
    coop::point(Op::Sleep { until: after(time) });
}

/// Let others go first.
pub fn yield_now() {
    coop::point(Op::Yield);
}

impl Builder {
    /// A thread without a name.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// The same with a name, which reports and schedules call it by.
    #[must_use]
    pub fn name(self, name: String) -> Builder {
        Builder { name: Some(name) }
    }

    /// Start it. There is always room for a thread.
    pub fn spawn<T: Send + 'static>(
        self,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<JoinHandle<T>> {
        Ok(start(self.name.unwrap_or_default(), body))
    }
}

impl<T> JoinHandle<T> {
    /// Wait for its end. Never an error: a thread that panics ends the run.
    pub fn join(self) -> std::thread::Result<T> {
        coop::point(Op::Join { thread: self.id });
        let value = self.result.lock().unwrap_or_else(PoisonError::into_inner).take();
        value.ok_or_else(|| Box::new("the thread did not come to its end") as _)
    }

    /// Has it ended?
    pub fn is_finished(&self) -> bool {
        coop::point(Op::Yield);
        coop::with(|run| run.ended(self.id)).unwrap_or(true)
    }
}
