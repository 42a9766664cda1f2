//! What the tests of the kernel share: a small machine, ready to be driven by hand.

pub(crate) mod desk;
pub(crate) mod memory;

use shims::{
    Addr, CopyMode, Event, Features, Len, Outcome, RegisterModes, Request, Span, WriteProtectMode,
};
use sim::kernel::{Call, Did, Kernel, MmId, PAGE, Payload, Pte, Ret, ThreadId};
use sim::vma::{CtxId, Mmap, Prot};
use sim::world::BASE;
use sim::{Content, Profile};

/// A process with some pages registered for `MISSING`, two threads, and a handler thread.
pub(crate) struct Bed {
    pub(crate) kernel: Kernel,
    pub(crate) mm: MmId,
    pub(crate) ctx: CtxId,
    pub(crate) handler: ThreadId,
}

impl Bed {
    pub(crate) fn new(pages: u64) -> Bed {
        Bed::with(pages, Profile::default(), Features::EVENT_REMOVE)
    }

    pub(crate) fn with(pages: u64, profile: Profile, features: Features) -> Bed {
        Bed::registered(pages, profile, features, RegisterModes::MISSING)
    }

    /// The same, registered for `modes`.
    pub(crate) fn registered(
        pages: u64,
        profile: Profile,
        features: Features,
        modes: RegisterModes,
    ) -> Bed {
        let mut kernel = Kernel::new(profile);
        let mm = kernel.new_mm();
        let handler = kernel.new_thread(mm);
        let range = span(0, pages);
        let map = Call::Mmap(Mmap::fixed(BASE.raw(), range.len.bytes(), Prot::RW));
        assert_eq!(kernel.run(handler, map), Ret::Ok(BASE.raw()));
        let ctx = kernel.userfaultfd(mm, features).unwrap();
        let mut bed = Bed { kernel, mm, ctx, handler };
        let mut mask = if modes.contains(RegisterModes::WP) { 0x5c } else { 0x1c };
        // POISON and MOVE are ioctls of later kernels.
        let has = |feature| bed.kernel.profile().features.contains(feature);
        mask |= if has(Features::MOVE) { 0x20 } else { 0 };
        mask |= if has(Features::POISON) { 0x100 } else { 0 };
        assert_eq!(bed.register(0, pages, modes), Ret::Ok(mask), "the mask of rule b6");
        bed
    }

    pub(crate) fn register(&mut self, start: u64, end: u64, modes: RegisterModes) -> Ret {
        let register = Call::Register { ctx: self.ctx, range: span(start, end), modes };
        self.kernel.run(self.handler, register)
    }

    /// The entry of a page.
    pub(crate) fn pte(&self, n: u64) -> Pte {
        self.kernel.table(self.mm).get(page(n).raw() >> 12)
    }

    /// `UFFDIO_WRITEPROTECT`.
    pub(crate) fn protect(&mut self, start: u64, end: u64, mode: WriteProtectMode) -> Outcome {
        let request = Request::WriteProtect { range: span(start, end), mode };
        self.resolve(request, Payload::None)
    }

    pub(crate) fn thread(&mut self) -> ThreadId {
        self.kernel.new_thread(self.mm)
    }

    /// Let `thread` begin `call` and move as far as it can alone.
    pub(crate) fn go(&mut self, thread: ThreadId, call: Call) -> Option<Ret> {
        self.kernel.begin(thread, call);
        self.on(thread)
    }

    /// Let `thread` move on as far as it can alone.
    pub(crate) fn on(&mut self, thread: ThreadId) -> Option<Ret> {
        while self.kernel.can_step(thread) {
            self.kernel.step(thread);
        }
        self.kernel.take_ret(thread)
    }

    pub(crate) fn step(&mut self, thread: ThreadId) -> Did {
        self.kernel.step(thread)
    }

    pub(crate) fn load(&mut self, thread: ThreadId, n: u64) -> Option<Ret> {
        self.go(thread, Call::Load { addr: page(n) })
    }

    pub(crate) fn store(&mut self, thread: ThreadId, n: u64) -> Option<Ret> {
        let content = Content::Written { task: thread.0, seq: 1 };
        self.go(thread, Call::Store { addr: page(n), content })
    }

    /// Messages of one read of up to `max`.
    pub(crate) fn read(&mut self, max: usize) -> Vec<Event> {
        let ret = self.kernel.run(self.handler, Call::Read { ctx: self.ctx, max });
        let events = std::mem::take(self.kernel.inbox(self.handler));
        match ret {
            Ret::Read(count) => assert_eq!(count, events.len()),
            ret => assert_eq!(ret, Ret::Err(shims::Errno::EAGAIN)),
        }
        events
    }

    /// `UFFDIO_COPY` of source pages to `start..end`.
    pub(crate) fn copy(&mut self, start: u64, end: u64) -> Outcome {
        self.copy_mode(start, end, CopyMode::empty())
    }

    pub(crate) fn copy_mode(&mut self, start: u64, end: u64, mode: CopyMode) -> Outcome {
        let contents: Vec<_> = (start..end).map(source).collect();
        let request = Request::Copy { dst: span(start, end), mode };
        self.resolve(request, Payload::Many(contents.into()))
    }

    pub(crate) fn resolve(&mut self, request: Request, payload: Payload) -> Outcome {
        match self.kernel.run(self.handler, Call::Resolve { ctx: self.ctx, request, payload }) {
            Ret::Outcome(outcome) => outcome,
            ret => panic!("a resolving ioctl answered {ret:?}"),
        }
    }
}

pub(crate) fn page(n: u64) -> Addr {
    BASE.checked_add(Len::pages(n, PAGE).unwrap()).unwrap()
}

pub(crate) fn span(start: u64, end: u64) -> Span {
    Span::between(page(start), page(end)).unwrap()
}

pub(crate) fn source(n: u64) -> Content {
    Content::Source { page: n as u32, version: 0 }
}
