//! One VMA: a range and everything the merge rules compare. Owns the layout of the record;
//! decides nothing.

use core::fmt;
use core::num::NonZeroU32;

use shims::{Addr, Len, PageSize, RegisterModes, Span};

use super::VmaFlags;

/// The size of a base page, in bits of an address.
pub(super) const PAGE_SHIFT: u32 = 12;
/// The size of a base page, in bytes.
pub(super) const PAGE: u64 = 1 << PAGE_SHIFT;

/// The identity of a userfaultfd context. Two VMAs of different contexts never merge.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CtxId(pub u32);

/// The identity of an open file, not of its inode: two opens of one file never merge
/// (v2.2, condition 3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FileId(pub u32);

/// A memory policy, compared by value; the default policy is 0 (v2.2, condition 1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct PolicyId(pub u16);

/// An anonymous name, interned by whoever names mappings; 0 is no name (v2.2, condition 5).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct NameId(pub u16);

/// The anon_vma of a VMA that has private pages (v2.3): its identity, and whether its chain
/// is longer than one, which is so in the child of a fork.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Anon {
    id: NonZeroU32,
}

impl Anon {
    const FORKED: u32 = 1 << 31;

    /// Identity `id`, from 1 on, with a chain of one.
    pub(super) fn own(id: u32) -> Anon {
        assert!(id < Anon::FORKED, "fewer than 2^31 anon_vmas per address space");
        Anon { id: NonZeroU32::new(id).expect("identities start at 1") }
    }

    /// Identity `id` with a longer chain.
    pub(super) fn forked(id: u32) -> Anon {
        Anon { id: Anon::own(id).id | Anon::FORKED }
    }

    /// The number that tells this anon_vma from the others of its address space.
    pub fn id(self) -> u32 {
        self.id.get() & !Anon::FORKED
    }

    /// Is its chain longer than one?
    pub fn is_forked(self) -> bool {
        self.id.get() & Anon::FORKED != 0
    }
}

impl fmt::Debug for Anon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "X{}{}", self.id(), if self.is_forked() { "*" } else { "" })
    }
}

/// Where the pages of a VMA come from. Whether it is shared or private is a flag.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Backing {
    /// Zero pages of its own.
    Anon,
    /// tmpfs, memfd, or `MAP_SHARED | MAP_ANONYMOUS`.
    Shmem(FileId),
    /// A hugetlb file with pages of this size.
    Hugetlb(FileId, PageSize),
    /// A regular file.
    File(FileId),
}

impl Backing {
    /// The file, if there is one.
    pub fn file(self) -> Option<FileId> {
        match self {
            Backing::Anon => None,
            Backing::Shmem(file) | Backing::Hugetlb(file, _) | Backing::File(file) => Some(file),
        }
    }
}

/// A virtual memory area: whole pages, `start < end`, one set of attributes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Vma {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) pgoff: u64,
    pub(super) flags: VmaFlags,
    pub(super) backing: Backing,
    pub(super) ctx: Option<CtxId>,
    pub(super) anon: Option<Anon>,
    pub(super) policy: PolicyId,
    pub(super) name: NameId,
    pub(super) close: bool,
}

impl Vma {
    /// A private anonymous VMA, unfaulted, whose page offset is that of its address.
    pub(super) fn anonymous(start: u64, end: u64, flags: VmaFlags) -> Vma {
        Vma {
            start,
            end,
            pgoff: start >> PAGE_SHIFT,
            flags,
            backing: Backing::Anon,
            ctx: None,
            anon: None,
            policy: PolicyId(0),
            name: NameId(0),
            close: false,
        }
    }

    /// First byte.
    pub fn start(&self) -> Addr {
        Addr::new(self.start)
    }

    /// One past the last byte.
    pub fn end(&self) -> Addr {
        Addr::new(self.end)
    }

    /// The whole range.
    pub fn span(&self) -> Span {
        Span::new(self.start(), Len::new(self.end - self.start))
    }

    /// Is `addr` inside?
    pub fn contains(&self, addr: Addr) -> bool {
        self.start <= addr.raw() && addr.raw() < self.end
    }

    /// Its flags.
    pub fn flags(&self) -> VmaFlags {
        self.flags
    }

    /// The offset of its first page, in base pages: in the file, or for anonymous memory the
    /// page number it had when it was made.
    pub fn pgoff(&self) -> u64 {
        self.pgoff
    }

    /// The userfaultfd context it is registered with.
    pub fn uffd(&self) -> Option<CtxId> {
        self.ctx
    }

    /// The modes it is registered with.
    pub fn uffd_modes(&self) -> RegisterModes {
        self.flags.uffd_modes()
    }

    /// Where its pages come from.
    pub fn backing(&self) -> Backing {
        self.backing
    }

    /// Its anon_vma, once it has private pages.
    pub fn anon(&self) -> Option<Anon> {
        self.anon
    }

    /// Its memory policy.
    pub fn policy(&self) -> PolicyId {
        self.policy
    }

    /// Its anonymous name.
    pub fn name(&self) -> NameId {
        self.name
    }

    /// Private memory: writes are its own.
    pub fn is_private(&self) -> bool {
        !self.flags.contains(VmaFlags::SHARED)
    }

    /// The size of its pages.
    pub fn page_size(&self) -> PageSize {
        match self.backing {
            Backing::Hugetlb(_, size) => size,
            _ => PageSize::KIB4,
        }
    }

    /// How many base pages.
    pub(super) fn pages(&self) -> u64 {
        (self.end - self.start) >> PAGE_SHIFT
    }

    /// The part `[start, end)` of it, with the page offset that belongs there.
    pub(super) fn part(&self, start: u64, end: u64) -> Vma {
        debug_assert!(self.start <= start && start < end && end <= self.end);
        let pgoff = self.pgoff + ((start - self.start) >> PAGE_SHIFT);
        Vma { start, end, pgoff, ..*self }
    }
}

// What a change of the record must not break unnoticed.
const _: () = assert!(size_of::<Vma>() == 64);
