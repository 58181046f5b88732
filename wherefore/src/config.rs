//! Validated settings: what the command line means once every value was checked.

use std::time::Duration;

use crate::{alert, backend, detect, filter, judge, series, sink};

/// Everything `wherefore run` and `wherefore replay` need.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where counts come from.
    pub source: Source,
    /// Length of an interval.
    pub interval: Duration,
    /// Which packets count.
    pub filter: filter::CidrFilter,
    /// Which series are remembered.
    pub series: series::Settings,
    /// The detector.
    pub anomalyzer: detect::anomalyzer::Settings,
    /// When a verdict becomes a finding.
    pub thresholds: judge::Thresholds,
    /// The life cycle of alerts.
    pub alert: alert::Settings,
    /// Log files.
    pub log: sink::log::Settings,
    /// Slack, if wanted.
    pub slack: Option<sink::slack::Settings>,
    /// Exit with 10 if anything alerted.
    pub fail_on_alert: bool,
}

/// Where counts come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A live host.
    Live {
        /// Which backend.
        backend: backend::Choice,
        /// How.
        settings: backend::LiveSettings,
        /// Why these interfaces: "default route", "named", "no default route: every interface that is up".
        chosen_by: String,
    },
    /// Capture files.
    Files(backend::FileSettings),
}
