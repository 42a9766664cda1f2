//! Where threads and locks come from: the one place that differs between a search and the rest.

#[cfg(not(test))]
pub(crate) use std::sync::{Arc, Mutex, mpsc};
#[cfg(not(test))]
pub(crate) use std::thread;

#[cfg(test)]
pub(crate) use sim::sync::{Arc, Mutex, mpsc, thread};
