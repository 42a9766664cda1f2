//! Toys: systems so small that their interleavings can be counted by hand. What a strategy
//! claims is shown on them.

use std::collections::BTreeSet;

use super::dice::Dice;
use super::{Chooser, End, Exhaustible, System, bits};
use crate::kernel::Footprint;

/// Actors that each take a number of steps, never waiting for each other.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Orders {
    left: Vec<u32>,
    /// Who moved, an octal digit each, the last move lowest.
    trace: u64,
}

impl Orders {
    /// `left[i]` is how many steps actor `i` takes.
    pub(super) fn new(left: &[u32]) -> Orders {
        Orders { left: left.to_vec(), trace: 0 }
    }

    /// Run to the end and tell who moved when.
    pub(super) fn run(&mut self, chooser: &mut (impl Chooser + ?Sized)) -> u64 {
        loop {
            match self.enabled() {
                0 => return self.trace,
                enabled => self.go(chooser.choose(enabled)),
            }
        }
    }
}

impl System for Orders {
    fn actors(&self) -> usize {
        self.left.len()
    }

    fn enabled(&self) -> u64 {
        self.left.iter().enumerate().map(|(i, left)| u64::from(*left > 0) << i).sum()
    }

    fn go(&mut self, actor: usize) {
        self.left[actor] -= 1;
        self.trace = self.trace << 3 | actor as u64;
    }
}

impl Exhaustible for Orders {
    fn footprint(&self, _: usize) -> Footprint {
        Footprint::ALL
    }

    fn outcome(&mut self) -> End {
        End { class: None, what: format!("{:o}", self.trace) }
    }
}

/// One step of an actor of [`Cells`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Step {
    /// Put a number into a cell.
    Set(usize, u8),
    /// Add to a cell.
    Add(usize, u8),
    /// Copy a cell to another.
    Copy(usize, usize),
    /// Go on when the cell is not zero.
    Wait(usize),
}

/// Actors that work on shared cells, and may wait for each other.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Cells {
    programs: Vec<Vec<Step>>,
    at: Vec<usize>,
    cells: Vec<u8>,
    conceals: bool,
}

impl Cells {
    pub(super) fn new(programs: Vec<Vec<Step>>, cells: usize) -> Cells {
        let at = vec![0; programs.len()];
        Cells { programs, at, cells: vec![0; cells], conceals: false }
    }

    /// Two or three actors of up to four steps on three cells.
    pub(super) fn random(seed: u64) -> Cells {
        let mut dice = Dice::new(seed, 0);
        let programs = (0..2 + dice.few(2))
            .map(|_| {
                (0..1 + dice.few(4))
                    .map(|_| {
                        let cell = dice.few(3) as usize;
                        match dice.few(8) {
                            0..=2 => Step::Set(cell, 1 + dice.few(3) as u8),
                            3..=4 => Step::Add(cell, 1),
                            5..=6 => Step::Copy(cell, dice.few(3) as usize),
                            _ => Step::Wait(cell),
                        }
                    })
                    .collect()
            })
            .collect();
        Cells::new(programs, 3)
    }

    /// The same, but its steps say of what they change that they only look at it.
    pub(super) fn concealing(self) -> Cells {
        Cells { conceals: true, ..self }
    }

    /// The ends of all orders, by trying every one of them.
    pub(super) fn every_end(&self) -> Vec<String> {
        fn visit(cells: &Cells, ends: &mut BTreeSet<String>) {
            let enabled = cells.enabled();
            if enabled == 0 {
                ends.insert(cells.clone().outcome().what);
            }
            for actor in bits(enabled) {
                let mut next = cells.clone();
                next.go(actor);
                visit(&next, ends);
            }
        }
        let mut ends = BTreeSet::new();
        visit(self, &mut ends);
        ends.into_iter().collect()
    }
}

impl System for Cells {
    fn actors(&self) -> usize {
        self.programs.len()
    }

    fn enabled(&self) -> u64 {
        (0..self.programs.len())
            .filter(|i| match self.programs[*i].get(self.at[*i]) {
                None => false,
                Some(Step::Wait(cell)) => self.cells[*cell] != 0,
                Some(_) => true,
            })
            .fold(0, |mask, i| mask | 1 << i)
    }

    fn go(&mut self, actor: usize) {
        match self.programs[actor][self.at[actor]] {
            Step::Set(cell, value) => self.cells[cell] = value,
            Step::Add(cell, value) => self.cells[cell] += value,
            Step::Copy(from, to) => self.cells[to] = self.cells[from],
            Step::Wait(_) => {}
        }
        self.at[actor] += 1;
    }
}

impl Exhaustible for Cells {
    fn footprint(&self, actor: usize) -> Footprint {
        let touched = match self.programs[actor][self.at[actor]] {
            Step::Set(cell, _) | Step::Add(cell, _) => Footprint::writes(1 << cell),
            Step::Copy(from, to) => Footprint { reads: 1 << from, writes: 1 << to },
            Step::Wait(cell) => Footprint::reads(1 << cell),
        };
        if self.conceals { Footprint::reads(touched.reads | touched.writes) } else { touched }
    }

    fn outcome(&mut self) -> End {
        let waits = self.at.iter().zip(&self.programs).any(|(at, steps)| *at < steps.len());
        End { class: waits.then_some("hang"), what: format!("{:?}", self.cells) }
    }
}
