//! Faults, populations, protections and the descriptor's life: rules a, b and c.

use shims::{Errno, Features, Outcome, RegisterModes};
use sim::Content;
use sim::vma::Prot;

use faultbed::judge::{Back, Op, PAGE, Settled};
use faultbed::judge::{Run, both, source};

const NONE: Features = Features::empty();
const REMOVE: Features = Features::EVENT_REMOVE;

fn loaded(n: u64) -> Back {
    Back::Loaded(source(n))
}

#[test]
fn v1_a11_faults_are_read_before_events_each_in_order() {
    both("v1_a11", 8, REMOVE, |run| {
        let a = run.sleeper(Op::dontneed(6, 7));
        let three = run.sleeper(Op::Load(3));
        let b = run.sleeper(Op::dontneed(7, 8));
        run.sleeper(Op::Load(1));
        run.sleeper(Op::Load(2));
        assert_eq!(run.read(0, 16), ["F3r", "F1r", "F2r", "REMOVE 6..7", "REMOVE 7..8"]);
        run.returned(a, Back::Done);
        run.returned(b, Back::Done);
        assert_eq!(run.copy(1, 4), Outcome::done(3 * PAGE));
        run.returned(three, loaded(3));
    });
}

#[test]
fn v2_v25_c11_a_wake_without_a_page_sends_a_new_message_at_the_tail() {
    both("v2_c11", 4, REMOVE, |run| {
        for n in 1..4 {
            run.sleeper(Op::Load(n));
        }
        let one = run.span(1, 2);
        assert_eq!(run.wake(0, one), Ok(()));
        assert_eq!(run.read(0, 8), ["F2r", "F3r", "F1r"]);
        // Read already: the message comes anew all the same.
        assert_eq!(run.wake(0, one), Ok(()));
        assert_eq!(run.read(0, 8), ["F1r"]);
        let all = run.span(0, 4);
        assert_eq!(run.wake(0, all), Ok(()));
        // Three at once come back in any order, so that only their number is told.
        assert_eq!(run.arm.counts(0), (3, 3));
    });
}

#[test]
fn v3_a18_a9_what_was_read_is_neither_pending_nor_readable() {
    both("v3_a18_a9", 2, NONE, |run| {
        assert_eq!(run.read(0, 1), [""; 0]);
        let thread = run.sleeper(Op::Load(0));
        assert_eq!((run.arm.readable(0), run.arm.counts(0)), (true, (1, 1)));
        assert_eq!(run.read(0, 8), ["F0r"]);
        assert_eq!((run.arm.readable(0), run.arm.counts(0)), (false, (0, 1)));
        assert_eq!(run.read(0, 8), [""; 0]);
        run.copy(0, 1);
        run.returned(thread, loaded(0));
        assert_eq!(run.arm.counts(0), (0, 0));
    });
}

#[test]
fn v4_a10_a_read_takes_as_many_messages_as_fit() {
    both("v4_a10", 4, NONE, |run| {
        for n in 0..4 {
            run.sleeper(Op::Load(n));
        }
        assert_eq!(run.read(0, 1), ["F0r"]);
        assert_eq!(run.read(0, 2), ["F1r", "F2r"]);
        assert_eq!(run.read(0, 2), ["F3r"]);
        let none = run.other(0, "read 0", |uffd| uffd.read_events(&mut Vec::new(), 0));
        assert_eq!(none, Err(Errno::EINVAL));
    });
}

#[test]
fn v6_a6_a_second_handshake_is_refused() {
    both("v6_a6", 1, NONE, |run| {
        let again = run.other(0, "api", |uffd| uffd.api(Features::empty()).err());
        assert_eq!(again, Some(Errno::EINVAL));
    });
}

#[test]
fn v9_a20_a21_close_wakes_faulters_and_senders_and_they_find_zeros() {
    both("v9_a20_a21", 4, REMOVE, |run| {
        let read = run.sleeper(Op::Load(0));
        run.read(0, 8);
        let unread = run.sleeper(Op::Load(1));
        let store = run.sleeper(Op::Store(2, 1));
        let populate = run.sleeper(Op::populate(0, 2, true));
        let sender = run.sleeper(Op::dontneed(3, 4));
        run.close(0);
        run.returned(read, Back::Loaded(Content::Zero));
        run.returned(unread, Back::Loaded(Content::Zero));
        run.returned(store, Back::Done);
        run.returned(populate, Back::Done);
        run.returned(sender, Back::Done);
        assert_eq!(run.areas(), ["0..4 rw-"]);
    });
}

