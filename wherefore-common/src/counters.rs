//! Counters kept per flow and per reason.

/// What one flow carried in one interval.
///
/// Times are nanoseconds of the clock of whoever counts: the packet's own timestamp in a capture.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowCounters {
    /// Packets as on the wire: a segmented super-frame counts as its segments.
    pub packets: u64,
    /// Bytes of the frames as on the wire, link header included, frame check sequence excluded.
    pub wire_bytes: u64,
    /// Bytes of the IP packets: IPv4 total length, or IPv6 payload length + 40 (what `NetFlow` counts).
    pub ip_bytes: u64,
    /// When the first packet came.
    pub first_ns: u64,
    /// When the last packet came.
    pub last_ns: u64,
    /// Of `packets`, those that may stand for several frames on the wire, how many is not known: merged by
    /// offload, and seen where their sizes are not (libpcap, generic XDP). Their bytes are as seen.
    pub estimated: u64,
    /// Cookie of the socket that sent the first packet seen of it; 0 where there is none or nobody asked.
    pub cookie: u64,
}

impl FlowCounters {
    /// Packets and wire bytes.
    #[must_use]
    pub const fn amount(&self) -> Amount {
        Amount { packets: self.packets, wire_bytes: self.wire_bytes }
    }

    /// Adds what `other` counted; the times become the hull of both, and a cookie stays.
    pub fn add(&mut self, other: &Self) {
        if self.packets == 0 || (other.packets > 0 && other.first_ns < self.first_ns) {
            self.first_ns = other.first_ns;
        }
        self.last_ns = self.last_ns.max(other.last_ns);
        self.packets += other.packets;
        self.wire_bytes += other.wire_bytes;
        self.ip_bytes += other.ip_bytes;
        self.estimated += other.estimated;
        if self.cookie == 0 {
            self.cookie = other.cookie;
        }
    }
}

/// Bytes between wire and IP bytes of an ordinary packet: an Ethernet header.
pub const LINK: u32 = 14;

/// [`FlowCounters`] as the kernel's flow tables hold them: no more than 32 bytes, so that header, key and value of an
/// entry are two cache lines, and nothing that is the same for nearly all packets, as each atomic addition costs 6 ns.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// As in [`FlowCounters`].
    pub packets: u64,
    /// Likewise.
    pub wire_bytes: u64,
    /// Bytes between wire and IP bytes, beyond one [`LINK`] a packet (wrapping).
    pub beyond_link: u64,
    /// When the last packet came, in the low half of the number of ticks of the kernel's timer.
    pub last_tick: u32,
    /// When the first one did.
    pub first_tick: u32,
}

/// What few flows have besides, in a table of its own.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extra {
    /// As in [`FlowCounters`].
    pub estimated: u64,
    /// Likewise.
    pub cookie: u64,
}

impl Stored {
    /// The IP bytes.
    #[must_use]
    pub const fn ip_bytes(&self) -> u64 {
        let link = self.packets.wrapping_mul(LINK as u64).wrapping_add(self.beyond_link);
        self.wire_bytes.wrapping_sub(link)
    }
}

const _: () = assert!(size_of::<Stored>() == 32);

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

/// What passed an interface one way, whatever became of it, but for what is in slots of the cache: with these it is what
/// flows and unaccounted packets must add up to. One slot of a CPU's totals, told apart by generation and interface.
///
/// Aligned to a cache line, as two CPUs never write to the same.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// The interval that these counts belong to; 0: none.
    pub generation: u32,
    /// Interface index. The direction follows from the slot's number ([`crate::tables::totals_slot`]).
    pub ifindex: u32,
    /// Packets as on the wire.
    pub packets: u64,
    /// Bytes of the frames as on the wire.
    pub wire_bytes: u64,
    /// Of `packets`, those beyond what the host's stack handed over, where a super-frame is one.
    pub more_packets: u64,
    /// Of `wire_bytes`, those beyond what was handed over, where a super-frame has one header and a tag may lie outside
    /// the data (wrapping).
    pub more_bytes: u64,
    /// Of `packets`, those that a filter rejected.
    pub rejected_packets: u64,
    /// Of `wire_bytes`, theirs.
    pub rejected_bytes: u64,
    /// Always 0.
    pub pad: u64,
}

const _: () = assert!(size_of::<Totals>() == 64);

#[cfg(feature = "user")]
// SAFETY: repr(C), only u64 fields, no padding.
unsafe impl aya::Pod for FlowCounters {}
#[cfg(feature = "user")]
// SAFETY: repr(C), only u64 fields, no padding.
unsafe impl aya::Pod for Amount {}
#[cfg(feature = "user")]
// SAFETY: repr(C), integers only; the size assertion above shows there is no padding.
unsafe impl aya::Pod for Totals {}
#[cfg(feature = "user")]
// SAFETY: repr(C), integers only, no padding: two halves between whole words.
unsafe impl aya::Pod for Stored {}
#[cfg(feature = "user")]
// SAFETY: repr(C), only u64 fields, no padding.
unsafe impl aya::Pod for Extra {}
