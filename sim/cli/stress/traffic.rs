//! The threads that read, write and remove. Owns what they do and what they check;
//! whether one of them waits for too long is the watchdog's business.

use core::fmt;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use shims::Errno;
use shims::linux::Mapping;

use super::ledger::{Ledger, Place};
use crate::clock::Stopwatch;

/// Bytes that one check of more than a word looks at.
const CHUNK: u64 = 4096;

/// What the threads share.
#[derive(Debug)]
pub struct Arena<'a> {
    /// The memory.
    pub map: &'a Mapping,
    /// The file it shows.
    pub image: &'a File,
    /// What each page may hold.
    pub ledger: Ledger,
    /// The pages that half of the traffic goes to.
    pub hot: Range<u64>,
    /// When to end.
    pub halt: Halt,
    /// Since the start.
    pub watch: Stopwatch,
    /// Nothing is to be trusted any more: the memory has been given up.
    pub abandoned: AtomicBool,
    /// The first thing that went wrong.
    pub trouble: Mutex<Option<Trouble>>,
}

/// What ends a run before its time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// A word that nothing explains, and where.
    WrongByte(String),
    /// A call that failed.
    Call(String),
    /// The image cannot be read any more.
    Image(String),
}

/// A request to end that a waiting thread notices at once.
#[derive(Debug, Default)]
pub struct Halt {
    asked: Mutex<bool>,
    bell: Condvar,
}

/// What one thread is doing, for the watchdog.
#[derive(Debug)]
pub struct Seat {
    /// The thread's name.
    pub name: String,
    doing: Mutex<Option<Doing>>,
}

/// An access or a call that has begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Doing {
    /// What.
    pub act: Act,
    /// The page it begins at.
    pub page: u64,
    /// How many pages.
    pub count: u64,
    /// When it began, since the start.
    pub since: Duration,
    /// The thread, as the kernel numbers it.
    pub tid: i32,
}

/// What a thread can do to a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// Load a word.
    Load,
    /// Load 4 KiB.
    LoadMany,
    /// `MADV_POPULATE_READ`.
    PopulateRead,
    /// Store a word.
    Store,
    /// `MADV_POPULATE_WRITE`.
    PopulateWrite,
    /// `MADV_DONTNEED`.
    Remove,
}

/// What a thread has done.
#[derive(Clone, Debug)]
pub struct Tally {
    /// How long each access took, in nanoseconds.
    pub accesses: Histogram<u64>,
    /// How long each remove took, in nanoseconds.
    pub removes: Histogram<u64>,
    /// Words and chunks read and checked.
    pub reads: u64,
    /// Words written.
    pub writes: u64,
    /// Pages removed.
    pub pages_removed: u64,
}

impl Halt {
    /// Ask to end.
    pub fn ask(&self) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.bell.notify_all();
    }

    /// Has somebody asked?
    pub fn asked(&self) -> bool {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleep for `time`, or until somebody asks.
    pub fn sleep(&self, time: Duration) {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.bell.wait_timeout_while(asked, time, |asked| !*asked);
    }
}

impl Seat {
    /// The seat of a thread that has not begun.
    pub fn new(name: String) -> Seat {
        Seat { name, doing: Mutex::new(None) }
    }

    /// What the thread is doing now, unless it is between two accesses.
    pub fn doing(&self) -> Option<Doing> {
        *self.doing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, doing: Option<Doing>) {
        *self.doing.lock().unwrap_or_else(PoisonError::into_inner) = doing;
    }
}

impl Tally {
    /// Nothing.
    pub fn new() -> Tally {
        // Three digits from a nanosecond to ten minutes.
        let histogram =
            || Histogram::new_with_bounds(1, 600_000_000_000, 3).expect("these bounds are valid");
        Tally { accesses: histogram(), removes: histogram(), reads: 0, writes: 0, pages_removed: 0 }
    }

