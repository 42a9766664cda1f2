//! The simulated kernel behind the seam: [`shims::Uffd`] over a kernel that nobody else
//! moves meanwhile. Owns the translation of arguments; every answer is the kernel's.

use core::cell::RefCell;

use shims::{
    Addr, ApiReply, ContinueMode, CopyMode, Errno, Event, Features, MoveMode, Outcome, PageSize,
    PoisonMode, RangeIoctls, RegisterModes, Request, Span, Uffd, WriteProtectMode, ZeropageMode,
};

use super::call::{Call, Payload, Ret, ThreadId};
use super::{Kernel, PAGE};
use crate::Content;
use crate::vma::CtxId;

/// A userfaultfd of a simulated kernel, used by one of its threads.
///
/// Each method runs its call to the end in one go, so no other thread gets in between its
/// steps: right for straight-line tests and for measuring. A search moves the calls step
/// by step with [`Kernel::begin`] instead.
#[derive(Clone, Copy, Debug)]
pub struct SimUffd<'k> {
    kernel: &'k RefCell<Kernel>,
    ctx: CtxId,
    thread: ThreadId,
}

impl<'k> SimUffd<'k> {
    /// The userfaultfd `ctx`, used by `thread`, which must be idle.
    pub fn new(kernel: &'k RefCell<Kernel>, ctx: CtxId, thread: ThreadId) -> SimUffd<'k> {
        SimUffd { kernel, ctx, thread }
    }

    fn run(&self, call: Call) -> Ret {
        self.kernel.borrow_mut().run(self.thread, call)
    }

    fn resolve(&self, request: Request, payload: Payload) -> Outcome {
        match self.run(Call::Resolve { ctx: self.ctx, request, payload }) {
            Ret::Outcome(outcome) => outcome,
            ret => unreachable!("a resolving ioctl answered {ret:?}"),
        }
    }
}

/// The content of each page of a buffer that `UFFDIO_COPY` is given for `dst`, whose pages have
/// `page` bytes; nothing where the length is refused whatever the bytes are.
///
/// # Panics
///
/// If `dst` is whole pages and the buffer is shorter.
pub(crate) fn payload_of(dst: Span, src: &[u8], page: PageSize) -> Payload {
    if dst.len.bytes() == 0 || !dst.len.is_aligned(PAGE) {
        return Payload::None;
    }
    let len = usize::try_from(dst.len.bytes()).unwrap_or(usize::MAX);
    assert!(src.len() >= len, "the source buffer is shorter than the destination");
    let mut pages = src[..len].chunks(page.bytes() as usize).map(Content::of_bytes);
    match (pages.next(), pages.len()) {
        (Some(only), 0) => Payload::One(only),
        (first, _) => Payload::Many(first.into_iter().chain(pages).collect()),
    }
}

impl Kernel {
    /// What a `UFFDIO_COPY` of these bytes to `dst` brings along, a content for each page of the
    /// size that the pages of `dst` have.
    ///
    /// # Panics
    ///
    /// If `dst` is whole pages and the buffer is shorter.
    pub fn payload(&self, ctx: CtxId, dst: Span, src: &[u8]) -> Payload {
        let vma = self.space(self.ctx(ctx).mm).find(dst.start);
        payload_of(dst, src, vma.map_or(PAGE, |vma| vma.page_size()))
    }
}

impl Uffd for SimUffd<'_> {
    /// The context was started when it was made: a second `UFFDIO_API` is `EINVAL` (rule
    /// a6).
    fn api(&self, _features: Features) -> Result<ApiReply, Errno> {
        Err(Errno::EINVAL)
    }

    fn register(&self, range: Span, modes: RegisterModes) -> Result<RangeIoctls, Errno> {
        match self.run(Call::Register { ctx: self.ctx, range, modes }) {
            Ret::Ok(bits) => Ok(RangeIoctls::from_bits_retain(bits)),
            Ret::Err(errno) => Err(errno),
            ret => unreachable!("REGISTER answered {ret:?}"),
        }
    }

    fn unregister(&self, range: Span) -> Result<(), Errno> {
        match self.run(Call::Unregister { ctx: self.ctx, range }) {
            Ret::Ok(_) => Ok(()),
            Ret::Err(errno) => Err(errno),
            ret => unreachable!("UNREGISTER answered {ret:?}"),
        }
    }

    fn read_events(&self, out: &mut Vec<Event>, max: usize) -> Result<usize, Errno> {
        if max == 0 {
            return Err(Errno::EINVAL);
        }
        let ret = self.run(Call::Read { ctx: self.ctx, max });
        out.append(self.kernel.borrow_mut().inbox(self.thread));
        match ret {
            Ret::Read(count) => Ok(count),
            Ret::Err(errno) => Err(errno),
            ret => unreachable!("read answered {ret:?}"),
        }
    }

    fn copy(&self, dst: Span, src: &[u8], mode: CopyMode) -> Outcome {
        let payload = self.kernel.borrow().payload(self.ctx, dst, src);
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
