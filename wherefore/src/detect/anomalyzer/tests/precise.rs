//! Where an answer is a sample: how precise it is.

use crate::detect::anomalyzer::{diff::Diff, shuffle::Shuffler};

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

/// 500 independent shuffles have sqrt(0.25 / 500) = 0.0224, at a share of a half.
#[test]
fn the_standard_error_of_diff_is_at_most_0_022() {
    let mut worst = (0.0, String::new());
    let mut sampled = 0;
    for (name, values) in series() {
        for active in [1, 3] {
            let mut diff = Diff::default();
            let mut share = |shuffles, salt| diff.salted_share(&values, 120, active, shuffles, salt).unwrap();
            // Its own error is below 0.003.
            let truth = share(20_000, 1_000_000);
            let error = standard_error(truth, (0..SEEDS).map(|salt| share(500, 1_000 + salt)));
            sampled += usize::from(diff.samples() > 0);
            if error > worst.0 {
                worst = (error, format!("{name}, {active} active, share {truth:.3}"));
            }
        }
    }
    println!("{sampled} sampled; largest standard error {:.4}: {}", worst.0, worst.1);
    assert!(worst.0 <= 0.022, "{worst:?}");
    assert!(sampled > 80, "{sampled}");
}
