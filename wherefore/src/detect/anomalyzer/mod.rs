//! The Anomalyzer: seven tests on a series, combined into one probability.
//!
//! The tests and their combination are those of the newest lytics/anomalyzer, its quirks included; numbers
//! from that code are in `tests/golden`. Where a test asks for the share of shuffles that look less unusual,
//! the answer here is exact if that is cheap, else from shuffles seeded by the history, so that the same
//! history always gives the same probability.

mod cdf;
mod combine;
mod diff;
mod fence;
pub mod ks;
mod magnitude;
pub mod primitives;
mod rank;
mod settings;
mod shuffle;

pub use self::settings::{Method, Settings, SettingsError};
use super::{Detector, Evaluation, Newest};

/// The detector.
#[derive(Clone, Debug)]
pub struct Anomalyzer {
    settings: Settings,
    /// Each method once, in order.
    methods: Vec<Method>,
    /// The probability that is an alert when exceeded.
    threshold: f64,
}

/// What wherefore's first version alerted above.
pub const ORIGINAL_THRESHOLD: f64 = 0.6;

impl Anomalyzer {
    /// Checks the settings, in upstream's order.
    ///
    /// # Errors
    /// The first setting that is not allowed.
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        let settings = settings.validated()?;
        let mut methods = settings.methods.clone();
        methods.sort_unstable();
        methods.dedup();
        Ok(Self { settings, methods, threshold: ORIGINAL_THRESHOLD })
    }

    /// Alerts above this probability; without, above [`ORIGINAL_THRESHOLD`].
    #[must_use]
    pub const fn alerting_above(mut self, threshold: f64) -> Self {
        self.threshold = threshold;
        self
    }

    /// The settings in effect.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What each method says before its value is clamped to 0..=1; `None` where it does not apply to so short
    /// a history, NaN where it has no answer. Empty while the delay lasts.
    #[must_use]
    pub fn raw(&self, history: &[f64]) -> Vec<(Method, Option<f64>)> {
        if self.waits(history) {
            return Vec::new();
        }
        let mut ranks = None;
        self.methods
            .iter()
            .map(|&method| {
                let value = match method {
                    Method::HighRank | Method::LowRank => {
                        let ranks = ranks.get_or_insert_with(|| self.ranks(history));
                        ranks.map(|(high, low)| if method == Method::HighRank { high } else { low })
                    }
                    _ => self.value(method, history),
                };
                (method, value)
            })
            .collect()
    }

    fn waits(&self, history: &[f64]) -> bool {
        self.settings.delay && history.len() < self.windows()
    }

    /// Values of reference and active window together.
    fn windows(&self) -> usize {
        self.settings.reference_size().saturating_add(self.settings.active_size)
    }

    fn ranks(&self, history: &[f64]) -> Option<(f64, f64)> {
        let settings = &self.settings;
        rank::high_and_low(history, settings.reference_size(), settings.active_size, settings.perm_count)
    }

    fn value(&self, method: Method, history: &[f64]) -> Option<f64> {
        let settings = &self.settings;
        let (reference, active, shuffles) =
            (settings.reference_size(), settings.active_size, settings.perm_count);
        match method {
            Method::Magnitude => magnitude::magnitude(history, reference, active),
            Method::Diff => diff::diff(history, reference, active, shuffles),
            Method::HighRank => self.ranks(history).map(|(high, _)| high),
            Method::LowRank => self.ranks(history).map(|(_, low)| low),
            Method::Fence => Some(fence::fence(history, active, settings.upper_bound, settings.lower_bound)),
            Method::Ks => ks::ks(history, reference, active, shuffles),
            Method::Cdf => cdf::cdf(history, reference, active),
        }
    }
}

impl Anomalyzer {
    /// The verdict on the last of `history` (oldest first).
    ///
    /// While the gate of magnitude is closed, it is 0 and magnitude the only part: the other tests are not run.
    #[must_use]
    pub fn judge(&mut self, history: &[f64]) -> Evaluation {
        if self.methods.contains(&Method::Magnitude) && !self.waits(history) {
            let magnitude = [(Method::Magnitude, self.value(Method::Magnitude, history))];
            if combine::gate_is_closed(&magnitude, self.settings.sensitivity) {
                return combine::combine(&magnitude, self.settings.sensitivity);
            }
        }
        combine::combine(&self.raw(history), self.settings.sensitivity)
    }
}

/// Remembers nothing but the history. Its threshold is a setting and knows no budget.
impl Detector for Anomalyzer {
    type Memory = ();

    fn start(&self, _: bool) {}

    fn evaluate(&mut self, (): &(), newest: &Newest<'_>) -> Evaluation {
        self.judge(newest.history)
    }

    fn learn(&self, (): &mut (), _: &Newest<'_>, _: &Evaluation) {}

    fn keeps(&self) -> usize {
        self.windows()
    }

    fn least(&self) -> usize {
        if self.settings.delay {
            return self.windows();
        }
        self.methods.iter().map(|method| method.least(self.settings.active_size)).min().unwrap_or_default()
    }

    fn threshold(&self, _: f64) -> f64 {
        self.threshold
    }
}

#[cfg(test)]
mod tests;
