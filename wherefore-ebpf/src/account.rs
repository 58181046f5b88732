//! From a parsed packet to the tables.

use core::ptr;

use aya_ebpf::{EbpfContext, Global, helpers::generated::bpf_get_socket_cookie};
use aya_log_ebpf::debug;
use wherefore_common::{
    Direction, Reason, Totals, UnaccountedKey,
    offload::{self, Offload, Size},
    parse::{self, Parsed},
};

use crate::{
    cache,
    context::{self, Skb, Xdp},
    functions,
    tables::{self, Outcome},
    totals::{self, Passed},
};

/// What a packet adds to its flow.
#[derive(Clone, Copy)]
pub struct Volume {
    pub packets: u32,
    pub wire_bytes: u32,
    pub ip_bytes: u32,
    /// The packet may be several on the wire.
    pub estimated: bool,
}

impl Volume {
    #[inline(always)]
    const fn new(size: &Size) -> Self {
        Self { packets: size.packets, wire_bytes: size.wire_bytes, ip_bytes: size.ip_bytes, estimated: false }
    }

    /// Of a packet in an XDP program.
    #[inline(always)]
    fn of_xdp(frame: &Xdp, size: &Size) -> Self {
        let estimated = ESTIMATE_ON.load() != 0 && frame.mtu().is_some_and(|mtu| size.ip_bytes > mtu);
        Self { estimated, ..Self::new(size) }
    }
}

/// 1: the XDP program sees merged packets (generic mode), and marks those that are longer than the MTU.
#[unsafe(no_mangle)]
static ESTIMATE_ON: Global<u8> = Global::new(0);
/// 1: messages are wanted.
#[unsafe(no_mangle)]
static LOG_ON: Global<u8> = Global::new(0);
/// 1: count everything that passes, by interface and direction.
#[unsafe(no_mangle)]
static TOTALS_ON: Global<u8> = Global::new(1);
/// 1: a super-frame counts as the frames it stands for.
#[unsafe(no_mangle)]
static OFFLOAD_ON: Global<u8> = Global::new(1);
/// 1: a tag outside the data counts.
#[unsafe(no_mangle)]
static TAG_ON: Global<u8> = Global::new(1);
/// 1: a flow that leaves gets the cookie of its socket.
#[unsafe(no_mangle)]
static COOKIE_ON: Global<u8> = Global::new(0);

/// The stack's own figures about a packet.
#[inline(always)]
fn figures(skb: &Skb, direction: Direction) -> Offload {
    let meta = skb.meta();
    let tagged = TAG_ON.load() != 0 && meta.vlan_present != 0;
    let gso_size = if OFFLOAD_ON.load() == 0 { 0 } else { meta.gso_size };
    Offload {
        len: meta.len,
        wire_len: if gso_size != 0 && matches!(direction, Direction::Egress) { meta.wire_len } else { 0 },
        gso_size,
        gso_segs: if gso_size == 0 { 0 } else { meta.gso_segs },
        tag: if tagged { offload::TAG } else { 0 },
    }
}

/// Where a packet was seen.
#[derive(Clone, Copy)]
pub struct Place {
    pub ifindex: u32,
    pub direction: Direction,
}

/// Counts a packet of a TC program if it is of the plainest kind; false: nothing was done.
#[inline(always)]
pub fn plain_skb(skb: &Skb, direction: Direction) -> bool {
    let figures = figures(skb, direction);
    if figures.gso_size != 0 {
        return false;
    }
    let Some(plain) = parse::plain(skb) else { return false };
    let place = Place { ifindex: skb.meta().ifindex, direction };
    let size = Size { packets: 1, wire_bytes: figures.len + figures.tag, ip_bytes: plain.ip_len };
    let key = key(plain.addresses, (plain.sport, plain.dport), (plain.proto, plain.family), &place);
    let generation = tables::generation();
    let totals = total(generation, &place, figures.len, &size);
    let outcome = cache::count(generation, &key, &Volume::new(&size), totals, || cookie(skb, direction));
    if LOG_ON.load() != 0 && outcome != Outcome::Known {
        functions::wherefore_log(
            skb.raw(),
            outcome.number(),
            u64::from(plain.proto),
            u64::from(size.wire_bytes),
        );
    }
    true
}

