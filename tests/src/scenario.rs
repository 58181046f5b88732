//! Traffic and what must be counted of it, for any live backend.
//!
//! Each function makes its own [`Lan`], starts the backend inside the host with the function it is given,
//! sends, and compares to the packet and byte.

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    thread,
    time::Duration,
};

use wherefore::{
    backend::{Backend, Hook, LiveSettings, interfaces::Request},
    config::default,
    filter::CidrFilter,
    snapshot::Snapshot,
};
use wherefore_common::{Direction, Reason};

use crate::{
    PATIENCE, device,
    frame::{Frame, ICMP, Link, QINQ, TCP, UDP, V4, VLAN, echo_request, udp, v6},
    lan::Lan,
    netns::Netns,
    tally::{Count, Key, Tally},
    traffic::{Udp, send_frames, tcp},
    wait_until,
};

/// Starts a backend on the calling thread's network namespace.
pub type Start<'a> = &'a (dyn Fn(&LiveSettings) -> Box<dyn Backend> + Sync);

/// Port of the packets that say "that was all" (discard, RFC 863); no scenario uses it otherwise.
const MARKER: u16 = 9;

/// Settings to watch the host's device with.
#[must_use]
pub fn settings() -> LiveSettings {
    LiveSettings {
        interfaces: Request::named([Lan::HOST_DEVICE]),
        hook: Hook::Tc,
        force_xdp: true,
        table_size: 4096,
        kernel_log: false,
        min_coverage: default::MIN_COVERAGE,
        snaplen: 256,
        read_timeout: Duration::from_secs(3),
        promiscuous: false,
        expression: None,
        filter: CidrFilter::default(),
    }
}

/// Starts a backend inside the host.
#[must_use]
pub fn start_on(lan: &Lan, start: Start<'_>, settings: &LiveSettings) -> Box<dyn Backend> {
    lan.host.run(|| start(settings))
}

/// Polls a backend and adds up, checking that intervals follow each other without a gap.
#[derive(Debug, Default)]
pub struct Collector {
    /// Everything so far, markers too.
    pub tally: Tally,
    last: Option<Snapshot>,
}

impl Collector {
    /// Ends an interval and adds it.
    ///
    /// # Panics
    /// When the backend fails, ends, lost packets, or its intervals do not join.
    pub fn poll(&mut self, backend: &mut dyn Backend) {
        let snapshot = backend
            .poll()
            .unwrap_or_else(|error| panic!("poll: {error}"))
            .unwrap_or_else(|| panic!("a live backend has no end"));
        assert_eq!(snapshot.dropped(), 0, "packets dropped");
        assert!(snapshot.start <= snapshot.end);
        if let Some(last) = &self.last {
            assert_eq!(snapshot.start, last.end, "intervals join");
        }
        for flow in &snapshot.flows {
            assert!(snapshot.interfaces.contains_key(&flow.key.ifindex), "unnamed interface: {flow:?}");
        }
        self.tally.add_snapshot(&snapshot);
        self.last = Some(snapshot);
    }

    /// Sends a marker each way, polls until both and `packets` others were counted, and returns all but
    /// the markers. The markers pass the same queues behind everything else, so what is counted twice has
    /// been counted by then.
    ///
    /// # Panics
    /// When they do not come.
    #[must_use]
    pub fn finish(mut self, lan: &Lan, backend: &mut dyn Backend, packets: u64) -> Tally {
        let (out, back) = (marker(Lan::HOST_V4, Lan::WORLD_V4), marker(Lan::WORLD_V4, Lan::HOST_V4));
        out.send(&lan.host, &lan.world);
        back.send(&lan.world, &lan.host);
        let markers = [out.key(Direction::Egress), back.key(Direction::Ingress)];
        let mut settled = false;
        wait_until("everything to be counted", PATIENCE, || {
            // Once more when all is there: a late double shows in it.
            let done = settled;
            self.poll(backend);
            let marked = markers.iter().all(|key| self.tally.flows.contains_key(key));
            settled = marked && total(&self.tally) >= packets + 2;
            done && settled
        });
        let found = self.tally.without_port(MARKER);
        assert_eq!(found.flows, markers.into_iter().zip([out.count(), back.count()]).collect());
        self.tally
    }
}

fn marker(src: IpAddr, dst: IpAddr) -> Udp {
    Udp { src: SocketAddr::new(src, MARKER), dst: SocketAddr::new(dst, MARKER), packets: 1, payload: 1 }
}

fn total(tally: &Tally) -> u64 {
    let flows: u64 = tally.flows.values().map(|count| count.packets).sum();
    flows + tally.unaccounted.values().map(|(packets, _)| packets).sum::<u64>()
}

