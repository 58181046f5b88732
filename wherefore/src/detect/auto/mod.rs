//! The default detector: several statistics of a series, each held against its own tail, and the rarest taken.
//!
//! docs/detection.md explains each statistic, and what it is blind for.

mod early;
mod season;
mod silence;

use std::time::Duration;

use arrayvec::ArrayVec;
use serde::{Deserialize, Serialize};

use self::season::Residual;
pub use self::season::Season;
use self::silence::Gaps;
use super::{
    Detector, Evaluation, MOST_PARTS, Newest, Part, of_decades, per_day,
    tail::{Tail, WARM_UP},
    threshold_decades,
};

/// Values over which the short mean reaches: its rate is 2/(11).
const SHORT: f64 = 2.0 / 11.0;
/// The same of the newest values' distribution: 52 values.
const SHAPE: f64 = 2.0 / 53.0;
/// Values over which the drift reaches, at least; more where an hour has more.
const DRIFT: f64 = 60.0;
/// Values that the long memory holds at least; more where a day has more.
const LONG: f64 = 2_000.0;
/// Bins of the distribution, over so many standard deviations either way.
const BINS: usize = 8;
const REACH: f64 = 2.5;
/// Where values never differed, the deviation is taken for this share of their mean; a statistic is never larger than so
/// many deviations.
const UNVARIED: f64 = 0.05;
const MOST_STATISTIC: f64 = 1e6;
/// A value of more than this many standard deviations teaches the long memory as much as one that is.
const MOST_LEARNED: f64 = 10.0;
/// Statistics that may raise an alert, each as often as the others.
const STATISTICS: f64 = 7.0;
/// Decades believed in beyond one in all the values seen.
const BEYOND: f64 = 5.0;
/// The same of one of many series.
const BEYOND_OF_MANY: f64 = 4.0;
/// The detector.
#[derive(Clone, Copy, Debug)]
pub struct Auto {
    /// Values in a day.
    day: f64,
    /// Rate of the long memory.
    long: f64,
    /// Rate of the drift.
    drift: f64,
}

/// What is remembered of a series: 300 bytes, and for coarse series the [`Season`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    values: u32,
    /// The value before.
    previous: f32,
    /// Long mean and variance.
    mean: f32,
    variance: f32,
    /// Short mean; mean square of what it missed by, over few values and over many.
    short: f32,
    missed: f32,
    missed_long: f32,
    /// Mean over [`DRIFT`].
    drift: f32,
    /// Mean step from value to value.
    step: f32,
    /// Share of the newest values, and of all, in each bin of the standardised values.
    newest: [f32; BINS],
    all: [f32; BINS],
    tails: Tails,
    gaps: Gaps,
    early: early::Start,
    season: Option<Box<Season>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Tails {
    level: Tail,
    step: Tail,
    shape: Tail,
    spike: Tail,
    drift: Tail,
}

/// The statistics of the newest value; those that do not apply are `None`. Signed: above what is usual, or below.
#[derive(Clone, Copy, Debug, Default)]
struct Statistics {
    level: f64,
    spike: f64,
    step: Option<f64>,
    shape: f64,
    drift: f64,
    residual: Option<Residual>,
}

