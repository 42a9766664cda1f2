//! The three implementations a benchmark row runs on. Owns the peers: the real address
//! space with everything it does, a bare `BTreeMap` with the merge checks only, and
//! `rangemap`, which has no rules at all.

mod bare;
mod full;
mod ranges;
pub mod table;

pub use bare::Bare;
pub use full::Full;
pub use ranges::Ranges;

/// The first page number of a slot: 3 pages mapped, 5 free.
pub fn page_of_slot(slot: u64) -> u64 {
    0x1_0000 + slot * 8
}

/// What the rows need. Addresses and lengths are in pages.
pub trait Peer: Clone {
    /// Its name in the results.
    const NAME: &'static str;
    /// Can it search gaps?
    const FINDS_GAPS: bool = true;

    /// Slots 1 to `slots`, unfaulted and all alike.
    fn build(slots: u64) -> Self;
    /// Is the page mapped?
    fn lookup(&self, page: u64) -> bool;
    /// Map pages at a place that is free.
    fn map(&mut self, page: u64, pages: u64);
    /// What unmapping answers: the pages' owner has to let go of what was behind them.
    type Removed;
    /// Unmap pages, and tell what was there.
    fn unmap(&mut self, page: u64, pages: u64) -> Self::Removed;
    /// Does the answer say that something was unmapped?
    fn is_done(removed: &Self::Removed) -> bool;
    /// Make mapped pages writable or read-only.
    fn protect(&mut self, page: u64, pages: u64, write: bool);
    /// The first page of the highest gap below the end of the last slot that has `pages`
    /// pages, as placement from the top would choose it.
    fn highest_gap(&mut self, pages: u64, slots: u64) -> u64;
}
