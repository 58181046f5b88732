//! `wherefore score` through the binary: the contract of its rows, what it says of bad ones, and that nothing looks ahead.

use std::{
    fmt::Write as _,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::Path,
    process::Stdio,
};

use flate2::{Compression, write::GzEncoder};
use wherefore_tests::{
    Random,
    cli::{Folder, Said, command, finish, line, say},
};

/// Detectors by name, as a wrong one is told.
fn detectors() -> Vec<String> {
    let told = line("score - --detector none").err;
    let names = told.split_once("[possible values: ").and_then(|(_, rest)| rest.split_once(']'));
    names.expect("a list").0.split(", ").map(str::to_owned).collect()
}

/// A detector, shown so little of the series that a test is fast.
fn fast(detector: &str) -> String {
    let cap = if detector == "anomalyzer" { " --anom-gv-cap 60" } else { "" };
    format!("--detector {detector}{cap}")
}

fn score(input: &str, flags: &str) -> Said {
    let words = format!("score - {flags}");
    finish(command(&words.split_whitespace().collect::<Vec<_>>()), input.as_bytes())
}

/// Score and alert of each row printed; the timestamp and value of each, too.
fn rows(said: &Said) -> Vec<(String, f64, bool)> {
    let mut lines = said.out.lines();
    assert_eq!(lines.next(), Some("timestamp,value,score,alert"));
    lines
        .map(|line| {
            let fields: Vec<_> = line.rsplitn(3, ',').collect();
            let score: f64 = fields[1].parse().expect("a score");
            assert!((0.0..=1.0).contains(&score), "{line}");
            assert_eq!(score.to_string(), fields[1], "reads back");
            (
                fields[2].to_owned(),
                score,
                match fields[0] {
                    "0" => false,
                    "1" => true,
                    other => panic!("{other}"),
                },
            )
        })
        .collect()
}

/// A noisy series of 5 minutes with one value far out.
fn series(rows: u64, out: u64) -> String {
    let mut random = Random::new(3);
    let mut text = "timestamp,value\n".to_owned();
    for i in 0..rows {
        let value = if i == out { 1e6 } else { 100.0 + random.below(1000) as f64 / 100.0 };
        let _ = writeln!(text, "{},{value}", 1_700_000_000 + i * 300);
    }
    text
}

#[test]
fn a_row_for_every_row_as_it_was_written() {
    let said =
        score("when,bytes,note\n2014-04-01 00:00:00,1.50,x\n2014-04-01T00:05:00Z,-2e3\n1396310400,7\n", "");
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    let seen: Vec<_> = rows(&said).into_iter().map(|(row, ..)| row).collect();
    assert_eq!(seen, ["2014-04-01 00:00:00,1.50", "2014-04-01T00:05:00Z,-2e3", "1396310400,7"]);
    let empty = score("t,v\n", "");
    assert_eq!(
        (empty.code, empty.out.as_str(), empty.err.as_str()),
        (0, "timestamp,value,score,alert\n", "")
    );
}

#[test]
fn malformed_rows_are_named_and_the_rest_goes_on() {
    let said = score("\u{feff}t,v\r\n1,1\r\nyesterday,2\r\n3,much\r\n4\r\n5,NaN\r\n6,6\r\n", "");
    assert_eq!(said.code, 1);
    assert_eq!(rows(&said).len(), 2, "{said:?}");
    let told: Vec<_> = said.err.lines().collect();
    assert_eq!(told.len(), 4, "{said:?}");
    for (told, start) in told.iter().zip([
        "stdin:3: column 1: \"yesterday\" is no time; give whole seconds",
        "stdin:4: column 2: \"much\" is no finite number",
        "stdin:5: there is no second column",
        "stdin:6: column 2: \"NaN\"",
    ]) {
        assert!(told.starts_with(start), "{told}");
    }
    let nothing = say(&["score", "/dev/null"]);
    assert_eq!((nothing.code, nothing.out.as_str()), (1, "timestamp,value,score,alert\n"));
    assert!(nothing.err.starts_with("/dev/null:1: the file is empty"), "{nothing:?}");
    let headless = score("1,1\n2,2\n", "");
    assert_eq!((headless.code, rows(&headless).len()), (0, 1));
    assert!(headless.err.contains("stdin:1: this looks like a row"), "{headless:?}");
}

