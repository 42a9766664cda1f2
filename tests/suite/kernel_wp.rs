//! Write protection of anonymous memory. Each test names the rule it holds the kernel to;
//! what a comment calls measured was seen on 6.18 through `pagemap`, bit 57.

use shims::{
    CopyMode, Errno, Event, FaultFlags, Features, Outcome, RegisterModes, Request, Verdict,
    WriteProtectMode, ZeropageMode,
};
use sim::kernel::{Call, Did, Marker, Payload, Pte, PteBits, Ret, Signal};
use sim::vma::Prot;
use sim::{Content, Profile};

use crate::support::{Bed, page, source, span};

const PROTECT: WriteProtectMode = WriteProtectMode::WP;
const ALLOW: WriteProtectMode = WriteProtectMode::empty();
const BOTH: RegisterModes = RegisterModes::MISSING.union(RegisterModes::WP);
const MARKER: Pte = Pte::Marker(Marker::WriteProtect);

fn bed(pages: u64, features: Features, modes: RegisterModes) -> Bed {
    Bed::registered(pages, Profile::default(), features, modes)
}

fn flags(events: &[Event]) -> Vec<FaultFlags> {
    let fault = |event: &Event| match event {
        Event::Fault(fault) => fault.flags,
        event => panic!("{event} is no fault"),
    };
    events.iter().map(fault).collect()
}

fn is_protected(pte: Pte) -> bool {
    matches!(pte, Pte::Present { bits, .. } if bits.contains(PteBits::UFFD_WP))
}

#[test]
fn c3_a_write_to_a_protected_page_asks_and_a_read_does_not() {
    let mut bed = bed(2, Features::empty(), BOTH);
    let (reader, writer) = (bed.thread(), bed.thread());
    bed.copy(0, 1);
    assert_eq!(bed.protect(0, 1, PROTECT), Outcome::OK);
    assert_eq!(bed.load(reader, 0), Some(Ret::Loaded(source(0))));
    bed.kernel.begin(writer, Call::Store { addr: page(0), content: Content::Bytes(1) });
    assert_eq!(bed.step(writer), Did::Trap { page: page(0) });
    assert!(matches!(bed.step(writer), Did::QueueFault { write: true, wp: true, .. }));
    assert!(matches!(bed.step(writer), Did::Sleep { .. }));
    assert_eq!(flags(&bed.read(8)), [FaultFlags::WRITE | FaultFlags::WP]);
    assert_eq!(bed.protect(0, 1, ALLOW), Outcome::OK);
    assert_eq!(bed.on(writer), Some(Ret::Stored));
    assert_eq!(bed.pte(0), Pte::Present { content: Content::Bytes(1), bits: PteBits::empty() });
}

#[test]
fn c3_what_is_missing_is_asked_for_before_it_is_trapped() {
    let mut bed = bed(1, Features::WP_UNPOPULATED, BOTH);
    let writer = bed.thread();
    bed.protect(0, 1, PROTECT);
    assert_eq!(bed.pte(0), MARKER);
    assert_eq!(bed.store(writer, 0), None);
    assert_eq!(flags(&bed.read(8)), [FaultFlags::WRITE]);
    // Measured: the marker stays while the thread sleeps, and ZEROPAGE does not replace it.
    let zero = Request::Zeropage { range: span(0, 1), mode: ZeropageMode::empty() };
    assert_eq!(bed.resolve(zero, Payload::None), Outcome::mirrored(Errno::EEXIST));
    assert_eq!(bed.copy_mode(0, 1, CopyMode::WP), Outcome::done(4096));
    assert_eq!(bed.on(writer), None);
    assert_eq!(flags(&bed.read(8)), [FaultFlags::WRITE | FaultFlags::WP]);
}

