//! The command line as it is written: names, help texts, syntax of single values. What the values mean
//! together is checked in [`super::configure`].

use std::{ffi::OsStr, fmt, path::PathBuf, time::Duration};

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, builder::BoolishValueParser};
use ipnet::IpNet;

use super::values;
use crate::{
    backend::{Choice, Hook},
    config::default,
    detect::anomalyzer::{self, Method},
    judge,
    series::{Level, Unit},
};

/// `wherefore`.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "wherefore",
    version,
    propagate_version = true,
    about = "Counts what every IP flow of a host carries, and says which one stopped behaving like itself",
    after_help = "Without a command: run. Exit codes: 0 done, 1 failure, 2 usage, 10 alerted (--fail-on-alert), \
                  66 no input, 77 no permission, 78 configuration.",
    disable_help_subcommand = false
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Watch this host and alert (the default command)
    Run(RunArgs),
    /// Run capture files through the same pipeline, on the files' own clock
    Replay(ReplayArgs),
    /// Count the flows of capture files, or of this host for a while
    Flows(FlowsArgs),
    /// List the interfaces, and which would be watched
    Interfaces(ListArgs),
    /// Check what this host offers, and how to mend what is missing
    Doctor(ListArgs),
}

impl Command {
    /// Verbosity and colour, which every command has.
    #[must_use]
    pub const fn common(&self) -> &CommonArgs {
        match self {
            Self::Run(args) => &args.common,
            Self::Replay(args) => &args.common,
            Self::Flows(args) => &args.common,
            Self::Interfaces(args) | Self::Doctor(args) => &args.common,
        }
    }
}

/// `wherefore run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Interfaces, backend, hook.
    #[command(flatten)]
    pub capture: CaptureArgs,
    /// Table size and expression.
    #[command(flatten)]
    pub counting: CountingArgs,
    /// Interval, series, detector, alerts.
    #[command(flatten)]
    pub watch: WatchArgs,
    /// Verbosity and colour.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// `wherefore replay`.
#[derive(Clone, Debug, Args)]
pub struct ReplayArgs {
    /// Captures (pcap, pcapng, either gzipped), read together in time order; - is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Table size and expression.
    #[command(flatten)]
    pub counting: CountingArgs,
    /// Interval, series, detector, alerts.
    #[command(flatten)]
    pub watch: WatchArgs,
    /// Verbosity and colour.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// `wherefore flows`.
#[derive(Clone, Debug, Args)]
pub struct FlowsArgs {
    /// Captures to count; none: this host, for the time of --for
    #[arg(value_name = "FILE", conflicts_with_all = LIVE_ONLY)]
    pub files: Vec<PathBuf>,
    /// What a row is: a flow (addresses, protocol, ports; also 5tuple) or a pair of addresses
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    pub key: Key,
    /// Split rows further
    #[arg(long, value_enum, value_name = "WHAT", help_heading = "Output")]
    pub by: Option<By>,
    /// How long to count on a live host, 100ms to 1d [default: 10s]
    #[arg(long = "for", value_name = "DURATION", value_parser = values::duration, allow_hyphen_values = true,
        help_heading = "Capture")]
    pub duration: Option<Duration>,
    /// Rows shown at most, largest first [default: 20 in a table, else all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Output")]
    pub top: Option<u32>,
    /// Form of the output
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    pub format: Format,
    /// Interfaces, backend, hook.
    #[command(flatten)]
    pub capture: CaptureArgs,
    /// Table size and expression.
    #[command(flatten)]
    pub counting: CountingArgs,
    /// Which packets count.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Verbosity and colour.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Arguments that mean nothing for a file.
const LIVE_ONLY: [&str; 8] =
    ["interfaces", "backend", "hook", "kernel_log", "snaplen", "read_timeout", "promiscuous", "duration"];

