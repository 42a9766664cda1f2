//! A memory image in a file. Owns what can be wrong with one: a file that is missing,
//! empty, no whole number of pages, no file, or that shrinks while it is served. None of
//! these ever becomes a page of zeros.

use core::fmt;
use std::fs::File;
use std::io::{Error, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use shims::{Errno, PageNo, PageSize};

use super::{PageSource, SourceError};

/// A file whose pages are served as they are.
///
/// The file must not be changed while it is served. That it became shorter is noticed as
/// soon as a page beyond the new end is needed; that bytes changed is not.
#[derive(Debug)]
pub struct ImageFile {
    file: File,
    len: u64,
    page: PageSize,
}

/// Why a file cannot be served.
#[derive(Debug)]
#[non_exhaustive]
pub enum ImageError {
    /// It cannot be opened or looked at.
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        error: Error,
    },
    /// It is a directory, a pipe, a device.
    NotRegular {
        /// The file.
        path: PathBuf,
    },
    /// It has no bytes.
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Its length is not a whole number of pages.
    NotWholePages {
        /// The file.
        path: PathBuf,
        /// Its bytes.
        len: u64,
        /// The page size that was asked for.
        page: PageSize,
    },
}

impl ImageFile {
    /// Open the image at `path`, to be served in pages of size `page`.
    pub fn open(path: impl AsRef<Path>, page: PageSize) -> Result<ImageFile, ImageError> {
        let path = path.as_ref();
        let wrong = |error| ImageError::Open { path: path.to_owned(), error };
        // Looked at before it is opened as well: opening a pipe waits for a writer.
        if !std::fs::metadata(path).map_err(wrong)?.is_file() {
            return Err(ImageError::NotRegular { path: path.to_owned() });
        }
        let file = File::open(path).map_err(wrong)?;
        let metadata = file.metadata().map_err(wrong)?;
        let path = path.to_owned();
        let len = metadata.len();
        if !metadata.is_file() {
            Err(ImageError::NotRegular { path })
        } else if len == 0 {
            Err(ImageError::Empty { path })
        } else if !len.is_multiple_of(page.bytes()) {
            Err(ImageError::NotWholePages { path, len, page })
        } else {
            Ok(ImageFile { file, len, page })
        }
    }

    /// The bytes it had when it was opened.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Never: an empty file is not opened.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// How many pages it has.
    pub fn page_count(&self) -> u64 {
        self.len / self.page.bytes()
    }
}

impl PageSource for ImageFile {
    fn page_size(&self) -> PageSize {
        self.page
    }

    fn read_page(&self, page: PageNo, buf: &mut [u8]) -> Result<(), SourceError> {
        let pages = self.page_count();
        if page.index() >= pages {
            return Err(SourceError::OutOfRange { page, pages });
        }
        let offset = page.index() * self.page.bytes();
        self.file.read_exact_at(buf, offset).map_err(|error| {
            if error.kind() == ErrorKind::UnexpectedEof {
                let found = self.file.metadata().map_or(0, |m| m.len());
                return SourceError::Shrunk { offset, expected: self.len, found };
            }
            let errno = error.raw_os_error().and_then(Errno::from_raw).unwrap_or(Errno::EIO);
            SourceError::Io { offset, errno }
        })
    }
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageError::Open { path, error } => write!(f, "{}: {error}", path.display()),
            ImageError::NotRegular { path } => {
                write!(f, "{}: not a regular file", path.display())
            }
            ImageError::Empty { path } => write!(f, "{}: the image is empty", path.display()),
            ImageError::NotWholePages { path, len, page } => write!(
                f,
                "{}: {len} bytes are no whole number of {page} pages ({} too many)",
                path.display(),
                len % page.bytes()
            ),
        }
    }
}

impl core::error::Error for ImageError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            ImageError::Open { error, .. } => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of our own that goes away with the test.
    struct Temp(PathBuf);

    impl Temp {
        fn new(name: &str, bytes: &[u8]) -> Temp {
            let id = std::process::id();
            let path = std::env::temp_dir().join(format!("faultbed-image-{id}-{name}"));
            std::fs::write(&path, bytes).unwrap();
            Temp(path)
        }
    }

    impl Drop for Temp {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[test]
    fn pages_are_read_exactly() {
        let bytes: Vec<u8> = (0..3 * 4096).map(|i| (i / 16) as u8).collect();
        let temp = Temp::new("exact", &bytes);
        let image = ImageFile::open(&temp.0, PageSize::KIB4).unwrap();
        assert_eq!((image.len(), image.page_count()), (3 * 4096, 3));
        let mut buf = [0; 4096];
        for page in 0..3 {
            image.read_page(PageNo::new(page as u64), &mut buf).unwrap();
            assert_eq!(buf, bytes[page * 4096..][..4096]);
        }
        let error = image.read_page(PageNo::new(3), &mut buf);
        assert_eq!(error, Err(SourceError::OutOfRange { page: PageNo::new(3), pages: 3 }));
    }

    #[test]
    fn a_file_that_cannot_be_an_image_is_refused_when_it_is_opened() {
        let open = |path: &Path| ImageFile::open(path, PageSize::KIB4).unwrap_err();
        assert!(matches!(open(Path::new("/nonexistent/image")), ImageError::Open { .. }));
        assert!(matches!(open(&std::env::temp_dir()), ImageError::NotRegular { .. }));
        let empty = Temp::new("empty", &[]);
        assert!(matches!(open(&empty.0), ImageError::Empty { .. }));
        let odd = Temp::new("odd", &[1; 4097]);
        let error = open(&odd.0);
        assert!(matches!(error, ImageError::NotWholePages { len: 4097, .. }));
        assert!(error.to_string().ends_with("no whole number of 4 KiB pages (1 too many)"));
    }

    #[test]
    fn an_image_that_shrinks_is_an_error_and_never_zeros() {
        let temp = Temp::new("shrinks", &[5; 2 * 4096]);
        let image = ImageFile::open(&temp.0, PageSize::KIB4).unwrap();
        File::options().write(true).open(&temp.0).unwrap().set_len(4096 + 10).unwrap();
        let mut buf = [9; 4096];
        assert_eq!(image.read_page(PageNo::new(0), &mut buf), Ok(()));
        let shrunk = SourceError::Shrunk { offset: 4096, expected: 8192, found: 4106 };
        assert_eq!(image.read_page(PageNo::new(1), &mut buf), Err(shrunk));
    }
}
