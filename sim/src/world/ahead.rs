//! Which steps can go before everything else, and which can wait: states that a search need not
//! visit. Owns the conditions, and why they hold.
//!
//! *First.* A step that nothing touches which anybody else can do before it leads to the same
//! states whenever it is taken: it is a persistent set by itself (Godefroid, LNCS 1032, section
//! 4). What others can do is told too large: tasks by the rest of their programs, the handler
//! by the pages it has been told of. A step after which a run is over is never taken first, so
//! no failure of another is hidden; and since each of these steps brings its program further,
//! none can be taken first for ever, and nobody is ignored.
//!
//! *Together.* An ioctl looks at the gate twice, without a lock and with it, and says the same
//! if it finds it shut either time. Whoever passes the first look can be taken to do so right
//! before the second (Lipton, "Reduction", CACM 18(12), 1975). So the two are one step, and the
//! first has the footprint of both.
//!
//! *Late.* A task that is about to look at a page for which it will ask, to queue a message, or
//! to sleep behind that, can wait for as long as no step of anybody else could tell: the first of
//! their steps in any run comes out the same before those of the late ones and behind them, so
//! every run can begin with it (a source set: Abdulla, Aronsson, Jonsson and Sagonas, POPL 2014).
//! Who is late must go on by itself no further than to sleep, and the others must not bring its
//! page meanwhile: who sleeps already misses that, and if nobody wakes it, for ever.

use shims::{Addr, Request};

use super::memory::Memory;
use super::mishap::Mishap;
use super::plan::Rest;
use super::program::Op;
use super::subject::{Manner, Reading, Subject};
use super::{Task, World};
use crate::explore::bits;
use crate::kernel::{Asks, At, Resolving, ThreadId, page_bits};

/// Why a task need not move yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Late {
    /// It is about to look at a page for which it will ask, because the page is missing.
    Looking,
    /// The same, because the page is protected.
    Refused,
    /// It is about to sleep.
    Drowsy,
    /// It is about to tell the handler something, and then to sleep until the handler has acted.
    Telling,
}

impl<S: Subject> World<S> {
    /// Can the next step of `actor`, who can move, go before everything else?
    pub fn goes_first(&self, actor: usize) -> bool {
        let first = self.tasks.len();
        if self.subject.manner() == Manner::Unknown || !self.kernel.is_simple() {
            false
        } else if actor < first {
            self.task_goes_first(actor)
        } else {
            actor < self.clock_actor() && self.subject_goes_first(actor - first)
        }
    }

    /// Is `actor`, who can move, between two steps that are one for a search: can it be taken to
    /// have made the step before this one just now?
    pub fn goes_on(&self, actor: usize) -> bool {
        let Some(i) = actor.checked_sub(self.tasks.len()) else { return false };
        let Some(thread) = self.subject_threads.get(i) else { return false };
        matches!(self.kernel.resolving(*thread), Some((_, Resolving::Passed)))
            && self.subject.manner() != Manner::Unknown
            && self.kernel.is_simple()
            && self.is_steady()
    }

    /// Of the actors in `enabled`, those who need not move yet.
    pub fn put_off(&self, enabled: u64) -> u64 {
        if self.subject.manner() == Manner::Unknown || !self.kernel.is_simple() || !self.is_steady()
        {
            return 0;
        }
        let late: Vec<(usize, Late, Option<u64>)> = bits(enabled)
            .take_while(|i| *i < self.tasks.len())
            .filter_map(|i| self.lateness(i).map(|(late, page)| (i, late, page)))
            .collect();
        if late.is_empty() {
            return 0;
        }
        let movers = enabled & ((1 << self.clock_actor()) - 1);
        let others = late.iter().fold(movers, |others, (i, ..)| others & !(1 << i));
        // Whoever moves before them must not bring the page: who sleeps already misses that. Nor
        // take it, if what is asked for depends on its being there.
        let stays = |late: Late, page: Option<u64>| {
            page.is_none_or(|page| {
                !bits(others).any(|other| {
                    self.may_bring(other, page)
                        || (late == Late::Refused && self.may_take(other, page))
                })
            })
        };
        let (mut drowsy, mut telling) = (0, 0);
        for (i, late, _) in late.into_iter().filter(|(_, late, page)| stays(*late, *page)) {
            match late {
                Late::Drowsy => drowsy |= 1 << i,
                Late::Telling | Late::Looking | Late::Refused => telling |= 1 << i,
            }
        }
        if telling != 0 && self.nobody_notices(drowsy | telling, movers) {
            return drowsy | telling;
        }
        if movers & !drowsy != 0 { drowsy } else { 0 }
    }

