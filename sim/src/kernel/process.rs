//! Processes: what the threads of one share besides memory (descriptors, privileges, limits),
//! and how they begin and end: `fork` and `vfork`, `exit`, `exec` (rules a4, a23, d17, d25,
//! d30, d32). Which pages a child gets is `fork.rs`'s business; how a thread is killed is
//! `signal.rs`'s.
//!
//! A kernel in which nobody asks for any of this keeps none of it: a search that only reads
//! and resolves pays nothing.
//!
//! # Divergence from Linux
//!
//! - A process is the threads of one address space, and a `vfork` child until its `exec`. There
//!   are no process numbers, no parents that wait and no users, only privileges.
//! - The new image of an `exec` is an empty address space.

use core::hash::{Hash, Hasher};
use std::collections::BTreeMap;

use shims::{Addr, Errno, Event};

use super::call::{MmId, Ret, ThreadId};
use super::did::{Did, ProcessDid};
use super::fd::{FileId, Files, TableId};
use super::file_call::{ApiStruct, fail, ok};
use super::page_table::PageTable;
use super::run::{EventPc, ExitPc, Long, Run, Then};
use super::signal::Pending;
use super::{Kernel, Mm, Thread};
use crate::profile::Bugs;
use crate::vma::{AddressSpace, CtxId};

/// What a thread does about processes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ProcessCall {
    /// `clone` without `CLONE_VM`: [`Call::Fork`](super::Call::Fork) with a choice.
    Fork {
        /// `CLONE_FILES`: the child uses the parent's descriptors, not copies.
        share_files: bool,
    },
    /// `vfork`: a child that uses the parent's memory, while the parent waits for its end or
    /// for its `exec`. The step that makes it tells which thread the child is.
    Vfork,
    /// `exit_group`.
    Exit,
    /// `execve`.
    Exec,
    /// `kill(2)`, or `tgkill(2)`.
    Kill {
        /// Whom.
        thread: ThreadId,
        /// What.
        sig: super::Sig,
    },
}

/// What a process may do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Privileges {
    /// `CAP_SYS_PTRACE`.
    pub ptrace: bool,
    /// May it open `/dev/userfaultfd`?
    pub device: bool,
    /// `RLIMIT_NOFILE`: descriptors have numbers below this.
    pub nofile: u32,
}

impl Default for Privileges {
    /// Those of root.
    fn default() -> Privileges {
        Privileges { ptrace: true, device: true, nofile: 1024 }
    }
}

/// Where a `fork` is to fail, for want of memory or of process numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ForkFailure {
    /// While the address space is copied: `ENOMEM`, and nobody hears of it (rule d32).
    Memory,
    /// After that: the child has been announced, and then there is none. `EAGAIN`.
    Later,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Process {
    mm: MmId,
    table: TableId,
    privileges: Privileges,
}

/// What the kernel remembers of a thread for the sake of this module and its neighbours.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Task {
    /// Its process, once anybody has asked.
    process: Option<u16>,
    /// It has begun to exit.
    pub(super) dying: bool,
    pub(super) pending: Pending,
    /// The page it has waited for in this access already (bug Z18).
    pub(super) tried: Option<Addr>,
    /// Signal handlers it has run.
    pub(super) handled: u32,
    /// The file that its call keeps open.
    pub(super) hold: Option<FileId>,
    /// Its `struct uffdio_api`, as the last handshake has left it.
    pub(super) api: ApiStruct,
}

/// All processes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Processes {
    list: Vec<Process>,
    /// The process that a new thread of an address space belongs to.
    of_mm: BTreeMap<MmId, u16>,
    tasks: Vec<Task>,
    pub(super) files: Files,
    /// `vm.unprivileged_userfaultfd`.
    pub(super) unprivileged: Option<bool>,
    fork_failure: Option<ForkFailure>,
}

impl Hash for Processes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Processes { list, of_mm, tasks, files, unprivileged, fork_failure } = self;
        // Entries at the end that say nothing are as good as none.
        let says = tasks.iter().rposition(|task| *task != Task::default());
        let tasks = &tasks[..says.map_or(0, |last| last + 1)];
        (list, of_mm, tasks, files, unprivileged, fork_failure).hash(state);
    }
}

impl Processes {
    pub(super) fn task(&mut self, thread: ThreadId) -> &mut Task {
        let index = usize::from(thread.0);
        if self.tasks.len() <= index {
            self.tasks.resize_with(index + 1, Task::default);
        }
        &mut self.tasks[index]
    }

    pub(super) fn seen(&self, thread: ThreadId) -> Option<&Task> {
        self.tasks.get(usize::from(thread.0))
    }

    fn add(&mut self, mm: MmId, table: TableId, privileges: Privileges) -> u16 {
        self.list.push(Process { mm, table, privileges });
        u16::try_from(self.list.len() - 1).expect("fewer than 65,536 processes")
    }

