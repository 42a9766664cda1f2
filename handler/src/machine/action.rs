//! What goes in and out of the machine: permits, actions, completions.

use core::hash::{Hash, Hasher};

use shims::{Addr, Errno, PageNo, Request};

/// Names a request between the call that hands it out and the call that ends it.
///
/// Two ids of different requests are never equal, even if one request took the other's
/// place. Only the place is hashed, so that two worlds that differ in nothing but how
/// many requests they have seen have the same hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ReqId {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

/// May the reader read?
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[must_use]
pub enum ReadPermit {
    /// Yes: read until `EAGAIN`, then call `end_read`.
    Granted,
    /// Not yet. Ask again after the next completion, or after reading was resumed.
    Wait,
    /// Never again.
    Stopped,
}

/// Why a reader stopped reading.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DrainEnd {
    /// `EAGAIN`: nothing is queued.
    Drained,
    /// The batch is as large as the policy allows; more may be queued.
    BatchFull,
    /// The read returned 0 bytes.
    Eof,
    /// The read failed.
    Error(Errno),
}

/// Which bytes travel with an ioctl.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Payload {
    /// None: the ioctl is not a `Copy`.
    None,
    /// The bytes fetched for the request. Should the range start inside the page, they
    /// start at the same place.
    Fetched,
    /// Zeros, as many as the range is long.
    Zeros,
}

/// Something to do. The machine hands out each action once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Action {
    /// Fetch the bytes of `page` from the source, then call `fetched`.
    Fetch {
        /// For this request.
        req: ReqId,
        /// The page of the image.
        page: PageNo,
        /// Where it is mapped.
        addr: Addr,
    },
    /// Perform `request`, then call `completed`.
    Ioctl {
        /// For this request.
        req: ReqId,
        /// The ioctl.
        request: Request,
        /// Its bytes.
        payload: Payload,
    },
}

/// What becomes of the bytes fetched for a request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Completion {
    /// No ioctl will use them any more.
    Done,
    /// An ioctl may still use them: keep them, if there are any.
    Kept,
}

impl ReqId {
    /// The place of the request among those that live at the same time: small, and used
    /// again after the request has ended. Drivers may index their buffers by it.
    pub const fn slot(self) -> usize {
        self.slot as usize
    }
}

impl Hash for ReqId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.slot.hash(state);
    }
}

impl Action {
    /// The request it belongs to.
    pub const fn req(&self) -> ReqId {
        match *self {
            Action::Fetch { req, .. } | Action::Ioctl { req, .. } => req,
        }
    }
}
