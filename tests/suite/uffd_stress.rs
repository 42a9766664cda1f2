//! The kernel's `uffd-stress`, step by step on the simulated kernel: threads that check and
//! increment a counter in each page under its lock, threads that answer their faults, and one
//! that copies and protects pages behind everybody's back. Every kernel step of each is a choice
//! of the seed. `tests/selftests/stress.rs` runs the same on both kernels, a call at a time.

use std::fmt;

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use shims::{
    CopyMode, Errno, Event, FaultKind, Features, Outcome, PageSize, RegisterModes, Request, Span,
    WriteProtectMode,
};
use sim::explore::{Chooser, RandomWalk};
use sim::kernel::{Call, Kernel, MmId, PAGE, Payload, Ret, ThreadId};
use sim::profile::Bugs;
use sim::vma::{CtxId, FileKind, MapFlags, Mmap, Prot};
use sim::{Content, Profile};

use crate::support::{page, span};

/// The bits of a bounce's number, as the original has them.
const RANDOM: u32 = 1 << 0;
const RACING: u32 = 1 << 1;
const VERIFY: u32 = 1 << 2;
const POLL: u32 = 1 << 3;

/// Pages of each of the two regions, locking threads, threads that answer, and rounds of each
/// locking thread in a bounce.
const UNITS: u64 = 4;
const LOCKERS: usize = 3;
const SERVERS: usize = 2;
const ROUNDS: u32 = 5;

/// Steps that no bounce needs: who is still moving then does so for ever.
const ENOUGH: u32 = 20_000;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    Anon,
    Shmem,
    ShmemPrivate,
    Huge,
    HugePrivate,
}

const KINDS: [Kind; 5] =
    [Kind::Anon, Kind::Shmem, Kind::ShmemPrivate, Kind::Huge, Kind::HugePrivate];

impl Kind {
    fn granule(self) -> u64 {
        if matches!(self, Kind::Huge | Kind::HugePrivate) { 512 } else { 1 }
    }
}

/// What a handler of these does wrong.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Wrong {
    Nothing,
    /// It wakes whoever met a protection, which is still there.
    WakesWithoutUnprotecting,
    /// It installs the page next to the one that was asked for.
    CopiesAnotherPage,
    /// A page that is there already is none of its business.
    LeavesWhoMetAPage,
    /// It takes the protection off before the first page of the region, whoever asks.
    UnprotectsTheFirst,
}

/// What went wrong.
#[derive(PartialEq)]
enum Found {
    /// The counter of a page is not what it was when it was last unlocked.
    Counter { unit: u64 },
    /// Nobody can move, and these have something to do.
    Stuck(Vec<usize>),
    /// They move for ever.
    Endless,
    /// An answer that the original does not know.
    Unexpected(String),
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::Counter { unit } => write!(f, "the counter of page {unit} is wrong"),
            Found::Stuck(who) => write!(f, "actors {who:?} are stuck"),
            Found::Endless => f.write_str("no end"),
            Found::Unexpected(what) => f.write_str(what),
        }
    }
}

/// What an actor is about to do, or in the middle of.
#[derive(Clone, PartialEq, Debug)]
enum Doing {
    /// A locking thread between two rounds.
    Pick {
        left: u32,
    },
    /// It waits for the lock of a page.
    Lock {
        unit: u64,
        left: u32,
    },
    Check {
        unit: u64,
        left: u32,
    },
    Increment {
        unit: u64,
        left: u32,
    },
    /// A thread that answers: nothing to do until there is a message.
    Wait,
    /// `poll` has told it of one, which may be gone by now.
    Read,
    Fill {
        unit: u64,
    },
    /// It has met a page that was there.
    Wake,
    Unprotect,
    /// The thread in the background, with that page next.
    Copy {
        unit: u64,
    },
    CopyWakes {
        unit: u64,
    },
    Protect {
        unit: u64,
    },
    Done,
}

struct Actor {
    thread: ThreadId,
    doing: Doing,
    /// In a call.
    calling: bool,
    /// The page of its next round, if they are not random.
    next: u64,
}

/// The machine in a bounce.
struct Stress {
    kind: Kind,
    wrong: Wrong,
    kernel: Kernel,
    mm: MmId,
    main: ThreadId,
    ctx: CtxId,
    bounce: u32,
    rng: ChaCha8Rng,
    /// The first page of the region that is filled, and of the one it is filled from.
    dst: u64,
    src: u64,
    shadow: Vec<Content>,
    locked: Vec<bool>,
    actors: Vec<Actor>,
    stores: u32,
    found: Option<String>,
    counter: Option<u64>,
    missing: u32,
    trapped: u32,
    met: u32,
}

