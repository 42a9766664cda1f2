//! `uffd-stress`: threads that increment counters under locks in memory that is filled,
//! protected and filled again behind their back. The four bits of a bounce's number choose
//! random pages, racing faults, a verification and how messages are waited for, as the
//! original's do. Here a seed chooses who moves; on both kernels the same.

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use shims::{CopyMode, Errno, Event, FaultKind, Outcome, RegisterModes};
use sim::Content;

use super::kinds;
use faultbed::judge::{Back, Kind, Op, PAGE, Piece, Settled};
use faultbed::judge::{Case, Run};

const RANDOM: u32 = 1 << 0;
const RACING: u32 = 1 << 1;
const VERIFY: u32 = 1 << 2;
const POLL: u32 = 1 << 3;

const CPUS: usize = 3;

/// What a locking thread is about to do.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Turn {
    /// Take the lock of a page.
    Lock,
    /// Compare its counter with the shadow.
    Check(u64),
    /// Increment it.
    Increment(u64),
}

struct Locker {
    thread: usize,
    turn: Turn,
    /// The page of its next turn, if they are not random.
    next: u64,
    asleep: bool,
}

struct Stress {
    kind: Kind,
    units: u64,
    rng: ChaCha8Rng,
    /// What each page holds, as the original's shadow counters.
    shadow: Vec<Content>,
    locked: Vec<bool>,
    lockers: Vec<Locker>,
    /// Stores so far, which makes each of them another content.
    stores: u32,
    missing: u64,
    trapped: u64,
}

impl Stress {
    fn page(&self, unit: u64) -> u64 {
        unit * self.kind.granule()
    }

    /// `uffd_handle_page_fault`: one message, if there is one.
    fn handle(&mut self, run: &mut Run) -> bool {
        let Some(event) = run.events(0, 1).first().copied() else { return false };
        let Event::Fault(fault) = event else { panic!("{event:?} was not asked for") };
        let page = run.page_at(fault.addr);
        let end = page + self.kind.granule();
        match fault.kind() {
            FaultKind::Wp => {
                self.trapped += 1;
                assert_eq!(run.protect(page, end, false), Outcome::OK);
            }
            FaultKind::Missing => {
                self.missing += 1;
                self.copy(run, page, end);
            }
            FaultKind::Minor => panic!("nobody asked for minor faults"),
        }
        true
    }

    /// `copy_page`: only `EEXIST` is allowed, and followed by a wake.
    fn copy(&mut self, run: &mut Run, page: u64, end: u64) {
        let range = run.span(page, end);
        let outcome = run.copy_span(0, range, CopyMode::WP);
        if outcome.errno.is_some() {
            assert_eq!(outcome, Outcome::mirrored(Errno::EEXIST));
            run.wake(0, range).unwrap();
        } else {
            assert_eq!(outcome, Outcome::done((end - page) * PAGE));
            // Now and then, once more.
            if self.rng.random_range(0..4) == 0 {
                let again = run.copy_span(0, range, CopyMode::WP);
                assert_eq!(again, Outcome::mirrored(Errno::EEXIST));
            }
        }
    }

    /// A locking thread does its next access, or goes on with the one that has returned.
    fn locker(&mut self, run: &mut Run, index: usize, bounce: u32) {
        let Locker { thread, turn, next, asleep } = self.lockers[index];
        let settled = match (asleep, turn) {
            (true, _) => run.state(thread),
            (false, Turn::Lock) => {
                let unit =
                    if bounce & RANDOM != 0 { self.rng.random_range(0..self.units) } else { next };
                self.lockers[index].next = (unit + 1) % self.units;
                if !core::mem::replace(&mut self.locked[unit as usize], true) {
                    self.lockers[index].turn = Turn::Check(unit);
                }
                return;
            }
            (false, Turn::Check(unit)) => run.go(thread, Op::Load(self.page(unit))),
            (false, Turn::Increment(unit)) => {
                self.stores += 1;
                let content = Content::Written { task: thread as u16, seq: self.stores };
                self.shadow[unit as usize] = content;
                run.go(thread, Op::Store(self.page(unit), self.stores))
            }
        };
        let Settled::Returned(back) = settled else {
            assert_eq!(settled, Settled::Asleep);
            self.lockers[index].asleep = true;
            return;
        };
        self.lockers[index].asleep = false;
        self.lockers[index].turn = match turn {
            Turn::Check(unit) => {
                let expected = Back::Loaded(self.shadow[unit as usize]);
                assert_eq!(back, expected, "the counter of page {unit}");
                Turn::Increment(unit)
            }
            Turn::Increment(unit) => {
                assert_eq!(back, Back::Done);
                self.locked[unit as usize] = false;
                Turn::Lock
            }
            Turn::Lock => unreachable!("taking a lock is no access"),
        };
    }

