//! Accesses and the faults they raise: F1 to F5, and `MADV_POPULATE_*`, which faults on
//! behalf of the caller. Owns the decision who is asked for a page.

use shims::{Addr, Errno, Features, RegisterModes};

use super::call::{MmId, Ret, Signal, ThreadId};
use super::did::Did;
use super::page_table::{Pte, Vpn};
use super::run::{Access, FaultPc, Next};
use super::{Kernel, page_addr, page_of};
use crate::Content;
use crate::vma::{CtxId, VmaFlags};

/// What F1 finds.
enum Walk {
    /// The page is there, and may be used like this.
    Hit(Content),
    /// The page is there as the shared zero page and must be replaced to be written.
    ZeroPage,
    /// No page, and nobody asked to be told.
    Fill,
    /// No page, and this userfaultfd asked to be told.
    Missing(CtxId),
    /// A userfaultfd wants to be told but is being closed: try again.
    Released,
    /// Not allowed.
    Refused(Signal),
}

/// What a fault does next, whatever asked for the page.
enum Fault {
    /// It goes on at this place.
    At(FaultPc, Did),
    /// The page is usable now; this is what it held.
    Ready(Content),
    /// It is not to be had.
    Refused(Signal),
}

impl Kernel {
    /// A load or a store.
    pub(super) fn step_access(
        &mut self,
        thread: ThreadId,
        mm: MmId,
        access: Access,
        at: FaultPc,
    ) -> (Next<FaultPc>, Did) {
        let vpn = page_of(access.addr);
        let page = page_addr(vpn);
        match self.step_fault(thread, mm, access.addr, access.store.is_some(), at) {
            Fault::At(at, did) => (Next::At(at), did),
            Fault::Refused(signal) => (Next::Done(Ret::Signal(signal)), Did::Raise(signal)),
            // The processor repeats the access right behind the walk that found the page.
            Fault::Ready(content) => match access.store {
                None => (Next::Done(Ret::Loaded(content)), Did::Load { page, content }),
                Some(content) => {
                    self.mm(mm).table.set(vpn, Pte::Present { content, zero_page: false });
                    (Next::Done(Ret::Stored), Did::Store { page, content })
                }
            },
        }
    }

    /// `MADV_POPULATE_READ` and `MADV_POPULATE_WRITE`: each page in turn, as an access by
    /// the kernel (rule c9).
    pub(super) fn step_populate(
        &mut self,
        thread: ThreadId,
        mm: MmId,
        next: Vpn,
        end: Vpn,
        write: bool,
        at: FaultPc,
    ) -> (Next<(Vpn, FaultPc)>, Did) {
        let page = page_addr(next);
        if at == FaultPc::Classify && !write && !self.readable(mm, next) {
            // c9: the kernel asks for the permission itself, not for what x86 makes of it.
            let ret = Ret::Err(Errno::EINVAL);
            return (Next::Done(ret), Did::Return(ret));
        }
        match self.step_fault(thread, mm, page, write, at) {
            Fault::At(at, did) => (Next::At((next, at)), did),
            Fault::Refused(signal) => {
                // A hole is ENOMEM; a protection that forbids the access is EINVAL.
                let errno = match signal {
                    Signal::SegvMapErr => Errno::ENOMEM,
                    Signal::SegvAccErr => Errno::EINVAL,
                };
                let ret = Ret::Err(errno);
                (Next::Done(ret), Did::Return(ret))
            }
            Fault::Ready(content) => {
                if write {
                    // Write permission replaces the shared zero page by a page of zeros.
                    self.mm(mm).table.set(next, Pte::Present { content, zero_page: false });
                }
                let go_on = if next + 1 == end {
                    Next::Done(Ret::Ok(0))
                } else {
                    Next::At((next + 1, FaultPc::Classify))
                };
                (go_on, Did::Populated { page, content })
            }
        }
    }