#[test]
fn files_that_cannot_be_read_have_their_code() {
    let missing = say(&["score", "/nonexistent/series.csv"]);
    assert_eq!((missing.code, missing.out.as_str()), (66, ""), "{missing:?}");
    let folder = Folder::new();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(series(3000, 3000).as_bytes()).expect("in memory");
    let gzip = gzip.finish().expect("in memory");
    let whole = say(&["score", &folder.file("a.csv.gz", &gzip)]);
    assert_eq!((whole.code, rows(&whole).len()), (0, 3000));
    let cut = say(&["score", &folder.file("cut.csv.gz", &gzip[..gzip.len() / 2])]);
    assert!(cut.code == 1 && cut.err.contains("cannot read") && !rows(&cut).is_empty(), "{}", cut.err);
}

#[test]
fn json_is_one_array_and_jsonl_an_object_a_line() {
    let text = series(40, 35);
    let csv = rows(&score(&text, ""));
    let array = score(&text, "--format json").out;
    let lines = score(&text, "--format jsonl").out;
    for ((row, score, alert), line) in csv.iter().zip(lines.lines()) {
        let (timestamp, value) = row.split_once(',').expect("two");
        let value: f64 = value.parse().expect("a number");
        let start = format!("{{\"timestamp\":\"{timestamp}\",\"value\":{value:?},\"score\":");
        let (printed, end) = line.strip_prefix(&start).expect(&start).split_once(',').expect("more");
        assert_eq!(printed.parse(), Ok(*score), "reads back: {line}");
        assert_eq!(end, format!("\"alert\":{}}}", u8::from(*alert)));
    }
    assert_eq!(lines.lines().count(), csv.len());
    assert_eq!(array, format!("[\n{}\n]\n", lines.trim_end().replace('\n', ",\n")));
    serde_json::from_str::<serde_json::Value>(&array).expect("an array");
    assert_eq!(score("t,v\n", "--format json").out, "[]\n");
}

#[test]
fn a_value_far_out_alerts_once_with_every_detector() {
    let all = detectors();
    assert!(all.contains(&"anomalyzer".to_owned()), "{all:?}");
    for name in all {
        let found = rows(&score(&series(3000, 2500), &fast(&name)));
        let (_, out, _) = &found[2500];
        if ["auto", "anomalyzer"].contains(&name.as_str()) {
            assert!(found[2500].2, "{name}: {out}");
        }
        if name != "anomalyzer" {
            assert!(found[2501..2600].iter().all(|(_, _, alert)| !alert), "{name}: it lasts");
        }
        let calm = found.iter().filter(|(_, score, _)| score < out).count();
        assert!(calm > 2900, "{name}: only {calm} of 3000 scores are below {out}");
    }
}

/// One observation behind, and it would have been another score.
#[test]
fn the_scores_of_a_prefix_are_the_prefix_of_the_scores() {
    let mut all = vec![("generated".to_owned(), series(200, 133))];
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/anomaly/nab");
    for name in [
        "realKnownCause/ec2_request_latency_system_failure.csv",
        "realAWSCloudwatch/ec2_network_in_257a54.csv",
        "realTraffic/speed_6005.csv",
    ] {
        match std::fs::read_to_string(shared.join(name)) {
            Ok(text) => all.push((name.to_owned(), text)),
            Err(error) => eprintln!("skipped {}: {error}", shared.join(name).display()),
        }
    }
    for detector in detectors() {
        for (name, text) in &all {
            let flags = if name == "generated" { format!("--detector {detector}") } else { fast(&detector) };
            let whole = score(text, &flags).out;
            for share in [3, 10, 19] {
                let lines: Vec<_> = text.lines().collect();
                let part = lines[..lines.len() * share / 20].join("\n");
                let part = score(&part, &flags).out;
                assert!(part.lines().count() > 5, "{part}");
                assert!(whole.starts_with(&part), "{detector} {name} {share}/20");
            }
        }
    }
}

