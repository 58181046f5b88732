use std::collections::{BTreeSet, HashSet};

use wherefore::{locality::Locality, snapshot::Snapshot};

use super::{clock::DAY, *};

const MINUTE: Duration = Duration::from_secs(60);

fn day(kind: Kind, seed: u64) -> Vec<Snapshot> {
    let mut host = Host::new(kind, seed, MINUTE);
    (0..1_440).map(|_| host.step().snapshot(host.addresses())).collect()
}

/// Megabytes sent and received.
fn megabytes(snapshots: &[Snapshot]) -> [f64; 2] {
    [1, 0].map(|direction| {
        let passed =
            snapshots.iter().filter_map(|snapshot| snapshot.passed.get(&(traffic::IFINDEX, direction)));
        passed.map(|passed| passed.all.wire_bytes).sum::<u64>() as f64 / 1e6
    })
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_one_others() {
    for kind in Kind::ALL {
        let snapshots = |seed| {
            let mut host = Host::new(kind, seed, MINUTE);
            (0..200).map(|_| host.step().snapshot(host.addresses())).collect::<Vec<_>>()
        };
        assert_eq!(snapshots(3), snapshots(3));
        assert_ne!(snapshots(3), snapshots(4));
    }
}

#[test]
fn snapshots_are_as_a_backend_makes_them() {
    for kind in Kind::ALL {
        let mut localities = BTreeSet::new();
        let mut families = HashSet::new();
        let mut last = None;
        for snapshot in day(kind, 1) {
            assert!(snapshot.imbalance().is_empty());
            assert!(last.is_none_or(|end| end == snapshot.start), "intervals join");
            last = Some(snapshot.end);
            let keys: HashSet<_> = snapshot.flows.iter().map(|flow| flow.key).collect();
            assert_eq!(keys.len(), snapshot.flows.len(), "each key once");
            for flow in &snapshot.flows {
                let counters = flow.counters;
                assert!(snapshot.start.0 <= counters.first_ns && counters.last_ns < snapshot.end.0);
                assert_eq!(counters.wire_bytes, counters.ip_bytes + 14 * counters.packets);
                assert!((28..=1_500 + 40).contains(&(counters.ip_bytes / counters.packets)), "{flow:?}");
                localities.insert(flow.locality);
                families.insert(flow.key.family);
            }
        }
        assert!(localities.contains(&Locality::Incoming) && localities.contains(&Locality::Outgoing));
        assert_eq!(localities.contains(&Locality::Forwarded), kind == Kind::Router);
        assert_eq!(families.len(), 2, "{kind:?}: both families");
    }
}

/// Megabytes that a day may have, sent and received: a working day of any seed.
#[test]
fn volumes_are_those_of_the_kind() {
    for (kind, sent, received) in [
        (Kind::Web, 3_500.0..6_500.0, 2_500.0..4_500.0),
        (Kind::Database, 20_000.0..30_000.0, 1_800.0..2_800.0),
        (Kind::Worker, 80.0..130.0, 200.0..450.0),
        (Kind::Idle, 50.0..80.0, 3.0..700.0),
        (Kind::Files, 9_000.0..20_000.0, 1_000.0..6_000.0),
        (Kind::Router, 3_500.0..14_000.0, 7_000.0..25_000.0),
    ] {
        for seed in 0..8 {
            let mut host = Host::new(kind, seed, MINUTE);
            host.clock.first_day = 1;
            let snapshots: Vec<_> = (0..1_440).map(|_| host.step().snapshot(host.addresses())).collect();
            let [out, back] = megabytes(&snapshots);
            assert!(sent.contains(&out) && received.contains(&back), "{kind:?} {seed}: {out} {back}");
        }
    }
}

#[test]
fn five_seconds_and_a_minute_carry_alike() {
    for kind in Kind::ALL {
        let total = |interval: u64| {
            let mut host = Host::new(kind, 1, Duration::from_secs(interval));
            (0..DAY as u64 / interval).map(|_| host.step().bytes().iter().sum::<u64>()).sum::<u64>() as f64
        };
        let ratio = total(5) / total(60);
        assert!((0.5..2.0).contains(&ratio), "{kind:?}: {ratio}");
    }
}

#[test]
fn jobs_of_the_night_come_every_night() {
    let mut host = Host::new(Kind::Database, 5, MINUTE);
    let mut nights = Vec::new();
    for _ in 0..3 {
        let large = (0..1_440).filter(|_| host.step().bytes()[0] > 1_000_000_000).count();
        nights.push(large);
    }
    assert_eq!(nights.iter().filter(|large| (1..=2).contains(*large)).count(), 3, "{nights:?}");
}

#[test]
fn a_web_server_has_hundreds_of_clients_in_many_networks() {
    let mut clients = HashSet::new();
    let mut networks = HashSet::new();
    for flow in day(Kind::Web, 2).iter().flat_map(|snapshot| &snapshot.flows) {
        if flow.key.direction == 0 && flow.key.dport == 443 {
            clients.insert(flow.key.src);
            networks.insert(flow.key.src[..15].to_vec());
        }
    }
    assert!((400..3_000).contains(&clients.len()), "{}", clients.len());
    assert!(networks.len() > 150, "{}", networks.len());
}
