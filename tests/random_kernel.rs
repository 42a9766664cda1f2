//! Random programs on the simulated kernel and on the running one: `faultbed conform` with seeds
//! that have a name, and the programs it has found, which both kernels agree on now.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::fs;
use std::path::{Path, PathBuf};

use faultbed::judge::program::parse;
use faultbed::judge::{Advise, Kind, Op, PAGE, Piece, on_linux, on_sim, part};
use faultbed::random::{Ask, Part, Program, Random, Setup, Step, differ};
use shims::linux::hugepages::Reservation;
use shims::linux::{Capability, OpenFlags};
use shims::{Features, RegisterModes};

fn compare(test: &str, ops: u64, seed: u64, huge: u64) {
    let gate = Capability::gate(test, OpenFlags::empty(), Features::MOVE | Features::POISON);
    if gate.is_none() {
        return;
    }
    if huge > 0 && Reservation::gate(test, huge).is_none() {
        return;
    }
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let run = Random { ops, seed, huge, out, ..Random::default() };
    let mut found = Vec::new();
    let report = run
        .run_with(
            |_| {},
            |one| {
                found.push(one.to_string());
                true
            },
        )
        .expect("a userfaultfd");
    eprintln!("{test}: {report}");
    assert!(found.is_empty(), "{test}: {}", found.join("\n"));
    assert!(report.compared >= ops, "{test}");
    assert!(report.cut * 50 <= report.programs, "{test}: too many programs were given up");
    let missed = report.missed();
    assert!(ops < 40_000 || missed.iter().all(|rule| *rule == "e12"), "not seen: {missed:?}");
}

#[test]
fn fifty_thousand_steps_agree() {
    compare("fifty_thousand_steps_agree", 50_000, 1, 0);
}

#[test]
fn another_fifty_thousand_steps_agree() {
    compare("another_fifty_thousand_steps_agree", 50_000, 1_000_000, 0);
}

#[test]
fn steps_with_huge_pages_agree() {
    compare("steps_with_huge_pages_agree", 4_000, 2_000_000, 24);
}

/// The largest `COPY` that a program can ask for, four huge pages: there is room for its source.
#[test]
fn a_copy_of_all_memory_agrees() {
    let test = "a_copy_of_all_memory_agrees";
    if Capability::gate(test, OpenFlags::empty(), Features::empty()).is_none() {
        return;
    }
    let pages = 4 * 512;
    let whole = Part { at: 0, len: pages * PAGE };
    let ask = |ask| Step::Ask { uffd: 0, ask };
    let program = Program {
        setup: Setup {
            pages,
            pieces: vec![Piece::new(0, pages, Kind::Anon)],
            threads: 1,
            user_mode_only: false,
        },
        steps: vec![
            Step::Open(Features::empty()),
            ask(Ask::Register(whole, RegisterModes::MISSING.bits())),
            ask(Ask::Copy(whole, 0, 1)),
        ],
    };
    let difference = differ(&program).expect("a process");
    assert_eq!(difference, None, "{program}");
}

/// What scenarios have no word for: scans.
#[test]
fn what_was_found_with_scans_is_the_same_on_both_kernels() {
    let test = "what_was_found_with_scans_is_the_same_on_both_kernels";
    if Capability::gate(test, OpenFlags::empty(), Features::WP_ASYNC).is_none() {
        return;
    }
    let piece = |kind, at, pages| Piece { file: 1, offset: 1, ..Piece::new(at, pages, kind) };
    let program = |pieces: Vec<Piece>, steps: Vec<Step>| {
        let setup = Setup { pages: 9, pieces, threads: 1, user_mode_only: false };
        Program { setup, steps }
    };
    let ask = |ask| Step::Ask { uffd: 0, ask };
    let pages = |at: u64, count: u64| Part { at: at * PAGE, len: count * PAGE };
    let thread = |op| Step::Thread { thread: 0, op };
    let (missing, wp) = (RegisterModes::MISSING.bits(), RegisterModes::WP.bits());
    // f5: a scan that passes over a mapping which reaches beyond its range comes to an end.
    let passes_over = program(
        vec![piece(Kind::Anon, 0, 4)],
        vec![
            Step::Open(Features::WP_UNPOPULATED),
            ask(Ask::Register(pages(0, 4), missing)),
            ask(Ask::Scan(pages(1, 2), 1, 2)),
        ],
    );
    // d19: what a scan has protected loses that on the way, guards too.
    let guard_moves = program(
        vec![piece(Kind::Shmem, 1, 2)],
        vec![
            Step::Open(Features::WP_ASYNC),
            ask(Ask::Register(pages(1, 2), wp)),
            thread(Op::advise(2, 3, Advise::GuardInstall)),
            ask(Ask::Scan(pages(2, 1), 3, 2)),
            thread(Op::remap(2, 3, 0)),
        ],
    );
    for program in [passes_over, guard_moves] {
        let difference = differ(&program).expect("a process");
        assert_eq!(difference, None, "{program}");
    }
}

