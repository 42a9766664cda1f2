//! The next step of a random program, chosen with the simulated state in sight. Owns the
//! mixture: faults are answered most of the time, small arenas make ranges collide, and every
//! program does without some things and does others more often.

use rand::rngs::ChaCha8Rng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use shims::{Features, RegisterModes};
use sim::kernel::Sleep;
use sim::vma::{Prot, RemapFlags};
use sim::world::BASE;

use super::aim::{self, Aim};
use super::cover::Rule;
use super::possible::World;
use super::step::{Ask, Part, Setup, Step};
use crate::judge::{Advise, Arm, Fill, Kind, Op, PAGE, Piece, Settled};

/// What a program is of.
#[derive(Debug)]
pub(super) struct Mix {
    setup: Setup,
    features: Features,
    /// What memory is registered for at first; anything if nothing is said.
    modes: Option<u64>,
    /// How often each kind of thread's operation, and each kind of request.
    ops: [u32; OPS],
    asks: [u32; ASKS],
    /// Of 16 steps, so many answer what is there to be answered.
    diligence: u32,
    stores: u32,
    rng: ChaCha8Rng,
}

const OPS: usize = 20;
const ASKS: usize = 13;

/// What the machine lets a run do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Means {
    pub(super) privileged: bool,
    pub(super) huge_pages: u64,
}

impl Mix {
    /// `aim` is a rule that the program shall be likely to exercise.
    pub(super) fn new(seed: u64, means: Means, aim: Option<Rule>) -> Mix {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut setup = setup(&mut rng, means);
        let aim = aim.map_or(Aim::default(), aim::at);
        for _ in 0..40 {
            if (aim.fits)(&setup) {
                break;
            }
            setup = self::setup(&mut rng, means);
        }
        let mut features = Features::empty();
        for (feature, odds) in [
            (Features::EVENT_REMOVE, 10),
            (Features::EVENT_UNMAP, 8),
            (Features::EVENT_REMAP, 8),
            (Features::EVENT_FORK, 6),
            (Features::THREAD_ID, 14),
            (Features::EXACT_ADDRESS, 4),
            (Features::WP_UNPOPULATED, 6),
            (Features::WP_ASYNC, 2),
            (Features::SIGBUS, 1),
        ] {
            if rng.random_ratio(odds, 16) && (means.privileged || feature != Features::EVENT_FORK) {
                features |= feature;
            }
        }
        let mut ops = [30, 5, 2, 2, 5, 8, 6, 2, 3, 3, 4, 4, 5, 1, 1, 3, 3, 2, 2, 1];
        let mut asks = [6, 4, 2, 8, 3, 4, 6, 2, 3, 3, 1, 2, 1];
        for weight in ops.iter_mut().skip(1).chain(&mut asks) {
            *weight *= *[0, 1, 1, 3].choose(&mut rng).expect("not empty");
        }
        // Something can be asked.
        asks[3] += 1;
        aim.ops.iter().for_each(|&op| ops[op] = 4 * ops[op].max(4));
        aim.asks.iter().for_each(|&ask| asks[ask] = 4 * asks[ask].max(4));
        features |= aim.features;
        features -= aim.without;
        if !means.privileged {
            features -= Features::EVENT_FORK;
        }
        let diligence = if aim.lazy { 2 } else { rng.random_range(3..=12) };
        Mix { setup, features, modes: aim.modes, ops, asks, diligence, stores: 0, rng }
    }

    pub(super) fn setup(&self) -> &Setup {
        &self.setup
    }

    /// The steps that every program begins with: userfaultfds that watch something.
    pub(super) fn overture(&mut self) -> Vec<Step> {
        let mut steps = vec![Step::Open(self.features)];
        if self.rng.random_ratio(1, 4) {
            // It may hear of what the other one hears, or of what it does not.
            let mut other = self.features;
            for feature in [Features::EVENT_REMOVE, Features::EVENT_UNMAP] {
                if self.rng.random() {
                    other ^= feature;
                }
            }
            steps.push(Step::Open(other));
        }
        let pieces = self.setup.pieces.clone();
        for piece in &pieces {
            if self.rng.random_ratio(1, 10) {
                continue;
            }
            let uffd = self.rng.random_range(0..steps.iter().filter(is_open).count());
            let mut part = Part { at: piece.at * PAGE, len: piece.pages * PAGE };
            if self.rng.random_ratio(1, 4) {
                part = self.part_of(piece);
            }
            let any = self.modes(piece.kind);
            let modes = self.modes.unwrap_or(any);
            steps.push(Step::Ask { uffd, ask: Ask::Register(part, modes) });
        }
        steps
    }

