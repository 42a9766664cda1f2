//! Where the guest's memory lies and which part of the image each piece shows. Owns the
//! translation between addresses and pages of the image; owns no page state.

use core::fmt;

use shims::{Addr, Len, PageNo, PageRange, PageSize, Span};

/// A piece of the monitored address space and the part of the image it shows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Region {
    /// The addresses, and the size of the pages the kernel maps there.
    pub host: PageRange,
    /// The byte of the image that the first address shows: a multiple of the page size.
    pub offset: u64,
}

/// What is behind the regions: it decides what giving pages up does to them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Backing {
    /// Memory of the process's own, hugetlb too, if it is private: what is given up is zeros.
    #[default]
    Anonymous,
    /// A shared mapping of an object with a page cache (a memfd, tmpfs, hugetlb). Others may
    /// map it and fill it. `MADV_DONTNEED` leaves its pages as they are, `MADV_REMOVE` makes
    /// them zeros, and the messages are the same (rules d11, d12).
    Shared,
    /// A private mapping of such an object: what is given up shows the object again.
    PrivateFile,
}

/// The regions of one handler: one page size, no two overlapping, neither in the address
/// space nor in the image.
///
/// Pages are numbered by their place in the image (offset / page size), so that a page
/// keeps its number wherever the client maps it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RegionMap {
    page: PageSize,
    backing: Backing,
    /// Ascending by address.
    regions: Vec<Region>,
    /// Positions in `regions`, ascending by offset.
    by_offset: Vec<u32>,
}

/// Why a list of regions is no [`RegionMap`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RegionError {
    /// There is no region.
    Empty,
    /// Two regions have pages of different sizes.
    MixedPageSizes(PageSize, PageSize),
    /// The offset of this region is not a multiple of the page size.
    UnalignedOffset(Region),
    /// The part of the image that this region shows ends beyond 64 bits.
    OffsetWraps(Region),
    /// These two share an address.
    Overlap(Region, Region),
    /// These two show the same page of the image.
    SharedImage(Region, Region),
}

impl Backing {
    /// Can a page be there and not be mapped?
    pub(crate) const fn has_cache(self) -> bool {
        matches!(self, Backing::Shared | Backing::PrivateFile)
    }
}

impl Region {
    /// One past the last byte of the image it shows, unless that wraps.
    const fn image_end(&self) -> Option<u64> {
        self.offset.checked_add(self.host.len().bytes())
    }
}

impl RegionMap {
    /// The map of `regions`, in any order.
    pub fn new(mut regions: Vec<Region>) -> Result<RegionMap, RegionError> {
        let Some(first) = regions.first() else { return Err(RegionError::Empty) };
        let page = first.host.page_size();
        for region in &regions {
            if region.host.page_size() != page {
                return Err(RegionError::MixedPageSizes(page, region.host.page_size()));
            }
            if !Len::new(region.offset).is_aligned(page) {
                return Err(RegionError::UnalignedOffset(*region));
            }
            if region.image_end().is_none() {
                return Err(RegionError::OffsetWraps(*region));
            }
        }
        regions.sort_by_key(|r| (r.host.start(), r.offset));
        if let Some(pair) = regions.windows(2).find(|w| w[0].host.end() > w[1].host.start()) {
            return Err(RegionError::Overlap(pair[0], pair[1]));
        }
        let mut by_offset: Vec<u32> = (0..regions.len() as u32).collect();
        by_offset.sort_by_key(|&i| regions[i as usize].offset);
        for pair in by_offset.windows(2) {
            let (low, high) = (regions[pair[0] as usize], regions[pair[1] as usize]);
            if low.image_end().is_none_or(|end| end > high.offset) {
                return Err(RegionError::SharedImage(low, high));
            }
        }
        Ok(RegionMap { page, backing: Backing::default(), regions, by_offset })
    }

    /// One region that shows the image from its start.
    pub fn single(host: PageRange) -> RegionMap {
        RegionMap {
            page: host.page_size(),
            backing: Backing::default(),
            regions: vec![Region { host, offset: 0 }],
            by_offset: vec![0],
        }
    }

    /// The same regions, with this behind all of them.
    #[must_use]
    pub fn backed_by(self, backing: Backing) -> RegionMap {
        RegionMap { backing, ..self }
    }

    /// What is behind them.
    pub fn backing(&self) -> Backing {
        self.backing
    }

