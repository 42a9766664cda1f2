//! `UFFDIO_MOVE`: which ranges can be moved, and what happens to each page (rules e20 to e22).
//! The rest is what all resolving ioctls do, in `resolve.rs`.
//!
//! `EBUSY` is answered for a page that a fork has shared. The other reasons Linux has for it
//! (pinned pages, same-page merging, swap) do not exist here.

use shims::{Addr, Errno, Request, Span};

use super::did::Did;
use super::page_table::{Pte, PteBits, Vpn};
use super::resolve::stop;
use super::run::{Next, ResolvePc};
use super::{Kernel, Mm, page_addr, page_of};
use crate::Content;
use crate::vma::{Backing, CtxId, Vma, VmaFlags};

impl Kernel {
    /// The two mappings, in the order in which the kernel finds fault with them. Both ranges
    /// are well-formed.
    #[inline(never)]
    pub(super) fn check_move(&self, ctx: CtxId, dst: Span, src: Addr) -> Result<(), Errno> {
        let space = self.space(self.ctx(ctx).mm);
        let to = space.find(dst.start).ok_or(Errno::ENOENT)?;
        let from = space.find(src).ok_or(Errno::ENOENT)?;
        let inside =
            |vma: &Vma, start: Addr| start.checked_add(dst.len).is_some_and(|end| end <= vma.end());
        // Pages keep their protection bits on the way, so both sides must have the same.
        let same = VmaFlags::ACCESS | VmaFlags::LOCKED;
        let movable = |vma: &Vma| {
            vma.is_private()
                && vma.backing() == Backing::Anon
                && vma.flags().contains(VmaFlags::WRITE)
                && !vma.flags().intersects(VmaFlags::SPECIAL | VmaFlags::SHADOW_STACK)
        };
        let fits = inside(from, src)
            && inside(to, dst.start)
            && from.flags() & same == to.flags() & same
            && movable(from)
            && movable(to)
            // Unlike the other ioctls it works through the owner alone; the source may be
            // anybody's.
            && to.uffd() == Some(ctx);
        if fits { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// The first look at a page of `MOVE` is at the place it goes to. Another `MOVE` may be done
    /// with it, and with the source, before the second.
    #[inline(never)]
    pub(super) fn look_where_to(
        &mut self,
        ctx: CtxId,
        request: &Request,
        done: u64,
        held: bool,
    ) -> (Next<ResolvePc>, Did) {
        let mm = self.ctx(ctx).mm;
        let to = page_of(request.range().start) + done;
        let empty = self.mm(mm).table.get(to).is_none();
        self.hold(ctx, mm, held, empty);
        if empty {
            (Next::At(ResolvePc::Source(done)), Did::FindEmpty { page: page_addr(to) })
        } else {
            stop(done, Errno::EEXIST)
        }
    }
}

impl Mm {
    /// Move one page, the place for which was empty when it was looked at. It is looked at again
    /// when there is something to be moved: nothing there is `ENOENT` although the place has been
    /// filled meanwhile. A protected page arrives unprotected.
    #[inline(never)]
    pub(super) fn move_page(&mut self, to: Vpn, from: Vpn, holes: bool) -> Result<Did, Errno> {
        let (page, source) = (page_addr(to), page_addr(from));
        let (pte, content) = match self.table.get(from) {
            // It counts as moved: whoever waits for the page is woken, and asks anew.
            Pte::None if holes => return Ok(Did::MoveHole { from: source, page }),
            Pte::None => return Err(Errno::ENOENT),
            _ if !self.table.get(to).is_none() => return Err(Errno::EEXIST),
            Pte::Marker(_) => return Err(Errno::EFAULT),
            Pte::Present { bits, .. } if bits.contains(PteBits::FORKED) => {
                return Err(Errno::EBUSY);
            }
            Pte::Present { bits, .. } if bits.contains(PteBits::ZERO_PAGE) => {
                (Pte::ZERO_PAGE, Content::Zero)
            }
            Pte::Present { content, .. } => (Pte::page(content), content),
        };
        self.table.set(from, Pte::None);
        self.table.set(to, pte);
        self.space.note_anon_fault(page);
        Ok(Did::Move { from: source, page, content })
    }
}
