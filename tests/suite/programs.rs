//! Scenarios with a scripted handler as text and on the simulated kernel: round trips, errors
//! that point, the examples of the documents.

use std::fs;
use std::path::Path;

use faultbed::judge::program::{
    Ask, Body, Clause, Condition, Doing, Expect, Part, Program, Step, Task, Wanted, Watched, parse,
};
use faultbed::judge::{Advise, Fill, Kind, Op, PAGE, Piece, litmus, on_sim};
use proptest::prelude::*;
use proptest::sample::select;
use shims::{
    ContinueMode, CopyMode, Features, MoveMode, PoisonMode, RegisterModes, WriteProtectMode,
    ZeropageMode,
};
use sim::Profile;
use sim::vma::{Prot, RemapFlags};

fn part() -> impl Strategy<Value = Part> {
    let pages = (0..20_u64, 1..5_u64).prop_map(|(at, n)| Part { at: at * PAGE, len: n * PAGE });
    let bytes = (any::<u32>(), any::<u32>())
        .prop_map(|(at, len)| Part { at: u64::from(at), len: u64::from(len) });
    prop_oneof![4 => pages, 1 => bytes]
}

fn prot() -> impl Strategy<Value = Prot> {
    select(vec![Prot::NONE, Prot::READ, Prot::RW, Prot::RX, Prot::WRITE, Prot::RWX])
}

fn kind() -> impl Strategy<Value = Kind> {
    select(Kind::ALL.to_vec())
}

fn modes() -> impl Strategy<Value = RegisterModes> {
    (0..8_u64).prop_map(RegisterModes::from_bits_retain)
}

fn piece(huge: bool) -> impl Strategy<Value = Piece> {
    (1..4_u64, kind(), 0..3_u8, 0..3_u64, prot()).prop_map(
        move |(pages, kind, file, offset, prot)| {
            let unit = if huge && kind.is_huge() { 512 } else { 1 };
            let (file, offset) = if kind == Kind::Anon { (0, 0) } else { (file, offset * unit) };
            Piece { at: 0, pages: pages * unit, kind, file, offset, prot }
        },
    )
}

fn op() -> impl Strategy<Value = Op> {
    let place = || prop_oneof![(0..9_u64).prop_map(|n| n * PAGE), any::<u32>().prop_map(u64::from)];
    let advice = select(vec![
        Advise::WillNeed,
        Advise::Free,
        Advise::Remove,
        Advise::PageOut,
        Advise::Collapse,
        Advise::GuardInstall,
        Advise::DontNeedLocked,
    ]);
    let fill = select(vec![Fill::Later, Fill::Populated, Fill::Locked]);
    let remap = RemapFlags::MAYMOVE | RemapFlags::FIXED;
    prop_oneof![
        (place(), any::<bool>()).prop_map(|(at, write)| Op::Touch { at, write }),
        (0..9_u64, 1..9_u32).prop_map(|(page, seq)| Op::Store(page, seq)),
        (place(), any::<bool>()).prop_map(|(at, write)| Op::UserCopy { at, write }),
        (place(), any::<bool>()).prop_map(|(at, write)| Op::ProcMem { at, write }),
        (place(), any::<bool>()).prop_map(|(at, write)| Op::Remote { at, write }),
        (part(), any::<bool>()).prop_map(|(Part { at, len }, write)| Op::Populate {
            at,
            len,
            write
        }),
        part().prop_map(|Part { at, len }| Op::DontNeed { at, len }),
        part().prop_map(|Part { at, len }| Op::DontNeedSelf { at, len }),
        (part(), advice).prop_map(|(Part { at, len }, advice)| Op::Advise { at, len, advice }),
        (part(), prot(), fill).prop_map(|(Part { at, len }, prot, fill)| Op::Map {
            at,
            len,
            prot,
            fill
        }),
        (0..9_u64, piece(false))
            .prop_map(|(at, piece)| Op::MapFile { piece: Piece { at, ..piece } }),
        part().prop_map(|Part { at, len }| Op::Unmap { at, len }),
        (part(), prot()).prop_map(|(Part { at, len }, prot)| Op::Protect { at, len, prot }),
        (part(), place(), any::<bool>()).prop_map(move |(Part { at, len }, to, keep)| {
            let flags = if keep { remap | RemapFlags::DONTUNMAP } else { remap };
            Op::Remap { at, len, new_len: len, to: Some(to), flags }
        }),
        (part(), 0..9_u64, prop::option::of(place()), 0..8_u64).prop_map(
            |(Part { at, len }, new_len, to, flags)| {
                let flags = RemapFlags::from_bits_retain(flags);
                Op::Remap { at, len, new_len: new_len * 512, to, flags }
            }
        ),
        (part(), any::<bool>()).prop_map(|(Part { at, len }, on_fault)| Op::Lock {
            at,
            len,
            on_fault
        }),
        part().prop_map(|Part { at, len }| Op::Seal { at, len }),
        part().prop_map(|Part { at, len }| Op::SysvAttach { at, len }),
        (0..3_u8, 0..99_u64).prop_map(|(file, len)| Op::Truncate { file, len }),
        (0..3_u8, part()).prop_map(|(file, Part { at, len })| Op::Punch { file, at, len }),
        select(vec![Op::Fork, Op::ForkWithFiles, Op::ForkSharingFiles, Op::Vfork, Op::Exit]),
        (0..3_usize, part(), place()).prop_map(|(uffd, Part { at: from, len }, to)| Op::CopyFrom {
            uffd,
            to,
            from,
            len
        }),
        (0..3_usize, place(), place()).prop_map(|(uffd, to, arg)| Op::CopyArg { uffd, to, arg }),
        (0..3_usize).prop_map(|uffd| Op::ReadBlocking { uffd }),
        (0..3_usize).prop_map(|uffd| Op::PollBlocking { uffd }),
    ]
}

