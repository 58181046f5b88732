//! Which series are remembered, and for how long. Pure and bounded.

mod gap;
mod key;
mod measure;
mod memory;
mod peaks;
mod store;

use std::time::Duration;

pub(crate) use self::store::Entry;
pub use self::{
    gap::{Gaps, Step},
    key::{InterfaceName, Level, Metric, SeriesKey, Transport, Unit, endpoint, network},
    measure::{Carried, Measured, Role},
    memory::{BUSY_LEAST, EVIDENCE, Exact, Head, Series},
    store::{Bounds, Intake, Newcomer, Newcomers, Newest, Store},
};

/// Most remote networks remembered, each way and metric.
pub const MOST_NETS: usize = 16_384;
/// Most interfaces remembered, each way and metric.
pub const MOST_INTERFACES: usize = 1_024;

/// A series that was silent for so long is forgotten by default: what comes nightly is still known when it comes again.
const EXPIRY: Duration = Duration::from_secs(3 * 86_400);

/// The default of [`Settings::expire_after`] for intervals of this length.
#[must_use]
pub fn expiry(interval: Duration) -> u64 {
    (EXPIRY.as_secs_f64() / interval.as_secs_f64()).max(1.0) as u64
}

/// Settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The levels in use, the finest first, each once.
    pub levels: Vec<Level>,
    /// IP bytes or wire bytes.
    pub unit: Unit,
    /// Most flows, and most pairs, remembered. Beyond it a new one replaces the lightest if it is heavier, else it is
    /// turned away and counted; see [`Store`].
    pub max_series: usize,
    /// Points kept of each series where a detector judges by them (`--anom-gv-cap`); 0 counts as 1.
    pub history: usize,
    /// A series without anything in this many intervals is forgotten; 0 counts as 1.
    pub expire_after: u64,
}

impl Settings {
    /// What wherefore's first version did: 30 points whatever its flags said, forgotten on the 61st silent
    /// interval.
    #[must_use]
    pub fn original() -> Self {
        Self { levels: vec![Level::Pair], expire_after: 61, ..Self::default() }
    }

    /// Most series of a level, of each metric.
    #[must_use]
    pub const fn most(&self, level: Level) -> usize {
        match level {
            Level::Flow | Level::Pair => self.max_series,
            Level::Net => MOST_NETS,
            Level::Interface => MOST_INTERFACES,
        }
    }
}

/// For intervals of 5 s. A full store of 65,536 takes 34 MB with the default detector.
impl Default for Settings {
    fn default() -> Self {
        Self {
            levels: vec![Level::Pair, Level::Net, Level::Interface],
            unit: Unit::Ip,
            max_series: 65_536,
            history: 30,
            expire_after: expiry(Duration::from_secs(5)),
        }
    }
}

/// What is held, and what became of the rest since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counters {
    /// Series remembered now.
    pub held: u64,
    /// Series forgotten because they were silent for too long.
    pub expired: u64,
    /// Series replaced by a heavier one because there was no room.
    pub replaced: u64,
    /// Times a series carried something in an interval but had no place, because there was no room but for heavier
    /// ones. One that goes on counts again in each interval.
    pub turned_away: u64,
}

impl Counters {
    /// Adds those of another level or metric.
    pub const fn add(&mut self, other: &Self) {
        self.held += other.held;
        self.expired += other.expired;
        self.replaced += other.replaced;
        self.turned_away += other.turned_away;
    }
}
