//! All endings of a program over every interleaving, on the simulated kernel. Owns the search:
//! one state after another, each once.

use std::collections::BTreeSet;

use shims::{Event, Request, Tid};
use sim::Content;
use sim::kernel::{Call, FileCall, Kernel, MmId, Payload, Reading, Ret, ThreadId};
use sim::world::BASE;

use super::super::arm::{bytes, event_text_at};
use super::super::backend::profile_of;
use super::super::op::{Op, PAGE};
use super::super::program::{Ask, Body, Doing, Part, Program, Seen, content_text, page_text};
use super::super::run::{Run, source};
use super::super::sim_arm::SimArm;
use super::super::steps::begin;
use super::{Ending, NotLitmus};

/// More states than any program that is still small has.
const STATES: usize = 4_000_000;

/// What [`allowed`] has found.
#[derive(Clone, Debug)]
pub struct Allowed {
    /// The endings.
    pub endings: BTreeSet<Ending>,
    /// How many states there are.
    pub states: usize,
}

/// What a thread does on the simulated kernel, and how its end is told.
struct Plan {
    calls: Vec<Call>,
    told: Told,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    /// A load: the class of what it read.
    Load,
    /// A read of messages.
    Messages,
    /// Poll bits.
    Bits,
    /// Anything else.
    Plain,
}

