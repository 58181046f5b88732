//! The Anomalyzer computed plainly, as the original does: every random method shuffles the whole history as often as
//! told, ranks come from sorting, and each step makes a new vector. What ours is measured and checked against.

use wherefore::detect::anomalyzer::{Method, Settings};

use crate::Random;

/// What each of `settings.methods` says of `history`, before it is clamped; `None` where it does not apply. Knows
/// neither cdf nor NaN.
pub fn raw(settings: &Settings, history: &[f64], random: &mut Random) -> Vec<(Method, Option<f64>)> {
    let methods = settings.methods.iter();
    methods.map(|&method| (method, value(method, settings, history, random))).collect()
}

fn value(method: Method, settings: &Settings, history: &[f64], random: &mut Random) -> Option<f64> {
    let (reference, active) = (settings.reference_size(), settings.active_size);
    let mut share = |statistic: &dyn Fn(&[f64]) -> Option<f64>, counts: fn(f64, f64) -> bool| {
        let seen = statistic(history)?;
        let counted = (0..settings.perm_count).filter(|_| {
            let one = statistic(&shuffled(history, random));
            one.is_some_and(|one| counts(one, seen))
        });
        Some(counted.count() as f64 / settings.perm_count as f64)
    };
    match method {
        Method::Magnitude => {
            let (reference, active) = windows(history, reference, active, 1)?;
            let (reference, active) = (mean(&reference), mean(&active));
            let silent = if active == 0.0 { 0.0 } else { 1.0 };
            Some(if reference == 0.0 { silent } else { (active - reference).abs() / reference })
        }
        Method::Fence => {
            let (_, active) = windows(history, reference, active, 0)?;
            let distance = match settings.lower_bound {
                None => mean(&active) / settings.upper_bound,
                Some(lower) => {
                    let half = (settings.upper_bound - lower) / 2.0;
                    (mean(&active) - lower - half).abs() / half
                }
            };
            Some((10_f64.powf(distance.clamp(0.0, 1.0)) - 1.0) / 9.0)
        }
        Method::HighRank => share(&|values| rank_sum(values, reference, active), |one, seen| one < seen),
        Method::LowRank => share(&|values| rank_sum(values, reference, active), |one, seen| one > seen),
        Method::Diff => {
            let statistic = |values: &[f64]| rank_sum(&sizes(values), reference - 1, active);
            share(&statistic, |one, seen| one < seen)
        }
        Method::Ks => share(&|values| distance(values, reference, active), |one, seen| one < seen),
        Method::Cdf => None,
    }
}

fn shuffled(values: &[f64], random: &mut Random) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    for i in (1..order.len()).rev() {
        order.swap(i, random.below(i + 1));
    }
    order.into_iter().map(|place| values[place]).collect()
}

fn windows(values: &[f64], reference: usize, active: usize, least: usize) -> Option<(Vec<f64>, Vec<f64>)> {
    let active = active.min(values.len());
    let start = values.len() - active;
    let reference = reference.min(start);
    (reference >= least).then(|| (values[start - reference..start].to_vec(), values[start..].to_vec()))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn sizes(values: &[f64]) -> Vec<f64> {
    let differences: Vec<f64> = values.windows(2).map(|pair| (pair[1] - pair[0]) / pair[1]).collect();
    differences.into_iter().map(f64::abs).collect()
}

fn rank_sum(values: &[f64], reference: usize, active: usize) -> Option<f64> {
    let sorted = sorted(values);
    let ranks: Vec<f64> =
        values.iter().map(|value| sorted.partition_point(|other| other < value) as f64).collect();
    let (_, active) = windows(&ranks, reference, active, active)?;
    Some(active.iter().sum())
}

fn distance(values: &[f64], reference: usize, active: usize) -> Option<f64> {
    let (reference, active) = windows(values, reference, active, active)?;
    if !reference.len().is_multiple_of(active.len()) {
        return None;
    }
    let all = sorted(&[&reference[..], &active].concat());
    let (low, high) = (*all.first()?, *all.last()?);
    let mut grid = vec![low];
    for _ in 1..all.len() {
        grid.push(grid[grid.len() - 1] + (high - low) / (all.len() - 1) as f64);
    }
    let shares = |values: &[f64]| -> Vec<f64> {
        let sorted = sorted(values);
        let up_to = |point: &f64| sorted.partition_point(|value| value <= point) as f64;
        grid.iter().map(|point| up_to(point) / sorted.len() as f64).collect()
    };
    let (reference, active) = (shares(&reference), shares(&active));
    Some(reference.iter().zip(&active).map(|(one, other)| (one - other).abs()).fold(0.0, f64::max))
}
