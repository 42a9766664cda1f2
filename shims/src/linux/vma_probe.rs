//! A probe of the running kernel's VMA layer: a script of memory calls, run in a forked
//! process inside an arena of its own, and the VMAs the kernel shows after each call. Owns
//! the running and the recording; what the kernel should have answered is the caller's
//! business. x86-64 only.
//!
//! The forked process uses nothing but raw system calls and memory that was there before:
//! any allocation would change what it observes.

#![allow(unsafe_code)]

use core::fmt;
use core::ops::Range;

use linux_raw_sys::general as sys;

pub use super::vma_world::Limit;
use super::vma_world::{lower, open_uffds, start_reader};
use crate::Errno;

/// A page of the arena's address space, in bytes.
const PAGE: u64 = 4096;
/// How much the records of one script may take.
const OUT_LEN: usize = 16 << 20;
/// Seconds after which a script that hangs is killed. Many: on a busy machine a script that
/// makes 65,530 VMAs has taken more than 20.
const PATIENCE: u64 = 120;
/// How many userfaultfds each process of a script has.
pub const UFFDS: usize = 4;
/// The one of them that hears of moves and forks.
pub const FOLLOWER: usize = 3;

/// A file the script can map. The process opens all of them before the first call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ProbeFile {
    /// A memfd of [`FILE_PAGES`](ProbeFile::FILE_PAGES) pages.
    Memfd,
    /// The same memfd, opened once more.
    MemfdAgain,
    /// The same memfd, opened for reading only.
    MemfdReadOnly,
    /// A regular file, opened for reading only.
    Regular,
    /// A memfd with pages of 2 MiB. No huge page need exist: map it with `MAP_NORESERVE`.
    Huge,
}

impl ProbeFile {
    /// The size of the memfd.
    pub const FILE_PAGES: u64 = 64;
}

/// One call. Addresses and lengths are bytes; every range must lie in the arena.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// `mmap`.
    Mmap {
        /// Address or hint.
        addr: u64,
        /// Bytes.
        len: u64,
        /// `PROT_*`.
        prot: u64,
        /// `MAP_*`.
        flags: u64,
        /// The file, unless anonymous.
        file: Option<ProbeFile>,
        /// Offset in it.
        offset: u64,
    },
    /// `munmap`.
    Munmap(u64, u64),
    /// `mprotect` with `PROT_*`.
    Mprotect(u64, u64, u64),
    /// `madvise` with `MADV_*`.
    Madvise(u64, u64, u64),
    /// `mremap`.
    Mremap {
        /// Old address.
        old: u64,
        /// Old length.
        old_len: u64,
        /// New length.
        new_len: u64,
        /// `MREMAP_*`.
        flags: u64,
        /// New address.
        new: u64,
    },
    /// `mlock2` with `MLOCK_*`.
    Mlock(u64, u64, u64),
    /// `munlock`.
    Munlock(u64, u64),
    /// `mlockall` with `MCL_*`; `MCL_CURRENT` is refused, because it would reach beyond the
    /// arena.
    Mlockall(u64),
    /// `munlockall`.
    Munlockall,
    /// `mseal`.
    Mseal(u64, u64),
    /// `mbind` to node 0, or back to the default policy.
    Mbind(u64, u64, bool),
    /// Have the kernel write one byte there: 1, or an error.
    Touch(u64),
    /// `UFFDIO_REGISTER` on userfaultfd number so.
    Register(usize, u64, u64, u64),
    /// `UFFDIO_UNREGISTER`.
    Unregister(usize, u64, u64),
    /// Close a userfaultfd.
    CloseUffd(usize),
    /// Lower a limit.
    Limit(Limit, u64),
    /// `fork`, and go on in the child, which gets userfaultfds of its own.
    Fork,
    /// `brk`, in a heap that [`Call::Heap`] has put into the arena.
    Brk(u64),
    /// Make this address the start and the end of the heap.
    Heap(u64),
}

/// What a call returned and which VMAs the arena had then.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Observed {
    /// The value of the system call.
    pub result: Result<u64, Errno>,
    /// The VMAs that intersect the arena, in address order.
    pub vmas: Vec<ObservedVma>,
}

/// A VMA as `/proc/PID/smaps` shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObservedVma {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// Offset in the file, bytes; 0 for anonymous memory.
    pub offset: u64,
    /// Inode of the file; 0 for anonymous memory.
    pub inode: u64,
    /// The tokens of `VmFlags`, sorted as the kernel prints them.
    pub flags: Vec<[u8; 2]>,
}

