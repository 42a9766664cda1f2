//! Random sequences of calls. Owns the mixture: small arenas and few attributes, so that
//! ranges collide, touch and become equal again all the time.

use rand::rngs::ChaCha8Rng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use shims::linux::vma_probe::{Limit, ProbeFile, UFFDS};
use sim::vma::{Advice, MapFlags, Prot, RemapFlags};

use super::op::{Map, Op, Source};

/// What the sequences of a run are about.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Theme {
    /// Private and shared memory, files, two userfaultfds.
    #[default]
    Plain,
    /// The same with low limits: address space, data, locks, stack, number of VMAs.
    Limits,
    /// Memory of huge pages beside small ones.
    Huge,
    /// Four userfaultfds: one protects asynchronously, one follows moves and forks.
    Uffd,
}

/// How a sequence is mixed: each one prefers some calls.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    theme: Theme,
    base: u64,
    pages: u64,
    weights: [u32; 18],
}

/// A huge page, in pages.
const HUGE: u64 = 512;

/// The first page in use, a guard gap away from the start of the arena.
const BASE: u64 = 300;

impl Mix {
    fn draw(theme: Theme, rng: &mut ChaCha8Rng) -> Mix {
        let pages = *[6, 10, 16, 24].choose(rng).expect("not empty");
        let mut weights = [8, 6, 6, 5, 6, 2, 1, 1, 1, 1, 2, 6, 4, 2, 1, 1, 1, 2];
        // A swarm: every sequence does without some calls and does others more often.
        for weight in weights.iter_mut().skip(1) {
            *weight *= *[0, 1, 1, 3].choose(rng).expect("not empty");
        }
        match theme {
            Theme::Plain | Theme::Limits => {}
            // Pages are huge ones from here on; see `range`.
            Theme::Huge => return Mix { theme, base: HUGE, pages: 8 * HUGE, weights },
            Theme::Uffd => {
                for kind in [4, 12, 13, 15] {
                    weights[kind] = weights[kind].max(2) * 2;
                }
            }
        }
        Mix { theme, base: BASE, pages, weights }
    }

    fn page(&self, rng: &mut ChaCha8Rng) -> u64 {
        if self.theme == Theme::Huge {
            let huge = self.base + HUGE * rng.random_range(0..self.pages / HUGE);
            return if rng.random_ratio(1, 8) { huge + rng.random_range(1..HUGE) } else { huge };
        }
        self.base + rng.random_range(0..self.pages)
    }

    fn range(&self, rng: &mut ChaCha8Rng) -> (u64, u64) {
        let at = self.page(rng);
        if self.theme == Theme::Huge {
            let most = (self.base + self.pages - at).div_ceil(HUGE).min(4);
            let end = (at + HUGE * rng.random_range(1..=most)).min(self.base + self.pages);
            let cut = if rng.random_ratio(1, 8) { rng.random_range(0..HUGE) } else { 0 };
            return (at, (end - at).saturating_sub(cut).max(1));
        }
        let most =
            (self.base + self.pages - at).min(*[2, 4, 8, 24].choose(rng).expect("not empty"));
        (at, rng.random_range(1..=most))
    }

    fn op(&self, rng: &mut ChaCha8Rng) -> Op {
        if self.theme == Theme::Limits && rng.random_ratio(1, 5) {
            return limit(rng);
        }
        let uffds = if self.theme == Theme::Uffd { UFFDS } else { 2 };
        let mut ticket = rng.random_range(0..self.weights.iter().sum::<u32>());
        let mut kind = 0;
        while ticket >= self.weights[kind] {
            ticket -= self.weights[kind];
            kind += 1;
        }
        let (at, len) = self.range(rng);
        match kind {
            0 => Op::Map(self.map(rng)),
            1 => Op::Unmap(at, len),
            2 => Op::Protect(at, len, prot(rng)),
            3 => Op::Advise(at, len, advice(rng)),
            4 => self.remap(rng),
            5 => Op::Lock(at, len, rng.random()),
            6 => Op::Unlock(at, len),
            7 => Op::LockFuture(rng.random()),
            8 => Op::UnlockAll,
            9 => Op::Seal(at, len.min(2)),
            10 => Op::Bind(at, len, rng.random()),
            11 => Op::Touch(at),
            12 => Op::Register(rng.random_range(0..uffds), at, len, modes(rng)),
            13 => Op::Unregister(rng.random_range(0..uffds), at, len),
            14 => Op::Close(rng.random_range(0..uffds)),
            15 => Op::Fork,
            16 => Op::Heap(at),
            _ => Op::Brk(at),
        }
    }

