//! A deterministic userfaultfd kernel in userland, and the explorer that searches it.
//!
//! - [`kernel`]: a Linux kernel's address spaces and userfaultfds as one value, moved by
//!   explicit atomic steps.
//! - [`vma`]: the mappings of an address space.
//! - [`profile`]: kernel versions as data.
//! - [`world`]: tasks, a handler under test, oracles; [`scenario`]: worlds as text.
//! - [`coop`]: a handler under test as ordinary blocking code; [`sync`]: the locks, channels
//!   and threads it uses.
//! - [`explore`]: running worlds; [`shrink`]: from a failing run to a small one; [`schedule`]
//!   and [`timeline`]: what a run leaves behind; [`report`]: the facts for richer pictures.
//!
//! # What is modelled
//!
//! Private anonymous memory in 4 KiB pages and transparent huge pages: mapping, unmapping,
//! moving, protection, copying by `fork`; registration for `MISSING` and `WP`; faults by user
//! accesses, by `MADV_POPULATE_*`, `mlock`, `process_vm_*`, `/proc/PID/mem` and calls that copy;
//! `REMOVE`, `UNMAP`, `REMAP` and `FORK` events; `COPY` (from memory that may fault, too),
//! `ZEROPAGE`, `WRITEPROTECT` (with `WP_UNPOPULATED` and `WP_ASYNC`, too), `POISON`, `MOVE`,
//! `WAKE`; the features `SIGBUS`, `EXACT_ADDRESS` and `THREAD_ID`; the advices of `madvise`,
//! guards and `MADV_COLLAPSE` among them, and `process_madvise` of oneself; `pagemap`,
//! `PAGEMAP_SCAN` and `mincore`; `close`.
//!
//! Memory files (tmpfs, memfd, shared anonymous memory in 4 KiB pages, hugetlb in 2 MiB
//! pages), mapped shared or privately by any number of processes: their page cache, `MINOR` and
//! `CONTINUE`, the mapping of cached neighbours, `ftruncate`, punched holes, `MADV_REMOVE`, the
//! pool of huge pages and what is promised from it.
//!
//! Descriptors: opening, the handshake, `read`, `poll`, duplicates, the last reference; processes
//! and their ends; signals to threads that sleep. Kernels from 5.7 to 6.18, and their faults.
//!
//! # Not modelled
//!
//! What can be asked for and is not simulated answers
//! [`Errno::ENOTMODELLED`](shims::Errno::ENOTMODELLED), which no kernel returns: huge pages of
//! hugetlb that are not 2 MiB; a hole or an end of a memory file that is not a border of its
//! pages; a `PAGEMAP_SCAN` over hugetlb; a `COPY` whose source is an address that is not aligned,
//! or whose destination is hugetlb memory; `MADV_COLLAPSE` of a regular file, or of a memory file
//! that ends inside the block; a `fork` that shares private huge pages when their number is
//! limited.
//!
//! The rest cannot be expressed: swap, KSM, DAX, NUMA balancing, memory control groups; the
//! content of regular files; System V shared memory; seals, `read` and `write`, and several
//! opens of a memory file; full file systems; huge pages of tmpfs but by `MADV_COLLAPSE`; broken
//! memory; pages that are pinned while their process goes on, as by `io_uring` or a device (a fork
//! copies them, `MOVE` refuses them); callers that ask for a page and will not wait for it (KVM,
//! `FOLL_NOWAIT`); faults of threads that exit or dump core; a kill in the middle of an ioctl over
//! several pages; instruction fetches, and accesses that straddle two pages; the dirty bit; page
//! tables that processes share.
//!
//! # Invariants
//!
//! - Everything here is a value: no clock, no entropy, no thread, no host address, no hash
//!   order. The same seed gives the same bytes on every platform.
//! - `sim` knows the seam (`shims`) and nothing of any handler.

mod content;
pub mod coop;
mod copy;
mod digest;
pub mod explore;
pub mod kernel;
pub mod profile;
pub mod report;
pub mod scenario;
pub mod schedule;
pub mod shrink;
pub mod sync;
pub mod timeline;
pub mod vma;
pub mod world;

pub use content::{Content, STAMP_LEN};
pub use digest::Digest;
pub use kernel::Kernel;
pub use profile::Profile;
