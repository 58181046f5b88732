//! How rare a large event is among events that come now and then: what newcomers are judged by.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{of_decades, per_day, threshold_decades};
use crate::time::Timestamp;

/// Days that are remembered.
const MEMORY: f64 = 7.0;
/// How many events the belief in [`SCALE`] is worth, and that scale: one in a hundred is ten times the least.
const PRIOR_EVENTS: f64 = 5.0;
const SCALE: f64 = 0.5;
/// An event rarer than one in a hundred of them teaches as much as one that is: the natural logarithm of 100.
const MOST_LEARNED: f64 = 4.6;
/// How many hours' intervals the rate of all hours is worth beside one hour's own.
const PRIOR_HOURS: f64 = 1.0;

/// Learned rates and sizes of events that come at most once an interval.
///
/// An event is a value of at least some least one. How often they come is counted, over all and by hour of the day (UTC);
/// how large they are is taken for a Pareto distribution above the least: the logarithm of its multiple has the mean
/// `scale` (Hill 1975), drawn towards [`SCALE`] while there are few.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rare {
    all: Rate,
    hours: [Rate; 24],
    /// Sum of the events' logarithms.
    logarithms: f32,
    /// That of the last event.
    last: f32,
}

/// Intervals and events; both fade.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Rate {
    intervals: f32,
    events: f32,
}

impl Rate {
    fn learn(&mut self, event: bool, keep: f64) {
        self.intervals = (f64::from(self.intervals) * keep) as f32 + 1.0;
        self.events = (f64::from(self.events) * keep) as f32 + f32::from(u8::from(event));
    }
}

impl Rare {
    /// One minus how often as large an event comes, per interval; 0 for what is none.
    #[must_use]
    pub fn probability(&self, value: f64, least: f64, time: Timestamp, interval: Duration) -> f64 {
        let multiple = value / least;
        if multiple < 1.0 {
            return 0.0;
        }
        of_decades(self.rate_decades(time, interval) + multiple.log10() / self.scale())
    }

    /// The largest value of at most this probability; `least` where every event has more.
    #[must_use]
    pub fn limit(&self, probability: f64, least: f64, time: Timestamp, interval: Duration) -> f64 {
        let decades = -(1.0 - probability).log10();
        let beyond = (decades - self.rate_decades(time, interval)).max(0.0);
        least * 10_f64.powf(beyond * self.scale())
    }

    /// The probability whose alarms cost `budget` a day.
    #[must_use]
    pub fn threshold(budget: f64, interval: Duration) -> f64 {
        of_decades(threshold_decades(1.0, per_day(interval), budget))
    }

    /// Takes an interval in. `goes_on`: its event is the one of the last, which counts once, as large as it becomes.
    pub fn learn(&mut self, value: f64, least: f64, time: Timestamp, interval: Duration, goes_on: bool) {
        let multiple = value / least;
        let is_event = multiple >= 1.0;
        let logarithm = multiple.max(1.0).ln().min(MOST_LEARNED * self.scale()) as f32;
        let day = per_day(interval);
        let keep = 1.0 - 1.0 / (MEMORY * day).max(1.0);
        self.logarithms = (f64::from(self.logarithms) * keep) as f32;
        let begins = is_event && !goes_on;
        self.all.learn(begins, keep);
        self.hours[time.hour().0].learn(begins, 1.0 - 24.0 / (MEMORY * day).max(24.0));
        if begins {
            self.logarithms += logarithm;
            self.last = logarithm;
        } else if is_event && logarithm > self.last {
            self.logarithms += logarithm - self.last;
            self.last = logarithm;
        }
    }

    fn rate_decades(&self, time: Timestamp, interval: Duration) -> f64 {
        let all = (f64::from(self.all.events) + 1.0) / (f64::from(self.all.intervals) + 1.0);
        let Rate { intervals, events } = self.hours[time.hour().0];
        let prior = PRIOR_HOURS * per_day(interval) / 24.0;
        -((f64::from(events) + prior * all) / (f64::from(intervals) + prior)).log10()
    }

    /// Mean of the natural logarithm, which is that of the decimal one for decades.
    fn scale(&self) -> f64 {
        (f64::from(self.logarithms) + PRIOR_EVENTS * SCALE) / (f64::from(self.all.events) + PRIOR_EVENTS)
    }
}
