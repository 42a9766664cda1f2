//! A page-fault handler as a state machine without I/O.

pub mod drive;
mod machine;
mod policy;
mod region;
mod source;
pub mod states;
mod tracker;

pub use drive::{Control, Driver, Report};
pub use machine::{
    Action, Completion, Counters, DrainEnd, HandlerError, Machine, Payload, ReadPermit, ReqId,
    Status, StopReason,
};
pub use policy::{Backoff, OnSourceError, Policy, Presence};
pub use region::{Piece, Region, RegionError, RegionMap};
#[cfg(unix)]
pub use source::{ImageError, ImageFile};
pub use source::{PageSource, SliceSource, SourceError, ZeroSource};
pub use states::{DecodeError, PageRecord, PageStates};
pub use tracker::{Content, PageState, Tracker};