    /// The next step in that state; nothing if nothing can be done any more.
    pub(super) fn next(&mut self, world: &mut World) -> Option<Step> {
        let free: Vec<_> = (0..world.threads.len()).filter(|&n| world.is_free(n)).collect();
        let open: Vec<_> = (0..world.uffds).filter(|&n| world.arm.is_open(n)).collect();
        if free.is_empty() && open.is_empty() {
            return None;
        }
        let sleepers: Vec<_> = (0..world.threads.len())
            .filter(|&n| world.threads[n] == Some(Settled::Asleep))
            .collect();
        let serve = free.is_empty() || self.rng.random_ratio(self.diligence, 16);
        if !open.is_empty() && serve && !sleepers.is_empty() && self.rng.random_ratio(14, 16) {
            return Some(self.serve(world, &open, &sleepers));
        }
        if open.is_empty() && self.rng.random_ratio(1, 3) {
            return Some(Step::Open(self.features));
        }
        if !open.is_empty() && (free.is_empty() || self.rng.random_ratio(4, 16)) {
            loop {
                let step = self.anything(world, &open);
                if world.admits(&step) {
                    return Some(step);
                }
            }
        }
        if self.rng.random_ratio(1, 40)
            && let Some(&thread) = sleepers.choose(&mut self.rng)
            && self.can_be_signalled(world, thread)
        {
            return Some(Step::Signal(thread));
        }
        if world.processes > 1 && self.rng.random_ratio(1, 60) {
            let process = self.rng.random_range(1..world.processes);
            if !world.is_over(process) {
                return Some(Step::Kill(process));
            }
        }
        let thread = *free.choose(&mut self.rng)?;
        loop {
            let op = self.op(world, thread);
            let step = Step::Thread { thread, op };
            if world.admits(&step) {
                return Some(step);
            }
        }
    }

    /// A kernel-mode fault goes round in circles under a signal (a26).
    fn can_be_signalled(&self, world: &World, thread: usize) -> bool {
        let told = world.arm.told[thread].0;
        matches!(told, Some(Op::Touch { .. }))
    }

    /// Answer something that waits.
    fn serve(&mut self, world: &mut World, open: &[usize], sleepers: &[usize]) -> Step {
        let readable: Vec<_> = open.iter().copied().filter(|&n| self.has_news(world, n)).collect();
        if let Some(&uffd) = readable.choose(&mut self.rng)
            && self.rng.random_ratio(10, 16)
        {
            return Step::Ask { uffd, ask: Ask::Read(self.many()) };
        }
        let thread = *sleepers.choose(&mut self.rng).expect("somebody sleeps");
        let sleep = world.arm.kernel.borrow().sleep(world.arm.threads[thread]);
        let Some(Sleep::Fault { addr, .. }) = sleep else {
            let uffd = *open.choose(&mut self.rng).expect("one is open");
            let step = Step::Ask { uffd, ask: Ask::Read(self.many()) };
            let nonblocking = Step::Ask { uffd, ask: Ask::NonBlocking(true) };
            return if world.admits(&step) { step } else { nonblocking };
        };
        let uffd = if self.rng.random_ratio(14, 16) {
            self.owner(world, thread).unwrap_or(open[0])
        } else {
            *open.choose(&mut self.rng).expect("one is open")
        };
        let uffd = if open.contains(&uffd) { uffd } else { open[0] };
        let page = (addr.raw().wrapping_sub(BASE.raw()) / PAGE).min(self.setup.pages - 1);
        let unit = self.unit(page);
        let part = Part { at: (page - page % unit) * PAGE, len: unit * PAGE };
        Step::Ask { uffd, ask: self.resolve(part) }
    }

    /// Which userfaultfd the sleeper's page is watched by: that of its address space.
    fn owner(&self, world: &World, thread: usize) -> Option<usize> {
        let home = world.homes[thread];
        // A child's own come later, in the order of its `FORK` messages.
        (home == 0).then_some(0).or(world.uffds.checked_sub(1))
    }

