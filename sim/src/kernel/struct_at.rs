//! A resolving ioctl whose structure lies in memory of the caller, which may itself be absent,
//! watched or not to be written (rules e1, e2, e4). Owns the two times the kernel touches the
//! structure: it is read behind the gate, and the answer is written before anybody is woken.
//! What happens in between is the ioctl's own, in `resolve.rs` and `copy_from.rs`.
//!
//! # Divergence from Linux
//!
//! - What the structure says is told beside it; of the page it lies in only its being there and
//!   its protection count, and an answer that is written leaves the page's stamp as it was.
//! - A structure lies in one page.

use shims::{Addr, Errno, Field, Outcome, Request};

use super::call::{MmId, Payload, Ret, StructAt, ThreadId};
use super::copy_from::CopyFrom;
use super::did::Did;
use super::fault::{By, Fault};
use super::resolve::answer;
use super::run::{FaultPc, Next, ResolvePc, Run};
use super::{Kernel, page_addr, page_of};
use crate::vma::CtxId;

/// Such an ioctl under way.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct WithStruct {
    ctx: CtxId,
    request: Request,
    arg: Addr,
    payload: Payload,
    work: Work,
    at: StructPc,
}

/// What the ioctl itself has come to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Work {
    Resolve(ResolvePc),
    From(CopyFrom),
}

/// Where it is with its structure.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum StructPc {
    /// Look at the gate, before anything of the caller's is touched (e1).
    Gate,
    /// Read the structure.
    Read(FaultPc),
    /// Do what it says.
    Work,
    /// Write the answer. Behind that the pages that were done are woken, or the ioctl is over.
    Write { outcome: Outcome, wakes: bool, at: FaultPc },
    /// The answer is written; wake.
    Wake,
}

/// How `request` begins whose bytes are not simply at hand.
#[inline]
pub(super) fn begin(ctx: CtxId, request: Request, payload: Payload) -> Run {
    let copies = matches!(request, Request::Copy { .. });
    match payload {
        Payload::From(src) if copies => Run::CopyFrom(Box::new(CopyFrom::new(ctx, request, src))),
        Payload::At(place) => {
            let StructAt { at: arg, payload } = *place;
            let work = match payload {
                Payload::From(src) if copies => Work::From(CopyFrom::new(ctx, request, src)),
                _ => Work::Resolve(ResolvePc::Enter),
            };
            let at = StructPc::Gate;
            Run::WithStruct(Box::new(WithStruct { ctx, request, arg, payload, work, at }))
        }
        payload => Run::Resolve { ctx, request, payload, at: ResolvePc::Enter },
    }
}

impl WithStruct {
    pub(super) fn fault_pc(&mut self) -> Option<&mut FaultPc> {
        match &mut self.at {
            StructPc::Read(at) | StructPc::Write { at, .. } => Some(at),
            StructPc::Gate | StructPc::Wake => None,
            StructPc::Work => match &mut self.work {
                Work::From(copy) => copy.fault_pc(),
                Work::Resolve(_) => None,
            },
        }
    }

    /// The context in which its thread sleeps.
    pub(super) fn asleep(&self) -> Option<CtxId> {
        match (&self.at, &self.work) {
            (StructPc::Read(FaultPc::Asleep(ctx)), _)
            | (StructPc::Write { at: FaultPc::Asleep(ctx), .. }, _) => Some(*ctx),
            (StructPc::Work, Work::From(copy)) => copy.asleep(),
            _ => None,
        }
    }

    /// Has the structure a field for the answer (e17, e23)?
    fn has_field(&self) -> bool {
        !matches!(self.request, Request::WriteProtect { .. } | Request::Wake { .. })
    }

    /// The pages are done, and their faulters about to be woken.
    fn about_to_wake(&self) -> Option<Outcome> {
        let at = match &self.work {
            Work::Resolve(at) => Some(*at),
            Work::From(copy) => copy.resolve_pc(),
        };
        match at {
            Some(ResolvePc::Wake { bytes, stopped: None }) => Some(Outcome::done(bytes)),
            Some(ResolvePc::Wake { bytes, .. }) => Some(Outcome::partial(bytes)),
            _ => None,
        }
    }

    fn write(&mut self, outcome: Outcome, wakes: bool) {
        self.at = StructPc::Write { outcome, wakes, at: FaultPc::Classify };
    }
}

