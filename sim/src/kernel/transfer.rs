//! Accesses by the kernel on behalf of a thread: what system calls copy from and to user
//! memory, what other processes' memory is read and written through, and `mlock`. Owns their
//! progress, page by page, and what a refusal looks like (rules c6, c9, c12); the fault itself
//! is in `fault.rs`.
//!
//! # Divergence from Linux
//!
//! - `process_vm_*` pins several pages before it copies the first; here a page is copied when it
//!   is pinned. A store in between is seen by Linux and not here.
//! - What a transfer counts ends at the last page that could be used. A file at the other end may
//!   count less: a pipe drops the page it could not fill.

use shims::{Addr, Errno, Span};

use super::call::{MmId, Ret, ThreadId};
use super::did::Did;
use super::fault::{By, Fault};
use super::resolve::TASK_SIZE;
use super::run::{FaultPc, Next, Run};
use super::{Kernel, page_addr, page_of};
use crate::Content;
use crate::vma::VmaFlags;

/// How the kernel gets at the memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Via {
    /// The caller's own, by `read(2)`, `write(2)` and whatever else copies.
    Syscall,
    /// Any process's, by `process_vm_readv(2)` and `process_vm_writev(2)`: the pages are pinned.
    /// With the caller's own it stands for direct I/O and `vmsplice(2)`, too.
    Pinned(MmId),
    /// Any process's, by `/proc/PID/mem` or `ptrace(2)`: nobody is asked for a page, and the
    /// protection of the mapping is no obstacle.
    Forced(MmId),
}

/// What a transfer is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Kind {
    /// Bytes go from memory (`None`), or to it, and leave this stamp in each page.
    Copy(Via, Option<Content>),
    /// The pages are faulted in, to stay.
    Lock,
}

/// A transfer under way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Transfer {
    kind: Kind,
    next: Addr,
    end: Addr,
    done: u64,
    pub(super) at: FaultPc,
}

impl Transfer {
    /// A range that is no user memory at all is refused before anything is touched.
    pub(super) fn begin(via: Via, range: Span, store: Option<Content>) -> Run {
        let kind = Kind::Copy(via, store);
        let transfer = |end| Transfer::new(kind, range.start, end);
        match range.end().filter(|end| end.raw() <= TASK_SIZE) {
            _ if range.len.bytes() == 0 => Run::Done(Ret::Ok(0)),
            Some(end) => Run::Transfer(Box::new(transfer(end))),
            None => Run::Done(Ret::Err(transfer(range.start).errno())),
        }
    }

    fn new(kind: Kind, next: Addr, end: Addr) -> Transfer {
        Transfer { kind, next, end, done: 0, at: FaultPc::Classify }
    }

    /// Does it copy, so that a signal disturbs its sleep (rule a26)? What pins does not hear one
    /// (rule a27).
    pub(super) fn copies(&self) -> bool {
        matches!(self.kind, Kind::Copy(Via::Syscall, _))
    }

    /// What any refusal is called.
    fn errno(&self) -> Errno {
        match self.kind {
            Kind::Copy(Via::Forced(_), _) => Errno::EIO,
            Kind::Copy(..) => Errno::EFAULT,
            Kind::Lock => Errno::ENOMEM,
        }
    }

    fn ret(&self) -> Ret {
        match self.kind {
            Kind::Copy(..) => Ret::Ok(self.done),
            Kind::Lock => Ret::Ok(0),
        }
    }
}

