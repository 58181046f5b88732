use std::sync::{Arc, Mutex};

use super::*;
use crate::detect::{Evaluation, Part};

/// Says the same of everything, and how often it was asked.
struct Always(f64, Arc<Mutex<usize>>);

impl Detector for Always {
    type Memory = ();

    fn start(&self, _: bool) {}

    fn evaluate(&mut self, (): &(), _: &Newest<'_>) -> Evaluation {
        *self.1.lock().unwrap() += 1;
        let part = Part { method: "always", value: self.0, weight: 1.0, statistic: 0.0 };
        Evaluation { probability: self.0, parts: [part].into_iter().collect() }
    }

    fn learn(&self, (): &mut (), _: &Newest<'_>, _: &Evaluation) {}

    fn keeps(&self) -> usize {
        1
    }

    fn threshold(&self, _: f64) -> f64 {
        0.5
    }

    fn least(&self) -> usize {
        1
    }
}

fn always(probability: f64, thresholds: Thresholds) -> (Judge<Always>, Arc<Mutex<usize>>) {
    let asked = Arc::new(Mutex::new(0));
    let detector = Always(probability, Arc::clone(&asked));
    (Judge::new(pairs(), INTERVAL, Settings { thresholds, budget: None }, detector), asked)
}

fn open() -> Thresholds {
    Thresholds { probability: 0.5, min_bytes: 1, min_history: 1, min_factor: 0.0, ..Thresholds::original() }
}

/// The intervals, numbered from 0, in which a series of these bytes had a finding.
fn fired(thresholds: Thresholds, bytes: &[u64]) -> Vec<usize> {
    let (mut judge, _) = always(1.0, thresholds);
    (0..bytes.len()).filter(|&i| !judge.judge(&interval(i as u64, &bytes[i..=i])).is_empty()).collect()
}

#[test]
fn each_demand_holds_at_its_edge() {
    assert_eq!(fired(open(), &[1, 0, 1]), [0, 2]);
    assert_eq!(fired(Thresholds { min_bytes: 100, ..open() }, &[99, 100, 101]), [1, 2]);
    assert_eq!(fired(Thresholds { min_history: 3, ..open() }, &[5; 5]), [2, 3, 4]);
    // Silent intervals say nothing about busy ones, of which there must be three.
    let factor = Thresholds { min_factor: 8.0, ..open() };
    let none: [usize; 0] = [];
    assert_eq!(fired(factor, &[10, 0, 10, 0, 0, 80]), none);
    assert_eq!(fired(factor, &[10, 0, 10, 0, 10, 79]), none);
    assert_eq!(fired(factor, &[10, 0, 10, 0, 10, 80]), [5]);
    // They are remembered beyond the history.
    let mut long = vec![10, 10, 10];
    long.extend([0; 100]);
    long.extend([79, 0, 700]);
    assert_eq!(fired(factor, &long), [105]);
    let (mut at, _) = always(0.5, open());
    assert!(at.judge(&interval(0, &[5])).is_empty(), "the threshold itself is not above it");
}

#[test]
fn a_short_history_lowers_the_demand_for_points() {
    let asked = Arc::new(Mutex::new(0));
    let thresholds = Thresholds { min_history: 10, ..open() };
    let series = series::Settings { history: 3, ..pairs() };
    let mut judge = Judge::new(series, INTERVAL, Settings { thresholds, budget: None }, Always(1.0, asked));
    let fired: Vec<u64> = (0..5).filter(|&i| !judge.judge(&interval(i, &[5])).is_empty()).collect();
    assert_eq!(fired, [2, 3, 4]);
}

#[test]
fn silence_is_judged_only_without_a_minimum() {
    assert_eq!(fired(Thresholds { min_bytes: 0, ..open() }, &[5, 0, 0]), [0, 1, 2]);
    let (mut judge, asked) = always(1.0, Thresholds::default());
    for i in 0..50 {
        judge.judge(&interval(i, &[50_000, 200_000]));
    }
    assert_eq!(*asked.lock().unwrap(), 0, "calm traffic costs no verdict");
}

#[test]
fn findings_carry_their_evidence_largest_first() {
    let mut judge = defaults();
    for i in 0..10 {
        assert!(judge.judge(&interval(i, &[10_000, 20_000, 10_000])).is_empty());
    }
    let snapshot = interval(10, &[1_000_000, 2_000_000, 10_000]);
    let findings = judge.judge(&snapshot);
    let bytes: Vec<f64> = findings.iter().map(|finding| finding.value).collect();
    assert_eq!(bytes, [2_000_000.0, 1_000_000.0]);
    let first = &findings[0];
    assert_eq!(first.time, snapshot.end);
    assert_eq!(first.series.to_string(), "198.51.100.1 → 192.0.2.1");
    assert_eq!(first.usual, Usual { low: 20_000.0, median: 20_000.0, high: 20_000.0 });
    assert_eq!(first.history.len(), 11);
    assert_eq!(first.rate(), 400_000.0);
    assert!(first.evaluation.probability > 0.9 && first.evaluation.parts.len() == 3);
    assert_eq!(judge.counters().held, 3);
}

/// The original's flags give the original's verdicts, its first interval included.
#[test]
fn the_original_alerts_on_the_first_interval_of_a_series() {
    let mut judge = judge_with(Thresholds::original(), anomalyzer::Settings::original());
    assert_eq!(judge.judge(&interval(0, &[250])).len(), 1);
    for i in 1..40 {
        assert!(judge.judge(&interval(i, &[200_200 * i])).is_empty());
    }
    // A fence alone: unusual above 0.80618 of the bound.
    let fence = anomalyzer::Settings {
        methods: vec![anomalyzer::Method::Fence],
        upper_bound: 1000.0,
        ..anomalyzer::Settings::original()
    };
    let mut judge = judge_with(Thresholds::original(), fence);
    let fired: Vec<u64> = [806, 807, 0, 900]
        .into_iter()
        .filter(|&bytes| !judge.judge(&interval(0, &[bytes])).is_empty())
        .collect();
    assert_eq!(fired, [807, 900]);
}

#[test]
fn a_capture_shorter_than_an_interval_is_judged_and_the_first_of_a_live_host_is_not() {
    let short = Snapshot { complete: false, length: Duration::from_secs(1), ..interval(0, &[250]) };
    let judge = || judge_with(Thresholds::original(), anomalyzer::Settings::original());
    assert!(judge().skip_first().judge(&short).is_empty());
    assert_eq!(judge().judge(&short)[0].value, 250.0);
}

#[test]
fn the_same_snapshots_give_the_same_findings() {
    let run = || {
        let mut judge = judge_with(
            Thresholds::original(),
            anomalyzer::Settings { sensitivity: 0.1, ..anomalyzer::Settings::original() },
        );
        (0..20)
            .flat_map(|i| judge.judge(&interval(i, &[i * i * 7 % 50 * 100, 300 + i % 4, 0, 9_000])))
            .collect::<Vec<_>>()
    };
    assert!(!run().is_empty());
    assert_eq!(run(), run());
}

#[test]
fn a_finding_says_how_many_of_its_packets_are_estimated() {
    let (mut judge, _) = always(1.0, open());
    let mut snapshot = interval(0, &[500, 400]);
    snapshot.flows[0].counters.estimated = 3;
    // The same packets on their way out again: the bytes of one of both interfaces are told.
    let mut out = snapshot.flows[0];
    (out.key.ifindex, out.key.direction, out.counters.estimated) = (7, 1, 50);
    out.counters.ip_bytes -= 1;
    snapshot.flows.push(out);
    let estimated = |judge: &mut Judge<Always>, snapshot: &Snapshot| {
        judge.judge(snapshot).iter().map(|finding| finding.estimated).collect::<Vec<_>>()
    };
    assert_eq!(estimated(&mut judge, &snapshot), [3, 0]);
    snapshot.flows[2].counters.ip_bytes += 2;
    assert_eq!(estimated(&mut judge, &snapshot), [50, 0]);
    // The agent's own traffic is in no series.
    (snapshot.flows[0].own, snapshot.flows[2].own) = (true, true);
    assert_eq!(estimated(&mut judge, &snapshot), [0]);
}

#[test]
fn the_intervals_it_takes_to_find_anything_are_known() {
    // Ninefold each time.
    let bytes: Vec<u64> = (0..12).map(|i| 200_000 * 9_u64.pow(i)).collect();
    let short = Thresholds { min_history: 2, ..Thresholds::default() };
    for (thresholds, least) in [(open(), 1), (Thresholds::default(), 10), (short, 4)] {
        assert_eq!(fired(thresholds, &bytes).first(), Some(&(least - 1)), "{thresholds:?}");
        let (judge, _) = always(1.0, thresholds);
        assert_eq!(judge.least_intervals(), least as u64);
        assert_eq!(judge.skip_first().least_intervals(), least as u64 + 1);
    }
}

/// Of networks the flows are held against the least number of flows, not of bytes.
#[test]
fn a_number_of_flows_has_a_demand_of_its_own() {
    let told = |min_flows: u64| {
        let thresholds = Thresholds { min_bytes: 1_000_000, min_flows, ..open() };
        let series = series::Settings { levels: vec![Level::Net], ..series::Settings::default() };
        let detector = Always(1.0, Arc::default());
        let mut judge = Judge::new(series, INTERVAL, Settings { thresholds, budget: None }, detector);
        let findings = judge.judge(&interval(0, &[100, 100, 100]));
        findings.iter().map(|finding| (finding.metric, finding.value)).collect::<Vec<_>>()
    };
    assert_eq!(told(3), [(Metric::Flows, 3.0), (Metric::Flows, 3.0)], "to one network and from the other");
    assert_eq!(told(4), []);
}