    /// The process of a thread of `mm`. A thread that nobody has placed belongs to the one
    /// its address space came into being with.
    fn process(&mut self, thread: ThreadId, mm: MmId) -> u16 {
        if let Some(process) = self.task(thread).process {
            return process;
        }
        let process = match self.of_mm.get(&mm) {
            Some(&process) => process,
            None => {
                let table = self.files.new_table();
                let process = self.add(mm, table, Privileges::default());
                self.of_mm.insert(mm, process);
                process
            }
        };
        self.task(thread).process = Some(process);
        process
    }

    pub(super) fn table(&mut self, thread: ThreadId, mm: MmId) -> TableId {
        let process = self.process(thread, mm);
        self.list[usize::from(process)].table
    }

    pub(super) fn privileges(&mut self, thread: ThreadId, mm: MmId) -> &mut Privileges {
        let process = self.process(thread, mm);
        &mut self.list[usize::from(process)].privileges
    }
}

impl Kernel {
    /// Can a thread in one of the calls of this module and its neighbours move?
    pub(super) fn long_can_step(&self, thread: ThreadId, mm: MmId, long: &Long) -> bool {
        match long {
            Long::Read(read) => self.read_can_step(thread, read),
            Long::Poll(poll) => self.ctx(poll.ctx).readable() || self.signalled(thread),
            Long::Release { list, marked, .. } => !marked || self.unlocked(self.ctx(list[0]).mm),
            Long::Exit { at, .. } => !matches!(at, ExitPc::Memory { .. }) || self.unlocked(mm),
            Long::Exec => self.killed(thread) || self.exec_can_step(thread, mm),
            Long::Vfork { child, mm } => self.killed(thread) || self.vfork_is_over(*child, *mm),
            Long::ForkFails { .. } => true,
        }
    }

    pub(super) fn step_long(&mut self, thread: ThreadId, mm: MmId, long: Long) -> (Run, Did) {
        match long {
            Long::Read(read) => self.step_fd_read(thread, read),
            Long::Poll(poll) => self.step_poll(thread, poll),
            Long::Release { list, marked, then } => self.step_release(list, marked, then),
            Long::Exit { at, release } => self.step_exit(thread, mm, at, release),
            Long::Exec if self.killed(thread) => fail(Errno::EINTR),
            Long::Exec => self.step_exec(thread, mm),
            Long::Vfork { child, .. } => ok(u64::from(child.0)),
            Long::ForkFails { parents } => self.step_fork_fails(mm, &parents),
        }
    }

    /// The book of processes, from the first time on that somebody asks for it.
    pub(super) fn processes(&mut self) -> &mut Processes {
        self.processes.get_or_insert_default()
    }

    pub(super) fn task(&mut self, thread: ThreadId) -> &mut Task {
        self.processes().task(thread)
    }

    /// What the process of `thread` may do, to change it.
    pub fn privileges_mut(&mut self, thread: ThreadId) -> &mut Privileges {
        let mm = self.threads[usize::from(thread.0)].mm;
        self.processes().privileges(thread, mm)
    }

    /// The sysctl `vm.unprivileged_userfaultfd` (rule a1).
    pub fn allow_unprivileged(&mut self, on: bool) {
        self.processes().unprivileged = Some(on);
    }

    /// Let the next `fork` fail.
    pub fn fail_next_fork(&mut self, how: ForkFailure) {
        self.processes().fork_failure = Some(how);
    }

    /// Has `thread` ended?
    pub fn is_dead(&self, thread: ThreadId) -> bool {
        matches!(self.threads[usize::from(thread.0)].run, Run::Dead)
    }

    /// The address space of `thread`; `exec` gives it another.
    pub fn mm_of(&self, thread: ThreadId) -> MmId {
        self.threads[usize::from(thread.0)].mm
    }

    pub(super) fn step_process_call(
        &mut self,
        thread: ThreadId,
        mm: MmId,
        call: ProcessCall,
    ) -> (Run, Did) {
        match call {
            ProcessCall::Fork { share_files } => self.fork_process(thread, mm, share_files),
            ProcessCall::Vfork => self.vfork(thread, mm),
            ProcessCall::Exit => {
                self.kill_siblings(thread, mm);
                self.begin_exit(thread, Vec::new())
            }
            ProcessCall::Exec => {
                self.kill_siblings(thread, mm);
                (Run::Long(Box::new(Long::Exec)), Did::Process(ProcessDid::Exec))
            }
            ProcessCall::Kill { thread: whom, sig } => {
                let ret = match self.signal(whom, sig) {
                    true => Ret::Ok(0),
                    false => Ret::Err(Errno::ESRCH),
                };
                (Run::Done(ret), Did::Return(ret))
            }
        }
    }

