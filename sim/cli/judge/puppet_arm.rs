//! The running kernel as an [`Arm`], from outside: the case's processes are puppets, so that
//! they can fork, be killed and be signalled, and so that an access that is refused is an
//! answer. Owns the processes and what is read of them from `/proc`; what each operation is
//! as a system call is in `puppet_ops.rs`.

use core::time::Duration;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use linux_raw_sys::general as sys;
use shims::linux::hugepages::Reservation;
use shims::linux::puppet::{Answer, Stage};
use shims::{Addr, Errno, Features, RegisterModes, Tid, Uffd};
use sim::Content;
use sim::vma::Prot;
use sim::world::BASE;

use super::arm::{Area, Arm, Entry, Scan};
use super::op::{Advise, Back, Op, PAGE, Piece, Settled, granule};
use super::puppet_ops::words;
use super::puppet_uffd::{PuppetUffd, bytes_of};

/// How long a look at a thread that has not come back waits for it.
const LOOK: Duration = Duration::from_micros(300);
/// So many looks in a row must find a thread asleep that does not say that it sleeps in
/// userfaultfd: it may wait for somebody who does, or only for a moment.
const STILL: u32 = 30;
/// After so long a thread that neither returns nor sleeps goes round in circles.
const PATIENCE: Duration = Duration::from_secs(8);

pub(crate) struct Process {
    /// The thread that has nothing to do with the case: it uses the userfaultfds.
    pub(crate) slot: usize,
    pid: u32,
    files: Option<(File, File)>,
}

pub(crate) struct Worker {
    pub(crate) slot: usize,
    pub(crate) process: usize,
    /// What it is doing.
    pub(crate) busy: Option<Op>,
    /// Where the thread of the process that it forks will be.
    pub(crate) child: usize,
    /// The file that its last copy by a system call went to, if there was one.
    pub(crate) last_file: Option<u64>,
}

/// A descriptor in the table of a process.
#[derive(Clone, Copy)]
pub(crate) struct Fd {
    pub(crate) process: usize,
    pub(crate) number: u64,
}

pub struct PuppetArm {
    pub(crate) stage: Stage,
    pub(crate) processes: Vec<Process>,
    pub(crate) workers: Vec<Worker>,
    pub(crate) uffds: Vec<Option<Fd>>,
    /// Memory files, in process 0.
    pub(crate) files: BTreeMap<u8, u64>,
    pieces: Vec<Piece>,
    pages: u64,
    /// Do mappings of huge pages reserve them?
    pub(crate) reserve: bool,
    /// Given back after the stage is gone: fields are dropped in this order.
    _pool: Option<Reservation>,
}

impl PuppetArm {
    /// `pool` are the huge pages that the case needs; `reserve` says whether its mappings
    /// take them from the others at once.
    pub fn new(
        pages: u64,
        pieces: &[Piece],
        pool: Option<Reservation>,
        reserve: bool,
    ) -> Result<PuppetArm, Errno> {
        let mut arm = PuppetArm {
            stage: Stage::new()?,
            processes: Vec::new(),
            workers: Vec::new(),
            uffds: Vec::new(),
            files: BTreeMap::new(),
            pieces: pieces.to_vec(),
            pages,
            reserve,
            _pool: pool,
        };
        arm.arrived(0);
        for piece in pieces {
            arm.map_piece(piece)?;
        }
        Ok(arm)
    }

    /// Do one thing on behalf of nobody.
    pub(crate) fn main(&self, process: usize, number: u32, args: [u64; 6]) -> Result<u64, Errno> {
        self.uffd_of(Fd { process, number: 0 }).syscall(number, args)
    }

