//! Write protection that asks nobody: `WP_ASYNC`. Each test names the rule it holds the kernel
//! to; every figure was measured on 6.18 by a program that did the same.

use shims::{
    CopyMode, Errno, Features, Outcome, RegisterModes, Request, WriteProtectMode, ZeropageMode,
};
use sim::kernel::{Call, Marker, Payload, Pte, PteBits, Ret, Signal};
use sim::vma::{FileId, FileKind, MapFile, MapFlags, Mmap, Prot};
use sim::world::BASE;
use sim::{Content, Profile};

use crate::support::{Bed, page, source, span};

const PROTECT: WriteProtectMode = WriteProtectMode::WP;
const BOTH: RegisterModes = RegisterModes::MISSING.union(RegisterModes::WP);
const MARKER: Pte = Pte::Marker(Marker::WriteProtect);

fn bed(pages: u64, modes: RegisterModes) -> Bed {
    Bed::registered(pages, Profile::default(), Features::WP_ASYNC, modes)
}

fn writable(content: Content) -> Pte {
    Pte::Present { content, bits: PteBits::empty() }
}

fn is_protected(pte: Pte) -> bool {
    matches!(pte, Pte::Present { bits, .. } if bits.contains(PteBits::UFFD_WP))
}

#[test]
fn f5_a_write_takes_the_protection_off_and_nobody_is_asked() {
    let mut bed = bed(2, BOTH);
    let writer = bed.thread();
    bed.copy_mode(0, 2, CopyMode::WP);
    assert_eq!(bed.load(writer, 0), Some(Ret::Loaded(source(0))));
    assert!(is_protected(bed.pte(0)), "a read leaves it");
    assert_eq!(bed.store(writer, 0), Some(Ret::Stored));
    let content = Content::Written { task: writer.0, seq: 1 };
    assert_eq!(bed.pte(0), writable(content));
    assert!(is_protected(bed.pte(1)));
    assert_eq!(bed.read(8), []);
    // The kernel on behalf of a thread writes the same way.
    assert_eq!(bed.go(writer, Call::Populate { range: span(1, 2), write: true }), Some(Ret::Ok(0)));
    assert_eq!(bed.pte(1), writable(source(1)));
}

#[test]
fn a6_it_brings_markers_for_absent_pages_along() {
    let mut bed = bed(3, RegisterModes::WP);
    let thread = bed.thread();
    assert!(bed.kernel.ctx(bed.ctx).features().contains(Features::WP_UNPOPULATED));
    assert_eq!(bed.protect(0, 3, PROTECT), Outcome::OK);
    assert_eq!([bed.pte(0), bed.pte(1), bed.pte(2)], [MARKER; 3]);
    // f2: a read maps the zero page, protected; a write leaves an ordinary page.
    assert_eq!(bed.load(thread, 0), Some(Ret::Loaded(Content::Zero)));
    assert!(is_protected(bed.pte(0)));
    assert_eq!(bed.store(thread, 0), Some(Ret::Stored));
    assert_eq!(bed.store(thread, 1), Some(Ret::Stored));
    assert!(!is_protected(bed.pte(0)) && !is_protected(bed.pte(1)));
    assert_eq!(bed.read(8), []);
}

#[test]
fn c3_what_is_missing_is_asked_for_all_the_same() {
    let mut bed = bed(1, BOTH);
    let writer = bed.thread();
    bed.protect(0, 1, PROTECT);
    assert_eq!(bed.store(writer, 0), None);
    assert_eq!(bed.read(8).len(), 1);
    assert_eq!(bed.copy_mode(0, 1, CopyMode::WP), Outcome::done(4096));
    assert_eq!(bed.on(writer), Some(Ret::Stored), "the protection of the copy does not ask again");
    assert!(!is_protected(bed.pte(0)));
}

