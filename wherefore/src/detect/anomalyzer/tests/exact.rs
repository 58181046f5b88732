//! Exact answers against all arrangements, looked at one by one.

use proptest::prelude::*;

use crate::detect::anomalyzer::{
    diff::Diff,
    ks::{self, Ks},
    primitives::{Window, rank, reldiff},
    rank::Ranks,
    shuffle::Sampling,
};

const SAMPLING: Sampling = Sampling { shuffles: 500, salt: 0 };

/// Shares of `arrangements` whose statistic is smaller, and larger, than that of `values`.
fn brute<T: PartialOrd>(
    values: &[f64],
    arrangements: &[Vec<f64>],
    statistic: impl Fn(&[f64]) -> T,
) -> [f64; 2] {
    let seen = statistic(values);
    let (mut smaller, mut larger) = (0_u32, 0_u32);
    for arrangement in arrangements {
        let one = statistic(arrangement);
        smaller += u32::from(one < seen);
        larger += u32::from(one > seen);
    }
    [smaller, larger].map(|count| f64::from(count) / arrangements.len() as f64)
}

/// Every order of `values`, equal ones told apart.
fn all_orders(values: &[f64]) -> Vec<Vec<f64>> {
    let Some((&first, rest)) = values.split_first() else { return vec![Vec::new()] };
    let insert = |order: Vec<f64>| {
        (0..=order.len()).map(move |at| {
            let mut longer = order.clone();
            longer.insert(at, first);
            longer
        })
    };
    all_orders(rest).into_iter().flat_map(insert).collect()
}

fn rank_sum(values: &[f64], active: usize) -> i64 {
    rank(values)[values.len() - active..].iter().sum()
}

fn diff_sum(values: &[f64], active: usize) -> i64 {
    let sizes: Vec<f64> = reldiff(values).unwrap().into_iter().map(f64::abs).collect();
    rank_sum(&sizes, active)
}

fn same(ours: f64, theirs: f64) -> bool {
    (ours - theirs).abs() < 1e-12
}

/// Holds the four tests against all orders of `values`.
fn check(values: &[f64], reference: usize, active: usize) {
    let orders = all_orders(values);
    let enough = |values: &[f64], reference| Window::new(values, reference, active, active).is_some();
    let told = format!("{values:?} {reference} {active}");

    let ranks = Ranks::default().shares(values, reference, active, SAMPLING);
    assert_eq!(ranks.is_some(), enough(values, reference), "{told}");
    if let Some([high, low]) = ranks {
        let [lower, higher] = brute(values, &orders, |order| rank_sum(order, active));
        assert!(same(high, lower) && same(low, higher), "{told}: {high} {low}, not {lower} {higher}");
    }

    let diff = Diff::default().share(values, reference, active, SAMPLING);
    assert_eq!(diff.is_some(), enough(values.get(1..).unwrap_or_default(), reference - 1), "{told}");
    if let Some(diff) = diff {
        let [lower, _] = brute(values, &orders, |order| diff_sum(order, active));
        assert!(same(diff, lower), "{told}: diff {diff}, not {lower}");
    }

    let ks = Ks::default().share(values, reference, active, SAMPLING);
    assert_eq!(ks.is_some(), ks::statistic(values, reference, active).is_some(), "{told}");
    if let Some(ks) = ks {
        let distance = |order: &[f64]| ks::statistic(order, reference, active).unwrap();
        let [smaller, _] = brute(values, &orders, distance);
        assert!(same(ks, smaller), "{told}: ks {ks}, not {smaller}");
    }
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (0_u32..4).prop_map(f64::from),
        2 => 0.0..1e12_f64,
        1 => prop::sample::select(vec![-0.0, -3.0, 1e308, 5e-324, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, -f64::NAN]),
    ]
}

proptest! {
    #[test]
    fn of_short_histories(
        values in prop::collection::vec(value(), 0..7), reference in 1_usize..7, active in 1_usize..4,
    ) {
        check(&values, reference, active);
    }
}

