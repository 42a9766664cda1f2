//! Toys: systems so small that their interleavings can be counted by hand. What a strategy
//! claims is shown on them.

use super::{Chooser, System};

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
