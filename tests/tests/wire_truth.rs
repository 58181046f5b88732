//! What is counted where the stack moves many frames as one packet equals what a link behind it carries as
//! single frames: packets, wire bytes and IP bytes, at every hook, both ways.
//!
//! The truth is a capture of libpcap on a link without offloads, the naive sum the host's own device counters.
//! Needs root and eBPF; everything happens in network namespaces of the tests' own.

use std::net::{SocketAddr, UdpSocket};

use aya::programs::TcAttachType;
use wherefore::backend::{Backend, Hook, LiveSettings, ebpf, interfaces::Request};
use wherefore_common::Direction;
use wherefore_tests::{
    Netns, device,
    frame::{QINQ, VLAN},
    pair,
    program::{Act, Other},
    require_bpf,
    routed::Routed,
    scenario,
    tally::{Count, Tally},
    traffic::tcp,
    wire::{Crossed, Wire},
};

/// An agent on one device.
struct Watch {
    backend: Box<dyn Backend>,
    /// Which of its directions leads to the end of the way.
    to_end: Direction,
    tally: Tally,
}

impl Watch {
    fn new((netns, device): (&Netns, &str), hook: Hook, to_end: Direction) -> Self {
        let interfaces = Request::named([device]);
        let settings = LiveSettings { interfaces, hook, table_size: 1024, ..scenario::settings() };
        let backend = netns.run(|| ebpf::start(&settings));
        let backend = backend.unwrap_or_else(|error| panic!("{hook:?} on {device}: {error}"));
        Self { backend: Box::new(backend), to_end, tally: Tally::default() }
    }

    /// What was counted to the end and back, so far.
    fn poll(&mut self) -> (Count, Count) {
        let snapshot = self.backend.poll().unwrap_or_else(|error| panic!("{error}")).unwrap_or_default();
        self.tally.add_snapshot(&snapshot);
        assert!(self.tally.unaccounted.is_empty(), "{:?}", self.tally.unaccounted);
        for direction in [Direction::Ingress, Direction::Egress] {
            let flows = snapshot.flows.iter().filter(|flow| flow.direction() == direction);
            let flows = flows
                .fold((0, 0), |sum, flow| (sum.0 + flow.counters.packets, sum.1 + flow.counters.wire_bytes));
            let passed = snapshot.passed.iter().filter(|((_, way), _)| *way == direction as u8);
            let passed = passed
                .fold((0, 0), |sum, (_, passed)| (sum.0 + passed.all.packets, sum.1 + passed.all.wire_bytes));
            assert_eq!(flows, passed, "flows and totals, {direction:?}");
        }
        (self.tally.sum(self.to_end), self.tally.sum(opposite(self.to_end)))
    }
}

fn opposite(direction: Direction) -> Direction {
    if direction == Direction::Egress { Direction::Ingress } else { Direction::Egress }
}

/// Agents at the host's and the router's end of their link, and the truth behind the router.
struct Test {
    routed: Routed,
    watches: [Watch; 2],
    wire: Wire,
    hook: Hook,
    /// Bytes of a tag that is on the watched link alone.
    tag: u64,
}

/// A case's truth beside the naive sum.
#[derive(Debug)]
struct Seen {
    wire: Crossed,
    naive: device::Counters,
}

impl Test {
    fn new(hook: Hook) -> Self {
        let routed = Routed::new();
        let watches = [
            Watch::new(routed.lan.host(), hook, Direction::Egress),
            Watch::new(routed.lan.world(), hook, Direction::Ingress),
        ];
        let wire = Wire::new(&routed.end, Routed::END_DEVICE);
        Self { routed, watches, wire, hook, tag: 0 }
    }

