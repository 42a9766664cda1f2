//! Page tables: what each page of an address space maps to. Owns presence, content,
//! protection bits and markers; knows nothing of VMAs or of who waits.
//!
//! Entries live in chunks of 64 that clones share until one of them writes.

use std::sync::Arc;

use bitflags::bitflags;

use crate::Content;
use crate::copy::copy_by_field;

/// The number of a 4 KiB page of an address space.
pub(crate) type Vpn = u64;

/// A page table entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Pte {
    /// Nothing: the next access faults.
    #[default]
    None,
    /// A page.
    Present {
        /// What it holds.
        content: Content,
        /// How it is mapped.
        bits: PteBits,
    },
    /// No page, but something to remember.
    Marker(Marker),
}

/// What an entry without a page can remember.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Marker {
    /// The page that comes is to be write-protected (rule f1).
    WriteProtect,
    /// Every access fails (rule c12).
    Poison,
    /// No access is allowed (`MADV_GUARD_INSTALL`).
    Guard,
    /// A poisoned page that `PAGEMAP_SCAN` has protected: only `pagemap` tells the difference.
    PoisonScanned,
    /// A guard that `PAGEMAP_SCAN` has protected: likewise.
    GuardScanned,
}

bitflags! {
    /// How a page is mapped. No bit: it may be written, if its VMA may.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
    pub struct PteBits: u8 {
        /// It is the shared zero page: a write replaces it silently (rules e14, f7).
        const ZERO_PAGE = 1 << 0;
        /// Userfaultfd has write-protected it. Where the VMA is not registered for `WP` the
        /// bit is without effect, and a write leaves it standing (rule b9).
        const UFFD_WP = 1 << 1;
        /// The processor traps a write to it.
        const READ_ONLY = 1 << 2;
        /// It may belong to somebody else as well, to another process since a fork or to a
        /// file: a write copies it, and `MOVE` says `EBUSY` (rule e21).
        const FORKED = 1 << 3;
        /// It is a page of a memory file's cache, which owns the content. With `FORKED` the
        /// mapping is private.
        const CACHED = 1 << 4;
        /// `MADV_FREE` has given it up, and nobody has written to it since (rule d11).
        const GIVEN_UP = 1 << 7;
    }
}

impl PteBits {
    /// Protected by `UFFDIO_WRITEPROTECT` or `COPY`.
    pub(super) const PROTECTED: PteBits = PteBits::UFFD_WP.union(PteBits::READ_ONLY);

    /// Can the processor write to it without asking?
    pub(super) const fn writable(self) -> bool {
        !self.intersects(PteBits::ZERO_PAGE.union(PteBits::READ_ONLY))
    }

    /// After userfaultfd's protection is taken away: writable again, unless a write has to
    /// copy the page first.
    pub(super) fn unprotected(self) -> PteBits {
        let bits = self.difference(PteBits::UFFD_WP);
        if bits.contains(PteBits::FORKED) { bits } else { bits.difference(PteBits::READ_ONLY) }
    }

    /// After a write that nobody is asked about. A copy is a page like any other; a page
    /// that is written in place keeps what userfaultfd has put on it (rule b9).
    pub(super) fn written(self) -> PteBits {
        if self.intersects(PteBits::ZERO_PAGE | PteBits::FORKED) {
            return PteBits::empty();
        }
        self.difference(PteBits::READ_ONLY.union(PteBits::GIVEN_UP))
    }
}

impl Pte {
    /// A page that may be written.
    pub(crate) const fn page(content: Content) -> Pte {
        Pte::Present { content, bits: PteBits::empty() }
    }

    /// The shared zero page.
    pub(crate) const ZERO_PAGE: Pte =
        Pte::Present { content: Content::Zero, bits: PteBits::ZERO_PAGE };

    /// Is there nothing at all? Cheaper than a comparison, in the loops over whole tables.
    #[inline]
    pub const fn is_none(&self) -> bool {
        matches!(self, Pte::None)
    }

    /// Is there a page? A marker is none.
    pub const fn is_present(self) -> bool {
        matches!(self, Pte::Present { .. })
    }

