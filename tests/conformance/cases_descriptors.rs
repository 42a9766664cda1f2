//! Descriptors, the handshake, ends of processes, signals: rules a1 to a28, d28 to d30.

use shims::{CopyMode, Errno, Features, Outcome, RegisterModes, ZeropageMode};
use sim::Content;

use faultbed::judge::{Back, Op, PAGE, Settled};
use faultbed::judge::{Case, Run, source};

const FORK: Features = Features::EVENT_FORK;
const POLLIN: u16 = 1;
const POLLERR: u16 = 8;
const NONBLOCK: u64 = 0o4000;
const CLOEXEC: u64 = 0o2_000_000;

fn case(name: &str, pages: u64, features: Features) -> Case<'_> {
    Case::new(name, pages).features(features)
}

#[test]
fn v3_v6_a5_a6_a18_before_and_after_the_handshake() {
    case("v3_v6", 1, Features::empty()).run(|run| {
        assert_eq!(run.open_raw(2), Err(Errno::EINVAL));
        let uffd = run.open_raw(NONBLOCK).unwrap();
        let whole = run.span(0, 1);
        assert_eq!(run.poll(uffd), POLLERR);
        assert_eq!(run.read_raw(uffd, 32, true), Err(Errno::EINVAL));
        assert_eq!(run.wake(uffd, whole), Err(Errno::EINVAL));
        let outcome = run.zero_span(uffd, whole, ZeropageMode::empty());
        assert_eq!(outcome, Outcome::bare(Errno::EINVAL));
        assert_eq!(run.api(uffd, Features::from_bits_retain(1 << 63)), Err(Errno::EINVAL));
        let (features, ioctls) = run.api(uffd, Features::empty()).unwrap();
        assert_eq!((features & 0x1ffff, ioctls), (0x1ffff, 0x8000_0000_0000_0003));
        assert_eq!(run.api(uffd, Features::empty()), Err(Errno::EINVAL));
        assert_eq!(run.poll(uffd), 0);
        // A descriptor that blocks cannot be polled.
        let blocking = run.open_raw(0).unwrap();
        run.api(blocking, Features::empty()).unwrap();
        assert_eq!(run.poll(blocking), POLLERR);
        run.set_nonblocking(blocking, true);
        assert_eq!(run.poll(blocking), 0);
    });
}

#[test]
fn v4_a10_a12_reads_by_bytes() {
    case("v4_a10", 4, Features::empty()).run(|run| {
        for len in [0, 31] {
            assert_eq!(run.read_raw(0, len, true), Err(Errno::EINVAL), "{len}");
        }
        assert_eq!(run.read_raw(0, 32, true), Err(Errno::EAGAIN));
        for page in 0..4 {
            run.sleeper(Op::Load(page));
        }
        for (len, bytes) in [(40, 32), (95, 64), (256, 32)] {
            assert_eq!(run.read_raw(0, len, true), Ok(bytes), "{len}");
        }
    });
}

#[test]
fn v5_a15_a_read_that_fails_has_taken_its_message() {
    let features = Features::EVENT_REMOVE | FORK;
    case("v5_a15", 4, features).run(|run| {
        let sleeper = run.sleeper(Op::Load(0));
        assert_eq!(run.read_raw(0, 32, false), Err(Errno::EFAULT));
        assert_eq!(run.poll(0), 0);
        run.asleep(sleeper);
        // The sender of an event goes on as if it had been read.
        let remover = run.sleeper(Op::dontneed(1, 2));
        assert_eq!(run.read_raw(0, 32, false), Err(Errno::EFAULT));
        run.returned(remover, Back::Done);
        let whole = run.span(0, 4);
        run.wake(0, whole).unwrap();
        assert_eq!(run.read(0, 8), ["F0r"]);
    });
}

