//! Huge pages of a tmpfs file: `MADV_COLLAPSE` makes them, a cut takes them apart, and mappings
//! that hold one whole show it by one entry (rules f6, c2, e10). Owns which blocks of a file are
//! one page; how a block is mapped is in the list of [`super::super::thp`]. All of it was
//! measured.
//!
//! # Divergence from Linux
//!
//! - The pages are gathered, unmapped and mapped again in one step.
//! - What is left when a huge page comes apart are small pages. Linux may keep some of them
//!   together, and then maps more of them at a time.
//! - A page table that has lost its entries is none; on Linux it may still be there, where the
//!   mapping is watched for writes, and then brings small pages.
//! - A file that ends inside the block is not gathered: `ENOTMODELLED`.

use shims::{Errno, RegisterModes};

use super::super::call::MmId;
use super::super::fault::By;
use super::super::page_table::{Pte, PteBits, Vpn};
use super::super::thp::{UNIT, covers};
use super::super::{Kernel, Mm, PAGE, page_addr, page_of};
use super::fault::cached_bits;
use super::map::{keeps_markers, place, shows, vpn_of};
use super::{Index, Object};
use crate::Content;
use crate::vma::{FileId, Vma, VmaFlags};

/// A huge page that `vma` holds whole: where it is mapped, and what it is in the file.
struct Block {
    base: Vpn,
    file: FileId,
    first: Index,
}

impl Object {
    /// Is the block of pages from `first` on one page?
    pub(super) fn is_huge(&self, first: Index) -> bool {
        self.huge.contains(&first)
    }
}

/// The block of its file that `vma` would show around `vpn`, if it holds it whole.
fn block_of(vma: &Vma, vpn: Vpn) -> Option<Block> {
    let base = vpn - vpn % UNIT;
    let (file, first) = place(vma, base.max(page_of(vma.start())))?;
    (covers(vma, base) && first.is_multiple_of(UNIT)).then_some(Block { base, file, first })
}

impl Kernel {
    /// The same if the file has a huge page there.
    fn huge_block(&self, vma: &Vma, vpn: Vpn) -> Option<Block> {
        let block = block_of(vma, vpn)?;
        self.backer(block.file).is_huge(block.first).then_some(block)
    }

    /// Would a read at `vpn` map a huge page whole?
    pub(super) fn holds_block(&self, vma: &Vma, vpn: Vpn) -> bool {
        self.huge_block(vma, vpn).is_some()
    }

    /// A fault at `vpn`, which the file has and nobody is to be told of, comes upon a huge page:
    /// it is mapped by one entry, or by all of them, or the fault is served like any other
    /// (`None`).
    #[cold]
    pub(super) fn map_block(&mut self, mm: MmId, vma: &Vma, vpn: Vpn, by: By) -> Option<Content> {
        let block = self.huge_block(vma, vpn)?;
        if by.writes() && vma.is_private() {
            return None;
        }
        let armed = vma.uffd_modes();
        let around = !armed.intersects(RegisterModes::WP | RegisterModes::MINOR);
        let base = block.base;
        let empty = self.table(mm).first_entry(base, base + UNIT).is_none();
        let whole = empty && !vma.flags().contains(VmaFlags::NOHUGEPAGE);
        let all = if by.writes() { empty && armed.is_empty() } else { around };
        if !whole && !all {
            return None;
        }
        self.map_all(mm, vma, &block);
        if whole {
            self.mm(mm).add_unit(base);
        }
        self.backer(block.file).cached(block.first + (vpn - base))
    }

    /// Every page of a huge page is mapped where nothing is.
    fn map_all(&mut self, mm: MmId, vma: &Vma, block: &Block) {
        let bits = cached_bits(vma);
        for n in 0..UNIT {
            let content = self.backer(block.file).cached(block.first + n);
            let content = content.expect("a huge page has all of its pages");
            let table = &mut self.mm(mm).table;
            if table.get(block.base + n).is_none() {
                table.set(block.base + n, Pte::Present { content, bits });
            }
        }
    }

    /// `MADV_COLLAPSE` of the block of `vma` at `base`. What comes after the pages of the file
    /// were gathered may still refuse, and leaves them gathered.
    pub(in crate::kernel) fn collapse_file(
        &mut self,
        mm: MmId,
        vma: &Vma,
        base: Vpn,
    ) -> Result<(), Errno> {
        let block = block_of(vma, base).ok_or(Errno::EINVAL)?;
        let object = self.backer(block.file);
        if !object.is_huge(block.first) {
            if object.pages.range(block.first..block.first + UNIT).next().is_none() {
                return Err(Errno::EINVAL);
            }
            if object.size() < (block.first + UNIT) * PAGE.bytes() {
                return Err(Errno::ENOTMODELLED);
            }
            self.gather(block.file, block.first)?;
        }
        let kept = vma.uffd_modes().contains(RegisterModes::WP)
            || vma.flags().contains(VmaFlags::MAYBE_GUARD);
        let table = self.table(mm);
        let is_files = |(_, pte): (Vpn, Pte)| matches!(pte, Pte::Present { bits, .. } if bits.contains(PteBits::CACHED));
        if kept || !table.entries_in(base, base + UNIT).all(is_files) {
            return Err(Errno::EINVAL);
        }
        self.map_all(mm, vma, &block);
        self.mm(mm).add_unit(base);
        Ok(())
    }

