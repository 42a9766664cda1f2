//! Opening a userfaultfd and its handshake. Each test names the rule it holds the kernel to.

use shims::{Addr, Errno, Event, Features, Len, Outcome, RegisterModes, Request, Span};
use sim::Profile;
use sim::kernel::{ApiStruct, Call, Fd, FileCall, Payload, Reading, Ret, flags, poll};

use crate::support::desk::{Desk, NONBLOCK};
use crate::support::span;

const ALL: u64 = 0x1ffff;

#[test]
fn a1_flags_and_permission() {
    let mut desk = Desk::new();
    for bad in [2, 4, 0o2, flags::O_NONBLOCK << 1, 1 << 31] {
        assert_eq!(
            desk.file(FileCall::Userfaultfd { flags: bad }),
            Ret::Err(Errno::EINVAL),
            "{bad:#x}"
        );
    }
    let all = flags::O_CLOEXEC | flags::O_NONBLOCK | flags::USER_MODE_ONLY;
    let fd = desk.opened(all);
    let view = desk.kernel.fd(desk.me, fd).unwrap();
    assert!(view.nonblock && view.cloexec);
    desk.kernel.privileges_mut(desk.me).ptrace = false;
    // Permission is looked at before the flags are.
    assert_eq!(desk.file(FileCall::Userfaultfd { flags: 2 }), Ret::Err(Errno::EPERM));
    assert_eq!(desk.file(FileCall::Userfaultfd { flags: 0 }), Ret::Err(Errno::EPERM));
    let user = FileCall::Userfaultfd { flags: flags::USER_MODE_ONLY };
    assert_eq!(desk.file(user), Ret::Ok(1));
    let user = FileCall::Userfaultfd { flags: flags::USER_MODE_ONLY | 2 };
    assert_eq!(desk.file(user), Ret::Err(Errno::EINVAL));
    desk.kernel.allow_unprivileged(true);
    assert_eq!(desk.file(FileCall::Userfaultfd { flags: 0 }), Ret::Ok(2));
}

#[test]
fn a1_no_descriptor_is_left() {
    let mut desk = Desk::new();
    desk.kernel.privileges_mut(desk.me).nofile = 1;
    assert_eq!(desk.opened(0), Fd(0));
    assert_eq!(desk.file(FileCall::Userfaultfd { flags: 0 }), Ret::Err(Errno::EMFILE));
    assert_eq!(desk.file(FileCall::Close { fd: Fd(0) }), Ret::Ok(0));
    assert_eq!(desk.opened(0), Fd(0), "the lowest number that is free");
}

#[test]
fn a2_v7_the_device_asks_nobody() {
    let mut desk = Desk::new();
    let Ret::Ok(device) = desk.file(FileCall::OpenDevice) else { panic!("root may") };
    let device = Fd(device as i32);
    let privileges = desk.kernel.privileges_mut(desk.me);
    (privileges.ptrace, privileges.device) = (false, false);
    assert_eq!(desk.file(FileCall::OpenDevice), Ret::Err(Errno::EACCES));
    assert_eq!(desk.file(FileCall::Userfaultfd { flags: 0 }), Ret::Err(Errno::EPERM));
    let new = |flags| FileCall::DeviceNew { fd: device, flags };
    assert_eq!(desk.file(new(2)), Ret::Err(Errno::EINVAL));
    let Ret::Ok(fd) = desk.file(new(flags::O_CLOEXEC)) else { panic!("a2") };
    let fd = Fd(fd as i32);
    assert!(desk.kernel.fd(desk.me, fd).unwrap().cloexec);
    assert_eq!(desk.api(fd, 0), Ret::Ok(0));
    // The device knows nothing else.
    assert_eq!(desk.file(FileCall::Ioctl { fd: device }), Ret::Err(Errno::EINVAL));
    assert_eq!(desk.api(device, 0), Ret::Err(Errno::EINVAL));
    assert_eq!(desk.read(device, 1).0, Some(Ret::Err(Errno::EINVAL)));
    assert_eq!(desk.file(FileCall::DeviceNew { fd, flags: 0 }), Ret::Err(Errno::EINVAL));
}

#[test]
fn a2_there_is_no_device_on_an_old_kernel() {
    let mut desk = Desk::with(Profile::linux_5_13());
    assert_eq!(desk.file(FileCall::OpenDevice), Ret::Err(Errno::ENOENT));
}

