//! Which series are remembered, and for how long. Pure and bounded.

use std::net::IpAddr;

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
    /// Most series remembered; beyond it new ones are turned away and counted.
    pub max_series: usize,
    /// Points kept of each series (`--anom-gv-cap`).
    pub history: usize,
    /// A series without a byte in this many intervals is forgotten.
    pub expire_after: u64,
}

impl Settings {
    /// The original's: forgotten in the 61st silent interval.
    #[must_use]
    pub fn original() -> Self {
        Self { expire_after: 61, ..Self::default() }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { level: Level::Pair, unit: Unit::Ip, max_series: 65_536, history: 30, expire_after: 720 }
    }
}
