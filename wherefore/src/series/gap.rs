//! Which intervals were measured, and how many were not. Pure.

use std::time::Duration;

use crate::{snapshot::Snapshot, time::Timestamp};

/// Silent intervals of a capture that are judged one by one: an hour's worth at 5 s. Of a longer silence the rest
/// counts as not measured.
const MOST_SILENT: u64 = 720;

/// How an interval follows the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Intervals right before it in which nothing at all was carried.
    pub silent: u64,
    /// Intervals before those that nobody measured: the machine slept, its clock was set forward, a poll failed.
    pub missing: u64,
}

/// The intervals as they come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gaps {
    /// When the last recorded one ended, by the wall clock.
    end: Option<Timestamp>,
}

impl Gaps {
    /// Those after intervals of which the last ended then; `None`: there was none.
    #[must_use]
    pub const fn since(end: Option<Timestamp>) -> Self {
        Self { end }
    }

    /// End of the last recorded interval.
    #[must_use]
    pub const fn end(&self) -> Option<Timestamp> {
        self.end
    }

    /// Takes in the next recorded interval.
    ///
    /// What lies between the last one's end and its start, and what its span is longer than its measured length (a
    /// monotonic clock does not go on while a machine sleeps), was measured by nobody. A clock that was set back says
    /// nothing.
    pub fn step(&mut self, snapshot: &Snapshot, interval: Duration) -> Step {
        let silent = snapshot.skipped.min(MOST_SILENT);
        let uncounted = snapshot.skipped - silent;
        let before = self.end.replace(snapshot.end);
        let Some(before) = before else { return Step { silent, missing: uncounted } };
        let skipped = nanos(interval).saturating_mul(u128::from(snapshot.skipped));
        let between = nanos(snapshot.start.since(before)).saturating_sub(skipped);
        let within = nanos(snapshot.end.since(snapshot.start)).saturating_sub(nanos(snapshot.length));
        let unmeasured = (between + within + nanos(interval) / 2) / nanos(interval).max(1);
        Step { silent, missing: uncounted.saturating_add(u64::try_from(unmeasured).unwrap_or(u64::MAX)) }
    }
}

const fn nanos(duration: Duration) -> u128 {
    duration.as_nanos()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(5);

    fn at(seconds: u64) -> Timestamp {
        Timestamp(0).plus(Duration::from_secs(1_000_000 + seconds))
    }

    /// From `start` to `end` by the wall clock, `length` seconds by the other.
    fn interval(start: u64, end: u64, length: u64) -> Snapshot {
        let (start, end) = (at(start), at(end));
        Snapshot { start, end, length: Duration::from_secs(length), complete: true, ..Snapshot::default() }
    }

    fn missing(intervals: &[Snapshot]) -> Vec<u64> {
        let mut gaps = Gaps::default();
        intervals.iter().map(|snapshot| gaps.step(snapshot, INTERVAL).missing).collect()
    }

    #[test]
    fn what_joins_misses_nothing() {
        assert_eq!(missing(&[interval(0, 5, 5), interval(5, 13, 8), interval(13, 15, 2)]), [0, 0, 0]);
        // A few milliseconds between two polls, and a clock that is adjusted a little.
        assert_eq!(missing(&[interval(0, 5, 5), interval(7, 12, 5), interval(12, 18, 5)]), [0, 0, 0]);
    }

    #[test]
    fn a_sleeping_machine_and_a_late_start_are_missing() {
        assert_eq!(missing(&[interval(0, 5, 5), interval(5, 3_610, 5)]), [0, 720]);
        assert_eq!(missing(&[interval(0, 5, 5), interval(65, 70, 5)]), [0, 12]);
        assert_eq!(missing(&[interval(5, 3_610, 5)]), [0], "of the first nothing is known");
        let mut gaps = Gaps::since(Some(at(5)));
        assert_eq!(gaps.step(&interval(65, 70, 5), INTERVAL).missing, 12, "of the one before a restart");
        assert_eq!(gaps.end(), Some(at(70)));
    }

    #[test]
    fn a_clock_set_back_says_nothing() {
        let back = interval(500, 505, 5);
        assert_eq!(missing(&[interval(5_000, 5_005, 5), back.clone(), interval(505, 510, 5)]), [0, 0, 0]);
        let mut within = back;
        within.end = at(100);
        assert_eq!(missing(&[interval(495, 500, 5), within, interval(100, 105, 5)]), [0, 0, 0]);
    }

    #[test]
    fn silent_intervals_of_a_capture_are_measured_as_far_as_they_are_judged() {
        let mut gaps = Gaps::default();
        gaps.step(&interval(0, 5, 5), INTERVAL);
        let gap = Snapshot { skipped: 3, ..interval(20, 25, 5) };
        assert_eq!(gaps.step(&gap, INTERVAL), Step { silent: 3, missing: 0 });
        let years = Snapshot { skipped: u64::MAX, start: Timestamp(u64::MAX), ..interval(0, 5, 5) };
        let step = gaps.step(&years, INTERVAL);
        assert_eq!((step.silent, step.missing), (MOST_SILENT, u64::MAX - MOST_SILENT));
    }
}
