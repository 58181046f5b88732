//! Frames that sockets do not send, up to the parser's limits and beyond: counted on real devices as arithmetic
//! says. (Tags, options and fragments of a usual kind: `live_ebpf`.)
//!
//! Needs root, eBPF and iproute2; everything happens in network namespaces of the tests' own.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::net::{Ipv4Addr, Ipv6Addr};

use wherefore::backend::{Backend, Hook, ebpf};
use wherefore_common::{
    Direction, Reason,
    parse::{MAX_EXTENSION_HEADERS, MAX_LINK_HEADERS},
};
use wherefore_tests::{
    PATIENCE, can_load,
    frame::{Frame, Link, QINQ, UDP, V4, VLAN, udp, v6},
    pair::{FAR, NEAR, namespace, settings},
    tally::Tally,
    traffic::send_frames,
    wait_until,
};

/// Payload of the datagrams, different for each so that no two mistakes cancel out.
struct Datagrams {
    link: Link,
    made: u16,
}

const V4_PAIR: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(198, 51, 100, 1), Ipv4Addr::new(198, 51, 100, 2));
const V6_PAIR: (Ipv6Addr, Ipv6Addr) =
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2));

impl Datagrams {
    const fn new() -> Self {
        // To nobody's address.
        let link = Link { src: [2, 0, 0, 0, 0, 1], dst: [2, 0, 0, 0, 0, 9], tags: Vec::new() };
        Self { link, made: 0 }
    }

    /// Ports and length of the next.
    fn next(&mut self) -> ((u16, u16), usize) {
        self.made += 1;
        ((1000 + self.made, 53), 100 + 3 * usize::from(self.made))
    }

    fn v4(&mut self) -> Frame {
        let (ports, length) = self.next();
        V4::plain(V4_PAIR.0, V4_PAIR.1, UDP).frame(&self.link, &udp(ports, length), ports)
    }

    fn v6(&mut self, extensions: &[(u8, Vec<u8>)]) -> Frame {
        let (ports, length) = self.next();
        v6(&self.link, V6_PAIR, extensions, UDP, &udp(ports, length), ports)
    }
}

/// Some headers from the `EtherType` on, as [`Frame::behind`] takes them.
fn pppoe(protocol: &[u8], payload: usize) -> Vec<u8> {
    let length = (payload + protocol.len()) as u16;
    [&[0x88, 0x64, 0x11, 0, 0, 5], &length.to_be_bytes()[..], protocol].concat()
}

fn labels(count: usize) -> Vec<u8> {
    let mut bytes = vec![0x88, 0x47];
    for label in 1..=count {
        bytes.extend([1, 2, if label == count { 0x31 } else { 0x30 }, 64]);
    }
    bytes
}

fn tags(kinds: &[u16], inner: u16) -> Vec<u8> {
    let tags = kinds.iter().flat_map(|kind| [kind.to_be_bytes(), [0, 7]]);
    tags.chain([inner.to_be_bytes()]).flatten().collect()
}

/// Destination options of 8 bytes.
const OPTIONS: (u8, [u8; 8]) = (60, [0, 0, 1, 4, 0, 0, 0, 0]);

fn chain(length: usize) -> Vec<(u8, Vec<u8>)> {
    vec![(OPTIONS.0, OPTIONS.1.to_vec()); length]
}

