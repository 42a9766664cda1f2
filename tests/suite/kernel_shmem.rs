//! Memory files in 4 KiB pages, mapped shared and privately. Each test names the rule it holds
//! the kernel to; what a comment calls measured was seen on 6.18 through `pagemap`, the size of
//! the file, or both mappings.

use shims::{
    CopyMode, Errno, Event, FaultFlags, Features, MoveMode, Outcome, RegisterModes, Request,
    WriteProtectMode,
};
use sim::Content;
use sim::kernel::{Call, Marker, Payload, Pte, PteBits, Ret, Signal};
use sim::vma::{FileId, FileKind, MapFile, MapFlags, Mmap, Mremap, Prot, RemapFlags};

use crate::support::memory::{ALIAS, Memory, PRIVATE, SHARED, SHMEM};
use crate::support::{page, source, span};

const MISSING: RegisterModes = RegisterModes::MISSING;
const WP: RegisterModes = RegisterModes::WP;
const NONE: RegisterModes = RegisterModes::empty();
const PROTECT: WriteProtectMode = WriteProtectMode::WP;
const ALLOW: WriteProtectMode = WriteProtectMode::empty();
const MARKER: Pte = Pte::Marker(Marker::WriteProtect);
const ONE: Content = Content::Bytes(1);
const TWO: Content = Content::Bytes(2);

fn shared(pages: u64, modes: RegisterModes) -> Memory {
    Memory::new(SHMEM, SHARED, pages, Features::EVENT_REMOVE, modes)
}

fn private(pages: u64, modes: RegisterModes) -> Memory {
    Memory::new(SHMEM, PRIVATE, pages, Features::EVENT_REMOVE, modes)
}

fn faults(events: &[Event]) -> Vec<FaultFlags> {
    let fault = |event: &Event| match event {
        Event::Fault(fault) => fault.flags,
        event => panic!("{event} is no fault"),
    };
    events.iter().map(fault).collect()
}

fn is_protected(pte: Pte) -> bool {
    matches!(pte, Pte::Present { bits, .. } if bits.contains(PteBits::UFFD_WP))
}

fn present(memory: &Memory, pages: core::ops::Range<u64>) -> Vec<u64> {
    pages.filter(|n| memory.bed.pte(*n).is_present()).collect()
}

#[test]
fn a_store_through_one_mapping_is_what_every_other_reads_in_every_process() {
    let mut memory = shared(4, NONE);
    let thread = memory.bed.thread();
    memory.put(1, ONE);
    assert_eq!(memory.bed.load(thread, 1), Some(Ret::Loaded(ONE)));
    // Another process maps the same file: page 1 at its page 0.
    let mm = memory.bed.kernel.new_mm();
    let foreign = memory.bed.kernel.new_thread(mm);
    let map = Mmap::file(memory.file, 4096, 4096, Prot::RW, SHARED).at(page(0).raw());
    assert_eq!(memory.bed.kernel.run(foreign, Call::Mmap(map)), Ret::Ok(page(0).raw()));
    let load = Call::Load { addr: page(0) };
    assert_eq!(memory.bed.kernel.run(foreign, load), Ret::Loaded(ONE));
    memory.bed.go(thread, Call::Store { addr: page(1), content: TWO });
    let load = Call::Load { addr: page(0) };
    assert_eq!(memory.bed.kernel.run(foreign, load), Ret::Loaded(TWO));
    // Whoever looks at a page table sees the same, without a fault.
    let entries = [
        memory.bed.pte(1),
        memory.bed.pte(ALIAS + 1),
        memory.bed.kernel.table(mm).get(page(0).raw() >> 12),
    ];
    assert_eq!(entries, [Pte::Present { content: TWO, bits: PteBits::CACHED }; 3]);
    assert_eq!(memory.cached(1), Some(TWO));
}

