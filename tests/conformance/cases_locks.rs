//! Who waits for whose lock. A lock of the program that is held across `fork`, as the C library
//! holds those of `malloc` and of its streams (rules d27, d31): blocking code, generic over the
//! seam and the runtime, on threads of the operating system and on coroutines of a search. And
//! the lock of the address space, which a removal holds (rule h11).

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use faultbed::judge::running_profile;
use handler::drive::System;
use shims::linux::{Advice, Capability, Mapping, OpenFlags, PollWaiter, UserFault};
use shims::{Event, Features, Len, PageSize, RegisterModes, Runtime, Span, Uffd, Waiter};
use sim::Profile;
use sim::coop::Coop;
use sim::explore::{self, RandomWalk};
use sim::kernel::{Call, Did, Kernel, Ret};
use sim::scenario;
use sim::sync::Simulated;
use sim::vma::{Mmap, Prot};
use sim::world::{BASE, Failure, World};

/// Which program the process of its own is to be, if it is one.
const ROLE: &str = "FAULTBED_V41";

/// What has happened, in order.
#[derive(Default)]
struct Told {
    /// How many of the three threads are there.
    there: u8,
    held: bool,
    log: Vec<&'static str>,
}

/// One thread forks and holds the lock `heap` meanwhile, a second one wants the lock, and the
/// first of the program reads the messages: at once, or, if it `allocates`, behind the lock. Nobody
/// forks before all are there: starting a thread allocates, and that is what this is about.
fn program<R: Runtime>(
    uffd: &(impl Uffd + Sync),
    waiter: &(impl Waiter + Sync),
    allocates: bool,
    fork: impl Fn() + Sync,
) -> Vec<&'static str> {
    let heap = R::mutex("heap", ());
    let told = Told { there: 0, held: false, log: Vec::with_capacity(8) };
    let told = R::mutex("told", told);
    let changed = R::condvar("changed");
    let wait = |until: &dyn Fn(&Told) -> bool| {
        let mut state = R::lock(&told);
        while !until(&state) {
            R::wait(&changed, &mut state);
        }
    };
    let arrive = || {
        R::lock(&told).there += 1;
        R::notify_all(&changed);
        wait(&|state| state.there == 3);
    };
    let role = R::mutex("role", false);
    let work = || {
        let first = !core::mem::replace(&mut *R::lock(&role), true);
        arrive();
        if first {
            let _heap = R::lock(&heap);
            R::lock(&told).held = true;
            R::notify_all(&changed);
            fork();
            R::lock(&told).log.push("forked");
        } else {
            wait(&|state| state.held);
            let _heap = R::lock(&heap);
            R::lock(&told).log.push("allocated");
        }
    };
    // Room for the message: what is wanted here must not allocate.
    let mut events = Vec::with_capacity(4);
    let names = ["forker", "allocator"].map(str::to_owned);
    R::team(names, work, |started| {
        started.expect("two threads");
        arrive();
        while !events.iter().any(|event| matches!(event, Event::Fork { .. })) {
            waiter.wait(None).expect("the userfaultfd can be waited for");
            if allocates {
                drop(R::lock(&heap));
            }
            R::lock(&told).log.push("reads");
            uffd.read_events(&mut events, 4).expect("there is a message");
        }
    });
    core::mem::take(&mut R::lock(&told).log)
}

/// Whoever wants the lock gets it behind the read, and behind the fork.
fn judge(log: &[&str]) {
    assert_eq!(log, ["reads", "forked", "allocated"]);
}

fn on_the_simulator(allocates: bool, walks: u64) -> Option<Failure> {
    let text = "faultbed scenario 1\nname locks\nmemory 1 page\nfeatures fork\ntask idle\n  \
                dontneed 0\n";
    let setup = Arc::new(scenario::parse("locks", text).expect("a well-formed scenario"));
    let main = move |bed: sim::coop::Bed| {
        let fork = || bed.fork().expect("fork");
        let log = program::<Simulated>(&bed.uffd(), &bed.waiter(), allocates, fork);
        judge(&log);
        bed.until_stopped();
        Ok::<(), String>(())
    };
    let handler = Coop::new(&setup, main);
    let start = World::new(setup, handler);
    (0..walks)
        .find_map(|walk| explore::run(&mut start.clone(), &mut RandomWalk::new(41, walk)).failure)
}

/// The program as a process of its own: a copy of this one that runs one test.
fn process(role: &str) -> Child {
    let this: PathBuf = std::env::current_exe().expect("this program");
    let test = "cases_locks::in_a_process_of_its_own";
    let mut command = Command::new(this);
    command.args([test, "--exact", "--test-threads=1"]).env(ROLE, role);
    command.stdout(Stdio::null()).spawn().expect("this program")
}

/// Where each thread of a process sleeps; `None` for one that does not.
fn places(pid: u32) -> Vec<Option<String>> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let place = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("wchan")).unwrap_or_default();
        Some(text).filter(|text| !text.is_empty() && text != "0")
    };
    tasks.flatten().map(place).collect()
}

/// How often a process is looked at before it is given up.
const LOOKS: u32 = 6_000;

fn pause() {
    std::thread::park_timeout(Duration::from_millis(5));
}

