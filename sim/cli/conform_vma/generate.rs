//! Random sequences of calls. Owns the mixture: small arenas and few attributes, so that
//! ranges collide, touch and become equal again all the time.

use rand::rngs::ChaCha8Rng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use shims::linux::vma_probe::ProbeFile;
use sim::vma::{Advice, MapFlags, Prot, RemapFlags};

use super::op::{Map, Op, Source};

/// How a sequence is mixed: each one prefers some calls.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    base: u64,
    pages: u64,
    weights: [u32; 18],
}

/// The first page in use, a guard gap away from the start of the arena.
const BASE: u64 = 300;

impl Mix {
    fn draw(rng: &mut ChaCha8Rng) -> Mix {
        let pages = *[6, 10, 16, 24].choose(rng).expect("not empty");
        let mut weights = [8, 6, 6, 5, 6, 2, 1, 1, 1, 1, 2, 6, 4, 2, 1, 1, 1, 2];
        // A swarm: every sequence does without some calls and does others more often.
        for weight in weights.iter_mut().skip(1) {
            *weight *= *[0, 1, 1, 3].choose(rng).expect("not empty");
        }
        Mix { base: BASE, pages, weights }
    }

    fn page(&self, rng: &mut ChaCha8Rng) -> u64 {
        self.base + rng.random_range(0..self.pages)
    }

    fn range(&self, rng: &mut ChaCha8Rng) -> (u64, u64) {
        let at = self.page(rng);
        let most =
            (self.base + self.pages - at).min(*[2, 4, 8, 24].choose(rng).expect("not empty"));
        (at, rng.random_range(1..=most))
    }

    fn op(&self, rng: &mut ChaCha8Rng) -> Op {
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
            12 => Op::Register(rng.random_range(0..2), at, len, modes(rng)),
            13 => Op::Unregister(rng.random_range(0..2), at, len),
            14 => Op::Close(rng.random_range(0..2)),
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
pub fn sequence(seed: u64, length: usize) -> Vec<Op> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mix = Mix::draw(&mut rng);
    (0..length).map(|_| mix.op(&mut rng)).collect()
}
