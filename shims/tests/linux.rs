//! The real backend against the running kernel: every ioctl, every outcome a handler
//! tells apart, and that nothing sleeps for ever. Each test that finds no userfaultfd
//! reports itself as skipped; with `FAULTBED_REQUIRE_KERNEL=1` it fails instead.
#![cfg(all(target_os = "linux", feature = "linux"))]

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::Scope;
use std::time::Duration;

use faultbed_shims as shims;
use shims::linux::hugepages::Reservation;
use shims::linux::{Capability, Mapping, OpenFlags, PollWaiter, UserFault};
use shims::{
    ContinueMode, CopyMode, Errno, Event, Fault, FaultFlags, FaultKind, Features, Field, Len,
    MoveMode, Outcome, PageSize, PoisonMode, RangeIoctls, RegisterModes, Span, Uffd, Verdict,
    Waiter, Wakeup, WriteProtectMode, ZeropageMode,
};

const PAGE: u64 = 4096;
/// How long a thread that must go on may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a thread that must not go on is watched.
const NAP: Duration = Duration::from_millis(30);

/// Registered memory and its descriptor.
struct Rig {
    uffd: UserFault,
    map: Arc<Mapping>,
}

impl Rig {
    fn new(features: Features, modes: RegisterModes, map: Mapping) -> Rig {
        let (uffd, _) = UserFault::connect(OpenFlags::empty(), features).unwrap();
        uffd.register(map.span(), modes).unwrap();
        Rig { uffd, map: Arc::new(map) }
    }

    /// Sixteen anonymous pages that report missing ones, or a test skipped by name.
    fn missing(test: &str, features: Features) -> Option<Rig> {
        Capability::gate(test, OpenFlags::empty(), features)?;
        Some(Rig::new(features, RegisterModes::MISSING, anonymous(16)))
    }

    /// Run `body` with threads that may sleep in the kernel. However it ends, they are
    /// released before they are joined.
    fn scope<'env, T>(
        &'env self,
        body: impl for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
    ) -> T {
        std::thread::scope(|scope| {
            let _release = Release(self);
            body(scope)
        })
    }

    /// Read until `count` messages are there.
    fn events(&self, count: usize) -> Vec<Event> {
        let waiter = PollWaiter::new(&self.uffd).unwrap();
        let deadline = waiter.now().after(PATIENCE);
        let mut events = Vec::new();
        while events.len() < count {
            let wakeup = waiter.wait(Some(deadline)).unwrap();
            assert_eq!(wakeup, Wakeup::READABLE, "after {events:?}");
            match self.uffd.read_events(&mut events, 128) {
                Ok(_) | Err(Errno::EAGAIN) => {}
                Err(e) => panic!("{e} after {events:?}"),
            }
        }
        events
    }

    /// The one fault that is reported next.
    fn fault(&self) -> Fault {
        match self.events(1)[..] {
            [Event::Fault(fault)] => fault,
            ref other => panic!("one fault expected, not {other:?}"),
        }
    }

    /// Sleep until so many faults are queued, without reading them.
    fn until_pending(&self, count: u64) {
        let (_bell, silence) = channel::<()>();
        for _ in 0..1000 {
            if self.uffd.info().unwrap().pending == count {
                return;
            }
            assert_eq!(
                silence.recv_timeout(Duration::from_millis(10)),
                Err(RecvTimeoutError::Timeout)
            );
        }
        panic!("never {count} pending faults: {:?}", self.uffd.info());
    }

    /// Sleep until something is to be read, without reading it.
    fn until_readable(&self) {
        let waiter = PollWaiter::new(&self.uffd).unwrap();
        let wakeup = waiter.wait(Some(waiter.now().after(PATIENCE))).unwrap();
        assert_eq!(wakeup, Wakeup::READABLE);
    }

    fn page(&self, index: u64) -> Span {
        self.map.pages(index, 1)
    }

    fn copy(&self, index: u64, fill: u8) -> Outcome {
        self.uffd.copy(self.page(index), &[fill; PAGE as usize], CopyMode::empty())
    }
}

/// Wakes whoever sleeps, because of a fault or of an event.
struct Release<'a>(&'a Rig);