/// Why a script could not be run to its end.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ProbeError {
    /// A call reaches outside the arena.
    OutsideArena(Call),
    /// The kernel refused something the probe itself needs.
    Setup(&'static str, Errno),
    /// The process died or hung: so many calls were recorded, and this is its wait status.
    Died(usize, i32),
    /// The kernel's text could not be read.
    Unreadable(String),
}

/// Runs scripts. Holds the memory that its processes record into.
pub struct VmaProbe {
    arena: Range<u64>,
    out: *mut u8,
}

impl VmaProbe {
    /// A probe whose scripts keep to `arena`, a range of whole pages where nothing of this
    /// process is mapped and which lies below everything that is.
    pub fn new(arena: Range<u64>) -> Result<VmaProbe, ProbeError> {
        let prot = u64::from(sys::PROT_READ | sys::PROT_WRITE);
        let flags = u64::from(sys::MAP_SHARED | sys::MAP_ANONYMOUS);
        let map = [0, OUT_LEN as u64, prot, flags, u64::MAX, 0];
        // SAFETY: a new anonymous mapping at a place the kernel chooses touches nothing.
        let addr = unsafe { raw(sys::__NR_mmap, map) };
        match result(addr) {
            Ok(addr) => Ok(VmaProbe { arena, out: addr as *mut u8 }),
            Err(errno) => Err(ProbeError::Setup("the shared record", errno)),
        }
    }

    /// Run `script` in a new process and tell what was seen after each call.
    pub fn run(&mut self, script: &[Call]) -> Result<Vec<Observed>, ProbeError> {
        if let Some(call) = script.iter().find(|call| !self.inside(call)) {
            return Err(ProbeError::OutsideArena(*call));
        }
        // SAFETY: `out` is a live mapping of `OUT_LEN` bytes that only this value refers to;
        // the process that shares it has ended whenever no `run` is in progress.
        let out = unsafe { core::slice::from_raw_parts_mut(self.out, OUT_LEN) };
        out[..16].fill(0);
        // SAFETY: the child runs `child`, which makes raw system calls only and never
        // returns, so no lock or allocator state of this process is used in it.
        let pid = unsafe { raw(sys::__NR_fork, [0; 6]) };
        if pid == 0 {
            child(script, &self.arena, out);
        }
        let pid = result(pid).map_err(|errno| ProbeError::Setup("fork", errno))?;
        let mut status = 0_i32;
        loop {
            let wait = [pid, &raw mut status as u64, 0, 0, 0, 0];
            // SAFETY: `status` is a live `i32`.
            match result(unsafe { raw(sys::__NR_wait4, wait) }) {
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(ProbeError::Setup("wait4", errno)),
                Ok(_) => break,
            }
        }
        read_records(out, script.len(), status, &self.arena)
    }

    fn inside(&self, call: &Call) -> bool {
        let range = |start: u64, len: u64| {
            start >= self.arena.start && start <= self.arena.end && len <= self.arena.end - start
        };
        match *call {
            Call::Mmap { addr, len, .. } => range(addr, len),
            Call::Munmap(start, len)
            | Call::Mprotect(start, len, _)
            | Call::Madvise(start, len, _)
            | Call::Mlock(start, len, _)
            | Call::Munlock(start, len)
            | Call::Mseal(start, len)
            | Call::Mbind(start, len, _) => range(start, len),
            Call::Mremap { old, old_len, new_len, flags, new } => {
                let moves = flags & u64::from(sys::MREMAP_FIXED) != 0;
                range(old, old_len) && (!moves || range(new, new_len))
            }
            Call::Register(fd, start, len, _) | Call::Unregister(fd, start, len) => {
                fd < UFFDS && range(start, len)
            }
            Call::CloseUffd(fd) => fd < UFFDS,
            Call::Touch(addr) | Call::Brk(addr) | Call::Heap(addr) => range(addr, 1),
            Call::Mlockall(flags) => flags & u64::from(sys::MCL_CURRENT) == 0,
            Call::Munlockall | Call::Fork | Call::Limit(..) => true,
        }
    }
}

impl Drop for VmaProbe {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and nothing refers to it any more.
        unsafe { raw(sys::__NR_munmap, [self.out as u64, OUT_LEN as u64, 0, 0, 0, 0]) };
    }
}

