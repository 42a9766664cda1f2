//! A case under way on one kernel. Owns the transcript: after everything a case does, all
//! that a program can see is written down.

use shims::{
    Addr, ContinueMode, CopyMode, Errno, Event, Features, Len, MoveMode, Outcome, PoisonMode,
    RangeIoctls, RegisterModes, Span, Uffd, WriteProtectMode, ZeropageMode,
};
use sim::profile::AgainField;
use sim::{Content, Profile, STAMP_LEN};

use super::arm::{Arm, Entry, Scan, bytes, event_text, span};
use super::op::{Back, Op, PAGE, Settled};

/// A case under way.
pub struct Run {
    pub arm: Box<dyn Arm>,
    profile: Profile,
    pages: u64,
    /// Each thread's state when last everything was still; `None` before its first
    /// operation.
    threads: Vec<Option<Settled>>,
    uffds: usize,
    processes: usize,
    log: Vec<String>,
}

impl Run {
    /// Nothing has been done yet on `arm`, an arena of `pages` pages.
    pub fn new(arm: Box<dyn Arm>, profile: Profile, pages: u64) -> Run {
        Run { arm, profile, pages, threads: Vec::new(), uffds: 0, processes: 1, log: Vec::new() }
    }

    /// Userfaultfd 0 has `features` and watches all that is mapped for `modes`.
    pub fn begin(&mut self, features: Features, modes: RegisterModes) {
        assert_eq!(self.open(features), 0);
        if !modes.is_empty() {
            let whole = self.span(0, self.pages);
            let granted = self.register(0, whole, modes);
            // b6: `COPY` and `WAKE` there are everywhere.
            assert_eq!(granted.map(|ioctls| ioctls.bits() & 0x10c), Ok(0x10c));
        }
    }

    /// Pages `start..end` of the arena.
    pub fn span(&self, start: u64, end: u64) -> Span {
        span(self.arm.base(), start, end)
    }

    /// Bytes, for arguments that are not whole pages.
    pub fn bytes(&self, at: u64, len: u64) -> Span {
        bytes(self.arm.base(), at, len)
    }

    /// What this kernel answers to a resolving ioctl while the address space changes
    /// (rule e1, bug Z4).
    pub fn changing(&self) -> Outcome {
        match self.profile.again_field {
            AgainField::Mirrored => Outcome::mirrored(Errno::EAGAIN),
            AgainField::Untouched => Outcome::bare(Errno::EAGAIN),
        }
    }

    /// A new userfaultfd, after its handshake.
    pub fn open(&mut self, features: Features) -> usize {
        let uffd = self.arm.open(features);
        self.uffds += usize::from(uffd.is_ok());
        self.note(format!("open {features:?} -> {uffd:?}"));
        uffd.expect("the gate has asked for the features")
    }

    /// The same, which may be refused.
    pub fn try_open(&mut self, features: Features) -> Result<usize, Errno> {
        let uffd = self.arm.open(features);
        self.uffds += usize::from(uffd.is_ok());
        self.note(format!("open {features:?} -> {uffd:?}"));
        uffd
    }

    /// Is that userfaultfd open?
    pub fn is_open(&self, uffd: usize) -> bool {
        self.arm.is_open(uffd)
    }

    /// How many processes there have been.
    pub fn processes(&self) -> usize {
        self.processes
    }

    /// [`state`](Run::state), if the thread has had something to do.
    pub fn try_state(&self, thread: usize) -> Option<Settled> {
        self.threads[thread]
    }

    /// `UFFDIO_CONTINUE` through any userfaultfd.
    pub fn continue_by(&mut self, uffd: usize, range: Span, mode: ContinueMode) -> Outcome {
        let what = format!("continue {} {:#x}", self.relative(range), mode.bits());
        self.ask(uffd, what, |uffd| uffd.continue_(range, mode))
    }

