//! What an interval carried of what a rule is about.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{By, matching::Match};
use crate::{locality::Locality, series::Unit, snapshot::Snapshot};

/// Whose traffic is measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// All that the rule matches.
    All,
    /// A remote network: /24 of IPv4, /48 of IPv6.
    Net(IpNet),
    /// A remote address.
    Host(IpAddr),
    /// What one address sends to another.
    Pair(IpAddr, IpAddr),
}

/// `198.51.100.0/24`, `198.51.100.9`, `192.0.2.7 -> 198.51.100.9`; `all` of everything.
impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Net(net) => net.fmt(f),
            Self::Host(ip) => ip.fmt(f),
            Self::Pair(src, dst) => write!(f, "{src} -> {dst}"),
        }
    }
}

/// The remote network of an address: its /24 or /48, the sizes in which networks are handed out and filtered.
#[must_use]
pub fn network(ip: IpAddr) -> IpNet {
    match ip {
        IpAddr::V4(ip) => Ipv4Net::new_assert(Ipv4Addr::from_bits(ip.to_bits() & (!0 << 8)), 24).into(),
        IpAddr::V6(ip) => Ipv6Net::new_assert(Ipv6Addr::from_bits(ip.to_bits() & (!0 << 80)), 48).into(),
    }
}

/// What one address sent to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Sender.
    pub src: IpAddr,
    /// Receiver.
    pub dst: IpAddr,
    /// Which end is this host.
    pub locality: Locality,
    /// IP or wire bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Flows, of the same interface and direction.
    pub flows: u64,
}

impl Pair {
    /// The group it belongs to.
    pub fn group(&self, by: By) -> Group {
        let (_, remote) = self.locality.ends(self.src, self.dst);
        match by {
            By::All => Group::All,
            By::Net => Group::Net(network(remote)),
            By::Host => Group::Host(remote),
            By::Pair => Group::Pair(self.src, self.dst),
        }
    }
}

/// The pairs of an interval that match. As for series, what is seen several times (routed, bridged, on `lo`) counts
/// once: of each pair the interface and direction that carried most of it; and the agent's own traffic is left out.
pub fn pairs(snapshot: &Snapshot, wanted: &Match, unit: Unit) -> Vec<Pair> {
    let mut on = HashMap::new();
    let mut parts: Vec<(u32, u8, Pair)> = snapshot
        .flows
        .iter()
        .filter(|flow| !flow.own && wanted.matches(flow))
        .filter(|flow| {
            let ifindex = flow.key.ifindex;
            *on.entry(ifindex).or_insert_with(|| wanted.on(&snapshot.interface_name(ifindex)))
        })
        .map(|flow| {
            let bytes = match unit {
                Unit::Ip => flow.counters.ip_bytes,
                Unit::Wire => flow.counters.wire_bytes,
            };
            let pair = Pair {
                src: flow.src(),
                dst: flow.dst(),
                locality: flow.locality,
                bytes,
                packets: flow.counters.packets,
                flows: 1,
            };
            (flow.key.ifindex, flow.key.direction, pair)
        })
        .collect();
    let place = |(ifindex, direction, pair): &(u32, u8, Pair)| (pair.src, pair.dst, *ifindex, *direction);
    parts.sort_unstable_by_key(place);
    parts.dedup_by(|next, first| {
        let same = place(next) == place(first);
        if same {
            first.2.bytes = first.2.bytes.saturating_add(next.2.bytes);
            first.2.packets = first.2.packets.saturating_add(next.2.packets);
            first.2.flows += 1;
        }
        same
    });
    parts.dedup_by(|next, first| {
        let same = (next.2.src, next.2.dst) == (first.2.src, first.2.dst);
        if same && next.2.bytes > first.2.bytes {
            *first = *next;
        }
        same
    });
    parts.into_iter().map(|(_, _, pair)| pair).collect()
}