    fn step_fault(
        &mut self,
        thread: ThreadId,
        mm: MmId,
        addr: Addr,
        write: bool,
        at: FaultPc,
    ) -> Fault {
        let vpn = page_of(addr);
        let page = page_addr(vpn);
        match at {
            FaultPc::Classify => match self.walk(mm, vpn, write) {
                Walk::Hit(content) => Fault::Ready(content),
                Walk::ZeroPage => Fault::Ready(Content::Zero),
                Walk::Refused(signal) => Fault::Refused(signal),
                Walk::Fill => {
                    let mm = self.mm(mm);
                    mm.table.set(vpn, Pte::Present { content: Content::Zero, zero_page: !write });
                    if write {
                        mm.space.note_anon_fault(page);
                    }
                    Fault::Ready(Content::Zero)
                }
                Walk::Missing(ctx) => {
                    if write {
                        // c1: the VMA counts as faulted from now on, page or no page.
                        self.mm(mm).space.note_anon_fault(page);
                    }
                    Fault::At(FaultPc::Enqueue(ctx), Did::Miss { page, write })
                }
                Walk::Released => Fault::At(FaultPc::Classify, Did::SkipSleep { page }),
            },
            FaultPc::Enqueue(ctx) => {
                if self.ctx(ctx).released {
                    // c5: a released context queues nothing more.
                    return Fault::At(FaultPc::Classify, Did::SkipSleep { page });
                }
                let exact = self.ctx(ctx).features.contains(Features::EXACT_ADDRESS);
                self.ctx_mut(ctx).queue_fault(thread, if exact { addr } else { page }, write);
                Fault::At(FaultPc::Recheck(ctx), Did::QueueFault { ctx, page, write })
            }
            FaultPc::Recheck(ctx) => {
                // c10: sleep unless the page has appeared. The wake may have come already:
                // then the thread is no longer queued and was set to classify again.
                let waits = matches!(self.table(mm).get(vpn), Pte::None);
                if waits && !self.ctx(ctx).released {
                    Fault::At(FaultPc::Asleep(ctx), Did::Sleep { page })
                } else {
                    self.ctx_mut(ctx).withdraw(thread);
                    Fault::At(FaultPc::Classify, Did::SkipSleep { page })
                }
            }
            FaultPc::Asleep(_) => unreachable!("a sleeping thread does not step"),
        }
    }

    /// May the page be read by the protection of its mapping? A hole refuses later.
    fn readable(&self, mm: MmId, vpn: Vpn) -> bool {
        let vma = self.mms[usize::from(mm.0)].space.find(page_addr(vpn));
        vma.is_none_or(|vma| vma.flags().contains(VmaFlags::READ))
    }

    /// F1: under the page-table lock, what is there and who wants to know. Protection comes
    /// before anything userfaultfd does (rule c4).
    fn walk(&self, mm: MmId, vpn: Vpn, write: bool) -> Walk {
        let mm = &self.mms[usize::from(mm.0)];
        let Some(vma) = mm.space.find(page_addr(vpn)) else {
            return Walk::Refused(Signal::SegvMapErr);
        };
        // x86 has no pages that can be written or executed and not read.
        let wanted =
            if write { VmaFlags::WRITE } else { VmaFlags::READ | VmaFlags::WRITE | VmaFlags::EXEC };
        if !vma.flags().intersects(wanted) {
            return Walk::Refused(Signal::SegvAccErr);
        }
        match mm.table.get(vpn) {
            Pte::Present { zero_page: true, .. } if write => Walk::ZeroPage,
            Pte::Present { content, .. } => Walk::Hit(content),
            Pte::None => match vma.uffd() {
                Some(ctx) if vma.uffd_modes().contains(RegisterModes::MISSING) => {
                    if self.ctx(ctx).released { Walk::Released } else { Walk::Missing(ctx) }
                }
                _ => Walk::Fill,
            },
        }
    }
}
