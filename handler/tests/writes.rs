//! Write tracking, rule by rule: what is installed how, what a write leads to, and what a
//! baseline makes of it.

mod talk;

use faultbed_handler::{
    Action, Completion, HandlerError, Machine, PageState, Payload, Policy, ReqId, Writes, states,
};
use shims::{
    CopyMode, Errno, Event, FaultFlags, Outcome, PageSize, Request, WriteProtectMode, ZeropageMode,
};
use talk::{Talk, changing, present};

fn tracking() -> Talk {
    sized(PageSize::KIB4)
}

fn sized(page: PageSize) -> Talk {
    let mut policy = Policy::default();
    policy.writes = Writes::Tracked;
    Talk::with(policy, page, 16)
}

/// A write to a page that is there and protected.
fn trapped(t: &Talk, page: u64) -> Event {
    t.fault(page, FaultFlags::WP | FaultFlags::WRITE)
}

/// The next action must be an ioctl on that page; its mode is looked at by `is`.
#[track_caller]
fn request(t: &mut Talk, page: u64, is: impl Fn(Request) -> bool) -> (ReqId, Payload) {
    let Action::Ioctl { req, request, payload } = t.next() else { panic!("an ioctl expected") };
    assert_eq!(request.range(), t.span(page, 1));
    assert!(is(request), "{request:?}");
    (req, payload)
}

fn copies(mode: CopyMode) -> impl Fn(Request) -> bool {
    move |request| matches!(request, Request::Copy { mode: m, .. } if m == mode)
}

fn protects(mode: WriteProtectMode) -> impl Fn(Request) -> bool {
    move |request| matches!(request, Request::WriteProtect { mode: m, .. } if m == mode)
}

const UNPROTECT: WriteProtectMode = WriteProtectMode::empty();

/// Serve a fault on a page of the source that must be installed like this.
#[track_caller]
fn serve(t: &mut Talk, page: u64, mode: CopyMode) {
    let req = t.fetch(page);
    t.fetched(req);
    let (req, payload) = request(t, page, copies(mode));
    assert_eq!(payload, Payload::Fetched);
    t.done(req);
}

/// Serve a write to a page that is protected.
#[track_caller]
fn write(t: &mut Talk, page: u64) {
    t.read(&[trapped(t, page)]);
    let (req, payload) = request(t, page, protects(UNPROTECT));
    assert_eq!(payload, Payload::None);
    assert_eq!(t.answer(req, Outcome::OK), Completion::Done);
}

/// Bring a page into the baseline's state.
#[track_caller]
fn baseline(t: &mut Talk, dirty: &[u64]) {
    t.machine.begin_baseline();
    for &page in dirty {
        let (req, _) = request(t, page, protects(WriteProtectMode::WP));
        t.answer(req, Outcome::OK);
    }
    t.nothing();
    assert!(t.machine.snapshot_ready());
    let states = t.machine.export_baseline();
    let found: Vec<u64> = states
        .records()
        .iter()
        .filter(|record| record.state() == states::DIRTY)
        .map(|record| record.offset() / t.page.bytes())
        .collect();
    assert_eq!(found, dirty);
    t.machine.take_baseline();
}

#[test]
fn what_is_read_comes_protected_and_what_is_written_does_not() {
    let mut t = tracking();
    t.read(&[t.reading(1)]);
    serve(&mut t, 1, CopyMode::WP);
    t.read(&[t.writing(2)]);
    serve(&mut t, 2, CopyMode::empty());
    assert_eq!((t.state(1), t.state(2)), (PageState::Clean, PageState::Dirty));
    // A read and a write that are served by one install are a write.
    t.read(&[t.reading(3), t.writing(3)]);
    serve(&mut t, 3, CopyMode::empty());
    assert_eq!(t.state(3), PageState::Dirty);
    t.settled();
}

#[test]
fn zeros_for_a_read_are_copied_because_the_zero_page_cannot_be_protected() {
    for page in [PageSize::KIB4, PageSize::MIB2] {
        let mut t = sized(page);
        t.read(&[t.remove(1, 2), t.reading(1), t.writing(2)]);
        let (req, payload) = request(&mut t, 1, copies(CopyMode::WP));
        assert_eq!(payload, Payload::Zeros);
        t.done(req);
        let plain = |request| match request {
            Request::Zeropage { mode, .. } => mode == ZeropageMode::empty(),
            Request::Copy { mode, .. } => page == PageSize::MIB2 && mode == CopyMode::empty(),
            _ => false,
        };
        let (req, _) = request(&mut t, 2, plain);
        t.done(req);
        assert_eq!((t.state(1), t.state(2)), (PageState::Zero, PageState::Dirty));
        t.settled();
    }
}

