//! `mbind` and anonymous names (v2.9): attributes that only the merge rules look at. Owns
//! the two loops; what a policy or a name means is the caller's.

use shims::Errno;

use super::space::{is_aligned, page_align};
use super::{AddressSpace, Backing, NameId, PolicyId};

impl AddressSpace {
    /// `mbind`: set a memory policy, compared by value; 0 is the default policy.
    ///
    /// Errors: `EINVAL` for a malformed range; `EFAULT` for a hole, found before anything is
    /// changed (the default may be set over holes, but not over nothing); `ENOMEM` when it takes a split beyond the limit.
    pub fn mbind(&mut self, start: u64, len: u64, policy: PolicyId) -> Result<(), Errno> {
        if !is_aligned(start) {
            return Err(Errno::EINVAL);
        }
        let len = page_align(len).ok_or(Errno::EINVAL)?;
        let end = start.checked_add(len).ok_or(Errno::EINVAL)?;
        if start == end {
            return Ok(());
        }
        let (mut reached, mut any) = (start, false);
        for vma in self.tree.iter_from(start).take_while(|vma| vma.start < end) {
            any = true;
            if vma.start > reached {
                break;
            }
            reached = vma.end;
        }
        if !any || (reached < end && policy != PolicyId::default()) {
            return Err(Errno::EFAULT);
        }
        let mut at = start;
        loop {
            let cursor = self.tree.seek(at);
            let Some(vma) = cursor.get().filter(|vma| vma.start < end) else { return Ok(()) };
            if vma.policy == policy {
                at = vma.end;
                continue;
            }
            let (from, to) = (at.max(vma.start), end.min(vma.end));
            let plan = self.plan(&cursor, from, to, |range| range.policy = policy);
            at = self.perform(&plan)?;
        }
    }

    /// `prctl(PR_SET_VMA_ANON_NAME)`: name anonymous memory; 0 takes the name away.
    ///
    /// Errors: `EINVAL` for a malformed range; `EBADF` for a mapping of a file; `ENOMEM` for
    /// a hole, reported at the end; `EAGAIN` when it takes a split beyond the limit.
    pub fn set_name(&mut self, start: u64, len: u64, name: NameId) -> Result<(), Errno> {
        if !is_aligned(start) {
            return Err(Errno::EINVAL);
        }
        let len = page_align(len).ok_or(Errno::EINVAL)?;
        let end = start.checked_add(len).ok_or(Errno::EINVAL)?;
        let (mut at, mut hole) = (start, false);
        while at < end {
            let cursor = self.tree.seek(at);
            let Some(vma) = cursor.get().filter(|vma| vma.start < end) else {
                return Err(Errno::ENOMEM);
            };
            hole |= vma.start > at;
            if matches!(vma.backing, Backing::File(_) | Backing::Hugetlb(..)) {
                return Err(Errno::EBADF);
            }
            if vma.name == name {
                at = vma.end;
                continue;
            }
            let (from, to) = (at.max(vma.start), end.min(vma.end));
            let plan = self.plan(&cursor, from, to, |range| range.name = name);
            at = self.perform(&plan).map_err(|_| Errno::EAGAIN)?;
        }
        if hole { Err(Errno::ENOMEM) } else { Ok(()) }
    }
}
