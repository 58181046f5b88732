//! Several levels, judged within a budget.

use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::*;
use crate::{
    detect::ewma::Ewma,
    finding::{Highest, Trend},
    locality::Locality,
    series::{Metric, SeriesKey},
};

/// Hosts of 203.0.113.0/24 that talk to 192.0.2.1, and back.
#[derive(Clone, Copy)]
struct Talk {
    host: u8,
    flows: u16,
    /// Bytes of all its flows to this host, a tenth of them back.
    bytes: u64,
}

fn talk(host: u8, bytes: u64) -> Talk {
    Talk { host, flows: 1, bytes }
}

fn flow(src: [u8; 4], dst: [u8; 4], sport: u16, bytes: u64, incoming: bool) -> Flow {
    let mapped = |ip: [u8; 4]| Ipv4Addr::from(ip).to_ipv6_mapped().octets();
    let key = FlowKey {
        src: mapped(src),
        dst: mapped(dst),
        sport,
        dport: 443,
        proto: 6,
        family: 4,
        ifindex: 2,
        direction: u8::from(!incoming),
        ..FlowKey::default()
    };
    let counters = FlowCounters { packets: 1, wire_bytes: bytes, ip_bytes: bytes, ..FlowCounters::default() };
    let locality = if incoming { Locality::Incoming } else { Locality::Outgoing };
    Flow { locality, ..Flow::new(key, counters) }
}

fn interval_of(number: u64, talks: &[Talk]) -> Snapshot {
    let mut flows = Vec::new();
    for talk in talks {
        let (remote, own) = ([203, 0, 113, talk.host], [192, 0, 2, 1]);
        for port in 0..talk.flows {
            let bytes = talk.bytes / u64::from(talk.flows);
            flows.push(flow(remote, own, port, bytes, true));
            flows.push(flow(own, remote, port, bytes / 10, false));
        }
    }
    Snapshot { flows, interfaces: [(2, "eth0".to_owned())].into(), ..interval(number, &[]) }
}

fn judge() -> Judge<Ewma> {
    judge_of(series::Settings::default().levels)
}

fn judge_of(levels: Vec<Level>) -> Judge<Ewma> {
    let settings = Settings { thresholds: Thresholds::default(), budget: Some(1.0) };
    let series = series::Settings { levels, ..series::Settings::default() };
    Judge::new(series, INTERVAL, settings, Ewma::new(INTERVAL))
}

/// A hundred intervals and more in which ten hosts bring about a megabyte each.
struct Calm {
    rng: SmallRng,
    number: u64,
}

impl Calm {
    fn new() -> Self {
        Self { rng: SmallRng::seed_from_u64(1), number: 0 }
    }

    fn next(&mut self) -> Vec<Talk> {
        let mut talk = |host| Talk {
            host,
            flows: self.rng.random_range(1..4),
            bytes: self.rng.random_range(900_000..1_100_000),
        };
        (0..10).map(&mut talk).collect()
    }

    fn interval(&mut self, change: impl FnOnce(&mut Vec<Talk>)) -> Snapshot {
        let mut talks = self.next();
        change(&mut talks);
        self.number += 1;
        interval_of(self.number, &talks)
    }

    fn learn(&mut self, judge: &mut Judge<Ewma>, intervals: usize) {
        for _ in 0..intervals {
            let findings = judge.judge(&self.interval(|_| ()));
            assert!(findings.is_empty(), "{findings:#?}");
        }
    }
}

fn names(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(|finding| format!("{} {}", finding.series, finding.metric.name())).collect()
}

