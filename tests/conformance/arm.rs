//! What a case can do to a kernel and see of it, whichever kernel it is. Owns the
//! vocabulary; `sim_arm.rs` and `linux_arm.rs` give it its two meanings.

use core::fmt;

use shims::{
    Addr, Errno, Event, FaultKind, Features, Len, PageSize, RegisterModes, Span, Tid, Uffd,
};
use sim::Content;
use sim::vma::{Prot, RemapFlags};

pub(crate) const PAGE: u64 = PageSize::KIB4.bytes();

/// What memory is made of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Kind {
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
    pub(crate) const ALL: [Kind; 5] =
        [Kind::Anon, Kind::Shmem, Kind::ShmemPrivate, Kind::Huge, Kind::HugePrivate];

    /// In 4 KiB pages.
    pub(crate) const fn granule(self) -> u64 {
        if self.is_huge() { 512 } else { 1 }
    }

    pub(crate) const fn is_huge(self) -> bool {
        matches!(self, Kind::Huge | Kind::HugePrivate)
    }

    pub(crate) const fn is_private(self) -> bool {
        matches!(self, Kind::Anon | Kind::ShmemPrivate | Kind::HugePrivate)
    }
}

/// A mapping that is there when a case begins. Numbers are 4 KiB pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Piece {
    pub(crate) at: u64,
    pub(crate) pages: u64,
    pub(crate) kind: Kind,
    /// Which memory file, and from which page on; files come into being as long as the
    /// mappings that first name them.
    pub(crate) file: u8,
    pub(crate) offset: u64,
    pub(crate) prot: Prot,
}

impl Piece {
    pub(crate) const fn new(at: u64, pages: u64, kind: Kind) -> Piece {
        Piece { at, pages, kind, file: 0, offset: 0, prot: Prot::RW }
    }
}

/// How many pages the unit at `page` has. What is mapped outside of the pieces is of small
/// pages, unless all of them are huge and a case moves them about.
pub(crate) fn granule(pieces: &[Piece], page: u64) -> u64 {
    let inside = |piece: &&Piece| piece.at <= page && page < piece.at + piece.pages;
    let huge = pieces.iter().all(|piece| piece.kind.is_huge());
    let outside = if huge { 512 } else { 1 };
    pieces.iter().find(inside).map_or(outside, |piece| piece.kind.granule())
}

/// `madvise` by its numbers on Linux.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u64)]
pub(crate) enum Advise {
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
pub(crate) enum Op {
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
    Map { at: u64, len: u64, prot: Prot },
    /// The same, of a memory file that is there.
    MapFile { piece: Piece },
    /// `munmap`.
    Unmap { at: u64, len: u64 },
    /// `mprotect`.
    Protect { at: u64, len: u64, prot: Prot },
    /// `mremap`, with `MREMAP_FIXED` if there is a place to move to.
    Remap { at: u64, len: u64, new_len: u64, to: Option<u64>, flags: RemapFlags },
    /// `mlock`.
    Lock { at: u64, len: u64 },
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
    pub(crate) fn touch(page: u64, write: bool) -> Op {
        Op::Touch { at: page * PAGE, write }
    }

    /// `mremap` of pages to another place.
    pub(crate) fn remap(start: u64, end: u64, to: u64) -> Op {
        let (at, len) = (start * PAGE, (end - start) * PAGE);
        let flags = RemapFlags::MAYMOVE | RemapFlags::FIXED;
        Op::Remap { at, len, new_len: len, to: Some(to * PAGE), flags }
    }

