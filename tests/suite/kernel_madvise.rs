//! The advices of `madvise`, on memory that is watched. Each test names the rule it holds the
//! kernel to; the table of results is what 6.18 answered to a program that gave every advice to
//! every kind of range.

use shims::{
    CopyMode, Errno, Event, Features, Outcome, PoisonMode, RegisterModes, Request, Span, Verdict,
    WriteProtectMode,
};
use sim::kernel::{Call, Did, Madvise, Marker, PagemapBits, Payload, Pte, PteBits, Ret};
use sim::vma::{Advice, MapFlags, Mmap, Prot, VmaFlags};
use sim::{Content, Profile};

use crate::support::{Bed, page, source, span};

const BOTH: RegisterModes = RegisterModes::MISSING.union(RegisterModes::WP);

fn bed(pages: u64) -> Bed {
    Bed::registered(pages, Profile::default(), Features::EVENT_REMOVE, BOTH)
}

const ZERO_PAGE: Pte = Pte::Present { content: Content::Zero, bits: PteBits::ZERO_PAGE };

fn advise(start: u64, end: u64, advice: Madvise) -> Call {
    Call::Madvise { range: span(start, end), advice }
}

/// Pages `start..end` mapped anew, unregistered.
fn map(bed: &mut Bed, start: u64, end: u64, prot: Prot, flags: MapFlags) {
    let range = span(start, end);
    let map = Mmap::fixed(range.start.raw(), range.len.bytes(), prot).with(flags);
    assert_eq!(bed.kernel.run(bed.handler, Call::Mmap(map)), Ret::Ok(range.start.raw()));
}

#[test]
fn d10_each_advice_on_each_kind_of_range() {
    const OK: Result<u64, Errno> = Ok(0);
    const INVALID: Result<u64, Errno> = Err(Errno::EINVAL);
    let locked_refuses =
        [Madvise::DontNeed, Madvise::Free, Madvise::Cold, Madvise::PageOut, Madvise::GuardInstall];
    let others = [
        Madvise::DontNeedLocked,
        Madvise::WillNeed,
        Madvise::GuardRemove,
        Madvise::PopulateRead,
        Madvise::PopulateWrite,
        Madvise::Flags(Advice::HugePage),
        Madvise::Flags(Advice::NoHugePage),
        Madvise::Flags(Advice::DontFork),
        Madvise::Flags(Advice::WipeOnFork),
        Madvise::Flags(Advice::Mergeable),
        Madvise::Flags(Advice::DontDump),
        Madvise::Flags(Advice::Random),
    ];
    for advice in locked_refuses.into_iter().chain(others) {
        let mut bed = Bed::new(1);
        let thread = bed.thread();
        let ask = |bed: &mut Bed, range| match bed.go(thread, Call::Madvise { range, advice }) {
            Some(Ret::Ok(value)) => Ok(value),
            Some(Ret::Err(errno)) => Err(errno),
            ret => panic!("{advice:?} ended as {ret:?}"),
        };
        let rw = Prot::RW;
        map(&mut bed, 8, 16, rw, MapFlags::empty());
        assert_eq!(ask(&mut bed, span(8, 16)), OK, "{advice:?}");
        map(&mut bed, 8, 16, rw, MapFlags::LOCKED);
        let expected = if locked_refuses.contains(&advice) { INVALID } else { OK };
        assert_eq!(ask(&mut bed, span(8, 16)), expected, "{advice:?}, locked");
        map(&mut bed, 8, 16, rw, MapFlags::empty());
        bed.go(thread, Call::Munmap { range: span(11, 12) });
        assert_eq!(ask(&mut bed, span(8, 16)), Err(Errno::ENOMEM), "{advice:?}, a hole");
        assert_eq!(ask(&mut bed, span(40, 41)), Err(Errno::ENOMEM), "{advice:?}, nothing");
        assert_eq!(ask(&mut bed, span(8, 8)), OK, "{advice:?}, empty");
        let odd = Span::new(shims::Addr::new(page(8).raw() + 1), shims::Len::new(4096));
        assert_eq!(ask(&mut bed, odd), INVALID, "{advice:?}, unaligned");
        map(&mut bed, 8, 16, Prot::NONE, MapFlags::empty());
        let populates = matches!(advice, Madvise::PopulateRead | Madvise::PopulateWrite);
        let expected = if populates { INVALID } else { OK };
        assert_eq!(ask(&mut bed, span(8, 16)), expected, "{advice:?}, PROT_NONE");
        map(&mut bed, 8, 16, Prot::READ, MapFlags::empty());
        let expected = if advice == Madvise::PopulateWrite { INVALID } else { OK };
        assert_eq!(ask(&mut bed, span(8, 16)), expected, "{advice:?}, read-only");
    }
}

