//! From a [`Program`] back to text that parses to the same program.

use core::fmt;

use shims::RegisterModes;
use sim::scenario::HEADER;
use sim::vma::{Prot, RemapFlags};

use super::super::op::{Fill, Kind, Op, PAGE, Piece};
use super::words::{ADVICE, FEATURES, KINDS, MODES, PROTS, Place, WANTED, name};
use super::{Ask, Body, Clause, Doing, Expect, Part, Program, Watched};

impl fmt::Display for Program {
    /// The program as a file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}\n\nname      {}", self.name)?;
        if !self.about.is_empty() {
            writeln!(f, "about     {}", self.about)?;
        }
        writeln!(f, "handler   script")?;
        for watched in &self.memory {
            writeln!(f, "memory    {watched}")?;
        }
        if self.room > 0 {
            writeln!(f, "room      {}", self.room)?;
        }
        write!(f, "features ")?;
        features(f, self.features)?;
        writeln!(f)?;
        if self.user_mode_only {
            writeln!(f, "open      user-mode-only")?;
        }
        if let Some(profile) = &self.profile {
            writeln!(f, "profile   {}", profile.name())?;
            let bugs = profile.bug_words();
            if !bugs.is_empty() {
                writeln!(f, "bugs      {}", bugs.join(" "))?;
            }
        }
        let names = self.names();
        if !self.setup.is_empty() {
            writeln!(f, "\nsetup")?;
            for doing in &self.setup {
                writeln!(f, "  {}", Named(doing, &names))?;
            }
        }
        match &self.body {
            Body::Tasks(tasks) => {
                for task in tasks {
                    writeln!(f, "\ntask {}", task.name)?;
                    for (doing, expect) in &task.ops {
                        write!(f, "  {}", Named(doing, &names))?;
                        arrow(f, expect.as_ref())?;
                    }
                }
            }
            Body::Sequence { tasks, steps } => {
                writeln!(f)?;
                for (name, process) in tasks {
                    write!(f, "task {name}")?;
                    match process {
                        0 => writeln!(f)?,
                        process => writeln!(f, " in {process}")?,
                    }
                }
                writeln!(f, "\nsequence")?;
                for step in steps {
                    write!(f, "  {}:", names[step.task])?;
                    if let Some(doing) = &step.doing {
                        write!(f, " {}", Named(doing, &names))?;
                    }
                    arrow(f, step.expect.as_ref())?;
                }
            }
        }
        for condition in &self.conditions {
            writeln!(f, "\n{}", name(WANTED, &condition.wanted))?;
            for clause in &condition.clauses {
                match clause {
                    Clause::Page(page, state) => writeln!(f, "  page {page} {state}")?,
                    Clause::Result(task, nth, expect) => {
                        writeln!(f, "  {} {} {expect}", names[*task], nth + 1)?;
                    }
                    Clause::Asleep(task) => writeln!(f, "  {} asleep", names[*task])?,
                }
            }
        }
        Ok(())
    }
}

fn arrow(f: &mut fmt::Formatter<'_>, expect: Option<&Expect>) -> fmt::Result {
    match expect {
        Some(expect) => writeln!(f, " -> {expect}"),
        None => writeln!(f),
    }
}

fn features(f: &mut fmt::Formatter<'_>, features: shims::Features) -> fmt::Result {
    if features.is_empty() {
        return f.write_str(" none");
    }
    FEATURES
        .iter()
        .filter(|(feature, _)| features.contains(*feature))
        .try_for_each(|(_, name)| write!(f, " {name}"))
}

fn modes(f: &mut fmt::Formatter<'_>, modes: RegisterModes) -> fmt::Result {
    MODES
        .iter()
        .filter(|(mode, _)| modes.contains(*mode))
        .try_for_each(|(_, name)| write!(f, " {name}"))
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} pages {}", self.piece.pages, name(KINDS, &self.piece.kind))?;
        write!(f, " at {}", self.piece.at)?;
        piece(f, &self.piece)?;
        if self.modes.is_empty() { f.write_str(" unwatched") } else { modes(f, self.modes) }
    }
}

