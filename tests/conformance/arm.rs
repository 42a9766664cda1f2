//! What a case can do to a kernel and see of it, whichever kernel it is. Owns the
//! vocabulary; `sim_arm.rs` and `linux_arm.rs` give it its two meanings.

use core::fmt;

use shims::{Addr, Errno, Event, Features, Len, PageSize, RegisterModes, Span, Tid, Uffd};
use sim::Content;
use sim::vma::Prot;

pub(crate) const PAGE: u64 = PageSize::KIB4.bytes();

/// Something a thread does. Offsets and lengths are bytes from the start of the arena.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    /// Load the stamp of a page, from user mode. Must not be refused.
    Load(u64),
    /// Load the first word of a page only, which tells source from zeros but not which
    /// page of the source: one access, where a free-running thread needs it to be one.
    Glance(u64),
    /// Store a stamp to a page, from user mode. Must not be refused.
    Store(u64, u32),
    /// Load or store, and tell only whether it was refused: the running kernel does it on
    /// behalf of a system call, whose `EFAULT` stands for `SIGSEGV`.
    Touch { at: u64, write: bool },
    /// `MADV_POPULATE_READ` or `MADV_POPULATE_WRITE`.
    Populate { at: u64, len: u64, write: bool },
    /// `MADV_DONTNEED`.
    DontNeed { at: u64, len: u64 },
    /// `mmap` with `MAP_FIXED`.
    Map { at: u64, len: u64, prot: Prot },
    /// `munmap`.
    Unmap { at: u64, len: u64 },
    /// `mprotect`.
    Protect { at: u64, len: u64, prot: Prot },
}

impl Op {
    pub(crate) fn touch(page: u64, write: bool) -> Op {
        Op::Touch { at: page * PAGE, write }
    }

    pub(crate) fn dontneed(start: u64, end: u64) -> Op {
        Op::DontNeed { at: start * PAGE, len: (end - start) * PAGE }
    }

    pub(crate) fn unmap(start: u64, end: u64) -> Op {
        Op::Unmap { at: start * PAGE, len: (end - start) * PAGE }
    }

    pub(crate) fn map(start: u64, end: u64) -> Op {
        Op::Map { at: start * PAGE, len: (end - start) * PAGE, prot: Prot::RW }
    }

    pub(crate) fn protect(start: u64, end: u64, prot: Prot) -> Op {
        Op::Protect { at: start * PAGE, len: (end - start) * PAGE, prot }
    }

    pub(crate) fn populate(start: u64, end: u64, write: bool) -> Op {
        Op::Populate { at: start * PAGE, len: (end - start) * PAGE, write }
    }
}

/// How an [`Op`] ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Back {
    /// A load read this.
    Loaded(Content),
    /// A store was done, or a touch allowed.
    Done,
    /// The access would be `SIGSEGV`.
    Refused,
    /// A system call failed.
    Err(Errno),
}

/// What a thread is doing once nothing moves any more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Settled {
    /// It has come back.
    Returned(Back),
    /// It sleeps in userfaultfd.
    Asleep,
}

/// A mapping inside the arena, in pages from its start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Area {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) prot: Prot,
    pub(crate) modes: RegisterModes,
}

/// A kernel with one process: an arena of pages, userfaultfds, threads.
pub(crate) trait Arm {
    /// Where the arena starts.
    fn base(&self) -> Addr;
    /// Open a userfaultfd with `features`, numbered from 0.
    fn open(&mut self, features: Features) -> Result<usize, Errno>;
    /// Close it: the last reference.
    fn close(&mut self, uffd: usize);
    /// Use it. No call through the seam sleeps.
    fn with(&mut self, uffd: usize, body: &mut dyn FnMut(&dyn Uffd));
    /// Is it open still?
    fn is_open(&self, uffd: usize) -> bool;
    /// Does `poll` report `POLLIN`, and nothing else?
    fn readable(&mut self, uffd: usize) -> bool;
    /// `pending` and `total` of `fdinfo` (rule a9).
    fn counts(&mut self, uffd: usize) -> (u64, u64);
    /// A new thread, numbered from 0.
    fn thread(&mut self) -> usize;
    /// Tell an idle thread to do `op`.
    fn start(&mut self, thread: usize, op: Op);
    /// Wait until it has come back or sleeps.
    fn settle(&mut self, thread: usize) -> Settled;
    /// Which thread a message names.
    fn who(&self, tid: Tid) -> Option<usize>;
    /// What each page of the arena holds, without causing a fault.
    fn contents(&mut self) -> Vec<Option<Content>>;
    /// The mappings of the arena, ascending.
    fn areas(&mut self) -> Vec<Area>;
}

/// An event with addresses in pages from the start of the arena.
pub(crate) fn event_text(arm: &dyn Arm, event: &Event) -> String {
    let base = arm.base();
    let rel = |addr: Addr| addr.raw().wrapping_sub(base.raw());
    let page = |addr: Addr| match rel(addr) {
        offset if offset.is_multiple_of(PAGE) => (offset / PAGE).to_string(),
        offset => format!("{}+{:#x}", offset / PAGE, offset % PAGE),
    };
    let part = |span: Span| format!("{}..{}", page(span.start), page(span.end().expect("fits")));
    match event {
        Event::Fault(fault) => {
            let flags = if fault.is_write() { "w" } else { "r" };
            let who = fault.tid.map_or(String::new(), |tid| format!(" by {:?}", arm.who(tid)));
            // Unknown flags would show here, the known ones of other kinds as well.
            let rest = fault.flags.bits() & !1;
            let rest = if rest == 0 { String::new() } else { format!(" flags {rest:#x}") };
            format!("F{}{flags}{who}{rest}", page(fault.addr))
        }
        Event::Remove(span) => format!("REMOVE {}", part(*span)),
        Event::Unmap(span) => format!("UNMAP {}", part(*span)),
        other => format!("{other:?}"),
    }
}

/// `start..end` in pages of an arena at `base`.
pub(crate) fn span(base: Addr, start: u64, end: u64) -> Span {
    bytes(base, start * PAGE, (end - start) * PAGE)
}

/// `len` bytes at byte `at` of an arena at `base`.
pub(crate) fn bytes(base: Addr, at: u64, len: u64) -> Span {
    Span::new(Addr::new(base.raw().wrapping_add(at)), Len::new(len))
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{} {:?}", self.start, self.end, self.prot)?;
        if !self.modes.is_empty() {
            write!(
                f,
                " {}",
                self.modes.iter_names().map(|(n, _)| n).collect::<Vec<_>>().join("|")
            )?;
        }
        Ok(())
    }
}
