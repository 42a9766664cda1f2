//! `read`, `poll`, duplicates and the last reference, through descriptors. Each test names the
//! rule it holds the kernel to.

use shims::{Errno, Event, Features, Outcome, RegisterModes, Request};
use sim::Content;
use sim::kernel::{
    Call, Did, Fd, FileCall, MmId, ProcessCall, ProcessDid, Reading, Ret, Sleep, ThreadId, flags,
    poll,
};

use crate::support::desk::{Desk, NONBLOCK};
use crate::support::{page, source, span};

const REMOVE: Features = Features::EVENT_REMOVE;
const FORK: Features = Features::EVENT_FORK;

fn pages(events: &[Event]) -> Vec<String> {
    let page = |addr: shims::Addr| (addr.raw() - page(0).raw()) / 4096;
    events
        .iter()
        .map(|event| match event {
            Event::Fault(fault) => format!("F{}", page(fault.addr)),
            event => event.to_string().split([' ', ',']).next().unwrap_or_default().to_owned(),
        })
        .collect()
}

#[test]
fn a10_v4_the_buffer_is_measured_in_messages() {
    let mut desk = Desk::new();
    let fd = desk.watched(8, NONBLOCK, Features::empty());
    for short in [0, 1, 31] {
        let reading = Reading::new(fd, short);
        assert_eq!(desk.read_by(desk.me, reading).0, Some(Ret::Err(Errno::EINVAL)), "{short}");
    }
    for n in 0..5 {
        let thread = desk.thread();
        assert_eq!(desk.load(thread, n), None);
    }
    assert_eq!(desk.read_by(desk.me, Reading::new(fd, 31)).0, Some(Ret::Err(Errno::EINVAL)));
    let (ret, events) = desk.read_by(desk.me, Reading::new(fd, 40));
    assert_eq!((ret, pages(&events)), (Some(Ret::Ok(32)), vec!["F0".to_owned()]));
    let (ret, events) = desk.read_by(desk.me, Reading::new(fd, 95));
    assert_eq!((ret, events.len()), (Some(Ret::Ok(64)), 2));
    let (ret, events) = desk.read_by(desk.me, Reading::new(fd, 4096));
    assert_eq!((ret, events.len()), (Some(Ret::Ok(64)), 2));
}

#[test]
fn a10_a_blocking_read_of_nothing_is_refused_at_once() {
    let mut desk = Desk::new();
    let fd = desk.started(0, Features::empty());
    assert_eq!(desk.read_by(desk.me, Reading::new(fd, 31)).0, Some(Ret::Err(Errno::EINVAL)));
}

#[test]
fn a11_v1_faults_come_before_events_through_a_descriptor_too() {
    let mut desk = Desk::new();
    let fd = desk.watched(8, NONBLOCK, REMOVE);
    let threads: Vec<_> = (0..4).map(|_| desk.thread()).collect();
    assert_eq!(desk.remove(threads[0], 6, 7), None);
    assert_eq!(desk.load(threads[1], 3), None);
    assert_eq!(desk.remove(threads[2], 7, 8), None);
    assert_eq!(desk.load(threads[3], 1), None);
    assert_eq!(pages(&desk.read(fd, 16).1), ["F3", "F1", "REMOVE", "REMOVE"]);
}

#[test]
fn a12_a14_a_blocking_read_waits_for_the_first_message_only() {
    let mut desk = Desk::new();
    let fd = desk.watched(4, 0, Features::empty());
    let (reader, a, b) = (desk.thread(), desk.thread(), desk.thread());
    let (ret, _) = desk.read_by(reader, Reading::new(fd, 256));
    assert_eq!(ret, None);
    let ctx = desk.ctx(fd);
    assert_eq!(desk.kernel.sleep(reader), Some(Sleep::Reader(ctx)));
    assert_eq!(desk.load(a, 0), None);
    assert_eq!(desk.load(b, 1), None);
    assert_eq!(desk.on(reader), Some(Ret::Ok(64)));
    assert_eq!(pages(desk.kernel.inbox(reader)), ["F0", "F1"]);
}

