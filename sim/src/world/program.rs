//! What a world is made from: memory, features, tasks with their operations, and what must
//! hold at the end. Owns the values; `scenario` parses them from text.

use core::fmt;

use shims::{Errno, Features, RegisterModes, Span};

use super::busy::BUSY;
use super::memory::Memory;
use super::mishap::{Mishap, Mishaps};
use super::turn::STARVED;
use crate::Content;
use crate::kernel::{Call, Madvise, Ret, Signal};
use crate::profile::Profile;
use crate::vma::{CtxId, FileId, Mremap, Prot, RemapFlags};

/// A world before it starts.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Setup {
    /// The scenario's name.
    pub name: String,
    /// What it is about, one line.
    pub about: String,
    /// Pages of memory, all of them backed by the page of the source with that number.
    pub pages: u64,
    /// Pages of address space behind the memory, into which it can be moved.
    pub room: u64,
    /// What the memory is.
    pub memory: Memory,
    /// Is the source in the memory's file before the world begins?
    pub filled: bool,
    /// Features of the userfaultfd.
    pub features: Features,
    /// Modes all of the memory is registered for.
    pub modes: RegisterModes,
    /// Worker threads of the handler.
    pub workers: usize,
    /// Which kernel.
    pub profile: Profile,
    /// The tasks.
    pub programs: Vec<Program>,
    /// Names of the labels that tasks post and await, by number.
    pub labels: Vec<String>,
    /// What must hold when nobody can move any more.
    pub finally: Vec<Finally>,
    /// What may go wrong meanwhile.
    pub mishaps: Mishaps,
    /// What is too much of a handler.
    pub patience: Patience,
}

/// How much a handler may do in vain, and how often it may serve others first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Patience {
    /// Calls about one page that come to nothing while nothing changes.
    pub busy: u32,
    /// Younger faults that are served before one that waits.
    pub starved: u32,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { busy: BUSY, starved: STARVED }
    }
}

/// A task: what one thread of the monitored process does, in order.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Program {
    /// Its name, unique in the scenario.
    pub name: String,
    /// Does it begin when another task forks, in the new process?
    pub forked: bool,
    /// Is it in another process, which maps the same file and is not watched?
    pub beside: bool,
    /// What it does.
    pub ops: Vec<Op>,
    /// The line of the scenario file each operation stands on.
    pub lines: Vec<u32>,
}

/// One operation of a task. Ranges are in the world's memory.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Op {
    /// Load from a page.
    Read {
        /// Which.
        page: u64,
        /// What must come out.
        expect: Option<Expect>,
    },
    /// Store to a page.
    Write {
        /// Which.
        page: u64,
        /// How it must end.
        expect: Option<Expect>,
    },
    /// `MADV_POPULATE_READ` or `_WRITE`.
    Populate {
        /// Where.
        range: Span,
        /// For writing?
        write: bool,
        /// How it must end.
        expect: Option<Expect>,
    },
    /// `MADV_DONTNEED`.
    DontNeed {
        /// Where.
        range: Span,
        /// How it must end.
        expect: Option<Expect>,
    },
    /// `MADV_REMOVE`: a hole in the file behind the memory.
    Remove {
        /// Where.
        range: Span,
        /// How it must end.
        expect: Option<Expect>,
    },
    /// Another advice.
    Advise {
        /// Where.
        range: Span,
        /// Which.
        advice: Madvise,
        /// How it must end.
        expect: Option<Expect>,
    },
    /// `fallocate` with `FALLOC_FL_PUNCH_HOLE` of the file behind the memory, pages of which
    /// are named by where they were at first.
    Punch {
        /// Where.
        range: Span,
        /// How it must end.
        expect: Option<Expect>,
    },
    /// `ftruncate` of that file.
    Truncate {
        /// To so many pages.
        pages: u64,
        /// How it must end.
        expect: Option<Expect>,
    },
    /// `munmap`.
    Munmap {
        /// Where.
        range: Span,
        /// How it must end.
        expect: Option<Expect>,
    },
    /// `mremap` with `MREMAP_MAYMOVE | MREMAP_FIXED`.
    Mremap {
        /// What.
        range: Span,
        /// The page its start moves to.
        to: u64,
        /// With `MREMAP_DONTUNMAP`: the old place stays, empty.
        dontunmap: bool,
        /// How it must end.
        expect: Option<Expect>,
    },
    /// `fork`: the new process begins with these tasks.
    Fork {
        /// Their numbers.
        tasks: Vec<usize>,
        /// How it must end.
        expect: Option<Expect>,
    },
    /// `mprotect`.
    Mprotect {
        /// Where.
        range: Span,
        /// To what.
        prot: Prot,
        /// How it must end.
        expect: Option<Expect>,
    },
    /// `UFFDIO_REGISTER` by the process itself.
    Register {
        /// Where.
        range: Span,
        /// How it must end.
        expect: Option<Expect>,
    },
    /// `UFFDIO_UNREGISTER` by the process itself.
    Unregister {
        /// Where.
        range: Span,
        /// How it must end.
        expect: Option<Expect>,
    },
    /// Close the userfaultfd.
    Close,
    /// Let those who await label `.0` go on.
    Post(u8),
    /// Wait until label `.0` was posted.
    Await(u8),
    /// Disturb the handler's next read.
    Inject(Injection),
    /// Tell the handler something.
    Control(Control),
}

