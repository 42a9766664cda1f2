//! hugetlb in 2 MiB pages, shared and private. Each test names the rule it holds the kernel to;
//! what a comment calls measured was seen on 6.18.

use core::cell::RefCell;

use shims::{
    ContinueMode, CopyMode, Errno, Event, FaultFlags, Features, Outcome, RegisterModes, Request,
    Uffd, WriteProtectMode, ZeropageMode,
};
use sim::kernel::{
    Call, HugePages, Madvise, Marker, PagemapBits, PagemapScan, Payload, Pte, PteBits, Ret,
    ScanFlags, Signal, SimUffd,
};
use sim::vma::{MapFlags, Mmap, Prot};
use sim::{Content, Profile};

use crate::support::memory::{ALIAS, HUGE, HUGETLB, Memory, PRIVATE, SHARED};
use crate::support::{page, source, span};

const MISSING: RegisterModes = RegisterModes::MISSING;
const WP: RegisterModes = RegisterModes::WP;
const MINOR: RegisterModes = RegisterModes::MINOR;
const NONE: RegisterModes = RegisterModes::empty();
const PROTECT: WriteProtectMode = WriteProtectMode::WP;
const ALLOW: WriteProtectMode = WriteProtectMode::empty();
const MARKER: Pte = Pte::Marker(Marker::WriteProtect);
const PLAIN: CopyMode = CopyMode::empty();
const ONE: Content = Content::Bytes(1);
const TWO: Content = Content::Bytes(2);

/// Four huge pages, mapped.
fn memory(how: MapFlags, features: Features, modes: RegisterModes) -> Memory {
    Memory::new(HUGETLB, how, 4 * HUGE, features, modes)
}

fn faults(events: &[Event]) -> Vec<(u64, FaultFlags)> {
    let fault = |event: &Event| match event {
        Event::Fault(fault) => (fault.addr.raw() - page(0).raw(), fault.flags),
        event => panic!("{event} is no fault"),
    };
    events.iter().map(fault).collect()
}

fn is_protected(pte: Pte) -> bool {
    matches!(pte, Pte::Present { bits, .. } if bits.contains(PteBits::UFFD_WP))
}

/// `n` is a huge page here.
fn pte(memory: &Memory, n: u64) -> Pte {
    memory.bed.pte(n * HUGE)
}

fn protect(memory: &mut Memory, start: u64, end: u64, mode: WriteProtectMode) -> Outcome {
    memory.bed.protect(start * HUGE, end * HUGE, mode)
}

#[test]
fn c7_v57_the_message_has_the_huge_page_or_with_exact_address_the_byte() {
    for (features, told) in
        [(Features::empty(), 2 << 20), (Features::EXACT_ADDRESS, (2 << 20) + 0x1234)]
    {
        for how in [SHARED, PRIVATE] {
            let mut memory = memory(how, features, MISSING);
            let thread = memory.bed.thread();
            let addr = shims::Addr::new(page(HUGE).raw() + 0x1234);
            assert_eq!(memory.bed.go(thread, Call::Load { addr }), None);
            assert_eq!(faults(&memory.bed.read(8)), [(told, FaultFlags::empty())]);
            // One entry is the whole page, and one content.
            assert_eq!(memory.copy_huge(1, PLAIN), Outcome::done(2 << 20));
            assert_eq!(memory.bed.on(thread), Some(Ret::Loaded(source(1))));
            assert_eq!(memory.bed.load(thread, HUGE + 300), Some(Ret::Loaded(source(1))));
            memory.bed.go(thread, Call::Store { addr: page(HUGE + 7), content: TWO });
            assert_eq!(memory.bed.load(thread, 2 * HUGE - 1), Some(Ret::Loaded(TWO)));
            assert_eq!(memory.cached(HUGE), (how == SHARED).then_some(TWO));
        }
    }
}