impl Drop for Release<'_> {
    fn drop(&mut self) {
        let Rig { uffd, map } = self.0;
        let _ = uffd.unregister(map.span());
        let _ = uffd.wake(map.span());
        let Ok(waiter) = PollWaiter::new(uffd) else { return };
        let until = waiter.now().after(NAP);
        while waiter.wait(Some(until)).is_ok_and(|w| !w.contains(Wakeup::TIMEOUT)) {
            let _ = uffd.read_events(&mut Vec::new(), 128);
        }
    }
}

/// A thread that makes one access or call.
struct Task<T>(Receiver<T>);

impl<T: Send> Task<T> {
    fn spawn<'scope>(
        scope: &'scope Scope<'scope, '_>,
        body: impl FnOnce() -> T + Send + 'scope,
    ) -> Task<T>
    where
        T: 'scope,
    {
        let (tell, told) = channel();
        scope.spawn(move || {
            let _ = tell.send(body());
        });
        Task(told)
    }

    /// Its result, which must come.
    #[track_caller]
    fn done(self) -> T {
        self.0.recv_timeout(PATIENCE).expect("the thread sleeps for ever")
    }

    #[track_caller]
    fn assert_asleep(&self) {
        assert!(
            matches!(self.0.recv_timeout(NAP), Err(RecvTimeoutError::Timeout)),
            "the thread does not sleep"
        );
    }
}

fn anonymous(pages: u64) -> Mapping {
    Mapping::anonymous(Len::pages(pages, PageSize::KIB4).unwrap()).unwrap()
}

fn mirrored(errno: Errno) -> Outcome {
    Outcome::mirrored(errno)
}

#[test]
fn the_handshake_is_final_and_a_failed_one_is_not() {
    let test = "the_handshake_is_final_and_a_failed_one_is_not";
    let Some(capability) = Capability::gate(test, OpenFlags::empty(), Features::empty()) else {
        return;
    };
    let uffd = UserFault::open(OpenFlags::empty()).unwrap();
    let map = anonymous(1);
    let waiter = PollWaiter::new(&uffd).unwrap();
    assert_eq!(waiter.wait(None), Ok(Wakeup::ERROR), "before the handshake (a5)");
    assert_eq!(uffd.info().unwrap().features, None);
    assert_eq!(uffd.register(map.span(), RegisterModes::MISSING), Err(Errno::EINVAL));
    assert_eq!(uffd.read_events(&mut Vec::new(), 1), Err(Errno::EINVAL));

    assert_eq!(uffd.api(Features::from_bits_retain(1 << 62)), Err(Errno::EINVAL));
    let reply = uffd.api(Features::empty()).unwrap();
    assert_eq!(reply.features, capability.features, "all the kernel has, not what was asked");
    assert_eq!(uffd.api(Features::EVENT_REMOVE), Err(Errno::EINVAL), "final (a6)");
    assert_eq!(uffd.info().unwrap().features, Some(Features::empty()));
    assert_eq!(uffd.read_events(&mut Vec::new(), 1), Err(Errno::EAGAIN));
    assert_eq!(uffd.read_events(&mut Vec::new(), 0), Err(Errno::EINVAL), "no room (a10)");
}

#[test]
fn both_doors_open_a_descriptor_that_is_recognised() {
    let test = "both_doors_open_a_descriptor_that_is_recognised";
    for flags in [OpenFlags::NOT_BY_DEVICE, OpenFlags::NOT_BY_SYSCALL] {
        if Capability::gate(test, flags, Features::empty()).is_none() {
            continue;
        }
        let uffd = UserFault::open(flags).unwrap();
        uffd.api(Features::EVENT_REMOVE).unwrap();
        let adopted = UserFault::try_from(std::os::fd::OwnedFd::from(uffd)).unwrap();
        assert_eq!(adopted.info().unwrap().features, Some(Features::EVENT_REMOVE));
    }
    let neither = UserFault::open(OpenFlags::NOT_BY_DEVICE | OpenFlags::NOT_BY_SYSCALL);
    assert!(neither.is_err());
}

