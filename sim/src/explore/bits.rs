//! Sets of actors as words, a bit each. Owns how a choice is found in one: a search does that at
//! every step, and no processor foresees what comes of it, so nothing branches on it.

/// Most sets are as small as that; what is chosen in them is looked up.
const SMALL: u32 = 8;

/// For each small set and each `n`, its `n`-th member.
static NTH: [[u8; SMALL as usize]; 1 << SMALL] = {
    let mut nth = [[0; SMALL as usize]; 1 << SMALL];
    let mut mask = 0;
    while mask < nth.len() {
        let (mut n, mut bit) = (0, 0);
        while bit < SMALL as u8 {
            if mask >> bit & 1 == 1 {
                nth[mask][n] = bit;
                n += 1;
            }
            bit += 1;
        }
        mask += 1;
    }
    nth
};

/// For each small set the number of its members.
static COUNT: [u8; 1 << SMALL] = {
    let mut count = [0; 1 << SMALL];
    let mut mask = 0;
    while mask < count.len() {
        count[mask] = mask.count_ones() as u8;
        mask += 1;
    }
    count
};

/// The position of the `n`-th set bit of `mask`, counted from 0.
#[inline]
pub(crate) fn nth_set_bit(mut mask: u64, n: u32) -> usize {
    debug_assert!(n < mask.count_ones(), "{mask:#b} has no bit {n}");
    if let (Some(nth), true) = (NTH.get(mask as usize), n < SMALL) {
        return usize::from(nth[n as usize]);
    }
    for _ in 0..n {
        mask &= mask - 1;
    }
    mask.trailing_zeros() as usize
}

/// How many bits of `mask` are set.
#[inline]
pub(super) fn count(mask: u64) -> u32 {
    // The processors this is built for need not have an instruction for it.
    match COUNT.get(mask as usize) {
        Some(count) => u32::from(*count),
        None => mask.count_ones(),
    }
}

/// The positions of the set bits of `mask`, ascending.
pub(crate) fn bits(mut mask: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let bit = mask.trailing_zeros() as usize;
        (mask != 0).then(|| {
            mask &= mask - 1;
            bit
        })
    })
}

/// One more than the highest actor there is or can move.
#[inline]
pub(super) fn reach(actors: usize, enabled: u64) -> usize {
    actors.max((u64::BITS - enabled.leading_zeros()) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nth_bit_is_the_nth_of_the_bits() {
        let wide = [1 << 8, 0x101, 0x1ff, u64::MAX, 1 << 63 | 1, 0b1001 << 40];
        for mask in (0..600).chain(wide) {
            assert_eq!(count(mask), mask.count_ones(), "{mask:#b}");
            for (n, bit) in bits(mask).enumerate() {
                assert_eq!(nth_set_bit(mask, n as u32), bit, "{n} of {mask:#b}");
            }
        }
    }
}
