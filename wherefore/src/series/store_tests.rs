use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use wherefore_common::FlowKey;

use super::*;
use crate::time::Timestamp;

const INTERVAL: Duration = Duration::from_secs(5);

/// A flow of host number `host` from port `sport`, ingress on interface 1; IP bytes are 40 fewer than wire
/// bytes.
fn flow(host: u32, sport: u16, ip_bytes: u64) -> Flow {
    Flow {
        key: FlowKey {
            src: Ipv4Addr::from(0xC633_6400 + host).to_ipv6_mapped().octets(),
            dst: Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().octets(),
            ifindex: 1,
            sport,
            dport: 443,
            proto: 6,
            family: 4,
            ..FlowKey::default()
        },
        counters: FlowCounters { packets: 1, wire_bytes: ip_bytes + 40, ip_bytes, ..FlowCounters::default() },
        own: false,
        locality: Default::default(),
    }
}

fn on(ifindex: u32, direction: Direction, mut flow: Flow) -> Flow {
    flow.key.ifindex = ifindex;
    flow.key.direction = direction as u8;
    flow
}

fn snapshot(flows: Vec<Flow>) -> Snapshot {
    Snapshot {
        length: INTERVAL,
        complete: true,
        flows,
        interfaces: [(1, "eth0".to_owned()), (2, "eth1".to_owned())].into(),
        ..Snapshot::default()
    }
}

fn pair(host: u32) -> SeriesKey {
    SeriesKey {
        src: IpAddr::V4(Ipv4Addr::from(0xC633_6400 + host)),
        dst: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        transport: None,
    }
}

fn store(settings: Settings) -> Store {
    Store::new(settings)
}

fn history(store: &Store, host: u32) -> Option<&[f64]> {
    store.get(&pair(host)).map(Series::history)
}

#[test]
fn a_pair_is_the_sum_of_its_flows_and_a_flow_is_not() {
    let flows = vec![flow(1, 1000, 100), flow(1, 2000, 30), flow(2, 1000, 7)];
    let mut pairs = store(Settings::default());
    assert!(pairs.observe(&snapshot(flows.clone()), INTERVAL));
    assert_eq!((history(&pairs, 1), history(&pairs, 2)), (Some(&[130.0][..]), Some(&[7.0][..])));

    let mut by_flow = store(Settings { level: Level::Flow, unit: Unit::Wire, ..Settings::default() });
    by_flow.observe(&snapshot(flows), INTERVAL);
    let transport = Some(Transport { proto: 6, sport: 2000, dport: 443 });
    assert_eq!(by_flow.get(&SeriesKey { transport, ..pair(1) }).unwrap().value(), 70.0);
    assert_eq!(by_flow.counters().held, 3);
}

#[test]
fn a_mapped_address_on_the_wire_is_another_series() {
    let mut mapped = flow(1, 1000, 9);
    mapped.key.family = 6;
    let mut store = store(Settings::default());
    store.observe(&snapshot(vec![flow(1, 1000, 5), mapped]), INTERVAL);
    let v6 = |ip| match ip {
        IpAddr::V4(ip) => IpAddr::V6(Ipv6Addr::from_bits(0xFFFF_0000_0000 | u128::from(ip.to_bits()))),
        IpAddr::V6(_) => unreachable!("pairs are IPv4"),
    };
    let SeriesKey { src, dst, transport } = pair(1);
    let key = SeriesKey { src: v6(src), dst: v6(dst), transport };
    assert_eq!((store.get(&pair(1)).unwrap().value(), store.get(&key).unwrap().value()), (5.0, 9.0));
}

#[test]
fn the_agents_own_flows_are_no_series() {
    let mut own = flow(1, 1000, 1_000_000);
    own.own = true;
    let mut store = store(Settings::default());
    store.observe(&snapshot(vec![own, flow(1, 2000, 5), Flow { key: flow(2, 1, 1).key, ..own }]), INTERVAL);
    assert_eq!((history(&store, 1), history(&store, 2)), (Some(&[5.0][..]), None));
}

