//! Free-running programs: all endings of a small program, enumerated over every
//! interleaving on the simulated kernel, against what the running one does in thousands of
//! rounds. Every ending seen must be one the simulator has.
//!
//! A program is one page, some threads that each do one thing to it, and a handler.

use std::collections::{BTreeMap, BTreeSet};

use shims::linux::{Capability, OpenFlags};
use shims::{CopyMode, Errno, Event, Features, Outcome, RegisterModes, Request, ZeropageMode};
use sim::Content;
use sim::kernel::{Call, Kernel, MmId, Payload, Pte, Ret, ThreadId};
use sim::vma::{CtxId, Mmap, Prot};
use sim::world::BASE;

use crate::linux_arm::LinuxArm;
use faultbed::judge::SimArm;
use faultbed::judge::{Arm, Op, PAGE, Settled, span};
use faultbed::judge::{running_profile, source};

/// Something the handler does to the page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// Wait until something can be read, then read one message.
    Read,
    /// `UFFDIO_ZEROPAGE`.
    Zero,
    /// `UFFDIO_UNREGISTER`.
    Unregister,
}

struct Program {
    name: &'static str,
    features: Features,
    /// Does the page hold source bytes at the start, or is it missing?
    present: bool,
    /// How many there are, of which the first is looked at.
    pages: u64,
    threads: &'static [Op],
    handler: &'static [Step],
    rounds: u32,
}

/// What a handler's step answered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Answer {
    Remove,
    Unmap,
    Fault,
    Installed(Outcome),
    Unregistered(Option<Errno>),
}

/// What a round leaves behind.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Ending {
    answers: Vec<Answer>,
    threads: Vec<Settled>,
    page: Option<Content>,
}

fn message(event: &Event) -> Answer {
    match event {
        Event::Remove(_) => Answer::Remove,
        Event::Unmap(_) => Answer::Unmap,
        Event::Fault(_) => Answer::Fault,
        other => panic!("nobody sends {other}"),
    }
}

/// A program under way on the simulated kernel.
#[derive(Clone, PartialEq, Eq, Hash)]
struct World {
    kernel: Kernel,
    mm: MmId,
    ctx: CtxId,
    handler: ThreadId,
    threads: Vec<ThreadId>,
    answers: Vec<Answer>,
}

impl World {
    fn new(program: &Program) -> World {
        let mut kernel = Kernel::new(running_profile());
        let mm = kernel.new_mm();
        let handler = kernel.new_thread(mm);
        let len = program.pages * PAGE;
        kernel.run(handler, Call::Mmap(Mmap::fixed(BASE.raw(), len, Prot::RW)));
        let ctx = kernel.userfaultfd(mm, program.features).expect("modelled");
        let range = span(BASE, 0, program.pages);
        kernel.run(handler, Call::Register { ctx, range, modes: RegisterModes::MISSING });
        if program.present {
            let request = Request::Copy { dst: range, mode: CopyMode::empty() };
            kernel.run(handler, Call::Resolve { ctx, request, payload: Payload::One(source(0)) });
        }
        let begin = |(index, op): (usize, &Op)| {
            let thread = kernel.new_thread(mm);
            kernel.begin(thread, SimArm::call(index, *op));
            thread
        };
        let threads = program.threads.iter().enumerate().map(begin).collect();
        World { kernel, mm, ctx, handler, threads, answers: Vec::new() }
    }

    /// The worlds one step away.
    fn next(&self, program: &Program) -> Vec<World> {
        let mut next = Vec::new();
        for &thread in self.threads.iter().chain([&self.handler]) {
            if self.kernel.can_step(thread) {
                let mut world = self.clone();
                world.kernel.step(thread);
                next.push(world);
            }
        }
        next.extend(self.handler_goes_on(program));
        next
    }

