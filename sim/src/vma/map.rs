//! `mmap` (v2.7). Owns the order of its checks and the flags it computes; where a mapping
//! goes is `place.rs`'s business.

use shims::{Addr, Errno, PageSize};

use super::area::{NameId, PAGE_SHIFT};
use super::lock::UNLOCKABLE;
use super::merge::Merge;
use super::space::{is_aligned, is_data, page_align};
use super::{
    AddressSpace, Backing, FileId, FileKind, MapFile, MapFlags, Mapped, Mmap, PolicyId, Refused,
    Removed, Vma, VmaFlags, merge,
};

impl AddressSpace {
    /// `mmap`. On an error the splits that a `MAP_FIXED` has made stay (v2.7).
    ///
    /// Errors: `EINVAL`, `ENOMEM`, `EOVERFLOW`, `EEXIST`, `EACCES`, `EPERM`, `EAGAIN`, in
    /// the order of rule v2.7. Contexts may have to be told all the same: [`Refused`].
    pub fn mmap(&mut self, request: &Mmap) -> Result<Mapped, Refused> {
        if self.map_simply(request) {
            return Ok(Mapped { addr: Addr::new(request.addr), removed: Removed::default() });
        }
        self.map_any(request)
    }

    #[inline(never)]
    fn map_any(&mut self, request: &Mmap) -> Result<Mapped, Refused> {
        if request.len == 0 {
            return Err(Errno::EINVAL.into());
        }
        let fixed = request.flags.intersects(MapFlags::FIXED | MapFlags::FIXED_NOREPLACE);
        let huge = huge_page(request);
        let page = huge.unwrap_or(PageSize::KIB4);
        let mut len = page_align(request.len).ok_or(Errno::ENOMEM)?;
        if huge.is_some() {
            len = Addr::new(len).align_up(page).ok_or(Errno::ENOMEM)?.raw();
        }
        if !is_aligned(request.offset) {
            return Err(Errno::EINVAL.into());
        }
        if self.map_count() > self.limits.max_map_count {
            return Err(Errno::ENOMEM.into());
        }
        let start = if fixed {
            self.fixed_place(request.addr, len, page)?
        } else {
            self.place(request.addr, len, page)?
        };
        let end = start + len;
        if request.flags.contains(MapFlags::FIXED_NOREPLACE)
            && self.tree.at_or_above(start).is_some_and(|vma| vma.start < end)
        {
            return Err(Errno::EEXIST.into());
        }
        let mut vma = Vma {
            start,
            end,
            pgoff: start >> PAGE_SHIFT,
            flags: VmaFlags::empty(),
            backing: Backing::Anon,
            ctx: None,
            anon: None,
            policy: PolicyId(0),
            name: NameId(0),
            close: false,
        };
        self.judge(request, &mut vma)?;
        let removed = self.map_region(&vma)?;
        if vma.flags.contains(VmaFlags::LOCKED) || request.flags.contains(MapFlags::POPULATE) {
            self.lock_and_fault_in(&vma);
        }
        Ok(Mapped { addr: Addr::new(start), removed })
    }

    #[cold]
    fn lock_and_fault_in(&mut self, vma: &Vma) {
        if vma.flags.contains(VmaFlags::LOCKED) && vma.flags.intersects(UNLOCKABLE) {
            self.strip_locks(vma.start);
        }
        self.populate(vma.start, vma.end);
    }

    /// Flags and backing of the new mapping, and what is wrong with the request.
    fn judge(&mut self, request: &Mmap, vma: &mut Vma) -> Result<(), Errno> {
        let asked = request.flags;
        vma.flags = request.prot.flags() | VmaFlags::MAY | self.future_flags;
        vma.flags.set(VmaFlags::GROWSDOWN, asked.contains(MapFlags::GROWSDOWN));
        if asked.contains(MapFlags::LOCKED) {
            if !self.limits.may_lock_any && self.limits.rlimit_memlock == 0 {
                return Err(Errno::EPERM);
            }
            vma.flags |= VmaFlags::LOCKED;
        }
        // What `mlockall(MCL_FUTURE)` locks counts as well.
        if vma.flags.contains(VmaFlags::LOCKED) && self.lock_limit_exceeded(vma.pages()) {
            return Err(Errno::EAGAIN);
        }
        // A file ends before byte 2^63; of anonymous memory the offset is not looked at.
        let end = request.offset.checked_add(vma.end - vma.start);
        if request.file.is_some() && end.is_none_or(|end| end > i64::MAX as u64) {
            return Err(Errno::EOVERFLOW);
        }
        let shared = match MapFlags::from_bits_retain(asked.kind()) {
            MapFlags::SHARED | MapFlags::SHARED_VALIDATE => true,
            MapFlags::PRIVATE => false,
            MapFlags::DROPPABLE if request.file.is_none() => {
                let senseless = MapFlags::LOCKED | MapFlags::HUGETLB | MapFlags::GROWSDOWN;
                if asked.intersects(senseless) {
                    return Err(Errno::EINVAL);
                }
                vma.flags |= VmaFlags::DROPPABLE
                    | VmaFlags::NORESERVE
                    | VmaFlags::WIPEONFORK
                    | VmaFlags::DONTDUMP;
                false
            }
            _ => return Err(Errno::EINVAL),
        };
        match request.file {
            None => {
                if shared && asked.contains(MapFlags::GROWSDOWN) {
                    return Err(Errno::EINVAL);
                }
                if shared {
                    vma.flags |= VmaFlags::SHARED | VmaFlags::MAYSHARE;
                }
                if asked.contains(MapFlags::HUGETLB) {
                    let file = self.fresh_file();
                    self.back(vma, file, FileKind::Hugetlb(PageSize::MIB2), 0);
                } else if shared {
                    let file = self.fresh_file();
                    self.back(vma, file, FileKind::Shmem, 0);
                }
            }
            Some(file) => {
                file_flags(&file, shared, vma)?;
                if matches!(file.kind, FileKind::Hugetlb(page) if !Addr::new(request.offset).is_aligned(page))
                {
                    return Err(Errno::EINVAL);
                }
                self.back(vma, file.id, file.kind, request.offset >> PAGE_SHIFT);
            }
        }
        if asked.contains(MapFlags::NORESERVE) {
            vma.flags |= VmaFlags::NORESERVE;
        }
        vma.flags = charge_flags(vma.flags);
        Ok(())
    }

