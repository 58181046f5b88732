//! `wherefore replay` on input that is in pieces, out of order, broken, or stalls.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::Stdio,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use wherefore_tests::{
    PATIENCE,
    capture::{Packet, pcap_of},
    cli::{Folder, command, finish},
    incident::{FLOW, alerts, burst, calm, incident, replay},
    wait_until,
};

#[test]
fn files_are_one_stream_in_time_order() {
    let folder = Folder::new();
    let whole = pcap_of(&incident());
    let late = folder.file("2.pcap", &pcap_of(&burst(10)));
    let early = folder.file("1.pcap", &pcap_of(&calm(0..10)));
    let [alert] = &alerts(&format!("{late} {early}"), "")[..] else { panic!("one alert") };
    assert_eq!(
        (alert["bytes"].as_u64(), alert["history"].as_array().map(Vec::len)),
        (Some(1_000_000), Some(11))
    );
    let said = finish(
        command(&["replay", "-", "--detector", "anomalyzer", "--format", "jsonl", "--fail-on-alert"]),
        &whole,
    );
    assert_eq!((said.code, said.out.lines().count()), (10, 1), "{said:?}");
}

#[test]
fn clocks_that_jump_or_run_backwards_end_quickly_and_lose_nothing() {
    let folder = Folder::new();
    let at = |seconds: u64| Packet { time: seconds * 1_000_000, src: 1, dst: 9, ports: FLOW, ip_bytes: 1000 };
    let alternating: Vec<_> = (0..2000).map(|i| at(if i % 2 == 0 { 0 } else { u32::MAX.into() })).collect();
    let mut backwards = incident();
    backwards.reverse();
    for (packets, totals) in
        [(alternating, "2,000 packets, 2,028,000 bytes"), (backwards, "1,100 packets, 1,115,400 bytes")]
    {
        let file = folder.file("a.pcap", &pcap_of(&packets));
        for flags in ["", "--interval 100ms"] {
            let said = replay(&file, flags);
            assert_eq!(said.code, 0, "{said:?}");
            assert!(said.out.contains(totals), "{said:?}");
            assert!(said.out.contains("out of time order"), "{said:?}");
        }
    }
}

#[test]
fn a_fault_comes_after_what_was_before_it() {
    let folder = Folder::new();
    let mut capture = pcap_of(&incident());
    let at = capture.len();
    capture.extend([0xff; 16]);
    let file = folder.file("a.pcap", &capture);
    for flags in ["", "--fail-on-alert"] {
        let said = replay(&file, &format!("{flags} --format json"));
        assert_eq!((said.code, said.out.lines().count()), (1, 1), "{said:?}");
        assert!(said.err.contains(&file) && said.err.contains(&format!("at byte {at}")), "{said:?}");
        let said = replay(&file, flags);
        assert_eq!(said.code, 1);
        assert!(said.out.contains("192.0.2.1 sent 1 MB") && said.out.contains("; 1 alert"), "{said:?}");
        assert!(said.err.contains(&format!("at byte {at}")), "{said:?}");
    }
    for (name, bytes) in [("empty", &b""[..]), ("text", b"no capture at all, but long enough")] {
        let said = replay(&folder.file(name, bytes), "");
        assert_eq!(said.code, 1, "{said:?}");
        assert!(
            said.err.contains("ERROR") && said.err.contains(name) && said.out.contains("0 packets"),
            "{said:?}"
        );
    }
}

/// A pipe in which nothing comes: before the capture begins, and in the middle of it. What came is told.
#[test]
fn a_signal_ends_a_replay_whose_input_stalls() {
    for (capture, alerts) in [(Vec::new(), 0), (pcap_of(&[incident(), calm(11..13)].concat()), 1)] {
        let mut replay = command(&["replay", "-", "--detector", "anomalyzer", "--format", "json"]);
        replay.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = replay.spawn().expect("a child");
        let mut pipe = child.stdin.take().expect("its standard input");
        pipe.write_all(&capture).expect("room in the pipe");
        // The first words come when signals are listened to, or the capture's beginning is there.
        let mut seen = String::new();
        if alerts > 0 {
            let out = child.stdout.as_mut().expect("its output");
            BufReader::new(out).read_line(&mut seen).expect("the alert");
        } else {
            let status = format!("/proc/{}/status", child.id());
            wait_until("a handler for SIGINT", PATIENCE, || {
                let status = std::fs::read_to_string(&status).unwrap_or_default();
                let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0");
                u64::from_str_radix(caught.trim(), 16).unwrap_or(0) & (1 << (libc::SIGINT - 1)) != 0
            });
        }
        let pid = Pid::from_raw(child.id().try_into().expect("a process id"));
        kill(pid, Signal::SIGINT).expect("a running child");
        let mut status = None;
        wait_until("the end", PATIENCE, || {
            status = child.try_wait().expect("a child");
            status.is_some()
        });
        let mut err = String::new();
        child.stderr.take().expect("its errors").read_to_string(&mut err).expect("text");
        assert_eq!(status.and_then(|status| status.code()), Some(0), "{err}");
        assert!(err.contains(&format!("{alerts} alert")), "{err}");
        assert_eq!(seen.lines().count(), alerts, "{seen}");
    }
}
