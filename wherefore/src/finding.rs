//! What was unusual in one interval, with its evidence.

use std::{net::IpAddr, time::Duration};

use wherefore_common::Direction;

use crate::{
    detect::Evaluation,
    series::{SeriesKey, Unit},
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
    /// Interface that carried most of it in this interval.
    pub interface: String,
    /// Direction that carried most of it.
    pub direction: Direction,
    /// Bytes of this interval, normalised to the interval asked for.
    pub bytes: f64,
    /// IP bytes or wire bytes.
    pub unit: Unit,
    /// The range of earlier intervals, oldest excluded: what is usual.
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
