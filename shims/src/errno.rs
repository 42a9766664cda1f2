//! Error numbers as Linux reports them, on every platform. Owns the names; owns no
//! policy about them.

use core::fmt;

/// An error number of Linux on x86-64, whatever the host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errno(i32);

macro_rules! errnos {
    ($($name:ident = $value:literal, $text:literal;)*) => {
        impl Errno {
            $(#[doc = $text] pub const $name: Errno = Errno($value);)*

            const fn table(self) -> Option<(&'static str, &'static str)> {
                match self.0 {
                    $($value => Some((stringify!($name), $text)),)*
                    _ => None,
                }
            }

            /// The error number of that name (`"EAGAIN"`), if it is one that this crate
            /// names.
            pub fn from_name(name: &str) -> Option<Errno> {
                match name {
                    $(stringify!($name) => Some(Errno($value)),)*
                    _ => None,
                }
            }
        }
    };
}

errnos! {
    EPERM = 1, "operation not permitted";
    ENOENT = 2, "no such mapping or file";
    ESRCH = 3, "the process is gone";
    EINTR = 4, "interrupted by a signal";
    EIO = 5, "input/output error";
    EBADF = 9, "bad file descriptor";
    EAGAIN = 11, "try again";
    ENOMEM = 12, "out of memory, or no mapping there";
    EACCES = 13, "permission denied";
    EFAULT = 14, "bad address";
    EBUSY = 16, "busy";
    EEXIST = 17, "already there";
    ENODEV = 19, "no such device";
    EINVAL = 22, "invalid argument";
    ENFILE = 23, "too many open files in the system";
    EMFILE = 24, "too many open files";
    ENOTTY = 25, "not an ioctl of this file";
    EFBIG = 27, "file too large";
    ENOSPC = 28, "no space left";
    ESPIPE = 29, "illegal seek";
    EPIPE = 32, "broken pipe";
    ENOSYS = 38, "no such system call";
    EOVERFLOW = 75, "value too large";
    EOPNOTSUPP = 95, "operation not supported";
    EHWPOISON = 133, "the page is poisoned";
    ENOTMODELLED = 9999, "not modelled by the simulator (no kernel returns this)";
}

impl Errno {
    /// The error with that number; `None` unless it is positive.
    pub const fn from_raw(raw: i32) -> Option<Errno> {
        if raw > 0 { Some(Errno(raw)) } else { None }
    }

    /// The number, positive.
    pub const fn raw(self) -> i32 {
        self.0
    }

    /// `EAGAIN`-like name, if it is one that this crate names.
    pub const fn name(self) -> Option<&'static str> {
        match self.table() {
            Some((name, _)) => Some(name),
            None => None,
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.table() {
            Some((name, text)) => write!(f, "{name} ({text})"),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl core::error::Error for Errno {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for errno in [Errno::EAGAIN, Errno::EHWPOISON, Errno::ENOTMODELLED] {
            assert_eq!(Errno::from_name(errno.name().unwrap()), Some(errno));
        }
        assert_eq!(Errno::from_raw(11), Some(Errno::EAGAIN));
        assert_eq!(Errno::from_raw(0), None);
        assert_eq!(Errno::from_raw(-11), None);
        assert_eq!(Errno(4095).to_string(), "errno 4095");
        assert_eq!(format!("{:?} {}", Errno::EAGAIN, Errno::EAGAIN), "EAGAIN EAGAIN (try again)");
    }
}
