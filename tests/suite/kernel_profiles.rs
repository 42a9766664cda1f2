//! Kernel versions as data: which release has what, rule h by rule h. `docs/kernel/profiles.md`
//! tells where the figures come from.

use shims::{ContinueMode, CopyMode, Errno, Features, Outcome, PoisonMode, RegisterModes, Request};
use sim::Profile;
use sim::kernel::{ApiStruct, Call, Fd, FileCall, Madvise, Payload, Ret, flags};
use sim::profile::Bugs;
use sim::scenario;
use sim::vma::{MapFlags, Mmap, Mremap, Prot, RemapFlags};

use crate::support::desk::{Desk, NONBLOCK};
use crate::support::memory::{HUGE, HUGETLB, Memory, PRIVATE, SHARED, SHMEM};
use crate::support::{Bed, page, span};

fn all() -> impl Iterator<Item = Profile> {
    Profile::NAMES.iter().map(|name| Profile::by_name(name).expect("its own name"))
}

fn since(profile: &Profile, name: &str) -> bool {
    let at = |name| Profile::NAMES.iter().position(|known| *known == name).expect("a profile");
    at(profile.name()) >= at(name)
}

/// The release, of those that are known, in which each feature first is.
const FEATURES: &[(Features, &str)] = &[
    (Features::PAGEFAULT_FLAG_WP, "5.7"),
    (Features::EVENT_FORK, "5.7"),
    (Features::EVENT_REMAP, "5.7"),
    (Features::EVENT_REMOVE, "5.7"),
    (Features::MISSING_HUGETLBFS, "5.7"),
    (Features::MISSING_SHMEM, "5.7"),
    (Features::EVENT_UNMAP, "5.7"),
    (Features::SIGBUS, "5.7"),
    (Features::THREAD_ID, "5.7"),
    (Features::MINOR_HUGETLBFS, "5.13"),
    (Features::MINOR_SHMEM, "5.15"),
    (Features::EXACT_ADDRESS, "6.1"),
    (Features::WP_HUGETLBFS_SHMEM, "6.1"),
    (Features::WP_UNPOPULATED, "6.6"),
    (Features::POISON, "6.6"),
    (Features::WP_ASYNC, "6.12"),
    (Features::MOVE, "6.12"),
];

/// Rules: f8
#[test]
fn a7_each_kernel_has_the_features_of_its_time_and_refuses_the_others() {
    for profile in all() {
        let name = profile.name();
        let mut expected = Features::empty();
        for &(feature, first) in FEATURES {
            expected.set(feature, since(&profile, first));
            let mut desk = Desk::with(profile.clone());
            let fd = desk.opened(NONBLOCK);
            let ret = desk.api(fd, feature.bits());
            let known = since(&profile, first);
            assert_eq!(ret == Ret::Ok(0), known, "{name}: {feature:?}");
        }
        assert_eq!(profile.features, expected, "{name}");
        let mut desk = Desk::with(profile.clone());
        let fd = desk.opened(NONBLOCK);
        assert_eq!(desk.api(fd, 0), Ret::Ok(0));
        let ApiStruct { features, ioctls, .. } = desk.kernel.api_struct(desk.me);
        assert_eq!((features, ioctls), (expected.bits(), 0x8000_0000_0000_0003), "{name}");
    }
}

#[test]
fn a9_b6_each_kernel_has_the_ioctls_of_its_time() {
    let masks = [
        ("5.7", 0x5c, 0x5c),
        ("5.13", 0xdc, 0x5c),
        ("5.15", 0xdc, 0x5c),
        ("6.1", 0xdc, 0x5c),
        ("6.6", 0x1dc, 0x15c),
        ("6.12", 0x1fc, 0x17c),
        ("6.18", 0x1fc, 0x17c),
    ];
    for (name, ranged, granted) in masks {
        let profile = Profile::by_name(name).unwrap();
        let mut desk = Desk::with(profile);
        let fd = desk.watched(4, NONBLOCK, Features::empty());
        let info = desk.kernel.fdinfo(desk.me, fd).unwrap();
        let tail = format!("aa:80000000:{:x}\n", 1u64 << 63 | 3 | ranged);
        assert!(info.ends_with(&tail), "{name}: {info}");
        let modes = RegisterModes::MISSING | RegisterModes::WP;
        let register = FileCall::Register { fd, range: span(0, 4), modes };
        assert_eq!(desk.file(register), Ret::Ok(granted), "{name}");
        // What the mask does not have is no ioctl.
        let (dst, src) = (span(2, 3), page(3));
        let poison = Request::Poison { range: span(0, 1), mode: PoisonMode::empty() };
        let done = Ret::Outcome(Outcome::done(4096));
        let has = |bit: u64| ranged & 1 << bit != 0;
        assert_eq!(desk.resolve_by(desk.me, fd, poison) == done, has(8), "{name}");
        desk.copy(fd, 3, 4);
        let mode = shims::MoveMode::empty();
        let moved = desk.resolve_by(desk.me, fd, Request::Move { dst, src, mode });
        assert_eq!(moved == done, has(5), "{name}");
        let continued = Request::Continue { range: span(1, 2), mode: ContinueMode::empty() };
        let ret = desk.resolve_by(desk.me, fd, continued);
        // On anonymous memory it is refused either way, but an ioctl that exists says so in
        // its result field.
        let refused = if has(7) { Outcome::mirrored } else { Outcome::bare };
        assert_eq!(ret, Ret::Outcome(refused(Errno::EINVAL)), "{name}");
    }
}