    /// Can the next step of `actor` make `page` there, or take its protection away?
    fn may_bring(&self, actor: usize, page: u64) -> bool {
        if let Some(thread) = actor.checked_sub(self.tasks.len()) {
            let resolves = self.kernel.resolving(self.subject_threads[thread]);
            return resolves.is_some_and(|(request, at)| {
                // Who has passed the gate goes on at once, before anybody is put off.
                matches!(at, Resolving::Entering | Resolving::Filling)
                    && !matches!(request, Request::Wake { .. })
                    && request.range().contains(Addr::new(page << 12))
            });
        }
        let now = self.setup.programs[actor].ops.get(self.tasks[actor].at);
        let passive =
            matches!(now, Some(Op::DontNeed { .. } | Op::Post(_) | Op::Await(_) | Op::Control(_)));
        !passive && (self.place.memory != Memory::Anon || !self.looks_elsewhere(actor, page))
    }

    /// Can the next step of `actor`, if it brings nothing, make `page` go?
    fn may_take(&self, actor: usize, page: u64) -> bool {
        let Some(task) = self.tasks.get(actor) else { return false };
        match self.setup.programs[actor].ops.get(task.at) {
            Some(Op::DontNeed { range, .. }) => range.contains(Addr::new(page << 12)),
            _ => false,
        }
    }

    /// Is a task at an access to another page, or behind its look at this one?
    fn looks_elsewhere(&self, i: usize, page: u64) -> bool {
        let task = &self.tasks[i];
        let at = |other: u64| self.setup.addr(other).raw() >> 12;
        if self.kernel.idle(task.thread) {
            return match self.setup.programs[i].ops.get(task.at) {
                Some(Op::Read { page: other, .. } | Op::Write { page: other, .. }) => {
                    at(*other) != page
                }
                Some(Op::Populate { range, .. }) => range.start.raw() >> 12 != page,
                _ => false,
            };
        }
        match self.kernel.whereabouts(task.thread) {
            At::Look(other) => other != page,
            At::Queue { .. } | At::Woken { .. } | At::Drowsy { .. } => true,
            At::Asleep { .. } | At::Elsewhere => false,
        }
    }

    /// Is a task about to do nothing but to tell the handler something and to sleep? With the
    /// page that it is about, if it is one.
    fn lateness(&self, i: usize) -> Option<(Late, Option<u64>)> {
        let task = &self.tasks[i];
        let look = |page: u64, write: bool| {
            let asks = self.kernel.asks(self.mm_of(task.process), page, write)?;
            let late = match asks {
                Asks::Missing => Late::Looking,
                Asks::Protected => Late::Refused,
            };
            Some((late, Some(page)))
        };
        if self.kernel.idle(task.thread) {
            let page = |page: u64| self.setup.addr(page).raw() >> 12;
            return match self.setup.programs[i].ops.get(task.at)? {
                Op::Read { page: at, .. } => look(page(*at), false),
                Op::Write { page: at, .. } => look(page(*at), true),
                Op::Populate { range, write, .. } => look(range.start.raw() >> 12, *write),
                _ => None,
            };
        }
        match self.kernel.whereabouts(task.thread) {
            At::Drowsy { page } => return Some((Late::Drowsy, Some(page))),
            At::Queue { page, stands: true } => return Some((Late::Telling, Some(page))),
            At::Look(page) => return look(page, self.kernel.writes(task.thread)),
            _ => {}
        }
        self.kernel.announces(task.thread).then_some((Late::Telling, None))
    }

