//! Shared memory and hugetlb: rules b2, b6, c2, d6, d11, e10 to e16, f1, f3.

use shims::{ContinueMode, CopyMode, Errno, Features, Outcome, RegisterModes};
use sim::Content;

use faultbed::judge::{Advise, Back, Kind, Op, PAGE, Piece, Settled};
use faultbed::judge::{Case, Run, source};

const MISSING: RegisterModes = RegisterModes::MISSING;
const WP: RegisterModes = RegisterModes::WP;
const MINOR: RegisterModes = RegisterModes::MINOR;
const BOTH: RegisterModes = MISSING.union(WP);
const HUGE: u64 = 512 * PAGE;

/// Eight pages of a memory file, watched, and from page 8 on another mapping of it.
fn aliased(name: &str, kind: Kind) -> Case<'_> {
    let watched = Piece::new(0, 8, kind);
    let alias = Piece { at: 8, kind: Kind::Shmem, ..watched };
    Case::new(name, 16).pieces(&[watched, alias]).modes(RegisterModes::empty())
}

fn watch(run: &mut Run, modes: RegisterModes) {
    let low = run.span(0, 8);
    run.register(0, low, modes).unwrap();
}

#[test]
fn v31_b6_the_masks_of_each_kind_of_memory() {
    for kind in Kind::ALL {
        let case = Case::new("v31_kinds", 1024).kind(kind).modes(RegisterModes::empty());
        case.run(|run| {
            let whole = run.span(0, 1024);
            let base = if kind.is_huge() { 0x10c } else { 0x13c };
            for (modes, more) in [
                (MISSING, 0),
                (WP, 0x40),
                (BOTH, 0x40),
                (MINOR, 0x80),
                (MISSING | MINOR, 0x80),
                (WP | MINOR, 0xc0),
                (BOTH | MINOR, 0xc0),
            ] {
                let granted = run.register(0, whole, modes).map(|ioctls| ioctls.bits());
                let refused = kind == Kind::Anon && modes.contains(MINOR);
                let want = if refused { Err(Errno::EINVAL) } else { Ok(base | more) };
                assert_eq!(granted, want, "{kind:?} {modes:?}");
                let _ = run.unregister(0, whole);
            }
        });
    }
}

#[test]
fn v32_e14_zeropage_on_hugetlb() {
    for kind in [Kind::Huge, Kind::HugePrivate] {
        let case = Case::new("v32_e14", 512).kind(kind);
        case.run(|run| {
            assert_eq!(run.zero(0, 512), Outcome::mirrored(Errno::EINVAL));
        });
    }
}

#[test]
fn v34_e14_a_zero_page_covers_poison_in_shared_memory() {
    Case::new("v34_shmem", 2).kind(Kind::Shmem).run(|run| {
        run.poison(0, 2);
        assert_eq!(run.zero(0, 1), Outcome::done(PAGE));
        assert_eq!(run.copy(1, 2), Outcome::done(PAGE));
        let (thread, _) = run.spawn(Op::Load(0));
        run.returned(thread, Back::Loaded(Content::Zero));
    });
}

#[test]
fn v46_d19_without_the_event_a_move_strips_every_kind() {
    for kind in [Kind::Shmem, Kind::ShmemPrivate, Kind::Huge, Kind::HugePrivate] {
        let unit = kind.granule();
        let piece = Piece::new(0, 2 * unit, kind);
        let case = Case::new("v46_kinds", 4 * unit).pieces(&[piece]).modes(BOTH);
        case.run(|run| {
            run.copy_wp(0, unit);
            run.protect(unit, 2 * unit, true);
            assert!(run.is_wp(0) && run.is_wp(unit));
            let (mover, _) = run.spawn(Op::remap(0, 2 * unit, 2 * unit));
            run.returned(mover, Back::Done);
            assert!(!run.is_wp(2 * unit) && !run.is_wp(3 * unit));
            assert_eq!(run.get(mover, Op::Store(2 * unit, 1)), Back::Done);
        });
    }
}

