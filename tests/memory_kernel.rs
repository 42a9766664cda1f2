//! The five kinds of memory against the running kernel: random programs of accesses, ioctls,
//! advices and changes of the file, done on the simulated kernel and on the real one; each
//! answer, each page table entry and each hole of the file must be the same.
//!
//! Nothing ever sleeps: the feature `SIGBUS` refuses what would be asked for, and the accesses
//! go through `/proc/self/mem`, where that is an error (rules c6, c9). What a message says is
//! the business of `tests/conformance.rs`.
//!
//! `FAULTBED_MEMORY_OPS` and `FAULTBED_MEMORY_SEED` make the run longer or another one.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "memory_kernel/op.rs"]
mod op;
#[path = "memory_kernel/real.rs"]
mod real;
#[path = "memory_kernel/sim_side.rs"]
mod sim_side;

use op::{Dice, Kind, Op};
use real::Real;
use shims::Features;
use shims::linux::hugepages::Reservation;
use shims::linux::{Capability, OpenFlags};
use sim_side::Simulated;

/// What `features` adds to `SIGBUS`.
const EXTRAS: [Features; 3] = [Features::empty(), Features::WP_UNPOPULATED, Features::WP_ASYNC];
/// Operations of one program.
const LENGTH: u64 = 60;

/// One program on both; the first line at which they differ.
fn run(kind: Kind, extra: Features, program: &[Op]) -> Option<String> {
    let features = Features::SIGBUS | extra;
    let mut real = Real::new(kind, features);
    let mut simulated = Simulated::new(kind, features, real.offsets());
    for (i, op) in program.iter().enumerate() {
        let (expected, got) = (real.perform(*op), simulated.perform(*op));
        if expected != got {
            return Some(format!("step {i}, {op:?}: the kernel {expected}, simulated {got}"));
        }
        let (expected, got) = (real.state(), simulated.state());
        if expected != got {
            return Some(format!(
                "after step {i}, {op:?}:\n    the kernel {expected}\n    simulated  {got}"
            ));
        }
    }
    None
}

/// Leave out what is not needed for a difference.
fn shrink(kind: Kind, extra: Features, program: &[Op]) -> Vec<Op> {
    let mut program = program.to_vec();
    let mut at = program.len();
    while at > 0 {
        at -= 1;
        let mut shorter = program.clone();
        shorter.remove(at);
        if run(kind, extra, &shorter).is_some() {
            program = shorter;
        }
    }
    program
}

fn check(kind: Kind, test: &str) {
    let wanted = Features::SIGBUS | Features::WP_ASYNC | Features::MOVE;
    if Capability::gate(test, OpenFlags::empty(), wanted).is_none() {
        return;
    }
    let huge = kind.is_huge();
    let Some(_pool) = (!huge).then_some(None).or_else(|| Reservation::gate(test, 16).map(Some))
    else {
        return;
    };
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let ops: u64 = number("FAULTBED_MEMORY_OPS").unwrap_or(if huge { 1_500 } else { 6_000 });
    let mut dice = Dice::new(number("FAULTBED_MEMORY_SEED").unwrap_or(1));
    for round in 0..ops.div_ceil(LENGTH) {
        let extra = EXTRAS[round as usize % EXTRAS.len()];
        let program: Vec<_> = (0..LENGTH).map(|_| Op::any(kind, &mut dice)).collect();
        if run(kind, extra, &program).is_some() {
            let program = shrink(kind, extra, &program);
            let why = run(kind, extra, &program).expect("it still differs");
            panic!("{kind:?}, {extra:?}, round {round}: {program:#?}\n{why}");
        }
    }
}

#[test]
fn anonymous_memory_agrees_with_the_kernel() {
    check(Kind::Anon, "anonymous_memory_agrees_with_the_kernel");
}

#[test]
fn shared_tmpfs_agrees_with_the_kernel() {
    check(Kind::Shmem, "shared_tmpfs_agrees_with_the_kernel");
}

#[test]
fn private_tmpfs_agrees_with_the_kernel() {
    check(Kind::ShmemPrivate, "private_tmpfs_agrees_with_the_kernel");
}

#[test]
fn shared_hugetlb_agrees_with_the_kernel() {
    check(Kind::Hugetlb, "shared_hugetlb_agrees_with_the_kernel");
}

#[test]
fn private_hugetlb_agrees_with_the_kernel() {
    check(Kind::HugetlbPrivate, "private_hugetlb_agrees_with_the_kernel");
}