#[test]
fn a14_what_the_file_is_now_decides() {
    let mut desk = Desk::new();
    let fd = desk.started(0, Features::empty());
    let again = Some(Ret::Err(Errno::EAGAIN));
    assert_eq!(desk.file(FileCall::SetNonblock { fd, on: true }), Ret::Ok(0));
    assert_eq!(desk.read(fd, 1).0, again);
    // The flag is the file's: a duplicate has it as well.
    let Ret::Ok(dup) = desk.file(FileCall::Dup { fd }) else { panic!("dup") };
    assert_eq!(desk.read(Fd(dup as i32), 1).0, again);
    assert_eq!(desk.file(FileCall::SetNonblock { fd: Fd(dup as i32), on: false }), Ret::Ok(0));
    assert_eq!(desk.read(fd, 1).0, None);
}

#[test]
fn a14_a_signal_ends_a_blocking_read_or_begins_it_again() {
    let mut desk = Desk::new();
    let fd = desk.watched(2, 0, Features::empty());
    let (reader, faulter) = (desk.thread(), desk.thread());
    assert_eq!(desk.read_by(reader, Reading::new(fd, 64)).0, None);
    desk.signal(reader, false);
    assert_eq!(desk.on(reader), Some(Ret::Err(Errno::EINTR)));
    assert_eq!(desk.kernel.handlers_run(reader), 1);
    assert_eq!(desk.read_by(reader, Reading::new(fd, 64)).0, None);
    desk.signal(reader, true);
    assert_eq!(desk.step(reader), Did::Process(ProcessDid::Handle));
    assert_eq!(desk.kernel.handlers_run(reader), 2);
    assert_eq!(desk.on(reader), None, "it reads again");
    assert_eq!(desk.load(faulter, 1), None);
    assert_eq!(desk.on(reader), Some(Ret::Ok(32)));
}

#[test]
fn a14_a_message_beats_a_signal() {
    let mut desk = Desk::new();
    let fd = desk.watched(2, 0, Features::empty());
    let (reader, faulter) = (desk.thread(), desk.thread());
    assert_eq!(desk.read_by(reader, Reading::new(fd, 64)).0, None);
    assert_eq!(desk.load(faulter, 1), None);
    desk.signal(reader, false);
    assert_eq!(desk.on(reader), Some(Ret::Ok(32)));
    assert_eq!(desk.kernel.handlers_run(reader), 1);
}

#[test]
fn a14_a_read_that_begins_again_looks_the_number_up_again() {
    let mut desk = Desk::new();
    let fd = desk.watched(2, 0, Features::empty());
    let reader = desk.thread();
    assert_eq!(desk.read_by(reader, Reading::new(fd, 64)).0, None);
    assert_eq!(desk.file(FileCall::Close { fd }), Ret::Ok(0));
    desk.signal(reader, true);
    assert_eq!(desk.on(reader), Some(Ret::Err(Errno::EBADF)));
    assert_eq!(desk.load(reader, 0), Some(Ret::Loaded(Content::Zero)), "released meanwhile");
}

#[test]
fn a15_v5_a_message_is_used_up_before_it_is_delivered() {
    let mut desk = Desk::new();
    let fd = desk.watched(4, NONBLOCK, REMOVE);
    let (faulter, remover) = (desk.thread(), desk.thread());
    assert_eq!(desk.load(faulter, 0), None);
    let bad = Reading { writable: 0, ..Reading::new(fd, 32) };
    assert_eq!(desk.read_by(desk.me, bad), (Some(Ret::Err(Errno::EFAULT)), Vec::new()));
    assert_eq!(desk.look(fd), 0);
    let asleep = Some(Sleep::Fault { addr: page(0), write: false, taken: true });
    assert_eq!(desk.kernel.sleep(faulter), asleep);
    // A wake brings it back.
    let wake = Request::Wake { range: span(0, 1) };
    assert_eq!(desk.resolve_by(desk.me, fd, wake), Ret::Outcome(Outcome::OK));
    assert_eq!(desk.on(faulter), None);
    assert_eq!(pages(&desk.read(fd, 4).1), ["F0"]);
    // An event is done with: the removal goes on.
    assert_eq!(desk.remove(remover, 1, 2), None);
    assert_eq!(desk.read_by(desk.me, bad).0, Some(Ret::Err(Errno::EFAULT)));
    assert_eq!(desk.on(remover), Some(Ret::Ok(0)));
}

