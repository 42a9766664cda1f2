//! `mremap` (v2.10): what a program asks and what it gets. Owns the checks and the choice
//! between shrinking, growing in place and moving; `relocate.rs` moves.

use bitflags::bitflags;
use shims::{Addr, Errno, Len, Span};

use super::area::PAGE_SHIFT;
use super::relocate::Move;
use super::space::{is_aligned, page_align};
use super::{AddressSpace, CtxId, Removed, Vma, VmaFlags, merge};

bitflags! {
    /// The flags of `mremap`.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
    pub struct RemapFlags: u64 {
        /// The mapping may move.
        const MAYMOVE = 1;
        /// It must move, to the address given.
        const FIXED = 2;
        /// The pages move, and the old range stays mapped and empty.
        const DONTUNMAP = 4;
        const _ = !0;
    }
}

/// A call of `mremap`. All numbers are bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Mremap {
    /// Where the mapping is.
    pub old: u64,
    /// How long the part to be changed is.
    pub old_len: u64,
    /// How long it is to be.
    pub new_len: u64,
    /// How.
    pub flags: RemapFlags,
    /// Where to, with `FIXED`; a hint with `DONTUNMAP` alone.
    pub new: u64,
}

/// Pages that have moved.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Moved {
    /// Where they were.
    pub from: Addr,
    /// Where they are.
    pub to: Addr,
    /// How many bytes of page table moved.
    pub len: u64,
    /// The context the source was registered with.
    pub ctx: Option<CtxId>,
    /// Is the new place still registered with it (d19)?
    pub still_watched: bool,
}

/// What `mremap` did. An error does not undo what came before it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Remapped {
    /// The new address.
    pub result: Result<Addr, Errno>,
    /// What `FIXED` unmapped at the new place, before anything else.
    pub target: Removed,
    /// The same one mapping after another, each with the range that made room for it, where
    /// several have moved.
    pub several: Vec<(Span, Removed)>,
    /// The tail that was cut off.
    pub tail: Removed,
    /// What has moved, in order.
    pub moved: Vec<Moved>,
    /// The old range, unmapped after the move.
    pub source: Removed,
}

/// Memory that `DONTUNMAP` cannot leave behind.
const STAYS_WHOLE: VmaFlags = VmaFlags::DONTEXPAND.union(VmaFlags::PFNMAP);

impl AddressSpace {
    /// `mremap`. `keeps` tells of a context whether it asked for `EVENT_REMAP`: without it a
    /// moved range is no longer registered (d19).
    ///
    /// Errors: `EINVAL` for arguments that make no sense; `EFAULT` for a source that is not
    /// one mapping, or one that may not grow; `EPERM` for a sealed one; `EAGAIN` for the lock
    /// limit; `ENOMEM` for every other limit, or when it may not move and cannot grow.
    pub fn mremap(&mut self, request: &Mremap, keeps: impl Fn(CtxId) -> bool) -> Remapped {
        let mut done = Remapped {
            result: Err(Errno::EINVAL),
            target: Removed::default(),
            several: Vec::new(),
            tail: Removed::default(),
            moved: Vec::new(),
            source: Removed::default(),
        };
        done.result = self.try_mremap(request, &keeps, &mut done).map(Addr::new);
        done
    }