#[test]
fn a_feature_the_kernel_lacks_is_named() {
    let test = "a_feature_the_kernel_lacks_is_named";
    let Some(mut capability) = Capability::gate(test, OpenFlags::empty(), Features::empty()) else {
        return;
    };
    capability.features.remove(Features::MOVE);
    let refused = capability.require(Features::MOVE | Features::EVENT_REMOVE).unwrap_err();
    assert!(refused.to_string().contains("lacks MOVE;"), "{refused}");
}

#[test]
fn a_descriptor_for_user_mode_needs_no_privilege_and_refuses_kernel_accesses() {
    let test = "a_descriptor_for_user_mode_needs_no_privilege_and_refuses_kernel_accesses";
    let flags = OpenFlags::USER_MODE_ONLY | OpenFlags::NOT_BY_DEVICE;
    if Capability::gate(test, flags, Features::empty()).is_none() {
        return;
    }
    let (uffd, capability) = UserFault::connect(flags, Features::empty()).unwrap();
    assert!(!capability.kernel_faults);
    let map = anonymous(1);
    uffd.register(map.span(), RegisterModes::MISSING).unwrap();
    let rig = Rig { uffd, map: Arc::new(map) };
    assert_eq!(rig.map.populate_read(0, PAGE), Err(Errno::EFAULT), "c5, c6");
    rig.scope(|scope| {
        let reader = Task::spawn(scope, || rig.map.read_byte(7));
        assert_eq!(rig.fault().addr, rig.map.addr());
        assert_eq!(rig.copy(0, 9), Outcome::done(PAGE));
        assert_eq!(reader.done(), 9);
    });
}

#[test]
fn faults_are_read_before_events_each_in_order() {
    let test = "faults_are_read_before_events_each_in_order";
    let Some(rig) = Rig::missing(test, Features::EVENT_REMOVE) else { return };
    rig.scope(|scope| {
        let remover = Task::spawn(scope, || rig.map.dontneed(8 * PAGE, 2 * PAGE));
        rig.until_readable();
        let third = Task::spawn(scope, || rig.map.populate_read(3 * PAGE, PAGE));
        rig.until_pending(1);
        let first = Task::spawn(scope, || rig.map.populate_write(PAGE, PAGE));
        rig.until_pending(2);
        let mut events = Vec::new();
        assert_eq!(rig.uffd.read_events(&mut events, 1), Ok(1), "no more than asked for");
        assert_eq!(rig.uffd.read_events(&mut events, 128), Ok(2), "a11");
        let [Event::Fault(a), Event::Fault(b), Event::Remove(c)] = events[..] else {
            panic!("{events:?}");
        };
        assert_eq!((a.addr, a.flags), (rig.page(3).start, FaultFlags::empty()));
        assert_eq!((b.addr, b.flags), (rig.page(1).start, FaultFlags::WRITE));
        assert_eq!(c, rig.map.pages(8, 2));
        assert_eq!(remover.done(), Ok(()));
        assert_eq!(rig.copy(3, 1), Outcome::done(PAGE));
        assert_eq!(rig.copy(1, 2), Outcome::done(PAGE));
        assert_eq!((third.done(), first.done()), (Ok(()), Ok(())));
    });
}

#[test]
fn one_read_takes_many_messages() {
    let Some(rig) = Rig::missing("one_read_takes_many_messages", Features::empty()) else {
        return;
    };
    rig.scope(|scope| {
        let map = &rig.map;
        let tasks: Vec<_> =
            (0..6).map(|i| Task::spawn(scope, move || map.read_byte(i * PAGE))).collect();
        rig.until_pending(6);
        let mut events = Vec::new();
        assert_eq!(rig.uffd.read_events(&mut events, 128), Ok(6));
        assert_eq!(rig.uffd.read_events(&mut events, 128), Err(Errno::EAGAIN));
        let whole = rig.map.pages(0, 6);
        let image: Vec<u8> = (0..6 * PAGE).map(|i| (i / PAGE) as u8 + 1).collect();
        assert_eq!(rig.uffd.copy(whole, &image, CopyMode::empty()), Outcome::done(6 * PAGE));
        for (i, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.done(), i as u8 + 1);
        }
    });
}

