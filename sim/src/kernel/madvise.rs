//! `madvise`: which advice is which call, and the advices that walk over mappings without
//! announcing anything (rule d13). The removals that announce are in `remove.rs`, the flags of
//! mappings in [`crate::vma`], guards in `guard.rs`.
//!
//! # Divergence from Linux
//!
//! - Nothing is reclaimed unless a program asks for it by `MADV_PAGEOUT`. There is no swap, so
//!   that takes only what `MADV_FREE` has given up and nobody has written since, and unmaps pages
//!   of memory files that nobody else maps.
//! - `MADV_COLD` and `MADV_WILLNEED` are checked, and change nothing that can be seen.

use shims::{Errno, Span};

use super::call::{Call, MmId, Ret};
use super::collapse::may_collapse;
use super::did::{Did, HugeDid};
use super::page_table::{Pte, PteBits, Vpn};
use super::run::{FaultPc, Next, RemoveCall, RemovePc, Run};
use super::syscalls::madvise_range;
use super::thp::UNIT;
use super::{Kernel, page_addr, page_of};
use crate::vma::{Advice, VmaFlags};

/// An advice, as `madvise(2)` names them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Madvise {
    /// `MADV_DONTNEED`: the pages go, at once.
    DontNeed,
    /// `MADV_DONTNEED_LOCKED`: locked memory as well.
    DontNeedLocked,
    /// `MADV_FREE`: the pages may go.
    Free,
    /// `MADV_COLD`.
    Cold,
    /// `MADV_PAGEOUT`.
    PageOut,
    /// `MADV_WILLNEED`.
    WillNeed,
    /// `MADV_COLLAPSE`: small pages become huge ones.
    Collapse,
    /// `MADV_POPULATE_READ`.
    PopulateRead,
    /// `MADV_POPULATE_WRITE`.
    PopulateWrite,
    /// `MADV_GUARD_INSTALL`.
    GuardInstall,
    /// `MADV_GUARD_REMOVE`.
    GuardRemove,
    /// An advice that changes the flags of mappings.
    Flags(Advice),
}

/// A walk over mappings that sends no event.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Walk {
    pub(super) advice: Madvise,
    pub(super) next: Vpn,
    pub(super) end: Vpn,
    /// A hole was met: `ENOMEM` at the end, after the rest is done.
    pub(super) hole: bool,
    /// The part of a mapping that the walk is in, with the mmap lock held for reading.
    pub(super) part: Option<(Vpn, Vpn)>,
    /// A guard is being installed, and a page was in its way.
    pub(super) zapping: bool,
}

impl Madvise {
    /// What a thread that gives this advice begins to do.
    pub(super) fn begin(self, range: Span, guards: bool) -> Run {
        if matches!(self, Madvise::GuardInstall | Madvise::GuardRemove) && !guards {
            return Run::Done(Ret::Err(Errno::EINVAL));
        }
        let (next, end) = match madvise_range(range) {
            Ok(Some(pages)) => pages,
            Ok(None) => return Run::Done(Ret::Ok(0)),
            Err(errno) => return Run::Done(Ret::Err(errno)),
        };
        let at = FaultPc::Classify;
        match self {
            Madvise::DontNeed | Madvise::DontNeedLocked | Madvise::Free => {
                Run::Remove(RemoveCall { next, end, hole: false, advice: self, at: RemovePc::Part })
            }
            Madvise::PopulateRead => Run::Populate { next, end, write: false, at },
            Madvise::PopulateWrite => Run::Populate { next, end, write: true, at },
            Madvise::Flags(Advice::GuardInstall) => Run::Done(Ret::Err(Errno::EINVAL)),
            Madvise::Flags(_) => Run::Once(Box::new(Call::Madvise { range, advice: self })),
            advice => Run::Walk(Box::new(Walk {
                advice,
                next,
                end,
                hole: false,
                part: None,
                zapping: false,
            })),
        }
    }
}

impl Kernel {
    /// One page, or one mapping, a step.
    pub(super) fn step_walk(&mut self, mm: MmId, mut walk: Walk) -> (Next<Walk>, Did) {
        let held = walk.part.is_some();
        let (start, end) = match walk.part {
            Some(part) => part,
            None => match self.next_part(mm, &mut walk) {
                Ok(Some(part)) => part,
                Ok(None) => return finish(&walk),
                Err(errno) => return fail(errno),
            },
        };
        match walk.advice {
            Madvise::Collapse => return self.step_collapse(mm, walk, end),
            Madvise::Cold | Madvise::PageOut => {
                self.break_edges(mm, start, end);
                self.mm(mm).split_edges(start, end);
            }
            Madvise::GuardInstall => self.mm(mm).split_edges(start, end),
            _ => {}
        }
        let did = match walk.advice {
            Madvise::GuardInstall => self.install_guard(mm, &mut walk, start, end),
            Madvise::GuardRemove => self.remove_guard(mm, &mut walk, end),
            Madvise::PageOut => self.page_out(mm, &mut walk, end),
            _ => None,
        };
        // The lock is kept across the steps of one mapping.
        let mm = self.mm(mm);
        mm.readers = mm.readers + u32::from(did.is_some()) - u32::from(held);
        walk.part = did.is_some().then_some((start, end));
        if let Some(did) = did {
            return (Next::At(walk), did);
        }
        walk.next = end;
        if walk.next == walk.end { finish(&walk) } else { (Next::At(walk), Did::NextMapping) }
    }

