//! What tells an unusual number from a usual one. Pure, and ignorant of networks.

use std::{fmt, time::Duration};

use arrayvec::ArrayVec;
use serde::{Serialize, de::DeserializeOwned};

use crate::time::Timestamp;

pub mod anomalyzer;
pub mod auto;
mod choice;
pub mod ewma;
mod rare;
pub mod spot;
mod tail;
mod usual;

pub use self::rare::Rare;
pub use self::usual::{Usual, quantile};

pub use self::choice::{Name, Settings};

/// Judges the newest value of a series by the values before it, one after the other: first [`Self::evaluate`], then
/// [`Self::learn`].
pub trait Detector: Send {
    /// What is remembered of one series beside its last values.
    type Memory: Clone + Serialize + DeserializeOwned + Send;

    /// The memory of a series before its first value. `coarse`: there are few such series, so it may be larger.
    fn start(&self, coarse: bool) -> Self::Memory;

    /// The verdict on the newest value. It depends on nothing but what is handed over, and changes nothing.
    fn evaluate(&mut self, memory: &Self::Memory, newest: &Newest<'_>) -> Evaluation;

    /// Takes the newest value, and what was said of it, into the memory.
    fn learn(&self, memory: &mut Self::Memory, newest: &Newest<'_>, evaluation: &Evaluation);

    /// Last values that [`Newest::history`] must hold where there are that many, the judged one included.
    fn keeps(&self) -> usize;

    /// Values of a history without which the probability is 0.
    fn least(&self) -> usize;

    /// The largest probability believed in of one of many series of which so many values were seen: some come each day
    /// upon what they never saw.
    fn most_of_many(&self, _values: u32) -> f64 {
        1.0
    }

    /// The probability that is an alert when exceeded, for a series that may cost `budget` false alerts a day.
    fn threshold(&self, budget: f64) -> f64;

    /// What was usual before the newest value, of a memory that reaches further than a few last values; `None` where
    /// those say it as well.
    fn usual(&self, _memory: &Self::Memory, _newest: &Newest<'_>) -> Option<Usual> {
        None
    }
}

/// The newest value of a series, and what is known with it.
#[derive(Clone, Copy, Debug)]
pub struct Newest<'a> {
    /// The last values, oldest first, the judged one last; never empty.
    pub history: &'a [f64],
    /// When the judged interval ended.
    pub time: Timestamp,
    /// Intervals that nobody measured between the one before and this one.
    pub missing: u64,
}

impl Newest<'_> {
    /// The judged value.
    #[must_use]
    pub fn value(&self) -> f64 {
        self.history.last().copied().unwrap_or_default()
    }
}

/// Most methods that a verdict is made of.
pub const MOST_PARTS: usize = 9;

/// A verdict.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Evaluation {
    /// 0 (as usual) to 1 (never seen).
    pub probability: f64,
    /// What each method said.
    pub parts: ArrayVec<Part, MOST_PARTS>,
}

/// One method's share in a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Part {
    /// The method's name.
    pub method: &'static str,
    /// Its value, 0 to 1.
    pub value: f64,
    /// Its weight in the combination.
    pub weight: f64,
    /// What it measured, in its own unit: see docs/detection.md.
    pub statistic: f64,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:.3} (weight {})", self.method, self.value, self.weight)
    }
}

/// Decades that a probability is told apart by: 1 - 10^-14 is still below 1.
const MOST_DECADES: f64 = 14.0;

/// One minus one in 10^decades.
fn of_decades(decades: f64) -> f64 {
    if decades <= 0.0 {
        return 0.0;
    }
    -(-decades.min(MOST_DECADES) * std::f64::consts::LN_10).exp_m1()
}

/// Values in a day.
fn per_day(interval: Duration) -> f64 {
    86_400.0 / interval.as_secs_f64().max(1e-3)
}

/// Decades that are an alert when exceeded: where that many statistics of `day` values a day are each that rare, the
/// sum of their alarms is `budget` a day.
fn threshold_decades(statistics: f64, day: f64, budget: f64) -> f64 {
    (statistics * day / budget.max(f64::MIN_POSITIVE)).log10().clamp(0.0, MOST_DECADES)
}
