//! Where packets fall on the files' own clock. Pure arithmetic: a gap of a century costs what a second does.

use std::time::Duration;

use crate::time::Timestamp;

/// One interval, as yet without its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interval {
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) length: Duration,
    /// Whole intervals without a packet before this one.
    pub(super) skipped: u64,
    /// False for the last one, which the capture's end cut short.
    pub(super) complete: bool,
}

/// Where a packet belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the open interval.
    Now,
    /// Before the open interval.
    Late,
    /// After the open interval, which has thereby ended. A second call says [`Place::Now`].
    Next(Interval),
}

/// The open interval of a clock that the packets drive. The first interval begins at the first packet's time.
#[derive(Debug)]
pub(super) struct Intervals {
    /// Nanoseconds; `None`: one interval for everything.
    length: Option<u64>,
    /// Start of the open interval, before the first packet `None`.
    start: Option<u64>,
    skipped: u64,
    /// Latest time seen, for the interval without a length.
    last: u64,
}

impl Intervals {
    pub(super) fn new(length: Option<Duration>) -> Self {
        let length = length.map(|length| u64::try_from(length.as_nanos()).unwrap_or(u64::MAX).max(1));
        Self { length, start: None, skipped: 0, last: 0 }
    }

    /// Start of the open interval in nanoseconds, 0 before the first packet.
    pub(super) fn start(&self) -> u64 {
        self.start.unwrap_or(0)
    }

    /// Places a packet of time `time`, in nanoseconds.
    #[inline]
    pub(super) fn place(&mut self, time: u64) -> Place {
        let start = *self.start.get_or_insert(time);
        let Some(length) = self.length else {
            // One interval for everything: it reaches back as far as need be.
            self.start = Some(start.min(time));
            self.last = self.last.max(time);
            return Place::Now;
        };
        if time < start {
            return Place::Late;
        }
        let whole = (time - start) / length;
        if whole == 0 {
            return Place::Now;
        }
        let ended = self.interval(true);
        self.start = Some(start + whole * length);
        self.skipped = whole - 1;
        Place::Next(ended)
    }

    /// The open interval, ended by the capture's end.
    pub(super) fn finish(&self) -> Interval {
        self.interval(self.length.is_none())
    }

    fn interval(&self, complete: bool) -> Interval {
        let start = Timestamp(self.start());
        let end = match self.length {
            Some(length) => start.plus(Duration::from_nanos(length)),
            None => Timestamp(self.last.max(start.0)),
        };
        let length = self.length.map_or_else(|| end.since(start), Duration::from_nanos);
        Interval { start, end, length, skipped: self.skipped, complete }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn interval(start: u64, end: u64, skipped: u64, complete: bool) -> Interval {
        let length = Duration::from_nanos(end - start);
        Interval { start: Timestamp(start), end: Timestamp(end), length, skipped, complete }
    }

    #[test]
    fn gaps_late_packets_and_the_last_interval() {
        let mut intervals = Intervals::new(Some(Duration::from_nanos(10)));
        assert_eq!(intervals.place(103), Place::Now);
        assert_eq!(intervals.place(112), Place::Now);
        assert_eq!(intervals.place(102), Place::Late);
        assert_eq!(intervals.place(113), Place::Next(interval(103, 113, 0, true)));
        assert_eq!(intervals.place(113), Place::Now);
        assert_eq!(intervals.place(112), Place::Late);
        assert_eq!(intervals.place(153), Place::Next(interval(113, 123, 0, true)));
        assert_eq!(intervals.finish(), interval(153, 163, 3, false));
    }

    #[test]
    fn one_interval_for_everything_spans_the_packets() {
        let mut intervals = Intervals::new(None);
        for time in [50, 40, 70, 60] {
            assert_eq!(intervals.place(time), Place::Now);
        }
        assert_eq!(intervals.finish(), interval(40, 70, 0, true));
    }

    proptest! {
        /// Intervals follow each other without overlap, and lengths plus what was skipped make up the time.
        #[test]
        fn intervals_tile_the_time(times in prop::collection::vec(any::<u64>(), 1..50), length in 1_u64..) {
            let mut intervals = Intervals::new(Some(Duration::from_nanos(length)));
            let mut next = times[0];
            for time in times {
                match intervals.place(time) {
                    Place::Late => prop_assert!(time < intervals.start()),
                    Place::Now => prop_assert!(time >= intervals.start() && time - intervals.start() < length),
                    Place::Next(ended) => {
                        prop_assert_eq!(ended.start.0, next + ended.skipped * length);
                        next = ended.start.0 + length;
                        prop_assert_eq!(intervals.place(time), Place::Now);
                    }
                }
            }
            let last = intervals.finish();
            prop_assert_eq!(last.start.0, next + last.skipped * length);
        }
    }
}
