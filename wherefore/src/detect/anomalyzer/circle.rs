//! Shares of the arrangements of a history, a circle at a time.
//!
//! An arrangement of n values is a circle of them, cut at one of its n places, and each cut is as likely as the
//! others. Places of a circle depend on each other in a way that helps: where no two elements are equal, all of
//! them have other ranks, so the share that ranks below a given place is the same for every circle but for what
//! the cut takes away.

use std::cmp::Ordering;

use super::{
    primitives::rank_sum_of_last,
    shuffle::{EXACT, Means, Shuffler},
};

/// Cuts of each sampled circle that are looked at where each costs as much as the circle is long.
const DEAR_CUTS: usize = 32;

/// Where circles are laid.
#[derive(Clone, Debug, Default)]
pub(super) struct Circles {
    circle: Vec<f64>,
}

impl Circles {
    /// The means, over the arrangements of `values`, of the shares that `read` finds among a circle's cuts.
    ///
    /// Exact where few arrangements differ, else from a sample of circles, seeded by the values and `salt`, that
    /// goes on until it is as precise as `shuffles` independent shuffles; it is never more than `shuffles`
    /// circles. `read` is told, with a circle, that it may pass over cuts and look at each how-manieth only.
    /// `values` is not empty.
    pub(super) fn shares<const N: usize>(
        &mut self,
        values: &[f64],
        shuffles: usize,
        salt: u64,
        mut read: impl FnMut(&[f64], usize) -> [f64; N],
    ) -> [f64; N] {
        let circle = &mut self.circle;
        circle.clear();
        circle.extend_from_slice(values);
        circle.sort_unstable_by(f64::total_cmp);
        let mut means = Means::default();
        if let Some(rarest) = rarest_of_few(circle) {
            // Turned so that one element stays where it is, each circle comes once.
            circle[..=rarest].rotate_right(1);
            loop {
                means.add(read(circle, 1));
                if !advance(&mut circle[1..], f64::total_cmp) {
                    return means.values();
                }
            }
        }
        let mut shuffler = Shuffler::new(circle, salt);
        let all = circle.len();
        let step = all.div_ceil(DEAR_CUTS);
        while means.wants_more(shuffles) {
            shuffler.shuffle_last(circle, all);
            means.add(read(circle, step));
        }
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

/// The next of the arrangements of `elements` in ascending order; `false` behind the last one.
pub(super) fn advance<T>(elements: &mut [T], compare: impl Fn(&T, &T) -> Ordering) -> bool {
    let Some(rise) = elements.windows(2).rposition(|pair| compare(&pair[0], &pair[1]).is_lt()) else {
        return false;
    };
    let larger = elements.iter().rposition(|element| compare(element, &elements[rise]).is_gt());
    // There is one: the neighbour.
    elements.swap(rise, larger.unwrap_or(rise + 1));
    elements[rise + 1..].reverse();
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
