//! One snapshot in, findings out. Pure.

mod any;
mod cause;
mod class;
mod contributors;
mod evidence;
mod explain;
mod newcomers;
mod saved;
mod settings;
mod state;
mod worth;

use std::{collections::BTreeMap, time::Duration};

pub use self::{
    any::{AnyJudge, AnySaved},
    saved::{Saved, VERSION, WrongVersion},
    settings::{Settings, Thresholds},
};
use self::{
    class::{Class, Demands, Interval, Unusual},
    worth::intervals,
};
use crate::{
    detect::Detector,
    finding::{Finding, Trend},
    rules::Overrides,
    series::{self, Bounds, Counters, Gaps, Level, Measured, Metric, SeriesKey},
    snapshot::Snapshot,
    time::Timestamp,
};

/// For so long after it was told, what a series does has the same cause.
const TOLD: Duration = Duration::from_secs(3_600);
/// What was told in so long may end, which is no news.
const ENDS: Duration = Duration::from_secs(86_400);

/// Interfaces whose names are remembered, those that are gone included.
const MOST_NAMES: usize = 1_024;

/// Remembers every series and tells which are unusual.
#[derive(Clone)]
pub struct Judge<D: Detector> {
    interval: Duration,
    settings: Settings,
    series: series::Settings,
    detector: D,
    /// By level, the finest first, then metric.
    classes: Vec<Class<D::Memory>>,
    gaps: Gaps,
    /// Intervals since the start, those that nobody measured included.
    now: u32,
    skip_first: bool,
    /// There was an interval.
    begun: bool,
    names: BTreeMap<u32, String>,
    /// Keys of each level in the last interval.
    expected: Vec<usize>,
    folded: u64,
    overrides: Overrides,
    /// What was told in the last [`ENDS`], and when last.
    told: BTreeMap<SeriesKey, u32>,
}

impl<D: Detector> Judge<D> {
    /// One that knows nothing yet. `interval` is the one asked for, to which what is measured is normalised.
    #[must_use]
    pub fn new(series: series::Settings, interval: Duration, settings: Settings, detector: D) -> Self {
        let series = series::Settings {
            history: if settings.budget.is_some() {
                series.history.max(detector.keeps())
            } else {
                series.history.max(1)
            },
            ..series
        };
        let bounds = |level| Bounds {
            most: series.most(level),
            expire_after: series.expire_after.max(1),
            exact: detector.keeps() > 1 || settings.budget.is_none(),
        };
        let classes = series
            .levels
            .iter()
            .flat_map(|&level| level.metrics().iter().map(move |&metric| (level, metric)))
            .map(|(level, metric)| {
                // The original's way knows no newcomers.
                let newcomers = settings.budget.is_some();
                Class::new(level, metric, bounds(level), newcomers)
            })
            .collect();
        let expected = vec![0; series.levels.len()];
        Self {
            interval,
            settings,
            classes,
            series,
            detector,
            gaps: Gaps::default(),
            now: 0,
            skip_first: false,
            begun: false,
            names: BTreeMap::new(),
            expected,
            folded: 0,
            overrides: Overrides::default(),
            told: BTreeMap::new(),
        }
    }

    /// Demands something else of some series.
    #[must_use]
    pub fn with_overrides(mut self, overrides: Overrides) -> Self {
        self.overrides = overrides;
        self
    }

    /// Does not record the first interval. On a live host that holds what passed while the backend began, too.
    #[must_use]
    pub const fn skip_first(mut self) -> Self {
        self.skip_first = true;
        self
    }

    /// Records an interval and judges it: what was unusual, the largest first.
    ///
    /// Flows of the agent itself are left out. With a budget an interval cut short, or shorter than half of that asked
    /// for, is not recorded; without, its bytes stay as they are. Those of others are divided by their measured length.
    pub fn judge(&mut self, snapshot: &Snapshot) -> Vec<Finding> {
        if !std::mem::replace(&mut self.begun, true) && self.skip_first {
            return Vec::new();
        }
        let partial = !snapshot.complete || snapshot.length * 2 < self.interval;
        if partial && self.settings.budget.is_some() {
            return Vec::new();
        }
        self.name_interfaces(snapshot);
        let step = self.gaps.step(snapshot, self.interval);
        let mut findings = Vec::new();
        if self.settings.budget.is_some() {
            let mut missing = step.missing;
            for before in (0..step.silent).rev() {
                let back = self.interval.saturating_mul(u32::try_from(before).unwrap_or(u32::MAX));
                let nanos = u64::try_from(back.as_nanos()).unwrap_or(u64::MAX);
                let end = Timestamp(snapshot.start.0.saturating_sub(nanos));
                findings.append(&mut self.judge_interval(&Snapshot::default(), end, missing, 1.0));
                missing = 0;
            }
            findings.append(&mut self.judge_interval(snapshot, snapshot.end, missing, self.scale(snapshot)));
        } else {
            // As the original: what was silent without a snapshot is no verdict's, but part of the history.
            self.fall_silent(snapshot.skipped);
            findings = self.judge_interval(snapshot, snapshot.end, step.missing, self.scale(snapshot));
        }
        findings
    }

