//! Packets that offload has merged: marked where their sizes are not known, exact where they are.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use nix::sys::signal::Signal;
use serde_json::Value;
use wherefore::backend::{Backend, Choice, Hook, live};
use wherefore_common::Direction;
use wherefore_tests::{
    Netns, PATIENCE,
    agent::Stream,
    capture::{self, MICROSECONDS, Writer},
    cli::{Folder, line},
    pair::{FAR, NEAR, far, namespace, segment, settings, socket},
    require_bpf, require_root, run_agent, wait_until,
};

/// A super-frame of ten datagrams and a half.
const PORT: u16 = 3000;
const DATA: usize = 10_500;
const EACH: i32 = 1000;

fn start(choice: Choice, hook: Hook) -> Box<dyn Backend> {
    live::start(choice, "asked for", &settings(hook)).unwrap()
}

/// Sends one super-frame.
fn send() {
    let socket = socket().unwrap();
    segment(&socket, EACH).unwrap();
    socket.send_to(&[0; DATA], far(PORT)).unwrap();
}

/// Packets, IP bytes and estimated packets of the flow one way; all that come until it is there.
fn counted(backend: &mut dyn Backend, direction: Direction) -> [u64; 3] {
    let mut found = None;
    wait_until("the flow", PATIENCE, || {
        let snapshot = backend.poll().unwrap().unwrap_or_default();
        let flow = snapshot.flows.iter().find(|flow| flow.key.dport == PORT && flow.direction() == direction);
        found = flow.map(|flow| {
            assert!(snapshot.estimated() >= flow.counters.estimated);
            [flow.counters.packets, flow.counters.ip_bytes, flow.counters.estimated]
        });
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn libpcap_marks_what_is_larger_than_the_mtu_and_the_kernel_programs_know_better() {
    if !require_root() {
        return;
    }
    let merged = (DATA + 28) as u64;
    namespace().run(|| {
        for way in [Direction::Egress, Direction::Ingress] {
            let mut backend = start(Choice::Pcap, Hook::Tc);
            send();
            assert_eq!(counted(backend.as_mut(), way), [1, merged, 1], "{way:?}");
        }
        if require_bpf() {
            let exact = [11, merged + 10 * 28, 0];
            for (hook, way, expected) in [
                (Hook::Tc, Direction::Egress, exact),
                (Hook::Tc, Direction::Ingress, exact),
                (Hook::XdpGeneric, Direction::Egress, exact),
                (Hook::XdpGeneric, Direction::Ingress, [1, merged, 1]),
            ] {
                let mut backend = start(Choice::Ebpf, hook);
                send();
                assert_eq!(counted(backend.as_mut(), way), expected, "{hook:?} {way:?}");
            }
        }
    });
}

/// What fits is one packet; what no longer fits is not.
#[test]
fn the_mtu_is_asked_for_again_after_every_interval() {
    if !require_root() {
        return;
    }
    let netns = namespace();
    netns.ip(&format!("link set {NEAR} mtu 9000"));
    netns.ip(&format!("link set {FAR} mtu 9000"));
    let mut backend = netns.run(|| start(Choice::Pcap, Hook::Tc));
    let send = || {
        netns.run(|| {
            let socket = socket().unwrap();
            socket.send_to(&[0; 8000], far(PORT)).unwrap();
        });
    };
    send();
    assert_eq!(counted(backend.as_mut(), Direction::Egress), [1, 8028, 0]);
    // The device takes what is larger than its MTU only from a packet that it is to cut.
    netns.ip(&format!("link set {NEAR} mtu 1500"));
    backend.poll().unwrap();
    netns.run(self::send);
    assert_eq!(counted(backend.as_mut(), Direction::Egress)[2], 1);
    netns.ip(&format!("link set {NEAR} mtu 15000"));
    backend.poll().unwrap();
    netns.run(self::send);
    assert_eq!(counted(backend.as_mut(), Direction::Egress)[2], 0);
}

/// A capture file does not say the MTU: what is larger than jumbo frames is marked, and nothing else.
#[test]
fn a_capture_marks_what_is_larger_than_any_jumbo_frame() {
    let folder = Folder::new();
    // To 198.51.100.1 from a host for each case; the file states lengths, and holds the headers only.
    let cases = [
        (1, 9_216, 9_216, false),
        (2, 9_217, 9_217, false),
        (3, 65_535, 65_535, true),
        (4, 0, 80_046, false),
    ];
    let mut writer = Writer::new(false);
    writer.pcap_header(MICROSECONDS);
    for (host, stated, ip_bytes, loopback) in cases {
        let mut frame = capture::frame(host);
        frame[16..18].copy_from_slice(&u16::to_be_bytes(stated));
        if loopback {
            frame[..12].fill(0);
        }
        writer.u32(1).u32(0).u32(46).u32(ip_bytes + 14).raw(&frame);
    }
    let said = line(&format!("flows {} --format csv", folder.file("a.pcap", &writer.bytes)));
    let mut marks: Vec<_> =
        said.out.lines().skip(1).filter_map(|row| Some((&row[..9], row.rsplit_once(',')?.1))).collect();
    marks.sort_unstable();
    let expected = [("192.0.2.1", "0"), ("192.0.2.2", "1"), ("192.0.2.3", "0"), ("192.0.2.4", "1")];
    assert_eq!(marks, expected, "{said:?}");
    assert_eq!(
        said.err.matches("the capture has packets that offload has merged (a.pcap)").count(),
        1,
        "{said:?}"
    );
}

/// `flows` in a form, with one super-frame sent while it counts.
fn flows(netns: &Netns, form: &str) -> wherefore_tests::agent::Ended {
    let arguments = ["flows", "-i", NEAR, "--backend", "pcap", "--for", "1s", "--format", form];
    let mut agent = run_agent(Some(netns), &arguments);
    agent.wait_for_line(Stream::Err, PATIENCE, |line| line.contains("watching va"));
    netns.run(send);
    agent.wait(PATIENCE)
}

#[test]
fn every_output_says_what_is_estimated() {
    if !require_root() {
        return;
    }
    let netns = namespace();
    let json = flows(&netns, "json");
    let report: Value = serde_json::from_str(&json.stdout[0]).unwrap();
    assert_eq!((&report["estimated"], &report["flows"][0]["estimated"]), (&1.into(), &1.into()), "{report}");
    let told =
        json.stderr.iter().filter(|line| line.contains("libpcap sees packets that offload has merged (va)"));
    assert_eq!(told.count(), 1, "{json:?}");
    assert!(
        json.stderr.iter().any(|line| line.contains("--backend ebpf") && line.contains("ethtool -K va "))
    );

    let csv = flows(&netns, "csv").stdout;
    assert!(csv[0].ends_with(",last,estimated") && csv[1].ends_with(",1"), "{csv:?}");
    let table = flows(&netns, "table").stdout;
    assert!(table.iter().any(|line| line.contains("192.0.2.2:3000") && line.contains(" ~1 ")), "{table:?}");
    assert!(
        table.iter().any(|line| line.starts_with("~ ") && line.contains("1 packet was merged")),
        "{table:?}"
    );

    let mut run = run_agent(Some(&netns), &["run", "-i", NEAR, "--backend", "pcap", "--interval", "100ms"]);
    run.wait_for_line(Stream::Out, PATIENCE, |line| line.contains("watching va"));
    for _ in 0..2 {
        netns.run(send);
        run.wait_for_line(Stream::Out, PATIENCE, |line| line.contains(" · estimated: 1"));
    }
    run.signal(Signal::SIGTERM);
    let ended = run.wait(PATIENCE);
    let lines = |words: &str| ended.stdout.iter().filter(|line| line.contains(words)).count();
    assert_eq!(lines("WARN libpcap sees packets"), 1, "{ended:?}");
    assert_eq!(lines("2 packets estimated: "), 1, "{ended:?}");
}
