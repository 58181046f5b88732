use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;
use wherefore_common::{Direction, FlowCounters, FlowKey};

use super::*;
use crate::{
    locality::Locality,
    series::{Level, Transport, Unit},
    snapshot::{Flow, Snapshot},
};

/// A flow of host number `host` from port `sport`, ingress on interface 1; IP bytes are 40 fewer than wire
/// bytes.
fn flow(host: u32, sport: u16, ip_bytes: u64) -> Flow {
    let key = FlowKey {
        src: Ipv4Addr::from(0xC633_6400 + host).to_ipv6_mapped().octets(),
        dst: Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().octets(),
        ifindex: 1,
        sport,
        dport: 443,
        proto: 6,
        family: 4,
        ..FlowKey::default()
    };
    Flow::new(
        key,
        FlowCounters { packets: 1, wire_bytes: ip_bytes + 40, ip_bytes, ..FlowCounters::default() },
    )
}

fn on(ifindex: u32, direction: Direction, mut flow: Flow) -> Flow {
    flow.key.ifindex = ifindex;
    flow.key.direction = direction as u8;
    flow
}

fn snapshot(flows: Vec<Flow>) -> Snapshot {
    Snapshot {
        flows,
        interfaces: [(1, "eth0".to_owned()), (2, "eth1".to_owned())].into(),
        ..Snapshot::default()
    }
}