#[test]
fn v48_d13_punching_and_truncating_tell_nobody() {
    let events = Features::EVENT_REMOVE | Features::EVENT_UNMAP;
    aliased("v48_d13", Kind::Shmem).features(events).run(|run| {
        watch(run, MISSING);
        run.copy(0, 8);
        let (thread, _) = run.spawn(Op::Punch { file: 0, at: 0, len: 2 * PAGE });
        run.returned(thread, Back::Done);
        assert_eq!(run.content(0), None);
        run.sleeper(Op::Load(0));
        assert_eq!(run.get(thread, Op::Truncate { file: 0, len: 6 * PAGE }), Back::Done);
        assert_eq!(run.read(0, 8), ["F0r"]);
        // c4: beyond the end there is no message either.
        assert_eq!(run.get(thread, Op::touch(7, false)), Back::Bus);
        // d12: through the mapping that nobody watches.
        let remove = Op::advise(10, 12, Advise::Remove);
        assert_eq!(run.get(thread, remove), Back::Done);
        assert_eq!(run.content(3), None);
        // And through the one that is.
        let remover = run.sleeper(Op::advise(4, 5, Advise::Remove));
        assert_eq!(run.content(4), Some(source(4)));
        assert_eq!(run.read(0, 1), ["REMOVE 4..5"]);
        run.returned(remover, Back::Done);
        assert_eq!(run.content(4), None);
    });
}

#[test]
fn v49_d10_freeing_shared_memory_is_announced_and_then_refused() {
    aliased("v49_d10", Kind::Shmem).features(Features::EVENT_REMOVE).run(|run| {
        watch(run, MISSING);
        run.copy(0, 2);
        let remover = run.sleeper(Op::advise(0, 2, Advise::Free));
        assert_eq!(run.read(0, 1), ["REMOVE 0..2"]);
        run.returned(remover, Back::Err(Errno::EINVAL));
        assert_eq!(run.content(0), Some(source(0)));
    });
}

#[test]
fn v57_c7_e12_d6_huge_pages_are_one_page() {
    for kind in [Kind::Huge, Kind::HugePrivate] {
        let features = Features::EVENT_REMOVE;
        let case = Case::new("v57", 1024).kind(kind).features(features);
        case.run(|run| {
            let sleeper = run.sleeper(Op::Touch { at: 3 * PAGE + 8, write: false });
            assert_eq!(run.read(0, 8), ["F0r"]);
            let (half, odd) = (run.span(0, 256), run.span(1, 513));
            for range in [half, odd] {
                let outcome = run.copy_span(0, range, CopyMode::empty());
                assert_eq!(outcome, Outcome::mirrored(Errno::EINVAL));
            }
            assert_eq!(run.copy(0, 512), Outcome::done(HUGE));
            assert!(matches!(run.state(sleeper), Settled::Returned(Back::Loaded(_))));
            // The end is rounded down, and what is less than a page is nothing.
            let (thread, settled) = run.spawn(Op::dontneed(0, 511));
            assert_eq!(settled, Settled::Returned(Back::Done));
            let remover = run.sleeper(Op::dontneed(0, 600));
            assert_eq!(run.read(0, 1), ["REMOVE 0..512"]);
            run.returned(remover, Back::Done);
            let back = run.get(thread, Op::dontneed(1, 513));
            assert_eq!(back, Back::Err(Errno::EINVAL));
        });
    }
}

#[test]
fn v57_b2_b14_huge_registrations_are_aligned() {
    let case = Case::new("v57_b2", 1024).kind(Kind::Huge).modes(RegisterModes::empty());
    case.run(|run| {
        let (start, end) = (run.span(1, 512), run.span(0, 511));
        for range in [start, end] {
            assert_eq!(run.register(0, range, MISSING), Err(Errno::EINVAL));
        }
        let whole = run.span(0, 1024);
        run.register(0, whole, MISSING).unwrap();
        for range in [start, end] {
            assert_eq!(run.unregister(0, range), Err(Errno::EINVAL));
        }
    });
}

#[test]
fn v56_c11_an_exact_address_of_a_huge_page() {
    for (features, wakes) in [(Features::empty(), true), (Features::EXACT_ADDRESS, false)] {
        let case = Case::new("v56_huge", 512).kind(Kind::Huge).features(features);
        case.run(|run| {
            let sleeper = run.sleeper(Op::Touch { at: PAGE + 0x238, write: false });
            let name = if wakes { "F0r" } else { "F1+0x238r" };
            assert_eq!(run.read(0, 8), [name]);
            // A wake of the first 4 KiB.
            let first = run.span(0, 1);
            run.wake(0, first).unwrap();
            let again = run.read(0, 8);
            assert_eq!(!again.is_empty(), wakes);
            assert_eq!(run.copy(0, 512), Outcome::done(HUGE));
            assert!(matches!(run.state(sleeper), Settled::Returned(Back::Loaded(_))));
        });
    }
}

#[test]
fn v58_e12_a_copy_without_a_huge_page_to_spare() {
    for kind in [Kind::Huge, Kind::HugePrivate] {
        let case = Case::new("v58_e12", 512).kind(kind).empty_pool();
        case.run(|run| {
            assert_eq!(run.copy(0, 512), Outcome::mirrored(Errno::EEXIST));
            assert_eq!(run.content(0), None);
        });
    }
}

