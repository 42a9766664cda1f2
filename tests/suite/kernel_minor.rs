//! `MINOR` faults and `CONTINUE` (rules c2, e15): a page that its file has and the mapping has
//! not. What a comment calls measured was seen on 6.18.

use shims::{ContinueMode, Errno, Event, FaultFlags, Features, Outcome, RegisterModes};
use sim::Content;
use sim::kernel::{Call, Did, Marker, Pte, PteBits, Ret};
use sim::vma::{Mmap, Prot};

use crate::support::memory::{Memory, PRIVATE, SHARED, SHMEM};
use crate::support::{page, source, span};

const MINOR: RegisterModes = RegisterModes::MINOR;
const ALL: RegisterModes =
    RegisterModes::MINOR.union(RegisterModes::MISSING).union(RegisterModes::WP);
const PLAIN: ContinueMode = ContinueMode::empty();
const ONE: Content = Content::Bytes(1);
const TWO: Content = Content::Bytes(2);

fn memory(how: sim::vma::MapFlags, modes: RegisterModes) -> Memory {
    Memory::new(SHMEM, how, 16, Features::empty(), modes)
}

fn flags(events: &[Event]) -> Vec<FaultFlags> {
    let fault = |event: &Event| match event {
        Event::Fault(fault) => fault.flags,
        event => panic!("{event} is no fault"),
    };
    events.iter().map(fault).collect()
}

#[test]
fn c2_v63_what_is_cached_and_not_mapped_is_asked_for_and_a_hole_is_not() {
    for how in [SHARED, PRIVATE] {
        let mut memory = memory(how, MINOR);
        let (reader, writer) = (memory.bed.thread(), memory.bed.thread());
        memory.put(0, ONE);
        memory.put(1, ONE);
        memory.bed.kernel.begin(reader, Call::Load { addr: page(0) });
        assert_eq!(memory.bed.step(reader), Did::MissMinor { page: page(0), write: false });
        assert!(matches!(memory.bed.step(reader), Did::QueueFault { minor: true, wp: false, .. }));
        assert!(matches!(memory.bed.step(reader), Did::Sleep { .. }));
        assert_eq!(memory.bed.store(writer, 1), None);
        let expected = [FaultFlags::MINOR, FaultFlags::MINOR | FaultFlags::WRITE];
        assert_eq!(flags(&memory.bed.read(8)), expected);
        assert_eq!(memory.go_on(0, 2, PLAIN), Outcome::done(8192));
        assert_eq!(memory.bed.on(reader), Some(Ret::Loaded(ONE)));
        assert_eq!(memory.bed.on(writer), Some(Ret::Stored));
        // A private write goes to a copy, after CONTINUE has mapped the file's page.
        assert_eq!(memory.cached(1) == Some(ONE), how == PRIVATE);
        // Without MISSING a hole is filled, and nobody is asked.
        assert_eq!(memory.bed.load(reader, 5), Some(Ret::Loaded(Content::Zero)));
        assert_eq!(memory.bed.store(writer, 6), Some(Ret::Stored));
        assert_eq!(memory.bed.read(8), []);
        assert!(memory.cached(5).is_some() && memory.cached(6).is_some());
    }
}

#[test]
fn c2_with_missing_a_hole_is_missing_and_a_cached_page_minor() {
    for how in [SHARED, PRIVATE] {
        let mut memory = memory(how, ALL);
        let (one, two) = (memory.bed.thread(), memory.bed.thread());
        memory.put(0, ONE);
        assert_eq!(memory.bed.load(one, 0), None);
        assert_eq!(memory.bed.load(two, 1), None);
        assert_eq!(flags(&memory.bed.read(8)), [FaultFlags::MINOR, FaultFlags::empty()]);
        // e15: a missing page is filled through the other mapping, and then gone on with.
        memory.put(1, TWO);
        assert_eq!(memory.go_on(0, 2, PLAIN), Outcome::done(8192));
        assert_eq!(memory.bed.on(one), Some(Ret::Loaded(ONE)));
        assert_eq!(memory.bed.on(two), Some(Ret::Loaded(TWO)));
        // Nothing is mapped around a page where MINOR is watched.
        memory.put(2, ONE);
        assert!(memory.bed.pte(2).is_none());
    }
}

