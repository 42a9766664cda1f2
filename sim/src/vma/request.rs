//! The arguments of `mmap`, as a value. Owns how a request is spelled; `map.rs` judges it.

use bitflags::bitflags;
use shims::PageSize;

use super::{FileId, Prot};

bitflags! {
    /// The flags of `mmap`, with the values of x86-64. The low four bits are one number, the
    /// type of the mapping; an unknown one is `EINVAL`.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
    pub struct MapFlags: u64 {
        /// Writes reach the file and other mappings of it.
        const SHARED = 0x1;
        /// Writes are this mapping's own.
        const PRIVATE = 0x2;
        /// At this address and nowhere else, replacing what is there.
        const FIXED = 0x10;
        /// No file.
        const ANONYMOUS = 0x20;
        /// A stack.
        const GROWSDOWN = 0x100;
        /// Lock the pages.
        const LOCKED = 0x2000;
        /// Do not charge the commit limit.
        const NORESERVE = 0x4000;
        /// Fault the pages in: private writable memory gets its anon_vma.
        const POPULATE = 0x8000;
        /// Huge pages of hugetlb.
        const HUGETLB = 0x4_0000;
        /// Like `FIXED`, but never replace.
        const FIXED_NOREPLACE = 0x10_0000;
        const _ = !0;
    }
}

impl MapFlags {
    /// The type `MAP_SHARED_VALIDATE`: shared, and unknown flags are refused.
    pub const SHARED_VALIDATE: MapFlags = MapFlags::SHARED.union(MapFlags::PRIVATE);
    /// The type `MAP_DROPPABLE`: private, and the kernel may drop the pages.
    pub const DROPPABLE: MapFlags = MapFlags::from_bits_retain(0x8);
    /// The bits of the type.
    pub(super) const TYPE: u64 = 0xf;

    pub(super) fn kind(self) -> u64 {
        self.bits() & MapFlags::TYPE
    }
}

/// What kind of file is mapped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FileKind {
    /// tmpfs or a memfd.
    Shmem,
    /// hugetlbfs, or a memfd with huge pages of this size.
    Hugetlb(PageSize),
    /// A regular file.
    Regular,
}

/// An open file, as far as mapping it goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MapFile {
    /// Which open file.
    pub id: FileId,
    /// What kind.
    pub kind: FileKind,
    /// Open for reading?
    pub readable: bool,
    /// Open for writing?
    pub writable: bool,
    /// Append-only?
    pub append_only: bool,
    /// On a mount without execution?
    pub noexec: bool,
}

impl MapFile {
    /// A file of that kind, open for reading and writing.
    pub const fn rw(id: FileId, kind: FileKind) -> MapFile {
        MapFile { id, kind, readable: true, writable: true, append_only: false, noexec: false }
    }

    /// The same file, open for reading only.
    pub const fn read_only(self) -> MapFile {
        MapFile { writable: false, ..self }
    }
}

/// A call of `mmap`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Mmap {
    /// The address asked for, in bytes; 0 is none.
    pub addr: u64,
    /// Bytes; rounded up to pages.
    pub len: u64,
    /// Access.
    pub prot: Prot,
    /// How.
    pub flags: MapFlags,
    /// The file, unless `ANONYMOUS`.
    pub file: Option<MapFile>,
    /// Offset in the file, bytes.
    pub offset: u64,
}

impl Mmap {
    /// Private anonymous memory wherever the kernel puts it.
    pub const fn anon(len: u64, prot: Prot) -> Mmap {
        let flags = MapFlags::PRIVATE.union(MapFlags::ANONYMOUS);
        Mmap { addr: 0, len, prot, flags, file: None, offset: 0 }
    }

    /// Private anonymous memory at `addr`, replacing what is there.
    pub const fn fixed(addr: u64, len: u64, prot: Prot) -> Mmap {
        Mmap::anon(len, prot).at(addr)
    }

    /// A mapping of `file` from byte `offset` on, wherever the kernel puts it.
    pub const fn file(file: MapFile, offset: u64, len: u64, prot: Prot, flags: MapFlags) -> Mmap {
        Mmap { addr: 0, len, prot, flags, file: Some(file), offset }
    }

    /// The same request at `addr` with `MAP_FIXED`.
    pub const fn at(self, addr: u64) -> Mmap {
        Mmap { addr, flags: self.flags.union(MapFlags::FIXED), ..self }
    }

    /// The same request with a hint.
    pub const fn hint(self, addr: u64) -> Mmap {
        Mmap { addr, ..self }
    }

    /// The same request with more flags.
    pub const fn with(self, flags: MapFlags) -> Mmap {
        Mmap { flags: self.flags.union(flags), ..self }
    }

    /// The same request with `MAP_SHARED` in place of `MAP_PRIVATE`.
    pub const fn shared(self) -> Mmap {
        let flags = MapFlags::from_bits_retain(self.flags.bits() & !MapFlags::TYPE);
        Mmap { flags: flags.union(MapFlags::SHARED), ..self }
    }
}
