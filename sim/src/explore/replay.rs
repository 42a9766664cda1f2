//! Replay: follow a recorded schedule by its meaning. A step whose actor cannot move is
//! skipped and counted, so that a schedule outlives changes of the handler that make some
//! of its steps disappear.

use super::{Outcome, end, names, nth_set_bit};
use crate::schedule::Step;
use crate::world::{Subject, World};

/// Follows a schedule.
#[derive(Clone, Debug)]
pub struct Replay<'s> {
    steps: &'s [Step],
}

/// How well a schedule fitted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReplayReport {
    /// Steps whose actor could not move, or does not exist: their places in the schedule,
    /// from 1.
    pub skipped: Vec<usize>,
    /// Steps whose actor moved but did something else than recorded.
    pub different: Vec<usize>,
    /// Steps taken after the schedule had come to its end.
    pub beyond: usize,
}

impl ReplayReport {
    /// Did every step do what the schedule says?
    pub fn exact(&self) -> bool {
        self.skipped.is_empty() && self.different.is_empty() && self.beyond == 0
    }
}

impl<'s> Replay<'s> {
    /// Follow `steps`.
    pub fn new(steps: &'s [Step]) -> Replay<'s> {
        Replay { steps }
    }

    /// Run `world`; `seen` is called after each step with the world, the actor and what it
    /// did. When the schedule ends before the world does, the actors go on in turn.
    pub fn run<S: Subject>(
        &self,
        world: &mut World<S>,
        mut seen: impl FnMut(&World<S>, usize, &str),
    ) -> (Outcome, ReplayReport) {
        let mut report = ReplayReport::default();
        for (i, step) in self.steps.iter().enumerate() {
            let enabled = world.enabled();
            if enabled == 0 {
                report.skipped.extend(i + 1..=self.steps.len());
                break;
            }
            // Threads that the handler starts have their names from then on.
            let actor = names(world).iter().position(|name| *name == step.actor);
            match actor {
                Some(actor) if enabled >> actor & 1 == 1 => {
                    let did = world.apply(actor);
                    let did = world.describe(&did);
                    if did != step.what {
                        report.different.push(i + 1);
                    }
                    seen(world, actor, &did);
                }
                _ => report.skipped.push(i + 1),
            }
        }
        let mut turn = 0;
        loop {
            let enabled = world.enabled();
            if enabled == 0 {
                break;
            }
            let actor = nth_set_bit(enabled, turn % enabled.count_ones());
            turn = turn.wrapping_add(1);
            let did = world.apply(actor);
            let did = world.describe(&did);
            report.beyond += 1;
            seen(world, actor, &did);
        }
        (end(world), report)
    }
}
