//! The libpcap backend counts exactly known traffic, to the packet and byte.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::mpsc,
    thread,
};

use nix::sys::signal::Signal;
use serde_json::Value;
use wherefore::backend::{Backend, Error, LiveSettings, interfaces::Request, pcap_live};
use wherefore_common::{Direction, Reason};
use wherefore_tests::{
    Lan, Netns, PATIENCE, Tally,
    agent::Stream,
    device,
    frame::{Link, UDP, V4, udp},
    require_root, run_agent,
    scenario::{self, Collector},
    traffic::{Udp, send_frames},
    wait_until,
};

fn start(settings: &LiveSettings) -> Box<dyn Backend> {
    let backend = pcap_live::start(settings, "asked for".into());
    Box::new(backend.unwrap_or_else(|error| panic!("start: {error}")))
}

#[test]
fn udp_is_exact() {
    if require_root() {
        scenario::udp_is_exact(&start);
    }
}

#[test]
fn tcp_is_exact() {
    if require_root() {
        scenario::tcp_is_exact(&start);
    }
}

#[test]
fn frames_are_exact() {
    if require_root() {
        scenario::frames_are_exact(&start);
    }
}

#[test]
fn packets_without_link_header_are_exact() {
    if require_root() {
        scenario::packets_without_link_header_are_exact(&start);
    }
}

#[test]
fn polls_add_up() {
    if require_root() {
        scenario::polls_add_up(&start);
    }
}

#[test]
fn overflow_is_visible() {
    if require_root() {
        scenario::overflow_is_visible(&start);
    }
}

/// Sends `packets` from the host's port 40,000 to the given one of the world, and adds them to `expected`.
fn send_out(lan: &Lan, port: u16, packets: u64, expected: Option<&mut Tally>) {
    let src = SocketAddr::new(Lan::HOST_V4, 40_000);
    let flow = Udp { src, dst: SocketAddr::new(Lan::WORLD_V4, port), packets, payload: 500 };
    flow.send(&lan.host, &lan.world);
    if let Some(expected) = expected {
        expected.add(flow.key(Direction::Egress), flow.count());
    }
}

/// Sends `packets` from the given port of the world to the host's port 40,000.
fn send_back(lan: &Lan, port: u16, packets: u64, expected: Option<&mut Tally>) {
    let dst = SocketAddr::new(Lan::HOST_V4, 40_000);
    let flow = Udp { src: SocketAddr::new(Lan::WORLD_V4, port), dst, packets, payload: 300 };
    flow.send(&lan.world, &lan.host);
    if let Some(expected) = expected {
        expected.add(flow.key(Direction::Ingress), flow.count());
    }
}

/// What an expression rejects is counted by direction, from the first packet on.
#[test]
fn an_expression_keeps_what_it_names_in_both_directions() {
    if !require_root() {
        return;
    }
    let lan = Lan::new();
    // Port 9 carries the markers.
    let expression = Some("udp and (port 53 or port 9)".into());
    let settings = LiveSettings { expression, ..scenario::settings() };
    let mut backend = scenario::start_on(&lan, &start, &settings);
    let mut expected = Tally::default();
    for _ in 0..3 {
        send_out(&lan, 53, 10, Some(&mut expected));
        send_out(&lan, 54, 11, None);
        send_back(&lan, 53, 12, Some(&mut expected));
        send_back(&lan, 54, 13, None);
    }
    let filtered = |packets: u64, payload: u64| (packets, packets * (14 + 20 + 8 + payload));
    expected.unaccounted.insert((Reason::Filtered, Direction::Egress), filtered(33, 500));
    expected.unaccounted.insert((Reason::Filtered, Direction::Ingress), filtered(39, 300));
    assert_eq!(Collector::default().finish(&lan, &mut *backend, 66 + 72), expected);
}

/// Classic BPF of more than 4,096 instructions (`BPF_MAXINSNS`), which the kernel takes for no socket. libpcap says
/// so on standard error, in the middle of a table.
#[test]
fn an_expression_may_be_longer_than_the_kernel_takes() {
    if !require_root() {
        return;
    }
    let lan = Lan::new();
    // Of so many hosts libpcap compiles for minutes; these are comparisons with one field.
    let sources = (0..2500).map(|i| format!("ether[26:4] = {}", 0xc633_0000_u32 + i));
    let text = sources.chain(["udp port 53".to_owned()]).collect::<Vec<_>>().join(" or ");
    let words = ["flows", "-i", Lan::HOST_DEVICE, "--backend", "pcap", "--for", "1h", "--format", "json"];
    let mut agent = run_agent(Some(&lan.host), &[&words[..], &["-f", &text]].concat());
    let _ = agent.wait_for_line(Stream::Err, PATIENCE, |line| line.contains("watching"));
    send_out(&lan, 53, 10, None);
    send_out(&lan, 54, 11, None);
    agent.signal(Signal::SIGINT);
    let ended = agent.wait(PATIENCE);
    let report: Value = serde_json::from_str(&ended.stdout.concat()).unwrap();
    assert_eq!((&report["ip_packets"], &report["packets"]), (&10.into(), &21.into()), "{report}");
    assert_eq!(ended.stderr.len(), 1, "{:?}", ended.stderr);
}

