//! The tables: two sets of each, chosen by one generation word.
//!
//! A packet reads the word once and keeps to that set. User space writes the word, waits until no
//! program can still be using the other set, and then empties it at leisure.

use core::arch::asm;

use crate::functions;
use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_NOEXIST},
    btf_maps::{Array, ArrayOfMaps, HashMap, PerCpuArray},
    helpers::{
        bpf_ktime_get_ns,
        generated::{bpf_get_smp_processor_id, bpf_jiffies64},
    },
    macros::btf_map,
};
use wherefore_common::{
    Amount, Extra, FlowKey, Reason, Stored, UnaccountedKey, sketch,
    tables::{FALLBACK_SLOTS, UNACCOUNTED_ENTRIES, fallback_slot, part},
};

/// The interval that counts, from 1; its lowest bit chooses the set. In a section of its own, which is a map of this
/// one value: a program reads that without a lookup.
#[unsafe(link_section = ".data.generation")]
#[unsafe(no_mangle)]
static mut GENERATION: u32 = 0;

/// The flow tables. The inner maps are made by user space in the size asked for: the one described
/// here only gives key and value (a kernel before 5.10 would want equal sizes).
#[btf_map]
static FLOWS: ArrayOfMaps<HashMap<FlowKey, Stored, 1>, 2> = ArrayOfMaps::new();

/// What few flows have besides. One entry where nobody asked for any of it.
#[btf_map]
static EXTRAS: ArrayOfMaps<HashMap<FlowKey, Extra, 1>, 2> = ArrayOfMaps::new();

/// Packets without a flow.
#[btf_map]
static UNACCOUNTED: ArrayOfMaps<HashMap<UnaccountedKey, Amount, UNACCOUNTED_ENTRIES>, 2> = ArrayOfMaps::new();

/// Where packets without a flow go when [`UNACCOUNTED`] takes no more: by set, direction and reason.
#[btf_map]
static FALLBACK: PerCpuArray<Amount, FALLBACK_SLOTS> = PerCpuArray::new();

/// Of the flows that found no room, for both sets: the registers of [`sketch`].
#[btf_map]
static LOST: Array<u64, { 2 * sketch::REGISTERS }, MMAPABLE> = Array::new();

/// Lets user space read and write the table as memory (Linux 5.5).
pub const MMAPABLE: usize = BPF_F_MMAPABLE as usize;

/// Ticks, and the time by `CLOCK_MONOTONIC` in nanoseconds, at one moment: written when user space asks.
#[btf_map]
static CLOCK: Array<[u64; 2], 1> = Array::new();

/// Where a packet is counted.
#[derive(Clone, Copy)]
pub struct Now {
    /// The interval.
    pub generation: u32,
    /// This CPU's part of the tables that have one for each.
    pub part: u32,
}

/// The place to count at this moment. To be asked for once a packet: all its counts then belong to one set.
#[inline(always)]
pub fn now() -> Now {
    // SAFETY: aligned; volatile because user space writes at any time.
    let generation = unsafe { core::ptr::read_volatile(&raw const GENERATION) };
    Now { generation, part: part(cpu(), generation) }
}

/// Ticks of the kernel's timer since it started: a load, where a clock is a call (15 ns, the coarse one too).
#[inline(always)]
pub fn ticks() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_jiffies64() }
}

/// Writes to [`CLOCK`].
#[inline(always)]
pub fn read_clock() {
    if let Some(clock) = CLOCK.get_ptr_mut(0) {
        // SAFETY: a valid pointer into the map; only user space's test run gets here.
        unsafe { *clock = [ticks(), bpf_ktime_get_ns()] }
    }
}

/// The CPU this runs on, from 0. With bottom halves off it stays the same.
#[inline(always)]
pub fn cpu() -> u32 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_get_smp_processor_id() }
}

/// Adds atomically: several CPUs count into one flow. `core`'s atomics have no such operation on this
/// target.
#[inline(always)]
fn add(counter: *mut u64, value: u64) {
    // SAFETY: `counter` points to an aligned u64 in a map's value.
    unsafe { asm!("lock *(u64 *)({p} + 0) += {v}", p = in(reg) counter, v = in(reg) value) };
}

/// Whether one tick comes before another, both within half a turn of their 32 bits.
#[inline(always)]
const fn before(one: u32, other: u32) -> bool {
    one.wrapping_sub(other).cast_signed() < 0
}

#[inline(always)]
fn add_flow(counters: *mut Stored, more: &Stored) {
    // SAFETY: the pointer comes from a lookup in the table of these values.
    unsafe {
        add(&raw mut (*counters).packets, more.packets);
        add(&raw mut (*counters).wire_bytes, more.wire_bytes);
        if more.beyond_link != 0 {
            add(&raw mut (*counters).beyond_link, more.beyond_link);
        }
        // Not atomic: of two CPUs' times, a moment apart, either will do.
        if before(more.first_tick, (*counters).first_tick) {
            (*counters).first_tick = more.first_tick;
        }
        if before((*counters).last_tick, more.last_tick) {
            (*counters).last_tick = more.last_tick;
        }
    }
}

