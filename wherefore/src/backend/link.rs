//! From a link type and a frame to the outermost IP layer: what precedes the header parser of
//! `wherefore-common` for every framing a capture can have.
//!
//! Numbers are `LINKTYPE_` values of capture files. Where libpcap's `DLT_` number of a live handle differs on
//! Linux (raw IP 12 and 14, RFC 1483 11, Classical IP over ATM 19) both are understood.
//!
//! Sources: tcpdump.org, "Link-layer header types"; the RFCs and standards named at each framing.

use wherefore_common::{
    Reason,
    parse::{self, Packet as _, Parsed, Slice, ether_type},
};

mod ether;
mod wan;
mod wireless;

/// Pseudo-headers that announce another link type (PPI, PKTAP) may be nested this deep.
const MAX_NESTED: u8 = 4;

/// Parses a frame of link type `linktype` up to its outermost IP layer. Offsets in the result count from the
/// frame's first byte.
///
/// # Errors
/// The [`Reason`] why the frame has no flow; [`Reason::LinkType`] where the link type is not understood.
#[inline]
pub fn parse(linktype: i32, frame: &[u8]) -> Result<Parsed, Reason> {
    if linktype == 1 { parse::ethernet(&Slice(frame)) } else { parse_nested(linktype, frame, 0, MAX_NESTED) }
}

/// As [`parse`], for what lies `at` bytes into `frame`.
fn parse_nested(linktype: i32, frame: &[u8], at: usize, nested: u8) -> Result<Parsed, Reason> {
    let packet = Slice(frame);
    match linktype {
        // BSD loopback, in the byte order of the capturing host (0) or of the network (108).
        0 | 108 => null(packet, at),
        1 => ethernet_at(packet, at),
        6 => ether::token_ring(packet, at),
        7 | 129 => ether::arcnet(packet, at, if linktype == 7 { 2 } else { 4 }),
        // SLIP: 16 bytes of direction and compressed header; BSD/OS: 24.
        8 => parse::ip(&packet, at + 16),
        15 | 102 => parse::ip(&packet, at + 24),
        9 => wan::ppp(packet, at),
        10 => ether::fddi(packet, at),
        11 | 100 => llc_at(packet, at),
        12 | 14 | 101 => parse::ip(&packet, at),
        // Classical IP over ATM (RFC 2225): LLC as a rule, bare IP where the circuit was set up so.
        19 | 106 => match packet.read::<[u8; 2]>(at) {
            Some([0xaa, 0xaa]) => llc_at(packet, at),
            _ => parse::ip(&packet, at),
        },
        50 => wan::hdlc(packet, at),
        51 => parse::network(&packet, ether_type::PPPOE, at),
        104 => wan::hdlc(packet, at),
        105 => wireless::ieee80211(packet, at, false),
        107 => wan::frame_relay(packet, at),
        // OpenBSD enc: address family, SPI, flags.
        109 => parse::ip(&packet, at + 12),
        113 => ether::cooked(packet, at + 14, at + 16),
        117 => pflog(packet, at),
        119 => wireless::prism(packet, at),
        // IP over Fibre Channel (RFC 2625): two 8-byte addresses, then LLC.
        122 => llc_at(packet, at + 16),
        123 => wan::sun_atm(packet, at),
        127 => wireless::radiotap(packet, at),
        // IP over IEEE 1394 (RFC 2734): two 8-byte addresses, then an EtherType.
        138 => ether_type_at(packet, at + 16, at + 18),
        143 => ether::docsis(packet, at),
        149 | 258 => pktap(packet, at, nested),
        163 => wireless::avs(packet, at),
        166 | 204 => wan::ppp(packet, at + 1),
        130..=137 | 164 | 167 | 168 | 178..=181 | 183 => wan::juniper(linktype, packet, at),
        192 => ppi(packet, at, nested),
        197 => ether::erf(packet, at),
        205 => wan::hdlc(packet, at + 1),
        206 => wan::frame_relay(packet, at + 1),
        // Solaris ipnet: version, family, lengths, interface and zone numbers.
        226 => parse::ip(&packet, at + 24),
        228 => parse::network(&packet, ether_type::IPV4, at),
        229 => parse::network(&packet, ether_type::IPV6, at),
        239 => nflog(packet, at),
        // netANALYZER: 4 bytes of its own; "transparent" has the preamble too.
        240 => ethernet_at(packet, at + 4),
        241 => ethernet_at(packet, at + 12),
        // IP over InfiniBand (RFC 4391): 40 bytes of addressing, an EtherType, 2 bytes reserved.
        242 => ether_type_at(packet, at + 40, at + 44),
        // An 8-byte preamble before the frame: EPON (IEEE 802.3-2012, 76.2), IEEE 802.3br mPackets.
        259 | 274 => ethernet_at(packet, at + 8),
        276 => ether::cooked(packet, at, at + 20),
        // Switch tags: between source address and EtherType (Broadcom, Marvell DSA, with EtherType: EDSA), or
        // in front of it all (Broadcom, prepended).
        281 | 284 => ether_type_at(packet, at + 16, at + 18),
        282 => ethernet_at(packet, at + 4),
        285 => ether_type_at(packet, at + 20, at + 22),
        // Known to carry no IP at this level: LocalTalk, IrDA, Bluetooth, USB, CAN, 802.15.4, netlink.
        114 | 144 | 187 | 189 | 190 | 195 | 201 | 215 | 220 | 227 | 230 | 249 | 251 | 253 | 266 | 283 => {
            Err(Reason::NonIp)
        }
        _ => Err(Reason::LinkType),
    }
}

