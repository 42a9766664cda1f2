//! Shared objects, rule by rule: pages that the page cache has, pages that left it, and what
//! giving them up means.

mod talk;

use faultbed_handler::{
    Action, Backing, Completion, HandlerError, Machine, PageState, Payload, Policy, RegionMap,
    ReqId, Status, Writes,
};
use shims::{
    Addr, ContinueMode, Errno, Event, FaultFlags, Len, Outcome, PageNo, PageRange, PageSize,
    Request, Time,
};
use talk::{BASE, Talk, changing, present};

fn backed(backing: Backing, policy: Policy) -> Talk {
    let page = PageSize::KIB4;
    let len = Len::pages(8, page).unwrap();
    let host = PageRange::new(Addr::new(BASE), len, page).unwrap();
    let regions = RegionMap::single(host).backed_by(backing);
    Talk { machine: Machine::new(policy, regions), now: Time::ZERO, page }
}

fn shared() -> Talk {
    backed(Backing::Shared, Policy::default())
}

fn cached(t: &Talk, page: u64, flags: FaultFlags) -> Event {
    t.fault(page, FaultFlags::MINOR | flags)
}

#[track_caller]
fn continues(t: &mut Talk, page: u64, expected: ContinueMode) -> ReqId {
    let Action::Ioctl { req, request, payload } = t.next() else { panic!("an ioctl expected") };
    let Request::Continue { range, mode } = request else { panic!("{request}") };
    assert_eq!((range, mode, payload), (t.span(page, 1), expected, Payload::None));
    req
}

const PLAIN: ContinueMode = ContinueMode::empty();

#[test]
fn a_page_that_the_cache_has_is_mapped_as_it_is() {
    let mut t = shared();
    t.read(&[cached(&t, 1, FaultFlags::empty()), cached(&t, 2, FaultFlags::WRITE)]);
    for page in [1, 2] {
        let req = continues(&mut t, page, PLAIN);
        t.done(req);
    }
    assert_eq!((t.state(1), t.state(2)), (PageState::Clean, PageState::Dirty));
    assert_eq!((t.machine.counters().installed, t.machine.counters().continues), (2, 2));
    t.settled();
}

#[test]
fn a_page_that_is_mapped_already_is_woken() {
    let mut t = shared();
    t.read(&[cached(&t, 1, FaultFlags::empty())]);
    let req = continues(&mut t, 1, PLAIN);
    assert_eq!(t.answer(req, present()), Completion::Kept);
    let (req, _) = t.ioctl("wake", 1);
    t.answer(req, Outcome::OK);
    t.settled();
}

#[test]
fn a_page_that_left_the_cache_is_filled() {
    let mut t = shared();
    t.read(&[cached(&t, 1, FaultFlags::empty())]);
    let req = continues(&mut t, 1, PLAIN);
    assert_eq!(t.answer(req, Outcome::mirrored(Errno::EFAULT)), Completion::Kept);
    t.serve(1);
    t.settled();
}

#[test]
fn a_missing_page_that_somebody_filled_meanwhile_is_mapped_for_who_waits_for_that() {
    let mut t = shared();
    t.read(&[t.reading(1), cached(&t, 1, FaultFlags::empty())]);
    let req = t.fetch(1);
    t.fetched(req);
    let (req, _) = t.ioctl("copy", 1);
    assert_eq!(t.answer(req, present()), Completion::Kept);
    let req = continues(&mut t, 1, PLAIN);
    t.done(req);
    assert_eq!(t.machine.counters().installed, 2);
    t.settled();
}

#[test]
fn other_answers_are_those_of_every_install() {
    let mut t = shared();
    t.read(&[cached(&t, 1, FaultFlags::empty())]);
    let req = continues(&mut t, 1, PLAIN);
    t.answer(req, changing());
    t.nothing();
    t.wait();
    let req = continues(&mut t, 1, PLAIN);
    t.answer(req, Outcome::mirrored(Errno::ENOENT));
    let (req, _) = t.ioctl("wake", 1);
    t.answer(req, Outcome::OK);
    assert_eq!(t.machine.counters().dropped, 1);
    t.read(&[cached(&t, 2, FaultFlags::empty())]);
    let req = continues(&mut t, 2, PLAIN);
    t.answer(req, Outcome::mirrored(Errno::EIO));
    let Status::Failed(HandlerError::Ioctl { .. }) = t.machine.status() else { panic!() };
    t.settled();
}

#[test]
fn a_shared_page_that_was_filled_and_given_up_is_what_the_next_fault_says() {
    let mut t = shared();
    t.read(&[t.reading(1), t.reading(2)]);
    let reqs = [(1, t.fetch(1)), (2, t.fetch(2))];
    for (page, req) in reqs {
        t.fetched(req);
        let (req, _) = t.ioctl("copy", page);
        t.done(req);
    }
    t.read(&[t.remove(1, 3)]);
    assert_eq!((t.state(1), t.state(3)), (PageState::Clean, PageState::Removed));
    assert!(t.unconfirmed(1));
    // MADV_DONTNEED: the cache has it still.
    t.read(&[cached(&t, 1, FaultFlags::empty())]);
    let req = continues(&mut t, 1, PLAIN);
    t.done(req);
    assert_eq!(t.state(1), PageState::Clean);
    // MADV_REMOVE: it has not, so zeros are what is there.
    t.read(&[t.reading(2), t.reading(3)]);
    for page in [2, 3] {
        let (req, payload) = t.ioctl("zeropage", page);
        assert_eq!(payload, Payload::None);
        t.done(req);
        assert_eq!(t.state(page), PageState::Zero);
    }
    // A snapshot asks about what may have been punched, in a way that harms neither.
    t.machine.begin_snapshot();
    for page in [1, 2, 3] {
        let (req, _) = t.ioctl("zeropage", page);
        t.answer(req, present());
        let (req, _) = t.ioctl("wake", page);
        t.answer(req, Outcome::OK);
    }
    assert_eq!(t.machine.take_snapshot().faulted(), [1, 2, 3].map(|page| page * 4096));
    t.settled();
}

