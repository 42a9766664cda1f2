//! Many acts in a row, done by a puppet without being told each: what a race needs, in which
//! nobody may wait for a string to be pulled. Owns the lines of a script and how they are
//! played; a script lies in the scratch memory.
//!
//! Like the rest of a puppet's end this neither allocates nor panics nor takes a lock.

use core::sync::atomic::{AtomicU64, Ordering};

use linux_raw_sys::general as sys;

use super::super::vma_probe::{raw, result};
use super::stage::{self, Forked};
use super::{Act, Answer, Raised, Slot, Stage};

/// Words of one line.
pub const LINE: u64 = 16;

/// Wait until `.1` threads have come to the word at `.0`.
const BARRIER: u64 = 16;
/// Look up to `.1` times whether the `pollfd` at `.0` has something.
const SPIN_POLL: u64 = 17;

/// Where the answers are in a line, behind the kind and seven arguments.
const VALUE: u64 = 8;
const WORD: u64 = 9;
const SIGNAL: u64 = 10;
const DONE: u64 = 13;
/// How often to spin before the line.
const DELAY: u64 = 14;

/// Something in a script.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Line {
    /// What a puppet can do by itself; not [`Act::Spawn`].
    Act(Act),
    /// A store of one word, which is one access.
    StoreWord {
        /// Where.
        addr: u64,
        /// What.
        word: u64,
    },
    /// Wait until so many threads have come to the word at that offset of the scratch memory.
    Barrier {
        /// The offset of the word.
        at: u64,
        /// How many.
        count: u64,
    },
    /// Look up to `tries` times whether the `pollfd` at that address has something.
    SpinPoll {
        /// The address.
        at: u64,
        /// How often.
        tries: u64,
    },
}

impl Stage {
    /// Write `line` as the `index`th of the script at `offset` of the scratch memory, to be
    /// begun `delay` turns of an empty loop after the one before.
    pub fn put_line(&self, offset: u64, index: u64, line: Line, delay: u64) {
        let (kind, args) = match line {
            Line::Act(act) => act.words(),
            Line::StoreWord { addr, word } => (stage::STORE, [addr, word, 0, 1, 0, 0, 0]),
            Line::Barrier { at, count } => (BARRIER, [self.scratch() + at, count, 0, 0, 0, 0, 0]),
            Line::SpinPoll { at, tries } => (SPIN_POLL, [at, tries, 0, 0, 0, 0, 0]),
        };
        let at = offset + 8 * LINE * index;
        self.set(at, kind);
        for (n, arg) in (1..).zip(args) {
            self.set(at + 8 * n, arg);
        }
        self.set(at + 8 * SIGNAL, 0);
        self.set(at + 8 * DONE, 0);
        self.set(at + 8 * DELAY, delay);
    }

    /// Another delay for a line that is there, which has not been done yet.
    pub fn rewind_line(&self, offset: u64, index: u64, delay: u64) {
        let at = offset + 8 * LINE * index;
        self.set(at + 8 * SIGNAL, 0);
        self.set(at + 8 * DONE, 0);
        self.set(at + 8 * DELAY, delay);
    }

    /// The act that plays the first `count` lines of the script at `offset`. It ends early
    /// when the word at `stop` of the scratch memory is not zero.
    pub fn script(&self, offset: u64, count: u64, stop: u64) -> Act {
        self.set(offset - 8, self.scratch() + stop);
        Act::Script(self.scratch() + offset, count)
    }

    /// What came of a line, if it has been done.
    pub fn line(&self, offset: u64, index: u64) -> Option<Answer> {
        let at = offset + 8 * LINE * index;
        if self.get(at + 8 * DONE) == 0 {
            return None;
        }
        let [number, code, addr] = [0, 1, 2].map(|n| self.get(at + 8 * (SIGNAL + n)));
        let raised = Raised { number: number as u32, code: code as i32, addr };
        Some(Answer {
            value: result(self.get(at + 8 * VALUE)),
            words: [self.get(at + 8 * WORD), 0],
            signal: (number != 0).then_some(raised),
        })
    }

    /// Put a word at `offset` of the scratch memory.
    pub fn set(&self, offset: u64, word: u64) {
        self.word(offset).store(word, Ordering::Release);
    }
}

