//! A call as the generator makes it: in pages of the arena. Owns its text form and its
//! translation to a system call.

use std::fmt;

use shims::linux::vma_probe::{Call, Limit, ProbeFile};
use sim::vma::{Advice, MapFlags, Prot, RemapFlags};

use super::model::{ARENA_START, address};

/// What a mapping is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// No file.
    Anonymous,
    /// A file, from this page on.
    File(ProbeFile, u64),
}

/// A call of `mmap`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Map {
    /// The page it starts at.
    pub at: u64,
    /// Pages.
    pub len: u64,
    /// Access.
    pub prot: Prot,
    /// Type and all other flags.
    pub flags: MapFlags,
    /// What it is made of.
    pub source: Source,
}

/// A call. Places and lengths are pages of the arena.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// `mmap`.
    Map(Map),
    /// `munmap` of pages `[.0, .0 + .1)`; the other ranges are written the same way.
    Unmap(u64, u64),
    /// `mprotect`.
    Protect(u64, u64, Prot),
    /// `madvise`.
    Advise(u64, u64, Advice),
    /// `mremap` from `old` (pages `old_len`) to `new` (pages `new_len`).
    Remap {
        /// Old page.
        old: u64,
        /// Old pages.
        old_len: u64,
        /// New pages.
        new_len: u64,
        /// Flags.
        flags: RemapFlags,
        /// New page.
        new: u64,
    },
    /// `mlock2`; the flag is `MLOCK_ONFAULT`.
    Lock(u64, u64, bool),
    /// `munlock`.
    Unlock(u64, u64),
    /// `mlockall(MCL_FUTURE)`, with `MCL_ONFAULT` if set.
    LockFuture(bool),
    /// `munlockall`.
    UnlockAll,
    /// `mseal`.
    Seal(u64, u64),
    /// `mbind` to node 0, or to the default.
    Bind(u64, u64, bool),
    /// Write to a page.
    Touch(u64),
    /// `UFFDIO_REGISTER` with userfaultfd `.0`; `.3` are the mode bits.
    Register(usize, u64, u64, u64),
    /// `UFFDIO_UNREGISTER`.
    Unregister(usize, u64, u64),
    /// Close userfaultfd `.0`.
    Close(usize),
    /// Go on in a child.
    Fork,
    /// Lower a limit, to so much more than there is, or to so many pages.
    Limit(Limit, u64),
    /// Put an empty heap at a page.
    Heap(u64),
    /// `brk` to a page.
    Brk(u64),
}

/// The number of the advice in `madvise`.
fn advice_number(advice: Advice) -> u64 {
    match advice {
        Advice::Normal => 0,
        Advice::Random => 1,
        Advice::Sequential => 2,
        Advice::DontFork => 10,
        Advice::DoFork => 11,
        Advice::Mergeable => 12,
        Advice::Unmergeable => 13,
        Advice::HugePage => 14,
        Advice::NoHugePage => 15,
        Advice::DontDump => 16,
        Advice::DoDump => 17,
        Advice::WipeOnFork => 18,
        Advice::KeepOnFork => 19,
        Advice::GuardInstall => 102,
    }
}

