//! `process_madvise` of a process's own memory: one advice for several ranges, each a `madvise`
//! of its own. Owns what is left to do and how the results add up.

use shims::{Errno, Span};

use super::call::{Ret, ThreadId};
use super::madvise::Madvise;
use super::run::Run;
use super::{Aside, Kernel};

/// The ranges that a thread has still to advise on.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Batch {
    advice: Madvise,
    /// The one under way, and those behind it, last first.
    left: Vec<Span>,
    done: u64,
}

impl Kernel {
    /// Before 6.13 only the advices that do no harm to another process are known, to one's own
    /// memory as well.
    pub(super) fn begin_batch(
        &mut self,
        thread: ThreadId,
        mut ranges: Vec<Span>,
        advice: Madvise,
    ) -> Run {
        let harmless = matches!(advice, Madvise::Cold | Madvise::PageOut | Madvise::WillNeed);
        if !harmless && !self.profile.madvise_self {
            return Run::Done(Ret::Err(Errno::EINVAL));
        }
        ranges.reverse();
        let Some(&first) = ranges.last() else { return Run::Done(Ret::Ok(0)) };
        self.asides.push((thread, Aside::Batch(Batch { advice, left: ranges, done: 0 })));
        let run = advice.begin(first, self.profile.guard.exist);
        self.go_on_batch(thread, run)
    }

    /// `run` is what `thread` does next. If that is the end of a part of what it was asked for, the
    /// next part begins.
    #[inline(never)]
    pub(super) fn go_on_aside(&mut self, thread: ThreadId, run: Run) -> Run {
        match run {
            Run::Done(_) => {
                let run = self.fault_in_last(thread, run);
                self.go_on_batch(thread, run)
            }
            run => run,
        }
    }

    /// If `run` is the end of one range of its batch, the next one begins, or the bytes that are
    /// done are the result.
    pub(super) fn go_on_batch(&mut self, thread: ThreadId, mut run: Run) -> Run {
        let guards = self.profile.guard.exist;
        let is_batch =
            |(of, aside): &(ThreadId, Aside)| *of == thread && matches!(aside, Aside::Batch(_));
        let Some(at) = self.asides.iter().position(is_batch) else { return run };
        while let Run::Done(ret) = run {
            let Aside::Batch(batch) = &mut self.asides[at].1 else { unreachable!() };
            let range = batch.left.pop().expect("a batch ends with its last range");
            let over = match ret {
                Ret::Err(errno) if batch.done == 0 => Some(Ret::Err(errno)),
                Ret::Err(_) => Some(Ret::Ok(batch.done)),
                _ => {
                    batch.done += range.len.bytes();
                    batch.left.is_empty().then_some(Ret::Ok(batch.done))
                }
            };
            if let Some(ret) = over {
                self.asides.remove(at);
                return Run::Done(ret);
            }
            let next = *batch.left.last().expect("it is not over");
            run = batch.advice.begin(next, guards);
        }
        run
    }
}
