//! The flag word of a VMA and the protection bits a program asks for. Owns the names; which
//! of them block a merge is `merge.rs`'s business.

use core::fmt;

use bitflags::bitflags;
use shims::RegisterModes;

bitflags! {
    /// What a VMA is and may become (rule v2.1). The bit positions are this crate's own; the
    /// two-letter tokens of [`VmaFlags::TOKENS`] are those of `/proc/PID/smaps`.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
    pub struct VmaFlags: u64 {
        /// May be read now.
        const READ = 1 << 0;
        /// May be written now.
        const WRITE = 1 << 1;
        /// May be executed now.
        const EXEC = 1 << 2;
        /// Writes reach the file.
        const SHARED = 1 << 3;
        /// `mprotect` may add `READ`.
        const MAYREAD = 1 << 4;
        /// `mprotect` may add `WRITE`.
        const MAYWRITE = 1 << 5;
        /// `mprotect` may add `EXEC`.
        const MAYEXEC = 1 << 6;
        /// Mapped with `MAP_SHARED`, even if the file could not be written.
        const MAYSHARE = 1 << 7;
        /// Grows downward on a fault below it: a stack.
        const GROWSDOWN = 1 << 8;
        /// `mlock`ed.
        const LOCKED = 1 << 9;
        /// `mlock`ed, but pages are locked only as they are faulted in.
        const LOCKONFAULT = 1 << 10;
        /// Charged against the commit limit.
        const ACCOUNT = 1 << 11;
        /// `MAP_NORESERVE`.
        const NORESERVE = 1 << 12;
        /// Not copied by `fork` (`MADV_DONTFORK`).
        const DONTCOPY = 1 << 13;
        /// Empty in the child of a `fork` (`MADV_WIPEONFORK`).
        const WIPEONFORK = 1 << 14;
        /// Left out of a core dump.
        const DONTDUMP = 1 << 15;
        /// `MADV_SEQUENTIAL`.
        const SEQ_READ = 1 << 16;
        /// `MADV_RANDOM`.
        const RAND_READ = 1 << 17;
        /// `MADV_HUGEPAGE`.
        const HUGEPAGE = 1 << 18;
        /// `MADV_NOHUGEPAGE`.
        const NOHUGEPAGE = 1 << 19;
        /// `MADV_MERGEABLE`.
        const MERGEABLE = 1 << 20;
        /// Registered for missing faults.
        const UFFD_MISSING = 1 << 21;
        /// Registered for write-protect faults.
        const UFFD_WP = 1 << 22;
        /// Registered for minor faults.
        const UFFD_MINOR = 1 << 23;
        /// `mseal`ed.
        const SEALED = 1 << 24;
        /// A guard region was once installed somewhere in it; sticky.
        const MAYBE_GUARD = 1 << 25;
        /// Backed by huge pages of a hugetlb file.
        const HUGETLB = 1 << 26;
        /// `MAP_DROPPABLE`.
        const DROPPABLE = 1 << 27;
        /// Device memory.
        const IO = 1 << 28;
        /// Raw page frames, no `struct page`.
        const PFNMAP = 1 << 29;
        /// May not grow with `mremap`.
        const DONTEXPAND = 1 << 30;
        /// Page frames with and without `struct page`.
        const MIXEDMAP = 1 << 31;
        /// Written since the last reset (kernels with soft-dirty tracking); sticky.
        const SOFTDIRTY = 1 << 32;
        /// A shadow stack.
        const SHADOW_STACK = 1 << 33;
    }
}

impl VmaFlags {
    /// The bits `mprotect` replaces.
    pub const ACCESS: VmaFlags = VmaFlags::READ.union(VmaFlags::WRITE).union(VmaFlags::EXEC);
    /// The three registration modes of userfaultfd.
    pub const UFFD: VmaFlags =
        VmaFlags::UFFD_MISSING.union(VmaFlags::UFFD_WP).union(VmaFlags::UFFD_MINOR);
    /// Both lock bits.
    pub const LOCK: VmaFlags = VmaFlags::LOCKED.union(VmaFlags::LOCKONFAULT);
    /// Ranges with one of these never merge with anything (v2.2, condition 9).
    pub const SPECIAL: VmaFlags =
        VmaFlags::IO.union(VmaFlags::DONTEXPAND).union(VmaFlags::PFNMAP).union(VmaFlags::MIXEDMAP);
    /// What every private anonymous mapping may become.
    pub const MAY: VmaFlags = VmaFlags::MAYREAD.union(VmaFlags::MAYWRITE).union(VmaFlags::MAYEXEC);