#[test]
fn c4_the_protection_of_the_mapping_comes_first() {
    let mut bed = bed(1, RegisterModes::WP);
    let writer = bed.thread();
    bed.copy_mode(0, 1, CopyMode::WP);
    bed.go(writer, Call::Mprotect { range: span(0, 1), prot: Prot::READ });
    assert_eq!(bed.store(writer, 0), Some(Ret::Signal(Signal::SegvAccErr)));
    assert!(is_protected(bed.pte(0)));
    bed.go(writer, Call::Mprotect { range: span(0, 1), prot: Prot::RW });
    assert_eq!(bed.store(writer, 0), Some(Ret::Stored));
    assert!(!is_protected(bed.pte(0)));
}

#[test]
fn b5_any_file_can_be_watched_for_writes_and_for_nothing_else() {
    let map = |bed: &mut Bed, shared: bool| {
        let file = MapFile::rw(FileId(7), FileKind::Regular);
        let flags = if shared { MapFlags::SHARED } else { MapFlags::PRIVATE };
        let at = page(8).raw();
        let map = Mmap::file(file, 0, 4096, Prot::RW, flags).at(at);
        assert_eq!(bed.kernel.run(bed.handler, Call::Mmap(map)), Ret::Ok(at));
    };
    let mut bed = bed(1, RegisterModes::WP);
    for shared in [false, true] {
        map(&mut bed, shared);
        assert_eq!(bed.register(8, 9, BOTH), Ret::Err(Errno::EINVAL));
        assert_eq!(bed.register(8, 9, RegisterModes::MISSING), Ret::Err(Errno::EINVAL));
        // b6: the mask promises more than e7 keeps.
        assert_eq!(bed.register(8, 9, RegisterModes::WP), Ret::Ok(0x17c));
        let refused = Outcome::mirrored(Errno::EINVAL);
        assert_eq!(bed.copy(8, 9), refused);
        assert_eq!(bed.copy_mode(8, 9, CopyMode::WP), refused);
        let zero = Request::Zeropage { range: span(8, 9), mode: ZeropageMode::empty() };
        assert_eq!(bed.resolve(zero, Payload::None), refused);
        assert_eq!(bed.protect(8, 9, PROTECT), Outcome::OK);
    }
    let mut sync =
        Bed::registered(1, Profile::default(), Features::WP_UNPOPULATED, RegisterModes::WP);
    map(&mut sync, false);
    assert_eq!(sync.register(8, 9, RegisterModes::WP), Ret::Err(Errno::EINVAL));
}

#[test]
fn d26_a_child_that_is_watched_writes_without_asking_too() {
    let features = Features::WP_ASYNC | Features::EVENT_FORK;
    let mut bed = Bed::registered(1, Profile::default(), features, RegisterModes::WP);
    let parent = bed.thread();
    bed.copy_mode(0, 1, CopyMode::WP);
    assert_eq!(bed.go(parent, Call::Fork), None);
    assert_eq!(bed.read(1).len(), 1);
    let Some(Ret::Forked(child)) = bed.on(parent) else { panic!("fork has returned") };
    let thread = bed.kernel.new_thread(child);
    let vpn = BASE.raw() >> 12;
    assert!(is_protected(bed.kernel.table(child).get(vpn)));
    let store = Call::Store { addr: page(0), content: Content::Bytes(1) };
    assert_eq!(bed.go(thread, store), Some(Ret::Stored));
    assert_eq!(bed.kernel.table(child).get(vpn), writable(Content::Bytes(1)));
    // The parent's page, shared until now, is protected still.
    assert!(is_protected(bed.pte(0)));
    assert_eq!(bed.store(parent, 0), Some(Ret::Stored));
    assert!(!is_protected(bed.pte(0)));
}

#[test]
fn a6_a_kernel_without_it_refuses_it() {
    let mut kernel = sim::Kernel::new(Profile::linux_5_13());
    let mm = kernel.new_mm();
    assert_eq!(kernel.userfaultfd(mm, Features::WP_ASYNC), Err(Errno::EINVAL));
}
