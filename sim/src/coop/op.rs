//! What a handler's thread stops for: the scheduling points as values. Owns no behaviour.

use core::fmt;

use shims::{Event, Request, Time, Wakeup};

use crate::kernel::{Call, Ret};
use crate::sync::Name;
use crate::world::{Exposed, Mishap};

/// A lock, by its place in the run's table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct LockId(pub(crate) usize);

/// A condition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CondId(pub(crate) usize);

/// A channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ChannelId(pub(crate) usize);

/// How a lock is taken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum How {
    /// Alone.
    Alone,
    /// Together with other readers.
    Shared,
}

/// What a thread is about to do, or waits to be able to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    /// Begin.
    Start,
    /// Let others go first.
    Yield,
    /// An operation on an atomic.
    Touch(Name),
    /// Enter a system call.
    Call(Call),
    /// Move on in it.
    InCall {
        /// Is it a `read`?
        read: bool,
    },
    /// Read a page of the source.
    Fetch {
        /// Which.
        page: u64,
        /// Can the code be told that it failed?
        may_fail: bool,
    },
    /// The source takes its time.
    Late { until: Time },
    /// Wait until the handler is asked to stop.
    UntilStopped,
    /// Sleep in `poll`.
    Poll { until: Option<Time> },
    /// End somebody's `poll`.
    Ring,
    /// Sleep.
    Sleep { until: Time },
    /// Take a lock.
    Lock { lock: LockId, how: How },
    /// Take a lock if it is free.
    TryLock { lock: LockId, how: How },
    /// Wait for a notification; the lock was given up.
    Wait { cond: CondId, lock: LockId, until: Option<Time> },
    /// Take the lock again.
    Relock { lock: LockId, notified: bool },
    /// Notify.
    Notify { cond: CondId, all: bool },
    /// Send to a channel.
    Send { channel: ChannelId },
    /// Receive from it.
    Recv { channel: ChannelId, until: Option<Time> },
    /// Receive if there is something.
    TryRecv { channel: ChannelId },
    /// Wait until a thread has ended.
    Join { thread: usize },
    /// Wait until all threads of a team have ended.
    JoinTeam { first: usize, count: usize },
}

/// What the thread gets for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Reply {
    /// It is done.
    Done,
    /// It is done, or it is not: a lock was taken, a notification came before the time was
    /// over, the other end of the channel is there.
    Is(bool),
    /// A system call returned this, and read these messages.
    Ret(Ret, Vec<Event>),
    /// A `poll` ended.
    Wakeup(Wakeup),
    /// A mishap of the source.
    Broken(Mishap),
    /// The run is over, and the thread with it.
    Over,
}

/// What came of a step outside the handler's own code. With the order of the threads this is
/// all that a run depends on: feeding it to a fresh handler brings it to the same state.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Input {
    /// Nothing: the step was the handler's own.
    None,
    /// The call is under way.
    Under,
    /// It has returned this, and read these messages.
    Ret(Ret, Vec<Event>),
    /// A `poll` ended.
    Wakeup(Wakeup),
    /// A mishap of the source.
    Broken(Mishap),
    /// The source will be late, until then.
    Late(Time),
    /// The handler is asked to stop; no thread's step.
    Stop,
}

impl Op {
    /// What can go wrong with it, once it is possible.
    pub(super) fn exposed(&self) -> Exposed {
        match self {
            Op::Call(Call::Read { .. }) => {
                let read = Exposed::NONE.to(Mishap::Interrupt).to(Mishap::Nothing);
                read.to(Mishap::ShortBatch)
            }
            Op::Call(Call::Resolve { request, .. }) => match request {
                Request::Copy { .. } | Request::Zeropage { .. } | Request::Continue { .. } => {
                    Exposed::INSTALL
                }
                Request::WriteProtect { .. } => Exposed::NONE.to(Mishap::Changing),
                _ => Exposed::NONE,
            },
            Op::Fetch { may_fail: true, .. } => Exposed::SOURCE,
            Op::Fetch { .. } => Exposed::NONE.to(Mishap::SourceLate),
            _ => Exposed::NONE,
        }
    }

    /// How schedules call it: a verb, and what it is about is said by others.
    pub(super) fn verb(&self) -> &'static str {
        match self {
            Op::Start => "start",
            Op::Yield => "yield",
            Op::Touch(_) => "touch atomic",
            Op::Call(_) | Op::InCall { .. } => "call",
            Op::Fetch { .. } => "fetch",
            Op::Late { .. } => "fetch, late",
            Op::UntilStopped => "is asked to stop",
            Op::Poll { .. } => "polled",
            Op::Ring => "ring",
            Op::Sleep { .. } => "slept",
            Op::Lock { how: How::Alone, .. } => "lock",
            Op::Lock { how: How::Shared, .. } => "read-lock",
            Op::TryLock { .. } => "try lock",
            Op::Wait { .. } => "wake from condition",
            Op::Relock { .. } => "lock again",
            Op::Notify { all: true, .. } => "notify all of condition",
            Op::Notify { all: false, .. } => "notify one of condition",
            Op::Send { .. } => "send to channel",
            Op::Recv { .. } => "receive from channel",
            Op::TryRecv { .. } => "try to receive from channel",
            Op::Join { .. } => "join",
            Op::JoinTeam { .. } => "join all",
        }
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            How::Alone => "lock",
            How::Shared => "read lock",
        })
    }
}
