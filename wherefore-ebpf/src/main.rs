//! The kernel programs: they count what passes and always let it pass.
//!
//! One program per direction and per beginning of the frame, chosen when attaching, so that no packet
//! pays for finding out. Names stay below 16 characters: the kernel keeps no more, and `wherefore_` is
//! how leftovers of a killed run are told from other people's programs.
#![no_std]
#![no_main]
// Inline assembly on this target: atomic adds, packet pointers (see `context` and `tables`).
#![feature(asm_experimental_arch)]

mod account;
mod cache;
mod cidr;
mod context;
mod filter;
mod functions;
mod journal;
mod tables;
mod totals;

use aya_ebpf::{
    bindings::xdp_action::XDP_PASS,
    btf_maps::ProgramArray,
    macros::{btf_map, classifier, xdp},
    programs::{TcContext, XdpContext},
};
use wherefore_common::{Direction, parse};

use crate::context::{Skb, Xdp};

/// `TC_ACT_UNSPEC`, which is also `TCX_NEXT`: the next program decides. `TC_ACT_OK` would hide the
/// packet from it.
const NEXT: i32 = -1;

/// Where a TC program sends what is not of the plainest kind: [`wherefore_irest`] and [`wherefore_orest`]. A
/// jump, where a call costs 8 ns and shares the stack. It cannot fail: the places are filled before the programs that
/// jump are attached, and never emptied, and of the 33 jumps that the kernel allows a packet takes two at most.
#[btf_map]
static REST: ProgramArray<2> = ProgramArray::new();
/// Likewise, of the XDP program: [`wherefore_xrest`].
#[btf_map]
static XDP_REST: ProgramArray<1> = ProgramArray::new();

/// Ingress, frames that begin with an Ethernet header.
#[classifier]
pub fn wherefore_in(ctx: TcContext) -> i32 {
    let skb = Skb::new(ctx);
    if !account::plain_skb(&skb, Direction::Ingress) {
        // SAFETY: nothing is held that the jump would not give back.
        unsafe { REST.tail_call(skb.ctx(), 0) };
    }
    NEXT
}

/// Egress, frames that begin with an Ethernet header.
#[classifier]
pub fn wherefore_out(ctx: TcContext) -> i32 {
    let skb = Skb::new(ctx);
    if !account::plain_skb(&skb, Direction::Egress) {
        // SAFETY: as above.
        unsafe { REST.tail_call(skb.ctx(), 1) };
    }
    NEXT
}

/// A program that counts whatever comes, by the whole parser.
macro_rules! whole {
    ($(#[$doc:meta])* $name:ident, $direction:ident, $parse:path) => {
        $(#[$doc])*
        #[classifier]
        pub fn $name(ctx: TcContext) -> i32 {
            account::skb(&Skb::new(ctx), Direction::$direction, $parse);
            NEXT
        }
    };
}

whole!(
    /// What [`wherefore_in`] leaves.
    wherefore_irest, Ingress, context::ethernet
);
whole!(
    /// What [`wherefore_out`] leaves.
    wherefore_orest, Egress, context::ethernet
);
whole!(
    /// Ingress, frames that begin with the IP header (tun, `WireGuard`, tunnels, PPP).
    wherefore_inip, Ingress, context::ip
);
whole!(
    /// Egress, frames that begin with the IP header.
    wherefore_outip, Egress, context::ip
);

/// Ingress in the driver, before an skb exists.
#[xdp]
pub fn wherefore_xdp(ctx: XdpContext) -> u32 {
    let frame = Xdp::new(ctx);
    if !account::plain_xdp(&frame) {
        // SAFETY: as above.
        unsafe { XDP_REST.tail_call(frame.ctx(), 0) };
    }
    XDP_PASS
}

/// What [`wherefore_xdp`] leaves.
#[xdp]
pub fn wherefore_xrest(ctx: XdpContext) -> u32 {
    let frame = Xdp::new(ctx);
    let mut parsed = context::blank();
    let result = parse::ethernet_into(&frame, &mut parsed);
    account::xdp(&frame, result, &parsed);
    XDP_PASS
}

/// Tells user space how ticks and nanoseconds belong together; run by hand, attached nowhere.
#[classifier]
pub fn wherefore_clock(_: TcContext) -> i32 {
    tables::read_clock();
    NEXT
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

// Some helpers are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