    pub(crate) fn advise(start: u64, end: u64, advice: Advise) -> Op {
        Op::Advise { at: start * PAGE, len: (end - start) * PAGE, advice }
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
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Settled {
    /// It has come back.
    Returned(Back),
    /// It sleeps in userfaultfd, or behind somebody who does.
    Asleep,
    /// It does not sleep, and goes round in circles.
    Spinning,
}

/// What the page table says of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Entry {
    /// What it holds, if there is a page.
    pub(crate) content: Option<Content>,
    /// Is it protected by userfaultfd, or to be?
    pub(crate) wp: bool,
    /// Nothing is there, but something is remembered.
    pub(crate) marker: bool,
}

/// A mapping inside the arena, in pages from its start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Area {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) prot: Prot,
    pub(crate) modes: RegisterModes,
}

/// `PAGEMAP_SCAN`: pages, and what is asked about them, by the kernel's own numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Scan {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// `PM_SCAN_WP_MATCHING` (1), `PM_SCAN_CHECK_WPASYNC` (2).
    pub(crate) flags: u64,
    /// `PAGE_IS_*` that a page must have all of, and that are returned.
    pub(crate) mask: u64,
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
    /// The same in another process, numbered from 0 in order of their forks.
    fn thread_in(&mut self, process: usize) -> usize {
        assert_eq!(process, 0, "this arm has one process");
        self.thread()
    }
    /// The userfaultfd that a `FORK` message brought: numbered as if it had been opened.
    fn adopt(&mut self, fd: i32) -> usize {
        unreachable!("this arm cannot adopt {fd}")
    }
    /// The page table of a process, without causing a fault: the first page of each unit.
    fn entries(&mut self, process: usize) -> Vec<(u64, Entry)> {
        assert_eq!(process, 0, "this arm has one process");
        let entry = |content| Entry { content, ..Entry::default() };
        (0..).zip(self.contents()).map(|(n, content)| (n, entry(content))).collect()
    }
    /// The mappings of the arena in a process, ascending.
    fn areas_of(&mut self, process: usize) -> Vec<Area> {
        assert_eq!(process, 0, "this arm has one process");
        self.areas()
    }
    /// Open a userfaultfd with these flags of `userfaultfd(2)`, without a handshake.
    fn open_raw(&mut self, flags: u64) -> Result<usize, Errno> {
        unreachable!("this arm cannot open with {flags:#x}")
    }
    /// `read` into a buffer of `len` bytes that can be written, or cannot; bytes read.
    fn read_raw(&mut self, uffd: usize, len: u64, writable: bool) -> Result<u64, Errno> {
        unreachable!("this arm cannot read {len} bytes of {uffd} (writable: {writable})")
    }
    /// What `poll` reports, of `POLLIN` (1), `POLLERR` (8) and the rest.
    fn poll_bits(&mut self, uffd: usize) -> u16 {
        u16::from(self.readable(uffd))
    }
    /// `dup`: another descriptor of the same userfaultfd.
    fn duplicate(&mut self, uffd: usize) -> usize {
        unreachable!("this arm cannot duplicate {uffd}")
    }
    /// `F_SETFL` with `O_NONBLOCK`, or without.
    fn set_nonblocking(&mut self, uffd: usize, on: bool) {
        unreachable!("this arm cannot change {uffd} ({on})")
    }
    /// What `F_GETFL` and `F_GETFD` say: non-blocking, close on exec.
    fn descriptor_flags(&mut self, uffd: usize) -> (bool, bool) {
        unreachable!("this arm has no flags of {uffd}")
    }
    /// From now on process `process` uses that descriptor, which it has inherited.
    fn via(&mut self, uffd: usize, process: usize) {
        unreachable!("this arm cannot give {uffd} to {process}")
    }
    /// Process 0 gets no new descriptors any more, or does again.
    fn starve_descriptors(&mut self, on: bool) {
        unreachable!("this arm has no descriptors to limit ({on})")
    }
    /// Process 0 becomes an ordinary user's.
    fn drop_privileges(&mut self) {
        unreachable!("this arm has no privileges")
    }
    /// `PAGEMAP_SCAN` of process 0: the regions, as pages and categories.
    fn scan(&mut self, scan: Scan) -> Result<Vec<(u64, u64, u64)>, Errno> {
        unreachable!("this arm cannot {scan:?}")
    }
    /// Let the threads move for a moment, though they may never come to rest.
    fn turns(&mut self, count: u32) {
        std::thread::park_timeout(core::time::Duration::from_micros(u64::from(10 * count)));
    }
    /// Send `SIGUSR1` to a thread; the program counts it and goes on.
    fn signal(&mut self, thread: usize) {
        unreachable!("this arm cannot signal thread {thread}")
    }
    /// How many signals the thread has handled.
    fn handled(&mut self, thread: usize) -> u64 {
        unreachable!("this arm cannot signal thread {thread}")
    }
    /// `SIGKILL` to a process; returns when it is gone.
    fn kill(&mut self, process: usize) {
        unreachable!("this arm cannot kill process {process}")
    }
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
            let kind = match fault.kind() {
                FaultKind::Missing => "",
                FaultKind::Wp => " WP",
                FaultKind::Minor => " MINOR",
            };
            let who = fault.tid.map_or(String::new(), |tid| format!(" by {:?}", arm.who(tid)));
            // Unknown flags would show here.
            let rest = fault.flags.bits() & !7;
            let rest = if rest == 0 { String::new() } else { format!(" flags {rest:#x}") };
            format!("F{}{flags}{kind}{who}{rest}", page(fault.addr))
        }
        Event::Remove(span) => format!("REMOVE {}", part(*span)),
        Event::Unmap(span) => format!("UNMAP {}", part(*span)),
        Event::Remap { from, to, len } => {
            let moved = part(Span::new(*from, Len::new(*len)));
            format!("REMAP {moved} to {}", page(*to))
        }
        // The number is the reader's own business.
        Event::Fork { .. } => "FORK".to_owned(),
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

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(content) = self.content {
            write!(f, "{content}")?;
        }
        if self.marker {
            f.write_str("marker")?;
        }
        if self.wp {
            f.write_str(" wp")?;
        }
        Ok(())
    }
}