#[test]
fn a_wrong_expression_comes_back_with_libpcaps_words() {
    if !require_root() {
        return;
    }
    let lan = Lan::new();
    let settings = LiveSettings { expression: Some("udp port".into()), ..scenario::settings() };
    match lan.host.run(|| pcap_live::start(&settings, String::new()).map(drop)) {
        Err(Error::Expression { expression, reason }) => {
            assert_eq!(expression, "udp port");
            assert!(reason.contains("syntax error"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

/// A snap length below the headers hides the flow, never the bytes.
#[test]
fn lengths_are_those_on_the_wire_at_any_snap_length() {
    if !require_root() {
        return;
    }
    let lan = Lan::new();
    let mut expected = Tally::default();
    let mut backend = scenario::start_on(&lan, &start, &LiveSettings { snaplen: 42, ..scenario::settings() });
    send_out(&lan, 53, 10, Some(&mut expected));
    assert_eq!(Collector::default().finish(&lan, &mut *backend, 10), expected);
    drop(backend);

    let mut backend = scenario::start_on(&lan, &start, &LiveSettings { snaplen: 20, ..scenario::settings() });
    send_out(&lan, 53, 10, None);
    let mut tally = Tally::default();
    wait_until("the packets", PATIENCE, || {
        tally.add_snapshot(&backend.poll().unwrap().unwrap());
        tally.unaccounted.values().map(|(packets, _)| packets).sum::<u64>() >= 10
    });
    assert!(tally.flows.is_empty());
    assert_eq!(
        tally.unaccounted.into_iter().collect::<Vec<_>>(),
        [((Reason::IpTruncated, Direction::Egress), (10, 10 * (14 + 20 + 8 + 500)))]
    );
}

/// The loopback device passes every packet twice; it counts once.
#[test]
fn the_loopback_device_counts_each_packet_once() {
    if !require_root() {
        return;
    }
    let netns = Netns::new("loop");
    let settings = LiveSettings { interfaces: Request::named(["lo"]), ..scenario::settings() };
    let mut backend = netns.run(|| start(&settings));
    let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let flow = |port| Udp { src: address(port), dst: address(53), packets: 50, payload: 10 };
    let (first, last) = (flow(1000), flow(1001));
    first.send(&netns, &netns);
    last.send(&netns, &netns);
    let mut tally = Tally::default();
    wait_until("the packets", PATIENCE, || {
        tally.add_snapshot(&backend.poll().unwrap().unwrap());
        tally.flows.get(&last.key(Direction::Ingress)).is_some_and(|count| count.packets >= 50)
    });
    let expected = [first, last].map(|flow| (flow.key(Direction::Ingress), flow.count()));
    assert_eq!(tally.flows, expected.into());
    assert!(tally.unaccounted.is_empty());
}

/// Dropping it on an interface where nothing happens must not wait for a packet.
#[test]
fn stops_on_an_idle_interface() {
    if !require_root() {
        return;
    }
    let lan = Lan::new();
    let mut backend = scenario::start_on(&lan, &start, &scenario::settings());
    let snapshot = backend.poll().unwrap().unwrap();
    assert_eq!((snapshot.total().packets, snapshot.dropped()), (0, 0));
    let (stopped, when) = mpsc::channel();
    thread::spawn(move || {
        drop(backend);
        stopped.send(()).unwrap();
    });
    when.recv_timeout(PATIENCE).expect("still not stopped");
}

/// An interface that vanishes ends alone.
#[test]
fn a_vanished_interface_leaves_the_others() {
    if !require_root() {
        return;
    }
    let lan = Lan::new();
    lan.host.ip("link add extra0 type veth peer name extra1");
    lan.host.ip("link set extra0 up");
    lan.host.ip("link set extra1 up");
    let interfaces = Request::named(["extra0", Lan::HOST_DEVICE]);
    let settings = LiveSettings { interfaces, ..scenario::settings() };
    let mut backend = scenario::start_on(&lan, &start, &settings);
    lan.host.ip("link delete extra0");
    let mut tally = Tally::default();
    for port in 100..110 {
        send_out(&lan, port, 10, Some(&mut tally));
        backend.poll().unwrap();
    }
    send_out(&lan, 110, 10, None);
    wait_until("the other interface to be counted", PATIENCE, || {
        let snapshot = backend.poll().unwrap().unwrap();
        snapshot.flows.iter().any(|flow| flow.key.dport == 110)
    });
}

/// Switched off and on again is not gone.
#[test]
fn an_interface_that_comes_up_again_is_counted_again() {
    if !require_root() {
        return;
    }
    let lan = Lan::new();
    let mut backend = scenario::start_on(&lan, &start, &scenario::settings());
    lan.host.ip(&format!("link set {} down", Lan::HOST_DEVICE));
    for _ in 0..20 {
        assert_eq!(backend.poll().unwrap().unwrap().total().packets, 0);
    }
    lan.host.ip(&format!("link set {} up", Lan::HOST_DEVICE));
    let mac: Vec<String> = wherefore_tests::device::mac(&lan.world, Lan::WORLD_DEVICE)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    // Static neighbours go with the device.
    let (device, world, mac) = (Lan::HOST_DEVICE, Lan::WORLD_V4, mac.join(":"));
    lan.host.ip(&format!("neighbour replace {world} lladdr {mac} dev {device} nud permanent"));
    send_out(&lan, 111, 10, None);
    let mut packets = 0;
    wait_until("packets after the interface came back", PATIENCE, || {
        let snapshot = backend.poll().unwrap().unwrap();
        packets += snapshot.flows.iter().map(|flow| flow.counters.packets).sum::<u64>();
        packets >= 10
    });
    assert_eq!(packets, 10);
}

#[test]
fn missing_capabilities_and_wrong_names_are_explained() {
    if !require_root() {
        return;
    }
    let lan = Lan::new();
    let named = LiveSettings { interfaces: Request::named(["eht0"]), ..scenario::settings() };
    let error = lan.host.run(|| pcap_live::start(&named, String::new()).map(drop)).unwrap_err().to_string();
    assert_eq!(error, "no interface named \"eht0\"; there are: lo, eth0");

    let denied = lan.host.run(|| {
        // Of this thread only, which ends here.
        caps::clear(None, caps::CapSet::Effective).unwrap();
        pcap_live::start(&scenario::settings(), String::new()).map(drop)
    });
    match denied {
        Err(Error::Permission(text)) => {
            assert!(text.contains("needs CAP_NET_RAW") && text.contains("sudo setcap "), "{text}");
        }
        other => panic!("{other:?}"),
    }

    // Promiscuous mode needs no more than that.
    let allowed = lan.host.run(|| {
        caps::set(None, caps::CapSet::Effective, &[caps::Capability::CAP_NET_RAW].into()).unwrap();
        pcap_live::start(&LiveSettings { promiscuous: true, ..scenario::settings() }, String::new()).map(drop)
    });
    allowed.unwrap();

    lan.host.ip(&format!("link set {} down", Lan::HOST_DEVICE));
    let down = lan.host.run(|| pcap_live::start(&scenario::settings(), String::new()).map(drop));
    let error = down.unwrap_err().to_string();
    assert!(error.contains("ip link set eth0 up"), "{error}");
}

/// More than the ring holds while nobody reads fast enough: what is not counted is told as dropped, and the
/// drops of one direction are not those of the other.
#[test]
fn counted_and_dropped_are_all_there_was() {
    const FRAMES: u64 = 20_000;
    const SENDERS: u64 = 4;
    if !require_root() {
        return;
    }
    let lan = Lan::new();
    let settings = LiveSettings { snaplen: 65_535, ..scenario::settings() };
    let mut backend = scenario::start_on(&lan, &start, &settings);
    let link = Link {
        src: device::mac(&lan.host, Lan::HOST_DEVICE),
        dst: device::mac(&lan.world, Lan::WORLD_DEVICE),
        tags: Vec::new(),
    };
    let packet = V4::plain(Ipv4Addr::new(192, 0, 2, 50), Lan::NOBODY_V4, UDP);
    let frames = vec![packet.frame(&link, &udp((1, 2), 1472), (1, 2)); FRAMES as usize];
    thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| send_frames(&lan.host, Lan::HOST_DEVICE, &frames));
        }
    });
    let (mut counted, mut dropped) = (0, 0);
    let sent = FRAMES * SENDERS;
    wait_until("every packet to be counted or dropped", PATIENCE, || {
        let snapshot = backend.poll().unwrap().unwrap();
        counted += snapshot.total().packets;
        dropped += snapshot.dropped();
        counted + dropped >= sent
    });
    eprintln!("{counted} counted, {dropped} dropped");
    assert_eq!(counted + dropped, sent);
}
