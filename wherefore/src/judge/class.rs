//! All series of one level and metric, judged.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use wherefore_common::Direction;

use super::{
    explain,
    newcomers::{Kind, Newcomers, Place},
    settings::{Settings, Thresholds},
    state::{News, Passed, State},
    worth::{FOUNDED, Known, YOUNG, intervals},
};
use crate::{
    alarm::Levels,
    detect::{Detector, Evaluation, Newest, Usual},
    finding::Trend,
    locality::Locality,
    rules::Overrides,
    series::{self, Bounds, Head, Intake, Level, Measured, Metric, Role, Series, SeriesKey, Store},
    time::Timestamp,
};

/// A series is active while it was not silent for so long.
const ACTIVE: Duration = Duration::from_secs(3_600);

/// The interval that is judged, and by what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interval {
    /// Its end.
    pub time: Timestamp,
    /// Its length, as asked for.
    pub length: Duration,
    /// Its number since the start, those that nobody measured included.
    pub now: u32,
    /// Intervals before it that nobody measured.
    pub missing: u64,
    /// From its amounts to those of the interval asked for.
    pub scale: f64,
    /// Values that are kept where a detector judges by them.
    pub history: usize,
}

/// What is demanded of series.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demands<'a> {
    pub settings: &'a Settings,
    /// Demands on some of them.
    pub overrides: &'a Overrides,
    /// Names of interfaces.
    pub names: &'a BTreeMap<u32, String>,
}

impl Demands<'_> {
    /// Those on one series.
    pub(super) fn on(&self, key: &SeriesKey, head: &Head) -> Thresholds {
        let thresholds = self.settings.thresholds;
        if self.overrides.0.is_empty() {
            return thresholds;
        }
        let interface = self.names.get(&head.ifindex).map_or("", String::as_str);
        match self.overrides.of_series(key, head.locality, head.direction(), interface) {
            Some(entry) => Thresholds {
                min_bytes: entry.min_bytes.unwrap_or(thresholds.min_bytes),
                min_flows: entry.min_flows.unwrap_or(thresholds.min_flows),
                ..thresholds
            },
            None => thresholds,
        }
    }
}

/// Series of one level and metric, and the largest among newcomers.
#[derive(Clone)]
pub(super) struct Class<M> {
    pub level: Level,
    pub metric: Metric,
    pub store: Store<M>,
    pub newcomers: Option<Newcomers>,
    /// Of series that are unusual or nearly so.
    pub states: HashMap<SeriesKey, State>,
}

/// A series that is unusual in this interval, or was a short while ago.
#[derive(Clone, Debug)]
pub(super) struct Unusual {
    pub key: SeriesKey,
    pub metric: Metric,
    /// Held against what newcomers carry.
    pub newcomer: Option<Place>,
    /// Intervals since it was first seen, and since its visit began.
    pub values: u32,
    pub visit: u32,
    pub value: f64,
    /// The value without what is usual.
    pub change: f64,
    pub probability: f64,
    /// The change that was told, while the state lasts.
    pub told: Option<f64>,
    /// Where it would be told.
    pub evidence: Option<Box<Evidence>>,
    pub ifindex: u32,
    pub direction: Direction,
    pub locality: Locality,
}

/// What a finding says of its series.
#[derive(Clone, Debug)]
pub(super) struct Evidence {
    pub evaluation: Evaluation,
    pub usual: Usual,
    pub trend: Trend,
    pub threshold: f64,
    pub budget: Option<f64>,
    pub limit: Option<f64>,
    pub since: Timestamp,
    /// Intervals since it carried as much.
    pub highest: Option<u32>,
    pub history: Vec<f64>,
    pub worse: bool,
}

/// What a class is judged by in one interval.
struct Bar {
    levels: Levels,
    budget: Option<f64>,
}

impl Bar {
    fn new(detector: &impl Detector, settings: &Settings, budget: f64) -> Self {
        if settings.budget.is_none() {
            return Self { levels: Levels::single(settings.thresholds.probability), budget: None };
        }
        let levels = Levels::of_budget(|budget| detector.threshold(budget), budget);
        Self { levels, budget: Some(budget) }
    }
}

impl<M> Class<M> {
    /// `newcomers`: they are judged where the level has any.
    pub(super) fn new(level: Level, metric: Metric, bounds: Bounds, newcomers: bool) -> Self {
        Self {
            level,
            metric,
            store: Store::new(bounds),
            newcomers: (newcomers && level.has_newcomers()).then(|| Newcomers::new(metric)),
            states: HashMap::new(),
        }
    }

