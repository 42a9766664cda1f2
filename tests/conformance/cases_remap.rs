//! `mremap` of watched memory: rules d18 to d24.

use shims::{Errno, Features, Outcome, RegisterModes};
use sim::Content;
use sim::vma::RemapFlags;

use faultbed::judge::{Back, Op, PAGE, Piece};
use faultbed::judge::{Case, Run, source};

const BOTH: RegisterModes = RegisterModes::MISSING.union(RegisterModes::WP);
const EVENTS: Features = Features::EVENT_REMAP.union(Features::EVENT_UNMAP);

/// Eight pages, and room for eight more behind them.
fn case(name: &str, features: Features) -> Case<'_> {
    let piece = Piece::new(0, 8, faultbed::judge::Kind::Anon);
    let features = features | Features::WP_UNPOPULATED;
    Case::new(name, 16).pieces(&[piece]).modes(BOTH).features(features)
}

fn resize(run: &mut Run, start: u64, len: u64, new: u64) -> (usize, faultbed::judge::Settled) {
    let flags = RemapFlags::empty();
    let (at, len, new_len) = (start * PAGE, len * PAGE, new * PAGE);
    run.spawn(Op::Remap { at, len, new_len, to: None, flags })
}

#[test]
fn v45_d20_target_then_move_then_source() {
    case("v45_d20", EVENTS).run(|run| {
        run.copy(0, 2);
        let mover = run.sleeper(Op::remap(0, 2, 4));
        let changing = run.changing();
        // The pages are there already.
        assert_eq!((run.content(4), run.content(0)), (Some(source(0)), None));
        for event in ["UNMAP 4..6", "REMAP 0..2 to 4", "UNMAP 0..2"] {
            run.asleep(mover);
            assert_eq!(run.copy(7, 8), changing);
            assert_eq!(run.read(0, 1), [event]);
        }
        run.returned(mover, Back::Done);
        assert_eq!(run.copy(7, 8), Outcome::done(PAGE));
    });
}

#[test]
fn v45_d18_growing_tells_nobody_and_shrinking_unmaps_the_tail() {
    case("v45_d18", EVENTS).run(|run| {
        run.copy(0, 8);
        let (mover, _) = resize(run, 0, 8, 10);
        run.returned(mover, Back::Done);
        run.sleeper(Op::Load(9));
        assert_eq!(run.read(0, 8), ["F9r"]);
        let (mover, _) = resize(run, 0, 10, 3);
        run.asleep(mover);
        assert_eq!(run.content(5), None);
        assert_eq!(run.read(0, 1), ["UNMAP 3..10"]);
        run.returned(mover, Back::Done);
    });
}

#[test]
fn v45_d21_a_move_that_shrinks() {
    case("v45_d21", EVENTS).run(|run| {
        run.copy(0, 8);
        let flags = RemapFlags::MAYMOVE | RemapFlags::FIXED;
        let (len, to) = (8 * PAGE, Some(10 * PAGE));
        let mover = run.sleeper(Op::Remap { at: 0, len, new_len: 2 * PAGE, to, flags });
        // Which length the REMAP has depends on the kernel; the transcripts compare it.
        let mut events = Vec::new();
        while run.state(mover) == faultbed::judge::Settled::Asleep {
            events.extend(run.read(0, 1));
        }
        assert_eq!(events[1..], ["UNMAP 2..8", "UNMAP 0..2"]);
        run.returned(mover, Back::Done);
    });
}

#[test]
fn v46_d19_without_the_event_the_new_place_is_plain_memory() {
    case("v46_d19", Features::empty()).run(|run| {
        run.copy_wp(0, 1);
        run.protect(1, 2, true);
        run.poison(2, 3);
        let (mover, _) = run.spawn(Op::remap(0, 4, 8));
        run.returned(mover, Back::Done);
        assert_eq!(run.areas(), ["4..8 rw- MISSING|WP", "8..12 rw-"]);
        assert!(!run.is_wp(8) && !run.is_wp(9));
        assert_eq!(run.get(mover, Op::Store(8, 1)), Back::Done);
        assert_eq!(run.get(mover, Op::Load(9)), Back::Loaded(Content::Zero));
        assert_eq!(run.get(mover, Op::touch(10, false)), Back::Bus);
        assert_eq!(run.get(mover, Op::Load(11)), Back::Loaded(Content::Zero));
    });
}

