//! Small worlds, by what they are about. Owns the texts.

/// Private memory, accesses, populating, removals and labels.
pub const PLAIN: [&str; 21] = [
    "memory 1 pages\ntask a\n read 0\ntask b\n write 0\n",
    "memory 1 pages\ntask a\n write 0\ntask b\n read 0 -> source\n",
    "memory 1 pages\ntask a\n read 0\ntask b\n read 0\n",
    "memory 2 pages\ntask a\n read 0\ntask b\n read 1\n",
    "memory 1 pages\ntask a\n read 0\ntask b\n dontneed 0\n",
    "memory 1 pages\ntask a\n read 0 -> source\ntask b\n dontneed 0\n",
    "memory 1 pages\ntask a\n write 0\n write 0\ntask b\n dontneed 0\n",
    "memory 1 pages\nworkers 2\ntask a\n write 0\n write 0\ntask b\n dontneed 0\n",
    "memory 2 pages\ntask a\n dontneed 0\n read 0\n write 0\ntask b\n read 1\n",
    "memory 2 pages\ntask a\n populate-read 0..2\ntask b\n read 1\n",
    "memory 2 pages\ntask a\n populate-write 0..2\ntask b\n write 1\n",
    "memory 2 pages\nworkers 2\ntask a\n populate-read 0..2\ntask b\n dontneed 1\n",
    "memory 1 pages\ntask a\n populate-write 0\ntask b\n populate-write 0\n",
    "memory 2 pages\ntask a\n populate-read 0..2\ntask b\n read 1 -> source\n",
    "memory 2 pages\nworkers 2\ntask a\n write 0\n post x\ntask b\n await x\n dontneed 0\n read 0 -> zero\n",
    "memory 2 pages\ntask a\n read 0\n post x\n write 1\ntask b\n await x\n read 1 -> source\n",
    "memory 2 pages\ntask a\n dontneed 0..2\ntask b\n write 0\n",
    "memory 1 pages\ntask a\n dontneed 0\ntask b\n dontneed 0\n",
    "memory 2 pages\ntask a\n dontneed 0\ntask b\n dontneed 1\n",
    "memory 1 pages\nworkers 1\nfeatures none\ntask a\n read 0 -> source\n read 0 -> source\ntask b\n dontneed 0\n",
    "memory 1 pages\nfeatures none\ntask a\n read 0\ntask b\n read 0\ntask c\n dontneed 0\n",
];

/// Memory that is watched for writes.
pub const WATCHED: [&str; 10] = [
    "memory 1 pages missing wp\ntask a\n read 0\n write 0\ntask b\n write 0\n",
    "memory 1 pages missing wp\nworkers 2\ntask a\n read 0\ntask b\n write 0\n",
    "memory 1 pages missing wp\ntask a\n read 0\n write 0\ntask b\n dontneed 0\n",
    "memory 2 pages missing wp\ntask a\n read 0\n write 0\ntask b\n write 1\n",
    "memory 2 pages missing wp\ntask a\n populate-read 0..2\n write 1\ntask b\n write 1\n",
    "memory 1 pages missing wp\nfeatures none\ntask a\n read 0\n write 0\ntask b\n dontneed 0\n",
    "memory 1 pages wp\ntask a\n write 0\ntask b\n write 0\n",
    "memory 1 pages missing wp\ntask a\n read 0\n post x\n write 0\ntask b\n await x\n write 0\n",
    "memory 1 pages missing wp\ntask a\n read 0\n post x\n write 0\ntask b\n await x\n read 0 -> source\n",
    "memory 2 pages missing wp\ntask a\n populate-write 0..2\ntask b\n read 1\n",
];

/// Snapshots, baselines and pauses.
pub const ASKED: [&str; 10] = [
    "memory 1 pages\ntask a\n write 0\ntask b\n dontneed 0\n snapshot\n",
    "memory 2 pages\nworkers 2\ntask a\n write 0\ntask b\n dontneed 0\n snapshot\n",
    "memory 1 pages\ntask a\n dontneed 0\ntask b\n snapshot\n",
    "memory 1 pages\ntask a\n read 0\n dontneed 0\ntask b\n snapshot\n",
    "memory 1 pages\ntask a\n read 0\ntask b\n snapshot\n snapshot\n",
    "memory 1 pages missing wp\nworkers 2\ntask a\n read 0\n write 0\ntask b\n baseline\n",
    "memory 1 pages missing wp\ntask a\n write 0\n write 0\ntask b\n baseline\n",
    "memory 1 pages missing wp\ntask a\n write 0\n write 0\ntask b\n baseline cancelled\n",
    "memory 2 pages missing wp\ntask a\n write 0\n baseline\n write 0\ntask b\n dontneed 0\n",
    "memory 1 pages\ntask a\n read 0\ntask b\n pause\n resume\n",
];

