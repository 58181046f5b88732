//! The arguments of `run` and `replay` between counts and alerts.

use std::{fmt, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum, builder::BoolishValueParser};
use ipnet::IpNet;

use super::values;
use crate::{
    config::default,
    detect::{
        Name,
        anomalyzer::{self, Method, ORIGINAL_THRESHOLD},
    },
    judge,
    render::Format,
    series::{self, Level, Unit},
};

/// Everything between counts and alerts.
#[derive(Clone, Debug, Args)]
pub struct WatchArgs {
    /// Settings and rules of this file; flags win [default: /etc/wherefore/wherefore.toml, if there is one]
    #[arg(long, value_name = "FILE", help_heading = "Configuration")]
    pub config: Option<PathBuf>,
    /// Length of an interval, 100ms to 1d
    #[arg(long, alias = "transfer-interval", value_name = "DURATION", value_parser = values::duration,
        default_value = default::INTERVAL, allow_hyphen_values = true, help_heading = "Capture")]
    pub interval: Duration,
    /// Which packets count.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Which series are remembered.
    #[command(flatten)]
    pub series: SeriesArgs,
    /// What is unusual.
    #[command(flatten)]
    pub detection: DetectionArgs,
    /// Who is told.
    #[command(flatten)]
    pub alerts: AlertArgs,
    /// Form of alerts on standard output: text (table), an object a line (json, jsonl), or csv
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    pub format: Format,
}

/// Which addresses count.
#[derive(Clone, Debug, Default, Args)]
#[command(
    next_help_heading = "Filters (CIDR prefixes or addresses; repeat or separate by commas; excluded beats included)"
)]
pub struct FilterArgs {
    /// Count only what comes from or goes to these
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = values::prefix)]
    pub include: Vec<IpNet>,
    /// Do not count what comes from or goes to these
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = values::prefix)]
    pub exclude: Vec<IpNet>,
    /// Count only what comes from these
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = values::prefix)]
    pub include_src: Vec<IpNet>,
    /// Count only what goes to these
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = values::prefix)]
    pub include_dst: Vec<IpNet>,
    /// Do not count what comes from these
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = values::prefix)]
    pub exclude_src: Vec<IpNet>,
    /// Do not count what goes to these
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = values::prefix)]
    pub exclude_dst: Vec<IpNet>,
}

/// Which series are remembered.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Series")]
pub struct SeriesArgs {
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LIST",
        help = with_default("How closely traffic is looked at, comma separated", "pair,net,interface; the Anomalyzer: pair"))]
    /// The levels in use.
    pub level: Option<Vec<Level>>,
    /// Bytes of a series: IP packets, or whole frames as on the wire
    #[arg(long, value_enum, default_value_t)]
    pub bytes: Unit,
    #[arg(long, value_name = "N", value_parser = values::whole::<usize>, allow_hyphen_values = true,
        help = with_default("Most flows, and most pairs, remembered, 1 to 16777216", series::Settings::default().max_series))]
    /// Most series remembered.
    pub max_series: Option<usize>,
    #[arg(long, value_name = "INTERVALS", value_parser = values::whole::<u64>, allow_hyphen_values = true,
        help = with_default("Silent intervals after which a series is forgotten",
            format_args!("{}; those of 3 days", series::Settings::default().expire_after)))]
    /// Life of a silent series.
    pub expire_after: Option<u64>,
}

