//! `fork` (v2.3): the child's VMAs. Owns what a VMA loses or gains on the way; the pages and
//! the child's userfaultfd contexts are the caller's.

use super::tree::Tree;
use super::{AddressSpace, Anon, CtxId, VmaFlags};

impl AddressSpace {
    /// The address space of a child. Each VMA is copied as it is, and nothing merges: those
    /// with `DONTCOPY` are left out, lock bits are dropped, faulted memory gets an anon_vma
    /// of its own with a longer chain, memory that is wiped has none. The parent does not
    /// change.
    ///
    /// `child_of` tells which context of the child stands for one of the parent's; `None`
    /// (no `EVENT_FORK`) leaves the copy unregistered (d25, d26).
    pub fn fork(&self, mut child_of: impl FnMut(CtxId) -> Option<CtxId>) -> AddressSpace {
        let mut next_anon = self.next_anon;
        let mut fresh = || {
            next_anon += 1;
            Anon::forked(next_anon - 1)
        };
        let copied = self.iter().filter(|vma| !vma.flags.contains(VmaFlags::DONTCOPY));
        let vmas = copied.map(|vma| {
            let mut vma = *vma;
            vma.flags.remove(VmaFlags::LOCK);
            vma.ctx = vma.ctx.and_then(&mut child_of);
            if vma.ctx.is_none() {
                vma.flags.remove(VmaFlags::UFFD);
            }
            let keeps = !vma.flags.contains(VmaFlags::WIPEONFORK);
            vma.anon = vma.anon.filter(|_| keeps).map(|_| fresh());
            vma
        });
        let tree = Tree::from_sorted(vmas);
        let mut child = AddressSpace {
            tree,
            rules: self.rules.clone(),
            limits: self.limits.clone(),
            total_pages: 0,
            data_pages: 0,
            locked_pages: 0,
            next_anon,
            next_file: self.next_file,
            future_flags: VmaFlags::empty(),
            heap: self.heap,
            pages_apart: self.pages_apart,
        };
        let vmas: Vec<_> = child.iter().copied().collect();
        vmas.iter().for_each(|vma| child.count_pages(vma));
        child
    }
}
