//! What passed through the seam, as values and as text. Owns the line format of a log:
//! `copy 0x1000..0x2000 DONTWAKE #<digest> -> ok [4096]`.

use core::fmt;

use bitflags::Flags;

use crate::{ApiReply, Errno, Event, Features, Outcome, RangeIoctls, RegisterModes, Request, Span};

/// One call of [`Uffd`](crate::Uffd) with its arguments.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Call {
    /// `api`.
    Api {
        /// The features asked for.
        features: Features,
    },
    /// `register`.
    Register {
        /// Where.
        range: Span,
        /// What to report.
        modes: RegisterModes,
    },
    /// `unregister`.
    Unregister {
        /// Where.
        range: Span,
    },
    /// `read_events`.
    Read {
        /// Room for so many messages.
        max: usize,
    },
    /// A resolving ioctl other than `wake`.
    Resolve {
        /// The ioctl and its arguments.
        request: Request,
        /// The [digest](crate::wrap::Fnv) of the bytes of a copy; 0 for any other ioctl.
        payload: u64,
    },
    /// `wake`.
    Wake {
        /// Whom.
        range: Span,
    },
}

/// The answer to a [`Call`]; its variant matches the call's.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Answer {
    /// To `api`.
    Api(Result<ApiReply, Errno>),
    /// To `register`.
    Register(Result<RangeIoctls, Errno>),
    /// To `unregister` and `wake`.
    Unit(Result<(), Errno>),
    /// To `read_events`: the messages read.
    Read(Result<Vec<Event>, Errno>),
    /// To a resolving ioctl.
    Resolve(Outcome),
}

/// A call and its answer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Entry {
    /// What was asked.
    pub call: Call,
    /// What was answered.
    pub answer: Answer,
}

impl Call {
    /// The name of the call, as logs write it.
    pub const fn name(&self) -> &'static str {
        match self {
            Call::Api { .. } => "api",
            Call::Register { .. } => "register",
            Call::Unregister { .. } => "unregister",
            Call::Read { .. } => "read",
            Call::Resolve { request, .. } => request.name(),
            Call::Wake { .. } => "wake",
        }
    }
}

/// A set of bits as `A | B`, or `-` when it is empty.
struct Bits<B>(B);

impl<B: Flags> fmt::Display for Bits<B>
where
    B::Bits: bitflags::parser::WriteHex,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("-") } else { bitflags::parser::to_writer(&self.0, f) }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Call::Api { features } => write!(f, "api {}", Bits(*features)),
            Call::Register { range, modes } => write!(f, "register {range} {}", Bits(*modes)),
            Call::Unregister { range } => write!(f, "unregister {range}"),
            Call::Read { max } => write!(f, "read {max}"),
            Call::Wake { range } => write!(f, "wake {range}"),
            Call::Resolve { request, payload } => {
                write!(f, "{request}")?;
                match request {
                    Request::Copy { mode, .. } => write!(f, " {} #{payload:016x}", Bits(*mode)),
                    Request::Zeropage { mode, .. } => write!(f, " {}", Bits(*mode)),
                    Request::Continue { mode, .. } => write!(f, " {}", Bits(*mode)),
                    Request::WriteProtect { mode, .. } => write!(f, " {}", Bits(*mode)),
                    Request::Move { src, mode, .. } => write!(f, " from {src} {}", Bits(*mode)),
                    Request::Poison { mode, .. } => write!(f, " {}", Bits(*mode)),
                    Request::Wake { .. } => Ok(()),
                }
            }
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Api(Ok(reply)) => {
                write!(f, "has {}; knows {}", Bits(reply.features), Bits(reply.ioctls))
            }
            Answer::Register(Ok(ioctls)) => write!(f, "admits {}", Bits(*ioctls)),
            Answer::Unit(Ok(())) => f.write_str("ok"),
            Answer::Read(Ok(events)) if events.is_empty() => f.write_str("end of file"),
            Answer::Read(Ok(events)) => {
                for (index, event) in events.iter().enumerate() {
                    if index > 0 {
                        f.write_str("; ")?;
                    }
                    write!(f, "{event}")?;
                    if let Event::Fault(fault) = event
                        && let Some(tid) = fault.tid
                    {
                        write!(f, " by thread {}", tid.0)?;
                    }
                }
                Ok(())
            }
            Answer::Resolve(outcome) => write!(f, "{outcome}"),
            Answer::Api(Err(e))
            | Answer::Register(Err(e))
            | Answer::Unit(Err(e))
            | Answer::Read(Err(e)) => write!(f, "{e:?}"),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.call, self.answer)
    }
}
