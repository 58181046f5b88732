//! What a program does not do for every packet, as functions of their own: steps of the parser, for both kinds
//! of context, each of which returns a [`Step`] as a number; and counting where the cache cannot.
//!
//! Exported, so that their BTF says "global": the verifier then takes each by itself, with any numbers
//! (Linux 5.6), and a program that calls it only knows that a number comes back. Woven into `wherefore_in`
//! they gave the verifier some 400,000 instructions to follow; this way it is 60,000 at most (tests/kernel_cost.rs
//! prints them). Packets without tags and
//! extension headers call none of the parser's.

use aya_ebpf::{
    bindings::{__sk_buff, xdp_md},
    programs::{TcContext, XdpContext},
};
use wherefore_common::{
    Extra, FlowKey, UnaccountedKey,
    cache::{Aside, Slot},
    parse::{self, Packet, Step},
};

use crate::{
    account, cache, cidr,
    context::{Skb, Xdp},
    journal,
    tables::{self, Outcome},
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

/// [`cidr::judge`]: 1 where the flow is rejected, else 0.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn wherefore_judge(key: *const [u64; 6], generation: u64, includes: bool) -> u64 {
    if key.is_null() {
        return 0;
    }
    // SAFETY: valid and not null, says the verifier; nobody writes to it meanwhile.
    u64::from(cidr::judge(generation as u32, unsafe { &*key }, includes))
}

/// Adds what few flows have.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn wherefore_extra(key: *const FlowKey, generation: u64, estimated: u64, cookie: u64) -> u64 {
    if !key.is_null() {
        // SAFETY: as above.
        tables::add_extra(generation as u32, unsafe { &*key }, &Extra { estimated, cookie });
    }
    0
}

/// [`cache::evict`].
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn wherefore_evict(slot: *const Slot, aside: *const Aside) -> u64 {
    if !slot.is_null() && !aside.is_null() {
        // SAFETY: as above.
        unsafe { cache::evict(&*slot, &*aside) };
    }
    0
}

/// [`cache::total`].
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn wherefore_total(slot: *const Slot, aside: *const Aside, part: u64) -> u64 {
    if !slot.is_null() && !aside.is_null() {
        // SAFETY: as above.
        unsafe { cache::total(&*slot, &*aside, part as u32) };
    }
    0
}

/// Notes a flow that is new in the table.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn wherefore_note(key: *const FlowKey, generation: u64) -> u64 {
    if !key.is_null() {
        // SAFETY: as above.
        journal::note(generation as u32, unsafe { &*key });
    }
    0
}

/// Remembers a flow that found no room in the table.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn wherefore_lost(key: *const FlowKey, generation: u64) -> u64 {
    if !key.is_null() {
        // SAFETY: as above.
        tables::remember_lost(generation as u32, unsafe { &*key });
    }
    0
}

/// Counts packets without a flow, under the key whose word is `key`.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn wherefore_other(key: u64, generation: u64, packets: u64, wire_bytes: u64) -> u64 {
    tables::count_unaccounted(generation as u32, &UnaccountedKey::from_word(key), packets, wire_bytes);
    0
}