#[test]
fn v59_f1_f3_shared_memory_always_takes_markers_and_keeps_them() {
    aliased("v59_shmem", Kind::Shmem).run(|run| {
        watch(run, BOTH);
        run.copy_wp(0, 1);
        assert_eq!(run.protect(1, 6, true), Outcome::OK);
        assert!(run.is_wp(0) && run.is_wp(1));
        let (thread, _) = run.spawn(Op::dontneed(0, 2));
        assert!(run.is_wp(0) && run.is_wp(1));
        run.copy_wp(2, 4);
        run.go(thread, Op::Punch { file: 0, at: 2 * PAGE, len: PAGE });
        assert!(run.is_wp(2));
        run.go(thread, Op::advise(3, 4, Advise::Remove));
        assert!(run.is_wp(3));
        run.go(thread, Op::Truncate { file: 0, len: 5 * PAGE });
        assert!(run.is_wp(5));
    });
}

#[test]
fn v63_c2_e15_minor_faults_and_continue() {
    for kind in [Kind::Shmem, Kind::ShmemPrivate] {
        aliased("v63", kind).run(|run| {
            watch(run, MINOR);
            // A hole in the file comes silently.
            let (thread, settled) = run.spawn(Op::Load(0));
            assert_eq!(settled, Settled::Returned(Back::Loaded(Content::Zero)));
            assert_eq!(run.cont(1, 2, ContinueMode::empty()), Outcome::mirrored(Errno::EFAULT));
            // A page of the file does not.
            assert_eq!(run.get(thread, Op::Store(9, 1)), Back::Done);
            let bytes = Content::Written { task: thread as u16, seq: 1 };
            let reader = run.sleeper(Op::Load(1));
            assert_eq!(run.read(0, 8), ["F1r MINOR"]);
            assert_eq!(run.cont(1, 2, ContinueMode::empty()), Outcome::done(PAGE));
            run.returned(reader, Back::Loaded(bytes));
            assert_eq!(run.cont(1, 2, ContinueMode::empty()), Outcome::mirrored(Errno::EEXIST));
            // A write goes to the file, or to a copy of the page.
            assert_eq!(run.get(reader, Op::Store(1, 7)), Back::Done);
            let theirs = run.get(thread, Op::Load(9));
            let private = kind.is_private();
            assert_eq!(theirs == Back::Loaded(bytes), private);
            // Dropped, the page is asked for again: the file still has it.
            run.get(thread, Op::dontneed(1, 2));
            run.sleeper(Op::Load(1));
            assert_eq!(run.read(0, 8), ["F1r MINOR"]);
        });
    }
}

#[test]
fn v63_e15_continue_protected() {
    aliased("v63_wp", Kind::Shmem).run(|run| {
        watch(run, MINOR | WP);
        let (thread, _) = run.spawn(Op::Store(8, 1));
        let reader = run.sleeper(Op::Load(0));
        assert_eq!(run.cont(0, 1, ContinueMode::WP), Outcome::done(PAGE));
        assert!(matches!(run.state(reader), Settled::Returned(Back::Loaded(_))));
        assert!(run.is_wp(0));
        let writer = run.sleeper(Op::Store(0, 1));
        assert_eq!(run.read(0, 8), ["F0w WP"]);
        run.protect(0, 1, false);
        run.returned(writer, Back::Done);
        assert_eq!(run.get(thread, Op::Store(8, 2)), Back::Done);
    });
    aliased("v63_not_wp", Kind::Shmem).run(|run| {
        watch(run, MINOR);
        run.spawn(Op::Store(8, 1));
        assert_eq!(run.cont(0, 1, ContinueMode::WP), Outcome::mirrored(Errno::EINVAL));
    });
}

#[test]
fn v63_c2_a_missing_page_may_be_resolved_through_the_file() {
    aliased("v63_missing", Kind::Shmem).run(|run| {
        watch(run, MISSING | MINOR);
        let reader = run.sleeper(Op::Load(0));
        assert_eq!(run.read(0, 8), ["F0r"]);
        let (thread, _) = run.spawn(Op::Store(8, 1));
        assert_eq!(run.cont(0, 1, ContinueMode::empty()), Outcome::done(PAGE));
        let bytes = Content::Written { task: thread as u16, seq: 1 };
        run.returned(reader, Back::Loaded(bytes));
    });
}

/// Forty pages of a file and as many again that nobody watches.
fn wide(name: &str) -> Case<'_> {
    let watched = Piece::new(0, 40, Kind::Shmem);
    let case = Case::new(name, 80).pieces(&[watched, Piece { at: 40, ..watched }]);
    case.modes(RegisterModes::empty())
}

