//! Swarm: a walk in which every actor has a weight of its own, drawn anew for each walk, and
//! some hardly move at all. Runs that leave something out reach states that runs which do a
//! bit of everything do not.
//!
//! Groce, Zhang, Eide, Chen, Regehr: "Swarm Testing", ISSTA 2012, applied to actors.
//!
//! Like [PCT](super::Pct) it is unfair only for the steps a run was measured to have.

use super::bits::reach;
use super::dice::Dice;
use super::{Chooser, Gauge, nth_set_bit};
use crate::world::MAX_ACTORS;

/// The weights. An actor of weight 0 moves only if nobody else can.
const WEIGHTS: [u8; 4] = [0, 1, 5, 25];

/// A swarm walk from a seed.
#[derive(Clone, Debug)]
pub struct Swarm {
    dice: Dice,
    actors: usize,
    weights: [u8; MAX_ACTORS],
    /// Those that have a weight.
    heavy: u64,
    unfair: u32,
}

impl Swarm {
    /// Walk number `index` of the campaign with seed `seed`.
    pub fn new(seed: u64, index: u64, gauge: &Gauge) -> Swarm {
        let mut dice = Dice::new(seed, index);
        let mut weights = [0; MAX_ACTORS];
        let mut heavy = 0;
        for (actor, weight) in weights[..gauge.actors].iter_mut().enumerate() {
            *weight = WEIGHTS[dice.few(WEIGHTS.len() as u32) as usize];
            heavy |= u64::from(*weight > 0) << actor;
        }
        Swarm { dice, actors: gauge.actors, weights, heavy, unfair: gauge.length }
    }
}

impl Chooser for Swarm {
    fn choose(&mut self, enabled: u64) -> usize {
        if self.unfair == 0 {
            return nth_set_bit(enabled, self.dice.few(enabled.count_ones()));
        }
        self.unfair -= 1;
        if enabled & self.heavy == 0 {
            return nth_set_bit(enabled, self.dice.few(enabled.count_ones()));
        }
        let weights = &self.weights[..reach(self.actors, enabled)];
        self.dice.weighted(enabled, weights.iter().map(|weight| u32::from(*weight)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explore::toy::Orders;

    #[test]
    fn some_walks_let_an_actor_wait_until_all_others_are_done() {
        let gauge = Gauge::measure(&Orders::new(&[3, 3, 3]), 1);
        let last = |index| {
            let mut orders = Orders::new(&[3, 3, 3]);
            orders.run(&mut Swarm::new(1, index, &gauge)) & 0o777 == 0o222
        };
        let count = (0..1000).filter(|index| last(*index)).count();
        // A quarter of the walks mutes the last actor; a random walk ends like this once in 84.
        assert!(count > 200, "{count} of 1000");
    }
}
