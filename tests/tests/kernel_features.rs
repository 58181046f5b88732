//! Each feature that a kernel may lack, taken for missing: it still counts exactly, and says so.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::net::Ipv4Addr;

use nix::sys::signal::Signal;
use wherefore::backend::ebpf::features::{KernelFeature, VARIABLE};
use wherefore_tests::{
    Agent, PATIENCE,
    agent::Stream,
    can_load,
    cli::{command, finish},
    frame::{Link, UDP, V4, udp},
    pair::{NEAR, namespace},
    require_bpf,
    traffic::send_frames,
};

/// Results of the self-test by what was tried, without these features.
fn selftest(without: &str) -> Vec<(String, String)> {
    let netns = namespace();
    let said = netns.run(|| {
        let mut selftest = command(&["selftest", "--format", "csv"]);
        selftest.env(VARIABLE, without);
        finish(selftest, &[])
    });
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{without}: {said:?}");
    let rows = said.out.lines().skip(1).map(|line| {
        let mut fields = line.splitn(4, ',').skip(1);
        (fields.next().unwrap().to_owned(), fields.next().unwrap().to_owned())
    });
    rows.collect()
}

#[test]
fn every_way_counts_exactly() {
    if !require_bpf() || !can_load() {
        return;
    }
    let results = |rows: [(&str, &str); 5]| rows.map(|(hook, result)| (hook.to_owned(), result.to_owned()));
    let all =
        [("tcx", "ok"), ("clsact", "ok"), ("xdp+tcx", "ok"), ("xdp-generic+tcx", "ok"), ("libpcap", "ok")];
    for without in ["", "batch", "uninterrupted", "batch,uninterrupted", "check_mtu"] {
        assert_eq!(selftest(without), results(all), "{without}");
    }
    let older = [
        ("tcx", "not_here"),
        ("clsact", "ok"),
        ("xdp+clsact", "ok"),
        ("xdp-generic+clsact", "ok"),
        ("libpcap", "ok"),
    ];
    assert_eq!(selftest("tcx"), results(older));
    assert_eq!(selftest("tcx,batch,uninterrupted"), results(older));
    let without_links = [
        ("tcx", "ok"),
        ("clsact", "ok"),
        ("xdp", "not_here"),
        ("xdp-generic", "not_here"),
        ("libpcap", "ok"),
    ];
    assert_eq!(selftest("xdp_links"), results(without_links));
    let oldest = [
        ("tcx", "not_here"),
        ("clsact", "not_here"),
        ("xdp", "not_here"),
        ("xdp-generic", "not_here"),
        ("libpcap", "ok"),
    ];
    assert_eq!(selftest("inner_map_sizes"), results(oldest));
}

#[test]
fn what_is_missing_is_said() {
    if !require_bpf() || !can_load() {
        return;
    }
    let netns = namespace();
    let generic: &[&str] = &["--hook", "xdp-generic"];
    for (feature, words, hook) in [
        (KernelFeature::Tcx, "has no TCX (Linux 6.6)", &[][..]),
        (KernelFeature::Uninterrupted, "this kernel is PREEMPT_RT", &[]),
        (KernelFeature::Batch, "this kernel has no batch calls (Linux 5.6)", &[]),
        (KernelFeature::InnerMapSizes, "is older than Linux 5.12", &[]),
        (KernelFeature::PointerArguments, "is older than Linux 5.12", &[]),
        (KernelFeature::CheckMtu, "does not tell XDP programs the MTU (Linux 5.12)", generic),
    ] {
        let mut run = command(&[&["run", "-i", NEAR, "--interval", "100ms"], hook].concat());
        run.env(VARIABLE, feature.name());
        let mut agent = Agent::start(Some(&netns), &mut run);
        agent.wait_for_line(Stream::Out, PATIENCE, |line| line.contains(words));
        agent.wait_for_line(Stream::Out, PATIENCE, |line| line.contains("p/s"));
        agent.signal(Signal::SIGTERM);
        let ended = agent.wait(PATIENCE);
        assert_eq!(ended.status.code(), Some(0), "{feature:?}: {ended:?}");
        let times = ended.stdout.iter().filter(|line| line.contains(words)).count();
        assert_eq!(times, 1, "{feature:?} is told once: {ended:?}");
    }
}

/// What one program measures for another is kept in a place of the CPU.
#[test]
fn lengths_are_left_to_libpcap_where_programs_interrupt_each_other() {
    if !require_bpf() || !can_load() {
        return;
    }
    let netns = namespace();
    let start = |expression: &str, backend: &str| {
        let mut flows =
            command(&["flows", "-i", NEAR, "--for", "100ms", "-f", expression, "--backend", backend]);
        flows.env(VARIABLE, KernelFeature::Uninterrupted.name());
        netns.run(|| finish(flows, &[]))
    };
    for expression in ["len > 100", "greater 100", "udp and less 100"] {
        let said = start(expression, "auto");
        assert_eq!(said.code, 0, "{said:?}");
        assert!(said.err.contains("with pcap: -f needs libpcap: it is about a length"), "{said:?}");
    }
    let refused = start("len > 100", "ebpf");
    assert_eq!(refused.code, 78, "{refused:?}");
    assert!(refused.err.contains("PREEMPT_RT") && refused.err.contains("--backend pcap"), "{refused:?}");
    let other = start("udp port 53", "auto");
    assert!(other.code == 0 && other.err.contains("with ebpf"), "{other:?}");
}

/// More entries than a batch asks for, so that the way by keys is a long one.
#[test]
fn thousands_of_flows_are_taken_out_by_key() {
    const FLOWS: u16 = 6000;
    if !require_bpf() || !can_load() {
        return;
    }
    let netns = namespace();
    let mut flows = command(&["flows", "-i", NEAR, "--for", "2s", "--format", "json"]);
    flows.env(VARIABLE, KernelFeature::Batch.name());
    let mut agent = Agent::start(Some(&netns), &mut flows);
    agent.wait_for_line(Stream::Err, PATIENCE, |line| line.contains("watching va"));
    let link = Link { src: [2, 0, 0, 0, 0, 1], dst: [2, 0, 0, 0, 0, 2], tags: Vec::new() };
    let packet = V4::plain(Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2), UDP);
    let frames: Vec<_> =
        (1..=FLOWS).map(|port| packet.frame(&link, &udp((port, 9), 10), (port, 9))).collect();
    send_frames(&netns, NEAR, &frames);
    let ended = agent.wait(PATIENCE);
    let report: serde_json::Value = serde_json::from_str(&ended.stdout[0]).unwrap();
    assert_eq!(report["packets"], FLOWS);
    assert_eq!(report["flows"].as_array().unwrap().len(), usize::from(FLOWS));
    assert!(ended.stderr.iter().any(|line| line.contains("no batch calls")), "{:?}", ended.stderr);
}
