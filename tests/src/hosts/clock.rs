//! When an interval is, and how busy people are then.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand_distr::{Distribution, StandardNormal};
use wherefore::time::Timestamp;

/// Seconds of a day.
pub const DAY: f64 = 86_400.0;
/// Seconds of an hour.
pub const HOUR: f64 = 3_600.0;
/// Monday, 2026-03-02, at midnight, in seconds since 1970. Hosts live in UTC.
const MONDAY: u64 = 1_772_409_600;

/// An interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clock {
    /// Day of the week on which counting began, 0 is Monday; it began at midnight.
    pub first_day: u64,
    /// Seconds from then to the interval's beginning.
    pub start: f64,
    /// Its length in seconds.
    pub length: f64,
}

impl Clock {
    /// Seconds since counting began, at the interval's end.
    #[must_use]
    pub fn end(&self) -> f64 {
        self.start + self.length
    }

    /// Hour of the day, 0 to 24.
    #[must_use]
    pub fn hour(&self) -> f64 {
        (self.start % DAY) / HOUR
    }

    /// Saturday or Sunday.
    #[must_use]
    pub fn weekend(&self) -> bool {
        (self.first_day + (self.start / DAY) as u64) % 7 >= 5
    }

    /// A moment of the interval, or any other, as the wall clock's time.
    #[must_use]
    pub fn wall(&self, seconds: f64) -> Timestamp {
        let midnight = Timestamp((MONDAY + self.first_day * 86_400) * 1_000_000_000);
        midnight.plus(Duration::from_secs_f64(seconds))
    }

    /// How often something comes in this interval that comes at `offset` seconds of every `period`: the moments.
    pub fn moments(&self, period: f64, offset: f64) -> impl Iterator<Item = f64> + use<> {
        let end = self.end();
        let first = ((self.start - offset) / period).ceil().max(0.0);
        (0..).map(move |n| offset + (first + f64::from(n)) * period).take_while(move |moment| *moment < end)
    }
}

/// How busy a day's hours are; 1 at the busiest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Curve {
    /// Always the same.
    Flat,
    /// Visitors of a public service: busiest in the afternoon, a seventh of it at night, fewer at week-ends.
    Public,
    /// People at work: 8 to 18 h with a dip at noon, hardly anybody at night and at week-ends.
    Office,
    /// People at home: busiest at 21 h, more at week-ends by day.
    Home,
}

impl Curve {
    /// The share of the busiest hour.
    #[must_use]
    pub fn at(self, clock: &Clock) -> f64 {
        let hour = clock.hour();
        // 1 at `peak`, 0 twelve hours away.
        let wave = |peak: f64| 0.5 + 0.5 * ((hour - peak) / 24.0 * std::f64::consts::TAU).cos();
        // From 0 to 1 around `from`, within an hour or so.
        let rise = |from: f64| 1.0 / (1.0 + (-3.0 * (hour - from)).exp());
        match self {
            Self::Flat => 1.0,
            Self::Public => (0.14 + 0.86 * wave(15.0).powf(1.3)) * if clock.weekend() { 0.6 } else { 1.0 },
            Self::Office => {
                let noon = 1.0 - 0.3 * (-(hour - 12.5).powi(2) / 0.5).exp();
                let present = rise(8.5) * (1.0 - rise(17.5)) * noon;
                if clock.weekend() { 0.02 + 0.05 * present } else { 0.02 + 0.98 * present }
            }
            Self::Home => {
                let evening = wave(21.0).powi(3);
                let day = if clock.weekend() { 0.6 } else { 0.25 } * wave(14.0);
                (0.04 + 0.96 * evening).max(day)
            }
        }
    }
}

/// A factor that wanders around 1, as demand does for no reason that a host knows: the exponential of an
/// Ornstein-Uhlenbeck process.
#[derive(Clone, Debug, Default)]
pub struct Wander {
    state: f64,
}

impl Wander {
    /// Standard deviation of the logarithm.
    const DEVIATION: f64 = 0.25;
    /// Seconds in which it forgets where it was.
    const MEMORY: f64 = 900.0;

    /// The factor of the next interval.
    pub fn next(&mut self, clock: &Clock, random: &mut SmallRng) -> f64 {
        let kept = (-clock.length / Self::MEMORY).exp();
        let noise: f64 = StandardNormal.sample(random);
        self.state = kept * self.state + Self::DEVIATION * (1.0 - kept * kept).sqrt() * noise;
        self.state.exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(day: u64, hour: f64) -> Clock {
        Clock { first_day: day, start: hour * HOUR, length: 60.0 }
    }

    #[test]
    fn moments_come_once_whatever_the_interval() {
        for length in [5.0, 60.0] {
            let clock = |n: f64| Clock { first_day: 0, start: n * length, length };
            let all: Vec<f64> =
                (0..(DAY / length) as u32).flat_map(|n| clock(f64::from(n)).moments(HOUR, 90.0)).collect();
            assert_eq!(all, (0..24).map(|hour| f64::from(hour) * HOUR + 90.0).collect::<Vec<_>>());
        }
    }

    #[test]
    fn days_have_their_shape() {
        let at_night = |curve: Curve| curve.at(&at(1, 3.0)) / curve.at(&at(1, 15.0));
        assert!(at_night(Curve::Public) < 0.2 && at_night(Curve::Office) < 0.05);
        assert!(Curve::Office.at(&at(5, 10.0)) < 0.1 && Curve::Public.at(&at(6, 15.0)) < 0.7);
        assert!(Curve::Home.at(&at(1, 21.0)) > 0.95);
        for curve in [Curve::Flat, Curve::Public, Curve::Office, Curve::Home] {
            for hour in 0..168 {
                let share = curve.at(&Clock { start: f64::from(hour) * HOUR, ..at(0, 0.0) });
                assert!((0.0..=1.0).contains(&share), "{curve:?} {hour}: {share}");
            }
        }
    }

    #[test]
    fn weeks_begin_on_monday() {
        assert_eq!(at(0, 0.0).wall(0.0).to_string(), "2026-03-02T00:00:00.000000000Z");
        let weekend: Vec<bool> = (0..7).map(|day| at(day, 1.0).weekend()).collect();
        assert_eq!(weekend, [false, false, false, false, false, true, true]);
        assert!(Clock { start: 5.0 * DAY, ..at(0, 0.0) }.weekend());
    }
}