/// Operations that change what is mapped or watched.
pub const CHANGING: [&str; 24] = [
    "memory 2 pages\ntask a\n read 0\ntask b\n munmap 0..1\n read 1\n",
    "memory 2 pages\nworkers 2\ntask a\n read 0\ntask b\n munmap 0..1\n",
    "memory 2 pages\nfeatures remove unmap\ntask a\n read 0\ntask b\n munmap 0..1\n",
    "memory 2 pages\nfeatures remove unmap\ntask a\n read 0\ntask b\n munmap 0..1\n dontneed 1\n",
    "memory 1 pages\nroom 1\nfeatures remove unmap remap\ntask a\n read 0\ntask b\n mremap 0..1 1\n",
    "memory 2 pages\nroom 1\nfeatures remove unmap remap\ntask a\n read 0\ntask b\n mremap 0..1 2\n read 2 -> source\n",
    "memory 1 pages\ntask a\n read 0\ntask b\n mprotect 0 none\n",
    "memory 1 pages\ntask a\n write 0\ntask b\n mprotect 0 r\n mprotect 0 rw\n",
    "memory 1 pages\ntask a\n read 0\ntask b\n unregister 0\n",
    "memory 1 pages\ntask a\n dontneed 0\n read 0\ntask b\n unregister 0\n register 0\n",
    "memory 1 pages\ntask a\n read 0\ntask b\n close\n",
    "memory 1 pages\ntask a\n dontneed 0\n read 0\ntask b\n close\n",
    "memory 1 pages\nworkers 2\ntask a\n write 0\ntask b\n close\n",
    "memory 1 pages\ntask a\n read 0\ntask b\n guard 0\n",
    "memory 1 pages\ntask a\n read 0\ntask b\n guard 0\n unguard 0\n",
    "memory 1 pages\ntask a\n write 0\n free 0\n write 0\ntask b\n pageout 0\n",
    "memory 1 pages\ntask a\n write 0\ntask b\n free 0\n pageout 0\n",
    "memory 1 pages\nfeatures none\ntask a\n write 0\n write 0\ntask b\n free 0\n pageout 0\n",
    "memory 1 pages\ntask a\n write 0\n read 0\ntask b\n pageout 0\n",
    "memory 1 pages\ntask a\n write 0\ntask b\n cold 0\n",
    "memory 1 pages\nroom 1\nfeatures remove unmap remap\ntask a\n write 0\ntask b\n mremap 0..1 1 dontunmap\n read 0\n",
    "memory 1 pages missing wp\ntask a\n write 0\n write 0\ntask b\n unregister 0\n",
    "memory 2 pages\ntask a\n write 0\ntask b\n collapse 0..2\n",
    "memory 2 pages\ntask a\n post x\n read 0\ntask b\n await x\n munmap 0..1\n",
];

