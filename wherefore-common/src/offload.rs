//! What one packet of the host's stack stands for on the wire.
//!
//! Segmentation and receive offload move up to hundreds of frames as one packet: its length misses the
//! headers of all frames but one. Sources: Linux `qdisc_pkt_len_init` (net/core/dev.c) for egress,
//! `skb_segment` for what is repeated in each frame, and a router namespace that forwarded 200 MB with
//! no difference between this arithmetic and the frames captured behind it.

use crate::parse::{self, Header, Packet, Parsed};

/// Bytes of one VLAN tag.
pub const TAG: u32 = 4;
/// `GSO_BY_FRAGS`: the segments have no common size (SCTP).
const BY_FRAGS: u32 = 0xffff;

/// The stack's own figures about a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Bytes of the packet as it lies in memory, link header included.
    pub len: u32,
    /// Bytes on the wire without a tag outside the data, as the stack reckoned before TC programs ran (egress);
    /// else 0.
    pub wire_len: u32,
    /// Payload bytes of a segment; 0 where the packet is one frame.
    pub gso_size: u32,
    /// Number of segments; 0 where not known.
    pub gso_segs: u32,
    /// [`TAG`] where a VLAN tag belongs to each frame but is not in the data, else 0.
    pub tag: u32,
}

/// What crosses the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Frames.
    pub packets: u32,
    /// Their bytes, link headers included, frame check sequences excluded.
    pub wire_bytes: u32,
    /// Bytes of their IP packets.
    pub ip_bytes: u32,
}

/// The size of a packet that is one frame.
#[inline(always)]
#[must_use]
pub const fn plain(offload: &Offload, parsed: &Parsed) -> Size {
    Size {
        packets: 1,
        wire_bytes: offload.len.saturating_add(offload.tag),
        ip_bytes: parsed.ip_bytes(offload.len),
    }
}

/// The size of a packet that is to be segmented, or was merged from segments.
#[inline(always)]
#[must_use]
pub fn segmented<P: Packet>(packet: &P, offload: &Offload, parsed: &Parsed) -> Size {
    let parsed = &forgotten(packet, parsed);
    let headers = headers(packet, parsed);
    let by_size = if offload.gso_size == 0 || offload.gso_size == BY_FRAGS {
        offload.gso_segs
    } else {
        offload.len.saturating_sub(headers).div_ceil(offload.gso_size)
    };
    // At egress the stack derived wire_len from gso_segs; at ingress gso_segs may be anything.
    let segments =
        if offload.wire_len != 0 && offload.gso_segs != 0 { offload.gso_segs } else { by_size }.max(1);
    let in_data = offload.len.saturating_add((segments - 1).saturating_mul(headers));
    // The stack's own sum knows tunnels that are not known here. But it is made before TC programs run, of which
    // one may have put a header into the data: a second tag, a tunnel. TCP outside of tunnels leaves no doubt.
    let in_data = if parsed.proto == TCP { in_data } else { in_data.max(offload.wire_len) };
    let removed = segments.saturating_mul(jumbo_header(packet, parsed));
    let wire_bytes = in_data.saturating_sub(removed).saturating_add(segments.saturating_mul(offload.tag));
    let link = segments.saturating_mul(parsed.l3 + offload.tag);
    Size { packets: segments, wire_bytes, ip_bytes: wire_bytes.saturating_sub(link) }
}

/// Bytes on the wire of the first frame of a packet that is to be segmented, or was merged from segments; a tag
/// outside the data is not among them.
#[inline(always)]
#[must_use]
pub fn first_segment<P: Packet>(packet: &P, offload: &Offload, parsed: &Parsed) -> u32 {
    let parsed = &forgotten(packet, parsed);
    let headers = headers(packet, parsed).min(offload.len);
    // Segments without a common size announce 65,535 bytes: the payload is then the whole one.
    let payload = (offload.len - headers).min(offload.gso_size);
    (headers + payload).saturating_sub(jumbo_header(packet, parsed))
}

