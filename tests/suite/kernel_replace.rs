//! A page that a write replaces (rule c10): who looks meanwhile without a lock finds nothing.
//! What a comment calls measured was seen on 6.18.

use shims::{Features, Outcome, RegisterModes, Request, ZeropageMode};
use sim::Content;
use sim::kernel::{Call, Did, Payload, Pte, Ret, ThreadId};

use crate::support::memory::{Memory, PRIVATE, SHMEM};
use crate::support::{Bed, page, source, span};

fn zero(bed: &mut Bed) -> Outcome {
    let request = Request::Zeropage { range: span(0, 1), mode: ZeropageMode::empty() };
    bed.resolve(request, Payload::None)
}

fn store(n: u64) -> Call {
    Call::Store { addr: page(n), content: Content::Bytes(7) }
}

/// A load that has queued its message and not looked again, on the zero page that came between
/// its two looks.
fn about_to_look() -> (Bed, ThreadId, ThreadId) {
    let mut bed = Bed::with(1, sim::Profile::default(), Features::empty());
    let (guest, writer) = (bed.thread(), bed.thread());
    bed.kernel.begin(guest, Call::Load { addr: page(0) });
    assert!(matches!(bed.step(guest), Did::Miss { .. }));
    assert_eq!(zero(&mut bed), Outcome::done(4096));
    assert!(matches!(bed.step(guest), Did::QueueFault { .. }));
    (bed, guest, writer)
}

#[test]
fn c10_a_look_while_the_page_is_replaced_finds_nothing_and_the_load_sleeps() {
    // Measured: 2 of 100,000 rounds on a busy machine.
    let (mut bed, guest, writer) = about_to_look();
    bed.kernel.begin(writer, store(0));
    assert!(matches!(bed.step(writer), Did::Replace { .. }));
    assert!(matches!(bed.step(guest), Did::Sleep { .. }));
    assert!(matches!(bed.step(writer), Did::Store { .. }));
    // Asleep on a page that is there, with a message; and only a wake helps.
    assert!(matches!(bed.pte(0), Pte::Present { content: Content::Bytes(7), .. }));
    assert_eq!(bed.read(8).len(), 1);
    assert_eq!(zero(&mut bed), Outcome::mirrored(shims::Errno::EEXIST));
    assert!(!bed.kernel.can_step(guest));
    bed.resolve(Request::Wake { range: span(0, 1) }, Payload::None);
    assert_eq!(bed.on(guest), Some(Ret::Loaded(Content::Bytes(7))));
}

#[test]
fn c10_a_look_before_or_behind_that_finds_a_page() {
    let (mut bed, guest, writer) = about_to_look();
    bed.kernel.begin(writer, store(0));
    bed.step(writer);
    assert!(matches!(bed.step(writer), Did::Store { .. }));
    assert!(matches!(bed.step(guest), Did::SkipSleep { .. }));

    let (mut bed, guest, writer) = about_to_look();
    assert!(matches!(bed.step(guest), Did::SkipSleep { .. }));
    bed.kernel.begin(writer, store(0));
    assert!(matches!(bed.step(writer), Did::Store { .. }), "nobody looks: one step");
    assert_eq!(bed.on(guest), Some(Ret::Loaded(Content::Bytes(7))));
}

#[test]
fn c10_a_page_that_goes_and_comes_meanwhile_has_no_gap() {
    // Whoever takes the page away has waited for the lock, so that the new page was in place.
    let (mut bed, guest, writer) = about_to_look();
    bed.kernel.begin(writer, store(0));
    bed.step(writer);
    let other = bed.thread();
    assert_eq!(bed.go(other, Call::DontNeed { range: span(0, 1) }), Some(Ret::Ok(0)));
    let request = Request::Copy { dst: span(0, 1), mode: shims::CopyMode::DONTWAKE };
    assert_eq!(bed.resolve(request, Payload::One(source(0))), Outcome::done(4096));
    assert!(matches!(bed.step(guest), Did::SkipSleep { .. }));
    assert_eq!(bed.on(writer), Some(Ret::Stored));
}

#[test]
fn c10_a_load_of_a_private_file_faults_because_the_entry_is_empty() {
    // Measured by random programs, again and again: here the first look is at the file alone.
    let mut memory = Memory::new(SHMEM, PRIVATE, 4, Features::empty(), RegisterModes::MISSING);
    let (guest, writer) = (memory.bed.thread(), memory.bed.thread());
    assert_eq!(memory.zero(0, 1), Outcome::done(4096));
    memory.bed.kernel.begin(writer, store(0));
    assert!(matches!(memory.bed.step(writer), Did::Replace { .. }));
    memory.bed.kernel.begin(guest, Call::Load { addr: page(0) });
    assert!(matches!(memory.bed.step(guest), Did::Miss { .. }));
    assert!(matches!(memory.bed.step(guest), Did::QueueFault { .. }));
    assert!(matches!(memory.bed.step(guest), Did::Sleep { .. }));
    assert_eq!(memory.bed.on(writer), Some(Ret::Stored));
    assert_eq!(memory.bed.read(8).len(), 1);
    memory.bed.resolve(Request::Wake { range: span(0, 1) }, Payload::None);
    assert_eq!(memory.bed.on(guest), Some(Ret::Loaded(Content::Bytes(7))));
}
