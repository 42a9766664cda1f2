//! A process with a memory file: mapped and watched at page 0 of the bed, and mapped once
//! more, shared and watched by nobody, from page [`ALIAS`] on.

use shims::{ContinueMode, Features, Outcome, PageSize, RegisterModes, Request, ZeropageMode};
use sim::kernel::{Call, Kernel, Payload, Ret, ThreadId};
use sim::vma::{FileKind, MapFile, MapFlags, Mmap, Prot};
use sim::world::BASE;
use sim::{Content, Profile};

use super::{Bed, page, span};

/// Where the second mapping begins, in base pages.
pub(crate) const ALIAS: u64 = 1 << 16;
/// Base pages in a huge page.
pub(crate) const HUGE: u64 = 512;

pub(crate) const SHMEM: FileKind = FileKind::Shmem;
pub(crate) const HUGETLB: FileKind = FileKind::Hugetlb(PageSize::MIB2);
pub(crate) const SHARED: MapFlags = MapFlags::SHARED;
pub(crate) const PRIVATE: MapFlags = MapFlags::PRIVATE;

pub(crate) struct Memory {
    pub(crate) bed: Bed,
    pub(crate) file: MapFile,
    /// A thread that reads and writes through the second mapping.
    other: ThreadId,
}

impl Memory {
    /// A file of `pages` base pages, both mappings as long.
    pub(crate) fn new(
        kind: FileKind,
        how: MapFlags,
        pages: u64,
        features: Features,
        modes: RegisterModes,
    ) -> Memory {
        Memory::of(Profile::default(), kind, how, pages, features, modes)
    }

    /// The same on another kernel.
    pub(crate) fn of(
        profile: Profile,
        kind: FileKind,
        how: MapFlags,
        pages: u64,
        features: Features,
        modes: RegisterModes,
    ) -> Memory {
        let mut kernel = Kernel::new(profile);
        let mm = kernel.new_mm();
        let (handler, other) = (kernel.new_thread(mm), kernel.new_thread(mm));
        let file = kernel.memory_file(kind, pages * 4096).unwrap();
        let ctx = kernel.userfaultfd(mm, features).unwrap();
        let mut memory = Memory { bed: Bed { kernel, mm, ctx, handler }, file, other };
        if pages > 0 {
            assert_eq!(memory.map(0, pages, 0, how), Ret::Ok(BASE.raw()));
            assert_eq!(memory.map(ALIAS, pages, 0, SHARED), Ret::Ok(page(ALIAS).raw()));
        }
        if !modes.is_empty() {
            let ret = memory.bed.register(0, pages, modes);
            assert!(matches!(ret, Ret::Ok(_)), "register: {ret:?}");
        }
        memory
    }

    /// Map `pages` of the file from its page `offset` on at page `at`.
    pub(crate) fn map(&mut self, at: u64, pages: u64, offset: u64, how: MapFlags) -> Ret {
        let request = Mmap::file(self.file, offset * 4096, pages * 4096, Prot::RW, how);
        self.bed.kernel.run(self.bed.handler, Call::Mmap(request.at(page(at).raw())))
    }

    /// Put `content` into page `n` of the file, through the other mapping.
    pub(crate) fn put(&mut self, n: u64, content: Content) {
        let call = Call::Store { addr: page(ALIAS + n), content };
        assert_eq!(self.bed.kernel.run(self.other, call), Ret::Stored);
    }

    /// What page `n` of the file holds.
    pub(crate) fn cached(&self, n: u64) -> Option<Content> {
        self.bed.kernel.object(self.file.id).unwrap().cached(n)
    }

    pub(crate) fn punch(&mut self, start: u64, end: u64) -> Ret {
        let (start, len) = (start * 4096, (end - start) * 4096);
        let call = Call::Punch { file: self.file.id, start, len };
        self.bed.kernel.run(self.other, call)
    }

    pub(crate) fn truncate(&mut self, pages: u64) -> Ret {
        let call = Call::Ftruncate { file: self.file.id, size: pages * 4096 };
        self.bed.kernel.run(self.other, call)
    }

    pub(crate) fn dont_need(&mut self, start: u64, end: u64) -> Ret {
        self.bed.kernel.run(self.other, Call::DontNeed { range: span(start, end) })
    }

    /// `MADV_DONTNEED` of one page, its event read.
    pub(crate) fn drop_page(&mut self, n: u64) {
        let thread = self.bed.thread();
        self.bed.go(thread, Call::DontNeed { range: span(n, n + 1) });
        self.bed.read(1);
        assert_eq!(
            self.bed.on(thread).or_else(|| self.bed.kernel.take_ret(thread)),
            Some(Ret::Ok(0))
        );
    }

    pub(crate) fn zero(&mut self, start: u64, end: u64) -> Outcome {
        let request = Request::Zeropage { range: span(start, end), mode: ZeropageMode::empty() };
        self.bed.resolve(request, Payload::None)
    }

    pub(crate) fn poison(&mut self, start: u64, end: u64) -> Outcome {
        let range = span(start, end);
        let request = Request::Poison { range, mode: shims::PoisonMode::empty() };
        self.bed.resolve(request, Payload::None)
    }

    pub(crate) fn go_on(&mut self, start: u64, end: u64, mode: ContinueMode) -> Outcome {
        let request = Request::Continue { range: span(start, end), mode };
        self.bed.resolve(request, Payload::None)
    }

    /// `COPY` of `content` to huge page `n`.
    pub(crate) fn copy_huge(&mut self, n: u64, mode: shims::CopyMode) -> Outcome {
        let request = Request::Copy { dst: span(n * HUGE, (n + 1) * HUGE), mode };
        self.bed.resolve(request, Payload::One(super::source(n)))
    }
}
