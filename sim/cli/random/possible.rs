//! The simulated kernel in every state that a program may have led to. Owns the spreading of
//! one state over all orders in which its threads can move, and the throwing out of what the
//! running kernel was not seen to do.
//!
//! One step may wake several threads, which then run at once. Who of them is first is left to
//! the scheduler, and some of it shows only later: which of two messages is read first. So
//! there is not one simulated state but as many as cannot be told apart.

use core::hash::{Hash, Hasher};
use std::collections::BTreeSet;

use shims::{
    ContinueMode, CopyMode, Errno, Event, Features, MoveMode, Outcome, PoisonMode, RegisterModes,
    Request, Span, WriteProtectMode, ZeropageMode,
};
use sim::kernel::{Call, FileCall, Kernel, Payload, Reading, Ret, Sig, flags};
use sim::vma::Vma;
use sim::world::BASE;
use sim::{Content, Digest, Profile};

use super::cover::Cover;
use super::step::{Ask, Part, Setup, Step};
use super::view::View;
use crate::judge::{Advise, Arm, Back, Op, PAGE, Scan, Settled, SimArm, bytes, event_text};

/// More states than a step of any program is worth: on the way, and at its end.
const MOST: usize = 4_000;
const MOST_STILL: usize = 300;

/// One state.
#[derive(Clone)]
pub(super) struct World {
    pub(super) arm: SimArm,
    /// What each thread did when last everything was still.
    pub(super) threads: Vec<Option<Settled>>,
    /// Which process each of them is in.
    pub(super) homes: Vec<usize>,
    pub(super) uffds: usize,
    pub(super) processes: usize,
    answer: String,
    /// What the last step has shown of the rules.
    pub(super) cover: Cover,
}

/// There are too many orders to follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TooMany;

pub(super) fn span(part: Part) -> Span {
    bytes(BASE, part.at, part.len)
}

/// What a `COPY` brings: one content for each unit of `granule` pages.
pub(super) fn contents(part: Part, version: u32, granule: u64) -> Vec<Content> {
    let first = part.at / PAGE;
    let units = (part.len / PAGE).div_ceil(granule);
    let content = |n| Content::Source { page: (first + n * granule) as u32, version };
    (0..units).map(content).collect()
}

impl World {
    pub(super) fn new(profile: Profile, setup: &Setup) -> World {
        let mut arm = SimArm::new(profile, setup.pages, &setup.pieces, true);
        for _ in 0..setup.threads {
            arm.thread();
        }
        if setup.user_mode_only {
            arm.drop_privileges();
        }
        World {
            arm,
            threads: vec![None; setup.threads],
            homes: vec![0; setup.threads],
            uffds: 0,
            processes: 1,
            answer: String::new(),
            cover: Cover::default(),
        }
    }

    /// Is `thread` there and free?
    pub(super) fn is_free(&self, thread: usize) -> bool {
        let kernel = self.arm.kernel.borrow();
        self.threads[thread] != Some(Settled::Asleep)
            && kernel.idle(self.arm.threads[thread])
            && !self.is_over(self.homes[thread])
    }

    /// Has the process ended?
    pub(super) fn is_over(&self, process: usize) -> bool {
        self.arm.kernel.borrow().is_dead(self.arm.processes[process].1)
    }

    /// Does `step` make sense here? Whoever does something must be there and free, and the
    /// handler never waits.
    pub(super) fn admits(&mut self, step: &Step) -> bool {
        let open = |world: &World, uffd: usize| uffd < world.uffds && world.arm.is_open(uffd);
        match step {
            Step::Thread { thread, op } => {
                let fits = match op {
                    Op::CopyFrom { uffd, .. } => {
                        self.homes.get(*thread) == Some(&0) && open(self, *uffd)
                    }
                    Op::Truncate { file, .. } | Op::Punch { file, .. } => {
                        self.arm.files.contains_key(file)
                    }
                    Op::MapFile { piece } => self.arm.files.contains_key(&piece.file),
                    Op::Exit => self.homes.get(*thread) != Some(&0),
                    Op::Fork => !self.forks(),
                    Op::DontNeed { at, len }
                    | Op::DontNeedSelf { at, len }
                    | Op::Advise { at, len, advice: Advise::DontNeedLocked | Advise::Free } => {
                        !self.is_seen_by_old_translations(*thread, *at, *len)
                    }
                    Op::Advise { at, len, advice: Advise::GuardInstall } => {
                        !self.guard_would_spin(*thread, *at, *len)
                    }
                    _ => true,
                };
                fits && *thread < self.threads.len() && self.is_free(*thread)
            }
            Step::Ask { uffd, ask: Ask::Read(_) } => {
                open(self, *uffd)
                    && (self.arm.descriptor_flags(*uffd).0 || self.arm.poll_bits(*uffd) & 1 == 1)
            }
            Step::Ask { uffd, ask: Ask::Scan(part, flags, _) } => {
                open(self, *uffd) && self.may_scan(*part, *flags)
            }
            Step::Ask { uffd, .. } | Step::Close(uffd) => open(self, *uffd),
            Step::Open(_) => true,
            Step::Signal(thread) => {
                *thread < self.threads.len()
                    && self.threads[*thread] == Some(Settled::Asleep)
                    && matches!(self.arm.told[*thread].0, Some(Op::Touch { .. }))
            }
            Step::Kill(process) => (1..self.processes).contains(process) && !self.is_over(*process),
        }
    }