    /// The pages of a block leave every mapping; its holes are filled with zeros, unless that
    /// passed over somebody who watches for them.
    fn gather(&mut self, file: FileId, first: Index) -> Result<(), Errno> {
        self.unmap_block(file, first);
        let object = self.backer(file);
        let has_holes = object.pages.range(first..first + UNIT).count() as u64 != UNIT;
        let spaces = || self.mms.iter().flat_map(|mm| mm.space.iter());
        let asks = |vma: &Vma| {
            let pages = page_of(vma.end()) - page_of(vma.start());
            let overlaps = vma.pgoff() < first + UNIT && first < vma.pgoff() + pages;
            shows(vma, file) && overlaps && vma.uffd_modes().contains(RegisterModes::MISSING)
        };
        if has_holes && spaces().any(asks) {
            return Err(Errno::EBUSY);
        }
        let object = self.backer_mut(file);
        for index in first..first + UNIT {
            object.pages.entry(index).or_insert(Content::Zero);
        }
        object.huge.insert(first);
        // Tables that hold nothing anybody has put there go as a whole, poison and all.
        for Mm { space, table, .. } in &mut self.mms {
            for vma in space.iter().filter(|vma| shows(vma, file)) {
                let Some(base) = vpn_of(vma, first) else { continue };
                let keeps = vma.is_private()
                    || keeps_markers(vma)
                    || vma.flags().contains(VmaFlags::MAYBE_GUARD)
                    || !base.is_multiple_of(UNIT)
                    || !covers(vma, base);
                if !keeps {
                    for vpn in base..base + UNIT {
                        table.set(vpn, Pte::None);
                    }
                }
            }
        }
        Ok(())
    }

    /// Wherever the pages of a block are mapped, they are not any more. Protection stays behind
    /// where it is watched.
    pub(in crate::kernel) fn unmap_block(&mut self, file: FileId, first: Index) {
        for mm in &mut self.mms {
            let Mm { space, table, huge, .. } = mm;
            for vma in space.iter().filter(|vma| shows(vma, file)) {
                let start = vma.pgoff().max(first);
                let pages = page_of(vma.end()) - page_of(vma.start());
                let end = (vma.pgoff() + pages).min(first + UNIT);
                for index in start..end {
                    let vpn = vpn_of(vma, index).expect("it is inside");
                    let pte = table.get(vpn);
                    if is_cached(pte) {
                        table.set(vpn, pte.zapped(keeps_markers(vma)));
                    }
                }
                huge.retain(|base| place(vma, *base) != Some((file, first)));
            }
        }
    }

    /// A page of a huge page is about to go from the file, which then consists of small pages.
    pub(super) fn break_block(&mut self, file: FileId, index: Index) {
        let first = index - index % UNIT;
        if self.backer(file).is_huge(first) {
            self.unmap_block(file, first);
            self.backer_mut(file).huge.remove(&first);
        }
    }

    /// Reclaim comes to a part of `[start, end)` that begins or ends inside a huge page of a
    /// file, which comes apart for that; not one that another process maps as well.
    pub(in crate::kernel) fn break_edges(&mut self, mm: MmId, start: Vpn, end: Vpn) {
        for edge in [start, end] {
            let Some(base) = self.mm(mm).unit_of(edge).filter(|base| *base != edge) else {
                continue;
            };
            let vma = *self.space(mm).find(page_addr(base)).expect("it is mapped");
            if let Some((file, first)) = place(&vma, base)
                && !self.shared_with_others(mm, file, first, UNIT)
            {
                self.break_block(file, first);
            }
        }
    }

    /// Does another process map any of these pages?
    fn shared_with_others(&self, mm: MmId, file: FileId, first: Index, pages: u64) -> bool {
        let own = usize::from(mm.0);
        (0..self.mms.len())
            .filter(|other| *other != own)
            .any(|other| (first..first + pages).any(|index| self.maps(other, file, index) > 0))
    }

    /// How often an address space maps a page.
    fn maps(&self, mm: usize, file: FileId, index: Index) -> usize {
        let Mm { space, table, .. } = &self.mms[mm];
        let vmas = space.iter().filter(|vma| shows(vma, file));
        vmas.filter_map(|vma| vpn_of(vma, index)).filter(|vpn| is_cached(table.get(*vpn))).count()
    }

    /// `MADV_PAGEOUT` comes to page `vpn` of a file. Without swap the page stays in the file;
    /// what maps it does not, unless it is mapped elsewhere, too. Did it go?
    pub(in crate::kernel) fn page_out_cached(&mut self, mm: MmId, vpn: Vpn) -> bool {
        let vma = *self.space(mm).find(page_addr(vpn)).expect("the walk is in it");
        let (file, index) = place(&vma, vpn).expect("its page is a file's");
        if self.mm(mm).unit_of(vpn).is_some() {
            let goes = !self.shared_with_others(mm, file, index, UNIT);
            if goes {
                self.unmap_block(file, index);
            }
            return goes;
        }
        let times: usize = (0..self.mms.len()).map(|mm| self.maps(mm, file, index)).sum();
        if times == 1 {
            let table = &mut self.mm(mm).table;
            let pte = table.get(vpn);
            table.set(vpn, pte.zapped(keeps_markers(&vma)));
        }
        times == 1
    }
}

/// Is it a page of a file's cache?
fn is_cached(pte: Pte) -> bool {
    matches!(pte, Pte::Present { bits, .. } if bits.contains(PteBits::CACHED))
}