    fn uffd_of(&self, fd: Fd) -> PuppetUffd<'_> {
        let slot = self.processes[fd.process].slot;
        PuppetUffd { stage: &self.stage, slot, fd: fd.number }
    }

    fn fd(&self, uffd: usize) -> Fd {
        self.uffds[uffd].expect("used after close")
    }

    /// The thread in `slot` has a process of its own.
    fn arrived(&mut self, slot: usize) -> usize {
        let pid = self.stage.ids(slot).0;
        let open = |name: &str| File::open(format!("/proc/{pid}/{name}")).ok();
        let files = open("pagemap").zip(open("mem"));
        self.processes.push(Process { slot, pid, files });
        self.processes.len() - 1
    }

    fn proc_text(&self, worker: &Worker, file: &str) -> String {
        let (pid, tid) = self.stage.ids(worker.slot);
        std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/{file}")).unwrap_or_default()
    }

    /// `R`, `S`, `D` …; nothing for a thread that is no more.
    fn thread_state(&self, worker: &Worker) -> Option<char> {
        // `tid (name) S ...`: the name may hold anything, a parenthesis too.
        self.proc_text(worker, "stat").rsplit(") ").next()?.chars().next()
    }

    fn switches(&self, worker: &Worker) -> Vec<String> {
        let status = self.proc_text(worker, "status");
        status.lines().filter(|l| l.contains("ctxt_switches")).map(str::to_owned).collect()
    }

    fn settle_in(&mut self, thread: usize) -> Settled {
        let op = self.workers[thread].busy.expect("the thread has something to do");
        let mut still = 0;
        let mut switches = Vec::new();
        // A thread that sleeps is looked at rarely, one that runs is let run.
        let looks = PATIENCE.as_micros() / LOOK.as_micros();
        for _ in 0..looks {
            let worker = &self.workers[thread];
            if let Some(answer) = self.stage.wait(worker.slot, LOOK) {
                self.workers[thread].busy = None;
                return Settled::Returned(self.back(thread, op, &answer));
            }
            match self.thread_state(worker) {
                None | Some('Z' | 'X') => {
                    if op == Op::Exit {
                        bury(self.processes[worker.process].pid);
                    }
                    self.workers[thread].busy = None;
                    return Settled::Returned(Back::Killed);
                }
                Some('S' | 'D') => {
                    let now = self.switches(worker);
                    if now == switches {
                        still += 1;
                        // A thread that was woken is runnable from that moment on, so it is
                        // never seen asleep in what it was woken from.
                        let place = self.proc_text(worker, "wchan");
                        // Other processors are asked to give pages back; that ends by itself.
                        if place.contains("flush_work") {
                            still = 0;
                            continue;
                        }
                        if still > STILL || still > 1 && place.contains("userfault") {
                            return Settled::Asleep;
                        }
                    } else {
                        (still, switches) = (0, now);
                    }
                }
                Some(_) => still = 0,
            }
        }
        Settled::Spinning
    }

    pub(crate) fn back(&mut self, thread: usize, op: Op, answer: &Answer) -> Back {
        match (answer.signal, answer.value) {
            (Some(raised), _) => match (raised.number, raised.code) {
                (11, 1) => Back::MapErr,
                (11, 2) => Back::AccErr,
                (7, 2 | 4) => Back::Bus,
                other => panic!("an access raised {other:?}"),
            },
            (None, Err(errno)) => Back::Err(errno),
            (None, Ok(value)) => match op {
                Op::Touch { at, write } if at % PAGE != 0 => {
                    let (process, page) = (self.workers[thread].process, at / PAGE);
                    // A huge page is known by its first bytes.
                    let page = page - page % granule(&self.pieces, page);
                    if write {
                        let stamp = words(Content::Written { task: thread as u16, seq: 0 });
                        let addr = Addr::new(BASE.raw() + page * PAGE);
                        self.poke(process, addr, &bytes_of(&stamp));
                        return Back::Done;
                    }
                    let entry = self.entries(process).into_iter().find(|(n, _)| *n == page);
                    let content = entry.and_then(|(_, entry)| entry.content);
                    content.map_or(Back::Done, Back::Loaded)
                }
                Op::Load(_) | Op::Glance(_) | Op::Touch { write: false, .. } => {
                    let mut bytes = [0; PAGE as usize];
                    for (place, word) in bytes.chunks_mut(8).zip(answer.words) {
                        place.copy_from_slice(&word.to_ne_bytes());
                    }
                    Back::Loaded(Content::of_bytes(&bytes))
                }
                Op::UserCopy { write: false, .. }
                | Op::ProcMem { write: false, .. }
                | Op::Remote { write: false, .. } => Back::Loaded(self.copied(thread)),
                Op::Fork | Op::ForkWithFiles | Op::ForkSharingFiles => {
                    let slot = self.workers[thread].child;
                    assert!(self.stage.wait_long(slot).is_some(), "the child runs");
                    let process = self.arrived(slot);
                    if op == Op::Fork {
                        let all = [3, u64::from(u32::MAX), 0, 0, 0, 0];
                        self.main(process, sys::__NR_close_range, all).expect("close_range");
                    }
                    Back::Forked(process)
                }
                Op::ReadBlocking { .. } => Back::Read(value as usize / 32),
                _ => Back::Done,
            },
        }
    }
}

