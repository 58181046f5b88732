//! DSPOT (Siffer, Fouque, Termier and Largouet 2017): how far a value lies above or below the mean of the 20 before it,
//! each side held against its own tail.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Detector, Evaluation, Newest, Part, of_decades, per_day,
    tail::{Tail, WARM_UP},
    threshold_decades,
};

/// Values whose mean is the middle.
const DEPTH: usize = 20;
const STATISTICS: f64 = 2.0;

/// The detector.
#[derive(Clone, Copy, Debug)]
pub struct Spot {
    day: f64,
}

/// The tails of a series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    above: Tail,
    below: Tail,
}

impl Spot {
    /// For intervals of this length.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self { day: per_day(interval) }
    }
}

/// Distance from the mean of the values before; `None` while there are too few.
fn distance(history: &[f64]) -> Option<f64> {
    let (&value, earlier) = history.split_last()?;
    let earlier = &earlier[earlier.len().checked_sub(DEPTH)?..];
    Some(value - earlier.iter().sum::<f64>() / DEPTH as f64)
}

impl Detector for Spot {
    type Memory = Memory;

    fn start(&self, _: bool) -> Memory {
        Memory::default()
    }

    fn evaluate(&mut self, memory: &Memory, newest: &Newest<'_>) -> Evaluation {
        let Some(statistic) = distance(newest.history) else { return Evaluation::default() };
        let (method, tail) =
            if statistic > 0.0 { ("above", &memory.above) } else { ("below", &memory.below) };
        let value = of_decades(tail.decades(statistic.abs()));
        let part = Part { method, value, weight: 1.0, statistic };
        Evaluation { probability: value, parts: [part].into_iter().collect() }
    }

    fn learn(&self, memory: &mut Memory, newest: &Newest<'_>, _: &Evaluation) {
        if let Some(distance) = distance(newest.history) {
            memory.above.learn(distance, self.day);
            memory.below.learn(-distance, self.day);
        }
    }

    fn keeps(&self) -> usize {
        DEPTH + 1
    }

    fn least(&self) -> usize {
        DEPTH + WARM_UP as usize + 1
    }

    fn threshold(&self, budget: f64) -> f64 {
        of_decades(threshold_decades(STATISTICS, self.day, budget))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    /// 400 calm values, then one of `last`.
    fn said_of(last: f64) -> f64 {
        let mut spot = Spot::new(Duration::from_secs(300));
        let mut memory = spot.start(false);
        let mut values: Vec<f64> = (0..400).map(|i| f64::from(i * 7_919 % 101)).collect();
        values.push(last);
        let mut said = 0.0;
        for end in 1..=values.len() {
            let newest = Newest { history: &values[..end], time: Timestamp(0), missing: 0 };
            let evaluation = spot.evaluate(&memory, &newest);
            spot.learn(&mut memory, &newest, &evaluation);
            said = evaluation.probability;
            assert!(end >= spot.least() || said == 0.0);
        }
        said
    }

    #[test]
    fn each_side_has_its_tail() {
        let threshold = Spot::new(Duration::from_secs(300)).threshold(0.15);
        assert!(said_of(1_000.0) > threshold && said_of(-900.0) > threshold);
        assert_eq!(said_of(50.0), 0.0);
        assert!(said_of(100.0) < threshold, "{}", said_of(100.0));
    }
}
