//! What passed, by interface and direction, but for what the cache's slots hold: one part per CPU, so that nothing in it
//! is atomic.

use core::hint::cold_path;

use aya_ebpf::{Global, btf_maps::Array, macros::btf_map};
use wherefore_common::{
    Direction, Reason, Totals, UnaccountedKey,
    tables::{OtherKind, TOTALS_SLOTS, totals_slot},
};

use crate::{
    functions,
    tables::{MMAPABLE, Now},
};

/// 1: count what passes.
#[unsafe(no_mangle)]
static TOTALS_ON: Global<u8> = Global::new(1);
/// 1 where the programs of one CPU do not interrupt each other: everywhere but on `PREEMPT_RT`.
#[unsafe(no_mangle)]
static PER_CPU: Global<u8> = Global::new(0);

/// Parts of equal size by CPU and set ([`totals_slot`]). Resized by user space to the CPUs there are.
#[btf_map]
static TOTALS: Array<Totals, { 2 * TOTALS_SLOTS as usize }, MMAPABLE> = Array::new();

/// Where a packet was seen.
#[derive(Clone, Copy)]
pub struct Place {
    pub ifindex: u32,
    pub direction: Direction,
}

/// What is to be added.
#[derive(Clone, Copy)]
pub struct Passed {
    /// Frames on the wire, and their bytes.
    pub packets: u64,
    pub wire_bytes: u64,
    /// As in [`Totals`].
    pub more_packets: u64,
    pub more_bytes: u64,
}

/// Counts what passed; `rejected`: a filter rejected it.
#[inline(always)]
pub fn count(now: Now, place: Place, passed: &Passed, rejected: bool) {
    if TOTALS_ON.load() == 0 {
        return;
    }
    let generation = now.generation;
    if PER_CPU.load() == 0 {
        return elsewhere(generation, place, passed, rejected);
    }
    let slot = totals_slot(now.part, place.ifindex, place.direction as u8);
    let Some(totals) = TOTALS.get_ptr_mut(slot) else {
        return elsewhere(generation, place, passed, rejected);
    };
    // SAFETY: a valid pointer into the map, to a slot that only this CPU writes to, and only with bottom
    // halves off, so that no other packet comes between.
    let totals = unsafe { &mut *totals };
    if totals.generation != generation {
        cold_path();
        *totals = Totals { generation, ifindex: place.ifindex, ..Totals::default() };
    } else if totals.ifindex != place.ifindex {
        return elsewhere(generation, place, passed, rejected);
    }
    totals.packets += passed.packets;
    totals.wire_bytes += passed.wire_bytes;
    if passed.more_packets | passed.more_bytes != 0 {
        totals.more_packets = totals.more_packets.wrapping_add(passed.more_packets);
        totals.more_bytes = totals.more_bytes.wrapping_add(passed.more_bytes);
    }
    if rejected {
        totals.rejected_packets += passed.packets;
        totals.rejected_bytes += passed.wire_bytes;
    }
}

/// As [`count`], in the table of packets without a flow: where another interface has the slot, or there are
/// no slots.
#[inline(always)]
fn elsewhere(generation: u32, place: Place, passed: &Passed, rejected: bool) {
    cold_path();
    let add = |kind, packets, bytes| {
        let key = UnaccountedKey::new(place.ifindex, place.direction as u8, kind);
        functions::wherefore_other(key.word(), u64::from(generation), packets, bytes);
    };
    let handed_over = passed.wire_bytes.wrapping_sub(passed.more_bytes);
    add(OtherKind::Seen as u8, passed.packets.wrapping_sub(passed.more_packets), handed_over);
    add(OtherKind::Total as u8, passed.packets, passed.wire_bytes);
    if rejected {
        add(Reason::Filtered as u8, passed.packets, passed.wire_bytes);
    }
}
