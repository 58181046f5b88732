//! Rows read from text, and detectors fed with them.

use std::{fmt::Write as _, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::detect::{Detector, Evaluation, Newest, anomalyzer};

/// What is read from `text`: a row as `timestamp|value`, a malformed one as it is told.
fn read(text: impl AsRef<[u8]>) -> Vec<String> {
    let mut rows = Rows::new(text.as_ref()).unwrap();
    let mut all = Vec::new();
    while let Some(row) = rows.read().unwrap() {
        all.push(match row {
            Ok(row) => format!("{}|{}", row.timestamp, row.written),
            Err(malformed) => malformed.to_string(),
        });
    }
    all
}

#[test]
fn rows_are_read_in_every_dress() {
    let rows = ["2014-04-01 00:00:00|1.50", "2014-04-01T00:05:00Z|-2e3"];
    for text in [
        "timestamp,value\n2014-04-01 00:00:00,1.50\n2014-04-01T00:05:00Z,-2e3\n",
        "\u{feff}t,v,w\r\n2014-04-01 00:00:00,1.50,x\r\n\r\n2014-04-01T00:05:00Z,-2e3,\"y\"\r\n",
        "\"a\n2014-04-01 00:00:00,1.50,\"unclosed\n\"2014-04-01T00:05:00Z\",\"-2e3\"",
    ] {
        assert_eq!(read(text), rows, "{text:?}");
    }
    assert_eq!(read("timestamp,value\n"), [""; 0]);
    assert_eq!(read("timestamp,value\n 5 , 6 "), [" 5 | 6 "], "as it was written");
}

#[test]
fn a_malformed_row_spoils_itself_alone() {
    let text = b"t,v\n1\n,\n2,\n3,NaN\n4,inf\n5,1e999\n6,seven\n\"7,8\n\xff,1\n8,\xff\nx\x1b[2J,1\n9,10\n";
    let told = read(text);
    let starts = [
        "2: there is no second column",
        "3: column 1: \"\" is no time",
        "4: column 2: \"\" is no finite number",
        "5: column 2: \"NaN\"",
        "6: column 2: \"inf\"",
        "7: column 2: \"1e999\"",
        "8: column 2: \"seven\" is no finite number; give one as in 12, -0.5 or 1e6",
        "9: column 1: \"7,8\"",
        "10: column 1: \"\u{fffd}\"",
        "11: column 2: \"\u{fffd}\"",
        "12: column 1: \"x\\u{1b}[2J\"",
        "9|10",
    ];
    assert_eq!(told.len(), starts.len(), "{told:#?}");
    for (told, start) in told.iter().zip(starts) {
        assert!(told.starts_with(start), "{told:?} is not {start:?}");
    }
    assert_eq!(read(""), ["1: the file is empty: give a header line, then rows of timestamp,value"]);
    let long = format!("t,v\n1,1{}\n2,2\n", " ".repeat(2 << 20));
    assert_eq!(read(long), ["2: the line is longer than 1 MiB", "2|2"]);
}

#[test]
fn a_header_that_is_a_row_is_seen() {
    for (text, is) in
        [("5,6\n7,8", true), ("timestamp,value\n7,8", false), ("", false), ("\u{feff}5,6", true)]
    {
        assert_eq!(Rows::new(text.as_bytes()).unwrap().header_is_a_row(), is, "{text:?}");
    }
}

/// Judges by the largest of the last values, made for an interval, and with a memory.
struct Record {
    interval: Duration,
}

#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct Seen {
    values: u64,
    missing: u64,
}

impl Detector for Record {
    type Memory = Seen;

    fn start(&self, _: bool) -> Seen {
        Seen::default()
    }

    fn evaluate(&mut self, memory: &Seen, newest: &Newest<'_>) -> Evaluation {
        let (value, earlier) = newest.history.split_last().unwrap();
        let largest = earlier.iter().copied().fold(0.0, f64::max);
        let share = value.abs() / (value.abs() + largest + 1.0);
        let probability = if memory.values < 3 { 0.0 } else { share / (1 + newest.missing) as f64 };
        Evaluation { probability, ..Evaluation::default() }
    }

    fn learn(&self, memory: &mut Seen, newest: &Newest<'_>, _: &Evaluation) {
        memory.values += 1;
        memory.missing += newest.missing;
    }

    fn keeps(&self) -> usize {
        7
    }

    fn least(&self) -> usize {
        3
    }

    /// Nearer to 1 the more values a day has.
    fn threshold(&self, budget: f64) -> f64 {
        let values = 86_400.0 / self.interval.as_secs_f64();
        (1.0 - budget / values).max(0.5)
    }
}

fn record() -> Scorer<Record> {
    Scorer::by_interval(|interval| Record { interval })
}

fn at(second: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(second).unwrap()
}

fn anomalyzer(settings: anomalyzer::Settings, history: Option<usize>) -> Box<dyn Score> {
    let detector = detect::Settings::Anomalyzer { settings, threshold: 0.6 };
    Settings { detector, history }.scorer().unwrap()
}

#[test]
fn the_levels_follow_from_the_interval_and_the_budget() {
    let mut scorer = record();
    scorer.score(at(0), 1.0);
    scorer.score(at(600), 1.0);
    assert_eq!(scorer.levels(1.0), Levels::of_budget(|budget| 1.0 - budget / 144.0, 1.0));
    scorer.score(at(900), 1.0);
    assert_eq!(scorer.levels(2.0).enter, 1.0 - 2.0 / 288.0, "the first step was a gap");
    let own = anomalyzer(anomalyzer::Settings::default(), None);
    assert_eq!(own.levels(1.0), Levels::single(0.6));
}

