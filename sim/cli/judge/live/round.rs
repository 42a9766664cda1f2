//! One run of a scenario on the running kernel: a thread for each task that tells its puppet what
//! to do next, the handler beside them, somebody who notices that nobody gets on. Owns the run
//! from the first process to the last.

use core::convert::Infallible;
use core::num::NonZeroUsize;
use core::time::Duration;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};

use handler::drive::{Family, Relatives};
use handler::{Driver, PageSource, Policy, RegionMap, Report, SourceError, Status, Writes};
use linux_raw_sys::general as sys;
use shims::linux::hugepages::Reservation;
use shims::linux::puppet::{Act, Answer};
use shims::linux::{Capability, OpenFlags, PollWaiter, UserFault};
use shims::{Errno, Features, PageNo, PageRange, PageSize, Uffd, Waiter as _, Wakeup};
use sim::Content;
use sim::kernel::Ret;
use sim::world::{Control, Op, Setup};

use super::super::backend::Unable;
use super::super::look::Look;
use super::cast::{Cast, NoCast};
use super::oracle::Evidence;
use super::score::{Score, State};
use super::{Objection, deed, faults_in_the_kernel, only_simulated};
use crate::clock::Stopwatch;
use crate::model::backing;

type Waiter = PollWaiter<Arc<UserFault>>;

/// How long nobody may get on until the run is over.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long tasks may go on when the handler has given up.
const GRACE: Duration = Duration::from_millis(300);
/// How long a thread that is told something is waited for before it is seen whether all is lost.
const LOOK: Duration = Duration::from_millis(20);
/// So many looks in a row must find the handler at rest.
const STILL: u32 = 3;

/// A scenario that can run on the running kernel, as often as you like.
#[derive(Debug)]
pub struct Live<'s> {
    setup: &'s Setup,
    policy: Policy,
    flags: OpenFlags,
    patience: Duration,
    _pool: Option<Reservation>,
}

/// Page `n` of the source is stamped so.
#[derive(Clone, Copy, Debug)]
struct Stamped {
    size: PageSize,
    pages: u64,
}

impl PageSource for Stamped {
    fn page_size(&self) -> PageSize {
        self.size
    }

    fn read_page(&self, page: PageNo, buf: &mut [u8]) -> Result<(), SourceError> {
        if page.index() >= self.pages {
            return Err(SourceError::OutOfRange { page, pages: self.pages });
        }
        let stamp = Content::Source { page: page.index() as u32, version: 0 }.stamp();
        buf.fill(0);
        buf[..stamp.len()].copy_from_slice(&stamp);
        Ok(())
    }
}

impl<'s> Live<'s> {
    /// The scenario with a handler of `policy`, if this kernel and this user can run it. Huge
    /// pages are taken for as long as this lives.
    pub fn new(setup: &'s Setup, policy: Policy) -> Result<Live<'s>, Unable> {
        if let Some(why) = only_simulated(setup) {
            return Err(Unable(why));
        }
        let flags = match Capability::probe(OpenFlags::empty()) {
            Ok(_) => OpenFlags::empty(),
            Err(why) if Capability::probe(OpenFlags::USER_MODE_ONLY).is_err() => {
                return Err(Unable(why.to_string()));
            }
            Err(_) if faults_in_the_kernel(setup) => {
                let message = "`populate-read` and `populate-write` fault in kernel mode, which is \
                               for privileged users (or with vm.unprivileged_userfaultfd=1)";
                return Err(Unable(message.to_owned()));
            }
            Err(_) => OpenFlags::USER_MODE_ONLY,
        };
        UserFault::connect(flags, setup.features).map_err(|why| Unable(why.to_string()))?;
        let mut policy = policy;
        if setup.tracks_writes() {
            policy.writes = Writes::Tracked;
        }
        policy.remaps |= setup.features.contains(Features::EVENT_REMAP);
        let pool = match setup.memory.page_size() {
            PageSize::MIB2 => {
                // Private copies and forks take pages of their own.
                let pages = setup.pages * (2 + setup.children() as u64);
                let pool = Reservation::ensure(pages);
                pool.map_err(|shortage| Unable(shortage.to_string()))?
            }
            _ => None,
        };
        Ok(Live { setup, policy, flags, patience: PATIENCE, _pool: pool })
    }

    /// Has this user nothing but a userfaultfd that does not see the kernel's own faults?
    pub fn is_user_mode_only(&self) -> bool {
        self.flags.contains(OpenFlags::USER_MODE_ONLY)
    }

    /// Give up that soon when nobody gets on.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Live<'s> {
        Live { patience, ..self }
    }

