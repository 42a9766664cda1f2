//! Faults of kernels, switched on and off: each test goes wrong with its switch and right without.
//! `docs/kernel/bugs.md` tells what they were; those without a switch are listed there, too.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use faultbed::campaign::Campaign;
use faultbed::shard::Shard;
use handler::Policy;
use shims::{
    CopyMode, Errno, Event, Features, MoveMode, Outcome, RegisterModes, Request, Verdict,
    WriteProtectMode,
};
use sim::Profile;
use sim::explore::Strategy;
use sim::kernel::{
    Call, Did, Fd, FileCall, ForkFailure, Payload, ProcessCall, PteBits, Ret, Signal, Via,
};
use sim::profile::UNSWITCHED;
use sim::vma::{Mremap, RemapFlags};

use crate::support::desk::{Desk, NONBLOCK};
use crate::support::memory::{HUGE, HUGETLB, Memory, SHARED};
use crate::support::{Bed, page, source, span};

const REMOVE: Features = Features::EVENT_REMOVE;

/// The measured kernel, without the fault and with it.
fn with(bug: &str) -> [(bool, Profile); 2] {
    let off = Profile::default().switch_bug(&format!("no-{bug}")).unwrap();
    let on = off.clone().switch_bug(bug).unwrap();
    assert_ne!(off, on, "{bug} changes nothing");
    [(false, off), (true, on)]
}

#[test]
fn z1_a_copy_lands_while_a_removal_is_unread() {
    for (on, profile) in with("Z1") {
        let mut bed = Bed::with(2, profile, REMOVE);
        let remover = bed.thread();
        assert_eq!(bed.go(remover, Call::DontNeed { range: span(0, 1) }), None);
        let done = bed.copy(0, 1) == Outcome::done(4096);
        assert_eq!(done, on);
        // The bytes that were installed are wiped behind the back of whoever did it.
        bed.read(1);
        bed.on(remover);
        assert_eq!(bed.load(remover, 0), None);
    }
}

#[test]
fn z2_the_first_of_two_removals_opens_the_gate_for_both() {
    for (on, profile) in with("Z2") {
        let mut bed = Bed::with(4, profile, REMOVE);
        let (a, b) = (bed.thread(), bed.thread());
        bed.go(a, Call::DontNeed { range: span(0, 1) });
        bed.go(b, Call::DontNeed { range: span(1, 2) });
        assert_eq!(bed.read(1).len(), 1);
        assert_eq!(bed.on(a), Some(Ret::Ok(0)));
        assert_eq!(bed.copy(1, 2) == Outcome::done(4096), on);
    }
}

#[test]
fn z3_a_huge_copy_that_has_passed_the_gate_does_not_look_again() {
    for (on, profile) in with("Z3") {
        let missing = RegisterModes::MISSING;
        let mut memory = Memory::of(profile, HUGETLB, SHARED, 2 * HUGE, REMOVE, missing);
        let bed = &mut memory.bed;
        let remover = bed.thread();
        let (ctx, handler) = (bed.ctx, bed.handler);
        let request = Request::Copy { dst: span(0, HUGE), mode: CopyMode::empty() };
        let payload = Payload::One(source(0));
        bed.kernel.begin(handler, Call::Resolve { ctx, request, payload });
        assert_eq!(bed.step(handler), Did::PassGate);
        assert_eq!(bed.go(remover, Call::DontNeed { range: span(HUGE, 2 * HUGE) }), None);
        let expected = if on { Outcome::done(2 << 20) } else { Outcome::mirrored(Errno::EAGAIN) };
        assert_eq!(bed.on(handler), Some(Ret::Outcome(expected)));
    }
}

#[test]
fn z4_the_result_field_holds_what_it_held() {
    for (on, profile) in with("Z4") {
        let mut bed = Bed::with(2, profile, REMOVE);
        let remover = bed.thread();
        bed.go(remover, Call::DontNeed { range: span(0, 1) });
        let eagain = Errno::EAGAIN;
        let expected = if on { Outcome::bare(eagain) } else { Outcome::mirrored(eagain) };
        assert_eq!(bed.copy(1, 2), expected);
    }
}

#[test]
fn z5_a_failed_mremap_shuts_the_gate_for_ever() {
    for (on, profile) in with("Z5") {
        let mut bed = Bed::with(2, profile, Features::EVENT_REMAP);
        let mover = bed.thread();
        bed.kernel.limits_mut(bed.mm).rlimit_as = 2 * 4096;
        let grow = Mremap {
            old: page(0).raw(),
            old_len: 2 * 4096,
            new_len: 8 * 4096,
            flags: RemapFlags::MAYMOVE,
            new: 0,
        };
        assert_eq!(bed.go(mover, Call::Mremap(grow)), Some(Ret::Err(Errno::ENOMEM)));
        assert_eq!(bed.kernel.ctx(bed.ctx).changing(), u32::from(on));
        assert!(bed.read(8).is_empty(), "nobody will ever read what would open it");
        assert_eq!(bed.copy(0, 1).verdict() == Verdict::Changing, on);
        assert_eq!(bed.copy(0, 1).verdict() == Verdict::Changing, on, "however often");
    }
}

