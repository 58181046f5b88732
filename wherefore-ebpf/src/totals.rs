//! Everything that passed, by interface and direction: one part per CPU, so that nothing in it is atomic.

use core::ptr;

use aya_ebpf::{Global, btf_maps::Array, macros::btf_map};
use wherefore_common::{
    Direction, Reason, Totals, UnaccountedKey,
    tables::{OtherKind, TOTALS_SLOTS, totals_slot},
};

use crate::{
    functions,
    tables::{MMAPABLE, cpu},
};

/// 1 where the programs of one CPU do not interrupt each other: everywhere but on `PREEMPT_RT`.
#[unsafe(no_mangle)]
static PER_CPU: Global<u8> = Global::new(0);

/// Parts of equal size by CPU and set ([`totals_slot`]). Resized by user space to the CPUs there are.
#[btf_map]
static TOTALS: Array<Totals, { 2 * TOTALS_SLOTS as usize }, MMAPABLE> = Array::new();

/// What one packet adds.
#[derive(Clone, Copy)]
pub struct Passed {
    pub ifindex: u32,
    pub direction: Direction,
    /// Bytes as the stack handed them over.
    pub handed_over: u32,
    /// Frames on the wire, and their bytes.
    pub packets: u32,
    pub wire_bytes: u32,
    /// A tcpdump expression rejected it, so that it is counted here only.
    pub rejected: bool,
}

/// Counts a packet; the slot that it was counted in, or null.
#[inline(always)]
pub fn count(generation: u32, passed: &Passed) -> *mut Totals {
    if PER_CPU.load() == 0 {
        elsewhere(generation, passed);
        return ptr::null_mut();
    }
    let slot = totals_slot(cpu(), generation, passed.ifindex, passed.direction as u8);
    let Some(place) = TOTALS.get_ptr_mut(slot) else {
        elsewhere(generation, passed);
        return ptr::null_mut();
    };
    // SAFETY: a valid pointer into the map, to a slot that only this CPU writes to, and only with bottom
    // halves off, so that no other packet comes between.
    let totals = unsafe { &mut *place };
    if totals.generation != generation {
        clear(totals, generation, passed.ifindex);
    } else if totals.ifindex != passed.ifindex {
        elsewhere(generation, passed);
        return ptr::null_mut();
    }
    let (packets, wire_bytes) = (u64::from(passed.packets), u64::from(passed.wire_bytes));
    totals.seen_packets += 1;
    totals.seen_bytes += u64::from(passed.handed_over);
    totals.packets += packets;
    totals.wire_bytes += wire_bytes;
    if passed.rejected {
        totals.reject(packets, wire_bytes);
    }
    place
}

#[inline(always)]
fn clear(totals: &mut Totals, generation: u32, ifindex: u32) {
    totals.ifindex = ifindex;
    totals.seen_packets = 0;
    totals.seen_bytes = 0;
    totals.packets = 0;
    totals.wire_bytes = 0;
    totals.rejected_packets = 0;
    totals.rejected_bytes = 0;
    totals.pressure = 0;
    totals.generation = generation;
}

/// As [`count`], in the table of packets without a flow: where another interface has the slot, or there are
/// no slots.
#[inline(always)]
fn elsewhere(generation: u32, passed: &Passed) {
    let add = |kind, packets: u32, bytes: u32| {
        functions::wherefore_other(
            UnaccountedKey::new(passed.ifindex, passed.direction as u8, kind).word(),
            u64::from(generation),
            u64::from(packets),
            u64::from(bytes),
        );
    };
    add(OtherKind::Seen as u8, 1, passed.handed_over);
    add(OtherKind::Total as u8, passed.packets, passed.wire_bytes);
    if passed.rejected {
        add(Reason::Filtered as u8, passed.packets, passed.wire_bytes);
    }
}
