//! IEEE 802.11 and the headers drivers put before it.

use wherefore_common::{
    Reason,
    parse::{Packet as _, Parsed, Slice},
};

use super::{ethernet_at, llc_at};

/// IEEE 802.11-2020, 9.2: data frames carry LLC unless they are protected or have no body. Of an aggregate
/// (A-MSDU) the first packet is read. `padded`: the header is padded to a multiple of 4 bytes.
pub(super) fn ieee80211(packet: Slice<'_>, at: usize, padded: bool) -> Result<Parsed, Reason> {
    const DATA: u8 = 2;
    let [control, flags]: [u8; 2] = packet.read(at).ok_or(Reason::LinkTruncated)?;
    let (kind, subtype) = (control >> 2 & 3, control >> 4);
    let (to_and_from, ordered, protected) = (flags & 3 == 3, flags & 0x80 != 0, flags & 0x40 != 0);
    // Version 0 only; subtypes with bit 4 set have no body.
    if control & 3 != 0 || kind != DATA || subtype & 4 != 0 || protected {
        return Err(Reason::NonIp);
    }
    let mut len = if to_and_from { 30 } else { 24 };
    let mut aggregate = false;
    if subtype & 8 != 0 {
        let [quality]: [u8; 1] = packet.read(at + len).ok_or(Reason::LinkTruncated)?;
        aggregate = quality & 0x80 != 0;
        len += if ordered { 6 } else { 2 };
    }
    // A later fragment begins in the middle of a packet.
    let [sequence]: [u8; 1] = packet.read(at + 22).ok_or(Reason::LinkTruncated)?;
    if sequence & 0xf != 0 {
        return Err(Reason::NonIp);
    }
    if padded {
        len = (len + 3) & !3;
    }
    if aggregate { ethernet_at(packet, at + len) } else { llc_at(packet, at + len) }
}

/// Radiotap (radiotap.org): version, padding, length, a bitmap of fields.
pub(super) fn radiotap(packet: Slice<'_>, at: usize) -> Result<Parsed, Reason> {
    const MORE: u32 = 1 << 31;
    const TIME: u32 = 1;
    const FLAGS: u32 = 1 << 1;
    const PADDED: u8 = 0x20;
    let head: [u8; 8] = packet.read(at).ok_or(Reason::LinkTruncated)?;
    let len = usize::from(u16::from_le_bytes([head[2], head[3]]));
    if len < head.len() {
        return Err(Reason::LinkTruncated);
    }
    let present = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    let (mut word, mut fields) = (present, 8);
    while word & MORE != 0 && fields < len {
        word = packet.read(at + fields).map(u32::from_le_bytes).ok_or(Reason::LinkTruncated)?;
        fields += 4;
    }
    let mut padded = false;
    if present & FLAGS != 0 {
        // Fields are aligned to their own size, counted from the header's first byte.
        let place = if present & TIME != 0 { ((fields + 7) & !7) + 8 } else { fields };
        padded = place < len && packet.read::<[u8; 1]>(at + place).is_some_and(|[flags]| flags & PADDED != 0);
    }
    ieee80211(packet, at + len, padded)
}

/// Prism monitoring header: 144 bytes, unless it is an AVS header under this link type.
pub(super) fn prism(packet: Slice<'_>, at: usize) -> Result<Parsed, Reason> {
    match packet.read(at).map(u32::from_be_bytes).ok_or(Reason::LinkTruncated)? {
        AVS_1 | AVS_2 => avs(packet, at),
        _ => ieee80211(packet, at + 144, false),
    }
}

const AVS_1: u32 = 0x8021_1001;
const AVS_2: u32 = 0x8021_1002;

/// AVS monitoring header: a version and its own length, in network order.
pub(super) fn avs(packet: Slice<'_>, at: usize) -> Result<Parsed, Reason> {
    let len = packet.read(at + 4).map(u32::from_be_bytes).ok_or(Reason::LinkTruncated)? as usize;
    if len < 8 || len > packet.0.len() {
        return Err(Reason::LinkTruncated);
    }
    ieee80211(packet, at + len, false)
}
