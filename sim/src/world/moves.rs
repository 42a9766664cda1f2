//! What an actor's step was: the words schedules and timelines are written in.

use core::fmt;

use shims::{Addr, Event, Len, Span, Time};

use super::mishap::Mishap;
use super::page_index;
use super::program::{Control, Injection};
use crate::kernel::Did;
use crate::sync::Name;

/// One step of an actor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Move {
    /// A step of the kernel on behalf of a thread.
    Kernel(Did),
    /// A task entered a call that waits for a lock.
    Begin,
    /// A task told the others.
    Post(u8),
    /// A task had waited for others.
    Await(u8),
    /// The scenario disturbs the next read.
    Inject(Injection),
    /// The scenario tells the handler something.
    Control(Control),
    /// A step of the handler itself.
    Handler(Note),
    /// Time passed up to here.
    Clock(Time),
    /// Something goes wrong.
    Mishap(Mishap),
}

/// A step of a handler that is not a step of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Note {
    /// What, in a few words: `fetch`, `apply batch`.
    pub what: &'static str,
    /// The page it is about.
    pub page: Option<u64>,
    /// How many, if it is about several things.
    pub count: Option<u32>,
    /// The lock, condition, channel or atomic it is about.
    pub of: Option<Name>,
    /// It asks for something and changes nothing by itself: a poll, a read of the source.
    pub asks: bool,
}

impl Note {
    /// A note without details.
    pub const fn new(what: &'static str) -> Note {
        Note { what, page: None, count: None, of: None, asks: false }
    }

    /// The same about page `page`.
    pub const fn page(self, page: u64) -> Note {
        Note { page: Some(page), ..self }
    }

    /// The same about a lock, a condition, a channel or an atomic.
    pub const fn of(self, name: Name) -> Note {
        Note { of: Some(name), ..self }
    }

    /// The same of something that is asked for.
    #[must_use]
    pub const fn asked(self) -> Note {
        Note { asks: true, ..self }
    }

    /// The same with a count.
    pub const fn count(self, count: u32) -> Note {
        Note { count: Some(count), ..self }
    }
}

impl Move {
    /// Two words that are equal for equal steps, for digests.
    #[inline(always)]
    pub(crate) fn words(&self) -> (u64, u64) {
        match self {
            Move::Kernel(did) => did.words(),
            Move::Begin => (101 << 56, 0),
            Move::Post(label) => (102 << 56, u64::from(*label)),
            Move::Await(label) => (103 << 56, u64::from(*label)),
            Move::Inject(injection) => (104 << 56, injection.word()),
            Move::Control(control) => (105 << 56, *control as u64),
            Move::Handler(note) => {
                let what = note.what.as_bytes();
                let first = what.first().copied().unwrap_or(0);
                let last = what.last().copied().unwrap_or(0);
                let text = u64::from(first) << 16 | u64::from(last) << 8 | what.len() as u64;
                let page = note.page.map_or(0, |page| page + 1);
                let of = note.of.map_or(0, Name::word);
                (
                    106 << 56 ^ text ^ of << 24,
                    page << 32 ^ note.count.map_or(0, |n| u64::from(n) + 1),
                )
            }
            Move::Clock(now) => (107 << 56, now.nanos()),
            Move::Mishap(mishap) => (108 << 56, *mishap as u64),
        }
    }
}

/// A span of a world's memory in pages: `2..5`.
struct Pages(Span);

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.end().and_then(page_index);
        match (page_index(self.0.start), end) {
            (Some(start), Some(end)) => write!(f, "{start}..{end}"),
            _ => write!(f, "{}", self.0),
        }
    }
}

fn page(addr: Addr) -> String {
    page_index(addr).map_or_else(|| addr.to_string(), |index| index.to_string())
}

