//! What each operation of a case is as a system call or an access. Owns the translation.

use std::collections::BTreeMap;

use linux_raw_sys::general as sys;
use shims::linux::puppet::Act;
use shims::{Addr, Errno};
use sim::world::BASE;
use sim::{Content, STAMP_LEN};

use super::op::{Fill, Kind, Op, PAGE, Piece};
use super::puppet_arm::PuppetArm;
use super::puppet_uffd::bytes_of;

/// Where in the scratch memory the structures of the case's threads lie, by slot.
const OWN: u64 = 64 << 10;
const OWN_LEN: u64 = 512;
/// `MAP_SHARED`, `MAP_PRIVATE`, `MAP_FIXED`, `MAP_ANONYMOUS`, `MAP_NORESERVE`.
const SHARED: u64 = 1;
const PRIVATE: u64 = 2;
const FIXED: u64 = 0x10;
const ANONYMOUS: u64 = 0x20;
const LOCKED: u64 = 0x2000;
const POPULATE: u64 = 0x8000;
const NORESERVE: u64 = 0x4000;

impl PuppetArm {
    /// Map a piece in process 0, making its file if it is the first of it.
    pub(crate) fn map_piece(&mut self, piece: &Piece) -> Result<(), Errno> {
        if piece.kind != Kind::Anon && !self.files.contains_key(&piece.file) {
            // `MFD_HUGETLB | MFD_HUGE_2MB`.
            let flags = if piece.kind.is_huge() { 4 | 21 << 26 } else { 0 };
            self.stage.put(0, b"case\0\0\0\0");
            let name = self.stage.scratch();
            let fd = self.main(0, sys::__NR_memfd_create, [name, flags, 0, 0, 0, 0])?;
            let len = (piece.offset + piece.pages) * PAGE;
            self.main(0, sys::__NR_ftruncate, [fd, len, 0, 0, 0, 0])?;
            self.files.insert(piece.file, fd);
        }
        self.main(0, sys::__NR_mmap, self.mmap_args(piece)).map(drop)
    }

    fn mmap_args(&self, piece: &Piece) -> [u64; 6] {
        mmap_args(piece, &self.files, self.reserve)
    }

