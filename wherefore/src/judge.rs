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
