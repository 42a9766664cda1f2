//! Calls on descriptors: from a number to an open file, which the call then keeps open, to the
//! context, and back (rules a3, a5, a19). Owns the vocabulary and the way in and out; opening
//! and the handshake are in `handshake.rs`, calls that wait in `waiting.rs`.

use shims::{Errno, RegisterModes, Request, Span};

use super::Kernel;
use super::call::{Call, MmId, Payload, Ret, ThreadId};
use super::did::{Did, ProcessDid};
use super::fd::{Fd, FileId, FileKind};
use super::run::{Long, Run, Then};
use super::struct_at;
use crate::vma::CtxId;

/// Something asked of a descriptor, or for one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum FileCall {
    /// `userfaultfd(2)`: `O_CLOEXEC`, `O_NONBLOCK` and `UFFD_USER_MODE_ONLY`
    /// ([`flags`](super::flags)).
    Userfaultfd {
        /// The flag word.
        flags: u32,
    },
    /// `open("/dev/userfaultfd")`.
    OpenDevice,
    /// `USERFAULTFD_IOC_NEW` of the device.
    DeviceNew {
        /// The device.
        fd: Fd,
        /// The flag word, by value.
        flags: u32,
    },
    /// `UFFDIO_API`. What it leaves in the struct: [`Kernel::api_struct`].
    Api {
        /// The userfaultfd.
        fd: Fd,
        /// The struct; `None` is a bad pointer.
        arg: Option<ApiStruct>,
    },
    /// `UFFDIO_REGISTER`.
    Register {
        /// The userfaultfd.
        fd: Fd,
        /// What.
        range: Span,
        /// For which faults.
        modes: RegisterModes,
    },
    /// `UFFDIO_UNREGISTER`.
    Unregister {
        /// The userfaultfd.
        fd: Fd,
        /// What.
        range: Span,
    },
    /// A resolving ioctl or `UFFDIO_WAKE`.
    Resolve {
        /// The userfaultfd.
        fd: Fd,
        /// Which, and its arguments.
        request: Request,
        /// What a `Copy` copies.
        payload: Payload,
    },
    /// An ioctl that nobody knows.
    Ioctl {
        /// Any file.
        fd: Fd,
    },
    /// `read(2)`, or `preadv2`. The messages are in the thread's
    /// [`inbox`](Kernel::inbox); the value is bytes.
    Read(Reading),
    /// `poll(2)` for one descriptor; the value is `revents` ([`poll`](super::poll)).
    Poll {
        /// The descriptor.
        fd: Fd,
        /// Until something is there, or only a look.
        wait: bool,
    },
    /// `close(2)`.
    Close {
        /// The descriptor.
        fd: Fd,
    },
    /// `dup(2)`.
    Dup {
        /// The descriptor.
        fd: Fd,
    },
    /// `fcntl(F_SETFL)` with or without `O_NONBLOCK`.
    SetNonblock {
        /// The descriptor.
        fd: Fd,
        /// Without waiting from now on?
        on: bool,
    },
    /// Send it to a process over a socket: the value is the number it has there.
    Send {
        /// The descriptor.
        fd: Fd,
        /// A thread of the process that receives it.
        to: ThreadId,
    },
    /// `write(2)`: never.
    Write {
        /// The descriptor.
        fd: Fd,
    },
    /// `lseek(2)`: says 0.
    Seek {
        /// The descriptor.
        fd: Fd,
    },
    /// `mmap(2)` of the file: never.
    Map {
        /// The descriptor.
        fd: Fd,
    },
    /// `pread(2)`: never.
    Pread {
        /// The descriptor.
        fd: Fd,
    },
}

/// The arguments of a `read`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Reading {
    /// The descriptor.
    pub fd: Fd,
    /// How long the buffer is said to be.
    pub bytes: u64,
    /// How many bytes of the buffer can be written: the rest of it is not there.
    pub writable: u64,
    /// `RWF_NOWAIT`.
    pub nowait: bool,
}

impl Reading {
    /// `read(fd, buffer, bytes)`.
    pub fn new(fd: Fd, bytes: u64) -> Reading {
        Reading { fd, bytes, writable: u64::MAX, nowait: false }
    }
}