    /// The handler between two calls.
    fn handler_goes_on(&self, program: &Program) -> Option<World> {
        let mut world = self.clone();
        let (handler, ctx, range) = (self.handler, self.ctx, span(BASE, 0, program.pages));
        if let Some(ret) = world.kernel.take_ret(handler) {
            world.answers.push(match ret {
                Ret::Read(_) => message(&world.kernel.inbox(handler).remove(0)),
                Ret::Outcome(outcome) => Answer::Installed(outcome),
                Ret::Ok(_) => Answer::Unregistered(None),
                Ret::Err(errno) => Answer::Unregistered(Some(errno)),
                ret => panic!("the handler got {ret:?}"),
            });
            return Some(world);
        }
        if !world.kernel.idle(handler) {
            return None;
        }
        let call = match program.handler.get(self.answers.len())? {
            Step::Read if !world.kernel.ctx(ctx).readable() => return None,
            Step::Read => Call::Read { ctx, max: 1 },
            Step::Zero => {
                let request = Request::Zeropage { range, mode: ZeropageMode::empty() };
                Call::Resolve { ctx, request, payload: Payload::None }
            }
            Step::Unregister => Call::Unregister { ctx, range },
        };
        world.kernel.begin(handler, call);
        Some(world)
    }

    fn ending(mut self) -> Ending {
        let settle = |&thread: &ThreadId| match self.kernel.take_ret(thread) {
            Some(ret) => Settled::Returned(SimArm::back(ret)),
            None => Settled::Asleep,
        };
        let threads = self.threads.iter().map(settle).collect();
        let page = match self.kernel.table(self.mm).get(BASE.raw() / PAGE) {
            Pte::Present { content, .. } => Some(content),
            Pte::None | Pte::Marker(_) => None,
        };
        Ending { answers: self.answers, threads, page }
    }
}

/// Every ending of every interleaving.
fn allowed(program: &Program) -> BTreeSet<Ending> {
    let mut endings = BTreeSet::new();
    let mut open = vec![World::new(program)];
    #[expect(clippy::disallowed_types, reason = "only asked for membership, never iterated")]
    let mut seen = std::collections::HashSet::new();
    while let Some(world) = open.pop() {
        if !seen.insert(world.clone()) {
            continue;
        }
        let next = world.next(program);
        if next.is_empty() {
            endings.insert(world.ending());
        }
        open.extend(next);
    }
    endings
}

/// One round on the running kernel; `number` varies who starts first, whether one thread
/// starts after the handler's first step, and how long the handler dawdles.
fn round(arm: &mut LinuxArm, program: &Program, number: u32) -> Ending {
    let range = span(arm.base(), 0, program.pages);
    let mut bytes = [0; PAGE as usize];
    bytes[..sim::STAMP_LEN].copy_from_slice(&source(0).stamp());
    arm.with(0, &mut |uffd| {
        uffd.register(range, RegisterModes::MISSING).expect("register");
        if program.present {
            assert_eq!(uffd.copy(range, &bytes, CopyMode::empty()), Outcome::done(PAGE));
        }
    });
    let count = program.threads.len();
    // Thread 0 is what a handler that begins with a read can count on, so it is never late.
    let late = (number / 2 % 2 == 1 && count > 1).then_some(count - 1);
    for thread in (0..count).map(|n| (n + number as usize) % count) {
        if Some(thread) != late {
            arm.start(thread, program.threads[thread]);
        }
    }
    let mut answers = Vec::new();
    for (index, step) in program.handler.iter().enumerate() {
        if index > 0 || program.handler.len() == 1 {
            for _ in 0..(number / 4 % 64) * 40 {
                core::hint::spin_loop();
            }
        }
        let mut answer = None;
        if *step == Step::Read {
            let ready = (0..50_000_000_u64).any(|_| arm.readable(0));
            assert!(ready, "{}: round {number} has nothing to read", program.name);
        }
        arm.with(0, &mut |uffd| {
            answer = Some(match step {
                Step::Read => {
                    let mut events = Vec::new();
                    assert_eq!(uffd.read_events(&mut events, 1), Ok(1));
                    message(&events[0])
                }
                Step::Zero => Answer::Installed(uffd.zeropage(range, ZeropageMode::empty())),
                Step::Unregister => Answer::Unregistered(uffd.unregister(range).err()),
            });
        });
        answers.extend(answer);
        if let (0, Some(late)) = (index, late) {
            arm.start(late, program.threads[late]);
        }
    }
    let threads: Vec<_> = (0..count).map(|thread| arm.settle(thread)).collect();
    let page = arm.contents()[0];
    // Let everybody go on, then put a fresh page there without a message.
    arm.with(0, &mut |uffd| {
        let _ = uffd.unregister(range);
        let _ = uffd.wake(range);
        let _ = uffd.read_events(&mut Vec::new(), 16);
    });
    for (thread, settled) in threads.iter().enumerate() {
        if *settled == Settled::Asleep {
            assert!(matches!(arm.settle(thread), Settled::Returned(_)), "thread {thread}");
        }
    }
    arm.start(0, Op::map(0, program.pages));
    assert!(matches!(arm.settle(0), Settled::Returned(_)));
    Ending { answers, threads, page }
}