    fn has_news(&self, world: &mut World, uffd: usize) -> bool {
        world.arm.poll_bits(uffd) & 1 == 1
    }

    fn many(&mut self) -> usize {
        *[1, 1, 1, 2, 3, 8].choose(&mut self.rng).expect("not empty")
    }

    fn unit(&self, page: u64) -> u64 {
        crate::judge::granule(&self.setup.pieces, page)
    }

    fn resolve(&mut self, part: Part) -> Ask {
        let mode = if self.rng.random_ratio(1, 10) { 1 } else { 0 };
        match self.rng.random_range(0..20) {
            0..6 => {
                let wp = if self.rng.random_ratio(1, 4) { 2 } else { 0 };
                Ask::Copy(part, mode | wp, self.version())
            }
            6..9 => Ask::Zero(part, mode),
            9..12 => Ask::Continue(part, mode),
            12..15 => Ask::Protect(part, mode << 1),
            15 => Ask::Poison(part, mode),
            _ => Ask::Wake(part),
        }
    }

    fn version(&mut self) -> u32 {
        self.stores += 1;
        self.stores
    }

    /// Any request, sensible or not.
    fn anything(&mut self, world: &mut World, open: &[usize]) -> Step {
        let uffd = *open.choose(&mut self.rng).expect("one is open");
        let total: u32 = self.asks.iter().sum();
        let mut ticket = self.rng.random_range(0..total);
        let mut kind = 0;
        while ticket >= self.asks[kind] {
            ticket -= self.asks[kind];
            kind += 1;
        }
        let part = self.part();
        let mode = if self.rng.random_ratio(1, 6) { 1 } else { 0 };
        let ask = match kind {
            0 if self.nonblocking(world, uffd) || self.has_news(world, uffd) => {
                Ask::Read(self.many())
            }
            1 => {
                let kind = *Kind::ALL.choose(&mut self.rng).expect("not empty");
                Ask::Register(part, self.modes(kind))
            }
            2 => Ask::Unregister(part),
            4 => Ask::Zero(part, mode),
            5 => Ask::Continue(part, mode | if self.rng.random_ratio(1, 4) { 2 } else { 0 }),
            6 => Ask::Protect(part, *[1, 1, 1, 0, 0, 2, 3].choose(&mut self.rng).expect("some")),
            7 => Ask::Poison(part, mode),
            8 => {
                let mode = mode | if self.rng.random_ratio(1, 3) { 2 } else { 0 };
                match self.sensible_move(world) {
                    Some((to, from)) if self.rng.random() => Ask::Move(to, from, mode),
                    _ => Ask::Move(part, self.part().at, mode),
                }
            }
            9 => Ask::Wake(part),
            10 if self.rng.random_ratio(1, 4) => return Step::Close(uffd),
            12 => Ask::NonBlocking(self.rng.random()),
            11 => {
                let flags = *[0, 1, 2, 3].choose(&mut self.rng).expect("not empty");
                let units = self.aligned();
                Ask::Scan(units, flags, 0b10)
            }
            _ => {
                let wp = if self.rng.random_ratio(1, 4) { 2 } else { 0 };
                Ask::Copy(part, mode | wp, self.version())
            }
        };
        Step::Ask { uffd, ask }
    }

    /// A page that is there, and a place of the same kind of memory where there is none.
    fn sensible_move(&mut self, world: &mut World) -> Option<(Part, u64)> {
        let entries = world.arm.entries(0);
        let anon = |page: u64| {
            let inside = |piece: &&Piece| (piece.at..piece.at + piece.pages).contains(&page);
            self.setup.pieces.iter().find(inside).is_some_and(|piece| piece.kind == Kind::Anon)
        };
        let (there, absent): (Vec<_>, Vec<_>) = entries
            .into_iter()
            .filter(|(page, _)| anon(*page))
            .partition(|(_, e)| e.content.is_some());
        let (from, _) = *there.choose(&mut self.rng)?;
        let (to, _) = *absent.choose(&mut self.rng)?;
        Some((Part { at: to * PAGE, len: PAGE }, from * PAGE))
    }

