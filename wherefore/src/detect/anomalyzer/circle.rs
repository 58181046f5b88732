//! Shares of the arrangements of a history, a circle at a time.
//!
//! An arrangement of n values is a circle of them, cut at one of its n places, and all cuts are equally likely. So
//! each circle stands for n arrangements, and that is worth more than n shuffles: where no two of n elements are
//! equal, each has a rank of its own, and the share of those that rank below a given one is the same in every
//! circle.

use super::{
    primitives::rank_sum_of_last,
    shuffle::{EXACT, Means, Sampling, Shuffler},
};

/// Cuts of a sampled circle that are looked at where each takes a walk around the circle. Fewer cuts make cheaper
/// circles and need more of them; from 8 to 16 the sum of both is least, for 30 values with zeros.
const DEAR_CUTS: usize = 16;

/// Where circles are laid.
#[derive(Clone, Debug, Default)]
pub(super) struct Circles {
    circle: Vec<f64>,
    /// How many circles the last answer is a sample of; 0 for an exact one.
    pub(super) samples: usize,
}

impl Circles {
    /// The means, over the arrangements of `values`, of the shares that `read` finds among a circle's cuts.
    ///
    /// Exact where few arrangements differ. Else circles are drawn, by the seed of the values, until the shares are
    /// as precise as from so many independent shuffles, at most that many circles.
    ///
    /// With a circle, `read` is given a step: it may look at each so-manieth cut only. `values` is not empty.
    pub(super) fn shares<const N: usize>(
        &mut self,
        values: &[f64],
        Sampling { shuffles, salt }: Sampling,
        mut read: impl FnMut(&[f64], usize) -> [f64; N],
    ) -> [f64; N] {
        let Self { circle, samples } = self;
        *samples = 0;
        circle.clear();
        circle.extend_from_slice(values);
        circle.sort_unstable_by(f64::total_cmp);
        let mut means = Means::default();
        if let Some(rarest) = rarest_of_few(circle) {
            // Turned so that one element stays where it is, each circle comes once.
            circle[..=rarest].rotate_right(1);
            loop {
                means.add(read(circle, 1));
                if !advance(&mut circle[1..]) {
                    return means.values();
                }
            }
        }
        let mut shuffler = Shuffler::new(circle, salt);
        let step = circle.len().div_ceil(DEAR_CUTS);
        while means.wants_more(shuffles) {
            shuffler.shuffle(circle);
            means.add(read(circle, step));
        }
        *samples = means.samples();
        means.values()
    }
}

/// Where in the sorted `values` one stands that as few as possible are equal to, if they have few arrangements.
fn rarest_of_few(values: &[f64]) -> Option<usize> {
    let (mut rarest, mut least, mut end) = (0, usize::MAX, 0);
    for group in groups(values) {
        end += group;
        if group < least {
            (rarest, least) = (end - 1, group);
        }
    }
    // Arrangements of all but that one: a multinomial coefficient, grown from binomial ones.
    let (mut circles, mut placed, mut end) = (1_u64, 0, 0);
    for group in groups(values) {
        end += group;
        for of_group in 1..=group - usize::from(end - 1 == rarest) {
            placed += 1;
            circles = circles * placed / of_group as u64;
            if circles * values.len() as u64 > EXACT {
                return None;
            }
        }
    }
    Some(rarest)
}

/// How many elements of the sorted `values` are equal, group by group.
fn groups(values: &[f64]) -> impl Iterator<Item = usize> {
    values.chunk_by(|a, b| a.total_cmp(b).is_eq()).map(<[f64]>::len)
}

/// The next arrangement of `values` in ascending order; `false` behind the last one.
fn advance(values: &mut [f64]) -> bool {
    let Some(rise) = values.windows(2).rposition(|pair| pair[0].total_cmp(&pair[1]).is_lt()) else {
        return false;
    };
    let larger = values.iter().rposition(|value| value.total_cmp(&values[rise]).is_gt());
    // There is one: the neighbour.
    values.swap(rise, larger.unwrap_or(rise + 1));
    values[rise + 1..].reverse();
    true
}

/// Shares of the cuts, each `step`th of them, whose last `active` elements have ranks that sum to less, and to
/// more, than `observed`. An arrangement is `length` elements of the circle, which `twice` holds two times over.
pub(super) fn by_ranks(twice: &[f64], length: usize, active: usize, observed: i64, step: usize) -> [f64; 2] {
    let (mut cuts, mut lower, mut higher) = (0_usize, 0_usize, 0_usize);
    for cut in (0..twice.len() / 2).step_by(step) {
        let sum = rank_sum_of_last(&twice[cut..cut + length], active);
        cuts += 1;
        lower += usize::from(sum < observed);
        higher += usize::from(sum > observed);
    }
    [lower, higher].map(|count| count as f64 / cuts as f64)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// The circles looked at, as whole numbers.
    fn circles(values: &[f64], shuffles: usize) -> (Vec<Vec<i64>>, usize) {
        let mut seen = Vec::new();
        let mut circles = Circles::default();
        circles.shares(values, Sampling { shuffles, salt: 0 }, |circle, _| {
            seen.push(circle.iter().map(|&value| value as i64).collect());
            [0.5]
        });
        (seen, circles.samples)
    }

    #[test]
    fn few_arrangements_are_looked_at_once_each() {
        for (values, count) in [
            (&[1.0][..], 1),
            (&[1.0, 1.0], 1),
            (&[3.0, 1.0, 2.0], 2),
            // Around the one 9: six places of the two 4.
            (&[4.0, 1.0, 9.0, 1.0, 4.0], 6),
            (&[7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0], 720),
        ] {
            let (seen, samples) = circles(values, 500);
            assert_eq!((seen.len(), samples), (count, 0), "{values:?}");
            let distinct: HashSet<_> = seen.iter().collect();
            assert_eq!(distinct.len(), count, "{values:?}");
            assert!(seen.iter().all(|circle| circle[0] == seen[0][0]), "{values:?}");
        }
        // One that differs from all others has one circle, however many these are.
        let mut burst = vec![0.0; 2_000];
        burst[1_999] = 1.0;
        assert_eq!(circles(&burst, 500).0.len(), 1);
    }

    #[test]
    fn a_sample_ends_when_it_is_precise_or_long_enough() {
        let values: Vec<f64> = (0..8).map(f64::from).collect();
        let (seen, samples) = circles(&values, 500);
        assert_eq!((seen.len(), samples), (48, 48), "shares without variance");
        assert_eq!(circles(&values, 5).1, 5);

        let mut circles = Circles::default();
        let mut flip = 0.0;
        let [mean] = circles.shares(&values, Sampling { shuffles: 500, salt: 0 }, |_, _| {
            flip = 1.0 - flip;
            [flip]
        });
        assert_eq!((circles.samples, mean), (500, 0.5), "shares as various as shuffles");
    }
}
