//! System calls and accesses as values: what a simulated thread can ask of the kernel, and
//! what it gets back. Owns no behaviour.

use std::sync::Arc;

use shims::{Addr, Errno, Outcome, RegisterModes, Request, Span};

use super::file_call::FileCall;
use super::madvise::Madvise;
use super::process::ProcessCall;
use super::scan::PagemapScan;
use super::transfer::Via;
use crate::Content;
use crate::vma::{CtxId, FileId, Mmap, Mremap, Prot};

/// A thread of the simulation, by its place in [`Kernel`](super::Kernel)'s table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ThreadId(pub u16);

/// An address space of the simulation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MmId(pub u16);

/// The bytes of a `UFFDIO_COPY`, one content per page, or per huge page where the
/// destination has those.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum Payload {
    /// The ioctl copies nothing.
    #[default]
    None,
    /// One page.
    One(Content),
    /// Several pages.
    Many(Arc<[Content]>),
    /// What the caller has at this address when the ioctl comes to it.
    From(Addr),
    /// Any of these, and the ioctl's structure itself is in memory. Boxed: it is rare.
    At(Box<StructAt>),
}

/// Where the structure of an ioctl lies.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct StructAt {
    /// In the caller's memory, inside one page.
    pub at: Addr,
    /// What a `Copy` copies.
    pub payload: Payload,
}

impl Payload {
    /// The content of the `i`-th page; zeros where there is none, which only an ioctl that
    /// is refused asks for.
    pub(crate) fn page(&self, i: usize) -> Content {
        match self {
            Payload::None | Payload::From(_) | Payload::At(_) => Content::Zero,
            Payload::One(content) => *content,
            Payload::Many(contents) => contents.get(i).copied().unwrap_or_default(),
        }
    }

    /// How many pages are at hand.
    pub fn len(&self) -> usize {
        match self {
            Payload::None | Payload::From(_) | Payload::At(_) => 0,
            Payload::One(_) => 1,
            Payload::Many(contents) => contents.len(),
        }
    }