#[test]
fn the_faulting_thread_is_named_when_asked_for() {
    let test = "the_faulting_thread_is_named_when_asked_for";
    let Some(rig) = Rig::missing(test, Features::THREAD_ID) else { return };
    rig.scope(|scope| {
        let ((tell, told), map) = (channel(), &rig.map);
        let reader = Task::spawn(scope, move || {
            let link = std::fs::read_link("/proc/thread-self").unwrap();
            let tid = link.file_name().unwrap().to_str().unwrap().parse::<u32>().unwrap();
            tell.send(tid).unwrap();
            map.read_byte(0)
        });
        let tid = told.recv_timeout(PATIENCE).unwrap();
        assert_eq!(rig.fault().tid, Some(shims::Tid(tid)));
        assert_eq!(rig.copy(0, 4), Outcome::done(PAGE));
        assert_eq!(reader.done(), 4);
    });
}

#[test]
fn a_present_page_is_eexist_in_both_numbers_and_wakes_nobody() {
    let test = "a_present_page_is_eexist_in_both_numbers_and_wakes_nobody";
    let Some(rig) = Rig::missing(test, Features::empty()) else { return };
    rig.scope(|scope| {
        let reader = Task::spawn(scope, || rig.map.read_byte(0));
        assert_eq!(rig.fault().kind(), FaultKind::Missing);
        let quiet = rig.uffd.copy(rig.page(0), &[5; PAGE as usize], CopyMode::DONTWAKE);
        assert_eq!(quiet, Outcome::done(PAGE));
        let again = rig.copy(0, 6);
        assert_eq!(again, mirrored(Errno::EEXIST));
        assert_eq!(again.verdict(), Verdict::Present);
        let zero = rig.uffd.zeropage(rig.page(0), ZeropageMode::empty());
        assert_eq!(zero, mirrored(Errno::EEXIST));
        reader.assert_asleep();
        assert_eq!(rig.uffd.wake(rig.page(0)), Ok(()));
        assert_eq!(reader.done(), 5);
    });
}

#[test]
fn a_wake_without_a_page_asks_again() {
    let Some(rig) = Rig::missing("a_wake_without_a_page_asks_again", Features::empty()) else {
        return;
    };
    rig.scope(|scope| {
        let reader = Task::spawn(scope, || rig.map.read_byte(PAGE));
        let first = rig.fault();
        assert_eq!(rig.uffd.wake(rig.page(1)), Ok(()));
        assert_eq!(rig.fault().addr, first.addr);
        let zero = rig.uffd.zeropage(rig.page(1), ZeropageMode::empty());
        assert_eq!(zero, Outcome::done(PAGE));
        assert_eq!(reader.done(), 0);
    });
}

#[test]
fn while_a_remove_is_unread_nothing_is_installed_anywhere() {
    let test = "while_a_remove_is_unread_nothing_is_installed_anywhere";
    let Some(rig) = Rig::missing(test, Features::EVENT_REMOVE | Features::POISON) else {
        return;
    };
    assert_eq!(rig.copy(0, 7), Outcome::done(PAGE));
    rig.scope(|scope| {
        let remover = Task::spawn(scope, || rig.map.dontneed(0, PAGE));
        rig.until_readable();
        remover.assert_asleep();
        let refused = rig.copy(5, 1);
        assert_eq!(refused, mirrored(Errno::EAGAIN), "e1: the field is mirrored since 6.15");
        assert_eq!(refused.verdict(), Verdict::Changing);
        let zero = rig.uffd.zeropage(rig.page(5), ZeropageMode::empty());
        assert_eq!(zero.verdict(), Verdict::Changing);
        let poison = rig.uffd.poison(rig.page(5), PoisonMode::empty());
        assert_eq!(poison.verdict(), Verdict::Changing);
        // Even arguments that make no sense: the counter is looked at first.
        let odd = Span::new(rig.map.addr(), Len::new(1));
        assert_eq!(rig.uffd.copy(odd, &[0], CopyMode::empty()).verdict(), Verdict::Changing);
        assert_eq!(rig.map.read_byte(0), 7, "not zapped before the event is read (d2)");
        assert_eq!(rig.uffd.wake(rig.page(5)), Ok(()), "d3: waking is unaffected");
        assert_eq!(rig.events(1), [Event::Remove(rig.page(0))]);
        assert_eq!(remover.done(), Ok(()));
        assert!(!rig.map.page_entry(0).unwrap().is_present());
        assert_eq!(rig.copy(5, 1), Outcome::done(PAGE));
    });
}

