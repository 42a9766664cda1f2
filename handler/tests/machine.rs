//! The machine's rules one by one, each as the shortest conversation that shows it.

mod talk;

use faultbed_handler::{
    Action, Completion, DrainEnd, HandlerError, Machine, OnSourceError, PageState, Payload, Policy,
    ReadPermit, SourceError, Status, StopReason, states,
};
use shims::{
    Addr, Errno, Event, Fault, FaultFlags, FaultKind, Len, Outcome, PageNo, PageSize, Request, Span,
};
use talk::{BASE, Talk, changing, present, talk};

#[test]
fn a_missing_fault_is_answered_with_the_source_and_the_state_says_for_what() {
    let mut t = talk();
    t.read(&[t.reading(3), t.writing(4)]);
    let (a, b) = (t.fetch(3), t.fetch(4));
    assert_eq!(t.machine.outstanding(), 2);
    t.fetched(b);
    t.fetched(a);
    for _ in 0..2 {
        let Action::Ioctl { req, payload: Payload::Fetched, .. } = t.next() else { panic!() };
        t.done(req);
    }
    assert_eq!((t.state(3), t.state(4)), (PageState::Clean, PageState::Dirty));
    assert_eq!(t.machine.counters().installed, 2);
    t.settled();
    t.nothing();
}

#[test]
fn a_byte_inside_a_page_is_a_fault_of_the_page() {
    let mut t = talk();
    let inside = Addr::new(t.addr(2).raw() + 0x7ab);
    t.read(&[Event::Fault(Fault { addr: inside, flags: FaultFlags::empty(), tid: None })]);
    t.serve(2);
    t.settled();
}

#[test]
fn the_kernel_decides_presence_and_its_waiters_are_woken() {
    let mut t = talk();
    t.read(&[t.reading(1)]);
    t.serve(1);
    // The tracker has the page; the fault is tried all the same.
    t.read(&[t.writing(1)]);
    let req = t.fetch(1);
    t.fetched(req);
    let (req, _) = t.ioctl("copy", 1);
    assert_eq!(t.answer(req, present()), Completion::Kept);
    let (req, payload) = t.ioctl("wake", 1);
    assert_eq!(payload, Payload::None);
    assert_eq!(t.answer(req, Outcome::OK), Completion::Done);
    assert_eq!(t.state(1), PageState::Dirty, "the write wins");
    assert_eq!(t.machine.counters().already_present, 1);
    t.settled();
}

#[test]
fn the_short_circuit_answers_nobody() {
    let mut t = Talk::with(Policy::short_circuit(), PageSize::KIB4, 4);
    t.read(&[t.reading(1)]);
    t.serve(1);
    t.read(&[t.writing(1)]);
    t.nothing();
    assert_eq!(t.machine.counters().short_circuited, 1);
    t.settled();
}

#[test]
fn removes_come_before_the_faults_of_their_batch() {
    let mut t = talk();
    t.read(&[t.reading(5), t.remove(5, 1), t.reading(6), t.remove(7, 2)]);
    let (req, payload) = t.ioctl("zeropage", 5);
    assert_eq!(payload, Payload::None);
    t.done(req);
    t.serve(6);
    assert_eq!((t.state(5), t.state(6)), (PageState::Zero, PageState::Clean));
    assert_eq!((t.state(7), t.state(8)), (PageState::Removed, PageState::Removed));
    t.settled();
}

#[test]
fn huge_zeros_are_a_copy_of_zeros() {
    let mut t = Talk::with(Policy::default(), PageSize::MIB2, 4);
    t.read(&[t.remove(1, 1), t.writing(1)]);
    let (req, payload) = t.ioctl("copy", 1);
    assert_eq!(payload, Payload::Zeros);
    t.done(req);
    assert_eq!(t.state(1), PageState::Dirty);
    assert!(t.unconfirmed(1));
}

