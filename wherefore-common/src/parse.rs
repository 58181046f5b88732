//! The header parser: from the first byte of a frame to the outermost IP layer's addresses and ports.
//!
//! It is generic over [`Packet`], "read a header at an offset", so the kernel programs (packet pointers or
//! `bpf_skb_load_bytes`) and the capture backends (a byte slice) run the very same code. Loops are bounded
//! and nothing panics: the kernel's verifier demands it, and captures deserve it.
//!
//! Sources: IEEE 802.3 and 802.1Q, RFC 3032 (MPLS), RFC 2516 (`PPPoE`), RFC 1661 (PPP), RFC 1042 (SNAP),
//! RFC 791, RFC 8200, RFC 4302; IANA's "IEEE 802 Numbers" and "Protocol Numbers".

use network_types::eth::EthHdr;

use crate::Reason;

/// Tags, labels and other headers followed between the link header and the IP header.
pub const MAX_LINK_HEADERS: usize = 32;
/// IPv6 extension headers followed.
pub const MAX_EXTENSION_HEADERS: usize = 64;
/// Last offset a header may begin at. The kernel's verifier wants packet offsets below 65,536 and this
/// bound one mask away; user space keeps to it so that both sides give the same answer.
pub const MAX_OFFSET: usize = 0x3fff;
const _: () = assert!((MAX_OFFSET + 1).is_power_of_two());

/// A type that any bytes are a valid value of, readable at any alignment.
///
/// # Safety
/// Implementors are `repr(C)` with integer and byte array fields only.
pub unsafe trait Header: Copy {}

// SAFETY: arrays of bytes and the header structs of network-types (integers and byte arrays, repr(C)).
unsafe impl<const N: usize> Header for [u8; N] {}
// SAFETY: as above.
unsafe impl Header for EthHdr {}
// SAFETY: integers.
unsafe impl Header for Ipv4Words {}
// SAFETY: integers.
unsafe impl Header for Ipv6Words {}

/// An IPv4 header without options, in network order.
type Ipv4Words = [u32; 5];
/// An IPv6 header, in network order.
type Ipv6Words = [u64; 5];
const IPV4_LEN: u32 = size_of::<Ipv4Words>() as u32;
const IPV6_LEN: u32 = size_of::<Ipv6Words>() as u32;

/// A frame whose bytes can be read at an offset.
pub trait Packet {
    /// The header at `offset`, or `None` when the frame (or what was captured of it) ends before its end.
    /// The parser never asks for an offset beyond [`MAX_OFFSET`].
    fn read<T: Header>(&self, offset: usize) -> Option<T>;

    /// The same offset again. The kernel side hides from the verifier what it knows about the value, so
    /// that every turn of a loop begins in the same state and the turns do not multiply.
    #[inline(always)]
    fn same(&self, offset: usize) -> usize {
        offset
    }
}

/// [`Packet::read`] within [`MAX_OFFSET`].
#[inline(always)]
pub(crate) fn read<T: Header, P: Packet>(packet: &P, offset: usize) -> Option<T> {
    if offset > MAX_OFFSET { None } else { packet.read(offset) }
}

/// What the parser found: the outermost IP layer.
///
/// Ports, protocol and family lie as in a [`crate::FlowKey`], at aligned offsets: the compiler copies them
/// together, and the verifier refuses words at odd places of the stack.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// Source address, IPv4 as `::ffff:a.b.c.d`.
    pub src: [u8; 16],
    /// Destination address, likewise.
    pub dst: [u8; 16],
    /// Length of the IP packet by its own header; 0 where the header does not know it (segmentation
    /// offload, jumbograms): then it is what the frame holds behind `l3`.
    pub ip_len: u32,
    /// Source port in host order; 0 where there is none: other protocols, later fragments, cut headers.
    pub sport: u16,
    /// Destination port, likewise.
    pub dport: u16,
    /// Protocol, after IPv6 extension headers.
    pub proto: u8,
    /// 4 or 6.
    pub family: u8,
    /// 1 in a fragment (also the first one), else 0.
    pub fragment: u8,
    /// Offset of the IP header in the frame.
    pub l3: u32,
    /// Offset of what follows the IP header and its extensions.
    pub l4: u32,
}

impl Parsed {
    /// Bytes of the IP packet in a frame of `wire_len` bytes.
    #[inline(always)]
    #[must_use]
    pub const fn ip_bytes(&self, wire_len: u32) -> u32 {
        if self.ip_len == 0 { wire_len.saturating_sub(self.l3) } else { self.ip_len }
    }
}

