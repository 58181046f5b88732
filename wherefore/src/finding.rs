//! What was unusual in one interval, with its evidence.

use std::{net::IpAddr, time::Duration};

use wherefore_common::Direction;

use crate::{
    detect::Evaluation,
    locality::Locality,
    series::{SeriesKey, Unit, quantile},
    time::Timestamp,
};

/// One unusual series in one interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// End of the interval.
    pub time: Timestamp,
    /// The interval asked for; `bytes` is normalised to it.
    pub interval: Duration,
    /// Whose traffic.
    pub series: SeriesKey,
    /// Interface that carried most of it in this interval; of a silent interval, the one that last carried
    /// any.
    pub interface: String,
    /// Direction that carried most of it, likewise.
    pub direction: Direction,
    /// Which end of it is this host, likewise.
    pub locality: Locality,
    /// Bytes of this interval, normalised to the interval asked for.
    pub bytes: f64,
    /// IP bytes or wire bytes.
    pub unit: Unit,
    /// Packets of this interval that may stand for several on the wire, so that `bytes` lacks their headers; 0: it is
    /// exact.
    pub estimated: u64,
    /// The range of the earlier intervals in the history: what is usual.
    pub usual: Usual,
    /// The detector's verdict.
    pub evaluation: Evaluation,
    /// The history, oldest first, this interval last.
    pub history: Vec<f64>,
}

impl Finding {
    /// Bytes per second in this interval.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.bytes / self.interval.as_secs_f64()
    }

    /// Source address.
    #[must_use]
    pub fn src(&self) -> IpAddr {
        self.series.src
    }

    /// Destination address.
    #[must_use]
    pub fn dst(&self) -> IpAddr {
        self.series.dst
    }
}

/// The middle of what came before.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Usual {
    /// Tenth percentile of the earlier intervals, in bytes.
    pub low: f64,
    /// Their median.
    pub median: f64,
    /// Their ninetieth percentile.
    pub high: f64,
}

impl Usual {
    /// The middle of `earlier`, in any order; all 0 if there is nothing.
    #[must_use]
    pub fn of(earlier: &[f64]) -> Self {
        let mut sorted = earlier.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        Self { low: quantile(&sorted, 0.1), median: quantile(&sorted, 0.5), high: quantile(&sorted, 0.9) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_is_the_middle_eight_tenths() {
        let earlier: Vec<f64> = (0..=10).rev().map(f64::from).collect();
        assert_eq!(Usual::of(&earlier), Usual { low: 1.0, median: 5.0, high: 9.0 });
        assert_eq!(Usual::of(&[1.0, 2.0]), Usual { low: 1.1, median: 1.5, high: 1.9 });
        assert_eq!(Usual::of(&[]), Usual::default());
    }
}