#[test]
fn c10_a_writer_sleeps_unless_its_page_is_writable_again() {
    let mut bed = bed(2, Features::empty(), BOTH);
    let writer = bed.thread();
    bed.copy_mode(0, 1, CopyMode::WP);
    bed.kernel.begin(writer, Call::Store { addr: page(0), content: Content::Bytes(1) });
    bed.step(writer);
    bed.protect(0, 1, ALLOW);
    bed.step(writer);
    assert_eq!(bed.step(writer), Did::SkipSleep { page: page(0) });
    assert_eq!(bed.on(writer), Some(Ret::Stored));
    assert_eq!(bed.kernel.ctx(bed.ctx).faults_waiting(), 0);
    // The zero page is never writable: this writer sleeps although it has been allowed to
    // write, and its message, queued afterwards, is what gets it out.
    let zero = Request::Zeropage { range: span(1, 2), mode: ZeropageMode::empty() };
    bed.resolve(zero, Payload::None);
    bed.protect(1, 2, PROTECT);
    bed.kernel.begin(writer, Call::Store { addr: page(1), content: Content::Bytes(2) });
    bed.step(writer);
    bed.protect(1, 2, ALLOW);
    bed.step(writer);
    assert_eq!(bed.step(writer), Did::Sleep { page: page(1) });
    assert_eq!(bed.read(8).len(), 1);
    bed.protect(1, 2, ALLOW);
    assert_eq!(bed.on(writer), Some(Ret::Stored));
}

#[test]
fn e17_arguments_are_judged_in_the_kernels_order_and_nothing_is_mirrored() {
    let mut bed = bed(4, Features::EVENT_REMOVE, BOTH);
    let bare = |errno| Outcome::bare(errno);
    let odd = shims::Span::new(shims::Addr::new(1), shims::Len::new(4096));
    let ask = |bed: &mut Bed, range, mode| {
        bed.resolve(Request::WriteProtect { range, mode }, Payload::None)
    };
    assert_eq!(ask(&mut bed, odd, PROTECT), bare(Errno::EINVAL));
    let both = PROTECT | WriteProtectMode::DONTWAKE;
    assert_eq!(ask(&mut bed, span(0, 1), both), bare(Errno::EINVAL));
    let unknown = WriteProtectMode::from_bits_retain(4);
    assert_eq!(ask(&mut bed, span(0, 1), unknown), bare(Errno::EINVAL));
    assert_eq!(ask(&mut bed, span(8, 9), PROTECT), bare(Errno::ENOENT));
    // The gate comes before everything.
    let remover = bed.thread();
    bed.go(remover, Call::DontNeed { range: span(0, 1) });
    assert_eq!(ask(&mut bed, odd, PROTECT), bare(Errno::EAGAIN));
    assert_eq!(bed.protect(0, 1, ALLOW).verdict(), Verdict::Changing);
}

#[test]
fn e18_holes_are_skipped_and_what_came_before_a_foreign_mapping_stays_changed() {
    let mut bed = bed(6, Features::empty(), BOTH);
    let (writer, other) = (bed.thread(), bed.thread());
    bed.copy(0, 6);
    bed.go(other, Call::Munmap { range: span(1, 2) });
    assert_eq!(bed.protect(0, 3, PROTECT), Outcome::OK);
    assert!(is_protected(bed.pte(0)) && is_protected(bed.pte(2)));
    let (ctx, handler) = (bed.ctx, bed.handler);
    bed.kernel.run(handler, Call::Unregister { ctx, range: span(4, 5) });
    assert_eq!(bed.protect(3, 6, PROTECT), Outcome::bare(Errno::ENOENT));
    assert!(is_protected(bed.pte(3)));
    assert!(!is_protected(bed.pte(4)) && !is_protected(bed.pte(5)));
    assert_eq!(bed.store(writer, 3), None);
    // An un-protect that fails wakes nobody, although it has changed page 3.
    assert_eq!(bed.protect(3, 6, ALLOW), Outcome::bare(Errno::ENOENT));
    assert!(!is_protected(bed.pte(3)));
    assert!(!bed.kernel.can_step(writer));
}

