//! The interval between the values of a series, which nobody says: learned from their times.

use std::{cmp::Ordering, collections::VecDeque, time::Duration};

/// Steps that are remembered.
const STEPS: usize = 101;
/// As long as fewer steps are known than are remembered, an estimate this many times off is mended. A step that is
/// off by less is jitter.
const EARLY: f64 = 1.25;
/// Later on, one this many times off: a series that is measured more or less often from now on. Irregular series
/// (loop detectors that report when there is traffic) have medians that waver by a factor of two.
const LATER: f64 = 3.0;

/// Learns the interval of a series, step by step.
#[derive(Clone, Debug, Default)]
pub struct Sampling {
    /// The last steps forward, in nanoseconds, oldest first.
    steps: VecDeque<i128>,
    interval: Option<i128>,
}

impl Sampling {
    /// The time between two values, as far as it is known; from the second value on, unless all are of one time.
    #[must_use]
    pub fn interval(&self) -> Option<Duration> {
        self.interval.map(|nanos| Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    /// Takes the time between a value and the one before it, in nanoseconds: true if the interval is another one
    /// from here on.
    ///
    /// It is the median of the last 101 steps, of an even number the shorter one of the middle: gaps lengthen steps,
    /// and nothing but a clock set back shortens them. Steps of no length, and backwards, say nothing about it.
    pub fn step(&mut self, nanos: i128) -> bool {
        if nanos <= 0 {
            return false;
        }
        if self.steps.len() == STEPS {
            self.steps.pop_front();
        }
        self.steps.push_back(nanos);
        let allowed = if self.steps.len() < STEPS { EARLY } else { LATER };
        let near = |step: i128| {
            self.interval
                .is_some_and(|interval| (1.0 / allowed..=allowed).contains(&(step as f64 / interval as f64)))
        };
        // The median was near, and one step more that is near leaves it there.
        if near(nanos) {
            return false;
        }
        let mut steps: Vec<_> = self.steps.iter().copied().collect();
        let middle = (steps.len() - 1) / 2;
        let median = *steps.select_nth_unstable(middle).1;
        if near(median) {
            return false;
        }
        self.interval = Some(median);
        true
    }

    /// Intervals that nobody measured, in a step of this many nanoseconds: none in one that is of no length or
    /// backwards (values twice, the end of daylight saving, a clock that was set).
    #[must_use]
    pub fn missing(&self, nanos: i128) -> u64 {
        let Some(interval) = self.interval else { return 0 };
        match nanos.cmp(&0) {
            Ordering::Greater => u64::try_from((nanos + interval / 2) / interval - 1).unwrap_or_default(),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i128 = 1_000_000_000;

    /// Takes steps in seconds; the interval after each.
    fn intervals(steps: impl IntoIterator<Item = i128>) -> Vec<u64> {
        let mut sampling = Sampling::default();
        let mut interval = |step| {
            sampling.step(step * SECOND);
            sampling.interval().map_or(0, |interval| interval.as_secs())
        };
        steps.into_iter().map(&mut interval).collect()
    }

    #[test]
    fn the_first_step_counts_until_others_tell_better() {
        assert_eq!(intervals([300, 300, 300]), [300, 300, 300]);
        assert_eq!(intervals([600, 300, 300]), [600, 300, 300], "a gap at the start");
        assert_eq!(intervals([1, 300, 300]), [1, 1, 300], "a clock that was set at the start");
        assert_eq!(intervals([300, 310, 290, 301]), [300; 4], "jitter");
        assert_eq!(intervals([0, -3300, 300]), [0, 0, 300]);
    }

    #[test]
    fn gaps_change_nothing_and_another_rhythm_does() {
        let outage = intervals([vec![300; 200], vec![86_400; 50], vec![300]].concat());
        assert!(outage.iter().all(|&interval| interval == 300));
        let faster = intervals([vec![300; 200], vec![60; 60]].concat());
        assert_eq!((faster[249], faster[250]), (300, 60), "when more than half of the steps say so");
        assert!(intervals([vec![300; 200], vec![600; 200]].concat()).iter().all(|&interval| interval == 300));
    }

    #[test]
    fn missing_intervals_are_whole_ones() {
        let mut sampling = Sampling::default();
        assert_eq!(sampling.missing(5 * SECOND), 0, "nothing is known");
        sampling.step(10 * SECOND);
        for (step, missing) in [(-3600, 0), (0, 0), (1, 0), (10, 0), (14, 0), (15, 1), (20, 1), (100, 9)] {
            assert_eq!(sampling.missing(step * SECOND), missing, "{step} s");
        }
        assert_eq!(
            sampling.missing(i128::MAX / 2),
            u64::try_from(i128::MAX / 2 / (10 * SECOND)).unwrap_or_default()
        );
    }
}