impl Stress {
    fn new(profile: Profile, kind: Kind, wrong: Wrong, seed: u64) -> Stress {
        let mut kernel = Kernel::new(profile);
        let mm = kernel.new_mm();
        let main = kernel.new_thread(mm);
        let pages = 2 * UNITS * kind.granule();
        let (at, len) = (page(0).raw(), pages * PAGE.bytes());
        let mut map = |kind, flags| {
            let file = kernel.memory_file(kind, len).expect("a file");
            Mmap::file(file, 0, len, Prot::RW, flags).at(at)
        };
        let huge = FileKind::Hugetlb(PageSize::MIB2);
        let request = match kind {
            Kind::Anon => Mmap::fixed(at, len, Prot::RW),
            Kind::Shmem => map(FileKind::Shmem, MapFlags::SHARED),
            Kind::ShmemPrivate => map(FileKind::Shmem, MapFlags::PRIVATE),
            Kind::Huge => map(huge, MapFlags::SHARED),
            Kind::HugePrivate => map(huge, MapFlags::PRIVATE),
        };
        assert_eq!(kernel.run(main, Call::Mmap(request)), Ret::Ok(at));
        let ctx = kernel.userfaultfd(mm, Features::empty()).expect("no feature");
        let actor = |kernel: &mut Kernel, doing| Actor {
            thread: kernel.new_thread(mm),
            doing,
            calling: false,
            next: 0,
        };
        let mut actors = Vec::new();
        for n in 0..LOCKERS + SERVERS + 1 {
            let doing = match n {
                n if n < LOCKERS => Doing::Done,
                n if n < LOCKERS + SERVERS => Doing::Wait,
                _ => Doing::Done,
            };
            actors.push(actor(&mut kernel, doing));
        }
        let mut stress = Stress {
            kind,
            wrong,
            kernel,
            mm,
            main,
            ctx,
            bounce: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
            dst: UNITS,
            src: 0,
            shadow: (0..UNITS).map(|n| Content::Source { page: n as u32, version: 7 }).collect(),
            locked: vec![false; UNITS as usize],
            actors,
            stores: 0,
            found: None,
            counter: None,
            missing: 0,
            trapped: 0,
            met: 0,
        };
        // By COPY: a store to a private mapping of a file would leave a page in the file.
        let whole = stress.region(0);
        stress.watch(whole, true);
        for unit in 0..UNITS {
            let content = stress.shadow[unit as usize];
            let request = Request::Copy { dst: stress.unit(unit), mode: CopyMode::empty() };
            let ret = stress.run(Call::Resolve { ctx, request, payload: Payload::One(content) });
            assert_eq!(ret, Ret::Outcome(Outcome::done(kind.granule() * PAGE.bytes())));
        }
        stress.watch(whole, false);
        stress
    }

    /// Unit `n` of both regions.
    fn unit(&self, n: u64) -> Span {
        let granule = self.kind.granule();
        span(n * granule, (n + 1) * granule)
    }

    /// The region that begins with unit `first`.
    fn region(&self, first: u64) -> Span {
        let granule = self.kind.granule();
        span(first * granule, (first + UNITS) * granule)
    }

    fn run(&mut self, call: Call) -> Ret {
        self.kernel.run(self.main, call)
    }

    fn watch(&mut self, range: Span, on: bool) {
        let (ctx, modes) = (self.ctx, RegisterModes::MISSING | RegisterModes::WP);
        let ret = self.run(match on {
            true => Call::Register { ctx, range, modes },
            false => Call::Unregister { ctx, range },
        });
        assert!(matches!(ret, Ret::Ok(_)), "{ret:?}");
    }

    /// What the region that is copied from has in unit `n`.
    fn source(&self, n: u64) -> Content {
        let vpn = page((self.src + n) * self.kind.granule()).raw() >> 12;
        match self.kernel.table(self.mm).get(vpn) {
            sim::kernel::Pte::Present { content, .. } => content,
            pte => panic!("unit {n} of the source is {pte:?}"),
        }
    }

    fn copy(&self, unit: u64) -> Call {
        let from = match self.wrong {
            Wrong::CopiesAnotherPage => (unit + 1) % UNITS,
            _ => unit,
        };
        let payload = Payload::One(self.source(from));
        let request = Request::Copy { dst: self.unit(self.dst + unit), mode: CopyMode::WP };
        Call::Resolve { ctx: self.ctx, request, payload }
    }

