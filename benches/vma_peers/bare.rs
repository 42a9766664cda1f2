//! What one would write in an afternoon: a `BTreeMap` keyed by start, with the merge checks
//! and nothing else. No accounting, no limits, no errors, no gaps kept.

use std::collections::BTreeMap;

use super::{Peer, page_of_slot};

/// What is known of a range.
#[derive(Clone, Copy)]
pub struct Area {
    end: u64,
    pgoff: u64,
    flags: u64,
    file: u64,
    ctx: u32,
    anon: u32,
    policy: u32,
    name: u32,
}

impl Area {
    fn like(&self, other: &Area) -> bool {
        self.flags == other.flags
            && self.file == other.file
            && self.ctx == other.ctx
            && self.policy == other.policy
            && self.name == other.name
            && (self.anon == other.anon || self.anon == 0 || other.anon == 0)
    }
}

/// The rival.
#[derive(Clone)]
pub struct Bare(BTreeMap<u64, Area>);

impl Bare {
    fn prev(&self, start: u64) -> Option<(u64, Area)> {
        self.0.range(..start).next_back().map(|(start, area)| (*start, *area))
    }

    /// Put a free range in, joined with its neighbours.
    fn put(&mut self, start: u64, mut area: Area) {
        let prev = self.prev(start).filter(|(at, prev)| {
            prev.end == start && prev.like(&area) && prev.pgoff + (start - at) == area.pgoff
        });
        let next = self
            .0
            .get(&area.end)
            .copied()
            .filter(|next| next.like(&area) && area.pgoff + (area.end - start) == next.pgoff);
        if let Some(next) = next {
            self.0.remove(&area.end);
            area.end = next.end;
            area.anon = area.anon.max(next.anon);
        }
        match prev {
            Some((at, _)) => {
                let prev = self.0.get_mut(&at).expect("it was just seen");
                prev.end = area.end;
                prev.anon = prev.anon.max(area.anon);
            }
            None => {
                self.0.insert(start, area);
            }
        }
    }

    /// Take `[start, end)` out of the area that holds it.
    fn take(&mut self, start: u64, end: u64) -> Option<Area> {
        let (at, area) = self.0.range_mut(..=start).next_back()?;
        let (at, whole) = (*at, *area);
        if whole.end < end {
            return None;
        }
        if at < start {
            area.end = start;
        } else {
            self.0.remove(&at);
        }
        if end < whole.end {
            self.0.insert(end, Area { pgoff: whole.pgoff + (end - at), ..whole });
        }
        Some(Area { end, pgoff: whole.pgoff + (start - at), ..whole })
    }
}

impl Peer for Bare {
    const NAME: &'static str = "btreemap";
    type Removed = Option<Area>;

    fn build(slots: u64) -> Bare {
        let mut bare = Bare(BTreeMap::new());
        for slot in 1..=slots {
            bare.map(page_of_slot(slot), 3);
        }
        bare
    }

    fn lookup(&self, page: u64) -> bool {
        self.0.range(..=page).next_back().is_some_and(|(_, area)| page < area.end)
    }

    fn map(&mut self, page: u64, pages: u64) {
        let end = page + pages;
        let area =
            Area { end, pgoff: page, flags: 3, file: 0, ctx: 0, anon: 0, policy: 0, name: 0 };
        self.put(page, area);
    }

    fn unmap(&mut self, page: u64, pages: u64) -> Option<Area> {
        self.take(page, page + pages)
    }

    fn is_done(removed: &Option<Area>) -> bool {
        removed.is_some()
    }

    fn protect(&mut self, page: u64, pages: u64, write: bool) {
        let area = self.take(page, page + pages).expect("it is mapped");
        self.put(page, Area { flags: if write { 3 } else { 1 }, ..area });
    }

    fn highest_gap(&mut self, pages: u64, slots: u64) -> u64 {
        let mut top = page_of_slot(slots) + 3;
        for (start, area) in self.0.iter().rev() {
            if top - area.end >= pages {
                break;
            }
            top = *start;
        }
        top - pages
    }
}
