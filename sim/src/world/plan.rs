//! What the tasks of a world have still to do, as far as a search that leaves out orders has to
//! know it. Owns the table, made once for a world; what follows from it for the next step of
//! somebody is in `ahead.rs`.

use shims::{Features, RegisterModes};

use super::mishap::Mishap;
use super::program::{Control, Op, Setup};
use crate::kernel::{Madvise, page_bits};

/// What the rest of a program may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Rest {
    /// Pages it may touch: it can have a fault on them, write to them, or see what they hold.
    pub(super) touches: u64,
    /// Pages it gives up.
    pub(super) takes: u64,
    /// It takes the lock of the mappings for writing.
    pub(super) locks: bool,
    /// It does anything else: it speaks to the handler, or changes what is mapped or watched.
    pub(super) meddles: bool,
}

/// What the rests of all programs may do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Plan {
    /// For each task and each place in its program, what comes from there on.
    rests: Vec<Vec<Rest>>,
    /// For each task the first that has the same program, if tasks of that program can change
    /// places: none of them leaves anything that tells who it was.
    twins: Vec<usize>,
    /// For each task and each place in its program: has it asked for a snapshot that it has yet
    /// to take?
    asked: Vec<Vec<bool>>,
    /// For each task: do others with its program come behind it?
    leads: Vec<bool>,
    /// Does anybody fork?
    pub(super) forks: bool,
    /// The most messages that one read can take, if that is known.
    pub(super) messages: usize,
}

impl Rest {
    /// Both.
    pub(super) fn and(self, other: Rest) -> Rest {
        Rest {
            touches: self.touches | other.touches,
            takes: self.takes | other.takes,
            locks: self.locks | other.locks,
            meddles: self.meddles | other.meddles,
        }
    }

    /// Is an operation an access, `MADV_DONTNEED`, or none that the kernel knows of?
    pub(super) fn is_plain(op: &Op) -> bool {
        matches!(
            op,
            Op::Read { .. }
                | Op::Write { .. }
                | Op::Populate { .. }
                | Op::DontNeed { .. }
                | Op::Post(_)
                | Op::Await(_)
                | Op::Control(_)
        )
    }

    fn of(op: &Op, setup: &Setup) -> Rest {
        let page = |page: u64| {
            let start = setup.addr(page).raw();
            page_bits(start, start + setup.memory.page_size().bytes())
        };
        let span = |range: shims::Span| {
            let start = range.start.raw();
            page_bits(start, range.end().map_or(u64::MAX, shims::Addr::raw))
        };
        let none = Rest::default();
        match op {
            Op::Read { page: at, .. } | Op::Write { page: at, .. } => {
                Rest { touches: page(*at), ..none }
            }
            Op::Populate { range, .. } => Rest { touches: span(*range), ..none },
            Op::DontNeed { range, .. } => Rest { takes: span(*range), ..none },
            Op::Post(_) | Op::Await(_) => none,
            // These hold the lock for reading, if at all.
            Op::Remove { .. } | Op::Punch { .. } | Op::Truncate { .. } => {
                Rest { meddles: true, ..none }
            }
            Op::Advise { advice: Madvise::Free | Madvise::PageOut | Madvise::Cold, .. }
            | Op::Inject(_)
            | Op::Control(_) => Rest { meddles: true, ..none },
            _ => Rest { meddles: true, locks: true, ..none },
        }
    }
}

impl Plan {
    pub(super) fn new(setup: &Setup) -> Plan {
        let rests = setup.programs.iter().map(|program| {
            let mut rests = vec![Rest::default(); program.ops.len() + 1];
            for (at, op) in program.ops.iter().enumerate().rev() {
                rests[at] = rests[at + 1].and(Rest::of(op, setup));
            }
            rests
        });
        let mut ops = setup.programs.iter().flat_map(|program| &program.ops);
        let twins = twins(setup);
        let leads = |i: &usize| twins[i + 1..].contains(i);
        Plan {
            rests: rests.collect(),
            asked: setup.programs.iter().map(|program| asked(&program.ops)).collect(),
            leads: (0..twins.len()).map(|i| leads(&i)).collect(),
            twins,
            forks: ops.any(|op| matches!(op, Op::Fork { .. })),
            messages: messages(setup).unwrap_or(usize::MAX),
        }
    }

