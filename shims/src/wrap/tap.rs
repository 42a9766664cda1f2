//! Telling an observer of each call. Owns the one place where a call of the seam becomes
//! an [`Entry`].

use super::audit::Fnv;
use super::entry::{Answer, Call, Entry};
use crate::{
    Addr, ApiReply, ContinueMode, CopyMode, Errno, Event, Features, MoveMode, Outcome, PoisonMode,
    RangeIoctls, RegisterModes, Request, Span, Uffd, WriteProtectMode, ZeropageMode,
};

/// Somebody who is told of each call once it is answered.
pub trait Observer {
    /// Whether the bytes of copies matter. Without, their digest is 0 and they are not
    /// looked at.
    const DIGESTS: bool;

    /// A call was answered.
    fn observe(&self, entry: Entry);
}

impl<O: Observer + ?Sized> Observer for &O {
    const DIGESTS: bool = O::DIGESTS;

    fn observe(&self, entry: Entry) {
        (**self).observe(entry);
    }
}

/// A [`Uffd`] that tells `O` of each call and changes nothing.
#[derive(Debug)]
pub struct Tap<U, O> {
    inner: U,
    observer: O,
}

impl<U: Uffd, O: Observer> Tap<U, O> {
    /// Tell `observer` of each call to `inner`.
    pub const fn new(inner: U, observer: O) -> Tap<U, O> {
        Tap { inner, observer }
    }

    /// Who is told.
    pub const fn observer(&self) -> &O {
        &self.observer
    }

    /// What is wrapped.
    pub const fn inner(&self) -> &U {
        &self.inner
    }

    fn resolve(&self, request: Request, payload: &[u8]) -> Outcome {
        let outcome = self.inner.submit(&request, payload);
        let payload = match request {
            Request::Copy { dst, .. } if O::DIGESTS => {
                // The inner copy has checked that the source is as long.
                Fnv::of(&payload[..dst.len.bytes() as usize])
            }
            _ => 0,
        };
        let answer = Answer::Resolve(outcome);
        self.observer.observe(Entry { call: Call::Resolve { request, payload }, answer });
        outcome
    }
}

impl<U: Uffd, O: Observer> Uffd for Tap<U, O> {
    fn api(&self, features: Features) -> Result<ApiReply, Errno> {
        let reply = self.inner.api(features);
        self.observer.observe(Entry { call: Call::Api { features }, answer: Answer::Api(reply) });
        reply
    }

    fn register(&self, range: Span, modes: RegisterModes) -> Result<RangeIoctls, Errno> {
        let ioctls = self.inner.register(range, modes);
        let call = Call::Register { range, modes };
        self.observer.observe(Entry { call, answer: Answer::Register(ioctls) });
        ioctls
    }

    fn unregister(&self, range: Span) -> Result<(), Errno> {
        let done = self.inner.unregister(range);
        let call = Call::Unregister { range };
        self.observer.observe(Entry { call, answer: Answer::Unit(done) });
        done
    }

    fn read_events(&self, out: &mut Vec<Event>, max: usize) -> Result<usize, Errno> {
        let before = out.len();
        let count = self.inner.read_events(out, max);
        let answer = Answer::Read(count.map(|_| out[before..].to_vec()));
        self.observer.observe(Entry { call: Call::Read { max }, answer });
        count
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
        let done = self.inner.wake(range);
        self.observer.observe(Entry { call: Call::Wake { range }, answer: Answer::Unit(done) });
        done
    }
}
