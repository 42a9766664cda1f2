//! A puppet's descriptors for the one that pulls the strings: a userfaultfd belongs to the
//! memory of the process that made it, and is served from outside.

use std::os::fd::{FromRawFd, OwnedFd};

use linux_raw_sys::general as sys;

use super::{Act, Stage};
use crate::Errno;
use crate::linux::vma_probe::{raw, result};

/// `UFFD_USER_MODE_ONLY` is not among them: the kernel faults on behalf of puppets too.
const FLAGS: u64 = (sys::O_CLOEXEC | sys::O_NONBLOCK) as u64;

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

    /// A new userfaultfd for the memory of the idle thread in `slot`. The process keeps no
    /// copy.
    pub fn userfaultfd(&self, slot: usize) -> Result<OwnedFd, Errno> {
        let told = |number, first| {
            let act = Act::Syscall(number, [first, 0, 0, 0, 0, 0]);
            self.act(slot, act).map_err(|_| Errno::EIO)?.value
        };
        let number = told(sys::__NR_userfaultfd, FLAGS)?;
        let copy = self.descriptor(slot, number);
        told(sys::__NR_close, number)?;
        copy
    }
}
