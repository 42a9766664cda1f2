//! Transparent huge pages. Each test names the rule it holds the kernel to; the outcomes are
//! what 6.18 showed to a program that looked for the category `HUGE` after each step.

use shims::{
    CopyMode, Errno, Event, FaultFlags, Features, MoveMode, Outcome, PoisonMode, RegisterModes,
    Request, WriteProtectMode, ZeropageMode,
};
use sim::kernel::{
    Call, Did, HugeDid, Madvise, PageIs, PagemapBits, PagemapScan, Payload, Pte, PteBits, Ret,
    ScanFlags, Thp, ThreadId,
};
use sim::vma::{Advice, Mmap, Mremap, Prot, RemapFlags};
use sim::{Content, Profile};

use crate::support::{Bed, page, source, span};

/// What a step of preparation answers does not matter.
fn done<T>(_: T) {}

/// The pages of a huge page.
const H: u64 = 512;
const PROTECT: WriteProtectMode = WriteProtectMode::WP;
const ALLOW: WriteProtectMode = WriteProtectMode::empty();

/// Four blocks of unwatched memory, from page 0 on, with a thread of their process.
fn memory(features: Features) -> (Bed, ThreadId) {
    let mut bed = Bed::with(1, Profile::default(), features);
    assert!((page(0).raw() >> 12).is_multiple_of(H), "page 0 begins a block");
    let thread = bed.thread();
    map(&mut bed, 0, 4 * H);
    (bed, thread)
}

fn map(bed: &mut Bed, start: u64, end: u64) {
    let range = span(start, end);
    let map = Mmap::fixed(range.start.raw(), range.len.bytes(), Prot::RW);
    assert!(matches!(bed.kernel.run(bed.handler, Call::Mmap(map)), Ret::Ok(_)));
}

fn advise(bed: &mut Bed, thread: ThreadId, start: u64, end: u64, advice: Madvise) -> Ret {
    bed.go(thread, Call::Madvise { range: span(start, end), advice }).expect("it does not wait")
}

/// The same with `MADV_HUGEPAGE`, and a huge page at `at` with a store in its first page.
fn huge_at(bed: &mut Bed, thread: ThreadId, at: u64) {
    advise(bed, thread, at, at + H, Madvise::Flags(Advice::HugePage));
    assert_eq!(bed.store(thread, at), Some(Ret::Stored));
    assert!(huge(bed, at));
}

fn huge(bed: &Bed, n: u64) -> bool {
    bed.kernel.is_huge(bed.mm, page(n))
}

fn wp(bed: &Bed, n: u64) -> bool {
    bed.kernel.pagemap(bed.mm, page(n)).contains(PagemapBits::UFFD_WP)
}

fn move_pages(bed: &mut Bed, dst: u64, src: u64, pages: u64, mode: MoveMode) -> Outcome {
    let request = Request::Move { dst: span(dst, dst + pages), src: page(src), mode };
    bed.resolve(request, Payload::None)
}

#[test]
fn c14_a_fault_brings_a_huge_page_where_the_advice_and_the_mapping_allow_it() {
    let (mut bed, thread) = memory(Features::empty());
    assert_eq!(bed.store(thread, 5), Some(Ret::Stored));
    assert!(!huge(&bed, 5), "nobody asked for them");
    advise(&mut bed, thread, 0, 4 * H, Madvise::Flags(Advice::HugePage));
    bed.store(thread, 6);
    assert!(!huge(&bed, 6), "the block has a page already");
    bed.store(thread, H + 5);
    assert!(huge(&bed, H) && huge(&bed, 2 * H - 1) && !huge(&bed, 2 * H));
    assert_eq!(bed.kernel.table(bed.mm).present() as u64, 2 + H);
    assert_eq!(bed.load(thread, 2 * H - 1), Some(Ret::Loaded(Content::Zero)));
    // A mapping that is a page too short.
    map(&mut bed, 2 * H, 3 * H);
    let hugepage = Madvise::Flags(Advice::HugePage);
    advise(&mut bed, thread, 2 * H, 3 * H - 1, hugepage);
    bed.store(thread, 2 * H);
    assert!(!huge(&bed, 2 * H));
    // A removed block is as good as new.
    map(&mut bed, 3 * H, 4 * H);
    advise(&mut bed, thread, 3 * H, 4 * H, hugepage);
    bed.store(thread, 3 * H);
    advise(&mut bed, thread, 3 * H, 4 * H, Madvise::DontNeed);
    assert_eq!(bed.pte(3 * H), Pte::None);
    bed.store(thread, 3 * H + 9);
    assert!(huge(&bed, 3 * H));
    // Populating brings one as well.
    advise(&mut bed, thread, H, 2 * H, Madvise::DontNeed);
    bed.go(thread, Call::Populate { range: span(H + 5, H + 6), write: true });
    assert!(huge(&bed, H));
}