#[test]
fn c8_two_threads_on_one_page_are_two_messages_and_one_continue_wakes_both() {
    let mut memory = memory(SHARED, MINOR);
    let (one, two) = (memory.bed.thread(), memory.bed.thread());
    memory.put(3, ONE);
    assert_eq!((memory.bed.load(one, 3), memory.bed.load(two, 3)), (None, None));
    assert_eq!(memory.bed.read(8).len(), 2);
    assert_eq!(memory.go_on(3, 4, ContinueMode::DONTWAKE), Outcome::done(4096));
    assert!(!memory.bed.kernel.can_step(one));
    assert_eq!(memory.go_on(3, 4, PLAIN), Outcome::mirrored(Errno::EEXIST));
    assert!(!memory.bed.kernel.can_step(two), "a failed CONTINUE wakes nobody");
    memory.bed.resolve(shims::Request::Wake { range: span(3, 4) }, Default::default());
    assert_eq!(memory.bed.on(one), Some(Ret::Loaded(ONE)));
    assert_eq!(memory.bed.on(two), Some(Ret::Loaded(ONE)));
}

#[test]
fn c10_a_minor_faulter_does_not_sleep_if_its_page_has_come() {
    let mut memory = memory(SHARED, MINOR);
    let thread = memory.bed.thread();
    memory.put(0, ONE);
    memory.bed.kernel.begin(thread, Call::Load { addr: page(0) });
    memory.bed.step(thread);
    memory.go_on(0, 1, PLAIN);
    memory.bed.step(thread);
    assert_eq!(memory.bed.step(thread), Did::SkipSleep { page: page(0) });
    assert_eq!(memory.bed.on(thread), Some(Ret::Loaded(ONE)));
    assert_eq!(memory.bed.kernel.ctx(memory.bed.ctx).faults_waiting(), 0);
}

#[test]
fn e15_what_continue_answers() {
    for how in [SHARED, PRIVATE] {
        let mut memory = memory(how, ALL);
        memory.put(0, ONE);
        assert_eq!(memory.go_on(0, 1, PLAIN), Outcome::done(4096));
        assert_eq!(memory.go_on(0, 1, PLAIN), Outcome::mirrored(Errno::EEXIST));
        assert_eq!(memory.go_on(1, 2, PLAIN), Outcome::mirrored(Errno::EFAULT));
        memory.put(2, ONE);
        assert_eq!(memory.go_on(2, 4, PLAIN), Outcome::partial(4096));
        let unknown = ContinueMode::from_bits_retain(4);
        assert_eq!(memory.go_on(2, 3, unknown), Outcome::bare(Errno::EINVAL));
        // Measured: markers of both kinds are replaced.
        memory.put(4, ONE);
        memory.put(5, ONE);
        memory.poison(4, 5);
        memory.bed.protect(5, 6, shims::WriteProtectMode::WP);
        assert_eq!(memory.go_on(4, 6, PLAIN), Outcome::done(8192));
        assert!(memory.bed.pte(4).is_present());
        let Pte::Present { bits, .. } = memory.bed.pte(5) else { panic!("page 5 is not there") };
        assert!(!bits.contains(PteBits::UFFD_WP));
        // Measured: a page of the mapping's own is no page of the file.
        memory.bed.copy(7, 8);
        let errno = if how == PRIVATE { Errno::EFAULT } else { Errno::EEXIST };
        assert_eq!(memory.go_on(7, 8, PLAIN), Outcome::mirrored(errno));
    }
    let mut anon = crate::support::Bed::new(2);
    let request = shims::Request::Continue { range: span(0, 1), mode: PLAIN };
    let outcome = anon.resolve(request, Default::default());
    assert_eq!(outcome, Outcome::mirrored(Errno::EINVAL), "not anonymous memory");
}

#[test]
fn e7_e15_continue_with_protection_needs_wp_and_traps_the_next_write() {
    for how in [SHARED, PRIVATE] {
        let mut without = memory(how, MINOR);
        without.put(0, ONE);
        let refused = without.go_on(0, 1, ContinueMode::WP);
        assert_eq!(refused, Outcome::mirrored(Errno::EINVAL));

        let mut memory = memory(how, ALL);
        let writer = memory.bed.thread();
        memory.put(0, ONE);
        assert_eq!(memory.bed.store(writer, 0), None);
        assert_eq!(flags(&memory.bed.read(8)), [FaultFlags::WRITE | FaultFlags::MINOR]);
        assert_eq!(memory.go_on(0, 1, ContinueMode::WP), Outcome::done(4096));
        assert_eq!(memory.bed.on(writer), None);
        assert_eq!(flags(&memory.bed.read(8)), [FaultFlags::WRITE | FaultFlags::WP]);
        memory.bed.protect(0, 1, shims::WriteProtectMode::empty());
        assert_eq!(memory.bed.on(writer), Some(Ret::Stored));
        assert_eq!(memory.cached(0) == Some(ONE), how == PRIVATE);
    }
}

