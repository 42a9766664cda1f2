//! Where the children of an inner node start. Owns the search among them; knows no child.

use core::ops::Deref;

use super::node::{INNER, PAD, rank};

/// So many starts have one mark.
const BLOCK: usize = 8;
const MARKS: usize = INNER / BLOCK;

/// The starts in address order, [`PAD`] beyond the last, and every eighth of them once more: a
/// search reads those, which stand side by side, and then one block, where it would read from
/// every cache line of the starts otherwise.
#[derive(Clone)]
pub(super) struct Starts {
    marks: [u64; MARKS],
    all: [u64; INNER],
}

impl Starts {
    /// None yet.
    pub(super) const NONE: Starts = Starts { marks: [PAD; MARKS], all: [PAD; INNER] };

    /// How many of them, of which there are `count`, are at or below `addr`.
    #[inline]
    pub(super) fn rank(&self, addr: u64, count: usize) -> usize {
        // So few there are high up in most trees.
        const FEW: usize = 16;
        if count <= FEW {
            return rank::<FEW, 4>(self.all.first_chunk().expect("it is shorter"), addr);
        }
        let full = rank::<MARKS, MARKS>(&self.marks, addr);
        match self.all[full * BLOCK..].first_chunk::<BLOCK>() {
            Some(block) => full * BLOCK + rank::<BLOCK, BLOCK>(block, addr),
            None => INNER,
        }
    }

    #[inline(always)]
    pub(super) fn set(&mut self, i: usize, start: u64) {
        self.all[i] = start;
        if i % BLOCK == BLOCK - 1 {
            self.marks[i / BLOCK] = start;
        }
    }

    /// Put one at index `i`; those from there on move up.
    pub(super) fn insert(&mut self, i: usize, start: u64) {
        self.all.copy_within(i..INNER - 1, i + 1);
        self.all[i] = start;
        self.mark_from(i);
    }

    /// Take out that at index `i`; those above it move down.
    pub(super) fn remove(&mut self, i: usize) {
        self.all.copy_within(i + 1.., i);
        self.all[INNER - 1] = PAD;
        self.mark_from(i);
    }

    /// Forget those from index `at` on.
    pub(super) fn truncate(&mut self, at: usize) {
        self.all[at..].fill(PAD);
        self.mark_from(at);
    }

    fn mark_from(&mut self, i: usize) {
        for block in i / BLOCK..MARKS {
            self.marks[block] = self.all[block * BLOCK + BLOCK - 1];
        }
    }

    /// Are there `count`, and is each mark what it should be?
    pub(super) fn is_sound(&self, count: usize) -> bool {
        let marked = self.all.iter().skip(BLOCK - 1).step_by(BLOCK);
        self.all[count..].iter().all(|start| *start == PAD) && marked.eq(&self.marks)
    }
}

impl Deref for Starts {
    type Target = [u64; INNER];

    #[inline(always)]
    fn deref(&self) -> &[u64; INNER] {
        &self.all
    }
}