    fn try_mremap(
        &mut self,
        asked: &Mremap,
        keeps: &dyn Fn(CtxId) -> bool,
        done: &mut Remapped,
    ) -> Result<u64, Errno> {
        let mut asked = self.well_formed(asked)?;
        if self.rules.mremap_limit_up_front && self.map_count() + 4 > self.limits.max_map_count {
            return Err(Errno::ENOMEM);
        }
        let elsewhere = asked.flags.intersects(RemapFlags::FIXED | RemapFlags::DONTUNMAP);
        let vma = *self.tree.containing(asked.old).ok_or(Errno::EFAULT)?;
        if self.spans_several(&vma, &asked) {
            return self.move_several(&asked, keeps, done);
        }
        if vma.flags.contains(VmaFlags::SEALED) {
            return Err(Errno::EPERM);
        }
        if vma.flags.contains(VmaFlags::HUGETLB) {
            fit_huge_pages(&vma, &mut asked, elsewhere)?;
        }
        if asked.old_len == 0 && !vma.flags.intersects(VmaFlags::SHARED | VmaFlags::MAYSHARE) {
            return Err(Errno::EINVAL);
        }
        if asked.flags.contains(RemapFlags::DONTUNMAP) && vma.flags.intersects(STAYS_WHOLE) {
            return Err(Errno::EINVAL);
        }
        if !elsewhere && asked.new_len < asked.old_len {
            done.tail = self.unmap_range(asked.old + asked.new_len, asked.old + asked.old_len)?;
            return Ok(asked.old);
        }
        if !elsewhere && asked.new_len == asked.old_len {
            return Ok(asked.old);
        }
        if elsewhere {
            return self.move_elsewhere(&vma, &asked, keeps, done);
        }
        self.may_resize(&vma, &asked)?;
        if let Some(addr) = self.grow_in_place(&vma, &asked) {
            return Ok(addr);
        }
        if !asked.flags.contains(RemapFlags::MAYMOVE) {
            return Err(Errno::ENOMEM);
        }
        if self.map_count() + 3 >= self.limits.max_map_count {
            return Err(Errno::ENOMEM);
        }
        let to = self.place(0, asked.new_len, vma.page_size())?;
        self.relocate(&Move::of(&asked, to), keeps, done)?;
        Ok(to)
    }

    /// What is wrong with the arguments whatever is mapped; lengths come back in whole pages.
    fn well_formed(&self, asked: &Mremap) -> Result<Mremap, Errno> {
        let known = RemapFlags::MAYMOVE | RemapFlags::FIXED | RemapFlags::DONTUNMAP;
        let elsewhere = asked.flags.intersects(RemapFlags::FIXED | RemapFlags::DONTUNMAP);
        if !known.contains(asked.flags) || !is_aligned(asked.old) {
            return Err(Errno::EINVAL);
        }
        let task_size = self.limits.task_size;
        let old_len = page_align(asked.old_len).unwrap_or(0);
        let new_len = page_align(asked.new_len).unwrap_or(0);
        if new_len == 0 || new_len > task_size {
            return Err(Errno::EINVAL);
        }
        if asked.flags.contains(RemapFlags::DONTUNMAP) && old_len != new_len {
            return Err(Errno::EINVAL);
        }
        if elsewhere {
            let overlap = asked.old.saturating_add(old_len) > asked.new
                && asked.new.saturating_add(new_len) > asked.old;
            if !is_aligned(asked.new)
                || asked.new > task_size - new_len
                || !asked.flags.contains(RemapFlags::MAYMOVE)
                || overlap
            {
                return Err(Errno::EINVAL);
            }
            if self.map_count() + 2 + 3 >= self.limits.max_map_count {
                return Err(Errno::ENOMEM);
            }
        }
        Ok(Mremap { old_len, new_len, ..*asked })
    }

    /// What is wrong with a source that is to have another size, or another place.
    fn may_resize(&self, vma: &Vma, asked: &Mremap) -> Result<(), Errno> {
        if asked.old_len > vma.end - asked.old {
            return Err(Errno::EFAULT);
        }
        if asked.new_len <= asked.old_len {
            return Ok(());
        }
        if vma.flags.intersects(VmaFlags::DONTEXPAND | VmaFlags::PFNMAP) {
            return Err(Errno::EFAULT);
        }
        let more = (asked.new_len - asked.old_len) >> PAGE_SHIFT;
        if vma.flags.contains(VmaFlags::LOCKED) && self.lock_limit_exceeded(more) {
            return Err(Errno::EAGAIN);
        }
        let growth = Vma { start: 0, end: more << PAGE_SHIFT, ..*vma };
        self.check_limits(&growth, 0)
    }

    /// Grow at the end, if the range ends there and nothing is in the way: the extension is
    /// a new range beside the VMA, and may join what follows, too.
    fn grow_in_place(&mut self, vma: &Vma, asked: &Mremap) -> Option<u64> {
        let (from, to) = (vma.end, asked.old + asked.new_len);
        if asked.old + asked.old_len != vma.end || to > self.limits.task_size {
            return None;
        }
        let next = self.tree.at_or_above(from);
        if next.is_some_and(|next| next.start < to) {
            return None;
        }
        let extension = Vma { start: from, end: to, pgoff: vma.pgoff + vma.pages(), ..*vma };
        let merge = merge::extension(&self.rules, vma, &extension, next)?;
        self.place_new(&extension, Some(merge));
        if vma.flags.contains(VmaFlags::LOCKED) {
            self.populate(from, to);
        }
        Some(asked.old)
    }

