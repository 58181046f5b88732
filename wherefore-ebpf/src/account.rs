//! From a parsed packet to the tables.

use core::hint::cold_path;

use aya_ebpf::{EbpfContext, Global, helpers::generated::bpf_get_socket_cookie};
use aya_log_ebpf::debug;
use wherefore_common::{
    Direction, Reason, UnaccountedKey,
    cache::{hash_addresses, hash_with},
    offload::{self, Offload, Size},
    parse::{self, Parsed, Plain},
};

use crate::{
    cache::{self, Flow},
    context::{self, Skb, Xdp},
    functions,
    tables::{self, Now, Outcome},
    totals::{self, Passed, Place},
};

/// What a packet adds.
#[derive(Clone, Copy)]
pub struct Volume {
    pub packets: u32,
    pub wire_bytes: u32,
    pub ip_bytes: u32,
    /// Bytes as the stack handed them over.
    pub handed_over: u32,
    /// The packet may be several on the wire.
    pub estimated: bool,
}

impl Volume {
    #[inline(always)]
    const fn new(size: &Size, handed_over: u32) -> Self {
        let Size { packets, wire_bytes, ip_bytes } = *size;
        Self { packets, wire_bytes, ip_bytes, handed_over, estimated: false }
    }

    /// The same for the totals.
    #[inline(always)]
    pub const fn passed(&self) -> Passed {
        let (packets, wire_bytes) = (self.packets as u64, self.wire_bytes as u64);
        Passed {
            packets,
            wire_bytes,
            more_packets: packets.wrapping_sub(1),
            more_bytes: wire_bytes.wrapping_sub(self.handed_over as u64),
        }
    }

    /// Of a packet in an XDP program.
    #[inline(always)]
    fn of_xdp(frame: &Xdp, size: &Size) -> Self {
        let estimated = ESTIMATE_ON.load() != 0 && frame.mtu().is_some_and(|mtu| size.ip_bytes > mtu);
        Self { estimated, ..Self::new(size, frame.len()) }
    }
}

/// 1: the XDP program sees merged packets (generic mode), and marks those that are longer than the MTU.
#[unsafe(no_mangle)]
static ESTIMATE_ON: Global<u8> = Global::new(0);
/// 1: messages are wanted.
#[unsafe(no_mangle)]
static LOG_ON: Global<u8> = Global::new(0);
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
    let mut tag = 0;
    if TAG_ON.load() != 0 && meta.vlan_present != 0 {
        cold_path();
        tag = offload::TAG;
    }
    let gso_size = if OFFLOAD_ON.load() == 0 { 0 } else { meta.gso_size };
    Offload {
        len: meta.len,
        wire_len: if gso_size != 0 && matches!(direction, Direction::Egress) { meta.wire_len } else { 0 },
        gso_size,
        gso_segs: if gso_size == 0 { 0 } else { meta.gso_segs },
        tag,
    }
}

/// Counts a packet of a TC program if it is of the plainest kind; false: nothing was done.
///
/// Two ways, as that of IPv4 is then free of what only IPv6 has.
#[inline(always)]
pub fn plain_skb(skb: &Skb, direction: Direction) -> bool {
    let figures = figures(skb, direction);
    if figures.gso_size != 0 {
        cold_path();
        return false;
    }
    if let Some(plain) = parse::plain_ipv4(skb) {
        count_plain_skb(skb, direction, &figures, &plain);
        return true;
    }
    if let Some(plain) = parse::plain_ipv6(skb) {
        count_plain_skb(skb, direction, &figures, &plain);
        return true;
    }
    false
}

#[inline(always)]
fn count_plain_skb(skb: &Skb, direction: Direction, figures: &Offload, plain: &Plain) {
    let place = Place { ifindex: skb.meta().ifindex, direction };
    let size = Size { packets: 1, wire_bytes: figures.len + figures.tag, ip_bytes: plain.ip_len };
    let flow = plain_flow(plain, &place);
    let now = tables::now();
    let volume = Volume::new(&size, figures.len);
    let outcome = cache::count(now, &flow, &volume, || cookie(skb, direction));
    if outcome != Outcome::Known && LOG_ON.load() != 0 {
        cold_path();
        functions::wherefore_log(
            skb.raw(),
            outcome.number(),
            u64::from(plain.proto),
            u64::from(size.wire_bytes),
        );
    }
}