/// UDP of both IP versions and several sizes, both ways.
///
/// # Panics
/// When a count is wrong.
pub fn udp_is_exact(start: Start<'_>) {
    let lan = Lan::new();
    let mut backend = start_on(&lan, start, &settings());
    let mut expected = Tally::default();
    let mut port = 10_000;
    for (here, there) in
        [(Lan::HOST_V4, Lan::WORLD_V4), (Lan::HOST_V6, Lan::WORLD_V6), (Lan::HOST_V4, Lan::FAR_V4)]
    {
        for payload in [0, 1, 17, 18, 100, 1452] {
            port += 1;
            let near = SocketAddr::new(here, port);
            let far = SocketAddr::new(there, 53);
            let out = Udp { src: near, dst: far, packets: 20 + u64::from(port % 7), payload };
            out.send(&lan.host, &lan.world);
            expected.add(out.key(Direction::Egress), out.count());
            let back = Udp { src: far, dst: near, packets: 10 + u64::from(port % 3), payload };
            back.send(&lan.world, &lan.host);
            expected.add(back.key(Direction::Ingress), back.count());
        }
    }
    let counted = Collector::default().finish(&lan, &mut *backend, total(&expected));
    assert_eq!(counted, expected);
}

/// TCP connections with offloads off: the backend agrees with the device's own counters.
///
/// # Panics
/// When a count is wrong.
pub fn tcp_is_exact(start: Start<'_>) {
    let lan = Lan::without_offloads();
    let (host, name) = lan.host();
    let before = device::counters(host, name);
    let mut backend = start_on(&lan, start, &settings());
    let (upload, download) = (3_000_000, 400_000);
    let mut clients = Vec::new();
    for server in [Lan::WORLD_V4, Lan::WORLD_V6] {
        let server = SocketAddr::new(server, 443);
        clients.push((tcp(&lan.host, &lan.world, server, upload, download), server));
    }
    let mut collector = Collector::default();
    // The last acknowledgement may be delayed by the kernel, so both are read until they agree.
    wait_until("backend and device to agree", PATIENCE, || {
        collector.poll(&mut *backend);
        let device = device::counters(host, name).since(before);
        let (out, back) = (collector.tally.sum(Direction::Egress), collector.tally.sum(Direction::Ingress));
        (out.packets, out.wire_bytes) == (device.tx_packets, device.tx_bytes)
            && back.packets == device.rx_packets
            // A veth with native XDP counts what it receives without the Ethernet header (Linux 6.18).
            && (back.wire_bytes == device.rx_bytes || back.ip_bytes == device.rx_bytes)
    });
    assert_eq!(collector.tally.unaccounted.len(), 0);
    assert_eq!(collector.tally.flows.len(), 4, "{:#?}", collector.tally);
    for (client, server) in clients {
        for (src, dst, direction, payload) in
            [(client, server, Direction::Egress, upload), (server, client, Direction::Ingress, download)]
        {
            let key = Key {
                src: src.ip(),
                dst: dst.ip(),
                sport: src.port(),
                dport: dst.port(),
                proto: TCP,
                direction,
            };
            let count = collector.tally.flows[&key];
            assert_eq!(count.wire_bytes, count.ip_bytes + 14 * count.packets);
            // Every packet has an IP and a TCP header; the kernel may send data twice on a busy machine.
            let headers = count.packets * if src.is_ipv4() { 40 } else { 60 };
            assert!(count.ip_bytes >= payload as u64 + headers, "{count:?}");
        }
    }
}

/// Frames that sockets do not send: tags, fragments, IP options, IPv6 extension headers, ICMP, and what is
/// no IP. Both ways.
///
/// # Panics
/// When a count is wrong.
pub fn frames_are_exact(start: Start<'_>) {
    let lan = Lan::new();
    let mut backend = start_on(&lan, start, &settings());
    let mut expected = Tally::default();
    for (from, to, direction) in
        [(lan.host(), lan.world(), Direction::Egress), (lan.world(), lan.host(), Direction::Ingress)]
    {
        let link = Link { src: device::mac(from.0, from.1), dst: device::mac(to.0, to.1), tags: Vec::new() };
        let frames = unusual_frames(&link);
        send_frames(from.0, from.1, &frames);
        for frame in &frames {
            expected.add(frame.key(direction), frame.count());
        }
        // Not IP, though it looks like it behind the type: counted by reason.
        let mut lldp = frames[0].clone();
        lldp.bytes[12..14].copy_from_slice(&0x88cc_u16.to_be_bytes());
        let mut cut = frames[0].clone();
        cut.bytes.truncate(14 + 19);
        send_frames(from.0, from.1, &[lldp.clone(), lldp.clone(), cut.clone()]);
        let bytes = |frame: &Frame| frame.bytes.len() as u64;
        expected.unaccounted.insert((Reason::NonIp, direction), (2, 2 * bytes(&lldp)));
        expected.unaccounted.insert((Reason::IpTruncated, direction), (1, bytes(&cut)));
    }
    let counted = Collector::default().finish(&lan, &mut *backend, total(&expected));
    assert_eq!(counted, expected);
}

