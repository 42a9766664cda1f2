//! What a case can do to a kernel and see of it, whichever kernel it is. Owns the interface;
//! `sim_arm.rs` and `puppet_arm.rs` give it its two meanings.

use core::fmt;

use shims::{Addr, Errno, Event, FaultKind, Features, Len, RegisterModes, Span, Tid, Uffd};
use sim::Content;
use sim::vma::Prot;

use super::op::{Op, PAGE, Settled};
use super::sim_arm::SimArm;

/// What the page table says of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Entry {
    /// What it holds, if there is a page.
    pub content: Option<Content>,
    /// Is it protected by userfaultfd, or to be?
    pub wp: bool,
    /// Nothing is there, but something is remembered.
    pub marker: bool,
}

/// A mapping inside the arena, in pages from its start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Area {
    pub start: u64,
    pub end: u64,
    pub prot: Prot,
    pub modes: RegisterModes,
}

/// `PAGEMAP_SCAN`: pages, and what is asked about them, by the kernel's own numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scan {
    pub start: u64,
    pub end: u64,
    /// `PM_SCAN_WP_MATCHING` (1), `PM_SCAN_CHECK_WPASYNC` (2).
    pub flags: u64,
    /// `PAGE_IS_*` that a page must have all of, and that are returned.
    pub mask: u64,
}

/// A kernel with one process: an arena of pages, userfaultfds, threads.
pub trait Arm {
    /// Where the arena starts.
    fn base(&self) -> Addr;
    /// Open a userfaultfd with `features`, numbered from 0.
    fn open(&mut self, features: Features) -> Result<usize, Errno>;
    /// Close it: the last reference.
    fn close(&mut self, uffd: usize);
    /// Use it. No call through the seam sleeps.
    fn with(&mut self, uffd: usize, body: &mut dyn FnMut(&dyn Uffd));
    /// Is it open still?
    fn is_open(&self, uffd: usize) -> bool;
    /// Does `poll` report `POLLIN`, and nothing else?
    fn readable(&mut self, uffd: usize) -> bool;
    /// `pending` and `total` of `fdinfo` (rule a9).
    fn counts(&mut self, uffd: usize) -> (u64, u64);
    /// A new thread, numbered from 0.
    fn thread(&mut self) -> usize;
    /// Tell an idle thread to do `op`.
    fn start(&mut self, thread: usize, op: Op);
    /// The same in another process, numbered from 0 in order of their forks.
    fn thread_in(&mut self, process: usize) -> usize {
        assert_eq!(process, 0, "this arm has one process");
        self.thread()
    }
    /// The userfaultfd that a `FORK` message brought: numbered as if it had been opened.
    fn adopt(&mut self, fd: i32) -> usize {
        unreachable!("this arm cannot adopt {fd}")
    }
    /// The page table of a process, without causing a fault: the first page of each unit.
    fn entries(&mut self, process: usize) -> Vec<(u64, Entry)> {
        assert_eq!(process, 0, "this arm has one process");
        let entry = |content| Entry { content, ..Entry::default() };
        (0..).zip(self.contents()).map(|(n, content)| (n, entry(content))).collect()
    }
    /// The mappings of the arena in a process, ascending.
    fn areas_of(&mut self, process: usize) -> Vec<Area> {
        assert_eq!(process, 0, "this arm has one process");
        self.areas()
    }
    /// Open a userfaultfd with these flags of `userfaultfd(2)`, without a handshake.
    fn open_raw(&mut self, flags: u64) -> Result<usize, Errno> {
        unreachable!("this arm cannot open with {flags:#x}")
    }
    /// The same through `/dev/userfaultfd`.
    fn open_by_device(&mut self, flags: u64) -> Result<usize, Errno> {
        unreachable!("this arm cannot open with {flags:#x}")
    }
    /// `read` into a buffer of `len` bytes that can be written, or cannot; bytes read.
    fn read_raw(&mut self, uffd: usize, len: u64, writable: bool) -> Result<u64, Errno> {
        unreachable!("this arm cannot read {len} bytes of {uffd} (writable: {writable})")
    }
    /// What `poll` reports, of `POLLIN` (1), `POLLERR` (8) and the rest.
    fn poll_bits(&mut self, uffd: usize) -> u16 {
        u16::from(self.readable(uffd))
    }
    /// `dup`: another descriptor of the same userfaultfd.
    fn duplicate(&mut self, uffd: usize) -> usize {
        unreachable!("this arm cannot duplicate {uffd}")
    }
    /// `F_SETFL` with `O_NONBLOCK`, or without.
    fn set_nonblocking(&mut self, uffd: usize, on: bool) {
        unreachable!("this arm cannot change {uffd} ({on})")
    }
    /// What `F_GETFL` and `F_GETFD` say: non-blocking, close on exec.
    fn descriptor_flags(&mut self, uffd: usize) -> (bool, bool) {
        unreachable!("this arm has no flags of {uffd}")
    }
    /// From now on process `process` uses that descriptor, which it has inherited.
    fn via(&mut self, uffd: usize, process: usize) {
        unreachable!("this arm cannot give {uffd} to {process}")
    }
    /// Process 0 gets no new descriptors any more, or does again.
    fn starve_descriptors(&mut self, on: bool) {
        unreachable!("this arm has no descriptors to limit ({on})")
    }
    /// Process 0 becomes an ordinary user's.
    fn drop_privileges(&mut self) {
        unreachable!("this arm has no privileges")
    }
    /// `PAGEMAP_SCAN` of process 0: the regions, as pages and categories.
    fn scan(&mut self, scan: Scan) -> Result<Vec<(u64, u64, u64)>, Errno> {
        unreachable!("this arm cannot {scan:?}")
    }
    /// Let the threads move for a moment, though they may never come to rest.
    fn turns(&mut self, count: u32) {
        std::thread::park_timeout(core::time::Duration::from_micros(u64::from(10 * count)));
    }
    /// Send `SIGUSR1` to a thread; the program counts it and goes on.
    fn signal(&mut self, thread: usize) {
        unreachable!("this arm cannot signal thread {thread}")
    }
    /// How many signals the thread has handled.
    fn handled(&mut self, thread: usize) -> u64 {
        unreachable!("this arm cannot signal thread {thread}")
    }
    /// `SIGKILL` to a process; returns when it is gone.
    fn kill(&mut self, process: usize) {
        unreachable!("this arm cannot kill process {process}")
    }
    /// Wait until it has come back or sleeps.
    fn settle(&mut self, thread: usize) -> Settled;
    /// Which thread a message names.
    fn who(&self, tid: Tid) -> Option<usize>;
    /// What each page of the arena holds, without causing a fault.
    fn contents(&mut self) -> Vec<Option<Content>>;
    /// The mappings of the arena, ascending.
    fn areas(&mut self) -> Vec<Area>;
    /// The simulated kernel behind it, if it is one.
    fn as_sim(&mut self) -> Option<&mut SimArm> {
        None
    }
}

