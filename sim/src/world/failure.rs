//! What can be wrong with a run, in words a person can act on.

use core::fmt;

use crate::Content;
use crate::kernel::Sleep;

use super::moves::describe_event;
use super::page_index;
use super::subject::{Claim, Restored};

/// A thread that will never go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stuck {
    /// Which task.
    pub task: String,
    /// What it sleeps on; `None` if it waits for another task's label or for the handler.
    pub sleep: Option<Sleep>,
    /// The handler's state for the page it waits for.
    pub handler: Option<&'static str>,
    /// Where it stands, for a thread of the handler.
    pub stands: Option<String>,
}

impl Stuck {
    /// A thread of the handler, from where it stands in words, its name first.
    pub(super) fn standing(text: String) -> Stuck {
        let (task, stands) = text.split_once(' ').unwrap_or((&text, ""));
        let (task, stands) = (task.to_owned(), Some(stands.to_owned()));
        Stuck { task, sleep: None, handler: None, stands }
    }
}

/// Something an oracle objects to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// Liveness: nobody can move, and these have not finished.
    Hang(Vec<Stuck>),
    /// Content: source bytes of a page that was removed.
    Stale {
        /// Page.
        page: u64,
        /// What is there.
        content: Content,
    },
    /// Content: zeros where nothing was removed.
    Lost {
        /// Page.
        page: u64,
    },
    /// Content: another page's bytes.
    Misplaced {
        /// Page.
        page: u64,
        /// What is there.
        content: Content,
    },
    /// Agreement: the handler and the page table tell different stories.
    Disagreement {
        /// Page.
        page: u64,
        /// What the handler says.
        claim: Claim,
        /// Whether the page is there.
        present: bool,
        /// Was it a snapshot that said so?
        snapshot: bool,
    },
    /// Write tracking: a page was written and the handler does not say so, or its bytes were
    /// being saved at that moment.
    Unseen {
        /// Page.
        page: u64,
        /// Was it a snapshot that should have said so?
        snapshot: bool,
    },
    /// Content: whoever restores the snapshot finds something else in a page.
    Misrestored {
        /// Page.
        page: u64,
        /// What is put there.
        restored: Restored,
        /// What the snapshot was taken of.
        content: Content,
    },
    /// Agreement: the handler looks for a page where it is not.
    Misled {
        /// The address, as a page.
        at: u64,
        /// What the handler thinks is there.
        thinks: Option<u64>,
        /// What is.
        is: Option<u64>,
    },
    /// Conservation: the handler took faults that came to no end.
    Unresolved {
        /// How many.
        faults: usize,
    },
    /// Agreement: `mmap_changing` did not come back to zero.
    StillChanging {
        /// Its value.
        changing: u32,
    },
    /// Bounded work: the run does not come to an end.
    Livelock {
        /// Steps taken.
        steps: u32,
    },
    /// Bounded work: the handler makes one call again and again while nothing changes.
    Busy {
        /// Which.
        call: &'static str,
        /// The page it is about.
        page: Option<u64>,
        /// How often.
        times: u32,
    },
    /// Fairness: the handler serves younger faults before one that it has taken.
    Starved {
        /// The page of that one.
        page: u64,
        /// How often.
        times: u32,
    },
    /// Teardown: the handler used a descriptor after it was closed.
    UseAfterClose {
        /// Which of its threads.
        actor: String,
    },
    /// Liveness: threads of the handler wait for each other.
    Deadlock {
        /// Where each stands, in a sentence.
        threads: Vec<String>,
    },
    /// The handler takes locks in orders that contradict each other. Nobody waited for ever
    /// in this run; in another one they can.
    LockOrder {
        /// Who took what while holding what.
        orders: Vec<String>,
    },
    /// A thread of the handler panicked.
    Panicked {
        /// Which.
        thread: String,
        /// What it said.
        why: String,
    },
    /// The handler gave up although nothing was wrong.
    HandlerFailed {
        /// What it says.
        why: String,
    },
    /// An operation did not return what the scenario expects.
    Expectation {
        /// Which task.
        task: String,
        /// The line of the scenario.
        line: u32,
        /// What was expected.
        expected: String,
        /// What came.
        got: String,
    },
    /// A condition on the final state does not hold.
    Finally {
        /// The line of the scenario.
        line: u32,
        /// What was expected.
        expected: String,
        /// What is.
        got: String,
    },
}

