//! How rare a large event is among events that come now and then: what newcomers are judged by.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{of_decades, per_day, threshold_decades};
use crate::time::Timestamp;

/// Days for which rates are remembered, and events for which sizes are.
const MEMORY: f64 = 7.0;
const EVENTS: f64 = 200.0;
/// An event ends with another one, or after so many hours without it.
const ENDS: f64 = 1.0;
/// Share of the events that lie above the foot of the tail.
const ABOVE: f64 = 0.2;
/// How many events the belief in [`SCALE`] is worth, and that scale: one in a hundred is ten times the least.
const PRIOR_EVENTS: f64 = 5.0;
const SCALE: f64 = 0.4;
/// An event rarer than one in a hundred of the tail teaches as much as one that is: the natural logarithm of 100.
const MOST_LEARNED: f64 = 4.6;
/// How many hours' intervals the rate of all hours is worth beside one hour's own.
const PRIOR_HOURS: f64 = 1.0;

/// Learned rates and sizes of events that come at most once an interval.
///
/// An event is a value of at least some least one; what goes on counts once, as large as it became, when it is over. How
/// often they come is counted, over all and by hour of the day (UTC). The largest fifth of them are taken for a
/// Pareto distribution: the logarithms of their sizes have a mean excess `scale` over their foot (Hill 1975), drawn
/// towards a prior while there are few. The foot is found by stochastic approximation (Robbins and Monro 1951).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rare {
    all: Rate,
    hours: [Rate; 24],
    /// Events, and those above the foot; both fade together with the sum of these ones' excesses.
    events: f32,
    above: f32,
    excesses: f32,
    /// Logarithm of a multiple of the least, as all sizes.
    foot: f32,
    running: Option<Running>,
}

/// Intervals and events; both fade.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Rate {
    intervals: f32,
    events: f32,
}

/// The event that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Running {
    size: f32,
    hour: u8,
    /// Intervals without it.
    missed: u32,
}

impl Rate {
    fn pass(&mut self, keep: f64) {
        self.intervals = (f64::from(self.intervals) * keep) as f32 + 1.0;
        self.events = (f64::from(self.events) * keep) as f32;
    }
}

impl Rare {
    /// One minus how often as large an event comes, per interval; 0 for what is none.
    #[must_use]
    pub fn probability(&self, value: f64, least: f64, time: Timestamp, interval: Duration) -> f64 {
        if value < least {
            return 0.0;
        }
        of_decades(self.rate_decades(time, interval) + self.size_decades((value / least).ln()))
    }

    /// The largest value of at most this probability; `least` where every event has more.
    #[must_use]
    pub fn limit(&self, probability: f64, least: f64, time: Timestamp, interval: Duration) -> f64 {
        let decades = -(1.0 - probability).log10() - self.rate_decades(time, interval);
        least * self.size_of(decades.max(0.0)).exp()
    }

    /// The probability whose alarms cost `budget` a day.
    #[must_use]
    pub fn threshold(budget: f64, interval: Duration) -> f64 {
        of_decades(threshold_decades(1.0, per_day(interval), budget))
    }

    /// Takes an interval in. `goes_on`: its event is the last one.
    pub fn learn(&mut self, value: f64, least: f64, time: Timestamp, interval: Duration, goes_on: bool) {
        let day = per_day(interval);
        let keep = |intervals: f64| 1.0 - 1.0 / intervals.max(1.0);
        let (hour, _) = time.hour();
        self.all.pass(keep(MEMORY * day));
        self.hours[hour].pass(keep(MEMORY * day / 24.0));

        let is_event = value >= least;
        if let Some(running) = &mut self.running {
            running.missed = if is_event && goes_on { 0 } else { running.missed.saturating_add(1) };
            if (is_event && !goes_on) || f64::from(running.missed) >= ENDS * day / 24.0 {
                self.end();
            }
        }
        if is_event {
            let size = (value / least).ln() as f32;
            let running = self.running.get_or_insert(Running { size, hour: hour as u8, missed: 0 });
            running.size = running.size.max(size);
        }
    }

    /// The event that went on is over.
    fn end(&mut self) {
        let Some(Running { size, hour, .. }) = self.running.take() else { return };
        self.all.events += 1.0;
        self.hours[usize::from(hour)].events += 1.0;

        // Half of the events count: the first ones were held against a foot that was still to be found.
        let window = PRIOR_EVENTS + f64::from(self.events) / 2.0;
        for (sum, window) in
            [(&mut self.events, EVENTS), (&mut self.above, window), (&mut self.excesses, window)]
        {
            *sum = (f64::from(*sum) * (1.0 - 1.0 / window)) as f32;
        }
        let scale = self.scale();
        let excess = f64::from(size - self.foot);
        let is_above = excess > 0.0;
        self.events += 1.0;
        if is_above {
            self.above += 1.0;
            self.excesses += excess.min(MOST_LEARNED * scale) as f32;
        }
        let step = scale / f64::from(self.events).sqrt();
        let moved = f64::from(self.foot) + step * (f64::from(u8::from(is_above)) - ABOVE);
        self.foot = moved.max(0.0) as f32;
    }

