//! `UFFDIO_COPY` out of memory that may itself be absent, watched or broken: the source is an
//! address of the caller (rules a4, d34, e9, e10). Owns the letting go of the locks while the
//! source is faulted in, and the second look at everything afterwards. A `COPY` of bytes that
//! are at hand goes the short way, in `resolve.rs`.
//!
//! # Divergence from Linux
//!
//! The source is whole pages of ordinary size: anything else is `ENOTMODELLED`, and so is a
//! destination in hugetlb memory where nothing is yet.

use shims::{Addr, Errno, Outcome, Request};

use super::call::{MmId, Ret, ThreadId};
use super::did::Did;
use super::fault::{By, Fault};
use super::resolve::{TASK_SIZE, answer};
use super::run::{FaultPc, Next, ResolvePc};
use super::{Kernel, PAGE, page_addr, page_of};
use crate::Content;
use crate::vma::CtxId;

/// Such a copy under way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct CopyFrom {
    ctx: CtxId,
    request: Request,
    src: Addr,
    at: CopyPc,
}

/// Where it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum CopyPc {
    /// Without a lock, or with those of the pages done: what every resolving ioctl does.
    Resolve(ResolvePc),
    /// The source of this page was not to be had at once. The locks are given back, and it is
    /// faulted in.
    Fetch { done: u64, at: FaultPc },
    /// The bytes of this page are kept; take the locks again and look at everything again.
    Again { done: u64, content: Content },
}

impl CopyFrom {
    pub(super) fn new(ctx: CtxId, request: Request, src: Addr) -> CopyFrom {
        CopyFrom { ctx, request, src, at: CopyPc::Resolve(ResolvePc::Enter) }
    }

    pub(super) fn fault_pc(&mut self) -> Option<&mut FaultPc> {
        match &mut self.at {
            CopyPc::Fetch { at, .. } => Some(at),
            CopyPc::Resolve(_) | CopyPc::Again { .. } => None,
        }
    }

    /// The context in which its thread sleeps.
    pub(super) fn asleep(&self) -> Option<CtxId> {
        match self.at {
            CopyPc::Fetch { at: FaultPc::Asleep(ctx), .. } => Some(ctx),
            _ => None,
        }
    }

    /// Where it is, if an ioctl that copies bytes at hand could be there.
    pub(super) fn resolve_pc(&self) -> Option<ResolvePc> {
        match self.at {
            CopyPc::Resolve(at) => Some(at),
            CopyPc::Fetch { .. } | CopyPc::Again { .. } => None,
        }
    }

    fn source(&self, done: u64) -> Addr {
        Addr::new(self.src.raw() + done * PAGE.bytes())
    }
}

impl Kernel {
    pub(super) fn step_copy_from(
        &mut self,
        thread: ThreadId,
        caller: MmId,
        mut copy: CopyFrom,
    ) -> (Next<CopyFrom>, Did) {
        let CopyFrom { ctx, request, .. } = copy;
        let (next, did) = match copy.at {
            CopyPc::Resolve(at) => {
                let (done, held) = match at {
                    ResolvePc::Locked => match self.look_up_to_fill(ctx, &request) {
                        Ok(()) => (0, false),
                        Err(outcome) => return over(answer(0, outcome)),
                    },
                    ResolvePc::Page(done) => (done, true),
                    ResolvePc::Enter => {
                        let (next, did) =
                            self.step_resolve(caller, ctx, request, Content::Zero, at);
                        if let (Next::At(_), Err(errno)) = (&next, self.check_source(&copy)) {
                            return over(answer(0, Outcome::bare(errno)));
                        }
                        return copy.resolve((next, did));
                    }
                    _ => {
                        return copy.resolve(self.step_resolve(
                            caller,
                            ctx,
                            request,
                            Content::Zero,
                            at,
                        ));
                    }
                };
                // The source comes before the look at the destination, but for a huge page
                // there (e10).
                let mm = self.ctx(ctx).mm;
                let dst = page_of(request.range().start) + done;
                let hugetlb = self.granule_pages(mm, dst) != 1;
                if hugetlb && self.mm(mm).table.get(dst).is_none() {
                    self.hold(ctx, mm, held, false);
                    return copy.resolve(stop(done, Errno::ENOTMODELLED));
                }
                let source = match self.mm(mm).unit_of(dst) {
                    None if !hugetlb => self.peek(caller, page_of(copy.source(done))),
                    _ => Some(Content::Zero),
                };
                match source {
                    Some(content) => self.do_page(ctx, &request, content, done, held),
                    None => {
                        self.hold(ctx, mm, held, false);
                        copy.at = CopyPc::Fetch { done, at: FaultPc::Classify };
                        let page = page_addr(dst);
                        return (Next::At(copy), Did::LetGo { page });
                    }
                }
            }
            CopyPc::Fetch { done, at } => {
                let byte = copy.source(done);
                let vpn = page_of(byte);
                match self.step_fault(thread, caller, (byte, vpn), By::CopyFrom, at) {
                    Fault::At(at, did) => {
                        copy.at = CopyPc::Fetch { done, at };
                        return (Next::At(copy), did);
                    }
                    Fault::Ready(content) => {
                        copy.at = CopyPc::Again { done, content };
                        return (Next::At(copy), Did::Load { page: page_addr(vpn), content });
                    }
                    Fault::Refused(_) => stop(done, Errno::EFAULT),
                    Fault::Killed(did) => return (Next::Done(Ret::Err(Errno::EINTR)), did),
                }
            }
            // What was read stays read, whatever has become of the source meanwhile.
            CopyPc::Again { done, content } => match self.look_up_to_fill(ctx, &request) {
                Ok(()) => self.do_page(ctx, &request, content, done, false),
                Err(outcome) if done == 0 => return over(answer(0, outcome)),
                Err(outcome) => stop(done, outcome.errno.expect("it is an error")),
            },
        };
        copy.resolve((next, did))
    }

    /// e9: the source range, which is looked at before the destination. All of these refusals
    /// look alike.
    fn check_source(&self, copy: &CopyFrom) -> Result<(), Errno> {
        let range = copy.request.range();
        let start = copy.src.raw();
        if start >= TASK_SIZE || range.len.bytes() > TASK_SIZE - start {
            return Err(Errno::EINVAL);
        }
        if !copy.src.is_aligned(PAGE) {
            return Err(Errno::ENOTMODELLED);
        }
        Ok(())
    }
}

impl CopyFrom {
    /// Where an ioctl that copies bytes at hand would be.
    fn resolve(self, (next, did): (Next<ResolvePc>, Did)) -> (Next<CopyFrom>, Did) {
        match next {
            Next::At(at) => (Next::At(CopyFrom { at: CopyPc::Resolve(at), ..self }), did),
            Next::Done(ret) => (Next::Done(ret), did),
        }
    }
}

/// e3, e5: the pages done are woken, and the reason shows when the rest is tried.
fn stop(done: u64, errno: Errno) -> (Next<ResolvePc>, Did) {
    if done == 0 {
        return answer(0, Outcome::mirrored(errno));
    }
    let at = ResolvePc::Wake { bytes: done * PAGE.bytes(), stopped: Some(errno) };
    (Next::At(at), Did::Return(Ret::Err(errno)))
}

fn over((next, did): (Next<ResolvePc>, Did)) -> (Next<CopyFrom>, Did) {
    match next {
        Next::Done(ret) => (Next::Done(ret), did),
        Next::At(at) => unreachable!("an answer is the end, not {at:?}"),
    }
}
