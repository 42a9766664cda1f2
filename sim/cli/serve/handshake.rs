//! What a client says of its memory: Firecracker's handshake. Owns the format and every
//! check of its numbers; whoever passes has regions that are aligned, disjoint, inside
//! the memory file and all in pages of one size.
//!
//! The message is a JSON array of objects, sent once over the stream, without a length
//! and without a newline:
//!
//! ```json
//! [{"base_host_virt_addr":140080089923584,"size":268435456,"offset":0,"page_size":4096}]
//! ```
//!
//! Fields that are not named here are ignored. `page_size` is in bytes, and so is
//! `page_size_kib`, its older name. Exactly one descriptor comes with the message.

use core::fmt;

use serde::Deserialize;
use shims::{Addr, Len, PageRange, PageSize, RangeError};

/// Longest message taken: about a hundred thousand regions.
pub const MAX_BYTES: usize = 16 << 20;

/// One range of the client's memory and where its pages lie in the memory file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientRegion {
    /// Addresses in the client.
    pub host: PageRange,
    /// Offset of the first page in the memory file.
    pub offset: u64,
}

/// Whether a message is whole.
#[derive(Debug)]
pub enum Parsed {
    /// It is; these are its regions, in the client's order.
    Regions(Vec<ClientRegion>),
    /// Its end is missing.
    Incomplete,
}

/// Why a message is refused. Regions are counted from 0.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HandshakeError {
    /// Not JSON, or not of this shape.
    Json(String),
    /// Longer than [`MAX_BYTES`].
    TooLong,
    /// The stream ended, or paused for too long, after so many bytes.
    Truncated(usize),
    /// No region at all.
    NoRegion,
    /// A page size that is neither 4 KiB nor 2 MiB.
    PageSize {
        /// Which region.
        region: usize,
        /// In bytes; `None` if it is not given.
        bytes: Option<u64>,
    },
    /// Pages of another size than those of region 0.
    MixedPageSizes {
        /// Which region.
        region: usize,
    },
    /// The addresses are no range of whole pages.
    Range {
        /// Which region.
        region: usize,
        /// Why.
        error: RangeError,
    },
    /// The addresses reach beyond the user half of the address space.
    NotUserMemory {
        /// Which region.
        region: usize,
    },
    /// The offset is not a multiple of the page size.
    UnalignedOffset {
        /// Which region.
        region: usize,
        /// The offset.
        offset: u64,
    },
    /// The region ends behind the end of the memory file.
    BeyondFile {
        /// Which region.
        region: usize,
        /// Offset of its end in the file, if that fits in 64 bits.
        end: Option<u64>,
        /// Bytes in the file.
        file: u64,
    },
    /// Two regions share addresses.
    OverlapInMemory(usize, usize),
    /// Two regions share a part of the memory file.
    OverlapInFile(usize, usize),
    /// So many descriptors came, not one.
    Descriptors(usize),
}

#[derive(Deserialize)]
struct RegionMessage {
    base_host_virt_addr: u64,
    size: u64,
    offset: u64,
    page_size: Option<u64>,
    page_size_kib: Option<u64>,
}

/// The end of user memory with four levels of page tables, and so of every address that
/// `mmap` hands out unasked.
const USER_END: u64 = 0x7fff_ffff_f000;

/// May a message end with this piece of it? Only a bracket ends one.
pub fn may_end(piece: &[u8]) -> bool {
    piece.trim_ascii_end().ends_with(b"]")
}

/// The regions of the message received so far, for a memory file of `file` bytes.
pub fn parse(message: &[u8], file: u64) -> Result<Parsed, HandshakeError> {
    let text = message.trim_ascii();
    if text.is_empty() {
        return Ok(Parsed::Incomplete);
    }
    if text[0] != b'[' {
        return Err(HandshakeError::Json("the message is not a JSON array".into()));
    }
    if !may_end(text) {
        return Ok(Parsed::Incomplete);
    }
    match serde_json::from_slice::<Vec<RegionMessage>>(text) {
        Ok(regions) => check(&regions, file).map(Parsed::Regions),
        Err(e) if e.is_eof() => Ok(Parsed::Incomplete),
        Err(e) => Err(HandshakeError::Json(e.to_string())),
    }
}

