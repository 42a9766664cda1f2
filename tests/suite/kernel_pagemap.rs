//! `pagemap` and `PAGEMAP_SCAN` (rule f5). The tables are what 6.18 printed for a program that
//! brought its pages into the same states; the numbers are the categories as Linux numbers
//! them, so that a table can be compared with the output as it stands.

use shims::{
    Addr, CopyMode, Errno, Features, Len, PoisonMode, RegisterModes, Request, Span,
    WriteProtectMode,
};
use sim::kernel::{Call, Did, PageIs, PagemapBits, PagemapScan, Payload, Ret, ScanFlags, ThreadId};
use sim::vma::{Mmap, Prot};
use sim::{Content, Profile};

use crate::support::{Bed, page, span};

const PROTECT: WriteProtectMode = WriteProtectMode::WP;
const WP_MATCHING: ScanFlags = ScanFlags::WP_MATCHING;
const CHECK: ScanFlags = ScanFlags::CHECK_WPASYNC;
const EXCHANGE: ScanFlags = WP_MATCHING.union(CHECK);

fn bed(pages: u64, features: Features, modes: RegisterModes) -> Bed {
    Bed::registered(pages, Profile::default(), features, modes)
}

fn tracked(pages: u64) -> Bed {
    bed(pages, Features::WP_ASYNC, RegisterModes::WP)
}

/// A scan that matches pages with all of `all` and tells `tell`, with room for 64 regions.
fn scan(range: Span, flags: ScanFlags, all: u64, tell: u64) -> PagemapScan {
    PagemapScan {
        flags,
        range,
        room: 64,
        max_pages: 0,
        inverted: PageIs::empty(),
        all: PageIs::from_bits_retain(all),
        any: PageIs::empty(),
        tell: PageIs::from_bits_retain(tell),
    }
}

/// The regions `(start, end, categories)` in pages of the bed, and the page the walk ended at.
type Found = (Vec<(u64, u64, u64)>, u64);

fn run(bed: &mut Bed, ask: PagemapScan) -> Result<Found, Errno> {
    let thread = bed.handler;
    let ret = bed.kernel.run(thread, Call::PagemapScan(Box::new(ask)));
    take(bed, thread, ret)
}

fn take(bed: &mut Bed, thread: ThreadId, ret: Ret) -> Result<Found, Errno> {
    let number = |addr: Addr| (addr.raw() - page(0).raw()) >> 12;
    match ret {
        Ret::Ok(count) => {
            let found = bed.kernel.take_scan(thread).expect("a scan leaves its output");
            assert_eq!(found.regions.len() as u64, count);
            let region = |region: &sim::kernel::Region| {
                let end = number(region.span.end().unwrap());
                (number(region.span.start), end, region.is.bits())
            };
            Ok((found.regions.iter().map(region).collect(), number(found.walk_end)))
        }
        Ret::Err(errno) => Err(errno),
        ret => panic!("a scan answered {ret:?}"),
    }
}

fn regions(bed: &mut Bed, ask: PagemapScan) -> Vec<(u64, u64, u64)> {
    run(bed, ask).unwrap().0
}

/// Pages 0 to 11 in every state a page can be in: never touched, written, the zero page, a
/// protected page, a protected zero page, a marker, removed, protected and removed, protected
/// and written, a marker that was written, a marker that was read, poison.
fn all_states(features: Features, modes: RegisterModes) -> Bed {
    let mut bed = bed(12, features, modes);
    let thread = bed.thread();
    let sync = !features.contains(Features::WP_ASYNC);
    for n in [1, 3, 6, 7, 8] {
        assert_eq!(bed.store(thread, n), Some(Ret::Stored));
    }
    for n in [2, 4] {
        bed.load(thread, n);
    }
    bed.protect(3, 6, PROTECT);
    bed.protect(7, 11, PROTECT);
    bed.go(thread, Call::DontNeed { range: span(6, 8) });
    if !sync {
        assert_eq!(bed.store(thread, 8), Some(Ret::Stored));
        assert_eq!(bed.store(thread, 9), Some(Ret::Stored));
    }
    bed.load(thread, 10);
    let poison = Request::Poison { range: span(11, 12), mode: PoisonMode::empty() };
    bed.resolve(poison, Payload::None);
    bed
}