#[test]
fn a15_what_fits_is_delivered() {
    let mut desk = Desk::new();
    let fd = desk.watched(4, NONBLOCK, Features::empty());
    for n in 0..3 {
        let thread = desk.thread();
        assert_eq!(desk.load(thread, n), None);
    }
    let half = Reading { writable: 40, ..Reading::new(fd, 96) };
    let (ret, events) = desk.read_by(desk.me, half);
    assert_eq!((ret, pages(&events)), (Some(Ret::Ok(32)), vec!["F0".to_owned()]));
    assert_eq!(pages(&desk.read(fd, 4).1), ["F2"], "the second is gone");
}

#[test]
fn a16_each_message_goes_to_one_reader() {
    let mut desk = Desk::new();
    let fd = desk.watched(4, 0, Features::empty());
    let (a, b, faulter) = (desk.thread(), desk.thread(), desk.thread());
    assert_eq!(desk.read_by(a, Reading::new(fd, 32)).0, None);
    assert_eq!(desk.read_by(b, Reading::new(fd, 32)).0, None);
    assert_eq!(desk.load(faulter, 0), None);
    assert!(desk.kernel.can_step(a) && desk.kernel.can_step(b), "either may get it");
    assert_eq!(desk.on(b), Some(Ret::Ok(32)));
    assert!(!desk.kernel.can_step(a), "and then the other sleeps on");
}

#[test]
fn a18_v3_when_poll_says_what() {
    let mut desk = Desk::new();
    let fd = desk.watched(4, NONBLOCK, REMOVE);
    let (faulter, remover) = (desk.thread(), desk.thread());
    assert_eq!(desk.look(fd), 0);
    assert_eq!(desk.load(faulter, 0), None);
    assert_eq!(desk.look(fd), poll::IN);
    // In blocking mode it cannot be polled, whatever waits.
    desk.file(FileCall::SetNonblock { fd, on: false });
    assert_eq!(desk.look(fd), poll::ERR);
    desk.file(FileCall::SetNonblock { fd, on: true });
    assert_eq!(desk.read(fd, 1).1.len(), 1);
    assert_eq!(desk.look(fd), 0, "read, not resolved");
    assert_eq!(desk.remove(remover, 1, 2), None);
    assert_eq!(desk.look(fd), poll::IN);
    let Ret::Ok(device) = desk.file(FileCall::OpenDevice) else { panic!("root may") };
    assert_eq!(desk.look(Fd(device as i32)), poll::IN | poll::OUT | poll::NORM);
}

#[test]
fn a18_a_blocked_poller_wakes_for_faults_events_and_signals() {
    let mut desk = Desk::new();
    let fd = desk.watched(4, NONBLOCK, REMOVE);
    let (poller, faulter, remover) = (desk.thread(), desk.thread(), desk.thread());
    let wait = || Call::File(FileCall::Poll { fd, wait: true });
    assert_eq!(desk.go(poller, wait()), None);
    let ctx = desk.ctx(fd);
    assert_eq!(desk.kernel.sleep(poller), Some(Sleep::Poller(ctx)));
    assert_eq!(desk.load(faulter, 0), None);
    assert_eq!(desk.on(poller), Some(Ret::Ok(poll::IN)));
    desk.read(fd, 1);
    assert_eq!(desk.go(poller, wait()), None);
    assert_eq!(desk.remove(remover, 1, 2), None);
    assert_eq!(desk.on(poller), Some(Ret::Ok(poll::IN)));
    desk.read(fd, 1);
    assert_eq!(desk.go(poller, wait()), None);
    // `SA_RESTART` is nothing to it.
    desk.signal(poller, true);
    assert_eq!(desk.on(poller), Some(Ret::Err(Errno::EINTR)));
}

