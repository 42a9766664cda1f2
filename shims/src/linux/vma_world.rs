//! What a probed process has besides memory calls: its limits, and its userfaultfds with
//! somebody who reads their events. Owns how they are set up; raw system calls only, as in
//! `vma_probe.rs`. x86-64 only.

#![allow(unsafe_code)]

use linux_raw_sys::general as sys;

use super::vma_probe::{FOLLOWER, UFFDS, raw, result};

const PAGE: u64 = 4096;

/// A limit that a script lowers. What else the process has is counted in, so the amount is
/// what the arena may still have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Limit {
    /// `RLIMIT_AS`: pages more than are mapped now.
    AddressSpace,
    /// `RLIMIT_DATA`: pages more than count now.
    Data,
    /// `RLIMIT_MEMLOCK`, in pages, and no `CAP_IPC_LOCK` to get around it.
    Lock,
    /// `RLIMIT_STACK`, in pages.
    Stack,
    /// `vm.max_map_count`: VMAs more than there are now. The sysctl stays as it is; mappings
    /// far above the arena use up the rest, so it can be lowered once, before all else.
    Count,
}

/// Lower the limit; 0, or an error.
pub(super) fn lower(limit: Limit, amount: u64) -> u64 {
    const RLIMIT_DATA: u64 = 2;
    const RLIMIT_STACK: u64 = 3;
    const RLIMIT_MEMLOCK: u64 = 8;
    const RLIMIT_AS: u64 = 9;
    let mut text = [0_u8; 4096];
    match limit {
        Limit::AddressSpace => {
            let statm = read_file(c"/proc/self/statm", &mut text);
            set_rlimit(RLIMIT_AS, number(statm) + amount)
        }
        Limit::Data => {
            let status = read_file(c"/proc/self/status", &mut text);
            let at = status.windows(7).position(|word| word == b"VmData:");
            let kib = at.map_or(0, |at| number(&status[at + 7..]));
            set_rlimit(RLIMIT_DATA, kib / 4 + amount)
        }
        Limit::Lock => {
            let error = drop_ipc_lock();
            if error != 0 { error } else { set_rlimit(RLIMIT_MEMLOCK, amount) }
        }
        Limit::Stack => set_rlimit(RLIMIT_STACK, amount),
        Limit::Count => {
            let max = number(read_file(c"/proc/sys/vm/max_map_count", &mut text));
            // The last line is the gate area, which is no mapping of the process.
            let have = count_lines(c"/proc/self/maps", &mut text).saturating_sub(1);
            use_up(max.saturating_sub(have + amount))
        }
    }
}

/// Map so many pages that cannot join, one VMA each.
fn use_up(vmas: u64) -> u64 {
    const FAR: u64 = 0x3000_0000_0000;
    let flags = sys::MAP_PRIVATE | sys::MAP_ANONYMOUS | sys::MAP_FIXED | sys::MAP_NORESERVE;
    for page in 0..vmas {
        let prot = if page % 2 == 0 { sys::PROT_NONE } else { sys::PROT_READ };
        let args = [FAR + page * PAGE, PAGE, u64::from(prot), u64::from(flags), u64::MAX, 0];
        // SAFETY: nothing of a process is mapped there, between the arena and what the kernel
        // places from the top down.
        let value = unsafe { raw(sys::__NR_mmap, args) };
        if result(value).is_err() {
            return value;
        }
    }
    0
}

fn set_rlimit(which: u64, pages: u64) -> u64 {
    let bytes = pages * PAGE;
    let mut limit = [0_u64; 2];
    // SAFETY: `limit` is a live `struct rlimit64`; only the soft limit of this process changes.
    unsafe {
        raw(sys::__NR_prlimit64, [0, which, 0, &raw mut limit as u64, 0, 0]);
        limit[0] = bytes.min(limit[1]);
        raw(sys::__NR_prlimit64, [0, which, &raw const limit as u64, 0, 0, 0])
    }
}

/// Without the capability the lock limit applies.
fn drop_ipc_lock() -> u64 {
    const VERSION: u32 = 0x2008_0522;
    const IPC_LOCK: u32 = 14;
    let header = [VERSION, 0];
    let mut sets = [0_u32; 6];
    // SAFETY: `header` and `sets` are what `capget` and `capset` want, and live.
    unsafe {
        let (header, sets_at) = (&raw const header as u64, &raw mut sets as u64);
        raw(sys::__NR_capget, [header, sets_at, 0, 0, 0, 0]);
        sets[0] &= !(1 << IPC_LOCK);
        raw(sys::__NR_capset, [header, &raw const sets as u64, 0, 0, 0, 0])
    }
}

fn open(path: &core::ffi::CStr) -> u64 {
    let at = sys::AT_FDCWD as i64 as u64;
    // SAFETY: `path` is a C string; a new descriptor affects nothing else.
    unsafe { raw(sys::__NR_openat, [at, path.as_ptr() as u64, 0, 0, 0, 0]) }
}

/// One read: enough for a short file.
fn read_file<'a>(path: &core::ffi::CStr, text: &'a mut [u8]) -> &'a [u8] {
    let fd = open(path);
    // SAFETY: the kernel writes at most `text.len()` bytes into `text`.
    let got = unsafe {
        let got = raw(sys::__NR_read, [fd, text.as_mut_ptr() as u64, text.len() as u64, 0, 0, 0]);
        raw(sys::__NR_close, [fd, 0, 0, 0, 0, 0]);
        got
    };
    &text[..result(got).unwrap_or(0) as usize]
}