#[test]
fn e18_protecting_is_page_by_page_and_keeps_the_layout_as_it_is() {
    let mut bed = bed(3, Features::EVENT_REMOVE, BOTH);
    let (remover, guest) = (bed.thread(), bed.thread());
    bed.copy(0, 3);
    let (ctx, handler) = (bed.ctx, bed.handler);
    let request = Request::WriteProtect { range: span(0, 3), mode: PROTECT };
    bed.kernel.begin(handler, Call::Resolve { ctx, request, payload: Payload::None });
    assert_eq!(bed.step(handler), Did::PassGate);
    assert_eq!(bed.step(handler), Did::Protect { page: page(0) });
    assert_eq!(bed.store(guest, 1), Some(Ret::Stored));
    // d34: no event starts, and nothing is unmapped, before it is over.
    bed.kernel.begin(remover, Call::DontNeed { range: span(0, 1) });
    assert!(!bed.kernel.can_step(remover));
    assert_eq!(bed.on(handler), Some(Ret::Outcome(Outcome::OK)));
    assert!(bed.kernel.can_step(remover));
    assert!(is_protected(bed.pte(1)));
}

#[test]
fn e19_unprotecting_wakes_whoever_waits_in_the_range_and_protecting_nobody() {
    let mut bed = bed(3, Features::empty(), BOTH);
    let (missing, trapped) = (bed.thread(), bed.thread());
    bed.copy_mode(1, 2, CopyMode::WP);
    bed.load(missing, 0);
    bed.store(trapped, 1);
    assert_eq!(bed.read(8).len(), 2);
    bed.protect(0, 3, PROTECT);
    assert!(!bed.kernel.can_step(missing) && !bed.kernel.can_step(trapped));
    bed.protect(0, 3, WriteProtectMode::DONTWAKE);
    assert!(!bed.kernel.can_step(missing) && !bed.kernel.can_step(trapped));
    // Nothing is left to change: the wake is for the range, not for what changed.
    assert_eq!(bed.protect(0, 3, ALLOW), Outcome::OK);
    assert_eq!(bed.on(trapped), Some(Ret::Stored));
    assert_eq!(bed.on(missing), None);
    assert_eq!(flags(&bed.read(8)), [FaultFlags::empty()], "still missing, so it asks anew");
}

#[test]
fn e7_a_protected_copy_needs_a_registration_for_it() {
    let mut bed = bed(4, Features::empty(), RegisterModes::WP);
    // A plain copy needs none: this range is not registered for MISSING.
    assert_eq!(bed.copy(0, 1), Outcome::done(4096));
    assert_eq!(bed.copy_mode(1, 2, CopyMode::WP), Outcome::done(4096));
    assert!(is_protected(bed.pte(1)) && !is_protected(bed.pte(0)));
    assert_eq!(bed.register(2, 4, RegisterModes::MISSING), Ret::Ok(0x13c));
    assert_eq!(bed.copy_mode(2, 3, CopyMode::WP), Outcome::mirrored(Errno::EINVAL));
}

#[test]
fn e13_a_plain_copy_does_not_inherit_the_marker() {
    let mut bed = bed(1, Features::WP_UNPOPULATED, BOTH);
    let writer = bed.thread();
    bed.protect(0, 1, PROTECT);
    assert_eq!(bed.copy(0, 1), Outcome::done(4096));
    assert_eq!(bed.store(writer, 0), Some(Ret::Stored));
}

#[test]
fn f1_absent_pages_are_protected_by_markers_if_the_context_asked_for_them() {
    let mut plain = bed(2, Features::empty(), BOTH);
    plain.copy(0, 1);
    assert_eq!(plain.protect(0, 2, PROTECT), Outcome::OK);
    assert!(is_protected(plain.pte(0)));
    assert_eq!(plain.pte(1), Pte::None);
    let mut marking = bed(2, Features::WP_UNPOPULATED, BOTH);
    marking.copy(0, 1);
    marking.protect(0, 2, PROTECT);
    assert!(is_protected(marking.pte(0)));
    assert_eq!(marking.pte(1), MARKER);
    assert_eq!(marking.kernel.table(marking.mm).present(), 1, "a marker is no page");
    marking.protect(0, 2, ALLOW);
    assert_eq!(marking.pte(1), Pte::None);
}

