//! One interval of traffic as a value: what every backend hands over and everything after it reads.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use wherefore_common::{Amount, Direction, FlowCounters, FlowKey, Reason, UnaccountedKey};

use crate::time::Timestamp;

/// One flow of an interval. Times in `counters` are nanoseconds since 1970, whatever the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Whose packets.
    pub key: FlowKey,
    /// How many.
    pub counters: FlowCounters,
    /// Belongs to the agent's own connections, and so never alerts.
    pub own: bool,
}

impl Flow {
    /// Source address.
    #[must_use]
    pub fn src(&self) -> IpAddr {
        address(self.key.src, self.key.family)
    }

    /// Destination address.
    #[must_use]
    pub fn dst(&self) -> IpAddr {
        address(self.key.dst, self.key.family)
    }

    /// Which way it crossed the interface.
    #[must_use]
    pub const fn direction(&self) -> Direction {
        Direction::from_u8(self.key.direction)
    }
}

/// An address of a key as the standard library's type: an IPv4-mapped IPv6 address on the wire stays IPv6.
#[must_use]
pub fn address(bytes: [u8; 16], family: u8) -> IpAddr {
    if family == 4 {
        IpAddr::V4(Ipv4Addr::new(bytes[12], bytes[13], bytes[14], bytes[15]))
    } else {
        IpAddr::V6(Ipv6Addr::from(bytes))
    }
}

/// All that passed an interface one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Packets and bytes as the host's stack handed them over: a super-frame is one packet.
    pub seen: Amount,
    /// The same as on the wire.
    pub all: Amount,
}

impl Passed {
    /// Adds what `other` counted.
    pub const fn add(&mut self, other: &Self) {
        self.seen.add(&other.seen);
        self.all.add(&other.all);
    }
}

/// One interval.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// When the interval began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// Its measured length (by a monotonic clock on a live host); volumes are normalised by it.
    pub length: Duration,
    /// Whole intervals without any packet just before this one, of which no snapshot was made.
    pub skipped: u64,
    /// False where the interval was cut short: the first of a live host, the last of a capture.
    pub complete: bool,
    /// Names of the interfaces seen in the keys.
    pub interfaces: BTreeMap<u32, String>,
    /// The flows, in no particular order; each key once.
    pub flows: Vec<Flow>,
    /// Packets without a flow, by interface, direction, reason and (for a full table) protocol.
    pub unaccounted: BTreeMap<UnaccountedKey, Amount>,
    /// All that passed by interface and [`Direction`] (as number), counted apart from flows and `unaccounted`,
    /// which add up to it. Empty where the backend keeps no such count.
    pub passed: BTreeMap<(u32, u8), Passed>,
    /// How many different flows found no room in the table: an estimate with a standard error of 1.6 %.
    pub lost_flows: u64,
    /// Packets whose timestamp lay before the interval; they are counted in it all the same.
    pub late: Amount,
    /// Packets the capture lost before they could be counted (libpcap's own figure; 0 with eBPF).
    pub dropped: u64,
}

impl Snapshot {
    /// Adds packets without a flow.
    pub fn add_unaccounted(&mut self, key: UnaccountedKey, amount: Amount) {
        self.unaccounted.entry(key).or_default().add(&amount);
    }

    /// Name of an interface in a key; `#3` where the backend gave none.
    #[must_use]
    pub fn interface_name(&self, ifindex: u32) -> Cow<'_, str> {
        match self.interfaces.get(&ifindex) {
            Some(name) => Cow::Borrowed(name),
            None => Cow::Owned(format!("#{ifindex}")),
        }
    }

    /// Everything counted, in flows or not.
    #[must_use]
    pub fn total(&self) -> Amount {
        let mut total = Amount::default();
        for flow in &self.flows {
            total.add(&Amount { packets: flow.counters.packets, wire_bytes: flow.counters.wire_bytes });
        }
        for amount in self.unaccounted.values() {
            total.add(amount);
        }
        total
    }

    /// Packets that may stand for several on the wire, by interface and [`Direction`] as number; where there is none,
    /// nothing.
    #[must_use]
    pub fn estimated(&self) -> BTreeMap<(u32, u8), u64> {
        let mut sums = BTreeMap::new();
        for flow in self.flows.iter().filter(|flow| flow.counters.estimated > 0) {
            *sums.entry((flow.key.ifindex, flow.key.direction)).or_default() += flow.counters.estimated;
        }
        sums
    }

    /// Packets without a flow, summed by reason.
    #[must_use]
    pub fn unaccounted_by_reason(&self) -> BTreeMap<Reason, Amount> {
        let mut sums = BTreeMap::new();
        for (key, amount) in &self.unaccounted {
            if let Some(reason) = Reason::from_u8(key.reason) {
                sums.entry(reason).or_insert_with(Amount::default).add(amount);
            }
        }
        sums
    }
}
