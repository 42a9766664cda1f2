//! What a random program is made of: memory, threads, and one step after another, each of
//! which one thread or the handler does while everybody else is still. Owns the vocabulary.

use std::fmt;

use shims::Features;

use crate::judge::{Op, Piece};

/// What is there before the first step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setup {
    /// How many 4 KiB pages the arena has.
    pub pages: u64,
    /// What is mapped in it.
    pub pieces: Vec<Piece>,
    /// How many threads process 0 has, besides the one that uses the userfaultfds.
    pub threads: usize,
    /// The userfaultfds serve faults in user mode only, as those of an ordinary user must.
    pub user_mode_only: bool,
}

impl Setup {
    /// Are all pages huge ones?
    pub fn is_huge(&self) -> bool {
        self.pieces.iter().any(|piece| piece.kind.is_huge())
    }

    /// How many huge pages its mappings have.
    pub fn huge_pages(&self) -> u64 {
        let huge = self.pieces.iter().filter(|piece| piece.kind.is_huge());
        huge.map(|piece| piece.pages / 512).sum()
    }
}

/// One step. Places are bytes from the start of the arena.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// A thread begins to do something.
    Thread {
        /// Which; those of process 0 come first, then one for each process that was forked.
        thread: usize,
        /// What.
        op: Op,
    },
    /// The handler asks something of a userfaultfd.
    Ask {
        /// Which, in the order in which they came into being.
        uffd: usize,
        /// What.
        ask: Ask,
    },
    /// A userfaultfd with these features.
    Open(Features),
    /// Close it.
    Close(usize),
    /// `SIGUSR1` to a thread.
    Signal(usize),
    /// `SIGKILL` to a process, but the first.
    Kill(usize),
}

/// A part of the arena, in bytes from its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    /// Where.
    pub at: u64,
    /// How long.
    pub len: u64,
}

/// Something asked of a userfaultfd. Modes are the kernel's own bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask {
    /// `read` of up to so many messages.
    Read(usize),
    /// `UFFDIO_REGISTER`.
    Register(Part, u64),
    /// `UFFDIO_UNREGISTER`.
    Unregister(Part),
    /// `UFFDIO_COPY` of source pages numbered as their places are, of that version.
    Copy(Part, u64, u32),
    /// `UFFDIO_ZEROPAGE`.
    Zero(Part, u64),
    /// `UFFDIO_CONTINUE`.
    Continue(Part, u64),
    /// `UFFDIO_WRITEPROTECT`.
    Protect(Part, u64),
    /// `UFFDIO_POISON`.
    Poison(Part, u64),
    /// `UFFDIO_MOVE`, from that place.
    Move(Part, u64, u64),
    /// `UFFDIO_WAKE`.
    Wake(Part),
    /// `F_SETFL` with or without `O_NONBLOCK`.
    NonBlocking(bool),
    /// `PAGEMAP_SCAN` of process 0: flags and categories by the kernel's numbers.
    Scan(Part, u64, u64),
}

/// A whole program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    /// What it begins with.
    pub setup: Setup,
    /// What happens then.
    pub steps: Vec<Step>,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}+{:#x}", self.at, self.len)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Thread { thread, op } => write!(f, "thread {thread}: {op:?}"),
            Step::Ask { uffd, ask } => write!(f, "uffd {uffd}: {ask:?}"),
            Step::Open(features) => write!(f, "open {features:?}"),
            Step::Close(uffd) => write!(f, "close {uffd}"),
            Step::Signal(thread) => write!(f, "signal thread {thread}"),
            Step::Kill(process) => write!(f, "kill process {process}"),
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Setup { pages, pieces, threads, user_mode_only } = &self.setup;
        writeln!(f, "{pages} pages, {threads} threads, user mode only: {user_mode_only}")?;
        for piece in pieces {
            writeln!(f, "  {piece:?}")?;
        }
        self.steps.iter().try_for_each(|step| writeln!(f, "  {step}"))
    }
}