#[test]
fn of_seven_values() {
    for values in [
        [0.1, 2.05, 1.5, 2.5, 2.6, 2.55, 8.0],
        [0.0, 0.0, 5.0, 0.0, 1.0, 2.0, 0.0],
        [3.0, 1.0, 3.0, 1.0, 3.0, 1.0, 3.0],
        [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 0.0],
    ] {
        check(&values, 4, 1);
        check(&values, 6, 1);
        check(&values, 4, 2);
    }
}

/// Thirty values of which all but two are equal: their places make all 870 arrangements.
#[test]
fn of_long_histories_with_few_different_values() {
    for usual in [0.0, 100.0] {
        for (one, other, at) in [(5e4, 7e4, 12), (5e4, 5e4, 28), (0.0, 50.0, 3), (200.0, 25.0, 20)] {
            let place = |i: usize, j: usize| {
                let mut values = vec![usual; 30];
                (values[i], values[j]) = (one, other);
                values
            };
            let values = place(at, 29);
            let pairs = (0..30).flat_map(|i| (0..30).map(move |j| (i, j)));
            let arrangements: Vec<_> = pairs.filter(|(i, j)| i != j).map(|(i, j)| place(i, j)).collect();
            for active in [1, 2, 3] {
                let told = format!("{usual} {one} {other} {at} {active}");
                let mut diff = Diff::default();
                let share = diff.share(&values, 29, active, SAMPLING).unwrap();
                let [lower, _] = brute(&values, &arrangements, |order| diff_sum(order, active));
                assert!(same(share, lower) && diff.samples() == 0, "{told}: {share}, not {lower}");

                let [high, low] = Ranks::default().shares(&values, 29, active, SAMPLING).unwrap();
                let [lower, higher] = brute(&values, &arrangements, |order| rank_sum(order, active));
                assert!(same(high, lower) && same(low, higher), "{told}: {high} {low}");
            }
        }
    }
}

/// Where the windows hold all values, ks is a choice of the active ones.
#[test]
fn of_windows_that_hold_all_values() {
    let rising: Vec<f64> = (0..30).map(|i| f64::from(i * i)).collect();
    let mixed: Vec<f64> = (0..30).map(|i| f64::from(i * 7919 % 11)).collect();
    for values in [rising, mixed] {
        for active in [1, 2, 3] {
            let mut choices: Vec<Vec<usize>> = vec![Vec::new()];
            for _ in 0..active {
                let next = |chosen: &Vec<usize>| chosen.last().map_or(0, |last| last + 1);
                let longer = |chosen: Vec<usize>| {
                    (next(&chosen)..30).map(move |place| [&chosen[..], &[place]].concat())
                };
                choices = choices.into_iter().flat_map(longer).collect();
            }
            let arrange = |chosen: Vec<usize>| {
                let (last, first): (Vec<_>, Vec<_>) = (0..30).partition(|place| chosen.contains(place));
                first.into_iter().chain(last).map(|place| values[place]).collect()
            };
            let arrangements: Vec<Vec<f64>> = choices.into_iter().map(arrange).collect();
            let mut ks = Ks::default();
            let share = ks.share(&values, 30 - active, active, SAMPLING).unwrap();
            let distance = |order: &[f64]| ks::statistic(order, 30 - active, active).unwrap();
            let [smaller, _] = brute(&values, &arrangements, distance);
            assert!(same(share, smaller) && ks.samples == 0, "{active}: {share}, not {smaller}");
        }
    }
}

/// Ranks 0 1 2 3, the active ones sum to 5: of the six pairs five sum to less, none to more. And so on.
#[test]
fn of_two_ranks_of_four_by_hand() {
    let shares = |values: &[f64]| Ranks::default().shares(values, 8, 2, SAMPLING);
    assert_eq!(shares(&[1.0, 2.0, 3.0, 4.0]), Some([5.0 / 6.0, 0.0]));
    assert_eq!(shares(&[3.0, 4.0, 1.0, 2.0]), Some([0.0, 5.0 / 6.0]));
    assert_eq!(shares(&[7.0; 4]), Some([0.0, 0.0]));
}
