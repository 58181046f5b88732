//! The write-combining cache in front of the flow table ([`wherefore_common::cache`]).
//!
//! Only programs that run with bottom halves off may use it (TC and XDP): they cannot interrupt each other on
//! one CPU, so a slot needs no lock. On `PREEMPT_RT` they can, and there user space switches it off.

use aya_ebpf::{Global, btf_maps::Array, macros::btf_map};
use wherefore_common::{
    FlowKey,
    cache::{Slot, hash},
    tables::part,
};

use crate::{
    account::Volume,
    cidr,
    functions::{self, Outcome},
    tables::{MMAPABLE, cpu, now, ticks},
};

/// Parts of equal size by CPU and set. Resized by user space.
#[btf_map]
static CACHE: Array<Slot, 2, MMAPABLE> = Array::new();

/// Slots of a part, as a power of two; 0 where there is no cache.
#[unsafe(no_mangle)]
static CACHE_BITS: Global<u8> = Global::new(0);

/// True where there is a cache.
#[inline(always)]
pub fn is_on() -> bool {
    CACHE_BITS.load() != 0
}

/// Counts a packet in its flow, whose key comes as words. `cookie` is asked for where the flow takes a slot.
/// `None`: there is no cache.
#[inline(always)]
pub fn count(
    generation: u32,
    key: &[u64; 6],
    volume: &Volume,
    cookie: impl FnOnce() -> u64,
) -> Option<Outcome> {
    let bits = u32::from(CACHE_BITS.load());
    if bits == 0 {
        return None;
    }
    let index = part(cpu(), generation) << bits | (hash(key) >> (64 - bits)) as u32;
    let place = CACHE.get_ptr_mut(index)?;
    // SAFETY: a valid pointer into the map, to a slot that only this CPU writes to (see above).
    let slot = unsafe { &mut *place };
    let packets = u64::from(volume.packets);
    if slot.generation == generation {
        if same(&slot.key.words(), key) {
            slot.packets += packets;
            slot.wire_bytes += u64::from(volume.wire_bytes);
            slot.ip_bytes += u64::from(volume.ip_bytes);
            slot.last_tick = ticks();
            if volume.estimated {
                slot.estimated += packets;
            }
            return Some(Outcome::Known);
        }
        functions::wherefore_evict(place);
    }
    let tick = ticks();
    *slot = Slot {
        key: FlowKey::from_words(*key),
        generation,
        rejected: 0,
        packets,
        wire_bytes: u64::from(volume.wire_bytes),
        ip_bytes: u64::from(volume.ip_bytes),
        last_tick: tick,
        first_tick: tick,
        first_ns: now(),
        estimated: if volume.estimated { packets } else { 0 },
        cookie: cookie(),
        pad: 0,
    };
    if cidr::is_on() {
        functions::wherefore_judge(place);
    }
    Some(Outcome::New)
}

/// Equality without a branch a word.
#[inline(always)]
fn same(a: &[u64; 6], b: &[u64; 6]) -> bool {
    (a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) | (a[4] ^ b[4]) | (a[5] ^ b[5]) == 0
}
