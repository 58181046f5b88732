//! Ending an interval: the other set of tables counts from now on, the old one is emptied.
//!
//! The order is what makes it exact. The generation word is written; packets from then on go to the
//! other set. Programs that had read the word before may still be counting, so the kernel is made to
//! wait for them: an update of a map of maps returns only after every program that ran before it has
//! ended (`synchronize_rcu` in `maybe_wait_bpf_programs`; 8 to 28 ms). Then nobody uses the old set, and
//! it is emptied. The next interval cannot end before that, so the set it will use is empty.

use std::{collections::BTreeMap, time::Duration};

use aya::{
    maps::{MapData, MapError, PerCpuValues},
    util::nr_cpus,
};
use nix::time::{ClockId, clock_gettime};
use wherefore_common::{Amount, FlowCounters, FlowKey, Reason, UnaccountedKey, tables::fallback_slot};

use super::{Error, Tables, batch, permission::explain};
use crate::{
    snapshot::{Flow, Snapshot},
    time::Timestamp,
};

/// The tables, and which of the two sets counts.
pub struct Counting {
    tables: Tables,
    generation: u32,
    names: BTreeMap<u32, String>,
    /// When the interval that counts now began.
    began: Moment,
    /// No interval has ended yet.
    first: bool,
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
    set: u32,
    began: Moment,
    end: Moment,
    quiet: bool,
    flows: Vec<(FlowKey, FlowCounters)>,
    unaccounted: BTreeMap<UnaccountedKey, Amount>,
}

impl Counting {
    /// Starts counting into the first set.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn new(mut tables: Tables, names: BTreeMap<u32, String>) -> Result<Self, Error> {
        tables.generation.set(0, 0, 0).map_err(|error| explain("choose a set of tables", &error))?;
        Ok(Self { tables, generation: 0, names, began: Moment::now()?, first: true, ended: None })
    }

    /// Lets the first interval begin now: loading and attaching are over.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn begin(&mut self) -> Result<(), Error> {
        self.began = Moment::now()?;
        Ok(())
    }

    /// Ends the interval and hands it over.
    ///
    /// # Errors
    /// [`Error::System`]; what was taken out of the kernel until then comes with the next call, and its
    /// interval is then the longer one.
    pub fn poll(&mut self) -> Result<Snapshot, Error> {
        let mut ended = match self.ended.take() {
            Some(ended) => ended,
            None => self.end()?,
        };
        let result = self.empty(&mut ended);
        if let Err(error) = result {
            self.ended = Some(ended);
            return Err(error);
        }
        let complete = !std::mem::replace(&mut self.first, false);
        Ok(self.snapshot(ended, complete))
    }

    /// Lets the other set count.
    fn end(&mut self) -> Result<Ended, Error> {
        let next = self.generation ^ 1;
        self.tables
            .generation
            .set(0, next, 0)
            .map_err(|error| explain("change the set of tables", &error))?;
        let set = std::mem::replace(&mut self.generation, next);
        let end = Moment::now()?;
        let began = std::mem::replace(&mut self.began, end);
        Ok(Ended { set, began, end, quiet: false, flows: Vec::new(), unaccounted: BTreeMap::new() })
    }

    /// Waits until nobody uses the set any more, and empties it.
    fn empty(&mut self, ended: &mut Ended) -> Result<(), Error> {
        let Tables { flow_sets, flows, unaccounted, fallback, .. } = &mut self.tables;
        let [flows, unaccounted] = [&*flows, &*unaccounted].map(|sets| &sets[(ended.set & 1) as usize]);
        if !ended.quiet {
            flow_sets
                .set(ended.set, flows.fd(), 0)
                .map_err(|error| explain("wait for the kernel programs", &error))?;
            ended.quiet = true;
        }
        let failed = |error: std::io::Error| explain("read the kernel's tables", &error);
        let taken = &mut ended.flows;
        batch::drain(flows, |key, counters| taken.push((key, counters))).map_err(failed)?;
        let taken = &mut ended.unaccounted;
        batch::drain(unaccounted, |key, amount: Amount| {
            taken.entry(key).or_default().add(&amount);
        })
        .map_err(failed)?;
        empty_fallback(fallback, ended.set, taken)
            .map_err(|error| explain("read the kernel's fallback counters", &error))
    }

    fn snapshot(&self, ended: Ended, complete: bool) -> Snapshot {
        let Ended { began, end, .. } = ended;
        let length = Duration::from_nanos(end.monotonic.saturating_sub(began.monotonic));
        // Where the last interval ended, so that they join; a wall clock that was set back meanwhile must not
        // end an interval before its start.
        let start = began.wall.min(end.wall);
        // The coarse clock is up to a tick late, so a first packet can seem to come before its interval.
        let epoch = |nanoseconds: u64| {
            let before_end = end.monotonic.saturating_sub(nanoseconds);
            end.wall.0.saturating_sub(before_end).max(start.0)
        };
        let flows = ended
            .flows
            .into_iter()
            .map(|(key, counters)| Flow {
                key,
                counters: FlowCounters {
                    first_ns: epoch(counters.first_ns),
                    last_ns: epoch(counters.last_ns),
                    ..counters
                },
                own: false,
            })
            .collect();
        let mut interfaces = self.names.clone();
        if ended.unaccounted.keys().any(|key| key.ifindex == 0) {
            interfaces.insert(0, "(any)".into());
        }
        Snapshot {
            start,
            end: end.wall,
            length,
            skipped: 0,
            complete,
            interfaces,
            flows,
            unaccounted: ended.unaccounted,
            late: Amount::default(),
            dropped: 0,
        }
    }
}

/// Adds one set's fallback counters to `taken` and sets them back. Each is read and cleared before the
/// next, so that after an error none is counted twice.
fn empty_fallback(
    fallback: &mut aya::maps::PerCpuArray<MapData, Amount>,
    set: u32,
    taken: &mut BTreeMap<UnaccountedKey, Amount>,
) -> Result<(), MapError> {
    for direction in 0..2 {
        for reason in Reason::ALL {
            let slot = fallback_slot(set, direction, reason as u8);
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
            let key = UnaccountedKey { ifindex: 0, direction, reason: reason as u8, proto: 0, pad: 0 };
            taken.entry(key).or_default().add(&sum);
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
