//! `faultbed conform`: the simulator held against the running kernel.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use crate::clock::Stopwatch;
use crate::conform_vma::ConformVma;
use crate::exit::{FOUND, Failed, OK};
use crate::out;
use crate::random::{Disagreement, Random};

/// Compare the simulator with the running kernel.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  faultbed conform                                  100,000 random steps of everything
  faultbed conform --ops 1000000 --seed 7 --huge 24 more, with huge pages
  faultbed conform vma                              200,000 random calls
  faultbed conform vma --ops 2000000 --seed 7

Exit code: 0 no difference, 1 a difference was found and shrunk, 4 the probe could not run.")]
pub struct Conform {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    random: Random,
}

#[derive(Subcommand, Clone, Debug)]
enum What {
    Vma(ConformVma),
}

impl Conform {
    /// Do it.
    pub fn run(self) -> Result<ExitCode, Failed> {
        let Some(What::Vma(vma)) = self.what else { return all(&self.random) };
        let bar = ProgressBar::new(vma.ops);
        let style = "{bar:30} {pos}/{len} calls, {per_sec}, {eta} left";
        bar.set_style(ProgressStyle::with_template(style).expect("a valid template"));
        let watch = Stopwatch::start();
        let report = vma.run_with(|done| bar.set_position(done)).map_err(Failed::io)?;
        bar.finish_and_clear();
        out::say!("{report}\n{:.1} s", watch.elapsed().as_secs_f64())?;
        Ok(if report.disagreement.is_none() { OK } else { FOUND })
    }
}

fn all(random: &Random) -> Result<ExitCode, Failed> {
    let bar = ProgressBar::new(random.ops);
    let style = "{bar:30} {pos}/{len} steps, {per_sec}, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("a valid template"));
    let watch = Stopwatch::start();
    let mut said = Ok(());
    let show = |found: &Disagreement| {
        said = bar.suspend(|| out::say!("{found}"));
        said.is_ok()
    };
    let report = random.run_with(|done| bar.set_position(done), show).map_err(Failed::io)?;
    said?;
    bar.finish_and_clear();
    out::say!("{report}\n{:.1} s", watch.elapsed().as_secs_f64())?;
    Ok(if report.disagreements.is_empty() { OK } else { FOUND })
}
