//! The pool of 2 MiB pages. Owns a reservation that is given back when dropped, or when the
//! process ends in any other way; for tests and experiments. A service reserves its pages when
//! the machine boots.

use core::fmt;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;

use rustix::fs::FlockOperation;

use super::keeper::{Keeper, Will};
use super::{errno, io_errno, probe};
use crate::Errno;

const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

/// Pages added to the pool, taken out again when dropped. A shell beside this process takes them
/// out if it ends in another way, `SIGKILL` included.
#[derive(Debug)]
pub struct Reservation {
    pages: u64,
    keeper: Option<Keeper>,
}

impl Reservation {
    /// Add `pages` pages to the pool. `ENOMEM` if the kernel finds no room for all of
    /// them, `EACCES` without the right to change the pool.
    pub fn new(pages: u64) -> Result<Reservation, Errno> {
        // Who may not change the pool needs no keeper.
        drop(open()?);
        let mut reservation = Reservation { pages: 0, keeper: Keeper::of(Path::new(POOL)) };
        let mut pool = lock()?;
        let before = size(&mut pool)?;
        // Nobody else changes the pool now, so what is above `before` is this reservation's.
        reservation.leave(pages, before)?;
        resize(&mut pool, before + pages)?;
        reservation.pages = size(&mut pool)?.saturating_sub(before);
        reservation.leave(reservation.pages, 0)?;
        drop(pool);
        if reservation.pages < pages { Err(Errno::ENOMEM) } else { Ok(reservation) }
    }

    /// Make sure that `pages` free pages are in the pool: by a reservation, or, for who may not
    /// change it, by what is there already, which nobody keeps for him.
    pub fn ensure(pages: u64) -> Result<Option<Reservation>, Shortage> {
        match Reservation::new(pages) {
            Ok(reservation) => Ok(Some(reservation)),
            Err(Errno::EACCES | Errno::EPERM) if free() >= pages => Ok(None),
            Err(errno) => Err(Shortage { pages, errno }),
        }
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
                probe::skip(test, &Shortage { pages, errno: e });
                None
            }
        }
    }

    /// If this process ends now, `pages` pages are to go, but the pool is to keep `floor`.
    fn leave(&mut self, pages: u64, floor: u64) -> Result<(), Errno> {
        self.keeper.as_mut().map_or(Ok(()), |keeper| keeper.will(Will { pages, floor }))
    }

    fn give_back(&mut self) -> Result<(), Errno> {
        let mut pool = lock()?;
        let left = size(&mut pool)?.saturating_sub(self.pages);
        // Pages go back, whether or not somebody has killed the keeper.
        let _ = self.leave(self.pages, left);
        resize(&mut pool, left)?;
        self.leave(0, 0)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // A pool that cannot be shrunk is left larger than it was: nothing breaks.
        let _ = self.give_back();
    }
}

/// Huge pages that are not to be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shortage {
    /// How many were asked for.
    pub pages: u64,
    /// Why the pool does not grow.
    pub errno: Errno,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shortage { pages, errno } = self;
        write!(f, "{pages} huge pages cannot be reserved through {POOL}: {errno}")?;
        match *errno {
            Errno::EACCES | Errno::EPERM => {
                write!(f, "; run as root, or have `sysctl vm.nr_hugepages={pages}` set")
            }
            _ => Ok(()),
        }
    }
}

impl core::error::Error for Shortage {}

/// Pages of the pool that nobody uses and nobody was promised.
fn free() -> u64 {
    let number = |name: &str| -> Option<u64> {
        let folder = Path::new(POOL).parent()?;
        std::fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok()
    };
    let (free, promised) = (number("free_hugepages"), number("resv_hugepages"));
    free.unwrap_or(0).saturating_sub(promised.unwrap_or(0))
}

fn open() -> Result<File, Errno> {
    File::options().read(true).write(true).open(POOL).map_err(|e| io_errno(&e))
}

/// The file of the pool. Its lock keeps two processes of this crate from losing one another's
/// change.
fn lock() -> Result<File, Errno> {
    let file = open()?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive).map_err(errno)?;
    Ok(file)
}

fn resize(file: &mut File, pages: u64) -> Result<(), Errno> {
    file.rewind().map_err(|e| io_errno(&e))?;
    file.write_all(pages.to_string().as_bytes()).map_err(|e| io_errno(&e))
}

fn size(file: &mut File) -> Result<u64, Errno> {
    let mut text = String::new();
    file.rewind().map_err(|e| io_errno(&e))?;
    file.read_to_string(&mut text).map_err(|e| io_errno(&e))?;
    text.trim().parse().map_err(|_| Errno::EIO)
}
