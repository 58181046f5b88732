//! How rare a value of a statistic is, by the largest values it had before.

use serde::{Deserialize, Serialize};

/// Share of the values that lie above the tail's foot.
const ABOVE: f64 = 0.03;
/// Values after which there is a foot.
pub(super) const WARM_UP: u32 = 100;
/// Values kept until then: the foot is the smallest of them.
const KEPT: usize = 4;
/// Values below the foot that end a cluster.
const RUN: u16 = 20;
/// Shape before anything is known, and how many clusters that opinion is worth.
const PRIOR_SHAPE: f64 = 0.2;
const PRIOR_WEIGHT: f64 = 30.0;
/// Heaviest tail believed in.
const MOST_SHAPE: f64 = 0.7;
/// An excess rarer than one in ten thousand teaches as much as one that is.
const MOST_LEARNED: f64 = 4.0;
/// The scale is at least this share of the foot: values that lie on few steps, or never passed a bound, do not say that
/// nothing else can come.
const LEAST_SCALE: f64 = 0.1;
/// Clusters remembered at least; more where a day has more.
const LEAST_CLUSTERS: f64 = 100.0;

/// The upper tail of a stream of values, learned as they come: peaks over a threshold.
///
/// The foot `u` is the value that [`ABOVE`] of all exceed, followed by stochastic approximation (Robbins and Monro
/// 1951). Values above it come in clusters, which end after [`RUN`] values below (runs declustering, Coles 2001, 5.3.2):
/// one cause counts once. What the highest of each cluster has beyond the foot is taken for a generalised Pareto
/// distribution (Pickands 1975; for streams Siffer et al. 2017), its shape and scale found by moments (Hosking and
/// Wallis 1987): with mean m1 and mean square m2 of the excesses, shape = (1 - m1²/(m2 - m1²))/2, drawn towards
/// [`PRIOR_SHAPE`] while there are few, and scale = m1 (1 - shape).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Tail {
    /// Foot; while there is none, the smallest of the four largest values.
    foot: f32,
    /// Mean of the excesses; while there is no foot, the next larger value.
    mean: f32,
    /// Mean of their squares; likewise.
    square: f32,
    /// Highest excess of the cluster that goes on, 0 for none; likewise.
    peak: f32,
    /// Clusters that the means stand for.
    clusters: f32,
    /// Values above the foot, and clusters begun, since the tail began; halved together when they are many.
    exceeding: f32,
    begun: f32,
    /// Values seen, up to [`WARM_UP`].
    seen: u16,
    /// Values since the last one above the foot.
    below: u16,
}

impl Tail {
    /// Minus the decimal logarithm of how often a cluster as high as `value` begins, per value: 3 is one in a thousand.
    /// 0 below the foot, and while there is none.
    pub(super) fn decades(&self, value: f64) -> f64 {
        let excess = value - f64::from(self.foot);
        if !self.is_warm() || excess <= 0.0 {
            return 0.0;
        }
        let (shape, scale) = self.fitted();
        (shape * excess / scale).ln_1p() / (shape * std::f64::consts::LN_10) - self.cluster_rate().log10()
    }

    /// Takes a value in. `day`: values in a day.
    pub(super) fn learn(&mut self, value: f64, day: f64) {
        if !self.is_warm() {
            self.warm_up(value);
            return;
        }
        let step = ABOVE * f64::from(self.mean);
        let excess = value - f64::from(self.foot);
        if excess > 0.0 {
            if self.below >= RUN {
                self.peak = 0.0;
                self.begun += 1.0;
            }
            self.exceeding += 1.0;
            if f64::from(self.exceeding) > (ABOVE * day).max(LEAST_CLUSTERS) {
                self.exceeding /= 2.0;
                self.begun /= 2.0;
            }
            self.peak = self.peak.max(excess as f32);
            self.below = 0;
            self.foot += ((1.0 - ABOVE) * step) as f32;
            return;
        }
        self.foot -= (ABOVE * step) as f32;
        self.below = self.below.saturating_add(1);
        if self.below == RUN && self.peak > 0.0 {
            self.learn_cluster(day);
        }
    }

    const fn is_warm(&self) -> bool {
        self.seen as u32 >= WARM_UP
    }