    /// On both sides of a fork: a page is shared until somebody writes to it. One of a file
    /// is as it was.
    pub(super) fn forked(self) -> Pte {
        match self {
            Pte::Present { content, bits }
                if !bits.intersects(PteBits::ZERO_PAGE.union(PteBits::CACHED)) =>
            {
                Pte::Present { content, bits: bits | PteBits::FORKED | PteBits::READ_ONLY }
            }
            pte => pte,
        }
    }

    /// What is left of an entry of a memory file when it is zapped: the protection, of a page
    /// where `WP` is registered, of an absent one wherever it comes from (rules b9, f3).
    pub(super) fn zapped(self, wp: bool) -> Pte {
        match self {
            Pte::Present { bits, .. } if wp && bits.contains(PteBits::UFFD_WP) => {
                Pte::Marker(Marker::WriteProtect)
            }
            Pte::Present { .. } => Pte::None,
            // Measured: the poison goes, and what a scan has put on it is a marker of its own.
            Pte::Marker(Marker::PoisonScanned) if wp => Pte::Marker(Marker::WriteProtect),
            Pte::Marker(marker) if marker.is_poison() => Pte::None,
            pte => pte,
        }
    }

    /// Without anything userfaultfd's write protection has left in it.
    pub(super) fn without_wp(self) -> Pte {
        match self {
            Pte::Present { content, bits } if bits.contains(PteBits::UFFD_WP) => {
                Pte::Present { content, bits: bits.unprotected() }
            }
            Pte::Marker(Marker::WriteProtect) => Pte::None,
            pte => pte,
        }
    }

    /// As a child gets it: poison and guards lose what a scan has put on them, watched or not
    /// (d26, measured).
    pub(super) fn inherited(self) -> Pte {
        match self {
            Pte::Marker(Marker::PoisonScanned) => Pte::Marker(Marker::Poison),
            Pte::Marker(Marker::GuardScanned) => Pte::Marker(Marker::Guard),
            pte => pte,
        }
    }

    /// The same where nobody watches the place it goes to, in a child or after a move. There it
    /// loses its protection, too, and what a scan has put on it, which un-protecting and
    /// unregistering leave (measured).
    pub(super) fn unwatched(self) -> Pte {
        self.inherited().without_wp()
    }
}

const CHUNK: usize = 64;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Chunk {
    entries: [Pte; CHUNK],
    /// Entries that are not empty.
    used: u8,
}

/// The page table of one address space: sparse, sorted, cheap to clone.
///
/// A chunk of empty entries is dropped, so equal tables are equal values.
#[derive(PartialEq, Eq, Hash, Debug, Default)]
pub struct PageTable {
    chunks: Vec<(u64, Arc<Chunk>)>,
}

copy_by_field! {
    PageTable copies { chunks }
}

impl PageTable {
    /// The entry of page `vpn`.
    #[inline]
    pub fn get(&self, vpn: Vpn) -> Pte {
        match self.position(vpn) {
            Ok(at) => self.chunks[at].1.entries[vpn as usize % CHUNK],
            Err(_) => Pte::None,
        }
    }

    /// Replace the entry of page `vpn`; returns the one that was there.
    #[inline]
    pub fn set(&mut self, vpn: Vpn, pte: Pte) -> Pte {
        let slot = vpn as usize % CHUNK;
        match self.position(vpn) {
            Ok(at) => {
                let chunk = Arc::make_mut(&mut self.chunks[at].1);
                let old = core::mem::replace(&mut chunk.entries[slot], pte);
                chunk.used = chunk.used + u8::from(!pte.is_none()) - u8::from(!old.is_none());
                if chunk.used == 0 {
                    self.chunks.remove(at);
                }
                old
            }
            Err(at) => {
                if !pte.is_none() {
                    let mut chunk = Chunk { entries: [Pte::None; CHUNK], used: 1 };
                    chunk.entries[slot] = pte;
                    self.chunks.insert(at, (vpn / CHUNK as u64, Arc::new(chunk)));
                }
                Pte::None
            }
        }
    }

