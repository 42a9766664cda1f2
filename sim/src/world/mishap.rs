//! Mishaps: what can go wrong around a handler at any moment, as choices of the search. Owns the
//! kinds, how many of each a scenario allows, when one can strike and what it does to a world.
//!
//! Each kind that a scenario allows is an actor. It can move while somebody is where it would
//! make a difference, as often as the scenario says, so a strategy weighs mishaps like
//! everything else (a swarm draws a mixture for each walk), a schedule names them, and shrinking
//! leaves out those that are not to blame. A world without mishaps keeps none of this.

use core::fmt;

use super::moves::Move;
use super::program::Injection;
use super::subject::{Standing, Subject};
use super::{Claim, Failure, Stuck, Task, World};
use crate::kernel::{Did, Sig, ThreadId};
use shims::{Errno, Outcome, Request};

macro_rules! mishaps {
    ($($name:ident $word:literal $about:literal)*) => {
        /// Something that goes wrong, through nobody's fault.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Mishap {
            $(#[doc = $about] $name,)*
        }

        impl Mishap {
            /// All of them.
            pub const ALL: &'static [Mishap] = &[$(Mishap::$name),*];

            /// How scenarios name it.
            pub const fn word(self) -> &'static str {
                match self { $(Mishap::$name => $word),* }
            }

            const fn about(self) -> &'static str {
                match self { $(Mishap::$name => $about),* }
            }

            /// The actor it is.
            pub(super) const fn actor(self) -> &'static str {
                match self { $(Mishap::$name => concat!("mishap-", $word)),* }
            }
        }
    };
}

mishaps! {
    Interrupt "eintr" "the next read is interrupted"
    Nothing "spurious" "the next read finds nothing"
    ShortBatch "short-batch" "the next read takes one message"
    Changing "eagain" "the next install meets EAGAIN"
    NoMemory "enomem" "the next install meets ENOMEM"
    SourceError "source-error" "the source fails once"
    SourceShort "source-short" "the source gives half a page once"
    SourceLate "source-late" "the source takes 10 ms once"
    Panic "panic" "the source panics once"
    Shutdown "shutdown" "the handler is asked to stop"
    Death "death" "the process is killed"
    Lull "lull" "nothing but the handler moves until it rests"
}

/// Several kinds of mishaps: a bit each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Exposed(u16);

impl Exposed {
    /// None.
    pub const NONE: Exposed = Exposed(0);
    /// All that can happen to a source that may fail.
    pub const SOURCE: Exposed = Exposed::NONE
        .to(Mishap::SourceError)
        .to(Mishap::SourceShort)
        .to(Mishap::SourceLate)
        .to(Mishap::Panic);
    /// What can happen to an install.
    pub const INSTALL: Exposed = Exposed::NONE.to(Mishap::Changing).to(Mishap::NoMemory);

    /// These and `mishap`.
    #[must_use]
    pub const fn to(self, mishap: Mishap) -> Exposed {
        Exposed(self.0 | 1 << mishap as u16)
    }

    const fn has(self, mishap: Mishap) -> bool {
        self.0 >> mishap as u16 & 1 == 1
    }
}

/// How often each kind may strike.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Mishaps([u8; Mishap::ALL.len()]);

impl Mishaps {
    /// Let `mishap` strike so often.
    pub fn allow(&mut self, mishap: Mishap, times: u8) {
        self.0[mishap as usize] = times;
    }

    /// How often `mishap` may strike.
    pub fn times(self, mishap: Mishap) -> u8 {
        self.0[mishap as usize]
    }

    /// Those that may strike at all.
    pub fn kinds(self) -> impl Iterator<Item = Mishap> {
        Mishap::ALL.iter().copied().filter(move |mishap| self.times(*mishap) > 0)
    }

    /// May none?
    pub fn is_empty(self) -> bool {
        self == Mishaps::default()
    }
}