/// What a scenario tells the handler.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Control {
    /// Read no more messages until resumed. Ready when no read is in progress.
    Pause,
    /// Read again.
    Resume,
    /// Begin a snapshot of the page states.
    BeginSnapshot,
    /// Take it, once everything in flight has settled.
    Snapshot,
    /// Begin a baseline: a snapshot from which on writes count anew.
    BeginBaseline,
    /// Save the bytes of the dirty pages, once it is ready.
    Export,
    /// The bytes are saved: the baseline is taken.
    Baseline,
    /// They could not be: the baseline is given up, and everything counts on as before.
    Cancel,
}

/// A disturbance of the handler's next read that no healthy userfaultfd shows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Injection {
    /// `read` returns 0, as it would on a descriptor number that was recycled.
    Eof,
    /// A message of unknown kind comes after the first message of a batch.
    UnknownEvent(u8),
    /// `read` fails.
    Error(Errno),
    /// A mishap, at the next moment at which it makes a difference.
    Mishap(Mishap),
}

/// A class of page contents.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ContentClass {
    /// Zeros.
    Zero,
    /// The page's own bytes in the source.
    Source,
    /// Something a task wrote.
    Written,
}

/// What an operation must return.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Expect {
    /// This class of contents.
    Content(ContentClass),
    /// Success.
    Ok,
    /// This error.
    Errno(Errno),
    /// A segmentation fault.
    Segv,
    /// A bus error.
    Sigbus,
}

/// What an operation has to know of its world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// The userfaultfd of the first process.
    pub(crate) ctx: CtxId,
    pub(crate) memory: Memory,
    /// The file behind the memory.
    pub(crate) file: Option<FileId>,
}

/// A condition on the final state.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Finally {
    /// The line of the scenario file.
    pub line: u32,
    /// What.
    pub check: Check,
}

/// What a [`Finally`] checks.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Check {
    /// The page is present and holds this class of contents.
    Holds(u64, ContentClass),
    /// The page is not present.
    Absent(u64),
    /// The handler says the page is in this state, by name.
    State(u64, String),
    /// The handler has failed, and says so.
    HandlerFailed,
}

impl Setup {
    /// Pages of address space that operations can name.
    pub fn slots(&self) -> u64 {
        self.pages + self.room
    }

    /// How many processes the tasks can fork, if the handler is told of forks.
    pub fn children(&self) -> usize {
        if !self.features.contains(Features::EVENT_FORK) {
            return 0;
        }
        let ops = self.programs.iter().flat_map(|program| &program.ops);
        ops.filter(|op| matches!(op, Op::Fork { .. })).count()
    }

    /// Is the handler expected to find out which pages are written?
    pub fn tracks_writes(&self) -> bool {
        self.modes.contains(RegisterModes::WP)
    }
}

impl ContentClass {
    /// The class `content` of page `page` belongs to; `None` for another page's source.
    pub fn of(content: Content, index: u64) -> Option<ContentClass> {
        match content {
            Content::Zero => Some(ContentClass::Zero),
            Content::Source { page, .. } if u64::from(page) == index => Some(ContentClass::Source),
            Content::Source { .. } => None,
            Content::Written { .. } | Content::Bytes(_) => Some(ContentClass::Written),
        }
    }
}

impl Expect {
    /// Is `ret` what was expected?
    pub fn holds(self, ret: Ret) -> bool {
        match (self, ret) {
            (Expect::Content(ContentClass::Zero), Ret::Loaded(Content::Zero)) => true,
            (Expect::Content(ContentClass::Source), Ret::Loaded(Content::Source { .. })) => true,
            (Expect::Content(ContentClass::Written), Ret::Loaded(Content::Written { .. })) => true,
            (Expect::Ok, Ret::Ok(_) | Ret::Stored | Ret::Loaded(_) | Ret::Forked(_)) => true,
            (Expect::Errno(want), Ret::Err(got)) => want == got,
            (Expect::Segv, Ret::Signal(Signal::SegvMapErr | Signal::SegvAccErr)) => true,
            (Expect::Sigbus, Ret::Signal(Signal::BusAdrErr | Signal::BusPoison)) => true,
            _ => false,
        }
    }
}

