//! Kernel versions and limits as data. Owns the switches; the operations ask them.

/// What differs between kernels in the VMA layer (docs/kernel/vma.md, v2.12). Data, not
/// code: an operation asks a switch, never a version.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Rules {
    /// May a faulted range merge into an unfaulted neighbour (v2.3)?
    pub faulted_into_unfaulted: bool,
    /// Do `MAYBE_GUARD` (and soft-dirty, where configured) survive a merge (v2.2)?
    pub sticky_guard: bool,
    /// May one `mremap` move several VMAs (v2.10)?
    pub multi_vma_mremap: bool,
    /// Does `MREMAP_DONTUNMAP` of an unfaulted VMA merge with its own source (v2.10)?
    pub dontunmap_self_merge: bool,
    /// Is the page offset of what `MREMAP_DONTUNMAP` leaves behind reset (v2.10)?
    pub dontunmap_renormalises: bool,
    /// Does `MREMAP_DONTUNMAP` of a part split a locked VMA first (v2.10)?
    pub dontunmap_splits_locked: bool,
    /// Is unregistering another context's VMA refused with `EINVAL` (b12)?
    pub unregister_checks_owner: bool,
    /// Is a `DROPPABLE` VMA refused by `UFFDIO_REGISTER` (b5)?
    pub register_refuses_droppable: bool,
    /// Does `MREMAP_FIXED` look at the source before it unmaps the target (v2.10)?
    pub mremap_checks_source_first: bool,
    /// Does every `mremap` fail up front when `count + 4 > max` (v2.6)?
    pub mremap_limit_up_front: bool,
}

impl Rules {
    /// Linux 6.12 with its stable back-ports.
    pub const LINUX_6_12: Rules = Rules {
        faulted_into_unfaulted: false,
        sticky_guard: false,
        multi_vma_mremap: false,
        dontunmap_self_merge: false,
        dontunmap_renormalises: true,
        dontunmap_splits_locked: true,
        unregister_checks_owner: false,
        register_refuses_droppable: false,
        mremap_checks_source_first: false,
        mremap_limit_up_front: false,
    };

    /// Linux 6.18, the kernel this layer is compared with.
    pub const LINUX_6_18: Rules = Rules {
        faulted_into_unfaulted: true,
        sticky_guard: true,
        multi_vma_mremap: true,
        dontunmap_self_merge: true,
        dontunmap_renormalises: false,
        dontunmap_splits_locked: false,
        unregister_checks_owner: true,
        register_refuses_droppable: true,
        mremap_checks_source_first: true,
        mremap_limit_up_front: false,
    };

    /// Linux 7.1.
    pub const LINUX_7_1: Rules = Rules { mremap_limit_up_front: true, ..Rules::LINUX_6_18 };
}

/// The limits of an address space, in bytes unless a field says otherwise.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Limits {
    /// `vm.max_map_count`, in VMAs.
    pub max_map_count: usize,
    /// One past the highest address a program may use.
    pub task_size: u64,
    /// Where top-down placement starts; nothing without a hint goes at or above it.
    pub mmap_base: u64,
    /// Where bottom-up placement starts, the second resort.
    pub legacy_base: u64,
    /// `vm.mmap_min_addr`.
    pub mmap_min_addr: u64,
    /// The guard gap below a stack.
    pub stack_guard_gap: u64,
    /// `RLIMIT_AS`.
    pub rlimit_as: u64,
    /// `RLIMIT_DATA`.
    pub rlimit_data: u64,
    /// `RLIMIT_STACK`.
    pub rlimit_stack: u64,
    /// `RLIMIT_MEMLOCK`.
    pub rlimit_memlock: u64,
    /// `CAP_IPC_LOCK`: the lock limit does not apply.
    pub may_lock_any: bool,
}

impl Default for Limits {
    /// The defaults of x86-64 with four-level page tables, without address randomisation and
    /// with an 8 MiB stack; resource limits off.
    fn default() -> Limits {
        Limits {
            max_map_count: 65_530,
            task_size: 0x7fff_ffff_f000,
            mmap_base: 0x7fff_f7ff_f000,
            legacy_base: 0x2aaa_aaaa_a000,
            mmap_min_addr: 0x1_0000,
            stack_guard_gap: 256 << 12,
            rlimit_as: u64::MAX,
            rlimit_data: u64::MAX,
            rlimit_stack: u64::MAX,
            rlimit_memlock: u64::MAX,
            may_lock_any: true,
        }
    }
}
