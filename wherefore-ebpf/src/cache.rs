//! The write-combining cache in front of the flow table ([`wherefore_common::cache`]).
//!
//! Only programs that run with bottom halves off may use it (TC and XDP): they cannot interrupt each other on
//! one CPU, so a slot needs no lock. On `PREEMPT_RT` they can, and there user space switches it off.

use aya_ebpf::{Global, btf_maps::Array, macros::btf_map};
use wherefore_common::{
    Extra, FlowKey, Stored, Totals,
    cache::{Aside, FULL, PRESSURE, PRESSURE_MOST, PROBE, REJECTED, RELIEF, Slot, hash, tail},
    counters::LINK,
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

/// The rest of each slot, at the same place.
#[btf_map]
static ASIDE: Array<Aside, 2, MMAPABLE> = Array::new();

/// Slots of a part, as a power of two; 0 where there is no cache.
#[unsafe(no_mangle)]
static CACHE_BITS: Global<u8> = Global::new(0);

/// Counts a packet in its flow, whose key comes as words. `totals` is the slot it was counted
/// in, or null; `cookie` is asked for where the flow is new here.
#[inline(always)]
pub fn count(
    generation: u32,
    key: &[u64; 6],
    volume: &Volume,
    totals: *mut Totals,
    cookie: impl FnOnce() -> u64,
) -> Outcome {
    let bits = u32::from(CACHE_BITS.load());
    let tail = tail(key, generation);
    // The slot that the flow may have, and its place.
    let mut mine: *mut Slot = core::ptr::null_mut();
    let mut place = 0;
    // SAFETY: a valid pointer into the map or null, to a slot that only this CPU writes to (see above).
    let mut totals = unsafe { totals.as_mut() };
    let mut verdict = None;
    if bits != 0 {
        if past(&totals) {
            // First, as none of these is in the table.
            let rejected = cidr::rejects(generation, key);
            if rejected && reject(&mut totals, volume) {
                return Outcome::Known;
            }
            if tables::add_known(generation, FlowKey::of_words(key), &stored(volume), volume.estimated) {
                return Outcome::Known;
            }
            verdict = Some(rejected);
        }
        place = part(cpu(), generation) << bits | (hash(key) >> (64 - bits)) as u32;
        if let Some(slot) = CACHE.get_ptr_mut(place) {
            // SAFETY: a valid pointer into the map, to a slot that only this CPU writes to (see above).
            let slot = unsafe { &mut *slot };
            if hit(slot, place, key, tail, volume) {
                relieve(&mut totals);
                return Outcome::Known;
            }
            if let Some(other) = CACHE.get_ptr_mut(place ^ 1) {
                // SAFETY: likewise.
                let other = unsafe { &mut *other };
                if hit(other, place ^ 1, key, tail, volume) {
                    relieve(&mut totals);
                    return Outcome::Known;
                }
                if slot.generation() != generation {
                    mine = slot;
                } else if other.generation() != generation {
                    mine = other;
                    place ^= 1;
                } else {
                    press(&mut totals);
                    if slot.strike() {
                        mine = slot;
                    }
                }
            }
        }
    }
    let estimated = if volume.estimated { u64::from(volume.packets) } else { 0 };
    let extra = Extra { estimated, cookie: cookie() };
    let rejected = verdict.unwrap_or_else(|| cidr::rejects(generation, key));
    let first = stored(volume);
    // To the table even if it gets a slot, so that the slot's counts find room there later.
    let outcome = if rejected && reject(&mut totals, volume) {
        Outcome::Known
    } else {
        tables::put(generation, FlowKey::of_words(key), &first, &extra, rejected)
    };
    // SAFETY: as above.
    let (Some(slot), Some(aside)) = (unsafe { mine.as_mut() }, aside(place)) else { return outcome };
    if outcome == Outcome::Refused {
        return outcome;
    }
    if slot.generation() == generation && slot.packets() != 0 {
        functions::wherefore_evict(slot, aside);
    }
    *slot = Slot::new(key, tail, first.first_tick);
    let flags = if rejected { REJECTED } else { 0 };
    aside.beyond_link = 0;
    aside.extra.estimated = 0;
    aside.extra.cookie = 0;
    aside.first_tick = first.first_tick;
    aside.flags = flags;
    outcome
}

/// Writes what a slot counted to the table.
#[inline(always)]
pub fn evict(slot: &Slot, aside: &Aside) {
    let rejected = aside.flags & REJECTED != 0;
    let key = slot.key();
    tables::put(slot.generation(), FlowKey::of_words(&key), &slot.stored(aside), &aside.extra, rejected);
}

/// The rest of a slot.
#[inline(always)]
fn aside(place: u32) -> Option<&'static mut Aside> {
    // SAFETY: a valid pointer into the map, to a place that only this CPU writes to (see above).
    ASIDE.get_ptr_mut(place).map(|aside| unsafe { &mut *aside })
}

/// Whether the packet asks the table first, because hardly one finds its flow in the cache.
#[inline(always)]
fn past(totals: &Option<&mut Totals>) -> bool {
    totals.as_ref().is_some_and(|totals| totals.pressure > PRESSURE && totals.seen_packets % PROBE != 0)
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

/// Counts a packet that the CIDR filter rejects in the totals; false: it is in none.
#[inline(always)]
fn reject(totals: &mut Option<&mut Totals>, volume: &Volume) -> bool {
    let Some(totals) = totals else { return false };
    totals.reject(u64::from(volume.packets), u64::from(volume.wire_bytes));
    true
}

#[inline(always)]
fn relieve(totals: &mut Option<&mut Totals>) {
    if let Some(totals) = totals
        && totals.pressure != 0
    {
        totals.pressure = totals.pressure.saturating_sub(RELIEF);
    }
}

#[inline(always)]
fn press(totals: &mut Option<&mut Totals>) {
    if let Some(totals) = totals
        && totals.pressure < PRESSURE_MOST
    {
        totals.pressure += 1;
    }
}

/// Adds a packet to the slot at `place` if that is its flow's.
#[inline(always)]
fn hit(slot: &mut Slot, place: u32, key: &[u64; 6], tail: u64, volume: &Volume) -> bool {
    // A slot that is full is as good as another flow's: it is struck until it gives way.
    if !same(&slot.head, key, tail) || slot.packets() >= FULL {
        return false;
    }
    slot.add_packets(volume.packets);
    slot.last_tick = ticks() as u32;
    slot.wire_bytes += u64::from(volume.wire_bytes);
    let beyond = beyond_link(volume);
    if (beyond != 0 || volume.estimated)
        && let Some(aside) = aside(place)
    {
        aside.beyond_link = aside.beyond_link.wrapping_add(beyond);
        if volume.estimated {
            aside.extra.estimated += u64::from(volume.packets);
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
