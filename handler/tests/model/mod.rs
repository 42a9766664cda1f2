//! A kernel small enough to be checked by eye, and a world in which guests, removers, a
//! reader and workers take turns. Every step is one that other threads can see: an ioctl
//! acts at one moment and is answered at a later one, a remover goes on some time after
//! its message was read, and zaps some time after that.

use faultbed_handler::{
    Action, Completion, DrainEnd, Machine, PageStates, Payload, ReadPermit, Region, RegionMap,
    ReqId, SourceError, Status, StopReason, Writes, states,
};
use shims::{
    Addr, CopyMode, Errno, Event, Fault, FaultFlags, Len, Outcome, PageNo, PageRange, PageSize,
    Request, Span, Time, WriteProtectMode, ZeropageMode,
};

pub(crate) const PAGES: usize = 4;
const BASE: u64 = 0x10_0000;
const GUESTS: usize = 3;
const REMOVERS: usize = 2;
const WORKERS: usize = 3;

/// What a present page holds.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Bytes {
    Source,
    Zeros,
    Written,
    Poison,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Guest {
    Idle,
    /// About to touch a page.
    Touching {
        page: usize,
        write: bool,
    },
    /// It found no page, and has not queued its message yet. Whatever is installed now, it
    /// goes to sleep: this kernel does not look again (rule F3 does, without a lock), so
    /// only a `WAKE` after `EEXIST` saves it.
    Faulting {
        page: usize,
        write: bool,
        wp: bool,
    },
    /// Asleep; its message is queued (rule F2), or was read.
    Asleep {
        page: usize,
        write: bool,
        wp: bool,
        read: bool,
    },
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Remover {
    Idle,
    /// Its message is queued.
    Queued(usize, usize),
    /// Its message was read, and it has not run since.
    Read(usize, usize),
    /// The address space is quiet again, the pages are still there.
    ToZap(usize, usize),
}

#[derive(Clone, Debug)]
enum Worker {
    Idle,
    Fetching(ReqId),
    Issued(ReqId, Request, Payload),
    Performed(ReqId, Outcome),
}

#[derive(Clone, PartialEq, Debug)]
enum Reader {
    Idle,
    Reading(Vec<Event>),
}

/// Something that can happen now.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Step {
    Start(usize),
    Touch(usize),
    Enqueue(usize),
    Remove(usize),
    RemoverGoesOn(usize),
    BeginRead,
    ReadOne,
    EndRead,
    Take(usize),
    Perform(usize),
    Answer(usize),
    Tick,
    BeginSnapshot,
    TakeSnapshot,
    /// Save the bytes of the dirty pages. The baseline is taken some time after.
    Export,
    Abandon,
    Pause,
    Resume,
    /// Somebody asks the handler to stop.
    Stop,
}

pub(crate) struct World {
    pub(crate) machine: Machine,
    now: Time,
    pages: [Option<Bytes>; PAGES],
    protected: [bool; PAGES],
    /// Was the page written since the last baseline saved its bytes? Before it did?
    written: [bool; PAGES],
    saved: Option<[bool; PAGES]>,
    baselines: u64,
    /// Has a `REMOVE` of the page begun? Has one ended?
    remove_begun: [bool; PAGES],
    remove_ended: [bool; PAGES],
    guests: [Guest; GUESTS],
    removers: [Remover; REMOVERS],
    /// Faults in order of arrival: the guest.
    faults: Vec<usize>,
    /// Removers in order of arrival.
    events: Vec<usize>,
    reader: Reader,
    /// The reader was told to wait.
    waits: bool,
    workers: [Worker; WORKERS],
    /// Requests whose bytes the driver holds.
    held: Vec<ReqId>,
    /// How often a fetch fails, out of 8.
    broken: u64,
    /// May it be asked to stop, and has it been?
    stops: bool,
    /// Are snapshots taken and is reading paused while guests run?
    snapshots: bool,
    pub(crate) accesses: u64,
}

