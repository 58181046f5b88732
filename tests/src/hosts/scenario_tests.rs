use std::{collections::BTreeMap, time::Duration};

use wherefore_common::{FlowCounters, FlowKey};

use super::*;

/// Sent on average, and by the largest peer.
const USUAL: Usual = Usual { sent: 50_000.0, largest_peer: 80_000.0 };

/// What a scenario adds to a host's traffic.
struct Added {
    incident: Incident,
    /// By interval: flows with what they have more, packets and IP bytes.
    more: Vec<BTreeMap<FlowKey, (u64, u64)>>,
    /// By interval: IP bytes of flows that have less.
    less: Vec<u64>,
    /// By interval: IP bytes without it.
    calm: Vec<u64>,
    /// Seconds of the day at the onset.
    onset: f64,
}

/// With an onset three hours after midnight.
fn added(scenario: Scenario, kind: Kind, seed: u64, interval: u64, length: f64) -> Added {
    let mut host = Host::new(kind, seed, Duration::from_secs(interval));
    for _ in 0..3 * 3_600 / interval {
        host.step();
    }
    let onset = host.clock().start;
    let mut copy = host.clone();
    let mut incident = Incident::new(scenario, &mut copy, USUAL, seed);
    let mut added = Added { incident: incident.clone(), more: vec![], less: vec![], calm: vec![], onset };
    for _ in 0..(length / interval as f64) as u64 {
        let mut traffic = copy.step();
        incident.change(&mut traffic);
        let addresses = host.addresses();
        let flows = |traffic: Traffic| -> BTreeMap<FlowKey, FlowCounters> {
            let snapshot = traffic.snapshot(addresses.clone());
            assert!(snapshot.imbalance().is_empty());
            snapshot.flows.iter().map(|flow| (flow.key, flow.counters)).collect()
        };
        let with = flows(traffic);
        let without = flows(host.step());
        let mut more = BTreeMap::new();
        for (key, counters) in &with {
            let before = without.get(key).copied().unwrap_or_default();
            if counters.ip_bytes > before.ip_bytes {
                more.insert(*key, (counters.packets - before.packets, counters.ip_bytes - before.ip_bytes));
            }
        }
        let bytes = |flows: &BTreeMap<FlowKey, FlowCounters>, key: &FlowKey| {
            flows.get(key).map_or(0, |counters| counters.ip_bytes)
        };
        added
            .less
            .push(without.keys().map(|key| bytes(&without, key).saturating_sub(bytes(&with, key))).sum());
        added.calm.push(without.keys().map(|key| bytes(&without, key)).sum());
        added.more.push(more);
    }
    added
}

impl Added {
    /// IP bytes added that leave, by interval.
    fn sent(&self) -> Vec<u64> {
        let sent = |more: &BTreeMap<FlowKey, (u64, u64)>| {
            more.iter().filter(|(key, _)| key.direction == 1).map(|(_, (_, bytes))| bytes).sum()
        };
        self.more.iter().map(sent).collect()
    }

    /// All that is added concerns the incident, and nothing is taken.
    fn is_only_addition(&self) -> bool {
        let concerned = |key: &FlowKey| {
            let ip = |bytes| wherefore::snapshot::address(bytes, key.family);
            self.incident.concerns(ip(key.src)) || self.incident.concerns(ip(key.dst))
        };
        self.more.iter().all(|more| more.keys().all(concerned)) && self.less.iter().all(|less| *less == 0)
    }

    fn flows(&self) -> usize {
        let keys: std::collections::BTreeSet<_> = self.more.iter().flat_map(|more| more.keys()).collect();
        keys.len()
    }
}

/// Seeds and kinds; of each the onset is at another moment of its traffic.
fn everywhere(scenario: Scenario, length: f64, check: impl Fn(Kind, &Added)) {
    for (seed, kind) in Kind::ALL.into_iter().enumerate() {
        check(kind, &added(scenario, kind, seed as u64, 60, length));
    }
}

#[test]
fn a_burst_is_10_to_50_times_what_is_usual() {
    let mut sizes = Vec::new();
    for seed in 0..20 {
        let added = added(Scenario::TheftBurst, Kind::Idle, seed, 5, 400.0);
        assert!(added.is_only_addition());
        let sent: Vec<u64> = added.sent().into_iter().filter(|bytes| *bytes > 0).collect();
        assert_eq!(sent[0], added.sent()[0], "at once");
        // 1 to 5 minutes; the last interval is not full.
        assert!((12..=60).contains(&sent.len()), "{}", sent.len());
        // Headers are some 4 %.
        let rate = sent[0] as f64 / 5.0;
        assert!((1e6..2.7e6).contains(&rate), "{rate}");
        sizes.push(rate as u64);
    }
    sizes.sort_unstable();
    sizes.dedup();
    assert!(sizes.len() > 5, "factors differ: {sizes:?}");
}

#[test]
fn a_ramp_grows_for_two_hours_over_one_connection() {
    everywhere(Scenario::TheftRamp, 7_800.0, |kind, added| {
        assert!(added.is_only_addition() && added.flows() == 2, "{kind:?}");
        let sent = added.sent();
        assert!(sent[..120].windows(2).all(|pair| pair[0] < pair[1]), "{kind:?}");
        assert_eq!(sent[120..].iter().sum::<u64>(), 0);
        let top = sent[119] as f64 / 60.0;
        assert!((4.9e5..5.4e5).contains(&top), "{kind:?}: {top}");
    });
}

