//! What a program does not do for every packet, as functions of their own: steps of the parser, for both kinds
//! of context, each of which returns a [`Step`] as a number; and counting where the cache cannot.
//!
//! Exported, so that their BTF says "global": the verifier then takes each by itself, with any numbers
//! (Linux 5.6), and a program that calls it only knows that a number comes back. Woven into `wherefore_in`
//! they gave the verifier 396,000 instructions to follow; this way it is 35,000. Packets without tags and
//! extension headers call none; a tag costs 7 ns where it cost 5.

use aya_ebpf::{
    bindings::{__sk_buff, xdp_md},
    programs::{TcContext, XdpContext},
};
use wherefore_common::{
    FlowCounters, FlowKey, Reason, UnaccountedKey,
    cache::Slot,
    parse::{self, Packet, Step},
};

use crate::{
    account, cidr,
    context::{Skb, Xdp},
    tables,
};

#[inline(always)]
fn link<P: Packet>(packet: &P, kind: u64, at: u64) -> u64 {
    let result = parse::link_header(packet, kind as u16, at as usize);
    Step::pack(result.map(|(kind, at)| Step { kind, at, fragment: 0 }))
}

#[inline(always)]
fn extension<P: Packet>(packet: &P, kind: u64, at: u64) -> u64 {
    Step::pack(parse::extension_header(packet, kind as u8, at as usize))
}

#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn wherefore_link(skb: *mut __sk_buff, kind: u64, at: u64) -> u64 {
    link(&Skb::new(TcContext::new(skb)), kind, at)
}

#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn wherefore_ext(skb: *mut __sk_buff, kind: u64, at: u64) -> u64 {
    extension(&Skb::new(TcContext::new(skb)), kind, at)
}

#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn wherefore_xlink(frame: *mut xdp_md, kind: u64, at: u64) -> u64 {
    link(&Xdp::new(XdpContext::new(frame)), kind, at)
}

#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn wherefore_xext(frame: *mut xdp_md, kind: u64, at: u64) -> u64 {
    extension(&Xdp::new(XdpContext::new(frame)), kind, at)
}

/// Says what became of the first packet of a flow.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn wherefore_log(skb: *mut __sk_buff, outcome: u64, proto: u64, bytes: u64) -> u64 {
    let skb = Skb::new(TcContext::new(skb));
    let ifindex = skb.meta().ifindex;
    match Outcome::from_number(outcome) {
        Outcome::New => account::log_new(skb.ctx(), ifindex, proto as u8, bytes as u32),
        _ => account::log_refused(skb.ctx(), ifindex, proto as u8),
    }
    0
}

/// What became of a packet with a flow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The flow was known, or it is filtered.
    Known,
    /// The flow is new in this CPU's cache, or in the table.
    New,
    /// There was no room for it.
    Refused,
}

impl Outcome {
    /// The outcome as a number.
    #[inline(always)]
    pub const fn number(self) -> u64 {
        match self {
            Self::Known => 0,
            Self::New => 1,
            Self::Refused => 2,
        }
    }

    /// The outcome of a number that [`wherefore_slow`] returned.
    #[inline(always)]
    pub const fn from_number(number: u64) -> Self {
        match number {
            0 => Self::Known,
            1 => Self::New,
            _ => Self::Refused,
        }
    }
}

/// Counts in the flow table what `slot` of the cache holds, which another flow needs.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn wherefore_evict(slot: *const Slot) -> u64 {
    if slot.is_null() {
        return 0;
    }
    // SAFETY: valid and not null, says the verifier; the slot is this CPU's own.
    let slot = unsafe { &*slot };
    put(slot.generation, &slot.key, &slot.counters(tables::tick_ns()), slot.rejected != 0);
    0
}

/// Asks the CIDR filter about the flow that has just taken `slot`.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn wherefore_judge(slot: *mut Slot) -> u64 {
    if slot.is_null() {
        return 0;
    }
    // SAFETY: as above.
    let slot = unsafe { &mut *slot };
    slot.rejected = u32::from(cidr::rejects(slot.generation, &slot.key));
    0
}

/// Counts a packet in the flow table itself, where there is no cache. `sizes`: generation, packets, wire bytes,
/// IP bytes, whether it is estimated.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn wherefore_direct(key: *const FlowKey, sizes: *const [u32; 6], cookie: u64) -> u64 {
    if key.is_null() || sizes.is_null() {
        return Outcome::Refused.number();
    }
    // SAFETY: valid and not null, says the verifier; nobody writes to them meanwhile.
    let (key, [generation, packets, wire_bytes, ip_bytes, estimated, _]) = unsafe { (&*key, *sizes) };
    let now = tables::now();
    let more = FlowCounters {
        packets: u64::from(packets),
        wire_bytes: u64::from(wire_bytes),
        ip_bytes: u64::from(ip_bytes),
        first_ns: now,
        last_ns: now,
        estimated: if estimated == 0 { 0 } else { u64::from(packets) },
        cookie,
    };
    put(generation, key, &more, cidr::rejects(generation, key)).number()
}

/// Adds to a flow in the table, or by the reason why it is in none.
#[inline(always)]
fn put(generation: u32, key: &FlowKey, more: &FlowCounters, rejected: bool) -> Outcome {
    let (reason, proto, outcome) = if rejected {
        (Reason::Filtered, 0, Outcome::Known)
    } else {
        match tables::count_flow(generation, key, more) {
            Ok(true) => return Outcome::New,
            Ok(false) => return Outcome::Known,
            Err(reason) => {
                tables::remember_lost(generation, key);
                (reason, key.proto, Outcome::Refused)
            }
        }
    };
    let key = UnaccountedKey {
        ifindex: key.ifindex,
        direction: key.direction,
        reason: reason as u8,
        proto,
        pad: 0,
    };
    tables::count_unaccounted(generation, &key, more.packets, more.wire_bytes);
    outcome
}

/// Counts packets without a flow, under the key whose word is `key`.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn wherefore_other(key: u64, generation: u64, packets: u64, wire_bytes: u64) -> u64 {
    tables::count_unaccounted(generation as u32, &UnaccountedKey::from_word(key), packets, wire_bytes);
    0
}
