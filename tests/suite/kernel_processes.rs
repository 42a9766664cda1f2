//! Processes and userfaultfds: children that act on their parent, ends, new programs. Each
//! test names the rule it holds the kernel to.

use shims::{
    CopyMode, Errno, Event, Features, MoveMode, Outcome, PoisonMode, RegisterModes, Request,
    WriteProtectMode, ZeropageMode,
};
use sim::Content;
use sim::kernel::{
    Call, Did, Fd, FileCall, ForkFailure, Madvise, MmId, ProcessCall, ProcessDid, Reading, Ret,
    Sleep, ThreadId, flags,
};
use sim::vma::{Advice, Mmap, Prot};

use crate::support::desk::{Desk, NONBLOCK};
use crate::support::{page, source, span};

const FORK: Features = Features::EVENT_FORK;

fn forked(thread: ThreadId, desk: &mut Desk) -> (MmId, ThreadId) {
    match desk.process_call(thread, ProcessCall::Fork { share_files: false }) {
        Some(Ret::Forked(mm)) => (mm, desk.kernel.new_thread(mm)),
        ret => panic!("fork answered {ret:?}"),
    }
}

#[test]
fn a4_v71_a_child_that_inherited_the_descriptor_drives_its_parent() {
    let mut desk = Desk::new();
    let fd = desk.watched(4, NONBLOCK, Features::empty());
    let (mm, child) = forked(desk.me, &mut desk);
    let faulter = desk.thread();
    assert_eq!(desk.load(faulter, 1), None);
    assert_eq!(desk.read_by(child, Reading::new(fd, 32)).0, Some(Ret::Ok(32)));
    assert_eq!(desk.copy_by(child, fd, 1, 2), Outcome::done(4096));
    assert_eq!(desk.on(faulter), Some(Ret::Loaded(source(1))));
    // The child's own memory is another's, and is not watched.
    assert_eq!(desk.load(child, 1), Some(Ret::Loaded(Content::Zero)));
    // Neither does what the child registers concern the child.
    let modes = RegisterModes::MISSING;
    let register = FileCall::Register { fd, range: span(0, 4), modes };
    assert!(matches!(desk.file_by(child, register), Ret::Ok(_)));
    assert!(desk.kernel.space(mm).iter().all(|vma| vma.uffd().is_none()));
    // e20: `MOVE` alone insists.
    let dst = span(2, 3);
    let request = Request::Move { dst, src: page(3), mode: MoveMode::empty() };
    let ret = desk.resolve_by(child, fd, request);
    assert_eq!(ret, Ret::Outcome(Outcome::bare(Errno::EINVAL)));
}

/// What every ioctl says to a monitor when the process is gone.
fn obituary(desk: &mut Desk, monitor: ThreadId, fd: Fd) {
    let range = span(0, 1);
    let gone = Ret::Outcome(Outcome::bare(Errno::ESRCH));
    for request in [
        Request::Copy { dst: range, mode: CopyMode::empty() },
        Request::Zeropage { range, mode: ZeropageMode::empty() },
        Request::Continue { range, mode: shims::ContinueMode::empty() },
        Request::Poison { range, mode: PoisonMode::empty() },
        Request::WriteProtect { range, mode: WriteProtectMode::WP },
    ] {
        assert_eq!(desk.resolve_by(monitor, fd, request), gone, "{request:?}");
    }
    let invalid = Ret::Outcome(Outcome::bare(Errno::EINVAL));
    let request = Request::Move { dst: range, src: page(3), mode: MoveMode::empty() };
    assert_eq!(desk.resolve_by(monitor, fd, request), invalid);
    // What is malformed is refused before anybody looks for the process.
    let odd = Request::Zeropage { range, mode: ZeropageMode::from_bits_retain(0x80) };
    assert_eq!(desk.resolve_by(monitor, fd, odd), invalid);
    let register = FileCall::Register { fd, range, modes: RegisterModes::MISSING };
    assert_eq!(desk.file_by(monitor, register), Ret::Err(Errno::ENOMEM));
    let unregister = FileCall::Unregister { fd, range };
    assert_eq!(desk.file_by(monitor, unregister), Ret::Err(Errno::ENOMEM));
    let wake = Request::Wake { range };
    assert_eq!(desk.resolve_by(monitor, fd, wake), Ret::Outcome(Outcome::OK));
    let look = FileCall::Poll { fd, wait: false };
    assert_eq!(desk.file_by(monitor, look), Ret::Ok(0));
    let ret = desk.read_by(monitor, Reading::new(fd, 32)).0;
    assert_eq!(ret, Some(Ret::Err(Errno::EAGAIN)));
}

