//! The write-combining cache in front of the flow table: one part per CPU, so that nothing in it is atomic.
//!
//! A flow has two places, side by side. A packet of a flow that holds one of them adds to it and is done. A packet
//! that finds both held by others goes to the flow table itself, and counts as a strike against its first place:
//! who is struck [`STRIKES`] times without a packet of its own in between, is written to the table and gives way to the
//! next that finds room there.
//! So the flows that send the most keep their slots, and a thousand that send little do not push each other out.
//!
//! The packet with which a flow takes a slot goes to the table, and without room there the flow gets no slot. So every
//! flow of a slot is in the table: what the slot counts finds room there later, and the flow's packets on other CPUs
//! find the flow.
//!
//! Where hardly a packet finds its flow in the cache (a scan, a flood), looking there first only costs: then most packets
//! ask the table first, and one in [`PROBE`] the cache.
//!
//! Slots carry the generation they count for, so one from an earlier interval, which user space has read, is as
//! good as empty: nothing ever needs clearing.

use crate::{Extra, Stored};

/// Strikes that end a flow's hold on a slot.
pub const STRIKES: u32 = 16;

/// Pressure beyond which packets ask the table first.
const PRESSURE: u32 = 64;
/// The most pressure there can be.
pub const PRESSURE_MOST: u32 = 128;
/// What a packet that finds its flow takes from the pressure, where one that does not adds 1: below one in four, the
/// cache is left alone.
const RELIEF: u32 = 3;
/// One packet in so many, a power of two, asks the cache first all the same.
pub const PROBE: u32 = 16;

/// How little the cache of a CPU helps at the moment: grows with packets whose flow had no slot and could get none,
/// falls with those that had one.
///
/// Aligned to a cache line, so that two CPUs do not write to the same.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
pub struct Pressure {
    level: u32,
    /// Packets that came while there was too much of it.
    turn: u32,
}

impl Pressure {
    /// None.
    pub const NONE: Self = Self { level: 0, turn: 0 };

    /// Whether the next packet asks the table first, because hardly one finds its flow in the cache.
    #[inline(always)]
    pub const fn past(&mut self) -> bool {
        if self.level <= PRESSURE {
            return false;
        }
        self.turn = self.turn.wrapping_add(1);
        self.turn & (PROBE - 1) != 0
    }

    /// A packet found its flow.
    #[inline(always)]
    pub const fn relieve(&mut self) {
        if self.level != 0 {
            self.level = self.level.saturating_sub(RELIEF);
        }
    }

    /// A packet found other flows in both places.
    #[inline(always)]
    pub const fn press(&mut self) {
        if self.level < PRESSURE_MOST {
            self.level += 1;
        }
    }
}

/// One slot: the cache line that a packet of its flow touches. What most packets leave alone is in [`Aside`], so that the
/// slots lie close together: twice as far apart they were in half of a processor cache's sets, and on twice the pages (a
/// thousand flows: 65 ns a packet instead of 58, where the pages lay badly).
///
/// Times are kept in ticks of the kernel's timer: to read a clock costs a packet 15 ns, the number of ticks none.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// Whose counts these are, and the interval that they belong to: the words of the key, the last one its [`tail`]; 0:
    /// none.
    pub head: [u64; 6],
    /// Packets since the flow took the slot, in the low [`STRIKE_SHIFT`] bits; above them packets of other flows
    /// since the last of this one.
    pub packets_strikes: u32,
    /// The low half of the number of ticks when the last packet came.
    pub last_tick: u32,
    /// As in [`Stored`].
    pub wire_bytes: u64,
}

/// What belongs to a slot besides.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aside {
    /// As in [`Stored`]: 0 for nearly all flows.
    pub beyond_link: u64,
    /// As in [`crate::Totals`]: 0 for all that is neither segmented nor tagged by the device.
    pub more_bytes: u64,
    /// Likewise.
    pub more_packets: u32,
    /// As in [`crate::FlowCounters`].
    pub estimated: u32,
    /// The low half of the number of ticks when the flow took the slot.
    pub first_tick: u32,
    /// [`REJECTED`], or 0.
    pub flags: u32,
}

/// A CIDR filter rejects the flow: the counts belong to no flow.
pub const REJECTED: u32 = 1;

/// Where the strikes begin in [`Slot::packets_strikes`].
pub const STRIKE_SHIFT: u32 = 24;
const PACKETS: u32 = (1 << STRIKE_SHIFT) - 1;
/// With so many packets a slot takes no more of its flow: its counts must go to the table. A packet stands for less
/// than this many on the wire.
pub const FULL: u32 = 1 << (STRIKE_SHIFT - 1);

/// The last word of the [`Slot::head`] of the flow `key`: the key's own with the generation in the high half, which is 0
/// in a key.
#[inline(always)]
#[must_use]
pub const fn tail(key: &[u64; 6], generation: u32) -> u64 {
    key[5] | (generation as u64) << 32
}

impl Slot {
    /// The slot of a flow that took it in tick `first`, with a packet that is counted elsewhere.
    #[inline(always)]
    #[must_use]
    pub const fn new(key: &[u64; 6], tail: u64, first: u32) -> Self {
        Self {
            head: [key[0], key[1], key[2], key[3], key[4], tail],
            packets_strikes: 0,
            last_tick: first,
            wire_bytes: 0,
        }
    }

    /// The interval that the counts belong to.
    #[inline(always)]
    #[must_use]
    pub const fn generation(&self) -> u32 {
        (self.head[5] >> 32) as u32
    }

    /// Words of the flow's key.
    #[inline(always)]
    #[must_use]
    pub const fn key(&self) -> [u64; 6] {
        let [a, b, c, d, e, last] = self.head;
        [a, b, c, d, e, last & 0xffff_ffff]
    }

