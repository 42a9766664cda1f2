//! The page-state snapshot: what a client gets to see of the tracker. Owns the record
//! format; taking a snapshot is the machine's business.

use core::fmt;

use shims::{PageNo, PageSize};

use crate::{PageState, Tracker};

/// Installed from the source for a read.
pub const CLEAN: u8 = 1;
/// Installed for a write.
pub const DIRTY: u8 = 2;
/// A zero page, installed for a read.
pub const ZERO: u8 = 3;
/// Given up by the client and not touched since; reads as zeros.
pub const REMOVED: u8 = 4;
/// Poisoned.
pub const POISONED: u8 = 5;
/// Touched, but the kernel could not be asked whether the page is there: its address
/// space kept changing, or the client gave up a part of the page.
pub const AMBIGUOUS: u8 = 6;

/// The name of one of these states.
pub const fn name(state: u8) -> &'static str {
    match state {
        CLEAN => "clean",
        DIRTY => "dirty",
        ZERO => "zero",
        REMOVED => "removed",
        POISONED => "poisoned",
        AMBIGUOUS => "ambiguous",
        _ => "unknown",
    }
}

/// Bytes of an encoded record: the state, then the offset, little-endian.
pub const RECORD_LEN: usize = 9;

/// The state of one page that is not missing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PageRecord {
    /// One of this module's numbers.
    state: u8,
    /// The page's first byte in the image.
    offset: u64,
}

/// The states of all pages that are not missing, ascending by offset, none twice.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct PageStates {
    records: Vec<PageRecord>,
}

/// Why bytes are no [`PageStates`]. Positions count records from 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DecodeError {
    /// The last record is not whole.
    Truncated {
        /// The record.
        record: usize,
        /// How many of its bytes there are.
        bytes: usize,
    },
    /// No state has that number.
    UnknownState {
        /// The record.
        record: usize,
        /// The number.
        state: u8,
    },
    /// The offset is not above that of the record before it.
    Unordered {
        /// The record.
        record: usize,
        /// Its offset.
        offset: u64,
        /// The offset before it.
        previous: u64,
    },
}

impl PageRecord {
    /// The state's number.
    pub const fn state(self) -> u8 {
        self.state
    }

    /// The page's first byte in the image.
    pub const fn offset(self) -> u64 {
        self.offset
    }

    /// The state's name.
    pub const fn name(self) -> &'static str {
        name(self.state)
    }
}

impl PageStates {
    /// The snapshot of `tracker`, as far as pages are mapped.
    pub(crate) fn of(
        tracker: &Tracker,
        page_size: PageSize,
        mapped: impl Fn(PageNo) -> bool,
    ) -> PageStates {
        let pages = tracker.iter().filter(|(page, _)| mapped(*page));
        let records = pages.map(|(page, state)| {
            let state = match state {
                _ if tracker.is_ambiguous(page) => AMBIGUOUS,
                PageState::Clean => CLEAN,
                PageState::Dirty => DIRTY,
                PageState::Zero => ZERO,
                PageState::Removed => REMOVED,
                PageState::Poisoned => POISONED,
                PageState::Missing => unreachable!("the tracker lists no confirmed missing page"),
            };
            PageRecord { state, offset: page.index() * page_size.bytes() }
        });
        PageStates { records: records.collect() }
    }

    /// The records, ascending by offset.
    pub fn records(&self) -> &[PageRecord] {
        &self.records
    }

