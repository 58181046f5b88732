//! tcpdump expressions on live interfaces: what matches and what does not is counted exactly at every hook, and
//! both backends select the same.
//!
//! Needs root, eBPF and iproute2; everything happens in network namespaces of the tests' own.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
};

use nix::sys::signal::Signal;
use serde_json::Value;
use wherefore::{
    backend::{
        Backend as _, Choice, Hook, LiveSettings, classic, ebpf,
        interfaces::Request,
        live,
        probe::{Way, chain},
    },
    snapshot::Snapshot,
};
use wherefore_common::{Amount, Direction, Reason};
use wherefore_tests::{
    Lan, Netns, PATIENCE,
    agent::Stream,
    can_load, device,
    frame::{Link, TCP, UDP, V4, VLAN, udp},
    pair::{
        FAR, HEADERS, NEAR, far, index, namespace, said_of_a_filter_behind_ours, segment, settings, socket,
        tc,
    },
    require_root, run_agent,
    traffic::Udp,
};

/// Packets and wire bytes of flows, and filtered ones, by interface and direction.
type Sums = BTreeMap<(u32, Direction), [Amount; 2]>;

fn add(sums: &mut Sums, snapshot: &Snapshot) {
    for flow in &snapshot.flows {
        assert_eq!(flow.key.dport, 1001, "{flow:?}");
        let sum = sums.entry((flow.key.ifindex, flow.direction())).or_default();
        sum[0].add(&flow.counters.amount());
    }
    for (key, amount) in &snapshot.unaccounted {
        assert_eq!(key.reason, Reason::Filtered as u8, "{key:?}");
        let direction = if key.direction == 0 { Direction::Ingress } else { Direction::Egress };
        sums.entry((key.ifindex, direction)).or_default()[1].add(amount);
    }
}

/// What matches and what does not, and trains of segments among it where the hook counts them exactly.
fn exact(hook: Hook, trains: bool) {
    if !can_load() {
        return;
    }
    namespace().run(|| {
        let expression = Some("udp dst port 1001".into());
        let settings = LiveSettings { expression, ..settings(hook) };
        let mut backend = ebpf::start(&settings).unwrap();
        // Leftovers are recognised by these names, and the order of programs is watched by them.
        let names = |way| chain(index(NEAR), way).unwrap().into_iter().map(|program| program.name);
        assert!(names(Way::Egress).eq(["wherefore_out".to_owned()]));
        let (single, train) = (socket().unwrap(), socket().unwrap());
        segment(&train, 1000).unwrap();
        let mut sums = Sums::new();
        for _ in 0..5 {
            for _ in 0..100 {
                single.send_to(&[0; 22], far(1001)).unwrap();
                single.send_to(&[0; 50], far(1002)).unwrap();
            }
            if trains {
                train.send_to(&[0; 40_500], far(1001)).unwrap();
                train.send_to(&[0; 20_500], far(1003)).unwrap();
            }
            add(&mut sums, &backend.poll().unwrap().unwrap());
        }
        add(&mut sums, &backend.stop().unwrap().unwrap());
        let expected = |small: u64, large: u64| {
            let mut amount = Amount { packets: 500, wire_bytes: 500 * (small + HEADERS) };
            if trains {
                let frames = large.div_ceil(1000);
                amount.add(&Amount { packets: 5 * frames, wire_bytes: 5 * (large + frames * HEADERS) });
            }
            amount
        };
        let expected = [expected(22, 40_500), expected(50, 20_500)];
        let places = [(index(NEAR), Direction::Egress), (index(FAR), Direction::Ingress)];
        assert_eq!(sums, places.into_iter().map(|place| (place, expected)).collect(), "{hook:?}");
        drop(backend);
        assert!(!tc("qdisc show").contains("clsact"), "a qdisc was left");
    });
}

#[test]
fn both_sides_are_exact_at_tcx() {
    exact(Hook::Tc, true);
}

#[test]
fn both_sides_are_exact_at_clsact() {
    exact(Hook::Clsact, true);
}

#[test]
fn both_sides_are_exact_at_native_xdp() {
    exact(Hook::Xdp, false);
}

#[test]
fn both_sides_are_exact_at_generic_xdp() {
    exact(Hook::XdpGeneric, false);
}

