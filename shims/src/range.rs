//! Ranges of addresses: [`Span`], whatever a caller passed, and [`PageRange`], one that
//! is known to be well formed.

use core::fmt;

use crate::{Addr, Len, PageSize};

/// A start and a length exactly as given to a system call: possibly unaligned, empty or
/// wrapping. The kernel answers `EINVAL` to such a span (rule b1); the type lets a test
/// ask for that answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Span {
    /// First byte.
    pub start: Addr,
    /// Bytes.
    pub len: Len,
}

/// A non-empty range of whole pages that does not wrap.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageRange {
    start: Addr,
    len: Len,
    page: PageSize,
}

/// Why a start and a length are no [`PageRange`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RangeError {
    /// The length is zero.
    Empty,
    /// The start is not at a page boundary.
    UnalignedStart(Addr, PageSize),
    /// The length is not a whole number of pages.
    UnalignedLen(Len, PageSize),
    /// The end lies beyond the 64-bit address space.
    Wraps(Addr, Len),
}

impl Span {
    /// The span of `len` bytes at `start`.
    pub const fn new(start: Addr, len: Len) -> Span {
        Span { start, len }
    }

    /// From `start` up to, not including, `end`; `None` if `end` is below `start`.
    pub const fn between(start: Addr, end: Addr) -> Option<Span> {
        match end.checked_sub(start) {
            Some(len) => Some(Span { start, len }),
            None => None,
        }
    }

    /// One past the last byte, unless that wraps.
    pub const fn end(self) -> Option<Addr> {
        self.start.checked_add(self.len)
    }

    /// Is `addr` inside? A span that wraps reaches to the end of the address space.
    pub const fn contains(self, addr: Addr) -> bool {
        match addr.checked_sub(self.start) {
            Some(into) => into.bytes() < self.len.bytes(),
            None => false,
        }
    }
}

impl PageRange {
    /// The range of `len` bytes at `start`, in pages of size `page`.
    pub const fn new(start: Addr, len: Len, page: PageSize) -> Result<PageRange, RangeError> {
        if len.bytes() == 0 {
            return Err(RangeError::Empty);
        }
        if !start.is_aligned(page) {
            return Err(RangeError::UnalignedStart(start, page));
        }
        if !len.is_aligned(page) {
            return Err(RangeError::UnalignedLen(len, page));
        }
        if start.checked_add(len).is_none() {
            return Err(RangeError::Wraps(start, len));
        }
        Ok(PageRange { start, len, page })
    }

    /// The one page of size `page` that holds `addr`; `None` for the last page of the
    /// 64-bit address space, whose end does not exist.
    pub const fn page_at(addr: Addr, page: PageSize) -> Option<PageRange> {
        let start = addr.align_down(page);
        match start.checked_add(page.len()) {
            Some(_) => Some(PageRange { start, len: page.len(), page }),
            None => None,
        }
    }

    /// First byte.
    pub const fn start(self) -> Addr {
        self.start
    }

    /// One past the last byte.
    pub const fn end(self) -> Addr {
        match self.start.checked_add(self.len) {
            Some(end) => end,
            None => unreachable!(),
        }
    }

    /// Bytes.
    pub const fn len(self) -> Len {
        self.len
    }

    /// Never: a `PageRange` has at least one page.
    pub const fn is_empty(self) -> bool {
        false
    }

    /// The size of its pages.
    pub const fn page_size(self) -> PageSize {
        self.page
    }

    /// How many pages.
    pub const fn page_count(self) -> u64 {
        self.len.whole_pages(self.page)
    }

    /// Is `addr` inside?
    pub const fn contains(self, addr: Addr) -> bool {
        self.span().contains(addr)
    }

    /// The start of each page, ascending.
    pub fn pages(self) -> impl ExactSizeIterator<Item = Addr> {
        let (start, step) = (self.start.raw(), self.page.bytes());
        // A range that fits in memory has fewer than 2^52 pages, and `usize` holds that
        // on every platform the simulator is built for.
        (0..self.page_count() as usize).map(move |i| Addr::new(start + i as u64 * step))
    }

    /// The same bytes as arguments of an ioctl.
    pub const fn span(self) -> Span {
        Span { start: self.start, len: self.len }
    }
}

impl From<PageRange> for Span {
    fn from(range: PageRange) -> Span {
        range.span()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.end() {
            Some(end) => write!(f, "{}..{}", self.start, end),
            None => write!(f, "{}+{} (wraps)", self.start, self.len),
        }
    }
}

impl fmt::Display for PageRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.span())
    }
}

impl fmt::Debug for PageRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {} pages", self.span(), self.page)
    }
}

impl fmt::Display for RangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RangeError::Empty => write!(f, "the range is empty"),
            RangeError::UnalignedStart(start, page) => {
                write!(f, "the start {start} is not at a {page} page boundary")
            }
            RangeError::UnalignedLen(len, page) => {
                write!(f, "the length {len} is not a whole number of {page} pages")
            }
            RangeError::Wraps(start, len) => {
                write!(f, "{start} plus {len} bytes runs past the end of the address space")
            }
        }
    }
}

impl core::error::Error for RangeError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_range_is_aligned_non_empty_and_does_not_wrap() {
        let page = PageSize::KIB4;
        let new = |start, len| PageRange::new(Addr::new(start), Len::new(len), page);
        assert!(new(0x1000, 0x2000).is_ok());
        assert_eq!(new(0x1000, 0), Err(RangeError::Empty));
        assert!(matches!(new(0x1001, 0x1000), Err(RangeError::UnalignedStart(..))));
        assert!(matches!(new(0x1000, 0x1001), Err(RangeError::UnalignedLen(..))));
        assert!(matches!(new(u64::MAX - 0xfff, 0x1000), Err(RangeError::Wraps(..))));
    }

    #[test]
    fn pages_are_listed_in_order_and_counted() {
        let range =
            PageRange::new(Addr::new(0x20_0000), Len::new(0x40_0000), PageSize::MIB2).unwrap();
        let pages: Vec<_> = range.pages().map(Addr::raw).collect();
        assert_eq!(pages, [0x20_0000, 0x40_0000]);
        assert_eq!(range.page_count(), 2);
        assert!(range.contains(Addr::new(0x5f_ffff)) && !range.contains(range.end()));
    }
}
