//! The simulated kernel as an [`Arm`]: threads move one after another until none can.

use core::cell::RefCell;

use shims::{Addr, Errno, Features, Len, RegisterModes, Span, Tid, Uffd};
use sim::kernel::{Call, Kernel, Marker, MmId, Pte, PteBits, Ret, Signal, SimUffd, ThreadId};
use sim::vma::{CtxId, Mmap, Mremap, Prot, VmaFlags};
use sim::world::BASE;
use sim::{Content, Profile};

use crate::arm::{Area, Arm, Back, Entry, Kind, Op, PAGE, Piece, Settled, bytes};

pub(crate) struct SimArm {
    kernel: RefCell<Kernel>,
    /// The processes, each with the thread that uses the userfaultfds.
    processes: Vec<(MmId, ThreadId)>,
    threads: Vec<ThreadId>,
    /// Each with whether it is open.
    ctxs: Vec<(CtxId, bool)>,
    pages: u64,
}

impl SimArm {
    pub(crate) fn new(profile: Profile, pages: u64, pieces: &[Piece]) -> SimArm {
        let mut kernel = Kernel::new(profile);
        let mm = kernel.new_mm();
        let handler = kernel.new_thread(mm);
        for piece in pieces {
            let at = BASE.raw() + piece.at * PAGE;
            assert_eq!(piece.kind, Kind::Anon, "the simulator has no other memory yet");
            let map = Call::Mmap(Mmap::fixed(at, piece.pages * PAGE, piece.prot));
            assert_eq!(kernel.run(handler, map), Ret::Ok(at));
        }
        SimArm {
            kernel: RefCell::new(kernel),
            processes: vec![(mm, handler)],
            threads: Vec::new(),
            ctxs: Vec::new(),
            pages,
        }
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
            op => panic!("the simulator has no call for {op:?}; say so with `kernel_only`"),
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
        self.kernel.get_mut().begin(self.threads[thread], SimArm::call(thread, op));
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
        self.entries(0).into_iter().map(|(_, entry)| entry.content).collect()
    }

    fn entries(&mut self, process: usize) -> Vec<(u64, Entry)> {
        let table = self.kernel.get_mut().table(self.processes[process].0);
        let first = BASE.raw() / PAGE;
        let entry = |page| match table.get(first + page) {
            Pte::None => Entry::default(),
            Pte::Present { content, bits } => {
                Entry { content: Some(content), wp: bits.contains(PteBits::UFFD_WP), marker: false }
            }
            Pte::Marker(marker) => {
                Entry { content: None, wp: marker == Marker::WriteProtect, marker: true }
            }
        };
        (0..self.pages).map(|page| (page, entry(page))).collect()
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
