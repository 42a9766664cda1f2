//! Counting calls and what became of them. Owns the counters.

use core::fmt;
use std::collections::BTreeMap;
use std::sync::Mutex;

use super::lock;
use super::{Answer, Entry, Observer};
use crate::{Errno, Event, Verdict};

/// Counters of calls, by the name of the call and the name of its result.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Counts {
    calls: BTreeMap<(&'static str, &'static str), u64>,
    messages: BTreeMap<&'static str, u64>,
    bytes: u64,
}

/// An [`Observer`] that counts.
#[derive(Debug, Default)]
pub struct Meter {
    counts: Mutex<Counts>,
}

impl Meter {
    /// Nothing has passed.
    pub const fn new() -> Meter {
        let counts = Counts { calls: BTreeMap::new(), messages: BTreeMap::new(), bytes: 0 };
        Meter { counts: Mutex::new(counts) }
    }

    /// The counters now.
    pub fn counts(&self) -> Counts {
        lock(&self.counts).clone()
    }
}

impl Counts {
    /// How often `call` (`"copy"`, `"read"`, as [`Call::name`](super::Call::name) has it)
    /// had `result`: `"done"`, `"partial"`, or the name of an errno.
    pub fn of(&self, call: &str, result: &str) -> u64 {
        let of = |((c, r), count): (&(&str, &str), &u64)| {
            if (*c, *r) == (call, result) { *count } else { 0 }
        };
        self.calls.iter().map(of).sum()
    }

    /// How often `call` was made.
    pub fn total(&self, call: &str) -> u64 {
        self.calls.iter().map(|((c, _), count)| if *c == call { *count } else { 0 }).sum()
    }

    /// How many messages of that kind were read: `"fault"`, `"remove"`, `"unmap"`,
    /// `"remap"`, `"fork"` or `"unknown"`.
    pub fn messages(&self, kind: &str) -> u64 {
        self.messages.get(kind).copied().unwrap_or(0)
    }

    /// Bytes that resolving ioctls installed.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Every counter above zero: call, result, count; sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        self.calls.iter().map(|((call, result), count)| (*call, *result, *count))
    }
}

fn result(answer: &Answer) -> &'static str {
    let named = |errno: Errno| errno.name().unwrap_or("other error");
    match answer {
        Answer::Resolve(outcome) => match outcome.verdict() {
            Verdict::Done => "done",
            Verdict::Partial(_) => "partial",
            Verdict::Changing => "EAGAIN",
            Verdict::Present => "EEXIST",
            Verdict::NoMapping => "ENOENT",
            Verdict::Dead => "ESRCH",
            Verdict::Failed(errno) => named(errno),
        },
        Answer::Api(Err(errno))
        | Answer::Register(Err(errno))
        | Answer::Unit(Err(errno))
        | Answer::Read(Err(errno)) => named(*errno),
        Answer::Read(Ok(events)) if events.is_empty() => "end of file",
        Answer::Api(Ok(_)) | Answer::Register(Ok(_)) | Answer::Unit(Ok(())) | Answer::Read(_) => {
            "done"
        }
    }
}

impl Observer for Meter {
    const DIGESTS: bool = false;

    fn observe(&self, entry: Entry) {
        let mut counts = lock(&self.counts);
        *counts.calls.entry((entry.call.name(), result(&entry.answer))).or_default() += 1;
        match entry.answer {
            Answer::Resolve(outcome) => counts.bytes += outcome.bytes_done(),
            Answer::Read(Ok(events)) => {
                for event in events {
                    let kind = match event {
                        Event::Fault(_) => "fault",
                        Event::Remove(_) => "remove",
                        Event::Unmap(_) => "unmap",
                        Event::Remap { .. } => "remap",
                        Event::Fork { .. } => "fork",
                        Event::Unknown(_) => "unknown",
                    };
                    *counts.messages.entry(kind).or_default() += 1;
                }
            }
            _ => {}
        }
    }
}

/// One counter a line.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (call, result, count) in self.iter() {
            writeln!(f, "{call} {result}: {count}")?;
        }
        for (kind, count) in &self.messages {
            writeln!(f, "messages {kind}: {count}")?;
        }
        writeln!(f, "bytes installed: {}", self.bytes)
    }
}
