//! Faults of kernels as switches (`docs/kernel/bugs.md`): each can be put into any profile, and
//! taken out of one that has it. Owns the names and what a switch stands for; what it changes is
//! asked where it happens.

use core::fmt;

use bitflags::bitflags;

use super::{AgainField, ChangingGate, Profile};

bitflags! {
    /// Faults that a kernel can have. Each bit is the fault of that number.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
    pub struct Bugs: u32 {
        /// There is no gate: ioctls resolve while an event is unread.
        const Z1 = 1 << 1;
        /// The gate is a flag: the first of two that go on opens it for both.
        const Z2 = 1 << 2;
        /// A `COPY` to hugetlb that has passed the gate does not look at it again.
        const Z3 = 1 << 3;
        /// The result field of `EAGAIN` is not written.
        const Z4 = 1 << 4;
        /// A failed `mremap` leaves the count raised.
        const Z5 = 1 << 5;
        /// `MOVE` does not look at the gate.
        const Z6 = 1 << 6;
        /// A `fork` that failed half-way is announced all the same.
        const Z7 = 1 << 7;
        /// A `FORK` event whose descriptor cannot be made is lost.
        const Z8 = 1 << 8;
        /// A child that is not watched keeps the protection bits.
        const Z10 = 1 << 10;
        /// A faulter does not look at the page again before it sleeps.
        const Z14 = 1 << 14;
        /// A system call that copies spins on a fault while a signal is pending.
        const Z15 = 1 << 15;
        /// `COPY` and `ZEROPAGE` say `ENOSPC` when the process is gone.
        const Z16 = 1 << 16;
        /// A fault can be repeated once; the second time is `SIGBUS`.
        const Z18 = 1 << 18;
    }
}

/// Faults without a switch, and why.
pub const UNSWITCHED: &[(&str, &str)] = &[
    ("Z9", "what a process frees while it exits is not modelled: it goes in one step"),
    ("Z11", "large folios do not fail to split here"),
    ("Z12", "swap is not modelled"),
    ("Z13", "a folio has no state of its own here"),
    ("Z17", "no kernel is without it: b16 is how UNREGISTER works"),
];

/// A name that is no switch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnknownBug(String);

impl fmt::Display for UnknownBug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.strip_prefix("no-").unwrap_or(&self.0);
        if let Some((_, why)) = UNSWITCHED.iter().find(|(id, _)| *id == name) {
            return write!(f, "{name} has no switch: {why}");
        }
        let names: Vec<_> = Bugs::all().iter_names().map(|(name, _)| name).collect();
        write!(
            f,
            "expected one of {}, or no- and one of them, found `{}`",
            names.join(", "),
            self.0
        )
    }
}

impl core::error::Error for UnknownBug {}

impl Profile {
    /// Does this kernel have all of these faults?
    #[inline]
    pub const fn has_bug(&self, bug: Bugs) -> bool {
        self.bugs.contains(bug)
    }

    /// The faults it has.
    pub const fn bugs(&self) -> Bugs {
        self.bugs
    }

    /// The same kernel with these faults and no others.
    #[must_use]
    pub fn with_bugs(mut self, bugs: Bugs) -> Profile {
        self.bugs = bugs;
        self.changing_gate =
            if bugs.contains(Bugs::Z2) { ChangingGate::Flag } else { ChangingGate::Counter };
        self.again_field =
            if bugs.contains(Bugs::Z4) { AgainField::Untouched } else { AgainField::Mirrored };
        self
    }

    /// Switch a fault on, by name (`Z5`), or off (`no-Z15`).
    pub fn switch_bug(self, word: &str) -> Result<Profile, UnknownBug> {
        let (name, on) = word.strip_prefix("no-").map_or((word, true), |name| (name, false));
        let bug = Bugs::from_name(name).ok_or_else(|| UnknownBug(word.to_owned()))?;
        let mut bugs = self.bugs;
        bugs.set(bug, on);
        Ok(self.with_bugs(bugs))
    }

    /// The words that make this kernel from the one its name stands for.
    pub fn bug_words(&self) -> Vec<String> {
        let usual = Profile::by_name(self.name).map_or(Bugs::empty(), |profile| profile.bugs);
        let on = (self.bugs - usual).iter_names().map(|(name, _)| name.to_owned());
        let off = (usual - self.bugs).iter_names().map(|(name, _)| format!("no-{name}"));
        on.chain(off).collect()
    }
}
