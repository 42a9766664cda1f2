//! The kernel's page table as `/proc/self/pagemap` shows it. Owns the format of an
//! entry.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::io_errno;
use crate::{Addr, Errno};

/// One entry of the page table.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PageEntry(u64);

impl PageEntry {
    /// A page is mapped.
    pub const fn is_present(self) -> bool {
        self.0 >> 63 & 1 == 1
    }

    /// The page is swapped out; markers of userfaultfd show so too.
    pub const fn is_swapped(self) -> bool {
        self.0 >> 62 & 1 == 1
    }

    /// The page is of a file, or shared anonymous memory.
    pub const fn is_file(self) -> bool {
        self.0 >> 61 & 1 == 1
    }

    /// The page is write-protected by a userfaultfd (rule b9).
    pub const fn is_uffd_wp(self) -> bool {
        self.0 >> 57 & 1 == 1
    }
}

impl core::fmt::Debug for PageEntry {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PageEntry")
            .field("present", &self.is_present())
            .field("swapped", &self.is_swapped())
            .field("file", &self.is_file())
            .field("uffd_wp", &self.is_uffd_wp())
            .finish()
    }
}

/// The entries of `count` 4 KiB pages from the one that holds `addr`; eight bytes each.
pub(super) fn entries(pagemap: &File, addr: Addr, count: usize) -> Result<Vec<PageEntry>, Errno> {
    let mut bytes = vec![0; 8 * count];
    pagemap.read_exact_at(&mut bytes, (addr.raw() >> 12) * 8).map_err(|e| io_errno(&e))?;
    let (entries, _) = bytes.as_chunks::<8>();
    Ok(entries.iter().map(|entry| PageEntry(u64::from_ne_bytes(*entry))).collect())
}
