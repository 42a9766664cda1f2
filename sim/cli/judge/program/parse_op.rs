//! From a line to what is done: the operations of threads and what is asked of a userfaultfd.

use shims::{
    ContinueMode, CopyMode, Features, MoveMode, PoisonMode, RegisterModes, WriteProtectMode,
    ZeropageMode,
};
use sim::scenario::{ScenarioError, Words};
use sim::vma::{Prot, RemapFlags};

use super::super::op::{Fill, Op, PAGE, Piece};
use super::parse::length;
use super::words::{ADVICE, FEATURES, KINDS, MODES, PROTS, lookup, one_of, part, place, value};
use super::{Ask, Doing, Part};

/// What a line may refer to.
pub(super) struct Names {
    pub(super) tasks: Vec<String>,
    /// Pages of the arena.
    pub(super) pages: u64,
}

/// All features that the rest of the line names.
pub(super) fn features(words: &mut Words<'_>) -> Result<Features, ScenarioError> {
    let mut wanted = Features::empty();
    while let Some((word, column)) = words.clone().next() {
        if word == "by" || word == "->" {
            break;
        }
        words.next();
        if word != "none" {
            let found = lookup(FEATURES, word);
            wanted |= found.ok_or_else(|| words.error(column, one_of(FEATURES, word)))?;
        }
    }
    Ok(wanted)
}

/// The next word if it is `wanted`.
fn took(words: &mut Words<'_>, wanted: &str) -> bool {
    let here = words.clone().next().is_some_and(|(word, _)| word == wanted);
    if here {
        words.next();
    }
    here
}

/// The bits of the flags that stand here, in any order.
fn bits(words: &mut Words<'_>, table: &[(&str, u64)]) -> u64 {
    let mut bits = 0;
    while let Some((word, _)) = words.clone().next()
        && let Some((_, bit)) = table.iter().find(|(name, _)| *name == word)
    {
        words.next();
        bits |= bit;
    }
    bits
}

/// `by N`, or the first userfaultfd.
fn by(words: &mut Words<'_>) -> Result<usize, ScenarioError> {
    if took(words, "by") {
        return Ok(words.number("the number of a userfaultfd", 0, 63)? as usize);
    }
    Ok(0)
}

/// What the line does, up to its `->`: one thing, or one for each page.
pub(super) fn doings(words: &mut Words<'_>, names: &Names) -> Result<Vec<Doing>, ScenarioError> {
    let (word, column) = words.want("an operation")?;
    if word == "read" || word == "write" {
        let write = word == "write";
        let pages = words.clone().next().is_some_and(|(word, _)| word.contains(".."));
        let touch = |at| Doing::Thread(Op::Touch { at, write });
        if pages {
            let Part { at, len } = part(words)?;
            if len / PAGE > names.pages {
                return Err(words.error(column, "more pages than there are"));
            }
            return Ok((0..len / PAGE).map(|n| touch(at + n * PAGE)).collect());
        }
        return Ok(vec![touch(place(words)?)]);
    }
    if let Some(op) = thread(word, words)? {
        return Ok(vec![Doing::Thread(op)]);
    }
    if let Some(ask) = ask(word, words)? {
        return Ok(vec![Doing::Uffd(by(words)?, ask)]);
    }
    let doing = match word {
        "open" => Doing::Open(features(words)?),
        "kill" => Doing::Kill(words.number("a process", 0, 63)? as usize),
        "signal" => {
            let (name, column) = words.want("a task")?;
            let task = names.tasks.iter().position(|task| task == name);
            let message = format!("no task above is `{name}`");
            Doing::Signal(task.ok_or_else(|| words.error(column, message))?)
        }
        _ => {
            let message = format!("expected an operation, found `{word}`");
            return Err(words.error(column, message));
        }
    };
    Ok(vec![doing])
}

