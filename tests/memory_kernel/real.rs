//! A program on the running kernel. Owns the file, its mappings and the userfaultfd.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, MemfdFlags, SeekFrom};
use shims::linux::{Advice, Mapping, OpenFlags, UserFault};
use shims::{
    ContinueMode, CopyMode, Errno, Features, Len, PageSize, PoisonMode, Span, Uffd,
    WriteProtectMode, ZeropageMode,
};
use sim::{Content, STAMP_LEN};

use crate::op::{Kind, Op, Pages, Side, entry};

pub(crate) struct Real {
    kind: Kind,
    file: Option<Arc<OwnedFd>>,
    watched: Mapping,
    other: Option<Mapping>,
    uffd: UserFault,
    memory: File,
    /// What the next `COPY` brings: one stamp a page.
    copies: u32,
}

impl Real {
    pub(crate) fn new(kind: Kind, features: Features) -> Real {
        let len = Len::new(kind.pages() * kind.page());
        let uffd = UserFault::open(OpenFlags::empty()).expect("a userfaultfd");
        uffd.api(features).expect("the features that were asked for");
        let memory = File::options().read(true).write(true).open("/proc/self/mem");
        let memory = memory.expect("/proc/self/mem");
        let (file, watched, other) = if kind == Kind::Anon {
            (None, Mapping::anonymous(len).expect("memory"), None)
        } else {
            let huge = MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
            let flags = if kind.is_huge() { huge } else { MemfdFlags::empty() };
            let file = rustix::fs::memfd_create("memory", flags).expect("a memory file");
            rustix::fs::ftruncate(&file, len.bytes()).expect("a size");
            let (file, page) = (Arc::new(file), PageSize::from_bytes(kind.page()).expect("a size"));
            let map = |shared| Mapping::of_file(Arc::clone(&file), len, page, shared);
            let watched = map(kind.is_shared()).expect("a mapping");
            let other = map(true).expect("a mapping");
            (Some(file), watched, Some(other))
        };
        Real { kind, file, watched, other, uffd, memory, copies: 0 }
    }

    /// Where the two mappings begin, within 2 MiB.
    pub(crate) fn offsets(&self) -> [u64; 2] {
        let offset = |map: &Mapping| map.addr().raw() % (2 << 20);
        [offset(&self.watched), self.other.as_ref().map_or(0, offset)]
    }

    pub(crate) fn perform(&mut self, op: Op) -> String {
        let word = |result: Result<(), Errno>| match result {
            Ok(()) => "ok".to_owned(),
            Err(errno) => format!("{errno:?}"),
        };
        let bytes = |pages: Pages| (pages.at * self.kind.page(), pages.len * self.kind.page());
        match op {
            Op::Load(side, page) => self.load(side, page),
            Op::Store(side, page, seq) => {
                let stamp = Content::Written { task: 0, seq }.stamp();
                let addr = self.side(side).addr().raw() + page * self.kind.page();
                word(self.memory.write_all_at(&stamp, addr).map_err(|e| access_errno(&e)))
            }
            Op::Copy { pages, wp } => {
                let mode = if wp { CopyMode::WP } else { CopyMode::empty() };
                let mut src = vec![0; (pages.len * self.kind.page()) as usize];
                for page in src.chunks_mut(self.kind.page() as usize) {
                    self.copies += 1;
                    let content = Content::Source { page: self.copies, version: 0 };
                    page[..STAMP_LEN].copy_from_slice(&content.stamp());
                }
                format!("{:?}", self.uffd.copy(self.span(pages), &src, mode))
            }
            Op::Zero(pages) => {
                format!("{:?}", self.uffd.zeropage(self.span(pages), ZeropageMode::empty()))
            }
            Op::Continue { pages, wp } => {
                let mode = if wp { ContinueMode::WP } else { ContinueMode::empty() };
                format!("{:?}", self.uffd.continue_(self.span(pages), mode))
            }
            Op::Poison(pages) => {
                format!("{:?}", self.uffd.poison(self.span(pages), PoisonMode::empty()))
            }
            Op::Protect { pages, on } => {
                let mode = if on { WriteProtectMode::WP } else { WriteProtectMode::empty() };
                format!("{:?}", self.uffd.write_protect(self.span(pages), mode))
            }
            Op::DontNeed(side, pages) => self.advise(side, pages, Advice::DontNeed),
            Op::Remove(side, pages) => self.advise(side, pages, Advice::Remove),
            Op::Populate { side, pages, write: false } => {
                self.advise(side, pages, Advice::PopulateRead)
            }
            Op::Populate { side, pages, write: true } => {
                self.advise(side, pages, Advice::PopulateWrite)
            }
            Op::Punch(pages) => {
                let (at, len) = bytes(pages);
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                let file = self.file.as_ref().expect("files only");
                word(rustix::fs::fallocate(file, flags, at, len).map_err(errno))
            }
            Op::Truncate(pages) => {
                let file = self.file.as_ref().expect("files only");
                word(rustix::fs::ftruncate(file, pages * self.kind.page()).map_err(errno))
            }
            Op::Register(modes) => {
                if self.kind.is_huge() {
                    self.uffd.unregister(self.watched.span()).expect("it can be");
                }
                match self.uffd.register(self.watched.span(), modes) {
                    Ok(ioctls) => format!("{:#x}", ioctls.bits()),
                    Err(errno) => format!("{errno:?}"),
                }
            }
            Op::Unregister => word(self.uffd.unregister(self.watched.span())),
        }
    }