    /// Each flag that a layout or `smaps` shows by a token, in the order they are printed.
    pub const TOKENS: &'static [(VmaFlags, &'static str)] = &[
        (VmaFlags::READ, "rd"),
        (VmaFlags::WRITE, "wr"),
        (VmaFlags::EXEC, "ex"),
        (VmaFlags::SHARED, "sh"),
        (VmaFlags::MAYREAD, "mr"),
        (VmaFlags::MAYWRITE, "mw"),
        (VmaFlags::MAYEXEC, "me"),
        (VmaFlags::MAYSHARE, "ms"),
        (VmaFlags::GROWSDOWN, "gd"),
        (VmaFlags::PFNMAP, "pf"),
        (VmaFlags::LOCKED, "lo"),
        (VmaFlags::IO, "io"),
        (VmaFlags::SEQ_READ, "sr"),
        (VmaFlags::RAND_READ, "rr"),
        (VmaFlags::DONTCOPY, "dc"),
        (VmaFlags::DONTEXPAND, "de"),
        (VmaFlags::LOCKONFAULT, "lf"),
        (VmaFlags::ACCOUNT, "ac"),
        (VmaFlags::NORESERVE, "nr"),
        (VmaFlags::HUGETLB, "ht"),
        (VmaFlags::WIPEONFORK, "wf"),
        (VmaFlags::DONTDUMP, "dd"),
        (VmaFlags::SOFTDIRTY, "sd"),
        (VmaFlags::MIXEDMAP, "mm"),
        (VmaFlags::HUGEPAGE, "hg"),
        (VmaFlags::NOHUGEPAGE, "nh"),
        (VmaFlags::MERGEABLE, "mg"),
        (VmaFlags::UFFD_MISSING, "um"),
        (VmaFlags::UFFD_WP, "uw"),
        (VmaFlags::UFFD_MINOR, "ui"),
        (VmaFlags::SHADOW_STACK, "ss"),
        (VmaFlags::MAYBE_GUARD, "gu"),
        (VmaFlags::DROPPABLE, "dp"),
        (VmaFlags::SEALED, "sl"),
    ];

    /// The flag of that `smaps` token.
    pub fn from_token(token: &str) -> Option<VmaFlags> {
        Self::TOKENS.iter().find(|(_, name)| *name == token).map(|(flag, _)| *flag)
    }

    /// The registration modes among these flags.
    pub fn uffd_modes(self) -> RegisterModes {
        // The three stand in the same order in both.
        const SHIFT: u32 = VmaFlags::UFFD_MISSING.bits().trailing_zeros();
        const _: () = assert!(
            VmaFlags::UFFD_MISSING.bits() >> SHIFT == RegisterModes::MISSING.bits()
                && VmaFlags::UFFD_WP.bits() >> SHIFT == RegisterModes::WP.bits()
                && VmaFlags::UFFD_MINOR.bits() >> SHIFT == RegisterModes::MINOR.bits()
        );
        let modes = self.intersection(VmaFlags::UFFD).bits() >> SHIFT;
        RegisterModes::from_bits_retain(modes)
    }

    /// The flags of these registration modes.
    pub fn of_uffd_modes(modes: RegisterModes) -> VmaFlags {
        let mut flags = VmaFlags::empty();
        flags.set(VmaFlags::UFFD_MISSING, modes.contains(RegisterModes::MISSING));
        flags.set(VmaFlags::UFFD_WP, modes.contains(RegisterModes::WP));
        flags.set(VmaFlags::UFFD_MINOR, modes.contains(RegisterModes::MINOR));
        flags
    }
}

impl fmt::Debug for VmaFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for (flag, token) in VmaFlags::TOKENS {
            if self.contains(*flag) {
                write!(f, "{}{token}", if first { "" } else { " " })?;
                first = false;
            }
        }
        if first { f.write_str("(none)") } else { Ok(()) }
    }
}

/// What a program asks `mmap` or `mprotect` for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Prot(u8);

impl Prot {
    /// No access.
    pub const NONE: Prot = Prot(0);
    /// Read.
    pub const READ: Prot = Prot(1);
    /// Write.
    pub const WRITE: Prot = Prot(2);
    /// Execute.
    pub const EXEC: Prot = Prot(4);
    /// Read and write.
    pub const RW: Prot = Prot(3);
    /// Read and execute.
    pub const RX: Prot = Prot(5);
    /// All three.
    pub const RWX: Prot = Prot(7);

    /// The protection of these bits of the system call; `None` if there are others.
    pub const fn from_bits(bits: u64) -> Option<Prot> {
        if bits < 8 { Some(Prot(bits as u8)) } else { None }
    }

    /// The bits of the system call.
    pub const fn bits(self) -> u64 {
        self.0 as u64
    }

    /// The VMA flags that grant this.
    pub const fn flags(self) -> VmaFlags {
        // `READ`, `WRITE` and `EXEC` are the same three bits in both words.
        VmaFlags::from_bits_truncate(self.0 as u64)
    }
}

impl fmt::Debug for Prot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bit = |mask, letter| if self.0 & mask != 0 { letter } else { '-' };
        write!(f, "{}{}{}", bit(1, 'r'), bit(2, 'w'), bit(4, 'x'))
    }
}