#[test]
fn c11_v56_a_wake_goes_by_the_address_in_the_message() {
    for (features, base_wakes) in [(Features::empty(), true), (Features::EXACT_ADDRESS, false)] {
        let mut memory = memory(SHARED, features, MISSING);
        let thread = memory.bed.thread();
        memory.bed.load(thread, 1);
        let wake = |memory: &mut Memory, start, end| {
            memory.bed.resolve(Request::Wake { range: span(start, end) }, Payload::None);
            memory.bed.kernel.can_step(thread)
        };
        assert_eq!(wake(&mut memory, 1, 2), !base_wakes);
        memory.bed.on(thread);
        assert_eq!(wake(&mut memory, 0, 1), base_wakes);
        memory.bed.on(thread);
        memory.copy_huge(0, PLAIN);
        assert_eq!(memory.bed.on(thread), Some(Ret::Loaded(source(0))), "a COPY covers both");
    }
}

#[test]
fn b2_b6_b14_registration_in_whole_huge_pages_and_what_it_grants() {
    for how in [SHARED, PRIVATE] {
        let mut memory = memory(how, Features::empty(), NONE);
        for (start, end) in [(1, HUGE), (0, 1), (HUGE, HUGE + 1)] {
            let ret = memory.bed.register(start, end, MISSING);
            assert_eq!(ret, Ret::Err(Errno::EINVAL), "{start}..{end}");
        }
        let masks = [
            (MISSING, 0x10c),
            (MISSING | WP, 0x14c),
            (MISSING | MINOR, 0x18c),
            (WP | MINOR, 0x1cc),
        ];
        for (modes, mask) in masks {
            let mut memory = Memory::new(HUGETLB, how, HUGE, Features::empty(), NONE);
            assert_eq!(memory.bed.register(0, HUGE, modes), Ret::Ok(mask), "{modes:?}");
        }
        memory.bed.register(0, 4 * HUGE, MISSING);
        let (ctx, handler) = (memory.bed.ctx, memory.bed.handler);
        let call = |start, end| Call::Unregister { ctx, range: span(start, end) };
        let ret = memory.bed.kernel.run(handler, call(0, 1));
        assert_eq!(ret, Ret::Err(Errno::EINVAL));
        assert_eq!(memory.bed.kernel.run(handler, call(0, HUGE)), Ret::Ok(0));
        // Any huge page in the range decides, whatever else is there.
        let anon = Mmap::fixed(page(4 * HUGE).raw(), 4096, Prot::RW);
        memory.bed.kernel.run(handler, Call::Mmap(anon));
        assert_eq!(memory.bed.register(2 * HUGE, 4 * HUGE + 1, MISSING), Ret::Ok(0x10c));
        assert_eq!(memory.bed.register(4 * HUGE, 4 * HUGE + 1, MISSING), Ret::Ok(0x13c));
    }
}

#[test]
fn e12_v57_half_a_huge_page_is_einval_and_zeropage_always() {
    for how in [SHARED, PRIVATE] {
        let mut memory = memory(how, Features::empty(), MISSING | WP);
        let einval = Outcome::mirrored(Errno::EINVAL);
        for (start, end) in [(0, 1), (1, HUGE + 1)] {
            let range = span(start, end);
            let requests = [
                Request::Copy { dst: range, mode: PLAIN },
                Request::Continue { range, mode: ContinueMode::empty() },
                Request::Poison { range, mode: shims::PoisonMode::empty() },
            ];
            for request in requests {
                assert_eq!(memory.bed.resolve(request, Payload::None), einval, "{request}");
            }
            // e18: it has no result field.
            assert_eq!(memory.bed.protect(start, end, PROTECT), Outcome::bare(Errno::EINVAL));
        }
        let range = span(0, HUGE);
        let zero = Request::Zeropage { range, mode: ZeropageMode::empty() };
        assert_eq!(memory.bed.resolve(zero, Payload::None), einval, "e14");
        let mode = shims::MoveMode::empty();
        let request = Request::Move { dst: range, src: page(HUGE), mode };
        assert_eq!(memory.bed.resolve(request, Payload::None), einval, "e20");
    }
}