impl Arm for PuppetArm {
    fn base(&self) -> Addr {
        BASE
    }

    fn open(&mut self, features: Features) -> Result<usize, Errno> {
        let flags = u64::from(sys::O_CLOEXEC | sys::O_NONBLOCK);
        let number = self.main(0, sys::__NR_userfaultfd, [flags, 0, 0, 0, 0, 0])?;
        let fd = Fd { process: 0, number };
        self.uffd_of(fd).api(features)?;
        self.uffds.push(Some(fd));
        Ok(self.uffds.len() - 1)
    }

    fn close(&mut self, uffd: usize) {
        let fd = self.uffds[uffd].take().expect("closed twice");
        self.main(fd.process, sys::__NR_close, [fd.number, 0, 0, 0, 0, 0]).expect("close");
    }

    fn with(&mut self, uffd: usize, body: &mut dyn FnMut(&dyn Uffd)) {
        body(&self.uffd_of(self.fd(uffd)));
    }

    fn is_open(&self, uffd: usize) -> bool {
        self.uffds[uffd].is_some()
    }

    fn readable(&mut self, uffd: usize) -> bool {
        let got = self.uffd_of(self.fd(uffd)).poll();
        assert!(got == 0 || got == 1, "poll answered {got:#x}");
        got == 1
    }

