//! `fork` of a watched process. Each test names the rule it holds the kernel to.

use shims::{
    CopyMode, Errno, Event, FaultFlags, Features, MoveMode, Outcome, PoisonMode, RegisterModes,
    Request, Verdict, WriteProtectMode, ZeropageMode,
};
use sim::kernel::{
    Call, Did, Madvise, Marker, MmId, PageIs, PagemapBits, PagemapScan, Payload, Pte, PteBits, Ret,
    ScanFlags, Signal, ThreadId,
};
use sim::vma::{CtxId, Mmap, Prot};
use sim::{Content, Profile};

use crate::support::{Bed, page, source, span};

const BOTH: RegisterModes = RegisterModes::MISSING.union(RegisterModes::WP);

fn bed(pages: u64, features: Features, modes: RegisterModes) -> Bed {
    Bed::registered(pages, Profile::default(), features | Features::WP_UNPOPULATED, modes)
}

/// Fork, the handler reading the message if there is one: the child, a thread of its own, and
/// its userfaultfd.
fn fork(bed: &mut Bed) -> (MmId, ThreadId, Option<CtxId>) {
    let parent = bed.thread();
    let mut ret = bed.go(parent, Call::Fork);
    let mut uffd = None;
    while ret.is_none() {
        let [Event::Fork { fd }] = bed.read(8)[..] else { panic!("a fork is announced") };
        uffd = bed.kernel.child_userfaultfd(fd);
        ret = bed.on(parent);
    }
    let Some(Ret::Forked(child)) = ret else { panic!("a fork returned {ret:?}") };
    (child, bed.kernel.new_thread(child), uffd)
}

fn pte(bed: &Bed, mm: MmId, n: u64) -> Pte {
    bed.kernel.table(mm).get(page(n).raw() >> 12)
}

/// The handler's view of the child.
fn child_bed(bed: &Bed, child: MmId, ctx: CtxId) -> Bed {
    Bed { kernel: bed.kernel.clone(), mm: child, ctx, handler: bed.handler }
}

#[test]
fn d25_d27_d33_the_parent_waits_for_the_reader_and_the_gate_is_shut_meanwhile() {
    let mut bed = bed(2, Features::EVENT_FORK, RegisterModes::MISSING);
    let parent = bed.thread();
    bed.kernel.begin(parent, Call::Fork);
    assert_eq!(bed.step(parent), Did::RaiseChanging { ctx: bed.ctx, changing: 1 });
    assert_eq!(bed.on(parent), None);
    assert_eq!(bed.copy(0, 1).verdict(), Verdict::Changing);
    let events = bed.read(8);
    let [Event::Fork { fd }] = events[..] else { panic!("{events:?}") };
    assert_eq!(bed.copy(0, 1).verdict(), Verdict::Changing, "d4");
    assert!(matches!(bed.step(parent), Did::LowerChanging { changing: 0, .. }));
    assert!(matches!(bed.kernel.take_ret(parent), Some(Ret::Forked(_))));
    let child = bed.kernel.child_userfaultfd(fd).unwrap();
    assert_ne!(child, bed.ctx);
    assert_eq!(bed.kernel.ctx(child).changing(), 0);
}

#[test]
fn d26_the_child_asks_its_own_userfaultfd_and_nobody_else_hears() {
    let mut bed = bed(2, Features::EVENT_FORK, RegisterModes::MISSING);
    bed.copy(0, 1);
    let (child, thread, uffd) = fork(&mut bed);
    assert_eq!(bed.load(thread, 0), Some(Ret::Loaded(source(0))));
    assert_eq!(bed.load(thread, 1), None);
    assert!(bed.read(8).is_empty());
    let mut theirs = child_bed(&bed, child, uffd.unwrap());
    assert_eq!(theirs.read(8).len(), 1);
    assert_eq!(theirs.copy(1, 2), Outcome::done(4096));
    assert_eq!(theirs.on(thread), Some(Ret::Loaded(source(1))));
    assert_eq!(pte(&theirs, bed.mm, 1), Pte::None, "the parent has no such page");
}

