//! Memory files: what tmpfs, a memfd, hugetlbfs and `MAP_SHARED | MAP_ANONYMOUS` keep behind
//! their mappings. Owns each file's size and page cache; which pages of it are mapped where
//! is in the page tables, and `map.rs` finds them.
//!
//! The cache owns the content of a cached page. An entry that maps it
//! ([`PteBits::CACHED`](super::PteBits)) carries the same content, so that whoever looks at a
//! page table sees what an access would: a store goes to the cache and from there to every
//! entry, in one step.
//!
//! Pages are numbered in base pages, whatever their size: the second huge page of a file is
//! number 512. A huge page is one entry of a page table, that of its first base page.
//!
//! A kernel in which nobody made a memory file has none of this, and pays nothing for it.

mod cut;
mod fault;
mod fill;
mod huge;
mod map;
mod pool;
mod remove;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use shims::{Errno, PageSize};

use super::{Kernel, PAGE};
use crate::Content;
use crate::vma::{FileId, FileKind, MapFile};

pub(crate) use cut::Cut;
pub(super) use fill::is_whole;
pub(super) use map::{keeps_markers, maps_object};
pub use pool::HugePages;
pub(crate) use remove::{RemoveFile, RemoveFilePc};

/// The number of a page of a file, in base pages.
pub(crate) type Index = u64;

/// A file that lives in memory: its size and the pages it has.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Object {
    page_size: PageSize,
    size: u64,
    /// Nothing but its mappings refers to it.
    nameless: bool,
    pages: BTreeMap<Index, Content>,
    /// Huge pages nobody else can have; what is cached may still be among them.
    promised: BTreeSet<Index>,
    /// Blocks of small pages that were made one.
    huge: BTreeSet<Index>,
}

impl Object {
    /// Its size in bytes. Whoever touches a page beyond it gets `SIGBUS` (rule c4).
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The size of its pages.
    pub fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// What the page cache holds for page `index`, a base page number; `None` is a hole.
    pub fn cached(&self, index: u64) -> Option<Content> {
        self.pages.get(&index).copied()
    }

    /// The pages in the cache, ascending.
    pub fn pages(&self) -> impl Iterator<Item = (u64, Content)> + '_ {
        self.pages.iter().map(|(index, content)| (*index, *content))
    }

    /// Does page `index` begin below the end of the file?
    fn reaches(&self, index: Index) -> bool {
        index < self.size.div_ceil(PAGE.bytes())
    }

    /// Base pages in one of its pages.
    fn granule(&self) -> u64 {
        self.page_size.bytes() / PAGE.bytes()
    }

    fn put(&mut self, index: Index, content: Content) {
        debug_assert!(index.is_multiple_of(self.granule()), "a page has one number");
        self.pages.insert(index, content);
    }
}

/// All memory files of a kernel.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Objects {
    list: Vec<Object>,
    /// How many huge pages there are; `None` is without end.
    huge_pages: Option<u64>,
}

impl Kernel {
    /// A new memory file of `size` bytes, empty, as `memfd_create` and `ftruncate` make one;
    /// to be mapped with [`Mmap::file`](crate::vma::Mmap::file) by any process.
    ///
    /// Errors: `EINVAL` for a size that is not whole pages of the file; `ENOTMODELLED` for a
    /// regular file and for huge pages other than those of 2 MiB.
    pub fn memory_file(&mut self, kind: FileKind, size: u64) -> Result<MapFile, Errno> {
        let page_size = match kind {
            FileKind::Shmem => PAGE,
            FileKind::Hugetlb(PageSize::MIB2) => PageSize::MIB2,
            FileKind::Hugetlb(_) | FileKind::Regular => return Err(Errno::ENOTMODELLED),
        };
        if !size.is_multiple_of(page_size.bytes()) {
            return Err(Errno::EINVAL);
        }
        Ok(MapFile::rw(self.new_object(page_size, size, false), kind))
    }

    /// The memory file `file`, if there is one.
    pub fn object(&self, file: FileId) -> Option<&Object> {
        self.objects.as_ref()?.list.get(file.0 as usize)
    }

    fn new_object(&mut self, page_size: PageSize, size: u64, nameless: bool) -> FileId {
        let objects = Arc::make_mut(self.objects.get_or_insert_default());
        let (pages, promised, huge) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        objects.list.push(Object { page_size, size, nameless, pages, promised, huge });
        FileId(u32::try_from(objects.list.len() - 1).expect("fewer than 2^32 memory files"))
    }

    /// The file behind a mapping.
    fn backer(&self, file: FileId) -> &Object {
        self.object(file).expect("nothing else can be mapped")
    }

    fn backer_mut(&mut self, file: FileId) -> &mut Object {
        let objects = self.objects.as_mut().expect("nothing else can be mapped");
        &mut Arc::make_mut(objects).list[file.0 as usize]
    }
}
