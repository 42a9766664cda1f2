//! `faultbed litmus`: what the simulator allows against what this kernel does. Owns the command
//! and its tables.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::clock::Stopwatch;
use crate::exit::{FOUND, Failed, OK};
use crate::judge::litmus::{self, Ending, Table, allowed, broken_conditions};
use crate::judge::program::{self, Program};
use crate::judge::{Backend, for_this_user};
use crate::kernel::KernelArgs;
use crate::out;

/// Enumerate all endings of litmus tests, and run them on this kernel thousands of times.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  faultbed litmus                            every built-in test, 10,000 rounds each
  faultbed litmus zap_window_present --runs 100000
  faultbed litmus my.fbs --backend sim       what is allowed, anywhere
  faultbed litmus --backend sim --bug Z2     what a kernel with that fault allows
  faultbed litmus --list

Exit code: 0 nothing was seen that is not allowed, 1 something was, or a thread was stuck, 2 bad
usage or a malformed file, 4 this kernel cannot run any of it.")]
pub struct Litmus {
    /// A built-in test by name, or a file; all built-in tests if nothing is said.
    tests: Vec<String>,
    #[command(flatten)]
    kernel: KernelArgs,
    /// Rounds of each test on the running kernel.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    runs: u64,
    /// Where delays and processors come from.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Enumerate, run, or both.
    #[arg(long, value_enum, default_value = "both")]
    backend: Backend,
    /// Write the tables to this file as Markdown.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Name the built-in tests and end.
    #[arg(long)]
    list: bool,
}

/// What became of one test.
struct Verdict {
    name: String,
    about: String,
    table: Table,
    states: usize,
    text: String,
    stuck: Vec<String>,
    freed: Vec<String>,
    broken: Vec<String>,
    skipped: Option<String>,
    seconds: f64,
}

impl Verdict {
    fn good(&self) -> bool {
        self.broken.is_empty() && self.stuck.is_empty() && self.table.forbidden().next().is_none()
    }

    fn line(&self) -> String {
        let mut line = format!(
            "{:<32} {:>3} allowed, {} states",
            self.name,
            self.table.allowed(),
            self.states
        );
        if self.table.runs > 0 {
            let _ = write!(
                line,
                "; {} seen in {} runs, {:.1} s",
                self.table.seen(),
                self.table.runs,
                self.seconds
            );
            match self.table.forbidden().count() {
                0 => {}
                count => {
                    let _ = write!(line, "; {count} NOT ALLOWED");
                }
            }
        }
        if let Some(why) = &self.skipped {
            let _ = write!(line, "; not run: {why}");
        }
        line
    }
}

impl Litmus {
    /// Do it.
    pub fn run(self) -> Result<ExitCode, Failed> {
        if self.list {
            for (key, program) in litmus::all() {
                out::say!("{key:<32} {}", program.about)?;
            }
            return Ok(OK);
        }
        let mut programs = self.programs()?;
        for program in &mut programs {
            self.kernel.apply_to(program)?;
        }
        let alone = programs.len() == 1;
        let mut verdicts = Vec::new();
        for program in &programs {
            let verdict = self.judge(program)?;
            out::say!("{}", verdict.line())?;
            let shown = alone || !verdict.good();
            if shown {
                out::text(&verdict.text)?;
            }
            for line in verdict.broken.iter().chain(&verdict.stuck) {
                out::say!("          {line}")?;
            }
            for line in &verdict.freed {
                out::say!("          known (Z19), and let out by a signal: {line}")?;
            }
            verdicts.push(verdict);
            // What is done is kept, however long the rest takes.
            if let Some(path) = &self.markdown {
                let written = fs::write(path, markdown(&verdicts, self.runs, self.seed));
                written.map_err(|e| Failed::io(format!("{}: {e}", path.display())))?;
            }
        }
        let count = |holds: &dyn Fn(&Verdict) -> bool| verdicts.iter().filter(|v| holds(v)).count();
        let (allowed, seen) =
            verdicts.iter().fold((0, 0), |(allowed, seen), v| match v.table.runs {
                0 => (allowed, seen),
                _ => (allowed + v.table.allowed(), seen + v.table.seen()),
            });
        out::say!(
            "{} tests, {} good, {} not run here; {seen} of {allowed} allowed endings seen",
            verdicts.len(),
            count(&|v| v.good()),
            count(&|v| v.skipped.is_some()),
        )?;
        if self.backend != Backend::Sim && verdicts.iter().all(|v| v.skipped.is_some()) {
            let why = verdicts[0].skipped.clone().unwrap_or_default();
            return Err(Failed::io(format!("this kernel runs none of it: {why}")));
        }
        Ok(if verdicts.iter().all(Verdict::good) { OK } else { FOUND })
    }

