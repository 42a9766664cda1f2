//! Memory that is unmapped, moved and forked, rule by rule: what becomes of the regions, of
//! the faults that were read before and after, and of the child.

mod talk;

use core::hash::{Hash, Hasher};

use faultbed_handler::{
    Action, Completion, DrainEnd, HandlerError, Machine, Outside, PageState, Payload, Policy,
    ReadPermit, ReqId, Status, Writes, states,
};
use shims::{
    Addr, CopyMode, Errno, Event, Fault, FaultFlags, Len, Outcome, PageNo, PageSize, Request, Span,
    Time, WriteProtectMode,
};
use talk::{Talk, changing, present, talk};

/// Where memory moves to.
const ELSEWHERE: Addr = Addr::new(0x50_0000_0000);

fn at(addr: Addr) -> Event {
    Event::Fault(Fault { addr, flags: FaultFlags::empty(), tid: None })
}

fn elsewhere(page: u64) -> Addr {
    Addr::new(ELSEWHERE.raw() + page * 4096)
}

fn unmap(t: &Talk, first: u64, count: u64) -> Event {
    Event::Unmap(t.span(first, count))
}

fn remap(t: &Talk, first: u64, count: u64, to: Addr) -> Event {
    Event::Remap { from: t.addr(first), to, len: count * 4096 }
}

/// The next action must be an ioctl of that name at that address.
#[track_caller]
fn ioctl_at(t: &mut Talk, name: &str, addr: Addr) -> (ReqId, Payload) {
    let Action::Ioctl { req, request, payload } = t.next() else { panic!("an ioctl expected") };
    assert_eq!((request.name(), request.range().start), (name, addr));
    (req, payload)
}

/// The next action must be a fetch of that page for that address.
#[track_caller]
fn fetch_for(t: &mut Talk, page: u64, addr: Addr) -> ReqId {
    match t.next() {
        Action::Fetch { req, page: p, addr: a } => {
            assert_eq!((p.index(), a), (page, addr));
            req
        }
        other => panic!("a fetch expected, not {other:?}"),
    }
}

/// Serve a fault at `addr` with the source's bytes of `page`.
#[track_caller]
fn serve_at(t: &mut Talk, page: u64, addr: Addr) {
    let req = fetch_for(t, page, addr);
    t.fetched(req);
    let (req, payload) = ioctl_at(t, "copy", addr);
    assert_eq!(payload, Payload::Fetched);
    t.done(req);
}

#[track_caller]
fn woken_at(t: &mut Talk, addr: Addr) {
    let (req, _) = ioctl_at(t, "wake", addr);
    assert_eq!(t.answer(req, Outcome::OK), Completion::Done);
}

fn offsets(t: &mut Talk) -> Vec<u64> {
    t.machine.begin_snapshot();
    let states = t.machine.take_snapshot();
    states.records().iter().map(|record| record.offset() / 4096).collect()
}

#[test]
fn unmapped_pages_leave_the_snapshot_and_the_regions() {
    let mut t = talk();
    t.read(&[t.reading(1), t.reading(2), t.reading(5)]);
    let reqs = [1, 2, 5].map(|page| (page, t.fetch(page)));
    for (page, req) in reqs {
        t.fetched(req);
        let (req, _) = t.ioctl("copy", page);
        t.done(req);
    }
    // The range of the message is that of the call: it may reach beyond what is ours.
    let range = Span::new(Addr::new(t.addr(0).raw() - 4096), Len::new(3 * 4096));
    t.read(&[Event::Unmap(range)]);
    assert_eq!(offsets(&mut t), [2, 5]);
    let regions = t.machine.regions();
    assert_eq!(regions.regions().len(), 1);
    assert_eq!(regions.page(t.addr(1)), None);
    assert_eq!(regions.page(t.addr(2)), Some(PageNo::new(2)));
    t.read(&[unmap(&t, 4, 2)]);
    assert_eq!(offsets(&mut t), [2]);
    assert_eq!(t.machine.regions().regions().len(), 2, "a hole splits a region");
    assert_eq!(t.machine.counters().unmaps, 2);
}

