//! What `COPY`, `ZEROPAGE`, `CONTINUE` and `POISON` do to one page of a mapped memory file
//! (rules e10 to e16). Arguments, gate and wake are those of every resolving ioctl, in
//! `resolve.rs`.

use shims::{ContinueMode, CopyMode, Errno, RegisterModes, Request, Span};

use super::super::Kernel;
use super::super::call::MmId;
use super::super::did::Did;
use super::super::page_addr;
use super::super::page_table::{Marker, Pte, PteBits, Vpn};
use super::fault::cached_bits;
use super::map::place;
use crate::Content;
use crate::vma::{Backing, Vma};

impl Kernel {
    /// What is wrong with a request whose destination begins in `vma`, whatever is there.
    pub(in crate::kernel) fn check_kind(&self, vma: &Vma, request: &Request) -> Result<(), Errno> {
        let wants_wp = match *request {
            Request::Copy { mode, .. } => mode.contains(CopyMode::WP),
            Request::Continue { mode, .. } => mode.contains(ContinueMode::WP),
            _ => false,
        };
        // e7: the one mode that the registration has a say in.
        if wants_wp && !vma.uffd_modes().contains(RegisterModes::WP) {
            return Err(Errno::EINVAL);
        }
        match (vma.backing(), request) {
            // e15: not for anonymous memory; e14: not for huge pages.
            (Backing::Anon, Request::Continue { .. })
            | (Backing::Hugetlb(..), Request::Zeropage { .. })
            // e7: a file that only `WP_ASYNC` lets in has no other ioctl.
            | (Backing::File(_), _) => Err(Errno::EINVAL),
            (Backing::Hugetlb(..), _) if !is_whole(vma, request.range()) => Err(Errno::EINVAL),
            _ => Ok(()),
        }
    }

    /// Do one page; `None` if it is anonymous memory.
    #[cold]
    pub(in crate::kernel) fn fill_one(
        &mut self,
        mm: MmId,
        vpn: Vpn,
        request: &Request,
        content: Content,
    ) -> Option<Result<Did, Errno>> {
        let vma = *self.space(mm).find(page_addr(vpn)).expect("the locks keep it mapped");
        place(&vma, vpn)?;
        Some(self.fill_cacheable(mm, &vma, vpn, request, content))
    }

    fn fill_cacheable(
        &mut self,
        mm: MmId,
        vma: &Vma,
        vpn: Vpn,
        request: &Request,
        content: Content,
    ) -> Result<Did, Errno> {
        let page = page_addr(vpn);
        let (file, index) = place(vma, vpn).expect("it has a file");
        let huge = matches!(vma.backing(), Backing::Hugetlb(..));
        let object = self.backer(file);
        let (cached, inside) = (object.cached(index), object.reaches(index));
        let there = self.table(mm).get(vpn);
        if there.is_guard() && self.profile.guard.withstand_copy {
            return Err(Errno::EEXIST);
        }
        // The mapping counts as faulted even if the page turns out to be there.
        self.mm(mm).space.note_anon_fault(page);
        let (pte, did) = match *request {
            Request::Copy { mode, .. } => {
                // e11, e12: what is cached is there for all who share it.
                let taken = there.is_present() || (!vma.is_private() && cached.is_some());
                if huge {
                    // e12: in this order, and a private page may lie beyond the end.
                    self.room(true, taken)?;
                    if !self.has_huge_page(vma, vpn) {
                        return Err(self.profile.no_huge_page);
                    }
                    self.room(inside || vma.is_private(), false)?;
                } else {
                    self.room(inside, taken)?;
                }
                let bits = self.install(vma, file, index, content);
                let bits = protect_if(bits, mode.contains(CopyMode::WP));
                (Pte::Present { content, bits }, Did::Install { page, content })
            }
            Request::Zeropage { .. } if vma.is_private() => {
                // e14: any marker is in its way.
                self.room(inside, !there.is_none())?;
                (Pte::ZERO_PAGE, Did::Install { page, content: Content::Zero })
            }
            Request::Zeropage { .. } => {
                self.room(inside, cached.is_some() || there.is_present())?;
                let content = Content::Zero;
                let bits = self.install(vma, file, index, content);
                (Pte::Present { content, bits }, Did::Install { page, content })
            }
            Request::Continue { mode, .. } => {
                // e15: there has to be something to go on with.
                let content = match cached {
                    // It alone calls a page beyond the end of the file an invalid argument.
                    _ if !inside && !huge => return Err(Errno::EINVAL),
                    None => return Err(Errno::EFAULT),
                    Some(content) => content,
                };
                self.room(true, there.is_present())?;
                let bits = protect_if(cached_bits(vma), mode.contains(ContinueMode::WP));
                (Pte::Present { content, bits }, Did::Install { page, content })
            }
            Request::Poison { .. } => {
                // Measured: it does not mind where a hugetlb file ends.
                self.room(inside || huge, !there.is_none())?;
                (Pte::Marker(Marker::Poison), Did::Poison { page })
            }
            _ => unreachable!("{request} fills no page"),
        };
        self.mm(mm).table.set(vpn, pte);
        Ok(did)
    }

    /// May something be put there? The end of the file is looked at first.
    fn room(&self, inside: bool, taken: bool) -> Result<(), Errno> {
        match (inside, taken) {
            (false, _) => Err(Errno::EFAULT),
            (true, true) => Err(Errno::EEXIST),
            (true, false) => Ok(()),
        }
    }

    /// A shared page goes to the cache, a private one is its mapping's own.
    fn install(
        &mut self,
        vma: &Vma,
        file: crate::vma::FileId,
        index: super::Index,
        content: Content,
    ) -> PteBits {
        if vma.is_private() {
            return PteBits::empty();
        }
        self.backer_mut(file).put(index, content);
        PteBits::CACHED
    }
}

fn protect_if(bits: PteBits, protect: bool) -> PteBits {
    if protect { bits | PteBits::PROTECTED } else { bits }
}

/// Does `range` consist of whole pages of `vma`?
pub(in crate::kernel) fn is_whole(vma: &Vma, range: Span) -> bool {
    range.start.is_aligned(vma.page_size()) && range.len.is_aligned(vma.page_size())
}
