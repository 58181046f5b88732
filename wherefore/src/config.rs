//! Validated settings: what the command line means once every value was checked.

pub mod file;

use std::{path::PathBuf, time::Duration};

use crate::{
    alert, backend,
    detect::{self, anomalyzer::SettingsError},
    judge,
    rules::{Override, Rule},
    series, sink, state,
};

/// Everything `wherefore run` and `wherefore replay` need.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where counts come from.
    pub source: Source,
    /// Length of an interval.
    pub interval: Duration,
    /// Which series are remembered.
    pub series: series::Settings,
    /// The detector.
    pub detector: detect::Settings,
    /// False alerts a day that are bearable, from which a detector's threshold follows.
    pub alerts_per_day: f64,
    /// When a verdict becomes a finding.
    pub thresholds: judge::Thresholds,
    /// What is never wanted, of the configuration file.
    pub rules: Vec<Rule>,
    /// What is judged in another way, likewise.
    pub overrides: Vec<Override>,
    /// The life cycle of alerts.
    pub alert: alert::Settings,
    /// Log files.
    pub log: sink::log::Settings,
    /// Directory to make at start and leave empty: packets of alerts are not stored yet.
    pub archive_dir: Option<PathBuf>,
    /// Slack, if wanted.
    pub slack: Option<sink::slack::Settings>,
    /// Exit with 10 if anything alerted.
    pub fail_on_alert: bool,
    /// Where what was learned outlasts the agent.
    pub state: state::Place,
    /// Score and learn, but tell nobody.
    pub learn: bool,
    /// What was decided or has no effect, one sentence each; to be logged at start.
    pub notes: Vec<String>,
}

/// Where counts come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A live host.
    Live {
        /// Which backend. `Auto` only where either can do what was asked for.
        backend: backend::Choice,
        /// Why that one: "--backend pcap", …
        backend_why: String,
        /// How.
        settings: backend::LiveSettings,
    },
    /// Capture files.
    Files(backend::FileSettings),
}

/// Everything `wherefore flows` needs.
#[derive(Clone, Debug)]
pub struct FlowsConfig {
    /// Where counts come from. Files are one interval.
    pub source: Source,
    /// How long a live host is counted.
    pub duration: Duration,
    /// What was decided or has no effect, one sentence each; to be logged at start.
    pub notes: Vec<String>,
}

/// Defaults that no other room holds, as the command line shows them.
pub mod default {
    /// Length of an interval.
    pub const INTERVAL: &str = "5s";
    /// False alerts a day.
    pub const ALERTS_PER_DAY: f64 = 0.15;
    /// How long `flows` counts a live host.
    pub const FLOWS_DURATION: std::time::Duration = std::time::Duration::from_secs(10);
    /// Flows of one interval on a live host.
    pub const TABLE_SIZE: u32 = 65_536;
    /// Part of what a device counts that must be counted here. Frames for the device alone (pause frames, LLDP that
    /// its firmware answers) and counters that come late make up a few per cent at most.
    pub const MIN_COVERAGE: f64 = 0.95;
    /// Bytes libpcap captures of a packet: enough for tags, extension headers and ports.
    pub const SNAPLEN: u32 = 512;
    /// libpcap's read timeout. Packets may wait that long in libpcap's buffer, so it is well below an interval.
    pub const READ_TIMEOUT: &str = "100ms";
    /// A key is told once per this time.
    pub const COOLDOWN: &str = "10m";
    /// Keys whose cooldown is remembered.
    pub const MAX_KEYS: usize = 20_000;
    /// Size of a log file.
    pub const LOG_MAX_SIZE: &str = "20MB";
}

/// Exit codes.
pub mod exit {
    use crate::backend::Error;

    /// Done.
    pub const OK: u8 = 0;
    /// Something failed while running.
    pub const FAILURE: u8 = 1;
    /// The command line is not understood, or a value is not allowed.
    pub const USAGE: u8 = 2;
    /// Something alerted, and `--fail-on-alert` was given.
    pub const ALERTED: u8 = 10;
    /// An input file cannot be opened (sysexits' `EX_NOINPUT`).
    pub const NO_INPUT: u8 = 66;
    /// Privileges are missing (sysexits' `EX_NOPERM`).
    pub const NO_PERMISSION: u8 = 77;
    /// Values that are allowed alone contradict each other, or a file named for settings cannot be used
    /// (sysexits' `EX_CONFIG`).
    pub const CONFIG: u8 = 78;

    /// The code that tells why a backend did not start or go on.
    #[must_use]
    pub const fn of_backend(error: &Error) -> u8 {
        match error {
            Error::Permission(_) => NO_PERMISSION,
            Error::NoInput { .. } => NO_INPUT,
            Error::NoInterface { .. } | Error::Expression { .. } => USAGE,
            Error::ExpressionForLibpcap { .. } | Error::XdpChanges { .. } => CONFIG,
            Error::BrokenFile { .. } | Error::NotOffered { .. } | Error::System { .. } => FAILURE,
        }
    }
}

/// Why settings are not usable.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// A value outside its range.
    #[error("{flag} {given}: allowed is {allowed}")]
    Value {
        /// The flag.
        flag: &'static str,
        /// Its value; left out where it is a secret.
        given: String,
        /// What is allowed.
        allowed: String,
    },
    /// The detector refuses its settings.
    #[error(transparent)]
    Detection(#[from] SettingsError),
    /// Values that cannot be had together.
    #[error("{what}: {remedy}")]
    Contradiction {
        /// Which, and why not.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// A file named for settings cannot be used.
    #[error("{flag} {}: {reason}", path.display())]
    File {
        /// The flag that named it.
        flag: &'static str,
        /// Which.
        path: PathBuf,
        /// Why not, and what to do.
        reason: String,
    },
}

impl ConfigError {
    /// [`exit::USAGE`] for a single bad value, else [`exit::CONFIG`].
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Detection(
                SettingsError::Reference { .. }
                | SettingsError::FenceEqual { .. }
                | SettingsError::FenceInverted { .. },
            ) => exit::CONFIG,
            Self::Value { .. } | Self::Detection(_) => exit::USAGE,
            Self::Contradiction { .. } | Self::File { .. } => exit::CONFIG,
        }
    }
}