/// The same headers, of which the verifier knows nothing any more: what it knows of these numbers on each way
/// through the parser only multiplies its work.
#[inline(always)]
fn forgotten<P: Packet>(packet: &P, parsed: &Parsed) -> Parsed {
    let forget = |number: u32| packet.same(number as usize) as u32;
    Parsed {
        l3: forget(parsed.l3),
        l4: forget(parsed.l4),
        ip_len: forget(parsed.ip_len),
        proto: forget(u32::from(parsed.proto)) as u8,
        family: forget(u32::from(parsed.family)) as u8,
        ..*parsed
    }
}

/// Frames and wire bytes of a packet whose headers were not understood.
#[inline(always)]
#[must_use]
pub const fn unparsed(offload: &Offload) -> (u32, u32) {
    let packets = if offload.gso_size != 0 && offload.gso_segs > 1 { offload.gso_segs } else { 1 };
    let in_data = if packets > 1 && offload.wire_len != 0 { offload.wire_len } else { offload.len };
    (packets, in_data.saturating_add(packets.saturating_mul(offload.tag)))
}

const IPIP: u8 = 4;
const TCP: u8 = 6;
const UDP: u8 = 17;
const IPV6: u8 = 41;
const GRE: u8 = 47;
const SCTP: u8 = 132;

/// Assigned by IANA; 8472 is what Linux used before and still defaults to.
const VXLAN: u16 = 4789;
const VXLAN_LINUX: u16 = 8472;
const GENEVE: u16 = 6081;
const TRANSPARENT_ETHERNET: u16 = 0x6558;

/// Bytes of all headers that each segment repeats, from the frame's first byte to the payload: through
/// one tunnel, if there is one, to the inner transport header.
#[inline(always)]
fn headers<P: Packet>(packet: &P, parsed: &Parsed) -> u32 {
    let inner = tunnelled(packet, parsed);
    let (proto, l4) = match inner {
        Some(inner) => (inner.proto, inner.l4),
        None => (parsed.proto, parsed.l4),
    };
    l4 + transport(packet, proto, l4)
}

#[inline(always)]
fn transport<P: Packet>(packet: &P, proto: u8, l4: u32) -> u32 {
    match proto {
        TCP => {
            // A default instead of a second branch: LLVM would merge the branches and read the byte that
            // is not there, which the verifier refuses.
            let [offset] = read::<[u8; 1], P>(packet, l4 + 12).unwrap_or([0x50]);
            u32::from(offset >> 4) * 4
        }
        UDP => 8,
        SCTP => 12,
        _ => 0,
    }
}

/// The inner packet of a tunnel the stack segments through, if it carries TCP or UDP.
#[inline(always)]
fn tunnelled<P: Packet>(packet: &P, parsed: &Parsed) -> Option<Inner> {
    let l4 = parsed.l4;
    let (kind, at) = match parsed.proto {
        IPIP => (parse::ether_type::IPV4, l4),
        IPV6 => (parse::ether_type::IPV6, l4),
        GRE => {
            let [flags, _, high, low] = read::<[u8; 4], P>(packet, l4)?;
            // RFC 2784 and 2890: checksum, key and sequence number, 4 bytes each where present.
            let options = (flags >> 7) + (flags >> 5 & 1) + (flags >> 4 & 1);
            (u16::from_be_bytes([high, low]), l4 + 4 + u32::from(options) * 4)
        }
        UDP if parsed.dport == VXLAN || parsed.dport == VXLAN_LINUX => (TRANSPARENT_ETHERNET, l4 + 16),
        UDP if parsed.dport == GENEVE => {
            let [options, _, high, low] = read::<[u8; 4], P>(packet, l4 + 8)?;
            (u16::from_be_bytes([high, low]), l4 + 16 + u32::from(options & 0x3f) * 4)
        }
        _ => return None,
    };
    let (kind, at) = if kind == TRANSPARENT_ETHERNET {
        let [high, low] = read::<[u8; 2], P>(packet, at + 12)?;
        (u16::from_be_bytes([high, low]), at + 14)
    } else {
        (kind, at)
    };
    inner(packet, kind, at)
}

