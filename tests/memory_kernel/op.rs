//! What a program can do, and how one is drawn. Owns the vocabulary; `real.rs` and
//! `sim_side.rs` give it its two meanings.

use shims::RegisterModes;

/// A kind of memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Anon,
    Shmem,
    ShmemPrivate,
    Hugetlb,
    HugetlbPrivate,
}

impl Kind {
    pub(crate) fn is_huge(self) -> bool {
        matches!(self, Kind::Hugetlb | Kind::HugetlbPrivate)
    }

    pub(crate) fn is_shared(self) -> bool {
        matches!(self, Kind::Shmem | Kind::Hugetlb)
    }

    /// Pages of the memory: of tmpfs enough for more than one window of neighbours.
    pub(crate) fn pages(self) -> u64 {
        match self {
            Kind::Anon => 6,
            Kind::Shmem | Kind::ShmemPrivate => 24,
            Kind::Hugetlb | Kind::HugetlbPrivate => 3,
        }
    }

    /// Bytes of a page.
    pub(crate) fn page(self) -> u64 {
        if self.is_huge() { 2 << 20 } else { 4096 }
    }
}

/// The watched mapping, or the other one of the same file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Watched,
    Other,
}

/// Pages `at..at + len`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pages {
    pub(crate) at: u64,
    pub(crate) len: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    Load(Side, u64),
    Store(Side, u64, u32),
    Copy {
        pages: Pages,
        wp: bool,
    },
    Zero(Pages),
    Continue {
        pages: Pages,
        wp: bool,
    },
    Poison(Pages),
    Protect {
        pages: Pages,
        on: bool,
    },
    DontNeed(Side, Pages),
    Remove(Side, Pages),
    Populate {
        side: Side,
        pages: Pages,
        write: bool,
    },
    Punch(Pages),
    Truncate(u64),
    /// In huge pages of a range that is unregistered before: protection left by a registration
    /// for `WP` sends a write to them round in circles for ever (rule b9).
    Register(RegisterModes),
    Unregister,
}

impl Op {
    pub(crate) fn any(kind: Kind, dice: &mut Dice) -> Op {
        let file = kind != Kind::Anon;
        let side = match file && dice.below(3) == 0 {
            true => Side::Other,
            false => Side::Watched,
        };
        let at = dice.below(kind.pages());
        let len = (1 + dice.below(3)).min(kind.pages() - at);
        let pages = Pages { at, len };
        let wp = dice.below(2) == 0;
        match dice.below(if file { 30 } else { 25 }) {
            0..4 => Op::Load(side, at),
            4..8 => Op::Store(side, at, dice.below(1 << 20) as u32 + 1),
            8..11 => Op::Copy { pages, wp },
            11 => Op::Zero(pages),
            12 => Op::Poison(pages),
            13..17 => Op::Protect { pages, on: dice.below(3) > 0 },
            17..19 => Op::DontNeed(side, pages),
            19..21 => Op::Populate { side, pages, write: wp },
            21..24 => {
                let minor = RegisterModes::MINOR;
                let modes = RegisterModes::from_bits_retain(1 + dice.below(7));
                Op::Register(if file { modes } else { modes - minor })
            }
            24 => Op::Unregister,
            25..27 => Op::Continue { pages, wp },
            27 => Op::Remove(side, pages),
            28 => Op::Punch(pages),
            _ => Op::Truncate(dice.below(kind.pages() + 1)),
        }
    }
}

/// SplitMix64: the same numbers everywhere.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// The answers and the states of both, in words.
pub(crate) fn entry(present: bool, swapped: bool, file: bool, wp: bool) -> String {
    let mark = |on, mark| if on { mark } else { '-' };
    [mark(present, 'P'), mark(swapped, 'S'), mark(file, 'F'), mark(wp, 'W')].iter().collect()
}