#[test]
fn c14_the_policy_of_the_system() {
    for (thp, plain, advised, forbidden) in [
        (Thp::Never, false, false, false),
        (Thp::Madvise, false, true, false),
        (Thp::Always, true, true, false),
    ] {
        let (mut bed, thread) = memory(Features::empty());
        bed.kernel.set_thp(thp);
        advise(&mut bed, thread, H, 2 * H, Madvise::Flags(Advice::HugePage));
        advise(&mut bed, thread, 2 * H, 3 * H, Madvise::Flags(Advice::NoHugePage));
        for n in [0, H, 2 * H] {
            bed.store(thread, n);
        }
        let seen = (huge(&bed, 0), huge(&bed, H), huge(&bed, 2 * H));
        assert_eq!(seen, (plain, advised, forbidden), "{thp:?}");
    }
}

#[test]
fn c14_a_read_brings_the_huge_zero_page_and_a_write_replaces_it_whole() {
    let (mut bed, thread) = memory(Features::empty());
    advise(&mut bed, thread, 0, H, Madvise::Flags(Advice::HugePage));
    assert_eq!(bed.load(thread, 3), Some(Ret::Loaded(Content::Zero)));
    let zero = Pte::Present { content: Content::Zero, bits: PteBits::ZERO_PAGE };
    assert!(huge(&bed, 0) && bed.pte(H - 1) == zero);
    bed.store(thread, 1);
    assert!(huge(&bed, 0));
    let own = Pte::Present { content: Content::Zero, bits: PteBits::empty() };
    assert_eq!(bed.pte(H - 1), own);
}

#[test]
fn c14_memory_watched_for_missing_gets_small_pages() {
    let (mut bed, thread) = memory(Features::empty());
    advise(&mut bed, thread, 0, H, Madvise::Flags(Advice::HugePage));
    bed.register(0, H, RegisterModes::MISSING);
    assert_eq!(bed.store(thread, 3), None);
    let events = bed.read(8);
    let [Event::Fault(fault)] = events[..] else { panic!("{events:?}") };
    assert_eq!(fault.addr, page(3), "the address is that of the small page");
    assert_eq!(bed.copy(0, 8), Outcome::done(8 * 4096));
    assert!(!huge(&bed, 0));
    // Watched for writes alone it may.
    bed.register(H, 2 * H, RegisterModes::WP);
    let other = bed.thread();
    huge_at(&mut bed, other, H);
}

#[test]
fn e10_a_huge_page_is_there_for_every_ioctl() {
    let (mut bed, thread) = memory(Features::empty());
    huge_at(&mut bed, thread, 0);
    bed.register(0, H, RegisterModes::MISSING);
    assert!(huge(&bed, 0), "registering the whole leaves it");
    let there = Outcome::mirrored(Errno::EEXIST);
    assert_eq!(bed.copy(7, 8), there);
    let zero = Request::Zeropage { range: span(7, 8), mode: ZeropageMode::empty() };
    assert_eq!(bed.resolve(zero, Payload::None), there);
    let poison = Request::Poison { range: span(7, 8), mode: PoisonMode::empty() };
    assert_eq!(bed.resolve(poison, Payload::None), there);
    // Unlike a small page it is noticed before the source is read.
    let request = Request::Copy { dst: span(7, 8), mode: CopyMode::empty() };
    let (ctx, hole) = (bed.ctx, page(64 * H));
    let call = Call::Resolve { ctx, request, payload: Payload::From(hole) };
    assert_eq!(bed.go(thread, call), Some(Ret::Outcome(there)));
    assert!(huge(&bed, 0));
}