#[test]
fn a_burst_of_one_pair_is_told_as_that_pair_once() {
    let (mut judge, mut calm) = (judge(), Calm::new());
    calm.learn(&mut judge, 200);
    let findings = judge.judge(&calm.interval(|talks| talks[3].bytes = 50_000_000));
    assert_eq!(names(&findings), ["203.0.113.3 → 192.0.2.1 bytes"]);
    let found = &findings[0];
    assert_eq!((found.trend, found.value, found.metric), (Trend::Rise, 50e6, Metric::Bytes));
    assert_eq!(found.highest, Highest::SinceStart(INTERVAL * 200));
    assert_eq!(found.since, found.time);
    assert_eq!(found.interface, "eth0");
    let limit = found.limit.unwrap();
    assert!((1.1e6..3e6).contains(&limit), "{limit}");
    assert!(found.budget.is_some_and(|budget| budget < 1.0));
    let reverse = found.reverse.as_ref().map(|reverse| reverse.series.to_string());
    assert_eq!(reverse.as_deref(), Some("192.0.2.1 → 203.0.113.3"));
    // The network and the interface, each way, had the same cause.
    assert!(found.folded.count >= 4, "{:?}", found.folded);
    // It goes on, and ends: nothing new.
    for _ in 0..5 {
        let findings = judge.judge(&calm.interval(|talks| talks[3].bytes = 50_000_000));
        assert_eq!(names(&findings), [""; 0]);
    }
    let told = (0..150).flat_map(|_| judge.judge(&calm.interval(|_| ()))).collect::<Vec<_>>();
    assert_eq!(names(&told), [""; 0]);
}

#[test]
fn a_state_that_becomes_far_worse_is_told_once_more() {
    let (mut judge, mut calm) = (judge_of(vec![Level::Pair]), Calm::new());
    calm.learn(&mut judge, 200);
    let mut told = Vec::new();
    for bytes in [1_380_000, 1_380_000, 60_000_000, 60_000_000] {
        let findings = judge.judge(&calm.interval(|talks| talks[3].bytes = bytes));
        told.push(findings.iter().map(|finding| finding.worse).collect::<Vec<_>>());
    }
    assert_eq!(told, [vec![false], vec![], vec![true], vec![]]);
}

#[test]
fn a_silence_is_told_with_what_was_usual_before_it() {
    let (mut judge, mut calm) = (judge_of(vec![Level::Pair]), Calm::new());
    calm.learn(&mut judge, 200);
    let findings = judge.judge(&calm.interval(|talks| talks.truncate(9)));
    assert_eq!(names(&findings), ["203.0.113.9 → 192.0.2.1 bytes"]);
    let found = &findings[0];
    assert_eq!((found.trend, found.value), (Trend::Silence, 0.0));
    assert!((0.9e6..1.0e6).contains(&found.usual.low) && (1.0e6..1.1e6).contains(&found.usual.high));
    assert!(found.limit.is_some_and(|limit| (0.5e6..0.95e6).contains(&limit)), "{:?}", found.limit);
    assert_eq!(found.interface, "eth0", "the one that last carried any");
}

#[test]
fn what_all_do_together_is_told_once_with_the_largest() {
    let (mut judge, mut calm) = (judge(), Calm::new());
    calm.learn(&mut judge, 200);
    let double = |talks: &mut Vec<Talk>| talks.iter_mut().for_each(|talk| talk.bytes *= 3);
    let findings = judge.judge(&calm.interval(double));
    assert_eq!(names(&findings), ["from 203.0.113.0/24 bytes"]);
    let found = &findings[0];
    assert!(found.folded.count >= 10, "{:?}", found.folded);
    assert_eq!((found.folded.top.len(), found.contributors.len()), (5, 5));
    let share: f64 = found.contributors.iter().map(|contributor| contributor.share).sum();
    assert!((0.4..0.7).contains(&share), "half of ten alike: {share}");
}

#[test]
fn a_scan_from_a_known_network_is_told_by_its_flows() {
    let (mut judge, mut calm) = (judge(), Calm::new());
    calm.learn(&mut judge, 200);
    let scan = |talks: &mut Vec<Talk>| talks.push(Talk { host: 77, flows: 3_000, bytes: 3_000 * 40 });
    let findings = judge.judge(&calm.interval(scan));
    assert_eq!(findings.len(), 1, "{:?}", names(&findings));
    let found = &findings[0];
    // The flows are those of the network, whichever way they are counted.
    assert_eq!(found.metric, Metric::Flows);
    assert!(matches!(found.series, SeriesKey::Net { .. }), "{}", found.series);
    assert!((3_010.0..3_031.0).contains(&found.value), "{}", found.value);
    assert!(found.contributors[0].share > 0.98, "{:?}", found.contributors);
}