#[test]
fn a_write_to_a_protected_page_unprotects_it_and_makes_it_dirty() {
    let mut t = tracking();
    t.read(&[t.reading(1)]);
    serve(&mut t, 1, CopyMode::WP);
    write(&mut t, 1);
    assert_eq!(t.state(1), PageState::Dirty);
    assert_eq!(t.machine.counters().unprotected, 1);
    t.settled();
    t.read(&[t.remove(2, 1), t.reading(2)]);
    let (req, _) = request(&mut t, 2, copies(CopyMode::WP));
    t.done(req);
    write(&mut t, 2);
    assert_eq!(t.state(2), PageState::Dirty, "a zero page that is written is dirty");
}

#[test]
fn a_stale_write_fault_does_not_bring_a_removed_page_back() {
    let mut t = tracking();
    t.read(&[t.reading(1)]);
    serve(&mut t, 1, CopyMode::WP);
    // The write was handed out before the REMOVE of its batch.
    t.read(&[trapped(&t, 1), t.remove(1, 1)]);
    let (req, _) = request(&mut t, 1, protects(UNPROTECT));
    assert_eq!(t.answer(req, Outcome::OK), Completion::Done);
    assert_eq!(t.state(1), PageState::Removed);
    // Nor does one whose un-protection was out when the REMOVE was read.
    t.read(&[t.reading(2)]);
    serve(&mut t, 2, CopyMode::WP);
    t.read(&[trapped(&t, 2)]);
    let (req, _) = request(&mut t, 2, protects(UNPROTECT));
    t.read(&[t.remove(2, 1)]);
    t.answer(req, Outcome::OK);
    assert_eq!(t.state(2), PageState::Removed);
    assert!(t.unconfirmed(2), "it may be there: giving it up may have failed");
    t.settled();
}

#[test]
fn unprotecting_against_a_change_is_put_off_and_paced() {
    let mut t = tracking();
    t.read(&[t.reading(1)]);
    serve(&mut t, 1, CopyMode::WP);
    t.read(&[trapped(&t, 1)]);
    let mut waits = Vec::new();
    for _ in 0..3 {
        let (req, _) = request(&mut t, 1, protects(UNPROTECT));
        // This ioctl has no result field.
        assert_eq!(t.answer(req, Outcome::bare(Errno::EAGAIN)), Completion::Kept);
        t.nothing();
        waits.push(t.wait());
    }
    assert_eq!(waits, [50, 100, 200]);
    assert_eq!(t.machine.counters().deferrals, 3);
    let (req, _) = request(&mut t, 1, protects(UNPROTECT));
    t.answer(req, Outcome::bare(Errno::EAGAIN));
    // A REMOVE that was read may have ended the change.
    t.read(&[t.remove(5, 1)]);
    let (req, _) = request(&mut t, 1, protects(UNPROTECT));
    t.answer(req, Outcome::OK);
    assert_eq!(t.state(1), PageState::Dirty);
    t.settled();
}

#[test]
fn a_write_that_finds_the_page_installed_for_a_reader_traps_and_is_seen() {
    let mut t = tracking();
    t.read(&[t.reading(1)]);
    let req = t.fetch(1);
    t.fetched(req);
    let (read, _) = request(&mut t, 1, copies(CopyMode::WP));
    // Another thread missed the page as well and wants to write.
    t.done(read);
    t.read(&[t.writing(1)]);
    let req = t.fetch(1);
    t.fetched(req);
    let (req, _) = request(&mut t, 1, copies(CopyMode::empty()));
    t.answer(req, present());
    let (req, _) = t.ioctl("wake", 1);
    t.answer(req, Outcome::OK);
    assert_eq!(t.state(1), PageState::Dirty);
    write(&mut t, 1);
    t.settled();
}

#[test]
fn one_request_serves_a_missing_page_and_a_trapped_write() {
    let mut t = tracking();
    t.read(&[t.reading(1)]);
    serve(&mut t, 1, CopyMode::WP);
    // One thread found the page and trapped, another missed it after a zap and before the
    // page came back.
    t.read(&[trapped(&t, 1), t.reading(1)]);
    let req = t.fetch(1);
    t.fetched(req);
    let (req, _) = request(&mut t, 1, copies(CopyMode::empty()));
    t.answer(req, present());
    // A wake alone would bring the trapped write back.
    let (req, _) = request(&mut t, 1, protects(UNPROTECT));
    t.answer(req, Outcome::OK);
    assert_eq!(t.machine.counters().unprotected, 2);
    assert_eq!(t.state(1), PageState::Dirty);
    t.settled();
}

