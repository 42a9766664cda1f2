//! The simulator's side of a comparison: an address space with nothing but the arena. Owns
//! how an [`Op`] is done there.

use std::ops::Range;

use shims::linux::vma_probe::{FOLLOWER, Limit, ProbeFile, UFFDS};
use shims::{Addr, Errno, Len, PageSize, RegisterModes, Span};
use sim::vma::{
    AddressSpace, Backing, CtxId, FileId, FileKind, Limits, LockAll, MapFile, MapFlags, Mmap,
    Mremap, PolicyId, Prot, RemapFlags, Rules, Vma, VmaFlags,
};

use super::op::{Map, Op, Source};
use super::support::Rights;

/// Where the arena starts: far below everything the loader and the kernel place.
pub const ARENA_START: u64 = 0x2000_0000_0000;
/// How many pages it has. Calls use the middle, a stack's guard gap away from the ends.
pub const ARENA_PAGES: u64 = 8192;

/// Data that any process has outside the arena. `brk` holds the length of the heap against
/// `RLIMIT_DATA`, not the data there is, so that this limit is about the heap only in a process
/// that has nothing else.
const BALLAST: u64 = ARENA_START + ((2 * ARENA_PAGES) << 12);
/// As much as a heap can grow to here, and more.
const BALLAST_LEN: u64 = ARENA_PAGES << 12;

/// Which descriptor protects asynchronously.
const ASYNC: usize = 2;

/// The arena's range of addresses.
pub(super) fn arena() -> Range<u64> {
    ARENA_START..ARENA_START + (ARENA_PAGES << 12)
}

/// The address of a page of the arena.
pub(super) fn address(page: u64) -> u64 {
    ARENA_START + (page << 12)
}

/// The simulated process.
#[derive(Clone)]
pub struct Model {
    space: AddressSpace,
    /// Which context each descriptor stands for, and whether it is closed.
    ctxs: [Option<CtxId>; UFFDS],
    next_ctx: u32,
    /// The contexts that follow moves and forks.
    followers: Vec<CtxId>,
    /// Locked memory was left behind by `DONTUNMAP`: 6.18 loses count of it (docs/kernel/vma.md),
    /// so that from now on limits of locked memory bite elsewhere.
    lost_count: bool,
    rights: Rights,
}

impl Model {
    /// A process with an empty arena, on the kernel this layer is compared with.
    pub fn new() -> Model {
        let rights = Rights::own();
        let limits = Limits {
            rlimit_stack: 8 << 20,
            rlimit_memlock: rights.memlock,
            may_lock_any: rights.lock_any,
            ..Limits::default()
        };
        let mut space = AddressSpace::with_limits(Rules::LINUX_6_18, limits);
        space.mmap(&Mmap::fixed(BALLAST, BALLAST_LEN, Prot::RW)).expect("there is nothing yet");
        let mut model = Model {
            space,
            ctxs: [None; UFFDS],
            next_ctx: 0,
            followers: Vec::new(),
            lost_count: false,
            rights,
        };
        model.open_ctxs();
        model
    }

    fn open_ctxs(&mut self) {
        self.ctxs = core::array::from_fn(|fd| Some(CtxId(self.next_ctx + fd as u32)));
        self.next_ctx += UFFDS as u32;
        self.followers.extend(self.ctxs[FOLLOWER]);
    }

    /// What is mapped, as a layout, without what only the model has.
    pub fn layout(&self) -> String {
        let all = self.space.to_string();
        let ballast = format!("[{:#x},", BALLAST >> 12);
        let parts: Vec<_> = all.split(' ').filter(|part| !part.starts_with(&ballast)).collect();
        parts.join(" ")
    }

    /// Its mappings.
    pub fn space(&self) -> &AddressSpace {
        &self.space
    }