#[test]
fn e12_copy_finds_what_is_mapped_or_shared_and_cached() {
    let eexist = Outcome::mirrored(Errno::EEXIST);
    let mut shared = memory(SHARED, Features::empty(), MISSING);
    shared.put(0, ONE);
    assert_eq!(shared.copy_huge(0, PLAIN), eexist);
    let both = Request::Copy { dst: span(HUGE, 3 * HUGE), mode: PLAIN };
    let payload = Payload::Many([source(1), source(2)].into());
    assert_eq!(shared.bed.resolve(both, payload), Outcome::done(4 << 20));
    assert_eq!([1, 2].map(|n| shared.cached(n * HUGE)), [Some(source(1)), Some(source(2))]);
    assert_eq!(shared.copy_huge(1, PLAIN), eexist);

    let mut private = memory(PRIVATE, Features::empty(), MISSING);
    private.put(0, ONE);
    assert_eq!(private.copy_huge(0, PLAIN), Outcome::done(2 << 20));
    assert_eq!(private.copy_huge(0, PLAIN), eexist);
    assert_eq!(private.copy_huge(1, PLAIN), Outcome::done(2 << 20));
    assert_eq!((private.cached(0), private.cached(HUGE)), (Some(ONE), None));
    // A partial result counts whole pages.
    let two = Request::Copy { dst: span(3 * HUGE, 4 * HUGE), mode: PLAIN };
    private.bed.resolve(two, Payload::One(source(3)));
    let both = Request::Copy { dst: span(2 * HUGE, 4 * HUGE), mode: PLAIN };
    let payload = Payload::Many([source(2), source(3)].into());
    assert_eq!(private.bed.resolve(both, payload), Outcome::partial(2 << 20));
}

#[test]
fn c1_private_pages_are_nobody_elses() {
    // Watched by nobody, a private page of zeros comes and the file stays empty.
    let mut memory = memory(PRIVATE, Features::empty(), NONE);
    let thread = memory.bed.thread();
    assert_eq!(memory.bed.load(thread, 5), Some(Ret::Loaded(Content::Zero)));
    assert_eq!(pte(&memory, 0), Pte::Present { content: Content::Zero, bits: PteBits::empty() });
    assert_eq!(memory.cached(0), None);
    // A page of the file is mapped until it is written.
    memory.put(HUGE, ONE);
    assert_eq!(memory.bed.load(thread, HUGE), Some(Ret::Loaded(ONE)));
    memory.put(HUGE, TWO);
    assert_eq!(memory.bed.load(thread, HUGE + 1), Some(Ret::Loaded(TWO)));
    memory.bed.store(thread, HUGE);
    memory.put(HUGE, ONE);
    assert_ne!(memory.bed.load(thread, HUGE), Some(Ret::Loaded(ONE)));
}

#[test]
fn c2_e15_minor_faults_and_continue() {
    for how in [SHARED, PRIVATE] {
        let mut memory = memory(how, Features::empty(), MINOR | WP);
        let (reader, writer) = (memory.bed.thread(), memory.bed.thread());
        (0..3).for_each(|n| memory.put(n * HUGE, ONE));
        memory.bed.load(reader, 1);
        memory.bed.store(writer, HUGE + 1);
        let (read, write) =
            ((0, FaultFlags::MINOR), (2 << 20, FaultFlags::MINOR | FaultFlags::WRITE));
        assert_eq!(faults(&memory.bed.read(8)), [read, write]);
        let plain = ContinueMode::empty();
        assert_eq!(memory.go_on(0, 2 * HUGE, plain), Outcome::done(4 << 20));
        assert_eq!(memory.bed.on(reader), Some(Ret::Loaded(ONE)));
        assert_eq!(memory.bed.on(writer), Some(Ret::Stored));
        assert_eq!(memory.cached(HUGE) == Some(ONE), how == PRIVATE);
        assert_eq!(memory.go_on(0, HUGE, plain), Outcome::mirrored(Errno::EEXIST));
        assert_eq!(memory.go_on(3 * HUGE, 4 * HUGE, plain), Outcome::mirrored(Errno::EFAULT));
        // Measured: a hole is silent without MISSING, and CONTINUE covers poison.
        assert_eq!(memory.bed.load(reader, 3 * HUGE), Some(Ret::Loaded(Content::Zero)));
        memory.poison(2 * HUGE, 3 * HUGE);
        assert_eq!(memory.go_on(2 * HUGE, 3 * HUGE, ContinueMode::WP), Outcome::done(2 << 20));
        assert_eq!(memory.bed.store(writer, 2 * HUGE + 9), None);
        let trapped = (4 << 20, FaultFlags::WP | FaultFlags::WRITE);
        assert_eq!(faults(&memory.bed.read(8)), [trapped]);
    }
}

