//! Ending an interval: the other set of tables counts from now on, the old one is emptied.
//!
//! The order is what makes it exact. The generation word is written; packets from then on go to the
//! other set. Programs that had read the word before may still be counting, so the kernel is made to
//! wait for them: an update of a map of maps returns only after every program that ran before it has
//! ended (`synchronize_rcu` in `maybe_wait_bpf_programs`; 8 to 28 ms). Then nobody uses the old set, and
//! it is emptied. The next interval cannot end before that, so the set it will use is empty.

use std::{collections::BTreeMap, time::Duration};

use aya::{
    Ebpf,
    maps::{MapData, MapError, PerCpuValues},
    util::nr_cpus,
};
use nix::time::{ClockId, clock_gettime};
use wherefore_common::{
    Amount, Extra, FlowCounters, FlowKey, Stored, UnaccountedKey,
    sketch::REGISTERS,
    tables::{FALLBACK_REASONS, fallback_slot},
};

use super::{
    Error, Tables, batch, by_key, clock::Reading, drain::Taken, mapped::Mapped, permission::explain,
};
use crate::{
    filter::CidrFilter,
    snapshot::{Flow, Snapshot},
    time::Timestamp,
};

/// Generations count from here, so that 0 in a slot means "never used".
const FIRST_GENERATION: u32 = 1;

/// The tables, and which of the two sets counts.
pub struct Counting {
    tables: Tables,
    generation: u32,
    /// When the interval that counts now began.
    began: Moment,
    /// [`Counting::begin`] was called.
    begun: bool,
    /// An interval that ended but was not handed over, because of an error on the way.
    ended: Option<Ended>,
}

/// A point in time by both clocks: lengths are measured by the one, dates told by the other.
#[derive(Clone, Copy)]
struct Moment {
    /// `CLOCK_MONOTONIC` in nanoseconds: the clock of the kernel programs.
    monotonic: u64,
    wall: Timestamp,
}

impl Moment {
    fn now() -> Result<Self, Error> {
        Ok(Self { monotonic: monotonic()?, wall: Timestamp::now() })
    }
}

/// An interval that ended, with what its set gave so far.
struct Ended {
    generation: u32,
    began: Moment,
    end: Moment,
    /// Of the times in the tables.
    clock: Reading,
    /// What the set holds, once nobody uses it any more.
    taken: Option<Taken>,
}

impl Counting {
    /// Starts counting into the first set.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn new(mut tables: Tables) -> Result<Self, Error> {
        tables
            .generation
            .set(0, FIRST_GENERATION, 0)
            .map_err(|error| explain("choose a set of tables", &error))?;
        Ok(Self { tables, generation: FIRST_GENERATION, began: Moment::now()?, begun: false, ended: None })
    }

    /// Lets the first interval begin now: loading and attaching are over.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn begin(&mut self) -> Result<(), Error> {
        self.began = Moment::now()?;
        self.begun = true;
        Ok(())
    }

    /// Ends the interval and hands it over, without the names of its interfaces.
    ///
    /// # Errors
    /// [`Error::System`]; what was taken out of the kernel until then comes with the next call, and its
    /// interval is then the longer one.
    pub fn poll(&mut self, ebpf: &Ebpf) -> Result<Snapshot, Error> {
        let mut ended = match self.ended.take() {
            Some(ended) => ended,
            None => self.end(ebpf)?,
        };
        if let Err(error) = self.empty(&mut ended) {
            self.ended = Some(ended);
            return Err(error);
        }
        Ok(snapshot(ended))
    }

    /// Filters by `filter` from the next interval on, and from the first on if that has not begun.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn filter(&mut self, filter: &CidrFilter) -> Result<(), Error> {
        self.tables.cidr.replace(filter);
        if self.begun { Ok(()) } else { self.tables.cidr.bring(self.generation & 1) }
    }

    /// Lets the other set count.
    fn end(&mut self, ebpf: &Ebpf) -> Result<Ended, Error> {
        // All that can fail comes before the generation changes.
        let clock = self.tables.clock.read(ebpf)?;
        let end = Moment::now()?;
        // 0 says of a slot that nothing was ever counted in it.
        let next = self.generation.checked_add(1).unwrap_or(FIRST_GENERATION + 1);
        self.tables.cidr.bring(next & 1)?;
        self.tables
            .generation
            .set(0, next, 0)
            .map_err(|error| explain("change the set of tables", &error))?;
        let generation = std::mem::replace(&mut self.generation, next);
        let began = std::mem::replace(&mut self.began, end);
        Ok(Ended { generation, began, end, clock, taken: None })
    }

    /// Waits until nobody uses the set any more, and empties it.
    fn empty(&mut self, ended: &mut Ended) -> Result<(), Error> {
        let set = ended.generation & 1;
        let [flows, unaccounted] =
            [&self.tables.flows, &self.tables.unaccounted].map(|sets| &sets[set as usize]);
        let taken = match &mut ended.taken {
            Some(taken) => taken,
            None => {
                self.tables
                    .flow_sets
                    .set(set, flows.fd(), 0)
                    .map_err(|error| explain("wait for the kernel programs", &error))?;
                ended.taken.insert(Taken::from_memory(&self.tables, ended.generation, ended.clock))
            }
        };
        let failed = |error: std::io::Error| explain("read the kernel's tables", &error);
        let extras = &self.tables.extras[set as usize];
        batch::drain(extras, |key: FlowKey, extra: Extra| {
            taken.extras.insert(key, extra);
        })
        .map_err(failed)?;
        let few = self.tables.journal.as_ref();
        let few = few.and_then(|journal| journal.keys(ended.generation));
        let mut add_flow = |key, stored: Stored| taken.add_flow(key, &stored);
        let all = match few {
            Some(keys) => by_key::take(flows, &keys, &mut add_flow).map_err(failed)?,
            None => false,
        };
        if !all {
            batch::drain(flows, add_flow).map_err(failed)?;
        }
        batch::drain(unaccounted, |key, amount| taken.add_unaccounted(key, amount)).map_err(failed)?;
        empty_fallback(&mut self.tables.fallback, set, taken)
            .map_err(|error| explain("read the kernel's fallback counters", &error))?;
        clear_lost(&mut self.tables.lost, set);
        self.tables.cidr.bring(set)?;
        taken.finish();
        Ok(())
    }
}