    /// `UFFDIO_WRITEPROTECT` through any userfaultfd, in any mode.
    pub fn write_protect_by(
        &mut self,
        uffd: usize,
        range: Span,
        mode: WriteProtectMode,
    ) -> Outcome {
        let what = format!("writeprotect {} {:#x}", self.relative(range), mode.bits());
        self.ask(uffd, what, |uffd| uffd.write_protect(range, mode))
    }

    /// `UFFDIO_POISON` through any userfaultfd, in any mode.
    pub fn poison_with(&mut self, uffd: usize, range: Span, mode: PoisonMode) -> Outcome {
        let what = format!("poison {} {:#x}", self.relative(range), mode.bits());
        self.ask(uffd, what, |uffd| uffd.poison(range, mode))
    }

    /// Close it.
    pub fn close(&mut self, uffd: usize) {
        self.arm.close(uffd);
        self.note(format!("close {uffd}"));
    }

    /// A new thread of process 0.
    pub fn thread(&mut self) -> usize {
        self.thread_in(0)
    }

    /// A thread of process `process`.
    pub fn thread_in(&mut self, process: usize) -> usize {
        self.threads.push(None);
        self.arm.thread_in(process)
    }

    /// A new thread of that process, doing `op`.
    pub fn spawn_in(&mut self, process: usize, op: Op) -> (usize, Settled) {
        let thread = self.thread_in(process);
        let settled = self.go(thread, op);
        (thread, settled)
    }

    /// Let `thread` do `op` until nothing moves any more.
    pub fn go(&mut self, thread: usize, op: Op) -> Settled {
        self.arm.start(thread, op);
        self.threads[thread] = Some(Settled::Asleep);
        self.note(format!("thread {thread}: {op:?}"));
        self.state(thread)
    }

    /// A new thread doing `op`, and where that got it.
    pub fn spawn(&mut self, op: Op) -> (usize, Settled) {
        let thread = self.thread();
        let settled = self.go(thread, op);
        (thread, settled)
    }

    /// A new thread that must fall asleep in `op`.
    #[track_caller]
    pub fn sleeper(&mut self, op: Op) -> usize {
        let (thread, settled) = self.spawn(op);
        assert_eq!(settled, Settled::Asleep, "{op:?}");
        thread
    }

    /// Where `thread` was when last everything was still.
    #[track_caller]
    pub fn state(&self, thread: usize) -> Settled {
        self.threads[thread].expect("it has had something to do")
    }

    /// It must have been asleep when last everything was still.
    #[track_caller]
    pub fn asleep(&self, thread: usize) {
        assert_eq!(self.state(thread), Settled::Asleep, "thread {thread}");
    }

    /// It must have come back with that.
    #[track_caller]
    pub fn returned(&self, thread: usize, back: Back) {
        assert_eq!(self.state(thread), Settled::Returned(back), "thread {thread}");
    }

    /// Something asked of userfaultfd `uffd`, and the answer.
    fn ask<T: core::fmt::Debug>(
        &mut self,
        uffd: usize,
        what: String,
        mut body: impl FnMut(&dyn Uffd) -> T,
    ) -> T {
        let mut answer = None;
        self.arm.with(uffd, &mut |uffd| answer = Some(body(uffd)));
        let answer = answer.expect("an arm calls the body once");
        self.note(format!("uffd {uffd}: {what} -> {answer:?}"));
        answer
    }

    /// `UFFDIO_REGISTER`.
    pub fn register(
        &mut self,
        uffd: usize,
        range: Span,
        modes: RegisterModes,
    ) -> Result<RangeIoctls, Errno> {
        let what = format!("register {} {:#x}", self.relative(range), modes.bits());
        self.ask(uffd, what, |uffd| uffd.register(range, modes))
    }

    /// `UFFDIO_UNREGISTER`.
    pub fn unregister(&mut self, uffd: usize, range: Span) -> Result<(), Errno> {
        let what = format!("unregister {}", self.relative(range));
        self.ask(uffd, what, |uffd| uffd.unregister(range))
    }