#[test]
fn c14_protection_of_a_part_splits_and_of_the_whole_does_not() {
    let (mut bed, thread) = memory(Features::empty());
    huge_at(&mut bed, thread, 0);
    bed.register(0, H, RegisterModes::WP);
    let (ctx, handler) = (bed.ctx, bed.handler);
    let request = Request::WriteProtect { range: span(0, H), mode: PROTECT };
    bed.kernel.begin(handler, Call::Resolve { ctx, request, payload: Payload::None });
    bed.step(handler);
    assert_eq!(bed.step(handler), Did::Huge { page: page(0), what: HugeDid::Protect });
    assert_eq!(bed.on(handler), Some(Ret::Outcome(Outcome::OK)));
    assert!(huge(&bed, 0) && wp(&bed, 0) && wp(&bed, H - 1));
    // A write traps, with the address of its small page, and the page stays as it is.
    assert_eq!(bed.store(thread, 7), None);
    let events = bed.read(8);
    let [Event::Fault(fault)] = events[..] else { panic!("{events:?}") };
    assert_eq!((fault.addr, fault.flags), (page(7), FaultFlags::WRITE | FaultFlags::WP));
    assert!(huge(&bed, 0));
    // f1: allowing one page takes the block apart.
    bed.protect(7, 8, ALLOW);
    assert_eq!(bed.on(thread), Some(Ret::Stored));
    assert!(!huge(&bed, 0) && !wp(&bed, 7) && wp(&bed, 8) && wp(&bed, 0));
    // The whole again: it stays small pages.
    bed.protect(0, H, ALLOW);
    assert!(!huge(&bed, 0) && !wp(&bed, 8));
    let (mut bed, thread) = memory(Features::empty());
    huge_at(&mut bed, thread, 0);
    bed.register(0, H, RegisterModes::WP);
    bed.protect(0, H, PROTECT);
    bed.protect(0, H, ALLOW);
    assert!(huge(&bed, 0) && !wp(&bed, 5), "both ways");
    bed.protect(5, 6, ALLOW);
    assert!(!huge(&bed, 0), "there was nothing to change, and it came apart");
    // b13: unregistering clears the bits and leaves it whole.
    huge_at(&mut bed, thread, H);
    bed.register(H, 2 * H, RegisterModes::WP);
    bed.protect(H, 2 * H, PROTECT);
    let unregister = Call::Unregister { ctx: bed.ctx, range: span(H, 2 * H) };
    assert_eq!(bed.go(thread, unregister), Some(Ret::Ok(0)));
    assert!(huge(&bed, H) && !wp(&bed, H));
}

