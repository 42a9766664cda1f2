//! A campaign: many walks over one or more scenarios with one handler. Owns the order of
//! the walks, the counts and what is kept of a failure; prints nothing.

use std::ops::Range;
use std::sync::Arc;

use handler::Policy;
use sim::explore::{self, Gauge, Goals, Outcome, Strategy, Walk};
use sim::schedule::{Schedule, Step};
use sim::world::{Failure, Setup, World};
use sim::{Digest, timeline::Timeline};

use crate::jobs;
use crate::model::Model;
use crate::shard::Shard;

/// How many walks of a scenario are done before the next scenario has its turn: a failure
/// of any scenario shows early, and the worlds stay in the cache.
const TURN: u64 = 32;

/// Every so many-th walk of a scenario is watched for goals.
const WATCHED: u64 = 16;

/// Every so many-th is done twice.
const TWICE: u64 = 8 * WATCHED;

/// What is run.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// The worlds.
    pub setups: Vec<Arc<Setup>>,
    /// The handler's name, for the schedules that are kept.
    pub handler: String,
    /// The handler.
    pub policy: Policy,
    /// Where the random choices come from.
    pub seed: u64,
    /// How they are made.
    pub strategy: Strategy,
    /// How many walks there are in all.
    pub schedules: u64,
    /// On how many processors.
    pub jobs: usize,
    /// Which part of the walks.
    pub shard: Shard,
    /// Go on after a failure.
    pub keep_going: bool,
}

/// What is known about one scenario so far.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Walks done.
    pub schedules: u64,
    /// Steps taken in them.
    pub steps: u64,
    /// Walks that failed.
    pub failures: u64,
    /// The most steps a walk took.
    pub longest: u32,
    /// The sum of the digests of the walks: whatever order they were done in, and by whom.
    pub sum: u64,
}

/// A failure, ready to be shown.
#[derive(Clone, Debug)]
pub struct Found {
    /// The schedule that leads to it.
    pub schedule: Schedule,
    /// What is wrong.
    pub failure: Failure,
    /// How many walks of the campaign it took to find it.
    pub after: u64,
}

/// What a campaign came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// Per scenario, in the order of the campaign.
    pub tallies: Vec<Tally>,
    /// Failures: the first of each scenario.
    pub found: Vec<Found>,
    /// The digest of all runs, in order.
    pub digest: u64,
    /// What the watched walks have met.
    pub goals: Goals,
}

impl Report {
    /// The sums over all scenarios.
    pub fn total(&self) -> Tally {
        let mut total = Tally::default();
        for tally in &self.tallies {
            total.schedules += tally.schedules;
            total.steps += tally.steps;
            total.failures += tally.failures;
            total.longest = total.longest.max(tally.longest);
            total.sum = total.sum.wrapping_add(tally.sum);
        }
        total
    }
}

/// Where the walks of a scenario begin.
#[derive(Debug)]
struct Start {
    world: World<Model>,
    gauge: Gauge,
}

/// Some walks of one scenario.
#[derive(Debug)]
struct Turn {
    scenario: usize,
    walks: Range<u64>,
}

impl Turn {
    /// Do the walks with `run`, up to the first that fails unless all are wanted. Some are watched
    /// for goals; some are done twice, and must come out the same.
    fn walk(
        &self,
        name: &str,
        keep_going: bool,
        mut run: impl FnMut(u64, Option<&mut Goals>) -> Outcome,
    ) -> (Vec<Outcome>, Goals) {
        let mut outcomes = Vec::with_capacity(TURN as usize);
        let mut goals = Goals::default();
        for walk in self.walks.clone() {
            let outcome = run(walk, (walk % WATCHED == 0).then_some(&mut goals));
            if walk % TWICE == 0 {
                // The same, or nothing that this campaign says can be relied on.
                let again = run(walk, None);
                assert_eq!(outcome, again, "walk {walk} of `{name}` is not deterministic");
            }
            let over = outcome.failure.is_some() && !keep_going;
            outcomes.push(outcome);
            if over {
                break;
            }
        }
        (outcomes, goals)
    }
}

impl Campaign {
    /// Run it. `progress` is called after each turn with the walks done so far, and stops
    /// the campaign by returning false.
    ///
    /// The report depends on nothing but the campaign: not on the number of jobs, nor on who
    /// was how fast.
    pub fn run(&self, mut progress: impl FnMut(&Report) -> bool) -> Report {
        let starts: Vec<Start> = self.setups.iter().map(|setup| self.start(setup)).collect();
        let mut report = Report {
            tallies: vec![Tally::default(); starts.len()],
            found: Vec::new(),
            digest: 0,
            goals: Goals::default(),
        };
        let mut digest = Digest::new();
        let mut done = 0;
        let work = |turn: &Turn| self.turn(&starts[turn.scenario], turn);
        jobs::in_order(self.turns(), self.jobs, work, |turn, (outcomes, goals)| {
            report.goals = report.goals.and(goals);
            let tally = &mut report.tallies[turn.scenario];
            for (walk, outcome) in turn.walks.clone().zip(outcomes) {
                done += 1;
                digest.word(outcome.digest);
                tally.schedules += 1;
                tally.steps += u64::from(outcome.steps);
                tally.longest = tally.longest.max(outcome.steps);
                let mut own = Digest::new();
                own.word(walk);
                own.word(outcome.digest);
                tally.sum = tally.sum.wrapping_add(own.value());
                if outcome.failure.is_some() {
                    tally.failures += 1;
                    if tally.failures == 1 {
                        let start = &starts[turn.scenario];
                        report.found.push(self.found(start, turn.scenario, walk, done));
                    }
                    if !self.keep_going {
                        return false;
                    }
                }
            }
            report.digest = digest.value();
            progress(&report)
        });
        report.digest = digest.value();
        report
    }