    /// A removal over several mappings may sleep for the event of a later one when it has taken the
    /// pages of an earlier one out of the page table, and other processors do not know that yet.
    fn is_seen_by_old_translations(&self, thread: usize, at: u64, len: u64) -> bool {
        let Some(home) = self.homes.get(thread) else { return false };
        let kernel = self.arm.kernel.borrow();
        let tells = |vma: &Vma| {
            let told = |ctx| kernel.ctx(ctx).features().contains(Features::EVENT_REMOVE);
            vma.uffd().is_some_and(told)
        };
        let mut later = self.mappings(&kernel, *home, at, len).skip(1);
        later.any(tells)
    }

    /// On the running kernel `MADV_GUARD_INSTALL` goes round in circles where memory of a file
    /// has a write-protection marker, because what it zaps leaves the marker (f3).
    fn guard_would_spin(&mut self, thread: usize, at: u64, len: u64) -> bool {
        let pages = at / PAGE..(at + len).div_ceil(PAGE);
        let entries = match self.homes.get(thread) {
            Some(home) => self.arm.entries(*home),
            None => return false,
        };
        entries.iter().any(|(page, entry)| pages.contains(page) && entry.wp)
    }

    /// Where nothing watches for writes a scan tells whether there is an empty page table, which
    /// the simulated kernel does not know.
    fn may_scan(&self, part: Part, flags: u64) -> bool {
        let kernel = self.arm.kernel.borrow();
        let watched = |vma: &Vma| vma.uffd_modes().contains(RegisterModes::WP);
        flags & 3 != 0 || self.mappings(&kernel, 0, part.at, part.len).all(watched)
    }

