//! Our handler as a [`Subject`]: the machine of `faultbed-handler` with the threads of its
//! `threads` driver, each driver step between two locks being one step of the world.
//!
//! Owns the glue alone. What to install, when to retry and what to refuse is the machine's;
//! what the kernel answers is the kernel's.

use std::time::Duration;

use handler::{
    Action, DrainEnd, Machine, PageState, Payload as Bytes, Policy, ReadPermit, Region, RegionMap,
    ReqId, Status,
};
use shims::{Event, Len, Outcome, PageNo, PageRange, Time};
use sim::kernel::{Call, Payload, Ret};
use sim::world::{
    BASE, Claim, Control, Env, Injection, Move, Note, Setup, Standing, Subject, View,
};
use sim::{Content, kernel};

/// How many messages one `read` of the driver takes.
const BATCH: usize = 64;

/// The handler under test.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Model {
    machine: Machine,
    reader: Reader,
    workers: Vec<Worker>,
    /// The bytes fetched and not given back, as their content.
    bytes: Vec<(ReqId, Content)>,
    snapshot: Option<handler::PageStates>,
}

/// What the reading thread is about to do.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Reader {
    /// Sleep in poll until something is there, then ask the machine for permission.
    Poll,
    /// The machine said to wait for an install that is in flight.
    AwaitPermit,
    /// In `read`.
    Reading,
    /// Hand the batch to the machine.
    Apply { batch: Vec<Event>, end: DrainEnd },
}

/// What a worker is about to do.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Worker {
    /// Ask the machine for work.
    Idle,
    /// Read a page of the source.
    Fetch { req: ReqId, page: PageNo },
    /// Tell the machine that the bytes are here.
    Fetched { req: ReqId, page: PageNo },
    /// In an ioctl.
    Ioctl { req: ReqId },
    /// Tell the machine what it answered.
    Answered { req: ReqId, outcome: Outcome },
}

impl Model {
    /// The handler with `policy`, for the world of `setup`.
    pub fn new(policy: Policy, setup: &Setup) -> Model {
        let len = Len::pages(setup.pages, kernel::PAGE).expect("a world has few pages");
        let host = PageRange::new(BASE, len, kernel::PAGE).expect("a world's memory is aligned");
        let regions = RegionMap::new(vec![Region { host, offset: 0 }])
            .expect("one aligned region is a region map");
        Model {
            machine: Machine::new(policy, regions),
            reader: Reader::Poll,
            workers: vec![Worker::Idle; setup.workers],
            bytes: Vec::new(),
            snapshot: None,
        }
    }

    /// The machine, to look at.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    fn running(&self) -> bool {
        matches!(self.machine.status(), Status::Running)
    }

    fn step_reader(&mut self, env: &mut Env<'_>) -> Move {
        match core::mem::replace(&mut self.reader, Reader::Poll) {
            Reader::Poll | Reader::AwaitPermit => match self.machine.begin_read() {
                ReadPermit::Granted => {
                    env.begin(Call::Read { ctx: env.ctx(), max: BATCH });
                    self.reader = Reader::Reading;
                    Move::Handler(Note::new("polled, may read"))
                }
                ReadPermit::Wait | ReadPermit::Stopped => {
                    self.reader = Reader::AwaitPermit;
                    Move::Handler(Note::new("polled, must wait to read"))
                }
            },
            Reader::Reading => self.read(env),
            Reader::Apply { batch, end } => {
                let count = batch.len() as u32;
                self.machine.end_read(env.now(), &batch, end);
                Move::Handler(Note::new("apply batch").count(count))
            }
        }
    }

    fn read(&mut self, env: &mut Env<'_>) -> Move {
        let did = env.step();
        // The disturbances a scenario injects happen where the real ones would: an odd
        // message behind the first of a batch, an end of file or an error where the queue
        // would have been found empty.
        if let Some(Injection::UnknownEvent(code)) = env.injection()
            && !env.inbox().is_empty()
        {
            env.take_injection();
            env.inbox().push(Event::Unknown(code));
        }
        let Some(ret) = env.take_ret() else {
            self.reader = Reader::Reading;
            return Move::Kernel(did);
        };
        let batch = core::mem::take(env.inbox());
        let end = match (ret, env.injection()) {
            (_, Some(Injection::Eof)) => {
                env.take_injection();
                DrainEnd::Eof
            }
            (_, Some(Injection::Error(errno))) => {
                env.take_injection();
                DrainEnd::Error(errno)
            }
            (Ret::Read(count), _) if count >= BATCH => DrainEnd::BatchFull,
            (Ret::Read(_) | Ret::Err(shims::Errno::EAGAIN), _) => DrainEnd::Drained,
            (Ret::Err(errno), _) => DrainEnd::Error(errno),
            (ret, _) => unreachable!("read returned {ret:?}"),
        };
        self.reader = Reader::Apply { batch, end };
        Move::Kernel(did)
    }

    fn step_worker(&mut self, i: usize, env: &mut Env<'_>) -> Move {
        match self.workers[i].clone() {
            Worker::Idle => match self.machine.next(env.now()) {
                Some(Action::Fetch { req, page, .. }) => {
                    self.workers[i] = Worker::Fetch { req, page };
                    Move::Handler(Note::new("take: fetch").page(page.index()))
                }
                Some(Action::Ioctl { req, request, payload }) => {
                    let payload = match payload {
                        Bytes::None => Payload::None,
                        Bytes::Zeros => Payload::One(Content::Zero),
                        Bytes::Fetched => Payload::One(self.bytes_of(req)),
                    };
                    let page = sim::world::page_index(request.range().start).unwrap_or(0);
                    let what = match request.name() {
                        "copy" => "take: copy",
                        "zeropage" => "take: zeropage",
                        "wake" => "take: wake",
                        _ => "take: ioctl",
                    };
                    env.begin(Call::Resolve { ctx: env.ctx(), request, payload });
                    self.workers[i] = Worker::Ioctl { req };
                    Move::Handler(Note::new(what).page(page))
                }
                None => Move::Handler(Note::new("take: nothing")),
            },
            Worker::Fetch { req, page } => {
                let content = env.fetch(page.index());
                self.bytes.push((req, content));
                self.workers[i] = Worker::Fetched { req, page };
                Move::Handler(Note::new("fetch").page(page.index()))
            }
            Worker::Fetched { req, page } => {
                self.machine.fetched(req, Ok(()), env.now());
                self.drop_stale_bytes(req);
                self.workers[i] = Worker::Idle;
                Move::Handler(Note::new("fetched").page(page.index()))
            }
            Worker::Ioctl { req } => {
                let did = env.step();
                if let Some(ret) = env.take_ret() {
                    let Ret::Outcome(outcome) = ret else {
                        unreachable!("a resolving ioctl answered {ret:?}")
                    };
                    self.workers[i] = Worker::Answered { req, outcome };
                }
                Move::Kernel(did)
            }
            Worker::Answered { req, outcome } => {
                self.complete(req, outcome, env.now());
                self.workers[i] = Worker::Idle;
                Move::Handler(Note::new("commit"))
            }
        }
    }

    fn bytes_of(&self, req: ReqId) -> Content {
        self.bytes
            .iter()
            .find(|(of, _)| *of == req)
            .map(|(_, content)| *content)
            .expect("the machine asks for bytes that were fetched")
    }
}