#[test]
fn no_source_install_is_handed_out_while_a_read_is_in_progress() {
    let mut t = talk();
    t.read(&[t.reading(1), t.reading(2)]);
    let (a, b) = (t.fetch(1), t.fetch(2));
    t.fetched(a);
    assert_eq!(t.machine.begin_read(), ReadPermit::Granted);
    t.nothing();
    // Fetching is no install: it goes on.
    t.fetched(b);
    t.nothing();
    t.machine.end_read(t.now, &[t.remove(1, 1)], DrainEnd::Drained);
    // What was fetched for page 1 is stale now, and dropped.
    let (zero, _) = t.ioctl("zeropage", 1);
    let (copy, payload) = t.ioctl("copy", 2);
    assert_eq!(payload, Payload::Fetched);
    t.done(zero);
    t.done(copy);
    assert_eq!(t.machine.counters().stale_fetches, 1);
    t.settled();
}

#[test]
fn no_read_is_permitted_while_a_source_install_is_out_and_the_reader_comes_first() {
    let mut t = talk();
    t.read(&[t.reading(1), t.reading(2)]);
    let (a, b) = (t.fetch(1), t.fetch(2));
    t.fetched(a);
    let (install, _) = t.ioctl("copy", 1);
    t.fetched(b);
    assert!(!t.machine.may_read());
    assert_eq!(t.machine.begin_read(), ReadPermit::Wait);
    t.nothing();
    t.done(install);
    t.nothing();
    assert_eq!(t.machine.begin_read(), ReadPermit::Granted);
    t.machine.end_read(t.now, &[], DrainEnd::Drained);
    let (install, _) = t.ioctl("copy", 2);
    t.done(install);
    t.settled();
}

#[test]
fn a_zero_install_needs_no_gate() {
    let mut t = talk();
    t.read(&[t.remove(0, 2), t.reading(0), t.reading(1)]);
    let (zero, _) = t.ioctl("zeropage", 0);
    assert_eq!(t.machine.begin_read(), ReadPermit::Granted);
    let (other, _) = t.ioctl("zeropage", 1);
    t.done(other);
    t.machine.end_read(t.now, &[], DrainEnd::Drained);
    t.done(zero);
    t.settled();
}

#[test]
fn a_fetch_that_a_remove_overtook_is_dropped_when_it_arrives() {
    let mut t = talk();
    t.read(&[t.writing(1)]);
    let req = t.fetch(1);
    t.read(&[t.remove(0, 4)]);
    assert_eq!(t.machine.fetched(req, Ok(()), t.now), Completion::Done);
    let (req, payload) = t.ioctl("zeropage", 1);
    assert_eq!(payload, Payload::None);
    t.done(req);
    assert_eq!((t.state(1), t.state(0)), (PageState::Dirty, PageState::Removed));
    t.settled();
}

#[test]
fn faults_join_a_request_until_it_is_issued_and_the_write_wins() {
    let mut t = talk();
    t.read(&[t.reading(1), t.reading(1)]);
    let req = t.fetch(1);
    t.read(&[t.writing(1)]);
    t.fetched(req);
    let (req, _) = t.ioctl("copy", 1);
    t.done(req);
    assert_eq!(t.state(1), PageState::Dirty);
    let counters = t.machine.counters();
    assert_eq!((counters.faults, counters.joined, counters.installed), (3, 2, 3));
    t.settled();
}

#[test]
fn a_fault_that_comes_after_the_issue_is_tried_for_itself() {
    let mut t = talk();
    t.read(&[t.remove(1, 1), t.reading(1)]);
    let (req, _) = t.ioctl("zeropage", 1);
    t.read(&[t.writing(1)]);
    assert_eq!(t.answer(req, Outcome::done(4096)), Completion::Kept);
    assert_eq!((t.machine.counters().installed, t.machine.counters().pending()), (1, 1));
    let (req, _) = t.ioctl("zeropage", 1);
    assert_eq!(t.answer(req, present()), Completion::Kept);
    assert_eq!(t.state(1), PageState::Dirty, "its access counts");
    // So is one that comes while the WAKE is about to be issued, or out.
    t.read(&[t.reading(1)]);
    let (req, _) = t.ioctl("wake", 1);
    assert_eq!(t.answer(req, Outcome::OK), Completion::Kept);
    let (req, _) = t.ioctl("zeropage", 1);
    t.done(req);
    assert_eq!(t.machine.counters().already_present, 1);
    t.settled();
}

