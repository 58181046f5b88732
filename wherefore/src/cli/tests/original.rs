//! The original's command lines.

use std::{ffi::OsString, path::Path, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::backend::interfaces::Pattern;

#[test]
fn first_example_of_the_original() {
    let line = r##"./wherefore -i eth0 -l=/var/log/wherefore -archive_dir=/var/log/wherefore/packets/
        -loglevel=info -slack_url="https://hooks.slack.com/services/your/integration/keys/here"
        -slack_channel="#wherefore" -slack_emoji=":warning:" -anom_methods=fence -anom_upper_bound=1000
        -anom_gv_cap=25 -anom_sensitivity=0.8"##;
    let parsed = parsed(line);
    assert!(parsed.original_detection);
    assert_eq!(parsed.command.common().level(), LogLevel::Info);
    let Command::Run(args) = &parsed.command else { panic!("{:?}", parsed.command) };
    assert_eq!(args.capture.request.interfaces, [Pattern::name("eth0")]);

    let config = config(line);
    assert_eq!(
        *anomalyzer(&config),
        Settings {
            methods: vec![Method::Fence],
            upper_bound: 1000.0,
            sensitivity: 0.8,
            ..Settings::original()
        }
    );
    assert_eq!(config.thresholds, Thresholds::original());
    assert_eq!(config.series.history, 25);
    assert_eq!(config.log.dir.as_deref(), Some(Path::new("/var/log/wherefore")));
    assert_eq!(config.archive_dir.as_deref(), Some(Path::new("/var/log/wherefore/packets/")));
    let slack = config.slack.unwrap();
    assert_eq!(slack.url, SLACK);
    assert_eq!(slack.channel.as_deref(), Some("#wherefore"));
    assert_eq!(slack.emoji.as_deref(), Some(":warning:"));
    assert_eq!(slack.icon, None);
}

#[test]
fn second_example_of_the_original() {
    let line = r##"./wherefore -i eth0 -l=/tmp -archive_dir=/tmp  -loglevel=info -anom_methods=diff,fence
        -anom_upper_bound=200 -slack_url="https://hooks.slack.com/services/hook/url/goes/here"
        -slack_channel="#wherefore" -slack_emoji=":warning:" -anom_gv_cap=30 -anom_sensitivity=0.8"##;
    let config = config(line);
    assert_eq!(anomalyzer(&config).methods, [Method::Diff, Method::Fence]);
    assert_eq!(anomalyzer(&config).upper_bound, 200.0);
    assert_eq!(anomalyzer(&config).lower_bound, None);
    assert_eq!(config.series.history, 30);
    assert_eq!(config.thresholds.probability, 0.6);
    assert_eq!(config.interval, Duration::from_secs(5));
    assert_eq!(config.slack.unwrap().url, "https://hooks.slack.com/services/hook/url/goes/here");
}

/// Every flag of the original's usage text, with the value shown there.
const ORIGINAL_DEFAULTS: &[&str] = &[
    "-anom_active_size=1",
    "-anom_gv_cap=10",
    "-anom_lower_bound=5e-324",
    "-anom_methods=diff,fence,highrank,lowrank,magnitude",
    "-anom_n_seasons=4",
    "-anom_sensitivity=2",
    "-anom_upper_bound=5",
    "-archive_dir=",
    "-daq=libpcap",
    "-f=tcp",
    "-filter_bool=true",
    "-filter_dst=false",
    "-filter_ip_CIDR=0.0.0.0/0",
    "-filter_src=false",
    "-i=eth0",
    "-l=",
    "-log_packets=false",
    "-loglevel=info",
    "-max_pcap_log_size=1",
    "-max_pcap_rotations=10",
    "-pcapfile=",
    "-s=65536",
    "-slack_channel=#wherefore",
    "-slack_emoji=:warning:",
    "-slack_icon=https://cdn4.iconfinder.com/data/icons/proglyphs-free/512/Invader_1-128.png",
    "-slack_url=nil",
    "-transfer_interval=5s",
    "-w=3s",
];

#[test]
fn every_flag_of_the_original_alone_and_together_in_all_its_forms() {
    for flag in ORIGINAL_DEFAULTS {
        let (name, value) = flag.split_once('=').unwrap();
        config(&format!("wherefore {flag}"));
        config(&format!("wherefore -{flag}"));
        let boolean = ["filter_bool", "filter_src", "filter_dst", "log_packets"].contains(&&name[1..]);
        if boolean {
            config(&format!("wherefore {name}"));
        } else {
            let apart = vec!["wherefore".into(), name.into(), value.into()];
            parse(apart).unwrap_or_else(|error| panic!("{name} {value}: {error}"));
        }
    }
    let config = config(&format!("wherefore {}", ORIGINAL_DEFAULTS.join(" ")));
    let Source::Live { backend, settings, .. } = &config.source else { panic!("{:?}", config.source) };
    assert_eq!(*backend, Choice::Pcap);
    assert_eq!(settings.expression.as_deref(), Some("tcp"));
    assert_eq!(settings.snaplen, 65536);
    assert_eq!(settings.read_timeout, Duration::from_secs(3));
    assert_eq!(*anomalyzer(&config), Settings::original());
    assert_eq!(config.series.history, 10);
    assert!(*cidr(&config) == Default::default());
    assert_eq!((config.log.dir, config.archive_dir, config.slack), (None, None, None));
}

#[test]
fn a_mistyped_long_flag_is_no_short_one_with_a_value() {
    for (line, name) in [
        ("wherefore -loglevl=debug", "--loglevl"),
        ("wherefore -loglvel debug", "--loglvel"),
        ("wherefore -log=/tmp", "--log"),
        ("wherefore -filtr_src", "--filtr_src"),
        ("wherefore -intervall=5s", "--intervall"),
    ] {
        assert!(refused(line).contains(&format!("unexpected argument '{name}'")), "{line}");
    }
    let secret = refused("wherefore -slack_ulr=https://hooks.slack.com/services/SECRET");
    assert!(secret.contains("--slack_ulr") && !secret.contains("SECRET"), "{secret}");
    let secret = refused("wherefore -slack_ulr https://hooks.slack.com/services/SECRET");
    assert!(secret.contains("--slack_ulr") && !secret.contains("SECRET"), "{secret}");

    for (line, dir) in
        [("-l/var/log", "/var/log"), ("-lvar", "var"), ("-ql=/tmp", "/tmp"), ("-ql logs", "logs")]
    {
        let config = config(&format!("wherefore {line}"));
        assert_eq!(config.log.dir, Some(dir.into()), "{line}");
    }
    for line in ["-fport", "-fudp", "-fether", "-ftcp[13]=2"] {
        assert_eq!(translated(&format!("wherefore {line}")), ["wherefore", "run", line]);
    }
}

#[test]
fn names_of_the_last_release() {
    let config = config("wherefore -log_dir /tmp/x -filter_cidr_mask 192.0.2.0/24 -filter_cidr -filter_src");
    assert_eq!(config.log.dir.as_deref(), Some(Path::new("/tmp/x")));
    assert_eq!(cidr(&config).include.src, ["192.0.2.0/24".parse().unwrap()]);
}

#[test]
fn only_the_original_spelling_brings_the_original_detection() {
    for line in
        ["-anom_methods=fence", "--anom_methods fence", "-anom_upper_bound 5", "run -anom_perm_count 9"]
    {
        assert_eq!(config(&format!("wherefore {line}")).thresholds, Thresholds::original(), "{line}");
    }
    for line in
        ["--anom-methods=fence", "-anom-methods fence", "-upper-bound 5", "--sensitivity 2", "-loglevel=info"]
    {
        assert_eq!(config(&format!("wherefore {line}")).thresholds, Thresholds::default(), "{line}");
    }
}

#[test]
fn a_capture_file_makes_it_a_replay() {
    let parsed = parsed("wherefore -i eth0 -daq=libpcap -w 3s -pcapfile=x.pcap -f udp -s=96");
    let Command::Replay(args) = &parsed.command else { panic!("{:?}", parsed.command) };
    assert_eq!(args.files, [Path::new("x.pcap")]);
    assert_eq!(args.counting.expression.as_deref(), Some("udp"));
    assert_eq!(parsed.warnings, ["-i, -daq, -w, -s: no effect on a capture file"]);
    assert_eq!(translated("wherefore --pcapfile -"), ["wherefore", "replay", "-"]);
    assert_eq!(translated("wherefore -pcapfile -x"), ["wherefore", "replay", "./-x"]);
    assert_eq!(translated("wherefore flows -pcapfile x"), ["wherefore", "flows", "x"]);
    assert_eq!(translated("wherefore run -pcapfile x"), ["wherefore", "replay", "x"]);
}

#[test]
fn the_original_filter_does_what_its_help_said_and_says_so() {
    for (line, flag) in [
        ("-filter_ip_CIDR=192.0.2.0/24 -filter_src", "--include-src=192.0.2.0/24"),
        ("-filter_ip_CIDR 192.0.2.0/24 -filter_dst=true -filter_src=f", "--include-dst=192.0.2.0/24"),
        ("-filter_dst -filter_src -filter_cidr_mask=192.0.2.0/24", "--include=192.0.2.0/24"),
        ("-filter_bool=false -filter_ip_CIDR=192.0.2.0/24 -filter_src", "--exclude-src=192.0.2.0/24"),
    ] {
        let out = translate(words(&format!("wherefore {line}")));
        assert_eq!(out.args, ["wherefore", "run", flag], "{line}");
        assert_eq!(out.warnings.len(), 1, "{line}: {:?}", out.warnings);
    }
    for (line, sentence) in [
        ("-filter_ip_CIDR=192.0.2.0/24", "no effect without -filter_src"),
        ("-filter_src", "every packet is counted"),
        ("-filter_dst -filter_ip_CIDR=0.0.0.0/0", "every packet is counted"),
    ] {
        let out = translate(words(&format!("wherefore {line}")));
        assert_eq!(out.args, ["wherefore", "run"], "{line}");
        assert!(out.warnings.len() == 1 && out.warnings[0].contains(sentence), "{:?}", out.warnings);
    }
}

#[test]
fn what_cannot_be_honoured_gets_one_sentence() {
    for (line, sentence) in [
        ("-daq=BSD_BPF", "there is no such source"),
        ("-filter_src=maybe", "-filter_src=maybe: allowed is true or false"),
        ("-pcapfile", "-pcapfile needs a value"),
        ("-anom_methods=fence,median", "the methods are magnitude"),
        ("-loglevel=loud", "loud"),
        ("-anom_median=3", "'--anom_median'"),
    ] {
        assert!(refused(&format!("wherefore {line}")).contains(sentence), "{line}");
    }
    for (line, sentence) in [
        ("-log_packets", "packets are not stored yet"),
        ("-max_pcap_log_size 5", "packets are not stored yet"),
        ("-max_pcap_rotations=5", "packets are not stored yet"),
        ("-archive_dir /tmp/x", "the directory is made"),
        ("-loglevel=panic", "using error"),
        ("-daq=AF_PACKET", "--backend pcap"),
    ] {
        let warnings = parsed(&format!("wherefore {line}")).warnings;
        assert!(warnings.len() == 1 && warnings[0].contains(sentence), "{line}: {warnings:?}");
    }
}

/// Arguments that look like ours, the original's, and neither.
fn any_arg() -> impl Strategy<Value = OsString> {
    use std::os::unix::ffi::OsStringExt as _;
    let names: Vec<String> = ORIGINAL_DEFAULTS
        .iter()
        .flat_map(|flag| [flag.to_string(), flag.split('=').next().unwrap().to_owned(), format!("-{flag}")])
        .chain(["--", "-", "run", "flows", "-vqi", "-l=", "-é=", "--=x", "---x", "true"].map(String::from))
        .collect();
    prop_oneof![
        proptest::sample::select(names).prop_map(OsString::from),
        proptest::collection::vec(any::<u8>(), 0..12).prop_map(OsString::from_vec),
        "-{0,3}[a-z_=é-]{0,12}".prop_map(OsString::from),
    ]
}

proptest! {
    #[test]
    fn any_command_line_is_understood_or_refused(args in proptest::collection::vec(any_arg(), 0..8)) {
        let translated = translate(args.clone());
        prop_assert!(!translated.args.is_empty());
        let _ = parse(args);
    }

    #[test]
    fn our_own_spelling_stays_as_it_is(values in proptest::collection::vec("[a-z0-9:/.]{1,9}", 3)) {
        let line = format!(
            "wherefore run -i {0} --log-dir {1} --slack-channel={2} -s96 -f {0}", values[0], values[1], values[2]
        );
        prop_assert_eq!(translated(&line).join(" "), line);
    }
}

#[test]
fn the_migration_page_lists_every_flag_of_the_original() {
    let page = page("migrating.md");
    let last_release = ["-log_dir=", "-filter_cidr=", "-filter_cidr_mask="];
    for flag in ORIGINAL_DEFAULTS.iter().chain(&last_release) {
        let name = flag.split('=').next().unwrap();
        assert!(
            page.lines().any(|line| line.starts_with('|') && line.contains(&format!("`{name}`"))),
            "{name}"
        );
    }
}
