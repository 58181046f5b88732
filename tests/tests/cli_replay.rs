//! `wherefore replay` through the binary, on made captures: who is told of what, and when.

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;
use wherefore_tests::{
    Agent, Answer, HttpServer, PATIENCE, Random,
    agent::{Stream, binary},
    capture::{Packet, pcap_of},
    cli::{Folder, command, finish, line, text},
    incident::{alerts, burst, calm, incident, packets, replay},
};

#[test]
fn one_burst_is_one_alert_and_calm_is_none() {
    let folder = Folder::new();
    let incident = folder.file("incident.pcap", &pcap_of(&incident()));
    let calm = folder.file("calm.pcap", &pcap_of(&calm(0..100)));
    let [alert] = &alerts(&incident, "")[..] else { panic!("one alert") };
    assert_eq!(alert["summary"], "192.0.2.1 sent 1 MB to 198.51.100.9 in 5 s (200 kB/s), usually 10 kB");
    assert_eq!((&alert["src"], &alert["dst"]), (&"192.0.2.1".into(), &"198.51.100.9".into()));
    assert_eq!((alert["bytes"].as_u64(), alert["unit"].as_str()), (Some(1_000_000), Some("ip")));
    assert_eq!(alert["time"], "2023-11-14T22:14:15.000000000Z");
    assert_eq!(alerts(&calm, ""), [Value::Null; 0]);
    for (file, flags, code) in
        [(&incident, "", 0), (&incident, "--fail-on-alert", 10), (&calm, "--fail-on-alert", 0)]
    {
        assert_eq!(replay(file, flags).code, code, "{file} {flags}");
    }
    // The original's way to name a capture.
    let legacy = line(&format!("-pcapfile={incident} --detector=anomalyzer"));
    assert_eq!((legacy.code, legacy.out), (0, replay(&incident, "").out));
}

/// 80 hosts whose traffic goes up and down threefold, each far above the smallest volume that may alert: nobody
/// is told in an hour of that, and each host once when it sends a hundred times as much.
#[test]
fn noise_does_not_hide_bursts_nor_make_alerts() {
    const INTERVALS: u64 = 720;
    let folder = Folder::new();
    let mut random = Random::new(5);
    let mut noisy = Vec::new();
    for interval in 0..INTERVALS {
        for host in 1..=80 {
            let packet = packets(host, interval, 1, 1).map(|packet| Packet {
                time: packet.time + u64::from(host) * 10_000,
                ip_bytes: 20_000 + random.below(40_000) as u16,
                ..packet
            });
            noisy.extend(packet.flat_map(|packet| std::iter::repeat_n(packet, 10)));
        }
    }
    let calm = folder.file("calm.pcap", &pcap_of(&noisy));
    assert_eq!(alerts(&calm, ""), [Value::Null; 0]);
    for host in 1..=80 {
        let big = packets(host, INTERVALS, 1000, 1).map(|packet| Packet { ip_bytes: 40_000, ..packet });
        noisy.extend(big);
    }
    let bursts = folder.file("bursts.pcap", &pcap_of(&noisy));
    let alerts = alerts(&bursts, "");
    let hosts: BTreeSet<_> = alerts.iter().map(|alert| alert["src"].to_string()).collect();
    assert_eq!((alerts.len(), hosts.len()), (80, 80));
}

#[test]
fn a_gap_of_years_is_crossed_at_once() {
    const GAP: u64 = 100_000_000;
    let folder = Folder::new();
    let around = [calm(0..10), calm(GAP..GAP + 10), burst(GAP + 10)].concat();
    let file = folder.file("a.pcap", &pcap_of(&around));
    let [alert] = &alerts(&file, "")[..] else { panic!("one alert") };
    assert_eq!(alert["time"], "2039-09-18T23:07:35.000000000Z");
    assert!(replay(&file, "").out.contains("100,000,011 intervals in 5787d"));
    // Silence is not calm: what comes after it has nothing to be held against.
    let after = folder.file("b.pcap", &pcap_of(&[calm(0..10), burst(GAP)].concat()));
    assert_eq!(alerts(&after, ""), [Value::Null; 0]);
}

#[test]
fn a_capture_too_short_for_any_alert_says_what_it_would_take() {
    let folder = Folder::new();
    let words = "too short to judge anything: 10 intervals of 5 s are needed, 50 s in all";
    let says = |intervals: u64, flags: &str| {
        let name = format!("{intervals}.pcap");
        replay(&folder.file(&name, &pcap_of(&calm(0..intervals))), flags).out.contains(words)
    };
    assert!(says(9, ""));
    assert!(!says(10, "") && !says(9, "--min-history 9") && !says(9, "--interval 4s"));
}