    /// Run it once; what is wrong, if anything is. `seed` decides how long the tasks wait
    /// between their operations.
    pub fn round(&self, seed: u64) -> Result<Vec<Objection>, Unable> {
        let cast = match Cast::new(self.setup, self.flags) {
            Ok(cast) => cast,
            Err(NoCast::Unable(why)) => return Err(why),
            Err(NoCast::Stuck(what)) => {
                let what = format!("{what}: a process does not come back");
                return Ok(vec![Objection::new("hang", what)]);
            }
        };
        let handler = Handler::start(self, &cast)?;
        let run = Run { live: self, cast: &cast, score: Score::new(self.setup), handler: &handler };
        let mut objections = run.play(seed);
        if objections.is_empty() {
            objections = run.judge();
        }
        drop(run);
        objections.extend(handler.stop());
        let Cast { stage, .. } = cast;
        for pid in stage.end(self.patience) {
            let what = format!("process {pid} was killed and is still there");
            objections.push(Objection::new("hang", what));
        }
        objections.extend(handler.join(self.patience));
        Ok(objections)
    }
}

/// The handler of all processes of the run, on threads of its own.
struct Handler {
    relatives: Relatives<Waiter>,
    /// Locked by nobody: the threads of a run share the rest.
    reports: Mutex<Receiver<Vec<Report>>>,
}

impl Handler {
    fn start(live: &Live<'_>, cast: &Cast) -> Result<Handler, Unable> {
        let no = |why: &dyn core::fmt::Display| Unable(format!("the handler: {why}"));
        let setup = live.setup;
        let size = setup.memory.page_size();
        let all = setup.memory.span(0, setup.pages);
        let host = PageRange::new(all.start, all.len, size).map_err(|e| no(&e))?;
        let regions = RegionMap::single(host).backed_by(backing(setup.memory));
        let waiter = PollWaiter::new(Arc::clone(&cast.uffd)).map_err(|e| no(&e))?;
        let source = Stamped { size, pages: setup.pages };
        let uffd = Arc::clone(&cast.uffd);
        let root = Driver::new(live.policy.clone(), regions, uffd, waiter, source);
        let adopt = |of: &Arc<UserFault>, fd| {
            let child = Arc::new(of.claim_fork(fd)?);
            let waiter = PollWaiter::new(Arc::clone(&child)).ok()?;
            Some((child, waiter))
        };
        let workers = NonZeroUsize::new(setup.workers);
        let family = Family::new(root.map_err(|e| no(&e))?, workers, adopt);
        let relatives = family.relatives();
        let (tell, reports) = channel();
        let run = move || {
            // Nobody listens any more if it took too long.
            let _ = tell.send(family.run());
        };
        let spawned = std::thread::Builder::new().name("faultbed-read".to_owned()).spawn(run);
        spawned.map_err(|e| no(&e))?;
        Ok(Handler { relatives, reports: Mutex::new(reports) })
    }

    /// Why one of the family has given up, if it has.
    fn failure(&self) -> Option<String> {
        let all = self.relatives.controls();
        let failed = all.iter().map(handler::Control::status);
        failed.filter(|status| matches!(status, Status::Failed(_))).map(|s| s.to_string()).next()
    }

    fn at_rest(&self, uffd: &Arc<UserFault>) -> bool {
        let idle = |control: &handler::Control<Waiter>| control.counters().pending() == 0;
        let Ok(waiter) = PollWaiter::new(Arc::clone(uffd)) else { return false };
        let woken = waiter.wait(Some(waiter.now()));
        let readable = !woken.is_ok_and(|wakeup| !wakeup.contains(Wakeup::READABLE));
        !readable && self.relatives.controls().iter().all(idle)
    }

    /// Tell it to end, whatever is under way.
    fn abandon(&self) {
        self.relatives.controls().iter().for_each(handler::Control::peer_gone);
    }

    fn stop(&self) -> Option<Objection> {
        let failure = self.failure();
        self.relatives.stop();
        failure.map(|why| Objection::new("handler-failed", why))
    }

    fn join(self, patience: Duration) -> Option<Objection> {
        let reports = self.reports.into_inner().unwrap_or_else(PoisonError::into_inner);
        let wrong = match reports.recv_timeout(patience) {
            Ok(_) => return None,
            Err(RecvTimeoutError::Timeout) => "it was told to stop and goes on",
            Err(RecvTimeoutError::Disconnected) => "one of its threads panicked",
        };
        Some(Objection::new("handler-failed", wrong))
    }
}

