//! A resolving ioctl as a value, so that a state machine can ask for one, a log can hold
//! it and a search can split it into its steps.

use core::fmt;

use crate::{
    Addr, ContinueMode, CopyMode, MoveMode, PoisonMode, Span, WriteProtectMode, ZeropageMode,
};

/// A resolving ioctl and its arguments. The bytes of a `Copy` travel beside it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Request {
    /// `UFFDIO_COPY`.
    Copy {
        /// Where to.
        dst: Span,
        /// How.
        mode: CopyMode,
    },
    /// `UFFDIO_ZEROPAGE`.
    Zeropage {
        /// Where.
        range: Span,
        /// How.
        mode: ZeropageMode,
    },
    /// `UFFDIO_CONTINUE`.
    Continue {
        /// Where.
        range: Span,
        /// How.
        mode: ContinueMode,
    },
    /// `UFFDIO_WRITEPROTECT`.
    WriteProtect {
        /// Where.
        range: Span,
        /// How.
        mode: WriteProtectMode,
    },
    /// `UFFDIO_MOVE`.
    Move {
        /// Where to.
        dst: Span,
        /// Where from; as many bytes as `dst`.
        src: Addr,
        /// How.
        mode: MoveMode,
    },
    /// `UFFDIO_POISON`.
    Poison {
        /// Where.
        range: Span,
        /// How.
        mode: PoisonMode,
    },
    /// `UFFDIO_WAKE`.
    Wake {
        /// Where.
        range: Span,
    },
}

impl Request {
    /// The range the ioctl acts on.
    pub const fn range(&self) -> Span {
        match *self {
            Request::Copy { dst, .. } | Request::Move { dst, .. } => dst,
            Request::Zeropage { range, .. }
            | Request::Continue { range, .. }
            | Request::WriteProtect { range, .. }
            | Request::Poison { range, .. }
            | Request::Wake { range } => range,
        }
    }

    /// The ioctl's name in lower case, as logs and schedules write it.
    pub const fn name(&self) -> &'static str {
        match self {
            Request::Copy { .. } => "copy",
            Request::Zeropage { .. } => "zeropage",
            Request::Continue { .. } => "continue",
            Request::WriteProtect { mode, .. } => {
                if mode.contains(WriteProtectMode::WP) {
                    "writeprotect"
                } else {
                    "un-writeprotect"
                }
            }
            Request::Move { .. } => "move",
            Request::Poison { .. } => "poison",
            Request::Wake { .. } => "wake",
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name(), self.range())
    }
}
