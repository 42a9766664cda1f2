//! Threads that borrow from the thread that starts them: they run on stacks that it owns, and
//! it passes control on to them until they have ended. Owns that passing.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use generator::{Generator, Gn};
use shims::Errno;

use super::core::Core;
use super::fiber::STACK;
use super::op::Op;
use super::point::{self, Over, run, with};
use super::thread_body;

/// Run `work` on a thread for each of `names`, and `main` as the calling thread; return when
/// all have ended.
///
/// While the team runs, the calling thread is two things: the thread `main` runs as, and the
/// owner of the stacks, which resumes whichever member the search has chosen.
pub(crate) fn team(
    names: impl IntoIterator<Item = String>,
    work: impl Fn() + Sync,
    main: impl FnOnce(Result<(), Errno>) + Send,
) {
    let run = run();
    let host = run.borrow().current;
    let first = run.borrow().threads.len();
    let work = &work;
    let mut members: Vec<Generator<'_, (), ()>> = Vec::new();
    for name in names {
        run.borrow_mut().add_thread(name, Some(host));
        members.push(Gn::new_opt(STACK, move || thread_body(work)));
    }
    let count = members.len();
    let mut panicked = None;
    let ended = &mut panicked;
    let mut own = Gn::<()>::new_opt(STACK, move || {
        // The thread itself goes on, to wait for its team, and panics then.
        *ended = catch_unwind(AssertUnwindSafe(|| main(Ok(())))).err();
        with(|run| run.main_of_team_ended(host));
    });
    // `main` begins at once: it is this thread.
    own.resume();
    loop {
        if own.is_done() {
            let mut core = run.borrow_mut();
            core.current = host;
            if core.over() {
                break;
            }
            if core.threads[host].op.is_none() {
                core.announce(Op::JoinTeam { first, count });
            }
        }
        point::yield_to_team();
        let target = run.borrow().member_towards(host);
        match target {
            Some(member) => {
                members[member - first].resume();
            }
            None if own.is_done() => {
                let mut core = run.borrow_mut();
                if !core.over() {
                    core.take_reply();
                }
                break;
            }
            None => {
                own.resume();
            }
        }
    }
    drop((own, members));
    if let Some(payload) = panicked {
        resume_unwind(payload);
    }
    if run.borrow().over() && !std::thread::panicking() {
        resume_unwind(Box::new(Over));
    }
}

impl Core {
    /// The thread on whose own stack `thread` runs.
    pub(super) fn root_of(&self, mut thread: usize) -> usize {
        while let Some(host) = self.threads[thread].host {
            thread = host;
        }
        thread
    }

    /// Which member of the team of `host` control goes to on its way to who is to run; `None`
    /// if that is the host itself.
    fn member_towards(&self, host: usize) -> Option<usize> {
        let mut thread = self.current;
        while thread != host {
            let above = self.threads[thread].host?;
            if above == host {
                return Some(thread);
            }
            thread = above;
        }
        None
    }

    fn main_of_team_ended(&mut self, host: usize) {
        self.threads[host].op = None;
    }

    /// At the end of a run: is there something left of the thread to unwind, and nothing that
    /// runs on its stack?
    pub(super) fn may_unwind(&self, thread: usize) -> bool {
        !self.threads[thread].ended
            && self.threads[thread].op != Some(Op::Start)
            && !self.threads.iter().enumerate().any(|(other, one)| {
                one.host == Some(thread) && !one.ended && self.may_unwind(other)
            })
    }
}
