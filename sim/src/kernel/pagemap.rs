//! `/proc/PID/pagemap` and `mincore`: what a program can learn of a page without touching it.
//! Owns the translation of an entry; changes nothing and never faults (rule c9).
//!
//! # Divergence from Linux
//!
//! No page frame numbers. Bit 56, a page mapped once only, is clear for any page that a fork
//! has shared until it is written; Linux sets it again when the other process lets go. It is
//! clear for any page of a file.

use bitflags::bitflags;
use shims::{Addr, Errno, Span};

use super::call::MmId;
use super::page_table::{Marker, Pte, PteBits};
use super::resolve::TASK_SIZE;
use super::{Kernel, PAGE, page_addr, page_of};

bitflags! {
    /// An entry of `pagemap`, in the positions Linux uses.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
    pub struct PagemapBits: u64 {
        /// Mapped by this address space alone.
        const EXCLUSIVE = 1 << 56;
        /// Write-protected by userfaultfd.
        const UFFD_WP = 1 << 57;
        /// A guard (6.15 and later).
        const GUARD = 1 << 58;
        /// A page of a file, or of shared memory.
        const FILE = 1 << 61;
        /// Not mapped, but not nothing either: every marker shows like this.
        const SWAP = 1 << 62;
        /// A page is mapped.
        const PRESENT = 1 << 63;
    }
}

impl Kernel {
    /// What `pagemap` says of the page that holds `addr`.
    pub fn pagemap(&self, mm: MmId, addr: Addr) -> PagemapBits {
        match self.table(mm).get(self.granule(mm, page_of(addr))) {
            Pte::None => PagemapBits::empty(),
            Pte::Present { bits, .. } => {
                let others = PteBits::ZERO_PAGE | PteBits::FORKED | PteBits::CACHED;
                let own = !bits.intersects(others);
                let mut seen = PagemapBits::PRESENT;
                seen.set(PagemapBits::UFFD_WP, bits.contains(PteBits::UFFD_WP));
                seen.set(PagemapBits::EXCLUSIVE, own);
                seen.set(PagemapBits::FILE, bits.contains(PteBits::CACHED));
                seen
            }
            Pte::Marker(marker) => {
                // Measured: markers of huge pages do not look swapped.
                let huge = self.granule_pages(mm, page_of(addr)) > 1;
                let mut seen = if huge { PagemapBits::empty() } else { PagemapBits::SWAP };
                seen.set(PagemapBits::UFFD_WP, marker.is_protected());
                seen.set(PagemapBits::GUARD, marker.is_guard() && self.profile.guard.in_pagemap);
                seen
            }
        }
    }

    /// `mincore`: which pages of `range` are in memory. Nothing is faulted in (rule c9). A page
    /// of tmpfs counts if the file has it; of hugetlb, if it is mapped here.
    ///
    /// Errors: `EINVAL` for a start that is not aligned, `ENOMEM` for a hole.
    pub fn mincore(&self, mm: MmId, range: Span) -> Result<Vec<bool>, Errno> {
        if !range.start.is_aligned(PAGE) {
            return Err(Errno::EINVAL);
        }
        let end = range.end().filter(|end| end.raw() <= TASK_SIZE).ok_or(Errno::ENOMEM)?;
        let pages = page_of(range.start)..end.raw().div_ceil(PAGE.bytes());
        let resident = |vpn| {
            let vma = self.space(mm).find(page_addr(vpn)).ok_or(Errno::ENOMEM)?;
            let mapped = self.table(mm).get(self.granule(mm, vpn)).is_present();
            Ok(mapped || self.is_cached(vma, vpn))
        };
        pages.map(resident).collect()
    }
}

impl Marker {
    /// Does `pagemap` show it as write-protected?
    pub const fn is_protected(self) -> bool {
        matches!(self, Marker::WriteProtect | Marker::PoisonScanned | Marker::GuardScanned)
    }

    /// Does every access to it fail as to a broken page?
    pub const fn is_poison(self) -> bool {
        matches!(self, Marker::Poison | Marker::PoisonScanned)
    }

    /// Is it a guard?
    pub const fn is_guard(self) -> bool {
        matches!(self, Marker::Guard | Marker::GuardScanned)
    }
}
