//! What crosses a host's interface in one interval.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use rand::{Rng as _, rngs::SmallRng};
use wherefore::{
    enrich,
    locality::HostAddresses,
    snapshot::{Flow, Passed, Snapshot},
};
use wherefore_common::{Direction, FlowCounters, FlowKey};

use super::{address, clock::Clock};

/// Index of the interface that the traffic crosses.
pub const IFINDEX: u32 = 2;
/// Its name.
pub const INTERFACE: &str = "eth0";
/// Protocol numbers.
pub const TCP: u8 = 6;
/// Likewise.
pub const UDP: u8 = 17;
/// Bytes of a full TCP segment, with timestamps.
const SEGMENT: f64 = 1_448.0;
/// Bytes of an Ethernet header.
const LINK: u64 = 14;

/// Two ends that talk with each other across the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conversation {
    /// The end on this side: the host, or one behind the router.
    pub local: IpAddr,
    /// Its port.
    pub local_port: u16,
    /// The other end.
    pub remote: IpAddr,
    /// Its port.
    pub remote_port: u16,
    /// IP protocol.
    pub proto: u8,
}

impl Conversation {
    /// The host serves somebody at this port.
    pub fn served(port: u16, remote: IpAddr, random: &mut SmallRng) -> Self {
        let local = address::host(remote.is_ipv6());
        Self { local, local_port: port, remote, remote_port: ephemeral(random), proto: TCP }
    }

    /// The host asks somebody at this port.
    pub fn asked(remote: IpAddr, port: u16, random: &mut SmallRng) -> Self {
        let local = address::host(remote.is_ipv6());
        Self { local, local_port: ephemeral(random), remote, remote_port: port, proto: TCP }
    }

    /// Bytes of the headers of IP and above.
    fn headers(&self) -> u64 {
        let ip = if self.local.is_ipv6() { 40 } else { 20 };
        // TCP with timestamps, which nearly all hosts use.
        ip + if self.proto == TCP { 32 } else { 8 }
    }

    fn key(&self, direction: Direction) -> FlowKey {
        let bytes = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        let ((src, sport), (dst, dport)) = match direction {
            Direction::Egress => ((self.local, self.local_port), (self.remote, self.remote_port)),
            _ => ((self.remote, self.remote_port), (self.local, self.local_port)),
        };
        FlowKey {
            src: bytes(src),
            dst: bytes(dst),
            ifindex: IFINDEX,
            dport,
            sport,
            proto: self.proto,
            family: if src.is_ipv6() { 6 } else { 4 },
            direction: direction as u8,
            pad: [0; 5],
        }
    }
}

/// A port that an operating system gives to who asks (Linux: 32,768 to 60,999).
pub fn ephemeral(random: &mut SmallRng) -> u16 {
    random.random_range(32_768..=60_999)
}

/// Data that goes at an even rate for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transfer {
    /// Between whom.
    pub conversation: Conversation,
    /// Second at which it begins.
    pub start: f64,
    /// Second at which it is done.
    pub end: f64,
    /// Bytes a second from this side.
    pub sent: f64,
    /// Bytes a second from the other side.
    pub received: f64,
}

impl Transfer {
    /// Bytes sent and received, the larger at `rate` bytes a second.
    #[must_use]
    pub fn new(conversation: Conversation, start: f64, sent: f64, received: f64, rate: f64) -> Self {
        // A round trip at least.
        let length = (sent.max(received) / rate).max(0.03);
        Self { conversation, start, end: start + length, sent: sent / length, received: received / length }
    }

    /// Adds what of it lies in the interval.
    pub fn cross(&self, traffic: &mut Traffic) {
        let clock = traffic.clock;
        let seconds = self.end.min(clock.end()) - self.start.max(clock.start);
        if seconds > 0.0 {
            traffic.exchange(&self.conversation, self.sent * seconds, self.received * seconds);
        }
    }
}