#[test]
fn in_a_process_of_its_own() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let features = Features::EVENT_FORK;
    let uffd = UserFault::open(OpenFlags::empty()).expect("a userfaultfd");
    uffd.api(features).expect("the feature");
    let memory = Mapping::anonymous(Len::pages(1, PageSize::KIB4).expect("a page")).expect("mmap");
    uffd.register(memory.span(), RegisterModes::MISSING).expect("register");
    let uffd = Arc::new(uffd);
    let waiter = PollWaiter::new(Arc::clone(&uffd)).expect("a waiter");
    // What wants another user, be it the same one, is forked and not spawned otherwise.
    let fork = || {
        let id = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").expect("us"));
        let mut command = Command::new("true");
        std::os::unix::process::CommandExt::uid(&mut command, id);
        assert!(command.status().expect("fork").success());
    };
    let log = program::<System>(&*uffd, &waiter, role == "allocates", fork);
    judge(&log);
}

#[test]
fn v41_d31_a_lock_held_across_fork_is_had_when_the_event_is_read() {
    assert_eq!(on_the_simulator(false, 300), None);
    if Capability::gate("v41_d31", OpenFlags::empty(), Features::EVENT_FORK).is_none() {
        return;
    }
    for _ in 0..5 {
        let mut child = process("reads");
        let ended = (0..LOOKS).find_map(|_| {
            pause();
            child.try_wait().expect("a child")
        });
        let places = places(child.id());
        if ended.is_none() {
            child.kill().expect("a child");
        }
        let status = ended.unwrap_or_else(|| panic!("stuck: {places:?}"));
        assert!(status.success(), "{status}");
    }
}

#[test]
fn v41_d31_who_wants_the_lock_before_he_reads_waits_for_himself() {
    // Nobody can move, and the count of changes is as `fork` has left it.
    let failure = on_the_simulator(true, 300).expect("a deadlock");
    assert_eq!(failure.class(), "still-changing", "{failure}");
    if Capability::gate("v41_d31", OpenFlags::empty(), Features::EVENT_FORK).is_none() {
        return;
    }
    let mut child = process("allocates");
    // Nobody in it can run: it is as it will be for ever.
    let stuck = (0..LOOKS).any(|_| {
        pause();
        assert_eq!(child.try_wait().expect("a child"), None, "it came to its end");
        let places = places(child.id());
        let at = |what: &str| places.iter().flatten().filter(|at| at.contains(what)).count();
        at("userfaultfd_event") == 1 && at("futex") + 1 == places.len()
    });
    let places = places(child.id());
    child.kill().expect("a child");
    child.wait().expect("a child");
    assert!(stuck, "{places:?}");
}

/// On the simulated kernel, whether a mapping that begins while a removal takes pages away waits
/// for the last of them.
fn a_mapping_waits() -> bool {
    let mut kernel = Kernel::new(running_profile());
    let mm = kernel.new_mm();
    let (remover, owner) = (kernel.new_thread(mm), kernel.new_thread(mm));
    let range = Span::new(BASE, Len::new(4 * 4096));
    let map = Call::Mmap(Mmap::fixed(BASE.raw(), range.len.bytes(), Prot::RW));
    assert_eq!(kernel.run(owner, map), Ret::Ok(BASE.raw()));
    assert_eq!(kernel.run(owner, Call::Populate { range, write: true }), Ret::Ok(0));
    let ctx = kernel.userfaultfd(mm, Features::empty()).expect("no feature");
    let call = Call::Register { ctx, range, modes: RegisterModes::WP };
    assert!(matches!(kernel.run(owner, call), Ret::Ok(_)));
    kernel.begin(remover, Call::DontNeed { range });
    while !matches!(kernel.step(remover), Did::Zap { .. }) {}
    kernel.begin(owner, Call::Mmap(Mmap::fixed(BASE.raw() + (1 << 20), 4096, Prot::RW)));
    let mut waits = true;
    while !kernel.idle(owner) {
        let can = kernel.can_step(owner);
        waits &= !can || kernel.table(mm).present() == 0;
        kernel.step(if can { owner } else { remover });
        kernel.take_ret(owner);
    }
    waits
}

/// On the running kernel, how often in so many rounds somebody who has seen a large removal begin,
/// and has mapped something then, finds the last page still there.
fn overtaken(watched: bool, rounds: u32) -> u32 {
    let len = Len::new(128 << 20);
    let memory = Mapping::anonymous(len).expect("mmap");
    memory.madvise(0, len.bytes(), Advice::NoHugePage).expect("madvise");
    let uffd = UserFault::open(OpenFlags::empty()).expect("a userfaultfd");
    uffd.api(Features::empty()).expect("no feature");
    if watched {
        uffd.register(memory.span(), RegisterModes::WP).expect("register");
    }
    let last = len.bytes() - 4096;
    let there = |offset| memory.page_entry(offset).expect("pagemap").is_present();
    let mut seen = 0;
    for _ in 0..rounds {
        memory.populate_write(0, len.bytes()).expect("populate");
        std::thread::scope(|scope| {
            scope.spawn(|| memory.dontneed(0, len.bytes()).expect("madvise"));
            while there(0) {}
            let page = Mapping::anonymous(Len::new(4096)).expect("mmap");
            seen += u32::from(there(last));
            drop(page);
        });
    }
    seen
}

#[test]
fn v83_h11_a_mapping_waits_for_the_end_of_a_large_removal() {
    assert!(a_mapping_waits());
    if Capability::gate("v83_h11", OpenFlags::empty(), Features::empty()).is_none() {
        return;
    }
    assert_eq!(overtaken(true, 8), 0);
    // Memory that nobody watches is zapped under a lock of its own: so the look is quick enough.
    let two = std::thread::available_parallelism().is_ok_and(|count| count.get() > 1);
    if running_profile() == Profile::linux_6_18() && two {
        assert!((0..40).any(|_| overtaken(false, 1) > 0), "the look comes too late");
    }
}