#[test]
fn deferred_faults_are_paced_and_keep_their_bytes() {
    let mut t = talk();
    t.read(&[t.reading(1)]);
    let req = t.fetch(1);
    t.fetched(req);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let (req, payload) = t.ioctl("copy", 1);
        assert_eq!(payload, Payload::Fetched);
        assert_eq!(t.answer(req, changing()), Completion::Kept);
        t.nothing();
        assert!(t.machine.may_read(), "reading is what ends it");
        pauses.push(t.wait());
    }
    assert_eq!(pauses, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
    let (req, _) = t.ioctl("copy", 1);
    t.done(req);
    assert_eq!(t.machine.counters().deferrals, 8);
    t.settled();
}

#[test]
fn deferred_faults_are_retried_after_a_remove_and_before_new_ones() {
    let mut t = talk();
    t.read(&[t.remove(0, 4), t.reading(1), t.reading(2)]);
    for page in [1, 2] {
        let (req, _) = t.ioctl("zeropage", page);
        t.answer(req, changing());
    }
    t.read(&[]);
    t.nothing();
    t.read(&[t.reading(3), t.remove(8, 1)]);
    for page in [1, 2, 3] {
        let (req, _) = t.ioctl("zeropage", page);
        t.done(req);
    }
    assert_eq!(t.machine.next_deadline(), None);
    t.settled();
}

#[test]
fn deferred_faults_dedupe_by_address() {
    let mut t = talk();
    t.read(&[t.remove(0, 4), t.reading(1), t.reading(2)]);
    for page in [1, 2] {
        let (req, _) = t.ioctl("zeropage", page);
        t.answer(req, changing());
    }
    t.read(&[t.reading(1), t.reading(1)]);
    assert_eq!(t.machine.outstanding(), 2);
    t.wait();
    for page in [1, 2] {
        let (req, _) = t.ioctl("zeropage", page);
        t.done(req);
    }
    t.nothing();
    assert_eq!(t.machine.counters().installed, 4);
    // The key is free again.
    t.read(&[t.reading(1)]);
    assert_eq!(t.machine.outstanding(), 1);
}

#[test]
fn deferred_faults_upgrade_read_to_write() {
    let mut t = talk();
    t.read(&[t.remove(0, 4), t.reading(1)]);
    let (req, _) = t.ioctl("zeropage", 1);
    t.answer(req, changing());
    t.read(&[t.writing(1)]);
    t.wait();
    let (req, _) = t.ioctl("zeropage", 1);
    t.done(req);
    assert_eq!(t.state(1), PageState::Dirty);
}

#[test]
fn what_a_batch_consumed_is_served_whatever_follows_it() {
    let unexpected = Event::Unknown(0x7f);
    let ends = [
        (None, DrainEnd::Eof, HandlerError::EndOfFile),
        (None, DrainEnd::Error(Errno::EIO), HandlerError::Read(Errno::EIO)),
        (Some(unexpected), DrainEnd::Drained, HandlerError::UnexpectedEvent(unexpected)),
        // The first reason is the one that is told.
        (Some(unexpected), DrainEnd::Eof, HandlerError::UnexpectedEvent(unexpected)),
    ];
    for (odd, end, error) in ends {
        let mut t = talk();
        let mut batch = vec![t.reading(1)];
        batch.extend(odd);
        batch.extend([t.reading(2), t.remove(2, 1)]);
        t.read_until(&batch, end);
        assert_eq!(*t.machine.status(), Status::Running);
        assert_eq!(t.machine.begin_read(), ReadPermit::Stopped);
        let req = t.fetch(1);
        let (zero, _) = t.ioctl("zeropage", 2);
        t.done(zero);
        t.fetched(req);
        let (req, _) = t.ioctl("copy", 1);
        t.done(req);
        assert_eq!(*t.machine.status(), Status::Failed(error));
        assert_eq!(t.machine.counters().installed, 2);
        t.settled();
    }
}

