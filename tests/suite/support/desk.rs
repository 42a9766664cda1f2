//! A machine for tests about descriptors, processes and signals: everything goes through the
//! numbers a program would use.

use shims::{CopyMode, Event, Features, Outcome, RegisterModes, Request};
use sim::Profile;
use sim::kernel::{
    ApiStruct, Call, Did, Fd, FileCall, Kernel, MmId, Payload, ProcessCall, Reading, Ret, Sig,
    ThreadId, flags,
};
use sim::vma::{CtxId, Mmap, Prot};
use sim::world::BASE;

use super::{source, span};

pub(crate) const NONBLOCK: u32 = flags::O_NONBLOCK;

pub(crate) struct Desk {
    pub(crate) kernel: Kernel,
    pub(crate) mm: MmId,
    /// A thread of the first process.
    pub(crate) me: ThreadId,
}

impl Desk {
    pub(crate) fn new() -> Desk {
        Desk::with(Profile::default())
    }

    pub(crate) fn with(profile: Profile) -> Desk {
        let mut kernel = Kernel::new(profile);
        let mm = kernel.new_mm();
        let me = kernel.new_thread(mm);
        Desk { kernel, mm, me }
    }

    /// A process of its own, with one thread.
    pub(crate) fn process(&mut self) -> (MmId, ThreadId) {
        let mm = self.kernel.new_mm();
        (mm, self.kernel.new_thread(mm))
    }

    pub(crate) fn thread(&mut self) -> ThreadId {
        self.kernel.new_thread(self.mm)
    }

    /// Map `pages` pages, and watch them with a new userfaultfd opened with `word`.
    pub(crate) fn watched(&mut self, pages: u64, word: u32, features: Features) -> Fd {
        let map = Mmap::fixed(BASE.raw(), span(0, pages).len.bytes(), Prot::RW);
        assert_eq!(self.go(self.me, Call::Mmap(map)), Some(Ret::Ok(BASE.raw())));
        let fd = self.started(word, features);
        let register =
            FileCall::Register { fd, range: span(0, pages), modes: RegisterModes::MISSING };
        assert!(matches!(self.file(register), Ret::Ok(_)));
        fd
    }

    /// A userfaultfd that has had its handshake.
    pub(crate) fn started(&mut self, word: u32, features: Features) -> Fd {
        let fd = self.opened(word);
        assert_eq!(self.api(fd, features.bits()), Ret::Ok(0));
        fd
    }

    pub(crate) fn opened(&mut self, flags: u32) -> Fd {
        match self.file(FileCall::Userfaultfd { flags }) {
            Ret::Ok(fd) => Fd(fd as i32),
            ret => panic!("userfaultfd(2) answered {ret:?}"),
        }
    }

    pub(crate) fn api(&mut self, fd: Fd, features: u64) -> Ret {
        let arg = ApiStruct { api: flags::API, features, ioctls: 0 };
        self.file(FileCall::Api { fd, arg: Some(arg) })
    }

    /// A call of the first thread that does not sleep.
    #[track_caller]
    pub(crate) fn file(&mut self, call: FileCall) -> Ret {
        self.file_by(self.me, call)
    }

    #[track_caller]
    pub(crate) fn file_by(&mut self, thread: ThreadId, call: FileCall) -> Ret {
        self.go(thread, Call::File(call)).expect("the call does not sleep")
    }

    #[track_caller]
    pub(crate) fn process_call(&mut self, thread: ThreadId, call: ProcessCall) -> Option<Ret> {
        self.go(thread, Call::Process(call))
    }

    pub(crate) fn go(&mut self, thread: ThreadId, call: Call) -> Option<Ret> {
        self.kernel.begin(thread, call);
        self.on(thread)
    }

    pub(crate) fn on(&mut self, thread: ThreadId) -> Option<Ret> {
        while self.kernel.can_step(thread) {
            self.kernel.step(thread);
        }
        self.kernel.take_ret(thread)
    }

    pub(crate) fn step(&mut self, thread: ThreadId) -> Did {
        self.kernel.step(thread)
    }

    /// Messages of one read through `fd` by `thread`, and its value.
    pub(crate) fn read_by(
        &mut self,
        thread: ThreadId,
        reading: Reading,
    ) -> (Option<Ret>, Vec<Event>) {
        let ret = self.go(thread, Call::File(FileCall::Read(reading)));
        (ret, std::mem::take(self.kernel.inbox(thread)))
    }

    pub(crate) fn read(&mut self, fd: Fd, messages: u64) -> (Option<Ret>, Vec<Event>) {
        self.read_by(self.me, Reading::new(fd, messages * 32))
    }

    /// What `poll` with a timeout of zero reports.
    pub(crate) fn look(&mut self, fd: Fd) -> u64 {
        match self.file(FileCall::Poll { fd, wait: false }) {
            Ret::Ok(revents) => revents,
            ret => panic!("poll answered {ret:?}"),
        }
    }

    pub(crate) fn ctx(&mut self, fd: Fd) -> CtxId {
        self.kernel.fd(self.me, fd).and_then(|view| view.ctx).expect("a userfaultfd")
    }

    pub(crate) fn load(&mut self, thread: ThreadId, n: u64) -> Option<Ret> {
        self.go(thread, Call::Load { addr: super::page(n) })
    }

    pub(crate) fn remove(&mut self, thread: ThreadId, start: u64, end: u64) -> Option<Ret> {
        self.go(thread, Call::DontNeed { range: span(start, end) })
    }

    pub(crate) fn resolve_by(&mut self, thread: ThreadId, fd: Fd, request: Request) -> Ret {
        let range = request.range();
        let pages = range.len.bytes() / 4096;
        let first = range.start.raw().wrapping_sub(BASE.raw()) / 4096;
        let contents: Vec<_> = (first..first + pages).map(source).collect();
        let payload = match request {
            Request::Copy { .. } => Payload::Many(contents.into()),
            _ => Payload::None,
        };
        self.file_by(thread, FileCall::Resolve { fd, request, payload })
    }

    pub(crate) fn copy_by(&mut self, thread: ThreadId, fd: Fd, start: u64, end: u64) -> Outcome {
        let request = Request::Copy { dst: span(start, end), mode: CopyMode::empty() };
        match self.resolve_by(thread, fd, request) {
            Ret::Outcome(outcome) => outcome,
            ret => panic!("COPY answered {ret:?}"),
        }
    }

    pub(crate) fn copy(&mut self, fd: Fd, start: u64, end: u64) -> Outcome {
        self.copy_by(self.me, fd, start, end)
    }

    pub(crate) fn signal(&mut self, thread: ThreadId, restart: bool) {
        assert!(self.kernel.signal(thread, Sig::Handled { restart }));
    }

    pub(crate) fn kill(&mut self, thread: ThreadId) {
        assert!(self.kernel.signal(thread, Sig::Kill));
    }

    /// Let everybody move until nobody can.
    pub(crate) fn settle(&mut self, threads: &[ThreadId]) {
        while let Some(&next) = threads.iter().find(|&&thread| self.kernel.can_step(thread)) {
            self.kernel.step(next);
        }
    }
}
