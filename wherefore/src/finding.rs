//! What was unusual in one interval, with its evidence.

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use wherefore_common::Direction;

pub use crate::detect::Usual;
use crate::{
    detect::Evaluation,
    locality::Locality,
    rules::{Broken, Group, Measured, Quantity},
    series::{Level, Metric, SeriesKey, Unit},
    time::Timestamp,
};

/// Why something is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Cause {
    /// The detector found it unusual.
    Unusual,
    /// A rule was broken. The series is the network or pair that broke it, else the pair that carried most of it in the
    /// interval; interface, direction and locality are that pair's, the value is of all of it. There is nothing usual,
    /// and no probability but 1.
    Rule(Box<Broken>),
}

/// Names what is told, without what changes while the same thing goes on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A series, and what is measured of it.
    Series(SeriesKey, Metric),
    /// A rule, and whose traffic broke it.
    Rule(Arc<str>, Group),
}

/// One unusual series in one interval, or a rule that was broken.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Why it is told.
    pub cause: Cause,
    /// End of the interval.
    pub time: Timestamp,
    /// The time of which `value` is: the interval asked for, to which values are normalised; of a newcomer's total, as
    /// many as it was known for.
    pub interval: Duration,
    /// Whose traffic.
    pub series: SeriesKey,
    /// What was measured.
    pub metric: Metric,
    /// Hardly anything was known of it, and for so long before this interval: held against what newcomers of its level
    /// usually carry, as `usual` and `history` are.
    pub newcomer: Option<Duration>,
    /// Interface that carried most of it in this interval; of a silent interval, the one that last carried
    /// any.
    pub interface: String,
    /// Direction that carried most of it, likewise.
    pub direction: Direction,
    /// Which end of it is this host, likewise.
    pub locality: Locality,
    /// What it carried in this interval, normalised to the interval asked for: bytes, or flows, by the metric.
    pub value: f64,
    /// IP bytes or wire bytes.
    pub unit: Unit,
    /// Packets of this interval that may stand for several on the wire, so that the bytes lack their headers; 0: they
    /// are exact.
    pub estimated: u64,
    /// The range of the earlier intervals: what is usual.
    pub usual: Usual,
    /// More, less, or nothing.
    pub trend: Trend,
    /// When the unusual state began: the end of its first interval; of a silence, of the first silent one.
    pub since: Timestamp,
    /// How long ago it last carried as much.
    pub highest: Highest,
    /// The detector's verdict.
    pub evaluation: Evaluation,
    /// The probability that had to be exceeded.
    pub threshold: f64,
    /// False alerts a day that the threshold stands for; `None` where it is not made of a budget.
    pub budget: Option<f64>,
    /// What the value would have had to be at most (of a fall: at least) not to be found unusual; `None` where no value
    /// would have been usual.
    pub limit: Option<f64>,
    /// The last values, oldest first, this interval last. Of a silence that goes on only the first few zeros.
    pub history: Vec<f64>,
    /// It was told before, and is a thousand times rarer now.
    pub worse: bool,
    /// The pairs of addresses that made most of the change, the largest first: of networks and interfaces.
    pub contributors: Vec<Contributor>,
    /// What had the same cause, and so was not told.
    pub folded: Folded,
    /// The other direction, which was unusual too.
    pub reverse: Option<Contributor>,
}

impl Finding {
    /// That a rule was broken; `interval` is the one asked for.
    #[must_use]
    pub fn of_rule(broken: Broken, interval: Duration) -> Self {
        let metric = match broken.measured {
            Measured::Flows { .. } => Metric::Flows,
            Measured::Rate { .. } | Measured::Volume { .. } | Measured::New { .. } => Metric::Bytes,
        };
        let value = match broken.measured {
            Measured::Flows { value, .. } => value as f64,
            _ => broken.bytes as f64,
        };
        // A pair's part in packets is no number of bytes.
        let packets = matches!(
            broken.measured,
            Measured::Rate { of: Quantity::Packets, .. } | Measured::Volume { of: Quantity::Packets, .. }
        );
        let contributors = broken.contributors.iter().map(|pair| Contributor {
            series: SeriesKey::Pair { src: pair.src, dst: pair.dst },
            metric,
            value: if packets { f64::NAN } else { pair.amount as f64 },
            share: pair.share,
        });
        Self {
            time: broken.time,
            interval,
            series: match broken.group {
                Group::Net(net) => SeriesKey::Net { net, toward: !broken.incoming },
                Group::Pair(src, dst) => SeriesKey::Pair { src, dst },
                Group::All | Group::Host(_) => SeriesKey::Pair { src: broken.src, dst: broken.dst },
            },
            metric,
            newcomer: None,
            interface: broken.interface.clone(),
            direction: broken.direction,
            locality: broken.locality,
            value,
            unit: broken.unit,
            estimated: 0,
            usual: Usual::default(),
            trend: Trend::Rise,
            since: broken.since,
            highest: Highest::For(Duration::ZERO),
            evaluation: Evaluation { probability: 1.0, ..Evaluation::default() },
            threshold: 1.0,
            budget: None,
            limit: None,
            history: vec![value],
            worse: false,
            contributors: contributors.collect(),
            folded: Folded::default(),
            reverse: None,
            cause: Cause::Rule(Box::new(broken)),
        }
    }

    /// The rule that was broken, if one was.
    #[must_use]
    pub fn broken(&self) -> Option<&Broken> {
        match &self.cause {
            Cause::Unusual => None,
            Cause::Rule(broken) => Some(broken),
        }
    }

    /// Names it.
    #[must_use]
    pub fn key(&self) -> Key {
        match &self.cause {
            Cause::Unusual => Key::Series(self.series, self.metric),
            Cause::Rule(broken) => Key::Rule(Arc::clone(&broken.rule.name), broken.group),
        }
    }

    /// How closely was looked.
    #[must_use]
    pub const fn level(&self) -> Level {
        self.series.level()
    }

    /// What was carried, by second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.value / self.interval.as_secs_f64()
    }
}

/// What became of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Trend {
    /// It carries more than usual.
    Rise,
    /// Less.
    Fall,
    /// Nothing.
    Silence,
}

impl Trend {
    /// `rise`, `fall`, `silence`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rise => "rise",
            Self::Fall => "fall",
            Self::Silence => "silence",
        }
    }

    /// Of a value, where that much is usual.
    #[must_use]
    pub fn of(value: f64, usual: &Usual) -> Self {
        if value == 0.0 && usual.high > 0.0 {
            Self::Silence
        } else if value < usual.median {
            Self::Fall
        } else {
            Self::Rise
        }
    }
}

/// How long ago a series last carried as much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Highest {
    /// At least so long.
    For(Duration),
    /// Never since the agent began to look, so long ago.
    SinceStart(Duration),
}

impl Highest {
    /// The time in which there was nothing as high.
    #[must_use]
    pub const fn duration(self) -> Duration {
        match self {
            Self::For(duration) | Self::SinceStart(duration) => duration,
        }
    }
}

/// A series that is part of an unusual one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Contributor {
    /// Which.
    pub series: SeriesKey,
    /// What was measured.
    pub metric: Metric,
    /// What it carried in the interval.
    pub value: f64,
    /// Its part in the change, 0 to 1.
    pub share: f64,
}

/// Findings that were not told, as this one has the same cause.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Folded {
    /// How many.
    pub count: u64,
    /// The largest five.
    pub top: Vec<Contributor>,
}

/// Contributors, and folded findings, that are named.
pub const MOST_NAMED: usize = 5;
