//! The write-combining cache in front of the flow table ([`wherefore_common::cache`]).
//!
//! Only programs that run with bottom halves off may use it (TC and XDP): they cannot interrupt each other on
//! one CPU, so a slot needs no lock. On `PREEMPT_RT` they can, and there user space switches it off.

use aya_ebpf::{Global, btf_maps::Array, macros::btf_map};
use wherefore_common::{
    FlowCounters, FlowKey,
    cache::{Slot, hash},
    tables::part,
};

use crate::{
    account::Volume,
    cidr, functions,
    tables::{self, MMAPABLE, Outcome, cpu, ticks},
};

/// Parts of equal size by CPU and set. Resized by user space.
#[btf_map]
static CACHE: Array<Slot, 2, MMAPABLE> = Array::new();

/// Slots of a part, as a power of two; 0 where there is no cache.
#[unsafe(no_mangle)]
static CACHE_BITS: Global<u8> = Global::new(0);

/// Counts a packet in its flow, whose key comes as words. `cookie` is asked for where the flow is new here.
#[inline(always)]
pub fn count(generation: u32, key: &[u64; 6], volume: &Volume, cookie: impl FnOnce() -> u64) -> Outcome {
    let packets = u64::from(volume.packets);
    let bits = u32::from(CACHE_BITS.load());
    let mut mine: *mut Slot = core::ptr::null_mut();
    if bits != 0 {
        let first = part(cpu(), generation) << bits | (hash(key) >> (64 - bits)) as u32;
        if let Some(slot) = CACHE.get_ptr_mut(first) {
            if hit(slot, generation, key, volume) {
                return Outcome::Known;
            }
            if let Some(other) = CACHE.get_ptr_mut(first ^ 1) {
                if hit(other, generation, key, volume) {
                    return Outcome::Known;
                }
                // SAFETY: valid pointers into the map, to slots that only this CPU writes to (see above).
                let (slot, other) = unsafe { (&mut *slot, &mut *other) };
                if slot.generation != generation {
                    mine = slot;
                } else if other.generation != generation {
                    mine = other;
                } else if slot.strike() {
                    mine = slot;
                }
            }
        }
    }
    let tick = ticks();
    let mut to_table = *key;
    let mut counters = FlowCounters {
        packets,
        wire_bytes: u64::from(volume.wire_bytes),
        ip_bytes: u64::from(volume.ip_bytes),
        first_ns: tick,
        last_ns: tick,
        estimated: if volume.estimated { packets } else { 0 },
        cookie: cookie(),
    };
    let rejected =
        cidr::is_on() && functions::wherefore_judge((&raw const to_table).cast(), u64::from(generation)) != 0;
    let mut reject = rejected;
    if !mine.is_null() {
        // SAFETY: as above.
        let slot = unsafe { &mut *mine };
        let before =
            (slot.generation == generation).then(|| (slot.key.words(), slot.counters(), slot.rejected != 0));
        slot.key = FlowKey::from_words(*key);
        slot.strikes = 0;
        slot.mark = volume.packets as u16;
        slot.packets = packets;
        slot.wire_bytes = counters.wire_bytes;
        slot.ip_bytes = counters.ip_bytes;
        slot.last_tick = tick;
        slot.first_tick = tick;
        slot.estimated = counters.estimated;
        slot.cookie = counters.cookie;
        slot.rejected = u64::from(rejected);
        slot.generation = generation;
        let Some(before) = before else { return Outcome::New };
        (to_table, counters, reject) = before;
    }
    let outcome = tables::put(generation, &FlowKey::from_words(to_table), &counters, reject);
    if mine.is_null() { outcome } else { Outcome::New }
}

/// Adds a packet to a slot if that is its flow's.
#[inline(always)]
fn hit(slot: *mut Slot, generation: u32, key: &[u64; 6], volume: &Volume) -> bool {
    // SAFETY: a valid pointer into the map, to a slot that only this CPU writes to (see above).
    let slot = unsafe { &mut *slot };
    if slot.generation != generation || !same(&slot.key.words(), key) {
        return false;
    }
    let packets = u64::from(volume.packets);
    slot.packets += packets;
    slot.wire_bytes += u64::from(volume.wire_bytes);
    slot.ip_bytes += u64::from(volume.ip_bytes);
    slot.last_tick = ticks();
    if volume.estimated {
        slot.estimated += packets;
    }
    true
}

/// Equality without a branch a word.
#[inline(always)]
fn same(a: &[u64; 6], b: &[u64; 6]) -> bool {
    (a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) | (a[4] ^ b[4]) | (a[5] ^ b[5]) == 0
}