#[test]
fn a_private_copy_that_is_given_up_shows_the_object_again() {
    let mut t = backed(Backing::PrivateFile, Policy::default());
    t.read(&[t.writing(1)]);
    t.serve(1);
    t.read(&[t.remove(1, 1), t.reading(1)]);
    t.serve(1);
    assert_eq!(t.state(1), PageState::Clean);
}

#[test]
fn memory_without_an_object_has_no_cache() {
    let mut t = backed(Backing::Anonymous, Policy::default());
    t.read(&[cached(&t, 1, FaultFlags::empty())]);
    let Status::Failed(HandlerError::UnexpectedFault { .. }) = t.machine.status() else { panic!() };
}

#[test]
fn what_is_mapped_for_a_read_is_watched_for_writes() {
    let mut policy = Policy::default();
    policy.writes = Writes::Tracked;
    let mut t = backed(Backing::Shared, policy);
    t.read(&[cached(&t, 1, FaultFlags::empty()), cached(&t, 2, FaultFlags::WRITE)]);
    let req = continues(&mut t, 1, ContinueMode::WP);
    t.done(req);
    let req = continues(&mut t, 2, PLAIN);
    t.done(req);
    assert_eq!(t.machine.tracker().state(PageNo::new(1)), PageState::Clean);
    assert_eq!(t.state(2), PageState::Dirty);
    t.settled();
}

#[test]
fn a_page_that_is_cut_off_before_it_is_mapped_is_missing() {
    let mut t = shared();
    t.read(&[cached(&t, 1, FaultFlags::empty())]);
    let req = continues(&mut t, 1, PLAIN);
    assert_eq!(t.answer(req, Outcome::mirrored(Errno::EINVAL)), Completion::Kept);
    t.serve(1);
    t.settled();
}

#[test]
fn a_page_beyond_the_end_of_its_object_is_left_to_its_sigbus() {
    for backing in [Backing::Shared, Backing::PrivateFile] {
        let mut t = backed(backing, Policy::default());
        t.read(&[t.reading(1)]);
        let req = t.fetch(1);
        t.fetched(req);
        let (req, _) = t.ioctl("copy", 1);
        assert_eq!(t.answer(req, Outcome::mirrored(Errno::EFAULT)), Completion::Kept);
        let (req, _) = t.ioctl("wake", 1);
        t.answer(req, Outcome::OK);
        assert_eq!(t.machine.status(), &Status::Running);
        assert_eq!(t.machine.counters().dropped, 1);
        t.settled();
    }
}

#[test]
fn a_fault_that_waited_while_its_shared_page_was_given_up_gets_zeros() {
    let mut t = shared();
    // Two faults, the second on its way when the first was answered.
    t.read(&[t.reading(1)]);
    let req = t.fetch(1);
    t.fetched(req);
    let (req, _) = t.ioctl("copy", 1);
    t.done(req);
    t.read(&[t.reading(1)]);
    t.read(&[t.remove(1, 2)]);
    // The page was there, so if it is absent now it was punched.
    let (req, payload) = t.ioctl("zeropage", 1);
    assert_eq!(payload, Payload::None);
    t.done(req);
    assert_eq!(t.state(1), PageState::Zero);
    assert!(t.machine.tracker().was_removed(PageNo::new(1)));
    t.settled();
}

#[test]
fn an_install_behind_a_private_mappings_removal_is_in_doubt() {
    let mut t = backed(Backing::PrivateFile, Policy::default());
    t.read(&[t.remove(1, 3)]);
    t.read(&[t.reading(1)]);
    let req = t.fetch(1);
    t.fetched(req);
    let (req, _) = t.ioctl("copy", 1);
    t.done(req);
    assert_eq!(t.state(1), PageState::Clean);
    assert!(t.machine.tracker().is_unconfirmed(PageNo::new(1)));
    assert!(!t.machine.tracker().is_unconfirmed(PageNo::new(2)));
    // An un-protection, or an install, that was under way is as doubtful.
    let mut policy = Policy::default();
    policy.writes = Writes::Tracked;
    let mut t = backed(Backing::PrivateFile, policy);
    t.read(&[t.reading(1)]);
    let req = t.fetch(1);
    t.fetched(req);
    let (req, _) = t.ioctl("copy", 1);
    t.done(req);
    t.read(&[t.fault(1, FaultFlags::WRITE | FaultFlags::WP)]);
    let (req, _) = t.ioctl("un-writeprotect", 1);
    t.read(&[t.remove(1, 2)]);
    t.done(req);
    assert_eq!(t.state(1), PageState::Missing);
    assert!(t.machine.tracker().is_unconfirmed(PageNo::new(1)));
    t.settled();
}
