//! What is remembered of one series.

use serde::{Deserialize, Serialize};
use wherefore_common::Direction;

use super::{Carried, Metric, Role, peaks::Peaks};
use crate::locality::Locality;

/// Values kept as evidence.
pub const EVIDENCE: usize = 16;
/// Of a silence that goes on, as many zeros stand in the evidence at most: what was before stays in sight.
const SILENT_EVIDENCE: usize = 4;

/// What is asked of every series before it is judged, beside its name and apart from the rest: 64 bytes together, one
/// line of a cache.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Head {
    /// Values seen, silent ones included.
    pub values: u32,
    /// Silent intervals since the last other one.
    pub idle: u32,
    /// Values since it first carried enough to be told, that one included; 0 where it never did.
    pub grown: u16,
    /// Values that were not 0.
    pub busy: u16,
    /// Who is sent what, in the last interval with any.
    pub role: Role,
    /// Number of the interface that carried most in the last interval with any; 0 where that was before the agent
    /// started, as numbers do not outlast it.
    #[serde(skip)]
    pub ifindex: u32,
    direction: u8,
    /// Which end of it was this host in the last interval with any.
    pub locality: Locality,
    /// The judge keeps a state of it.
    pub watched: bool,
}

impl Default for Head {
    fn default() -> Self {
        Self {
            values: 0,
            idle: 0,
            grown: 0,
            busy: 0,
            role: Role::Served,
            ifindex: 0,
            direction: Direction::Unknown as u8,
            locality: Locality::Unknown,
            watched: false,
        }
    }
}

impl Head {
    /// Where it was carried in this interval.
    pub const fn seen(&mut self, carried: &Carried, metric: Metric) {
        self.role = carried.role(metric);
        (self.ifindex, self.direction, self.locality) =
            (carried.ifindex, carried.direction, carried.locality);
    }

    /// Direction that carried most in the last interval with any.
    #[must_use]
    pub const fn direction(&self) -> Direction {
        Direction::from_u8(self.direction)
    }

    /// Takes in silent intervals.
    pub(super) fn fall_silent(&mut self, count: u64) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.idle = self.idle.saturating_add(count);
        self.values = self.values.saturating_add(count);
        if self.grown > 0 {
            self.grown = self.grown.saturating_add(u16::try_from(count).unwrap_or(u16::MAX));
        }
    }

    /// Takes in what it carried; `least` is enough to be told.
    fn grow(&mut self, value: f64, least: f64) {
        self.busy = self.busy.saturating_add(u16::from(value > 0.0));
        self.grown = self.grown.saturating_add(u16::from(self.grown > 0 || value >= least));
    }
}

/// What is remembered of one series: with the default detector's memory some 430 bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Series<M> {
    /// What the detector remembers.
    pub memory: M,
    recent: [f32; EVIDENCE],
    held: u8,
    peaks: Peaks,
    /// All that it carried since a silence that ends a visit, and the number of the interval in which that began.
    total: f32,
    came: u32,
}

impl<M> Series<M> {
    /// Before its first value.
    #[must_use]
    pub fn new(memory: M) -> Self {
        Self { memory, recent: [0.0; EVIDENCE], held: 0, peaks: Peaks::default(), total: 0.0, came: 0 }
    }

    /// Takes in the value of interval `now`. `least` is enough to be told; `visit` silent intervals end a visit.
    pub fn take_in(&mut self, head: &mut Head, value: f64, now: u32, least: f64, visit: u32) {
        if value > 0.0 && (head.busy == 0 || head.idle >= visit) {
            (self.came, self.total) = (now, 0.0);
        }
        self.total += value as f32;
        head.grow(value, least);
        self.push(head, value, now);
    }

    /// All that it carried in its visit so far, and the intervals from that one's beginning to interval `now`; nothing
    /// where the next value begins another.
    #[must_use]
    pub fn visit(&self, head: &Head, now: u32, visit: u32) -> (f64, u32) {
        if head.busy == 0 || head.idle >= visit {
            return (0.0, 0);
        }
        (self.total.into(), now.saturating_sub(self.came))
    }

    /// Takes in the value of interval `now`.
    pub fn push(&mut self, head: &mut Head, value: f64, now: u32) {
        head.values = head.values.saturating_add(1);
        if value == 0.0 {
            head.idle = head.idle.saturating_add(1);
            if head.idle as usize > SILENT_EVIDENCE {
                return;
            }
        } else {
            head.idle = 0;
            self.peaks.push(value, now);
        }
        let held = usize::from(self.held);
        if held == EVIDENCE {
            self.recent.copy_within(1.., 0);
            self.recent[EVIDENCE - 1] = value as f32;
        } else {
            self.recent[held] = value as f32;
            self.held += 1;
        }
    }