/// Frames to addresses nobody has, so that nothing answers.
fn unusual_frames(link: &Link) -> Vec<Frame> {
    let tagged = |tags: &[(u16, u16)]| Link { tags: tags.to_vec(), ..link.clone() };
    let (src, nobody) = (Ipv4Addr::new(192, 0, 2, 50), Lan::NOBODY_V4);
    let v6_pair = (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x50), Lan::NOBODY_V6);
    let v4 = |id| V4 { id, ..V4::plain(src, nobody, UDP) };
    let datagram = |port, len| udp((port, 4789), len);
    let ports = |port| (port, 4789);
    let mut frames = vec![
        v4(1).frame(link, &datagram(1001, 200), ports(1001)),
        v4(2).frame(&tagged(&[(VLAN, 5)]), &datagram(1002, 201), ports(1002)),
        v4(3).frame(&tagged(&[(VLAN, 0xefff)]), &datagram(1003, 1468), ports(1003)),
        v4(4).frame(&tagged(&[(QINQ, 7), (VLAN, 8)]), &datagram(1004, 203), ports(1004)),
        v4(5).frame(&tagged(&[(VLAN, 7), (VLAN, 8), (VLAN, 9)]), &datagram(1005, 204), ports(1005)),
        v6(&tagged(&[(VLAN, 5)]), v6_pair, &[], UDP, &datagram(1006, 205), ports(1006)),
        v6(&tagged(&[(QINQ, 5), (VLAN, 6)]), v6_pair, &[], UDP, &datagram(1007, 206), ports(1007)),
        // No operation, three times, and the end: 4 bytes; and 40 bytes of them.
        V4 { options: &[1, 1, 1, 0], ..v4(8) }.frame(link, &datagram(1008, 207), ports(1008)),
        V4 { options: &[1; 40], ..v4(9) }.frame(link, &datagram(1009, 208), ports(1009)),
        // Hop-by-hop and destination options (PadN), each 8 bytes; then a fragment that is whole.
        v6(
            link,
            v6_pair,
            &[(0, vec![0, 0, 1, 4, 0, 0, 0, 0]), (60, vec![0, 0, 1, 4, 0, 0, 0, 0])],
            UDP,
            &datagram(1010, 209),
            ports(1010),
        ),
        v6(link, v6_pair, &[(44, vec![0, 0, 0, 0, 0, 0, 0, 1])], UDP, &datagram(1011, 210), ports(1011)),
        V4::plain(src, nobody, ICMP).frame(link, &echo_request(56), (0, 0)),
        // Padded to the shortest Ethernet frame: wire bytes count the padding, IP bytes do not.
        v4(13).frame(link, &datagram(1013, 0), ports(1013)),
    ];
    if let Some(short) = frames.last_mut() {
        short.bytes.resize(60, 0);
    }
    // One datagram of 2,408 bytes in three fragments: the ports are in the first.
    let whole = datagram(1020, 2400);
    for (offset, part) in [(0, &whole[..1000]), (1000, &whole[1000..2000]), (2000, &whole[2000..])] {
        let fragment = V4 { offset, more: offset < 2000, ..v4(20) };
        frames.push(fragment.frame(link, part, if offset == 0 { ports(1020) } else { (0, 0) }));
        let more = u16::from(offset < 2000);
        let [high, low] = (offset | more).to_be_bytes();
        let header = vec![0, 0, high, low, 0, 0, 0, 20];
        let seen = if offset == 0 { ports(1020) } else { (0, 0) };
        frames.push(v6(link, v6_pair, &[(44, header)], UDP, part, seen));
    }
    frames
}

/// Hundreds of polls while packets flow: together they hold each packet once.
///
/// # Panics
/// When a count is wrong.
pub fn polls_add_up(start: Start<'_>) {
    let lan = Lan::new();
    let mut backend = start_on(&lan, start, &settings());
    let mut expected = Tally::default();
    let flows: Vec<(Udp, Udp)> = (0..4)
        .map(|i| {
            let near = SocketAddr::new(if i % 2 == 0 { Lan::HOST_V4 } else { Lan::HOST_V6 }, 20_000 + i);
            let far = SocketAddr::new(if i % 2 == 0 { Lan::WORLD_V4 } else { Lan::WORLD_V6 }, 53);
            let out = Udp { src: near, dst: far, packets: 5_000, payload: 64 };
            (out, Udp { src: far, dst: near, packets: 4_000, payload: 700 })
        })
        .collect();
    for (out, back) in &flows {
        expected.add(out.key(Direction::Egress), out.count());
        expected.add(back.key(Direction::Ingress), back.count());
    }
    let mut collector = Collector::default();
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            for (out, back) in &flows {
                out.send(&lan.host, &lan.world);
                back.send(&lan.world, &lan.host);
            }
        });
        while !sender.is_finished() {
            collector.poll(&mut *backend);
        }
    });
    let counted = collector.finish(&lan, &mut *backend, total(&expected));
    assert_eq!(counted, expected);
}