    fn judge_interval(
        &mut self,
        snapshot: &Snapshot,
        time: Timestamp,
        missing: u64,
        scale: f64,
    ) -> Vec<Finding> {
        let passed = u32::try_from(missing).unwrap_or(u32::MAX).saturating_add(1);
        self.now = self.now.saturating_add(passed);
        let interval = Interval {
            time,
            length: self.interval,
            now: self.now,
            missing,
            scale,
            history: self.series.history,
        };
        let measured: Vec<(Level, Measured)> = self
            .series
            .levels
            .iter()
            .zip(&self.expected)
            .map(|(&level, &expected)| (level, Measured::new(snapshot, level, self.series.unit, expected)))
            .collect();
        self.expected = measured.iter().map(|(_, measured)| measured.len()).collect();
        let mut unusual = Vec::new();
        let demands = Demands { settings: &self.settings, overrides: &self.overrides, names: &self.names };
        for class in &mut self.classes {
            let Some((_, measured)) = measured.iter().find(|(level, _)| *level == class.level) else {
                continue;
            };
            let budget = self.settings.budget.map_or(0.0, |budget| {
                budget / self.series.levels.len() as f64 / Class::<D::Memory>::shares(class.level)
            });
            class.judge(measured, &interval, &demands, budget, &mut self.detector, &mut unusual);
        }
        if unusual.iter().all(|unusual| unusual.evidence.is_none()) {
            return Vec::new();
        }
        let found = evidence::Found { judge: self, snapshot, measured, interval, unusual };
        let (findings, told, folded) = found.findings();
        self.folded += folded;
        let findings = self.not_told_of_late(findings);
        for unusual in &told {
            if let Some(class) = self.class_mut(unusual) {
                class.tell(unusual);
            }
        }
        findings
    }

    /// Without those of series that were told a short while ago, in whatever way they are unusual now; a thousand times
    /// rarer is news. Without a budget each interval is.
    fn not_told_of_late(&mut self, mut findings: Vec<Finding>) -> Vec<Finding> {
        if self.settings.budget.is_none() {
            return findings;
        }
        let [lasts, ends] = [TOLD, ENDS].map(|time| intervals(time, self.interval));
        let now = self.now;
        self.told.retain(|_, when| now.saturating_sub(*when) < ends);
        let before = findings.len();
        findings.retain(|finding| {
            let is_whole = finding.level() == Level::Interface;
            let first = finding.contributors.first().filter(|_| !is_whole).map(|part| part.series);
            let told = |key: SeriesKey, within: u32| {
                self.told.get(&key).is_some_and(|when| now.saturating_sub(*when) < within)
            };
            let is_end = finding.trend != Trend::Rise;
            let keys = [Some(finding.series), finding.series.reverse(), first.filter(|_| is_end)];
            let known = keys.into_iter().flatten().any(|key| told(key, if is_end { ends } else { lasts }));
            self.told.insert(finding.series, now);
            finding.worse || !known
        });
        self.folded += (before - findings.len()) as u64;
        findings
    }

    /// Silent intervals of which there is no snapshot, and which are not judged.
    fn fall_silent(&mut self, count: u64) {
        let count = count.min(u64::from(u32::MAX));
        self.now = self.now.saturating_add(count as u32);
        for class in &mut self.classes {
            class.fall_silent(count, self.series.history);
        }
    }

    fn class_mut(&mut self, unusual: &Unusual) -> Option<&mut Class<D::Memory>> {
        let (level, metric) = (unusual.key.level(), unusual.metric);
        self.classes.iter_mut().find(|class| (class.level, class.metric) == (level, metric))
    }

    fn class(&self, level: Level, metric: Metric) -> Option<&Class<D::Memory>> {
        self.classes.iter().find(|class| (class.level, class.metric) == (level, metric))
    }

    /// From the bytes of the interval's measured length to those of the interval asked for; those of an interval cut
    /// short stay as they are.
    fn scale(&self, snapshot: &Snapshot) -> f64 {
        if !snapshot.complete || snapshot.length.is_zero() || snapshot.length == self.interval {
            1.0
        } else {
            self.interval.as_secs_f64() / snapshot.length.as_secs_f64()
        }
    }

    fn name_interfaces(&mut self, snapshot: &Snapshot) {
        for (&ifindex, name) in &snapshot.interfaces {
            if self.names.get(&ifindex) != Some(name) {
                self.names.insert(ifindex, name.clone());
            }
        }
        if self.names.len() > MOST_NAMES {
            self.names.retain(|ifindex, _| snapshot.interfaces.contains_key(ifindex));
        }
    }

    /// Intervals of a run before which no series can be found unusual.
    #[must_use]
    pub fn least_intervals(&self) -> u64 {
        let Thresholds { min_history, min_factor, .. } = self.settings.thresholds;
        let recorded = if self.settings.budget.is_some() {
            min_history.max(self.detector.least())
        } else {
            let busy = if min_factor > 0.0 { series::BUSY_LEAST + 1 } else { 0 };
            min_history.min(self.series.history).max(self.detector.least()).max(busy)
        };
        recorded as u64 + u64::from(self.skip_first)
    }

    /// How many series are held, and what became of the rest.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        self.classes.iter().for_each(|class| sum.add(&class.store.counters()));
        sum
    }

    /// Findings that were not told, as another one has the same cause.
    #[must_use]
    pub const fn folded(&self) -> u64 {
        self.folded
    }
}

#[cfg(test)]
mod tests;
