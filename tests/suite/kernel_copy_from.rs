//! `UFFDIO_COPY` whose source is memory like any other: absent, watched by another userfaultfd,
//! protected, broken (rules a4, c5, d34, e9, e10; V66, V73). What comes of it was measured on
//! 6.18.

use shims::{
    Addr, CopyMode, Errno, Event, FaultFlags, Features, Outcome, PoisonMode, RegisterModes,
    Request, Span, Verdict, WriteProtectMode,
};
use sim::kernel::{Call, Did, Payload, Pte, Ret, Signal, StructAt, ThreadId};
use sim::vma::{CtxId, Mmap, Prot};
use sim::{Content, Profile};

use crate::support::{Bed, page, source, span};

/// Pages 0 to 3 are watched with `REMOVE`, pages 16 to 19, the source, by another context.
struct Two {
    bed: Bed,
    src: CtxId,
    /// Who answers for the source.
    server: ThreadId,
    copier: ThreadId,
}

const SRC: u64 = 16;

fn two(src_features: Features, modes: RegisterModes) -> Two {
    let mut bed = Bed::with(4, Profile::default(), Features::EVENT_REMOVE);
    let range = span(SRC, SRC + 4);
    let map = Mmap::fixed(range.start.raw(), range.len.bytes(), Prot::RW);
    bed.kernel.run(bed.handler, Call::Mmap(map));
    let src = bed.kernel.userfaultfd(bed.mm, src_features).unwrap();
    let register = Call::Register { ctx: src, range, modes };
    assert!(matches!(bed.kernel.run(bed.handler, register), Ret::Ok(_)));
    let (server, copier) = (bed.thread(), bed.thread());
    Two { bed, src, server, copier }
}

impl Two {
    /// A copy of `pages` pages from the source to page 0, as far as it gets alone.
    fn begin(&mut self, pages: u64) -> Option<Ret> {
        self.begin_from(page(SRC), pages)
    }

    fn begin_from(&mut self, src: shims::Addr, pages: u64) -> Option<Ret> {
        let call = self.call(src, pages);
        self.bed.go(self.copier, call)
    }

    fn call(&self, src: shims::Addr, pages: u64) -> Call {
        let request = Request::Copy { dst: span(0, pages), mode: CopyMode::empty() };
        Call::Resolve { ctx: self.bed.ctx, request, payload: Payload::From(src) }
    }

    /// The message of the source's context.
    fn asked(&mut self) -> (u64, FaultFlags) {
        let read = Call::Read { ctx: self.src, max: 8 };
        assert_eq!(self.bed.kernel.run(self.server, read), Ret::Read(1));
        match self.bed.kernel.inbox(self.server).pop() {
            Some(Event::Fault(fault)) => ((fault.addr.raw() - page(0).raw()) / 4096, fault.flags),
            event => panic!("{event:?}"),
        }
    }

    /// Give the source its page `n`.
    fn give(&mut self, n: u64) {
        let request = Request::Copy { dst: span(SRC + n, SRC + n + 1), mode: CopyMode::empty() };
        let payload = Payload::One(source(n));
        let call = Call::Resolve { ctx: self.src, request, payload };
        assert_eq!(self.bed.kernel.run(self.server, call), Ret::Outcome(Outcome::done(4096)));
    }

    /// An ioctl of the source's context.
    fn ask(&mut self, request: Request) {
        let call = Call::Resolve { ctx: self.src, request, payload: Payload::None };
        assert_eq!(self.bed.kernel.run(self.server, call), Ret::Outcome(Outcome::OK));
    }

    fn end(&mut self) -> Option<Outcome> {
        match self.bed.on(self.copier)? {
            Ret::Outcome(outcome) => Some(outcome),
            ret => panic!("a COPY ended as {ret:?}"),
        }
    }
}

fn two_with(modes: RegisterModes) -> Two {
    two(Features::empty(), modes)
}

fn missing() -> Two {
    two(Features::empty(), RegisterModes::MISSING)
}