/// More flows than the table holds: the rest is counted by protocol, and nothing is missing.
///
/// # Panics
/// When a count is wrong.
pub fn overflow_is_visible(start: Start<'_>) {
    const ROOM: u32 = 16;
    let lan = Lan::new();
    let mut backend = start_on(&lan, start, &LiveSettings { table_size: ROOM, ..settings() });
    let mut packets = 0;
    let mut wire_bytes = 0;
    for port in 0..100 {
        let src = SocketAddr::new(Lan::HOST_V4, 30_000 + port);
        let flow = Udp { src, dst: SocketAddr::new(Lan::WORLD_V4, 53), packets: 3, payload: 30 };
        flow.send(&lan.host, &lan.world);
        packets += flow.count().packets;
        wire_bytes += flow.count().wire_bytes;
    }
    // Markers may find no room either, so the total is awaited without them.
    let mut held = 0;
    let mut tally = Tally::default();
    wait_until("everything to be counted", PATIENCE, || {
        let snapshot = backend.poll().unwrap_or_else(|error| panic!("{error}")).unwrap_or_default();
        held = held.max(snapshot.flows.len());
        assert!(snapshot.flows.len() <= ROOM as usize, "{} flows in a table of {ROOM}", snapshot.flows.len());
        assert!(snapshot.unaccounted.keys().all(|key| key.proto == UDP), "{:?}", snapshot.unaccounted);
        tally.add_snapshot(&snapshot);
        total(&tally) >= packets
    });
    assert_eq!(total(&tally), packets);
    let flows = tally.sum(Direction::Egress);
    let full = tally.unaccounted[&(Reason::TableFull, Direction::Egress)];
    assert_eq!(flows.wire_bytes + full.1, wire_bytes);
    assert_eq!(tally.unaccounted.len(), 1, "{tally:?}");
    assert!(held > 0, "flows already in the table go on being counted");
}

/// A tun device, whose frames are the IP packets themselves, both ways and both versions.
///
/// # Panics
/// When a count is wrong.
pub fn packets_without_link_header_are_exact(start: Start<'_>) {
    let netns = Netns::new("tun");
    let mut tun = device::tun(&netns, "tun0");
    netns.ip("address add 203.0.113.1/24 dev tun0");
    netns.ip("address add 2001:db8:1::1/64 dev tun0 nodad");
    let settings = LiveSettings { interfaces: Request::named(["tun0"]), ..settings() };
    let mut backend = netns.run(|| start(&settings));

    let link = Link { src: [0; 6], dst: [0; 6], tags: Vec::new() };
    let (here, there) = (Ipv4Addr::new(203, 0, 113, 1), Ipv4Addr::new(203, 0, 113, 2));
    let net = |host| Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, host);
    let mut expected = Tally::default();
    // Out through the kernel's own sockets, in through the device; nobody listens on these addresses.
    for (near, far) in [(IpAddr::from(here), IpAddr::from(there)), (net(1).into(), net(2).into())] {
        let socket = netns.run(|| UdpSocket::bind((near, 5000))).unwrap_or_else(|error| panic!("{error}"));
        for size in [1, 100, 1400] {
            socket.send_to(&vec![1; size], (far, 6000)).unwrap_or_else(|error| panic!("{error}"));
            let flow = Udp { src: (near, 5000).into(), dst: (far, 6000).into(), packets: 1, payload: size };
            let count = flow.count();
            expected.add(flow.key(Direction::Egress), Count { wire_bytes: count.ip_bytes, ..count });
        }
    }
    let v4 = V4::plain(there, Ipv4Addr::new(203, 0, 113, 77), UDP);
    for frame in [
        v4.frame(&link, &udp((7000, 8000), 333), (7000, 8000)),
        v6(&link, (net(2), net(0x77)), &[], UDP, &udp((7001, 8001), 334), (7001, 8001)),
    ] {
        let frame = frame.without_ethernet();
        tun.write_all(&frame.bytes).unwrap_or_else(|error| panic!("tun: {error}"));
        expected.add(frame.key(Direction::Ingress), frame.count());
    }
    let mut tally = Tally::default();
    wait_until("everything to be counted", PATIENCE, || {
        tally.add_snapshot(&backend.poll().unwrap_or_else(|error| panic!("{error}")).unwrap_or_default());
        total(&tally) >= total(&expected)
    });
    assert_eq!(tally, expected);
}
