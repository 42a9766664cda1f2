//! Schedules per second on one small problem, in shuttle and here, in one run; and how many
//! schedules an exhaustive search has to visit.
//!
//!     cargo bench -p faultbed-versus

use std::collections::BTreeMap;
use std::time::Duration;

use faultbed_versus::{ours, theirs};
use shuttle::scheduler::{DfsScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner};
use sim::explore::{self, Exhaust, Fingerprint, Gauge, RandomWalk, Strategy, System, Walk};
use sim::world::{Subject, World};

/// The time `work` takes.
fn timed(work: impl FnOnce()) -> Duration {
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
    let started = std::time::Instant::now();
    work();
    started.elapsed()
}

/// Rates of one contestant, a round each.
struct Row {
    name: &'static str,
    rates: Vec<f64>,
}

impl Row {
    fn new(name: &'static str) -> Row {
        Row { name, rates: Vec::new() }
    }

    /// One round of `count` schedules.
    fn round(&mut self, count: u64, work: impl FnOnce()) {
        self.rates.push(count as f64 / timed(work).as_secs_f64());
    }

    fn median(&self) -> f64 {
        let mut rates = self.rates.clone();
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    }
}

fn shuttle(scheduler: impl Scheduler + 'static) {
    Runner::new(scheduler, Config::new()).run(theirs::problem);
}

fn walks<S: Subject>(start: &World<S>, count: u64) {
    let mut world = start.clone();
    for walk in 0..count {
        world.clone_from(start);
        let outcome = explore::run(&mut world, &mut RandomWalk::new(1, walk));
        assert_eq!(outcome.failure, None, "walk {walk}");
    }
}

fn portfolio(start: &World<ours::Plain>, gauge: &Gauge, count: u64) {
    let mut world = start.clone();
    for walk in 0..count {
        let mut chooser: Walk = Strategy::Portfolio.walk(1, walk, gauge);
        world.clone_from(start);
        let outcome = explore::run(&mut world, &mut chooser);
        assert_eq!(outcome.failure, None, "walk {walk}");
    }
}

/// How many schedules there are from `system` on: what a plain depth-first search runs. Counted,
/// not run: states that were counted before are not counted again.
fn schedules(system: &World<ours::Plain>, known: &mut BTreeMap<Fingerprint, u128>) -> u128 {
    let print = Fingerprint::of(system);
    if let Some(count) = known.get(&print) {
        return *count;
    }
    let enabled = System::enabled(system);
    let count = (0..System::actors(system))
        .filter(|actor| enabled >> actor & 1 == 1)
        .map(|actor| {
            let mut next = system.clone();
            next.go(actor);
            schedules(&next, known)
        })
        .sum::<u128>()
        .max(1);
    known.insert(print, count);
    count
}

fn main() {
    // `cargo test` and the smoke run of CI only want to know that it works.
    let smoke = std::env::args().any(|arg| arg == "--test");
    let (rounds, factor) = if smoke { (1, 1) } else { (9, 20) };

    let (world, coroutine) = (ours::world(), ours::coroutine());
    let gauge = Gauge::measure(&world, 1);
    let mut rows = [
        "shuttle, random",
        "shuttle, depth first",
        "here, random walk",
        "here, portfolio",
        "here, handler on a coroutine",
    ]
    .map(Row::new);
    // In turns, so that whatever else the machine does falls on all of them.
    for round in 0..rounds {
        let count = 100 * factor;
        rows[0].round(count, || {
            shuttle(RandomScheduler::new_from_seed(round, count as usize));
        });
        rows[1].round(count, || shuttle(DfsScheduler::new(Some(count as usize), false)));
        rows[2].round(count * 20, || walks(&world, count * 20));
        rows[3].round(count * 20, || portfolio(&world, &gauge, count * 20));
        rows[4].round(count, || walks(&coroutine, count));
    }
    let base = rows[0].median();
    println!("{:<30} {:>14} {:>9}", "", "schedules/s", "ratio");
    for row in &rows {
        println!("{:<30} {:>14.0} {:>8.1}x", row.name, row.median(), row.median() / base);
    }

    let mut known = BTreeMap::new();
    let all = schedules(&world, &mut known);
    let search = |reduce| {
        let exhaust = Exhaust { reduce, hurries: 0, states: usize::MAX, keep_going: true };
        let mut census = None;
        let took = timed(|| census = Some(exhaust.run(&world, |_| true)));
        let census = census.expect("it ran");
        assert!(census.complete);
        assert_eq!(census.failures().count(), 0);
        (census, took)
    };
    println!();
    println!("schedules that plain depth first visits   {all}");
    for (name, reduce) in [("states", false), ("states and sleep sets", true)] {
        let (census, took) = search(reduce);
        println!(
            "exhaustive, {name:<22} {:>8} ends {:>9} states {:>9} transitions in {took:?}",
            census.ends, census.states, census.transitions
        );
        assert!(u128::from(census.ends) * 10 <= all, "at least ten times fewer");
    }
}