#[test]
fn a_private_mapping_follows_the_file_until_it_writes() {
    let mut memory = private(4, NONE);
    let thread = memory.bed.thread();
    memory.put(0, ONE);
    assert_eq!(memory.bed.load(thread, 0), Some(Ret::Loaded(ONE)));
    memory.put(0, TWO);
    assert_eq!(memory.bed.load(thread, 0), Some(Ret::Loaded(TWO)));
    assert!(memory.bed.kernel.space(memory.bed.mm).find(page(0)).unwrap().anon().is_none());
    memory.bed.go(thread, Call::Store { addr: page(0), content: ONE });
    assert!(memory.bed.kernel.space(memory.bed.mm).find(page(0)).unwrap().anon().is_some());
    memory.put(0, Content::Bytes(3));
    assert_eq!(memory.bed.load(thread, 0), Some(Ret::Loaded(ONE)));
    assert_eq!(memory.cached(0), Some(Content::Bytes(3)));
    // Measured: a private access to a hole adds a page to the file, a read and a write alike.
    assert_eq!(memory.bed.load(thread, 1), Some(Ret::Loaded(Content::Zero)));
    memory.bed.go(thread, Call::Store { addr: page(2), content: ONE });
    assert_eq!(
        [1, 2, 3].map(|n| memory.cached(n)),
        [Some(Content::Zero), Some(Content::Zero), None]
    );
}

#[test]
fn memory_shared_without_a_file_has_one_of_its_own_and_is_shared_with_the_child() {
    let mut memory = shared(1, NONE);
    let thread = memory.bed.thread();
    let map = Mmap::anon(2 * 4096, Prot::RW).shared().at(page(100).raw());
    for _ in 0..2 {
        // Another mapping is another file, even in the same place.
        let ret = memory.bed.kernel.run(thread, Call::Mmap(map));
        assert_eq!(ret, Ret::Ok(page(100).raw()));
        assert_eq!(memory.bed.load(thread, 100), Some(Ret::Loaded(Content::Zero)));
        memory.bed.go(thread, Call::Store { addr: page(100), content: ONE });
    }
    let Ret::Forked(child) = memory.bed.kernel.run(thread, Call::Fork) else { panic!("no child") };
    let nephew = memory.bed.kernel.new_thread(child);
    let load = Call::Load { addr: page(100) };
    assert_eq!(memory.bed.kernel.run(nephew, load.clone()), Ret::Loaded(ONE));
    let store = Call::Store { addr: page(100), content: TWO };
    assert_eq!(memory.bed.kernel.run(nephew, store), Ret::Stored);
    assert_eq!(memory.bed.kernel.run(thread, load), Ret::Loaded(TWO));
    // What parent and child map from now on without a file is not the same file.
    let apart = Mmap::anon(4096, Prot::RW).shared().at(page(200).raw());
    for who in [thread, nephew] {
        memory.bed.kernel.run(who, Call::Mmap(apart));
        let store = Call::Store { addr: page(200), content: Content::Bytes(u64::from(who.0)) };
        memory.bed.kernel.run(who, store);
    }
    let load = Call::Load { addr: page(200) };
    let loaded = Ret::Loaded(Content::Bytes(u64::from(thread.0)));
    assert_eq!(memory.bed.kernel.run(thread, load), loaded);
}

#[test]
fn c1_a_page_that_is_in_the_cache_is_not_missing() {
    for mut memory in [shared(8, MISSING), private(8, MISSING)] {
        let (reader, writer, other) =
            (memory.bed.thread(), memory.bed.thread(), memory.bed.thread());
        memory.put(0, ONE);
        assert_eq!(memory.bed.load(reader, 0), Some(Ret::Loaded(ONE)));
        memory.put(1, ONE);
        assert_eq!(memory.bed.store(writer, 1), Some(Ret::Stored));
        assert_eq!(memory.bed.read(8), []);
        assert_eq!(memory.bed.load(reader, 2), None);
        assert_eq!(memory.bed.store(writer, 3), None);
        assert_eq!(faults(&memory.bed.read(8)), [FaultFlags::empty(), FaultFlags::WRITE]);
        memory.bed.copy(2, 4);
        assert_eq!(memory.bed.on(reader), Some(Ret::Loaded(source(2))));
        assert_eq!(memory.bed.on(writer), Some(Ret::Stored));
        // A page that arrives through the other mapping is found after a wake.
        assert_eq!(memory.bed.load(other, 4), None);
        memory.put(4, TWO);
        assert!(!memory.bed.kernel.can_step(other));
        memory.bed.resolve(Request::Wake { range: span(4, 5) }, Payload::None);
        assert_eq!(memory.bed.on(other), Some(Ret::Loaded(TWO)));
    }
}

