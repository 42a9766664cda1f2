//! Accesses and the faults they raise: F1 to F5, and `MADV_POPULATE_*`, which faults on
//! behalf of the caller. Owns the decision who is asked for a page.

use shims::{Addr, Errno, Features, RegisterModes};

use super::call::{MmId, Ret, Signal, ThreadId};
use super::did::Did;
use super::object::maps_object;
use super::page_table::{Marker, Pte, PteBits, Vpn};
use super::run::{Access, FaultPc, Next, Reason};
use super::{Kernel, PAGE, page_addr, page_of};
use crate::Content;
use crate::profile::Bugs;
use crate::vma::{CtxId, VmaFlags};

/// What F1 finds.
pub(super) enum Walk {
    /// The page is there, and may be used like this.
    Hit(Content),
    /// The page is there, and a write gets a copy of it.
    Copy(Content),
    /// The page is protected, and a write takes that off without asking (rule f5).
    Unprotect(Content, PteBits),
    /// No page, and nobody asked to be told.
    Fill,
    /// The same, where a huge page would be welcome.
    FillHuge,
    /// No page of a memory file: see [`Kernel::walk_file`].
    File,
    /// No page of a memory file, and nobody asked to be told.
    FillFile,
    /// No page, and the one that comes is write-protected; a write will then trap (rule f2).
    FillProtected,
    /// A marker that means nothing any more, because its VMA is not registered for `WP`.
    Leftover,
    /// This userfaultfd asked to be told.
    Ask(CtxId, Reason),
    /// Try again: a userfaultfd wants to be told but is being closed, or nothing will ever
    /// change.
    Again,
    /// Not allowed.
    Refused(Signal),
}

/// Who asks for a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum By {
    Load,
    Store,
    /// A system call copies from user memory.
    CopyFrom,
    /// A system call copies to user memory.
    CopyTo,
    PopulateRead,
    PopulateWrite,
    /// Whatever the mapping allows, but at once or not at all.
    ForceRead,
    ForceWrite,
}

impl By {
    pub(super) const fn writes(self) -> bool {
        matches!(self, By::Store | By::CopyTo | By::PopulateWrite | By::ForceWrite)
    }

    /// May it wait for a page?
    const fn waits(self) -> bool {
        !matches!(self, By::ForceRead | By::ForceWrite)
    }

    const fn is_user(self) -> bool {
        matches!(self, By::Load | By::Store)
    }
}