    /// As bytes: [`RECORD_LEN`] for each record.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.records.len() * RECORD_LEN);
        for record in &self.records {
            bytes.push(record.state);
            bytes.extend_from_slice(&record.offset.to_le_bytes());
        }
        bytes
    }

    /// From bytes.
    pub fn decode(bytes: &[u8]) -> Result<PageStates, DecodeError> {
        let mut records: Vec<PageRecord> = Vec::with_capacity(bytes.len() / RECORD_LEN);
        for (record, chunk) in bytes.chunks(RECORD_LEN).enumerate() {
            let Some((&state, offset)) = chunk.split_first() else { unreachable!() };
            let Ok(offset) = <[u8; 8]>::try_from(offset) else {
                return Err(DecodeError::Truncated { record, bytes: chunk.len() });
            };
            let offset = u64::from_le_bytes(offset);
            if !(CLEAN..=AMBIGUOUS).contains(&state) {
                return Err(DecodeError::UnknownState { record, state });
            }
            if let Some(last) = records.last()
                && last.offset >= offset
            {
                let previous = last.offset;
                return Err(DecodeError::Unordered { record, offset, previous });
            }
            records.push(PageRecord { state, offset });
        }
        Ok(PageStates { records })
    }

    /// Offsets of the pages that were touched and are there: clean, dirty, zero,
    /// poisoned. Ascending.
    pub fn faulted(&self) -> Vec<u64> {
        self.offsets(|state| matches!(state, CLEAN | DIRTY | ZERO | POISONED))
    }

    /// Offsets of the pages that the client gave up and did not touch since. Ascending.
    pub fn removed(&self) -> Vec<u64> {
        self.offsets(|state| state == REMOVED)
    }

    /// Offsets of the pages of which neither is certain. Ascending.
    pub fn ambiguous(&self) -> Vec<u64> {
        self.offsets(|state| state == AMBIGUOUS)
    }

    /// Offsets of every page that is not missing. Ascending.
    pub fn all_accessed(&self) -> Vec<u64> {
        self.offsets(|_| true)
    }

    fn offsets(&self, want: impl Fn(u8) -> bool) -> Vec<u64> {
        self.records.iter().filter(|r| want(r.state)).map(|r| r.offset).collect()
    }
}

impl fmt::Display for PageStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for record in &self.records {
            writeln!(f, "{:#x} {}", record.offset, record.name())?;
        }
        Ok(())
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Truncated { record, bytes } => {
                write!(f, "record {record} has {bytes} of its {RECORD_LEN} bytes")
            }
            DecodeError::UnknownState { record, state } => {
                write!(f, "record {record}: no page state has number {state}")
            }
            DecodeError::Unordered { record, offset, previous } => write!(
                f,
                "record {record}: its offset {offset:#x} is not above {previous:#x}, the one before"
            ),
        }
    }
}

impl core::error::Error for DecodeError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(list: &[(u8, u64)]) -> PageStates {
        let records = list.iter().map(|&(state, offset)| PageRecord { state, offset }).collect();
        PageStates { records }
    }

    #[test]
    fn records_are_nine_bytes_and_round_trip() {
        let all = states(&[(CLEAN, 0), (REMOVED, 0x1000), (AMBIGUOUS, 0x1_0000_0000_0000)]);
        let bytes = all.encode();
        assert_eq!(bytes.len(), 27);
        assert_eq!(bytes[9..18], [REMOVED, 0, 0x10, 0, 0, 0, 0, 0, 0]);
        assert_eq!(PageStates::decode(&bytes), Ok(all));
        assert_eq!(PageStates::decode(&[]), Ok(PageStates::default()));
    }

    #[test]
    fn bytes_that_are_no_snapshot_are_refused_by_record() {
        let good = states(&[(CLEAN, 0x1000), (DIRTY, 0x2000)]).encode();
        let decode = PageStates::decode;
        assert_eq!(decode(&good[..17]), Err(DecodeError::Truncated { record: 1, bytes: 8 }));
        let mut bad = good.clone();
        bad[9] = 0;
        assert_eq!(decode(&bad), Err(DecodeError::UnknownState { record: 1, state: 0 }));
        bad[9] = 7;
        assert_eq!(decode(&bad), Err(DecodeError::UnknownState { record: 1, state: 7 }));
        let twice = [&good[..9], &good[..9]].concat();
        let error = DecodeError::Unordered { record: 1, offset: 0x1000, previous: 0x1000 };
        assert_eq!(decode(&twice), Err(error));
    }

    #[test]
    fn lists_are_sorted_and_disjoint_and_together_complete() {
        let all = states(&[
            (CLEAN, 0),
            (REMOVED, 1),
            (ZERO, 2),
            (DIRTY, 3),
            (AMBIGUOUS, 4),
            (POISONED, 5),
        ]);
        assert_eq!(all.faulted(), [0, 2, 3, 5]);
        assert_eq!(all.removed(), [1]);
        assert_eq!(all.ambiguous(), [4]);
        assert_eq!(all.all_accessed(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(all.to_string().lines().nth(1), Some("0x1 removed"));
    }
}
