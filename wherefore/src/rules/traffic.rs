//! What an interval carried of what a rule is about.

use std::{collections::HashMap, fmt, net::IpAddr};

use ipnet::IpNet;
use wherefore_common::Direction;

use super::{By, matching::Match};
use crate::{
    locality::Locality,
    series::{Unit, network},
    snapshot::Snapshot,
};

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

impl Group {
    /// That of what `src` sends to `dst`.
    pub(super) fn of(src: IpAddr, dst: IpAddr, locality: Locality, by: By) -> Self {
        let (_, remote) = locality.ends(src, dst);
        match by {
            By::All => Self::All,
            By::Net => Self::Net(network(remote)),
            By::Host => Self::Host(remote),
            By::Pair => Self::Pair(src, dst),
        }
    }
}

/// `198.51.100.0/24`, `198.51.100.9`, `192.0.2.7 → 198.51.100.9`; `all` of everything.
impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Net(net) => net.fmt(f),
            Self::Host(ip) => ip.fmt(f),
            Self::Pair(src, dst) => write!(f, "{src} → {dst}"),
        }
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
    /// Interface index, where it was counted.
    pub ifindex: u32,
    /// Which way it crossed that interface.
    pub direction: Direction,
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
        Group::of(self.src, self.dst, self.locality, by)
    }
}

/// The pairs of an interval that match. As for series, what is seen several times (routed, bridged, on `lo`) counts
/// once: of each pair the interface and direction that carried most of it; and the agent's own traffic is left out.
pub fn pairs(snapshot: &Snapshot, wanted: &Match, unit: Unit) -> Vec<Pair> {
    let mut on = HashMap::new();
    let mut parts: Vec<Pair> = snapshot
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
            Pair {
                src: flow.src(),
                dst: flow.dst(),
                locality: flow.locality,
                ifindex: flow.key.ifindex,
                direction: flow.direction(),
                bytes,
                packets: flow.counters.packets,
                flows: 1,
            }
        })
        .collect();
    let place = |pair: &Pair| (pair.src, pair.dst, pair.ifindex, pair.direction);
    parts.sort_unstable_by_key(place);
    parts.dedup_by(|next, first| {
        let same = place(next) == place(first);
        if same {
            first.bytes = first.bytes.saturating_add(next.bytes);
            first.packets = first.packets.saturating_add(next.packets);
            first.flows += 1;
        }
        same
    });
    parts.dedup_by(|next, first| {
        let same = (next.src, next.dst) == (first.src, first.dst);
        if same && next.bytes > first.bytes {
            *first = *next;
        }
        same
    });
    parts
}