/// Check `program`; `wanted` is what the set of endings must hold for the program to be
/// about what it says.
fn observe(program: &Program, wanted: &[&dyn Fn(&Ending) -> bool]) {
    let allowed = allowed(program);
    for (index, wanted) in wanted.iter().enumerate() {
        assert!(allowed.iter().any(wanted), "no ending is wanted ending {index}: {allowed:#?}");
    }
    if Capability::gate(program.name, OpenFlags::empty(), program.features).is_none() {
        return;
    }
    let mut arm = LinuxArm::new(program.pages).expect("address space");
    arm.open(program.features).expect("the gate has asked");
    for _ in program.threads {
        arm.thread();
    }
    let mut seen = BTreeMap::new();
    for number in 0..program.rounds {
        *seen.entry(round(&mut arm, program, number)).or_insert(0_u32) += 1;
    }
    for (ending, count) in &seen {
        let name = program.name;
        assert!(allowed.contains(ending), "{name}: {count} times {ending:?}, of {allowed:#?}");
    }
    println!("{} of {} endings seen in {} rounds:", seen.len(), allowed.len(), program.rounds);
    for ending in &allowed {
        println!("{:6} {ending:?}", seen.get(ending).unwrap_or(&0));
    }
}

const INSTALLED: Answer = Answer::Installed(Outcome::done(PAGE));

#[test]
fn v14_d8_the_window_over_a_page_that_is_there() {
    let program = Program {
        name: "v14_d8_present",
        features: Features::EVENT_REMOVE,
        present: true,
        pages: 1,
        threads: &[Op::DontNeed { at: 0, len: PAGE }, Op::Glance(0)],
        handler: &[Step::Read, Step::Zero],
        rounds: 3000,
    };
    let exists = Answer::Installed(Outcome::mirrored(Errno::EEXIST));
    // The window shows as an EEXIST for a page that is gone a moment later.
    observe(
        &program,
        &[&|e| e.answers == [Answer::Remove, exists] && e.page.is_none(), &|e| {
            e.answers == [Answer::Remove, INSTALLED] && e.page == Some(Content::Zero)
        }],
    );
}

#[test]
fn v14_d8_the_window_over_a_page_that_is_missing() {
    let program = Program {
        name: "v14_d8_missing",
        features: Features::EVENT_REMOVE,
        present: false,
        pages: 1,
        threads: &[Op::DontNeed { at: 0, len: PAGE }, Op::Glance(0)],
        handler: &[Step::Read, Step::Zero],
        rounds: 3000,
    };
    // An install that succeeded and is gone, its reader asleep again.
    observe(
        &program,
        &[
            &|e| {
                e.answers == [Answer::Remove, INSTALLED]
                    && e.page.is_none()
                    && e.threads[1] == Settled::Asleep
            },
            &|e| e.answers == [Answer::Remove, INSTALLED] && e.page == Some(Content::Zero),
        ],
    );
}

