//! Frames built byte by byte, and what a correct count of each is, by arithmetic on what was put in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use wherefore_common::Direction;

use crate::tally::{Count, Key};

/// 802.1Q.
pub const VLAN: u16 = 0x8100;
/// 802.1ad service tag.
pub const QINQ: u16 = 0x88a8;
/// IPv4's protocol number for ICMP.
pub const ICMP: u8 = 1;
/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;

/// A frame with what it should count as.
#[derive(Clone, Debug)]
pub struct Frame {
    /// From the destination's Ethernet address to the last byte, without frame check sequence.
    pub bytes: Vec<u8>,
    /// The flow it belongs to, by direction.
    flow: Flow,
    ip_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Flow {
    src: IpAddr,
    dst: IpAddr,
    proto: u8,
    ports: (u16, u16),
}

impl Frame {
    /// The same without its 14 bytes of Ethernet header, as devices without link headers carry it.
    #[must_use]
    pub fn without_ethernet(mut self) -> Self {
        self.bytes.drain(..14);
        self
    }

    /// The same with these bytes where its `EtherType` is: other headers, from their `EtherType` on.
    #[must_use]
    pub fn behind(mut self, headers: &[u8]) -> Self {
        self.bytes.splice(12..14, headers.iter().copied());
        self
    }

    /// The same where it counts as another protocol, with other ports.
    #[must_use]
    pub const fn counted_as(mut self, proto: u8, ports: (u16, u16)) -> Self {
        self.flow.proto = proto;
        self.flow.ports = ports;
        self
    }

    /// The flow it belongs to when it goes this way.
    #[must_use]
    pub const fn key(&self, direction: Direction) -> Key {
        let Flow { src, dst, proto, ports: (sport, dport) } = self.flow;
        Key { src, dst, sport, dport, proto, direction }
    }

    /// What it adds to its flow.
    #[must_use]
    pub const fn count(&self) -> Count {
        Count { packets: 1, wire_bytes: self.bytes.len() as u64, ip_bytes: self.ip_bytes }
    }
}

/// The link layer of a frame: addresses and tags, outermost first, each with its EtherType and control
/// information.
#[derive(Clone, Debug)]
pub struct Link {
    /// Source address.
    pub src: [u8; 6],
    /// Destination address.
    pub dst: [u8; 6],
    /// Tags.
    pub tags: Vec<(u16, u16)>,
}

impl Link {
    fn around(&self, ether_type: u16, packet: &[u8]) -> Vec<u8> {
        let mut bytes = [self.dst, self.src].concat();
        for (kind, control) in &self.tags {
            bytes.extend(kind.to_be_bytes());
            bytes.extend(control.to_be_bytes());
        }
        bytes.extend(ether_type.to_be_bytes());
        bytes.extend(packet);
        bytes
    }
}

/// An IPv4 packet's own part.
#[derive(Clone, Debug)]
pub struct V4<'a> {
    /// Source.
    pub src: Ipv4Addr,
    /// Destination.
    pub dst: Ipv4Addr,
    /// Protocol.
    pub proto: u8,
    /// Options, a multiple of four bytes, at most 40.
    pub options: &'a [u8],
    /// Identification, which fragments of one packet share.
    pub id: u16,
    /// Offset of a fragment in bytes, a multiple of eight.
    pub offset: u16,
    /// More fragments follow.
    pub more: bool,
}

impl V4<'_> {
    /// A packet without options, not a fragment.
    #[must_use]
    pub const fn plain(src: Ipv4Addr, dst: Ipv4Addr, proto: u8) -> V4<'static> {
        V4 { src, dst, proto, options: &[], id: 0, offset: 0, more: false }
    }

    /// The frame around `payload`; its flow has `ports`, which must be (0, 0) where nobody can read any.
    #[must_use]
    pub fn frame(&self, link: &Link, payload: &[u8], ports: (u16, u16)) -> Frame {
        let header_len = 20 + self.options.len();
        let total = header_len + payload.len();
        let mut packet = vec![0x40 | (header_len / 4) as u8, 0];
        packet.extend((total as u16).to_be_bytes());
        packet.extend(self.id.to_be_bytes());
        packet.extend(((self.offset / 8) | if self.more { 0x2000 } else { 0 }).to_be_bytes());
        packet.extend([64, self.proto, 0, 0]);
        packet.extend(self.src.octets());
        packet.extend(self.dst.octets());
        packet.extend(self.options);
        let sum = checksum(&packet);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend(payload);
        Frame {
            bytes: link.around(0x0800, &packet),
            flow: Flow { src: self.src.into(), dst: self.dst.into(), proto: self.proto, ports },
            ip_bytes: total as u64,
        }
    }
}

/// The frame of an IPv6 packet. `extensions` are (number, whole header); the next-header fields in their
/// first bytes are filled in here. `proto` is what follows them.
#[must_use]
pub fn v6(
    link: &Link,
    (src, dst): (Ipv6Addr, Ipv6Addr),
    extensions: &[(u8, Vec<u8>)],
    proto: u8,
    payload: &[u8],
    ports: (u16, u16),
) -> Frame {
    let mut behind = Vec::new();
    for (i, (_, header)) in extensions.iter().enumerate() {
        let next = extensions.get(i + 1).map_or(proto, |(number, _)| *number);
        behind.push(next);
        behind.extend(&header[1..]);
    }
    behind.extend(payload);
    let first = extensions.first().map_or(proto, |(number, _)| *number);
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((behind.len() as u16).to_be_bytes());
    packet.extend([first, 64]);
    packet.extend(src.octets());
    packet.extend(dst.octets());
    packet.extend(&behind);
    Frame {
        bytes: link.around(0x86dd, &packet),
        flow: Flow { src: src.into(), dst: dst.into(), proto, ports },
        ip_bytes: packet.len() as u64,
    }
}

/// A UDP header, checksum 0 (allowed with IPv4), and `len` bytes of payload.
#[must_use]
pub fn udp((sport, dport): (u16, u16), len: usize) -> Vec<u8> {
    let mut bytes =
        [sport.to_be_bytes(), dport.to_be_bytes(), ((8 + len) as u16).to_be_bytes(), [0; 2]].concat();
    bytes.resize(8 + len, 0xa5);
    bytes
}

/// A TCP header of 20 bytes with nothing set but ports and length, and `len` bytes of payload.
#[must_use]
pub fn tcp((sport, dport): (u16, u16), len: usize) -> Vec<u8> {
    let mut bytes = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
    bytes.resize(20 + len, 0);
    bytes[12] = 0x50;
    bytes
}

/// An ICMP echo request with `len` bytes of payload, checksum and all, so that a host answers it.
#[must_use]
pub fn echo_request(len: usize) -> Vec<u8> {
    let mut bytes = vec![8, 0, 0, 0, 0, 1, 0, 1];
    bytes.resize(8 + len, 0x5a);
    let sum = checksum(&bytes);
    bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
