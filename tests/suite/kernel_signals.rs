//! What signals do to threads that sleep in the kernel. Each test names the rule it holds the
//! kernel to.

use shims::{Errno, Event, Features, Outcome, Request};
use sim::Content;
use sim::kernel::{
    Call, Did, Fd, FileCall, ProcessCall, ProcessDid, Reading, Ret, Sig, Sleep, ThreadId, Via,
};

use crate::support::desk::{Desk, NONBLOCK};
use crate::support::{page, source, span};

fn faults(events: &[Event]) -> Vec<u64> {
    events
        .iter()
        .map(|event| match event {
            Event::Fault(fault) => (fault.addr.raw() - page(0).raw()) / 4096,
            event => panic!("{event}"),
        })
        .collect()
}

/// A second process that holds the userfaultfd too, and outlives the first.
fn monitor(desk: &mut Desk, fd: Fd) -> (ThreadId, Fd) {
    let (_, thread) = desk.process();
    match desk.file(FileCall::Send { fd, to: thread }) {
        Ret::Ok(number) => (thread, Fd(number as i32)),
        ret => panic!("sent: {ret:?}"),
    }
}

#[test]
fn a25_v52_the_handler_runs_and_a_new_message_comes_at_the_tail() {
    let mut desk = Desk::new();
    let fd = desk.watched(4, NONBLOCK, Features::empty());
    let (signalled, other) = (desk.thread(), desk.thread());
    assert_eq!(desk.load(signalled, 0), None);
    assert_eq!(desk.load(other, 1), None);
    desk.signal(signalled, false);
    // Until the thread runs, its message is there to be read.
    let ctx = desk.ctx(fd);
    assert_eq!(desk.kernel.ctx(ctx).faults_unread(), 2);
    assert_eq!(desk.kernel.handlers_run(signalled), 0);
    let did = desk.step(signalled);
    assert_eq!(did, Did::Process(ProcessDid::Interrupt { page: page(0) }));
    assert_eq!(desk.kernel.handlers_run(signalled), 1);
    assert_eq!(desk.kernel.ctx(ctx).faults_unread(), 1, "withdrawn");
    assert_eq!(desk.on(signalled), None, "asleep again");
    assert_eq!(faults(&desk.read(fd, 4).1), [1, 0]);
}

#[test]
fn a25_a_fault_that_was_read_comes_a_second_time() {
    let mut desk = Desk::new();
    let fd = desk.watched(4, NONBLOCK, Features::empty());
    let thread = desk.thread();
    assert_eq!(desk.load(thread, 2), None);
    assert_eq!(faults(&desk.read(fd, 4).1), [2]);
    desk.signal(thread, true);
    assert_eq!(desk.on(thread), None);
    assert_eq!(faults(&desk.read(fd, 4).1), [2], "and nobody is behind the first");
    let ctx = desk.ctx(fd);
    assert_eq!(desk.kernel.ctx(ctx).faults_waiting(), 1);
    assert_eq!(desk.copy(fd, 2, 3), Outcome::done(4096));
    assert_eq!(desk.on(thread), Some(Ret::Loaded(source(2))));
    assert_eq!(desk.kernel.handlers_run(thread), 1);
}

#[test]
fn a25_a_signal_before_the_sleep_is_not_slept_over() {
    let mut desk = Desk::new();
    let fd = desk.watched(2, NONBLOCK, Features::empty());
    let thread = desk.thread();
    desk.kernel.begin(thread, Call::Load { addr: page(0) });
    assert!(matches!(desk.step(thread), Did::Miss { .. }));
    desk.signal(thread, false);
    assert!(matches!(desk.step(thread), Did::QueueFault { .. }));
    assert!(matches!(desk.step(thread), Did::Sleep { .. }));
    assert!(matches!(desk.step(thread), Did::Process(ProcessDid::Interrupt { .. })));
    assert_eq!(desk.on(thread), None);
    assert_eq!(faults(&desk.read(fd, 4).1), [0]);
}

