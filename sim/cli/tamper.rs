//! Our own handler, wrong on purpose: a hand between the machine and the kernel that changes a
//! request, an answer or a message. Owns the mistakes that can be made there; the machine is the
//! one that ships.

use shims::{CopyMode, Errno, Event, Len, Outcome, Request, Span, Verdict, WriteProtectMode};
use sim::kernel::PAGE;

/// What the hand does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Tamper {
    /// Pages that are read come without protection: their writes go unseen.
    ReadsUnprotected,
    /// Zeros come without protection.
    ZerosUnprotected,
    /// Protection is taken away and nobody is woken.
    UnprotectQuiet,
    /// A wake goes to the page behind the one it is for.
    WakeMisplaced,
    /// `EAGAIN` counts as installed.
    ChangingDone,
    /// `EAGAIN` is an error like any other.
    ChangingFatal,
    /// `ENOENT` is an error like any other.
    NoEntryFatal,
    /// `ESRCH` counts as installed.
    DeadDone,
    /// `ESRCH` is an error like any other.
    DeadFatal,
    /// `ENOMEM` counts as installed.
    NoMemoryDone,
    /// Removals are read and not recorded.
    RemovalDropped,
    /// Removals are recorded without their last page.
    RemovalShort,
}

impl Tamper {
    /// All of them, with the entries they stand for, their names, and the world of the zoo,
    /// or the built-in scenario, in which each is to be found.
    pub const ALL: &'static [(Tamper, &'static str, &'static str, &'static str)] = &[
        (Tamper::ReadsUnprotected, "A11", "reads-unprotected", "wp_write_is_seen"),
        (Tamper::ZerosUnprotected, "A12, A13", "zeros-unprotected", "wp_zeros_stay_zero"),
        (Tamper::UnprotectQuiet, "wake", "unprotect-quiet", "wp_write_is_seen"),
        (Tamper::WakeMisplaced, "wake", "wake-misplaced", "unregister_under_fault"),
        (Tamper::ChangingDone, "commit", "changing-done", "removed_beside"),
        (Tamper::ChangingFatal, "A22", "changing-error", "stale_source"),
        (Tamper::NoEntryFatal, "A10, B11", "no-entry-error", "unregister_under_fault"),
        (Tamper::DeadDone, "A23, 3.9", "dead-done", "killed"),
        (Tamper::DeadFatal, "A50", "dead-error", "killed"),
        (Tamper::NoMemoryDone, "commit", "no-memory-done", "no_memory"),
        (Tamper::RemovalDropped, "commit", "removal-dropped", "remove_after_read"),
        (Tamper::RemovalShort, "range", "removal-short", "remove_multi_page"),
    ];

    /// What is wrong.
    pub fn about(self) -> &'static str {
        match self {
            Tamper::ReadsUnprotected => "Pages that are read come without protection.",
            Tamper::ZerosUnprotected => "Zeros that are read come without protection.",
            Tamper::UnprotectQuiet => "Protection is taken away, and nobody is woken.",
            Tamper::WakeMisplaced => "A wake goes to the page behind the one it is for.",
            Tamper::ChangingDone => "EAGAIN counts as installed.",
            Tamper::ChangingFatal => "EAGAIN is an error like any other.",
            Tamper::NoEntryFatal => "ENOENT is an error like any other.",
            Tamper::DeadDone => "ESRCH counts as installed.",
            Tamper::DeadFatal => "ESRCH is an error like any other.",
            Tamper::NoMemoryDone => "ENOMEM counts as installed.",
            Tamper::RemovalDropped => "Removals are read and not recorded.",
            Tamper::RemovalShort => "Removals are recorded without their last page.",
        }
    }

    /// What is asked of the kernel instead of `request`.
    pub fn request(self, request: Request, zeros: bool) -> Request {
        match (self, request) {
            (Tamper::ReadsUnprotected, Request::Copy { dst, mode }) if !zeros => {
                Request::Copy { dst, mode: mode - CopyMode::WP }
            }
            (Tamper::ZerosUnprotected, Request::Copy { dst, mode }) if zeros => {
                Request::Copy { dst, mode: mode - CopyMode::WP }
            }
            (Tamper::UnprotectQuiet, Request::WriteProtect { range, mode }) if mode.is_empty() => {
                Request::WriteProtect { range, mode: WriteProtectMode::DONTWAKE }
            }
            (Tamper::WakeMisplaced, Request::Wake { range }) => {
                let start = range.start.checked_add(PAGE.len()).unwrap_or(range.start);
                Request::Wake { range: Span::new(start, range.len) }
            }
            _ => request,
        }
    }

    /// What the machine is told that the kernel answered.
    pub fn outcome(self, outcome: Outcome) -> Outcome {
        match (self, outcome.verdict()) {
            (Tamper::ChangingDone, Verdict::Changing)
            | (Tamper::DeadDone, Verdict::Dead)
            | (Tamper::NoMemoryDone, Verdict::Failed(Errno::ENOMEM)) => Outcome::done(PAGE.bytes()),
            (Tamper::ChangingFatal, Verdict::Changing)
            | (Tamper::DeadFatal, Verdict::Dead)
            | (Tamper::NoEntryFatal, Verdict::NoMapping) => Outcome::bare(Errno::EINVAL),
            _ => outcome,
        }
    }

    /// What the machine is told that was read.
    pub fn batch(self, batch: &mut Vec<Event>) {
        match self {
            Tamper::RemovalDropped => batch.retain(|event| !matches!(event, Event::Remove(_))),
            Tamper::RemovalShort => {
                for event in batch {
                    if let Event::Remove(span) = event
                        && span.len.bytes() > PAGE.bytes()
                    {
                        span.len = Len::new(span.len.bytes() - PAGE.bytes());
                    }
                }
            }
            _ => {}
        }
    }
}
