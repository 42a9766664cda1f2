//! Goals: what a campaign ought to meet at least once. A race window that no run enters is a
//! window that nothing was tested in. Owns the list and the eye for it.

use shims::{Errno, Event};

use super::{Chooser, Outcome, end};
use crate::kernel::{Did, Ret, Signal};
use crate::world::{Mishap, Move, Subject, World, page_index};

/// The goals, by number.
pub const GOALS: &[&str] = &[
    "a thread sleeps on its fault",
    "a thread finds at its last look that it need not sleep (F3)",
    "a fault is read before an event that was queued earlier (a11)",
    "a read takes several messages at once",
    "a read finds nothing (EAGAIN)",
    "an install meets a closed gate (EAGAIN)",
    "the gate closes between an ioctl's two looks at it (e1)",
    "an install lands between an acknowledgement and the zap (d8)",
    "a zap wipes a page that was installed since its REMOVE was read (d8)",
    "an install finds a page (EEXIST)",
    "an install finds no mapping (ENOENT)",
    "an install wakes nobody",
    "an install wakes several threads",
    "two removals are under way at once",
    "a call waits for a lock",
    "a timer expires while something else could happen",
    "an access is refused (SIGSEGV)",
    "UNREGISTER passes by a fault on its way into the queue (b13)",
    "an ioctl finds its process gone (ESRCH)",
    "an install is asked for behind the end of its file (EFAULT)",
    "a call of the process finds no mapping (ENOMEM)",
    "a call of the process is refused (EINVAL)",
    "an access is refused (SIGBUS)",
    "a message tells of an UNMAP",
    "a message tells of a REMAP",
    "a message tells of a FORK",
    "a thread meets a page that is cached and not mapped (minor)",
    "a thread meets a page that is protected (WP)",
    "a page is protected that was written",
    "a page leaves its file",
    "a call goes on to another mapping",
    "a mishap: a poll was for nothing",
    "a mishap: a read takes one message of several",
    "a mishap: an install meets EAGAIN",
    "a mishap: an install meets ENOMEM",
    "a mishap: the source fails",
    "a mishap: the source gives too little",
    "a mishap: the source is late",
    "a mishap: the source panics",
    "a mishap: the handler is asked to stop",
    "a mishap: the process is killed",
    // What the handler records of a page: every change there can be.
    "missing becomes clean",
    "missing becomes dirty",
    "missing becomes removed",
    "clean becomes dirty",
    "clean becomes missing",
    "clean becomes removed",
    "dirty becomes clean",
    "dirty becomes missing",
    "dirty becomes removed",
    "zero becomes dirty",
    "zero becomes removed",
    "removed becomes zero",
    "removed becomes dirty",
];

/// The first of the goals that are a change of what the handler records.
const CHANGES: usize = 41;

/// The goals that mishaps are.
const STRUCK: [(Mishap, usize); 10] = [
    (Mishap::Nothing, 31),
    (Mishap::ShortBatch, 32),
    (Mishap::Changing, 33),
    (Mishap::NoMemory, 34),
    (Mishap::SourceError, 35),
    (Mishap::SourceShort, 36),
    (Mishap::SourceLate, 37),
    (Mishap::Panic, 38),
    (Mishap::Shutdown, 39),
    (Mishap::Death, 40),
];

/// The goals that were met, a bit each, and what the eye has to remember of the run so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Goals {
    met: u64,
}

/// An eye on one run.
#[derive(Clone, Debug, Default)]
struct Eye {
    /// Actors whose ioctl has passed the gate, and not gone on.
    passed: u64,
    /// Actors that are about to queue a fault.
    missed: u64,
    /// Pages that were installed in the window.
    risky: u64,
    /// What the handler records of each page.
    records: Vec<&'static str>,
}

impl Goals {
    /// The numbers of the goals that were met.
    pub fn met(self) -> impl Iterator<Item = usize> {
        super::bits(self.met)
    }

    /// Those that were not.
    pub fn unmet(self) -> impl Iterator<Item = usize> {
        (0..GOALS.len()).filter(move |goal| self.met >> goal & 1 == 0)
    }

    /// Was this goal met?
    pub fn has(self, goal: usize) -> bool {
        self.met >> goal & 1 == 1
    }

    /// Those that either has met.
    #[must_use]
    pub fn and(self, other: Goals) -> Goals {
        Goals { met: self.met | other.met }
    }

    /// The goal of this name was met; false if there is none.
    pub fn meet(&mut self, name: &str) -> bool {
        let goal = GOALS.iter().position(|goal| *goal == name);
        self.met |= goal.map_or(0, |goal| 1 << goal);
        goal.is_some()
    }
}

