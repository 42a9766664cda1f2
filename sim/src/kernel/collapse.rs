//! `MADV_COLLAPSE`: small pages become a huge one (rule f6). Owns the judgement of a block.

use shims::Errno;

use super::call::MmId;
use super::did::{Did, HugeDid};
use super::madvise::Walk;
use super::object::maps_object;
use super::page_table::{Pte, PteBits, Vpn};
use super::thp::UNIT;
use super::{Kernel, page_addr, page_of};
use crate::Content;
use crate::vma::{Backing, Vma, VmaFlags};

impl Kernel {
    /// The next block of the mapping that the walk is in, up to `end`; `None` behind the last.
    /// The first block that refuses ends the call.
    pub(super) fn collapse(
        &mut self,
        mm: MmId,
        walk: &mut Walk,
        end: Vpn,
    ) -> Result<Option<Did>, Errno> {
        loop {
            let base = walk.next.next_multiple_of(UNIT);
            if base + UNIT > end {
                return Ok(None);
            }
            walk.next = base + UNIT;
            if self.mm(mm).unit_of(base).is_some() {
                continue;
            }
            let vma = *self.space(mm).find(page_addr(base)).expect("the walk is in it");
            let did = Did::Huge { page: page_addr(base), what: HugeDid::Collapse };
            if maps_object(&vma) {
                self.collapse_file(mm, &vma, base)?;
                return Ok(Some(did));
            }
            let watched = vma.uffd().is_some();
            let mm = self.mm(mm);
            if mm.table.first_entry(base, base + UNIT).is_none() {
                return Err(Errno::EINVAL);
            }
            for vpn in base..base + UNIT {
                judge(mm.table.get(vpn), watched)?;
            }
            mm.set_unit(base, |pte| match pte {
                Pte::Present { content, .. } => Pte::page(content),
                _ => Pte::page(Content::Zero),
            });
            mm.add_unit(base);
            mm.space.note_anon_fault(page_addr(base));
            return Ok(Some(did));
        }
    }
}

/// Can `vma` have huge pages by this advice? The policy of the system has no say.
pub(super) fn may_collapse(vma: &Vma) -> Result<(), Errno> {
    match vma.backing() {
        Backing::Anon | Backing::Shmem(_) => {}
        Backing::Hugetlb(..) => return Err(Errno::EINVAL),
        Backing::File(_) => return Err(Errno::ENOTMODELLED),
    }
    let first = page_of(vma.start()).next_multiple_of(UNIT);
    let refused = VmaFlags::NOHUGEPAGE | VmaFlags::SPECIAL;
    if first + UNIT > page_of(vma.end()) || vma.flags().intersects(refused) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// Watched memory gets no pages that nobody put there, and a huge page has no room for what
/// userfaultfd has put on a single page.
fn judge(pte: Pte, watched: bool) -> Result<(), Errno> {
    match pte {
        Pte::None if watched => Err(Errno::EBUSY),
        Pte::None => Ok(()),
        Pte::Marker(_) => Err(Errno::EINVAL),
        Pte::Present { bits, .. } if bits.contains(PteBits::UFFD_WP) => Err(Errno::EINVAL),
        Pte::Present { bits, .. } if watched && bits.contains(PteBits::ZERO_PAGE) => {
            Err(Errno::EBUSY)
        }
        Pte::Present { .. } => Ok(()),
    }
}
