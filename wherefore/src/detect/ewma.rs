//! The textbook's detector, to compare with: how many standard deviations a value lies from an exponentially weighted
//! mean (Roberts 1959), as if values were normally distributed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Detector, Evaluation, Newest, Part, of_decades, per_day, threshold_decades};

/// Values that mean and variance reach over.
const REACH: f64 = 200.0;
/// Values before which nothing is said.
const LEAST: u32 = 30;
const STATISTICS: f64 = 1.0;

/// The detector.
#[derive(Clone, Copy, Debug)]
pub struct Ewma {
    day: f64,
}

/// Mean and variance of a series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    values: u32,
    mean: f64,
    variance: f64,
}

impl Ewma {
    /// For intervals of this length.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self { day: per_day(interval) }
    }
}

impl Detector for Ewma {
    type Memory = Memory;

    fn start(&self, _: bool) -> Memory {
        Memory::default()
    }

    fn evaluate(&mut self, memory: &Memory, newest: &Newest<'_>) -> Evaluation {
        if memory.values < LEAST || memory.variance <= 0.0 {
            return Evaluation::default();
        }
        let statistic = (newest.value() - memory.mean) / memory.variance.sqrt();
        let value = of_decades(two_sided(statistic.abs()));
        let part = Part { method: "z", value, weight: 1.0, statistic };
        Evaluation { probability: value, parts: [part].into_iter().collect() }
    }

    fn learn(&self, memory: &mut Memory, newest: &Newest<'_>, _: &Evaluation) {
        memory.values = memory.values.saturating_add(1);
        let rate = (1.0 / f64::from(memory.values)).max(2.0 / (REACH + 1.0));
        let distance = newest.value() - memory.mean;
        memory.mean += rate * distance;
        memory.variance = (1.0 - rate) * (memory.variance + rate * distance * distance);
    }

    fn keeps(&self) -> usize {
        1
    }

    fn least(&self) -> usize {
        LEAST as usize + 1
    }

    fn threshold(&self, budget: f64) -> f64 {
        of_decades(threshold_decades(STATISTICS, self.day, budget))
    }
}

/// Minus the decimal logarithm of the share of a normal distribution that lies further than `z` from its middle: both
/// tails, each between Birnbaum's and Sampford's bounds (1942, 1953), which are exact to 1 % from 1 on.
pub(super) fn two_sided(z: f64) -> f64 {
    let mills = 4.0 / (3.0 * z + (z * z + 8.0).sqrt());
    let density = (2.0 / std::f64::consts::PI).sqrt();
    ((z * z / 2.0) - (density * mills).ln()).max(0.0) / std::f64::consts::LN_10
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the tables: 5 % beyond 1.96, 1 % beyond 2.576, one in 1,000 beyond 3.291, one in a million beyond 4.892.
    #[test]
    fn tables_of_the_normal_distribution() {
        for (z, p) in [(1.96, 0.05_f64), (2.576, 0.01), (3.291, 1e-3), (4.892, 1e-6)] {
            assert!((two_sided(z) + p.log10()).abs() < 0.01, "{z}: {}", two_sided(z));
        }
        assert!(two_sided(0.0).abs() < 0.11 && two_sided(38.0) > 300.0);
    }

    #[test]
    fn ten_deviations_are_rare_and_one_is_not() {
        let mut ewma = Ewma::new(Duration::from_secs(300));
        let mut memory = ewma.start(false);
        let mut judge = |value: f64| {
            let newest = Newest { history: &[value], time: crate::time::Timestamp(0), missing: 0 };
            let evaluation = ewma.evaluate(&memory, &newest);
            ewma.learn(&mut memory, &newest, &evaluation);
            evaluation.probability
        };
        for i in 0..500 {
            assert!(judge(100.0 + f64::from(i % 2)) < 0.9);
        }
        let found = judge(110.0);
        assert!(found > Ewma::new(Duration::from_secs(300)).threshold(0.15), "{found}");
    }
}
