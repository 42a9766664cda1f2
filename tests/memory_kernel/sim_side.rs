//! A program on the simulated kernel.

use shims::{
    Addr, ContinueMode, CopyMode, Features, Len, PageSize, PoisonMode, Request, Span,
    WriteProtectMode, ZeropageMode,
};
use sim::kernel::{Call, Kernel, MmId, PagemapBits, Payload, Ret, ThreadId, Via};
use sim::vma::{CtxId, FileKind, MapFile, MapFlags, Mmap, Prot};
use sim::world::BASE;
use sim::{Content, Profile};

use crate::op::{Kind, Op, Pages, Side, entry};

pub(crate) struct Simulated {
    kind: Kind,
    kernel: Kernel,
    mm: MmId,
    thread: ThreadId,
    ctx: CtxId,
    file: Option<MapFile>,
    starts: [u64; 2],
    copies: u32,
}

impl Simulated {
    /// `offsets`: where the two mappings begin, within 2 MiB.
    pub(crate) fn new(kind: Kind, features: Features, offsets: [u64; 2]) -> Simulated {
        let mut kernel = Kernel::new(Profile::linux_6_18());
        let mm = kernel.new_mm();
        let thread = kernel.new_thread(mm);
        let ctx = kernel.userfaultfd(mm, features).expect("the features are simulated");
        let len = kind.pages() * kind.page();
        let starts = [BASE.raw() + offsets[0], BASE.raw() + (1 << 32) + offsets[1]];
        let mut map = |request: Mmap, at: u64| {
            let ret = kernel.run(thread, Call::Mmap(request.at(at)));
            assert_eq!(ret, Ret::Ok(at));
        };
        if kind == Kind::Anon {
            map(Mmap::anon(len, Prot::RW), starts[0]);
            return Simulated { kind, kernel, mm, thread, ctx, file: None, starts, copies: 0 };
        }
        let file_kind =
            if kind.is_huge() { FileKind::Hugetlb(PageSize::MIB2) } else { FileKind::Shmem };
        let file = kernel.memory_file(file_kind, len).expect("a memory file");
        let how = if kind.is_shared() { MapFlags::SHARED } else { MapFlags::PRIVATE };
        for (how, at) in [(how, starts[0]), (MapFlags::SHARED, starts[1])] {
            let request = Mmap::file(file, 0, len, Prot::RW, how).at(at);
            assert_eq!(kernel.run(thread, Call::Mmap(request)), Ret::Ok(at));
        }
        Simulated { kind, kernel, mm, thread, ctx, file: Some(file), starts, copies: 0 }
    }

    pub(crate) fn perform(&mut self, op: Op) -> String {
        let watched = Pages { at: 0, len: self.kind.pages() };
        let ctx = self.ctx;
        let file = self.file.map(|file| file.id);
        let bytes = |pages: u64| pages * self.kind.page();
        let call = match op {
            Op::Load(side, page) => self.access(side, page, None),
            Op::Store(side, page, seq) => {
                self.access(side, page, Some(Content::Written { task: 0, seq }))
            }
            Op::DontNeed(side, pages) => Call::DontNeed { range: self.span(side, pages) },
            Op::Remove(side, pages) => Call::RemoveFile { range: self.span(side, pages) },
            Op::Populate { side, pages, write } => {
                Call::Populate { range: self.span(side, pages), write }
            }
            Op::Punch(pages) => Call::Punch {
                file: file.expect("files only"),
                start: bytes(pages.at),
                len: bytes(pages.len),
            },
            Op::Truncate(pages) => {
                Call::Ftruncate { file: file.expect("files only"), size: bytes(pages) }
            }
            Op::Register(modes) => {
                if self.kind.is_huge() {
                    let range = self.span(Side::Watched, watched);
                    self.kernel.run(self.thread, Call::Unregister { ctx, range });
                }
                Call::Register { ctx, range: self.span(Side::Watched, watched), modes }
            }
            Op::Unregister => Call::Unregister { ctx, range: self.span(Side::Watched, watched) },
            Op::Copy { .. }
            | Op::Zero(_)
            | Op::Continue { .. }
            | Op::Poison(_)
            | Op::Protect { .. } => self.resolve(op),
        };
        let loads = matches!(op, Op::Load(..));
        if let Op::Load(side, page) = op {
            // The content is in the step, not in the value of the call.
            return self.load(&call, side, page);
        }
        match self.kernel.run(self.thread, call) {
            Ret::Outcome(outcome) => format!("{outcome:?}"),
            Ret::Ok(value) if matches!(op, Op::Register(_)) => format!("{value:#x}"),
            Ret::Ok(_) => "ok".to_owned(),
            Ret::Err(errno) => format!("{errno:?}"),
            ret => panic!("{op:?} ({loads}) answered {ret:?}"),
        }
    }

