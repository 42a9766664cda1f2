//! A program that is a sequence, step by step on one kernel. Owns what each step is there, and
//! the judgement of what was expected of it; what can be seen is in the transcript of the
//! [`Run`].

use shims::Errno;

use super::arm::event_text;
use super::op::{Back, Settled};
use super::program::{Ask, Body, Doing, Part, Program, Seen, Step};
use super::run::Run;

/// Something that was expected and did not come.
#[derive(Clone, PartialEq, Debug)]
pub struct Broken {
    /// Which step, from 1; 0 is the setup.
    pub step: usize,
    /// What was wrong.
    pub what: String,
}

/// What a kernel has shown.
#[derive(Clone, PartialEq, Debug)]
pub struct Shown {
    /// All that could be seen after each step.
    pub log: Vec<String>,
    /// The first expectation that did not hold.
    pub broken: Option<Broken>,
}

/// Go through the sequence of `program` on `run`, which has just begun.
///
/// # Panics
///
/// If the program is no sequence.
pub fn walk(mut run: Run, program: &Program) -> Shown {
    let Body::Sequence { tasks, steps } = &program.body else {
        panic!("only a sequence can be walked through")
    };
    let mut walk = Walk::new(tasks);
    walk.begin(&mut run, program);
    for (number, step) in (1..).zip(steps) {
        walk.step(&mut run, number, step);
    }
    Shown { log: run.into_log(), broken: walk.broken }
}

/// What stands before the first step: the userfaultfd, its registrations, the setup.
pub(crate) fn begin(run: &mut Run, program: &Program) -> Option<Broken> {
    let mut walk = Walk::new(&[]);
    walk.begin(run, program);
    walk.broken
}

struct Walk<'p> {
    tasks: &'p [(String, usize)],
    /// Each task's thread, once it has had something to do.
    threads: Vec<Option<usize>>,
    /// What came of the last thing that the task asked of a userfaultfd.
    last: Vec<Option<Seen>>,
    broken: Option<Broken>,
}

