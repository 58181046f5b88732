//! All series of one level and metric, one interval after the other.

use std::hash::BuildHasher as _;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use serde::{Deserialize, Serialize};

use super::{Carried, Counters, Exact, Measured, Metric, Series, SeriesKey};

/// The bounds of a [`Store`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Most series.
    pub most: usize,
    /// A series without anything in this many intervals is forgotten.
    pub expire_after: u64,
    /// The last values are kept as they are, for a detector that judges by them.
    pub exact: bool,
}

/// The series of one level and metric.
///
/// When it is full, a new series replaces the lightest (see `Series::weight`) if it is heavier: a scan of the
/// whole address space replaces its own remains, not the talkers.
#[derive(Clone, Debug)]
pub struct Store<M> {
    bounds: Bounds,
    entries: Vec<Entry<M>>,
    /// Beside the entries where they are kept, else empty.
    exact: Vec<Exact>,
    /// What each entry carried in the newest interval.
    newest: Vec<f64>,
    /// By key, places in `entries`.
    index: HashTable<u32>,
    hasher: RandomState,
    counters: Counters,
    /// Series that gave way since they were last asked for, of those with a state.
    gone: Vec<SeriesKey>,
}

/// A series and its name.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Entry<M> {
    pub(crate) key: SeriesKey,
    pub(crate) series: Series<M>,
}

/// A series in the newest interval.
pub struct Newest<'a, M> {
    /// Its name.
    pub key: &'a SeriesKey,
    /// What is remembered of it, without the newest interval.
    pub series: &'a mut Series<M>,
    /// Its last values, where they are kept; likewise.
    pub exact: Option<&'a mut Exact>,
    /// What it carried, normalised to the interval asked for; 0 where it was silent.
    pub value: f64,
}

