//! Accesses by the kernel on a thread's behalf, the family of `madvise`, dirty tracking, and
//! copies whose source waits: rules c5, c9, d10 to d16, d34, e4, e9, f5, f6.

use shims::{Errno, Features, Outcome, RegisterModes};
use sim::Content;
use sim::vma::Prot;

use faultbed::judge::{Advise, Back, Fill, Kind, Op, PAGE, Piece, Scan, Settled};
use faultbed::judge::{Case, Run, both, source};

const BOTH: RegisterModes = RegisterModes::MISSING.union(RegisterModes::WP);
const REMOVE: Features = Features::EVENT_REMOVE;
/// `PAGE_IS_WRITTEN`, `PM_SCAN_WP_MATCHING`, `PM_SCAN_CHECK_WPASYNC`.
const WRITTEN: u64 = 2;
const PROTECT: u64 = 1;
const CHECK: u64 = 2;

#[test]
fn v54_c9_who_waits_and_who_is_refused() {
    let case = Case::new("v54_c9", 8).modes(BOTH);
    case.run(|run| {
        run.copy_wp(6, 7);
        let thread = run.thread();
        // What can wait sends its message, a write or a read.
        let sleepers = [
            (Op::UserCopy { at: 0, write: false }, "F0r"),
            (Op::UserCopy { at: PAGE, write: true }, "F1w"),
            (Op::Remote { at: 2 * PAGE, write: false }, "F2r"),
            (Op::Remote { at: 3 * PAGE, write: true }, "F3w"),
            (Op::Lock { at: 4 * PAGE, len: PAGE, on_fault: false }, "F4w"),
            (Op::Remote { at: 6 * PAGE, write: true }, "F6w WP"),
        ];
        let mut waiting = Vec::new();
        for (op, message) in sleepers {
            waiting.push(run.sleeper(op));
            assert_eq!(run.read(0, 8), [message], "{op:?}");
        }
        // What cannot wait is refused without one.
        for at in [5 * PAGE, 6 * PAGE] {
            let back = run.get(thread, Op::ProcMem { at, write: true });
            assert_eq!(back, Back::Err(Errno::EIO));
        }
        let back = run.get(thread, Op::ProcMem { at: 5 * PAGE, write: false });
        assert_eq!(back, Back::Err(Errno::EIO));
        assert_eq!(run.read(0, 8), [""; 0]);
        assert_eq!(run.copy(0, 4), Outcome::done(4 * PAGE));
        run.returned(waiting[0], Back::Loaded(source(0)));
        run.returned(waiting[1], Back::Done);
        run.returned(waiting[2], Back::Loaded(source(2)));
        run.returned(waiting[3], Back::Done);
        run.protect(6, 7, false);
        run.returned(waiting[5], Back::Done);
        run.zero(4, 5);
        run.returned(waiting[4], Back::Done);
    });
}

#[test]
fn v55_c5_a_feature_that_sends_signals_is_efault_to_the_kernel() {
    let case = Case::new("v55_c5", 2).features(Features::SIGBUS);
    case.run(|run| {
        let thread = run.thread();
        for write in [false, true] {
            let back = run.get(thread, Op::UserCopy { at: 0, write });
            assert_eq!(back, Back::Err(Errno::EFAULT));
            let back = run.get(thread, Op::Remote { at: 0, write });
            assert_eq!(back, Back::Err(Errno::EFAULT));
        }
        assert_eq!(
            run.get(thread, Op::Lock { at: 0, len: PAGE, on_fault: false }),
            Back::Err(Errno::ENOMEM)
        );
        assert_eq!(run.get(thread, Op::touch(0, true)), Back::Bus);
    });
    let case = Case::new("v55_user_only", 2).modes(RegisterModes::empty());
    case.run(|run| {
        let uffd = run.open_raw(0o4001).unwrap();
        run.api(uffd, Features::empty()).unwrap();
        let whole = run.span(0, 2);
        run.register(uffd, whole, RegisterModes::MISSING).unwrap();
        let thread = run.thread();
        for write in [false, true] {
            let back = run.get(thread, Op::UserCopy { at: 0, write });
            assert_eq!(back, Back::Err(Errno::EFAULT));
            let back = run.get(thread, Op::populate(0, 1, write));
            assert_eq!(back, Back::Err(Errno::EFAULT));
        }
        run.sleeper(Op::Load(0));
        assert_eq!(run.read(uffd, 8), ["F0r"]);
    });
}