/// Counts a packet of a TC program, whatever it is; `parse` reads its headers.
#[inline(always)]
pub fn skb(skb: &Skb, direction: Direction, parse: impl FnOnce(&Skb, &mut Parsed) -> Result<(), Reason>) {
    let mut parsed = context::blank();
    let result = parse(skb, &mut parsed);
    let parsed = &parsed;
    let figures = figures(skb, direction);
    let place = Place { ifindex: skb.meta().ifindex, direction };
    let generation = tables::generation();
    let size = match result {
        Ok(()) if figures.gso_size == 0 => offload::plain(&figures, parsed),
        Ok(()) => offload::segmented(skb, &figures, parsed),
        Err(_) => {
            let (packets, wire_bytes) = offload::unparsed(&figures);
            Size { packets, wire_bytes, ip_bytes: 0 }
        }
    };
    let totals = total(generation, &place, figures.len, &size);
    match result {
        Ok(()) => {
            let key = parsed_key(parsed, &place);
            match cache::count(generation, &key, &Volume::new(&size), totals, || cookie(skb, direction)) {
                Outcome::Known => {}
                Outcome::New => log_new(skb.ctx(), place.ifindex, parsed.proto, size.wire_bytes),
                Outcome::Refused => log_refused(skb.ctx(), place.ifindex, parsed.proto),
            }
        }
        Err(reason) => {
            unaccounted(generation, &place, reason, &size);
            debug!(skb.ctx(), "interface {}: no flow, reason {}", place.ifindex, reason as u8);
        }
    }
}

/// Counts a packet of a TC program that an expression rejected; `parse` is asked for the headers of a super-frame,
/// as the number of its frames follows from them.
#[inline(always)]
pub fn rejected_skb(
    skb: &Skb,
    direction: Direction,
    parse: impl FnOnce(&Skb, &mut Parsed) -> Result<(), Reason>,
) {
    let figures = figures(skb, direction);
    let mut size = Size { packets: 1, wire_bytes: figures.len + figures.tag, ip_bytes: 0 };
    if figures.gso_size != 0 {
        let mut parsed = context::blank();
        match parse(skb, &mut parsed) {
            Ok(()) => size = offload::segmented(skb, &figures, &parsed),
            Err(_) => (size.packets, size.wire_bytes) = offload::unparsed(&figures),
        }
    }
    rejected(&Place { ifindex: skb.meta().ifindex, direction }, figures.len, &size);
}

/// Counts a packet of the XDP program that an expression rejected.
#[inline(always)]
pub fn rejected_xdp(frame: &Xdp) {
    let len = frame.len();
    let size = Size { packets: 1, wire_bytes: len, ip_bytes: 0 };
    rejected(&Place { ifindex: frame.ifindex(), direction: Direction::Ingress }, len, &size);
}

#[inline(always)]
fn rejected(place: &Place, handed_over: u32, size: &Size) {
    let Place { ifindex, direction } = *place;
    let Size { packets, wire_bytes, .. } = *size;
    let passed = Passed { ifindex, direction, handed_over, packets, wire_bytes, rejected: true };
    totals::count(tables::generation(), &passed);
}

/// Says that a flow is new.
#[inline(always)]
pub fn log_new(ctx: &impl EbpfContext, ifindex: u32, proto: u8, bytes: u32) {
    debug!(ctx, "interface {}: new flow, protocol {}, {} bytes", ifindex, proto, bytes);
}

/// Says that a flow found no room.
#[inline(always)]
pub fn log_refused(ctx: &impl EbpfContext, ifindex: u32, proto: u8) {
    debug!(ctx, "interface {}: no room for a flow of protocol {}", ifindex, proto);
}

