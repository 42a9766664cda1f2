//! Running one sequence on both sides. Owns what counts as a difference.

use std::fmt;

use shims::Errno;
use shims::linux::vma_probe::{Observed, ObservedVma, ProbeError, VmaProbe};
use sim::vma::{Backing, Vma, VmaFlags};

use super::model::{Model, arena};
use super::op::{Op, page_of};

/// A VMA as both sides can tell it: pages of the arena, tokens, page of the file.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Seen {
    start: u64,
    end: u64,
    tokens: String,
    file_page: Option<u64>,
}

/// The first call on which the two sides differ.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The number of the call, from 0.
    pub step: usize,
    op: Op,
    model: (Result<u64, Errno>, Vec<Seen>),
    kernel: (Result<u64, Errno>, Vec<Seen>),
    hidden: String,
}

/// Run `ops` on a fresh model and a fresh process and compare after every call. Calls that
/// the model does not admit are left out on both sides.
pub fn run_both(probe: &mut VmaProbe, ops: &[Op]) -> Result<Option<Difference>, ProbeError> {
    let mut model = Model::new();
    let mut done = Vec::with_capacity(ops.len());
    for op in ops {
        if model.admits(op) {
            let before = model.layout();
            let open = model.depends_on_pages(op);
            let result = model.apply(op);
            assert_eq!(model.space().validate(), Ok(()), "after {op}");
            let seen = model.space().iter().filter_map(seen_by_model).collect();
            done.push((*op, open, before, (result, seen)));
        }
    }
    let calls: Vec<_> = done.iter().map(|(op, ..)| op.call()).collect();
    let observed = probe.run(&calls)?;
    for (step, ((op, open, hidden, model), kernel)) in done.into_iter().zip(observed).enumerate() {
        let Observed { result, vmas } = kernel;
        let kernel = (result, vmas.iter().map(seen_by_kernel).collect());
        if !(open || same_result(&model.0, &kernel.0)) || model.1 != kernel.1 {
            return Ok(Some(Difference { step, op, model, kernel, hidden }));
        }
    }
    Ok(None)
}

/// Where the kernel places what it may place anywhere is not compared, only that it does so
/// outside the arena.
fn same_result(model: &Result<u64, Errno>, kernel: &Result<u64, Errno>) -> bool {
    match (model, kernel) {
        (Ok(model), Ok(kernel)) => {
            model == kernel || (*model > arena().end && *kernel > arena().end)
        }
        (model, kernel) => model == kernel,
    }
}

fn seen_by_model(vma: &Vma) -> Option<Seen> {
    if vma.start().raw() >= arena().end {
        return None;
    }
    let tokens: Vec<_> = VmaFlags::TOKENS
        .iter()
        .filter(|(flag, _)| vma.flags().contains(*flag))
        .map(|(_, token)| *token)
        .collect();
    let file = vma.backing() != Backing::Anon;
    Some(Seen {
        start: page_of(vma.start().raw())?,
        end: page_of(vma.end().raw())?,
        tokens: sorted(tokens),
        file_page: file.then(|| vma.pgoff()),
    })
}

fn seen_by_kernel(vma: &ObservedVma) -> Seen {
    let tokens = vma.flags.iter().filter_map(|token| std::str::from_utf8(token).ok()).collect();
    Seen {
        start: page_of(vma.start).unwrap_or(0),
        end: page_of(vma.end).unwrap_or(0),
        tokens: sorted(tokens),
        file_page: (vma.inode != 0).then_some(vma.offset >> 12),
    }
}

fn sorted(mut tokens: Vec<&str>) -> String {
    tokens.sort_unstable();
    tokens.join(" ")
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{},{}) {}", self.start, self.end, self.tokens)?;
        match self.file_page {
            Some(page) => write!(f, " file page {page}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "call {} `{}`", self.step, self.op)?;
        writeln!(f, "before: {}", self.hidden)?;
        for (name, (result, vmas)) in [("simulator", &self.model), ("kernel", &self.kernel)] {
            write!(f, "{name}: ")?;
            match result {
                Ok(value) => writeln!(f, "{value:#x}")?,
                Err(errno) => writeln!(f, "{errno}")?,
            }
            for vma in vmas {
                writeln!(f, "    {vma}")?;
            }
        }
        Ok(())
    }
}