/// At ingress the kernel takes the outermost tag out of the frame; the expression sees it at its place.
#[test]
fn a_stripped_tag_is_where_it_was_on_the_wire() {
    if !can_load() {
        return;
    }
    namespace().run(|| {
        let link = Link { src: [2, 0, 0, 0, 0, 1], dst: [2, 0, 0, 0, 0, 2], tags: vec![(VLAN, 0x2007)] };
        let mut tcp = vec![0x9c, 0x40, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0];
        tcp.resize(60, 0);
        let addresses = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        let frame = V4::plain(addresses.0, addresses.1, TCP).frame(&link, &tcp, (40_000, 80));
        assert_eq!(frame.bytes.len(), 98);
        let mut near = pcap::Capture::from_device(NEAR).unwrap().open().unwrap();
        for (text, matches) in [
            ("vlan", true),
            ("vlan 7", true),
            ("vlan 8", false),
            ("vlan 7 and tcp port 80", true),
            ("vlan 7 and tcp port 81", false),
            ("vlan and vlan", false),
            ("tcp port 80", false),
            ("ip", false),
            ("ether[14:2] = 0x2007", true),
            ("ether[14:2] & 0xfff = 7", true),
            ("ether[12:2] = 0x8100", true),
            ("ether[16:2] = 0x0800", true),
            ("ether[10:4] = 0x00018100", true),
            ("ether[15:4] = 0x07080045", true),
            ("ether[11:1] = 1", true),
            ("len = 98", true),
            ("len = 94", false),
            ("greater 99", false),
            ("ether[len - 1] = 0 and ether[len - 84:4] = 0x20070800", true),
            ("ether[94:4] != 77", true),
            ("ether[95:4] != 77", false),
        ] {
            let program = classic::compile(text, classic::ETHERNET, false).unwrap();
            assert_eq!(program.run(&frame.bytes, 98) != 0, matches, "{text}, in user space");
            for choice in [Choice::Ebpf, Choice::Pcap] {
                let settings = LiveSettings { expression: Some(text.into()), ..settings(Hook::Tc) };
                let mut backend = live::start(choice, "", &settings).unwrap();
                near.sendpacket(&*frame.bytes).unwrap();
                let snapshot = backend.stop().unwrap().unwrap();
                let all = Amount { packets: 2, wire_bytes: 2 * 98 };
                assert_eq!(snapshot.total(), all, "{text}, {choice:?}");
                assert!(snapshot.imbalance().is_empty(), "{text}, {choice:?}: {snapshot:?}");
                assert_eq!(snapshot.flows.len(), if matches { 2 } else { 0 }, "{text}, {choice:?}");
                let filtered: Vec<_> =
                    snapshot.unaccounted.keys().map(|key| (key.reason, key.direction)).collect();
                let reason = Reason::Filtered as u8;
                let expected = if matches { vec![] } else { vec![(reason, 0), (reason, 1)] };
                assert_eq!(filtered, expected, "{text}, {choice:?}");
            }
        }
    });
}

/// What no frame tells, a capture of one interface in one direction does; tags are in the frame for that too.
#[test]
fn libpcap_knows_the_direction() {
    if !require_root() {
        return;
    }
    namespace().run(|| {
        let link = Link { src: [2, 0, 0, 0, 0, 1], dst: [2, 0, 0, 0, 0, 2], tags: vec![(VLAN, 7)] };
        let addresses = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        let frame = V4::plain(addresses.0, addresses.1, UDP).frame(&link, &udp((1, 2), 50), (1, 2));
        let mut near = pcap::Capture::from_device(NEAR).unwrap().open().unwrap();
        let (egress, ingress) = (Direction::Egress, Direction::Ingress);
        for (text, expected) in [
            ("inbound", vec![ingress]),
            ("outbound", vec![egress]),
            ("inbound and vlan 7 and udp dst port 2", vec![ingress]),
            ("outbound and vlan 7 and udp dst port 2", vec![egress]),
            ("inbound and vlan 8", vec![]),
            ("inbound and udp", vec![]),
            ("inbound and ether[90:4] != 77", vec![ingress]),
        ] {
            let settings = LiveSettings { expression: Some(text.into()), snaplen: 64, ..settings(Hook::Tc) };
            let mut backend = live::start(Choice::Pcap, "", &settings).unwrap();
            near.sendpacket(&*frame.bytes).unwrap();
            let snapshot = backend.stop().unwrap().unwrap();
            let flows: Vec<_> = snapshot.flows.iter().map(wherefore::snapshot::Flow::direction).collect();
            assert_eq!(flows, expected, "{text}");
            assert_eq!(snapshot.total().packets, 2, "{text}");
        }
    });
}

