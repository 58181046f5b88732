//! Who made the change of a network or interface.

use std::time::Duration;

use wherefore_common::Direction;

use super::{cause::EXPLAINS, class::Unusual, evidence::Found, newcomers::Kind, worth::Known};
use crate::{
    detect::{Detector, Usual},
    finding::{Contributor, Finding, Highest, MOST_NAMED, Trend},
    series::{Carried, Level, Metric, Series, SeriesKey, Store},
};

impl<D: Detector> Found<'_, D> {
    /// The series of a finer level that made most of the change of a network or interface: by what each changed where
    /// that is known, else by what it carries.
    pub(super) fn contributors(&self, whole: &Unusual, level: Level) -> Vec<Contributor> {
        let (Some(all), true) =
            (self.measured(level), whole.key.level() > level && whole.key.level().is_coarse())
        else {
            return Vec::new();
        };
        let metric = whole.metric;
        let is_total = matches!(whole.newcomer, Some((Kind::Total, _)));
        let store = self.store(level, metric);
        let is_part = |key: &SeriesKey, ifindex: u32, direction: Direction| match whole.key {
            SeriesKey::Interface { .. } => self.interface(ifindex, direction) == whole.key,
            net => key.is_within(&net),
        };
        let mut contributors: Vec<(SeriesKey, f64, f64)> = Vec::new();
        for carried in all.busiest(metric) {
            let place = all
                .places(&carried.key)
                .find(|place| is_part(&carried.key, place.ifindex, Direction::from_u8(place.direction)));
            let Some(place) = place else { continue };
            let known = store.and_then(|store| store.get(&carried.key));
            let value = match known {
                Some((head, series)) if is_total => series.visit(head, self.interval.now, u32::MAX).0,
                _ => place.amount(metric) as f64 * self.interval.scale,
            };
            let usual = if is_total { 0.0 } else { known.map_or(0.0, |(_, series)| busy_median(series)) };
            contributors.push((carried.key, value, value - usual));
        }
        if whole.change < 0.0 {
            let silent = store.into_iter().flat_map(Store::iter).filter(|(.., value)| *value == 0.0);
            for (key, head, series, _) in silent {
                if is_part(key, head.ifindex, head.direction()) {
                    contributors.push((*key, 0.0, -busy_median(series)));
                }
            }
        }
        contributors.retain(|(.., change)| change / whole.change > 0.0);
        contributors.sort_by(|a, b| b.2.abs().total_cmp(&a.2.abs()).then_with(|| a.0.cmp(&b.0)));
        contributors.truncate(MOST_NAMED);
        let contributor = |(series, value, change): (SeriesKey, f64, f64)| Contributor {
            series,
            metric,
            value,
            share: (change / whole.change).min(1.0),
        };
        contributors.into_iter().map(contributor).collect()
    }

    /// Gives a finding the name of the most specific series that explains it, whether that one was found unusual itself
    /// or not: what was found first becomes what has the same cause. Where all fell silent, it is all that did.
    pub(super) fn name(&self, finding: &mut Finding, whole: &Unusual) {
        if finding.trend == Trend::Silence {
            self.name_silence(finding, whole);
            return;
        }
        let named = [Level::Pair, Level::Net].into_iter().find_map(|level| {
            let explaining = self.contributors(whole, level).into_iter().next()?;
            let has_series = self.store(level, whole.metric).is_some();
            (has_series && explaining.share >= EXPLAINS).then_some((level, explaining))
        });
        let Some((level, Contributor { series: key, value, share, .. })) = named else { return };
        let Some(carried) = self.carried(&key, whole.metric) else { return };
        let whole_itself = Contributor { series: whole.key, metric: whole.metric, value: whole.value, share };
        finding.folded.count += 1;
        finding.folded.top.insert(0, whole_itself);
        finding.folded.top.truncate(MOST_NAMED);
        finding.limit = finding.limit.map(|limit| (limit - (finding.value - value)).max(0.0));
        (finding.series, finding.value) = (key, value);
        finding.interface = self.interface_name(carried.ifindex);
        (finding.direction, finding.locality) = (Direction::from_u8(carried.direction), carried.locality);
        finding.estimated = carried.estimated;
        self.compare(finding, level, carried);
        let part = Unusual { key, value, change: value - finding.usual.median, ..whole.clone() };
        finding.contributors = self.contributors(&part, Level::Pair);
    }

    /// Where nothing at all passes the interface that way, that is what is told.
    fn name_silence(&self, finding: &mut Finding, unusual: &Unusual) {
        let key = self.interface(unusual.ifindex, unusual.direction);
        let known =
            self.judge.class(Level::Interface, unusual.metric).and_then(|class| class.store.get(&key));
        let (Some((_, series)), true) = (known, unusual.key != key) else { return };
        if self.carried(&key, unusual.metric).is_some() {
            return;
        }
        finding.series = key;
        finding.history = series.values().collect();
        finding.usual = Usual::before(&finding.history);
        finding.limit = None;
        finding.contributors = self
            .contributors(&Unusual { key, change: -finding.usual.median, ..unusual.clone() }, Level::Pair);
    }

    /// Holds a finding that has got another name against what is usual for that.
    fn compare(&self, finding: &mut Finding, level: Level, carried: &Carried) {
        let Some(class) = self.judge.class(level, finding.metric) else { return };
        let found = class.store.get(&finding.series);
        let known = Known::new(level, &self.judge.settings, &self.judge.detector);
        let values = match &class.newcomers {
            Some(newcomers) if !found.is_some_and(|(head, _)| known.holds(head)) => {
                let before = found.map_or(0, |(head, _)| head.values.saturating_sub(1));
                finding.newcomer = Some(self.interval.length.saturating_mul(before));
                let place = (Kind::Largest, carried.role(finding.metric));
                newcomers.of(place).map_or(&[][..], |crowd| crowd.series.recent())
            }
            _ => {
                finding.newcomer = None;
                found.map_or(&[][..], |(_, series)| series.recent())
            }
        };
        finding.history = values.iter().copied().map(f64::from).collect();
        finding.usual = Usual::of(earlier(values).iter().copied().map(f64::from));
        // Of the part that is not known.
        finding.highest = Highest::For(Duration::ZERO);
    }

    fn store(&self, level: Level, metric: Metric) -> Option<&Store<D::Memory>> {
        self.judge.class(level, metric).map(|class| &class.store)
    }
}

/// What a series usually carries when it does.
fn busy_median<M>(series: &Series<M>) -> f64 {
    let busy = earlier(series.recent()).iter().copied().filter(|value| *value > 0.0);
    Usual::of(busy.map(f64::from)).median
}

/// Without the newest value, which is already part of what is remembered.
fn earlier(values: &[f32]) -> &[f32] {
    &values[..values.len().saturating_sub(1)]
}