#[test]
fn c3_a_write_to_a_marker_is_minor_before_it_is_trapped() {
    let mut memory = memory(SHARED, ALL);
    let writer = memory.bed.thread();
    memory.put(0, ONE);
    memory.bed.protect(0, 1, shims::WriteProtectMode::WP);
    assert_eq!(memory.bed.store(writer, 0), None);
    assert_eq!(flags(&memory.bed.read(8)), [FaultFlags::WRITE | FaultFlags::MINOR]);
    assert_eq!(memory.bed.pte(0), Pte::Marker(Marker::WriteProtect));
    // Measured: a plain CONTINUE takes the protection away.
    memory.go_on(0, 1, PLAIN);
    assert_eq!(memory.bed.on(writer), Some(Ret::Stored));
    assert_eq!(memory.bed.read(8), []);
}

#[test]
fn d11_dropping_a_page_arms_it_again() {
    let mut memory = memory(SHARED, MINOR);
    let thread = memory.bed.thread();
    memory.put(0, ONE);
    memory.go_on(0, 1, PLAIN);
    assert_eq!(memory.bed.load(thread, 0), Some(Ret::Loaded(ONE)));
    for _ in 0..2 {
        assert_eq!(memory.dont_need(0, 1), Ret::Ok(0));
        assert_eq!(memory.bed.load(thread, 0), None);
        assert_eq!(flags(&memory.bed.read(8)), [FaultFlags::MINOR]);
        memory.go_on(0, 1, PLAIN);
        assert_eq!(memory.bed.on(thread), Some(Ret::Loaded(ONE)));
    }
}

#[test]
fn two_processes_over_one_file_are_asked_separately_and_see_the_same_bytes() {
    let mut memory = memory(SHARED, MINOR);
    let here = memory.bed.thread();
    let mm = memory.bed.kernel.new_mm();
    let (there, helper) = (memory.bed.kernel.new_thread(mm), memory.bed.kernel.new_thread(mm));
    let map = Mmap::file(memory.file, 0, 16 * 4096, Prot::RW, SHARED).at(page(0).raw());
    memory.bed.kernel.run(helper, Call::Mmap(map));
    let theirs = memory.bed.kernel.userfaultfd(mm, Features::empty()).unwrap();
    let register = Call::Register { ctx: theirs, range: span(0, 16), modes: MINOR };
    assert_eq!(memory.bed.kernel.run(helper, register), Ret::Ok(0x1bc));
    memory.put(0, ONE);
    assert_eq!(memory.bed.load(here, 0), None);
    assert_eq!(memory.bed.go(there, Call::Load { addr: page(0) }), None);
    assert_eq!(memory.bed.read(8).len(), 1, "each context hears of its own");
    memory.go_on(0, 1, PLAIN);
    assert_eq!(memory.bed.on(here), Some(Ret::Loaded(ONE)));
    assert!(!memory.bed.kernel.can_step(there));
    memory.bed.go(here, Call::Store { addr: page(0), content: TWO });
    let request = shims::Request::Continue { range: span(0, 1), mode: PLAIN };
    let call = Call::Resolve { ctx: theirs, request, payload: Default::default() };
    assert_eq!(memory.bed.kernel.run(helper, call), Ret::Outcome(Outcome::done(4096)));
    assert_eq!(memory.bed.on(there), Some(Ret::Loaded(TWO)));
}

#[test]
fn h_older_kernels_have_no_minor_faults_on_tmpfs() {
    let profile = sim::Profile::linux_5_13();
    let none = RegisterModes::empty();
    let mut old = Memory::of(profile, SHMEM, SHARED, 4, Features::empty(), none);
    assert_eq!(old.bed.register(0, 4, MINOR), Ret::Err(Errno::EINVAL));
    assert_eq!(old.bed.register(0, 4, RegisterModes::WP), Ret::Err(Errno::EINVAL));
    assert_eq!(old.bed.register(0, 4, RegisterModes::MISSING), Ret::Ok(0x1c));
    assert_eq!(old.bed.copy(0, 1), Outcome::done(4096));
    assert_eq!(old.cached(0), Some(source(0)));
}