#[test]
fn c2_a_read_maps_its_cached_neighbours_in_a_window_of_sixteen_pages() {
    let cached = [0, 15, 16, 18, 31, 32];
    for how in [SHARED, PRIVATE] {
        let mut memory = Memory::new(SHMEM, how, 40, Features::empty(), MISSING);
        let thread = memory.bed.thread();
        cached.into_iter().for_each(|n| memory.put(n, ONE));
        // Measured: the window is filled before the missing page is asked for.
        assert_eq!(memory.bed.load(thread, 20), None);
        assert_eq!(present(&memory, 0..40), [16, 18, 31]);
        memory.bed.copy(20, 21);
        assert_eq!(memory.bed.on(thread), Some(Ret::Loaded(source(20))));
        // A write maps its page alone.
        memory.bed.store(thread, 0);
        assert_eq!(present(&memory, 0..16), [0]);
    }
}

#[test]
fn c2_the_window_begins_with_the_mapping_if_that_begins_inside_it() {
    let mut memory = Memory::new(SHMEM, SHARED, 40, Features::empty(), NONE);
    let thread = memory.bed.thread();
    (0..40).for_each(|n| memory.put(n, ONE));
    // Page 12 of the file at page 1000, which is 8 beyond an aligned one.
    memory.map(1000, 20, 12, SHARED);
    memory.bed.register(1000, 1020, MISSING);
    memory.poison(1003, 1004);
    assert_eq!(memory.bed.load(thread, 1001), Some(Ret::Loaded(ONE)));
    let window: Vec<u64> = (1000..1016).filter(|n| *n != 1003).collect();
    assert_eq!(present(&memory, 980..1040), window);
    assert_eq!(memory.bed.pte(1003), Pte::Marker(Marker::Poison), "what is marked stays");
    // The next one is aligned again, and ends with the mapping.
    memory.bed.load(thread, 1016);
    assert_eq!(present(&memory, 1008..1040), (1008..1020).collect::<Vec<_>>());
}

#[test]
fn c2_nothing_is_mapped_around_where_wp_is_watched() {
    for modes in [WP, MISSING | WP] {
        let mut memory = shared(16, modes);
        let thread = memory.bed.thread();
        (0..16).for_each(|n| memory.put(n, ONE));
        assert_eq!(memory.bed.load(thread, 3), Some(Ret::Loaded(ONE)));
        assert_eq!(present(&memory, 0..16), [3]);
    }
}

#[test]
fn c4_beyond_the_end_of_the_file_is_a_bus_error_and_no_message() {
    for mut memory in [shared(4, MISSING), private(4, MISSING)] {
        let thread = memory.bed.thread();
        assert_eq!(memory.truncate(2), Ret::Ok(0));
        memory.put(0, ONE);
        assert_eq!(memory.bed.load(thread, 2), Some(Ret::Signal(Signal::BusAdrErr)));
        assert!(memory.bed.pte(0).is_present(), "measured: c2 comes first");
        memory.punch(0, 1);
        assert_eq!(memory.bed.store(thread, 3), Some(Ret::Signal(Signal::BusAdrErr)));
        for write in [false, true] {
            let call = Call::Populate { range: span(2, 3), write };
            assert_eq!(memory.bed.go(thread, call), Some(Ret::Err(Errno::EFAULT)));
        }
        assert_eq!(memory.bed.load(thread, 1), None);
        assert_eq!(memory.bed.read(8).len(), 1);
        // e10, e11, e14, e16. CONTINUE alone says EINVAL (measured).
        assert_eq!(memory.bed.copy(2, 3), Outcome::mirrored(Errno::EFAULT));
        assert_eq!(memory.zero(2, 3), Outcome::mirrored(Errno::EFAULT));
        assert_eq!(memory.poison(2, 3), Outcome::mirrored(Errno::EFAULT));
        let mode = shims::ContinueMode::empty();
        assert_eq!(memory.go_on(2, 3, mode), Outcome::mirrored(Errno::EINVAL));
        assert_eq!(memory.bed.copy(1, 3), Outcome::partial(4096));
    }
}