/// One system call.
///
/// # Safety
///
/// As the call itself: it must not unmap, move or overwrite memory that Rust refers to.
pub(super) unsafe fn raw(number: u32, args: [u64; 6]) -> u64 {
    let mut value = u64::from(number);
    // SAFETY: the `syscall` instruction clobbers rcx, r11 and memory only; the rest is the
    // caller's promise.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") value,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    value
}

pub(super) fn result(value: u64) -> Result<u64, Errno> {
    match i32::try_from((value as i64).wrapping_neg()).ok().filter(|n| (1..4096).contains(n)) {
        Some(errno) => Err(Errno::from_raw(errno).expect("positive")),
        None => Ok(value),
    }
}

/// The descriptors of one process of a script.
struct Fds {
    smaps: u64,
    zero: u64,
    files: [u64; 5],
    uffds: [u64; UFFDS],
    followed: bool,
}

/// Run the script and end the process. Layout of the record: the number of calls recorded,
/// the length of all records; then for each call its value, the length of the text, the
/// text.
fn child(script: &[Call], arena: &Range<u64>, out: &mut [u8]) -> ! {
    // SAFETY: a timer of this process; it ends the process if a call hangs.
    unsafe { raw(sys::__NR_alarm, [PATIENCE, 0, 0, 0, 0, 0]) };
    let mut fds = open_all();
    let mut at = 16;
    for (done, call) in script.iter().enumerate() {
        let mut value = perform(call, &mut fds);
        if *call == Call::Fork {
            if value != 0 {
                // SAFETY: waits for the child, which shares the record, and ends with it.
                unsafe { raw(sys::__NR_wait4, [value, 0, 0, 0, 0, 0]) };
                exit(0);
            }
            // SAFETY: as above.
            unsafe { raw(sys::__NR_alarm, [PATIENCE, 0, 0, 0, 0, 0]) };
            fds.smaps = open(c"/proc/self/smaps", sys::O_RDONLY);
            (fds.uffds, fds.followed) = (open_uffds(), false);
            value = 0;
        }
        let text = at + 16;
        let len = read_smaps(fds.smaps, arena, &mut out[text..]);
        out[at..at + 8].copy_from_slice(&value.to_le_bytes());
        out[at + 8..text].copy_from_slice(&(len as u64).to_le_bytes());
        at = text + len;
        out[..8].copy_from_slice(&(done as u64 + 1).to_le_bytes());
        out[8..16].copy_from_slice(&(at as u64).to_le_bytes());
        if out.len() - at < 1 << 20 {
            exit(3);
        }
    }
    exit(0);
}

fn exit(code: u64) -> ! {
    loop {
        // SAFETY: ends the process.
        unsafe { raw(sys::__NR_exit_group, [code, 0, 0, 0, 0, 0]) };
    }
}

fn open(path: &core::ffi::CStr, flags: u32) -> u64 {
    let at = sys::AT_FDCWD as i64 as u64;
    // SAFETY: `path` is a C string; a new descriptor affects nothing else.
    unsafe { raw(sys::__NR_openat, [at, path.as_ptr() as u64, u64::from(flags), 0, 0, 0]) }
}

fn open_all() -> Fds {
    const MEMFD: u64 = 700;
    // SAFETY: `memfd_create`, `ftruncate`, `dup2` and `close` deal with descriptors only.
    // The memfd gets a number of its own, so that its path below is a constant.
    unsafe {
        let memfd = raw(sys::__NR_memfd_create, [c"probe".as_ptr() as u64, 0, 0, 0, 0, 0]);
        raw(sys::__NR_ftruncate, [memfd, ProbeFile::FILE_PAGES * PAGE, 0, 0, 0, 0]);
        raw(sys::__NR_dup2, [memfd, MEMFD, 0, 0, 0, 0]);
        raw(sys::__NR_close, [memfd, 0, 0, 0, 0, 0]);
    }
    const HUGETLB_2MB: u64 = 4 | 21 << 26;
    // SAFETY: as above. The size takes no huge page.
    let huge = unsafe {
        let huge = [c"huge".as_ptr() as u64, HUGETLB_2MB, 0, 0, 0, 0];
        let huge = raw(sys::__NR_memfd_create, huge);
        raw(sys::__NR_ftruncate, [huge, 64 << 21, 0, 0, 0, 0]);
        huge
    };
    Fds {
        smaps: open(c"/proc/self/smaps", sys::O_RDONLY),
        zero: open(c"/dev/zero", sys::O_RDONLY),
        files: [
            MEMFD,
            open(c"/proc/self/fd/700", sys::O_RDWR),
            open(c"/proc/self/fd/700", sys::O_RDONLY),
            open(c"/proc/self/exe", sys::O_RDONLY),
            huge,
        ],
        uffds: open_uffds(),
        followed: false,
    }
}

