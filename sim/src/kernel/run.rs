//! A thread's call in progress: the state machines whose transitions are the points at
//! which the real kernel drops a lock, sleeps, or can be seen half-way. Owns the states;
//! the transitions are in the files named after the calls.

use shims::{Addr, Event, Request};

use super::Sleep;
use super::call::{Call, MmId, Payload, Ret, ThreadId};
use super::copy_from::CopyFrom;
use super::locked::FaultIn;
use super::madvise::{Madvise, Walk};
use super::object::{Cut, RemoveFile};
use super::page_table::Vpn;
use super::scan::ScanRun;
use super::struct_at::WithStruct;
use super::transfer::Transfer;
use super::waiting::{Poll, Read};
use crate::Content;
use crate::vma::CtxId;

/// What a thread is doing in the kernel.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum Run {
    /// Nothing: it runs user code.
    #[default]
    Idle,
    /// A call that takes one step. Boxed: these are rare, and the others small.
    Once(Box<Call>),
    /// A load or a store.
    Access { access: Access, at: FaultPc },
    /// `MADV_POPULATE_*`: page by page.
    Populate { next: Vpn, end: Vpn, write: bool, at: FaultPc },
    /// `MADV_DONTNEED`.
    Remove(RemoveCall),
    /// A call that is done but for the events it sends, and its value.
    Events { list: Vec<(CtxId, Event)>, next: usize, at: EventPc, ret: Ret },
    /// Pages leave a memory file. Boxed: this is rare.
    Cut(Box<Cut>),
    /// `MADV_REMOVE`.
    RemoveFile(Box<RemoveFile>),
    /// A resolving ioctl.
    Resolve { ctx: CtxId, request: Request, payload: Payload, at: ResolvePc },
    /// `read` of a userfaultfd: messages taken so far.
    Read { ctx: CtxId, max: usize, taken: usize },
    /// `UFFDIO_UNREGISTER`, after it has woken the faulters of its range.
    Unregister { ctx: CtxId, range: shims::Span },
    /// `close` of a userfaultfd, after it was marked released.
    Closing { ctx: CtxId },
    /// `UFFDIO_COPY` from memory of the caller. Boxed: it is rare.
    CopyFrom(Box<CopyFrom>),
    /// A resolving ioctl with its structure in memory of the caller. Boxed: it is rare.
    WithStruct(Box<WithStruct>),
    /// An access by the kernel. Boxed: it is rare.
    Transfer(Box<Transfer>),
    /// A call that faults in what it has locked or mapped, before its end. Boxed: it is rare.
    FaultIn(Box<FaultIn>),
    /// A `madvise` that announces nothing. Boxed: it is rare.
    Walk(Box<Walk>),
    /// `PAGEMAP_SCAN`. Boxed: it is rare.
    Scan(Box<ScanRun>),
    /// The call is over; the value waits to be fetched.
    Done(Ret),
    /// A call that only processes and descriptors have.
    Long(Box<Long>),
    /// The thread has ended.
    Dead,
}

/// Calls that a kernel without processes and descriptors does not know. Boxed: these are rare.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Long {
    /// `read` of a descriptor.
    Read(Read),
    /// `poll`.
    Poll(Poll),
    /// The last references to these contexts are gone; the first of them may be marked.
    Release { list: Vec<CtxId>, marked: bool, then: Then },
    /// The thread ends; then these contexts are released.
    Exit { at: ExitPc, release: Vec<CtxId> },
    /// `exec` waits for the other threads.
    Exec,
    /// `vfork` waits for its child to leave the address space.
    Vfork { child: ThreadId, mm: MmId },
    /// `fork` has failed, with the counts of these contexts raised.
    ForkFails { parents: Vec<CtxId> },
}

impl Long {
    /// What a thread waits for that cannot move.
    pub(super) fn sleep(&self) -> Sleep {
        match self {
            Long::Read(read) => Sleep::Reader(read.ctx),
            Long::Poll(poll) => Sleep::Poller(poll.ctx),
            Long::Exec | Long::Vfork { .. } => Sleep::Threads,
            Long::Release { .. } | Long::Exit { .. } | Long::ForkFails { .. } => Sleep::Lock,
        }
    }
}

/// What comes behind a release.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Then {
    /// The call returns.
    Return(Ret),
    /// The call begins again.
    Again(Box<Call>),
    /// The thread is no more.
    Dead,
}