    /// May this call, and does it, reach beyond the first VMA?
    fn spans_several(&self, vma: &Vma, asked: &Mremap) -> bool {
        self.rules.multi_vma_mremap
            && asked.flags.contains(RemapFlags::FIXED)
            && asked.old_len == asked.new_len
            && asked.old_len > vma.end - asked.old
    }

    /// `FIXED` and `DONTUNMAP`.
    fn move_elsewhere(
        &mut self,
        vma: &Vma,
        asked: &Mremap,
        keeps: &dyn Fn(CtxId) -> bool,
        done: &mut Remapped,
    ) -> Result<u64, Errno> {
        let fixed = asked.flags.contains(RemapFlags::FIXED);
        if self.rules.mremap_checks_source_first {
            // What is to be cut off does not count.
            let kept = Mremap { old_len: asked.old_len.min(asked.new_len), ..*asked };
            self.may_resize(vma, &kept)?;
        }
        if fixed {
            done.target = self.unmap_range(asked.new, asked.new + asked.new_len)?;
        }
        let mut asked = *asked;
        if asked.old_len > asked.new_len {
            done.tail = self.unmap_range(asked.old + asked.new_len, asked.old + asked.old_len)?;
            asked.old_len = asked.new_len;
        }
        let vma = *self.tree.containing(asked.old).ok_or(Errno::EFAULT)?;
        self.may_resize(&vma, &asked)?;
        if asked.flags.contains(RemapFlags::DONTUNMAP) {
            let all = Vma { start: 0, end: asked.new_len, ..vma };
            self.check_limits(&all, 0)?;
        }
        let to =
            if fixed { asked.new } else { self.place(asked.new, asked.new_len, vma.page_size())? };
        self.relocate(&Move::of(&asked, to), keeps, done)?;
        Ok(to)
    }

    /// One `mremap` over several VMAs: each moves by itself, with the holes between them.
    /// What has moved before an error stays moved (d23).
    fn move_several(
        &mut self,
        asked: &Mremap,
        keeps: &dyn Fn(CtxId) -> bool,
        done: &mut Remapped,
    ) -> Result<u64, Errno> {
        let keep_source = asked.flags.contains(RemapFlags::DONTUNMAP);
        let end = asked.old + asked.old_len;
        let mut at = asked.old;
        while at < end {
            let Some(&vma) = self.tree.at_or_above(at).filter(|vma| vma.start < end) else { break };
            let from = at.max(vma.start);
            at = vma.end;
            let mut len = vma.end.min(end) - from;
            if vma.ctx.is_some() {
                return Err(Errno::EFAULT);
            }
            if vma.flags.contains(VmaFlags::SEALED) {
                return Err(Errno::EPERM);
            }
            let to = asked.new + (from - asked.old);
            if vma.flags.contains(VmaFlags::HUGETLB) {
                let mut one = Mremap { old: from, old_len: len, new_len: len, new: to, ..*asked };
                fit_huge_pages(&vma, &mut one, true)?;
                len = one.old_len;
            }
            if keep_source && vma.flags.intersects(STAYS_WHOLE) {
                return Err(Errno::EINVAL);
            }
            let removed = self.unmap_range(to, to + len)?;
            for part in removed.parts() {
                done.target.push(*part);
            }
            done.several.push((Span::new(Addr::new(to), Len::new(len)), removed));
            if keep_source {
                self.check_limits(&Vma { start: 0, end: len, ..vma }, 0)?;
            }
            let one = Move { from, to, old_len: len, new_len: len, keep_source };
            self.relocate(&one, keeps, done)?;
        }
        Ok(asked.new)
    }
}

/// On hugetlb all numbers are in huge pages, and nothing grows.
fn fit_huge_pages(vma: &Vma, asked: &mut Mremap, elsewhere: bool) -> Result<(), Errno> {
    let page = vma.page_size().bytes();
    asked.old_len = asked.old_len.next_multiple_of(page);
    asked.new_len = asked.new_len.next_multiple_of(page);
    let aligned = asked.old.is_multiple_of(page) && (!elsewhere || asked.new.is_multiple_of(page));
    if !aligned || asked.new_len > asked.old_len {
        return Err(Errno::EINVAL);
    }
    Ok(())
}
