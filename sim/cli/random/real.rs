//! A random program on the running kernel. Owns the waiting: a thread that the simulated kernel
//! lets return is waited for, one that it lets sleep is looked at until it sleeps where
//! userfaultfd sleeps. Nothing is a sleep of a guessed length, and nothing waits for ever.

use core::time::Duration;
use std::fs::File;
use std::os::unix::fs::FileExt;

use shims::linux::puppet::Answer;
use shims::{
    ContinueMode, CopyMode, Errno, Event, MoveMode, PoisonMode, RegisterModes, Uffd,
    WriteProtectMode, ZeropageMode,
};

use super::possible::{World, contents, outcome_text, read_text, scan, span};
use super::step::{Ask, Setup, Step};
use super::view::View;
use crate::judge::{Area, Arm, Back, Op, PAGE, PuppetArm, Settled};

/// How long a thread that has to return may take: what a loaded machine needs, and not more
/// than anybody wants to wait for a wedge.
const PATIENCE: Duration = Duration::from_secs(5);
const HASTE: Duration = Duration::from_millis(400);
/// How long one look at a thread that has to return waits for it.
const SHORT: Duration = Duration::from_millis(1);
const SLICE: Duration = Duration::from_millis(10);
/// Between two looks at a thread that is on its way to sleep.
const LOOK: Duration = Duration::from_micros(20);
const LOOKS: u32 = 100_000;

pub(super) struct Real {
    arm: PuppetArm,
    threads: Vec<Option<Settled>>,
    /// `wchan` of each thread: where it sleeps.
    places: Vec<File>,
    uffds: usize,
    processes: usize,
    areas: Vec<Vec<Area>>,
    patience: Duration,
}

impl Real {
    /// `hasty`: somebody has waited before, and looks again at what he saw.
    pub(super) fn new(setup: &Setup, hasty: bool) -> Result<Real, Errno> {
        let arm = PuppetArm::new(setup.pages, &setup.pieces, None, true)?;
        let mut real = Real {
            arm,
            threads: Vec::new(),
            places: Vec::new(),
            uffds: 0,
            processes: 1,
            areas: Vec::new(),
            patience: if hasty { HASTE } else { PATIENCE },
        };
        for _ in 0..setup.threads {
            real.thread_in(0)?;
        }
        Ok(real)
    }

    fn thread_in(&mut self, process: usize) -> Result<(), Errno> {
        let thread = self.arm.thread_in(process);
        let (pid, tid) = self.arm.stage.ids(self.arm.workers[thread].slot);
        let place =
            File::open(format!("/proc/{pid}/task/{tid}/wchan")).map_err(|_| Errno::ESRCH)?;
        self.threads.push(None);
        self.places.push(place);
        Ok(())
    }

    /// Do `step` and look at everything. `expected` are the states it may lead to.
    pub(super) fn perform(
        &mut self,
        setup: &Setup,
        step: &Step,
        expected: &[(World, View)],
    ) -> Result<View, Errno> {
        let before = self.threads.clone();
        let answer = self.begin(setup, step)?;
        let stuck = self.settle(expected)?;
        let counts = (self.uffds, self.processes);
        // Who comes back may have held the last reference to a userfaultfd.
        let asleep = |thread: &Option<Settled>| *thread == Some(Settled::Asleep);
        let mut both = before.iter().zip(&self.threads);
        let came_back = both.any(|(before, now)| asleep(before) && !asleep(now));
        let areas = (!came_back && !moves_areas(step)).then_some(&self.areas[..]);
        let answer = stuck.map_or(answer, |stuck| format!("STUCK {stuck}"));
        let view = View::take(&mut self.arm, answer, self.threads.clone(), counts, areas);
        self.areas.clone_from(&view.areas);
        Ok(view)
    }

    fn begin(&mut self, setup: &Setup, step: &Step) -> Result<String, Errno> {
        match step {
            Step::Thread { thread, op } => {
                self.arm.start(*thread, *op);
                self.threads[*thread] = Some(Settled::Asleep);
            }
            Step::Ask { uffd, ask } => return Ok(self.ask(setup, *uffd, *ask)),
            Step::Open(features) => {
                let only = u64::from(setup.user_mode_only);
                let uffd = self.arm.open_raw(CLOEXEC_NONBLOCK | only)?;
                let mut answer = Ok(());
                self.arm.with(uffd, &mut |uffd| answer = uffd.api(*features).map(drop));
                self.uffds += 1;
                return Ok(format!("{answer:?}"));
            }
            Step::Close(uffd) => {
                self.arm.close(*uffd);
                return Ok("Ok(0)".to_owned());
            }
            Step::Signal(thread) => self.arm.signal(*thread),
            Step::Kill(process) => {
                self.arm.kill(*process);
                self.await_end(*process);
            }
        }
        Ok(String::new())
    }

