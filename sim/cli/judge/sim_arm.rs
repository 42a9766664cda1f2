//! The simulated kernel as an [`Arm`]: threads move one after another until none can.

use core::cell::RefCell;
use std::collections::BTreeMap;

use shims::{Addr, Errno, Features, Len, PageSize, RegisterModes, Span, Tid, Uffd};
use sim::kernel::{
    Call, Did, Fd, FileCall, Kernel, MmId, PageIs, PagemapBits, PagemapScan, ProcessCall,
    ProcessDid, Pte, Reading, Region, Ret, ScanFlags, Sig, Signal, ThreadId, flags,
};
use sim::vma::{FileKind, MapFile, MapFlags, Prot, VmaFlags};
use sim::world::BASE;
use sim::{Content, Profile};

use super::arm::{Area, Arm, Entry, Scan, bytes};
use super::op::{Back, Kind, Op, PAGE, Piece, Settled, granule};
use super::sim_fd_uffd::FdUffd;
use super::sim_ops::mmap;

#[derive(Clone)]
pub struct SimArm {
    pub(crate) kernel: RefCell<Kernel>,
    /// The processes, each with the thread that uses the userfaultfds.
    pub(crate) processes: Vec<(MmId, ThreadId)>,
    pub(crate) threads: Vec<ThreadId>,
    /// The descriptors that are open, by number, each with the process that uses it.
    pub(crate) uffds: Vec<Option<SimFd>>,
    /// What each thread was told to do, and what its last load by a system call has read.
    pub(crate) told: Vec<(Option<Op>, Content)>,
    /// The children of `vfork`, which do nothing but exit.
    vforked: Vec<ThreadId>,
    pub(crate) files: BTreeMap<u8, MapFile>,
    pieces: Vec<Piece>,
    pages: u64,
}

impl SimArm {
    /// `pages` pages of address space with `pieces` in it; `reserve` says whether their
    /// mappings of huge pages reserve them.
    pub fn new(profile: Profile, pages: u64, pieces: &[Piece], reserve: bool) -> SimArm {
        let mut kernel = Kernel::new(profile);
        if !reserve {
            kernel.set_huge_pages(0);
        }
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
            let mut request = mmap(piece, &files);
            if !reserve {
                request = request.with(MapFlags::NORESERVE);
            }
            let at = request.addr;
            assert_eq!(kernel.run(handler, Call::Mmap(request)), Ret::Ok(at));
        }
        SimArm {
            kernel: RefCell::new(kernel),
            processes: vec![(mm, handler)],
            threads: Vec::new(),
            uffds: Vec::new(),
            told: Vec::new(),
            vforked: Vec::new(),
            files,
            pieces: pieces.to_vec(),
            pages,
        }
    }

    /// The entry of page `page` of the arena in `mm`.
    pub(crate) fn entry_of(kernel: &Kernel, mm: MmId, page: u64) -> Entry {
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
    }

    /// A copy of the kernel as it is, and the first process's memory in it.
    pub(crate) fn kernel(&self) -> (Kernel, MmId) {
        (self.kernel.borrow().clone(), self.processes[0].0)
    }

    /// How many threads there have been.
    pub(crate) fn thread_count(&self) -> usize {
        self.threads.len()
    }

    /// What the kernel calls a thread.
    pub(crate) fn thread_id(&self, thread: usize) -> ThreadId {
        self.threads[thread]
    }

    /// The descriptor of a userfaultfd, if it is open.
    pub(crate) fn descriptor(&self, uffd: usize) -> Option<Fd> {
        self.uffds.get(uffd).copied().flatten().map(|fd| fd.number)
    }

    /// What a call's end is called here.
    pub fn back(ret: Ret) -> Back {
        match ret {
            Ret::Loaded(content) => Back::Loaded(content),
            Ret::Stored | Ret::Ok(_) => Back::Done,
            Ret::Signal(Signal::SegvMapErr) => Back::MapErr,
            Ret::Signal(Signal::SegvAccErr) => Back::AccErr,
            Ret::Signal(Signal::BusAdrErr | Signal::BusPoison) => Back::Bus,
            Ret::Err(errno) => Back::Err(errno),
            Ret::Outcome(outcome) => outcome.errno.map_or(Back::Done, Back::Err),
            ret => unreachable!("no operation of a thread answers {ret:?}"),
        }
    }
}

/// A descriptor in the table of a process.
#[derive(Clone, Copy)]
pub(crate) struct SimFd {
    pub(crate) process: usize,
    pub(crate) number: Fd,
}

/// More steps than any case takes until it is still: beyond that somebody goes in circles.
const STEPS: u32 = 20_000;

impl SimArm {
    pub(super) fn fd(&self, uffd: usize) -> SimFd {
        self.uffds[uffd].expect("used after close")
    }

    fn push_fd(&mut self, fd: SimFd) -> usize {
        self.uffds.push(Some(fd));
        self.uffds.len() - 1
    }