/// libpcap does not know how long the frames of a super-frame are, and takes the first for a full one.
#[test]
fn len_of_a_super_frame_is_that_of_a_full_frame_with_libpcap() {
    if !require_root() {
        return;
    }
    namespace().run(|| {
        for (text, matches) in [("len = 1514", true), ("greater 1515", false)] {
            let settings = LiveSettings { expression: Some(text.into()), ..settings(Hook::Tc) };
            let mut backend = live::start(Choice::Pcap, "", &settings).unwrap();
            let train = socket().unwrap();
            segment(&train, 1472).unwrap();
            train.send_to(&[0; 10 * 1472], far(1001)).unwrap();
            let mut sums = Sums::new();
            add(&mut sums, &backend.stop().unwrap().unwrap());
            let all = Amount { packets: 1, wire_bytes: 10 * 1472 + HEADERS };
            let expected = if matches { [all, Amount::default()] } else { [Amount::default(), all] };
            let places = [(index(NEAR), Direction::Egress), (index(FAR), Direction::Ingress)];
            assert_eq!(sums, places.into_iter().map(|place| (place, expected)).collect(), "{text}");
        }
    });
}

/// `len` of super-frames is that of the frames they become, at both ends.
#[test]
fn len_of_super_frames_is_that_of_their_frames() {
    if !can_load() {
        return;
    }
    namespace().run(|| {
        for (text, matches) in [("len = 1042", true), ("greater 1043", false)] {
            let settings = LiveSettings { expression: Some(text.into()), ..settings(Hook::Tc) };
            let mut backend = ebpf::start(&settings).unwrap();
            let train = socket().unwrap();
            segment(&train, 1000).unwrap();
            train.send_to(&[0; 40_500], far(1001)).unwrap();
            let mut sums = Sums::new();
            add(&mut sums, &backend.poll().unwrap().unwrap());
            add(&mut sums, &backend.stop().unwrap().unwrap());
            let all = Amount { packets: 41, wire_bytes: 40_500 + 41 * HEADERS };
            let expected = if matches { [all, Amount::default()] } else { [Amount::default(), all] };
            let places = [(index(NEAR), Direction::Egress), (index(FAR), Direction::Ingress)];
            assert_eq!(sums, places.into_iter().map(|place| (place, expected)).collect(), "{text}");
        }
    });
}

/// A device whose packets begin with the IP header has no Ethernet header to ask about.
#[test]
fn packets_without_link_header_are_asked_as_such() {
    if !can_load() {
        return;
    }
    let netns = Netns::new("tun");
    let _tun = device::tun(&netns, "tun0");
    netns.ip("address add 203.0.113.1/24 dev tun0");
    netns.run(|| {
        let settings = |text: &str| LiveSettings {
            interfaces: Request::named(["tun0"]),
            expression: Some(text.into()),
            ..settings(Hook::Tc)
        };
        let mut backend =
            live::start(Choice::Ebpf, "", &settings("udp dst port 1001 and len < 100")).unwrap();
        let socket = UdpSocket::bind("203.0.113.1:0").unwrap();
        for (port, size) in [(1001, 10), (1001, 72), (1002, 10)] {
            socket.send_to(&vec![0; size], ("203.0.113.2", port)).unwrap();
        }
        let snapshot = backend.poll().unwrap().unwrap();
        assert_eq!(snapshot.flows.iter().map(|flow| flow.counters.ip_bytes).collect::<Vec<_>>(), [38]);
        let filtered: Vec<_> = snapshot.unaccounted.values().copied().collect();
        assert_eq!(filtered, [Amount { packets: 2, wire_bytes: 100 + 38 }]);
        drop(backend);
        let refused = live::start(Choice::Ebpf, "", &settings("vlan")).map(drop).unwrap_err().to_string();
        assert!(refused.starts_with("-f \"vlan\": tun0: "), "{refused}");
    });
}

