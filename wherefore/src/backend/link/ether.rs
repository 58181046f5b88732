//! Framings that are close to Ethernet: LAN media and what cooks or wraps them.

use wherefore_common::{
    Reason,
    parse::{self, Packet as _, Parsed, Slice, ether_type},
};

use super::{ether_type_at, ethernet_at, llc_at, wan};

/// IEEE 802.5: access and frame control, addresses, a source route where the source address says so, LLC.
pub(super) fn token_ring(packet: Slice<'_>, at: usize) -> Result<Parsed, Reason> {
    let [_, control]: [u8; 2] = packet.read(at).ok_or(Reason::LinkTruncated)?;
    // Frame type 01: LLC; 00 is ring management.
    if control & 0xc0 != 0x40 {
        return Err(Reason::NonIp);
    }
    let [source]: [u8; 1] = packet.read(at + 8).ok_or(Reason::LinkTruncated)?;
    let route = if source & 0x80 == 0 {
        0
    } else {
        let [len]: [u8; 1] = packet.read(at + 14).ok_or(Reason::LinkTruncated)?;
        usize::from(len & 0x1f)
    };
    llc_at(packet, at + 14 + route)
}

/// FDDI (ANSI X3.139): frame control, addresses, LLC where the control says so.
pub(super) fn fddi(packet: Slice<'_>, at: usize) -> Result<Parsed, Reason> {
    let [control]: [u8; 1] = packet.read(at).ok_or(Reason::LinkTruncated)?;
    // Bit 0x80 tells synchronous from asynchronous, the low bits are a priority.
    if control & 0x70 != 0x50 {
        return Err(Reason::NonIp);
    }
    llc_at(packet, at + 13)
}

/// ARCNET; the protocol's number is `kind` bytes in (Linux stores a 2-byte offset before it).
/// IP by RFC 1051 (240), and by RFC 1201 (212, IPv6 196) behind a split flag and a sequence number.
pub(super) fn arcnet(packet: Slice<'_>, at: usize, kind: usize) -> Result<Parsed, Reason> {
    const LONGER: u8 = 0xff;
    let [protocol]: [u8; 1] = packet.read(at + kind).ok_or(Reason::LinkTruncated)?;
    let mut split = at + kind + 1;
    match protocol {
        240 => return parse::ip(&packet, split),
        212 | 196 => {}
        _ => return Err(Reason::NonIp),
    }
    let [mut flag]: [u8; 1] = packet.read(split).ok_or(Reason::LinkTruncated)?;
    // An exception frame repeats the protocol behind 3 bytes of ones.
    if flag == LONGER {
        split += 4;
        [flag] = packet.read(split).ok_or(Reason::LinkTruncated)?;
    }
    // RFC 1201: 0 is unfragmented, odd the first fragment, even a later one, which has no IP header.
    if flag != 0 && flag & 1 == 0 {
        return Err(Reason::NonIp);
    }
    parse::ip(&packet, split + 3)
}

/// Linux cooked capture: a protocol at `kind`, the payload at `payload`. Below 0x600 only number 4 (802.2)
/// carries LLC; the others are the kernel's own numbers (`linux/if_ether.h`).
pub(super) fn cooked(packet: Slice<'_>, kind: usize, payload: usize) -> Result<Parsed, Reason> {
    const ETH_P_802_2: u16 = 4;
    match packet.read(kind).map(u16::from_be_bytes).ok_or(Reason::LinkTruncated)? {
        ETH_P_802_2 => llc_at(packet, payload),
        0..ether_type::MIN => Err(Reason::NonIp),
        kind => parse::network(&packet, kind, payload),
    }
}

/// DOCSIS radio frequency MAC header, followed by Ethernet in packet data units.
pub(super) fn docsis(packet: Slice<'_>, at: usize) -> Result<Parsed, Reason> {
    let [control, parameter]: [u8; 2] = packet.read(at).ok_or(Reason::LinkTruncated)?;
    if control & 0xc0 != 0 {
        return Err(Reason::NonIp);
    }
    let extended = if control & 1 == 0 { 0 } else { usize::from(parameter) };
    ethernet_at(packet, at + 6 + extended)
}

/// Endace extensible record format: 16 bytes with a record type, extension headers of 8 bytes, the frame.
pub(super) fn erf(packet: Slice<'_>, at: usize) -> Result<Parsed, Reason> {
    const MORE: u8 = 0x80;
    let [kind]: [u8; 1] = packet.read(at + 8).ok_or(Reason::LinkTruncated)?;
    let (mut more, mut payload) = (kind & MORE, at + 16);
    while more != 0 {
        let [extension]: [u8; 1] = packet.read(payload).ok_or(Reason::LinkTruncated)?;
        more = extension & MORE;
        payload += 8;
    }
    match kind & 0x7f {
        1 => wan::hdlc(packet, payload),
        // Two bytes of padding come before an Ethernet frame.
        2 | 11 | 16 => ether_type_at(packet, payload + 14, payload + 16),
        22 | 23 => parse::ip(&packet, payload),
        _ => Err(Reason::NonIp),
    }
}