    /// Lets `send` send and compares both agents with the truth.
    fn holds(&mut self, what: &str, send: impl FnOnce(&Routed)) -> Seen {
        let (host, device) = self.routed.lan.host();
        let before = device::counters(host, device);
        send(&self.routed);
        let mut wire = Crossed::default();
        let mut found = [(Count::default(), Count::default()); 2];
        let (tag, hook) = (self.tag, self.hook);
        let expected = |wire: &Crossed| {
            [Direction::Egress, Direction::Ingress].map(|to_end| {
                let on_link = |count: Count, direction| {
                    // A tag beside the packet is nothing that XDP could see.
                    let unseen =
                        if hook == Hook::Xdp && direction == Direction::Ingress { tag.min(4) } else { 0 };
                    Count { wire_bytes: count.wire_bytes + (tag - unseen) * count.packets, ..count }
                };
                (on_link(wire.received, to_end), on_link(wire.sent, opposite(to_end)))
            })
        };
        // The last acknowledgement may come late.
        for _ in 0..200 {
            found = self.watches.each_mut().map(Watch::poll);
            self.wire.add_to(&mut wire);
            if found == expected(&wire) {
                break;
            }
        }
        for ((found, wire), place) in found.iter().zip(expected(&wire)).zip(["host", "router"]) {
            assert_eq!(*found, wire, "{hook:?}, {what}: counted at the {place}, and on the wire");
        }
        assert!(wire.longest <= 1514 && wire.received.packets > 0, "{what}: {wire:?}");
        for watch in &mut self.watches {
            watch.tally = Tally::default();
        }
        Seen { wire, naive: device::counters(host, device).since(before) }
    }

    /// Whether anything was tested: the host's device sent fewer and larger packets, of fewer bytes, as long
    /// as a hook lets it.
    fn joined(&self, what: &str, seen: &Seen) {
        let (naive, wire) = (&seen.naive, &seen.wire);
        if self.hook == Hook::Xdp {
            // Native XDP at the other end of a veth switches its segmentation off.
            assert_eq!(naive.tx_packets, wire.received.packets, "{what}: {seen:?}");
        } else {
            assert!(naive.tx_packets * 4 < wire.received.packets, "{what}: {seen:?}");
            assert!(naive.tx_bytes * 100 < wire.received.wire_bytes * 98, "{what}: {seen:?}");
        }
    }

    /// As [`Self::joined`], of what came back.
    fn joined_back(&self, what: &str, seen: &Seen) {
        if self.hook != Hook::Xdp {
            assert!(seen.naive.rx_packets * 2 < seen.wire.sent.packets, "{what}: {seen:?}");
            assert!(seen.naive.rx_bytes < seen.wire.sent.wire_bytes, "{what}: {seen:?}");
        }
    }
}

/// TCP connections up and down, over both versions.
fn tcp_is_counted_as_on_the_wire(hook: Hook) {
    if !require_bpf() {
        return;
    }
    let mut test = Test::new(hook);
    for mss in [536, 1000, 1460] {
        test.routed.segment_size(mss);
        for address in Routed::END {
            let server = SocketAddr::new(address, 443);
            let what = format!("{address}, segments of {mss}");
            let up = test.holds(&what, |routed| {
                let _ = tcp(&routed.lan.host, &routed.end, server, 4_000_000, 0);
            });
            test.joined(&what, &up);
            let down = test.holds(&what, |routed| {
                let _ = tcp(&routed.lan.host, &routed.end, server, 0, 4_000_000);
            });
            test.joined_back(&what, &down);
        }
    }
}

/// Trains of datagrams (`UDP_SEGMENT`), the last of each shorter.
fn datagram_trains_are_counted_as_on_the_wire(hook: Hook) {
    if !require_bpf() {
        return;
    }
    let mut test = Test::new(hook);
    for (host, end) in Routed::HOST.into_iter().zip(Routed::END) {
        for size in [512, 1000, 1452] {
            let what = format!("datagrams of {size} to {end}");
            let seen = test.holds(&what, |routed| {
                let to = SocketAddr::new(end, 4433);
                let bind = |netns: &Netns, address| netns.run(|| UdpSocket::bind(address));
                // Bound and not read, so that nobody answers.
                let _quiet = bind(&routed.end, to).unwrap_or_else(|error| panic!("{to}: {error}"));
                let socket = bind(&routed.lan.host, (host, 0).into());
                let socket = socket.unwrap_or_else(|error| panic!("{host}: {error}"));
                pair::segment(&socket, size).unwrap_or_else(|error| panic!("UDP_SEGMENT: {error}"));
                let train = vec![7; 40 * size as usize + 33];
                for _ in 0..50 {
                    assert_eq!(
                        socket.send_to(&train, to).unwrap_or_else(|error| panic!("{error}")),
                        train.len()
                    );
                }
            });
            assert_eq!(seen.wire.received.packets, 50 * 41);
            test.joined(&what, &seen);
        }
    }
}

