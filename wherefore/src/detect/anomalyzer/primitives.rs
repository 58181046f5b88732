//! What the tests are made of. Vectors are oldest first; `None` stands for upstream's "not applicable".

/// Sum from left to right by length; NaN for an empty vector.
#[must_use]
pub fn mean(x: &[f64]) -> f64 {
    x.iter().sum::<f64>() / x.len() as f64
}

/// Differences of neighbours, `n - 1` of them; `None` below two points.
#[must_use]
pub fn diff(x: &[f64]) -> Option<Vec<f64>> {
    (x.len() >= 2).then(|| differences(x).collect())
}

pub(super) fn differences(x: &[f64]) -> impl Iterator<Item = f64> {
    x.windows(2).map(|pair| pair[1] - pair[0])
}

/// Differences of neighbours by the newer of the two, `n - 1` of them; `None` below two points.
///
/// A rise never exceeds 1, 0 to y gives 1, y to 0 an infinity, 0 to 0 NaN.
#[must_use]
pub fn reldiff(x: &[f64]) -> Option<Vec<f64>> {
    (x.len() >= 2).then(|| x.windows(2).map(|pair| relative(pair[0], pair[1])).collect())
}

/// The sizes of the relative differences of `x`, one fewer than points.
pub(super) fn abs_reldiff(x: &[f64]) -> impl Iterator<Item = f64> {
    x.windows(2).map(|pair| relative(pair[0], pair[1]).abs())
}

fn relative(older: f64, newer: f64) -> f64 {
    (newer - older) / newer
}

/// Share of the elements of `x` that are at most `q`; 1 if none is greater, so also for an empty `x`.
#[must_use]
pub fn ecdf(x: &[f64], q: f64) -> f64 {
    let at_most = x.iter().filter(|&&value| value <= q).count();
    if at_most == x.len() { 1.0 } else { at_most as f64 / x.len() as f64 }
}

/// Rank of each element: how many are strictly smaller; equal elements share a rank.
///
/// NaN compares with nothing, so it needs a rule: it gets -1, keeps its place and takes up one, and no
/// element moves past it. Elements are ranked within the stretch between two NaNs, counted on from the
/// stretches before; of equal elements in several stretches the first decides. That is what an insertion
/// sort makes of NaN, which is what upstream runs on up to 12 elements; for more, upstream's result depends
/// on its sort algorithm, and this rule goes on.
#[must_use]
pub fn rank(x: &[f64]) -> Vec<i64> {
    x.iter().map(|&value| rank_of(x, value)).collect()
}

/// The rank of `value`, which is an element of `x`; -1 for NaN.
pub(super) fn rank_of(x: &[f64], value: f64) -> i64 {
    if value.is_nan() {
        return -1;
    }
    let mut before = 0_i64;
    for stretch in x.split(|other| other.is_nan()) {
        let (smaller, equal) = stretch.iter().fold((0_i64, 0_i64), |(smaller, equal), &other| {
            (smaller + i64::from(other < value), equal | i64::from(other == value))
        });
        if equal > 0 {
            return before + smaller;
        }
        before += stretch.len() as i64 + 1;
    }
    before
}

/// Writes the rank of each element of `x`, none of which is NaN, to `ranks`; `sorted` holds the same elements.
pub(super) fn ranks_into(ranks: &mut Vec<usize>, x: &[f64], sorted: &[f64]) {
    ranks.clear();
    ranks.extend(x.iter().map(|value| sorted.partition_point(|other| other < value)));
}

/// Sum of the ranks of the last `count` elements.
pub(super) fn rank_sum_of_last(x: &[f64], count: usize) -> i64 {
    x[x.len() - count..].iter().map(|&value| rank_of(x, value)).sum()
}

/// The newest points, and those they are held against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window<'a> {
    /// Up to the reference size of points, just before the active ones.
    pub reference: &'a [f64],
    /// The newest, up to the active size.
    pub active: &'a [f64],
}

impl<'a> Window<'a> {
    /// The windows at the end of `x`; `None` if fewer than `least` reference points are left.
    #[must_use]
    pub fn new(x: &'a [f64], reference_size: usize, active_size: usize, least: usize) -> Option<Self> {
        let (earlier, active) = x.split_at(x.len() - active_size.min(x.len()));
        let reference = &earlier[earlier.len() - reference_size.min(earlier.len())..];
        (reference.len() >= least).then_some(Self { reference, active })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_elements_share_the_rank_of_the_first() {
        assert_eq!(rank(&[5.0, 5.0, 1.0, 9.0]), [1, 1, 0, 3]);
    }

    #[test]
    fn nan_keeps_its_place_and_nothing_moves_past_it() {
        let nan = f64::NAN;
        assert_eq!(rank(&[3.0, nan, 1.0, 2.0]), [0, -1, 2, 3]);
        assert_eq!(rank(&[2.0, 1.0, nan, 2.0, 0.0]), [1, 0, -1, 1, 3]);
    }

    #[test]
    fn windows_lie_at_the_end_and_shrink() {
        let x = [1.0, 2.0, 3.0, 4.0];
        let window = Window::new(&x, 2, 1, 1).unwrap();
        assert_eq!((window.reference, window.active), (&x[1..3], &x[3..]));
        let window = Window::new(&x, 9, 3, 1).unwrap();
        assert_eq!((window.reference, window.active), (&x[..1], &x[1..]));
        assert_eq!(Window::new(&x, 9, 3, 2), None);
        let window = Window::new(&x[..1], 9, 3, 0).unwrap();
        assert!(window.reference.is_empty() && window.active == [1.0]);
    }
}