#[test]
fn a17_poll_may_promise_what_read_does_not_find() {
    let mut desk = Desk::new();
    let fd = desk.watched(4, NONBLOCK, Features::empty());
    let (_, monitor) = desk.process();
    assert_eq!(desk.file(FileCall::Send { fd, to: monitor }), Ret::Ok(0));
    let faulter = desk.thread();
    assert_eq!(desk.load(faulter, 0), None);
    let look = FileCall::Poll { fd: Fd(0), wait: false };
    assert_eq!(desk.file_by(monitor, look), Ret::Ok(poll::IN));
    desk.kill(faulter);
    desk.settle(&[faulter]);
    let ret = desk.read_by(monitor, Reading::new(Fd(0), 32)).0;
    assert_eq!(ret, Some(Ret::Err(Errno::EAGAIN)));
}

#[test]
fn a19_v76_a_duplicate_keeps_the_file() {
    let mut desk = Desk::new();
    let fd = desk.watched(2, NONBLOCK, Features::empty());
    let faulter = desk.thread();
    assert_eq!(desk.load(faulter, 0), None);
    let Ret::Ok(dup) = desk.file(FileCall::Dup { fd }) else { panic!("dup") };
    assert_eq!(desk.file(FileCall::Close { fd }), Ret::Ok(0));
    assert_eq!(desk.on(faulter), None, "asleep still");
    assert_eq!(desk.read(Fd(dup as i32), 1).1.len(), 1);
    assert_eq!(desk.file(FileCall::Close { fd: Fd(dup as i32) }), Ret::Ok(0));
    // a21.
    assert_eq!(desk.on(faulter), Some(Ret::Loaded(Content::Zero)));
    assert_eq!(desk.file(FileCall::Close { fd }), Ret::Err(Errno::EBADF));
}

#[test]
fn a19_v8_a_reader_inside_keeps_the_file_until_it_returns() {
    let mut desk = Desk::new();
    let fd = desk.watched(2, 0, Features::empty());
    let (reader, faulter) = (desk.thread(), desk.thread());
    assert_eq!(desk.read_by(reader, Reading::new(fd, 32)).0, None);
    assert_eq!(desk.file(FileCall::Close { fd }), Ret::Ok(0));
    // Registered still: the next fault ends the read, and then comes the release.
    assert_eq!(desk.load(faulter, 0), None);
    assert_eq!(desk.on(reader), Some(Ret::Ok(32)));
    assert_eq!(desk.on(faulter), Some(Ret::Loaded(Content::Zero)));
}

#[test]
fn a19_v76_a_poller_inside_keeps_the_file_until_it_returns() {
    let mut desk = Desk::new();
    let fd = desk.watched(2, NONBLOCK, Features::empty());
    let (poller, faulter) = (desk.thread(), desk.thread());
    assert_eq!(desk.go(poller, Call::File(FileCall::Poll { fd, wait: true })), None);
    assert_eq!(desk.file(FileCall::Close { fd }), Ret::Ok(0));
    assert_eq!(desk.load(faulter, 0), None);
    assert_eq!(desk.on(poller), Some(Ret::Ok(poll::IN)), "never POLLHUP");
    assert_eq!(desk.on(faulter), Some(Ret::Loaded(Content::Zero)));
}

#[test]
fn a19_an_ioctl_under_way_keeps_the_file() {
    let mut desk = Desk::new();
    let fd = desk.watched(4, NONBLOCK, Features::empty());
    let (installer, faulter) = (desk.thread(), desk.thread());
    assert_eq!(desk.load(faulter, 3), None);
    let request = Request::Zeropage { range: span(0, 3), mode: shims::ZeropageMode::empty() };
    let payload = sim::kernel::Payload::None;
    let call = Call::File(FileCall::Resolve { fd, request, payload });
    desk.kernel.begin(installer, call);
    assert!(matches!(desk.step(installer), Did::Process(ProcessDid::Enter { .. })));
    assert_eq!(desk.file(FileCall::Close { fd }), Ret::Ok(0));
    assert_eq!(desk.on(faulter), None);
    assert_eq!(desk.on(installer), Some(Ret::Outcome(Outcome::done(3 * 4096))));
    assert_eq!(desk.on(faulter), Some(Ret::Loaded(Content::Zero)));
    assert_eq!(desk.copy_after_close(fd), Ret::Err(Errno::EBADF));
}

impl Desk {
    fn copy_after_close(&mut self, fd: Fd) -> Ret {
        self.resolve_by(self.me, fd, Request::Wake { range: span(0, 1) })
    }
}

