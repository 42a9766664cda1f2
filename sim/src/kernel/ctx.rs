//! A userfaultfd context: who waits on it and for what. Owns the two fault queues, the
//! event queue and the count of address-space changes; touches no page.

use core::hash::{Hash, Hasher};

use shims::{Addr, Event, Fault, FaultFlags, Features, Span};

use super::call::{MmId, ThreadId};
use super::fd::Created;
use super::run::Reason;
use crate::copy::copy_by_field;

/// A thread that waits for a page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Faulter {
    pub(crate) thread: ThreadId,
    pub(crate) fault: Fault,
}

/// A thread that waits until its event is read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Sender {
    pub(crate) thread: ThreadId,
    pub(crate) event: Event,
}

/// The object behind a userfaultfd.
#[derive(PartialEq, Eq, Hash, Debug)]
pub struct Ctx {
    pub(crate) mm: MmId,
    pub(crate) features: Features,
    pub(crate) released: bool,
    /// It has had its handshake (rule a5).
    pub(crate) started: bool,
    /// Only accesses from user mode are asked about (rule c5).
    pub(crate) user_mode_only: bool,
    /// How it was opened: a child's is opened like that (rule d28).
    pub(crate) created: Created,
    /// Events announced or about to be, whose senders have not gone on (rule d3).
    pub(crate) changing: u32,
    /// Resolving ioctls in the middle of their pages: an event cannot start meanwhile
    /// (rule d34).
    pub(crate) filling: u32,
    /// Faults no reader has taken, in order of arrival.
    pub(crate) pending: Vec<Faulter>,
    /// Faults a reader has taken; their threads sleep on.
    pub(crate) taken: Vec<Faulter>,
    /// Events no reader has taken, in order of arrival.
    pub(crate) events: Vec<Sender>,
}

copy_by_field! {
    Ctx copies { mm, features, released, started, user_mode_only, created, changing, filling, pending,
        taken, events }
}

impl Ctx {
    pub(crate) fn new(mm: MmId, features: Features) -> Ctx {
        Ctx {
            mm,
            features,
            released: false,
            started: true,
            user_mode_only: false,
            created: Created::CLOEXEC.union(Created::NONBLOCK),
            changing: 0,
            filling: 0,
            pending: Vec::new(),
            taken: Vec::new(),
            events: Vec::new(),
        }
    }

    /// The hash with threads called by `name`. In which order the faults were taken is left out:
    /// nobody can tell, they are found by their threads and by their pages.
    pub(crate) fn hash_named<H: Hasher>(&self, name: &impl Fn(ThreadId) -> u16, state: &mut H) {
        let Ctx { mm, features, released, started, user_mode_only, created, .. } = self;
        let Ctx { changing, filling, pending, taken, events, .. } = self;
        (mm, features, released, started, user_mode_only, created, changing, filling).hash(state);
        pending.len().hash(state);
        for faulter in pending {
            (name(faulter.thread), faulter.fault).hash(state);
        }
        let mut taken: Vec<_> =
            taken.iter().map(|faulter| (name(faulter.thread), faulter.fault.addr)).collect();
        taken.sort_unstable();
        (taken, events.len()).hash(state);
        for sender in events {
            (name(sender.thread), sender.event).hash(state);
        }
    }

    /// What it was started with, and what that brings along (rule a6).
    pub fn features(&self) -> Features {
        self.features
    }

    /// Was it closed?
    pub fn is_closed(&self) -> bool {
        self.released
    }

    /// Would `poll` report `POLLIN`? Faults that were read but not resolved do not count
    /// (rule a18).
    pub fn readable(&self) -> bool {
        !self.pending.is_empty() || !self.events.is_empty()
    }

    /// How many faults wait, read or not: `total` in `fdinfo` (rule a9).
    pub fn faults_waiting(&self) -> usize {
        self.pending.len() + self.taken.len()
    }

    /// How many faults no reader has taken: `pending` in `fdinfo` (rule a9).
    pub fn faults_unread(&self) -> usize {
        self.pending.len()
    }

    /// How many events no reader has taken.
    pub fn events_unread(&self) -> usize {
        self.events.len()
    }

    /// `mmap_changing`: how many changes of the address space are under way. While it is
    /// not zero every resolving ioctl on this context fails with `EAGAIN` (rules d3, e1).
    pub fn changing(&self) -> u32 {
        self.changing
    }

    /// The event a read takes next, if it takes an event.
    pub(crate) fn next_event(&self) -> Option<&Event> {
        if self.pending.is_empty() { self.events.first().map(|sender| &sender.event) } else { None }
    }

    /// The message a read takes next: faults first, then events, each in order of arrival
    /// (rule a11). A taken fault stays until its thread is woken (rule a13); a taken
    /// event's sender is handed back, to be made runnable (E3).
    pub(crate) fn take_message(&mut self) -> Option<(Event, Option<ThreadId>)> {
        if !self.pending.is_empty() {
            let faulter = self.pending.remove(0);
            self.taken.push(faulter);
            return Some((Event::Fault(faulter.fault), None));
        }
        if self.events.is_empty() {
            return None;
        }
        let sender = self.events.remove(0);
        Some((sender.event, Some(sender.thread)))
    }

    /// Unlink every faulter whose message address lies in `range`, whatever it waits for
    /// (rule c11); `woken` is called for each.
    pub(crate) fn unlink(&mut self, range: Span, mut woken: impl FnMut(ThreadId)) -> u32 {
        let mut count = 0;
        for queue in [&mut self.pending, &mut self.taken] {
            queue.retain(|faulter| {
                let hit = range.contains(faulter.fault.addr);
                if hit {
                    woken(faulter.thread);
                    count += 1;
                }
                !hit
            });
        }
        count
    }

    /// Is the fault of `thread` queued still? Unlink it unless it is to `stay`, because the
    /// thread does not sleep after all (F5).
    pub(crate) fn withdraw_unless(&mut self, thread: ThreadId, stay: bool) -> bool {
        let mut queued = false;
        for queue in [&mut self.pending, &mut self.taken] {
            if let Some(at) = queue.iter().position(|faulter| faulter.thread == thread) {
                queued = true;
                if !stay {
                    queue.remove(at);
                }
            }
        }
        queued
    }

    /// Append a fault at the tail. The message has the address of the page, or of the byte
    /// with `EXACT_ADDRESS` (rule c7).
    pub(crate) fn queue_fault(
        &mut self,
        thread: ThreadId,
        (byte, page): (Addr, Addr),
        write: bool,
        reason: Reason,
    ) {
        let mut flags = if write { FaultFlags::WRITE } else { FaultFlags::empty() };
        flags |= match reason {
            Reason::Missing => FaultFlags::empty(),
            Reason::Wp => FaultFlags::WP,
            Reason::Minor => FaultFlags::MINOR,
        };
        let tid = self
            .features
            .contains(Features::THREAD_ID)
            .then_some(shims::Tid(u32::from(thread.0) + 1));
        let addr = if self.features.contains(Features::EXACT_ADDRESS) { byte } else { page };
        self.pending.push(Faulter { thread, fault: Fault { addr, flags, tid } });
    }
}
