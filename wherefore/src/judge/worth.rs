//! Which of the unusual is worth telling.

use std::time::Duration;

use super::{class::One, settings::Settings};
use crate::{
    detect::{Detector, Usual},
    finding::Trend,
    series::{self, Head, Level, SeriesKey},
};

/// A series is young for so long: what comes daily is not.
pub(super) const YOUNG: Duration = Duration::from_secs(20 * 3_600);
/// Times in a row that one who comes regularly may miss.
const MISSED: f64 = 5.0;
/// Intervals with anything after which a series speaks for itself.
const EXPERIENCED: u16 = 100;
/// A pair or network is told to have risen where it is beyond this many times what it carried in so many days.
const HEIGHT: f64 = 1.25;
const REMEMBERED: Duration = Duration::from_secs(8 * 86_400);
/// Before who is always there is known. A silence of so long ends a visit.
pub(super) const FOUNDED: Duration = Duration::from_secs(3_600);

/// As intervals of this length, the last one whole.
pub(super) fn intervals(time: Duration, length: Duration) -> u32 {
    (time.as_secs_f64() / length.as_secs_f64()).ceil() as u32
}

/// From when on a series is judged by itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// Values it must have, the judged one included.
    pub least: usize,
    /// They count from the first on that was enough to be told: what hardly carried anything so far is as new as what
    /// was never seen, where newcomers are judged.
    grown: bool,
}

impl Known {
    pub(super) fn new(level: Level, settings: &Settings, detector: &impl Detector) -> Self {
        let grown = settings.budget.is_some() && level.has_newcomers();
        let least = settings.thresholds.min_history;
        Self { least: if grown { least.max(detector.least()) } else { least }, grown }
    }

    pub(super) fn holds(self, head: &Head) -> bool {
        let values = if self.grown { u32::from(head.grown) } else { head.values };
        values as usize + 1 >= self.least
    }
}

impl<D: Detector> One<'_, D> {
    /// With a budget: enough of it, and known for long enough.
    pub(super) fn deserves(&self, of: &series::Newest<'_, D::Memory>, usual: &Usual, trend: Trend) -> bool {
        let thresholds = self.demands.on(of.key, of.head);
        let least = thresholds.least(self.metric);
        let known = of.head.values as usize + 1 >= thresholds.min_history;
        known
            && match trend {
                Trend::Rise => {
                    of.value >= least.max(usual.high)
                        && self.demand.holds(of.head)
                        && self.is_much_of_anybody(of)
                        && self.is_new_height(of)
                }
                // Who is always there may say little.
                Trend::Silence if self.is_companion(of) => true,
                Trend::Fall | Trend::Silence => {
                    usual.high >= least && of.value < usual.low && self.demand.holds(of.head)
                }
            }
    }

    /// Who was seen in few intervals says little about itself: it is told of where it would be told of a stranger.
    fn is_much_of_anybody(&self, of: &series::Newest<'_, D::Memory>) -> bool {
        let Some((newcomers, budget)) = self.strangers else { return true };
        of.head.busy >= EXPERIENCED
            || newcomers.would_tell(of.head.role, of.value, self.interval, self.least, budget)
    }

    /// It has carried hardly as much of late. What comes nightly is as large, now and then; levels without newcomers have
    /// their hours to tell.
    fn is_new_height(&self, of: &series::Newest<'_, D::Memory>) -> bool {
        self.strangers.is_none() || {
            let ago = of.series.since_as_much(of.value / HEIGHT, self.interval.now);
            ago.is_none_or(|ago| ago > intervals(REMEMBERED, self.interval.length))
        }
    }

    /// A pair that was known for a day, and has missed several of the times at which it comes.
    fn is_companion(&self, of: &series::Newest<'_, D::Memory>) -> bool {
        let Head { values, busy, idle, .. } = *of.head;
        let period = f64::from(values) / f64::from(busy.max(1));
        matches!(of.key, SeriesKey::Pair { .. })
            && busy >= EXPERIENCED
            && values >= intervals(YOUNG, self.interval.length)
            && f64::from(idle) + 1.0 >= MISSED * period
    }
}