#[test]
fn a1_a2_who_may_open_a_userfaultfd() {
    for profile in all() {
        let name = profile.name();
        let mut desk = Desk::with(profile.clone());
        desk.kernel.privileges_mut(desk.me).ptrace = false;
        let anybody = desk.file(FileCall::Userfaultfd { flags: 0 });
        assert_eq!(anybody == Ret::Ok(0), name == "5.7", "{name}: {anybody:?}");
        let user = desk.file(FileCall::Userfaultfd { flags: flags::USER_MODE_ONLY });
        let expected = if name == "5.7" { Ret::Err(Errno::EINVAL) } else { Ret::Ok(0) };
        assert_eq!(user, expected, "{name}");
        let device = desk.file(FileCall::OpenDevice);
        assert_eq!(matches!(device, Ret::Ok(_)), since(&profile, "6.1"), "{name}");
        if let Ret::Ok(device) = device {
            let new = FileCall::DeviceNew { fd: Fd(device as i32), flags: 0 };
            assert!(matches!(desk.file(new), Ret::Ok(_)), "{name}");
        }
    }
}

#[test]
fn h1_unregistering_another_s_range() {
    for profile in all() {
        let late = since(&profile, "6.18");
        let mut bed = Bed::with(2, profile, Features::empty());
        let other = bed.kernel.userfaultfd(bed.mm, Features::empty()).unwrap();
        let call = Call::Unregister { ctx: other, range: span(0, 2) };
        let ret = bed.kernel.run(bed.handler, call);
        assert_eq!(ret, if late { Ret::Err(Errno::EINVAL) } else { Ret::Ok(0) });
    }
}

#[test]
fn h2_registering_memory_that_may_be_dropped() {
    for profile in all() {
        let late = since(&profile, "6.18");
        let mut bed = Bed::with(1, profile, Features::empty());
        let flags = MapFlags::DROPPABLE | MapFlags::ANONYMOUS;
        let map = Mmap { flags, ..Mmap::anon(4096, Prot::RW) };
        let map = map.at(page(8).raw());
        let Ret::Ok(addr) = bed.kernel.run(bed.handler, Call::Mmap(map)) else {
            panic!("droppable memory")
        };
        let range = shims::Span::new(shims::Addr::new(addr), shims::Len::new(4096));
        let modes = RegisterModes::MISSING;
        let ret = bed.kernel.run(bed.handler, Call::Register { ctx: bed.ctx, range, modes });
        assert_eq!(ret == Ret::Err(Errno::EINVAL), late, "{ret:?}");
    }
}

fn move_to(new: u64, old_len: u64, new_len: u64) -> Call {
    let flags = RemapFlags::MAYMOVE | RemapFlags::FIXED;
    Call::Mremap(Mremap {
        old: page(0).raw(),
        old_len: old_len * 4096,
        new_len: new_len * 4096,
        flags,
        new: page(new).raw(),
    })
}

#[test]
fn h3_one_move_of_several_mappings() {
    for profile in all() {
        let late = since(&profile, "6.18");
        let mut bed = Bed::with(4, profile, Features::empty());
        let (ctx, handler) = (bed.ctx, bed.handler);
        bed.kernel.run(handler, Call::Unregister { ctx, range: span(0, 4) });
        bed.kernel.run(handler, Call::Mprotect { range: span(1, 2), prot: Prot::READ });
        let ret = bed.kernel.run(handler, move_to(64, 4, 4));
        let expected = if late { Ret::Ok(page(64).raw()) } else { Ret::Err(Errno::EFAULT) };
        assert_eq!(ret, expected);
    }
}

#[test]
fn h4_the_length_of_a_move_that_shrinks() {
    for profile in all() {
        let len = if since(&profile, "6.18") { 2 } else { 8 };
        let mut bed = Bed::with(8, profile, Features::EVENT_REMAP);
        let mover = bed.thread();
        assert_eq!(bed.go(mover, move_to(64, 8, 2)), None);
        let events = bed.read(1);
        let [shims::Event::Remap { len: told, .. }] = events[..] else { panic!("{events:?}") };
        assert_eq!(told, len * 4096);
    }
}

#[test]
fn h5_z5_no_kernel_here_leaves_the_gate_shut_by_itself() {
    assert!(all().all(|profile| !profile.has_bug(Bugs::Z5)));
}

