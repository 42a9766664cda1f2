//! Events: the steps E1 to E4 that every call with something to announce goes through, and
//! `read`, which lets them go on. Owns `mmap_changing`.

use shims::{Errno, Event, Span};

use super::Kernel;
use super::call::{Ret, ThreadId};
use super::ctx::Sender;
use super::did::Did;
use super::object::RemoveFilePc;
use super::run::{EventPc, Next, RemovePc, Run};
use crate::profile::ChangingGate;
use crate::vma::CtxId;

impl Kernel {
    /// E1: an event is coming. Resolving ioctls on `ctx` fail from here to E4 (rule d3).
    pub(super) fn raise_changing(&mut self, ctx: CtxId) -> u32 {
        let gate = self.profile.changing_gate;
        let ctx = self.ctx_mut(ctx);
        debug_assert_eq!(ctx.filling, 0, "an event does not start in the middle of a fill (d34)");
        ctx.changing = match gate {
            ChangingGate::Counter => ctx.changing + 1,
            ChangingGate::Flag => 1,
        };
        ctx.changing
    }

    /// E4: the sender of a taken event runs again (rule d4).
    pub(super) fn lower_changing(&mut self, ctx: CtxId) -> u32 {
        let gate = self.profile.changing_gate;
        let ctx = self.ctx_mut(ctx);
        ctx.changing = match gate {
            ChangingGate::Counter => ctx
                .changing
                .checked_sub(1)
                .expect("every E4 has its E1: the count of changes cannot fall below zero"),
            ChangingGate::Flag => 0,
        };
        ctx.changing
    }

    /// E2: queue `event`. False if the context is released: then nobody will ever read it,
    /// and its sender does not wait (rule a21).
    pub(super) fn queue_event(&mut self, ctx: CtxId, thread: ThreadId, event: Event) -> bool {
        let ctx = self.ctx_mut(ctx);
        if ctx.released {
            return false;
        }
        ctx.events.push(Sender { thread, event });
        true
    }

    /// The sender of an event that was taken (E3), or whose context was released, can run.
    pub(super) fn wake_sender(&mut self, thread: ThreadId) {
        match &mut self.threads[usize::from(thread.0)].run {
            Run::Remove(remove) => match remove.at {
                RemovePc::Asleep { ctx, part_end } => {
                    remove.at = RemovePc::Lower { ctx, part_end };
                }
                at => unreachable!("a sender sleeps; this one is at {at:?}"),
            },
            Run::RemoveFile(remove) => match remove.at {
                RemoveFilePc::Asleep(ctx, cut) => remove.at = RemoveFilePc::Lower(ctx, cut),
                at => unreachable!("a sender sleeps; this one is at {at:?}"),
            },
            Run::Events { at, .. } => *at = EventPc::Lower,
            run => unreachable!("thread {} sends no event but is in {run:?}", thread.0),
        }
    }

    /// A call that is done but for its events: they go out one after another, each waiting
    /// for its reader (rules d14, d15).
    pub(super) fn step_events(
        &mut self,
        thread: ThreadId,
        (ctx, event): (CtxId, Event),
        place: usize,
        last: bool,
        at: EventPc,
        ret: Ret,
    ) -> (Next<(usize, EventPc)>, Did) {
        match at {
            EventPc::Announce => {
                let at = if self.queue_event(ctx, thread, event) {
                    EventPc::Asleep
                } else {
                    self.call_off(event);
                    EventPc::Lower
                };
                (Next::At((place, at)), Did::QueueEvent { ctx, event })
            }
            EventPc::Lower => {
                let changing = self.lower_changing(ctx);
                let next =
                    if last { Next::Done(ret) } else { Next::At((place + 1, EventPc::Announce)) };
                (next, Did::LowerChanging { ctx, changing })
            }
            EventPc::Asleep => {
                let did = self.withdraw_event(thread, ctx);
                (Next::At((place, EventPc::Lower)), did)
            }
        }
    }

    /// `read(2)`: one message a step, because the order is decided per message: a fault
    /// that arrives in the middle of a read overtakes an event that waits (rule a11).
    pub(super) fn step_read(
        &mut self,
        thread: ThreadId,
        ctx: CtxId,
        max: usize,
        taken: usize,
    ) -> (Next<usize>, Did) {
        if self.ctx(ctx).released {
            let ret = Ret::Err(Errno::EBADF);
            return (Next::Done(ret), Did::Return(ret));
        }
        match self.ctx_mut(ctx).take_message() {
            Some((event, sender)) => {
                if let Some(sender) = sender {
                    self.wake_sender(sender);
                }
                self.threads[usize::from(thread.0)].inbox.push(event);
                let taken = taken + 1;
                let next =
                    if taken == max { Next::Done(Ret::Read(taken)) } else { Next::At(taken) };
                (next, Did::Take(event))
            }
            None => {
                let ret = if taken > 0 { Ret::Read(taken) } else { Ret::Err(Errno::EAGAIN) };
                (Next::Done(ret), Did::Return(ret))
            }
        }
    }

    /// The second half of `close`: with the mmap lock held for writing, clear every
    /// registration of `ctx`, then wake everybody who waits on it (rules a20, a21).
    pub(super) fn step_closing(&mut self, ctx: CtxId) -> (Ret, Did) {
        let mm = self.ctx(ctx).mm;
        let parts = self.mm(mm).space.uffd_release(ctx);
        self.clear_wp(mm, &parts);
        let everywhere = Span::new(shims::Addr::ZERO, shims::Len::new(u64::MAX));
        self.wake_range(ctx, everywhere);
        let senders: Vec<_> = self.ctx_mut(ctx).events.drain(..).collect();
        for sender in senders {
            self.call_off(sender.event);
            self.wake_sender(sender.thread);
        }
        (Ret::Ok(0), Did::Return(Ret::Ok(0)))
    }
}