    /// Take `start..end` out, as far as it is whole pages; what was there, ascending.
    pub(crate) fn cut(&mut self, start: Addr, end: Addr) -> Vec<Region> {
        let pieces = cut(&mut self.regions, start, end);
        self.index();
        pieces
    }

    /// Add `region`, which shares neither addresses nor pages of the image with another.
    pub(crate) fn put(&mut self, region: Region) {
        let at = self.regions.partition_point(|r| r.host.start() < region.host.start());
        self.regions.insert(at, region);
        self.index();
        debug_assert!(self.regions.windows(2).all(|w| w[0].host.end() <= w[1].host.start()));
    }

    fn index(&mut self) {
        let regions = &self.regions;
        self.by_offset = (0..regions.len() as u32).collect();
        self.by_offset.sort_by_key(|&i| regions[i as usize].offset);
    }

    /// The size of every page.
    pub fn page_size(&self) -> PageSize {
        self.page
    }

    /// The regions, ascending by address.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// The page of the image that `addr` shows, if `addr` is in a region.
    pub fn page(&self, addr: Addr) -> Option<PageNo> {
        let at = self.regions.partition_point(|r| r.host.start() <= addr);
        let region = self.regions.get(at.checked_sub(1)?)?;
        let into = addr.checked_sub(region.host.start())?;
        if into.bytes() >= region.host.len().bytes() {
            return None;
        }
        Some(self.number(region.offset + into.bytes()))
    }

    /// Where `page` is mapped, if a region shows it.
    pub fn addr(&self, page: PageNo) -> Option<Addr> {
        let offset = page.index().checked_mul(self.page.bytes())?;
        let at = self.by_offset.partition_point(|&i| self.regions[i as usize].offset <= offset);
        let region = self.regions[*self.by_offset.get(at.checked_sub(1)?)? as usize];
        let into = offset - region.offset;
        if into >= region.host.len().bytes() {
            return None;
        }
        region.host.start().checked_add(Len::new(into))
    }

    /// The pages of the image that `span` touches, one piece for each region it meets,
    /// ascending by address. A span that wraps reaches to the end of the address space.
    pub fn split(&self, span: Span) -> impl Iterator<Item = Piece> {
        let start = span.start;
        let end = span.end().unwrap_or(Addr::new(u64::MAX));
        self.regions.iter().filter_map(move |region| {
            let low = start.max(region.host.start());
            let high = end.min(region.host.end());
            if low >= high {
                return None;
            }
            let offset_of = |addr: Addr| region.offset + (addr.raw() - region.host.start().raw());
            let (from, to) = (offset_of(low), offset_of(high));
            let bytes = self.page.bytes();
            let first = from.div_ceil(bytes);
            let last = to / bytes;
            Some(Piece {
                bytes: to - from,
                full: (first < last).then_some((PageNo::new(first), PageNo::new(last))),
                head: (!from.is_multiple_of(bytes)).then(|| self.number(from)),
                tail: (!to.is_multiple_of(bytes)).then(|| self.number(to)),
            })
        })
    }

    fn number(&self, offset: u64) -> PageNo {
        PageNo::new(offset / self.page.bytes())
    }
}

/// Take `start..end` out of a list of regions, as far as it is whole pages. What was there,
/// in the list's order.
pub(crate) fn cut(regions: &mut Vec<Region>, start: Addr, end: Addr) -> Vec<Region> {
    let mut out = Vec::new();
    let mut kept = Vec::with_capacity(regions.len() + 1);
    for region in regions.drain(..) {
        let host = region.host;
        let page = host.page_size();
        let from = start.align_up(page).unwrap_or(host.end()).clamp(host.start(), host.end());
        let to = end.align_down(page).clamp(from, host.end());
        let part = |from: Addr, to: Addr| {
            let len = to.checked_sub(from)?;
            let host = PageRange::new(from, len, page).ok()?;
            let into = from.raw() - region.host.start().raw();
            Some(Region { host, offset: region.offset + into })
        };
        if from == to {
            kept.push(region);
            continue;
        }
        out.extend(part(from, to));
        kept.extend([part(host.start(), from), part(to, host.end())].into_iter().flatten());
    }
    *regions = kept;
    out
}

/// What one region has in common with a span.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Bytes in common.
    pub bytes: u64,
    /// The pages that lie wholly in the span: the first, and the one after the last.
    pub full: Option<(PageNo, PageNo)>,
    /// The page that the span's start cuts, if it cuts one.
    pub head: Option<PageNo>,
    /// The page that the span's end cuts, if it cuts one. May be the same as `head`.
    pub tail: Option<PageNo>,
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} showing the image from {:#x}", self.host, self.offset)
    }
}