#[test]
fn the_cooldown_runs_by_the_files_clock() {
    let folder = Folder::new();
    // The second burst comes 200 s later, when the first is out of the series' memory of 30 intervals.
    let twice = [calm(0..10), burst(10), calm(11..50), burst(50), calm(51..53)].concat();
    let file = folder.file("a.pcap", &pcap_of(&twice));
    for (cooldown, count) in [("10m", 1), ("201s", 1), ("200s", 2), ("1m", 2), ("0", 2)] {
        let flags = format!("--cooldown {cooldown}");
        assert_eq!(alerts(&file, &flags).len(), count, "{flags}");
    }
}

#[test]
fn every_form_holds_the_same_alert_and_comes_out_the_same_twice() {
    let folder = Folder::new();
    let file = folder.file("a.pcap", &pcap_of(&incident()));
    let [alert] = &alerts(&file, "")[..] else { panic!("one alert") };
    let json = replay(&file, "--format json").out;
    for form in ["table", "json", "jsonl", "csv"] {
        let flags = format!("--format {form}");
        let first = replay(&file, &flags);
        assert_eq!(first.out, replay(&file, &flags).out, "{form}");
        assert!(first.err.contains("reading"), "the log goes to standard error: {first:?}");
        match form {
            "table" => {
                let mut lines = first.out.lines();
                let first = lines.next().expect("sentence");
                assert!(first.ends_with(alert["summary"].as_str().expect("summary")), "{first}");
                let last = lines.next_back().expect("closing line");
                assert_eq!(
                    last,
                    "11 intervals in 55 s: 1,100 packets, 1,115,400 bytes on the wire (1.12 MB); 1 alert"
                );
            }
            "csv" => {
                let rows: Vec<Vec<_>> = first.out.lines().map(|line| line.split(',').collect()).collect();
                assert_eq!(rows.len(), 2, "{rows:?}");
                for (name, value) in rows[0].iter().zip(&rows[1]) {
                    let usual = name.strip_prefix("usual_").map(|which| &alert["usual"][which]);
                    let told = match usual.unwrap_or(&alert[*name]) {
                        Value::Null => String::new(),
                        Value::String(text) => text.clone(),
                        // Digit for digit, which a parsed float need not be.
                        Value::Number(_) if json.contains(&format!("\"{name}\":{value},")) => continue,
                        other => other.to_string(),
                    };
                    assert_eq!(*value, told, "{name}");
                }
                assert_eq!(rows[0].len(), rows[1].len());
            }
            _ => assert_eq!(serde_json::from_str::<Value>(&first.out).expect("an object"), *alert),
        }
    }
    let none = replay(&folder.file("b.pcap", &pcap_of(&calm(0..3))), "--format csv");
    assert_eq!(none.out.lines().count(), 1, "the header, also without alerts");
}

#[test]
fn both_logs_are_written_whatever_the_form() {
    let folder = Folder::new();
    let file = folder.file("a.pcap", &pcap_of(&incident()));
    let [alert] = &alerts(&file, "")[..] else { panic!("one alert") };
    for form in ["table", "json", "csv"] {
        let dir = folder.path(&format!("logs/{form}"));
        let said = replay(&file, &format!("-l {} --format {form}", dir.display()));
        assert_eq!(said.code, 0, "{said:?}");
        let anomalies = text(&dir.join("wherefore_anomalies.log"));
        assert_eq!(serde_json::from_str::<Value>(&anomalies).expect("an object"), *alert, "{form}");
        let log = text(&dir.join("wherefore.log"));
        assert!(log.contains("reading"), "{log}");
        assert_eq!(log.matches(alert["summary"].as_str().expect("summary")).count(), 1, "{form}: {log}");
    }
    let said = replay(&file, &format!("-l {file}"));
    assert_eq!((said.code, said.out.as_str()), (78, ""), "{said:?}");
    assert!(said.err.contains("wherefore.log"), "{said:?}");
}