#[test]
fn d6_d7_v57_removal_rounds_its_end_down_and_refuses_a_crooked_start() {
    let mut memory = memory(SHARED, Features::EVENT_REMOVE, MISSING);
    let thread = memory.bed.thread();
    memory.copy_huge(0, PLAIN);
    memory.copy_huge(1, PLAIN);
    let call = |start, end| Call::DontNeed { range: span(start, end) };
    assert_eq!(memory.bed.go(thread, call(0, 1)), Some(Ret::Ok(0)), "nothing, and no event");
    assert_eq!(memory.bed.go(thread, call(1, HUGE)), Some(Ret::Err(Errno::EINVAL)));
    assert_eq!(memory.bed.go(thread, call(0, HUGE + 1)), None);
    assert_eq!(memory.bed.read(8), [Event::Remove(span(0, HUGE))]);
    assert_eq!(memory.bed.on(thread), Some(Ret::Ok(0)));
    assert!(pte(&memory, 0).is_none() && pte(&memory, 1).is_present());
    // Measured: MADV_FREE is refused before the event, unlike on tmpfs.
    let free = Call::Madvise { range: span(0, HUGE), advice: Madvise::Free };
    assert_eq!(memory.bed.go(thread, free), Some(Ret::Err(Errno::EINVAL)));
    assert_eq!(memory.bed.read(8), []);
}

#[test]
fn d11_after_a_removal_shared_pages_are_cached_and_private_ones_missing() {
    let mut shared = memory(SHARED, Features::empty(), MINOR | MISSING);
    let thread = shared.bed.thread();
    shared.copy_huge(0, PLAIN);
    shared.dont_need(0, HUGE);
    assert_eq!(shared.bed.load(thread, 3), None);
    assert_eq!(faults(&shared.bed.read(8)), [(0, FaultFlags::MINOR)]);

    let mut private = memory(PRIVATE, Features::empty(), MINOR | MISSING);
    let thread = private.bed.thread();
    private.copy_huge(0, PLAIN);
    private.dont_need(0, HUGE);
    assert_eq!(private.bed.load(thread, 3), None);
    assert_eq!(faults(&private.bed.read(8)), [(0, FaultFlags::empty())]);
}

#[test]
fn f1_f3_markers_are_always_there_and_survive_removal_and_holes_but_no_shorter_file() {
    for how in [SHARED, PRIVATE] {
        let mut memory = memory(how, Features::empty(), WP);
        let (reader, writer) = (memory.bed.thread(), memory.bed.thread());
        for n in [0, 1, 2] {
            memory.bed.store(writer, n * HUGE);
        }
        assert_eq!(protect(&mut memory, 0, 4, PROTECT), Outcome::OK);
        assert!(is_protected(pte(&memory, 0)) && pte(&memory, 3) == MARKER);
        memory.dont_need(0, HUGE);
        assert_eq!(pte(&memory, 0), MARKER);
        memory.bed.load(reader, 7);
        assert!(is_protected(pte(&memory, 0)), "a read brings it protected");
        assert_eq!(memory.bed.store(writer, 3 * HUGE + 1), None);
        let trapped = (6 << 20, FaultFlags::WP | FaultFlags::WRITE);
        assert_eq!(faults(&memory.bed.read(8)), [trapped]);
        // Measured: a hole takes private copies as well, and leaves the marker.
        memory.punch(HUGE, 2 * HUGE);
        assert_eq!(pte(&memory, 1), MARKER);
        memory.truncate(2 * HUGE);
        assert_eq!(
            (pte(&memory, 1), pte(&memory, 2), pte(&memory, 3)),
            (MARKER, Pte::None, Pte::None)
        );
        protect(&mut memory, 0, 4, ALLOW);
        assert_eq!((pte(&memory, 1), is_protected(pte(&memory, 0))), (Pte::None, false));
    }
}