#[test]
fn a25_a_signal_to_a_thread_in_user_mode_does_nothing_else() {
    let mut desk = Desk::new();
    let thread = desk.thread();
    desk.signal(thread, false);
    assert_eq!(desk.kernel.handlers_run(thread), 1);
    assert!(desk.kernel.idle(thread));
}

#[test]
fn a27_v54_faults_behind_a_pin_and_senders_sleep_through_a_signal() {
    let mut desk = Desk::new();
    let fd = desk.watched(4, NONBLOCK, Features::EVENT_REMOVE | Features::EVENT_UNMAP);
    let (populate, remover, unmapper) = (desk.thread(), desk.thread(), desk.thread());
    assert_eq!(desk.go(populate, Call::Populate { range: span(0, 1), write: true }), None);
    assert_eq!(desk.remove(remover, 1, 2), None);
    assert_eq!(desk.go(unmapper, Call::Munmap { range: span(2, 3) }), None);
    for thread in [populate, remover, unmapper] {
        desk.signal(thread, false);
        assert_eq!(desk.on(thread), None);
        assert_eq!(desk.kernel.handlers_run(thread), 0, "not before the call is over");
    }
    assert_eq!(desk.read(fd, 4).1.len(), 3);
    desk.settle(&[remover, unmapper]);
    assert_eq!(desk.copy(fd, 0, 1), Outcome::done(4096));
    for thread in [populate, remover, unmapper] {
        assert_eq!(desk.on(thread), Some(Ret::Ok(0)));
        assert_eq!(desk.kernel.handlers_run(thread), 1);
    }
}

#[test]
fn a28_v69_a_kill_takes_faults_and_events_out_of_the_queues() {
    let mut desk = Desk::new();
    let features = Features::EVENT_REMOVE | Features::EVENT_UNMAP;
    let fd = desk.watched(6, NONBLOCK, features);
    let (monitor, theirs) = monitor(&mut desk, fd);
    let threads: Vec<_> = (0..5).map(|_| desk.thread()).collect();
    assert_eq!(desk.load(threads[0], 0), None);
    assert_eq!(desk.read(fd, 1).1.len(), 1);
    assert_eq!(desk.load(threads[1], 1), None);
    assert_eq!(desk.go(threads[2], Call::Populate { range: span(2, 3), write: false }), None);
    assert_eq!(desk.remove(threads[3], 3, 4), None);
    assert_eq!(desk.go(threads[4], Call::Munmap { range: span(4, 5) }), None);
    let ctx = desk.ctx(fd);
    assert_eq!(desk.kernel.ctx(ctx).changing(), 2);
    let kill = ProcessCall::Kill { thread: threads[0], sig: Sig::Kill };
    assert_eq!(desk.process_call(monitor, kill), Some(Ret::Ok(0)));
    desk.settle(&threads);
    assert!(threads.iter().all(|&thread| desk.kernel.is_dead(thread)));
    let me = desk.me;
    desk.settle(&[me]);
    let left = desk.kernel.ctx(ctx);
    assert_eq!((left.faults_waiting(), left.events_unread(), left.changing()), (0, 0, 0));
    let (ret, _) = desk.read_by(monitor, Reading::new(theirs, 32));
    assert_eq!(ret, Some(Ret::Err(Errno::EAGAIN)));
    assert_eq!(desk.process_call(monitor, kill), Some(Ret::Err(Errno::ESRCH)));
}

#[test]
fn a28_a_reader_and_a_poller_die_as_well() {
    let mut desk = Desk::new();
    let fd = desk.watched(2, 0, Features::empty());
    let ctx = desk.ctx(fd);
    let other = desk.started(NONBLOCK, Features::empty());
    let (reader, poller) = (desk.thread(), desk.thread());
    assert_eq!(desk.read_by(reader, Reading::new(fd, 32)).0, None);
    let poll = Call::File(FileCall::Poll { fd: other, wait: true });
    assert_eq!(desk.go(poller, poll), None);
    desk.kill(reader);
    let me = desk.me;
    desk.settle(&[reader, poller, me]);
    assert!([reader, poller, me].iter().all(|&thread| desk.kernel.is_dead(thread)));
    assert!(desk.kernel.ctx(ctx).is_closed(), "the last reference went with them");
}