#[test]
fn z6_a_move_goes_ahead_while_a_removal_is_unread() {
    for (on, profile) in with("Z6") {
        let mut bed = Bed::with(4, profile, REMOVE);
        bed.copy(2, 3);
        let remover = bed.thread();
        assert_eq!(bed.go(remover, Call::DontNeed { range: span(0, 1) }), None);
        let request = Request::Move { dst: span(0, 1), src: page(2), mode: MoveMode::empty() };
        let outcome = bed.resolve(request, Payload::None);
        let expected = if on { Outcome::done(4096) } else { Outcome::mirrored(Errno::EAGAIN) };
        assert_eq!(outcome, expected);
        // What was moved there is gone, and it was the only copy.
        bed.read(1);
        bed.on(remover);
        assert!(!bed.pte(0).is_present());
        assert_eq!(bed.pte(2).is_present(), !on);
        assert_eq!(bed.copy(3, 4), Outcome::done(4096), "a COPY looks at the gate still");
    }
}

#[test]
fn z7_a_fork_that_failed_is_announced() {
    for (on, profile) in with("Z7") {
        let mut desk = Desk::with(profile);
        let fd = desk.watched(2, NONBLOCK, Features::EVENT_FORK);
        let parent = desk.thread();
        desk.kernel.fail_next_fork(ForkFailure::Memory);
        let ret = desk.go(parent, Call::Fork);
        let failed = Some(Ret::Err(Errno::ENOMEM));
        if !on {
            assert_eq!(ret, failed);
            assert_eq!(desk.read(fd, 1).0, Some(Ret::Err(Errno::EAGAIN)));
            continue;
        }
        assert_eq!(ret, None, "it waits for a reader");
        let (_, events) = desk.read(fd, 1);
        let [Event::Fork { fd: number }] = events[..] else { panic!("{events:?}") };
        assert_eq!(desk.on(parent), failed);
        assert_eq!(desk.copy(Fd(number), 0, 1), Outcome::bare(Errno::ESRCH), "half a child");
        assert_eq!(desk.copy(fd, 0, 1), Outcome::done(4096));
    }
}

#[test]
fn z8_a_fork_whose_message_could_not_be_read_never_returns() {
    for (on, profile) in with("Z8") {
        let mut desk = Desk::with(profile);
        let fd = desk.watched(2, NONBLOCK, Features::EVENT_FORK);
        let parent = desk.thread();
        assert_eq!(desk.go(parent, Call::Fork), None);
        desk.kernel.privileges_mut(desk.me).nofile = 1;
        assert_eq!(desk.read(fd, 1).0, Some(Ret::Err(Errno::EMFILE)));
        desk.kernel.privileges_mut(desk.me).nofile = 64;
        let (ret, _) = desk.read(fd, 1);
        let expected = if on { Ret::Err(Errno::EAGAIN) } else { Ret::Ok(32) };
        assert_eq!(ret, Some(expected));
        assert_eq!(desk.on(parent).is_none(), on);
        // Only a kill ends it.
        desk.kill(parent);
        let me = desk.me;
        desk.settle(&[parent, me]);
        assert!(desk.kernel.is_dead(parent));
    }
}

#[test]
fn z10_a_child_that_nobody_watches_inherits_protection() {
    for (on, profile) in with("Z10") {
        let both = RegisterModes::MISSING | RegisterModes::WP;
        let mut bed = Bed::registered(1, profile, Features::empty(), both);
        bed.copy_mode(0, 1, CopyMode::WP);
        let parent = bed.thread();
        let Some(Ret::Forked(child)) = bed.go(parent, Call::Fork) else { panic!("a fork") };
        let kernel = &mut bed.kernel;
        let pte = kernel.table(child).get(page(0).raw() >> 12);
        let sim::kernel::Pte::Present { bits, .. } = pte else { panic!("{pte:?}") };
        assert_eq!(bits.contains(PteBits::UFFD_WP), on);
        // A watcher of its own is told of a write to a page that it has never protected.
        let ctx = kernel.userfaultfd(child, Features::empty()).unwrap();
        let thread = kernel.new_thread(child);
        let register = Call::Register { ctx, range: span(0, 1), modes: RegisterModes::WP };
        assert!(matches!(kernel.run(thread, register), Ret::Ok(_)));
        let stored = bed.store(thread, 0);
        assert_eq!(stored.is_none(), on);
        assert_eq!(bed.kernel.ctx(ctx).readable(), on);
    }
}

