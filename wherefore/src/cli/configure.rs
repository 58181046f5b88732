//! From arguments to validated settings. Everything is checked before anything is attached. Pure but for
//! the file reader handed in.

use std::{
    fmt::Display,
    io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use super::args::{
    AlertArgs, CaptureArgs, CountingArgs, FilterArgs, FlowsArgs, ReplayArgs, RunArgs, SeriesArgs, TuneArgs,
    WatchArgs,
};
use super::detection;
use crate::{
    alert,
    backend::{Choice, FileSettings, Hook, LiveSettings},
    config::{Config, ConfigError, FlowsConfig, Source, default},
    filter::{CidrFilter, Prefixes},
    render::Format,
    series,
    sink::{log, slack},
    state,
    units::{format_duration, parse_duration},
};

/// How [`Config::run`] gets at the file of `--slack-url-file`; `&|p| std::fs::read_to_string(p)` outside tests.
pub type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<String>;

impl Config {
    /// The settings of `wherefore run`. `original`: the original's spelling of the `-anom_` flags was used,
    /// so its defaults hold.
    ///
    /// # Errors
    /// A value out of range, values that contradict each other, an unusable `--slack-url-file`.
    pub fn run(args: &RunArgs, original: bool, read: ReadFile) -> Result<Self, ConfigError> {
        let mut notes = Vec::new();
        let source = live(&args.capture, &args.counting, &args.watch.filter, &mut notes)?;
        let state = match not_empty(&args.state.state_dir) {
            _ if args.state.no_state => state::Place::Nowhere,
            Some(dir) => state::Place::Named(dir),
            None => state::Place::Usual,
        };
        let config = watch(&args.watch, source, original, read, notes)?;
        Ok(Self { state, learn: args.state.learn, ..config })
    }

    /// The settings of `wherefore replay`.
    ///
    /// # Errors
    /// As [`Config::run`].
    pub fn replay(args: &ReplayArgs, original: bool, read: ReadFile) -> Result<Self, ConfigError> {
        let source = Source::Files(FileSettings {
            files: args.files.clone(),
            interval: Some(args.watch.interval),
            table_size: table_size(args.counting.table_size)?,
            expression: expression(&args.counting),
            filter: filter(&args.watch.filter),
        });
        watch(&args.watch, source, original, read, Vec::new())
    }
}

impl Config {
    /// The settings with which `wherefore tune` replays captures: those of `replay`, telling nobody.
    ///
    /// # Errors
    /// As [`Config::run`].
    pub fn tune(args: &TuneArgs, original: bool) -> Result<Self, ConfigError> {
        let watch = WatchArgs {
            config: None,
            interval: args.interval,
            filter: args.filter.clone(),
            series: args.series.clone(),
            detection: args.detection.clone(),
            alerts: AlertArgs {
                cooldown: parse_duration(default::COOLDOWN).unwrap_or_default(),
                log_max_size: *LOG_SIZES.start(),
                ..AlertArgs::default()
            },
            format: Format::default(),
        };
        let replay = ReplayArgs {
            files: args.files.clone(),
            explain: false,
            counting: args.counting.clone(),
            watch,
            common: args.common.clone(),
        };
        Self::replay(&replay, original, &|_| Err(io::ErrorKind::NotFound.into()))
    }
}

impl FlowsConfig {
    /// The settings of `wherefore flows`.
    ///
    /// # Errors
    /// A value out of range, or values that contradict each other.
    pub fn flows(args: &FlowsArgs) -> Result<Self, ConfigError> {
        let mut notes = Vec::new();
        let source = if args.files.is_empty() {
            live(&args.capture, &args.counting, &args.filter, &mut notes)?
        } else {
            Source::Files(FileSettings {
                files: args.files.clone(),
                interval: None,
                table_size: table_size(args.counting.table_size)?,
                expression: expression(&args.counting),
                filter: filter(&args.filter),
            })
        };
        let duration = within_time("--for", args.duration.unwrap_or(default::FLOWS_DURATION), INTERVALS)?;
        Ok(Self { source, duration, notes })
    }
}

const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(86_400);
const READ_TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);
const COOLDOWNS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(365 * 86_400);
const TABLE_SIZES: RangeInclusive<u32> = 16..=16_777_216;
const COVERAGES: RangeInclusive<f64> = 0.0..=1.0;
const SNAPLENS: RangeInclusive<u32> = 64..=262_144;
const MAX_SERIES: RangeInclusive<usize> = 1..=16_777_216;
const LOG_SIZES: RangeInclusive<u64> = 4_000..=1_000_000_000_000;

