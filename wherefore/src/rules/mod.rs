//! What people know they never want: rules over the traffic of a host, beside the detectors. Pure: the time is that of
//! the snapshots.

mod check;
mod condition;
mod evaluate;
mod interval;
mod matching;
mod memory;
mod overrides;
mod traffic;
mod window;

use std::{net::IpAddr, sync::Arc, time::Duration};

pub use self::{
    check::{Fault, Part, check},
    condition::{Condition, ConditionError, Kind, LONGEST, Quantity},
    evaluate::{Counters, Rules},
    matching::{Match, PROTOCOLS, WITH_PORTS},
    memory::{MAX_DESTINATIONS, MAX_GROUPS},
    overrides::{Override, Overrides},
    traffic::Group,
};
use wherefore_common::Direction;

use crate::{
    locality::Locality,
    series::Unit,
    time::Timestamp,
    units::{format_bytes, format_duration},
};

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Names it in alerts; each once.
    pub name: Arc<str>,
    /// Which traffic it is about.
    pub wanted: Match,
    /// What is not allowed.
    pub condition: Condition,
    /// Whose traffic is measured together. A new destination is new by its address where this is [`By::All`].
    pub by: By,
    /// How grave it is.
    pub severity: Severity,
    /// New destinations: how long they are only remembered.
    pub learn: Duration,
}

/// Whose traffic is measured together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// All that the rule matches.
    #[default]
    All,
    /// Each remote network (/24, /48).
    Net,
    /// Each remote address.
    Host,
    /// Each pair of addresses, one way.
    Pair,
}

/// How grave it is where a rule is broken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Somebody should look.
    #[default]
    Warning,
    /// Somebody should look now.
    Critical,
}

impl By {
    /// `all`, `net`, `host`, `pair`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Net => "net",
            Self::Host => "host",
            Self::Pair => "pair",
        }
    }
}

impl Severity {
    /// `info`, `warning`, `critical`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// A rule that was broken, with its evidence.
#[derive(Clone, Debug, PartialEq)]
pub struct Broken {
    /// The rule.
    pub rule: Arc<Rule>,
    /// Whose traffic broke it.
    pub group: Group,
    /// What was measured.
    pub measured: Measured,
    /// The beginning of what was measured.
    pub since: Timestamp,
    /// The end of the interval in which it broke.
    pub time: Timestamp,
    /// What the interval carried of it.
    pub bytes: u64,
    /// IP or wire bytes.
    pub unit: Unit,
    /// Whether most of it came in: then it is *from* the remote end.
    pub incoming: bool,
    /// Sender of the pair that carried most of it in the interval.
    pub src: IpAddr,
    /// Its receiver.
    pub dst: IpAddr,
    /// Which end of it is this host.
    pub locality: Locality,
    /// The interface where it was counted.
    pub interface: String,
    /// Which way it crossed that.
    pub direction: Direction,
    /// Who carried most of it, the largest first, at most [`MAX_CONTRIBUTORS`]: within the window of a volume, else in
    /// the interval.
    pub contributors: Vec<Contributor>,
}

/// Most contributors named with a broken rule.
pub const MAX_CONTRIBUTORS: usize = 5;

/// What was measured where a rule broke.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Measured {
    /// So many a second, on average over the time that each interval had more than is allowed.
    Rate {
        /// Bytes or packets.
        of: Quantity,
        /// A second.
        value: f64,
        /// How long, by measured lengths.
        lasting: Duration,
    },
    /// So many within a window.
    Volume {
        /// Bytes or packets.
        of: Quantity,
        /// In the window.
        value: u64,
        /// The window, or the time since the first interval where that is shorter.
        within: Duration,
    },
    /// So many flows in the interval.
    Flows {
        /// Of the interval in which it broke.
        value: u64,
        /// How long there were more than is allowed.
        lasting: Duration,
    },
    /// So many remote ends that were not seen before.
    New {
        /// In the interval.
        count: u64,
    },
}

/// A pair of addresses and its part in what broke a rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Contributor {
    /// Sender.
    pub src: IpAddr,
    /// Receiver.
    pub dst: IpAddr,
    /// How much of what the rule measures: bytes, packets or flows.
    pub amount: u64,
    /// Its part of the whole, 0 to 1.
    pub share: f64,
}

impl Broken {
    /// One sentence: `rule "backup-only": 3.2 GB/s for 12 s to 198.51.100.0/24, allowed is 1 GB/s`.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Rule { name, condition, .. } = &*self.rule;
        let place = self.place();
        match self.measured {
            Measured::Rate { value, lasting, .. } => {
                format!(
                    "rule \"{name}\": {} for {}{place}, allowed is {}",
                    self.amount(value),
                    format_duration(lasting),
                    condition.allowed()
                )
            }
            Measured::Volume { value, within, .. } => {
                format!(
                    "rule \"{name}\": {} in {}{place}, allowed is {}",
                    self.amount(value as f64),
                    format_duration(within),
                    condition.allowed()
                )
            }
            Measured::Flows { value, lasting } => {
                format!(
                    "rule \"{name}\": {value} flows for {}{place}, allowed is {}",
                    format_duration(lasting),
                    condition.allowed()
                )
            }
            Measured::New { count: 1 } => {
                let bytes = format_bytes(self.bytes as f64);
                let from = self.contributors.first().map(|pair| {
                    if self.incoming { format!(", to {}", pair.dst) } else { format!(", from {}", pair.src) }
                });
                let from = from.filter(|_| !matches!(self.group, Group::Pair(..))).unwrap_or_default();
                format!("rule \"{name}\": new destination {}{from}, {bytes}", self.group)
            }
            Measured::New { count } => {
                format!(
                    "rule \"{name}\": {count} new destinations, {} together",
                    format_bytes(self.bytes as f64)
                )
            }
        }
    }

    /// What was measured, in whole bytes, packets, flows or destinations; of a rate, a second.
    #[must_use]
    pub const fn value(&self) -> f64 {
        match self.measured {
            Measured::Rate { value, .. } => value,
            Measured::Volume { value, .. } | Measured::Flows { value, .. } => value as f64,
            Measured::New { count } => count as f64,
        }
    }

    /// ` to 198.51.100.0/24`: whose traffic it was, or what the rule is about where that is one remote prefix.
    fn place(&self) -> String {
        let way = if self.incoming { "from" } else { "to" };
        match (self.group, &self.rule.wanted.remote[..]) {
            (Group::All, [remote]) => format!(" {way} {remote}"),
            (Group::All, _) => String::new(),
            (Group::Pair(src, dst), _) => format!(" from {src} to {dst}"),
            (group, _) => format!(" {way} {group}"),
        }
    }

    /// `3.2 GB/s`, `50 GB`, `12000 packets/s`, `12000 packets`.
    fn amount(&self, value: f64) -> String {
        match self.measured {
            Measured::Rate { of: Quantity::Bytes, .. } => format!("{}/s", format_bytes(value)),
            Measured::Rate { of: Quantity::Packets, .. } => format!("{value:.0} packets/s"),
            Measured::Volume { of: Quantity::Packets, .. } => format!("{value:.0} packets"),
            _ => format_bytes(value),
        }
    }
}

#[cfg(test)]
mod tests;
