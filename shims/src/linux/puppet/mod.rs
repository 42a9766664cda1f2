//! Processes whose threads do one raw system call, load or store after another, as they are
//! told through shared memory: what a test needs to see a kernel as another process sees
//! it, through signals, forks and arguments that no safe interface would build. Owns the
//! strings and the processes' end; what the puppets do on stage is in `stage.rs`, what a
//! system call means is the caller's business. x86-64 only.
//!
//! A puppet uses no allocator, no thread-local and no lock, so a fork of a process with many
//! threads, at any moment, is a process that works.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use core::time::Duration;
use std::os::fd::{FromRawFd, OwnedFd};

use linux_raw_sys::general as sys;

use super::vma_probe::{raw, result};
use crate::Errno;

mod script;
mod stage;
mod take;

pub use script::{LINE, Line};

/// How many threads, of all its processes together, a stage has room for.
pub const SLOTS: usize = 64;
/// Bytes of memory that the processes share with the one that pulls the strings: room for the
/// source of a `COPY` of four huge pages, behind 1 MiB of everything else.
pub const SCRATCH: u64 = 9 << 20;

/// Where the scratch memory begins: the slots lie before it.
const SCRATCH_AT: u64 = 1 << 16;
const SHARED: u64 = SCRATCH_AT + SCRATCH;
/// Seconds after which a process that nobody has ended ends itself.
const PATIENCE: u64 = 120;
/// How long processes that are told to end are waited for.
const END: Duration = Duration::from_secs(10);

/// The thread waits to be told something.
const IDLE: u32 = 0;
/// It has been told something.
const TOLD: u32 = 1;
/// It has done it.
const ANSWERED: u32 = 2;

/// One thread's place in the shared memory.
#[repr(C, align(64))]
struct Slot {
    state: AtomicU32,
    pid: AtomicU32,
    tid: AtomicU32,
    /// `SIGUSR1`s handled.
    handled: AtomicU32,
    kind: AtomicU64,
    args: [AtomicU64; 7],
    value: AtomicU64,
    words: [AtomicU64; 2],
    /// What the last access raised: the signal's number, its code, its address.
    signal: [AtomicU64; 3],
    /// Where an access that raised a signal goes on; 0 outside of accesses.
    resume: AtomicU64,
}

const _: () = assert!(size_of::<Slot>() * SLOTS <= SCRATCH_AT as usize);

/// Something a puppet can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// A system call.
    Syscall(u32, [u64; 6]),
    /// Load one word of eight bytes, or two in one access.
    Load {
        /// Where the first one is.
        addr: u64,
        /// The second one as well?
        both: bool,
    },
    /// Store two words of eight bytes in one access.
    Store {
        /// Where.
        addr: u64,
        /// What.
        words: [u64; 2],
    },
    /// Add to a word, atomically; answers with what it was.
    Add {
        /// Where.
        addr: u64,
        /// How much.
        value: u64,
    },
    /// A new thread of the same process, in that slot, where it answers once unasked, to
    /// say that it is there.
    Spawn(usize),
    /// `clone` with these flags, and not `CLONE_VM`; the child's thread is in that slot,
    /// where it answers once unasked.
    Fork(usize, u64),
    /// `vfork`; the child does nothing but exit.
    Vfork,
    /// The script at that address of the scratch memory, of so many lines
    /// ([`Stage::script`]).
    Script(u64, u64),
}

impl Act {
    /// As a slot and a script have it.
    fn words(self) -> (u64, [u64; 7]) {
        match self {
            Act::Syscall(number, [a, b, c, d, e, f]) => {
                (stage::SYSCALL, [u64::from(number), a, b, c, d, e, f])
            }
            Act::Load { addr, both } => (stage::LOAD, [addr, u64::from(both), 0, 0, 0, 0, 0]),
            Act::Store { addr, words } => (stage::STORE, [addr, words[0], words[1], 0, 0, 0, 0]),
            Act::Add { addr, value } => (stage::ADD, [addr, value, 0, 0, 0, 0, 0]),
            Act::Spawn(slot) => (stage::SPAWN, [slot as u64, 0, 0, 0, 0, 0, 0]),
            // A child of the one that pulls the strings, who can then be sure of its end.
            Act::Fork(slot, flags) => {
                let flags = flags | u64::from(sys::CLONE_PARENT);
                (stage::FORK, [slot as u64, flags, 0, 0, 0, 0, 0])
            }
            Act::Vfork => (stage::VFORK, [0; 7]),
            Act::Script(at, count) => (stage::SCRIPT, [at, count, 0, 0, 0, 0, 0]),
        }
    }
}