/// Which detector, and its settings. Absent ones come from a profile: ours, or the original's (see
/// docs/migrating.md).
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Detection")]
pub struct DetectorArgs {
    #[arg(long, value_enum, value_name = "NAME",
        help = with_default("What tells an unusual value",
            named(&Name::default())))]
    /// The detector.
    pub detector: Option<Name>,
    #[arg(long, value_name = "N", value_parser = values::number, allow_hyphen_values = true,
        help = with_default("False alerts a day that are bearable; no matter to the Anomalyzer", default::ALERTS_PER_DAY))]
    /// The budget that thresholds follow from.
    pub alerts_per_day: Option<f64>,
    #[arg(long, alias = "methods", value_name = "LIST", value_parser = values::method, value_delimiter = ',',
        help = with_default("Tests, comma separated: magnitude, diff, highrank, lowrank, fence, ks, cdf", names(&ours().methods)))]
    /// Tests to combine.
    pub anom_methods: Option<Vec<Method>>,
    #[arg(long, alias = "sensitivity", value_name = "NUMBER", value_parser = values::number,
        allow_hyphen_values = true,
        help = with_default("With magnitude: a smaller relative change is never unusual; any number, 0 means 0.1", ours().sensitivity))]
    /// Gate of the magnitude test.
    pub anom_sensitivity: Option<f64>,
    #[arg(long, alias = "upper-bound", value_name = "BYTES", value_parser = values::number,
        allow_hyphen_values = true,
        help = with_default("With fence: upper bound, in bytes per interval", ours().upper_bound))]
    /// Upper bound of the fence.
    pub anom_upper_bound: Option<f64>,
    #[arg(long, alias = "lower-bound", value_name = "BYTES", value_parser = values::bound,
        allow_hyphen_values = true,
        help = with_default("With fence: lower bound, in bytes per interval, or none", "none"))]
    /// Lower bound of the fence.
    pub anom_lower_bound: Option<Bound>,
    #[arg(long, alias = "active-size", value_name = "N", value_parser = values::whole::<usize>,
        allow_hyphen_values = true,
        help = with_default("Newest intervals judged together", ours().active_size))]
    /// Points judged together.
    pub anom_active_size: Option<usize>,
    #[arg(long, alias = "n-seasons", value_name = "N", value_parser = values::whole::<usize>,
        allow_hyphen_values = true,
        help = with_default("Reference window, in active sizes; 0 means 4", ours().n_seasons))]
    /// Length of the reference window.
    pub anom_n_seasons: Option<usize>,
    #[arg(long, alias = "gv-cap", value_name = "N", value_parser = values::whole::<usize>,
        allow_hyphen_values = true,
        help = with_default("Intervals remembered of each series, 1 to 10000",
            format_args!("{}; score: all", series::Settings::default().history)))]
    /// Points kept of each series.
    pub anom_gv_cap: Option<usize>,
    #[arg(long, alias = "perm-count", value_name = "N", value_parser = values::whole::<usize>,
        allow_hyphen_values = true,
        help = with_default("Where a test is not exact, as precise as this many shuffles, up to 1000000; 0 means 500", ours().perm_count))]
    /// Precision of the permutation tests, in shuffles.
    pub anom_perm_count: Option<usize>,
    #[arg(long, alias = "delay", value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = BoolishValueParser::new(),
        help = with_default("Be silent until reference and active window are full", ours().delay))]
    /// Wait for full windows.
    pub anom_delay: Option<bool>,
    #[arg(long, value_name = "PROBABILITY", value_parser = values::number, allow_hyphen_values = true,
        help = with_default("The Anomalyzer alerts above this probability, 0 to below 1",
            format_args!("{}; score: {ORIGINAL_THRESHOLD}", limits().probability)))]
    /// Probability above which a finding is made.
    pub alert_threshold: Option<f64>,
}

impl DetectorArgs {
    /// A flag that was given and that only the Anomalyzer has.
    #[must_use]
    pub fn of_anomalyzer(&self) -> Option<&'static str> {
        [
            ("--anom-methods", self.anom_methods.is_some()),
            ("--anom-sensitivity", self.anom_sensitivity.is_some()),
            ("--anom-upper-bound", self.anom_upper_bound.is_some()),
            ("--anom-lower-bound", self.anom_lower_bound.is_some()),
            ("--anom-active-size", self.anom_active_size.is_some()),
            ("--anom-n-seasons", self.anom_n_seasons.is_some()),
            ("--anom-gv-cap", self.anom_gv_cap.is_some()),
            ("--anom-perm-count", self.anom_perm_count.is_some()),
            ("--anom-delay", self.anom_delay.is_some()),
            ("--alert-threshold", self.alert_threshold.is_some()),
        ]
        .into_iter()
        .find_map(|(flag, given)| given.then_some(flag))
    }
}