/// A watched process, and one that holds its userfaultfd.
fn pair(features: Features) -> (Desk, ThreadId, Fd) {
    let mut desk = Desk::new();
    let fd = desk.watched(4, NONBLOCK | flags::O_CLOEXEC, features);
    let (_, monitor) = desk.process();
    let Ret::Ok(theirs) = desk.file(FileCall::Send { fd, to: monitor }) else { panic!("sent") };
    (desk, monitor, Fd(theirs as i32))
}

#[test]
fn a23_v10_v48_d17_after_an_exit_the_descriptor_is_there_and_the_memory_is_not() {
    let all = Features::EVENT_REMOVE | Features::EVENT_UNMAP | Features::EVENT_REMAP | FORK;
    let (mut desk, monitor, fd) = pair(all);
    desk.copy_by(monitor, fd, 0, 1);
    let faulter = desk.thread();
    assert_eq!(desk.load(faulter, 2), None);
    let me = desk.me;
    assert_eq!(desk.process_call(me, ProcessCall::Exit), None);
    assert!(desk.kernel.is_dead(me));
    desk.settle(&[faulter]);
    assert!(desk.kernel.is_dead(faulter));
    obituary(&mut desk, monitor, fd);
}

#[test]
fn a23_a_blocking_read_waits_for_ever() {
    let (mut desk, monitor, fd) = pair(Features::empty());
    desk.file_by(monitor, FileCall::SetNonblock { fd, on: false });
    assert_eq!(desk.read_by(monitor, Reading::new(fd, 32)).0, None);
    let me = desk.me;
    desk.process_call(me, ProcessCall::Exit);
    assert!(!desk.kernel.can_step(monitor));
    assert!(matches!(desk.kernel.sleep(monitor), Some(Sleep::Reader(_))));
}

#[test]
fn a23_v10_an_exec_leaves_the_old_memory_behind() {
    let (mut desk, monitor, fd) = pair(Features::EVENT_UNMAP);
    let mine = Fd(0);
    assert!(desk.kernel.fd(desk.me, mine).is_some());
    let me = desk.me;
    let sibling = desk.thread();
    assert_eq!(desk.load(sibling, 1), None);
    // It waits for the other threads to end.
    assert_eq!(desk.process_call(me, ProcessCall::Exec), None);
    assert_eq!(desk.kernel.sleep(me), Some(Sleep::Threads));
    desk.settle(&[sibling]);
    assert!(desk.kernel.is_dead(sibling));
    assert_eq!(desk.on(me), Some(Ret::Ok(0)));
    assert_ne!(desk.kernel.mm_of(me), desk.mm);
    assert_eq!(desk.kernel.fd(me, mine), None, "close on exec");
    obituary(&mut desk, monitor, fd);
    // The new program maps what it likes at the same place, unwatched.
    let map = Mmap::fixed(page(0).raw(), 4096, Prot::RW);
    assert_eq!(desk.go(me, Call::Mmap(map)), Some(Ret::Ok(page(0).raw())));
    assert_eq!(desk.load(me, 0), Some(Ret::Loaded(Content::Zero)));
}

#[test]
fn a19_an_exec_keeps_what_is_not_marked_and_the_last_reference_releases() {
    let mut desk = Desk::new();
    let kept = desk.started(NONBLOCK, Features::empty());
    let marked = desk.started(NONBLOCK | flags::O_CLOEXEC, Features::empty());
    let (kept_ctx, marked_ctx) = (desk.ctx(kept), desk.ctx(marked));
    let me = desk.me;
    assert_eq!(desk.process_call(me, ProcessCall::Exec), Some(Ret::Ok(0)));
    assert!(!desk.kernel.ctx(kept_ctx).is_closed());
    assert!(desk.kernel.ctx(marked_ctx).is_closed());
    assert_eq!(desk.process_call(me, ProcessCall::Exit), None);
    assert!(desk.kernel.ctx(kept_ctx).is_closed());
}

#[test]
fn a23_an_ioctl_that_is_inside_ends_before_the_memory_goes() {
    let (mut desk, monitor, fd) = pair(Features::empty());
    let request = Request::Zeropage { range: span(0, 3), mode: ZeropageMode::empty() };
    let payload = sim::kernel::Payload::None;
    let zero = Call::File(FileCall::Resolve { fd, request, payload });
    desk.kernel.begin(monitor, zero);
    for _ in 0..3 {
        desk.step(monitor);
    }
    let me = desk.me;
    assert_eq!(desk.process_call(me, ProcessCall::Exit), None);
    assert!(!desk.kernel.is_dead(me), "the memory is in use");
    assert_eq!(desk.on(monitor), Some(Ret::Outcome(Outcome::done(3 * 4096))));
    desk.settle(&[me]);
    assert!(desk.kernel.is_dead(me));
    obituary(&mut desk, monitor, fd);
}

