//! The kernels that are known: which release has what (`docs/kernel/profiles.md` says where each
//! figure comes from). Only 6.18 was measured; its VMA layer and that of 6.12 are known, and
//! older kernels are given the latter.

use shims::{Errno, Features};

use super::{Bugs, GuardRules, Profile, RemapLen};
use crate::vma::Rules;

/// Bits 0 to 8: what came with 4.11, 4.14 and 5.7.
const SINCE_5_7: Features = Features::from_bits_retain(0x1ff);
const NO_GUARDS: GuardRules = GuardRules { exist: false, in_pagemap: false, withstand_copy: false };

impl Profile {
    /// The names [`Profile::by_name`] knows, newest last.
    pub const NAMES: &'static [&'static str] =
        &["5.7", "5.13", "5.15", "6.1", "6.6", "6.12", "6.18"];

    /// Linux 6.18, the kernel this simulator is measured against.
    pub fn linux_6_18() -> Profile {
        Profile {
            name: "6.18",
            version: (6, 18),
            vma: Rules::LINUX_6_18,
            features: Features::from_bits_retain(0x1ffff),
            again_field: super::AgainField::Mirrored,
            changing_gate: super::ChangingGate::Counter,
            remap_len: RemapLen::Moved,
            guard: GuardRules { exist: true, in_pagemap: true, withstand_copy: false },
            no_huge_page: Errno::EEXIST,
            madvise_self: true,
            bugs: Bugs::Z15,
        }
    }

    /// Linux 6.12, with its stable back-ports.
    pub fn linux_6_12() -> Profile {
        Profile {
            name: "6.12",
            version: (6, 12),
            vma: Rules::LINUX_6_12,
            remap_len: RemapLen::Asked,
            guard: NO_GUARDS,
            no_huge_page: Errno::ENOMEM,
            madvise_self: false,
            ..Profile::linux_6_18()
        }
        .with_bugs(Bugs::Z4 | Bugs::Z15)
    }

    /// Linux 6.6: neither `MOVE` nor `WP_ASYNC`; hugetlb passes the gate once (Z3), and a fork
    /// that fails is announced (Z7).
    pub fn linux_6_6() -> Profile {
        let late = Features::MOVE | Features::WP_ASYNC;
        let kernel = Profile::linux_6_12();
        let bugs = kernel.bugs() | Bugs::Z3 | Bugs::Z7;
        Profile { name: "6.6", version: (6, 6), features: kernel.features - late, ..kernel }
            .with_bugs(bugs)
    }

    /// Linux 6.1: neither `POISON` nor `WP_UNPOPULATED`.
    pub fn linux_6_1() -> Profile {
        let late = Features::POISON | Features::WP_UNPOPULATED;
        let kernel = Profile::linux_6_6();
        Profile { name: "6.1", version: (6, 1), features: kernel.features - late, ..kernel }
    }

    /// Linux 5.15: neither exact addresses nor write protection of memory files, and no device.
    pub fn linux_5_15() -> Profile {
        let late = Features::EXACT_ADDRESS | Features::WP_HUGETLBFS_SHMEM;
        let kernel = Profile::linux_6_1();
        Profile { name: "5.15", version: (5, 15), features: kernel.features - late, ..kernel }
    }

    /// Linux 5.13: no `MINOR` faults on tmpfs; the gate is a flag (Z2), and protection bits are
    /// inherited by children that are not watched (Z10).
    pub fn linux_5_13() -> Profile {
        let kernel = Profile::linux_5_15();
        let features = kernel.features - Features::MINOR_SHMEM;
        let bugs = kernel.bugs() | Bugs::Z2 | Bugs::Z10;
        Profile { name: "5.13", version: (5, 13), features, ..kernel }.with_bugs(bugs)
    }

    /// Linux 5.7: write protection is new, there are no `MINOR` faults at all, and anybody may
    /// open a userfaultfd.
    pub fn linux_5_7() -> Profile {
        let kernel = Profile::linux_5_13();
        Profile { name: "5.7", version: (5, 7), features: SINCE_5_7, ..kernel }
    }

    /// The profile of that name.
    pub fn by_name(name: &str) -> Option<Profile> {
        match name {
            "5.7" => Some(Profile::linux_5_7()),
            "5.13" => Some(Profile::linux_5_13()),
            "5.15" => Some(Profile::linux_5_15()),
            "6.1" => Some(Profile::linux_6_1()),
            "6.6" => Some(Profile::linux_6_6()),
            "6.12" => Some(Profile::linux_6_12()),
            "6.18" => Some(Profile::linux_6_18()),
            _ => None,
        }
    }
}