#[test]
fn f5_a_write_under_wp_async_splits() {
    let (mut bed, thread) = memory(Features::WP_ASYNC);
    bed.register(0, H, RegisterModes::WP);
    huge_at(&mut bed, thread, 0);
    let scan = |bed: &mut Bed, flags: ScanFlags, max_pages: u64, end: u64| {
        let ask = PagemapScan {
            flags,
            range: span(0, end),
            room: 8,
            max_pages,
            inverted: PageIs::empty(),
            all: PageIs::WRITTEN,
            any: PageIs::empty(),
            tell: PageIs::all(),
        };
        bed.kernel.run(bed.handler, Call::PagemapScan(Box::new(ask)));
        let found = bed.kernel.take_scan(bed.handler).unwrap();
        let number = |addr: shims::Addr| (addr.raw() - page(0).raw()) >> 12;
        let region = |region: &sim::kernel::Region| {
            (number(region.span.start), number(region.span.end().unwrap()), region.is.bits())
        };
        found.regions.iter().map(region).collect::<Vec<_>>()
    };
    assert_eq!(scan(&mut bed, ScanFlags::WP_MATCHING, 0, H), [(0, H, 0x4b)]);
    assert!(huge(&bed, 0) && wp(&bed, H - 1));
    assert_eq!(bed.store(thread, 9), Some(Ret::Stored));
    assert!(!huge(&bed, 0) && !wp(&bed, 9) && wp(&bed, 8));
    assert_eq!(scan(&mut bed, ScanFlags::empty(), 0, H), [(9, 10, 0xb)]);
    // A scan of a part, or one that stops short, splits too.
    for (max_pages, end, told) in [(0, 4, 4), (100, H, 100)] {
        map(&mut bed, 0, H);
        bed.register(0, H, RegisterModes::WP);
        huge_at(&mut bed, thread, 0);
        assert_eq!(scan(&mut bed, ScanFlags::WP_MATCHING, max_pages, end), [(0, told, 0x4b)]);
        assert!(!huge(&bed, 0) && wp(&bed, told - 1) && !wp(&bed, told));
    }
    // Markers in an empty block leave no room for a huge page.
    map(&mut bed, 0, H);
    advise(&mut bed, thread, 0, H, Madvise::Flags(Advice::HugePage));
    bed.register(0, H, RegisterModes::WP);
    bed.protect(0, H, PROTECT);
    bed.store(thread, 1);
    assert!(!huge(&bed, 0));
    assert_eq!(bed.pte(2), Pte::Marker(sim::kernel::Marker::WriteProtect));
}

#[test]
fn e21_move_takes_a_huge_page_whole_or_splits_it() {
    let none = MoveMode::empty();
    // (destination, source, pages): is the destination huge, and the source?
    for (dst, src, pages, dst_huge, src_huge) in [
        (0, 2 * H, H, true, false),
        (0, 2 * H, 2 * H, true, false),
        (0, 2 * H, H / 2, false, false),
        (1, 2 * H, H, false, false),
        (0, 2 * H + 1, H, false, false),
    ] {
        let (mut bed, thread) = memory(Features::empty());
        huge_at(&mut bed, thread, 2 * H);
        huge_at(&mut bed, thread, 3 * H);
        let range = span(2 * H, 4 * H);
        bed.register(0, 2 * H, RegisterModes::MISSING);
        let whole = Call::Madvise { range, advice: Madvise::Flags(Advice::HugePage) };
        bed.go(thread, whole);
        let moved = move_pages(&mut bed, dst, src, pages, none);
        assert_eq!(moved, Outcome::done(pages * 4096), "{dst} {src} {pages}");
        let seen = (huge(&bed, 0), huge(&bed, 2 * H));
        assert_eq!(seen, (dst_huge, src_huge), "{dst} {src} {pages}");
        assert!(bed.pte(dst + pages - 1).is_present() && bed.pte(src) == Pte::None);
        assert_eq!(bed.pte(src + pages).is_present(), src + pages < 4 * H);
        assert_eq!(huge(&bed, 3 * H), pages == H / 2 || src == 2 * H && pages == H);
    }
    // One step for the whole, and what is in the way is noticed.
    let (mut bed, thread) = memory(Features::empty());
    huge_at(&mut bed, thread, 2 * H);
    bed.register(0, H, RegisterModes::MISSING);
    bed.copy(9, 10);
    assert_eq!(move_pages(&mut bed, 0, 2 * H, H, none), Outcome::partial(9 * 4096));
    assert!(!huge(&bed, 2 * H), "split, then page by page up to the one that is there");
    // A huge destination.
    let (mut bed, thread) = memory(Features::empty());
    huge_at(&mut bed, thread, 0);
    huge_at(&mut bed, thread, 2 * H);
    bed.register(0, H, RegisterModes::MISSING);
    let there = Outcome::mirrored(Errno::EEXIST);
    assert_eq!(move_pages(&mut bed, 0, 2 * H, H, none), there);
    assert!(huge(&bed, 0) && huge(&bed, 2 * H));
}