/// Frames that belong to a flow, and others with the reason why they do not.
fn frames() -> (Vec<Frame>, Vec<(Frame, Reason)>) {
    const IPV4: u16 = 0x0800;
    const IPV6: u16 = 0x86dd;
    let mut next = Datagrams::new();
    let mut frames = vec![next.v4(), next.v6(&[])];
    // PPPoE sessions, with whole and with compressed protocol numbers.
    for (v4, v6) in [(&[0, 0x21][..], &[0, 0x57][..]), (&[0x21], &[0x57])] {
        frames.extend([next.v4(), next.v6(&[])].into_iter().zip([v4, v6]).map(|(frame, protocol)| {
            let payload = frame.bytes.len() - 14;
            frame.behind(&pppoe(protocol, payload))
        }));
    }
    let tagged_pppoe = next.v4();
    let inner = pppoe(&[0, 0x21], tagged_pppoe.bytes.len() - 14);
    frames.push(tagged_pppoe.behind(&[&tags(&[VLAN], 0)[..4], &inner].concat()));
    for count in [1, 2, 3, MAX_LINK_HEADERS - 1, MAX_LINK_HEADERS] {
        frames.push(next.v4().behind(&labels(count)));
        frames.push(next.v6(&[]).behind(&labels(count)));
    }
    for kinds in [&[QINQ, VLAN][..], &[QINQ, QINQ, VLAN], &[0x9100, VLAN], &[VLAN; MAX_LINK_HEADERS]] {
        frames.push(next.v4().behind(&tags(kinds, IPV4)));
        frames.push(next.v6(&[]).behind(&tags(kinds, IPV6)));
    }
    // As many extension headers as are followed; behind one more nobody looks.
    for length in [0, 1, MAX_EXTENSION_HEADERS - 1, MAX_EXTENSION_HEADERS] {
        frames.push(next.v6(&chain(length)));
    }
    frames.push(next.v6(&chain(MAX_EXTENSION_HEADERS + 1)).counted_as(OPTIONS.0, (0, 0)));
    // Of all kinds: hop-by-hop, routing, authentication (of 16 bytes), a fragment that is whole.
    let mixed = vec![
        (0, vec![0, 0, 1, 4, 0, 0, 0, 0]),
        (43, vec![0, 0, 4, 0, 0, 0, 0, 0]),
        (51, vec![0, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0]),
        (44, vec![0, 0, 0, 0, 0, 0, 0, 1]),
        (60, OPTIONS.1.to_vec()),
    ];
    frames.push(next.v6(&mixed));
    // Later fragments have no ports, however many headers are before.
    for before in [1, MAX_EXTENSION_HEADERS - 1] {
        let mut headers = chain(before);
        headers.push((44, vec![0, 0, 0, 8, 0, 0, 0, 9]));
        frames.push(next.v6(&headers).counted_as(UDP, (0, 0)));
    }

    let control = next.v4();
    let link_control = pppoe(&[0xc0, 0x21], control.bytes.len() - 14);
    let beyond = MAX_LINK_HEADERS + 1;
    let others = vec![
        (control.behind(&link_control), Reason::NonIp),
        (next.v4().behind(&labels(beyond)), Reason::LinkDepth),
        (next.v6(&[]).behind(&labels(beyond)), Reason::LinkDepth),
        // One more: at TC ingress the kernel has taken the outermost off.
        (next.v4().behind(&tags(&[VLAN; MAX_LINK_HEADERS + 2], IPV4)), Reason::LinkDepth),
    ];
    (frames, others)
}

/// Sends from one end and compares what both count.
fn counted_as(hook: Hook, mtu: Option<u32>, frames: &[Frame], others: &[(Frame, Reason)]) {
    let netns = namespace();
    if let Some(mtu) = mtu {
        for device in [NEAR, FAR] {
            netns.ip(&format!("link set {device} mtu {mtu}"));
        }
    }
    let mut backend = netns.run(|| ebpf::start(&settings(hook)).unwrap());
    let mut expected = Tally::default();
    for direction in [Direction::Egress, Direction::Ingress] {
        for frame in frames {
            expected.add(frame.key(direction), frame.count());
        }
        for (frame, reason) in others {
            let sum = expected.unaccounted.entry((*reason, direction)).or_default();
            *sum = (sum.0 + 1, sum.1 + frame.bytes.len() as u64);
        }
    }
    send_frames(&netns, NEAR, frames);
    send_frames(&netns, NEAR, &others.iter().map(|(frame, _)| frame.clone()).collect::<Vec<_>>());
    let mut found = Tally::default();
    let packets = |tally: &Tally| {
        let flows: u64 = tally.flows.values().map(|count| count.packets).sum();
        flows + tally.unaccounted.values().map(|(packets, _)| packets).sum::<u64>()
    };
    wait_until("all frames to be counted", PATIENCE, || {
        found.add_snapshot(&backend.poll().unwrap().unwrap());
        packets(&found) >= packets(&expected)
    });
    for (key, count) in &expected.flows {
        assert_eq!(found.flows.get(key), Some(count), "{hook:?}, {key:?}");
    }
    assert_eq!(found, expected, "{hook:?}");
}

#[test]
fn headers_up_to_the_limits_and_beyond_are_exact() {
    if !can_load() {
        return;
    }
    let (frames, others) = frames();
    for hook in [Hook::Tc, Hook::Clsact, Hook::Xdp, Hook::XdpGeneric] {
        counted_as(hook, None, &frames, &others);
    }
}

/// Frames of 9,014 bytes; native XDP takes none of them, and says so.
#[test]
fn jumbo_frames_are_exact() {
    const MTU: usize = 9000;
    if !can_load() {
        return;
    }
    let link = Datagrams::new().link;
    let mut frames = Vec::new();
    for shorter in [0, 1, 5000] {
        let ports = (2000 + shorter as u16, 53);
        let datagram = |header: usize| udp(ports, MTU - header - 8 - shorter);
        frames.push(V4::plain(V4_PAIR.0, V4_PAIR.1, UDP).frame(&link, &datagram(20), ports));
        frames.push(v6(&link, V6_PAIR, &[], UDP, &datagram(40), ports));
    }
    assert_eq!(frames[0].bytes.len(), MTU + 14);
    for hook in [Hook::Tc, Hook::Clsact] {
        counted_as(hook, Some(MTU as u32), &frames, &[]);
    }
    let netns = namespace();
    for device in [NEAR, FAR] {
        netns.ip(&format!("link set {device} mtu {MTU}"));
    }
    let refused = netns.run(|| ebpf::start(&settings(Hook::Xdp))).err().unwrap().to_string();
    assert!(refused.contains("MTU") && refused.contains("--hook tc"), "{refused}");
}