/// `steps` of one thread and a handler, on pages 2 and 3.
fn of(kind: Kind, steps: Vec<Step>) -> Program {
    let pieces = vec![Piece { file: 1, ..Piece::new(2, 2, kind) }];
    Program { setup: Setup { pages: 4, pieces, threads: 1, user_mode_only: false }, steps }
}

fn agree(programs: &[Program]) {
    let differs = |program: &Program| {
        let difference = differ(program).expect("a process")?;
        Some(format!("{program}\n{difference}"))
    };
    let wrong: Vec<_> = programs.iter().filter_map(differs).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Rules: b15, f3, f5
#[test]
fn poison_that_a_scan_has_protected_goes_alike_on_both_kernels() {
    let test = "poison_that_a_scan_has_protected_goes_alike_on_both_kernels";
    if Capability::gate(test, OpenFlags::empty(), Features::empty()).is_none() {
        return;
    }
    let ask = |ask| Step::Ask { uffd: 0, ask };
    let (page, both) = (Part { at: 2 * PAGE, len: PAGE }, Part { at: 2 * PAGE, len: 2 * PAGE });
    let modes = RegisterModes::MISSING | RegisterModes::WP;
    let mut programs = Vec::new();
    for kind in [Kind::Anon, Kind::Shmem, Kind::ShmemPrivate] {
        let file = 1;
        let removals = [
            Op::dontneed(2, 3),
            Op::Truncate { file, len: 0 },
            Op::Punch { file, at: 0, len: PAGE },
            Op::advise(2, 3, Advise::Remove),
        ];
        for op in removals {
            let of_file = matches!(op, Op::Truncate { .. } | Op::Punch { .. });
            if of_file && kind == Kind::Anon {
                continue;
            }
            for (scanned, again) in [(true, false), (false, false), (true, true)] {
                let mut steps = vec![
                    Step::Open(Features::WP_ASYNC),
                    ask(Ask::Register(both, modes.bits())),
                    ask(Ask::Poison(page, 0)),
                ];
                if scanned {
                    steps.push(ask(Ask::Scan(page, 1, 2)));
                }
                if again {
                    steps.push(ask(Ask::Register(both, RegisterModes::MISSING.bits())));
                }
                steps.push(Step::Thread { thread: 0, op });
                programs.push(of(kind, steps));
            }
        }
    }
    agree(&programs);
}

/// Rules: a27, d26, e21
#[test]
fn what_is_pinned_after_a_fork_is_ones_own_alike_on_both_kernels() {
    let test = "what_is_pinned_after_a_fork_is_ones_own_alike_on_both_kernels";
    if Capability::gate(test, OpenFlags::empty(), Features::MOVE).is_none() {
        return;
    }
    let ask = |ask| Step::Ask { uffd: 0, ask };
    let thread = |op| Step::Thread { thread: 0, op };
    let (page, both) = (Part { at: 2 * PAGE, len: PAGE }, Part { at: 2 * PAGE, len: 2 * PAGE });
    let modes = RegisterModes::MISSING | RegisterModes::WP;
    let mut programs = Vec::new();
    for kind in [Kind::Anon, Kind::ShmemPrivate] {
        for protected in [0, 1, 2] {
            for last in [
                ask(Ask::Move(Part { at: 3 * PAGE, len: PAGE }, 2 * PAGE, 0)),
                thread(Op::Store(2, 7)),
                ask(Ask::Protect(page, 0)),
            ] {
                let steps = vec![
                    Step::Open(Features::empty()),
                    ask(Ask::Register(both, modes.bits())),
                    ask(Ask::Copy(page, protected & 2, 0)),
                    thread(Op::Fork),
                    ask(Ask::Protect(page, protected & 1)),
                    thread(Op::Remote { at: 2 * PAGE, write: false }),
                    last.clone(),
                    thread(Op::Load(2)),
                ];
                programs.push(of(kind, steps));
            }
        }
    }
    agree(&programs);
}

/// Rules: b13, d26, e17, f5
#[test]
fn what_a_scan_has_put_on_poison_and_guards_stays_or_goes_alike_on_both_kernels() {
    let test = "what_a_scan_has_put_on_poison_and_guards_stays_or_goes_alike_on_both_kernels";
    if Capability::gate(test, OpenFlags::empty(), Features::WP_ASYNC).is_none() {
        return;
    }
    let ask = |ask| Step::Ask { uffd: 0, ask };
    let thread = |op| Step::Thread { thread: 0, op };
    let page = Part { at: 2 * PAGE, len: PAGE };
    let modes = RegisterModes::MISSING | RegisterModes::WP;
    let ends = [
        thread(Op::Fork),
        ask(Ask::Unregister(page)),
        ask(Ask::Protect(page, 0)),
        ask(Ask::Protect(page, 1)),
        thread(Op::remap(2, 3, 0)),
    ];
    let mut programs = Vec::new();
    for kind in [Kind::Anon, Kind::Shmem, Kind::ShmemPrivate] {
        let poison = ask(Ask::Poison(page, 0));
        for mark in [poison, thread(Op::advise(2, 3, Advise::GuardInstall))] {
            let program = |features, end: &Step| {
                let mut steps = vec![
                    Step::Open(features),
                    ask(Ask::Register(page, modes.bits())),
                    mark.clone(),
                    ask(Ask::Scan(page, 1, 2)),
                    end.clone(),
                ];
                if features.contains(Features::EVENT_FORK) {
                    steps.push(ask(Ask::Read(1)));
                }
                of(kind, steps)
            };
            programs.extend(ends.iter().map(|end| program(Features::WP_ASYNC, end)));
            programs.push(program(Features::WP_ASYNC | Features::EVENT_FORK, &ends[0]));
        }
    }
    agree(&programs);
}

/// Rules: a19, a20
#[test]
fn a_copy_that_holds_the_last_reference_ends_alike_on_both_kernels() {
    let test = "a_copy_that_holds_the_last_reference_ends_alike_on_both_kernels";
    if Capability::gate(test, OpenFlags::empty(), Features::empty()).is_none() {
        return;
    }
    // The answer of one userfaultfd lets a thread return that has kept another one open: the list of
    // mappings changes with a step that does not change it by itself.
    let ask = |uffd, ask| Step::Ask { uffd, ask };
    let part = |at| Part { at: at * PAGE, len: PAGE };
    let missing = RegisterModes::MISSING.bits();
    let copy = Op::CopyFrom { uffd: 0, to: 3 * PAGE, from: 2 * PAGE, len: PAGE };
    let steps = vec![
        Step::Open(Features::empty()),
        Step::Open(Features::empty()),
        ask(1, Ask::Register(part(2), missing)),
        ask(0, Ask::Register(part(3), missing)),
        Step::Thread { thread: 0, op: copy },
        Step::Close(0),
        ask(1, Ask::Zero(part(2), 0)),
    ];
    agree(&[of(Kind::Anon, steps)]);
}

#[test]
fn what_was_found_is_the_same_on_both_kernels() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/found");
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("tests/found")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    assert!(!files.is_empty());
    for path in files {
        let file = path.display().to_string();
        let program = parse(&file, &fs::read_to_string(&path).expect("text")).expect("well-formed");
        let (sim, linux) = (on_sim(&program), on_linux(&program));
        match linux {
            Ok(linux) => {
                assert_eq!(part(&sim.log, &linux.log), None, "{file}");
                assert_eq!(linux.broken, None, "{file}");
            }
            Err(why) => {
                let required = std::env::var_os("FAULTBED_REQUIRE_KERNEL");
                assert!(required.is_none_or(|value| value != "1"), "{file}: {why}");
                eprintln!("SKIPPED {file}: {why}");
            }
        }
    }
}
