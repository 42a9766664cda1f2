//! Questions of a search that leaves out orders: where a thread is, as far as that decides whether
//! its next step can go before or behind what everybody else does. Owns the answers; what follows
//! from them is the world's business.
//!
//! All of them are about the model without switches for the faults of kernels.

use core::hash::{Hash, Hasher};

use shims::{Addr, FaultKind, Features, RegisterModes, Request};

use super::call::{MmId, ThreadId};
use super::page_table::{Pte, PteBits, Vpn};
use super::run::{FaultPc, Reason, RemovePc, ResolvePc, Run};
use super::{Kernel, page_addr, page_of};
use crate::profile::Bugs;
use crate::vma::{CtxId, VmaFlags};

/// Where a thread in a fault is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum At {
    /// F1: about to look at this page.
    Look(Vpn),
    /// F2: about to queue its message about this page; the reason for it stands or not.
    Queue { page: Vpn, stands: bool },
    /// F3, and woken already: it will not sleep.
    Woken { page: Vpn },
    /// F3, and nothing has happened since F2: it will sleep.
    Drowsy { page: Vpn },
    /// Asleep for this page; a reader has taken its message or not.
    Asleep { page: Vpn, taken: bool },
    /// Anywhere else.
    Elsewhere,
}

impl Kernel {
    /// Where is `thread`?
    pub(crate) fn whereabouts(&self, thread: ThreadId) -> At {
        let one = &self.threads[usize::from(thread.0)];
        let (addr, at) = match one.run {
            Run::Access { access, at } => (access.addr, at),
            Run::Populate { next, at, .. } => (page_addr(next), at),
            _ => return At::Elsewhere,
        };
        match at {
            FaultPc::Classify => At::Look(page_of(addr)),
            FaultPc::Recheck(ctx, reason) => {
                let ctx = self.ctx(ctx);
                let mut queue = ctx.pending.iter().chain(&ctx.taken);
                if !queue.any(|faulter| faulter.thread == thread) {
                    let page = self.granule(one.mm, page_of(addr));
                    return At::Woken { page };
                }
                let page = self.granule(one.mm, page_of(addr));
                let stands = self.stands(one.mm, addr, reason);
                if stands { At::Drowsy { page } } else { At::Elsewhere }
            }
            FaultPc::Asleep(ctx) => {
                let taken = self.ctx(ctx).taken.iter().any(|faulter| faulter.thread == thread);
                At::Asleep { page: page_of(addr), taken }
            }
            FaultPc::Enqueue(_, reason) => {
                At::Queue { page: page_of(addr), stands: self.stands(one.mm, addr, reason) }
            }
            FaultPc::Replaced => At::Elsewhere,
        }
    }

    /// Would F3 go to sleep for this reason as the page is now?
    fn stands(&self, mm: MmId, addr: Addr, reason: Reason) -> bool {
        let page = self.granule(mm, page_of(addr));
        match (self.table(mm).get(page), reason) {
            (Pte::None, _) => true,
            (Pte::Present { bits, .. }, Reason::Wp) => !bits.writable(),
            _ => false,
        }
    }

    /// Has `ctx` a fault to be read?
    pub(crate) fn has_faults(&self, ctx: CtxId) -> bool {
        !self.ctx(ctx).pending.is_empty()
    }

    /// The removal that `thread` is in is about to queue its event, behind which it sleeps.
    pub(crate) fn announces(&self, thread: ThreadId) -> bool {
        let run = &self.threads[usize::from(thread.0)].run;
        matches!(run, Run::Remove(call) if matches!(call.at, RemovePc::Announce { .. }))
    }

    /// The resolving ioctl that `thread` is in, and has it passed its first look at the gate
    /// without having done anything yet?
    pub(crate) fn resolving(&self, thread: ThreadId) -> Option<(Request, Resolving)> {
        match &self.threads[usize::from(thread.0)].run {
            Run::Resolve { request, at, .. } => {
                let at = match at {
                    ResolvePc::Enter => Resolving::Entering,
                    ResolvePc::Locked => Resolving::Passed,
                    ResolvePc::Wake { .. } => Resolving::Waking,
                    ResolvePc::Protect(next) => {
                        let end = request.range().end().map_or(Vpn::MAX, page_of);
                        if *next >= end { Resolving::Through } else { Resolving::Filling }
                    }
                    _ => Resolving::Filling,
                };
                Some((*request, at))
            }
            _ => None,
        }
    }

    /// The page of the fault that a read of `ctx` takes next, if its thread will go on waiting
    /// for it until somebody changes the page.
    pub(crate) fn next_fault(&self, ctx: CtxId) -> Option<Vpn> {
        let ctx = self.ctx(ctx);
        let page = page_of(ctx.pending.first()?.fault.addr);
        let stands = match self.table(ctx.mm).get(page) {
            Pte::None | Pte::Marker(_) => true,
            Pte::Present { bits, .. } => {
                bits.contains(PteBits::UFFD_WP)
                    && !bits.writable()
                    && ctx.pending[0].fault.kind() == FaultKind::Wp
            }
        };
        stands.then_some(page)
    }

    /// Are there events that nobody has read?
    pub(crate) fn has_events(&self, ctx: CtxId) -> bool {
        !self.ctx(ctx).events.is_empty()
    }

