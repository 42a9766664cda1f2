//! Is a thread asleep in the kernel, and where? Owns the files of `/proc` that tell, kept open:
//! they are asked in every round.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// A thread that is looked at.
#[derive(Debug)]
pub(crate) struct Look {
    /// `/proc/PID/task/TID`.
    folder: String,
    stat: File,
    wchan: File,
    switches: File,
}

/// What one look has shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Glimpse {
    /// `R`, `S`, `D` and so on.
    pub(crate) state: char,
    /// How often it has been given a processor.
    ran: String,
}

impl Look {
    pub(crate) fn new(pid: u32, tid: u32) -> std::io::Result<Look> {
        let folder = format!("/proc/{pid}/task/{tid}");
        let open = |name: &str| File::open(format!("{folder}/{name}"));
        let switches = open("schedstat").or_else(|_| open("status"))?;
        let (stat, wchan) = (open("stat")?, open("wchan")?);
        Ok(Look { folder, stat, wchan, switches })
    }

    /// State and switches now; nothing for a thread that is no more.
    pub(crate) fn glimpse(&self) -> Option<Glimpse> {
        let stat = text(&self.stat)?;
        // `tid (name) S ...`: the name may hold anything, a parenthesis too.
        let state = stat.rsplit(") ").next()?.chars().next()?;
        let ran = text(&self.switches)?;
        Some(Glimpse { state, ran })
    }

    /// The function it sleeps in.
    pub(crate) fn place(&self) -> String {
        text(&self.wchan).unwrap_or_default()
    }

    /// The faults the thread has had, and the ticks it has been given: outside the kernel, and
    /// inside.
    pub(crate) fn ticks(&self) -> Option<[u64; 3]> {
        let stat = text(&self.stat)?;
        let fields: Vec<_> = stat.rsplit(") ").next()?.split(' ').collect();
        // Counted from the state: `minflt`, `utime`, `stime`.
        let field = |n: usize| fields.get(n)?.parse().ok();
        Some([field(7)?, field(11)?, field(12)?])
    }

    /// What the thread spends its time on, for a report: the faults it has had, the ticks it has
    /// been given, and the functions of the kernel it is in, for who may know them.
    pub(crate) fn effort(&self) -> String {
        let [faults, user, kernel] = self.ticks().unwrap_or_default();
        let mut effort = format!("{faults} faults, {user} ticks of its own and {kernel} inside");
        let stack = std::fs::read_to_string(format!("{}/stack", self.folder)).unwrap_or_default();
        let frames: Vec<_> =
            stack.lines().filter_map(|line| line.split([' ', '+']).nth(1)).collect();
        if !frames.is_empty() {
            effort = format!("{effort}, in {}", frames.join(" < "));
        }
        effort
    }
}

impl Glimpse {
    pub(crate) fn asleep(&self) -> bool {
        matches!(self.state, 'S' | 'D')
    }
}

fn text(file: &File) -> Option<String> {
    let mut bytes = [0; 2048];
    let count = file.read_at(&mut bytes, 0).ok()?;
    String::from_utf8(bytes[..count].to_vec()).ok()
}