/// `value`, if it lies in `range`.
pub(super) fn within<T: PartialOrd + Display>(
    flag: &'static str,
    value: T,
    range: &RangeInclusive<T>,
) -> Result<T, ConfigError> {
    if range.contains(&value) {
        return Ok(value);
    }
    let allowed = format!("{} to {}", range.start(), range.end());
    Err(ConfigError::Value { flag, given: value.to_string(), allowed })
}

fn within_time(
    flag: &'static str,
    value: Duration,
    range: RangeInclusive<Duration>,
) -> Result<Duration, ConfigError> {
    if range.contains(&value) {
        return Ok(value);
    }
    // Nothing is nothing in any unit; of nanoseconds nobody spoke.
    let shown = |value: Duration| if value.is_zero() { "0 s".to_owned() } else { format_duration(value) };
    let allowed = format!("{} to {}", shown(*range.start()), shown(*range.end()));
    Err(ConfigError::Value { flag, given: shown(value), allowed })
}

fn log_size(value: u64) -> Result<u64, ConfigError> {
    if LOG_SIZES.contains(&value) {
        return Ok(value);
    }
    Err(ConfigError::Value {
        flag: "--log-max-size",
        given: format!("{value} bytes"),
        allowed: "4 kB to 1 TB".to_owned(),
    })
}

fn table_size(given: Option<u32>) -> Result<Option<u32>, ConfigError> {
    given.map(|size| within("--table-size", size, &TABLE_SIZES)).transpose()
}

/// The expression; an empty one matches everything, as for tcpdump.
fn expression(args: &CountingArgs) -> Option<String> {
    args.expression.clone().filter(|text| !text.trim().is_empty())
}

fn live(
    args: &CaptureArgs,
    counting: &CountingArgs,
    wanted: &FilterArgs,
    notes: &mut Vec<String>,
) -> Result<Source, ConfigError> {
    let expression = expression(counting);
    let (backend, backend_why) = backend(args)?;
    if backend == Choice::Ebpf && args.promiscuous {
        notes.push(
            "--promiscuous has no effect with --backend ebpf: the kernel programs see what the host sees"
                .into(),
        );
    }
    if args.force_xdp && args.hook != Some(Hook::Xdp) {
        notes.push("--force-xdp has no effect without --hook xdp".into());
    }
    let settings = LiveSettings {
        interfaces: (&args.request).into(),
        hook: args.hook.unwrap_or_default(),
        force_xdp: args.force_xdp,
        table_size: table_size(counting.table_size)?.unwrap_or(default::TABLE_SIZE),
        kernel_log: args.kernel_log,
        min_coverage: within("--min-coverage", args.min_coverage, &COVERAGES)?,
        snaplen: within("--snaplen", args.snaplen, &SNAPLENS)?,
        read_timeout: within_time("--read-timeout", args.read_timeout, READ_TIMEOUTS)?,
        promiscuous: args.promiscuous,
        expression,
        filter: filter(wanted),
    };
    Ok(Source::Live { backend, backend_why, settings })
}

/// Which backend can do what was asked for, and why that one.
fn backend(args: &CaptureArgs) -> Result<(Choice, String), ConfigError> {
    let hook = args.hook.map(|hook| match hook {
        Hook::Tc => "tc",
        Hook::Clsact => "clsact",
        Hook::Xdp => "xdp",
        Hook::XdpGeneric => "xdp-generic",
    });
    match (args.backend, hook) {
        (Choice::Pcap, Some(hook)) => Err(ConfigError::Contradiction {
            what: format!("--hook {hook} with --backend pcap: libpcap has no hook"),
            remedy: "leave one of them out".into(),
        }),
        (Choice::Pcap, None) => Ok((Choice::Pcap, "asked for with --backend".into())),
        (Choice::Ebpf, _) => Ok((Choice::Ebpf, "asked for with --backend".into())),
        // A hook that was asked for is asked of eBPF: falling back to libpcap would hide that it failed.
        (Choice::Auto, Some(hook)) => Ok((Choice::Ebpf, format!("--hook {hook}"))),
        (Choice::Auto, None) => Ok((Choice::Auto, "eBPF where it works".into())),
    }
}