#[test]
fn a3_what_the_file_refuses() {
    let mut desk = Desk::new();
    let fd = desk.started(NONBLOCK, Features::empty());
    assert_eq!(desk.file(FileCall::Write { fd }), Ret::Err(Errno::EBADF));
    assert_eq!(desk.file(FileCall::Seek { fd }), Ret::Ok(0));
    assert_eq!(desk.file(FileCall::Map { fd }), Ret::Err(Errno::ENODEV));
    assert_eq!(desk.file(FileCall::Pread { fd }), Ret::Err(Errno::ESPIPE));
    let none = Fd(77);
    for call in [
        FileCall::Write { fd: none },
        FileCall::Seek { fd: none },
        FileCall::Map { fd: none },
        FileCall::Pread { fd: none },
        FileCall::Ioctl { fd: none },
        FileCall::Close { fd: none },
        FileCall::Dup { fd: none },
        FileCall::SetNonblock { fd: none, on: true },
        FileCall::Read(Reading::new(none, 0)),
        FileCall::Api { fd: none, arg: None },
        FileCall::Unregister { fd: none, range: span(0, 1) },
    ] {
        assert_eq!(desk.file(call.clone()), Ret::Err(Errno::EBADF), "{call:?}");
    }
    assert_eq!(desk.look(none), poll::NVAL);
}

#[test]
fn a3_rwf_nowait_makes_one_read_of_a_blocking_file_return() {
    let mut desk = Desk::new();
    let fd = desk.started(0, Features::empty());
    let reading = Reading { nowait: true, ..Reading::new(fd, 32) };
    assert_eq!(desk.read_by(desk.me, reading).0, Some(Ret::Err(Errno::EAGAIN)));
}

#[test]
fn a5_v3_nothing_works_before_the_handshake() {
    let mut desk = Desk::new();
    let fd = desk.opened(NONBLOCK);
    let range = span(0, 1);
    let wake = Request::Wake { range };
    for call in [
        FileCall::Register { fd, range, modes: RegisterModes::MISSING },
        FileCall::Unregister { fd, range },
        FileCall::Resolve { fd, request: wake, payload: Payload::None },
        FileCall::Ioctl { fd },
        FileCall::Read(Reading::new(fd, 32)),
        FileCall::Read(Reading::new(fd, 0)),
    ] {
        assert_eq!(desk.file(call.clone()), Ret::Err(Errno::EINVAL), "{call:?}");
    }
    assert_eq!(desk.look(fd), poll::ERR);
    assert_eq!(desk.api(fd, 0), Ret::Ok(0));
    assert_eq!(desk.resolve_by(desk.me, fd, wake), Ret::Outcome(Outcome::OK));
    assert_eq!(desk.file(FileCall::Ioctl { fd }), Ret::Err(Errno::EINVAL), "unknown still");
    assert_eq!(desk.look(fd), 0);
}

/// A handshake that fails, and what it leaves in the struct.
fn refused(desk: &mut Desk, fd: Fd, api: u64, features: u64) -> (Ret, ApiStruct) {
    let arg = ApiStruct { api, features, ioctls: 0x55 };
    let ret = desk.file(FileCall::Api { fd, arg: Some(arg) });
    (ret, desk.kernel.api_struct(desk.me))
}

#[test]
fn a6_v6_the_order_of_the_checks_and_the_wiped_struct() {
    let mut desk = Desk::new();
    let fd = desk.opened(NONBLOCK);
    let wiped = ApiStruct::default();
    let fork = Features::EVENT_FORK.bits();
    let unknown = 1 << 40;
    let invalid = (Ret::Err(Errno::EINVAL), wiped);
    assert_eq!(refused(&mut desk, fd, 0xab, 0), invalid);
    assert_eq!(refused(&mut desk, fd, flags::API, unknown), invalid);
    desk.kernel.privileges_mut(desk.me).ptrace = false;
    let denied = (Ret::Err(Errno::EPERM), wiped);
    assert_eq!(refused(&mut desk, fd, flags::API, fork), denied);
    // The permission comes before the unknown bit, the version before both.
    assert_eq!(refused(&mut desk, fd, flags::API, fork | unknown), denied);
    assert_eq!(refused(&mut desk, fd, 0xab, fork), invalid);
    // A failure leaves the descriptor usable; a success, even without a feature, is final.
    assert_eq!(desk.api(fd, 0), Ret::Ok(0));
    assert_eq!(refused(&mut desk, fd, flags::API, 0), invalid);
    // It comes last: the permission is looked at although it is too late for a handshake.
    assert_eq!(refused(&mut desk, fd, flags::API, fork), denied);
}