    /// Can the kernel do this without waiting for anybody, and does the model claim to know
    /// the outcome? Faulting in memory that is watched, has guard pages or lies beyond the
    /// end of its file fails, half-way through a call that would otherwise do everything.
    pub fn admits(&self, op: &Op) -> bool {
        match *op {
            Op::Lock(at, len, _) => !self.vmas(at, len).any(may_fail_to_fault),
            Op::Register(FOLLOWER, ..) | Op::Unregister(FOLLOWER, ..) if !self.rights.follow => {
                false
            }
            Op::Register(fd, ..) | Op::Unregister(fd, ..) => self.ctxs[fd].is_some(),
            // Its reader keeps it open.
            Op::Close(fd) => fd != FOLLOWER && self.ctxs[fd].is_some(),
            Op::Touch(at) => {
                let vma = self.space.find_next(Addr::new(address(at)));
                !vma.is_some_and(|vma| vma.flags().contains(VmaFlags::HUGETLB))
            }
            Op::Brk(_) => self.space.heap().start != 0,
            Op::Limit(Limit::Lock, _) => !self.lost_count,
            Op::Remap { .. } if self.loses_count(op) => self.space.limits().may_lock_any,
            _ => true,
        }
    }

    fn loses_count(&self, op: &Op) -> bool {
        let Op::Remap { old, old_len, flags, .. } = *op else { return false };
        let locked = |vma: &Vma| vma.flags().contains(VmaFlags::LOCKED);
        flags.contains(RemapFlags::DONTUNMAP) && self.vmas(old, old_len).any(locked)
    }

    /// Does the result depend on the pages, which this comparison does not model? A write
    /// into memory that is watched, or has guard pages, may fail; its effect on the VMAs is
    /// the same.
    pub fn depends_on_pages(&self, op: &Op) -> bool {
        match *op {
            Op::Touch(at) => {
                self.space.find_next(Addr::new(address(at))).is_some_and(may_fail_to_fault)
            }
            _ => false,
        }
    }

    fn vmas(&self, at: u64, len: u64) -> impl Iterator<Item = &Vma> {
        let end = address(at + len);
        self.space.iter_from(Addr::new(address(at))).take_while(move |vma| vma.start().raw() < end)
    }

    /// Do `op` and tell what the system call returns.
    pub fn apply(&mut self, op: &Op) -> Result<u64, Errno> {
        self.lost_count |= self.loses_count(op);
        let bytes = |pages: u64| pages << 12;
        let span = |at: u64, len: u64| Span::new(Addr::new(address(at)), Len::new(bytes(len)));
        let space = &mut self.space;
        match *op {
            Op::Map(map) => {
                let mapped = space.mmap(&mmap_of(&map));
                mapped.map(|mapped| mapped.addr.raw()).map_err(|refused| refused.errno)
            }
            Op::Unmap(at, len) => {
                let removed = space.munmap(address(at), bytes(len));
                removed.map(|_| 0).map_err(|refused| refused.errno)
            }
            Op::Protect(at, len, prot) => space.mprotect(address(at), bytes(len), prot).map(|()| 0),
            Op::Advise(at, len, advice) => {
                space.madvise(address(at), bytes(len), advice).map(|()| 0)
            }
            Op::Remap { old, old_len, new_len, flags, new } => {
                let request = Mremap {
                    old: address(old),
                    old_len: bytes(old_len),
                    new_len: bytes(new_len),
                    flags,
                    new: match op.call() {
                        shims::linux::vma_probe::Call::Mremap { new, .. } => new,
                        _ => address(new),
                    },
                };
                space.mremap(&request, |ctx| self.followers.contains(&ctx)).result.map(Addr::raw)
            }
            Op::Lock(at, len, on_fault) => {
                space.mlock(address(at), bytes(len), on_fault).map(|()| 0)
            }
            Op::Unlock(at, len) => space.munlock(address(at), bytes(len)).map(|()| 0),
            Op::LockFuture(on_fault) => {
                let mut flags = LockAll::FUTURE;
                flags.set(LockAll::ONFAULT, on_fault);
                space.mlockall(flags).map(|()| 0)
            }
            Op::UnlockAll => {
                space.munlockall();
                Ok(0)
            }
            Op::Seal(at, len) => space.mseal(address(at), bytes(len)).map(|()| 0),
            Op::Bind(at, len, bind) => {
                space.mbind(address(at), bytes(len), PolicyId(u16::from(bind))).map(|()| 0)
            }
            Op::Touch(at) => self.touch(at),
            Op::Register(fd, at, len, modes) => {
                let ctx = self.ctxs[fd].expect("admitted");
                let modes = RegisterModes::from_bits_retain(modes);
                space.uffd_register(span(at, len), ctx, modes, fd == ASYNC).map(|()| 0)
            }
            Op::Unregister(fd, at, len) => {
                let ctx = self.ctxs[fd].expect("admitted");
                space.uffd_unregister(span(at, len), ctx).map(|_| 0)
            }
            Op::Close(fd) => {
                space.uffd_release(self.ctxs[fd].take().expect("admitted"));
                Ok(0)
            }
            Op::Fork => {
                // Each follower has a child, which is one as well.
                let (followers, first) = (self.followers.clone(), self.next_ctx);
                let place = |ctx| followers.iter().position(|follower| *follower == ctx);
                self.space = self.space.fork(|ctx| Some(CtxId(first + place(ctx)? as u32)));
                self.next_ctx += followers.len() as u32;
                self.followers.extend((first..self.next_ctx).map(CtxId));
                self.open_ctxs();
                Ok(0)
            }
            Op::Limit(limit, amount) => {
                let (total, data) = (space.total_pages(), space.data_pages());
                let count = space.map_count();
                let limits = space.limits_mut();
                match limit {
                    Limit::AddressSpace => limits.rlimit_as = bytes(total + amount),
                    Limit::Data => limits.rlimit_data = bytes(data + amount),
                    Limit::Lock => {
                        limits.may_lock_any = false;
                        limits.rlimit_memlock = bytes(amount);
                    }
                    Limit::Stack => limits.rlimit_stack = bytes(amount),
                    Limit::Count => limits.max_map_count = count + amount as usize,
                }
                Ok(0)
            }
            Op::Heap(at) => {
                space.set_heap(Addr::new(address(at)));
                Ok(address(at))
            }
            Op::Brk(to) => Ok(space.brk(address(to)).0.raw()),
        }
    }

