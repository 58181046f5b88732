//! All series, one interval after the other.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use wherefore_common::{Direction, FlowCounters};

use super::{Counters, Level, Series, SeriesKey, Settings, Transport, Unit};
use crate::{
    locality::Locality,
    snapshot::{Flow, Snapshot},
};

/// The series of a host.
///
/// A series holds what the busiest interface and direction carried of it: a packet seen twice (routed,
/// bridged, on `lo`) counts once; what is spread over several uplinks is told too low.
///
/// When it is full, a new series replaces the lightest (see `Series::weight`) if it is heavier: a scan of the
/// whole address space replaces its own remains, not the talkers.
#[derive(Clone, Debug)]
pub struct Store {
    settings: Settings,
    series: HashMap<SeriesKey, Series>,
    interfaces: BTreeMap<u32, Arc<str>>,
    counters: Counters,
    skip_first: bool,
    /// There was an interval.
    begun: bool,
}

/// What one series carried in one interval.
struct Talker {
    key: SeriesKey,
    value: f64,
    /// Packets of it that may stand for several on the wire.
    estimated: u64,
    ifindex: u32,
    direction: u8,
    locality: Locality,
}

/// What one interface and direction carried of a series.
#[derive(Clone, Copy)]
struct Part {
    key: SeriesKey,
    ifindex: u32,
    direction: u8,
    bytes: u64,
    estimated: u64,
    locality: Locality,
}

impl Part {
    const fn place(&self) -> (SeriesKey, u32, u8) {
        (self.key, self.ifindex, self.direction)
    }
}