    /// How many budgets it takes: its series' and the newcomers'.
    pub(super) fn shares(level: Level) -> f64 {
        (level.metrics().len() * (1 + usize::from(level.has_newcomers()))) as f64
    }

    /// Records an interval and judges it. `budget`: false alerts a day, of all its series together and once more of
    /// newcomers. What is unusual is added to `found`.
    pub(super) fn judge<D: Detector<Memory = M>>(
        &mut self,
        measured: &Measured,
        interval: &Interval,
        demands: &Demands<'_>,
        budget: f64,
        detector: &mut D,
        found: &mut Vec<Unusual>,
    ) {
        let Self { level, metric, store, newcomers, states } = self;
        let settings = demands.settings;
        let demand = Known::new(*level, settings, detector);
        let start = || detector.start(level.is_coarse());
        let (day, founded) = (intervals(YOUNG, interval.length), intervals(FOUNDED, interval.length));
        let is_young = |head: &Head| head.values < day && interval.now.saturating_sub(head.values) > founded;
        let intake = Intake { metric: *metric, scale: interval.scale, now: interval.now, visit: founded };
        let is_new = |head: &Head| !demand.holds(head);
        let largest = store.observe(measured, intake, is_new, is_young, start);
        for key in store.take_gone() {
            states.remove(&key);
        }
        let active = active(store, interval.length, demand);
        let bar = Bar::new(detector, settings, budget / active);
        let least = settings.thresholds.least(*metric);
        let share = newcomers.as_ref().map_or(0.0, |newcomers| budget / newcomers.active());
        let strangers = newcomers.as_ref().map(|newcomers| (newcomers, share));
        let mut judge = One {
            interval,
            strangers,
            least,
            visit: founded,
            demands,
            demand,
            bar,
            metric: *metric,
            detector,
        };
        for mut newest in store.iter_mut() {
            let mut state = if newest.head.watched { states.remove(newest.key) } else { None };
            let unusual = judge.judge(&mut newest, &mut state);
            newest.head.watched = state.is_some();
            if let Some(state) = state {
                states.insert(*newest.key, state);
            }
            found.extend(unusual);
        }
        store.expire();
        for key in store.take_gone() {
            states.remove(&key);
        }
        // Before that everybody is new.
        if let Some(newcomers) = newcomers {
            let begun = |kind| match kind {
                Kind::Largest => interval.now as usize > demand.least,
                Kind::Total => interval.now > founded,
            };
            for (kind, largest) in [(Kind::Largest, &largest.largest), (Kind::Total, &largest.total)] {
                for role in Role::ALL.into_iter().filter(|_| begun(kind)) {
                    let Some(crowd) = newcomers.of_mut((kind, role)) else { continue };
                    let newcomer = largest[role as usize];
                    found.extend(crowd.judge((kind, role), *metric, newcomer, interval, least, share));
                }
            }
        }
    }

    /// Adds silent intervals that nobody judges.
    pub(super) fn fall_silent(&mut self, count: u64, history: usize) {
        self.store.fall_silent(count, history);
        for key in self.store.take_gone() {
            self.states.remove(&key);
        }
    }

    /// Notes that the change of a series was told.
    pub(super) fn tell(&mut self, unusual: &Unusual) {
        let state = match unusual.newcomer {
            Some(place) => self
                .newcomers
                .as_mut()
                .and_then(|newcomers| newcomers.of_mut(place))
                .and_then(|crowd| crowd.state.as_mut()),
            None => self.states.get_mut(&unusual.key),
        };
        if let Some(state) = state {
            state.told = Some(unusual.change);
        }
    }
}

/// Series that may be judged and are not silent for long; at least one.
fn active<M>(store: &Store<M>, interval: Duration, known: Known) -> f64 {
    let hour = intervals(ACTIVE, interval);
    let is_active = |head: &&Head| known.holds(head) && head.idle < hour;
    store.heads().filter(is_active).count().max(1) as f64
}

/// Judges one series after the other.
pub(super) struct One<'a, D> {
    pub interval: &'a Interval,
    /// Where newcomers are judged: they, and the budget of each crowd.
    pub strangers: Option<(&'a Newcomers, f64)>,
    /// The least that may be told of most.
    pub least: f64,
    /// Silent intervals that end a visit.
    visit: u32,
    pub demands: &'a Demands<'a>,
    pub demand: Known,
    bar: Bar,
    pub metric: Metric,
    pub detector: &'a mut D,
}

