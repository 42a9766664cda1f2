//! What an operation of a scenario is for a puppet, and what the puppet's answer is for the
//! scenario. Owns the translation; what is done by somebody else than the task's own thread is
//! `round.rs`'s business.

use linux_raw_sys::general as sys;
use shims::linux::puppet::{Act, Answer};
use shims::{PageSize, Span};
use sim::Content;
use sim::kernel::{Madvise, Ret, Signal};
use sim::world::{Memory, Op, Setup};

use super::super::puppet_ops::words;

/// `MAP_SHARED`, `MAP_PRIVATE`, `MAP_FIXED_NOREPLACE`, `MAP_ANONYMOUS`, `MAP_HUGETLB`, and the
/// size of its pages.
const SHARED: u64 = 1;
const PRIVATE: u64 = 2;
const FIXED_NOREPLACE: u64 = 0x10_0000;
const ANONYMOUS: u64 = 0x20;
const HUGETLB: u64 = 0x4_0000;
const OF_2_MIB: u64 = 21 << 26;
/// `PROT_READ | PROT_WRITE`.
const READ_WRITE: u64 = 3;

/// The flags of `memfd_create` for the file behind `memory`.
pub(super) fn file_flags(memory: Memory) -> u64 {
    const MFD_HUGETLB: u64 = 4;
    if memory.page_size() == PageSize::MIB2 { MFD_HUGETLB | OF_2_MIB } else { 0 }
}

/// What maps the whole memory; `file` is the descriptor of the file behind it.
pub(super) fn map(setup: &Setup, file: Option<u64>) -> Act {
    let all = setup.memory.span(0, setup.pages);
    let kind = match setup.memory {
        Memory::Anon => PRIVATE | ANONYMOUS,
        Memory::HugetlbPrivate => PRIVATE | ANONYMOUS | HUGETLB | OF_2_MIB,
        Memory::ShmemPrivate => PRIVATE,
        Memory::Shmem | Memory::Hugetlb => SHARED,
    };
    let flags = kind | FIXED_NOREPLACE;
    let fd = file.unwrap_or(u64::MAX);
    let args = [all.start.raw(), all.len.bytes(), READ_WRITE, flags, fd, 0];
    Act::Syscall(sys::__NR_mmap, args)
}

/// A store of `content` at the start of a page.
pub(super) fn store(setup: &Setup, page: u64, content: Content) -> Act {
    Act::Store { addr: setup.addr(page).raw(), words: words(content) }
}

/// What the thread of `task` does for `op`; nothing if it is not the thread that does it. `seq`
/// numbers its stores.
pub(super) fn act(setup: &Setup, op: &Op, task: usize, seq: u32, file: Option<u64>) -> Option<Act> {
    let call = |number, args| Some(Act::Syscall(number, args));
    let madvise = |range: &Span, advice: u32| {
        let args = [range.start.raw(), range.len.bytes(), u64::from(advice), 0, 0, 0];
        call(sys::__NR_madvise, args)
    };
    match op {
        Op::Read { page, .. } => Some(Act::Load { addr: setup.addr(*page).raw(), both: true }),
        Op::Write { page, .. } => {
            Some(store(setup, *page, Content::Written { task: task as u16, seq }))
        }
        Op::Populate { range, write: false, .. } => madvise(range, 22),
        Op::Populate { range, write: true, .. } => madvise(range, 23),
        Op::DontNeed { range, .. } => madvise(range, 4),
        Op::Remove { range, .. } => madvise(range, 9),
        Op::Advise { range, advice, .. } => madvise(range, number(*advice)),
        Op::Punch { range, .. } => {
            // `FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE`.
            let at = range.start.raw() - setup.memory.base().raw();
            call(sys::__NR_fallocate, [file?, 3, at, range.len.bytes(), 0, 0])
        }
        Op::Truncate { pages, .. } => {
            let size = pages * setup.memory.page_size().bytes();
            call(sys::__NR_ftruncate, [file?, size, 0, 0, 0, 0])
        }
        Op::Munmap { range, .. } => {
            call(sys::__NR_munmap, [range.start.raw(), range.len.bytes(), 0, 0, 0, 0])
        }
        Op::Mremap { range, to, dontunmap, .. } => {
            // `MREMAP_MAYMOVE | MREMAP_FIXED`, and `MREMAP_DONTUNMAP`.
            let flags = if *dontunmap { 7 } else { 3 };
            let (old, len) = (range.start.raw(), range.len.bytes());
            call(sys::__NR_mremap, [old, len, len, flags, setup.addr(*to).raw(), 0])
        }
        Op::Mprotect { range, prot, .. } => {
            let args = [range.start.raw(), range.len.bytes(), prot.bits(), 0, 0, 0];
            call(sys::__NR_mprotect, args)
        }
        Op::Fork { .. }
        | Op::Register { .. }
        | Op::Unregister { .. }
        | Op::Close
        | Op::Post(_)
        | Op::Await(_)
        | Op::Inject(_)
        | Op::Control(_) => None,
    }
}

/// `MADV_…`.
fn number(advice: Madvise) -> u32 {
    match advice {
        Madvise::Free => 8,
        Madvise::Cold => 20,
        Madvise::PageOut => 21,
        Madvise::Collapse => 25,
        Madvise::GuardInstall => 102,
        Madvise::GuardRemove => 103,
        other => unreachable!("scenarios have no word for {other:?}"),
    }
}

/// What came of `op`, in the words of the simulator.
pub(super) fn ret(op: &Op, answer: &Answer) -> Ret {
    if let Some(raised) = answer.signal {
        return Ret::Signal(match (raised.number, raised.code) {
            (sys::SIGSEGV, 1) => Signal::SegvMapErr,
            (sys::SIGSEGV, _) => Signal::SegvAccErr,
            // `BUS_MCEERR_AR`.
            (_, 4) => Signal::BusPoison,
            _ => Signal::BusAdrErr,
        });
    }
    match (op, answer.value) {
        (_, Err(errno)) => Ret::Err(errno),
        (Op::Read { .. }, Ok(_)) => Ret::Loaded(content(answer.words)),
        (Op::Write { .. }, Ok(_)) => Ret::Stored,
        (_, Ok(value)) => Ret::Ok(value),
    }
}

/// What a page holds of which these are the first two words. A page without a stamp is zeros in
/// its first words, or nobody in a scenario has written it.
fn content(words: [u64; 2]) -> Content {
    let mut start = [0; 16];
    start[..8].copy_from_slice(&words[0].to_ne_bytes());
    start[8..].copy_from_slice(&words[1].to_ne_bytes());
    Content::of_bytes(&start)
}
