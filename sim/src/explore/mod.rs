//! Running worlds: a chooser picks among the actors that can move until nobody can. Owns
//! the loop; each way of choosing is a file of its own.

mod random;
mod replay;

pub use random::RandomWalk;
pub use replay::{Replay, ReplayReport};

use crate::schedule::Step;
use crate::world::{Failure, Subject, World};

/// Picks who moves next. A run is a world and a chooser and nothing else.
pub trait Chooser {
    /// One of the actors whose bit is set in `enabled`, which is never zero.
    fn choose(&mut self, enabled: u64) -> usize;
}

/// How a run ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Steps taken.
    pub steps: u32,
    /// The digest of everything that happened.
    pub digest: u64,
    /// What went wrong, if anything did.
    pub failure: Option<Failure>,
}

/// Run `world` to its end.
pub fn run<S: Subject>(world: &mut World<S>, chooser: &mut impl Chooser) -> Outcome {
    loop {
        let enabled = world.enabled();
        if enabled == 0 {
            break;
        }
        world.apply(chooser.choose(enabled));
    }
    end(world)
}

/// Run `world` to its end and keep what was done.
pub fn record<S: Subject>(
    world: &mut World<S>,
    chooser: &mut impl Chooser,
) -> (Outcome, Vec<Step>) {
    let names = names(world);
    let mut steps = Vec::new();
    loop {
        let enabled = world.enabled();
        if enabled == 0 {
            break;
        }
        let actor = chooser.choose(enabled);
        let did = world.apply(actor);
        steps.push(Step { actor: names[actor].clone(), what: world.describe(&did) });
    }
    (end(world), steps)
}

pub(crate) fn names<S: Subject>(world: &World<S>) -> Vec<String> {
    (0..world.actors()).map(|actor| world.actor_name(actor)).collect()
}

pub(crate) fn end<S: Subject>(world: &mut World<S>) -> Outcome {
    world.finish();
    Outcome { steps: world.steps(), digest: world.digest(), failure: world.failure().cloned() }
}

/// The position of the `n`-th set bit of `mask`, counted from 0.
pub(crate) fn nth_set_bit(mut mask: u64, n: u32) -> usize {
    for _ in 0..n {
        mask &= mask - 1;
    }
    mask.trailing_zeros() as usize
}
