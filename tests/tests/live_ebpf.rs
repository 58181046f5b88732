//! The eBPF backend counts exactly known traffic, to the packet and byte, at every hook.

use std::{
    net::UdpSocket,
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use nix::sys::signal::Signal;
use wherefore::backend::{
    Backend, Choice, Hook, LiveSettings, live,
    probe::{Way, chain},
};
use wherefore_tests::{
    Lan, PATIENCE, agent, agent::Stream, device, require_bpf, run_agent, scenario, scenario::Collector,
    tally::Count, wait_until,
};

fn start(hook: Hook) -> impl Fn(&LiveSettings) -> Box<dyn Backend> {
    move |settings| {
        let settings = LiveSettings { hook, ..settings.clone() };
        live::start(Choice::Ebpf, "asked for", &settings).unwrap_or_else(|error| panic!("start: {error}"))
    }
}

/// A module for a hook, a test in it for each scenario.
macro_rules! at_hook {
    ($hook:ident, $kind:expr, $($scenario:ident),+) => {
        mod $hook {
            use super::*;

            $(
                #[test]
                fn $scenario() {
                    if require_bpf() {
                        scenario::$scenario(&start($kind));
                    }
                }
            )+
        }
    };
}

at_hook!(
    tc,
    Hook::Tc,
    udp_is_exact,
    tcp_is_exact,
    frames_are_exact,
    packets_without_link_header_are_exact,
    polls_add_up,
    overflow_is_visible
);
at_hook!(
    clsact,
    Hook::Clsact,
    udp_is_exact,
    tcp_is_exact,
    frames_are_exact,
    packets_without_link_header_are_exact,
    polls_add_up,
    overflow_is_visible
);
at_hook!(xdp, Hook::Xdp, udp_is_exact, tcp_is_exact, frames_are_exact, polls_add_up, overflow_is_visible);
at_hook!(
    xdp_generic,
    Hook::XdpGeneric,
    udp_is_exact,
    tcp_is_exact,
    frames_are_exact,
    polls_add_up,
    overflow_is_visible
);

/// Two threads on two processors send the same flow and one each of their own, while intervals end all the
/// time. Nobody receives, so nothing limits them but the device.
#[test]
fn swaps_under_fire_lose_and_double_nothing() {
    const SWAPS: u32 = 60;
    if !require_bpf() {
        return;
    }
    for hook in [Hook::Tc, Hook::Clsact] {
        let lan = Lan::new();
        let mut backend = scenario::start_on(&lan, &start(hook), &scenario::settings());
        let socket = |port: u16| {
            let bound = lan.host.run(|| UdpSocket::bind((Lan::HOST_V4, port)));
            let socket = bound.unwrap_or_else(|error| panic!("{error}"));
            socket.connect((Lan::NOBODY_V4, 7)).unwrap_or_else(|error| panic!("{error}"));
            socket
        };
        let shared = socket(30_000);
        let swaps = AtomicU64::new(0);
        let mut tally = Collector::default();
        let sent: Vec<(u64, u64)> = thread::scope(|scope| {
            let senders: Vec<_> = [30_001, 30_002]
                .map(|port| {
                    let (own, shared, swaps) = (socket(port), &shared, &swaps);
                    scope.spawn(move || {
                        let (mut to_own, mut to_shared) = (0, 0);
                        while swaps.load(Ordering::Acquire) < u64::from(SWAPS) {
                            to_own += u64::from(own.send(&[1; 100]).is_ok());
                            to_shared += u64::from(shared.send(&[2; 200]).is_ok());
                        }
                        (to_own, to_shared)
                    })
                })
                .into();
            for _ in 0..SWAPS {
                tally.poll(&mut *backend);
                swaps.fetch_add(1, Ordering::Release);
            }
            senders.into_iter().map(|sender| sender.join().unwrap_or_else(|_| panic!("a sender"))).collect()
        });
        let expected =
            [(30_000, sent[0].1 + sent[1].1, 228), (30_001, sent[0].0, 128), (30_002, sent[1].0, 128)].map(
                |(port, packets, ip)| {
                    let (wire_bytes, ip_bytes) = (packets * (14 + ip), packets * ip);
                    (port, Count { packets, wire_bytes, ip_bytes })
                },
            );
        let total = expected.iter().map(|(_, count)| count.packets).sum();
        let counted = tally.finish(&lan, &mut *backend, total);
        let counted: Vec<_> = counted.flows.iter().map(|(key, count)| (key.sport, *count)).collect();
        assert_eq!(counted, expected, "{hook:?}");
    }
}

/// Places and names of what is attached to the host's device, in order.
fn places(lan: &Lan) -> Vec<(String, String)> {
    let (host, name) = lan.host();
    let index = device::index(host, name);
    let found = host.run(|| Way::ALL.map(|way| chain(index, way)));
    let found = found.into_iter().flat_map(|way| way.unwrap_or_else(|error| panic!("{error}")));
    found.map(|attached| (attached.place.to_string(), attached.name)).collect()
}

/// The agent at a hook, once it says what it watches.
fn watching(lan: &Lan, hook: &str) -> wherefore_tests::Agent {
    let mut agent =
        run_agent(Some(&lan.host), &["run", "--interval", "200ms", "--hook", hook, "--force-xdp"]);
    agent.wait_for_line(Stream::Out, PATIENCE, |line| line.contains("watching eth0"));
    agent
}

/// What `wherefore doctor` says about the host's device, one line a check.
fn doctor(lan: &Lan) -> Vec<String> {
    let output =
        lan.host.run(|| Command::new(agent::binary()).args(["doctor", "--format", "jsonl"]).output());
    let output = output.unwrap_or_else(|error| panic!("doctor: {error}"));
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().filter(|line| line.contains("interface eth0")).map(str::to_owned).collect()
}

#[test]
fn nothing_stays_attached_after_a_kill_but_a_named_clsact_filter() {
    if !require_bpf() {
        return;
    }
    let lan = Lan::new();
    let ingress = |place: &str| (place.to_owned(), "wherefore_in".to_owned());
    let egress = |place: &str| (place.to_owned(), "wherefore_out".to_owned());

    let agent = watching(&lan, "tc");
    assert_eq!(places(&lan), [ingress("tcx ingress"), egress("tcx egress")]);
    agent.signal(Signal::SIGKILL);
    drop(agent);
    wait_until("the links to go", PATIENCE, || places(&lan).is_empty());
    assert!(doctor(&lan).iter().all(|line| !line.contains("wherefore_")), "{:?}", doctor(&lan));

    let agent = watching(&lan, "xdp");
    assert!(doctor(&lan).iter().any(|line| line.contains("wherefore_xdp")), "{:?}", doctor(&lan));
    agent.signal(Signal::SIGKILL);
    drop(agent);
    wait_until("the XDP link to go", PATIENCE, || {
        places(&lan).is_empty() && doctor(&lan).iter().all(|line| !line.contains("wherefore_"))
    });

    let agent = watching(&lan, "clsact");
    let both = [ingress("clsact ingress"), egress("clsact egress")];
    assert_eq!(places(&lan), both);
    agent.signal(Signal::SIGKILL);
    drop(agent);
    assert_eq!(places(&lan), both);
    let found = doctor(&lan);
    for (name, side) in [("wherefore_in", "ingress"), ("wherefore_out", "egress")] {
        let told = found.iter().any(|line| {
            line.contains(name)
                && line.contains("WARN")
                && line.contains(&format!("tc filter del dev eth0 {side}"))
        });
        assert!(told, "{name}: {found:?}");
    }

    // The next start removes them, and leaves nothing when it ends in order.
    let mut agent = watching(&lan, "clsact");
    agent.wait_for_line(Stream::Out, PATIENCE, |line| {
        line.contains("removed 2 filters that a killed run left")
    });
    assert_eq!(places(&lan), both);
    agent.signal(Signal::SIGTERM);
    let ended = agent.wait(PATIENCE);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(places(&lan), []);
    assert!(!lan.host.run(qdiscs).contains("clsact"), "{}", lan.host.run(qdiscs));
}

/// `tc qdisc show` of the calling thread's namespace.
fn qdiscs() -> String {
    let output = Command::new("tc").args(["qdisc", "show"]).output();
    String::from_utf8_lossy(&output.unwrap_or_else(|error| panic!("tc: {error}")).stdout).into_owned()
}
