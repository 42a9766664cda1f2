//! Sources without a file behind them.

use shims::{PageNo, PageSize};

use super::{PageSource, SourceError};

/// Every page is zeros.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ZeroSource {
    page: PageSize,
}

/// The pages are those of a slice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SliceSource<B> {
    page: PageSize,
    bytes: B,
}

impl ZeroSource {
    /// Zeros in pages of size `page`.
    pub const fn new(page: PageSize) -> ZeroSource {
        ZeroSource { page }
    }
}

impl<B: AsRef<[u8]>> SliceSource<B> {
    /// The pages of `bytes`. A piece at the end that is no whole page is never served.
    pub const fn new(page: PageSize, bytes: B) -> SliceSource<B> {
        SliceSource { page, bytes }
    }
}

impl PageSource for ZeroSource {
    fn page_size(&self) -> PageSize {
        self.page
    }

    fn read_page(&self, _: PageNo, buf: &mut [u8]) -> Result<(), SourceError> {
        buf.fill(0);
        Ok(())
    }
}

impl<B: AsRef<[u8]>> PageSource for SliceSource<B> {
    fn page_size(&self) -> PageSize {
        self.page
    }

    fn read_page(&self, page: PageNo, buf: &mut [u8]) -> Result<(), SourceError> {
        let pages = self.bytes.as_ref().chunks_exact(self.page.bytes() as usize);
        let beyond = SourceError::OutOfRange { page, pages: pages.len() as u64 };
        let at = usize::try_from(page.index()).map_err(|_| beyond.clone())?;
        let mut pages = pages;
        buf.copy_from_slice(pages.nth(at).ok_or(beyond)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_gives_its_whole_pages_only() {
        let bytes: Vec<u8> = (0..4096 * 2 + 100).map(|i| (i / 4096) as u8 + 1).collect();
        let source = SliceSource::new(PageSize::KIB4, bytes);
        let mut buf = [0; 4096];
        source.read_page(PageNo::new(1), &mut buf).unwrap();
        assert_eq!(buf, [2; 4096]);
        for page in [2, 3, u64::MAX] {
            let page = PageNo::new(page);
            let beyond = SourceError::OutOfRange { page, pages: 2 };
            assert_eq!(source.read_page(page, &mut buf), Err(beyond));
        }
    }

    #[test]
    fn zeros_overwrite_what_the_buffer_held() {
        let mut buf = [7; 4096];
        ZeroSource::new(PageSize::KIB4).read_page(PageNo::new(9), &mut buf).unwrap();
        assert_eq!(buf, [0; 4096]);
    }
}