#[test]
fn e11_v65_a_cached_page_refuses_a_copy_when_shared_and_not_when_private() {
    let mut memory = shared(4, MISSING);
    memory.put(0, ONE);
    assert_eq!(memory.bed.copy(0, 1), Outcome::mirrored(Errno::EEXIST));
    assert!(memory.bed.pte(0).is_none(), "and it is not mapped");
    assert_eq!(memory.bed.copy(1, 2), Outcome::done(4096));
    assert_eq!(memory.cached(1), Some(source(1)), "a copy goes to the file");
    assert_eq!(memory.bed.copy(1, 2), Outcome::mirrored(Errno::EEXIST));

    let mut memory = private(4, MISSING);
    let thread = memory.bed.thread();
    memory.put(0, ONE);
    assert_eq!(memory.bed.copy(0, 1), Outcome::done(4096));
    assert_eq!(memory.bed.copy(0, 1), Outcome::mirrored(Errno::EEXIST));
    assert_eq!(
        (memory.cached(0), memory.bed.load(thread, 0)),
        (Some(ONE), Some(Ret::Loaded(source(0))))
    );
    assert_eq!(memory.bed.copy(1, 2), Outcome::done(4096));
    assert_eq!(memory.cached(1), None, "a private copy is not the file's");
}

#[test]
fn e14_a_zero_page_is_the_files_when_shared_and_takes_the_place_of_markers() {
    let mut memory = shared(4, MISSING | WP);
    memory.poison(0, 1);
    memory.bed.protect(1, 2, PROTECT);
    assert_eq!(memory.zero(0, 2), Outcome::done(8192));
    assert_eq!(memory.bed.pte(1), Pte::Present { content: Content::Zero, bits: PteBits::CACHED });
    assert_eq!(memory.cached(0), Some(Content::Zero));
    memory.put(2, ONE);
    assert_eq!(memory.zero(2, 3), Outcome::mirrored(Errno::EEXIST));

    let mut memory = private(4, MISSING | WP);
    let thread = memory.bed.thread();
    memory.put(0, ONE);
    assert_eq!(memory.zero(0, 1), Outcome::done(4096), "whatever the file has there");
    assert_eq!(memory.bed.load(thread, 0), Some(Ret::Loaded(Content::Zero)));
    memory.bed.protect(1, 2, PROTECT);
    memory.poison(2, 3);
    assert_eq!(memory.zero(1, 2), Outcome::mirrored(Errno::EEXIST));
    assert_eq!(memory.zero(2, 3), Outcome::mirrored(Errno::EEXIST));
}

#[test]
fn e13_a_plain_copy_drops_the_marker_it_replaces() {
    for mut memory in [shared(2, MISSING | WP), private(2, MISSING | WP)] {
        let thread = memory.bed.thread();
        memory.bed.protect(0, 2, PROTECT);
        memory.bed.copy(0, 1);
        assert!(!is_protected(memory.bed.pte(0)));
        assert_eq!(memory.bed.store(thread, 0), Some(Ret::Stored));
        memory.bed.copy_mode(1, 2, CopyMode::WP);
        assert!(is_protected(memory.bed.pte(1)));
        assert_eq!(memory.bed.store(thread, 1), None);
        memory.bed.protect(1, 2, ALLOW);
        assert_eq!(memory.bed.on(thread), Some(Ret::Stored));
    }
}

#[test]
fn e16_poison_is_this_mappings_alone() {
    for mut memory in [shared(4, MISSING), private(4, MISSING)] {
        let (thread, other) = (memory.bed.thread(), memory.bed.thread());
        memory.put(0, ONE);
        assert_eq!(memory.poison(0, 1), Outcome::done(4096), "cached, but not mapped here");
        assert_eq!(memory.poison(0, 1), Outcome::mirrored(Errno::EEXIST));
        assert_eq!(memory.bed.load(thread, 0), Some(Ret::Signal(Signal::BusPoison)));
        assert_eq!(memory.bed.load(other, ALIAS), Some(Ret::Loaded(ONE)));
        memory.drop_page(0);
        assert_eq!(memory.bed.load(thread, 0), Some(Ret::Loaded(ONE)));
        assert_eq!(memory.poison(0, 1), Outcome::mirrored(Errno::EEXIST));
    }
}