/// EtherTypes the parser knows; also the common language of the other link layers.
pub mod ether_type {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// 802.1Q tag.
    pub const VLAN: u16 = 0x8100;
    /// 802.1ad service tag.
    pub const QINQ: u16 = 0x88a8;
    /// `QinQ` before 802.1ad.
    pub const QINQ_OLD: u16 = 0x9100;
    /// MPLS unicast.
    pub const MPLS: u16 = 0x8847;
    /// MPLS with upstream-assigned label.
    pub const MPLS_UPSTREAM: u16 = 0x8848;
    /// `PPPoE` session.
    pub const PPPOE: u16 = 0x8864;
    /// 802.1BR E-tag.
    pub const ETAG: u16 = 0x893f;
    /// Cisco VN-tag.
    pub const VNTAG: u16 = 0x8926;
    /// Below this an "EtherType" is a length, and LLC follows.
    pub const MIN: u16 = 0x0600;
}

/// Parses a frame that begins with an Ethernet header.
///
/// # Errors
/// The [`Reason`] why the frame has no flow.
#[inline(always)]
pub fn ethernet<P: Packet>(packet: &P) -> Result<Parsed, Reason> {
    let mut parsed = Parsed::default();
    ethernet_into(packet, &mut parsed)?;
    Ok(parsed)
}

/// [`ethernet`] into a value that exists already, all zeros. An error carries no [`Parsed`] then, whose
/// undefined bytes the compiler may copy around, which the verifier refuses.
///
/// # Errors
/// The [`Reason`] why the frame has no flow.
#[inline(always)]
pub fn ethernet_into<P: Packet>(packet: &P, parsed: &mut Parsed) -> Result<(), Reason> {
    let header: EthHdr = read(packet, 0).ok_or(Reason::LinkTruncated)?;
    network_into(packet, u16::from_be(header.ether_type), EthHdr::LEN, parsed)
}

/// Parses what an EtherType announces at `offset`.
///
/// # Errors
/// The [`Reason`] why the frame has no flow.
#[inline(always)]
pub fn network<P: Packet>(packet: &P, ether_type: u16, offset: usize) -> Result<Parsed, Reason> {
    let mut parsed = Parsed::default();
    network_into(packet, ether_type, offset, &mut parsed)?;
    Ok(parsed)
}

#[inline(always)]
fn network_into<P: Packet>(
    packet: &P,
    ether_type: u16,
    offset: usize,
    parsed: &mut Parsed,
) -> Result<(), Reason> {
    let (mut kind, mut at) = (ether_type, offset);
    for _ in 0..MAX_LINK_HEADERS {
        if kind == ether_type::IPV4 || kind == ether_type::IPV6 {
            break;
        }
        (kind, at) = link_header(packet, kind, packet.same(at))?;
    }
    match kind {
        ether_type::IPV4 => ipv4(packet, at, parsed),
        ether_type::IPV6 => ipv6(packet, at, parsed),
        _ => Err(Reason::LinkDepth),
    }
}

/// Parses an IP packet of either version at `offset`, for link types without a type field.
///
/// # Errors
/// The [`Reason`] why the frame has no flow.
#[inline(always)]
pub fn ip<P: Packet>(packet: &P, offset: usize) -> Result<Parsed, Reason> {
    let mut parsed = Parsed::default();
    ip_into(packet, offset, &mut parsed)?;
    Ok(parsed)
}

/// [`ip`] into a value that exists already, all zeros; see [`ethernet_into`].
///
/// # Errors
/// The [`Reason`] why the frame has no flow.
#[inline(always)]
pub fn ip_into<P: Packet>(packet: &P, offset: usize, parsed: &mut Parsed) -> Result<(), Reason> {
    let [first]: [u8; 1] = read(packet, offset).ok_or(Reason::IpTruncated)?;
    match first >> 4 {
        4 => ipv4(packet, offset, parsed),
        6 => ipv6(packet, offset, parsed),
        _ => Err(Reason::IpVersion),
    }
}

/// The EtherType that a PPP protocol number stands for, where one does.
///
/// # Errors
/// [`Reason::NonIp`] for control protocols and everything else that carries no IP.
#[inline(always)]
pub const fn ppp_ether_type(protocol: u16) -> Result<u16, Reason> {
    match protocol {
        0x0021 => Ok(ether_type::IPV4),
        0x0057 => Ok(ether_type::IPV6),
        0x0281 => Ok(ether_type::MPLS),
        0x0283 => Ok(ether_type::MPLS_UPSTREAM),
        _ => Err(Reason::NonIp),
    }
}