const EVERYTHING: u64 = 0x1ff;
const WRITTEN: u64 = 2;
const PRESENT: u64 = 8;

/// Rules: f5, V62
#[test]
fn f5_the_categories_of_every_state_under_wp_async() {
    let mut bed = all_states(Features::WP_ASYNC, RegisterModes::WP);
    let whole = span(0, 12);
    let all = scan(whole, ScanFlags::empty(), 0, EVERYTHING);
    let expected = [
        (0, 1, 0x3),
        (1, 2, 0xb),
        (2, 3, 0x2b),
        (3, 4, 0x9),
        (4, 5, 0x29),
        (5, 6, 0x11),
        (6, 8, 0x3),
        (8, 10, 0xb),
        (10, 11, 0x29),
        (11, 12, 0x13),
    ];
    assert_eq!(run(&mut bed, all), Ok((expected.to_vec(), 12)));
    let written = scan(whole, ScanFlags::empty(), WRITTEN, WRITTEN);
    assert_eq!(regions(&mut bed, written.clone()), [(0, 3, 2), (6, 10, 2), (11, 12, 2)]);
    let present = scan(whole, ScanFlags::empty(), PRESENT, WRITTEN);
    let expected = [(1, 3, 2), (3, 5, 0), (8, 10, 2), (10, 11, 0)];
    assert_eq!(regions(&mut bed, present), expected);
    // V62: the exchange tells what was written and leaves nothing written behind.
    let exchange = scan(whole, EXCHANGE, WRITTEN, WRITTEN);
    assert_eq!(regions(&mut bed, exchange.clone()), [(0, 3, 2), (6, 10, 2), (11, 12, 2)]);
    assert_eq!(regions(&mut bed, written.clone()), []);
    let thread = bed.thread();
    bed.store(thread, 6);
    assert_eq!(regions(&mut bed, exchange), [(6, 7, 2)]);
    assert_eq!(regions(&mut bed, written), []);
}

#[test]
fn f5_the_categories_of_every_state_under_ordinary_wp() {
    let mut bed = all_states(Features::WP_UNPOPULATED, RegisterModes::WP);
    let all = scan(span(0, 12), ScanFlags::empty(), 0, EVERYTHING);
    let expected = [
        (0, 1, 0x2),
        (1, 2, 0xa),
        (2, 3, 0x2a),
        (3, 4, 0x8),
        (4, 5, 0x28),
        (5, 6, 0x10),
        (6, 8, 0x2),
        (8, 9, 0x8),
        (9, 10, 0x10),
        (10, 11, 0x28),
        (11, 12, 0x12),
    ];
    assert_eq!(run(&mut bed, all), Ok((expected.to_vec(), 12)));
}

#[test]
fn f5_memory_that_is_not_async_is_passed_over_or_refused() {
    for (features, modes) in [
        (Features::WP_UNPOPULATED, RegisterModes::WP),
        (Features::empty(), RegisterModes::WP),
        (Features::WP_ASYNC, RegisterModes::MISSING),
    ] {
        let mut bed = bed(2, features, modes);
        bed.copy(0, 1);
        let whole = span(0, 2);
        let refused = run(&mut bed, scan(whole, CHECK, WRITTEN, WRITTEN));
        assert_eq!(refused, Err(Errno::EPERM));
        assert_eq!(bed.kernel.take_scan(bed.handler).unwrap().walk_end, page(2));
        assert_eq!(run(&mut bed, scan(whole, EXCHANGE, WRITTEN, WRITTEN)), Err(Errno::EPERM));
        let skipped = run(&mut bed, scan(whole, WP_MATCHING, WRITTEN, WRITTEN));
        assert_eq!(skipped, Ok((vec![], 2)));
        let seen = run(&mut bed, scan(whole, ScanFlags::empty(), WRITTEN, WRITTEN));
        assert_eq!(seen, Ok((vec![(0, 2, 2)], 2)), "nothing was protected");
    }
}