    /// Can none of those who move before `late` do tell that these have not told the handler yet
    /// what they are about to tell it?
    fn nobody_notices(&self, late: u64, movers: u64) -> bool {
        if self.hazards.is_some()
            || self.injection.is_some()
            || !self.kin.is_empty()
            || self.plan.forks
            || movers & !late == 0
            || self.kernel.ctx(self.place.ctx).is_closed()
        {
            return false;
        }
        let ctx = self.place.ctx;
        let faults = self.kernel.has_faults(ctx);
        let first = self.tasks.len();
        for i in 0..self.subject_threads.len() {
            let moves = movers >> (first + i) & 1 == 1;
            match self.subject.reading(i) {
                // It reads a fault next, and has one; or would find one, and may look for it.
                Some(Reading::Take) if !faults => return false,
                Some(Reading::Begin)
                    if self.subject.polls() && !faults && !self.kernel.has_events(ctx) =>
                {
                    return false;
                }
                Some(_) => {}
                None if !moves => {}
                None => {
                    let Some((request, at)) = self.kernel.resolving(self.subject_threads[i]) else {
                        continue;
                    };
                    let wakes = at == Resolving::Waking || matches!(request, Request::Wake { .. });
                    if wakes && self.wakes_one_of(late, &request) {
                        return false;
                    }
                }
            }
        }
        // Of the others who tell something none may be in front of those who do not yet.
        (0..first).filter(|i| movers & !late & 1 << i != 0).all(|i| {
            let task = &self.tasks[i];
            let now = self.setup.programs[i].ops.get(task.at);
            !matches!(self.kernel.whereabouts(task.thread), At::Queue { .. })
                && now.is_some_and(Rest::is_plain)
        })
    }

    fn wakes_one_of(&self, late: u64, request: &Request) -> bool {
        let range = request.range();
        let tasks = self.tasks.iter().enumerate().filter(|(i, _)| late >> i & 1 == 1);
        tasks.into_iter().any(|(i, _)| match self.lateness(i) {
            Some((_, Some(page))) => range.contains(Addr::new(page << 12)),
            _ => false,
        })
    }

    /// Does nobody take the lock of the mappings any more, or die, and is nobody made to hold still?
    pub(super) fn is_steady(&self) -> bool {
        let never = |mishap| self.setup.mishaps.times(mishap) == 0;
        !self.rests().locks && never(Mishap::Death) && never(Mishap::Lull)
    }

    /// Is the ioctl of a handler's thread about to look at the gate for the first time, and will
    /// do so together with the second?
    pub(super) fn looks_twice(&self, thread: ThreadId) -> bool {
        matches!(self.kernel.resolving(thread), Some((_, Resolving::Entering)))
            && self.subject.manner() != Manner::Unknown
            && self.kernel.is_simple()
            && self.is_steady()
    }

    /// What is left to do for all tasks but those `without`.
    fn rests_but(&self, without: impl Fn(usize, &Task) -> bool) -> Rest {
        let tasks = self.tasks.iter().enumerate();
        tasks
            .filter(|(i, task)| !without(*i, task))
            .map(|(i, task)| self.plan.rest(i, task.at))
            .fold(Rest::default(), Rest::and)
    }

    fn rests(&self) -> Rest {
        self.rests_but(|_, _| false)
    }

    /// Is everything that can still happen to a page told by the rests of the tasks and the
    /// faults that the handler is told of? Processes beside have memory of files only.
    fn is_plain(&self) -> bool {
        self.subject.manner() == Manner::Told
            && self.hazards.is_none()
            && self.injection.is_none()
            && self.place.memory == Memory::Anon
            && !self.plan.forks
            && !self.kernel.ctx(self.place.ctx).is_closed()
            && !self.rests().meddles
    }

    /// Can the handler do anything about `page` without another message?
    fn is_minded(&self, page: u64) -> bool {
        self.subject.minds(Addr::new(page << 12), self.threads())
    }