    /// Is no page at hand?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Something a thread does that enters the kernel, or may.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Call {
    /// A load from user mode.
    Load {
        /// Any byte of the page. With `EXACT_ADDRESS` the message tells which.
        addr: Addr,
    },
    /// A store from user mode: the page then holds `content`.
    Store {
        /// Any byte of the page, or huge page. With `EXACT_ADDRESS` the message tells which.
        addr: Addr,
        /// The stamp it leaves.
        content: Content,
    },
    /// `madvise(MADV_POPULATE_READ)`, or `MADV_POPULATE_WRITE`.
    Populate {
        /// Page-aligned.
        range: Span,
        /// Ask for write permission.
        write: bool,
    },
    /// `madvise(MADV_DONTNEED)`.
    DontNeed {
        /// Page-aligned.
        range: Span,
    },
    /// `madvise(MADV_REMOVE)`: a hole in the file behind a shared mapping.
    RemoveFile {
        /// Page-aligned.
        range: Span,
    },
    /// `madvise(2)`, any of it.
    Madvise {
        /// Page-aligned.
        range: Span,
        /// The advice.
        advice: Madvise,
    },
    /// `process_madvise(2)` of the caller's own memory. Its value is the bytes advised on.
    ProcessMadvise {
        /// One after another.
        ranges: Vec<Span>,
        /// The advice for all of them.
        advice: Madvise,
    },
    /// `mmap(2)`.
    Mmap(Mmap),
    /// `munmap(2)`.
    Munmap {
        /// What to unmap.
        range: Span,
    },
    /// `mremap(2)`.
    Mremap(Mremap),
    /// `fork(2)`. The child has no thread yet when it returns
    /// ([`Kernel::new_thread`](super::Kernel::new_thread)).
    Fork,
    /// `mprotect(2)`.
    Mprotect {
        /// Where.
        range: Span,
        /// The new protection.
        prot: Prot,
    },
    /// `ftruncate(2)` of a memory file.
    Ftruncate {
        /// Which, as [`Kernel::memory_file`](super::Kernel::memory_file) has named it.
        file: FileId,
        /// Its new size, in bytes.
        size: u64,
    },
    /// `fallocate(2)` of a memory file with `FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE`.
    Punch {
        /// Which, as [`Kernel::memory_file`](super::Kernel::memory_file) has named it.
        file: FileId,
        /// From this byte on.
        start: u64,
        /// So many bytes.
        len: u64,
    },
    /// `UFFDIO_REGISTER`.
    Register {
        /// Through which userfaultfd.
        ctx: CtxId,
        /// What.
        range: Span,
        /// For which faults.
        modes: RegisterModes,
    },
    /// `UFFDIO_UNREGISTER`.
    Unregister {
        /// Through which userfaultfd.
        ctx: CtxId,
        /// What.
        range: Span,
    },
    /// A resolving ioctl or `UFFDIO_WAKE`.
    Resolve {
        /// Through which userfaultfd.
        ctx: CtxId,
        /// Which, and its arguments.
        request: Request,
        /// What a `Copy` copies.
        payload: Payload,
    },
    /// `read(2)` of a non-blocking userfaultfd into a buffer of `max` messages.
    Read {
        /// From which userfaultfd.
        ctx: CtxId,
        /// How many messages fit; at least one.
        max: usize,
    },
    /// An access by the kernel on behalf of this thread. Its value is the bytes transferred.
    Transfer {
        /// How, and whose memory.
        via: Via,
        /// Where; any bytes.
        range: Span,
        /// `None` to read; the stamp that a write leaves in each page.
        store: Option<Content>,
    },
    /// `mlock(2)`, or `mlock2(2)` with `MLOCK_ONFAULT`.
    Mlock {
        /// Where; rounded outward.
        range: Span,
        /// Lock pages as they come, and fetch none now.
        on_fault: bool,
    },
    /// `mseal(2)`.
    Mseal {
        /// Where.
        range: Span,
    },
    /// `munlock(2)`.
    Munlock {
        /// Where; rounded outward.
        range: Span,
    },
    /// `PAGEMAP_SCAN` of the caller's own memory. Its value is the number of regions; what it
    /// has found waits in [`Kernel::take_scan`](super::Kernel::take_scan).
    PagemapScan(Box<PagemapScan>),
    /// `close(2)` of the last reference to a userfaultfd.
    Close {
        /// Which.
        ctx: CtxId,
    },
    /// Something asked of a descriptor, or for one.
    File(FileCall),
    /// Something about processes.
    Process(ProcessCall),
}

/// How a [`Call`] ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ret {
    /// A load read this.
    Loaded(Content),
    /// A store was done.
    Stored,
    /// The access raised a signal.
    Signal(Signal),
    /// A system call succeeded with this value (0, or an address).
    Ok(u64),
    /// `fork` has made this address space.
    Forked(MmId),
    /// A system call failed.
    Err(Errno),
    /// A resolving ioctl answered.
    Outcome(Outcome),
    /// `read` returned so many messages; they are in the thread's inbox.
    Read(usize),
}

impl Call {
    /// Does it take the mmap lock for writing, and for its caller's own memory?
    pub(super) fn writes_layout(&self) -> bool {
        matches!(
            self,
            Call::Mmap(_)
                | Call::Munmap { .. }
                | Call::Mremap(_)
                | Call::Fork
                | Call::Process(ProcessCall::Fork { .. })
                | Call::Madvise { .. }
                | Call::Mlock { .. }
                | Call::Munlock { .. }
                | Call::Mseal { .. }
                | Call::Mprotect { .. }
        )
    }
}

/// Signals an access can raise.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Signal {
    /// `SIGSEGV`, `SEGV_MAPERR`: nothing is mapped there.
    SegvMapErr,
    /// `SIGSEGV`, `SEGV_ACCERR`: the protection forbids it.
    SegvAccErr,
    /// `SIGBUS`, `BUS_ADRERR`: a userfaultfd with the feature `SIGBUS` was asked (rule c6), the
    /// page lies beyond the end of its file (rule c4), or there is no huge page left.
    BusAdrErr,
    /// `SIGBUS` for a poisoned page: `BUS_MCEERR_AR` on a kernel that handles memory
    /// failures, `BUS_ADRERR` on one that does not (rule c12).
    BusPoison,
}