fn ask() -> impl Strategy<Value = Ask> {
    let two = 0..4_u64;
    let one = 0..2_u64;
    prop_oneof![
        (part(), modes()).prop_map(|(part, modes)| Ask::Register(part, modes)),
        part().prop_map(Ask::Unregister),
        part().prop_map(Ask::Wake),
        (part(), two.clone()).prop_map(|(p, m)| Ask::Copy(p, CopyMode::from_bits_retain(m))),
        (part(), one.clone())
            .prop_map(|(p, m)| Ask::Zeropage(p, ZeropageMode::from_bits_retain(m))),
        (part(), two.clone())
            .prop_map(|(p, m)| Ask::Continue(p, ContinueMode::from_bits_retain(m))),
        (part(), two.clone())
            .prop_map(|(p, m)| Ask::WriteProtect(p, WriteProtectMode::from_bits_retain(m))),
        (part(), 0..9_u64, two).prop_map(|(p, to, m)| Ask::Move(
            p,
            to * PAGE,
            MoveMode::from_bits_retain(m)
        )),
        (part(), one).prop_map(|(p, m)| Ask::Poison(p, PoisonMode::from_bits_retain(m))),
        (1..65_usize).prop_map(Ask::Events),
        select(vec![Ask::Message, Ask::Poll, Ask::Close, Ask::Duplicate, Ask::Nonblocking(true)]),
    ]
}

fn features() -> impl Strategy<Value = Features> {
    (0..1_u64 << 17).prop_map(Features::from_bits_retain)
}

fn doing() -> impl Strategy<Value = Doing> {
    prop_oneof![
        6 => op().prop_map(Doing::Thread),
        6 => (0..3_usize, ask()).prop_map(|(uffd, ask)| Doing::Uffd(uffd, ask)),
        1 => features().prop_map(Doing::Open),
        1 => Just(Doing::Signal(0)),
        1 => (0..5_usize).prop_map(Doing::Kill),
    ]
}

fn expect() -> impl Strategy<Value = Option<Expect>> {
    let known = [
        "ok",
        "ok [4096]",
        "EAGAIN [-11]",
        "asleep",
        "segv",
        "zero",
        "F3w WP",
        "REMOVE 0..2",
        "number 3",
        "bits 0x1",
        "nothing",
        "ENOENT",
    ];
    select(known.to_vec()).prop_map(Expect::new).prop_flat_map(|e| select(vec![e, None]))
}

fn body() -> impl Strategy<Value = Body> {
    let step = (0..3_usize, prop::option::of(doing()), expect());
    let sequence = prop::collection::vec(step, 1..8).prop_map(|steps| {
        let tasks = [("one", 0), ("two", 0), ("three", 1)].map(|(n, p)| (n.to_owned(), p));
        let step = |(task, doing, expect)| Step { task, doing, expect };
        Body::Sequence { tasks: tasks.to_vec(), steps: steps.into_iter().map(step).collect() }
    });
    let ops = || prop::collection::vec((doing(), expect()), 1..5);
    let tasks = (ops(), ops()).prop_map(|(one, two)| {
        let task = |name: &str, ops| Task { name: name.to_owned(), ops };
        Body::Tasks(vec![task("one", one), task("two", two)])
    });
    prop_oneof![sequence, tasks]
}

