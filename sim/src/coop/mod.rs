//! Handlers as people write them: ordinary blocking code with threads and locks of its own,
//! as a [`Subject`]. Owns the running of that code, one scheduling point at a time.
//!
//! The code runs on coroutines, one for each of its threads. Every call through the seam,
//! every lock, channel, timer and atomic of [`crate::sync`] is a point where it gives control
//! back, and the search decides who goes on. The kernel's steps of a call are steps of the
//! world, as they are for a state machine; the code sleeps until its call returns.
//!
//! A coroutine cannot be copied. A copy of a [`Coop`] that has begun remembers what came to
//! it from outside, and its code runs again up to the same point when the copy first moves.
//!
//! # Divergence from real threads
//!
//! - Atomics are sequentially consistent, whatever ordering they are given.
//! - A condition has no spurious wake-ups.
//! - Code between two points is one step. Data that is shared other than through
//!   [`crate::sync`] is not seen changing in between.

mod bed;
mod check;
mod core;
mod fiber;
mod op;
mod order;
mod point;
mod team;
mod waits;

use std::cell::{OnceCell, RefCell};
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use shims::{Errno, Event, Time, Wakeup};

pub use bed::{Bed, Source, Uffd, Waiter};
pub use check::{Check, Found};
pub(crate) use core::Core;
pub(crate) use op::{ChannelId, CondId, How, LockId, Op, Reply};
pub(crate) use point::{point, with};
pub(crate) use team::team;

use crate::kernel::{Call, PAGE, Ret};
use crate::vma::CtxId;
use crate::world::{
    Env, Exposed, Failure, Injection, Mishap, Move, Note, Setup, Standing, Subject, View,
};
use fiber::Fiber;
use op::Input;
use point::{Over, Shared};

/// Threads a handler may have unless it asks for more.
const ROOM: usize = 8;

/// Moves of the clock after which a handler that only wakes, finds nothing and sleeps again is
/// taken to be at rest.
const PATIENCE: u32 = 24;

/// Steps after which a run is called a livelock: steps of ordinary code cost a hundred times as
/// much as those of a value, and its worlds are small.
const LIVELOCK: u32 = 5_000;

/// Steps after which a handler has started whatever threads it starts with.
const ROUNDS: usize = 1_000;

/// How long a source takes that is late.
const LATE: Duration = Duration::from_millis(10);

/// How often a thread that does not end is resumed at the end of a run.
const STUBBORN: u32 = 10_000;

/// What a handler is: a function that serves until there is nothing more to serve. An error
/// says why it gave up.
type Main = dyn Fn(Bed) -> Result<(), String> + Send + Sync;

/// A handler made of ordinary code.
pub struct Coop {
    main: Arc<Main>,
    pages: u64,
    room: usize,
    /// What came from outside so far: who moved, when, and what it got.
    history: Vec<(u8, Time, Input)>,
    live: OnceCell<Live>,
    /// The names of the threads it starts with.
    names: Arc<OnceLock<Vec<String>>>,
}

/// The running code.
struct Live {
    run: Shared,
}

impl Coop {
    /// The handler `main`, for the world of `setup`. It may run many times over: whatever it
    /// keeps must be made inside.
    ///
    /// # Panics
    ///
    /// If the world has huge pages.
    pub fn new<E: ToString>(
        setup: &Setup,
        main: impl Fn(Bed) -> Result<(), E> + Send + Sync + 'static,
    ) -> Coop {
        let main = move |bed: Bed| main(bed).map_err(|error| error.to_string());
        Coop::of(Arc::new(main), setup)
    }

    fn of(main: Arc<Main>, setup: &Setup) -> Coop {
        let huge = setup.memory.page_size() != PAGE;
        assert!(!huge, "ordinary code has no worlds of huge pages: the bed has none");
        let pages = setup.pages;
        let (live, names) = (OnceCell::new(), Arc::default());
        Coop { main, pages, room: ROOM, history: Vec::new(), live, names }
    }

