//! Transparent huge pages: which blocks of 2 MiB are mapped by one entry, when they come, and
//! when they come apart (rules c14, e10, e21, f5). Owns the list of them; the page table has
//! their pages one by one, so that whoever asks for a page need not know.
//!
//! A huge page is changed whole in one step, or split first.
//!
//! # Divergence from Linux
//!
//! - A block without any entry counts as one without a page table. On Linux the table may outlive
//!   its entries, and then brings small pages only, and makes `MOVE` split.
//! - There is always memory for a huge page. The daemon that collapses pages by itself does not
//!   run; `MADV_COLLAPSE` is its work on demand.
//! - What a fork has shared stays shared until it is written, and a write splits it; Linux takes
//!   the page over whole if the other process has let go.

use shims::{Addr, Errno};

use super::call::MmId;
use super::did::{Did, HugeDid};
use super::page_table::{Pte, PteBits, Vpn};
use super::{Kernel, Mm, page_addr, page_of};
use crate::Content;
use crate::vma::{Backing, Vma, VmaFlags};

/// Pages of a huge page.
pub(super) const UNIT: u64 = 512;

/// Where a fault may map a huge page: `/sys/kernel/mm/transparent_hugepage/enabled`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Thp {
    /// Nowhere.
    Never,
    /// Where `MADV_HUGEPAGE` asked for them.
    #[default]
    Madvise,
    /// Wherever `MADV_NOHUGEPAGE` does not forbid them.
    Always,
}

impl Kernel {
    /// Set the policy of the whole system.
    pub fn set_thp(&mut self, thp: Thp) {
        self.thp = thp;
    }

    /// Is the page at `addr` part of a huge page?
    pub fn is_huge(&self, mm: MmId, addr: Addr) -> bool {
        self.mms[usize::from(mm.0)].unit_of(page_of(addr)).is_some()
    }

    /// Would a fault in `vma` rather bring a huge page?
    #[inline]
    pub(super) fn wants_huge(&self, vma: &Vma) -> bool {
        let no = VmaFlags::NOHUGEPAGE;
        match self.thp {
            Thp::Madvise => vma.flags().contains(VmaFlags::HUGEPAGE),
            Thp::Never => false,
            Thp::Always => !vma.flags().contains(no) && vma.is_private(),
        }
    }

    /// Bring a huge page for a fault at `vpn`, which nobody asked to be told of: of zeros, or
    /// the huge zero page for a read. False if it has to be a small one.
    #[cold]
    pub(super) fn fill_huge(&mut self, mm: MmId, vpn: Vpn, write: bool) -> bool {
        let mm = self.mm(mm);
        let base = vpn - vpn % UNIT;
        let fits = mm.space.find(page_addr(vpn)).is_some_and(|vma| {
            let anon = vma.is_private() && vma.backing() == Backing::Anon;
            anon && covers(vma, base) && !vma.flags().intersects(VmaFlags::SPECIAL)
        });
        if !fits || mm.table.first_entry(base, base + UNIT).is_some() {
            return false;
        }
        let pte = if write { Pte::page(Content::Zero) } else { Pte::ZERO_PAGE };
        mm.set_unit(base, |_| pte);
        mm.add_unit(base);
        if write {
            mm.space.note_anon_fault(page_addr(vpn));
        }
        true
    }

    /// Is there any?
    pub(super) fn any_huge(&self) -> bool {
        self.mms.iter().any(|mm| !mm.huge.is_empty())
    }

    /// After mappings have changed: a huge page that no mapping holds whole comes apart, and
    /// one whose pages are gone is none.
    pub(super) fn settle_huge(&mut self) {
        for mm in &mut self.mms {
            mm.settle_huge();
        }
    }
}

/// Does `vma` hold the whole block at `base`?
pub(super) fn covers(vma: &Vma, base: Vpn) -> bool {
    page_of(vma.start()) <= base && base + UNIT <= page_of(vma.end())
}