#[test]
fn a_write_that_comes_while_its_page_is_unprotected_is_tried_again() {
    let mut t = tracking();
    t.read(&[t.reading(1)]);
    serve(&mut t, 1, CopyMode::WP);
    t.read(&[trapped(&t, 1)]);
    let (req, _) = request(&mut t, 1, protects(UNPROTECT));
    t.read(&[trapped(&t, 1)]);
    assert_eq!(t.answer(req, Outcome::OK), Completion::Kept);
    let (req, _) = request(&mut t, 1, protects(UNPROTECT));
    t.answer(req, Outcome::OK);
    t.settled();
}

#[test]
fn a_write_to_memory_that_left_is_woken_and_other_errors_fail() {
    let mut t = tracking();
    t.read(&[trapped(&t, 1)]);
    let (req, _) = request(&mut t, 1, protects(UNPROTECT));
    t.answer(req, Outcome::bare(Errno::ENOENT));
    let (req, _) = t.ioctl("wake", 1);
    t.answer(req, Outcome::OK);
    assert_eq!(t.machine.counters().dropped, 1);
    t.read(&[trapped(&t, 1)]);
    let (req, _) = request(&mut t, 1, protects(UNPROTECT));
    t.answer(req, Outcome::bare(Errno::EINVAL));
    let text = t.machine.status().to_string();
    assert!(text.contains("un-writeprotect") && text.contains("EINVAL"), "{text}");
    t.settled();
}

#[test]
fn without_tracking_a_trapped_write_is_an_error() {
    let mut t = talk::talk();
    t.read(&[trapped(&t, 1)]);
    let faultbed_handler::Status::Failed(HandlerError::UnexpectedFault { .. }) = t.machine.status()
    else {
        panic!("{}", t.machine.status())
    };
    t.settled();
}

#[test]
fn a_probe_leaves_a_page_that_reports_its_first_write() {
    let mut t = tracking();
    t.read(&[t.remove(1, 1), t.reading(1)]);
    let (req, _) = request(&mut t, 1, copies(CopyMode::WP));
    t.done(req);
    t.machine.begin_snapshot();
    let (req, payload) = request(&mut t, 1, copies(CopyMode::WP | CopyMode::DONTWAKE));
    assert_eq!(payload, Payload::Zeros);
    assert_eq!(t.answer(req, Outcome::done(4096)), Completion::Kept);
    let (req, _) = t.ioctl("wake", 1);
    t.answer(req, Outcome::OK);
    assert_eq!(t.machine.take_snapshot().records()[0].state(), states::ZERO);
}

#[test]
fn a_baseline_makes_dirty_pages_clean_and_the_next_write_makes_them_dirty_again() {
    let mut t = tracking();
    t.read(&[t.reading(0), t.writing(1), t.writing(3)]);
    for (page, mode) in [(0, CopyMode::WP), (1, CopyMode::empty()), (3, CopyMode::empty())] {
        let req = t.fetch(page);
        t.fetched(req);
        let (req, _) = request(&mut t, page, copies(mode));
        t.done(req);
    }
    baseline(&mut t, &[1, 3]);
    assert_eq!([0, 1, 3].map(|page| t.state(page)), [PageState::Clean; 3]);
    write(&mut t, 3);
    write(&mut t, 0);
    baseline(&mut t, &[0, 3]);
    baseline(&mut t, &[]);
    assert_eq!(t.machine.counters().protects, 4);
    t.settled();
}

#[test]
fn nobody_reads_between_the_protection_and_the_baseline() {
    let mut t = tracking();
    t.read(&[t.writing(1)]);
    serve(&mut t, 1, CopyMode::empty());
    t.machine.begin_baseline();
    assert!(!t.machine.may_read(), "who writes now has to wait");
    let (req, _) = request(&mut t, 1, protects(WriteProtectMode::WP));
    t.answer(req, Outcome::OK);
    assert!(!t.machine.may_read());
    t.machine.export_baseline();
    assert!(!t.machine.may_read() && !t.machine.snapshot_ready());
    t.machine.take_baseline();
    assert!(t.machine.may_read());
}

#[test]
fn what_a_pause_holds_back_stays_back_while_a_baseline_is_exported() {
    let mut t = tracking();
    t.read(&[t.reading(1)]);
    serve(&mut t, 1, CopyMode::WP);
    t.read(&[trapped(&t, 1)]);
    let (req, _) = request(&mut t, 1, protects(UNPROTECT));
    t.answer(req, Outcome::bare(Errno::EAGAIN));
    t.machine.pause();
    t.machine.begin_baseline();
    assert!(t.machine.snapshot_ready());
    let states = t.machine.export_baseline();
    assert_eq!(states.records()[0].state(), states::CLEAN, "nobody has written yet");
    t.machine.resume();
    assert_eq!(t.machine.next_deadline(), None);
    t.now = t.now.after(core::time::Duration::from_secs(1));
    t.nothing();
    assert!(!t.machine.may_read());
    t.machine.take_baseline();
    let (req, _) = request(&mut t, 1, protects(UNPROTECT));
    t.answer(req, Outcome::OK);
    baseline(&mut t, &[1]);
}