#[test]
fn a_fault_that_cannot_be_served_does_not_take_the_others_with_it() {
    let outside = Addr::new(BASE - 4096);
    let mut t = talk();
    let stray = Event::Fault(Fault { addr: outside, flags: FaultFlags::empty(), tid: None });
    t.read(&[stray, t.reading(1)]);
    // It may be memory that has just moved: is the address space changing?
    let Action::Ioctl { req, request, .. } = t.next() else { panic!() };
    assert_eq!((request.name(), request.range()), ("zeropage", Span::new(outside, Len::ZERO)));
    t.answer(req, Outcome::bare(Errno::EINVAL));
    t.serve(1);
    let status = Status::Failed(HandlerError::FaultOutside { addr: outside });
    assert_eq!(*t.machine.status(), status);
    assert_eq!((t.machine.counters().failed, t.machine.counters().installed), (1, 1));
    t.settled();

    for (flags, kind) in [(FaultFlags::WP, FaultKind::Wp), (FaultFlags::MINOR, FaultKind::Minor)] {
        let mut t = talk();
        t.read(&[t.fault(3, flags), t.reading(1)]);
        t.serve(1);
        let error = HandlerError::UnexpectedFault { addr: t.addr(3), kind };
        assert_eq!(*t.machine.status(), Status::Failed(error));
        t.settled();
    }
}

#[test]
fn once_reading_has_ended_eagain_is_not_retried_for_ever() {
    let mut t = talk();
    t.read(&[t.remove(1, 1), t.reading(1)]);
    t.machine.stop();
    let attempts = t.machine.policy().last_attempts;
    for attempt in 1..=attempts {
        let (req, _) = t.ioctl("zeropage", 1);
        assert_eq!(t.answer(req, changing()), Completion::Kept);
        if attempt < attempts {
            t.wait();
        }
    }
    // Its thread faults again, and whoever reads next finds the message.
    let (req, _) = t.ioctl("wake", 1);
    assert_eq!(t.answer(req, Outcome::OK), Completion::Done);
    assert_eq!(*t.machine.status(), Status::Stopped(StopReason::Requested));
    assert_eq!(t.machine.counters().dropped, 1);
    t.settled();
}

#[test]
fn a_process_that_is_gone_stops_the_machine_at_once() {
    let mut t = talk();
    t.read(&[t.remove(1, 3), t.reading(0), t.reading(1), t.reading(2), t.reading(3)]);
    let fetch = t.fetch(0);
    let (a, _) = t.ioctl("zeropage", 1);
    let (b, _) = t.ioctl("zeropage", 2);
    assert_eq!(t.answer(a, Outcome::bare(Errno::ESRCH)), Completion::Done);
    assert_eq!(*t.machine.status(), Status::Stopped(StopReason::PeerGone));
    t.nothing();
    assert_eq!(t.machine.next_deadline(), None);
    assert_eq!(t.machine.begin_read(), ReadPermit::Stopped);
    assert!(!t.machine.settled(), "two are out still");
    assert_eq!(t.answer(b, Outcome::bare(Errno::ESRCH)), Completion::Done);
    assert_eq!(t.machine.fetched(fetch, Ok(()), t.now), Completion::Done);
    assert_eq!(t.machine.counters().dropped, 4);
    assert_eq!(t.state(1), PageState::Removed, "what was not installed is not recorded");
    t.settled();
    t.nothing();
}

#[test]
fn what_a_halted_machine_reads_is_counted_and_nothing_else() {
    let mut t = talk();
    assert_eq!(t.machine.begin_read(), ReadPermit::Granted);
    t.machine.peer_gone();
    t.machine.end_read(t.now, &[t.reading(1), t.remove(2, 1)], DrainEnd::Drained);
    t.nothing();
    assert_eq!(t.machine.counters().dropped, 1);
    t.settled();
}