#[test]
fn a_copy_that_stops_half_way_says_how_far_it_got() {
    let test = "a_copy_that_stops_half_way_says_how_far_it_got";
    let Some(rig) = Rig::missing(test, Features::empty()) else { return };
    assert_eq!(rig.copy(3, 9), Outcome::done(PAGE));
    let image = [1; 6 * PAGE as usize];
    let answer = rig.uffd.copy(rig.map.pages(0, 6), &image, CopyMode::empty());
    assert_eq!(answer, Outcome::partial(3 * PAGE), "e3");
    let rest = rig.uffd.copy(rig.map.pages(3, 3), &image, CopyMode::empty());
    assert_eq!(rest, mirrored(Errno::EEXIST), "the reason shows at the stop point");
    assert_eq!([2, 3].map(|i| rig.map.read_byte(i * PAGE)), [1, 9]);
    assert!(!rig.map.page_entry(4 * PAGE).unwrap().is_present());
}

#[test]
fn a_hole_is_enoent_and_a_bad_argument_leaves_the_field_alone() {
    let test = "a_hole_is_enoent_and_a_bad_argument_leaves_the_field_alone";
    let Some(rig) = Rig::missing(test, Features::empty()) else { return };
    rig.uffd.unregister(rig.map.pages(8, 8)).unwrap();
    assert_eq!(rig.copy(8, 1), mirrored(Errno::ENOENT), "unregistered (e6)");
    assert_eq!(rig.copy(8, 1).verdict(), Verdict::NoMapping);
    let across = rig.uffd.copy(rig.map.pages(7, 2), &[1; 2 * PAGE as usize], CopyMode::empty());
    assert_eq!(across, mirrored(Errno::ENOENT), "spanning");
    let odd = Span::new(rig.map.addr(), Len::new(1));
    let refused = rig.uffd.copy(odd, &[0], CopyMode::empty());
    assert_eq!(refused, Outcome { errno: Some(Errno::EINVAL), field: Field::Untouched }, "e2");
    let modes = ZeropageMode::from_bits_retain(1 << 7);
    assert_eq!(rig.uffd.zeropage(rig.page(0), modes), Outcome::bare(Errno::EINVAL));
    let empty = RegisterModes::empty();
    assert_eq!(rig.uffd.register(rig.page(0), empty), Err(Errno::EINVAL), "b2");
    let other = UserFault::connect(OpenFlags::empty(), Features::empty()).unwrap().0;
    let busy = other.register(rig.map.span(), RegisterModes::MISSING);
    assert_eq!(busy, Err(Errno::EBUSY), "b2");
}

#[test]
fn unregister_and_close_release_sleepers_to_zero_pages() {
    let test = "unregister_and_close_release_sleepers_to_zero_pages";
    let Some(rig) = Rig::missing(test, Features::EVENT_REMOVE) else { return };
    rig.scope(|scope| {
        let reader = Task::spawn(scope, || rig.map.read_byte(0));
        rig.fault();
        rig.uffd.unregister(rig.page(0)).unwrap();
        assert_eq!(reader.done(), 0, "b13");
    });
    let rig = Rig::missing(test, Features::EVENT_REMOVE).unwrap();
    let map = &Arc::clone(&rig.map);
    std::thread::scope(move |scope| {
        let read = Task::spawn(scope, move || map.read_byte(PAGE));
        rig.fault();
        let unread = Task::spawn(scope, move || map.read_byte(2 * PAGE));
        rig.until_pending(1);
        drop(rig.uffd);
        assert_eq!((read.done(), unread.done()), (0, 0), "a20, a21");
    });
}

