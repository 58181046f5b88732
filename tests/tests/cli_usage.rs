//! The command line as scripts and tired people meet it: exit codes, messages, colours, pipes, old spellings.
//!
//! Nothing here may watch a real interface, even if a refusal fails: `run` is asked for an interface that does not
//! exist, `replay` for a file that does not, and `flows` for a moment of `lo`.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::Path,
    process::Stdio,
};

use nix::unistd::geteuid;
use wherefore_tests::{
    capture::{Packet, pcap_of},
    cli::{Folder, Said, command, finish, line, say, text},
};

const NO_FILE: &str = "/nonexistent/file.pcap";
const NO_INTERFACE: &str = "wf-missing0";

/// What `replay` and `run` say to flags; 66 and 2 with these words mean that the flags were taken.
fn asked(flags: &[&str]) -> [Said; 2] {
    let replay = say(&[&["replay", NO_FILE], flags].concat());
    let run = say(&[&["run", "-i", NO_INTERFACE], flags].concat());
    [replay, run]
}

fn accepted(flags: &[&str]) {
    let [replay, run] = asked(flags);
    assert!(replay.code == 66 && replay.err.contains(NO_FILE), "{flags:?}: {replay:?}");
    assert!(run.code == 2 && run.err.contains("no interface named"), "{flags:?}: {run:?}");
    assert_eq!(replay.out + &run.out, "", "{flags:?}");
}

/// Refused by `replay` with this code, in one message that has all these words.
fn refused(flags: &[&str], code: i32, words: &[&str]) {
    let said = say(&[&["replay", NO_FILE], flags].concat());
    assert_eq!((said.code, said.out.as_str()), (code, ""), "{flags:?}: {said:?}");
    assert!(said.err.starts_with("error: "), "{flags:?}: {said:?}");
    for word in words {
        assert!(said.err.contains(word), "{flags:?}: no {word:?} in {said:?}");
    }
}

fn capture(folder: &Folder, packets: u64) -> String {
    let packet = |i| Packet {
        time: 1_700_000_000_000_000 + i,
        src: (i / 250 + 1) as u8,
        dst: (i % 250) as u8,
        ports: (i as u16, 53),
        ip_bytes: 60,
    };
    folder.file("a.pcap", &pcap_of(&(0..packets).map(packet).collect::<Vec<_>>()))
}

#[test]
fn every_detection_flag_is_taken_by_run_and_replay_with_any_number() {
    let values: &[(&str, &[&str])] = &[
        ("methods", &["magnitude,diff,highrank,lowrank,fence,ks,cdf", "fence", "diff, KS"]),
        ("sensitivity", &["-1", "0", "0.8", "2.5e3", "-1e300", "1e-300"]),
        ("upper-bound", &["-5", "5", "5e-324", "1E6"]),
        ("lower-bound", &["-5", "-1e300", "5e-324", "none"]),
        ("active-size", &["1", "3"]),
        ("n-seasons", &["0", "4", "99"]),
        ("gv-cap", &["5", "10000"]),
        ("perm-count", &["0", "1000000"]),
        ("delay", &["true", "false"]),
    ];
    for (name, values) in values {
        for value in *values {
            accepted(&[&format!("--anom-{name}"), value]);
            accepted(&[&format!("--anom-{name}={value}")]);
        }
        let old = name.replace('-', "_");
        let last = values[values.len() - 1];
        accepted(&[&format!("-anom_{old}={last}")]);
        // As in Go, the last one counts.
        accepted(&[&format!("-anom_{old}"), values[0], &format!("--anom_{old}={last}")]);
        accepted(&[&format!("-{name}"), last]);
    }
    accepted(&["--anom-delay"]);
    accepted(&["--anom-methods", "fence", "--anom-lower-bound", "-9e9", "--anom-upper-bound", "-1"]);
}