    /// What cannot be locked loses the bits again, but only after the merge was decided with
    /// them.
    fn strip_locks(&mut self, at: u64) {
        let &vma = self.tree.containing(at).expect("it was just mapped");
        let stripped = Vma { flags: vma.flags.difference(VmaFlags::LOCK), ..vma };
        self.uncount_pages(&vma);
        self.count_pages(&stripped);
        self.tree.splice(vma.start, 1, &[stripped]);
    }

    fn fresh_file(&mut self) -> FileId {
        self.next_file += 1;
        FileId(self.next_file - 1)
    }

    fn back(&self, vma: &mut Vma, file: FileId, kind: FileKind, pgoff: u64) {
        vma.pgoff = pgoff;
        match kind {
            FileKind::Shmem => vma.backing = Backing::Shmem(file),
            FileKind::Regular => vma.backing = Backing::File(file),
            FileKind::Hugetlb(size) => {
                vma.backing = Backing::Hugetlb(file, size);
                vma.flags |= VmaFlags::HUGETLB | VmaFlags::DONTEXPAND;
                vma.close = true;
            }
        }
    }

    /// The region step: limits against what will be left, the overlay, the merge.
    fn map_region(&mut self, vma: &Vma) -> Result<Removed, Refused> {
        let cursor = self.tree.seek(vma.start);
        let next = cursor.get();
        if next.is_none_or(|next| next.start >= vma.end) {
            self.check_limits(vma, 0)?;
            let merge = merge::new_range(&self.rules, cursor.prev(), vma, next);
            self.place_new(vma, merge);
            return Ok(Removed::default());
        }
        self.cut_out(vma.start, vma.end)?;
        let old = self.tree.iter_from(vma.start).take_while(|old| old.start < vma.end);
        let replaced = old.map(Vma::pages).sum();
        if let Err(errno) = self.check_limits(vma, replaced) {
            return Err(self.refuse_after(vma.start, vma.end, errno));
        }
        let removed = self.drop_range(vma.start, vma.end);
        self.insert_new(vma);
        Ok(removed)
    }

    /// Put a range that is free into the tree, joined with its neighbours where possible.
    pub(super) fn insert_new(&mut self, vma: &Vma) {
        let cursor = self.tree.seek(vma.start);
        let merge = merge::new_range(&self.rules, cursor.prev(), vma, cursor.get());
        self.place_new(vma, merge);
    }

    /// Commit what was decided for a range that is free.
    pub(super) fn place_new(&mut self, vma: &Vma, merge: Option<Merge>) {
        self.count_pages(vma);
        match &merge {
            Some(merge) => self.commit(merge),
            None => self.tree.splice(vma.start, 0, &[*vma]),
        }
    }

    /// `RLIMIT_AS` and `RLIMIT_DATA` against what is left when `unmapped` pages go.
    pub(super) fn check_limits(&self, vma: &Vma, unmapped: u64) -> Result<(), Errno> {
        let more = vma.pages() - unmapped;
        let fits = |pages: u64, limit: u64| pages + more <= limit >> PAGE_SHIFT;
        if !fits(self.total_pages, self.limits.rlimit_as) {
            return Err(Errno::ENOMEM);
        }
        if is_data(vma.flags) && !fits(self.data_pages, self.limits.rlimit_data) {
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }
}

fn huge_page(request: &Mmap) -> Option<PageSize> {
    match request.file {
        Some(MapFile { kind: FileKind::Hugetlb(size), .. }) => Some(size),
        None if request.flags.contains(MapFlags::HUGETLB) => Some(PageSize::MIB2),
        _ => None,
    }
}

/// What the way a file was opened allows (v2.7).
fn file_flags(file: &MapFile, shared: bool, vma: &mut Vma) -> Result<(), Errno> {
    if shared {
        if vma.flags.contains(VmaFlags::WRITE) && (!file.writable || file.append_only) {
            return Err(Errno::EACCES);
        }
        vma.flags |= VmaFlags::SHARED | VmaFlags::MAYSHARE;
        if !file.writable {
            vma.flags.remove(VmaFlags::SHARED | VmaFlags::MAYWRITE);
        }
    }
    if !file.readable {
        return Err(Errno::EACCES);
    }
    if file.noexec {
        if vma.flags.contains(VmaFlags::EXEC) {
            return Err(Errno::EPERM);
        }
        vma.flags.remove(VmaFlags::MAYEXEC);
    }
    if vma.flags.contains(VmaFlags::GROWSDOWN) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// The flags with `ACCOUNT`, where the memory is charged against the commit limit (v2.1).
pub(super) fn charge_flags(flags: VmaFlags) -> VmaFlags {
    let free = VmaFlags::SHARED | VmaFlags::NORESERVE | VmaFlags::HUGETLB;
    if flags & (free | VmaFlags::WRITE) == VmaFlags::WRITE {
        flags | VmaFlags::ACCOUNT
    } else {
        flags
    }
}
