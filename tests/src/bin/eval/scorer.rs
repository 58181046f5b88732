//! The detectors that are judged, each with what it makes of a series.

use std::time::Duration;

use jiff::Timestamp;
use wherefore::{
    detect::{
        Detector, Newest,
        anomalyzer::{Anomalyzer, Settings},
        auto::Auto,
        ewma::Ewma,
        spot::Spot,
    },
    time,
};

/// One row of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// When.
    pub time: Timestamp,
    /// How much.
    pub value: f64,
}

/// What a detector says of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// 0 (as usual) to 1 (never seen).
    pub score: f64,
    /// A new alert is raised here.
    pub alert: bool,
}

/// Judges a whole series from its first row on; the verdicts, one a row.
pub type Judge = fn(&[Point]) -> anyhow::Result<Vec<Verdict>>;

/// The detectors under their names.
pub const DETECTORS: [(&str, Judge); 5] = [
    ("auto", |points| Ok(judge(Auto::new(interval(points)), points, LASTING))),
    ("spot", |points| Ok(judge(Spot::new(interval(points)), points, LASTING))),
    ("ewma", |points| Ok(judge(Ewma::new(interval(points)), points, LASTING))),
    ("anomalyzer", |points| Ok(judge(Anomalyzer::new(Settings::default())?, points, AT_ONCE))),
    ("original", |points| Ok(judge(Anomalyzer::new(Settings::original())?, points, AT_ONCE))),
];

/// False alerts a day that a series may cost.
const BUDGET: f64 = 0.15;

/// When an anomalous state ends: when it has lasted for so many rows, of which so many in a row were calm at last.
#[derive(Clone, Copy)]
struct Ending {
    rows: usize,
    calm: usize,
}

const LASTING: Ending = Ending { rows: 100, calm: 10 };
/// The Anomalyzer's states have no length of their own.
const AT_ONCE: Ending = Ending { rows: 0, calm: 1 };

/// The time between rows: the middle of the first ten steps.
fn interval(points: &[Point]) -> Duration {
    let mut steps: Vec<i64> =
        points.windows(2).take(10).map(|pair| pair[1].time.as_second() - pair[0].time.as_second()).collect();
    steps.sort_unstable();
    let middle = steps.get(steps.len() / 2).copied().unwrap_or_default();
    Duration::from_secs(u64::try_from(middle).unwrap_or_default().max(1))
}

/// Alerts where the score rises above the threshold. The state so begun ends below the threshold of ten times the budget.
fn judge<D: Detector>(mut detector: D, points: &[Point], ending: Ending) -> Vec<Verdict> {
    let (enter, leave) = (detector.threshold(BUDGET), detector.threshold(10.0 * BUDGET));
    let mut memory = detector.start(true);
    let mut history = Vec::with_capacity(points.len());
    // Rows of the present state, and calm ones in a row.
    let mut state: Option<(usize, usize)> = None;
    points
        .iter()
        .map(|point| {
            history.push(point.value);
            let time = time::Timestamp(u64::try_from(point.time.as_nanosecond()).unwrap_or_default());
            let newest = Newest { history: &history, time, missing: 0 };
            let evaluation = detector.evaluate(&memory, &newest);
            detector.learn(&mut memory, &newest, &evaluation);
            let score = evaluation.probability;
            let alert = state.is_none() && score > enter;
            state = match state {
                None => alert.then_some((0, 0)),
                Some((rows, calm)) => {
                    let calm = if score > leave { 0 } else { calm + 1 };
                    let over = rows + 1 >= ending.rows && calm >= ending.calm;
                    (!over).then_some((rows + 1, calm))
                }
            };
            Verdict { score, alert }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use wherefore::detect::Evaluation;

    use super::*;

    fn points(values: &[f64]) -> Vec<Point> {
        let at = |n: usize| Timestamp::from_second(300 * n as i64).expect("a time");
        values.iter().enumerate().map(|(n, value)| Point { time: at(n), value: *value }).collect()
    }

    /// Takes a value for its probability.
    struct Plain;

    impl Detector for Plain {
        type Memory = ();

        fn start(&self, _: bool) {}

        fn evaluate(&mut self, (): &(), newest: &Newest<'_>) -> Evaluation {
            Evaluation { probability: newest.value(), ..Evaluation::default() }
        }

        fn learn(&self, (): &mut (), _: &Newest<'_>, _: &Evaluation) {}

        fn keeps(&self) -> usize {
            1
        }

        fn least(&self) -> usize {
            1
        }

        fn threshold(&self, budget: f64) -> f64 {
            if budget > BUDGET { 0.5 } else { 0.9 }
        }
    }

    #[test]
    fn what_lasts_is_one_alert() {
        let alerts = |values: &[f64], ending: Ending| -> Vec<usize> {
            let verdicts = judge(Plain, &points(values), ending);
            (0..values.len()).filter(|row| verdicts[*row].alert).collect()
        };
        let values = [0.9, 0.91, 0.6, 0.95, 0.5, 0.5, 0.95, 0.4, 0.95];
        assert_eq!(alerts(&values, AT_ONCE), [1, 6, 8], "0.9 is not above 0.9; 0.6 is not calm");
        assert_eq!(alerts(&values, Ending { rows: 0, calm: 2 }), [1, 6]);
        assert_eq!(alerts(&values, Ending { rows: 6, calm: 1 }), [1, 8]);
    }

    #[test]
    fn every_detector_judges_every_row() {
        let values: Vec<f64> = (0..200).map(|n| 10.0 + f64::from(n * 7_919 % 101) / 50.0).collect();
        for (name, judge) in DETECTORS {
            let verdicts = judge(&points(&values)).expect("its settings");
            assert_eq!(verdicts.len(), values.len(), "{name}");
            assert!(verdicts.iter().all(|verdict| (0.0..=1.0).contains(&verdict.score)), "{name}");
        }
    }

    #[test]
    fn the_interval_is_that_of_most_rows() {
        let mut points = points(&[0.0; 20]);
        points.remove(3);
        assert_eq!(interval(&points), Duration::from_secs(300));
        assert_eq!(interval(&points[..1]), Duration::from_secs(1));
    }
}
