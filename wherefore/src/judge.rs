//! One snapshot in, findings out. Pure.

/// When a verdict becomes a finding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Probability above this (strictly, as the original) is unusual.
    pub probability: f64,
    /// Intervals with fewer bytes than this never alert.
    pub min_bytes: u64,
    /// Points a series needs, the judged one included, before it may alert.
    pub min_history: usize,
    /// The judged value must be at least this many times the median of the earlier ones; 0: no such demand.
    pub min_factor: f64,
}

impl Thresholds {
    /// The original's: any probability above 0.6, from the first interval on, whatever the volume.
    #[must_use]
    pub const fn original() -> Self {
        Self { probability: 0.6, min_bytes: 0, min_history: 1, min_factor: 0.0 }
    }
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { probability: 0.9, min_bytes: 100_000, min_history: 10, min_factor: 8.0 }
    }
}
