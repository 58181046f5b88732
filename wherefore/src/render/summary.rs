//! Snapshots folded into one table: what `wherefore flows` prints.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use wherefore_common::{Amount, FlowCounters, Reason};

use crate::{
    backend::Description,
    coverage::{Ledger, Unit},
    locality::Locality,
    lost::Lost,
    snapshot::Snapshot,
    time::Timestamp,
};

/// What makes one row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum KeyKind {
    /// Source, destination, protocol and ports of the outermost IP layer.
    #[default]
    #[value(alias = "5tuple")]
    Flow,
    /// Source and destination only.
    Pair,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    src: IpAddr,
    dst: IpAddr,
    transport: (u8, u16, u16),
    interface: Option<String>,
}

/// Folds snapshots. Order does not matter but for coverage, which is of intervals that follow each other.
#[derive(Clone, Debug)]
pub struct Summary {
    kind: KeyKind,
    by_interface: bool,
    max_rows: usize,
    rows: HashMap<Key, (FlowCounters, Locality)>,
    host: Amount,
    stacked: bool,
    localities: bool,
    unaccounted: BTreeMap<Unaccounted, Amount>,
    lost: Lost,
    late: Amount,
    dropped: u64,
    coverage: BTreeMap<(String, u8, Unit), Ledger>,
    span: Option<(Timestamp, Timestamp)>,
    interfaces: BTreeSet<String>,
}

/// Why and where packets have no flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unaccounted {
    /// A [`Reason`]'s number.
    pub reason: u8,
    /// Name of the interface.
    pub interface: String,
    /// Which way, as [`wherefore_common::Direction`]'s number.
    pub direction: u8,
}

/// One row of a [`Report`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Source address; an IPv4-mapped IPv6 address on the wire stays IPv6.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Protocol and ports in host order, with [`KeyKind::Flow`].
    pub transport: Option<(u8, u16, u16)>,
    /// Name of the interface, where rows are split by it.
    pub interface: Option<String>,
    /// Which end of it is this host.
    pub locality: Locality,
    /// Sums over all snapshots, and the times of the first and the last packet.
    pub counters: FlowCounters,
}

/// Everything a [`Summary`] saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What makes a row.
    pub kind: KeyKind,
    /// Rows are split by interface.
    pub by_interface: bool,
    /// It is known which end of a flow is this host.
    pub localities: bool,
    /// All packets: those of the rows and those without a flow; as often as they crossed a watched interface.
    pub total: Amount,
    /// What the host carried, each packet once; only where that is not the total, as watched interfaces are stacked.
    pub host: Option<Amount>,
    /// Packets of the rows.
    pub ip_packets: u64,
    /// IP bytes of the rows.
    pub ip_bytes: u64,
    /// Packets of the rows that may stand for several on the wire.
    pub estimated: u64,
    /// Packets without a flow by a [`Reason`]'s number; a reason without packets is left out.
    pub unaccounted: BTreeMap<u8, Amount>,
    /// The same by interface and direction, too.
    pub unaccounted_places: BTreeMap<Unaccounted, Amount>,
    /// By wire bytes, most first; then by source, destination (IPv4 before IPv6, by number), protocol,
    /// ports and interface.
    pub rows: Vec<Row>,
    /// About how many flows found no room in a table; 0 where every flow did.
    pub lost_flows: u64,
    /// Packets whose timestamp lay before their interval; counted all the same.
    pub late: Amount,
    /// Packets lost before counting: in none of the figures above.
    pub dropped: u64,
    /// What was counted beside what the device counted, by the name of the interface, direction (as number) and
    /// unit; without those of which the device counted nothing.
    pub coverage: BTreeMap<(String, u8, Unit), Ledger>,
    /// Begin of the first and end of the last interval; `None` without any.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Names of all interfaces that were watched meanwhile; of captures, of those seen.
    pub interfaces: BTreeSet<String>,
    /// Who counted, and what was watched when it began.
    pub description: Description,
}

impl Report {
    /// What the filters did not exclude, in flows or not: the whole of which a row's share is a part.
    #[must_use]
    pub fn selected(&self) -> Amount {
        let filtered = self.filtered();
        Amount {
            packets: self.total.packets.saturating_sub(filtered.packets),
            wire_bytes: self.total.wire_bytes.saturating_sub(filtered.wire_bytes),
        }
    }

    /// What the filters excluded.
    #[must_use]
    pub fn filtered(&self) -> Amount {
        self.unaccounted.get(&(Reason::Filtered as u8)).copied().unwrap_or_default()
    }
}

impl Summary {
    /// An empty summary without a bound on its rows.
    #[must_use]
    pub fn new(kind: KeyKind, by_interface: bool) -> Self {
        Self {
            kind,
            by_interface,
            max_rows: usize::MAX,
            rows: HashMap::new(),
            host: Amount::default(),
            stacked: false,
            localities: false,
            unaccounted: BTreeMap::new(),
            lost: Lost::default(),
            late: Amount::default(),
            dropped: 0,
            coverage: BTreeMap::new(),
            span: None,
            interfaces: BTreeSet::new(),
        }
    }