#[test]
fn f5_what_comes_before_the_refusal_is_protected_all_the_same() {
    let mut bed = tracked(4);
    let thread = bed.thread();
    let map = Call::Mmap(Mmap::fixed(page(4).raw(), 4 * 4096, Prot::RW));
    bed.go(thread, map);
    bed.store(thread, 2);
    bed.store(thread, 5);
    assert_eq!(run(&mut bed, scan(span(0, 8), EXCHANGE, WRITTEN, WRITTEN)), Err(Errno::EPERM));
    assert!(bed.kernel.take_scan(bed.handler).unwrap().regions.is_empty());
    assert!(bed.kernel.pagemap(bed.mm, page(2)).contains(PagemapBits::UFFD_WP));
    assert!(!bed.kernel.pagemap(bed.mm, page(5)).contains(PagemapBits::UFFD_WP));
    bed.store(thread, 2);
    let skips = scan(span(0, 8), WP_MATCHING, WRITTEN, WRITTEN);
    assert_eq!(run(&mut bed, skips), Ok((vec![(2, 3, 2)], 8)));
}

#[test]
fn f5_holes_are_neither_told_nor_refused() {
    let mut bed = tracked(16);
    let thread = bed.thread();
    bed.go(thread, Call::Munmap { range: span(4, 8) });
    let all = |range| scan(range, CHECK, 0, EVERYTHING);
    assert_eq!(run(&mut bed, all(span(0, 16))), Ok((vec![(0, 4, 3), (8, 16, 3)], 16)));
    assert_eq!(run(&mut bed, all(span(4, 8))), Ok((vec![], 8)));
}

#[test]
fn f5_unregistered_memory_without_a_page_table_counts_as_unwritten() {
    let mut bed = tracked(1);
    let thread = bed.thread();
    let base = page(512);
    bed.go(thread, Call::Mmap(Mmap::fixed(base.raw(), 16 * 4096, Prot::RW)));
    let written = || scan(span(512, 528), ScanFlags::empty(), WRITTEN, WRITTEN);
    assert_eq!(regions(&mut bed, written()), []);
    assert_eq!(
        regions(&mut bed, scan(span(512, 528), ScanFlags::empty(), 0, EVERYTHING)),
        [(512, 528, 0)]
    );
    bed.store(thread, 513);
    assert_eq!(regions(&mut bed, written()), [(512, 528, 2)], "its neighbours count with it");
}

#[test]
fn f5_the_walk_ends_at_the_page_that_no_longer_fits() {
    let mut bed = tracked(6);
    let thread = bed.thread();
    for n in [1, 3, 5] {
        bed.store(thread, n);
    }
    let exchange = scan(span(0, 6), EXCHANGE, PRESENT, EVERYTHING);
    // Room for one region: the next match is page 3, and it is not protected.
    let one = PagemapScan { room: 1, ..exchange.clone() };
    assert_eq!(run(&mut bed, one), Ok((vec![(1, 2, 0xb)], 3)));
    let present = scan(span(0, 6), ScanFlags::empty(), PRESENT, EVERYTHING);
    assert_eq!(regions(&mut bed, present.clone()), [(1, 2, 9), (3, 4, 0xb), (5, 6, 0xb)]);
    // So many pages, whatever the regions.
    let two = PagemapScan { max_pages: 2, ..scan(span(0, 6), ScanFlags::empty(), 0, EVERYTHING) };
    assert_eq!(run(&mut bed, two), Ok((vec![(0, 1, 3), (1, 2, 9)], 2)));
    let written = scan(span(0, 6), ScanFlags::empty(), WRITTEN, WRITTEN);
    let three = PagemapScan { max_pages: 3, ..written };
    assert_eq!(run(&mut bed, three), Ok((vec![(0, 1, 2), (2, 4, 2)], 4)));
    // Without a vector there is no limit, and everything that matches is protected.
    let blind = PagemapScan { room: 0, max_pages: 1, ..exchange };
    assert_eq!(run(&mut bed, blind), Ok((vec![], 6)));
    assert_eq!(regions(&mut bed, present), [(1, 2, 9), (3, 4, 9), (5, 6, 9)]);
}

