//! The simulated kernel as an [`Arm`]: threads move one after another until none can.

use core::cell::RefCell;
use std::collections::BTreeMap;

use shims::{Addr, Errno, Features, Len, PageSize, RegisterModes, Span, Tid, Uffd};
use sim::kernel::{
    Call, Kernel, Madvise, MmId, PageIs, PagemapBits, PagemapScan, Pte, Region, Ret, ScanFlags,
    Signal, SimUffd, ThreadId,
};
use sim::vma::{Advice, CtxId, FileKind, MapFile, MapFlags, Mmap, Mremap, Prot, VmaFlags};
use sim::world::BASE;
use sim::{Content, Profile};

use crate::arm::{
    Advise, Area, Arm, Back, Entry, Kind, Op, PAGE, Piece, Scan, Settled, bytes, granule,
};

pub(crate) struct SimArm {
    kernel: RefCell<Kernel>,
    /// The processes, each with the thread that uses the userfaultfds.
    processes: Vec<(MmId, ThreadId)>,
    threads: Vec<ThreadId>,
    /// Each with whether it is open.
    ctxs: Vec<(CtxId, bool)>,
    files: BTreeMap<u8, MapFile>,
    pieces: Vec<Piece>,
    pages: u64,
}

impl SimArm {
    pub(crate) fn new(profile: Profile, pages: u64, pieces: &[Piece]) -> SimArm {
        let mut kernel = Kernel::new(profile);
        let mm = kernel.new_mm();
        let handler = kernel.new_thread(mm);
        let mut files: BTreeMap<u8, MapFile> = BTreeMap::new();
        for piece in pieces {
            if piece.kind != Kind::Anon && !files.contains_key(&piece.file) {
                let kind = if piece.kind.is_huge() {
                    FileKind::Hugetlb(PageSize::MIB2)
                } else {
                    FileKind::Shmem
                };
                let size = (piece.offset + piece.pages) * PAGE;
                files.insert(piece.file, kernel.memory_file(kind, size).expect("a file"));
            }
            let request = mmap(piece, &files);
            let at = request.addr;
            assert_eq!(kernel.run(handler, Call::Mmap(request)), Ret::Ok(at));
        }
        SimArm {
            kernel: RefCell::new(kernel),
            processes: vec![(mm, handler)],
            threads: Vec::new(),
            ctxs: Vec::new(),
            files,
            pieces: pieces.to_vec(),
            pages,
        }
    }

    /// Why a case that starts with `pieces` cannot run here, if it cannot.
    pub(crate) fn lacks(pieces: &[Piece]) -> Option<&'static str> {
        let huge = pieces.iter().any(|piece| piece.kind.is_huge());
        huge.then_some("the simulator has no hugetlb yet")
    }

    /// The call that stands for an operation of thread `index`.
    pub(crate) fn call(index: usize, op: Op) -> Call {
        let page = |n: u64| Addr::new(BASE.raw() + n * PAGE);
        let content = |seq| Content::Written { task: index as u16, seq };
        let range = |at, len| bytes(BASE, at, len);
        match op {
            Op::Load(n) | Op::Glance(n) => Call::Load { addr: page(n) },
            Op::Touch { at, write: false } => Call::Load { addr: Addr::new(BASE.raw() + at) },
            Op::Store(n, seq) => Call::Store { addr: page(n), content: content(seq) },
            Op::Touch { at, write: true } => {
                Call::Store { addr: Addr::new(BASE.raw() + at), content: content(0) }
            }
            Op::Populate { at, len, write } => Call::Populate { range: range(at, len), write },
            Op::DontNeed { at, len } => Call::DontNeed { range: range(at, len) },
            Op::Map { at, len, prot } => Call::Mmap(Mmap::fixed(BASE.raw() + at, len, prot)),
            Op::Unmap { at, len } => Call::Munmap { range: range(at, len) },
            Op::Seal { at, len } => Call::Mseal { range: range(at, len) },
            Op::Protect { at, len, prot } => Call::Mprotect { range: range(at, len), prot },
            Op::Remap { at, len, new_len, to, flags } => Call::Mremap(Mremap {
                old: BASE.raw() + at,
                old_len: len,
                new_len,
                flags,
                new: to.map_or(0, |to| BASE.raw() + to),
            }),
            Op::Fork => Call::Fork,
            Op::Advise { at, len, advice: Advise::Remove } => {
                Call::RemoveFile { range: range(at, len) }
            }
            Op::Advise { at, len, advice } => {
                let advice = madvise(advice)
                    .unwrap_or_else(|| panic!("no {advice:?} yet; say so with `kernel_only`"));
                Call::Madvise { range: range(at, len), advice }
            }
            Op::DontNeedSelf { at, len } => {
                Call::ProcessMadvise { ranges: vec![range(at, len)], advice: Madvise::DontNeed }
            }
            op => panic!("the simulator has no call for {op:?}; say so with `kernel_only`"),
        }
    }

    /// The same for an operation that takes a file.
    fn file_call(&self, index: usize, op: Op) -> Call {
        match op {
            Op::MapFile { piece } => Call::Mmap(mmap(&piece, &self.files)),
            Op::Truncate { file, len } => Call::Ftruncate { file: self.files[&file].id, size: len },
            Op::Punch { file, at, len } => {
                Call::Punch { file: self.files[&file].id, start: at, len }
            }
            op => SimArm::call(index, op),
        }
    }

    /// What a call's end is called here.
    pub(crate) fn back(ret: Ret) -> Back {
        match ret {
            Ret::Loaded(content) => Back::Loaded(content),
            Ret::Stored | Ret::Ok(_) => Back::Done,
            Ret::Signal(Signal::SegvMapErr) => Back::MapErr,
            Ret::Signal(Signal::SegvAccErr) => Back::AccErr,
            Ret::Signal(Signal::BusAdrErr | Signal::BusPoison) => Back::Bus,
            Ret::Err(errno) => Back::Err(errno),
            ret => unreachable!("no operation of a thread answers {ret:?}"),
        }
    }
}