    /// Holds at most `max_rows` rows; what belongs to further ones is counted as [`Reason::TableFull`].
    #[must_use]
    pub const fn with_max_rows(mut self, max_rows: usize) -> Self {
        self.max_rows = max_rows;
        self
    }

    /// Adds one interval.
    pub fn add(&mut self, snapshot: &Snapshot) {
        let mut unaccounted: BTreeMap<(u8, u32, u8), Amount> = BTreeMap::new();
        for flow in &snapshot.flows {
            let key = Key {
                src: flow.src(),
                dst: flow.dst(),
                transport: match self.kind {
                    KeyKind::Flow => (flow.key.proto, flow.key.sport, flow.key.dport),
                    KeyKind::Pair => (0, 0, 0),
                },
                interface: self.by_interface.then(|| snapshot.interface_name(flow.key.ifindex).into_owned()),
            };
            if self.rows.len() < self.max_rows || self.rows.contains_key(&key) {
                let (counters, locality) = self.rows.entry(key).or_default();
                counters.add(&flow.counters);
                // Where it differs, what is more of the host's own; whatever came first.
                *locality = (*locality).max(flow.locality);
            } else {
                unaccounted
                    .entry((Reason::TableFull as u8, flow.key.ifindex, flow.key.direction))
                    .or_default()
                    .add(&flow.counters.amount());
            }
        }
        for (key, amount) in &snapshot.unaccounted {
            unaccounted.entry((key.reason, key.ifindex, key.direction)).or_default().add(amount);
        }
        for ((reason, ifindex, direction), amount) in unaccounted {
            let interface = snapshot.interface_name(ifindex).into_owned();
            self.unaccounted.entry(Unaccounted { reason, interface, direction }).or_default().add(&amount);
        }
        self.host.add(&snapshot.host_total());
        self.stacked |= !snapshot.stacked.is_empty();
        self.localities |= snapshot.host_addresses.is_some();
        self.lost.merge(&snapshot.lost);
        self.late.add(&snapshot.late);
        self.dropped += snapshot.dropped();
        for ((ifindex, direction), coverage) in &snapshot.coverage {
            let key = (snapshot.interface_name(*ifindex).into_owned(), *direction, coverage.unit);
            self.coverage.entry(key).or_default().add(&coverage.interval, snapshot.length);
        }
        let (start, end) = self.span.unwrap_or((snapshot.start, snapshot.end));
        self.span = Some((start.min(snapshot.start), end.max(snapshot.end)));
        for name in snapshot.interfaces.values() {
            if !self.interfaces.contains(name) {
                self.interfaces.insert(name.clone());
            }
        }
    }

    /// Sorts the rows and sums them up.
    #[must_use]
    pub fn finish(self) -> Report {
        let mut rows: Vec<Row> = self
            .rows
            .into_iter()
            .map(|(key, (counters, locality))| Row {
                src: key.src,
                dst: key.dst,
                transport: (self.kind == KeyKind::Flow).then_some(key.transport),
                interface: key.interface,
                locality,
                counters,
            })
            .collect();
        rows.sort_unstable_by(|a, b| sort_key(a).cmp(&sort_key(b)));
        let mut places = self.unaccounted;
        places.retain(|_, amount| *amount != Amount::default());
        let mut unaccounted: BTreeMap<u8, Amount> = BTreeMap::new();
        for (place, amount) in &places {
            unaccounted.entry(place.reason).or_default().add(amount);
        }
        let mut coverage = self.coverage;
        coverage.retain(|_, ledger| ledger.device() > 0);

        let mut total = Amount::default();
        let (mut ip_bytes, mut estimated) = (0, 0);
        for Row { counters, .. } in &rows {
            total.add(&counters.amount());
            ip_bytes += counters.ip_bytes;
            estimated += counters.estimated;
        }
        let ip_packets = total.packets;
        for amount in unaccounted.values() {
            total.add(amount);
        }
        Report {
            kind: self.kind,
            by_interface: self.by_interface,
            localities: self.localities,
            total,
            host: self.stacked.then_some(self.host),
            ip_packets,
            ip_bytes,
            estimated,
            unaccounted,
            unaccounted_places: places,
            rows,
            lost_flows: self.lost.estimate(),
            late: self.late,
            dropped: self.dropped,
            coverage,
            span: self.span,
            interfaces: self.interfaces,
            description: Description::default(),
        }
    }
}

type SortKey<'a> = (Reverse<u64>, IpAddr, IpAddr, Option<(u8, u16, u16)>, Option<&'a str>);