#[test]
fn e21_what_a_fork_has_shared_and_the_huge_zero_page() {
    let none = MoveMode::empty();
    let (mut bed, thread) = memory(Features::empty());
    huge_at(&mut bed, thread, 2 * H);
    bed.register(0, H, RegisterModes::MISSING);
    bed.go(thread, Call::Fork);
    let busy = Outcome::mirrored(Errno::EBUSY);
    assert_eq!(move_pages(&mut bed, 0, 2 * H, H, none), busy);
    assert!(huge(&bed, 2 * H), "not even split");
    let (mut bed, thread) = memory(Features::empty());
    advise(&mut bed, thread, 2 * H, 3 * H, Madvise::Flags(Advice::HugePage));
    bed.load(thread, 2 * H);
    bed.register(0, H, RegisterModes::MISSING);
    assert_eq!(move_pages(&mut bed, 0, 2 * H, H, none), Outcome::done(H * 4096));
    assert!(huge(&bed, 0) && !huge(&bed, 2 * H));
    let zero = Pte::Present { content: Content::Zero, bits: PteBits::ZERO_PAGE };
    assert_eq!((bed.pte(5), bed.pte(2 * H)), (zero, Pte::None));
    // e22: protection does not come along.
    let (mut bed, thread) = memory(Features::empty());
    huge_at(&mut bed, thread, 2 * H);
    bed.register(2 * H, 3 * H, RegisterModes::WP);
    bed.protect(2 * H, 3 * H, PROTECT);
    bed.register(0, H, RegisterModes::MISSING);
    assert_eq!(move_pages(&mut bed, 0, 2 * H, H, none), Outcome::done(H * 4096));
    assert!(huge(&bed, 0) && !wp(&bed, 0));
}

#[test]
fn e21_a_huge_page_moves_in_one_step_and_wakes_all_its_faulters() {
    let (mut bed, thread) = memory(Features::empty());
    huge_at(&mut bed, thread, 2 * H);
    bed.register(0, H, RegisterModes::MISSING);
    let guest = bed.thread();
    bed.load(guest, H - 1);
    let (ctx, handler) = (bed.ctx, bed.handler);
    let request = Request::Move { dst: span(0, H), src: page(2 * H), mode: MoveMode::empty() };
    bed.kernel.begin(handler, Call::Resolve { ctx, request, payload: Payload::None });
    bed.step(handler);
    assert_eq!(bed.step(handler), Did::FindEmpty { page: page(0) });
    let what = HugeDid::Move { from: page(2 * H) };
    assert_eq!(bed.step(handler), Did::Huge { page: page(0), what });
    assert_eq!(bed.on(handler), Some(Ret::Outcome(Outcome::done(H * 4096))));
    assert_eq!(bed.on(guest), Some(Ret::Loaded(Content::Zero)));
}

