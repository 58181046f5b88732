//! The flow table in user space, for the backends that see every packet themselves.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, Hasher as _},
    mem,
};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use wherefore_common::{Amount, Direction, FlowCounters, FlowKey, Reason, UnaccountedKey, parse::Parsed};

use super::link;
use crate::{
    lost::Lost,
    snapshot::{Flow, Passed},
    time::Timestamp,
};

/// One captured packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// `LINKTYPE_` or `DLT_` number of the framing ([`link::parse`]).
    pub linktype: i32,
    /// Number of the interface it was seen on.
    pub ifindex: u32,
    /// Which way it crossed that interface.
    pub direction: Direction,
    /// When.
    pub time: Timestamp,
    /// What was captured of it, from its link header on.
    pub frame: &'a [u8],
    /// Its length on the wire in bytes, which may be more than was captured.
    pub wire_len: u32,
    /// Largest IP packet in bytes that crosses the interface as one frame, where that is known (or, of a capture file,
    /// taken for known): a larger one was merged by offload, and how many frames it stands for is not known.
    pub mtu: Option<u32>,
}

impl Packet<'_> {
    /// Whether offload has merged several frames into it, as far as the MTU tells; `ip_bytes` are its own.
    fn is_merged(&self, ip_bytes: u32) -> bool {
        self.mtu.is_some_and(|mtu| ip_bytes > mtu)
    }

    /// Length in bytes of the first frame that offload has merged into it; `None` where it is no merged one, as far as
    /// the MTU tells. It is taken for a full frame, as that of a stream is: how long it was is not known.
    fn first_merged_len(&self) -> Option<u32> {
        // Asked of many, so the short way first: a frame is longer than its IP packet.
        let mtu = self.mtu.filter(|mtu| self.wire_len > *mtu)?;
        let parsed = link::parse(self.linktype, self.frame).ok()?;
        self.is_merged(parsed.ip_bytes(self.wire_len)).then(|| parsed.l3.saturating_add(mtu))
    }

    /// Length in bytes of the first frame that it is on the wire.
    #[must_use]
    pub fn first_frame_len(&self) -> u32 {
        self.first_merged_len().unwrap_or(self.wire_len)
    }
}

/// What was counted since the last [`Counter::take`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The flows, in no particular order; each key once.
    pub flows: Vec<Flow>,
    /// Packets without a flow.
    pub unaccounted: BTreeMap<UnaccountedKey, Amount>,
    /// All that passed by interface and direction: one packet is one frame here.
    pub passed: BTreeMap<(u32, u8), Passed>,
    /// Flows that found no room.
    pub lost: Lost,
}

/// All that passed by interface and direction. Packets of one interface tend to follow each other.
#[derive(Debug, Default)]
struct Sums {
    place: (u32, u8),
    amount: Amount,
    /// Of these, the merged ones.
    merged: Amount,
    /// Of the places before, and until the packets came back to them.
    others: BTreeMap<(u32, u8), Passed>,
}

impl Sums {
    #[inline]
    fn add(&mut self, place: (u32, u8), amount: &Amount, merged: &Amount) {
        if place != self.place {
            self.settle();
            self.place = place;
        }
        self.amount.add(amount);
        self.merged.add(merged);
    }

    #[cold]
    fn settle(&mut self) {
        let (amount, estimated) = (mem::take(&mut self.amount), mem::take(&mut self.merged));
        if amount.packets > 0 {
            let passed = Passed { seen: amount, all: amount, estimated };
            self.others.entry(self.place).or_default().add(&passed);
        }
    }

    fn take(&mut self) -> BTreeMap<(u32, u8), Passed> {
        self.settle();
        mem::take(&mut self.others)
    }
}

/// Packets that are looked up together ([`Counter::settle`]).
const BATCH: usize = 32;

/// A packet that was parsed, but is in no flow yet.
#[derive(Clone, Copy, Debug)]
struct Pending {
    key: FlowKey,
    counters: FlowCounters,
    hash: u64,
}

