//! The command line as it is written: names, help texts, syntax of single values. What the values mean
//! together is checked in [`super::configure`].

use std::{ffi::OsStr, path::PathBuf, time::Duration};

use clap::{
    ArgAction, Args, Parser, Subcommand, ValueEnum,
    builder::{BoolishValueParser, Resettable},
};

use super::values;
pub use super::watch_args::{
    AlertArgs, Bound, DetectionArgs, DetectorArgs, FilterArgs, Secret, SeriesArgs, StateArgs, WatchArgs,
};
use crate::{
    backend::{
        Choice, Hook,
        interfaces::{Pattern, Request},
    },
    config::default,
    render::{Format, KeyKind, scores::Format as ScoresFormat},
};

/// `wherefore`.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "wherefore",
    version,
    propagate_version = true,
    args_override_self = true,
    override_usage = "wherefore [COMMAND] [OPTIONS]",
    about = "Counts what every IP flow of a host carries, and says which one stopped behaving like itself",
    after_help = "Without a command: run. Exit codes: 0 done, 1 failure, 2 usage, 10 alerted (--fail-on-alert), \
                  66 no input, 77 no permission, 78 configuration."
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
    /// Tell how unusual each value of a series is, and where it would alert
    Score(ScoreArgs),
    /// Propose settings for a wanted number of alerts a day, by what they would have alerted on
    Tune(TuneArgs),
    /// List the interfaces, and which would be watched
    Interfaces(InterfacesArgs),
    /// Check what this host offers, and how to mend what is missing
    Doctor(ListArgs),
    /// Send known traffic in a network namespace of its own, and check that every backend and hook counts it right
    Selftest(ListArgs),
    /// Check a configuration file: everything that is wrong with it, else what is in effect
    CheckConfig(CheckConfigArgs),
}

impl Command {
    /// Verbosity and colour, which every command has.
    #[must_use]
    pub const fn common(&self) -> &CommonArgs {
        match self {
            Self::Run(args) => &args.common,
            Self::Replay(args) => &args.common,
            Self::Flows(args) => &args.common,
            Self::Score(args) => &args.common,
            Self::Tune(args) => &args.common,
            Self::Interfaces(args) => &args.list.common,
            Self::Doctor(args) | Self::Selftest(args) => &args.common,
            Self::CheckConfig(args) => &args.common,
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
    /// What outlasts the agent.
    #[command(flatten)]
    pub state: StateArgs,
    /// Verbosity and colour.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// `wherefore replay`. An exported webhook is for what happens now: nobody is to be woken by a capture of last year
/// unless this very command line says so.
#[derive(Clone, Debug, Args)]
#[command(mut_arg("slack_url", |arg| arg.env(Resettable::Reset)))]
pub struct ReplayArgs {
    /// Captures (pcap, pcapng, either gzipped), read together in time order; - is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// With alerts as text: what each part of the verdict said, and what it would have taken to be no alert
    #[arg(long, help_heading = "Output")]
    pub explain: bool,
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
    pub key: KeyKind,
    /// Split rows further
    #[arg(long, value_enum, value_name = "WHAT", help_heading = "Output")]
    pub by: Option<By>,
    /// How long to count on a live host, 100ms to 1d [default: 10s]
    #[arg(long = "for", value_name = "DURATION", value_parser = values::duration, allow_hyphen_values = true,
        help_heading = "Capture")]
    pub duration: Option<Duration>,
    /// Rows shown at most, largest first [default: 20 in a table, else all]
    #[arg(long, value_name = "N", value_parser = values::positive, allow_hyphen_values = true,
        help_heading = "Output")]
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

/// `wherefore score`.
#[derive(Clone, Debug, Args)]
pub struct ScoreArgs {
    /// Series as CSV, also gzipped: a header line, then rows of timestamp,value; - is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Which detector.
    #[command(flatten)]
    pub detector: DetectorArgs,
    /// Form of the output: csv, an array (json), or an object a line (jsonl)
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    pub format: ScoresFormat,
    /// Verbosity and colour.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// `wherefore tune`.
#[derive(Clone, Debug, Args)]
pub struct TuneArgs {
    /// Captures, read together as by replay, or series, each by itself as by score
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Captures: length of an interval, 100ms to 1d
    #[arg(long, alias = "transfer-interval", value_name = "DURATION", value_parser = values::duration,
        default_value = default::INTERVAL, allow_hyphen_values = true, help_heading = "Capture")]
    pub interval: Duration,
    /// Table size and expression.
    #[command(flatten)]
    pub counting: CountingArgs,
    /// Which packets count.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Which series are remembered.
    #[command(flatten)]
    pub series: SeriesArgs,
    /// What is unusual.
    #[command(flatten)]
    pub detection: DetectionArgs,
    /// Verbosity and colour.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Arguments that mean nothing for a file.