    fn resolve(&self, request: Request) -> Call {
        Call::Resolve { ctx: self.ctx, request, payload: Payload::None }
    }

    /// The call of an actor that is about to do something in the kernel.
    fn call_of(&mut self, actor: usize) -> Option<Call> {
        let granule = self.kind.granule();
        let addr = |unit: u64| page((self.dst + unit) * granule);
        Some(match self.actors[actor].doing.clone() {
            Doing::Check { unit, .. } => Call::Load { addr: addr(unit) },
            Doing::Increment { unit, .. } => {
                self.stores += 1;
                let content = Content::Written { task: actor as u16, seq: self.stores };
                self.shadow[unit as usize] = content;
                Call::Store { addr: addr(unit), content }
            }
            Doing::Read => Call::Read { ctx: self.ctx, max: 1 },
            Doing::Fill { unit } | Doing::Copy { unit } => self.copy(unit),
            _ => return None,
        })
    }

    /// A message: what is to be done about it, and the call that does it.
    fn answer(&mut self, event: Event) -> Option<(Doing, Call)> {
        let Event::Fault(fault) = event else {
            self.found = Some(format!("{event:?} was not asked for"));
            return None;
        };
        let pages = (fault.addr.raw() - page(0).raw()) / PAGE.bytes();
        let unit = pages / self.kind.granule() - self.dst;
        let range = self.unit(self.dst + unit);
        match fault.kind() {
            FaultKind::Missing => {
                self.missing += 1;
                if fault.is_write() {
                    self.found = Some(format!("a write has missed page {unit}"));
                }
                Some((Doing::Fill { unit }, self.copy(unit)))
            }
            FaultKind::Wp => {
                self.trapped += 1;
                let mode = WriteProtectMode::empty();
                let request = match self.wrong {
                    Wrong::WakesWithoutUnprotecting => Request::Wake { range },
                    Wrong::UnprotectsTheFirst => {
                        Request::WriteProtect { range: self.unit(self.dst), mode }
                    }
                    _ => Request::WriteProtect { range, mode },
                };
                Some((Doing::Unprotect, self.resolve(request)))
            }
            FaultKind::Minor => {
                self.found = Some("a minor fault".to_owned());
                None
            }
        }
    }

    /// A call has come back: what the actor does next, and with which call, if that is part of
    /// the same turn.
    fn back(&mut self, actor: usize, ret: Ret) -> (Doing, Option<Call>) {
        let thread = self.actors[actor].thread;
        match (self.actors[actor].doing.clone(), ret) {
            (Doing::Check { unit, left }, Ret::Loaded(content)) => {
                if content != self.shadow[unit as usize] {
                    self.counter = Some(unit);
                }
                (Doing::Increment { unit, left }, None)
            }
            (Doing::Increment { unit, left }, Ret::Stored) => {
                self.locked[unit as usize] = false;
                (Doing::Pick { left: left - 1 }, None)
            }
            (Doing::Read, Ret::Read(1)) => {
                let event = self.kernel.inbox(thread).pop().expect("a message");
                let answer = self.answer(event);
                answer.map_or((Doing::Done, None), |(doing, call)| (doing, Some(call)))
            }
            // Another one was faster.
            (Doing::Read, Ret::Err(Errno::EAGAIN)) if self.bounce & POLL != 0 => {
                (Doing::Wait, None)
            }
            (Doing::Fill { unit } | Doing::Copy { unit }, Ret::Outcome(outcome)) => {
                let copies = matches!(self.actors[actor].doing, Doing::Copy { .. });
                let done = Outcome::done(self.kind.granule() * PAGE.bytes());
                let there = Outcome::mirrored(Errno::EEXIST);
                let leaves = self.wrong == Wrong::LeavesWhoMetAPage;
                if outcome == done || (leaves && outcome == there) {
                    (self.behind_copy(copies, unit), None)
                } else if outcome == there {
                    self.met += 1;
                    let range = self.unit(self.dst + unit);
                    let doing = if copies { Doing::CopyWakes { unit } } else { Doing::Wake };
                    (doing, Some(self.resolve(Request::Wake { range })))
                } else {
                    self.found = Some(format!("COPY said {outcome}"));
                    (Doing::Done, None)
                }
            }
            (Doing::Wake | Doing::Unprotect, Ret::Outcome(Outcome::OK)) => (Doing::Wait, None),
            (Doing::CopyWakes { unit }, Ret::Outcome(Outcome::OK)) => {
                (self.behind_copy(true, unit), None)
            }
            (Doing::Protect { unit }, Ret::Outcome(Outcome::OK)) => (Doing::Copy { unit }, None),
            (doing, ret) => {
                self.found = Some(format!("{doing:?} came back as {ret:?}"));
                (Doing::Done, None)
            }
        }
    }

