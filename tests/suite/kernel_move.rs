//! `UFFDIO_MOVE` of anonymous memory. Each test names the rule it holds the kernel to.

use shims::{
    CopyMode, Errno, Features, Len, MoveMode, Outcome, PoisonMode, RegisterModes, Request, Span,
    WriteProtectMode, ZeropageMode,
};
use sim::kernel::{Call, Did, Payload, Pte, PteBits, Ret};
use sim::vma::Prot;
use sim::{Content, Profile};

use crate::support::{Bed, page, source, span};

const BOTH: RegisterModes = RegisterModes::MISSING.union(RegisterModes::WP);
const HOLES: MoveMode = MoveMode::ALLOW_SRC_HOLES;

fn bed(pages: u64) -> Bed {
    Bed::registered(pages, Profile::default(), Features::WP_UNPOPULATED, BOTH)
}

/// Move `count` pages from page `src` to page `dst`.
fn move_(bed: &mut Bed, dst: u64, src: u64, count: u64, mode: MoveMode) -> Outcome {
    let request = Request::Move { dst: span(dst, dst + count), src: page(src), mode };
    bed.resolve(request, Payload::None)
}

#[test]
fn e21_a_page_moves_and_leaves_nothing_and_its_faulter_is_woken() {
    let mut bed = bed(4);
    let (sleeper, thread) = (bed.thread(), bed.thread());
    bed.copy(2, 4);
    assert_eq!(bed.load(sleeper, 0), None);
    assert_eq!(move_(&mut bed, 0, 2, 2, MoveMode::empty()), Outcome::done(2 * 4096));
    assert_eq!(bed.on(sleeper), Some(Ret::Loaded(source(2))));
    assert_eq!(bed.load(thread, 1), Some(Ret::Loaded(source(3))));
    assert_eq!(bed.pte(2), Pte::None);
    assert_eq!(bed.load(thread, 2), None, "the source is missing now");
}

#[test]
fn e21_dontwake_moves_and_lets_sleep() {
    let mut bed = bed(2);
    let sleeper = bed.thread();
    bed.copy(1, 2);
    bed.load(sleeper, 0);
    assert_eq!(move_(&mut bed, 0, 1, 1, MoveMode::DONTWAKE), Outcome::done(4096));
    assert!(!bed.kernel.can_step(sleeper));
}

#[test]
fn e20_arguments_are_judged_in_the_kernels_order() {
    let mut bed = bed(4);
    bed.copy(2, 4);
    let base = page(0).raw();
    let mut ask = |dst: u64, src: u64, len: u64, mode| {
        let dst = Span::new(shims::Addr::new(dst), Len::new(len));
        let request = Request::Move { dst, src: shims::Addr::new(src), mode };
        bed.resolve(request, Payload::None)
    };
    let none = MoveMode::empty();
    let unknown = MoveMode::from_bits_retain(4);
    // The field is not written for these.
    assert_eq!(ask(base + 1, base, 4096, none), Outcome::bare(Errno::EINVAL));
    assert_eq!(ask(base, base + 1, 4096, none), Outcome::bare(Errno::EINVAL));
    assert_eq!(ask(base, base, 0, none), Outcome::bare(Errno::EINVAL));
    assert_eq!(ask(base, base, 4096, unknown), Outcome::bare(Errno::EINVAL));
    // And is for these: a hole on either side, a range that leaves its mapping.
    let far = base + 64 * 4096;
    assert_eq!(ask(far, base, 4096, none), Outcome::mirrored(Errno::ENOENT));
    assert_eq!(ask(base, far, 4096, none), Outcome::mirrored(Errno::ENOENT));
    assert_eq!(ask(base + 3 * 4096, base, 2 * 4096, none), Outcome::mirrored(Errno::EINVAL));
    assert_eq!(ask(base, base + 3 * 4096, 2 * 4096, none), Outcome::mirrored(Errno::EINVAL));
}

