//! A stretch of address space to take apart: pages of it are unmapped, mapped again and
//! protected while threads use them. Owns that address range for its life; owns no
//! registration.

use core::ffi::c_void;
use core::sync::atomic::{AtomicU64, Ordering};

use bitflags::bitflags;
use rustix::fs::MemfdFlags;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};

use super::{Advice, errno, pagemap};
use crate::{Addr, Errno, Len, PageSize, Span};

/// Where arenas lie: far below the place from which the kernel hands out addresses, so
/// that nothing else ever moves into a hole of one.
static NEXT: AtomicU64 = AtomicU64::new(0x1000_0000_0000);

/// How far apart arenas lie, and so the most bytes in one, less a gap.
const STRIDE: u64 = 1 << 26;

bitflags! {
    /// What accesses a mapping allows, with the values of `PROT_*`.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct Protection: u32 {
        /// Loads.
        const READ = 1;
        /// Stores.
        const WRITE = 2;
        /// Execution.
        const EXEC = 4;
    }
}

/// Private anonymous memory in 4 KiB pages whose mappings a test changes as it likes.
///
/// As with [`Mapping`](super::Mapping), nothing ever holds a reference into it. A load or
/// a store where nothing is mapped, or where the protection forbids it, kills the process
/// with `SIGSEGV`; [`touch`](Arena::touch) answers `EFAULT` there instead.
#[derive(Debug)]
pub struct Arena {
    base: u64,
    len: u64,
}

impl Arena {
    /// `pages` pages, mapped for reading and writing as one VMA with room around it.
    ///
    /// # Panics
    ///
    /// If there are none or more than fit between two arenas (about 16,000).
    pub fn new(pages: u64) -> Result<Arena, Errno> {
        let len = Len::pages(pages, PageSize::KIB4).map_or(u64::MAX, Len::bytes);
        assert!(0 < len && len <= STRIDE / 2, "an arena of {pages} pages");
        loop {
            let arena = Arena { base: NEXT.fetch_add(STRIDE, Ordering::Relaxed), len };
            // Not replacing: if something is there after all, look further.
            match arena.mmap(0, len, Protection::READ | Protection::WRITE, false) {
                Ok(()) => return Ok(arena),
                Err(e) => {
                    // What is mapped there is not this arena's to unmap.
                    core::mem::forget(arena);
                    if e != Errno::EEXIST {
                        return Err(e);
                    }
                }
            }
        }
    }

    /// The address of the first byte.
    pub fn addr(&self) -> Addr {
        Addr::new(self.base)
    }

    /// The whole range, mapped or not.
    pub fn span(&self) -> Span {
        Span::new(self.addr(), Len::new(self.len))
    }

    /// Load the eight bytes at `offset`, in the machine's order. Kills the process where
    /// that is not allowed.
    ///
    /// # Panics
    ///
    /// If they are outside or `offset` is no multiple of 8.
    pub fn read_word(&self, offset: u64) -> u64 {
        // SAFETY: `word` checked bounds and alignment; nothing holds a reference to this
        // memory, and where nothing is mapped the access traps.
        unsafe { AtomicU64::from_ptr(self.word(offset)) }.load(Ordering::Acquire)
    }

    /// Store eight bytes at `offset`, in the machine's order. Kills the process where
    /// that is not allowed.
    ///
    /// # Panics
    ///
    /// If they are outside or `offset` is no multiple of 8.
    pub fn write_word(&self, offset: u64, value: u64) {
        // SAFETY: as in `read_word`.
        unsafe { AtomicU64::from_ptr(self.word(offset)) }.store(value, Ordering::Release);
    }

    /// Let the kernel read the four bytes at `offset`, or overwrite them with zeros, on
    /// behalf of a system call: it faults and sleeps as a load or a store does, but where
    /// such an access would raise `SIGSEGV` the answer is `EFAULT`.
    ///
    /// # Panics
    ///
    /// If they are outside.
    pub fn touch(&self, offset: u64, write: bool) -> Result<(), Errno> {
        let file =
            rustix::fs::memfd_create("faultbed-touch", MemfdFlags::CLOEXEC).map_err(errno)?;
        let at = self.at(offset, 4);
        if write {
            // SAFETY: `Touch` describes this ioctl; nothing holds a reference to the memory.
            unsafe { rustix::ioctl::ioctl(&file, Touch::<FIONREAD>(at)) }
        } else {
            // SAFETY: as above.
            unsafe { rustix::ioctl::ioctl(&file, Touch::<FIONBIO>(at)) }
        }
        .map_err(errno)
    }