impl Auto {
    /// For intervals of this length.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        let day = per_day(interval);
        Self { day, long: 1.0 / LONG.max(day), drift: 2.0 / (DRIFT.max(day / 24.0) + 1.0) }
    }

    fn statistics(&self, memory: &Memory, newest: &Newest<'_>) -> Statistics {
        let value = newest.value();
        let (mean, deviation) = (f64::from(memory.mean), f64::from(memory.variance).sqrt());
        let short = f64::from(memory.short);
        let unvaried =
            if memory.values >= WARM_UP { (UNVARIED * mean.abs()).max(f64::MIN_POSITIVE) } else { 0.0 };
        let per = |distance: f64, usual: f64| {
            // What never differed says nothing of how much it may.
            let usual = if usual > 0.0 { usual } else { unvaried };
            if usual > 0.0 { (distance / usual).clamp(-MOST_STATISTIC, MOST_STATISTIC) } else { 0.0 }
        };
        let by_deviation = |distance: f64| per(distance, deviation);
        let missed = f64::from(memory.missed).sqrt() + 0.1 * f64::from(memory.missed_long).sqrt();
        let residual =
            memory.season.as_ref().and_then(|season| season.residual(newest.time, value, SHORT, self.drift));
        let drift = f64::from(memory.drift);
        Statistics {
            level: by_deviation(short + SHORT * (value - short) - mean),
            spike: per(value - short, missed),
            step: (newest.missing == 0)
                .then(|| per(value - f64::from(memory.previous), f64::from(memory.step))),
            shape: shape(memory, bin(by_deviation(value - mean))),
            drift: residual
                .map_or_else(|| by_deviation(drift + self.drift * (value - drift) - mean), |r| r.long),
            residual,
        }
    }
}

/// Values become parts by their decades; the verdict is the rarest.
impl Detector for Auto {
    type Memory = Memory;

    fn start(&self, coarse: bool) -> Memory {
        Memory {
            newest: [1.0 / BINS as f32; BINS],
            all: [1.0 / BINS as f32; BINS],
            season: coarse.then(Box::default),
            ..Memory::default()
        }
    }

    fn evaluate(&mut self, memory: &Memory, newest: &Newest<'_>) -> Evaluation {
        if memory.values == 0 {
            return Evaluation::default();
        }
        let seen = f64::from(memory.values);
        let most = seen.log10() + BEYOND;
        let mut parts = ArrayVec::<Part, MOST_PARTS>::new();
        let mut add = |method, statistic: f64, decades: f64| {
            parts.push(Part { method, value: of_decades(decades.min(most)), weight: 1.0, statistic });
        };
        if memory.values >= WARM_UP {
            let Statistics { level, spike, step, shape, drift, residual } = self.statistics(memory, newest);
            let tails = &memory.tails;
            let known =
                memory.season.as_ref().is_some_and(|season| season.knows(newest.time, newest.value()));
            let unless_known =
                |tail: &Tail, statistic: f64| if known { 0.0 } else { tail.decades(statistic.abs()) };
            add("level", level, unless_known(&tails.level, level));
            add("spike", spike, unless_known(&tails.spike, spike));
            if let Some(step) = step {
                add("step", step, unless_known(&tails.step, step));
            }
            add("shape", shape, tails.shape.decades(shape));
            add("drift", drift, tails.drift.decades(drift.abs()));
            if let (Some(residual), Some(season)) = (residual, &memory.season) {
                add("hour", residual.point, unless_known(&season.point, residual.point));
                add("hour-level", residual.short, unless_known(&season.level, residual.short));
            }
            if let Some(season) = &memory.season {
                let drop = season.below(newest.value());
                add("drop", -drop, unless_known(&season.drop, drop));
            }
            if newest.value() == 0.0 {
                let gap = memory.gaps.running() + 1.0;
                add("silence", -gap, memory.gaps.decades(gap));
            }
        } else if memory.season.is_some() {
            let (statistic, decades) = memory.early.judge(newest.value());
            // Student's distribution allows for the few values itself.
            parts.push(Part { method: "early", value: of_decades(decades), weight: 1.0, statistic });
        }
        Evaluation { probability: parts.iter().map(|part| part.value).fold(0.0, f64::max), parts }
    }

    fn learn(&self, memory: &mut Memory, newest: &Newest<'_>, _: &Evaluation) {
        let value = newest.value();
        if memory.values == 0 {
            (memory.mean, memory.short, memory.drift) = (value as f32, value as f32, value as f32);
            memory.previous = value as f32;
        } else {
            let statistics = self.statistics(memory, newest);
            self.learn_tails(memory, &statistics);
            self.learn_values(memory, value, &statistics);
            if let Some(season) = &mut memory.season {
                season.learn(newest.time, value, statistics.residual, self.day, self.long);
            }
        }
        memory.gaps.learn(value == 0.0);
        if memory.values < WARM_UP {
            memory.early.learn(value);
        }
        memory.values = memory.values.saturating_add(1);
    }