fn pair(host: u32) -> SeriesKey {
    SeriesKey::Pair { src: IpAddr::V4(Ipv4Addr::from(0xC633_6400 + host)), dst: ip("192.0.2.1") }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn store(most: usize) -> Store<()> {
    Store::new(Bounds { most, expire_after: 1_000, exact: true })
}

fn measured(flows: Vec<Flow>, level: Level) -> Measured {
    Measured::new(&snapshot(flows), level, Unit::Ip, 0)
}

const INTAKE: Intake = Intake { metric: Metric::Bytes, scale: 1.0, now: 1, visit: 100 };

/// Records an interval as a judge does; the largest newcomer.
fn observe(store: &mut Store<()>, flows: Vec<Flow>, history: usize) -> Option<SeriesKey> {
    let measured = measured(flows, Level::Pair);
    let is_new = |head: &Head| head.values < 3;
    let newcomers = store.observe(&measured, INTAKE, is_new, |_| true, || ());
    let largest = newcomers.largest[Role::Served as usize].map(|newcomer| newcomer.carried.key);
    for newest in store.iter_mut() {
        newest.series.push(newest.head, newest.value, 0);
        newest.exact.unwrap().push(newest.value, history);
    }
    store.expire();
    largest
}

fn history(store: &Store<()>, host: u32) -> Option<Vec<f64>> {
    store.exact(&pair(host)).map(|exact| exact.values.clone())
}

#[test]
fn a_series_is_the_sum_of_its_flows_at_each_level() {
    let mut outgoing = flow(0, 5, 1_000);
    std::mem::swap(&mut outgoing.key.src, &mut outgoing.key.dst);
    outgoing.locality = Locality::Outgoing;
    let mut local = flow(9, 9, 50);
    local.locality = Locality::Local;
    let incoming = |flow| Flow { locality: Locality::Incoming, ..flow };
    let flows = vec![
        incoming(flow(1, 1_000, 100)),
        incoming(flow(1, 2_000, 30)),
        incoming(flow(2, 1_000, 7)),
        on(1, Direction::Egress, outgoing),
        local,
    ];
    let of = |level, unit| {
        let measured = Measured::new(&snapshot(flows.clone()), level, unit, 0);
        let mut all: Vec<(String, u64, u64)> =
            measured.busiest(Metric::Bytes).map(|row| (row.key.to_string(), row.bytes, row.flows)).collect();
        all.sort();
        all
    };
    let expected = |rows: &[(&str, u64, u64)]| -> Vec<(String, u64, u64)> {
        rows.iter().map(|(key, bytes, flows)| ((*key).to_owned(), *bytes, *flows)).collect()
    };
    assert_eq!(
        of(Level::Pair, Unit::Wire),
        expected(&[
            ("192.0.2.1 → 198.51.100.0", 1_040, 1),
            ("198.51.100.1 → 192.0.2.1", 210, 2),
            ("198.51.100.2 → 192.0.2.1", 47, 1),
            ("198.51.100.9 → 192.0.2.1", 90, 1),
        ])
    );
    assert_eq!(of(Level::Flow, Unit::Ip).len(), 5);
    // What is local has no remote network.
    assert_eq!(
        of(Level::Net, Unit::Ip),
        expected(&[("from 198.51.100.0/24", 137, 3), ("to 198.51.100.0/24", 1_000, 1)])
    );
    assert_eq!(
        of(Level::Interface, Unit::Ip),
        expected(&[("eth0 egress", 1_000, 1), ("eth0 ingress", 187, 4)])
    );
}

#[test]
fn where_no_end_is_known_a_flow_is_of_both_networks() {
    let of = |locality| {
        let mut flow = flow(1, 1, 10);
        flow.locality = locality;
        measured(vec![flow], Level::Net)
            .busiest(Metric::Bytes)
            .map(|row| row.key.to_string())
            .collect::<Vec<_>>()
    };
    for locality in [Locality::Unknown, Locality::Forwarded] {
        assert_eq!(of(locality), ["to 192.0.2.0/24", "from 198.51.100.0/24"]);
    }
    assert_eq!(of(Locality::Outgoing), ["to 192.0.2.0/24"]);
}

#[test]
fn an_interface_goes_on_by_its_name() {
    let back = Snapshot {
        interfaces: [(7, "eth0".to_owned())].into(),
        ..snapshot(vec![on(7, Direction::Ingress, flow(1, 1, 5))])
    };
    let key = SeriesKey::interface("eth0", Direction::Ingress);
    assert!(measured(vec![flow(1, 1, 9)], Level::Interface).get(&key, Metric::Bytes).is_some());
    assert!(Measured::new(&back, Level::Interface, Unit::Ip, 0).get(&key, Metric::Bytes).is_some());
    let nameless = measured(vec![on(9, Direction::Unknown, flow(1, 1, 9))], Level::Interface);
    assert_eq!(nameless.busiest(Metric::Bytes).next().unwrap().key.to_string(), "interface 9");
}

#[test]
fn only_the_busiest_interface_and_direction_counts() {
    let flows = vec![
        on(1, Direction::Ingress, flow(1, 1, 100)),
        on(2, Direction::Egress, flow(1, 1, 90)),
        on(2, Direction::Egress, flow(1, 2, 20)),
        Flow { own: true, ..flow(1, 3, 5_000) },
        flow(2, 1, 0),
    ];
    let measured = measured(flows, Level::Pair);
    assert_eq!(measured.len(), 1, "neither the agent's own nor what carried nothing");
    let bytes = measured.get(&pair(1), Metric::Bytes).unwrap();
    assert_eq!((bytes.ifindex, bytes.direction, bytes.bytes), (2, 1, 110));
    let places: Vec<_> = measured.places(&pair(1)).map(|place| (place.ifindex, place.flows)).collect();
    assert_eq!(places, [(1, 1), (2, 2)]);
    assert_eq!(measured.places(&pair(3)).count(), 0);
    // Equal on both: the first, in whatever order they come.
    for flows in [[(2, 5), (1, 5)], [(1, 5), (2, 5)]] {
        let flows = flows.map(|(ifindex, bytes)| on(ifindex, Direction::Egress, flow(1, 1, bytes)));
        let measured = Measured::new(&snapshot(flows.into()), Level::Pair, Unit::Ip, 9);
        assert_eq!(measured.get(&pair(1), Metric::Bytes).unwrap().ifindex, 1);
    }
}

#[test]
fn the_largest_newcomer_is_the_largest_of_those_hardly_known() {
    let mut store = store(10);
    for _ in 0..3 {
        assert_eq!(observe(&mut store, vec![flow(1, 1, 1_000)], 5), Some(pair(1)));
    }
    assert_eq!(observe(&mut store, vec![flow(1, 1, 1_000)], 5), None);
    assert_eq!(observe(&mut store, vec![flow(1, 1, 1_000), flow(2, 1, 7), flow(3, 1, 9)], 5), Some(pair(3)));
    // Without a place they are as new the next time.
    let mut full = self::store(0);
    for _ in 0..5 {
        assert_eq!(observe(&mut full, vec![flow(4, 1, 1)], 5), Some(pair(4)));
    }
}

#[test]
fn a_series_is_forgotten_after_so_many_silent_intervals() {
    let mut store = Store::new(Bounds { most: 10, expire_after: 3, exact: true });
    observe(&mut store, vec![flow(1, 1, 10), flow(2, 1, 10)], 5);
    observe(&mut store, vec![], 5);
    observe(&mut store, vec![flow(2, 1, 10)], 5);
    assert_eq!(history(&store, 1), Some(vec![10.0, 0.0, 0.0]));
    observe(&mut store, vec![], 5);
    assert_eq!((history(&store, 1), store.counters().expired), (None, 1));
    // One silent interval was judged, one was skipped; who speaks again begins anew.
    store.fall_silent(2, 5);
    assert_eq!(store.counters().expired, 2);
    observe(&mut store, vec![flow(2, 1, 7)], 5);
    assert_eq!(history(&store, 2), Some(vec![7.0]));
}

#[test]
fn a_gap_of_years_costs_no_more_than_the_history() {
    let mut store = Store::new(Bounds { most: 10, expire_after: u64::MAX, exact: true });
    observe(&mut store, vec![flow(1, 1, 10)], 30);
    store.fall_silent(u64::MAX - 1, 30);
    observe(&mut store, vec![flow(1, 1, 5)], 30);
    let mut expected = vec![0.0; 29];
    expected.push(5.0);
    assert_eq!(history(&store, 1), Some(expected));
}

#[test]
fn a_full_store_keeps_the_heavy_and_turns_away_the_light() {
    let mut store = store(2);
    observe(&mut store, vec![flow(1, 1, 1_000), flow(2, 1, 50), flow(3, 1, 40)], 5);
    assert_eq!((history(&store, 3), store.counters().turned_away), (None, 1));
    // As heavy as the lightest is not heavier.
    observe(&mut store, vec![flow(1, 1, 1), flow(2, 1, 50), flow(4, 1, 50)], 5);
    assert_eq!((history(&store, 4), store.counters().turned_away), (None, 2));
    // A silent interval halves a weight.
    observe(&mut store, vec![flow(4, 1, 40)], 5);
    assert_eq!((history(&store, 2), history(&store, 4)), (None, Some(vec![40.0])));
    assert_eq!(history(&store, 1), Some(vec![1_000.0, 1.0, 0.0]));
    assert_eq!(store.counters(), Counters { held: 2, expired: 0, replaced: 1, turned_away: 2 });
}

/// A million addresses, 20,000 an interval, each once, against 2,000 places.
#[test]
fn a_scan_of_a_million_keys_pushes_out_no_talker() {
    let mut store: Store<()> = Store::new(Bounds { most: 2_000, expire_after: 1_000, exact: false });
    for round in 0..50_u32 {
        let mut flows: Vec<Flow> = (0..20_000).map(|i| flow(1_000 + round * 20_000 + i, 1, 40)).collect();
        // A hundred talkers, speaking in one of ten intervals.
        flows.extend((0..100).filter(|i| (round + i) % 10 == 0).map(|i| flow(i, 1, 10_000)));
        let measured = measured(flows, Level::Pair);
        store.observe(&measured, INTAKE, |_| false, |_| false, || ());
        store.iter_mut().for_each(|newest| newest.series.push(newest.head, newest.value, round));
        store.expire();
        assert!(store.iter().count() <= 2_000);
        assert!(store.series.capacity() <= 2_000 + 2_000 / 8 && store.index.capacity() < 8_000);
    }
    for host in 0..100 {
        let first_spoke = (10 - host % 10) % 10;
        let values = store.iter().find(|(key, ..)| **key == pair(host)).map(|(_, head, ..)| head.values);
        assert_eq!(values, Some(50 - first_spoke), "{host}");
    }
}

#[test]
fn no_places_hold_nothing() {
    let mut store = store(0);
    observe(&mut store, vec![flow(1, 1, 10)], 5);
    assert_eq!((store.iter().count(), store.counters().turned_away), (0, 1));
}

proptest! {
    /// Against the plain definition: each series is what was observed, from its first byte on, the last `cap`
    /// of it.
    #[test]
    fn histories_are_what_was_observed(
        rounds in prop::collection::vec((0_u64..4, prop::collection::vec(0_u64..3, 3)), 1..40),
        cap in 1_usize..12,
        expire_after in 1_u64..8,
    ) {
        let mut store = Store::new(Bounds { most: 10, expire_after, exact: true });
        let mut expected: Vec<Option<Vec<f64>>> = vec![None; 3];
        for (skipped, bytes) in rounds {
            store.fall_silent(skipped, cap);
            observe(&mut store, (0..3).map(|host| flow(host, 1, bytes[host as usize])).collect(), cap);
            for (series, &bytes) in expected.iter_mut().zip(&bytes) {
                for value in std::iter::repeat_n(0, skipped as usize).chain([bytes]) {
                    match series {
                        None if value > 0 => *series = Some(vec![value as f64]),
                        None => {}
                        Some(history) => history.push(value as f64),
                    }
                    let silent = |history: &Vec<f64>| history.iter().rev().take_while(|&&v| v == 0.0).count();
                    series.take_if(|history| silent(history) as u64 >= expire_after);
                }
            }
            for (host, series) in expected.iter().enumerate() {
                let tail = series.as_ref().map(|history| history[history.len().saturating_sub(cap)..].to_vec());
                prop_assert_eq!(history(&store, host as u32), tail);
            }
        }
    }

    /// However a series' bytes are cut into flows, and in whatever order they come.
    #[test]
    fn the_order_of_flows_does_not_matter(
        mut parts in prop::collection::vec((0_u32..3, 1_u64..1_000), 1..30),
    ) {
        let held = |parts: &[(u32, u64)]| {
            let mut store = store(2);
            let flows = (0_u16..).zip(parts).map(|(port, &(host, bytes))| flow(host, port, bytes)).collect();
            observe(&mut store, flows, 5);
            (0..3).map(|host| history(&store, host)).collect::<Vec<_>>()
        };
        let before = held(&parts);
        parts.reverse();
        prop_assert_eq!(before, held(&parts));
    }
}

#[test]
fn a_key_of_a_flow_has_its_ports() {
    let flows = measured(vec![flow(1, 1_000, 100)], Level::Flow);
    let key = flows.busiest(Metric::Bytes).next().unwrap().key;
    assert_eq!(key.transport(), Some(Transport { proto: 6, sport: 1_000, dport: 443 }));
}
