//! `mprotect` (v2.9). Owns its loop and the flags it computes.

use shims::Errno;

use super::area::PAGE_SHIFT;
use super::space::{is_aligned, is_data, page_align};
use super::{AddressSpace, Backing, Prot, VmaFlags};

impl AddressSpace {
    /// `mprotect`: VMA by VMA from the start, stopping at the first hole or error; what came
    /// before stays changed.
    ///
    /// Errors: `EINVAL` for an unaligned start; `ENOMEM` for a wrapping end, a hole, or a
    /// split beyond the limit; `EPERM` for a sealed VMA; `EACCES` for access that the
    /// mapping may not have.
    pub fn mprotect(&mut self, start: u64, len: u64, prot: Prot) -> Result<(), Errno> {
        if !is_aligned(start) {
            return Err(Errno::EINVAL);
        }
        if len == 0 {
            return Ok(());
        }
        let end = page_align(len).and_then(|len| start.checked_add(len)).ok_or(Errno::ENOMEM)?;
        if end <= start {
            return Err(Errno::ENOMEM);
        }
        let mut at = start;
        while at < end {
            at = self.protect_one(at, end, prot.flags())?;
        }
        Ok(())
    }

    fn protect_one(&mut self, at: u64, end: u64, asked: VmaFlags) -> Result<u64, Errno> {
        let cursor = self.tree.seek(at);
        let vma = cursor.get().filter(|vma| vma.start <= at).ok_or(Errno::ENOMEM)?;
        let may = VmaFlags::from_bits_truncate((vma.flags & VmaFlags::MAY).bits() >> 4);
        if !may.contains(asked) {
            return Err(Errno::EACCES);
        }
        if vma.flags.contains(VmaFlags::SEALED) {
            return Err(Errno::EPERM);
        }
        let mut flags = vma.flags.difference(VmaFlags::ACCESS) | asked;
        if flags == vma.flags {
            return Ok(vma.end);
        }
        if asked.contains(VmaFlags::WRITE) {
            if !vma.flags.intersects(CHARGED_OR_FREE) {
                flags |= VmaFlags::ACCOUNT;
            }
        } else if vma.flags.contains(VmaFlags::ACCOUNT)
            && vma.backing == Backing::Anon
            && vma.anon.is_none()
        {
            flags.remove(VmaFlags::ACCOUNT);
        }
        if is_data(flags) && !is_data(vma.flags) {
            let more = (end.min(vma.end) - at) >> PAGE_SHIFT;
            // Where the address space is too large already, the data limit is not asked.
            let fits = self.total_pages + more <= self.limits.rlimit_as >> PAGE_SHIFT;
            if fits && self.data_pages + more > self.limits.rlimit_data >> PAGE_SHIFT {
                return Err(Errno::ENOMEM);
            }
        }
        // Locked private memory that becomes writable is faulted in at once.
        let fault_in =
            asked.contains(VmaFlags::WRITE) && vma.flags & LOCKED_ASLEEP == VmaFlags::LOCKED;
        let to = end.min(vma.end);
        let plan = self.plan(&cursor, at, to, |range| range.flags = flags);
        let done = self.perform(&plan)?;
        if fault_in {
            self.populate(at, to);
        }
        Ok(done)
    }
}

/// Memory with one of these is charged already, or never.
const CHARGED_OR_FREE: VmaFlags = VmaFlags::ACCOUNT
    .union(VmaFlags::WRITE)
    .union(VmaFlags::HUGETLB)
    .union(VmaFlags::SHARED)
    .union(VmaFlags::NORESERVE);

/// Locked, private and not writable when only `LOCKED` of these is set.
const LOCKED_ASLEEP: VmaFlags = VmaFlags::WRITE.union(VmaFlags::SHARED).union(VmaFlags::LOCKED);