impl fmt::Display for RegionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegionError::Empty => write!(f, "there is no region to serve"),
            RegionError::MixedPageSizes(a, b) => {
                write!(f, "all regions must have one page size, but there are {a} and {b}")
            }
            RegionError::UnalignedOffset(region) => {
                let page = region.host.page_size();
                write!(f, "region {region}: the offset is not a multiple of its {page} pages")
            }
            RegionError::OffsetWraps(region) => {
                write!(f, "region {region}: its end in the image does not fit in 64 bits")
            }
            RegionError::Overlap(a, b) => {
                write!(f, "two regions share addresses: {a}, and {b}")
            }
            RegionError::SharedImage(a, b) => {
                write!(f, "two regions show the same part of the image: {a}, and {b}")
            }
        }
    }
}

impl core::error::Error for RegionError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(start: u64, pages: u64, offset: u64) -> Region {
        let len = Len::pages(pages, PageSize::KIB4).unwrap();
        Region { host: PageRange::new(Addr::new(start), len, PageSize::KIB4).unwrap(), offset }
    }

    #[test]
    fn every_page_of_every_region_is_found_both_ways() {
        let map = RegionMap::new(vec![
            region(0x9000, 2, 0x0),
            region(0x1000, 3, 0x10_0000),
            region(0x4000, 1, 0x2000),
        ])
        .unwrap();
        let mut seen = 0;
        for r in map.regions() {
            for addr in r.host.pages() {
                let page = map.page(addr).unwrap();
                assert_eq!(map.addr(page), Some(addr));
                assert_eq!(map.page(Addr::new(addr.raw() + 0xfff)), Some(page));
                seen += 1;
            }
        }
        assert_eq!(seen, 6);
        for outside in [0, 0xfff, 0x5000, 0x8fff, 0xb000, u64::MAX] {
            assert_eq!(map.page(Addr::new(outside)), None, "{outside:#x}");
        }
        for outside in [3, 0x103, u64::MAX] {
            assert_eq!(map.addr(PageNo::new(outside)), None, "{outside:#x}");
        }
    }

    #[test]
    fn bad_lists_are_refused_with_the_regions_at_fault() {
        let (a, b) = (region(0x1000, 2, 0), region(0x2000, 1, 0x10000));
        assert_eq!(RegionMap::new(vec![]), Err(RegionError::Empty));
        assert_eq!(RegionMap::new(vec![b, a]), Err(RegionError::Overlap(a, b)));
        let c = region(0x8000, 1, 0x1000);
        assert_eq!(RegionMap::new(vec![a, c]), Err(RegionError::SharedImage(a, c)));
        let odd = region(0x8000, 1, 0x1001);
        assert_eq!(RegionMap::new(vec![odd]), Err(RegionError::UnalignedOffset(odd)));
        let far = region(0x8000, 1, !0xfff);
        assert_eq!(RegionMap::new(vec![far]), Err(RegionError::OffsetWraps(far)));
        let huge = Region {
            host: PageRange::new(Addr::new(0x20_0000), Len::new(0x20_0000), PageSize::MIB2)
                .unwrap(),
            offset: 0x20_0000,
        };
        assert_eq!(
            RegionMap::new(vec![a, huge]),
            Err(RegionError::MixedPageSizes(PageSize::KIB4, PageSize::MIB2))
        );
    }

    #[test]
    fn a_span_is_split_by_region_and_its_cut_pages_are_told() {
        let map = RegionMap::new(vec![region(0x1000, 2, 0x10000), region(0x3000, 2, 0)]).unwrap();
        let span = Span::new(Addr::new(0x1800), Len::new(0x2000));
        let pieces: Vec<_> = map.split(span).collect();
        let page = PageNo::new;
        assert_eq!(
            pieces,
            [
                Piece {
                    bytes: 0x1800,
                    full: Some((page(17), page(18))),
                    head: Some(page(16)),
                    tail: None
                },
                Piece { bytes: 0x800, full: None, head: None, tail: Some(page(0)) },
            ]
        );
        let inside = Span::new(Addr::new(0x1100), Len::new(0x100));
        let pieces: Vec<_> = map.split(inside).collect();
        assert_eq!(pieces[0].full, None);
        assert_eq!((pieces[0].head, pieces[0].tail), (Some(page(16)), Some(page(16))));
    }
}