#[test]
fn v45_d19_with_the_event_registration_and_bits_come_along() {
    case("v45_d19", Features::EVENT_REMAP).run(|run| {
        run.copy_wp(0, 1);
        run.protect(1, 2, true);
        let mover = run.sleeper(Op::remap(0, 3, 8));
        assert_eq!(run.read(0, 1), ["REMAP 0..3 to 8"]);
        run.returned(mover, Back::Done);
        assert!(run.is_wp(8) && run.is_wp(9) && !run.is_wp(10));
        for page in 8..11 {
            run.sleeper(Op::Store(page, 1));
        }
        assert_eq!(run.read(0, 8), ["F8w WP", "F9w", "F10w"]);
    });
}

#[test]
fn v45_d19_d20_dontunmap_leaves_the_old_range_watched_and_empty() {
    for features in [Features::empty(), EVENTS] {
        case("v45_dontunmap", features).run(|run| {
            run.copy(0, 2);
            let flags = RemapFlags::MAYMOVE | RemapFlags::FIXED | RemapFlags::DONTUNMAP;
            let (len, to) = (2 * PAGE, Some(8 * PAGE));
            let (mover, _) = run.spawn(Op::Remap { at: 0, len, new_len: len, to, flags });
            if features.contains(Features::EVENT_REMAP) {
                run.asleep(mover);
                assert_eq!(run.read(0, 1), ["REMAP 0..2 to 8"]);
            }
            run.returned(mover, Back::Done);
            assert_eq!((run.content(0), run.content(9)), (None, Some(source(1))));
            run.sleeper(Op::Load(0));
        });
    }
}

#[test]
fn v51_d22_who_sleeps_at_the_old_address_sleeps_on() {
    case("v51_d22", Features::EVENT_REMAP).run(|run| {
        let sleeper = run.sleeper(Op::touch(0, false));
        let mover = run.sleeper(Op::remap(0, 2, 8));
        assert_eq!(run.read(0, 8), ["F0r", "REMAP 0..2 to 8"]);
        run.returned(mover, Back::Done);
        assert_eq!(run.copy(8, 9), Outcome::done(PAGE));
        run.asleep(sleeper);
        let old = run.span(0, 1);
        run.wake(0, old).unwrap();
        run.returned(sleeper, Back::MapErr);
    });
}

#[test]
fn v47_d23_one_call_over_several_mappings_stops_half_way_at_a_watched_one() {
    case("v47_d23", Features::empty()).run(|run| {
        run.copy(0, 4);
        let low = run.span(0, 2);
        run.unregister(0, low).unwrap();
        let (mover, _) = run.spawn(Op::remap(0, 4, 8));
        run.returned(mover, Back::Err(Errno::EFAULT));
        assert_eq!((run.content(8), run.content(2)), (Some(source(0)), Some(source(2))));
        assert_eq!(run.areas(), ["2..8 rw- MISSING|WP", "8..10 rw-"]);
    });
}

#[test]
fn d24_a_failed_call_leaves_the_gate_open() {
    case("d24", EVENTS).run(|run| {
        let (mover, _) = run.spawn(Op::remap(0, 2, 1));
        run.returned(mover, Back::Err(Errno::EINVAL));
        let hole = run.get(mover, Op::remap(12, 14, 9));
        assert_eq!(hole, Back::Err(Errno::EFAULT));
        assert_eq!(run.copy(0, 1), Outcome::done(PAGE));
        assert_eq!(run.read(0, 8), [""; 0]);
    });
}