    /// The thread in the background goes on; half-way it protects what it has copied.
    fn behind_copy(&self, copies: bool, unit: u64) -> Doing {
        match (copies, unit + 1) {
            (false, _) => Doing::Wait,
            (true, UNITS) => Doing::Done,
            (true, next) if next == UNITS / 2 => Doing::Protect { unit: next },
            (true, next) => Doing::Copy { unit: next },
        }
    }

    fn begin(&mut self, actor: usize, call: Call) {
        self.kernel.begin(self.actors[actor].thread, call);
        self.actors[actor].calling = true;
    }

    /// One bounce: everybody goes on until nobody can, then all of it is looked at.
    fn bounce(&mut self, bounce: u32, chooser: &mut impl Chooser) -> Result<(), Found> {
        self.bounce = bounce;
        let region = self.region(self.dst);
        self.watch(region, true);
        for (n, actor) in self.actors.iter_mut().enumerate() {
            actor.next = if bounce & RACING != 0 { 0 } else { n as u64 % UNITS };
            actor.doing = match n {
                n if n < LOCKERS => Doing::Pick { left: ROUNDS },
                n if n < LOCKERS + SERVERS => Doing::Wait,
                _ => Doing::Copy { unit: 0 },
            };
        }
        let mut steps = 0;
        loop {
            let enabled = self.enabled();
            if enabled == 0 {
                break;
            }
            self.go(chooser.choose(enabled));
            if let Some(unit) = self.counter {
                return Err(Found::Counter { unit });
            }
            if let Some(what) = self.found.take() {
                return Err(Found::Unexpected(what));
            }
            steps += 1;
            if steps > ENOUGH {
                return Err(Found::Endless);
            }
        }
        let resting =
            |actor: &Actor| !actor.calling && matches!(actor.doing, Doing::Done | Doing::Wait);
        let stuck: Vec<_> = (0..self.actors.len()).filter(|&n| !resting(&self.actors[n])).collect();
        if !stuck.is_empty() {
            return Err(Found::Stuck(stuck));
        }
        let request = Request::WriteProtect { range: region, mode: WriteProtectMode::empty() };
        let call = self.resolve(request);
        assert_eq!(self.run(call), Ret::Outcome(Outcome::OK));
        self.watch(region, false);
        if bounce & VERIFY != 0 {
            for unit in 0..UNITS {
                let addr = page((self.dst + unit) * self.kind.granule());
                if self.run(Call::Load { addr }) != Ret::Loaded(self.shadow[unit as usize]) {
                    return Err(Found::Counter { unit });
                }
            }
        }
        core::mem::swap(&mut self.dst, &mut self.src);
        let range = self.region(self.dst);
        let drop = match self.kind {
            Kind::Shmem | Kind::Huge => Call::RemoveFile { range },
            _ => Call::DontNeed { range },
        };
        assert_eq!(self.run(drop), Ret::Ok(0));
        Ok(())
    }
}

impl Stress {
    /// The actors that can move now, a bit each.
    fn enabled(&self) -> u64 {
        let unread = self.kernel.ctx(self.ctx).faults_unread() > 0;
        let can = |actor: &Actor| match (&actor.doing, actor.calling) {
            (_, true) => self.kernel.can_step(actor.thread),
            (Doing::Done, _) => false,
            (Doing::Wait, _) => unread,
            (Doing::Lock { unit, .. }, _) => !self.locked[*unit as usize],
            _ => true,
        };
        (0..self.actors.len()).filter(|&n| can(&self.actors[n])).fold(0, |bits, n| bits | 1 << n)
    }

    /// One step of the call that one of them is in, and what comes of it if it returns.
    fn step_call(&mut self, n: usize) {
        let thread = self.actors[n].thread;
        self.kernel.step(thread);
        if let Some(ret) = self.kernel.take_ret(thread) {
            self.actors[n].calling = false;
            let (doing, call) = self.back(n, ret);
            self.actors[n].doing = doing;
            if let Some(call) = call {
                self.begin(n, call);
            }
        }
    }

