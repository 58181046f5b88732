//! Series of which little is known, judged by what such series usually carry.

use serde::{Deserialize, Serialize};
use wherefore_common::Direction;

use super::class::{One, Unusual};
use super::state::State;
use crate::{
    detect::Detector,
    series::{self, Exact, Head, Metric, Newcomer, Role, Series, SeriesKey},
};

/// By what a newcomer is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// By what it carried in the interval.
    Largest,
    /// By all that it carried since it came.
    Total,
}

/// A crowd: what they are judged by, and the role they have.
pub(super) type Place = (Kind, Role);

/// The largest among newcomers, interval by interval, by their role.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Newcomers<M> {
    /// Of those that are new.
    largest: [Crowd<M>; Role::COUNT],
    /// Of bytes: of those that are young.
    total: Option<[Crowd<M>; Role::COUNT]>,
}

/// A series of which each interval is of the largest of many.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Crowd<M> {
    head: Head,
    pub series: Series<M>,
    exact: Option<Exact>,
    pub state: Option<State>,
}

impl<M> Newcomers<M> {
    /// `exact`: the last values are kept.
    pub(super) fn new(metric: Metric, exact: bool, start: impl Fn() -> M) -> Self {
        let crowds = || {
            std::array::from_fn(|_| Crowd {
                head: Head::default(),
                series: Series::new(start()),
                exact: exact.then(Exact::default),
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
        all.filter(|crowd| crowd.head.total > 0.0).count().max(1) as f64
    }

    pub(super) fn of(&self, (kind, role): Place) -> Option<&Crowd<M>> {
        match kind {
            Kind::Largest => Some(&self.largest[role as usize]),
            Kind::Total => Some(&self.total.as_ref()?[role as usize]),
        }
    }

    pub(super) fn of_mut(&mut self, (kind, role): Place) -> Option<&mut Crowd<M>> {
        match kind {
            Kind::Largest => Some(&mut self.largest[role as usize]),
            Kind::Total => Some(&mut self.total.as_mut()?[role as usize]),
        }
    }

    /// Goes on with what was saved.
    pub(super) fn load(&mut self, saved: Self) {
        let load = |(crowd, saved): (&mut Crowd<M>, Crowd<M>)| crowd.load(saved);
        self.largest.iter_mut().zip(saved.largest).for_each(load);
        self.total.iter_mut().flatten().zip(saved.total.into_iter().flatten()).for_each(load);
    }
}

impl<M> Crowd<M> {
    fn load(&mut self, saved: Self) {
        let exact = self.exact.is_some().then(|| saved.exact.clone().unwrap_or_default());
        *self = Self { exact, ..saved };
    }

    pub(super) fn judge<D: Detector<Memory = M>>(
        &mut self,
        place: Place,
        largest: Option<Newcomer<'_>>,
        judge: &mut One<'_, D>,
    ) -> Option<Unusual> {
        if let Some(newcomer) = largest {
            self.head.seen(newcomer.carried);
        }
        // Without anybody new there is no key, and nothing to be told.
        let nobody = SeriesKey::interface("", Direction::Unknown);
        let mut newest = series::Newest {
            key: &largest.map_or(nobody, |newcomer| newcomer.carried.key),
            head: &mut self.head,
            series: &mut self.series,
            exact: self.exact.as_mut(),
            value: largest.map_or(0.0, |newcomer| newcomer.amount),
        };
        let unusual = judge.judge(&mut newest, &mut self.state, true);
        let newcomer = largest?;
        unusual.map(|unusual| Unusual { newcomer: Some(place), values: newcomer.values, ..unusual })
    }
}
