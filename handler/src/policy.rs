//! What a handler is allowed to choose: pacing, retries, what a broken source leads to,
//! and the decisions that are wrong on purpose. Owns values only.

use core::time::Duration;

/// Who says whether a page is there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Presence {
    /// The kernel: every `MISSING` fault is answered by an install, and `EEXIST` says that
    /// the page is there.
    Kernel,
    /// The tracker. Wrong on purpose: an install that lands between the reading of a
    /// `REMOVE` and the zap is wiped although the tracker has it (rule d8), and the next
    /// fault on the page is never answered.
    Tracker,
}

/// What keeps an install of source bytes from landing after its page was removed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Freshness {
    /// What goes into a page is decided when the ioctl is handed out, and no message is read
    /// while it is out.
    Exclusive,
    /// It is decided when the bytes are fetched. Wrong on purpose: a removal that is read while
    /// they are on their way is forgotten.
    DecidedEarly,
    /// Messages are read while source installs are out. Wrong on purpose: the removal that is
    /// read goes on, and its zap can be overtaken by the install.
    Overlapping,
}

/// What a page leads to whose source keeps failing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum OnSourceError {
    /// The handler fails. Whoever waits for the page waits on.
    FailClosed,
    /// The page is poisoned: whoever touches it gets `SIGBUS` (rule e16), the others are
    /// served on.
    Poison,
}

/// Does the handler find out which pages are written?
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Writes {
    /// No. A page that was installed for a read may have been written since.
    Unseen,
    /// Yes: the memory is registered for `WP` as well, what is installed for a read is
    /// write-protected, and the first write of a page makes it `Dirty`.
    Tracked,
}

/// What a fault leads to that is in no region, and that no message explains.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Outside {
    /// The handler fails: more is registered than it was told of.
    Fail,
    /// The page is zeros. For clients that let mappings grow in place, of which no message
    /// tells (rule d18).
    Zeros,
}

/// A decision about pages that is wrong on purpose, so that a search has something to find.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Slip {
    /// A page that was given up while it was un-protected for a write counts as written, and as
    /// there.
    RemovedIsWritten,
    /// Whoever waits for a baseline may go on when it is exported, before the pages that were
    /// dirty are made clean.
    BaselineLate,
    /// A baseline that is given up while its bytes are being saved counts as taken.
    CancelledCounts,
    /// A read fault that finds its page there makes it clean, whoever wrote it meanwhile.
    ReadOverwrites,
    /// What probes have found for one snapshot holds for the next as well.
    ProbesKept,
}

/// Delays that double from one attempt to the next, up to a limit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Backoff {
    /// Before the second attempt.
    pub initial: Duration,
    /// Never longer than this.
    pub max: Duration,
}

/// How a [`Machine`](crate::Machine) decides.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Policy {
    /// Who says whether a page is there.
    pub presence: Presence,
    /// What keeps stale bytes out.
    pub freshness: Freshness,
    /// Does it find out which pages are written?
    pub writes: Writes,
    /// May the client move its memory? To be set if `EVENT_REMAP` was asked for: an install
    /// that was decided before a move must not land after it, whatever it installs.
    pub remaps: bool,
    /// What a fault outside every region leads to.
    pub outside: Outside,
    /// What it does wrong on purpose.
    pub slip: Option<Slip>,
    /// Delays between attempts while the address space is changing (`EAGAIN`).
    pub defer: Backoff,
    /// How often a page is fetched before its source is called broken; at least 1.
    pub source_attempts: u32,
    /// Delays between those attempts.
    pub source_backoff: Backoff,
    /// What follows then.
    pub on_source_error: OnSourceError,
    /// How often an install is tried that fails with `ENOMEM`; at least 1.
    pub memory_attempts: u32,
    /// Delays between those attempts.
    pub memory_backoff: Backoff,
    /// How often a fault is tried against `EAGAIN` once no more messages are read,
    /// because the handler is about to end; then its thread is woken, so that its
    /// message is queued again for whoever reads next.
    pub last_attempts: u32,
    /// How often a snapshot asks the kernel about one page against `EAGAIN` before it
    /// calls the page ambiguous.
    pub probe_attempts: u32,
    /// Messages that a driver reads before it hands them over even if more are queued.
    pub max_batch: usize,
}

impl Backoff {
    /// The delay before the attempt that follows `failures` failed ones.
    pub fn delay(self, failures: u32) -> Duration {
        let factor = 1u32 << failures.saturating_sub(1).min(20);
        self.initial.saturating_mul(factor).min(self.max)
    }
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            presence: Presence::Kernel,
            freshness: Freshness::Exclusive,
            writes: Writes::Unseen,
            remaps: false,
            outside: Outside::Fail,
            slip: None,
            defer: Backoff { initial: Duration::from_micros(50), max: Duration::from_millis(2) },
            source_attempts: 4,
            source_backoff: Backoff {
                initial: Duration::from_millis(50),
                max: Duration::from_millis(500),
            },
            on_source_error: OnSourceError::FailClosed,
            memory_attempts: 6,
            memory_backoff: Backoff {
                initial: Duration::from_millis(1),
                max: Duration::from_millis(100),
            },
            last_attempts: 8,
            probe_attempts: 16,
            max_batch: 1024,
        }
    }
}

impl Policy {
    /// The names that [`by_name`](Policy::by_name) knows.
    pub const NAMES: &'static [&'static str] =
        &["default", "short-circuit", "decided-early", "overlapping"];

    /// The handler that trusts its tracker for presence, wrong on purpose.
    pub fn short_circuit() -> Policy {
        Policy { presence: Presence::Tracker, ..Policy::default() }
    }

    /// The handler that makes this mistake.
    pub fn slipping(slip: Slip) -> Policy {
        Policy { slip: Some(slip), ..Policy::default() }
    }

    /// The policy of that name; `None` if there is none.
    pub fn by_name(name: &str) -> Option<Policy> {
        match name {
            "default" => Some(Policy::default()),
            "short-circuit" => Some(Policy::short_circuit()),
            "decided-early" => {
                Some(Policy { freshness: Freshness::DecidedEarly, ..Policy::default() })
            }
            "overlapping" => {
                Some(Policy { freshness: Freshness::Overlapping, ..Policy::default() })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_name_is_a_different_policy() {
        let all: Vec<_> = Policy::NAMES.iter().map(|n| Policy::by_name(n).unwrap()).collect();
        for (i, a) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|b| a != b), "{}", Policy::NAMES[i]);
        }
        assert_eq!(all[0], Policy::default());
        assert_eq!(Policy::by_name("Default"), None);
    }

    #[test]
    fn delays_double_up_to_the_limit() {
        let defer = Policy::default().defer;
        let delays: Vec<_> = (1..=8).map(|n| defer.delay(n).as_micros()).collect();
        assert_eq!(delays, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(defer.delay(u32::MAX), defer.max);
    }
}