    fn nonblocking(&self, world: &mut World, uffd: usize) -> bool {
        world.arm.descriptor_flags(uffd).0
    }

    fn modes(&mut self, kind: Kind) -> u64 {
        let good: &[u64] = match kind {
            Kind::Anon => &[1, 1, 1, 3, 3, 2],
            _ => &[1, 1, 3, 2, 4, 4, 5, 6, 7],
        };
        if self.rng.random_ratio(1, 30) {
            return *[0, 8, 16].choose(&mut self.rng).expect("not empty");
        }
        let modes = *good.choose(&mut self.rng).expect("not empty");
        RegisterModes::from_bits_retain(modes).bits()
    }

    /// Some units of a piece.
    fn part_of(&mut self, piece: &Piece) -> Part {
        let unit = piece.kind.granule();
        let units = piece.pages / unit;
        let first = self.rng.random_range(0..units);
        let most = (units - first).min(*[1, 1, 2, 3].choose(&mut self.rng).expect("not empty"));
        let count = self.rng.random_range(1..=most.max(1));
        Part { at: (piece.at + first * unit) * PAGE, len: count * unit * PAGE }
    }

    fn piece(&mut self) -> Piece {
        *self.setup.pieces.choose(&mut self.rng).expect("something is mapped")
    }

    fn aligned(&mut self) -> Part {
        let piece = self.piece();
        self.part_of(&piece)
    }

    /// Some part of the arena, mostly whole units.
    fn part(&mut self) -> Part {
        let mut part = self.aligned();
        match self.rng.random_range(0..60) {
            0 => part.at += 8,
            1 => part.len += 8,
            2 => part.len = 0,
            3..6 => {
                // Across whatever comes behind.
                let last = self.setup.pages * PAGE;
                part.len = (part.len + 2 * self.unit(part.at / PAGE) * PAGE).min(last - part.at);
            }
            6 if self.setup.is_huge() => part.len -= PAGE,
            _ => {}
        }
        part
    }

    fn prot(&mut self) -> Prot {
        *[Prot::RW, Prot::RW, Prot::RW, Prot::READ, Prot::NONE].choose(&mut self.rng).expect("some")
    }

    fn op(&mut self, world: &mut World, thread: usize) -> Op {
        let home = world.homes[thread];
        let total: u32 = self.ops.iter().sum();
        let mut ticket = self.rng.random_range(0..total);
        let mut kind = 0;
        while ticket >= self.ops[kind] {
            ticket -= self.ops[kind];
            kind += 1;
        }
        let write = self.rng.random_ratio(1, 2);
        let one = self.aligned();
        let Part { at, len } = self.part();
        let huge = self.setup.is_huge();
        match kind {
            1 => Op::UserCopy { at: one.at, write },
            2 => Op::ProcMem { at: one.at, write },
            3 => Op::Remote { at: one.at, write },
            4 => Op::Populate { at, len, write },
            5 => Op::DontNeed { at, len },
            6 => Op::Advise { at, len, advice: self.advice() },
            7 => Op::DontNeedSelf { at, len },
            8 if !huge && self.rng.random_ratio(1, 5) => {
                let prot = self.prot();
                let fill = if self.rng.random() { Fill::Locked } else { Fill::Populated };
                Op::Map { at: one.at, len: one.len, prot, fill }
            }
            8 if !huge => {
                Op::Map { at: one.at, len: one.len, prot: self.prot(), fill: Fill::Later }
            }
            9 => Op::Unmap { at, len },
            10 => Op::Protect { at, len, prot: self.prot() },
            11 | 12 if !huge => self.remap(one),
            13 => {
                let on_fault = self.rng.random_ratio(1, 5);
                Op::Lock { at: one.at, len: one.len, on_fault }
            }
            15 if home == 0 && self.has_files() => {
                let piece = self.file_piece();
                let unit = piece.kind.granule();
                let size = self.rng.random_range(0..=piece.pages / unit) * unit;
                Op::Truncate { file: piece.file, len: size * PAGE }
            }
            16 if home == 0 && self.has_files() => {
                let piece = self.file_piece();
                let part = self.part_of(&piece);
                let at = part.at - piece.at * PAGE + piece.offset * PAGE;
                Op::Punch { file: piece.file, at, len: part.len }
            }
            17 if self.may_fork(world) => Op::Fork,
            18 if home == 0 && world.arm.is_open(0) && !huge => {
                let from = self.aligned();
                Op::CopyFrom { uffd: 0, to: one.at, from: from.at, len: one.len }
            }
            19 if home != 0 => Op::Exit,
            _ => {
                let inside = if self.rng.random_ratio(1, 5) { 0x128 } else { 0 };
                Op::Touch { at: one.at + inside, write }
            }
        }
    }