/// The mishaps of a world in the middle of a run.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Hazards {
    /// The actors, in order.
    kinds: Vec<Mishap>,
    left: Mishaps,
    /// The handler was asked to stop.
    stopped: bool,
    /// The process was killed.
    dead: bool,
    /// Nobody but the handler moves.
    lull: bool,
    /// The thread that made the world: it lives where the tasks live, and dies with them.
    main: ThreadId,
    /// Which pages were there before its memory went.
    held: Vec<bool>,
}

impl Hazards {
    /// Those of a scenario; `None` if it allows none.
    pub(super) fn new(allowed: Mishaps, main: ThreadId) -> Option<Box<Hazards>> {
        let kinds: Vec<Mishap> = allowed.kinds().collect();
        let none = kinds.is_empty();
        let (stopped, dead, lull, held) = (false, false, false, Vec::new());
        (!none).then(|| Box::new(Hazards { kinds, left: allowed, stopped, dead, lull, main, held }))
    }

    pub(super) fn kinds(&self) -> &[Mishap] {
        &self.kinds
    }
}

impl<S: Subject> World<S> {
    /// Was the handler asked to stop?
    pub(super) fn is_stopped(&self) -> bool {
        self.hazards.as_ref().is_some_and(|hazards| hazards.stopped)
    }

    /// Was the process killed?
    pub(super) fn is_dead(&self) -> bool {
        self.hazards.as_ref().is_some_and(|hazards| hazards.dead)
    }

    /// Does everything outside the handler hold still, for as long as that has something to do?
    #[inline]
    pub(super) fn is_lull(&self) -> bool {
        self.hazards.as_ref().is_some_and(|hazards| hazards.lull)
    }

    /// Somebody else moves: the handler has come to rest.
    #[inline]
    pub(super) fn end_lull(&mut self) {
        if let Some(hazards) = &mut self.hazards {
            hazards.lull = false;
        }
    }

    /// The mishaps that can strike now, one bit each, in the order of the kinds. `enabled`: the
    /// others that can move; if nobody can, the run is over, and nothing happens to it any more.
    pub(super) fn looming(&self, hazards: &Hazards, enabled: u64) -> u64 {
        if enabled == 0 {
            return 0;
        }
        let mut exposed = Exposed::NONE;
        let handler = (1u64 << self.clock_actor()) - (1 << self.tasks.len());
        if enabled & handler != 0 {
            exposed = exposed.to(Mishap::Lull);
        }
        if self.injection.is_none() {
            for i in 0..self.subject_threads.len() {
                if enabled >> (self.tasks.len() + i) & 1 == 1 {
                    exposed.0 |= self.subject.exposed(i, self.view(i)).0;
                }
            }
        }
        if !hazards.stopped && self.subject.can_stop() {
            exposed = exposed.to(Mishap::Shutdown);
        }
        if !hazards.dead {
            exposed = exposed.to(Mishap::Death);
        }
        let mut looming = 0;
        for (n, kind) in hazards.kinds.iter().enumerate() {
            let can = exposed.has(*kind) && hazards.left.times(*kind) > 0;
            looming |= u64::from(can) << n;
        }
        looming
    }

    /// Mishap number `n` strikes.
    pub(super) fn strike(&mut self, n: usize) -> Move {
        let hazards = self.hazards.as_mut().expect("a mishap strikes where there are some");
        let kind = hazards.kinds[n];
        hazards.left.0[kind as usize] -= 1;
        match kind {
            Mishap::Shutdown => {
                hazards.stopped = true;
                self.subject.stop();
            }
            Mishap::Death => {
                hazards.dead = true;
                let main = hazards.main;
                self.kernel.signal(main, Sig::Kill);
                while self.kernel.can_step(main) {
                    self.kernel.step(main);
                }
            }
            Mishap::Lull => hazards.lull = true,
            kind => self.injection = Some(Injection::Mishap(kind)),
        }
        Move::Mishap(kind)
    }