    /// One bounce: the threads run until the background thread has copied everything and
    /// protected half of it.
    fn bounce(&mut self, run: &mut Run, bounce: u32) {
        let end = self.page(self.units);
        let whole = run.span(0, end);
        run.register(0, whole, RegisterModes::MISSING | RegisterModes::WP).unwrap();
        self.shadow = (0..self.units).map(|unit| super::copied(self.page(unit))).collect();
        for (index, locker) in self.lockers.iter_mut().enumerate() {
            let own = index as u64 * self.units / CPUS as u64;
            locker.next = if bounce & RACING != 0 { 0 } else { own };
        }
        let mut background = 0;
        for _ in 0..160 {
            match self.rng.random_range(0..CPUS + 2) {
                index if index < CPUS => self.locker(run, index, bounce),
                // A blocking reader takes one message, a poller all there are.
                index if index == CPUS => while self.handle(run) && bounce & POLL != 0 {},
                _ if background < self.units && self.rng.random_range(0..3) == 0 => {
                    let page = self.page(background);
                    self.copy(run, page, page + self.kind.granule());
                    background += 1;
                    if background == self.units / 2 {
                        run.protect(0, page, true);
                    }
                }
                _ => {}
            }
        }
        // Everybody comes to the end of the turn.
        for _ in 0..64 {
            while self.handle(run) {}
            let busy = self.lockers.iter().position(|locker| locker.turn != Turn::Lock);
            let Some(index) = busy else { break };
            self.locker(run, index, bounce);
        }
        assert!(self.lockers.iter().all(|l| l.turn == Turn::Lock), "a locker is stuck");
        while background < self.units {
            let page = self.page(background);
            self.copy(run, page, page + self.kind.granule());
            background += 1;
        }
        assert_eq!(run.protect(0, end, false), Outcome::OK);
        run.unregister(0, whole).unwrap();
        if bounce & VERIFY != 0 {
            let thread = self.lockers[0].thread;
            for unit in 0..self.units {
                let back = run.get(thread, Op::Load(self.page(unit)));
                assert_eq!(back, Back::Loaded(self.shadow[unit as usize]), "page {unit}");
            }
        }
        // The original swaps its two regions here and drops the pages of the new target.
        let thread = self.lockers[0].thread;
        run.get(thread, super::release(self.kind, 0, end));
    }
}

fn uffd_stress(name: &str, kind: Kind) {
    let units = if kind.is_huge() { 2 } else { 6 };
    let pages = units * kind.granule();
    let case = Case::new(name, pages).pieces(&[Piece::new(0, pages, kind)]);
    case.modes(RegisterModes::empty()).run(|run| {
        let locker = |run: &mut Run| Locker {
            thread: run.thread(),
            turn: Turn::Lock,
            next: 0,
            asleep: false,
        };
        let mut stress = Stress {
            kind,
            units,
            rng: ChaCha8Rng::seed_from_u64(kind as u64),
            shadow: Vec::new(),
            locked: vec![false; units as usize],
            lockers: (0..CPUS).map(|_| locker(run)).collect(),
            stores: 0,
            missing: 0,
            trapped: 0,
        };
        for bounce in 0..if kind.is_huge() { 4 } else { 16 } {
            stress.bounce(run, bounce);
        }
        let Stress { missing, trapped, stores, .. } = stress;
        let all = missing >= units && trapped >= units && stores > 20;
        assert!(all, "{missing} missing, {trapped} trapped, {stores} stores");
    });
}
kinds!(uffd_stress: all);