#[test]
fn a_packet_seen_twice_counts_once_where_most_was_seen() {
    let mut store = store(Settings::default());
    store.observe(
        &snapshot(vec![
            on(1, Direction::Ingress, flow(1, 1000, 100)),
            on(2, Direction::Egress, flow(1, 1000, 100)),
            on(2, Direction::Egress, flow(1, 2000, 20)),
        ]),
        INTERVAL,
    );
    let series = store.get(&pair(1)).unwrap();
    assert_eq!((series.value(), series.interface(), series.direction()), (120.0, "eth1", Direction::Egress));
    // A silent interval keeps what was last; a name that is not told is made up.
    store.observe(&Snapshot { interfaces: BTreeMap::new(), ..snapshot(vec![]) }, INTERVAL);
    let series = store.get(&pair(1)).unwrap();
    assert_eq!((series.value(), series.interface(), series.direction()), (0.0, "eth1", Direction::Egress));
    store.observe(&snapshot(vec![on(9, Direction::Unknown, flow(1, 1000, 1))]), INTERVAL);
    assert_eq!(store.get(&pair(1)).unwrap().interface(), "interface 9");
}

#[test]
fn bytes_are_those_of_the_interval_asked_for() {
    let mut store = store(Settings::default());
    let late = Snapshot { length: Duration::from_secs(8), ..snapshot(vec![flow(1, 1, 800)]) };
    store.observe(&late, INTERVAL);
    store.observe(&snapshot(vec![flow(1, 1, 333)]), INTERVAL);
    // The last of a capture: its bytes are all there are.
    let cut = Snapshot { length: Duration::from_secs(1), complete: false, ..snapshot(vec![flow(1, 1, 10)]) };
    store.observe(&cut, INTERVAL);
    store.observe(&Snapshot { length: Duration::ZERO, ..snapshot(vec![flow(1, 1, 20)]) }, INTERVAL);
    assert_eq!(history(&store, 1), Some(&[500.0, 333.0, 10.0, 20.0][..]));
}

#[test]
fn a_first_interval_is_recorded_unless_it_is_to_be_skipped() {
    let cut = Snapshot { complete: false, ..snapshot(vec![flow(1, 1, 10)]) };
    let mut live = store(Settings::default()).skip_first();
    assert!(!live.observe(&snapshot(vec![flow(1, 1, 10)]), INTERVAL));
    assert_eq!(history(&live, 1), None);
    assert!(live.observe(&cut, INTERVAL));
    let mut capture = store(Settings::default());
    assert!(capture.observe(&cut, INTERVAL));
    assert_eq!(history(&capture, 1), Some(&[10.0][..]));
}

#[test]
fn a_series_is_forgotten_after_so_many_silent_intervals() {
    let settings = Settings { expire_after: 3, ..Settings::default() };
    let mut store = store(settings);
    store.observe(&snapshot(vec![flow(1, 1, 10), flow(2, 1, 10)]), INTERVAL);
    store.observe(&snapshot(vec![]), INTERVAL);
    store.observe(&snapshot(vec![flow(2, 1, 10)]), INTERVAL);
    assert_eq!(history(&store, 1), Some(&[10.0, 0.0, 0.0][..]));
    store.observe(&snapshot(vec![]), INTERVAL);
    assert_eq!((history(&store, 1), store.counters().expired), (None, 1));
    // Two silent intervals that were skipped and one more; who speaks again begins anew.
    let gap = Snapshot { skipped: 2, ..snapshot(vec![flow(2, 1, 7)]) };
    store.observe(&gap, INTERVAL);
    assert_eq!((history(&store, 2), store.counters().expired), (Some(&[7.0][..]), 2));
}

