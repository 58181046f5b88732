//! Keys of the kernel's tables.

/// Which way a packet crossed an interface.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Received by the host.
    Ingress = 0,
    /// Sent by the host.
    Egress = 1,
    /// Not known: a capture file does not say.
    Unknown = 2,
}

impl Direction {
    /// The direction of a number found in a key; anything else than 0 and 1 is unknown.
    #[must_use]
    pub const fn from_u8(value: u8) -> Self {
        match value {
            0 => Self::Ingress,
            1 => Self::Egress,
            _ => Self::Unknown,
        }
    }

    /// `ingress`, `egress` or `unknown`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
            Self::Unknown => "unknown",
        }
    }
}

/// One flow: the outermost IP layer's addresses and ports, as seen on one interface in one direction.
///
/// Aligned to 8 so that the kernel program compares and hashes it in whole words.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowKey {
    /// Source address in network order; IPv4 as `::ffff:a.b.c.d` with `family` 4.
    pub src: [u8; 16],
    /// Destination address, as `src`.
    pub dst: [u8; 16],
    /// Interface index; in a capture file the interface's number in that file.
    pub ifindex: u32,
    /// Destination port in host order; 0 where the packet has none. Before the source port, as both are one number of a
    /// packet's header turned around.
    pub dport: u16,
    /// Source port, likewise.
    pub sport: u16,
    /// IP protocol number, after IPv6 extension headers.
    pub proto: u8,
    /// 4 or 6: tells an IPv4 address from an IPv4-mapped IPv6 address on the wire.
    pub family: u8,
    /// A [`Direction`] as number.
    pub direction: u8,
    /// Always 0.
    pub pad: [u8; 5],
}

impl FlowKey {
    /// The same bytes as words of the machine.
    #[inline(always)]
    #[must_use]
    pub const fn words(&self) -> [u64; 6] {
        // SAFETY: 48 bytes without padding, as asserted below; any bytes make valid words.
        unsafe { core::mem::transmute(*self) }
    }
}

/// Where packets without a flow are counted.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnaccountedKey {
    /// Interface index, as in [`FlowKey`].
    pub ifindex: u32,
    /// A [`Direction`] as number.
    pub direction: u8,
    /// A [`crate::Reason`] as number.
    pub reason: u8,
    /// IP protocol of packets that overflowed the flow table, else 0.
    pub proto: u8,
    /// Always 0.
    pub pad: u8,
}

impl FlowKey {
    /// Where packets of this flow are counted that are in no flow. `proto` is 0 but for those that overflowed.
    #[inline(always)]
    #[must_use]
    pub const fn unaccounted(&self, reason: crate::Reason, proto: u8) -> UnaccountedKey {
        UnaccountedKey { proto, ..UnaccountedKey::new(self.ifindex, self.direction, reason as u8) }
    }

    /// The key whose [`FlowKey::words`] these are, in place.
    #[inline(always)]
    #[must_use]
    pub const fn of_words(words: &[u64; 6]) -> &Self {
        // SAFETY: 48 bytes without padding and of one alignment, as asserted below; any bytes make a valid key.
        unsafe { &*core::ptr::from_ref(words).cast() }
    }

    /// The key of [`FlowKey::words`].
    #[inline(always)]
    #[must_use]
    pub const fn from_words(words: [u64; 6]) -> Self {
        // SAFETY: 48 bytes without padding, as asserted below; any bytes make a valid key.
        unsafe { core::mem::transmute(words) }
    }
}

impl UnaccountedKey {
    /// Of an interface, [`Direction`] and [`crate::Reason`], both as numbers; without a protocol.
    #[inline(always)]
    #[must_use]
    pub const fn new(ifindex: u32, direction: u8, reason: u8) -> Self {
        Self { ifindex, direction, reason, proto: 0, pad: 0 }
    }

    /// The same bytes as one word of the machine: what a function of a kernel program may be given.
    #[inline(always)]
    #[must_use]
    pub const fn word(self) -> u64 {
        // SAFETY: 8 bytes without padding, as asserted below; any bytes make a valid number.
        unsafe { core::mem::transmute(self) }
    }

    /// The key of a [`UnaccountedKey::word`].
    #[inline(always)]
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        // SAFETY: as above.
        unsafe { core::mem::transmute(word) }
    }
}

const _: () = assert!(size_of::<FlowKey>() == 48 && align_of::<FlowKey>() == 8);
const _: () = assert!(size_of::<UnaccountedKey>() == 8);

#[cfg(feature = "user")]
// SAFETY: repr(C), integers and byte arrays only; the size assertion above shows there is no padding.
unsafe impl aya::Pod for FlowKey {}
#[cfg(feature = "user")]
// SAFETY: repr(C), integers only; the size assertion above shows there is no padding.
unsafe impl aya::Pod for UnaccountedKey {}
