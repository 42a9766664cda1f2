//! The huge pages of hugetlb: how many there are, which are promised, and who may have one.
//! Owns the arithmetic; keeps no count of its own but the promises that files hold.
//!
//! A mapping without `MAP_NORESERVE` is promised its pages when it is made, or it is not made.
//! What is promised to a shared mapping belongs to the file and outlives the mapping; what is
//! promised to a private one is as long as it is. Nobody else can have a promised page.
//!
//! # Divergence from Linux
//!
//! - Unless a number was set there is always another huge page, and nothing is promised.
//! - With a number, `fork` of a process that has private huge pages is
//!   [`ENOTMODELLED`](shims::Errno::ENOTMODELLED): which of two processes then loses its page is
//!   not simulated.

use std::sync::Arc;

use shims::Errno;

use super::super::call::MmId;
use super::super::page_table::{Pte, PteBits, Vpn};
use super::super::{Kernel, Mm, PAGE, page_addr, page_of};
use super::Index;
use super::map::{place, shows};
use crate::vma::{Backing, FileId, Vma, VmaFlags};

/// The state of the pool, as `/sys/kernel/mm/hugepages` shows it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct HugePages {
    /// How many there are.
    pub total: u64,
    /// How many hold nothing.
    pub free: u64,
    /// How many of those are promised to somebody.
    pub reserved: u64,
}

impl Kernel {
    /// Set how many huge pages there are. Before the first of them is mapped: what is mapped
    /// earlier was promised nothing.
    pub fn set_huge_pages(&mut self, total: u64) {
        Arc::make_mut(self.objects.get_or_insert_default()).huge_pages = Some(total);
    }

    /// The state of the pool; `None` if it is without end.
    pub fn huge_pages(&self) -> Option<HugePages> {
        let objects = self.objects.as_ref()?;
        let total = objects.huge_pages?;
        let (mut used, mut reserved) = (0, 0);
        for object in objects.list.iter().filter(|object| object.page_size != PAGE) {
            used += object.pages.len() as u64;
            let waits = |index: &&Index| !object.pages.contains_key(*index);
            reserved += object.promised.iter().filter(waits).count() as u64;
        }
        for Mm { space, table, .. } in &self.mms {
            for vma in space.iter().filter(|vma| is_private_huge(vma)) {
                let own = table.entries_in(page_of(vma.start()), page_of(vma.end()));
                let own = own.filter(|(_, pte)| is_own(*pte)).count() as u64;
                used += own;
                if !vma.flags().contains(VmaFlags::NORESERVE) {
                    reserved += vma.span().len.whole_pages(vma.page_size()) - own;
                }
            }
        }
        // A page can be in use beyond the number if it was made before there was one.
        let free = total.saturating_sub(used);
        Some(HugePages { total, free, reserved })
    }

    /// Can the mapping at page `vpn`, of huge pages, have another one there?
    pub(super) fn has_huge_page(&self, vma: &Vma, vpn: Vpn) -> bool {
        let Some(pool) = self.huge_pages() else { return true };
        let promised = match place(vma, vpn) {
            _ if is_private_huge(vma) => !vma.flags().contains(VmaFlags::NORESERVE),
            Some((file, index)) => self.backer(file).promised.contains(&index),
            None => return true,
        };
        promised || pool.free > pool.reserved
    }

    /// Can a write to page `vpn`, which has to be copied, have a page to copy it to?
    #[inline]
    pub(in crate::kernel) fn may_copy(&self, mm: MmId, vpn: Vpn) -> bool {
        if self.objects.is_none() {
            return true;
        }
        let vma = self.space(mm).find(page_addr(vpn));
        vma.is_none_or(|vma| vma.page_size() == PAGE || self.has_huge_page(vma, vpn))
    }

    /// Is there enough for a mapping of `pages` huge pages of `file` from `first` on? The
    /// promise itself is made when the mapping is.
    pub(super) fn check_promise(
        &self,
        file: FileId,
        shared: bool,
        (first, pages): (Index, u64),
    ) -> Result<(), Errno> {
        let Some(pool) = self.huge_pages() else { return Ok(()) };
        let object = self.backer(file);
        let needed = if shared {
            let held =
                |index: &Index| object.promised.contains(index) || object.pages.contains_key(index);
            huge_indices(first, pages).filter(|index| !held(index)).count() as u64
        } else {
            pages
        };
        if needed > pool.free.saturating_sub(pool.reserved) {
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }

    /// A shared mapping was made: its pages are the file's from now on.
    pub(super) fn promise(&mut self, file: FileId, (first, pages): (Index, u64)) {
        if self.objects.as_ref().is_some_and(|objects| objects.huge_pages.is_some()) {
            self.backer_mut(file).promised.extend(huge_indices(first, pages));
        }
    }

    /// `fork` would have to know which of two processes keeps a private huge page.
    pub(in crate::kernel) fn may_fork(&self, mm: MmId) -> bool {
        self.huge_pages().is_none() || !self.space(mm).iter().any(is_private_huge)
    }

    /// A mapping of `file` went. A file without a name goes with its last one.
    pub(in crate::kernel) fn unmapped(&mut self, file: FileId) {
        let gone = self.object(file).is_some_and(|object| object.nameless)
            && !self.mms.iter().any(|mm| mm.space.iter().any(|vma| shows(vma, file)));
        if gone {
            let object = self.backer_mut(file);
            object.pages.clear();
            object.promised.clear();
        }
    }
}

/// Huge pages that no file's cache ever has.
pub(super) fn is_private_huge(vma: &Vma) -> bool {
    matches!(vma.backing(), Backing::Hugetlb(..)) && !vma.flags().contains(VmaFlags::MAYSHARE)
}

fn is_own(pte: Pte) -> bool {
    matches!(pte, Pte::Present { bits, .. } if !bits.contains(PteBits::CACHED))
}

fn huge_indices(first: Index, pages: u64) -> impl Iterator<Item = Index> {
    (0..pages).map(move |page| first + page * 512)
}
