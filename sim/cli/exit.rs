//! Exit codes and the errors that end a command.

use std::fmt;
use std::process::ExitCode;

/// Nothing wrong.
pub const OK: ExitCode = ExitCode::SUCCESS;
/// What was searched or served is wrong.
pub const FOUND: ExitCode = ExitCode::FAILURE;

/// A command that could not do what it was asked.
#[derive(Clone, Debug)]
pub struct Failed {
    code: u8,
    message: String,
}

impl Failed {
    /// The caller's input is at fault: exit code 2.
    pub fn usage(message: impl fmt::Display) -> Failed {
        Failed { code: 2, message: message.to_string() }
    }

    /// The machine's answer is at fault: exit code 4.
    pub fn io(message: impl fmt::Display) -> Failed {
        Failed { code: 4, message: message.to_string() }
    }

    /// Nobody reads what the command says any more, and nothing is to be said about that: what a
    /// shell reports of a tool that the signal of a closed pipe ends.
    pub fn unheard() -> Failed {
        Failed { code: 128 + 13, message: String::new() }
    }

    /// The exit code.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failed {}