#[test]
fn e20_v58_shared_memory_and_files_are_not_moved() {
    for how in [SHARED, PRIVATE] {
        let mut memory = Memory::new(SHMEM, how, 8, Features::empty(), MISSING);
        memory.bed.copy(0, 1);
        let request = Request::Move { dst: span(2, 3), src: page(0), mode: MoveMode::empty() };
        let outcome = memory.bed.resolve(request, Payload::None);
        assert_eq!(outcome, Outcome::mirrored(Errno::EINVAL));
    }
}

#[test]
fn b5_b6_what_can_be_registered_and_what_is_granted() {
    let memory = |how| Memory::new(SHMEM, how, 4, Features::empty(), NONE);
    let minor = RegisterModes::MINOR;
    for how in [SHARED, PRIVATE] {
        let masks = [
            (MISSING, 0x13c),
            (WP, 0x17c),
            (minor, 0x1bc),
            (MISSING | WP, 0x17c),
            (MISSING | minor, 0x1bc),
            (WP | minor, 0x1fc),
            (MISSING | WP | minor, 0x1fc),
        ];
        for (modes, mask) in masks {
            assert_eq!(memory(how).bed.register(0, 4, modes), Ret::Ok(mask), "{modes:?}");
        }
    }
    // A file that was opened for reading may be watched privately only.
    let mut memory = memory(SHARED);
    let read_only = memory.file.read_only();
    for (how, at, ret) in [(SHARED, 50, Ret::Err(Errno::EPERM)), (PRIVATE, 60, Ret::Ok(0x13c))] {
        let map = Mmap::file(read_only, 0, 4096, Prot::READ, how).at(page(at).raw());
        memory.bed.kernel.run(memory.bed.handler, Call::Mmap(map));
        assert_eq!(memory.bed.register(at, at + 1, MISSING), ret);
    }
    // Anonymous memory is never MINOR.
    let map = Mmap::fixed(page(70).raw(), 4096, Prot::RW);
    memory.bed.kernel.run(memory.bed.handler, Call::Mmap(map));
    assert_eq!(memory.bed.register(70, 71, minor), Ret::Err(Errno::EINVAL));
}

#[test]
fn f1_protection_of_what_is_absent_is_a_marker() {
    for mut memory in [shared(4, WP), private(4, WP)] {
        let (reader, writer) = (memory.bed.thread(), memory.bed.thread());
        memory.put(0, ONE);
        memory.bed.protect(0, 4, PROTECT);
        assert_eq!((0..4).map(|n| memory.bed.pte(n)).collect::<Vec<_>>(), [MARKER; 4]);
        // The page comes protected, cached or not; a read of it is silent.
        assert_eq!(memory.bed.load(reader, 0), Some(Ret::Loaded(ONE)));
        assert_eq!(memory.bed.load(reader, 1), Some(Ret::Loaded(Content::Zero)));
        assert!(is_protected(memory.bed.pte(0)) && is_protected(memory.bed.pte(1)));
        assert_eq!(memory.cached(1), Some(Content::Zero));
        // Measured: a write to the marker is one message, with both flags.
        assert_eq!(memory.bed.store(writer, 2), None);
        assert_eq!(faults(&memory.bed.read(8)), [FaultFlags::WRITE | FaultFlags::WP]);
        assert!(is_protected(memory.bed.pte(2)));
        memory.bed.protect(0, 4, ALLOW);
        assert_eq!(memory.bed.on(writer), Some(Ret::Stored));
        assert_eq!(memory.bed.pte(3), Pte::None);
        assert_eq!(memory.bed.store(writer, 0), Some(Ret::Stored));
    }
}