impl<M> Store<M> {
    /// An empty one.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            entries: Vec::new(),
            exact: Vec::new(),
            newest: Vec::new(),
            index: HashTable::new(),
            hasher: RandomState::default(),
            counters: Counters::default(),
            gone: Vec::new(),
        }
    }

    /// Begins an interval: gives each series what it carried, times `scale`, and new ones a place. The largest among
    /// newcomers, with fewer than `known` values so far, is handed back.
    pub fn observe<'a>(
        &mut self,
        measured: &'a Measured,
        metric: Metric,
        scale: f64,
        known: usize,
        start: impl Fn() -> M,
    ) -> Option<&'a Carried> {
        self.newest.clear();
        self.newest.resize(self.entries.len(), 0.0);
        let order = |a: &&Carried, b: &&Carried| {
            b.amount(metric).cmp(&a.amount(metric)).then_with(|| a.key.cmp(&b.key))
        };
        let mut newcomers: Vec<&Carried> = Vec::new();
        let mut largest: Option<&Carried> = None;
        for carried in measured.busiest(metric) {
            let place = self.find(&carried.key);
            if let Some(at) = place {
                self.newest[at] = carried.amount(metric) as f64 * scale;
                self.entries[at].series.seen(carried);
            } else {
                newcomers.push(carried);
            }
            let is_known = place.is_some_and(|at| self.entries[at].series.values() as usize >= known);
            if !is_known && largest.is_none_or(|largest| order(&carried, &largest).is_lt()) {
                largest = Some(carried);
            }
        }
        self.admit(newcomers, metric, scale, order, start);
        largest
    }

    /// The heaviest newcomers where there is room, the next ones in place of lighter series.
    fn admit(
        &mut self,
        mut newcomers: Vec<&Carried>,
        metric: Metric,
        scale: f64,
        order: impl Fn(&&Carried, &&Carried) -> std::cmp::Ordering,
        start: impl Fn() -> M,
    ) {
        let all = newcomers.len();
        // There are never more places than that, free or won.
        if all > self.bounds.most {
            if self.bounds.most > 0 {
                newcomers.select_nth_unstable_by(self.bounds.most - 1, &order);
            }
            newcomers.truncate(self.bounds.most);
        }
        newcomers.sort_unstable_by(&order);
        let free = self.bounds.most.saturating_sub(self.entries.len()).min(newcomers.len());
        let contenders = newcomers.split_off(free);
        let lightest = self.lightest(contenders.len());
        for carried in newcomers {
            self.insert(carried, metric, scale, start());
        }
        let weight = |carried: &Carried| carried.amount(metric) as f64 * scale;
        let wins =
            contenders.iter().zip(&lightest).take_while(|(carried, light)| light.0 < weight(carried)).count();
        for (carried, (_, key)) in contenders.into_iter().zip(&lightest).take(wins) {
            if let Some(at) = self.find(key) {
                self.remove(at);
            }
            self.insert(carried, metric, scale, start());
        }
        self.counters.replaced += wins as u64;
        self.counters.turned_away += (all - free - wins) as u64;
        self.counters.held = self.entries.len() as u64;
    }

    /// The series in the newest interval, in an order of no meaning that the same snapshots give again.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = Newest<'_, M>> {
        let mut exact = self.exact.iter_mut();
        self.entries.iter_mut().zip(&self.newest).map(move |(entry, value)| Newest {
            key: &entry.key,
            series: &mut entry.series,
            exact: exact.next(),
            value: *value,
        })
    }

    /// The series, as they are remembered, and what each carried in the newest interval.
    pub fn iter(&self) -> impl Iterator<Item = (&SeriesKey, &Series<M>, f64)> {
        self.entries.iter().zip(&self.newest).map(|(entry, value)| (&entry.key, &entry.series, *value))
    }

    /// One series.
    #[must_use]
    pub fn get(&self, key: &SeriesKey) -> Option<&Series<M>> {
        self.find(key).map(|at| &self.entries[at].series)
    }

    /// The last values of one series, where they are kept.
    #[must_use]
    pub fn exact(&self, key: &SeriesKey) -> Option<&Exact> {
        self.exact.get(self.find(key)?)
    }

    /// Adds `count` silent intervals to the last values, of which `cap` are kept, and forgets what was silent for too
    /// long.
    pub fn fall_silent(&mut self, count: u64, cap: usize) {
        if count == 0 {
            return;
        }
        for entry in &mut self.entries {
            entry.series.fall_silent(count);
        }
        for exact in &mut self.exact {
            exact.fall_silent(count, cap);
        }
        self.expire();
    }

    /// Ends an interval: forgets what was silent for too long.
    pub fn expire(&mut self) {
        let mut at = 0;
        while at < self.entries.len() {
            if u64::from(self.entries[at].series.idle()) >= self.bounds.expire_after {
                self.remove(at);
                self.counters.expired += 1;
            } else {
                at += 1;
            }
        }
        self.counters.held = self.entries.len() as u64;
    }

    /// Series with a state that are no more, since this was last asked.
    pub fn take_gone(&mut self) -> Vec<SeriesKey> {
        std::mem::take(&mut self.gone)
    }

    /// What is held, and what became of the rest.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// All of it, to be saved.
    pub(crate) fn save(&self) -> (Vec<Entry<M>>, Vec<Exact>)
    where
        M: Clone,
    {
        (self.entries.clone(), self.exact.clone())
    }

    /// What was saved, as far as there is room for it.
    pub(crate) fn load(&mut self, entries: Vec<Entry<M>>, mut exact: Vec<Exact>) {
        exact.resize(if self.bounds.exact { entries.len() } else { 0 }, Exact::default());
        let mut exact = exact.into_iter();
        for entry in entries.into_iter().take(self.bounds.most) {
            let kept = exact.next();
            if self.find(&entry.key).is_none() {
                self.put(entry, kept);
            }
        }
        self.newest.clear();
        self.newest.resize(self.entries.len(), 0.0);
        self.counters.held = self.entries.len() as u64;
    }

    fn find(&self, key: &SeriesKey) -> Option<usize> {
        let found = self.index.find(self.hasher.hash_one(key), |&at| self.entries[at as usize].key == *key);
        found.map(|&at| at as usize)
    }

    fn insert(&mut self, carried: &Carried, metric: Metric, scale: f64, memory: M) {
        let mut series = Series::new(memory);
        series.seen(carried);
        self.put(Entry { key: carried.key, series }, self.bounds.exact.then(Exact::default));
        self.newest.push(carried.amount(metric) as f64 * scale);
    }

    fn put(&mut self, entry: Entry<M>, exact: Option<Exact>) {
        let Self { entries, index, hasher, .. } = self;
        // Doubling would take twice the memory that is used.
        if entries.len() == entries.capacity() {
            entries.reserve_exact((entries.len() / 8).max(64));
        }
        let at = entries.len() as u32;
        index.insert_unique(hasher.hash_one(entry.key), at, |&at| hasher.hash_one(entries[at as usize].key));
        entries.push(entry);
        self.exact.extend(exact);
    }

    /// The last one takes its place.
    fn remove(&mut self, at: usize) {
        let Self { entries, index, hasher, .. } = self;
        let last = entries.len() - 1;
        if let Ok(found) = index.find_entry(hasher.hash_one(entries[at].key), |&found| found as usize == at) {
            found.remove();
        }
        if last != at
            && let Some(moved) =
                index.find_mut(hasher.hash_one(entries[last].key), |&found| found as usize == last)
        {
            *moved = at as u32;
        }
        let entry = self.entries.swap_remove(at);
        if entry.series.watched {
            self.gone.push(entry.key);
        }
        if at < self.newest.len() {
            self.newest.swap_remove(at);
        }
        if self.bounds.exact {
            self.exact.swap_remove(at);
        }
    }

    /// The `count` lightest series, the lightest first.
    fn lightest(&self, count: usize) -> Vec<(f64, SeriesKey)> {
        if count == 0 {
            return Vec::new();
        }
        let order = |a: &(f64, SeriesKey), b: &(f64, SeriesKey)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        let mut all: Vec<_> = self.iter().map(|(key, series, value)| (series.weight(value), *key)).collect();
        if count < all.len() {
            all.select_nth_unstable_by(count, order);
            all.truncate(count);
        }
        all.sort_unstable_by(order);
        all
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
