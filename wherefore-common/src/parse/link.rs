//! Headers between the link header and the IP header: tags, labels, and other ways to carry IP.

use super::{Packet, read};
use crate::Reason;

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
    /// 802.1CB redundancy tag.
    pub const RTAG: u16 = 0xf1c1;
    /// IEC 62439-3 high-availability seamless redundancy.
    pub const HSR: u16 = 0x892f;
    /// Cisco metadata (security group tag).
    pub const CISCO_METADATA: u16 = 0x8909;
    /// An Ethernet frame in an Ethernet frame.
    pub const BRIDGED: u16 = 0x6558;
    /// Cisco `FabricPath`.
    pub const FABRICPATH: u16 = 0x8903;
    /// 802.1ah provider backbone bridge service tag.
    pub const PBB: u16 = 0x88e7;
    /// TRILL (RFC 6325).
    pub const TRILL: u16 = 0x22f3;
    /// 802.1AE; followed where it does not encrypt.
    pub const MACSEC: u16 = 0x88e5;
    /// Arista's timestamp.
    pub const ARISTA: u16 = 0xd28b;
    /// B.A.T.M.A.N. advanced.
    pub const BATMAN: u16 = 0x4305;
    /// Network service header (RFC 8300).
    pub const NSH: u16 = 0x894f;
    /// Below this an "EtherType" is a length, and LLC follows.
    pub const MIN: u16 = 0x0600;
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
/// All but LLC have at least four bytes; these are read in one place, as each further place adds to the
/// ways the verifier must follow. Most end in an EtherType: all that differs is how far away that is.
///
/// # Errors
/// [`Reason::NonIp`] or [`Reason::LinkTruncated`].
#[inline(always)]
pub fn link_header<P: Packet>(packet: &P, kind: u16, at: usize) -> Result<(u16, usize), Reason> {
    if kind < ether_type::MIN {
        return llc(packet, at);
    }
    if !followed(kind) {
        return Err(Reason::NonIp);
    }
    let head: [u8; 4] = read(packet, at).ok_or(Reason::LinkTruncated)?;
    let skip = match kind {
        ether_type::VLAN | ether_type::QINQ | ether_type::QINQ_OLD => {
            return Ok((u16::from_be_bytes([head[2], head[3]]), at + 4));
        }
        // RFC 3032: the lowest bit of the third byte marks the last label.
        ether_type::MPLS | ether_type::MPLS_UPSTREAM if head[2] & 1 == 0 => return Ok((kind, at + 4)),
        ether_type::MPLS | ether_type::MPLS_UPSTREAM => return behind_labels(packet, at + 4),
        ether_type::PPPOE => return pppoe(packet, at),
        ether_type::NSH => return nsh(packet, head, at),
        ether_type::VNTAG | ether_type::RTAG | ether_type::HSR => 4,
        ether_type::ETAG | ether_type::CISCO_METADATA => 6,
        ether_type::BRIDGED => ADDRESSES,
        ether_type::FABRICPATH => 2 + ADDRESSES,
        ether_type::PBB => 4 + ADDRESSES,
        _ => variable(kind, head)?,
    };
    inner_type(packet, at + skip)
}

/// Whether [`link_header`] knows the header that an EtherType announces.
#[inline(always)]
const fn followed(kind: u16) -> bool {
    matches!(
        kind,
        ether_type::VLAN
            | ether_type::QINQ
            | ether_type::QINQ_OLD
            | ether_type::MPLS
            | ether_type::MPLS_UPSTREAM
            | ether_type::PPPOE
            | ether_type::NSH
            | ether_type::VNTAG
            | ether_type::RTAG
            | ether_type::HSR
            | ether_type::ETAG
            | ether_type::CISCO_METADATA
            | ether_type::BRIDGED
            | ether_type::FABRICPATH
            | ether_type::PBB
            | ether_type::TRILL
            | ether_type::MACSEC
            | ether_type::ARISTA
            | ether_type::BATMAN
    )
}

/// Destination and source before the EtherType of an Ethernet header.
const ADDRESSES: usize = 12;

/// The EtherType at `at`, and where its payload begins.
#[inline(always)]
fn inner_type<P: Packet>(packet: &P, at: usize) -> Result<(u16, usize), Reason> {
    let bytes: [u8; 2] = read(packet, at).ok_or(Reason::LinkTruncated)?;
    Ok((u16::from_be_bytes(bytes), at + 2))
}

