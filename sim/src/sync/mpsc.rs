//! Channels with many senders and one receiver: `std::sync::mpsc`.

use core::fmt;
use core::time::Duration;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

pub use std::sync::mpsc::{RecvError, RecvTimeoutError, SendError, TryRecvError};

use super::{Name, after};
use crate::coop::{self, ChannelId, Op, Reply};

/// What lies in a channel. The search decides who looks, so the lock is always free.
type Items<T> = Arc<Mutex<VecDeque<T>>>;

/// The sending end.
pub struct Sender<T> {
    id: ChannelId,
    items: Items<T>,
}

/// The sending end of a channel with a limit: it waits while the channel is full.
pub struct SyncSender<T>(Sender<T>);

/// The receiving end.
pub struct Receiver<T> {
    id: ChannelId,
    items: Items<T>,
}

/// A channel without a limit.
#[track_caller]
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    ends(None)
}

/// A channel of at most `limit` messages.
///
/// # Panics
///
/// If `limit` is zero: a channel that hands over from thread to thread is not simulated.
#[track_caller]
pub fn sync_channel<T>(limit: usize) -> (SyncSender<T>, Receiver<T>) {
    assert!(limit > 0, "a channel without room is not simulated");
    let (sender, receiver) = ends(Some(limit));
    (SyncSender(sender), receiver)
}

#[track_caller]
fn ends<T>(limit: Option<usize>) -> (Sender<T>, Receiver<T>) {
    let name = Name::here();
    let id = coop::with(|run| run.add_channel(name, limit));
    let id = id.expect("channels of a search are made inside a search only");
    let items = Items::default();
    (Sender { id, items: Arc::clone(&items) }, Receiver { id, items })
}

impl<T> Sender<T> {
    /// Send, or give the message back if nobody can receive it any more.
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        match coop::point(Op::Send { channel: self.id }) {
            Reply::Is(true) => {
                self.items.lock().unwrap_or_else(PoisonError::into_inner).push_back(message);
                Ok(())
            }
            _ => Err(SendError(message)),
        }
    }
}

impl<T> SyncSender<T> {
    /// Wait for room and send.
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        self.0.send(message)
    }
}

impl<T> Receiver<T> {
    /// Wait for a message; an error if there is none and never will be.
    pub fn recv(&self) -> Result<T, RecvError> {
        coop::point(Op::Recv { channel: self.id, until: None });
        self.take().ok_or(RecvError)
    }

    /// The same, for `limit` at most.
    pub fn recv_timeout(&self, limit: Duration) -> Result<T, RecvTimeoutError> {
        coop::point(Op::Recv { channel: self.id, until: Some(after(limit)) });
        self.take().ok_or(match self.senders() {
            true => RecvTimeoutError::Timeout,
            false => RecvTimeoutError::Disconnected,
        })
    }

    /// A message if there is one.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        coop::point(Op::TryRecv { channel: self.id });
        self.take().ok_or(match self.senders() {
            true => TryRecvError::Empty,
            false => TryRecvError::Disconnected,
        })
    }

    /// Messages until there are none and never will be.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        std::iter::from_fn(|| self.recv().ok())
    }

    fn take(&self) -> Option<T> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn senders(&self) -> bool {
        coop::with(|run| run.has_senders(self.id)).unwrap_or(false)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        coop::with(|run| run.add_sender(self.id));
        Sender { id: self.id, items: Arc::clone(&self.items) }
    }
}

impl<T> Clone for SyncSender<T> {
    fn clone(&self) -> SyncSender<T> {
        SyncSender(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        coop::with(|run| run.drop_sender(self.id));
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        coop::with(|run| run.drop_receiver(self.id));
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for SyncSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncSender").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}
