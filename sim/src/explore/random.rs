//! A random walk: every actor that can move is equally likely to. Simple, fair with
//! probability one, and blind to depth; the baseline every other strategy is measured
//! against.

use super::bits::count;
use super::dice::Dice;
use super::{Chooser, nth_set_bit};

/// A random walk from a seed.
#[derive(Clone, Debug)]
pub struct RandomWalk {
    dice: Dice,
}

impl RandomWalk {
    /// Walk number `index` of the campaign with seed `seed`.
    pub fn new(seed: u64, index: u64) -> RandomWalk {
        RandomWalk { dice: Dice::new(seed, index) }
    }
}

impl Chooser for RandomWalk {
    #[inline]
    fn choose(&mut self, enabled: u64) -> usize {
        let count = count(enabled);
        if count == 1 {
            return enabled.trailing_zeros() as usize;
        }
        nth_set_bit(enabled, self.dice.few(count))
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