#[test]
fn f3_v59_removal_leaves_the_protection_behind() {
    for how in [SHARED, PRIVATE] {
        let mut memory = Memory::new(SHMEM, how, 4, Features::empty(), WP);
        let writer = memory.bed.thread();
        memory.bed.store(writer, 0);
        memory.put(1, ONE);
        memory.bed.load(writer, 1);
        memory.bed.protect(0, 4, PROTECT);
        assert_eq!(memory.dont_need(0, 4), Ret::Ok(0));
        assert_eq!((0..4).map(|n| memory.bed.pte(n)).collect::<Vec<_>>(), [MARKER; 4]);
        assert_eq!(memory.bed.store(writer, 1), None, "the next write is trapped");
        // b13: what ends the watch takes the markers with it.
        let (ctx, handler) = (memory.bed.ctx, memory.bed.handler);
        memory.bed.kernel.run(handler, Call::Unregister { ctx, range: span(0, 4) });
        assert_eq!(memory.bed.pte(0), Pte::None);
    }
}

#[test]
fn d11_what_is_dropped_from_a_mapping_is_still_in_the_file() {
    let mut memory = Memory::new(SHMEM, SHARED, 4, Features::empty(), MISSING);
    let thread = memory.bed.thread();
    memory.bed.copy(0, 1);
    memory.bed.store(thread, 0);
    let stored = memory.cached(0).unwrap();
    memory.dont_need(0, 4);
    assert!(memory.bed.pte(0).is_none());
    assert_eq!(memory.bed.load(thread, 0), Some(Ret::Loaded(stored)));

    // The private copy is gone, and the file is silent about what it has.
    let mut memory = Memory::new(SHMEM, PRIVATE, 4, Features::empty(), MISSING);
    let thread = memory.bed.thread();
    memory.put(0, ONE);
    memory.bed.store(thread, 0);
    memory.dont_need(0, 4);
    assert_eq!(memory.bed.load(thread, 0), Some(Ret::Loaded(ONE)));
}

#[test]
fn d26_a_child_gets_the_entries_of_shared_memory_only_where_wp_is_watched() {
    let mut plain = Memory::new(SHMEM, SHARED, 4, Features::EVENT_FORK, MISSING);
    plain.bed.copy(0, 1);
    plain.poison(1, 2);
    let forker = plain.bed.thread();
    assert_eq!(plain.bed.go(forker, Call::Fork), None);
    assert_eq!(plain.bed.read(1).len(), 1);
    let Some(Ret::Forked(child)) = plain.bed.on(forker) else { panic!("no child") };
    let entry = |memory: &Memory, child, n| memory.bed.kernel.table(child).get(page(n).raw() >> 12);
    assert_eq!(entry(&plain, child, 0), Pte::None, "it is found in the file again");
    assert_eq!(entry(&plain, child, 1), Pte::None, "e16: poison is not inherited");

    for (features, kept) in [(Features::EVENT_FORK, true), (Features::empty(), false)] {
        let mut memory = Memory::new(SHMEM, SHARED, 4, features, MISSING | WP);
        memory.bed.copy(0, 1);
        memory.bed.protect(0, 2, PROTECT);
        memory.poison(2, 3);
        let forker = memory.bed.thread();
        memory.bed.go(forker, Call::Fork);
        memory.bed.read(1);
        let ret = memory.bed.on(forker).or_else(|| memory.bed.kernel.take_ret(forker));
        let child = sim::kernel::MmId(1);
        assert!(matches!(ret, Some(Ret::Forked(id)) if id == child) || !kept);
        assert_eq!(is_protected(entry(&memory, child, 0)), kept);
        assert_eq!(entry(&memory, child, 1), if kept { MARKER } else { Pte::None });
        let poison = if kept { Pte::Marker(Marker::Poison) } else { Pte::None };
        assert_eq!(entry(&memory, child, 2), poison);
        // The page is still one: what the parent may write, the child reads.
        memory.bed.protect(0, 1, ALLOW);
        memory.put(0, TWO);
        let reader = memory.bed.kernel.new_thread(child);
        let load = Call::Load { addr: page(0) };
        assert_eq!(memory.bed.kernel.run(reader, load), Ret::Loaded(TWO));
    }
}

