//! The steps of the handler's threads: what a driver does between two locks. Owns their order, and
//! where a mishap strikes them; whose turn it is the world decides.

use handler::{Action, Completion, DrainEnd, Payload as Bytes, ReadPermit, ReqId, SourceError};
use shims::{Event, PageNo};
use sim::Content;
use sim::kernel::{Call, Payload, Ret};
use sim::world::{Env, Exposed, Injection, Mishap, Move, Note};

use super::{Model, Reader, Worker};

/// How long a source takes that is late: longer than any pause of the handler's but those of a
/// source that failed.
const LATE: core::time::Duration = core::time::Duration::from_millis(10);

/// How many messages one `read` of the driver takes.
const BATCH: usize = 64;

impl Model {
    pub(super) fn step_reader(&mut self, env: &mut Env<'_>) -> Move {
        match core::mem::replace(&mut self.reader, Reader::Poll) {
            Reader::Poll | Reader::AwaitPermit => match self.machine.begin_read() {
                ReadPermit::Granted if env.mishap(Mishap::Nothing) => {
                    self.reader = Reader::Apply { batch: Vec::new(), end: DrainEnd::Drained };
                    Move::Handler(Note::new("polled, finds nothing").asked())
                }
                ReadPermit::Granted => {
                    let short = env.mishap(Mishap::ShortBatch);
                    let max = if short { 1 } else { BATCH };
                    let call = Call::Read { ctx: env.ctx(), max };
                    env.begin(call);
                    self.reader = Reader::Reading { short };
                    Move::Handler(Note::new("polled, may read").asked())
                }
                ReadPermit::Wait => {
                    self.reader = Reader::AwaitPermit;
                    Move::Handler(Note::new("polled, must wait").asked())
                }
                ReadPermit::Stopped => {
                    self.reader = Reader::Ended;
                    Move::Handler(Note::new("reads no more"))
                }
            },
            Reader::Ended => unreachable!("a reader that ended does not step"),
            Reader::Reading { short } => self.read(env, short),
            Reader::Apply { batch, end } => {
                let mut batch = batch;
                if let Some(hand) = &self.hand {
                    hand.tamper.batch(&mut batch);
                }
                let count = batch.len() as u32;
                self.machine.end_read(env.now(), &batch, end);
                Move::Handler(Note::new("apply batch").count(count))
            }
        }
    }

