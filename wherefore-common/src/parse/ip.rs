//! The IP header, IPv6 extension headers, and the ports behind them.

use super::{MAX_EXTENSION_HEADERS, Packet, Parsed, Step, plain::mapped, read};
use crate::Reason;

/// An IPv4 header without options, in network order.
pub(super) type Ipv4Words = [u32; 5];
/// An IPv6 header, in network order.
pub(super) type Ipv6Words = [u64; 5];
const IPV4_LEN: u32 = size_of::<Ipv4Words>() as u32;
const IPV6_LEN: u32 = size_of::<Ipv6Words>() as u32;

#[inline(always)]
pub(super) fn ipv4<P: Packet>(packet: &P, l3: usize, parsed: &mut Parsed) -> Result<(), Reason> {
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
    parsed.src = bytes(0, mapped(words[3]));
    parsed.dst = bytes(0, mapped(words[4]));
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
pub(super) fn ipv6<P: Packet>(packet: &P, l3: usize, parsed: &mut Parsed) -> Result<(), Reason> {
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
    // Of all fragment headers; two flags instead of it would be a way for the verifier each, every turn.
    let mut fragments = 0;
    for _ in 0..MAX_EXTENSION_HEADERS {
        if fragments & OFFSET != 0
            || !matches!(parsed.proto, HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | AUTHENTICATION | FRAGMENT)
        {
            break;
        }
        let Ok(step) = packet.extension_header(parsed.proto, at) else { break };
        parsed.proto = step.kind as u8;
        at = step.at;
        fragments |= step.fragment;
    }
    parsed.l4 = at as u32;
    parsed.fragment = u8::from(fragments != 0);
    if fragments & OFFSET == 0 {
        (parsed.sport, parsed.dport) = ports(packet, parsed);
    }
    Ok(())
}

/// RFC 8200, 4.5: 13 bits offset, 2 reserved, 1 "more fragments".
const OFFSET: u16 = 0xfff8;
const MORE: u16 = 1;

/// Steps over one IPv6 extension header of the kind `kind`: the next one's kind, and where it is.
///
/// # Errors
/// [`Reason::IpTruncated`] where the frame ends before.
#[inline(always)]
pub fn extension_header<P: Packet>(packet: &P, kind: u8, at: usize) -> Result<Step, Reason> {
    let [next, len, high, low]: [u8; 4] = read(packet, at).ok_or(Reason::IpTruncated)?;
    let (length, fragment) = match kind {
        FRAGMENT => (8, u16::from_be_bytes([high, low]) & (OFFSET | MORE)),
        AUTHENTICATION => ((len as usize + 2) * 4, 0),
        _ => ((len as usize + 1) * 8, 0),
    };
    Ok(Step { kind: u16::from(next), at: at + length, fragment })
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

/// 16 bytes of two words in memory order, moved as words: byte by byte an address costs the kernel
/// program 16 registers, or half its stack.
#[inline(always)]
fn bytes(first: u64, second: u64) -> [u8; 16] {
    // SAFETY: equal sizes, and any bytes are a valid byte array.
    unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>([first, second]) }
}
