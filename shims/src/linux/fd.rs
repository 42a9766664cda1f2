//! The descriptor: how it is opened, and how one from elsewhere is checked. Owns the
//! descriptor's life; owns neither its ioctls (`ioctl.rs`) nor its messages (`read.rs`).

use core::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;

use bitflags::bitflags;
use rustix::fs::{Mode, OFlags};
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode};
use rustix::mm::UserfaultfdFlags;

use super::{abi, errno, io_errno};
use crate::{Errno, Features};

/// What `/proc/self/fd` calls a userfaultfd (rule a3).
const LINK: &str = "anon_inode:[userfaultfd]";

const DEVICE: &str = "/dev/userfaultfd";

bitflags! {
    /// How to open a userfaultfd. `O_CLOEXEC` and `O_NONBLOCK` are always set: a
    /// descriptor that blocks cannot be polled (rule a18).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct OpenFlags: u8 {
        /// Only faults of user mode are reported; a kernel access fails (rule c5). Needs
        /// no privilege.
        const USER_MODE_ONLY = 1 << 0;
        /// Do not try `/dev/userfaultfd`.
        const NOT_BY_DEVICE = 1 << 1;
        /// Do not try `userfaultfd(2)`.
        const NOT_BY_SYSCALL = 1 << 2;
    }
}

/// A userfaultfd. Closing the last reference to it releases every thread that waits on
/// it, to find zero pages (rules a19 to a21).
#[derive(Debug)]
pub struct UserFault {
    fd: OwnedFd,
    /// Children's descriptors that `FORK` messages brought and nobody has claimed.
    forks: Mutex<Vec<OwnedFd>>,
}

/// Why no userfaultfd could be opened: the answer of each door that was tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenError {
    /// What `userfaultfd(2)` answered, if it was asked.
    pub syscall: Option<Errno>,
    /// What `/dev/userfaultfd` answered, if it was asked.
    pub device: Option<Errno>,
    /// Whether only user-mode faults were asked for.
    pub user_mode_only: bool,
}

/// Why a descriptor from elsewhere is not taken for a userfaultfd.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AdoptError {
    /// It is something else; the text is what `/proc/self/fd` calls it.
    NotUserfaultfd(String),
    /// It lacks `O_NONBLOCK`: polling it would report an error for ever (rule a18), and
    /// changing the flag would change it for the sender too.
    Blocking,
    /// `/proc/self/fd` or `fcntl` failed, so that it cannot be told what it is.
    Unknowable(Errno),
}

/// What `/proc/self/fdinfo` tells about a userfaultfd (rule a9).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FdInfo {
    /// Faults nobody has read yet.
    pub pending: u64,
    /// Faults whose threads sleep, read or not.
    pub total: u64,
    /// The features that `UFFDIO_API` enabled; `None` before it succeeded.
    pub features: Option<Features>,
}

impl UserFault {
    /// Open a userfaultfd of this process: by the system call, or else by the device,
    /// which may be open to whom the call is not (rules a1, a2).
    pub fn open(flags: OpenFlags) -> Result<UserFault, OpenError> {
        let mut wanted = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK;
        if flags.contains(OpenFlags::USER_MODE_ONLY) {
            wanted |= UserfaultfdFlags::from_bits_retain(abi::USER_MODE_ONLY);
        }
        let mut error = OpenError {
            syscall: None,
            device: None,
            user_mode_only: flags.contains(OpenFlags::USER_MODE_ONLY),
        };
        if !flags.contains(OpenFlags::NOT_BY_SYSCALL) {
            // SAFETY: the call only makes a descriptor; that its ioctls act on memory by
            // address is argued in the module's documentation.
            match unsafe { rustix::mm::userfaultfd(wanted) } {
                Ok(fd) => return Ok(UserFault::unchecked(fd)),
                Err(e) => error.syscall = Some(errno(e)),
            }
        }
        if !flags.contains(OpenFlags::NOT_BY_DEVICE) {
            match open_by_device(wanted.bits()) {
                Ok(fd) => return Ok(UserFault::unchecked(fd)),
                Err(e) => error.device = Some(e),
            }
        }
        Err(error)
    }