    /// Move one of them.
    fn go(&mut self, n: usize) {
        if self.actors[n].calling {
            self.step_call(n);
            return;
        }
        match self.actors[n].doing.clone() {
            Doing::Pick { left: 0 } => self.actors[n].doing = Doing::Done,
            Doing::Pick { left } => {
                let unit = match self.bounce & RANDOM {
                    0 => self.actors[n].next,
                    _ => self.rng.random_range(0..UNITS),
                };
                self.actors[n].next = (unit + 1) % UNITS;
                self.actors[n].doing = Doing::Lock { unit, left };
            }
            Doing::Lock { unit, left } => {
                self.locked[unit as usize] = true;
                self.actors[n].doing = Doing::Check { unit, left };
            }
            // A blocking read is one step; behind `poll`, others may be faster.
            Doing::Wait => {
                self.actors[n].doing = Doing::Read;
                if self.bounce & POLL == 0 {
                    let call = self.call_of(n).expect("a read");
                    self.begin(n, call);
                    self.step_call(n);
                }
            }
            Doing::Protect { unit } => {
                let granule = self.kind.granule();
                let range = span(self.dst * granule, (self.dst + unit) * granule);
                let mode = WriteProtectMode::WP;
                let call = self.resolve(Request::WriteProtect { range, mode });
                self.begin(n, call);
            }
            _ => {
                let call = self.call_of(n).expect("it is about to call");
                self.begin(n, call);
            }
        }
    }
}

/// All sixteen bounces under one seed.
fn sixteen(kind: Kind, wrong: Wrong, seed: u64) -> Result<Stress, (u32, Found)> {
    sixteen_on(Profile::default(), kind, wrong, seed)
}

/// The same on another kernel.
fn sixteen_on(
    profile: Profile,
    kind: Kind,
    wrong: Wrong,
    seed: u64,
) -> Result<Stress, (u32, Found)> {
    let mut stress = Stress::new(profile, kind, wrong, seed);
    let mut walk = RandomWalk::new(seed, kind as u64);
    for bounce in 0..16 {
        stress.bounce(bounce, &mut walk).map_err(|found| (bounce, found))?;
    }
    Ok(stress)
}

#[test]
fn no_bounce_of_any_seed_loses_a_counter() {
    for kind in KINDS {
        let (mut missing, mut trapped, mut met) = (0, 0, 0);
        for seed in 0..60 {
            match sixteen(kind, Wrong::Nothing, seed) {
                Ok(stress) => {
                    missing += stress.missing;
                    trapped += stress.trapped;
                    met += stress.met;
                }
                Err((bounce, found)) => {
                    panic!("{kind:?}, seed {seed}, bounce {bounce}: {found:?}")
                }
            }
        }
        let all = missing > 1_000 && trapped > 1_000 && met > 300;
        assert!(all, "{kind:?}: {missing} missing, {trapped} trapped, {met} met a page");
    }
}

#[test]
fn each_wrong_handler_is_found_out_in_every_kind_of_memory() {
    let found = |kind, wrong| {
        (0..200).find_map(|seed| sixteen(kind, wrong, seed).err()).map(|(_, found)| found)
    };
    for kind in KINDS {
        assert_eq!(found(kind, Wrong::WakesWithoutUnprotecting), Some(Found::Endless), "{kind:?}");
        let another = found(kind, Wrong::CopiesAnotherPage);
        assert!(matches!(another, Some(Found::Counter { .. })), "{kind:?}: {another:?}");
        let first = found(kind, Wrong::UnprotectsTheFirst);
        assert!(matches!(first, Some(Found::Stuck(_))), "{kind:?}: {first:?}");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let end = |seed| {
        let Ok(stress) = sixteen(Kind::Shmem, Wrong::Nothing, seed) else { panic!("seed {seed}") };
        (stress.kernel, stress.stores, stress.missing, stress.trapped)
    };
    assert!(end(3) == end(3));
    assert!(end(3) != end(4));
}

/// On a kernel that does not look at the page once more before it sleeps, whoever is told that a
/// page is there has to wake; the original does since it was found out (bug Z14). On any other
/// the look is enough here, where nothing takes pages away.
#[test]
fn z14_a_page_that_was_met_is_woken_for() {
    let looks_no_more = || Profile::default().with_bugs(Bugs::Z14);
    for kind in KINDS {
        let run = |profile: &dyn Fn() -> Profile, wrong| {
            let mut runs = (0..60).map(|seed| sixteen_on(profile(), kind, wrong, seed));
            runs.find_map(Result::err).map(|(_, found)| found)
        };
        assert_eq!(run(&looks_no_more, Wrong::Nothing), None, "{kind:?}");
        let left = run(&looks_no_more, Wrong::LeavesWhoMetAPage);
        assert!(matches!(left, Some(Found::Stuck(_))), "{kind:?}: {left:?}");
        assert_eq!(run(&Profile::default, Wrong::LeavesWhoMetAPage), None, "{kind:?}");
    }
}
