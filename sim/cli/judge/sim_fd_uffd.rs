//! A userfaultfd of the simulated kernel by its descriptor: what a program that opened one
//! does, where `SimUffd` begins with a context that is there. Owns the translation.

use core::cell::RefCell;

use shims::{
    Addr, ApiIoctls, ApiReply, ContinueMode, CopyMode, Errno, Event, Features, MoveMode, Outcome,
    PoisonMode, RangeIoctls, RegisterModes, Request, Span, Uffd, WriteProtectMode, ZeropageMode,
};
use sim::kernel::{ApiStruct, Call, Fd, FileCall, Kernel, Payload, Reading, Ret, ThreadId, flags};

/// Used by `thread`, in whose process its number is `fd`.
pub(crate) struct FdUffd<'k> {
    pub(crate) kernel: &'k RefCell<Kernel>,
    pub(crate) thread: ThreadId,
    pub(crate) fd: Fd,
}

impl FdUffd<'_> {
    fn call(&self, call: FileCall) -> Ret {
        self.kernel.borrow_mut().run(self.thread, Call::File(call))
    }

    fn value(&self, call: FileCall) -> Result<u64, Errno> {
        match self.call(call) {
            Ret::Ok(value) => Ok(value),
            Ret::Err(errno) => Err(errno),
            ret => unreachable!("a call on a descriptor answered {ret:?}"),
        }
    }

    fn resolve(&self, request: Request, payload: Payload) -> Outcome {
        match self.call(FileCall::Resolve { fd: self.fd, request, payload }) {
            Ret::Outcome(outcome) => outcome,
            // Refused before it was an ioctl of a userfaultfd.
            Ret::Err(errno) => Outcome::bare(errno),
            ret => unreachable!("a resolving ioctl answered {ret:?}"),
        }
    }
}

impl Uffd for FdUffd<'_> {
    fn api(&self, features: Features) -> Result<ApiReply, Errno> {
        let arg = ApiStruct { api: flags::API, features: features.bits(), ioctls: 0 };
        self.value(FileCall::Api { fd: self.fd, arg: Some(arg) })?;
        let reply = self.kernel.borrow_mut().api_struct(self.thread);
        Ok(ApiReply {
            features: Features::from_bits_retain(reply.features),
            ioctls: ApiIoctls::from_bits_retain(reply.ioctls),
        })
    }

    fn register(&self, range: Span, modes: RegisterModes) -> Result<RangeIoctls, Errno> {
        let bits = self.value(FileCall::Register { fd: self.fd, range, modes })?;
        Ok(RangeIoctls::from_bits_retain(bits))
    }

    fn unregister(&self, range: Span) -> Result<(), Errno> {
        self.value(FileCall::Unregister { fd: self.fd, range }).map(drop)
    }

    fn read_events(&self, out: &mut Vec<Event>, max: usize) -> Result<usize, Errno> {
        let bytes = self.value(FileCall::Read(Reading::new(self.fd, 32 * max as u64)))?;
        out.append(self.kernel.borrow_mut().inbox(self.thread));
        Ok(bytes as usize / 32)
    }

    fn copy(&self, dst: Span, src: &[u8], mode: CopyMode) -> Outcome {
        let payload = {
            let mut kernel = self.kernel.borrow_mut();
            let file = kernel.fd(self.thread, self.fd);
            // Any other descriptor refuses it.
            let ctx = file.and_then(|file| file.ctx);
            ctx.map_or(Payload::None, |ctx| kernel.payload(ctx, dst, src))
        };
        self.resolve(Request::Copy { dst, mode }, payload)
    }

    fn zeropage(&self, range: Span, mode: ZeropageMode) -> Outcome {
        self.resolve(Request::Zeropage { range, mode }, Payload::None)
    }

    fn continue_(&self, range: Span, mode: ContinueMode) -> Outcome {
        self.resolve(Request::Continue { range, mode }, Payload::None)
    }

    fn write_protect(&self, range: Span, mode: WriteProtectMode) -> Outcome {
        self.resolve(Request::WriteProtect { range, mode }, Payload::None)
    }

    fn move_(&self, dst: Span, src: Addr, mode: MoveMode) -> Outcome {
        self.resolve(Request::Move { dst, src, mode }, Payload::None)
    }

    fn poison(&self, range: Span, mode: PoisonMode) -> Outcome {
        self.resolve(Request::Poison { range, mode }, Payload::None)
    }

    fn wake(&self, range: Span) -> Result<(), Errno> {
        match self.resolve(Request::Wake { range }, Payload::None).errno {
            None => Ok(()),
            Some(errno) => Err(errno),
        }
    }
}