/// Reading an event does not open the gate: its sender does, when it runs again.
#[test]
fn v13_d4_the_gate_stays_shut_until_the_sender_runs() {
    let program = Program {
        name: "v13_d4",
        features: Features::EVENT_REMOVE,
        present: true,
        pages: 1,
        threads: &[Op::DontNeed { at: 0, len: PAGE }],
        handler: &[Step::Read, Step::Zero],
        rounds: 1000,
    };
    let shut = Answer::Installed(Outcome::mirrored(Errno::EAGAIN));
    observe(
        &program,
        &[&|e| e.answers == [Answer::Remove, shut], &|e| e.answers == [Answer::Remove, INSTALLED]],
    );
}

#[test]
fn v16_d3_two_removers_and_one_read() {
    let program = Program {
        name: "v16_d3_race",
        features: Features::EVENT_REMOVE,
        present: true,
        pages: 1,
        threads: &[Op::DontNeed { at: 0, len: PAGE }, Op::DontNeed { at: 0, len: PAGE }],
        handler: &[Step::Read, Step::Zero],
        rounds: 1000,
    };
    observe(&program, &[&|e| e.threads.contains(&Settled::Asleep)]);
}

#[test]
fn v70_c10_no_wake_is_lost_between_queueing_and_sleeping() {
    let program = Program {
        name: "v70_c10",
        features: Features::empty(),
        present: false,
        pages: 1,
        threads: &[Op::Glance(0), Op::Populate { at: 0, len: PAGE, write: true }],
        handler: &[Step::Zero],
        rounds: 1000,
    };
    assert!(allowed(&program).iter().all(|e| !e.threads.contains(&Settled::Asleep)));
    observe(&program, &[&|e| e.answers == [INSTALLED]]);
}

/// A load on its way in is queued behind the wake of an `UNREGISTER` that is under way, and
/// then sleeps on in memory that nobody watches: never in a thousand rounds on an idle
/// machine, 28 and 69 times on a busy one, still asleep 100 ms later. Why is not known; that
/// the wake comes before the lock of the VMA is taken would explain it.
#[test]
fn v84_b13_unregistering_can_pass_by_a_fault_on_its_way_in() {
    let program = Program {
        name: "v84_b13",
        features: Features::empty(),
        present: false,
        pages: 1,
        threads: &[Op::Glance(0), Op::Populate { at: 0, len: PAGE, write: true }],
        handler: &[Step::Unregister],
        rounds: 1000,
    };
    let asleep = |e: &Ending, thread: usize| e.threads[thread] == Settled::Asleep;
    observe(&program, &[&|e| asleep(e, 0), &|e| !asleep(e, 0) && !asleep(e, 1)]);
}

/// `munmap` of a mapping that is being filled waits until all of it is: the install is done,
/// or was never begun.
#[test]
fn v78_e8_d34_unmapping_waits_for_an_install_to_end() {
    let program = Program {
        name: "v78_e8",
        features: Features::empty(),
        present: false,
        pages: 16,
        threads: &[Op::Unmap { at: 0, len: 16 * PAGE }],
        handler: &[Step::Zero],
        rounds: 1000,
    };
    let whole = Answer::Installed(Outcome::done(16 * PAGE));
    let never = Answer::Installed(Outcome::mirrored(Errno::ENOENT));
    assert!(allowed(&program).iter().all(|e| e.answers == [whole] || e.answers == [never]));
    observe(&program, &[&|e| e.answers == [whole], &|e| e.answers == [never]]);
}

#[test]
fn d15_e6_unmapping_against_an_install() {
    let program = Program {
        name: "d15_e6_race",
        features: Features::EVENT_UNMAP,
        present: false,
        pages: 1,
        threads: &[Op::Unmap { at: 0, len: PAGE }, Op::Populate { at: 0, len: PAGE, write: false }],
        handler: &[Step::Zero],
        rounds: 1000,
    };
    let failed = |e: &Ending, errno| matches!(e.answers[..], [Answer::Installed(outcome)] if outcome.errno == Some(errno));
    observe(&program, &[&|e| e.answers == [INSTALLED], &|e| failed(e, Errno::EAGAIN)]);
}