    /// Make room for so many threads, the first included.
    #[must_use]
    pub fn threads(mut self, room: usize) -> Coop {
        assert!((1..64).contains(&room), "from 1 to 63 threads");
        self.room = room;
        self
    }

    /// The running code, brought to where the history ends.
    fn live(&self) -> &Live {
        self.live.get_or_init(|| {
            let live = self.begin();
            for (actor, now, input) in &self.history {
                match input {
                    Input::Stop => live.run.borrow_mut().stopping = true,
                    input => live.feed(usize::from(*actor), *now, input.clone()),
                }
            }
            live
        })
    }

    /// The names of the threads that are there before anything comes from outside. A schedule
    /// that was recorded goes by them from its first step.
    fn first_names(&self) -> &[String] {
        self.names.get_or_init(|| {
            let live = self.begin();
            for _ in 0..ROUNDS {
                let alone = live.run.borrow().ready_alone();
                let Some(actor) = alone else { break };
                live.feed(actor, Time::ZERO, Input::None);
            }
            let core = live.run.borrow();
            core.threads.iter().map(|thread| thread.name.clone()).collect()
        })
    }

    fn begin(&self) -> Live {
        let run = Rc::new(RefCell::new(Core::new(self.room, "main")));
        let main = Arc::clone(&self.main);
        let bed = Bed::new(self.pages, CtxId(0));
        let fiber = Fiber::new(move || {
            thread_body(|| {
                let result = main(bed);
                with(|run| run.result = Some(result));
            });
        });
        run.borrow_mut().fibers.push(Some(fiber));
        Live { run }
    }

    /// What a step of `actor` gets from outside, and what it was.
    fn ask(&self, actor: usize, env: &mut Env<'_>) -> (Input, Move) {
        let core = self.live().run.borrow();
        let op = core.threads[actor].op.as_ref().expect("an actor that moves is about to");
        let note = Note::new(op.verb());
        let lock = |lock: &LockId| note.of(core.lock(*lock).name);
        let cond = |cond: &CondId| note.of(core.cond(*cond).name);
        let channel = |channel: &ChannelId| note.of(core.channel(*channel).name);
        let note = match op {
            Op::Call(call) => {
                if let Some(input) = disturbed(call, env) {
                    return (input, Move::Handler(Note::new("call, in vain")));
                }
                let read = matches!(call, Call::Read { .. });
                let call = match *call {
                    Call::Read { ctx, .. } if env.mishap(Mishap::ShortBatch) => {
                        Call::Read { ctx, max: 1 }
                    }
                    ref call => call.clone(),
                };
                env.begin(call);
                return call_moved(env, read);
            }
            Op::InCall { read } => return call_moved(env, *read),
            Op::Poll { until } => {
                let mut wakeup = Wakeup::empty();
                wakeup.set(Wakeup::READABLE, env.readable());
                wakeup.set(Wakeup::NOTIFIED, core.bell());
                wakeup.set(Wakeup::TIMEOUT, until.is_some_and(|until| until <= env.now()));
                return (Input::Wakeup(wakeup), Move::Handler(note.asked()));
            }
            Op::Fetch { page, may_fail } => {
                let input = source_input(*may_fail, env);
                return (input, Move::Handler(note.page(*page).asked()));
            }
            Op::Touch(name) => note.of(*name),
            Op::Lock { lock: id, .. }
            | Op::TryLock { lock: id, .. }
            | Op::Relock { lock: id, .. } => lock(id),
            Op::Wait { cond: id, .. } | Op::Notify { cond: id, .. } => cond(id),
            Op::Send { channel: id }
            | Op::Recv { channel: id, .. }
            | Op::TryRecv { channel: id } => channel(id),
            Op::Start
            | Op::Yield
            | Op::Ring
            | Op::Late { .. }
            | Op::UntilStopped
            | Op::Sleep { .. }
            | Op::Join { .. }
            | Op::JoinTeam { .. } => note,
        };
        (Input::None, Move::Handler(note))
    }
}