    /// The child's userfaultfd that a [`Fork`](crate::Event::Fork) message of this
    /// descriptor brought under that number, if it has not been claimed. One that nobody
    /// claims is closed together with this descriptor.
    pub fn claim_fork(&self, fd: RawFd) -> Option<UserFault> {
        let mut forks = self.forks.lock().unwrap_or_else(|e| e.into_inner());
        let index = forks.iter().position(|child| child.as_raw_fd() == fd)?;
        Some(UserFault::unchecked(forks.swap_remove(index)))
    }

    /// What the kernel tells about this descriptor.
    pub fn info(&self) -> Result<FdInfo, Errno> {
        let path = format!("/proc/self/fdinfo/{}", self.fd.as_raw_fd());
        let text = std::fs::read_to_string(path).map_err(|e| io_errno(&e))?;
        FdInfo::parse(&text).ok_or(Errno::EIO)
    }

    /// Keep a child's descriptor until somebody claims it.
    pub(super) fn keep_fork(&self, fd: OwnedFd) {
        self.forks.lock().unwrap_or_else(|e| e.into_inner()).push(fd);
    }

    /// Take `fd` for a userfaultfd without a look at it.
    pub(super) fn unchecked(fd: OwnedFd) -> UserFault {
        UserFault { fd, forks: Mutex::new(Vec::new()) }
    }
}

impl FdInfo {
    fn parse(text: &str) -> Option<FdInfo> {
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        // `API:  aa:<features>:<ioctls>`, the features as hexadecimal.
        let features = value("API:")?.trim().split(':').nth(1)?;
        let features = u64::from_str_radix(features, 16).ok()?;
        let initialised = features & abi::FDINFO_INITIALISED != 0;
        Some(FdInfo {
            pending: value("pending:")?.trim().parse().ok()?,
            total: value("total:")?.trim().parse().ok()?,
            features: initialised
                .then(|| Features::from_bits_retain(features & !abi::FDINFO_INITIALISED)),
        })
    }
}

/// `USERFAULTFD_IOC_NEW`: takes the flags by value, answers with a descriptor.
struct DeviceNew(u32);

// SAFETY: the opcode is the device's own; its argument is a number that travels in the
// place of a pointer and is never dereferenced; the answer is a descriptor that belongs
// to the caller.
unsafe impl Ioctl for DeviceNew {
    type Output = OwnedFd;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        abi::DEVICE_NEW
    }

    fn as_ptr(&mut self) -> *mut core::ffi::c_void {
        core::ptr::without_provenance_mut(self.0 as usize)
    }

    unsafe fn output_from_ptr(
        out: IoctlOutput,
        _: *mut core::ffi::c_void,
    ) -> rustix::io::Result<OwnedFd> {
        // SAFETY: the ioctl succeeded, so `out` is a new descriptor nobody else owns.
        Ok(unsafe { OwnedFd::from_raw_fd(out) })
    }
}