impl Kernel {
    pub(super) fn step_with_struct(
        &mut self,
        thread: ThreadId,
        caller: MmId,
        mut call: Box<WithStruct>,
    ) -> (Next<Box<WithStruct>>, Did) {
        match call.at {
            StructPc::Gate => {
                let released = self.ctx(call.ctx).released;
                let asks = !matches!(call.request, Request::Wake { .. });
                match self.gate(call.ctx, &call.request) {
                    Err(outcome) if asks && !released => match call.has_field() {
                        true => {
                            call.write(outcome, false);
                            (Next::At(call), Did::Return(Ret::Err(Errno::EAGAIN)))
                        }
                        false => over(outcome),
                    },
                    _ => {
                        call.at = StructPc::Read(FaultPc::Classify);
                        (Next::At(call), Did::PassGate)
                    }
                }
            }
            StructPc::Read(at) => {
                let page = (call.arg, self.granule(caller, page_of(call.arg)));
                match self.step_fault(thread, caller, page, By::CopyFrom, at) {
                    Fault::At(at, did) => {
                        call.at = StructPc::Read(at);
                        (Next::At(call), did)
                    }
                    Fault::Ready(content) => {
                        call.at = StructPc::Work;
                        (Next::At(call), Did::Load { page: page_addr(page.1), content })
                    }
                    Fault::Refused(_) => over(Outcome::bare(Errno::EFAULT)),
                    Fault::Killed(did) => (Next::Done(Ret::Err(Errno::EINTR)), did),
                }
            }
            StructPc::Work => {
                let (next, did) = self.step_work(thread, caller, &mut call);
                match next {
                    Next::At(()) => (Next::At(call), did),
                    Next::Done(Ret::Outcome(outcome))
                        if call.has_field() && outcome.field != Field::Untouched =>
                    {
                        call.write(outcome, false);
                        let errno = outcome.errno.expect("what has succeeded wakes first");
                        (Next::At(call), Did::Return(Ret::Err(errno)))
                    }
                    Next::Done(ret) => (Next::Done(ret), did),
                }
            }
            StructPc::Wake => {
                let (next, did) = self.step_work(thread, caller, &mut call);
                match next {
                    Next::Done(ret) => (Next::Done(ret), did),
                    Next::At(()) => unreachable!("a wake is the end"),
                }
            }
            StructPc::Write { outcome, wakes, at } => {
                let page = (call.arg, self.granule(caller, page_of(call.arg)));
                match self.step_fault(thread, caller, page, By::CopyTo, at) {
                    Fault::At(at, did) => {
                        call.at = StructPc::Write { outcome, wakes, at };
                        (Next::At(call), did)
                    }
                    Fault::Ready(content) => {
                        self.write_page(caller, page.1, content);
                        let did = Did::Store { page: page_addr(page.1), content };
                        call.at = StructPc::Wake;
                        let next = match wakes {
                            true => Next::At(call),
                            false => Next::Done(Ret::Outcome(outcome)),
                        };
                        (next, did)
                    }
                    // e4: what was done stays done, and nobody is woken.
                    Fault::Refused(_) => over(Outcome::bare(Errno::EFAULT)),
                    Fault::Killed(did) => (Next::Done(Ret::Err(Errno::EINTR)), did),
                }
            }
        }
    }

    /// A step of the ioctl itself, which stops before it wakes.
    fn step_work(
        &mut self,
        thread: ThreadId,
        caller: MmId,
        call: &mut WithStruct,
    ) -> (Next<()>, Did) {
        let (next, did) = match call.work {
            Work::Resolve(at) => {
                let content = call.payload.page(match at {
                    ResolvePc::Page(done) => done as usize,
                    _ => 0,
                });
                let (next, did) = self.step_resolve(caller, call.ctx, call.request, content, at);
                (next.map(Work::Resolve), did)
            }
            Work::From(copy) => {
                let (next, did) = self.step_copy_from(thread, caller, copy);
                (next.map(Work::From), did)
            }
        };
        let next = match next {
            Next::Done(ret) => return (Next::Done(ret), did),
            Next::At(work) => {
                call.work = work;
                Next::At(())
            }
        };
        if let Some(outcome) = call.about_to_wake().filter(|_| call.has_field()) {
            call.write(outcome, true);
        }
        (next, did)
    }
}

fn over(outcome: Outcome) -> (Next<Box<WithStruct>>, Did) {
    match answer(0, outcome) {
        (Next::Done(ret), did) => (Next::Done(ret), did),
        (Next::At(at), _) => unreachable!("an answer is the end, not {at:?}"),
    }
}
