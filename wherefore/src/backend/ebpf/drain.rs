//! What a set of tables holds once nobody counts in it any more: flows from the table and from every CPU's
//! cache, put together.

use std::{
    collections::{BTreeMap, HashMap},
    mem::{self, offset_of},
};

use wherefore_common::{
    Amount, Extra, FlowCounters, FlowKey, Reason, Stored, Totals, UnaccountedKey,
    cache::{Aside, REJECTED, Slot},
    sketch,
    tables::{OtherKind, TOTALS_SLOTS, part},
};

use super::{clock::Reading, load::Tables, mapped::Mapped};
use crate::{backend::merged::LARGEST, lost::Lost, snapshot::Passed};

/// Something of few flows, by key.
type Few<T> = HashMap<FlowKey, T, foldhash::fast::RandomState>;

/// The high half of the last word of [`Slot::head`], on a little-endian machine.
const GENERATION_IN_SLOT: usize = offset_of!(Slot, head) + 5 * size_of::<u64>() + size_of::<u32>();

/// What one set held.
#[derive(Default)]
pub struct Taken {
    /// Flows of the table, each key once.
    pub flows: Vec<(FlowKey, FlowCounters)>,
    /// What the caches hold of flows that were not met in the table yet.
    cached: Few<FlowCounters>,
    /// Packets without a flow.
    pub unaccounted: BTreeMap<UnaccountedKey, Amount>,
    /// All that passed.
    pub passed: BTreeMap<(u32, u8), Passed>,
    /// The flows that found no room.
    pub lost: Lost,
    /// What few flows have besides.
    pub extras: Few<Extra>,
    /// Of the times in the tables.
    clock: Reading,
}

impl Taken {
    /// What the caches, the totals and the registers of a generation hold. They stay as they are, so that after
    /// an error they can be read again.
    pub fn from_memory(tables: &Tables, generation: u32, clock: Reading) -> Self {
        let mut taken = Self { clock, ..Self::default() };
        for cpu in 0..tables.cpus {
            taken.read_cache(tables, part(cpu, generation), generation);
            taken.read_totals(&tables.totals, part(cpu, generation), generation);
        }
        let first = (generation & 1) * sketch::REGISTERS as u32;
        for register in 0..sketch::REGISTERS as u32 {
            taken.lost.raise(register, tables.lost.get(first + register) as u8);
        }
        taken
    }

    fn read_cache(&mut self, tables: &Tables, part: u32, generation: u32) {
        let Tables { cache, cache_bits: bits, .. } = tables;
        if *bits == 0 {
            return;
        }
        for index in part << bits..(part + 1) << bits {
            if cache.number(index, GENERATION_IN_SLOT) != generation {
                continue;
            }
            let (slot, aside) = (cache.get(index), tables.aside.get(index));
            if slot.packets() == 0 {
                continue;
            }
            let key = FlowKey::from_words(slot.key());
            let counters = self.counters(&slot.stored(&aside), aside.extra());
            // The totals have what is in no slot.
            let Aside { more_packets, more_bytes: wire_bytes, .. } = aside;
            let more = Amount { packets: u64::from(more_packets), wire_bytes };
            self.pass((key.ifindex, key.direction), counters.amount(), more);
            if aside.flags & REJECTED != 0 {
                let key = key.unaccounted(Reason::Filtered, 0);
                self.unaccounted.entry(key).or_default().add(&counters.amount());
                continue;
            }
            self.cached.entry(key).or_default().add(&counters);
        }
    }

    fn read_totals(&mut self, totals: &Mapped<Totals>, part: u32, generation: u32) {
        let first = part * TOTALS_SLOTS;
        for slot in 0..TOTALS_SLOTS {
            if first + slot >= totals.len() {
                return;
            }
            let counts = totals.get(first + slot);
            if counts.generation != generation {
                continue;
            }
            // The lowest bit of a slot's number is the direction.
            let direction = (slot & 1) as u8;
            let Totals { packets, wire_bytes, more_packets, more_bytes, .. } = counts;
            let more = Amount { packets: more_packets, wire_bytes: more_bytes };
            self.pass((counts.ifindex, direction), Amount { packets, wire_bytes }, more);
            if counts.rejected_packets > 0 {
                let key = UnaccountedKey::new(counts.ifindex, direction, Reason::Filtered as u8);
                let amount = Amount { packets: counts.rejected_packets, wire_bytes: counts.rejected_bytes };
                self.unaccounted.entry(key).or_default().add(&amount);
            }
        }
    }

    /// Counters with times of `CLOCK_MONOTONIC`.
    fn counters(&self, stored: &Stored, extra: Extra) -> FlowCounters {
        FlowCounters {
            packets: stored.packets,
            wire_bytes: stored.wire_bytes,
            ip_bytes: stored.ip_bytes(),
            first_ns: self.clock.nanoseconds(stored.first_tick),
            last_ns: self.clock.nanoseconds(stored.last_tick),
            estimated: extra.estimated,
            cookie: extra.cookie,
        }
    }

    /// Takes a flow of the table, with what the caches and `extras` have of it.
    pub fn add_flow(&mut self, key: FlowKey, stored: &Stored) {
        let extra = if self.extras.is_empty() { None } else { self.extras.remove(&key) };
        let mut counters = self.counters(stored, extra.unwrap_or_default());
        if let Some(more) = self.cached.remove(&key) {
            counters.add(&more);
        }
        self.push(key, counters);
    }

    fn push(&mut self, key: FlowKey, counters: FlowCounters) {
        let FlowCounters { estimated: packets, wire_bytes, .. } = counters;
        if packets > 0 {
            let wire_bytes = wire_bytes.min(packets.saturating_mul(LARGEST));
            let place = (key.ifindex, key.direction);
            self.passed.entry(place).or_default().estimated.add(&Amount { packets, wire_bytes });
        }
        self.flows.push((key, counters));
    }

    /// Takes an entry of the table of packets without a flow.
    pub fn add_unaccounted(&mut self, key: UnaccountedKey, amount: Amount) {
        let place = (key.ifindex, key.direction);
        if key.reason == OtherKind::Seen as u8 {
            self.passed.entry(place).or_default().seen.add(&amount);
        } else if key.reason == OtherKind::Total as u8 {
            self.passed.entry(place).or_default().all.add(&amount);
        } else {
            self.unaccounted.entry(key).or_default().add(&amount);
        }
    }

    /// Adds what passed; `more` is what the wire carried beyond what was handed over.
    fn pass(&mut self, place: (u32, u8), all: Amount, more: Amount) {
        let seen = Amount {
            packets: all.packets.wrapping_sub(more.packets),
            wire_bytes: all.wire_bytes.wrapping_sub(more.wire_bytes),
        };
        self.passed.entry(place).or_default().add(&Passed { seen, all, ..Passed::default() });
    }

    /// When everything is taken: adds what the caches hold of flows that are not in the table. There are none, but what
    /// was counted must not be lost.
    pub fn finish(&mut self) {
        for (key, counters) in mem::take(&mut self.cached) {
            self.push(key, counters);
        }
    }
}
