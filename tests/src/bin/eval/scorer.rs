//! The detectors that are judged, as `wherefore score` runs them.

use jiff::Timestamp;
use wherefore::{
    config::default,
    detect::{
        self,
        anomalyzer::{self, ORIGINAL_THRESHOLD},
    },
    score::{self, Alerting, Scored},
};

/// One row of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// When.
    pub time: Timestamp,
    /// How much.
    pub value: f64,
}

/// A detector with its settings.
pub type Detector = fn() -> detect::Settings;

/// The detectors under their names.
pub const DETECTORS: [(&str, Detector); 5] = [
    ("auto", || detect::Settings::Auto),
    ("spot", || detect::Settings::Spot),
    ("ewma", || detect::Settings::Ewma),
    ("anomalyzer", || anomalyzer(anomalyzer::Settings::default())),
    ("original", || anomalyzer(anomalyzer::Settings::original())),
];

const fn anomalyzer(settings: anomalyzer::Settings) -> detect::Settings {
    detect::Settings::Anomalyzer { settings, threshold: ORIGINAL_THRESHOLD }
}

/// Judges a whole series from its first row on, at the default budget; what is said of each row.
pub fn judge(detector: Detector, points: &[Point]) -> anyhow::Result<Vec<Scored>> {
    let settings = score::Settings { detector: detector(), history: None };
    let mut alerting = Alerting::new(settings.scorer()?, default::ALERTS_PER_DAY);
    Ok(points.iter().map(|point| alerting.take(point.time, point.value)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_detector_judges_every_row() {
        let points: Vec<Point> = (0..200)
            .map(|n| Point {
                time: Timestamp::from_second(300 * n).expect("a time"),
                value: 10.0 + (n * 7_919 % 101) as f64 / 50.0,
            })
            .collect();
        for (name, detector) in DETECTORS {
            let scored = judge(detector, &points).expect("its settings");
            assert_eq!(scored.len(), points.len(), "{name}");
            assert!(scored.iter().all(|one| (0.0..=1.0).contains(&one.score)), "{name}");
        }
    }
}
