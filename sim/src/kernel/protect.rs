//! `UFFDIO_WRITEPROTECT`: the walk over its range (rules e17 to e19, f1). Owns which entries
//! change; the checks before it are those of every resolving ioctl, in `resolve.rs`.

use shims::{Errno, Features, Outcome, RegisterModes, Request, Span, WriteProtectMode};

use super::call::MmId;
use super::did::{Did, HugeDid};
use super::object::{is_whole, maps_object};
use super::page_table::{Marker, Pte, PteBits, Vpn};
use super::resolve::answer;
use super::run::{Next, ResolvePc};
use super::thp::UNIT;
use super::{Kernel, PAGE, page_addr, page_of};
use crate::vma::CtxId;

impl Kernel {
    /// One entry changes in a step: between two of them other threads can look. `next` is
    /// where the walk has come to; `None` before its first step, when nothing is locked yet.
    #[inline(never)]
    pub(super) fn step_protect(
        &mut self,
        ctx: CtxId,
        request: &Request,
        next: Option<Vpn>,
    ) -> (Next<ResolvePc>, Did) {
        let &Request::WriteProtect { range, mode } = request else {
            unreachable!("{request} walks no range")
        };
        let protect = mode.contains(WriteProtectMode::WP);
        let mm = self.ctx(ctx).mm;
        let end = page_of(range.end().expect("a checked range ends"));
        let first = page_of(range.start);
        let held = next.is_some();
        let anything = held
            || self.space(mm).find_next(range.start).is_some_and(|vma| page_of(vma.start()) < end);
        if !held {
            self.mm(mm).split_edges(first, end);
            self.mm(mm).split_files(first, end);
        }
        let found = if anything {
            self.next_to_protect(mm, next.unwrap_or(first), range, protect)
        } else {
            // e18: holes are skipped, but a range that is nothing else is refused.
            Err(Errno::ENOENT)
        };
        self.hold(ctx, mm, held, matches!(found, Ok(Some(_))));
        match found {
            Ok(Some((vpn, pte))) => {
                let (what, change): (_, fn(Pte) -> Pte) = if protect {
                    (HugeDid::Protect, |pte| protected(pte, false))
                } else {
                    (HugeDid::Unprotect, Pte::without_wp)
                };
                if let Some(did) = self.mm(mm).change_unit(vpn, end, what, change) {
                    return (Next::At(ResolvePc::Protect(vpn + UNIT)), did);
                }
                self.mm(mm).table.set(vpn, pte);
                let page = page_addr(vpn);
                let did = if protect { Did::Protect { page } } else { Did::Unprotect { page } };
                (Next::At(ResolvePc::Protect(vpn + 1)), did)
            }
            // e19: protecting wakes nobody; un-protecting wakes the whole range.
            Ok(None) if mode.is_empty() => {
                let at = ResolvePc::Wake { bytes: range.len.bytes(), stopped: None };
                (Next::At(at), Did::Return(super::Ret::Ok(0)))
            }
            Ok(None) => answer(0, Outcome::OK),
            // e18: what came before stays changed.
            Err(errno) => answer(0, Outcome::bare(errno)),
        }
    }

    /// The first entry of `range`, from `from` on, that the ioctl changes, and what it becomes. A VMA
    /// that is not registered for `WP` ends the walk.
    fn next_to_protect(
        &self,
        mm: MmId,
        from: Vpn,
        range: Span,
        protect: bool,
    ) -> Result<Option<(Vpn, Pte)>, Errno> {
        let end = page_of(range.end().expect("a checked range ends"));
        let table = self.table(mm);
        let vmas = self.space(mm).iter_from(page_addr(from));
        for vma in vmas.take_while(|vma| page_of(vma.start()) < end) {
            let owner = vma.uffd().filter(|_| vma.uffd_modes().contains(RegisterModes::WP));
            let Some(owner) = owner else { return Err(Errno::ENOENT) };
            // e18: a huge page is protected whole.
            if vma.page_size() != PAGE && !is_whole(vma, range) {
                return Err(Errno::EINVAL);
            }
            let granule = vma.page_size().bytes() / PAGE.bytes();
            let start = page_of(vma.start()).max(from).next_multiple_of(granule);
            let stop = page_of(vma.end()).min(end);
            // f1: a memory file's pages always have them.
            let markers =
                maps_object(vma) || self.ctx(owner).features.contains(Features::WP_UNPOPULATED);
            let changes = |(vpn, pte)| {
                let after = if protect { protected(pte, markers) } else { Pte::without_wp(pte) };
                (after != pte).then_some((vpn, after))
            };
            let found = if protect && markers {
                let pages = (start..stop).step_by(granule as usize);
                pages.map(|vpn| (vpn, table.get(vpn))).find_map(changes)
            } else {
                table.entries_in(start, stop).find_map(changes)
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

/// f1: an absent page is protected by a marker, if the context asked for that. A poisoned
/// page stays as it is (e16).
fn protected(pte: Pte, markers: bool) -> Pte {
    match pte {
        Pte::Present { content, bits } => Pte::Present { content, bits: bits | PteBits::PROTECTED },
        Pte::None if markers => Pte::Marker(Marker::WriteProtect),
        pte => pte,
    }
}
