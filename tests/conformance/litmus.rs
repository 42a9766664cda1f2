//! The window between the reading of a `REMOVE` and the removal (rule d8), free-running:
//! all outcomes of a program of three threads, enumerated on the simulated kernel, against
//! what the running one does in thousands of rounds.
//!
//! One page, which holds source bytes or is missing. A remover drops it; a handler waits
//! until it can read, reads one message and installs a zero page once; a reader loads the
//! page once.

use std::collections::{BTreeMap, BTreeSet};

use shims::linux::{Capability, OpenFlags};
use shims::{CopyMode, Errno, Event, Features, Outcome, RegisterModes, Request, ZeropageMode};
use sim::Content;
use sim::kernel::{Call, Kernel, MmId, Payload, Pte, Ret, ThreadId};
use sim::vma::{CtxId, Mmap, Prot};
use sim::world::BASE;

use crate::arm::{Arm, Back, Op, PAGE, Settled, span};
use crate::linux_arm::LinuxArm;
use crate::run::{running_profile, source};
use crate::sim_arm::SimArm;

const ROUNDS: u32 = 3000;
const REMOVER: usize = 0;
const READER: usize = 1;

/// What a round leaves behind.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Ending {
    /// What the one message was: a removal, or the reader's fault.
    message: &'static str,
    install: Outcome,
    remover: Settled,
    reader: Settled,
    page: Option<Content>,
}

/// The program on the simulated kernel.
#[derive(Clone, PartialEq, Eq, Hash)]
struct World {
    kernel: Kernel,
    mm: MmId,
    ctx: CtxId,
    handler: ThreadId,
    threads: [ThreadId; 2],
    /// What the handler has read, and what its install answered.
    message: Option<&'static str>,
    install: Option<Outcome>,
}

fn name(event: &Event) -> &'static str {
    match event {
        Event::Remove(_) => "REMOVE",
        Event::Fault(_) => "fault",
        other => panic!("nobody sends {other}"),
    }
}

impl World {
    fn new(present: bool) -> World {
        let mut kernel = Kernel::new(running_profile());
        let mm = kernel.new_mm();
        let handler = kernel.new_thread(mm);
        kernel.run(handler, Call::Mmap(Mmap::fixed(BASE.raw(), PAGE, Prot::RW)));
        let ctx = kernel.userfaultfd(mm, Features::EVENT_REMOVE).expect("modelled");
        let range = span(BASE, 0, 1);
        kernel.run(handler, Call::Register { ctx, range, modes: RegisterModes::MISSING });
        if present {
            let request = Request::Copy { dst: range, mode: CopyMode::empty() };
            kernel.run(handler, Call::Resolve { ctx, request, payload: Payload::One(source(0)) });
        }
        let threads = [REMOVER, READER].map(|_| kernel.new_thread(mm));
        for (thread, op) in [(REMOVER, Op::dontneed(0, 1)), (READER, Op::Load(0))] {
            kernel.begin(threads[thread], SimArm::call(thread, op));
        }
        World { kernel, mm, ctx, handler, threads, message: None, install: None }
    }

    /// The worlds one step away.
    fn next(&self) -> Vec<World> {
        let mut next = Vec::new();
        for thread in self.threads.into_iter().chain([self.handler]) {
            if self.kernel.can_step(thread) {
                let mut world = self.clone();
                world.kernel.step(thread);
                next.push(world);
            }
        }
        if let Some(world) = self.handler_goes_on() {
            next.push(world);
        }
        next
    }

    /// The handler between two calls.
    fn handler_goes_on(&self) -> Option<World> {
        let mut world = self.clone();
        let (handler, ctx) = (self.handler, self.ctx);
        match world.kernel.take_ret(handler) {
            Some(Ret::Read(_)) => {
                world.message = Some(name(&world.kernel.inbox(handler).remove(0)));
                let mode = ZeropageMode::empty();
                let request = Request::Zeropage { range: span(BASE, 0, 1), mode };
                world.kernel.begin(handler, Call::Resolve { ctx, request, payload: Payload::None });
            }
            Some(Ret::Outcome(outcome)) => world.install = Some(outcome),
            Some(ret) => panic!("the handler got {ret:?}"),
            None => {
                let idle = world.kernel.idle(handler) && world.install.is_none();
                if !idle || !world.kernel.ctx(ctx).readable() {
                    return None;
                }
                world.kernel.begin(handler, Call::Read { ctx, max: 1 });
            }
        }
        Some(world)
    }

    fn ending(mut self) -> Ending {
        let settled = self.threads.map(|thread| match self.kernel.take_ret(thread) {
            Some(ret) => Settled::Returned(SimArm::back(ret)),
            None => Settled::Asleep,
        });
        let page = match self.kernel.table(self.mm).get(BASE.raw() / PAGE) {
            Pte::Present { content, .. } => Some(content),
            Pte::None => None,
        };
        Ending {
            message: self.message.expect("there is always something to read"),
            install: self.install.expect("the handler never waits for ever"),
            remover: settled[REMOVER],
            reader: settled[READER],
            page,
        }
    }
}