/// `wherefore interfaces` and `wherefore doctor`.
#[derive(Clone, Debug, Args)]
pub struct ListArgs {
    /// Form of the output
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    pub format: Format,
    /// Verbosity and colour.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Where packets come from on a live host.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Capture")]
pub struct CaptureArgs {
    /// Interface to watch; may be repeated [default: those with a default route]
    #[arg(short = 'i', long = "interface", value_name = "NAME")]
    pub interfaces: Vec<String>,
    /// Who counts: the kernel (ebpf), libpcap (pcap), or ebpf where it works (auto)
    #[arg(long, value_enum, default_value_t)]
    pub backend: Choice,
    /// Where the kernel programs attach [default: tc]
    #[arg(long, value_enum)]
    pub hook: Option<Hook>,
    /// Print the kernel programs' own debug messages
    #[arg(long)]
    pub kernel_log: bool,
    /// libpcap: bytes captured of each packet, 64 to 262144; lengths are counted whole
    #[arg(short = 's', long, value_name = "BYTES", default_value_t = default::SNAPLEN)]
    pub snaplen: u32,
    /// libpcap: longest wait for packets, 1ms to 1m
    #[arg(short = 'w', long, value_name = "DURATION", value_parser = values::duration,
        default_value = default::READ_TIMEOUT, allow_hyphen_values = true)]
    pub read_timeout: Duration,
    /// libpcap: count packets for other hosts too
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false,
        default_missing_value = "true", value_parser = BoolishValueParser::new(), action = ArgAction::Set)]
    pub promiscuous: bool,
}

/// What is counted, live or from files.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Capture")]
pub struct CountingArgs {
    /// Most flows of one interval, 16 to 16777216 [default: 65536; files: no limit]
    #[arg(long, value_name = "FLOWS")]
    pub table_size: Option<u32>,
    /// tcpdump expression a packet must match; needs libpcap [default: none]
    #[arg(short = 'f', long, value_name = "EXPRESSION", allow_hyphen_values = true)]
    pub expression: Option<String>,
}

/// Everything between counts and alerts.
#[derive(Clone, Debug, Args)]
pub struct WatchArgs {
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
    /// Form of alerts on standard output: text lines (table, text) or one JSON object a line (jsonl, json)
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    pub format: AlertFormat,
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
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Series")]
pub struct SeriesArgs {
    /// A series is a pair of addresses, or one flow of it (protocol, ports)
    #[arg(long, value_enum, default_value_t)]
    pub level: Level,
    /// Bytes of a series: IP packets, or whole frames as on the wire
    #[arg(long, value_enum, default_value_t)]
    pub bytes: Unit,
    /// Most series remembered, 1 to 16777216
    #[arg(long, value_name = "N", default_value_t = default::MAX_SERIES)]
    pub max_series: usize,
    /// Intervals without a byte after which a series is forgotten
    #[arg(long, value_name = "INTERVALS", default_value_t = default::EXPIRE_AFTER)]
    pub expire_after: u64,
}

/// What is unusual. Absent values come from a profile: ours, or the original's (see docs/migrating.md).
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Detection")]
pub struct DetectionArgs {
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
    #[arg(long, alias = "active-size", value_name = "N",
        help = with_default("Newest intervals judged together", ours().active_size))]
    /// Points judged together.
    pub anom_active_size: Option<usize>,
    #[arg(long, alias = "n-seasons", value_name = "N",
        help = with_default("Reference window, in active sizes; 0 means 4", ours().n_seasons))]
    /// Length of the reference window.
    pub anom_n_seasons: Option<usize>,
    #[arg(long, alias = "gv-cap", value_name = "N",
        help = with_default("Intervals remembered of each series, 1 to 10000", default::HISTORY))]
    /// Points kept of each series.
    pub anom_gv_cap: Option<usize>,
    #[arg(long, alias = "perm-count", value_name = "N",
        help = with_default("Shuffles of the permutation tests, up to 100000; 0 means 500", ours().perm_count))]
    /// Shuffles of the permutation tests.
    pub anom_perm_count: Option<usize>,
    #[arg(long, alias = "delay", value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = BoolishValueParser::new(),
        help = with_default("Be silent until reference and active window are full", ours().delay))]
    /// Wait for full windows.
    pub anom_delay: Option<bool>,
    #[arg(long, value_name = "PROBABILITY", value_parser = values::number, allow_hyphen_values = true,
        help = with_default("Alert above this probability, 0 to below 1", limits().probability))]
    /// Probability above which a finding is made.
    pub alert_threshold: Option<f64>,
    #[arg(long, value_name = "SIZE", value_parser = values::size, allow_hyphen_values = true,
        help = with_default("Never alert on less than this in an interval (200kB, 1MiB)", limits().min_bytes))]
    /// Smallest volume that may alert.
    pub min_bytes: Option<u64>,
    #[arg(long, value_name = "INTERVALS",
        help = with_default("Intervals a series needs before it may alert, the judged one included", limits().min_history))]
    /// Points needed before a series may alert.
    pub min_history: Option<usize>,
    #[arg(long, value_name = "FACTOR", value_parser = values::number, allow_hyphen_values = true,
        help = with_default("Never alert below this many times the series' median; 0: no such demand", limits().min_factor))]
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
    let names: Vec<_> = methods.iter().filter_map(|m| m.to_possible_value()).collect();
    names.iter().map(clap::builder::PossibleValue::get_name).collect::<Vec<_>>().join(",")
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
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Alerts")]
pub struct AlertArgs {
    /// A series that keeps alerting is told once in this time, 0s to 365d
    #[arg(long, value_name = "DURATION", value_parser = values::duration, default_value = default::COOLDOWN,
        allow_hyphen_values = true)]
    pub cooldown: Duration,
    /// Directory of wherefore.log and wherefore_anomalies.log, made if missing [default: no log files]
    #[arg(short = 'l', long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,
    /// A log file larger than this is renamed to NAME.1, 4kB to 1TB
    #[arg(long, value_name = "SIZE", value_parser = values::size, default_value = default::LOG_MAX_SIZE,
        allow_hyphen_values = true)]
    pub log_max_size: u64,
    /// Accepted for the original's sake: made if missing, nothing is stored there yet.
    #[arg(long, value_name = "DIR", hide = true)]
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

