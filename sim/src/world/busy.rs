//! Bounded work: what the handler asks for while nothing changes. Owns the count of calls that
//! come to nothing, what counts as a change, and when they are too many.
//!
//! A call comes to nothing if it is refused, wakes nobody, or tells what was told already: a poll,
//! a read of the source. It is counted with those like it, about the same page, until something
//! changes: a step of anybody but the handler, the clock, a mishap, or what one of the handler's
//! own calls does to the kernel. A handler that waits makes few such calls, however its threads
//! are moved. One that does not wait makes as many as it is given time for.
//!
//! So that this says something of the handler and nothing of who moves whom, a *round* has to go
//! with each call: every thread of the handler that could move has moved.

use shims::Addr;

use super::moves::Move;
use super::{Failure, page_index};
use crate::copy::copy_by_field;
use crate::kernel::{Did, Ret};

/// Calls of one kind about one page that may come to nothing, if the scenario says nothing else.
pub const BUSY: u32 = 100;

/// Those that make one call the same as another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Asked {
    /// The call.
    pub(super) what: &'static str,
    /// The page it is about.
    pub(super) page: Option<u64>,
}

/// A call as the kernel has it: its name, and the address it is about.
pub(super) type Asks = Option<(&'static str, Option<Addr>)>;

impl Asked {
    pub(super) fn of(asks: Asks) -> Option<Asked> {
        let (what, addr) = asks?;
        Some(Asked { what, page: addr.and_then(page_index) })
    }
}

/// Rounds: in each, every thread of the handler that could move has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Rounds {
    pub(super) count: u32,
    /// Those that could move when this one began, could ever since, and have not.
    owed: u64,
}

impl Rounds {
    /// Thread `i` has moved; `movable` can now.
    pub(super) fn moved(&mut self, i: usize, movable: u64) {
        self.owed &= !(1 << i);
        self.owed &= movable;
        if self.owed == 0 {
            self.count += 1;
            self.owed = movable;
        }
    }
}

/// The calls that came to nothing since something changed.
#[derive(PartialEq, Eq, Debug, Default)]
pub(super) struct Vain {
    calls: Vec<(Asked, u32)>,
    /// One of them was made twice. Rounds are counted from then on: to ask who could move costs.
    repeats: bool,
    rounds: Rounds,
}

copy_by_field! {
    Vain copies { calls, repeats, rounds }
}

/// What a step of the handler is to the world.
enum Effect {
    Changes,
    /// It ends a call that came to nothing.
    Vain,
    Neither,
}

impl Vain {
    /// Something has changed.
    #[inline]
    pub(super) fn forget(&mut self) {
        if !self.calls.is_empty() {
            self.calls.clear();
            self.repeats = false;
            self.rounds = Rounds::default();
        }
    }

    /// Was a call made again for nothing?
    #[inline]
    pub(super) fn repeats(&self) -> bool {
        self.repeats
    }

    /// A thread of the handler has made a step, in the call `asks` if in one.
    #[inline(always)]
    pub(super) fn note(&mut self, did: &Move, asks: Asks) {
        match did {
            Move::Handler(note) if note.asks => {
                self.count(Some(Asked { what: note.what, page: note.page }));
            }
            Move::Kernel(did) => match effect(did, asks) {
                Effect::Changes => self.forget(),
                Effect::Vain => self.count(Asked::of(asks)),
                Effect::Neither => {}
            },
            _ => {}
        }
    }

    #[inline(never)]
    fn count(&mut self, asked: Option<Asked>) {
        let Some(asked) = asked else { return };
        match self.calls.iter_mut().find(|(call, _)| *call == asked) {
            Some((_, times)) => {
                *times += 1;
                self.repeats = true;
            }
            None => self.calls.push((asked, 1)),
        }
    }

    /// Thread `i` has moved, with calls in vain behind it. Is it too much?
    pub(super) fn judge(&mut self, i: usize, limit: u32, movable: u64) -> Option<Failure> {
        if !self.repeats {
            return None;
        }
        self.rounds.moved(i, movable);
        if self.rounds.count < limit {
            return None;
        }
        let (call, times) = *self.calls.iter().find(|(_, times)| *times > limit)?;
        Some(Failure::Busy { call: call.what, page: call.page, times })
    }
}

#[inline(always)]
fn effect(did: &Did, asks: Asks) -> Effect {
    match did {
        Did::Answer { woken: 0, outcome } => {
            let wakes = || asks.is_some_and(|(what, _)| what == "wake");
            if outcome.errno.is_some() || wakes() { Effect::Vain } else { Effect::Neither }
        }
        Did::Return(Ret::Err(_) | Ret::Read(0)) => Effect::Vain,
        Did::Return(_)
        | Did::WakeAll { woken: 0 }
        | Did::PassGate
        | Did::NextMapping
        | Did::FindEmpty { .. }
        | Did::LetGo { .. } => Effect::Neither,
        _ => Effect::Changes,
    }
}