#[test]
fn e20_the_caller_moves_its_own_memory_only() {
    let mut bed = bed(2);
    bed.copy(1, 2);
    let stranger_mm = bed.kernel.new_mm();
    let stranger = bed.kernel.new_thread(stranger_mm);
    let request = Request::Move { dst: span(0, 1), src: page(1), mode: MoveMode::empty() };
    let call = Call::Resolve { ctx: bed.ctx, request, payload: Payload::None };
    let outcome = Outcome::bare(Errno::EINVAL);
    assert_eq!(bed.kernel.run(stranger, call), Ret::Outcome(outcome));
    // A copy by the same thread works (a4).
    let request = Request::Copy { dst: span(0, 1), mode: CopyMode::empty() };
    let call = Call::Resolve { ctx: bed.ctx, request, payload: Payload::One(source(0)) };
    assert_eq!(bed.kernel.run(stranger, call), Ret::Outcome(Outcome::done(4096)));
}

#[test]
fn e20_both_sides_need_the_same_protection_and_the_destination_this_context() {
    let mut bed = bed(6);
    let thread = bed.thread();
    bed.copy(1, 3);
    let refused = Outcome::mirrored(Errno::EINVAL);
    bed.go(thread, Call::Mprotect { range: span(2, 3), prot: Prot::READ });
    assert_eq!(move_(&mut bed, 0, 2, 1, MoveMode::empty()), refused);
    assert_eq!(move_(&mut bed, 2, 1, 1, MoveMode::empty()), refused);
    let (ctx, handler, mm) = (bed.ctx, bed.handler, bed.mm);
    bed.kernel.run(handler, Call::Unregister { ctx, range: span(4, 6) });
    // An unregistered destination is EINVAL, not ENOENT; an unregistered source is fine.
    assert_eq!(move_(&mut bed, 4, 1, 1, MoveMode::empty()), refused);
    assert_eq!(bed.store(thread, 4), Some(Ret::Stored));
    assert_eq!(move_(&mut bed, 0, 4, 1, MoveMode::empty()), Outcome::done(4096));
    // Another context's destination is EINVAL; COPY would work there (e6).
    let other = bed.kernel.userfaultfd(mm, Features::empty()).unwrap();
    let modes = RegisterModes::MISSING;
    let register = Call::Register { ctx: other, range: span(4, 6), modes };
    assert_eq!(bed.kernel.run(handler, register), Ret::Ok(0x13c));
    assert_eq!(move_(&mut bed, 5, 1, 1, MoveMode::empty()), refused);
    assert_eq!(bed.copy(5, 6), Outcome::done(4096));
}

#[test]
fn e20_the_gate_comes_first() {
    let mut bed = Bed::new(2);
    let remover = bed.thread();
    bed.go(remover, Call::DontNeed { range: span(0, 1) });
    let request = Request::Move {
        dst: Span::new(shims::Addr::new(1), Len::new(1)),
        src: page(1),
        mode: MoveMode::empty(),
    };
    assert_eq!(bed.resolve(request, Payload::None), Outcome::mirrored(Errno::EAGAIN));
}

#[test]
fn e21_an_occupied_destination_comes_before_an_absent_source() {
    let mut bed = bed(4);
    bed.copy(0, 1);
    assert_eq!(move_(&mut bed, 0, 3, 1, MoveMode::empty()), Outcome::mirrored(Errno::EEXIST));
    assert_eq!(move_(&mut bed, 1, 3, 1, MoveMode::empty()), Outcome::mirrored(Errno::ENOENT));
    // A marker occupies as well.
    bed.protect(1, 2, WriteProtectMode::WP);
    assert_eq!(move_(&mut bed, 1, 0, 1, MoveMode::empty()), Outcome::mirrored(Errno::EEXIST));
}

#[test]
fn e21_a_marker_at_the_source_is_efault_even_where_holes_are_allowed() {
    let mut bed = bed(4);
    let poison = Request::Poison { range: span(2, 3), mode: PoisonMode::empty() };
    bed.resolve(poison, Payload::None);
    bed.protect(3, 4, WriteProtectMode::WP);
    for src in [2, 3] {
        let outcome = Outcome::mirrored(Errno::EFAULT);
        assert_eq!(move_(&mut bed, 0, src, 1, MoveMode::empty()), outcome);
        assert_eq!(move_(&mut bed, 0, src, 1, HOLES), outcome);
    }
}