/// Where the end of a thread is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum ExitPc {
    /// It is doomed, and about to notice.
    Begin,
    /// It was the last to use its address space, and perhaps the last of its process.
    Memory { last: bool },
    /// Its descriptors go, if it was the last of its process.
    Files { last: bool },
}

impl Run {
    /// Where the fault is that the thread may be in.
    #[inline]
    pub(crate) fn fault_pc(&mut self) -> Option<&mut FaultPc> {
        match self {
            Run::Access { at, .. } | Run::Populate { at, .. } => Some(at),
            Run::Transfer(transfer) => Some(&mut transfer.at),
            Run::FaultIn(call) => Some(&mut call.pages.at),
            Run::CopyFrom(copy) => copy.fault_pc(),
            Run::WithStruct(call) => call.fault_pc(),
            _ => None,
        }
    }
}

/// What a step leaves behind: the place its call has come to, or the call's value. A step
/// does not carry its whole call along; it is the hottest path of every search.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next<P> {
    /// The call goes on here.
    At(P),
    /// The call is over.
    Done(Ret),
}

impl<P> Next<P> {
    /// The same with the place called otherwise.
    pub(crate) fn map<Q>(self, to: impl FnOnce(P) -> Q) -> Next<Q> {
        match self {
            Next::At(place) => Next::At(to(place)),
            Next::Done(ret) => Next::Done(ret),
        }
    }
}

/// An access from user mode.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Access {
    pub(crate) addr: Addr,
    /// `Some` for a store.
    pub(crate) store: Option<Content>,
}

/// Where a fault is: F1 to F5 of the model.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum FaultPc {
    /// F1 (again): look at VMA and page table.
    Classify,
    /// F2: about to queue. From here to F3 nobody looks at the page.
    Enqueue(CtxId, Reason),
    /// F3: queued; about to look at the page once more, without a lock.
    Recheck(CtxId, Reason),
    /// F4: asleep until somebody unlinks it.
    Asleep(CtxId),
    /// A page was replaced, and not everybody can see the new one yet (rule c10).
    Replaced,
}

/// Which promise of the registration a fault is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Reason {
    /// No page.
    Missing,
    /// A write to a protected page.
    Wp,
    /// The page is in the file's cache and not mapped here.
    Minor,
}

/// `madvise(MADV_DONTNEED)`, or another that removes, over `[next, end)`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct RemoveCall {
    pub(crate) next: Vpn,
    pub(crate) end: Vpn,
    /// A hole was met: `ENOMEM` at the end, after the rest is done (rule d6).
    pub(crate) hole: bool,
    /// `DONTNEED`, `DONTNEED_LOCKED` or `FREE`.
    pub(crate) advice: Madvise,
    pub(crate) at: RemovePc,
}

/// Where a removal is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum RemovePc {
    /// Look at the VMA at `next`; raise `mmap_changing` if it wants an event.
    Part,
    /// E2: queue the event for `[next, part_end)`.
    Announce { ctx: CtxId, part_end: Vpn },
    /// Asleep until a reader takes the event.
    Asleep { ctx: CtxId, part_end: Vpn },
    /// E4: the event was taken; lower `mmap_changing`.
    Lower { ctx: CtxId, part_end: Vpn },
    /// Take the lock again and look the VMA up again (rule d9).
    Relook { part_end: Vpn },
    /// E5: zap page after page, the lock held for reading.
    Zap { part_end: Vpn },
}

/// Where an event that a finished call sends is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum EventPc {
    /// E2: queue it.
    Announce,
    /// Asleep until a reader takes it.
    Asleep,
    /// E4: lower `mmap_changing`.
    Lower,
}

/// Where a resolving ioctl is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum ResolvePc {
    /// Look at `mmap_changing` and at the arguments, without a lock.
    Enter,
    /// Take the locks, look the mapping up, look at `mmap_changing` again, do the first
    /// page.
    Locked,
    /// So many pages are done; `mmap_changing` cannot rise and the mapping cannot change.
    Page(u64),
    /// `MOVE` has done so many pages, and found the place for the next one empty.
    Source(u64),
    /// `WRITEPROTECT` has come as far as this page, with the same locks.
    Protect(Vpn),
    /// The pages are done; wake their faulters and return.
    Wake { bytes: u64, stopped: Option<shims::Errno> },
}
