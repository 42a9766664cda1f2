//! Who can move. Owns the question, which a search asks of every thread at every step; what a
//! step does is in the file named after the call.

use super::call::{Call, MmId, ThreadId};
use super::madvise::Madvise;
use super::object::RemoveFilePc;
use super::page_table::Vpn;
use super::run::{EventPc, FaultPc, RemovePc, Run};
use super::{Kernel, page_addr};
use shims::Features;

impl Kernel {
    /// Is `thread` in user mode, free to begin a call?
    #[inline]
    pub fn idle(&self, thread: ThreadId) -> bool {
        matches!(self.threads[usize::from(thread.0)].run, Run::Idle)
    }

    /// Can `thread` move? Not if it is idle, asleep, or waiting for a lock.
    #[inline]
    pub fn can_step(&self, id: ThreadId) -> bool {
        // What most threads are in most of the time is answered where it is asked.
        match &self.threads[usize::from(id.0)].run {
            Run::Idle | Run::Done(_) | Run::Dead => false,
            Run::Access { at: FaultPc::Asleep(_), .. } => {
                self.processes.is_some() && self.signalled(id)
            }
            Run::Access { .. } | Run::Resolve { .. } | Run::Read { .. } => true,
            _ => self.can_go_on(id),
        }
    }

    /// Is `thread` in an access, and not asleep? Then it can move whatever others do, as long as
    /// nobody is killed.
    #[inline]
    pub(crate) fn is_accessing(&self, thread: ThreadId) -> bool {
        let run = &self.threads[usize::from(thread.0)].run;
        matches!(run, Run::Access { at, .. } if !matches!(at, FaultPc::Asleep(_)))
    }

    /// [`can_step`](Kernel::can_step) of all others.
    #[inline(never)]
    fn can_go_on(&self, id: ThreadId) -> bool {
        let thread = &self.threads[usize::from(id.0)];
        match &thread.run {
            Run::Populate { at, .. } => !matches!(at, FaultPc::Asleep(_)) || self.killed(id),
            // Its fault is that of a copy by the kernel.
            Run::CopyFrom(copy) => copy.asleep().is_none() || self.copy_disturbed(id),
            Run::WithStruct(call) => call.asleep().is_none() || self.copy_disturbed(id),
            Run::Transfer(transfer) => match transfer.at {
                FaultPc::Asleep(_) if transfer.copies() => self.copy_disturbed(id),
                FaultPc::Asleep(_) => self.killed(id),
                _ => true,
            },
            Run::FaultIn(call) => !matches!(call.pages.at, FaultPc::Asleep(_)) || self.killed(id),
            Run::Remove(remove) => match remove.at {
                RemovePc::Asleep { .. } => self.killed(id),
                // `mmap_changing` cannot rise while a resolving ioctl holds its lock (d34).
                RemovePc::Part => !self.filling(thread.mm, remove.next),
                _ => true,
            },
            Run::RemoveFile(remove) => match remove.at {
                RemoveFilePc::Asleep(..) => self.killed(id),
                RemoveFilePc::Part => !self.filling(thread.mm, remove.next),
                _ => true,
            },
            Run::Events { at: EventPc::Asleep, .. } => self.killed(id),
            Run::Long(long) => self.long_can_step(id, thread.mm, long),
            Run::Once(call) => match &**call {
                call if call.writes_layout() => self.unlocked(thread.mm),
                Call::Register { ctx, .. } => self.unlocked(self.ctx(*ctx).mm),
                // Its first step does not touch the mappings that faulters hold.
                Call::Unregister { ctx, .. } => !self.mms[usize::from(self.ctx(*ctx).mm.0)].writer,
                _ => true,
            },
            Run::Unregister { ctx, .. } => self.mms[usize::from(self.ctx(*ctx).mm.0)].readers == 0,
            Run::Closing { ctx } => self.unlocked(self.ctx(*ctx).mm),
            // They wait for an `UNREGISTER` that holds the lock, and not for one that waits for
            // them.
            // It takes the mmap lock for writing, block by block.
            Run::Walk(walk) if walk.advice == Madvise::Collapse => self.unlocked(thread.mm),
            Run::Walk(walk) => walk.part.is_some() || !self.mms[usize::from(thread.mm.0)].writer,
            Run::Scan(scan) => scan.holds() || !self.mms[usize::from(thread.mm.0)].writer,
            Run::Events { .. } | Run::Cut(_) => true,
            Run::Idle | Run::Done(_) | Run::Dead => false,
            Run::Access { .. } | Run::Resolve { .. } | Run::Read { .. } => {
                unreachable!("thread {} is answered for by who asks", id.0)
            }
        }
    }

    pub(super) fn unlocked(&self, mm: MmId) -> bool {
        let mm = &self.mms[usize::from(mm.0)];
        mm.readers == 0 && !mm.writer
    }

    /// Is a resolving ioctl at work on what is mapped behind `page`, that would have to be told
    /// of a removal? One that need not be told goes on beside the removal (d34).
    fn filling(&self, mm: MmId, page: Vpn) -> bool {
        if self.unlocked(mm) {
            return false;
        }
        self.space(mm).find_next(page_addr(page)).and_then(|vma| vma.uffd()).is_some_and(|ctx| {
            let ctx = self.ctx(ctx);
            ctx.filling > 0 && ctx.features.contains(Features::EVENT_REMOVE)
        })
    }
}
