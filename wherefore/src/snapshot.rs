//! One interval of traffic as a value: what every backend hands over and everything after it reads.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use wherefore_common::{Amount, Direction, FlowCounters, FlowKey, Reason, UnaccountedKey};

use crate::{
    coverage::Coverage,
    locality::{HostAddresses, Locality},
    lost::Lost,
    time::Timestamp,
};

/// One flow of an interval. Times in `counters` are nanoseconds since 1970, whatever the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Whose packets.
    pub key: FlowKey,
    /// How many.
    pub counters: FlowCounters,
    /// Belongs to the agent's own connections, and so never alerts.
    pub own: bool,
    /// The detector is not to judge it, by an override of the configuration.
    pub ignored: bool,
    /// Which end of it is this host.
    pub locality: Locality,
}

impl Flow {
    /// One of which no more is known yet.
    #[must_use]
    pub const fn new(key: FlowKey, counters: FlowCounters) -> Self {
        Self { key, counters, own: false, ignored: false, locality: Locality::Unknown }
    }

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
    /// Of `all`, the packets that may stand for several on the wire, in flows or not, and their bytes as seen
    /// ([`FlowCounters::estimated`]). The kernel counts them by flow only: there they are those in flows, and the bytes
    /// are the most that they may have.
    pub estimated: Amount,
}