#[test]
fn d26_without_the_event_the_child_is_not_watched() {
    let mut bed = bed(4, Features::empty(), BOTH);
    bed.copy_mode(0, 1, CopyMode::WP);
    bed.protect(1, 2, WriteProtectMode::WP);
    let poison = Request::Poison { range: span(2, 3), mode: PoisonMode::empty() };
    bed.resolve(poison, Payload::None);
    let (child, thread, uffd) = fork(&mut bed);
    assert_eq!(uffd, None);
    assert_eq!(pte(&bed, child, 1), Pte::None);
    assert_eq!(bed.store(thread, 0), Some(Ret::Stored));
    assert_eq!(bed.load(thread, 1), Some(Ret::Loaded(Content::Zero)));
    // Measured: poison is inherited, even where there is no other page.
    assert_eq!(bed.load(thread, 2), Some(Ret::Signal(Signal::BusPoison)));
    assert_eq!(bed.load(thread, 3), Some(Ret::Loaded(Content::Zero)));
    // The parent keeps its protection.
    assert_eq!(bed.pte(1), Pte::Marker(Marker::WriteProtect));
    let parent = bed.thread();
    assert_eq!(bed.store(parent, 0), None);
    assert_eq!(bed.read(8).len(), 1);
}

#[test]
fn d26_with_the_event_bits_and_markers_are_copied() {
    let mut bed = bed(3, Features::EVENT_FORK, BOTH);
    bed.copy_mode(0, 1, CopyMode::WP);
    bed.protect(1, 2, WriteProtectMode::WP);
    let poison = Request::Poison { range: span(2, 3), mode: PoisonMode::empty() };
    bed.resolve(poison, Payload::None);
    let (child, thread, uffd) = fork(&mut bed);
    assert_eq!(pte(&bed, child, 1), Pte::Marker(Marker::WriteProtect));
    assert_eq!(bed.load(thread, 2), Some(Ret::Signal(Signal::BusPoison)));
    assert_eq!(bed.store(thread, 0), None);
    let mut theirs = child_bed(&bed, child, uffd.unwrap());
    let events = theirs.read(8);
    let wanted = FaultFlags::WRITE | FaultFlags::WP;
    assert!(matches!(events[..], [Event::Fault(fault)] if fault.flags == wanted), "{events:?}");
    assert_eq!(theirs.protect(0, 1, WriteProtectMode::empty()), Outcome::OK);
    assert_eq!(theirs.on(thread), Some(Ret::Stored));
    // The write went to a copy: the parent's page is as it was.
    assert!(matches!(
        pte(&theirs, bed.mm, 0),
        Pte::Present { content, bits } if content == source(0) && bits.contains(PteBits::UFFD_WP)
    ));
}

#[test]
fn d26_what_a_scan_has_put_on_poison_and_guards_stays_with_the_parent() {
    for features in [Features::WP_ASYNC, Features::WP_ASYNC | Features::EVENT_FORK] {
        let mut bed = bed(2, features, BOTH);
        let poison = Request::Poison { range: span(0, 1), mode: PoisonMode::empty() };
        bed.resolve(poison, Payload::None);
        let guard = Call::Madvise { range: span(1, 2), advice: Madvise::GuardInstall };
        assert_eq!(bed.kernel.run(bed.handler, guard), Ret::Ok(0));
        let scan = PagemapScan {
            flags: ScanFlags::WP_MATCHING,
            range: span(0, 2),
            room: 2,
            max_pages: 0,
            inverted: PageIs::empty(),
            all: PageIs::empty(),
            any: PageIs::empty(),
            tell: PageIs::all(),
        };
        let scanned = bed.kernel.run(bed.handler, Call::PagemapScan(Box::new(scan)));
        assert!(matches!(scanned, Ret::Ok(_)), "{scanned:?}");
        let (child, ..) = fork(&mut bed);
        let seen = |mm| [0, 1].map(|at| bed.kernel.pagemap(mm, page(at)));
        let poisoned = PagemapBits::SWAP;
        let guarded = PagemapBits::SWAP | PagemapBits::GUARD;
        assert_eq!(seen(bed.mm), [poisoned, guarded].map(|bits| bits | PagemapBits::UFFD_WP));
        assert_eq!(seen(child), [poisoned, guarded], "{features:?}");
    }
}

