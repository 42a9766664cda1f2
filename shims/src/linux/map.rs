//! Memory to point a userfaultfd at. Owns mappings and the only accesses to them:
//! atomic loads and stores, and `madvise`.

use core::ffi::c_void;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::MemfdFlags;
use rustix::mm::{MapFlags, ProtFlags};

use super::{PageEntry, errno, pagemap};
use crate::{Addr, Errno, Len, PageRange, PageSize, Span};

/// A mapping of this process, unmapped when dropped.
///
/// Nothing ever holds a reference into it. Every access is one atomic load or store, made
/// from any thread; it sleeps in the kernel until a fault is resolved. Accesses of
/// different widths to the same place may race: what is read then is some mixture of the
/// bytes, as the processor gives it.
///
/// An access to a poisoned page, or beyond the end of a memory file, kills the process
/// with `SIGBUS`; [`Advice::PopulateRead`] answers such a page with an error instead.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len: u64,
    page: PageSize,
    memfd: Option<Arc<OwnedFd>>,
}

// SAFETY: the mapping belongs to no thread; all access is atomic or by system call.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

/// Advice of `madvise(2)` that a fault handler meets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Advice {
    /// Drop the pages: a `REMOVE` event (rule d1). Sleeps until the event is read.
    DontNeed,
    /// The same, for locked pages too.
    DontNeedLocked,
    /// Drop the pages when memory is short: a `REMOVE` event as well.
    Free,
    /// Punch a hole into the file: a `REMOVE` event as well.
    Remove,
    /// Fault each page in for reading. Answers `EFAULT` where an access would be `SIGBUS`
    /// and `EHWPOISON` on a poisoned page (rule c12).
    PopulateRead,
    /// Fault each page in for writing.
    PopulateWrite,
    /// Let transparent huge pages back this memory.
    HugePage,
    /// Do not.
    NoHugePage,
    /// Do not copy this memory to a forked child.
    DontFork,
}

impl Advice {
    /// The same advice in rustix's terms.
    pub(super) fn raw(self) -> rustix::mm::Advice {
        use rustix::mm::Advice as Raw;
        match self {
            Advice::DontNeed => Raw::LinuxDontNeed,
            Advice::DontNeedLocked => Raw::LinuxDontneedLocked,
            Advice::Free => Raw::LinuxFree,
            Advice::Remove => Raw::LinuxRemove,
            Advice::PopulateRead => Raw::LinuxPopulateRead,
            Advice::PopulateWrite => Raw::LinuxPopulateWrite,
            Advice::HugePage => Raw::LinuxHugepage,
            Advice::NoHugePage => Raw::LinuxNoHugepage,
            Advice::DontFork => Raw::LinuxDontFork,
        }
    }
}

