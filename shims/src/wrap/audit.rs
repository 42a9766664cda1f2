//! A hash over everything that passed. Owns the digest, which is the same on every
//! machine, in every build and with every compiler.

use core::fmt::{self, Write};
use std::sync::Mutex;

use super::lock;
use super::{Entry, Observer};

/// A running 64-bit FNV-1a hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fnv(u64);

impl Fnv {
    const PRIME: u64 = 0x0000_0100_0000_01b3;

    /// The hash of nothing.
    pub const fn new() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    /// The hash so far.
    pub const fn value(self) -> u64 {
        self.0
    }

    /// Add `bytes`, one by one as FNV-1a defines it.
    pub fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(Fnv::PRIME);
        }
    }

    /// The digest of a page's bytes: as FNV-1a, but in steps of eight bytes,
    /// little-endian, each followed by folding the upper half into the lower, and of one
    /// byte for the rest. The fold is what carries a difference in a word's last byte
    /// into all others: multiplication only carries upwards.
    pub fn of(bytes: &[u8]) -> u64 {
        let mut hash = Fnv::new();
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            hash.0 = (hash.0 ^ u64::from_le_bytes(*word)).wrapping_mul(Fnv::PRIME);
            hash.0 ^= hash.0 >> 32;
        }
        hash.update(rest);
        hash.value()
    }
}

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv::new()
    }
}

impl Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.update(text.as_bytes());
        Ok(())
    }
}

/// An [`Observer`] that hashes each entry's line of text. Two runs with one hash made the
/// same calls with the same bytes and got the same answers.
#[derive(Debug, Default)]
pub struct Audit {
    hash: Mutex<Fnv>,
}

impl Audit {
    /// Nothing has passed.
    pub const fn new() -> Audit {
        Audit { hash: Mutex::new(Fnv::new()) }
    }

    /// The hash of everything so far.
    pub fn value(&self) -> u64 {
        lock(&self.hash).value()
    }
}

impl Observer for Audit {
    const DIGESTS: bool = true;

    fn observe(&self, entry: Entry) {
        writeln!(lock(&self.hash), "{entry}").expect("hashing text cannot fail");
    }
}
