//! Where the bytes of never-touched pages come from. Owns the trait, its errors and the
//! sources that come with the crate; caching and remote sources are a user's.

#[cfg(unix)]
mod image;
mod memory;

use core::fmt;

use shims::{Errno, PageNo, PageSize};

#[cfg(unix)]
pub use image::{ImageError, ImageFile};
pub use memory::{SliceSource, ZeroSource};

/// Why a source could not give a page.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum SourceError {
    /// The page lies beyond the end of the source.
    OutOfRange {
        /// The page.
        page: PageNo,
        /// How many pages the source has.
        pages: u64,
    },
    /// The image has become shorter than it was when it was opened.
    Shrunk {
        /// Where the page starts.
        offset: u64,
        /// The bytes the image had.
        expected: u64,
        /// The bytes it has now.
        found: u64,
    },
    /// The operating system refused.
    Io {
        /// Where the page starts.
        offset: u64,
        /// Why.
        errno: Errno,
    },
    /// The source panicked, or was abandoned half-way.
    Panicked,
}

/// Gives the bytes of pages. Called from any number of threads at once; may take long.
pub trait PageSource {
    /// The size of its pages.
    fn page_size(&self) -> PageSize;

    /// Fill `buf`, which is exactly one page long, with the bytes of `page`. A source
    /// that cannot fill all of it returns an error: half a page is never served.
    fn read_page(&self, page: PageNo, buf: &mut [u8]) -> Result<(), SourceError>;
}

impl<S: PageSource + ?Sized> PageSource for &S {
    fn page_size(&self) -> PageSize {
        (**self).page_size()
    }
    fn read_page(&self, page: PageNo, buf: &mut [u8]) -> Result<(), SourceError> {
        (**self).read_page(page, buf)
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceError::OutOfRange { page, pages } => {
                write!(f, "page {page} is beyond the {pages} pages of the source")
            }
            SourceError::Shrunk { offset, expected, found } => write!(
                f,
                "the image shrank from {expected} to {found} bytes while it was served; its \
                 page at {offset:#x} cannot be read whole"
            ),
            SourceError::Io { offset, errno } => {
                write!(f, "reading the image at {offset:#x}: {errno}")
            }
            SourceError::Panicked => write!(f, "the source panicked"),
        }
    }
}

impl core::error::Error for SourceError {}