fn perform(call: &Call, fds: &mut Fds) -> u64 {
    const UFFDIO_REGISTER: u64 = 0xc020_aa00;
    const UFFDIO_UNREGISTER: u64 = 0x8010_aa01;
    // `struct uffdio_register`; the other ioctl's is its beginning.
    let mut register = match *call {
        Call::Register(_, start, len, modes) => [start, len, modes, 0],
        Call::Unregister(_, start, len) => [start, len, 0, 0],
        _ => [0_u64; 4],
    };
    let nodes = 1_u64;
    if matches!(*call, Call::Register(FOLLOWER, ..)) && !fds.followed {
        start_reader(&fds.uffds);
        fds.followed = true;
    }
    let (number, args) = match *call {
        Call::Mmap { addr, len, prot, flags, file, offset } => {
            let fd = file.map_or(u64::MAX, |file| fds.files[file as usize]);
            (sys::__NR_mmap, [addr, len, prot, flags, fd, offset])
        }
        Call::Munmap(start, len) => (sys::__NR_munmap, [start, len, 0, 0, 0, 0]),
        Call::Mprotect(start, len, prot) => (sys::__NR_mprotect, [start, len, prot, 0, 0, 0]),
        Call::Madvise(start, len, advice) => (sys::__NR_madvise, [start, len, advice, 0, 0, 0]),
        Call::Mremap { old, old_len, new_len, flags, new } => {
            (sys::__NR_mremap, [old, old_len, new_len, flags, new, 0])
        }
        Call::Mlock(start, len, flags) => (sys::__NR_mlock2, [start, len, flags, 0, 0, 0]),
        Call::Munlock(start, len) => (sys::__NR_munlock, [start, len, 0, 0, 0, 0]),
        Call::Mlockall(flags) => (sys::__NR_mlockall, [flags, 0, 0, 0, 0, 0]),
        Call::Munlockall => (sys::__NR_munlockall, [0; 6]),
        Call::Mseal(start, len) => (sys::__NR_mseal, [start, len, 0, 0, 0, 0]),
        Call::Mbind(start, len, bind) => {
            const MPOL_BIND: u64 = 2;
            let mask = if bind { &raw const nodes as u64 } else { 0 };
            let (mode, bits) = if bind { (MPOL_BIND, 64) } else { (0, 0) };
            (sys::__NR_mbind, [start, len, mode, mask, bits, 0])
        }
        Call::Touch(addr) => (sys::__NR_read, [fds.zero, addr, 1, 0, 0, 0]),
        Call::Register(fd, ..) => {
            let arg = &raw mut register as u64;
            (sys::__NR_ioctl, [fds.uffds[fd], UFFDIO_REGISTER, arg, 0, 0, 0])
        }
        Call::Unregister(fd, ..) => {
            let arg = &raw mut register as u64;
            (sys::__NR_ioctl, [fds.uffds[fd], UFFDIO_UNREGISTER, arg, 0, 0, 0])
        }
        Call::CloseUffd(fd) => (sys::__NR_close, [fds.uffds[fd], 0, 0, 0, 0, 0]),
        Call::Fork => (sys::__NR_fork, [0; 6]),
        Call::Brk(to) => (sys::__NR_brk, [to, 0, 0, 0, 0, 0]),
        Call::Heap(at) => return set_heap(at),
        Call::Limit(limit, amount) => return lower(limit, amount),
    };
    // SAFETY: every range was checked to lie in the arena, where Rust has nothing, or is
    // placed by the kernel where nothing is; `register` and `nodes` are live.
    unsafe { raw(number, args) }
}

/// `PR_SET_MM_MAP` with a heap at `at`. The kernel wants the data segment below the heap;
/// the other fields only show in `/proc`.
fn set_heap(at: u64) -> u64 {
    const PR_SET_MM: u64 = 35;
    const PR_SET_MM_MAP: u64 = 14;
    const LOW: u64 = 1 << 20;
    const NO_FILE: u64 = (u32::MAX as u64) << 32;
    // `struct prctl_mm_map`: code, data, heap, stack, arguments, environment, auxiliary
    // vector, and the executable's descriptor in the upper half of the last word.
    let map = [LOW, LOW + PAGE, LOW, LOW, at, at, LOW, LOW, LOW, LOW, LOW, 0, NO_FILE];
    let len = size_of_val(&map) as u64;
    // SAFETY: moves the break of a process that allocates nothing.
    unsafe {
        raw(sys::__NR_prctl, [PR_SET_MM, PR_SET_MM_MAP, &raw const map as u64, len, 0, 0]);
        raw(sys::__NR_brk, [0; 6])
    }
}

