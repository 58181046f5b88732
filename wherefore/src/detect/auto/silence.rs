//! How long a silence must last to be unusual.

use serde::{Deserialize, Serialize};

/// Heaviest and lightest tail of the lengths believed in, what is believed before any, and how many gaps that is worth.
const MOST_SHAPE: f64 = 0.7;
const LEAST_SHAPE: f64 = 0.02;
const PRIOR_SHAPE: f64 = 0.2;
const PRIOR_WEIGHT: f64 = 10.0;
/// Gaps remembered.
const MEMORY: f32 = 500.0;

/// The gaps of a series: runs of zeros between other values. Their lengths are taken for a generalised Pareto
/// distribution, found by moments (Hosking and Wallis 1987) as in [`super::Tail`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Gaps {
    /// Zeros since the last other value; nothing before the first other value counts.
    running: u32,
    /// Gaps that ended, and values that were not zero.
    ended: u32,
    busy: u32,
    /// Mean length, and mean of its square.
    mean: f32,
    square: f32,
}

impl Gaps {
    /// Zeros so far in the gap that goes on.
    pub(super) fn running(&self) -> f64 {
        f64::from(self.running)
    }

    /// Minus the decimal logarithm of how often a gap of `length` zeros comes, per value that is not zero. What ends may
    /// end for good: a gap as long as all there was before says no more when it lasts.
    pub(super) fn decades(&self, length: f64) -> f64 {
        if self.busy == 0 {
            return 0.0;
        }
        let (mean, square, count) = (f64::from(self.mean), f64::from(self.square), f64::from(self.count()));
        let length = length.min(f64::from(self.busy));
        let variance = (square - mean * mean).max(1e-3 * mean * mean).max(f64::MIN_POSITIVE);
        let moments = (0.5 * (1.0 - mean * mean / variance)).max(-0.5);
        let shape = ((count * moments + PRIOR_WEIGHT * PRIOR_SHAPE) / (count + PRIOR_WEIGHT))
            .clamp(LEAST_SHAPE, MOST_SHAPE);
        let scale = (mean * (1.0 - shape)).max(1.0);
        let beyond = (shape * (length - 1.0).max(0.0) / scale).ln_1p() / (shape * std::f64::consts::LN_10);
        beyond - ((f64::from(self.ended) + 1.0) / (f64::from(self.busy) + 1.0)).log10()
    }

    /// Gaps that the means stand for.
    fn count(&self) -> f32 {
        (self.ended as f32).min(MEMORY)
    }

    /// Takes a value in.
    pub(super) fn learn(&mut self, zero: bool) {
        if zero {
            self.running = self.running.saturating_add(u32::from(self.busy > 0));
            return;
        }
        self.busy = self.busy.saturating_add(1);
        if self.running > 0 {
            let length = self.running as f32;
            self.ended = self.ended.saturating_add(1);
            let count = self.count();
            self.mean += (length - self.mean) / count;
            self.square += (length * length - self.square) / count;
            self.running = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(values: &[u8]) -> Gaps {
        let mut gaps = Gaps::default();
        for &value in values {
            gaps.learn(value == 0);
        }
        gaps
    }

    #[test]
    fn what_never_fell_silent_is_unusual_soon() {
        let gaps = after(&[1; 1_000]);
        assert!((gaps.decades(1.0) - 3.0).abs() < 0.01, "{}", gaps.decades(1.0));
        assert!(gaps.decades(12.0) > 5.0);
    }

    #[test]
    fn what_is_silent_most_of_the_time_may_go_on() {
        let beacon: Vec<u8> = (0..1_200).map(|i| u8::from(i % 12 == 0)).collect();
        let gaps = after(&beacon);
        assert_eq!(gaps.running(), 11.0);
        assert!(gaps.decades(12.0) < 2.0);
        // 100 values that are not zero say as much of longer gaps.
        assert!(
            gaps.decades(100.0) > 3.0 && gaps.decades(1_000.0) == gaps.decades(100.0),
            "{}",
            gaps.decades(100.0)
        );
    }

    #[test]
    fn zeros_before_the_first_value_are_no_gap() {
        assert_eq!(after(&[0; 500]).decades(501.0), 0.0);
    }
}