#[test]
fn f5_masks_and_their_inversion() {
    let mut bed = tracked(6);
    let thread = bed.thread();
    bed.store(thread, 1);
    bed.store(thread, 2);
    bed.protect(2, 3, PROTECT);
    bed.load(thread, 3);
    bed.protect(4, 5, PROTECT);
    let whole = || scan(span(0, 6), ScanFlags::empty(), 0, EVERYTHING);
    let bits = PageIs::from_bits_retain;
    assert_eq!(
        regions(&mut bed, whole()),
        [(0, 1, 3), (1, 2, 0xb), (2, 3, 9), (3, 4, 0x2b), (4, 5, 0x11), (5, 6, 3)]
    );
    let any = PagemapScan { any: bits(0x30), ..whole() };
    assert_eq!(regions(&mut bed, any), [(3, 4, 0x2b), (4, 5, 0x11)]);
    // Inverted, a category counts where it is not; the regions tell it as it is.
    let any = PagemapScan { inverted: bits(WRITTEN), any: bits(0x12), ..whole() };
    assert_eq!(regions(&mut bed, any), [(2, 3, 9), (4, 5, 0x11)]);
    let clean = PagemapScan { inverted: bits(WRITTEN), all: bits(WRITTEN), ..whole() };
    assert_eq!(regions(&mut bed, clean), [(2, 3, 9), (4, 5, 0x11)]);
    // Without a category to tell there are no regions.
    let silent = PagemapScan { tell: PageIs::empty(), ..whole() };
    assert_eq!(run(&mut bed, silent), Ok((vec![], 6)));
    // Alike is what tells alike.
    let both = scan(span(0, 6), ScanFlags::empty(), WRITTEN | PRESENT, PRESENT);
    assert_eq!(regions(&mut bed, both), [(1, 2, 8), (3, 4, 8)]);
}

#[test]
fn f5_the_arguments_are_judged_in_the_kernels_order() {
    let mut bed = tracked(2);
    let ask = |bed: &mut Bed, start: u64, len: u64, flags: u64, all: u64| {
        let range = Span::new(Addr::new(start), Len::new(len));
        run(bed, scan(range, ScanFlags::from_bits_retain(flags), all, 2))
    };
    let (start, end) = (page(0).raw(), 0x7fff_ffff_f000);
    assert_eq!(ask(&mut bed, start, 4096, 4, 2), Err(Errno::EINVAL));
    assert_eq!(ask(&mut bed, start + 1, 4096, 0, 2), Err(Errno::EINVAL));
    assert_eq!(ask(&mut bed, start, 4096, 0, 1 << 9), Err(Errno::EINVAL));
    assert_eq!(ask(&mut bed, end, 4096, 0, 1 << 9), Err(Errno::EINVAL), "before the addresses");
    assert_eq!(ask(&mut bed, end - 4096, 8192, 0, 2), Err(Errno::EFAULT));
    assert_eq!(ask(&mut bed, start, 0u64.wrapping_sub(4096), 0, 2), Err(Errno::EFAULT));
    let last = ask(&mut bed, end - 4096, 4096, 0, 2).map(|(regions, _)| regions);
    assert_eq!(last, Ok(vec![]));
    assert_eq!(ask(&mut bed, start, 0, 0, 2), Ok((vec![], 0)));
    assert_eq!(ask(&mut bed, start, 4097, 0, 2), Ok((vec![(0, 2, 2)], 2)), "rounded up");
}

