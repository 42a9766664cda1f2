//! Our own handler, wrong on purpose: a hand between the machine and the kernel that changes a
//! request, an answer or a message. Owns the mistakes that can be made there; the machine is the
//! one that ships.

use handler::{Backing, states};
use shims::{Addr, CopyMode, Errno, Event, Len, Outcome};
use shims::{Request, Span, Verdict, WriteProtectMode};
use sim::kernel::{PAGE, Payload};

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
    /// Removals are recorded from the page before their first.
    RemovalEarly,
    /// Removals are recorded to the page behind their last.
    RemovalBeyond,
    /// The length of a removal is cut to 32 bits.
    RemovalCut,
    /// What is to be protected is installed, then protected, then its threads are woken.
    ThreeSteps,
    /// What is to be protected is protected first, and then installed.
    ArmedFirst,
    /// A wake that the kernel refuses counts as done.
    WakeRefused,
    /// A snapshot does not wait for the read that is under way.
    SnapshotEarly,
    /// A snapshot does not name the pages that were given up.
    RemovedUntold,
    /// A snapshot does not name the pages that are zeros.
    ZerosUntold,
    /// A page that was ever zeros is zeros for the snapshot, though it was written.
    ZerosWin,
    /// A page that was removed and installed again is removed for a snapshot.
    RemovedKept,
    /// Huge pages are filled as if they were small.
    SmallGrain,
    /// Memory of a shared file is taken for the process's own.
    SharedAsOwn,
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
        (Tamper::RemovalEarly, "B4, range", "removal-early", "remove_selective"),
        (Tamper::RemovalBeyond, "B14, range", "removal-beyond", "remove_multi_page"),
        (Tamper::RemovalCut, "A29", "removal-cut", "four_gib"),
        (Tamper::ThreeSteps, "A15, A16", "three-steps", "wp_write_beside_install"),
        (Tamper::ArmedFirst, "A38, 3.8", "armed-first", "wp_write_is_seen"),
        (Tamper::WakeRefused, "3.10", "wake-refused", "unregister_under_fault"),
        (Tamper::SnapshotEarly, "A26, B13, B18", "snapshot-early", "snapshot_paused"),
        (Tamper::RemovedUntold, "A32", "removed-untold", "snapshot_paused"),
        (Tamper::ZerosUntold, "A30", "zeros-untold", "zeros_saved"),
        (Tamper::ZerosWin, "A31", "zeros-win", "zeros_saved"),
        (Tamper::RemovedKept, "commit", "removed-kept", "zeros_saved"),
        (Tamper::SmallGrain, "range", "small-grain", "hugetlb_missing"),
        (Tamper::SharedAsOwn, "B5", "shared-as-own", "shmem_given_up"),
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
            Tamper::RemovalEarly => "Removals are recorded from the page before their first.",
            Tamper::RemovalBeyond => "Removals are recorded to the page behind their last.",
            Tamper::RemovalCut => "The length of a removal is cut to 32 bits.",
            Tamper::ThreeSteps => "Pages are installed, then protected, then woken for.",
            Tamper::ArmedFirst => "Pages are protected before they are installed.",
            Tamper::WakeRefused => "A wake that the kernel refuses counts as done.",
            Tamper::SnapshotEarly => "A snapshot does not wait for the read under way.",
            Tamper::RemovedUntold => "A snapshot does not name pages that were given up.",
            Tamper::ZerosUntold => "A snapshot does not name pages that are zeros.",
            Tamper::ZerosWin => "Pages that were ever zeros are zeros for a snapshot.",
            Tamper::RemovedKept => {
                "A page that was removed and installed again is removed for a snapshot."
            }
            Tamper::SmallGrain => "Huge pages are filled as if they were small.",
            Tamper::SharedAsOwn => "Memory of a shared file is taken for the process's own.",
        }
    }

    /// What is asked of the kernel instead of `request`.
    pub fn request(self, request: Request, zeros: bool) -> Request {
        match (self, request) {
            (Tamper::ReadsUnprotected, Request::Copy { dst, mode }) if !zeros => {
                Request::Copy { dst, mode: mode - CopyMode::WP }
            }
            (Tamper::SmallGrain, Request::Copy { dst, mode }) => {
                Request::Copy { dst: Span::new(dst.start, PAGE.len()), mode }
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
            (Tamper::WakeRefused, Request::Wake { range }) => {
                Request::Wake { range: Span::new(range.start, Len::new(1)) }
            }
            _ => request,
        }
    }

    /// What is asked of the kernel one after the other instead of `request`, if the hand needs
    /// more than one.
    pub fn requests(self, request: Request, payload: &Payload) -> Vec<(Request, Payload)> {
        let Request::Copy { dst, mode } = request else { return Vec::new() };
        let protect = Request::WriteProtect { range: dst, mode: WriteProtectMode::WP };
        let copy = |mode| (Request::Copy { dst, mode }, payload.clone());
        match self {
            _ if !mode.contains(CopyMode::WP) => Vec::new(),
            Tamper::ThreeSteps => {
                let quiet = (mode - CopyMode::WP) | CopyMode::DONTWAKE;
                let wake = Request::Wake { range: dst };
                vec![copy(quiet), (protect, Payload::None), (wake, Payload::None)]
            }
            Tamper::ArmedFirst => vec![(protect, Payload::None), copy(mode - CopyMode::WP)],
            _ => Vec::new(),
        }
    }

    /// What a snapshot says of a page, instead of `state`.
    pub fn recorded(self, state: Option<u8>, removed_once: bool) -> Option<u8> {
        match (self, state) {
            (Tamper::RemovedUntold, Some(states::REMOVED))
            | (Tamper::ZerosUntold, Some(states::ZERO)) => None,
            (Tamper::ZerosWin, Some(states::DIRTY | states::AMBIGUOUS)) if removed_once => {
                Some(states::ZERO)
            }
            (Tamper::RemovedKept, Some(_)) if removed_once => Some(states::REMOVED),
            _ => state,
        }
    }

    /// What the machine is told of the memory.
    pub fn backing(self, backing: Backing) -> Backing {
        if self == Tamper::SharedAsOwn { Backing::Anonymous } else { backing }
    }

    /// What the machine is told that the kernel answered.
    pub fn outcome(self, outcome: Outcome) -> Outcome {
        match (self, outcome.verdict()) {
            (Tamper::ChangingDone, Verdict::Changing)
            | (Tamper::DeadDone, Verdict::Dead)
            | (Tamper::NoMemoryDone, Verdict::Failed(Errno::ENOMEM))
            | (Tamper::WakeRefused, Verdict::Failed(Errno::EINVAL)) => Outcome::done(PAGE.bytes()),
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
            Tamper::RemovalEarly => each_removal(batch, |span| {
                let start = span.start.raw().saturating_sub(PAGE.bytes());
                Span::new(Addr::new(start), Len::new(span.len.bytes() + PAGE.bytes()))
            }),
            Tamper::RemovalBeyond => each_removal(batch, |span| {
                Span::new(span.start, Len::new(span.len.bytes() + PAGE.bytes()))
            }),
            Tamper::RemovalCut => each_removal(batch, |span| {
                Span::new(span.start, Len::new(span.len.bytes() & u64::from(u32::MAX)))
            }),
            _ => {}
        }
    }
}