#[test]
fn a_fault_on_memory_that_was_unmapped_is_woken_to_meet_its_fate() {
    let mut t = talk();
    // Queued before the UNMAP, and read with it.
    t.read(&[t.reading(1), unmap(&t, 1, 1)]);
    let addr = t.addr(1);
    woken_at(&mut t, addr);
    t.nothing();
    assert_eq!(t.machine.counters().dropped, 1);
    t.settled();
}

#[test]
fn whatever_stage_a_request_is_in_an_unmap_ends_it_with_a_wake() {
    // Queued, fetching, waiting for the gate, put off.
    for stage in 0..4 {
        let mut t = talk();
        t.read(&[t.reading(1)]);
        let addr = t.addr(1);
        let mut fetching = None;
        if stage > 0 {
            fetching = Some(t.fetch(1));
        }
        if stage > 1 {
            t.fetched(fetching.take().unwrap());
        }
        if stage == 3 {
            let (req, _) = t.ioctl("copy", 1);
            t.answer(req, changing());
        }
        t.read(&[unmap(&t, 0, 4)]);
        if let Some(req) = fetching {
            t.nothing();
            assert_eq!(t.machine.fetched(req, Ok(()), t.now), Completion::Done);
        }
        woken_at(&mut t, addr);
        t.nothing();
        t.settled();
    }
}

#[test]
fn an_install_that_is_out_when_its_page_is_unmapped_ends_well_whatever_it_comes_to() {
    for outcome in [
        Outcome::done(4096),
        Outcome::mirrored(Errno::ENOENT),
        changing(),
        present(),
        Outcome::mirrored(Errno::ENOMEM),
    ] {
        let mut t = talk();
        t.read(&[t.remove(1, 1), t.reading(1)]);
        let (req, _) = t.ioctl("zeropage", 1);
        t.read(&[unmap(&t, 1, 1)]);
        let addr = t.addr(1);
        if t.answer(req, outcome) == Completion::Kept {
            woken_at(&mut t, addr);
        }
        t.nothing();
        assert!(offsets(&mut t).is_empty());
        assert_eq!(*t.machine.status(), Status::Running, "{outcome}");
        t.settled();
    }
}

#[test]
fn a_fault_that_follows_an_unmap_shows_that_the_call_has_failed() {
    let mut t = talk();
    t.read(&[t.reading(3)]);
    t.serve(3);
    t.read(&[t.remove(2, 1), unmap(&t, 1, 4)]);
    assert!(offsets(&mut t).is_empty());
    // Only memory that is still registered sends messages; or a move is on its way there.
    let one = t.addr(1);
    t.read(&[t.reading(1)]);
    let (req, _) = ioctl_at(&mut t, "zeropage", one);
    t.answer(req, changing());
    t.wait();
    let (req, _) = ioctl_at(&mut t, "zeropage", one);
    t.answer(req, Outcome::bare(Errno::EINVAL));
    t.serve(1);
    assert_eq!(offsets(&mut t), [1, 2, 3], "all of the range is back, with what was known of it");
    t.read(&[t.reading(2)]);
    let (req, payload) = t.ioctl("zeropage", 2);
    assert_eq!(payload, Payload::None, "what was given up stays so");
    t.done(req);
    t.settled();
}

#[test]
fn moved_pages_keep_their_number_their_state_and_their_content() {
    let mut t = talk();
    t.read(&[t.reading(1), t.remove(2, 1)]);
    t.serve(1);
    t.read(&[remap(&t, 1, 3, ELSEWHERE), unmap(&t, 1, 3)]);
    assert_eq!(offsets(&mut t), [1, 2]);
    assert_eq!(t.machine.regions().page(elsewhere(1)), Some(PageNo::new(2)));
    assert_eq!(t.machine.regions().regions().len(), 3, "a part that moves splits its region");
    t.read(&[at(elsewhere(2))]);
    serve_at(&mut t, 3, elsewhere(2));
    t.read(&[at(elsewhere(1))]);
    let (req, _) = ioctl_at(&mut t, "zeropage", elsewhere(1));
    t.done(req);
    t.read(&[t.reading(0)]);
    t.serve(0);
    assert_eq!([0, 1, 3].map(|page| t.state(page)), [PageState::Clean; 3]);
    assert_eq!(t.state(2), PageState::Zero);
    t.settled();
}