    /// `fork` where there are descriptors: the child has its table before its memory, so that
    /// a half-made child keeps the files open (rules a19, d30).
    pub(super) fn fork_process(
        &mut self,
        thread: ThreadId,
        mm: MmId,
        share_files: bool,
    ) -> (Run, Did) {
        let book = self.processes();
        let parent = book.process(thread, mm);
        let Process { table, privileges, .. } = book.list[usize::from(parent)];
        if book.fork_failure == Some(ForkFailure::Memory) {
            book.fork_failure = None;
            return self.fork_fails(mm);
        }
        let table =
            if share_files { book.files.share_table(table) } else { book.files.copy_table(table) };
        let (run, did) = self.fork(mm);
        let (Run::Events { ret: Ret::Forked(child), .. } | Run::Done(Ret::Forked(child))) = run
        else {
            unreachable!("a fork ends in {run:?}")
        };
        let book = self.processes();
        let process = book.add(child, table, privileges);
        book.of_mm.insert(child, process);
        (run, did)
    }

    /// The copy of the address space comes to nothing. The count was raised for the events
    /// that were to come, and falls without them (rule d32).
    fn fork_fails(&mut self, mm: MmId) -> (Run, Did) {
        let child = MmId(u16::try_from(self.mms.len()).expect("fewer than 65,536 address spaces"));
        let pairs = self.child_ctxs(mm, child);
        let mut changing = 0;
        for (of, new) in &pairs {
            self.ctx_mut(*new).released = !self.profile.has_bug(Bugs::Z7);
            changing = self.raise_changing(*of);
        }
        let Some(&(first, _)) = pairs.first() else {
            let ret = Ret::Err(Errno::ENOMEM);
            return (Run::Done(ret), Did::Return(ret));
        };
        if self.profile.has_bug(Bugs::Z7) {
            // The events are there, and the child is not.
            self.mms.push(Mm { dead: true, ..Mm::empty(&self.profile) });
            let number = |ctx: CtxId| i32::try_from(ctx.0).expect("a descriptor's number");
            let event = |&(of, new): &(_, CtxId)| (of, Event::Fork { fd: number(new) });
            let list = pairs.iter().map(event).collect();
            let ret = Ret::Err(Errno::ENOMEM);
            let did = Did::RaiseChanging { ctx: first, changing };
            return (Run::Events { list, next: 0, at: EventPc::Announce, ret }, did);
        }
        self.mm(mm).writer = true;
        let parents = pairs.into_iter().map(|(of, _)| of).collect();
        let run = Run::Long(Box::new(Long::ForkFails { parents }));
        (run, Did::RaiseChanging { ctx: first, changing })
    }

    pub(super) fn step_fork_fails(&mut self, mm: MmId, parents: &[CtxId]) -> (Run, Did) {
        let mut changing = 0;
        for parent in parents {
            changing = self.lower_changing(*parent);
        }
        self.mm(mm).writer = false;
        let run = Run::Done(Ret::Err(Errno::ENOMEM));
        (run, Did::LowerChanging { ctx: parents[0], changing })
    }

    /// A child that shares the memory: nothing is copied, so nobody is told (rule d25).
    fn vfork(&mut self, thread: ThreadId, mm: MmId) -> (Run, Did) {
        let book = self.processes();
        let parent = book.process(thread, mm);
        let Process { table, privileges, .. } = book.list[usize::from(parent)];
        let table = book.files.copy_table(table);
        let process = book.add(mm, table, privileges);
        let child = self.new_thread(mm);
        self.task(child).process = Some(process);
        let run = Run::Long(Box::new(Long::Vfork { child, mm }));
        (run, Did::Process(ProcessDid::Spawn { thread: child }))
    }

    /// The other threads of the process of `thread` come to their end, each in its own time.
    pub(super) fn kill_siblings(&mut self, thread: ThreadId, mm: MmId) {
        for other in self.siblings(thread, mm) {
            self.kill_one(other);
        }
    }

    /// The other living threads of the process of `thread`.
    pub(super) fn siblings(&mut self, thread: ThreadId, mm: MmId) -> Vec<ThreadId> {
        let process = self.processes().process(thread, mm);
        let mut found = Vec::new();
        for index in 0..self.threads.len() {
            let other = ThreadId(index as u16);
            let Thread { mm: theirs, .. } = self.threads[index];
            if other != thread
                && theirs == mm
                && !self.gone(other)
                && self.processes().process(other, theirs) == process
            {
                found.push(other);
            }
        }
        found
    }

    /// Is the thread dead, or as good as?
    fn gone(&self, thread: ThreadId) -> bool {
        let book = self.processes.as_deref();
        self.is_dead(thread) || book.and_then(|book| book.seen(thread)).is_some_and(|t| t.dying)
    }

