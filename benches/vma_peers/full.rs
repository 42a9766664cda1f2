//! The address space of the simulator: every check, counter and error path of the calls.

use shims::Addr;
use sim::vma::{AddressSpace, Limits, Mmap, Prot, Refused, Removed, Rules};

use super::{Peer, page_of_slot};

/// The real thing.
#[derive(Clone)]
pub struct Full(AddressSpace);

impl Peer for Full {
    const NAME: &'static str = "faultbed";
    type Removed = Result<Removed, Refused>;

    fn build(slots: u64) -> Full {
        let limits = Limits {
            max_map_count: usize::MAX,
            mmap_base: (page_of_slot(slots) + 3) << 12,
            mmap_min_addr: page_of_slot(1) << 12,
            ..Limits::default()
        };
        let mut space = AddressSpace::with_limits(Rules::LINUX_6_18, limits);
        for slot in 1..=slots {
            let request = Mmap::fixed(page_of_slot(slot) << 12, 3 << 12, Prot::RW);
            space.mmap(&request).expect("the slot is free");
        }
        Full(space)
    }

    fn lookup(&self, page: u64) -> bool {
        self.0.find(Addr::new(page << 12)).is_some()
    }

    fn map(&mut self, page: u64, pages: u64) {
        self.0.mmap(&Mmap::fixed(page << 12, pages << 12, Prot::RW)).expect("it is free");
    }

    fn unmap(&mut self, page: u64, pages: u64) -> Self::Removed {
        self.0.munmap(page << 12, pages << 12)
    }

    fn is_done(removed: &Self::Removed) -> bool {
        removed.is_ok()
    }

    fn protect(&mut self, page: u64, pages: u64, write: bool) {
        let prot = if write { Prot::RW } else { Prot::READ };
        self.0.mprotect(page << 12, pages << 12, prot).expect("it is mapped");
    }

    fn highest_gap(&mut self, pages: u64, _: u64) -> u64 {
        // Where the next mapping would go: the whole of placement, with its guard gaps.
        self.0.unmapped_area(0, pages << 12).expect("there is room").raw() >> 12
    }
}