impl Passed {
    /// Adds what `other` counted.
    pub const fn add(&mut self, other: &Self) {
        self.seen.add(&other.seen);
        self.all.add(&other.all);
        self.estimated.add(&other.estimated);
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
    /// False where the interval was cut short: the last one.
    pub complete: bool,
    /// Names of the interfaces watched in this interval, also of those that vanished meanwhile; of a capture, of
    /// those seen in the keys.
    pub interfaces: BTreeMap<u32, String>,
    /// Those of them whose packets another one counts as well (a VLAN and its carrier): not part of the host's
    /// totals.
    pub stacked: BTreeSet<u32>,
    /// The host's addresses during the interval; `None` where they are not known (a capture).
    pub host_addresses: Option<Arc<HostAddresses>>,
    /// The flows, in no particular order; each key once.
    pub flows: Vec<Flow>,
    /// Packets without a flow, by interface, direction, reason and (for a full table) protocol.
    pub unaccounted: BTreeMap<UnaccountedKey, Amount>,
    /// All that passed by interface and [`Direction`] (as number): flows and `unaccounted` add up to it
    /// ([`Snapshot::imbalance`]).
    pub passed: BTreeMap<(u32, u8), Passed>,
    /// How that compares with the devices' own counters, by interface and [`Direction`] (as number); empty where
    /// nobody knows (captures), and of the interval in which an interface comes.
    pub coverage: BTreeMap<(u32, u8), Coverage>,
    /// The flows that found no room in the table; how many they were can be estimated.
    pub lost: Lost,
    /// Packets whose timestamp lay before the interval; they are counted in it all the same.
    pub late: Amount,
    /// Packets the capture lost before counting, by interface and [`Direction`] (as number): libpcap's
    /// own figure, without those that lost none; empty with eBPF.
    pub dropped: BTreeMap<(u32, u8), u64>,
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

    /// Whether what an interface carries is part of the host's totals.
    #[must_use]
    pub fn counts_for_host(&self, ifindex: u32) -> bool {
        !self.stacked.contains(&ifindex)
    }

    /// Everything counted, in flows or not; a packet as often as it crossed a watched interface.
    #[must_use]
    pub fn total(&self) -> Amount {
        self.total_of(|_| true)
    }

    /// What the filters did not exclude, in flows or not: the whole of which a flow's share is a part.
    #[must_use]
    pub fn selected(&self) -> Amount {
        let mut selected = self.total();
        for (_, filtered) in self.unaccounted.iter().filter(|(key, _)| key.reason == Reason::Filtered as u8) {
            selected.packets -= filtered.packets;
            selected.wire_bytes -= filtered.wire_bytes;
        }
        selected
    }

    /// What the host carried: [`Self::total`] without the interfaces that are stacked on another one.
    #[must_use]
    pub fn host_total(&self) -> Amount {
        self.total_of(|ifindex| self.counts_for_host(ifindex))
    }

    fn total_of(&self, wanted: impl Fn(u32) -> bool) -> Amount {
        let mut total = Amount::default();
        for flow in self.flows.iter().filter(|flow| wanted(flow.key.ifindex)) {
            total.add(&flow.counters.amount());
        }
        for (_, amount) in self.unaccounted.iter().filter(|(key, _)| wanted(key.ifindex)) {
            total.add(amount);
        }
        total
    }

    /// Packets that may stand for several on the wire, in flows or not.
    #[must_use]
    pub fn estimated(&self) -> u64 {
        self.passed.values().map(|passed| passed.estimated.packets).sum()
    }

    /// Packets the capture lost before counting.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// Where flows and unaccounted packets do not add up to all that passed: by interface and direction, what
    /// they add up to and what passed. Always empty, but for a fault in the counting.
    ///
    /// Packets that the kernel could count without their interface only (interface 0) make it a balance of
    /// directions, under interface 0.
    #[must_use]
    pub fn imbalance(&self) -> BTreeMap<(u32, u8), (Amount, Amount)> {
        let whole = self.unaccounted.keys().map(|key| key.ifindex).all(|ifindex| ifindex != 0)
            && self.passed.keys().all(|(ifindex, _)| *ifindex != 0);
        let place = |ifindex: u32, direction: u8| (if whole { ifindex } else { 0 }, direction);
        let mut sides: BTreeMap<(u32, u8), (Amount, Amount)> = BTreeMap::new();
        for Flow { key, counters, .. } in &self.flows {
            sides.entry(place(key.ifindex, key.direction)).or_default().0.add(&counters.amount());
        }
        for (key, amount) in &self.unaccounted {
            sides.entry(place(key.ifindex, key.direction)).or_default().0.add(amount);
        }
        for ((ifindex, direction), passed) in &self.passed {
            sides.entry(place(*ifindex, *direction)).or_default().1.add(&passed.all);
        }
        sides.retain(|_, (counted, passed)| counted != passed);
        sides
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

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Amount = Amount { packets: 1, wire_bytes: 60 };

    fn snapshot() -> Snapshot {
        let key = FlowKey { ifindex: 2, direction: 1, ..FlowKey::default() };
        let counters = FlowCounters { packets: 1, wire_bytes: 60, ..FlowCounters::default() };
        let mut snapshot = Snapshot { flows: vec![Flow::new(key, counters)], ..Snapshot::default() };
        snapshot
            .add_unaccounted(UnaccountedKey { ifindex: 2, direction: 1, ..UnaccountedKey::default() }, ONE);
        let mut all = ONE;
        all.add(&ONE);
        snapshot.passed.insert((2, 1), Passed { seen: ONE, all, ..Passed::default() });
        snapshot
    }

    #[test]
    fn what_does_not_add_up_is_found_where_it_is() {
        assert!(snapshot().imbalance().is_empty());
        let mut missed = snapshot();
        missed.passed.insert((3, 0), Passed { seen: ONE, all: ONE, ..Passed::default() });
        assert_eq!(missed.imbalance(), [((3, 0), (Amount::default(), ONE))].into());
        let mut short = snapshot();
        short.flows.clear();
        assert_eq!(short.imbalance().into_keys().collect::<Vec<_>>(), [(2, 1)]);
    }

    #[test]
    fn packets_without_an_interface_are_balanced_by_direction() {
        let mut snapshot = snapshot();
        snapshot.add_unaccounted(UnaccountedKey { direction: 1, ..UnaccountedKey::default() }, ONE);
        assert_eq!(snapshot.imbalance().into_keys().collect::<Vec<_>>(), [(0, 1)]);
        snapshot.passed.insert((7, 1), Passed { seen: ONE, all: ONE, ..Passed::default() });
        assert!(snapshot.imbalance().is_empty());
    }
}
