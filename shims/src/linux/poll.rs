//! Waiting on the real kernel: `ppoll` over a userfaultfd, an eventfd and, if there is
//! one, the socket of the client whose memory is served. Owns the driver's clock.

use core::time::Duration;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::time::ClockId;

use super::errno;
use crate::{Errno, Time, Waiter, Wakeup};

/// A [`Waiter`] over real descriptors. `F` is whatever holds the userfaultfd: a
/// reference or an `Arc` will do. Several threads may wait at once; each message and
/// each notification then ends at least one of the waits.
#[derive(Debug)]
pub struct PollWaiter<F> {
    uffd: F,
    bell: OwnedFd,
    peer: Option<OwnedFd>,
    start: Duration,
}

impl<F: AsFd> PollWaiter<F> {
    /// Wait on `uffd`; the clock starts now.
    pub fn new(uffd: F) -> Result<PollWaiter<F>, Errno> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let bell = rustix::event::eventfd(0, flags).map_err(errno)?;
        Ok(PollWaiter { uffd, bell, peer: None, start: monotonic() })
    }

    /// Watch the client's end of a stream socket too. The kernel never tells a
    /// userfaultfd that the process it serves is gone (rule a23); that socket closing is
    /// the notice. What the client may send is left unread.
    pub fn with_peer(self, socket: OwnedFd) -> PollWaiter<F> {
        PollWaiter { peer: Some(socket), ..self }
    }

    /// The descriptor waited on.
    pub fn uffd(&self) -> BorrowedFd<'_> {
        self.uffd.as_fd()
    }

    /// Poll once, for at most `timeout`. `None` stands for a signal.
    fn poll_once(&self, timeout: Option<Duration>) -> Result<Option<Wakeup>, Errno> {
        const BROKEN: PollFlags = PollFlags::ERR.union(PollFlags::HUP).union(PollFlags::NVAL);
        let peer = self.peer.as_ref().unwrap_or(&self.bell);
        let mut fds = [
            PollFd::new(&self.uffd, PollFlags::IN),
            PollFd::new(&self.bell, PollFlags::IN),
            PollFd::new(peer, PollFlags::RDHUP),
        ];
        let count = if self.peer.is_some() { 3 } else { 2 };
        let timeout = timeout.map(|t| Timespec {
            tv_sec: i64::try_from(t.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: t.subsec_nanos().into(),
        });
        match rustix::event::poll(&mut fds[..count], timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(None),
            Err(e) => return Err(errno(e)),
        }
        let mut wakeup = Wakeup::empty();
        let [uffd, bell, peer] = fds.map(|fd| fd.revents());
        wakeup.set(Wakeup::READABLE, uffd.contains(PollFlags::IN));
        wakeup.set(Wakeup::ERROR, uffd.intersects(BROKEN));
        if bell.contains(PollFlags::IN) && self.silence()? {
            wakeup |= Wakeup::NOTIFIED;
        }
        let gone = PollFlags::RDHUP.union(BROKEN);
        wakeup.set(Wakeup::PEER_GONE, count == 3 && peer.intersects(gone));
        Ok(Some(wakeup))
    }

    /// Take back the notifications; `false` if another waiting thread was faster.
    fn silence(&self) -> Result<bool, Errno> {
        loop {
            match rustix::io::read(&self.bell, &mut [0_u8; 8]) {
                Ok(_) => return Ok(true),
                Err(rustix::io::Errno::AGAIN) => return Ok(false),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(errno(e)),
            }
        }
    }
}

impl<F: AsFd> Waiter for PollWaiter<F> {
    fn now(&self) -> Time {
        Time::ZERO.after(monotonic().saturating_sub(self.start))
    }

    fn wait(&self, until: Option<Time>) -> Result<Wakeup, Errno> {
        loop {
            let timeout = until.map(|until| until.since(self.now()));
            let Some(mut wakeup) = self.poll_once(timeout)? else { continue };
            // By the clock and not by poll's count: it may return a moment early.
            wakeup.set(Wakeup::TIMEOUT, until.is_some_and(|until| self.now() >= until));
            if !wakeup.is_empty() {
                return Ok(wakeup);
            }
        }
    }

    fn notify(&self) {
        loop {
            match rustix::io::write(&self.bell, &1_u64.to_ne_bytes()) {
                // `EAGAIN`: the counter is full, so the bell is ringing.
                Ok(_) | Err(rustix::io::Errno::AGAIN) => return,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => unreachable!("an eventfd takes a number: {e}"),
            }
        }
    }
}

fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    // The monotonic clock starts at boot: neither part is negative.
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    /// A waiter on an eventfd, which polls as a userfaultfd does.
    fn waiter() -> PollWaiter<OwnedFd> {
        let fd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        PollWaiter::new(fd).unwrap()
    }

    #[test]
    fn a_notification_before_the_wait_ends_it_once() {
        let waiter = waiter();
        waiter.notify();
        waiter.notify();
        assert_eq!(waiter.wait(None), Ok(Wakeup::NOTIFIED));
        let soon = waiter.now().after(Duration::from_millis(5));
        assert_eq!(waiter.wait(Some(soon)), Ok(Wakeup::TIMEOUT));
        assert!(waiter.now() >= soon);
    }

    #[test]
    fn a_deadline_in_the_past_polls_without_sleeping() {
        let waiter = waiter();
        rustix::io::write(waiter.uffd(), &1_u64.to_ne_bytes()).unwrap();
        let wakeup = waiter.wait(Some(Time::ZERO)).unwrap();
        assert_eq!(wakeup, Wakeup::READABLE | Wakeup::TIMEOUT);
    }

    #[test]
    fn a_peer_that_closes_is_noticed_and_one_that_talks_is_not() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let waiter = waiter().with_peer(ours.into());
        std::io::Write::write_all(&mut &theirs, b"unasked").unwrap();
        let soon = waiter.now().after(Duration::from_millis(5));
        assert_eq!(waiter.wait(Some(soon)), Ok(Wakeup::TIMEOUT));
        drop(theirs);
        assert_eq!(waiter.wait(None), Ok(Wakeup::PEER_GONE));
    }
}