prop_compose! {
    fn program()(
        pieces in prop::collection::vec((piece(true), modes()), 1..4),
        room in 0..4_u64,
        features in features(),
        user_mode_only: bool,
        profile in select(vec![None, Some("5.13"), Some("6.18")]),
        setup in prop::collection::vec(op().prop_map(Doing::Thread), 0..3),
        body in body(),
        wanted in select(vec![Wanted::Exists, Wanted::Never, Wanted::Diverges]),
        conditions: bool,
    ) -> Program {
        let mut at = 0;
        let mut memory = Vec::new();
        for (piece, modes) in pieces {
            at = u64::next_multiple_of(at, 512);
            memory.push(Watched { piece: Piece { at, ..piece }, modes });
            at += piece.pages;
        }
        let clauses = vec![
            Clause::Page(0, "source-of-1 wp".to_owned()),
            Clause::Result(0, 0, Expect::new("ok").expect("a result")),
            Clause::Asleep(1),
        ];
        let conditions = match (&body, conditions) {
            (Body::Tasks(_), true) => vec![Condition { wanted, clauses }],
            _ => Vec::new(),
        };
        Program {
            name: "some name".to_owned(),
            about: String::new(),
            memory,
            room,
            features,
            user_mode_only,
            profile: profile.map(|name| Profile::by_name(name).expect("a version")),
            setup,
            body,
            conditions,
        }
    }
}

proptest! {
    #[test]
    fn a_program_prints_as_a_file_that_parses_to_the_same_program(program in program()) {
        let text = program.to_string();
        let again = parse("again", &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        prop_assert_eq!(&again, &program, "{}", text);
    }
}

#[track_caller]
fn wrong(text: &str, error: &str) {
    let text = format!("faultbed scenario 1\nname x\nhandler script\n{text}");
    assert_eq!(parse("my.fbs", &text).unwrap_err().to_string(), error);
}

#[test]
fn an_error_says_where_it_is_and_what_would_be_right() {
    wrong(
        "memory 1 pages\ntask t\n  copy 0 ok\n",
        "my.fbs:6:10: expected `->` or the end, found `ok`",
    );
    wrong("memory 1 pages\ntask t\n  fly 0\n", "my.fbs:6:3: expected an operation, found `fly`");
    wrong("task t\n", "my.fbs:4:1: expected `memory N pages` before this line");
    wrong("memory 3 pages hugetlb\n", "my.fbs:4:8: huge pages come in units of 512 pages");
    wrong(
        "memory 2 pages\nmemory 1 pages at 1\n",
        "my.fbs:5:8: two pieces of memory lie over each other",
    );
    wrong("memory 1 pages\nsequence\n  t read 0\n", "my.fbs:6:3: expected `TASK:`, found `t`");
    wrong(
        "memory 1 pages\ntask t in 1\n  read 0\n",
        "my.fbs:6:1: only a sequence has tasks in other processes",
    );
    wrong(
        "memory 1 pages\ntask t\n  read 0\nexists\n  t 2 ok\n",
        "my.fbs:8:5: expected the number of an operation from 1 to 1, found 2",
    );
    let result = |result: &str| {
        let text = "faultbed scenario 1\nname x\nhandler script\nmemory 1 pages\nsequence\n  h: ";
        parse("x", &format!("{text}events 4 -> {result}\n"))
    };
    for good in [
        "ok [4096]",
        "EAGAIN [-11]",
        "F0r",
        "F3+0x8w WP",
        "F3r MINOR, FORK",
        "REMOVE 0..2, UNMAP 0..1+0x10",
        "REMAP 0..1 to 3",
        "F0w by Some(1)",
        "bits 0x1",
    ] {
        assert!(result(good).is_ok(), "{good}: {:?}", result(good));
    }
    for bad in [
        "ok [40x]",
        "EAGAIN [",
        "F0",
        "F0x",
        "F0r WPP",
        "REMOVE",
        "REMOVE 0",
        "REMAP 0..1",
        "bits 1",
    ] {
        let error = result(bad).unwrap_err().to_string();
        assert!(
            error.starts_with("x:6:18: expected a result")
                && error.ends_with(&format!("found `{bad}`")),
            "{error}"
        );
    }
    let error = parse("x", "faultbed scenario 2\nhandler script\n").unwrap_err().to_string();
    assert_eq!(error, "x:1:1: expected `faultbed scenario 1`, found `faultbed scenario 2`");
    let error = parse(
        "x",
        "faultbed scenario 1\nname x\nhandler script\nmemory 1 pages\ntask t\n  read 0 -> fine\n",
    );
    assert!(error.unwrap_err().to_string().starts_with("x:6:13: expected a result such as `ok`"));
}

/// The scenario files of a folder, with their texts.
fn files(folder: &str) -> Vec<(String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<_> = fs::read_dir(dir)
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "fbs"))
        .map(|path| (path.display().to_string(), fs::read_to_string(&path).expect("text")))
        .collect();
    files.sort();
    files
}