#[test]
fn a_stop_during_a_read_waits_for_what_the_read_brings() {
    let mut t = talk();
    assert_eq!(t.machine.begin_read(), ReadPermit::Granted);
    t.machine.stop();
    assert_eq!(*t.machine.status(), Status::Running);
    t.machine.end_read(t.now, &[t.reading(1)], DrainEnd::Drained);
    t.serve(1);
    assert_eq!(*t.machine.status(), Status::Stopped(StopReason::Requested));
    t.settled();
}

#[test]
fn a_page_that_left_the_registration_is_let_go() {
    let mut t = talk();
    t.read(&[t.reading(1)]);
    let req = t.fetch(1);
    t.fetched(req);
    let (req, _) = t.ioctl("copy", 1);
    assert_eq!(t.answer(req, Outcome::mirrored(Errno::ENOENT)), Completion::Kept);
    let (req, _) = t.ioctl("wake", 1);
    assert_eq!(t.answer(req, Outcome::OK), Completion::Done);
    assert_eq!((t.state(1), t.machine.counters().dropped), (PageState::Missing, 1));
    assert_eq!(*t.machine.status(), Status::Running);
    t.settled();
}

#[test]
fn an_ioctl_that_is_refused_fails_the_machine_after_the_others() {
    let mut t = talk();
    t.read(&[t.remove(0, 2), t.reading(0), t.reading(1)]);
    let (a, _) = t.ioctl("zeropage", 0);
    let outcome = Outcome::mirrored(Errno::EINVAL);
    assert_eq!(t.answer(a, outcome), Completion::Done);
    let (b, _) = t.ioctl("zeropage", 1);
    t.done(b);
    let Status::Failed(HandlerError::Ioctl { page, request, outcome: told, attempts }) =
        t.machine.status().clone()
    else {
        panic!("{:?}", t.machine.status())
    };
    assert_eq!((page.index(), request.range(), told, attempts), (0, t.span(0, 1), outcome, 1));
    t.settled();
}

#[test]
fn memory_is_waited_for_a_few_times() {
    let mut t = talk();
    t.read(&[t.reading(1)]);
    let req = t.fetch(1);
    t.fetched(req);
    let attempts = t.machine.policy().memory_attempts;
    for attempt in 1..=attempts {
        let (req, _) = t.ioctl("copy", 1);
        let completion = t.answer(req, Outcome::mirrored(Errno::ENOMEM));
        if attempt < attempts {
            assert_eq!(completion, Completion::Kept);
            // A REMOVE brings no memory.
            t.read(&[t.remove(9, 1)]);
            t.nothing();
            t.wait();
        }
    }
    let status = t.machine.status();
    assert!(matches!(status, Status::Failed(HandlerError::Ioctl { attempts: 6, .. })), "{status}");
    t.settled();
}

#[test]
fn a_page_done_in_part_is_continued_where_it_stopped() {
    let mut t = Talk::with(Policy::default(), PageSize::MIB2, 2);
    t.read(&[t.reading(1)]);
    let req = t.fetch(1);
    t.fetched(req);
    let (req, _) = t.ioctl("copy", 1);
    assert_eq!(t.answer(req, Outcome::partial(0x3000)), Completion::Kept);
    let Action::Ioctl { req, request: Request::Copy { dst, .. }, payload: Payload::Fetched } =
        t.next()
    else {
        panic!()
    };
    assert_eq!(dst.start.raw(), t.addr(1).raw() + 0x3000);
    assert_eq!(dst.len.bytes(), (2 << 20) - 0x3000);
    assert_eq!(t.answer(req, Outcome::done(dst.len.bytes())), Completion::Done);
    assert_eq!(t.state(1), PageState::Clean);
    t.settled();
}

