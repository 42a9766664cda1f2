//! Accesses by the kernel on behalf of a thread (rules c5, c6, c9, c12). The tables are what
//! 6.18 answered to a program that made every access to every state of memory.

use shims::{
    CopyMode, Errno, Event, FaultFlags, Features, Outcome, PoisonMode, RegisterModes, Request,
    Span, Tid, WriteProtectMode,
};
use sim::kernel::{Call, Did, Madvise, Payload, Pte, Ret, Signal, ThreadId, Via};
use sim::vma::{Mmap, Prot, VmaFlags};
use sim::{Content, Profile};

use crate::support::{Bed, page, source, span};

const BOTH: RegisterModes = RegisterModes::MISSING.union(RegisterModes::WP);
const STAMP: Content = Content::Bytes(9);
const R: FaultFlags = FaultFlags::empty();
const W: FaultFlags = FaultFlags::WRITE;
const WP: FaultFlags = FaultFlags::WRITE.union(FaultFlags::WP);

/// How the kernel is made to touch memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Access {
    /// `write(2)` reads it, `read(2)` writes it.
    Syscall {
        write: bool,
    },
    /// `process_vm_readv`, `process_vm_writev`.
    Pinned {
        write: bool,
    },
    /// `/proc/self/mem`.
    Forced {
        write: bool,
    },
    Mlock,
    MlockOnFault,
    Populate {
        write: bool,
    },
}

const ACCESSES: [Access; 10] = [
    Access::Syscall { write: false },
    Access::Syscall { write: true },
    Access::Pinned { write: false },
    Access::Pinned { write: true },
    Access::Forced { write: false },
    Access::Forced { write: true },
    Access::Mlock,
    Access::MlockOnFault,
    Access::Populate { write: false },
    Access::Populate { write: true },
];

impl Access {
    fn call(self, bed: &Bed, range: Span) -> Call {
        let store = |write: bool| write.then_some(STAMP);
        match self {
            Access::Syscall { write } => {
                Call::Transfer { via: Via::Syscall, range, store: store(write) }
            }
            Access::Pinned { write } => {
                Call::Transfer { via: Via::Pinned(bed.mm), range, store: store(write) }
            }
            Access::Forced { write } => {
                Call::Transfer { via: Via::Forced(bed.mm), range, store: store(write) }
            }
            Access::Mlock => Call::Mlock { range, on_fault: false },
            Access::MlockOnFault => Call::Mlock { range, on_fault: true },
            Access::Populate { write } => Call::Populate { range, write },
        }
    }

    fn writes(self) -> bool {
        match self {
            Access::Syscall { write }
            | Access::Pinned { write }
            | Access::Forced { write }
            | Access::Populate { write } => write,
            Access::Mlock => true,
            Access::MlockOnFault => false,
        }
    }

    /// What a transfer of so many pages returns, and what the others do.
    fn done(self, pages: u64) -> Ret {
        match self {
            Access::Syscall { .. } | Access::Pinned { .. } | Access::Forced { .. } => {
                Ret::Ok(pages * 4096)
            }
            _ => Ret::Ok(0),
        }
    }

    /// What a refusal at the first page is.
    fn refused(self, populate: Errno) -> Ret {
        Ret::Err(match self {
            Access::Syscall { .. } | Access::Pinned { .. } => Errno::EFAULT,
            Access::Forced { .. } => Errno::EIO,
            Access::Mlock | Access::MlockOnFault => Errno::ENOMEM,
            Access::Populate { .. } => populate,
        })
    }

    /// What a refusal at the second page is, the first being done.
    fn stopped(self, populate: Errno) -> Ret {
        match self {
            Access::MlockOnFault => Ret::Ok(0),
            Access::Mlock | Access::Populate { .. } => self.refused(populate),
            _ => Ret::Ok(4096),
        }
    }
}