    /// A call of the thread of `process` that uses the userfaultfds.
    fn main(&mut self, process: usize, call: FileCall) -> Result<u64, Errno> {
        let thread = self.processes[process].1;
        match self.kernel.get_mut().run(thread, Call::File(call)) {
            Ret::Ok(value) => Ok(value),
            Ret::Err(errno) => Err(errno),
            ret => unreachable!("a call on a descriptor answered {ret:?}"),
        }
    }

    /// Move one thread after another until none can; false if there is no end to it.
    fn still(&mut self) -> bool {
        self.steps(STEPS)
    }

    fn steps(&mut self, count: u32) -> bool {
        for _ in 0..count {
            let Some(next) = self.movable().next() else { return true };
            self.move_one(next);
        }
        false
    }

    /// Who can move.
    pub(crate) fn movable(&self) -> impl Iterator<Item = ThreadId> {
        let kernel = self.kernel.borrow();
        let mains = self.processes.iter().map(|(_, main)| main);
        let all = self.threads.iter().chain(mains).chain(&self.vforked);
        all.copied().filter(move |&thread| kernel.can_step(thread))
    }

    /// Let a thread that can move do so.
    pub(crate) fn move_one(&mut self, next: ThreadId) -> Did {
        let kernel = self.kernel.get_mut();
        let did = kernel.step(next);
        match did {
            Did::Load { content, .. } => {
                if let Some(at) = self.threads.iter().position(|thread| *thread == next) {
                    self.told[at].1 = content;
                }
            }
            // The child does nothing but exit.
            Did::Process(ProcessDid::Spawn { thread: child }) => {
                kernel.begin(child, Call::Process(ProcessCall::Exit));
                self.vforked.push(child);
            }
            _ => {}
        }
        did
    }
}

impl Arm for SimArm {
    fn as_sim(&mut self) -> Option<&mut SimArm> {
        Some(self)
    }

    fn base(&self) -> Addr {
        BASE
    }

    fn open(&mut self, features: Features) -> Result<usize, Errno> {
        let uffd = self.open_raw(u64::from(flags::O_CLOEXEC | flags::O_NONBLOCK))?;
        let mut answer = Ok(());
        self.with(uffd, &mut |uffd| answer = uffd.api(features).map(drop));
        answer.map(|()| uffd)
    }

    fn open_raw(&mut self, flags: u64) -> Result<usize, Errno> {
        let flags = u32::try_from(flags).expect("a flag word");
        let number = self.main(0, FileCall::Userfaultfd { flags })?;
        Ok(self.push_fd(SimFd { process: 0, number: Fd(number as i32) }))
    }

    fn open_by_device(&mut self, flags: u64) -> Result<usize, Errno> {
        let flags = u32::try_from(flags).expect("a flag word");
        let device = Fd(self.main(0, FileCall::OpenDevice)? as i32);
        let number = self.main(0, FileCall::DeviceNew { fd: device, flags });
        self.main(0, FileCall::Close { fd: device })?;
        Ok(self.push_fd(SimFd { process: 0, number: Fd(number? as i32) }))
    }

    fn close(&mut self, uffd: usize) {
        let SimFd { process, number } = self.uffds[uffd].take().expect("closed twice");
        assert_eq!(self.main(process, FileCall::Close { fd: number }), Ok(0));
    }

    fn with(&mut self, uffd: usize, body: &mut dyn FnMut(&dyn Uffd)) {
        let SimFd { process, number } = self.fd(uffd);
        let thread = self.processes[process].1;
        body(&FdUffd { kernel: &self.kernel, thread, fd: number });
    }

    fn is_open(&self, uffd: usize) -> bool {
        self.uffds[uffd].is_some()
    }

    fn readable(&mut self, uffd: usize) -> bool {
        self.poll_bits(uffd) == 1
    }

    fn poll_bits(&mut self, uffd: usize) -> u16 {
        let SimFd { process, number } = self.fd(uffd);
        let bits = self.main(process, FileCall::Poll { fd: number, wait: false });
        bits.expect("poll of an open descriptor") as u16
    }

    fn counts(&mut self, uffd: usize) -> (u64, u64) {
        let SimFd { process, number } = self.fd(uffd);
        let (thread, kernel) = (self.processes[process].1, self.kernel.get_mut());
        let ctx = kernel.fd(thread, number).and_then(|view| view.ctx).expect("a userfaultfd");
        let ctx = kernel.ctx(ctx);
        (ctx.faults_unread() as u64, ctx.faults_waiting() as u64)
    }

    fn read_raw(&mut self, uffd: usize, len: u64, writable: bool) -> Result<u64, Errno> {
        let SimFd { process, number } = self.fd(uffd);
        let writable = if writable { u64::MAX } else { 0 };
        let reading = Reading { writable, ..Reading::new(number, len) };
        let answer = self.main(process, FileCall::Read(reading));
        let thread = self.processes[process].1;
        self.kernel.get_mut().inbox(thread).clear();
        answer
    }

