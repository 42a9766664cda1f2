//! The running kernel as an [`Arm`]: each thread of a case is a thread of this process
//! that is told one operation at a time. Whether it sleeps in userfaultfd is read from
//! `/proc`, not guessed from how long it takes.

use core::time::Duration;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use shims::linux::{Advice, Arena, OpenFlags, Protection, UserFault};
use shims::{Addr, Errno, Features, RegisterModes, Tid, Uffd};
use sim::vma::Prot;
use sim::{Content, STAMP_LEN};

use faultbed::judge::{Area, Arm, Back, Op, PAGE, Settled};

/// How long a look at a thread that has not come back waits for it.
const LOOK: Duration = Duration::from_micros(200);
/// After so many looks a thread that neither returns nor sleeps in userfaultfd is lost.
const LOOKS: u32 = 25_000;

/// A thread of the case.
struct Worker {
    tid: u32,
    tell: Sender<Op>,
    told: Receiver<Back>,
    /// It has an operation and has not come back from it.
    busy: bool,
    handle: JoinHandle<()>,
}

pub(crate) struct LinuxArm {
    arena: Arc<Arena>,
    uffds: Vec<Option<UserFault>>,
    workers: Vec<Worker>,
    pages: u64,
}

impl LinuxArm {
    pub(crate) fn new(pages: u64) -> Result<LinuxArm, Errno> {
        let arena = Arc::new(Arena::new(pages)?);
        Ok(LinuxArm { arena, uffds: Vec::new(), workers: Vec::new(), pages })
    }

    /// Is the thread asleep in userfaultfd, this very moment?
    ///
    /// A thread that was woken is runnable from the moment of the wake on, so a thread is
    /// never seen asleep in what it was woken from.
    fn sleeps(tid: u32) -> bool {
        let read = |file: &str| {
            std::fs::read_to_string(format!("/proc/self/task/{tid}/{file}")).unwrap_or_default()
        };
        // `tid (name) S ...`: the name may hold anything, a parenthesis too.
        let stopped = || {
            let stat = read("stat");
            let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
            matches!(state, Some('S' | 'D'))
        };
        if !stopped() {
            return false;
        }
        match read("wchan").as_str() {
            // It has moved on since, or this kernel does not tell where: then a thread that
            // stays in one call for a while, a page fault from user mode or a system call
            // that can fault or send an event, is asleep. The idle thread sits in `futex`.
            "" | "0" => {
                let before = read("syscall");
                std::thread::park_timeout(LOOK * 20);
                let (after, place) = (read("syscall"), read("wchan"));
                if !stopped() || before != after {
                    return false;
                }
                if place.contains("userfault") {
                    return true;
                }
                let number = after.split(' ').next().and_then(|n| n.parse::<i64>().ok());
                // mmap, munmap, mprotect, ioctl, madvise on x86-64.
                matches!(place.as_str(), "" | "0")
                    && matches!(number, Some(-1 | 9 | 11 | 10 | 16 | 28))
            }
            place => place.contains("userfault"),
        }
    }

    /// Asleep, and not for a moment on the way to somewhere else: the thread has not run
    /// between two looks.
    fn stays_asleep(tid: u32) -> bool {
        let switches = || {
            let status = std::fs::read_to_string(format!("/proc/self/task/{tid}/status"));
            let status = status.unwrap_or_default();
            let counts: Vec<_> =
                status.lines().filter(|line| line.contains("ctxt_switches")).collect();
            counts.join(" ")
        };
        let before = switches();
        if !LinuxArm::sleeps(tid) {
            return false;
        }
        std::thread::park_timeout(LOOK);
        LinuxArm::sleeps(tid) && switches() == before
    }