/// Draws that a test supplies.
pub(crate) trait Draw {
    fn draw(&mut self, below: usize) -> usize;
}

/// Bytes from a property test, and a fixed sequence once they run out: what comes after
/// them is fair to everybody.
pub(crate) struct Drawn<'a>(pub(crate) &'a [u8], pub(crate) Sequence);

impl Draw for Drawn<'_> {
    fn draw(&mut self, below: usize) -> usize {
        match self.0.split_first() {
            Some((byte, rest)) => {
                self.0 = rest;
                usize::from(*byte) % below
            }
            None => self.1.draw(below),
        }
    }
}

/// A fixed sequence of numbers from a seed.
pub(crate) struct Sequence(pub(crate) u64);

impl Draw for Sequence {
    fn draw(&mut self, below: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % below
    }
}

/// A page that was written and never given up must be called dirty.
fn expect_dirty(states: &PageStates, page: usize) -> Result<(), String> {
    let offset = number(page).index() * 4096;
    let state = states.records().iter().find(|r| r.offset() == offset).map(|r| r.name());
    if state == Some("dirty") { Ok(()) } else { Err(format!("page {page} was written: {state:?}")) }
}

pub(crate) fn regions() -> RegionMap {
    let page = PageSize::KIB4;
    let range = |start, pages| {
        PageRange::new(Addr::new(start), Len::pages(pages, page).unwrap(), page).unwrap()
    };
    // Two regions with a gap between them, the upper one first in the image.
    RegionMap::new(vec![
        Region { host: range(BASE, 2), offset: 0x2000 },
        Region { host: range(BASE + 0x8000, 2), offset: 0 },
    ])
    .unwrap()
}

/// Where page `page` of the model, which counts by address, is mapped.
pub(crate) fn addr(page: usize) -> Addr {
    let gap = if page < 2 { 0 } else { 0x6000 };
    Addr::new(BASE + gap + page as u64 * 4096)
}

fn number(page: usize) -> PageNo {
    PageNo::new([2, 3, 0, 1][page])
}

fn index(addr: Addr) -> usize {
    let into = (addr.raw() - BASE) / 4096;
    if into < 2 { into as usize } else { into as usize - 6 }
}

impl World {
    pub(crate) fn new(machine: Machine, broken: u64) -> World {
        World {
            machine,
            now: Time::ZERO,
            pages: [None; PAGES],
            protected: [false; PAGES],
            written: [false; PAGES],
            saved: None,
            baselines: 0,
            remove_begun: [false; PAGES],
            remove_ended: [false; PAGES],
            guests: [Guest::Idle; GUESTS],
            removers: [Remover::Idle; REMOVERS],
            faults: Vec::new(),
            events: Vec::new(),
            reader: Reader::Idle,
            waits: false,
            workers: [const { Worker::Idle }; WORKERS],
            held: Vec::new(),
            broken,
            stops: false,
            snapshots: false,
            accesses: 0,
        }
    }

    /// Such a world takes snapshots, and pauses and resumes reading.
    pub(crate) fn with_snapshots(self) -> World {
        World { snapshots: true, ..self }
    }

    /// Such a world may ask its handler to stop at any moment.
    pub(crate) fn that_stops(self) -> World {
        World { stops: true, ..self }
    }

    /// Take `steps` steps, then no new accesses and removes, until nothing can happen.
    /// Tells what is wrong at the end, if anything is.
    pub(crate) fn run(&mut self, draw: &mut impl Draw, steps: usize) -> Result<(), String> {
        for _ in 0..steps {
            self.step(draw, true)?;
        }
        for _ in 0..20_000 {
            if !self.step(draw, false)? {
                return self.check_end();
            }
        }
        Err(format!("never comes to rest: {}", self.picture()))
    }

