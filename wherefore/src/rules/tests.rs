use std::{net::Ipv4Addr, time::Duration};

use proptest::prelude::*;
use wherefore_common::{FlowCounters, FlowKey};

use super::*;
use crate::{
    snapshot::{Flow, Snapshot},
    time::Timestamp,
};

const SECOND: u64 = 1_000_000_000;

fn rule(condition: &str) -> Rule {
    Rule {
        name: "backup-only".into(),
        wanted: Match::default(),
        condition: condition.parse().unwrap(),
        by: By::All,
        severity: Severity::Warning,
        learn: Duration::ZERO,
    }
}

fn by(by: By, condition: &str) -> Rule {
    Rule { by, ..rule(condition) }
}

/// Host `n` of 192.0.2.0/24.
fn ours(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, n)
}

/// Host `n` of 198.51.100.0/24 and on.
fn theirs(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(198, 51, 100, 0).to_bits() + n)
}

fn flow(src: Ipv4Addr, dst: Ipv4Addr, port: u16, bytes: u64) -> Flow {
    let key = FlowKey {
        src: src.to_ipv6_mapped().octets(),
        dst: dst.to_ipv6_mapped().octets(),
        sport: port,
        dport: 443,
        proto: 6,
        family: 4,
        ifindex: 2,
        direction: Direction::Egress as u8,
        ..FlowKey::default()
    };
    let counters =
        FlowCounters { packets: bytes.div_ceil(1_000), ip_bytes: bytes, ..FlowCounters::default() };
    Flow { locality: Locality::Outgoing, ..Flow::new(key, counters) }
}

/// Intervals one after the other.
struct Host {
    rules: Rules,
    end: u64,
}

impl Host {
    fn new(rules: &[Rule]) -> Self {
        Self { rules: Rules::new(rules, Unit::Ip), end: 1_700_000_000 * SECOND }
    }

    fn snapshot(&mut self, millis: u64, flows: Vec<Flow>) -> Snapshot {
        let start = Timestamp(self.end);
        self.end += millis * 1_000_000;
        Snapshot {
            start,
            end: Timestamp(self.end),
            length: Duration::from_millis(millis),
            complete: true,
            flows,
            ..Snapshot::default()
        }
    }

    /// An interval of 5 s.
    fn interval(&mut self, flows: Vec<Flow>) -> Vec<Broken> {
        let snapshot = self.snapshot(5_000, flows);
        self.rules.evaluate(&snapshot)
    }

    /// Sentences of an interval of 5 s in which 192.0.2.1 sends this to 198.51.100.9.
    fn sends(&mut self, bytes: u64) -> Vec<String> {
        self.interval(vec![flow(ours(1), theirs(9), 5, bytes)]).iter().map(Broken::sentence).collect()
    }
}

const NOTHING: [String; 0] = [];

