//! The tables: two sets of each, chosen by one generation word.
//!
//! A packet reads the word once and keeps to that set. User space writes the word, waits until no
//! program can still be using the other set, and then empties it at leisure.

use core::arch::asm;

use aya_ebpf::{
    Global,
    bindings::BPF_NOEXIST,
    btf_maps::{Array, ArrayOfMaps, HashMap, PerCpuArray},
    helpers::{bpf_ktime_get_ns, generated::bpf_ktime_get_coarse_ns},
    macros::btf_map,
};
use wherefore_common::{
    Amount, FlowCounters, FlowKey, Reason, UnaccountedKey,
    tables::{FALLBACK_SLOTS, UNACCOUNTED_ENTRIES, fallback_slot},
};

/// 0 or 1: the set that counts.
#[btf_map]
static GENERATION: Array<u32, 1> = Array::new();

/// The flow tables. The inner maps are made by user space in the size asked for: the one described
/// here only gives key and value (a kernel before 5.10 would want equal sizes).
#[btf_map]
static FLOWS: ArrayOfMaps<HashMap<FlowKey, FlowCounters, 1>, 2> = ArrayOfMaps::new();

/// Packets without a flow.
#[btf_map]
static UNACCOUNTED: ArrayOfMaps<HashMap<UnaccountedKey, Amount, UNACCOUNTED_ENTRIES>, 2> = ArrayOfMaps::new();

/// Where packets without a flow go when [`UNACCOUNTED`] takes no more: by set, direction and reason.
#[btf_map]
static FALLBACK: PerCpuArray<Amount, FALLBACK_SLOTS> = PerCpuArray::new();

/// 1 where the kernel has `bpf_ktime_get_coarse_ns` (5.11): a clock read once per tick, for a tenth of
/// the price.
#[unsafe(no_mangle)]
static COARSE_CLOCK: Global<u8> = Global::new(0);

/// The set that counts at this moment.
#[inline(always)]
pub fn generation() -> u32 {
    // A word below 2 is all that user space writes; the mask tells the verifier.
    GENERATION.get(0).map_or(0, |word| {
        // SAFETY: a valid pointer into the map; volatile because user space writes at any time.
        unsafe { core::ptr::read_volatile(word) & 1 }
    })
}

/// `CLOCK_MONOTONIC`, or its coarse sister.
#[inline(always)]
fn now() -> u64 {
    if COARSE_CLOCK.load() == 0 {
        // SAFETY: a helper without arguments.
        unsafe { bpf_ktime_get_ns() }
    } else {
        // SAFETY: a helper without arguments.
        unsafe { bpf_ktime_get_coarse_ns() }
    }
}

/// Adds atomically: several CPUs count into one flow. `core`'s atomics have no such operation on this
/// target.
#[inline(always)]
fn add(counter: *mut u64, value: u64) {
    // SAFETY: `counter` points to an aligned u64 in a map's value.
    unsafe { asm!("lock *(u64 *)({p} + 0) += {v}", p = in(reg) counter, v = in(reg) value) };
}

#[inline(always)]
fn add_flow(counters: *mut FlowCounters, packets: u64, wire_bytes: u64, ip_bytes: u64, now: u64) {
    // SAFETY: the pointer comes from a lookup in the table of these values.
    unsafe {
        add(&raw mut (*counters).packets, packets);
        add(&raw mut (*counters).wire_bytes, wire_bytes);
        add(&raw mut (*counters).ip_bytes, ip_bytes);
        // Not atomic: of two CPUs' times, both within this packet's moment, either will do.
        (*counters).last_ns = now;
    }
}

/// What a packet adds to its counters.
#[derive(Clone, Copy)]
pub struct Volume {
    pub packets: u32,
    pub wire_bytes: u32,
    pub ip_bytes: u32,
}

/// Counts a packet in its flow. `Ok(true)`: the flow is new in this set.
///
/// # Errors
/// Why the table does not take it.
#[inline(always)]
pub fn count_flow(generation: u32, key: &FlowKey, volume: &Volume) -> Result<bool, Reason> {
    let Some(flows) = FLOWS.get(generation) else { return Err(Reason::TableBusy) };
    let (packets, wire_bytes, ip_bytes) =
        (u64::from(volume.packets), u64::from(volume.wire_bytes), u64::from(volume.ip_bytes));
    let now = now();
    if let Some(counters) = flows.get_ptr_mut(key) {
        add_flow(counters, packets, wire_bytes, ip_bytes, now);
        return Ok(false);
    }
    let new = FlowCounters { packets, wire_bytes, ip_bytes, first_ns: now, last_ns: now };
    match flows.insert(key, &new, u64::from(BPF_NOEXIST)) {
        Ok(()) => Ok(true),
        Err(EEXIST) => match flows.get_ptr_mut(key) {
            // Another CPU inserted it between the lookup and the insert.
            Some(counters) => {
                add_flow(counters, packets, wire_bytes, ip_bytes, now);
                Ok(false)
            }
            None => Err(Reason::TableBusy),
        },
        Err(E2BIG) => Err(Reason::TableFull),
        Err(_) => Err(Reason::TableBusy),
    }
}

/// Counts a packet without a flow; finds a place for it whatever happens.
#[inline(always)]
pub fn count_unaccounted(generation: u32, key: &UnaccountedKey, packets: u32, wire_bytes: u32) {
    let (packets, wire_bytes) = (u64::from(packets), u64::from(wire_bytes));
    if let Some(table) = UNACCOUNTED.get(generation) {
        if let Some(amount) = table.get_ptr_mut(key) {
            return add_amount(amount, packets, wire_bytes);
        }
        match table.insert(key, &Amount { packets, wire_bytes }, u64::from(BPF_NOEXIST)) {
            Ok(()) => return,
            Err(EEXIST) => {
                if let Some(amount) = table.get_ptr_mut(key) {
                    return add_amount(amount, packets, wire_bytes);
                }
            }
            Err(_) => {}
        }
    }
    if let Some(amount) = FALLBACK.get_ptr_mut(fallback_slot(generation, key.direction, key.reason)) {
        add_amount(amount, packets, wire_bytes);
    }
}

#[inline(always)]
fn add_amount(amount: *mut Amount, packets: u64, wire_bytes: u64) {
    // SAFETY: the pointer comes from a lookup in a table of these values.
    unsafe {
        add(&raw mut (*amount).packets, packets);
        add(&raw mut (*amount).wire_bytes, wire_bytes);
    }
}

const EEXIST: i32 = -17;
const E2BIG: i32 = -7;