    fn warm_up(&mut self, value: f64) {
        let mut kept: [f32; KEPT] = [self.foot, self.mean, self.square, self.peak];
        let value = value as f32;
        if usize::from(self.seen) < KEPT {
            kept[usize::from(self.seen)] = value;
        } else if value > kept[0] {
            kept[0] = value;
        }
        self.seen += 1;
        let filled = usize::from(self.seen).min(KEPT);
        kept[..filled].sort_unstable_by(f32::total_cmp);
        [self.foot, self.mean, self.square, self.peak] = kept;
        if self.is_warm() {
            let excesses = kept.map(|value| value - self.foot);
            let count = (KEPT - 1) as f32;
            self.mean = excesses.iter().sum::<f32>() / count;
            self.square = excesses.iter().map(|excess| excess * excess).sum::<f32>() / count;
            if self.mean <= 0.0 {
                self.mean = 1e-9 * (1.0 + self.foot.abs());
                self.square = 2.0 * self.mean * self.mean;
            }
            (self.peak, self.clusters, self.below) = (0.0, count, RUN);
        }
    }

    fn learn_cluster(&mut self, day: f64) {
        let (shape, scale) = self.fitted();
        let most = scale / shape * (MOST_LEARNED * shape * std::f64::consts::LN_10).exp_m1();
        let excess = f64::from(self.peak).min(most) as f32;
        let limit = (ABOVE * day).max(LEAST_CLUSTERS) as f32;
        self.clusters = (self.clusters + 1.0).min(limit);
        self.mean += (excess - self.mean) / self.clusters;
        self.square += (excess * excess - self.square) / self.clusters;
        self.peak = 0.0;
    }

    /// Shape and scale.
    fn fitted(&self) -> (f64, f64) {
        let (mean, square) = (f64::from(self.mean), f64::from(self.square));
        let clusters = f64::from(self.clusters);
        let variance = (square - mean * mean).max(f64::MIN_POSITIVE);
        let moments = (0.5 * (1.0 - mean * mean / variance)).max(-0.5);
        let shape = (clusters * moments + PRIOR_WEIGHT * PRIOR_SHAPE) / (clusters + PRIOR_WEIGHT);
        let shape = shape.clamp(1.0 / (clusters + 1.0), MOST_SHAPE);
        let least = LEAST_SCALE * f64::from(self.foot).abs();
        (shape, (mean * (1.0 - shape)).max(least).max(f64::MIN_POSITIVE))
    }

    /// Clusters begun per value.
    fn cluster_rate(&self) -> f64 {
        ABOVE * f64::from((self.begun + 1.0) / (self.exceeding + 1.0)).clamp(0.02, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    fn learned(seed: u64, count: usize, draw: impl Fn(f64) -> f64) -> Tail {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut tail = Tail::default();
        for _ in 0..count {
            tail.learn(draw(rng.random::<f64>()), 288.0);
        }
        tail
    }

    /// Of an exponential distribution one in 10^d exceeds d ln 10; 1.5 decades beyond what was seen.
    #[test]
    fn exponential_values_have_their_decades() {
        for seed in 0..10 {
            let tail = learned(seed, 5_000, |u| -(1.0 - u).ln());
            for decades in [2.0, 3.0, 4.0] {
                let found = tail.decades(decades * std::f64::consts::LN_10);
                assert!((found - decades).abs() < 0.25 * decades, "seed {seed}: {found} for {decades}");
            }
        }
    }

    /// A Pareto tail of index 2 (shape 0.5): one in 10^d exceeds 10^(d/2).
    #[test]
    fn heavy_tails_are_known_for_what_they_are() {
        for seed in 0..10 {
            let tail = learned(seed, 20_000, |u| (1.0 - u).powf(-0.5));
            let found = tail.decades(10_f64.powf(1.75));
            assert!((2.5..4.9).contains(&found), "seed {seed}: {found} for 3.5");
        }
    }

    /// Values that stay up for 50 at a time count once: the same tail of single values says more often.
    #[test]
    fn a_cluster_counts_once() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut tail = Tail::default();
        for i in 0..20_000 {
            let high = i % 1_000 < 50;
            tail.learn(rng.random::<f64>() + if high { 5.0 } else { 0.0 }, 288.0);
        }
        let rate = tail.cluster_rate();
        assert!((0.0004..0.004).contains(&rate), "{rate}: one in a thousand begins a cluster");
    }

    #[test]
    fn no_verdict_before_it_is_warm_and_none_below_the_foot() {
        let tail = learned(3, 99, |u| u);
        assert_eq!(tail.decades(1e9), 0.0);
        let tail = learned(3, 100, |u| u);
        assert!(tail.decades(1e9) > 3.0);
        assert_eq!(tail.decades(0.2), 0.0);
    }

    #[test]
    fn constant_values_are_survived() {
        let mut tail = learned(3, 5_000, |_| 7.0);
        assert_eq!(tail.decades(7.0), 0.0);
        assert!(
            tail.decades(8.0) > 2.0 && tail.decades(70.0) > 4.0,
            "{} {}",
            tail.decades(8.0),
            tail.decades(70.0)
        );
        tail.learn(1e30, 288.0);
        assert!(tail.decades(7.0).is_finite());
    }
}