    /// `UFFDIO_WAKE`.
    pub fn wake(&mut self, uffd: usize, range: Span) -> Result<(), Errno> {
        let what = format!("wake {}", self.relative(range));
        self.ask(uffd, what, |uffd| uffd.wake(range))
    }

    /// `UFFDIO_COPY` of source pages numbered as the pages of `range`.
    pub fn copy_span(&mut self, uffd: usize, range: Span, mode: CopyMode) -> Outcome {
        let what = format!("copy {} {:#x}", self.relative(range), mode.bits());
        let first = range.start.raw().wrapping_sub(self.arm.base().raw()) / PAGE;
        let len = range.len.bytes().next_multiple_of(PAGE).max(PAGE) as usize;
        let mut payload = vec![0; len];
        for (index, page) in payload.chunks_mut(PAGE as usize).enumerate() {
            page[..STAMP_LEN].copy_from_slice(&source(first + index as u64).stamp());
        }
        self.ask(uffd, what, |uffd| uffd.copy(range, &payload, mode))
    }

    /// `UFFDIO_COPY` of source pages to where they belong.
    pub fn copy(&mut self, start: u64, end: u64) -> Outcome {
        let range = self.span(start, end);
        self.copy_span(0, range, CopyMode::empty())
    }

    /// `UFFDIO_ZEROPAGE` through any userfaultfd.
    pub fn zero_span(&mut self, uffd: usize, range: Span, mode: ZeropageMode) -> Outcome {
        let what = format!("zeropage {} {:#x}", self.relative(range), mode.bits());
        self.ask(uffd, what, |uffd| uffd.zeropage(range, mode))
    }

    /// `UFFDIO_ZEROPAGE` of pages.
    pub fn zero(&mut self, start: u64, end: u64) -> Outcome {
        let range = self.span(start, end);
        self.zero_span(0, range, ZeropageMode::empty())
    }

    /// `UFFDIO_WRITEPROTECT`; its answer has no field.
    pub fn protect_span(&mut self, range: Span, mode: WriteProtectMode) -> Outcome {
        let what = format!("writeprotect {} {:#x}", self.relative(range), mode.bits());
        self.ask(0, what, |uffd| uffd.write_protect(range, mode))
    }

    /// Protect pages, or take the protection off and wake.
    pub fn protect(&mut self, start: u64, end: u64, on: bool) -> Outcome {
        let mode = if on { WriteProtectMode::WP } else { WriteProtectMode::empty() };
        let range = self.span(start, end);
        self.protect_span(range, mode)
    }

    /// `UFFDIO_COPY` that leaves the pages protected.
    pub fn copy_wp(&mut self, start: u64, end: u64) -> Outcome {
        let range = self.span(start, end);
        self.copy_span(0, range, CopyMode::WP)
    }

    /// `UFFDIO_POISON` of pages.
    pub fn poison(&mut self, start: u64, end: u64) -> Outcome {
        let range = self.span(start, end);
        self.poison_by(0, range)
    }

    /// `UFFDIO_POISON` through any userfaultfd.
    pub fn poison_by(&mut self, uffd: usize, range: Span) -> Outcome {
        let what = format!("poison {}", self.relative(range));
        self.ask(uffd, what, |uffd| uffd.poison(range, PoisonMode::empty()))
    }

    /// `UFFDIO_WRITEPROTECT` through any userfaultfd.
    pub fn protect_by(&mut self, uffd: usize, range: Span, on: bool) -> Outcome {
        let mode = if on { WriteProtectMode::WP } else { WriteProtectMode::empty() };
        let what = format!("writeprotect {} {:#x}", self.relative(range), mode.bits());
        self.ask(uffd, what, |uffd| uffd.write_protect(range, mode))
    }

