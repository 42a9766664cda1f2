//! `faultbed conform vma`: random sequences of memory calls, run on the simulator's VMA layer
//! and on the running kernel, compared after every call. Owns the comparison; the rules are
//! `sim::vma`'s, the running is `shims::linux::vma_probe`'s.

mod compare;
mod generate;
mod model;
mod op;
mod shrink;
mod support;

use std::fmt;

use clap::Args;
use shims::linux::vma_probe::{ProbeError, VmaProbe};

pub use compare::{Difference, run_both};
pub use generate::{Mix, Theme, sequence};
pub use model::{ARENA_PAGES, ARENA_START, Model};
pub use op::{Map, Op, Source};
pub use shrink::shrink;
pub use support::unsupported;

/// Compare the VMA layer with the running kernel.
///
/// Each sequence runs in a process of its own, inside an arena; return value, errno and the
/// VMA list of /proc/PID/smaps are compared after every call. The first disagreement is
/// shrunk and printed, and the exit code is 1.
#[derive(Args, Clone, Debug)]
pub struct ConformVma {
    /// How many calls to compare.
    #[arg(long, default_value_t = 200_000)]
    pub ops: u64,
    /// The seed of the first sequence.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// What the calls are about.
    #[arg(long, value_enum, default_value_t)]
    pub theme: Theme,
    /// How many calls a sequence has.
    #[arg(long, default_value_t = 48)]
    pub length: usize,
}

/// What a run has found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Calls whose results and VMA lists were compared.
    pub compared: u64,
    /// Sequences they made up.
    pub sequences: u64,
    /// The first disagreement, shrunk.
    pub disagreement: Option<Disagreement>,
}

/// A sequence on which simulator and kernel disagree.
#[derive(Clone, Debug)]
pub struct Disagreement {
    /// The seed that found it.
    pub seed: u64,
    /// The shortest sequence found that shows it.
    pub ops: Vec<Op>,
    /// Where and how.
    pub difference: Difference,
}

impl ConformVma {
    /// Run until enough calls are compared or one differs.
    pub fn run(&self) -> Result<Report, ProbeError> {
        self.run_with(|_| {})
    }

    /// The same; `progress` is told after each sequence how many calls are compared.
    pub fn run_with(&self, mut progress: impl FnMut(u64)) -> Result<Report, ProbeError> {
        let mut probe = VmaProbe::new(model::arena())?;
        let mut report = Report { compared: 0, sequences: 0, disagreement: None };
        while report.compared < self.ops {
            let seed = self.seed.wrapping_add(report.sequences);
            let ops = sequence(self.theme, seed, self.length);
            report.sequences += 1;
            report.compared += ops.len() as u64;
            progress(report.compared);
            if run_both(&mut probe, &ops)?.is_some() {
                let ops = shrink(&mut probe, ops)?;
                if let Some(difference) = run_both(&mut probe, &ops)? {
                    report.disagreement = Some(Disagreement { seed, ops, difference });
                    break;
                }
            }
        }
        Ok(report)
    }
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} disagrees after {} calls:", self.seed, self.ops.len())?;
        for op in &self.ops {
            writeln!(f, "  {op}")?;
        }
        write!(f, "{}", self.difference)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} calls in {} sequences compared: ", self.compared, self.sequences)?;
        match &self.disagreement {
            None => f.write_str("no difference")?,
            Some(disagreement) => write!(f, "\n{disagreement}")?,
        }
        match support::Rights::own().missing() {
            None => Ok(()),
            Some(what) => write!(f, "\nnot tested without privileges: {what}"),
        }
    }
}
