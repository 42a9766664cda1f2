//! A conversation with a machine, in the words of a test: what was read, which action must
//! come next, how it was answered.
#![allow(dead_code)]

use faultbed_handler::{
    Action, Completion, DrainEnd, Machine, PageState, Payload, Policy, ReadPermit, RegionMap, ReqId,
};
use shims::{
    Addr, Errno, Event, Fault, FaultFlags, Len, Outcome, PageNo, PageRange, PageSize, Span, Tid,
    Time,
};

pub(crate) const BASE: u64 = 0x40_0000_0000;

/// A machine and the clock; one region of `PAGES` pages at `BASE`.
pub(crate) struct Talk {
    pub(crate) machine: Machine,
    pub(crate) now: Time,
    pub(crate) page: PageSize,
}

pub(crate) fn talk() -> Talk {
    Talk::with(Policy::default(), PageSize::KIB4, 16)
}

impl Talk {
    pub(crate) fn with(policy: Policy, page: PageSize, pages: u64) -> Talk {
        let len = Len::pages(pages, page).unwrap();
        let regions = RegionMap::single(PageRange::new(Addr::new(BASE), len, page).unwrap());
        Talk { machine: Machine::new(policy, regions), now: Time::ZERO, page }
    }

    pub(crate) fn addr(&self, page: u64) -> Addr {
        Addr::new(BASE + page * self.page.bytes())
    }

    pub(crate) fn fault(&self, page: u64, flags: FaultFlags) -> Event {
        Event::Fault(Fault { addr: self.addr(page), flags, tid: Some(Tid(1)) })
    }

    pub(crate) fn reading(&self, page: u64) -> Event {
        self.fault(page, FaultFlags::empty())
    }

    pub(crate) fn writing(&self, page: u64) -> Event {
        self.fault(page, FaultFlags::WRITE)
    }

    pub(crate) fn remove(&self, first: u64, count: u64) -> Event {
        Event::Remove(self.span(first, count))
    }

    pub(crate) fn span(&self, first: u64, count: u64) -> Span {
        Span::new(self.addr(first), Len::pages(count, self.page).unwrap())
    }

    #[track_caller]
    pub(crate) fn read_until(&mut self, batch: &[Event], end: DrainEnd) {
        assert_eq!(self.machine.begin_read(), ReadPermit::Granted);
        self.machine.end_read(self.now, batch, end);
    }

    #[track_caller]
    pub(crate) fn read(&mut self, batch: &[Event]) {
        self.read_until(batch, DrainEnd::Drained);
    }

    #[track_caller]
    pub(crate) fn next(&mut self) -> Action {
        assert!(self.machine.has_work(self.now), "there is an action");
        self.machine.next(self.now).unwrap()
    }

    #[track_caller]
    pub(crate) fn nothing(&mut self) {
        assert!(!self.machine.has_work(self.now));
        assert_eq!(self.machine.next(self.now), None);
    }

    /// The next action must be a fetch of that page.
    #[track_caller]
    pub(crate) fn fetch(&mut self, expected: u64) -> ReqId {
        match self.next() {
            Action::Fetch { req, page, addr } => {
                assert_eq!((page.index(), addr), (expected, self.addr(expected)));
                req
            }
            other => panic!("a fetch of page {expected} expected, not {other:?}"),
        }
    }

    /// The next action must be an ioctl of that name on that page.
    #[track_caller]
    pub(crate) fn ioctl(&mut self, name: &str, page: u64) -> (ReqId, Payload) {
        match self.next() {
            Action::Ioctl { req, request, payload } => {
                assert_eq!((request.name(), request.range()), (name, self.span(page, 1)));
                (req, payload)
            }
            other => panic!("a {name} expected, not {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn fetched(&mut self, req: ReqId) {
        assert_eq!(self.machine.fetched(req, Ok(()), self.now), Completion::Kept);
    }

    pub(crate) fn answer(&mut self, req: ReqId, outcome: Outcome) -> Completion {
        self.machine.completed(req, outcome, self.now)
    }

    #[track_caller]
    pub(crate) fn done(&mut self, req: ReqId) {
        let done = Outcome::done(self.page.bytes());
        assert_eq!(self.answer(req, done), Completion::Done);
    }

    /// Serve a fault that needs the source, from fetch to answer.
    #[track_caller]
    pub(crate) fn serve(&mut self, page: u64) {
        let req = self.fetch(page);
        self.fetched(req);
        let (req, payload) = self.ioctl("copy", page);
        assert_eq!(payload, Payload::Fetched);
        self.done(req);
    }

    pub(crate) fn state(&self, page: u64) -> PageState {
        self.machine.tracker().state(PageNo::new(page))
    }

    pub(crate) fn unconfirmed(&self, page: u64) -> bool {
        self.machine.tracker().is_unconfirmed(PageNo::new(page))
    }

    /// Move the clock to the next deadline; how far that was.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> u128 {
        let until = self.machine.next_deadline().expect("something waits");
        let waited = until.since(self.now).as_micros();
        self.now = until;
        waited
    }

    #[track_caller]
    pub(crate) fn settled(&self) {
        assert!(self.machine.settled());
        assert_eq!(self.machine.counters().pending(), 0, "{:?}", self.machine.counters());
    }
}

pub(crate) fn changing() -> Outcome {
    Outcome::mirrored(Errno::EAGAIN)
}

pub(crate) fn present() -> Outcome {
    Outcome::mirrored(Errno::EEXIST)
}
