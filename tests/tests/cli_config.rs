//! The configuration file as people meet it: found, checked, refused, and beside flags.

use wherefore_tests::{
    capture::pcap_of,
    cli::{Folder, Said, line},
    incident::{burst, calm, incident},
};

const NO_FILE: &str = "/nonexistent/file";

/// With a detector to which eleven intervals are enough.
fn replay(file: &str, config: &str, flags: &str) -> Said {
    line(&format!("replay {file} --config {config} --format json --detector anomalyzer {flags}"))
}

#[test]
fn everything_wrong_is_told_at_once_by_every_command_that_reads_it() {
    let folder = Folder::new();
    let text =
        b"[capture]\ninterval = \"50ms\"\nsnaplen = 5\n\n[detection]\nmin_byte = 5\nanom_n_seasons = 3\n\n\
                 [[rule]]\nname = \"a\"\ncondition = 'rate > 1 GB for 10s'\n";
    let config = folder.file("f.toml", text);
    let told =
        |lines: &[&str]| -> String { lines.iter().map(|line| format!("error: {config}:{line}\n")).collect() };
    // What is no value at all is told before what is out of its range.
    let first = told(&[
        "6:1: unknown key \"min_byte\"; did you mean \"min_bytes\"?",
        "11:21: a rate is bytes a second, as in 1 GB/s",
    ]);
    for words in [
        format!("check-config {config}"),
        format!("replay {NO_FILE} --config {config}"),
        format!("run -i wf-missing0 --config={config}"),
    ] {
        let said = line(&words);
        assert_eq!((said.code, said.out.as_str(), said.err), (78, "", first.clone()), "{words}");
    }
    let text = String::from_utf8_lossy(text).replace("min_byte ", "min_bytes ").replace("GB for", "GB/s for");
    let config = folder.file("f.toml", text.as_bytes());
    let said = line(&format!("check-config {config}"));
    let second = told(&[
        "2:12: interval 50 ms: allowed is 100 ms to 1 d",
        "3:11: snaplen 5: allowed is 64 to 262144",
        "7:18: ",
    ]);
    assert!(said.code == 78 && said.err.starts_with(second.trim_end()), "{said:?}");
    assert!(said.err.contains("anom_n_seasons") && !said.err.contains("--anom"), "{said:?}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = Folder::new();
    let binary = folder.file("binary", &[0xff, 0xfe, 0]);
    for (words, file, reason) in [
        (format!("check-config {NO_FILE}"), NO_FILE, "No such file"),
        (format!("replay {NO_FILE} --config {NO_FILE}.toml"), "/nonexistent/file.toml", "No such file"),
        (format!("check-config {binary}"), &binary, "UTF-8"),
    ] {
        let said = line(&words);
        assert_eq!((said.code, said.out.as_str()), (78, ""), "{said:?}");
        assert!(said.err.contains(file) && said.err.contains(reason), "{said:?}");
    }
}

#[test]
fn the_file_is_below_the_flags_and_above_the_defaults() {
    let folder = Folder::new();
    let capture = folder.file("a.pcap", &pcap_of(&incident()));
    let alerts = |config: &str, flags: &str| {
        let said = replay(&capture, &folder.file("f.toml", config.as_bytes()), flags);
        assert_eq!(said.code, 0, "{said:?}");
        said.out.lines().count()
    };
    assert_eq!(alerts("", ""), 1);
    assert_eq!(alerts("[detection]\nmin_bytes = \"1GB\"\n", ""), 0);
    assert_eq!(alerts("[detection]\nmin_bytes = \"1GB\"\n", "--min-bytes 200kB"), 1);
    // A list is replaced, not added to; what only a live host has does not concern a capture.
    let config =
        "[capture]\ninclude = [\"203.0.113.0/24\", \"2001:db8::/32\"]\nbackend = \"pcap\"\nstacked = true\n";
    assert_eq!(alerts(config, ""), 0);
    assert_eq!(alerts(config, "--include 192.0.2.0/24"), 1);
    // No log and no webhook of this host for a capture.
    let logs = folder.path("logs");
    assert_eq!(alerts(&format!("[alerts]\nlog_dir = {logs:?}\nslack_url_file = \"{NO_FILE}\"\n"), ""), 1);
    assert!(!logs.exists());
}

#[test]
fn a_rule_is_broken_beside_what_the_detector_finds() {
    let folder = Folder::new();
    // An interval that the capture's end cuts short breaks no rate.
    let whole = [calm(0..10), burst(10), calm(11..12)].concat();
    let capture = folder.file("a.pcap", &pcap_of(&whole));
    let config = folder.file(
        "f.toml",
        b"[[rule]]\nname = 'lab'\ncondition = 'rate > 100 kB/s'\nmatch = { remote = '198.51.100.0/24' }\n",
    );
    let said = replay(&capture, &config, "--fail-on-alert");
    assert_eq!(said.code, 10, "{said:?}");
    let alerts: Vec<serde_json::Value> = said
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let [rule, detector] = &alerts[..] else { panic!("two alerts: {alerts:?}") };
    assert_eq!(rule["summary"], "rule \"lab\": 200 kB/s for 5 s to 198.51.100.0/24, allowed is 100 kB/s");
    assert_eq!((&rule["rule"]["name"], &rule["msg"]), (&"lab".into(), &"Rule broken".into()));
    assert_eq!((&detector["rule"], &detector["time"]), (&serde_json::Value::Null, &rule["time"]));
}

#[test]
fn overrides_change_what_the_detector_says_of_what_they_match() {
    let folder = Folder::new();
    let capture = folder.file("a.pcap", &pcap_of(&incident()));
    // The burst is 1 MB from 192.0.2.1.
    for (entries, flags, expected) in [
        ("match = { local = '192.0.2.1' }\nignore = true", "", 0),
        ("match = { local = '192.0.2.2' }\nignore = true", "", 1),
        ("match = { port = 53, proto = 'udp' }\nignore = true", "", 0),
        ("match = { local = '192.0.2.1' }\nmin_bytes = '2MB'", "", 0),
        ("match = { prefix = '198.51.100.0/24' }\nmin_bytes = '500kB'", "--min-bytes 2MB", 1),
        ("match = { interface = 'eth*' }\nmin_bytes = '500kB'", "--min-bytes 2MB", 0),
        (
            "match = { local = '192.0.2.1' }\nmin_bytes = '1kB'\n[[override]]\nmatch = {}\nmin_bytes = '1GB'",
            "",
            1,
        ),
    ] {
        let config = folder.file("f.toml", format!("[[override]]\n{entries}\n").as_bytes());
        let said = replay(&capture, &config, flags);
        assert_eq!((said.code, said.out.lines().count()), (0, expected), "{entries}: {said:?}");
    }
}

#[test]
fn contradictions_between_file_and_flags_are_at_the_files_place() {
    let folder = Folder::new();
    let config = folder.file("f.toml", b"[detection]\nmin_history = 31\n");
    let said = replay(NO_FILE, &config, "--anom-gv-cap 30");
    assert_eq!(said.code, 78, "{said:?}");
    assert!(said.err.starts_with(&format!("error: {config}:2:15: min_history 31: only 30")), "{said:?}");
    let said = replay(NO_FILE, &config, "--anom-gv-cap 40");
    assert_eq!(said.code, 66, "{said:?}");
    // A rule may become impossible by a flag.
    let config = folder.file("f.toml", b"[[rule]]\nname = 'a'\ncondition = 'flows > 5 for 10s'\n");
    assert_eq!(replay(NO_FILE, &config, "").code, 66);
    let said = replay(NO_FILE, &config, "--interval 1m");
    assert!(said.code == 78 && said.err.contains("10 s is shorter than an interval, 1 min"), "{said:?}");
}

#[test]
fn a_good_file_is_summed_up() {
    let folder = Folder::new();
    let config = folder.file(
        "f.toml",
        b"[detection]\nmin_bytes = \"200kB\"\n[alerts]\nslack_url = \"https://hooks.example/secret\"\n\
          [[rule]]\nname = \"backup-only\"\ncondition = 'rate > \"1 GB/s\" for \"10s\"'\nby = \"net\"\n\
          match = { remote = \"198.51.100.0/24\", port = [443, \"8000-8999\"], proto = 'tcp' }\n\
          [[override]]\nmatch = { prefix = '192.0.2.7' }\nignore = true\n",
    );
    let said = line(&format!("check-config {config}"));
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_eq!(
        said.out,
        format!(
            "{config}: 2 settings, 1 rule, 1 override; the rest is as by default\n  \
             detection.min_bytes = 200kB\n  alerts.slack_url = <hidden>\n  \
             rule \"backup-only\" (warning): rate > 1 GB/s for 10s, by net, where remote 198.51.100.0/24, \
             port 443 or 8000-8999, proto tcp\n  \
             override (ignore), where prefix 192.0.2.7/32\n"
        )
    );
}

/// The file that `--default` prints, and the same with all keys, fit the schema that `--schema` prints; wrong ones do
/// not.
#[test]
fn the_schema_takes_what_the_reader_takes() {
    let schema: serde_json::Value =
        serde_json::from_str(&line("check-config --schema").out).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let validator = jsonschema::draft202012::new(&schema).unwrap_or_else(|error| panic!("{error}"));
    let text = line("check-config --default").out;
    let key = |line: &&str| line.starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
    let all: Vec<&str> =
        text.lines().map(|line| line.strip_prefix('#').filter(key).unwrap_or(line)).collect();
    let folder = Folder::new();
    let both = |text: &str| {
        let config = folder.file("f.toml", text.as_bytes());
        let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("{error}: {text}"));
        let value = serde_json::to_value(table).unwrap_or_else(|error| panic!("{error}"));
        let faults: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        (faults, line(&format!("check-config {config}")).code)
    };
    assert_eq!(both(&text), (vec![], 0));
    let (faults, _) = both(&all.join("\n"));
    assert_eq!(faults, Vec::<String>::new());
    for wrong in [
        "[detection]\nmin_byte = 5",
        "[capture]\nbackend = 'nf'",
        "[capture]\nstacked = 1",
        "[series]\nmax_series = -1",
        "interval = '5s'",
        "[[rule]]\nname = 'a'",
        "[[rule]]\nname = ''\ncondition = 'flows > 5'",
        "[[rule]]\nname = 'a'\ncondition = 'flows > 5'\nseverity = 'bad'",
        "[[rule]]\nname = 'a'\ncondition = 'flows > 5'\nmatch = { prefx = '192.0.2.0/24' }",
        "[[rule]]\nname = 'a'\ncondition = 'flows > 5'\nmatch = { proto = [] }",
        "[[override]]\nignore = true",
    ] {
        let (faults, code) = both(wrong);
        assert!(!faults.is_empty() && code == 78, "{wrong}: {faults:?} {code}");
    }
}

#[test]
fn what_is_printed_excludes_each_other() {
    for words in ["check-config --schema --default", "check-config --schema f", "check-config f g"] {
        assert_eq!(line(words).code, 2, "{words}");
    }
}