    /// The last values, oldest first; of a silence that goes on, its first four.
    #[must_use]
    pub fn recent(&self) -> &[f32] {
        &self.recent[..usize::from(self.held)]
    }

    /// The same in double precision.
    pub fn values(&self) -> impl Iterator<Item = f64> + '_ {
        self.recent().iter().copied().map(f64::from)
    }

    /// Intervals before interval `now` since it carried at least `value`; `None` where it never did.
    #[must_use]
    pub fn since_as_much(&self, value: f64, now: u32) -> Option<u32> {
        self.peaks.since(value, now)
    }

    /// How much it deserves its place in an interval in which it carried `value`: its largest value of late, divided by
    /// one more than the silent intervals since it last spoke.
    pub(super) fn weight(&self, head: &Head, value: f64) -> f64 {
        let largest = self.recent().iter().copied().fold(0.0, f32::max);
        if value > 0.0 {
            value.max(largest.into())
        } else {
            f64::from(largest) / (2.0 + f64::from(head.idle))
        }
    }
}

/// The last values of a series as they were, for detectors that judge by them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Exact {
    /// Oldest first.
    pub values: Vec<f64>,
    /// Those of the last values that were not 0, single precision: they are held against a factor, and outlast
    /// silences that fill the history.
    busy: Vec<f32>,
}

/// Busy intervals remembered, however long ago they were.
const BUSY: usize = 32;
/// Busy intervals needed to say what a busy interval is like.
pub const BUSY_LEAST: usize = 3;

impl Exact {
    /// Adds a value, of which at most `cap` are kept.
    pub fn push(&mut self, value: f64, cap: usize) {
        if self.values.len() >= cap.max(1) {
            self.values.remove(0);
        }
        self.values.push(value);
    }

    /// Adds `count` silent ones.
    pub fn fall_silent(&mut self, count: u64, cap: usize) {
        let zeros = usize::try_from(count).unwrap_or(usize::MAX).min(cap);
        let excess = (self.values.len() + zeros).saturating_sub(cap);
        self.values.drain(..excess.min(self.values.len()));
        self.values.resize(self.values.len() + zeros, 0.0);
    }

    /// Remembers a value that is not 0 as busy, after it was judged.
    pub fn remember_busy(&mut self, value: f64) {
        if value == 0.0 {
            return;
        }
        if self.busy.len() == BUSY {
            self.busy.remove(0);
        }
        self.busy.push(value as f32);
    }

    /// What a busy interval is like: the ninetieth percentile of the last 32 earlier intervals that carried anything.
    /// `None` below three of them.
    #[must_use]
    pub fn busy_level(&self) -> Option<f64> {
        if self.busy.len() < BUSY_LEAST {
            return None;
        }
        let mut sorted: Vec<f64> = self.busy.iter().copied().map(f64::from).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        Some(crate::detect::quantile(&sorted, 0.9))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::SeriesKey;

    /// Name and series, the index of the store (10 bytes at most), and what the default detector remembers.
    #[test]
    fn a_series_of_the_default_detector_takes_at_most_512_bytes() {
        let (head, series) =
            (size_of::<(SeriesKey, Head)>(), size_of::<Series<crate::detect::auto::Memory>>());
        assert!(head <= 64, "{head}");
        assert!(head + series + 10 <= 512, "{head} + {series}");
    }

    #[test]
    fn what_was_before_a_silence_stays_in_sight() {
        let (mut head, mut series) = (Head::default(), Series::new(()));
        for now in 0..40 {
            series.push(&mut head, f64::from(now), now);
        }
        for now in 40..90 {
            series.push(&mut head, 0.0, now);
        }
        assert_eq!((head.values, head.idle), (90, 50));
        let expected: Vec<f32> = (28..40).map(|value| value as f32).chain([0.0; 4]).collect();
        assert_eq!(series.recent(), expected);
        assert_eq!((series.weight(&head, 0.0), series.weight(&head, 50.0)), (39.0 / 52.0, 50.0));
        assert_eq!(series.since_as_much(20.0, 90), Some(51));
        assert_eq!(series.since_as_much(50.0, 90), None);
    }
}
