//! The search for one mistake, and for none. Owns what is counted and measured; prints nothing.

use std::sync::Arc;
use std::time::Duration;

use handler::Policy;
use sim::explore::{self, Gauge, Strategy};
use sim::schedule::Schedule;
use sim::shrink::{self, Effort};
use sim::world::{Check as Final, Memory, Op, Setup, Subject, World};

use super::mistake::{Maker, Mistake, check, driver, ours};
use super::worlds::Place;
use crate::clock::Stopwatch;

/// A mistake that was found.
#[derive(Clone, Debug)]
pub struct Hit {
    /// Schedules it took.
    pub schedules: u64,
    /// Time it took.
    pub took: Duration,
    /// What was wrong.
    pub why: String,
    /// The run.
    pub schedule: Schedule,
}

/// How a hunt goes about it.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How the choices are made.
    pub strategy: Strategy,
    /// Where they come from.
    pub seed: u64,
    /// After how many schedules it gives up.
    pub schedules: u64,
}

impl Plan {
    /// Search the worlds of a mistake until a run fails.
    pub fn hunt(self, mistake: &Mistake) -> Option<Hit> {
        let setup = &mistake.place.setup;
        match mistake.maker() {
            Maker::Plain(check) => self.search(&check.world(setup)),
            Maker::Ours(policy, tamper) => self.search(&ours(&policy, tamper, setup)),
        }
    }

    fn search<S: Subject>(self, start: &World<S>) -> Option<Hit> {
        let watch = Stopwatch::start();
        let gauge = Gauge::measure(start, self.seed);
        let walk = |walk| self.strategy.walk(self.seed, walk, &gauge);
        let mut world = start.clone();
        let failing = (0..self.schedules).find(|&number| {
            world.clone_from(start);
            explore::run(&mut world, &mut walk(number)).failure.is_some()
        })?;
        let took = watch.elapsed();
        let (outcome, steps) = explore::record(&mut start.clone(), &mut walk(failing));
        let why = outcome.failure.as_ref().map_or_else(String::new, ToString::to_string);
        let schedule = Schedule {
            handler: "zoo".to_owned(),
            seed: self.seed,
            walk: failing,
            fails: outcome.failure.map(|failure| failure.class().to_owned()),
            digest: outcome.digest,
            setup: Setup::clone(start.setup()),
            steps,
        };
        Some(Hit { schedules: failing + 1, took, why, schedule })
    }
}

/// Make a run that found `mistake` small.
pub fn shrink(mistake: &Mistake, hit: &Hit) -> Option<Schedule> {
    let shrunk = match mistake.maker() {
        // Code on coroutines cannot be copied in the middle of a run: its states are not searched.
        Maker::Plain(wrong) => {
            let effort = Effort { attempts: 3_000, steps: 600_000, walks: 16, states: 0 };
            let right = check(None, &mistake.place);
            let right = |setup: &Arc<Setup>| right.world(setup);
            shrink::shrink(&hit.schedule, |setup| wrong.world(setup), Some(&right), effort)
        }
        Maker::Ours(policy, tamper) => {
            let make = |setup: &Arc<Setup>| ours(&policy, tamper, setup);
            let right = |setup: &Arc<Setup>| ours(&Policy::default(), None, setup);
            shrink::shrink(&hit.schedule, make, Some(&right), Effort::default())
        }
    };
    shrunk.map(|shrunk| shrunk.schedule)
}

/// The first failure of a right handler in `place`, in words: of the plain one, of ours as a
/// state machine, and of ours as the driver that ships.
pub fn wrong_in(place: &Place, schedules: u64) -> Option<String> {
    let (setup, seed, strategy) = (&place.setup, 1, Strategy::Portfolio);
    let plan = Plan { strategy, seed, schedules };
    let words = |who: &str, hit: Hit| {
        let Hit { why, schedule, .. } = hit;
        format!("{who}: {why}\n\n{schedule}")
    };
    if ordinary(setup) {
        if let Some(hit) = plan.search(&check(None, place).world(setup)) {
            return Some(words("the plain handler", hit));
        }
        // The worlds of our own handler have sources that work.
        if place.trouble.is_none()
            && let Some(hit) = plan.search(&driver(setup))
        {
            return Some(words("the threads driver", hit));
        }
    }
    if !place.trouble.is_none() || goes_behind(setup) {
        return None;
    }
    plan.search(&ours(&Policy::default(), None, setup)).map(|hit| words("our handler", hit))
}

/// Does the process take memory out of the registration and put it back? What it did in between no
/// message tells, so a record that says otherwise is not to blame.
fn goes_behind(setup: &Setup) -> bool {
    let again = |op: &Op| matches!(op, Op::Register { .. });
    setup.programs.iter().flat_map(|program| &program.ops).any(again)
}

/// Can a handler of ordinary code be in it? One has no controls, and no records to be asked for;
/// and the plain one does not watch writes, nor know of files and huge pages.
fn ordinary(setup: &Setup) -> bool {
    let control = |op: &Op| matches!(op, Op::Control(_));
    !setup.programs.iter().flat_map(|program| &program.ops).any(control)
        && !setup.finally.iter().any(|finally| matches!(finally.check, Final::State(..)))
        && !setup.tracks_writes()
        && setup.memory == Memory::Anon
}