#[test]
fn a_fault_at_the_new_place_is_read_before_the_message_of_the_move() {
    // In one batch: the kernel hands out faults first.
    let mut t = talk();
    t.read(&[at(elsewhere(0)), remap(&t, 1, 1, ELSEWHERE)]);
    serve_at(&mut t, 1, elsewhere(0));
    t.settled();
    // In two: the fault came after the move, and the message was not yet queued.
    let mut t = talk();
    t.read(&[at(elsewhere(0))]);
    let (req, _) = ioctl_at(&mut t, "zeropage", elsewhere(0));
    assert_eq!(t.answer(req, changing()), Completion::Kept);
    t.nothing();
    t.read(&[remap(&t, 1, 1, ELSEWHERE)]);
    serve_at(&mut t, 1, elsewhere(0));
    t.settled();
    // While the question is out nothing is read, and the other way round: a quiet address
    // space with a message that is read and not known would prove nothing.
    let mut t = talk();
    t.read(&[at(elsewhere(0))]);
    let (req, _) = ioctl_at(&mut t, "zeropage", elsewhere(0));
    assert_eq!(t.machine.begin_read(), ReadPermit::Wait);
    assert_eq!(t.answer(req, changing()), Completion::Kept);
    assert_eq!(t.machine.begin_read(), ReadPermit::Granted);
    t.wait();
    t.nothing();
    t.machine.end_read(t.now, &[remap(&t, 1, 1, ELSEWHERE)], DrainEnd::Drained);
    serve_at(&mut t, 1, elsewhere(0));
    t.settled();
}

#[test]
fn a_fault_at_the_old_place_is_woken_and_one_that_comes_later_reads_zeros() {
    let mut t = talk();
    let old = t.addr(1);
    t.read(&[t.reading(1)]);
    let req = t.fetch(1);
    t.read(&[remap(&t, 1, 1, ELSEWHERE)]);
    // The bytes are on their way to where the page is no more.
    assert_eq!(t.machine.fetched(req, Ok(()), t.now), Completion::Done);
    woken_at(&mut t, old);
    // MREMAP_DONTUNMAP leaves the old place watched and empty.
    t.read(&[t.reading(1)]);
    let (req, _) = ioctl_at(&mut t, "zeropage", old);
    t.done(req);
    assert!(offsets(&mut t).is_empty(), "no image has that page");
    assert_eq!(t.state(1), PageState::Missing);
    // Anything else leaves nothing there.
    t.read(&[unmap(&t, 1, 1)]);
    assert_eq!(t.machine.regions().page(old), None);
    t.settled();
}

#[test]
fn late_faults_at_an_old_place_are_not_served_with_the_bytes_that_left_it() {
    let mut t = talk();
    let old = t.addr(1);
    t.read(&[t.remove(1, 1), t.reading(1)]);
    let (req, _) = t.ioctl("zeropage", 1);
    // The zero install is out. Another fault comes for it, and the page moves.
    t.read(&[t.reading(1), remap(&t, 1, 1, ELSEWHERE)]);
    assert_eq!(t.answer(req, Outcome::mirrored(Errno::ENOENT)), Completion::Kept);
    let (req, _) = ioctl_at(&mut t, "wake", old);
    assert_eq!(t.answer(req, Outcome::OK), Completion::Kept, "one fault is left");
    let (req, _) = ioctl_at(&mut t, "zeropage", old);
    assert_eq!(t.answer(req, Outcome::mirrored(Errno::ENOENT)), Completion::Kept);
    woken_at(&mut t, old);
    assert_eq!(t.machine.counters().dropped, 2);
    t.settled();
}

