//! What a program's thread can do: what a thread of the monitored process does, and what is
//! asked of a userfaultfd. Owns the values.

use shims::{
    ContinueMode, CopyMode, Features, MoveMode, PoisonMode, RegisterModes, WriteProtectMode,
    ZeropageMode,
};

use super::super::op::Op;

/// One thing that is done.
#[derive(Clone, PartialEq, Debug)]
pub enum Doing {
    /// A system call or an access of the thread itself.
    Thread(Op),
    /// Something asked of the userfaultfd of that number.
    Uffd(usize, Ask),
    /// Another userfaultfd: `userfaultfd(2)` and its handshake.
    Open(Features),
    /// `SIGUSR1` to a task.
    Signal(usize),
    /// `SIGKILL` to a process.
    Kill(usize),
}

/// Bytes of the arena, from its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    /// The first one.
    pub at: u64,
    /// How many.
    pub len: u64,
}

/// Something asked of a userfaultfd.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask {
    /// `UFFDIO_REGISTER`.
    Register(Part, RegisterModes),
    /// `UFFDIO_UNREGISTER`.
    Unregister(Part),
    /// `UFFDIO_WAKE`.
    Wake(Part),
    /// `UFFDIO_COPY` of source pages, each to where it belongs.
    Copy(Part, CopyMode),
    /// `UFFDIO_ZEROPAGE`.
    Zeropage(Part, ZeropageMode),
    /// `UFFDIO_CONTINUE`.
    Continue(Part, ContinueMode),
    /// `UFFDIO_WRITEPROTECT`.
    WriteProtect(Part, WriteProtectMode),
    /// `UFFDIO_MOVE` to that byte of the arena.
    Move(Part, u64, MoveMode),
    /// `UFFDIO_POISON`.
    Poison(Part, PoisonMode),
    /// Wait until there is something to read, then read one message.
    Message,
    /// Read up to so many messages without waiting.
    Events(usize),
    /// `poll` without waiting.
    Poll,
    /// `close`.
    Close,
    /// `dup`.
    Duplicate,
    /// `F_SETFL` with `O_NONBLOCK`, or without.
    Nonblocking(bool),
}
