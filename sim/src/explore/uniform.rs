//! A walk that makes every interleaving equally likely: an actor moves with a probability
//! proportional to the steps it has left.
//!
//! Zhao, Wolff, Mathur, Roychoudhury: "Selectively Uniform Concurrency Testing", ASPLOS 2025,
//! where it is called URW. A random walk favours the interleavings in which the short actors
//! are done early; this one does not. It is exact for actors that always can move and whose
//! steps are known; how many steps an actor has left is an estimate here, measured beforehand.

use super::bits::reach;
use super::dice::Dice;
use super::{Chooser, Gauge};
use crate::world::MAX_ACTORS;

/// A uniform walk from a seed.
#[derive(Clone, Debug)]
pub struct UniformWalk {
    dice: Dice,
    actors: usize,
    left: [u32; MAX_ACTORS],
}

impl UniformWalk {
    /// Walk number `index` of the campaign with seed `seed`.
    pub fn new(seed: u64, index: u64, gauge: &Gauge) -> UniformWalk {
        UniformWalk { dice: Dice::new(seed, index), actors: gauge.actors, left: gauge.moves }
    }
}

impl Chooser for UniformWalk {
    fn choose(&mut self, enabled: u64) -> usize {
        // An actor that has more steps than was thought goes on, too.
        let left = &self.left[..reach(self.actors, enabled)];
        let weights = left.iter().map(|left| (*left).max(1));
        let actor = self.dice.weighted(enabled, weights);
        self.left[actor] = self.left[actor].saturating_sub(1);
        actor
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explore::RandomWalk;
    use crate::explore::toy::Orders;
    use std::collections::BTreeMap;

    /// How often each order of the steps of `orders` comes.
    fn histogram(mut chooser: impl FnMut(u64) -> Box<dyn Chooser>) -> BTreeMap<u64, u32> {
        let mut seen = BTreeMap::new();
        for index in 0..35_000 {
            let mut chooser = chooser(index);
            let mut orders = Orders::new(&[4, 3]);
            *seen.entry(orders.run(&mut *chooser)).or_default() += 1;
        }
        seen
    }

    #[test]
    fn every_order_is_as_likely_as_every_other() {
        let gauge = Gauge::measure(&Orders::new(&[4, 3]), 1);
        let uniform = histogram(|index| Box::new(UniformWalk::new(1, index, &gauge)));
        // 7! / (4! 3!) orders; a thousand of each are expected, with a deviation of 32.
        assert_eq!(uniform.len(), 35);
        assert!(uniform.values().all(|count| (850..1150).contains(count)), "{uniform:?}");
        // The random walk finds them all as well, but some a multiple of others.
        let random = histogram(|index| Box::new(RandomWalk::new(1, index)));
        let (min, max) = (random.values().min().unwrap(), random.values().max().unwrap());
        assert!(max / min >= 4, "{random:?}");
    }
}
