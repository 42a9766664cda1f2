//! What the memory of a world is made of: private memory, a memory file, huge pages. Owns where
//! it is mapped, how, and what giving a part of it up means; faults and ioctls are the kernel's.

use core::fmt;

use shims::{Addr, Len, PageSize, RegisterModes, Span};

use super::program::Setup;
use crate::Content;
use crate::kernel::{Call, Kernel, MmId, PAGE, Ret, ThreadId};
use crate::vma::{FileKind, MapFile, MapFlags, Mmap, Prot};

/// Where page 0 of a world's memory is mapped.
pub const BASE: Addr = Addr::new(0x2000_0000_0000);

/// The same where pages are huge. Apart, so that an address says which world it is of.
pub const HUGE_BASE: Addr = Addr::new(0x3000_0000_0000);

/// The number of the page of a world that holds `addr`.
#[inline]
pub fn page_index(addr: Addr) -> Option<u64> {
    match addr.checked_sub(HUGE_BASE) {
        None => addr.checked_sub(BASE).map(|into| into.whole_pages(PAGE)),
        Some(into) => Some(into.whole_pages(PageSize::MIB2)),
    }
}

/// The start of page `index` of a world of small pages.
pub fn page_addr(index: u64) -> Addr {
    Memory::Anon.addr(index)
}

/// What the memory of a world is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Memory {
    /// Private memory without a file.
    #[default]
    Anon,
    /// A memory file, mapped shared.
    Shmem,
    /// An empty memory file, mapped private.
    ShmemPrivate,
    /// A memory file of huge pages, mapped shared.
    Hugetlb,
    /// Private memory of huge pages.
    HugetlbPrivate,
}

/// What `MADV_DONTNEED` does to the content of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Loss {
    /// It is gone, and the page reads as zeros from then on.
    Gone,
    /// It is gone, and the page is what it was at first.
    Reverts,
    /// It stays: only the mapping goes.
    Nothing,
}

impl Memory {
    /// All there are.
    pub const ALL: [Memory; 5] = [
        Memory::Anon,
        Memory::Shmem,
        Memory::ShmemPrivate,
        Memory::Hugetlb,
        Memory::HugetlbPrivate,
    ];

    /// The one that scenarios call `word`.
    pub fn from_word(word: &str) -> Option<Memory> {
        Memory::ALL.into_iter().find(|memory| memory.to_string() == word)
    }

    /// The size of its pages.
    #[inline]
    pub const fn page_size(self) -> PageSize {
        match self {
            Memory::Anon | Memory::Shmem | Memory::ShmemPrivate => PAGE,
            Memory::Hugetlb | Memory::HugetlbPrivate => PageSize::MIB2,
        }
    }

    /// Where its page 0 is mapped.
    #[inline]
    pub const fn base(self) -> Addr {
        match self {
            Memory::Anon | Memory::Shmem | Memory::ShmemPrivate => BASE,
            Memory::Hugetlb | Memory::HugetlbPrivate => HUGE_BASE,
        }
    }

    /// Where its page `index` is mapped.
    ///
    /// # Panics
    ///
    /// If no world is that large.
    #[inline]
    pub fn addr(self, index: u64) -> Addr {
        let into = Len::pages(index, self.page_size()).expect("a world has few pages");
        self.base().checked_add(into).expect("a world ends below the top of the address space")
    }

    /// Its pages `[start, end)`.
    ///
    /// # Panics
    ///
    /// If they do not ascend.
    pub fn span(self, start: u64, end: u64) -> Span {
        Span::between(self.addr(start), self.addr(end)).expect("a range ascends")
    }

    /// Can others see what is written to it?
    #[inline]
    pub const fn is_shared(self) -> bool {
        matches!(self, Memory::Shmem | Memory::Hugetlb)
    }

    /// Is there a file behind it that can have pages which are not mapped?
    pub const fn has_file(self) -> bool {
        matches!(self, Memory::Shmem | Memory::ShmemPrivate | Memory::Hugetlb)
    }

    #[inline]
    pub(super) const fn loss(self) -> Loss {
        match self {
            Memory::Anon | Memory::HugetlbPrivate => Loss::Gone,
            Memory::ShmemPrivate => Loss::Reverts,
            Memory::Shmem | Memory::Hugetlb => Loss::Nothing,
        }
    }

