//! What the series of a level carried in one interval.

use std::{collections::BTreeMap, hash::BuildHasher as _};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use wherefore_common::Direction;

use super::{Level, Metric, SeriesKey, Transport, Unit};
use crate::{
    locality::Locality,
    snapshot::{Flow, Snapshot},
};

/// What one interface and direction carried of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Carried {
    /// Whose.
    pub key: SeriesKey,
    /// Number of the interface.
    pub ifindex: u32,
    /// Which way, as number.
    pub direction: u8,
    /// Which end is this host.
    pub locality: Locality,
    /// Bytes.
    pub bytes: u64,
    /// Flows.
    pub flows: u64,
    /// Packets that may stand for several on the wire.
    pub estimated: u64,
    /// The next place of the same key.
    next: u32,
}

impl Carried {
    /// How much, of one metric.
    #[must_use]
    pub const fn amount(&self, metric: Metric) -> u64 {
        match metric {
            Metric::Bytes => self.bytes,
            Metric::Flows => self.flows,
        }
    }
}

const NONE: u32 = u32::MAX;

/// The series of one level that carried something in one interval, without the agent's own flows.
///
/// A series holds what the busiest interface and direction carried of it: a packet seen twice (routed, bridged, on `lo`)
/// counts once; what is spread over several uplinks is told too low.
#[derive(Debug, Default)]
pub struct Measured {
    /// By key and place, those of one key linked.
    rows: Vec<Carried>,
    /// The first of each key.
    first: HashTable<u32>,
    keys: Vec<u32>,
    hasher: RandomState,
}

impl Measured {
    /// Of a snapshot.
    #[must_use]
    pub fn new(snapshot: &Snapshot, level: Level, unit: Unit) -> Self {
        let names: BTreeMap<u32, &str> =
            snapshot.interfaces.iter().map(|(ifindex, name)| (*ifindex, name.as_str())).collect();
        let mut measured = Self::default();
        for flow in snapshot.flows.iter().filter(|flow| !flow.own) {
            for key in keys(flow, level, &names).into_iter().flatten() {
                measured.add(key, flow, unit);
            }
        }
        measured
    }

    fn add(&mut self, key: SeriesKey, flow: &Flow, unit: Unit) {
        let bytes = match unit {
            Unit::Ip => flow.counters.ip_bytes,
            Unit::Wire => flow.counters.wire_bytes,
        };
        if bytes == 0 {
            return;
        }
        let added = Carried {
            key,
            ifindex: flow.key.ifindex,
            direction: flow.key.direction,
            locality: flow.locality,
            bytes,
            flows: 1,
            estimated: flow.counters.estimated,
            next: NONE,
        };
        let fresh = self.rows.len() as u32;
        let Self { rows, first, hasher, keys, .. } = self;
        let hash = hasher.hash_one(key);
        let entry = first.entry(
            hash,
            |&row| rows[row as usize].key == key,
            |&row| hasher.hash_one(rows[row as usize].key),
        );
        let mut at = match entry {
            hashbrown::hash_table::Entry::Occupied(found) => *found.get(),
            hashbrown::hash_table::Entry::Vacant(place) => {
                place.insert(fresh);
                keys.push(fresh);
                rows.push(added);
                return;
            }
        };
        loop {
            let row = &mut rows[at as usize];
            if (row.ifindex, row.direction) == (added.ifindex, added.direction) {
                row.bytes = row.bytes.saturating_add(bytes);
                row.flows += 1;
                row.estimated += added.estimated;
                return;
            }
            if row.next == NONE {
                row.next = fresh;
                rows.push(added);
                return;
            }
            at = row.next;
        }
    }

    /// How many keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Nothing was carried.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// What the busiest place of each key carried.
    pub fn busiest(&self, metric: Metric) -> impl Iterator<Item = &Carried> {
        self.keys.iter().filter_map(move |&row| self.busiest_from(row, metric))
    }

    /// What the busiest place of one key carried.
    #[must_use]
    pub fn get(&self, key: &SeriesKey, metric: Metric) -> Option<&Carried> {
        self.busiest_from(self.find(key)?, metric)
    }

    /// What each place carried of one key.
    pub fn places(&self, key: &SeriesKey) -> impl Iterator<Item = &Carried> {
        self.chain(self.find(key).unwrap_or(NONE))
    }

    fn find(&self, key: &SeriesKey) -> Option<u32> {
        self.first.find(self.hasher.hash_one(key), |&row| self.rows[row as usize].key == *key).copied()
    }

    fn chain(&self, first: u32) -> impl Iterator<Item = &Carried> {
        std::iter::successors(self.rows.get(first as usize), |row| self.rows.get(row.next as usize))
    }

    fn busiest_from(&self, first: u32, metric: Metric) -> Option<&Carried> {
        // Of equal ones the first interface, whatever the order of the flows.
        self.chain(first)
            .max_by_key(|row| (row.amount(metric), std::cmp::Reverse((row.ifindex, row.direction))))
    }
}

/// The series of a level that a flow is part of.
fn keys(flow: &Flow, level: Level, names: &BTreeMap<u32, &str>) -> [Option<SeriesKey>; 2] {
    let (src, dst) = (flow.src(), flow.dst());
    let Flow { key, locality, .. } = flow;
    match level {
        Level::Flow => {
            let transport = Transport { proto: key.proto, sport: key.sport, dport: key.dport };
            [Some(SeriesKey::Flow { src, dst, transport }), None]
        }
        Level::Pair => [Some(SeriesKey::Pair { src, dst }), None],
        Level::Net => {
            let (to, from) = match locality {
                Locality::Outgoing => (true, false),
                Locality::Incoming => (false, true),
                Locality::Local => (false, false),
                Locality::Forwarded | Locality::Unknown => (true, true),
            };
            [to.then(|| SeriesKey::net(dst, true)), from.then(|| SeriesKey::net(src, false))]
        }
        Level::Interface => {
            let direction = Direction::from_u8(key.direction);
            let name = match names.get(&key.ifindex) {
                Some(name) => SeriesKey::interface(name, direction),
                None => SeriesKey::interface(&format!("interface {}", key.ifindex), direction),
            };
            [Some(name), None]
        }
    }
}