    fn programs(&self) -> Result<Vec<Program>, Failed> {
        if self.tests.is_empty() {
            return Ok(litmus::all().into_iter().map(|(_, program)| program).collect());
        }
        let program = |name: &String| {
            if let Some(program) = litmus::find(name) {
                return Ok(program);
            }
            let text = fs::read_to_string(name).map_err(|e| {
                Failed::usage(format!("{name}: no built-in test has that name, and no file: {e}"))
            })?;
            program::parse(name, &text).map_err(Failed::usage)
        };
        self.tests.iter().map(program).collect()
    }

    fn judge(&self, program: &Program) -> Result<Verdict, Failed> {
        let mut skipped = None;
        let mut program = program.clone();
        if self.backend != Backend::Sim {
            match for_this_user(&program) {
                Ok(adapted) => program = adapted,
                Err(why) => skipped = Some(why.to_string()),
            }
        }
        let program = &program;
        let found =
            allowed(program).map_err(|why| Failed::usage(format!("{}: {why}", program.name)))?;
        let mut verdict = Verdict {
            name: program.name.clone(),
            about: program.about.clone(),
            table: Table::new(program, &found.endings),
            states: found.states,
            text: String::new(),
            stuck: Vec::new(),
            freed: Vec::new(),
            broken: broken_conditions(program, &found.endings),
            skipped,
            seconds: 0.0,
        };
        if self.backend != Backend::Sim && verdict.skipped.is_none() {
            self.observe(program, &found.endings, &mut verdict);
        }
        verdict.text = verdict.table.text(program);
        Ok(verdict)
    }

    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    fn observe(&self, program: &Program, endings: &BTreeSet<Ending>, verdict: &mut Verdict) {
        let watch = Stopwatch::start();
        let shown = std::io::stderr().is_terminal();
        let mut progress = |done: u64| {
            if shown && done.is_multiple_of(1024) {
                let mut stderr = std::io::stderr();
                let _ = std::io::Write::write_fmt(
                    &mut stderr,
                    format_args!("\r{} {done}/{}   \r", program.name, self.runs),
                );
            }
        };
        match litmus::observe(program, endings, self.runs, self.seed, &mut progress) {
            Ok(observed) => {
                verdict.table = observed.table;
                verdict.stuck = observed.stuck;
                verdict.freed = observed.freed;
            }
            Err(why) => verdict.skipped = Some(why.to_string()),
        }
        verdict.seconds = watch.elapsed().as_secs_f64();
    }

    #[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
    fn observe(&self, _: &Program, _: &BTreeSet<Ending>, verdict: &mut Verdict) {
        let _ = (Stopwatch::start, std::io::stderr().is_terminal());
        verdict.skipped = Some("this is no Linux on x86-64".to_owned());
    }
}

fn markdown(verdicts: &[Verdict], runs: u64, seed: u64) -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut text = format!(
        "# Litmus tests\n\nWritten by `faultbed litmus --runs {runs} --seed {seed} --markdown`, on \
         Linux {}. [The judge](judge.md) says how to read it: every line is an ending that the \
         simulator allows, with the number of times this kernel has come to it; `NOT ALLOWED` \
         would be one that it does not allow.\n\n\
         | test | allowed | seen | not allowed | runs |\n|---|---|---|---|---|\n",
        release.trim()
    );
    for v in verdicts {
        let _ = writeln!(
            text,
            "| [{0}](#{0}) | {1} | {2} | {3} | {4} |",
            v.name,
            v.table.allowed(),
            v.table.seen(),
            v.table.forbidden().count(),
            v.skipped.clone().unwrap_or_else(|| v.table.runs.to_string()),
        );
    }
    for v in verdicts {
        let _ = write!(text, "\n## {}\n\n{}\n\n```\n{}```\n", v.name, v.about, v.text);
    }
    text
}
