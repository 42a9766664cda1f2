//! `faultbed conform`: random programs of threads that may sleep and a handler that answers
//! them, step by step on the simulated kernel and on the running one, compared after every step.
//! Owns the run: programs, the judgement of each, the report.

mod aim;
mod cover;
mod generate;
mod notice;
mod possible;
mod real;
mod shrink;
mod step;
mod text;
mod view;

use std::fmt;
use std::fs;
use std::path::PathBuf;

use clap::Args;
use shims::Errno;
use shims::linux::hugepages::Reservation;
use shims::linux::{Capability, OpenFlags};
use sim::Profile;

use crate::clock::Stopwatch;
use crate::judge::{Unable, running_profile};

use cover::{Counts, Cover, Rule};
use generate::{Means, Mix};
use notice::Notice;
use possible::{Possible, World};
use real::Real;
pub use step::{Ask, Part, Program, Setup, Step};
use view::differing;

/// `FORK` events and faults of kernel mode that wait need privileges that this process may lack.
fn is_privileged() -> bool {
    Capability::probe(OpenFlags::empty()).is_ok() && rustix::process::geteuid().is_root()
}

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
    /// The simulated kernel says that it does not know, or the handler would wait.
    Beyond,
}

/// One program under way on both kernels.
pub(crate) struct Both {
    setup: Setup,
    possible: Possible,
    real: Real,
    notice: Notice,
    counts: Counts,
    done: usize,
    states: usize,
}

impl Both {
    pub(crate) fn new(profile: &Profile, setup: &Setup, hasty: bool) -> Result<Both, Errno> {
        Ok(Both {
            setup: setup.clone(),
            possible: Possible { worlds: vec![World::new(profile.clone(), setup)] },
            real: Real::new(setup, hasty)?,
            notice: Notice::default(),
            counts: Counts::default(),
            done: 0,
            states: 1,
        })
    }

    /// One step on both; `Same` if the program can go on.
    pub(crate) fn step(&mut self, step: &Step) -> Result<End, Errno> {
        let Ok(expected) = self.possible.after(&self.setup, step) else { return Ok(End::Cut) };
        if expected.iter().any(|(_, view)| view.is_beyond()) {
            return Ok(End::Beyond);
        }
        let seen = self.real.perform(&self.setup, step, &expected)?;
        let states = expected.len();
        self.states = self.states.max(states);
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
        let worlds = &self.possible.worlds;
        let mut cover =
            worlds.iter().map(|world| world.cover).reduce(Cover::meet).unwrap_or_default();
        cover.answer(&self.setup, step, &seen);
        cover.join(self.notice.of(step, seen, worlds));
        self.counts.add(cover);
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
    /// Stop after so many minutes, however many steps were compared.
    #[arg(long)]
    pub minutes: Option<u64>,
    /// Where a disagreement is written to, as a scenario for `faultbed run`.
    #[arg(long, default_value = "faultbed-failures")]
    pub out: PathBuf,
    /// Aim every program at this rule of docs/kernel, instead of at those that were missed.
    #[arg(long)]
    pub rule: Option<String>,
    /// Huge pages to reserve, for memory of huge pages; without it there is none.
    #[arg(long, default_value_t = 0)]
    pub huge: u64,
}

/// Where the kernels part on `program`, if they do. Steps that make no sense where they stand are
/// left out.
pub fn differ(program: &Program) -> Result<Option<Difference>, Errno> {
    let found = shrink::replay(&running_profile(), program)?;
    Ok(found.map(|(_, difference)| difference))
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
    /// Programs that came to something the simulated kernel says it does not model.
    pub beyond: u64,
    /// What the kernels disagree on.
    pub disagreements: Vec<Disagreement>,
    /// The most states that one step could lead to.
    pub states: usize,
    means: Option<Means>,
    counts: Counts,
}

impl Report {
    /// The rules that the run has not exercised.
    pub fn missed(&self) -> Vec<&'static str> {
        self.counts.missing().map(Rule::name).collect()
    }
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
    /// The rule that the program was aimed at.
    pub aim: Option<&'static str>,
    /// The file it is written to, if it could be.
    pub file: Option<PathBuf>,
}

impl Default for Random {
    fn default() -> Random {
        Random {
            ops: 100_000,
            seed: 1,
            length: 80,
            most: 1,
            minutes: None,
            out: PathBuf::from("faultbed-failures"),
            rule: None,
            huge: 0,
        }
    }
}