fn check(messages: &[RegionMessage], file: u64) -> Result<Vec<ClientRegion>, HandshakeError> {
    let regions: Vec<_> = messages
        .iter()
        .enumerate()
        .map(|(region, message)| check_one(region, message, file))
        .collect::<Result<_, _>>()?;
    let Some(first) = regions.first() else { return Err(HandshakeError::NoRegion) };
    for (region, other) in regions.iter().enumerate() {
        if other.host.page_size() != first.host.page_size() {
            return Err(HandshakeError::MixedPageSizes { region });
        }
    }
    let in_memory = regions.iter().map(|r| (r.host.start().raw(), r.host.end().raw()));
    if let Some((a, b)) = overlap(in_memory) {
        return Err(HandshakeError::OverlapInMemory(a, b));
    }
    // The ends fit: they were checked against the file.
    let in_file = regions.iter().map(|r| (r.offset, r.offset + r.host.len().bytes()));
    if let Some((a, b)) = overlap(in_file) {
        return Err(HandshakeError::OverlapInFile(a, b));
    }
    Ok(regions)
}

fn check_one(
    region: usize,
    message: &RegionMessage,
    file: u64,
) -> Result<ClientRegion, HandshakeError> {
    let bytes = message.page_size.or(message.page_size_kib);
    let page = match bytes.and_then(PageSize::from_bytes) {
        Some(page @ (PageSize::KIB4 | PageSize::MIB2)) => page,
        _ => return Err(HandshakeError::PageSize { region, bytes }),
    };
    let (start, len) = (Addr::new(message.base_host_virt_addr), Len::new(message.size));
    let host = PageRange::new(start, len, page)
        .map_err(|error| HandshakeError::Range { region, error })?;
    if host.end().raw() > USER_END {
        return Err(HandshakeError::NotUserMemory { region });
    }
    let offset = message.offset;
    if !Len::new(offset).is_aligned(page) {
        return Err(HandshakeError::UnalignedOffset { region, offset });
    }
    match offset.checked_add(message.size) {
        Some(end) if end <= file => Ok(ClientRegion { host, offset }),
        end => Err(HandshakeError::BeyondFile { region, end, file }),
    }
}

/// Two ranges that share a number, by their positions in the list.
fn overlap(ranges: impl Iterator<Item = (u64, u64)>) -> Option<(usize, usize)> {
    let mut sorted: Vec<_> = ranges.enumerate().map(|(i, (start, end))| (start, end, i)).collect();
    sorted.sort_unstable();
    sorted.windows(2).find_map(|pair| match *pair {
        [(_, end, a), (start, _, b)] if start < end => Some((a.min(b), a.max(b))),
        _ => None,
    })
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandshakeError::Json(e) => write!(f, "the handshake is malformed: {e}"),
            HandshakeError::TooLong => {
                write!(f, "the handshake is longer than {} MiB", MAX_BYTES >> 20)
            }
            HandshakeError::Truncated(bytes) => {
                write!(f, "the handshake ends after {bytes} bytes, in the middle")
            }
            HandshakeError::NoRegion => f.write_str("the handshake names no region"),
            HandshakeError::PageSize { region, bytes: Some(bytes) } => {
                write!(f, "region {region}: page_size is in bytes and 4096 or 2097152, not {bytes}")
            }
            HandshakeError::PageSize { region, bytes: None } => {
                write!(f, "region {region}: page_size is missing")
            }
            HandshakeError::MixedPageSizes { region } => write!(
                f,
                "region {region} has pages of another size than region 0; regions are served \
                 in pages of one size"
            ),
            HandshakeError::Range { region, error } => write!(f, "region {region}: {error}"),
            HandshakeError::NotUserMemory { region } => {
                write!(f, "region {region} reaches beyond user memory, which ends at {USER_END:#x}")
            }
            HandshakeError::UnalignedOffset { region, offset } => write!(
                f,
                "region {region}: the offset {offset:#x} is not a multiple of the page size"
            ),
            HandshakeError::BeyondFile { region, end: Some(end), file } => write!(
                f,
                "region {region} ends at {end:#x} in the memory file, which ends at {file:#x}"
            ),
            HandshakeError::BeyondFile { region, end: None, file } => write!(
                f,
                "region {region}: offset plus size overflow; the memory file ends at {file:#x}"
            ),
            HandshakeError::OverlapInMemory(a, b) => {
                write!(f, "regions {a} and {b} overlap in memory")
            }
            HandshakeError::OverlapInFile(a, b) => {
                write!(f, "regions {a} and {b} overlap in the memory file")
            }
            HandshakeError::Descriptors(0) => f.write_str(
                "no descriptor came with the handshake; send the userfaultfd by SCM_RIGHTS",
            ),
            HandshakeError::Descriptors(count) => {
                write!(f, "{count} descriptors came with the handshake; exactly one is needed")
            }
        }
    }
}