#[test]
fn levels_units_and_filters() {
    let folder = Folder::new();
    // One flow of a pair bursts among steady ones.
    let steady = |interval| packets(1, interval, 10, 5).map(|packet| Packet { ports: (2000, 80), ..packet });
    let mut mixed: Vec<_> = (0..11).flat_map(steady).chain(incident()).collect();
    mixed.sort_by_key(|packet| packet.time);
    let file = folder.file("a.pcap", &pcap_of(&mixed));

    let [pair] = &alerts(&file, "")[..] else { panic!("one alert") };
    assert_eq!(pair["bytes"], 1_010_000);
    assert!(pair.get("sport").is_none_or(Value::is_null), "{pair}");
    let [flow] = &alerts(&file, "--level flow")[..] else { panic!("one alert") };
    let key = ["proto", "sport", "dport", "bytes"].map(|field| flow[field].as_u64());
    assert_eq!(key, [Some(17), Some(1000), Some(53), Some(1_000_000)]);
    let [wire] = &alerts(&file, "--bytes wire")[..] else { panic!("one alert") };
    assert_eq!((wire["bytes"].as_u64(), wire["unit"].as_str()), (Some(1_010 * 1_014), Some("wire")));

    for (flags, count) in [
        ("-f udp", 1),
        ("--expression=dst\u{20}port\u{20}53", 1),
        ("-f tcp", 0),
        ("--exclude 192.0.2.1", 0),
        ("--include-dst 198.51.100.0/24", 1),
        ("--include 2001:db8::/32", 0),
        ("--min-bytes 1010kB", 1),
        ("--min-bytes 1010001", 0),
        ("--min-history 12", 0),
        ("--min-factor 60", 0),
        ("--alert-threshold 0.999", 0),
        ("--interval 1m", 0),
    ] {
        let mut words = vec!["replay", &file, "--detector", "anomalyzer", "--format", "json"];
        match flags.split_once('=') {
            Some(_) => words.push(flags),
            None => words.extend(flags.split(' ')),
        }
        let said = wherefore_tests::cli::say(&words);
        assert_eq!((said.code, said.out.lines().count()), (0, count), "{flags}: {said:?}");
    }
    let said = replay(&file, "-f nonsense(");
    assert_eq!((said.code, said.out.as_str()), (2, ""), "{said:?}");
}

/// A webhook exported for the agent that watches must not get a capture's alerts.
#[test]
fn an_exported_webhook_is_not_told_of_a_capture() {
    let folder = Folder::new();
    let file = folder.file("incident.pcap", &pcap_of(&incident()));
    let server = HttpServer::start(Answer::code(200));
    let mut replay = command(&["replay", &file, "--detector", "anomalyzer", "--format", "json"]);
    replay.env("WHEREFORE_SLACK_URL", server.url("hook"));
    let said = finish(replay, &[]);
    assert_eq!((said.code, said.out.lines().count()), (0, 1), "{said:?}");
    assert!(!said.err.contains("Slack"), "{said:?}");
    assert_eq!(server.requests().len(), 0);
}

/// Alerts are what it is for: no level keeps them out of `wherefore.log`.
#[test]
fn the_quietest_log_holds_alerts() {
    let folder = Folder::new();
    let file = folder.file("incident.pcap", &pcap_of(&incident()));
    let logs = folder.path("logs");
    let said = replay(&file, &format!("-qq -l {}", logs.display()));
    assert_eq!(said.code, 0, "{said:?}");
    let log = text(&logs.join("wherefore.log"));
    assert_eq!(log.matches("192.0.2.1 sent 1 MB to 198.51.100.9").count(), 1, "{log}");
    assert!(!log.contains("INFO"), "{log}");
}

/// A server that never answers gets its alert, while all others are judged and told.
#[test]
fn a_hanging_slack_server_does_not_hold_up_judging() {
    let folder = Folder::new();
    let quiet = |host| (0..10).flat_map(move |interval| packets(host, interval, 10, 5));
    let mut packets: Vec<_> = (1..=50)
        .flat_map(|host| quiet(host).chain(self::packets(host, 9 + u64::from(host), 1000, 1)))
        .collect();
    packets.sort_by_key(|packet| packet.time);
    let file = folder.file("a.pcap", &pcap_of(&packets));
    let server = HttpServer::start(Answer::Hang);
    let mut slack = Command::new(binary());
    slack.args(["replay", &file, "--detector", "anomalyzer", "--format", "json"]);
    slack.args(["--slack-url", &server.url("hook")]);
    let agent = Agent::start(None, &mut slack);
    let requests = server.wait_for(1, PATIENCE);
    assert!(String::from_utf8_lossy(&requests[0].body).contains("192.0.2.1"), "{requests:?}");
    wherefore_tests::wait_until("all alerts while the server hangs", PATIENCE, || {
        agent.lines(Stream::Out).len() == 50
    });
    server.set_answer(Answer::code(200));
    server.hang_up();
    let ended = agent.wait(PATIENCE);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(ended.stdout.join("\n") + "\n", replay(&file, "--format json").out);
    assert!(ended.stderr.iter().any(|line| line.starts_with("Slack: ")), "{ended:?}");
}
