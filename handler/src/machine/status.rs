//! How a machine is doing, and why it ended.

use core::fmt;

use shims::{Addr, Errno, Event, FaultKind, Outcome, PageNo, Request};

use crate::SourceError;

/// How a machine is doing.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Status {
    /// It serves, or still serves what it had read when the reason to end came up.
    Running,
    /// It ended as it should.
    Stopped(StopReason),
    /// It ended because something went wrong.
    Failed(HandlerError),
}

/// Why a machine stopped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum StopReason {
    /// The process whose memory it served is gone (`ESRCH`, or the driver was told).
    PeerGone,
    /// Its owner asked for it.
    Requested,
}

/// What made a machine fail.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum HandlerError {
    /// A read returned 0 bytes, which a userfaultfd never does: the descriptor is
    /// something else by now.
    EndOfFile,
    /// A read failed.
    Read(Errno),
    /// The descriptor reports an error to `poll`: it is blocking, or no userfaultfd
    /// (rule a18).
    Poll,
    /// Waiting for messages failed.
    Wait(Errno),
    /// A thread of the driver panicked outside the source.
    Panicked,
    /// A thread of the driver could not be started.
    Spawn(Errno),
    /// A message that the registration never asked for.
    UnexpectedEvent(Event),
    /// A fault of a kind that the policy does not provide for.
    UnexpectedFault {
        /// Where.
        addr: Addr,
        /// Which kind.
        kind: FaultKind,
    },
    /// A fault outside every region.
    FaultOutside {
        /// Where.
        addr: Addr,
    },
    /// An ioctl was refused for good.
    Ioctl {
        /// The page it was about.
        page: PageNo,
        /// The ioctl.
        request: Request,
        /// The kernel's answer.
        outcome: Outcome,
        /// How often it was tried.
        attempts: u32,
    },
    /// The source of a page failed as often as the policy allows.
    Source {
        /// The page.
        page: PageNo,
        /// The last error.
        error: SourceError,
        /// How often it was tried.
        attempts: u32,
    },
}

/// What a machine did so far. Each fault that was read is counted in `faults` and, once
/// it has ended, in exactly one of the six outcomes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counters {
    /// Batches read, empty ones too.
    pub reads: u64,
    /// Batches without any message.
    pub empty_reads: u64,
    /// Faults read.
    pub faults: u64,
    /// `REMOVE` messages read.
    pub removes: u64,
    /// `UNMAP` messages read.
    pub unmaps: u64,
    /// `REMAP` messages read.
    pub remaps: u64,
    /// `FORK` messages read.
    pub forks: u64,
    /// `REMOVE` messages, or bytes of them, that lie outside every region.
    pub removes_outside: u64,
    /// Faults that joined a request that was under way already.
    pub joined: u64,
    /// Outcome: an install filled the page.
    pub installed: u64,
    /// Outcome: the page was there; its waiters were woken.
    pub already_present: u64,
    /// Outcome: nothing was installed; the thread was woken to meet its fate, or its
    /// process is gone.
    pub dropped: u64,
    /// Outcome: the page was poisoned.
    pub poisoned: u64,
    /// Outcome: a write to a protected page; the protection was taken away.
    pub unprotected: u64,
    /// Outcome: the handler gave up and the thread sleeps on.
    pub failed: u64,
    /// Faults that the tracker answered without asking the kernel
    /// ([`Presence::Tracker`](crate::Presence::Tracker)); they count as `already_present`.
    pub short_circuited: u64,
    /// Installs put off because the address space was changing.
    pub deferrals: u64,
    /// Pages asked of the source.
    pub fetches: u64,
    /// Fetches that failed.
    pub source_errors: u64,
    /// Fetched pages that were dropped because the page had been removed meanwhile.
    pub stale_fetches: u64,
    /// `WAKE`s.
    pub wakes: u64,
    /// Questions to the kernel on behalf of snapshots.
    pub probes: u64,
    /// Pages mapped from the page cache, or tried to be.
    pub continues: u64,
    /// Pages protected again on behalf of baselines.
    pub protects: u64,
}

impl Counters {
    /// Faults that have an outcome.
    pub const fn ended(&self) -> u64 {
        self.answered() + self.failed
    }

    /// Faults whose threads were let go on.
    pub const fn answered(&self) -> u64 {
        self.installed + self.already_present + self.dropped + self.poisoned + self.unprotected
    }

    /// Faults that are still being served.
    pub const fn pending(&self) -> u64 {
        self.faults - self.ended()
    }
}

impl Status {
    /// Is it over?
    pub const fn is_over(&self) -> bool {
        !matches!(self, Status::Running)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Status::Running => write!(f, "running"),
            Status::Stopped(StopReason::PeerGone) => {
                write!(f, "stopped: the process whose memory it served is gone")
            }
            Status::Stopped(StopReason::Requested) => write!(f, "stopped on request"),
            Status::Failed(error) => write!(f, "failed: {error}"),
        }
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandlerError::EndOfFile => write!(
                f,
                "a read returned 0 bytes: the descriptor is no userfaultfd (was its number \
                 closed and used again?)"
            ),
            HandlerError::Read(errno) => write!(f, "reading messages: {errno}"),
            HandlerError::Poll => write!(
                f,
                "poll reports an error: the descriptor is no userfaultfd, has had no \
                 UFFDIO_API, or is not O_NONBLOCK"
            ),
            HandlerError::Wait(errno) => write!(f, "waiting for messages: {errno}"),
            HandlerError::Panicked => write!(f, "a thread of the handler panicked"),
            HandlerError::Spawn(errno) => write!(f, "starting a worker thread: {errno}"),
            HandlerError::UnexpectedEvent(event) => {
                write!(f, "unexpected message: {event}")
            }
            HandlerError::UnexpectedFault { addr, kind } => {
                write!(f, "unexpected {kind} fault at {addr}; the policy does not ask for such")
            }
            HandlerError::FaultOutside { addr } => {
                write!(f, "fault at {addr}, which is in no region")
            }
            HandlerError::Ioctl { page, request, outcome, attempts } => {
                write!(f, "page {page}: {request} was refused: {outcome} (attempt {attempts})")
            }
            HandlerError::Source { page, error, attempts } => {
                write!(f, "page {page}: its source failed {attempts} times, last: {error}")
            }
        }
    }
}

impl core::error::Error for HandlerError {}
