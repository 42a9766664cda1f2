//! A refused `munmap` or `mmap`: why, and who has heard of it all the same. Owns the record;
//! the sending is the caller's.

use shims::Errno;

use super::{AddressSpace, CtxId};

/// Why a call was refused, and whom it had told before it was.
///
/// The VMAs of the range are looked at one after another, and each that is registered is
/// noted. If a later one is in the way, or a limit, the call fails, and yet the contexts that
/// were noted get their event (rule d16).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Refused {
    /// What the system call answers.
    pub errno: Errno,
    /// The contexts that hear of an unmapping that did not come, each once, in the order of
    /// their first VMAs.
    pub told: Vec<CtxId>,
}

impl From<Errno> for Refused {
    fn from(errno: Errno) -> Refused {
        Refused { errno, told: Vec::new() }
    }
}

impl AddressSpace {
    /// Refused after the VMAs that start in `[start, end)` were noted.
    #[cold]
    pub(super) fn refuse_after(&self, start: u64, end: u64, errno: Errno) -> Refused {
        let mut told = Vec::new();
        for vma in self.tree.iter_from(start).take_while(|vma| vma.start < end) {
            if let Some(ctx) = vma.ctx.filter(|ctx| !told.contains(ctx)) {
                told.push(ctx);
            }
        }
        Refused { errno, told }
    }
}
