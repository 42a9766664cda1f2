//! `faultbed run`: one scenario with a scripted handler, on either kernel or on both. Owns the
//! command; what is compared is `judge`'s business.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use sim::scenario;

use crate::exit::{FOUND, Failed, OK};
use crate::judge::program::{self, Body, Program};
use crate::judge::{Backend, Shown, for_this_user, on_linux, on_sim, part};
use crate::kernel::KernelArgs;

/// Run a scenario with a scripted handler on the simulated kernel, on this one, or on both.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  faultbed run my.fbs                     on both kernels, compared line by line
  faultbed run my.fbs --backend sim       on the simulated one alone, anywhere
  faultbed run my.fbs --backend sim --profile 5.15
  faultbed run my.fbs --transcript        with all that could be seen after each step

Exit code: 0 the kernels agree and nothing unexpected came, 1 they do not, 2 bad usage or a
malformed file, 4 the running kernel cannot run it.")]
pub struct RunFile {
    /// The file.
    file: PathBuf,
    #[command(flatten)]
    kernel: KernelArgs,
    /// On which kernel: the simulated one, this one or both.
    #[arg(long, value_enum, default_value = "both")]
    backend: Backend,
    /// Print all that could be seen after each step.
    #[arg(long)]
    transcript: bool,
}

impl RunFile {
    /// Do it.
    pub fn run(self) -> Result<ExitCode, Failed> {
        let file = self.file.display().to_string();
        let text = fs::read_to_string(&self.file);
        let text = text.map_err(|error| Failed::usage(format!("{file}: {error}")))?;
        if !program::is_program(&text) {
            scenario::parse(&file, &text).map_err(Failed::usage)?;
            let message = "it has no `handler script`: search it with `faultbed explore`";
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
            println!("{}", shown.log.join("\n"));
        }
        let mut good = true;
        for (name, shown) in [("simulated", &sim), ("running", &linux)] {
            let Some(shown) = shown else { continue };
            match &shown.broken {
                Some(broken) => {
                    good = false;
                    println!("{name} kernel: step {}: {}", broken.step, broken.what);
                }
                None => println!("{name} kernel: as expected, {} lines seen", shown.log.len()),
            }
        }
        if let (Some(sim), Some(linux)) = (&sim, &linux) {
            match part(&sim.log, &linux.log) {
                Some(parting) => {
                    good = false;
                    println!("the kernels part after");
                    for line in &parting.context {
                        println!("  {line}");
                    }
                    println!("simulated: {}", parting.sim.as_deref().unwrap_or("(the end)"));
                    println!("running:   {}", parting.linux.as_deref().unwrap_or("(the end)"));
                }
                None => println!("the kernels agree"),
            }
        }
        Ok(if good { OK } else { FOUND })
    }
}