#[test]
fn e10_the_copy_waits_for_its_source_and_wakes_at_the_end() {
    let mut two = missing();
    let guest = two.bed.thread();
    assert_eq!(two.bed.load(guest, 0), None);
    two.bed.read(8);
    two.give(0);
    assert_eq!(two.begin(2), None);
    assert_eq!(two.asked(), (SRC + 1, FaultFlags::empty()));
    assert!(two.bed.pte(0).is_present());
    assert!(!two.bed.kernel.can_step(guest), "e5: the first page is there, its faulter asleep");
    two.give(1);
    assert_eq!(two.end(), Some(Outcome::done(8192)));
    assert_eq!(two.bed.on(guest), Some(Ret::Loaded(source(0))));
    assert_eq!(two.bed.load(guest, 1), Some(Ret::Loaded(source(1))));
}

#[test]
fn d34_an_event_that_began_meanwhile_is_noticed() {
    for given in [false, true] {
        let mut two = missing();
        let remover = two.bed.thread();
        if given {
            two.give(0);
        }
        assert_eq!(two.begin(2), None);
        let (asked, _) = two.asked();
        assert_eq!(asked, SRC + u64::from(given));
        // The locks are given back: the event can start.
        assert_eq!(two.bed.go(remover, Call::DontNeed { range: span(0, 1) }), None);
        assert_eq!(two.bed.kernel.ctx(two.bed.ctx).changing(), 1);
        two.give(u64::from(given));
        let outcome = two.end().unwrap();
        if given {
            assert_eq!(outcome, Outcome::partial(4096), "e3: the reason shows at the next try");
        } else {
            assert_eq!(outcome, Outcome::mirrored(Errno::EAGAIN));
            assert_eq!(outcome.verdict(), Verdict::Changing);
        }
        assert_eq!(two.bed.pte(1), Pte::None);
    }
}

/// Rules: d34, e10, V66
#[test]
fn d34_a_destination_that_has_gone_or_was_filled_meanwhile_is_noticed() {
    // Gone.
    let mut one = missing();
    assert_eq!(one.begin(1), None);
    one.asked();
    let guest = one.bed.thread();
    one.bed.go(guest, Call::Munmap { range: span(0, 1) });
    one.give(0);
    assert_eq!(one.end(), Some(Outcome::mirrored(Errno::ENOENT)));
    // Filled.
    let mut one = missing();
    assert_eq!(one.begin(1), None);
    one.asked();
    assert_eq!(one.bed.copy(0, 1), Outcome::done(4096));
    one.give(0);
    assert_eq!(one.end(), Some(Outcome::mirrored(Errno::EEXIST)));
    // At the second page the first one counts, and is woken.
    for unmap in [false, true] {
        let mut one = missing();
        let guest = one.bed.thread();
        one.bed.load(guest, 0);
        one.give(0);
        assert_eq!(one.begin(2), None);
        one.asked();
        let other = one.bed.thread();
        if unmap {
            one.bed.go(other, Call::Munmap { range: span(1, 2) });
        } else {
            one.bed.copy(1, 2);
        }
        one.give(1);
        assert_eq!(one.end(), Some(Outcome::partial(4096)), "unmapped: {unmap}");
        assert_eq!(one.bed.on(guest), Some(Ret::Loaded(source(0))));
    }
}

/// Rules: e10, V73
#[test]
fn e10_the_source_is_read_before_the_destination_is_looked_at() {
    // V73: a bad source on a page that is present is EFAULT.
    let mut one = missing();
    one.bed.copy(0, 1);
    let hole = page(64);
    assert_eq!(one.begin_from(hole, 1), Some(Ret::Outcome(Outcome::mirrored(Errno::EFAULT))));
    one.give(0);
    assert_eq!(one.begin(1), Some(Ret::Outcome(Outcome::mirrored(Errno::EEXIST))));
    // A missing source on such a page waits for nothing good.
    assert_eq!(one.begin_from(page(SRC + 1), 1), None);
}