/// Verbosity and colour.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Output")]
pub struct CommonArgs {
    /// Say more: level debug
    #[arg(short = 'v', long, conflicts_with = "quiet")]
    pub verbose: bool,
    /// Say less: level warn; twice: error
    #[arg(short = 'q', long, action = ArgAction::Count)]
    pub quiet: u8,
    /// What is logged [default: info]
    #[arg(long, value_enum, ignore_case = true, conflicts_with_all = ["verbose", "quiet"])]
    pub loglevel: Option<LogLevel>,
    /// Colours on a terminal; auto: yes, unless NO_COLOR is set
    #[arg(long, value_enum, default_value_t)]
    pub color: Color,
}

impl CommonArgs {
    /// The level that -v, -q and --loglevel come to.
    #[must_use]
    pub fn level(&self) -> LogLevel {
        match (self.loglevel, self.verbose, self.quiet) {
            (Some(level), ..) => level,
            (None, true, _) => LogLevel::Debug,
            (None, false, 0) => LogLevel::Info,
            (None, false, 1) => LogLevel::Warn,
            (None, false, _) => LogLevel::Error,
        }
    }

    /// Whether to colour: `no_color` is the variable `NO_COLOR` (no-color.org: any text but the empty one
    /// says no), `terminal` whether the output is one.
    #[must_use]
    pub fn colored(&self, no_color: Option<&OsStr>, terminal: bool) -> bool {
        match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && no_color.is_none_or(OsStr::is_empty),
        }
    }
}

/// What is logged: this and what is graver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// What happens.
    #[default]
    Info,
    /// What may need somebody.
    #[value(alias = "warning")]
    Warn,
    /// What failed.
    Error,
}

impl LogLevel {
    /// The level for `tracing`.
    #[must_use]
    pub const fn tracing(self) -> tracing::Level {
        match self {
            Self::Debug => tracing::Level::DEBUG,
            Self::Info => tracing::Level::INFO,
            Self::Warn => tracing::Level::WARN,
            Self::Error => tracing::Level::ERROR,
        }
    }
}

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Also in a pipe.
    Always,
    /// Not at all.
    Never,
}

/// Form of lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON object.
    Json,
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated values with a heading (RFC 4180).
    Csv,
}

/// Form of alerts on standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum AlertFormat {
    /// For people; the live table where standard output is a terminal.
    #[default]
    #[value(alias = "text")]
    Table,
    /// One JSON object a line.
    #[value(alias = "json")]
    Jsonl,
}

/// What a row of `flows` stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Key {
    /// Addresses, protocol and ports.
    #[default]
    #[value(alias = "5tuple")]
    Flow,
    /// Addresses only.
    Pair,
}

/// What splits the rows of `flows`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// A row for each interface.
    Interface,
}