/// Memory of files, and several processes.
pub const SHARED: [&str; 22] = [
    "memory 1 pages shmem\ntask a\n read 0\ntask b\n read 0\n",
    "memory 2 pages shmem\nworkers 2\ntask a\n read 0\n write 1\ntask b\n read 0\n",
    "memory 1 pages shmem\ntask a\n write 0\ntask b\n dontneed 0\n read 0\n",
    "memory 1 pages shmem\ntask a\n read 0\ntask b\n punch 0\n",
    "memory 1 pages shmem\ntask a\n read 0\n read 0\ntask b\n remove 0\n",
    "memory 1 pages shmem\ntask a\n read 0\ntask b\n truncate 0\n",
    "memory 1 pages shmem\ntask a\n read 0\ntask b beside\n write 0\n",
    "memory 1 pages shmem\ntask a\n read 0\n read 0\ntask b beside\n write 0\n punch 0\n",
    "memory 2 pages shmem minor filled\ntask a\n read 0\n write 1\ntask b\n read 1\n",
    "memory 1 pages shmem minor missing\ntask a\n read 0\ntask b\n dontneed 0\n read 0\n",
    "memory 1 pages shmem-private\ntask a\n read 0\n write 0\ntask b\n dontneed 0\n",
    "memory 1 pages shmem-private\ntask a\n read 0\ntask b\n write 0\n",
    "memory 1 pages hugetlb\ntask a\n read 0\ntask b\n write 0\n",
    "memory 1 pages hugetlb-private\ntask a\n read 0\ntask b\n dontneed 0\n",
    "memory 1 pages\nfeatures remove fork\ntask a\n read 0\n fork c\ntask b\n read 0\ntask c\n read 0\n",
    "memory 1 pages\ntask a\n read 0\n fork c\n write 0\ntask b\n read 0 -> source\ntask c\n read 0\n",
    "memory 1 pages\ntask a\n read 0\n fork c\ntask c\n read 0\n",
    "memory 1 pages\nfeatures remove fork\ntask a\n fork c\n read 0\ntask c\n read 0\n",
    "memory 1 pages\nfeatures none\ntask a\n read 0\n fork c\n write 0\ntask c\n write 0\n",
    "memory 1 pages\nfeatures none\ntask a\n read 0\n post x\n fork c\ntask b\n await x\n write 0\ntask c\n read 0\n",
    "memory 1 pages shmem\ntask a\n read 0\ntask b\n read 0\ntask c beside\n read 0\n",
    "memory 1 pages\ntask a\n fork c d\ntask c\n read 0\ntask d\n read 0\n",
];

/// What goes wrong around a handler.
pub const MISHAPS: [&str; 18] = [
    "memory 1 pages\nmishaps eagain\ntask a\n read 0\n",
    "memory 1 pages\nmishaps eagain\ntask a\n read 0\ntask b\n dontneed 0\n",
    "memory 1 pages\nmishaps enomem\ntask a\n read 0\n",
    "memory 2 pages\nmishaps short-batch\ntask a\n read 0\ntask b\n read 1\n",
    "memory 1 pages\nmishaps spurious\ntask a\n read 0\n read 0\n",
    "memory 1 pages\nmishaps source-late\ntask a\n read 0\ntask b\n dontneed 0\n",
    "memory 1 pages\nmishaps source-error\ntask a\n read 0\n",
    "memory 1 pages\nmishaps shutdown\ntask a\n read 0\n post x\ntask b\n await x\n",
    "memory 1 pages\nmishaps shutdown\ntask a\n read 0\ntask b\n dontneed 0\n",
    "memory 1 pages\nmishaps death\ntask a\n read 0\ntask b\n read 0\n",
    "memory 1 pages\nmishaps death\ntask a\n dontneed 0\n read 0\n",
    "memory 1 pages\ntask a\n inject eof\n read 0\n",
    "memory 1 pages\ntask a\n read 0\ntask b\n inject eof\n",
    "memory 1 pages\ntask a\n read 0\n read 0\ntask b\n inject error EIO\n dontneed 0\n",
    "memory 2 pages\ntask a\n read 0\ntask b\n inject message 77\n read 1\n",
    "memory 2 pages\ntask a\n read 0\ntask b\n read 1\ntask c\n inject message 77\n",
    "memory 2 pages\ntask a\n inject message 77\n read 0\ntask b\n dontneed 1\n",
    "memory 1 pages\nmishaps panic source-short\ntask a\n read 0\n",
];

/// Kernels with faults, and old ones.
pub const KERNELS: [&str; 9] = [
    "memory 1 pages\nbugs Z14\ntask a\n read 0\ntask b\n read 0\n",
    "memory 1 pages\nbugs Z14\ntask a\n read 0\n read 0\ntask b\n dontneed 0\n",
    "memory 1 pages\nprofile 5.7\ntask a\n read 0\ntask b\n dontneed 0\n read 0\n",
    "memory 1 pages missing wp\nprofile 5.7\ntask a\n read 0\n write 0\ntask b\n write 0\n",
    "memory 1 pages\nprofile 5.13\nbugs Z1\ntask a\n read 0\ntask b\n read 0\n",
    "memory 1 pages\nprofile 6.1\nbugs Z2\ntask a\n read 0\ntask b\n dontneed 0\n",
    "memory 1 pages\nbugs Z3\ntask a\n read 0\ntask b\n dontneed 0\n",
    "memory 1 pages\nbugs Z5\ntask a\n read 0\ntask b\n dontneed 0\n",
    "memory 1 pages\nprofile 6.12\ntask a\n read 0\ntask b\n dontneed 0\n",
];

