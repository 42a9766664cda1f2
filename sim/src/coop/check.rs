//! A search in one call, for the tests of a handler's own crate. Owns what is tried and what a
//! failing test prints.

use core::fmt;
use std::sync::Arc;

use super::{Bed, Coop, Main, ROOM};
use crate::explore::{self, Gauge, Replay, Strategy};
use crate::scenario::{self, ScenarioError};
use crate::schedule::Schedule;
use crate::timeline::Timeline;
use crate::world::{Failure, Setup, World};

/// Walks that look for a shorter failing one after one was found.
const SHORTEN: u64 = 500;

/// A handler and the worlds it is to be searched in.
#[derive(Clone)]
pub struct Check {
    main: Arc<Main>,
    room: usize,
    walks: u64,
    seed: u64,
    strategy: Strategy,
}

/// A failing run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// What is wrong.
    pub failure: Failure,
    /// How many walks it took.
    pub after: u64,
    /// A short run that fails in this way.
    pub schedule: Schedule,
    /// The same as a picture.
    pub timeline: String,
}

impl Check {
    /// The handler `main`: it serves until there is nothing more to serve; an error says why it
    /// gave up. It runs many times over, so whatever it keeps must be made inside.
    pub fn new<E: ToString>(main: impl Fn(Bed) -> Result<(), E> + Send + Sync + 'static) -> Check {
        let main = Arc::new(move |bed: Bed| main(bed).map_err(|error| error.to_string()));
        Check { main, room: ROOM, walks: 10_000, seed: 1, strategy: Strategy::Portfolio }
    }

    /// Make room for so many threads, the first included.
    #[must_use]
    pub fn threads(self, room: usize) -> Check {
        Check { room, ..self }
    }

    /// Try so many schedules of each world.
    #[must_use]
    pub fn walks(self, walks: u64) -> Check {
        Check { walks, ..self }
    }

    /// Where the random choices come from.
    #[must_use]
    pub fn seed(self, seed: u64) -> Check {
        Check { seed, ..self }
    }

    /// How they are made.
    #[must_use]
    pub fn strategy(self, strategy: Strategy) -> Check {
        Check { strategy, ..self }
    }

    /// The world of a setup at its start.
    pub fn world(&self, setup: &Arc<Setup>) -> World<Coop> {
        let coop = Coop::of(Arc::clone(&self.main), setup).threads(self.room);
        World::new(Arc::clone(setup), coop)
    }

    /// Search the world that `scenario` describes. `name` stands for it in errors.
    pub fn search(&self, name: &str, scenario: &str) -> Result<Option<Found>, ScenarioError> {
        let setup = Arc::new(scenario::parse(name, scenario)?);
        Ok(self.search_setup(&setup))
    }

    /// Search one world.
    pub fn search_setup(&self, setup: &Arc<Setup>) -> Option<Found> {
        let start = self.world(setup);
        let gauge = Gauge::measure(&start, self.seed);
        let run = |walk| {
            explore::run(&mut start.clone(), &mut self.strategy.walk(self.seed, walk, &gauge))
        };
        let mut failures = (0..self.walks).filter_map(|walk| Some((walk, run(walk).failure?)));
        let (walk, failure) = failures.next()?;
        let mut best = (u32::MAX, walk);
        for walk in walk..walk + SHORTEN {
            let outcome = run(walk);
            let same = outcome.failure.is_some_and(|other| other.class() == failure.class());
            if same && outcome.steps < best.0 {
                best = (outcome.steps, walk);
            }
        }
        Some(self.found(&start, &gauge, best.1, walk + 1))
    }

    fn found(&self, start: &World<Coop>, gauge: &Gauge, walk: u64, after: u64) -> Found {
        let mut chooser = self.strategy.walk(self.seed, walk, gauge);
        let (outcome, steps) = explore::record(&mut start.clone(), &mut chooser);
        let failure = outcome.failure.expect("the walk failed before and is deterministic");
        let mut world = start.clone();
        let mut timeline = Timeline::new(&world);
        Replay::new(&steps).run(&mut world, |world, actor, what| timeline.step(world, actor, what));
        let verdict = format!("{}: {failure}", failure.class().to_uppercase());
        let schedule = Schedule {
            handler: "coop".to_owned(),
            seed: self.seed,
            walk,
            fails: Some(failure.class().to_owned()),
            digest: outcome.digest,
            setup: start.setup().clone(),
            steps,
        };
        Found { failure, after, schedule, timeline: timeline.render(&verdict) }
    }

    /// Search each of the worlds, and fail the test that calls this with a report of the first
    /// failure.
    ///
    /// # Panics
    ///
    /// If a run fails, or a scenario is malformed.
    #[track_caller]
    pub fn holds<'s>(&self, scenarios: impl IntoIterator<Item = &'s str>) {
        for (number, scenario) in scenarios.into_iter().enumerate() {
            match self.search(&format!("scenario {}", number + 1), scenario) {
                Ok(None) => {}
                Ok(Some(found)) => panic!("{found}"),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check")
            .field("walks", &self.walks)
            .field("seed", &self.seed)
            .field("strategy", &self.strategy)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "found in `{}` after {} schedules:\n", self.schedule.setup.name, self.after)?;
        f.write_str(&self.timeline)
    }
}
