//! From a parsed packet to the tables.

use aya_log_ebpf::debug;
use wherefore_common::{
    Direction, FlowKey, Reason, UnaccountedKey,
    offload::{self, Offload},
    parse::Parsed,
};

use crate::{
    context::{Skb, Xdp},
    tables::{self, Volume},
};

/// Counts a packet of a TC program.
#[inline(always)]
pub fn skb(skb: &Skb, direction: Direction, result: Result<(), Reason>, parsed: &Parsed) {
    let meta = skb.meta();
    let tag = if meta.vlan_present == 0 { 0 } else { offload::TAG };
    let offload = Offload {
        len: meta.len,
        wire_len: if matches!(direction, Direction::Egress) { meta.wire_len } else { 0 },
        gso_size: meta.gso_size,
        gso_segs: meta.gso_segs,
        tag,
    };
    let ifindex = meta.ifindex;
    match result {
        Ok(()) => {
            let size = if offload.gso_size == 0 {
                offload::plain(&offload, parsed)
            } else {
                offload::segmented(skb, &offload, parsed)
            };
            let volume =
                Volume { packets: size.packets, wire_bytes: size.wire_bytes, ip_bytes: size.ip_bytes };
            let outcome = flow(ifindex, direction, parsed, &volume);
            if outcome.new == 1 {
                debug!(
                    skb.ctx(),
                    "interface {}: new flow, protocol {}, {} bytes", ifindex, parsed.proto, volume.wire_bytes
                );
            }
            if outcome.refused == 1 {
                debug!(skb.ctx(), "interface {}: no room for a flow of protocol {}", ifindex, parsed.proto);
            }
        }
        Err(reason) => {
            let (packets, wire_bytes) = offload::unparsed(&offload);
            unaccounted(ifindex, direction, reason, packets, wire_bytes);
            debug!(skb.ctx(), "interface {}: no flow, reason {}", ifindex, reason as u8);
        }
    }
}

/// Counts a packet of the XDP program.
#[inline(always)]
pub fn xdp(frame: &Xdp, result: Result<(), Reason>, parsed: &Parsed) {
    let (len, ifindex) = (frame.len(), frame.ifindex());
    match result {
        Ok(()) => {
            let volume = Volume { packets: 1, wire_bytes: len, ip_bytes: parsed.ip_bytes(len) };
            let outcome = flow(ifindex, Direction::Ingress, parsed, &volume);
            if outcome.new == 1 {
                debug!(
                    frame.ctx(),
                    "interface {}: new flow, protocol {}, {} bytes", ifindex, parsed.proto, len
                );
            }
        }
        Err(reason) => {
            unaccounted(ifindex, Direction::Ingress, reason, 1, len);
            debug!(frame.ctx(), "interface {}: no flow, reason {}", ifindex, reason as u8);
        }
    }
}

/// The flow's key, its last third as words: its padding alone would be a call of `memset`.
#[inline(always)]
fn key(ifindex: u32, direction: Direction, parsed: &Parsed) -> FlowKey {
    /// [`FlowKey`] on a little-endian machine.
    #[repr(C)]
    struct Words {
        src: [u8; 16],
        dst: [u8; 16],
        rest: [u64; 2],
    }
    const { assert!(cfg!(target_endian = "little")) };
    let ports = u64::from(parsed.sport) << 32 | u64::from(parsed.dport) << 48;
    let kind = u64::from(parsed.proto) | u64::from(parsed.family) << 8 | (direction as u64) << 16;
    let words = Words { src: parsed.src, dst: parsed.dst, rest: [u64::from(ifindex) | ports, kind] };
    // SAFETY: both are 48 bytes without padding, and any bytes make a valid key.
    unsafe { core::mem::transmute::<Words, FlowKey>(words) }
}

/// What became of a packet with a flow.
struct Outcome {
    new: u8,
    refused: u8,
}

#[inline(always)]
fn flow(ifindex: u32, direction: Direction, parsed: &Parsed, volume: &Volume) -> Outcome {
    let key = key(ifindex, direction, parsed);
    let generation = tables::generation();
    match tables::count_flow(generation, &key, volume) {
        Ok(new) => Outcome { new: u8::from(new), refused: 0 },
        Err(reason) => {
            let key = UnaccountedKey {
                ifindex,
                direction: direction as u8,
                reason: reason as u8,
                proto: parsed.proto,
                pad: 0,
            };
            tables::count_unaccounted(generation, &key, volume.packets, volume.wire_bytes);
            Outcome { new: 0, refused: 1 }
        }
    }
}

#[inline(always)]
fn unaccounted(ifindex: u32, direction: Direction, reason: Reason, packets: u32, wire_bytes: u32) {
    let key = UnaccountedKey { ifindex, direction: direction as u8, reason: reason as u8, proto: 0, pad: 0 };
    tables::count_unaccounted(tables::generation(), &key, packets, wire_bytes);
}