fn each_removal(batch: &mut [Event], change: impl Fn(Span) -> Span) {
    for event in batch {
        if let Event::Remove(span) = event {
            *span = change(*span);
        }
    }
}

/// A hand at work: what it does, and the requests of workers that it has not come to the end of.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Hand {
    pub(crate) tamper: Tamper,
    rest: Vec<Rest>,
}

/// What is left to ask for a worker.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Rest {
    worker: usize,
    /// The next one last.
    requests: Vec<(Request, Payload)>,
    /// What the install itself was answered.
    installed: Option<Outcome>,
    /// The one under way is the install.
    installs: bool,
}

impl Hand {
    pub(crate) fn new(tamper: Tamper) -> Box<Hand> {
        Box::new(Hand { tamper, rest: Vec::new() })
    }

    /// What a worker asks of the kernel first, instead of `request`.
    pub(crate) fn first(
        &mut self,
        worker: usize,
        request: Request,
        payload: Payload,
        zeros: bool,
    ) -> (Request, Payload) {
        let mut requests = self.tamper.requests(request, &payload);
        requests.reverse();
        let Some(first) = requests.pop() else {
            return (self.tamper.request(request, zeros), payload);
        };
        let installs = matches!(first.0, Request::Copy { .. });
        self.rest.push(Rest { worker, requests, installed: None, installs });
        first
    }

    /// What it asks next, or what the machine is told.
    pub(crate) fn next(
        &mut self,
        worker: usize,
        outcome: Outcome,
    ) -> Result<(Request, Payload), Outcome> {
        let Some(at) = self.rest.iter().position(|rest| rest.worker == worker) else {
            return Err(self.tamper.outcome(outcome));
        };
        let rest = &mut self.rest[at];
        if rest.installs {
            rest.installed = Some(outcome);
        }
        if outcome.errno.is_none()
            && let Some(next) = rest.requests.pop()
        {
            rest.installs = matches!(next.0, Request::Copy { .. });
            return Ok(next);
        }
        let installed = rest.installed;
        self.rest.swap_remove(at);
        Err(if outcome.errno.is_none() { installed.unwrap_or(outcome) } else { outcome })
    }
}