/// Distance to the EtherType behind a header that states its own length in its first four bytes.
#[inline(always)]
fn variable(kind: u16, head: [u8; 4]) -> Result<usize, Reason> {
    match kind {
        // 5 bits of option length in words of 4 bytes, across the first two bytes; nicknames; an Ethernet header.
        ether_type::TRILL => {
            let words = (head[0] & 7) << 2 | head[1] >> 6;
            Ok(6 + words as usize * 4 + ADDRESSES)
        }
        // Tag control: 0x0c encrypted or changed, 0x20 an 8-byte channel identifier follows the packet number.
        ether_type::MACSEC => match head[0] & 0x2c {
            0 => Ok(6),
            0x20 => Ok(14),
            _ => Err(Reason::NonIp),
        },
        // Subtype 1; the second half says TAI or UTC, and 64 (0x10) or 48 (0x20) bits of time.
        ether_type::ARISTA => match (head[0], head[1], head[3]) {
            (0, 1, 0x10) => Ok(12),
            (0, 1, 0x20) => Ok(10),
            _ => Err(Reason::NonIp),
        },
        // B.A.T.M.A.N.: a unicast packet of version 15: 10 bytes, then an Ethernet header.
        _ => match (head[0], head[1]) {
            (0x40, 15) => Ok(10 + ADDRESSES),
            _ => Err(Reason::NonIp),
        },
    }
}

/// Behind the last MPLS label is IP, an Ethernet pseudowire (RFC 4448) or a channel (RFC 5586).
#[inline(always)]
fn behind_labels<P: Packet>(packet: &P, at: usize) -> Result<(u16, usize), Reason> {
    let [first]: [u8; 1] = read(packet, at).ok_or(Reason::LinkTruncated)?;
    match first >> 4 {
        4 => Ok((ether_type::IPV4, at)),
        6 => Ok((ether_type::IPV6, at)),
        // A control word has its first 16 bits zero; without one, the frame's destination begins here.
        0 => {
            let word: [u8; 2] = read(packet, at).ok_or(Reason::LinkTruncated)?;
            inner_type(packet, at + ADDRESSES + if word[0] | word[1] == 0 { 4 } else { 0 })
        }
        1 => {
            let word: [u8; 4] = read(packet, at).ok_or(Reason::LinkTruncated)?;
            Ok((ppp_ether_type(u16::from_be_bytes([word[2], word[3]]))?, at + 4))
        }
        _ => Err(Reason::NonIp),
    }
}

#[inline(always)]
fn pppoe<P: Packet>(packet: &P, at: usize) -> Result<(u16, usize), Reason> {
    let [_, _, high, low]: [u8; 4] = read(packet, at + 4).ok_or(Reason::LinkTruncated)?;
    // RFC 1661, 6.5: a protocol number may be compressed to its (odd) low byte.
    if high & 1 == 1 {
        return Ok((ppp_ether_type(u16::from(high))?, at + 7));
    }
    Ok((ppp_ether_type(u16::from_be_bytes([high, low]))?, at + 8))
}

/// RFC 8300: 6 bits of length in words of 4 bytes, metadata type, next protocol.
#[inline(always)]
fn nsh<P: Packet>(packet: &P, head: [u8; 4], at: usize) -> Result<(u16, usize), Reason> {
    let next = at + (head[1] & 0x3f) as usize * 4;
    match head[3] {
        1 => Ok((ether_type::IPV4, next)),
        2 => Ok((ether_type::IPV6, next)),
        3 => inner_type(packet, next + ADDRESSES),
        5 => Ok((ether_type::MPLS, next)),
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
                // RFC 2684, 5.2: a bridged Ethernet frame with (1) or without (7) its check sequence, behind
                // 2 bytes of padding.
                [0, 0x80, 0xc2, 0, 1 | 7] => inner_type(packet, at + 10 + ADDRESSES),
                _ => Err(Reason::NonIp),
            }
        }
        [0x06, 0x06, 3] => Ok((ether_type::IPV4, at + 3)),
        // ISO/IEC TR 9577 network layer protocol identifiers.
        [0xfe, 0xfe, 3] => {
            let [identifier]: [u8; 1] = read(packet, at + 3).ok_or(Reason::LinkTruncated)?;
            match identifier {
                0xcc => Ok((ether_type::IPV4, at + 4)),
                0x8e => Ok((ether_type::IPV6, at + 4)),
                _ => Err(Reason::NonIp),
            }
        }
        _ => Err(Reason::NonIp),
    }
}