fn snapshot(ended: Ended) -> Snapshot {
    let Ended { began, end, taken, .. } = ended;
    let taken = taken.unwrap_or_default();
    let length = Duration::from_nanos(end.monotonic.saturating_sub(began.monotonic));
    // Where the last interval ended, so that they join; a wall clock that was set back meanwhile must not
    // end an interval before its start.
    let start = began.wall.min(end.wall);
    // A tick is up to its length late, so a first packet can seem to come before its interval.
    let epoch = |monotonic: u64| {
        let before_end = end.monotonic.saturating_sub(monotonic);
        end.wall.0.saturating_sub(before_end).max(start.0)
    };
    let flows = taken
        .flows
        .into_iter()
        .map(|(key, counters)| {
            let (first_ns, last_ns) = (epoch(counters.first_ns), epoch(counters.last_ns));
            Flow::new(key, FlowCounters { first_ns, last_ns, ..counters })
        })
        .collect();
    let mut interfaces = BTreeMap::new();
    if taken.unaccounted.keys().any(|key| key.ifindex == 0) {
        interfaces.insert(0, "(any)".into());
    }
    Snapshot {
        start,
        end: end.wall,
        length,
        complete: true,
        interfaces,
        flows,
        unaccounted: taken.unaccounted,
        passed: taken.passed,
        lost: taken.lost,
        ..Snapshot::default()
    }
}

/// Sets the registers of one set back, where any is set.
fn clear_lost(lost: &mut Mapped<u64>, set: u32) {
    let first = set * REGISTERS as u32;
    for register in first..first + REGISTERS as u32 {
        if lost.get(register) != 0 {
            lost.set(register, 0);
        }
    }
}

/// Adds one set's fallback counters to `taken` and sets them back. Each is read and cleared before the
/// next, so that after an error none is counted twice.
fn empty_fallback(
    fallback: &mut aya::maps::PerCpuArray<MapData, Amount>,
    set: u32,
    taken: &mut Taken,
) -> Result<(), MapError> {
    for direction in 0..2 {
        for reason in 0..FALLBACK_REASONS as u8 {
            let slot = fallback_slot(set, direction, reason);
            let mut sum = Amount::default();
            for amount in fallback.get(&slot, 0)?.iter() {
                sum.add(amount);
            }
            if sum.packets == 0 {
                continue;
            }
            let cpus = nr_cpus().map_err(|(_, error)| MapError::IoError(error))?;
            let zeros = PerCpuValues::try_from(vec![Amount::default(); cpus]).map_err(MapError::IoError)?;
            fallback.set(slot, zeros, 0)?;
            taken.add_unaccounted(UnaccountedKey::new(0, direction, reason), sum);
        }
    }
    Ok(())
}

/// `CLOCK_MONOTONIC` in nanoseconds: the clock of the kernel programs.
fn monotonic() -> Result<u64, Error> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_err(|error| Error::System { action: "read the clock".into(), reason: error.to_string() })?;
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    Ok(seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec()).unwrap_or(0)))
}
