//! `mseal` (v2.9). Owns the two passes; what a seal forbids is each operation's business.

use shims::Errno;

use super::space::{is_aligned, page_align};
use super::{AddressSpace, VmaFlags};

impl AddressSpace {
    /// `mseal`: nothing can unmap, move, replace or re-protect the range from now on. A hole
    /// is found before anything is sealed.
    ///
    /// Errors: `EINVAL` for an unaligned start or a wrapping end; `ENOMEM` for a hole, or for
    /// a split beyond the limit, with the part before it sealed.
    pub fn mseal(&mut self, start: u64, len: u64) -> Result<(), Errno> {
        if !is_aligned(start) {
            return Err(Errno::EINVAL);
        }
        let len = page_align(len).ok_or(Errno::EINVAL)?;
        let end = start.checked_add(len).ok_or(Errno::EINVAL)?;
        let mut reached = start;
        for vma in self.tree.iter_from(start).take_while(|vma| vma.start < end) {
            if vma.start > reached {
                return Err(Errno::ENOMEM);
            }
            reached = vma.end;
        }
        if reached < end {
            return Err(Errno::ENOMEM);
        }
        let mut at = start;
        while at < end {
            let cursor = self.tree.seek(at);
            let vma = cursor.get().expect("there is no hole");
            if vma.flags.contains(VmaFlags::SEALED) {
                at = vma.end;
                continue;
            }
            let plan = self.plan(&cursor, at, end.min(vma.end), |range| {
                range.flags |= VmaFlags::SEALED;
            });
            at = self.perform(&plan)?;
        }
        Ok(())
    }
}