/// What is unusual, and what is worth an alert of it.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Detection")]
pub struct DetectionArgs {
    /// Which detector.
    #[command(flatten)]
    pub detector: DetectorArgs,
    #[arg(long, value_name = "SIZE", value_parser = values::size, allow_hyphen_values = true,
        help = with_default("Never alert on less than this in an interval (200kB, 1MiB)", limits().min_bytes))]
    /// Smallest volume that may alert.
    pub min_bytes: Option<u64>,
    #[arg(long, value_name = "INTERVALS", value_parser = values::whole::<usize>, allow_hyphen_values = true,
        help = with_default("Intervals a series needs before it may alert, the judged one included", limits().min_history))]
    /// Points needed before a series may alert.
    pub min_history: Option<usize>,
    #[arg(long, value_name = "FACTOR", value_parser = values::number, allow_hyphen_values = true,
        help = with_default("Never alert below this many times what the series carries when busy; 0: no such demand", limits().min_factor))]
    /// Smallest multiple of the median that may alert.
    pub min_factor: Option<f64>,
}

/// Help with a default that is computed, so that it is always the true one.
fn with_default(text: &str, default: impl fmt::Display) -> String {
    format!("{text} [default: {default}]")
}

fn ours() -> anomalyzer::Settings {
    anomalyzer::Settings::default()
}

fn limits() -> judge::Thresholds {
    judge::Thresholds::default()
}

/// The names of methods as they are given.
fn names(methods: &[Method]) -> String {
    methods.iter().map(named).collect::<Vec<_>>().join(",")
}

/// A value's name as it is given.
pub fn named(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// A lower bound of the fence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// `none`, or 5e-324, the original's way to say so.
    None,
    /// Bytes per interval.
    At(f64),
}

/// Who is told, and how often.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Alerts")]
pub struct AlertArgs {
    /// A series that keeps alerting is told once in this time, 0s to 365d
    #[arg(long, value_name = "DURATION", value_parser = values::duration, default_value = default::COOLDOWN,
        allow_hyphen_values = true)]
    pub cooldown: Duration,
    /// Directory of wherefore.log and wherefore_anomalies.log, made if missing [default: no log files]
    #[arg(short = 'l', long, value_name = "DIR", value_parser = values::directory())]
    pub log_dir: Option<PathBuf>,
    /// A log file larger than this is renamed to NAME.1, 4kB to 1TB
    #[arg(long, value_name = "SIZE", value_parser = values::size, default_value = default::LOG_MAX_SIZE,
        allow_hyphen_values = true)]
    pub log_max_size: u64,
    /// Accepted for the original's sake: made if missing, nothing is stored there yet.
    #[arg(long, value_name = "DIR", value_parser = values::directory(), hide = true)]
    pub archive_dir: Option<PathBuf>,
    /// Slack webhook; a secret, so better by the environment or --slack-url-file
    #[arg(long, value_name = "URL", env = "WHEREFORE_SLACK_URL", hide_env_values = true)]
    pub slack_url: Option<Secret>,
    /// File that holds the Slack webhook
    #[arg(long, value_name = "FILE")]
    pub slack_url_file: Option<PathBuf>,
    /// Slack channel, for webhooks that let one choose
    #[arg(long, value_name = "CHANNEL")]
    pub slack_channel: Option<String>,
    /// Slack emoji, likewise
    #[arg(long, value_name = "EMOJI")]
    pub slack_emoji: Option<String>,
    /// Slack icon's URL, likewise
    #[arg(long, value_name = "URL")]
    pub slack_icon: Option<String>,
    /// Exit with 10 if anything alerted
    #[arg(long)]
    pub fail_on_alert: bool,
}

/// What outlasts the agent.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Learning")]
pub struct StateArgs {
    /// Directory in which what was learned outlasts the agent, made if missing [default: $STATE_DIRECTORY, else
    /// /var/lib/wherefore]
    #[arg(long, value_name = "DIR", value_parser = values::directory())]
    pub state_dir: Option<PathBuf>,
    /// Keep nothing of what is learned, and begin anew
    #[arg(long, conflicts_with = "state_dir")]
    pub no_state: bool,
    /// Score and learn, but tell nobody; the closing figures say how often it would have alerted
    #[arg(long)]
    pub learn: bool,
}

/// Text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<hidden>")
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}
