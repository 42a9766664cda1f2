//! What one step of the kernel did: the words of timelines, digests and oracles.

use core::fmt;

use shims::{Addr, Errno, Event, Outcome, Span};

use super::call::{Ret, Signal, ThreadId};
use crate::Content;
use crate::vma::CtxId;

/// One atomic step of the kernel on behalf of a thread.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Did {
    /// A load completed.
    Load {
        /// Page.
        page: Addr,
        /// What was read.
        content: Content,
    },
    /// A store completed.
    Store {
        /// Page.
        page: Addr,
        /// What is there now.
        content: Content,
    },
    /// The access raised a signal.
    Raise(Signal),
    /// A populate found or made this page present.
    Populated {
        /// Page.
        page: Addr,
        /// What it holds.
        content: Content,
    },
    /// F1: the page is missing and a userfaultfd wants to know.
    Miss {
        /// Page.
        page: Addr,
        /// For writing?
        write: bool,
    },
    /// F1: the page is cached but not mapped, and a userfaultfd wants to know.
    MissMinor {
        /// Page.
        page: Addr,
        /// For writing?
        write: bool,
    },
    /// F2: the fault is queued; readers see it from now on.
    QueueFault {
        /// Where.
        ctx: CtxId,
        /// Page.
        page: Addr,
        /// For writing?
        write: bool,
        /// Because the page is write-protected?
        wp: bool,
        /// Because the page is cached but not mapped?
        minor: bool,
    },
    /// A memory file was given a new size, or is about to lose pages: `size` is what it has.
    Resize {
        /// Its size in bytes.
        size: u64,
    },
    /// A page left its memory file and all who mapped it.
    Drop {
        /// Which, in base pages from the start of the file.
        index: u64,
        /// What the file's cache had.
        content: Option<Content>,
    },
    /// A write replaces a page by a copy: for a moment a look without a lock finds nothing (c10).
    Replace {
        /// Page.
        page: Addr,
    },
    /// F3: the reason is gone meanwhile; the thread does not sleep.
    SkipSleep {
        /// Page.
        page: Addr,
    },
    /// F4: the thread sleeps until it is woken.
    Sleep {
        /// Page.
        page: Addr,
    },
    /// E1: an event is coming; resolving ioctls fail from now on.
    RaiseChanging {
        /// Of which userfaultfd.
        ctx: CtxId,
        /// Events outstanding now.
        changing: u32,
    },
    /// E2: the event is queued and its sender sleeps.
    QueueEvent {
        /// Where.
        ctx: CtxId,
        /// What.
        event: Event,
    },
    /// E4: the sender runs again and lowers the count.
    LowerChanging {
        /// Of which userfaultfd.
        ctx: CtxId,
        /// Events outstanding now.
        changing: u32,
    },
    /// E5: a page is zapped.
    Zap {
        /// Page.
        page: Addr,
        /// What it held.
        content: Content,
    },
    /// `read` took one message.
    Take(Event),
    /// A resolving ioctl found `mmap_changing` at zero and its arguments well formed.
    PassGate,
    /// An `UNREGISTER` woke the faulters of its range; the registration is still there.
    WakeAll {
        /// How many.
        woken: u32,
    },
    /// A call is done with one mapping and goes on to the next.
    NextMapping,
    /// A resolving ioctl installed a page.
    Install {
        /// Page.
        page: Addr,
        /// What it holds.
        content: Content,
    },
    /// A resolving ioctl woke faulters and returned, or returned without.
    Answer {
        /// How many threads it woke.
        woken: u32,
        /// What it answered.
        outcome: Outcome,
    },
    /// F1: the page is write-protected and a userfaultfd wants to know.
    Trap {
        /// Page.
        page: Addr,
    },
    /// F1: a page of zeros was put where a write-protection marker was, protected like it.
    FillProtected {
        /// Page.
        page: Addr,
    },
    /// E5: a marker is zapped.
    ZapMarker {
        /// Page.
        page: Addr,
    },
    /// `WRITEPROTECT` protected a page, or left a marker for it.
    Protect {
        /// Page.
        page: Addr,
    },
    /// `WRITEPROTECT` took the protection of a page away, or its marker.
    Unprotect {
        /// Page.
        page: Addr,
    },
    /// `POISON` marked a page.
    Poison {
        /// Page.
        page: Addr,
    },
    /// `MOVE` found nothing where a page is to go, and looks at the source next.
    FindEmpty {
        /// Page.
        page: Addr,
    },
    /// `MOVE` moved a page.
    Move {
        /// Where it was.
        from: Addr,
        /// Where it is.
        page: Addr,
        /// What it holds.
        content: Content,
    },
    /// `MOVE` passed over an absent page.
    MoveHole {
        /// Where it would have been.
        from: Addr,
        /// Where it would be.
        page: Addr,
    },
    /// A scan has looked through a page table.
    Scan {
        /// From this page.
        page: Addr,
        /// How many pages it has protected.
        protected: u32,
    },
    /// A huge page was changed whole.
    Huge {
        /// Its first page.
        page: Addr,
        /// How.
        what: HugeDid,
    },
    /// A `COPY` gave its locks back, because its source was not to be had at once.
    LetGo {
        /// The page it was about to install.
        page: Addr,
    },
    /// Mappings were locked, or made to be there at once; their pages follow.
    Lock {
        /// What is to be faulted in.
        span: Span,
    },
    /// A guard was put on a page that was not there.
    Guard {
        /// Page.
        page: Addr,
    },
    /// E5 of `MADV_FREE`: a page may go from now on.
    GiveUp {
        /// Page.
        page: Addr,
        /// What it holds.
        content: Content,
    },
    /// A call returned without any other effect worth a name.
    Return(Ret),
    /// `close`: no fault queues any more.
    Release {
        /// Of which userfaultfd.
        ctx: CtxId,
    },
    /// Something about processes and descriptors.
    Process(ProcessDid),
}

