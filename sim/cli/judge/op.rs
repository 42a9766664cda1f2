//! What a thread of a case can be told to do, in memory made of what, and how it can end.
//! Owns the vocabulary; what each word means to a kernel is in `sim_arm.rs` and
//! `puppet_ops.rs`.

use shims::{Errno, PageSize};
use sim::Content;
use sim::vma::{Prot, RemapFlags};

/// Bytes of a small page, in which cases count.
pub const PAGE: u64 = PageSize::KIB4.bytes();

/// What memory is made of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Private anonymous memory.
    Anon,
    /// A memory file, mapped shared.
    Shmem,
    /// A memory file, mapped private.
    ShmemPrivate,
    /// A memory file of 2 MiB pages, mapped shared.
    Huge,
    /// The same, mapped private.
    HugePrivate,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 5] =
        [Kind::Anon, Kind::Shmem, Kind::ShmemPrivate, Kind::Huge, Kind::HugePrivate];

    /// In 4 KiB pages.
    pub const fn granule(self) -> u64 {
        if self.is_huge() { 512 } else { 1 }
    }

    /// Of 2 MiB pages?
    pub const fn is_huge(self) -> bool {
        matches!(self, Kind::Huge | Kind::HugePrivate)
    }

    /// Mapped private?
    pub const fn is_private(self) -> bool {
        matches!(self, Kind::Anon | Kind::ShmemPrivate | Kind::HugePrivate)
    }
}

/// A mapping that is there when a case begins. Numbers are 4 KiB pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    pub at: u64,
    pub pages: u64,
    pub kind: Kind,
    /// Which memory file, and from which page on; files come into being as long as the
    /// mappings that first name them.
    pub file: u8,
    pub offset: u64,
    pub prot: Prot,
}

impl Piece {
    /// Anonymous, or of file 0 from its start on; readable and writable.
    pub const fn new(at: u64, pages: u64, kind: Kind) -> Piece {
        Piece { at, pages, kind, file: 0, offset: 0, prot: Prot::RW }
    }
}

/// How many pages the unit at `page` has. What is mapped outside of the pieces is of small
/// pages, unless all of them are huge and a case moves them about.
pub fn granule(pieces: &[Piece], page: u64) -> u64 {
    let inside = |piece: &&Piece| piece.at <= page && page < piece.at + piece.pages;
    let huge = pieces.iter().all(|piece| piece.kind.is_huge());
    let outside = if huge { 512 } else { 1 };
    pieces.iter().find(inside).map_or(outside, |piece| piece.kind.granule())
}

/// When the pages of a mapping are to be there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Fill {
    /// When somebody touches them.
    Later,
    /// At once: `MAP_POPULATE`.
    Populated,
    /// At once, and they stay: `MAP_LOCKED`.
    Locked,
}

/// `madvise` by its numbers on Linux.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u64)]
pub enum Advise {
    WillNeed = 3,
    DontNeed = 4,
    Free = 8,
    Remove = 9,
    DontFork = 10,
    HugePage = 14,
    NoHugePage = 15,
    WipeOnFork = 18,
    Cold = 20,
    PageOut = 21,
    DontNeedLocked = 24,
    Collapse = 25,
    GuardInstall = 102,
    GuardRemove = 103,
}