    /// What `process` has mapped of the bytes.
    fn mappings<'k>(
        &self,
        kernel: &'k Kernel,
        process: usize,
        at: u64,
        len: u64,
    ) -> impl Iterator<Item = &'k Vma> {
        let (start, end) = (BASE.raw() + at, BASE.raw() + at + len);
        let space = kernel.space(self.arm.processes[process].0);
        space.iter().filter(move |vma| vma.start().raw() < end && start < vma.end().raw())
    }

    /// Is somebody in the middle of a fork?
    pub(super) fn forks(&self) -> bool {
        (0..self.threads.len()).any(|n| {
            self.threads[n] == Some(Settled::Asleep) && self.arm.told[n].0 == Some(Op::Fork)
        })
    }

    fn main_call(&mut self, uffd: usize, call: impl FnOnce(sim::kernel::Fd) -> FileCall) {
        let fd = self.arm.uffds[uffd].expect("a step uses what is open");
        let main = self.arm.processes[fd.process].1;
        self.arm.kernel.get_mut().begin(main, Call::File(call(fd.number)));
    }

    fn begin(&mut self, setup: &Setup, step: &Step) {
        self.answer.clear();
        self.cover = Cover::default();
        match step {
            Step::Thread { thread, op } => {
                self.arm.start(*thread, *op);
                self.threads[*thread] = Some(Settled::Asleep);
            }
            Step::Ask { uffd, ask: Ask::NonBlocking(on) } => self.arm.set_nonblocking(*uffd, *on),
            Step::Ask { ask: Ask::Scan(part, scan_flags, mask), .. } => {
                let answer = self.arm.scan(scan(*part, *scan_flags, *mask));
                self.answer = format!("{answer:?}");
            }
            Step::Ask { uffd, ask } => {
                let granule = if setup.is_huge() { 512 } else { 1 };
                let ask = *ask;
                self.main_call(*uffd, |fd| match ask {
                    Ask::Read(max) => FileCall::Read(Reading::new(fd, 32 * max as u64)),
                    Ask::Register(part, modes) => FileCall::Register {
                        fd,
                        range: span(part),
                        modes: RegisterModes::from_bits_retain(modes),
                    },
                    Ask::Unregister(part) => FileCall::Unregister { fd, range: span(part) },
                    ask => {
                        let payload = match ask {
                            Ask::Copy(part, _, version) if part.len.is_multiple_of(PAGE) => {
                                Payload::Many(contents(part, version, granule).into())
                            }
                            _ => Payload::None,
                        };
                        FileCall::Resolve { fd, request: request(ask), payload }
                    }
                });
            }
            Step::Open(features) => {
                let only = if setup.user_mode_only { flags::USER_MODE_ONLY } else { 0 };
                let flags = u64::from(flags::O_CLOEXEC | flags::O_NONBLOCK | only);
                let uffd = self.arm.open_raw(flags).expect("the handler may open one");
                let mut answer = Ok(());
                self.arm.with(uffd, &mut |uffd| answer = uffd.api(*features).map(drop));
                self.uffds += 1;
                self.answer = format!("{answer:?}");
            }
            Step::Close(uffd) => {
                self.main_call(*uffd, |fd| FileCall::Close { fd });
                self.arm.uffds[*uffd] = None;
            }
            Step::Signal(thread) => self.arm.signal(*thread),
            Step::Kill(process) => {
                let main = self.arm.processes[*process].1;
                self.arm.kernel.get_mut().signal(main, Sig::Kill);
            }
        }
    }

    /// Everything is still: who has come to an end, and with what?
    fn finish(&mut self, step: &Step) {
        match step {
            Step::Ask { ask: Ask::NonBlocking(_) | Ask::Scan(..), .. } => {}
            Step::Ask { ask, .. } => self.answer = self.answer_of(*ask),
            Step::Close(_) => {
                let main = self.arm.processes[0].1;
                let ret = self.arm.kernel.get_mut().take_ret(main);
                self.answer = ret.map_or("asleep".to_owned(), |ret| format!("{ret:?}"));
            }
            _ => {}
        }
        for thread in 0..self.threads.len() {
            if self.threads[thread] != Some(Settled::Asleep) {
                continue;
            }
            let settled = self.arm.settle(thread);
            self.threads[thread] = Some(settled);
            if let Settled::Returned(Back::Forked(process)) = settled {
                self.processes = process + 1;
                self.arm.thread_in(process);
                self.threads.push(None);
                self.homes.push(process);
            }
        }
    }

    fn answer_of(&mut self, ask: Ask) -> String {
        let main = self.arm.processes[0].1;
        let Some(ret) = self.arm.kernel.get_mut().take_ret(main) else {
            return "asleep".to_owned();
        };
        let value: Result<u64, Errno> = match ret {
            Ret::Ok(value) => Ok(value),
            Ret::Err(errno) => Err(errno),
            Ret::Outcome(outcome) => return outcome_text(ask, outcome),
            ret => unreachable!("a call on a descriptor answered {ret:?}"),
        };
        match ask {
            Ask::Read(_) => {
                let events: Vec<_> = std::mem::take(self.arm.kernel.get_mut().inbox(main));
                for event in &events {
                    if let Event::Fork { fd } = event {
                        self.arm.adopt(*fd);
                        self.uffds += 1;
                    }
                }
                read_text(&self.arm, value.map(|bytes| bytes as usize / 32), &events)
            }
            Ask::Register(..) => format!("{:?}", value.map(shims::RangeIoctls::from_bits_retain)),
            Ask::Unregister(_) => format!("{:?}", value.map(drop)),
            ask => match value {
                Err(errno) => outcome_text(ask, Outcome::bare(errno)),
                Ok(value) => unreachable!("{ask:?} answered {value}"),
            },
        }
    }

    /// What a program sees of it.
    pub(super) fn view(&mut self) -> View {
        let counts = (self.uffds, self.processes);
        View::take(&mut self.arm, self.answer.clone(), self.threads.clone(), counts, None)
    }

    fn digest(&self) -> u64 {
        let mut digest = Digest::new();
        self.arm.kernel.borrow().hash(&mut digest);
        self.threads.hash(&mut digest);
        self.answer.hash(&mut digest);
        for (_, content) in &self.arm.told {
            content.hash(&mut digest);
        }
        digest.finish()
    }

    /// Every state in which nothing moves any more, whoever moves first.
    fn spread(self, seen: &mut BTreeSet<u64>) -> Result<Vec<World>, TooMany> {
        let (mut open, mut still) = (vec![self], Vec::new());
        let mut steps = 0;
        while let Some(mut world) = open.pop() {
            loop {
                let mut movable = world.arm.movable();
                let Some(first) = movable.next() else {
                    drop(movable);
                    still.push(world);
                    break;
                };
                let others: Vec<_> = movable.collect();
                if !others.is_empty() {
                    if !seen.insert(world.digest()) {
                        break;
                    }
                    for other in others {
                        let mut next = world.clone();
                        let did = next.arm.move_one(other);
                        next.cover.step(&did);
                        open.push(next);
                    }
                }
                let did = world.arm.move_one(first);
                world.cover.step(&did);
                steps += 1;
                if seen.len() > MOST || steps > 20 * MOST {
                    return Err(TooMany);
                }
            }
        }
        Ok(still)
    }

    /// All that `step` can lead to.
    fn after(
        &self,
        setup: &Setup,
        step: &Step,
        seen: &mut BTreeSet<u64>,
    ) -> Result<Vec<World>, TooMany> {
        let mut world = self.clone();
        world.begin(setup, step);
        let mut worlds = world.spread(seen)?;
        worlds.iter_mut().for_each(|world| world.finish(step));
        Ok(worlds)
    }
}

