//! The first values of a series, before any tail is known.

use serde::{Deserialize, Serialize};

use crate::detect::ewma::two_sided;

/// Values before which nothing is said.
const LEAST: f32 = 9.0;
/// Zero is taken for this share of the mean where logarithms are compared.
const FLOOR: f64 = 0.01;

/// Mean and sum of squares of the values and of their logarithms (Welford 1962).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Start {
    count: f32,
    plain: Moments,
    logarithmic: Moments,
    negative: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Moments {
    mean: f64,
    squares: f64,
}

impl Moments {
    fn learn(&mut self, value: f64, count: f64) {
        let distance = value - self.mean;
        self.mean += distance / count;
        self.squares += distance * (value - self.mean);
    }

    /// Student's t of a further value: its distance from the mean by what is expected of one.
    fn t(&self, value: f64, count: f64) -> f64 {
        let variance = self.squares / (count - 1.0) * (1.0 + 1.0 / count);
        // Values that never differed say nothing of how much they may: a twentieth of the mean.
        (value - self.mean) / variance.sqrt().max(0.05 * self.mean.abs()).max(f64::MIN_POSITIVE)
    }
}

impl Start {
    /// How many standard deviations `value` lies above what came before, and the decades of that. The lesser of two
    /// verdicts, on the values and on their logarithms: bytes are spread as neither is. Only what is more is judged.
    pub(super) fn judge(&self, value: f64) -> (f64, f64) {
        if self.count < LEAST {
            return (0.0, 0.0);
        }
        let count = f64::from(self.count);
        let plain = self.plain.t(value, count);
        let t = if self.negative {
            plain
        } else {
            // Logarithms differ, not their relation to their own mean: a deviation of at least a twentieth.
            let Moments { mean, squares } = self.logarithmic;
            let variance = squares / (count - 1.0) * (1.0 + 1.0 / count);
            plain.min((self.logarithm(value) - mean) / variance.sqrt().max(0.05))
        };
        (t, if t > 0.0 { student(t, count - 1.0) } else { 0.0 })
    }

    pub(super) fn learn(&mut self, value: f64) {
        self.count += 1.0;
        let count = f64::from(self.count);
        self.plain.learn(value, count);
        self.negative |= value < 0.0;
        if !self.negative {
            let logarithm = self.logarithm(value);
            self.logarithmic.learn(logarithm, count);
        }
    }

    fn logarithm(&self, value: f64) -> f64 {
        value.max(FLOOR * self.plain.mean).max(f64::MIN_POSITIVE).ln()
    }
}

/// Minus the decimal logarithm of the upper tail of Student's t distribution of so many degrees of freedom, by the
/// normal distribution's tail at ((8f+1)/(8f+3)) sqrt(f ln(1+t²/f)) (Wallace 1959).
fn student(t: f64, freedom: f64) -> f64 {
    let z = (8.0 * freedom + 1.0) / (8.0 * freedom + 3.0) * (freedom * (t * t / freedom).ln_1p()).sqrt();
    // One of two tails.
    two_sided(z) + std::f64::consts::LOG10_2
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One-sided critical values of the tables (for instance Fisher and Yates 1963).
    #[test]
    fn tables_of_student() {
        for (t, freedom, p) in [
            (1.812, 10.0, 0.05),
            (2.764, 10.0, 0.01),
            (4.587, 10.0, 5e-4),
            (3.646, 30.0, 5e-4),
            (3.39, 100.0, 5e-4),
        ] {
            let found = student(t, freedom);
            let expected = -f64::log10(p);
            assert!((found - expected).abs() < 0.03 * expected, "{t} {freedom}: {found} for {expected}");
        }
    }

    fn after(values: &[f64]) -> Start {
        let mut start = Start::default();
        values.iter().for_each(|&value| start.learn(value));
        start
    }

    #[test]
    fn a_burst_after_steady_values_is_seen_and_one_after_bursts_is_not() {
        let steady: Vec<f64> = (0..24).map(|i| 915e3 + f64::from(i % 7) * 1e3).collect();
        assert!(after(&steady).judge(9.8e6).1 > 8.0);
        assert!(after(&steady).judge(930e3).1 < 1.0);
        let bursts: Vec<f64> = (0..24).map(|i| if i % 3 == 0 { 1e6 } else { 0.0 }).collect();
        assert!(after(&bursts).judge(5e6).1 < 3.0);
        assert_eq!(after(&steady[..8]).judge(1e9).1, 0.0);
    }
}
