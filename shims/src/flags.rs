//! The bit sets of the userfaultfd interface, with the kernel's own values. Owns the
//! names; which kernel knows which bit is `sim`'s profile's business.

use bitflags::bitflags;

bitflags! {
    /// Feature bits of `UFFDIO_API` (rule a8). Those that change behaviour once enabled
    /// are marked; the others only tell that an ioctl or a mode exists.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
    pub struct Features: u64 {
        /// Write-protect faults on anonymous memory exist.
        const PAGEFAULT_FLAG_WP = 1 << 0;
        /// Send `FORK` events (changes behaviour; needs `CAP_SYS_PTRACE`).
        const EVENT_FORK = 1 << 1;
        /// Send `REMAP` events and keep the registration of a moved range (changes behaviour).
        const EVENT_REMAP = 1 << 2;
        /// Send `REMOVE` events (changes behaviour).
        const EVENT_REMOVE = 1 << 3;
        /// `MISSING` faults on hugetlb exist.
        const MISSING_HUGETLBFS = 1 << 4;
        /// `MISSING` faults on shmem exist.
        const MISSING_SHMEM = 1 << 5;
        /// Send `UNMAP` events (changes behaviour).
        const EVENT_UNMAP = 1 << 6;
        /// Raise `SIGBUS` instead of queueing a fault (changes behaviour).
        const SIGBUS = 1 << 7;
        /// Report the faulting thread (changes behaviour).
        const THREAD_ID = 1 << 8;
        /// `MINOR` faults on hugetlb exist.
        const MINOR_HUGETLBFS = 1 << 9;
        /// `MINOR` faults on shmem exist.
        const MINOR_SHMEM = 1 << 10;
        /// Report the faulting byte, not its page (changes behaviour).
        const EXACT_ADDRESS = 1 << 11;
        /// Write protection of hugetlb and shmem exists.
        const WP_HUGETLBFS_SHMEM = 1 << 12;
        /// Write-protect absent anonymous pages too, by markers (changes behaviour).
        const WP_UNPOPULATED = 1 << 13;
        /// `UFFDIO_POISON` exists.
        const POISON = 1 << 14;
        /// Resolve write-protect faults in the kernel (changes behaviour).
        const WP_ASYNC = 1 << 15;
        /// `UFFDIO_MOVE` exists.
        const MOVE = 1 << 16;
        const _ = !0;
    }
}

bitflags! {
    /// Modes of `UFFDIO_REGISTER`.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
    pub struct RegisterModes: u64 {
        /// Report accesses to absent pages.
        const MISSING = 1 << 0;
        /// Report writes to protected pages.
        const WP = 1 << 1;
        /// Report accesses to pages that are in the page cache but not mapped.
        const MINOR = 1 << 2;
        const _ = !0;
    }
}

bitflags! {
    /// Flags of a page-fault message (rule c7). Neither `WP` nor `MINOR`: a page is missing.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
    pub struct FaultFlags: u64 {
        /// The access was a write, or the kernel asked for write permission on behalf of
        /// one. Not evidence of a write: a hypervisor's workers set it for reads.
        const WRITE = 1 << 0;
        /// A write to a protected page.
        const WP = 1 << 1;
        /// A page in the page cache that is not mapped.
        const MINOR = 1 << 2;
        const _ = !0;
    }
}

bitflags! {
    /// The ioctls a descriptor knows, as `UFFDIO_API` reports them.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
    pub struct ApiIoctls: u64 {
        /// `UFFDIO_REGISTER`.
        const REGISTER = 1 << 0;
        /// `UFFDIO_UNREGISTER`.
        const UNREGISTER = 1 << 1;
        /// `UFFDIO_API`.
        const API = 1 << 63;
        const _ = !0;
    }
}

bitflags! {
    /// The ioctls a registered range admits, as `UFFDIO_REGISTER` reports them (rule b6).
    /// Advisory: some of them fail all the same.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
    pub struct RangeIoctls: u64 {
        /// `UFFDIO_WAKE`.
        const WAKE = 1 << 2;
        /// `UFFDIO_COPY`.
        const COPY = 1 << 3;
        /// `UFFDIO_ZEROPAGE`.
        const ZEROPAGE = 1 << 4;
        /// `UFFDIO_MOVE`.
        const MOVE = 1 << 5;
        /// `UFFDIO_WRITEPROTECT`.
        const WRITEPROTECT = 1 << 6;
        /// `UFFDIO_CONTINUE`.
        const CONTINUE = 1 << 7;
        /// `UFFDIO_POISON`.
        const POISON = 1 << 8;
        const _ = !0;
    }
}

bitflags! {
    /// Modes of `UFFDIO_COPY`.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
    pub struct CopyMode: u64 {
        /// Do not wake the faulters.
        const DONTWAKE = 1 << 0;
        /// Map the page write-protected.
        const WP = 1 << 1;
        const _ = !0;
    }

    /// Modes of `UFFDIO_ZEROPAGE`.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
    pub struct ZeropageMode: u64 {
        /// Do not wake the faulters.
        const DONTWAKE = 1 << 0;
        const _ = !0;
    }

    /// Modes of `UFFDIO_CONTINUE`.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
    pub struct ContinueMode: u64 {
        /// Do not wake the faulters.
        const DONTWAKE = 1 << 0;
        /// Map the page write-protected.
        const WP = 1 << 1;
        const _ = !0;
    }

    /// Modes of `UFFDIO_WRITEPROTECT`. Note the order of the bits: it is not `COPY`'s.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
    pub struct WriteProtectMode: u64 {
        /// Protect; without it, un-protect and wake.
        const WP = 1 << 0;
        /// Do not wake the faulters. Together with `WP` it is `EINVAL` (rule e17).
        const DONTWAKE = 1 << 1;
        const _ = !0;
    }

    /// Modes of `UFFDIO_MOVE`.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
    pub struct MoveMode: u64 {
        /// Do not wake the faulters.
        const DONTWAKE = 1 << 0;
        /// Count an absent source page as moved.
        const ALLOW_SRC_HOLES = 1 << 1;
        const _ = !0;
    }

    /// Modes of `UFFDIO_POISON`.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
    pub struct PoisonMode: u64 {
        /// Do not wake the faulters.
        const DONTWAKE = 1 << 0;
        const _ = !0;
    }
}