/// An event in the words of a world: pages, not addresses.
pub(crate) fn describe_event(event: &Event) -> String {
    match event {
        Event::Fault(fault) => {
            let access = if fault.is_write() { "write" } else { "read" };
            format!("{} {access} of page {}", fault.kind(), page(fault.addr))
        }
        Event::Remove(span) => format!("REMOVE {}", Pages(*span)),
        Event::Unmap(span) => format!("UNMAP {}", Pages(*span)),
        Event::Remap { from, to, len } => {
            format!("REMAP {} to {}", Pages(Span::new(*from, Len::new(*len))), page(*to))
        }
        event => event.to_string(),
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)?;
        if let Some(name) = self.of {
            write!(f, " {name}")?;
        }
        if let Some(page) = self.page {
            write!(f, " page {page}")?;
        }
        if let Some(count) = self.count {
            write!(f, " ({count})")?;
        }
        Ok(())
    }
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = |write: &bool| if *write { "write" } else { "read" };
        let did = match self {
            Move::Kernel(did) => did,
            Move::Begin => return write!(f, "begin, wait for a lock"),
            Move::Post(label) => return write!(f, "post {label}"),
            Move::Await(label) => return write!(f, "saw {label}"),
            Move::Inject(injection) => return write!(f, "inject {injection}"),
            Move::Control(control) => return write!(f, "{control}"),
            Move::Handler(note) => return write!(f, "{note}"),
            Move::Clock(now) => return write!(f, "advance to {now}"),
            Move::Mishap(mishap) => return write!(f, "{mishap}"),
        };
        match did {
            Did::Load { page: p, content } => write!(f, "read page {}: {content}", page(*p)),
            Did::Store { page: p, content } => write!(f, "write page {}: {content}", page(*p)),
            Did::Raise(signal) => write!(f, "{signal}"),
            Did::Populated { page: p, content } => {
                write!(f, "populated page {}: {content}", page(*p))
            }
            Did::Miss { page: p, write } => {
                write!(f, "miss on {} of page {}", access(write), page(*p))
            }
            Did::MissMinor { page: p, write } => {
                write!(f, "minor fault on {} of page {}", access(write), page(*p))
            }
            Did::Resize { size } => write!(f, "file of {size} bytes"),
            Did::Drop { index, content: Some(content) } => {
                write!(f, "drop file page {index} ({content})")
            }
            Did::Drop { index, content: None } => write!(f, "unmap file page {index}"),
            Did::QueueFault { page: p, write, wp, minor, .. } => {
                let kind = match (wp, minor) {
                    (true, _) => "WP fault",
                    (_, true) => "minor fault",
                    _ => "fault",
                };
                write!(f, "queue {kind}, {} of page {}", access(write), page(*p))
            }
            Did::Replace { page: p } => write!(f, "replace page {} by a copy", page(*p)),
            Did::SkipSleep { page: p } => write!(f, "page {} has changed, retry", page(*p)),
            Did::Sleep { page: p } => write!(f, "sleep on page {}", page(*p)),
            Did::RaiseChanging { changing, .. } => write!(f, "changing = {changing}"),
            Did::QueueEvent { event, .. } => write!(f, "queue {}, sleep", describe_event(event)),
            Did::LowerChanging { changing, .. } => write!(f, "acknowledged, changing = {changing}"),
            Did::Zap { page: p, content } => write!(f, "zap page {} ({content})", page(*p)),
            Did::Take(event) => write!(f, "took {}", describe_event(event)),
            Did::PassGate => write!(f, "may go on"),
            Did::NextMapping => write!(f, "next mapping"),
            Did::WakeAll { woken } => write!(f, "wake {woken} faulters of the range"),
            Did::Install { page: p, content } => write!(f, "install page {}: {content}", page(*p)),
            Did::Answer { woken, outcome } => match (woken, outcome.errno) {
                (0, _) => write!(f, "answer {outcome}, nobody woken"),
                (1, _) => write!(f, "answer {outcome}, 1 woken"),
                (n, _) => write!(f, "answer {outcome}, {n} woken"),
            },
            Did::Trap { page: p } => write!(f, "page {} is write-protected", page(*p)),
            Did::FillProtected { page: p } => {
                write!(f, "fill page {} with zeros, write-protected", page(*p))
            }
            Did::ZapMarker { page: p } => write!(f, "zap the marker of page {}", page(*p)),
            Did::Protect { page: p } => write!(f, "write-protect page {}", page(*p)),
            Did::Unprotect { page: p } => write!(f, "un-protect page {}", page(*p)),
            Did::Poison { page: p } => write!(f, "poison page {}", page(*p)),
            Did::Move { from, page: p, content } => {
                write!(f, "move page {} to page {}: {content}", page(*from), page(*p))
            }
            Did::FindEmpty { page: p } => write!(f, "find nothing at page {}", page(*p)),
            Did::MoveHole { from, page: p } => {
                write!(f, "no page {} to move to page {}", page(*from), page(*p))
            }
            Did::Scan { page: p, protected } => {
                write!(f, "scan from page {}, {protected} protected", page(*p))
            }
            Did::Lock { span } => write!(f, "lock from page {}", page(span.start)),
            Did::LetGo { page: p } => write!(f, "let go before page {}", page(*p)),
            Did::Huge { page: p, what } => write!(f, "{what} the huge page at {}", page(*p)),
            Did::Guard { page: p } => write!(f, "guard page {}", page(*p)),
            Did::GiveUp { page: p, content } => {
                write!(f, "give page {} up ({content})", page(*p))
            }
            Did::Return(ret) => write!(f, "return {ret}"),
            Did::Release { .. } => write!(f, "release the userfaultfd"),
            Did::Process(did) => write!(f, "{did}"),
        }
    }
}