impl Failure {
    /// The kind of failure, one word: what shrinking and reports compare.
    pub fn class(&self) -> &'static str {
        match self {
            Failure::Hang(_) => "hang",
            Failure::Stale { .. } => "stale",
            Failure::Lost { .. } => "lost",
            Failure::Misplaced { .. } => "misplaced",
            Failure::Disagreement { .. } => "disagreement",
            Failure::Unseen { .. } => "unseen-write",
            Failure::Misrestored { .. } => "misrestored",
            Failure::Misled { .. } => "misled",
            Failure::Unresolved { .. } => "unresolved",
            Failure::StillChanging { .. } => "still-changing",
            Failure::Livelock { .. } => "livelock",
            Failure::Busy { .. } => "busy",
            Failure::Starved { .. } => "starved",
            Failure::UseAfterClose { .. } => "use-after-close",
            Failure::Deadlock { .. } => "deadlock",
            Failure::LockOrder { .. } => "lock-order",
            Failure::Panicked { .. } => "panicked",
            Failure::HandlerFailed { .. } => "handler-failed",
            Failure::Expectation { .. } => "expectation",
            Failure::Finally { .. } => "finally",
        }
    }

    /// What tells it from others when ends of runs are compared: its class and its page. Its other
    /// words may name threads that could have changed places.
    pub(super) fn essence(&self) -> (&'static str, Option<u64>) {
        (self.class(), self.page())
    }

    /// The page that it is about, if it is about one.
    fn page(&self) -> Option<u64> {
        match self {
            Failure::Stale { page, .. }
            | Failure::Lost { page }
            | Failure::Misplaced { page, .. }
            | Failure::Disagreement { page, .. }
            | Failure::Unseen { page, .. }
            | Failure::Misrestored { page, .. }
            | Failure::Starved { page, .. } => Some(*page),
            Failure::Misled { at, .. } => Some(*at),
            Failure::Busy { page, .. } => *page,
            _ => None,
        }
    }
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.task)?;
        if let Some(stands) = &self.stands {
            return write!(f, " {stands}");
        }
        match self.sleep {
            Some(Sleep::Fault { addr, write, taken }) => {
                let page = page_index(addr).unwrap_or(0);
                let access = if write { "write" } else { "read" };
                write!(f, " sleeps on a {access} of page {page}")?;
                f.write_str(if taken {
                    "; the handler took the fault and never woke it"
                } else {
                    "; nobody has read the fault"
                })?;
                if let Some(state) = self.handler {
                    write!(f, " (the handler holds the page for {state})")?;
                }
                Ok(())
            }
            Some(Sleep::Event(event)) => {
                write!(f, " sleeps until {} is read", describe_event(&event))
            }
            Some(Sleep::Lock) => write!(f, " waits for the mmap lock"),
            Some(Sleep::Reader(_)) => write!(f, " waits for a message, in read"),
            Some(Sleep::Poller(_)) => write!(f, " waits for a message, in poll"),
            Some(Sleep::Threads) => write!(f, " waits for other threads to end"),
            None => write!(f, " waits for another task or for the handler"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Hang(stuck) => {
                for (i, one) in stuck.iter().enumerate() {
                    if i > 0 {
                        f.write_str("; ")?;
                    }
                    write!(f, "{one}")?;
                }
                Ok(())
            }
            Failure::Stale { page, content } => {
                write!(f, "page {page} holds {content} although it was removed")
            }
            Failure::Lost { page } => {
                write!(f, "page {page} holds zeros although nothing removed it")
            }
            Failure::Misplaced { page, content } => write!(f, "page {page} holds {content}"),
            Failure::Disagreement { page, claim, present, snapshot } => {
                let who = if *snapshot { "the snapshot" } else { "the handler" };
                let is = if *present { "is" } else { "is not" };
                write!(f, "{who} says page {page} is {claim}, but it {is} there")
            }
            Failure::Unseen { page, snapshot } => {
                let who = if *snapshot { "the snapshot" } else { "the handler" };
                write!(f, "page {page} was written and {who} does not say so")
            }
            Failure::Misrestored { page, restored, content } => {
                let what = match restored {
                    Restored::Source => "the source's bytes",
                    Restored::Zeros => "zeros",
                    Restored::Saved => "what was saved",
                };
                write!(f, "page {page} of the snapshot is restored as {what}, and held {content}")
            }
            Failure::Misled { at, thinks, is } => {
                let words = |page: &Option<u64>| match page {
                    Some(page) => format!("page {page}"),
                    None => "nothing of its own".to_owned(),
                };
                write!(f, "the handler looks for {} at {at}, where {} is", words(thinks), words(is))
            }
            Failure::Unresolved { faults } => {
                write!(f, "the handler took {faults} faults that came to no end")
            }
            Failure::StillChanging { changing } => {
                write!(f, "mmap_changing is {changing} although nothing changes")
            }
            Failure::Livelock { steps } => {
                write!(f, "still going after {steps} steps: nobody makes progress")
            }
            Failure::Busy { call, page, times } => {
                let page = page.map_or_else(String::new, |page| format!(" page {page}"));
                write!(f, "{call}{page} came to nothing {times} times while nothing changed")
            }
            Failure::Starved { page, times } => {
                write!(
                    f,
                    "the fault on page {page} waits, passed over {times} times by younger ones"
                )
            }
            Failure::UseAfterClose { actor } => {
                write!(f, "{actor} used the userfaultfd after it was closed")
            }
            Failure::Deadlock { threads } => f.write_str(&threads.join("; ")),
            Failure::LockOrder { orders } => {
                write!(f, "locks are taken in contradicting orders: {}", orders.join("; "))
            }
            Failure::Panicked { thread, why } => write!(f, "{thread} panicked: {why}"),
            Failure::HandlerFailed { why } => write!(f, "the handler gave up: {why}"),
            Failure::Expectation { task, line, expected, got } => {
                write!(f, "line {line}: {task} expected {expected}, got {got}")
            }
            Failure::Finally { line, expected, got } => {
                write!(f, "line {line}: expected {expected}, but {got}")
            }
        }
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Claim::Absent => "untouched",
            Claim::Removed => "removed",
            Claim::Present => "installed",
            Claim::Maybe => "possibly installed",
        })
    }
}