    /// The turns, in the order in which they count.
    fn turns(&self) -> impl Iterator<Item = Turn> + Send + use<> {
        let (scenarios, schedules, shard) = (self.setups.len() as u64, self.schedules, self.shard);
        let own = move |n: &u64| shard.has(n / scenarios);
        (0..schedules.div_ceil(TURN)).filter(own).map(move |n| {
            let first = n / scenarios * TURN;
            let count = TURN.min(schedules - n * TURN);
            Turn { scenario: (n % scenarios) as usize, walks: first..first + count }
        })
    }

    /// Do the walks of a turn.
    fn turn(&self, start: &Start, turn: &Turn) -> (Vec<Outcome>, Goals) {
        let name = &start.world.setup().name;
        // One world for them all: what a walk leaves is room for the next.
        let mut world = start.world.clone();
        turn.walk(name, self.keep_going, |walk, goals| {
            let mut chooser = self.chooser(start, turn.scenario, walk);
            world.clone_from(&start.world);
            match goals {
                Some(goals) => explore::run_watched(&mut world, &mut chooser, goals),
                None => explore::run(&mut world, &mut chooser),
            }
        })
    }

    fn start(&self, setup: &Arc<Setup>) -> Start {
        let world = self.world(setup);
        let gauge = Gauge::measure(&world, self.seed);
        Start { world, gauge }
    }

    /// A world at its start.
    pub fn world(&self, setup: &Arc<Setup>) -> World<Model> {
        World::new(Arc::clone(setup), Model::new(self.policy.clone(), setup))
    }

    fn chooser(&self, start: &Start, scenario: usize, walk: u64) -> Walk {
        self.strategy.walk(self.seed, (scenario as u64) << 48 | walk, &start.gauge)
    }

    fn found(&self, start: &Start, scenario: usize, walk: u64, after: u64) -> Found {
        let mut chooser = self.chooser(start, scenario, walk);
        let (outcome, steps) = explore::record(&mut start.world.clone(), &mut chooser);
        let failure = outcome.failure.expect("the walk failed before and is deterministic");
        let setup = start.world.setup();
        let schedule = self.schedule(setup, walk, outcome.digest, &failure, steps);
        Found { schedule, failure, after }
    }

    fn schedule(
        &self,
        setup: &Setup,
        walk: u64,
        digest: u64,
        failure: &Failure,
        steps: Vec<Step>,
    ) -> Schedule {
        Schedule {
            handler: self.handler.clone(),
            seed: self.seed,
            walk,
            fails: Some(failure.class().to_owned()),
            digest,
            setup: setup.clone(),
            steps,
        }
    }
}

/// What a schedule shows: the timeline with the verdict below it, and how it ended.
#[derive(Clone, Debug)]
pub struct Showing {
    /// The picture.
    pub timeline: String,
    /// How the run ended.
    pub outcome: Outcome,
    /// How well the schedule fitted.
    pub report: explore::ReplayReport,
}

/// The world of `setup` at its start, with `policy`.
pub fn world(policy: &Policy, setup: &Arc<Setup>) -> World<Model> {
    World::new(Arc::clone(setup), Model::new(policy.clone(), setup))
}

/// Replay `schedule` with `policy` and draw it.
pub fn show(schedule: &Schedule, policy: Policy) -> Showing {
    let setup = Arc::new(schedule.setup.clone());
    let model = Model::new(policy, &setup);
    let mut world = World::new(setup, model);
    let mut timeline = Timeline::new(&world);
    let (outcome, report) = explore::Replay::new(&schedule.steps)
        .run(&mut world, |world, actor, what| timeline.step(world, actor, what));
    let verdict = match &outcome.failure {
        Some(failure) => format!("{}: {failure}", failure.class().to_uppercase()),
        None => "ended well".to_owned(),
    };
    Showing { timeline: timeline.render(&verdict), outcome, report }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// A turn whose walk `flaky` comes out differently each time it is done, by its digest or by
    /// its verdict; and how often each walk was done.
    fn walk_with(flaky: u64, by_digest: bool) -> (Option<String>, Vec<(u64, bool)>) {
        let mut done = Vec::new();
        let turn = Turn { scenario: 0, walks: TWICE - 2..TWICE + 2 };
        let run = |walk, goals: Option<&mut Goals>| {
            let times = done.iter().filter(|(other, _)| *other == walk).count() as u64;
            done.push((walk, goals.is_some()));
            let changes = walk == flaky && times > 0;
            let failure = (changes && !by_digest).then_some(Failure::Lost { page: 0 });
            Outcome { failure, steps: 7, digest: walk + u64::from(changes && by_digest) }
        };
        let ended = catch_unwind(AssertUnwindSafe(|| turn.walk("toy", true, run)));
        let said = ended.err().and_then(|why| why.downcast_ref::<String>().cloned());
        (said, done)
    }

    #[test]
    fn a_walk_that_does_not_come_out_the_same_twice_ends_the_campaign() {
        let (said, done) = walk_with(u64::MAX, true);
        let once = |walk| (walk, false);
        let twice = [once(TWICE - 2), once(TWICE - 1), (TWICE, true), once(TWICE), once(TWICE + 1)];
        assert_eq!((said, done), (None, twice.to_vec()));
        for by_digest in [true, false] {
            let (said, done) = walk_with(TWICE, by_digest);
            let said = said.expect("it ends");
            let name = format!("walk {TWICE} of `toy` is not deterministic");
            assert!(said.contains(&name), "{said}");
            assert_eq!(done.len(), 4, "at once");
        }
    }
}