impl Store {
    /// An empty one.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings: Settings {
                history: settings.history.max(1),
                expire_after: settings.expire_after.max(1),
                ..settings
            },
            series: HashMap::new(),
            interfaces: BTreeMap::new(),
            counters: Counters::default(),
            skip_first: false,
            begun: false,
        }
    }

    /// Does not record the first interval. On a live host that holds what passed while the backend began, too.
    #[must_use]
    pub const fn skip_first(mut self) -> Self {
        self.skip_first = true;
        self
    }

    /// Whether the first interval is not recorded.
    #[must_use]
    pub const fn skips_first(&self) -> bool {
        self.skip_first
    }

    /// Adds one interval to every series: its bytes, normalised to `interval`, or 0. Flows of the agent
    /// itself are left out; the bytes of an interval cut short stay as they are. False if the interval was
    /// not recorded.
    pub fn observe(&mut self, snapshot: &Snapshot, interval: Duration) -> bool {
        if !std::mem::replace(&mut self.begun, true) && self.skip_first {
            return false;
        }
        let Settings { history, expire_after, max_series, .. } = self.settings;
        let held = self.series.len();
        if snapshot.skipped > 0 {
            self.series.retain(|_, series| {
                series.fall_silent(snapshot.skipped, history);
                series.idle() < expire_after
            });
        }
        self.name_interfaces(snapshot);
        for series in self.series.values_mut() {
            series.fall_silent(1, history);
        }
        let mut newcomers = Vec::new();
        for talker in self.talkers(snapshot, scale(snapshot, interval)) {
            let interface = self.interface(talker.ifindex);
            match self.series.get_mut(&talker.key) {
                Some(series) => {
                    let direction = Direction::from_u8(talker.direction);
                    series.speak(talker.value, interface, direction, talker.locality);
                }
                None => newcomers.push(talker),
            }
        }
        self.series.retain(|_, series| series.idle() < expire_after);
        self.counters.expired += (held - self.series.len()) as u64;

        newcomers.sort_unstable_by(|a, b| b.value.total_cmp(&a.value).then(a.key.cmp(&b.key)));
        let places = max_series.saturating_sub(self.series.len()).min(newcomers.len());
        let contenders = newcomers.split_off(places);
        let lightest = self.lightest(contenders.len());
        for talker in &newcomers {
            self.insert(talker);
        }
        self.contend(&contenders, &lightest);
        self.counters.held = self.series.len() as u64;
        true
    }

    /// The series, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&SeriesKey, &Series)> {
        self.series.iter()
    }

    /// One series.
    #[must_use]
    pub fn get(&self, key: &SeriesKey) -> Option<&Series> {
        self.series.get(key)
    }

    /// Packets of an interval that may stand for several on the wire, by series: of those that its value is of. Those
    /// without any are left out.
    #[must_use]
    pub fn estimated(&self, snapshot: &Snapshot) -> BTreeMap<SeriesKey, u64> {
        let talkers = self.talkers(snapshot, 1.0).into_iter();
        talkers.filter(|talker| talker.estimated > 0).map(|talker| (talker.key, talker.estimated)).collect()
    }

    /// What is held, and what became of the rest.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    fn insert(&mut self, talker: &Talker) {
        let interface = self.interface(talker.ifindex);
        let direction = Direction::from_u8(talker.direction);
        self.series.insert(talker.key, Series::new(talker.value, interface, direction, talker.locality));
    }

    /// The `count` lightest series, the lightest first.
    fn lightest(&self, count: usize) -> Vec<(f64, SeriesKey)> {
        if count == 0 {
            return Vec::new();
        }
        let order = |a: &(f64, SeriesKey), b: &(f64, SeriesKey)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        let mut all: Vec<_> = self.series.iter().map(|(key, series)| (series.weight(), *key)).collect();
        if count < all.len() {
            all.select_nth_unstable_by(count, order);
            all.truncate(count);
        }
        all.sort_unstable_by(order);
        all
    }

    /// The heaviest newcomer against the lightest series, and so on until a newcomer is not heavier.
    fn contend(&mut self, contenders: &[Talker], lightest: &[(f64, SeriesKey)]) {
        let wins =
            contenders.iter().zip(lightest).take_while(|(talker, light)| light.0 < talker.value).count();
        for (talker, (_, key)) in contenders.iter().zip(lightest).take(wins) {
            self.series.remove(key);
            self.insert(talker);
        }
        self.counters.replaced += wins as u64;
        self.counters.turned_away += (contenders.len() - wins) as u64;
    }

    /// What each series carried, each once. Flows are summed by interface and direction, of which the busiest
    /// counts.
    fn talkers(&self, snapshot: &Snapshot, scale: f64) -> Vec<Talker> {
        let Settings { level, unit, .. } = self.settings;
        let mut parts: Vec<_> = snapshot
            .flows
            .iter()
            .filter(|flow| !flow.own)
            .map(|flow| Part {
                key: key(flow, level),
                ifindex: flow.key.ifindex,
                direction: flow.key.direction,
                bytes: bytes(&flow.counters, unit),
                estimated: flow.counters.estimated,
                locality: flow.locality,
            })
            .filter(|part| part.bytes > 0)
            .collect();
        parts.sort_unstable_by_key(Part::place);
        parts.dedup_by(|next, first| {
            let same = next.place() == first.place();
            if same {
                first.bytes = first.bytes.saturating_add(next.bytes);
                first.estimated += next.estimated;
            }
            same
        });
        parts.dedup_by(|next, first| {
            let same = next.key == first.key;
            if same && next.bytes > first.bytes {
                *first = *next;
            }
            same
        });
        parts
            .into_iter()
            .map(|Part { key, ifindex, direction, bytes, estimated, locality }| Talker {
                key,
                value: bytes as f64 * scale,
                estimated,
                ifindex,
                direction,
                locality,
            })
            .collect()
    }

    fn name_interfaces(&mut self, snapshot: &Snapshot) {
        self.interfaces.retain(|ifindex, _| snapshot.interfaces.contains_key(ifindex));
        for (&ifindex, name) in &snapshot.interfaces {
            let known = self.interfaces.entry(ifindex).or_insert_with(|| name.as_str().into());
            if **known != **name {
                *known = name.as_str().into();
            }
        }
    }

    fn interface(&mut self, ifindex: u32) -> Arc<str> {
        self.interfaces.entry(ifindex).or_insert_with(|| format!("interface {ifindex}").into()).clone()
    }
}

/// From the bytes of the interval's measured length to those of the interval asked for.
fn scale(snapshot: &Snapshot, interval: Duration) -> f64 {
    if !snapshot.complete || snapshot.length.is_zero() || snapshot.length == interval {
        1.0
    } else {
        interval.as_secs_f64() / snapshot.length.as_secs_f64()
    }
}

fn key(flow: &Flow, level: Level) -> SeriesKey {
    let transport = match level {
        Level::Pair => None,
        Level::Flow => {
            Some(Transport { proto: flow.key.proto, sport: flow.key.sport, dport: flow.key.dport })
        }
    };
    SeriesKey { src: flow.src(), dst: flow.dst(), transport }
}

const fn bytes(counters: &FlowCounters, unit: Unit) -> u64 {
    match unit {
        Unit::Ip => counters.ip_bytes,
        Unit::Wire => counters.wire_bytes,
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