    /// What `thread` has to do for `op`.
    pub(crate) fn act(&mut self, thread: usize, op: Op) -> Act {
        let at = |offset: u64| BASE.raw().wrapping_add(offset);
        let stamp = |seq| words(Content::Written { task: thread as u16, seq });
        let (slot, process) = (self.workers[thread].slot, self.workers[thread].process);
        let own = OWN + OWN_LEN * slot as u64;
        let scratch = self.stage.scratch();
        let call = |number, args: [u64; 6]| Act::Syscall(number, args);
        if let Some((number, args)) = system_call(op, &self.files, self.reserve) {
            return call(number, args);
        }
        match op {
            Op::Load(page) => Act::Load { addr: at(page * PAGE), both: true },
            Op::Glance(page) => Act::Load { addr: at(page * PAGE), both: false },
            Op::Store(page, seq) => Act::Store { addr: at(page * PAGE), words: stamp(seq) },
            // One byte in the middle; the rest of the page is seen to when it is allowed.
            Op::Touch { at: offset, write: false } if offset % PAGE != 0 => {
                Act::Load { addr: at(offset), both: false }
            }
            Op::Touch { at: offset, write: true } if offset % PAGE != 0 => {
                Act::Add { addr: at(offset), value: 0 }
            }
            Op::Touch { at: offset, write: false } => Act::Load { addr: at(offset), both: true },
            Op::Touch { at: offset, write: true } => {
                Act::Store { addr: at(offset), words: stamp(0) }
            }
            // A file's bytes are copied to the memory, or the memory's to the file.
            Op::UserCopy { at: offset, write } => {
                let fd = self.stamp_file(process, stamp(0));
                self.workers[thread].last_file = Some(fd);
                if write {
                    call(sys::__NR_pread64, [fd, at(offset), STAMP_LEN as u64, 0, 0, 0])
                } else {
                    call(sys::__NR_pwrite64, [fd, at(offset), STAMP_LEN as u64, PAGE, 0, 0])
                }
            }
            Op::ProcMem { at: offset, write } => {
                self.stage.put(0, b"/proc/self/mem\0\0");
                let open = [sys::AT_FDCWD as i64 as u64, scratch, 2, 0, 0, 0];
                let fd = self.main(process, sys::__NR_openat, open).expect("/proc/self/mem");
                self.stage.put(own, &bytes_of(&stamp(0)));
                self.workers[thread].last_file = None;
                let number = if write { sys::__NR_pwrite64 } else { sys::__NR_pread64 };
                call(number, [fd, scratch + own, STAMP_LEN as u64, at(offset), 0, 0])
            }
            Op::Remote { at: offset, write } => {
                let pid = u64::from(self.stage.ids(self.processes[0].slot).0);
                let len = STAMP_LEN as u64;
                self.workers[thread].last_file = None;
                self.stage.put(own, &bytes_of(&stamp(0)));
                self.stage.put(own + 64, &bytes_of(&[scratch + own, len, at(offset), len]));
                let (local, remote) = (scratch + own + 64, scratch + own + 80);
                let number =
                    if write { sys::__NR_process_vm_writev } else { sys::__NR_process_vm_readv };
                call(number, [pid, local, 1, remote, 1, 0])
            }
            Op::DontNeedSelf { at: offset, len } => {
                let pid = u64::from(self.stage.ids(slot).0);
                let pidfd = self.main(process, sys::__NR_pidfd_open, [pid, 0, 0, 0, 0, 0]);
                self.stage.put(own, &bytes_of(&[at(offset), len]));
                let pidfd = pidfd.expect("a pidfd");
                call(sys::__NR_process_madvise, [pidfd, scratch + own, 1, 4, 0, 0])
            }
            Op::SysvAttach { at: offset, len } => {
                // `IPC_PRIVATE`, `IPC_CREAT | 0600`; marked as gone once it is attached, so
                // that it ends with the process.
                let id = self.main(process, sys::__NR_shmget, [0, len, 0o1600, 0, 0, 0]);
                let id = id.expect("a segment");
                const SHM_REMAP: u64 = 0o40_000;
                let attach = [id, at(offset), SHM_REMAP, 0, 0, 0];
                let got = self.main(process, sys::__NR_shmat, attach);
                let removed = self.main(process, sys::__NR_shmctl, [id, 0, 0, 0, 0, 0]);
                assert!(got.is_ok() && removed.is_ok(), "{got:?} {removed:?}");
                call(sys::__NR_getpid, [0; 6])
            }
            Op::Fork | Op::ForkWithFiles => {
                Act::Fork(self.workers[thread].child, u64::from(sys::SIGCHLD))
            }
            Op::ForkSharingFiles => {
                let flags = u64::from(sys::SIGCHLD | sys::CLONE_FILES);
                Act::Fork(self.workers[thread].child, flags)
            }
            Op::Vfork => Act::Vfork,
            Op::CopyFrom { uffd, to, from, len } => {
                let words = [at(to), at(from), len, 0, 0];
                self.stage.put(own, &bytes_of(&words));
                let fd = self.uffds[uffd].expect("open").number;
                call(sys::__NR_ioctl, [fd, 0xc028_aa03, scratch + own, 0, 0, 0])
            }
            Op::CopyArg { uffd, to, arg } => {
                // The structure is in memory of the arena that cannot be written; its bytes
                // were put there while it could.
                let fd = self.uffds[uffd].expect("open").number;
                self.stage.put(own, &super::run::source(to / PAGE).stamp());
                let words = bytes_of(&[at(to), scratch + own, PAGE, 0, 0]);
                self.poke(process, Addr::new(at(arg)), &words);
                call(sys::__NR_ioctl, [fd, 0xc028_aa03, at(arg), 0, 0, 0])
            }
            Op::ReadBlocking { uffd } => {
                let fd = self.uffds[uffd].expect("open").number;
                call(sys::__NR_read, [fd, scratch + own, OWN_LEN, 0, 0, 0])
            }
            Op::PollBlocking { uffd } => {
                let fd = self.uffds[uffd].expect("open").number;
                self.stage.put(own, &bytes_of(&[fd | 1 << 32]));
                call(sys::__NR_poll, [scratch + own, 1, u64::MAX, 0, 0, 0])
            }
            Op::Exit => call(sys::__NR_exit_group, [0; 6]),
            op => unreachable!("{op:?} is a system call and was done above"),
        }
    }

    /// A file of `process` that begins with `stamp`.
    fn stamp_file(&self, process: usize, stamp: [u64; 2]) -> u64 {
        let scratch = self.stage.scratch();
        self.stage.put(0, b"stamp\0\0\0");
        let fd = self.main(process, sys::__NR_memfd_create, [scratch, 0, 0, 0, 0, 0]);
        let fd = fd.expect("a memory file");
        self.stage.put(0, &bytes_of(&stamp));
        let write = [fd, scratch, STAMP_LEN as u64, 0, 0, 0];
        self.main(process, sys::__NR_pwrite64, write).expect("pwrite");
        fd
    }