    fn map(&self, rng: &mut ChaCha8Rng) -> Map {
        let (at, len) = self.range(rng);
        let place = match rng.random_range(0..10u32) {
            0..7 => MapFlags::FIXED,
            7..9 => MapFlags::FIXED_NOREPLACE,
            _ => MapFlags::empty(),
        };
        let extra = match rng.random_range(0..20u32) {
            0 => MapFlags::NORESERVE,
            1 => MapFlags::GROWSDOWN,
            2 => MapFlags::LOCKED,
            3 => MapFlags::POPULATE,
            _ => MapFlags::empty(),
        };
        let page = || at - self.base;
        if self.theme == Theme::Huge && rng.random_ratio(2, 3) {
            let kind = if rng.random() { MapFlags::SHARED } else { MapFlags::PRIVATE };
            let (source, flags) = if rng.random() {
                (Source::Anonymous, MapFlags::HUGETLB)
            } else {
                (Source::File(ProbeFile::Huge, page()), MapFlags::empty())
            };
            let flags = kind | place | flags | MapFlags::NORESERVE;
            return Map { at, len, prot: prot(rng), flags, source };
        }
        // A hint for a large mapping of a file is not modelled (docs/kernel/vma.md).
        let place = if self.theme == Theme::Huge { MapFlags::FIXED } else { place };
        let (kind, source) = match rng.random_range(0..20u32) {
            0..13 => (MapFlags::PRIVATE, Source::Anonymous),
            13 => (MapFlags::SHARED, Source::Anonymous),
            14 => (MapFlags::DROPPABLE, Source::Anonymous),
            15 | 16 => (MapFlags::SHARED, Source::File(ProbeFile::Memfd, page())),
            17 => (MapFlags::PRIVATE, Source::File(ProbeFile::Memfd, page())),
            18 => (MapFlags::SHARED, Source::File(ProbeFile::MemfdAgain, page())),
            _ => {
                let file =
                    *[ProbeFile::MemfdReadOnly, ProbeFile::Regular].choose(rng).expect("not empty");
                let kind = if rng.random() { MapFlags::SHARED } else { MapFlags::PRIVATE };
                (kind, Source::File(file, page()))
            }
        };
        Map { at, len, prot: prot(rng), flags: kind | place | extra, source }
    }

    fn remap(&self, rng: &mut ChaCha8Rng) -> Op {
        let (old, old_len) = self.range(rng);
        let (new, other) = self.range(rng);
        let (flags, new_len) = match rng.random_range(0..10u32) {
            0..2 => (RemapFlags::empty(), other),
            2 => (RemapFlags::MAYMOVE, other),
            3..5 => (RemapFlags::MAYMOVE | RemapFlags::FIXED, other),
            5..8 => (RemapFlags::MAYMOVE | RemapFlags::FIXED, old_len),
            _ => (RemapFlags::MAYMOVE | RemapFlags::FIXED | RemapFlags::DONTUNMAP, old_len),
        };
        let new_len = new_len.min(self.base + self.pages - new);
        let old_len = if rng.random_ratio(1, 30) { 0 } else { old_len };
        Op::Remap { old, old_len, new_len, flags, new }
    }
}

fn limit(rng: &mut ChaCha8Rng) -> Op {
    let kinds = [Limit::AddressSpace, Limit::Data, Limit::Lock, Limit::Stack];
    Op::Limit(*kinds.choose(rng).expect("not empty"), rng.random_range(0..8))
}

fn prot(rng: &mut ChaCha8Rng) -> Prot {
    let common = [Prot::RW, Prot::RW, Prot::RW, Prot::READ, Prot::READ, Prot::NONE, Prot::RX];
    *common.choose(rng).expect("not empty")
}

fn advice(rng: &mut ChaCha8Rng) -> Advice {
    let all = [
        Advice::Normal,
        Advice::Random,
        Advice::Sequential,
        Advice::DontFork,
        Advice::DoFork,
        Advice::WipeOnFork,
        Advice::KeepOnFork,
        Advice::DontDump,
        Advice::DoDump,
        Advice::Mergeable,
        Advice::Unmergeable,
        Advice::HugePage,
        Advice::NoHugePage,
        Advice::GuardInstall,
    ];
    *all.choose(rng).expect("not empty")
}

fn modes(rng: &mut ChaCha8Rng) -> u64 {
    *[1, 1, 1, 2, 3, 4, 5, 0, 8].choose(rng).expect("not empty")
}

/// The sequence of this seed.
pub fn sequence(theme: Theme, seed: u64, length: usize) -> Vec<Op> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mix = Mix::draw(theme, &mut rng);
    // Using up 65,000 VMAs takes a while.
    let mut ops = Vec::with_capacity(length);
    if theme == Theme::Limits && rng.random_ratio(1, 20) {
        ops.push(Op::Limit(Limit::Count, rng.random_range(1..12)));
    }
    while ops.len() < length {
        ops.push(mix.op(&mut rng));
    }
    ops
}
