//! When a verdict becomes a finding.

use crate::series::Metric;

/// When a verdict becomes a finding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// The demands on a series.
    pub thresholds: Thresholds,
    /// False alerts a day of the whole agent, from which the threshold of each series follows. `None`: the threshold is
    /// [`Thresholds::probability`], and each interval above it is a finding.
    pub budget: Option<f64>,
}

/// The demands on a series. All of them must hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Without a budget, a probability above this (strictly, as the original) is unusual.
    pub probability: f64,
    /// Intervals with fewer bytes than this never alert; where it becomes less, it is what is usual that must reach it.
    /// Without a budget 0 judges silent intervals too, as the original did, except those skipped without a snapshot.
    pub min_bytes: u64,
    /// The same of flows.
    pub min_flows: u64,
    /// Points a series needs, the judged one included, before it may alert; without a budget never more than the
    /// history holds.
    pub min_history: usize,
    /// Without a budget, the judged value must be at least this many times what the series carries when it is busy: the
    /// ninetieth percentile of the last 32 earlier intervals that had bytes, of which there must be three. 0:
    /// no such demand.
    pub min_factor: f64,
}

impl Thresholds {
    /// What wherefore's first version did: every interval is judged, from the first on.
    #[must_use]
    pub const fn original() -> Self {
        Self { probability: 0.6, min_bytes: 0, min_flows: 0, min_history: 1, min_factor: 0.0 }
    }

    /// The least value of a metric that may alert.
    pub(super) const fn least(&self, metric: Metric) -> f64 {
        match metric {
            Metric::Bytes => self.min_bytes as f64,
            Metric::Flows => self.min_flows as f64,
        }
    }
}

/// With the Anomalyzer silent on calm traffic: steady, noisy, on and off, rare, slowly rising and falling (the tests say
/// how calm). The tenth recorded interval of a series may alert; of a live run, whose first is not recorded, the
/// eleventh.
impl Default for Thresholds {
    fn default() -> Self {
        Self { probability: 0.9, min_bytes: 100_000, min_flows: 50, min_history: 10, min_factor: 8.0 }
    }
}

/// A probability whose budget is so many times smaller than that of what was told is told again.
pub(super) const WORSE: f64 = 1_000.0;
