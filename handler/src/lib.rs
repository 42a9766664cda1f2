//! A page-fault handler as a state machine without I/O.

mod machine;
mod policy;
mod region;
mod source;
pub mod states;
mod tracker;

pub use machine::{
    Action, Completion, Counters, DrainEnd, HandlerError, Machine, Payload, ReadPermit, ReqId,
    Status, StopReason,
};
pub use policy::{Backoff, OnSourceError, Policy, Presence};
pub use region::{Piece, Region, RegionError, RegionMap};
pub use source::{PageSource, SourceError};
pub use states::{DecodeError, PageRecord, PageStates};
pub use tracker::{Content, PageState, Tracker};