    /// A write to page `vpn`, which is present, leaves `content` there. False if the page is
    /// a file's: then nothing is done, because the file has to be told.
    ///
    /// # Panics
    ///
    /// If there is no page.
    #[inline]
    pub(super) fn write(&mut self, vpn: Vpn, content: Content) -> bool {
        let at = self.position(vpn).expect("a write comes behind the walk that found the page");
        let entry = &mut Arc::make_mut(&mut self.chunks[at].1).entries[vpn as usize % CHUNK];
        let Pte::Present { bits, .. } = *entry else { panic!("page {vpn:#x} is {entry:?}") };
        if bits & (PteBits::CACHED | PteBits::FORKED) == PteBits::CACHED {
            return false;
        }
        *entry = Pte::Present { content, bits: bits.written() };
        true
    }

    /// Take away what write protection has left in `[start, end)` (rules a20, b13, d19).
    pub(super) fn clear_wp(&mut self, start: Vpn, end: Vpn) {
        let marked: Vec<_> =
            self.entries_in(start, end).filter(|(_, pte)| pte.without_wp() != *pte).collect();
        for (vpn, pte) in marked {
            self.set(vpn, pte.without_wp());
        }
    }

    /// Move the entries of `pages` pages; the two ranges do not overlap (rule d22). Without
    /// `keep_wp` they lose their write protection on the way (rule d19).
    pub(super) fn relocate(&mut self, from: Vpn, to: Vpn, pages: u64, keep_wp: bool) {
        let moved: Vec<_> = self.entries_in(from, from + pages).collect();
        for (vpn, pte) in moved {
            self.set(vpn, Pte::None);
            self.set(to + (vpn - from), if keep_wp { pte } else { pte.unwatched() });
        }
    }

    /// The entries in `[start, end)` that are not empty, ascending.
    pub fn entries_in(&self, start: Vpn, end: Vpn) -> impl Iterator<Item = (Vpn, Pte)> + '_ {
        let first = self.chunks.partition_point(|(no, _)| (no + 1) * (CHUNK as u64) <= start);
        self.chunks[first..]
            .iter()
            .take_while(move |(no, _)| no * (CHUNK as u64) < end)
            .flat_map(move |(no, chunk)| {
                let base = no * CHUNK as u64;
                let first = start.saturating_sub(base) as usize;
                let behind = (end - base).min(CHUNK as u64) as usize;
                // An empty range has nothing, wherever it lies.
                let part = chunk.entries.get(first..behind).unwrap_or_default();
                part.iter().zip(base + first as u64..).map(|(pte, vpn)| (vpn, *pte))
            })
            .filter(|(_, pte)| !pte.is_none())
    }

    /// The lowest entry in `[start, end)` that is not empty.
    pub fn first_entry(&self, start: Vpn, end: Vpn) -> Option<(Vpn, Pte)> {
        self.entries_in(start, end).next()
    }

    /// How many pages are present.
    pub fn present(&self) -> usize {
        let entries = self.chunks.iter().flat_map(|(_, chunk)| &chunk.entries);
        entries.filter(|pte| pte.is_present()).count()
    }

    fn position(&self, vpn: Vpn) -> Result<usize, usize> {
        let wanted = vpn / CHUNK as u64;
        // Worlds are small: the one chunk in use is nearly always the first.
        match self.chunks.first() {
            Some((no, _)) if *no == wanted => Ok(0),
            _ => self.chunks.binary_search_by_key(&wanted, |(no, _)| *no),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: Pte = Pte::ZERO_PAGE;

    #[test]
    fn a_table_that_was_filled_and_emptied_equals_a_new_one() {
        let mut table = PageTable::default();
        for vpn in [0, 63, 64, 1 << 40] {
            assert_eq!(table.set(vpn, PAGE), Pte::None);
        }
        assert_eq!(table.present(), 4);
        let listed: Vec<_> = table.entries_in(1, (1 << 40) + 1).map(|(vpn, _)| vpn).collect();
        assert_eq!(listed, [63, 64, 1 << 40]);
        for vpn in [1 << 40, 64, 63, 0] {
            assert_eq!(table.set(vpn, Pte::None), PAGE);
        }
        assert_eq!(table, PageTable::default());
    }

    #[test]
    fn a_clone_does_not_see_later_writes() {
        let mut table = PageTable::default();
        table.set(5, PAGE);
        let before = table.clone();
        table.set(5, Pte::None);
        table.set(6, PAGE);
        assert_eq!((before.get(5), before.get(6)), (PAGE, Pte::None));
    }
}