#[test]
fn the_originals_own_examples_and_bounds_are_taken() {
    for example in [
        "-i wf-missing0 -l=/nonexistent/wherefore -archive_dir=/nonexistent/packets/ -loglevel=info \
         -slack_url=https://hooks.slack.com/services/your/integration/keys/here -slack_channel=#wherefore \
         -slack_emoji=:warning: -anom_methods=fence -anom_upper_bound=1000 -anom_gv_cap=25 -anom_sensitivity=0.8",
        "-i wf-missing0 -l=/nonexistent -archive_dir=/nonexistent -loglevel=info -anom_methods=diff,fence \
         -anom_upper_bound=200 -slack_url=https://hooks.slack.com/services/hook/url/goes/here \
         -slack_channel=#wherefore -slack_emoji=:warning: -anom_gv_cap=30 -anom_sensitivity=0.8",
    ] {
        let run = line(example);
        assert!(run.code == 2 && run.err.contains("no interface named \"wf-missing0\""), "{run:?}");
    }
    // With a file, and without the logs and Slack, they do their work.
    let folder = Folder::new();
    let file = capture(&folder, 10);
    let logs = folder.path("logs").display().to_string();
    for detection in [
        "-anom_methods=fence -anom_upper_bound=1000 -anom_gv_cap=25 -anom_sensitivity=0.8",
        "-anom_methods=diff,fence -anom_upper_bound=200 -anom_gv_cap=30 -anom_lower_bound=5e-324",
    ] {
        let said = line(&format!(
            "-i eth0 -l={logs} -archive_dir={logs}/packets -loglevel=info {detection} -slack_url=nil -pcapfile={file}"
        ));
        assert_eq!(said.code, 0, "{said:?}");
        assert!(said.out.contains("10 packets"), "{said:?}");
        for words in
            ["-i: no effect on a capture file", "packets are not stored yet", "its detection defaults hold"]
        {
            assert_eq!(said.err.matches(words).count(), 1, "{words}: {said:?}");
        }
    }
    assert!(folder.path("logs/packets").is_dir() && folder.path("logs/wherefore.log").is_file());
}

#[test]
fn values_with_units() {
    for interval in ["5s", "500ms", "1m30s", "1m 30s", "2", "0.5", "1.5h"] {
        accepted(&["--interval", interval]);
    }
    for size in ["0", "200000", "200kB", "200 kB", "1.5MB", "64KiB", "64k"] {
        accepted(&["--min-bytes", size]);
    }
    accepted(&["--cooldown", "0s"]);
    accepted(&["--include", "192.0.2.7,2001:db8::/32", "--exclude-dst", "198.51.100.9/24"]);
}

#[test]
fn a_bad_value_is_named_with_what_is_allowed() {
    for (flags, words) in [
        (&["--interval", "5x"][..], &["'5x'", "--interval", "5s, 500ms or 1m30s"][..]),
        (&["--interval", "-5s"], &["'-5s'", "--interval", "never negative"]),
        (&["--interval", "50ms"], &["--interval 50 ms", "100 ms to 1 d"]),
        (&["--cooldown", "366d"], &["--cooldown 366 d", "0 s to 365 d"]),
        (&["--min-bytes", "1zB"], &["'1zB'", "--min-bytes", "200kB"]),
        (&["--log-max-size", "1kB"], &["--log-max-size 1000 bytes", "4 kB to 1 TB"]),
        (&["--anom-sensitivity", "much"], &["'much'", "--anom-sensitivity", "0.8, -5 or 1e6"]),
        (&["--anom-sensitivity=nan"], &["'nan'", "finite number"]),
        (&["--anom-upper-bound", "inf"], &["'inf'", "finite number"]),
        (
            &["--anom-methods", "fence,median"],
            &["'median'", "magnitude, diff, highrank, lowrank, fence, ks and cdf"],
        ),
        (&["--anom-active-size", "0"], &["--anom-active-size is 0", "at least 1"]),
        (&["--anom-active-size", "-1"], &["'-1'", "--anom-active-size", "whole number"]),
        (&["--anom-gv-cap", "10001"], &["--anom-gv-cap 10001", "1 to 10000"]),
        (&["--alert-threshold", "1"], &["--alert-threshold 1", "0 to below 1"]),
        (&["--min-history", "0"], &["--min-history 0", "1 to"]),
        (&["--level", "process"], &["'process'", "--level", "flow, pair"]),
        (&["--include", "192.0.2.0/33"], &["'192.0.2.0/33'", "--include", "192.0.2.0/24"]),
        (&["--format", "xml"], &["'xml'", "table, json, jsonl, csv"]),
        (&["--loglevel", "loud"], &["'loud'", "debug, info, warn, error"]),
        (&["--slack-url", "hooks.example/secret-token"], &["--slack-url", "https URL"]),
        (&["--table-size", "15"], &["--table-size 15", "16 to 16777216"]),
        (&["-daq=BSD_BPF"], &["-daq", "no such source"]),
        (&["-anom_median=3"], &["'--anom_median'"]),
        (&["--anom-n-seasons"], &["a value is required", "--anom-n-seasons"]),
    ] {
        refused(flags, 2, words);
    }
    let secret = say(&["replay", NO_FILE, "--slack-url", "hooks.example/secret-token"]);
    assert!(!secret.err.contains("secret-token"), "{secret:?}");
    // The same of the other commands; the kernel is not reached.
    for words in [
        "flows --for 10ms -i lo",
        "flows --top 0 -i lo --for 100ms",
        "flows --key port -i lo --for 100ms",
        "run -i wf-missing0 --hook nf",
        "frobnicate",
        "replay",
        "doctor --format xml",
    ] {
        let said = line(words);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{words}: {said:?}");
        assert!(said.err.starts_with("error: "), "{words}: {said:?}");
    }
}

