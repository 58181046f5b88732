//! Command lines from end to end: as written, to settings or an error.

mod ending;
mod original;

use std::{ffi::OsString, io, path::Path, time::Duration};

use clap::CommandFactory as _;

use super::{
    Parsed,
    args::{Cli, Command, LogLevel},
    legacy::translate,
    parse,
};
use crate::{
    backend::{Choice, Hook, interfaces::Request},
    config::{Config, ConfigError, FlowsConfig, Source, default, exit},
    detect::{
        self,
        anomalyzer::{Method, Settings},
    },
    filter::CidrFilter,
    judge::Thresholds,
    series::{Level, Unit},
    state::Place,
};

const SLACK: &str = "https://hooks.slack.com/services/your/integration/keys/here";

/// Words as a shell would split them, quotes taken off.
fn words(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(|word| word.replace('"', "").into()).collect()
}

fn parsed(line: &str) -> Parsed {
    parse(words(line)).unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// clap's message for a line that must be refused, and its exit code.
fn refused(line: &str) -> String {
    let error = parse(words(line)).expect_err(line);
    assert_eq!(error.exit_code(), i32::from(exit::USAGE), "{line}");
    error.to_string()
}

fn read(path: &Path) -> io::Result<String> {
    match path.to_str() {
        Some("/webhook") => Ok(format!("{SLACK}\n")),
        Some("/empty") => Ok("\n".into()),
        Some("/odd") => Ok("ftp://secret-token".into()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    }
}

fn configured(line: &str) -> Result<Config, ConfigError> {
    let parsed = parsed(line);
    match parsed.command {
        Command::Run(args) => Config::run(&args, parsed.original_detection, &read),
        Command::Replay(args) => Config::replay(&args, parsed.original_detection, &read),
        other => panic!("{line}: {other:?}"),
    }
}

fn config(line: &str) -> Config {
    configured(line).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn anomalyzer(config: &Config) -> &Settings {
    match &config.detector {
        detect::Settings::Anomalyzer { settings, .. } => settings,
        other => panic!("{other:?}"),
    }
}

fn translated(line: &str) -> Vec<String> {
    translate(words(line)).args.into_iter().map(|arg| arg.into_string().unwrap()).collect()
}

#[test]
fn clap_finds_no_fault_in_the_definition() {
    Cli::command().debug_assert();
}

#[test]
fn detection_flags_in_all_spellings() {
    for prefix in ["--anom-", "-anom-", "-anom_", "--", "-"] {
        let config = config(&format!(
            "wherefore {prefix}methods ks,cdf {prefix}sensitivity -1e3 {prefix}upper-bound 2E6 \
             {prefix}lower-bound -5 {prefix}active-size 2 {prefix}n-seasons 3 {prefix}gv-cap 40 \
             {prefix}perm-count 100 {prefix}delay"
        ));
        let expected = Settings {
            methods: vec![Method::Ks, Method::Cdf],
            sensitivity: -1000.0,
            upper_bound: 2e6,
            lower_bound: Some(-5.0),
            active_size: 2,
            n_seasons: 3,
            perm_count: 100,
            delay: true,
        };
        assert_eq!(*anomalyzer(&config), expected, "{prefix}");
    }
    assert!(!anomalyzer(&config("wherefore --anom-delay=false")).delay);
    assert!(!anomalyzer(&config("wherefore --anom-delay false")).delay);
    assert!(anomalyzer(&config("wherefore --anom-delay true")).delay);
    assert_eq!(anomalyzer(&config("wherefore --anom-lower-bound none")).lower_bound, None);
    assert_eq!(anomalyzer(&config("wherefore --anom-lower-bound 5e-324")).lower_bound, None);
}

#[test]
fn run_is_the_default_command_and_flags_may_stand_before_a_command() {
    assert_eq!(translated("wherefore"), ["wherefore", "run"]);
    assert_eq!(translated("wherefore -i eth0"), ["wherefore", "run", "-i", "eth0"]);
    assert_eq!(translated("wherefore -v flows a.pcap"), ["wherefore", "flows", "-v", "a.pcap"]);
    assert_eq!(translated("wherefore -i run"), ["wherefore", "run", "-i", "run"]);
    assert_eq!(translated("wherefore --help"), ["wherefore", "--help"]);
    assert_eq!(translated("wherefore -V"), ["wherefore", "-V"]);
    assert_eq!(translated("wherefore help run"), ["wherefore", "help", "run"]);
    assert!(refused("wherefore flow").contains("flows"));
    assert!(refused("wherefore a.pcap -q").contains("wherefore replay a.pcap"));
    assert_eq!(parse(words("wherefore --version")).unwrap_err().exit_code(), i32::from(exit::OK));
    assert_eq!(parse(words("wherefore -i eth0 --help")).unwrap_err().exit_code(), i32::from(exit::OK));
}

#[test]
fn bad_syntax_names_flag_value_and_what_is_allowed() {
    for (line, given, allowed) in [
        ("--interval 5x", "'5x' for '--interval", "5s, 500ms or 1m30s"),
        ("--interval=-5s", "'-5s' for '--interval", "never negative"),
        ("-w soon", "'soon' for '--read-timeout", "5s, 500ms"),
        ("--min-bytes 1zB", "'1zB' for '--min-bytes", "200kB"),
        ("--log-max-size -1", "'-1' for '--log-max-size", "never negative"),
        ("--include 192.0.2.0/33", "'192.0.2.0/33' for '--include", "192.0.2.0/24"),
        ("--exclude-dst example.org", "'example.org' for '--exclude-dst", "2001:db8::/32"),
        ("--anom-sensitivity NaN", "'NaN' for '--anom-sensitivity", "finite number"),
        ("--anom-upper-bound inf", "'inf' for '--anom-upper-bound", "finite number"),
        ("--anom-lower-bound low", "'low' for '--anom-lower-bound", "or none"),
        ("--anom-methods diff,,ks", "'' for '--anom-methods", "highrank"),
        ("--table-size 1e6", "'1e6' for '--table-size", "a whole number"),
        ("--hook nfqueue", "'nfqueue' for '--hook", "xdp-generic"),
        ("--backend dpdk", "'dpdk' for '--backend", "auto, ebpf, pcap"),
        ("--level process", "'process' for '--level", "flow, pair, net, interface"),
        ("--format xml", "'xml' for '--format", "jsonl"),
        ("--anom-active-size -1", "'-1' for '--anom-active-size", "a whole number"),
        ("flows --top 0", "'0' for '--top", "1 or more"),
        ("flows --key port", "'port' for '--key", "flow, pair"),
    ] {
        let message = refused(&format!("wherefore {line}"));
        assert!(message.contains(given) && message.contains(allowed), "{line}: {message}");
    }
    assert!(refused("wherefore replay").contains("<FILE>"));
    assert!(refused("wherefore flows x.pcap -i eth0").contains("cannot be used with"));
    assert!(refused("wherefore -v -q").contains("cannot be used with"));
}

#[test]
fn bad_values_are_usage_errors_that_name_the_range() {
    for (line, message) in [
        ("--interval 99ms", "--interval 99 ms: allowed is 100 ms to 1 d"),
        ("--interval 2d", "--interval 2 d: allowed is 100 ms to 1 d"),
        ("--table-size 15", "--table-size 15: allowed is 16 to 16777216"),
        ("--table-size 16777217", "--table-size 16777217: allowed is 16 to 16777216"),
        ("-s 0", "--snaplen 0: allowed is 64 to 262144"),
        ("-w 0s", "--read-timeout 0 s: allowed is 1 ms to 1 min"),
        ("--max-series 0", "--max-series 0: allowed is 1 to 16777216"),
        ("--expire-after 0", "--expire-after 0: allowed is 1 to 18446744073709551615"),
        ("--cooldown 366d", "--cooldown 366 d: allowed is 0 s to 365 d"),
        ("--log-max-size 1kB", "--log-max-size 1000 bytes: allowed is 4 kB to 1 TB"),
        ("--anom-gv-cap 0", "--anom-gv-cap 0: allowed is 1 to 10000"),
        ("--anom-active-size 0", "--anom-active-size is 0; at least 1"),
        ("--anom-perm-count 1000001", "1000001 shuffles asked for; at most 1000000"),
        ("--alert-threshold 1", "--alert-threshold 1: allowed is 0 to below 1"),
        ("--alert-threshold -0.1", "--alert-threshold -0.1: allowed is 0 to below 1"),
        ("--min-history 0", "--min-history 0: allowed is 1 to 10000"),
        ("--min-factor -1", "--min-factor -1: allowed is 0 or more"),
        (
            "--slack-url hooks.slack.com/x",
            "--slack-url (or WHEREFORE_SLACK_URL) <hidden>: allowed is an http",
        ),
    ] {
        let error = configured(&format!("wherefore {line}")).expect_err(line);
        assert!(error.to_string().starts_with(message), "{line}: {error}");
        assert_eq!(error.exit_code(), exit::USAGE, "{line}");
    }
}

#[test]
fn contradictions_and_unusable_files_are_configuration_errors() {
    for (line, message) in [
        ("--backend pcap --hook clsact", "libpcap has no hook"),
        ("--anom-n-seasons 3 --anom-active-size 1", "at least 4"),
        ("--anom-methods fence --anom-lower-bound 9 --anom-upper-bound 9", "--anom-upper-bound"),
        ("--anom-methods fence --anom-upper-bound 0", "must be greater than --anom-lower-bound"),
        ("--anom-gv-cap 1", "use --anom-gv-cap 2 or more"),
        ("--anom-methods ks --anom-active-size 16 --anom-gv-cap 30", "before it has 32 intervals"),
        ("--anom-active-size 20000", "only 10000 are kept: use a smaller active size"),
        ("--anom-delay --anom-n-seasons 4 --anom-gv-cap 4", "waits for 5 intervals"),
        ("--min-history 31 --anom-gv-cap 30", "only 30 intervals are kept"),
        (&format!("--slack-url {SLACK} --slack-url-file /webhook"), "keep one"),
        ("--slack-url-file /missing", "--slack-url-file /missing: entity not found"),
        ("--slack-url-file /empty", "--slack-url-file /empty: the file is empty"),
        ("--slack-url-file /odd", "--slack-url-file /odd: an http or https URL"),
    ] {
        let error = configured(&format!("wherefore {line}")).expect_err(line);
        assert!(error.to_string().contains(message), "{line}: {error}");
        assert_eq!(error.exit_code(), exit::CONFIG, "{line}");
    }
}

#[test]
fn the_webhook_is_never_shown() {
    let line = "wherefore --slack-url hooks.example/secret-token";
    assert!(!format!("{:?}", parsed(line)).contains("secret-token"));
    for line in [line, "wherefore --slack-url-file /odd"] {
        let error = configured(line).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret-token"), "{error:?}");
    }
    assert_eq!(config("wherefore --slack-url-file /webhook").slack.unwrap().url, SLACK);
}

#[test]
fn defaults() {
    let config = config("wherefore");
    let Source::Live { backend, settings, .. } = &config.source else { panic!() };
    assert_eq!((*backend, settings.hook, settings.table_size), (Choice::Auto, Hook::Tc, 65_536));
    assert_eq!(settings.interfaces, Request::default());
    assert!(!settings.promiscuous && !settings.kernel_log && settings.expression.is_none());
    let levels = vec![Level::Pair, Level::Net, Level::Interface];
    assert_eq!((&config.series.levels, config.series.unit), (&levels, Unit::Ip));
    assert_eq!((&config.detector, config.thresholds), (&detect::Settings::Auto, Thresholds::default()));
    assert_eq!((config.alerts_per_day, config.series.expire_after), (default::ALERTS_PER_DAY, 51_840));
    assert!(config.slack.is_none() && config.notes.is_empty() && !config.fail_on_alert);
}

#[test]
fn the_anomalyzer_judges_pairs_unless_it_is_told_otherwise() {
    let of = |line: &str| self::config(&format!("wherefore --detector anomalyzer {line}"));
    let config = of("");
    assert_eq!(config.series.levels, [Level::Pair]);
    assert_eq!(
        (anomalyzer(&config).clone(), config.thresholds),
        (Settings::default(), Thresholds::default())
    );
    assert_eq!(of("--level net,flow,net").series.levels, [Level::Flow, Level::Net]);
    assert_eq!(of("--interval 1h").series.expire_after, 72);
}

#[test]
fn an_expression_goes_with_any_backend_and_hook() {
    for (line, chosen, why) in [
        ("", Choice::Auto, "eBPF where it works"),
        ("--backend ebpf", Choice::Ebpf, "asked for with --backend"),
        ("--hook xdp", Choice::Ebpf, "--hook xdp"),
        ("--backend pcap", Choice::Pcap, "asked for with --backend"),
    ] {
        let config = config(&format!("wherefore -f udp {line}"));
        let Source::Live { backend, backend_why, settings, .. } = &config.source else { panic!() };
        assert_eq!((*backend, backend_why.as_str()), (chosen, why));
        assert_eq!(settings.expression.as_deref(), Some("udp"));
        assert!(config.notes.is_empty());
    }
}

#[test]
fn a_history_follows_its_windows_and_a_short_one_does_not_silence() {
    let long = config("wherefore --anom-n-seasons 99");
    assert_eq!(long.series.history, 100);
    assert_eq!(config("wherefore -anom_n_seasons 99").series.history, 30);
    let short = config("wherefore --anom-gv-cap 6");
    assert_eq!((short.series.history, short.thresholds.min_history), (6, 6));
}

/// The CIDR filter, wherever counts come from.
fn cidr(config: &Config) -> &CidrFilter {
    match &config.source {
        Source::Live { settings, .. } => &settings.filter,
        Source::Files(settings) => &settings.filter,
    }
}

#[test]
fn filters_take_lists_and_plain_addresses() {
    let config = config(
        "wherefore --include 192.0.2.7,2001:db8::/32 --include 198.51.100.9/24 --exclude-dst 203.0.113.1",
    );
    let filter = cidr(&config);
    let text: Vec<_> = filter.include.either.iter().map(ToString::to_string).collect();
    assert_eq!(text, ["192.0.2.7/32", "2001:db8::/32", "198.51.100.0/24"]);
    assert_eq!(filter.exclude.dst, ["203.0.113.1/32".parse().unwrap()]);
}

#[test]
fn flows_of_files_are_one_interval_and_of_a_host_ten_seconds() {
    let flows = |line: &str| match parsed(line).command {
        Command::Flows(args) => FlowsConfig::flows(&args),
        other => panic!("{other:?}"),
    };
    let files = flows("wherefore flows a.pcap b.pcap --key 5tuple --by interface --format json").unwrap();
    let Source::Files(settings) = files.source else { panic!() };
    assert_eq!((settings.files.len(), settings.interval, settings.table_size), (2, None, None));
    let live = flows("wherefore flows -i lo").unwrap();
    assert_eq!(live.duration, Duration::from_secs(10));
    assert!(matches!(live.source, Source::Live { .. }));
    assert_eq!(
        flows("wherefore flows --for 50ms").unwrap_err().to_string(),
        "--for 50 ms: allowed is 100 ms to 1 d"
    );
}

#[test]
fn verbosity_and_colour() {
    for (line, level) in [
        ("", LogLevel::Info),
        ("-v", LogLevel::Debug),
        ("-q", LogLevel::Warn),
        ("-qq", LogLevel::Error),
        ("--loglevel WARNING", LogLevel::Warn),
        ("-loglevel=error", LogLevel::Error),
    ] {
        assert_eq!(parsed(&format!("wherefore {line}")).command.common().level(), level, "{line}");
    }
    let colored = |line: &str, no_color: Option<&str>, terminal| {
        parsed(line).command.common().colored(no_color.map(AsRef::as_ref), terminal)
    };
    assert!(colored("wherefore", None, true) && colored("wherefore", Some(""), true));
    assert!(!colored("wherefore", None, false) && !colored("wherefore", Some("1"), true));
    assert!(colored("wherefore --color always", Some("1"), false));
    assert!(!colored("wherefore --color never", None, true));
}

/// A page of docs/.
fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_reference_lists_every_flag_with_its_default() {
    let page = page("command-line.md");
    for command in Cli::command().get_subcommands() {
        assert!(page.contains(&format!("`{}", command.get_name())), "{}", command.get_name());
        for arg in command.get_arguments() {
            let Some(long) = arg.get_long() else { continue };
            let row = page
                .lines()
                .filter(|line| line.starts_with('|'))
                .find(|line| line.contains(&format!("`--{long}`")) || line.contains(&format!("`--{long} ")))
                .unwrap_or_else(|| panic!("--{long} has no row"));
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let shown = help.split_once("[default: ").and_then(|(_, rest)| rest.split([']', ';']).next());
            let default = arg.get_default_values().first().and_then(|value| value.to_str()).or(shown);
            if let Some(default) = default.filter(|_| arg.get_action().takes_values()) {
                assert!(row.contains(default), "--{long}: {default} is not in {row}");
            }
        }
    }
    for code in [exit::FAILURE, exit::USAGE, exit::ALERTED, exit::NO_INPUT, exit::NO_PERMISSION, exit::CONFIG]
    {
        assert!(page.contains(&format!("| {code} |")), "exit code {code}");
    }
}

#[test]
fn a_gate_that_never_opens_is_pointed_out() {
    for (line, mute) in [
        ("", false),
        ("--anom-sensitivity 1", false),
        ("--anom-sensitivity 1.5", true),
        ("--anom-sensitivity 1.5 --anom-methods fence", false),
        ("-anom_upper_bound=200", true),
    ] {
        let notes = config(&format!("wherefore {line}")).notes;
        assert_eq!(
            notes.iter().any(|note| note.starts_with("--anom-sensitivity")),
            mute,
            "{line}: {notes:?}"
        );
    }
}

#[test]
fn forcing_native_xdp_where_it_was_not_asked_for_is_said() {
    for (line, notes) in [
        ("--force-xdp", 1),
        ("--hook xdp-generic --force-xdp", 1),
        ("--hook xdp --force-xdp", 0),
        ("--hook xdp", 0),
    ] {
        let config = config(&format!("wherefore {line}"));
        assert_eq!(config.notes.len(), notes, "{line}: {:?}", config.notes);
        let Source::Live { settings, .. } = config.source else { panic!("{line}: not live") };
        assert_eq!(settings.force_xdp, line.contains("force"), "{line}");
    }
}

#[test]
fn what_was_learned_is_kept_where_it_was_said() {
    for (line, place) in [
        ("wherefore", Place::Usual),
        ("wherefore run --state-dir=", Place::Usual),
        ("wherefore -state_dir=/srv/learned", Place::Named("/srv/learned".into())),
        ("wherefore run --no-state", Place::Nowhere),
        ("wherefore replay a.pcap", Place::Nowhere),
    ] {
        let config = config(line);
        assert_eq!((config.state, config.learn), (place, false), "{line}");
    }
    assert!(config("wherefore --learn").learn);
    assert!(refused("wherefore --no-state --state-dir /srv/learned").contains("cannot be used with"));
    for flag in ["--state-dir=/srv/learned", "--no-state", "--learn"] {
        assert!(
            refused(&format!("wherefore replay a.pcap {flag}")).contains("unexpected argument"),
            "{flag}"
        );
    }
}