impl Op {
    /// The call this operation makes, for those that make one.
    ///
    /// # Panics
    ///
    /// If it is about a file and there is none: a parsed scenario has one.
    pub(crate) fn call(&self, task: usize, stores: &mut u32, place: Place) -> Call {
        let Place { ctx, memory, file } = place;
        match *self {
            Op::Read { page, .. } => Call::Load { addr: memory.addr(page) },
            Op::Write { page, .. } => {
                *stores += 1;
                let content = Content::Written { task: task as u16, seq: *stores };
                Call::Store { addr: memory.addr(page), content }
            }
            Op::Populate { range, write, .. } => Call::Populate { range, write },
            Op::DontNeed { range, .. } => Call::DontNeed { range },
            Op::Remove { range, .. } => Call::RemoveFile { range },
            Op::Advise { range, advice, .. } => Call::Madvise { range, advice },
            Op::Punch { range, .. } => {
                let start = range.start.raw() - memory.base().raw();
                Call::Punch { file: file.expect(NO_FILE), start, len: range.len.bytes() }
            }
            Op::Truncate { pages, .. } => {
                let size = pages * memory.page_size().bytes();
                Call::Ftruncate { file: file.expect(NO_FILE), size }
            }
            Op::Munmap { range, .. } => Call::Munmap { range },
            Op::Mremap { range, to, dontunmap, .. } => {
                let keep = if dontunmap { RemapFlags::DONTUNMAP } else { RemapFlags::empty() };
                Call::Mremap(Mremap {
                    old: range.start.raw(),
                    old_len: range.len.bytes(),
                    new_len: range.len.bytes(),
                    flags: RemapFlags::MAYMOVE | RemapFlags::FIXED | keep,
                    new: memory.addr(to).raw(),
                })
            }
            Op::Fork { .. } => Call::Fork,
            Op::Mprotect { range, prot, .. } => Call::Mprotect { range, prot },
            Op::Register { range, .. } => {
                Call::Register { ctx, range, modes: RegisterModes::MISSING }
            }
            Op::Unregister { range, .. } => Call::Unregister { ctx, range },
            Op::Close => Call::Close { ctx },
            Op::Post(_) | Op::Await(_) | Op::Inject(_) | Op::Control(_) => {
                unreachable!("{self:?} makes no call")
            }
        }
    }

    /// Does it take effect at one moment, and return at another that matters too?
    #[inline]
    pub(crate) fn is_lasting(&self) -> bool {
        matches!(self, Op::Fork { .. } | Op::Mremap { .. })
    }

    /// Is there more to know of its steps than what they did?
    #[inline]
    pub(crate) fn is_watched(&self) -> bool {
        matches!(
            self,
            Op::Fork { .. }
                | Op::Mremap { .. }
                | Op::Remove { .. }
                | Op::Advise { .. }
                | Op::Punch { .. }
                | Op::Truncate { .. }
        )
    }

    /// The pages it gives up, if it announces that.
    #[inline]
    pub(crate) fn gives_up(&self) -> Option<Span> {
        match *self {
            Op::DontNeed { range, .. }
            | Op::Remove { range, .. }
            | Op::Advise { range, advice: Madvise::Free, .. } => Some(range),
            _ => None,
        }
    }

    /// What it must return.
    pub fn expect(&self) -> Option<Expect> {
        match *self {
            Op::Read { expect, .. }
            | Op::Write { expect, .. }
            | Op::Populate { expect, .. }
            | Op::DontNeed { expect, .. }
            | Op::Remove { expect, .. }
            | Op::Advise { expect, .. }
            | Op::Punch { expect, .. }
            | Op::Truncate { expect, .. }
            | Op::Munmap { expect, .. }
            | Op::Mremap { expect, .. }
            | Op::Fork { expect, .. }
            | Op::Mprotect { expect, .. }
            | Op::Register { expect, .. }
            | Op::Unregister { expect, .. } => expect,
            Op::Close | Op::Post(_) | Op::Await(_) | Op::Inject(_) | Op::Control(_) => None,
        }
    }
}

const NO_FILE: &str = "there is a file behind the memory";

impl Injection {
    /// Is there something to read because of it?
    pub(crate) fn is_read(self) -> bool {
        !matches!(self, Injection::Mishap(_))
    }

    pub(crate) fn word(self) -> u64 {
        match self {
            Injection::Eof => 1,
            Injection::UnknownEvent(code) => 2 << 32 | u64::from(code),
            Injection::Error(errno) => 3 << 32 | errno.raw() as u64,
            Injection::Mishap(mishap) => 4 << 32 | mishap as u64,
        }
    }
}

impl fmt::Display for ContentClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ContentClass::Zero => "zero",
            ContentClass::Source => "source",
            ContentClass::Written => "written",
        })
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expect::Content(class) => write!(f, "{class}"),
            Expect::Ok => f.write_str("ok"),
            Expect::Errno(errno) => write!(f, "{errno:?}"),
            Expect::Segv => f.write_str("segv"),
            Expect::Sigbus => f.write_str("sigbus"),
        }
    }
}

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Control::Pause => "pause the handler",
            Control::Resume => "resume the handler",
            Control::BeginSnapshot => "ask for a snapshot",
            Control::Snapshot => "take the snapshot",
            Control::BeginBaseline => "ask for a baseline",
            Control::Export => "save the dirty pages",
            Control::Baseline => "take the baseline",
            Control::Cancel => "give the baseline up",
        })
    }
}

impl fmt::Display for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Injection::Eof => f.write_str("end of file"),
            Injection::UnknownEvent(code) => write!(f, "unknown message {code:#x}"),
            Injection::Error(errno) => write!(f, "{errno:?}"),
            Injection::Mishap(mishap) => write!(f, "{mishap}"),
        }
    }
}
