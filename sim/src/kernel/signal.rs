//! Signals: what they do to threads that sleep in the kernel (rules a14, a25 to a28). Owns who
//! is woken by which signal and when a handler runs; the death that follows `SIGKILL` is in
//! `process.rs`.

use shims::Addr;

use super::Kernel;
use super::call::ThreadId;
use super::did::{Did, ProcessDid};
use super::run::{ExitPc, Long, Run};
use super::{page_addr, page_of};
use crate::profile::Bugs;
use crate::vma::CtxId;

/// A signal, by what it does. One that is ignored does nothing and is none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Sig {
    /// A handler runs.
    Handled {
        /// `SA_RESTART`.
        restart: bool,
    },
    /// `SIGKILL`, or any other that ends the process.
    Kill,
}

/// Signals a thread has not taken notice of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Pending {
    /// Handlers that are to run.
    handlers: u16,
    /// The first of them was installed with `SA_RESTART`.
    pub(super) restart: bool,
    pub(super) kill: bool,
}

impl Pending {
    const fn any(self) -> bool {
        self.handlers > 0 || self.kill
    }
}

impl Kernel {
    /// Send a signal. False if the thread is dead.
    pub fn signal(&mut self, thread: ThreadId, sig: Sig) -> bool {
        if self.is_dead(thread) {
            return false;
        }
        match sig {
            Sig::Kill => {
                let mm = self.mm_of(thread);
                self.kill_siblings(thread, mm);
                self.kill_one(thread);
            }
            Sig::Handled { restart } => {
                let pending = &mut self.task(thread).pending;
                if pending.handlers == 0 {
                    pending.restart = restart;
                }
                pending.handlers += 1;
                if matches!(self.threads[usize::from(thread.0)].run, Run::Idle | Run::Done(_)) {
                    self.run_handlers(thread);
                }
            }
        }
        true
    }

    /// One thread is to end: at once if it is in user mode, otherwise when it next could sleep
    /// or return.
    pub(super) fn kill_one(&mut self, thread: ThreadId) {
        let task = self.task(thread);
        if task.dying {
            return;
        }
        task.pending.kill = true;
        let run = &mut self.threads[usize::from(thread.0)].run;
        if matches!(run, Run::Idle | Run::Done(_)) {
            *run = Run::Long(Box::new(Long::Exit { at: ExitPc::Begin, release: Vec::new() }));
        }
    }

    /// How many handlers `thread` has run.
    pub fn handlers_run(&self, thread: ThreadId) -> u32 {
        let book = self.processes.as_deref();
        book.and_then(|book| book.seen(thread)).map_or(0, |task| task.handled)
    }

    /// The thread is about to return to user mode.
    pub(super) fn run_handlers(&mut self, thread: ThreadId) {
        let task = self.task(thread);
        task.handled += u32::from(task.pending.handlers);
        (task.pending.handlers, task.pending.restart) = (0, false);
    }

    fn pending(&self, thread: ThreadId) -> Pending {
        let book = self.processes.as_deref();
        book.and_then(|book| book.seen(thread)).map_or(Pending::default(), |task| task.pending)
    }

    /// Does a signal wait that ends an interruptible sleep?
    pub(super) fn signalled(&self, thread: ThreadId) -> bool {
        self.pending(thread).any()
    }

    /// Does a signal wait that disturbs a system call which copies (rule a26)?
    pub(super) fn copy_disturbed(&self, thread: ThreadId) -> bool {
        match self.profile.has_bug(Bugs::Z15) {
            true => self.signalled(thread),
            false => self.killed(thread),
        }
    }

    /// Has `thread` waited for `page` before, in the same access?
    pub(super) fn tried(&self, thread: ThreadId, page: Addr) -> bool {
        let book = self.processes.as_deref();
        book.and_then(|book| book.seen(thread)).is_some_and(|task| task.tried == Some(page))
    }

    /// Does a signal wait that ends a killable one?
    pub(super) fn killed(&self, thread: ThreadId) -> bool {
        self.pending(thread).kill
    }

    /// A faulter that sleeps was signalled. It takes its message with it (rule a17).
    pub(super) fn fault_interrupted(
        &mut self,
        thread: ThreadId,
        ctx: CtxId,
        addr: Addr,
        user: bool,
    ) -> Did {
        self.ctx_mut(ctx).withdraw_unless(thread, false);
        let page = page_addr(page_of(addr));
        if user && !self.killed(thread) {
            // a25: the handler runs, then the instruction is repeated.
            self.run_handlers(thread);
        }
        // a26: in the middle of a system call nothing can run. The fault starts over, and the
        // signal that is still there ends its next sleep, too, until the page comes.
        Did::Process(ProcessDid::Interrupt { page })
    }

    /// A sender was killed: nobody will read what it had to say (rules a28, d30).
    pub(super) fn withdraw_event(&mut self, thread: ThreadId, ctx: CtxId) -> Did {
        let events = &mut self.ctx_mut(ctx).events;
        let at = events.iter().position(|sender| sender.thread == thread);
        // Only bug Z8 loses one.
        let event = at.map(|at| events.remove(at).event);
        if let Some(event) = event {
            self.call_off(event);
        }
        Did::Process(ProcessDid::Withdraw { ctx, event })
    }
}