#[test]
fn a_rate_breaks_once_it_lasted_and_again_only_after_it_was_kept() {
    let mut rule = rule(r#"rate > "1 GB/s" for "10s""#);
    rule.wanted.remote = vec!["198.51.100.0/24".parse().unwrap()];
    let mut host = Host::new(&[rule]);
    assert_eq!(host.sends(15 * SECOND), NOTHING);
    let said = host.sends(17 * SECOND);
    assert_eq!(said, ["rule \"backup-only\": 3.2 GB/s for 10 s to 198.51.100.0/24, allowed is 1 GB/s"]);
    assert_eq!(host.sends(20 * SECOND), NOTHING, "told");
    // Exactly what is allowed is allowed.
    assert_eq!(host.sends(5 * SECOND), NOTHING);
    assert_eq!(host.sends(5 * SECOND + 1), NOTHING);
    assert_eq!(host.sends(5 * SECOND + 1).len(), 1);
}

#[test]
fn evidence_of_a_rate() {
    let mut host = Host::new(&[rule("rate > 1 MB/s")]);
    let traffic = || (1..=7).map(|n| flow(ours(n), theirs(9), 5, 1_000_000 * u64::from(n))).collect();
    let [broken] = &host.interval(traffic())[..] else { panic!("one") };
    assert_eq!(broken.sentence(), "rule \"backup-only\": 5.6 MB/s for 5 s, allowed is 1 MB/s");
    assert_eq!((broken.bytes, broken.group, broken.incoming), (28_000_000, Group::All, false));
    assert_eq!(broken.time.since(broken.since), Duration::from_secs(5));
    let shares: Vec<_> = broken.contributors.iter().map(|pair| (pair.src, pair.share)).collect();
    let expected: Vec<_> = (3..=7).rev().map(|n| (ours(n).into(), f64::from(n) / 28.0)).collect();
    assert_eq!(shares, expected);
}

#[test]
fn intervals_count_by_their_measured_length_and_a_partial_one_for_nothing() {
    let mut host = Host::new(&[rule("rate > 1 MB/s for 10s")]);
    let mut step = |millis, bytes, complete| {
        let mut snapshot = host.snapshot(millis, vec![flow(ours(1), theirs(9), 5, bytes)]);
        snapshot.complete = complete;
        host.rules.evaluate(&snapshot).len()
    };
    // 0.9 MB/s for 8 s.
    assert_eq!(step(8_000, 7_200_000, true), 0);
    // The scheduler's thousandths make no third interval of two.
    assert_eq!([step(4_999, 6_000_000, true), step(4_999, 6_000_000, true)], [0, 1]);
    assert_eq!(step(5_000, 0, true), 0);
    // 6 MB in 10 ms are no rate of an interval, and nothing to end one by.
    assert_eq!([step(5_000, 6_000_000, true), step(10, 6_000_000, false), step(10, 0, false)], [0, 0, 0]);
    assert_eq!(step(5_000, 6_000_000, true), 1);
}

#[test]
fn silence_between_snapshots_keeps_a_rate_and_slides_a_volume() {
    let mut host = Host::new(&[rule("rate > 1 MB/s for 10s"), by(By::Net, "volume > 10 MB per 1m")]);
    assert_eq!(host.sends(9_000_000), NOTHING);
    let mut late = host.snapshot(5_000, vec![flow(ours(1), theirs(9), 5, 9_000_000)]);
    (late.skipped, late.start, late.end) =
        (20, Timestamp(late.start.0 + 100 * SECOND), Timestamp(late.end.0 + 100 * SECOND));
    assert_eq!(host.rules.evaluate(&late), []);
    host.end = late.end.0;
    let said = host.sends(9_000_000);
    assert_eq!(said.len(), 2, "{said:?}");
    assert_eq!(said[1], "rule \"backup-only\": 18 MB in 1 min to 198.51.100.0/24, allowed is 10 MB per 1m");
}

#[test]
fn a_volume_is_told_with_who_carried_it_in_the_window() {
    let mut host = Host::new(&[rule("volume > 100 MB per 10m")]);
    for _ in 0..9 {
        assert_eq!(host.interval(vec![flow(ours(2), theirs(1), 5, 10_000_000)]), []);
    }
    // The last straw is not who is to blame.
    let [broken] = &host.interval(vec![flow(ours(3), theirs(1), 5, 10_000_001)])[..] else { panic!("one") };
    assert_eq!(broken.sentence(), "rule \"backup-only\": 100 MB in 50 s, allowed is 100 MB per 10m");
    assert_eq!(broken.contributors[0].src, IpAddr::from(ours(2)));
    assert!((broken.contributors[0].share - 0.9).abs() < 0.01, "{broken:?}");
    for _ in 0..120 {
        assert_eq!(host.interval(vec![]), []);
    }
    assert_eq!(host.sends(100_000_001).len(), 1, "kept in between");
}

/// A backup of every night fits into its day, whatever part of a bucket it begins in.
#[test]
fn what_comes_once_a_day_is_not_twice_in_a_day() {
    let mut host = Host::new(&[rule("volume > 50 GB per 24h")]);
    for minute in 0..(3 * 24 * 60) {
        let flows = if minute % 1_440 < 20 { vec![flow(ours(1), theirs(9), 5, 2 * SECOND)] } else { vec![] };
        let snapshot = host.snapshot(60_000, flows);
        assert_eq!(host.rules.evaluate(&snapshot), [], "minute {minute}");
    }
}

#[test]
fn each_group_breaks_by_itself() {
    for (by, groups) in [
        (By::Pair, &["192.0.2.1 → 198.51.100.1", "192.0.2.2 → 198.51.101.1"][..]),
        (By::Host, &["198.51.100.1", "198.51.101.1"]),
        (By::Net, &["198.51.100.0/24", "198.51.101.0/24"]),
        (By::All, &["all"]),
    ] {
        let mut host = Host::new(&[self::by(by, "rate > 1 MB/s")]);
        let broken = host.interval(vec![
            flow(ours(1), theirs(1), 5, 9_000_000),
            flow(ours(2), theirs(257), 5, 6_000_000),
            flow(ours(2), theirs(600), 5, 4_000_000),
        ]);
        let said: Vec<_> = broken.iter().map(|broken| broken.group.to_string()).collect();
        assert_eq!(said, groups, "{by:?}");
    }
}

#[test]
fn flows_and_packets_are_counted() {
    let mut host = Host::new(&[by(By::Host, "flows > 99 for 10s"), rule("packets > 20/s")]);
    let scan = |count| (0..count).map(|port| flow(ours(1), theirs(9), port, 1_000)).collect::<Vec<_>>();
    assert_eq!(host.interval(scan(99)), []);
    assert_eq!(host.interval(scan(100)), []);
    let said: Vec<_> = host.interval(scan(150)).iter().map(Broken::sentence).collect();
    assert_eq!(
        said,
        [
            "rule \"backup-only\": 150 flows for 10 s to 198.51.100.9, allowed is 99 flows",
            "rule \"backup-only\": 30 packets/s for 5 s, allowed is 20 packets/s"
        ]
    );
}

#[test]
fn new_destinations_after_what_was_learned() {
    let mut rule = rule("new destination");
    rule.learn = Duration::from_secs(10);
    let mut host = Host::new(&[rule]);
    let to = |hosts: &[u32]| hosts.iter().map(|n| flow(ours(1), theirs(*n), 5, 3_000)).collect::<Vec<_>>();
    assert_eq!(host.interval(to(&[1])), []);
    assert_eq!(host.interval(to(&[2])), []);
    assert_eq!(host.interval(to(&[1, 2])), []);
    let said: Vec<_> = host.interval(to(&[1, 3])).iter().map(Broken::sentence).collect();
    assert_eq!(said, ["rule \"backup-only\": new destination 198.51.100.3, from 192.0.2.1, 3 kB"]);
    assert_eq!(host.interval(to(&[3])), [], "known now");
    // A scan is one thing.
    let [scan] = &host.interval(to(&(0..200).collect::<Vec<_>>()))[..] else { panic!("one") };
    assert_eq!(scan.sentence(), "rule \"backup-only\": 197 new destinations, 591 kB together");
    assert_eq!(scan.contributors.len(), MAX_CONTRIBUTORS);
}

#[test]
fn destinations_beyond_what_is_remembered_are_counted_and_not_told() {
    let mut rule = rule("new destination");
    rule.learn = Duration::from_secs(5);
    let mut host = Host::new(&[rule]);
    let many = (0..MAX_DESTINATIONS as u32 - 1).map(|n| flow(ours(1), theirs(n), 5, 60)).collect();
    assert_eq!(host.interval(many), []);
    let more = || (0..3).map(|n| flow(ours(1), theirs(1_000_000 + n), 5, 60 + u64::from(n))).collect();
    let [broken] = &host.interval(more())[..] else { panic!("room for one") };
    assert_eq!(broken.bytes, 62, "the heaviest");
    assert_eq!(host.rules.counters().untold, 2);
    assert_eq!(host.interval(more()), []);
    assert_eq!(host.rules.counters(), Counters { turned_away: 0, untold: 4 });
}

#[test]
fn a_packet_seen_twice_counts_once_and_the_agents_own_traffic_never() {
    let mut host = Host::new(&[rule("rate > 1 MB/s")]);
    let mut twice = vec![flow(ours(1), theirs(9), 5, 4_000_000), flow(ours(1), theirs(9), 5, 4_000_000)];
    twice[1].key.ifindex = 3;
    assert_eq!(host.interval(twice), []);
    let mut own = flow(ours(1), theirs(9), 5, 9_000_000);
    own.own = true;
    assert_eq!(host.interval(vec![own]), []);
}

#[test]
fn what_came_in_is_from_the_remote_end() {
    let mut host = Host::new(&[by(By::Host, "rate > 1 MB/s"), by(By::Pair, "rate > 2 MB/s")]);
    let mut incoming = flow(theirs(9), ours(1), 5, 90_000_000);
    incoming.locality = Locality::Incoming;
    let said: Vec<_> = host.interval(vec![incoming]).iter().map(Broken::sentence).collect();
    assert_eq!(
        said,
        [
            "rule \"backup-only\": 18 MB/s for 5 s from 198.51.100.9, allowed is 1 MB/s",
            "rule \"backup-only\": 18 MB/s for 5 s from 198.51.100.9 to 192.0.2.1, allowed is 2 MB/s"
        ]
    );
}

proptest! {
    /// Told once for each time that a rule is broken, however often it is.
    #[test]
    fn told_once_for_each_breaking(above in prop::collection::vec(any::<bool>(), 1..60)) {
        let mut host = Host::new(&[rule("rate > 1 MB/s for 10s")]);
        let mut row = 0;
        for above in above {
            row = if above { row + 1 } else { 0 };
            let told = host.sends(if above { 9_000_000 } else { 1_000 }).len();
            prop_assert_eq!(told, usize::from(row == 2));
        }
    }
}
