//! The write-combining cache in front of the flow table ([`wherefore_common::cache`]).
//!
//! Only programs that run with bottom halves off may use it (TC and XDP): they cannot interrupt each other on
//! one CPU, so a slot needs no lock. On `PREEMPT_RT` they can, and there user space switches it off.

use core::hint::cold_path;

use aya_ebpf::{Global, btf_maps::Array, macros::btf_map};
use wherefore_common::{
    Direction, Extra, FlowKey, Stored,
    cache::{Aside, FULL, Pressure, REJECTED, Slot, tail},
    counters::LINK,
};

use crate::{
    account::Volume,
    cidr, functions,
    tables::{self, MMAPABLE, Now, Outcome, ticks},
    totals::{self, Passed, Place},
};

/// Parts of equal size by CPU and set. Resized by user space.
#[btf_map]
static CACHE: Array<Slot, 2, MMAPABLE> = Array::new();

/// The rest of each slot, at the same place.
#[btf_map]
static ASIDE: Array<Aside, 2, MMAPABLE> = Array::new();

/// Slots of a part, as a power of two; 0 where there is no cache.
#[unsafe(no_mangle)]
static CACHE_BITS: Global<u8> = Global::new(0);

/// CPUs whose pressure is told apart, a power of two. Beyond, two share one, which may cost them time but no count.
const PRESSURES: u32 = 256;

/// By CPU. No map of its own, which would cost every packet a lookup.
static mut PRESSURE: [Pressure; PRESSURES as usize] = [Pressure::NONE; PRESSURES as usize];

/// A flow of which a packet comes.
pub struct Flow {
    /// Words of the key.
    pub key: [u64; 6],
    /// Their [`wherefore_common::cache::hash`].
    pub hash: u64,
    /// What the key says of it.
    pub place: Place,
}

/// Counts a packet: in the slot that its flow holds, else in the totals and its flow. `cookie` is asked for where the flow is new here.
#[inline(always)]
pub fn count(now: Now, flow: &Flow, volume: &Volume, cookie: impl FnOnce() -> u64) -> Outcome {
    let Flow { key, hash, place } = flow;
    let generation = now.generation;
    let bits = u32::from(CACHE_BITS.load());
    let tail = tail(key, generation);
    // The slot that the flow may have, and where it is.
    let mut mine: *mut Slot = core::ptr::null_mut();
    let mut at = 0;
    let mut verdict = None;
    let mut known = false;
    let pressure = pressure(now);
    if bits != 0 && pressure.past() {
        cold_path();
        // First, as none of these is in the table.
        let rejected = cidr::rejects(generation, key);
        known = rejected
            || tables::add_known(generation, FlowKey::of_words(key), &stored(volume), volume.estimated);
        verdict = Some(rejected);
    }
    if bits == 0 || known {
        cold_path();
    } else {
        at = now.part << bits | (hash >> (64 - bits)) as u32;
        if let Some(slot) = CACHE.get_ptr_mut(at) {
            // SAFETY: a valid pointer into the map, to a slot that only this CPU writes to (see above).
            let slot = unsafe { &mut *slot };
            if hit(slot, at, key, tail, volume) {
                pressure.relieve();
                return Outcome::Known;
            }
            cold_path();
            if let Some(other) = CACHE.get_ptr_mut(at ^ 1) {
                // SAFETY: likewise.
                let other = unsafe { &mut *other };
                if hit(other, at ^ 1, key, tail, volume) {
                    pressure.relieve();
                    return Outcome::Known;
                }
                if slot.generation() != generation {
                    mine = slot;
                } else if other.generation() != generation {
                    mine = other;
                    at ^= 1;
                } else {
                    pressure.press();
                    if slot.strike() {
                        mine = slot;
                    }
                }
            }
        }
    }
    let rejected = verdict.unwrap_or_else(|| cidr::rejects(generation, key));
    totals::count(now, *place, &volume.passed(), rejected);
    if known {
        return Outcome::Known;
    }
    let estimated = if volume.estimated { u64::from(volume.packets) } else { 0 };
    let extra = Extra { estimated, cookie: cookie() };
    let first = stored(volume);
    // To the table even if it gets a slot, so that the slot's counts find room there later.
    let outcome = if rejected {
        Outcome::Known
    } else {
        tables::put(generation, FlowKey::of_words(key), &first, &extra)
    };
    // SAFETY: as above.
    let (Some(slot), Some(aside)) = (unsafe { mine.as_mut() }, aside(at)) else { return outcome };
    if outcome == Outcome::Refused {
        return outcome;
    }
    if slot.generation() == generation && slot.packets() != 0 {
        functions::wherefore_total(slot, aside, u64::from(now.part));
        functions::wherefore_evict(slot, aside);
    }
    *slot = Slot::new(key, tail, first.first_tick);
    *aside = Aside {
        first_tick: first.first_tick,
        flags: if rejected { REJECTED } else { 0 },
        ..Aside::default()
    };
    outcome
}