const LIVE_ONLY: [&str; 12] = [
    "interfaces",
    "exclude_interfaces",
    "stacked",
    "backend",
    "hook",
    "force_xdp",
    "kernel_log",
    "min_coverage",
    "snaplen",
    "read_timeout",
    "promiscuous",
    "duration",
];

/// `wherefore interfaces`.
#[derive(Clone, Debug, Args)]
pub struct InterfacesArgs {
    /// Those to watch.
    #[command(flatten)]
    pub request: RequestArgs,
    /// Form of the output, verbosity and colour.
    #[command(flatten)]
    pub list: ListArgs,
}

/// `wherefore doctor` and `wherefore selftest`.
#[derive(Clone, Debug, Args)]
pub struct ListArgs {
    /// Form of the output
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    pub format: Format,
    /// Verbosity and colour.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// `wherefore check-config`.
#[derive(Clone, Debug, Args)]
pub struct CheckConfigArgs {
    /// The file [default: /etc/wherefore/wherefore.toml]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Print the JSON Schema of the file instead
    #[arg(long, conflicts_with_all = ["file", "default"], help_heading = "Output")]
    pub schema: bool,
    /// Print a file with every key, its meaning and its default instead
    #[arg(long, conflicts_with = "file", help_heading = "Output")]
    pub default: bool,
    /// Verbosity and colour.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Which interfaces are watched.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Capture")]
pub struct RequestArgs {
    /// Interface to watch, or a glob ('veth*'); repeat or separate by commas [default: those with a default route]
    #[arg(short = 'i', long = "interface", value_name = "NAME", value_delimiter = ',')]
    pub interfaces: Vec<Pattern>,
    /// Interface never to watch, or a glob; likewise
    #[arg(long = "exclude-interface", value_name = "NAME", value_delimiter = ',')]
    pub exclude_interfaces: Vec<Pattern>,
    /// Watch also those whose packets another watched interface counts (ports, VLANs, tunnels)
    #[arg(long)]
    pub stacked: bool,
}

impl From<&RequestArgs> for Request {
    fn from(args: &RequestArgs) -> Self {
        Self {
            include: args.interfaces.clone(),
            exclude: args.exclude_interfaces.clone(),
            stacked: args.stacked,
        }
    }
}

/// Where packets come from on a live host.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Capture")]
pub struct CaptureArgs {
    /// Which interfaces.
    #[command(flatten)]
    pub request: RequestArgs,
    /// Who counts: the kernel (ebpf), libpcap (pcap), or ebpf where it works (auto)
    #[arg(long, value_enum, default_value_t)]
    pub backend: Choice,
    /// Where the kernel programs attach [default: tc]
    #[arg(long, value_enum)]
    pub hook: Option<Hook>,
    /// With --hook xdp: attach also where that changes the device's offloads or queues
    #[arg(long, alias = "force")]
    pub force_xdp: bool,
    /// Print the kernel programs' own debug messages
    #[arg(long)]
    pub kernel_log: bool,
    /// Warn where less than this part of what a device counts is counted; 0: only where nothing is
    #[arg(long, value_name = "PART", default_value_t = default::MIN_COVERAGE, value_parser = values::number,
        allow_hyphen_values = true)]
    pub min_coverage: f64,
    /// libpcap: bytes captured of each packet, 64 to 262144; lengths are counted whole
    #[arg(short = 's', long, value_name = "BYTES", default_value_t = default::SNAPLEN,
        value_parser = values::whole::<u32>, allow_hyphen_values = true)]
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
    #[arg(long, value_name = "FLOWS", value_parser = values::whole::<u32>, allow_hyphen_values = true)]
    pub table_size: Option<u32>,
    /// tcpdump expression a packet must match [default: none]
    #[arg(short = 'f', long, value_name = "EXPRESSION", allow_hyphen_values = true)]
    pub expression: Option<String>,
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

/// What splits the rows of `flows`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// A row for each interface.
    Interface,
}
