//! The built-in scenarios: files of `sim/catalogue`, embedded, in the order they run.

use sim::scenario;
use sim::world::Setup;

macro_rules! files {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../catalogue/", $name, ".fbs")))),*]
    };
}

/// File name without its ending, and text.
pub const FILES: &[(&str, &str)] = files! {
    "missing_read_first"
    "missing_read_middle"
    "missing_read_last"
    "missing_read_twice"
    "missing_write"
    "missing_read_after_write"
    "missing_populate"
    "serial_missing"
    "parallel_missing"
    "parallel_missing_write"
    "parallel_missing_with_prefault"
    "lost_install"
    "remove_after_read"
    "remove_after_write"
    "remove_selective"
    "remove_multi_page"
    "remove_then_fault"
    "remove_never_touched"
    "remove_many_parts"
    "two_removers"
    "stale_source"
    "no_madvise_deadlock"
    "faulted_short_circuit"
    "remove_then_write_gated"
    "write_then_remove_gated"
    "snapshot_paused"
    "snapshot_races"
    "second_look"
    "unregister_under_fault"
    "munmap_under_fault"
    "eof"
    "unexpected_event"
    "read_error"
    "wp_reads_stay_clean"
    "wp_write_is_seen"
    "wp_zeros_stay_zero"
    "wp_write_beside_install"
    "wp_stale_write_fault"
    "wp_against_changes"
    "wp_baseline"
    "wp_baseline_beside_removal"
    "unmap_beside_faults"
    "unmap_beside_install"
    "remap_beside_faults"
    "remap_beside_install"
    "remap_and_remove"
    "remap_to_and_fro"
    "remap_swap"
    "remap_dontunmap"
    "fork_child_reads"
    "fork_beside_install"
    "fork_beside_removal"
    "fork_twice"
    "fork_tracks_writes"
    "mishaps_reading"
    "mishaps_install"
    "mishaps_source"
    "mishaps_shutdown"
    "mishaps_death"
    "shmem_missing"
    "shmem_given_up"
    "shmem_removed"
    "shmem_private"
    "shmem_truncated"
    "shmem_writes_seen"
    "minor_filled"
    "minor_beside"
    "minor_removed"
    "hugetlb_missing"
    "hugetlb_private"
    "hugetlb_minor"
    "advice_free"
    "advice_guard"
    "removed_again"
};

/// A built-in scenario, ready to run.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its short name: the name of its file.
    pub key: &'static str,
    /// Its text.
    pub text: &'static str,
    /// The world it describes.
    pub setup: Setup,
}

/// All of them.
pub fn all() -> Vec<Entry> {
    FILES
        .iter()
        .map(|&(key, text)| {
            let setup = scenario::parse(key, text)
                .unwrap_or_else(|error| panic!("a built-in scenario is malformed: {error}"));
            Entry { key, text, setup }
        })
        .collect()
}

/// The one with that short name, or with that name in its text.
pub fn find(name: &str) -> Option<Entry> {
    all().into_iter().find(|entry| entry.key == name || entry.setup.name == name)
}