/// Writes what a slot of this CPU's `part` counted to the totals.
#[inline(always)]
pub fn total(slot: &Slot, aside: &Aside, part: u32) {
    let key = slot.key();
    let FlowKey { ifindex, direction, .. } = *FlowKey::of_words(&key);
    let place = Place { ifindex, direction: Direction::from_u8(direction) };
    let passed = Passed {
        packets: u64::from(slot.packets()),
        wire_bytes: slot.wire_bytes,
        more_packets: u64::from(aside.more_packets),
        more_bytes: aside.more_bytes,
    };
    totals::count(Now { generation: slot.generation(), part }, place, &passed, aside.flags & REJECTED != 0);
}

/// Writes it to the table, unless a filter rejects the flow.
#[inline(always)]
pub fn evict(slot: &Slot, aside: &Aside) {
    if aside.flags & REJECTED == 0 {
        let key = slot.key();
        tables::put(slot.generation(), FlowKey::of_words(&key), &slot.stored(aside), &aside.extra());
    }
}

/// The rest of a slot.
#[inline(always)]
fn aside(at: u32) -> Option<&'static mut Aside> {
    // SAFETY: a valid pointer into the map, to a place that only this CPU writes to (see above).
    ASIDE.get_ptr_mut(at).map(|aside| unsafe { &mut *aside })
}

/// This CPU's.
#[inline(always)]
fn pressure(now: Now) -> &'static mut Pressure {
    let cpu = now.part >> 1;
    // SAFETY: within the array. Only this CPU writes there, or another one whose numbers are as good.
    unsafe { &mut *(&raw mut PRESSURE).cast::<Pressure>().add((cpu & (PRESSURES - 1)) as usize) }
}

/// What a packet adds to the table.
#[inline(always)]
fn stored(volume: &Volume) -> Stored {
    let tick = ticks() as u32;
    Stored {
        packets: u64::from(volume.packets),
        wire_bytes: u64::from(volume.wire_bytes),
        beyond_link: beyond_link(volume),
        last_tick: tick,
        first_tick: tick,
    }
}

/// Adds a packet to the slot at `at` if that is its flow's.
#[inline(always)]
fn hit(slot: &mut Slot, at: u32, key: &[u64; 6], tail: u64, volume: &Volume) -> bool {
    // A slot that is full is as good as another flow's: it is struck until it gives way.
    if !same(&slot.head, key, tail) || slot.packets() >= FULL {
        return false;
    }
    slot.add_packets(volume.packets);
    slot.last_tick = ticks() as u32;
    slot.wire_bytes += u64::from(volume.wire_bytes);
    let beyond = beyond_link(volume);
    let Passed { more_packets, more_bytes, .. } = volume.passed();
    if (beyond | more_packets | more_bytes != 0 || volume.estimated)
        && let Some(aside) = aside(at)
    {
        cold_path();
        aside.beyond_link = aside.beyond_link.wrapping_add(beyond);
        aside.more_bytes = aside.more_bytes.wrapping_add(more_bytes);
        aside.more_packets = aside.more_packets.wrapping_add(more_packets as u32);
        if volume.estimated {
            aside.estimated += volume.packets;
        }
    }
    true
}

/// Bytes between wire and IP bytes, beyond those of Ethernet headers.
#[inline(always)]
fn beyond_link(volume: &Volume) -> u64 {
    let ordinary = u64::from(volume.ip_bytes) + u64::from(volume.packets) * u64::from(LINK);
    u64::from(volume.wire_bytes).wrapping_sub(ordinary)
}

/// Whether the head is that of a key with this [`tail`], without a branch a word.
#[inline(always)]
fn same(a: &[u64; 6], b: &[u64; 6], tail: u64) -> bool {
    (a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) | (a[4] ^ b[4]) | (a[5] ^ tail) == 0
}