#[test]
fn b9_protection_left_by_another_registration_sends_a_write_round_in_circles() {
    for how in [SHARED, PRIVATE] {
        let mut memory = memory(how, Features::empty(), WP);
        let thread = memory.bed.thread();
        memory.bed.store(thread, 0);
        protect(&mut memory, 0, 2, PROTECT);
        memory.bed.register(0, 4 * HUGE, MISSING | MINOR);
        memory.copy_huge(2, PLAIN);
        assert_eq!(memory.bed.store(thread, 2 * HUGE), Some(Ret::Stored));
        // Measured: it burns its processor and asks nobody. A read is fine.
        assert!(matches!(memory.bed.load(thread, 1), Some(Ret::Loaded(_))));
        memory.bed.kernel.begin(thread, Call::Store { addr: page(0), content: ONE });
        for _ in 0..10 {
            memory.bed.step(thread);
        }
        assert!(memory.bed.kernel.can_step(thread));
        assert_eq!(memory.bed.read(8), []);
        // What ends the watch lets it go.
        let (ctx, handler) = (memory.bed.ctx, memory.bed.handler);
        memory.bed.register(0, 4 * HUGE, WP);
        memory.bed.kernel.run(handler, Call::Unregister { ctx, range: span(0, 4 * HUGE) });
        assert_eq!(memory.bed.on(thread), Some(Ret::Stored));
    }
}

#[test]
fn f1_a_private_write_to_a_marker_maps_the_files_page_and_copies_it_when_it_may() {
    let mut memory = memory(PRIVATE, Features::empty(), WP);
    let writer = memory.bed.thread();
    memory.put(0, ONE);
    protect(&mut memory, 0, 1, PROTECT);
    assert_eq!(memory.bed.store(writer, 0), None);
    let seen = memory.bed.kernel.pagemap(memory.bed.mm, page(0));
    let mapped = PagemapBits::PRESENT | PagemapBits::FILE | PagemapBits::UFFD_WP;
    assert_eq!(seen, mapped, "measured: on tmpfs it is a copy already");
    protect(&mut memory, 0, 1, ALLOW);
    assert_eq!(memory.bed.on(writer), Some(Ret::Stored));
    assert_eq!(memory.cached(0), Some(ONE));
}

#[test]
fn f1_pagemap_shows_a_marker_of_a_huge_page_without_the_swap_bit() {
    let mut memory = memory(SHARED, Features::empty(), WP | MISSING);
    protect(&mut memory, 0, 1, PROTECT);
    memory.copy_huge(1, CopyMode::WP);
    memory.poison(2 * HUGE, 3 * HUGE);
    let seen = |n: u64| memory.bed.kernel.pagemap(memory.bed.mm, page(n));
    assert_eq!(seen(5), PagemapBits::UFFD_WP);
    let present = PagemapBits::PRESENT | PagemapBits::FILE | PagemapBits::UFFD_WP;
    assert_eq!(seen(HUGE + 5), present);
    assert_eq!(seen(2 * HUGE), PagemapBits::empty());
}

#[test]
fn e13_e16_plain_copies_drop_markers_and_poison_wants_an_empty_entry() {
    for how in [SHARED, PRIVATE] {
        let mut memory = memory(how, Features::empty(), WP | MISSING);
        let writer = memory.bed.thread();
        protect(&mut memory, 0, 2, PROTECT);
        assert_eq!(memory.poison(0, HUGE), Outcome::mirrored(Errno::EEXIST));
        // c3: missing is asked for before the protection counts.
        assert_eq!(memory.bed.store(writer, 3), None);
        assert_eq!(faults(&memory.bed.read(8)), [(0, FaultFlags::WRITE)]);
        assert_eq!(memory.copy_huge(0, PLAIN), Outcome::done(2 << 20));
        assert_eq!(memory.bed.on(writer), Some(Ret::Stored));
        assert_eq!(memory.poison(2 * HUGE, 3 * HUGE), Outcome::done(2 << 20));
        assert_eq!(memory.bed.load(writer, 3 * HUGE - 1), Some(Ret::Signal(Signal::BusPoison)));
        assert_eq!(protect(&mut memory, 2, 3, PROTECT), Outcome::OK);
        assert_eq!(pte(&memory, 2), Pte::Marker(Marker::Poison));
        memory.punch(2 * HUGE, 3 * HUGE);
        assert_eq!(pte(&memory, 2), Pte::None, "measured: on tmpfs it stays");
    }
}

