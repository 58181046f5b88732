//! What the series of a level carried in one interval.

use std::{collections::BTreeMap, hash::BuildHasher as _, sync::LazyLock};

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
    /// Bytes and flows toward the service: the end with the lower port.
    asked: [u64; 2],
    /// Of the key.
    hash: u64,
    /// The next place of the same key.
    next: u32,
}

impl Carried {
    pub(super) const fn hash(&self) -> u64 {
        self.hash
    }

    /// What one flow carried of a key.
    fn new(key: SeriesKey, flow: &Flow, unit: Unit) -> Self {
        let bytes = match unit {
            Unit::Ip => flow.counters.ip_bytes,
            Unit::Wire => flow.counters.wire_bytes,
        };
        let asks = flow.key.sport > flow.key.dport;
        Self {
            key,
            ifindex: flow.key.ifindex,
            direction: flow.key.direction,
            locality: flow.locality,
            bytes,
            flows: 1,
            asked: if asks { [bytes, 1] } else { [0, 0] },
            estimated: flow.counters.estimated,
            hash: 0,
            next: NONE,
        }
    }

    const fn merge(&mut self, other: &Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.flows += other.flows;
        self.asked[0] = self.asked[0].saturating_add(other.asked[0]);
        self.asked[1] += other.asked[1];
        self.estimated += other.estimated;
    }

    /// Which way.
    #[must_use]
    pub const fn direction(&self) -> Direction {
        Direction::from_u8(self.direction)
    }

    /// How much, of one metric.
    #[must_use]
    pub const fn amount(&self, metric: Metric) -> u64 {
        match metric {
            Metric::Bytes => self.bytes,
            Metric::Flows => self.flows,
        }
    }
}

/// Who is sent what most of a series is, by the direction and by the ports: to a service goes by default what comes from
/// the higher port. It is a guess that is right for nearly all traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Role {
    /// To a service elsewhere: uploads, requests.
    Asks,
    /// From a service here, to who asked.
    Serves,
    /// To a service here.
    Asked,
    /// From a service elsewhere: downloads, answers.
    Served,
}

impl Role {
    /// How many there are.
    pub const COUNT: usize = 4;
    /// All of them.
    pub const ALL: [Self; Self::COUNT] = [Self::Asks, Self::Serves, Self::Asked, Self::Served];
}

impl Carried {
    /// What forwarded traffic is depends on its ports alone.
    #[must_use]
    pub const fn role(&self, metric: Metric) -> Role {
        let asked = match metric {
            Metric::Bytes => self.asked[0] > self.bytes / 2,
            Metric::Flows => self.asked[1] > self.flows / 2,
        };
        match (self.locality, asked) {
            (Locality::Incoming, true) => Role::Asked,
            (Locality::Outgoing, false) => Role::Serves,
            (_, true) => Role::Asks,
            (_, false) => Role::Served,
        }
    }
}

const NONE: u32 = u32::MAX;

/// The same for all that are asked in one interval, so that a key is hashed once; seeded by the process.
pub(super) fn hash(key: &SeriesKey) -> u64 {
    static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::default);
    HASHER.hash_one(key)
}

/// The series of one level that carried something in one interval, without the agent's own flows and
/// those that are ignored.
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
}

impl Measured {
    /// Of a snapshot. There is room for `expected` keys from the start.
    #[must_use]
    pub fn new(snapshot: &Snapshot, level: Level, unit: Unit, expected: usize) -> Self {
        let mut measured = Self {
            rows: Vec::with_capacity(expected),
            first: HashTable::with_capacity(expected),
            keys: Vec::with_capacity(expected),
        };
        let flows = snapshot.flows.iter().filter(|flow| !flow.own && !flow.ignored);
        if level == Level::Interface {
            measured.add_interfaces(flows, snapshot, unit);
            return measured;
        }
        for flow in flows {
            for key in keys(flow, level).into_iter().flatten() {
                measured.add(Carried::new(key, flow, unit));
            }
        }
        measured
    }

    /// There are few: their names are made once each.
    fn add_interfaces<'a>(&mut self, flows: impl Iterator<Item = &'a Flow>, snapshot: &Snapshot, unit: Unit) {
        let mut places: BTreeMap<(u32, u8), Carried> = BTreeMap::new();
        for flow in flows {
            let named = || {
                let (ifindex, direction) = (flow.key.ifindex, flow.direction());
                match snapshot.interfaces.get(&ifindex) {
                    Some(name) => SeriesKey::interface(name, direction),
                    None => SeriesKey::interface(&format!("interface {ifindex}"), direction),
                }
            };
            places
                .entry((flow.key.ifindex, flow.key.direction))
                .and_modify(|row| row.merge(&Carried::new(row.key, flow, unit)))
                .or_insert_with(|| Carried::new(named(), flow, unit));
        }
        places.into_values().for_each(|row| self.add(row));
    }

    fn add(&mut self, mut added: Carried) {
        if added.bytes == 0 {
            return;
        }
        let fresh = self.rows.len() as u32;
        let Self { rows, first, keys } = self;
        added.hash = hash(&added.key);
        let entry = first.entry(
            added.hash,
            |&row| rows[row as usize].key == added.key,
            |&row| rows[row as usize].hash,
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
                row.merge(&added);
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
        self.first.find(hash(key), |&row| self.rows[row as usize].key == *key).copied()
    }

    fn chain(&self, first: u32) -> impl Iterator<Item = &Carried> {
        std::iter::successors(self.rows.get(first as usize), |row| self.rows.get(row.next as usize))
    }

    fn busiest_from(&self, first: u32, metric: Metric) -> Option<&Carried> {
        let row = self.rows.get(first as usize)?;
        if row.next == NONE {
            return Some(row);
        }
        // Of equal ones the first interface, whatever the order of the flows.
        self.chain(first)
            .max_by_key(|row| (row.amount(metric), std::cmp::Reverse((row.ifindex, row.direction))))
    }
}

/// The series of a level that a flow is part of.
fn keys(flow: &Flow, level: Level) -> [Option<SeriesKey>; 2] {
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
        Level::Interface => [None, None],
    }
}