/// One step of the kernel that only a world with processes, descriptors or signals has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ProcessDid {
    /// A call on a descriptor has come in, and keeps the file open.
    Enter {
        /// The context.
        ctx: CtxId,
    },
    /// A signal ended a faulter's sleep; its message is gone.
    Interrupt {
        /// The page it waited for.
        page: Addr,
    },
    /// A sender was killed and took its event back.
    Withdraw {
        /// Where it was queued.
        ctx: CtxId,
        /// What, if it was there still.
        event: Option<Event>,
    },
    /// A signal handler ran, and the call begins again.
    Handle,
    /// A thread began to end.
    Die,
    /// The last thread of an address space left it.
    TearDown,
    /// The last thread of a process closed its descriptors.
    CloseAll,
    /// A thread is about to become another program.
    Exec,
    /// `vfork` has made a child.
    Spawn {
        /// Its thread.
        thread: ThreadId,
    },
}

impl ProcessDid {
    fn words(&self) -> (u64, u64) {
        match *self {
            ProcessDid::Enter { ctx } => (1, u64::from(ctx.0)),
            ProcessDid::Interrupt { page } => (2, page.raw()),
            ProcessDid::Withdraw { ctx, event } => {
                let (a, b) = event.as_ref().map_or((0, 0), of_event);
                (3 ^ u64::from(ctx.0) << 8, a ^ b.rotate_left(32))
            }
            ProcessDid::Handle => (4, 0),
            ProcessDid::Die => (5, 0),
            ProcessDid::TearDown => (6, 0),
            ProcessDid::CloseAll => (7, 0),
            ProcessDid::Exec => (8, 0),
            ProcessDid::Spawn { thread } => (9, u64::from(thread.0)),
        }
    }
}