#[test]
fn the_examples_do_on_the_simulated_kernel_what_they_say() {
    let mut kinds = Vec::new();
    for (file, text) in files("docs/examples") {
        let program = parse(&file, &text).unwrap_or_else(|error| panic!("{error}"));
        kinds.extend(program.memory.iter().map(|watched| watched.piece.kind));
        if matches!(program.body, Body::Sequence { .. }) {
            assert_eq!(on_sim(&program).broken, None, "{file}");
        }
    }
    assert!(Kind::ALL.iter().all(|kind| kinds.contains(kind)), "an example for every memory type");
}

#[test]
fn every_litmus_file_is_in_the_catalogue_and_prints_as_itself() {
    let mut listed: Vec<_> = litmus::FILES.iter().map(|(key, _)| format!("{key}.fbs")).collect();
    listed.sort();
    let there = files("sim/litmus");
    let names = |file: &String| file.rsplit('/').next().map(str::to_owned);
    assert_eq!(there.iter().filter_map(|(file, _)| names(file)).collect::<Vec<_>>(), listed);
    assert!(listed.len() >= 40, "a catalogue");
    for (key, program) in litmus::all() {
        assert_eq!(program.name, key);
        assert_eq!(parse(key, &program.to_string()), Ok(program), "{key}");
    }
}

#[test]
fn litmus_tests_end_on_the_simulated_kernel_as_they_say() {
    for (key, program) in litmus::all() {
        let found = litmus::allowed(&program).unwrap_or_else(|why| panic!("{key}: {why}"));
        let broken = litmus::broken_conditions(&program, &found.endings);
        assert_eq!(broken, Vec::<String>::new(), "{key}");
        assert!(!program.conditions.is_empty(), "{key} says nothing");
    }
}

#[test]
fn a_condition_that_no_ending_meets_is_reported() {
    let mut program = litmus::find("gate_shut").expect("a built-in test");
    let found = litmus::allowed(&program).expect("it is one");
    program.conditions = vec![
        Condition { wanted: Wanted::Exists, clauses: vec![Clause::Asleep(0)] },
        Condition { wanted: Wanted::Never, clauses: vec![Clause::Page(0, "absent".to_owned())] },
    ];
    let broken = litmus::broken_conditions(&program, &found.endings);
    let wanted = ["condition 1: no ending is like that", "condition 2: 2 endings are like that"];
    assert_eq!(broken, wanted);
}

#[test]
fn an_expectation_that_does_not_hold_is_reported_with_its_step() {
    let (file, text) = files("docs/examples").swap_remove(0);
    let text = text.replace("guest: -> source", "guest: -> zero");
    let program = parse(&file, &text).expect("well-formed");
    let broken = on_sim(&program).broken.expect("it does not hold");
    assert_eq!((broken.step, broken.what.as_str()), (4, "guest: expected `zero`, found `source`"));
}

/// The fenced blocks of the reference that are whole scenarios.
#[test]
fn the_examples_of_the_reference_are_accepted() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/judge.md");
    let text = fs::read_to_string(path).expect("the reference");
    let blocks = text.split("\n```").skip(1).step_by(2);
    let examples: Vec<_> =
        blocks.filter_map(|block| block.strip_prefix("\nfaultbed scenario 1")).collect();
    assert_eq!(examples.len(), 2);
    for example in examples {
        let example = format!("faultbed scenario 1{example}\n");
        let program = parse("docs/judge.md", &example).unwrap_or_else(|error| panic!("{error}"));
        if matches!(program.body, Body::Sequence { .. }) {
            assert_eq!(on_sim(&program).broken, None);
        }
    }
}