    /// Can a thread of `mm` that looks at `page` for its access do nothing but ask for it?
    pub(crate) fn will_ask(&self, mm: MmId, page: Vpn) -> bool {
        let mm = &self.mms[usize::from(mm.0)];
        let vma = mm.space.find(page_addr(page));
        mm.table.get(page) == Pte::None
            && vma.is_some_and(|vma| vma.uffd_modes().contains(RegisterModes::MISSING))
    }

    /// Will an access to `page`, as it is now, ask for it and wait?
    pub(crate) fn asks(&self, mm: MmId, page: Vpn, write: bool) -> Option<Asks> {
        if self.objects.is_some() {
            return None;
        }
        let mm = &self.mms[usize::from(mm.0)];
        let vma = mm.space.find(page_addr(page))?;
        let ctx = self.ctx(vma.uffd()?);
        let refuses = Features::SIGBUS | Features::WP_ASYNC;
        if !vma.flags().contains(VmaFlags::READ | VmaFlags::WRITE)
            || ctx.features.intersects(refuses)
            || ctx.user_mode_only
            || ctx.released
        {
            return None;
        }
        match mm.table.get(page) {
            Pte::None => vma.uffd_modes().contains(RegisterModes::MISSING).then_some(Asks::Missing),
            Pte::Present { bits, .. } => {
                (write && bits.contains(PteBits::UFFD_WP)).then_some(Asks::Protected)
            }
            Pte::Marker(_) => None,
        }
    }

    /// Is the access that `thread` is in a write?
    pub(crate) fn writes(&self, thread: ThreadId) -> bool {
        match self.threads[usize::from(thread.0)].run {
            Run::Access { access, .. } => access.store.is_some(),
            Run::Populate { write, .. } => write,
            _ => false,
        }
    }

    /// Can a write replace `page`, as it is now or will be when it comes, and then do so in two
    /// steps if somebody is about to look at it?
    pub(crate) fn may_be_replaced(&self, mm: MmId, page: Vpn) -> bool {
        match self.table(mm).get(page) {
            Pte::Present { bits, .. } => bits.intersects(PteBits::ZERO_PAGE | PteBits::FORKED),
            Pte::None | Pte::Marker(_) => true,
        }
    }

    /// Does this kernel have no huge pages, descriptors or signals, and none of the faults that a
    /// profile can be given but the one about signals?
    pub(crate) fn is_simple(&self) -> bool {
        Bugs::Z15.contains(self.profile.bugs()) && self.processes.is_none() && !self.any_huge()
    }

    /// The hash of all that is not of one thread alone. `name` says which number a thread has.
    pub(crate) fn hash_shared<H: Hasher>(&self, name: impl Fn(ThreadId) -> u16, state: &mut H) {
        let Kernel { mms, ctxs, thp, asides, objects, processes, .. } = self;
        mms.hash(state);
        ctxs.len().hash(state);
        for ctx in ctxs {
            ctx.hash_named(&name, state);
        }
        (thp, asides, objects, processes, self.threads.len()).hash(state);
    }

    /// The hash of the call that `thread` is in.
    pub(crate) fn hash_call<H: Hasher>(&self, thread: ThreadId, state: &mut H) {
        let one = &self.threads[usize::from(thread.0)];
        (one.mm, &one.run).hash(state);
    }

    /// The same of one that may be a read: how many messages it has taken tells only when it will
    /// have taken its fill, which it never has if there are no more than `messages`.
    pub(crate) fn hash_read<H: Hasher>(&self, thread: ThreadId, messages: usize, state: &mut H) {
        let one = &self.threads[usize::from(thread.0)];
        match one.run {
            Run::Read { ctx, max, taken } if messages < max => {
                (one.mm, ctx, max, taken > 0).hash(state);
            }
            _ => self.hash_call(thread, state),
        }
    }

    /// The messages that `thread` has read and nobody has taken.
    pub(crate) fn messages(&self, thread: ThreadId) -> &[shims::Event] {
        &self.threads[usize::from(thread.0)].inbox
    }

    /// Where `thread` stands in the queues.
    pub(crate) fn hash_queued<H: Hasher>(&self, thread: ThreadId, state: &mut H) {
        for ctx in &self.ctxs {
            let pending = ctx.pending.iter().position(|faulter| faulter.thread == thread);
            let taken = ctx.taken.iter().any(|faulter| faulter.thread == thread);
            let sends = ctx.events.iter().position(|sender| sender.thread == thread);
            (pending, taken, sends).hash(state);
        }
    }

    /// The threads there are.
    pub(crate) fn every_thread(&self) -> impl Iterator<Item = ThreadId> {
        (0..self.threads.len()).map(|n| ThreadId(n as u16))
    }
}

/// Why an access will ask for a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asks {
    /// The page is missing.
    Missing,
    /// It is there, and protected against the write.
    Protected,
}

/// How far a resolving ioctl has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Resolving {
    /// It has not looked at anything.
    Entering,
    /// It has looked at the gate, which was open, and done nothing.
    Passed,
    /// It is at its pages.
    Filling,
    /// It has come to the end of its pages, and is about to find that out.
    Through,
    /// It is about to wake.
    Waking,
}

#[cfg(test)]
mod tests;