/// A structure at page 2, behind the stamp that says whose the page is.
const ARG: u64 = 2 * PAGE + 64;

#[test]
fn v26_e4_an_answer_that_cannot_be_written_installs_and_wakes_nobody() {
    let fill = |to| Op::CopyArg { uffd: 0, to: to * PAGE, arg: ARG };
    Case::new("v26_e4", 4).run(|run| {
        run.copy(2, 3);
        let thread = run.thread();
        run.get(thread, Op::protect(2, 3, Prot::READ));
        let sleeper = run.sleeper(Op::Load(0));
        assert_eq!(run.get(thread, fill(0)), Back::Err(Errno::EFAULT));
        assert_eq!(run.content(0), Some(source(0)));
        run.asleep(sleeper);
        // The next answer is an errno, and cannot be written either.
        assert_eq!(run.get(thread, fill(0)), Back::Err(Errno::EFAULT));
        let one = run.span(0, 1);
        run.wake(0, one).unwrap();
        run.returned(sleeper, Back::Loaded(source(0)));
        // Where it can be written, all is as ever.
        run.get(thread, Op::protect(2, 3, Prot::RW));
        assert_eq!(run.get(thread, fill(0)), Back::Err(Errno::EEXIST));
        let sleeper = run.sleeper(Op::Load(1));
        assert_eq!(run.get(thread, fill(1)), Back::Done);
        run.returned(sleeper, Back::Loaded(source(1)));
    });
    // e1, e2: at the gate, the answer is written before the structure is read, and what is no
    // answer is not written.
    Case::new("v26_e1", 4).features(REMOVE).run(|run| {
        run.copy(2, 3);
        let thread = run.thread();
        run.get(thread, Op::protect(2, 3, Prot::READ));
        let bad = Op::CopyArg { uffd: 0, to: 64, arg: ARG };
        assert_eq!(run.get(thread, bad), Back::Err(Errno::EINVAL));
        let remover = run.sleeper(Op::dontneed(3, 4));
        assert_eq!(run.get(thread, bad), Back::Err(Errno::EFAULT));
        run.get(thread, Op::protect(2, 3, Prot::RW));
        assert_eq!(run.get(thread, bad), Back::Err(Errno::EAGAIN));
        assert_eq!(run.read(0, 1), ["REMOVE 3..4"]);
        run.returned(remover, Back::Done);
    });
}

#[test]
fn v30_b5_the_memory_that_cannot_be_watched() {
    // System V segments have a driver of their own.
    let case = Case::new("v30_b5", 4).modes(RegisterModes::empty());
    case.run(|run| {
        let thread = run.thread();
        assert_eq!(run.get(thread, Op::SysvAttach { at: 0, len: 2 * PAGE }), Back::Done);
        let segment = run.span(0, 2);
        let refused = run.register(0, segment, RegisterModes::MISSING);
        assert_eq!(refused, Err(Errno::EINVAL));
        let rest = run.span(2, 4);
        assert!(run.register(0, rest, RegisterModes::MISSING).is_ok());
    });
}