/// The file and the protection, where they are not what one expects.
fn piece(f: &mut fmt::Formatter<'_>, piece: &Piece) -> fmt::Result {
    if piece.kind != Kind::Anon && (piece.file != 0 || piece.offset != 0) {
        write!(f, " file {} from {}", piece.file, piece.offset)?;
    }
    if piece.prot != Prot::RW {
        write!(f, " prot {}", name(PROTS, &piece.prot))?;
    }
    Ok(())
}

/// Something that is done, where tasks have these names.
pub(super) struct Named<'a>(pub(super) &'a Doing, pub(super) &'a [&'a str]);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Doing::Thread(op) => write!(f, "{op}"),
            Doing::Uffd(uffd, asked) => {
                ask(f, asked)?;
                if *uffd == 0 { Ok(()) } else { write!(f, " by {uffd}") }
            }
            Doing::Open(wanted) => {
                f.write_str("open")?;
                features(f, *wanted)
            }
            Doing::Signal(task) => write!(f, "signal {}", self.1[*task]),
            Doing::Kill(process) => write!(f, "kill {process}"),
        }
    }
}

fn flags(f: &mut fmt::Formatter<'_>, given: &[(bool, &str)]) -> fmt::Result {
    given.iter().filter(|(on, _)| *on).try_for_each(|(_, word)| write!(f, " {word}"))
}

fn ask(f: &mut fmt::Formatter<'_>, ask: &Ask) -> fmt::Result {
    match ask {
        Ask::Register(part, wanted) => {
            write!(f, "register {part}")?;
            modes(f, *wanted)
        }
        Ask::Unregister(part) => write!(f, "unregister {part}"),
        Ask::Wake(part) => write!(f, "wake {part}"),
        Ask::Copy(part, mode) => {
            write!(f, "copy {part}")?;
            flags(f, &[(mode.bits() & 1 != 0, "dontwake"), (mode.bits() & 2 != 0, "wp")])
        }
        Ask::Zeropage(part, mode) => {
            write!(f, "zeropage {part}")?;
            flags(f, &[(mode.bits() & 1 != 0, "dontwake")])
        }
        Ask::Continue(part, mode) => {
            write!(f, "continue {part}")?;
            flags(f, &[(mode.bits() & 1 != 0, "dontwake"), (mode.bits() & 2 != 0, "wp")])
        }
        Ask::WriteProtect(part, mode) => {
            let on = if mode.bits() & 1 != 0 { "on" } else { "off" };
            write!(f, "writeprotect {part} {on}")?;
            flags(f, &[(mode.bits() & 2 != 0, "dontwake")])
        }
        Ask::Move(part, to, mode) => {
            write!(f, "move {part} {}", Place(*to))?;
            flags(f, &[(mode.bits() & 1 != 0, "dontwake"), (mode.bits() & 2 != 0, "holes")])
        }
        Ask::Poison(part, mode) => {
            write!(f, "poison {part}")?;
            flags(f, &[(mode.bits() & 1 != 0, "dontwake")])
        }
        Ask::Message => f.write_str("message"),
        Ask::Events(max) => write!(f, "events {max}"),
        Ask::Poll => f.write_str("poll"),
        Ask::Close => f.write_str("close"),
        Ask::Duplicate => f.write_str("dup"),
        Ask::Nonblocking(on) => write!(f, "nonblocking {}", if *on { "on" } else { "off" }),
    }
}