fn sort_key(row: &Row) -> SortKey<'_> {
    (Reverse(row.counters.wire_bytes), row.src, row.dst, row.transport, row.interface.as_deref())
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use wherefore_common::{FlowKey, UnaccountedKey};

    use super::*;
    use crate::snapshot::Flow;

    /// Flows over a handful of addresses, ports and interfaces, so that keys meet often.
    pub(crate) fn snapshots() -> impl Strategy<Value = Vec<Snapshot>> {
        let flow = (0u8..4, 0u8..4, 0u16..3, 1u32..3, 0u8..3, any::<bool>(), 1u64..1_000_000, any::<u32>())
            .prop_map(|(src, dst, port, ifindex, direction, six, packets, time)| {
                let address = |last| {
                    let mut bytes = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, last];
                    // The same bytes with family 6 are an IPv4-mapped address on the wire.
                    if six && last == 1 {
                        bytes =
                            [0x20, 1, 0xd, 0xb8, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 1, 2, 3, 4];
                    }
                    bytes
                };
                let key = FlowKey {
                    src: address(src),
                    dst: address(dst),
                    ifindex,
                    sport: port,
                    dport: 443,
                    proto: if port == 2 { 17 } else { 6 },
                    family: if six { 6 } else { 4 },
                    direction,
                    pad: [0; 5],
                };
                let time = u64::from(time);
                let counters = FlowCounters {
                    packets,
                    wire_bytes: packets * 114,
                    ip_bytes: packets * 100,
                    first_ns: time,
                    last_ns: time + 5,
                    ..FlowCounters::default()
                };
                Flow::new(key, counters)
            });
        let lost = (1u32..3, 0u8..3, 0u8..12, 0u64..50);
        let snapshot = (
            proptest::collection::vec(flow, 0..30),
            proptest::collection::vec(lost, 0..6),
            0u64..9,
            any::<bool>(),
        )
            .prop_map(|(mut flows, lost, dropped, stacked)| {
                flows.sort_by_key(|flow| flow.key);
                flows.dedup_by_key(|flow| flow.key);
                let mut snapshot = Snapshot {
                    end: Timestamp(5_000_000_000),
                    length: std::time::Duration::from_secs(5),
                    complete: true,
                    interfaces: [(1, "eth0".to_owned()), (2, "a,\"b".to_owned())].into(),
                    stacked: stacked.then_some(2).into_iter().collect(),
                    flows,
                    dropped: [((1, 0), dropped)].into(),
                    ..Snapshot::default()
                };
                for (ifindex, direction, reason, packets) in lost {
                    let key = UnaccountedKey::new(ifindex, direction, reason);
                    snapshot.add_unaccounted(key, Amount { packets, wire_bytes: packets * 60 });
                }
                snapshot
            });
        proptest::collection::vec(snapshot, 0..5)
    }

    pub(crate) fn report(snapshots: &[Snapshot], kind: KeyKind, by_interface: bool) -> Report {
        let mut summary = Summary::new(kind, by_interface);
        for snapshot in snapshots {
            summary.add(snapshot);
        }
        summary.finish()
    }

    proptest! {
        #[test]
        fn nothing_is_lost_whatever_makes_a_row(
            snapshots in snapshots(), by_interface: bool, max_rows in 0usize..40,
        ) {
            let (mut all, mut host) = (Amount::default(), Amount::default());
            snapshots.iter().for_each(|snapshot| all.add(&snapshot.total()));
            snapshots.iter().for_each(|snapshot| host.add(&snapshot.host_total()));
            for kind in [KeyKind::Flow, KeyKind::Pair] {
                let mut summary = Summary::new(kind, by_interface).with_max_rows(max_rows);
                snapshots.iter().for_each(|snapshot| summary.add(snapshot));
                let report = summary.finish();
                prop_assert_eq!(report.total, all);
                prop_assert_eq!(report.host.unwrap_or(all), host);
                prop_assert!(report.rows.len() <= max_rows);
                let rows: u64 = report.rows.iter().map(|row| row.counters.packets).sum();
                let lost: u64 = report.unaccounted.values().map(|amount| amount.packets).sum();
                prop_assert_eq!(rows + lost, report.total.packets);
                prop_assert_eq!(rows, report.ip_packets);
                prop_assert!(report.unaccounted.values().all(|amount| amount.packets > 0));
                let mut placed = Amount::default();
                report.unaccounted_places.values().for_each(|amount| placed.add(amount));
                prop_assert_eq!(placed.packets, lost);
            }
        }

        #[test]
        fn the_order_of_snapshots_and_flows_does_not_matter(mut snapshots in snapshots(), by_interface: bool) {
            let forwards = report(&snapshots, KeyKind::Flow, by_interface);
            snapshots.reverse();
            snapshots.iter_mut().for_each(|snapshot| snapshot.flows.reverse());
            prop_assert_eq!(&report(&snapshots, KeyKind::Flow, by_interface), &forwards);
            for pair in forwards.rows.windows(2) {
                prop_assert!(sort_key(&pair[0]) < sort_key(&pair[1]), "each key once, in order");
            }
        }

        #[test]
        fn pairs_are_the_sums_of_their_flows(snapshots in snapshots()) {
            let flows = report(&snapshots, KeyKind::Flow, false);
            let pairs = report(&snapshots, KeyKind::Pair, false);
            prop_assert_eq!((pairs.total, pairs.ip_bytes), (flows.total, flows.ip_bytes));
            for pair in &pairs.rows {
                let bytes: u64 = flows.rows.iter()
                    .filter(|flow| (flow.src, flow.dst) == (pair.src, pair.dst))
                    .map(|flow| flow.counters.ip_bytes).sum();
                prop_assert_eq!(bytes, pair.counters.ip_bytes);
            }
        }
    }
}