/// How an [`Act`] ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// What a system call returned, or what an access to memory read.
    pub value: Result<u64, Errno>,
    /// What was loaded.
    pub words: [u64; 2],
    /// What the access raised, if anything.
    pub signal: Option<Raised>,
}

/// A signal that an access raised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Raised {
    /// `SIGSEGV` or `SIGBUS`.
    pub number: u32,
    /// `si_code`.
    pub code: i32,
    /// `si_addr`.
    pub addr: u64,
}

/// A process, the processes it has forked, and all their threads. Whatever state they are
/// in, they are ended when it is dropped.
#[derive(Debug)]
pub struct Stage {
    shared: *mut u8,
    first: u64,
    used: usize,
}

// SAFETY: the shared memory is accessed by atomics only.
unsafe impl Send for Stage {}
// SAFETY: as above; what needs a slot for itself takes `&mut self`.
unsafe impl Sync for Stage {}

impl Stage {
    /// A process with one thread, which is in slot 0. It has no descriptors but the standard
    /// ones.
    pub fn new() -> Result<Stage, Errno> {
        let prot = u64::from(sys::PROT_READ | sys::PROT_WRITE);
        let flags = u64::from(sys::MAP_SHARED | sys::MAP_ANONYMOUS | sys::MAP_NORESERVE);
        // SAFETY: a new anonymous mapping at a place the kernel chooses touches nothing.
        let shared = unsafe { raw(sys::__NR_mmap, [0, SHARED, prot, flags, u64::MAX, 0]) };
        let shared = core::ptr::with_exposed_provenance_mut(result(shared)? as usize);
        let mut stage = Stage { shared, first: 0, used: 1 };
        let owner = u64::from(std::process::id());
        // SAFETY: the child runs `enter`, which never returns and uses neither locks nor
        // the allocator of this process.
        let pid = unsafe { raw(sys::__NR_fork, [0; 6]) };
        if pid == 0 {
            stage::enter(shared, owner);
        }
        stage.first = result(pid)?;
        // It answers when it is ready, unasked.
        match stage.wait(0, Duration::from_secs(20)) {
            Some(_) => Ok(stage),
            None => Err(Errno::EIO),
        }
    }

    fn slot(&self, slot: usize) -> &Slot {
        assert!(slot < SLOTS, "a stage has {SLOTS} slots");
        // SAFETY: slots lie in the first bytes of the shared memory, which lives as long as
        // `self`, is zeroed, suitably aligned, and accessed by atomics only.
        unsafe { &*self.shared.cast::<Slot>().add(slot) }
    }

    /// A slot that nobody is in, for [`Act::Spawn`] or [`Act::Fork`].
    ///
    /// # Panics
    ///
    /// If there is none left.
    pub fn vacant(&mut self) -> usize {
        assert!(self.used < SLOTS, "a stage has {SLOTS} slots");
        self.used += 1;
        self.used - 1
    }

    /// A new thread in the process of the idle thread in `by`; its slot.
    pub fn spawn(&mut self, by: usize) -> Result<usize, Errno> {
        let slot = self.vacant();
        let answer = self.act(by, Act::Spawn(slot)).map_err(|_| Errno::EIO)?;
        answer.value?;
        self.wait_long(slot).ok_or(Errno::EIO)?;
        Ok(slot)
    }

    /// The process of the thread in `slot`, and the thread.
    pub fn ids(&self, slot: usize) -> (u32, u32) {
        let slot = self.slot(slot);
        (slot.pid.load(Ordering::Acquire), slot.tid.load(Ordering::Acquire))
    }

    /// How many times the thread in `slot` has handled `SIGUSR1`.
    pub fn handled(&self, slot: usize) -> u32 {
        self.slot(slot).handled.load(Ordering::Acquire)
    }

    /// Tell the thread in `slot`, which must be idle, to do `act`.
    pub fn tell(&self, slot: usize, act: Act) {
        self.tell_asleep(slot, act);
        stage::wake(&self.slot(slot).state);
    }