/// What a fault does next, whatever asked for the page.
pub(super) enum Fault {
    /// It goes on at this place.
    At(FaultPc, Did),
    /// The page is usable now; this is what it held.
    Ready(Content),
    /// It is not to be had.
    Refused(Signal),
    /// The thread was killed while it waited.
    Killed(Did),
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
        let vpn = self.granule(mm, page_of(access.addr));
        let page = page_addr(vpn);
        let by = if access.store.is_some() { By::Store } else { By::Load };
        match self.step_fault(thread, mm, (access.addr, vpn), by, at) {
            Fault::At(at, did) => (Next::At(at), did),
            Fault::Refused(signal) => (Next::Done(Ret::Signal(signal)), Did::Raise(signal)),
            Fault::Killed(did) => (Next::Done(Ret::Err(Errno::EINTR)), did),
            // The processor repeats the access right behind the walk that found the page.
            Fault::Ready(content) => match access.store {
                None => (Next::Done(Ret::Loaded(content)), Did::Load { page, content }),
                Some(content) => {
                    self.write_page(mm, vpn, content);
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
        let vpn = self.granule(mm, next);
        let page = page_addr(vpn);
        let by = if write { By::PopulateWrite } else { By::PopulateRead };
        match self.step_fault(thread, mm, (page, vpn), by, at) {
            Fault::At(at, did) => (Next::At((next, at)), did),
            Fault::Killed(did) => (Next::Done(Ret::Err(Errno::EINTR)), did),
            Fault::Refused(signal) => {
                // A hole is ENOMEM, a guard EFAULT; a protection that forbids the access is
                // EINVAL. The others are c6 and c12.
                let errno = match signal {
                    Signal::SegvMapErr if self.table(mm).get(next).is_guard() => Errno::EFAULT,
                    Signal::SegvMapErr => Errno::ENOMEM,
                    Signal::SegvAccErr => Errno::EINVAL,
                    Signal::BusAdrErr => Errno::EFAULT,
                    Signal::BusPoison => Errno::EHWPOISON,
                };
                let ret = Ret::Err(errno);
                (Next::Done(ret), Did::Return(ret))
            }
            Fault::Ready(content) => {
                if write {
                    // Write permission replaces the shared zero page by a page of zeros.
                    self.write_page(mm, vpn, content);
                }
                let next = vpn + self.granule_pages(mm, vpn);
                let go_on = if next >= end {
                    Next::Done(Ret::Ok(0))
                } else {
                    Next::At((next, FaultPc::Classify))
                };
                (go_on, Did::Populated { page, content })
            }
        }
    }

    pub(super) fn step_fault(
        &mut self,
        thread: ThreadId,
        mm: MmId,
        (addr, vpn): (Addr, Vpn),
        by: By,
        at: FaultPc,
    ) -> Fault {
        let page = page_addr(vpn);
        let write = by.writes();
        match at {
            FaultPc::Classify => match self.walk_any(mm, vpn, by) {
                Walk::Hit(content) => Fault::Ready(content),
                Walk::Copy(_) if !self.may_copy(mm, vpn) => Fault::Refused(Signal::BusAdrErr),
                Walk::Copy(content) => {
                    self.take_over(mm, vpn);
                    self.mm(mm).write_huge(vpn);
                    self.mm(mm).space.note_anon_fault(page);
                    if self.open_gap(thread, mm, vpn, content) {
                        return Fault::At(FaultPc::Replaced, Did::Replace { page });
                    }
                    Fault::Ready(content)
                }
                Walk::Unprotect(content, bits) => {
                    if self.mm(mm).unprotect_files(vpn) {
                        return Fault::Ready(content);
                    }
                    // f5: one page of a huge page becomes writable, so it comes apart.
                    self.mm(mm).split(vpn);
                    let bits = bits.difference(PteBits::UFFD_WP);
                    self.mm(mm).table.set(vpn, Pte::Present { content, bits });
                    self.mm(mm).space.note_anon_fault(page);
                    Fault::Ready(content)
                }
                Walk::Refused(signal) => {
                    // Before it asks for the page, as below.
                    if write && signal == Signal::BusAdrErr && !self.table(mm).get(vpn).is_present()
                    {
                        self.mm(mm).space.note_anon_fault(page);
                    }
                    Fault::Refused(signal)
                }
                Walk::FillHuge if self.fill_huge(mm, vpn, write) => Fault::Ready(Content::Zero),
                Walk::Fill | Walk::FillHuge => {
                    let mm = self.mm(mm);
                    if write {
                        mm.table.set(vpn, Pte::page(Content::Zero));
                        mm.space.note_anon_fault(page);
                    } else {
                        mm.table.set(vpn, Pte::ZERO_PAGE);
                    }
                    Fault::Ready(Content::Zero)
                }
                Walk::File => unreachable!("a file has its own walk"),
                Walk::FillFile => match self.fill_file(mm, vpn, by) {
                    // f1: the marker's protection is the page's.
                    (_, true) if write => Fault::At(FaultPc::Classify, Did::FillProtected { page }),
                    (content, _) => Fault::Ready(content),
                },
                Walk::FillProtected => {
                    let mm = self.mm(mm);
                    let zero = if write { PteBits::empty() } else { PteBits::ZERO_PAGE };
                    let bits = PteBits::PROTECTED | zero;
                    mm.table.set(vpn, Pte::Present { content: Content::Zero, bits });
                    if !write {
                        return Fault::Ready(Content::Zero);
                    }
                    mm.space.note_anon_fault(page);
                    Fault::At(FaultPc::Classify, Did::FillProtected { page })
                }
                Walk::Leftover => {
                    self.mm(mm).table.set(vpn, Pte::None);
                    self.step_fault(thread, mm, (addr, vpn), by, at)
                }
                Walk::Ask(..) if self.profile.has_bug(Bugs::Z18) && self.tried(thread, page) => {
                    Fault::Refused(Signal::BusAdrErr)
                }
                Walk::Ask(ctx, reason) => {
                    // The mapping is held until the thread sleeps: no munmap, mprotect,
                    // UNREGISTER or close gets between F1 and F4.
                    let mm = self.mm(mm);
                    mm.readers += 1;
                    if write && reason != Reason::Wp {
                        // c1: the fault handler prepares for the page before it asks for it;
                        // not where the page is there, and all it asks is whether to write.
                        mm.space.note_anon_fault(page);
                    }
                    let did = match reason {
                        Reason::Missing => Did::Miss { page, write },
                        Reason::Wp => Did::Trap { page },
                        Reason::Minor => Did::MissMinor { page, write },
                    };
                    Fault::At(FaultPc::Enqueue(ctx, reason), did)
                }
                Walk::Again => Fault::At(FaultPc::Classify, Did::SkipSleep { page }),
            },
            FaultPc::Enqueue(ctx, reason) => {
                if self.ctx(ctx).released {
                    // c5: a released context queues nothing more.
                    self.mm(mm).readers -= 1;
                    return Fault::At(FaultPc::Classify, Did::SkipSleep { page });
                }
                let (wp, minor) = (reason == Reason::Wp, reason == Reason::Minor);
                self.ctx_mut(ctx).queue_fault(thread, (addr, page), write, reason);
                let did = Did::QueueFault { ctx, page, write, wp, minor };
                Fault::At(FaultPc::Recheck(ctx, reason), did)
            }
            FaultPc::Recheck(ctx, reason) => {
                // c10: sleep unless the reason is gone, or the wake has come already: then the
                // thread is no longer queued.
                self.mm(mm).readers -= 1;
                let waits = match (self.table(mm).get(vpn), reason) {
                    _ if self.in_gap(mm, vpn) => true,
                    (Pte::Present { bits, .. }, Reason::Wp) => !bits.writable(),
                    (Pte::Present { .. }, Reason::Missing | Reason::Minor) => false,
                    // h: a later kernel does not sleep on a guard.
                    (Pte::Marker(marker), _) => {
                        !(marker.is_guard() && self.profile.guard.withstand_copy)
                    }
                    (Pte::None, _) => true,
                };
                let waits = waits || self.profile.has_bug(Bugs::Z14);
                if self.profile.has_bug(Bugs::Z18) {
                    self.task(thread).tried = Some(page);
                }
                let queued = self.ctx_mut(ctx).withdraw_unless(thread, waits);
                if waits && queued {
                    Fault::At(FaultPc::Asleep(ctx), Did::Sleep { page })
                } else {
                    Fault::At(FaultPc::Classify, Did::SkipSleep { page })
                }
            }
            FaultPc::Replaced => {
                self.close_gap(thread);
                self.step_fault(thread, mm, (addr, vpn), by, FaultPc::Classify)
            }
            FaultPc::Asleep(ctx) => {
                let did = self.fault_interrupted(thread, ctx, addr, by.is_user());
                if self.killed(thread) {
                    Fault::Killed(did)
                } else {
                    Fault::At(FaultPc::Classify, did)
                }
            }
        }
    }

    fn walk_any(&mut self, mm: MmId, vpn: Vpn, by: By) -> Walk {
        match self.walk(mm, vpn, by) {
            Walk::File => self.walk_file(mm, vpn, by),
            found if self.in_gap(mm, vpn) => self.walk_gap(mm, vpn, by, found),
            found => found,
        }
    }

    /// F1: under the page-table lock, what is there and who wants to know. Protection comes
    /// before anything userfaultfd does (rule c4).
    fn walk(&self, mm: MmId, vpn: Vpn, by: By) -> Walk {
        let write = by.writes();
        let mm = &self.mms[usize::from(mm.0)];
        let Some(vma) = mm.space.find(page_addr(vpn)) else {
            return Walk::Refused(Signal::SegvMapErr);
        };
        let wanted = match by {
            By::Store | By::CopyTo | By::PopulateWrite => VmaFlags::WRITE,
            // x86 has no pages that can be written or executed and not read.
            By::Load | By::CopyFrom => VmaFlags::READ | VmaFlags::WRITE | VmaFlags::EXEC,
            // The kernel on behalf of a caller goes by the letter.
            By::PopulateRead => VmaFlags::READ,
            By::ForceRead => VmaFlags::MAYREAD,
            // A private mapping is written by copying the page, whatever it allows now.
            By::ForceWrite if vma.is_private() => VmaFlags::MAYWRITE,
            By::ForceWrite => VmaFlags::WRITE,
        };
        if !vma.flags().intersects(wanted) {
            return Walk::Refused(Signal::SegvAccErr);
        }
        let asked = |mode| vma.uffd().filter(|_| vma.uffd_modes().contains(mode));
        match mm.table.get(vpn) {
            Pte::Present { content, bits } if !write || bits.writable() => Walk::Hit(content),
            Pte::Present { content, bits } => match asked(RegisterModes::WP) {
                Some(ctx) if bits.contains(PteBits::UFFD_WP) => {
                    if self.ctx(ctx).features.contains(Features::WP_ASYNC) {
                        return Walk::Unprotect(content, bits);
                    }
                    self.ask(ctx, Reason::Wp, by)
                }
                // b9: on hugetlb the write goes round in circles.
                _ if bits.contains(PteBits::UFFD_WP) && vma.page_size() != PAGE => Walk::Again,
                _ => Walk::Copy(content),
            },
            Pte::None | Pte::Marker(Marker::WriteProtect) if maps_object(vma) => Walk::File,
            Pte::None => match asked(RegisterModes::MISSING) {
                Some(ctx) => self.ask(ctx, Reason::Missing, by),
                None if self.wants_huge(vma) => Walk::FillHuge,
                None => Walk::Fill,
            },
            Pte::Marker(Marker::Poison | Marker::PoisonScanned) => Walk::Refused(Signal::BusPoison),
            Pte::Marker(Marker::Guard | Marker::GuardScanned) => Walk::Refused(Signal::SegvMapErr),
            // c3: what is missing is asked for first, and trapped when it is there.
            Pte::Marker(Marker::WriteProtect) if asked(RegisterModes::WP).is_some() => {
                match asked(RegisterModes::MISSING) {
                    Some(ctx) => self.ask(ctx, Reason::Missing, by),
                    None => Walk::FillProtected,
                }
            }
            Pte::Marker(Marker::WriteProtect) => Walk::Leftover,
        }
    }

    /// What the kernel reads of page `vpn` if it may not fault.
    pub(super) fn peek(&self, mm: MmId, vpn: Vpn) -> Option<Content> {
        match self.walk(mm, vpn, By::CopyFrom) {
            Walk::Hit(content) => Some(content),
            _ => None,
        }
    }

    /// The beginning of rule c5.
    pub(super) fn ask(&self, ctx: CtxId, reason: Reason, by: By) -> Walk {
        let asked = self.ctx(ctx);
        let refuses = !by.waits() || asked.user_mode_only && !by.is_user();
        if asked.features.contains(Features::SIGBUS) || refuses {
            Walk::Refused(Signal::BusAdrErr)
        } else if asked.released {
            Walk::Again
        } else {
            Walk::Ask(ctx, reason)
        }
    }
}
