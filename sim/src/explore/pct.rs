//! PCT, probabilistic concurrency testing: actors have priorities, the highest that can
//! move does, and at `depth - 1` random moments the one about to move becomes the lowest.
//!
//! Burckhardt, Kothari, Musuvathi, Nagarakatte: "A Randomized Scheduler with Probabilistic
//! Guarantees of Finding Bugs", ASPLOS 2010. A bug that needs `depth` ordering constraints
//! is found by a run of `k` steps of `n` actors with a probability of at least
//! `1 / (n k^(depth - 1))`.
//!
//! Priorities are unfair, and a handler that retries while the one it waits for is starved
//! is not at fault. After the steps it was measured for, a run goes on as a random walk, which
//! is fair (as Coyote's "fair PCT" does); the guarantee is about the steps before.

use super::bits::reach;
use super::dice::Dice;
use super::{Chooser, Gauge, nth_set_bit};
use crate::world::MAX_ACTORS;

/// A PCT run from a seed.
#[derive(Clone, Debug)]
pub struct Pct {
    dice: Dice,
    actors: usize,
    /// Higher moves first. Changed ones are below `depth - 1`, the others at or above it.
    priority: [u8; MAX_ACTORS],
    /// The steps at which a priority changes; place `i` is the priority it changes to.
    changes: Vec<u32>,
    /// The first of them that has not come.
    next: u32,
    step: u32,
    fair_from: u32,
}

/// The largest depth: priorities are bytes.
pub(super) const MAX_DEPTH: u32 = 64;

impl Pct {
    /// Run number `index` of the campaign with seed `seed`, for bugs of depth `depth` (from 1
    /// to 64).
    pub fn new(seed: u64, index: u64, depth: u32, gauge: &Gauge) -> Pct {
        assert!((1..=MAX_DEPTH).contains(&depth), "a depth from 1 to {MAX_DEPTH}, not {depth}");
        let mut dice = Dice::new(seed, index);
        let mut priority = [0; MAX_ACTORS];
        for (i, slot) in priority.iter_mut().enumerate() {
            *slot = (depth as usize - 1 + i) as u8;
        }
        // A uniform permutation of the actors there are (Fisher and Yates).
        for i in (1..gauge.actors).rev() {
            priority.swap(i, dice.below(i as u64 + 1) as usize);
        }
        let length = gauge.length.max(1);
        let changes: Vec<u32> = (1..depth).map(|_| dice.below(u64::from(length)) as u32).collect();
        let next = changes.iter().copied().min().unwrap_or(u32::MAX);
        Pct { dice, actors: gauge.actors, priority, changes, next, step: 0, fair_from: length }
    }

    fn highest(&self, enabled: u64) -> usize {
        // No two have the same priority, so the highest is one of them, whoever it is of.
        let ranks = self.priority[..reach(self.actors, enabled)].iter().zip(0..);
        let rank = |(priority, actor): (&u8, u32)| {
            ((u32::from(*priority) + 1) << 8 | actor) * (enabled >> actor & 1) as u32
        };
        (ranks.map(rank).fold(0, u32::max) & 0xff) as usize
    }

    /// The moment has come for one priority to change, or several.
    #[cold]
    fn change(&mut self, enabled: u64) {
        for i in 0..self.changes.len() {
            if self.changes[i] == self.step {
                let actor = self.highest(enabled);
                self.priority[actor] = i as u8;
            }
        }
        let later = self.changes.iter().copied().filter(|change| *change > self.step);
        self.next = later.min().unwrap_or(u32::MAX);
    }
}

impl Chooser for Pct {
    fn choose(&mut self, enabled: u64) -> usize {
        if self.step >= self.fair_from {
            return nth_set_bit(enabled, self.dice.few(enabled.count_ones()));
        }
        if self.step == self.next {
            self.change(enabled);
        }
        self.step += 1;
        self.highest(enabled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explore::RandomWalk;
    use crate::explore::toy::Orders;

    /// Runs out of 20,000 in which actor 0 did its last step before actor 1 did its first.
    fn blocked(mut chooser: impl FnMut(u64) -> Box<dyn Chooser>) -> u32 {
        let found = |mut trace: u64| {
            let mut first_of_1 = None;
            let mut last_of_0 = 0;
            for step in (0..20).rev() {
                match trace & 7 {
                    1 => first_of_1 = Some(step),
                    _ if last_of_0 == 0 => last_of_0 = step,
                    _ => {}
                }
                trace >>= 3;
            }
            first_of_1.is_some_and(|first| last_of_0 < first)
        };
        (0..20_000u64)
            .filter(|index| found(Orders::new(&[10, 10]).run(&mut *chooser(*index))))
            .count() as u32
    }

    #[test]
    fn a_bug_of_depth_1_is_found_as_often_as_the_paper_promises() {
        // One constraint: ten steps before ten others. With two actors PCT finds it in at
        // least every second run; a random walk once in 2^10.
        let gauge = Gauge::measure(&Orders::new(&[10, 10]), 1);
        let pct = blocked(|index| Box::new(Pct::new(1, index, 1, &gauge)));
        assert!((9_500..10_500).contains(&pct), "{pct} of 20,000");
        let random = blocked(|index| Box::new(RandomWalk::new(1, index)));
        assert!(random < 60, "{random} of 20,000");
    }

    #[test]
    fn a_bug_of_depth_2_is_found_as_often_as_the_paper_promises() {
        // Actor 0 stops after exactly 5 of its 10 steps, actor 1 does all of its own, then 0
        // goes on: at least once in n k = 40 runs.
        let gauge = Gauge::measure(&Orders::new(&[10, 10]), 1);
        let wanted = 0o00000_11111_11111_00000u64;
        let hits = (0..20_000)
            .filter(|index| {
                Orders::new(&[10, 10]).run(&mut Pct::new(1, *index, 2, &gauge)) == wanted
            })
            .count();
        assert!(hits >= 20_000 / 40 - 60, "{hits} of 20,000");
    }

    #[test]
    fn whoever_is_starved_moves_in_the_end() {
        // Actor 0 never stops; actor 1 has the lower priority in half of the runs.
        let gauge = Gauge { actors: 2, length: 20, moves: [0; MAX_ACTORS] };
        for index in 0..100 {
            let mut pct = Pct::new(1, index, 1, &gauge);
            assert!((0..200).any(|_| pct.choose(0b11) == 1), "run {index}");
        }
    }
}