    fn rate_decades(&self, time: Timestamp, interval: Duration) -> f64 {
        let all = (f64::from(self.all.events) + 1.0) / (f64::from(self.all.intervals) + 1.0);
        let Rate { intervals, events } = self.hours[time.hour().0];
        let prior = PRIOR_HOURS * per_day(interval) / 24.0;
        -((f64::from(events) + prior * all) / (f64::from(intervals) + prior)).log10()
    }

    /// Minus the decimal logarithm of the share of the events that are larger.
    fn size_decades(&self, size: f64) -> f64 {
        let foot = f64::from(self.foot);
        if size < foot {
            return self.foot_decades() * size / foot;
        }
        let beyond = (size - foot) / self.scale() / std::f64::consts::LN_10;
        beyond + self.foot_decades()
    }

    /// The size of which it is `decades`.
    fn size_of(&self, decades: f64) -> f64 {
        let foot = f64::from(self.foot);
        let at_foot = self.foot_decades();
        if decades < at_foot {
            return foot * decades / at_foot;
        }
        foot + (decades - at_foot) * self.scale() * std::f64::consts::LN_10
    }

    /// Minus the decimal logarithm of the share above the foot; all are above one of nothing.
    fn foot_decades(&self) -> f64 {
        if self.foot <= 0.0 {
            return 0.0;
        }
        let few = PRIOR_EVENTS / (f64::from(self.events) + PRIOR_EVENTS);
        -(few + (1.0 - few) * ABOVE).log10()
    }

    fn scale(&self) -> f64 {
        (f64::from(self.excesses) + PRIOR_EVENTS * SCALE) / (f64::from(self.above) + PRIOR_EVENTS)
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(minute: u64) -> Timestamp {
        Timestamp(minute * 60_000_000_000)
    }

    fn decades(rare: &Rare, value: f64, minute: u64) -> f64 {
        -(1.0 - rare.probability(value, 1e5, at(minute), MINUTE)).log10()
    }

    /// Events of a Pareto distribution with this index, in one of a hundred minutes.
    fn learned(index: f64, minutes: u64) -> Rare {
        let (mut rng, mut rare) = (SmallRng::seed_from_u64(1), Rare::default());
        for minute in 0..minutes {
            let size = 1e5 * rng.random::<f64>().powf(-1.0 / index);
            let value = if minute % 100 == 0 { size } else { 0.0 };
            rare.learn(value, 1e5, at(minute), MINUTE, false);
        }
        rare
    }

    /// Of such events one in 10^(d index) is 10^d times the least, and one in a hundred intervals has any.
    #[test]
    fn pareto_events_have_their_decades() {
        for index in [1.0, 2.0] {
            let rare = learned(index, 50_000);
            for size in [1.0, 2.0, 3.0] {
                let (found, truth) = (decades(&rare, 1e5 * 10_f64.powf(size), 50_000), 2.0 + size * index);
                assert!((found - truth).abs() < 0.2 * truth, "index {index}: {found} for {truth}");
            }
        }
    }

    #[test]
    fn what_goes_on_counts_once_and_only_when_it_is_over() {
        let mut rare = learned(1.0, 5_000);
        let before = decades(&rare, 5e7, 5_000);
        for minute in 5_000..5_030 {
            rare.learn(5e7, 1e5, at(minute), MINUTE, minute > 5_000);
            assert!(decades(&rare, 5e7, 5_000) >= before - 0.01);
        }
        let events = rare.events;
        for minute in 5_030..5_100 {
            rare.learn(0.0, 1e5, at(minute), MINUTE, false);
        }
        assert!(rare.events > events && rare.events <= events + 1.0, "{events} {}", rare.events);
    }

    #[test]
    fn an_hour_at_which_something_comes_daily_expects_it() {
        let mut rare = Rare::default();
        for minute in 0..7 * 1_440 {
            let nightly = minute % 1_440 == 120;
            rare.learn(if nightly { 1e8 } else { 0.0 }, 1e5, at(minute), MINUTE, false);
        }
        let (night, day) = (decades(&rare, 1e8, 7 * 1_440 + 120), decades(&rare, 1e8, 7 * 1_440 + 720));
        assert!(day > night + 1.0, "{day} {night}");
    }

    #[test]
    fn less_than_the_least_is_nothing_and_a_limit_is_where_the_verdict_turns() {
        let rare = learned(1.0, 5_000);
        assert_eq!(rare.probability(99_999.0, 1e5, at(7), MINUTE), 0.0);
        let threshold = Rare::threshold(0.01, MINUTE);
        let limit = rare.limit(threshold, 1e5, at(7), MINUTE);
        assert!(rare.probability(limit * 0.999, 1e5, at(7), MINUTE) <= threshold);
        assert!(rare.probability(limit * 1.001, 1e5, at(7), MINUTE) > threshold);
    }
}