#[test]
fn beyond_the_end_of_the_file() {
    let mut shared = memory(SHARED, Features::empty(), MISSING);
    let thread = shared.bed.thread();
    shared.truncate(2 * HUGE);
    assert_eq!(shared.bed.load(thread, 2 * HUGE), Some(Ret::Signal(Signal::BusAdrErr)));
    assert_eq!(shared.copy_huge(2, PLAIN), Outcome::mirrored(Errno::EFAULT));
    let go_on = shared.go_on(2 * HUGE, 3 * HUGE, ContinueMode::empty());
    assert_eq!(go_on, Outcome::mirrored(Errno::EFAULT), "on tmpfs it is EINVAL");
    assert_eq!(shared.poison(2 * HUGE, 3 * HUGE), Outcome::done(2 << 20), "measured");
    let odd = Call::Ftruncate { file: shared.file.id, size: 4096 };
    assert_eq!(shared.bed.kernel.run(thread, odd), Ret::Err(Errno::EINVAL));

    let mut private = memory(PRIVATE, Features::empty(), MISSING);
    let thread = private.bed.thread();
    private.truncate(2 * HUGE);
    assert_eq!(private.copy_huge(2, PLAIN), Outcome::done(2 << 20), "measured");
    assert_eq!(private.bed.load(thread, 2 * HUGE), Some(Ret::Loaded(source(2))));
}

#[test]
fn c9_mincore_counts_what_is_mapped() {
    let mut memory = memory(SHARED, Features::empty(), MISSING);
    memory.put(0, ONE);
    memory.copy_huge(1, PLAIN);
    let ends = span(HUGE - 1, HUGE + 1);
    let seen = memory.bed.kernel.mincore(memory.bed.mm, ends);
    assert_eq!(seen, Ok(vec![false, true]), "measured");
}

#[test]
fn c9_populating_goes_by_whole_pages() {
    let mut memory = memory(SHARED, Features::empty(), NONE);
    let thread = memory.bed.thread();
    let call = Call::Populate { range: span(HUGE - 1, HUGE + 1), write: false };
    assert_eq!(memory.bed.go(thread, call), Some(Ret::Ok(0)));
    assert_eq!([0, 1, 2].map(|n| pte(&memory, n).is_present()), [true, true, false]);
}

#[test]
fn d26_a_child_shares_the_pages_and_gets_markers_where_wp_is_watched() {
    for (how, features) in [(SHARED, Features::EVENT_FORK), (PRIVATE, Features::empty())] {
        let mut memory = memory(how, features, MISSING | WP);
        let forker = memory.bed.thread();
        memory.copy_huge(0, PLAIN);
        protect(&mut memory, 0, 2, PROTECT);
        memory.bed.kernel.begin(forker, Call::Fork);
        memory.bed.on(forker);
        memory.bed.read(1);
        memory.bed.on(forker);
        let child = sim::kernel::MmId(1);
        let entry = |n: u64| memory.bed.kernel.table(child).get(page(n * HUGE).raw() >> 12);
        let kept = features.contains(Features::EVENT_FORK);
        assert_eq!(is_protected(entry(0)), kept);
        assert_eq!(entry(1), if kept { MARKER } else { Pte::None });
        let reader = memory.bed.kernel.new_thread(child);
        let ret = memory.bed.kernel.run(reader, Call::Load { addr: page(5) });
        assert_eq!(ret, Ret::Loaded(source(0)));
    }
}

/// A machine with `total` huge pages and nothing mapped.
fn machine(total: u64, profile: Profile) -> Memory {
    let mut memory = Memory::of(profile, HUGETLB, SHARED, 0, Features::empty(), NONE);
    memory.bed.kernel.set_huge_pages(total);
    memory
}

fn pool(memory: &Memory) -> (u64, u64) {
    let HugePages { free, reserved, .. } = memory.bed.kernel.huge_pages().unwrap();
    (free, reserved)
}