    fn counts(&mut self, uffd: usize) -> (u64, u64) {
        let fd = self.fd(uffd);
        let path = format!("/proc/{}/fdinfo/{}", self.processes[fd.process].pid, fd.number);
        let text = std::fs::read_to_string(path).expect("fdinfo");
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.expect("fdinfo of a userfaultfd").trim().parse().expect("a number")
        };
        (value("pending:"), value("total:"))
    }

    fn thread(&mut self) -> usize {
        self.thread_in(0)
    }

    fn thread_in(&mut self, process: usize) -> usize {
        let slot = self.stage.spawn(self.processes[process].slot).expect("a thread");
        self.workers.push(Worker { slot, process, busy: None, child: 0, last_file: None });
        self.workers.len() - 1
    }

    fn adopt(&mut self, fd: i32) -> usize {
        self.uffds.push(Some(Fd { process: 0, number: fd as u64 }));
        self.uffds.len() - 1
    }

    fn start(&mut self, thread: usize, op: Op) {
        assert!(self.workers[thread].busy.is_none(), "thread {thread} is in a call already");
        if matches!(op, Op::Fork | Op::ForkWithFiles | Op::ForkSharingFiles) {
            self.workers[thread].child = self.stage.vacant();
        }
        let act = self.act(thread, op);
        self.workers[thread].busy = Some(op);
        self.stage.tell(self.workers[thread].slot, act);
    }

    fn settle(&mut self, thread: usize) -> Settled {
        let op = self.workers[thread].busy;
        let mut settled = self.settle_in(thread);
        let Some(op @ Op::Advise { at, len, advice: Advise::PageOut }) = op else { return settled };
        // Linux passes over a page that a processor has still on a list of its own: it is asked
        // again until it takes what it can.
        let (process, pages) = (self.workers[thread].process, at / PAGE..(at + len).div_ceil(PAGE));
        for _ in 0..20 {
            let mut there = self.entries(process).into_iter();
            let stays = there.any(|(page, entry)| pages.contains(&page) && entry.content.is_some());
            if !stays || !matches!(settled, Settled::Returned(Back::Done)) {
                break;
            }
            std::thread::park_timeout(Duration::from_millis(2));
            self.start(thread, op);
            settled = self.settle_in(thread);
        }
        settled
    }

    fn who(&self, tid: Tid) -> Option<usize> {
        self.workers.iter().position(|worker| self.stage.ids(worker.slot).1 == tid.0)
    }

    fn contents(&mut self) -> Vec<Option<Content>> {
        let mut all = vec![None; self.pages as usize];
        for (page, entry) in self.entries(0) {
            all[page as usize] = entry.content;
        }
        all
    }

    fn entries(&mut self, process: usize) -> Vec<(u64, Entry)> {
        let Some((pagemap, mem)) = &self.processes[process].files else { return Vec::new() };
        read_entries(pagemap, mem, self.pages, &self.pieces)
    }

    fn areas(&mut self) -> Vec<Area> {
        self.areas_of(0)
    }

    fn areas_of(&mut self, process: usize) -> Vec<Area> {
        let path = format!("/proc/{}/smaps", self.processes[process].pid);
        let text = std::fs::read_to_string(path).unwrap_or_default();
        parse_smaps(&text, self.pages)
    }

    fn open_raw(&mut self, flags: u64) -> Result<usize, Errno> {
        let number = self.main(0, sys::__NR_userfaultfd, [flags, 0, 0, 0, 0, 0])?;
        self.uffds.push(Some(Fd { process: 0, number }));
        Ok(self.uffds.len() - 1)
    }

    fn open_by_device(&mut self, flags: u64) -> Result<usize, Errno> {
        self.stage.put(0, b"/dev/userfaultfd\0");
        let path = self.stage.scratch();
        let device =
            self.main(0, sys::__NR_openat, [sys::AT_FDCWD as i64 as u64, path, 2, 0, 0, 0])?;
        // `USERFAULTFD_IOC_NEW`.
        let number = self.main(0, sys::__NR_ioctl, [device, 0xaa00, flags, 0, 0, 0]);
        self.main(0, sys::__NR_close, [device, 0, 0, 0, 0, 0]).expect("close");
        self.uffds.push(Some(Fd { process: 0, number: number? }));
        Ok(self.uffds.len() - 1)
    }

    fn read_raw(&mut self, uffd: usize, len: u64, writable: bool) -> Result<u64, Errno> {
        let fd = self.fd(uffd);
        // Nothing is mapped in the first page of a process.
        let buffer = if writable { self.stage.scratch() + 4096 } else { 8 };
        self.main(fd.process, sys::__NR_read, [fd.number, buffer, len, 0, 0, 0])
    }

    fn poll_bits(&mut self, uffd: usize) -> u16 {
        self.uffd_of(self.fd(uffd)).poll()
    }

    fn duplicate(&mut self, uffd: usize) -> usize {
        let Fd { process, number } = self.fd(uffd);
        let number = self.main(process, sys::__NR_dup, [number, 0, 0, 0, 0, 0]).expect("dup");
        self.uffds.push(Some(Fd { process, number }));
        self.uffds.len() - 1
    }

    fn set_nonblocking(&mut self, uffd: usize, on: bool) {
        let fd = self.fd(uffd);
        let flags = if on { u64::from(sys::O_NONBLOCK) } else { 0 };
        let args = [fd.number, u64::from(sys::F_SETFL), flags, 0, 0, 0];
        self.main(fd.process, sys::__NR_fcntl, args).expect("fcntl");
    }

    fn descriptor_flags(&mut self, uffd: usize) -> (bool, bool) {
        let fd = self.fd(uffd);
        let get = |what: u32| {
            let args = [fd.number, u64::from(what), 0, 0, 0, 0];
            self.main(fd.process, sys::__NR_fcntl, args).expect("fcntl")
        };
        (get(sys::F_GETFL) & u64::from(sys::O_NONBLOCK) != 0, get(sys::F_GETFD) & 1 != 0)
    }

    fn via(&mut self, uffd: usize, process: usize) {
        let number = self.fd(uffd).number;
        self.uffds[uffd] = Some(Fd { process, number });
    }

    fn starve_descriptors(&mut self, on: bool) {
        let limit = if on {
            // No number is below the lowest free one.
            let lowest = self.main(0, sys::__NR_dup, [0; 6]).expect("dup");
            self.main(0, sys::__NR_close, [lowest, 0, 0, 0, 0, 0]).expect("close");
            lowest
        } else {
            1024
        };
        let scratch = self.stage.scratch();
        self.stage.put(0, &bytes_of(&[limit, 4096]));
        let args = [0, u64::from(sys::RLIMIT_NOFILE), scratch, 0, 0, 0];
        self.main(0, sys::__NR_prlimit64, args).expect("prlimit");
    }

    fn drop_privileges(&mut self) {
        let nobody = [65534; 3];
        let [a, b, c] = nobody;
        self.main(0, sys::__NR_setresuid, [a, b, c, 0, 0, 0]).expect("setresuid");
    }

    fn scan(&mut self, scan: Scan) -> Result<Vec<(u64, u64, u64)>, Errno> {
        const PAGEMAP_SCAN: u64 = 0xc060_6610;
        const ROOM: u64 = 64;
        let scratch = self.stage.scratch();
        self.stage.put(0, b"/proc/self/pagemap\0\0");
        let open = [sys::AT_FDCWD as i64 as u64, scratch, 0, 0, 0, 0];
        let fd = self.main(0, sys::__NR_openat, open).expect("pagemap");
        let page = |n: u64| BASE.raw() + n * PAGE;
        let Scan { start, end, flags, mask } = scan;
        // `struct pm_scan_arg`: size, flags, start, end, walk_end, vec, vec_len, max_pages,
        // category_inverted, category_mask, category_anyof_mask, return_mask.
        let arg = [96, flags, page(start), page(end), 0, scratch + 8192, ROOM, 0, 0, mask, 0, mask];
        self.stage.put(0, &bytes_of(&arg));
        let answer = self.main(0, sys::__NR_ioctl, [fd, PAGEMAP_SCAN, scratch, 0, 0, 0]);
        self.main(0, sys::__NR_close, [fd, 0, 0, 0, 0, 0]).expect("close");
        let number = |addr: u64| (addr - BASE.raw()) / PAGE;
        let region = |n: u64| {
            let [from, to, what] = [0, 8, 16].map(|at| self.stage.get(8192 + 24 * n + at));
            (number(from), number(to), what)
        };
        answer.map(|count| (0..count).map(region).collect())
    }

    fn signal(&mut self, thread: usize) {
        let (pid, tid) = self.stage.ids(self.workers[thread].slot);
        self.stage.kill(pid, Some(tid), sys::SIGUSR1);
    }

    fn handled(&mut self, thread: usize) -> u64 {
        u64::from(self.stage.handled(self.workers[thread].slot))
    }

    fn kill(&mut self, process: usize) {
        let pid = self.processes[process].pid;
        self.stage.kill(pid, None, sys::SIGKILL);
        bury(pid);
    }
}

