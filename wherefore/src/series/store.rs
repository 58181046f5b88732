//! All series of one level and metric, one interval after the other.

use hashbrown::HashTable;
use serde::{Deserialize, Serialize};

use super::{Carried, Counters, Exact, Head, Measured, Metric, Role, Series, SeriesKey, measure::hash};

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
    /// Beside each other: of a lookup no more than the head is touched.
    heads: Vec<(SeriesKey, Head)>,
    series: Vec<Series<M>>,
    /// Where they are kept, else empty.
    exact: Vec<Exact>,
    /// What each carried in the newest interval.
    newest: Vec<f64>,
    /// By key, places in the others.
    index: HashTable<u32>,
    counters: Counters,
    /// Series that gave way since they were last asked for, of those with a state.
    gone: Vec<SeriesKey>,
}

/// A series and its name.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Entry<M> {
    key: SeriesKey,
    head: Head,
    series: Series<M>,
}

/// A series in the newest interval.
pub struct Newest<'a, M> {
    /// Its name.
    pub key: &'a SeriesKey,
    /// What is asked of it first; likewise without the newest interval.
    pub head: &'a mut Head,
    /// What is remembered of it, without the newest interval.
    pub series: &'a mut Series<M>,
    /// Its last values, where they are kept; likewise.
    pub exact: Option<&'a mut Exact>,
    /// What it carried, normalised to the interval asked for; 0 where it was silent.
    pub value: f64,
}

/// How an interval is taken in.
#[derive(Clone, Copy, Debug)]
pub struct Intake {
    /// What of it.
    pub metric: Metric,
    /// From its amounts to those of the interval asked for.
    pub scale: f64,
    /// Its number.
    pub now: u32,
    /// So many silent intervals end a visit.
    pub visit: u32,
}

/// A series of which little is known, in the newest interval.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer<'a> {
    /// What it carried.
    pub carried: &'a Carried,
    /// How much that is, normalised; or all that it carried so far.
    pub amount: f64,
    /// Values before this interval.
    pub values: u32,
    /// Intervals before this one since the visit began.
    pub visit: u32,
}

impl<'a> Newcomer<'a> {
    /// Takes the place of a smaller one; of equal ones the first key has it.
    fn or_larger(self, place: &mut Option<Self>) {
        let order = |a: &Self| (a.amount, std::cmp::Reverse(a.carried.key));
        if place.is_none_or(|held| order(&held) < order(&self)) {
            *place = Some(self);
        }
    }
}