impl<D: Detector> One<'_, D> {
    /// Evaluates the newest value, then takes it in.
    fn judge(
        &mut self,
        of: &mut series::Newest<'_, D::Memory>,
        state: &mut Option<State>,
    ) -> Option<Unusual> {
        let Interval { time, now, missing, history, .. } = *self.interval;
        let value = of.value;
        let alone = [value];
        if let Some(exact) = &mut of.exact {
            exact.push(value, history);
        }
        let values: &[f64] = match &of.exact {
            Some(exact) => &exact.values,
            None => &alone,
        };
        let newest = Newest { history: values, time, missing };
        let spared = if self.demands.settings.budget.is_none() {
            !self.is_worth_judging(of)
        } else {
            // What carries little may be missed all the same.
            value > 0.0 && !self.demand.holds(of.head)
        };
        let mut evaluation =
            if spared { Evaluation::default() } else { self.detector.evaluate(&of.series.memory, &newest) };
        let is_near = state.is_some() || evaluation.probability > self.bar.levels.leave;
        if is_near && self.strangers.is_some() {
            let most = self.detector.most_of_many(of.head.values);
            evaluation.probability = evaluation.probability.min(most);
        }
        let unusual = if state.is_some() || evaluation.probability > self.bar.levels.leave {
            self.unusual(of, &newest, &evaluation, state)
        } else {
            None
        };
        self.detector.learn(&mut of.series.memory, &newest, &evaluation);
        let least = self.demands.on(of.key, of.head).least(self.metric);
        of.series.take_in(of.head, value, now, least, self.visit);
        if let Some(exact) = &mut of.exact {
            exact.remember_busy(value);
        }
        unusual
    }

    /// Without a budget the cheap demands come first: on a calm host the detector has nothing to do.
    fn is_worth_judging(&self, of: &series::Newest<'_, D::Memory>) -> bool {
        let thresholds = self.demands.on(of.key, of.head);
        let Thresholds { min_history, min_factor, .. } = thresholds;
        let (value, exact) = (of.value, of.exact.as_deref());
        value >= thresholds.least(self.metric)
            && exact.is_none_or(|exact| {
                exact.values.len() >= min_history.min(self.interval.history)
                    && (min_factor == 0.0
                        || exact.busy_level().is_some_and(|level| value >= min_factor * level))
            })
    }

    fn unusual(
        &mut self,
        of: &series::Newest<'_, D::Memory>,
        newest: &Newest<'_>,
        evaluation: &Evaluation,
        state: &mut Option<State>,
    ) -> Option<Unusual> {
        let series::Newest { key, ref head, ref series, value, .. } = *of;
        let probability = evaluation.probability;
        let history = self.history(series, newest);
        let start = || {
            let usual = self.detector.usual(&series.memory, newest);
            State::new(self.since(head, value), usual.unwrap_or_else(|| Usual::before(&history)))
        };
        let levels = &self.bar.levels;
        let Passed { news, usual, since, told } = State::pass(state, start, probability, levels, |state| {
            if self.demands.settings.budget.is_none() {
                state.usual = Usual::before(&history);
                return if probability > levels.enter { News::New } else { News::None };
            }
            let deserves = self.deserves(of, &state.usual, Trend::of(value, &state.usual));
            state.step(probability, deserves, levels, |budget| self.detector.threshold(budget))
        });
        let trend = Trend::of(value, &usual);
        let evidence = (news != News::None).then(|| {
            let limit = explain::limit(self.detector, &series.memory, newest, self.bar.levels.enter, &usual);
            Box::new(Evidence {
                evaluation: evaluation.clone(),
                usual,
                trend,
                threshold: self.bar.levels.enter,
                budget: self.bar.budget,
                limit,
                since,
                highest: series.since_as_much(value, self.interval.now),
                history,
                worse: news == News::Worse,
            })
        });
        (evidence.is_some() || told.is_some()).then_some(Unusual {
            key: *key,
            metric: self.metric,
            newcomer: None,
            values: head.values,
            visit: 0,
            value,
            change: value - usual.median,
            probability,
            told,
            evidence,
            ifindex: head.ifindex,
            direction: head.direction(),
            locality: head.locality,
        })
    }

    /// The last values, the judged one last.
    fn history(&self, series: &Series<D::Memory>, newest: &Newest<'_>) -> Vec<f64> {
        if newest.history.len() > 1 || self.demands.settings.budget.is_none() {
            return newest.history.to_vec();
        }
        series.values().chain([newest.value()]).collect()
    }

    /// The end of the first interval of this state: of a silence, of its first.
    fn since(&self, head: &Head, value: f64) -> Timestamp {
        let Interval { time, length, .. } = *self.interval;
        let silent = if value == 0.0 { head.idle } else { 0 };
        let before = length.as_nanos().saturating_mul(u128::from(silent));
        Timestamp(time.0.saturating_sub(u64::try_from(before).unwrap_or(u64::MAX)))
    }
}
