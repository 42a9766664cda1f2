//! Decoded messages of a userfaultfd. Owns what a message says; how it was read is the
//! backend's business.

use core::fmt;

use crate::{Addr, FaultFlags, Span};

/// A thread identifier in the reader's own view.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Tid(pub u32);

/// One page fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Fault {
    /// The page (huge page) that was touched, or the exact byte under
    /// [`Features::EXACT_ADDRESS`](crate::Features::EXACT_ADDRESS) (rule c7).
    pub addr: Addr,
    /// Why and how.
    pub flags: FaultFlags,
    /// Who, if [`Features::THREAD_ID`](crate::Features::THREAD_ID) was enabled.
    pub tid: Option<Tid>,
}

/// Which promise of the registration a fault is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FaultKind {
    /// No page is mapped.
    Missing,
    /// A page is in the page cache, not mapped.
    Minor,
    /// A page is mapped and write-protected.
    Wp,
}

/// A message of a userfaultfd, decoded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Event {
    /// A thread sleeps, or is about to, until its page is there or it is woken.
    Fault(Fault),
    /// A range is about to lose its pages: reading this message is what lets it go on
    /// (rules d2, d7).
    Remove(Span),
    /// A range has been unmapped already (rule d15).
    Unmap(Span),
    /// A range has moved already (rule d22).
    Remap {
        /// Old start.
        from: Addr,
        /// New start.
        to: Addr,
        /// Bytes moved.
        len: u64,
    },
    /// The process forked; the number is a new userfaultfd in the reader's descriptor
    /// table (rule d28). Whoever reads the message owns it.
    Fork {
        /// The descriptor's number.
        fd: i32,
    },
    /// A message this version does not know.
    Unknown(u8),
}

impl Fault {
    /// Which kind of fault this is. A kernel never sets `WP` and `MINOR` together; if a
    /// message does, `WP` is what blocks the thread.
    pub fn kind(&self) -> FaultKind {
        if self.flags.contains(FaultFlags::WP) {
            FaultKind::Wp
        } else if self.flags.contains(FaultFlags::MINOR) {
            FaultKind::Minor
        } else {
            FaultKind::Missing
        }
    }

    /// Was write permission asked for?
    pub fn is_write(&self) -> bool {
        self.flags.contains(FaultFlags::WRITE)
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FaultKind::Missing => "MISSING",
            FaultKind::Minor => "MINOR",
            FaultKind::Wp => "WP",
        })
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Fault(fault) => {
                let access = if fault.is_write() { "write" } else { "read" };
                write!(f, "{} {access} at {}", fault.kind(), fault.addr)
            }
            Event::Remove(span) => write!(f, "REMOVE {span}"),
            Event::Unmap(span) => write!(f, "UNMAP {span}"),
            Event::Remap { from, to, len } => write!(f, "REMAP {from} to {to}, {len:#x} bytes"),
            Event::Fork { fd } => write!(f, "FORK, child's userfaultfd is {fd}"),
            Event::Unknown(code) => write!(f, "unknown message {code:#x}"),
        }
    }
}
