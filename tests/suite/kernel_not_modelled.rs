//! What `sim`'s documentation lists as not modelled is refused with an error that no kernel
//! returns, wherever a call can reach it.

use shims::{Addr, CopyMode, Errno, Features, Outcome, PageSize, RegisterModes, Request};
use sim::Profile;
use sim::kernel::{Call, Madvise, PageIs, PagemapScan, Payload, Ret, ScanFlags};
use sim::vma::{FileId, FileKind, MapFile, MapFlags, Mmap, Prot};

use crate::support::{Bed, page, span};

const REFUSED: Ret = Ret::Err(Errno::ENOTMODELLED);
const HUGE: FileKind = FileKind::Hugetlb(PageSize::MIB2);
/// Pages of a huge page, where the mapping under test begins.
const AT: u64 = 512;

fn bed() -> Bed {
    Bed::with(4, Profile::default(), Features::empty())
}

/// The file mapped at [`AT`].
fn map(bed: &mut Bed, file: MapFile, pages: u64, flags: MapFlags) {
    let request = Mmap::file(file, 0, pages * 4096, Prot::RW, flags).at(page(AT).raw());
    assert_eq!(bed.kernel.run(bed.handler, Call::Mmap(request)), Ret::Ok(page(AT).raw()));
}

#[test]
fn memory_files_of_other_kinds() {
    let mut bed = bed();
    let other = FileKind::Hugetlb(PageSize::KIB4);
    assert_eq!(bed.kernel.memory_file(other, 4096), Err(Errno::ENOTMODELLED));
    assert_eq!(bed.kernel.memory_file(FileKind::Regular, 4096), Err(Errno::ENOTMODELLED));
}

#[test]
fn parts_of_a_page_of_a_file() {
    let mut bed = bed();
    let small = bed.kernel.memory_file(FileKind::Shmem, 1 << 14).unwrap();
    let huge = bed.kernel.memory_file(HUGE, 1 << 22).unwrap();
    map(&mut bed, huge, 1024, MapFlags::SHARED);
    for call in [
        Call::Punch { file: small.id, start: 4096, len: 100 },
        Call::Punch { file: small.id, start: 1, len: 4096 },
        Call::Ftruncate { file: small.id, size: 4097 },
        Call::Punch { file: huge.id, start: 0, len: 4096 },
        Call::RemoveFile { range: span(AT, AT + 1) },
    ] {
        assert_eq!(bed.kernel.run(bed.handler, call.clone()), REFUSED, "{call:?}");
    }
}

#[test]
fn scans_and_copies_of_huge_pages() {
    let mut bed = bed();
    let huge = bed.kernel.memory_file(HUGE, 1 << 21).unwrap();
    map(&mut bed, huge, 512, MapFlags::SHARED);
    let (none, range) = (PageIs::empty(), span(AT, AT + 512));
    let scan = PagemapScan {
        range,
        flags: ScanFlags::empty(),
        room: 8,
        max_pages: 0,
        inverted: none,
        all: none,
        any: none,
        tell: PageIs::PRESENT,
    };
    assert_eq!(bed.kernel.run(bed.handler, Call::PagemapScan(Box::new(scan))), REFUSED);
    let register = Call::Register { ctx: bed.ctx, range, modes: RegisterModes::MISSING };
    assert!(matches!(bed.kernel.run(bed.handler, register), Ret::Ok(_)));
    let refused = Ret::Outcome(Outcome::mirrored(Errno::ENOTMODELLED));
    let copy = |dst, from: Addr| Call::Resolve {
        ctx: bed.ctx,
        request: Request::Copy { dst, mode: CopyMode::empty() },
        payload: Payload::From(from),
    };
    let (to_huge, unaligned) =
        (copy(range, page(0)), copy(span(0, 1), Addr::new(page(1).raw() + 8)));
    assert_eq!(bed.kernel.run(bed.handler, to_huge), refused);
    let bare = Ret::Outcome(Outcome::bare(Errno::ENOTMODELLED));
    assert_eq!(bed.kernel.run(bed.handler, unaligned), bare);
}

#[test]
fn huge_pages_of_files_that_have_none() {
    let collapse = |pages| Call::Madvise { range: span(AT, AT + pages), advice: Madvise::Collapse };
    let mut regular = bed();
    let file = MapFile::rw(FileId(u32::MAX), FileKind::Regular);
    map(&mut regular, file, 512, MapFlags::SHARED);
    assert_eq!(regular.kernel.run(regular.handler, collapse(512)), REFUSED);

    let mut short = bed();
    let file = short.kernel.memory_file(FileKind::Shmem, 100 * 4096).unwrap();
    map(&mut short, file, 512, MapFlags::SHARED);
    let touch = Call::Load { addr: page(AT) };
    assert!(matches!(short.kernel.run(short.handler, touch), Ret::Loaded(_)));
    assert_eq!(short.kernel.run(short.handler, collapse(512)), REFUSED);
}

#[test]
fn a_fork_over_private_huge_pages_that_are_counted() {
    let mut bed = bed();
    bed.kernel.set_huge_pages(4);
    let huge = bed.kernel.memory_file(HUGE, 1 << 21).unwrap();
    map(&mut bed, huge, 512, MapFlags::PRIVATE);
    let content = sim::Content::Written { task: 0, seq: 1 };
    let store = Call::Store { addr: page(AT), content };
    assert_eq!(bed.kernel.run(bed.handler, store), Ret::Stored);
    assert_eq!(bed.kernel.run(bed.handler, Call::Fork), REFUSED);
}