#[test]
fn a20_v9_release_wakes_faulters_read_or_not_and_senders() {
    let mut desk = Desk::new();
    let fd = desk.watched(4, NONBLOCK, REMOVE);
    let (a, b, remover) = (desk.thread(), desk.thread(), desk.thread());
    assert_eq!(desk.load(a, 0), None);
    assert_eq!(desk.read(fd, 1).1.len(), 1);
    assert_eq!(desk.load(b, 1), None);
    assert_eq!(desk.remove(remover, 2, 3), None);
    assert_eq!(desk.file(FileCall::Close { fd }), Ret::Ok(0));
    assert_eq!(desk.on(a), Some(Ret::Loaded(Content::Zero)));
    assert_eq!(desk.on(b), Some(Ret::Loaded(Content::Zero)));
    assert_eq!(desk.on(remover), Some(Ret::Ok(0)));
}

/// Begin a fork of the first thread, which must wait for its message.
fn fork(desk: &mut Desk, share_files: bool) {
    let fork = ProcessCall::Fork { share_files };
    assert_eq!(desk.process_call(desk.me, fork), None, "it waits to be read");
}

fn forked(desk: &mut Desk, parent: ThreadId) -> MmId {
    match desk.on(parent) {
        Some(Ret::Forked(child)) => child,
        ret => panic!("fork answered {ret:?}"),
    }
}

#[test]
fn d28_v38_v75_the_child_s_descriptor_has_the_flags_of_creation() {
    let mut desk = Desk::new();
    let fd = desk.watched(2, flags::O_CLOEXEC, FORK);
    let reader = desk.thread();
    // A flag that was set later is the file's, not the context's.
    desk.file(FileCall::SetNonblock { fd, on: true });
    fork(&mut desk, false);
    let (ret, events) = desk.read_by(reader, Reading::new(fd, 64));
    assert_eq!(ret, Some(Ret::Ok(32)));
    let [Event::Fork { fd: number }] = events[..] else { panic!("{events:?}") };
    let child = Fd(number);
    let me = desk.me;
    let mm = forked(&mut desk, me);
    let view = desk.kernel.fd(desk.me, child).expect("it is in the reader's table");
    assert!(view.cloexec && !view.nonblock);
    assert_eq!(desk.kernel.fd(reader, child), Some(view));
    assert_eq!(desk.look(child), poll::ERR, "it blocks");
    assert_eq!(desk.api(child, 0), Ret::Err(Errno::EINVAL), "started already");
    // The child's faults go there and nowhere else.
    let thread = desk.kernel.new_thread(mm);
    assert_eq!(desk.load(thread, 1), None);
    assert_eq!(desk.read(fd, 1).0, Some(Ret::Err(Errno::EAGAIN)));
    assert_eq!(pages(&desk.read(child, 1).1), ["F1"]);
    assert_eq!(desk.copy(child, 1, 2), Outcome::done(4096));
    assert_eq!(desk.on(thread), Some(Ret::Loaded(source(1))));
}

#[test]
fn d28_the_descriptor_is_the_reader_s_whoever_that_is() {
    let mut desk = Desk::new();
    let fd = desk.watched(2, NONBLOCK, FORK);
    let (_, monitor) = desk.process();
    let Ret::Ok(theirs) = desk.file(FileCall::Send { fd, to: monitor }) else { panic!("sent") };
    assert_eq!(theirs, 0, "the lowest number of the monitor");
    let parent = desk.thread();
    assert_eq!(desk.go(parent, Call::Fork), None);
    let (_, events) = desk.read_by(monitor, Reading::new(Fd(0), 32));
    let [Event::Fork { fd: number }] = events[..] else { panic!("{events:?}") };
    assert_eq!(number, 1);
    assert!(desk.kernel.fd(monitor, Fd(1)).is_some());
    assert_eq!(desk.kernel.fd(desk.me, Fd(1)), None, "not the parent's");
    forked(&mut desk, parent);
}