#[test]
fn a_scattered_theft_has_thousands_of_small_flows_to_one_network() {
    everywhere(Scenario::TheftScattered, 1_200.0, |kind, added| {
        assert!(added.is_only_addition(), "{kind:?}");
        // Some ports are drawn twice.
        assert!((7_800..=8_000).contains(&added.flows()), "{kind:?}: {}", added.flows());
        let sent = added.sent();
        let whole: u64 = sent.iter().sum();
        assert!((2.2e8..2.8e8).contains(&(whole as f64)), "{kind:?}: {whole}");
        let largest = added.more.iter().flat_map(|more| more.values()).map(|(_, bytes)| *bytes).max();
        assert!(largest.is_some_and(|bytes| bytes < 400_000), "{kind:?}: {largest:?}");
    });
}

#[test]
fn a_trickle_comes_three_nights_to_the_same_host() {
    let added = added(Scenario::TheftTrickle, Kind::Idle, 3, 60, 4.0 * DAY);
    assert!(added.is_only_addition());
    let sent = added.sent();
    let nights = sent.split(|bytes| *bytes == 0).filter(|run| !run.is_empty()).collect::<Vec<_>>();
    assert_eq!(nights.len(), 3);
    for night in nights {
        let whole = night.iter().sum::<u64>() as f64;
        assert!((30..=32).contains(&night.len()) && (7e7..1.5e8).contains(&whole), "{whole}");
    }
    assert_eq!(added.flows(), 6, "a connection a night");
}

#[test]
fn a_new_destination_has_as_much_as_the_largest_peer() {
    everywhere(Scenario::NewDestination, 4_000.0, |kind, added| {
        assert!(added.is_only_addition() && added.flows() == 2, "{kind:?}");
        let sent = added.sent();
        assert_eq!(sent.iter().filter(|bytes| **bytes > 0).count(), 60);
        let rate = sent[30] as f64 / 60.0;
        assert!((8e4..8.5e4).contains(&rate), "{kind:?}: {rate}");
    });
}

#[test]
fn scans_and_floods_are_many_flows_of_a_packet() {
    for (scenario, flows, networks) in [
        (Scenario::PortScanIn, 10_000..=10_000, 1..=2),
        (Scenario::PortScanOut, 2_100..=2_400, 1..=2),
        (Scenario::SynFlood, 100_000..=108_000, 513..=513),
    ] {
        everywhere(scenario, 240.0, |kind, added| {
            assert!(added.is_only_addition(), "{scenario:?} {kind:?}");
            assert!(flows.contains(&added.flows()), "{scenario:?} {kind:?}: {}", added.flows());
            let packets = added.more.iter().flat_map(|more| more.values()).map(|(packets, _)| *packets).max();
            assert!(packets <= Some(3), "{scenario:?} {kind:?}: {packets:?}");
            let sources: std::collections::BTreeSet<_> =
                added.more.iter().flat_map(|more| more.keys()).map(|key| key.src[..15].to_vec()).collect();
            assert!(networks.contains(&sources.len()), "{scenario:?} {kind:?}: {}", sources.len());
        });
    }
}

#[test]
fn a_beacon_that_stops_takes_itself_alone() {
    for kind in [Kind::Idle, Kind::Worker] {
        let added = added(Scenario::BeaconStops, kind, 2, 60, 1_800.0);
        assert!(added.more.iter().all(BTreeMap::is_empty));
        // The first may have begun before.
        assert!(added.less[2..].iter().all(|bytes| (1_500..8_000).contains(bytes)), "{:?}", added.less);
    }
}

#[test]
fn an_outage_is_five_minutes_of_nothing() {
    everywhere(Scenario::Outage, 600.0, |kind, added| {
        assert_eq!(added.less[..5], added.calm[..5], "{kind:?}");
        assert!(added.more.iter().all(BTreeMap::is_empty) && added.less[5..].iter().all(|less| *less == 0));
    });
}

#[test]
fn a_backup_comes_at_the_same_minute_of_every_night() {
    // The seventh night may end five hours behind the seventh day.
    let added = added(Scenario::NewBackup, Kind::Web, 4, 60, 7.25 * DAY);
    assert!(added.is_only_addition());
    let sent = added.sent();
    let minutes: Vec<usize> = (0..sent.len())
        .filter(|n| sent[*n] > 0 && (*n == 0 || sent[n - 1] == 0))
        .map(|n| (n + (added.onset / 60.0) as usize) % 1_440)
        .collect();
    assert_eq!(minutes.len(), 7);
    assert!(minutes.iter().all(|minute| *minute == minutes[0] && *minute < 300), "{minutes:?}");
    let whole = sent.iter().sum::<u64>() as f64 / 7.0;
    assert!((4.5e8..6e8).contains(&whole), "{whole}");
}

#[test]
fn a_deploy_doubles_every_flow() {
    everywhere(Scenario::DeployDoubles, 1_800.0, |kind, added| {
        for (more, calm) in added.more.iter().zip(&added.calm) {
            assert_eq!(more.values().map(|(_, bytes)| *bytes).sum::<u64>(), *calm, "{kind:?}");
        }
    });
}
