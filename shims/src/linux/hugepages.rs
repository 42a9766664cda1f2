//! The pool of 2 MiB pages. Owns a reservation that is given back when dropped, or when the
//! process ends in any other way; for tests and experiments. A service reserves its pages when
//! the machine boots.

use core::fmt;
use std::fs::File;
use std::path::Path;

use super::keeper::Keeper;
use super::{io_errno, probe};
use crate::Errno;

const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

/// Pages added to the pool, taken out again when dropped. A shell beside this process takes them
/// out if it ends in another way, `SIGKILL` included.
#[derive(Debug)]
pub struct Reservation {
    _keeper: Keeper,
}

impl Reservation {
    /// Add `pages` pages to the pool. `ENOMEM` if the kernel finds no room for all of
    /// them, `EACCES` without the right to change the pool.
    pub fn new(pages: u64) -> Result<Reservation, Errno> {
        // Who may not change the pool is told so, and needs no keeper.
        let _may = File::options().write(true).open(POOL).map_err(|e| io_errno(&e))?;
        let keeper = Keeper::take(Path::new(POOL), pages)?;
        if keeper.taken() < pages {
            Err(Errno::ENOMEM)
        } else {
            Ok(Reservation { _keeper: keeper })
        }
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