    fn ask(&mut self, setup: &Setup, uffd: usize, ask: Ask) -> String {
        let granule = if setup.is_huge() { 512 } else { 1 };
        let mut events: Vec<Event> = Vec::new();
        let mut count = Ok(0);
        let mut text = String::new();
        let mut body = |uffd: &dyn Uffd| {
            text = match ask {
                Ask::Read(max) => {
                    count = uffd.read_events(&mut events, max);
                    String::new()
                }
                Ask::Register(part, modes) => {
                    let modes = RegisterModes::from_bits_retain(modes);
                    format!("{:?}", uffd.register(span(part), modes))
                }
                Ask::Unregister(part) => format!("{:?}", uffd.unregister(span(part))),
                Ask::Wake(part) => format!("{:?}", uffd.wake(span(part)).err()),
                Ask::Copy(part, mode, version) => {
                    let mut bytes = vec![0; part.len.next_multiple_of(PAGE).max(PAGE) as usize];
                    if part.len.is_multiple_of(PAGE) {
                        let units = bytes.chunks_mut((granule * PAGE) as usize);
                        for (unit, content) in units.zip(contents(part, version, granule)) {
                            unit[..sim::STAMP_LEN].copy_from_slice(&content.stamp());
                        }
                    }
                    let mode = CopyMode::from_bits_retain(mode);
                    outcome_text(ask, uffd.copy(span(part), &bytes, mode))
                }
                Ask::Zero(part, mode) => {
                    let mode = ZeropageMode::from_bits_retain(mode);
                    outcome_text(ask, uffd.zeropage(span(part), mode))
                }
                Ask::Continue(part, mode) => {
                    let mode = ContinueMode::from_bits_retain(mode);
                    outcome_text(ask, uffd.continue_(span(part), mode))
                }
                Ask::Protect(part, mode) => {
                    let mode = WriteProtectMode::from_bits_retain(mode);
                    outcome_text(ask, uffd.write_protect(span(part), mode))
                }
                Ask::Poison(part, mode) => {
                    let mode = PoisonMode::from_bits_retain(mode);
                    outcome_text(ask, uffd.poison(span(part), mode))
                }
                Ask::Move(part, from, mode) => {
                    let src = span(super::step::Part { at: from, len: part.len }).start;
                    let mode = MoveMode::from_bits_retain(mode);
                    outcome_text(ask, uffd.move_(span(part), src, mode))
                }
                Ask::NonBlocking(_) | Ask::Scan(..) => String::new(),
            };
        };
        match ask {
            Ask::NonBlocking(on) => self.arm.set_nonblocking(uffd, on),
            Ask::Scan(part, flags, mask) => {
                return format!("{:?}", self.arm.scan(scan(part, flags, mask)));
            }
            _ => self.arm.with(uffd, &mut body),
        }
        if let Ask::Read(_) = ask {
            for event in &events {
                if let Event::Fork { fd } = event {
                    self.arm.adopt(*fd);
                    self.uffds += 1;
                }
            }
            return read_text(&self.arm, count, &events);
        }
        text
    }

    /// Wait until nothing moves. Who is neither back nor asleep after all this time, and where,
    /// if somebody is.
    fn settle(&mut self, expected: &[(World, View)]) -> Result<Option<String>, Errno> {
        let returns = |thread: usize| {
            expected.iter().all(|(world, _)| world.threads[thread] != Some(Settled::Asleep))
        };
        let mut stuck = None;
        let mut again = true;
        while std::mem::take(&mut again) {
            // Those who have to return first: what they do may wake others.
            for wait in [true, false] {
                for thread in 0..self.threads.len() {
                    if self.threads[thread] != Some(Settled::Asleep) || returns(thread) != wait {
                        continue;
                    }
                    match self.settle_one(thread, wait) {
                        Settled::Returned(back) => {
                            if back == Back::Killed {
                                self.await_end(self.arm.workers[thread].process);
                            }
                            self.threads[thread] = Some(Settled::Returned(back));
                            if let Back::Forked(process) = back {
                                self.processes = process + 1;
                                self.thread_in(process)?;
                            }
                            again = true;
                        }
                        Settled::Asleep => {}
                        Settled::Spinning => {
                            let place = self.place(thread);
                            let op = self.arm.workers[thread].busy;
                            stuck = Some(format!("thread {thread} in {op:?}, at {place:?}"));
                            self.threads[thread] = Some(Settled::Spinning);
                        }
                    }
                }
            }
        }
        Ok(stuck)
    }

