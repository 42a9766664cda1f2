//! What a world gives to a handler that is ordinary code: the userfaultfd, a waiter, the
//! memory and the source. Owns the translation of their calls into scheduling points.

use std::panic::resume_unwind;

use shims::{
    Addr, ApiReply, ContinueMode, CopyMode, Errno, Event, Features, Len, MoveMode, Outcome,
    PageRange, PoisonMode, RangeIoctls, RegisterModes, Request, Span, Time, Wakeup,
    WriteProtectMode, ZeropageMode,
};

use super::op::{Op, Reply};
use super::point::{point, with};
use crate::content::{Content, STAMP_LEN};
use crate::kernel::{Call, PAGE, Payload, Ret, payload_of};
use crate::vma::CtxId;
use crate::world::{BASE, Mishap};

/// What a handler is given to work with.
#[derive(Clone, Copy, Debug)]
pub struct Bed {
    pages: u64,
    ctx: CtxId,
}

/// The userfaultfd of a world. Copies are the same descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Uffd {
    ctx: CtxId,
}

/// A `poll` over the userfaultfd of a world and a bell. Copies share the bell.
#[derive(Clone, Copy, Debug)]
pub struct Waiter;

/// The pages behind the memory of a world.
#[derive(Clone, Copy, Debug)]
pub struct Source;

impl Bed {
    pub(super) fn new(pages: u64, ctx: CtxId) -> Bed {
        Bed { pages, ctx }
    }

    /// The userfaultfd. The memory is registered with it.
    pub fn uffd(&self) -> Uffd {
        Uffd { ctx: self.ctx }
    }

    /// Where to wait for it.
    pub fn waiter(&self) -> Waiter {
        Waiter
    }

    /// The memory.
    pub fn memory(&self) -> PageRange {
        let len = Len::pages(self.pages, PAGE).expect("a world has few pages");
        PageRange::new(BASE, len, PAGE).expect("a world's memory is aligned")
    }

    /// Wait until the scenario asks the handler to stop. Whoever waits here says by it that the
    /// handler can be asked.
    pub fn until_stopped(&self) {
        point(Op::UntilStopped);
    }

    /// Close the userfaultfd, as the end of its last owner does.
    pub fn close(&self) {
        point(Op::Call(Call::Close { ctx: self.ctx }));
    }

    /// `fork` of the process that the handler and the tasks live in. The child does nothing.
    pub fn fork(&self) -> Result<(), Errno> {
        match point(Op::Call(Call::Fork)) {
            Reply::Ret(Ret::Err(errno), _) => Err(errno),
            // Or its thread unwinds.
            _ => Ok(()),
        }
    }

    /// What it is to be filled with.
    pub fn source(&self) -> Source {
        Source
    }
}

impl Source {
    /// Fill `buf`, which is one page long, with page `page`. Others may move meanwhile, as
    /// they may while a disk or a network is read.
    pub fn read_page(&self, page: u64, buf: &mut [u8]) {
        point(Op::Fetch { page, may_fail: false });
        fill(page, buf);
    }

    /// The same of a source that may fail, if the scenario lets it: like a `pread`, with an
    /// error, or with fewer bytes than a page; or it panics.
    pub fn try_read_page(&self, page: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        match point(Op::Fetch { page, may_fail: true }) {
            Reply::Broken(Mishap::SourceError) => Err(Errno::EIO),
            Reply::Broken(Mishap::SourceShort) => {
                fill(page, buf);
                let half = buf.len() / 2;
                buf[half..].fill(0);
                Ok(half)
            }
            // Nobody is to read of it: it is meant.
            Reply::Broken(Mishap::Panic) => resume_unwind(Box::new("the source panicked")),
            _ => {
                fill(page, buf);
                Ok(buf.len())
            }
        }
    }
}

fn fill(page: u64, buf: &mut [u8]) {
    buf.fill(0);
    let content = Content::Source { page: page as u32, version: 0 };
    buf[..STAMP_LEN].copy_from_slice(&content.stamp());
}