impl Op {
    /// The system call.
    pub fn call(&self) -> Call {
        let bytes = |pages: u64| pages << 12;
        match *self {
            Op::Map(map) => {
                let (file, offset, anonymous) = match map.source {
                    Source::Anonymous => (None, 0, MapFlags::ANONYMOUS),
                    Source::File(file, page) => (Some(file), bytes(page), MapFlags::empty()),
                };
                Call::Mmap {
                    addr: address(map.at),
                    len: bytes(map.len),
                    prot: map.prot.bits(),
                    flags: (map.flags | anonymous).bits(),
                    file,
                    offset,
                }
            }
            Op::Unmap(at, len) => Call::Munmap(address(at), bytes(len)),
            Op::Protect(at, len, prot) => Call::Mprotect(address(at), bytes(len), prot.bits()),
            Op::Advise(at, len, advice) => {
                Call::Madvise(address(at), bytes(len), advice_number(advice))
            }
            Op::Remap { old, old_len, new_len, flags, new } => Call::Mremap {
                old: address(old),
                old_len: bytes(old_len),
                new_len: bytes(new_len),
                flags: flags.bits(),
                new: if flags.contains(RemapFlags::FIXED) { address(new) } else { 0 },
            },
            Op::Lock(at, len, on_fault) => {
                Call::Mlock(address(at), bytes(len), u64::from(on_fault))
            }
            Op::Unlock(at, len) => Call::Munlock(address(at), bytes(len)),
            Op::LockFuture(on_fault) => Call::Mlockall(2 | u64::from(on_fault) << 2),
            Op::UnlockAll => Call::Munlockall,
            Op::Seal(at, len) => Call::Mseal(address(at), bytes(len)),
            Op::Bind(at, len, bind) => Call::Mbind(address(at), bytes(len), bind),
            Op::Touch(at) => Call::Touch(address(at)),
            Op::Register(fd, at, len, modes) => Call::Register(fd, address(at), bytes(len), modes),
            Op::Unregister(fd, at, len) => Call::Unregister(fd, address(at), bytes(len)),
            Op::Close(fd) => Call::CloseUffd(fd),
            Op::Fork => Call::Fork,
            Op::Limit(limit, amount) => Call::Limit(limit, amount),
            Op::Heap(at) => Call::Heap(address(at)),
            Op::Brk(to) => Call::Brk(address(to)),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Op::Map(map) => {
                write!(f, "mmap [{},{}) {:?} {:?}", map.at, map.at + map.len, map.prot, map.flags)?;
                match map.source {
                    Source::Anonymous => Ok(()),
                    Source::File(file, page) => write!(f, " of {file:?} from page {page}"),
                }
            }
            Op::Unmap(at, len) => write!(f, "munmap [{at},{})", at + len),
            Op::Protect(at, len, prot) => write!(f, "mprotect [{at},{}) {prot:?}", at + len),
            Op::Advise(at, len, advice) => write!(f, "madvise [{at},{}) {advice:?}", at + len),
            Op::Remap { old, old_len, new_len, flags, new } => {
                write!(f, "mremap [{old},{}) to {new_len} pages", old + old_len)?;
                if flags.contains(RemapFlags::FIXED) {
                    write!(f, " at {new}")?;
                }
                write!(f, " {flags:?}")
            }
            Op::Lock(at, len, on_fault) => {
                write!(f, "mlock{} [{at},{})", if on_fault { " on fault" } else { "" }, at + len)
            }
            Op::Unlock(at, len) => write!(f, "munlock [{at},{})", at + len),
            Op::LockFuture(on_fault) => {
                write!(f, "mlockall future{}", if on_fault { " on fault" } else { "" })
            }
            Op::UnlockAll => write!(f, "munlockall"),
            Op::Seal(at, len) => write!(f, "mseal [{at},{})", at + len),
            Op::Bind(at, len, bind) => {
                write!(f, "mbind [{at},{}) {}", at + len, if bind { "node 0" } else { "default" })
            }
            Op::Touch(at) => write!(f, "write {at}"),
            Op::Register(fd, at, len, modes) => {
                write!(f, "register uffd{fd} [{at},{}) modes {modes}", at + len)
            }
            Op::Unregister(fd, at, len) => write!(f, "unregister uffd{fd} [{at},{})", at + len),
            Op::Close(fd) => write!(f, "close uffd{fd}"),
            Op::Fork => write!(f, "fork"),
            Op::Limit(limit, amount) => write!(f, "limit {limit:?} {amount}"),
            Op::Heap(at) => write!(f, "heap at {at}"),
            Op::Brk(to) => write!(f, "brk {to}"),
        }
    }
}

/// The page of the arena that holds `addr`, if it lies in it.
pub(super) fn page_of(addr: u64) -> Option<u64> {
    addr.checked_sub(ARENA_START).map(|offset| offset >> 12)
}
