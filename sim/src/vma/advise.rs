//! The advices of `madvise` that change VMAs (v2.9). Owns which flags each sets and which
//! VMAs refuse it; the advices that discard pages are not the tree's business.

use shims::Errno;

use super::space::{is_aligned, page_align};
use super::{AddressSpace, Backing, Vma, VmaFlags};

/// An advice that changes flags.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Advice {
    /// `MADV_NORMAL`: neither sequential nor random.
    Normal,
    /// `MADV_RANDOM`.
    Random,
    /// `MADV_SEQUENTIAL`.
    Sequential,
    /// `MADV_DONTFORK`: the child of a fork does not get it.
    DontFork,
    /// `MADV_DOFORK`.
    DoFork,
    /// `MADV_WIPEONFORK`: the child of a fork gets it empty.
    WipeOnFork,
    /// `MADV_KEEPONFORK`.
    KeepOnFork,
    /// `MADV_DONTDUMP`.
    DontDump,
    /// `MADV_DODUMP`.
    DoDump,
    /// `MADV_MERGEABLE`: same-page merging.
    Mergeable,
    /// `MADV_UNMERGEABLE`.
    Unmergeable,
    /// `MADV_HUGEPAGE`.
    HugePage,
    /// `MADV_NOHUGEPAGE`.
    NoHugePage,
    /// `MADV_GUARD_INSTALL`: marks the whole VMA and splits nothing. That pages are dropped
    /// is the caller's business.
    GuardInstall,
}

/// What same-page merging leaves alone.
const NEVER_MERGEABLE: VmaFlags = VmaFlags::SHARED
    .union(VmaFlags::MAYSHARE)
    .union(VmaFlags::SPECIAL)
    .union(VmaFlags::HUGETLB)
    .union(VmaFlags::DROPPABLE);

impl AddressSpace {
    /// `madvise` with an advice that changes flags: goes on over holes and reports them at
    /// the end, stops at the first other error.
    ///
    /// Errors: `EINVAL` for a malformed range or a VMA that cannot have it; `EPERM` for a
    /// sealed VMA and an advice that would discard its content at fork; `ENOMEM` for a hole;
    /// `EAGAIN` when it takes a split beyond the limit.
    pub fn madvise(&mut self, start: u64, len: u64, advice: Advice) -> Result<(), Errno> {
        if !is_aligned(start) {
            return Err(Errno::EINVAL);
        }
        let len = page_align(len).ok_or(Errno::EINVAL)?;
        let end = start.checked_add(len).ok_or(Errno::EINVAL)?;
        let (mut at, mut hole) = (start, false);
        while at < end {
            let Some(vma) = self.tree.at_or_above(at).filter(|vma| vma.start < end) else {
                return Err(Errno::ENOMEM);
            };
            hole |= vma.start > at;
            at = self.advise_one(at.max(vma.start), end, advice)?;
        }
        if hole { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    fn advise_one(&mut self, at: u64, end: u64, advice: Advice) -> Result<u64, Errno> {
        let cursor = self.tree.seek(at);
        let vma = *cursor.get().expect("the loop has found it");
        let discards =
            matches!(advice, Advice::DontFork | Advice::WipeOnFork | Advice::GuardInstall);
        if discards && vma.flags.contains(VmaFlags::SEALED) && !can_write_or_share(&vma) {
            return Err(Errno::EPERM);
        }
        if advice == Advice::GuardInstall {
            return self.install_guards(&vma, at);
        }
        let flags = advised(&vma, advice)?;
        if flags == vma.flags {
            return Ok(vma.end);
        }
        let plan = self.plan(&cursor, at, end.min(vma.end), |range| range.flags = flags);
        self.perform(&plan).map_err(|errno| match errno {
            Errno::ENOMEM => Errno::EAGAIN,
            other => other,
        })
    }

    /// Mark the VMA. Guards of anonymous memory are copied by `fork`, which takes an anon_vma;
    /// those of a mapped file, private or not, do without.
    fn install_guards(&mut self, vma: &Vma, at: u64) -> Result<u64, Errno> {
        if vma.flags.intersects(VmaFlags::SPECIAL | VmaFlags::HUGETLB | VmaFlags::LOCKED) {
            return Err(Errno::EINVAL);
        }
        if vma.backing == Backing::Anon {
            self.note_anon_fault(shims::Addr::new(at));
        }
        if self.rules.sticky_guard {
            let vma = self.tree.containing(vma.start).expect("it was just there");
            let marked = Vma { flags: vma.flags | VmaFlags::MAYBE_GUARD, ..*vma };
            self.tree.splice(marked.start, 1, &[marked]);
        }
        Ok(vma.end)
    }
}

fn can_write_or_share(vma: &Vma) -> bool {
    vma.flags.intersects(VmaFlags::WRITE | VmaFlags::SHARED) || vma.backing != Backing::Anon
}

/// The flags a VMA has after the advice.
fn advised(vma: &Vma, advice: Advice) -> Result<VmaFlags, Errno> {
    let old = vma.flags;
    let reading = VmaFlags::SEQ_READ | VmaFlags::RAND_READ;
    let special = old.intersects(VmaFlags::SPECIAL) && !old.contains(VmaFlags::HUGETLB);
    Ok(match advice {
        Advice::Normal => old.difference(reading),
        Advice::Random => old.difference(reading) | VmaFlags::RAND_READ,
        Advice::Sequential => old.difference(reading) | VmaFlags::SEQ_READ,
        Advice::DontFork => old | VmaFlags::DONTCOPY,
        Advice::DoFork if old.contains(VmaFlags::IO) => return Err(Errno::EINVAL),
        Advice::DoFork => old.difference(VmaFlags::DONTCOPY),
        Advice::WipeOnFork if vma.backing != Backing::Anon || old.contains(VmaFlags::SHARED) => {
            return Err(Errno::EINVAL);
        }
        Advice::WipeOnFork => old | VmaFlags::WIPEONFORK,
        Advice::KeepOnFork if old.contains(VmaFlags::DROPPABLE) => return Err(Errno::EINVAL),
        Advice::KeepOnFork => old.difference(VmaFlags::WIPEONFORK),
        Advice::DontDump => old | VmaFlags::DONTDUMP,
        Advice::DoDump if special || old.contains(VmaFlags::DROPPABLE) => {
            return Err(Errno::EINVAL);
        }
        Advice::DoDump => old.difference(VmaFlags::DONTDUMP),
        Advice::Mergeable if old.intersects(NEVER_MERGEABLE) => old,
        Advice::Mergeable => old | VmaFlags::MERGEABLE,
        Advice::Unmergeable => old.difference(VmaFlags::MERGEABLE),
        Advice::HugePage => old.difference(VmaFlags::NOHUGEPAGE) | VmaFlags::HUGEPAGE,
        Advice::NoHugePage => old.difference(VmaFlags::HUGEPAGE) | VmaFlags::NOHUGEPAGE,
        Advice::GuardInstall => unreachable!("it changes the whole VMA, not a range"),
    })
}
