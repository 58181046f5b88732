use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::*;
use crate::time::Timestamp;

const INTERVAL: Duration = Duration::from_secs(300);

/// The decades said of each value.
fn decades(values: &[f64], coarse: bool) -> Vec<f64> {
    let mut auto = Auto::new(INTERVAL);
    let mut memory = auto.start(coarse);
    let mut time = Timestamp(1_700_000_000_000_000_000);
    values
        .iter()
        .map(|&value| {
            time = time.plus(INTERVAL);
            let newest = Newest { history: &[value], time, missing: 0 };
            let evaluation = auto.evaluate(&memory, &newest);
            auto.learn(&mut memory, &newest, &evaluation);
            -(1.0 - evaluation.probability).log10()
        })
        .collect()
}

fn noisy(count: usize, seed: u64) -> Vec<f64> {
    let mut rng = SmallRng::seed_from_u64(seed);
    (0..count).map(|_| 1e6 * rng.random_range(0.5..1.5)).collect()
}

#[test]
fn a_burst_a_stop_and_a_new_level_are_rare() {
    let calm = noisy(3_000, 1);
    let with = |change: &dyn Fn(usize, f64) -> f64| {
        let mut values = calm.clone();
        for (i, value) in values.iter_mut().enumerate().skip(2_500) {
            *value = change(i, *value);
        }
        decades(&values, true)[2_500..2_520].iter().copied().fold(0.0, f64::max)
    };
    let threshold = threshold_decades(STATISTICS, per_day(INTERVAL), 0.15);
    assert!(with(&|_, value| value) < threshold);
    assert!(with(&|i, value| if i == 2_500 { value * 10.0 } else { value }) > threshold);
    assert!(with(&|_, _| 0.0) > threshold);
    assert!(with(&|_, value| value * 2.0) > threshold);
}

#[test]
fn the_probability_is_the_rarest_parts() {
    let mut auto = Auto::new(INTERVAL);
    let mut memory = auto.start(true);
    for (i, value) in noisy(2_000, 2).into_iter().enumerate() {
        let newest = Newest { history: &[value], time: Timestamp(i as u64 * 300_000_000_000), missing: 0 };
        let evaluation = auto.evaluate(&memory, &newest);
        let rarest = evaluation.parts.iter().map(|part| part.value).fold(0.0, f64::max);
        assert_eq!(evaluation.probability, rarest);
        assert!((0.0..1.0).contains(&evaluation.probability));
        auto.learn(&mut memory, &newest, &evaluation);
    }
    assert!(auto.threshold(0.1) > auto.threshold(1.0));
}

#[test]
fn any_floats_are_survived() {
    let odd = [0.0, -1.0, 1e300, -1e300, f64::MAX, f64::MIN_POSITIVE, 5e-324, 1.0];
    let values: Vec<f64> = (0..2_000).map(|i| odd[i * i % odd.len()]).collect();
    assert!(decades(&values, true).iter().all(|decades| decades.is_finite()));
}

/// The README of the detector promises so much a series.
#[test]
fn a_memory_is_small() {
    assert!(size_of::<Memory>() <= 344, "{}", size_of::<Memory>());
    assert!(size_of::<Season>() <= 1_400, "{}", size_of::<Season>());
}
