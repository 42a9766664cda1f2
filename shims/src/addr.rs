//! Addresses, lengths and page sizes. Owns the arithmetic; owns no range (see
//! `range.rs`).
//!
//! There is no `+` on an [`Addr`]: every sum is named and says what happens when it
//! does not fit.

use core::fmt;

/// A virtual address in the monitored process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Addr(u64);

/// A length in bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Len(u64);

/// The number of a page, counted in pages from the start of an address space or of an
/// image, as the context says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PageNo(u64);

/// The size of a page: a power of two, at least 4 KiB.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageSize {
    shift: u8,
}

impl Addr {
    /// The lowest address.
    pub const ZERO: Addr = Addr(0);

    /// The address `raw`. Any value is an address; whether something is mapped there is
    /// the kernel's business.
    pub const fn new(raw: u64) -> Addr {
        Addr(raw)
    }

    /// The number itself.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// This address moved up by `len` bytes, unless that wraps.
    pub const fn checked_add(self, len: Len) -> Option<Addr> {
        match self.0.checked_add(len.0) {
            Some(raw) => Some(Addr(raw)),
            None => None,
        }
    }

    /// The distance from `lower` up to this address, unless `lower` is above it.
    pub const fn checked_sub(self, lower: Addr) -> Option<Len> {
        match self.0.checked_sub(lower.0) {
            Some(raw) => Some(Len(raw)),
            None => None,
        }
    }

    /// The start of the page of size `page` that holds this address.
    pub const fn align_down(self, page: PageSize) -> Addr {
        Addr(self.0 & !page.mask())
    }

    /// The first page boundary at or above this address, unless that wraps.
    pub const fn align_up(self, page: PageSize) -> Option<Addr> {
        match self.0.checked_add(page.mask()) {
            Some(raw) => Some(Addr(raw & !page.mask())),
            None => None,
        }
    }

    /// Is this address the start of a page of size `page`?
    pub const fn is_aligned(self, page: PageSize) -> bool {
        self.0 & page.mask() == 0
    }

    /// The number of the page of size `page` that holds this address.
    pub const fn page(self, page: PageSize) -> PageNo {
        PageNo(self.0 >> page.shift)
    }
}

impl Len {
    /// Nothing at all.
    pub const ZERO: Len = Len(0);

    /// `bytes` bytes.
    pub const fn new(bytes: u64) -> Len {
        Len(bytes)
    }

    /// `count` pages of size `page`, unless that does not fit in 64 bits.
    pub const fn pages(count: u64, page: PageSize) -> Option<Len> {
        match count.checked_mul(page.bytes()) {
            Some(bytes) => Some(Len(bytes)),
            None => None,
        }
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Is this a whole number of pages of size `page`? Zero is.
    pub const fn is_aligned(self, page: PageSize) -> bool {
        self.0 & page.mask() == 0
    }

    /// How many whole pages of size `page` fit.
    pub const fn whole_pages(self, page: PageSize) -> u64 {
        self.0 >> page.shift
    }
}

impl PageNo {
    /// Page number `index`.
    pub const fn new(index: u64) -> PageNo {
        PageNo(index)
    }

    /// The number.
    pub const fn index(self) -> u64 {
        self.0
    }

    /// The first byte of this page when pages of size `page` are counted from 0, unless
    /// that does not fit in 64 bits.
    pub const fn start(self, page: PageSize) -> Option<Addr> {
        match self.0.checked_mul(page.bytes()) {
            Some(raw) => Some(Addr(raw)),
            None => None,
        }
    }
}

impl PageSize {
    /// 4 KiB, the base page of x86-64.
    pub const KIB4: PageSize = PageSize { shift: 12 };
    /// 2 MiB, a huge page of x86-64.
    pub const MIB2: PageSize = PageSize { shift: 21 };

    /// The page size of `bytes` bytes: a power of two from 4 KiB up to 1 GiB.
    pub const fn from_bytes(bytes: u64) -> Option<PageSize> {
        if bytes.is_power_of_two() && bytes >= 4096 && bytes <= 1 << 30 {
            Some(PageSize { shift: bytes.trailing_zeros() as u8 })
        } else {
            None
        }
    }

    /// Bytes in a page.
    pub const fn bytes(self) -> u64 {
        1 << self.shift
    }

    /// One page, as a length.
    pub const fn len(self) -> Len {
        Len(self.bytes())
    }

    const fn mask(self) -> u64 {
        self.bytes() - 1
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Len {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for Len {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for PageNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for PageNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page {}", self.0)
    }
}

impl fmt::Display for PageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shift {
            shift @ 30.. => write!(f, "{} GiB", 1u64 << (shift - 30)),
            shift @ 20.. => write!(f, "{} MiB", 1u64 << (shift - 20)),
            shift => write!(f, "{} KiB", 1u64 << (shift - 10)),
        }
    }
}

impl fmt::Debug for PageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_that_wrap_are_refused() {
        assert_eq!(Addr::new(u64::MAX).checked_add(Len::new(1)), None);
        assert_eq!(Addr::new(u64::MAX).align_up(PageSize::KIB4), None);
        assert_eq!(Len::pages(u64::MAX, PageSize::KIB4), None);
        assert_eq!(Addr::new(1).checked_sub(Addr::new(2)), None);
    }

    #[test]
    fn page_sizes_are_powers_of_two_from_4_kib_to_1_gib() {
        assert_eq!(PageSize::from_bytes(4096), Some(PageSize::KIB4));
        assert_eq!(PageSize::from_bytes(2 << 20), Some(PageSize::MIB2));
        for bad in [0, 1, 2048, 4097, 12288, 2 << 30] {
            assert_eq!(PageSize::from_bytes(bad), None, "{bad}");
        }
        assert_eq!(PageSize::MIB2.to_string(), "2 MiB");
        assert_eq!(PageSize::KIB4.to_string(), "4 KiB");
    }

    #[test]
    fn alignment_rounds_to_the_page_it_says() {
        let a = Addr::new(0x5001);
        assert_eq!(a.align_down(PageSize::KIB4), Addr::new(0x5000));
        assert_eq!(a.align_up(PageSize::KIB4), Some(Addr::new(0x6000)));
        assert_eq!(a.align_down(PageSize::MIB2), Addr::ZERO);
        assert_eq!(a.page(PageSize::KIB4), PageNo::new(5));
        assert_eq!(PageNo::new(5).start(PageSize::KIB4), Some(Addr::new(0x5000)));
    }
}