#[test]
fn v7_a1_a6_what_takes_a_privilege() {
    case("v7", 1, Features::empty()).run(|run| {
        run.drop_privileges();
        let plain = run.open_raw(NONBLOCK);
        let unprivileged = shims::linux::unprivileged_sysctl() == Some(true);
        assert_eq!(plain.is_err(), !unprivileged, "{plain:?}");
        let user_only = run.open_raw(NONBLOCK | 1).unwrap();
        assert_eq!(run.api(user_only, FORK), Err(Errno::EPERM));
        assert!(run.api(user_only, Features::empty()).is_ok());
    });
}

#[test]
fn v8_a19_close_does_not_release_what_somebody_reads() {
    case("v8_a19", 2, Features::empty()).run(|run| {
        let uffd = run.open_raw(0).unwrap();
        run.api(uffd, Features::empty()).unwrap();
        let high = run.span(1, 2);
        let low = run.span(0, 1);
        run.unregister(0, high).unwrap();
        run.register(uffd, high, RegisterModes::MISSING).unwrap();
        let reader = run.sleeper(Op::ReadBlocking { uffd });
        run.close(uffd);
        run.asleep(reader);
        // The next fault ends the read, and with it the registration.
        let (faulter, _) = run.spawn(Op::Load(1));
        run.returned(reader, Back::Read(1));
        run.returned(faulter, Back::Loaded(Content::Zero));
        assert_eq!(run.areas(), ["0..1 rw- MISSING", "1..2 rw-"]);
        run.wake(0, low).unwrap();
    });
}

#[test]
fn v76_a19_a_duplicate_and_a_poller_keep_the_context() {
    case("v76_a19", 2, Features::empty()).run(|run| {
        let copy = run.duplicate(0);
        run.close(0);
        let sleeper = run.sleeper(Op::Load(0));
        assert_eq!(run.read(copy, 8), ["F0r"]);
        let poller = run.sleeper(Op::PollBlocking { uffd: copy });
        run.close(copy);
        run.asleep(sleeper);
        run.asleep(poller);
        // A fault wakes the poller, which lets go of the last reference.
        let (late, _) = run.spawn(Op::Load(1));
        run.returned(poller, Back::Done);
        run.returned(sleeper, Back::Loaded(Content::Zero));
        run.returned(late, Back::Loaded(Content::Zero));
    });
}

#[test]
fn v10_v48_a23_d17_what_a_dead_process_leaves() {
    case("v10_a23", 2, Features::EVENT_REMOVE).run(|run| {
        run.sleeper(Op::Load(0));
        let (_, settled) = run.spawn(Op::ForkWithFiles);
        let child = run.forked(settled);
        run.via(0, child);
        let (_, settled) = run.spawn(Op::Exit);
        assert_eq!(settled, Settled::Returned(Back::Killed));
        let whole = run.span(0, 2);
        let gone = Outcome::bare(Errno::ESRCH);
        assert_eq!(run.copy(0, 1), gone);
        assert_eq!(run.zero(0, 1), gone);
        assert_eq!(run.poison(0, 1), gone);
        assert_eq!(run.protect(0, 1, true), gone);
        let cont = run.cont(0, 1, shims::ContinueMode::empty());
        assert_eq!(cont, gone);
        assert_eq!(run.move_(0, 1, 1, shims::MoveMode::empty()), Outcome::bare(Errno::EINVAL));
        let refused = run.register(0, whole, RegisterModes::MISSING);
        assert_eq!(refused, Err(Errno::ENOMEM));
        assert_eq!(run.unregister(0, whole), Err(Errno::ENOMEM));
        assert_eq!(run.wake(0, whole), Ok(()));
        assert_eq!(run.poll(0), 0);
        assert_eq!(run.read_raw(0, 32, true), Err(Errno::EAGAIN));
        // Whoever reads, blocking, waits for ever.
        run.set_nonblocking(0, false);
        let (_, settled) = run.spawn_in(child, Op::ReadBlocking { uffd: 0 });
        assert_eq!(settled, Settled::Asleep);
    });
}

