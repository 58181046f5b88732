//! Sizes of the kernel's tables, and the places in them, that both sides must agree on.

/// Entries of the table of packets without a flow: interfaces x directions x reasons, and protocols
/// where the flow table is full. 4,096 hold four interfaces that each overflow in all 256 protocols,
/// both directions and both ways; what finds no room goes to the fallback.
pub const UNACCOUNTED_ENTRIES: usize = 4096;

/// Reasons a fallback slot is told apart by; more than there are.
pub const FALLBACK_REASONS: u32 = 16;

/// Slots of the fallback: sets x directions x reasons.
pub const FALLBACK_SLOTS: usize = 2 * 2 * FALLBACK_REASONS as usize;

/// The fallback slot of a set (0 or 1), a [`crate::Direction`] and a [`crate::Reason`], both as numbers.
#[inline(always)]
#[must_use]
pub const fn fallback_slot(generation: u32, direction: u8, reason: u8) -> u32 {
    ((generation & 1) * 2 + (direction as u32 & 1)) * FALLBACK_REASONS
        + (reason as u32 & (FALLBACK_REASONS - 1))
}

/// Slots of a CPU's totals, in each set. Interfaces whose numbers fall to one slot at the same time count in
/// [`OtherKind::Seen`] and [`OtherKind::Total`] instead, all but the first.
pub const TOTALS_SLOTS: u32 = 64;

/// The slot of an interface and [`crate::Direction`] in the totals of a CPU and set. Its lowest bit is the
/// direction.
#[inline(always)]
#[must_use]
pub const fn totals_slot(part: u32, ifindex: u32, direction: u8) -> u32 {
    part * TOTALS_SLOTS + ((ifindex << 1 | (direction as u32 & 1)) & (TOTALS_SLOTS - 1))
}

/// The part of a table, of equal parts, that belongs to a CPU and set.
#[inline(always)]
#[must_use]
pub const fn part(cpu: u32, generation: u32) -> u32 {
    cpu << 1 | (generation & 1)
}

/// Places of a table that are looked through in the time that one key takes to be taken out.
pub const PLACES_A_KEY: u32 = 1024;

/// Keys that each part of the journal holds, for tables of so many flows: no more are ever taken out one by one.
#[must_use]
pub fn journal_slots(table_size: u32) -> u32 {
    (table_size / PLACES_A_KEY).clamp(1, 1024)
}

/// Where the lengths of the journal's parts begin. Before them is one for each set whose keys are in no part: more than
/// there can be.
pub const JOURNAL_WHOLE: u32 = 2;

/// The length of a part of the journal.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    /// The interval that it belongs to.
    pub generation: u32,
    /// Keys that were to be noted, be there room for them or not.
    pub keys: u32,
}

#[cfg(feature = "user")]
// SAFETY: repr(C), two integers of one size.
unsafe impl aya::Pod for Noted {}

/// What the table of packets without a flow holds besides [`crate::Reason`]s, under numbers beyond theirs.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherKind {
    /// Packets and bytes as handed over, of an interface without a slot in the totals.
    Seen = 14,
    /// Packets and wire bytes, likewise.
    Total = 15,
}

const _: () = assert!(crate::Reason::ALL.len() <= OtherKind::Seen as usize);
