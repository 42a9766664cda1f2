//! Is a thread asleep in the kernel, and where? Owns the files of `/proc` that tell, kept open:
//! they are asked in every round.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// A thread that is looked at.
#[derive(Debug)]
pub(super) struct Look {
    stat: File,
    wchan: File,
    switches: File,
}

/// What one look has shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Glimpse {
    /// `R`, `S`, `D` and so on.
    pub(super) state: char,
    /// How often it has been given a processor.
    ran: String,
}

impl Look {
    pub(super) fn new(pid: u32, tid: u32) -> std::io::Result<Look> {
        let open = |name: &str| File::open(format!("/proc/{pid}/task/{tid}/{name}"));
        let switches = open("schedstat").or_else(|_| open("status"))?;
        Ok(Look { stat: open("stat")?, wchan: open("wchan")?, switches })
    }

    /// State and switches now; nothing for a thread that is no more.
    pub(super) fn glimpse(&self) -> Option<Glimpse> {
        let stat = text(&self.stat)?;
        // `tid (name) S ...`: the name may hold anything, a parenthesis too.
        let state = stat.rsplit(") ").next()?.chars().next()?;
        let ran = text(&self.switches)?;
        Some(Glimpse { state, ran })
    }

    /// The function it sleeps in.
    pub(super) fn place(&self) -> String {
        text(&self.wchan).unwrap_or_default()
    }
}

impl Glimpse {
    pub(super) fn asleep(&self) -> bool {
        matches!(self.state, 'S' | 'D')
    }
}

fn text(file: &File) -> Option<String> {
    let mut bytes = [0; 2048];
    let count = file.read_at(&mut bytes, 0).ok()?;
    String::from_utf8(bytes[..count].to_vec()).ok()
}