/// Worlds that are larger, each of which meets a condition that no other does.
pub const LARGER: [&str; 23] = [
    "memory 1 pages\nfeatures none\ntask a\n write 0\n write 0\ntask b\n write 0\n write 0\n",
    "memory 1 pages\ntask a\n read 0\ntask b\n dontneed 0\n read 0\n write 0\n",
    "memory 2 pages\nworkers 2\ntask a\n read 0\ntask b\n read 1\n read 0 -> source\n",
    "memory 1 pages shmem-private\ntask a\n read 0\ntask b\n read 0\n write 0\n",
    "memory 1 pages missing wp\nmishaps death\ntask a\n write 0\n",
    "memory 1 pages missing wp\ntask a\n read 0\n write 0\ntask b\n free 0\n",
    "memory 1 pages shmem missing wp\ntask a\n read 0\n write 0\ntask b\n remove 0\n",
    "memory 2 pages\nfeatures none\ntask a\n read 0\ntask b\n read 0\ntask c\n read 1\n",
    "memory 2 pages shmem\nfeatures none\ntask a\n read 0\ntask c\n read 1\ntask b beside\n write 0\n write 1\n",
    "memory 1 pages missing wp\ntask a\n write 0\ntask b\n write 0\ntask c\n write 0\n",
    "memory 2 pages\nfeatures remove unmap\ntask a\n read 1\n read 1\ntask b\n munmap 0..1\n",
    "memory 1 pages\nfeatures remove unmap\ntask a\n read 0\ntask b\n munmap 0..1\n",
    "memory 2 pages\nmishaps lull\ntask a\n read 0\n post x\ntask b\n await x\n dontneed 1\n",
    "memory 2 pages\ntask a\n populate-read 0..2\ntask b\n populate-read 1\n",
    "memory 2 pages wp\ntask a\n write 0\n write 0\ntask b\n populate-read 0..2\n",
    "memory 2 pages\ntask a\n read 0\ntask b\n inject message 77\ntask c\n read 1\n",
    "memory 1 pages\nfeatures none\ntask a\n read 0\ntask b\n read 0\ntask c\n close\n",
    "memory 1 pages\nfeatures remove fork\ntask a\n read 0\n fork z\ntask z\n write 0\ntask b\n read 0\n",
    "memory 2 pages\nworkers 2\nfeatures none\ntask a\n read 0\ntask b\n read 1\n",
    "memory 1 pages\nfeatures none\ntask a\n read 0\ntask b\n read 0\ntask c\n pageout 0\n",
    "memory 1 pages\nmishaps source-error\nfeatures none\ntask a\n read 0\ntask b\n read 0\n",
    "memory 1 pages\nmishaps source-short\nworkers 2\nfeatures none\ntask a\n read 0\ntask b\n read 0\n",
    "memory 1 pages missing wp\ntask a\n write 0\n baseline\n write 0\n baseline\n",
];

/// Batches in which a page occurs more than once, or whose pages can come in either order.
pub const ASKED_AGAIN: [&str; 4] = [
    "memory 1 pages missing wp\ntask a\n read 0\n write 0\ntask b\n read 0\n",
    "memory 1 pages missing wp\ntask a\n read 0\n write 0\ntask b\n dontneed 0\n",
    "memory 2 pages\ntask a\n read 0\ntask b\n read 1\ntask c\n write 1\n",
    "memory 2 pages\nfeatures remove unmap\ntask a\n read 0\ntask b\n munmap 0..1\n",
];

