//! Seeded traffic of 5 s intervals: what is calm, and what is not.

use std::f64::consts::TAU;

use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::{defaults, interval};

/// Intervals of a calm run: 7 hours.
const CALM: u64 = 5_000;
/// Hosts of each kind and size.
const HOSTS: usize = 4;
/// Mean bytes per interval: from a chat to a gigabit link kept full.
const SIZES: [f64; 5] = [1e3, 1e4, 1e5, 1e6, 6e8];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Steady,
    /// Evenly spread over half to one and a half times the mean.
    Noisy,
    /// On for 4 intervals on average, off for 10, noisy while on.
    Chatty,
    /// On for 2 intervals on average, off for 10 minutes.
    Rare,
    /// Tenfold between night and noon, noisy by 30 %; a day in 17,280 intervals.
    Diurnal,
    /// A tenfold rise and fall within 20 minutes.
    Tides,
    /// Packets at random, 10 per interval on average.
    Poisson,
    /// Packets at random, one in three intervals.
    Sparse,
    /// Spread as web transfers are: log-normal, sigma 0.5.
    Uneven,
    /// On and off as Rare, spread as Uneven.
    RareUneven,
}

const KINDS: [Kind; 10] = [
    Kind::Steady,
    Kind::Noisy,
    Kind::Chatty,
    Kind::Rare,
    Kind::Diurnal,
    Kind::Tides,
    Kind::Poisson,
    Kind::Sparse,
    Kind::Uneven,
    Kind::RareUneven,
];

struct Host {
    kind: Kind,
    size: f64,
    rng: SmallRng,
    on: bool,
}

impl Host {
    fn new(kind: Kind, size: f64, seed: u64) -> Self {
        Self { kind, size, rng: SmallRng::seed_from_u64(seed), on: true }
    }

    fn toggle(&mut self, mean_on: f64, mean_off: f64) -> f64 {
        let mean = if self.on { mean_on } else { mean_off };
        if self.rng.random_bool(1.0 / mean) {
            self.on = !self.on;
        }
        if self.on { self.rng.random_range(0.5..1.5) } else { 0.0 }
    }

    /// Knuth's product of uniform numbers.
    fn poisson(&mut self, mean: f64) -> f64 {
        let (limit, mut product, mut count) = ((-mean).exp(), self.rng.random::<f64>(), 0.0);
        while product > limit {
            product *= self.rng.random::<f64>();
            count += 1.0;
        }
        count
    }

    /// Box and Muller's normal number.
    fn log_normal(&mut self) -> f64 {
        let (u, v) = (1.0 - self.rng.random::<f64>(), self.rng.random::<f64>());
        (0.5 * (-2.0 * u.ln()).sqrt() * (TAU * v).cos()).exp()
    }

    fn bytes(&mut self, time: u64) -> u64 {
        let wave = |period: f64| (1.0 + 0.818 * (TAU * time as f64 / period).sin()) / 1.818;
        let share = match self.kind {
            Kind::Steady => 1.0,
            Kind::Noisy => self.rng.random_range(0.5..1.5),
            Kind::Chatty => self.toggle(4.0, 10.0),
            Kind::Rare => self.toggle(2.0, 120.0),
            Kind::Diurnal => wave(17_280.0) * self.rng.random_range(0.7..1.3),
            Kind::Tides => wave(480.0) * self.rng.random_range(0.7..1.3),
            Kind::Poisson => self.poisson(10.0) / 10.0,
            Kind::Sparse => self.poisson(1.0 / 3.0) * self.rng.random_range(0.05..1.5),
            Kind::Uneven => self.log_normal(),
            Kind::RareUneven => {
                let on = self.toggle(2.0, 120.0) > 0.0;
                if on { self.log_normal() } else { 0.0 }
            }
        };
        (share * self.size) as u64
    }
}

fn hosts() -> Vec<Host> {
    let mut hosts = Vec::new();
    for kind in KINDS {
        for size in SIZES {
            for _ in 0..HOSTS {
                hosts.push(Host::new(kind, size, hosts.len() as u64));
            }
        }
    }
    hosts
}

#[test]
fn calm_traffic_raises_nothing() {
    let (mut judge, mut hosts) = (defaults(), hosts());
    let mut false_alarms = Vec::new();
    for time in 0..CALM {
        let bytes: Vec<u64> = hosts.iter_mut().map(|host| host.bytes(time)).collect();
        for finding in judge.judge(&interval(time, &bytes)) {
            let std::net::IpAddr::V4(src) = finding.series.ends().unwrap().0 else {
                unreachable!("IPv4 only")
            };
            let host = &hosts[(src.to_bits() - 0xC633_6400) as usize];
            false_alarms.push(format!("{time}: {:?} {} {:?}", host.kind, host.size, finding.history));
        }
    }
    assert!(false_alarms.is_empty(), "{}:\n{}", false_alarms.len(), false_alarms.join("\n"));
}

/// A hundred times the mean, against every kind and size that makes 100 kB of it, for 50 seeds each.
#[test]
fn a_hundredfold_burst_fires_at_once() {
    let mut missed = Vec::new();
    for kind in KINDS {
        // A series that is silent most of the time needs three busy intervals before a busy one can be
        // unusual.
        let calm = match kind {
            Kind::Chatty | Kind::Sparse => 100,
            Kind::Rare | Kind::RareUneven => 1_500,
            _ => 10,
        };
        for size in [1e3, 1e4, 1e6, 6e8] {
            for seed in 0..50 {
                let (mut judge, mut host) = (defaults(), Host::new(kind, size, seed));
                let mut sum = 0;
                for time in 0..calm {
                    let bytes = host.bytes(time);
                    sum += bytes;
                    let early = judge.judge(&interval(time, &[bytes]));
                    assert!(early.is_empty(), "{kind:?} {size} seed {seed} at {time}: {early:?}");
                }
                // Of a series with silences: a hundred times a busy interval of ordinary size.
                let mean = if calm == 10 { sum as f64 / calm as f64 } else { size };
                let burst = (mean * 100.0).max(100_000.0) as u64;
                let findings = judge.judge(&interval(calm, &[burst]));
                if findings.len() != 1 || findings[0].value != burst as f64 {
                    missed.push(format!("{kind:?} {size} seed {seed}: {findings:?}"));
                }
            }
        }
    }
    assert!(missed.is_empty(), "{}:\n{}", missed.len(), missed.join("\n"));
}

/// Tenfold in the tide of a day is calm, twentyfold at once is not; and the same burst an hour later fires
/// again.
#[test]
fn twentyfold_bursts_an_hour_apart_each_fire() {
    let (mut judge, mut host) = (defaults(), Host::new(Kind::Noisy, 1e5, 1));
    let fired: Vec<u64> = (0..3_000)
        .filter(|&time| {
            let factor = if time % 720 == 719 { 20 } else { 1 };
            let bytes = host.bytes(0).clamp(70_000, 130_000) * factor;
            !judge.judge(&interval(time, &[bytes])).is_empty()
        })
        .collect();
    assert_eq!(fired, [719, 1439, 2159, 2879]);
}

/// A new level is told while it is new, then becomes the usual one.
#[test]
fn a_lasting_change_falls_silent() {
    let mut judge = defaults();
    let fired: Vec<u64> = (0..200)
        .filter(|&time| {
            let bytes = if time < 100 { 10_000 } else { 1_000_000 };
            !judge.judge(&interval(time, &[bytes])).is_empty()
        })
        .collect();
    assert_eq!(fired, [100, 101, 102, 103]);
}