/// The traffic of one interval, as it grows.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// The interval.
    pub clock: Clock,
    flows: Vec<(FlowKey, FlowCounters)>,
}

impl Traffic {
    /// None yet.
    #[must_use]
    pub const fn new(clock: Clock) -> Self {
        Self { clock, flows: Vec::new() }
    }

    /// Data by TCP or UDP both ways, with headers and what acknowledges it.
    pub fn exchange(&mut self, conversation: &Conversation, sent: f64, received: f64) {
        let segments = |bytes: f64| (bytes / SEGMENT).ceil();
        let acknowledges = |bytes: f64| {
            if conversation.proto == TCP { (segments(bytes) / 2.0).ceil() } else { 0.0 }
        };
        for (direction, bytes, other) in
            [(Direction::Egress, sent, received), (Direction::Ingress, received, sent)]
        {
            let packets = segments(bytes).max(acknowledges(other)) as u64;
            self.add(conversation, direction, packets, bytes as u64 + packets * conversation.headers());
        }
    }

    /// Packets without data, as an attempt to connect and its refusal.
    pub fn bare(&mut self, conversation: &Conversation, sent: u64, received: u64) {
        // A SYN has more options than the packets behind it.
        let bytes = conversation.headers() + 8;
        self.add(conversation, Direction::Egress, sent, sent * bytes);
        self.add(conversation, Direction::Ingress, received, received * bytes);
    }

    fn add(&mut self, conversation: &Conversation, direction: Direction, packets: u64, ip_bytes: u64) {
        if packets == 0 {
            return;
        }
        let counters = FlowCounters {
            packets,
            wire_bytes: ip_bytes + packets * LINK,
            ip_bytes,
            first_ns: self.clock.wall(self.clock.start).0,
            last_ns: self.clock.wall(self.clock.end()).0 - 1,
            ..FlowCounters::default()
        };
        self.flows.push((conversation.key(direction), counters));
    }

    /// Every flow carries `factor` times as much.
    pub fn multiply(&mut self, factor: u64) {
        for (_, counters) in &mut self.flows {
            counters.packets *= factor;
            counters.wire_bytes *= factor;
            counters.ip_bytes *= factor;
        }
    }

    /// Nothing crosses the interface.
    pub fn cut(&mut self) {
        self.flows.clear();
    }

    /// IP bytes sent and received.
    #[must_use]
    pub fn bytes(&self) -> [u64; 2] {
        let sum = |direction: Direction| {
            let flows = self.flows.iter().filter(|(key, _)| key.direction == direction as u8);
            flows.map(|(_, counters)| counters.ip_bytes).sum()
        };
        [sum(Direction::Egress), sum(Direction::Ingress)]
    }

    /// The interval as a live backend hands it over, each end known.
    #[must_use]
    pub fn snapshot(mut self, addresses: Arc<HostAddresses>) -> Snapshot {
        self.flows.sort_unstable_by_key(|(key, _)| *key);
        let mut flows: Vec<Flow> = Vec::with_capacity(self.flows.len());
        let mut passed: BTreeMap<(u32, u8), Passed> = BTreeMap::new();
        for (key, counters) in self.flows {
            let amount = counters.amount();
            passed.entry((key.ifindex, key.direction)).or_default().add(&Passed {
                seen: amount,
                all: amount,
                ..Passed::default()
            });
            match flows.last_mut() {
                Some(last) if last.key == key => last.counters.add(&counters),
                _ => flows.push(Flow::new(key, counters)),
            }
        }
        let clock = self.clock;
        let mut snapshot = Snapshot {
            start: clock.wall(clock.start),
            end: clock.wall(clock.end()),
            length: Duration::from_secs_f64(clock.length),
            complete: true,
            interfaces: [(IFINDEX, INTERFACE.to_owned())].into(),
            host_addresses: Some(addresses),
            flows,
            passed,
            ..Snapshot::default()
        };
        enrich::locality::mark(&mut snapshot);
        snapshot
    }
}