#[test]
fn z14_a_page_that_came_before_the_fault_was_queued_is_slept_on() {
    for (on, profile) in with("Z14") {
        let mut bed = Bed::with(1, profile, Features::empty());
        let thread = bed.thread();
        bed.kernel.begin(thread, Call::Load { addr: page(0) });
        assert!(matches!(bed.step(thread), Did::Miss { .. }));
        assert_eq!(bed.copy(0, 1), Outcome::done(4096));
        let ret = bed.on(thread);
        assert_eq!(ret.is_none(), on, "asleep, and the page is there");
        assert_eq!(bed.copy(0, 1), Outcome::mirrored(Errno::EEXIST));
        if on {
            // e5: whoever wakes after EEXIST survives this kernel, too.
            bed.resolve(Request::Wake { range: span(0, 1) }, Payload::None);
            assert_eq!(bed.on(thread), Some(Ret::Loaded(source(0))));
        }
    }
}

/// What a search of one of `docs/bugs` with our handler comes to on the measured kernel
/// with `bug`, as `faultbed explore FILE --bug BUG` would: the class of what it found.
fn searched(file: &str, bug: &str) -> Option<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/bugs").join(file);
    let text = std::fs::read_to_string(path).expect("the example");
    let mut setup = sim::scenario::parse(file, &text).expect("a scenario");
    setup.profile = setup.profile.switch_bug(bug).expect("a switch");
    let campaign = Campaign {
        setups: vec![Arc::new(setup)],
        handler: "default".to_owned(),
        policy: Policy::default(),
        seed: 1,
        strategy: Strategy::Portfolio,
        schedules: 3_000,
        jobs: 1,
        shard: Shard::WHOLE,
        keep_going: false,
    };
    let report = campaign.run(|_| true);
    report.found.first().map(|found| found.failure.class().to_owned())
}

/// A handler can only know that what it decided is out of date if the gate says so.
#[test]
fn z1_z2_what_was_decided_for_a_page_lands_on_another() {
    for bug in ["Z1", "Z2"] {
        assert_eq!(searched("z2.fbs", bug).as_deref(), Some("misplaced"), "{bug}");
        assert_eq!(searched("z2.fbs", &format!("no-{bug}")), None, "{bug}");
    }
}

/// The handler asks again and again, and the thread that waits for its page waits for ever.
#[test]
fn z5_eagain_for_ever_after_a_move_that_was_refused() {
    assert_eq!(searched("z5.fbs", "Z5").as_deref(), Some("livelock"));
    assert_eq!(searched("z5.fbs", "no-Z5"), None);
}

/// The same at the command line: the stale page is found, shrunk and kept.
#[test]
fn z2_the_command_line_finds_the_stale_page() {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("z2");
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("a folder for the test");
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/bugs/z2.fbs");
    for (bug, code) in [("Z2", 1), ("no-Z2", 0)] {
        let output = Command::new(env!("CARGO_BIN_EXE_faultbed"))
            .arg("explore")
            .arg(&file)
            .args(["--schedules", "3000", "--bug", bug])
            .current_dir(&dir)
            .output()
            .expect("the command runs");
        let out = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{out}");
        assert_eq!(out.contains("MISPLACED"), code == 1, "{out}");
    }
}

/// A whole search, as a person would start it: the handler that holds on the measured kernel
/// does not hold on this one.
#[test]
fn z18_the_explorer_finds_the_signal_that_no_handler_can_prevent() {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("z18");
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("a folder for the test");
    let explore = |more: &[&str]| {
        let args = ["explore", "stale_source", "--schedules", "2000", "--seed", "1"];
        let output = Command::new(env!("CARGO_BIN_EXE_faultbed"))
            .args(args)
            .args(more)
            .current_dir(&dir)
            .output()
            .expect("the command runs");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).expect("UTF-8"))
    };
    let (code, out) = explore(&["--bug", "Z18"]);
    assert_eq!(code, Some(1), "{out}");
    let (code, out) = explore(&["--bug", "no-Z18"]);
    assert_eq!(code, Some(0), "{out}");
    // What was found is kept with its kernel: it fails again, and not on the measured one.
    let kept = std::fs::read_dir(dir.join("faultbed-failures")).expect("kept").next();
    let kept = kept.expect("one schedule").expect("an entry").path();
    let text = std::fs::read_to_string(&kept).expect("the schedule");
    assert!(text.contains("\nbugs      Z18\n"), "{text}");
    let (code, out) = explore(&["--bug", "Z99"]);
    assert_eq!(code, Some(2), "{out}");
    assert!(out.contains("Z1, Z2"), "{out}");
    let (code, out) = explore(&["--profile", "4.4"]);
    assert_eq!(code, Some(2), "{out}");
    assert!(out.contains("5.7, 5.13"), "{out}");
}