#[test]
fn f2_a_marker_without_missing_becomes_a_protected_page_of_zeros() {
    let mut bed = bed(2, Features::WP_UNPOPULATED, RegisterModes::WP);
    let (reader, writer) = (bed.thread(), bed.thread());
    bed.protect(0, 2, PROTECT);
    assert_eq!(bed.load(reader, 0), Some(Ret::Loaded(Content::Zero)));
    let bits = PteBits::ZERO_PAGE | PteBits::UFFD_WP | PteBits::READ_ONLY;
    assert_eq!(bed.pte(0), Pte::Present { content: Content::Zero, bits });
    bed.kernel.begin(writer, Call::Store { addr: page(1), content: Content::Bytes(1) });
    assert_eq!(bed.step(writer), Did::FillProtected { page: page(1) });
    assert_eq!(bed.on(writer), None);
    assert_eq!(flags(&bed.read(8)), [FaultFlags::WRITE | FaultFlags::WP]);
    // Measured: the page is there already.
    assert_eq!(bed.copy(1, 2), Outcome::mirrored(Errno::EEXIST));
    bed.protect(0, 2, ALLOW);
    assert_eq!(bed.on(writer), Some(Ret::Stored));
    assert_eq!(bed.store(reader, 0), Some(Ret::Stored));
    assert!(!bed.kernel.ctx(bed.ctx).readable());
}

#[test]
fn f3_removal_drops_markers_and_protection() {
    let mut bed = bed(2, Features::WP_UNPOPULATED, BOTH);
    let remover = bed.thread();
    bed.copy_mode(0, 1, CopyMode::WP);
    bed.protect(1, 2, PROTECT);
    bed.kernel.begin(remover, Call::DontNeed { range: span(0, 2) });
    assert!(matches!(bed.step(remover), Did::Zap { .. }));
    assert_eq!(bed.step(remover), Did::ZapMarker { page: page(1) });
    assert_eq!(bed.on(remover), Some(Ret::Ok(0)));
    assert_eq!((bed.pte(0), bed.pte(1)), (Pte::None, Pte::None));
    // What comes next is not protected.
    bed.copy(0, 2);
    assert_eq!(bed.store(remover, 0), Some(Ret::Stored));
}

#[test]
fn f4_a_change_of_protection_keeps_the_bits() {
    let mut bed = bed(1, Features::empty(), BOTH);
    let writer = bed.thread();
    bed.copy_mode(0, 1, CopyMode::WP);
    bed.go(writer, Call::Mprotect { range: span(0, 1), prot: Prot::READ });
    assert_eq!(bed.store(writer, 0), Some(Ret::Signal(Signal::SegvAccErr)), "c4 comes first");
    bed.go(writer, Call::Mprotect { range: span(0, 1), prot: Prot::RW });
    assert_eq!(bed.store(writer, 0), None);
}

#[test]
fn b7_a_registration_replaces_unless_it_asks_for_less() {
    let mut bed = bed(1, Features::empty(), BOTH);
    let thread = bed.thread();
    assert_eq!(bed.register(0, 1, RegisterModes::MISSING), Ret::Ok(0x13c));
    bed.copy_mode(0, 1, CopyMode::WP);
    assert_eq!(bed.store(thread, 0), None, "WP is still registered");
    let modes = bed.kernel.space(bed.mm).find(page(0)).unwrap().uffd_modes();
    assert_eq!(modes, BOTH);
    let mut other = self::bed(1, Features::empty(), RegisterModes::MISSING);
    let thread = other.thread();
    assert_eq!(other.register(0, 1, RegisterModes::WP), Ret::Ok(0x17c));
    assert_eq!(other.load(thread, 0), Some(Ret::Loaded(Content::Zero)), "MISSING is gone");
}