#[test]
fn v39_d29_without_a_descriptor_to_spare_the_event_goes_to_the_tail() {
    case("v39_d29", 4, FORK | Features::EVENT_REMOVE).run(|run| {
        let parent = run.sleeper(Op::Fork);
        let remover = run.sleeper(Op::dontneed(0, 1));
        run.starve_descriptors(true);
        assert_eq!(run.read_raw(0, 32, true), Err(Errno::EMFILE));
        assert_eq!(run.poll(0), POLLIN);
        run.asleep(parent);
        // It is behind the other one now.
        assert_eq!(run.read(0, 1), ["REMOVE 0..1"]);
        run.returned(remover, Back::Done);
        run.starve_descriptors(false);
        assert_eq!(run.read(0, 1), ["FORK"]);
        let settled = run.state(parent);
        run.forked(settled);
    });
}

#[test]
fn v40_d30_close_during_a_fork() {
    // The half-built child holds the file: nobody is left to read the message.
    case("v40_d30", 2, FORK).run(|run| {
        let parent = run.sleeper(Op::ForkWithFiles);
        run.close(0);
        run.asleep(parent);
        let late = run.sleeper(Op::Load(0));
        run.asleep(late);
    });
    case("v40_d30_shared", 2, FORK).run(|run| {
        let parent = run.sleeper(Op::ForkSharingFiles);
        run.close(0);
        let settled = run.state(parent);
        let child = run.forked(settled);
        let (thread, _) = run.spawn_in(child, Op::Load(0));
        run.returned(thread, Back::Loaded(Content::Zero));
    });
}

#[test]
fn v75_d28_a_childs_descriptor_has_the_flags_of_creation() {
    for (flags, later) in [(NONBLOCK | CLOEXEC, true), (0, true), (CLOEXEC, true)] {
        case("v75_d28", 1, Features::empty()).run(|run| {
            let whole = run.span(0, 1);
            run.unregister(0, whole).unwrap();
            let uffd = run.open_raw(flags).unwrap();
            run.api(uffd, FORK).unwrap();
            run.register(uffd, whole, RegisterModes::MISSING).unwrap();
            run.set_nonblocking(uffd, later);
            let parent = run.sleeper(Op::Fork);
            assert_eq!(run.read(uffd, 1), ["FORK"]);
            let settled = run.state(parent);
            run.forked(settled);
            let theirs = uffd + 1;
            let want = (flags & NONBLOCK != 0, flags & CLOEXEC != 0);
            assert_eq!(run.descriptor_flags(theirs), want);
            assert_eq!(run.descriptor_flags(uffd).0, later);
        });
    }
}

#[test]
fn v71_a4_a_child_with_an_inherited_descriptor_acts_on_its_parent() {
    case("v71_a4", 3, Features::empty()).run(|run| {
        let sleeper = run.sleeper(Op::Load(0));
        let (_, settled) = run.spawn(Op::ForkWithFiles);
        let child = run.forked(settled);
        run.via(0, child);
        assert_eq!(run.read(0, 8), ["F0r"]);
        assert_eq!(run.copy(0, 1), Outcome::done(PAGE));
        run.returned(sleeper, Back::Loaded(source(0)));
        assert_eq!(run.entry(child, 0).content, None);
        // e20: MOVE is for the own memory.
        let outcome = run.move_(1, 0, 1, shims::MoveMode::empty());
        assert_eq!(outcome, Outcome::bare(Errno::EINVAL));
    });
}

#[test]
fn v72_d25_vfork_and_what_is_not_copied() {
    let case = |name| Case::new(name, 2).features(FORK);
    case("v72_vfork").run(|run| {
        let (_, settled) = run.spawn(Op::Vfork);
        assert_eq!(settled, Settled::Returned(Back::Done));
        assert_eq!(run.read(0, 8), [""; 0]);
    });
    case("v72_dontfork").run(|run| {
        run.spawn(Op::advise(0, 2, faultbed::judge::Advise::DontFork));
        run.fork();
        assert_eq!(run.read(0, 8), [""; 0]);
    });
    case("v72_wipeonfork").run(|run| {
        run.copy(0, 1);
        run.spawn(Op::advise(0, 2, faultbed::judge::Advise::WipeOnFork));
        let parent = run.sleeper(Op::Fork);
        assert_eq!(run.read(0, 1), ["FORK"]);
        let settled = run.state(parent);
        let child = run.forked(settled);
        assert_eq!(run.entry(child, 0).content, None);
        let (_, settled) = run.spawn_in(child, Op::Load(0));
        assert_eq!(settled, Settled::Asleep);
        assert_eq!(run.read(1, 8), ["F0r"]);
    });
}

