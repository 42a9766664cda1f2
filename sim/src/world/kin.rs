//! Worlds with several processes: what a fork makes, and memory that moves. Owns the record of
//! each process beyond the first; what is right in a process is the oracle's business.

use super::World;
use super::memory::Loss;
use super::oracle::Truth;
use super::program::{Op, Setup};
use super::subject::Subject;
use crate::kernel::{Did, HugeDid, MmId, Ret};
use crate::vma::CtxId;

/// The number of the process that maps the same file and is not watched. What is true of its
/// pages is true of those of the first.
pub(super) const BESIDE: usize = usize::MAX;

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
        match process {
            0 => self.mm,
            BESIDE => self.beside.expect("it has tasks"),
            kin => self.kin[kin - 1].mm,
        }
    }

    pub(super) fn ctx_of(&self, process: usize) -> Option<CtxId> {
        match process {
            0 => Some(self.place.ctx),
            BESIDE => None,
            kin => self.kin[kin - 1].ctx,
        }
    }

    pub(super) fn truth_of(&self, process: usize) -> &Truth {
        match process {
            0 | BESIDE => &self.truth,
            kin => &self.kin[kin - 1].truth,
        }
    }

    pub(super) fn truth_mut(&mut self, process: usize) -> &mut Truth {
        match process {
            0 | BESIDE => &mut self.truth,
            kin => &mut self.kin[kin - 1].truth,
        }
    }

    /// Processes there are.
    pub(super) fn processes(&self) -> usize {
        1 + self.kin.len()
    }

    /// A call that gives pages up begins. A fork that has copied the pages and not returned
    /// comes before it or after it, as you like.
    pub(super) fn removal_begins(&mut self, process: usize, op: &Op, range: shims::Span) {
        match self.loss(process, op) {
            Some(Loss::Gone | Loss::Reverts) => self.truth_mut(process).begin_remove(range),
            // The messages do not tell a page that stays in its file from one that never was in
            // it, nor MADV_FREE from a removal.
            _ => self.doubt_what_may_be_gone(process, op, range),
        }
        for call in &mut self.underway {
            if self.tasks[call.task].process == process
                && let Some(copied) = &mut call.copied
            {
                copied.doubt(range);
            }
        }
    }

    /// It has returned.
    pub(super) fn removal_ends(&mut self, process: usize, op: &Op, range: shims::Span, ok: bool) {
        let reverts = match self.loss(process, op) {
            Some(Loss::Gone) => false,
            Some(Loss::Reverts) => true,
            Some(Loss::Nothing) | None => return,
        };
        self.truth_mut(process).end_remove(range, ok, reverts);
    }

    /// What a call that gives pages up does to their content, if that is known.
    fn loss(&self, process: usize, op: &Op) -> Option<Loss> {
        let memory = self.place.memory;
        match op {
            Op::DontNeed { .. } => Some(memory.loss()),
            // Through memory that is not watched nobody is told of it.
            Op::Remove { .. } if memory.is_shared() && process != BESIDE => Some(Loss::Gone),
            Op::Remove { .. } => Some(Loss::Nothing),
            _ => None,
        }
    }

    fn doubt_what_may_be_gone(&mut self, process: usize, op: &Op, range: shims::Span) {
        if let Op::Remove { .. } = op {
            return;
        }
        let free = matches!(op, Op::Advise { .. });
        for at in 0..self.setup.slots() {
            let addr = self.setup.addr(at);
            if range.contains(addr) && (free || !self.kernel.cached_at(self.mm_of(process), addr)) {
                let page = self.place.memory.span(at, at + 1);
                self.truth_mut(process).doubt(page);
            }
        }
    }

    /// A page has lost its content, or may have, and the handler is not told: whatever it puts
    /// there from now on is right. True if that is what the step did.
    pub(super) fn lost_untold(&mut self, process: usize, op: &Op, did: &Did) -> bool {
        let told = matches!(op, Op::Remove { .. }) && process != BESIDE;
        let announces = matches!(op, Op::Fork { .. } | Op::Mremap { .. });
        match *did {
            _ if announces => return false,
            Did::Drop { index, .. } => {
                for at in 0..self.setup.slots() {
                    let addr = self.setup.addr(at);
                    if self.kernel.file_index(self.mm, addr) == Some(index) {
                        let span = self.setup.memory.span(at, at + 1);
                        self.truth.dropped(span, told);
                    }
                }
            }
            // What MADV_PAGEOUT takes of a file stays in it.
            Did::Zap { .. } | Did::Huge { what: HugeDid::Zap, .. }
                if self.setup.memory.is_shared() => {}
            // ZEROPAGE finds a guard in its way, and says that the page is there.
            Did::Zap { page, .. } | Did::GiveUp { page, .. } | Did::Guard { page } => {
                let span = shims::Span::new(page, self.setup.memory.page_size().len());
                self.truth_mut(process).doubt(span);
            }
            Did::Huge { page, what: HugeDid::Zap | HugeDid::GiveUp } => {
                let span = shims::Span::new(page, shims::PageSize::MIB2.len());
                self.truth_mut(process).doubt(span);
            }
            _ => return false,
        }
        true
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
                let is_there = space.find(self.setup.addr(to)).is_some();
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
