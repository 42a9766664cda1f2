//! The processes of a run: the one that is watched, the one beside it, the children to come, with
//! a puppet for each task; and the userfaultfd. Owns how they are made and how their memory is
//! looked at from outside.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use linux_raw_sys::general as sys;
use shims::linux::puppet::{Act, Stage};
use shims::linux::{OpenFlags, UserFault};
use shims::{Errno, Uffd};
use sim::Content;
use sim::world::Setup;

use super::super::backend::Unable;
use super::deed;

/// The thread that sets up, and is in the watched process.
const MAIN: usize = 0;
/// Bytes of a small page, in which `/proc/PID/pagemap` counts.
const PAGE: u64 = 4096;

/// Why there is nobody to play.
pub(super) enum NoCast {
    /// The kernel or the user cannot.
    Unable(Unable),
    /// A process did not come back from what it was told, or never got ready: somebody has stopped
    /// it, or the machine is very busy.
    Stuck(&'static str),
}

impl NoCast {
    fn of(what: &'static str) -> impl Fn(Errno) -> NoCast {
        move |why| match why {
            Errno::EIO => NoCast::Stuck(what),
            why => NoCast::Unable(Unable(format!("{what}: {why}"))),
        }
    }
}

pub(super) struct Cast {
    pub(super) stage: Stage,
    /// By task, where its puppet is, or will be.
    pub(super) slots: Vec<usize>,
    /// The file behind the memory, in every process.
    pub(super) file: Option<u64>,
    pub(super) uffd: Arc<UserFault>,
    pagemap: File,
    mem: File,
}

impl Cast {
    pub(super) fn new(setup: &Setup, flags: OpenFlags) -> Result<Cast, NoCast> {
        let no = NoCast::of;
        let unable = |why: String| NoCast::Unable(Unable(why));
        let mut stage = Stage::new().map_err(no("no process for the tasks"))?;
        let file = make_file(&stage, setup).map_err(no("the file behind the memory"))?;
        let beside = setup.programs.iter().any(|program| program.beside);
        let beside =
            beside.then(|| fork(&mut stage)).transpose().map_err(no("a process beside"))?;
        if setup.filled {
            fill(&stage, setup, file).map_err(no("filling the file"))?;
        }
        for slot in [Some(MAIN), beside].into_iter().flatten() {
            told(&stage, slot, deed::map(setup, file)).map_err(no("mapping the memory"))?;
        }
        let mut slots = Vec::new();
        for program in &setup.programs {
            let by = beside.filter(|_| program.beside).unwrap_or(MAIN);
            let slot = if program.forked { Ok(stage.vacant()) } else { stage.spawn(by) };
            slots.push(slot.map_err(no("a thread for a task"))?);
        }
        let fd = stage.userfaultfd(MAIN, flags).map_err(no("a userfaultfd"))?;
        let uffd = UserFault::try_from(fd).map_err(|why| unable(why.to_string()))?;
        uffd.api(setup.features).map_err(no("the features"))?;
        let all = setup.memory.span(0, setup.pages);
        uffd.register(all, setup.modes).map_err(no("registering the memory"))?;
        let pid = stage.ids(MAIN).0;
        let open = |name: &str| {
            let opened = File::open(format!("/proc/{pid}/{name}"));
            opened.map_err(|e| unable(format!("/proc/{pid}/{name}: {e}")))
        };
        let (pagemap, mem) = (open("pagemap")?, open("mem")?);
        Ok(Cast { stage, slots, file, uffd: Arc::new(uffd), pagemap, mem })
    }

    /// What is mapped at page `at` of the watched process. Only for one that is at rest.
    pub(super) fn content(&self, setup: &Setup, at: u64) -> Option<Content> {
        let addr = setup.addr(at).raw();
        let mut entry = [0; 8];
        self.pagemap.read_exact_at(&mut entry, addr / PAGE * 8).ok()?;
        if u64::from_ne_bytes(entry) >> 63 == 0 {
            return None;
        }
        let mut bytes = [0; PAGE as usize];
        self.mem.read_exact_at(&mut bytes, addr).ok()?;
        Some(Content::of_bytes(&bytes))
    }
}

fn told(stage: &Stage, slot: usize, act: Act) -> Result<u64, Errno> {
    stage.act(slot, act).map_err(|_| Errno::EIO)?.value
}

fn make_file(stage: &Stage, setup: &Setup) -> Result<Option<u64>, Errno> {
    if !setup.memory.has_file() {
        return Ok(None);
    }
    stage.put(0, b"scene\0\0\0");
    let args = [stage.scratch(), deed::file_flags(setup.memory), 0, 0, 0, 0];
    let file = told(stage, MAIN, Act::Syscall(sys::__NR_memfd_create, args))?;
    let size = setup.memory.span(0, setup.pages).len.bytes();
    told(stage, MAIN, Act::Syscall(sys::__NR_ftruncate, [file, size, 0, 0, 0, 0]))?;
    Ok(Some(file))
}

/// Put the source into the file, as somebody has who is no part of the scenario.
fn fill(stage: &Stage, setup: &Setup, file: Option<u64>) -> Result<(), Errno> {
    told(stage, MAIN, deed::map(setup, file))?;
    for page in 0..setup.pages {
        let content = Content::Source { page: page as u32, version: 0 };
        told(stage, MAIN, deed::store(setup, page, content))?;
    }
    let all = setup.memory.span(0, setup.pages);
    let args = [all.start.raw(), all.len.bytes(), 0, 0, 0, 0];
    told(stage, MAIN, Act::Syscall(sys::__NR_munmap, args)).map(drop)
}

fn fork(stage: &mut Stage) -> Result<usize, Errno> {
    let slot = stage.vacant();
    told(stage, MAIN, Act::Fork(slot, u64::from(sys::SIGCHLD)))?;
    stage.wait_long(slot).ok_or(Errno::EIO)?;
    Ok(slot)
}
