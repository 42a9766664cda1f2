//! Memory files and their mappings: `mmap`, and the way back from a page of a file to the
//! page table entries that show it. Owns no fault and no ioctl.

use shims::{Addr, Errno, Features, PageSize, RegisterModes, Span};

use super::super::call::MmId;
use super::super::page_table::{PageTable, Pte, PteBits, Vpn};
use super::super::{Kernel, Mm, PAGE, page_addr, page_of};
use super::Index;
use crate::Content;
use crate::vma::{Backing, FileId, FileKind, MapFile, MapFlags, Mapped, Mmap, Refused, Vma};

impl Kernel {
    /// `mmap`, of memory files as well. Memory that is shared without a file, or made of huge
    /// pages, gets a file of its own.
    ///
    /// Errors beside those of [`AddressSpace::mmap`](crate::vma::AddressSpace::mmap): `EBADF`
    /// for a memory file that nobody made.
    pub(in crate::kernel) fn mmap(&mut self, mm: MmId, asked: &Mmap) -> Result<Mapped, Refused> {
        let huge = asked.flags.contains(MapFlags::HUGETLB);
        let kind = MapFlags::from_bits_retain(asked.flags.bits() & 0xf);
        let shared = matches!(kind, MapFlags::SHARED | MapFlags::SHARED_VALIDATE);
        match asked.file {
            None if shared || (huge && kind == MapFlags::PRIVATE) => {
                self.map_nameless(mm, asked, huge)
            }
            None => self.mm(mm).space.mmap(asked),
            Some(MapFile { kind: FileKind::Shmem | FileKind::Hugetlb(_), id, .. })
                if self.object(id).is_none() =>
            {
                Err(Errno::EBADF.into())
            }
            Some(file) => self.map_promised(mm, asked, file.id),
        }
    }

    /// Huge pages are promised to a mapping, or it is not made.
    fn map_promised(&mut self, mm: MmId, asked: &Mmap, file: FileId) -> Result<Mapped, Refused> {
        let huge = self.object(file).is_some_and(|object| object.page_size() != PAGE);
        if !huge || asked.flags.contains(MapFlags::NORESERVE) {
            return self.mm(mm).space.mmap(asked);
        }
        let part = (asked.offset / PAGE.bytes(), asked.len.div_ceil(PageSize::MIB2.bytes()));
        let shared = asked.flags.contains(MapFlags::SHARED);
        self.check_promise(file, shared, part)?;
        let mapped = self.mm(mm).space.mmap(asked)?;
        if shared {
            self.promise(file, part);
        }
        Ok(mapped)
    }

    /// The address space numbers the files of such mappings by itself, from the same number
    /// in each process; here the kernel does.
    fn map_nameless(&mut self, mm: MmId, asked: &Mmap, huge: bool) -> Result<Mapped, Refused> {
        let page_size = if huge { PageSize::MIB2 } else { PAGE };
        let len = asked.len.checked_next_multiple_of(page_size.bytes()).ok_or(Errno::ENOMEM)?;
        let before = self.objects.clone();
        let id = self.new_object(page_size, len, true);
        let kind = if huge { FileKind::Hugetlb(page_size) } else { FileKind::Shmem };
        let unnamed = MapFlags::ANONYMOUS | MapFlags::HUGETLB;
        let flags = asked.flags.difference(unnamed);
        let request = Mmap { file: Some(MapFile::rw(id, kind)), offset: 0, flags, ..*asked };
        let mapped = self.map_promised(mm, &request, id);
        if mapped.is_err() {
            self.objects = before;
        }
        mapped
    }

    /// The page table entry that stands for page `vpn`: its own, or that of the first base
    /// page of its huge page.
    #[inline]
    pub(in crate::kernel) fn granule(&self, mm: MmId, vpn: Vpn) -> Vpn {
        if self.objects.is_none() { vpn } else { vpn - vpn % self.granule_pages(mm, vpn) }
    }

    /// How many base pages one entry stands for, around page `vpn`.
    #[inline]
    pub(in crate::kernel) fn granule_pages(&self, mm: MmId, vpn: Vpn) -> u64 {
        if self.objects.is_none() {
            return 1;
        }
        let vma = self.space(mm).find(page_addr(vpn));
        vma.map_or(1, |vma| vma.page_size().bytes() / PAGE.bytes())
    }

    /// A store to page `vpn`, which is mapped and may be written, leaves `content` there.
    #[inline]
    pub(in crate::kernel) fn write_page(&mut self, mm: MmId, vpn: Vpn, content: Content) {
        if !self.mm(mm).table.write(vpn, content) {
            self.write_cached(mm, vpn, content);
        }
    }

    /// Which page of its file is mapped at `addr`, in base pages, if memory of a file is.
    pub fn file_index(&self, mm: MmId, addr: Addr) -> Option<u64> {
        let vma = self.space(mm).find(addr)?;
        place(vma, page_of(addr)).map(|(_, index)| index)
    }

