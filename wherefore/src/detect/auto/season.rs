//! What is usual at this hour of the day.

use serde::{Deserialize, Serialize};

use super::Tail;
use crate::time::Timestamp;

/// Days an hour must have been seen on before.
const DAYS: u8 = 2;
/// Values of an hour are remembered for this many hours' worth of them: a week.
const MEMORY: f64 = 7.0;
/// Share of an hour's own deviation in what its residuals are measured by; the rest is that of all hours.
const OWN: f64 = 0.75;
/// A residual of more than this many deviations teaches as much as one that is.
const MOST_LEARNED: f64 = 10.0;
/// Share of its distance to the mean by which a day's extreme fades each day, and by which a value may go beyond.
const FADING: f32 = 0.05;
const MARGIN: f32 = 0.1;
/// Rate of the mean logarithm: over some ten values.
const LOGARITHM: f32 = 2.0 / 11.0;
/// Residuals count up to this many deviations where they are smoothed.
const MOST_SMOOTHED: f64 = 30.0;

/// One hour of the day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Hour {
    mean: f32,
    /// Mean distance from the mean.
    deviation: f32,
    values: u32,
    /// Days since 1970 of the last value.
    day: u32,
    /// Days it was seen on, up to 255.
    days: u8,
    /// Highest and lowest value of the day that goes on, and the two highest and lowest of those before.
    today: Range,
    highest: [f32; 2],
    lowest: [f32; 2],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Range {
    low: f32,
    high: f32,
}

impl Hour {
    /// Days it was seen on before `day`.
    fn earlier(&self, day: u32) -> u8 {
        self.days - u8::from(self.days > 0 && self.day == day)
    }

    /// Begins another day. What was highest and lowest fades towards the mean, so that it is not known for ever.
    fn turn(&mut self) {
        let Range { low, high } = self.today;
        if self.days <= 1 {
            (self.highest, self.lowest) = ([high, f32::MIN], [low, f32::MAX]);
            return;
        }
        let fade =
            |value: f32| if value.abs() < f32::MAX { value - FADING * (value - self.mean) } else { value };
        let ([a, b], [c, d]) = (self.highest.map(fade), self.lowest.map(fade));
        self.highest = if high > a { [high, a] } else { [a, b.max(high)] };
        self.lowest = if low < c { [low, c] } else { [c, d.min(low)] };
    }
}

/// Mean, mean deviation and range by hour of the day (UTC), and the tails of what is judged by them: 1.2 kB.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Season {
    hours: [Hour; 24],
    /// Mean deviation of all hours.
    deviation: f32,
    values: u32,
    /// The residual, smoothed over a few and over many values.
    short: f32,
    long: f32,
    pub(super) point: Tail,
    pub(super) level: Tail,
    /// Mean logarithm of the last values, and the tail of what lies below it.
    logarithm: f32,
    pub(super) drop: Tail,
}

/// A value as this hour sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Residual {
    /// From the hour's mean, in deviations.
    pub point: f64,
    /// Smoothed over a few values, this one included.
    pub short: f64,
    /// Smoothed over many.
    pub long: f64,
    /// The hour's mean.
    pub usual: f64,
    /// What one deviation is.
    pub deviation: f64,
}

impl Season {
    /// `None` before the hour was seen on two earlier days. `short` and `long` are the rates of smoothing.
    pub(super) fn residual(&self, time: Timestamp, value: f64, short: f64, long: f64) -> Option<Residual> {
        let (index, day) = time.hour();
        let hour = &self.hours[index];
        let deviation = mixed(hour.deviation, self.deviation);
        if hour.earlier(day) < DAYS || deviation <= 0.0 {
            return None;
        }
        let usual = f64::from(hour.mean);
        let point = (value - usual) / deviation;
        let smoothed = |before: f32, rate: f64| {
            f64::from(before) + rate * (point.clamp(-MOST_SMOOTHED, MOST_SMOOTHED) - f64::from(before))
        };
        Some(Residual {
            point,
            short: smoothed(self.short, short),
            long: smoothed(self.long, long),
            usual,
            deviation,
        })
    }

    /// Whether this hour, the one before or the one after had values as high and as low on two earlier days: what comes
    /// every night is known, however unlike the rest of the day.
    pub(super) fn knows(&self, time: Timestamp, value: f64) -> bool {
        let (index, day) = time.hour();
        let (mut low, mut high) = (f32::MAX, f32::MIN);
        for hour in [index + 23, index, index + 1].map(|index| &self.hours[index % 24]) {
            if hour.earlier(day) >= DAYS {
                (low, high) = (low.min(hour.lowest[1]), high.max(hour.highest[1]));
            }
        }
        let margin = MARGIN * (high - low).max(0.0);
        (low - margin..=high + margin).contains(&(value as f32))
    }

    /// How far the logarithm of a value lies below those before; 0 where it lies above, or the value is negative.
    pub(super) fn below(&self, value: f64) -> f64 {
        if value < 0.0 { 0.0 } else { (f64::from(self.logarithm) - value.ln_1p()).max(0.0) }
    }

    /// Takes a value in. `day_values`: values in a day; `rate`: that of the long memory.
    pub(super) fn learn(
        &mut self,
        time: Timestamp,
        value: f64,
        residual: Option<Residual>,
        day_values: f64,
        rate: f64,
    ) {
        if let Some(residual) = residual {
            (self.short, self.long) = (residual.short as f32, residual.long as f32);
        }
        self.drop.learn(self.below(value), day_values);
        let logarithm = value.max(0.0).ln_1p() as f32;
        self.logarithm += LOGARITHM * (logarithm - self.logarithm);
        let (index, day) = time.hour();
        let hour = &mut self.hours[index];
        // A clock that was set back brings no new day.
        if hour.days == 0 || day > hour.day {
            if hour.days > 0 {
                hour.turn();
            }
            hour.days = hour.days.saturating_add(1);
            hour.day = day;
            hour.today = Range { low: value as f32, high: value as f32 };
        }
        hour.today.low = hour.today.low.min(value as f32);
        hour.today.high = hour.today.high.max(value as f32);
        let mut distance = (value - f64::from(hour.mean)).abs();
        if hour.values > 20 && hour.deviation > 0.0 {
            let deviation = mixed(hour.deviation, self.deviation);
            distance = distance.min(MOST_LEARNED * deviation);
        }
        hour.values = hour.values.saturating_add(1);
        let own = (1.0 / f64::from(hour.values)).max(1.0 / (MEMORY * day_values / 24.0).max(1.0));
        if hour.values > 1 {
            hour.deviation += (own * (distance - f64::from(hour.deviation))) as f32;
            self.values = self.values.saturating_add(1);
            let all = (1.0 / f64::from(self.values)).max(rate);
            self.deviation += (all * (distance - f64::from(self.deviation))) as f32;
        }
        hour.mean += (own * (value - f64::from(hour.mean))) as f32;
    }
}

/// An hour's deviation, drawn towards that of all hours.
fn mixed(own: f32, all: f32) -> f64 {
    OWN * f64::from(own) + (1.0 - OWN) * f64::from(all)
}
