//! The detectors that are judged, each with what it makes of a series.

use jiff::Timestamp;
use wherefore::{
    detect::{
        Detector, Newest,
        anomalyzer::{Anomalyzer, Settings},
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
pub const DETECTORS: [(&str, Judge); 2] = [
    ("anomalyzer", |points| Ok(judge(Anomalyzer::new(Settings::default())?, points, 1))),
    ("anomalyzer, original settings", |points| Ok(judge(Anomalyzer::new(Settings::original())?, points, 1))),
];

/// False alerts a day that a series may cost.
const BUDGET: f64 = 1.0;

/// Alerts where the score rises above the threshold; again after `hold` rows at or below that of ten times the budget.
fn judge<D: Detector>(mut detector: D, points: &[Point], hold: usize) -> Vec<Verdict> {
    let (enter, leave) = (detector.threshold(BUDGET), detector.threshold(10.0 * BUDGET));
    let mut memory = detector.start(true);
    let mut history = Vec::with_capacity(points.len());
    // Calm rows since the last unusual one; there was none before the first.
    let mut calm = hold;
    points
        .iter()
        .map(|point| {
            history.push(point.value);
            let time = time::Timestamp(u64::try_from(point.time.as_nanosecond()).unwrap_or_default());
            let newest = Newest { history: &history, time, missing: 0 };
            let evaluation = detector.evaluate(&memory, &newest);
            detector.learn(&mut memory, &newest, &evaluation);
            let score = evaluation.probability;
            let alert = score > enter && calm >= hold;
            if alert || (calm < hold && score > leave) {
                calm = 0;
            } else {
                calm = calm.saturating_add(1);
            }
            Verdict { score, alert }
        })
        .collect()
}