impl fmt::Display for Op {
    /// The operation in the words of the format.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |at, len| Part { at, len };
        let way = |write| if write { "write" } else { "read" };
        match *self {
            Op::Load(page) | Op::Glance(page) => write!(f, "read {page}"),
            Op::Store(page, 0) => write!(f, "write {page}"),
            Op::Store(page, seq) => write!(f, "store {page} {seq}"),
            Op::Touch { at, write } => write!(f, "{} {}", way(write), Place(at)),
            Op::UserCopy { at, write } => write!(f, "user-{} {}", way(write), Place(at)),
            Op::ProcMem { at, write } => write!(f, "mem-{} {}", way(write), Place(at)),
            Op::Remote { at, write } => write!(f, "remote-{} {}", way(write), Place(at)),
            Op::Populate { at, len, write } => {
                write!(f, "populate-{} {}", way(write), part(at, len))
            }
            Op::DontNeed { at, len } => write!(f, "dontneed {}", part(at, len)),
            Op::Advise { at, len, advice } => {
                write!(f, "advise {} {}", part(at, len), name(ADVICE, &advice))
            }
            Op::DontNeedSelf { at, len } => write!(f, "process-dontneed {}", part(at, len)),
            Op::Map { at, len, prot, fill } => {
                write!(f, "mmap {} {}", part(at, len), name(PROTS, &prot))?;
                flags(f, &[(fill == Fill::Locked, "locked"), (fill == Fill::Populated, "populate")])
            }
            Op::MapFile { piece: mapped } => {
                let at = part(mapped.at * PAGE, mapped.pages * PAGE);
                write!(f, "map-file {at} {}", name(KINDS, &mapped.kind))?;
                piece(f, &mapped)
            }
            Op::Unmap { at, len } => write!(f, "munmap {}", part(at, len)),
            Op::Protect { at, len, prot } => {
                write!(f, "mprotect {} {}", part(at, len), name(PROTS, &prot))
            }
            Op::Remap { at, len, new_len, to, flags: given } => {
                write!(f, "mremap {}", part(at, len))?;
                let usual = RemapFlags::MAYMOVE | RemapFlags::FIXED;
                match to {
                    Some(to)
                        if new_len == len
                            && given | RemapFlags::DONTUNMAP == usual | RemapFlags::DONTUNMAP =>
                    {
                        write!(f, " {}", Place(to))?;
                        flags(f, &[(given.contains(RemapFlags::DONTUNMAP), "dontunmap")])
                    }
                    _ => {
                        write!(f, " resize {new_len:#x} flags {:#x}", given.bits())?;
                        to.map_or(Ok(()), |to| write!(f, " to {}", Place(to)))
                    }
                }
            }
            Op::Lock { at, len, on_fault } => {
                write!(f, "mlock {}", part(at, len))?;
                flags(f, &[(on_fault, "on-fault")])
            }
            Op::Seal { at, len } => write!(f, "mseal {}", part(at, len)),
            Op::SysvAttach { at, len } => write!(f, "shmat {}", part(at, len)),
            Op::Truncate { file, len } => write!(f, "truncate {file} {len:#x}"),
            Op::Punch { file, at, len } => write!(f, "punch {file} {}", part(at, len)),
            Op::Fork => f.write_str("fork"),
            Op::ForkWithFiles => f.write_str("fork-with-files"),
            Op::ForkSharingFiles => f.write_str("fork-sharing-files"),
            Op::Vfork => f.write_str("vfork"),
            Op::CopyFrom { uffd, to, from, len } => {
                write!(f, "copy-from {} {}", part(from, len), Place(to))?;
                if uffd == 0 { Ok(()) } else { write!(f, " by {uffd}") }
            }
            Op::CopyArg { uffd, to, arg } => {
                write!(f, "copy-arg {} {}", Place(arg), Place(to))?;
                if uffd == 0 { Ok(()) } else { write!(f, " by {uffd}") }
            }
            Op::ReadBlocking { uffd } => {
                f.write_str("read-blocking")?;
                if uffd == 0 { Ok(()) } else { write!(f, " by {uffd}") }
            }
            Op::PollBlocking { uffd } => {
                f.write_str("poll-blocking")?;
                if uffd == 0 { Ok(()) } else { write!(f, " by {uffd}") }
            }
            Op::Exit => f.write_str("exit"),
        }
    }
}