impl Uffd {
    fn call(&self, call: Call) -> (Ret, Vec<Event>) {
        match point(Op::Call(call)) {
            Reply::Ret(ret, events) => (ret, events),
            // Its thread unwinds: the answer is dropped.
            _ => (Ret::Err(Errno::EBADF), Vec::new()),
        }
    }

    fn resolve(&self, request: Request, payload: Payload) -> Outcome {
        match self.call(Call::Resolve { ctx: self.ctx, request, payload }).0 {
            Ret::Outcome(outcome) => outcome,
            Ret::Err(errno) => Outcome::bare(errno),
            ret => unreachable!("a resolving ioctl answered {ret:?}"),
        }
    }
}

impl shims::Uffd for Uffd {
    /// The context was started when the world was made: a second `UFFDIO_API` is `EINVAL`
    /// (rule a6).
    fn api(&self, _: Features) -> Result<ApiReply, Errno> {
        Err(Errno::EINVAL)
    }

    fn register(&self, range: Span, modes: RegisterModes) -> Result<RangeIoctls, Errno> {
        match self.call(Call::Register { ctx: self.ctx, range, modes }).0 {
            Ret::Ok(bits) => Ok(RangeIoctls::from_bits_retain(bits)),
            Ret::Err(errno) => Err(errno),
            ret => unreachable!("REGISTER answered {ret:?}"),
        }
    }

    fn unregister(&self, range: Span) -> Result<(), Errno> {
        match self.call(Call::Unregister { ctx: self.ctx, range }).0 {
            Ret::Ok(_) => Ok(()),
            Ret::Err(errno) => Err(errno),
            ret => unreachable!("UNREGISTER answered {ret:?}"),
        }
    }

    fn read_events(&self, out: &mut Vec<Event>, max: usize) -> Result<usize, Errno> {
        if max == 0 {
            return Err(Errno::EINVAL);
        }
        let (ret, events) = self.call(Call::Read { ctx: self.ctx, max });
        out.extend(events);
        match ret {
            Ret::Read(count) => Ok(count),
            Ret::Err(errno) => Err(errno),
            ret => unreachable!("read answered {ret:?}"),
        }
    }

    fn copy(&self, dst: Span, src: &[u8], mode: CopyMode) -> Outcome {
        let payload = payload_of(dst, src, PAGE);
        self.resolve(Request::Copy { dst, mode }, payload)
    }

    fn zeropage(&self, range: Span, mode: ZeropageMode) -> Outcome {
        self.resolve(Request::Zeropage { range, mode }, Payload::None)
    }

    fn continue_(&self, range: Span, mode: ContinueMode) -> Outcome {
        self.resolve(Request::Continue { range, mode }, Payload::None)
    }

    fn write_protect(&self, range: Span, mode: WriteProtectMode) -> Outcome {
        self.resolve(Request::WriteProtect { range, mode }, Payload::None)
    }

    fn move_(&self, dst: Span, src: Addr, mode: MoveMode) -> Outcome {
        self.resolve(Request::Move { dst, src, mode }, Payload::None)
    }

    fn poison(&self, range: Span, mode: PoisonMode) -> Outcome {
        self.resolve(Request::Poison { range, mode }, Payload::None)
    }

    fn wake(&self, range: Span) -> Result<(), Errno> {
        match self.resolve(Request::Wake { range }, Payload::None).errno {
            None => Ok(()),
            Some(errno) => Err(errno),
        }
    }
}

impl shims::Waiter for Waiter {
    fn now(&self) -> Time {
        with(|run| run.now()).unwrap_or_default()
    }

    fn wait(&self, until: Option<Time>) -> Result<Wakeup, Errno> {
        match point(Op::Poll { until }) {
            Reply::Wakeup(wakeup) => Ok(wakeup),
            // Its thread unwinds.
            _ => Ok(Wakeup::empty()),
        }
    }

    fn notify(&self) {
        point(Op::Ring);
    }
}