    fn read(&mut self, env: &mut Env<'_>, short: bool) -> Move {
        let did = env.step();
        // The disturbances a scenario injects happen where the real ones would: an odd
        // message behind the first of a batch, an end of file or an error where the queue
        // would have been found empty.
        if let Some(Injection::UnknownEvent(code)) = env.injection() {
            env.take_injection();
            env.inbox().push(Event::Unknown(code));
        }
        let Some(ret) = env.take_ret() else {
            self.reader = Reader::Reading { short };
            return Move::Kernel(did);
        };
        if short && ret == Ret::Read(1) {
            // The drivers read on until nothing is there.
            env.begin(Call::Read { ctx: env.ctx(), max: BATCH });
            self.reader = Reader::Reading { short: false };
            return Move::Kernel(did);
        }
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

    pub(super) fn step_worker(&mut self, i: usize, env: &mut Env<'_>) -> Move {
        match self.workers[i].clone() {
            Worker::Idle => match self.machine.next(env.now()) {
                Some(Action::Fetch { req, page, .. }) => {
                    self.workers[i] = Worker::Fetch { req, page };
                    Move::Handler(Note::new("take: fetch").page(page.index()))
                }
                Some(Action::Ioctl { req, request, .. })
                    if let Some(outcome) = env.refusal(&request) =>
                {
                    let hand = self.hand.as_ref();
                    let outcome = hand.map_or(outcome, |hand| hand.tamper.outcome(outcome));
                    self.workers[i] = Worker::Answered { req, outcome };
                    Move::Handler(Note::new("take: refused"))
                }
                Some(Action::Ioctl { req, request, payload }) => {
                    let zeros = payload == Bytes::Zeros;
                    let payload = match payload {
                        Bytes::None => Payload::None,
                        Bytes::Zeros => Payload::One(Content::Zero),
                        Bytes::Fetched => Payload::One(self.bytes_of(req)),
                    };
                    let (request, payload) = match &mut self.hand {
                        Some(hand) => hand.first(i, request, payload, zeros),
                        None => (request, payload),
                    };
                    let page = sim::world::page_index(request.range().start).unwrap_or(0);
                    let what = match request.name() {
                        "copy" => "take: copy",
                        "zeropage" => "take: zeropage",
                        "continue" => "take: continue",
                        "wake" => "take: wake",
                        "writeprotect" => "take: protect",
                        "un-writeprotect" => "take: un-protect",
                        _ => "take: ioctl",
                    };
                    let call = Call::Resolve { ctx: env.ctx(), request, payload };
                    env.begin(call);
                    self.workers[i] = Worker::Ioctl { req };
                    Move::Handler(Note::new(what).page(page))
                }
                None => Move::Handler(Note::new("take: nothing")),
            },
            Worker::Fetch { req, page } if env.mishap(Mishap::SourceLate) => {
                let until = env.now().after(LATE);
                self.workers[i] = Worker::Late { req, page, until };
                self.late += 1;
                Move::Handler(Note::new("fetch, slowly").page(page.index()).asked())
            }
            Worker::Fetch { req, page } if let Some(error) = self.broken(page, env) => {
                self.workers[i] = Worker::Failed { req, page, error };
                Move::Handler(Note::new("fetch fails").page(page.index()).asked())
            }
            Worker::Late { req, page, .. } => {
                self.late -= 1;
                self.bring(i, req, page, env)
            }
            Worker::Fetch { req, page } => self.bring(i, req, page, env),
            Worker::Fetched { req, page } => {
                let completion = self.machine.fetched(req, Ok(()), env.now());
                self.keep_or_drop(req, completion);
                self.workers[i] = Worker::Idle;
                Move::Handler(Note::new("fetched").page(page.index()))
            }
            Worker::Failed { req, page, error } => {
                let completion = self.machine.fetched(req, Err(error), env.now());
                self.keep_or_drop(req, completion);
                self.workers[i] = Worker::Idle;
                Move::Handler(Note::new("fetched").page(page.index()))
            }
            Worker::Ioctl { req } => {
                let did = env.step();
                if let Some(ret) = env.take_ret() {
                    let Ret::Outcome(outcome) = ret else {
                        unreachable!("a resolving ioctl answered {ret:?}")
                    };
                    let next =
                        self.hand.as_mut().map_or(Err(outcome), |hand| hand.next(i, outcome));
                    match next {
                        Ok((request, payload)) => {
                            env.begin(Call::Resolve { ctx: env.ctx(), request, payload });
                        }
                        Err(outcome) => self.workers[i] = Worker::Answered { req, outcome },
                    }
                }
                Move::Kernel(did)
            }
            Worker::Answered { req, outcome } => {
                let completion = self.machine.completed(req, outcome, env.now());
                self.keep_or_drop(req, completion);
                self.workers[i] = Worker::Idle;
                Move::Handler(Note::new("commit"))
            }
        }
    }

    /// The bytes of a page are here.
    fn bring(&mut self, i: usize, req: ReqId, page: PageNo, env: &mut Env<'_>) -> Move {
        let content = env.fetch(page.index());
        // Ascending, whoever was first: it makes no difference to anybody.
        let at = self.bytes.partition_point(|(of, _)| *of < req);
        self.bytes.insert(at, (req, content));
        self.workers[i] = Worker::Fetched { req, page };
        Move::Handler(Note::new("fetch").page(page.index()).asked())
    }

    fn bytes_of(&self, req: ReqId) -> Content {
        self.bytes
            .iter()
            .find(|(of, _)| *of == req)
            .map(|(_, content)| *content)
            .expect("the machine asks for bytes that were fetched")
    }

    fn keep_or_drop(&mut self, req: ReqId, completion: Completion) {
        if completion == Completion::Done {
            self.bytes.retain(|(of, _)| *of != req);
        }
    }

    /// What can go wrong with what a thread does next.
    pub(super) fn thread_exposed(&self, actor: usize) -> Exposed {
        if actor == 0 {
            return match self.reader {
                Reader::Poll | Reader::AwaitPermit if self.machine.may_read() => {
                    Exposed::NONE.to(Mishap::Nothing).to(Mishap::ShortBatch)
                }
                _ => Exposed::NONE,
            };
        }
        match self.workers[actor - 1] {
            Worker::Idle => Exposed::INSTALL,
            Worker::Fetch { .. } => Exposed::SOURCE,
            _ => Exposed::NONE,
        }
    }

    /// What is the matter with the source, if a mishap strikes it.
    fn broken(&self, page: PageNo, env: &mut Env<'_>) -> Option<SourceError> {
        let len = self.machine.regions().page_size().bytes();
        let offset = page.index() * len;
        if env.mishap(Mishap::SourceError) {
            return Some(SourceError::Io { offset, errno: shims::Errno::EIO });
        }
        if env.mishap(Mishap::SourceShort) {
            let (whole, half) = (offset + len, offset + len / 2);
            return Some(SourceError::Shrunk { offset, expected: whole, found: half });
        }
        env.mishap(Mishap::Panic).then_some(SourceError::Panicked)
    }
}
