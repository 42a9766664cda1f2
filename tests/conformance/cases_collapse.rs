//! Huge pages of a memory file: `MADV_COLLAPSE` of shared and private mappings, what takes the
//! huge pages apart again, and `MADV_PAGEOUT`: rules c2, d13, e10, f1, f3, f6.

use shims::{ContinueMode, Errno, Features, Outcome, RegisterModes};
use sim::Content;
use sim::vma::{Prot, RemapFlags};

use faultbed::judge::{Advise, Back, Case, Kind, Op, PAGE, Piece, Run, Scan};

const MISSING: RegisterModes = RegisterModes::MISSING;
const MINOR: RegisterModes = RegisterModes::MINOR;
const WP: RegisterModes = RegisterModes::WP;

/// Pages of a huge page; the first mapping of the file is at 0, the second one there.
const BLOCK: u64 = 512;
const B: u64 = BLOCK;
/// `PAGE_IS_HUGE`, `PAGE_IS_WRITTEN`, `PM_SCAN_WP_MATCHING`.
const IS_HUGE: u64 = 1 << 6;
const WRITTEN: u64 = 2;
const PROTECT: u64 = 1;

/// One block of a file, mapped twice, the second time as `kind`, and watched nowhere.
fn twice(name: &str, kind: Kind) -> Case<'_> {
    let first = Piece::new(0, BLOCK, Kind::Shmem);
    Case::new(name, 3 * BLOCK)
        .pieces(&[first, Piece { at: B, kind, ..first }])
        .modes(RegisterModes::empty())
}

/// Write `pages`, and return who has.
fn filled(run: &mut Run, pages: u64) -> usize {
    let thread = run.thread();
    assert_eq!(run.get(thread, Op::populate(0, pages, true)), Back::Done);
    for page in (0..pages).step_by(100) {
        assert_eq!(run.get(thread, Op::Store(page, 1)), Back::Done);
    }
    thread
}

fn watch(run: &mut Run, start: u64, end: u64, modes: RegisterModes) {
    let range = run.span(start, end);
    run.register(0, range, modes).unwrap();
}

fn collapse(run: &mut Run, thread: usize, start: u64) -> Back {
    run.get(thread, Op::advise(start, start + BLOCK, Advise::Collapse))
}

/// Is the block at `start` mapped by one entry?
#[track_caller]
fn huge(run: &mut Run, start: u64) -> bool {
    let scan = Scan { start, end: start + BLOCK, flags: 0, mask: IS_HUGE };
    let found = run.scan(scan).unwrap();
    assert!(found.is_empty() || found == [(start, start + BLOCK, IS_HUGE)], "{found:?}");
    !found.is_empty()
}

/// How many pages of the block at `start` are there.
fn present(run: &mut Run, start: u64) -> usize {
    let inside = start..start + BLOCK;
    let entries = run.arm.entries(0);
    entries.iter().filter(|(n, entry)| inside.contains(n) && entry.content.is_some()).count()
}

#[test]
fn v85_f6_holes_are_filled_and_other_mappings_follow() {
    twice("v85_holes", Kind::Shmem).run(|run| {
        let thread = filled(run, 10);
        run.get(thread, Op::Load(B));
        assert_eq!(collapse(run, thread, 0), Back::Done);
        assert!(huge(run, 0) && !huge(run, B));
        assert_eq!((present(run, 0), present(run, B)), (512, 0));
        assert_eq!(run.get(thread, Op::Store(B + 3, 9)), Back::Done);
        assert!(huge(run, B));
        let there = Content::Written { task: thread as u16, seq: 9 };
        assert_eq!(run.get(thread, Op::Load(3)), Back::Loaded(there));
        // Again, and through the other one: that is fine.
        assert_eq!(collapse(run, thread, 0), Back::Done);
        assert_eq!(collapse(run, thread, B), Back::Done);
    });
    twice("v85_refused", Kind::Shmem).run(|run| {
        let thread = run.thread();
        assert_eq!(collapse(run, thread, 0), Back::Err(Errno::EINVAL), "nothing is there");
        run.get(thread, Op::Store(0, 1));
        let half = run.get(thread, Op::advise(0, 256, Advise::Collapse));
        assert_eq!(half, Back::Done, "there is no whole block in it");
        run.get(thread, Op::advise(0, BLOCK, Advise::NoHugePage));
        assert_eq!(collapse(run, thread, 0), Back::Err(Errno::EINVAL));
    });
    let shifted = Piece { offset: 1, ..Piece::new(B, BLOCK, Kind::Shmem) };
    let case = Case::new("v85_shifted", 2 * BLOCK).modes(RegisterModes::empty());
    case.pieces(&[Piece::new(0, BLOCK, Kind::Shmem), shifted]).run(|run| {
        let thread = filled(run, BLOCK);
        assert_eq!(collapse(run, thread, B), Back::Err(Errno::EINVAL));
        assert_eq!(collapse(run, thread, 0), Back::Done);
        run.get(thread, Op::Load(B));
        assert!(!huge(run, B));
    });
}