#[test]
fn e10_a_source_that_cannot_be_had_ends_the_copy() {
    // Poison.
    let mut one = missing();
    let request = Request::Poison { range: span(SRC + 1, SRC + 2), mode: PoisonMode::empty() };
    let call = Call::Resolve { ctx: one.src, request, payload: Payload::None };
    one.bed.kernel.run(one.server, call);
    one.give(0);
    assert_eq!(one.begin(2), Some(Ret::Outcome(Outcome::partial(4096))));
    // Unmapped while it waits, and woken.
    let mut one = missing();
    assert_eq!(one.begin(1), None);
    one.asked();
    let guest = one.bed.thread();
    one.bed.go(guest, Call::Munmap { range: span(SRC, SRC + 1) });
    let wake = Request::Wake { range: span(SRC, SRC + 1) };
    let call = Call::Resolve { ctx: one.src, request: wake, payload: Payload::None };
    one.bed.kernel.run(one.server, call);
    assert_eq!(one.end(), Some(Outcome::mirrored(Errno::EFAULT)));
    // c5, c6: asked to send signals, a context refuses the kernel.
    let mut one = two(Features::SIGBUS, RegisterModes::MISSING);
    assert_eq!(one.begin(1), Some(Ret::Outcome(Outcome::mirrored(Errno::EFAULT))));
    // Memory without access is no source; any access will do.
    let mut one = missing();
    one.give(0);
    for (prot, ok) in [(Prot::NONE, false), (Prot::EXEC, true)] {
        let guest = one.bed.thread();
        one.bed.go(guest, Call::Mprotect { range: span(SRC, SRC + 1), prot });
        let expected = if ok { Outcome::done(4096) } else { Outcome::mirrored(Errno::EFAULT) };
        assert_eq!(one.begin(1), Some(Ret::Outcome(expected)));
    }
}

#[test]
fn e10_what_was_read_stays_read() {
    let mut two = missing();
    two.begin(1);
    two.asked();
    two.give(0);
    assert_eq!(two.bed.step(two.copier), Did::Load { page: page(SRC), content: source(0) });
    let guest = two.bed.thread();
    two.bed.store(guest, SRC);
    assert_eq!(two.end(), Some(Outcome::done(4096)));
    assert_eq!(two.bed.load(guest, 0), Some(Ret::Loaded(source(0))));
}

#[test]
fn e10_a_protected_or_unwatched_source_is_read_silently() {
    let mut one = two(Features::empty(), RegisterModes::WP);
    assert_eq!(one.begin(1), Some(Ret::Outcome(Outcome::done(4096))));
    let guest = one.bed.thread();
    assert_eq!(one.bed.load(guest, 0), Some(Ret::Loaded(Content::Zero)));
    assert!(one.bed.kernel.table(one.bed.mm).get(page(SRC).raw() >> 12).is_present());
}

#[test]
fn e9_the_gate_and_the_arguments_come_first() {
    let mut two = missing();
    let bare = |errno| Some(Ret::Outcome(Outcome::bare(errno)));
    assert_eq!(two.begin_from(shims::Addr::new(1 << 47), 1), bare(Errno::EINVAL));
    assert_eq!(two.begin_from(shims::Addr::new((1 << 47) - 8192), 2), bare(Errno::EINVAL));
    let unaligned = shims::Addr::new(page(SRC).raw() + 8);
    assert_eq!(two.begin_from(unaligned, 1), bare(Errno::ENOTMODELLED));
    // A destination that is not there is noticed before the source is touched.
    let request = Request::Copy { dst: span(8, 9), mode: CopyMode::empty() };
    let payload = Payload::From(page(SRC));
    let call = Call::Resolve { ctx: two.bed.ctx, request, payload };
    let nowhere = Some(Ret::Outcome(Outcome::mirrored(Errno::ENOENT)));
    assert_eq!(two.bed.go(two.copier, call), nowhere);
    let remover = two.bed.thread();
    two.bed.go(remover, Call::DontNeed { range: span(0, 1) });
    let changing = Some(Ret::Outcome(Outcome::mirrored(Errno::EAGAIN)));
    assert_eq!(two.begin_from(shims::Addr::new(1 << 47), 1), changing);
}

#[test]
fn a4_the_source_is_the_callers() {
    // A child that has inherited the descriptor copies its own page into its parent.
    let mut two = missing();
    let guest = two.bed.thread();
    let Some(Ret::Forked(child)) = two.bed.go(guest, Call::Fork) else { panic!("fork returns") };
    let in_child = two.bed.kernel.new_thread(child);
    let stamp = Content::Bytes(5);
    let at = page(SRC);
    assert_eq!(two.bed.go(in_child, Call::Store { addr: at, content: stamp }), Some(Ret::Stored));
    let call = two.call(at, 1);
    assert_eq!(two.bed.go(in_child, call), Some(Ret::Outcome(Outcome::done(4096))));
    assert_eq!(two.bed.load(guest, 0), Some(Ret::Loaded(stamp)));
    // And closing one's own context lets the source come by itself.
    assert_eq!(two.begin_from(page(SRC + 1), 1), None);
    let close = Call::Close { ctx: two.src };
    two.bed.kernel.run(two.server, close);
    assert_eq!(two.end(), Some(Outcome::mirrored(Errno::EEXIST)));
}