/// Counts a packet of the XDP program if it is of the plainest kind; false: nothing was done.
#[inline(always)]
pub fn plain_xdp(frame: &Xdp) -> bool {
    let Some(plain) = parse::plain(frame) else { return false };
    let place = Place { ifindex: frame.ifindex(), direction: Direction::Ingress };
    let size = Size { packets: 1, wire_bytes: frame.len(), ip_bytes: plain.ip_len };
    let key = key(plain.addresses, (plain.sport, plain.dport), (plain.proto, plain.family), &place);
    let generation = tables::generation();
    let totals = total(generation, &place, size.wire_bytes, &size);
    cache::count(generation, &key, &Volume::of_xdp(frame, &size), totals, || 0);
    true
}

/// Counts a packet of the XDP program, whatever it is.
#[inline(always)]
pub fn xdp(frame: &Xdp, result: Result<(), Reason>, parsed: &Parsed) {
    let len = frame.len();
    let place = Place { ifindex: frame.ifindex(), direction: Direction::Ingress };
    let generation = tables::generation();
    let ip_bytes = if result.is_ok() { parsed.ip_bytes(len) } else { 0 };
    let size = Size { packets: 1, wire_bytes: len, ip_bytes };
    let totals = total(generation, &place, len, &size);
    match result {
        Ok(()) => {
            if cache::count(
                generation,
                &parsed_key(parsed, &place),
                &Volume::of_xdp(frame, &size),
                totals,
                || 0,
            ) == Outcome::New
            {
                log_new(frame.ctx(), place.ifindex, parsed.proto, len);
            }
        }
        Err(reason) => {
            unaccounted(generation, &place, reason, &size);
            debug!(frame.ctx(), "interface {}: no flow, reason {}", place.ifindex, reason as u8);
        }
    }
}

/// Counts a packet in the totals; the slot of them, or null.
#[inline(always)]
fn total(generation: u32, place: &Place, handed_over: u32, size: &Size) -> *mut Totals {
    if TOTALS_ON.load() == 0 {
        return ptr::null_mut();
    }
    let Place { ifindex, direction } = *place;
    let Size { packets, wire_bytes, .. } = *size;
    totals::count(
        generation,
        &Passed { ifindex, direction, handed_over, packets, wire_bytes, rejected: false },
    )
}

/// The cookie of the socket that a packet leaves.
#[inline(always)]
fn cookie(skb: &Skb, direction: Direction) -> u64 {
    if COOKIE_ON.load() != 0 && matches!(direction, Direction::Egress) {
        // SAFETY: the context is valid as long as the program runs.
        unsafe { bpf_get_socket_cookie(skb.ctx().as_ptr()) }
    } else {
        0
    }
}

/// The words of a flow's key, on a little-endian machine.
#[inline(always)]
fn key(
    addresses: [u64; 4],
    (sport, dport): (u16, u16),
    (proto, family): (u8, u8),
    place: &Place,
) -> [u64; 6] {
    const { assert!(cfg!(target_endian = "little")) };
    let ports = u64::from(sport) << 32 | u64::from(dport) << 48;
    let kind = u64::from(proto) | u64::from(family) << 8 | (place.direction as u64) << 16;
    let [s0, s1, d0, d1] = addresses;
    [s0, s1, d0, d1, u64::from(place.ifindex) | ports, kind]
}

/// The key of what the whole parser found.
#[inline(always)]
fn parsed_key(parsed: &Parsed, place: &Place) -> [u64; 6] {
    // SAFETY: equal sizes, and any bytes make words.
    let addresses = unsafe { core::mem::transmute::<[[u8; 16]; 2], [u64; 4]>([parsed.src, parsed.dst]) };
    key(addresses, (parsed.sport, parsed.dport), (parsed.proto, parsed.family), place)
}

#[inline(always)]
fn unaccounted(generation: u32, place: &Place, reason: Reason, size: &Size) {
    let Place { ifindex, direction } = *place;
    let key = UnaccountedKey::new(ifindex, direction as u8, reason as u8);
    functions::wherefore_other(
        key.word(),
        u64::from(generation),
        u64::from(size.packets),
        u64::from(size.wire_bytes),
    );
}