impl fmt::Display for ProcessDid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProcessDid::Enter { .. } => write!(f, "enter"),
            ProcessDid::Interrupt { page } => write!(f, "signalled, no longer waits for {page}"),
            ProcessDid::Withdraw { event: Some(event), .. } => {
                write!(f, "killed, takes back {event}")
            }
            ProcessDid::Withdraw { event: None, .. } => write!(f, "killed, its event is lost"),
            ProcessDid::Handle => write!(f, "run a signal handler, start the call over"),
            ProcessDid::Die => write!(f, "begin to exit"),
            ProcessDid::TearDown => write!(f, "the address space is gone"),
            ProcessDid::CloseAll => write!(f, "close all descriptors"),
            ProcessDid::Exec => write!(f, "exec"),
            ProcessDid::Spawn { thread } => write!(f, "make a child, thread {}", thread.0),
        }
    }
}

/// What happened to a huge page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum HugeDid {
    /// It is gone.
    Zap,
    /// It may go from now on.
    GiveUp,
    /// `WRITEPROTECT` protected it.
    Protect,
    /// `WRITEPROTECT` took the protection away.
    Unprotect,
    /// `MADV_COLLAPSE` made it from small pages.
    Collapse,
    /// `MOVE` brought it.
    Move {
        /// Where it was.
        from: Addr,
    },
}

impl HugeDid {
    fn word(self) -> u64 {
        match self {
            HugeDid::Zap => 1,
            HugeDid::GiveUp => 2,
            HugeDid::Protect => 3,
            HugeDid::Unprotect => 4,
            HugeDid::Collapse => 5,
            HugeDid::Move { from } => from.raw() | 6,
        }
    }
}

impl fmt::Display for HugeDid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HugeDid::Zap => "zap",
            HugeDid::GiveUp => "give up",
            HugeDid::Protect => "write-protect",
            HugeDid::Unprotect => "un-protect",
            HugeDid::Collapse => "collapse",
            HugeDid::Move { .. } => "move",
        })
    }
}