#[test]
fn d29_v39_without_a_descriptor_the_event_goes_back_to_the_tail() {
    let mut desk = Desk::new();
    let fd = desk.watched(4, NONBLOCK, FORK | REMOVE);
    let (parent, remover) = (desk.thread(), desk.thread());
    assert_eq!(desk.go(parent, Call::Fork), None);
    assert_eq!(desk.remove(remover, 1, 2), None);
    desk.kernel.privileges_mut(desk.me).nofile = 1;
    assert_eq!(desk.read(fd, 4), (Some(Ret::Err(Errno::EMFILE)), Vec::new()));
    assert_eq!(desk.on(parent), None, "it waits on");
    // The removal is in front now; the read returns what it has.
    let (ret, events) = desk.read(fd, 4);
    assert_eq!((ret, pages(&events)), (Some(Ret::Ok(32)), vec!["REMOVE".to_owned()]));
    assert_eq!(desk.look(fd), poll::IN);
    desk.kernel.privileges_mut(desk.me).nofile = 2;
    assert_eq!(pages(&desk.read(fd, 4).1), ["FORK"]);
    forked(&mut desk, parent);
}

#[test]
fn a15_v5_a_fork_that_cannot_be_delivered_leaks_a_descriptor() {
    let mut desk = Desk::new();
    let fd = desk.watched(2, NONBLOCK, FORK);
    let parent = desk.thread();
    assert_eq!(desk.go(parent, Call::Fork), None);
    let bad = Reading { writable: 0, ..Reading::new(fd, 32) };
    assert_eq!(desk.read_by(desk.me, bad).0, Some(Ret::Err(Errno::EFAULT)));
    forked(&mut desk, parent);
    assert!(desk.kernel.fd(desk.me, Fd(1)).is_some(), "nobody was told of it");
}

#[test]
fn d30_v40_a_half_made_child_keeps_the_file_open() {
    let mut desk = Desk::new();
    let fd = desk.watched(2, NONBLOCK, FORK);
    let (closer, faulter) = (desk.thread(), desk.thread());
    fork(&mut desk, false);
    assert_eq!(desk.file_by(closer, FileCall::Close { fd }), Ret::Ok(0));
    assert_eq!(desk.on(desk.me), None, "the fork hangs");
    assert_eq!(desk.load(faulter, 0), None, "and every fault with it");
    desk.kill(desk.me);
    desk.settle(&[desk.me, closer, faulter]);
    assert!([desk.me, closer, faulter].iter().all(|&thread| desk.kernel.is_dead(thread)));
}

#[test]
fn d30_v40_with_shared_descriptors_the_close_is_the_last() {
    let mut desk = Desk::new();
    let fd = desk.watched(2, NONBLOCK, FORK);
    let closer = desk.thread();
    fork(&mut desk, true);
    assert_eq!(desk.file_by(closer, FileCall::Close { fd }), Ret::Ok(0));
    let me = desk.me;
    let child = forked(&mut desk, me);
    let thread = desk.kernel.new_thread(child);
    // Its memory is not watched: nobody could have read the message.
    assert_eq!(desk.load(thread, 0), Some(Ret::Loaded(Content::Zero)));
}

#[test]
fn a19_an_inherited_descriptor_keeps_the_file() {
    let mut desk = Desk::new();
    let fd = desk.watched(2, NONBLOCK, Features::empty());
    let faulter = desk.thread();
    let ret = desk.process_call(desk.me, ProcessCall::Fork { share_files: false });
    let Some(Ret::Forked(mm)) = ret else { panic!("{ret:?}") };
    let child = desk.kernel.new_thread(mm);
    assert_eq!(desk.load(faulter, 0), None);
    assert_eq!(desk.file(FileCall::Close { fd }), Ret::Ok(0));
    assert_eq!(desk.on(faulter), None);
    assert_eq!(desk.file_by(child, FileCall::Close { fd }), Ret::Ok(0));
    assert_eq!(desk.on(faulter), Some(Ret::Loaded(Content::Zero)));
}

#[test]
fn a19_closing_a_raw_descriptor_releases_it_too() {
    let mut desk = Desk::new();
    let fd = desk.opened(0);
    let ctx = desk.ctx(fd);
    assert_eq!(desk.file(FileCall::Close { fd }), Ret::Ok(0));
    assert!(desk.kernel.ctx(ctx).is_closed());
    let call = FileCall::Register { fd, range: span(0, 1), modes: RegisterModes::MISSING };
    assert_eq!(desk.file(call), Ret::Err(Errno::EBADF));
}
