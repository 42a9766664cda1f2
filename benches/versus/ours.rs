//! The problem here: the tasks are a scenario, the handler is a state machine. And once more
//! with the handler as ordinary code on a coroutine.

use std::sync::Arc;

use shims::{Errno, Time};
use sim::coop::{Bed, Check, Coop};
use sim::kernel::{Call, Ret};
use sim::scenario;
use sim::world::{Env, Move, Note, Scope, Setup, Standing, Subject, View, World};

use crate::problem::Notes;

/// The tasks.
pub const SCENARIO: &str = "
faultbed scenario 1

name      two faulters, one remover
about     What is compared with shuttle.
memory    2 pages

task one
  read 0
task two
  read 1
task remover
  dontneed 0 -> ok
";

/// The handler.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Plain {
    notes: Notes,
    at: At,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
enum At {
    #[default]
    Poll,
    Reading,
    Installing,
}

impl Subject for Plain {
    fn actors(&self) -> usize {
        1
    }

    fn actor_name(&self, _: usize) -> String {
        "handler".to_owned()
    }

    fn can_step(&self, _: usize, view: View<'_>) -> bool {
        match self.at {
            At::Poll => self.notes.may_go_on(view.kernel(), view.ctx()),
            At::Reading | At::Installing => view.can_step(),
        }
    }

    fn step(&mut self, _: usize, env: &mut Env<'_>) -> Move {
        if self.at == At::Poll {
            if env.readable() {
                env.begin(Call::Read { ctx: env.ctx(), max: 16 });
                self.at = At::Reading;
            } else {
                let call = self.notes.install(env.ctx()).expect("it goes on for something");
                env.begin(call);
                self.at = At::Installing;
            }
            return Move::Handler(Note::new("polled"));
        }
        let did = env.step();
        let Some(ret) = env.take_ret() else { return Move::Kernel(did) };
        if self.at == At::Installing {
            self.notes.answered(ret);
            self.at = At::Poll;
            return Move::Kernel(did);
        }
        if matches!(ret, Ret::Read(_)) {
            let events = std::mem::take(env.inbox());
            self.notes.read(&events);
        } else {
            assert_eq!(ret, Ret::Err(Errno::EAGAIN));
        }
        self.at = At::Poll;
        if let Some(call) = self.notes.install(env.ctx()) {
            env.begin(call);
            self.at = At::Installing;
        }
        Move::Kernel(did)
    }

    fn scope(&self, _: usize) -> Scope {
        match self.at {
            At::Poll => Scope::Anything,
            At::Reading | At::Installing => Scope::Handler,
        }
    }

    fn deadline(&self, _: Time) -> Option<Time> {
        None
    }

    fn standing(&self) -> Standing {
        Standing::Serving
    }

    fn outstanding(&self) -> usize {
        usize::from(self.notes.waiting())
    }
}

fn setup() -> Arc<Setup> {
    Arc::new(scenario::parse("problem", SCENARIO).expect("a well-formed scenario"))
}

/// The problem at its start.
pub fn world() -> World<Plain> {
    World::new(setup(), Plain::default())
}

/// The same with the handler on a coroutine.
pub fn coroutine() -> World<Coop> {
    Check::new(serve).world(&setup())
}

/// The handler as ordinary code.
fn serve(bed: Bed) -> Result<(), Errno> {
    use shims::{CopyMode, Event, Uffd as _, Verdict, Waiter as _};
    let (uffd, waiter) = (bed.uffd(), bed.waiter());
    let mut removed = 0u64;
    let mut faults = Vec::new();
    let mut events = Vec::new();
    let (mut bytes, zeros) = (vec![0; 4096], vec![0; 4096]);
    loop {
        let soon = waiter.now().after(std::time::Duration::from_millis(1));
        waiter.wait((!faults.is_empty()).then_some(soon))?;
        match uffd.read_events(&mut events, 16) {
            Ok(_) | Err(Errno::EAGAIN) => {}
            Err(errno) => return Err(errno),
        }
        for event in &events {
            if let Event::Remove(span) = event {
                removed |= 1 << sim::world::page_index(span.start).expect("of the memory");
            }
        }
        for event in events.drain(..) {
            if let Event::Fault(fault) = event {
                faults.push(sim::world::page_index(fault.addr).expect("of the memory"));
            }
        }
        faults.retain(|page| {
            let dst = crate::problem::span(*page, page + 1);
            let gone = removed >> page & 1 == 1;
            if !gone {
                bed.source().read_page(*page, &mut bytes);
            }
            let from = if gone { &zeros } else { &bytes };
            uffd.copy(dst, from, CopyMode::empty()).verdict() == Verdict::Changing
        });
    }
}