    /// `UFFDIO_CONTINUE`.
    pub fn cont(&mut self, start: u64, end: u64, mode: ContinueMode) -> Outcome {
        let range = self.span(start, end);
        let what = format!("continue {} {:#x}", self.relative(range), mode.bits());
        self.ask(0, what, |uffd| uffd.continue_(range, mode))
    }

    /// `UFFDIO_MOVE` of `count` pages through a userfaultfd.
    pub fn move_by(&mut self, uffd: usize, dst: Span, src: Span, mode: MoveMode) -> Outcome {
        let (to, from) = (self.relative(dst), self.relative(src));
        let what = format!("move {from} to {to} {:#x}", mode.bits());
        self.ask(uffd, what, |uffd| uffd.move_(dst, src.start, mode))
    }

    /// `UFFDIO_MOVE` of `count` pages.
    pub fn move_(&mut self, dst: u64, src: u64, count: u64, mode: MoveMode) -> Outcome {
        let (dst, src) = (self.span(dst, dst + count), self.span(src, src + count));
        self.move_by(0, dst, src, mode)
    }

    /// What a thread that need not wait gets.
    #[track_caller]
    pub fn get(&mut self, thread: usize, op: Op) -> Back {
        match self.go(thread, op) {
            Settled::Returned(back) => back,
            settled => panic!("{op:?}: {settled:?}"),
        }
    }

    /// Any other question, as long as its answer holds no address.
    pub fn other<T: core::fmt::Debug>(
        &mut self,
        uffd: usize,
        what: &str,
        body: impl FnMut(&dyn Uffd) -> T,
    ) -> T {
        self.ask(uffd, what.to_owned(), body)
    }

    /// One read of up to `max` messages of `uffd`; none if that is `EAGAIN`.
    ///
    /// Whoever waits for a message to be read goes on at once, and what he sends next may be in the
    /// same read (a11). A case whose sender sends twice asks for one message.
    pub fn read(&mut self, uffd: usize, max: usize) -> Vec<String> {
        let events = self.events(uffd, max);
        events.iter().map(|event| event_text(&*self.arm, event)).collect()
    }

    /// The same, the messages themselves. A child's userfaultfd is open from now on.
    pub fn events(&mut self, uffd: usize, max: usize) -> Vec<Event> {
        let mut events: Vec<Event> = Vec::new();
        let mut answer = Ok(0);
        self.arm.with(uffd, &mut |uffd| answer = uffd.read_events(&mut events, max));
        match answer {
            Ok(count) => assert_eq!(count, events.len()),
            Err(errno) => assert_eq!((errno, events.len()), (Errno::EAGAIN, 0)),
        }
        let texts: Vec<_> = events.iter().map(|event| event_text(&*self.arm, event)).collect();
        for event in &events {
            if let Event::Fork { fd } = event {
                self.arm.adopt(*fd);
                self.uffds += 1;
            }
        }
        self.note(format!("uffd {uffd}: read {max} -> {answer:?} {texts:?}"));
        events
    }

    /// How many userfaultfds there have been.
    pub fn uffds(&self) -> usize {
        self.uffds
    }

    /// The page of the arena at `addr`.
    pub fn page_at(&self, addr: Addr) -> u64 {
        (addr.raw() - self.arm.base().raw()) / PAGE
    }

    /// What page `n` holds.
    pub fn content(&mut self, n: u64) -> Option<Content> {
        self.arm.contents()[n as usize]
    }

    /// The entry of page `n` in a process.
    #[track_caller]
    pub fn entry(&mut self, process: usize, n: u64) -> Entry {
        let entries = self.arm.entries(process);
        entries.into_iter().find(|(page, _)| *page == n).expect("a page that is looked at").1
    }

    /// Is page `n` of process 0 protected by userfaultfd, or to be?
    #[track_caller]
    pub fn is_wp(&mut self, n: u64) -> bool {
        self.entry(0, n).wp
    }

