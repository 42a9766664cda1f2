//! `faultbed conform`: random programs of threads that may sleep and a handler that answers
//! them, step by step on the simulated kernel and on the running one, compared after every step.
//! Owns the run: programs, the judgement of each, the report.

mod cover;
mod generate;
mod possible;
mod real;
mod shrink;
mod step;
mod view;

use std::fmt;

use clap::Args;
use shims::Errno;
use sim::Profile;

use crate::judge::running_profile;

use cover::Cover;
use generate::{Means, Mix};
use possible::{Possible, World};
use real::Real;
pub use step::{Ask, Part, Program, Setup, Step};
use view::differing;

/// The first step after which the kernels show different things.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The number of the step, from 0.
    pub step: usize,
    /// What the simulated kernel could show instead, and the running one showed.
    pub simulated: String,
    /// What the running one showed.
    pub running: String,
    /// How many states the simulated kernel could have been in.
    pub states: usize,
}

/// What became of a program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Same,
    Differs(Difference),
    /// Too many orders to follow.
    Cut,
}

/// One program under way on both kernels.
pub(crate) struct Both {
    setup: Setup,
    possible: Possible,
    real: Real,
    cover: Cover,
    done: usize,
}

impl Both {
    pub(crate) fn new(profile: &Profile, setup: &Setup, hasty: bool) -> Result<Both, Errno> {
        Ok(Both {
            setup: setup.clone(),
            possible: Possible { worlds: vec![World::new(profile.clone(), setup)] },
            real: Real::new(setup, hasty)?,
            cover: Cover::default(),
            done: 0,
        })
    }

    /// One step on both; `Same` if the program can go on.
    pub(crate) fn step(&mut self, step: &Step) -> Result<End, Errno> {
        let Ok(expected) = self.possible.after(&self.setup, step) else { return Ok(End::Cut) };
        let seen = self.real.perform(&self.setup, step, &expected)?;
        let states = expected.len();
        let nearest = |views: &[(World, view::View)]| {
            let near = |view: &view::View| differing(view, &seen).1.lines().count();
            views.iter().map(|(_, view)| view).min_by_key(|view| near(view)).cloned()
        };
        if !expected.iter().any(|(_, view)| *view == seen) {
            let nearest = nearest(&expected).expect("a step leads somewhere");
            let (simulated, running) = differing(&nearest, &seen);
            let step = self.done;
            return Ok(End::Differs(Difference { step, simulated, running, states }));
        }
        self.possible.worlds = expected
            .into_iter()
            .filter(|(_, view)| *view == seen)
            .map(|(world, _)| world)
            .collect();
        for world in &self.possible.worlds {
            self.cover.join(world.cover);
        }
        self.done += 1;
        Ok(End::Same)
    }
}

/// Compare everything that userfaultfd does with the running kernel.
///
/// Random programs of threads and a handler, step by step on both kernels. After every step the
/// answer, who sleeps, queues, poll bits, messages, page contents, page table bits and mappings
/// must be the same. The first disagreement is shrunk and printed, and the exit code is 1.
#[derive(Args, Clone, Debug)]
pub struct Random {
    /// How many steps to compare.
    #[arg(long, default_value_t = 100_000)]
    pub ops: u64,
    /// The seed of the first program.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many steps a program has.
    #[arg(long, default_value_t = 80)]
    pub length: usize,
    /// Stop after so many disagreements.
    #[arg(long, default_value_t = 1)]
    pub most: usize,
}

/// What a run has found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Steps compared.
    pub compared: u64,
    /// Programs they made up.
    pub programs: u64,
    /// Programs given up for want of patience with all their orders.
    pub cut: u64,
    /// What the kernels disagree on.
    pub disagreements: Vec<Disagreement>,
    cover: Cover,
}

/// A program on which the kernels disagree.
#[derive(Clone, Debug)]
pub struct Disagreement {
    /// The seed that found it.
    pub seed: u64,
    /// The smallest program found that shows it.
    pub program: Program,
    /// Where and how.
    pub difference: Difference,
    /// It could be brought about again.
    pub again: bool,
}

impl Random {
    /// Run until enough steps are compared or one differs; `progress` is told how many are,
    /// and `found` of each disagreement at once.
    pub fn run_with(
        &self,
        mut progress: impl FnMut(u64),
        mut found: impl FnMut(&Disagreement),
    ) -> Result<Report, Errno> {
        let profile = running_profile();
        let means = Means { privileged: true, huge_pages: 0 };
        let mut report = Report::default();
        while report.compared < self.ops {
            let seed = self.seed.wrapping_add(report.programs);
            report.programs += 1;
            let (program, end) = self.one(&profile, seed, means, &mut report)?;
            progress(report.compared);
            match end {
                End::Same => {}
                End::Cut => report.cut += 1,
                End::Differs(difference) => {
                    let small = shrink::shrink(&profile, &program)?;
                    let again = small.is_some();
                    let (program, difference) = small.unwrap_or((program, difference));
                    let disagreement = Disagreement { seed, program, difference, again };
                    found(&disagreement);
                    report.disagreements.push(disagreement);
                    if report.disagreements.len() >= self.most {
                        break;
                    }
                }
            }
        }
        Ok(report)
    }

    fn one(
        &self,
        profile: &Profile,
        seed: u64,
        means: Means,
        report: &mut Report,
    ) -> Result<(Program, End), Errno> {
        let mut mix = Mix::new(seed, means);
        let mut both = Both::new(profile, mix.setup(), false)?;
        let mut overture = mix.overture().into_iter();
        let mut steps = Vec::new();
        let mut end = End::Same;
        while steps.len() < self.length {
            let world = &mut both.possible.worlds[0];
            let Some(step) = overture.next().or_else(|| mix.next(world)) else { break };
            steps.push(step.clone());
            if std::env::var_os("FB_STEPS").is_some() {
                eprintln!("  {step} ({} states)", both.possible.worlds.len());
            }
            end = both.step(&step)?;
            report.compared += 1;
            if end != End::Same {
                break;
            }
        }
        report.cover.join(both.cover);
        Ok((Program { setup: mix.setup().clone(), steps }, end))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { compared, programs, cut, disagreements, cover } = self;
        write!(f, "{compared} steps in {programs} programs compared, {cut} given up; {cover}: ")?;
        if disagreements.is_empty() {
            return f.write_str("no difference");
        }
        write!(f, "{} disagreements", disagreements.len())
    }
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let again = if self.again { "" } else { " (seen once, and not again)" };
        writeln!(f, "seed {} disagrees{again}:\n{}", self.seed, self.program)?;
        write!(f, "{}", self.difference)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "after step {}, of {} possible states the nearest:", self.step, self.states)?;
        writeln!(f, "  simulated only:\n{}", self.simulated)?;
        write!(f, "  running only:\n{}", self.running)
    }
}