    /// Every entry of both mappings, and which pages the file has.
    pub(crate) fn state(&self) -> String {
        let step = self.kind.page() / 4096;
        let entries = |map: &Mapping| {
            let all = map.page_entries(0, self.kind.pages() * step).expect("pagemap");
            let show = |e: &shims::linux::PageEntry| {
                entry(e.is_present(), e.is_swapped(), e.is_file(), e.is_uffd_wp())
            };
            all.iter().step_by(step as usize).map(show).collect::<Vec<_>>().join(" ")
        };
        let mut words = entries(&self.watched);
        if let (Some(other), Some(file)) = (&self.other, &self.file) {
            words += " | ";
            words += &entries(other);
            if !self.kind.is_huge() {
                words += " | ";
                words += &(0..self.kind.pages()).map(|page| has(file, page)).collect::<String>();
            }
        }
        words
    }

    fn load(&self, side: Side, page: u64) -> String {
        let addr = self.side(side).addr().raw() + page * self.kind.page();
        let mut bytes = [0; 4096];
        match self.memory.read_exact_at(&mut bytes, addr) {
            Ok(()) => Content::of_bytes(&bytes).to_string(),
            Err(e) => format!("{:?}", access_errno(&e)),
        }
    }

    fn advise(&self, side: Side, pages: Pages, advice: Advice) -> String {
        let (at, len) = (pages.at * self.kind.page(), pages.len * self.kind.page());
        match self.side(side).madvise(at, len, advice) {
            Ok(()) => "ok".to_owned(),
            Err(errno) => format!("{errno:?}"),
        }
    }

    fn side(&self, side: Side) -> &Mapping {
        match side {
            Side::Watched => &self.watched,
            Side::Other => self.other.as_ref().expect("files only"),
        }
    }

    fn span(&self, pages: Pages) -> Span {
        self.watched.pages(pages.at, pages.len)
    }
}

/// Does the file have this page?
fn has(file: &OwnedFd, page: u64) -> char {
    match rustix::fs::seek(file, SeekFrom::Data(page * 4096)) {
        Ok(found) if found == page * 4096 => '#',
        _ => '.',
    }
}

fn errno(e: rustix::io::Errno) -> Errno {
    Errno::from_raw(e.raw_os_error()).expect("an error number")
}

/// `write_all_at` tells nothing but that not a byte was written when it was not.
fn access_errno(e: &std::io::Error) -> Errno {
    e.raw_os_error().and_then(Errno::from_raw).unwrap_or(Errno::EIO)
}