    fn task_goes_first(&self, i: usize) -> bool {
        let task = &self.tasks[i];
        if !self.kernel.idle(task.thread) {
            return match self.kernel.whereabouts(task.thread) {
                At::Woken { page } => self.is_steady() && self.nobody_replaces(i, page),
                At::Look(page) => self.look_goes_first(i, page),
                _ => false,
            };
        }
        match self.setup.programs[i].ops.get(task.at) {
            // Who awaits the label could not move before, and it is never taken back.
            Some(Op::Post(_) | Op::Await(_)) => self.hazards.is_none(),
            Some(Op::Read { page, .. } | Op::Write { page, .. }) => {
                self.look_goes_first(i, self.setup.addr(*page).raw() >> 12)
            }
            Some(Op::Populate { range, .. }) => self.look_goes_first(i, range.start.raw() >> 12),
            _ => false,
        }
    }

    /// A step of a task at F3 that will not sleep is its own affair, but for a write by somebody
    /// else who can tell that it is about to look (c10).
    fn nobody_replaces(&self, i: usize, page: u64) -> bool {
        let bit = page_bits(page << 12, (page + 1) << 12);
        let others = self.rests_but(|other, _| other == i);
        others.touches & bit == 0
            || (self.is_plain() && others.takes == 0 && !self.kernel.may_be_replaced(self.mm, page))
    }

    /// F1 finds the same whatever the others do: nobody else touches the page, or waits for it,
    /// which is to touch it, or gives it up unless it is missing anyway; and the handler has not
    /// been told of it.
    fn look_goes_first(&self, i: usize, page: u64) -> bool {
        if !self.is_plain() {
            return false;
        }
        let bit = page_bits(page << 12, (page + 1) << 12);
        let others = self.rests_but(|other, _| other == i);
        if others.touches & bit != 0 || self.is_minded(page) {
            return false;
        }
        if self.kernel.will_ask(self.mm, page) {
            return true;
        }
        others.takes & bit == 0 && {
            let mut after = self.clone();
            after.apply(i);
            after.failure.is_none()
        }
    }

    fn subject_goes_first(&self, i: usize) -> bool {
        let thread = self.subject_threads[i];
        match self.kernel.resolving(thread) {
            // It gives its locks back, and nobody comes who would wait for them.
            Some((_, Resolving::Through)) => {
                let rests = self.rests();
                rests.takes == 0 && !rests.meddles && self.is_steady()
            }
            Some((request, at)) => self.is_plain() && self.nobody_sees(&request, at),
            None => self.is_plain() && self.reader_goes_first(i),
        }
    }

    /// Does everybody who may touch the pages of an ioctl sleep for one of them, so that nobody
    /// can tell when it is done? The gate stays open: nobody gives anything up.
    fn nobody_sees(&self, request: &Request, at: Resolving) -> bool {
        let range = request.range();
        let start = range.start.raw();
        let Some(end) = range.end() else { return false };
        let wakes = at == Resolving::Waking || matches!(request, Request::Wake { .. });
        let sleeps = |task: &Task| match self.kernel.whereabouts(task.thread) {
            // Who has not been read about yet can be read about before or after a wake.
            At::Asleep { page, taken } => {
                (start..end.raw()).contains(&(page << 12)) && (taken || !wakes)
            }
            _ => false,
        };
        let awake = self.rests_but(|_, task| sleeps(task));
        self.rests().takes == 0 && awake.touches & page_bits(start, end.raw()) == 0
    }

    /// What the reader does next comes out the same whatever the others do.
    fn reader_goes_first(&self, i: usize) -> bool {
        // The fault that is read next goes on waiting: nobody does anything about its page.
        let stays =
            || self.kernel.next_fault(self.place.ctx).is_some_and(|page| !self.is_minded(page));
        match self.subject.reading(i) {
            Some(Reading::Take) => stays(),
            Some(Reading::Begin) => {
                self.subject.at_rest() && (stays() || self.kernel.has_events(self.place.ctx))
            }
            Some(Reading::End) => self.subject.at_rest(),
            None => false,
        }
    }
}