/// Run `world` to its end, as [`run`](super::run) does, with an eye on the goals.
pub fn run_watched<S: Subject>(
    world: &mut World<S>,
    chooser: &mut impl Chooser,
    goals: &mut Goals,
) -> Outcome {
    let mut eye = Eye::default();
    loop {
        let enabled = world.enabled();
        if enabled == 0 {
            break;
        }
        let actor = chooser.choose(enabled);
        let waiting = world.kernel().ctx(world.ctx()).events_unread() > 0;
        let did = world.apply(actor);
        let others = enabled & !(1 << actor);
        let met = eye.look(world, actor, &did, waiting, others != 0);
        goals.met |= met;
        // A task's step in the kernel is none of the handler's, which alone writes its records.
        if actor >= world.setup().programs.len() || !matches!(did, Move::Kernel(_)) {
            goals.met |= eye.changes(world);
        }
    }
    end(world)
}

impl Eye {
    /// The goals that this step meets.
    fn look<S: Subject>(
        &mut self,
        world: &World<S>,
        actor: usize,
        did: &Move,
        events_waited: bool,
        others_could: bool,
    ) -> u64 {
        let me = 1u64 << actor;
        let passed = self.passed & me != 0;
        self.passed &= !me;
        self.missed &= !me;
        let goal = |n: usize| 1u64 << n;
        let did = match did {
            Move::Mishap(mishap) => {
                let struck = STRUCK.iter().find(|(kind, _)| kind == mishap);
                return struck.map_or(0, |(_, n)| goal(*n));
            }
            Move::Begin => return goal(14),
            Move::Clock(_) => return if others_could { goal(15) } else { 0 },
            Move::Kernel(did) => did,
            _ => return 0,
        };
        let ctx = world.kernel().ctx(world.ctx());
        match did {
            Did::Miss { .. } => {
                self.missed |= me;
                0
            }
            Did::Sleep { .. } => goal(0),
            Did::SkipSleep { .. } => goal(1),
            Did::Take(Event::Fault(_)) if events_waited => goal(2),
            Did::Take(Event::Unmap(_)) => goal(23),
            Did::Take(Event::Remap { .. }) => goal(24),
            Did::Take(Event::Fork { .. }) => goal(25),
            Did::MissMinor { .. } => goal(26),
            Did::Trap { .. } => goal(27),
            Did::Protect { .. } => goal(28),
            Did::Drop { .. } => goal(29),
            Did::NextMapping => goal(30),
            Did::Return(Ret::Read(count)) if *count > 1 => goal(3),
            Did::Return(Ret::Err(Errno::EAGAIN)) => goal(4),
            Did::Return(Ret::Err(Errno::ENOMEM)) => goal(20),
            Did::Return(Ret::Err(Errno::EINVAL)) => goal(21),
            Did::PassGate => {
                self.passed |= me;
                0
            }
            Did::Install { page, .. } => {
                let Some(page) = page_index(*page) else { return 0 };
                if world.is_being_removed(page) && ctx.changing() == 0 {
                    self.risky |= 1 << (page % 64);
                    return goal(7);
                }
                0
            }
            Did::Zap { page, .. } => {
                let bit = page_index(*page).map_or(0, |page| 1 << (page % 64));
                let wiped = self.risky & bit != 0;
                self.risky &= !bit;
                if wiped { goal(8) } else { 0 }
            }
            Did::RaiseChanging { changing, .. } if *changing > 1 => goal(13),
            Did::Raise(Signal::SegvMapErr | Signal::SegvAccErr) => goal(16),
            Did::Raise(Signal::BusAdrErr | Signal::BusPoison) => goal(22),
            Did::WakeAll { .. } if self.missed != 0 => goal(17),
            Did::Answer { woken, outcome } => match outcome.errno {
                Some(Errno::EAGAIN) if passed => goal(6) | goal(5),
                Some(Errno::EAGAIN) => goal(5),
                Some(Errno::EEXIST) => goal(9),
                Some(Errno::ENOENT) => goal(10),
                Some(Errno::ESRCH) => goal(18),
                Some(Errno::EFAULT) => goal(19),
                None if *woken == 0 => goal(11),
                None if *woken > 1 => goal(12),
                _ => 0,
            },
            _ => 0,
        }
    }

    /// The goals that are changes of what the handler records, since the last look.
    fn changes<S: Subject>(&mut self, world: &World<S>) -> u64 {
        let mut met = 0;
        let pages = world.setup().pages as usize;
        self.records.resize(pages, "missing");
        for (page, old) in self.records.iter_mut().enumerate() {
            let new = world.subject().state_name(page as u64);
            // One name is one place in the program, so mostly the texts are not looked at.
            if !core::ptr::eq(new, *old) && new != *old {
                let change = |goal: &&str| {
                    let rest = goal.strip_prefix(*old);
                    rest.and_then(|rest| rest.strip_prefix(" becomes ")) == Some(new)
                };
                let goal = GOALS[CHANGES..].iter().position(change);
                met |= goal.map_or(0, |goal| 1 << (CHANGES + goal));
                *old = new;
            }
        }
        met
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_changes_of_records_are_the_last_goals() {
        let is_change = |goal: &&str| goal.contains(" becomes ");
        assert!(GOALS[CHANGES..].iter().all(is_change));
        assert!(!GOALS[..CHANGES].iter().any(is_change));
    }
}