#[test]
fn a28_the_killed_sender_lets_the_others_go_on() {
    // The removal of another process, which shares nothing but the userfaultfd's table.
    let mut desk = Desk::new();
    let fd = desk.watched(4, NONBLOCK, Features::EVENT_REMOVE);
    let (monitor, theirs) = monitor(&mut desk, fd);
    let remover = desk.thread();
    assert_eq!(desk.remove(remover, 0, 1), None);
    let again = Outcome::mirrored(Errno::EAGAIN);
    assert_eq!(desk.copy_by(monitor, theirs, 1, 2), again);
    desk.kill(remover);
    assert_eq!(desk.copy_by(monitor, theirs, 1, 2), again, "until it runs");
    assert!(matches!(desk.step(remover), Did::Process(ProcessDid::Withdraw { .. })));
    assert_eq!(desk.copy_by(monitor, theirs, 1, 2), again, "d4: and lowers the count");
    assert!(matches!(desk.step(remover), Did::LowerChanging { changing: 0, .. }));
    assert_eq!(desk.copy_by(monitor, theirs, 1, 2), Outcome::done(4096));
}

#[test]
fn d30_a_killed_fork_leaves_no_child() {
    let mut desk = Desk::new();
    let fd = desk.watched(2, NONBLOCK, Features::EVENT_FORK);
    let (monitor, theirs) = monitor(&mut desk, fd);
    let parent = desk.thread();
    assert_eq!(desk.go(parent, Call::Fork), None);
    desk.kill(parent);
    assert!(matches!(desk.step(parent), Did::Process(ProcessDid::Withdraw { .. })));
    let me = desk.me;
    desk.settle(&[parent, me]);
    assert!(desk.kernel.is_dead(parent) && desk.kernel.is_dead(me));
    assert_eq!(desk.read_by(monitor, Reading::new(theirs, 32)).0, Some(Ret::Err(Errno::EAGAIN)));
}

#[test]
fn d30_a_fork_that_is_killed_after_its_message_was_read_leaves_a_dead_child() {
    let mut desk = Desk::new();
    let fd = desk.watched(2, NONBLOCK, Features::EVENT_FORK);
    let (monitor, theirs) = monitor(&mut desk, fd);
    let parent = desk.thread();
    assert_eq!(desk.go(parent, Call::Fork), None);
    let (_, events) = desk.read_by(monitor, Reading::new(theirs, 32));
    let [Event::Fork { fd: child }] = events[..] else { panic!("{events:?}") };
    desk.kill(parent);
    let me = desk.me;
    desk.settle(&[parent, me]);
    // a23.
    assert_eq!(desk.copy_by(monitor, Fd(child), 0, 1), Outcome::bare(Errno::ESRCH));
}

#[test]
fn a28_a_thread_that_waits_for_nothing_dies_at_once() {
    let mut desk = Desk::new();
    let thread = desk.thread();
    desk.kill(thread);
    assert!(!desk.kernel.idle(thread));
    assert_eq!(desk.step(thread), Did::Process(ProcessDid::Die));
    let me = desk.me;
    desk.settle(&[thread, me]);
    assert!(desk.kernel.is_dead(thread));
    assert_eq!(desk.kernel.sleep(thread), None);
    assert!(!desk.kernel.signal(thread, Sig::Kill), "nobody is there");
}

