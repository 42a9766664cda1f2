//! What a lock, a condition or a channel is called in reports. Owns the name alone.

use core::fmt;
use core::panic::Location;

/// The name of a lock, a condition, a channel or an atomic: the one it was given, or the
/// place in the source where it was made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Name {
    /// A name.
    Given(&'static str),
    /// A file and a line.
    At(&'static str, u32),
}

impl Name {
    #[track_caller]
    pub(crate) fn here() -> Name {
        let at = Location::caller();
        // The folder depends on where the compiler was started.
        let file = at.file();
        Name::At(file.rsplit(['/', '\\']).next().unwrap_or(file), at.line())
    }

    /// A word for digests.
    pub(crate) fn word(self) -> u64 {
        let (text, line) = match self {
            Name::Given(name) => (name, 0),
            Name::At(file, line) => (file, line),
        };
        text.bytes().fold(u64::from(line), |word, byte| word.rotate_left(5) ^ u64::from(byte))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Given(name) => write!(f, "`{name}`"),
            Name::At(file, line) => write!(f, "({file}:{line})"),
        }
    }
}