/// Answer every message until the thread is done; how it ended, and what was asked.
fn serve(bed: &mut Bed, thread: ThreadId) -> (Ret, Vec<(u64, FaultFlags)>) {
    let mut asked = Vec::new();
    loop {
        if let Some(ret) = bed.on(thread) {
            return (ret, asked);
        }
        let events = bed.read(8);
        let [Event::Fault(fault)] = events[..] else { panic!("asleep, and {events:?}") };
        let n = (fault.addr.raw() - page(0).raw()) / 4096;
        asked.push((n, fault.flags));
        let answer = if fault.flags.contains(FaultFlags::WP) {
            bed.protect(n, n + 1, WriteProtectMode::empty())
        } else {
            bed.copy(n, n + 1)
        };
        assert_eq!(answer.errno, None, "page {n}");
    }
}

fn access(bed: &mut Bed, what: Access, range: Span) -> (Ret, Vec<(u64, FaultFlags)>) {
    let thread = bed.thread();
    let call = what.call(bed, range);
    bed.kernel.begin(thread, call);
    serve(bed, thread)
}

fn bed(features: Features) -> Bed {
    Bed::registered(4, Profile::default(), features, BOTH)
}

fn poison(bed: &mut Bed, n: u64) {
    let request = Request::Poison { range: span(n, n + 1), mode: PoisonMode::empty() };
    assert_eq!(bed.resolve(request, Payload::None), Outcome::done(4096));
}

/// Rules: c9, V54
#[test]
fn c9_who_asks_for_missing_and_for_protected_pages() {
    for what in ACCESSES {
        let flags = if what.writes() { W } else { R };
        let asks = !matches!(what, Access::Forced { .. } | Access::MlockOnFault);
        // Two pages, both missing.
        let mut one = bed(Features::empty());
        let expected = match what {
            Access::Forced { .. } => (what.refused(Errno::EFAULT), vec![]),
            Access::MlockOnFault => (Ret::Ok(0), vec![]),
            _ => (what.done(2), vec![(0, flags), (1, flags)]),
        };
        assert_eq!(access(&mut one, what, span(0, 2)), expected, "{what:?}, missing");
        // The second is missing.
        let mut one = bed(Features::empty());
        one.copy(0, 1);
        let expected = match what {
            _ if asks => (what.done(2), vec![(1, flags)]),
            _ => (what.stopped(Errno::EFAULT), vec![]),
        };
        assert_eq!(access(&mut one, what, span(0, 2)), expected, "{what:?}, second missing");
        // A protected page.
        let mut one = bed(Features::empty());
        one.copy_mode(0, 1, CopyMode::WP);
        let expected = match what {
            Access::Forced { write: true } => (Ret::Err(Errno::EIO), vec![]),
            _ if what.writes() => (what.done(1), vec![(0, WP)]),
            _ => (what.done(1), vec![]),
        };
        assert_eq!(access(&mut one, what, span(0, 1)), expected, "{what:?}, protected");
    }
}

#[test]
fn c12_poison_guards_holes_and_protections_end_a_transfer() {
    for what in ACCESSES {
        let first = |populate| match what {
            Access::MlockOnFault => Ret::Ok(0),
            _ => what.refused(populate),
        };
        let mut one = bed(Features::empty());
        poison(&mut one, 0);
        let expected = (first(Errno::EHWPOISON), vec![]);
        assert_eq!(access(&mut one, what, span(0, 1)), expected, "{what:?}, poison");
        let second = |prepare: &dyn Fn(&mut Bed)| {
            let mut one = bed(Features::empty());
            one.copy(0, 1);
            prepare(&mut one);
            let (ret, asked) = access(&mut one, what, span(0, 2));
            assert_eq!(asked, [], "{what:?}");
            ret
        };
        let ret = second(&|bed| poison(bed, 1));
        assert_eq!(ret, what.stopped(Errno::EHWPOISON), "{what:?}, second poison");
        let ret = second(&|bed| {
            let call = Call::Madvise { range: span(1, 2), advice: Madvise::GuardInstall };
            bed.kernel.run(bed.handler, call);
        });
        assert_eq!(ret, what.stopped(Errno::EFAULT), "{what:?}, second a guard");
        let ret = second(&|bed| {
            bed.kernel.run(bed.handler, Call::Munmap { range: span(1, 2) });
        });
        let expected = match what {
            // The mappings are locked before a page is fetched, and the hole is met there.
            Access::MlockOnFault => Ret::Err(Errno::ENOMEM),
            _ => what.stopped(Errno::ENOMEM),
        };
        assert_eq!(ret, expected, "{what:?}, second a hole");
        let ret = second(&|bed| {
            let call = Call::Mprotect { range: span(1, 2), prot: Prot::NONE };
            bed.kernel.run(bed.handler, call);
        });
        assert_eq!(ret, what.stopped(Errno::EINVAL), "{what:?}, second without access");
    }
}

