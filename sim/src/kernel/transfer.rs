//! Accesses by the kernel on behalf of a thread: what system calls copy from and to user
//! memory, what other processes' memory is read and written through, and what locked memory has
//! faulted in. Owns their progress, page by page, and what a refusal looks like (rules c6, c9,
//! c12); the fault itself is in `fault.rs`, what is locked in `locked.rs`.
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
    /// The pages are faulted in; a page that is not to be had ends it, with an error.
    Lock,
    /// The same, and nobody is told of an error: the rest of the mapping stays as it is.
    FaultIn,
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

    /// The pages of `range` are faulted in; with an error if one is not to be had, or without.
    pub(super) fn pages(range: Span, tells: bool) -> Transfer {
        let end = range.end().expect("mappings end");
        Transfer::new(if tells { Kind::Lock } else { Kind::FaultIn }, range.start, end)
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
            Kind::Lock | Kind::FaultIn => Errno::ENOMEM,
        }
    }

    fn ret(&self) -> Ret {
        match self.kind {
            Kind::Copy(..) => Ret::Ok(self.done),
            Kind::Lock | Kind::FaultIn => Ret::Ok(0),
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
            Kind::Lock | Kind::FaultIn => {
                let (start, end) = (transfer.next, transfer.end);
                match self.lock_by(caller, start, end, transfer.at) {
                    Some((next, by)) => {
                        transfer.next = next;
                        (caller, by, None)
                    }
                    None => return over(transfer.ret()),
                }
            }
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
            Fault::Refused(_) if matches!(transfer.kind, Kind::Copy(..)) && transfer.done > 0 => {
                return over(transfer.ret());
            }
            Fault::Refused(_) if transfer.kind == Kind::FaultIn => {
                // Nobody is told, and the next mapping is tried.
                let vma = self.space(mm).find(transfer.next);
                transfer.next = vma.map_or(transfer.end, |vma| vma.end());
                transfer.at = FaultPc::Classify;
                if transfer.next >= transfer.end {
                    return over(transfer.ret());
                }
                return self.step_transfer(thread, caller, transfer);
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
            (Kind::Lock | Kind::FaultIn, None) => {
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
}

fn over(ret: Ret) -> (Next<Transfer>, Did) {
    (Next::Done(ret), Did::Return(ret))
}
