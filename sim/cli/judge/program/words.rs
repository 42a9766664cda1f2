//! The words of the format that stand for values, in both directions. Owns the tables, and how
//! parts of the memory are written.

use core::fmt;

use shims::{Features, RegisterModes};
use sim::scenario::{ScenarioError, Words};
use sim::vma::Prot;

use super::super::op::{Advise, Kind, PAGE};
use super::Wanted;
use super::doing::Part;

/// A value and its word.
pub(super) type Table<T> = &'static [(T, &'static str)];

pub(super) const KINDS: Table<Kind> = &[
    (Kind::Anon, "anon"),
    (Kind::Shmem, "shmem"),
    (Kind::ShmemPrivate, "shmem-private"),
    (Kind::Huge, "hugetlb"),
    (Kind::HugePrivate, "hugetlb-private"),
];

pub(super) const FEATURES: Table<Features> = &[
    (Features::EVENT_REMOVE, "remove"),
    (Features::EVENT_UNMAP, "unmap"),
    (Features::EVENT_REMAP, "remap"),
    (Features::EVENT_FORK, "fork"),
    (Features::THREAD_ID, "thread-id"),
    (Features::SIGBUS, "sigbus"),
    (Features::EXACT_ADDRESS, "exact-address"),
    (Features::WP_UNPOPULATED, "wp-unpopulated"),
    (Features::WP_ASYNC, "wp-async"),
    (Features::PAGEFAULT_FLAG_WP, "pagefault-flag-wp"),
    (Features::WP_HUGETLBFS_SHMEM, "wp-hugetlbfs-shmem"),
    (Features::MISSING_SHMEM, "missing-shmem"),
    (Features::MISSING_HUGETLBFS, "missing-hugetlbfs"),
    (Features::MINOR_SHMEM, "minor-shmem"),
    (Features::MINOR_HUGETLBFS, "minor-hugetlbfs"),
    (Features::POISON, "poison"),
    (Features::MOVE, "move"),
];

pub(super) const MODES: Table<RegisterModes> = &[
    (RegisterModes::MISSING, "missing"),
    (RegisterModes::WP, "wp"),
    (RegisterModes::MINOR, "minor"),
];

pub(super) const PROTS: Table<Prot> = &[
    (Prot::NONE, "none"),
    (Prot::READ, "r"),
    (Prot::WRITE, "w"),
    (Prot::RW, "rw"),
    (Prot::EXEC, "x"),
    (Prot::RX, "rx"),
    (Prot::RWX, "rwx"),
];

pub(super) const WANTED: Table<Wanted> =
    &[(Wanted::Exists, "exists"), (Wanted::Never, "never"), (Wanted::Diverges, "diverges")];

pub(super) const ADVICE: Table<Advise> = &[
    (Advise::WillNeed, "willneed"),
    (Advise::DontNeed, "dontneed"),
    (Advise::Free, "free"),
    (Advise::Remove, "remove"),
    (Advise::DontFork, "dontfork"),
    (Advise::HugePage, "hugepage"),
    (Advise::NoHugePage, "nohugepage"),
    (Advise::WipeOnFork, "wipeonfork"),
    (Advise::Cold, "cold"),
    (Advise::PageOut, "pageout"),
    (Advise::DontNeedLocked, "dontneed-locked"),
    (Advise::Collapse, "collapse"),
    (Advise::GuardInstall, "guard-install"),
    (Advise::GuardRemove, "guard-remove"),
];

/// The word for `value`.
pub(super) fn name<T: PartialEq>(table: Table<T>, value: &T) -> &'static str {
    let found = table.iter().find(|(known, _)| known == value);
    found.expect("every value has a word").1
}

/// The value that the next word of the line stands for.
pub(super) fn value<T: Copy>(
    words: &mut Words<'_>,
    table: Table<T>,
    what: &str,
) -> Result<T, ScenarioError> {
    let (word, column) = words.want(what)?;
    lookup(table, word).ok_or_else(|| words.error(column, one_of(table, word)))
}

pub(super) fn lookup<T: Copy>(table: Table<T>, word: &str) -> Option<T> {
    table.iter().find(|(_, name)| *name == word).map(|(value, _)| *value)
}

/// The message for a word that is none of a table's.
pub(super) fn one_of<T>(table: Table<T>, word: &str) -> String {
    let names: Vec<_> = table.iter().map(|(_, name)| format!("`{name}`")).collect();
    format!("expected one of {}, found `{word}`", names.join(", "))
}

impl fmt::Display for Part {
    /// `3`, `1..4`, or `0x10+0x1000` where it is not made of whole pages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Part { at, len } = *self;
        let pages = at.is_multiple_of(PAGE) && len.is_multiple_of(PAGE) && len > 0;
        match (at / PAGE, (at / PAGE).checked_add(len / PAGE)) {
            (start, Some(_)) if pages && len == PAGE => write!(f, "{start}"),
            (start, Some(end)) if pages => write!(f, "{start}..{end}"),
            _ => write!(f, "{at:#x}+{len:#x}"),
        }
    }
}

/// A byte of the arena: `3` is the start of page 3, `0x3008` is what it says.
pub(super) struct Place(pub(super) u64);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(PAGE) {
            write!(f, "{}", self.0 / PAGE)
        } else {
            write!(f, "{:#x}", self.0)
        }
    }
}

fn bytes(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// The byte that the next word names.
pub(super) fn place(words: &mut Words<'_>) -> Result<u64, ScenarioError> {
    let (word, column) = words.want("a page or a byte such as `0x1008`")?;
    let at = match word.starts_with("0x") {
        true => bytes(word),
        false => word.parse::<u64>().ok().and_then(|page| page.checked_mul(PAGE)),
    };
    let message = format!("expected a page or a byte such as `0x1008`, found `{word}`");
    at.ok_or_else(|| words.error(column, message))
}

/// The part that the next word names: a page, `A..B`, or `AT+LEN` in bytes.
pub(super) fn part(words: &mut Words<'_>) -> Result<Part, ScenarioError> {
    let (word, column) = words.want("pages")?;
    let found = if let Some((at, len)) = word.split_once('+') {
        bytes(at).zip(bytes(len)).map(|(at, len)| Part { at, len })
    } else {
        let (start, end) = match word.split_once("..") {
            Some((start, end)) => (start.parse::<u64>().ok(), end.parse::<u64>().ok()),
            None => (word.parse().ok(), word.parse::<u64>().ok().and_then(|n| n.checked_add(1))),
        };
        start.zip(end).and_then(|(start, end)| {
            let (at, len) = (start.checked_mul(PAGE), end.checked_sub(start)?.checked_mul(PAGE));
            at.zip(len).map(|(at, len)| Part { at, len })
        })
    };
    let message = format!(
        "expected a page, pages `A..B`, or bytes `AT+LEN` such as `0x10+4096`, found `{word}`"
    );
    found.ok_or_else(|| words.error(column, message))
}