/// What the arithmetic wants to know of a tunnelled packet.
struct Inner {
    proto: u8,
    l4: u32,
}

/// An inner packet without tags and extension headers: the stack merges and segments no other.
#[inline(always)]
fn inner<P: Packet>(packet: &P, kind: u16, at: u32) -> Option<Inner> {
    let at = packet.same(at as usize) as u32;
    let inner = match kind {
        parse::ether_type::IPV4 => {
            let header = read::<[u8; 10], P>(packet, at)?;
            Inner { proto: header[9], l4: at + u32::from(header[0] & 0xf) * 4 }
        }
        parse::ether_type::IPV6 => {
            let header = read::<[u8; 8], P>(packet, at)?;
            Inner { proto: header[6], l4: at + 40 }
        }
        _ => return None,
    };
    if inner.proto == TCP || inner.proto == UDP { Some(inner) } else { None }
}

/// Bytes of the hop-by-hop header that Linux puts into IPv6 packets above 64 KiB and removes again when
/// it segments them (`BIG TCP`).
#[inline(always)]
fn jumbo_header<P: Packet>(packet: &P, parsed: &Parsed) -> u32 {
    if parsed.family != 6 || parsed.ip_len != 0 {
        return 0;
    }
    let [next_header] = read::<[u8; 1], P>(packet, parsed.l3 + 6).unwrap_or([TCP]);
    if next_header == 0 { 8 } else { 0 }
}