impl Arm for SimArm {
    fn base(&self) -> Addr {
        BASE
    }

    fn open(&mut self, features: Features) -> Result<usize, Errno> {
        let ctx = self.kernel.get_mut().userfaultfd(self.processes[0].0, features)?;
        self.ctxs.push((ctx, true));
        Ok(self.ctxs.len() - 1)
    }

    fn close(&mut self, uffd: usize) {
        let (ctx, open) = &mut self.ctxs[uffd];
        assert!(core::mem::take(open), "closed twice");
        let (_, handler) = self.processes[0];
        assert_eq!(self.kernel.get_mut().run(handler, Call::Close { ctx: *ctx }), Ret::Ok(0));
    }

    fn with(&mut self, uffd: usize, body: &mut dyn FnMut(&dyn Uffd)) {
        let (ctx, open) = self.ctxs[uffd];
        assert!(open, "used after close");
        body(&SimUffd::new(&self.kernel, ctx, self.processes[0].1));
    }

    fn is_open(&self, uffd: usize) -> bool {
        self.ctxs[uffd].1
    }

    fn readable(&mut self, uffd: usize) -> bool {
        self.kernel.get_mut().ctx(self.ctxs[uffd].0).readable()
    }

    fn counts(&mut self, uffd: usize) -> (u64, u64) {
        let ctx = self.kernel.get_mut().ctx(self.ctxs[uffd].0);
        (ctx.faults_unread() as u64, ctx.faults_waiting() as u64)
    }

    fn thread(&mut self) -> usize {
        self.thread_in(0)
    }

    fn thread_in(&mut self, process: usize) -> usize {
        let (mm, _) = self.processes[process];
        self.threads.push(self.kernel.get_mut().new_thread(mm));
        self.threads.len() - 1
    }

    fn adopt(&mut self, fd: i32) -> usize {
        let ctx = self.kernel.get_mut().child_userfaultfd(fd).expect("a child's descriptor");
        self.ctxs.push((ctx, true));
        self.ctxs.len() - 1
    }

    fn start(&mut self, thread: usize, op: Op) {
        let call = self.file_call(thread, op);
        self.kernel.get_mut().begin(self.threads[thread], call);
    }

    fn settle(&mut self, thread: usize) -> Settled {
        let kernel = self.kernel.get_mut();
        while let Some(&next) = self.threads.iter().find(|&&thread| kernel.can_step(thread)) {
            kernel.step(next);
        }
        match kernel.take_ret(self.threads[thread]) {
            Some(Ret::Forked(mm)) => {
                let main = kernel.new_thread(mm);
                self.processes.push((mm, main));
                Settled::Returned(Back::Forked(self.processes.len() - 1))
            }
            Some(ret) => Settled::Returned(SimArm::back(ret)),
            None => Settled::Asleep,
        }
    }

    fn who(&self, tid: Tid) -> Option<usize> {
        self.threads.iter().position(|thread| u32::from(thread.0) + 1 == tid.0)
    }

    fn contents(&mut self) -> Vec<Option<Content>> {
        let mut all = vec![None; self.pages as usize];
        for (page, entry) in self.entries(0) {
            all[page as usize] = entry.content;
        }
        all
    }