#[test]
fn v69_a28_the_killed_leave_their_queues() {
    case("v69_a28", 4, Features::EVENT_REMOVE | FORK).run(|run| {
        run.copy(1, 2);
        let parent = run.sleeper(Op::Fork);
        run.read(0, 8);
        let settled = run.state(parent);
        let child = run.forked(settled);
        let (faulter, settled) = run.spawn_in(child, Op::Load(0));
        assert_eq!(settled, Settled::Asleep);
        let (remover, settled) = run.spawn_in(child, Op::dontneed(1, 2));
        assert_eq!(settled, Settled::Asleep);
        assert_eq!(run.poll(1), POLLIN);
        run.kill(child);
        run.returned(faulter, Back::Killed);
        run.returned(remover, Back::Killed);
        assert_eq!(run.poll(1), 0);
        assert_eq!(run.read_raw(1, 32, true), Err(Errno::EAGAIN));
    });
}

/// Wait until the thread has handled a signal.
fn handled(run: &mut Run, thread: usize) {
    for _ in 0..1000 {
        if run.handled(thread) > 0 {
            return;
        }
        std::thread::park_timeout(core::time::Duration::from_millis(1));
    }
    panic!("thread {thread} has handled no signal");
}

#[test]
fn v52_a25_a_signal_interrupts_a_fault_and_it_is_asked_anew() {
    case("v52_a25", 2, Features::empty()).run(|run| {
        let sleeper = run.sleeper(Op::Load(0));
        assert_eq!(run.read(0, 8), ["F0r"]);
        run.sleeper(Op::Load(1));
        run.signal(sleeper);
        handled(run, sleeper);
        run.asleep(sleeper);
        // At the tail, although the first message had been read.
        assert_eq!(run.read(0, 8), ["F1r", "F0r"]);
        assert_eq!(run.copy(0, 1), Outcome::done(PAGE));
        run.returned(sleeper, Back::Loaded(source(0)));
    });
}

#[test]
fn v53_a26_a_signal_during_a_system_calls_fault_waits_and_the_fault_goes_round() {
    case("v53_a26", 1, Features::empty()).run(|run| {
        let sleeper = run.sleeper(Op::UserCopy { at: 0, write: false });
        run.signal_only(sleeper);
        // The handler does not run before the call is over; meanwhile message after
        // message can be read.
        let mut messages = 0;
        for _ in 0..200 {
            messages += usize::from(run.read_only(0).is_some());
        }
        assert!(messages > 5, "{messages} messages");
        assert_eq!(run.handled(sleeper), 0);
        assert_eq!(run.copy(0, 1), Outcome::done(PAGE));
        run.returned(sleeper, Back::Loaded(source(0)));
        handled(run, sleeper);
    });
}

#[test]
fn v27_c11_a_child_and_its_parent_do_not_wake_one_another() {
    Case::new("v27_fork", 2).features(FORK).run(|run| {
        let parent = run.sleeper(Op::Fork);
        run.read(0, 8);
        let settled = run.state(parent);
        let child = run.forked(settled);
        let mine = run.sleeper(Op::Load(0));
        let (theirs, _) = run.spawn_in(child, Op::Load(0));
        let one = run.span(0, 1);
        run.copy_span(1, one, CopyMode::empty());
        run.returned(theirs, Back::Loaded(source(0)));
        run.asleep(mine);
    });
}