#[test]
fn contradictions_are_told_from_bad_values() {
    let folder = Folder::new();
    let empty = folder.file("empty", b"\n");
    for (flags, words) in [
        (&["--anom-n-seasons", "3"][..], &["--anom-n-seasons", "at least 4"][..]),
        (
            &["--anom-methods", "fence", "--anom-lower-bound", "9", "--anom-upper-bound", "9"],
            &["--anom-upper-bound"],
        ),
        (&["--anom-delay", "--anom-n-seasons", "9", "--anom-gv-cap", "5"], &["10 intervals"]),
        (&["--min-history", "31", "--anom-gv-cap", "30"], &["only 30 intervals are kept"]),
        (&["--slack-url-file", NO_FILE], &["--slack-url-file", NO_FILE]),
        (&["--slack-url-file", &empty], &["the file is empty"]),
        (&["--slack-url-file", &empty, "--slack-url", "https://hooks.example/x"], &["keep one"]),
    ] {
        refused(flags, 78, words);
    }
    let said = line("flows -i lo --for 100ms --backend pcap --hook clsact");
    assert_eq!((said.code, said.out.as_str()), (78, ""), "{said:?}");
}

#[test]
fn missing_privileges_have_their_code_and_the_remedy() {
    let mut unprivileged = command(&["flows", "-i", "lo", "--for", "100ms", "--backend", "pcap"]);
    if geteuid().is_root() {
        // The kernel's overflow user, who has nothing.
        unprivileged.uid(65_534).gid(65_534);
    }
    let said = finish(unprivileged, &[]);
    if said.code == 0 {
        eprintln!("skipped: this user may capture");
        return;
    }
    assert_eq!((said.code, said.out.as_str()), (77, ""), "{said:?}");
    assert!(said.err.contains("CAP_NET_RAW") && said.err.contains("setcap"), "{said:?}");
}

#[test]
fn help_and_version_go_to_standard_output_and_end_well() {
    for words in [
        "--help",
        "-h",
        "help",
        "help replay",
        "run --help",
        "-help",
        "replay -h",
        "flows --help",
        "-i x --help",
    ] {
        let said = line(words);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{words}: {said:?}");
        assert!(said.out.contains("Usage: wherefore"), "{words}: {said:?}");
        assert!(said.out.lines().all(|line| line.chars().count() <= 100), "{words}: wider than 100 columns");
    }
    for words in ["--version", "-V", "flows --version", "-version"] {
        let said = line(words);
        assert!(said.code == 0 && said.out.starts_with("wherefore"), "{words}: {said:?}");
    }
}

/// The reference and the help name the same flags.
#[test]
fn the_reference_has_every_flag_of_the_help_and_no_other() {
    let page = text(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/command-line.md"));
    let flags = |text: &str| -> BTreeSet<String> {
        let name = |part: &str| {
            let end = part.find(|c: char| !c.is_ascii_lowercase() && c != '-').unwrap_or(part.len());
            part[..end].to_owned()
        };
        text.split("--").skip(1).map(name).filter(|name| name.len() > 1).collect()
    };
    let rows: String = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" | ").next())
        .filter(|cell| cell.contains("`-"))
        .collect();
    let mut helped = BTreeSet::new();
    for command in
        ["run", "replay", "flows", "score", "tune", "interfaces", "doctor", "selftest", "check-config"]
    {
        let help = line(&format!("{command} --help")).out;
        let heads =
            help.lines().map(str::trim_start).filter(|line| line.starts_with('-') && !line.starts_with("- "));
        helped.extend(heads.flat_map(flags));
    }
    let mut documented = flags(&rows);
    assert!(documented.remove("archive-dir"), "documented, though the help hides it");
    assert_eq!(documented, helped);
}