/// Every ending of every interleaving.
fn allowed(present: bool) -> BTreeSet<Ending> {
    let mut endings = BTreeSet::new();
    let mut open = vec![World::new(present)];
    #[expect(clippy::disallowed_types, reason = "only asked for membership, never iterated")]
    let mut seen = std::collections::HashSet::new();
    while let Some(world) = open.pop() {
        if !seen.insert(world.clone()) {
            continue;
        }
        let next = world.next();
        if next.is_empty() {
            endings.insert(world.ending());
        }
        open.extend(next);
    }
    endings
}

/// One round on the running kernel; `round` varies who starts first and how long the
/// handler dawdles.
fn round(arm: &mut LinuxArm, present: bool, round: u32) -> Ending {
    let range = span(arm.base(), 0, 1);
    let mut bytes = [0; PAGE as usize];
    bytes[..sim::STAMP_LEN].copy_from_slice(&source(0).stamp());
    arm.with(0, &mut |uffd| {
        uffd.register(range, RegisterModes::MISSING).expect("register");
        if present {
            assert_eq!(uffd.copy(range, &bytes, CopyMode::empty()), Outcome::done(PAGE));
        }
    });
    let both = [(REMOVER, Op::dontneed(0, 1)), (READER, Op::Load(0))];
    let first = (round % 2) as usize;
    let late = round % 4 >= 2;
    arm.start(both[first].0, both[first].1);
    // A thread that starts late starts when the handler has read.
    if !late || first == 1 {
        arm.start(both[1 - first].0, both[1 - first].1);
    }
    let mut events = Vec::new();
    let mut install = Outcome::OK;
    while !arm.readable(0) {
        core::hint::spin_loop();
    }
    arm.with(0, &mut |uffd| {
        uffd.read_events(&mut events, 1).expect("readable");
    });
    for _ in 0..(round / 4 % 64) * 40 {
        core::hint::spin_loop();
    }
    if late && first == 0 {
        arm.start(both[1].0, both[1].1);
    }
    arm.with(0, &mut |uffd| install = uffd.zeropage(range, ZeropageMode::empty()));
    // A removal that is still unread keeps its sender asleep.
    let (remover, reader) = (arm.settle(REMOVER), arm.settle(READER));
    let page = arm.contents()[0];
    let message = name(&events[0]);
    // Let everybody go on, then empty the page without a message.
    let mut rest = Vec::new();
    arm.with(0, &mut |uffd| {
        uffd.unregister(range).expect("unregister");
        let _ = uffd.read_events(&mut rest, 16);
    });
    for (thread, settled) in [(REMOVER, remover), (READER, reader)] {
        if settled == Settled::Asleep {
            assert!(matches!(arm.settle(thread), Settled::Returned(_)), "thread {thread}");
        }
    }
    arm.start(REMOVER, Op::dontneed(0, 1));
    assert_eq!(arm.settle(REMOVER), Settled::Returned(Back::Done));
    Ending { message, install, remover, reader, page }
}

fn observe(name: &str, present: bool) {
    let allowed = allowed(present);
    let has = |f: &dyn Fn(&Ending) -> bool| allowed.iter().any(f);
    let installed = Outcome::done(PAGE);
    if present {
        // The window shows as an EEXIST for a page that is gone a moment later.
        assert!(has(&|e| e.install == Outcome::mirrored(Errno::EEXIST) && e.page.is_none()));
    } else {
        // And as an install that succeeded, whose reader was woken, and that is gone.
        assert!(has(&|e| e.message == "REMOVE" && e.install == installed && e.page.is_none()));
    }
    assert!(has(&|e| e.install == installed && e.page == Some(Content::Zero)));
    assert!(has(&|e| e.install.errno == Some(Errno::EAGAIN)));
    if Capability::gate(name, OpenFlags::empty(), Features::EVENT_REMOVE).is_none() {
        return;
    }
    let mut arm = LinuxArm::new(1).expect("address space");
    arm.open(Features::EVENT_REMOVE).expect("the gate has asked");
    for _ in [REMOVER, READER] {
        arm.thread();
    }
    let mut seen = BTreeMap::new();
    for number in 0..ROUNDS {
        *seen.entry(round(&mut arm, present, number)).or_insert(0_u32) += 1;
    }
    for (ending, count) in &seen {
        assert!(allowed.contains(ending), "{count} times {ending:?}, not among {allowed:#?}");
    }
    println!("{} of {} allowed endings seen in {ROUNDS} rounds:", seen.len(), allowed.len());
    for ending in &allowed {
        println!("{:6} {ending:?}", seen.get(ending).unwrap_or(&0));
    }
}

#[test]
fn d8_the_window_over_a_page_that_is_there() {
    observe("d8_the_window_over_a_page_that_is_there", true);
}

#[test]
fn d8_the_window_over_a_page_that_is_missing() {
    observe("d8_the_window_over_a_page_that_is_missing", false);
}
