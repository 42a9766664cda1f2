//! A random walk: every actor that can move is equally likely to. Simple, fair with
//! probability one, and blind to depth; the baseline every other strategy is measured
//! against.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng};

use super::{Chooser, nth_set_bit};

/// A random walk from a seed.
///
/// The generator and the way a number becomes a choice are pinned by a golden test: a seed
/// that found a bug must find it again in every later version.
#[derive(Clone, Debug)]
pub struct RandomWalk {
    random: Xoshiro256PlusPlus,
    /// Random bits not used up yet.
    bits: u64,
    left: u32,
}

impl RandomWalk {
    /// Walk number `index` of the campaign with seed `seed`.
    pub fn new(seed: u64, index: u64) -> RandomWalk {
        // The finaliser of SplitMix64 spreads neighbouring indices over the whole space.
        let mut x = seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let random = Xoshiro256PlusPlus::seed_from_u64(x ^ (x >> 31));
        RandomWalk { random, bits: 0, left: 0 }
    }

    /// A number below `bound`, which is at most 64. The bias, below 2^-10, does not matter
    /// to a search; that it never changes does.
    fn below(&mut self, bound: u32) -> u32 {
        if self.left == 0 {
            self.bits = self.random.next_u64();
            self.left = 4;
        }
        let chunk = (self.bits & 0xffff) as u32;
        self.bits >>= 16;
        self.left -= 1;
        (chunk * bound) >> 16
    }
}

impl Chooser for RandomWalk {
    #[inline]
    fn choose(&mut self, enabled: u64) -> usize {
        let count = enabled.count_ones();
        if count == 1 {
            return enabled.trailing_zeros() as usize;
        }
        nth_set_bit(enabled, self.below(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_walk_of_a_seed_never_changes() {
        let mut walk = RandomWalk::new(42, 7);
        let choices: Vec<_> = (0..24).map(|_| walk.choose(0b1011_0101)).collect();
        assert_eq!(choices, GOLDEN);
    }

    const GOLDEN: [usize; 24] =
        [7, 0, 4, 0, 2, 4, 0, 2, 2, 5, 0, 0, 7, 7, 0, 5, 5, 4, 4, 5, 4, 0, 0, 2];

    #[test]
    fn every_choice_is_possible() {
        let mut walk = RandomWalk::new(1, 0);
        let mut seen = 0u64;
        for _ in 0..1000 {
            seen |= 1 << walk.choose(0b1001_0010_0000_0001);
        }
        assert_eq!(seen, 0b1001_0010_0000_0001);
    }
}