struct Run<'r> {
    live: &'r Live<'r>,
    cast: &'r Cast,
    score: Score,
    handler: &'r Handler,
}

impl Run<'_> {
    fn setup(&self) -> &Setup {
        self.live.setup
    }

    /// Everybody does what he has to do, or it turns out that somebody cannot.
    fn play(&self, seed: u64) -> Vec<Objection> {
        std::thread::scope(|scope| {
            for task in 0..self.setup().programs.len() {
                let dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (task as u64 + 1) << 32);
                scope.spawn(move || {
                    self.task(task, dice);
                    self.score.finished(task);
                });
            }
            let objections = self.watch();
            if !objections.is_empty() {
                self.score.abandon();
                self.handler.abandon();
            }
            // Those who were never born wait for it.
            self.score.abandon();
            objections
        })
    }

    /// Until everybody is at his end, or nobody gets on.
    fn watch(&self) -> Vec<Objection> {
        let mut state = self.score.lock();
        let mut last = (state.progress(), Stopwatch::start());
        let mut failed: Option<Stopwatch> = None;
        while !state.is_over() {
            state = self.score.wait(state, LOOK);
            if state.progress() != last.0 {
                last = (state.progress(), Stopwatch::start());
            }
            if failed.is_none() && self.handler.failure().is_some() {
                failed = Some(Stopwatch::start());
            }
            if failed.is_some_and(|watch| watch.elapsed() > GRACE) {
                // Said when it is stopped.
                return self
                    .handler
                    .failure()
                    .into_iter()
                    .map(|why| Objection::new("handler-failed", why))
                    .collect();
            }
            if last.1.elapsed() > self.live.patience {
                let open =
                    (0..state.done.len()).filter(|task| state.born[*task] && !state.done[*task]);
                return open.map(|task| self.stuck(&state, task)).collect();
            }
        }
        Vec::new()
    }

    /// Where a task is that does not get on.
    fn stuck(&self, state: &State, task: usize) -> Objection {
        let setup = self.setup();
        let program = &setup.programs[task];
        let deed = state.deeds.iter().rev().find(|deed| deed.task == task && deed.end.is_none());
        let Some(deed) = deed else {
            return Objection::new("hang", format!("{} does not get on", program.name));
        };
        let (op, line) = (&program.ops[deed.op], program.lines[deed.op]);
        let mut what = format!("{}, line {line}: `{}`", program.name, setup.operation(op));
        let (pid, tid) = self.cast.stage.ids(self.cast.slots[task]);
        let idle = self.cast.stage.is_idle(self.cast.slots[task]);
        if let Some(look) = Look::new(pid, tid).ok().filter(|_| !idle) {
            let state = look.glimpse().map_or('?', |glimpse| glimpse.state);
            what = format!("{what}, {state} in {}, {}", look.place(), look.effort());
        }
        if let Op::Read { page, .. } | Op::Write { page, .. } = op
            && *page < setup.pages
            && !program.forked
            && let Some(control) = self.handler.relatives.controls().first()
        {
            let page = control.page(PageNo::new(*page));
            let serving = if page.serving { "serves it" } else { "does not serve it" };
            what = format!(
                "{what}; the handler holds the page for {} and {serving}",
                page.state.name()
            );
        }
        Objection::new("hang", what)
    }

    /// All that a task does.
    fn task(&self, task: usize, mut dice: Dice) {
        let program = &self.setup().programs[task];
        if program.forked && !self.score.wait_to_be_born(task) {
            return;
        }
        let mut stores = 0;
        for (number, op) in program.ops.iter().enumerate() {
            dice.pause();
            stores += u32::from(matches!(op, Op::Write { .. }));
            let deed = self.score.begin(task, number);
            let Some(ret) = self.perform(task, op, stores) else { return };
            self.score.end(deed, ret);
            if self.score.is_abandoned() {
                return;
            }
        }
    }

    /// Do one thing; nothing comes of it if all is lost.
    fn perform(&self, task: usize, op: &Op, stores: u32) -> Option<Ret> {
        let control = || self.handler.relatives.controls().into_iter().next();
        let done = |came: Result<(), Errno>| Some(came.map_or_else(Ret::Err, |()| Ret::Ok(0)));
        match op {
            Op::Post(label) => self.score.post(*label),
            Op::Await(label) => return self.score.wait_for(*label).then_some(Ret::Ok(0)),
            Op::Control(Control::Pause) => control()?.pause(),
            Op::Control(Control::Resume) => control()?.resume(),
            Op::Control(Control::Snapshot) => drop(control()?.snapshot().ok()?),
            Op::Control(Control::Baseline) => {
                let export = |_: &_| Ok::<(), Infallible>(());
                let Ok(()) = control()?.baseline(export).ok()?;
            }
            Op::Control(Control::Cancel) => {
                let refuse = |_: &_| Err::<(), Errno>(Errno::EIO);
                let _ = control()?.baseline(refuse);
            }
            // They are one call with what follows them.
            Op::Control(Control::BeginSnapshot | Control::BeginBaseline | Control::Export) => {}
            Op::Register { range, .. } => {
                let registered = self.cast.uffd.register(*range, shims::RegisterModes::MISSING);
                return done(registered.map(drop));
            }
            Op::Unregister { range, .. } => return done(self.cast.uffd.unregister(*range)),
            Op::Fork { tasks, .. } => return self.fork(task, tasks),
            op => {
                let act = deed::act(self.setup(), op, task, stores, self.cast.file)?;
                let answer = self.tell(self.cast.slots[task], act)?;
                return Some(deed::ret(op, &answer));
            }
        }
        Some(Ret::Ok(0))
    }

    fn tell(&self, slot: usize, act: Act) -> Option<Answer> {
        self.cast.stage.tell(slot, act);
        self.answer(slot)
    }

    fn answer(&self, slot: usize) -> Option<Answer> {
        loop {
            if let Some(answer) = self.cast.stage.wait(slot, LOOK) {
                return Some(answer);
            }
            if self.score.is_abandoned() {
                return None;
            }
        }
    }

    /// `fork`, with a thread in the new process for each of `tasks`.
    fn fork(&self, task: usize, tasks: &[usize]) -> Option<Ret> {
        let slots: Vec<_> = tasks.iter().map(|task| self.cast.slots[*task]).collect();
        let (first, others) = slots.split_first()?;
        let act = Act::Fork(*first, u64::from(sys::SIGCHLD));
        let answer = self.tell(self.cast.slots[task], act)?;
        if let Err(errno) = answer.value {
            return Some(Ret::Err(errno));
        }
        // Each says once that it is there.
        self.answer(*first)?;
        for slot in others {
            self.tell(*first, Act::Spawn(*slot))?;
            self.answer(*slot)?;
        }
        self.score.born(tasks);
        answer.value.ok().map(Ret::Ok)
    }

    /// Nobody moves any more: is everything as it must be?
    fn judge(&self) -> Vec<Objection> {
        let setup = self.setup();
        let watch = Stopwatch::start();
        let mut still = 0;
        while still < STILL {
            still = if self.handler.at_rest(&self.cast.uffd) { still + 1 } else { 0 };
            if watch.elapsed() > self.live.patience {
                return vec![Objection::new("unresolved", "the handler does not come to rest")];
            }
            // A moment for those who have something in hand.
            let state = self.score.lock();
            drop(self.score.wait(state, Duration::from_millis(1)));
        }
        let Some(control) = self.handler.relatives.controls().into_iter().next() else {
            return Vec::new();
        };
        let failed = self.handler.failure().is_some();
        let look = || (0..setup.slots()).map(|at| self.cast.content(setup, at)).collect::<Vec<_>>();
        let records: Vec<_> =
            (0..setup.pages).map(|page| control.page(PageNo::new(page)).state.name()).collect();
        let before = look();
        let mut snapshot = vec![None; setup.pages as usize];
        if let Ok(states) = control.snapshot() {
            let size = setup.memory.page_size().bytes();
            for record in states.records() {
                if let Some(place) = snapshot.get_mut((record.offset() / size) as usize) {
                    *place = Some(record.state());
                }
            }
        }
        let settled = look();
        let state = self.score.lock();
        let evidence = Evidence {
            setup,
            deeds: &state.deeds,
            memory: &before,
            settled: &settled,
            records: &records,
            snapshot: &snapshot,
            failed,
        };
        evidence.objections()
    }
}

/// Numbers that only have to be different.
struct Dice(u64);

impl Dice {
    /// Be late, sometimes by nothing, sometimes by more than it takes to serve a fault.
    fn pause(&mut self) {
        const TURNS: [u64; 8] = [0, 0, 0, 100, 1000, 3000, 10_000, 40_000];
        let mut next = || {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        };
        let most = TURNS[(next() >> 32) as usize % TURNS.len()];
        for _ in 0..(next() >> 32) % (most + 1) {
            core::hint::spin_loop();
        }
    }
}
