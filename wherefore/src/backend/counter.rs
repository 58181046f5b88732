//! The flow table in user space, for the backends that see every packet themselves.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    mem,
};

use wherefore_common::{Amount, Direction, FlowCounters, FlowKey, Reason, UnaccountedKey, parse::Parsed};

use super::{link, lost::Lost};
use crate::{snapshot::Flow, time::Timestamp};

/// One captured packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// `LINKTYPE_` or `DLT_` number of the framing ([`link::parse`]).
    pub linktype: i32,
    /// Number of the interface it was seen on.
    pub ifindex: u32,
    /// Which way it crossed that interface.
    pub direction: Direction,
    /// When.
    pub time: Timestamp,
    /// What was captured of it, from its link header on.
    pub frame: &'a [u8],
    /// Its length on the wire in bytes, which may be more than was captured.
    pub wire_len: u32,
}

/// What was counted since the last [`Counter::take`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The flows, in no particular order; each key once.
    pub flows: Vec<Flow>,
    /// Packets without a flow.
    pub unaccounted: BTreeMap<UnaccountedKey, Amount>,
    /// Flows that found no room.
    pub lost: Lost,
}

/// Counts packets by flow, and those without a flow by reason. Holds at most as many flows as it was made for:
/// when it is full, packets of further flows are counted as [`Reason::TableFull`] with their protocol, while
/// the flows already in it go on.
#[derive(Debug)]
pub struct Counter {
    // foldhash is seeded per process: a sender cannot aim at one bucket.
    flows: HashMap<FlowKey, FlowCounters, foldhash::fast::RandomState>,
    unaccounted: BTreeMap<UnaccountedKey, Amount>,
    lost: Lost,
    limit: usize,
}

impl Counter {
    /// A table for `table_size` flows; `None`: for as many as there are.
    #[must_use]
    pub fn new(table_size: Option<u32>) -> Self {
        Self {
            flows: HashMap::default(),
            unaccounted: BTreeMap::new(),
            lost: Lost::default(),
            limit: table_size.map_or(usize::MAX, |size| size as usize),
        }
    }

    /// Counts one packet, in its flow or by the reason why it has none.
    #[inline]
    pub fn count(&mut self, packet: &Packet<'_>) {
        match link::parse(packet.linktype, packet.frame) {
            Ok(parsed) => self.add(packet, &parsed),
            Err(reason) => self.turn_away(packet, reason, 0),
        }
    }

    /// Counts one packet that is not wanted in any flow, for example a filtered one.
    pub fn count_without_flow(&mut self, packet: &Packet<'_>, reason: Reason) {
        self.turn_away(packet, reason, 0);
    }

    /// True when nothing was counted since the last [`Counter::take`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty() && self.unaccounted.is_empty()
    }

    /// Hands over what was counted and begins anew.
    pub fn take(&mut self) -> Counts {
        let flows: Vec<_> =
            self.flows.drain().map(|(key, counters)| Flow { key, counters, own: false }).collect();
        // Draining costs by capacity, so one busy interval must not slow all later ones.
        self.flows.shrink_to(flows.len().saturating_mul(2));
        Counts { flows, unaccounted: mem::take(&mut self.unaccounted), lost: mem::take(&mut self.lost) }
    }

    #[inline]
    fn add(&mut self, packet: &Packet<'_>, parsed: &Parsed) {
        let key = FlowKey {
            src: parsed.src,
            dst: parsed.dst,
            ifindex: packet.ifindex,
            sport: parsed.sport,
            dport: parsed.dport,
            proto: parsed.proto,
            family: parsed.family,
            direction: packet.direction as u8,
            pad: [0; 5],
        };
        let one = FlowCounters {
            packets: 1,
            wire_bytes: u64::from(packet.wire_len),
            ip_bytes: u64::from(parsed.ip_bytes(packet.wire_len)),
            first_ns: packet.time.0,
            last_ns: packet.time.0,
            ..FlowCounters::default()
        };
        let full = self.flows.len() >= self.limit;
        match self.flows.entry(key) {
            Entry::Occupied(mut flow) => flow.get_mut().add(&one),
            Entry::Vacant(place) if !full => {
                place.insert(one);
            }
            Entry::Vacant(_) => {
                self.lost.add(&key);
                self.turn_away(packet, Reason::TableFull, parsed.proto);
            }
        }
    }

    fn turn_away(&mut self, packet: &Packet<'_>, reason: Reason, proto: u8) {
        let key = UnaccountedKey {
            ifindex: packet.ifindex,
            direction: packet.direction as u8,
            reason: reason as u8,
            proto,
            pad: 0,
        };
        let amount = Amount { packets: 1, wire_bytes: u64::from(packet.wire_len) };
        self.unaccounted.entry(key).or_default().add(&amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A UDP packet from 192.0.2.`host`, as raw IPv4.
    fn udp(host: u8) -> Vec<u8> {
        let mut frame = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, host, 198, 51, 100, 1];
        frame.extend([0, 53, 0, 54, 0, 8, 0, 0]);
        frame
    }

    fn packet(frame: &[u8], ns: u64) -> Packet<'_> {
        Packet {
            linktype: 101,
            ifindex: 3,
            direction: Direction::Egress,
            time: Timestamp(ns),
            frame,
            wire_len: u32::MAX,
        }
    }

    #[test]
    fn a_full_table_keeps_its_flows_and_counts_the_others_apart() {
        let mut counter = Counter::new(Some(2));
        for (ns, host) in [(7, 1), (5, 2), (6, 3), (9, 1), (8, 4), (4, 1)] {
            counter.count(&packet(&udp(host), ns));
        }
        counter.count(&packet(&[0x50], 1));
        let counts = counter.take();
        assert_eq!(counts.flows.len(), 2);
        assert_eq!(counts.lost.estimate(), 2);
        let first = counts.flows.iter().find(|flow| flow.key.src[15] == 1).expect("first flow stays");
        assert_eq!(
            first.counters,
            FlowCounters {
                packets: 3,
                wire_bytes: 3 * u64::from(u32::MAX),
                ip_bytes: 84,
                first_ns: 4,
                last_ns: 9,
                ..FlowCounters::default()
            }
        );
        assert_eq!((first.key.sport, first.key.dport, first.key.proto, first.key.family), (53, 54, 17, 4));
        let key = |reason, proto| UnaccountedKey { ifindex: 3, direction: 1, reason, proto, pad: 0 };
        let wire_bytes = u64::from(u32::MAX);
        assert_eq!(
            counts.unaccounted,
            BTreeMap::from([
                (key(Reason::TableFull as u8, 17), Amount { packets: 2, wire_bytes: 2 * wire_bytes }),
                (key(Reason::IpVersion as u8, 0), Amount { packets: 1, wire_bytes }),
            ])
        );
        assert!(counter.is_empty());
        counter.count(&packet(&udp(3), 1));
        assert_eq!(counter.take().flows.len(), 1);
    }
}
