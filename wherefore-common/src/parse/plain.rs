//! The plainest of packets, read at once: TCP or UDP right behind an Ethernet and an IP header without options,
//! not fragmented. Nearly all traffic is of this kind, and the whole parser takes a kernel program twice as long.

use super::{Header, Packet, ether_type};
use crate::cache::hash_addresses;

/// What [`plain_ipv4`] and [`plain_ipv6`] find; everything else about the packet follows from its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain {
    /// Source and destination address as in a [`crate::FlowKey`], each two words in memory order.
    pub addresses: [u64; 4],
    /// Their [`hash_addresses`].
    pub hash: u64,
    /// Source port in the high half and destination port in the low one, in host order.
    pub ports: u32,
    /// 6 (TCP) or 17 (UDP).
    pub proto: u8,
    /// 4 or 6.
    pub family: u8,
    /// Length of the IP packet by its own header; never 0.
    pub ip_len: u32,
}

/// Ethernet, IPv4 and the ports behind it, in network order.
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Ipv4Frame {
    addresses: [u8; 12],
    ether_type: u16,
    version_and_length: u8,
    service: u8,
    total_length: u16,
    identification: u16,
    fragment: u16,
    time_to_live: u8,
    protocol: u8,
    checksum: u16,
    src: u32,
    dst: u32,
    ports: u32,
}

/// Ethernet, IPv6 and the ports behind it, in network order.
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Ipv6Frame {
    addresses: [u8; 12],
    ether_type: u16,
    version: u8,
    flow: [u8; 3],
    payload_length: u16,
    next_header: u8,
    hop_limit: u8,
    src: [u64; 2],
    dst: [u64; 2],
    ports: u32,
}

// SAFETY: integers and byte arrays, repr(C).
unsafe impl Header for Ipv4Frame {}
// SAFETY: likewise.
unsafe impl Header for Ipv6Frame {}

const TCP: u8 = 6;
const UDP: u8 = 17;
/// Bytes that TCP and UDP need for their ports.
const PORTS: u32 = 4;

/// The packet, if it is IPv4 of the plainest kind: the answer is then the one of [`super::ethernet`]. `None` says nothing
/// about a packet.
#[inline(always)]
pub fn plain_ipv4<P: Packet>(packet: &P) -> Option<Plain> {
    let frame: Ipv4Frame = packet.peek()?;
    let ip_len = u32::from(u16::from_be(frame.total_length));
    // RFC 791: version 4, five words of header; "more fragments" and offset zero.
    if frame.ether_type != ether_type::IPV4.to_be()
        || frame.version_and_length != 0x45
        || u32::from(frame.fragment) & u32::from(0x3fff_u16.to_be()) != 0
        || !matches!(frame.protocol, TCP | UDP)
        || ip_len < 20 + PORTS
    {
        return None;
    }
    let addresses = [0, mapped(frame.src), 0, mapped(frame.dst)];
    Some(Plain {
        addresses,
        hash: hash_addresses(&addresses),
        ports: u32::from_be(frame.ports),
        proto: frame.protocol,
        family: 4,
        ip_len,
    })
}

/// As [`plain_ipv4`], of IPv6.
#[inline(always)]
pub fn plain_ipv6<P: Packet>(packet: &P) -> Option<Plain> {
    let frame: Ipv6Frame = packet.peek()?;
    let payload = u32::from(u16::from_be(frame.payload_length));
    if frame.ether_type != ether_type::IPV6.to_be()
        || frame.version >> 4 != 6
        || !matches!(frame.next_header, TCP | UDP)
        || payload < PORTS
    {
        return None;
    }
    let (src, dst) = (frame.src, frame.dst);
    let addresses = [src[0], src[1], dst[0], dst[1]];
    Some(Plain {
        addresses,
        hash: hash_addresses(&addresses),
        ports: u32::from_be(frame.ports),
        proto: frame.next_header,
        family: 6,
        ip_len: payload + 40,
    })
}

/// The second word of an IPv4 address as `::ffff:a.b.c.d`.
#[inline(always)]
pub(super) const fn mapped(v4: u32) -> u64 {
    if cfg!(target_endian = "little") {
        0xffff_0000 | (v4 as u64) << 32
    } else {
        0x0000_ffff_0000_0000 | v4 as u64
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;
    use crate::parse::{Parsed, Slice, ethernet};

    fn bytes(words: [u64; 2]) -> [u8; 16] {
        let mut all = [0; 16];
        all[..8].copy_from_slice(&words[0].to_ne_bytes());
        all[8..].copy_from_slice(&words[1].to_ne_bytes());
        all
    }

    /// What the whole parser says must be what the plain one says, where that says anything.
    fn check(frame: &[u8]) -> bool {
        let Some(plain) = plain_ipv4(&Slice(frame)).or_else(|| plain_ipv6(&Slice(frame))) else {
            return false;
        };
        let l4 = if plain.family == 4 { 34 } else { 54 };
        let expected = Parsed {
            src: bytes([plain.addresses[0], plain.addresses[1]]),
            dst: bytes([plain.addresses[2], plain.addresses[3]]),
            ip_len: plain.ip_len,
            sport: (plain.ports >> 16) as u16,
            dport: plain.ports as u16,
            proto: plain.proto,
            family: plain.family,
            fragment: 0,
            l3: 14,
            l4,
        };
        assert_eq!(ethernet(&Slice(frame)), Ok(expected), "{frame:02x?}");
        true
    }

    fn frames() -> [Vec<u8>; 2] {
        let mut v4 =
            Vec::from([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6]);
        v4.extend([0, 0, 192, 0, 2, 1, 198, 51, 100, 1, 0x12, 0x34, 1, 187, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0]);
        v4.resize(60, 0);
        let mut v6 =
            Vec::from([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 17, 64]);
        v6.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        v6.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 9, 0, 53, 0, 20, 0, 0]);
        v6.resize(74, 0);
        [v4, v6]
    }

    #[test]
    fn says_what_the_whole_parser_says_or_nothing() {
        for frame in frames() {
            assert!(check(&frame));
            // Every byte of the headers in every value, at every length.
            let mut said = 0;
            for place in 0..frame.len() {
                for value in 0..=u8::MAX {
                    let mut changed = frame.clone();
                    changed[place] = value;
                    said += u32::from(check(&changed));
                }
            }
            assert!(said > 1000);
            for length in 0..frame.len() {
                check(&frame[..length]);
            }
        }
    }
}
