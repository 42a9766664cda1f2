//! Page tables: what each page of an address space maps to. Owns presence, content and
//! markers; knows nothing of VMAs or of who waits.
//!
//! Entries live in chunks of 64 that clones share until one of them writes.

use std::sync::Arc;

use crate::Content;

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
        /// It is the shared zero page: a write replaces it silently (rules e14, f7).
        zero_page: bool,
    },
}

const CHUNK: usize = 64;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Chunk {
    entries: [Pte; CHUNK],
    present: u8,
}

/// The page table of one address space: sparse, sorted, cheap to clone.
///
/// A chunk without any present page is dropped, so equal tables are equal values.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct PageTable {
    chunks: Vec<(u64, Arc<Chunk>)>,
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
                chunk.present =
                    chunk.present + u8::from(pte != Pte::None) - u8::from(old != Pte::None);
                if chunk.present == 0 {
                    self.chunks.remove(at);
                }
                old
            }
            Err(at) => {
                if pte != Pte::None {
                    let mut chunk = Chunk { entries: [Pte::None; CHUNK], present: 1 };
                    chunk.entries[slot] = pte;
                    self.chunks.insert(at, (vpn / CHUNK as u64, Arc::new(chunk)));
                }
                Pte::None
            }
        }
    }

    /// The present pages in `[start, end)`, ascending.
    pub fn present_in(&self, start: Vpn, end: Vpn) -> impl Iterator<Item = (Vpn, Pte)> + '_ {
        let first = self.chunks.partition_point(|(no, _)| (no + 1) * (CHUNK as u64) <= start);
        self.chunks[first..]
            .iter()
            .take_while(move |(no, _)| no * (CHUNK as u64) < end)
            .flat_map(|(no, chunk)| {
                chunk
                    .entries
                    .iter()
                    .enumerate()
                    .map(move |(i, pte)| (no * CHUNK as u64 + i as u64, *pte))
            })
            .filter(move |(vpn, pte)| (start..end).contains(vpn) && *pte != Pte::None)
    }

    /// The lowest present page in `[start, end)`.
    pub fn first_present(&self, start: Vpn, end: Vpn) -> Option<Vpn> {
        self.present_in(start, end).next().map(|(vpn, _)| vpn)
    }

    /// How many pages are present.
    pub fn present(&self) -> usize {
        self.chunks.iter().map(|(_, chunk)| usize::from(chunk.present)).sum()
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

    const PAGE: Pte = Pte::Present { content: Content::Zero, zero_page: true };

    #[test]
    fn a_table_that_was_filled_and_emptied_equals_a_new_one() {
        let mut table = PageTable::default();
        for vpn in [0, 63, 64, 1 << 40] {
            assert_eq!(table.set(vpn, PAGE), Pte::None);
        }
        assert_eq!(table.present(), 4);
        let listed: Vec<_> = table.present_in(1, (1 << 40) + 1).map(|(vpn, _)| vpn).collect();
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
