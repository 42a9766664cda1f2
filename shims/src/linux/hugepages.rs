//! The pool of 2 MiB pages. Owns a reservation that is given back when dropped, for
//! tests and experiments; a service reserves its pages when the machine boots.

use std::fs::File;
use std::io::{Read, Seek, Write};

use rustix::fs::FlockOperation;

use super::{errno, io_errno, probe};
use crate::Errno;

const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

/// Pages added to the pool, taken out again when dropped.
#[derive(Debug)]
pub struct Reservation {
    pages: u64,
}

impl Reservation {
    /// Add `pages` pages to the pool. `ENOMEM` if the kernel finds no room for all of
    /// them, `EACCES` without the right to change the pool.
    pub fn new(pages: u64) -> Result<Reservation, Errno> {
        let (before, after) = change(|size| size + pages)?;
        let reservation = Reservation { pages: after.saturating_sub(before) };
        if reservation.pages < pages { Err(Errno::ENOMEM) } else { Ok(reservation) }
    }

    /// As [`new`](Reservation::new), for a test that is skipped by name where the pool
    /// cannot grow.
    ///
    /// # Panics
    ///
    /// As [`Capability::gate`](super::Capability::gate) does.
    pub fn gate(test: &str, pages: u64) -> Option<Reservation> {
        match Reservation::new(pages) {
            Ok(reservation) => Some(reservation),
            Err(e) => {
                let reason = format!("{pages} huge pages cannot be reserved through {POOL}: {e}");
                probe::skip(test, &reason);
                None
            }
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // A pool that cannot be shrunk is left larger than it was: nothing breaks.
        let _ = change(|size| size.saturating_sub(self.pages));
    }
}

/// Change the size of the pool; returns what it was and what it became. The lock keeps
/// two processes of this crate from losing one another's change.
fn change(resize: impl FnOnce(u64) -> u64) -> Result<(u64, u64), Errno> {
    let mut file = File::options().read(true).write(true).open(POOL).map_err(|e| io_errno(&e))?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive).map_err(errno)?;
    let before = size(&mut file)?;
    file.write_all(resize(before).to_string().as_bytes()).map_err(|e| io_errno(&e))?;
    Ok((before, size(&mut file)?))
}

fn size(file: &mut File) -> Result<u64, Errno> {
    let mut text = String::new();
    file.rewind().map_err(|e| io_errno(&e))?;
    file.read_to_string(&mut text).map_err(|e| io_errno(&e))?;
    file.rewind().map_err(|e| io_errno(&e))?;
    text.trim().parse().map_err(|_| Errno::EIO)
}
