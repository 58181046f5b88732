//! What tells an unusual number from a usual one. Pure, and ignorant of networks.

use std::fmt;

pub mod anomalyzer;

/// Judges the newest value of a series by the values before it.
pub trait Detector: Send {
    /// The verdict on the last element of `history` (oldest first).
    fn evaluate(&self, history: &[f64]) -> Evaluation;

    /// Values of a history without which the probability is 0.
    fn least(&self) -> usize;
}

/// A verdict.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Evaluation {
    /// 0 (as usual) to 1 (never seen).
    pub probability: f64,
    /// What each method said.
    pub parts: Vec<Part>,
}

/// One method's share in a verdict.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Part {
    /// The method's name.
    pub method: &'static str,
    /// Its value, 0 to 1.
    pub value: f64,
    /// Its weight in the combination.
    pub weight: f64,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:.3} (weight {})", self.method, self.value, self.weight)
    }
}
