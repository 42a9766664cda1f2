//! The requests under way, by id and by address. Owns their storage and the check that an
//! id is not stale; what happens to a request is `mod.rs`'s business.

use core::hash::{Hash, Hasher};

use shims::{Addr, PageNo};
use slab::Slab;

use super::ReqId;
use crate::Content;

/// What a request has come to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Stage {
    /// In the `ready` or the `gated` queue.
    Queued,
    /// Its `Fetch` was handed out.
    Fetching,
    /// In the list of deadlines.
    Deferred(Why),
    /// Its install was handed out.
    Installing(Content),
    /// Its page is being un-protected, for faults that are a write.
    Unprotecting,
    /// Its page is being mapped from the page cache.
    Continuing,
    /// Its page is being protected, for a baseline.
    Protecting,
    /// The kernel is asked whether the address space is changing.
    Asking,
    /// In the queue of wakes, with the outcome that follows.
    ToWake(Ending),
    /// Its `WAKE` was handed out.
    Waking(Ending),
}

/// What a deferred request waits for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Why {
    /// The address space to be quiet; over early when a `REMOVE` has been read.
    Changing,
    /// The source to recover.
    Source,
    /// Memory.
    Memory,
}

/// How a request ends.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Ending {
    Installed,
    Present,
    Dropped,
    Poisoned,
    Unprotected,
    Failed,
    /// A probe, which answers no fault.
    Probed,
}

/// What the faults on a page need of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Needs {
    /// The page itself.
    pub(super) page: bool,
    /// The page to be mapped, which the page cache has.
    pub(super) minor: bool,
    /// The page without its write protection.
    pub(super) unprotected: bool,
    /// Any of them is a write.
    pub(super) write: bool,
}

impl Needs {
    pub(super) fn add(&mut self, other: Needs) {
        self.page |= other.page;
        self.minor |= other.minor;
        self.unprotected |= other.unprotected;
        self.write |= other.write;
    }

    /// Is the page known to be there, and only its protection in the way?
    pub(super) fn only_unprotected(self) -> bool {
        self.unprotected && !self.page && !self.minor
    }

    /// Is the page known to be in the page cache?
    pub(super) fn only_mapped(self) -> bool {
        self.minor && !self.page
    }
}

/// A request: what is being done about one page.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Req {
    pub(super) page: PageNo,
    pub(super) addr: Addr,
    pub(super) stage: Stage,
    /// Is it for a snapshot, and for no fault?
    pub(super) probe: bool,
    /// Is it to protect the page again?
    pub(super) protects: bool,
    /// Is its address in no region?
    pub(super) stray: bool,
    /// Does its ioctl that is out keep the reader waiting?
    pub(super) gated: bool,
    /// Has its memory left this address since?
    pub(super) stale: bool,
    /// What its faults need.
    pub(super) needs: Needs,
    /// Does the driver hold the bytes of the page?
    pub(super) loaded: bool,
    /// Has the source been given up?
    pub(super) poison: bool,
    /// Faults that its ending answers.
    pub(super) faults: u64,
    /// Faults that came while an ioctl was out; the page is tried again for them.
    pub(super) late: u64,
    /// What those need.
    pub(super) late_needs: Needs,
    /// Bytes at the start of the page that are installed already.
    pub(super) done: u64,
    /// Attempts that failed since the last success, by reason.
    pub(super) changing: u32,
    pub(super) source: u32,
    pub(super) memory: u32,
    /// Those against `EAGAIN` since the machine stopped reading for good.
    pub(super) last: u32,
}

impl Req {
    pub(super) fn new(page: PageNo, addr: Addr) -> Req {
        Req {
            page,
            addr,
            stage: Stage::Queued,
            probe: false,
            protects: false,
            stray: false,
            gated: false,
            stale: false,
            needs: Needs::default(),
            loaded: false,
            poison: false,
            faults: 0,
            late: 0,
            late_needs: Needs::default(),
            done: 0,
            changing: 0,
            source: 0,
            memory: 0,
            last: 0,
        }
    }