impl Mm {
    /// The first page of the huge page that `vpn` belongs to.
    #[inline]
    pub(super) fn unit_of(&self, vpn: Vpn) -> Option<Vpn> {
        if self.huge.is_empty() {
            return None;
        }
        let base = vpn - vpn % UNIT;
        self.huge.binary_search(&base).is_ok().then_some(base)
    }

    pub(super) fn add_unit(&mut self, base: Vpn) {
        debug_assert!(base.is_multiple_of(UNIT), "huge pages are aligned");
        if let Err(at) = self.huge.binary_search(&base) {
            self.huge.insert(at, base);
        }
    }

    /// The pages stay, each with an entry of its own. Those of a file are not mapped any more:
    /// the next access brings them back.
    pub(super) fn split(&mut self, vpn: Vpn) {
        if let Some(base) = self.unit_of(vpn) {
            self.huge.retain(|unit| *unit != base);
            if is_files(self.table.get(base)) {
                self.set_unit(base, |pte| pte.zapped(true));
            }
        }
    }

    /// Split what of `[start, end)` are huge pages of files.
    pub(super) fn split_files(&mut self, start: Vpn, end: Vpn) {
        let inside = |base: &&Vpn| **base + UNIT > start && **base < end;
        let found: Vec<_> = self.huge.iter().filter(inside).copied().collect();
        for base in found {
            if is_files(self.table.get(base)) {
                self.split(base);
            }
        }
    }

    /// A write under `WP_ASYNC` to a huge page of a file takes the protection off all of it.
    /// False if it is none.
    pub(super) fn unprotect_files(&mut self, vpn: Vpn) -> bool {
        match self.unit_of(vpn).filter(|base| is_files(self.table.get(*base))) {
            Some(base) => {
                self.set_unit(base, Pte::without_wp);
                true
            }
            None => false,
        }
    }

    /// Split what lies across an end of `[start, end)`.
    pub(super) fn split_edges(&mut self, start: Vpn, end: Vpn) {
        for edge in [start, end] {
            if !edge.is_multiple_of(UNIT) {
                self.split(edge);
            }
        }
    }

    /// Change all entries of the block at `base`.
    pub(super) fn set_unit(&mut self, base: Vpn, change: impl Fn(Pte) -> Pte) {
        for vpn in base..base + UNIT {
            let pte = self.table.get(vpn);
            self.table.set(vpn, change(pte));
        }
    }

    /// A scan has protected so many pages of the huge page at `vpn`: all of it, or it comes apart.
    pub(super) fn split_unless_whole(&mut self, vpn: Vpn, protected: u32) {
        if protected > 0 && u64::from(protected) < UNIT {
            self.split(vpn);
        }
    }

    /// If `vpn` begins a huge page that ends before `end`, change it whole: to nothing, if
    /// `change` says so. Otherwise it comes apart, and the caller changes a single page.
    pub(super) fn change_unit(
        &mut self,
        vpn: Vpn,
        end: Vpn,
        what: HugeDid,
        change: impl Fn(Pte) -> Pte,
    ) -> Option<Did> {
        let base = self.unit_of(vpn)?;
        if base != vpn || base + UNIT > end {
            self.split(vpn);
            return None;
        }
        self.set_unit(base, change);
        if !self.table.get(base).is_present() {
            self.split(base);
        }
        Some(Did::Huge { page: page_addr(base), what })
    }

    /// A write that nobody is asked about comes to a page that is not writable. The huge zero
    /// page is replaced whole; of a shared huge page a single page is copied.
    #[cold]
    pub(super) fn write_huge(&mut self, vpn: Vpn) {
        let Some(base) = self.unit_of(vpn) else { return };
        let Pte::Present { bits, .. } = self.table.get(vpn) else { return };
        if bits.contains(PteBits::ZERO_PAGE) {
            self.set_unit(base, |_| Pte::page(Content::Zero));
        } else if bits.contains(PteBits::FORKED) {
            let own = self.table.get(vpn);
            self.split(vpn);
            // Of a file's only the page that is written stays.
            self.table.set(vpn, own);
        }
    }

