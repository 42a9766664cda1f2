//! The words about memory: what it is, who is told of accesses to it, the advices, what happens
//! to the file behind it. Owns both directions, from text and back.

use core::fmt;

use shims::{RegisterModes, Span};

use super::parse::expectation;
use super::words::{ScenarioError, Words};
use crate::kernel::Madvise;
use crate::world::{Memory, Op, Setup, page_index};

/// The operations that [`operation`] knows.
pub(super) const WORDS: &str =
    "free, cold, pageout, collapse, guard, unguard, remove, punch, truncate";

const ADVICES: [(&str, Madvise); 6] = [
    ("free", Madvise::Free),
    ("cold", Madvise::Cold),
    ("pageout", Madvise::PageOut),
    ("collapse", Madvise::Collapse),
    ("guard", Madvise::GuardInstall),
    ("unguard", Madvise::GuardRemove),
];

const MODES: [(&str, RegisterModes); 3] = [
    ("missing", RegisterModes::MISSING),
    ("wp", RegisterModes::WP),
    ("minor", RegisterModes::MINOR),
];

/// What stands behind `memory N pages`: the kind, who is told of what (`missing` if nothing is
/// said), and whether the file has the source.
pub(super) fn parse_memory(words: &mut Words<'_>, setup: &mut Setup) -> Result<(), ScenarioError> {
    let mut modes = RegisterModes::empty();
    let mut minor = None;
    let mut first = true;
    while let Some((word, column)) = words.next() {
        let kind = Memory::from_word(word).filter(|_| core::mem::take(&mut first));
        first = false;
        match (kind, MODES.iter().find(|(name, _)| *name == word)) {
            (Some(kind), _) => setup.memory = kind,
            (None, Some((_, mode))) => {
                if *mode == RegisterModes::MINOR {
                    minor = Some(column);
                }
                modes |= *mode;
            }
            (None, None) if word == "filled" => {
                if !setup.memory.is_shared() {
                    let message = "`filled` is for memory of a shared file: `shmem` or `hugetlb`";
                    return Err(words.error(column, message));
                }
                setup.filled = true;
                break;
            }
            (None, None) => {
                let kinds = Memory::ALL.map(|kind| format!("`{kind}`")).join(", ");
                let message = format!(
                    "expected {kinds}, then `missing`, `wp`, `minor`, then `filled` or the end, \
                     found `{word}`"
                );
                return Err(words.error(column, message));
            }
        }
    }
    if let Some(column) = minor
        && matches!(setup.memory, Memory::Anon)
    {
        let message = "`minor` is for memory of a file, such as `shmem`, or of huge pages";
        return Err(words.error(column, message));
    }
    setup.modes = if modes.is_empty() { RegisterModes::MISSING } else { modes };
    Ok(())
}

/// The same as text, if it is not what is taken for granted.
pub(super) fn print_memory(setup: &Setup, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if setup.memory != Memory::Anon {
        write!(f, " {}", setup.memory)?;
    }
    if setup.modes != RegisterModes::MISSING {
        for (name, _) in MODES.iter().filter(|(_, mode)| setup.modes.contains(*mode)) {
            write!(f, " {name}")?;
        }
    }
    if setup.filled { f.write_str(" filled") } else { Ok(()) }
}

/// `beside` behind the name of a task.
pub(super) fn beside(words: &mut Words<'_>, setup: &Setup) -> Result<bool, ScenarioError> {
    let Some((word, column)) = words.clone().next() else { return Ok(false) };
    if word != "beside" {
        return Ok(false);
    }
    words.next();
    if !setup.memory.is_shared() {
        let message = "nobody is beside private memory: `beside` is for `shmem` and `hugetlb`";
        return Err(words.error(column, message));
    }
    Ok(true)
}

/// The operation that `word` begins, if it is one of these.
pub(super) fn operation(
    word: &str,
    column: u32,
    words: &mut Words<'_>,
    setup: &Setup,
) -> Result<Option<Op>, ScenarioError> {
    if let Some(&(_, advice)) = ADVICES.iter().find(|(name, _)| *name == word) {
        let range = range(words, setup)?;
        return Ok(Some(Op::Advise { range, advice, expect: expectation(words)? }));
    }
    if matches!(word, "punch" | "truncate") && !setup.memory.has_file() {
        let message = format!("`{word}` is for memory of a file: `shmem` or `hugetlb`");
        return Err(words.error(column, message));
    }
    let op = match word {
        "remove" => {
            let range = range(words, setup)?;
            Op::Remove { range, expect: expectation(words)? }
        }
        "punch" => {
            let (start, end) = page_or_range(words, setup.pages)?;
            let range = setup.memory.span(start, end);
            Op::Punch { range, expect: expectation(words)? }
        }
        "truncate" => {
            let pages = words.number("a number of pages", 0, setup.pages)?;
            Op::Truncate { pages, expect: expectation(words)? }
        }
        _ => return Ok(None),
    };
    Ok(Some(op))
}

/// The same as text.
pub(super) fn print_operation(op: &Op, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match op {
        Op::Advise { range, advice, .. } => {
            let word = ADVICES.iter().find(|(_, known)| known == advice);
            let (word, _) = word.expect("a parsed scenario has no other advice");
            write!(f, "{word} {}", Pages(*range))
        }
        Op::Remove { range, .. } => write!(f, "remove {}", Pages(*range)),
        Op::Punch { range, .. } => write!(f, "punch {}", Pages(*range)),
        Op::Truncate { pages, .. } => write!(f, "truncate {pages}"),
        op => unreachable!("{op:?} is printed with the others"),
    }
}

/// What the kernel would refuse before anything runs.
pub(super) fn check(setup: &Setup) -> Result<(), String> {
    let others = setup.filled || setup.programs.iter().any(|program| program.beside);
    if setup.tracks_writes() && others && !setup.modes.contains(RegisterModes::MINOR) {
        return Err(
            "`wp` needs `minor` where others fill the file: pages that come by themselves \
                    come unprotected"
                .to_owned(),
        );
    }
    setup.refused_by_kernel().map_or(Ok(()), Err)
}

/// A range of pages as scenarios write it.
pub(super) struct Pages(pub(super) Span);

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = page_index(self.0.start).unwrap_or(0);
        let end = self.0.end().and_then(page_index).unwrap_or(0);
        write!(f, "{start}..{end}")
    }
}

/// `A` or `A..B`, pages of the memory, as `[start, end)`.
pub(super) fn page_or_range(
    words: &mut Words<'_>,
    pages: u64,
) -> Result<(u64, u64), ScenarioError> {
    let (word, column) = words.want("a page or a range `A..B`")?;
    let bad = |words: &Words<'_>| {
        let message = format!("expected a page or a range `A..B` of pages, found `{word}`");
        words.error(column, message)
    };
    let (start, end) = match word.split_once("..") {
        Some((start, end)) => {
            (start.parse().map_err(|_| bad(words))?, end.parse().map_err(|_| bad(words))?)
        }
        None => {
            let page: u64 = word.parse().map_err(|_| bad(words))?;
            (page, page.saturating_add(1))
        }
    };
    if start >= end {
        return Err(words.error(column, format!("the range `{word}` is empty")));
    }
    if end > pages {
        let message = format!("`{word}` reaches beyond the memory, which has {pages} pages");
        return Err(words.error(column, message));
    }
    Ok((start, end))
}

/// The same as addresses; operations can name the room behind the memory, too.
pub(super) fn range(words: &mut Words<'_>, setup: &Setup) -> Result<Span, ScenarioError> {
    let (start, end) = page_or_range(words, setup.slots())?;
    Ok(setup.memory.span(start, end))
}
