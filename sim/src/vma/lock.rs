//! `mlock`, `mlock2`, `munlock`, `mlockall`, `munlockall` (v2.9). Owns the lock bits and what
//! faulting locked memory in does to anon_vmas.

use bitflags::bitflags;
use shims::{Addr, Errno};

use super::area::{PAGE, PAGE_SHIFT};
use super::space::page_align;
use super::{AddressSpace, VmaFlags};

bitflags! {
    /// The flags of `mlockall`.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
    pub struct LockAll: u64 {
        /// What is mapped now.
        const CURRENT = 1;
        /// What will be mapped.
        const FUTURE = 2;
        /// Lock pages as they are faulted in.
        const ONFAULT = 4;
        const _ = !0;
    }
}

/// A VMA with one of these takes no lock.
pub(super) const UNLOCKABLE: VmaFlags =
    VmaFlags::SPECIAL.union(VmaFlags::HUGETLB).union(VmaFlags::DROPPABLE);

impl AddressSpace {
    /// `mlock`; with `on_fault`, `mlock2(MLOCK_ONFAULT)`. The start is rounded down, the end
    /// up. Faults the pages in unless `on_fault`.
    ///
    /// Errors: `ENOMEM` for the lock limit, a hole, memory that cannot be faulted in, or a
    /// split beyond the limit; `EINVAL` for an end that wraps; `EPERM` when nothing may be
    /// locked. What came before an error stays locked.
    pub fn mlock(&mut self, start: u64, len: u64, on_fault: bool) -> Result<(), Errno> {
        let (start, end) = self.lock_vmas(start, len, on_fault)?;
        self.populate_all(start, end)
    }

    /// The part of `mlock` that comes before the pages: returns what is to be faulted in.
    pub(crate) fn lock_vmas(
        &mut self,
        start: u64,
        len: u64,
        on_fault: bool,
    ) -> Result<(u64, u64), Errno> {
        if !self.limits.may_lock_any && self.limits.rlimit_memlock == 0 {
            return Err(Errno::EPERM);
        }
        let bits = if on_fault { VmaFlags::LOCK } else { VmaFlags::LOCKED };
        let (start, len) = lock_range(start, len)?;
        if !self.limits.may_lock_any {
            let limit = self.limits.rlimit_memlock >> PAGE_SHIFT;
            let mut wanted = self.locked_pages + (len >> PAGE_SHIFT);
            if wanted > limit {
                // What is locked already inside the range does not count twice.
                let end = start.saturating_add(len);
                let inside = self.tree.iter_from(start).take_while(|vma| vma.start < end);
                let locked = inside.filter(|vma| vma.flags.contains(VmaFlags::LOCKED));
                wanted -= locked
                    .map(|vma| (vma.end.min(end) - vma.start.max(start)) >> PAGE_SHIFT)
                    .sum::<u64>();
            }
            if wanted > limit {
                return Err(Errno::ENOMEM);
            }
        }
        Ok((start, self.lock_loop(start, len, bits)?))
    }

    /// `munlock`. Errors as [`mlock`](AddressSpace::mlock), without the limits.
    pub fn munlock(&mut self, start: u64, len: u64) -> Result<(), Errno> {
        let (start, len) = lock_range(start, len)?;
        self.lock_loop(start, len, VmaFlags::empty()).map(|_| ())
    }