    pub(crate) fn state(&self) -> String {
        let entries = |side: usize| {
            let show = |page: u64| {
                let addr = Addr::new(self.starts[side] + page * self.kind.page());
                let bits = self.kernel.pagemap(self.mm, addr);
                entry(
                    bits.contains(PagemapBits::PRESENT),
                    bits.contains(PagemapBits::SWAP),
                    bits.contains(PagemapBits::FILE),
                    bits.contains(PagemapBits::UFFD_WP),
                )
            };
            (0..self.kind.pages()).map(show).collect::<Vec<_>>().join(" ")
        };
        let mut words = entries(0);
        if let Some(file) = self.file {
            words += " | ";
            words += &entries(1);
            if !self.kind.is_huge() {
                let object = self.kernel.object(file.id).expect("it was made");
                let has = |page| if object.cached(page).is_some() { '#' } else { '.' };
                words += " | ";
                words += &(0..self.kind.pages()).map(has).collect::<String>();
            }
        }
        words
    }

    fn load(&mut self, call: &Call, side: Side, page: u64) -> String {
        match self.kernel.run(self.thread, call.clone()) {
            Ret::Ok(_) => {
                let vpn = self.addr(side, page).raw() >> 12;
                match self.kernel.table(self.mm).get(vpn) {
                    sim::kernel::Pte::Present { content, .. } => content.to_string(),
                    pte => panic!("a page that was read is {pte:?}"),
                }
            }
            Ret::Err(errno) => format!("{errno:?}"),
            ret => panic!("a load answered {ret:?}"),
        }
    }

    fn access(&self, side: Side, page: u64, store: Option<Content>) -> Call {
        let range = Span::new(self.addr(side, page), Len::new(16));
        Call::Transfer { via: Via::Forced(self.mm), range, store }
    }

    fn resolve(&mut self, op: Op) -> Call {
        let mut payload = Payload::None;
        let flag = |on| if on { WriteProtectMode::WP } else { WriteProtectMode::empty() };
        let span = |pages| self.span(Side::Watched, pages);
        let request = match op {
            Op::Copy { pages, wp } => {
                let first = self.copies + 1;
                let mode = if wp { CopyMode::WP } else { CopyMode::empty() };
                let request = Request::Copy { dst: span(pages), mode };
                self.copies += pages.len as u32;
                let stamp = |page| Content::Source { page, version: 0 };
                payload = Payload::Many((first..=self.copies).map(stamp).collect());
                request
            }
            Op::Zero(pages) => {
                Request::Zeropage { range: span(pages), mode: ZeropageMode::empty() }
            }
            Op::Continue { pages, wp } => {
                let mode = if wp { ContinueMode::WP } else { ContinueMode::empty() };
                Request::Continue { range: span(pages), mode }
            }
            Op::Poison(pages) => Request::Poison { range: span(pages), mode: PoisonMode::empty() },
            Op::Protect { pages, on } => {
                Request::WriteProtect { range: span(pages), mode: flag(on) }
            }
            op => unreachable!("{op:?} is no ioctl"),
        };
        Call::Resolve { ctx: self.ctx, request, payload }
    }

    fn addr(&self, side: Side, page: u64) -> Addr {
        let start = match side {
            Side::Watched => self.starts[0],
            Side::Other => self.starts[1],
        };
        Addr::new(start + page * self.kind.page())
    }

    fn span(&self, side: Side, pages: Pages) -> Span {
        Span::new(self.addr(side, pages.at), Len::new(pages.len * self.kind.page()))
    }
}