    /// The same without waking the thread: another puppet does, by
    /// [`waker`](Stage::waker).
    pub fn tell_asleep(&self, slot: usize, act: Act) {
        let slot = self.slot(slot);
        assert_eq!(slot.state.load(Ordering::Acquire), IDLE, "a puppet does one thing at a time");
        let (kind, args) = act.words();
        slot.kind.store(kind, Ordering::Relaxed);
        for (place, value) in slot.args.iter().zip(args) {
            place.store(value, Ordering::Relaxed);
        }
        slot.state.store(TOLD, Ordering::Release);
    }

    /// What wakes the thread in `slot`, once it has been told something.
    pub fn waker(&self, slot: usize) -> Act {
        const FUTEX_WAKE: u64 = 1;
        let place = &raw const self.slot(slot).state as u64;
        Act::Syscall(sys::__NR_futex, [place, FUTEX_WAKE, i32::MAX as u64, 0, 0, 0])
    }

    /// Wait up to `patience` for the thread in `slot` to have done what it was told.
    pub fn wait(&self, slot: usize, patience: Duration) -> Option<Answer> {
        let slot = self.slot(slot);
        let timeout = [patience.as_secs(), u64::from(patience.subsec_nanos())];
        let state = slot.state.load(Ordering::Acquire);
        if state != ANSWERED {
            const FUTEX_WAIT: u64 = 0;
            let place = &raw const slot.state as u64;
            let args = [place, FUTEX_WAIT, u64::from(state), &raw const timeout as u64, 0, 0];
            // SAFETY: waits on a live word; the timeout is a live `timespec`.
            unsafe { raw(sys::__NR_futex, args) };
            if slot.state.load(Ordering::Acquire) != ANSWERED {
                return None;
            }
        }
        let [number, code, addr] = [0, 1, 2].map(|n: usize| slot.signal[n].load(Ordering::Acquire));
        let raised = Raised { number: number as u32, code: code as i32, addr };
        let answer = Answer {
            value: result(slot.value.load(Ordering::Acquire)),
            words: [0, 1].map(|n: usize| slot.words[n].load(Ordering::Acquire)),
            signal: (number != 0).then_some(raised),
        };
        slot.state.store(IDLE, Ordering::Release);
        Some(answer)
    }

    /// Tell the thread in `slot` to do `act`, and wait for it.
    pub fn act(&self, slot: usize, act: Act) -> Result<Answer, Stuck> {
        self.tell(slot, act);
        self.wait_long(slot).ok_or(Stuck { slot, act })
    }

    /// Wait for the thread in `slot` for as long as anybody would.
    pub fn wait_long(&self, slot: usize) -> Option<Answer> {
        (0..200).find_map(|_| self.wait(slot, Duration::from_millis(50)))
    }

    /// Does the thread in `slot` wait to be told something?
    pub fn is_idle(&self, slot: usize) -> bool {
        self.slot(slot).state.load(Ordering::Acquire) == IDLE
    }

    /// Where the scratch memory is, in every process.
    pub fn scratch(&self) -> u64 {
        self.shared.expose_provenance() as u64 + SCRATCH_AT
    }

    /// Put `bytes` at `offset` of the scratch memory.
    ///
    /// # Panics
    ///
    /// If they reach outside, or `offset` is no multiple of 8.
    pub fn put(&self, offset: u64, bytes: &[u8]) {
        for (index, chunk) in bytes.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(offset + 8 * index as u64).store(u64::from_ne_bytes(word), Ordering::Release);
        }
    }

    /// The word at `offset` of the scratch memory.
    ///
    /// # Panics
    ///
    /// If it is outside, or `offset` is no multiple of 8.
    pub fn get(&self, offset: u64) -> u64 {
        self.word(offset).load(Ordering::Acquire)
    }

    fn word(&self, offset: u64) -> &AtomicU64 {
        assert!(offset + 8 <= SCRATCH && offset.is_multiple_of(8), "{offset:#x} is no word");
        // SAFETY: inside the shared memory and aligned, by the line above; accessed by
        // atomics only.
        unsafe { &*self.shared.add((SCRATCH_AT + offset) as usize).cast::<AtomicU64>() }
    }

    /// Send `signal` to a process or a thread of the stage.
    pub fn kill(&self, pid: u32, tid: Option<u32>, signal: u32) {
        let ours = (0..self.used).any(|slot| self.ids(slot).0 == pid);
        assert!(ours, "{pid} is none of the stage's processes");
        let (number, args) = match tid {
            Some(tid) => (sys::__NR_tgkill, [pid, tid, signal, 0, 0, 0]),
            None => (sys::__NR_kill, [pid, signal, 0, 0, 0, 0]),
        };
        // SAFETY: a signal to a process that this value has started.
        unsafe { raw(number, args.map(u64::from)) };
    }

    /// End the forked process whose thread is in `slot`, and be rid of it: the slot is vacant then.
    ///
    /// # Panics
    ///
    /// If nobody has arrived in the slot, or it belongs to the first process.
    pub fn end_process(&self, slot: usize) {
        let pid = u64::from(self.slot(slot).pid.swap(0, Ordering::AcqRel));
        assert!(pid != 0 && pid != self.first, "slot {slot} has no process of its own");
        end_all(vec![pid], END);
        self.slot(slot).state.store(IDLE, Ordering::Release);
    }
}

