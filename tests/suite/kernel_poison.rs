//! Pages that fail on purpose, accesses that get a signal instead of a message, and the byte
//! an access went to. Each test names the rule it holds the kernel to.

use shims::{
    Errno, Event, Features, Len, Outcome, PoisonMode, RegisterModes, Request, Span,
    WriteProtectMode, ZeropageMode,
};
use sim::kernel::{Call, Did, Marker, Payload, Pte, Ret, Signal, Sleep};
use sim::{Content, Profile};

use crate::support::{Bed, page, source, span};

const BOTH: RegisterModes = RegisterModes::MISSING.union(RegisterModes::WP);

fn poison(bed: &mut Bed, start: u64, end: u64) -> Outcome {
    let request = Request::Poison { range: span(start, end), mode: PoisonMode::empty() };
    bed.resolve(request, Payload::None)
}

#[test]
fn c12_an_access_to_a_poisoned_page_is_a_signal_and_a_populate_an_error() {
    let mut bed = Bed::new(2);
    let (sleeper, thread) = (bed.thread(), bed.thread());
    assert_eq!(bed.load(sleeper, 0), None);
    assert_eq!(bed.read(8).len(), 1);
    assert_eq!(poison(&mut bed, 0, 1), Outcome::done(4096));
    assert_eq!(bed.on(sleeper), Some(Ret::Signal(Signal::BusPoison)), "POISON wakes (e5)");
    assert_eq!(bed.store(thread, 0), Some(Ret::Signal(Signal::BusPoison)));
    for write in [false, true] {
        let populate = Call::Populate { range: span(0, 1), write };
        assert_eq!(bed.go(thread, populate), Some(Ret::Err(Errno::EHWPOISON)));
    }
    assert!(bed.read(8).is_empty(), "nobody asks for a poisoned page");
}

#[test]
fn e16_poison_needs_an_empty_entry() {
    let mut bed = Bed::registered(4, Profile::default(), Features::WP_UNPOPULATED, BOTH);
    bed.copy(2, 3);
    bed.protect(3, 4, WriteProtectMode::WP);
    assert_eq!(poison(&mut bed, 0, 3), Outcome::partial(2 * 4096));
    assert_eq!(poison(&mut bed, 2, 3), Outcome::mirrored(Errno::EEXIST));
    assert_eq!(poison(&mut bed, 0, 1), Outcome::mirrored(Errno::EEXIST));
    assert_eq!(poison(&mut bed, 3, 4), Outcome::mirrored(Errno::EEXIST));
    let unknown = Request::Poison { range: span(0, 1), mode: PoisonMode::from_bits_retain(2) };
    assert_eq!(bed.resolve(unknown, Payload::None), Outcome::bare(Errno::EINVAL));
}

#[test]
fn e16_a_copy_replaces_poison_and_a_zero_page_does_not() {
    let mut bed = Bed::new(1);
    let thread = bed.thread();
    poison(&mut bed, 0, 1);
    let zero = Request::Zeropage { range: span(0, 1), mode: ZeropageMode::empty() };
    assert_eq!(bed.resolve(zero, Payload::None), Outcome::mirrored(Errno::EEXIST));
    assert_eq!(bed.copy(0, 1), Outcome::done(4096));
    assert_eq!(bed.load(thread, 0), Some(Ret::Loaded(source(0))));
}

#[test]
fn e16_write_protection_passes_poison_by() {
    // Measured: signals before, between and after the two.
    let mut bed = Bed::registered(1, Profile::default(), Features::WP_UNPOPULATED, BOTH);
    let thread = bed.thread();
    poison(&mut bed, 0, 1);
    for mode in [WriteProtectMode::WP, WriteProtectMode::empty()] {
        assert_eq!(bed.protect(0, 1, mode), Outcome::OK);
        assert_eq!(bed.load(thread, 0), Some(Ret::Signal(Signal::BusPoison)));
    }
}