fn count_lines(path: &core::ffi::CStr, text: &mut [u8]) -> u64 {
    let fd = open(path);
    let mut lines = 0;
    loop {
        let read = [fd, text.as_mut_ptr() as u64, text.len() as u64, 0, 0, 0];
        // SAFETY: the kernel writes at most `text.len()` bytes into `text`.
        let got = result(unsafe { raw(sys::__NR_read, read) }).unwrap_or(0) as usize;
        if got == 0 {
            break;
        }
        lines += text[..got].iter().filter(|byte| **byte == b'\n').count() as u64;
    }
    // SAFETY: `fd` is this function's own.
    unsafe { raw(sys::__NR_close, [fd, 0, 0, 0, 0, 0]) };
    lines
}

/// The first number in a text.
fn number(text: &[u8]) -> u64 {
    let digits = text.iter().skip_while(|byte| !byte.is_ascii_digit());
    let digits = digits.take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |value, digit| value * 10 + u64::from(digit - b'0'))
}

/// The userfaultfds of a process. None sleeps on a fault (`UFFD_FEATURE_SIGBUS`). Numbers 0
/// and 1 have nothing else; number 2 has asynchronous write protection; number 3, the
/// follower, hears of moves and forks; without the privilege for that it is of no use. An
/// ordinary user gets such as are not asked about the kernel's own faults.
pub(super) fn open_uffds() -> [u64; UFFDS] {
    const SIGBUS: u64 = 1 << 7;
    const WP_ASYNC: u64 = 1 << 15;
    const EVENT_FORK: u64 = 1 << 1;
    const EVENT_REMAP: u64 = 1 << 2;
    let plain = [SIGBUS, SIGBUS, SIGBUS | WP_ASYNC, SIGBUS | EVENT_FORK | EVENT_REMAP];
    plain.map(new_uffd)
}

fn new_uffd(features: u64) -> u64 {
    const UFFDIO_API: u64 = 0xc018_aa3f;
    let mut api = [0xaa_u64, features, 0];
    // SAFETY: `api` is a live `struct uffdio_api`.
    unsafe {
        let open = |flags| raw(sys::__NR_userfaultfd, [flags, 0, 0, 0, 0, 0]);
        let flags = u64::from(sys::O_NONBLOCK);
        let mut fd = open(flags);
        if result(fd).is_err() {
            fd = open(flags | u64::from(sys::UFFD_USER_MODE_ONLY));
        }
        raw(sys::__NR_ioctl, [fd, UFFDIO_API, &raw mut api as u64, 0, 0, 0]);
        fd
    }
}

/// A process that reads `uffd` and whatever userfaultfds of children come out of it, until
/// the process that made it ends. Before it there must be nothing registered that waits for
/// a reader. The other userfaultfds it closes before this returns, so that closing one releases
/// it.
pub(super) fn start_reader(uffds: &[u64; UFFDS]) {
    let uffd = uffds[FOLLOWER];
    const PR_SET_PDEATHSIG: u64 = 1;
    const SIGKILL: u64 = 9;
    const MOST: usize = 64;
    const EVENT_FORK: u8 = 0x13;
    // A pipe that nobody writes to: its end of file says that the reader is rid of its copies.
    let mut ends = [0_u32; 2];
    // SAFETY: the kernel writes two descriptors. The child makes raw system calls only, and
    // never returns.
    let parent = unsafe {
        raw(sys::__NR_pipe2, [ends.as_mut_ptr() as u64, 0, 0, 0, 0, 0]);
        raw(sys::__NR_getpid, [0; 6])
    };
    let [ours, theirs] = ends.map(u64::from);
    // SAFETY: as above.
    if unsafe { raw(sys::__NR_fork, [0; 6]) } != 0 {
        let mut byte = 0_u8;
        // SAFETY: both ends are open here, and the kernel writes at most one byte.
        unsafe {
            raw(sys::__NR_close, [theirs, 0, 0, 0, 0, 0]);
            raw(sys::__NR_read, [ours, &raw mut byte as u64, 1, 0, 0, 0]);
            raw(sys::__NR_close, [ours, 0, 0, 0, 0, 0]);
        }
        return;
    }
    // SAFETY: as above. Whose parent has ended before it asked must see for itself.
    unsafe {
        raw(sys::__NR_prctl, [PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0, 0]);
        if raw(sys::__NR_getppid, [0; 6]) != parent {
            raw(sys::__NR_exit_group, [0; 6]);
        }
        for other in uffds.iter().filter(|other| **other != uffd).chain(&[ours, theirs]) {
            raw(sys::__NR_close, [*other, 0, 0, 0, 0, 0]);
        }
    }
    // `struct pollfd`: the descriptor, and `POLLIN` asked for.
    let mut polled = [[uffd as u32, 1_u32]; MOST];
    let mut open = 1;
    loop {
        let wait = [polled.as_mut_ptr() as u64, open as u64, u64::MAX, 0, 0, 0];
        // SAFETY: `polled` has `open` live entries.
        unsafe { raw(sys::__NR_poll, wait) };
        let known = open;
        for i in 0..known {
            let mut message = [0_u8; 32];
            let read = [u64::from(polled[i][0]), message.as_mut_ptr() as u64, 32, 0, 0, 0];
            // SAFETY: the kernel writes one `struct uffd_msg` of 32 bytes.
            let got = unsafe { raw(sys::__NR_read, read) };
            if got == 32 && message[0] == EVENT_FORK && open < MOST {
                let fd = u32::from_le_bytes([message[8], message[9], message[10], message[11]]);
                polled[open] = [fd, 1];
                open += 1;
            }
        }
    }
}