#[test]
fn a14_two_signals_run_two_handlers_and_the_first_decides() {
    let mut desk = Desk::new();
    let fd = desk.watched(2, 0, Features::empty());
    let reader = desk.thread();
    assert_eq!(desk.read_by(reader, Reading::new(fd, 32)).0, None);
    let ctx = desk.ctx(fd);
    assert_eq!(desk.kernel.sleep(reader), Some(Sleep::Reader(ctx)));
    desk.signal(reader, false);
    desk.signal(reader, true);
    assert_eq!(desk.on(reader), Some(Ret::Err(Errno::EINTR)));
    assert_eq!(desk.kernel.handlers_run(reader), 2);
}

#[test]
fn a21_a_wake_beats_a_signal() {
    let mut desk = Desk::new();
    let fd = desk.watched(2, NONBLOCK, Features::empty());
    let thread = desk.thread();
    assert_eq!(desk.load(thread, 0), None);
    let zero = Request::Zeropage { range: span(0, 1), mode: shims::ZeropageMode::empty() };
    desk.resolve_by(desk.me, fd, zero);
    desk.signal(thread, false);
    assert_eq!(desk.on(thread), Some(Ret::Loaded(Content::Zero)));
    assert_eq!(desk.kernel.handlers_run(thread), 1);
}

#[test]
fn a26_v53_a_copy_by_a_system_call_spins_until_the_page_comes() {
    let mut desk = Desk::new();
    let fd = desk.watched(2, NONBLOCK, Features::empty());
    let thread = desk.thread();
    let copy = Call::Transfer { via: Via::Syscall, range: span(0, 1), store: None };
    assert_eq!(desk.go(thread, copy), None);
    desk.signal(thread, true);
    // It never sleeps again, and each turn leaves a message for whoever reads just then.
    let mut messages = 0;
    for turn in 0..100 {
        assert!(desk.kernel.can_step(thread), "turn {turn}");
        if let Did::QueueFault { .. } = desk.step(thread) {
            messages += desk.read(fd, 8).1.len();
        }
    }
    assert!((20..=34).contains(&messages), "{messages} copies of one fault");
    let ctx = desk.ctx(fd);
    assert!(desk.kernel.ctx(ctx).faults_waiting() <= 1);
    assert_eq!(desk.kernel.handlers_run(thread), 0, "not in the middle of a system call");
    assert_eq!(desk.copy(fd, 0, 1), Outcome::done(4096));
    assert_eq!(desk.on(thread), Some(Ret::Ok(4096)));
    assert_eq!(desk.kernel.handlers_run(thread), 1);
}

#[test]
fn a27_a_pinned_copy_sleeps_through_a_signal_and_not_through_a_kill() {
    let mut desk = Desk::new();
    let fd = desk.watched(2, NONBLOCK, Features::empty());
    let (_, reader) = desk.process();
    let via = Via::Pinned(desk.mm);
    assert_eq!(desk.go(reader, Call::Transfer { via, range: span(0, 1), store: None }), None);
    assert_eq!(desk.read(fd, 8).1.len(), 1);
    desk.signal(reader, false);
    assert_eq!(desk.on(reader), None);
    assert_eq!(desk.read(fd, 8).1.len(), 0, "no second message");
    desk.kill(reader);
    desk.settle(&[reader]);
    assert!(desk.kernel.is_dead(reader));
    let ctx = desk.ctx(fd);
    assert_eq!(desk.kernel.ctx(ctx).faults_waiting(), 0);
}

#[test]
fn a28_a_kill_ends_the_spinning() {
    let mut desk = Desk::new();
    desk.watched(2, NONBLOCK, Features::empty());
    let thread = desk.thread();
    let content = Content::Written { task: 1, seq: 1 };
    let copy = Call::Transfer { via: Via::Syscall, range: span(0, 1), store: Some(content) };
    assert_eq!(desk.go(thread, copy), None);
    desk.signal(thread, false);
    desk.kill(thread);
    let me = desk.me;
    desk.settle(&[thread, me]);
    assert!(desk.kernel.is_dead(thread));
}