#[test]
fn v85_f6_a_hole_that_somebody_watches_for_is_busy() {
    for (name, start, end) in
        [("v85_own", 0, BLOCK), ("v85_other", B, 2 * BLOCK), ("v85_part", B, B + 4)]
    {
        twice(name, Kind::Shmem).run(|run| {
            let thread = filled(run, 511);
            watch(run, start, end, MISSING);
            assert_eq!(collapse(run, thread, 0), Back::Err(Errno::EBUSY));
            // Nothing is mapped any more, and nothing is lost.
            assert_eq!(present(run, 0), 0);
            assert!(matches!(run.get(thread, Op::Load(100)), Back::Loaded(_)));
        });
    }
    twice("v85_full", Kind::Shmem).run(|run| {
        let thread = filled(run, BLOCK);
        watch(run, 0, 2 * BLOCK, MISSING);
        assert_eq!(collapse(run, thread, 0), Back::Done);
        run.get(thread, Op::Load(B + 300));
        assert!(huge(run, 0) && huge(run, B));
        assert_eq!(run.copy(3, 4), Outcome::mirrored(Errno::EEXIST));
        assert_eq!(run.zero(3, 4), Outcome::mirrored(Errno::EEXIST));
        assert_eq!(run.poison(3, 4), Outcome::mirrored(Errno::EEXIST));
        let there = run.cont(3, 4, ContinueMode::empty());
        assert_eq!(there, Outcome::mirrored(Errno::EEXIST));
    });
}

#[test]
fn v85_f6_minor_faults_go_on_page_by_page() {
    twice("v85_minor", Kind::Shmem).run(|run| {
        let thread = filled(run, 100);
        watch(run, B, 2 * BLOCK, MINOR);
        assert_eq!(collapse(run, thread, 0), Back::Done);
        let reader = run.sleeper(Op::Load(B + 3));
        assert_eq!(run.read(0, 8), [format!("F{}r MINOR", B + 3)]);
        let outcome = run.cont(B + 3, B + 4, ContinueMode::empty());
        assert_eq!(outcome, Outcome::done(PAGE));
        run.returned(reader, Back::Loaded(Content::Zero));
        assert_eq!(present(run, B), 1);
        assert_eq!(collapse(run, thread, B), Back::Done);
        assert!(huge(run, B));
        // Part of it goes: then all of it is asked for again.
        assert_eq!(run.get(thread, Op::dontneed(B + 3, B + 4)), Back::Done);
        assert_eq!(present(run, B), 0);
        run.sleeper(Op::Load(B + 7));
        assert_eq!(run.read(0, 8), [format!("F{}r MINOR", B + 7)]);
    });
}

#[test]
fn v85_f6_memory_watched_for_writes_is_refused_and_keeps_its_protection() {
    twice("v85_wp", Kind::Shmem).run(|run| {
        let thread = filled(run, BLOCK);
        watch(run, 0, BLOCK, WP);
        run.protect(3, 5, true);
        assert_eq!(collapse(run, thread, 0), Back::Err(Errno::EINVAL));
        assert_eq!(present(run, 0), 0);
        assert!(run.is_wp(3) && run.is_wp(4) && !run.is_wp(5));
        // The file's pages were gathered all the same.
        run.get(thread, Op::Load(B));
        assert!(huge(run, B));
        run.sleeper(Op::Store(3, 7));
        assert_eq!(run.read(0, 8), ["F3w WP"]);
    });
    // It need not have protected anything.
    twice("v85_wp_plain", Kind::Shmem).run(|run| {
        let thread = filled(run, BLOCK);
        watch(run, B, 2 * BLOCK, WP);
        assert_eq!(collapse(run, thread, B), Back::Err(Errno::EINVAL));
        assert_eq!(present(run, 0), 0);
        assert_eq!(collapse(run, thread, 0), Back::Done);
        assert_eq!(collapse(run, thread, B), Back::Err(Errno::EINVAL));
        assert_eq!(present(run, B), 0);
    });
    twice("v85_wp_there", Kind::Shmem).run(|run| {
        let thread = filled(run, BLOCK);
        assert_eq!(collapse(run, thread, 0), Back::Done);
        watch(run, 0, BLOCK, WP);
        assert!(huge(run, 0));
        assert_eq!(run.protect(3, 4, true), Outcome::OK);
        assert_eq!(present(run, 0), 0);
        assert!(run.is_wp(3));
        assert_eq!(run.protect(0, BLOCK, false), Outcome::OK);
        assert_eq!(run.protect(0, BLOCK, true), Outcome::OK);
        run.sleeper(Op::Store(9, 7));
        assert_eq!(run.read(0, 8), ["F9w WP"]);
    });
}

