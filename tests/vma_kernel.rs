//! The VMA layer against the running kernel. Where that is not a 6.18, or the process may
//! not lock memory or make userfaultfds, the test says `SKIPPED` and why; with
//! `FAULTBED_REQUIRE_KERNEL=1` it fails instead. `FAULTBED_VMA_OPS` and
//! `FAULTBED_VMA_SEED` make the run longer or another one.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use faultbed::conform_vma::{ConformVma, Map, Op, Source, Theme, run_both, unsupported};
use shims::linux::vma_probe::{Limit, ProbeFile, VmaProbe};
use sim::vma::{MapFlags, Prot, RemapFlags};

fn skipped(name: &str) -> bool {
    let Some(reason) = unsupported() else { return false };
    let required = std::env::var("FAULTBED_REQUIRE_KERNEL").is_ok_and(|value| value == "1");
    assert!(!required, "{name} must run: {reason}");
    eprintln!("SKIPPED {name}: {reason}");
    true
}

#[test]
fn two_hundred_thousand_random_calls_agree_with_the_kernel() {
    if skipped("two_hundred_thousand_random_calls_agree_with_the_kernel") {
        return;
    }
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let ops = number("FAULTBED_VMA_OPS").unwrap_or(200_000);
    let seed = number("FAULTBED_VMA_SEED").unwrap_or(1);
    let report =
        ConformVma { ops, seed, theme: Theme::Plain, length: 48 }.run().expect("the probe runs");
    println!("{report}");
    assert!(report.disagreement.is_none(), "{report}");
}

/// Under low limits, with huge pages, and with userfaultfds that protect asynchronously or
/// follow moves and forks.
#[test]
fn the_other_themes_agree_with_the_kernel() {
    if skipped("the_other_themes_agree_with_the_kernel") {
        return;
    }
    for (theme, ops) in [(Theme::Limits, 6_000), (Theme::Huge, 15_000), (Theme::Uffd, 15_000)] {
        let report = ConformVma { ops, seed: 1, theme, length: 48 }.run().expect("the probe runs");
        println!("{theme:?}: {report}");
        assert!(report.disagreement.is_none(), "{theme:?}: {report}");
    }
}

