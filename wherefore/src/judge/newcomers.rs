//! Series of which little is known, judged by what such series usually carry.

use serde::{Deserialize, Serialize};

use super::{
    class::{Evidence, Interval, Unusual},
    state::{News, Passed, State},
};
use crate::{
    alarm::Levels,
    detect::{Evaluation, Part, Rare, Usual},
    finding::Trend,
    series::{Head, Metric, Newcomer, Role, Series, SeriesKey},
};

/// By what a newcomer is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// By what it carried in the interval.
    Largest,
    /// By all that it carried since it came.
    Total,
}

impl Kind {
    const fn method(self) -> &'static str {
        match self {
            Self::Largest => "newcomer",
            Self::Total => "newcomer-total",
        }
    }
}

/// A crowd: what they are judged by, and the role they have.
pub(super) type Place = (Kind, Role);

/// The largest among newcomers, interval by interval, by their role.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Newcomers {
    /// Of those that are new.
    largest: [Crowd; Role::COUNT],
    /// Of bytes: of those that are young.
    total: Option<[Crowd; Role::COUNT]>,
}

/// Of each interval the largest of many series.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Crowd {
    head: Head,
    pub series: Series<()>,
    rare: Rare,
    /// Whose the last event was.
    key: Option<SeriesKey>,
    pub state: Option<State>,
}

impl Newcomers {
    pub(super) fn new(metric: Metric) -> Self {
        let crowds = || {
            std::array::from_fn(|_| Crowd {
                head: Head::default(),
                series: Series::new(()),
                rare: Rare::default(),
                key: None,
                state: None,
            })
        };
        // Flows that last are counted in each interval: their sum says nothing.
        let total = matches!(metric, Metric::Bytes).then(crowds);
        Self { largest: crowds(), total }
    }

    /// Crowds that ever carried anything, one at least.
    pub(super) fn active(&self) -> f64 {
        let all = self.largest.iter().chain(self.total.iter().flatten());
        all.filter(|crowd| crowd.head.busy > 0).count().max(1) as f64
    }

    /// Whether so much of a stranger, in one interval, would enter the unusual state; see [`Crowd::judge`].
    pub(super) fn would_tell(
        &self,
        role: Role,
        value: f64,
        interval: &Interval,
        least: f64,
        budget: f64,
    ) -> bool {
        let Interval { time, length, .. } = *interval;
        let probability = self.largest[role as usize].rare.probability(value, least.max(1.0), time, length);
        probability > Rare::threshold(budget, length)
    }

    pub(super) fn of(&self, (kind, role): Place) -> Option<&Crowd> {
        match kind {
            Kind::Largest => Some(&self.largest[role as usize]),
            Kind::Total => Some(&self.total.as_ref()?[role as usize]),
        }
    }

    pub(super) fn of_mut(&mut self, (kind, role): Place) -> Option<&mut Crowd> {
        match kind {
            Kind::Largest => Some(&mut self.largest[role as usize]),
            Kind::Total => Some(&mut self.total.as_mut()?[role as usize]),
        }
    }
}

impl Crowd {
    /// Judges the largest of the interval, then takes it in. `least`: less is no event; `budget`: false alerts a day.
    pub(super) fn judge(
        &mut self,
        place: Place,
        metric: Metric,
        newcomer: Option<Newcomer<'_>>,
        interval: &Interval,
        least: f64,
        budget: f64,
    ) -> Option<Unusual> {
        let Interval { time, length, now, .. } = *interval;
        // A demand of nothing still is one of something.
        let least = least.max(1.0);
        let value = newcomer.map_or(0.0, |newcomer| newcomer.amount);
        let probability = self.rare.probability(value, least, time, length);
        let threshold = |budget| Rare::threshold(budget, length);
        // One newcomer's state shall not hide the next one.
        let levels = Levels { hold: 0, ..Levels::of_budget(threshold, budget) };

        let mut unusual = None;
        if self.state.is_some() || probability > levels.leave {
            let history: Vec<f64> = self.series.values().chain([value]).collect();
            let start = || State::new(time, Usual::before(&history));
            let Passed { news, usual, since, told } =
                State::pass(&mut self.state, start, probability, &levels, |state| {
                    match state.step(probability, value >= least, &levels, threshold) {
                        // A total only grows.
                        News::Worse if place.0 == Kind::Total => News::None,
                        news => news,
                    }
                });
            let evidence = (news != News::None).then(|| {
                let part = Part {
                    method: place.0.method(),
                    value: probability,
                    weight: 1.0,
                    statistic: (value / least).max(1.0).log10(),
                };
                Box::new(Evidence {
                    evaluation: Evaluation { probability, parts: [part].into_iter().collect() },
                    usual,
                    trend: Trend::Rise,
                    threshold: levels.enter,
                    budget: Some(budget),
                    limit: Some(self.rare.limit(levels.enter, least, time, length)),
                    since,
                    highest: self.series.since_as_much(value, now),
                    history,
                    worse: news == News::Worse,
                })
            });
            unusual = newcomer.filter(|_| evidence.is_some() || told.is_some()).map(|newcomer| Unusual {
                key: newcomer.carried.key,
                metric,
                newcomer: Some(place),
                values: newcomer.values,
                visit: newcomer.visit,
                value,
                change: value - usual.median,
                probability,
                told,
                evidence,
                ifindex: newcomer.carried.ifindex,
                direction: newcomer.carried.direction(),
                locality: newcomer.carried.locality,
            });
        }
        let key = newcomer.map(|newcomer| newcomer.carried.key);
        self.rare.learn(value, least, time, length, key == self.key);
        if value >= least {
            self.key = key;
        }
        self.series.take_in(&mut self.head, value, now, least, u32::MAX);
        unusual
    }
}
