//! States that differ in nothing anybody can tell: what a search takes for one. Owns the
//! fingerprint of a world without what says only how it came about, and the places of those who
//! could change theirs.
//!
//! Left out, or put into an order of its own: which of several workers does what; which of
//! several tasks with the same program is how far; in which order faults were taken; how requests
//! and slots of the handler go together; what oracles remember that none of them will ask for.
//! Left out, too, is what the rest tells anyway: which labels are posted and how often a task has
//! written, by how far the tasks are; whether a fork has begun it and in which process it is, by
//! the address space of its thread.
//! Symmetry: Clarke, Enders, Filkorn and Jha, "Exploiting Symmetry in Temporal Logic Model
//! Checking", 1996; with sleep sets: Emerson, Jha and Peled, TACAS 1997.

use core::hash::{Hash, Hasher};

use super::subject::{Manner, Subject, Threads};
use super::{MAX_ACTORS, World};
use crate::explore::Fingerprint;
use crate::kernel::ThreadId;

/// Threads that are told apart by their names; worlds with more have no tasks that change places.
const NAMED: usize = 64;

/// Which place every actor takes once those that could change theirs are put in order.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    place: [u8; MAX_ACTORS],
    /// Does anybody take another place than his own?
    moved: bool,
}

impl Order {
    /// Everybody where he is.
    pub const fn same() -> Order {
        let mut place = [0; MAX_ACTORS];
        let mut at = 0;
        while at < MAX_ACTORS {
            place[at] = at as u8;
            at += 1;
        }
        Order { place, moved: false }
    }

    /// `actor` takes that place.
    pub fn put(&mut self, actor: usize, place: usize) {
        self.place[actor] = place as u8;
        self.moved |= actor != place;
    }

    /// A set of actors as the set of their places.
    pub fn to_places(&self, actors: u64) -> u64 {
        if !self.moved {
            return actors;
        }
        (0..MAX_ACTORS)
            .filter(|actor| actors >> actor & 1 == 1)
            .fold(0, |places, actor| places | 1 << self.place[actor])
    }

    /// And back.
    pub fn to_actors(&self, places: u64) -> u64 {
        if !self.moved {
            return places;
        }
        (0..MAX_ACTORS)
            .filter(|actor| places >> self.place[*actor] & 1 == 1)
            .fold(0, |actors, actor| actors | 1 << actor)
    }
}

impl<S: Subject> World<S> {
    /// The fingerprint of the state, and the order of its actors, in which it is the same for all
    /// states that differ in nothing anybody can tell.
    pub fn arranged(&self) -> (Fingerprint, Order) {
        let mut order = Order::same();
        if self.subject.manner() == Manner::Unknown {
            // It may look at what nobody else can tell.
            return (Fingerprint::of(self), order);
        }
        let mut names = [0; NAMED];
        let named = self.kernel.every_thread().count() <= NAMED;
        if named {
            (0..NAMED).for_each(|n| names[n] = n as u16);
            self.arrange_tasks(&mut order, &mut names);
        }
        let name = |thread: ThreadId| if named { names[usize::from(thread.0)] } else { thread.0 };
        let mut state = Fingerprint::begin();
        self.kernel.hash_shared(name, &mut state);
        let mut at = [0; MAX_ACTORS];
        (0..self.tasks.len()).for_each(|i| at[usize::from(order.place[i])] = i);
        for i in &at[..self.tasks.len()] {
            let task = &self.tasks[*i];
            (name(task.thread), task.at).hash(&mut state);
            self.kernel.hash_call(task.thread, &mut state);
        }
        let threads = self.threads();
        let places = &mut order;
        let first = self.tasks.len();
        self.subject.hash_arranged(
            self.now,
            threads,
            |actor, place| places.put(first + actor, first + place),
            &mut state,
        );
        self.injection.hash(&mut state);
        let asked = self.tasks.iter().enumerate().any(|(i, task)| self.plan.asked(i, task.at));
        self.truth.hash_asked(asked, self.setup.tracks_writes(), &mut state);
        (&self.kin, &self.underway, &self.hazards).hash(&mut state);
        self.failure.as_ref().map(super::Failure::essence).hash(&mut state);
        if self.subject.idle_limit() != u32::MAX {
            self.idle.hash(&mut state);
        }
        (state.end(), order)
    }

    pub(super) fn threads(&self) -> Threads<'_> {
        let few = self.hazards.is_none() && self.kernel.is_simple();
        Threads {
            kernel: &self.kernel,
            ids: &self.subject_threads,
            steady: self.is_steady(),
            messages: if few { self.plan.messages } else { usize::MAX },
        }
    }

    /// Put tasks with the same program in the order of where they are.
    fn arrange_tasks(&self, order: &mut Order, names: &mut [u16; NAMED]) {
        for first in 0..self.tasks.len() {
            if !self.plan.leads(first) {
                continue;
            }
            let group = || (first..self.tasks.len()).filter(|i| self.plan.twin(*i) == first);
            let print = |i: usize| {
                let task = &self.tasks[i];
                let mut state = Fingerprint::begin();
                task.at.hash(&mut state);
                self.kernel.hash_call(task.thread, &mut state);
                self.kernel.hash_queued(task.thread, &mut state);
                (state.end(), i)
            };
            let mut members: Vec<(Fingerprint, usize)> = group().map(print).collect();
            members.sort_unstable();
            for ((_, member), place) in members.into_iter().zip(group()) {
                order.put(member, place);
                let of = |i: usize| self.tasks[i].thread.0;
                names[usize::from(of(member))] = of(place);
            }
        }
    }
}

impl Threads<'_> {
    /// The hash of the call that a thread of the handler is in.
    pub fn hash_call<H: Hasher>(&self, actor: usize, state: &mut H) {
        self.kernel.hash_call(self.ids[actor], state);
    }

    /// The same; a read that has taken a few messages is one that has taken others, for as long
    /// as it cannot come to its limit.
    pub fn hash_read<H: Hasher>(&self, actor: usize, state: &mut H) {
        self.kernel.hash_read(self.ids[actor], self.messages, state);
    }

    /// Will nobody change what is mapped any more?
    pub fn are_steady(&self) -> bool {
        self.steady
    }

    /// The messages that it has read and not taken.
    pub fn messages(&self, actor: usize) -> &[shims::Event] {
        self.kernel.messages(self.ids[actor])
    }

    /// The hash of all that the kernel has of all of them.
    pub fn hash_all<H: Hasher>(&self, state: &mut H) {
        for actor in 0..self.ids.len() {
            self.hash_call(actor, state);
            self.messages(actor).hash(state);
        }
    }
}