#[test]
fn v85_f5_dirty_tracking_of_a_huge_page() {
    let scan = |end| Scan { start: 0, end, flags: PROTECT, mask: WRITTEN };
    twice("v85_async", Kind::Shmem).features(Features::WP_ASYNC).run(|run| {
        let thread = filled(run, BLOCK);
        assert_eq!(collapse(run, thread, 0), Back::Done);
        watch(run, 0, BLOCK, WP);
        assert_eq!(run.scan(scan(BLOCK)), Ok(vec![(0, BLOCK, WRITTEN)]));
        assert!(huge(run, 0) && run.is_wp(200));
        // One write frees all of it.
        assert_eq!(run.get(thread, Op::Store(3, 8)), Back::Done);
        assert!(huge(run, 0) && !run.is_wp(200));
        // Protecting a part of it unmaps it.
        assert_eq!(run.scan(scan(4)), Ok(vec![(0, 4, WRITTEN)]));
        assert_eq!(present(run, 0), 0);
        assert!(run.is_wp(3) && !run.is_wp(4));
    });
}

#[test]
fn v85_f6_poison_goes_where_a_page_table_goes_and_a_guard_stays() {
    twice("v85_poison", Kind::Shmem).run(|run| {
        let thread = filled(run, BLOCK);
        watch(run, 0, 2 * BLOCK, MISSING);
        assert_eq!(run.poison(B + 3, B + 4), Outcome::done(PAGE));
        assert_eq!(collapse(run, thread, 0), Back::Done);
        assert!(!run.entry(0, B + 3).marker);
        // What is huge in the file already is only looked at.
        let outcome = run.cont(B, B + 4, ContinueMode::empty());
        assert_eq!(outcome, Outcome::done(4 * PAGE));
        assert_eq!(run.poison(B + 100, B + 101), Outcome::done(PAGE));
        assert_eq!(collapse(run, thread, B), Back::Err(Errno::EINVAL));
        assert_eq!(present(run, B), 4);
    });
    twice("v85_guard", Kind::Shmem).run(|run| {
        let thread = filled(run, BLOCK);
        run.get(thread, Op::advise(B + 3, B + 4, Advise::GuardInstall));
        assert_eq!(collapse(run, thread, 0), Back::Done);
        assert_eq!(run.get(thread, Op::touch(B + 3, false)), Back::MapErr);
        assert_eq!(collapse(run, thread, B), Back::Err(Errno::EINVAL));
        run.get(thread, Op::advise(3, 4, Advise::GuardInstall));
        assert_eq!(present(run, 0), 0);
    });
}

#[test]
fn v85_f6_a_private_mapping() {
    twice("v85_private", Kind::ShmemPrivate).run(|run| {
        let thread = filled(run, BLOCK);
        assert_eq!(collapse(run, thread, B), Back::Done);
        assert!(huge(run, B));
        // A copy of one page: the rest is not mapped any more.
        assert_eq!(run.get(thread, Op::Store(B + 5, 4)), Back::Done);
        assert_eq!(present(run, B), 1);
        assert_eq!(collapse(run, thread, B), Back::Err(Errno::EINVAL));
        assert_eq!(run.get(thread, Op::Load(B + 300)), run.get(thread, Op::Load(300)));
    });
}