#[test]
fn v17_c8_two_threads_on_one_page_are_two_messages_and_one_copy() {
    both("v17_c8", 2, NONE, |run| {
        let load = run.sleeper(Op::Load(0));
        let write = run.sleeper(Op::populate(0, 1, true));
        assert_eq!(run.read(0, 8), ["F0r", "F0w"]);
        assert_eq!(run.copy(0, 1), Outcome::done(PAGE));
        run.returned(load, loaded(0));
        run.returned(write, Back::Done);
    });
}

#[test]
fn v27_b13_unregister_wakes_the_faulters_of_its_range_only() {
    both("v27_b13", 4, NONE, |run| {
        let inside = run.sleeper(Op::Load(0));
        let outside = run.sleeper(Op::Load(3));
        let part = run.span(0, 2);
        assert_eq!(run.unregister(0, part), Ok(()));
        run.returned(inside, Back::Loaded(Content::Zero));
        run.asleep(outside);
        assert_eq!(run.areas(), ["0..2 rw-", "2..4 rw- MISSING"]);
    });
}

#[test]
fn v29_b3_b7_registering_passes_over_holes_and_refuses_nothing_but_hole() {
    both("v29_b3", 8, NONE, |run| {
        let thread = run.thread();
        let whole = run.span(0, 8);
        assert_eq!(run.unregister(0, whole), Ok(()));
        run.go(thread, Op::unmap(2, 5));
        let hole = run.span(2, 5);
        assert_eq!(run.register(0, hole, RegisterModes::MISSING), Err(Errno::EINVAL));
        assert_eq!(run.unregister(0, hole), Err(Errno::EINVAL));
        assert!(run.register(0, whole, RegisterModes::MISSING).is_ok());
        assert!(run.register(0, whole, RegisterModes::MISSING).is_ok(), "again: nothing changes");
        assert_eq!(run.areas(), ["0..2 rw- MISSING", "5..8 rw- MISSING"]);
        let part = run.span(6, 7);
        assert_eq!(run.unregister(0, part), Ok(()));
        assert_eq!(run.unregister(0, part), Ok(()), "not registered is no error");
    });
}

#[test]
fn b1_b2_malformed_registrations() {
    both("b1_b2", 4, NONE, |run| {
        let ask = [
            (run.bytes(1, PAGE), RegisterModes::MISSING),
            (run.bytes(0, PAGE + 1), RegisterModes::MISSING),
            (run.bytes(0, 0), RegisterModes::MISSING),
            (run.bytes(0, u64::MAX - PAGE + 1), RegisterModes::MISSING),
            (run.span(0, 4), RegisterModes::empty()),
            (run.span(0, 4), RegisterModes::from_bits_retain(8)),
            // b4: anonymous memory has no page cache.
            (run.span(0, 4), RegisterModes::MINOR),
        ];
        for (range, modes) in ask {
            assert_eq!(run.register(0, range, modes), Err(Errno::EINVAL), "{range} {modes:?}");
        }
        for (at, len) in [(1, PAGE), (0, PAGE + 1), (0, 0)] {
            let range = run.bytes(at, len);
            assert_eq!(run.unregister(0, range), Err(Errno::EINVAL));
            assert_eq!(run.wake(0, range), Err(Errno::EINVAL));
        }
    });
}

#[test]
fn b5_memory_of_another_context_is_busy() {
    both("b5_busy", 4, NONE, |run| {
        let other = run.open(NONE);
        let range = run.span(1, 3);
        assert_eq!(run.register(other, range, RegisterModes::MISSING), Err(Errno::EBUSY));
        // b12: another context's memory is not given up by this one.
        let _ = run.unregister(other, range);
        run.unregister(0, range).unwrap();
        assert!(run.register(other, range, RegisterModes::MISSING).is_ok());
        let thread = run.sleeper(Op::Load(1));
        assert_eq!(run.read(0, 8), [""; 0]);
        assert_eq!(run.read(other, 8), ["F1r"]);
        run.close(other);
        run.returned(thread, Back::Loaded(Content::Zero));
    });
}