#[test]
fn a_fault_that_a_whole_move_overtook_is_woken_and_not_taken_for_a_stranger() {
    let mut t = talk();
    let old = t.addr(1);
    t.read(&[t.reading(1), remap(&t, 1, 1, ELSEWHERE), unmap(&t, 1, 1)]);
    woken_at(&mut t, old);
    t.nothing();
    t.settled();
    // Nor is one that was put off while memory came there and left again.
    t.read(&[at(elsewhere(5))]);
    let (req, _) = ioctl_at(&mut t, "zeropage", elsewhere(5));
    t.answer(req, changing());
    let left = Span::new(elsewhere(5), Len::new(4096));
    let back = Event::Remap { from: elsewhere(5), to: t.addr(2), len: 4096 };
    t.read(&[remap(&t, 2, 1, elsewhere(5)), unmap(&t, 2, 1), back, Event::Unmap(left)]);
    woken_at(&mut t, elsewhere(5));
    assert_eq!(*t.machine.status(), Status::Running);
    t.settled();
}

#[test]
fn two_threads_that_wait_where_memory_left_are_both_let_go() {
    let mut t = talk();
    let addr = t.addr(1);
    t.read(&[t.reading(1), t.writing(1), unmap(&t, 1, 1)]);
    let (req, _) = ioctl_at(&mut t, "wake", addr);
    assert_eq!(t.answer(req, Outcome::OK), Completion::Kept, "one is to be woken for itself");
    woken_at(&mut t, addr);
    t.nothing();
    assert_eq!(t.machine.counters().dropped, 2);
    t.settled();
}

#[test]
fn pages_that_moved_are_given_up_where_they_are() {
    let mut t = talk();
    t.read(&[t.reading(1), t.reading(2)]);
    let reqs = [(1, t.fetch(1)), (2, t.fetch(2))];
    for (page, req) in reqs {
        t.fetched(req);
        let (req, _) = t.ioctl("copy", page);
        t.done(req);
    }
    let old = Event::Remove(t.span(1, 1));
    t.read(&[remap(&t, 1, 1, ELSEWHERE), unmap(&t, 1, 1), old]);
    assert_eq!(t.state(1), PageState::Clean, "what is at the old place is nobody's");
    t.read(&[Event::Remove(Span::new(ELSEWHERE, Len::new(4096)))]);
    assert_eq!((t.state(1), t.state(2)), (PageState::Removed, PageState::Clean));
}

#[test]
fn a_move_over_other_regions_replaces_them() {
    let mut t = talk();
    let (three, five) = (t.addr(3), t.addr(5));
    t.read(&[remap(&t, 1, 2, five)]);
    assert_eq!(t.machine.regions().page(five), Some(PageNo::new(1)));
    assert_eq!(t.machine.regions().page(three), Some(PageNo::new(3)));
    assert_eq!(t.machine.regions().addr(PageNo::new(5)), None, "it was overwritten");
    // And back again, over what the first move had vacated.
    let one = t.addr(1);
    t.read(&[Event::Remap { from: five, to: one, len: 2 * 4096 }]);
    assert_eq!(t.machine.regions().page(one), Some(PageNo::new(1)));
    t.read(&[t.reading(1)]);
    t.serve(1);
    t.settled();
}

#[test]
fn a_page_that_was_written_and_moved_is_still_watched() {
    let mut policy = Policy::default();
    policy.writes = Writes::Tracked;
    let mut t = Talk::with(policy, PageSize::KIB4, 4);
    t.read(&[t.reading(1)]);
    t.serve(1);
    t.read(&[remap(&t, 1, 1, ELSEWHERE)]);
    let trapped = FaultFlags::WP | FaultFlags::WRITE;
    t.read(&[Event::Fault(Fault { addr: ELSEWHERE, flags: trapped, tid: None })]);
    let (req, _) = ioctl_at(&mut t, "un-writeprotect", ELSEWHERE);
    t.answer(req, Outcome::OK);
    assert_eq!(t.state(1), PageState::Dirty);
    t.machine.begin_baseline();
    let (req, _) = ioctl_at(&mut t, "writeprotect", ELSEWHERE);
    t.answer(req, Outcome::OK);
    assert_eq!(t.machine.export_baseline().records()[0].state(), states::DIRTY);
}