/// What random runs once found, shrunk: the model had each of these wrong.
#[test]
fn sequences_that_once_disagreed_agree() {
    if skipped("sequences_that_once_disagreed_agree") {
        return;
    }
    let map = |at, len, prot, flags, source| Op::Map(Map { at, len, prot, flags, source });
    let anon =
        |at, len, prot| map(at, len, prot, MapFlags::PRIVATE | MapFlags::FIXED, Source::Anonymous);
    let droppable = |at, len, prot| {
        map(at, len, prot, MapFlags::DROPPABLE | MapFlags::FIXED, Source::Anonymous)
    };
    let moved = |old, old_len, new_len, new| {
        let flags = RemapFlags::MAYMOVE | RemapFlags::FIXED;
        Op::Remap { old, old_len, new_len, flags, new }
    };
    let kept = |old, len, new| {
        let flags = RemapFlags::MAYMOVE | RemapFlags::FIXED | RemapFlags::DONTUNMAP;
        Op::Remap { old, old_len: len, new_len: len, flags, new }
    };
    let huge = |at, len, flags| {
        let flags = MapFlags::PRIVATE | MapFlags::HUGETLB | MapFlags::NORESERVE | flags;
        map(at, len, Prot::RW, flags, Source::Anonymous)
    };
    let huge_file = |at, len, offset| {
        let flags = MapFlags::SHARED | MapFlags::FIXED | MapFlags::NORESERVE;
        map(at, len, Prot::RW, flags, Source::File(ProbeFile::Huge, offset))
    };
    // A hole of one page above two that grow into it, in the child of a fork.
    let forked_and_grown = |between: &[Op]| {
        let flags = RemapFlags::empty();
        let grow = Op::Remap { old: 302, old_len: 2, new_len: 3, flags, new: 302 };
        [&[anon(302, 4, Prot::RW)], between, &[grow]].concat()
    };
    // The last page that a file of 2^63 - 1 bytes has a part of.
    const LAST: u64 = (1 << 51) - 1;
    let shared_there = MapFlags::SHARED | MapFlags::FIXED;
    let untyped = MapFlags::from_bits_retain(0xf) | MapFlags::FIXED;
    let cases: &[(&str, Vec<Op>)] = &[
        ("the default policy over nothing", vec![Op::Bind(300, 1, false)]),
        (
            "a source is judged by what remains of it, before the target goes",
            vec![
                anon(300, 6, Prot::RW),
                Op::Unmap(303, 2),
                moved(301, 4, 1, 308),
                moved(305, 3, 2, 300),
            ],
        ),
        ("several VMAs move with DONTUNMAP, too", vec![anon(314, 7, Prot::RW), kept(316, 8, 305)]),
        (
            "a registered VMA before a hole does not move",
            vec![anon(311, 1, Prot::RW), Op::Register(0, 305, 7, 1), moved(311, 2, 2, 304)],
        ),
        (
            "and says so before it says that it is sealed",
            vec![
                anon(302, 3, Prot::RW),
                Op::Register(0, 302, 3, 1),
                Op::Seal(302, 1),
                moved(302, 3, 3, 310),
            ],
        ),
        (
            "a seal is noticed before an old length of zero",
            vec![anon(305, 1, Prot::NONE), Op::Seal(305, 1), moved(305, 0, 1, 305)],
        ),
        (
            "droppable memory loses the lock after the merge and is faulted in",
            vec![
                Op::LockFuture(false),
                droppable(301, 3, Prot::RW),
                moved(301, 1, 1, 307),
                moved(307, 3, 3, 304),
            ],
        ),
        (
            "locked memory that becomes writable is faulted in",
            vec![
                anon(303, 3, Prot::NONE),
                Op::Lock(304, 1, false),
                Op::Protect(304, 2, Prot::RW),
                Op::Protect(304, 2, Prot::READ),
            ],
        ),
        (
            "the heap does not grow what lies below its start",
            vec![anon(301, 3, Prot::RW), Op::Heap(304), Op::Brk(318)],
        ),
        (
            "guards in a private file mapping give it no anon_vma",
            vec![
                map(
                    301,
                    2,
                    Prot::READ,
                    MapFlags::PRIVATE | MapFlags::FIXED,
                    Source::File(ProbeFile::Memfd, 1),
                ),
                Op::Advise(302, 3, sim::vma::Advice::GuardInstall),
                Op::Fork,
                map(
                    302,
                    2,
                    Prot::READ,
                    MapFlags::PRIVATE | MapFlags::FIXED,
                    Source::File(ProbeFile::Memfd, 2),
                ),
            ],
        ),
        (
            "what MCL_FUTURE locks counts against the limit of locked memory",
            vec![Op::LockFuture(true), Op::Limit(Limit::Lock, 2), anon(300, 4, Prot::RW)],
        ),
        (
            "a file of huge pages is mapped from a huge page on",
            vec![huge_file(512, 512, 1), huge_file(512, 512, 0)],
        ),
        (
            "a hint for a huge page is rounded up",
            vec![huge(513, 512, MapFlags::empty()), Op::Touch(1)],
        ),
        (
            "where the address space is too large, the data limit is not asked",
            vec![
                anon(300, 4, Prot::READ),
                Op::Limit(Limit::AddressSpace, 1),
                Op::Limit(Limit::Data, 0),
                Op::Protect(300, 2, Prot::RW),
                Op::Protect(302, 1, Prot::RW),
            ],
        ),
        (
            "the heap may grow as far as there is data elsewhere",
            vec![
                Op::Heap(301),
                Op::Brk(302),
                Op::Limit(Limit::Data, 0),
                Op::Protect(301, 2, Prot::RX),
                Op::Brk(303),
                Op::Brk(304),
            ],
        ),
        (
            "a seal is noticed before a length that is no huge page",
            vec![huge(512, 512, MapFlags::FIXED), Op::Seal(512, 512), moved(512, 0, 512, 2048)],
        ),
        (
            "huge pages are not left behind empty",
            vec![huge(512, 512, MapFlags::FIXED), kept(512, 512, 1024)],
        ),
        (
            "nor when several VMAs move",
            vec![
                huge(512, 512, MapFlags::FIXED),
                anon(1024, 512, Prot::RW),
                kept(512, 1024, 2048),
                moved(512, 1023, 1023, 2048),
            ],
        ),
        (
            "several VMAs that leave their sources behind meet the limits one by one",
            vec![
                anon(300, 2, Prot::RW),
                anon(304, 2, Prot::RW),
                Op::Limit(Limit::AddressSpace, 3),
                kept(300, 6, 320),
            ],
        ),
        (
            "what grows in place joins unfaulted memory above it, forked or not",
            forked_and_grown(&[Op::Unmap(304, 1), Op::Touch(302), Op::Fork]),
        ),
        (
            "but faulted memory only of the same identity",
            forked_and_grown(&[Op::Touch(302), Op::Unmap(304, 1), Op::Fork, Op::Touch(305)]),
        ),
        (
            "a file ends before byte 2^63, and anonymous memory does not",
            vec![
                map(300, 1, Prot::RW, shared_there, Source::File(ProbeFile::Memfd, LAST - 1)),
                map(300, 1, Prot::RW, shared_there, Source::File(ProbeFile::Memfd, LAST)),
                map(302, 2, Prot::RW, shared_there, Source::File(ProbeFile::Memfd, LAST - 1)),
                map(300, 1, Prot::RW, untyped, Source::File(ProbeFile::Memfd, LAST)),
            ],
        ),
    ];
    let arena = faultbed::conform_vma::ARENA_START;
    let pages = faultbed::conform_vma::ARENA_PAGES;
    let mut probe = VmaProbe::new(arena..arena + (pages << 12)).expect("a probe");
    let mut wrong = Vec::new();
    for (name, ops) in cases {
        let difference = run_both(&mut probe, ops).expect("the probe runs");
        wrong.extend(difference.map(|difference| format!("{name}: {difference}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