/// Something a thread does. Offsets and lengths are bytes from the start of the arena.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// Load the stamp of a page, from user mode. Must not be refused.
    Load(u64),
    /// Load the first word of a page only, which tells source from zeros but not which
    /// page of the source: one access, where a free-running thread needs it to be one.
    Glance(u64),
    /// Store a stamp to a page, from user mode. Must not be refused.
    Store(u64, u32),
    /// Load or store from user mode, and tell how it went.
    Touch { at: u64, write: bool },
    /// Have the kernel read or write one word in a system call.
    UserCopy { at: u64, write: bool },
    /// `/proc/self/mem`: read or write one word.
    ProcMem { at: u64, write: bool },
    /// `process_vm_readv` or `process_vm_writev` of one word of process 0.
    Remote { at: u64, write: bool },
    /// `MADV_POPULATE_READ` or `MADV_POPULATE_WRITE`.
    Populate { at: u64, len: u64, write: bool },
    /// `MADV_DONTNEED`.
    DontNeed { at: u64, len: u64 },
    /// Any other `madvise`.
    Advise { at: u64, len: u64, advice: Advise },
    /// `process_madvise(MADV_DONTNEED)` of the own process.
    DontNeedSelf { at: u64, len: u64 },
    /// `mmap` with `MAP_FIXED`.
    Map { at: u64, len: u64, prot: Prot, fill: Fill },
    /// As [`Op::Map`], of a memory file that is there.
    MapFile { piece: Piece },
    /// `munmap`.
    Unmap { at: u64, len: u64 },
    /// `mprotect`.
    Protect { at: u64, len: u64, prot: Prot },
    /// `mremap`, with `MREMAP_FIXED` if there is a place to move to.
    Remap { at: u64, len: u64, new_len: u64, to: Option<u64>, flags: RemapFlags },
    /// `mlock`, or `mlock2` with `MLOCK_ONFAULT`.
    Lock { at: u64, len: u64, on_fault: bool },
    /// `mseal`.
    Seal { at: u64, len: u64 },
    /// A segment of `shmget` and `shmat`, in place of what is there.
    SysvAttach { at: u64, len: u64 },
    /// `ftruncate` of a memory file, to bytes.
    Truncate { file: u8, len: u64 },
    /// `fallocate` with `FALLOC_FL_PUNCH_HOLE`, in bytes of the file.
    Punch { file: u8, at: u64, len: u64 },
    /// `fork`. The child has none of its parent's userfaultfds.
    Fork,
    /// `fork` as it is: the child has its parent's descriptors, under the same numbers.
    ForkWithFiles,
    /// `fork` that shares the descriptor table (`CLONE_FILES`).
    ForkSharingFiles,
    /// `vfork`, the child of which does nothing but exit.
    Vfork,
    /// `UFFDIO_COPY` by this thread, from memory of the arena.
    CopyFrom { uffd: usize, to: u64, from: u64, len: u64 },
    /// `UFFDIO_COPY` by this thread, with the structure itself at that place of the arena.
    CopyArg { uffd: usize, to: u64, arg: u64 },
    /// `read` of the userfaultfd by this thread, blocking.
    ReadBlocking { uffd: usize },
    /// `poll` of the userfaultfd by this thread, without a timeout.
    PollBlocking { uffd: usize },
    /// `exit_group`: the process of this thread ends.
    Exit,
}

impl Op {
    /// [`Op::Touch`] of the start of a page.
    pub fn touch(page: u64, write: bool) -> Op {
        Op::Touch { at: page * PAGE, write }
    }

    /// `mremap` of pages to another place.
    pub fn remap(start: u64, end: u64, to: u64) -> Op {
        let (at, len) = (start * PAGE, (end - start) * PAGE);
        let flags = RemapFlags::MAYMOVE | RemapFlags::FIXED;
        Op::Remap { at, len, new_len: len, to: Some(to * PAGE), flags }
    }

    /// [`Op::Advise`] of pages.
    pub fn advise(start: u64, end: u64, advice: Advise) -> Op {
        Op::Advise { at: start * PAGE, len: (end - start) * PAGE, advice }
    }

    /// [`Op::DontNeed`] of pages.
    pub fn dontneed(start: u64, end: u64) -> Op {
        Op::DontNeed { at: start * PAGE, len: (end - start) * PAGE }
    }

    /// [`Op::Unmap`] of pages.
    pub fn unmap(start: u64, end: u64) -> Op {
        Op::Unmap { at: start * PAGE, len: (end - start) * PAGE }
    }

    /// [`Op::Map`] of pages, readable and writable.
    pub fn map(start: u64, end: u64) -> Op {
        Op::Map { at: start * PAGE, len: (end - start) * PAGE, prot: Prot::RW, fill: Fill::Later }
    }

    /// [`Op::Protect`] of pages.
    pub fn protect(start: u64, end: u64, prot: Prot) -> Op {
        Op::Protect { at: start * PAGE, len: (end - start) * PAGE, prot }
    }

    /// [`Op::Populate`] of pages.
    pub fn populate(start: u64, end: u64, write: bool) -> Op {
        Op::Populate { at: start * PAGE, len: (end - start) * PAGE, write }
    }
}

/// How an [`Op`] ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Back {
    /// A load read this.
    Loaded(Content),
    /// A store was done, or a touch allowed.
    Done,
    /// The access raised `SIGSEGV`: nothing is mapped there.
    MapErr,
    /// The access raised `SIGSEGV`: the protection forbids it.
    AccErr,
    /// The access raised `SIGBUS`.
    Bus,
    /// A system call failed.
    Err(Errno),
    /// `fork` has made that process.
    Forked(usize),
    /// A read of a userfaultfd has brought so many messages.
    Read(usize),
    /// The thread is no more.
    Killed,
}

/// What a thread is doing once nothing moves any more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Settled {
    /// It has come back.
    Returned(Back),
    /// It sleeps in userfaultfd, or behind somebody who does.
    Asleep,
    /// It does not sleep, and goes round in circles.
    Spinning,
}