/// Rules: c5, c6, V55
#[test]
fn c5_c6_the_feature_sigbus_refuses_the_kernel_too() {
    for what in ACCESSES {
        if what == Access::MlockOnFault {
            continue;
        }
        let mut one = bed(Features::SIGBUS);
        let expected = (what.refused(Errno::EFAULT), vec![]);
        assert_eq!(access(&mut one, what, span(0, 2)), expected, "{what:?}, missing");
        let mut one = bed(Features::SIGBUS);
        one.copy(0, 1);
        let expected = (what.stopped(Errno::EFAULT), vec![]);
        assert_eq!(access(&mut one, what, span(0, 2)), expected, "{what:?}, second missing");
        let mut one = bed(Features::SIGBUS);
        one.copy_mode(0, 1, CopyMode::WP);
        let ret = if what.writes() { what.refused(Errno::EFAULT) } else { what.done(1) };
        assert_eq!(access(&mut one, what, span(0, 1)), (ret, vec![]), "{what:?}, protected");
    }
}

/// `(PROT_NONE, READ, WRITE, EXEC)`: what each may do to memory that is there or is not, in
/// memory nobody watches. Measured.
#[test]
fn c4_protections_as_each_access_takes_them() {
    let table: [(Access, [bool; 4]); 8] = [
        (Access::Syscall { write: false }, [false, true, true, true]),
        (Access::Syscall { write: true }, [false, false, true, false]),
        (Access::Pinned { write: false }, [false, true, false, false]),
        (Access::Pinned { write: true }, [false, false, true, false]),
        (Access::Forced { write: false }, [true; 4]),
        (Access::Forced { write: true }, [true; 4]),
        (Access::Populate { write: false }, [false, true, false, false]),
        (Access::Mlock, [false, true, true, true]),
    ];
    for (what, allowed) in table {
        let prots = [Prot::NONE, Prot::READ, Prot::WRITE, Prot::EXEC];
        for (prot, allowed) in prots.into_iter().zip(allowed) {
            for present in [false, true] {
                let mut one = bed(Features::empty());
                let map = Call::Mmap(Mmap::fixed(page(8).raw(), 4096, Prot::RW));
                one.kernel.run(one.handler, map);
                let thread = one.thread();
                if present {
                    one.store(thread, 8);
                }
                one.go(thread, Call::Mprotect { range: span(8, 9), prot });
                let (ret, asked) = access(&mut one, what, span(8, 9));
                let expected = if allowed { what.done(1) } else { what.refused(Errno::EINVAL) };
                assert_eq!(ret, expected, "{what:?} of {prot:?}, present: {present}");
                assert_eq!(asked, []);
            }
        }
    }
    // A shared mapping is not copied to get around its protection.
    let mut one = bed(Features::empty());
    let shared = Mmap::fixed(page(8).raw(), 4096, Prot::READ).shared();
    one.kernel.run(one.handler, Call::Mmap(shared));
    let forced = |write| Access::Forced { write };
    assert_eq!(access(&mut one, forced(false), span(8, 9)).0, Ret::Ok(4096));
    assert_eq!(access(&mut one, forced(true), span(8, 9)).0, Ret::Err(Errno::EIO));
}