    /// A userfaultfd that has not had its handshake, with flags of `userfaultfd(2)`.
    pub fn open_raw(&mut self, flags: u64) -> Result<usize, Errno> {
        let uffd = self.arm.open_raw(flags);
        self.uffds += usize::from(uffd.is_ok());
        self.note(format!("open_raw {flags:#x} -> {uffd:?}"));
        uffd
    }

    /// The same through `/dev/userfaultfd`.
    pub fn open_by_device(&mut self, flags: u64) -> Result<usize, Errno> {
        let uffd = self.arm.open_by_device(flags);
        self.uffds += usize::from(uffd.is_ok());
        self.note(format!("open_by_device {flags:#x} -> {uffd:?}"));
        uffd
    }

    /// `UFFDIO_API`: the features and the ioctls.
    pub fn api(&mut self, uffd: usize, features: Features) -> Result<(u64, u64), Errno> {
        self.ask(uffd, format!("api {features:?}"), |uffd| {
            uffd.api(features).map(|reply| (reply.features.bits(), reply.ioctls.bits()))
        })
    }

    /// `read` by bytes, into a buffer that can be written or cannot.
    pub fn read_raw(&mut self, uffd: usize, len: u64, writable: bool) -> Result<u64, Errno> {
        let answer = self.arm.read_raw(uffd, len, writable);
        self.note(format!("read {len} bytes of {uffd}, writable {writable} -> {answer:?}"));
        answer
    }

    /// What `poll` reports of it.
    pub fn poll(&mut self, uffd: usize) -> u16 {
        self.arm.poll_bits(uffd)
    }

    /// `dup`.
    pub fn duplicate(&mut self, uffd: usize) -> usize {
        let copy = self.arm.duplicate(uffd);
        self.uffds += 1;
        self.note(format!("dup {uffd} -> {copy}"));
        copy
    }

    /// `PAGEMAP_SCAN` of process 0.
    pub fn scan(&mut self, scan: Scan) -> Result<Vec<(u64, u64, u64)>, Errno> {
        let answer = self.arm.scan(scan);
        self.note(format!("{scan:?} -> {answer:?}"));
        answer
    }

    /// `SIGUSR1` to a thread.
    pub fn signal(&mut self, thread: usize) {
        self.arm.signal(thread);
        self.note(format!("signal {thread}"));
    }

    /// `SIGUSR1` to a thread that will not come to rest.
    pub fn signal_only(&mut self, thread: usize) {
        self.arm.signal(thread);
    }

    /// How many signals a thread has handled.
    pub fn handled(&mut self, thread: usize) -> u64 {
        self.arm.handled(thread)
    }

    /// A message, if there is one, without waiting until nothing moves.
    pub fn read_only(&mut self, uffd: usize) -> Option<String> {
        self.arm.turns(10);
        let mut events: Vec<Event> = Vec::new();
        self.arm.with(uffd, &mut |uffd| {
            let _ = uffd.read_events(&mut events, 1);
        });
        events.first().map(|event| event_text(&*self.arm, event))
    }

    /// `F_SETFL` with `O_NONBLOCK`, or without.
    pub fn set_nonblocking(&mut self, uffd: usize, on: bool) {
        self.arm.set_nonblocking(uffd, on);
        self.note(format!("non-blocking {uffd} {on}"));
    }

    /// Non-blocking, close on exec.
    pub fn descriptor_flags(&mut self, uffd: usize) -> (bool, bool) {
        self.arm.descriptor_flags(uffd)
    }

    /// From now on `process` uses the descriptor.
    pub fn via(&mut self, uffd: usize, process: usize) {
        self.arm.via(uffd, process);
        self.note(format!("{uffd} by process {process}"));
    }

    /// Process 0 gets no new descriptors any more, or does again.
    pub fn starve_descriptors(&mut self, on: bool) {
        self.arm.starve_descriptors(on);
        self.note(format!("no descriptors: {on}"));
    }