/// What a call comes to that a mishap strikes before it reaches the kernel.
fn disturbed(call: &Call, env: &mut Env<'_>) -> Option<Input> {
    match call {
        Call::Read { .. } => {
            let signal = env.mishap(Mishap::Interrupt).then_some(Errno::EINTR);
            let errno = signal.or_else(|| env.mishap(Mishap::Nothing).then_some(Errno::EAGAIN))?;
            Some(Input::Ret(Ret::Err(errno), Vec::new()))
        }
        Call::Resolve { request, .. } => {
            let outcome = env.refusal(request)?;
            Some(Input::Ret(Ret::Outcome(outcome), Vec::new()))
        }
        _ => None,
    }
}

/// What the source gives.
fn source_input(may_fail: bool, env: &mut Env<'_>) -> Input {
    if env.mishap(Mishap::SourceLate) {
        return Input::Late(env.now().after(LATE));
    }
    let broken = [Mishap::SourceError, Mishap::SourceShort, Mishap::Panic];
    let strikes = broken.into_iter().find(|mishap| may_fail && env.mishap(*mishap));
    strikes.map_or(Input::None, Input::Broken)
}

/// Move the call of the thread by one step.
fn call_moved(env: &mut Env<'_>, read: bool) -> (Input, Move) {
    let moved = if env.can_step() { Move::Kernel(env.step()) } else { Move::Begin };
    let Some(mut ret) = env.take_ret() else { return (Input::Under, moved) };
    let mut events = std::mem::take(env.inbox());
    // The disturbances a scenario injects happen where the real ones would: an odd message at
    // the end of a batch, an end of file or an error where nothing is queued.
    let disturbed = match env.injection() {
        _ if !read => None,
        Some(Injection::UnknownEvent(code)) => {
            events.push(Event::Unknown(code));
            Some(Ret::Read(events.len()))
        }
        Some(Injection::Eof) if events.is_empty() => Some(Ret::Read(0)),
        Some(Injection::Error(errno)) if events.is_empty() => Some(Ret::Err(errno)),
        _ => None,
    };
    if let Some(disturbed) = disturbed {
        // What is no userfaultfd any more is none for good.
        if disturbed != Ret::Read(0) {
            env.take_injection();
        }
        ret = disturbed;
    }
    (Input::Ret(ret, events), moved)
}

impl Live {
    /// Thread `actor` makes its step and runs on to its next point.
    fn feed(&self, actor: usize, now: Time, input: Input) {
        {
            let mut core = self.run.borrow_mut();
            core.now = now;
            if !core.perform(actor, input) {
                return;
            }
        }
        self.resume(actor);
    }

    fn resume(&self, actor: usize) {
        let root = {
            let mut core = self.run.borrow_mut();
            core.current = actor;
            core.root_of(actor)
        };
        let _entered = point::enter(&self.run);
        let fiber = self.run.borrow_mut().fibers[root].take();
        let mut fiber = fiber.expect("a thread that moves has a stack");
        fiber.resume();
        self.run.borrow_mut().fibers[root] = Some(fiber);
    }

    /// Let every thread unwind, so that what it holds is dropped.
    fn end(&self) {
        self.run.borrow_mut().end();
        for _ in 0..STUBBORN {
            let mut left = false;
            let count = self.run.borrow().threads.len();
            // Members of a team end before the thread on whose stack they run.
            for actor in (0..count).rev() {
                if self.run.borrow().may_unwind(actor) {
                    left = true;
                    self.resume(actor);
                }
            }
            if !left {
                return;
            }
        }
        panic!("a thread of the handler does not end when its run does: it catches every panic");
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.end();
        let mut core = self.run.borrow_mut();
        for thread in 0..core.threads.len() {
            let root = core.root_of(thread);
            if core.threads[thread].abandoned
                && let Some(fiber) = core.fibers[root].take()
            {
                fiber.abandon();
            }
        }
    }
}