#[test]
fn a_page_is_shared_until_it_is_written_on_either_side() {
    let mut bed = bed(2, Features::empty(), RegisterModes::MISSING);
    bed.copy(0, 2);
    let (child, thread, _) = fork(&mut bed);
    let parent = bed.thread();
    assert_eq!(bed.store(parent, 0), Some(Ret::Stored));
    assert_eq!(bed.load(thread, 0), Some(Ret::Loaded(source(0))));
    assert_eq!(bed.store(thread, 1), Some(Ret::Stored));
    assert_eq!(bed.load(parent, 1), Some(Ret::Loaded(source(1))));
    assert_ne!(pte(&bed, child, 1), bed.pte(1));
}

/// Rules: b9, f4
#[test]
fn a_page_that_the_other_side_has_let_go_of_is_written_in_place() {
    // Measured: found by random programs, and kept in `tests/found`.
    for let_go in [true, false] {
        let mut bed = bed(1, Features::empty(), RegisterModes::WP);
        bed.copy(0, 1);
        let (_, thread, _) = fork(&mut bed);
        bed.protect(0, 1, WriteProtectMode::WP);
        assert_ne!(bed.register(0, 1, RegisterModes::MISSING), Ret::Err(Errno::EINVAL));
        if let_go {
            assert_eq!(bed.store(thread, 0), Some(Ret::Stored));
        }
        let parent = bed.thread();
        assert_eq!(bed.store(parent, 0), Some(Ret::Stored));
        let Pte::Present { bits, .. } = bed.pte(0) else { panic!("it is there") };
        assert_eq!(bits.contains(PteBits::UFFD_WP), let_go, "a copy has nothing left on it");
        assert!(!bits.contains(PteBits::FORKED));
    }
}

#[test]
fn e21_a_page_shared_by_a_fork_cannot_be_moved_until_it_is_written() {
    // Measured: EBUSY after the child has exited, too, until the parent writes.
    let mut bed = bed(4, Features::empty(), RegisterModes::MISSING);
    bed.copy(2, 4);
    let zero = Request::Zeropage { range: span(1, 2), mode: ZeropageMode::empty() };
    bed.resolve(zero, Payload::None);
    fork(&mut bed);
    let move_ = |src| Request::Move { dst: span(0, 1), src: page(src), mode: MoveMode::empty() };
    let busy = Outcome::mirrored(Errno::EBUSY);
    assert_eq!(bed.resolve(move_(2), Payload::None), busy);
    let parent = bed.thread();
    assert_eq!(bed.store(parent, 2), Some(Ret::Stored));
    assert_eq!(bed.resolve(move_(2), Payload::None), Outcome::done(4096));
    let ret = bed.go(parent, Call::DontNeed { range: span(0, 1) });
    assert_eq!(ret, Some(Ret::Ok(0)));
    assert_eq!(bed.resolve(move_(3), Payload::None), busy);
    // The zero page belongs to everybody anyway.
    assert_eq!(bed.resolve(move_(1), Payload::None), Outcome::done(4096));
}

#[test]
fn d26_zero_pages_of_memory_without_private_pages_are_not_copied() {
    // Measured: a child of memory that was only read asks for the page it shares with
    // nobody; one whose memory is watched for WP, or has a page of its own, does not.
    for (modes, installed, asks) in [
        (RegisterModes::MISSING, false, true),
        (BOTH, false, false),
        (RegisterModes::MISSING, true, false),
    ] {
        let mut bed = bed(2, Features::EVENT_FORK, modes);
        let (parent, mm) = (bed.thread(), bed.mm);
        bed.go(parent, Call::Munmap { range: span(0, 2) });
        bed.go(parent, Call::Mmap(Mmap::fixed(page(0).raw(), 2 * 4096, Prot::RW)));
        assert_eq!(bed.load(parent, 0), Some(Ret::Loaded(Content::Zero)));
        bed.register(0, 2, modes);
        if installed {
            bed.copy(1, 2);
        }
        let (_, thread, _) = fork(&mut bed);
        assert_eq!(bed.load(thread, 0).is_none(), asks, "{modes:?}, {installed}");
        assert!(bed.kernel.table(mm).present() > 0);
    }
}

