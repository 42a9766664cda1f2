//! What a thread that cannot move waits for: the words of liveness reports. Owns no rule; the
//! files of the calls decide who sleeps.

use shims::{Addr, Event};

use super::call::ThreadId;
use super::run::{EventPc, FaultPc, Run};
use super::transfer::Transfer;
use super::{Kernel, ctx};
use crate::vma::CtxId;

/// What a sleeping thread waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sleep {
    /// A page: nobody has resolved or woken its fault.
    Fault {
        /// The address in the message.
        addr: Addr,
        /// For writing?
        write: bool,
        /// Has a reader taken the message?
        taken: bool,
    },
    /// A reader to take this event.
    Event(Event),
    /// A lock that another thread holds, and will give back by itself.
    Lock,
    /// A message, in `read`.
    Reader(CtxId),
    /// A message, in `poll`.
    Poller(CtxId),
    /// The child of a `vfork`, or the other threads of a process, to come to their end.
    Threads,
}

impl Kernel {
    /// What `thread` sleeps on; `None` if it can move or has nothing to do.
    pub fn sleep(&self, thread: ThreadId) -> Option<Sleep> {
        if self.can_step(thread) {
            return None;
        }
        match &self.threads[usize::from(thread.0)].run {
            Run::Idle | Run::Done(_) | Run::Dead => None,
            Run::Long(long) => Some(long.sleep()),
            Run::Access { at: FaultPc::Asleep(ctx), .. }
            | Run::Populate { at: FaultPc::Asleep(ctx), .. } => self.faulter(thread, *ctx),
            Run::WithStruct(call) => call.asleep().and_then(|ctx| self.faulter(thread, ctx)),
            Run::CopyFrom(copy) => copy.asleep().and_then(|ctx| self.faulter(thread, ctx)),
            Run::Transfer(transfer) => self.transferrer(thread, transfer),
            Run::FaultIn(call) => self.transferrer(thread, &call.pages),
            Run::Remove(_) | Run::RemoveFile(_) | Run::Events { at: EventPc::Asleep, .. } => self
                .ctxs
                .iter()
                .flat_map(|ctx| &ctx.events)
                .find(|sender| sender.thread == thread)
                .map_or(Some(Sleep::Lock), |sender| Some(Sleep::Event(sender.event))),
            _ => Some(Sleep::Lock),
        }
    }

    fn transferrer(&self, thread: ThreadId, transfer: &Transfer) -> Option<Sleep> {
        match transfer.at {
            FaultPc::Asleep(ctx) => self.faulter(thread, ctx),
            _ => Some(Sleep::Lock),
        }
    }

    /// The fault of `thread`, which sleeps in `ctx`.
    fn faulter(&self, thread: ThreadId, ctx: CtxId) -> Option<Sleep> {
        let ctx = self.ctx(ctx);
        let find = |queue: &[ctx::Faulter], taken| {
            queue.iter().find(|faulter| faulter.thread == thread).map(|faulter| Sleep::Fault {
                addr: faulter.fault.addr,
                write: faulter.fault.is_write(),
                taken,
            })
        };
        find(&ctx.pending, false).or_else(|| find(&ctx.taken, true))
    }
}
