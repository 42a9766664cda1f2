//! Shrinking: from a failing run to a small world and a short schedule that fail in the same way.
//! Owns the order in which edits are tried and the guard that keeps what they may not change:
//! the class of the failure.
//!
//! World and schedule shrink together. An edit of the world (see `edits.rs`) is kept if the same
//! schedule still leads to the failure, as far as its steps are possible, or if a few random
//! walks do. Edits of the schedule (see `runs.rs`) drop, join and swap the runs of steps that
//! actors take in one go. In the end all orders are searched for one with fewer runs
//! (`fewest.rs`). The result is minimal: no single edit keeps the failure.

mod edits;
mod fewest;
mod runs;

use std::sync::Arc;

use crate::explore::{self, Chooser, RandomWalk, bits};
use crate::scenario;
use crate::schedule::{Schedule, Step};
use crate::world::{Failure, Setup, Subject, World};

pub use runs::runs;

/// How far shrinking goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Effort {
    /// Runs of a world that are tried at most.
    pub attempts: u64,
    /// Steps that those runs take together at most: runs of a livelock are long.
    pub steps: u64,
    /// Walks that look for the failure in a smaller world in which the schedule does not lead
    /// to it.
    pub walks: u64,
    /// States that the search for the fewest runs visits at most.
    pub states: usize,
}

impl Default for Effort {
    fn default() -> Effort {
        Effort { attempts: 50_000, steps: 50_000_000, walks: 48, states: 60_000 }
    }
}

/// Puts a handler into a world.
pub type MakeWorld<'m, S> = dyn Fn(&Arc<Setup>) -> World<S> + 'm;

/// What shrinking came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shrunk {
    /// The small schedule, with its small world.
    pub schedule: Schedule,
    /// Runs of a world that were tried.
    pub attempts: u64,
    /// No single edit keeps the failure; false if the effort did not reach so far.
    pub minimal: bool,
    /// No order of the steps of this world fails in fewer runs; false if that is not known.
    pub fewest: bool,
}

/// A failing run.
#[derive(Clone, Debug)]
struct Case {
    setup: Arc<Setup>,
    steps: Vec<Step>,
    digest: u64,
}

/// Shrink `schedule`, whose handler `make` puts into a world. `None` if it does not fail in the
/// way it says.
///
/// `right` makes the same world with a handler that is known to be right, if there is one. It
/// must survive whatever world comes out: a failure that nobody could avoid is another one. If
/// there is none, the world of a failure that the scenario itself objects to (`expectation`,
/// `finally`) is left as it is.
pub fn shrink<S: Subject>(
    schedule: &Schedule,
    make: impl Fn(&Arc<Setup>) -> World<S>,
    right: Option<&MakeWorld<'_, S>>,
    effort: Effort,
) -> Option<Shrunk> {
    let class = schedule.fails.as_deref()?;
    let mut shrinker = Shrinker { make, right, class, effort, attempts: 0, steps: 0 };
    let start = Arc::new(schedule.setup.clone());
    let mut case = shrinker.follow(&start, &schedule.steps, usize::MAX)?;
    let mut fewest = false;
    loop {
        let changed = shrinker.shrink_world(&mut case) | shrinker.shrink_runs(&mut case);
        if !changed {
            // Only now is the world small enough to be searched.
            match shrinker.fewest(&case) {
                fewest::Found::None => fewest = true,
                fewest::Found::Unknown => {}
                fewest::Found::Better(better) => {
                    case = better;
                    continue;
                }
            }
            break;
        }
    }
    let (attempts, minimal) = (shrinker.attempts, !shrinker.spent());
    let schedule = Schedule {
        digest: case.digest,
        setup: Setup::clone(&case.setup),
        steps: case.steps,
        ..schedule.clone()
    };
    Some(Shrunk { schedule, attempts, minimal, fewest })
}

struct Shrinker<'c, S, F> {
    make: F,
    right: Option<&'c MakeWorld<'c, S>>,
    class: &'c str,
    effort: Effort,
    attempts: u64,
    steps: u64,
}

