//! What is unusual becomes findings: one for each cause, with its evidence.

use std::collections::HashMap;

use wherefore_common::Direction;

use super::{
    Judge,
    cause::{self, Candidate, Part, Told},
    class::{Interval, Unusual},
    newcomers::Kind,
};
use crate::{
    detect::{Detector, Usual},
    finding::{Cause, Contributor, Finding, Folded, Highest, MOST_NAMED},
    series::{Carried, Level, Measured, Metric, SeriesKey},
    snapshot::Snapshot,
};

/// The unusual series of an interval.
pub(super) struct Found<'a, D: Detector> {
    pub judge: &'a Judge<D>,
    pub snapshot: &'a Snapshot,
    pub measured: Vec<(Level, Measured)>,
    pub interval: Interval,
    pub unusual: Vec<Unusual>,
}

impl<D: Detector> Found<'_, D> {
    /// The findings, the largest first; whose they are; how many were not told.
    pub(super) fn findings(mut self) -> (Vec<Finding>, Vec<Unusual>, u64) {
        let firing = self.unusual.iter().filter(|unusual| unusual.evidence.is_some()).count();
        let told = self.causes();
        if told.iter().any(|told| self.unusual[told.index].key.level().is_coarse())
            && !self.measured.iter().any(|(level, _)| *level == Level::Pair)
        {
            let pairs = Measured::new(self.snapshot, Level::Pair, self.judge.series.unit, 0);
            self.measured.push((Level::Pair, pairs));
        }
        let named = |told: &Told| {
            let mut finding = self.finding(told)?;
            self.name(&mut finding, &self.unusual[told.index]);
            Some(finding)
        };
        let mut findings: Vec<Finding> = told.iter().filter_map(named).collect();
        findings.sort_by(|a, b| {
            let order = a.metric.cmp(&b.metric).then(b.value.total_cmp(&a.value));
            order.then_with(|| a.series.cmp(&b.series))
        });
        // Two that were found unusual may be explained by one.
        findings.dedup_by_key(|finding| (finding.series, finding.metric));
        let folded = (firing - findings.len()) as u64;
        let told = told.iter().map(|told| self.unusual[told.index].clone()).collect();
        (findings, told, folded)
    }

    /// With several levels, or a budget, one for each cause; else as the original, all of them.
    fn causes(&self) -> Vec<Told> {
        if self.judge.settings.budget.is_none() && self.judge.series.levels.len() == 1 {
            let open = |(index, unusual): (usize, &Unusual)| {
                unusual.evidence.as_ref().map(|_| Told { index, ..Told::default() })
            };
            return self.unusual.iter().enumerate().filter_map(open).collect();
        }
        let candidate = |unusual: &Unusual| Candidate {
            key: unusual.key,
            metric: unusual.metric,
            change: unusual.change,
            silent: unusual.value == 0.0,
            probability: unusual.probability,
            told: unusual.told.filter(|_| unusual.evidence.is_none()),
        };
        let candidates: Vec<Candidate> = self.unusual.iter().map(candidate).collect();
        cause::resolve(&candidates, &self.parts())
    }

    /// Which of them are part of which.
    fn parts(&self) -> Vec<Vec<Part>> {
        let mut parts = vec![Vec::new(); self.unusual.len()];
        let mut by_key: HashMap<SeriesKey, Vec<usize>> = HashMap::new();
        for (i, unusual) in self.unusual.iter().enumerate() {
            by_key.entry(unusual.key).or_default().push(i);
        }
        for (finer, unusual) in self.unusual.iter().enumerate() {
            for (key, share) in self.wholes(unusual) {
                for &coarse in by_key.get(&key).into_iter().flatten() {
                    if let Some(change) = self.change_of(unusual, self.unusual[coarse].metric) {
                        parts[coarse].push(Part { finer, change: change * share });
                    }
                }
            }
        }
        parts
    }

    /// The coarser series that one is part of, and what share of it.
    fn wholes(&self, unusual: &Unusual) -> Vec<(SeriesKey, f64)> {
        let level = unusual.key.level();
        let mut wholes = Vec::new();
        if let Some((src, dst)) = unusual.key.ends() {
            if level == Level::Flow {
                wholes.push((SeriesKey::Pair { src, dst }, 1.0));
            }
            wholes.push((SeriesKey::net(dst, true), 1.0));
            wholes.push((SeriesKey::net(src, false), 1.0));
        }
        if level == Level::Interface {
            return wholes;
        }
        let busiest = self.carried(&unusual.key, unusual.metric);
        match busiest {
            Some(busiest) => {
                let most = busiest.amount(unusual.metric).max(1) as f64;
                let places = self.measured(level).into_iter().flat_map(|all| all.places(&unusual.key));
                wholes.extend(places.map(|place| {
                    let share = place.amount(unusual.metric) as f64 / most;
                    (self.interface(place.ifindex, Direction::from_u8(place.direction)), share)
                }));
            }
            None => wholes.push((self.interface(unusual.ifindex, unusual.direction), 1.0)),
        }
        wholes
    }

    /// How much a series changed in another metric than its own, too. What it carries of that usually is known of nets
    /// alone; a newcomer carried nothing before.
    fn change_of(&self, unusual: &Unusual, metric: Metric) -> Option<f64> {
        if unusual.metric == metric {
            return Some(unusual.change);
        }
        let value = self.carried(&unusual.key, metric)?.amount(metric) as f64 * self.interval.scale;
        if unusual.newcomer.is_some() {
            return Some(value);
        }
        let class = self.judge.class(unusual.key.level(), metric)?;
        let (_, series) = class.store.get(&unusual.key)?;
        Some(value - Usual::of(series.values()).median)
    }

    pub(super) fn measured(&self, level: Level) -> Option<&Measured> {
        self.measured.iter().find(|(of, _)| *of == level).map(|(_, measured)| measured)
    }

    pub(super) fn carried(&self, key: &SeriesKey, metric: Metric) -> Option<&Carried> {
        self.measured(key.level())?.get(key, metric)
    }

    pub(super) fn interface(&self, ifindex: u32, direction: Direction) -> SeriesKey {
        SeriesKey::interface(&self.interface_name(ifindex), direction)
    }

    pub(super) fn interface_name(&self, ifindex: u32) -> String {
        self.judge.names.get(&ifindex).cloned().unwrap_or_else(|| format!("interface {ifindex}"))
    }

    fn finding(&self, told: &Told) -> Option<Finding> {
        let unusual = &self.unusual[told.index];
        let evidence = unusual.evidence.as_deref()?;
        let Interval { time, length, now, .. } = self.interval;
        let highest = evidence.highest.map_or_else(
            || Highest::SinceStart(length.saturating_mul(now.saturating_sub(1))),
            |intervals| Highest::For(length.saturating_mul(intervals)),
        );
        let contributor = |index: usize, share: f64| {
            let Unusual { key, metric, value, .. } = self.unusual[index];
            Contributor { series: key, metric, value, share }
        };
        let span = match unusual.newcomer {
            Some((Kind::Total, _)) => length.saturating_mul(unusual.visit.saturating_add(1)),
            _ => length,
        };
        let interface = match unusual.key {
            SeriesKey::Interface { name, .. } => name.to_string(),
            _ => self.interface_name(unusual.ifindex),
        };
        Some(Finding {
            cause: Cause::Unusual,
            time,
            interval: span,
            series: unusual.key,
            metric: unusual.metric,
            newcomer: unusual.newcomer.map(|_| length.saturating_mul(unusual.values)),
            interface,
            direction: unusual.direction,
            locality: unusual.locality,
            value: unusual.value,
            unit: self.judge.series.unit,
            estimated: self.carried(&unusual.key, unusual.metric).map_or(0, |carried| carried.estimated),
            usual: evidence.usual,
            trend: evidence.trend,
            since: evidence.since,
            highest,
            evaluation: evidence.evaluation.clone(),
            threshold: evidence.threshold,
            budget: evidence.budget,
            limit: evidence.limit,
            history: evidence.history.clone(),
            worse: evidence.worse,
            contributors: self.contributors(unusual, Level::Pair),
            folded: Folded {
                count: told.folded.len() as u64,
                top: told.folded.iter().take(MOST_NAMED).map(|&(i, share)| contributor(i, share)).collect(),
            },
            reverse: told.reverse.map(|i| contributor(i, 1.0)),
        })
    }
}
