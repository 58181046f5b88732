//! Behind a tcpdump expression: the programs that count what it rejects, and the ones that measure the first
//! frame of a super-frame for `len`. User space makes the expression's own program, attaches that in place of
//! the counting programs, and lets it tail-call them or these.

use aya_ebpf::{
    bindings::xdp_action::XDP_PASS,
    btf_maps::{PerCpuArray, ProgramArray},
    macros::{btf_map, classifier, xdp},
    programs::{TcContext, XdpContext},
};
use wherefore_common::{
    Direction, Reason,
    filter::{FirstSegment, PLACES},
    offload::{self, Offload},
    parse::Parsed,
};

use crate::{
    NEXT, account,
    context::{self, Skb, Xdp},
};

/// The expression's programs and those they call.
#[btf_map]
static FILTER: ProgramArray<PLACES> = ProgramArray::new();

/// Between an expression's program and the one that measures for it. Bottom halves are off in both, so no other
/// packet of the CPU comes between.
#[btf_map]
static FIRST_SEGMENT: PerCpuArray<FirstSegment, 1> = PerCpuArray::new();

macro_rules! rejected {
    ($name:ident, $direction:ident, $parse:expr) => {
        #[classifier]
        pub fn $name(ctx: TcContext) -> i32 {
            account::rejected_skb(&Skb::new(ctx), Direction::$direction, $parse);
            NEXT
        }
    };
}

rejected!(wherefore_rin, Ingress, context::ethernet);
rejected!(wherefore_rout, Egress, context::ethernet);
rejected!(wherefore_rinip, Ingress, context::ip);
rejected!(wherefore_routi, Egress, context::ip);

#[xdp]
pub fn wherefore_rxdp(ctx: XdpContext) -> u32 {
    account::rejected_xdp(&Xdp::new(ctx));
    XDP_PASS
}

/// Measures frames that begin with an Ethernet header.
#[classifier]
pub fn wherefore_len(ctx: TcContext) -> i32 {
    measure(&Skb::new(ctx), context::ethernet);
    NEXT
}

/// Measures frames that begin with the IP header.
#[classifier]
pub fn wherefore_lenip(ctx: TcContext) -> i32 {
    measure(&Skb::new(ctx), context::ip);
    NEXT
}

/// Writes the length down and goes back; the length is the whole packet's where its headers are not understood.
#[inline(always)]
fn measure(skb: &Skb, parse: impl FnOnce(&Skb, &mut Parsed) -> Result<(), Reason>) {
    let mut parsed = context::blank();
    let result = parse(skb, &mut parsed);
    let Some(first) = FIRST_SEGMENT.get_ptr_mut(0) else { return };
    let meta = skb.meta();
    let offload = Offload { len: meta.len, gso_size: meta.gso_size, ..Offload::default() };
    let len = match result {
        Ok(()) => offload::first_segment(skb, &offload, &parsed),
        Err(_) => offload.len,
    };
    // SAFETY: a valid pointer into the map, whose value nobody else uses at this moment.
    let back = unsafe {
        (*first).len = len.max(1);
        (*first).back
    };
    // SAFETY: the context is that of this program; nothing here waits to be dropped.
    unsafe { FILTER.tail_call(skb.ctx(), back) };
}