#[test]
fn a_source_is_asked_again_and_then_given_up() {
    let error = SourceError::Io { offset: 4096, errno: Errno::EIO };
    for on_source_error in [OnSourceError::FailClosed, OnSourceError::Poison] {
        let mut policy = Policy::default();
        policy.on_source_error = on_source_error;
        let mut t = Talk::with(policy, PageSize::KIB4, 4);
        t.read(&[t.reading(1)]);
        for attempt in 1..=4 {
            let req = t.fetch(1);
            let completion = t.machine.fetched(req, Err(error.clone()), t.now);
            assert_eq!(completion, Completion::Done);
            if attempt < 4 {
                t.nothing();
                assert_eq!(t.wait(), 50_000 << (attempt - 1));
            }
        }
        assert_eq!(t.machine.counters().source_errors, 4);
        if on_source_error == OnSourceError::Poison {
            let (req, _) = t.ioctl("poison", 1);
            t.done(req);
            assert_eq!((t.state(1), t.machine.counters().poisoned), (PageState::Poisoned, 1));
            assert_eq!(*t.machine.status(), Status::Running);
        } else {
            let error =
                HandlerError::Source { page: PageNo::new(1), error: error.clone(), attempts: 4 };
            assert_eq!(*t.machine.status(), Status::Failed(error));
            assert_eq!((t.state(1), t.machine.counters().failed), (PageState::Missing, 1));
        }
        t.settled();
    }
}

#[test]
fn a_removed_page_needs_no_source() {
    let mut t = talk();
    t.read(&[t.reading(1)]);
    let req = t.fetch(1);
    t.read(&[t.remove(1, 1)]);
    assert_eq!(t.machine.fetched(req, Err(SourceError::Panicked), t.now), Completion::Done);
    let (req, _) = t.ioctl("zeropage", 1);
    t.done(req);
    t.settled();
}

#[test]
fn a_poison_install_waits_for_the_gate_too() {
    let mut policy = Policy::default();
    (policy.on_source_error, policy.source_attempts) = (OnSourceError::Poison, 1);
    let mut t = Talk::with(policy, PageSize::KIB4, 4);
    t.read(&[t.reading(1)]);
    let req = t.fetch(1);
    t.machine.fetched(req, Err(SourceError::Panicked), t.now);
    assert_eq!(t.machine.begin_read(), ReadPermit::Granted);
    t.nothing();
    t.machine.end_read(t.now, &[t.remove(1, 1)], DrainEnd::Drained);
    let (req, _) = t.ioctl("zeropage", 1);
    t.done(req);
}

#[test]
fn a_remove_beyond_4_gib_covers_every_page() {
    let pages = (6 << 30) / 4096;
    let mut t = Talk::with(Policy::default(), PageSize::KIB4, pages);
    t.read(&[t.remove(0, pages)]);
    let tracker = t.machine.tracker();
    assert_eq!(tracker.iter().filter(|(_, s)| *s == PageState::Removed).count() as u64, pages);
    t.read(&[t.reading(pages - 1), t.reading((4 << 30) / 4096)]);
    t.ioctl("zeropage", pages - 1);
    t.ioctl("zeropage", (4 << 30) / 4096);
}

#[test]
fn a_page_that_is_removed_in_part_keeps_its_state_and_is_in_doubt() {
    let mut t = Talk::with(Policy::default(), PageSize::MIB2, 4);
    t.read(&[t.reading(0)]);
    t.serve(0);
    let mib = |n: u64| n << 20;
    // The first MiB of page 0 stays, all of page 1 goes, half of page 2 goes.
    let span = Span::new(Addr::new(BASE + mib(1)), Len::new(mib(4)));
    t.read(&[Event::Remove(span)]);
    let states: Vec<_> = (0..4).map(|p| (t.state(p), t.unconfirmed(p))).collect();
    let (clean, removed, missing) = (PageState::Clean, PageState::Removed, PageState::Missing);
    assert_eq!(states, [(clean, true), (removed, false), (missing, true), (missing, false)]);
    // Such a page is not asked about, because zeros are not its content.
    t.machine.begin_snapshot();
    t.nothing();
    let snapshot = t.machine.take_snapshot();
    assert_eq!(snapshot.ambiguous(), [0, mib(4)]);
    assert_eq!(snapshot.removed(), [mib(2)]);
}