#[test]
fn a6_a_bad_pointer_leaves_the_struct_alone() {
    let mut desk = Desk::new();
    let fd = desk.opened(NONBLOCK);
    assert_eq!(desk.api(fd, 0), Ret::Ok(0));
    let before = desk.kernel.api_struct(desk.me);
    assert_eq!(desk.file(FileCall::Api { fd, arg: None }), Ret::Err(Errno::EFAULT));
    assert_eq!(desk.kernel.api_struct(desk.me), before);
}

#[test]
fn a7_a8_the_reply_is_what_exists_and_asking_takes_two_descriptors() {
    let mut desk = Desk::new();
    let probe = desk.opened(0);
    assert_eq!(desk.api(probe, 0), Ret::Ok(0));
    let reply = desk.kernel.api_struct(desk.me);
    let expected = ApiStruct { api: flags::API, features: ALL, ioctls: 0x8000_0000_0000_0003 };
    assert_eq!(reply, expected);
    assert_eq!(desk.api(probe, Features::EVENT_REMOVE.bits()), Ret::Err(Errno::EINVAL));
    assert_eq!(desk.file(FileCall::Close { fd: probe }), Ret::Ok(0));
    // What was not asked for is not on, though the reply names it.
    let fd = desk.watched(2, NONBLOCK, Features::empty());
    let thread = desk.thread();
    assert_eq!(desk.remove(thread, 0, 1), Some(Ret::Ok(0)));
    assert_eq!(desk.read(fd, 1), (Some(Ret::Err(Errno::EAGAIN)), Vec::new()));
}

#[test]
fn a7_an_older_kernel_reports_less() {
    let mut desk = Desk::with(Profile::linux_5_13());
    let fd = desk.opened(0);
    assert_eq!(desk.api(fd, Features::POISON.bits()), Ret::Err(Errno::EINVAL));
    assert_eq!(desk.api(fd, 0), Ret::Ok(0));
    assert_eq!(desk.kernel.api_struct(desk.me).features, Profile::linux_5_13().features.bits());
}

#[test]
fn a9_what_fdinfo_shows() {
    let mut desk = Desk::new();
    let fd = desk.watched(4, NONBLOCK, Features::EVENT_REMOVE | Features::THREAD_ID);
    let (a, b, remover) = (desk.thread(), desk.thread(), desk.thread());
    assert_eq!(desk.load(a, 0), None);
    assert_eq!(desk.read(fd, 1).1.len(), 1);
    assert_eq!(desk.load(b, 1), None);
    // Events are not counted.
    assert_eq!(desk.remove(remover, 2, 3), None);
    let text = "pending:\t1\ntotal:\t2\nAPI:\taa:80000108:80000000000001ff\n";
    assert_eq!(desk.kernel.fdinfo(desk.me, fd).as_deref(), Some(text));
    let raw = desk.opened(0);
    let text = "pending:\t0\ntotal:\t0\nAPI:\taa:0:80000000000001ff\n";
    assert_eq!(desk.kernel.fdinfo(desk.me, raw).as_deref(), Some(text));
}

#[test]
fn c5_v55_only_accesses_from_user_mode_are_asked_about() {
    let mut desk = Desk::new();
    let fd = desk.watched(3, NONBLOCK | flags::USER_MODE_ONLY, Features::empty());
    let (kernel, user) = (desk.thread(), desk.thread());
    let populate = |write| Call::Populate { range: span(0, 1), write };
    assert_eq!(desk.go(kernel, populate(false)), Some(Ret::Err(Errno::EFAULT)));
    assert_eq!(desk.go(kernel, populate(true)), Some(Ret::Err(Errno::EFAULT)));
    assert_eq!(desk.load(user, 0), None);
    let (ret, events) = desk.read(fd, 4);
    assert_eq!(ret, Some(Ret::Ok(32)));
    assert!(matches!(events[..], [Event::Fault(_)]));
    assert_eq!(desk.copy(fd, 0, 1), Outcome::done(4096));
    assert_eq!(desk.go(kernel, populate(false)), Some(Ret::Ok(0)), "the page is there");
}

#[test]
fn b1_a_descriptor_makes_no_difference_to_the_ioctls() {
    let mut desk = Desk::new();
    let fd = desk.watched(2, NONBLOCK, Features::empty());
    let odd = Span::new(Addr::new(1), Len::new(4096));
    let modes = RegisterModes::MISSING;
    assert_eq!(desk.file(FileCall::Register { fd, range: odd, modes }), Ret::Err(Errno::EINVAL));
    assert_eq!(desk.copy(fd, 0, 1), Outcome::done(4096));
    assert_eq!(desk.file(FileCall::Unregister { fd, range: span(0, 2) }), Ret::Ok(0));
    assert_eq!(desk.copy(fd, 1, 2), Outcome::mirrored(Errno::ENOENT));
}