    fn settle_within(&mut self, thread: usize, looks: u32) -> Option<Settled> {
        let worker = &mut self.workers[thread];
        assert!(worker.busy, "thread {thread} has nothing to do");
        for _ in 0..looks {
            match worker.told.recv_timeout(LOOK) {
                Ok(back) => {
                    worker.busy = false;
                    return Some(Settled::Returned(back));
                }
                Err(RecvTimeoutError::Timeout) if LinuxArm::stays_asleep(worker.tid) => {
                    return Some(Settled::Asleep);
                }
                Err(RecvTimeoutError::Timeout) => {}
                // It has panicked, and said so.
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
        None
    }

    fn uffd(&self, uffd: usize) -> &UserFault {
        self.uffds[uffd].as_ref().expect("used after close")
    }
}

fn perform(arena: &Arena, index: usize, op: Op) -> Back {
    let done = |result: Result<(), Errno>| match result {
        Ok(()) => Back::Done,
        Err(errno) => Back::Err(errno),
    };
    match op {
        Op::Load(page) => {
            // The first word is the one that faults.
            let words = [0, 8].map(|at| arena.read_word(page * PAGE + at).to_ne_bytes());
            let mut bytes = [0; PAGE as usize];
            bytes[..STAMP_LEN].copy_from_slice(words.as_flattened());
            Back::Loaded(Content::of_bytes(&bytes))
        }
        Op::Glance(page) => {
            let mut bytes = [0; PAGE as usize];
            bytes[..8].copy_from_slice(&arena.read_word(page * PAGE).to_ne_bytes());
            Back::Loaded(Content::of_bytes(&bytes))
        }
        Op::Store(page, seq) => {
            let stamp = Content::Written { task: index as u16, seq }.stamp();
            for (at, word) in stamp.as_chunks::<8>().0.iter().enumerate() {
                arena.write_word(page * PAGE + 8 * at as u64, u64::from_ne_bytes(*word));
            }
            Back::Done
        }
        // Once allowed, it is a store or a load like any other.
        Op::Touch { at, write } => match arena.touch(at, write) {
            Ok(()) if write => perform(arena, index, Op::Store(at / PAGE, 0)),
            Ok(()) => perform(arena, index, Op::Load(at / PAGE)),
            Err(Errno::EFAULT) => Back::MapErr,
            Err(errno) => Back::Err(errno),
        },
        Op::Populate { at, len, write } => {
            let advice = if write { Advice::PopulateWrite } else { Advice::PopulateRead };
            done(arena.madvise(at, len, advice))
        }
        Op::DontNeed { at, len } => done(arena.madvise(at, len, Advice::DontNeed)),
        Op::Map { at, len, prot } => done(arena.map(at, len, protection(prot))),
        Op::Unmap { at, len } => done(arena.unmap(at, len)),
        Op::Protect { at, len, prot } => done(arena.protect(at, len, protection(prot))),
        op => unreachable!("no free-running program does {op:?}"),
    }
}

fn protection(prot: Prot) -> Protection {
    Protection::from_bits_retain(prot.bits() as u32)
}

impl Arm for LinuxArm {
    fn base(&self) -> Addr {
        self.arena.addr()
    }

    fn open(&mut self, features: Features) -> Result<usize, Errno> {
        let uffd = UserFault::open(OpenFlags::empty()).expect("the gate has opened one");
        uffd.api(features)?;
        self.uffds.push(Some(uffd));
        Ok(self.uffds.len() - 1)
    }

    fn close(&mut self, uffd: usize) {
        assert!(self.uffds[uffd].take().is_some(), "closed twice");
    }

    fn with(&mut self, uffd: usize, body: &mut dyn FnMut(&dyn Uffd)) {
        body(self.uffd(uffd));
    }

    fn is_open(&self, uffd: usize) -> bool {
        self.uffds[uffd].is_some()
    }

    fn readable(&mut self, uffd: usize) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(self.uffd(uffd).as_fd(), PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).expect("poll");
        let got = fds[0].revents();
        assert!(got.is_empty() || got == PollFlags::IN, "poll answered {got:?}");
        got == PollFlags::IN
    }

    fn counts(&mut self, uffd: usize) -> (u64, u64) {
        let info = self.uffd(uffd).info().expect("fdinfo");
        (info.pending, info.total)
    }

    fn thread(&mut self) -> usize {
        let index = self.workers.len();
        let (tell, ops) = channel::<Op>();
        let (answer, told) = channel();
        let (introduce, name) = channel();
        let arena = Arc::clone(&self.arena);
        let body = move || {
            let tid = rustix::thread::gettid().as_raw_nonzero().get() as u32;
            if introduce.send(tid).is_err() {
                return;
            }
            for op in ops {
                if answer.send(perform(&arena, index, op)).is_err() {
                    return;
                }
            }
        };
        #[expect(clippy::disallowed_methods, reason = "a thread of the case is a real thread")]
        let handle = std::thread::spawn(body);
        let tid = name.recv().expect("the thread has started");
        self.workers.push(Worker { tid, tell, told, busy: false, handle });
        index
    }

    fn start(&mut self, thread: usize, op: Op) {
        let worker = &mut self.workers[thread];
        assert!(!worker.busy, "thread {thread} is in a call already");
        worker.busy = true;
        worker.tell.send(op).expect("the thread lives");
    }

    fn settle(&mut self, thread: usize) -> Settled {
        self.settle_within(thread, LOOKS).unwrap_or_else(|| {
            let tid = self.workers[thread].tid;
            let wchan = std::fs::read_to_string(format!("/proc/self/task/{tid}/wchan"));
            panic!("thread {thread} neither comes back nor sleeps in userfaultfd: {wchan:?}")
        })
    }

    fn who(&self, tid: Tid) -> Option<usize> {
        self.workers.iter().position(|worker| worker.tid == tid.0)
    }

    fn contents(&mut self) -> Vec<Option<Content>> {
        // By this file neither a protection nor an absent page matters; that a page is
        // there was seen before.
        let memory = File::open("/proc/self/mem").expect("/proc is mounted");
        let mut bytes = [0; PAGE as usize];
        (0..self.pages)
            .map(|page| {
                let entry = self.arena.page_entry(page * PAGE).expect("pagemap");
                entry.is_present().then(|| {
                    let at = self.arena.addr().raw() + page * PAGE;
                    memory.read_exact_at(&mut bytes, at).expect("a page that is there");
                    Content::of_bytes(&bytes)
                })
            })
            .collect()
    }

    fn areas(&mut self) -> Vec<Area> {
        let text = std::fs::read_to_string("/proc/self/smaps").expect("/proc is mounted");
        let base = self.arena.addr().raw();
        let mut areas = Vec::new();
        let mut current: Option<Area> = None;
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let head = words.next().unwrap_or_default();
            if let Some((start, end)) = head.split_once('-')
                && let Ok(start) = u64::from_str_radix(start, 16)
                && let Ok(end) = u64::from_str_radix(end, 16)
            {
                let inside = base <= start && start < base + self.pages * PAGE;
                let letters = words.next().unwrap_or_default().as_bytes();
                let bits = (0..3).filter(|&bit| letters.get(bit) != Some(&b'-'));
                let prot = Prot::from_bits(bits.map(|bit| 1 << bit).sum()).expect("three bits");
                let page = |addr| (addr - base) / PAGE;
                current = inside.then(|| Area {
                    start: page(start),
                    end: page(end),
                    prot,
                    modes: RegisterModes::empty(),
                });
            } else if head == "VmFlags:"
                && let Some(mut area) = current.take()
            {
                for word in words {
                    area.modes |= match word {
                        "um" => RegisterModes::MISSING,
                        "uw" => RegisterModes::WP,
                        "ui" => RegisterModes::MINOR,
                        _ => RegisterModes::empty(),
                    };
                }
                areas.push(area);
            }
        }
        areas
    }
}

impl Drop for LinuxArm {
    /// However a case ended, its threads are released and joined. One that cannot be
    /// released is left behind rather than waited for.
    fn drop(&mut self) {
        // Reading lets the senders of events go on; closing lets everybody go on.
        for uffd in self.uffds.iter().flatten() {
            let _ = uffd.unregister(self.arena.span());
            let _ = uffd.wake(self.arena.span());
            let _ = uffd.read_events(&mut Vec::new(), 64);
        }
        self.uffds.clear();
        for index in 0..self.workers.len() {
            // A worker that panicked is busy for ever and can be joined all the same.
            if self.workers[index].busy && !self.workers[index].handle.is_finished() {
                for _ in 0..1000 {
                    if matches!(self.settle_within(index, 1), Some(Settled::Returned(_))) {
                        break;
                    }
                }
            }
        }
        for (index, worker) in self.workers.drain(..).enumerate() {
            drop(worker.tell);
            if worker.busy && !worker.handle.is_finished() {
                eprintln!("thread {index} of a case could not be released and is left behind");
            } else {
                let _ = worker.handle.join();
            }
        }
    }
}
