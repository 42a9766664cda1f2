//! A write that has to copy its page first, if it has to: the entry is empty for a moment, while other
//! processors forget the old page, and whoever looks without a lock sees that (rule c10). Owns
//! that moment, the *gap*; who looks, and when, is in `fault.rs`.
//!
//! The page is replaced as the gap opens, and the thread that replaces it has one more step to
//! close it. Looks in between that take no lock see nothing; everybody else, who would wait for
//! the lock of the page table, sees the new page. What the lock would keep apart is therefore told
//! apart by the entry: a page that has changed since has no gap any more.
//!
//! # Divergence from Linux
//!
//! - Who shares a page is told by its place and its content: a page that has moved on one side of a fork
//!   is taken for one that nobody shares.
//! - A gap opens only where somebody could look into it: a thread between F1 and F3 of the same
//!   page, or, in memory of a file that is watched, anybody. Huge pages of hugetlb have none.

use shims::Addr;

use super::call::{MmId, ThreadId};
use super::fault::{By, Walk};
use super::object::maps_object;
use super::page_table::{Pte, PteBits, Vpn};
use super::run::{FaultPc, Run};
use super::{Aside, Kernel, PAGE, page_addr, page_of};
use crate::Content;

/// A page that is being replaced.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Gap {
    mm: MmId,
    vpn: Vpn,
    /// What the table has when it is over.
    pte: Pte,
}

impl Kernel {
    /// A page that a fork has shared and everybody else has let go of is written in place, and
    /// keeps the protection that an earlier registration has left (rule b9; measured). Where there
    /// is none a copy looks the same.
    pub(super) fn take_over(&mut self, mm: MmId, vpn: Vpn) {
        let Pte::Present { content, bits } = self.table(mm).get(vpn) else { return };
        if bits & (PteBits::FORKED | PteBits::UFFD_WP | PteBits::CACHED)
            != PteBits::FORKED | PteBits::UFFD_WP
        {
            return;
        }
        let shares = |pte| {
            matches!(pte, Pte::Present { content: theirs, bits }
            if theirs == content && bits.contains(PteBits::FORKED))
        };
        let mut others = (0..).map(MmId).zip(&self.mms).filter(|(other, _)| *other != mm);
        if !others.any(|(_, other)| shares(other.table.get(vpn))) {
            self.unshare(mm, vpn);
        }
    }

    /// A pin makes a page that a fork has shared the reader's own first, so that it stays the one
    /// that is pinned: a copy in its place, protected as it was (measured; e21, d26).
    pub(super) fn unshare(&mut self, mm: MmId, vpn: Vpn) {
        if let Pte::Present { content, bits } = self.table(mm).get(vpn)
            && bits & (PteBits::FORKED | PteBits::CACHED) == PteBits::FORKED
        {
            let bits = bits.difference(PteBits::FORKED);
            self.mm(mm).table.set(vpn, Pte::Present { content, bits });
        }
    }

    /// Replace page `vpn`, which holds `content`, if somebody may see that happen. If not, the
    /// caller's write replaces it in one step.
    pub(super) fn open_gap(
        &mut self,
        thread: ThreadId,
        mm: MmId,
        vpn: Vpn,
        content: Content,
    ) -> bool {
        let Pte::Present { bits, .. } = self.table(mm).get(vpn) else { return false };
        if !bits.intersects(PteBits::ZERO_PAGE | PteBits::FORKED) || !self.is_looked_at(mm, vpn) {
            return false;
        }
        let pte = Pte::Present { content, bits: bits.written() };
        self.mm(mm).table.set(vpn, pte);
        self.asides.push((thread, Aside::Gap(Gap { mm, vpn, pte })));
        true
    }

    /// The new page is in place for everybody.
    pub(super) fn close_gap(&mut self, thread: ThreadId) {
        self.asides.retain(|(of, aside)| *of != thread || !matches!(aside, Aside::Gap(_)));
    }

    /// Does a look without a lock at page `vpn` find the entry empty for the moment?
    #[inline]
    pub(super) fn in_gap(&self, mm: MmId, vpn: Vpn) -> bool {
        !self.asides.is_empty() && self.is_gap(mm, vpn)
    }

    #[cold]
    fn is_gap(&self, mm: MmId, vpn: Vpn) -> bool {
        let pte = self.table(mm).get(vpn);
        self.asides.iter().any(|(_, aside)| *aside == Aside::Gap(Gap { mm, vpn, pte }))
    }

    /// F1 of a page of a file that is being replaced: the fault is taken because the entry is
    /// empty, and only the file is asked. Whoever is not told of anything waits for the lock, and
    /// goes by what `found` says.
    #[cold]
    pub(super) fn walk_gap(&mut self, mm: MmId, vpn: Vpn, by: By, found: Walk) -> Walk {
        let vma = self.space(mm).find(page_addr(vpn));
        if !vma.is_some_and(maps_object) || !matches!(found, Walk::Hit(_) | Walk::Copy(_)) {
            return found;
        }
        match self.walk_file(mm, vpn, by) {
            ask @ Walk::Ask(..) => ask,
            _ => found,
        }
    }

    /// Could anybody look at page `vpn` without a lock?
    fn is_looked_at(&self, mm: MmId, vpn: Vpn) -> bool {
        let Some(vma) = self.space(mm).find(page_addr(vpn)) else { return false };
        if vma.page_size() != PAGE || vma.uffd().is_none() {
            return false;
        }
        maps_object(vma)
            || self.threads.iter().any(|thread| thread.mm == mm && looks_at(&thread.run, vpn))
    }
}

/// Is a thread between F1 and F3 of page `vpn`, or may it be?
fn looks_at(run: &Run, vpn: Vpn) -> bool {
    let looks = |at| matches!(at, FaultPc::Enqueue(..) | FaultPc::Recheck(..));
    let is_page = |addr: Addr| page_of(addr) == vpn;
    match run {
        Run::Access { access, at } => looks(*at) && is_page(access.addr),
        Run::Populate { next, at, .. } => looks(*at) && *next == vpn,
        // Of one of its pages; these are rare.
        Run::Transfer(transfer) => looks(transfer.at),
        Run::FaultIn(call) => looks(call.pages.at),
        Run::CopyFrom(_) | Run::WithStruct(_) => true,
        _ => false,
    }
}
