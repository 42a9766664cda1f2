//! From nothing to a userfaultfd that works: `userfaultfd(2)`, its device, and `UFFDIO_API`
//! (rules a1, a2, a5 to a9). Owns the checks and their order.

use shims::{ApiIoctls, Errno, Features};

use super::Kernel;
use super::call::{MmId, ThreadId};
use super::ctx::Ctx;
use super::fd::{Created, Fd, FileKind};
use super::file_call::{ApiStruct, number};
use crate::vma::CtxId;

/// Words of the interface.
pub mod flags {
    /// Close the descriptor on `exec`.
    pub const O_CLOEXEC: u32 = 0o2_000_000;
    /// Do not wait.
    pub const O_NONBLOCK: u32 = 0o4_000;
    /// Only accesses from user mode are asked about (rule c5).
    pub const USER_MODE_ONLY: u32 = 1;
    /// The version that `UFFDIO_API` speaks.
    pub const API: u64 = 0xaa;
}

impl Kernel {
    /// `userfaultfd(2)` (rule a1): whether it may at all comes before what it asks for.
    pub(super) fn open_userfaultfd(
        &mut self,
        thread: ThreadId,
        mm: MmId,
        flags: u32,
    ) -> Result<u64, Errno> {
        let usual = self.profile.unprivileged();
        let book = self.processes();
        let allowed = flags & flags::USER_MODE_ONLY != 0
            || book.unprivileged.unwrap_or(usual)
            || book.privileges(thread, mm).ptrace;
        if !allowed {
            return Err(Errno::EPERM);
        }
        self.new_userfaultfd(thread, mm, flags)
    }

    pub(super) fn open_device(&mut self, thread: ThreadId, mm: MmId) -> Result<u64, Errno> {
        if !self.profile.has_device() {
            return Err(Errno::ENOENT);
        }
        if !self.processes().privileges(thread, mm).device {
            return Err(Errno::EACCES);
        }
        let file = self.processes().files.open(FileKind::Device, false);
        self.new_fd(thread, mm, file, false).map(number)
    }

    /// `USERFAULTFD_IOC_NEW` (rule a2): who holds the device needs nothing else.
    pub(super) fn device_new(
        &mut self,
        thread: ThreadId,
        mm: MmId,
        fd: Fd,
        flags: u32,
    ) -> Result<u64, Errno> {
        let file = self.file(thread, fd)?;
        if self.processes().files.kind(file) != FileKind::Device {
            return Err(Errno::EINVAL);
        }
        self.new_userfaultfd(thread, mm, flags)
    }

    fn new_userfaultfd(&mut self, thread: ThreadId, mm: MmId, word: u32) -> Result<u64, Errno> {
        let mut known = flags::O_CLOEXEC | flags::O_NONBLOCK;
        if self.profile.has_user_mode_only() {
            known |= flags::USER_MODE_ONLY;
        }
        if word & !known != 0 {
            return Err(Errno::EINVAL);
        }
        let mut ctx = Ctx::new(mm, Features::empty());
        ctx.started = false;
        ctx.user_mode_only = word & flags::USER_MODE_ONLY != 0;
        ctx.created.set(Created::CLOEXEC, word & flags::O_CLOEXEC != 0);
        ctx.created.set(Created::NONBLOCK, word & flags::O_NONBLOCK != 0);
        let created = ctx.created;
        self.ctxs.push(ctx);
        let ctx = CtxId(u32::try_from(self.ctxs.len() - 1).expect("fewer than 2^32 contexts"));
        self.uffd_fd(thread, mm, ctx, created).map(number)
    }

    /// A descriptor for `ctx` in the table of `thread`.
    pub(super) fn uffd_fd(
        &mut self,
        thread: ThreadId,
        mm: MmId,
        ctx: CtxId,
        created: Created,
    ) -> Result<Fd, Errno> {
        let nonblock = created.contains(Created::NONBLOCK);
        let file = self.processes().files.open(FileKind::Uffd(ctx), nonblock);
        self.new_fd(thread, mm, file, created.contains(Created::CLOEXEC))
    }

    /// `UFFDIO_API` (rules a6, a7). Every refusal but a bad pointer's wipes the struct.
    pub(super) fn api(
        &mut self,
        thread: ThreadId,
        mm: MmId,
        fd: Fd,
        arg: Option<ApiStruct>,
    ) -> Result<u64, Errno> {
        let file = self.file(thread, fd)?;
        let FileKind::Uffd(ctx) = self.processes().files.kind(file) else {
            return Err(Errno::EINVAL);
        };
        let arg = arg.ok_or(Errno::EFAULT)?;
        let answer = self.shake_hands(thread, mm, ctx, arg);
        self.task(thread).api = answer.unwrap_or_default();
        answer.map(|_| 0)
    }

    fn shake_hands(
        &mut self,
        thread: ThreadId,
        mm: MmId,
        ctx: CtxId,
        arg: ApiStruct,
    ) -> Result<ApiStruct, Errno> {
        if arg.api != flags::API {
            return Err(Errno::EINVAL);
        }
        let mut features = Features::from_bits_retain(arg.features);
        if features.contains(Features::EVENT_FORK)
            && !self.processes().privileges(thread, mm).ptrace
        {
            return Err(Errno::EPERM);
        }
        if features.contains(Features::WP_ASYNC) {
            features |= Features::WP_UNPOPULATED;
        }
        if !self.profile.features.contains(features) {
            return Err(Errno::EINVAL);
        }
        if self.ctx(ctx).started {
            return Err(Errno::EINVAL);
        }
        let ctx = self.ctx_mut(ctx);
        ctx.features = features;
        ctx.started = true;
        let ioctls = ApiIoctls::API | ApiIoctls::REGISTER | ApiIoctls::UNREGISTER;
        let features = self.profile.features.bits();
        Ok(ApiStruct { api: flags::API, features, ioctls: ioctls.bits() })
    }

    /// `struct uffdio_api` of `thread` after its last handshake. One that failed with `EFAULT`
    /// has not touched it.
    pub fn api_struct(&mut self, thread: ThreadId) -> ApiStruct {
        self.task(thread).api
    }

    /// The lines of `/proc/PID/fdinfo/FD` that userfaultfd writes (rule a9).
    pub fn fdinfo(&mut self, thread: ThreadId, fd: Fd) -> Option<String> {
        let ctx = self.fd(thread, fd)?.ctx?;
        let ctx = self.ctx(ctx);
        let started = if ctx.started { 1 << 31 } else { 0 };
        Some(format!(
            "pending:\t{}\ntotal:\t{}\nAPI:\t{:x}:{:x}:{:x}\n",
            ctx.faults_unread(),
            ctx.faults_waiting(),
            flags::API,
            ctx.features.bits() | started,
            self.profile.ioctls(),
        ))
    }
}