#[test]
fn memory_that_grew_in_place_is_zeros_if_the_policy_says_so() {
    let mut policy = Policy::default();
    policy.outside = Outside::Zeros;
    let mut t = Talk::with(policy, PageSize::KIB4, 4);
    let grown = t.addr(6);
    for _ in 0..2 {
        t.read(&[at(grown)]);
        if t.machine.regions().page(grown).is_none() {
            let (req, _) = ioctl_at(&mut t, "zeropage", grown);
            t.answer(req, Outcome::bare(Errno::EINVAL));
        }
        let (req, _) = ioctl_at(&mut t, "zeropage", grown);
        t.done(req);
    }
    assert!(offsets(&mut t).is_empty());
    t.settled();
}

#[test]
fn a_fault_outside_that_the_kernel_cannot_be_asked_about_fails_with_the_answer() {
    let mut t = talk();
    t.read(&[at(ELSEWHERE)]);
    let (req, _) = ioctl_at(&mut t, "zeropage", ELSEWHERE);
    t.answer(req, Outcome::bare(Errno::EBADF));
    let Status::Failed(HandlerError::Ioctl { .. }) = t.machine.status() else { panic!() };
    t.settled();
}

/// The machine of the only child whose message was just read.
fn child(t: &mut Talk) -> Talk {
    let mut births = t.machine.take_births();
    assert_eq!(births.len(), 1);
    let newborn = births.remove(0);
    assert_eq!(newborn.fd, 9);
    Talk { machine: newborn.machine, now: t.now, page: t.page }
}

const FORK: Event = Event::Fork { fd: 9 };

#[test]
fn a_child_has_the_pages_of_its_parent_and_a_life_of_its_own() {
    let mut t = talk();
    t.read(&[t.reading(1), t.writing(2)]);
    let reqs = [(1, t.fetch(1)), (2, t.fetch(2))];
    for (page, req) in reqs {
        t.fetched(req);
        let (req, _) = t.ioctl("copy", page);
        t.done(req);
    }
    // A fault of the parent is not the child's.
    t.read(&[t.reading(3), FORK]);
    let mut c = child(&mut t);
    assert_eq!([1, 2, 3].map(|page| c.state(page)), [1, 2, 3].map(|page| t.state(page)));
    assert!(c.machine.settled() && !c.machine.reading());
    c.nothing();
    t.serve(3);
    assert_eq!(c.state(3), PageState::Missing);
    // The child gives a page up, the parent keeps it.
    c.read(&[c.remove(1, 1), c.reading(1), c.reading(3)]);
    let (req, _) = c.ioctl("zeropage", 1);
    c.done(req);
    c.serve(3);
    assert_eq!((c.state(1), t.state(1)), (PageState::Zero, PageState::Clean));
    assert_eq!((t.machine.counters().forks, c.machine.counters().forks), (1, 0));
    assert_eq!(c.machine.counters().faults, 2);
    t.settled();
    c.settled();
    // The end of one is not the end of the other.
    c.read(&[c.reading(4)]);
    let req = c.fetch(4);
    c.fetched(req);
    let (req, _) = c.ioctl("copy", 4);
    c.answer(req, Outcome::bare(Errno::ESRCH));
    assert!(c.machine.status().is_over() && !t.machine.status().is_over());
}

#[test]
fn a_child_follows_the_events_of_its_batch_in_their_order() {
    let mut t = talk();
    t.read(&[t.remove(1, 1), remap(&t, 2, 1, ELSEWHERE), FORK, t.remove(3, 1), unmap(&t, 4, 1)]);
    let c = child(&mut t);
    assert_eq!((c.state(1), c.state(3)), (PageState::Removed, PageState::Missing));
    assert_eq!(t.state(3), PageState::Removed);
    assert_eq!(c.machine.regions().page(ELSEWHERE), Some(PageNo::new(2)));
    assert_eq!(c.machine.regions().page(c.addr(4)), Some(PageNo::new(4)));
    assert_eq!(t.machine.regions().page(t.addr(4)), None);
}

