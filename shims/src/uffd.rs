//! The seam: what a handler can ask of a userfaultfd.

use crate::{
    Addr, ApiIoctls, ContinueMode, CopyMode, Errno, Event, Features, MoveMode, Outcome, PoisonMode,
    RangeIoctls, RegisterModes, Request, Span, WriteProtectMode, ZeropageMode,
};

/// What `UFFDIO_API` answers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ApiReply {
    /// All features the kernel has, not those that were enabled (rule a7).
    pub features: Features,
    /// The ioctls of the descriptor.
    pub ioctls: ApiIoctls,
}

/// A userfaultfd: one method per ioctl, plus `read`.
///
/// No method waits: the descriptor is non-blocking, and waiting belongs to
/// [`Waiter`](crate::Waiter). Methods take `&self`, because the kernel lets any number of
/// threads use one descriptor at once.
///
/// Errors are the kernel's. A backend adds none and hides none, with one exception that
/// it documents: it may retry `EINTR`.
pub trait Uffd {
    /// `UFFDIO_API`: enable `features` and start the descriptor. Works once; asking what a
    /// kernel has takes a second descriptor (rules a6, a7).
    fn api(&self, features: Features) -> Result<ApiReply, Errno>;

    /// `UFFDIO_REGISTER`: watch the mapped parts of `range` (rules b2 to b7).
    fn register(&self, range: Span, modes: RegisterModes) -> Result<RangeIoctls, Errno>;

    /// `UFFDIO_UNREGISTER`: stop watching `range`. Wakes faulters only where `MISSING` was
    /// registered (rule b13).
    fn unregister(&self, range: Span) -> Result<(), Errno>;

    /// `read(2)`: append up to `max` messages to `out` and tell how many. Page faults come
    /// before events, each in order of arrival (rule a11). Reading a `Remove` lets the
    /// remover go on (rule d2).
    ///
    /// Nothing queued is `EAGAIN`. `Ok(0)` is end of file, which no userfaultfd reports: a
    /// reader that sees it does not hold a userfaultfd any more.
    fn read_events(&self, out: &mut Vec<Event>, max: usize) -> Result<usize, Errno>;

    /// `UFFDIO_COPY`: install the first `dst.len` bytes of `src` at `dst`.
    ///
    /// # Panics
    ///
    /// If `src` is shorter than `dst`.
    fn copy(&self, dst: Span, src: &[u8], mode: CopyMode) -> Outcome;

    /// `UFFDIO_ZEROPAGE`: install zero pages. `EINVAL` on hugetlb (rule e14).
    fn zeropage(&self, range: Span, mode: ZeropageMode) -> Outcome;

    /// `UFFDIO_CONTINUE`: map pages that the page cache holds (rule e15).
    fn continue_(&self, range: Span, mode: ContinueMode) -> Outcome;

    /// `UFFDIO_WRITEPROTECT`: protect, or un-protect and wake. Has no result field (rule
    /// e17).
    fn write_protect(&self, range: Span, mode: WriteProtectMode) -> Outcome;

    /// `UFFDIO_MOVE`: move anonymous pages from `src` to `dst` (rules e20 to e22).
    fn move_(&self, dst: Span, src: Addr, mode: MoveMode) -> Outcome;

    /// `UFFDIO_POISON`: make accesses fail (rule e16).
    fn poison(&self, range: Span, mode: PoisonMode) -> Outcome;

    /// `UFFDIO_WAKE`: wake every faulter in `range`, resolved or not (rules c11, e23).
    fn wake(&self, range: Span) -> Result<(), Errno>;

    /// Perform `request`; `payload` is the bytes of a [`Request::Copy`] and is ignored
    /// otherwise.
    ///
    /// # Panics
    ///
    /// As [`copy`](Uffd::copy) does.
    fn submit(&self, request: &Request, payload: &[u8]) -> Outcome {
        match *request {
            Request::Copy { dst, mode } => self.copy(dst, payload, mode),
            Request::Zeropage { range, mode } => self.zeropage(range, mode),
            Request::Continue { range, mode } => self.continue_(range, mode),
            Request::WriteProtect { range, mode } => self.write_protect(range, mode),
            Request::Move { dst, src, mode } => self.move_(dst, src, mode),
            Request::Poison { range, mode } => self.poison(range, mode),
            Request::Wake { range } => match self.wake(range) {
                Ok(()) => Outcome::OK,
                Err(errno) => Outcome::bare(errno),
            },
        }
    }
}

macro_rules! delegate {
    ($($of:ty),*) => {$(
impl<U: Uffd + ?Sized> Uffd for $of {
    fn api(&self, features: Features) -> Result<ApiReply, Errno> {
        (**self).api(features)
    }
    fn register(&self, range: Span, modes: RegisterModes) -> Result<RangeIoctls, Errno> {
        (**self).register(range, modes)
    }
    fn unregister(&self, range: Span) -> Result<(), Errno> {
        (**self).unregister(range)
    }
    fn read_events(&self, out: &mut Vec<Event>, max: usize) -> Result<usize, Errno> {
        (**self).read_events(out, max)
    }
    fn copy(&self, dst: Span, src: &[u8], mode: CopyMode) -> Outcome {
        (**self).copy(dst, src, mode)
    }
    fn zeropage(&self, range: Span, mode: ZeropageMode) -> Outcome {
        (**self).zeropage(range, mode)
    }
    fn continue_(&self, range: Span, mode: ContinueMode) -> Outcome {
        (**self).continue_(range, mode)
    }
    fn write_protect(&self, range: Span, mode: WriteProtectMode) -> Outcome {
        (**self).write_protect(range, mode)
    }
    fn move_(&self, dst: Span, src: Addr, mode: MoveMode) -> Outcome {
        (**self).move_(dst, src, mode)
    }
    fn poison(&self, range: Span, mode: PoisonMode) -> Outcome {
        (**self).poison(range, mode)
    }
    fn wake(&self, range: Span) -> Result<(), Errno> {
        (**self).wake(range)
    }
}
)*};
}

delegate!(&U, std::sync::Arc<U>);