/// Rules: f6, V68
#[test]
fn f6_collapse_judges_a_block_by_its_pages_and_by_who_watches() {
    #[derive(Clone, Copy, PartialEq, Debug)]
    enum State {
        Empty,
        One,
        Full,
        WithZero,
        WithPoison,
        WithGuard,
        WithWp,
        WithMarker,
        Zeros,
        Forked,
        Freed,
    }
    use State::*;
    let all = [
        Empty, One, Full, WithZero, WithPoison, WithGuard, WithWp, WithMarker, Zeros, Forked, Freed,
    ];
    const OK: Result<(), Errno> = Ok(());
    const INVALID: Result<(), Errno> = Err(Errno::EINVAL);
    const BUSY: Result<(), Errno> = Err(Errno::EBUSY);
    for state in all {
        for (modes, expected) in [
            (
                None,
                match state {
                    Empty | WithPoison | WithGuard => INVALID,
                    _ => OK,
                },
            ),
            (
                Some(RegisterModes::MISSING),
                match state {
                    Empty | WithPoison | WithGuard => INVALID,
                    One | WithZero | Zeros | WithMarker => BUSY,
                    _ => OK,
                },
            ),
            (
                Some(RegisterModes::WP),
                match state {
                    Empty | WithPoison | WithGuard | WithWp | WithMarker => INVALID,
                    One | WithZero | Zeros => BUSY,
                    _ => OK,
                },
            ),
        ] {
            let (mut bed, thread) = memory(Features::WP_UNPOPULATED);
            let last = H - 1;
            let stores = match state {
                Empty | Zeros => 0,
                One => 1,
                Full | WithWp | Forked | Freed => H,
                _ => last,
            };
            for n in 0..stores {
                bed.store(thread, n);
            }
            match state {
                WithZero => done(bed.load(thread, last)),
                Zeros => (0..H).for_each(|n| done(bed.load(thread, n))),
                WithPoison => {
                    bed.register(0, H, RegisterModes::MISSING);
                    let range = span(last, H);
                    let poison = Request::Poison { range, mode: PoisonMode::empty() };
                    bed.resolve(poison, Payload::None);
                    let unregister = Call::Unregister { ctx: bed.ctx, range: span(0, H) };
                    bed.go(thread, unregister);
                }
                WithGuard => done(advise(&mut bed, thread, last, H, Madvise::GuardInstall)),
                Forked => done(bed.go(thread, Call::Fork)),
                Freed => done(advise(&mut bed, thread, 0, H, Madvise::Free)),
                _ => {}
            }
            if let Some(modes) = modes {
                bed.register(0, H, modes);
            }
            if modes == Some(RegisterModes::WP) && matches!(state, WithWp | WithMarker) {
                bed.protect(last, H, PROTECT);
            }
            let ret = advise(&mut bed, thread, 0, H, Madvise::Collapse);
            let got = match ret {
                Ret::Ok(0) => Ok(()),
                Ret::Err(errno) => Err(errno),
                ret => panic!("{ret:?}"),
            };
            assert_eq!(got, expected, "{state:?}, registered {modes:?}");
            assert_eq!(huge(&bed, 0), got.is_ok(), "{state:?}, registered {modes:?}");
            if got.is_ok() {
                let bits = PteBits::empty();
                let stays =
                    matches!(bed.pte(last), Pte::Present { bits: seen, .. } if seen == bits);
                assert!(stays, "{state:?}: {:?}", bed.pte(last));
            }
        }
    }
}