/// Wait for the end of a process. Its memory is gone when all of its threads are zombies, or no
/// more: one that has ended says nothing of the others.
fn bury(pid: u32) {
    let is_dead = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ") || stat.contains(") X ")
    };
    for _ in 0..2000 {
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return };
        if tasks.flatten().all(is_dead) {
            return;
        }
        std::thread::park_timeout(LOOK);
    }
    panic!("process {pid} does not die");
}

/// The first page of each unit of a process that has these files; nothing if it is gone.
pub(crate) fn read_entries(
    pagemap: &File,
    mem: &File,
    pages: u64,
    pieces: &[Piece],
) -> Vec<(u64, Entry)> {
    let mut raw = vec![0; 8 * pages as usize];
    if pagemap.read_exact_at(&mut raw, BASE.raw() / PAGE * 8).is_err() {
        return Vec::new();
    }
    let mut bytes = [0; PAGE as usize];
    let mut entries = Vec::new();
    for (page, word) in (0..).zip(raw.as_chunks::<8>().0) {
        if page % granule(pieces, page) != 0 {
            continue;
        }
        let word = u64::from_ne_bytes(*word);
        let bit = |n: u32| word >> n & 1 == 1;
        let content = bit(63).then(|| {
            // By this file neither a protection nor an absent page matters; that a page is
            // there was seen before.
            mem.read_exact_at(&mut bytes, BASE.raw() + page * PAGE).expect("a page");
            Content::of_bytes(&bytes)
        });
        let entry = Entry { content, wp: bit(57), marker: bit(62) && !bit(63) };
        entries.push((page, entry));
    }
    entries
}

fn parse_smaps(text: &str, pages: u64) -> Vec<Area> {
    let base = BASE.raw();
    let mut areas = Vec::new();
    let mut current: Option<Area> = None;
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let head = words.next().unwrap_or_default();
        if let Some((start, end)) = head.split_once('-')
            && let Ok(start) = u64::from_str_radix(start, 16)
            && let Ok(end) = u64::from_str_radix(end, 16)
        {
            let inside = base <= start && start < base + pages * PAGE;
            let letters = words.next().unwrap_or_default().as_bytes();
            let bits = (0..3).filter(|&bit| letters.get(bit) != Some(&b'-'));
            let prot = Prot::from_bits(bits.map(|bit| 1 << bit).sum()).expect("three bits");
            let page = |addr| (addr - base) / PAGE;
            let modes = RegisterModes::empty();
            current = inside.then(|| Area { start: page(start), end: page(end), prot, modes });
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
