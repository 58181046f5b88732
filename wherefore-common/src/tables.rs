//! Sizes of the kernel's tables that both sides must agree on.

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

const _: () = assert!(crate::Reason::ALL.len() <= FALLBACK_REASONS as usize);