#[test]
fn write_protection_reports_writes_and_lets_them_go() {
    let test = "write_protection_reports_writes_and_lets_them_go";
    let Some(_) = Capability::gate(test, OpenFlags::empty(), Features::PAGEFAULT_FLAG_WP) else {
        return;
    };
    let modes = RegisterModes::MISSING | RegisterModes::WP;
    let rig = Rig::new(Features::empty(), modes, anonymous(4));
    let copied = rig.uffd.copy(rig.page(0), &[3; PAGE as usize], CopyMode::WP);
    assert_eq!(copied, Outcome::done(PAGE));
    assert!(rig.map.page_entry(0).unwrap().is_uffd_wp());
    assert_eq!(rig.map.read_byte(0), 3, "reading is silent (c3)");
    let both = WriteProtectMode::WP | WriteProtectMode::DONTWAKE;
    assert_eq!(rig.uffd.write_protect(rig.page(0), both), Outcome::bare(Errno::EINVAL), "e17");
    rig.scope(|scope| {
        let writer = Task::spawn(scope, || rig.map.write_byte(1, 77));
        let fault = rig.fault();
        assert_eq!(fault.flags, FaultFlags::WRITE | FaultFlags::WP);
        assert_eq!(fault.kind(), FaultKind::Wp);
        let answer = rig.uffd.write_protect(rig.page(0), WriteProtectMode::WP);
        assert_eq!(answer, Outcome::OK);
        writer.assert_asleep();
        let answer = rig.uffd.write_protect(rig.page(0), WriteProtectMode::empty());
        assert_eq!(answer, Outcome::OK);
        writer.done();
        assert_eq!(rig.map.read_byte(1), 77);
    });
}

#[test]
fn huge_pages_are_copied_and_never_zeroed() {
    let test = "huge_pages_are_copied_and_never_zeroed";
    let features = Features::MISSING_HUGETLBFS | Features::EVENT_REMOVE;
    if Capability::gate(test, OpenFlags::empty(), features).is_none() {
        return;
    }
    let Some(_pool) = Reservation::gate(test, 2) else { return };
    let huge = PageSize::MIB2.bytes();
    let map = Mapping::hugetlb(Len::new(2 * huge)).unwrap();
    let (uffd, _) = UserFault::connect(OpenFlags::empty(), features).unwrap();
    let ioctls = uffd.register(map.span(), RegisterModes::MISSING).unwrap();
    assert!(!ioctls.contains(RangeIoctls::ZEROPAGE), "b6");
    let rig = Rig { uffd, map: Arc::new(map) };
    rig.scope(|scope| {
        let reader = Task::spawn(scope, || rig.map.read_byte(huge + 0x12345));
        assert_eq!(rig.fault().addr, rig.page(1).start, "aligned to the huge page (c7)");
        let zero = rig.uffd.zeropage(rig.page(1), ZeropageMode::empty());
        assert_eq!(zero, mirrored(Errno::EINVAL), "e14");
        let image = vec![8; huge as usize];
        let small = rig.uffd.copy(rig.map.part(huge, PAGE), &image, CopyMode::empty());
        assert_eq!(small.errno, Some(Errno::EINVAL), "e12");
        let done = rig.uffd.copy(rig.page(1), &image, CopyMode::empty());
        assert_eq!(done, Outcome::done(huge));
        assert_eq!(reader.done(), 8);
        let remover = Task::spawn(scope, || rig.map.dontneed(huge, huge));
        assert_eq!(rig.events(1), [Event::Remove(rig.page(1))]);
        assert_eq!(remover.done(), Ok(()));
    });
}

#[test]
fn pages_move_out_of_one_mapping_into_another() {
    let test = "pages_move_out_of_one_mapping_into_another";
    let Some(rig) = Rig::missing(test, Features::MOVE) else { return };
    let source = anonymous(16);
    source.write_byte(0, 21);
    source.write_byte(2 * PAGE, 23);
    let moved = rig.uffd.move_(rig.page(0), source.addr(), MoveMode::empty());
    assert_eq!(moved, Outcome::done(PAGE));
    assert_eq!((rig.map.read_byte(0), source.read_byte(0)), (21, 0), "e22");
    let hole =
        rig.uffd.move_(rig.map.pages(1, 2), source.part(PAGE, PAGE).start, MoveMode::empty());
    assert_eq!(hole, mirrored(Errno::ENOENT), "e21");
    let holes = MoveMode::ALLOW_SRC_HOLES;
    let moved = rig.uffd.move_(rig.map.pages(1, 2), source.part(PAGE, PAGE).start, holes);
    assert_eq!(moved, Outcome::done(2 * PAGE));
    assert_eq!(rig.map.read_byte(2 * PAGE), 23);
    let taken = rig.uffd.move_(rig.page(2), source.part(3 * PAGE, PAGE).start, holes);
    assert_eq!(taken, mirrored(Errno::EEXIST));
}