#[test]
fn d26_private_copies_of_a_file_are_shared_with_the_child_until_written() {
    let mut memory = Memory::new(SHMEM, PRIVATE, 4, Features::empty(), MISSING);
    let thread = memory.bed.thread();
    memory.bed.copy(0, 1);
    memory.put(1, ONE);
    memory.bed.load(thread, 1);
    let Ret::Forked(child) = memory.bed.kernel.run(thread, Call::Fork) else { panic!("no child") };
    let nephew = memory.bed.kernel.new_thread(child);
    let load = |n| Call::Load { addr: page(n) };
    assert_eq!(memory.bed.kernel.run(nephew, load(0)), Ret::Loaded(source(0)));
    assert_eq!(memory.bed.kernel.run(nephew, load(1)), Ret::Loaded(ONE));
    memory.bed.go(thread, Call::Store { addr: page(0), content: TWO });
    assert_eq!(memory.bed.kernel.run(nephew, load(0)), Ret::Loaded(source(0)));
    memory.put(1, TWO);
    assert_eq!(memory.bed.kernel.run(nephew, load(1)), Ret::Loaded(TWO), "that one is the file's");
}

#[test]
fn d19_mremap_takes_the_entries_along_and_strips_them_without_event_remap() {
    for features in [Features::EVENT_REMAP, Features::empty()] {
        let mut memory = Memory::new(SHMEM, SHARED, 4, features, WP);
        let thread = memory.bed.thread();
        memory.put(0, ONE);
        memory.bed.load(thread, 0);
        memory.bed.protect(0, 4, PROTECT);
        let flags = RemapFlags::MAYMOVE | RemapFlags::FIXED;
        let (old, new) = (page(0).raw(), page(500).raw());
        let call = Mremap { old, old_len: 4 * 4096, new_len: 4 * 4096, flags, new };
        memory.bed.go(thread, Call::Mremap(call));
        memory.bed.read(8);
        memory.bed.on(thread);
        let kept = features.contains(Features::EVENT_REMAP);
        assert_eq!(is_protected(memory.bed.pte(500)), kept);
        assert_eq!(memory.bed.pte(501), if kept { MARKER } else { Pte::None });
        assert!(memory.bed.pte(0).is_none());
        // It is the same file at its new place.
        memory.put(0, TWO);
        let reader = memory.bed.thread();
        assert_eq!(memory.bed.load(reader, 500), Some(Ret::Loaded(TWO)));
    }
}

#[test]
fn c9_mincore_counts_what_the_file_has() {
    for mut memory in [shared(4, MISSING), private(4, MISSING)] {
        memory.put(0, ONE);
        memory.put(1, ONE);
        memory.poison(1, 2);
        memory.bed.copy(2, 3);
        let seen = memory.bed.kernel.mincore(memory.bed.mm, span(0, 4));
        assert_eq!(seen, Ok(vec![true, true, true, false]), "measured");
    }
}

#[test]
fn what_is_not_modelled_is_refused_by_name() {
    let mut memory = shared(2, NONE);
    let thread = memory.bed.thread();
    let kernel = &mut memory.bed.kernel;
    let map = |id, kind| {
        Call::Mmap(Mmap::file(MapFile::rw(id, kind), 0, 4096, Prot::RW, MapFlags::SHARED))
    };
    assert_eq!(kernel.memory_file(FileKind::Regular, 0), Err(Errno::ENOTMODELLED));
    let huge = FileKind::Hugetlb(shims::PageSize::from_bytes(1 << 30).unwrap());
    assert_eq!(kernel.memory_file(huge, 0), Err(Errno::ENOTMODELLED));
    assert_eq!(kernel.run(thread, map(FileId(9), SHMEM)), Ret::Err(Errno::EBADF));
    let part = Call::Punch { file: memory.file.id, start: 100, len: 4096 };
    assert_eq!(memory.bed.kernel.run(thread, part), Ret::Err(Errno::ENOTMODELLED));
    let part = Call::Ftruncate { file: memory.file.id, size: 100 };
    assert_eq!(memory.bed.kernel.run(thread, part), Ret::Err(Errno::ENOTMODELLED));
}
