//! What a page holds, as provenance: where its bytes came from. Owns the stamp and its
//! encoding into the first bytes of a buffer; owns no memory.
//!
//! Staleness is a question about origins ("does this page still come from the snapshot
//! although it was removed?"), so the simulator keeps origins. A store writes the stamp of
//! the whole page.

use core::fmt;

/// Where the bytes of a page came from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Content {
    /// Zeros.
    #[default]
    Zero,
    /// Page `page` of the source, as of `version`.
    Source {
        /// Page number in the source.
        page: u32,
        /// Version of the source.
        version: u32,
    },
    /// The `seq`-th store of task `task`.
    Written {
        /// Which task, by its index in the world.
        task: u16,
        /// Which of its stores, from 1.
        seq: u32,
    },
    /// Bytes that carry no stamp: a digest of them. Two different pages may, with the odds
    /// of a 64-bit hash, look equal.
    Bytes(u64),
}

/// How many bytes of a page a stamp occupies.
pub const STAMP_LEN: usize = 16;

const MAGIC: [u8; 4] = *b"fbed";

impl Content {
    /// The stamp as bytes: what a simulated source puts at the start of a page. The rest
    /// of the page is zero.
    pub const fn stamp(self) -> [u8; STAMP_LEN] {
        let (tag, a, b) = match self {
            Content::Zero => return [0; STAMP_LEN],
            Content::Source { page, version } => (1u32, page, version),
            Content::Written { task, seq } => (2, task as u32, seq),
            Content::Bytes(hash) => (3, hash as u32, (hash >> 32) as u32),
        };
        let (tag, a, b) = (tag.to_le_bytes(), a.to_le_bytes(), b.to_le_bytes());
        [
            MAGIC[0], MAGIC[1], MAGIC[2], MAGIC[3], tag[0], tag[1], tag[2], tag[3], a[0], a[1],
            a[2], a[3], b[0], b[1], b[2], b[3],
        ]
    }

    /// What `page`, the bytes of a whole page, holds. Looks at the stamp alone if there is
    /// one, at all bytes otherwise.
    pub fn of_bytes(page: &[u8]) -> Content {
        if let Some(stamp) = page.first_chunk::<STAMP_LEN>()
            && stamp[..4] == MAGIC
        {
            let word = |at: usize| {
                u32::from_le_bytes([stamp[at], stamp[at + 1], stamp[at + 2], stamp[at + 3]])
            };
            let (a, b) = (word(8), word(12));
            match word(4) {
                1 => return Content::Source { page: a, version: b },
                2 => return Content::Written { task: a as u16, seq: b },
                3 => return Content::Bytes(u64::from(a) | u64::from(b) << 32),
                _ => {}
            }
        }
        // In pieces, each without a way out in the middle: that is a fraction of the instructions.
        if page.chunks(256).all(|piece| piece.iter().fold(0, |all, byte| all | byte) == 0) {
            return Content::Zero;
        }
        let mut digest = crate::Digest::new();
        core::hash::Hasher::write(&mut digest, page);
        Content::Bytes(digest.value())
    }

    /// A word that is equal for equal contents, for digests.
    pub(crate) const fn word(self) -> u64 {
        match self {
            Content::Zero => 0,
            Content::Source { page, version } => {
                1 << 62 | ((version as u64) & 0x3fff_ffff) << 32 | page as u64
            }
            Content::Written { task, seq } => 2 << 62 | (task as u64) << 32 | seq as u64,
            Content::Bytes(hash) => hash | 3 << 62,
        }
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Content::Zero => write!(f, "zeros"),
            Content::Source { page, version: 0 } => write!(f, "source page {page}"),
            Content::Source { page, version } => write!(f, "source page {page} v{version}"),
            Content::Written { task, seq } => write!(f, "store {seq} of task {task}"),
            Content::Bytes(hash) => write!(f, "bytes #{hash:016x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_round_trip_through_a_page_of_bytes() {
        for content in [
            Content::Zero,
            Content::Source { page: 7, version: 3 },
            Content::Written { task: 2, seq: 9 },
            Content::Bytes(0xdead_beef_0123_4567),
        ] {
            let mut page = [0u8; 4096];
            page[..STAMP_LEN].copy_from_slice(&content.stamp());
            assert_eq!(Content::of_bytes(&page), content);
        }
    }

    #[test]
    fn bytes_without_a_stamp_are_told_apart() {
        let mut page = [0u8; 4096];
        page[4095] = 1;
        let one = Content::of_bytes(&page);
        page[4095] = 2;
        assert!(matches!(one, Content::Bytes(_)));
        assert_ne!(one, Content::of_bytes(&page));
    }
}