/// Where a flow is, and half of its hash: nearly always enough to tell it without looking at it.
#[derive(Clone, Copy, Debug)]
struct Slot {
    at: u32,
    hash: u32,
}

/// Counts packets by flow, and those without a flow by reason. Holds at most as many flows as it was made for:
/// when it is full, packets of further flows are counted as [`Reason::TableFull`] with their protocol, while
/// the flows already in it go on.
#[derive(Debug)]
pub struct Counter {
    /// In the order in which they were first seen.
    flows: Vec<Flow>,
    index: HashTable<Slot>,
    // Seeded per process: a sender cannot aim at one bucket.
    seed: RandomState,
    /// Fewer than [`BATCH`].
    pending: Vec<Pending>,
    unaccounted: BTreeMap<UnaccountedKey, Amount>,
    passed: Sums,
    lost: Lost,
    limit: u32,
}

impl Counter {
    /// A table for `table_size` flows; `None`: for as many as there are.
    #[must_use]
    pub fn new(table_size: Option<u32>) -> Self {
        Self {
            flows: Vec::new(),
            index: HashTable::new(),
            seed: RandomState::default(),
            pending: Vec::with_capacity(BATCH),
            unaccounted: BTreeMap::new(),
            passed: Sums::default(),
            lost: Lost::default(),
            limit: table_size.unwrap_or(u32::MAX),
        }
    }

    /// Counts one packet, in its flow or by the reason why it has none.
    #[inline]
    pub fn count(&mut self, packet: &Packet<'_>) {
        match link::parse(packet.linktype, packet.frame) {
            Ok(parsed) => {
                let (key, counters) = flow(packet, &parsed);
                let hash = hash(&self.seed, &key);
                self.pending.push(Pending { key, counters, hash });
                if self.pending.len() == BATCH {
                    self.settle();
                }
            }
            Err(reason) => self.turn_away(packet, reason, false),
        }
    }

    /// Counts one packet that is not wanted in any flow, for example a filtered one.
    pub fn count_without_flow(&mut self, packet: &Packet<'_>, reason: Reason) {
        self.turn_away(packet, reason, packet.first_merged_len().is_some());
    }

