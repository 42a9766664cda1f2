//! The built-in litmus tests: files of `sim/litmus`, embedded, in the order they run.

use super::super::program::{Program, parse};

macro_rules! files {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../../litmus/", $name, ".fbs")))),*]
    };
}

/// File name without its ending, and text.
pub const FILES: &[(&str, &str)] = files! {
    "zap_window_present"
    "zap_window_missing"
    "zap_window_copy"
    "zap_window_populate"
    "gate_shut"
    "gate_shut_pages"
    "two_removers"
    "two_removers_one_read"
    "remove_two_pages"
    "remove_against_munmap"
    "remove_against_write"
    "free_against_read"
    "copy_against_remove"
    "copy_against_silent_remove"
    "two_page_copy_against_remove"
    "zeropage_against_remove"
    "wake_against_enqueue"
    "copy_without_wake"
    "wake_elsewhere"
    "copy_finds_it_there"
    "short_copy"
    "wake_without_copy"
    "wake_before_copy"
    "message_then_copy"
    "message_then_wake"
    "queueing_against_zeropage"
    "queueing_against_copy"
    "poll_against_fault"
    "two_faulters_one_copy"
    "two_faulters_two_messages"
    "two_faulters_two_handlers"
    "two_handlers_two_pages"
    "unregister_against_fault"
    "unregister_then_wake"
    "register_against_read"
    "unregister_against_copy"
    "unregister_against_remove"
    "unregister_wp_alone"
    "register_replaces"
    "register_twice"
    "close_against_fault"
    "close_against_copy"
    "close_against_remove"
    "close_against_poll"
    "fork_against_copy"
    "fork_event_against_copy"
    "fork_against_fault"
    "fork_against_remove"
    "fork_against_write"
    "mremap_against_copy"
    "mremap_event_against_copy"
    "mremap_event_against_old_place"
    "mremap_against_fault"
    "mremap_against_read"
    "dontunmap_against_copy"
    "munmap_against_copy"
    "munmap_event_against_zeropage"
    "munmap_event_against_install"
    "munmap_event_with_a_hole"
    "munmap_against_fault"
    "mmap_over_against_copy"
    "mprotect_against_write"
    "protect_against_write"
    "unprotect_against_write"
    "protect_two_writers"
    "protect_against_remove"
    "protect_against_copy"
    "async_protect_against_write"
    "protect_against_zeropage"
    "protected_remove_against_zeropage"
    "marker_against_copy"
    "continue_against_fault"
    "continue_against_punch"
    "two_mappings_one_copy"
    "shmem_copy_against_punch"
    "shmem_remove_event"
    "shmem_hole_behind_hole"
    "huge_remove_event"
    "shmem_two_faulters"
    "truncate_against_copy"
    "move_against_fault"
    "move_against_write"
    "two_moves"
    "two_moves_to_one_place"
    "move_against_copy"
    "poison_against_fault"
    "poison_against_copy"
    "sigbus_against_copy"
    "user_copy_against_copy"
    "user_copy_against_close"
    "huge_copy_against_fault"
    "huge_copy_against_copy"
};

/// All of them, with their short names.
pub fn all() -> Vec<(&'static str, Program)> {
    let program = |&(key, text): &(&'static str, &str)| {
        let program = parse(key, text);
        (key, program.unwrap_or_else(|error| panic!("a litmus test is malformed: {error}")))
    };
    FILES.iter().map(program).collect()
}

/// The one with that short name.
pub fn find(name: &str) -> Option<Program> {
    all().into_iter().find(|(key, _)| *key == name).map(|(_, program)| program)
}