    /// A snapshot of a world at rest says what the pages hold.
    pub(crate) fn check_snapshot(&mut self, draw: &mut impl Draw) -> Result<PageStates, String> {
        if core::mem::take(&mut self.snapshots) {
            // One that was asked for before is not waited for.
            self.saved = None;
            self.machine.abandon_snapshot();
        }
        self.machine.begin_snapshot();
        let mut left = 2_000;
        while !self.machine.snapshot_ready() {
            self.step(draw, false)?;
            left -= 1;
            if left == 0 {
                return Err(format!("no snapshot: {}", self.picture()));
            }
        }
        let snapshot = self.machine.take_snapshot();
        for page in 0..PAGES {
            if self.tracked() && self.written[page] && !self.remove_begun[page] {
                expect_dirty(&snapshot, page)?;
            }
            let offset = number(page).index() * 4096;
            let state = snapshot.records().iter().find(|r| r.offset() == offset).map(|r| r.state());
            let fits = match state {
                None => self.pages[page].is_none() && !self.remove_ended[page],
                Some(states::CLEAN) => {
                    matches!(self.pages[page], Some(Bytes::Source | Bytes::Written))
                }
                Some(states::DIRTY) => self.pages[page].is_some(),
                Some(states::ZERO) => {
                    matches!(self.pages[page], Some(Bytes::Zeros | Bytes::Written))
                }
                Some(states::REMOVED) => self.pages[page].is_none() && self.remove_ended[page],
                Some(states::POISONED) => self.pages[page] == Some(Bytes::Poison),
                Some(other) => return Err(format!("page {page}: state {other} at rest")),
            };
            if !fits {
                return Err(format!("page {page} holds {:?}, not {state:?}", self.pages[page]));
            }
        }
        Ok(snapshot)
    }

    fn check_end(&self) -> Result<(), String> {
        let over = self.machine.status().is_over();
        let counters = self.machine.counters();
        if !self.machine.settled() || counters.pending() != 0 {
            return Err(format!("not settled: {}", self.picture()));
        }
        for guest in self.guests {
            // Whoever sleeps may be one whose fault the handler gave up, no other.
            let stopped = *self.machine.status() == Status::Stopped(StopReason::Requested);
            let stranded = matches!(guest, Guest::Asleep { read: true, .. });
            if guest != Guest::Idle && (!over || stopped && stranded) {
                return Err(format!("asleep for ever: {}", self.picture()));
            }
        }
        if !over && self.removers.iter().any(|r| *r != Remover::Idle) {
            return Err(format!("a remover waits for ever: {}", self.picture()));
        }
        if !self.held.is_empty() {
            return Err(format!("bytes are left over: {:?}", self.held));
        }
        Ok(())
    }

    fn picture(&self) -> String {
        format!(
            "{:?} {:?} {:?} {:?} {:?}\n{:?}",
            self.pages, self.guests, self.removers, self.reader, self.workers, self.machine
        )
    }

    fn changing(&self) -> bool {
        let changing = |r: &Remover| matches!(r, Remover::Queued(..) | Remover::Read(..));
        self.removers.iter().any(changing)
    }