fn open_by_device(flags: u32) -> Result<OwnedFd, Errno> {
    let device =
        rustix::fs::open(DEVICE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(errno)?;
    // SAFETY: `DeviceNew` describes this device's ioctl.
    unsafe { rustix::ioctl::ioctl(&device, DeviceNew(flags)) }.map_err(errno)
}

impl TryFrom<OwnedFd> for UserFault {
    type Error = AdoptError;

    /// Take over a descriptor that somebody else opened, perhaps in another process,
    /// whose memory it then serves (rule a4). A descriptor that is refused is closed.
    fn try_from(fd: OwnedFd) -> Result<UserFault, AdoptError> {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
            .map_err(|e| AdoptError::Unknowable(io_errno(&e)))?;
        if link.as_os_str() != LINK {
            return Err(AdoptError::NotUserfaultfd(link.to_string_lossy().into_owned()));
        }
        let flags = rustix::fs::fcntl_getfl(&fd).map_err(|e| AdoptError::Unknowable(errno(e)))?;
        if !flags.contains(OFlags::NONBLOCK) {
            return Err(AdoptError::Blocking);
        }
        Ok(UserFault::unchecked(fd))
    }
}

impl AsFd for UserFault {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for UserFault {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl From<UserFault> for OwnedFd {
    /// Give up the descriptor, to send it away for instance. Unclaimed children's
    /// descriptors are closed.
    fn from(uffd: UserFault) -> OwnedFd {
        uffd.fd
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no userfaultfd:")?;
        let doors = [("userfaultfd(2)", self.syscall), (DEVICE, self.device)];
        let mut tried = doors.iter().filter_map(|(door, answer)| Some((door, (*answer)?)));
        match (tried.next(), tried.next()) {
            (None, _) => return f.write_str(" no way to open one was allowed"),
            (Some((door, answer)), None) => write!(f, " {door}: {answer}")?,
            (Some((door, answer)), Some((other, second))) => {
                write!(f, " {door}: {answer}; {other}: {second}")?;
            }
        }
        match self.syscall.or(self.device) {
            Some(Errno::ENOSYS) => f.write_str("; this kernel is built without CONFIG_USERFAULTFD"),
            Some(Errno::EPERM | Errno::EACCES) if !self.user_mode_only => f.write_str(
                "; set vm.unprivileged_userfaultfd=1, grant CAP_SYS_PTRACE, or give this user \
                 read and write access to /dev/userfaultfd",
            ),
            Some(Errno::EPERM | Errno::EACCES) => {
                f.write_str("; a security policy (seccomp, a container profile) forbids it")
            }
            Some(Errno::EMFILE) => f.write_str("; raise the limit of open files (ulimit -n)"),
            _ => Ok(()),
        }
    }
}

impl core::error::Error for OpenError {}

impl fmt::Display for AdoptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdoptError::NotUserfaultfd(what) => {
                write!(f, "the descriptor is no userfaultfd but {what}")
            }
            AdoptError::Blocking => f.write_str(
                "the userfaultfd is blocking and cannot be polled; open it with O_NONBLOCK",
            ),
            AdoptError::Unknowable(e) => {
                write!(f, "cannot tell what the descriptor is ({e}); is /proc mounted?")
            }
        }
    }
}

impl core::error::Error for AdoptError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fdinfo_is_read_as_the_kernel_writes_it() {
        let text = "pos:\t0\nflags:\t02004002\nmnt_id:\t16\nino:\t1062\npending:\t2\n\
                    total:\t5\nAPI:\taa:80000008:80000000000001ff\n";
        let info = FdInfo::parse(text).unwrap();
        assert_eq!((info.pending, info.total), (2, 5));
        assert_eq!(info.features, Some(Features::EVENT_REMOVE));
        let before = text.replace("80000008", "0");
        assert_eq!(FdInfo::parse(&before).unwrap().features, None);
        assert_eq!(FdInfo::parse("pos:\t0\n"), None);
    }

    #[test]
    fn an_open_error_names_each_door_and_the_remedy() {
        let error = OpenError {
            syscall: Some(Errno::EPERM),
            device: Some(Errno::EACCES),
            user_mode_only: false,
        };
        let text = error.to_string();
        assert!(text.contains("userfaultfd(2): EPERM"), "{text}");
        assert!(text.contains("/dev/userfaultfd: EACCES"), "{text}");
        assert!(text.contains("vm.unprivileged_userfaultfd=1"), "{text}");
    }

    #[test]
    fn a_descriptor_of_something_else_is_refused_by_name() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let refused = UserFault::try_from(OwnedFd::from(file));
        assert_eq!(refused.unwrap_err(), AdoptError::NotUserfaultfd("/dev/null".into()));
    }
}