    /// The next mapping, if it takes the advice.
    fn next_part(&mut self, mm: MmId, walk: &mut Walk) -> Result<Option<(Vpn, Vpn)>, Errno> {
        let vma = self.space(mm).find_next(page_addr(walk.next)).copied();
        let Some(vma) = vma.filter(|vma| page_of(vma.start()) < walk.end) else {
            walk.hole = true;
            return Ok(None);
        };
        walk.hole |= page_of(vma.start()) > walk.next;
        walk.next = walk.next.max(page_of(vma.start()));
        let part = (walk.next, page_of(vma.end()).min(walk.end));
        let refused = match walk.advice {
            Madvise::Cold | Madvise::PageOut => {
                VmaFlags::LOCKED | VmaFlags::HUGETLB | VmaFlags::PFNMAP
            }
            Madvise::GuardRemove => VmaFlags::SPECIAL | VmaFlags::HUGETLB,
            _ => VmaFlags::empty(),
        };
        if vma.flags().intersects(refused) {
            return Err(Errno::EINVAL);
        }
        if walk.advice == Madvise::Collapse {
            may_collapse(&vma)?;
        }
        if walk.advice == Madvise::GuardInstall {
            let (start, len) = (part.0 << 12, (part.1 - part.0) << 12);
            self.mm(mm).space.madvise(start, len, Advice::GuardInstall)?;
        }
        Ok(Some(part))
    }

    /// One block a step, without a lock in between.
    fn step_collapse(&mut self, mm: MmId, mut walk: Walk, end: Vpn) -> (Next<Walk>, Did) {
        let did = match self.collapse(mm, &mut walk, end) {
            Ok(Some(did)) => did,
            Ok(None) => Did::NextMapping,
            Err(errno) => return fail(errno),
        };
        if did == Did::NextMapping || walk.next.next_multiple_of(UNIT) + UNIT > end {
            walk.next = end;
        }
        if walk.next < walk.end {
            return (Next::At(walk), did);
        }
        let (next, over) = finish(&walk);
        (next, if did == Did::NextMapping { over } else { did })
    }

    /// Reclaim takes the pages that were given up and not written since. Nobody is told, and
    /// what userfaultfd had put on the page goes with it (measured).
    fn page_out(&mut self, mm: MmId, walk: &mut Walk, end: Vpn) -> Option<Did> {
        let given_up =
            |bits: PteBits| bits.contains(PteBits::GIVEN_UP) && !bits.contains(PteBits::FORKED);
        let (vpn, content) = loop {
            let cached = |bits: PteBits| bits.contains(PteBits::CACHED);
            let mut entries = self.mm(mm).table.entries_in(walk.next, end);
            let (vpn, content, bits) = entries.find_map(|(vpn, pte)| match pte {
                Pte::Present { content, bits } if given_up(bits) || cached(bits) => {
                    Some((vpn, content, bits))
                }
                _ => None,
            })?;
            if !cached(bits) {
                break (vpn, content);
            }
            drop(entries);
            let unit = self.mm(mm).unit_of(vpn).is_some();
            walk.next = vpn + if unit { UNIT } else { 1 };
            if self.page_out_cached(mm, vpn) {
                let page = page_addr(vpn);
                let whole = Did::Huge { page, what: HugeDid::Zap };
                return Some(if unit { whole } else { Did::Zap { page, content } });
            }
        };
        if let Some(did) = self.mm(mm).change_unit(vpn, end, HugeDid::Zap, |_| Pte::None) {
            walk.next = vpn + UNIT;
            return Some(did);
        }
        self.mm(mm).table.set(vpn, Pte::None);
        walk.next = vpn + 1;
        Some(Did::Zap { page: page_addr(vpn), content })
    }
}

fn finish(walk: &Walk) -> (Next<Walk>, Did) {
    if walk.hole {
        return fail(Errno::ENOMEM);
    }
    (Next::Done(Ret::Ok(0)), Did::Return(Ret::Ok(0)))
}

fn fail(errno: Errno) -> (Next<Walk>, Did) {
    (Next::Done(Ret::Err(errno)), Did::Return(Ret::Err(errno)))
}