#[test]
fn c9_what_is_transferred_is_what_is_there_when_the_page_is_used() {
    let mut bed = bed(Features::empty());
    let (thread, other) = (bed.thread(), bed.thread());
    bed.copy(0, 1);
    let read = Call::Transfer { via: Via::Syscall, range: span(0, 2), store: None };
    bed.kernel.begin(thread, read);
    assert_eq!(bed.step(thread), Did::Load { page: page(0), content: source(0) });
    assert_eq!(bed.on(thread), None);
    assert_eq!(bed.read(8).len(), 1);
    bed.copy(1, 2);
    bed.store(other, 1);
    let content = Content::Written { task: other.0, seq: 1 };
    assert_eq!(bed.step(thread), Did::Load { page: page(1), content });
    assert_eq!(bed.on(thread), Some(Ret::Ok(8192)));
    let write = Call::Transfer { via: Via::Syscall, range: span(0, 2), store: Some(STAMP) };
    assert_eq!(bed.go(thread, write), Some(Ret::Ok(8192)));
    assert_eq!(bed.load(other, 1), Some(Ret::Loaded(STAMP)));
}

#[test]
fn c7_the_message_names_the_thread_that_does_the_access_and_the_byte_it_copies() {
    let features = Features::THREAD_ID | Features::EXACT_ADDRESS;
    let mut bed = bed(features);
    // A thread of another process.
    let other = bed.kernel.new_mm();
    let reader = bed.kernel.new_thread(other);
    let range = Span::new(shims::Addr::new(page(0).raw() + 8), shims::Len::new(16));
    let call = Call::Transfer { via: Via::Pinned(bed.mm), range, store: None };
    assert_eq!(bed.go(reader, call), None);
    let events = bed.read(8);
    let [Event::Fault(fault)] = events[..] else { panic!("{events:?}") };
    assert_eq!(fault.tid, Some(Tid(u32::from(reader.0) + 1)));
    assert_eq!(fault.addr, page(0), "pinning faults at the page");
    bed.copy(0, 1);
    assert_eq!(bed.on(reader), Some(Ret::Ok(16)));
    let thread = bed.thread();
    let range = Span::new(shims::Addr::new(page(1).raw() + 8), shims::Len::new(4096));
    let call = Call::Transfer { via: Via::Syscall, range, store: Some(STAMP) };
    assert_eq!(bed.go(thread, call), None);
    let at = |events: Vec<Event>| match events[..] {
        [Event::Fault(fault)] => fault.addr.raw() - page(0).raw(),
        _ => panic!("{events:?}"),
    };
    assert_eq!(at(bed.read(8)), 4096 + 8);
    bed.copy(1, 2);
    assert_eq!(bed.on(thread), None);
    assert_eq!(at(bed.read(8)), 8192, "and goes on at the page boundary");
    bed.copy(2, 3);
    assert_eq!(bed.on(thread), Some(Ret::Ok(4096)));
}

#[test]
fn c6_a_transfer_counts_the_bytes_up_to_the_page_it_cannot_have() {
    let mut bed = bed(Features::empty());
    let thread = bed.thread();
    bed.copy(0, 1);
    bed.go(thread, Call::Munmap { range: span(1, 2) });
    let range = Span::new(shims::Addr::new(page(0).raw() + 4000), shims::Len::new(200));
    for via in [Via::Pinned(bed.mm), Via::Forced(bed.mm)] {
        for store in [None, Some(STAMP)] {
            let call = Call::Transfer { via, range, store };
            assert_eq!(bed.go(thread, call), Some(Ret::Ok(96)), "{via:?}");
        }
    }
    let nothing = Span::new(page(1), shims::Len::new(0));
    let call = Call::Transfer { via: Via::Syscall, range: nothing, store: None };
    assert_eq!(bed.go(thread, call), Some(Ret::Ok(0)));
    let beyond = Span::new(page(0), shims::Len::new(u64::MAX - (1 << 20)));
    for (via, errno) in [(Via::Syscall, Errno::EFAULT), (Via::Forced(bed.mm), Errno::EIO)] {
        let call = Call::Transfer { via, range: beyond, store: None };
        assert_eq!(bed.go(thread, call), Some(Ret::Err(errno)));
    }
}