#[test]
fn a_removal_may_not_have_reached_the_pages_that_a_child_got() {
    let mut t = talk();
    t.read(&[t.reading(1)]);
    t.serve(1);
    // The zap follows the reading of the REMOVE; the fork may have come first.
    t.read(&[t.remove(1, 2), FORK]);
    let mut c = child(&mut t);
    assert!(c.unconfirmed(1) && c.unconfirmed(2) && !t.unconfirmed(1));
    c.machine.begin_snapshot();
    let (req, _) = c.ioctl("zeropage", 1);
    c.answer(req, present());
    let (wake, _) = c.ioctl("wake", 1);
    c.answer(wake, Outcome::OK);
    let (req, _) = c.ioctl("zeropage", 2);
    c.answer(req, Outcome::done(4096));
    let (wake, _) = c.ioctl("wake", 2);
    c.answer(wake, Outcome::OK);
    let records: Vec<_> = c.machine.take_snapshot().records().iter().map(|r| r.state()).collect();
    assert_eq!(records, [states::DIRTY, states::ZERO]);
}

#[test]
fn a_write_that_was_let_go_when_the_fork_came_counts_for_the_child_too() {
    let mut policy = Policy::default();
    policy.writes = Writes::Tracked;
    let mut t = Talk::with(policy, PageSize::KIB4, 4);
    t.read(&[t.reading(1)]);
    t.serve(1);
    t.read(&[t.fault(1, FaultFlags::WP | FaultFlags::WRITE)]);
    let Action::Ioctl { req, request, .. } = t.next() else { panic!() };
    assert!(
        matches!(request, Request::WriteProtect { mode, .. } if mode == WriteProtectMode::empty())
    );
    // It may have landed, and the page may have been written, before the pages were copied.
    t.read(&[FORK]);
    let mut c = child(&mut t);
    assert_eq!(c.state(1), PageState::Dirty);
    t.answer(req, Outcome::OK);
    // The child's own memory is watched like its parent's.
    c.read(&[c.reading(2)]);
    let req = c.fetch(2);
    c.fetched(req);
    let Action::Ioctl { request: Request::Copy { mode, .. }, .. } = c.next() else { panic!() };
    assert_eq!(mode, CopyMode::WP);
}

#[test]
fn a_fork_is_answered_even_if_its_parent_ends_with_the_batch() {
    let mut t = talk();
    t.read_until(&[t.reading(1), FORK], DrainEnd::Eof);
    let mut c = child(&mut t);
    assert_eq!(c.machine.begin_read(), ReadPermit::Granted);
    c.machine.end_read(Time::ZERO, &[c.reading(1)], DrainEnd::Drained);
    c.serve(1);
    assert!(!c.machine.status().is_over() && t.machine.is_ending());
}

#[test]
fn every_event_ends_the_wait_of_what_met_a_change() {
    let t = talk();
    for event in [unmap(&t, 9, 1), remap(&t, 9, 1, ELSEWHERE), FORK, t.remove(9, 1)] {
        let mut t = talk();
        t.read(&[t.reading(1)]);
        let req = t.fetch(1);
        t.fetched(req);
        let (req, _) = t.ioctl("copy", 1);
        t.answer(req, changing());
        t.nothing();
        t.read(&[event]);
        let (req, payload) = t.ioctl("copy", 1);
        assert_eq!(payload, Payload::Fetched, "{event}");
        t.done(req);
        t.settled();
    }
}

#[test]
fn machines_that_differ_in_their_regions_are_different() {
    let hash = |machine: &Machine| {
        let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
        machine.hash(&mut hasher);
        hasher.finish()
    };
    let (one, mut two) = (talk(), talk());
    assert!(one.machine == two.machine && hash(&one.machine) == hash(&two.machine));
    two.read(&[unmap(&two, 0, 1)]);
    assert!(one.machine != two.machine && hash(&one.machine) != hash(&two.machine));
}

/// A hash that is the same everywhere.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