    fn enabled(&self, new: bool) -> Vec<Step> {
        let mut steps = Vec::new();
        for (i, guest) in self.guests.iter().enumerate() {
            match guest {
                Guest::Idle if new => steps.push(Step::Start(i)),
                Guest::Touching { .. } => steps.push(Step::Touch(i)),
                Guest::Faulting { .. } => steps.push(Step::Enqueue(i)),
                _ => {}
            }
        }
        for (i, remover) in self.removers.iter().enumerate() {
            match remover {
                Remover::Idle if new => steps.push(Step::Remove(i)),
                Remover::Read(..) | Remover::ToZap(..) => steps.push(Step::RemoverGoesOn(i)),
                _ => {}
            }
        }
        let readable = !self.faults.is_empty() || !self.events.is_empty();
        match &self.reader {
            // Whoever was told to wait asks again, even if its message was withdrawn.
            Reader::Idle if (readable || self.waits) && self.machine.may_read() => {
                steps.push(Step::BeginRead);
            }
            // A reader that asks too early is told to wait, and installs let it through.
            Reader::Idle if readable && !self.waits && !self.machine.is_ending() => {
                steps.push(Step::BeginRead);
            }
            Reader::Reading(_) if readable => steps.extend([Step::ReadOne, Step::ReadOne]),
            _ => {}
        }
        if let Reader::Reading(_) = self.reader
            && !readable
        {
            steps.push(Step::EndRead);
        }
        for (i, worker) in self.workers.iter().enumerate() {
            match worker {
                Worker::Idle if self.machine.has_work(self.now) => steps.push(Step::Take(i)),
                Worker::Issued(..) => steps.push(Step::Perform(i)),
                Worker::Fetching(..) | Worker::Performed(..) => steps.push(Step::Answer(i)),
                Worker::Idle => {}
            }
        }
        if self.machine.next_deadline().is_some_and(|t| t > self.now) {
            steps.push(Step::Tick);
        }
        if self.snapshots {
            match self.machine.snapshot_begun() {
                false if new => steps.push(Step::BeginSnapshot),
                true if self.saved.is_some() => {
                    steps.extend([Step::TakeSnapshot, Step::Abandon]);
                }
                true if self.machine.snapshot_ready() && self.tracked() => {
                    steps.extend([Step::Export, Step::Abandon]);
                }
                true if self.machine.snapshot_ready() => steps.push(Step::TakeSnapshot),
                _ => {}
            }
        }
        match self.machine.paused() {
            false if new && self.snapshots => steps.push(Step::Pause),
            true => steps.push(Step::Resume),
            false => {}
        }
        if new && self.stops {
            steps.push(Step::Stop);
        }
        steps
    }

    /// Tells whether anything happened.
    fn step(&mut self, draw: &mut impl Draw, new: bool) -> Result<bool, String> {
        let steps = self.enabled(new);
        if steps.is_empty() {
            return Ok(false);
        }
        let step = steps[draw.draw(steps.len())];
        self.apply(step, draw)?;
        // A copy is the same machine, with the same hash.
        debug_assert_eq!(self.machine, self.machine.clone());
        Ok(true)
    }