/// A system call or an access of the thread.
fn thread(word: &str, words: &mut Words<'_>) -> Result<Option<Op>, ScenarioError> {
    let write = word.ends_with("-write");
    Ok(Some(match word {
        "store" => {
            let Part { at, .. } = part(words)?;
            Op::Store(at / PAGE, words.number("a number", 1, u64::from(u32::MAX))? as u32)
        }
        "user-read" | "user-write" => Op::UserCopy { at: place(words)?, write },
        "mem-read" | "mem-write" => Op::ProcMem { at: place(words)?, write },
        "remote-read" | "remote-write" => Op::Remote { at: place(words)?, write },
        "populate-read" | "populate-write" => {
            let Part { at, len } = part(words)?;
            Op::Populate { at, len, write }
        }
        "dontneed" => {
            let Part { at, len } = part(words)?;
            Op::DontNeed { at, len }
        }
        "process-dontneed" => {
            let Part { at, len } = part(words)?;
            Op::DontNeedSelf { at, len }
        }
        "advise" => {
            let Part { at, len } = part(words)?;
            Op::Advise { at, len, advice: value(words, ADVICE, "an advice")? }
        }
        "mmap" => {
            let Part { at, len } = part(words)?;
            let prot = value(words, PROTS, "a protection")?;
            let fill = if took(words, "locked") {
                Fill::Locked
            } else if took(words, "populate") {
                Fill::Populated
            } else {
                Fill::Later
            };
            Op::Map { at, len, prot, fill }
        }
        "map-file" => {
            let Part { at, len } = part(words)?;
            let kind = value(words, KINDS, "a kind of memory")?;
            let mut piece = Piece::new(at / PAGE, len / PAGE, kind);
            if took(words, "file") {
                piece.file = words.number("a file's number", 0, 255)? as u8;
            }
            if took(words, "from") {
                piece.offset = words.number("a page of the file", 0, 1 << 20)?;
            }
            piece.prot = Prot::RW;
            if took(words, "prot") {
                piece.prot = value(words, PROTS, "a protection")?;
            }
            Op::MapFile { piece }
        }
        "munmap" => {
            let Part { at, len } = part(words)?;
            Op::Unmap { at, len }
        }
        "mprotect" => {
            let Part { at, len } = part(words)?;
            Op::Protect { at, len, prot: value(words, PROTS, "a protection")? }
        }
        "mremap" => {
            let Part { at, len } = part(words)?;
            if took(words, "resize") {
                let new_len = length(words)?;
                let mut flags = RemapFlags::empty();
                if took(words, "flags") {
                    flags = RemapFlags::from_bits_retain(length(words)?);
                }
                let to = if took(words, "to") { Some(place(words)?) } else { None };
                Op::Remap { at, len, new_len, to, flags }
            } else {
                let to = Some(place(words)?);
                let mut flags = RemapFlags::MAYMOVE | RemapFlags::FIXED;
                if took(words, "dontunmap") {
                    flags |= RemapFlags::DONTUNMAP;
                }
                Op::Remap { at, len, new_len: len, to, flags }
            }
        }
        "mlock" => {
            let Part { at, len } = part(words)?;
            Op::Lock { at, len, on_fault: took(words, "on-fault") }
        }
        "mseal" => {
            let Part { at, len } = part(words)?;
            Op::Seal { at, len }
        }
        "shmat" => {
            let Part { at, len } = part(words)?;
            Op::SysvAttach { at, len }
        }
        "truncate" => {
            let file = words.number("a file's number", 0, 255)? as u8;
            Op::Truncate { file, len: length(words)? }
        }
        "punch" => {
            let file = words.number("a file's number", 0, 255)? as u8;
            let Part { at, len } = part(words)?;
            Op::Punch { file, at, len }
        }
        "fork" => Op::Fork,
        "fork-with-files" => Op::ForkWithFiles,
        "fork-sharing-files" => Op::ForkSharingFiles,
        "vfork" => Op::Vfork,
        "copy-from" => {
            let Part { at: from, len } = part(words)?;
            let to = place(words)?;
            Op::CopyFrom { uffd: by(words)?, to, from, len }
        }
        "copy-arg" => {
            let (arg, to) = (place(words)?, place(words)?);
            Op::CopyArg { uffd: by(words)?, to, arg }
        }
        "read-blocking" => Op::ReadBlocking { uffd: by(words)? },
        "poll-blocking" => Op::PollBlocking { uffd: by(words)? },
        "exit" => Op::Exit,
        _ => return Ok(None),
    }))
}

/// Something asked of a userfaultfd.
fn ask(word: &str, words: &mut Words<'_>) -> Result<Option<Ask>, ScenarioError> {
    const DONTWAKE: (&str, u64) = ("dontwake", 1);
    Ok(Some(match word {
        "register" => {
            let part = part(words)?;
            let mut modes = RegisterModes::empty();
            while let Some((word, _)) = words.clone().next()
                && let Some(mode) = lookup(MODES, word)
            {
                words.next();
                modes |= mode;
            }
            Ask::Register(part, modes)
        }
        "unregister" => Ask::Unregister(part(words)?),
        "wake" => Ask::Wake(part(words)?),
        "copy" => {
            let part = part(words)?;
            Ask::Copy(part, CopyMode::from_bits_retain(bits(words, &[DONTWAKE, ("wp", 2)])))
        }
        "zeropage" => {
            let part = part(words)?;
            Ask::Zeropage(part, ZeropageMode::from_bits_retain(bits(words, &[DONTWAKE])))
        }
        "continue" => {
            let part = part(words)?;
            let mode = bits(words, &[DONTWAKE, ("wp", 2)]);
            Ask::Continue(part, ContinueMode::from_bits_retain(mode))
        }
        "writeprotect" => {
            let part = part(words)?;
            let on = value(words, &[(1, "on"), (0, "off")], "`on` or `off`")?;
            let mode = on | bits(words, &[("dontwake", 2)]);
            Ask::WriteProtect(part, WriteProtectMode::from_bits_retain(mode))
        }
        "move" => {
            let part = part(words)?;
            let to = place(words)?;
            let mode = bits(words, &[DONTWAKE, ("holes", 2)]);
            Ask::Move(part, to, MoveMode::from_bits_retain(mode))
        }
        "poison" => {
            let part = part(words)?;
            Ask::Poison(part, PoisonMode::from_bits_retain(bits(words, &[DONTWAKE])))
        }
        "message" => Ask::Message,
        "events" => Ask::Events(words.number("a number of messages", 1, 64)? as usize),
        "poll" => Ask::Poll,
        "close" => Ask::Close,
        "dup" => Ask::Duplicate,
        "nonblocking" => {
            Ask::Nonblocking(value(words, &[(true, "on"), (false, "off")], "`on` or `off`")?)
        }
        _ => return Ok(None),
    }))
}
