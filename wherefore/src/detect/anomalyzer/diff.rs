//! Are the newest relative differences larger than chance would put there?

use super::{
    circle::{self, Circles},
    primitives::{Window, abs_reldiff, rank_sum_of_last},
    shuffle::Sampling,
};

/// What the test uses again.
#[derive(Clone, Debug, Default)]
pub(super) struct Diff {
    circles: Circles,
    differences: Vec<f64>,
    /// The sizes of a circle's differences, which are ordered as their bits are.
    bits: Vec<u64>,
    ranks: Vec<usize>,
}

impl Diff {
    /// How many circles the last answer is a sample of; 0 for an exact one.
    pub(super) const fn samples(&self) -> usize {
        self.circles.samples
    }

    /// Share of the arrangements of all values in which the active relative differences rank strictly lower than
    /// they do; see [`Circles::shares`]. `None` if there are too few differences.
    pub(super) fn share(
        &mut self,
        values: &[f64],
        reference_size: usize,
        active_size: usize,
        sampling: Sampling,
    ) -> Option<f64> {
        let Self { circles, differences, bits, ranks } = self;
        differences.clear();
        differences.extend(abs_reldiff(values));
        let active = Window::new(differences, reference_size.saturating_sub(1), active_size, active_size)?
            .active
            .len();
        let observed = rank_sum_of_last(differences, active);

        let [lower] = circles.shares(values, sampling, |circle, step| {
            let all = circle.len();
            differences.clear();
            differences.extend(abs_reldiff(circle));
            differences.extend(abs_reldiff(&[circle[all - 1], circle[0]]));
            let nan = differences.iter().fold(false, |nan, difference| nan | difference.is_nan());
            differences.extend_from_within(..);
            if nan {
                let [lower, _] = circle::by_ranks(differences, all - 1, active, observed, step);
                return [lower];
            }
            bits.clear();
            bits.extend(differences[..all].iter().map(|difference| difference.to_bits()));
            let lower = if active == 1 {
                alone(&differences[..=all], bits, observed)
            } else {
                bits.sort_unstable();
                let rank = |difference: &f64| bits.partition_point(|&other| other < difference.to_bits());
                ranks.clear();
                ranks.extend(differences.iter().map(rank));
                together(differences, ranks, active, observed)
            };
            [lower as f64 / all as f64]
        });
        Some(lower)
    }
}

/// Cuts of a circle without NaN, which ends with its first difference again, whose last difference ranks below
/// `observed`. A cut takes the difference behind the last one away.
fn alone(differences: &[f64], bits: &mut [u64], observed: i64) -> usize {
    let Some(place) = usize::try_from(observed).ok().and_then(|observed| observed.checked_sub(1)) else {
        return 0;
    };
    // The largest that rank below `observed`: among all differences, and without a smaller one.
    let (_, &mut largest, larger) = bits.select_nth_unstable(place);
    let without = larger.iter().fold(u64::MAX, |least, &bits| least.min(bits));
    let (largest, without) = (f64::from_bits(largest), f64::from_bits(without));
    let lower = |pair: &[f64]| (pair[0] <= largest) | ((pair[0] <= without) & (pair[1] < pair[0]));
    differences.windows(2).map(|pair| usize::from(lower(pair))).sum()
}

/// The same for the last `active` differences; both hold the circle twice.
fn together(differences: &[f64], ranks: &[usize], active: usize, observed: i64) -> usize {
    let lower = |cut: usize| {
        let taken_away = differences[cut + active];
        let larger = differences[cut..cut + active].iter().filter(|&&one| one > taken_away).count();
        let sum: usize = ranks[cut..cut + active].iter().sum();
        ((sum - larger) as i64) < observed
    };
    (0..ranks.len() / 2).map(|cut| usize::from(lower(cut))).sum()
}