#[test]
fn b9_bits_left_by_an_earlier_registration_trap_nothing() {
    let mut bed = bed(3, Features::WP_UNPOPULATED, RegisterModes::WP);
    let thread = bed.thread();
    bed.copy(0, 1);
    bed.load(thread, 1);
    bed.protect(0, 3, PROTECT);
    bed.register(0, 3, RegisterModes::MISSING);
    assert!(is_protected(bed.pte(0)));
    // Measured: a page written in place keeps the bit, a copied one (here of the zero page)
    // does not.
    assert_eq!(bed.store(thread, 0), Some(Ret::Stored));
    assert_eq!(bed.store(thread, 1), Some(Ret::Stored));
    assert!(is_protected(bed.pte(0)) && !is_protected(bed.pte(1)));
    // Measured: a marker is an entry to ZEROPAGE until it is touched, and empty afterwards.
    let zero = Request::Zeropage { range: span(2, 3), mode: ZeropageMode::empty() };
    assert_eq!(bed.resolve(zero, Payload::None), Outcome::mirrored(Errno::EEXIST));
    assert_eq!(bed.load(thread, 2), None);
    assert_eq!(bed.pte(2), Pte::None);
    assert_eq!(bed.resolve(zero, Payload::None), Outcome::done(4096));
    assert_eq!(bed.on(thread), Some(Ret::Loaded(Content::Zero)));
    // Registered again, the page that was made writable is not trapped, until it is
    // protected again.
    bed.register(0, 3, RegisterModes::WP);
    assert_eq!(bed.store(thread, 0), Some(Ret::Stored));
    bed.protect(0, 3, PROTECT);
    assert_eq!(bed.store(thread, 0), None);
}

#[test]
fn b13_unregistering_wp_alone_clears_the_bits_and_wakes_nobody() {
    let mut bed = bed(2, Features::WP_UNPOPULATED, RegisterModes::WP);
    let writer = bed.thread();
    bed.copy_mode(0, 1, CopyMode::WP);
    bed.protect(1, 2, PROTECT);
    assert_eq!(bed.store(writer, 0), None);
    let (ctx, handler) = (bed.ctx, bed.handler);
    let unregister = Call::Unregister { ctx, range: span(0, 2) };
    assert_eq!(bed.kernel.run(handler, unregister), Ret::Ok(0));
    assert!(!is_protected(bed.pte(0)));
    assert_eq!(bed.pte(1), Pte::None);
    assert!(!bed.kernel.can_step(writer));
    bed.resolve(Request::Wake { range: span(0, 1) }, Payload::None);
    assert_eq!(bed.on(writer), Some(Ret::Stored));
}

#[test]
fn a20_close_takes_protection_away_and_wakes_writers() {
    let mut bed = bed(1, Features::empty(), BOTH);
    let writer = bed.thread();
    bed.copy_mode(0, 1, CopyMode::WP);
    assert_eq!(bed.store(writer, 0), None);
    let (ctx, handler) = (bed.ctx, bed.handler);
    assert_eq!(bed.kernel.run(handler, Call::Close { ctx }), Ret::Ok(0));
    assert!(!is_protected(bed.pte(0)));
    assert_eq!(bed.on(writer), Some(Ret::Stored));
}

#[test]
fn c9_populating_for_writing_traps_like_a_write() {
    let mut bed = bed(1, Features::empty(), BOTH);
    let thread = bed.thread();
    bed.copy_mode(0, 1, CopyMode::WP);
    let populate = |write| Call::Populate { range: span(0, 1), write };
    assert_eq!(bed.go(thread, populate(false)), Some(Ret::Ok(0)));
    assert_eq!(bed.go(thread, populate(true)), None);
    assert_eq!(flags(&bed.read(8)), [FaultFlags::WRITE | FaultFlags::WP]);
    bed.protect(0, 1, ALLOW);
    assert_eq!(bed.on(thread), Some(Ret::Ok(0)));
    assert_eq!(bed.load(thread, 0), Some(Ret::Loaded(source(0))));
}