#[test]
fn a23_a_gate_that_was_passed_is_no_promise() {
    let (mut desk, monitor, fd) = pair(Features::empty());
    let request = Request::Zeropage { range: span(0, 1), mode: ZeropageMode::empty() };
    let payload = sim::kernel::Payload::None;
    desk.kernel.begin(monitor, Call::File(FileCall::Resolve { fd, request, payload }));
    assert!(matches!(desk.step(monitor), Did::Process(ProcessDid::Enter { .. })));
    assert_eq!(desk.step(monitor), Did::PassGate);
    let me = desk.me;
    desk.process_call(me, ProcessCall::Exit);
    assert_eq!(desk.on(monitor), Some(Ret::Outcome(Outcome::bare(Errno::ESRCH))));
}

#[test]
fn a23_a_dead_child_of_a_fork_is_like_any_other() {
    let mut desk = Desk::new();
    let fd = desk.watched(4, NONBLOCK, FORK);
    let parent = desk.thread();
    assert_eq!(desk.go(parent, Call::Fork), None);
    let (_, events) = desk.read(fd, 1);
    let [Event::Fork { fd: number }] = events[..] else { panic!("{events:?}") };
    let Some(Ret::Forked(mm)) = desk.on(parent) else { panic!("the fork is over") };
    let child = desk.kernel.new_thread(mm);
    assert_eq!(desk.load(child, 0), None);
    desk.kill(child);
    desk.settle(&[child]);
    let me = desk.me;
    obituary(&mut desk, me, Fd(number));
    // The parent's is as it was.
    assert_eq!(desk.copy(fd, 0, 1), Outcome::done(4096));
}

#[test]
fn d25_v72_a_vfork_is_not_announced_and_shares_the_memory() {
    let mut desk = Desk::new();
    let fd = desk.watched(4, NONBLOCK, FORK);
    let me = desk.me;
    desk.kernel.begin(me, Call::Process(ProcessCall::Vfork));
    let Did::Process(ProcessDid::Spawn { thread: child }) = desk.step(me) else {
        panic!("a vfork makes a child")
    };
    assert_eq!(desk.on(me), None);
    assert_eq!(desk.kernel.sleep(me), Some(Sleep::Threads));
    let ctx = desk.kernel.fd(child, fd).and_then(|view| view.ctx).unwrap();
    assert_eq!(desk.kernel.ctx(ctx).events_unread(), 0);
    // It faults in its parent's memory.
    assert_eq!(desk.load(child, 1), None);
    let handler = desk.thread();
    assert_eq!(desk.read_by(handler, Reading::new(fd, 32)).0, Some(Ret::Ok(32)));
    assert_eq!(desk.copy_by(handler, fd, 1, 2), Outcome::done(4096));
    assert_eq!(desk.on(child), Some(Ret::Loaded(source(1))));
    // Its end is not the end of the memory, nor of the parent's descriptors.
    assert_eq!(desk.process_call(child, ProcessCall::Exit), None);
    assert_eq!(desk.on(me), Some(Ret::Ok(u64::from(child.0))));
    assert_eq!(desk.load(me, 1), Some(Ret::Loaded(source(1))));
    assert!(!desk.kernel.ctx(ctx).is_closed());
}

#[test]
fn d25_a_vfork_child_s_exec_lets_the_parent_go_on() {
    let mut desk = Desk::new();
    let me = desk.me;
    desk.kernel.begin(me, Call::Process(ProcessCall::Vfork));
    let Did::Process(ProcessDid::Spawn { thread: child }) = desk.step(me) else {
        panic!("a vfork makes a child")
    };
    assert_eq!(desk.process_call(child, ProcessCall::Exec), Some(Ret::Ok(0)));
    assert_eq!(desk.on(me), Some(Ret::Ok(u64::from(child.0))));
    assert_ne!(desk.kernel.mm_of(child), desk.mm);
}

fn advise(desk: &mut Desk, start: u64, end: u64, advice: Madvise) {
    let call = Call::Madvise { range: span(start, end), advice };
    assert_eq!(desk.go(desk.me, call), Some(Ret::Ok(0)));
}