    /// `mlockall`. Errors inside the walk are ignored, as Linux does.
    ///
    /// Errors: `EINVAL` for no, unknown or lone `ONFAULT` flags; `EPERM` when nothing may be
    /// locked; `ENOMEM` for the lock limit.
    pub fn mlockall(&mut self, flags: LockAll) -> Result<(), Errno> {
        let known = LockAll::CURRENT | LockAll::FUTURE | LockAll::ONFAULT;
        if flags.is_empty() || flags == LockAll::ONFAULT || !known.contains(flags) {
            return Err(Errno::EINVAL);
        }
        if !self.limits.may_lock_any {
            if self.limits.rlimit_memlock == 0 {
                return Err(Errno::EPERM);
            }
            let fits = self.total_pages <= self.limits.rlimit_memlock >> PAGE_SHIFT;
            if flags.contains(LockAll::CURRENT) && !fits {
                return Err(Errno::ENOMEM);
            }
        }
        let on_fault = flags.contains(LockAll::ONFAULT);
        let bits = if on_fault { VmaFlags::LOCK } else { VmaFlags::LOCKED };
        self.future_flags = if flags.contains(LockAll::FUTURE) { bits } else { VmaFlags::empty() };
        if flags.contains(LockAll::CURRENT) {
            self.lock_everything(bits);
            if !on_fault {
                self.populate(0, u64::MAX);
            }
        }
        Ok(())
    }

    /// `munlockall`.
    pub fn munlockall(&mut self) {
        self.future_flags = VmaFlags::empty();
        self.lock_everything(VmaFlags::empty());
    }

    fn lock_everything(&mut self, bits: VmaFlags) {
        let mut at = 0;
        while let Some(vma) = self.tree.at_or_above(at) {
            let (start, end) = (vma.start.max(at), vma.end);
            at = self.lock_one(start, end, bits).unwrap_or(end);
        }
    }

    fn lock_loop(&mut self, start: u64, len: u64, bits: VmaFlags) -> Result<u64, Errno> {
        let end = start.checked_add(len).ok_or(Errno::EINVAL)?;
        let mut at = start;
        while at < end {
            let here = self.tree.at_or_above(at).filter(|vma| vma.start <= at);
            let vma_end = here.ok_or(Errno::ENOMEM)?.end;
            at = self.lock_one(at, end.min(vma_end), bits)?;
        }
        Ok(end)
    }

    fn lock_one(&mut self, start: u64, end: u64, bits: VmaFlags) -> Result<u64, Errno> {
        let cursor = self.tree.seek(start);
        let vma = cursor.get().expect("the loop has found it");
        let flags = vma.flags.difference(VmaFlags::LOCK) | bits;
        if flags == vma.flags || vma.flags.intersects(UNLOCKABLE) {
            return Ok(end);
        }
        let plan = self.plan(&cursor, start, end, |range| range.flags = flags);
        self.perform(&plan)
    }

    /// Fault `[start, end)` in, as far as the tree is concerned: private writable memory gets
    /// anon_vmas. Goes on over what cannot be faulted in.
    pub(super) fn populate(&mut self, start: u64, end: u64) {
        if self.pages_apart {
            return;
        }
        let mut at = start;
        while let Some(vma) = self.tree.at_or_above(at).filter(|vma| vma.start < end) {
            let from = at.max(vma.start);
            at = vma.end;
            if vma.flags.contains(VmaFlags::WRITE) && !vma.flags.intersects(VmaFlags::LOCKONFAULT) {
                self.note_anon_fault(Addr::new(from));
            }
        }
    }

    /// The same up to the first memory that has no access at all, which is `ENOMEM`.
    fn populate_all(&mut self, start: u64, end: u64) -> Result<(), Errno> {
        let no_access =
            |flags: VmaFlags| !flags.intersects(VmaFlags::ACCESS | VmaFlags::LOCKONFAULT);
        let barred = self
            .tree
            .iter_from(start)
            .take_while(|vma| vma.start < end)
            .find(|vma| no_access(vma.flags))
            .map(|vma| vma.start.max(start));
        self.populate(start, barred.unwrap_or(end));
        if barred.is_some() { Err(Errno::ENOMEM) } else { Ok(()) }
    }
}

/// The pages that the bytes touch. A length that wraps when rounded is 0 pages, as on Linux.
fn lock_range(start: u64, len: u64) -> Result<(u64, u64), Errno> {
    let inside = start % PAGE;
    let len = len.checked_add(inside).and_then(page_align).unwrap_or(0);
    Ok((start - inside, len))
}