#[test]
fn v35_e10_d13_guards_tell_nobody_and_are_covered() {
    let features = REMOVE | Features::EVENT_UNMAP;
    let case = Case::new("v35", 4).features(features);
    case.run(|run| {
        run.copy(0, 1);
        let (thread, settled) = run.spawn(Op::advise(0, 2, Advise::GuardInstall));
        assert_eq!(settled, Settled::Returned(Back::Done));
        assert_eq!(run.content(0), None);
        assert_eq!(run.get(thread, Op::touch(0, false)), Back::MapErr);
        assert_eq!(run.read(0, 8), [""; 0]);
        assert_eq!(run.copy(0, 1), Outcome::done(PAGE));
        assert_eq!(run.get(thread, Op::Load(0)), Back::Loaded(source(0)));
        assert_eq!(run.get(thread, Op::advise(1, 2, Advise::GuardRemove)), Back::Done);
        run.sleeper(Op::Load(1));
        assert_eq!(run.read(0, 8), ["F1r"]);
    });
}

#[test]
fn v44_d16_a_call_that_fails_has_announced_itself() {
    let case = Case::new("v44_d16", 4).features(Features::EVENT_UNMAP);
    case.run(|run| {
        run.copy(0, 4);
        let thread = run.thread();
        assert_eq!(run.get(thread, Op::Seal { at: 2 * PAGE, len: PAGE }), Back::Done);
        let remover = run.sleeper(Op::unmap(0, 3));
        let changing = run.changing();
        assert_eq!(run.copy(3, 4), changing);
        assert_eq!(run.read(0, 1), ["UNMAP 0..3"]);
        run.returned(remover, Back::Err(Errno::EPERM));
        assert_eq!(run.content(0), Some(source(0)));
    });
}

#[test]
fn v11_d10_d13_the_family_of_madvise() {
    Case::new("v11_d13", 4).features(REMOVE).run(|run| {
        run.copy(0, 4);
        let thread = run.thread();
        for advice in
            [Advise::WillNeed, Advise::Cold, Advise::PageOut, Advise::HugePage, Advise::NoHugePage]
        {
            assert_eq!(run.get(thread, Op::advise(0, 4, advice)), Back::Done, "{advice:?}");
        }
        assert_eq!(run.read(0, 8), [""; 0]);
        // d11: what is freed is there until memory is short.
        let remover = run.sleeper(Op::advise(0, 1, Advise::Free));
        assert_eq!(run.read(0, 1), ["REMOVE 0..1"]);
        run.returned(remover, Back::Done);
        assert_eq!(run.content(0), Some(source(0)));
        let remover = run.sleeper(Op::DontNeedSelf { at: 2 * PAGE, len: PAGE });
        assert_eq!(run.read(0, 1), ["REMOVE 2..3"]);
        run.returned(remover, Back::Done);
        assert_eq!(run.content(2), None);
    });
}

#[test]
fn v11_d10_what_is_refused_before_the_event() {
    let case = Case::new("v11_d10", 4).features(REMOVE);
    case.run(|run| {
        run.copy(0, 4);
        let thread = run.thread();
        // Anonymous memory has no file to punch.
        assert_eq!(run.get(thread, Op::advise(0, 1, Advise::Remove)), Back::Err(Errno::EINVAL));
        // Locked pages are refused before the event, unless that was asked for.
        assert_eq!(run.get(thread, Op::Lock { at: PAGE, len: PAGE, on_fault: false }), Back::Done);
        for advice in [Advise::DontNeed, Advise::Free] {
            let back = run.get(thread, Op::advise(1, 2, advice));
            assert_eq!(back, Back::Err(Errno::EINVAL), "{advice:?}");
        }
        let remover = run.sleeper(Op::advise(1, 2, Advise::DontNeedLocked));
        assert_eq!(run.read(0, 1), ["REMOVE 1..2"]);
        run.returned(remover, Back::Done);
    });
}

#[test]
fn v50_d9_what_was_locked_meanwhile_is_refused() {
    let case = Case::new("v50_locked", 2).features(REMOVE);
    case.run(|run| {
        run.copy(0, 2);
        let remover = run.sleeper(Op::dontneed(0, 1));
        let thread = run.thread();
        assert_eq!(run.get(thread, Op::Lock { at: 0, len: PAGE, on_fault: false }), Back::Done);
        assert_eq!(run.read(0, 1), ["REMOVE 0..1"]);
        run.returned(remover, Back::Err(Errno::EINVAL));
        assert_eq!(run.content(0), Some(source(0)));
    });
}