#[test]
fn a_new_heavy_destination_is_named_and_said_to_be_new() {
    let (mut judge, mut calm) = (judge(), Calm::new());
    // Every second interval somebody new brings a little, so what newcomers carry is known.
    for i in 0..400_u64 {
        let visitor = talk(20 + (i / 2 % 200) as u8, 5_000 + i % 7 * 100);
        let findings = judge.judge(&calm.interval(|talks| talks.extend((i % 2 == 0).then_some(visitor))));
        assert!(findings.iter().all(|finding| finding.newcomer.is_some()), "{findings:#?}");
    }
    let findings = judge.judge(&calm.interval(|talks| talks.push(talk(250, 80_000_000))));
    assert_eq!(names(&findings), ["203.0.113.250 → 192.0.2.1 bytes"]);
    assert!(findings[0].newcomer.is_some());
    assert!(findings[0].usual.high < 10_000.0, "{:?}", findings[0].usual);
}

#[test]
fn too_little_is_never_told() {
    let (mut judge, mut calm) = (judge_of(vec![Level::Pair]), Calm::new());
    for _ in 0..100 {
        judge.judge(&calm.interval(|talks| talks.push(talk(99, 200))));
    }
    assert_eq!(names(&judge.judge(&calm.interval(|talks| talks.push(talk(99, 99_000))))), [""; 0]);
    assert_eq!(names(&judge.judge(&calm.interval(|_| ()))), [""; 0], "what was little is missed by nobody");
    assert_eq!(judge.judge(&calm.interval(|talks| talks.push(talk(99, 50_000_000)))).len(), 1);
}

#[test]
fn partial_intervals_teach_nothing() {
    let (mut judge, mut calm) = (judge_of(vec![Level::Pair]), Calm::new());
    calm.learn(&mut judge, 200);
    let before = serde_json::to_string(&judge.save()).unwrap();
    let short = Snapshot { length: INTERVAL * 2 / 5, ..calm.interval(|talks| talks[0].bytes = 90_000_000) };
    let cut = Snapshot { complete: false, ..calm.interval(|talks| talks[0].bytes = 90_000_000) };
    assert!(judge.judge(&short).is_empty() && judge.judge(&cut).is_empty());
    assert_eq!(serde_json::to_string(&judge.save()).unwrap(), before);
    // A late poll: as much in a longer time is no more.
    let mut late = calm.interval(|talks| talks.iter_mut().for_each(|talk| talk.bytes *= 10));
    late.length = INTERVAL * 10;
    assert!(judge.judge(&late).is_empty());
}

/// Records what it is told of gaps.
struct Missing(std::sync::Arc<std::sync::Mutex<Vec<(u64, f64)>>>);

impl Detector for Missing {
    type Memory = ();

    fn start(&self, _: bool) {}

    fn evaluate(&mut self, (): &(), newest: &Newest<'_>) -> crate::detect::Evaluation {
        self.0.lock().unwrap().push((newest.missing, newest.value()));
        crate::detect::Evaluation::default()
    }