#[test]
fn c9_mlock_locks_first_and_fetches_then() {
    let mut bed = bed(Features::empty());
    let thread = bed.thread();
    let lock = Call::Mlock { range: span(0, 2), on_fault: false };
    bed.kernel.begin(thread, lock);
    assert!(matches!(bed.step(thread), Did::Lock { .. }));
    let locked = |bed: &Bed, n| {
        bed.kernel.space(bed.mm).find(page(n)).unwrap().flags().contains(VmaFlags::LOCKED)
    };
    assert!(locked(&bed, 0) && locked(&bed, 1) && !locked(&bed, 2));
    let (ret, asked) = serve(&mut bed, thread);
    assert_eq!((ret, asked), (Ret::Ok(0), vec![(0, W), (1, W)]));
    // d10: the removal of locked memory is refused.
    let remove = Call::DontNeed { range: span(0, 1) };
    assert_eq!(bed.go(thread, remove.clone()), Some(Ret::Err(Errno::EINVAL)));
    assert_eq!(bed.go(thread, Call::Munlock { range: span(0, 1) }), Some(Ret::Ok(0)));
    assert_eq!(bed.go(thread, remove), Some(Ret::Ok(0)));
    // A page that cannot be had leaves the lock.
    poison(&mut bed, 3);
    let lock = Call::Mlock { range: span(3, 4), on_fault: false };
    assert_eq!(bed.go(thread, lock), Some(Ret::Err(Errno::ENOMEM)));
    assert!(locked(&bed, 3));
    // What may not be written is fetched for reading.
    bed.go(thread, Call::Mprotect { range: span(2, 3), prot: Prot::READ });
    bed.kernel.begin(thread, Call::Mlock { range: span(2, 3), on_fault: false });
    assert_eq!(serve(&mut bed, thread), (Ret::Ok(0), vec![(2, R)]));
}

#[test]
fn f5_the_kernel_writes_under_wp_async_without_asking() {
    for what in [
        Access::Syscall { write: true },
        Access::Pinned { write: true },
        Access::Forced { write: true },
    ] {
        let mut bed = Bed::registered(2, Profile::default(), Features::WP_ASYNC, RegisterModes::WP);
        bed.copy_mode(0, 1, CopyMode::WP);
        bed.protect(1, 2, WriteProtectMode::WP);
        assert_eq!(access(&mut bed, what, span(0, 2)), (Ret::Ok(8192), vec![]), "{what:?}");
        let written = Pte::Present { content: STAMP, bits: sim::kernel::PteBits::empty() };
        assert_eq!((bed.pte(0), bed.pte(1)), (written, written), "{what:?}");
    }
}

#[test]
fn f2_a_forced_write_to_a_marker_is_refused_and_leaves_a_protected_page() {
    let features = Features::WP_UNPOPULATED;
    let mut bed = Bed::registered(1, Profile::default(), features, RegisterModes::WP);
    bed.protect(0, 1, WriteProtectMode::WP);
    let forced = |write| Access::Forced { write };
    assert_eq!(access(&mut bed, forced(true), span(0, 1)), (Ret::Err(Errno::EIO), vec![]));
    assert!(bed.pte(0).is_present());
    assert_eq!(access(&mut bed, forced(false), span(0, 1)), (Ret::Ok(4096), vec![]));
    let thread = bed.thread();
    assert_eq!(bed.store(thread, 0), None, "it traps like any protected page");
}

#[test]
fn c9_mincore_tells_and_fetches_nothing() {
    let mut bed = bed(Features::empty());
    bed.copy(0, 1);
    poison(&mut bed, 2);
    let resident = bed.kernel.mincore(bed.mm, span(0, 4));
    assert_eq!(resident, Ok(vec![true, false, false, false]));
    let thread = bed.thread();
    bed.go(thread, Call::Munmap { range: span(1, 2) });
    assert_eq!(bed.kernel.mincore(bed.mm, span(0, 4)), Err(Errno::ENOMEM));
    assert_eq!(bed.read(8), []);
    let odd = Span::new(shims::Addr::new(page(0).raw() + 1), shims::Len::new(4096));
    assert_eq!(bed.kernel.mincore(bed.mm, odd), Err(Errno::EINVAL));
    assert_eq!(bed.load(thread, 1), Some(Ret::Signal(Signal::SegvMapErr)));
}
