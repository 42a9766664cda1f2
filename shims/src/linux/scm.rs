//! Descriptors over a Unix socket. Owns one `sendmsg` and one `recvmsg` with
//! `SCM_RIGHTS`; owns no message format.

use core::mem::MaybeUninit;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

use super::errno;
use crate::Errno;

/// The kernel passes no more descriptors than this in one message.
pub const MAX_FDS: usize = 253;

/// Bytes taken by one [`receive`] at most.
const CHUNK: usize = 64 << 10;

/// What one [`receive`] brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Received {
    /// Bytes appended; 0 is the end of a stream.
    pub bytes: usize,
    /// Descriptors were lost on the way: they were more than [`MAX_FDS`], or this process
    /// may not open that many.
    pub fds_lost: bool,
}

/// Receive once: append at most `limit` bytes to `bytes` and any descriptors that came
/// with them to `fds`, close-on-exec from their first moment. A stream may deliver a
/// message in several pieces; its descriptors come with the first.
pub fn receive(
    socket: impl AsFd,
    limit: usize,
    bytes: &mut Vec<u8>,
    fds: &mut Vec<OwnedFd>,
) -> Result<Received, Errno> {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let before = bytes.len();
    bytes.resize(before + limit.min(CHUNK), 0);
    let answer = loop {
        let mut data = [IoSliceMut::new(&mut bytes[before..])];
        let flags = RecvFlags::CMSG_CLOEXEC;
        match rustix::net::recvmsg(&socket, &mut data, &mut control, flags) {
            Err(rustix::io::Errno::INTR) => {}
            answer => break answer,
        }
    };
    let filled = answer.as_ref().map_or(0, |message| message.bytes);
    bytes.truncate(before + filled);
    let message = answer.map_err(errno)?;
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(sent) = part {
            fds.extend(sent);
        }
    }
    Ok(Received { bytes: filled, fds_lost: message.flags.contains(ReturnFlags::CTRUNC) })
}

/// Send all of `bytes` over a blocking stream, `fds` with the first of them.
///
/// # Panics
///
/// If `bytes` is empty, since descriptors only travel with data, or if there are more
/// than [`MAX_FDS`] descriptors.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    assert!(!bytes.is_empty(), "descriptors travel with at least one byte");
    assert!(fds.len() <= MAX_FDS, "{} descriptors are too many for one message", fds.len());
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let (mut rest, mut fds) = (bytes, fds);
    while !rest.is_empty() {
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            let fits = control.push(SendAncillaryMessage::ScmRights(fds));
            assert!(fits, "the buffer holds MAX_FDS descriptors");
        }
        let data = [IoSlice::new(rest)];
        match rustix::net::sendmsg(&socket, &data, &mut control, SendFlags::NOSIGNAL) {
            Ok(sent) => {
                rest = &rest[sent..];
                fds = &[];
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(errno(e)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn descriptors_arrive_close_on_exec_and_bytes_in_any_number_of_pieces() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let text = vec![b'x'; 300_000];
        let sender = std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let answer = send(&ours, &text, &[ours.as_fd(), ours.as_fd()]);
                ours.shutdown(std::net::Shutdown::Write).unwrap();
                answer
            });
            let (mut bytes, mut fds) = (Vec::new(), Vec::new());
            loop {
                let got = receive(&theirs, usize::MAX, &mut bytes, &mut fds).unwrap();
                assert!(!got.fds_lost);
                if got.bytes == 0 {
                    break;
                }
            }
            assert_eq!(bytes, text);
            assert_eq!(fds.len(), 2);
            for fd in &fds {
                let flags = rustix::io::fcntl_getfd(fd).unwrap();
                assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
            }
            sender.join().unwrap()
        });
        assert_eq!(sender, Ok(()));
    }

    #[test]
    fn a_limit_is_kept_and_the_rest_stays_in_the_stream() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        send(&ours, b"abcdef", &[]).unwrap();
        let (mut bytes, mut fds) = (Vec::new(), Vec::new());
        receive(&theirs, 4, &mut bytes, &mut fds).unwrap();
        assert_eq!(bytes, b"abcd");
        receive(&theirs, 4, &mut bytes, &mut fds).unwrap();
        assert_eq!(bytes, b"abcdef");
    }
}
