//! One client: its connection, its handshake, its process. Owns the way from an accepted
//! connection to a checked userfaultfd and regions.

use core::fmt;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::process::{PidfdFlags, Signal};
use shims::linux::{AdoptError, PollWaiter, UserFault, scm};
use shims::{Errno, Features, Waiter, Wakeup};

use super::handshake::{self, ClientRegion, HandshakeError, MAX_BYTES, Parsed};

/// A client whose handshake has been checked.
#[derive(Debug)]
pub struct Client {
    /// The connection; its end is the only notice of the client's.
    pub socket: UnixStream,
    /// The descriptor of its memory.
    pub uffd: UserFault,
    /// Its memory.
    pub regions: Vec<ClientRegion>,
    /// What its userfaultfd reports besides faults.
    pub features: Features,
    /// The process at the other end.
    pub process: Option<Process>,
}

/// A process that cannot be mistaken for another one that gets its number later.
#[derive(Debug)]
pub struct Process {
    fd: OwnedFd,
    /// Its number when it connected.
    pub pid: i32,
}

/// Why a client is turned away.
#[derive(Debug)]
pub enum ClientError {
    /// The handshake is wrong.
    Handshake(HandshakeError),
    /// The descriptor is not one that can be served.
    Descriptor(AdoptError),
    /// `UFFDIO_API` has not been called on the userfaultfd.
    NotInitialised,
    /// The userfaultfd reports events that are not served here.
    Events(Features),
    /// Nothing came for too long; so many bytes had come before.
    Silent(Duration, usize),
    /// The connection broke.
    Socket(Errno),
    /// The server was told to stop meanwhile.
    Stopped,
}

/// Messages that a served userfaultfd may not send: nobody here answers them.
const UNSERVED: Features = Features::EVENT_FORK
    .union(Features::EVENT_REMAP)
    .union(Features::EVENT_UNMAP)
    .union(Features::EXACT_ADDRESS);

impl Client {
    /// Take the handshake of `socket`, for a memory file of `file` bytes, within
    /// `patience`. `stop` tells whether to give up; it is asked every tenth of a second.
    pub fn greet(
        socket: UnixStream,
        file: u64,
        patience: Duration,
        stop: &dyn Fn() -> bool,
    ) -> Result<Client, ClientError> {
        let process = Process::of(&socket);
        let (regions, fd) = receive(&socket, file, patience, stop)?;
        let uffd = UserFault::try_from(fd).map_err(ClientError::Descriptor)?;
        let info = uffd.info().map_err(|e| ClientError::Descriptor(AdoptError::Unknowable(e)))?;
        let features = info.features.ok_or(ClientError::NotInitialised)?;
        let unserved = features & UNSERVED;
        if !unserved.is_empty() {
            return Err(ClientError::Events(unserved));
        }
        Ok(Client { socket, uffd, regions, features, process })
    }
}

/// One message and the one descriptor that came with it.
fn receive(
    socket: &UnixStream,
    file: u64,
    patience: Duration,
    stop: &dyn Fn() -> bool,
) -> Result<(Vec<ClientRegion>, OwnedFd), ClientError> {
    let waiter = PollWaiter::new(socket).map_err(ClientError::Socket)?;
    let deadline = waiter.now().after(patience);
    let (mut message, mut fds) = (Vec::new(), Vec::new());
    let regions = loop {
        let tick = waiter.now().after(Duration::from_millis(100)).min(deadline);
        let wakeup = waiter.wait(Some(tick)).map_err(ClientError::Socket)?;
        if stop() {
            return Err(ClientError::Stopped);
        }
        if waiter.now() >= deadline {
            return Err(ClientError::Silent(patience, message.len()));
        }
        if !wakeup.intersects(Wakeup::READABLE | Wakeup::ERROR) {
            continue;
        }
        let before = message.len();
        let received = scm::receive(socket, MAX_BYTES + 1 - before, &mut message, &mut fds)
            .map_err(ClientError::Socket)?;
        if received.fds_lost {
            // More than fit: certainly more than one.
            return Err(HandshakeError::Descriptors(fds.len() + 1).into());
        }
        if received.bytes == 0 {
            return Err(HandshakeError::Truncated(message.len()).into());
        }
        if message.len() > MAX_BYTES {
            return Err(HandshakeError::TooLong.into());
        }
        // Only what may be whole is parsed: a long message comes in many pieces, and each
        // parse looks at all of it.
        let piece = &message[before..];
        if (handshake::may_end(piece) || before == 0)
            && let Parsed::Regions(regions) = handshake::parse(&message, file)?
        {
            break regions;
        }
    };
    match <[OwnedFd; 1]>::try_from(fds) {
        Ok([fd]) => Ok((regions, fd)),
        Err(fds) => Err(HandshakeError::Descriptors(fds.len()).into()),
    }
}

impl Process {
    /// The process that connected `socket`, if it can be told and still lives.
    fn of(socket: &UnixStream) -> Option<Process> {
        let pid = rustix::net::sockopt::socket_peercred(socket).ok()?.pid;
        let fd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
        Some(Process { fd, pid: pid.as_raw_pid() })
    }

    /// Kill it.
    pub fn kill(&self) -> Result<(), Errno> {
        rustix::process::pidfd_send_signal(&self.fd, Signal::KILL)
            .map_err(|e| Errno::from_raw(e.raw_os_error()).unwrap_or(Errno::EIO))
    }
}

impl From<HandshakeError> for ClientError {
    fn from(e: HandshakeError) -> ClientError {
        ClientError::Handshake(e)
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Handshake(e) => write!(f, "{e}"),
            ClientError::Descriptor(e) => write!(f, "{e}"),
            ClientError::NotInitialised => {
                f.write_str("the userfaultfd has not been through UFFDIO_API")
            }
            ClientError::Events(features) => {
                let names: Vec<_> = features.iter_names().map(|(name, _)| name).collect();
                write!(
                    f,
                    "the userfaultfd was opened with {}, which this server does not serve",
                    names.join(" and ")
                )
            }
            ClientError::Silent(patience, 0) => {
                write!(f, "no handshake came within {patience:?}")
            }
            ClientError::Silent(patience, bytes) => write!(
                f,
                "the handshake was not whole within {patience:?}: it stopped after {bytes} bytes"
            ),
            ClientError::Socket(e) => write!(f, "the connection broke: {e}"),
            ClientError::Stopped => f.write_str("the server was told to stop"),
        }
    }
}

impl core::error::Error for ClientError {}

/// Wait until the other end of `socket` is gone, or until `stop`, which is asked every
/// tenth of a second.
pub fn wait_for_end(socket: &UnixStream, stop: &dyn Fn() -> bool) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let tick = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    while !stop() {
        let mut fds = [PollFd::new(socket, PollFlags::RDHUP)];
        match poll(&mut fds, Some(&tick)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) | Err(_) => return,
        }
    }
}