    fn learn(&self, (): &mut (), _: &Newest<'_>, _: &crate::detect::Evaluation) {}

    fn keeps(&self) -> usize {
        1
    }

    fn least(&self) -> usize {
        1
    }

    fn threshold(&self, _: f64) -> f64 {
        0.5
    }
}

#[test]
fn silent_intervals_are_judged_and_unmeasured_ones_are_said() {
    let seen = std::sync::Arc::default();
    let thresholds = Thresholds { min_history: 1, ..Thresholds::default() };
    let settings = Settings { thresholds, budget: Some(1.0) };
    let series = series::Settings { levels: vec![Level::Interface], ..series::Settings::default() };
    let mut judge = Judge::new(series, INTERVAL, settings, Missing(std::sync::Arc::clone(&seen)));
    let bytes = |number: u64| {
        let mut snapshot = interval_of(number, &[talk(1, 1_000)]);
        snapshot.flows.truncate(1);
        snapshot
    };
    judge.judge(&bytes(1));
    // Two silent intervals, then one after ten that nobody measured.
    judge.judge(&Snapshot { skipped: 2, ..bytes(4) });
    judge.judge(&bytes(15));
    let bytes_only: Vec<_> =
        seen.lock().unwrap().iter().copied().filter(|(_, value)| *value != 1.0).collect();
    assert_eq!(
        bytes_only,
        // Bytes and flows are silent alike.
        [(0, 1_000.0), (0, 0.0), (0, 0.0), (0, 0.0), (0, 0.0), (0, 1_000.0), (10, 1_000.0)]
    );
}

#[test]
fn the_first_half_and_the_rest_are_the_whole() {
    let bursts = [150_u64, 330, 331, 480];
    let mut calm = Calm::new();
    let snapshots: Vec<Snapshot> = (0..500)
        .map(|i| {
            calm.interval(|talks| {
                if bursts.contains(&i) {
                    talks[(i / 10 % 10) as usize].bytes = 40_000_000;
                }
                talks.extend((i % 5 == 0).then_some(talk(30 + (i % 90) as u8, 4_000)));
            })
        })
        .collect();
    let mut whole = judge();
    let expected: Vec<Vec<Finding>> = snapshots.iter().map(|snapshot| whole.judge(snapshot)).collect();
    assert!(expected.iter().flatten().count() >= 2);
    // In the middle of a state that was told.
    for cut in [100, 332] {
        let mut first = judge();
        let mut found: Vec<Vec<Finding>> = snapshots[..cut].iter().map(|s| first.judge(s)).collect();
        let saved = serde_json::to_string(&first.save()).unwrap();
        let mut second = judge();
        second.load(serde_json::from_str(&saved).unwrap()).unwrap();
        found.extend(snapshots[cut..].iter().map(|s| second.judge(s)));
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(names(found), names(expected));
            let probability =
                |all: &[Finding]| -> Vec<f64> { all.iter().map(|f| f.evaluation.probability).collect() };
            assert_eq!(probability(found), probability(expected));
        }
    }
}

#[test]
fn what_was_saved_otherwise_is_refused() {
    let mut saved = serde_json::to_value(judge().save()).unwrap();
    saved["version"] = 99.into();
    let of_another = serde_json::from_value(saved).unwrap();
    assert_eq!(judge().load(of_another), Err(WrongVersion::Form { found: 99 }));
    let settings = Settings { thresholds: Thresholds::default(), budget: Some(1.0) };
    let hourly = INTERVAL * 720;
    let other = Judge::new(series::Settings::default(), hourly, settings, Ewma::new(hourly));
    assert_eq!(judge().load(other.save()), Err(WrongVersion::Interval));
}

/// Every level has its share, and what many series may cost together is no more than what one may.
#[test]
fn a_budget_is_divided_among_the_series() {
    let budget_of = |hosts: u8, levels: Vec<Level>| {
        let (mut judge, mut calm) = (judge_of(levels), Calm::new());
        let more =
            |talks: &mut Vec<Talk>, bytes| talks.extend((0..hosts).map(|host| talk(100 + host, bytes)));
        for _ in 0..100 {
            judge.judge(&calm.interval(|talks| more(talks, 2_000_000)));
        }
        judge.judge(&calm.interval(|talks| {
            more(talks, 2_000_000);
            talks[0].bytes = 900_000_000;
        }))[0]
            .budget
            .unwrap()
    };
    // Pairs: half for them, half for newcomers; ten hosts, each way.
    assert_eq!(budget_of(0, vec![Level::Pair]), 1.0 / 2.0 / 20.0);
    assert_eq!(budget_of(10, vec![Level::Pair]), 1.0 / 2.0 / 40.0);
    assert_eq!(budget_of(0, vec![Level::Pair, Level::Net]), 1.0 / 2.0 / 2.0 / 20.0);
}
