//! Kernel versions as data. Owns the switches of the userfaultfd layer; the switches of
//! the VMA layer are [`crate::vma::Rules`]. The kernels themselves are in `linux.rs`, their
//! faults in `bugs.rs`.

mod bugs;
mod linux;

use crate::vma::Rules;
use shims::{ApiIoctls, Errno, Features, RangeIoctls};

pub use bugs::{Bugs, UNSWITCHED, UnknownBug};

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
    /// See [`AgainField`], and [`Profile::with_bugs`].
    pub again_field: AgainField,
    /// See [`ChangingGate`], and [`Profile::with_bugs`].
    pub changing_gate: ChangingGate,
    /// See [`RemapLen`].
    pub remap_len: RemapLen,
    /// See [`GuardRules`].
    pub guard: GuardRules,
    /// What a `COPY` to hugetlb says when there is no huge page left (rule e12).
    pub no_huge_page: Errno,
    /// Does `process_madvise` take every advice for the caller's own memory (6.13 and later)?
    pub madvise_self: bool,
    bugs: Bugs,
}

impl Profile {
    /// Does `/dev/userfaultfd` exist (6.1 and later; a2)?
    pub fn has_device(&self) -> bool {
        self.version >= (6, 1)
    }

    /// Does `userfaultfd(2)` know `UFFD_USER_MODE_ONLY` (5.11 and later; a1)?
    pub fn has_user_mode_only(&self) -> bool {
        self.version >= (5, 11)
    }

    /// May anybody open a userfaultfd, unless the administrator says otherwise (before 5.11)?
    pub fn unprivileged(&self) -> bool {
        self.version < (5, 11)
    }

    /// The ioctls that `fdinfo` lists (rule a9).
    pub fn ioctls(&self) -> u64 {
        let has = |feature| self.features.contains(feature);
        let mut ranged = RangeIoctls::WAKE
            | RangeIoctls::COPY
            | RangeIoctls::ZEROPAGE
            | RangeIoctls::WRITEPROTECT;
        ranged.set(RangeIoctls::CONTINUE, has(Features::MINOR_HUGETLBFS));
        ranged.set(RangeIoctls::POISON, has(Features::POISON));
        ranged.set(RangeIoctls::MOVE, has(Features::MOVE));
        let whole = ApiIoctls::API | ApiIoctls::REGISTER | ApiIoctls::UNREGISTER;
        ranged.bits() | whole.bits()
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