/// Where a script has come to its end.
pub(super) enum Ended {
    /// Where it began; so many lines were done.
    Here(u64),
    /// In a new process, whose thread is in this slot.
    Elsewhere(*mut Slot),
}

/// Play the script whose first line is at `at`. The word before it says where the word is that
/// stops it.
///
/// # Safety
///
/// What the lines name may be touched.
pub(super) unsafe fn play(slot: &Slot, at: u64, count: u64) -> Ended {
    // SAFETY: the scratch memory is mapped for as long as the puppet lives, and is accessed by
    // atomics only.
    let word =
        |addr: u64| unsafe { &*core::ptr::with_exposed_provenance::<AtomicU64>(addr as usize) };
    let stop = word(word(at.wrapping_sub(8)).load(Ordering::Relaxed));
    let mut done = 0;
    while done < count && stop.load(Ordering::Acquire) == 0 {
        let line = at.wrapping_add(done.wrapping_mul(8 * LINE));
        let place = |n: u64| word(line.wrapping_add(8 * n));
        for _ in 0..place(DELAY).load(Ordering::Relaxed) {
            core::hint::spin_loop();
        }
        let kind = place(0).load(Ordering::Relaxed);
        let mut a = [0_u64; 7];
        for (n, value) in (1..).zip(&mut a) {
            *value = place(n).load(Ordering::Relaxed);
        }
        slot.signal[0].store(0, Ordering::Release);
        let value = match kind {
            BARRIER => barrier(word(a[0]), a[1], stop),
            // SAFETY: the caller's promise.
            SPIN_POLL => unsafe { spin_poll(a[0], a[1]) },
            // SAFETY: the caller's promise.
            stage::FORK => match unsafe { stage::fork(a[0], a[1]) } {
                Forked::Parent(pid) => pid,
                Forked::Child(other) => return Ended::Elsewhere(other),
            },
            // SAFETY: the caller's promise.
            kind => unsafe { stage::perform(slot, kind, &a) },
        };
        place(VALUE).store(value, Ordering::Relaxed);
        place(WORD).store(slot.words[0].load(Ordering::Relaxed), Ordering::Relaxed);
        for (n, part) in (SIGNAL..).zip(&slot.signal) {
            place(n).store(part.load(Ordering::Acquire), Ordering::Relaxed);
        }
        place(DONE).store(1, Ordering::Release);
        done = done.wrapping_add(1);
    }
    Ended::Here(done)
}

/// Come to `word` and wait for the others: awake for a moment, then asleep, so that nobody is
/// kept off a processor by those who wait for it.
fn barrier(word: &AtomicU64, count: u64, stop: &AtomicU64) -> u64 {
    const FUTEX_WAIT: u64 = 0;
    const FUTEX_WAKE: u64 = 1;
    /// Turns to stay awake: some ten microseconds.
    const AWAKE: u32 = 600;
    // The futex is the half of the word that counts.
    let place = core::ptr::from_ref(word) as u64;
    if word.fetch_add(1, Ordering::AcqRel).wrapping_add(1) >= count {
        // SAFETY: wakes the waiters of a live word.
        unsafe { raw(sys::__NR_futex, [place, FUTEX_WAKE, i32::MAX as u64, 0, 0, 0]) };
        return 0;
    }
    let mut turns = 0_u32;
    loop {
        let there = word.load(Ordering::Acquire);
        if there >= count || stop.load(Ordering::Acquire) != 0 {
            return 0;
        }
        if turns < AWAKE {
            core::hint::spin_loop();
            turns = turns.wrapping_add(1);
        } else {
            // Ten milliseconds: then the word that stops it is looked at.
            let timeout = [0_u64, 10_000_000];
            let args = [place, FUTEX_WAIT, there & 0xffff_ffff, &raw const timeout as u64, 0, 0];
            // SAFETY: waits on a live word; the timeout is a live `timespec`.
            unsafe { raw(sys::__NR_futex, args) };
        }
    }
}

/// Poll without waiting, up to `tries` times.
///
/// # Safety
///
/// A `pollfd` is at `at`.
unsafe fn spin_poll(at: u64, tries: u64) -> u64 {
    let mut left = tries;
    while left > 0 {
        // SAFETY: the caller's promise.
        let ready = unsafe { raw(sys::__NR_poll, [at, 1, 0, 0, 0, 0]) };
        if ready != 0 {
            return ready;
        }
        left = left.wrapping_sub(1);
    }
    0
}
