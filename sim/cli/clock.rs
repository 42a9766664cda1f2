//! The one clock of the command line: how long a campaign took. Nothing that a run depends
//! on reads it.

use std::time::{Duration, Instant};

/// Started when made.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Start.
    #[expect(clippy::disallowed_methods, reason = "for progress and rates, never for a choice")]
    pub fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    /// How long ago it was started.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