/// `struct uffdio_api`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct ApiStruct {
    /// The version: [`API`](super::flags::API).
    pub api: u64,
    /// In: what is to be enabled. Out: what the kernel has (rule a7).
    pub features: u64,
    /// Out: the ioctls of the descriptor.
    pub ioctls: u64,
}

/// What a descriptor is, as `fcntl` and `/proc` tell.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FdView {
    /// The context, if it is a userfaultfd.
    pub ctx: Option<CtxId>,
    /// `O_NONBLOCK`.
    pub nonblock: bool,
    /// `FD_CLOEXEC`.
    pub cloexec: bool,
}

pub(super) fn fail(errno: Errno) -> (Run, Did) {
    let ret = Ret::Err(errno);
    (Run::Done(ret), Did::Return(ret))
}

pub(super) fn ok(value: u64) -> (Run, Did) {
    (Run::Done(Ret::Ok(value)), Did::Return(Ret::Ok(value)))
}

fn of(result: Result<u64, Errno>) -> (Run, Did) {
    result.map_or_else(fail, ok)
}

/// A descriptor as the value of a call.
pub(super) fn number(fd: Fd) -> u64 {
    u64::try_from(fd.0).expect("descriptors are not negative")
}

impl Kernel {
    /// What `fd` is to `thread`; `None` if nothing is open under that number.
    pub fn fd(&mut self, thread: ThreadId, fd: Fd) -> Option<FdView> {
        let file = self.file(thread, fd).ok()?;
        let mm = self.mm_of(thread);
        let table = self.processes().table(thread, mm);
        let files = &self.processes().files;
        let ctx = match files.kind(file) {
            FileKind::Uffd(ctx) => Some(ctx),
            FileKind::Device => None,
        };
        let (nonblock, cloexec) = (files.nonblock(file), files.cloexec(table, fd));
        Some(FdView { ctx, nonblock, cloexec })
    }

    pub(super) fn file(&mut self, thread: ThreadId, fd: Fd) -> Result<FileId, Errno> {
        let mm = self.threads[usize::from(thread.0)].mm;
        let table = self.processes().table(thread, mm);
        self.processes().files.file(table, fd)
    }

    /// A call comes in: the file stays open until it is over, whatever becomes of the number.
    pub(super) fn hold_file(&mut self, thread: ThreadId, file: FileId) {
        self.processes().files.hold(file);
        let old = self.task(thread).hold.replace(file);
        debug_assert!(old.is_none(), "a thread is in one call at a time");
    }

    pub(super) fn step_file_call(
        &mut self,
        thread: ThreadId,
        mm: MmId,
        call: FileCall,
    ) -> (Run, Did) {
        match call {
            FileCall::Userfaultfd { flags } => of(self.open_userfaultfd(thread, mm, flags)),
            FileCall::OpenDevice => of(self.open_device(thread, mm)),
            FileCall::DeviceNew { fd, flags } => of(self.device_new(thread, mm, fd, flags)),
            FileCall::Api { fd, arg } => of(self.api(thread, mm, fd, arg)),
            FileCall::Register { fd, range, modes } => {
                self.enter_ioctl(thread, fd, |ctx| Call::Register { ctx, range, modes })
            }
            FileCall::Unregister { fd, range } => {
                self.enter_ioctl(thread, fd, |ctx| Call::Unregister { ctx, range })
            }
            FileCall::Resolve { fd, request, payload } => {
                self.enter_ioctl(thread, fd, |ctx| Call::Resolve { ctx, request, payload })
            }
            // Of the device as well: a5, a2.
            FileCall::Ioctl { fd } => of(self.file(thread, fd).and(Err(Errno::EINVAL))),
            FileCall::Read(reading) => self.enter_read(thread, reading),
            FileCall::Poll { fd, wait } => self.enter_poll(thread, fd, wait),
            FileCall::Close { fd } => {
                let table = self.processes().table(thread, mm);
                match self.processes().files.close(table, fd) {
                    Ok(last) => {
                        let ret = Ret::Ok(0);
                        let run = self.release_then(last.into_iter().collect(), Then::Return(ret));
                        (run, Did::Return(ret))
                    }
                    Err(errno) => fail(errno),
                }
            }
            FileCall::Dup { fd } => of(self
                .file(thread, fd)
                .and_then(|file| self.new_fd(thread, mm, file, false).map(number))),
            FileCall::SetNonblock { fd, on } => of(self.file(thread, fd).map(|file| {
                self.processes().files.set_nonblock(file, on);
                0
            })),
            FileCall::Send { fd, to } => of(self.file(thread, fd).and_then(|file| {
                let mm = self.mm_of(to);
                self.new_fd(to, mm, file, true).map(number)
            })),
            // a3.
            FileCall::Write { fd } => of(self.file(thread, fd).and(Err(Errno::EBADF))),
            FileCall::Seek { fd } => of(self.file(thread, fd).map(|_| 0)),
            FileCall::Map { fd } => of(self.file(thread, fd).and(Err(Errno::ENODEV))),
            FileCall::Pread { fd } => of(self.file(thread, fd).and(Err(Errno::ESPIPE))),
        }
    }