#[test]
fn a_baseline_that_is_abandoned_loses_nothing() {
    let mut t = tracking();
    t.read(&[t.writing(1), t.writing(2)]);
    for page in [1, 2] {
        let req = t.fetch(page);
        t.fetched(req);
        let (req, _) = request(&mut t, page, copies(CopyMode::empty()));
        t.done(req);
    }
    t.machine.begin_baseline();
    let (req, _) = request(&mut t, 1, protects(WriteProtectMode::WP));
    t.answer(req, Outcome::OK);
    let (req, _) = request(&mut t, 2, protects(WriteProtectMode::WP));
    t.machine.abandon_snapshot();
    t.nothing();
    t.answer(req, Outcome::OK);
    assert!(!t.machine.snapshot_begun() && t.machine.may_read());
    baseline(&mut t, &[1, 2]);
}

#[test]
fn a_page_that_may_be_absent_stays_dirty_across_baselines() {
    let mut t = tracking();
    t.read(&[t.remove(1, 1), t.writing(1)]);
    let (req, _) = t.ioctl("zeropage", 1);
    t.done(req);
    t.machine.begin_baseline();
    // A zap may still come: the kernel is asked for this snapshot, and no protection helps.
    let (req, _) = request(&mut t, 1, copies(CopyMode::WP | CopyMode::DONTWAKE));
    t.answer(req, present());
    let (req, _) = t.ioctl("wake", 1);
    t.answer(req, Outcome::OK);
    t.nothing();
    assert_eq!(t.machine.export_baseline().records()[0].state(), states::DIRTY);
    t.machine.take_baseline();
    assert_eq!(t.state(1), PageState::Dirty);
}

#[test]
fn a_page_that_cannot_be_protected_stays_dirty() {
    let mut t = tracking();
    t.read(&[t.writing(1), t.writing(2)]);
    for page in [1, 2] {
        let req = t.fetch(page);
        t.fetched(req);
        let (req, _) = request(&mut t, page, copies(CopyMode::empty()));
        t.done(req);
    }
    t.machine.begin_baseline();
    let (req, _) = request(&mut t, 1, protects(WriteProtectMode::WP));
    t.answer(req, Outcome::bare(Errno::ENOENT));
    let (mut req, _) = request(&mut t, 2, protects(WriteProtectMode::WP));
    for _ in 1..t.machine.policy().probe_attempts {
        assert_eq!(t.answer(req, changing()), Completion::Kept);
        assert!(!t.machine.snapshot_ready() && t.machine.may_read(), "reading ends a change");
        t.wait();
        (req, _) = request(&mut t, 2, protects(WriteProtectMode::WP));
    }
    assert_eq!(t.answer(req, changing()), Completion::Done);
    t.machine.export_baseline();
    t.machine.take_baseline();
    assert_eq!((t.state(1), t.state(2)), (PageState::Dirty, PageState::Dirty));
    t.settled();
}

#[test]
fn a_write_that_is_read_while_a_baseline_waits_for_quiet_is_protected_against_anew() {
    let mut t = tracking();
    t.read(&[t.writing(1), t.writing(2)]);
    for page in [1, 2] {
        let req = t.fetch(page);
        t.fetched(req);
        let (req, _) = request(&mut t, page, copies(CopyMode::empty()));
        t.done(req);
    }
    t.machine.begin_baseline();
    let (one, _) = request(&mut t, 1, protects(WriteProtectMode::WP));
    let (two, _) = request(&mut t, 2, protects(WriteProtectMode::WP));
    t.answer(one, Outcome::OK);
    t.answer(two, changing());
    // Page 1 is protected; while page 2 waits, somebody writes to it.
    write(&mut t, 1);
    assert!(!t.machine.snapshot_ready());
    let (req, _) = request(&mut t, 1, protects(WriteProtectMode::WP));
    t.answer(req, Outcome::OK);
    t.wait();
    let (req, _) = request(&mut t, 2, protects(WriteProtectMode::WP));
    t.answer(req, Outcome::OK);
    assert!(t.machine.snapshot_ready());
}

#[test]
#[should_panic = "without tracked writes"]
fn a_baseline_needs_tracked_writes() {
    let mut t = talk::talk();
    let machine: &mut Machine = &mut t.machine;
    machine.begin_baseline();
}