    fn kind(self) -> FileKind {
        match self.page_size() {
            PAGE => FileKind::Shmem,
            size => FileKind::Hugetlb(size),
        }
    }

    /// The call that maps `pages` pages of it.
    fn map(self, pages: u64, file: Option<MapFile>) -> Call {
        let len = self.span(0, pages).len.bytes();
        let huge =
            if self == Memory::HugetlbPrivate { MapFlags::HUGETLB } else { MapFlags::empty() };
        let request = match file {
            None => Mmap::anon(len, Prot::RW).with(huge),
            Some(file) => Mmap::file(file, 0, len, Prot::RW, MapFlags::PRIVATE),
        };
        let request = request.at(self.base().raw());
        Call::Mmap(if self.is_shared() { request.shared() } else { request })
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Memory::Anon => "anon",
            Memory::Shmem => "shmem",
            Memory::ShmemPrivate => "shmem-private",
            Memory::Hugetlb => "hugetlb",
            Memory::HugetlbPrivate => "hugetlb-private",
        })
    }
}

impl Setup {
    /// Where page `index` of the memory is mapped.
    #[inline]
    pub fn addr(&self, index: u64) -> Addr {
        self.memory.addr(index)
    }

    /// What of this world its kernel refuses, in words, because it does not know it. `None` if it
    /// can be built.
    pub fn refused_by_kernel(&self) -> Option<String> {
        let linux = self.profile.name();
        let mut kernel = Kernel::new(self.profile.clone());
        let mm = kernel.new_mm();
        let main = kernel.new_thread(mm);
        let Ok(ctx) = kernel.userfaultfd(mm, self.features) else {
            return Some(format!("Linux {linux} does not know its features"));
        };
        self.make_memory(&mut kernel, main);
        let range = self.memory.span(0, self.pages);
        let mut refuses = |modes| {
            let register = Call::Register { ctx, range, modes };
            !matches!(kernel.run(main, register), Ret::Ok(_))
        };
        if !refuses(self.modes) {
            return None;
        }
        let modes = [(RegisterModes::MINOR, "minor"), (RegisterModes::WP, "wp")];
        let mut named = modes.into_iter().filter(|(mode, _)| self.modes.contains(*mode));
        let word = named.find(|(mode, _)| refuses(*mode)).map_or("such mode", |(_, word)| word);
        Some(format!("Linux {linux} has no `{word}` for memory that is `{}`", self.memory))
    }

    /// Make the memory and map it; the file behind it, if there is one.
    pub(super) fn make_memory(&self, kernel: &mut Kernel, thread: ThreadId) -> Option<MapFile> {
        let size = self.memory.span(0, self.pages).len.bytes();
        let file = self.memory.has_file().then(|| {
            let made = kernel.memory_file(self.memory.kind(), size);
            made.expect("a parsed scenario has whole pages")
        });
        if let Some(file) = file.filter(|_| self.filled) {
            self.fill(kernel, file);
        }
        self.map_memory(kernel, thread, file);
        file
    }

    /// Map the memory for another process, or for the first.
    pub(super) fn map_memory(&self, kernel: &mut Kernel, thread: ThreadId, file: Option<MapFile>) {
        let mapped = kernel.run(thread, self.memory.map(self.pages, file));
        let base = self.memory.base();
        assert_eq!(mapped, Ret::Ok(base.raw()), "the memory of a world is mapped at its base");
    }

    /// Somebody has put the source into the file before the world begins.
    fn fill(&self, kernel: &mut Kernel, file: MapFile) {
        let mm = kernel.new_mm();
        let thread = kernel.new_thread(mm);
        self.map_memory(kernel, thread, Some(file));
        for page in 0..self.pages {
            let content = Content::Source { page: page as u32, version: 0 };
            kernel.run(thread, Call::Store { addr: self.addr(page), content });
        }
        let range = self.memory.span(0, self.pages);
        assert_eq!(kernel.run(thread, Call::Munmap { range }), Ret::Ok(0));
    }

    /// Is page `at` of process `mm` there: mapped, or in the file that everybody maps?
    pub(super) fn is_there(&self, kernel: &Kernel, mm: MmId, at: u64) -> bool {
        let addr = self.addr(at);
        kernel.table(mm).get(addr.raw() >> 12).is_present()
            || (self.memory.is_shared() && kernel.cached_at(mm, addr))
    }
}
