//! One detector, fed one value after the other.

use std::{collections::VecDeque, time::Duration};

use super::{Sampling, Score};
use crate::{
    alarm::Levels,
    detect::{Detector, Newest},
    time::Timestamp,
};

/// What is taken for the interval before there is one: the agent's own default.
const UNKNOWN: Duration = Duration::from_secs(5);
/// Values that a detector is shown again when it is made anew because the interval is another one.
const AGAIN: usize = 101;

/// Which values a detector is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// All: memory grows with the series.
    All,
    /// The last so many, the newest included; 0 counts as 1.
    Last(usize),
}

/// A series and its detector. Memory is bounded unless all of the history is asked for.
pub struct Scorer<D: Detector> {
    detector: D,
    memory: D::Memory,
    rule: Rule<D>,
    values: Vec<f64>,
    keep: usize,
    sampling: Sampling,
    last: Option<jiff::Timestamp>,
}

/// What depends on whether a detector works by the interval of a series.
enum Rule<D> {
    /// It does not, and its threshold is its own.
    AnyInterval,
    /// It does: how to make it, and the last values, for one that is made anew.
    ByInterval { make: Box<dyn Fn(Duration) -> D + Send>, recent: VecDeque<(jiff::Timestamp, f64)> },
}

impl<D: Detector> Scorer<D> {
    /// For a detector whose threshold is its own: every crossing of it alerts.
    pub fn of_any_interval(detector: D, history: History) -> Self {
        let keep = match history {
            History::All => usize::MAX,
            History::Last(values) => values.max(1),
        };
        Self::new(detector, keep, Rule::AnyInterval)
    }

    /// For a detector that is made for an interval, and whose threshold follows from a budget. It is shown as many
    /// values as it keeps. Where the interval turns out to be another one, a new detector takes its place and
    /// begins with the last 101 values.
    pub fn by_interval(make: impl Fn(Duration) -> D + Send + 'static) -> Self {
        let detector = make(UNKNOWN);
        let keep = detector.keeps().max(1);
        Self::new(detector, keep, Rule::ByInterval { make: Box::new(make), recent: VecDeque::new() })
    }

    fn new(detector: D, keep: usize, rule: Rule<D>) -> Self {
        let memory = detector.start(true);
        Self { detector, memory, rule, values: Vec::new(), keep, sampling: Sampling::default(), last: None }
    }

    /// Values in memory.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        let recent = match &self.rule {
            Rule::AnyInterval => 0,
            Rule::ByInterval { recent, .. } => recent.len(),
        };
        self.values.capacity() + recent
    }

    /// Makes the detector anew where it depends on the interval.
    fn restart(&mut self) {
        let Rule::ByInterval { make, recent } = &self.rule else { return };
        self.detector = make(self.sampling.interval().unwrap_or(UNKNOWN));
        self.memory = self.detector.start(true);
        self.keep = self.detector.keeps().max(1);
        self.values.clear();
        self.last = None;
        for (time, value) in recent.clone() {
            self.take(time, value);
        }
    }

    /// Shows the detector the next value; its verdict.
    fn take(&mut self, time: jiff::Timestamp, value: f64) -> f64 {
        let missing = self.last.map_or(0, |last| self.sampling.missing(nanos(last, time)));
        self.last = Some(time);
        if self.values.len() >= self.keep.saturating_mul(2) {
            self.values.drain(..=self.values.len() - self.keep);
        }
        self.values.push(value);
        let newest = Newest {
            history: &self.values[self.values.len().saturating_sub(self.keep)..],
            time: Timestamp(u64::try_from(time.as_nanosecond()).unwrap_or_default()),
            missing,
        };
        let evaluation = self.detector.evaluate(&self.memory, &newest);
        self.detector.learn(&mut self.memory, &newest, &evaluation);
        // A detector without an answer has nothing to report.
        if evaluation.probability.is_nan() { 0.0 } else { evaluation.probability.clamp(0.0, 1.0) }
    }
}

impl<D: Detector> Score for Scorer<D> {
    fn score(&mut self, time: jiff::Timestamp, value: f64) -> f64 {
        if self.last.is_some_and(|last| self.sampling.step(nanos(last, time))) {
            self.restart();
        }
        if let Rule::ByInterval { recent, .. } = &mut self.rule {
            if recent.len() == AGAIN {
                recent.pop_front();
            }
            recent.push_back((time, value));
        }
        self.take(time, value)
    }

    fn levels(&self, budget: f64) -> Levels {
        match &self.rule {
            Rule::AnyInterval => Levels::single(self.detector.threshold(budget)),
            Rule::ByInterval { .. } => Levels::of_budget(|budget| self.detector.threshold(budget), budget),
        }
    }
}

/// From one time to another.
fn nanos(from: jiff::Timestamp, to: jiff::Timestamp) -> i128 {
    to.as_nanosecond() - from.as_nanosecond()
}