#[test]
fn only_the_anomalyzers_own_flags_apply_to_it() {
    let text = series(100, 50);
    let plain = rows(&score(&text, "--detector anomalyzer"));
    assert_eq!(
        rows(&score(&text, "--alert-threshold 0.6")),
        plain,
        "the flag chooses it, and this is its default"
    );
    let never = rows(&score(&text, "--alert-threshold 0.9999999"));
    assert!(never.iter().zip(&plain).all(|(never, plain)| never.1 == plain.1), "the scores are the same");
    let seven = rows(&score(&text, "--anom-gv-cap 7"));
    assert_eq!(seven[..7], plain[..7]);
    assert_ne!(seven, plain);
    for refused in ["--min-bytes 1", "--min-history 3", "--cooldown 1m", "--level pair"] {
        assert_eq!(score(&text, refused).code, 2, "{refused}");
    }
    assert_eq!(score(&text, "--anom-methods fence --anom-lower-bound 9 --anom-upper-bound 9").code, 78);
    for wrong in ["--alerts-per-day 0", "--alerts-per-day -1", "--alerts-per-day nan", "--alert-threshold 1"]
    {
        assert_eq!(score(&text, wrong).code, 2, "{wrong}");
    }
    // The original's spelling brings the original's settings: its gate stays shut once there are two values.
    let original = rows(&score(&text, "-anom_methods=magnitude,fence"));
    assert!(original[1..].iter().all(|(_, score, _)| *score == 0.0));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let folder = Folder::new();
    let file = folder.file("a.csv", series(20_000, 5).as_bytes());
    for format in ["csv", "json", "jsonl"] {
        let mut writer = command(&["score", &file, "--anom-gv-cap", "30", "--format", format])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let mut reader = BufReader::with_capacity(1, writer.stdout.take().expect("piped"));
        assert!(!reader.fill_buf().expect("readable").is_empty());
        drop(reader);
        let ended = writer.wait_with_output().expect("ended");
        assert_eq!(
            (ended.status.code(), String::from_utf8_lossy(&ended.stderr).as_ref()),
            (Some(0), ""),
            "{format}"
        );
    }
}

#[test]
fn rows_are_printed_as_they_come() {
    let mut child =
        command(&["score", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started");
    let (mut input, output) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    let mut lines = BufReader::new(output).lines();
    input.write_all(b"timestamp,value\n1,5\n").expect("taken");
    let two: Vec<_> = lines.by_ref().take(2).map(|line| line.expect("a line")).collect();
    assert!(two[1].starts_with("1,5,"), "{two:?}");
    drop(input);
    assert_eq!(lines.count(), 0);
    assert_eq!(child.wait().expect("ended").code(), Some(0));
}

#[test]
fn a_million_rows_take_bounded_memory() {
    let mut child = command(&["score", "-", "--anom-gv-cap", "30", "--anom-methods", "fence"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let (mut input, mut output) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    let pid = child.id();
    let peak = std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            let mut text = "timestamp,value\n".to_owned();
            for i in 0..1_000_000_u64 {
                let _ = writeln!(text, "{},{}", i * 300, i % 7);
                if text.len() > 60_000 {
                    input.write_all(text.as_bytes()).expect("taken");
                    text.clear();
                }
            }
            input.write_all(text.as_bytes()).expect("taken");
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("still running");
            drop(input);
            status
        });
        let mut bytes = vec![0; 1 << 16];
        let mut lines = 0;
        loop {
            let read = output.read(&mut bytes).expect("readable");
            if read == 0 {
                break;
            }
            lines += bytes[..read].iter().filter(|&&byte| byte == b'\n').count();
        }
        assert_eq!(lines, 1_000_001);
        writer.join().expect("written")
    });
    assert_eq!(child.wait().expect("ended").code(), Some(0));
    let peak = peak.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let kilobytes: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    println!("{kilobytes} kB at most");
    assert!(kilobytes < 64 * 1024, "{kilobytes} kB: the million values alone take 8 MB, their text 30");
}
