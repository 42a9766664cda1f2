//! Reading messages. Owns the decoding of the kernel's 32 bytes into an [`Event`], the
//! only place where they are looked at.

use std::os::fd::{FromRawFd, OwnedFd};

use super::abi::{self, MSG_ARG, MSG_LEN};
use super::errno;
use super::fd::UserFault;
use crate::{Addr, Errno, Event, Fault, FaultFlags, Len, Span, Tid};

/// Messages in one `read(2)`: 4 KiB of stack.
const BATCH: usize = 128;

impl UserFault {
    /// One `read(2)` of up to `max` messages, at most 128, appended to `out`.
    pub(super) fn read_messages(&self, out: &mut Vec<Event>, max: usize) -> Result<usize, Errno> {
        // Messages are consumed before they are copied here (rule a15), so the buffer has
        // to be writable: it is on the stack.
        let mut buffer = [[0_u8; MSG_LEN]; BATCH];
        let wanted = max.min(BATCH) * MSG_LEN;
        let filled = loop {
            match rustix::io::read(self, &mut buffer.as_flattened_mut()[..wanted]) {
                Ok(filled) => break filled,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(errno(e)),
            }
        };
        if filled % MSG_LEN != 0 {
            // No userfaultfd does that (rule a10).
            return Err(Errno::EIO);
        }
        let count = filled / MSG_LEN;
        for message in &buffer[..count] {
            let event = decode(message);
            if let Event::Fork { fd } = event {
                // SAFETY: reading the message put this descriptor into our table, and
                // nobody else has been told of it yet.
                self.keep_fork(unsafe { OwnedFd::from_raw_fd(fd) });
            }
            out.push(event);
        }
        Ok(count)
    }
}

/// What a message says.
fn decode(message: &[u8; MSG_LEN]) -> Event {
    let (args, _) = message[MSG_ARG..].as_chunks::<8>();
    let arg = |index: usize| u64::from_ne_bytes(args[index]);
    // The thread and the descriptor are the first four bytes of their eight; on a
    // little-endian machine, the only kind this is built for, they are its low half.
    let low = |index: usize| arg(index) as u32;
    let span = || {
        // The kernel reports start and end; an end below the start would be its bug, and
        // an empty span the reading that does no harm.
        let (start, end) = (Addr::new(arg(0)), Addr::new(arg(1)));
        Span::between(start, end).unwrap_or(Span::new(start, Len::ZERO))
    };
    match message[0] {
        abi::event::PAGEFAULT => Event::Fault(Fault {
            addr: Addr::new(arg(1)),
            flags: FaultFlags::from_bits_retain(arg(0)),
            // Zero without THREAD_ID, and for a thread our namespace cannot see.
            tid: Some(low(2)).filter(|tid| *tid != 0).map(Tid),
        }),
        abi::event::FORK => Event::Fork { fd: low(0) as i32 },
        abi::event::REMAP => {
            Event::Remap { from: Addr::new(arg(0)), to: Addr::new(arg(1)), len: arg(2) }
        }
        abi::event::REMOVE => Event::Remove(span()),
        abi::event::UNMAP => Event::Unmap(span()),
        other => Event::Unknown(other),
    }
}

#[cfg(target_endian = "big")]
compile_error!("the messages of a userfaultfd are decoded for little-endian machines only");

#[cfg(test)]
mod tests {
    use super::*;

    fn message(event: u8, args: [u64; 3]) -> [u8; MSG_LEN] {
        let mut bytes = [0; MSG_LEN];
        bytes[0] = event;
        for (i, arg) in args.iter().enumerate() {
            bytes[MSG_ARG + 8 * i..][..8].copy_from_slice(&arg.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn each_message_is_decoded_field_by_field() {
        let fault = decode(&message(0x12, [3, 0x7000, 42]));
        assert_eq!(
            fault,
            Event::Fault(Fault {
                addr: Addr::new(0x7000),
                flags: FaultFlags::WRITE | FaultFlags::WP,
                tid: Some(Tid(42)),
            })
        );
        assert_eq!(decode(&message(0x13, [9, 0, 0])), Event::Fork { fd: 9 });
        assert_eq!(
            decode(&message(0x14, [0x1000, 0x9000, 0x2000])),
            Event::Remap { from: Addr::new(0x1000), to: Addr::new(0x9000), len: 0x2000 }
        );
        let span = Span::new(Addr::new(0x1000), Len::new(0x3000));
        assert_eq!(decode(&message(0x15, [0x1000, 0x4000, 0])), Event::Remove(span));
        assert_eq!(decode(&message(0x16, [0x1000, 0x4000, 0])), Event::Unmap(span));
        assert_eq!(decode(&message(0x7f, [0; 3])), Event::Unknown(0x7f));
    }

    #[test]
    fn a_fault_without_a_thread_has_none() {
        let Event::Fault(fault) = decode(&message(0x12, [0, 0x7000, 0])) else { panic!() };
        assert_eq!(fault.tid, None);
    }
}