    /// The hash of all but how many faults there are: that there are any is all that counts.
    pub(super) fn hash_asked<H: Hasher>(&self, state: &mut H) {
        let (faults, late) = (self.faults.min(1), self.late.min(1));
        Req { faults, late, ..self.clone() }.hash(state);
    }

    /// Is one of its actions out?
    pub(super) fn is_out(&self) -> bool {
        match self.stage {
            Stage::Fetching | Stage::Installing(_) | Stage::Waking(_) => true,
            Stage::Unprotecting | Stage::Continuing | Stage::Protecting | Stage::Asking => true,
            Stage::Queued | Stage::Deferred(_) | Stage::ToWake(_) => false,
        }
    }

    /// Is one of its ioctls out, or about to follow one that was?
    pub(super) fn is_issued(&self) -> bool {
        match self.stage {
            Stage::Installing(_)
            | Stage::Unprotecting
            | Stage::Continuing
            | Stage::Protecting
            | Stage::Asking => true,
            Stage::ToWake(_) | Stage::Waking(_) => true,
            Stage::Queued | Stage::Fetching | Stage::Deferred(_) => false,
        }
    }
}

/// The requests under way: at most one for an address.
#[derive(Clone, Default, Debug)]
pub(super) struct Slots {
    slab: Slab<(u32, Req)>,
    /// Ascending by address.
    by_addr: Vec<(Addr, u32)>,
    next_generation: u32,
}

impl Slots {
    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    pub(super) fn insert(&mut self, req: Req) -> u32 {
        let addr = req.addr;
        let slot = self.slab.insert((self.next_generation, req)) as u32;
        self.next_generation = self.next_generation.wrapping_add(1);
        let at = self.by_addr.partition_point(|(a, _)| *a < addr);
        debug_assert!(self.by_addr.get(at).is_none_or(|(a, _)| *a != addr));
        self.by_addr.insert(at, (addr, slot));
        slot
    }

    pub(super) fn remove(&mut self, slot: u32) -> Req {
        let (_, req) = self.slab.remove(slot as usize);
        let at = self.by_addr.partition_point(|(a, _)| *a < req.addr);
        self.by_addr.remove(at);
        req
    }

    /// The request for the page at `addr`, its first byte.
    pub(super) fn find(&self, addr: Addr) -> Option<u32> {
        let at = self.by_addr.binary_search_by_key(&addr, |(a, _)| *a).ok()?;
        Some(self.by_addr[at].1)
    }

    pub(super) fn id(&self, slot: u32) -> ReqId {
        ReqId { slot, generation: self.slab[slot as usize].0 }
    }

    /// The slot of `id`.
    ///
    /// # Panics
    ///
    /// If the request has ended: the driver answered it twice.
    pub(super) fn check(&self, id: ReqId) -> u32 {
        match self.slab.get(id.slot as usize) {
            Some((generation, _)) if *generation == id.generation => id.slot,
            _ => panic!("{id:?} was answered before"),
        }
    }

    /// Ascending by address, not by slot: in which slot a request is says only how many there
    /// were when it came, and nothing may depend on that.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Req)> {
        self.by_addr.iter().map(|(_, slot)| (*slot, &self[*slot]))
    }

    /// How many requests have a lower address.
    pub(super) fn rank(&self, slot: u32) -> usize {
        self.by_addr.iter().position(|(_, other)| *other == slot).unwrap_or(usize::MAX)
    }
}

impl core::ops::Index<u32> for Slots {
    type Output = Req;
    fn index(&self, slot: u32) -> &Req {
        &self.slab[slot as usize].1
    }
}

impl core::ops::IndexMut<u32> for Slots {
    fn index_mut(&mut self, slot: u32) -> &mut Req {
        &mut self.slab[slot as usize].1
    }
}

impl PartialEq for Slots {
    fn eq(&self, other: &Slots) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for Slots {}

impl Hash for Slots {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.len().hash(state);
        for (slot, req) in self.iter() {
            (slot, req).hash(state);
        }
    }
}