impl core::error::Error for HandshakeError {}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: u64 = 256 << 20;

    fn region(base: u64, size: u64, offset: u64, page: u64) -> String {
        format!(
            r#"{{"base_host_virt_addr":{base},"size":{size},"offset":{offset},"page_size":{page},"page_size_kib":{page}}}"#
        )
    }

    fn refused(regions: &[String]) -> HandshakeError {
        let message = format!("[{}]", regions.join(","));
        parse(message.as_bytes(), FILE).unwrap_err()
    }

    #[test]
    fn a_message_as_firecracker_sends_it_is_taken() {
        let message = br#"[{"base_host_virt_addr":140080089923584,"size":268435456,"offset":0,"page_size":4096,"page_size_kib":4096}]"#;
        assert_eq!(message.len(), 107);
        let Ok(Parsed::Regions(regions)) = parse(message, FILE) else { panic!() };
        assert_eq!(regions[0].host.start().raw(), 140080089923584);
        assert_eq!(regions[0].host.page_count(), 65536);
        for end in 0..message.len() {
            assert!(matches!(parse(&message[..end], FILE), Ok(Parsed::Incomplete)), "{end}");
        }
    }

    #[test]
    fn unknown_fields_are_ignored_and_the_older_name_of_the_page_size_is_known() {
        let message = br#" [{"base_host_virt_addr":2097152,"size":2097152,"offset":0,
            "page_size_kib":2097152,"colour":{"nested":[1]}}] "#;
        let Ok(Parsed::Regions(regions)) = parse(message, FILE) else { panic!() };
        assert_eq!(regions[0].host.page_size(), PageSize::MIB2);
    }

    #[test]
    fn a_lower_address_may_follow_a_higher_one() {
        let half = FILE / 2;
        let message =
            format!("[{},{}]", region(1 << 40, half, 0, 4096), region(1 << 32, half, half, 4096));
        let Ok(Parsed::Regions(regions)) = parse(message.as_bytes(), FILE) else { panic!() };
        assert_eq!(regions.len(), 2);
    }

    #[test]
    fn every_number_is_checked() {
        use HandshakeError::*;
        let page = 4096;
        assert_eq!(refused(&[]), NoRegion);
        for bytes in [0, 1, 8192, 2 << 30, u64::MAX] {
            let error = refused(&[region(0, page, 0, bytes)]);
            assert_eq!(error, PageSize { region: 0, bytes: Some(bytes) });
        }
        let range = |base, size| refused(&[region(base, size, 0, page)]);
        assert!(matches!(range(page, 0), Range { error: RangeError::Empty, .. }));
        assert!(matches!(range(1, page), Range { error: RangeError::UnalignedStart(..), .. }));
        assert!(matches!(range(page, 1), Range { error: RangeError::UnalignedLen(..), .. }));
        let wraps = range(!0xfff, page);
        assert!(matches!(wraps, Range { error: RangeError::Wraps(..), .. }));
        assert_eq!(range(USER_END, page), NotUserMemory { region: 0 });
        let huge = 2 << 20;
        let odd = refused(&[region(huge, huge, page, huge)]);
        assert_eq!(odd, UnalignedOffset { region: 0, offset: page });
        let beyond = refused(&[region(page, FILE, page, page)]);
        assert_eq!(beyond, BeyondFile { region: 0, end: Some(FILE + page), file: FILE });
        let far = refused(&[region(page, page, !0xfff, page)]);
        assert_eq!(far, BeyondFile { region: 0, end: None, file: FILE });
        let good = region(1 << 30, 2 * huge, 0, page);
        let mixed = region(1 << 31, huge, 2 * huge, huge);
        assert_eq!(refused(&[good.clone(), mixed]), MixedPageSizes { region: 1 });
        let inside = region((1 << 30) + page, page, 3 * huge, page);
        assert_eq!(refused(&[good.clone(), inside]), OverlapInMemory(0, 1));
        let twice = region(1 << 31, page, huge, page);
        assert_eq!(refused(&[good, twice]), OverlapInFile(0, 1));
    }

    #[test]
    fn what_is_no_list_of_regions_is_refused() {
        for message in ["{}", "hello", "[1]", "[{}]", "[null]", "[[]]", r#"[{"size":-1}]"#, "[]]"] {
            let error = parse(message.as_bytes(), FILE).unwrap_err();
            assert!(matches!(error, HandshakeError::Json(_)), "{message}: {error}");
        }
    }
}