    fn apply(&mut self, step: Step, draw: &mut impl Draw) -> Result<(), String> {
        match step {
            Step::Start(i) => {
                let (page, write) = (draw.draw(PAGES), draw.draw(2) == 1);
                self.guests[i] = Guest::Touching { page, write };
            }
            Step::Touch(i) => self.touch(i)?,
            Step::Enqueue(i) => {
                let Guest::Faulting { page, write, wp } = self.guests[i] else { unreachable!() };
                self.guests[i] = Guest::Asleep { page, write, wp, read: false };
                self.faults.push(i);
            }
            Step::Remove(i) => {
                let first = draw.draw(PAGES);
                let end = first + 1 + draw.draw(PAGES - first);
                self.remove_begun[first..end].fill(true);
                self.removers[i] = Remover::Queued(first, end);
                self.events.push(i);
            }
            Step::RemoverGoesOn(i) => match self.removers[i] {
                Remover::Read(first, end) => self.removers[i] = Remover::ToZap(first, end),
                Remover::ToZap(first, end) => {
                    self.pages[first..end].fill(None);
                    self.protected[first..end].fill(false);
                    self.written[first..end].fill(false);
                    self.remove_ended[first..end].fill(true);
                    self.removers[i] = Remover::Idle;
                }
                Remover::Idle | Remover::Queued(..) => unreachable!(),
            },
            Step::BeginRead => {
                let may = self.machine.may_read();
                let permit = self.machine.begin_read();
                assert_eq!(may, permit == ReadPermit::Granted, "may_read lied");
                self.waits = permit == ReadPermit::Wait;
                if permit == ReadPermit::Granted {
                    self.reader = Reader::Reading(Vec::new());
                }
            }
            Step::ReadOne => self.read_one(),
            Step::EndRead => {
                let Reader::Reading(batch) = core::mem::replace(&mut self.reader, Reader::Idle)
                else {
                    unreachable!()
                };
                self.machine.end_read(self.now, &batch, DrainEnd::Drained);
            }
            Step::Take(i) => {
                let action = self.machine.next(self.now).ok_or("has_work lied")?;
                self.workers[i] = match action {
                    Action::Fetch { req, page, addr } => {
                        assert_eq!(number(index(addr)), page);
                        Worker::Fetching(req)
                    }
                    Action::Ioctl { req, request, payload } => {
                        let held = self.held.contains(&req);
                        assert!(payload != Payload::Fetched || held, "no bytes for {request}");
                        Worker::Issued(req, request, payload)
                    }
                };
                if let Worker::Issued(_, Request::Copy { .. }, Payload::Fetched) = self.workers[i] {
                    assert_eq!(self.reader, Reader::Idle, "a source install during a read");
                }
            }
            Step::Perform(i) => {
                let Worker::Issued(req, request, payload) = self.workers[i] else { unreachable!() };
                let outcome = self.perform(request, payload);
                self.workers[i] = Worker::Performed(req, outcome);
            }
            Step::Answer(i) => {
                let worker = core::mem::replace(&mut self.workers[i], Worker::Idle);
                let (req, completion) = match worker {
                    Worker::Fetching(req) => {
                        let broken = (draw.draw(8) as u64) < self.broken;
                        let error = SourceError::Io { offset: 0, errno: Errno::EIO };
                        let result = if broken { Err(error) } else { Ok(()) };
                        let completion = self.machine.fetched(req, result, self.now);
                        if completion == Completion::Kept {
                            assert!(!broken && !self.held.contains(&req));
                            self.held.push(req);
                        }
                        (req, completion)
                    }
                    Worker::Performed(req, outcome) => {
                        (req, self.machine.completed(req, outcome, self.now))
                    }
                    Worker::Idle | Worker::Issued(..) => unreachable!(),
                };
                if completion == Completion::Done {
                    self.held.retain(|held| *held != req);
                }
            }
            Step::BeginSnapshot if self.tracked() => self.machine.begin_baseline(),
            Step::BeginSnapshot => self.machine.begin_snapshot(),
            Step::Export => {
                let states = self.machine.export_baseline();
                for page in 0..PAGES {
                    if self.written[page] && !self.remove_begun[page] {
                        expect_dirty(&states, page)?;
                    }
                }
                self.saved = Some(core::mem::take(&mut self.written));
            }
            Step::Abandon => {
                // What an export that failed has taken was not saved.
                for (page, was) in self.saved.take().into_iter().flatten().enumerate() {
                    self.written[page] |= was;
                }
                self.machine.abandon_snapshot();
            }
            Step::TakeSnapshot if self.saved.take().is_some() => {
                self.machine.take_baseline();
                self.baselines += 1;
            }
            Step::TakeSnapshot => {
                self.machine.take_snapshot();
            }
            Step::Pause => self.machine.pause(),
            Step::Resume => self.machine.resume(),
            Step::Stop => {
                // Rarely enough for something to happen before.
                if draw.draw(16) == 0 {
                    self.machine.stop();
                    self.stops = false;
                }
            }
            Step::Tick => {
                self.now = self.machine.next_deadline().expect("a tick has a deadline");
            }
        }
        Ok(())
    }

    fn touch(&mut self, i: usize) -> Result<(), String> {
        let Guest::Touching { page, write } = self.guests[i] else { unreachable!() };
        match self.pages[page] {
            None => {
                self.guests[i] = Guest::Faulting { page, write, wp: false };
                return Ok(());
            }
            Some(_) if write && self.protected[page] => {
                self.guests[i] = Guest::Faulting { page, write, wp: true };
                return Ok(());
            }
            Some(Bytes::Source) if self.remove_ended[page] => {
                return Err(format!("page {page} shows its source after it was removed"));
            }
            Some(Bytes::Zeros) if !self.remove_begun[page] => {
                return Err(format!("page {page} shows zeros and was never removed"));
            }
            Some(Bytes::Poison) if self.remove_ended[page] => {
                return Err(format!("page {page} is poison after it was removed"));
            }
            // The guest gets SIGBUS.
            Some(Bytes::Poison) => {}
            Some(_) if write => {
                self.pages[page] = Some(Bytes::Written);
                self.written[page] = true;
            }
            Some(_) => {}
        }
        self.accesses += 1;
        self.guests[i] = Guest::Idle;
        Ok(())
    }