#[test]
fn v62_f5_dirty_tracking() {
    let case = Case::new("v62_f5", 6).modes(RegisterModes::WP).features(Features::WP_ASYNC);
    case.run(|run| {
        let scan = |run: &mut Run, flags| {
            run.scan(Scan { start: 0, end: 6, flags, mask: WRITTEN }).unwrap()
        };
        run.copy(0, 2);
        // Measured: what was never there counts as written, too.
        assert_eq!(scan(run, CHECK), [(0, 6, WRITTEN)]);
        assert_eq!(run.protect(0, 6, true), Outcome::OK);
        assert_eq!(scan(run, CHECK), []);
        let (thread, settled) = run.spawn(Op::Store(0, 1));
        assert_eq!(settled, Settled::Returned(Back::Done));
        assert_eq!(run.get(thread, Op::Store(3, 2)), Back::Done);
        assert_eq!(run.get(thread, Op::Load(2)), Back::Loaded(Content::Zero));
        assert!(!run.is_wp(0) && run.is_wp(1));
        assert_eq!(run.read(0, 8), [""; 0]);
        assert_eq!(scan(run, CHECK | PROTECT), [(0, 1, WRITTEN), (3, 4, WRITTEN)]);
        assert!(run.is_wp(0) && run.is_wp(3));
        assert_eq!(scan(run, CHECK), []);
        // What was zapped counts as written.
        run.get(thread, Op::dontneed(1, 2));
        assert_eq!(scan(run, CHECK), [(1, 2, WRITTEN)]);
    });
    let case = Case::new("v62_sync", 2).modes(BOTH);
    case.run(|run| {
        run.copy(0, 2);
        let scan = |flags| Scan { start: 0, end: 2, flags, mask: WRITTEN };
        assert_eq!(run.scan(scan(CHECK)), Err(Errno::EPERM));
        assert_eq!(run.scan(scan(PROTECT)), Ok(vec![]));
        let whole = run.span(0, 2);
        run.unregister(0, whole).unwrap();
        assert_eq!(run.scan(scan(0)), Ok(vec![(0, 2, WRITTEN)]));
    });
}

/// Two huge pages' worth, of which the first can be collapsed.
fn huge(name: &str) -> Case<'_> {
    let piece = Piece::new(0, 512, Kind::Anon);
    Case::new(name, 512).pieces(&[piece])
}

#[test]
fn v68_f6_collapsing() {
    huge("v68_full").run(|run| {
        run.copy(0, 512);
        let (thread, settled) = run.spawn(Op::advise(0, 512, Advise::Collapse));
        assert_eq!(settled, Settled::Returned(Back::Done));
        assert_eq!(run.copy(5, 6), Outcome::mirrored(Errno::EEXIST));
        assert_eq!(run.zero(5, 6), Outcome::mirrored(Errno::EEXIST));
        assert_eq!(run.poison(5, 6), Outcome::mirrored(Errno::EEXIST));
        assert_eq!(run.get(thread, Op::Load(5)), Back::Loaded(source(5)));
    });
    huge("v68_holes").run(|run| {
        run.copy(0, 511);
        let (_, settled) = run.spawn(Op::advise(0, 512, Advise::Collapse));
        assert_eq!(settled, Settled::Returned(Back::Err(Errno::EBUSY)));
        run.sleeper(Op::Load(511));
        assert_eq!(run.read(0, 8), ["F511r"]);
    });
    huge("v68_wp").modes(BOTH).run(|run| {
        run.copy(0, 512);
        run.protect(7, 8, true);
        let (_, settled) = run.spawn(Op::advise(0, 512, Advise::Collapse));
        assert_eq!(settled, Settled::Returned(Back::Err(Errno::EINVAL)));
        assert!(run.is_wp(7));
    });
}

