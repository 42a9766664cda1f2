//! `faultbed check`: are these files scenarios? Owns nothing but the command.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use sim::scenario;

use crate::exit::{Failed, OK};
use crate::judge::program;
use crate::out;

/// Check scenario files, of the default handler and of scripts, without running them.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  faultbed check my.fbs
  faultbed check sim/catalogue/*.fbs sim/litmus/*.fbs

Exit code: 0 all of them are right, 2 one of them is malformed.")]
pub struct Check {
    /// The files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

impl Check {
    /// Do it.
    pub fn run(self) -> Result<ExitCode, Failed> {
        let mut wrong = Vec::new();
        for path in &self.files {
            let file = path.display().to_string();
            let text = fs::read_to_string(path).map_err(|e| Failed::usage(format!("{file}: {e}")));
            let verdict = match text {
                Err(failed) => Err(failed.to_string()),
                Ok(text) if program::is_program(&text) => program::parse(&file, &text)
                    .map(|program| program.name)
                    .map_err(|error| error.to_string()),
                Ok(text) => scenario::parse(&file, &text)
                    .map(|setup| setup.name)
                    .map_err(|error| error.to_string()),
            };
            match verdict {
                Ok(name) => out::say!("{file}: {name}")?,
                Err(error) => wrong.push(error),
            }
        }
        match wrong.is_empty() {
            true => Ok(OK),
            false => Err(Failed::usage(wrong.join("\n"))),
        }
    }
}
