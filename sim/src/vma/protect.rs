//! `mprotect` (v2.9). Owns its loop and the flags it computes.

use shims::Errno;

use super::space::{is_aligned, page_align};
use super::{AddressSpace, Prot, Vma, VmaFlags};

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
            let vma = *self.tree.at_or_above(at).ok_or(Errno::ENOMEM)?;
            if vma.start > at {
                return Err(Errno::ENOMEM);
            }
            at = self.protect_one(&vma, at, end.min(vma.end), prot)?;
        }
        Ok(())
    }

    fn protect_one(&mut self, vma: &Vma, start: u64, end: u64, prot: Prot) -> Result<u64, Errno> {
        let asked = prot.flags();
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
            let uncharged = VmaFlags::ACCOUNT
                | VmaFlags::WRITE
                | VmaFlags::HUGETLB
                | VmaFlags::SHARED
                | VmaFlags::NORESERVE;
            if !vma.flags.intersects(uncharged) {
                flags |= VmaFlags::ACCOUNT;
            }
        } else if vma.flags.contains(VmaFlags::ACCOUNT)
            && vma.backing == super::Backing::Anon
            && vma.anon.is_none()
        {
            flags.remove(VmaFlags::ACCOUNT);
        }
        self.modify(vma, start, end, |range| range.flags = flags)
    }
}
