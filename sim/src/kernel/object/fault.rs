//! Faults in mappings of memory files: what is asked for, and what comes by itself (rules
//! c1, c2, c4, f1). The steps F1 to F5 are those of every fault, in `fault.rs`.

use shims::RegisterModes;

use super::super::Kernel;
use super::super::call::{MmId, Signal};
use super::super::fault::{By, Walk};
use super::super::page_table::{Marker, Pte, PteBits, Vpn};
use super::super::run::Reason;
use super::super::{PAGE, page_addr, page_of};
use super::map::place;
use super::pool::is_private_huge;
use crate::Content;
use crate::vma::{Backing, Vma};

/// The pages that a read fault maps besides its own lie in a window of so many pages, aligned
/// to its size, that contains the fault. Where the mapping begins inside that, the window begins
/// with the mapping and is as long (rule c2).
const AROUND: u64 = 16;

/// Pages that share a page table.
const TABLE: u64 = 512;

const MARKER: Pte = Pte::Marker(Marker::WriteProtect);

impl Kernel {
    /// F1 where page `vpn` of a memory file is not mapped. Its neighbours are mapped first if
    /// they are cached, and only then is it looked at.
    #[cold]
    pub(in crate::kernel) fn walk_file(&mut self, mm: MmId, vpn: Vpn, by: By) -> Walk {
        let vma = *self.space(mm).find(page_addr(vpn)).expect("the walk has found it");
        let (file, index) = place(&vma, vpn).expect("it has a file");
        let watched = vma.uffd_modes().contains(RegisterModes::WP);
        if self.table(mm).get(vpn) == MARKER && !watched && vma.page_size() == PAGE {
            // b9: left by another registration; the first access clears it, but not on hugetlb.
            self.mm(mm).table.set(vpn, Pte::None);
        }
        if !by.writes() {
            self.map_around(mm, &vma, vpn);
        }
        let object = self.backer(file);
        if !object.reaches(index) {
            return Walk::Refused(Signal::BusAdrErr);
        }
        let cached = object.cached(index);
        let (mode, reason) = match cached {
            Some(_) => (RegisterModes::MINOR, Reason::Minor),
            None => (RegisterModes::MISSING, Reason::Missing),
        };
        let told = vma.uffd().filter(|_| vma.uffd_modes().contains(mode));
        match told {
            Some(ctx) => self.ask(ctx, reason, by),
            None if self.lacks_page(&vma, vpn, cached, by) => Walk::Refused(Signal::BusAdrErr),
            None => Walk::FillFile,
        }
    }

    /// Would it take a huge page, and is there none?
    fn lacks_page(&self, vma: &Vma, vpn: Vpn, cached: Option<Content>, by: By) -> bool {
        let huge = matches!(vma.backing(), Backing::Hugetlb(..));
        let takes = cached.is_none() || (by.writes() && vma.is_private());
        huge && takes && !self.has_huge_page(vma, vpn)
    }

    /// Nobody wants to be told: the page comes from the cache, or a page of zeros is added to
    /// it. A private mapping writes to a copy. True if the page is write-protected, and a
    /// write has to be asked for after all.
    pub(in crate::kernel) fn fill_file(&mut self, mm: MmId, vpn: Vpn, by: By) -> (Content, bool) {
        let vma = *self.space(mm).find(page_addr(vpn)).expect("the walk has found it");
        let (file, index) = place(&vma, vpn).expect("it has a file");
        if !self.backer(file).huge.is_empty()
            && let Some(content) = self.map_block(mm, &vma, vpn, by)
        {
            return (content, false);
        }
        let cached = self.backer(file).cached(index);
        // A private huge page never becomes the file's; a private page of tmpfs is a copy of
        // one that does.
        let solitary = is_private_huge(&vma);
        if cached.is_none() && !solitary {
            self.backer_mut(file).put(index, Content::Zero);
        }
        let content = cached.unwrap_or_default();
        let marked = self.table(mm).get(vpn) == MARKER;
        // hugetlb maps the file's page first where the write is going to be trapped (measured).
        let copied = by.writes() && !(marked && vma.page_size() != PAGE);
        let own = vma.is_private() && (copied || (solitary && cached.is_none()));
        let mut bits = if own { PteBits::empty() } else { cached_bits(&vma) };
        if marked {
            bits |= PteBits::PROTECTED;
        }
        let mm = self.mm(mm);
        mm.table.set(vpn, Pte::Present { content, bits });
        if own {
            mm.space.note_anon_fault(page_addr(vpn));
        }
        (content, marked)
    }

    /// A read maps what is cached nearby (rule c2), but not where that would pass over
    /// somebody who wants to be told.
    fn map_around(&mut self, mm: MmId, vma: &Vma, vpn: Vpn) {
        let told = RegisterModes::WP | RegisterModes::MINOR;
        if !matches!(vma.backing(), Backing::Shmem(_)) || vma.uffd_modes().intersects(told) {
            return;
        }
        let (file, index) = place(vma, vpn).expect("it has a file");
        if self.backer(file).is_huge(index - index % TABLE) && self.holds_block(vma, vpn) {
            return;
        }
        let first = (vpn - vpn % AROUND).max(page_of(vma.start()));
        // It does not cross into another page table.
        let end = (first + AROUND).min(page_of(vma.end())).min((vpn / TABLE + 1) * TABLE);
        for near in (first..end).filter(|near| *near != vpn) {
            let (file, index) = place(vma, near).expect("it has a file");
            if let Some(content) = self.backer(file).cached(index)
                && self.table(mm).get(near).is_none()
            {
                let bits = cached_bits(vma);
                self.mm(mm).table.set(near, Pte::Present { content, bits });
            }
        }
    }
}

/// How a page of the cache is mapped. A private mapping may read it, and writes to a copy.
pub(super) fn cached_bits(vma: &Vma) -> PteBits {
    if vma.is_private() {
        PteBits::CACHED | PteBits::FORKED | PteBits::READ_ONLY
    } else {
        PteBits::CACHED
    }
}