/// A thread that has not come back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stuck {
    /// The thread's slot.
    pub slot: usize,
    /// What it was told to do.
    pub act: Act,
}

impl Stage {
    /// End all processes of the stage. Those that the kernel has not let go within `patience`,
    /// which were told to end all the same.
    pub fn end(mut self, patience: Duration) -> Vec<u32> {
        self.finish(patience)
    }

    fn finish(&mut self, patience: Duration) -> Vec<u32> {
        let mut pids: Vec<_> = (0..self.used).map(|slot| u64::from(self.ids(slot).0)).collect();
        pids.push(self.first);
        pids.retain(|pid| *pid != 0);
        pids.sort_unstable();
        pids.dedup();
        end_all(pids, patience)
    }
}

/// Kill these children of this process, and reap them. They are zombies at worst, so their numbers
/// are their own; and all are killed before one is waited for. Those that the kernel has not let go
/// in time.
fn end_all(pids: Vec<u64>, patience: Duration) -> Vec<u32> {
    const SIGKILL: u64 = 9;
    for pid in &pids {
        // SAFETY: a signal to a child that `new` or a puppet's fork has made.
        unsafe { raw(sys::__NR_kill, [*pid, SIGKILL, 0, 0, 0, 0]) };
    }
    pids.into_iter().filter(|pid| !bury(*pid, patience)).map(|pid| pid as u32).collect()
}

