//! The write-combining cache in front of the flow table: one part per CPU, so that nothing in it is atomic.
//!
//! A flow has two places, side by side. A packet of a flow that holds one of them adds to it and is done. A packet
//! that finds both held by others goes to the flow table itself, and counts as a strike against its first place:
//! who is struck [`STRIKES`] times without a packet of its own in between, is written to the table and gives way.
//! So the flows that send the most keep their slots, and a thousand that send little do not push each other out.
//!
//! Slots carry the generation they count for, so one from an earlier interval, which user space has read, is as
//! good as empty: nothing ever needs clearing.

use crate::{FlowCounters, FlowKey};

/// Strikes that end a flow's hold on a slot.
pub const STRIKES: u16 = 4;

/// One slot: two cache lines, the first of which holds what a packet of another flow looks at.
///
/// Times are kept in ticks of the kernel's timer: to read a clock costs a packet 15 ns, the number of ticks none.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// Whose counts these are.
    pub key: FlowKey,
    /// The interval that they belong to; 0: none.
    pub generation: u32,
    /// Packets of other flows since the last of this one that came between two of them.
    pub strikes: u16,
    /// The low bits of `packets` when the last of them came.
    pub mark: u16,
    /// As in [`FlowCounters`], since the flow took the slot.
    pub packets: u64,
    /// Likewise.
    pub wire_bytes: u64,
    /// Likewise.
    pub ip_bytes: u64,
    /// Ticks when the last packet came.
    pub last_tick: u64,
    /// Ticks when the flow took the slot.
    pub first_tick: u64,
    /// As in [`FlowCounters`].
    pub estimated: u64,
    /// Likewise.
    pub cookie: u64,
    /// 1 where a CIDR filter rejects the flow: the counts belong to no flow.
    pub rejected: u64,
    /// Always 0.
    pub pad: u64,
}

impl Slot {
    /// What it counted, in [`FlowCounters`] of ticks.
    #[inline(always)]
    #[must_use]
    pub const fn counters(&self) -> FlowCounters {
        FlowCounters {
            packets: self.packets,
            wire_bytes: self.wire_bytes,
            ip_bytes: self.ip_bytes,
            first_ns: self.first_tick,
            last_ns: self.last_tick,
            estimated: self.estimated,
            cookie: self.cookie,
        }
    }

    /// Counts the packet of another flow that came to this slot; true: the slot is that one's now.
    #[inline(always)]
    pub const fn strike(&mut self) -> bool {
        if self.packets as u16 != self.mark {
            self.mark = self.packets as u16;
            self.strikes = 0;
        }
        self.strikes += 1;
        self.strikes >= STRIKES
    }
}

const _: () = assert!(size_of::<Slot>() == 128);

#[cfg(feature = "user")]
// SAFETY: repr(C), integers and byte arrays only; the size assertion above shows there is no padding.
unsafe impl aya::Pod for Slot {}

/// Odd numbers without a pattern: the first 64 bits of the fractional parts of the square roots of 2, 3, 5, 7,
/// 11 and 13, made odd (FIPS 180-4, 5.3.5 lists them).
const MULTIPLIERS: [u64; 6] = [
    0x6a09_e667_f3bc_c909,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
];

/// A number to choose a slot by, from the words of a key: its highest bits depend on every bit of it. Multilinear; whoever aims at
/// one slot only makes the cache useless for those flows.
#[inline(always)]
#[must_use]
pub const fn hash(words: &[u64; 6]) -> u64 {
    words[0]
        .wrapping_mul(MULTIPLIERS[0])
        .wrapping_add(words[1].wrapping_mul(MULTIPLIERS[1]))
        .wrapping_add(words[2].wrapping_mul(MULTIPLIERS[2]))
        .wrapping_add(words[3].wrapping_mul(MULTIPLIERS[3]))
        .wrapping_add(words[4].wrapping_mul(MULTIPLIERS[4]))
        .wrapping_add(words[5].wrapping_mul(MULTIPLIERS[5]))
}