fn watch(
    args: &WatchArgs,
    source: Source,
    original: bool,
    read: ReadFile,
    mut notes: Vec<String>,
) -> Result<Config, ConfigError> {
    let detection = detection::settings(&args.detection, original)?;
    notes.extend(detection.notes);
    let slack = slack(&args.alerts, read, &mut notes)?;
    Ok(Config {
        source,
        interval: within_time("--interval", args.interval, INTERVALS)?,
        series: series(&args.series, detection.series, args.interval, original)?,
        detector: detection.detector,
        alerts_per_day: detection.alerts_per_day,
        thresholds: detection.thresholds,
        rules: Vec::new(),
        overrides: Vec::new(),
        alert: alert::Settings {
            cooldown: within_time("--cooldown", args.alerts.cooldown, COOLDOWNS)?,
            max_keys: default::MAX_KEYS,
        },
        log: log::Settings {
            dir: not_empty(&args.alerts.log_dir),
            max_bytes: log_size(args.alerts.log_max_size)?,
        },
        archive_dir: not_empty(&args.alerts.archive_dir),
        slack,
        fail_on_alert: args.alerts.fail_on_alert,
        state: state::Place::Nowhere,
        learn: false,
        notes,
    })
}

fn not_empty(path: &Option<PathBuf>) -> Option<PathBuf> {
    path.clone().filter(|path| !path.as_os_str().is_empty())
}

fn filter(args: &FilterArgs) -> CidrFilter {
    CidrFilter {
        include: Prefixes {
            src: args.include_src.clone(),
            dst: args.include_dst.clone(),
            either: args.include.clone(),
        },
        exclude: Prefixes {
            src: args.exclude_src.clone(),
            dst: args.exclude_dst.clone(),
            either: args.exclude.clone(),
        },
    }
}

fn series(
    args: &SeriesArgs,
    base: series::Settings,
    interval: Duration,
    original: bool,
) -> Result<series::Settings, ConfigError> {
    let expire_after = if original { base.expire_after } else { series::expiry(interval) };
    let mut levels = args.level.clone().unwrap_or(base.levels);
    levels.sort_unstable();
    levels.dedup();
    Ok(series::Settings {
        levels,
        unit: args.bytes,
        max_series: within("--max-series", args.max_series.unwrap_or(base.max_series), &MAX_SERIES)?,
        expire_after: within("--expire-after", args.expire_after.unwrap_or(expire_after), &(1..=u64::MAX))?,
        ..base
    })
}

fn slack(
    args: &AlertArgs,
    read: ReadFile,
    notes: &mut Vec<String>,
) -> Result<Option<slack::Settings>, ConfigError> {
    // "nil" is how the original said none.
    let wanted = |url: &str| Some(url.trim().to_owned()).filter(|url| !url.is_empty() && url != "nil");
    let given = args.slack_url.as_ref().and_then(|secret| wanted(&secret.0));
    let url = match (&args.slack_url_file, given) {
        (Some(_), Some(_)) => {
            return Err(ConfigError::Contradiction {
                what: "--slack-url (or WHEREFORE_SLACK_URL) and --slack-url-file are both given".into(),
                remedy: "keep one".into(),
            });
        }
        (Some(path), None) => {
            let file_error =
                |reason: String| ConfigError::File { flag: "--slack-url-file", path: path.clone(), reason };
            let text = read(path).map_err(|error| file_error(error.to_string()))?;
            let url = wanted(&text)
                .ok_or_else(|| file_error("the file is empty; write the webhook's URL into it".into()))?;
            check_url(&url).map_err(|reason| file_error(reason.into()))?;
            Some(url)
        }
        (None, Some(url)) => {
            check_url(&url).map_err(|reason| ConfigError::Value {
                flag: "--slack-url (or WHEREFORE_SLACK_URL)",
                given: "<hidden>".into(),
                allowed: reason.into(),
            })?;
            Some(url)
        }
        (None, None) => None,
    };
    let text = |value: &Option<String>| value.clone().filter(|text| !text.trim().is_empty());
    let (channel, emoji, icon) = (text(&args.slack_channel), text(&args.slack_emoji), text(&args.slack_icon));
    if url.is_none() && (channel.is_some() || emoji.is_some() || icon.is_some()) {
        notes.push("nothing is sent to Slack: there is no --slack-url".into());
    }
    Ok(url.map(|url| slack::Settings { url, channel, emoji, icon }))
}

/// What is wrong with a webhook's URL; never repeats it.
fn check_url(text: &str) -> Result<(), &'static str> {
    const ALLOWED: &str = "an http or https URL, as in https://hooks.slack.com/services/…";
    match reqwest::Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(()),
        _ => Err(ALLOWED),
    }
}
