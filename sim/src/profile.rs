//! Kernel versions as data. Owns the switches of the userfaultfd layer; the switches of
//! the VMA layer are [`crate::vma::Rules`].

use crate::vma::Rules;
use shims::{Errno, Features};

/// What the result field of a resolving ioctl holds after `EAGAIN` for a changing address
/// space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum AgainField {
    /// `-EAGAIN` (6.15 and later; e1).
    Mirrored,
    /// What the caller left there (before 6.15; bug Z4).
    Untouched,
}

/// How `mmap_changing` is kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ChangingGate {
    /// A counter (5.15 and later; d3).
    Counter,
    /// A flag: the first of two removers to go on opens the gate for both (bug Z2).
    Flag,
}

/// What `len` a `REMAP` message has for a move that also shrinks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RemapLen {
    /// The length that has moved (d21).
    Moved,
    /// The old length that was asked for (6.12; h4).
    Asked,
}

/// What a kernel makes of `MADV_GUARD_INSTALL`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GuardRules {
    /// The two advices exist (6.13 and later).
    pub exist: bool,
    /// `pagemap` and `PAGEMAP_SCAN` tell a guard (6.15 and later).
    pub in_pagemap: bool,
    /// `COPY` does not replace a guard, and a faulter does not sleep on one (6.19 and later;
    /// c10, e10).
    pub withstand_copy: bool,
}

/// One kernel, as far as a program can tell it from another.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Profile {
    name: &'static str,
    version: (u16, u16),
    /// The switches of the VMA layer.
    pub vma: Rules,
    /// The features `UFFDIO_API` reports and accepts.
    pub features: Features,
    /// See [`AgainField`].
    pub again_field: AgainField,
    /// See [`ChangingGate`].
    pub changing_gate: ChangingGate,
    /// See [`RemapLen`].
    pub remap_len: RemapLen,
    /// See [`GuardRules`].
    pub guard: GuardRules,
    /// What a `COPY` to hugetlb says when there is no huge page left (rule e12).
    pub no_huge_page: Errno,
    /// Does `process_madvise` take every advice for the caller's own memory (6.13 and later)?
    pub madvise_self: bool,
}

impl Profile {
    /// The names [`Profile::by_name`] knows, newest last.
    pub const NAMES: &'static [&'static str] = &["5.13", "6.12", "6.18"];

    /// Linux 6.18, the kernel this simulator is measured against.
    pub fn linux_6_18() -> Profile {
        Profile {
            name: "6.18",
            version: (6, 18),
            vma: Rules::LINUX_6_18,
            features: Features::from_bits_retain(0x1ffff),
            again_field: AgainField::Mirrored,
            changing_gate: ChangingGate::Counter,
            remap_len: RemapLen::Moved,
            guard: GuardRules { exist: true, in_pagemap: true, withstand_copy: false },
            no_huge_page: Errno::EEXIST,
            madvise_self: true,
        }
    }

    /// Linux 6.12, with its stable back-ports.
    pub fn linux_6_12() -> Profile {
        Profile {
            name: "6.12",
            version: (6, 12),
            vma: Rules::LINUX_6_12,
            again_field: AgainField::Untouched,
            remap_len: RemapLen::Asked,
            guard: GuardRules { exist: false, in_pagemap: false, withstand_copy: false },
            no_huge_page: Errno::ENOMEM,
            madvise_self: false,
            ..Profile::linux_6_18()
        }
    }

    /// Linux 5.13: the gate is a flag (bug Z2) and the result field is left alone. Its VMA
    /// rules are those of 6.12, the oldest this crate knows.
    pub fn linux_5_13() -> Profile {
        Profile {
            name: "5.13",
            version: (5, 13),
            features: Features::from_bits_retain(0x3ff),
            changing_gate: ChangingGate::Flag,
            ..Profile::linux_6_12()
        }
    }

    /// The profile of that name.
    pub fn by_name(name: &str) -> Option<Profile> {
        match name {
            "5.13" => Some(Profile::linux_5_13()),
            "6.12" => Some(Profile::linux_6_12()),
            "6.18" => Some(Profile::linux_6_18()),
            _ => None,
        }
    }

    /// Does `/dev/userfaultfd` exist (6.1 and later; a2)?
    pub fn has_device(&self) -> bool {
        self.version >= (6, 1)
    }

    /// Does `userfaultfd(2)` know `UFFD_USER_MODE_ONLY` (5.11 and later; a1)?
    pub fn has_user_mode_only(&self) -> bool {
        self.version >= (5, 11)
    }

    /// The ioctls that `fdinfo` lists (rule a9).
    pub fn ioctls(&self) -> u64 {
        let mut ranged = shims::RangeIoctls::WAKE
            | shims::RangeIoctls::COPY
            | shims::RangeIoctls::ZEROPAGE
            | shims::RangeIoctls::WRITEPROTECT
            | shims::RangeIoctls::CONTINUE;
        ranged.set(shims::RangeIoctls::MOVE, self.features.contains(Features::MOVE));
        ranged.set(shims::RangeIoctls::POISON, self.features.contains(Features::POISON));
        ranged.bits() | shims::ApiIoctls::all().bits() & (1 << 63 | 3)
    }

    /// The name, as [`Profile::by_name`] takes it.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

impl Default for Profile {
    fn default() -> Profile {
        Profile::linux_6_18()
    }
}