/// The flows that two agents tell of the same traffic, asked for by the same words, and what they rejected.
#[test]
fn both_backends_tell_the_same_flows() {
    if !can_load() {
        return;
    }
    let lan = Lan::new();
    let at = |address, port| SocketAddr::new(address, port);
    let flow = |src, dst, packets, payload| Udp { src, dst, packets, payload };
    let (host, world) = (at(Lan::HOST_V4, 4000), at(Lan::WORLD_V4, 53));
    let (host6, world6) = (at(Lan::HOST_V6, 4000), at(Lan::WORLD_V6, 53));
    for text in ["udp port 53", "ip6", "src host 192.0.2.1", "udp[4:2] > 200", "greater 200 and not ip6"] {
        let agents = ["ebpf", "pcap"].map(|backend| {
            let device = Lan::HOST_DEVICE;
            let words =
                ["flows", "-i", device, "--for", "1h", "--format", "json", "-v", "--backend", backend];
            let mut agent = run_agent(Some(&lan.host), &[&words[..], &["-f", text]].concat());
            let _ = agent.wait_for_line(Stream::Err, PATIENCE, |line| line.contains("watching"));
            agent
        });
        for (src, dst, packets, payload) in
            [(host, world, 7, 40), (host, at(Lan::WORLD_V4, 54), 6, 300), (host6, world6, 5, 400)]
        {
            flow(src, dst, packets, payload).send(&lan.host, &lan.world);
            flow(dst, src, packets + 1, payload / 2).send(&lan.world, &lan.host);
        }
        for agent in &agents {
            agent.signal(Signal::SIGINT);
        }
        let [kernel, libpcap] = agents.map(|agent| {
            let ended = agent.wait(PATIENCE);
            assert_eq!(ended.status.code(), Some(0), "{ended:?}");
            serde_json::from_str::<Value>(&ended.stdout.concat()).unwrap()
        });
        let flows = |object: &Value| {
            let rows = object["flows"].as_array().unwrap().iter().map(|row| {
                let names =
                    ["src", "dst", "sport", "dport", "direction", "packets", "wire_bytes", "ip_bytes"];
                names.map(|name| row[name].to_string()).join(" ")
            });
            let mut rows: Vec<String> = rows.collect();
            rows.sort();
            rows
        };
        assert_eq!(flows(&kernel), flows(&libpcap), "{text}");
        assert!(!flows(&kernel).is_empty() && flows(&kernel).len() < 6, "{text}: {kernel}");
        assert_eq!(kernel["packets"], 7 + 8 + 6 + 7 + 5 + 6, "{text}: {kernel}");
        for total in ["packets", "wire_bytes", "ip_packets", "ip_bytes", "unaccounted"] {
            assert_eq!(kernel[total], libpcap[total], "{text}: {total}");
        }
        assert!(kernel["unaccounted"]["filtered"]["packets"].as_u64() > Some(0), "{text}: {kernel}");
    }
}

#[test]
fn what_the_kernel_cannot_run_falls_back_to_libpcap_with_the_reason() {
    if !can_load() {
        return;
    }
    namespace().run(|| {
        let start = |choice, text: &str| {
            let settings = LiveSettings { expression: Some(text.into()), ..settings(Hook::Tc) };
            live::start(choice, "", &settings).map(|backend| backend.description().to_string())
        };
        let said = start(Choice::Auto, "ip6 protochain 17").unwrap();
        let expected = "-f needs libpcap: it has a loop in it (protochain)";
        assert!(said.starts_with("watching v") && said.ends_with(expected), "{said}");
        let said = start(Choice::Auto, "inbound").unwrap();
        assert!(said.ends_with("-f needs libpcap: it asks for more than what is in the frame"), "{said}");
        assert!(start(Choice::Auto, "udp").unwrap().contains("with ebpf"));
        let said = start(Choice::Auto, "udp port").unwrap_err().to_string();
        assert!(said.contains("syntax error"), "{said}");
    });
    let netns = namespace();
    for (backend, text, code) in
        [("ebpf", "ip6 protochain 17", 78), ("ebpf", "udp port", 2), ("auto", "udp port", 2)]
    {
        let words = ["flows", "-i", NEAR, "--for", "100ms", "--backend", backend, "-f", text];
        let ended = run_agent(Some(&netns), &words).wait(PATIENCE);
        assert_eq!((ended.status.code(), ended.stdout), (Some(code), vec![]), "{text}: {:?}", ended.stderr);
    }
}

/// Another program in front of the expression's is named: it is the one that is attached.
#[test]
fn the_place_of_the_expression_is_watched_over() {
    if !can_load() {
        return;
    }
    let warnings = said_of_a_filter_behind_ours(&["-f", "udp"], 3);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("\"u32\" runs behind our program at egress"), "{warnings:?}");
}
