//! A puppet's descriptors for the one that pulls the strings: a userfaultfd belongs to the
//! memory of the process that made it, and is served from outside.

use std::os::fd::{FromRawFd, OwnedFd};

use linux_raw_sys::general as sys;

use super::{Act, Stage};
use crate::Errno;
use crate::linux::vma_probe::{raw, result};
use crate::linux::{OpenFlags, abi};

const FLAGS: u64 = (sys::O_CLOEXEC | sys::O_NONBLOCK) as u64;
/// `USERFAULTFD_IOC_NEW`.
const DEVICE_NEW: u64 = 0xaa00;

impl Stage {
    /// A copy of the descriptor `number` of the process of the thread in `slot`.
    pub fn descriptor(&self, slot: usize, number: u64) -> Result<OwnedFd, Errno> {
        let pid = u64::from(self.ids(slot).0);
        // SAFETY: makes a descriptor, and touches no memory.
        let pidfd = result(unsafe { raw(sys::__NR_pidfd_open, [pid, 0, 0, 0, 0, 0]) })?;
        // SAFETY: as above.
        let copy = result(unsafe { raw(sys::__NR_pidfd_getfd, [pidfd, number, 0, 0, 0, 0]) });
        // SAFETY: this function made it, and nobody else knows it.
        drop(unsafe { OwnedFd::from_raw_fd(pidfd as i32) });
        // SAFETY: the call made it for us alone.
        copy.map(|copy| unsafe { OwnedFd::from_raw_fd(copy as i32) })
    }

    /// A new userfaultfd for the memory of the idle thread in `slot`: by the system call, or
    /// else by the device, whose name is put at the start of the scratch memory (rules a1, a2).
    /// The process keeps no copy.
    pub fn userfaultfd(&self, slot: usize, flags: OpenFlags) -> Result<OwnedFd, Errno> {
        let told = |number, args| {
            self.act(slot, Act::Syscall(number, args)).map_err(|_| Errno::EIO)?.value
        };
        let mut wanted = FLAGS;
        if flags.contains(OpenFlags::USER_MODE_ONLY) {
            wanted |= u64::from(abi::USER_MODE_ONLY);
        }
        let close = |number| told(sys::__NR_close, [number, 0, 0, 0, 0, 0]);
        let made = told(sys::__NR_userfaultfd, [wanted, 0, 0, 0, 0, 0]).or_else(|refused| {
            self.put(0, b"/dev/userfaultfd\0");
            let path = [sys::AT_FDCWD as i64 as u64, self.scratch(), 2, 0, 0, 0];
            let device = told(sys::__NR_openat, path).map_err(|_| refused)?;
            let made = told(sys::__NR_ioctl, [device, DEVICE_NEW, wanted, 0, 0, 0]);
            close(device)?;
            made
        });
        let number = made?;
        let copy = self.descriptor(slot, number);
        close(number)?;
        copy
    }
}
