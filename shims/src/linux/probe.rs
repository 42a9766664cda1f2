//! What this kernel offers, and precisely why not. Owns the two-step handshake and the
//! gate by which tests skip themselves where there is no userfaultfd.

use core::fmt;

use super::fd::{OpenError, OpenFlags, UserFault};
use crate::{ApiIoctls, Errno, Features, Uffd};

/// What the kernel offers to this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capability {
    /// Every feature the kernel has.
    pub features: Features,
    /// The ioctls of a descriptor.
    pub ioctls: ApiIoctls,
    /// Whether faults of kernel mode are reported too; `false` when only
    /// [`OpenFlags::USER_MODE_ONLY`] was asked for.
    pub kernel_faults: bool,
}

/// Why userfaultfd, or a part of it, is not to be had here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unavailable {
    /// No descriptor could be opened.
    Open(OpenError),
    /// A descriptor was opened, and `UFFDIO_API` failed.
    Api {
        /// The features asked for.
        asked: Features,
        /// What the kernel answered.
        errno: Errno,
    },
    /// The kernel lacks these features.
    Features(Features),
}

impl Capability {
    /// Ask the kernel, on a descriptor of its own that is closed again: a handshake is
    /// final, even one without features (rules a6, a7).
    pub fn probe(flags: OpenFlags) -> Result<Capability, Unavailable> {
        let uffd = UserFault::open(flags).map_err(Unavailable::Open)?;
        let asked = Features::empty();
        let reply = uffd.api(asked).map_err(|errno| Unavailable::Api { asked, errno })?;
        Ok(Capability {
            features: reply.features,
            ioctls: reply.ioctls,
            kernel_faults: !flags.contains(OpenFlags::USER_MODE_ONLY),
        })
    }

    /// Are all of `features` there?
    pub fn require(&self, features: Features) -> Result<(), Unavailable> {
        let missing = features.difference(self.features);
        if missing.is_empty() { Ok(()) } else { Err(Unavailable::Features(missing)) }
    }

    /// The gate of a test that needs the real kernel with `features`. Where they are not
    /// to be had, it reports the test as skipped, by name and with the reason, and
    /// answers `None`.
    ///
    /// # Panics
    ///
    /// If they are not to be had and `FAULTBED_REQUIRE_KERNEL` is `1`: where the kernel
    /// is known to offer them, a skip would hide a broken backend.
    pub fn gate(test: &str, flags: OpenFlags, features: Features) -> Option<Capability> {
        let answer = Capability::probe(flags)
            .and_then(|capability| capability.require(features).map(|()| capability));
        match answer {
            Ok(capability) => Some(capability),
            Err(reason) => {
                skip(test, &reason);
                None
            }
        }
    }
}

/// Report `test` as skipped because of `reason`.
///
/// # Panics
///
/// If `FAULTBED_REQUIRE_KERNEL` is `1`.
pub(super) fn skip(test: &str, reason: &dyn fmt::Display) {
    let required = std::env::var_os("FAULTBED_REQUIRE_KERNEL").is_some_and(|v| v == "1");
    assert!(!required, "{test} may not be skipped (FAULTBED_REQUIRE_KERNEL=1): {reason}");
    // Past the test harness's capture, so that a skip shows in a passing run.
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
}

impl UserFault {
    /// Open a userfaultfd and enable `features`, having asked first whether the kernel
    /// has them: `UFFDIO_API` by itself answers a missing one with nothing but `EINVAL`.
    pub fn connect(
        flags: OpenFlags,
        features: Features,
    ) -> Result<(UserFault, Capability), Unavailable> {
        let capability = Capability::probe(flags)?;
        capability.require(features)?;
        let uffd = UserFault::open(flags).map_err(Unavailable::Open)?;
        uffd.api(features).map_err(|errno| Unavailable::Api { asked: features, errno })?;
        Ok((uffd, capability))
    }
}

/// `vm.unprivileged_userfaultfd`, if this kernel has it: whether a process without
/// `CAP_SYS_PTRACE` may handle faults of kernel mode.
pub fn unprivileged_sysctl() -> Option<bool> {
    let text = std::fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd").ok()?;
    text.trim().parse::<u8>().ok().map(|value| value != 0)
}

/// The names of a set, as `A | B`.
fn names(features: Features) -> String {
    let names: Vec<_> = features.iter_names().map(|(name, _)| name).collect();
    if names.is_empty() { "no features".into() } else { names.join(" | ") }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unavailable::Open(error) => write!(f, "{error}"),
            Unavailable::Api { asked, errno: Errno::EPERM }
                if asked.contains(Features::EVENT_FORK) =>
            {
                f.write_str("EVENT_FORK needs CAP_SYS_PTRACE: run as root or grant it")
            }
            Unavailable::Api { asked, errno } => {
                write!(f, "UFFDIO_API with {} answered {errno}", names(*asked))
            }
            Unavailable::Features(missing) => {
                write!(f, "this kernel lacks {}; a newer one is needed", names(*missing))
            }
        }
    }
}

impl core::error::Error for Unavailable {}