#[test]
fn colour_only_where_it_was_asked_for() {
    let folder = Folder::new();
    let file = capture(&folder, 10);
    for words in [
        format!("replay {file}"),
        format!("replay {file} -f tcp -v"),
        "doctor".to_owned(),
        format!("flows {file}"),
    ] {
        for (flag, no_color, coloured) in [
            ("", None, false),
            ("--color auto", Some("1"), false),
            ("--color never", None, false),
            ("--color always", Some("1"), !words.starts_with("flows")),
        ] {
            let line = format!("{words} {flag}");
            let mut colour = command(&line.split_whitespace().collect::<Vec<_>>());
            colour.envs(no_color.map(|value| ("NO_COLOR", value)));
            let said = finish(colour, &[]);
            assert_eq!((said.out + &said.err).contains('\u{1b}'), coloured, "{line}");
        }
    }
}

/// `wherefore flows FILE | head -1` and its like end quietly, as if all had been read.
#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let folder = Folder::new();
    // More than a pipe holds, so that the writer meets the closed end.
    let file = capture(&folder, 2000);
    for words in [
        format!("flows {file} --format json"),
        format!("flows {file} --format jsonl"),
        format!("flows {file} --top 100000"),
        // Methods that are never calm: an alert for every flow of the only interval.
        format!(
            "replay {file} --format json --anom-methods fence --min-bytes 0 --min-history 1 --min-factor 0 --level flow"
        ),
        format!(
            "replay {file} --anom-methods fence --min-bytes 0 --min-history 1 --min-factor 0 --level flow"
        ),
    ] {
        let mut writer = command(&words.split_whitespace().collect::<Vec<_>>())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let mut first = [0];
        let mut reader = BufReader::with_capacity(1, writer.stdout.take().expect("piped"));
        assert!(!reader.fill_buf().expect("readable").is_empty(), "{words}");
        first.copy_from_slice(reader.buffer());
        drop(reader);
        let ended = writer.wait_with_output().expect("ended");
        let err = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(0), "{words}: {err}");
        assert!(!err.to_lowercase().contains("pipe") && !err.contains("panic"), "{words}: {err}");
    }
}

/// What goes to standard error is for people. If nobody is there, the work goes on.
#[test]
fn a_lost_standard_error_changes_nothing() {
    let folder = Folder::new();
    let file = capture(&folder, 10);
    for words in [
        format!("replay {file} -v --format json"),
        format!("flows {file} -filter_src -filter_ip_CIDR 192.0.2.0/24"),
        format!("replay {NO_FILE}"),
    ] {
        let words: Vec<_> = words.split_whitespace().collect();
        let mut lost = command(&words);
        lost.stdout(Stdio::piped()).stderr(File::create("/dev/full").expect("/dev/full"));
        let ended = lost.spawn().and_then(std::process::Child::wait_with_output).expect("ended");
        let said = say(&words);
        assert_eq!(ended.status.code(), Some(said.code), "{words:?}");
        assert_eq!(String::from_utf8_lossy(&ended.stdout), said.out, "{words:?}");
    }
    let said = line(&format!("flows {file} -filter_src -filter_ip_CIDR 192.0.2.0/24"));
    assert!(said.err.contains("note: -filter_ip_CIDR, now --include-src 192.0.2.0/24"), "{said:?}");
    assert_eq!(line(&format!("flows {file} -qq -filter_src -filter_ip_CIDR 192.0.2.0/24")).err, "");
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let folder = Folder::new();
    let file = capture(&folder, 10);
    for words in [
        format!("flows {file} --format json"),
        format!("replay {file}"),
        format!("replay {file} --format csv"),
    ] {
        let mut full = command(&words.split_whitespace().collect::<Vec<_>>());
        full.stdout(File::create("/dev/full").expect("/dev/full")).stderr(Stdio::piped());
        let ended = full.spawn().and_then(std::process::Child::wait_with_output).expect("ended");
        let err = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{words}: {err}");
        assert!(err.contains("cannot write to standard output"), "{words}: {err}");
    }
}