    /// What the last copy by a system call of `thread` has read.
    pub(crate) fn copied(&self, thread: usize) -> Content {
        let worker = &self.workers[thread];
        let mut bytes = [0; PAGE as usize];
        let own = OWN + OWN_LEN * worker.slot as u64;
        let mut at = own;
        if let Some(fd) = worker.last_file {
            let scratch = self.stage.scratch();
            let read = [fd, scratch, STAMP_LEN as u64, PAGE, 0, 0];
            self.main(worker.process, sys::__NR_pread64, read).expect("pread");
            at = 0;
        }
        for (n, place) in bytes[..STAMP_LEN].chunks_mut(8).enumerate() {
            place.copy_from_slice(&self.stage.get(at + 8 * n as u64).to_ne_bytes());
        }
        Content::of_bytes(&bytes)
    }

    /// Write to memory of a process whatever its protection is.
    pub(crate) fn poke(&self, process: usize, addr: Addr, bytes: &[u8]) {
        let scratch = self.stage.scratch();
        self.stage.put(0, b"/proc/self/mem\0\0");
        let open = [sys::AT_FDCWD as i64 as u64, scratch, 2, 0, 0, 0];
        let fd = self.main(process, sys::__NR_openat, open).expect("/proc/self/mem");
        self.stage.put(0, bytes);
        let args = [fd, scratch, bytes.len() as u64, addr.raw(), 0, 0];
        self.main(process, sys::__NR_pwrite64, args).expect("pwrite");
        self.main(process, sys::__NR_close, [fd, 0, 0, 0, 0, 0]).expect("close");
    }
}

/// The arguments of `mmap` for a piece, with the descriptors of the memory files.
pub(crate) fn mmap_args(piece: &Piece, files: &BTreeMap<u8, u64>, reserve: bool) -> [u64; 6] {
    let (at, len) = (BASE.raw() + piece.at * PAGE, piece.pages * PAGE);
    let (flags, fd) = match piece.kind {
        Kind::Anon => (PRIVATE | ANONYMOUS, u64::MAX),
        Kind::Shmem | Kind::Huge => (SHARED, files[&piece.file]),
        Kind::ShmemPrivate | Kind::HugePrivate => (PRIVATE, files[&piece.file]),
    };
    let flags = if reserve { flags | FIXED } else { flags | FIXED | NORESERVE };
    [at, len, piece.prot.bits(), flags, fd, piece.offset * PAGE]
}

/// An operation that is one system call with arguments known before.
pub(crate) fn system_call(
    op: Op,
    files: &BTreeMap<u8, u64>,
    reserve: bool,
) -> Option<(u32, [u64; 6])> {
    let place = |offset: u64| BASE.raw().wrapping_add(offset);
    let advise = |at, len, advice: u64| (sys::__NR_madvise, [place(at), len, advice, 0, 0, 0]);
    Some(match op {
        Op::Populate { at, len, write } => advise(at, len, if write { 23 } else { 22 }),
        Op::DontNeed { at, len } => advise(at, len, 4),
        Op::Advise { at, len, advice } => advise(at, len, advice as u64),
        Op::Map { at, len, prot, fill } => {
            let how = match fill {
                Fill::Later => 0,
                Fill::Populated => POPULATE,
                Fill::Locked => LOCKED,
            };
            let flags = PRIVATE | ANONYMOUS | FIXED | how;
            (sys::__NR_mmap, [place(at), len, prot.bits(), flags, u64::MAX, 0])
        }
        Op::MapFile { piece } => (sys::__NR_mmap, mmap_args(&piece, files, reserve)),
        Op::Unmap { at, len } => (sys::__NR_munmap, [place(at), len, 0, 0, 0, 0]),
        Op::Protect { at, len, prot } => {
            (sys::__NR_mprotect, [place(at), len, prot.bits(), 0, 0, 0])
        }
        Op::Remap { at, len, new_len, to, flags } => {
            let to = to.map_or(0, place);
            (sys::__NR_mremap, [place(at), len, new_len, flags.bits(), to, 0])
        }
        Op::Lock { at, len, on_fault: false } => (sys::__NR_mlock, [place(at), len, 0, 0, 0, 0]),
        // `MLOCK_ONFAULT`.
        Op::Lock { at, len, on_fault: true } => (sys::__NR_mlock2, [place(at), len, 1, 0, 0, 0]),
        Op::Seal { at, len } => (sys::__NR_mseal, [place(at), len, 0, 0, 0, 0]),
        Op::Truncate { file, len } => (sys::__NR_ftruncate, [files[&file], len, 0, 0, 0, 0]),
        // `FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE`.
        Op::Punch { file, at, len } => (sys::__NR_fallocate, [files[&file], 3, at, len, 0, 0]),
        _ => return None,
    })
}

pub(crate) fn words(content: Content) -> [u64; 2] {
    let stamp = content.stamp();
    let (words, _) = stamp.as_chunks::<8>();
    [u64::from_ne_bytes(words[0]), u64::from_ne_bytes(words[1])]
}