    /// Faults before events (rule a11).
    fn read_one(&mut self) {
        let Reader::Reading(batch) = &mut self.reader else { unreachable!() };
        if self.faults.is_empty() {
            let remover = self.events.remove(0);
            let Remover::Queued(first, end) = self.removers[remover] else { unreachable!() };
            self.removers[remover] = Remover::Read(first, end);
            let last = addr(end - 1).raw() + 4096;
            batch.push(Event::Remove(Span::between(addr(first), Addr::new(last)).unwrap()));
        } else {
            let guest = self.faults.remove(0);
            let Guest::Asleep { page, write, wp, read } = &mut self.guests[guest] else {
                unreachable!("only sleepers have messages")
            };
            *read = true;
            let mut flags = if *write { FaultFlags::WRITE } else { FaultFlags::empty() };
            flags.set(FaultFlags::WP, *wp);
            batch.push(Event::Fault(Fault { addr: addr(*page), flags, tid: None }));
        }
    }

    fn perform(&mut self, request: Request, payload: Payload) -> Outcome {
        let page = index(request.range().start);
        let mut protected = false;
        let (bytes, wakes) = match request {
            Request::Wake { .. } => {
                self.wake(page);
                return Outcome::OK;
            }
            Request::Copy { mode, .. } => {
                let bytes = match payload {
                    Payload::Fetched => Bytes::Source,
                    Payload::Zeros => Bytes::Zeros,
                    Payload::None => panic!("a copy of nothing"),
                };
                protected = mode.contains(CopyMode::WP);
                (bytes, !mode.contains(CopyMode::DONTWAKE))
            }
            Request::WriteProtect { mode, .. } => {
                assert!(self.tracked());
                if self.changing() {
                    return Outcome::bare(Errno::EAGAIN);
                }
                self.protected[page] =
                    self.pages[page].is_some() && mode.contains(WriteProtectMode::WP);
                if mode.is_empty() {
                    self.wake(page);
                }
                return Outcome::OK;
            }
            Request::Zeropage { mode, .. } => {
                assert_eq!(payload, Payload::None);
                (Bytes::Zeros, !mode.contains(ZeropageMode::DONTWAKE))
            }
            Request::Poison { .. } => (Bytes::Poison, true),
            other => panic!("{other} was never needed"),
        };
        if self.changing() {
            return Outcome::mirrored(Errno::EAGAIN);
        }
        match self.pages[page] {
            // A copy goes over poison (rule e10).
            Some(there) if there != Bytes::Poison || bytes != Bytes::Source => {
                return Outcome::mirrored(Errno::EEXIST);
            }
            _ => (self.pages[page], self.protected[page]) = (Some(bytes), protected),
        }
        if wakes {
            self.wake(page);
        }
        Outcome::done(4096)
    }

    /// Everyone asleep on the page goes on, and a message not yet read is withdrawn
    /// (rule a17).
    fn wake(&mut self, at: usize) {
        for (i, guest) in self.guests.iter_mut().enumerate() {
            if let Guest::Asleep { page, write, .. } = *guest
                && page == at
            {
                *guest = Guest::Touching { page, write };
                self.faults.retain(|f| *f != i);
            }
        }
    }

    fn tracked(&self) -> bool {
        self.machine.policy().writes == Writes::Tracked
    }

    /// How many baselines were taken.
    pub(crate) fn baselines(&self) -> u64 {
        self.baselines
    }

    pub(crate) fn failed(&self) -> bool {
        matches!(self.machine.status(), Status::Failed(_))
    }
}
