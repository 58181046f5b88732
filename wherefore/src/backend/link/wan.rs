//! Serial and wide-area framings.

use wherefore_common::{
    Reason,
    parse::{self, Packet as _, Parsed, Slice, ether_type},
};

use super::{ether_type_at, ethernet_at, family, llc_at};

/// PPP (RFC 1661), with or without the address and control bytes of RFC 1662; protocol numbers may be
/// compressed to one byte.
pub(super) fn ppp(packet: Slice<'_>, at: usize) -> Result<Parsed, Reason> {
    let [first, second]: [u8; 2] = packet.read(at).ok_or(Reason::LinkTruncated)?;
    // A direction byte of 0 or 1 stands in the address's place in some captures, before the control byte.
    let at = match (first, second) {
        (0xff, 3) => at + 2,
        (_, 3) if first < 2 => at + 2,
        (3, _) => at + 1,
        _ => at,
    };
    let [first]: [u8; 1] = packet.read(at).ok_or(Reason::LinkTruncated)?;
    if first & 1 == 1 {
        return parse::network(&packet, parse::ppp_ether_type(u16::from(first))?, at + 1);
    }
    let protocol = packet.read(at).map(u16::from_be_bytes).ok_or(Reason::LinkTruncated)?;
    parse::network(&packet, parse::ppp_ether_type(protocol)?, at + 2)
}

/// Cisco HDLC (address 0x0f or 0x8f, control, EtherType), or PPP in HDLC-like framing.
pub(super) fn hdlc(packet: Slice<'_>, at: usize) -> Result<Parsed, Reason> {
    let [address, control]: [u8; 2] = packet.read(at).ok_or(Reason::LinkTruncated)?;
    match (address, control) {
        (0x0f | 0x8f, 0) => ether_type_at(packet, at + 2, at + 4),
        _ => ppp(packet, at),
    }
}

/// Frame relay: a Q.922 address, then a network layer protocol identifier (RFC 2427) or, as Cisco does it, an
/// EtherType.
pub(super) fn frame_relay(packet: Slice<'_>, at: usize) -> Result<Parsed, Reason> {
    const UNNUMBERED: u8 = 3;
    const MAX_ADDRESS: usize = 4;
    // The last byte of the address has its lowest bit set.
    let mut len = 0;
    loop {
        let [byte]: [u8; 1] = packet.read(at + len).ok_or(Reason::LinkTruncated)?;
        len += 1;
        if byte & 1 == 1 {
            break;
        }
        if len == MAX_ADDRESS {
            return Err(Reason::NonIp);
        }
    }
    let at = at + len;
    let [control, mut identifier]: [u8; 2] = packet.read(at).ok_or(Reason::LinkTruncated)?;
    if control != UNNUMBERED {
        let kind = u16::from_be_bytes([control, identifier]);
        return if kind < ether_type::MIN { Err(Reason::NonIp) } else { ether_type_at(packet, at, at + 2) };
    }
    let mut next = at + 2;
    // One byte of padding may align what follows.
    if identifier == 0 {
        [identifier] = packet.read(next).ok_or(Reason::LinkTruncated)?;
        next += 1;
    }
    nlpid(packet, identifier, next)
}

/// What a network layer protocol identifier (ISO/IEC TR 9577) announces at `at`.
pub(super) fn nlpid(packet: Slice<'_>, identifier: u8, at: usize) -> Result<Parsed, Reason> {
    match identifier {
        0xcc => parse::network(&packet, ether_type::IPV4, at),
        0x8e => parse::network(&packet, ether_type::IPV6, at),
        // PPP in frame relay (RFC 1973).
        0xcf => ppp(packet, at),
        // SNAP: an organisation and a protocol (RFC 2427, 4.1).
        0x80 => match packet.read::<[u8; 5]>(at).ok_or(Reason::LinkTruncated)? {
            [0, 0, 0, _, _] => ether_type_at(packet, at + 3, at + 5),
            [0, 0x80, 0xc2, 0, 1 | 7] => ethernet_at(packet, at + 5),
            _ => Err(Reason::NonIp),
        },
        _ => Err(Reason::NonIp),
    }
}

/// SunATM: flags with a traffic type, circuit, then LLC or LAN emulation.
pub(super) fn sun_atm(packet: Slice<'_>, at: usize) -> Result<Parsed, Reason> {
    let [flags]: [u8; 1] = packet.read(at).ok_or(Reason::LinkTruncated)?;
    match flags & 0xf {
        // LAN emulation puts 2 bytes of its own before the Ethernet frame.
        1 => ethernet_at(packet, at + 6),
        2 => llc_at(packet, at + 4),
        _ => Err(Reason::NonIp),
    }
}

/// Juniper: a magic number, flags, perhaps extensions, then the medium's own framing, or an address family
/// where the flags say that there is none. The service and ATM cards' cookies are not followed.
pub(super) fn juniper(linktype: i32, packet: Slice<'_>, at: usize) -> Result<Parsed, Reason> {
    const MAGIC: [u8; 3] = *b"MGC";
    const EXTENSIONS: u8 = 0x80;
    const NO_LINK_HEADER: u8 = 0x02;
    let [m0, m1, m2, flags]: [u8; 4] = packet.read(at).ok_or(Reason::LinkTruncated)?;
    if [m0, m1, m2] != MAGIC {
        return Err(Reason::NonIp);
    }
    let mut next = at + 4;
    if flags & EXTENSIONS != 0 {
        let len = packet.read(next).map(u16::from_be_bytes).ok_or(Reason::LinkTruncated)?;
        next += 2 + usize::from(len);
    }
    if flags & NO_LINK_HEADER != 0 {
        let word: [u8; 4] = packet.read(next).ok_or(Reason::LinkTruncated)?;
        return match family(u32::from_le_bytes(word)).or_else(|| family(u32::from_be_bytes(word))) {
            Some(kind) => parse::network(&packet, kind, next + 4),
            None => parse::ip(&packet, next + 4),
        };
    }
    match linktype {
        167 | 178 => ethernet_at(packet, next),
        179 => ppp(packet, next),
        180 => frame_relay(packet, next),
        181 => hdlc(packet, next),
        _ => Err(Reason::LinkType),
    }
}
