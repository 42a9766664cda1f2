//! Answering from a record. Owns the comparison of a run with the record, and the first
//! place where they differ.

use core::fmt;
use std::sync::Mutex;

use super::audit::Fnv;
use super::entry::{Answer, Call, Entry};
use super::lock;
use crate::{
    Addr, ApiReply, ContinueMode, CopyMode, Errno, Event, Features, MoveMode, Outcome, PoisonMode,
    RangeIoctls, RegisterModes, Request, Span, Uffd, WriteProtectMode, ZeropageMode,
};

/// The first difference between a run and its record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mismatch {
    /// The run made another call than the record.
    Differs {
        /// Position in the record, counted from 0.
        position: usize,
        /// The call in the record.
        recorded: Call,
        /// The call of the run.
        made: Call,
    },
    /// The run made a call after the end of the record.
    Beyond {
        /// The length of the record.
        position: usize,
        /// The call of the run.
        made: Call,
    },
    /// The run ended before the record did.
    Short {
        /// Position of the first call that was not made.
        position: usize,
        /// That call.
        recorded: Call,
    },
    /// The record holds an answer that does not belong to its call: it is damaged.
    Damaged {
        /// Position in the record.
        position: usize,
        /// The entry.
        entry: Entry,
    },
}

/// A [`Uffd`] that answers from a record. At the first call that differs it stops: that
/// call and all later ones answer `EIO`, and [`finish`](Replay::finish) tells why.
#[derive(Debug)]
pub struct Replay {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    entries: Vec<Entry>,
    position: usize,
    mismatch: Option<Mismatch>,
}

impl Replay {
    /// Answer from `entries`.
    pub const fn new(entries: Vec<Entry>) -> Replay {
        Replay { state: Mutex::new(State { entries, position: 0, mismatch: None }) }
    }

    /// How many calls have been answered from the record.
    pub fn position(&self) -> usize {
        lock(&self.state).position
    }

    /// Whether the run made exactly the recorded calls; the first difference if not.
    pub fn finish(&self) -> Result<(), Mismatch> {
        let state = lock(&self.state);
        match (&state.mismatch, state.entries.get(state.position)) {
            (Some(mismatch), _) => Err(mismatch.clone()),
            (None, Some(entry)) => {
                Err(Mismatch::Short { position: state.position, recorded: entry.call })
            }
            (None, None) => Ok(()),
        }
    }

    /// The recorded answer to `made`, if that is the call recorded next and `pick` finds
    /// its answer to be of the right kind.
    fn next<T>(&self, made: Call, pick: impl FnOnce(&Answer) -> Option<T>) -> Option<T> {
        let mut state = lock(&self.state);
        if state.mismatch.is_some() {
            return None;
        }
        let position = state.position;
        let mismatch = match state.entries.get(position) {
            None => Mismatch::Beyond { position, made },
            Some(entry) if entry.call != made => {
                Mismatch::Differs { position, recorded: entry.call, made }
            }
            Some(entry) => match pick(&entry.answer) {
                Some(answer) => {
                    state.position += 1;
                    return Some(answer);
                }
                None => Mismatch::Damaged { position, entry: entry.clone() },
            },
        };
        state.mismatch = Some(mismatch);
        None
    }

    fn unit(&self, made: Call) -> Result<(), Errno> {
        let pick = |answer: &Answer| match answer {
            Answer::Unit(done) => Some(*done),
            _ => None,
        };
        self.next(made, pick).unwrap_or(Err(Errno::EIO))
    }

    fn resolve(&self, request: Request, payload: u64) -> Outcome {
        let pick = |answer: &Answer| match answer {
            Answer::Resolve(outcome) => Some(*outcome),
            _ => None,
        };
        self.next(Call::Resolve { request, payload }, pick).unwrap_or(Outcome::bare(Errno::EIO))
    }
}

impl Uffd for Replay {
    fn api(&self, features: Features) -> Result<ApiReply, Errno> {
        let pick = |answer: &Answer| match answer {
            Answer::Api(reply) => Some(*reply),
            _ => None,
        };
        self.next(Call::Api { features }, pick).unwrap_or(Err(Errno::EIO))
    }

    fn register(&self, range: Span, modes: RegisterModes) -> Result<RangeIoctls, Errno> {
        let pick = |answer: &Answer| match answer {
            Answer::Register(ioctls) => Some(*ioctls),
            _ => None,
        };
        self.next(Call::Register { range, modes }, pick).unwrap_or(Err(Errno::EIO))
    }

    fn unregister(&self, range: Span) -> Result<(), Errno> {
        self.unit(Call::Unregister { range })
    }

    fn read_events(&self, out: &mut Vec<Event>, max: usize) -> Result<usize, Errno> {
        let pick = |answer: &Answer| match answer {
            Answer::Read(events) => Some(events.clone()),
            _ => None,
        };
        let events = self.next(Call::Read { max }, pick).unwrap_or(Err(Errno::EIO))?;
        let count = events.len();
        out.extend(events);
        Ok(count)
    }

    fn copy(&self, dst: Span, src: &[u8], mode: CopyMode) -> Outcome {
        let payload = Fnv::of(&src[..dst.len.bytes() as usize]);
        self.resolve(Request::Copy { dst, mode }, payload)
    }

    fn zeropage(&self, range: Span, mode: ZeropageMode) -> Outcome {
        self.resolve(Request::Zeropage { range, mode }, 0)
    }

    fn continue_(&self, range: Span, mode: ContinueMode) -> Outcome {
        self.resolve(Request::Continue { range, mode }, 0)
    }

    fn write_protect(&self, range: Span, mode: WriteProtectMode) -> Outcome {
        self.resolve(Request::WriteProtect { range, mode }, 0)
    }

    fn move_(&self, dst: Span, src: Addr, mode: MoveMode) -> Outcome {
        self.resolve(Request::Move { dst, src, mode }, 0)
    }

    fn poison(&self, range: Span, mode: PoisonMode) -> Outcome {
        self.resolve(Request::Poison { range, mode }, 0)
    }

    fn wake(&self, range: Span) -> Result<(), Errno> {
        self.unit(Call::Wake { range })
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mismatch::Differs { position, recorded, made } => write!(
                f,
                "call {position} differs from the record: the record has `{recorded}`, the run \
                 made `{made}`"
            ),
            Mismatch::Beyond { position, made } => {
                write!(f, "the record ends after {position} calls; the run went on with `{made}`")
            }
            Mismatch::Short { position, recorded } => {
                write!(f, "the run ended before call {position} of the record, `{recorded}`")
            }
            Mismatch::Damaged { position, entry } => {
                write!(f, "the record is damaged: call {position} has no such answer: `{entry}`")
            }
        }
    }
}

impl core::error::Error for Mismatch {}