    /// True when nothing was counted since the last [`Counter::take`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty() && self.pending.is_empty() && self.unaccounted.is_empty()
    }

    /// Hands over what was counted and begins anew.
    pub fn take(&mut self) -> Counts {
        self.settle();
        self.index.clear();
        // Clearing costs by capacity, so one busy interval must not slow all later ones.
        // It is empty: nothing is hashed.
        self.index.shrink_to(self.flows.len().saturating_mul(2), |_| 0);
        let next = Vec::with_capacity(self.flows.len());
        Counts {
            flows: mem::replace(&mut self.flows, next),
            unaccounted: mem::take(&mut self.unaccounted),
            passed: self.passed.take(),
            lost: mem::take(&mut self.lost),
        }
    }

    /// Counts the packets at hand.
    ///
    /// A table beyond the processor's caches keeps it waiting at each flow. Therefore all flows of a batch are
    /// touched first, one right behind the other, so that it waits for several at once: a file of two million
    /// packets and 50,000 flows took 0.32 s of CPU and takes 0.19 s.
    fn settle(&mut self) {
        let mut places = [u32::MAX; BATCH];
        let mut touched = 0;
        // All that passed is summed here, by the batch: 3 ns a packet, 2 to 3 % of reading a file.
        let (mut passing, mut amount, mut merged) = (self.passed.place, Amount::default(), Amount::default());
        for (place, packet) in places.iter_mut().zip(&self.pending) {
            let here = (packet.key.ifindex, packet.key.direction);
            if here != passing {
                self.passed.add(passing, &mem::take(&mut amount), &mem::take(&mut merged));
                passing = here;
            }
            amount.packets += packet.counters.packets;
            amount.wire_bytes += packet.counters.wire_bytes;
            // 0 or 1.
            merged.packets += packet.counters.estimated;
            merged.wire_bytes += packet.counters.estimated * packet.counters.wire_bytes;
            let half = half(packet.hash);
            if let Some(slot) = self.index.find(packet.hash, |slot| slot.hash == half) {
                *place = slot.at;
                // A flow lies in two lines of the cache.
                if let Some(flow) = self.flows.get(slot.at as usize) {
                    touched ^= flow.counters.last_ns ^ u64::from(flow.key.src[15]);
                }
            }
        }
        std::hint::black_box(touched);
        self.passed.add(passing, &amount, &merged);
        let mut pending = mem::take(&mut self.pending);
        for (packet, place) in pending.drain(..).zip(places) {
            match self.flows.get_mut(place as usize) {
                Some(flow) if flow.key == packet.key => flow.counters.add(&packet.counters),
                _ => self.settle_one(&packet),
            }
        }
        self.pending = pending;
    }

    /// Counts a packet whose flow is new, or has half of its hash in common with another.
    #[cold]
    fn settle_one(&mut self, packet: &Pending) {
        let Self { flows, index, seed, unaccounted, lost, limit, .. } = self;
        let Pending { key, counters, hash } = *packet;
        if let Some(slot) = index.find(hash, |slot| flows[slot.at as usize].key == key) {
            flows[slot.at as usize].counters.add(&counters);
            return;
        }
        match u32::try_from(flows.len()) {
            Ok(at) if at < *limit => {
                let slot = Slot { at, hash: half(hash) };
                index.insert_unique(hash, slot, |slot| self::hash(seed, &flows[slot.at as usize].key));
                flows.push(Flow::new(key, counters));
            }
            _ => {
                lost.add(&key);
                let key = key.unaccounted(Reason::TableFull, key.proto);
                unaccounted.entry(key).or_default().add(&counters.amount());
            }
        }
    }

    fn turn_away(&mut self, packet: &Packet<'_>, reason: Reason, merged: bool) {
        let key = UnaccountedKey::new(packet.ifindex, packet.direction as u8, reason as u8);
        let amount = Amount { packets: 1, wire_bytes: u64::from(packet.wire_len) };
        let merged = if merged { amount } else { Amount::default() };
        self.passed.add((packet.ifindex, packet.direction as u8), &amount, &merged);
        self.unaccounted.entry(key).or_default().add(&amount);
    }
}

/// The flow of a packet, and what the packet adds to it.
#[inline]
fn flow(packet: &Packet<'_>, parsed: &Parsed) -> (FlowKey, FlowCounters) {
    let key = FlowKey {
        src: parsed.src,
        dst: parsed.dst,
        ifindex: packet.ifindex,
        sport: parsed.sport,
        dport: parsed.dport,
        proto: parsed.proto,
        family: parsed.family,
        direction: packet.direction as u8,
        pad: [0; 5],
    };
    let ip_bytes = parsed.ip_bytes(packet.wire_len);
    let one = FlowCounters {
        packets: 1,
        wire_bytes: u64::from(packet.wire_len),
        ip_bytes: u64::from(ip_bytes),
        first_ns: packet.time.0,
        last_ns: packet.time.0,
        estimated: u64::from(packet.is_merged(ip_bytes)),
        ..FlowCounters::default()
    };
    (key, one)
}

/// The key hashed as six words: field by field it takes twice the time.
#[inline]
fn hash(seed: &RandomState, key: &FlowKey) -> u64 {
    let mut hasher = seed.build_hasher();
    for word in key.words() {
        hasher.write_u64(word);
    }
    hasher.finish()
}

/// The half of a hash that the table's own search does not begin with.
const fn half(hash: u64) -> u32 {
    (hash >> 32) as u32
}

#[cfg(test)]
mod tests;