#[test]
fn h6_guards() {
    for profile in all() {
        let late = since(&profile, "6.18");
        let mut bed = Bed::with(2, profile, Features::empty());
        let thread = bed.thread();
        let call = Call::Madvise { range: span(0, 1), advice: Madvise::GuardInstall };
        let ret = bed.go(thread, call).unwrap();
        assert_eq!(ret, if late { Ret::Ok(0) } else { Ret::Err(Errno::EINVAL) });
        assert_eq!(bed.copy(0, 1), Outcome::done(4096), "6.18 overwrites one");
    }
}

#[test]
fn h7_copy_over_poison() {
    for profile in all().filter(|profile| profile.features.contains(Features::POISON)) {
        let mut bed = Bed::with(1, profile, Features::empty());
        let poison = Request::Poison { range: span(0, 1), mode: PoisonMode::empty() };
        assert_eq!(bed.resolve(poison, Payload::None), Outcome::done(4096));
        assert_eq!(bed.copy(0, 1), Outcome::done(4096));
    }
}

#[test]
fn h8_a_copy_without_a_huge_page() {
    for profile in all() {
        let late = since(&profile, "6.18");
        let missing = RegisterModes::MISSING;
        let mut memory =
            Memory::of(profile, HUGETLB, PRIVATE, 2 * HUGE, Features::empty(), missing);
        // The pool has what was promised to the mapping, and is then taken away.
        memory.bed.kernel.set_huge_pages(0);
        let request = Request::Copy { dst: span(0, HUGE), mode: CopyMode::empty() };
        let outcome = memory.bed.resolve(request, Payload::One(crate::support::source(0)));
        if outcome != Outcome::done(2 << 20) {
            let errno = if late { Errno::EEXIST } else { Errno::ENOMEM };
            assert_eq!(outcome, Outcome::mirrored(errno));
        }
    }
}

#[test]
fn h13_memory_files_and_their_modes() {
    for profile in all() {
        let name = profile.name().to_owned();
        for (kind, feature) in
            [(SHMEM, Features::MINOR_SHMEM), (HUGETLB, Features::MINOR_HUGETLBFS)]
        {
            let none = RegisterModes::empty();
            let profile = profile.clone();
            let has = profile.features;
            let mut memory = Memory::of(profile, kind, SHARED, 2 * HUGE, Features::empty(), none);
            let minor = memory.bed.register(0, 2 * HUGE, RegisterModes::MINOR);
            assert_eq!(matches!(minor, Ret::Ok(_)), has.contains(feature), "{name} {kind:?}");
            let wp = memory.bed.register(0, 2 * HUGE, RegisterModes::WP);
            let expected = has.contains(Features::WP_HUGETLBFS_SHMEM);
            assert_eq!(matches!(wp, Ret::Ok(_)), expected, "{name} {kind:?}");
        }
    }
}

#[test]
fn h14_h15_which_kernel_has_which_fault() {
    let faults = [
        ("5.7", Bugs::Z2 | Bugs::Z3 | Bugs::Z4 | Bugs::Z7 | Bugs::Z10 | Bugs::Z15),
        ("5.13", Bugs::Z2 | Bugs::Z3 | Bugs::Z4 | Bugs::Z7 | Bugs::Z10 | Bugs::Z15),
        ("5.15", Bugs::Z3 | Bugs::Z4 | Bugs::Z7 | Bugs::Z15),
        ("6.1", Bugs::Z3 | Bugs::Z4 | Bugs::Z7 | Bugs::Z15),
        ("6.6", Bugs::Z3 | Bugs::Z4 | Bugs::Z7 | Bugs::Z15),
        ("6.12", Bugs::Z4 | Bugs::Z15),
        ("6.18", Bugs::Z15),
    ];
    assert_eq!(faults.len(), Profile::NAMES.len());
    for (name, bugs) in faults {
        assert_eq!(Profile::by_name(name).unwrap().bugs(), bugs, "{name}");
    }
}

#[test]
fn a_scenario_names_its_kernel_and_its_faults() {
    let parse = |head: &str| {
        let text =
            format!("faultbed scenario 1\nname x\nmemory 4 pages\n{head}\ntask a\n  read 0\n");
        scenario::parse("x", &text)
    };
    let setup = parse("profile 6.6\nbugs Z5 no-Z15").unwrap();
    assert_eq!(setup.profile.name(), "6.6");
    assert!(setup.profile.has_bug(Bugs::Z5) && !setup.profile.has_bug(Bugs::Z15));
    let again = scenario::parse("again", &setup.to_string()).unwrap();
    assert_eq!(again.profile, setup.profile);
    // In any order.
    assert_eq!(parse("bugs Z5 no-Z15\nprofile 6.6").unwrap().profile, setup.profile);
    // An unknown name is told the known ones.
    let error = parse("profile 4.4").unwrap_err().to_string();
    assert!(Profile::NAMES.iter().all(|name| error.contains(name)), "{error}");
    let error = parse("bugs Z5 Z77").unwrap_err().to_string();
    assert!(error.contains("Z1, Z2") && error.contains("`Z77`"), "{error}");
    let error = parse("bugs Z12").unwrap_err().to_string();
    assert!(error.contains("swap is not modelled"), "{error}");
}