#[test]
fn a_wrong_interval_costs_no_history() {
    let straight = |scorer: &mut Scorer<Record>, range: std::ops::Range<i64>| {
        range.map(|i| scorer.score(at(i * 300), i as f64)).collect::<Vec<_>>()
    };
    let (mut regular, mut mended) = (record(), record());
    straight(&mut regular, 0..10);
    // The same values, of which the first is too early.
    mended.score(at(-300), 0.0);
    straight(&mut mended, 1..10);
    assert_eq!(straight(&mut regular, 10..50), straight(&mut mended, 10..50));
}

#[test]
fn what_lasts_is_one_alert_and_gaps_reach_the_detector() {
    let mut alerting = Alerting::new(Box::new(record()), 1.0);
    let mut told = Vec::new();
    for i in 0..400_i64 {
        let value = if i == 50 || i == 60 || i == 300 { 1e9 } else { 1.0 };
        let Scored { score, alert } = alerting.take(at(i * 300), value);
        assert!((0.0..=1.0).contains(&score));
        told.extend(alert.then_some(i));
    }
    assert_eq!(told, [50, 300]);
    let (mut with_gap, mut without) = (record(), record());
    for i in 0..10 {
        with_gap.score(at(i * 300), 1.0);
        without.score(at(i * 300), 1.0);
    }
    let (gap, none) = (with_gap.score(at(12 * 300), 1.0), without.score(at(10 * 300), 1.0));
    assert!((gap * 3.0 - none).abs() < 1e-12, "two missing: {gap}, none: {none}");
}

#[test]
fn the_last_score_of_the_anomalyzer_is_that_of_the_whole_series() {
    let values: Vec<f64> = (0..60).map(|i| f64::from(i * 7919 % 101)).collect();
    let settings = anomalyzer::Settings::original();
    let settings = anomalyzer::Settings { sensitivity: 0.1, ..settings };
    let whole =
        |values: &[f64]| anomalyzer::Anomalyzer::new(settings.clone()).unwrap().judge(values).probability;
    let mut unlimited = anomalyzer(settings.clone(), None);
    let mut capped = anomalyzer(settings.clone(), Some(10));
    for (i, &value) in values.iter().enumerate() {
        // A clock that stands still does not matter to it.
        assert_eq!(unlimited.score(at(0), value), whole(&values[..=i]), "{i}");
        assert_eq!(capped.score(at(i as i64), value), whole(&values[i.saturating_sub(9)..=i]), "{i}");
    }
}

#[test]
fn memory_does_not_grow_with_the_series() {
    let mut scorer = record();
    for i in 0..10_000 {
        scorer.score(at(i), 1.0);
        assert!(scorer.remembered() <= 7 * 2 + 2 * 101, "{}", scorer.remembered());
    }
}

/// A series of times that go on in ordinary steps, stand still, go back, and leap.
fn series() -> impl Strategy<Value = Vec<(i64, f64)>> {
    let step = prop_oneof![8 => Just(300), 1 => Just(0), 1 => Just(-3300), 1 => 1..100_000_i64];
    prop::collection::vec((step, -1e6..1e6), 0..150).prop_map(|steps| {
        let mut time = 1_700_000_000;
        let mut place = |(step, value)| {
            time += step;
            (time, value)
        };
        steps.into_iter().map(&mut place).collect()
    })
}

fn scores(alerting: &mut Alerting, series: &[(i64, f64)]) -> Vec<Scored> {
    series.iter().map(|&(time, value)| alerting.take(at(time), value)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_scores_of_a_part_are_a_part_of_the_scores(series in series(), part in 0.0..1.0) {
        let part = &series[..(part * series.len() as f64) as usize];
        let of = |detector| Settings { detector, history: None }.scorer().unwrap();
        let makes: [&dyn Fn() -> Box<dyn Score>; 5] = [
            &|| Box::new(record()),
            &|| of(detect::Settings::Auto),
            &|| of(detect::Settings::Ewma),
            &|| of(detect::Settings::Spot),
            &|| anomalyzer(anomalyzer::Settings { perm_count: 20, ..anomalyzer::Settings::default() }, None),
        ];
        for make in makes {
            let all = scores(&mut Alerting::new(make(), 1.0), &series);
            let of_part = scores(&mut Alerting::new(make(), 1.0), part);
            prop_assert_eq!(&all[..part.len()], &of_part[..]);
            prop_assert!(all.iter().all(|scored| (0.0..=1.0).contains(&scored.score)));
        }
    }

    #[test]
    fn no_text_stops_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let lines = bytes.split(|&byte| byte == b'\n').count();
        prop_assert!(read(&bytes).len() <= lines);
    }

    #[test]
    fn every_number_is_read_as_written(values in prop::collection::vec(any::<f64>().prop_filter("finite", |v| v.is_finite()), 0..20)) {
        let mut text = "timestamp,value\n".to_owned();
        for value in &values {
            let _ = writeln!(text, "0,{value}");
        }
        let mut rows = Rows::new(text.as_bytes()).unwrap();
        for value in values {
            prop_assert_eq!(rows.read().unwrap().unwrap().unwrap().value.to_bits(), value.to_bits());
        }
    }
}
