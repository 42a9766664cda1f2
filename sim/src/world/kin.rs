//! Worlds with several processes: what a fork makes, and memory that moves. Owns the record of
//! each process beyond the first; what is right in a process is the oracle's business.

use super::oracle::Truth;
use super::program::{Op, Setup};
use super::subject::Subject;
use super::{World, page_addr};
use crate::kernel::{MmId, Ret};
use crate::vma::CtxId;

/// A process that a fork has made.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Kin {
    pub(super) mm: MmId,
    /// Its userfaultfd, if its memory is watched.
    pub(super) ctx: Option<CtxId>,
    pub(super) truth: Truth,
}

/// A call whose effect came with its first step, and which has not returned.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Underway {
    task: usize,
    /// What was true of the parent's pages when a fork copied them.
    copied: Option<Truth>,
}

impl<S: Subject> World<S> {
    pub(super) fn mm_of(&self, process: usize) -> MmId {
        match process.checked_sub(1) {
            None => self.mm,
            Some(kin) => self.kin[kin].mm,
        }
    }

    pub(super) fn ctx_of(&self, process: usize) -> Option<CtxId> {
        match process.checked_sub(1) {
            None => Some(self.ctx),
            Some(kin) => self.kin[kin].ctx,
        }
    }

    pub(super) fn truth_of(&self, process: usize) -> &Truth {
        match process.checked_sub(1) {
            None => &self.truth,
            Some(kin) => &self.kin[kin].truth,
        }
    }

    pub(super) fn truth_mut(&mut self, process: usize) -> &mut Truth {
        match process.checked_sub(1) {
            None => &mut self.truth,
            Some(kin) => &mut self.kin[kin].truth,
        }
    }

    /// Processes there are.
    pub(super) fn processes(&self) -> usize {
        1 + self.kin.len()
    }

    /// A removal begins. A fork that has copied the pages and not returned comes before it or
    /// after it, as you like.
    pub(super) fn removal_begins(&mut self, process: usize, range: shims::Span) {
        self.truth_mut(process).begin_remove(range);
        for call in &mut self.underway {
            if self.tasks[call.task].process == process
                && let Some(copied) = &mut call.copied
            {
                copied.doubt(range);
            }
        }
    }

    /// Is there anything that this call can move?
    pub(super) fn can_move(&self, i: usize, op: &Op) -> bool {
        let Op::Mremap { range, .. } = op else { return false };
        let space = self.kernel.space(self.mm_of(self.tasks[i].process));
        space.find(range.start).is_some_and(|vma| range.end().is_some_and(|end| end <= vma.end()))
    }

    /// A task has made the step in which its call takes effect, if this is the one. `moved`:
    /// whether it can have moved what it was to move.
    pub(super) fn took_effect(&mut self, i: usize, op: &Op, moved: bool) {
        if self.underway.iter().any(|call| call.task == i) {
            return;
        }
        let process = self.tasks[i].process;
        let copied = match *op {
            Op::Mremap { range, to, dontunmap, .. } => {
                let space = self.kernel.space(self.mm_of(process));
                let is_there = space.find(page_addr(to)).is_some();
                if moved && is_there && (dontunmap || space.find(range.start).is_none()) {
                    self.truth_mut(process).relocate(range, to, dontunmap);
                }
                None
            }
            _ => Some(self.truth_of(process).forked()),
        };
        self.underway.push(Underway { task: i, copied });
    }

    /// The call of a task has returned; a fork's children begin.
    pub(super) fn returned(&mut self, i: usize, setup: &Setup, op: &Op, ret: Ret) {
        let Some(at) = self.underway.iter().position(|call| call.task == i) else { return };
        let call = self.underway.swap_remove(at);
        let (Op::Fork { tasks, .. }, Ret::Forked(mm)) = (op, ret) else { return };
        let truth = call.copied.expect("a fork notes what it has copied");
        let vma = self.kernel.space(mm).iter().find_map(|vma| vma.uffd());
        self.kin.push(Kin { mm, ctx: vma, truth });
        let process = self.kin.len();
        for &child in tasks {
            let thread = self.kernel.new_thread(mm);
            let task = &mut self.tasks[child];
            debug_assert!(setup.programs[child].forked && !task.born);
            (task.thread, task.process, task.born) = (thread, process, true);
        }
    }
}