    fn keeps(&self) -> usize {
        1
    }

    fn least(&self) -> usize {
        WARM_UP as usize + 1
    }

    fn most_of_many(&self, values: u32) -> f64 {
        of_decades(f64::from(values.max(1)).log10() + BEYOND_OF_MANY)
    }

    fn threshold(&self, budget: f64) -> f64 {
        of_decades(threshold_decades(STATISTICS, self.day, budget))
    }
}

impl Auto {
    fn learn_tails(&self, memory: &mut Memory, statistics: &Statistics) {
        let Statistics { level, spike, step, shape, drift, residual } = *statistics;
        let Memory { tails, season, .. } = memory;
        tails.level.learn(level.abs(), self.day);
        tails.spike.learn(spike.abs(), self.day);
        if let Some(step) = step {
            tails.step.learn(step.abs(), self.day);
        }
        tails.shape.learn(shape, self.day);
        tails.drift.learn(drift.abs(), self.day);
        if let (Some(residual), Some(season)) = (residual, season) {
            season.point.learn(residual.point.abs(), self.day);
            season.level.learn(residual.short.abs(), self.day);
        }
    }

    fn learn_values(&self, memory: &mut Memory, value: f64, statistics: &Statistics) {
        let seen = f64::from(memory.values) + 1.0;
        let rate = |rate: f64| rate.max(1.0 / seen);
        let deviation = f64::from(memory.variance).sqrt();
        let distance = value - f64::from(memory.mean);
        let bin = bin(if deviation > 0.0 { distance / deviation } else { 0.0 });
        let held = if seen > 50.0 && deviation > 0.0 {
            distance.clamp(-MOST_LEARNED * deviation, MOST_LEARNED * deviation)
        } else {
            distance
        };
        let long = rate(self.long);
        memory.mean += (long * held) as f32;
        memory.variance = ((1.0 - long) * (f64::from(memory.variance) + long * held * held)) as f32;

        let missed = value - f64::from(memory.short);
        memory.short += (SHORT * missed) as f32;
        memory.missed = ((1.0 - SHORT) * (f64::from(memory.missed) + SHORT * missed * missed)) as f32;
        memory.missed_long += (rate(2.0 * self.long) * f64::from(memory.missed - memory.missed_long)) as f32;
        memory.drift += (self.drift * (value - f64::from(memory.drift))) as f32;
        if statistics.step.is_some() {
            let step = (value - f64::from(memory.previous)).abs();
            memory.step += (rate(4.0 * self.long) * (step - f64::from(memory.step))) as f32;
        }
        memory.previous = value as f32;

        for (shares, rate) in [(&mut memory.newest, SHAPE), (&mut memory.all, long)] {
            for share in shares.iter_mut() {
                *share *= (1.0 - rate) as f32;
            }
            shares[bin] += rate as f32;
        }
    }
}

/// The bin of a standardised value; the outer ones are open.
fn bin(standardised: f64) -> usize {
    let position = (standardised + REACH) / (2.0 * REACH) * BINS as f64;
    (position.max(0.0) as usize).min(BINS - 1)
}

/// Relative entropy (Kullback and Leibler 1951) of the newest values' distribution, one more in `bin`, to that of all.
fn shape(memory: &Memory, bin: usize) -> f64 {
    const EMPTY: f32 = 1e-4;
    const RATE: f32 = SHAPE as f32;
    let mut sum = 0.0;
    for (i, (&newest, &all)) in memory.newest.iter().zip(&memory.all).enumerate() {
        let newest = newest * (1.0 - RATE) + if i == bin { RATE } else { 0.0 };
        sum += newest * ((newest + EMPTY) / (all + EMPTY)).ln();
    }
    f64::from(sum)
}

#[cfg(test)]
mod tests;