/// The bytes of the address families by which BSDs announce IPv4 and IPv6: IPv6 is 10 on Linux, 24 on NetBSD
/// and OpenBSD, 26 on Solaris, 28 on FreeBSD, 30 on macOS.
const fn family(number: u32) -> Option<u16> {
    match number {
        2 => Some(ether_type::IPV4),
        10 | 24 | 26 | 28 | 30 => Some(ether_type::IPV6),
        _ => None,
    }
}

/// A 4-byte address family in either byte order; or, as some writers have it, an EtherType in the last two.
fn null(packet: Slice<'_>, at: usize) -> Result<Parsed, Reason> {
    let word: [u8; 4] = packet.read(at).ok_or(Reason::LinkTruncated)?;
    let (little, big) = (u32::from_le_bytes(word), u32::from_be_bytes(word));
    let kind = match family(little).or_else(|| family(big)) {
        Some(kind) => kind,
        None => match u16::from_be_bytes([word[2], word[3]]) {
            kind @ (ether_type::IPV4 | ether_type::IPV6) => kind,
            _ => return Err(Reason::NonIp),
        },
    };
    parse::network(&packet, kind, at + 4)
}

/// OpenBSD packet filter log: a header that states its own length, padded to 4 bytes, then IP.
fn pflog(packet: Slice<'_>, at: usize) -> Result<Parsed, Reason> {
    let [len, family_number]: [u8; 2] = packet.read(at).ok_or(Reason::LinkTruncated)?;
    let kind = family(u32::from(family_number)).ok_or(Reason::NonIp)?;
    parse::network(&packet, kind, at + usize::from(len).next_multiple_of(4))
}

/// Linux netfilter log: family, version, group, then length-type-value items of which number 9 is the packet.
/// Items are in the byte order of the capturing host, which the first item's length betrays.
fn nflog(packet: Slice<'_>, at: usize) -> Result<Parsed, Reason> {
    const PAYLOAD: u16 = 9;
    let mut item = at + 4;
    loop {
        let head: [u8; 4] = packet.read(item).ok_or(Reason::LinkTruncated)?;
        let (mut len, mut kind) =
            (u16::from_le_bytes([head[0], head[1]]), u16::from_le_bytes([head[2], head[3]]));
        // Type numbers are small; the two top bits are flags.
        if kind & 0x3fff > 0xff {
            (len, kind) = (len.swap_bytes(), kind.swap_bytes());
        }
        if len < 4 {
            return Err(Reason::LinkTruncated);
        }
        if kind & 0x3fff == PAYLOAD {
            return parse::ip(&packet, item + 4);
        }
        item += usize::from(len).next_multiple_of(4);
    }
}

/// Per-packet information: version, flags, header length, link type of what follows (all little-endian).
fn ppi(packet: Slice<'_>, at: usize, nested: u8) -> Result<Parsed, Reason> {
    let head: [u8; 8] = packet.read(at).ok_or(Reason::LinkTruncated)?;
    let len = usize::from(u16::from_le_bytes([head[2], head[3]]));
    let linktype = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    deeper(linktype, packet, at, len, 8, nested)
}

/// macOS packet tap: header length, record type, link type of what follows (all little-endian).
fn pktap(packet: Slice<'_>, at: usize, nested: u8) -> Result<Parsed, Reason> {
    const PACKET: u32 = 1;
    let head: [u8; 12] = packet.read(at).ok_or(Reason::LinkTruncated)?;
    let word = |i: usize| u32::from_le_bytes([head[i], head[i + 1], head[i + 2], head[i + 3]]);
    if word(4) != PACKET {
        return Err(Reason::NonIp);
    }
    deeper(word(8), packet, at, word(0) as usize, 12, nested)
}

fn deeper(
    linktype: u32,
    packet: Slice<'_>,
    at: usize,
    len: usize,
    least: usize,
    nested: u8,
) -> Result<Parsed, Reason> {
    if len < least || packet.0.len().saturating_sub(at) < len {
        return Err(Reason::LinkTruncated);
    }
    let nested = nested.checked_sub(1).ok_or(Reason::LinkDepth)?;
    let linktype = i32::try_from(linktype).map_err(|_| Reason::LinkType)?;
    parse_nested(linktype, packet.0, at + len, nested)
}

/// An Ethernet header at `at`.
fn ethernet_at(packet: Slice<'_>, at: usize) -> Result<Parsed, Reason> {
    ether_type_at(packet, at + 12, at + 14)
}

/// An EtherType (or 802.3 length) at `at`, its payload at `payload`.
fn ether_type_at(packet: Slice<'_>, at: usize, payload: usize) -> Result<Parsed, Reason> {
    let kind = packet.read(at).map(u16::from_be_bytes).ok_or(Reason::LinkTruncated)?;
    parse::network(&packet, kind, payload)
}

/// LLC at `at`.
fn llc_at(packet: Slice<'_>, at: usize) -> Result<Parsed, Reason> {
    let (kind, payload) = parse::llc(&packet, at)?;
    parse::network(&packet, kind, payload)
}

#[cfg(test)]
mod tests;