/// Page 0 of the first userfaultfd is to be filled from page 4, which the second watches.
fn watched_source(name: &str) -> Case<'_> {
    let features = REMOVE | Features::EVENT_UNMAP;
    Case::new(name, 6).features(features)
}

fn split(run: &mut Run) -> usize {
    let other = run.open(Features::empty());
    let high = run.span(4, 6);
    run.unregister(0, high).unwrap();
    run.register(other, high, RegisterModes::MISSING).unwrap();
    other
}

const FILL: Op = Op::CopyFrom { uffd: 0, to: 0, from: 4 * PAGE, len: PAGE };

fn resolve_source(run: &mut Run, other: usize) {
    assert_eq!(run.read(other, 8), ["F4r"]);
    let page = run.span(4, 5);
    run.copy_span(other, page, shims::CopyMode::empty());
}

#[test]
fn v66_v77_d34_a_source_that_waits_and_what_is_found_afterwards() {
    watched_source("v66_done").run(|run| {
        let other = split(run);
        let sleeper = run.sleeper(Op::Load(0));
        let copier = run.sleeper(FILL);
        // It holds nothing meanwhile.
        assert_eq!(run.zero(1, 2), Outcome::done(PAGE));
        resolve_source(run, other);
        run.returned(copier, Back::Done);
        run.returned(sleeper, Back::Loaded(source(4)));
    });
    watched_source("v66_exists").run(|run| {
        let other = split(run);
        let copier = run.sleeper(FILL);
        assert_eq!(run.zero(0, 1), Outcome::done(PAGE));
        resolve_source(run, other);
        run.returned(copier, Back::Err(Errno::EEXIST));
    });
    watched_source("v66_v77_gone").run(|run| {
        let other = split(run);
        let copier = run.sleeper(FILL);
        let remover = run.sleeper(Op::unmap(0, 1));
        resolve_source(run, other);
        // With the event unread, the hole is seen first.
        run.returned(copier, Back::Err(Errno::ENOENT));
        assert_eq!(run.read(0, 1), ["UNMAP 0..1"]);
        run.returned(remover, Back::Done);
    });
    watched_source("v66_changing").run(|run| {
        let other = split(run);
        let copier = run.sleeper(FILL);
        let remover = run.sleeper(Op::dontneed(1, 2));
        resolve_source(run, other);
        run.returned(copier, Back::Err(Errno::EAGAIN));
        assert_eq!(run.read(0, 1), ["REMOVE 1..2"]);
        run.returned(remover, Back::Done);
    });
}

#[test]
fn v81_d6_beyond_the_end_of_the_address_space() {
    // The last two pages that a process can have.
    let top = 0x7fff_ffff_d000 - sim::world::BASE.raw();
    both("v81_d6", 1, Features::empty(), |run| {
        let thread = run.thread();
        assert_eq!(
            run.get(thread, Op::Map { at: top, len: 2 * PAGE, prot: Prot::RW, fill: Fill::Later }),
            Back::Done
        );
        for page in [top / PAGE, top / PAGE + 1] {
            assert_eq!(run.get(thread, Op::Store(page, 1)), Back::Done);
        }
        let beyond = 8 * PAGE;
        let back = run.get(thread, Op::DontNeed { at: top + PAGE, len: beyond });
        assert_eq!(back, Back::Err(Errno::ENOMEM));
        let lower = Content::Written { task: thread as u16, seq: 1 };
        assert_eq!(run.get(thread, Op::Load(top / PAGE)), Back::Loaded(lower));
        let upper = run.get(thread, Op::Load(top / PAGE + 1));
        assert_eq!(upper, Back::Loaded(Content::Zero));
        let back = run.get(thread, Op::Populate { at: top, len: beyond, write: false });
        assert_eq!(back, Back::Err(Errno::ENOMEM));
    });
}
