//! Keeping every call. Owns the log.

use core::fmt;
use std::sync::Mutex;

use super::lock;
use super::{Entry, Observer};

/// An [`Observer`] that keeps each entry.
#[derive(Debug, Default)]
pub struct Record {
    log: Mutex<Vec<Entry>>,
}

impl Record {
    /// An empty log.
    pub const fn new() -> Record {
        Record { log: Mutex::new(Vec::new()) }
    }

    /// The log so far.
    pub fn entries(&self) -> Vec<Entry> {
        lock(&self.log).clone()
    }

    /// The log, taken out; what follows starts a new one.
    pub fn take(&self) -> Vec<Entry> {
        core::mem::take(&mut *lock(&self.log))
    }
}

impl Observer for Record {
    const DIGESTS: bool = true;

    fn observe(&self, entry: Entry) {
        lock(&self.log).push(entry);
    }
}

/// One entry a line.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        lock(&self.log).iter().try_for_each(|entry| writeln!(f, "{entry}"))
    }
}