/// Run the code of a thread and note how it ended.
pub(super) fn thread_body(body: impl FnOnce()) {
    // Nothing of the thread is used afterwards.
    let ended = catch_unwind(AssertUnwindSafe(body));
    let panicked = match ended {
        Err(payload) if !payload.is::<Over>() => Some(
            payload
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_else(|| "it panicked".to_owned()),
        ),
        _ => None,
    };
    with(|run| run.ended_with(panicked));
}

/// Start a thread of the handler. Returns its number.
pub(crate) fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> usize {
    let fiber = Fiber::new(move || thread_body(body));
    with(|run| {
        let id = run.add_thread(name, None);
        run.fibers.resize_with(id, || None);
        run.fibers.push(Some(fiber));
        id
    })
    .expect("threads are started inside a search")
}

impl Subject for Coop {
    fn actors(&self) -> usize {
        self.room
    }

    fn actor_name(&self, actor: usize) -> String {
        let core = self.live().run.borrow();
        if let Some(thread) = core.threads.get(actor) {
            return thread.name.clone();
        }
        drop(core);
        self.first_names().get(actor).cloned().unwrap_or_else(|| format!("thread{actor}"))
    }

    fn can_step(&self, actor: usize, view: View<'_>) -> bool {
        let core = self.live().run.borrow();
        actor < core.threads.len() && core.ready(actor, &view)
    }

    fn step(&mut self, actor: usize, env: &mut Env<'_>) -> Move {
        let now = env.now();
        let (input, moved) = self.ask(actor, env);
        self.history.push((actor as u8, now, input.clone()));
        self.live().feed(actor, now, input);
        moved
    }

    fn deadline(&self, now: Time) -> Option<Time> {
        self.live().run.borrow().deadline(now)
    }

    fn idle_limit(&self) -> u32 {
        PATIENCE
    }

    fn step_limit(&self) -> u32 {
        LIVELOCK
    }

    fn complaint(&self) -> Option<Failure> {
        self.live().run.borrow().failure.clone()
    }

    fn whereabouts(&self) -> Vec<String> {
        let core = self.live().run.borrow();
        (0..core.threads.len()).map(|thread| core.stands(thread)).collect()
    }

    fn exposed(&self, actor: usize, _: View<'_>) -> Exposed {
        let core = self.live().run.borrow();
        core.threads[actor].op.as_ref().map_or(Exposed::NONE, Op::exposed)
    }

    fn can_stop(&self) -> bool {
        let core = self.live().run.borrow();
        !core.stopping && core.threads.iter().any(|thread| thread.op == Some(Op::UntilStopped))
    }

    fn stop(&mut self) {
        self.live().run.borrow_mut().stopping = true;
        self.history.push((0, Time::ZERO, Input::Stop));
    }

    fn standing(&self) -> Standing {
        match &self.live().run.borrow().result {
            None => Standing::Serving,
            Some(Ok(())) => Standing::Stopped,
            Some(Err(why)) => Standing::Failed(why.clone()),
        }
    }

    /// Liveness tells: whoever waits for a page waits in the kernel.
    fn outstanding(&self) -> usize {
        0
    }
}

impl Clone for Coop {
    fn clone(&self) -> Coop {
        Coop {
            main: Arc::clone(&self.main),
            pages: self.pages,
            room: self.room,
            history: self.history.clone(),
            live: OnceCell::new(),
            names: Arc::clone(&self.names),
        }
    }
}

impl PartialEq for Coop {
    fn eq(&self, other: &Coop) -> bool {
        Arc::ptr_eq(&self.main, &other.main) && self.history == other.history
    }
}

impl Eq for Coop {}

impl Hash for Coop {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.history.hash(state);
    }
}

impl std::fmt::Debug for Coop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coop").field("steps", &self.history.len()).finish_non_exhaustive()
    }
}