/// Reap a child that was told to end. Tells whether it did so in time; a thread that the kernel
/// does not let go keeps its process.
fn bury(pid: u64, patience: Duration) -> bool {
    const WNOHANG: u64 = 1;
    const ANY_KIND: u64 = 0x4000_0000;
    const ECHILD: i32 = 10;
    // SAFETY: reaps a child that `new` or a puppet's fork has made.
    let reap = || result(unsafe { raw(sys::__NR_wait4, [pid, 0, WNOHANG | ANY_KIND, 0, 0, 0]) });
    // SAFETY: makes a descriptor, and touches no memory.
    let opened = result(unsafe { raw(sys::__NR_pidfd_open, [pid, 0, 0, 0, 0, 0]) });
    if let Ok(fd) = opened {
        // SAFETY: this function made it, and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        let mut ended = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
        let timeout = rustix::event::Timespec {
            tv_sec: patience.as_secs() as i64,
            tv_nsec: patience.subsec_nanos().into(),
        };
        // A signal of this process's own ends the wait early, and the last look decides.
        let _ = rustix::event::poll(&mut ended, Some(&timeout));
    }
    match reap() {
        Ok(reaped) => reaped > 0,
        Err(errno) => errno.raw() == ECHILD,
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.finish(END);
        // SAFETY: the mapping is this value's own, and nothing here refers to it any more.
        unsafe { raw(sys::__NR_munmap, [self.shared as u64, SHARED, 0, 0, 0, 0]) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mmap(stage: &Stage, slot: usize) -> u64 {
        let prot = u64::from(sys::PROT_READ | sys::PROT_WRITE);
        let flags = u64::from(sys::MAP_PRIVATE | sys::MAP_ANONYMOUS);
        let act = Act::Syscall(sys::__NR_mmap, [0, 4096, prot, flags, u64::MAX, 0]);
        stage.act(slot, act).unwrap().value.unwrap()
    }

    #[test]
    fn threads_and_forked_processes_do_as_they_are_told() {
        let mut stage = Stage::new().unwrap();
        let at = mmap(&stage, 0);
        let second = stage.spawn(0).unwrap();
        stage.act(second, Act::Store { addr: at, words: [7, 8] }).unwrap();
        let third = stage.vacant();
        let child = stage.act(second, Act::Fork(third, 17)).unwrap().value.unwrap();
        assert!(stage.wait_long(third).is_some(), "the child says that it is there");
        assert_eq!(u64::from(stage.ids(third).0), child);
        assert_ne!(stage.ids(0).0, stage.ids(third).0);
        assert_eq!(stage.ids(0).0, stage.ids(second).0);
        stage.act(0, Act::Store { addr: at, words: [1, 2] }).unwrap();
        let seen = stage.act(third, Act::Load { addr: at, both: true }).unwrap();
        assert_eq!(seen.words, [7, 8], "the child has a copy");
        assert_eq!(stage.act(0, Act::Add { addr: at, value: 2 }).unwrap().value, Ok(1));
        assert!(stage.act(0, Act::Vfork).unwrap().value.unwrap() > 0);
        stage.end_process(third);
        assert!(!std::path::Path::new(&format!("/proc/{child}")).exists());
        let again = stage.act(second, Act::Fork(third, 17)).unwrap().value.unwrap();
        assert!(stage.wait_long(third).is_some(), "the slot can be used again");
        assert_eq!(u64::from(stage.ids(third).0), again);
    }

    #[test]
    fn an_access_that_is_not_allowed_is_an_answer() {
        let stage = Stage::new().unwrap();
        let at = mmap(&stage, 0);
        let args = [at, 4096, 0, 0, 0, 0];
        stage.act(0, Act::Syscall(sys::__NR_mprotect, args)).unwrap().value.unwrap();
        let answer = stage.act(0, Act::Load { addr: at + 16, both: false }).unwrap();
        assert_eq!(answer.signal, Some(Raised { number: 11, code: 2, addr: at + 16 }));
        let answer = stage.act(0, Act::Store { addr: 8, words: [0; 2] }).unwrap();
        assert_eq!(answer.signal, Some(Raised { number: 11, code: 1, addr: 8 }));
        let answer = stage.act(0, Act::Syscall(sys::__NR_getpid, [0; 6])).unwrap();
        assert_eq!((answer.signal, answer.value), (None, Ok(u64::from(stage.ids(0).0))));
    }

    #[test]
    fn scripts_meet_at_a_barrier_and_leave_their_answers_behind() {
        let mut stage = Stage::new().unwrap();
        let at = mmap(&stage, 0);
        let second = stage.spawn(0).unwrap();
        let (one, two, meeting, stop) = (4096, 8192, 1024, 1032);
        for (script, word) in [(one, 3), (two, 5)] {
            stage.put_line(script, 0, Line::Barrier { at: meeting, count: 2 }, 0);
            stage.put_line(script, 1, Line::Act(Act::Add { addr: at, value: word }), 10);
            stage.put_line(script, 2, Line::StoreWord { addr: 8, word }, 0);
            stage.put_line(script, 3, Line::Act(Act::Syscall(9999, [0; 6])), 0);
        }
        stage.tell(0, stage.script(one, 4, stop));
        assert!(stage.wait(0, Duration::from_millis(10)).is_none(), "it waits for the other");
        assert_eq!(stage.line(one, 0), None);
        stage.tell(second, stage.script(two, 4, stop));
        for slot in [0, second] {
            assert_eq!(stage.wait_long(slot).unwrap().value, Ok(4), "lines were done");
        }
        let added = [one, two].map(|script| stage.line(script, 1).unwrap().value.unwrap());
        assert!(added == [0, 3] || added == [5, 0], "{added:?}");
        let refused = stage.line(one, 2).unwrap().signal.unwrap();
        assert_eq!((refused.number, refused.addr), (11, 8));
        assert_eq!(stage.line(two, 3).unwrap().value, Err(Errno::ENOSYS));
        // Stopped before its first line.
        stage.set(stop, 1);
        stage.rewind_line(one, 0, 0);
        assert_eq!(stage.act(0, stage.script(one, 4, stop)).unwrap().value, Ok(0));
    }

    #[test]
    fn a_signal_is_handled_and_counted_and_the_end_is_the_end() {
        let stage = Stage::new().unwrap();
        let (pid, tid) = stage.ids(0);
        // `pause`, so that the call has an end.
        stage.tell(0, Act::Syscall(sys::__NR_pause, [0; 6]));
        assert!(stage.wait(0, Duration::from_millis(20)).is_none());
        while stage.handled(0) == 0 {
            stage.kill(pid, Some(tid), 10);
            std::thread::yield_now();
        }
        assert_eq!(stage.wait_long(0).unwrap().value, Err(Errno::EINTR));
        drop(stage);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}
