//! States by their fingerprint: 128 bits of a state's hash, and the table of those that were
//! seen. Owns the hash and the table; what a state is, its `Hash` says.
//!
//! Two states with one fingerprint would be taken for one. Among `n` states that happens with
//! a probability of about `n^2 / 2^129`: for a thousand million of them, 10^-21.

use core::hash::{Hash, Hasher};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// A fingerprint, and the hasher that makes it: two multiplicative hashes side by side.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Fingerprint {
    high: u64,
    low: u64,
}

impl Fingerprint {
    /// The fingerprint of `state`.
    pub fn of(state: &impl Hash) -> Fingerprint {
        let mut print = Fingerprint::begin();
        state.hash(&mut print);
        print.end()
    }

    /// A hasher that has seen nothing.
    pub const fn begin() -> Fingerprint {
        Fingerprint { high: 0x6a09_e667_f3bc_c908, low: 0xbb67_ae85_84ca_a73b }
    }

    /// The fingerprint of all that it has seen.
    #[must_use]
    pub const fn end(self) -> Fingerprint {
        let mut print = self;
        print.high = avalanche(print.high ^ print.low.rotate_left(32));
        print.low = avalanche(print.low);
        print
    }
}

const fn avalanche(mut x: u64) -> u64 {
    x = (x ^ (x >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x = (x ^ (x >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

/// Integers of any width are folded as one word; strings and byte slices word by word with
/// their length behind them.
impl Hasher for Fingerprint {
    fn finish(&self) -> u64 {
        self.low
    }
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
        self.write_u64(bytes.len() as u64);
    }
    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.high = (self.high ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        self.low = self.low.wrapping_add(word).wrapping_mul(0xd1b5_4a32_d192_ed03).rotate_left(31);
    }
    #[inline]
    fn write_u8(&mut self, i: u8) {
        self.write_u64(u64::from(i));
    }
    #[inline]
    fn write_u16(&mut self, i: u16) {
        self.write_u64(u64::from(i));
    }
    #[inline]
    fn write_u32(&mut self, i: u32) {
        self.write_u64(u64::from(i));
    }
    #[inline]
    fn write_usize(&mut self, i: usize) {
        self.write_u64(i as u64);
    }
    #[inline]
    fn write_i32(&mut self, i: i32) {
        self.write_u64(i as u32 as u64);
    }
    #[inline]
    fn write_i64(&mut self, i: i64) {
        self.write_u64(i as u64);
    }
    #[inline]
    fn write_isize(&mut self, i: isize) {
        self.write_u64(i as i64 as u64);
    }
}

/// The states that were seen, each with the set of actors whose steps were left out there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    table: HashTable<(Fingerprint, u64)>,
}

/// What is known of a state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Visit {
    /// Nothing: it is seen for the first time.
    First,
    /// It was seen, with these actors left out.
    Again(u64),
}

impl Seen {
    /// How many states there are.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// The number that was given with `state` first; `number` if that is now.
    pub(crate) fn first(&mut self, state: Fingerprint, number: u64) -> u64 {
        let same = |(other, _): &(Fingerprint, u64)| *other == state;
        let entry = self.table.entry(state.low, same, |(other, _)| other.low);
        entry.or_insert((state, number)).get().1
    }

    /// Was `state` visited?
    pub(crate) fn knows(&self, state: Fingerprint) -> bool {
        self.table.find(state.low, |(other, _)| *other == state).is_some()
    }

    /// Visit a state in which the actors in `left_out` need not move. From now on those are
    /// left out there that were in every visit.
    pub(crate) fn visit(&mut self, state: Fingerprint, left_out: u64) -> Visit {
        let entry =
            self.table.entry(state.low, |(other, _)| *other == state, |(other, _)| other.low);
        match entry {
            Entry::Vacant(place) => {
                place.insert((state, left_out));
                Visit::First
            }
            Entry::Occupied(mut place) => {
                let (_, stored) = place.get_mut();
                let before = *stored;
                *stored &= left_out;
                Visit::Again(before)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_never_changes_and_tells_orders_apart() {
        let print = Fingerprint::of(&(1u32, "two", [3u8, 4]));
        assert_eq!(
            (print.high, print.low),
            (16_360_243_012_962_093_561, 3_491_358_470_949_701_224)
        );
        let all: std::collections::BTreeSet<_> =
            (0..100_000u64).map(|n| Fingerprint::of(&(n % 317, n / 317))).collect();
        assert_eq!(all.len(), 100_000);
    }

    #[test]
    fn what_was_left_out_once_is_left_out_until_a_visit_wants_it() {
        let mut seen = Seen::default();
        let state = Fingerprint::of(&1);
        assert_eq!(seen.visit(state, 0b110), Visit::First);
        assert_eq!(seen.visit(state, 0b011), Visit::Again(0b110));
        assert_eq!(seen.visit(state, 0b111), Visit::Again(0b010));
        assert_eq!(seen.len(), 1);
    }
}