/// Steps over one header between link and IP: what follows it, and where.
///
/// All of them have at least four bytes; these are read in one place, as each further place doubles the
/// ways the verifier must follow through the loop.
#[inline(always)]
fn link_header<P: Packet>(packet: &P, kind: u16, at: usize) -> Result<(u16, usize), Reason> {
    if kind < ether_type::MIN {
        return llc(packet, at);
    }
    if !matches!(
        kind,
        ether_type::VLAN
            | ether_type::QINQ
            | ether_type::QINQ_OLD
            | ether_type::MPLS
            | ether_type::MPLS_UPSTREAM
            | ether_type::PPPOE
            | ether_type::ETAG
            | ether_type::VNTAG
    ) {
        return Err(Reason::NonIp);
    }
    let start: [u8; 4] = read(packet, at).ok_or(Reason::LinkTruncated)?;
    match kind {
        ether_type::VLAN | ether_type::QINQ | ether_type::QINQ_OLD => {
            Ok((u16::from_be_bytes([start[2], start[3]]), at + 4))
        }
        ether_type::MPLS | ether_type::MPLS_UPSTREAM => {
            // RFC 3032: the lowest bit of the third byte marks the last label.
            if start[2] & 1 == 0 {
                return Ok((kind, at + 4));
            }
            let [first]: [u8; 1] = read(packet, at + 4).ok_or(Reason::LinkTruncated)?;
            match first >> 4 {
                4 => Ok((ether_type::IPV4, at + 4)),
                6 => Ok((ether_type::IPV6, at + 4)),
                _ => Err(Reason::NonIp),
            }
        }
        ether_type::PPPOE | ether_type::ETAG => {
            let [_, _, high, low]: [u8; 4] = read(packet, at + 4).ok_or(Reason::LinkTruncated)?;
            let next = u16::from_be_bytes([high, low]);
            if kind == ether_type::ETAG {
                return Ok((next, at + 8));
            }
            // RFC 1661, 6.5: a protocol number may be compressed to its (odd) low byte.
            if high & 1 == 1 {
                return Ok((ppp_ether_type(u16::from(high))?, at + 7));
            }
            Ok((ppp_ether_type(next)?, at + 8))
        }
        ether_type::VNTAG => {
            let next: [u8; 2] = read(packet, at + 4).ok_or(Reason::LinkTruncated)?;
            Ok((u16::from_be_bytes(next), at + 6))
        }
        _ => Err(Reason::NonIp),
    }
}

/// Steps over an LLC header, and SNAP where it follows: what comes next, and where.
///
/// # Errors
/// [`Reason::NonIp`] for other service access points or organisations.
#[inline(always)]
pub fn llc<P: Packet>(packet: &P, at: usize) -> Result<(u16, usize), Reason> {
    let header: [u8; 3] = read(packet, at).ok_or(Reason::LinkTruncated)?;
    match header {
        [0xaa, 0xaa, 3] => {
            let snap: [u8; 5] = read(packet, at + 3).ok_or(Reason::LinkTruncated)?;
            match snap {
                // RFC 1042, and 802.1H's organisation for bridge tunnels.
                [0, 0, 0 | 0xf8, high, low] => {
                    let kind = u16::from_be_bytes([high, low]);
                    if kind < ether_type::MIN { Err(Reason::NonIp) } else { Ok((kind, at + 8)) }
                }
                _ => Err(Reason::NonIp),
            }
        }
        [0x06, 0x06, 3] => Ok((ether_type::IPV4, at + 3)),
        _ => Err(Reason::NonIp),
    }
}

#[inline(always)]
fn ipv4<P: Packet>(packet: &P, l3: usize, parsed: &mut Parsed) -> Result<(), Reason> {
    let words: Ipv4Words = read(packet, l3).ok_or(Reason::IpTruncated)?;
    let start = u32::from_be(words[0]);
    if start >> 28 != 4 {
        return Err(Reason::IpVersion);
    }
    let header_len = (start >> 24 & 0xf) * 4;
    let total_len = start & 0xffff;
    if header_len < IPV4_LEN || (total_len != 0 && total_len < header_len) {
        return Err(Reason::IpHeader);
    }
    let frags = u32::from_be(words[1]) & 0xffff;
    parsed.src = mapped(words[3]);
    parsed.dst = mapped(words[4]);
    parsed.family = 4;
    parsed.proto = (u32::from_be(words[2]) >> 16) as u8;
    parsed.l3 = l3 as u32;
    parsed.l4 = l3 as u32 + header_len;
    parsed.ip_len = total_len;
    // RFC 791: "more fragments" is 0x2000, the low 13 bits are the offset.
    parsed.fragment = u8::from(frags & 0x3fff != 0);
    if frags & 0x1fff == 0 {
        (parsed.sport, parsed.dport) = ports(packet, parsed);
    }
    Ok(())
}

