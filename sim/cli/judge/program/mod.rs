//! A program for both kernels: memory, a userfaultfd, and what threads and a handler do, in an
//! order that is given or in any. Owns the values; `parse.rs` and `print.rs` have them as text.

mod doing;
mod parse;
mod parse_op;
mod print;
mod result;
mod words;

use shims::{Features, RegisterModes};
use sim::Profile;

use super::op::{Fill, Op, Piece};
pub use doing::{Ask, Doing, Part};
pub use parse::{is_program, parse};
pub use result::{Expect, Seen, content_text, page_text};

/// What [`parse`] reads.
#[derive(Clone, PartialEq, Debug)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// What it is about, one line.
    pub about: String,
    /// What is mapped before anything happens, and for what userfaultfd 0 watches it.
    pub memory: Vec<Watched>,
    /// Pages of address space behind the memory in which nothing is mapped.
    pub room: u64,
    /// What userfaultfd 0 asks for.
    pub features: Features,
    /// Is it opened with `UFFD_USER_MODE_ONLY`?
    pub user_mode_only: bool,
    /// Which kernel is simulated; the one that stands for the running kernel if nothing is
    /// said.
    pub profile: Option<Profile>,
    /// What is done before the tasks begin, by a thread that has nothing else to do.
    pub setup: Vec<Doing>,
    /// What happens.
    pub body: Body,
    /// What some ending must look like, and what none may.
    pub conditions: Vec<Condition>,
}

/// A piece of memory and what is watched of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Watched {
    /// The memory.
    pub piece: Piece,
    /// Empty if it is not registered.
    pub modes: RegisterModes,
}

/// What happens in a program.
#[derive(Clone, PartialEq, Debug)]
pub enum Body {
    /// Every task goes its own way.
    Tasks(Vec<Task>),
    /// One step after another, each until nothing moves any more.
    Sequence {
        /// Who takes part, with the process each is a thread of.
        tasks: Vec<(String, usize)>,
        /// What they do.
        steps: Vec<Step>,
    },
}

/// What one thread does, in order.
#[derive(Clone, PartialEq, Debug)]
pub struct Task {
    /// Its name.
    pub name: String,
    /// What it does, and what must come of it in every ending.
    pub ops: Vec<(Doing, Option<Expect>)>,
}

/// A step of a sequence.
#[derive(Clone, PartialEq, Debug)]
pub struct Step {
    /// Whose, by its place among the tasks.
    pub task: usize,
    /// What it does; nothing to see only what has become of what it did last.
    pub doing: Option<Doing>,
    /// What must come of it.
    pub expect: Option<Expect>,
}

/// A condition on how a program of tasks ends.
#[derive(Clone, PartialEq, Debug)]
pub struct Condition {
    /// What it says of such endings.
    pub wanted: Wanted,
    /// All of these.
    pub clauses: Vec<Clause>,
}

/// What a condition says of the endings it describes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// The simulator allows one of them.
    Exists,
    /// It allows none.
    Never,
    /// It allows none, and the running kernel comes to one all the same: a divergence that is
    /// known and written down.
    Diverges,
}

/// A part of a condition.
#[derive(Clone, PartialEq, Debug)]
pub enum Clause {
    /// A page is like this in the end.
    Page(u64, String),
    /// The result of the `.1`th operation of the `.0`th task, counted from 0.
    Result(usize, usize, Expect),
    /// The task sleeps.
    Asleep(usize),
}

impl Program {
    /// Pages of the arena.
    pub fn pages(&self) -> u64 {
        let end = |watched: &Watched| watched.piece.at + watched.piece.pages;
        self.memory.iter().map(end).max().unwrap_or(0) + self.room
    }

    /// What is mapped at the start.
    pub fn pieces(&self) -> Vec<Piece> {
        self.memory.iter().map(|watched| watched.piece).collect()
    }

    /// Does the kernel access watched memory for one of the tasks?
    pub fn faults_in_the_kernel(&self) -> bool {
        let kernel = |doing: &Doing| {
            matches!(
                doing,
                Doing::Thread(
                    Op::Populate { .. }
                        | Op::UserCopy { .. }
                        | Op::ProcMem { .. }
                        | Op::Remote { .. }
                        | Op::Lock { on_fault: false, .. }
                        | Op::Map { fill: Fill::Populated | Fill::Locked, .. }
                        | Op::CopyFrom { .. }
                        | Op::CopyArg { .. }
                )
            )
        };
        let body = match &self.body {
            Body::Tasks(tasks) => {
                tasks.iter().flat_map(|task| &task.ops).any(|(doing, _)| kernel(doing))
            }
            Body::Sequence { steps, .. } => {
                steps.iter().filter_map(|step| step.doing.as_ref()).any(kernel)
            }
        };
        body || self.setup.iter().any(kernel)
    }

    /// The names of the tasks.
    pub fn names(&self) -> Vec<&str> {
        match &self.body {
            Body::Tasks(tasks) => tasks.iter().map(|task| task.name.as_str()).collect(),
            Body::Sequence { tasks, .. } => tasks.iter().map(|(name, _)| name.as_str()).collect(),
        }
    }
}
