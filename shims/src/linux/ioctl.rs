//! The ioctls. Owns the way from the seam's arguments to the kernel's structures and
//! back; the structures themselves are pinned in `abi.rs`.

use rustix::ioctl::{Opcode, Updater};

use super::fd::UserFault;
use super::{abi, errno};
use crate::{
    Addr, ApiIoctls, ApiReply, ContinueMode, CopyMode, Errno, Event, Features, Field, MoveMode,
    Outcome, PoisonMode, RangeIoctls, RegisterModes, Span, Uffd, WriteProtectMode, ZeropageMode,
};

/// What a result field holds before the call. The kernel writes a count or a negated
/// errno, so it never writes this (rule e2).
const SENTINEL: i64 = i64::MIN;

/// A structure that an ioctl of a userfaultfd reads and updates.
///
/// # Safety
///
/// `Self` is laid out as the kernel expects for every opcode it is passed with, and is
/// valid for any bytes.
unsafe trait Argument {}

// SAFETY: `repr(C)` structures of integers whose sizes and offsets `abi.rs` asserts.
unsafe impl Argument for abi::uffdio_api {}
// SAFETY: as above.
unsafe impl Argument for abi::uffdio_range {}
// SAFETY: as above.
unsafe impl Argument for abi::uffdio_register {}
// SAFETY: as above.
unsafe impl Argument for abi::uffdio_copy {}
// SAFETY: as above.
unsafe impl Argument for abi::uffdio_zeropage {}
// SAFETY: as above.
unsafe impl Argument for abi::uffdio_continue {}
// SAFETY: as above.
unsafe impl Argument for abi::uffdio_writeprotect {}
// SAFETY: as above.
unsafe impl Argument for abi::uffdio_move {}
// SAFETY: as above.
unsafe impl Argument for abi::uffdio_poison {}

impl UserFault {
    /// Perform one ioctl. `EINTR` is retried: nothing was done (rule e8).
    fn call<const OPCODE: Opcode, T: Argument>(&self, argument: &mut T) -> Result<(), Errno> {
        loop {
            // SAFETY: `T` is the structure of this opcode (each caller pairs them as
            // `abi.rs` does) and lives across the call; the descriptor is a userfaultfd,
            // so the opcode means what it says. What the ioctl does to the memory at the
            // addresses it names is argued in the module's documentation.
            let answer = unsafe { rustix::ioctl::ioctl(self, Updater::<OPCODE, T>::new(argument)) };
            match answer {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(errno(e)),
            }
        }
    }
}

fn range(span: Span) -> abi::uffdio_range {
    abi::uffdio_range { start: span.start.raw(), len: span.len.bytes() }
}

fn outcome(answer: Result<(), Errno>, field: i64) -> Outcome {
    Outcome { errno: answer.err(), field: Field::decode(field, SENTINEL) }
}

impl Uffd for UserFault {
    fn api(&self, features: Features) -> Result<ApiReply, Errno> {
        let mut arg =
            abi::uffdio_api { api: abi::API_VERSION, features: features.bits(), ioctls: 0 };
        self.call::<{ abi::API }, _>(&mut arg)?;
        Ok(ApiReply {
            features: Features::from_bits_retain(arg.features),
            ioctls: ApiIoctls::from_bits_retain(arg.ioctls),
        })
    }

    fn register(&self, span: Span, modes: RegisterModes) -> Result<RangeIoctls, Errno> {
        let mut arg = abi::uffdio_register { range: range(span), mode: modes.bits(), ioctls: 0 };
        self.call::<{ abi::REGISTER }, _>(&mut arg)?;
        Ok(RangeIoctls::from_bits_retain(arg.ioctls))
    }

    fn unregister(&self, span: Span) -> Result<(), Errno> {
        self.call::<{ abi::UNREGISTER }, _>(&mut range(span))
    }

    fn read_events(&self, out: &mut Vec<Event>, max: usize) -> Result<usize, Errno> {
        self.read_messages(out, max)
    }

    fn copy(&self, dst: Span, src: &[u8], mode: CopyMode) -> Outcome {
        assert!(
            src.len() as u64 >= dst.len.bytes(),
            "a copy of {} bytes needs as many source bytes, not {}",
            dst.len.bytes(),
            src.len()
        );
        let mut arg = abi::uffdio_copy {
            dst: dst.start.raw(),
            src: src.as_ptr().expose_provenance() as u64,
            len: dst.len.bytes(),
            mode: mode.bits(),
            copy: SENTINEL,
        };
        let answer = self.call::<{ abi::COPY }, _>(&mut arg);
        outcome(answer, arg.copy)
    }

    fn zeropage(&self, span: Span, mode: ZeropageMode) -> Outcome {
        let mut arg =
            abi::uffdio_zeropage { range: range(span), mode: mode.bits(), zeropage: SENTINEL };
        let answer = self.call::<{ abi::ZEROPAGE }, _>(&mut arg);
        outcome(answer, arg.zeropage)
    }

    fn continue_(&self, span: Span, mode: ContinueMode) -> Outcome {
        let mut arg =
            abi::uffdio_continue { range: range(span), mode: mode.bits(), mapped: SENTINEL };
        let answer = self.call::<{ abi::CONTINUE }, _>(&mut arg);
        outcome(answer, arg.mapped)
    }

    fn write_protect(&self, span: Span, mode: WriteProtectMode) -> Outcome {
        let mut arg = abi::uffdio_writeprotect { range: range(span), mode: mode.bits() };
        let answer = self.call::<{ abi::WRITEPROTECT }, _>(&mut arg);
        outcome(answer, SENTINEL)
    }

    fn move_(&self, dst: Span, src: Addr, mode: MoveMode) -> Outcome {
        let mut arg = abi::uffdio_move {
            dst: dst.start.raw(),
            src: src.raw(),
            len: dst.len.bytes(),
            mode: mode.bits(),
            move_: SENTINEL,
        };
        let answer = self.call::<{ abi::MOVE }, _>(&mut arg);
        outcome(answer, arg.move_)
    }

    fn poison(&self, span: Span, mode: PoisonMode) -> Outcome {
        let mut arg =
            abi::uffdio_poison { range: range(span), mode: mode.bits(), updated: SENTINEL };
        let answer = self.call::<{ abi::POISON }, _>(&mut arg);
        outcome(answer, arg.updated)
    }

    fn wake(&self, span: Span) -> Result<(), Errno> {
        self.call::<{ abi::WAKE }, _>(&mut range(span))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::Len;

    /// A descriptor that knows none of these ioctls.
    fn stranger() -> UserFault {
        UserFault::unchecked(OwnedFd::from(std::fs::File::open("/dev/null").unwrap()))
    }

    #[test]
    #[should_panic(expected = "needs as many source bytes")]
    fn a_copy_from_a_short_slice_is_a_bug() {
        let page = Span::new(Addr::ZERO, Len::new(4096));
        stranger().copy(page, &[0; 8], CopyMode::empty());
    }

    #[test]
    fn a_failed_ioctl_leaves_the_field_untouched() {
        let page = Span::new(Addr::ZERO, Len::new(4096));
        let answer = stranger().zeropage(page, ZeropageMode::empty());
        assert_eq!(answer, Outcome::bare(Errno::ENOTTY));
    }

    #[test]
    fn the_end_of_a_file_is_no_message() {
        assert_eq!(stranger().read_events(&mut Vec::new(), 8), Ok(0));
    }
}