#[test]
fn v85_f6_what_takes_a_huge_page_apart() {
    let cases: [(&str, &[Op]); 6] = [
        ("v85_dontneed", &[Op::DontNeed { at: 3 * PAGE, len: PAGE }]),
        ("v85_mprotect", &[Op::Protect { at: 3 * PAGE, len: PAGE, prot: Prot::READ }]),
        ("v85_munmap", &[Op::Unmap { at: 3 * PAGE, len: PAGE }]),
        ("v85_punch", &[Op::Punch { file: 0, at: 3 * PAGE, len: PAGE }]),
        ("v85_pageout", &[Op::Advise { at: 0, len: 4 * PAGE, advice: Advise::PageOut }]),
        (
            "v85_mremap",
            &[Op::Remap {
                at: 3 * PAGE,
                len: PAGE,
                new_len: PAGE,
                to: Some(2 * BLOCK * PAGE),
                flags: RemapFlags::MAYMOVE.union(RemapFlags::FIXED),
            }],
        ),
    ];
    for (name, ops) in cases {
        twice(name, Kind::Shmem).run(|run| {
            let thread = filled(run, BLOCK);
            assert_eq!(collapse(run, thread, 0), Back::Done);
            for op in ops {
                assert_eq!(run.get(thread, *op), Back::Done);
            }
            assert_eq!(present(run, 0), 0);
            // Whole again where it can be. How much of what is left of a file's huge page comes
            // at a time is up to the pieces that Linux has left it in.
            if !matches!(ops[0], Op::Punch { .. }) {
                run.get(thread, Op::Store(9, 7));
                assert_eq!(huge(run, 0), matches!(ops[0], Op::DontNeed { .. }));
            }
        });
    }
    twice("v85_moved", Kind::Shmem).run(|run| {
        let thread = filled(run, BLOCK);
        assert_eq!(collapse(run, thread, 0), Back::Done);
        run.get(thread, Op::protect(0, BLOCK, Prot::READ));
        assert!(huge(run, 0));
        assert_eq!(run.get(thread, Op::remap(0, BLOCK, 2 * BLOCK)), Back::Done);
        assert!(huge(run, 2 * BLOCK));
    });
    twice("v85_forked", Kind::Shmem).run(|run| {
        let thread = filled(run, BLOCK);
        assert_eq!(collapse(run, thread, 0), Back::Done);
        let child = run.fork();
        assert_eq!(run.entry(child, 3).content, None);
        let (_, settled) = run.spawn_in(child, Op::Load(100));
        assert!(matches!(settled, faultbed::judge::Settled::Returned(Back::Loaded(_))));
    });
}

#[test]
fn v86_d13_paging_out_leaves_the_file_its_pages() {
    twice("v86", Kind::Shmem).run(|run| {
        let thread = filled(run, 4);
        run.get(thread, Op::Load(B + 1));
        // A page that is mapped twice stays.
        let pageout = Op::advise(0, 4, Advise::PageOut);
        assert_eq!(run.get(thread, pageout), Back::Done);
        assert_eq!(present(run, 0), 4);
        run.get(thread, Op::dontneed(B, B + 4));
        assert_eq!(run.get(thread, pageout), Back::Done);
        assert_eq!(present(run, 0), 0);
        let there = Content::Written { task: thread as u16, seq: 1 };
        assert_eq!(run.get(thread, Op::Load(0)), Back::Loaded(there));
    });
    twice("v86_wp", Kind::Shmem).run(|run| {
        let thread = filled(run, 4);
        watch(run, 0, BLOCK, WP);
        run.protect(1, 2, true);
        run.get(thread, Op::advise(0, 4, Advise::PageOut));
        assert_eq!(present(run, 0), 0);
        assert!(run.entry(0, 1).marker);
        run.sleeper(Op::Store(1, 3));
        assert_eq!(run.read(0, 8), ["F1w WP"]);
    });
    twice("v86_private", Kind::ShmemPrivate).run(|run| {
        let thread = filled(run, 4);
        run.get(thread, Op::dontneed(0, 4));
        run.get(thread, Op::Load(B));
        run.get(thread, Op::Store(B + 1, 5));
        run.get(thread, Op::advise(B, B + 4, Advise::PageOut));
        assert_eq!(present(run, B), 1, "its own page has no place to go");
    });
    twice("v86_forked", Kind::Shmem).run(|run| {
        let thread = filled(run, 4);
        let child = run.fork();
        let (_, settled) = run.spawn_in(child, Op::Load(0));
        assert!(matches!(settled, faultbed::judge::Settled::Returned(Back::Loaded(_))));
        run.get(thread, Op::advise(0, 4, Advise::PageOut));
        assert_eq!(present(run, 0), 4, "the child maps them, too");
    });
}

#[test]
fn v87_f3_the_protection_of_a_huge_page_outlives_its_registration() {
    for (name, kind) in [("v87_shared", Kind::Huge), ("v87_private", Kind::HugePrivate)] {
        Case::new(name, BLOCK).kind(kind).modes(WP).run(|run| {
            let thread = run.thread();
            run.get(thread, Op::Store(0, 1));
            assert_eq!(run.protect(0, BLOCK, true), Outcome::OK);
            watch(run, 0, BLOCK, MISSING);
            assert_eq!(run.get(thread, Op::dontneed(0, BLOCK)), Back::Done);
            assert!(run.is_wp(0));
            // Nor does it matter that nobody watches any more.
            let whole = run.span(0, BLOCK);
            run.unregister(0, whole).unwrap();
            assert!(run.is_wp(0));
            run.get(thread, Op::Load(0));
            let hole = Op::Punch { file: 0, at: 0, len: BLOCK * PAGE };
            assert_eq!(run.get(thread, hole), Back::Done);
        });
    }
}