    fn settle_one(&mut self, thread: usize, wait: bool) -> Settled {
        if wait {
            let mut asleep = 0;
            for round in 0..self.patience.as_micros() / SLICE.as_micros() {
                if let Some(back) = self.take(thread, if round == 0 { SHORT } else { SLICE }) {
                    return Settled::Returned(back);
                }
                if self.is_gone(thread) {
                    self.arm.workers[thread].busy = None;
                    return Settled::Returned(Back::Killed);
                }
                // Somebody else may be about to wake it; but not for so long.
                asleep = if self.sleeps(thread) { asleep + 1 } else { 0 };
                if asleep > 5 {
                    break;
                }
            }
        }
        for _ in 0..LOOKS {
            // A thread that was woken can run from that moment on, so it is never seen asleep in
            // what it was woken from.
            if self.sleeps(thread) {
                return Settled::Asleep;
            }
            if let Some(back) = self.take(thread, LOOK) {
                return Settled::Returned(back);
            }
            if self.is_gone(thread) {
                self.arm.workers[thread].busy = None;
                return Settled::Returned(Back::Killed);
            }
            if wait {
                break;
            }
        }
        Settled::Spinning
    }

    fn place(&self, thread: usize) -> String {
        let mut text = [0; 128];
        let len = self.places[thread].read_at(&mut text, 0).unwrap_or(0);
        String::from_utf8_lossy(&text[..len]).into_owned()
    }

    fn sleeps(&self, thread: usize) -> bool {
        let place = self.place(thread);
        let polls = matches!(self.arm.workers[thread].busy, Some(Op::PollBlocking { .. }));
        place.contains("userfault") || polls && place.contains("poll")
    }

    fn is_gone(&self, thread: usize) -> bool {
        let (pid, tid) = self.arm.stage.ids(self.arm.workers[thread].slot);
        let stat = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat"));
        stat.map_or(true, |stat| stat.contains(") Z ") || stat.contains(") X "))
    }

    /// A process ends when its last thread has let go of its memory.
    fn await_end(&self, process: usize) {
        let (pid, _) = self.arm.stage.ids(self.arm.processes[process].slot);
        let over = |stat: &str| stat.is_empty() || stat.contains(") Z ") || stat.contains(") X ");
        for _ in 0..PATIENCE.as_micros() / SHORT.as_micros() {
            let Ok(mut tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return };
            let ended = tasks.all(|task| {
                let stat = task.map(|task| std::fs::read_to_string(task.path().join("stat")));
                over(&stat.and_then(|stat| stat).unwrap_or_default())
            });
            if ended {
                return;
            }
            std::thread::park_timeout(SHORT);
        }
    }

    /// What the thread has come back with, if it does so in time.
    fn take(&mut self, thread: usize, patience: Duration) -> Option<Back> {
        let op = self.arm.workers[thread].busy.expect("who is waited for does something");
        let answer: Answer = self.arm.stage.wait(self.arm.workers[thread].slot, patience)?;
        self.arm.workers[thread].busy = None;
        Some(self.arm.back(thread, op, &answer))
    }
}

/// `O_CLOEXEC | O_NONBLOCK`.
const CLOEXEC_NONBLOCK: u64 = 0o2_000_000 | 0o4000;

/// Can `step` by itself change the list of mappings?
fn moves_areas(step: &Step) -> bool {
    match step {
        Step::Thread { op, .. } => !matches!(
            op,
            Op::Touch { .. } | Op::UserCopy { .. } | Op::ProcMem { .. } | Op::Remote { .. }
        ),
        Step::Ask { ask, .. } => {
            matches!(ask, Ask::Read(_) | Ask::Register(..) | Ask::Unregister(_))
        }
        Step::Signal(_) => false,
        Step::Open(_) | Step::Close(_) | Step::Kill(_) => true,
    }
}