    /// `mmap(2)` with `MAP_FIXED`: fresh private anonymous memory over `len` bytes from
    /// `offset`.
    ///
    /// # Panics
    ///
    /// If they are not all inside.
    pub fn map(&self, offset: u64, len: u64, prot: Protection) -> Result<(), Errno> {
        self.mmap(offset, len, prot, true)
    }

    /// `munmap(2)` over `len` bytes from `offset`.
    ///
    /// # Panics
    ///
    /// If they, rounded up to whole pages, are not all inside.
    pub fn unmap(&self, offset: u64, len: u64) -> Result<(), Errno> {
        let at = self.at(offset, len.next_multiple_of(PageSize::KIB4.bytes()));
        // SAFETY: the range is inside this arena, to which nothing holds a reference.
        unsafe { rustix::mm::munmap(at, len as usize) }.map_err(errno)
    }

    /// `mprotect(2)` over `len` bytes from `offset`.
    ///
    /// # Panics
    ///
    /// If they, rounded up to whole pages, are not all inside.
    pub fn protect(&self, offset: u64, len: u64, prot: Protection) -> Result<(), Errno> {
        let at = self.at(offset, len.next_multiple_of(PageSize::KIB4.bytes()));
        let prot = MprotectFlags::from_bits_retain(prot.bits());
        // SAFETY: as in `unmap`.
        unsafe { rustix::mm::mprotect(at, len as usize, prot) }.map_err(errno)
    }

    /// `madvise(2)` over `len` bytes from `offset`; nothing is retried.
    ///
    /// # Panics
    ///
    /// If they, rounded up to whole pages, are not all inside.
    pub fn madvise(&self, offset: u64, len: u64, advice: Advice) -> Result<(), Errno> {
        let at = self.at(offset, len.next_multiple_of(PageSize::KIB4.bytes()));
        // SAFETY: as in `unmap`.
        unsafe { rustix::mm::madvise(at, len as usize, advice.raw()) }.map_err(errno)
    }

    /// What the page table says of the page that holds `offset`. Causes no fault.
    ///
    /// # Panics
    ///
    /// If it is outside.
    pub fn page_entry(&self, offset: u64) -> Result<pagemap::PageEntry, Errno> {
        self.at(offset, 1);
        let file = std::fs::File::open("/proc/self/pagemap").map_err(|e| super::io_errno(&e))?;
        let entries = pagemap::entries(&file, Addr::new(self.base + offset), 1)?;
        entries.first().copied().ok_or(Errno::EIO)
    }

    fn mmap(&self, offset: u64, len: u64, prot: Protection, replace: bool) -> Result<(), Errno> {
        let at = self.at(offset, len);
        let place = if replace { MapFlags::FIXED } else { MapFlags::FIXED_NOREPLACE };
        let prot = ProtFlags::from_bits_retain(prot.bits());
        // SAFETY: what is replaced is inside this arena, to which nothing holds a
        // reference.
        let got = unsafe {
            rustix::mm::mmap_anonymous(at, len as usize, prot, MapFlags::PRIVATE | place)
        };
        let got = got.map_err(errno)?;
        assert_eq!(got, at, "MAP_FIXED puts a mapping where it is told to");
        Ok(())
    }

    fn at(&self, offset: u64, len: u64) -> *mut c_void {
        assert!(
            offset.checked_add(len).is_some_and(|end| end <= self.len),
            "{len:#x} bytes at {offset:#x} are not inside an arena of {:#x}",
            self.len
        );
        core::ptr::with_exposed_provenance_mut((self.base + offset) as usize)
    }

    fn word(&self, offset: u64) -> *mut u64 {
        assert!(offset.is_multiple_of(8), "a word lies at a multiple of 8, not at {offset:#x}");
        self.at(offset, 8).cast()
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: the whole range is this arena's: nothing else moves into its holes.
        let answer = unsafe { rustix::mm::munmap(self.at(0, self.len), self.len as usize) };
        debug_assert!(answer.is_ok(), "munmap: {answer:?}");
    }
}

/// Reads an `int` at the pointer, and makes the file non-blocking or not.
const FIONBIO: Opcode = 0x5421;
/// Writes an `int` at the pointer: how much of the file is left, here 0.
const FIONREAD: Opcode = 0x541b;

/// One of the two, at this address.
struct Touch<const OPCODE: Opcode>(*mut c_void);

// SAFETY: both ioctls access the four bytes at the pointer, which the kernel checks, and
// `Arena::at` has found inside the arena.
unsafe impl<const OPCODE: Opcode> Ioctl for Touch<OPCODE> {
    type Output = ();

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        OPCODE
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.0
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}