/// What does not change while the program runs.
struct Frame {
    plans: Vec<Vec<Plan>>,
    threads: Vec<ThreadId>,
    mm: MmId,
    /// The pages that are looked at.
    units: Vec<u64>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct World {
    kernel: Kernel,
    /// Where each task is: which of its things, and which call of it.
    at: Vec<(u16, u8)>,
    results: Vec<Vec<Seen>>,
    child: Option<MmId>,
}

/// Every ending of every interleaving of `program`.
pub fn allowed(program: &Program) -> Result<Allowed, NotLitmus> {
    let (frame, world) = start(program)?;
    let mut endings = BTreeSet::new();
    let mut open = vec![world];
    #[expect(clippy::disallowed_types, reason = "only asked for membership, never iterated")]
    let mut seen = std::collections::HashSet::new();
    while let Some(world) = open.pop() {
        if !seen.insert(world.clone()) {
            continue;
        }
        if seen.len() > STATES {
            return Err(NotLitmus(format!("it has more than {STATES} states")));
        }
        let mut moved = false;
        for (task, &thread) in frame.threads.iter().enumerate() {
            if world.kernel.can_step(thread) {
                let mut next = world.clone();
                next.kernel.step(thread);
                next.settle(&frame, task);
                open.push(next);
                moved = true;
            }
        }
        if !moved {
            endings.insert(world.ending(&frame));
        }
    }
    Ok(Allowed { endings, states: seen.len() })
}

fn start(program: &Program) -> Result<(Frame, World), NotLitmus> {
    let Body::Tasks(tasks) = &program.body else {
        return Err(NotLitmus(
            "its order is given: walk through it with `faultbed run`".to_owned(),
        ));
    };
    let profile = profile_of(program);
    let arm = SimArm::new(profile.clone(), program.pages(), &program.pieces(), true);
    let mut run = Run::new(Box::new(arm), profile, program.pages());
    if let Some(broken) = begin(&mut run, program) {
        return Err(NotLitmus(format!("the setup: {}", broken.what)));
    }
    for _ in tasks {
        run.thread();
    }
    let mut arm = run.into_arm();
    let arm: &mut SimArm = arm.as_sim().expect("this run is a simulated one");
    let first = arm.thread_count() - tasks.len();
    let mut plans = Vec::new();
    for (task, body) in tasks.iter().enumerate() {
        let plan = |(doing, _): &(Doing, _)| plan(arm, first + task, doing);
        plans.push(body.ops.iter().map(plan).collect::<Result<Vec<_>, _>>()?);
    }
    let granule = |page| super::super::op::granule(&program.pieces(), page);
    let units = (0..program.pages()).filter(|page| page % granule(*page) == 0).collect();
    let (kernel, mm) = arm.kernel();
    let threads = (0..tasks.len()).map(|task| arm.thread_id(first + task)).collect();
    let frame = Frame { plans, threads, mm, units };
    let count = tasks.len();
    let (at, results) = (vec![(0, 0); count], vec![Vec::new(); count]);
    let mut world = World { kernel, at, results, child: None };
    for task in 0..count {
        world.go_on(&frame, task);
    }
    Ok((frame, world))
}

fn plan(arm: &mut SimArm, thread: usize, doing: &Doing) -> Result<Plan, NotLitmus> {
    let no = |what: String| Err(NotLitmus(format!("a task that goes its own way cannot {what}")));
    Ok(match doing {
        Doing::Thread(op) => match op {
            Op::Exit
            | Op::Vfork
            | Op::SysvAttach { .. }
            | Op::CopyArg { .. }
            | Op::Remote { .. }
            | Op::ProcMem { .. }
            | Op::Fork
            | Op::ForkSharingFiles
            | Op::ReadBlocking { .. }
            | Op::PollBlocking { .. }
            | Op::DontNeedSelf { .. }
            | Op::CopyFrom { .. } => {
                return no(op.to_string());
            }
            Op::Load(_) | Op::Glance(_) | Op::Touch { write: false, .. } => {
                Plan { calls: vec![arm.file_call(thread, *op)], told: Told::Load }
            }
            op => Plan { calls: vec![arm.file_call(thread, *op)], told: Told::Plain },
        },
        Doing::Uffd(uffd, ask) => {
            let fd = arm.descriptor(*uffd).ok_or_else(|| {
                NotLitmus(format!("userfaultfd {uffd} is not open when the tasks begin"))
            })?;
            let span = |Part { at, len }| bytes(BASE, at, len);
            let resolve =
                |request, payload| vec![Call::File(FileCall::Resolve { fd, request, payload })];
            let mut told = Told::Plain;
            let calls = match *ask {
                Ask::Register(part, modes) => {
                    vec![Call::File(FileCall::Register { fd, range: span(part), modes })]
                }
                Ask::Unregister(part) => {
                    vec![Call::File(FileCall::Unregister { fd, range: span(part) })]
                }
                Ask::Wake(part) => resolve(Request::Wake { range: span(part) }, Payload::None),
                Ask::Copy(part, mode) => {
                    let pages = part.at / PAGE..(part.at + part.len).div_ceil(PAGE);
                    let payload = Payload::Many(pages.map(source).collect::<Vec<Content>>().into());
                    resolve(Request::Copy { dst: span(part), mode }, payload)
                }
                Ask::Zeropage(part, mode) => {
                    resolve(Request::Zeropage { range: span(part), mode }, Payload::None)
                }
                Ask::Continue(part, mode) => {
                    resolve(Request::Continue { range: span(part), mode }, Payload::None)
                }
                Ask::WriteProtect(part, mode) => {
                    resolve(Request::WriteProtect { range: span(part), mode }, Payload::None)
                }
                Ask::Move(part, to, mode) => {
                    let dst = bytes(BASE, to, part.len);
                    let src = span(part).start;
                    resolve(Request::Move { dst, src, mode }, Payload::None)
                }
                Ask::Poison(part, mode) => {
                    resolve(Request::Poison { range: span(part), mode }, Payload::None)
                }
                Ask::Message => {
                    told = Told::Messages;
                    let read = FileCall::Read(Reading::new(fd, 32));
                    vec![Call::File(FileCall::Poll { fd, wait: true }), Call::File(read)]
                }
                Ask::Events(max) => {
                    told = Told::Messages;
                    vec![Call::File(FileCall::Read(Reading::new(fd, 32 * max as u64)))]
                }
                Ask::Poll => {
                    told = Told::Bits;
                    vec![Call::File(FileCall::Poll { fd, wait: false })]
                }
                Ask::Close => vec![Call::File(FileCall::Close { fd })],
                Ask::Duplicate | Ask::Nonblocking(_) => return no(format!("{ask:?}")),
            };
            Plan { calls, told }
        }
        Doing::Open(_) | Doing::Signal(_) | Doing::Kill(_) => return no(format!("{doing:?}")),
    })
}

impl World {
    /// What `task` has finished, and the next thing it does. Neither can be seen by anybody
    /// else, so they are no steps of their own.
    fn settle(&mut self, frame: &Frame, task: usize) {
        let thread = frame.threads[task];
        let Some(ret) = self.kernel.take_ret(thread) else { return };
        let (nth, call) = self.at[task];
        let plan = &frame.plans[task][usize::from(nth)];
        if usize::from(call) + 1 < plan.calls.len() {
            self.at[task].1 += 1;
            self.go_on(frame, task);
            return;
        }
        let seen = match (ret, plan.told) {
            (Ret::Loaded(content), Told::Load) => Seen::Loaded(content_text(content)),
            (Ret::Ok(_), Told::Messages) => {
                let events = core::mem::take(self.kernel.inbox(thread));
                let who = |tid: Tid| {
                    frame.threads.iter().position(|thread| u32::from(thread.0) + 1 == tid.0)
                };
                let text = |event: &Event| event_text_at(BASE, &who, event);
                Seen::Messages(events.iter().map(text).collect())
            }
            (Ret::Err(shims::Errno::EAGAIN), Told::Messages) => Seen::Messages(Vec::new()),
            (Ret::Ok(bits), Told::Bits) => Seen::Bits(bits as u16),
            (Ret::Outcome(outcome), _) if is_wake(plan) => {
                outcome.errno.map_or(Seen::Done, Seen::Err)
            }
            (Ret::Outcome(outcome), _) => Seen::Outcome(outcome),
            (Ret::Forked(mm), _) => {
                self.child = Some(mm);
                Seen::Done
            }
            (Ret::Err(errno), _) if resolves(plan) => Seen::Outcome(shims::Outcome::bare(errno)),
            (ret, _) => SimArm::back(ret).into(),
        };
        self.results[task].push(seen);
        self.at[task] = (nth + 1, 0);
        self.go_on(frame, task);
    }

    fn go_on(&mut self, frame: &Frame, task: usize) {
        let (nth, call) = self.at[task];
        if let Some(plan) = frame.plans[task].get(usize::from(nth)) {
            self.kernel.begin(frame.threads[task], plan.calls[usize::from(call)].clone());
            // A call can be over before it has begun.
            self.settle(frame, task);
        }
    }

    fn ending(&self, frame: &Frame) -> Ending {
        let mut results = self.results.clone();
        for (task, results) in results.iter_mut().enumerate() {
            if results.len() < frame.plans[task].len() {
                results.push(Seen::Asleep);
            }
        }
        let pages = |mm| {
            let page = |&n: &u64| (n, page_text(n, &SimArm::entry_of(&self.kernel, mm, n)));
            frame.units.iter().map(page).collect()
        };
        Ending { results, pages: pages(frame.mm), child: self.child.map(pages) }
    }
}

fn resolves(plan: &Plan) -> bool {
    matches!(plan.calls[0], Call::File(FileCall::Resolve { .. })) && !is_wake(plan)
}

fn is_wake(plan: &Plan) -> bool {
    matches!(plan.calls[0], Call::File(FileCall::Resolve { request: Request::Wake { .. }, .. }))
}