/// Every state that cannot be told apart from what was seen.
pub(super) struct Possible {
    pub(super) worlds: Vec<World>,
}

impl Possible {
    /// All that `step` can lead to, each with what it shows.
    pub(super) fn after(&self, setup: &Setup, step: &Step) -> Result<Vec<(World, View)>, TooMany> {
        let (mut all, mut seen, mut met) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        for world in &self.worlds {
            for mut next in world.after(setup, step, &mut met)? {
                if seen.insert(next.digest()) {
                    let view = next.view();
                    all.push((next, view));
                }
            }
            if all.len() > MOST_STILL {
                return Err(TooMany);
            }
        }
        Ok(all)
    }
}

pub(super) fn outcome_text(ask: Ask, outcome: Outcome) -> String {
    match ask {
        Ask::Wake(_) => format!("{:?}", outcome.errno),
        _ => format!("{outcome:?}"),
    }
}

pub(super) fn read_text(arm: &dyn Arm, count: Result<usize, Errno>, events: &[Event]) -> String {
    let texts: Vec<_> = events.iter().map(|event| event_text(arm, event)).collect();
    format!("{count:?} {texts:?}")
}

pub(super) fn scan(part: Part, flags: u64, mask: u64) -> Scan {
    Scan { start: part.at / PAGE, end: (part.at + part.len) / PAGE, flags, mask }
}

/// The ioctl that `ask` is.
fn request(ask: Ask) -> Request {
    match ask {
        Ask::Copy(part, mode, _) => {
            Request::Copy { dst: span(part), mode: CopyMode::from_bits_retain(mode) }
        }
        Ask::Zero(part, mode) => {
            Request::Zeropage { range: span(part), mode: ZeropageMode::from_bits_retain(mode) }
        }
        Ask::Continue(part, mode) => {
            Request::Continue { range: span(part), mode: ContinueMode::from_bits_retain(mode) }
        }
        Ask::Protect(part, mode) => {
            let mode = WriteProtectMode::from_bits_retain(mode);
            Request::WriteProtect { range: span(part), mode }
        }
        Ask::Poison(part, mode) => {
            Request::Poison { range: span(part), mode: PoisonMode::from_bits_retain(mode) }
        }
        Ask::Move(part, from, mode) => {
            let src = span(Part { at: from, len: part.len }).start;
            Request::Move { dst: span(part), src, mode: MoveMode::from_bits_retain(mode) }
        }
        Ask::Wake(part) => Request::Wake { range: span(part) },
        ask => unreachable!("{ask:?} is no ioctl that resolves"),
    }
}