impl Mapping {
    /// `len` bytes of private anonymous memory in 4 KiB pages, without transparent huge
    /// pages.
    pub fn anonymous(len: Len) -> Result<Mapping, Errno> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        let map = Mapping::map(len, PageSize::KIB4, flags, None)?;
        match map.madvise(0, map.len, Advice::NoHugePage) {
            // A kernel without transparent huge pages has none to turn off.
            Ok(()) | Err(Errno::EINVAL) => Ok(map),
            Err(e) => Err(e),
        }
    }

    /// `len` bytes of private anonymous memory in 2 MiB pages of the pool (see
    /// [`hugepages`](super::hugepages)). `ENOMEM` if the pool is too small.
    pub fn hugetlb(len: Len) -> Result<Mapping, Errno> {
        let flags = MapFlags::PRIVATE | MapFlags::HUGETLB | MapFlags::HUGE_2MB;
        Mapping::map(len, PageSize::MIB2, flags, None)
    }

    /// `len` bytes of shared memory in 4 KiB pages, backed by a memory file.
    pub fn memfd(len: Len) -> Result<Mapping, Errno> {
        let fd = rustix::fs::memfd_create("faultbed", MemfdFlags::CLOEXEC).map_err(errno)?;
        rustix::fs::ftruncate(&fd, len.bytes()).map_err(errno)?;
        Mapping::map(len, PageSize::KIB4, MapFlags::SHARED, Some(Arc::new(fd)))
    }

    /// `len` bytes of the memory file `file`, which has pages of `page` bytes: shared, or private
    /// and promised no pages.
    pub fn of_file(
        file: Arc<OwnedFd>,
        len: Len,
        page: PageSize,
        shared: bool,
    ) -> Result<Mapping, Errno> {
        let private = MapFlags::PRIVATE | MapFlags::NORESERVE;
        let flags = if shared { MapFlags::SHARED } else { private };
        Mapping::map(len, page, flags, Some(file))
    }

    /// A second mapping of the same memory file, at another address.
    ///
    /// # Panics
    ///
    /// If this mapping has no memory file.
    pub fn alias(&self) -> Result<Mapping, Errno> {
        let memfd = self.memfd.clone().expect("only a mapping of a memory file has aliases");
        Mapping::map(Len::new(self.len), self.page, MapFlags::SHARED, Some(memfd))
    }

    fn map(
        len: Len,
        page: PageSize,
        flags: MapFlags,
        memfd: Option<Arc<OwnedFd>>,
    ) -> Result<Mapping, Errno> {
        let bytes = usize::try_from(len.bytes()).map_err(|_| Errno::ENOMEM)?;
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        let at = core::ptr::null_mut();
        // SAFETY: the kernel chooses an address where nothing is mapped.
        let base = unsafe {
            match &memfd {
                Some(fd) => rustix::mm::mmap(at, bytes, prot, flags, fd.as_fd(), 0),
                None => rustix::mm::mmap_anonymous(at, bytes, prot, flags),
            }
        }
        .map_err(errno)?;
        let base = NonNull::new(base.cast()).expect("the kernel never maps at address 0 unasked");
        Ok(Mapping { base, len: len.bytes(), page, memfd })
    }

    /// The address of the first byte.
    pub fn addr(&self) -> Addr {
        Addr::new(self.base.as_ptr().expose_provenance() as u64)
    }

    /// The length in bytes.
    pub fn len(&self) -> Len {
        Len::new(self.len)
    }

    /// Never: the kernel maps no empty range.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The size of its pages.
    pub fn page_size(&self) -> PageSize {
        self.page
    }

    /// The whole mapping, as arguments of an ioctl.
    pub fn span(&self) -> Span {
        Span::new(self.addr(), self.len())
    }

    /// The whole mapping in its pages.
    ///
    /// # Panics
    ///
    /// If its length is not a whole number of pages.
    pub fn page_range(&self) -> PageRange {
        PageRange::new(self.addr(), self.len(), self.page)
            .expect("a mapping is made of whole pages")
    }

    /// `len` bytes from `offset`, as arguments of an ioctl.
    ///
    /// # Panics
    ///
    /// If they are not all inside.
    pub fn part(&self, offset: u64, len: u64) -> Span {
        self.check(offset, len);
        Span::new(Addr::new(self.addr().raw() + offset), Len::new(len))
    }

    /// `count` pages from page number `first`, as arguments of an ioctl.
    ///
    /// # Panics
    ///
    /// If they are not all inside.
    pub fn pages(&self, first: u64, count: u64) -> Span {
        self.part(first * self.page.bytes(), count * self.page.bytes())
    }

    /// Load the byte at `offset`.
    ///
    /// # Panics
    ///
    /// If it is outside.
    pub fn read_byte(&self, offset: u64) -> u8 {
        // SAFETY: `at` checked the bounds; nothing holds a reference to this memory.
        unsafe { AtomicU8::from_ptr(self.at(offset, 1)) }.load(Ordering::Acquire)
    }

    /// Store the byte at `offset`.
    ///
    /// # Panics
    ///
    /// If it is outside.
    pub fn write_byte(&self, offset: u64, value: u8) {
        // SAFETY: as in `read_byte`.
        unsafe { AtomicU8::from_ptr(self.at(offset, 1)) }.store(value, Ordering::Release);
    }

    /// Load the eight bytes at `offset`, in the machine's order.
    ///
    /// # Panics
    ///
    /// If they are outside or `offset` is no multiple of 8.
    pub fn read_word(&self, offset: u64) -> u64 {
        // SAFETY: as in `read_byte`; the alignment is checked as well.
        unsafe { AtomicU64::from_ptr(self.word(offset)) }.load(Ordering::Acquire)
    }

    /// Store eight bytes at `offset`, in the machine's order.
    ///
    /// # Panics
    ///
    /// If they are outside or `offset` is no multiple of 8.
    pub fn write_word(&self, offset: u64, value: u64) {
        // SAFETY: as in `read_word`.
        unsafe { AtomicU64::from_ptr(self.word(offset)) }.store(value, Ordering::Release);
    }

    /// Copy the bytes from `offset` into `out`, word by word. Each word is read at once;
    /// between two words anything may happen.
    ///
    /// # Panics
    ///
    /// If they are outside, or if `offset` or the length is no multiple of 8.
    pub fn read_into(&self, offset: u64, out: &mut [u8]) {
        self.check(offset, out.len() as u64);
        let (words, rest) = out.as_chunks_mut::<8>();
        assert!(rest.is_empty(), "whole words only");
        for (index, word) in words.iter_mut().enumerate() {
            *word = self.read_word(offset + 8 * index as u64).to_ne_bytes();
        }
    }

    /// `madvise(2)` over `len` bytes from `offset`. Retries the `EAGAIN` of the population
    /// and nothing else.
    ///
    /// # Panics
    ///
    /// If they are not all inside.
    pub fn madvise(&self, offset: u64, len: u64, advice: Advice) -> Result<(), Errno> {
        self.check(offset, len);
        let raw = advice.raw();
        let populates = matches!(advice, Advice::PopulateRead | Advice::PopulateWrite);
        let start = self.base.as_ptr().wrapping_add(offset as usize).cast::<c_void>();
        loop {
            // SAFETY: the range is inside this mapping, to which nothing holds a
            // reference; dropping or filling its pages changes values, not validity.
            match unsafe { rustix::mm::madvise(start, len as usize, raw) } {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) if populates => {}
                Err(e) => return Err(errno(e)),
            }
        }
    }

    /// Fault `len` bytes from `offset` in for reading: [`Advice::PopulateRead`].
    pub fn populate_read(&self, offset: u64, len: u64) -> Result<(), Errno> {
        self.madvise(offset, len, Advice::PopulateRead)
    }

    /// Fault `len` bytes from `offset` in for writing: [`Advice::PopulateWrite`].
    pub fn populate_write(&self, offset: u64, len: u64) -> Result<(), Errno> {
        self.madvise(offset, len, Advice::PopulateWrite)
    }

    /// Drop `len` bytes from `offset`: [`Advice::DontNeed`].
    pub fn dontneed(&self, offset: u64, len: u64) -> Result<(), Errno> {
        self.madvise(offset, len, Advice::DontNeed)
    }

    /// What the page table says of the page that holds `offset`. Causes no fault.
    ///
    /// # Panics
    ///
    /// If it is outside.
    pub fn page_entry(&self, offset: u64) -> Result<PageEntry, Errno> {
        Ok(self.page_entries(offset, 1)?[0])
    }

    /// What the page table says of `count` base pages of 4 KiB from the one that holds
    /// `offset`. Causes no fault.
    ///
    /// # Panics
    ///
    /// If they are not all inside.
    pub fn page_entries(&self, offset: u64, count: u64) -> Result<Vec<PageEntry>, Errno> {
        let base = PageSize::KIB4.bytes();
        let first = offset / base * base;
        self.check(first, count * base);
        let file = File::open("/proc/self/pagemap").map_err(|e| super::io_errno(&e))?;
        pagemap::entries(&file, Addr::new(self.addr().raw() + first), count as usize)
    }

    fn check(&self, offset: u64, len: u64) {
        assert!(
            offset.checked_add(len).is_some_and(|end| end <= self.len),
            "{len:#x} bytes at {offset:#x} are not inside a mapping of {:#x}",
            self.len
        );
    }

    fn at(&self, offset: u64, len: u64) -> *mut u8 {
        self.check(offset, len);
        self.base.as_ptr().wrapping_add(offset as usize)
    }

    fn word(&self, offset: u64) -> *mut u64 {
        assert!(offset.is_multiple_of(8), "a word lies at a multiple of 8, not at {offset:#x}");
        self.at(offset, 8).cast()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is the mapping's whole range, and nothing holds a pointer into it.
        let answer = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len as usize) };
        // Only a length that is no multiple of a huge page could fail, and the kernel
        // would not have mapped that.
        debug_assert!(answer.is_ok(), "munmap: {answer:?}");
    }
}
