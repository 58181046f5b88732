//! Where an answer is a sample: how precise it is.

use crate::detect::anomalyzer::{
    diff::Diff,
    ks::Ks,
    shuffle::{Sampling, Shuffler},
};

/// Samples of each series, by seeds of their own.
const SEEDS: u64 = 80;

/// Series of as many kinds as byte counts come in.
fn series() -> Vec<(String, Vec<f64>)> {
    let mut random = Shuffler::new(&[1.0], 99);
    let mut all = Vec::new();
    for points in [8, 13, 30, 60] {
        let mut add = |name: &str, draw: &mut dyn FnMut(&mut Shuffler) -> f64| {
            let values = (0..points).map(|_| draw(&mut random)).collect();
            all.push((format!("{name}, {points} points"), values));
        };
        let noise = |random: &mut Shuffler| 1_000.0 + random.below(1_000_000) as f64;
        add("calm", &mut |random| 1e7 + noise(random));
        add("wide", &mut |random| noise(random).powi(4));
        for zeros in [2, 5, 8] {
            let draw =
                &mut |random: &mut Shuffler| if random.below(zeros) == 0 { 0.0 } else { noise(random) };
            add(&format!("one of {zeros} is zero"), draw);
            let draw = &mut |random: &mut Shuffler| if random.below(zeros) > 0 { 0.0 } else { noise(random) };
            add(&format!("one of {zeros} is not zero"), draw);
        }
        for kinds in [2, 4] {
            add(&format!("{kinds} values"), &mut |random| 1.0 + random.below(kinds) as f64);
            add(&format!("zero and {kinds} values"), &mut |random| random.below(kinds + 1) as f64);
            let draw = &mut |random: &mut Shuffler| f64::from(1_u32 << random.below(kinds + 1));
            add(&format!("{kinds} powers of two"), draw);
        }
        let mut at = 0.0;
        add("rising", &mut |_| {
            at += 10.0;
            at
        });
    }
    all
}

/// The root of the mean squared distance of `estimates` from `truth`.
fn standard_error(truth: f64, estimates: impl Iterator<Item = f64>) -> f64 {
    (estimates.map(|estimate| (estimate - truth).powi(2)).sum::<f64>() / SEEDS as f64).sqrt()
}

/// The largest standard error of answers that are samples, and how many there are. `share` has an answer and whether
/// it is exact, for the sizes of the reference and the active window.
fn largest_error(
    windows: &[(usize, usize)],
    share: impl Fn(&[f64], usize, usize, Sampling) -> Option<(f64, bool)>,
) -> (f64, usize) {
    let (mut worst, mut told, mut sampled) = (0.0, String::new(), 0);
    for (name, values) in series() {
        for &(reference, active) in windows {
            let share = |shuffles, salt| share(&values, reference, active, Sampling { shuffles, salt });
            let Some((_, false)) = share(500, 0) else { continue };
            sampled += 1;
            let estimate = |shuffles, salt| share(shuffles, salt).unwrap().0;
            // Its own error is below 0.003.
            let truth = estimate(20_000, 1_000_000);
            let error = standard_error(truth, (0..SEEDS).map(|salt| estimate(500, 1_000 + salt)));
            if error > worst {
                worst = error;
                told = format!("{name}, {active} active of {reference}, share {truth:.3}");
            }
        }
    }
    println!("{sampled} sampled; largest standard error {worst:.4}: {told}");
    (worst, sampled)
}

/// 500 independent shuffles have sqrt(0.25 / 500) = 0.0224, at a share of a half.
#[test]
fn the_standard_error_of_diff_is_at_most_0_022() {
    let (worst, sampled) = largest_error(&[(120, 1), (120, 3)], |values, reference, active, sampling| {
        let mut diff = Diff::default();
        let share = diff.share(values, reference, active, sampling)?;
        Some((share, diff.samples() == 0))
    });
    assert!(worst <= 0.022 && sampled > 80, "{worst} {sampled}");
}

#[test]
fn the_standard_error_of_ks_is_at_most_0_022() {
    let windows = [(4, 1), (9, 1), (8, 2), (9, 3)];
    let (worst, sampled) = largest_error(&windows, |values, reference, active, sampling| {
        let mut ks = Ks::default();
        let share = ks.share(values, reference, active, sampling)?;
        Some((share, ks.samples == 0))
    });
    assert!(worst <= 0.022 && sampled > 80, "{worst} {sampled}");
}
