//! The `rangemap` crate: it joins equal neighbours and knows no other rule.

use rangemap::RangeMap;

use super::{Peer, page_of_slot};

/// What it compares: 24 bytes of attributes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Attributes {
    flags: u64,
    file: u64,
    ctx: u32,
    policy: u32,
}

/// A range map as an address space.
#[derive(Clone)]
pub struct Ranges(RangeMap<u64, Attributes>);

fn attributes(write: bool) -> Attributes {
    Attributes { flags: if write { 3 } else { 1 }, file: 0, ctx: 0, policy: 0 }
}

impl Peer for Ranges {
    const NAME: &'static str = "rangemap";
    // `RangeMap::remove` does not tell.
    type Removed = ();
    const FINDS_GAPS: bool = false;

    fn build(slots: u64) -> Ranges {
        let mut ranges = Ranges(RangeMap::new());
        for slot in 1..=slots {
            ranges.map(page_of_slot(slot), 3);
        }
        ranges
    }

    fn lookup(&self, page: u64) -> bool {
        self.0.get(&page).is_some()
    }

    fn map(&mut self, page: u64, pages: u64) {
        self.0.insert(page..page + pages, attributes(true));
    }

    fn unmap(&mut self, page: u64, pages: u64) {
        self.0.remove(page..page + pages);
    }

    fn is_done((): &()) -> bool {
        true
    }

    fn protect(&mut self, page: u64, pages: u64, write: bool) {
        self.0.insert(page..page + pages, attributes(write));
    }

    fn highest_gap(&mut self, _: u64, _: u64) -> u64 {
        unreachable!("FINDS_GAPS is false: it can walk gaps upward only")
    }
}