#[test]
fn a_remove_outside_every_region_is_counted_and_ignored() {
    let mut t = talk();
    let span = |start, len| Event::Remove(Span::new(Addr::new(start), Len::new(len)));
    t.read(&[span(0x1000, 0x4000), span(BASE - 0x2000, 0x3000), span(u64::MAX - 0xfff, 0x2000)]);
    assert_eq!(t.state(0), PageState::Removed);
    assert_eq!(t.state(1), PageState::Missing);
    assert_eq!((t.machine.counters().removes, t.machine.counters().removes_outside), (3, 3));
}

#[test]
fn a_snapshot_settles_then_asks_about_what_is_in_doubt() {
    let mut t = talk();
    t.read(&[t.reading(9)]);
    t.serve(9);
    t.read(&[t.remove(1, 4), t.reading(1), t.writing(2), t.reading(3)]);
    for page in [1, 2] {
        let (req, _) = t.ioctl("zeropage", page);
        t.done(req);
    }
    let (last, _) = t.ioctl("zeropage", 3);
    t.machine.begin_snapshot();
    assert_eq!(t.machine.begin_read(), ReadPermit::Wait);
    t.nothing();
    assert!(!t.machine.snapshot_ready());
    t.done(last);
    // Page 1 is there, page 2 was wiped by a late zap, page 3 left the registration.
    let asked: Vec<_> = [1, 2, 3]
        .map(|page| {
            let Action::Ioctl { req, request: Request::Zeropage { range, mode }, .. } = t.next()
            else {
                panic!()
            };
            assert_eq!((range, mode), (t.span(page, 1), shims::ZeropageMode::DONTWAKE));
            req
        })
        .into();
    assert_eq!(t.answer(asked[0], present()), Completion::Kept);
    assert_eq!(t.answer(asked[1], Outcome::done(4096)), Completion::Kept);
    assert_eq!(t.answer(asked[2], Outcome::mirrored(Errno::ENOENT)), Completion::Done);
    for page in [1, 2] {
        let (req, _) = t.ioctl("wake", page);
        assert!(!t.machine.snapshot_ready());
        t.answer(req, Outcome::OK);
    }
    t.nothing();
    let snapshot = t.machine.take_snapshot();
    let records: Vec<_> =
        snapshot.records().iter().map(|r| (r.offset() / 4096, r.state())).collect();
    let expected = [
        (1, states::ZERO),
        (2, states::ZERO),
        (3, states::AMBIGUOUS),
        (4, states::REMOVED),
        (9, states::CLEAN),
    ];
    assert_eq!(records, expected);
    assert!(t.machine.may_read(), "reading goes on");
    t.settled();
}

#[test]
fn a_snapshot_reads_on_while_something_waits_for_that() {
    let mut t = talk();
    t.read(&[t.remove(1, 1), t.reading(1)]);
    let (req, _) = t.ioctl("zeropage", 1);
    t.answer(req, changing());
    t.machine.begin_snapshot();
    assert!(t.machine.may_read());
    t.read(&[t.remove(2, 1)]);
    let (req, _) = t.ioctl("zeropage", 1);
    t.done(req);
    assert!(!t.machine.may_read());
    // A probe that meets a change is retried, and a fault that comes with it is served.
    let (req, _) = t.ioctl("zeropage", 1);
    t.answer(req, changing());
    t.read(&[t.remove(5, 1), t.writing(1)]);
    let (req, _) = t.ioctl("zeropage", 1);
    t.answer(req, present());
    let (req, _) = t.ioctl("wake", 1);
    t.answer(req, Outcome::OK);
    assert_eq!(t.state(1), PageState::Dirty);
    assert!(t.machine.snapshot_ready());
    t.settled();
}

