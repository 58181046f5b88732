//! One snapshot in, findings out. Pure.

use std::time::Duration;

use crate::{
    detect::{Detector, Newest},
    finding::{Finding, Usual},
    series::{self, Counters, Series, Store},
    snapshot::Snapshot,
};

/// When a verdict becomes a finding. All of them must hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Probability above this (strictly, as the original) is unusual.
    pub probability: f64,
    /// Intervals with fewer bytes than this never alert. 0 judges silent intervals too, as the original did,
    /// except those skipped without a snapshot.
    pub min_bytes: u64,
    /// Points a series needs, the judged one included, before it may alert; never more than the history
    /// holds.
    pub min_history: usize,
    /// The judged value must be at least this many times what the series carries when it is busy: the
    /// ninetieth percentile of the last 32 earlier intervals that had bytes, of which there must be three. 0:
    /// no such demand.
    pub min_factor: f64,
}

impl Thresholds {
    /// What wherefore's first version did: every interval is judged, from the first on.
    #[must_use]
    pub const fn original() -> Self {
        Self { probability: 0.6, min_bytes: 0, min_history: 1, min_factor: 0.0 }
    }

    /// The cheap demands first: on a calm host the detector has nothing to do.
    fn deserves(&self, series: &Series, min_history: usize) -> bool {
        series.value() >= self.min_bytes as f64
            && series.history().len() >= min_history
            && (self.min_factor == 0.0
                || series.busy_level().is_some_and(|level| series.value() >= self.min_factor * level))
    }
}

/// Silent on calm traffic: steady, noisy, on and off, rare, slowly rising and falling (the tests say how
/// calm). The tenth recorded interval of a series may alert; of a live run, whose first is not recorded, the
/// eleventh.
impl Default for Thresholds {
    fn default() -> Self {
        Self { probability: 0.9, min_bytes: 100_000, min_history: 10, min_factor: 8.0 }
    }
}

/// Remembers every series and tells which are unusual.
#[derive(Clone)]
pub struct Judge<D> {
    store: Store,
    interval: Duration,
    thresholds: Thresholds,
    min_history: usize,
    detector: D,
    unit: series::Unit,
}

impl<D: Detector<Memory = ()>> Judge<D> {
    /// One that knows nothing yet. `interval` is the one asked for, to which bytes are normalised.
    #[must_use]
    pub fn new(series: series::Settings, interval: Duration, thresholds: Thresholds, detector: D) -> Self {
        Self {
            store: Store::new(series),
            interval,
            thresholds,
            min_history: thresholds.min_history.min(series.history.max(1)),
            detector,
            unit: series.unit,
        }
    }

    /// Does not record the first interval, as a live host needs it; see [`Store::skip_first`].
    #[must_use]
    pub fn skip_first(mut self) -> Self {
        self.store = self.store.skip_first();
        self
    }

    /// Records an interval and judges it: what was unusual, by bytes, the largest first.
    pub fn judge(&mut self, snapshot: &Snapshot) -> Vec<Finding> {
        if !self.store.observe(snapshot, self.interval) {
            return Vec::new();
        }
        let Self { store, detector, thresholds, min_history, .. } = self;
        let mut findings = Vec::new();
        for (key, series) in store.iter().filter(|(_, series)| thresholds.deserves(series, *min_history)) {
            let newest = Newest { history: series.history(), time: snapshot.end, missing: 0 };
            let evaluation = detector.evaluate(&(), &newest);
            if evaluation.probability > thresholds.probability {
                findings.push(Finding {
                    time: snapshot.end,
                    interval: self.interval,
                    series: *key,
                    interface: series.interface().to_owned(),
                    direction: series.direction(),
                    locality: series.locality(),
                    bytes: series.value(),
                    unit: self.unit,
                    estimated: 0,
                    usual: Usual::of(series.earlier()),
                    evaluation,
                    history: series.history().to_vec(),
                });
            }
        }
        if !findings.is_empty() {
            let estimated = self.store.estimated(snapshot);
            for finding in &mut findings {
                finding.estimated = estimated.get(&finding.series).copied().unwrap_or_default();
            }
        }
        findings.sort_by(|a, b| b.bytes.total_cmp(&a.bytes).then(a.series.cmp(&b.series)));
        findings
    }

    /// Intervals of a run before which no series can be found unusual.
    #[must_use]
    pub fn least_intervals(&self) -> u64 {
        let busy = if self.thresholds.min_factor > 0.0 { series::BUSY_LEAST + 1 } else { 0 };
        let recorded = self.min_history.max(self.detector.least()).max(busy) as u64;
        recorded + u64::from(self.store.skips_first())
    }

    /// How many series are held, and what became of the rest.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.store.counters()
    }
}

#[cfg(test)]
mod tests;