#[test]
fn z15_a_system_call_spins_while_a_signal_is_pending() {
    for (on, profile) in with("Z15") {
        let mut desk = Desk::with(profile);
        let fd = desk.watched(1, NONBLOCK, Features::empty());
        let thread = desk.thread();
        let copy = Call::Transfer { via: Via::Syscall, range: span(0, 1), store: None };
        assert_eq!(desk.go(thread, copy), None);
        desk.signal(thread, false);
        let mut steps = 0;
        while desk.kernel.can_step(thread) && steps < 1000 {
            desk.step(thread);
            steps += 1;
        }
        assert_eq!(steps == 1000, on, "{steps} steps without a page");
        assert_eq!(desk.copy(fd, 0, 1), Outcome::done(4096));
        assert_eq!(desk.on(thread), Some(Ret::Ok(4096)));
        assert_eq!(desk.kernel.handlers_run(thread), 1);
    }
}

#[test]
fn z16_a_process_that_is_gone_is_called_a_full_disk() {
    for (on, profile) in with("Z16") {
        let mut desk = Desk::with(profile);
        let fd = desk.watched(1, NONBLOCK, Features::empty());
        let (_, monitor) = desk.process();
        let Ret::Ok(theirs) = desk.file(FileCall::Send { fd, to: monitor }) else { panic!("sent") };
        let me = desk.me;
        desk.process_call(me, ProcessCall::Exit);
        let errno = if on { Errno::ENOSPC } else { Errno::ESRCH };
        let theirs = Fd(theirs as i32);
        assert_eq!(desk.copy_by(monitor, theirs, 0, 1), Outcome::bare(errno));
        // Only the two ioctls of that time said so.
        let mode = WriteProtectMode::WP;
        let protect = Request::WriteProtect { range: span(0, 1), mode };
        let gone = Ret::Outcome(Outcome::bare(Errno::ESRCH));
        assert_eq!(desk.resolve_by(monitor, theirs, protect), gone);
    }
}

#[test]
fn z17_b16_a_removal_is_read_after_its_memory_was_unregistered() {
    // b16: there is no kernel without it.
    for name in Profile::NAMES {
        let mut bed = Bed::with(2, Profile::by_name(name).unwrap(), REMOVE);
        let remover = bed.thread();
        assert_eq!(bed.go(remover, Call::DontNeed { range: span(0, 1) }), None);
        let (ctx, handler) = (bed.ctx, bed.handler);
        let unregister = Call::Unregister { ctx, range: span(0, 2) };
        assert_eq!(bed.kernel.run(handler, unregister), Ret::Ok(0));
        assert_eq!(bed.read(4), [Event::Remove(span(0, 1))], "{name}");
        assert_eq!(bed.on(remover), Some(Ret::Ok(0)));
    }
}

#[test]
fn z18_a_fault_that_was_woken_for_nothing_is_a_bus_error() {
    for (on, profile) in with("Z18") {
        let mut bed = Bed::with(2, profile, Features::empty());
        let thread = bed.thread();
        assert_eq!(bed.load(thread, 0), None);
        bed.read(1);
        bed.resolve(Request::Wake { range: span(0, 1) }, Payload::None);
        let ret = bed.on(thread);
        assert_eq!(ret, if on { Some(Ret::Signal(Signal::BusAdrErr)) } else { None });
        // Another access is another fault.
        let other = if on { thread } else { bed.thread() };
        assert_eq!(bed.load(other, 1), None);
        assert_eq!(bed.copy(1, 2), Outcome::done(4096));
        assert_eq!(bed.on(other), Some(Ret::Loaded(source(1))));
    }
}

#[test]
fn z9_z11_z12_z13_are_refused_with_the_reason() {
    for (name, why) in UNSWITCHED {
        let error = Profile::default().switch_bug(name).unwrap_err().to_string();
        assert!(error.starts_with(name) && error.ends_with(why), "{error}");
    }
    let error = Profile::default().switch_bug("Z99").unwrap_err().to_string();
    assert!(error.contains("Z1, Z2, Z3") && error.contains("`Z99`"), "{error}");
    assert!(Profile::default().switch_bug("no-Z99").is_err());
}

#[test]
fn a_switch_does_not_touch_the_others() {
    let base = Profile::linux_5_13();
    for bug in sim::profile::Bugs::all().iter() {
        let on = base.clone().with_bugs(base.bugs() | bug);
        let off = on.clone().with_bugs(on.bugs() - bug);
        assert_eq!(on.bugs() - bug, off.bugs());
        assert_eq!(off.with_bugs(base.bugs()), base);
    }
}