impl Did {
    /// Two words that are equal for equal steps, for digests.
    pub(crate) fn words(&self) -> (u64, u64) {
        const fn tag(n: u64) -> u64 {
            n << 56
        }
        fn of_errno(errno: Option<Errno>) -> u64 {
            errno.map_or(0, |errno| errno.raw() as u64)
        }
        match self {
            Did::Load { page, content } => (tag(1) ^ page.raw(), content.word()),
            Did::Store { page, content } => (tag(2) ^ page.raw(), content.word()),
            Did::Raise(signal) => (tag(3), *signal as u64),
            Did::Populated { page, content } => (tag(4) ^ page.raw(), content.word()),
            Did::Miss { page, write } => (tag(5) ^ page.raw(), u64::from(*write)),
            Did::MissMinor { page, write } => (tag(64) ^ page.raw(), u64::from(*write)),
            Did::Resize { size } => (tag(65), *size),
            Did::Drop { index, content } => {
                (tag(66) ^ index, content.map_or(u64::MAX, Content::word))
            }
            Did::QueueFault { ctx, page, write, wp, minor } => {
                let flags = u64::from(*minor) << 41 | u64::from(*wp) << 40 | u64::from(*write);
                (tag(6) ^ page.raw(), u64::from(ctx.0) << 1 | flags)
            }
            Did::Replace { page } => (tag(67) ^ page.raw(), 0),
            Did::SkipSleep { page } => (tag(7) ^ page.raw(), 0),
            Did::Sleep { page } => (tag(8) ^ page.raw(), 0),
            Did::RaiseChanging { ctx, changing } => {
                (tag(9) ^ u64::from(ctx.0), u64::from(*changing))
            }
            Did::QueueEvent { event, .. } => {
                let (a, b) = of_event(event);
                (tag(10) ^ a, b)
            }
            Did::LowerChanging { ctx, changing } => {
                (tag(11) ^ u64::from(ctx.0), u64::from(*changing))
            }
            Did::Zap { page, content } => (tag(12) ^ page.raw(), content.word()),
            Did::Take(event) => {
                let (a, b) = of_event(event);
                (tag(13) ^ a, b)
            }
            Did::Install { page, content } => (tag(14) ^ page.raw(), content.word()),
            Did::Answer { woken, outcome } => {
                (tag(15) ^ u64::from(*woken), of_errno(outcome.errno) << 40 ^ outcome.bytes_done())
            }
            Did::Return(ret) => match *ret {
                Ret::Loaded(content) => (tag(16), content.word()),
                Ret::Stored => (tag(17), 0),
                Ret::Signal(signal) => (tag(18), signal as u64),
                Ret::Ok(value) => (tag(19), value),
                Ret::Err(errno) => (tag(20), of_errno(Some(errno))),
                Ret::Outcome(outcome) => {
                    (tag(21), of_errno(outcome.errno) << 40 ^ outcome.bytes_done())
                }
                Ret::Read(count) => (tag(22), count as u64),
                Ret::Forked(mm) => (tag(32), u64::from(mm.0)),
            },
            Did::Release { ctx } => (tag(23), u64::from(ctx.0)),
            Did::Process(did) => {
                let (a, b) = did.words();
                (tag(48) ^ a, b)
            }
            Did::PassGate => (tag(24), 0),
            Did::NextMapping => (tag(25), 0),
            Did::WakeAll { woken } => (tag(35), u64::from(*woken)),
            Did::Trap { page } => (tag(33) ^ page.raw(), 0),
            Did::FillProtected { page } => (tag(34) ^ page.raw(), 0),
            Did::ZapMarker { page } => (tag(26) ^ page.raw(), 0),
            Did::Protect { page } => (tag(27) ^ page.raw(), 0),
            Did::Unprotect { page } => (tag(28) ^ page.raw(), 0),
            Did::Poison { page } => (tag(29) ^ page.raw(), 0),
            Did::Move { from, page, content } => {
                (tag(30) ^ page.raw(), content.word() ^ from.raw() << 8)
            }
            Did::Lock { span } => (tag(63) ^ span.start.raw(), span.len.bytes()),
            Did::LetGo { page } => (tag(64) ^ page.raw(), 0),
            Did::Huge { page, what } => (tag(65) ^ page.raw(), what.word()),
            Did::Guard { page } => (tag(61) ^ page.raw(), 0),
            Did::GiveUp { page, content } => (tag(62) ^ page.raw(), content.word()),
            Did::Scan { page, protected } => (tag(60) ^ page.raw(), u64::from(*protected)),
            Did::FindEmpty { page } => (tag(67) ^ page.raw(), 0),
            Did::MoveHole { from, page } => (tag(31) ^ page.raw(), from.raw()),
        }
    }
}

fn of_event(event: &Event) -> (u64, u64) {
    match *event {
        Event::Fault(fault) => (fault.addr.raw() ^ 1, fault.flags.bits()),
        Event::Remove(span) => (span.start.raw() ^ 2, span.len.bytes()),
        Event::Unmap(span) => (span.start.raw() ^ 3, span.len.bytes()),
        Event::Remap { from, to, len } => (from.raw() ^ 4, to.raw() ^ len << 1),
        Event::Fork { fd } => (5, fd as u64),
        Event::Unknown(code) => (6, u64::from(code)),
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Signal::SegvMapErr => "SIGSEGV (nothing mapped)",
            Signal::SegvAccErr => "SIGSEGV (protection)",
            Signal::BusAdrErr => "SIGBUS (no page)",
            Signal::BusPoison => "SIGBUS (poisoned)",
        })
    }
}

impl fmt::Display for Ret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ret::Loaded(content) => write!(f, "loaded {content}"),
            Ret::Stored => write!(f, "stored"),
            Ret::Signal(signal) => write!(f, "{signal}"),
            Ret::Ok(0) => write!(f, "ok"),
            Ret::Ok(value) => write!(f, "{value:#x}"),
            Ret::Forked(mm) => write!(f, "forked, address space {}", mm.0),
            Ret::Err(errno) => write!(f, "{errno:?}"),
            Ret::Outcome(outcome) => write!(f, "{outcome}"),
            Ret::Read(count) => write!(f, "{count} message{}", if *count == 1 { "" } else { "s" }),
        }
    }
}