#[test]
fn v51_c13_unmapping_wakes_nobody_and_a_wake_on_the_hole_does() {
    both("v51_c13", 4, NONE, |run| {
        let sleeper = run.sleeper(Op::touch(0, false));
        let (other, settled) = run.spawn(Op::unmap(0, 1));
        assert_eq!(settled, Settled::Returned(Back::Done));
        run.asleep(sleeper);
        assert_eq!(run.copy(0, 1), Outcome::mirrored(Errno::ENOENT));
        run.asleep(sleeper);
        let hole = run.span(0, 1);
        assert_eq!(run.wake(0, hole), Ok(()));
        run.returned(sleeper, Back::MapErr);

        // Protecting, replacing and removing wake nobody either.
        let two = run.sleeper(Op::touch(2, true));
        run.go(other, Op::protect(2, 3, Prot::READ));
        run.asleep(two);
        run.go(other, Op::dontneed(2, 3));
        run.asleep(two);
        run.go(other, Op::map(2, 3));
        run.asleep(two);
        let place = run.span(2, 3);
        assert_eq!(run.wake(0, place), Ok(()));
        run.returned(two, Back::Done);
    });
}

#[test]
fn v56_c7_without_exact_address_the_message_names_the_page() {
    both("v56_c7_thread", 4, Features::THREAD_ID, |run| {
        run.sleeper(Op::Load(1));
        run.sleeper(Op::Store(2, 1));
        assert_eq!(run.read(0, 8), ["F1r by Some(0)", "F2w by Some(1)"]);
    });
}

#[test]
fn v67_c4_e7_protection_comes_before_any_message_and_an_install_ignores_it() {
    both("v67_c4", 3, NONE, |run| {
        let thread = run.thread();
        run.go(thread, Op::protect(0, 1, Prot::NONE));
        run.go(thread, Op::protect(1, 2, Prot::READ));
        for (page, write) in [(0, false), (0, true), (1, true)] {
            let back = run.go(thread, Op::touch(page, write));
            assert_eq!(back, Settled::Returned(Back::AccErr), "page {page} write {write}");
        }
        assert_eq!(run.read(0, 8), [""; 0]);
        assert_eq!(run.copy(0, 1), Outcome::done(PAGE));
        assert_eq!(run.zero(1, 2), Outcome::done(PAGE));
        assert_eq!(run.go(thread, Op::Load(1)), Settled::Returned(Back::Loaded(Content::Zero)));
        run.go(thread, Op::protect(0, 2, Prot::RW));
        assert_eq!(run.go(thread, Op::Load(0)), Settled::Returned(loaded(0)));
    });
}

#[test]
fn c1_write_only_memory_may_be_read_on_x86() {
    both("c1_write_only", 2, NONE, |run| {
        let thread = run.thread();
        run.go(thread, Op::protect(0, 1, Prot::WRITE));
        run.copy(0, 1);
        let back = run.go(thread, Op::touch(0, false));
        assert_eq!(back, Settled::Returned(loaded(0)));
    });
}

#[test]
fn v80_c9_populate_faults_page_by_page() {
    both("v80_c9", 6, NONE, |run| {
        run.copy(1, 2);
        let writer = run.sleeper(Op::populate(0, 3, true));
        assert_eq!(run.read(0, 8), ["F0w"]);
        run.copy(0, 1);
        run.asleep(writer);
        assert_eq!(run.read(0, 8), ["F2w"]);
        run.zero(2, 3);
        run.returned(writer, Back::Done);
        let reader = run.sleeper(Op::populate(2, 4, false));
        assert_eq!(run.read(0, 8), ["F3r"]);
        run.copy(3, 4);
        run.returned(reader, Back::Done);
        run.go(reader, Op::Populate { at: 1, len: PAGE, write: false });
        run.returned(reader, Back::Err(Errno::EINVAL));
        run.go(reader, Op::Populate { at: 0, len: 0, write: true });
        run.returned(reader, Back::Done);
    });
}

#[test]
fn v80_c9_populate_stops_at_holes_and_protections() {
    both("v80_c9_errors", 8, NONE, |run| {
        let thread = run.thread();
        let whole = run.span(0, 8);
        run.unregister(0, whole).unwrap();
        run.go(thread, Op::unmap(2, 3));
        run.go(thread, Op::protect(5, 6, Prot::NONE));
        run.go(thread, Op::protect(7, 8, Prot::WRITE));
        for (start, end, write, errno) in [
            (0, 4, false, Errno::ENOMEM),
            (1, 4, true, Errno::ENOMEM),
            (2, 3, true, Errno::ENOMEM),
            (4, 7, false, Errno::EINVAL),
            (3, 7, true, Errno::EINVAL),
            (7, 8, false, Errno::EINVAL),
        ] {
            let settled = run.go(thread, Op::populate(start, end, write));
            let want = Settled::Returned(Back::Err(errno));
            assert_eq!(settled, want, "{start}..{end} write {write}");
        }
    });
}

