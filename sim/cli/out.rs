//! What a command says, on standard output and beside it. Owns what happens when nobody listens any
//! more: the command ends quietly, as a tool does that a closed pipe ends, and nobody panics.

use std::fmt;
use std::io::{self, ErrorKind, Write as _};

use crate::exit::Failed;

/// Print a line on standard output, as `println!` does; the answer says whether it was taken.
macro_rules! say {
    ($($words:tt)*) => {
        $crate::out::line(format_args!($($words)*))
    };
}
pub(crate) use say;

/// Print a line on standard output.
pub(crate) fn line(words: fmt::Arguments<'_>) -> Result<(), Failed> {
    let mut out = io::stdout().lock();
    out.write_fmt(words).and_then(|()| out.write_all(b"\n")).map_err(untaken)
}

/// Print text that ends its lines itself.
pub(crate) fn text(text: impl AsRef<[u8]>) -> Result<(), Failed> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_ref()).and_then(|()| out.flush()).map_err(untaken)
}

/// Why standard output takes nothing more, as what ends the command.
fn untaken(error: io::Error) -> Failed {
    match error.kind() {
        ErrorKind::BrokenPipe => Failed::unheard(),
        _ => Failed::io(format!("cannot write to standard output: {error}")),
    }
}

/// Print a line on standard error. Whether anybody reads it changes nothing.
pub fn note(words: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{words}");
}
