//! How many different keys there were, from a few kilobytes: of the flows that found no room.
//!
//! HyperLogLog: P. Flajolet, É. Fusy, O. Gandouet, F. Meunier, "HyperLogLog: the analysis of a near-optimal
//! cardinality estimation algorithm", 2007. A register keeps the greatest rank (position of the first 1 in
//! the hash) of the keys that fall to it; standard error 1.04 / sqrt(registers).

use crate::FlowKey;

/// Bits of the hash that choose a register.
const BITS: u32 = 12;
/// Registers: a standard error of 1.6 %.
pub const REGISTERS: usize = 1 << BITS;

/// The register that a key falls to, and its rank there (1 to 53).
#[inline(always)]
#[must_use]
pub const fn place(key: &FlowKey) -> (u32, u8) {
    // Word by word with the multiplier and the shifts of MurmurHash3's finaliser (public domain): each bit of the
    // key reaches every bit, whatever the words have in common.
    let words = key.words();
    let mut h = 0;
    let mut place = 0;
    while place < words.len() {
        h = mix(h ^ words[place]);
        place += 1;
    }
    ((h >> (64 - BITS)) as u32, rank(h << BITS))
}

#[inline(always)]
const fn mix(mut h: u64) -> u64 {
    h ^= h >> 33;
    h = h.wrapping_mul(0xff51_afd7_ed55_8ccd);
    h ^= h >> 33;
    h = h.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ h >> 33
}

/// Position of the highest 1 of the upper 52 bits, from 1; 53 where there is none. In halves: the kernel's
/// machine has no such instruction.
#[inline(always)]
const fn rank(mut bits: u64) -> u8 {
    bits |= 1 << (BITS - 1);
    let mut zeros = 0;
    let mut width = 32;
    while width > 0 {
        if bits >> (64 - width) == 0 {
            zeros += width;
            bits <<= width;
        }
        width /= 2;
    }
    zeros as u8 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rank_is_the_position_of_the_first_one() {
        for bits in [u64::MAX, 1 << 63, 1 << 62, 0x0f00_0000_0000_0000, 1 << 12, 1 << 40, 12345 << 12] {
            assert_eq!(u32::from(rank(bits)), bits.leading_zeros() + 1, "{bits:x}");
        }
        assert_eq!(rank(0), 53);
    }
}