    /// A thread of the process that was killed goes on to its end. What it loads, and what its calls
    /// return, nobody sees any more.
    pub(super) fn step_dying(&mut self, thread: ThreadId) -> Move {
        let held =
            |page| self.kernel.table(self.mm).get(self.setup.addr(page).raw() >> 12).is_present();
        let held: Vec<bool> = (0..self.setup.pages).map(held).collect();
        let hazards = self.hazards.as_mut().expect("a process dies by a mishap");
        if held.contains(&true) {
            hazards.held = held;
        }
        let did = self.kernel.step(thread);
        if !matches!(did, Did::Load { .. } | Did::Populated { .. }) {
            self.observe(0, &did);
        }
        let _ = self.kernel.take_ret(thread);
        Move::Kernel(did)
    }

    /// What is wrong with a handler whose process was killed: it may have ended or not, but owes
    /// nobody anything, and has recorded nothing that never was.
    pub(super) fn judge_survivor(&self) -> Option<Failure> {
        if let Standing::Failed(why) = self.subject.standing() {
            return Some(Failure::HandlerFailed { why });
        }
        let undead = |task: &&Task| !self.kernel.is_dead(task.thread);
        let stuck = |task: &Task| Stuck {
            task: self.setup.programs[self.place(task)].name.clone(),
            sleep: self.kernel.sleep(task.thread),
            handler: None,
            stands: None,
        };
        let stuck: Vec<Stuck> = self.tasks.iter().filter(undead).map(stuck).collect();
        if !stuck.is_empty() {
            return Some(Failure::Hang(stuck));
        }
        let faults = self.subject.outstanding();
        if faults > 0 {
            return Some(Failure::Unresolved { faults });
        }
        let held = &self.hazards.as_ref()?.held;
        (0..self.setup.pages).find_map(|page| {
            let claim = self.subject.claim(page);
            let was = held.get(page as usize).copied().unwrap_or(false);
            let wrong = claim == Claim::Present && !was && !self.was_removed(page);
            let (present, snapshot) = (false, false);
            wrong.then_some(Failure::Disagreement { page, claim, present, snapshot })
        })
    }

    /// What is wrong with a handler that was asked to stop and has not.
    pub(super) fn judge_stopped(&self) -> Option<Failure> {
        let serves = self.is_stopped() && self.subject.standing() == Standing::Serving;
        serves.then(|| {
            let stands = "was asked to stop, and serves on".to_owned();
            let handler = Stuck {
                task: "the handler".to_owned(),
                sleep: None,
                handler: None,
                stands: Some(stands),
            };
            let threads = self.subject.whereabouts().into_iter().map(Stuck::standing);
            Failure::Hang([handler].into_iter().chain(threads).collect())
        })
    }

    fn place(&self, task: &Task) -> usize {
        self.tasks.iter().position(|other| other.thread == task.thread).unwrap_or(0)
    }
}

impl super::Env<'_> {
    /// Does `mishap` strike what this thread does now? It is over then.
    pub fn mishap(&mut self, mishap: Mishap) -> bool {
        let strikes = *self.injection == Some(Injection::Mishap(mishap));
        if strikes {
            *self.injection = None;
        }
        strikes
    }

    /// What `request` meets instead of the kernel's answer, if a mishap strikes it.
    pub fn refusal(&mut self, request: &Request) -> Option<Outcome> {
        let fills = match request {
            Request::Copy { .. } | Request::Zeropage { .. } | Request::Continue { .. } => true,
            Request::WriteProtect { .. } => false,
            _ => return None,
        };
        if self.mishap(Mishap::Changing) {
            return Some(self.kernel.again(request));
        }
        (fills && self.mishap(Mishap::NoMemory)).then(|| Outcome::mirrored(Errno::ENOMEM))
    }
}

impl fmt::Display for Mishap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.about())
    }
}

impl fmt::Display for Mishaps {
    /// As the head of a scenario has them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, kind) in self.kinds().enumerate() {
            let space = if n > 0 { " " } else { "" };
            write!(f, "{space}{}", kind.word())?;
            if self.times(kind) > 1 {
                write!(f, " {}", self.times(kind))?;
            }
        }
        Ok(())
    }
}