/// Found by the exhaustive search of a scenario: a snapshot lets the reader read only while a
/// request waits for the address space to be quiet. When that request's moment came, the reader
/// waited for the snapshot, the snapshot for the request, and the request for the reader.
#[test]
fn a_reader_that_waits_and_a_snapshot_that_keeps_it_from_reading_hold_nothing_back() {
    let mut t = talk();
    t.read(&[t.reading(1), t.reading(2), t.reading(3)]);
    let (a, b) = (t.fetch(1), t.fetch(2));
    t.fetched(a);
    t.fetched(b);
    let (one, _) = t.ioctl("copy", 1);
    let (two, _) = t.ioctl("copy", 2);
    t.machine.begin_snapshot();
    t.answer(two, changing());
    // Page 2 waits for the address space, so the reader may read; but an install is out.
    assert_eq!(t.machine.begin_read(), ReadPermit::Wait);
    t.wait();
    // Its moment comes: there is nothing to be read for any more, and it goes on.
    let (two, _) = t.ioctl("copy", 2);
    assert!(!t.machine.may_read());
    let c = t.fetch(3);
    t.done(one);
    t.done(two);
    t.fetched(c);
    let (three, _) = t.ioctl("copy", 3);
    t.done(three);
    assert!(t.machine.snapshot_ready());
    t.machine.take_snapshot();
    assert_eq!(t.machine.begin_read(), ReadPermit::Granted);
}

#[test]
fn a_paused_machine_reads_nothing_serves_on_and_gives_a_snapshot() {
    let mut t = talk();
    t.read(&[t.remove(1, 2), t.reading(1), t.reading(2)]);
    t.machine.pause();
    assert_eq!(t.machine.begin_read(), ReadPermit::Wait);
    let (req, _) = t.ioctl("zeropage", 1);
    t.done(req);
    let (req, _) = t.ioctl("zeropage", 2);
    t.answer(req, changing());
    t.machine.begin_snapshot();
    // Page 2 waits for a read that the pause holds back: the snapshot does not wait.
    let (req, _) = t.ioctl("zeropage", 1);
    t.answer(req, changing());
    let snapshot = t.machine.take_snapshot();
    assert_eq!((snapshot.ambiguous(), snapshot.removed()), (vec![4096], vec![8192]));
    t.machine.resume();
    assert_eq!(t.machine.begin_read(), ReadPermit::Granted);
}

#[test]
#[should_panic(expected = "was answered before")]
fn an_id_is_good_for_one_answer() {
    let mut t = talk();
    t.read(&[t.remove(1, 1), t.reading(1)]);
    let (req, _) = t.ioctl("zeropage", 1);
    t.done(req);
    t.read(&[t.reading(1)]);
    let (again, _) = t.ioctl("zeropage", 1);
    assert_eq!(again.slot(), req.slot());
    t.answer(req, Outcome::done(4096));
}

#[test]
fn machines_with_different_pasts_and_the_same_future_are_equal() {
    let digest = |machine: &Machine| {
        use core::hash::{Hash, Hasher};
        // Any hasher will do: both machines go through the same one.
        struct Sum(u64);
        impl Hasher for Sum {
            fn finish(&self) -> u64 {
                self.0
            }
            fn write(&mut self, bytes: &[u8]) {
                for byte in bytes {
                    self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
                }
            }
        }
        let mut sum = Sum(0);
        machine.hash(&mut sum);
        sum.finish()
    };
    let (mut a, mut b) = (talk(), talk());
    a.read(&[a.reading(1)]);
    a.serve(1);
    b.read(&[]);
    b.read(&[b.reading(1), b.reading(1)]);
    b.serve(1);
    a.read(&[a.reading(2)]);
    b.read(&[b.reading(2)]);
    assert_ne!(a.machine.counters(), b.machine.counters());
    assert_eq!(a.machine, b.machine);
    assert_eq!(digest(&a.machine), digest(&b.machine));
    b.fetch(2);
    assert_ne!(a.machine, b.machine);
    assert_ne!(digest(&a.machine), digest(&b.machine));
}
