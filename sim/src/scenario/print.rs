//! From a [`Setup`] back to text.

use core::fmt;

use shims::Features;

use super::memory::{Pages, print_memory, print_operation};
use crate::vma::Prot;
use crate::world::{Control, Injection, Op, Patience, Setup};

impl fmt::Display for Setup {
    /// The scenario as a file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", super::HEADER)?;
        writeln!(f, "name      {}", self.name)?;
        if !self.about.is_empty() {
            writeln!(f, "about     {}", self.about)?;
        }
        write!(f, "memory    {} pages", self.pages)?;
        print_memory(self, f)?;
        writeln!(f)?;
        if self.room > 0 {
            writeln!(f, "room      {}", self.room)?;
        }
        let names = [
            (Features::EVENT_REMOVE, "remove"),
            (Features::EVENT_UNMAP, "unmap"),
            (Features::EVENT_REMAP, "remap"),
            (Features::EVENT_FORK, "fork"),
            (Features::THREAD_ID, "thread-id"),
        ];
        let features: Vec<_> = names
            .iter()
            .filter(|(feature, _)| self.features.contains(*feature))
            .map(|(_, name)| *name)
            .collect();
        let features = if features.is_empty() { "none".to_owned() } else { features.join(" ") };
        writeln!(f, "features  {features}")?;
        writeln!(f, "workers   {}", self.workers)?;
        writeln!(f, "profile   {}", self.profile.name())?;
        let bugs = self.profile.bug_words();
        if !bugs.is_empty() {
            writeln!(f, "bugs      {}", bugs.join(" "))?;
        }
        if !self.mishaps.is_empty() {
            writeln!(f, "mishaps   {}", self.mishaps)?;
        }
        if self.patience != Patience::default() {
            let Patience { busy, starved } = self.patience;
            writeln!(f, "patience  busy {busy} starved {starved}")?;
        }
        for program in &self.programs {
            let beside = if program.beside { " beside" } else { "" };
            writeln!(f, "\ntask {}{beside}", program.name)?;
            for op in &program.ops {
                self.op(f, op)?;
            }
        }
        if !self.finally.is_empty() {
            writeln!(f, "\nfinally")?;
            for finally in &self.finally {
                writeln!(f, "  {}", finally.check)?;
            }
        }
        Ok(())
    }
}

/// One operation.
struct Operation<'s>(&'s Setup, &'s Op);

impl fmt::Display for Operation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.op(f, self.1)
    }
}

impl Setup {
    /// `op`, which is one of its own, as a scenario has it. What is several operations has its
    /// text at the last one.
    pub fn operation(&self, op: &Op) -> String {
        Operation(self, op).to_string().trim().to_owned()
    }

    fn op(&self, f: &mut fmt::Formatter<'_>, op: &Op) -> fmt::Result {
        match op {
            // Two operations are parsed into several.
            Op::Control(Control::BeginSnapshot | Control::BeginBaseline | Control::Export) => {
                return Ok(());
            }
            Op::Control(Control::Snapshot) => return writeln!(f, "  snapshot"),
            Op::Control(Control::Baseline) => return writeln!(f, "  baseline"),
            Op::Control(Control::Cancel) => return writeln!(f, "  baseline cancelled"),
            _ => f.write_str("  ")?,
        }
        match op {
            Op::Read { page, .. } => write!(f, "read {page}")?,
            Op::Write { page, .. } => write!(f, "write {page}")?,
            Op::Populate { range, write: false, .. } => {
                write!(f, "populate-read {}", Pages(*range))?
            }
            Op::Populate { range, write: true, .. } => {
                write!(f, "populate-write {}", Pages(*range))?
            }
            Op::DontNeed { range, .. } => write!(f, "dontneed {}", Pages(*range))?,
            Op::Munmap { range, .. } => write!(f, "munmap {}", Pages(*range))?,
            Op::Mremap { range, to, dontunmap, .. } => {
                let keep = if *dontunmap { " dontunmap" } else { "" };
                write!(f, "mremap {} {to}{keep}", Pages(*range))?;
            }
            Op::Fork { tasks, .. } => {
                f.write_str("fork")?;
                for task in tasks {
                    write!(f, " {}", self.programs[*task].name)?;
                }
            }
            Op::Mprotect { range, prot, .. } => {
                let prot = match *prot {
                    Prot::NONE => "none",
                    Prot::READ => "r",
                    _ => "rw",
                };
                write!(f, "mprotect {} {prot}", Pages(*range))?;
            }
            Op::Register { range, .. } => write!(f, "register {}", Pages(*range))?,
            Op::Unregister { range, .. } => write!(f, "unregister {}", Pages(*range))?,
            Op::Close => f.write_str("close")?,
            Op::Post(label) => write!(f, "post {}", self.labels[usize::from(*label)])?,
            Op::Await(label) => write!(f, "await {}", self.labels[usize::from(*label)])?,
            Op::Inject(Injection::Eof) => f.write_str("inject eof")?,
            Op::Inject(Injection::UnknownEvent(code)) => write!(f, "inject message {code}")?,
            Op::Inject(Injection::Error(errno)) => write!(f, "inject error {errno:?}")?,
            Op::Inject(Injection::Mishap(_)) => {
                unreachable!("a scenario allows mishaps in its head")
            }
            Op::Control(Control::Pause) => f.write_str("pause")?,
            Op::Control(Control::Resume) => f.write_str("resume")?,
            Op::Control(_) => unreachable!("done above"),
            Op::Remove { .. } | Op::Advise { .. } | Op::Punch { .. } | Op::Truncate { .. } => {
                print_operation(op, f)?;
            }
        }
        match op.expect() {
            Some(expect) => writeln!(f, " -> {expect}"),
            None => writeln!(f),
        }
    }
}