#[test]
fn d6_each_advice_goes_on_behind_a_hole_and_stops_at_a_refusal() {
    let mut bed = Bed::new(1);
    let thread = bed.thread();
    map(&mut bed, 8, 10, Prot::RW, MapFlags::empty());
    map(&mut bed, 11, 13, Prot::RW, MapFlags::empty());
    map(&mut bed, 13, 15, Prot::RW, MapFlags::LOCKED);
    for n in [9, 12, 13] {
        bed.store(thread, n);
    }
    for advice in [Madvise::Free, Madvise::PageOut] {
        let ret = bed.go(thread, advise(8, 13, advice));
        assert_eq!(ret, Some(Ret::Err(Errno::ENOMEM)), "{advice:?}");
    }
    assert_eq!((bed.pte(9), bed.pte(12)), (Pte::None, Pte::None), "both sides of the hole");
    bed.store(thread, 12);
    assert_eq!(bed.go(thread, advise(11, 15, Madvise::Free)), Some(Ret::Err(Errno::EINVAL)));
    assert_eq!(bed.go(thread, advise(11, 13, Madvise::PageOut)), Some(Ret::Ok(0)));
    assert_eq!(bed.pte(12), Pte::None, "given up before the refusal");
    assert!(bed.pte(13).is_present());
}

#[test]
fn d13_who_announces_and_who_does_not() {
    let silent = [
        Madvise::Cold,
        Madvise::PageOut,
        Madvise::WillNeed,
        Madvise::GuardInstall,
        Madvise::GuardRemove,
        Madvise::Flags(Advice::HugePage),
        Madvise::Flags(Advice::NoHugePage),
        Madvise::Flags(Advice::DontFork),
        Madvise::Flags(Advice::WipeOnFork),
    ];
    for advice in silent {
        let mut bed = bed(2);
        let thread = bed.thread();
        bed.copy(0, 2);
        assert_eq!(bed.go(thread, advise(0, 2, advice)), Some(Ret::Ok(0)), "{advice:?}");
        assert_eq!(bed.kernel.ctx(bed.ctx).events_unread(), 0);
    }
    for advice in [Madvise::DontNeed, Madvise::DontNeedLocked, Madvise::Free] {
        let mut bed = bed(2);
        let thread = bed.thread();
        bed.copy(0, 2);
        assert_eq!(bed.go(thread, advise(0, 2, advice)), None, "{advice:?} waits");
        assert_eq!(bed.copy(0, 1).verdict(), Verdict::Changing);
        assert_eq!(bed.read(8), [Event::Remove(span(0, 2))]);
        assert!(bed.pte(0).is_present(), "d7: not before it runs again");
        assert_eq!(bed.on(thread), Some(Ret::Ok(0)));
        assert_eq!(bed.pte(0).is_present(), advice == Madvise::Free);
    }
}

#[test]
fn d10_locked_memory_is_refused_before_the_event_or_taken_by_its_own_advice() {
    let mut bed = bed(2);
    let thread = bed.thread();
    map(&mut bed, 0, 2, Prot::RW, MapFlags::LOCKED);
    // An empty mapping that was locked before it was registered.
    bed.register(0, 2, BOTH);
    for advice in [Madvise::DontNeed, Madvise::Free] {
        assert_eq!(bed.go(thread, advise(0, 2, advice)), Some(Ret::Err(Errno::EINVAL)));
    }
    assert_eq!(bed.read(8), []);
    bed.copy(0, 1);
    assert_eq!(bed.go(thread, advise(0, 2, Madvise::DontNeedLocked)), None);
    assert_eq!(bed.read(8), [Event::Remove(span(0, 2))]);
    assert_eq!(bed.on(thread), Some(Ret::Ok(0)));
    assert_eq!(bed.pte(0), Pte::None);
}

#[test]
fn d9_the_locked_advice_does_not_mind_a_lock_that_came_meanwhile() {
    for (advice, ret) in [
        (Madvise::DontNeed, Ret::Err(Errno::EINVAL)),
        (Madvise::Free, Ret::Err(Errno::EINVAL)),
        (Madvise::DontNeedLocked, Ret::Ok(0)),
    ] {
        let mut bed = bed(2);
        let thread = bed.thread();
        bed.go(thread, advise(0, 2, advice));
        map(&mut bed, 0, 2, Prot::RW, MapFlags::LOCKED);
        bed.read(8);
        assert_eq!(bed.on(thread), Some(ret), "{advice:?}");
    }
}