    /// Add what another thread has done.
    pub fn add(&mut self, other: &Tally) {
        self.accesses.add(&other.accesses).expect("the bounds are the same");
        self.removes.add(&other.removes).expect("the bounds are the same");
        self.reads += other.reads;
        self.writes += other.writes;
        self.pages_removed += other.pages_removed;
    }
}

impl Default for Tally {
    fn default() -> Tally {
        Tally::new()
    }
}

/// One thread at work.
struct Worker<'a> {
    arena: &'a Arena<'a>,
    seat: &'a Seat,
    rng: ChaCha8Rng,
    tid: i32,
    tally: Tally,
}

impl<'a> Worker<'a> {
    fn new(arena: &'a Arena<'a>, seat: &'a Seat, seed: u64) -> Worker<'a> {
        let tid = rustix::thread::gettid().as_raw_nonzero().get();
        let rng = ChaCha8Rng::seed_from_u64(seed);
        Worker { arena, seat, rng, tid, tally: Tally::new() }
    }

    fn page_size(&self) -> u64 {
        self.arena.map.page_size().bytes()
    }

    fn page_count(&self) -> u64 {
        self.arena.map.len().bytes() / self.page_size()
    }

    /// A page: one of the hot ones half of the time.
    fn pick(&mut self) -> u64 {
        if self.rng.random_bool(0.5) {
            self.rng.random_range(self.arena.hot.clone())
        } else {
            self.rng.random_range(0..self.page_count())
        }
    }

    /// Do something to a page, watched and timed. It sleeps until the fault is served.
    fn timed<T>(&mut self, act: Act, page: u64, count: u64, body: impl FnOnce() -> T) -> T {
        let since = self.arena.watch.elapsed();
        self.seat.set(Some(Doing { act, page, count, since, tid: self.tid }));
        let answer = body();
        self.seat.set(None);
        let took = self.arena.watch.elapsed().saturating_sub(since).as_nanos() as u64;
        let histogram = match act {
            Act::Remove => &mut self.tally.removes,
            _ => &mut self.tally.accesses,
        };
        histogram.saturating_record(took.max(1));
        answer
    }

    /// End the run because of `trouble`, unless it ended already.
    fn report(&self, trouble: Trouble) {
        if !self.arena.abandoned.load(Ordering::SeqCst) {
            let mut first = self.arena.trouble.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert(trouble);
            self.arena.halt.ask();
        }
    }

    fn access(&mut self) {
        let page = self.pick();
        match self.rng.random_range(0..100) {
            0..40 => self.load(page),
            40..50 => self.load_many(page),
            50..70 => {
                self.populate(Act::PopulateRead, page);
                self.load(page);
            }
            70..85 => self.store(page),
            _ => {
                self.populate(Act::PopulateWrite, page);
                self.store(page);
            }
        }
    }

    fn populate(&mut self, act: Act, page: u64) {
        let (offset, size, map) = (page * self.page_size(), self.page_size(), self.arena.map);
        let answer = self.timed(act, page, 1, || match act {
            Act::PopulateWrite => map.populate_write(offset, size),
            _ => map.populate_read(offset, size),
        });
        self.expect(act, page, answer);
    }

    fn expect(&self, act: Act, page: u64, answer: Result<(), Errno>) {
        if let Err(errno) = answer {
            self.report(Trouble::Call(format!("{act} of page {page} answered {errno}")));
        }
    }

    /// Load the word that is written to, or another one.
    fn load(&mut self, page: u64) {
        let size = self.page_size();
        let slot = Ledger::slot(page, size);
        let into =
            if self.rng.random_bool(0.7) { slot } else { self.rng.random_range(0..size / 8) * 8 };
        let mut word = [0; 8];
        self.check(Act::Load, page, into, &mut word);
    }

    /// Load 4 KiB of the page.
    fn load_many(&mut self, page: u64) {
        let chunks = self.page_size() / CHUNK;
        let into = self.rng.random_range(0..chunks) * CHUNK;
        let mut bytes = [0; CHUNK as usize];
        self.check(Act::LoadMany, page, into, &mut bytes);
    }

    /// Load `bytes` from `into` the page and have every word explained.
    fn check(&mut self, act: Act, page: u64, into: u64, bytes: &mut [u8]) {
        let (arena, offset) = (self.arena, page * self.page_size() + into);
        let before = arena.ledger.before(page);
        self.timed(act, page, 1, || arena.map.read_into(offset, bytes));
        let after = arena.ledger.after(page);
        self.tally.reads += 1;

        let mut image = [0; CHUNK as usize];
        let image = &mut image[..bytes.len()];
        if let Err(e) = arena.image.read_exact_at(image, offset) {
            return self.report(Trouble::Image(format!("reading it at {offset:#x}: {e}")));
        }
        let slot = Ledger::slot(page, self.page_size());
        let (found, _) = bytes.as_chunks::<8>();
        let (image, _) = image.as_chunks::<8>();
        for (index, (found, image)) in found.iter().zip(image).enumerate() {
            let at = into + 8 * index as u64;
            let place = if at == slot { Place::Slot } else { Place::Elsewhere };
            let (found, image) = (u64::from_ne_bytes(*found), u64::from_ne_bytes(*image));
            if let Err(wrong) = Ledger::explain(page, place, found, image, before, after) {
                let text = format!("page {page}, byte {at:#x}, by {}: {wrong}", self.seat.name);
                return self.report(Trouble::WrongByte(text));
            }
        }
    }

    /// Store the next word into the page's slot, unless another thread is about to.
    fn store(&mut self, page: u64) {
        let (arena, size) = (self.arena, self.page_size());
        let Some(write) = arena.ledger.begin_write(page) else { return };
        let offset = page * size + Ledger::slot(page, size);
        self.timed(Act::Store, page, 1, || arena.map.write_word(offset, write.value()));
        write.end();
        self.tally.writes += 1;
    }

    fn remove(&mut self) {
        let (arena, size) = (self.arena, self.page_size());
        let first = self.pick();
        let most = if arena.hot.contains(&first) { 4 } else { 32 };
        let count = self.rng.random_range(1..=most).min(self.page_count() - first);
        arena.ledger.begin_remove(first, count);
        let answer = self
            .timed(Act::Remove, first, count, || arena.map.dontneed(first * size, count * size));
        arena.ledger.end_remove(first, count);
        self.tally.pages_removed += count;
        self.expect(Act::Remove, first, answer);
    }
}

/// Access pages until told to end.
pub fn access(arena: &Arena<'_>, seat: &Seat, seed: u64) -> Tally {
    let mut worker = Worker::new(arena, seat, seed);
    while !arena.halt.asked() {
        worker.access();
    }
    worker.tally
}

/// Remove ranges of pages until told to end, one every `period` if that can be kept.
pub fn remove(arena: &Arena<'_>, seat: &Seat, seed: u64, period: Duration) -> Tally {
    let mut worker = Worker::new(arena, seat, seed);
    let mut next = arena.watch.elapsed();
    while !arena.halt.asked() {
        worker.remove();
        next += period;
        let now = arena.watch.elapsed();
        match next.checked_sub(now) {
            Some(early) => arena.halt.sleep(early),
            // What could not be kept is not made up for: a burst of removes would be
            // another load than the one asked for.
            None => next = now,
        }
    }
    worker.tally
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Act::Load => "a load",
            Act::LoadMany => "a load of 4 KiB",
            Act::PopulateRead => "MADV_POPULATE_READ",
            Act::Store => "a store",
            Act::PopulateWrite => "MADV_POPULATE_WRITE",
            Act::Remove => "MADV_DONTNEED",
        })
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::WrongByte(text) => write!(f, "wrong content: {text}"),
            Trouble::Call(text) => write!(f, "failed call: {text}"),
            Trouble::Image(text) => write!(f, "the image has changed: {text}"),
        }
    }
}