/// Worlds drawn at random, each with the handler, in which a condition that was broken made a
/// difference that it made nowhere else.
pub const FOUND: [(&str, &str); 24] = [
    (
        "memory 1 pages missing wp\nworkers 2\nfeatures none\ntask a\n dontneed 0\n snapshot\n read 0\ntask b\n dontneed 0\n",
        "BaselineLate",
    ),
    (
        "memory 2 pages\nfeatures remove unmap remap\ntask a\n write 0\n dontneed 0\ntask b\n munmap 0..2\n read 1\n",
        "default",
    ),
    (
        "memory 2 pages\nfeatures remove unmap remap\nroom 1\ntask a\n mprotect 1 none\n guard 1\ntask b\n dontneed 0..2\n mprotect 1 rw\n",
        "default",
    ),
    (
        "memory 2 pages missing wp\nfeatures remove thread-id\ntask a\n read 0 -> written\n dontneed 0\ntask b\n read 1 -> zero\n read 0 -> written\n",
        "RemovedIsWritten",
    ),
    ("memory 1 pages\nfeatures none\ntask a\n dontneed 0\ntask b\n write 0\n", "overlapping"),
    (
        "memory 1 pages\nfeatures remove unmap remap\ntask a\n dontneed 0\n populate-read 0\ntask b\n register 0\n",
        "default",
    ),
    (
        "memory 1 pages missing wp\ntask a\n await x\n read 0\n dontneed 0\n populate-write 0\ntask b\n dontneed 0\n post x\n",
        "zeros-win",
    ),
    (
        "memory 2 pages hugetlb\ntask a\n dontneed 0..2\n post x\n remove 0..2\n truncate 1\ntask b\n truncate 1\n await x\n dontneed 1\n",
        "small-grain",
    ),
    (
        "memory 1 pages missing wp\nfeatures none\ntask a\n read 0 -> ok\n write 0\ntask b\n dontneed 0\n",
        "shared-as-own",
    ),
    (
        "memory 2 pages missing wp\nfeatures remove thread-id\ntask a\n read 0 -> ok\n snapshot\ntask b\n read 0 -> written\n dontneed 0\n",
        "default",
    ),
    (
        "memory 1 pages shmem minor filled\nworkers 2\ntask a\n punch 0\n read 0\ntask b\n write 0\n",
        "default",
    ),
    (
        "memory 2 pages\nfeatures none\ntask a\n dontneed 1\n write 1\n dontneed 0..2\ntask b\n read 0\n",
        "removal-short",
    ),
    (
        "memory 1 pages shmem\nworkers 2\nfeatures none\ntask a\n read 0\n remove 0\ntask b\n truncate 0\n read 0\n",
        "ProbesKept",
    ),
    (
        "memory 2 pages\nworkers 2\nfeatures none\ntask a\n dontneed 0..2\n await x\n fork z\n dontneed 1\ntask z\n read 1 -> written\ntask b\n read 0\n post x\n read 0\n",
        "default",
    ),
    (
        "memory 2 pages shmem missing wp\nworkers 2\ntask a\n truncate 0\n read 0 -> written\n populate-write 0..2\ntask b\n read 1 -> source\n",
        "default",
    ),
    (
        "memory 2 pages\nworkers 2\nfeatures remove unmap remap\nroom 1\ntask a\n populate-read 0..2\ntask b\n guard 1\n",
        "default",
    ),
    (
        "memory 1 pages\ntask a\n post x\n populate-write 0\n populate-write 0 -> ok\n populate-read 0\ntask b\n await x\n read 0\n",
        "default",
    ),
    (
        "memory 2 pages\nfeatures remove thread-id\nprofile 5.7\ntask a\n dontneed 1\n read 0\ntask b\n dontneed 1\n",
        "default",
    ),
    (
        "memory 1 pages wp\nfeatures none\ntask a\n read 0\n populate-write 0\ntask b\n read 0\n dontneed 0\n",
        "ReadOverwrites",
    ),
    (
        "memory 1 pages\nworkers 2\nfeatures remove thread-id\ntask a\n dontneed 0\n dontneed 0\ntask b\n dontneed 0\n dontneed 0\n",
        "removal-beyond",
    ),
    (
        "memory 2 pages\nfeatures fork\ntask a\n write 1\n dontneed 0..2\n dontneed 1\n fork z\ntask z\n read 1\ntask b\n dontneed 0\n dontneed 1\n",
        "armed-first",
    ),
    (
        "memory 2 pages\nfeatures none\ntask a\n fork z\n read 0\ntask z\n read 1\ntask b\n dontneed 1\n dontneed 1\n",
        "wake-refused",
    ),
    (
        "memory 2 pages\nworkers 2\ntask a\n dontneed 0..2\n post x\ntask b\n await x\n dontneed 0..2\n populate-read 0..2\n",
        "ReadOverwrites",
    ),
    ("memory 1 pages\nfeatures remove thread-id\ntask a\n read 0\ntask b\n read 0\n", "dead-done"),
];