/// TCP of both versions in VXLAN over both: the carrier is what is counted.
fn tunnelled_segments_are_counted_as_on_the_wire(hook: Hook) {
    if !require_bpf() {
        return;
    }
    for version in 0..2 {
        let mut test = Test::new(hook);
        test.routed.vxlan(version);
        for inner in ["198.51.100.130:443", "[2001:db8:2::2]:443"] {
            let server: SocketAddr = inner.parse().unwrap_or_else(|error| panic!("{error}"));
            let what = format!("{inner} in VXLAN over {}", Routed::END[version]);
            let up = test.holds(&what, |routed| {
                let _ = tcp(&routed.lan.host, &routed.end, server, 3_000_000, 0);
            });
            test.joined(&what, &up);
            let down = test.holds(&what, |routed| {
                let _ = tcp(&routed.lan.host, &routed.end, server, 0, 3_000_000);
            });
            test.joined_back(&what, &down);
        }
    }
}

/// TCP whose frames carry tags on the watched link: priority tags (VLAN 0), which hosts without VLAN devices
/// take off and ignore. The kernel keeps the outer one beside the packet, an inner one in its data.
fn tagged_segments_are_counted_as_on_the_wire(hook: Hook) {
    if !require_bpf() {
        return;
    }
    for kinds in [&[VLAN][..], &[VLAN, VLAN], &[VLAN, QINQ]] {
        let mut test = Test::new(hook);
        test.tag = 4 * kinds.len() as u64;
        let mut pushers = Vec::new();
        for (netns, device) in [test.routed.lan.host(), test.routed.lan.world()] {
            for kind in kinds.iter().rev() {
                let pusher = Other::tc(Act::PushTag(*kind, 0xe000));
                // Each comes before those that are there.
                let attached = netns.run(|| pusher.attach_tcx(device, TcAttachType::Egress));
                pushers.push((pusher, attached));
            }
        }
        for address in Routed::END {
            let server = SocketAddr::new(address, 443);
            let what = format!("{address}, tags {kinds:x?}");
            let up = test.holds(&what, |routed| {
                let _ = tcp(&routed.lan.host, &routed.end, server, 2_000_000, 0);
            });
            test.joined(&what, &up);
            let down = test.holds(&what, |routed| {
                let _ = tcp(&routed.lan.host, &routed.end, server, 0, 2_000_000);
            });
            test.joined_back(&what, &down);
        }
    }
}

/// Segments joined beyond 64 KiB: their IP header cannot say how long they are, and Linux before 7.0 puts a
/// hop-by-hop header into those of IPv6, which no frame on the wire has.
#[test]
fn segments_beyond_64_kib_are_counted_as_on_the_wire() {
    if !require_bpf() {
        return;
    }
    for hook in [Hook::Tc, Hook::Clsact] {
        let mut test = Test::new(hook);
        // As many frames as the queues on the way hold.
        test.routed.window(2_000_000);
        // Room for the hop-by-hop header: a router of Linux 6.18 takes it for a part of each segment.
        test.routed.segment_size(1400);
        let (host, device) = test.routed.lan.host();
        if let Err(error) = device::segmentation_size(host, device, 200_000) {
            eprintln!("skipped: no packets beyond 64 KiB: {error}");
            return;
        }
        let mut near = Wire::new(host, device);
        for address in Routed::END {
            let server = SocketAddr::new(address, 443);
            let what = format!("{address}, up to 200,000 bytes at once");
            let up = test.holds(&what, |routed| {
                let _ = tcp(&routed.lan.host, &routed.end, server, 10_000_000, 0);
            });
            test.joined(&what, &up);
            let mut large = Crossed::default();
            near.add_to(&mut large);
            assert!(large.longest > 70_000, "{what}: none was longer than {} bytes", large.longest);
        }
    }
}

/// A module for a hook, a test in it for each kind of traffic.
macro_rules! at_hook {
    ($name:ident, $hook:expr) => {
        mod $name {
            use super::*;

            #[test]
            fn tcp_is_counted_as_on_the_wire() {
                super::tcp_is_counted_as_on_the_wire($hook);
            }

            #[test]
            fn datagram_trains_are_counted_as_on_the_wire() {
                super::datagram_trains_are_counted_as_on_the_wire($hook);
            }

            #[test]
            fn tunnelled_segments_are_counted_as_on_the_wire() {
                super::tunnelled_segments_are_counted_as_on_the_wire($hook);
            }

            #[test]
            fn tagged_segments_are_counted_as_on_the_wire() {
                super::tagged_segments_are_counted_as_on_the_wire($hook);
            }
        }
    };
}

at_hook!(tcx, Hook::Tc);
at_hook!(clsact, Hook::Clsact);
at_hook!(xdp, Hook::Xdp);