/// Which pages of 0..40 are mapped.
fn mapped(run: &mut Run) -> Vec<u64> {
    (0..40).filter(|page| run.content(*page).is_some()).collect()
}

#[test]
fn v64_v74_c2_a_read_brings_its_cached_neighbours() {
    for (modes, write, around) in [
        (MISSING, false, (16..32).collect::<Vec<_>>()),
        (MISSING, true, vec![20]),
        (BOTH, false, vec![20]),
    ] {
        wide("v64_v74").run(|run| {
            let (thread, _) = run.spawn(Op::populate(40, 80, true));
            run.returned(thread, Back::Done);
            let low = run.span(0, 40);
            run.register(0, low, modes).unwrap();
            let op = if write { Op::Store(20, 1) } else { Op::Load(20) };
            let (_, settled) = run.spawn(op);
            assert!(matches!(settled, Settled::Returned(_)), "cached pages come silently");
            assert_eq!(mapped(run), around, "{modes:?} write {write}");
            assert_eq!(run.read(0, 8), [""; 0]);
        });
    }
}

#[test]
fn v65_e11_a_copy_over_a_cached_page() {
    for (kind, outcome) in
        [(Kind::Shmem, Outcome::mirrored(Errno::EEXIST)), (Kind::ShmemPrivate, Outcome::done(PAGE))]
    {
        aliased("v65", kind).run(|run| {
            watch(run, MISSING);
            let (thread, _) = run.spawn(Op::Store(8, 1));
            assert_eq!(run.copy(0, 1), outcome);
            let back = run.get(thread, Op::Load(8));
            let own = Content::Written { task: thread as u16, seq: 1 };
            assert_eq!(back, Back::Loaded(own), "the file is as it was");
        });
    }
}

#[test]
fn v73_e10_e12_a_bad_source_and_a_present_page() {
    for (kind, errno) in
        [(Kind::Anon, Errno::EFAULT), (Kind::Shmem, Errno::EFAULT), (Kind::Huge, Errno::EEXIST)]
    {
        let unit = kind.granule();
        let piece = Piece::new(0, unit, kind);
        let case = Case::new("v73", 2 * unit).pieces(&[piece]);
        case.run(|run| {
            assert_eq!(run.copy(0, unit), Outcome::done(unit * PAGE));
            let (to, from, len) = (0, unit * PAGE, unit * PAGE);
            let (_, settled) = run.spawn(Op::CopyFrom { uffd: 0, to, from, len });
            assert_eq!(settled, Settled::Returned(Back::Err(errno)), "{kind:?}");
        });
    }
}

#[test]
fn v28_b13_unregistering_minor_alone_wakes_nobody() {
    aliased("v28_minor", Kind::Shmem).run(|run| {
        watch(run, MINOR);
        run.spawn(Op::Store(8, 1));
        let reader = run.sleeper(Op::Load(0));
        let low = run.span(0, 8);
        run.unregister(0, low).unwrap();
        run.asleep(reader);
        run.wake(0, low).unwrap();
        assert!(matches!(run.state(reader), Settled::Returned(Back::Loaded(_))));
    });
}

#[test]
fn c2_a_mapping_of_a_file_that_comes_later_finds_its_pages() {
    Case::new("c2_later", 8).pieces(&[Piece::new(0, 4, Kind::Shmem)]).run(|run| {
        run.copy(0, 2);
        let piece = Piece::new(4, 4, Kind::ShmemPrivate);
        let (thread, settled) = run.spawn(Op::MapFile { piece });
        assert_eq!(settled, Settled::Returned(Back::Done));
        assert_eq!(run.get(thread, Op::Load(5)), Back::Loaded(source(1)));
        assert_eq!(run.get(thread, Op::Store(5, 1)), Back::Done);
        assert_eq!(run.get(thread, Op::Load(1)), Back::Loaded(source(1)));
    });
}

#[test]
fn e16_poison_is_of_the_entry_and_not_of_the_file() {
    aliased("e16_shmem", Kind::Shmem).run(|run| {
        watch(run, MISSING);
        let (thread, _) = run.spawn(Op::Store(8, 1));
        assert_eq!(run.poison(0, 1), Outcome::done(PAGE));
        assert_eq!(run.get(thread, Op::touch(0, false)), Back::Bus);
        assert!(matches!(run.get(thread, Op::Load(8)), Back::Loaded(_)));
        run.get(thread, Op::dontneed(0, 1));
        assert!(matches!(run.get(thread, Op::Load(0)), Back::Loaded(_)));
    });
}