    /// Does the file that is mapped at `addr` have the page, mapped or not?
    pub fn cached_at(&self, mm: MmId, addr: Addr) -> bool {
        let vma = self.space(mm).find(addr);
        let place = vma.and_then(|vma| place(vma, self.granule(mm, page_of(addr))));
        place.is_some_and(|(file, index)| self.backer(file).cached(index).is_some())
    }

    /// Is page `vpn` of `vma` a small page that its file has?
    pub(in crate::kernel) fn is_cached(&self, vma: &Vma, vpn: Vpn) -> bool {
        matches!(vma.backing(), Backing::Shmem(_))
            && place(vma, vpn)
                .is_some_and(|(file, index)| self.backer(file).cached(index).is_some())
    }

    /// A store through a shared mapping: everybody who maps the page sees it.
    #[cold]
    fn write_cached(&mut self, mm: MmId, vpn: Vpn, content: Content) {
        let vma = *self.space(mm).find(page_addr(vpn)).expect("the page is mapped");
        let Pte::Present { bits, .. } = self.table(mm).get(vpn) else {
            panic!("page {vpn:#x} is not there")
        };
        let bits = bits.difference(PteBits::READ_ONLY);
        self.mm(mm).table.set(vpn, Pte::Present { content, bits });
        let (file, index) = place(&vma, vpn).expect("an anonymous page is not cached");
        self.backer_mut(file).put(index, content);
        self.each_mapping(file, index, |_, table, vpn| {
            if let Pte::Present { bits, .. } = table.get(vpn)
                && bits.contains(PteBits::CACHED)
            {
                table.set(vpn, Pte::Present { content, bits });
            }
        });
    }

    /// Every place, in every process, at which page `index` of `file` would be mapped.
    pub(super) fn each_mapping(
        &mut self,
        file: FileId,
        index: Index,
        mut visit: impl FnMut(&Vma, &mut PageTable, Vpn),
    ) {
        for Mm { space, table, .. } in &mut self.mms {
            for vma in space.iter().filter(|vma| shows(vma, file)) {
                if let Some(vpn) = vpn_of(vma, index) {
                    visit(vma, table, vpn);
                }
            }
        }
    }
}

impl Kernel {
    /// What speaks against watching a range because of what it maps (rule b5), as far as this
    /// kernel is too old for it; and whether there are huge pages in it.
    pub(in crate::kernel) fn check_kinds(
        &self,
        mm: MmId,
        range: Span,
        modes: RegisterModes,
    ) -> Result<bool, Errno> {
        if self.objects.is_none() {
            return Ok(false);
        }
        let has = |feature| self.profile.features.contains(feature);
        let end = range.end().ok_or(Errno::EINVAL)?;
        let mut huge = false;
        for vma in self.space(mm).iter_from(range.start).take_while(|vma| vma.start() < end) {
            let minor = match vma.backing() {
                Backing::Anon | Backing::File(_) => continue,
                Backing::Shmem(_) => Features::MINOR_SHMEM,
                Backing::Hugetlb(..) => Features::MINOR_HUGETLBFS,
            };
            huge |= vma.page_size() != PAGE;
            if (modes.contains(RegisterModes::MINOR) && !has(minor))
                || (modes.contains(RegisterModes::WP) && !has(Features::WP_HUGETLBFS_SHMEM))
            {
                return Err(Errno::EINVAL);
            }
        }
        Ok(huge)
    }
}

/// Which page of which file `vpn`, which lies in `vma`, shows.
pub(super) fn place(vma: &Vma, vpn: Vpn) -> Option<(FileId, Index)> {
    match vma.backing() {
        Backing::Shmem(file) | Backing::Hugetlb(file, _) => {
            Some((file, vma.pgoff() + (vpn - page_of(vma.start()))))
        }
        Backing::Anon | Backing::File(_) => None,
    }
}

/// Does `vma` map a memory file?
#[inline]
pub(in crate::kernel) fn maps_object(vma: &Vma) -> bool {
    matches!(vma.backing(), Backing::Shmem(_) | Backing::Hugetlb(..))
}

/// Does `vma` map `file`?
pub(super) fn shows(vma: &Vma, file: FileId) -> bool {
    maps_object(vma) && vma.backing().file() == Some(file)
}

/// Where `vma` shows page `index` of its file.
pub(super) fn vpn_of(vma: &Vma, index: Index) -> Option<Vpn> {
    let vpn = page_of(vma.start()) + index.checked_sub(vma.pgoff())?;
    (vpn < page_of(vma.end())).then_some(vpn)
}

/// Do entries of `vma` keep their protection when their page goes (rules f1, f3)? In hugetlb
/// memory it does not matter what the memory is registered for now.
pub(in crate::kernel) fn keeps_markers(vma: &Vma) -> bool {
    match vma.backing() {
        Backing::Anon | Backing::File(_) => false,
        Backing::Shmem(_) => vma.uffd_modes().contains(RegisterModes::WP),
        Backing::Hugetlb(..) => true,
    }
}