    /// The lowest free number for `file` in the table of `thread`.
    pub(super) fn new_fd(
        &mut self,
        thread: ThreadId,
        mm: MmId,
        file: FileId,
        cloexec: bool,
    ) -> Result<Fd, Errno> {
        let book = self.processes();
        let limit = book.privileges(thread, mm).nofile;
        let table = book.table(thread, mm);
        let fd = book.files.free(table, limit)?;
        book.files.install(table, fd, file, cloexec);
        Ok(fd)
    }

    /// An ioctl of a userfaultfd that has had its handshake: from here on it is the same call
    /// as on a context.
    fn enter_ioctl(
        &mut self,
        thread: ThreadId,
        fd: Fd,
        call: impl FnOnce(CtxId) -> Call,
    ) -> (Run, Did) {
        let file = match self.file(thread, fd) {
            Ok(file) => file,
            Err(errno) => return fail(errno),
        };
        let ctx = match self.processes().files.kind(file) {
            FileKind::Uffd(ctx) if self.ctx(ctx).started => ctx,
            FileKind::Uffd(_) | FileKind::Device => return fail(Errno::EINVAL),
        };
        self.hold_file(thread, file);
        let run = match call(ctx) {
            Call::Resolve { ctx, request, payload } => struct_at::begin(ctx, request, payload),
            call => Run::Once(Box::new(call)),
        };
        (run, Did::Process(ProcessDid::Enter { ctx }))
    }

    /// Close what has lost its last reference, then go on with `then` (rule a20).
    pub(super) fn release_then(&mut self, list: Vec<CtxId>, then: Then) -> Run {
        if !list.is_empty() {
            return Run::Long(Box::new(Long::Release { list, marked: false, then }));
        }
        match then {
            Then::Return(ret) => Run::Done(ret),
            Then::Again(call) => Run::Once(call),
            Then::Dead => Run::Dead,
        }
    }

    pub(super) fn step_release(
        &mut self,
        mut list: Vec<CtxId>,
        marked: bool,
        then: Then,
    ) -> (Run, Did) {
        let ctx = list[0];
        if !marked {
            self.ctx_mut(ctx).released = true;
            let run = Run::Long(Box::new(Long::Release { list, marked: true, then }));
            return (run, Did::Release { ctx });
        }
        let (_, did) = self.step_closing(ctx);
        list.remove(0);
        (self.release_then(list, then), did)
    }

    /// The way out of every call, where there are processes: give the file back, then see
    /// whether a signal waits (rules a14, a19, a25).
    pub(super) fn leave(&mut self, thread: ThreadId, mut ret: Ret) -> Run {
        let task = self.task(thread);
        task.tried = None;
        let (hold, killed) = (task.hold.take(), task.pending.kill);
        let mut release = Vec::new();
        if let Some(file) = hold {
            release.extend(self.processes().files.put(file));
        }
        release.extend(self.undo_fork(&mut ret, killed));
        if killed {
            return Run::Long(Box::new(Long::Exit { at: super::run::ExitPc::Begin, release }));
        }
        self.run_handlers(thread);
        self.release_then(release, Then::Return(ret))
    }
}
