//! `wherefore tune` through the binary: what it proposes is what then alerts so often.

use std::fmt::Write as _;

use wherefore_tests::{
    Random,
    capture::pcap_of,
    cli::{Folder, Said, line, say},
    incident::{calm, incident},
};

/// Noise with a burst every two days, 5 minutes apart.
fn series(days: u64) -> String {
    let mut random = Random::new(7);
    let mut text = "timestamp,value\n".to_owned();
    for i in 0..days * 288 {
        let burst = if i > 1000 && i % 576 == 0 { 50_000 } else { 0 };
        let _ = writeln!(text, "{},{}", 1_700_000_000 + i * 300, 1000 + random.below(100) + burst);
    }
    text
}

/// The table's rows: proposed or not, setting, alerts.
fn table(said: &Said) -> Vec<(bool, f64, usize)> {
    let rule = said.out.lines().position(|line| line.starts_with('─')).expect("a table");
    let row = |line: &str| {
        let fields: Vec<_> = line.trim_start_matches('→').split_whitespace().map(str::to_owned).collect();
        (line.starts_with('→'), fields[0].parse().expect("a setting"), fields[1].parse().expect("a count"))
    };
    said.out.lines().skip(rule + 1).take_while(|line| !line.is_empty()).map(row).collect()
}

/// The lines of alerts at the proposed setting.
fn told(said: &Said) -> Vec<&str> {
    let listed = said.out.split_once("would have alerted on:").map_or("", |(_, rest)| rest);
    listed.lines().skip(1).take_while(|line| !line.is_empty()).map(str::trim).collect()
}

/// The flags that are proposed.
fn flags(said: &Said) -> &str {
    said.out.lines().find_map(|line| line.trim().strip_prefix("wherefore run ")).expect("a command line")
}

#[test]
fn what_is_proposed_for_a_series_is_what_score_then_tells() {
    let folder = Folder::new();
    let file = folder.file("a.csv", series(20).as_bytes());
    for (detector, setting) in
        [("auto", "--alerts-per-day"), ("anomalyzer --anom-gv-cap 30", "--alert-threshold")]
    {
        let said = line(&format!("tune {file} --detector {detector} --alerts-per-day 1"));
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
        assert!(said.out.starts_with("1 series, 19d 23h 55m; wanted: 1 alert a day\n"), "{said:?}");
        let rows = table(&said);
        let proposed: Vec<_> = rows.iter().filter(|row| row.0).collect();
        let [(_, value, alerts)] = proposed[..] else { panic!("{said:?}") };
        assert!(*alerts <= 20, "{said:?}");
        assert_eq!(told(&said).len(), *alerts);
        assert!(flags(&said).contains(&format!("{setting} {value}")), "{said:?}");
        assert!(said.out.contains(&format!("  {} = {value}\n", setting[2..].replace('-', "_"))), "{said:?}");
        // Each row is what the detector does with that setting.
        for (_, value, alerts) in &rows {
            let scored = line(&format!("score {file} --detector {detector} {setting} {value}"));
            let raised: Vec<_> = scored.out.lines().filter(|line| line.ends_with(",1")).collect();
            assert_eq!(raised.len(), *alerts, "{setting} {value}");
        }
    }
}

#[test]
fn a_short_file_is_said_to_be_one() {
    let folder = Folder::new();
    let file = folder.file("a.csv", series(2).as_bytes());
    let said = line(&format!("tune {file} --alerts-per-day 1"));
    assert!(
        said.out.contains("note: this is too short to tell 1 alert a day, for which it takes 3d"),
        "{said:?}"
    );
    let long = folder.file("b.csv", series(20).as_bytes());
    let both = say(&["tune", &file, &long, "--alerts-per-day", "1"]);
    assert!(both.out.starts_with("2 series, 21d") && !both.out.contains("note:"), "{both:?}");
}

#[test]
fn a_capture_is_replayed_at_each_setting() {
    let folder = Folder::new();
    let burst = folder.file("burst", &pcap_of(&incident()));
    let quiet = folder.file("quiet", &pcap_of(&calm(0..100)));
    let said = line(&format!("tune {burst} --detector anomalyzer --alerts-per-day 1"));
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    assert!(
        said.out.starts_with("1 capture, 55 s; wanted: 1 alert a day\nnote: this is too short"),
        "{said:?}"
    );
    let [alert] = told(&said)[..] else { panic!("{said:?}") };
    assert!(alert.contains("192.0.2.1 sent 1 MB to 198.51.100.9 in 5 s"), "{alert}");
    for (_, value, alerts) in table(&said) {
        let flags = format!("--detector anomalyzer --alert-threshold {value} --format jsonl");
        let replayed = line(&format!("replay {burst} {flags}"));
        assert_eq!(replayed.out.lines().count(), alerts, "{value}");
    }
    let said = say(&["tune", &quiet, "--detector", "anomalyzer"]);
    assert!(said.out.contains("--alert-threshold 0.9 would have alerted on nothing"), "{said:?}");
    assert_eq!(line(&format!("replay {burst} {}", flags(&said))).code, 0);
}

#[test]
fn what_no_threshold_holds_back_is_held_back_by_its_volume() {
    let folder = Folder::new();
    let file = folder.file("a.pcap", &pcap_of(&[incident(), calm(11..40)].concat()));
    // Two alerts, and one is the most for so short a capture: fence says 1 of everything.
    let fence = "--detector anomalyzer --anom-methods fence --min-factor 0 --min-history 1 --min-bytes 0 --level pair";
    let said = line(&format!("tune {file} {fence} --cooldown 0s"));
    assert_eq!(said.code, 2, "the cooldown is not a setting of it: {said:?}");
    let two = [
        incident(),
        calm(0..10).into_iter().map(|packet| wherefore_tests::capture::Packet { src: 2, ..packet }).collect(),
    ];
    let file = folder.file("b.pcap", &pcap_of(&two.concat()));
    let said = line(&format!("tune {file} {fence}"));
    assert!(flags(&said).contains("--min-bytes"), "{said:?}");
    assert_eq!(told(&said).len(), 1, "{said:?}");
}

#[test]
fn what_cannot_be_tuned_on_is_refused() {
    let folder = Folder::new();
    let csv = folder.file("a.csv", b"timestamp,value\n1,2\nx,3\n2,3\n");
    let pcap = folder.file("a.pcap", &pcap_of(&calm(0..3)));
    let both = say(&["tune", &csv, &pcap]);
    assert!(both.code == 78 && both.err.contains("both captures and series"), "{both:?}");
    let stdin = say(&["tune", "-"]);
    assert!(stdin.code == 2 && stdin.err.contains("FILE -"), "{stdin:?}");
    let missing = say(&["tune", "/nonexistent/a.csv"]);
    assert_eq!(missing.code, 66, "{missing:?}");
    let malformed = say(&["tune", &csv]);
    assert!(malformed.code == 1 && malformed.err.contains("a.csv:3: column 1"), "{malformed:?}");
    assert!(malformed.out.contains("1 series, 1 s"), "{malformed:?}");
    let wish = say(&["tune", &csv, "--alerts-per-day", "0"]);
    assert_eq!(wish.code, 2, "{wish:?}");
}
