//! What was sent against what was counted, in the same terms.

use std::{collections::BTreeMap, net::IpAddr};

use wherefore::snapshot::Snapshot;
use wherefore_common::{Direction, FlowCounters, Reason};

/// A flow, without the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// IP protocol.
    pub proto: u8,
    /// Which way, seen from the host.
    pub direction: Direction,
}

/// What a flow carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes of the frames.
    pub wire_bytes: u64,
    /// Bytes of the IP packets.
    pub ip_bytes: u64,
}

/// Sums of traffic; two of them are equal when every flow and every reason agrees to the byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// By flow.
    pub flows: BTreeMap<Key, Count>,
    /// Packets and wire bytes without a flow.
    pub unaccounted: BTreeMap<(Reason, Direction), (u64, u64)>,
}

impl Tally {
    /// Adds to a flow.
    pub fn add(&mut self, key: Key, count: Count) {
        let sum = self.flows.entry(key).or_default();
        sum.packets += count.packets;
        sum.wire_bytes += count.wire_bytes;
        sum.ip_bytes += count.ip_bytes;
    }

    /// Adds an interval.
    ///
    /// # Panics
    /// When a flow is in it twice, a count is empty, a reason unknown, or its counts do not add up to all that
    /// passed.
    pub fn add_snapshot(&mut self, snapshot: &Snapshot) {
        assert_eq!(snapshot.imbalance(), std::collections::BTreeMap::new(), "{snapshot:?}");
        let mut seen = std::collections::BTreeSet::new();
        for flow in &snapshot.flows {
            assert!(seen.insert(flow.key), "twice in one snapshot: {flow:?}");
            assert!(flow.counters.packets > 0, "an empty flow: {flow:?}");
            assert!(flow.counters.first_ns <= flow.counters.last_ns, "{flow:?}");
            let key = Key {
                src: flow.src(),
                dst: flow.dst(),
                sport: flow.key.sport,
                dport: flow.key.dport,
                proto: flow.key.proto,
                direction: flow.direction(),
            };
            let FlowCounters { packets, wire_bytes, ip_bytes, .. } = flow.counters;
            self.add(key, Count { packets, wire_bytes, ip_bytes });
        }
        for (key, amount) in &snapshot.unaccounted {
            let reason = Reason::from_u8(key.reason).unwrap_or_else(|| panic!("unknown reason in {key:?}"));
            let sum = self.unaccounted.entry((reason, Direction::from_u8(key.direction))).or_default();
            sum.0 += amount.packets;
            sum.1 += amount.wire_bytes;
        }
    }

    /// The flows of one direction, summed.
    #[must_use]
    pub fn sum(&self, direction: Direction) -> Count {
        let mut sum = Count::default();
        for count in self.flows.iter().filter(|(key, _)| key.direction == direction).map(|(_, count)| count) {
            sum.packets += count.packets;
            sum.wire_bytes += count.wire_bytes;
            sum.ip_bytes += count.ip_bytes;
        }
        sum
    }

    /// Takes the flows to or from a port out.
    pub fn without_port(&mut self, port: u16) -> Self {
        let (out, rest) = std::mem::take(&mut self.flows)
            .into_iter()
            .partition(|(key, _)| key.sport == port || key.dport == port);
        self.flows = rest;
        Self { flows: out, unaccounted: BTreeMap::new() }
    }
}
