//! The Anomalyzer: seven tests on a series, combined into one probability.
//!
//! The tests and their combination are those of the newest lytics/anomalyzer, its quirks included; numbers
//! from that code are in `tests/golden`. Where a test asks for the share of shuffles that look less unusual,
//! the answer here is exact if that is cheap, else from a sample seeded by the history, so that the same
//! history always gives the same probability.
//!
//! | test | exact | else |
//! | --- | --- | --- |
//! | highrank, lowrank | an active window of one: a count; small ones: choices counted by their sum | circles |
//! | diff | few arrangements differ: all of them | circles |
//! | ks | windows that hold the whole history, or few choices of what they hold: paths counted | choices of what the windows hold |
//!
//! `perm_count` says how precise a sample is (`shuffle::Means`); `samples` tells what it took.

mod cdf;
mod circle;
mod combine;
mod diff;
mod fence;
pub mod ks;
mod magnitude;
pub mod primitives;
mod rank;
mod settings;
mod shuffle;
mod subset;

use arrayvec::ArrayVec;

pub use self::settings::{Method, Settings, SettingsError};
use self::shuffle::Sampling;
use super::{Detector, Evaluation, Newest};

/// The detector.
#[derive(Clone, Debug)]
pub struct Anomalyzer {
    settings: Settings,
    /// Each method once, in order.
    methods: Vec<Method>,
    /// The probability that is an alert when exceeded.
    threshold: f64,
    scratch: Box<Scratch>,
}

/// What each method says.
pub type Raw = ArrayVec<(Method, Option<f64>), { Method::ALL.len() }>;

/// What the tests use again, so that only a history longer than those before makes them allocate.
#[derive(Clone, Debug, Default)]
struct Scratch {
    diff: diff::Diff,
    ranks: rank::Ranks,
    ks: ks::Ks,
    cdf: cdf::Cdf,
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
        Ok(Self { settings, methods, threshold: ORIGINAL_THRESHOLD, scratch: Box::default() })
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
    pub fn raw(&mut self, history: &[f64]) -> Raw {
        self.ask(history, |_| false)
    }

    /// Asks one method after the other, until `enough` is said of what is there.
    fn ask(&mut self, history: &[f64], enough: impl Fn(&Raw) -> bool) -> Raw {
        let mut raw = Raw::new();
        if self.waits(history) {
            return raw;
        }
        let Settings { upper_bound, lower_bound, active_size: active, perm_count: shuffles, .. } =
            self.settings;
        let reference = self.settings.reference_size();
        // Each test has a sample of its own.
        let sampling = |method| Sampling { shuffles, salt: method as u64 };
        let Scratch { diff, ranks, ks, cdf } = &mut *self.scratch;
        let mut both_ranks = None;
        for &method in &self.methods {
            let value = match method {
                Method::Magnitude => magnitude::magnitude(history, reference, active),
                Method::Diff => diff.share(history, reference, active, sampling(method)),
                Method::HighRank | Method::LowRank => {
                    let ranks = both_ranks
                        .get_or_insert_with(|| ranks.shares(history, reference, active, sampling(method)));
                    ranks.map(|[high, low]| if method == Method::HighRank { high } else { low })
                }
                Method::Fence => Some(fence::fence(history, active, upper_bound, lower_bound)),
                Method::Ks => ks.share(history, reference, active, sampling(method)),
                Method::Cdf => cdf.value(history, reference, active),
            };
            raw.push((method, value));
            if enough(&raw) {
                break;
            }
        }
        raw
    }

    /// How many circles of values diff (choices of values: ks) looked at last, where it did not look at all. 0 for
    /// an exact answer, and for other methods.
    #[must_use]
    pub const fn samples(&self, method: Method) -> usize {
        match method {
            Method::Diff => self.scratch.diff.samples(),
            Method::Ks => self.scratch.ks.samples,
            _ => 0,
        }
    }

    fn waits(&self, history: &[f64]) -> bool {
        self.settings.delay && history.len() < self.windows()
    }

    /// Values of reference and active window together.
    fn windows(&self) -> usize {
        self.settings.reference_size().saturating_add(self.settings.active_size)
    }

    /// The verdict on the last of `history` (oldest first).
    ///
    /// While the gate of magnitude is closed, it is 0 and magnitude the only part: the other tests are not run.
    #[must_use]
    pub fn judge(&mut self, history: &[f64]) -> Evaluation {
        let sensitivity = self.settings.sensitivity;
        let raw = self.ask(history, |raw| combine::gate_is_closed(raw, sensitivity));
        combine::combine(&raw, sensitivity)
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
