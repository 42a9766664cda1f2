//! `faultbed run`: one scenario, on either kernel or on both. Owns the command; what is compared
//! is `judge`'s business.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, value_parser};
use handler::Policy;
use sim::explore::Strategy;
use sim::scenario;
use sim::world::Setup;

use crate::campaign::{Campaign, show};
use crate::catalogue;
use crate::exit::{FOUND, Failed, OK};
use crate::explore::policy;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
use crate::judge::Unable;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
use crate::judge::live::Live;
use crate::judge::program::{self, Body, Program};
use crate::judge::{Backend, Shown, for_this_user, on_linux, on_sim, part};
use crate::kernel::KernelArgs;
use crate::out;
use crate::shard::Shard;

/// Run a scenario on the simulated kernel, on this one, or on both.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  faultbed run my.fbs                     on both kernels
  faultbed run my.fbs --backend sim       on the simulated one alone, anywhere
  faultbed run my.fbs --backend sim --profile 5.15
  faultbed run my.fbs --transcript        a script: all that could be seen after each step
  faultbed run my.fbs --runs 1000         our handler: a thousand rounds on each kernel
  faultbed run lost_install --handler short-circuit --runs 2000

A scenario with a scripted handler is done step by step, and what both kernels show is compared
line by line. One with our handler is run many times: simulated, in an order drawn anew; on this
kernel, by threads that go as fast as they like.

Exit code: 0 nothing unexpected came and the kernels agree, 1 something did, 2 bad usage or a
malformed file, 4 the running kernel cannot run it.")]
pub struct RunFile {
    /// The file, or a built-in scenario by name.
    file: PathBuf,
    #[command(flatten)]
    kernel: KernelArgs,
    /// On which kernel: the simulated one, this one or both.
    #[arg(long, value_enum, default_value = "both")]
    backend: Backend,
    /// Print all that could be seen after each step of a script.
    #[arg(long)]
    transcript: bool,
    /// How often to run a scenario with our handler, on each kernel [default: 100].
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    runs: Option<u64>,
    /// Which handler serves a scenario that has no script [default: default].
    #[arg(long, value_name = "NAME")]
    handler: Option<String>,
    /// Where orders and delays come from.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
}

/// Rounds of a scenario with our handler if nothing is said.
const RUNS: u64 = 100;
/// So many of the objections to a round are printed.
const SHOWN: usize = 8;

impl RunFile {
    /// Do it.
    pub fn run(self) -> Result<ExitCode, Failed> {
        let file = self.file.display().to_string();
        if let Some(entry) = catalogue::find(&file) {
            return self.live(entry.setup);
        }
        let text = fs::read_to_string(&self.file);
        let text = text.map_err(|error| Failed::usage(format!("{file}: {error}")))?;
        if !program::is_program(&text) {
            return self.live(scenario::parse(&file, &text).map_err(Failed::usage)?);
        }
        if self.runs.is_some() || self.handler.is_some() {
            let message = "it has a script: `--runs` and `--handler` are for our handler";
            return Err(Failed::usage(format!("{file}: {message}")));
        }
        let mut program = program::parse(&file, &text).map_err(Failed::usage)?;
        self.kernel.apply_to(&mut program)?;
        if self.backend != Backend::Sim {
            program = for_this_user(&program).map_err(Failed::io)?;
        }
        match &program.body {
            Body::Sequence { .. } => self.walk(&program),
            Body::Tasks(_) => {
                let message = "its tasks go their own ways: judge it with `faultbed litmus`";
                Err(Failed::usage(format!("{file}: {message}")))
            }
        }
    }

    /// A scenario whose handler is ours.
    fn live(&self, mut setup: Setup) -> Result<ExitCode, Failed> {
        self.kernel.apply(&mut setup)?;
        if self.transcript {
            let message = "`--transcript` is for scenarios with a script; `faultbed explore` draws";
            return Err(Failed::usage(message));
        }
        let name = self.handler.as_deref().unwrap_or("default");
        let policy = policy(name)?;
        let mut good = true;
        if self.backend != Backend::Linux {
            good = self.simulate(&setup, name, policy.clone())?;
        }
        if self.backend != Backend::Sim {
            good &= self.play(&setup, policy)?;
        }
        Ok(if good { OK } else { FOUND })
    }