impl Kernel {
    pub(super) fn step_transfer(
        &mut self,
        thread: ThreadId,
        caller: MmId,
        mut transfer: Transfer,
    ) -> (Next<Transfer>, Did) {
        let (mm, by, store) = match transfer.kind {
            Kind::Copy(via, store) => {
                let write = store.is_some();
                let (mm, by) = match via {
                    Via::Syscall => (caller, if write { By::CopyTo } else { By::CopyFrom }),
                    Via::Pinned(mm) => {
                        (mm, if write { By::PopulateWrite } else { By::PopulateRead })
                    }
                    Via::Forced(mm) => (mm, if write { By::ForceWrite } else { By::ForceRead }),
                };
                (mm, by, store)
            }
            Kind::Lock => match self.lock_by(caller, &mut transfer) {
                Some(by) => (caller, by, None),
                None => return over(transfer.ret()),
            },
        };
        let vpn = self.granule(mm, page_of(transfer.next));
        let page = page_addr(vpn);
        let after = page_addr(vpn + self.granule_pages(mm, vpn));
        // Only a copy faults at the byte; what pins faults at the page.
        let byte = if matches!(by, By::CopyFrom | By::CopyTo) { transfer.next } else { page };
        let content = match self.step_fault(thread, mm, (byte, vpn), by, transfer.at) {
            Fault::At(at, did) => {
                transfer.at = at;
                return (Next::At(transfer), did);
            }
            Fault::Refused(_) if transfer.done > 0 && transfer.kind != Kind::Lock => {
                return over(transfer.ret());
            }
            Fault::Refused(_) => return over(Ret::Err(transfer.errno())),
            Fault::Killed(did) => return (Next::Done(Ret::Err(Errno::EINTR)), did),
            Fault::Ready(content) => content,
        };
        let did = match (transfer.kind, store) {
            (_, Some(content)) => {
                self.write_page(mm, vpn, content);
                Did::Store { page, content }
            }
            (Kind::Lock, None) => {
                if by == By::PopulateWrite {
                    self.write_page(mm, vpn, content);
                }
                Did::Populated { page, content }
            }
            (Kind::Copy(via, _), None) => {
                if matches!(via, Via::Pinned(_)) {
                    self.unshare(mm, vpn);
                }
                Did::Load { page, content }
            }
        };
        let end = after.min(transfer.end);
        transfer.done += end.raw() - transfer.next.raw();
        transfer.next = end;
        transfer.at = FaultPc::Classify;
        let over = transfer.next == transfer.end;
        (if over { Next::Done(transfer.ret()) } else { Next::At(transfer) }, did)
    }

    /// `mlock(2)` or `mlock2(2)`: the mappings are locked at once, and then the pages come one
    /// after another. What could be locked stays locked if they do not.
    pub(super) fn mlock(&mut self, mm: MmId, range: Span, on_fault: bool) -> (Run, Did) {
        let space = &mut self.mm(mm).space;
        let locked = space.lock_vmas(range.start.raw(), range.len.bytes(), on_fault);
        let ret = match locked {
            Ok((start, end)) if start < end && !on_fault => {
                let pages = Transfer::new(Kind::Lock, Addr::new(start), Addr::new(end));
                let span = Span::between(pages.next, pages.end).expect("it ascends");
                return (Run::Transfer(Box::new(pages)), Did::Lock { span });
            }
            Ok(_) => Ret::Ok(0),
            Err(errno) => Ret::Err(errno),
        };
        (Run::Done(ret), Did::Return(ret))
    }

    /// How `mlock` faults the next page in: private memory that may be written gets pages of its
    /// own. Mappings that are locked on fault are passed over; `None` at the end. Memory without
    /// any access is refused by the fault.
    fn lock_by(&self, mm: MmId, transfer: &mut Transfer) -> Option<By> {
        loop {
            let vma = self.space(mm).find_next(transfer.next);
            if transfer.at == FaultPc::Classify {
                // What was unmapped meanwhile is passed over; a hole from the start was refused.
                transfer.next = vma?.start().max(transfer.next);
                if transfer.next >= transfer.end {
                    return None;
                }
            }
            let flags = vma.map_or(VmaFlags::empty(), |vma| vma.flags());
            if transfer.at == FaultPc::Classify && flags.contains(VmaFlags::LOCKONFAULT) {
                transfer.next = vma?.end();
                if transfer.next >= transfer.end {
                    return None;
                }
                continue;
            }
            let own = flags & (VmaFlags::WRITE | VmaFlags::SHARED) == VmaFlags::WRITE;
            let by = match own {
                true => By::PopulateWrite,
                // Any access will do, where `MADV_POPULATE_READ` goes by the letter.
                false => By::CopyFrom,
            };
            return Some(by);
        }
    }
}

fn over(ret: Ret) -> (Next<Transfer>, Did) {
    (Next::Done(ret), Did::Return(ret))
}
