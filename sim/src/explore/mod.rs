//! Running worlds: a chooser picks among the actors that can move until nobody can. Owns
//! the loop; each way of choosing is a file of its own.

mod bits;
mod dice;
mod exhaust;
mod fingerprint;
mod gauge;
mod goals;
mod pct;
mod random;
mod replay;
mod strategy;
mod swarm;
#[cfg(test)]
mod toy;
mod uniform;

pub(crate) use bits::{bits, nth_set_bit};
pub use exhaust::{Census, End, Exhaust, Exhaustible};
pub use fingerprint::Fingerprint;
pub(crate) use fingerprint::{Seen, Visit};
pub use gauge::Gauge;
pub use goals::{GOALS, Goals, run_watched};
pub use pct::Pct;
pub use random::RandomWalk;
pub use replay::{Replay, ReplayReport};
pub use strategy::{Strategy, Walk};
pub use swarm::Swarm;
pub use uniform::UniformWalk;

use crate::schedule::Step;
use crate::world::{Failure, Subject, World};

/// Picks who moves next. A run is a world and a chooser and nothing else.
pub trait Chooser {
    /// One of the actors whose bit is set in `enabled`, which is never zero.
    fn choose(&mut self, enabled: u64) -> usize;
}

/// Something whose actors can be moved in any order: a world, or a toy whose orders can be
/// counted by hand.
pub trait System: Clone {
    /// How many actors there are; their number never changes.
    fn actors(&self) -> usize;

    /// The actors that can move now, one bit each. Zero means the run is over.
    fn enabled(&self) -> u64;

    /// Move one that can.
    fn go(&mut self, actor: usize);
}

impl<S: Subject> System for World<S> {
    fn actors(&self) -> usize {
        World::actors(self)
    }

    #[inline]
    fn enabled(&self) -> u64 {
        World::enabled(self)
    }

    #[inline]
    fn go(&mut self, actor: usize) {
        self.apply(actor);
    }
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

/// Takes the actors of a path, one after another, and then whoever is first.
#[derive(Clone, Debug)]
pub struct Path<'p>(pub &'p [usize]);

impl Chooser for Path<'_> {
    fn choose(&mut self, enabled: u64) -> usize {
        match self.0 {
            [actor, rest @ ..] if enabled >> actor & 1 == 1 => {
                self.0 = rest;
                *actor
            }
            _ => enabled.trailing_zeros() as usize,
        }
    }
}

/// Run `world` to its end and keep what was done.
pub fn record<S: Subject>(
    world: &mut World<S>,
    chooser: &mut impl Chooser,
) -> (Outcome, Vec<Step>) {
    let mut steps = Vec::new();
    loop {
        let enabled = world.enabled();
        if enabled == 0 {
            break;
        }
        let actor = chooser.choose(enabled);
        let did = world.apply(actor);
        // A thread that the handler starts has its name from then on.
        steps.push(Step { actor: world.actor_name(actor), what: world.describe(&did) });
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
