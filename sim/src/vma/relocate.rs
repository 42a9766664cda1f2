//! Moving a range: copy the VMA, then unmap the source or leave it empty (v2.10). Owns what
//! happens to the page offset, the anon_vma, the locks and the registration on the way.

use shims::{Addr, Errno};

use super::area::PAGE_SHIFT;
use super::remap::{Moved, Mremap, RemapFlags, Remapped};
use super::{AddressSpace, Backing, CtxId, Vma, VmaFlags, merge};

/// A move whose arguments have been checked.
pub(super) struct Move {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) old_len: u64,
    pub(super) new_len: u64,
    pub(super) keep_source: bool,
}

impl Move {
    pub(super) fn of(asked: &Mremap, to: u64) -> Move {
        Move {
            from: asked.old,
            to,
            old_len: asked.old_len,
            new_len: asked.new_len,
            keep_source: asked.flags.contains(RemapFlags::DONTUNMAP),
        }
    }
}

impl AddressSpace {
    /// Move a range that lies in one VMA to a place that is free.
    pub(super) fn relocate(
        &mut self,
        what: &Move,
        keeps: &dyn Fn(CtxId) -> bool,
        done: &mut Remapped,
    ) -> Result<(), Errno> {
        let &vma = self.tree.containing(what.from).ok_or(Errno::EFAULT)?;
        let source = if what.keep_source && self.rules.dontunmap_splits_locked {
            self.isolate_locked(&vma, what)?
        } else {
            vma
        };
        let copy = copy_of(&source, what);
        self.insert_copy(&copy, &source, what.keep_source);
        let watched = source.ctx.is_some_and(keeps);
        if source.ctx.is_some() && !watched {
            self.forget_registration(what.to);
        }
        done.moved.push(Moved {
            from: Addr::new(what.from),
            to: Addr::new(what.to),
            len: what.old_len,
            ctx: source.ctx,
            still_watched: watched,
        });
        if what.keep_source {
            self.empty_source(what);
        } else if what.old_len > 0 {
            for part in self.unmap_range(what.from, what.from + what.old_len)?.parts() {
                done.source.push(*part);
            }
        }
        if source.flags.contains(VmaFlags::LOCKED) && what.new_len > what.old_len {
            self.populate(what.to + what.old_len, what.to + what.new_len);
        }
        Ok(())
    }

    /// Put the copy in. It may join its neighbours, even its own source; not every kernel
    /// lets it do so when the source stays.
    fn insert_copy(&mut self, copy: &Vma, source: &Vma, keep_source: bool) {
        let apart = keep_source && !self.rules.dontunmap_self_merge;
        let joinable = |vma: &&Vma| !(apart && vma.start == source.start);
        let cursor = self.tree.seek(copy.start);
        let (prev, next) = (cursor.prev().filter(joinable), cursor.get().filter(joinable));
        let merge = merge::new_range(&self.rules, prev, copy, next);
        self.place_new(copy, merge);
    }

    /// The VMA that now holds `addr` is no longer registered. It does not merge for that.
    fn forget_registration(&mut self, addr: u64) {
        let &vma = self.tree.containing(addr).expect("it was just put there");
        let flags = vma.flags.difference(VmaFlags::UFFD);
        self.tree.splice(vma.start, 1, &[Vma { flags, ctx: None, ..vma }]);
    }

    /// `DONTUNMAP`: the source loses its locks, and if all of it moved, its anon_vma.
    fn empty_source(&mut self, what: &Move) {
        let &vma = self.tree.containing(what.from).expect("the source stays");
        let mut emptied = vma;
        emptied.flags.remove(VmaFlags::LOCK);
        if vma.start == what.from && vma.end == what.from + what.old_len {
            emptied.anon = None;
            if self.rules.dontunmap_renormalises && vma.backing == Backing::Anon {
                emptied.pgoff = vma.start >> PAGE_SHIFT;
            }
        }
        self.uncount_pages(&vma);
        self.count_pages(&emptied);
        self.tree.splice(vma.start, 1, &[emptied]);
    }

    /// Cut the part to be moved out of a locked VMA, so that only it loses its lock.
    fn isolate_locked(&mut self, vma: &Vma, what: &Move) -> Result<Vma, Errno> {
        if !vma.flags.contains(VmaFlags::LOCKED) {
            return Ok(*vma);
        }
        let end = what.from + what.old_len;
        if vma.start < what.from {
            self.split(vma, what.from)?;
        }
        let &upper = self.tree.containing(what.from).expect("it is mapped");
        if end < upper.end {
            self.split(&upper, end)?;
        }
        Ok(*self.tree.containing(what.from).expect("it is mapped"))
    }
}

/// The VMA at the new place. Unfaulted anonymous memory takes the page offset of its new
/// address; all else keeps its own, and so fits beside its old neighbours only.
fn copy_of(source: &Vma, what: &Move) -> Vma {
    let fresh = source.backing == Backing::Anon && source.anon.is_none();
    let pgoff = if fresh {
        what.to >> PAGE_SHIFT
    } else {
        source.pgoff + ((what.from - source.start) >> PAGE_SHIFT)
    };
    Vma { start: what.to, end: what.to + what.new_len, pgoff, ..*source }
}