#[inline(always)]
fn read<T: Header, P: Packet>(packet: &P, offset: u32) -> Option<T> {
    parse::read(packet, offset as usize)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{vec, vec::Vec};

    use super::*;
    use crate::parse::{Slice, ethernet};

    fn ipv4(proto: u8) -> Vec<u8> {
        let mut header = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, proto, 0, 0];
        header.extend([192, 0, 2, 1, 198, 51, 100, 1]);
        header
    }

    fn link() -> Vec<u8> {
        vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]
    }

    /// A TCP header of 32 bytes.
    fn tcp() -> Vec<u8> {
        let mut header = vec![0; 32];
        header[12] = 0x80;
        header
    }

    fn size(frame: &[u8], offload: Offload) -> Size {
        let packet = Slice(frame);
        segmented(&packet, &offload, &ethernet(&packet).unwrap())
    }

    #[test]
    fn received_segments_get_their_headers_back() {
        let frame = [link(), ipv4(6), tcp()].concat();
        // Ten full segments and one of a byte: 11 x (14 + 20 + 32) headers.
        let merged = Offload { len: 66 + 10_001, gso_size: 1000, ..Offload::default() };
        let plain = Size { packets: 11, wire_bytes: 10_001 + 11 * 66, ip_bytes: 10_001 + 11 * 52 };
        assert_eq!(size(&frame, merged), plain);
        // What the sender claims of the number of segments is no matter at ingress.
        assert_eq!(size(&frame, Offload { gso_segs: 3, ..merged }), plain);
        // A tag outside the data is on the wire once per segment, and in no IP packet.
        let tagged = size(&frame, Offload { tag: TAG, ..merged });
        assert_eq!(tagged, Size { wire_bytes: plain.wire_bytes + 44, ..plain });
    }

    #[test]
    fn the_first_segment_is_full_or_all_there_is() {
        let frame = [link(), ipv4(6), tcp()].concat();
        let first = |offload: Offload| {
            let packet = Slice(&frame);
            first_segment(&packet, &offload, &ethernet(&packet).unwrap())
        };
        let merged = Offload { len: 66 + 10_001, gso_size: 1000, ..Offload::default() };
        assert_eq!(first(merged), 1066);
        assert_eq!(first(Offload { len: 66 + 900, ..merged }), 966);
        assert_eq!(first(Offload { gso_size: BY_FRAGS, ..merged }), 66 + 10_001);
        assert_eq!(first(Offload { len: 20, ..merged }), 20);
    }

    #[test]
    fn sent_segments_are_what_the_stack_says() {
        let frame = [link(), ipv4(6), tcp()].concat();
        let offload =
            Offload { len: 10_066, wire_len: 10_660, gso_size: 1000, gso_segs: 10, ..Offload::default() };
        assert_eq!(size(&frame, offload), Size { packets: 10, wire_bytes: 10_660, ip_bytes: 10_660 - 140 });
        assert_eq!(size(&frame, Offload { gso_segs: 0, ..offload }).packets, 10);
    }

    #[test]
    fn a_header_that_the_stack_does_not_know_of_yet_is_in_each_segment() {
        // 66 bytes of headers, ten segments; then a TC program inserts a tag.
        let stack = Offload { len: 10_066, wire_len: 10_660, gso_size: 1000, gso_segs: 10, tag: 0 };
        let mut frame = [link(), ipv4(6), tcp()].concat();
        frame.splice(12..12, [0x81, 0, 0, 7]);
        let tagged = Offload { len: stack.len + 4, ..stack };
        let size_tagged = Size { packets: 10, wire_bytes: 10_700, ip_bytes: 10_700 - 10 * 18 };
        assert_eq!(size(&frame, tagged), size_tagged);
        // A tunnel that only the stack knows: its sum is the greater one.
        let frame = [link(), ipv4(17), vec![0, 9, 0, 99, 0, 0, 0, 0], vec![0; 50]].concat();
        let tunnelled = Offload { len: 92 + 10_000, wire_len: 92 * 10 + 10_000, ..stack };
        assert_eq!(size(&frame, tunnelled).wire_bytes, 10_920);
    }

    #[test]
    fn tunnels_repeat_their_inner_headers_too() {
        let udp = |port: u16| {
            let [high, low] = port.to_be_bytes();
            vec![0, 9, high, low, 0, 0, 0, 0]
        };
        let inner = [ipv4(6), tcp()].concat();
        let vxlan = [link(), ipv4(17), udp(VXLAN), vec![0; 8], link(), inner.clone()].concat();
        let geneve_head = vec![1, 0, 0x65, 0x58, 0, 0, 0, 0, 0, 0, 0, 0];
        let geneve = [link(), ipv4(17), udp(GENEVE), geneve_head, link(), inner.clone()].concat();
        let ipip = [link(), ipv4(4), inner.clone()].concat();
        let gre = [link(), ipv4(47), vec![0x20, 0, 8, 0, 0, 0, 0, 9], inner.clone()].concat();
        let other = [link(), ipv4(17), udp(53), inner].concat();
        for (name, frame, headers) in [
            ("vxlan", vxlan, 14 + 20 + 8 + 8 + 14 + 52),
            ("geneve", geneve, 14 + 20 + 8 + 12 + 14 + 52),
            ("ipip", ipip, 14 + 20 + 52),
            ("gre", gre, 14 + 20 + 8 + 52),
            ("udp", other, 14 + 20 + 8),
        ] {
            let offload = Offload { len: headers + 5000, gso_size: 1000, ..Offload::default() };
            let expected =
                Size { packets: 5, wire_bytes: 5000 + 5 * headers, ip_bytes: 5000 + 5 * (headers - 14) };
            assert_eq!(size(&frame, offload), expected, "{name}");
        }
    }

    #[test]
    fn figures_that_cannot_be_do_not_overflow() {
        let frame = [link(), ipv4(6), tcp()].concat();
        for len in [0, 1, 65, 66, u32::MAX] {
            for wire_len in [0, 1, u32::MAX] {
                for gso_size in [0, 1, BY_FRAGS, u32::MAX] {
                    for gso_segs in [0, 1, u32::MAX] {
                        let offload = Offload { len, wire_len, gso_size, gso_segs, tag: TAG };
                        assert!(size(&frame, offload).packets >= 1);
                        assert!(unparsed(&offload).0 >= 1);
                    }
                }
            }
        }
    }
}
