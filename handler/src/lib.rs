//! A page-fault handler as a state machine without I/O, and the drivers that run it.
//!
//! [`Machine`] is the handler: messages of a userfaultfd and answers to ioctls go in,
//! actions come out. It reads no descriptor, no clock and no file, has no thread and no
//! lock, and is a value: cloned, compared and hashed. The same machine is searched in a
//! simulated kernel and serves real memory, through one of the drivers ([`Driver`]).
//!
//! This version serves `MISSING`, `WP` and `MINOR` faults and all five events, one page at a
//! time.
//!
//! ```
//! use faultbed_handler::{Action, DrainEnd, Machine, Payload, Policy, ReadPermit, RegionMap};
//! use shims::{Addr, Event, Fault, FaultFlags, Len, Outcome, PageRange, PageSize, Time};
//!
//! let range = PageRange::new(Addr::new(0x10000), Len::new(0x4000), PageSize::KIB4)?;
//! let mut machine = Machine::new(Policy::default(), RegionMap::single(range));
//! let now = Time::ZERO;
//!
//! // A thread reads the second page.
//! let fault = Fault { addr: Addr::new(0x11000), flags: FaultFlags::empty(), tid: None };
//! assert_eq!(machine.begin_read(), ReadPermit::Granted);
//! machine.end_read(now, &[Event::Fault(fault)], DrainEnd::Drained);
//!
//! // Its bytes are needed, then an install, and nothing is left.
//! let Some(Action::Fetch { req, page, .. }) = machine.next(now) else { panic!() };
//! assert_eq!(page.index(), 1);
//! machine.fetched(req, Ok(()), now);
//! let Some(Action::Ioctl { req, request, payload }) = machine.next(now) else { panic!() };
//! assert_eq!(request.to_string(), "copy 0x11000..0x12000");
//! assert_eq!(payload, Payload::Fetched);
//! machine.completed(req, Outcome::done(4096), now);
//! assert!(machine.settled());
//! # Ok::<(), shims::RangeError>(())
//! ```
//!
//! # Invariants
//!
//! Why the machine is right, in sixteen points. Rule ids are those of `docs/kernel/`.
//!
//! 1. **The kernel owns presence, the tracker owns provenance.** Every `MISSING` fault is
//!    answered by an attempt to install, whatever the tracker says; `EEXIST` says that the
//!    page is there, and is followed by a `WAKE` of that page, because `EEXIST` itself
//!    wakes nobody (e5). The tracker decides *what* is installed: zeros if the page was
//!    ever given up, the bytes of the source otherwise. Were the tracker asked whether a
//!    page is there, an install that a zap wiped (d8) would leave the next fault without
//!    an answer for ever.
//! 2. **Drain, then events first.** A batch is what was read until `EAGAIN`. The kernel
//!    hands out faults before events (a11), so a fault may stand before the `REMOVE` that
//!    came first; all `REMOVE`s of a batch are applied before any fault of it. Faults that
//!    were put off come before new ones. Whatever else a batch holds, or ends with, the
//!    faults that were consumed with it are served, or their threads woken, before the
//!    machine reports its end: the kernel does not hand them out again (a13).
//! 3. **The gate.** Reading a `REMOVE` lets the remover go on (d2), so source bytes must
//!    not land after a read that may bring one. No source install is handed out while a
//!    read is in progress, and no read is permitted while a source install is out. Neither
//!    waits for long: an install waits for the kernel alone, because its bytes were fetched
//!    before; and a reader that waits goes before installs that have not been handed out.
//!    Fetching happens outside the gate. What is installed is looked up when the install
//!    is handed out, so what was fetched for a page given up meanwhile is dropped. Zeros
//!    need no gate: they are right for a removed page for ever. Poison does need it.
//! 4. **Joining.** A fault joins a request for its page that has not been issued. One that
//!    is read later does not: the page may have been installed, zapped and touched again
//!    since. The page is tried once more for it.
//! 5. **Unconfirmed installs.** A zap follows the reading of its `REMOVE` after a time that
//!    nothing tells (d4, d7), so an install of a page that was ever given up may be wiped
//!    unnoticed. Its state is unconfirmed. Nothing depends on it (1) but a snapshot, which
//!    asks the kernel: a zero install that wakes nobody finds the page there (`EEXIST`) or
//!    makes it the zero page it would have become; a `WAKE` follows. An install that ends
//!    while a read is in progress is unconfirmed too: the read may hold a `REMOVE` that
//!    came before it.
//! 6. **`EAGAIN`** means that the address space is changing, and reading is what ends it
//!    (d5). The fault is put off, by page, with a deadline; reading goes on meanwhile, and
//!    a read that brought a `REMOVE` ends the wait early. Fetched bytes are kept.
//! 7. **Other errors.** `ENOENT`: the page left the registration; its thread is woken to
//!    meet its fate. `ESRCH`: the process is gone; the machine stops. `ENOMEM` is tried
//!    again with growing delays. Anything else fails the machine, with an error that names
//!    the page, the ioctl and the answer. A page done in part is continued.
//! 8. **Sources fail.** A fetch is tried again with growing delays, then the page is
//!    poisoned or the machine fails, as the policy says. Half a page is an error and never
//!    a page.
//! 9. **Conservation.** Each fault that was read ends in exactly one of six outcomes, and
//!    [`Counters`] counts it there.
//! 10. **A machine that is over asks for nothing more.** It never closes the descriptor:
//!     closing one under a waiting thread gives that thread a zero page (a20, a21).
//! 11. **Tracked writes.** What is installed for a read is protected by the ioctl that
//!     installs it: between an install and a protection a write is seen by nobody. A page is
//!     dirty once it was installed for a write or un-protected for one. Un-protecting needs no
//!     gate: on a page that is gone it does nothing (f1), and what was given up stays so.
//! 12. **Baselines.** Protect, save the bytes, call the pages clean, read on: in this order.
//!     Only pages that this baseline has protected become clean, and only if it is certain that
//!     they are there.
//! 13. **Pages keep their numbers.** `UNMAP` takes regions away, `REMAP` moves them; what is
//!     known of a page goes with its number. Events are applied in their order, then the
//!     faults of the batch, by the new regions: an access is repeated against what is mapped
//!     now. A fault that was read before such a change and is in no region after it is woken
//!     to meet its fate, and so is whoever waited in the part that left. What is out is let
//!     come to its end. A fault in an unmapped part that was read *after* the `UNMAP`, with
//!     nothing changing (14), shows that the call has failed (d16).
//! 14. **Strays.** A fault in no region may be of memory that has just moved, the message
//!     being still to come. The address space is changing then, and the kernel says so when
//!     asked (e1): the fault waits for the message. If it is quiet, nobody will explain the
//!     fault, and the policy decides. The question goes through the gate (3), and so does
//!     every install and un-protection where memory can move: by the time it lands another
//!     page may be at its address.
//! 15. **Children.** A child is served by a machine of its own: faults, installs and events
//!     are per process. It begins with what was known of its parent's pages when the message
//!     was read. That is certain for source bytes, because no source install is out then (3);
//!     pages that were ever given up are unconfirmed, because their zap may have come before
//!     the copy or after it; a page that was being un-protected is dirty.
//! 16. **Shared objects.** A page that the page cache has is mapped as it is (`CONTINUE`); one
//!     that has left it meanwhile (`EFAULT`) is missing, and is filled. A `REMOVE` of a page
//!     that was filled may leave it as it is (`MADV_DONTNEED`) or make it zeros (`MADV_REMOVE`):
//!     the next fault tells, because only a page that has left the cache is missing. A page
//!     that was never filled is zeros then: memory is not given up for nothing.

pub mod drive;
mod machine;
mod policy;
mod region;
mod source;
pub mod states;
mod tracker;

pub use drive::{Control, Driver, Report};
pub use machine::{
    Action, Completion, Counters, DrainEnd, HandlerError, Machine, Newborn, Payload, ReadPermit,
    ReqId, Status, StopReason,
};
pub use policy::{Backoff, Freshness, OnSourceError, Outside, Policy, Presence, Slip, Writes};
pub use region::{Backing, Piece, Region, RegionError, RegionMap};
#[cfg(unix)]
pub use source::{ImageError, ImageFile};
pub use source::{PageSource, SliceSource, SourceError, ZeroSource};
pub use states::{DecodeError, PageRecord, PageStates};
pub use tracker::{Content, PageState, Tracker};
