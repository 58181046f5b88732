//! Frames written byte by byte. Nobody receives them, so checksums stay zero.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Where all packets come from.
pub const SRC_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Where they go to.
pub const DST_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// As [`SRC_V4`].
pub const SRC_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// As [`DST_V4`].
pub const DST_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;

/// Types of `linux/if_ether.h`.
pub const IPV4: u16 = 0x0800;
/// IPv6.
pub const IPV6: u16 = 0x86dd;
/// ARP.
pub const ARP: u16 = 0x0806;
/// LLDP.
pub const LLDP: u16 = 0x88cc;
/// 802.1Q.
pub const VLAN: u16 = 0x8100;

/// Protocol numbers of IP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
/// IPv6's fragment header.
pub const FRAGMENT: u8 = 44;

/// An Ethernet frame between locally administered addresses that no device has.
pub fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    frame.extend(kind.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The same behind an 802.1Q tag.
pub fn tagged(vlan: u16, kind: u16, payload: &[u8]) -> Vec<u8> {
    let [high, low] = kind.to_be_bytes();
    let mut inner = vlan.to_be_bytes().to_vec();
    inner.extend([high, low]);
    inner.extend(payload);
    ethernet(VLAN, &inner)
}

/// An IPv4 packet. `fragment`: the field with flags and offset, 0 for a whole packet.
pub fn ipv4(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len()) as u16;
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 1]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(SRC_V4.octets());
    packet.extend(DST_V4.octets());
    packet.extend(payload);
    packet
}

/// An IPv6 packet; `next` is the first header of the payload.
pub fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 64]);
    packet.extend(SRC_V6.octets());
    packet.extend(DST_V6.octets());
    packet.extend(payload);
    packet
}

/// A UDP datagram with `data` bytes.
pub fn udp(port: u16, data: usize) -> Vec<u8> {
    let mut datagram = ports(port);
    datagram.extend(((8 + data) as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.resize(8 + data, 0xa5);
    datagram
}

/// A TCP segment with `data` bytes and without options.
pub fn tcp(port: u16, data: usize) -> Vec<u8> {
    let mut segment = ports(port);
    // Numbers of 1, 20 bytes of header, ACK, a window of 1,000.
    segment.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 3, 0xe8, 0, 0, 0, 0]);
    segment.resize(20 + data, 0xa5);
    segment
}

/// From `port` to the discard service (RFC 863).
fn ports(port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    let [discard_high, discard_low] = DISCARD.to_be_bytes();
    vec![high, low, discard_high, discard_low]
}

/// Port of the discard service (RFC 863).
pub const DISCARD: u16 = 9;