/// Huge pages without a file at huge page `at`.
fn map(memory: &mut Memory, at: u64, pages: u64, flags: MapFlags) -> Ret {
    let request = Mmap::anon(pages << 21, Prot::RW).at(page(at * HUGE).raw());
    let request = if flags.contains(MapFlags::SHARED) { request.shared() } else { request };
    let call = Call::Mmap(request.with(flags | MapFlags::HUGETLB));
    let thread = memory.bed.thread();
    memory.bed.kernel.run(thread, call)
}

#[test]
fn the_pool_keeps_its_promises_and_a_mapping_without_one_takes_its_chance() {
    let mut memory = machine(8, Profile::default());
    let thread = memory.bed.thread();
    let unmap = |start: u64, end: u64| Call::Munmap { range: span(start * HUGE, end * HUGE) };
    assert!(matches!(map(&mut memory, 0, 8, SHARED), Ret::Ok(_)));
    assert_eq!(pool(&memory), (8, 8));
    for flags in [SHARED, PRIVATE] {
        assert_eq!(map(&mut memory, 10, 1, flags), Ret::Err(Errno::ENOMEM));
    }
    // Measured: a shared promise lasts as long as any part of the mapping.
    memory.bed.go(thread, unmap(1, 2));
    assert_eq!(pool(&memory), (8, 8));
    map(&mut memory, 10, 2, PRIVATE | MapFlags::NORESERVE);
    assert_eq!(memory.bed.store(thread, 10 * HUGE), Some(Ret::Signal(Signal::BusAdrErr)));
    let call = Call::Populate { range: span(10 * HUGE, 11 * HUGE), write: true };
    assert_eq!(memory.bed.go(thread, call), Some(Ret::Err(Errno::EFAULT)));
    memory.bed.go(thread, unmap(0, 8));
    assert_eq!(pool(&memory), (8, 0));
    assert_eq!(memory.bed.store(thread, 10 * HUGE), Some(Ret::Stored));
    assert_eq!(pool(&memory), (7, 0));
    memory.bed.go(thread, unmap(10, 12));
    // Measured: a private promise is taken, given back by a removal, and ends with the mapping.
    map(&mut memory, 20, 2, PRIVATE);
    assert_eq!(pool(&memory), (8, 2));
    memory.bed.store(thread, 20 * HUGE);
    assert_eq!(pool(&memory), (7, 1));
    assert_eq!(memory.bed.go(thread, Call::Fork), Some(Ret::Err(Errno::ENOTMODELLED)));
    memory.dont_need(20 * HUGE, 21 * HUGE);
    assert_eq!(pool(&memory), (8, 2));
    memory.bed.go(thread, unmap(20, 22));
    assert_eq!(pool(&memory), (8, 0));
}

#[test]
fn the_promise_of_a_shared_mapping_is_the_files() {
    let mut memory = machine(8, Profile::default());
    let thread = memory.bed.thread();
    memory.file = memory.bed.kernel.memory_file(HUGETLB, 4 << 21).unwrap();
    memory.map(ALIAS, 3 * HUGE, HUGE, SHARED);
    assert_eq!(pool(&memory), (8, 3));
    memory.bed.store(thread, ALIAS);
    assert_eq!(pool(&memory), (7, 2));
    memory.map(2 * ALIAS, 4 * HUGE, 0, SHARED);
    assert_eq!(pool(&memory), (7, 3));
    memory.bed.go(thread, Call::Munmap { range: span(ALIAS, ALIAS + 3 * HUGE) });
    assert_eq!(pool(&memory), (7, 3), "it outlives the mapping");
    // Measured: a hole gives back what was taken, and not what was only promised.
    memory.punch(HUGE, 3 * HUGE);
    assert_eq!(pool(&memory), (8, 3));
    memory.truncate(2 * HUGE);
    assert_eq!(pool(&memory), (8, 1));
    memory.bed.store(thread, 2 * ALIAS + HUGE);
    assert_eq!(pool(&memory), (7, 1), "a page without a promise");
}