/// The largest of those that carried anything in the newest interval.
#[derive(Clone, Copy, Debug, Default)]
pub struct Newcomers<'a> {
    /// By what they carried in it, of those that are new; by their [`Role`].
    pub largest: [Option<Newcomer<'a>>; Role::COUNT],
    /// By all that they carried, of those that are young; likewise.
    pub total: [Option<Newcomer<'a>>; Role::COUNT],
}

impl<M> Store<M> {
    /// An empty one.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            heads: Vec::new(),
            series: Vec::new(),
            exact: Vec::new(),
            newest: Vec::new(),
            index: HashTable::new(),
            counters: Counters::default(),
            gone: Vec::new(),
        }
    }

    /// Begins an interval: gives each series what it carried, and new ones a place. The largest among those that are
    /// new, and those that are young, are handed back.
    pub fn observe<'a>(
        &mut self,
        measured: &'a Measured,
        Intake { metric, scale, now, visit }: Intake,
        is_new: impl Fn(&Head) -> bool,
        is_young: impl Fn(&Head) -> bool,
        start: impl Fn() -> M,
    ) -> Newcomers<'a> {
        self.newest.clear();
        self.newest.resize(self.heads.len(), 0.0);
        let order = |a: &&Carried, b: &&Carried| {
            b.amount(metric).cmp(&a.amount(metric)).then_with(|| a.key.cmp(&b.key))
        };
        let mut strangers: Vec<&Carried> = Vec::new();
        let mut newcomers = Newcomers::default();
        for carried in measured.busiest(metric) {
            let amount = carried.amount(metric) as f64 * scale;
            let at = self.find_hashed(carried.hash(), &carried.key);
            let head = match at {
                Some(at) => {
                    self.newest[at] = amount;
                    self.heads[at].1.seen(carried, metric);
                    self.heads[at].1
                }
                None => {
                    strangers.push(carried);
                    Head::default()
                }
            };
            let role = carried.role(metric) as usize;
            let newcomer = Newcomer { carried, amount, values: head.values, visit: 0 };
            if is_new(&head) {
                newcomer.or_larger(&mut newcomers.largest[role]);
            }
            if is_young(&head) {
                let (total, since) = at.map_or((0.0, 0), |at| self.series[at].visit(&head, now, visit));
                Newcomer { amount: total + amount, visit: since, ..newcomer }
                    .or_larger(&mut newcomers.total[role]);
            }
        }
        self.admit(strangers, metric, scale, order, start);
        newcomers
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
        let free = self.bounds.most.saturating_sub(self.heads.len()).min(newcomers.len());
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
        self.counters.held = self.heads.len() as u64;
    }

    /// The series in the newest interval, in an order of no meaning that the same snapshots give again.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = Newest<'_, M>> {
        let mut exact = self.exact.iter_mut();
        let series = self.heads.iter_mut().zip(&mut self.series).zip(&self.newest);
        series.map(move |(((key, head), series), value)| Newest {
            key,
            head,
            series,
            exact: exact.next(),
            value: *value,
        })
    }

    /// The series, as they are remembered, and what each carried in the newest interval.
    pub fn iter(&self) -> impl Iterator<Item = (&SeriesKey, &Head, &Series<M>, f64)> {
        let series = self.heads.iter().zip(&self.series).zip(&self.newest);
        series.map(|(((key, head), series), value)| (key, head, series, *value))
    }

    /// What is asked of each series first.
    pub fn heads(&self) -> impl Iterator<Item = &Head> {
        self.heads.iter().map(|(_, head)| head)
    }

    /// One series.
    #[must_use]
    pub fn get(&self, key: &SeriesKey) -> Option<(&Head, &Series<M>)> {
        self.find(key).map(|at| (&self.heads[at].1, &self.series[at]))
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
        for (_, head) in &mut self.heads {
            head.fall_silent(count);
        }
        for exact in &mut self.exact {
            exact.fall_silent(count, cap);
        }
        self.expire();
    }

    /// Ends an interval: forgets what was silent for too long.
    pub fn expire(&mut self) {
        let mut at = 0;
        while at < self.heads.len() {
            if u64::from(self.heads[at].1.idle) >= self.bounds.expire_after {
                self.remove(at);
                self.counters.expired += 1;
            } else {
                at += 1;
            }
        }
        self.counters.held = self.heads.len() as u64;
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
        let series = self.heads.iter().zip(&self.series);
        let entry = |(&(key, head), series): (&(SeriesKey, Head), &Series<M>)| Entry {
            key,
            head,
            series: series.clone(),
        };
        (series.map(entry).collect(), self.exact.clone())
    }

    /// What was saved, as far as there is room for it.
    pub(crate) fn load(&mut self, entries: Vec<Entry<M>>, mut exact: Vec<Exact>) {
        exact.resize(if self.bounds.exact { entries.len() } else { 0 }, Exact::default());
        let mut exact = exact.into_iter();
        for entry in entries.into_iter().take(self.bounds.most) {
            let kept = exact.next();
            if self.find(&entry.key).is_none() {
                self.put(entry.key, entry.head, entry.series, kept);
            }
        }
        self.newest.clear();
        self.newest.resize(self.heads.len(), 0.0);
        self.counters.held = self.heads.len() as u64;
    }

    fn find(&self, key: &SeriesKey) -> Option<usize> {
        self.find_hashed(hash(key), key)
    }

    fn find_hashed(&self, hash: u64, key: &SeriesKey) -> Option<usize> {
        self.index.find(hash, |&at| self.heads[at as usize].0 == *key).map(|&at| at as usize)
    }

    fn insert(&mut self, carried: &Carried, metric: Metric, scale: f64, memory: M) {
        let mut head = Head::default();
        head.seen(carried, metric);
        self.put(carried.key, head, Series::new(memory), self.bounds.exact.then(Exact::default));
        self.newest.push(carried.amount(metric) as f64 * scale);
    }

    fn put(&mut self, key: SeriesKey, head: Head, series: Series<M>, exact: Option<Exact>) {
        let at = self.heads.len();
        // Doubling would take twice the memory that is used.
        if at == self.series.capacity() {
            self.series.reserve_exact((at / 8).max(64));
            self.heads.reserve_exact((at / 8).max(64));
        }
        let heads = &self.heads;
        self.index.insert_unique(hash(&key), at as u32, |&at| hash(&heads[at as usize].0));
        self.heads.push((key, head));
        self.series.push(series);
        self.exact.extend(exact);
    }

    /// The last one takes its place.
    fn remove(&mut self, at: usize) {
        let Self { heads, index, .. } = self;
        let last = heads.len() - 1;
        if let Ok(found) = index.find_entry(hash(&heads[at].0), |&found| found as usize == at) {
            found.remove();
        }
        if last != at
            && let Some(moved) = index.find_mut(hash(&heads[last].0), |&found| found as usize == last)
        {
            *moved = at as u32;
        }
        let (key, head) = heads.swap_remove(at);
        if head.watched {
            self.gone.push(key);
        }
        self.series.swap_remove(at);
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
        let mut all: Vec<_> =
            self.iter().map(|(key, head, series, value)| (series.weight(head, value), *key)).collect();
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