    /// What it counted.
    #[inline(always)]
    #[must_use]
    pub const fn stored(&self, aside: &Aside) -> Stored {
        Stored {
            packets: self.packets() as u64,
            wire_bytes: self.wire_bytes,
            beyond_link: aside.beyond_link,
            last_tick: self.last_tick,
            first_tick: aside.first_tick,
        }
    }

    /// Packets since the flow took the slot.
    #[inline(always)]
    #[must_use]
    pub const fn packets(&self) -> u32 {
        self.packets_strikes & PACKETS
    }

    /// Counts packets of the slot's flow, which are the end of all strikes.
    #[inline(always)]
    pub const fn add_packets(&mut self, packets: u32) {
        self.packets_strikes = self.packets() + packets;
    }

    /// Counts the packet of another flow that came to this slot; true: the slot is that one's now, if there is room for it
    /// in the table.
    #[inline(always)]
    pub const fn strike(&mut self) -> bool {
        if self.packets_strikes >> STRIKE_SHIFT < STRIKES {
            self.packets_strikes += 1 << STRIKE_SHIFT;
        }
        self.packets_strikes >> STRIKE_SHIFT >= STRIKES
    }
}

impl Aside {
    /// What few flows have. A cookie goes to the table with the flow's first packet.
    #[inline(always)]
    #[must_use]
    pub const fn extra(&self) -> Extra {
        Extra { estimated: self.estimated as u64, cookie: 0 }
    }
}

const _: () = assert!(size_of::<Slot>() == 64 && size_of::<Aside>() == 32);

#[cfg(feature = "user")]
// SAFETY: repr(C), integers only; the size assertion above shows there is no padding.
unsafe impl aya::Pod for Slot {}
#[cfg(feature = "user")]
// SAFETY: as above.
unsafe impl aya::Pod for Aside {}

/// Odd numbers without a pattern: the first 64 bits of the fractional parts of the square roots of 3, 2, 5, 7, 11
/// and 13, made odd (FIPS 180-4, 5.3.5 lists them). In this order those of source and destination leave the same
/// remainder by 4, so that addresses that differ in step lose one bit and no more.
const MULTIPLIERS: [u64; 6] = [
    0xbb67_ae85_84ca_a73b,
    0x6a09_e667_f3bc_c909,
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
    let [a, b, c, d, e, f] = *words;
    hash_with(hash_addresses(&[a, b, c, d]), [e, f])
}

/// The part of [`hash`] that the addresses, a key's first words, are in: known early, and of IPv4 addresses with half the
/// work, as the compiler knows what two of their words are.
#[inline(always)]
#[must_use]
pub const fn hash_addresses(words: &[u64; 4]) -> u64 {
    words[0]
        .wrapping_mul(MULTIPLIERS[0])
        .wrapping_add(words[1].wrapping_mul(MULTIPLIERS[1]))
        .wrapping_add(words[2].wrapping_mul(MULTIPLIERS[2]))
        .wrapping_add(words[3].wrapping_mul(MULTIPLIERS[3]))
}

/// The [`hash`] of addresses with these other words of a key.
#[inline(always)]
#[must_use]
pub const fn hash_with(addresses: u64, words: [u64; 2]) -> u64 {
    addresses
        .wrapping_add(words[0].wrapping_mul(MULTIPLIERS[4]))
        .wrapping_add(words[1].wrapping_mul(MULTIPLIERS[5]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_hardly_a_packet_finds_its_flow_one_in_some_asks_the_cache() {
        let mut pressure = Pressure::NONE;
        // One in four finds its flow: as much relief as pressure.
        for _ in 0..10_000 {
            (0..3).for_each(|_| pressure.press());
            pressure.relieve();
            assert!(!pressure.past());
        }
        // One in five does not do.
        for _ in 0..10_000 {
            (0..4).for_each(|_| pressure.press());
            pressure.relieve();
        }
        let asked = (0..16_000).filter(|_| !pressure.past()).count();
        assert_eq!(asked, 1000);
        // Where these find their flows, all ask it again soon.
        let probes = (0..10_000).take_while(|_| {
            if !pressure.past() {
                pressure.relieve();
            }
            pressure.past()
        });
        assert!(probes.count() < 500);
    }

    #[test]
    fn a_slot_gives_back_what_went_in() {
        let key = [1, 2, 3, 4, 5, 0x0004_0611];
        let mut slot =
            Slot { head: [1, 2, 3, 4, 5, tail(&key, 7)], packets_strikes: 3, last_tick: 2, wire_bytes: 300 };
        // A padded frame, and two without a link header.
        let beyond_link = 6_u64.wrapping_sub(28);
        let aside = Aside { first_tick: 0xffff_fffe, beyond_link, ..Aside::default() };
        assert_eq!((slot.key(), slot.generation()), (key, 7));
        let stored = slot.stored(&aside);
        assert_eq!((stored.packets, stored.wire_bytes), (3, 300));
        assert_eq!(stored.ip_bytes(), 300 - 3 * 14 - 6 + 28);
        assert_eq!((stored.first_tick, stored.last_tick), (0xffff_fffe, 2));
        // All strikes but the last are survived, and a packet in between forgives them.
        assert!(!(1..STRIKES).any(|_| slot.strike()));
        slot.add_packets(1);
        assert!(!(1..STRIKES).any(|_| slot.strike()));
        // Whom the table takes no more leaves the slot as it is, however many come.
        assert!((0..1000).all(|_| slot.strike()));
        assert_eq!(slot.packets(), 4);
    }
}