impl Random {
    /// Run until enough steps are compared or one differs; `progress` is told how many are,
    /// and `found` of each disagreement at once, which ends the run by returning false.
    pub fn run_with(
        &self,
        mut progress: impl FnMut(u64),
        mut found: impl FnMut(&Disagreement) -> bool,
    ) -> Result<Report, Unable> {
        let profile = running_profile();
        let privileged = is_privileged();
        let pool = (self.huge > 0).then(|| Reservation::ensure(self.huge)).transpose();
        let _pool = pool.map_err(|shortage| Unable(shortage.to_string()))?;
        let means = Means { privileged, huge_pages: self.huge };
        let mut report = Report { means: Some(means), ..Report::default() };
        let watch = Stopwatch::start();
        let over = || self.minutes.is_some_and(|most| watch.elapsed().as_secs() >= 60 * most);
        while report.compared < self.ops && !over() {
            let seed = self.seed.wrapping_add(report.programs);
            let aim = self.aim(&report);
            report.programs += 1;
            let (program, end) = self.one(&profile, (seed, aim), means, &mut report)?;
            progress(report.compared);
            match end {
                End::Same => {}
                End::Cut => report.cut += 1,
                End::Beyond => report.beyond += 1,
                End::Differs(difference) => {
                    let small = shrink::shrink(&profile, &program)?;
                    let again = small.is_some();
                    let (program, difference) = small.unwrap_or((program, difference));
                    let file = self.write(&program, seed);
                    let aim = aim.map(Rule::name);
                    let disagreement = Disagreement { seed, program, difference, again, aim, file };
                    let go_on = found(&disagreement);
                    report.disagreements.push(disagreement);
                    if !go_on || report.disagreements.len() >= self.most {
                        break;
                    }
                }
            }
        }
        Ok(report)
    }

    /// What the next program is aimed at: every other one at something that was missed.
    fn aim(&self, report: &Report) -> Option<Rule> {
        if let Some(rule) = &self.rule {
            return Rule::of(rule);
        }
        let huge = report.means.is_some_and(|means| means.huge_pages > 0);
        let within = |rule: &Rule| huge || *rule != Rule::e12;
        let missing: Vec<_> = report.counts.missing().filter(within).collect();
        let turn = report.programs / 2;
        let aims = report.programs % 2 == 1 && !missing.is_empty();
        aims.then(|| missing[turn as usize % missing.len()])
    }

    fn write(&self, program: &Program, seed: u64) -> Option<PathBuf> {
        let about = "Found by random programs: the kernels part at the last step.";
        let scenario = text::scenario(program, &format!("seed {seed}"), about)?;
        let path = self.out.join(format!("conform-{seed}.fbs"));
        fs::create_dir_all(&self.out).ok()?;
        fs::write(&path, scenario.to_string()).ok()?;
        Some(path)
    }

    fn one(
        &self,
        profile: &Profile,
        (seed, aim): (u64, Option<Rule>),
        means: Means,
        report: &mut Report,
    ) -> Result<(Program, End), Errno> {
        let mut mix = Mix::new(seed, means, aim);
        let mut both = Both::new(profile, mix.setup(), false)?;
        let mut overture = mix.overture().into_iter();
        let mut steps = Vec::new();
        let mut end = End::Same;
        while steps.len() < self.length {
            let world = &mut both.possible.worlds[0];
            let Some(step) = overture.next().or_else(|| mix.next(world)) else { break };
            steps.push(step.clone());
            end = both.step(&step)?;
            report.compared += 1;
            if end != End::Same {
                break;
            }
        }
        report.counts.join(&both.counts);
        report.states = report.states.max(both.states);
        Ok((Program { setup: mix.setup().clone(), steps }, end))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { compared, programs, cut, beyond, .. } = self;
        let Report { disagreements, states, means, counts, .. } = self;
        writeln!(f, "{compared} steps in {programs} programs compared")?;
        writeln!(f, "{cut} given up for too many orders, {beyond} at something not modelled")?;
        writeln!(f, "up to {states} states a step; {counts}")?;
        if means.is_some_and(|means| !means.privileged) {
            writeln!(
                f,
                "not tested without privileges: FORK events, faults from kernel mode that wait"
            )?;
        }
        if means.is_some_and(|means| means.huge_pages == 0) {
            writeln!(f, "not tested without --huge: memory of huge pages")?;
        }
        match disagreements.len() {
            0 => f.write_str("no difference"),
            1 => f.write_str("1 disagreement"),
            count => write!(f, "{count} disagreements"),
        }
    }
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let again = if self.again { "" } else { " (seen once, and not again)" };
        let aim = self.aim.map_or(String::new(), |rule| format!(" (--rule {rule})"));
        writeln!(f, "seed {}{aim} disagrees{again}:\n{}", self.seed, self.program)?;
        write!(f, "{}", self.difference)?;
        if let Some(file) = &self.file {
            write!(f, "\nrun it: faultbed run {}", file.display())?;
        }
        Ok(())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "after step {}, of {} possible states the nearest:", self.step, self.states)?;
        writeln!(f, "  simulated only:\n{}", self.simulated)?;
        write!(f, "  running only:\n{}", self.running)
    }
}