#[test]
fn a_gap_of_years_costs_no_more_than_the_history() {
    let mut store = store(Settings { expire_after: u64::MAX, ..Settings::default() });
    store.observe(&snapshot(vec![flow(1, 1, 10)]), INTERVAL);
    store.observe(&Snapshot { skipped: u64::MAX - 1, ..snapshot(vec![flow(1, 1, 5)]) }, INTERVAL);
    let mut expected = vec![0.0; 29];
    expected.push(5.0);
    assert_eq!(history(&store, 1), Some(&expected[..]));
}

#[test]
fn a_full_store_keeps_the_heavy_and_turns_away_the_light() {
    let mut store = store(Settings { max_series: 2, ..Settings::default() });
    store.observe(&snapshot(vec![flow(1, 1, 1_000), flow(2, 1, 50), flow(3, 1, 40)]), INTERVAL);
    assert_eq!((history(&store, 3), store.counters().turned_away), (None, 1));
    // As heavy as the lightest is not heavier.
    store.observe(&snapshot(vec![flow(1, 1, 1), flow(2, 1, 50), flow(4, 1, 50)]), INTERVAL);
    assert_eq!((history(&store, 4), store.counters().turned_away), (None, 2));
    // A silent interval halves a weight.
    store.observe(&snapshot(vec![flow(4, 1, 40)]), INTERVAL);
    assert_eq!((history(&store, 2), history(&store, 4)), (None, Some(&[40.0][..])));
    assert_eq!(history(&store, 1), Some(&[1_000.0, 1.0, 0.0][..]));
    assert_eq!(store.counters(), Counters { held: 2, expired: 0, replaced: 1, turned_away: 2 });
}

/// 2,000 addresses an interval, each once, against 100 places.
#[test]
fn a_scan_does_not_push_out_the_talkers() {
    let mut store = store(Settings { max_series: 100, ..Settings::default() });
    for round in 0..50_u32 {
        let mut flows: Vec<Flow> = (0..2_000).map(|i| flow(1_000 + round * 2_000 + i, 1, 40)).collect();
        // Ten talkers, speaking in one of three intervals.
        flows.extend((0..10).filter(|i| (round + i) % 3 == 0).map(|i| flow(i, 1, 10_000)));
        store.observe(&snapshot(flows), INTERVAL);
        assert!(store.iter().count() <= 100);
    }
    assert!((0..10).all(|host| history(&store, host).is_some_and(|history| history.len() == 30)));
}

#[test]
fn no_places_hold_nothing() {
    let mut store = store(Settings { max_series: 0, ..Settings::default() });
    store.observe(&snapshot(vec![flow(1, 1, 10)]), INTERVAL);
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
        let mut store = store(Settings { history: cap, expire_after, ..Settings::default() });
        let mut expected: Vec<Option<Vec<f64>>> = vec![None; 3];
        for (skipped, bytes) in rounds {
            let flows = (0..3).map(|host| flow(host, 1, bytes[host as usize])).collect();
            store.observe(&Snapshot { skipped, start: Timestamp(99), ..snapshot(flows) }, INTERVAL);
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
                let tail = series.as_ref().map(|history| &history[history.len().saturating_sub(cap)..]);
                prop_assert_eq!(history(&store, host as u32), tail);
            }
        }
    }

    /// However a series' bytes are cut into flows, and in whatever order they come.
    #[test]
    fn the_order_of_flows_does_not_matter(
        mut parts in prop::collection::vec((0_u32..3, 1_u64..1_000), 1..30),
    ) {
        let observe = |parts: &[(u32, u64)]| {
            let mut store = store(Settings { max_series: 2, ..Settings::default() });
            let flows = (0_u16..).zip(parts).map(|(port, &(host, bytes))| flow(host, port, bytes)).collect();
            store.observe(&snapshot(flows), INTERVAL);
            (0..3).map(|host| history(&store, host).map(<[f64]>::to_vec)).collect::<Vec<_>>()
        };
        let before = observe(&parts);
        parts.reverse();
        prop_assert_eq!(before, observe(&parts));
    }
}