/// Read the VMAs up to the end of the arena; whole reads, so a few more may follow.
fn read_smaps(fd: u64, arena: &Range<u64>, out: &mut [u8]) -> usize {
    // SAFETY: moves the file's own position.
    unsafe { raw(sys::__NR_lseek, [fd, 0, 0, 0, 0, 0]) };
    let mut len = 0;
    loop {
        let free = (out.len() - len) as u64;
        let read = [fd, out[len..].as_mut_ptr() as u64, free, 0, 0, 0];
        // SAFETY: the kernel writes at most `free` bytes into `out` from `len` on.
        let Ok(got) = result(unsafe { raw(sys::__NR_read, read) }) else { return len };
        let seen = len;
        len += got as usize;
        let mut starts = out[seen..len].split(|byte| *byte == b'\n').filter_map(header_start);
        if got == 0 || starts.any(|start| start >= arena.end) {
            return len;
        }
    }
}

/// The start address, if this is the first line of a VMA.
fn header_start(line: &[u8]) -> Option<u64> {
    let digits = line.iter().position(|byte| *byte == b'-').filter(|n| *n >= 8)?;
    let mut value = 0_u64;
    for byte in &line[..digits] {
        value = value << 4 | u64::from((*byte as char).to_digit(16)?);
    }
    Some(value)
}

fn read_records(
    out: &[u8],
    wanted: usize,
    status: i32,
    arena: &Range<u64>,
) -> Result<Vec<Observed>, ProbeError> {
    let number = |at: usize| u64::from_le_bytes(out[at..at + 8].try_into().expect("8 bytes"));
    let recorded = number(0) as usize;
    if recorded < wanted || status != 0 {
        return Err(ProbeError::Died(recorded, status));
    }
    let mut at = 16;
    let mut observed = Vec::with_capacity(wanted);
    for _ in 0..wanted {
        let (value, len) = (number(at), number(at + 8) as usize);
        let text = &out[at + 16..at + 16 + len];
        observed.push(Observed { result: result(value), vmas: parse_smaps(text, arena)? });
        at += 16 + len;
    }
    Ok(observed)
}

fn parse_smaps(text: &[u8], arena: &Range<u64>) -> Result<Vec<ObservedVma>, ProbeError> {
    let mut vmas: Vec<ObservedVma> = Vec::new();
    let mut open = false;
    for line in text.split(|byte| *byte == b'\n') {
        if let Some(flags) = line.strip_prefix(b"VmFlags:") {
            if let (true, Some(vma)) = (open, vmas.last_mut()) {
                let tokens = flags.split(|byte| *byte == b' ').filter(|token| token.len() == 2);
                vma.flags = tokens.map(|token| [token[0], token[1]]).collect();
            }
            open = false;
        } else if let Some(start) = header_start(line) {
            let line = String::from_utf8_lossy(line);
            let vma = parse_header(&line, start)
                .ok_or_else(|| ProbeError::Unreadable(line.clone().into_owned()))?;
            open = vma.end > arena.start && vma.start < arena.end;
            if open {
                vmas.push(vma);
            }
        }
    }
    Ok(vmas)
}

fn parse_header(line: &str, start: u64) -> Option<ObservedVma> {
    let mut words = line.split_ascii_whitespace();
    let (_, end) = words.next()?.split_once('-')?;
    let offset = words.nth(1)?;
    let inode = words.nth(1)?;
    Some(ObservedVma {
        start,
        end: u64::from_str_radix(end, 16).ok()?,
        offset: u64::from_str_radix(offset, 16).ok()?,
        inode: inode.parse().ok()?,
        flags: Vec::new(),
    })
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProbeError::OutsideArena(call) => write!(f, "{call:?} reaches outside the arena"),
            ProbeError::Setup(what, errno) => write!(f, "the probe needs {what}: {errno}"),
            ProbeError::Died(done, status) => {
                write!(f, "the probed process ended after {done} calls with status {status:#x}")
            }
            ProbeError::Unreadable(line) => write!(f, "cannot read the smaps line `{line}`"),
        }
    }
}

impl core::error::Error for ProbeError {}