    fn entries(&mut self, process: usize) -> Vec<(u64, Entry)> {
        let (mm, kernel) = (self.processes[process].0, self.kernel.get_mut());
        let entry = |page| {
            let addr = Addr::new(BASE.raw() + page * PAGE);
            let seen = kernel.pagemap(mm, addr);
            let content = match kernel.table(mm).get(addr.raw() / PAGE) {
                Pte::Present { content, .. } => Some(content),
                Pte::None | Pte::Marker(_) => None,
            };
            assert_eq!(content.is_some(), seen.contains(PagemapBits::PRESENT));
            Entry {
                content,
                wp: seen.contains(PagemapBits::UFFD_WP),
                marker: seen.contains(PagemapBits::SWAP),
            }
        };
        let pages = (0..self.pages).filter(|page| page % granule(&self.pieces, *page) == 0);
        pages.map(|page| (page, entry(page))).collect()
    }

    fn scan(&mut self, scan: Scan) -> Result<Vec<(u64, u64, u64)>, Errno> {
        let is = PageIs::from_bits_retain(scan.mask);
        let ask = PagemapScan {
            flags: ScanFlags::from_bits_retain(scan.flags),
            range: bytes(BASE, scan.start * PAGE, (scan.end - scan.start) * PAGE),
            room: 64,
            max_pages: 0,
            inverted: PageIs::empty(),
            all: is,
            any: PageIs::empty(),
            tell: is,
        };
        let (kernel, main) = (self.kernel.get_mut(), self.processes[0].1);
        let answer = kernel.run(main, Call::PagemapScan(Box::new(ask)));
        let found = kernel.take_scan(main).map_or(Vec::new(), |scanned| scanned.regions);
        let page = |addr: Addr| (addr.raw() - BASE.raw()) / PAGE;
        let region = |region: &Region| {
            let (start, end) = (region.span.start, region.span.end().expect("fits"));
            (page(start), page(end), region.is.bits())
        };
        match answer {
            Ret::Ok(count) => {
                assert_eq!(count, found.len() as u64);
                Ok(found.iter().map(region).collect())
            }
            Ret::Err(errno) => Err(errno),
            ret => unreachable!("a scan answered {ret:?}"),
        }
    }

    fn areas(&mut self) -> Vec<Area> {
        self.areas_of(0)
    }

    fn areas_of(&mut self, process: usize) -> Vec<Area> {
        let arena = Span::new(BASE, Len::new(self.pages * PAGE));
        let page = |addr: Addr| (addr.raw() - BASE.raw()) / PAGE;
        let kernel = self.kernel.get_mut();
        let space = kernel.space(self.processes[process].0);
        let inside = space.iter().filter(|vma| arena.contains(vma.start()));
        inside
            .map(|vma| Area {
                start: page(vma.start()),
                end: page(vma.end()),
                prot: prot(vma.flags()),
                modes: if vma.uffd().is_some() { vma.uffd_modes() } else { RegisterModes::empty() },
            })
            .collect()
    }
}

fn mmap(piece: &Piece, files: &BTreeMap<u8, MapFile>) -> Mmap {
    let (at, len) = (BASE.raw() + piece.at * PAGE, piece.pages * PAGE);
    if piece.kind == Kind::Anon {
        return Mmap::fixed(at, len, piece.prot);
    }
    let flags = if piece.kind.is_private() { MapFlags::PRIVATE } else { MapFlags::SHARED };
    Mmap::file(files[&piece.file], piece.offset * PAGE, len, piece.prot, flags).at(at)
}

fn prot(flags: VmaFlags) -> Prot {
    let mut bits = 0;
    for one in [Prot::READ, Prot::WRITE, Prot::EXEC] {
        if flags.contains(one.flags()) {
            bits |= one.bits();
        }
    }
    Prot::from_bits(bits).expect("three bits")
}

/// The advice in the simulator's words.
fn madvise(advice: Advise) -> Option<Madvise> {
    Some(match advice {
        Advise::WillNeed => Madvise::WillNeed,
        Advise::DontNeed => Madvise::DontNeed,
        Advise::Free => Madvise::Free,
        Advise::DontFork => Madvise::Flags(Advice::DontFork),
        Advise::HugePage => Madvise::Flags(Advice::HugePage),
        Advise::NoHugePage => Madvise::Flags(Advice::NoHugePage),
        Advise::WipeOnFork => Madvise::Flags(Advice::WipeOnFork),
        Advise::Cold => Madvise::Cold,
        Advise::PageOut => Madvise::PageOut,
        Advise::DontNeedLocked => Madvise::DontNeedLocked,
        Advise::GuardInstall => Madvise::GuardInstall,
        Advise::GuardRemove => Madvise::GuardRemove,
        Advise::Remove | Advise::Collapse => return None,
    })
}
