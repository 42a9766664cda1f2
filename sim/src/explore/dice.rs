//! Random numbers from a seed. Owns the generator and the way its bits become choices; both
//! are pinned by golden tests, because a seed that found a bug must find it again in every
//! later version.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng};

/// The random numbers of one walk.
#[derive(Clone, Debug)]
pub(super) struct Dice {
    random: Xoshiro256PlusPlus,
    /// Random bits not used up yet.
    bits: u64,
    left: u32,
}

impl Dice {
    /// Those of walk number `index` of the campaign with seed `seed`.
    pub(super) fn new(seed: u64, index: u64) -> Dice {
        // The finaliser of SplitMix64 spreads neighbouring indices over the whole space.
        let mut x = seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let random = Xoshiro256PlusPlus::seed_from_u64(x ^ (x >> 31));
        Dice { random, bits: 0, left: 0 }
    }

    /// A number below `bound`, which is at most 64. The bias, below 2^-10, does not matter
    /// to a search; that it never changes does.
    #[inline]
    pub(super) fn few(&mut self, bound: u32) -> u32 {
        if self.left == 0 {
            self.bits = self.random.next_u64();
            self.left = 4;
        }
        let chunk = (self.bits & 0xffff) as u32;
        self.bits >>= 16;
        self.left -= 1;
        (chunk * bound) >> 16
    }

    /// One of the actors in `enabled`, each as likely as its weight says; the weights of a
    /// choice must not all be zero. `weights` has one for each actor that can move, and more.
    #[inline]
    pub(super) fn weighted(
        &mut self,
        enabled: u64,
        weights: impl Iterator<Item = u32> + Clone,
    ) -> usize {
        if enabled.is_power_of_two() {
            return enabled.trailing_zeros() as usize;
        }
        let mut left = enabled;
        let share = move |weight| {
            let here = u64::from(weight) & (left & 1).wrapping_neg();
            left >>= 1;
            here
        };
        let drawn = self.below(weights.clone().map(share).sum());
        // The shares of those before the one it falls to end before it, or at it.
        let (mut end, mut before) = (0, 0);
        for share in weights.map(share) {
            end += share;
            before += usize::from(end <= drawn);
        }
        before
    }

    /// A number below `bound`, which is not zero and may be large. The bias is below
    /// `bound / 2^64`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.random.next_u64()) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_seed_never_change() {
        let mut dice = Dice::new(42, 7);
        let mut numbers: Vec<u64> = (0..4).map(|_| dice.below(1000)).collect();
        numbers.extend((0..8).map(|_| u64::from(dice.few(64))));
        assert_eq!(numbers, GOLDEN);
    }

    const GOLDEN: [u64; 12] = [168, 217, 7, 636, 39, 32, 36, 41, 35, 7, 2, 25];
}