/// Counts a packet of a TC program, whatever it is; `parse` reads its headers.
#[inline(always)]
pub fn skb(skb: &Skb, direction: Direction, parse: impl FnOnce(&Skb, &mut Parsed) -> Result<(), Reason>) {
    let mut parsed = context::blank();
    let result = parse(skb, &mut parsed);
    let parsed = &parsed;
    let figures = figures(skb, direction);
    let place = Place { ifindex: skb.meta().ifindex, direction };
    let now = tables::now();
    let size = match result {
        Ok(()) if figures.gso_size == 0 => offload::plain(&figures, parsed),
        Ok(()) => offload::segmented(skb, &figures, parsed),
        Err(_) => {
            let (packets, wire_bytes) = offload::unparsed(&figures);
            Size { packets, wire_bytes, ip_bytes: 0 }
        }
    };
    let volume = Volume::new(&size, figures.len);
    match result {
        Ok(()) => {
            let flow = parsed_flow(parsed, &place);
            match cache::count(now, &flow, &volume, || cookie(skb, direction)) {
                Outcome::Known => {}
                Outcome::New => log_new(skb.ctx(), place.ifindex, parsed.proto, size.wire_bytes),
                Outcome::Refused => log_refused(skb.ctx(), place.ifindex, parsed.proto),
            }
        }
        Err(reason) => {
            unaccounted(now, place, reason, &volume);
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
    rejected(Place { ifindex: skb.meta().ifindex, direction }, &Volume::new(&size, figures.len));
}

/// Counts a packet of the XDP program that an expression rejected.
#[inline(always)]
pub fn rejected_xdp(frame: &Xdp) {
    let len = frame.len();
    let size = Size { packets: 1, wire_bytes: len, ip_bytes: 0 };
    rejected(Place { ifindex: frame.ifindex(), direction: Direction::Ingress }, &Volume::new(&size, len));
}

#[inline(always)]
fn rejected(place: Place, volume: &Volume) {
    totals::count(tables::now(), place, &volume.passed(), true);
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

/// Counts a packet of the XDP program if it is of the plainest kind; false: nothing was done. In two ways, as
/// [`plain_skb`].
#[inline(always)]
pub fn plain_xdp(frame: &Xdp) -> bool {
    if let Some(plain) = parse::plain_ipv4(frame) {
        count_plain_xdp(frame, &plain);
        return true;
    }
    if let Some(plain) = parse::plain_ipv6(frame) {
        count_plain_xdp(frame, &plain);
        return true;
    }
    false
}

#[inline(always)]
fn count_plain_xdp(frame: &Xdp, plain: &Plain) {
    let place = Place { ifindex: frame.ifindex(), direction: Direction::Ingress };
    let size = Size { packets: 1, wire_bytes: frame.len(), ip_bytes: plain.ip_len };
    let flow = plain_flow(plain, &place);
    let now = tables::now();
    cache::count(now, &flow, &Volume::of_xdp(frame, &size), || 0);
}

/// Counts a packet of the XDP program, whatever it is.
#[inline(always)]
pub fn xdp(frame: &Xdp, result: Result<(), Reason>, parsed: &Parsed) {
    let len = frame.len();
    let place = Place { ifindex: frame.ifindex(), direction: Direction::Ingress };
    let now = tables::now();
    let ip_bytes = if result.is_ok() { parsed.ip_bytes(len) } else { 0 };
    let size = Size { packets: 1, wire_bytes: len, ip_bytes };
    let volume = Volume::of_xdp(frame, &size);
    match result {
        Ok(()) => {
            if cache::count(now, &parsed_flow(parsed, &place), &volume, || 0) == Outcome::New {
                log_new(frame.ctx(), place.ifindex, parsed.proto, len);
            }
        }
        Err(reason) => {
            unaccounted(now, place, reason, &volume);
            debug!(frame.ctx(), "interface {}: no flow, reason {}", place.ifindex, reason as u8);
        }
    }
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

/// The flow of a packet. `hash` is that of the addresses. On a little-endian machine.
#[inline(always)]
fn flow((addresses, hash): ([u64; 4], u64), ports: u32, (proto, family): (u8, u8), place: &Place) -> Flow {
    const { assert!(cfg!(target_endian = "little")) };
    let kind = u64::from(proto) | u64::from(family) << 8 | (place.direction as u64) << 16;
    let [s0, s1, d0, d1] = addresses;
    let rest = [u64::from(place.ifindex) | u64::from(ports) << 32, kind];
    Flow { key: [s0, s1, d0, d1, rest[0], rest[1]], hash: hash_with(hash, rest), place: *place }
}

/// The flow of what the quick parser found.
#[inline(always)]
fn plain_flow(plain: &Plain, place: &Place) -> Flow {
    flow((plain.addresses, plain.hash), plain.ports, (plain.proto, plain.family), place)
}

/// The flow of what the whole parser found.
#[inline(always)]
fn parsed_flow(parsed: &Parsed, place: &Place) -> Flow {
    // SAFETY: equal sizes, and any bytes make words.
    let addresses = unsafe { core::mem::transmute::<[[u8; 16]; 2], [u64; 4]>([parsed.src, parsed.dst]) };
    let hash = hash_addresses(&addresses);
    let ports = u32::from(parsed.sport) << 16 | u32::from(parsed.dport);
    flow((addresses, hash), ports, (parsed.proto, parsed.family), place)
}

#[inline(always)]
fn unaccounted(now: Now, place: Place, reason: Reason, volume: &Volume) {
    let passed = volume.passed();
    totals::count(now, place, &passed, false);
    let key = UnaccountedKey::new(place.ifindex, place.direction as u8, reason as u8);
    functions::wherefore_other(key.word(), u64::from(now.generation), passed.packets, passed.wire_bytes);
}
