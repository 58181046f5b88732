//! Counters kept per flow and per reason.

/// What one flow carried in one interval.
///
/// Times are nanoseconds of the clock of whoever counts: `CLOCK_MONOTONIC` in the kernel, the packet's
/// own timestamp in a capture.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowCounters {
    /// Packets as on the wire: a segmented super-frame counts as its segments.
    pub packets: u64,
    /// Bytes of the frames as on the wire, link header included, frame check sequence excluded.
    pub wire_bytes: u64,
    /// Bytes of the IP packets: IPv4 total length, or IPv6 payload length + 40 (what `NetFlow` counts).
    pub ip_bytes: u64,
    /// When the first packet was seen.
    pub first_ns: u64,
    /// When the last packet was seen.
    pub last_ns: u64,
}

impl FlowCounters {
    /// Adds what `other` counted; the times become the hull of both.
    pub fn add(&mut self, other: &Self) {
        if self.packets == 0 || (other.packets > 0 && other.first_ns < self.first_ns) {
            self.first_ns = other.first_ns;
        }
        self.last_ns = self.last_ns.max(other.last_ns);
        self.packets += other.packets;
        self.wire_bytes += other.wire_bytes;
        self.ip_bytes += other.ip_bytes;
    }
}

/// Packets and bytes without a flow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Packets as on the wire.
    pub packets: u64,
    /// Bytes of the frames as on the wire.
    pub wire_bytes: u64,
}

impl Amount {
    /// Adds what `other` counted.
    pub const fn add(&mut self, other: &Self) {
        self.packets += other.packets;
        self.wire_bytes += other.wire_bytes;
    }
}

#[cfg(feature = "user")]
// SAFETY: repr(C), only u64 fields, no padding.
unsafe impl aya::Pod for FlowCounters {}
#[cfg(feature = "user")]
// SAFETY: repr(C), only u64 fields, no padding.
unsafe impl aya::Pod for Amount {}