#[test]
fn e21_a_hole_counts_as_moved_and_wakes_who_waits_for_it() {
    let mut bed = bed(4);
    let sleeper = bed.thread();
    bed.copy(3, 4);
    bed.load(sleeper, 0);
    assert_eq!(bed.read(8).len(), 1);
    let (ctx, handler) = (bed.ctx, bed.handler);
    let request = Request::Move { dst: span(0, 2), src: page(2), mode: HOLES };
    bed.kernel.begin(handler, Call::Resolve { ctx, request, payload: Payload::None });
    assert_eq!(bed.step(handler), Did::PassGate);
    assert_eq!(bed.step(handler), Did::FindEmpty { page: page(0) });
    assert_eq!(bed.step(handler), Did::MoveHole { from: page(2), page: page(0) });
    assert_eq!(bed.step(handler), Did::FindEmpty { page: page(1) });
    assert!(matches!(bed.step(handler), Did::Move { content, .. } if content == source(3)));
    assert_eq!(bed.on(handler), Some(Ret::Outcome(Outcome::done(2 * 4096))));
    assert_eq!(bed.pte(0), Pte::None);
    assert_eq!(bed.on(sleeper), None, "awake, and asking anew");
    assert_eq!(bed.read(8).len(), 1);
}

/// The place and the source are looked at one after the other: what another `MOVE` does between
/// the two decides which of them is found fault with.
#[test]
fn e21_another_move_comes_between_the_two_looks() {
    let mut bed = bed(2);
    bed.copy(1, 2);
    let (ctx, first, second) = (bed.ctx, bed.handler, bed.thread());
    let request = Request::Move { dst: span(0, 1), src: page(1), mode: MoveMode::empty() };
    for thread in [first, second] {
        bed.kernel.begin(thread, Call::Resolve { ctx, request, payload: Payload::None });
        assert_eq!(bed.step(thread), Did::PassGate);
    }
    assert_eq!(bed.step(first), Did::FindEmpty { page: page(0) });
    assert_eq!(bed.on(second), Some(Ret::Outcome(Outcome::done(4096))));
    let outcome = Outcome::mirrored(Errno::ENOENT);
    assert_eq!(bed.on(first), Some(Ret::Outcome(outcome)), "although the place is taken");
    assert_eq!(move_(&mut bed, 0, 1, 1, MoveMode::empty()), Outcome::mirrored(Errno::EEXIST));
}

#[test]
fn e21_the_zero_page_moves_as_what_it_is() {
    let mut bed = bed(2);
    let thread = bed.thread();
    let zero = Request::Zeropage { range: span(1, 2), mode: ZeropageMode::empty() };
    bed.resolve(zero, Payload::None);
    assert_eq!(move_(&mut bed, 0, 1, 1, MoveMode::empty()), Outcome::done(4096));
    let bits = PteBits::ZERO_PAGE;
    assert_eq!(bed.pte(0), Pte::Present { content: Content::Zero, bits });
    assert_eq!(bed.store(thread, 0), Some(Ret::Stored));
}

#[test]
fn e22_protection_does_not_come_along() {
    let mut bed = bed(2);
    let thread = bed.thread();
    bed.copy_mode(1, 2, CopyMode::WP);
    assert_eq!(move_(&mut bed, 0, 1, 1, MoveMode::empty()), Outcome::done(4096));
    assert_eq!(bed.store(thread, 0), Some(Ret::Stored));
}

#[test]
fn e22_overlapping_ranges_move_downwards_and_stop_upwards() {
    let mut bed = bed(4);
    bed.copy(1, 4);
    assert_eq!(move_(&mut bed, 2, 2, 1, MoveMode::empty()), Outcome::mirrored(Errno::EEXIST));
    assert_eq!(move_(&mut bed, 0, 1, 3, MoveMode::empty()), Outcome::done(3 * 4096));
    for n in 0..3 {
        assert_eq!(bed.pte(n), Pte::Present { content: source(n + 1), bits: PteBits::empty() });
    }
    // Measured: pages 0 and 1 one page up: the first cannot, page 1 is in its way.
    assert_eq!(move_(&mut bed, 1, 0, 2, MoveMode::empty()), Outcome::mirrored(Errno::EEXIST));
    // Pages 2 and 3 up by one: 3 is empty and 4 is none of this mapping.
    assert_eq!(move_(&mut bed, 3, 2, 1, MoveMode::empty()), Outcome::done(4096));
}