#[test]
fn f5_a_scan_marks_poison_which_write_protection_passes_over() {
    let mut bed = tracked(1);
    let thread = bed.thread();
    let poison = Request::Poison { range: span(0, 1), mode: PoisonMode::empty() };
    bed.resolve(poison, Payload::None);
    bed.protect(0, 1, PROTECT);
    let seen = |bed: &mut Bed| bed.kernel.pagemap(bed.mm, page(0));
    assert_eq!(seen(&mut bed), PagemapBits::SWAP, "e16: WRITEPROTECT ignores it");
    assert_eq!(regions(&mut bed, scan(span(0, 1), EXCHANGE, 0, EVERYTHING)), [(0, 1, 0x13)]);
    assert_eq!(regions(&mut bed, scan(span(0, 1), EXCHANGE, 0, EVERYTHING)), [(0, 1, 0x11)]);
    // Nothing but DONTNEED and COPY takes the mark off, and it is poison as before.
    bed.protect(0, 1, WriteProtectMode::empty());
    assert_eq!(seen(&mut bed), PagemapBits::SWAP | PagemapBits::UFFD_WP);
    let poisoned = Some(Ret::Signal(sim::kernel::Signal::BusPoison));
    assert_eq!(bed.load(thread, 0), poisoned);
    assert_eq!(bed.store(thread, 0), poisoned);
    let unregister = Call::Unregister { ctx: bed.ctx, range: span(0, 1) };
    assert_eq!(bed.go(thread, unregister), Some(Ret::Ok(0)));
    assert_eq!(seen(&mut bed), PagemapBits::SWAP | PagemapBits::UFFD_WP);
    bed.go(thread, Call::DontNeed { range: span(0, 1) });
    assert_eq!(seen(&mut bed), PagemapBits::empty());
}

#[test]
fn f5_a_store_between_two_page_tables_is_not_lost() {
    let mut bed = tracked(1024);
    let (scanner, writer) = (bed.thread(), bed.thread());
    bed.store(writer, 0);
    bed.store(writer, 600);
    let exchange = scan(span(0, 1024), EXCHANGE, PRESENT | WRITTEN, WRITTEN);
    bed.kernel.begin(scanner, Call::PagemapScan(Box::new(exchange.clone())));
    assert_eq!(bed.step(scanner), Did::Scan { page: page(0), protected: 1 });
    bed.store(writer, 1);
    bed.store(writer, 601);
    // The mappings stay as they are until it is over.
    bed.kernel.begin(writer, Call::Munmap { range: span(0, 1) });
    assert!(!bed.kernel.can_step(writer));
    let ret = bed.on(scanner).unwrap();
    let expected = vec![(0, 1, 2), (600, 602, 2)];
    assert_eq!(take(&mut bed, scanner, ret), Ok((expected, 1024)));
    assert!(bed.kernel.can_step(writer));
    bed.on(writer);
    assert_eq!(regions(&mut bed, exchange), [(1, 2, 2)], "the next scan tells it");
}

#[test]
fn c9_pagemap_shows_an_entry_and_faults_nothing_in() {
    let mut bed = bed(6, Features::WP_UNPOPULATED, RegisterModes::MISSING | RegisterModes::WP);
    let thread = bed.thread();
    let own = PagemapBits::PRESENT | PagemapBits::EXCLUSIVE;
    bed.copy(0, 1);
    bed.copy_mode(1, 2, CopyMode::WP);
    let zero = Request::Zeropage { range: span(2, 3), mode: shims::ZeropageMode::empty() };
    bed.resolve(zero, Payload::None);
    bed.protect(3, 4, PROTECT);
    let seen = |bed: &Bed, n| bed.kernel.pagemap(bed.mm, page(n));
    assert_eq!(seen(&bed, 0), own);
    assert_eq!(seen(&bed, 1), own | PagemapBits::UFFD_WP);
    assert_eq!(seen(&bed, 2), PagemapBits::PRESENT);
    assert_eq!(seen(&bed, 3), PagemapBits::SWAP | PagemapBits::UFFD_WP);
    assert_eq!(seen(&bed, 4), PagemapBits::empty());
    assert_eq!(seen(&bed, 100), PagemapBits::empty());
    assert_eq!(bed.kernel.ctx(bed.ctx).faults_waiting(), 0);
    // A fork shares the page, a write makes it the process's own again.
    bed.go(thread, Call::Fork);
    assert_eq!(seen(&bed, 0), PagemapBits::PRESENT);
    let store = Call::Store { addr: page(0), content: Content::Bytes(1) };
    assert_eq!(bed.go(thread, store), Some(Ret::Stored));
    assert_eq!(seen(&bed, 0), own);
}