    fn has_files(&self) -> bool {
        self.setup.pieces.iter().any(|piece| piece.kind != Kind::Anon)
    }

    fn file_piece(&mut self) -> Piece {
        let files: Vec<_> =
            self.setup.pieces.iter().filter(|piece| piece.kind != Kind::Anon).copied().collect();
        *files.choose(&mut self.rng).expect("there is a file")
    }

    /// One fork at a time, and few processes.
    fn may_fork(&self, world: &World) -> bool {
        world.processes < 3 && !world.forks()
    }

    fn advice(&mut self) -> Advise {
        *[
            Advise::Free,
            Advise::Free,
            Advise::Remove,
            Advise::Remove,
            Advise::DontFork,
            Advise::WipeOnFork,
            Advise::Cold,
            Advise::WillNeed,
            Advise::DontNeedLocked,
            Advise::GuardInstall,
            Advise::GuardInstall,
            Advise::GuardRemove,
        ]
        .choose(&mut self.rng)
        .expect("not empty")
    }

    fn remap(&mut self, from: Part) -> Op {
        let to = self.aligned().at;
        let Part { at, len } = from;
        match self.rng.random_range(0..8) {
            // In place.
            0 => {
                let new_len = PAGE * self.rng.random_range(1..=3);
                Op::Remap { at, len, new_len, to: None, flags: RemapFlags::empty() }
            }
            1 => {
                let flags = RemapFlags::MAYMOVE | RemapFlags::FIXED;
                let new_len = PAGE * self.rng.random_range(1..=3);
                Op::Remap { at, len, new_len, to: Some(to), flags }
            }
            2 => {
                let flags = RemapFlags::MAYMOVE | RemapFlags::FIXED | RemapFlags::DONTUNMAP;
                Op::Remap { at, len, new_len: len, to: Some(to), flags }
            }
            _ => {
                let flags = RemapFlags::MAYMOVE | RemapFlags::FIXED;
                Op::Remap { at, len, new_len: len, to: Some(to), flags }
            }
        }
    }
}

fn is_open(step: &&Step) -> bool {
    matches!(step, Step::Open(_))
}

/// Memory, threads.
fn setup(rng: &mut ChaCha8Rng, means: Means) -> Setup {
    let threads = rng.random_range(1..=4);
    let huge = means.huge_pages >= 12 && rng.random_ratio(1, 10);
    let mut pieces = Vec::new();
    let (mut at, mut file) = (0, 0);
    if huge {
        let kind = if rng.random() { Kind::Huge } else { Kind::HugePrivate };
        let units = rng.random_range(1..=2);
        pieces.push(Piece::new(0, 512 * units, kind));
        at = 512 * units;
        if rng.random() {
            // The same file once more.
            pieces.push(Piece { at, ..Piece::new(at, 512 * units, Kind::Huge) });
            at += 512 * units;
        }
    } else {
        for _ in 0..rng.random_range(1..=3) {
            if rng.random_ratio(1, 4) {
                at += rng.random_range(1..=2);
            }
            let pages = rng.random_range(1..=6);
            let kind = *[Kind::Anon, Kind::Anon, Kind::Shmem, Kind::ShmemPrivate]
                .choose(rng)
                .expect("not empty");
            let alias = file > 0 && rng.random();
            if kind != Kind::Anon && !alias {
                file += 1;
            }
            let prot = if rng.random_ratio(1, 8) { Prot::READ } else { Prot::RW };
            let offset = if kind == Kind::Anon { 0 } else { rng.random_range(0..2) };
            pieces.push(Piece { file, prot, offset, ..Piece::new(at, pages, kind) });
            at += pages;
        }
    }
    let pages = if huge { at } else { at + rng.random_range(0..3) };
    Setup { pages, pieces, threads, user_mode_only: !means.privileged }
}