/// An event with addresses in pages from the start of the arena.
pub fn event_text(arm: &dyn Arm, event: &Event) -> String {
    event_text_at(arm.base(), &|tid| arm.who(tid), event)
}

/// The same for an arena at `base`, where `who` knows the threads.
pub fn event_text_at(base: Addr, who: &dyn Fn(Tid) -> Option<usize>, event: &Event) -> String {
    let rel = |addr: Addr| addr.raw().wrapping_sub(base.raw());
    let page = |addr: Addr| match rel(addr) {
        offset if offset.is_multiple_of(PAGE) => (offset / PAGE).to_string(),
        offset => format!("{}+{:#x}", offset / PAGE, offset % PAGE),
    };
    let part = |span: Span| format!("{}..{}", page(span.start), page(span.end().expect("fits")));
    match event {
        Event::Fault(fault) => {
            let flags = if fault.is_write() { "w" } else { "r" };
            let kind = match fault.kind() {
                FaultKind::Missing => "",
                FaultKind::Wp => " WP",
                FaultKind::Minor => " MINOR",
            };
            let who = fault.tid.map_or(String::new(), |tid| format!(" by {:?}", who(tid)));
            // Unknown flags would show here.
            let rest = fault.flags.bits() & !7;
            let rest = if rest == 0 { String::new() } else { format!(" flags {rest:#x}") };
            format!("F{}{flags}{kind}{who}{rest}", page(fault.addr))
        }
        Event::Remove(span) => format!("REMOVE {}", part(*span)),
        Event::Unmap(span) => format!("UNMAP {}", part(*span)),
        Event::Remap { from, to, len } => {
            let moved = part(Span::new(*from, Len::new(*len)));
            format!("REMAP {moved} to {}", page(*to))
        }
        // The number is the reader's own business.
        Event::Fork { .. } => "FORK".to_owned(),
        other => format!("{other:?}"),
    }
}

/// `start..end` in pages of an arena at `base`.
pub fn span(base: Addr, start: u64, end: u64) -> Span {
    bytes(base, start * PAGE, (end - start) * PAGE)
}

/// `len` bytes at byte `at` of an arena at `base`.
pub fn bytes(base: Addr, at: u64, len: u64) -> Span {
    Span::new(Addr::new(base.raw().wrapping_add(at)), Len::new(len))
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{} {:?}", self.start, self.end, self.prot)?;
        if !self.modes.is_empty() {
            write!(
                f,
                " {}",
                self.modes.iter_names().map(|(n, _)| n).collect::<Vec<_>>().join("|")
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(content) = self.content {
            write!(f, "{content}")?;
        }
        if self.marker {
            f.write_str("marker")?;
        }
        if self.wp {
            f.write_str(" wp")?;
        }
        Ok(())
    }
}
