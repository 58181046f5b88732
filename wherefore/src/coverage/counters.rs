//! What a device says of itself, and what it adds from one reading to the next.

use wherefore_common::Amount;

/// A device's counters in one direction, at one time. They grow, but for a reset or another device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets and bytes, in the device's own unit.
    pub passed: Amount,
    /// Packets the device or the stack dropped.
    pub dropped: u64,
    /// At egress: what its queueing discipline dropped; `None` where there is none.
    pub queue: Option<Queue>,
}

/// A queueing discipline's count of dropped packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// Its handle: another one is another discipline, which counts from 0.
    pub handle: u32,
    /// Packets dropped, in 32 bits that wrap.
    pub dropped: u32,
}

impl Counters {
    /// What was added since `earlier`: packets and bytes, and dropped packets. `None` where a count went back, so
    /// that nothing can be said.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Option<(Amount, u64)> {
        let passed = Amount {
            packets: self.passed.packets.checked_sub(earlier.passed.packets)?,
            wire_bytes: self.passed.wire_bytes.checked_sub(earlier.passed.wire_bytes)?,
        };
        let queued = match (self.queue, earlier.queue) {
            (Some(now), Some(before)) if now.handle == before.handle => {
                // Less than half of the range ahead: it grew, and may have wrapped. Else it began anew.
                let grown = now.dropped.wrapping_sub(before.dropped);
                if grown <= u32::MAX / 2 { grown } else { now.dropped }
            }
            (Some(now), _) => now.dropped,
            (None, _) => 0,
        };
        Some((passed, self.dropped.checked_sub(earlier.dropped)? + u64::from(queued)))
    }
}