    /// Does any thread live in `mm`?
    fn inhabited(&self, mm: MmId) -> bool {
        (0..self.threads.len())
            .any(|index| self.threads[index].mm == mm && !self.gone(ThreadId(index as u16)))
    }

    /// The thread stops running user code. Memory goes before descriptors, each with its last
    /// user.
    pub(super) fn begin_exit(&mut self, thread: ThreadId, release: Vec<CtxId>) -> (Run, Did) {
        self.task(thread).dying = true;
        let mm = self.threads[usize::from(thread.0)].mm;
        // Whoever is the last to stop does it for all.
        let last = self.siblings(thread, mm).is_empty();
        let at = if self.inhabited(mm) { ExitPc::Files { last } } else { ExitPc::Memory { last } };
        let run = Run::Long(Box::new(Long::Exit { at, release }));
        (run, Did::Process(ProcessDid::Die))
    }

    pub(super) fn step_exit(
        &mut self,
        thread: ThreadId,
        mm: MmId,
        at: ExitPc,
        mut release: Vec<CtxId>,
    ) -> (Run, Did) {
        match at {
            ExitPc::Begin => self.begin_exit(thread, release),
            ExitPc::Memory { last } => {
                self.tear_down(mm);
                let run = Run::Long(Box::new(Long::Exit { at: ExitPc::Files { last }, release }));
                (run, Did::Process(ProcessDid::TearDown))
            }
            ExitPc::Files { last } => {
                if last {
                    let table = self.processes().table(thread, mm);
                    release.extend(self.processes().files.leave_table(table));
                }
                (self.release_then(release, Then::Dead), Did::Process(ProcessDid::CloseAll))
            }
        }
    }

    /// Nobody uses the address space any more. No event tells of it (rule d17); what stands
    /// behind a descriptor outlives it (rule a23).
    pub(super) fn tear_down(&mut self, mm: MmId) {
        let rules = self.profile.vma.clone();
        let mm = self.mm(mm);
        mm.space = AddressSpace::new(rules).with_pages_apart();
        mm.table = PageTable::default();
        mm.dead = true;
    }

    /// The other threads are gone: a new address space takes the place of the old one.
    pub(super) fn step_exec(&mut self, thread: ThreadId, mm: MmId) -> (Run, Did) {
        let table = self.processes().table(thread, mm);
        let process = self.processes().process(thread, mm);
        let new = self.new_mm();
        self.threads[usize::from(thread.0)].mm = new;
        let book = self.processes();
        book.list[usize::from(process)].mm = new;
        book.of_mm.insert(new, process);
        if !self.inhabited(mm) {
            self.tear_down(mm);
        }
        let release = self.processes().files.close_on_exec(table);
        let run = self.release_then(release, Then::Return(Ret::Ok(0)));
        (run, Did::Process(ProcessDid::TearDown))
    }

    /// May an `exec` go on?
    pub(super) fn exec_can_step(&self, thread: ThreadId, mm: MmId) -> bool {
        let alone = (0..self.threads.len()).map(|index| ThreadId(index as u16)).all(|other| {
            other == thread
                || self.threads[usize::from(other.0)].mm != mm
                || self.gone(other)
                || !self.same_process(thread, other)
        });
        alone && self.unlocked(mm)
    }

    fn same_process(&self, a: ThreadId, b: ThreadId) -> bool {
        let process = |thread| {
            let book = self.processes.as_deref()?;
            let placed = book.seen(thread).and_then(|task| task.process);
            placed.or_else(|| book.of_mm.get(&self.mm_of(thread)).copied())
        };
        process(a) == process(b)
    }

    /// May the parent of a `vfork` go on?
    pub(super) fn vfork_is_over(&self, child: ThreadId, mm: MmId) -> bool {
        self.gone(child) || self.mm_of(child) != mm
    }

    /// What becomes of a call's value on the way out of the kernel: a `fork` whose parent was
    /// killed, or that was to fail late, has made nothing. Returns the contexts whose last
    /// reference the child had.
    pub(super) fn undo_fork(&mut self, ret: &mut Ret, killed: bool) -> Vec<CtxId> {
        let Ret::Forked(child) = *ret else { return Vec::new() };
        let book = self.processes();
        let late = book.fork_failure == Some(ForkFailure::Later);
        if !killed && !late {
            return Vec::new();
        }
        book.fork_failure = None;
        *ret = Ret::Err(Errno::EAGAIN);
        let process = book.of_mm.get(&child).copied();
        self.tear_down(child);
        process.map_or_else(Vec::new, |process| {
            let book = self.processes();
            let table = book.list[usize::from(process)].table;
            book.files.leave_table(table)
        })
    }
}
