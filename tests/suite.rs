//! The integration suite that any user on any platform can run: no root, no Linux. One
//! binary, one module per subject.

#[path = "suite/support/mod.rs"]
mod support;

#[path = "suite/campaigns.rs"]
mod campaigns;
#[path = "suite/catalogue.rs"]
mod catalogue;
#[path = "suite/command_line.rs"]
mod command_line;
#[path = "suite/coop.rs"]
mod coop;
#[path = "suite/exhaustive.rs"]
mod exhaustive;
#[path = "suite/formats.rs"]
mod formats;
#[path = "suite/kernel.rs"]
mod kernel;
#[path = "suite/kernel_bugs.rs"]
mod kernel_bugs;
#[path = "suite/kernel_copy_from.rs"]
mod kernel_copy_from;
#[path = "suite/kernel_descriptors.rs"]
mod kernel_descriptors;
#[path = "suite/kernel_fork.rs"]
mod kernel_fork;
#[path = "suite/kernel_guard.rs"]
mod kernel_guard;
#[path = "suite/kernel_handshake.rs"]
mod kernel_handshake;
#[path = "suite/kernel_hugetlb.rs"]
mod kernel_hugetlb;
#[path = "suite/kernel_locked.rs"]
mod kernel_locked;
#[path = "suite/kernel_madvise.rs"]
mod kernel_madvise;
#[path = "suite/kernel_minor.rs"]
mod kernel_minor;
#[path = "suite/kernel_move.rs"]
mod kernel_move;
#[path = "suite/kernel_not_modelled.rs"]
mod kernel_not_modelled;
#[path = "suite/kernel_pagemap.rs"]
mod kernel_pagemap;
#[path = "suite/kernel_poison.rs"]
mod kernel_poison;
#[path = "suite/kernel_processes.rs"]
mod kernel_processes;
#[path = "suite/kernel_profiles.rs"]
mod kernel_profiles;
#[path = "suite/kernel_punch.rs"]
mod kernel_punch;
#[path = "suite/kernel_refused.rs"]
mod kernel_refused;
#[path = "suite/kernel_remap.rs"]
mod kernel_remap;
#[path = "suite/kernel_remote.rs"]
mod kernel_remote;
#[path = "suite/kernel_replace.rs"]
mod kernel_replace;
#[path = "suite/kernel_rest.rs"]
mod kernel_rest;
#[path = "suite/kernel_shmem.rs"]
mod kernel_shmem;
#[path = "suite/kernel_signals.rs"]
mod kernel_signals;
#[path = "suite/kernel_thp.rs"]
mod kernel_thp;
#[path = "suite/kernel_wp.rs"]
mod kernel_wp;
#[path = "suite/kernel_wp_async.rs"]
mod kernel_wp_async;
#[path = "suite/layering.rs"]
mod layering;
#[path = "suite/mishaps.rs"]
mod mishaps;
#[path = "suite/orderings.rs"]
mod orderings;
#[path = "suite/patience.rs"]
mod patience;
#[path = "suite/programs.rs"]
mod programs;
#[path = "suite/random_worlds.rs"]
mod random_worlds;
#[path = "suite/regressions.rs"]
mod regressions;
#[path = "suite/report.rs"]
mod report;
#[path = "suite/rule_index.rs"]
mod rule_index;
#[path = "suite/rules.rs"]
mod rules;
#[path = "suite/scenario_docs.rs"]
mod scenario_docs;
#[path = "suite/shrink.rs"]
mod shrink;
#[path = "suite/uffd_stress.rs"]
mod uffd_stress;
#[path = "suite/zoo.rs"]
mod zoo;

/// A module that is not listed above would be silently left out of the suite.
#[test]
fn no_test_file_is_forgotten() {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let listed = std::fs::read_to_string(here.join("tests/suite.rs")).expect("this file is there");
    for entry in std::fs::read_dir(here.join("tests/suite")).expect("the folder is there") {
        let name = entry.expect("an entry").file_name().into_string().expect("a plain name");
        if let Some(stem) = name.strip_suffix(".rs") {
            assert!(listed.contains(&format!("mod {stem};")), "tests/suite/{name} is not listed");
        }
    }
}