#[test]
fn a_poisoned_page_fails_until_it_is_copied_over() {
    let test = "a_poisoned_page_fails_until_it_is_copied_over";
    let Some(rig) = Rig::missing(test, Features::POISON) else { return };
    let poisoned = rig.uffd.poison(rig.map.pages(0, 2), PoisonMode::empty());
    assert_eq!(poisoned, Outcome::done(2 * PAGE));
    assert_eq!(rig.map.populate_read(0, PAGE), Err(Errno::EHWPOISON), "c12");
    let zero = rig.uffd.zeropage(rig.page(0), ZeropageMode::empty());
    assert_eq!(zero, mirrored(Errno::EEXIST), "e14");
    assert_eq!(rig.uffd.poison(rig.page(0), PoisonMode::empty()), mirrored(Errno::EEXIST));
    assert_eq!(rig.copy(0, 1), Outcome::done(PAGE), "e10");
    assert_eq!(rig.map.read_byte(0), 1);
}

#[test]
fn a_minor_fault_is_answered_with_the_page_that_an_alias_filled() {
    let test = "a_minor_fault_is_answered_with_the_page_that_an_alias_filled";
    if Capability::gate(test, OpenFlags::empty(), Features::MINOR_SHMEM).is_none() {
        return;
    }
    let map = Mapping::memfd(Len::new(4 * PAGE)).unwrap();
    let alias = map.alias().unwrap();
    alias.write_byte(5, 55);
    let rig = Rig::new(Features::MINOR_SHMEM, RegisterModes::MINOR, map);
    rig.scope(|scope| {
        let reader = Task::spawn(scope, || rig.map.read_byte(5));
        assert_eq!(rig.fault().kind(), FaultKind::Minor);
        let absent = rig.uffd.continue_(rig.page(3), ContinueMode::empty());
        assert_eq!(absent, mirrored(Errno::EFAULT), "not in the page cache (e15)");
        let mapped = rig.uffd.continue_(rig.page(0), ContinueMode::empty());
        assert_eq!(mapped, Outcome::done(PAGE));
        assert_eq!(reader.done(), 55);
        let again = rig.uffd.continue_(rig.page(0), ContinueMode::empty());
        assert_eq!(again, mirrored(Errno::EEXIST));
    });
}

#[test]
fn a_fork_brings_a_descriptor_that_is_claimed_once_and_never_leaked() {
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::process::CommandExt;

    let test = "a_fork_brings_a_descriptor_that_is_claimed_once_and_never_leaked";
    if Capability::gate(test, OpenFlags::empty(), Features::EVENT_FORK).is_none() {
        return;
    }
    let rig = Rig::new(Features::EVENT_FORK, RegisterModes::MISSING, anonymous(4));
    // Setting the user, even to the same one, makes the library fork instead of spawning
    // with shared memory, which sends no message. The fork sleeps until the message is
    // read, and holds the allocator's locks: nothing may be allocated before.
    let fork = || {
        let user = std::fs::metadata("/proc/self").unwrap().uid();
        std::process::Command::new("true").uid(user).status().unwrap().success()
    };
    let number = rig.scope(|scope| {
        let child = Task::spawn(scope, fork);
        let [Event::Fork { fd }] = rig.events(1)[..] else { panic!("a FORK message") };
        let claimed = rig.uffd.claim_fork(fd).expect("it has been read");
        assert_eq!(claimed.info().unwrap().features, Some(Features::EVENT_FORK));
        assert!(rig.uffd.claim_fork(fd).is_none(), "claimed once");
        assert!(child.done());
        let second = Task::spawn(scope, fork);
        let [Event::Fork { fd }] = rig.events(1)[..] else { panic!("a FORK message") };
        assert!(second.done());
        fd
    });
    // By its features and not by its number alone: another test may get that next.
    let is_the_childs = || {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}"));
        info.is_ok_and(|info| info.contains("API:\taa:80000002:"))
    };
    assert!(is_the_childs(), "what nobody has claimed is kept");
    drop(rig);
    assert!(!is_the_childs(), "and closed with its parent");
}