#[inline(always)]
fn ipv6<P: Packet>(packet: &P, l3: usize, parsed: &mut Parsed) -> Result<(), Reason> {
    let words: Ipv6Words = read(packet, l3).ok_or(Reason::IpTruncated)?;
    let start = u64::from_be(words[0]);
    if start >> 60 != 6 {
        return Err(Reason::IpVersion);
    }
    let payload_len = (start >> 16) as u32 & 0xffff;
    let next_header = (start >> 8) as u8;
    // RFC 2675, and Linux' large segments, which have no hop-by-hop header any more since 7.0.
    let jumbo = payload_len == 0 && matches!(next_header, HOP_BY_HOP | TCP);
    parsed.src = bytes(words[1], words[2]);
    parsed.dst = bytes(words[3], words[4]);
    parsed.family = 6;
    parsed.proto = next_header;
    parsed.l3 = l3 as u32;
    parsed.ip_len = if jumbo { 0 } else { payload_len + IPV6_LEN };
    let mut at = l3 + IPV6_LEN as usize;
    let mut has_ports = true;
    for _ in 0..MAX_EXTENSION_HEADERS {
        if !matches!(parsed.proto, HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | AUTHENTICATION | FRAGMENT) {
            break;
        }
        at = packet.same(at);
        let Some([next, len, high, low]) = read::<[u8; 4], P>(packet, at) else { break };
        let fragment = parsed.proto == FRAGMENT;
        at += match parsed.proto {
            FRAGMENT => 8,
            AUTHENTICATION => (len as usize + 2) * 4,
            _ => (len as usize + 1) * 8,
        };
        parsed.proto = next;
        if fragment {
            // RFC 8200, 4.5: 13 bits offset, 2 reserved, 1 "more fragments".
            let bits = u16::from_be_bytes([high, low]);
            if bits & 0xfff9 != 0 {
                parsed.fragment = 1;
            }
            if bits & 0xfff8 != 0 {
                has_ports = false;
                break;
            }
        }
    }
    parsed.l4 = at as u32;
    if has_ports {
        (parsed.sport, parsed.dport) = ports(packet, parsed);
    }
    Ok(())
}

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;

/// The ports at `parsed.l4`, or zeros where the protocol has none or the packet ends before them.
#[inline(always)]
fn ports<P: Packet>(packet: &P, parsed: &Parsed) -> (u16, u16) {
    // Bytes behind the IP packet's own end are Ethernet padding, not ports.
    if parsed.ip_len != 0 && parsed.l4 + 4 > parsed.l3 + parsed.ip_len {
        return (0, 0);
    }
    let at = parsed.l4 as usize;
    let bytes = match parsed.proto {
        TCP | UDP | DCCP | UDP_LITE => read::<[u8; 4], P>(packet, at),
        // The common header is checked as a whole (RFC 9260, 3.1).
        SCTP => read::<[u8; 12], P>(packet, at).map(|header| [header[0], header[1], header[2], header[3]]),
        _ => None,
    };
    match bytes {
        Some([s0, s1, d0, d1]) => (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1])),
        None => (0, 0),
    }
}

#[inline(always)]
fn mapped(v4: u32) -> [u8; 16] {
    #[cfg(target_endian = "little")]
    let low = 0xffff_0000 | u64::from(v4) << 32;
    #[cfg(target_endian = "big")]
    let low = 0x0000_ffff_0000_0000 | u64::from(v4);
    bytes(0, low)
}

/// 16 bytes of two words in memory order, moved as words: byte by byte an address costs the kernel
/// program 16 registers, or half its stack.
#[inline(always)]
fn bytes(first: u64, second: u64) -> [u8; 16] {
    // SAFETY: equal sizes, and any bytes are a valid byte array.
    unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>([first, second]) }
}

/// The captured bytes of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Slice<'a>(pub &'a [u8]);

impl Packet for Slice<'_> {
    #[inline(always)]
    fn read<T: Header>(&self, offset: usize) -> Option<T> {
        let bytes = self.0.get(offset..)?.get(..size_of::<T>())?;
        // SAFETY: `bytes` holds size_of::<T>() bytes, any of which make a valid `T` (trait Header).
        Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
    }
}