impl<'p> Walk<'p> {
    fn new(tasks: &'p [(String, usize)]) -> Walk<'p> {
        let (threads, last) = (vec![None; tasks.len()], vec![None; tasks.len()]);
        Walk { tasks, threads, last, broken: None }
    }

    fn begin(&mut self, run: &mut Run, program: &Program) {
        let flags = open_flags(program);
        let opened = if flags == DEFAULT_OPEN {
            run.try_open(program.features)
        } else {
            run.open_raw(flags).and_then(|uffd| run.api(uffd, program.features).map(|_| uffd))
        };
        if let Err(errno) = opened {
            self.object(0, format!("the userfaultfd does not open: {errno:?}"));
            return;
        }
        for watched in &program.memory {
            if !watched.modes.is_empty() {
                let (start, pages) = (watched.piece.at, watched.piece.pages);
                let range = run.span(start, start + pages);
                if let Err(errno) = run.register(0, range, watched.modes) {
                    self.object(0, format!("register {start}..{}: {errno:?}", start + pages));
                }
            }
        }
        for doing in &program.setup {
            match self.perform(run, doing, None) {
                Ok(seen @ (Seen::Err(_) | Seen::Asleep | Seen::Spinning | Seen::Killed)) => {
                    self.object(0, format!("{doing:?}: {seen}"));
                }
                Ok(Seen::Outcome(outcome)) if outcome.errno.is_some() => {
                    self.object(0, format!("{doing:?}: {outcome}"));
                }
                Ok(_) => {}
                Err(why) => self.object(0, why),
            }
        }
    }

    fn object(&mut self, step: usize, what: String) {
        self.broken.get_or_insert(Broken { step, what });
    }

    fn step(&mut self, run: &mut Run, number: usize, step: &Step) {
        let seen = match &step.doing {
            Some(doing) => self.perform(run, doing, Some(step.task)),
            None => self.state(run, step.task),
        };
        let name = &self.tasks[step.task].0;
        match (seen, &step.expect) {
            (Ok(seen), Some(expect)) if !expect.holds(&seen) => {
                self.object(number, format!("{name}: expected `{expect}`, found `{seen}`"));
            }
            (Ok(_), _) => {}
            (Err(why), _) => self.object(number, format!("{name}: {why}")),
        }
    }

    /// What has become of what the task did last.
    fn state(&self, run: &Run, task: usize) -> Result<Seen, String> {
        if let Some(seen) = &self.last[task] {
            return Ok(seen.clone());
        }
        let thread = self.threads[task].ok_or("it has done nothing yet")?;
        Ok(settled(run.state(thread)))
    }

    /// A thread for `task`, or for the setup.
    fn thread(&mut self, run: &mut Run, task: Option<usize>) -> Result<usize, String> {
        let Some(task) = task else { return Ok(run.thread()) };
        if let Some(thread) = self.threads[task] {
            return match run.try_state(thread) {
                Some(Settled::Returned(Back::Killed)) => Err("it is no more".to_owned()),
                None | Some(Settled::Returned(_)) => Ok(thread),
                Some(state) => Err(format!("it is still {state:?} in what it did before")),
            };
        }
        let process = self.tasks[task].1;
        if process >= run.processes() {
            return Err(format!("there is no process {process} yet"));
        }
        let thread = run.thread_in(process);
        self.threads[task] = Some(thread);
        Ok(thread)
    }

    fn perform(
        &mut self,
        run: &mut Run,
        doing: &Doing,
        task: Option<usize>,
    ) -> Result<Seen, String> {
        let seen = match doing {
            Doing::Thread(op) => {
                let thread = self.thread(run, task)?;
                if let Some(task) = task {
                    self.last[task] = None;
                }
                return Ok(settled(run.go(thread, *op)));
            }
            Doing::Uffd(uffd, ask) => {
                if *uffd >= run.uffds() || !run.is_open(*uffd) {
                    return Err(format!("userfaultfd {uffd} is not open"));
                }
                answer(run, *uffd, *ask)
            }
            Doing::Open(features) => match run.try_open(*features) {
                Ok(uffd) => Seen::Number(uffd),
                Err(errno) => Seen::Err(errno),
            },
            Doing::Signal(other) => {
                let thread = self.threads[*other].ok_or("the task has no thread yet")?;
                run.signal(thread);
                Seen::Done
            }
            Doing::Kill(process) => {
                if *process == 0 || *process >= run.processes() {
                    return Err(format!("process {process} cannot be killed"));
                }
                run.kill(*process);
                Seen::Done
            }
        };
        if let Some(task) = task {
            self.last[task] = Some(seen.clone());
        }
        Ok(seen)
    }
}

/// `O_CLOEXEC | O_NONBLOCK`, as [`Run::open`] has it.
const DEFAULT_OPEN: u64 = 0o2004000;

fn open_flags(program: &Program) -> u64 {
    DEFAULT_OPEN | u64::from(program.user_mode_only)
}

fn settled(settled: Settled) -> Seen {
    match settled {
        Settled::Returned(back) => back.into(),
        Settled::Asleep => Seen::Asleep,
        Settled::Spinning => Seen::Spinning,
    }
}

fn done<T>(result: Result<T, Errno>) -> Seen {
    match result {
        Ok(_) => Seen::Done,
        Err(errno) => Seen::Err(errno),
    }
}

fn answer(run: &mut Run, uffd: usize, ask: Ask) -> Seen {
    let span = |run: &Run, Part { at, len }| run.bytes(at, len);
    match ask {
        Ask::Register(part, modes) => {
            let range = span(run, part);
            done(run.register(uffd, range, modes))
        }
        Ask::Unregister(part) => {
            let range = span(run, part);
            done(run.unregister(uffd, range))
        }
        Ask::Wake(part) => {
            let range = span(run, part);
            done(run.wake(uffd, range))
        }
        Ask::Copy(part, mode) => {
            let range = span(run, part);
            Seen::Outcome(run.copy_span(uffd, range, mode))
        }
        Ask::Zeropage(part, mode) => {
            let range = span(run, part);
            Seen::Outcome(run.zero_span(uffd, range, mode))
        }
        Ask::Continue(part, mode) => {
            let range = span(run, part);
            Seen::Outcome(run.continue_by(uffd, range, mode))
        }
        Ask::WriteProtect(part, mode) => {
            let range = span(run, part);
            Seen::Outcome(run.write_protect_by(uffd, range, mode))
        }
        Ask::Move(part, to, mode) => {
            let (src, dst) = (span(run, part), run.bytes(to, part.len));
            Seen::Outcome(run.move_by(uffd, dst, src, mode))
        }
        Ask::Poison(part, mode) => {
            let range = span(run, part);
            Seen::Outcome(run.poison_with(uffd, range, mode))
        }
        // Without a message the handler would wait for ever, as the transcript then says.
        Ask::Message => match run.events(uffd, 1) {
            events if events.is_empty() => Seen::Asleep,
            events => messages(run, &events),
        },
        Ask::Events(max) => {
            let events = run.events(uffd, max);
            messages(run, &events)
        }
        Ask::Poll => Seen::Bits(run.poll(uffd)),
        Ask::Close => {
            run.close(uffd);
            Seen::Done
        }
        Ask::Duplicate => Seen::Number(run.duplicate(uffd)),
        Ask::Nonblocking(on) => {
            run.set_nonblocking(uffd, on);
            Seen::Done
        }
    }
}

fn messages(run: &Run, events: &[shims::Event]) -> Seen {
    Seen::Messages(events.iter().map(|event| event_text(&*run.arm, event)).collect())
}