/// Rules: d10, V49
#[test]
fn d10_free_notices_after_the_event_that_the_memory_is_shared() {
    let mut bed = bed(2);
    let thread = bed.thread();
    let shared = Mmap::fixed(page(0).raw(), 2 * 4096, Prot::RW).shared();
    bed.kernel.run(bed.handler, Call::Mmap(shared));
    // Unregistered, at once.
    assert_eq!(bed.go(thread, advise(0, 2, Madvise::Free)), Some(Ret::Err(Errno::EINVAL)));
    bed.register(0, 2, RegisterModes::MISSING);
    assert_eq!(bed.go(thread, advise(0, 2, Madvise::Free)), None);
    assert_eq!(bed.read(8), [Event::Remove(span(0, 2))]);
    assert_eq!(bed.on(thread), Some(Ret::Err(Errno::EINVAL)));
}

#[test]
fn d11_what_was_freed_stays_until_it_is_reclaimed_unless_it_is_written() {
    let mut bed = Bed::with(4, Profile::default(), Features::empty());
    let thread = bed.thread();
    bed.copy(0, 3);
    bed.kernel.begin(thread, advise(0, 4, Madvise::Free));
    let given_up = |n| Did::GiveUp { page: page(n), content: source(n) };
    assert_eq!([bed.step(thread), bed.step(thread)], [given_up(0), given_up(1)]);
    assert_eq!(bed.on(thread), Some(Ret::Ok(0)));
    assert_eq!(bed.load(thread, 0), Some(Ret::Loaded(source(0))));
    assert_eq!(bed.store(thread, 1), Some(Ret::Stored));
    bed.kernel.begin(thread, advise(0, 4, Madvise::PageOut));
    assert_eq!(bed.step(thread), Did::Zap { page: page(0), content: source(0) });
    assert_eq!(bed.on(thread), Some(Ret::Ok(0)));
    assert_eq!((bed.pte(0), bed.pte(2)), (Pte::None, Pte::None));
    let written = Content::Written { task: thread.0, seq: 1 };
    assert_eq!(bed.load(thread, 1), Some(Ret::Loaded(written)), "a write takes it back");
    // Nobody was told when the page went; the next access asks for it.
    assert_eq!(bed.load(thread, 0), None);
    assert_eq!(bed.read(8).len(), 1);
    // Without a MADV_FREE there is nothing to take: there is no swap.
    bed.copy(0, 1);
    let other = bed.thread();
    assert_eq!(bed.go(other, advise(0, 4, Madvise::PageOut)), Some(Ret::Ok(0)));
    assert!(bed.pte(0).is_present() && bed.pte(1).is_present());
}

#[test]
fn d11_free_and_what_userfaultfd_has_put_there() {
    let features = Features::WP_UNPOPULATED;
    let mut bed = Bed::registered(5, Profile::default(), features, RegisterModes::WP);
    let thread = bed.thread();
    bed.copy_mode(0, 1, CopyMode::WP);
    bed.protect(1, 2, WriteProtectMode::WP);
    let poison = Request::Poison { range: span(2, 3), mode: PoisonMode::empty() };
    assert_eq!(bed.resolve(poison, Payload::None), Outcome::done(4096));
    bed.load(thread, 3);
    bed.go(thread, advise(4, 5, Madvise::GuardInstall));
    bed.go(thread, advise(0, 5, Madvise::Free));
    let wp = |bed: &Bed, n| bed.kernel.pagemap(bed.mm, page(n)).contains(PagemapBits::UFFD_WP);
    assert!(bed.pte(0).is_present() && wp(&bed, 0));
    assert_eq!(bed.pte(1), Pte::Marker(Marker::WriteProtect));
    assert_eq!(bed.pte(2), Pte::None, "poison is the one marker that goes");
    assert_eq!(bed.pte(3), ZERO_PAGE);
    assert_eq!(bed.pte(4), Pte::Marker(Marker::Guard));
    // Measured: reclaim takes the protection with the page, and leaves the zero page.
    bed.go(thread, advise(0, 5, Madvise::PageOut));
    assert_eq!(bed.pte(0), Pte::None);
    assert_eq!(bed.pte(3), ZERO_PAGE);
    assert_eq!(bed.pte(4), Pte::Marker(Marker::Guard));
}