#[test]
fn d25_v72_memory_that_is_not_copied_is_not_announced() {
    let mut desk = Desk::new();
    let fd = desk.watched(4, NONBLOCK, FORK);
    desk.copy(fd, 0, 4);
    advise(&mut desk, 0, 4, Madvise::Flags(Advice::DontFork));
    let (mm, child) = forked(desk.me, &mut desk);
    assert_eq!(desk.kernel.space(mm).iter().count(), 0);
    assert_eq!(desk.kernel.table(mm).present(), 0, "no page without a mapping");
    assert!(matches!(desk.load(child, 0), Some(Ret::Signal(_))));
}

#[test]
fn d25_v72_memory_that_is_wiped_is_announced_and_empty() {
    let mut desk = Desk::new();
    let fd = desk.watched(4, NONBLOCK, FORK);
    desk.copy(fd, 0, 4);
    advise(&mut desk, 0, 2, Madvise::Flags(Advice::WipeOnFork));
    let me = desk.me;
    assert_eq!(desk.process_call(me, ProcessCall::Fork { share_files: false }), None);
    let reader = desk.thread();
    let (_, events) = desk.read_by(reader, Reading::new(fd, 64));
    let [Event::Fork { fd: number }] = events[..] else { panic!("{events:?}") };
    let Some(Ret::Forked(mm)) = desk.on(me) else { panic!("the fork is over") };
    let child = desk.kernel.new_thread(mm);
    assert_eq!(desk.load(child, 2), Some(Ret::Loaded(source(2))), "copied");
    assert_eq!(desk.load(child, 0), None, "wiped, and asked for");
    assert_eq!(desk.read(Fd(number), 4).1.len(), 1);
    assert_eq!(desk.load(me, 0), Some(Ret::Loaded(source(0))), "the parent keeps it");
}

#[test]
fn d32_a_fork_that_fails_is_not_announced() {
    let mut desk = Desk::new();
    let fd = desk.watched(4, NONBLOCK, FORK);
    desk.kernel.fail_next_fork(ForkFailure::Memory);
    let parent = desk.thread();
    desk.kernel.begin(parent, Call::Fork);
    assert!(matches!(desk.step(parent), Did::RaiseChanging { changing: 1, .. }));
    assert_eq!(desk.copy(fd, 0, 1), Outcome::mirrored(Errno::EAGAIN));
    assert!(matches!(desk.step(parent), Did::LowerChanging { changing: 0, .. }));
    assert_eq!(desk.on(parent), Some(Ret::Err(Errno::ENOMEM)));
    assert_eq!(desk.read(fd, 1).0, Some(Ret::Err(Errno::EAGAIN)));
    assert_eq!(desk.copy(fd, 0, 1), Outcome::done(4096));
    // The next one succeeds.
    assert_eq!(desk.go(parent, Call::Fork), None);
}

#[test]
fn d32_a_fork_that_fails_late_was_announced() {
    let mut desk = Desk::new();
    let fd = desk.watched(4, NONBLOCK, FORK);
    desk.kernel.fail_next_fork(ForkFailure::Later);
    let parent = desk.thread();
    assert_eq!(desk.go(parent, Call::Fork), None);
    let (_, events) = desk.read(fd, 1);
    let [Event::Fork { fd: number }] = events[..] else { panic!("{events:?}") };
    assert_eq!(desk.on(parent), Some(Ret::Err(Errno::EAGAIN)));
    assert_eq!(desk.copy(Fd(number), 0, 1), Outcome::bare(Errno::ESRCH));
}

#[test]
fn a20_an_exit_releases_what_the_process_had_alone() {
    let mut desk = Desk::new();
    // The monitor watches memory of its own process; a child holds the descriptor too.
    let fd = desk.watched(4, NONBLOCK, Features::empty());
    let ctx = desk.ctx(fd);
    let (_, child) = forked(desk.me, &mut desk);
    let me = desk.me;
    desk.process_call(me, ProcessCall::Exit);
    assert!(!desk.kernel.ctx(ctx).is_closed(), "the child holds it");
    desk.process_call(child, ProcessCall::Exit);
    assert!(desk.kernel.ctx(ctx).is_closed());
}

#[test]
fn a19_threads_of_one_process_close_their_descriptors_once() {
    let mut desk = Desk::new();
    let fd = desk.started(NONBLOCK, Features::empty());
    let ctx = desk.ctx(fd);
    let (me, other) = (desk.me, desk.thread());
    assert_eq!(desk.process_call(me, ProcessCall::Exit), None);
    assert!(!desk.kernel.ctx(ctx).is_closed(), "the other thread has not ended yet");
    desk.settle(&[other]);
    assert!(desk.kernel.is_dead(other) && desk.kernel.is_dead(me));
    assert!(desk.kernel.ctx(ctx).is_closed());
}