    /// Process 0 becomes an ordinary user's.
    pub fn drop_privileges(&mut self) {
        self.arm.drop_privileges();
        self.note("no privileges".to_owned());
    }

    /// `SIGKILL` to a process.
    pub fn kill(&mut self, process: usize) {
        self.arm.kill(process);
        self.note(format!("kill process {process}"));
    }

    /// A new process, by a new thread of process 0 that needs nobody to read a message.
    #[track_caller]
    pub fn fork(&mut self) -> usize {
        let (_, settled) = self.spawn(Op::Fork);
        self.forked(settled)
    }

    /// The process that a fork has made.
    #[track_caller]
    pub fn forked(&mut self, settled: Settled) -> usize {
        match settled {
            Settled::Returned(Back::Forked(process)) => process,
            settled => panic!("fork: {settled:?}"),
        }
    }

    /// The mappings of the arena.
    pub fn areas(&mut self) -> Vec<String> {
        self.arm.areas().iter().map(ToString::to_string).collect()
    }

    fn relative(&self, range: Span) -> String {
        let at = range.start.raw().wrapping_sub(self.arm.base().raw());
        format!("{at:#x}+{:#x}", range.len.bytes())
    }

    /// The kernel as it is now.
    pub fn into_arm(self) -> Box<dyn Arm> {
        self.arm
    }

    /// The transcript.
    pub fn into_log(self) -> Vec<String> {
        self.log
    }

    /// Wait until nothing moves, then write down `what` and all that can be seen.
    fn note(&mut self, what: String) {
        // What one of them does last may wake another that was looked at before.
        let mut changed = true;
        while core::mem::take(&mut changed) {
            for thread in 0..self.threads.len() {
                if self.threads[thread] != Some(Settled::Asleep) {
                    continue;
                }
                let settled = self.arm.settle(thread);
                if let Settled::Returned(Back::Forked(process)) = settled {
                    self.processes = self.processes.max(process + 1);
                }
                changed |= settled != Settled::Asleep;
                self.threads[thread] = Some(settled);
            }
        }
        self.log.push(what);
        for (thread, state) in self.threads.iter().enumerate() {
            self.log.push(format!("  thread {thread} {state:?}"));
        }
        for uffd in 0..self.uffds {
            if self.arm.is_open(uffd) {
                let (pending, total) = self.arm.counts(uffd);
                let poll = self.arm.poll_bits(uffd);
                self.log.push(format!("  uffd {uffd} {pending}/{total} poll {poll:#x}"));
            }
        }
        for process in 0..self.processes {
            let name = if process == 0 { String::new() } else { format!("process {process} ") };
            let entries = self.arm.entries(process);
            let there: Vec<_> = entries
                .iter()
                .filter(|(_, entry)| *entry != Entry::default())
                .map(|(n, entry)| format!("{n}: {entry}"))
                .collect();
            self.log.push(format!("  {name}pages [{}]", there.join(", ")));
            let areas: Vec<_> =
                self.arm.areas_of(process).iter().map(ToString::to_string).collect();
            self.log.push(format!("  {name}areas [{}]", areas.join(", ")));
        }
    }
}

/// What `copy` installs at page `n`.
pub fn source(n: u64) -> Content {
    Content::Source { page: n as u32, version: 0 }
}

/// The profile that stands for the running kernel.
pub fn running_profile() -> Profile {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("/proc is mounted");
    let mut numbers = release.split(['.', '-']).map_while(|n| n.parse::<u32>().ok());
    match (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) {
        version if version >= (6, 15) => Profile::linux_6_18(),
        version if version >= (5, 15) => Profile::linux_6_12(),
        _ => Profile::linux_5_13(),
    }
}

/// The arena's first bytes, for requests that are made by hand.
pub fn at(run: &Run, offset: u64) -> Addr {
    run.arm.base().checked_add(Len::new(offset)).expect("fits")
}
