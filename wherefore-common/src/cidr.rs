//! Prefixes of the kernel's CIDR filter.

/// The data of a trie's key: an address behind its family, so that prefixes of one never hold the other's.
///
/// Held against prefixes of both families is an IPv4-mapped IPv6 address on the wire; user space enters IPv4
/// prefixes a second time, under the family 6, for that.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    /// 4 or 6.
    pub family: u32,
    /// The address as in a [`crate::FlowKey`].
    pub address: [u8; 16],
}

const _: () = assert!(size_of::<Prefix>() == 20);

/// Bits before the address.
pub const FAMILY_BITS: u32 = 32;

/// The length of a key that is one address.
#[inline(always)]
#[must_use]
pub const fn full_length() -> u32 {
    FAMILY_BITS + 128
}

/// Lists that a prefix may be in, as bits of a trie's value: of prefixes to include, held against the source.
pub const INCLUDE_SRC: u32 = 1;
/// Of prefixes to include, held against the destination.
pub const INCLUDE_DST: u32 = 2;
/// Of prefixes to exclude, held against the source.
pub const EXCLUDE_SRC: u32 = 4;
/// Of prefixes to exclude, held against the destination.
pub const EXCLUDE_DST: u32 = 8;

/// There is no filter.
pub const NONE: u32 = 0;
/// There is one, and it excludes only.
pub const EXCLUDES: u32 = 1;
/// There is one that includes: what is in none of its lists is rejected.
pub const INCLUDES: u32 = 2;

#[cfg(feature = "user")]
// SAFETY: repr(C), bytes only.
unsafe impl aya::Pod for Prefix {}