#[test]
fn b15_poison_outlives_the_registration_and_ends_with_a_removal() {
    let mut bed = Bed::with(1, Profile::default(), Features::empty());
    let thread = bed.thread();
    poison(&mut bed, 0, 1);
    let (ctx, handler) = (bed.ctx, bed.handler);
    bed.kernel.run(handler, Call::Unregister { ctx, range: span(0, 1) });
    assert_eq!(bed.pte(0), Pte::Marker(Marker::Poison));
    assert_eq!(bed.load(thread, 0), Some(Ret::Signal(Signal::BusPoison)));
    bed.kernel.begin(thread, Call::DontNeed { range: span(0, 1) });
    assert_eq!(bed.step(thread), Did::ZapMarker { page: page(0) });
    assert_eq!(bed.on(thread), Some(Ret::Ok(0)));
    assert_eq!(bed.load(thread, 0), Some(Ret::Loaded(Content::Zero)));
}

#[test]
fn a_kernel_without_the_feature_does_not_know_the_ioctl() {
    let mut bed = Bed::with(1, Profile::linux_5_13(), Features::empty());
    assert_eq!(poison(&mut bed, 0, 1), Outcome::bare(Errno::EINVAL));
    assert_eq!(bed.pte(0), Pte::None);
}

#[test]
fn c5_c6_the_feature_sigbus_sends_a_signal_and_no_message() {
    let mut bed = Bed::registered(2, Profile::default(), Features::SIGBUS, BOTH);
    let thread = bed.thread();
    assert_eq!(bed.load(thread, 0), Some(Ret::Signal(Signal::BusAdrErr)));
    let populate = |write| Call::Populate { range: span(0, 1), write };
    assert_eq!(bed.go(thread, populate(false)), Some(Ret::Err(Errno::EFAULT)));
    bed.copy_mode(0, 1, shims::CopyMode::WP);
    assert_eq!(bed.load(thread, 0), Some(Ret::Loaded(source(0))));
    assert_eq!(bed.store(thread, 0), Some(Ret::Signal(Signal::BusAdrErr)));
    assert_eq!(bed.go(thread, populate(true)), Some(Ret::Err(Errno::EFAULT)));
    assert!(!bed.kernel.ctx(bed.ctx).readable());
    bed.protect(0, 1, WriteProtectMode::empty());
    assert_eq!(bed.store(thread, 0), Some(Ret::Stored));
}

#[test]
fn c7_the_message_has_the_page_or_with_exact_address_the_byte() {
    for (features, expected) in [(Features::empty(), 0), (Features::EXACT_ADDRESS, 0x123)] {
        let mut bed = Bed::with(2, Profile::default(), features);
        let thread = bed.thread();
        let byte = |n| page(1).checked_add(Len::new(n)).unwrap();
        assert_eq!(bed.go(thread, Call::Load { addr: byte(0x123) }), None);
        let events = bed.read(8);
        assert!(
            matches!(events[..], [Event::Fault(fault)] if fault.addr == byte(expected)),
            "{events:?}"
        );
        let sleep = Sleep::Fault { addr: byte(expected), write: false, taken: true };
        assert_eq!(bed.kernel.sleep(thread), Some(sleep));
        assert_eq!(bed.copy(1, 2), Outcome::done(4096));
        assert_eq!(bed.on(thread), Some(Ret::Loaded(source(1))));
    }
}

#[test]
fn c11_a_wake_goes_by_the_address_in_the_message() {
    let mut bed = Bed::with(3, Profile::default(), Features::EXACT_ADDRESS);
    let thread = bed.thread();
    let last = page(1).checked_add(Len::new(0xfff)).unwrap();
    bed.go(thread, Call::Load { addr: last });
    for other in [span(0, 1), span(2, 3)] {
        bed.resolve(Request::Wake { range: other }, Payload::None);
        assert!(!bed.kernel.can_step(thread));
    }
    let whole = Span::new(page(1), Len::new(4096));
    bed.resolve(Request::Wake { range: whole }, Payload::None);
    assert!(bed.kernel.can_step(thread));
}