    /// What task `i` may do that has come to operation `at`.
    pub(super) fn rest(&self, i: usize, at: usize) -> Rest {
        self.rests[i][at]
    }

    /// Has task `i`, at operation `at`, asked for a snapshot that it has yet to take?
    pub(super) fn asked(&self, i: usize, at: usize) -> bool {
        self.asked[i][at]
    }

    /// Do others come behind task `i` that could change places with it, and none before it?
    pub(super) fn leads(&self, i: usize) -> bool {
        self.leads[i]
    }

    /// The first task that could change places with `i`.
    pub(super) fn twin(&self, i: usize) -> usize {
        self.twins[i]
    }
}

/// The most messages that one read can take, of a handler that has one request for a page; `None` if
/// there are operations of which that is not known.
///
/// A task asks for a page once for each operation that touches it, and once more each time that it
/// was let go: by a wake, or because the page had come, or its protection had gone, when it was about
/// to sleep. Until the read is over the handler learns of no fault. So a request that it has lets
/// tasks go at most twice over, for the faults that it knows and for those that came late; and each
/// snapshot leads to at most one question about a page. Each of these changes the page once and wakes
/// once. A write lets others go as well that are about to look at a page while it is replaced (c10),
/// once for each operation and for each time that the page has come anew. A removal announces itself
/// at most once for each of its pages.
fn messages(setup: &Setup) -> Option<usize> {
    if !setup.modes.contains(RegisterModes::MISSING) {
        return None;
    }
    let pages = |range: &shims::Span| range.len.whole_pages(setup.memory.page_size()) as usize;
    let (mut snapshots, mut touches, mut removals, mut tasks) = (0, 0_usize, 0_usize, 0);
    for program in &setup.programs {
        let before = touches;
        for op in &program.ops {
            match op {
                Op::Read { .. } | Op::Write { .. } => touches = touches.saturating_add(1),
                Op::Populate { range, .. } => touches = touches.saturating_add(pages(range)),
                Op::DontNeed { range, .. } => removals = removals.saturating_add(pages(range)),
                Op::Control(Control::BeginSnapshot | Control::BeginBaseline) => snapshots += 1,
                Op::Control(_) | Op::Post(_) | Op::Await(_) => {}
                _ => return None,
            }
        }
        tasks += usize::from(touches > before);
    }
    let changes = (2 + snapshots) * usize::try_from(setup.slots()).ok()?;
    // Changes and wakes; writes, and those that change brings about.
    let let_go = 2 * changes + touches.saturating_add(changes);
    Some(touches.saturating_add(removals).saturating_add(let_go.saturating_mul(tasks)))
}

fn asked(ops: &[Op]) -> Vec<bool> {
    let mut asked = vec![false];
    for op in ops {
        asked.push(match op {
            Op::Control(Control::BeginSnapshot | Control::BeginBaseline) => true,
            Op::Control(Control::Snapshot | Control::Export) => false,
            _ => asked[asked.len() - 1],
        });
    }
    asked
}

fn twins(setup: &Setup) -> Vec<usize> {
    let anonymous = |ops: &[Op]| {
        ops.iter().all(|op| {
            matches!(
                op,
                Op::Read { .. }
                    | Op::Populate { write: false, .. }
                    | Op::DontNeed { .. }
                    | Op::Post(_)
                    | Op::Await(_)
            )
        })
    };
    // What the kernel keeps of signals it keeps under the names that threads really have, and
    // messages may say those.
    let named =
        setup.mishaps.times(Mishap::Death) > 0 || setup.features.contains(Features::THREAD_ID);
    let programs = &setup.programs;
    (0..programs.len())
        .map(|i| {
            let one = &programs[i];
            let same = |other: &usize| {
                let other = &programs[*other];
                (other.beside, other.forked) == (one.beside, false) && other.ops == one.ops
            };
            if one.forked || named || !anonymous(&one.ops) {
                i
            } else {
                (0..i).find(same).unwrap_or(i)
            }
        })
        .collect()
}