#[test]
fn c9_the_layout_can_change_while_the_copy_waits() {
    let mut two = missing();
    two.give(0);
    two.begin(2);
    two.asked();
    // No lock is held: what needs one for writing gets it.
    let guest = two.bed.thread();
    let map = Mmap::fixed(page(0).raw(), 2 * 4096, Prot::RW);
    assert_eq!(two.bed.go(guest, Call::Mmap(map)), Some(Ret::Ok(page(0).raw())));
    assert_eq!(two.bed.pte(0), Pte::None);
    two.give(1);
    assert_eq!(two.end(), Some(Outcome::partial(4096)), "the new mapping is not registered");
    assert_eq!(two.bed.pte(1), Pte::None);
    let range = Span::new(page(0), shims::Len::new(4096));
    let unmap = Call::Munmap { range };
    assert_eq!(two.bed.go(guest, unmap), Some(Ret::Ok(0)));
    assert_eq!(two.bed.load(guest, 0), Some(Ret::Signal(Signal::SegvMapErr)));
}

/// The structure of a `COPY` to page 0 at `arg`.
fn fill_by(bed: &Bed, arg: Addr, payload: Payload) -> Call {
    let request = Request::Copy { dst: span(0, 1), mode: CopyMode::empty() };
    let payload = Payload::At(Box::new(StructAt { at: arg, payload }));
    Call::Resolve { ctx: bed.ctx, request, payload }
}

#[test]
fn e4_the_structure_is_memory_like_any_other() {
    // It is watched by another context, and has to be brought first.
    let mut two = missing();
    let call = fill_by(&two.bed, page(SRC), Payload::One(source(0)));
    assert_eq!(two.bed.go(two.copier, call), None);
    assert_eq!(two.asked(), (SRC, FaultFlags::empty()));
    assert!(!two.bed.pte(0).is_present());
    two.give(0);
    assert_eq!(two.end(), Some(Outcome::done(4096)));
    // It is protected: the page is in before the answer is written, and nobody is woken yet.
    let mut two = two_with(RegisterModes::MISSING | RegisterModes::WP);
    two.give(0);
    let guest = two.bed.thread();
    assert_eq!(two.bed.load(guest, 0), None);
    let range = span(SRC, SRC + 1);
    let on = Request::WriteProtect { range, mode: WriteProtectMode::WP };
    let off = Request::WriteProtect { range, mode: WriteProtectMode::empty() };
    two.ask(on);
    let call = fill_by(&two.bed, page(SRC), Payload::One(source(0)));
    assert_eq!(two.bed.go(two.copier, call), None);
    assert_eq!(two.asked(), (SRC, FaultFlags::WRITE | FaultFlags::WP));
    assert!(two.bed.pte(0).is_present() && !two.bed.kernel.can_step(guest));
    two.ask(off);
    assert_eq!(two.end(), Some(Outcome::done(4096)));
    assert_eq!(two.bed.on(guest), Some(Ret::Loaded(source(0))));
}

#[test]
fn e4_e9_a_structure_and_a_source_that_both_have_to_be_brought() {
    let mut two = missing();
    let call = fill_by(&two.bed, page(SRC + 1), Payload::From(page(SRC)));
    assert_eq!(two.bed.go(two.copier, call), None);
    assert_eq!(two.asked(), (SRC + 1, FaultFlags::empty()));
    two.give(1);
    assert_eq!(two.bed.on(two.copier), None);
    assert_eq!(two.asked(), (SRC, FaultFlags::empty()));
    two.give(0);
    assert_eq!(two.end(), Some(Outcome::done(4096)));
    assert!(matches!(two.bed.pte(0), Pte::Present { content, .. } if content == source(0)));
    // Nowhere: the ioctl has not begun.
    let mut two = missing();
    let call = fill_by(&two.bed, page(64), Payload::One(source(0)));
    assert_eq!(two.bed.go(two.copier, call), Some(Ret::Outcome(Outcome::bare(Errno::EFAULT))));
    assert!(!two.bed.pte(0).is_present());
}
