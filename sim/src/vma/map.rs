//! `mmap` (v2.7) and where it places a mapping (v2.11). Owns the order of its checks.

use shims::{Addr, Errno, PageSize};

use super::space::{is_aligned, is_data, page_align};
use super::vma::{NameId, PAGE, PAGE_SHIFT};
use super::{
    AddressSpace, Backing, FileId, FileKind, MapFile, MapFlags, Mapped, Mmap, PolicyId, Removed,
    Vma, VmaFlags, merge,
};

impl AddressSpace {
    /// `mmap`. On an error the splits that a `MAP_FIXED` has made stay (v2.7).
    ///
    /// Errors: `EINVAL`, `ENOMEM`, `EOVERFLOW`, `EEXIST`, `EACCES`, `EPERM`, `EAGAIN`, in
    /// the order of rule v2.7.
    pub fn mmap(&mut self, request: &Mmap) -> Result<Mapped, Errno> {
        if request.len == 0 {
            return Err(Errno::EINVAL);
        }
        let fixed = request.flags.intersects(MapFlags::FIXED | MapFlags::FIXED_NOREPLACE);
        let page = huge_page(request).unwrap_or(PageSize::KIB4);
        let len = page_align(request.len)
            .and_then(|len| len.checked_next_multiple_of(page.bytes()))
            .ok_or(Errno::ENOMEM)?;
        if !is_aligned(request.offset) {
            return Err(Errno::EINVAL);
        }
        if (request.offset >> PAGE_SHIFT).checked_add(len >> PAGE_SHIFT).is_none() {
            return Err(Errno::EOVERFLOW);
        }
        if self.map_count() > self.limits.max_map_count {
            return Err(Errno::ENOMEM);
        }
        let start = if fixed {
            self.fixed_place(request.addr, len, page)?
        } else {
            self.place(request.addr, len, page)?
        };
        let end = start + len;
        let taken = self.tree.at_or_above(start).is_some_and(|vma| vma.start < end);
        if request.flags.contains(MapFlags::FIXED_NOREPLACE) && taken {
            return Err(Errno::EEXIST);
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
        let removed = self.map_region(vma)?;
        Ok(Mapped { addr: Addr::new(start), removed })
    }

    /// Flags and backing of the new mapping, and what is wrong with the request.
    fn judge(&mut self, request: &Mmap, vma: &mut Vma) -> Result<(), Errno> {
        let asked = request.flags;
        vma.flags = request.prot.flags() | VmaFlags::MAY;
        vma.flags.set(VmaFlags::GROWSDOWN, asked.contains(MapFlags::GROWSDOWN));
        if asked.contains(MapFlags::LOCKED) {
            if !self.limits.may_lock_any {
                if self.limits.rlimit_memlock == 0 {
                    return Err(Errno::EPERM);
                }
                let locked = (self.locked_pages + vma.pages()) << PAGE_SHIFT;
                if locked > self.limits.rlimit_memlock {
                    return Err(Errno::EAGAIN);
                }
            }
            vma.flags |= VmaFlags::LOCKED;
        }
        let shared = match MapFlags::from_bits_retain(asked.kind()) {
            MapFlags::SHARED | MapFlags::SHARED_VALIDATE => true,
            MapFlags::PRIVATE => false,
            MapFlags::DROPPABLE if request.file.is_none() => {
                vma.flags |= VmaFlags::DROPPABLE
                    | VmaFlags::NORESERVE
                    | VmaFlags::WIPEONFORK
                    | VmaFlags::DONTDUMP;
                false
            }
            _ => return Err(Errno::EINVAL),
        };
        if shared && asked.contains(MapFlags::GROWSDOWN) {
            return Err(Errno::EINVAL);
        }
        match request.file {
            None => {
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
                self.back(vma, file.id, file.kind, request.offset >> PAGE_SHIFT);
            }
        }
        if asked.contains(MapFlags::NORESERVE) {
            vma.flags |= VmaFlags::NORESERVE;
        }
        let charge = VmaFlags::WRITE | VmaFlags::SHARED | VmaFlags::NORESERVE | VmaFlags::HUGETLB;
        if vma.flags & charge == VmaFlags::WRITE {
            vma.flags |= VmaFlags::ACCOUNT;
        }
        Ok(())
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
    fn map_region(&mut self, vma: Vma) -> Result<Removed, Errno> {
        self.cut_out(vma.start, vma.end)?;
        self.check_limits(&vma)?;
        let removed = self.drop_range(vma.start, vma.end);
        self.insert_new(&vma);
        Ok(removed)
    }

    /// Put a range that is free into the tree, joined with its neighbours where possible.
    pub(super) fn insert_new(&mut self, vma: &Vma) {
        self.count_pages(vma);
        let prev = self.tree.below(vma.start);
        let next = self.tree.at_or_above(vma.end);
        match merge::new_range(&self.rules, prev, vma, next, false) {
            Some(merge) => self.commit(&merge),
            None => self.tree.splice(vma.start, 0, &[*vma]),
        }
    }

    /// `RLIMIT_AS` and `RLIMIT_DATA` against what the overlay leaves.
    fn check_limits(&self, vma: &Vma) -> Result<(), Errno> {
        let unmapped: u64 = self
            .tree
            .iter_from(vma.start)
            .take_while(|old| old.start < vma.end)
            .map(Vma::pages)
            .sum();
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

    fn fixed_place(&self, addr: u64, len: u64, page: PageSize) -> Result<u64, Errno> {
        if len > self.limits.task_size {
            return Err(Errno::ENOMEM);
        }
        if addr > self.limits.task_size - len {
            return Err(Errno::ENOMEM);
        }
        if !addr.is_multiple_of(page.bytes()) {
            return Err(Errno::EINVAL);
        }
        if addr < self.limits.mmap_min_addr {
            return Err(Errno::EPERM);
        }
        Ok(addr)
    }

    /// Placement from the top down (v2.11).
    fn place(&self, hint: u64, len: u64, page: PageSize) -> Result<u64, Errno> {
        let limits = &self.limits;
        if len > limits.task_size {
            return Err(Errno::ENOMEM);
        }
        let align = page.bytes();
        if hint >= PAGE {
            let at = (hint & !(align - 1)).max(limits.mmap_min_addr.next_multiple_of(align));
            let free = limits.task_size - len >= at
                && self.tree.at_or_above(at).is_none_or(|next| at + len <= self.guarded(next));
            if free {
                return Ok(at);
            }
        }
        let align = if page == PageSize::KIB4 && len.is_multiple_of(PageSize::MIB2.bytes()) {
            PageSize::MIB2.bytes()
        } else {
            align
        };
        let low = limits.mmap_min_addr.max(PAGE);
        let mut high = limits.mmap_base;
        while let Some(top) = self.tree.highest_gap(low, high, len + align - PAGE) {
            let at = (top - len) & !(align - 1);
            match self.tree.at_or_above(at) {
                Some(next) if at + len > self.guarded(next) => high = self.guarded(next),
                _ => return Ok(at),
            }
        }
        let padded = len + align - PAGE;
        let found = self.tree.lowest_gap(limits.legacy_base, limits.task_size, padded);
        found.map(|at| at.next_multiple_of(align)).ok_or(Errno::ENOMEM)
    }

    /// Where the guard gap of a VMA starts: below a stack other mappings keep away.
    pub(super) fn guarded(&self, vma: &Vma) -> u64 {
        if vma.flags.contains(VmaFlags::GROWSDOWN) {
            vma.start.saturating_sub(self.limits.stack_guard_gap)
        } else {
            vma.start
        }
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
    Ok(())
}
