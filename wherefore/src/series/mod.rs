//! Which series are remembered, and for how long. Pure and bounded.

mod memory;
mod store;

use std::net::IpAddr;

pub use self::{
    memory::{BUSY_LEAST, Series},
    store::Store,
};

/// What a series is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Level {
    /// All traffic from one address to another.
    #[default]
    Pair,
    /// One protocol and pair of ports of such a pair.
    Flow,
}

/// Which bytes a series holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// IP packets' bytes.
    #[default]
    Ip,
    /// Frames' bytes on the wire.
    Wire,
}

/// Names a series: stable as long as the conversation goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesKey {
    /// Sender.
    pub src: IpAddr,
    /// Receiver.
    pub dst: IpAddr,
    /// Protocol and ports at level flow, `None` at level pair.
    pub transport: Option<Transport>,
}

/// Protocol and ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Transport {
    /// IP protocol number.
    pub proto: u8,
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
}

/// Settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Pair or flow.
    pub level: Level,
    /// IP bytes or wire bytes.
    pub unit: Unit,
    /// Most series remembered. Beyond it a new one replaces the lightest if it is heavier, else it is turned
    /// away and counted; see [`Store`].
    pub max_series: usize,
    /// Points kept of each series (`--anom-gv-cap`); 0 counts as 1.
    pub history: usize,
    /// A series without a byte in this many intervals is forgotten; 0 counts as 1.
    pub expire_after: u64,
}

impl Settings {
    /// What wherefore's first version did: 30 points whatever its flags said, forgotten on the 61st silent
    /// interval.
    #[must_use]
    pub fn original() -> Self {
        Self { expire_after: 61, ..Self::default() }
    }
}

/// An hour of silence at 5 s intervals, so that what calls rarely is still known when it calls again. A full
/// store of 65,536 takes some 40 MB.
impl Default for Settings {
    fn default() -> Self {
        Self { level: Level::Pair, unit: Unit::Ip, max_series: 65_536, history: 30, expire_after: 720 }
    }
}

/// What a [`Store`] holds, and what became of the rest since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counters {
    /// Series remembered now.
    pub held: u64,
    /// Series forgotten because they were silent for too long.
    pub expired: u64,
    /// Series replaced by a heavier one because the store was full.
    pub replaced: u64,
    /// Times a series had bytes in an interval but no place, because the store was full of heavier ones. One
    /// that goes on counts again in each interval.
    pub turned_away: u64,
}

/// The value below which the share `p` of `sorted` (ascending) lies, interpolated linearly between
/// neighbours; 0 for an empty slice.
#[must_use]
pub fn quantile(sorted: &[f64], p: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let position = p.clamp(0.0, 1.0) * last as f64;
    let below = position as usize;
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64)
}