#[test]
fn v79_c1_a_waiting_write_keeps_mappings_apart_and_a_waiting_read_does_not() {
    // Two mappings with a gap; something happens in each; then the gap is filled by a
    // mapping that could join both.
    type Case = (&'static str, &'static [&'static str], fn(&mut Run));
    let cases: [Case; 5] = [
        ("nothing", &["0..5 rw- MISSING"], |_| {}),
        ("reads", &["0..5 rw- MISSING"], |run| {
            run.sleeper(Op::Load(0));
            run.sleeper(Op::Load(4));
        }),
        ("writes", &["0..3 rw- MISSING", "3..5 rw- MISSING"], |run| {
            run.sleeper(Op::Store(0, 1));
            run.sleeper(Op::Store(4, 1));
        }),
        ("one write", &["0..5 rw- MISSING"], |run| {
            run.sleeper(Op::Store(4, 1));
        }),
        ("zero pages", &["0..3 rw- MISSING", "3..5 rw- MISSING"], |run| {
            run.zero(0, 1);
            run.zero(4, 5);
        }),
    ];
    for (name, areas, body) in cases {
        both(&format!("v79_c1 {name}"), 5, NONE, |run| {
            let thread = run.thread();
            run.go(thread, Op::unmap(2, 3));
            body(run);
            run.go(thread, Op::map(2, 3));
            let gap = run.span(2, 3);
            run.register(0, gap, RegisterModes::MISSING).unwrap();
            assert_eq!(run.areas(), areas, "{name}");
        });
    }
}

#[test]
fn v79_c1_a_copy_that_fails_leaves_its_mark_too() {
    both("v79_c1_failed_copy", 5, NONE, |run| {
        let whole = run.span(0, 5);
        run.unregister(0, whole).unwrap();
        let (thread, _) = run.spawn(Op::Load(0));
        // The zero page that a plain read leaves has made no mark.
        run.go(thread, Op::Load(4));
        run.go(thread, Op::unmap(2, 3));
        run.register(0, whole, RegisterModes::MISSING).unwrap();
        assert_eq!(run.copy(0, 1), Outcome::mirrored(Errno::EEXIST));
        assert_eq!(run.zero(4, 5), Outcome::mirrored(Errno::EEXIST));
        run.go(thread, Op::map(2, 3));
        run.register(0, whole, RegisterModes::MISSING).unwrap();
        assert_eq!(run.areas(), ["0..3 rw- MISSING", "3..5 rw- MISSING"]);
    });
}

#[test]
fn v56_c7_c11_exact_address_names_the_byte_and_wakes_compare_it() {
    both("v56_c7_exact", 4, Features::EXACT_ADDRESS, |run| {
        let thread = run.sleeper(Op::Touch { at: PAGE + 0x128, write: false });
        run.sleeper(Op::Touch { at: 2 * PAGE + 0xff8, write: true });
        run.sleeper(Op::populate(3, 4, false));
        assert_eq!(run.read(0, 8), ["F1+0x128r", "F2+0xff8w", "F3r"]);
        assert_eq!(run.copy(1, 2), Outcome::done(PAGE));
        run.returned(thread, loaded(1));
        let whole = run.span(2, 3);
        assert_eq!(run.wake(0, whole), Ok(()));
        assert_eq!(run.read(0, 8), ["F2+0xff8w"]);
    });
}

#[test]
fn e14_f7_a_zero_page_is_replaced_silently_by_a_write() {
    both("e14_f7", 2, NONE, |run| {
        assert_eq!(run.zero(0, 1), Outcome::done(PAGE));
        let (thread, settled) = run.spawn(Op::Load(0));
        assert_eq!(settled, Settled::Returned(Back::Loaded(Content::Zero)));
        assert_eq!(run.go(thread, Op::Store(0, 1)), Settled::Returned(Back::Done));
        assert_eq!(run.read(0, 8), [""; 0]);
        assert_eq!(run.content(0), Some(Content::Written { task: thread as u16, seq: 1 }));
        assert_eq!(run.zero(0, 1), Outcome::mirrored(Errno::EEXIST));
    });
}