#[test]
fn f6_collapse_takes_the_blocks_that_lie_whole_in_range_and_mapping() {
    let stop = Ret::Err(Errno::EINVAL);
    let over = Ret::Ok(0);
    let hole = Ret::Err(Errno::ENOMEM);
    let (a, b, c) = (true, true, true);
    type Prepare = fn(&mut Bed, ThreadId);
    let nothing: Prepare = |_, _| {};
    type Row = (&'static str, Prepare, u64, u64, Ret, [bool; 3]);
    let cases: [Row; 11] = [
        ("inside", nothing, 1, H + 5, over, [false, false, false]),
        ("across", nothing, 5, 2 * H + 5, over, [false, b, false]),
        ("from the start", nothing, 0, 2 * H + 5, over, [a, b, false]),
        (
            "middle empty",
            |bed, t| done(advise(bed, t, H, 2 * H, Madvise::DontNeed)),
            0,
            3 * H,
            stop,
            [a, false, false],
        ),
        (
            "middle watched, with a hole",
            |bed, t| {
                bed.register(H, 2 * H, RegisterModes::MISSING);
                advise(bed, t, H, H + 1, Madvise::DontNeed);
            },
            0,
            3 * H,
            Ret::Err(Errno::EBUSY),
            [a, false, false],
        ),
        (
            "middle forbidden",
            |bed, t| done(advise(bed, t, H, 2 * H, Madvise::Flags(Advice::NoHugePage))),
            0,
            3 * H,
            stop,
            [a, false, false],
        ),
        (
            "middle unmapped",
            |bed, t| done(bed.go(t, Call::Munmap { range: span(H, 2 * H) })),
            0,
            3 * H,
            hole,
            [a, false, c],
        ),
        (
            "middle begins with a hole",
            |bed, t| done(bed.go(t, Call::Munmap { range: span(H, H + 1) })),
            0,
            3 * H,
            hole,
            [a, false, c],
        ),
        (
            "a mapping without a block",
            |bed, t| {
                bed.go(t, Call::Mprotect { range: span(H + 5, H + 6), prot: Prot::READ });
            },
            0,
            3 * H,
            stop,
            [a, false, false],
        ),
        (
            "no access",
            |bed, t| done(bed.go(t, Call::Mprotect { range: span(0, H), prot: Prot::NONE })),
            0,
            3 * H,
            over,
            [a, b, c],
        ),
        (
            "a first block that is huge",
            |bed, t| done(advise(bed, t, 0, H, Madvise::Collapse)),
            0,
            3 * H,
            over,
            [a, b, c],
        ),
    ];
    for (name, prepare, start, end, ret, expected) in cases {
        let (mut bed, thread) = memory(Features::empty());
        bed.go(thread, Call::Munmap { range: span(3 * H, 4 * H) });
        bed.go(thread, Call::Populate { range: span(0, 3 * H), write: true });
        prepare(&mut bed, thread);
        assert_eq!(advise(&mut bed, thread, start, end, Madvise::Collapse), ret, "{name}");
        let seen = [huge(&bed, 0), huge(&bed, H), huge(&bed, 2 * H)];
        assert_eq!(seen, expected, "{name}");
    }
}

#[test]
fn f6_after_a_collapse_the_ioctls_meet_a_huge_page() {
    let (mut bed, thread) = memory(Features::empty());
    bed.register(0, H, RegisterModes::MISSING);
    assert_eq!(bed.copy(0, H), Outcome::done(H * 4096));
    assert_eq!(advise(&mut bed, thread, 0, H, Madvise::Collapse), Ret::Ok(0));
    assert_eq!(bed.copy(1, 2), Outcome::mirrored(Errno::EEXIST));
    assert_eq!(bed.load(thread, 5), Some(Ret::Loaded(source(5))), "the contents are kept");
    // A page that is removed from it is asked for again.
    advise(&mut bed, thread, 5, 6, Madvise::DontNeed);
    assert!(!huge(&bed, 0));
    assert_eq!(bed.load(thread, 5), None);
}

#[test]
fn d8_a_removal_takes_a_huge_page_in_one_step_or_splits_it() {
    let (mut bed, thread) = memory(Features::EVENT_REMOVE);
    huge_at(&mut bed, thread, 0);
    huge_at(&mut bed, thread, H);
    bed.kernel.begin(thread, Call::DontNeed { range: span(0, H + 1) });
    assert_eq!(bed.step(thread), Did::Huge { page: page(0), what: HugeDid::Zap });
    assert!(matches!(bed.step(thread), Did::Zap { .. }));
    assert_eq!(bed.on(thread), Some(Ret::Ok(0)));
    assert!(!huge(&bed, 0) && !huge(&bed, H) && bed.pte(H - 1) == Pte::None);
    assert!(bed.pte(H) == Pte::None && bed.pte(H + 1).is_present());
}

/// What takes a huge page apart, and what does not. Measured, each on a page of its own.
#[test]
fn c14_what_splits() {
    type Act = fn(&mut Bed, ThreadId);
    let cases: [(&str, Act, bool); 16] = [
        ("mprotect of a part", |b, t| done(protect(b, t, 1, 2)), false),
        ("mprotect of the whole", |b, t| done(protect(b, t, 0, H)), true),
        ("munmap of a part", |b, t| done(b.go(t, Call::Munmap { range: span(1, 2) })), false),
        ("a guard", |b, t| done(advise(b, t, 1, 2, Madvise::GuardInstall)), false),
        ("FREE of a part", |b, t| done(advise(b, t, 1, 2, Madvise::Free)), false),
        ("FREE of the whole", |b, t| done(advise(b, t, 0, H, Madvise::Free)), true),
        ("PAGEOUT of a part", |b, t| done(advise(b, t, 1, 2, Madvise::PageOut)), false),
        ("COLD of a part", |b, t| done(advise(b, t, 1, 2, Madvise::Cold)), false),
        ("NOHUGEPAGE", |b, t| done(advise(b, t, 0, H, Madvise::Flags(Advice::NoHugePage))), true),
        ("REGISTER of the whole", |b, _| done(b.register(0, H, RegisterModes::MISSING)), true),
        ("REGISTER of a part", |b, _| done(b.register(1, 2, RegisterModes::WP)), false),
        ("fork", |b, t| done(b.go(t, Call::Fork)), true),
        (
            "fork and a write",
            |b, t| {
                b.go(t, Call::Fork);
                b.store(t, 5);
            },
            false,
        ),
        ("mlock of a part", |b, t| done(lock(b, t, 1, 2)), false),
        ("a load", |b, t| done(b.load(t, 9)), true),
        ("a store", |b, t| done(b.store(t, 9)), true),
    ];
    for (name, act, stays) in cases {
        let (mut bed, thread) = memory(Features::empty());
        huge_at(&mut bed, thread, 0);
        act(&mut bed, thread);
        assert_eq!(huge(&bed, 0), stays, "{name}");
        assert!(bed.pte(0).is_present() && bed.pte(H - 1).is_present(), "{name}");
    }
}

fn protect(bed: &mut Bed, thread: ThreadId, start: u64, end: u64) -> Option<Ret> {
    bed.go(thread, Call::Mprotect { range: span(start, end), prot: Prot::READ })
}

fn lock(bed: &mut Bed, thread: ThreadId, start: u64, end: u64) -> Option<Ret> {
    bed.go(thread, Call::Mlock { range: span(start, end), on_fault: false })
}

#[test]
fn d11_a_huge_page_that_was_given_up_goes_whole() {
    let (mut bed, thread) = memory(Features::empty());
    huge_at(&mut bed, thread, 0);
    advise(&mut bed, thread, 0, H, Madvise::Free);
    bed.kernel.begin(thread, Call::Madvise { range: span(0, H), advice: Madvise::PageOut });
    assert_eq!(bed.step(thread), Did::Huge { page: page(0), what: HugeDid::Zap });
    assert_eq!(bed.on(thread), Some(Ret::Ok(0)));
    assert!(!huge(&bed, 0) && bed.pte(H - 1) == Pte::None);
}

#[test]
fn d26_a_child_has_it_too_and_a_write_takes_it_apart_there_alone() {
    let (mut bed, thread) = memory(Features::empty());
    huge_at(&mut bed, thread, 0);
    let Some(Ret::Forked(child)) = bed.go(thread, Call::Fork) else { panic!("fork returns") };
    assert!(bed.kernel.is_huge(child, page(0)));
    let in_child = bed.kernel.new_thread(child);
    let store = Call::Store { addr: page(5), content: Content::Bytes(1) };
    assert_eq!(bed.go(in_child, store), Some(Ret::Stored));
    assert!(!bed.kernel.is_huge(child, page(0)) && huge(&bed, 0));
    assert_eq!(bed.load(thread, 5), Some(Ret::Loaded(Content::Zero)));
    assert!(bed.kernel.pagemap(child, page(5)).contains(PagemapBits::EXCLUSIVE));
    assert!(!bed.kernel.pagemap(child, page(6)).contains(PagemapBits::EXCLUSIVE));
}

#[test]
fn d19_mremap_keeps_it_where_both_places_are_aligned() {
    for (new, pages, stays) in [(2 * H, H, true), (2 * H + 1, H / 2, false)] {
        let (mut bed, thread) = memory(Features::empty());
        huge_at(&mut bed, thread, 0);
        let flags = RemapFlags::MAYMOVE | RemapFlags::FIXED;
        let (old_len, new_len) = (pages * 4096, pages * 4096);
        let (old, new_addr) = (page(0).raw(), page(new).raw());
        let call = Mremap { old, old_len, new_len, flags, new: new_addr };
        assert_eq!(bed.go(thread, Call::Mremap(call)), Some(Ret::Ok(new_addr)));
        assert_eq!(huge(&bed, new), stays);
        assert!(!huge(&bed, 0));
        assert!(bed.pte(new).is_present() && bed.pte(new + pages - 1).is_present());
        // What was mapped over is gone, and does not count as huge.
        map(&mut bed, new, new + pages);
        assert!(!huge(&bed, new));
        assert_eq!(bed.load(thread, new), Some(Ret::Loaded(Content::Zero)));
    }
}