    /// `MOVE` of a huge page, with `left` pages still to be moved: whole if it can be (rule
    /// e21), and otherwise split, to go page by page.
    #[cold]
    pub(super) fn move_unit(
        &mut self,
        to: Vpn,
        from: Vpn,
        left: u64,
    ) -> Option<Result<Did, Errno>> {
        let base = self.unit_of(from)?;
        let whole = base == from && to.is_multiple_of(UNIT) && left >= UNIT;
        // Filled since the place was looked at.
        if !self.table.get(to).is_none() {
            return Some(Err(Errno::EEXIST));
        }
        if !whole || self.table.first_entry(to, to + UNIT).is_some() {
            self.split(from);
            return None;
        }
        if (from..from + UNIT).any(|vpn| is_forked(self.table.get(vpn))) {
            return Some(Err(Errno::EBUSY));
        }
        for i in 0..UNIT {
            // Protection does not come along (e22).
            let pte = match self.table.set(from + i, Pte::None) {
                Pte::Present { bits, .. } if bits.contains(PteBits::ZERO_PAGE) => Pte::ZERO_PAGE,
                Pte::Present { content, .. } => Pte::page(content),
                pte => unreachable!("a page of a huge page is {pte:?}"),
            };
            self.table.set(to + i, pte);
        }
        self.split(from);
        self.add_unit(to);
        self.space.note_anon_fault(page_addr(to));
        let what = HugeDid::Move { from: page_addr(from) };
        Some(Ok(Did::Huge { page: page_addr(to), what }))
    }

    /// `mremap` is about to move `pages` entries. Of files only what can stay huge stays mapped.
    pub(super) fn prepare_move(&mut self, from: Vpn, to: Vpn, pages: u64) {
        if self.huge.is_empty() {
            return;
        }
        for edge in [from, from + pages] {
            if self.unit_of(edge).is_some_and(|base| base != edge) {
                self.split_files(edge, edge + 1);
            }
        }
        if !to.wrapping_sub(from).is_multiple_of(UNIT) {
            self.split_files(from, from + pages);
        }
    }

    /// `mremap` has moved `pages` entries: huge pages that lie whole in what moved, and are as
    /// aligned there, stay huge.
    pub(super) fn relocate_huge(&mut self, from: Vpn, to: Vpn, pages: u64) {
        let (inside, mut stay): (Vec<_>, Vec<_>) =
            self.huge.iter().partition(|&&base| base + UNIT > from && base < from + pages);
        let whole = |base: &Vpn| {
            *base >= from
                && base + UNIT <= from + pages
                && (to + (base - from)).is_multiple_of(UNIT)
        };
        stay.extend(inside.into_iter().filter(whole).map(|base| to + (base - from)));
        stay.sort_unstable();
        self.huge = stay;
    }

    pub(super) fn settle_huge(&mut self) {
        if self.huge.is_empty() {
            return;
        }
        let (space, table) = (&self.space, &mut self.table);
        self.huge.retain(|&base| {
            let whole = space.find(page_addr(base)).is_some_and(|vma| covers(vma, base))
                && table.get(base).is_present();
            if !whole {
                let rest: Vec<_> = table.entries_in(base, base + UNIT).collect();
                for (vpn, pte) in rest.into_iter().filter(|(_, pte)| is_files(*pte)) {
                    table.set(vpn, pte.zapped(true));
                }
            }
            whole
        });
    }
}

/// Is it a page of a file's cache?
fn is_files(pte: Pte) -> bool {
    matches!(pte, Pte::Present { bits, .. } if bits.contains(PteBits::CACHED))
}

fn is_forked(pte: Pte) -> bool {
    matches!(pte, Pte::Present { bits, .. } if bits.contains(PteBits::FORKED))
}
