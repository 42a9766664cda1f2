//! Disturbing calls. Owns what a disturbance does; a [`Policy`] owns when.

use std::collections::VecDeque;
use std::sync::Mutex;

use super::entry::Call;
use super::lock;
use crate::{
    Addr, ApiReply, ContinueMode, CopyMode, Errno, Event, Features, Len, MoveMode, Outcome,
    PoisonMode, RangeIoctls, RegisterModes, Request, Span, Uffd, WriteProtectMode, ZeropageMode,
};

/// What happens to one call. One that does not apply to the call lets it pass.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Disturbance {
    /// Nothing.
    Pass,
    /// The call is not made and answers this: `EINTR`, `EAGAIN`, `ENOMEM`, `ESRCH`. A
    /// result field mirrors it, where the ioctl has one, as a kernel since 6.15 does;
    /// `ESRCH`, `EINVAL` and `EFAULT` leave the field alone (rule e2).
    Fail(Errno),
    /// A read takes no more than so many messages.
    ShortRead(usize),
    /// A resolving ioctl does no more than so many bytes, and says so (rule e3).
    ShortIoctl(Len),
    /// A read finds the end of the file.
    Eof,
    /// A read finds this message too, after the real ones.
    Message(Event),
}

/// Decides what happens to each call.
pub trait Policy {
    /// What happens to the call that is about to be made. A copy's digest is not known yet
    /// and 0.
    fn decide(&self, call: &Call) -> Disturbance;
}

impl<F: Fn(&Call) -> Disturbance> Policy for F {
    fn decide(&self, call: &Call) -> Disturbance {
        self(call)
    }
}

/// A [`Policy`] written down: a list of calls, by name, and what happens to them, in
/// order. A call that the next line does not name passes.
#[derive(Debug, Default)]
pub struct Script {
    lines: Mutex<VecDeque<(&'static str, Disturbance)>>,
}

impl Script {
    /// These disturbances, each at the first call of its name after the one before it.
    pub fn new(lines: impl IntoIterator<Item = (&'static str, Disturbance)>) -> Script {
        Script { lines: Mutex::new(lines.into_iter().collect()) }
    }

    /// How many lines have not come to pass. A test that scripts a disturbance that never
    /// happens has tested nothing.
    pub fn left(&self) -> usize {
        lock(&self.lines).len()
    }
}

impl Policy for Script {
    fn decide(&self, call: &Call) -> Disturbance {
        let next = lock(&self.lines).pop_front_if(|(name, _)| *name == call.name());
        next.map_or(Disturbance::Pass, |(_, disturbance)| disturbance)
    }
}

impl Policy for &Script {
    fn decide(&self, call: &Call) -> Disturbance {
        (**self).decide(call)
    }
}

/// A [`Uffd`] whose calls `P` may disturb.
#[derive(Debug)]
pub struct Inject<U, P> {
    inner: U,
    policy: P,
}

impl<U: Uffd, P: Policy> Inject<U, P> {
    /// Let `policy` disturb calls to `inner`.
    pub const fn new(inner: U, policy: P) -> Inject<U, P> {
        Inject { inner, policy }
    }

    /// Who decides.
    pub const fn policy(&self) -> &P {
        &self.policy
    }

    /// The errno that a call fails with instead of being made.
    fn refuse(&self, call: Call) -> Result<(), Errno> {
        match self.policy.decide(&call) {
            Disturbance::Fail(errno) => Err(errno),
            _ => Ok(()),
        }
    }

    fn resolve(&self, request: Request, payload: &[u8]) -> Outcome {
        match self.policy.decide(&Call::Resolve { request, payload: 0 }) {
            Disturbance::Fail(errno) => match (request, errno) {
                (Request::WriteProtect { .. } | Request::Wake { .. }, _)
                | (_, Errno::ESRCH | Errno::EINVAL | Errno::EFAULT) => Outcome::bare(errno),
                _ => Outcome::mirrored(errno),
            },
            Disturbance::ShortIoctl(len) if len < request.range().len => {
                let outcome = self.inner.submit(&shortened(request, len), payload);
                match outcome.errno {
                    None => Outcome::partial(outcome.bytes_done()),
                    Some(_) => outcome,
                }
            }
            _ => self.inner.submit(&request, payload),
        }
    }
}

/// The first `len` bytes of `request`; a `writeprotect` has no partial answer and stays
/// whole.
fn shortened(mut request: Request, len: Len) -> Request {
    match &mut request {
        Request::Copy { dst: range, .. }
        | Request::Move { dst: range, .. }
        | Request::Zeropage { range, .. }
        | Request::Continue { range, .. }
        | Request::Poison { range, .. } => range.len = len,
        Request::WriteProtect { .. } | Request::Wake { .. } => {}
    }
    request
}

impl<U: Uffd, P: Policy> Uffd for Inject<U, P> {
    fn api(&self, features: Features) -> Result<ApiReply, Errno> {
        self.refuse(Call::Api { features })?;
        self.inner.api(features)
    }

    fn register(&self, range: Span, modes: RegisterModes) -> Result<RangeIoctls, Errno> {
        self.refuse(Call::Register { range, modes })?;
        self.inner.register(range, modes)
    }

    fn unregister(&self, range: Span) -> Result<(), Errno> {
        self.refuse(Call::Unregister { range })?;
        self.inner.unregister(range)
    }

    fn read_events(&self, out: &mut Vec<Event>, max: usize) -> Result<usize, Errno> {
        match self.policy.decide(&Call::Read { max }) {
            Disturbance::Fail(errno) => Err(errno),
            Disturbance::Eof => Ok(0),
            Disturbance::ShortRead(fewer) => self.inner.read_events(out, fewer.min(max)),
            Disturbance::Message(event) if max > 0 => {
                let real = match self.inner.read_events(out, max - 1) {
                    // Room for the one message that is not real leaves no room to ask.
                    Err(Errno::EAGAIN | Errno::EINVAL) => 0,
                    answer => answer?,
                };
                out.push(event);
                Ok(real + 1)
            }
            _ => self.inner.read_events(out, max),
        }
    }

    fn copy(&self, dst: Span, src: &[u8], mode: CopyMode) -> Outcome {
        self.resolve(Request::Copy { dst, mode }, src)
    }

    fn zeropage(&self, range: Span, mode: ZeropageMode) -> Outcome {
        self.resolve(Request::Zeropage { range, mode }, &[])
    }

    fn continue_(&self, range: Span, mode: ContinueMode) -> Outcome {
        self.resolve(Request::Continue { range, mode }, &[])
    }

    fn write_protect(&self, range: Span, mode: WriteProtectMode) -> Outcome {
        self.resolve(Request::WriteProtect { range, mode }, &[])
    }

    fn move_(&self, dst: Span, src: Addr, mode: MoveMode) -> Outcome {
        self.resolve(Request::Move { dst, src, mode }, &[])
    }

    fn poison(&self, range: Span, mode: PoisonMode) -> Outcome {
        self.resolve(Request::Poison { range, mode }, &[])
    }

    fn wake(&self, range: Span) -> Result<(), Errno> {
        self.refuse(Call::Wake { range })?;
        self.inner.wake(range)
    }
}
