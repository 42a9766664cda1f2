//! Who waits for whom: deadlocks and contradictory lock orders, in words. Owns the finding of
//! circles among threads and the sentences of the reports.

use core::fmt::Write as _;

use super::core::Core;
use super::op::{How, LockId, Op};
use super::order::Edge;
use crate::world::Failure;

impl Core {
    /// The threads that `thread` cannot go on without.
    fn needs(&self, thread: usize) -> Vec<usize> {
        let holders = |lock: LockId, how: How| {
            let lock = self.lock(lock);
            let mut needs: Vec<usize> = lock.writer.into_iter().collect();
            if how == How::Alone {
                needs.extend(&lock.readers);
            } else if lock.writer.is_none() {
                // A reader that somebody waits before: he, in turn, waits for the readers.
                needs.extend(lock.asked.iter().filter(|asked| **asked != thread));
            }
            needs
        };
        match self.threads[thread].op {
            Some(Op::Lock { lock, how }) => holders(lock, how),
            Some(Op::Relock { lock, .. }) => holders(lock, How::Alone),
            Some(Op::Join { thread }) if !self.threads[thread].ended => vec![thread],
            Some(Op::JoinTeam { first, count }) => {
                (first..first + count).filter(|member| !self.threads[*member].ended).collect()
            }
            _ => Vec::new(),
        }
    }

    /// A circle of threads, or a lock whose holder has ended, that `thread` waits for.
    pub(super) fn deadlock(&self, thread: usize) -> Option<Failure> {
        let mut path = vec![thread];
        let knot = self.follow(&mut path)?;
        let threads = knot.iter().map(|thread| self.stands(*thread)).collect();
        Some(Failure::Deadlock { threads })
    }

    /// Follow the last of `path` to whom it waits for. A thread that waits for several waits
    /// for each of them: one that never lets go is enough.
    fn follow(&self, path: &mut Vec<usize>) -> Option<Vec<usize>> {
        let last = *path.last()?;
        for next in self.needs(last) {
            if let Some(at) = path.iter().position(|before| *before == next) {
                return Some(path[at..].to_vec());
            }
            if self.threads[next].ended {
                // It ended with the lock in its hands.
                return Some(path.clone());
            }
            path.push(next);
            let found = self.follow(path);
            path.pop();
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Where a thread stands, in a sentence.
    pub(super) fn stands(&self, thread: usize) -> String {
        let one = &self.threads[thread];
        let mut text = format!("{} ", one.name);
        match &one.op {
            None if one.ended => text += "has ended",
            None => text += "runs",
            Some(Op::Lock { lock, how }) => {
                let _ = write!(
                    text,
                    "waits for {how} {}{}",
                    self.lock(*lock).name,
                    self.holders(*lock)
                );
            }
            Some(Op::Relock { lock, .. }) => {
                let name = self.lock(*lock).name;
                let _ =
                    write!(text, "was notified and waits for lock {name}{}", self.holders(*lock));
            }
            Some(Op::Wait { cond, .. }) => {
                let _ = write!(text, "waits on condition {}", self.cond(*cond).name);
            }
            Some(Op::Recv { channel, .. }) => {
                let _ =
                    write!(text, "waits for a message in channel {}", self.channel(*channel).name);
            }
            Some(Op::Send { channel }) => {
                let _ = write!(text, "waits for room in channel {}", self.channel(*channel).name);
            }
            Some(Op::Join { thread }) => {
                let _ = write!(text, "waits for the end of {}", self.threads[*thread].name);
            }
            Some(Op::JoinTeam { .. }) => text += "waits for the end of its team",
            Some(Op::Poll { .. }) => text += "sleeps in poll",
            Some(Op::UntilStopped) => text += "waits to be asked to stop",
            Some(Op::Sleep { until }) => {
                let _ = write!(text, "sleeps until {until}");
            }
            Some(op) => {
                let _ = write!(text, "is about to {}", op.verb());
            }
        }
        if !one.held.is_empty() {
            text += ", holding";
            for (i, (lock, _)) in one.held.iter().enumerate() {
                let comma = if i > 0 { "," } else { "" };
                let _ = write!(text, "{comma} {}", self.lock(*lock).name);
            }
        }
        text
    }

    fn holders(&self, lock: LockId) -> String {
        let lock = self.lock(lock);
        let held: Vec<_> = lock
            .writer
            .iter()
            .chain(&lock.readers)
            .map(|t| self.threads[*t].name.as_str())
            .collect();
        match held.len() {
            0 => String::new(),
            _ => format!(
                ", which {} {}",
                held.join(", "),
                if held.len() == 1 { "holds" } else { "hold" }
            ),
        }
    }

    /// Two orders that contradict each other, in words.
    pub(super) fn inversion(&self, circle: &[Edge]) -> Failure {
        let says = |edge: &Edge| {
            let (thread, held) = (&self.threads[edge.thread].name, self.lock(edge.held.0).name);
            format!("{thread} took {} while it held {held}", self.lock(edge.took.0).name)
        };
        Failure::LockOrder { orders: circle.iter().map(says).collect() }
    }
}