    fn duplicate(&mut self, uffd: usize) -> usize {
        let SimFd { process, number } = self.fd(uffd);
        let copy = self.main(process, FileCall::Dup { fd: number }).expect("dup");
        self.push_fd(SimFd { process, number: Fd(copy as i32) })
    }

    fn set_nonblocking(&mut self, uffd: usize, on: bool) {
        let SimFd { process, number } = self.fd(uffd);
        self.main(process, FileCall::SetNonblock { fd: number, on }).expect("fcntl");
    }

    fn descriptor_flags(&mut self, uffd: usize) -> (bool, bool) {
        let SimFd { process, number } = self.fd(uffd);
        let thread = self.processes[process].1;
        let view = self.kernel.get_mut().fd(thread, number).expect("an open descriptor");
        (view.nonblock, view.cloexec)
    }

    fn via(&mut self, uffd: usize, process: usize) {
        let number = self.fd(uffd).number;
        self.uffds[uffd] = Some(SimFd { process, number });
    }

    fn starve_descriptors(&mut self, on: bool) {
        let any = self.uffds.iter().flatten().next().expect("a descriptor").number;
        let limit = if on {
            let lowest = self.main(0, FileCall::Dup { fd: any }).expect("dup");
            self.main(0, FileCall::Close { fd: Fd(lowest as i32) }).expect("close");
            lowest as u32
        } else {
            1024
        };
        let thread = self.processes[0].1;
        self.kernel.get_mut().privileges_mut(thread).nofile = limit;
    }

    fn drop_privileges(&mut self) {
        let thread = self.processes[0].1;
        let privileges = self.kernel.get_mut().privileges_mut(thread);
        (privileges.ptrace, privileges.device) = (false, false);
    }

    fn signal(&mut self, thread: usize) {
        let thread = self.threads[thread];
        assert!(self.kernel.get_mut().signal(thread, Sig::Handled { restart: false }));
    }

    fn handled(&mut self, thread: usize) -> u64 {
        let thread = self.threads[thread];
        u64::from(self.kernel.get_mut().handlers_run(thread))
    }

    fn kill(&mut self, process: usize) {
        let main = self.processes[process].1;
        assert!(self.kernel.get_mut().signal(main, Sig::Kill));
        self.still();
    }

    fn turns(&mut self, count: u32) {
        self.steps(count);
    }

    fn thread(&mut self) -> usize {
        self.thread_in(0)
    }

    fn thread_in(&mut self, process: usize) -> usize {
        let (mm, _) = self.processes[process];
        self.threads.push(self.kernel.get_mut().new_thread(mm));
        self.told.push((None, Content::Zero));
        self.threads.len() - 1
    }

    fn adopt(&mut self, fd: i32) -> usize {
        self.push_fd(SimFd { process: 0, number: Fd(fd) })
    }

    fn start(&mut self, thread: usize, op: Op) {
        let call = self.file_call(thread, op);
        self.told[thread].0 = Some(op);
        self.kernel.get_mut().begin(self.threads[thread], call);
    }

    fn settle(&mut self, thread: usize) -> Settled {
        if !self.still() {
            return Settled::Spinning;
        }
        let kernel = self.kernel.get_mut();
        let id = self.threads[thread];
        let Some(ret) = kernel.take_ret(id) else {
            let dead = kernel.is_dead(id);
            return if dead { Settled::Returned(Back::Killed) } else { Settled::Asleep };
        };
        let (op, loaded) = self.told[thread];
        Settled::Returned(match (ret, op.expect("it was told something")) {
            (Ret::Forked(mm), op) => {
                let main = kernel.new_thread(mm);
                self.processes.push((mm, main));
                let process = self.processes.len() - 1;
                if op == Op::Fork {
                    // The child of a plain fork has none of its parent's userfaultfds.
                    for number in 0..64 {
                        let _ = self.main(process, FileCall::Close { fd: Fd(number) });
                    }
                }
                Back::Forked(process)
            }
            (Ret::Ok(bytes), Op::ReadBlocking { .. }) => {
                kernel.inbox(id).clear();
                Back::Read(bytes as usize / 32)
            }
            (
                Ret::Ok(_),
                Op::UserCopy { write: false, .. }
                | Op::ProcMem { write: false, .. }
                | Op::Remote { write: false, .. },
            ) => Back::Loaded(loaded),
            (ret, _) => SimArm::back(ret),
        })
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
        let pages = (0..self.pages).filter(|page| page % granule(&self.pieces, *page) == 0);
        pages.map(|page| (page, SimArm::entry_of(kernel, mm, page))).collect()
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

fn prot(flags: VmaFlags) -> Prot {
    let mut bits = 0;
    for one in [Prot::READ, Prot::WRITE, Prot::EXEC] {
        if flags.contains(one.flags()) {
            bits |= one.bits();
        }
    }
    Prot::from_bits(bits).expect("three bits")
}
