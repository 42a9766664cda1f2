//! Fairness: faults that the handler has taken and serves younger ones before. Owns the order in
//! which they were taken, how often each was passed over, and when that does not count.
//!
//! A fault is passed over when one that was taken later is served while it waits. That does not
//! count
//!
//! - for [`PAUSE`] after its own install met `EAGAIN`: the handler is to wait a little then;
//! - while its page is fetched, or was refused for another reason: how long that takes, or is to
//!   be waited, is for the handler to say;
//! - unless the handler had time to turn to it since the last time: every thread that could move
//!   has made [`SPELL`] steps.

use core::time::Duration;

use shims::{Errno, Event, Time};

use super::busy::{Asked, Rounds};
use super::moves::Move;
use super::{Failure, page_index};
use crate::copy::copy_by_field;
use crate::kernel::Did;

/// How often a fault may be passed over, if the scenario says nothing else.
pub const STARVED: u32 = 100;

/// How long a handler may wait after `EAGAIN`; ours waits for a fifth of that at most.
const PAUSE: Duration = Duration::from_millis(10);

/// Steps that every thread makes between two times that count.
const SPELL: u32 = 8;

/// A fault that was taken and is not served.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Waiting {
    page: u64,
    passed: u32,
    /// The rounds there were at the last time.
    at: u32,
    excuse: Excuse,
}

/// Why it may be passed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Excuse {
    None,
    /// `EAGAIN`, at that time.
    PutOff(Time),
    /// Its page is not to be had.
    Wants,
}

/// Those that wait, the oldest first.
#[derive(PartialEq, Eq, Debug, Default)]
pub(super) struct Turns {
    waiting: Vec<Waiting>,
    rounds: Rounds,
    /// Somebody was passed over.
    counts: bool,
}

copy_by_field! {
    Turns copies { waiting, rounds, counts }
}

impl Turns {
    /// Could a step of the handler be of any interest?
    #[inline]
    pub(super) fn cares(&self, did: &Move) -> bool {
        match did {
            Move::Kernel(Did::Take(Event::Fault(_))) => true,
            Move::Kernel(
                Did::Take(_)
                | Did::Install { .. }
                | Did::Unprotect { .. }
                | Did::Poison { .. }
                | Did::Answer { .. },
            ) => !self.waiting.is_empty(),
            Move::Handler(note) => note.asks && !self.waiting.is_empty(),
            _ => false,
        }
    }

    /// A thread of the handler has made a step of [interest](Turns::cares), in the call `asked` if in
    /// one.
    pub(super) fn note(&mut self, did: &Move, asked: Option<Asked>, now: Time) {
        match did {
            Move::Kernel(Did::Take(Event::Fault(fault))) => {
                if let Some(page) = page_index(fault.addr) {
                    let (passed, at, excuse) = (0, 0, Excuse::None);
                    self.waiting.push(Waiting { page, passed, at, excuse });
                }
            }
            Move::Kernel(did) => self.note_kernel(did, asked, now),
            Move::Handler(note) if note.asks && note.page.is_some() => {
                self.excuse(note.page, Excuse::Wants);
            }
            _ => {}
        }
    }

    fn note_kernel(&mut self, did: &Did, asked: Option<Asked>, now: Time) {
        let page = asked.and_then(|asked| asked.page);
        match did {
            // Nobody is owed anything at an address that is another's now.
            Did::Take(Event::Unmap(_) | Event::Remap { .. } | Event::Fork { .. }) => {
                *self = Turns::default();
            }
            Did::Install { page, .. } | Did::Unprotect { page } | Did::Poison { page } => {
                self.served(page_index(*page), now);
            }
            Did::Answer { outcome, .. } => match outcome.errno {
                Some(Errno::EAGAIN) => self.excuse(page, Excuse::PutOff(now)),
                Some(Errno::ENOMEM) => self.excuse(page, Excuse::Wants),
                // It is there, or gone, or woken for: whoever waits for it is no longer passed over.
                _ => self.waiting.retain(|one| Some(one.page) != page),
            },
            _ => {}
        }
    }

    fn excuse(&mut self, page: Option<u64>, excuse: Excuse) {
        for one in self.waiting.iter_mut().filter(|one| Some(one.page) == page) {
            one.excuse = excuse;
        }
    }

    fn served(&mut self, page: Option<u64>, now: Time) {
        let youngest = self.waiting.iter().rposition(|one| Some(one.page) == page);
        let Some(youngest) = youngest else { return };
        for one in self.waiting[..youngest].iter_mut().filter(|one| Some(one.page) != page) {
            let turn = match one.excuse {
                Excuse::None => true,
                Excuse::PutOff(then) => now >= then.after(PAUSE),
                Excuse::Wants => false,
            };
            if turn && (one.passed == 0 || self.rounds.count >= one.at + SPELL) {
                one.passed += 1;
                one.at = self.rounds.count;
                self.counts = true;
            }
        }
        self.waiting.retain(|one| Some(one.page) != page);
        self.counts &= !self.waiting.is_empty();
    }

    /// Was somebody passed over who waits?
    #[inline]
    pub(super) fn counts(&self) -> bool {
        self.counts
    }

    /// Thread `i` has moved while somebody was passed over. Was he too often?
    pub(super) fn judge(&mut self, i: usize, limit: u32, movable: u64) -> Option<Failure> {
        if !self.counts {
            return None;
        }
        self.rounds.moved(i, movable);
        let one = self.waiting.iter().find(|one| one.passed > limit)?;
        Some(Failure::Starved { page: one.page, times: one.passed })
    }
}