/// Adds to a flow that is in the table; false where it is not.
#[inline(always)]
pub fn add_known(generation: u32, key: &FlowKey, more: &Stored, estimated: bool) -> bool {
    let Some(flows) = FLOWS.get(generation & 1) else { return false };
    let Some(counters) = flows.get_ptr_mut(key) else { return false };
    add_flow(counters, more);
    if estimated {
        functions::wherefore_extra(key, u64::from(generation), more.packets, 0);
    }
    true
}

/// Adds to a flow in the table. `Ok(true)`: the flow is new in this set.
///
/// # Errors
/// Why the table does not take it.
#[inline(always)]
pub fn count_flow(generation: u32, key: &FlowKey, more: &Stored) -> Result<bool, Reason> {
    let Some(flows) = FLOWS.get(generation & 1) else { return Err(Reason::TableBusy) };
    if let Some(counters) = flows.get_ptr_mut(key) {
        add_flow(counters, more);
        return Ok(false);
    }
    match flows.insert(key, more, u64::from(BPF_NOEXIST)) {
        Ok(()) => {
            functions::wherefore_note(key, u64::from(generation));
            Ok(true)
        }
        Err(EEXIST) => match flows.get_ptr_mut(key) {
            // Another CPU inserted it between the lookup and the insert.
            Some(counters) => {
                add_flow(counters, more);
                Ok(false)
            }
            None => Err(Reason::TableBusy),
        },
        Err(E2BIG) => Err(Reason::TableFull),
        Err(_) => Err(Reason::TableBusy),
    }
}

/// What became of a packet with a flow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The flow was known, or it is filtered.
    Known,
    /// The flow is new in the table.
    New,
    /// There was no room for it.
    Refused,
}

impl Outcome {
    /// The outcome as a number.
    #[inline(always)]
    pub const fn number(self) -> u64 {
        match self {
            Self::Known => 0,
            Self::New => 1,
            Self::Refused => 2,
        }
    }

    /// The outcome of a number given to [`crate::functions::wherefore_log`].
    #[inline(always)]
    pub const fn from_number(number: u64) -> Self {
        match number {
            0 => Self::Known,
            1 => Self::New,
            _ => Self::Refused,
        }
    }
}

/// Adds to a flow in the table, or by the reason why it is in none.
#[inline(always)]
pub fn put(generation: u32, key: &FlowKey, more: &Stored, extra: &Extra) -> Outcome {
    match count_flow(generation, key, more) {
        Ok(new) => {
            // Of a flow that is there already only what grows.
            if extra.estimated != 0 || (new && extra.cookie != 0) {
                functions::wherefore_extra(key, u64::from(generation), extra.estimated, extra.cookie);
            }
            if new { Outcome::New } else { Outcome::Known }
        }
        Err(reason) => {
            functions::wherefore_lost(key, u64::from(generation));
            let key = key.unaccounted(reason, key.proto);
            functions::wherefore_other(key.word(), u64::from(generation), more.packets, more.wire_bytes);
            Outcome::Refused
        }
    }
}

/// Remembers a key that found no room, for an estimate of how many there were.
#[inline(always)]
pub fn remember_lost(generation: u32, key: &FlowKey) {
    let (register, rank) = sketch::place(key);
    if let Some(greatest) = LOST.get_ptr_mut((generation & 1) * sketch::REGISTERS as u32 + register) {
        // SAFETY: a valid pointer into the map. Not atomic: of two CPUs at one register in one moment the
        // lesser rank may stay, which the estimate does not notice.
        unsafe {
            if *greatest < u64::from(rank) {
                *greatest = u64::from(rank);
            }
        }
    }
}

/// Adds what few flows have. Where the table is full it is lost: the counts are not here.
#[inline(always)]
pub fn add_extra(generation: u32, key: &FlowKey, more: &Extra) {
    let Some(extras) = EXTRAS.get(generation & 1) else { return };
    // The lookup comes again where another CPU inserts in between.
    for _ in 0..2 {
        if let Some(extra) = extras.get_ptr_mut(key) {
            // SAFETY: the pointer comes from a lookup in the table of these values.
            unsafe {
                add(&raw mut (*extra).estimated, more.estimated);
                if more.cookie != 0 {
                    (*extra).cookie = more.cookie;
                }
            }
            return;
        }
        if extras.insert(key, more, u64::from(BPF_NOEXIST)) != Err(EEXIST) {
            return;
        }
    }
}

/// Counts a packet without a flow; finds a place for it whatever happens.
#[inline(always)]
pub fn count_unaccounted(generation: u32, key: &UnaccountedKey, packets: u64, wire_bytes: u64) {
    if let Some(table) = UNACCOUNTED.get(generation & 1) {
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