impl<S: Subject, F: Fn(&Arc<Setup>) -> World<S>> Shrinker<'_, S, F> {
    fn spent(&self) -> bool {
        self.attempts >= self.effort.attempts || self.steps >= self.effort.steps
    }

    /// Try the edits of the world until none helps.
    fn shrink_world(&mut self, case: &mut Case) -> bool {
        let mut changed = false;
        if self.right.is_none() && ["expectation", "finally"].contains(&self.class) {
            return false;
        }
        'again: loop {
            for text in edits::smaller(&case.setup.to_string()) {
                if self.spent() {
                    return changed;
                }
                // What does not parse was no edit.
                let Ok(setup) = scenario::parse("shrunk", &text) else { continue };
                let setup = Arc::new(setup);
                let limit = limit(case.steps.len());
                let kept =
                    self.follow(&setup, &case.steps, limit).or_else(|| self.walk(&setup, limit));
                if let Some(smaller) = kept
                    && self.is_avoidable(&smaller)
                {
                    *case = smaller;
                    changed = true;
                    continue 'again;
                }
            }
            return changed;
        }
    }

    /// Try the edits of the schedule until none helps.
    fn shrink_runs(&mut self, case: &mut Case) -> bool {
        let mut changed = false;
        'again: loop {
            let size = size(&case.steps);
            let now = case.steps.clone();
            for steps in runs::edits(&now) {
                if self.spent() {
                    return changed;
                }
                let limit = limit(case.steps.len());
                if let Some(kept) = self.follow(&case.setup, &steps, limit)
                    && self::size(&kept.steps) < size
                {
                    *case = kept;
                    changed = true;
                    continue 'again;
                }
            }
            return changed;
        }
    }

    fn fewest(&self, case: &Case) -> fewest::Found {
        let start = (self.make)(&case.setup);
        fewest::search(&start, self.class, size(&case.steps), self.effort.states).map(|path| {
            let mut chooser = explore::Path(&path);
            let (outcome, steps) = explore::record(&mut start.clone(), &mut chooser);
            Case { setup: Arc::clone(&case.setup), steps, digest: outcome.digest }
        })
    }

    /// Does a handler that is right survive this world, on this schedule and on some others?
    fn is_avoidable(&mut self, case: &Case) -> bool {
        let Some(right) = self.right else { return true };
        let start = right(&case.setup);
        let (outcome, _) = explore::Replay::new(&case.steps).run(&mut start.clone(), |_, _, _| {});
        self.attempts += 1 + TRIALS;
        let mut steps = u64::from(outcome.steps);
        let survives = outcome.failure.is_none()
            && (0..TRIALS).all(|index| {
                let mut walk = RandomWalk::new(2, index);
                let outcome = explore::run(&mut start.clone(), &mut walk);
                steps += u64::from(outcome.steps);
                outcome.failure.is_none()
            });
        self.steps += steps;
        survives
    }

    /// Follow `steps` as far as they are possible, then let whoever moved last go on as long as
    /// it can, and after it the next. The run, if it fails as it should.
    fn follow(&mut self, setup: &Arc<Setup>, steps: &[Step], limit: usize) -> Option<Case> {
        let mut names = explore::names(&(self.make)(setup)).into_iter();
        let names: Vec<String> = names.by_ref().collect();
        let mut chooser = Follow { steps, names: &names, last: 0 };
        self.attempt(setup, &mut chooser, limit)
    }

    /// Look for the failure at random; the shortest that is found.
    fn walk(&mut self, setup: &Arc<Setup>, limit: usize) -> Option<Case> {
        (0..self.effort.walks)
            .filter_map(|index| self.attempt(setup, &mut RandomWalk::new(1, index), limit))
            .min_by_key(|case| size(&case.steps))
    }

    fn attempt(
        &mut self,
        setup: &Arc<Setup>,
        chooser: &mut impl Chooser,
        limit: usize,
    ) -> Option<Case> {
        self.attempts += 1;
        let mut world = (self.make)(setup);
        let mut moved = Vec::new();
        // Who could have moved instead, step by step.
        let mut refused = Vec::new();
        loop {
            let enabled = world.enabled();
            if enabled == 0 {
                break;
            }
            if moved.len() >= limit {
                self.steps += limit as u64;
                return None;
            }
            let actor = chooser.choose(enabled);
            moved.push((actor, world.apply(actor)));
            refused.push(enabled & !(1 << actor));
        }
        self.steps += moved.len() as u64;
        let outcome = explore::end(&mut world);
        if outcome.failure.as_ref().map(Failure::class) != Some(self.class) {
            return None;
        }
        if matches!(outcome.failure, Some(Failure::Livelock { .. })) && is_unfair(&refused) {
            return None;
        }
        // Words cost more than the run.
        let names = explore::names(&world);
        let steps = moved
            .iter()
            .map(|(actor, did)| Step { actor: names[*actor].clone(), what: world.describe(did) })
            .collect();
        Some(Case { setup: Arc::clone(setup), steps, digest: outcome.digest })
    }
}

/// Is there an actor that could have moved at every step of the second half, and never did? Then
/// it was kept waiting by the schedule, and that the others go round meanwhile is no livelock.
fn is_unfair(refused: &[u64]) -> bool {
    let half = &refused[refused.len() / 2..];
    !half.is_empty() && half.iter().fold(u64::MAX, |kept, refused| kept & refused) != 0
}

/// Walks that a handler which is right has to survive in a smaller world.
const TRIALS: u64 = 32;

/// What a schedule costs its reader: the runs first, then the steps.
fn size(steps: &[Step]) -> (usize, usize) {
    (runs(steps).count(), steps.len())
}

/// A candidate that goes on for so much longer than what it came from goes round in circles.
fn limit(steps: usize) -> usize {
    4 * steps + 200
}

/// Goes by names, and skips what is not possible.
struct Follow<'a> {
    steps: &'a [Step],
    names: &'a [String],
    last: usize,
}

impl Chooser for Follow<'_> {
    fn choose(&mut self, enabled: u64) -> usize {
        while let [step, rest @ ..] = self.steps {
            self.steps = rest;
            let actor = self.names.iter().position(|name| *name == step.actor);
            if let Some(actor) = actor.filter(|actor| enabled >> actor & 1 == 1) {
                self.last = actor;
                return actor;
            }
        }
        if enabled >> self.last & 1 == 0 {
            let behind = bits(enabled).find(|actor| *actor > self.last);
            self.last = behind.unwrap_or(enabled.trailing_zeros() as usize);
        }
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::is_unfair;

    #[test]
    fn a_schedule_is_unfair_that_keeps_one_actor_waiting_to_the_end() {
        assert!(is_unfair(&[0, 0b110, 0b010, 0b011]));
        // Each has had its turn, or could not move.
        assert!(!is_unfair(&[0b001, 0b001, 0b010, 0b001]));
        assert!(!is_unfair(&[0b001, 0b001, 0, 0b001]));
        assert!(!is_unfair(&[]));
    }
}