    /// A write by the kernel on behalf of the program: one byte, or `EFAULT`.
    fn touch(&mut self, at: u64) -> Result<u64, Errno> {
        let addr = Addr::new(address(at));
        if self.space.expand_stack(addr).is_err() {
            return Err(Errno::EFAULT);
        }
        let vma = self.space.find(addr).expect("the stack reaches it now");
        let flags = vma.flags();
        if !flags.contains(VmaFlags::WRITE) {
            return Err(Errno::EFAULT);
        }
        self.space.note_anon_fault(addr);
        Ok(1)
    }
}

impl Default for Model {
    fn default() -> Model {
        Model::new()
    }
}

/// Is the memory watched, guarded, or possibly longer than its file?
fn may_fail_to_fault(vma: &Vma) -> bool {
    let pages = vma.span().len.bytes() >> 12;
    let end_of_file = match vma.backing() {
        Backing::Anon => u64::MAX,
        // The regular file has at least as many.
        Backing::Shmem(FileId(1..=3)) | Backing::File(_) => ProbeFile::FILE_PAGES,
        _ => 0,
    };
    vma.flags().intersects(VmaFlags::UFFD | VmaFlags::MAYBE_GUARD)
        || vma.pgoff() + pages > end_of_file
}

fn mmap_of(map: &Map) -> Mmap {
    let rw = |id| MapFile::rw(FileId(id), FileKind::Shmem);
    let (file, offset) = match map.source {
        Source::Anonymous => (None, 0),
        Source::File(file, page) => {
            let file = match file {
                ProbeFile::Memfd => rw(1),
                ProbeFile::MemfdAgain => rw(2),
                ProbeFile::MemfdReadOnly => rw(3).read_only(),
                ProbeFile::Regular => MapFile::rw(FileId(4), FileKind::Regular).read_only(),
                ProbeFile::Huge => MapFile::rw(FileId(5), FileKind::Hugetlb(PageSize::MIB2)),
            };
            (Some(file), page << 12)
        }
    };
    let flags = map.flags | if file.is_none() { MapFlags::ANONYMOUS } else { MapFlags::empty() };
    Mmap { addr: address(map.at), len: map.len << 12, prot: map.prot, flags, file, offset }
}