    fn simulate(&self, setup: &Setup, handler: &str, policy: Policy) -> Result<bool, Failed> {
        let campaign = Campaign {
            setups: vec![Arc::new(setup.clone())],
            handler: handler.to_owned(),
            policy: policy.clone(),
            seed: self.seed,
            strategy: Strategy::Random,
            schedules: self.runs.unwrap_or(RUNS),
            jobs: 1,
            shard: Shard::WHOLE,
            keep_going: false,
        };
        let report = campaign.run(|_| true);
        match report.found.first() {
            None => {
                let count = report.total().schedules;
                out::say!("simulated kernel: as expected in {count} orders of the steps")?;
            }
            Some(found) => {
                out::text(&show(&found.schedule, policy).timeline)?;
                out::say!("simulated kernel: the order of walk {} went wrong", found.after)?;
            }
        }
        Ok(report.found.is_empty())
    }

    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    fn play(&self, setup: &Setup, policy: Policy) -> Result<bool, Failed> {
        let no = |why: Unable| Failed::io(format!("the running kernel does not run it: {why}"));
        let live = Live::new(setup, policy).map_err(no)?;
        if live.is_user_mode_only() {
            out::say!("running kernel: with UFFD_USER_MODE_ONLY, all that this user may have")?;
        }
        let runs = self.runs.unwrap_or(RUNS);
        for round in 0..runs {
            let objections = live.round(self.seed.wrapping_add(round)).map_err(no)?;
            if objections.is_empty() {
                continue;
            }
            out::say!("running kernel: round {} of {runs} went wrong", round + 1)?;
            for objection in objections.iter().take(SHOWN) {
                out::say!("  {objection}")?;
            }
            if objections.len() > SHOWN {
                out::say!("  and {} more", objections.len() - SHOWN)?;
            }
            return Ok(false);
        }
        out::say!("running kernel: as expected in {runs} rounds")?;
        Ok(true)
    }

    #[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
    fn play(&self, _: &Setup, _: Policy) -> Result<bool, Failed> {
        Err(Failed::io("the running kernel does not run it: this is no Linux on x86-64"))
    }

    fn walk(&self, program: &Program) -> Result<ExitCode, Failed> {
        let guarded = |what: &str, walk: &dyn Fn() -> Result<Shown, Failed>| {
            let walked = catch_unwind(AssertUnwindSafe(walk));
            walked.unwrap_or_else(|_| Err(Failed::io(format!("{what} could not go on, see above"))))
        };
        let mut sim = None;
        if self.backend != Backend::Linux {
            sim = Some(guarded("the simulated kernel", &|| Ok(on_sim(program)))?);
        }
        let mut linux = None;
        if self.backend != Backend::Sim {
            let run = || on_linux(program).map_err(Failed::io);
            linux = Some(guarded("the running kernel", &run)?);
        }
        if self.transcript
            && let Some(shown) = linux.as_ref().or(sim.as_ref())
        {
            out::say!("{}", shown.log.join("\n"))?;
        }
        let mut good = true;
        for (name, shown) in [("simulated", &sim), ("running", &linux)] {
            let Some(shown) = shown else { continue };
            match &shown.broken {
                Some(broken) => {
                    good = false;
                    out::say!("{name} kernel: step {}: {}", broken.step, broken.what)?;
                }
                None => out::say!("{name} kernel: as expected, {} lines seen", shown.log.len())?,
            }
        }
        if let (Some(sim), Some(linux)) = (&sim, &linux) {
            match part(&sim.log, &linux.log) {
                Some(parting) => {
                    good = false;
                    out::say!("the kernels part after")?;
                    for line in &parting.context {
                        out::say!("  {line}")?;
                    }
                    out::say!("simulated: {}", parting.sim.as_deref().unwrap_or("(the end)"))?;
                    out::say!("running:   {}", parting.linux.as_deref().unwrap_or("(the end)"))?;
                }
                None => out::say!("the kernels agree")?,
            }
        }
        Ok(if good { OK } else { FOUND })
    }
}