#[test]
fn d11_what_a_fork_has_shared_is_not_reclaimed() {
    let mut bed = Bed::with(1, Profile::default(), Features::empty());
    let thread = bed.thread();
    bed.copy(0, 1);
    assert!(matches!(bed.go(thread, Call::Fork), Some(Ret::Forked(_))));
    bed.go(thread, advise(0, 1, Madvise::Free));
    bed.go(thread, advise(0, 1, Madvise::PageOut));
    assert!(bed.pte(0).is_present());
}

#[test]
fn d25_flags_for_fork_are_set_by_an_advice() {
    let mut bed = Bed::with(3, Profile::default(), Features::empty());
    let thread = bed.thread();
    bed.copy(0, 3);
    bed.go(thread, advise(0, 1, Madvise::Flags(Advice::DontFork)));
    bed.go(thread, advise(1, 2, Madvise::Flags(Advice::WipeOnFork)));
    let flags = |n| bed.kernel.space(bed.mm).find(page(n)).unwrap().flags();
    assert!(flags(0).contains(VmaFlags::DONTCOPY) && flags(1).contains(VmaFlags::WIPEONFORK));
    let Some(Ret::Forked(child)) = bed.go(thread, Call::Fork) else { panic!("fork returns") };
    let child_thread = bed.kernel.new_thread(child);
    let segv = Ret::Signal(sim::kernel::Signal::SegvMapErr);
    assert_eq!(bed.load(child_thread, 0), Some(segv));
    assert_eq!(bed.load(child_thread, 1), Some(Ret::Loaded(Content::Zero)));
    assert_eq!(bed.load(child_thread, 2), Some(Ret::Loaded(source(2))));
}

/// Rules: d13, h9
#[test]
fn d13_process_madvise_announces_like_madvise_and_adds_up() {
    let mut bed = bed(6);
    let thread = bed.thread();
    bed.copy(0, 6);
    let ask = |ranges: &[Span], advice| Call::ProcessMadvise { ranges: ranges.to_vec(), advice };
    let two = [span(0, 1), span(2, 4)];
    assert_eq!(bed.go(thread, ask(&two, Madvise::DontNeed)), None);
    assert_eq!(bed.read(8), [Event::Remove(span(0, 1))]);
    assert_eq!(bed.on(thread), None, "the second range has an event of its own");
    assert_eq!(bed.read(8), [Event::Remove(span(2, 4))]);
    assert_eq!(bed.on(thread), Some(Ret::Ok(3 * 4096)));
    assert!(!bed.pte(0).is_present() && bed.pte(1).is_present() && !bed.pte(3).is_present());
    // What comes before a refusal counts; a refusal at once is an error.
    let odd = Span::new(shims::Addr::new(page(4).raw() + 1), shims::Len::new(4096));
    let cold = Madvise::Cold;
    assert_eq!(bed.go(thread, ask(&[span(4, 5), odd], cold)), Some(Ret::Ok(4096)));
    let holes = [span(40, 41), span(4, 5)];
    assert_eq!(bed.go(thread, ask(&holes, cold)), Some(Ret::Err(Errno::ENOMEM)));
    assert_eq!(bed.go(thread, ask(&[], cold)), Some(Ret::Ok(0)));
    let short = Span::new(page(4), shims::Len::new(100));
    assert_eq!(bed.go(thread, ask(&[short], cold)), Some(Ret::Ok(100)));
    // The thread is free for other calls.
    assert_eq!(bed.load(thread, 4), Some(Ret::Loaded(source(4))));
}

/// Rules: h6, h9
#[test]
fn h_an_older_kernel_knows_fewer_advices() {
    let mut bed = Bed::with(2, Profile::linux_6_12(), Features::empty());
    let thread = bed.thread();
    let ask = |advice| Call::ProcessMadvise { ranges: vec![span(0, 2)], advice };
    assert_eq!(bed.go(thread, ask(Madvise::DontNeed)), Some(Ret::Err(Errno::EINVAL)));
    assert_eq!(bed.go(thread, ask(Madvise::Cold)), Some(Ret::Ok(2 * 4096)));
    for advice in [Madvise::GuardInstall, Madvise::GuardRemove] {
        assert_eq!(bed.go(thread, advise(0, 2, advice)), Some(Ret::Err(Errno::EINVAL)));
    }
}
