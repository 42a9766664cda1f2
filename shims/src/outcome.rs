//! What a resolving ioctl answered. Owns the two numbers the kernel reports, and the
//! only reading of them that is safe.
//!
//! `UFFDIO_COPY` and its siblings report an errno *and* write a signed field of their
//! argument: bytes done, or a negated errno, or nothing at all (rules e1 to e3). Handlers
//! have mistaken `-11` for an enormous byte count; here a negative field is not a number
//! of bytes by type.

use core::fmt;

use crate::Errno;

/// What the kernel left in the result field (`copy`, `zeropage`, `mapped`, `updated`,
/// `move`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Field {
    /// The kernel did not write the field: the ioctl has none, or failed before it got
    /// there (rule e2), or the kernel is older than 6.15 and said `EAGAIN`.
    #[default]
    Untouched,
    /// Bytes resolved, counted from the start of the range.
    Bytes(u64),
    /// A negated errno.
    Error(Errno),
}

/// The answer of a resolving ioctl.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Outcome {
    /// The errno, if the ioctl returned -1.
    pub errno: Option<Errno>,
    /// The result field.
    pub field: Field,
}

/// What an [`Outcome`] means for a handler.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Verdict {
    /// The whole range is resolved and its faulters are woken, unless `DONTWAKE`.
    Done,
    /// The first so many bytes are resolved and their faulters woken; the reason why it
    /// stopped shows when the rest is tried (rule e3).
    Partial(u64),
    /// Nothing was done: the address space is changing. Read messages, then try again
    /// (rules d3, e1).
    Changing,
    /// `EEXIST`: a page is there already. Nobody was woken (rule e5).
    Present,
    /// `ENOENT`: the range is no longer one registered mapping.
    NoMapping,
    /// `ESRCH`: the process is gone.
    Dead,
    /// Any other error; nothing was done.
    Failed(Errno),
}

impl Field {
    /// The field from its raw value, `sentinel` being what the caller had put there.
    pub const fn decode(raw: i64, sentinel: i64) -> Field {
        if raw == sentinel {
            Field::Untouched
        } else if raw >= 0 {
            Field::Bytes(raw as u64)
        } else {
            let magnitude = raw.unsigned_abs();
            let code = if magnitude <= i32::MAX as u64 { magnitude as i32 } else { i32::MAX };
            match Errno::from_raw(code) {
                Some(errno) => Field::Error(errno),
                None => Field::Untouched,
            }
        }
    }
}

impl Outcome {
    /// Success over `bytes` bytes.
    pub const fn done(bytes: u64) -> Outcome {
        Outcome { errno: None, field: Field::Bytes(bytes) }
    }

    /// Success of an ioctl without a result field.
    pub const OK: Outcome = Outcome { errno: None, field: Field::Untouched };

    /// Failure that left the field alone.
    pub const fn bare(errno: Errno) -> Outcome {
        Outcome { errno: Some(errno), field: Field::Untouched }
    }

    /// Failure mirrored into the field.
    pub const fn mirrored(errno: Errno) -> Outcome {
        Outcome { errno: Some(errno), field: Field::Error(errno) }
    }

    /// Some of the range was done, then it stopped: `EAGAIN` with a positive field.
    pub const fn partial(bytes: u64) -> Outcome {
        Outcome { errno: Some(Errno::EAGAIN), field: Field::Bytes(bytes) }
    }

    /// Bytes resolved: never what a negative or an untouched field holds.
    pub const fn bytes_done(self) -> u64 {
        match self.field {
            Field::Bytes(bytes) => bytes,
            Field::Untouched | Field::Error(_) => 0,
        }
    }

    /// What this means. The errno decides; the field only tells how far it got.
    pub const fn verdict(self) -> Verdict {
        match (self.errno, self.field) {
            (None, _) => Verdict::Done,
            (Some(Errno::EAGAIN), Field::Bytes(bytes)) if bytes > 0 => Verdict::Partial(bytes),
            (Some(Errno::EAGAIN), _) => Verdict::Changing,
            (Some(Errno::EEXIST), _) => Verdict::Present,
            (Some(Errno::ENOENT), _) => Verdict::NoMapping,
            (Some(Errno::ESRCH), _) => Verdict::Dead,
            (Some(errno), _) => Verdict::Failed(errno),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.errno {
            None => f.write_str("ok")?,
            Some(errno) => write!(f, "{errno:?}")?,
        }
        match self.field {
            Field::Untouched => Ok(()),
            Field::Bytes(bytes) => write!(f, " [{bytes}]"),
            Field::Error(errno) => write!(f, " [-{}]", errno.raw()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negative_field_is_never_progress() {
        let outcome = Outcome { errno: Some(Errno::EAGAIN), field: Field::decode(-11, i64::MIN) };
        assert_eq!(outcome.bytes_done(), 0);
        assert_eq!(outcome.verdict(), Verdict::Changing);
        assert_eq!(outcome.to_string(), "EAGAIN [-11]");
    }

    #[test]
    fn all_three_encodings_of_nothing_done_are_the_same_verdict() {
        // 6.18 mirrors the errno, kernels before 6.15 leave the field alone, and a caller
        // that had zeroed it then reads 0.
        for field in [Field::Error(Errno::EAGAIN), Field::Untouched, Field::Bytes(0)] {
            let outcome = Outcome { errno: Some(Errno::EAGAIN), field };
            assert_eq!(outcome.verdict(), Verdict::Changing, "{field:?}");
        }
        assert_eq!(Outcome::partial(4096).verdict(), Verdict::Partial(4096));
    }

    #[test]
    fn an_untouched_field_is_told_from_a_written_one() {
        assert_eq!(Field::decode(i64::MIN, i64::MIN), Field::Untouched);
        assert_eq!(Field::decode(0, i64::MIN), Field::Bytes(0));
        assert_eq!(Field::decode(8192, i64::MIN), Field::Bytes(8192));
        assert_eq!(Field::decode(-17, i64::MIN), Field::Error(Errno::EEXIST));
    }
}