#[test]
fn d25_contexts_are_told_one_after_another_in_address_order() {
    let mut bed = bed(4, Features::EVENT_FORK, RegisterModes::MISSING);
    let (mm, handler, first) = (bed.mm, bed.handler, bed.ctx);
    let other = bed.kernel.userfaultfd(mm, Features::EVENT_FORK).unwrap();
    let quiet = bed.kernel.userfaultfd(mm, Features::empty()).unwrap();
    for (ctx, start) in [(other, 0), (quiet, 1)] {
        bed.kernel.run(handler, Call::Unregister { ctx: first, range: span(start, start + 1) });
        let modes = RegisterModes::MISSING;
        let call = Call::Register { ctx, range: span(start, start + 1), modes };
        assert_eq!(bed.kernel.run(handler, call), Ret::Ok(0x13c));
    }
    let parent = bed.thread();
    assert_eq!(bed.go(parent, Call::Fork), None);
    let counts = [other, first, quiet].map(|ctx| bed.kernel.ctx(ctx).changing());
    assert_eq!(counts, [1, 1, 0], "raised for all before the first is read");
    assert!(!bed.kernel.ctx(first).readable());
    bed.ctx = other;
    assert_eq!(bed.read(8).len(), 1);
    assert_eq!(bed.on(parent), None);
    bed.ctx = first;
    assert_eq!(bed.read(8).len(), 1);
    let Some(Ret::Forked(child)) = bed.on(parent) else { panic!("the fork is over") };
    let watched: Vec<_> = bed.kernel.space(child).iter().map(|vma| vma.uffd().is_some()).collect();
    assert_eq!(watched, [true, false, true]);
}

#[test]
fn d28_the_child_has_the_features_of_its_parent_and_forks_in_turn() {
    let mut bed = bed(1, Features::EVENT_FORK | Features::THREAD_ID, RegisterModes::MISSING);
    let (child, _, uffd) = fork(&mut bed);
    let mut theirs = child_bed(&bed, child, uffd.unwrap());
    let (_, _, grandchild) = fork(&mut theirs);
    assert!(grandchild.is_some() && grandchild != uffd);
    assert_eq!(theirs.kernel.child_userfaultfd(99), None);
}

#[test]
fn d30_a_released_context_calls_the_message_off_and_the_child_is_plain() {
    let mut bed = bed(1, Features::EVENT_FORK, RegisterModes::MISSING);
    let parent = bed.thread();
    assert_eq!(bed.go(parent, Call::Fork), None);
    let (ctx, handler) = (bed.ctx, bed.handler);
    assert_eq!(bed.kernel.run(handler, Call::Close { ctx }), Ret::Ok(0));
    let Some(Ret::Forked(child)) = bed.on(parent) else { panic!("the fork goes on") };
    let thread = bed.kernel.new_thread(child);
    assert_eq!(bed.load(thread, 0), Some(Ret::Loaded(Content::Zero)));
    assert!(bed.kernel.space(child).iter().all(|vma| vma.uffd().is_none()));
}

#[test]
fn c1_a_write_that_waits_for_a_missing_page_has_its_mapping_copied_and_behind_protection_not() {
    // What fork copies tells whether a write has prepared for a page of its own: page 0 is the
    // zero page, which comes again by itself.
    for (modes, written, copied) in [(RegisterModes::WP, 0, false), (BOTH, 1, true)] {
        let mut bed = bed(2, Features::empty(), RegisterModes::WP);
        let guest = bed.thread();
        assert_eq!(bed.load(guest, 0), Some(Ret::Loaded(Content::Zero)));
        bed.register(0, 2, modes);
        bed.protect(0, 1, WriteProtectMode::WP);
        let store = Call::Store { addr: page(written), content: source(9) };
        assert_eq!(bed.go(guest, store), None, "it waits");
        let (child, ..) = fork(&mut bed);
        assert_eq!(pte(&bed, child, 0).is_present(), copied, "{modes:?}");
    }
}
