//! Calls on a userfaultfd that wait: `read` of a descriptor that may block, and `poll` (rules
//! a10 to a18, d29). Owns when they sleep and what ends that; which message comes next is the
//! context's business.

use shims::{Errno, Event};

use super::Kernel;
use super::call::{Call, ThreadId};
use super::did::{Did, ProcessDid};
use super::fd::{Fd, FileId, FileKind};
use super::file_call::{FileCall, Reading, fail, ok};
use super::run::{Long, Run, Then};
use crate::profile::Bugs;
use crate::vma::CtxId;

/// Bits of `revents`.
pub mod poll {
    /// Something to read.
    pub const IN: u64 = 0x001;
    /// Something to write to: of the device, which has no opinion.
    pub const OUT: u64 = 0x004;
    /// Not to be polled.
    pub const ERR: u64 = 0x008;
    /// No such descriptor.
    pub const NVAL: u64 = 0x020;
    /// [`IN`] and [`OUT`] in their other names; a file without an opinion has all four.
    pub const NORM: u64 = 0x140;
}

/// Bytes of one message.
const MESSAGE: u64 = 32;

/// A `read` in progress.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Read {
    pub(super) ctx: CtxId,
    asked: Reading,
    /// Bytes of the messages that are in the buffer.
    copied: u64,
    nonblock: bool,
}

/// A `poll` in progress.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Poll {
    pub(super) ctx: CtxId,
    file: FileId,
}

impl Kernel {
    pub(super) fn enter_read(&mut self, thread: ThreadId, asked: Reading) -> (Run, Did) {
        let file = match self.file(thread, asked.fd) {
            Ok(file) => file,
            Err(errno) => return fail(errno),
        };
        let ctx = match self.processes().files.kind(file) {
            FileKind::Uffd(ctx) if self.ctx(ctx).started => ctx,
            FileKind::Uffd(_) | FileKind::Device => return fail(Errno::EINVAL),
        };
        // a14: what the file is now, not what it was when it was opened.
        let nonblock = self.processes().files.nonblock(file) || asked.nowait;
        self.hold_file(thread, file);
        let run = Run::Long(Box::new(Long::Read(Read { ctx, asked, copied: 0, nonblock })));
        (run, Did::Process(ProcessDid::Enter { ctx }))
    }

    /// A read that would sleep can move when there is a message, or a signal.
    pub(super) fn read_can_step(&self, thread: ThreadId, read: &Read) -> bool {
        read.nonblock
            || read.copied > 0
            || read.asked.bytes < MESSAGE
            || self.ctx(read.ctx).readable()
            || self.signalled(thread)
    }

    pub(super) fn step_fd_read(&mut self, thread: ThreadId, mut read: Read) -> (Run, Did) {
        let over = |errno| if read.copied > 0 { ok(read.copied) } else { fail(errno) };
        // a10: the rest of the buffer is looked at before the queues are.
        if read.asked.bytes - read.copied < MESSAGE {
            return over(Errno::EINVAL);
        }
        let event = match self.take_through_fd(thread, read.ctx) {
            Ok(Some(event)) => event,
            // d29: the event is in the queue again, behind the others.
            Err(errno) => return over(errno),
            // a12: only the first message is waited for.
            Ok(None) if read.nonblock || read.copied > 0 => return over(Errno::EAGAIN),
            Ok(None) => return self.read_interrupted(thread, read),
        };
        let did = Did::Take(event);
        // a15: the message is used up whatever comes of it.
        if read.copied + MESSAGE > read.asked.writable {
            let (run, _) = over(Errno::EFAULT);
            return (run, did);
        }
        self.threads[usize::from(thread.0)].inbox.push(event);
        read.copied += MESSAGE;
        (Run::Long(Box::new(Long::Read(read))), did)
    }

    /// The next message. A `FORK` message brings a descriptor into the reader's table first
    /// (rule d28).
    fn take_through_fd(&mut self, thread: ThreadId, ctx: CtxId) -> Result<Option<Event>, Errno> {
        let mm = self.mm_of(thread);
        let mut brought = None;
        if let Some(&Event::Fork { fd }) = self.ctx(ctx).next_event() {
            let child = self.child_userfaultfd(fd).expect("the message names a context");
            let created = self.ctx(child).created;
            match self.uffd_fd(thread, mm, child, created) {
                Ok(fd) => brought = Some(fd),
                Err(errno) if self.profile.has_bug(Bugs::Z8) => {
                    self.ctx_mut(ctx).events.remove(0);
                    return Err(errno);
                }
                Err(errno) => {
                    self.ctx_mut(ctx).events.rotate_left(1);
                    return Err(errno);
                }
            }
        }
        let Some((mut event, sender)) = self.ctx_mut(ctx).take_message() else { return Ok(None) };
        if let Some(sender) = sender {
            self.wake_sender(sender);
        }
        if let (Event::Fork { fd }, Some(brought)) = (&mut event, brought) {
            *fd = brought.0;
        }
        Ok(Some(event))
    }

    /// A signal, and no message: `EINTR`, or the call begins again once the handler has run
    /// (rule a14).
    fn read_interrupted(&mut self, thread: ThreadId, read: Read) -> (Run, Did) {
        let task = self.task(thread);
        if task.pending.kill || !task.pending.restart {
            return fail(Errno::EINTR);
        }
        let hold = task.hold.take();
        self.run_handlers(thread);
        let last = hold.and_then(|file| self.processes().files.put(file));
        let call = Box::new(Call::File(FileCall::Read(read.asked)));
        let run = self.release_then(last.into_iter().collect(), Then::Again(call));
        (run, Did::Process(ProcessDid::Handle))
    }

    pub(super) fn enter_poll(&mut self, thread: ThreadId, fd: Fd, wait: bool) -> (Run, Did) {
        let Ok(file) = self.file(thread, fd) else { return ok(poll::NVAL) };
        let ctx = match self.processes().files.kind(file) {
            FileKind::Uffd(ctx) => ctx,
            FileKind::Device => return ok(poll::IN | poll::OUT | poll::NORM),
        };
        let poll = Poll { ctx, file };
        match self.revents(poll) {
            0 if wait => {
                self.hold_file(thread, file);
                let run = Run::Long(Box::new(Long::Poll(poll)));
                (run, Did::Process(ProcessDid::Enter { ctx }))
            }
            revents => ok(revents),
        }
    }

    /// a18.
    fn revents(&mut self, poll: Poll) -> u64 {
        let nonblock = self.processes().files.nonblock(poll.file);
        let ctx = self.ctx(poll.ctx);
        if !ctx.started || !nonblock {
            poll::ERR
        } else if ctx.readable() {
            poll::IN
        } else {
            0
        }
    }

    pub(super) fn step_poll(&mut self, thread: ThreadId, poll: Poll) -> (Run, Did) {
        match self.revents(poll) {
            // A `poll` is not begun again, whatever the handler was installed with.
            0 => {
                debug_assert!(self.signalled(thread), "a poller wakes for a reason");
                fail(Errno::EINTR)
            }
            revents => ok(revents),
        }
    }
}