#[test]
fn e12_h_v58_copy_without_a_huge_page_left() {
    for (profile, errno) in
        [(Profile::linux_6_18(), Errno::EEXIST), (Profile::linux_6_12(), Errno::ENOMEM)]
    {
        let mut memory = machine(2, profile);
        map(&mut memory, 10, 2, SHARED);
        map(&mut memory, 0, 1, PRIVATE | MapFlags::NORESERVE);
        memory.bed.register(0, HUGE, MISSING);
        assert_eq!(memory.copy_huge(0, PLAIN), Outcome::mirrored(errno));
        assert!(pte(&memory, 0).is_none());
        assert_eq!(memory.poison(0, HUGE), Outcome::done(2 << 20), "that takes no page");
    }
}

#[test]
fn a_private_copy_of_a_files_page_takes_a_huge_page() {
    let mut memory = machine(2, Profile::default());
    let thread = memory.bed.thread();
    memory.file = memory.bed.kernel.memory_file(HUGETLB, 1 << 21).unwrap();
    memory.map(ALIAS, HUGE, 0, SHARED);
    memory.put(0, ONE);
    memory.map(0, HUGE, 0, PRIVATE | MapFlags::NORESERVE);
    assert_eq!(memory.bed.load(thread, 0), Some(Ret::Loaded(ONE)));
    map(&mut memory, 10, 1, SHARED);
    assert_eq!(memory.bed.store(thread, 0), Some(Ret::Signal(Signal::BusAdrErr)));
    assert_eq!(memory.bed.load(thread, 0), Some(Ret::Loaded(ONE)));
    let unmap = Call::Munmap { range: span(10 * HUGE, 11 * HUGE) };
    memory.bed.go(thread, unmap);
    assert_eq!(memory.bed.store(thread, 0), Some(Ret::Stored));
    assert_eq!(pool(&memory), (0, 0));
}

#[test]
fn through_the_seam_a_buffer_is_one_content_per_huge_page() {
    let memory = memory(SHARED, Features::empty(), MISSING);
    let (ctx, handler) = (memory.bed.ctx, memory.bed.handler);
    let kernel = RefCell::new(memory.bed.kernel);
    let mut bytes = vec![0; 4 << 20];
    bytes[..16].copy_from_slice(&source(8).stamp());
    bytes[2 << 20..][..16].copy_from_slice(&source(9).stamp());
    let outcome = SimUffd::new(&kernel, ctx, handler).copy(span(0, 2 * HUGE), &bytes, PLAIN);
    assert_eq!(outcome, Outcome::done(4 << 20));
    let kernel = kernel.borrow();
    let object = kernel.object(memory.file.id).unwrap();
    let pages: Vec<_> = object.pages().collect();
    assert_eq!(pages, [(0, source(8)), (HUGE, source(9))]);
}

#[test]
fn what_is_not_modelled_is_refused_by_name() {
    let mut memory = memory(SHARED, Features::EVENT_REMOVE, MISSING);
    let thread = memory.bed.thread();
    memory.copy_huge(0, PLAIN);
    let scan = PagemapScan {
        flags: ScanFlags::empty(),
        range: span(0, HUGE),
        room: 8,
        max_pages: 0,
        inverted: Default::default(),
        all: Default::default(),
        any: Default::default(),
        tell: Default::default(),
    };
    let part = Call::RemoveFile { range: span(0, 1) };
    for call in [Call::PagemapScan(Box::new(scan)), part] {
        let ret = memory.bed.go(thread, call.clone());
        assert_eq!(ret, Some(Ret::Err(Errno::ENOTMODELLED)), "{call:?}");
    }
    assert_eq!(memory.bed.read(8), []);
}

#[test]
fn f3_v87_protection_outlives_its_registration() {
    for how in [SHARED, PRIVATE] {
        let mut memory = memory(how, Features::empty(), WP);
        let thread = memory.bed.thread();
        assert_eq!(memory.bed.store(thread, 0), Some(Ret::Stored));
        assert_eq!(protect(&mut memory, 0, 1, PROTECT), Outcome::OK);
        assert!(matches!(memory.bed.register(0, HUGE, MISSING), Ret::Ok(_)));
        let drop = Call::DontNeed { range: span(0, HUGE) };
        assert_eq!(memory.bed.go(thread, drop), Some(Ret::Ok(0)));
        assert_eq!(pte(&memory, 0), MARKER);
    }
}
